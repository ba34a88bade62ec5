//! Ctrl-C, SIGTERM and the end of the standard input, as something to ask for or to wait for.

use anyhow::{Context, Result};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use tokio::signal::unix::{SignalKind, signal};

/// What ends a demo early, or one that was left up.
pub(crate) struct Interrupt {
    sender: SyncSender<()>,
    receiver: Receiver<()>,
    has_come: bool,
}

impl Interrupt {
    /// From here on the two signals no longer end this process: whoever holds this does.
    pub(crate) fn install() -> Result<Self> {
        // One is enough: a second Ctrl-C says nothing that the first one has not.
        let (sender, receiver) = sync_channel(1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (mut interrupt, mut terminate) = {
            let _guard = runtime.enter();
            let cannot = "cannot listen to signals";
            (
                signal(SignalKind::interrupt()).context(cannot)?,
                signal(SignalKind::terminate()).context(cannot)?,
            )
        };
        let to = sender.clone();
        thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    let _ = to.try_send(());
                }
            });
        });
        Ok(Self {
            sender,
            receiver,
            has_come: false,
        })
    }

    /// Whether one has come.
    pub(crate) fn has_come(&mut self) -> bool {
        self.has_come |= self.receiver.try_recv().is_ok();
        self.has_come
    }

    /// Waits for a signal, or for the end of the standard input, where there is no terminal to press
    /// Ctrl-C on.
    pub(crate) fn wait(&self) {
        let to = self.sender.clone();
        thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            let _ = to.try_send(());
        });
        // This object holds a sender, so that the channel stays open.
        let _ = self.receiver.recv();
    }
}
