//! Ports: bytes from and to nodes. A shell: what the bytes mean is decided elsewhere.
//!
//! A port that is missing, taken or unplugged is named in the log and tried again; the others go on.
//!
//! Lines are read in turns, all of them at once ([`Turns`]): each wake-up costs more than what it brings,
//! and a serial driver reports every few bytes. The kernel keeps what comes in between, and a turn that
//! finds much goes on until the line has been emptied. While the time of arrival is itself a measurement,
//! bytes are read as they come ([`Pace`]).

mod serial;
mod turns;

pub use turns::Turns;

use crate::backoff::Backoff;
use crate::clock::{Clock, Now};
use crate::config::PortConfig;
use crate::metrics::Metrics;
use bytes::Bytes;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::watch;

/// Most bytes read at once: a sixth of a second of the fastest common line.
const READ_BYTES: usize = 16 * 1_024;

/// So many bytes at once say that more may be waiting than one read brings: of what Linux keeps of a line, it
/// has 4 KiB ready to be read (`N_TTY_BUF_SIZE`).
const BUSY_BYTES: usize = 2_048;

/// A pulled plug is back within two seconds of being put in again.
const REOPEN_FIRST: Duration = Duration::from_millis(200);
const REOPEN_LONGEST: Duration = Duration::from_secs(1);

/// What happened at a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortEvent {
    /// It is open.
    Opened,
    /// Bytes, and when they were read: as the last of them arrived, or up to a turn later.
    Bytes(Bytes, Now),
    /// It is gone, and will be opened again.
    Closed,
}

/// How soon bytes of a line are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Pace {
    /// With those of the other lines.
    #[default]
    InTurn,
    /// As they come.
    AtOnce,
}

/// One port, and whom to tell of it.
#[derive(Debug)]
pub struct Port {
    /// Which, and how fast.
    pub config: PortConfig,
    /// Its number.
    pub line: usize,
    /// What bytes are stamped with.
    pub clock: Clock,
    /// Openings and failures are counted here.
    pub metrics: Metrics,
    /// It fills up when the agent cannot keep up; the port is then not read, and the node waits.
    pub events: Sender<(usize, PortEvent)>,
    /// When to read.
    pub turns: Turns,
}

impl Port {
    /// Keeps the port open until `events` has no receiver left.
    pub async fn run(mut self, mut writes: Receiver<Vec<u8>>, mut pace: watch::Receiver<Pace>) {
        let mut backoff = Backoff::new(REOPEN_FIRST, REOPEN_LONGEST);
        let mut told = String::new();
        let path = self.config.path.display().to_string();
        loop {
            let failure = match serial::open(&self.config) {
                Ok(stream) => {
                    tracing::info!(port = %path, "port opened");
                    self.metrics.port_openings.inc();
                    backoff.handle_success();
                    told.clear();
                    if self.tell(PortEvent::Opened).await.is_err() {
                        return;
                    }
                    let Err(failure) = self.serve(&stream, &mut writes, &mut pace).await else {
                        return;
                    };
                    if self.tell(PortEvent::Closed).await.is_err() {
                        return;
                    }
                    format!("the port was lost: {failure}")
                }
                Err(error) => error.to_string(),
            };
            self.metrics.port_failures.inc();
            if failure != told {
                tracing::warn!(port = %path, error = %failure, "port not usable, trying again");
                told = failure;
            }
            let random = getrandom::u32().unwrap_or(u32::MAX);
            let wait = backoff.handle_failure(Duration::ZERO, random);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.events.closed() => return,
            }
            // What was meant for the port while it was away is stale.
            while writes.try_recv().is_ok() {}
        }
    }

    /// Moves bytes until the port fails; `Ok` when nobody listens any more.
    async fn serve(
        &mut self,
        stream: &OwnedFd,
        writes: &mut Receiver<Vec<u8>>,
        pace: &mut watch::Receiver<Pace>,
    ) -> io::Result<()> {
        let events = self.events.clone();
        // Reading must go on while a write waits: the node may be waiting for us in turn.
        tokio::select! {
            end = self.read(stream, pace) => end,
            end = write(stream, writes) => end,
            () = events.closed() => Ok(()),
        }
    }

    async fn read(&mut self, stream: &OwnedFd, pace: &mut watch::Receiver<Pace>) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let is_busy = self.read_all(stream, &mut buffer).await?;
            if is_busy || *pace.borrow_and_update() == Pace::AtOnce {
                self.read_at_once(stream, &mut buffer, pace, is_busy).await?;
            }
            tokio::select! {
                () = self.turns.next() => {}
                changed = pace.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }

    /// Reads bytes as they come, for as long as the pace is that or the line is busy.
    async fn read_at_once(
        &self,
        stream: &OwnedFd,
        buffer: &mut [u8],
        pace: &mut watch::Receiver<Pace>,
        mut is_busy: bool,
    ) -> io::Result<()> {
        let readable = watched(stream, Interest::READABLE)?;
        while is_busy || *pace.borrow_and_update() == Pace::AtOnce {
            tokio::select! {
                ready = readable.readable() => ready?.clear_ready(),
                changed = pace.changed() => if changed.is_err() { return Ok(()) },
            }
            is_busy = self.read_all(stream, buffer).await?;
        }
        Ok(())
    }

    /// Reads what there is; whether that is so much that the line is busy.
    async fn read_all(&self, stream: &OwnedFd, buffer: &mut [u8]) -> io::Result<bool> {
        let mut is_busy = false;
        loop {
            match rustix::io::read(stream, &mut *buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    let bytes = Bytes::copy_from_slice(&buffer[..length]);
                    // Nobody listens any more: that ends the port elsewhere.
                    let is_heard = self.tell(PortEvent::Bytes(bytes, self.clock.now())).await.is_ok();
                    if length < BUSY_BYTES || !is_heard {
                        return Ok(is_busy);
                    }
                    is_busy = true;
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(is_busy),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn tell(&self, event: PortEvent) -> Result<(), ()> {
        self.events.send((self.line, event)).await.map_err(drop)
    }
}

/// Writes what it is given until the port fails or nothing can come any more.
async fn write(stream: &OwnedFd, writes: &mut Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(bytes) = writes.recv().await {
        let mut left = &bytes[..];
        while !left.is_empty() {
            match rustix::io::write(stream, left) {
                Ok(length) => left = &left[length..],
                Err(rustix::io::Errno::AGAIN) => {
                    watched(stream, Interest::WRITABLE)?
                        .writable()
                        .await?
                        .clear_ready();
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// A copy of the descriptor for which the runtime is woken, until it is dropped.
fn watched(stream: &OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    #[allow(
        deprecated,
        reason = "an OwnedFd keeps its descriptor, which is all that the unsafe successor demands"
    )]
    let watched = AsyncFd::with_interest(stream.try_clone()?, interest)?;
    Ok(watched)
}

#[cfg(test)]
mod tests;
