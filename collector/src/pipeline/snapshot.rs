//! A checkpoint that is made beside the pipeline: from a copy of its state, on a thread of its own.
//!
//! The copy is made between two commits, so that it goes with one journal position. It shares the samples of
//! open windows, which are nearly all of the state, with the pipeline. The thread encodes it part by part, and
//! the pipeline's thread writes what is ready ([`super::checkpointing`]): no commit waits for more than
//! [`PARTS_AT_ONCE`] parts, however large the state is.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | the copy | one, as large as the state at most | the next one is made when this one is written |
//! | parts that are ready | [`PARTS_AT_ONCE`] | the thread waits |

use super::PipelineState;
use crate::checkpoint;
use crate::journal::Position;
use crate::state::CheckpointId;
use std::io;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::Builder;
use std::time::Duration;

/// Parts that are ready at once, and written behind the outputs of one step at most: 4 MiB are as much as a large
/// step's own outputs.
pub(super) const PARTS_AT_ONCE: NonZeroUsize = NonZeroUsize::new(4).expect("it is not 0");

/// How much the thread gives way (nice(2)): more than the pipeline does.
const NICE: i32 = 10;

/// A checkpoint in the making.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Where it is written to.
    pub(super) id: CheckpointId,
    /// The journal position that it goes with.
    pub(super) position: Position,
    /// Parts written.
    pub(super) parts: u32,
    /// Their bytes.
    pub(super) bytes: usize,
    /// How long it has kept the pipeline from its work.
    pub(super) took: Duration,
    ready: Receiver<Encoded>,
}

#[derive(Debug)]
enum Encoded {
    Part(Vec<u8>),
    /// There are no more.
    End,
}

/// What is to be done with a checkpoint in the making.
#[derive(Debug)]
pub(super) enum Next {
    /// These parts are to be written; there are none if none is ready.
    Write(Vec<Vec<u8>>),
    /// So are these, and they are the last.
    Complete(Vec<Vec<u8>>),
    /// Its thread is gone, and nothing will become of it.
    Failed,
}

impl Snapshot {
    /// Copies the state, and has the copy encoded.
    pub(super) fn begin(id: CheckpointId, state: &PipelineState) -> io::Result<Self> {
        let (position, state) = (state.position(), state.clone());
        // One part more may be in the thread's hands.
        let (encoded, ready) = sync_channel(PARTS_AT_ONCE.get() - 1);
        Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || encode(&state, &encoded))?;
        Ok(Self {
            id,
            position,
            parts: 0,
            bytes: 0,
            took: Duration::ZERO,
            ready,
        })
    }

    /// What is ready by now, up to so many parts.
    pub(super) fn poll(&mut self, parts_max: NonZeroUsize) -> Next {
        let mut parts = Vec::new();
        while parts.len() < parts_max.get() {
            match self.ready.try_recv() {
                Ok(Encoded::Part(part)) => parts.push(part),
                Ok(Encoded::End) => return Next::Complete(parts),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Next::Failed,
            }
        }
        Next::Write(parts)
    }

    /// So many parts have been written, with what they hold.
    pub(super) fn note_written(&mut self, parts: &[Vec<u8>]) {
        self.parts += parts.len() as u32;
        self.bytes += parts.iter().map(Vec::len).sum::<usize>();
    }
}

fn encode(state: &PipelineState, encoded: &SyncSender<Encoded>) {
    // On Linux that is the calling thread alone.
    let _ = rustix::process::setpriority_process(None, NICE);
    // Whoever takes no more parts has stopped, or begun another checkpoint.
    if checkpoint::write(state, |part| encoded.send(Encoded::Part(part)).is_ok()).is_ok() {
        let _ = encoded.send(Encoded::End);
    }
}
