//! The thread that searches windows for what is wrong with a machine. A shell around
//! [`Searching::run`]: one window at a time, and judging never waits for it.

use crate::clock::Clock;
use crate::watch::{Searched, Searching};
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;
use trunnion_diagnosis::features::Analyzer;

/// Searches what it is sent until nobody sends any more, and says what was found and how long that took.
pub fn spawn(
    clock: Clock,
    reply: impl Fn(Searched, Duration) + Send + 'static,
) -> io::Result<SyncSender<Searching>> {
    // The next window is handed out when this one is done.
    let (windows, queue) = sync_channel::<Searching>(1);
    let search = move || {
        let mut analyzer = Analyzer::new();
        while let Ok(window) = queue.recv() {
            let began = clock.now().mono;
            let searched = window.run(&mut analyzer);
            reply(searched, clock.now().mono.saturating_sub(began));
        }
    };
    std::thread::Builder::new()
        .name("search".to_owned())
        .spawn(search)?;
    Ok(windows)
}
