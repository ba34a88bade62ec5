//! When checkpoints are made, and how they are written between the steps of the pipeline.
//!
//! One that is due is begun, as a [`Snapshot`], and its parts are written, one after the other, where nothing is
//! committed that waits to be applied: outputs do not wait for it, and it is complete soon in a plant that has fallen
//! silent, too. A pipeline that finds no time for it takes some behind the outputs of its steps.

use super::PipelineState;
use super::snapshot::{Next, Snapshot};
use crate::checkpoint;
use crate::journal::Position;
use crate::state::{State, StateError};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The least time between two checkpoints: how much work a restart repeats while they are cheap.
const EVERY: Duration = Duration::from_secs(10);

/// How many times as long as a checkpoint kept it from its work the pipeline works before the next one: they
/// may take a tenth of its time, however large its state is.
const PACE: u32 = 10;

/// The most time between two checkpoints, however long one takes: the most work that a restart repeats.
const EVERY_MAX: Duration = Duration::from_secs(300);

/// How long a pipeline may find no time for one that is due, or in the making, before it takes some.
const PUT_OFF: Duration = Duration::from_millis(200);

/// Makes checkpoints one after the other.
#[derive(Debug)]
pub(super) struct Checkpointing {
    /// The one in the making.
    snapshot: Option<Snapshot>,
    /// When something was last done about it.
    turned: Instant,
    /// When the last one was complete, how long it took, and where it is.
    completed: Instant,
    took: Duration,
    at: Position,
    /// Where the one before the last one is: nobody starts before that any more.
    settled: watch::Sender<Position>,
}

/// What came of a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// Nothing was to be done, or nothing is ready yet.
    Nothing,
    /// One was begun, or some of one was written.
    Worked,
    /// One is complete.
    Complete(Completed),
}

/// A checkpoint that is complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Completed {
    /// Its size.
    pub(super) bytes: usize,
    /// How long it kept the pipeline from its work.
    pub(super) took: Duration,
}

impl Checkpointing {
    /// Of a pipeline that started at `at`.
    pub(super) fn new(at: Position, now: Instant) -> Self {
        Self {
            snapshot: None,
            turned: now,
            completed: now,
            took: Duration::ZERO,
            at,
            settled: watch::channel(Position::default()).0,
        }
    }

    /// Follows where the one before the last one is.
    pub(super) fn settled(&self) -> watch::Receiver<Position> {
        self.settled.subscribe()
    }

    /// Whether there is something to do: one is in the making, or due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.due()
    }

    /// Whether that has been put off for long enough.
    pub(super) fn is_pressing(&self, now: Instant) -> bool {
        now >= self.due() + PUT_OFF
    }

    /// Since when there has been something to do, or from when on there will be.
    fn due(&self) -> Instant {
        match self.snapshot {
            Some(_) => self.turned,
            None => self.completed + pause(self.took),
        }
    }

    /// Makes one now, all at once. The outputs up to there have been written.
    pub(super) fn save(
        &mut self,
        pipeline: &PipelineState,
        state: &mut State,
        clock: impl Fn() -> Instant,
    ) -> Result<Completed, StateError> {
        self.snapshot = None;
        let begun = clock();
        let parts = checkpoint::save(pipeline);
        state.write_checkpoint(&parts)?;
        let bytes = parts.iter().map(Vec::len).sum();
        let now = clock();
        let took = now.duration_since(begun);
        Ok(self.complete(pipeline.position(), Completed { bytes, took }, now))
    }

    /// Begins one, or writes up to so many parts of the one in the making. The outputs up to where it is have been
    /// written by then.
    pub(super) fn go_on(
        &mut self,
        pipeline: &PipelineState,
        state: &mut State,
        parts_max: NonZeroUsize,
        clock: impl Fn() -> Instant,
    ) -> Result<Turn, StateError> {
        let begun = clock();
        self.turned = begun;
        let Some(mut snapshot) = self.snapshot.take() else {
            let id = state.begin_checkpoint()?;
            match Snapshot::begin(id, pipeline) {
                Ok(mut snapshot) => {
                    snapshot.took = clock().duration_since(begun);
                    self.snapshot = Some(snapshot);
                }
                Err(error) => {
                    tracing::warn!(%error, "no checkpoint is made now");
                    self.completed = begun;
                }
            }
            return Ok(Turn::Worked);
        };
        let (parts, is_whole) = match snapshot.poll(parts_max) {
            Next::Write(parts) => (parts, false),
            Next::Complete(parts) => (parts, true),
            Next::Failed => {
                tracing::error!("a checkpoint was not made, and the next one is due later");
                self.completed = begun;
                return Ok(Turn::Nothing);
            }
        };
        if !parts.is_empty() {
            state.write_parts(snapshot.id, snapshot.parts, &parts)?;
            snapshot.note_written(&parts);
        }
        if is_whole {
            state.complete_checkpoint(snapshot.id)?;
        }
        let now = clock();
        snapshot.took += now.duration_since(begun);
        if is_whole {
            let Snapshot {
                position,
                bytes,
                took,
                ..
            } = snapshot;
            return Ok(Turn::Complete(self.complete(
                position,
                Completed { bytes, took },
                now,
            )));
        }
        self.snapshot = Some(snapshot);
        Ok(if parts.is_empty() {
            Turn::Nothing
        } else {
            Turn::Worked
        })
    }

    fn complete(&mut self, at: Position, completed: Completed, now: Instant) -> Completed {
        self.completed = now;
        self.took = completed.took;
        // Only a checkpoint that this process has read or written is known to be of use.
        self.settled.send_replace(self.at);
        self.at = at;
        completed
    }
}

/// How long after a checkpoint the next one is due, by how long that took.
fn pause(took: Duration) -> Duration {
    took.saturating_mul(PACE).clamp(EVERY, EVERY_MAX)
}

#[cfg(test)]
impl Checkpointing {
    /// As if the last one had been made long ago.
    pub(super) fn make_due(&mut self) {
        self.completed -= EVERY + PUT_OFF;
    }

    /// As if the process were killed: whether one was in the making.
    pub(super) fn abandon(&mut self) -> bool {
        self.snapshot.take().is_some()
    }

    /// Where the one in the making is, if one is.
    pub(super) fn making(&self) -> Option<Position> {
        self.snapshot.as_ref().map(|snapshot| snapshot.position)
    }

    /// Where the last one is.
    pub(super) const fn at(&self) -> Position {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_take_a_tenth_of_the_time_within_bounds() {
        let pause = |ms| pause(Duration::from_millis(ms)).as_millis();
        assert_eq!((pause(0), pause(1_000), pause(1_001)), (10_000, 10_000, 10_010));
        assert_eq!((pause(4_000), pause(60_000)), (40_000, 300_000));
    }
}
