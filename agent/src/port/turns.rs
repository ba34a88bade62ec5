//! When lines are read.

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io;
use std::time::Duration;
use tokio::io::Interest;
use tokio::sync::watch;

/// From one turn to the next. A line of 921,600 baud brings 4.6 kB meanwhile, of 3 Mbaud 15 kB; Linux keeps
/// 64 KiB of a serial line for its reader. Bytes are late by so much at most, and so is the time of arrival in
/// their frames' records.
const TURN: Duration = Duration::from_millis(50);

/// Turns of all lines together, so that one wake-up serves all. The timer is the kernel's own and runs by
/// itself: one of the runtime's would have to be set again for each line and turn, and each setting wakes
/// the runtime once more.
#[derive(Clone, Debug)]
pub struct Turns(watch::Receiver<()>);

impl Turns {
    /// Lets turns come, until nobody is left who waits for them. Within a runtime.
    pub fn start() -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let turn = Timespec::try_from(TURN).map_err(io::Error::other)?;
        let every = Itimerspec {
            it_interval: turn,
            it_value: turn,
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every)?;
        let timer = super::watched(&timer, Interest::READABLE)?;
        let (turns, next) = watch::channel(());
        tokio::spawn(async move {
            while let Ok(mut ready) = timer.readable().await {
                // How many turns have passed: a late one stands for all of them.
                let _ = rustix::io::read(ready.get_inner(), &mut [0; 8]);
                ready.clear_ready();
                if turns.send(()).is_err() {
                    break;
                }
            }
        });
        Ok(Self(next))
    }

    /// The next turn.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The runtime ends, and with it whoever waits.
            std::future::pending::<()>().await;
        }
    }
}
