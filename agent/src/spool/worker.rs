//! The one thread on which the spool waits for the disk.
//!
//! Requests that have piled up while it waited are done together: one flush for all commits. When the
//! disk refuses, the commit is tried again until it succeeds or the agent stops; meanwhile nothing is
//! acknowledged to nodes and, since the agent bounds what it has asked for, nothing piles up.

use super::{ReadError, Spool};
use crate::block::{Block, BlockKey};
use crate::intake::Cursor;
use bytes::Bytes;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use trunnion_common::id::{Epoch, JournalId};
use trunnion_common::sequence::SequenceSet;

/// Most requests that can wait. The gateway bounds each kind far below it (uncommitted blocks, blocks
/// being read, one acknowledgement per epoch), so that sending never waits.
const REQUESTS_MAX: usize = 1_024;

/// Between attempts to write while the disk refuses.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What the spool is asked to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// Store this durably.
    Commit(Commit),
    /// The collector has these.
    Acknowledge {
        /// Whose sequence.
        epoch: Epoch,
        /// Everything durable there.
        received: Box<SequenceSet>,
        /// Where.
        journal: JournalId,
    },
    /// This block's tombstone is durable.
    Bury(BlockKey),
    /// Fetch a block.
    Read(BlockKey),
}

/// Blocks, and the cursors that go with them.
#[derive(Clone, PartialEq, Debug)]
pub struct Commit {
    /// Counts up; its reply confirms all up to it.
    pub number: u64,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// All cursors, as of the last of these blocks.
    pub cursors: Vec<Cursor>,
}

/// What the spool answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Everything up to this commit survives a power cut.
    Committed(u64),
    /// The disk refuses; the commit will be tried again.
    Refused(String),
    /// What an acknowledgement of this epoch covered has been freed.
    Freed(Epoch),
    /// The block asked for.
    Read(BlockKey, Result<Bytes, ReadError>),
}

/// Where requests are put; dropping it ends the thread after the last of them.
pub type Requests = SyncSender<Request>;

/// Starts the thread. `reply` may block.
pub fn spawn(
    mut spool: Spool,
    reply: impl Fn(Reply) + Send + 'static,
) -> std::io::Result<(Requests, JoinHandle<()>)> {
    let (requests, queue) = sync_channel(REQUESTS_MAX);
    let thread = std::thread::Builder::new()
        .name("spool".to_owned())
        .spawn(move || {
            let mut waiting = Vec::new();
            while let Some(batch) = next_batch(&queue, &mut waiting) {
                work(&mut spool, batch, &queue, &mut waiting, &reply);
            }
        })?;
    Ok((requests, thread))
}

/// Everything asked for by now; waits for the first. `None` when nothing will ever come again.
fn next_batch(queue: &Receiver<Request>, waiting: &mut Vec<Request>) -> Option<Vec<Request>> {
    if waiting.is_empty() {
        waiting.push(queue.recv().ok()?);
    }
    waiting.extend(queue.try_iter());
    Some(std::mem::take(waiting))
}

fn work(
    spool: &mut Spool,
    batch: Vec<Request>,
    queue: &Receiver<Request>,
    waiting: &mut Vec<Request>,
    reply: &impl Fn(Reply),
) {
    let mut commit: Option<Commit> = None;
    let mut others = Vec::new();
    for request in batch {
        match (request, &mut commit) {
            (Request::Commit(next), Some(commit)) => {
                commit.number = next.number;
                commit.blocks.extend(next.blocks);
                commit.cursors = next.cursors;
            }
            (Request::Commit(next), empty) => *empty = Some(next),
            (other, _) => others.push(other),
        }
    }
    if let Some(commit) = commit
        && store(spool, &commit, queue, waiting, reply)
    {
        reply(Reply::Committed(commit.number));
    }
    for request in others {
        match request {
            // Taken out above.
            Request::Commit(_) => {}
            Request::Acknowledge {
                epoch,
                received,
                journal,
            } => {
                spool.acknowledge(epoch, &received, journal);
                reply(Reply::Freed(epoch));
            }
            Request::Bury(key) => spool.bury(key),
            Request::Read(key) => reply(Reply::Read(key, spool.read(key))),
        }
    }
}

/// Whether the commit is on disk; tries until it is, or until the agent stops.
fn store(
    spool: &mut Spool,
    commit: &Commit,
    queue: &Receiver<Request>,
    waiting: &mut Vec<Request>,
    reply: &impl Fn(Reply),
) -> bool {
    while let Err(error) = spool.commit(&commit.blocks, &commit.cursors) {
        reply(Reply::Refused(error.to_string()));
        match queue.recv_timeout(RETRY_PAUSE) {
            Ok(request) => waiting.push(request),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                tracing::error!(blocks = commit.blocks.len(), %error, "stopped before the disk took the last blocks; nodes still hold their frames");
                return false;
            }
        }
    }
    true
}
