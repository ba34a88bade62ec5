//! Ports: bytes from and to nodes. A shell: what the bytes mean is decided elsewhere.
//!
//! A port that is missing, taken or unplugged is named in the log and tried again; the others go on.

mod serial;

use crate::backoff::Backoff;
use crate::clock::{Clock, Now};
use crate::config::PortConfig;
use crate::metrics::Metrics;
use bytes::Bytes;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{Receiver, Sender};

/// Most bytes read at once: a sixth of a second of the fastest common line.
const READ_BYTES: usize = 16 * 1_024;

/// A pulled plug is back within two seconds of being put in again.
const REOPEN_FIRST: Duration = Duration::from_millis(200);
const REOPEN_LONGEST: Duration = Duration::from_secs(1);

/// What happened at a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortEvent {
    /// It is open.
    Opened,
    /// Bytes, and when the last of them arrived.
    Bytes(Bytes, Now),
    /// It is gone, and will be opened again.
    Closed,
}

/// Keeps a port open until `events` has no receiver left.
///
/// `events` fills up when the agent cannot keep up; the port is then not read, and the node waits.
pub async fn run(
    port: PortConfig,
    line: usize,
    clock: Clock,
    metrics: Metrics,
    events: Sender<(usize, PortEvent)>,
    mut writes: Receiver<Vec<u8>>,
) {
    let mut backoff = Backoff::new(REOPEN_FIRST, REOPEN_LONGEST);
    let mut told = String::new();
    loop {
        let failure = match serial::open(&port) {
            Ok(stream) => {
                tracing::info!(port = %port.path.display(), "port opened");
                metrics.port_openings.inc();
                backoff.handle_success();
                told.clear();
                if events.send((line, PortEvent::Opened)).await.is_err() {
                    return;
                }
                let Some(failure) = serve(stream, line, clock, &events, &mut writes).await else {
                    return;
                };
                if events.send((line, PortEvent::Closed)).await.is_err() {
                    return;
                }
                format!("the port was lost: {failure}")
            }
            Err(error) => error.to_string(),
        };
        metrics.port_failures.inc();
        if failure != told {
            tracing::warn!(port = %port.path.display(), error = %failure, "port not usable, trying again");
            told = failure;
        }
        let random = getrandom::u32().unwrap_or(u32::MAX);
        let wait = backoff.handle_failure(Duration::ZERO, random);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = events.closed() => return,
        }
        // What was meant for the port while it was away is stale.
        while writes.try_recv().is_ok() {}
    }
}

/// Moves bytes until the port fails; `None` when nobody listens any more.
async fn serve(
    stream: tokio_serial::SerialStream,
    line: usize,
    clock: Clock,
    events: &Sender<(usize, PortEvent)>,
    writes: &mut Receiver<Vec<u8>>,
) -> Option<io::Error> {
    // Reading must go on while a write waits: the node may be waiting for us in turn.
    let (mut reader, mut writer) = tokio::io::split(stream);
    let reading = async {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let length = match reader.read(&mut buffer).await {
                Ok(0) => return Some(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => length,
                Err(error) => return Some(error),
            };
            let bytes = Bytes::copy_from_slice(&buffer[..length]);
            let event = PortEvent::Bytes(bytes, clock.now());
            if events.send((line, event)).await.is_err() {
                return None;
            }
        }
    };
    let writing = async {
        while let Some(bytes) = writes.recv().await {
            if let Err(error) = writer.write_all(&bytes).await {
                return Some(error);
            }
        }
        None
    };
    tokio::select! {
        end = reading => end,
        end = writing => end,
        () = events.closed() => None,
    }
}
