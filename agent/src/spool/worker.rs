//! The one thread on which the spool waits for the disk.
//!
//! Requests that have piled up while it waited are done together: one flush for all commits of a chain.
//! When the disk refuses a commit, it is tried again after a pause, for as long as the agent runs; what
//! else is asked for goes on meanwhile, above all acknowledgements and evictions, which make room.
//! Nothing is acknowledged to nodes until then and, since the agent bounds what it has asked for,
//! nothing piles up.
//!
//! A call that never returns, of the disk or of sled, takes this thread with it: [`crate::spool_watch`]
//! notices that nothing is answered any more.

use super::{ReadError, Spool};
use crate::block::{Block, BlockKey};
use crate::intake::Cursor;
use crate::retention::{Decision, Limits, Usage};
use bytes::Bytes;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use trunnion_common::ack::JournalMark;
use trunnion_common::frame::Class;
use trunnion_common::id::Epoch;
use trunnion_common::sequence::SequenceSet;

/// Most requests that can wait. The gateway bounds each kind far below it (uncommitted blocks, blocks
/// being read, one acknowledgement per epoch), so that sending never waits.
const REQUESTS_MAX: usize = 1_024;

/// Between attempts to write while the disk refuses: the first pause, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

// A disk that refuses is not taken for one that hangs.
const _: () = assert!(RETRY.1.as_secs() < crate::spool_watch::LOOK.as_secs());

/// How often the disk's room is looked at when nothing is asked for.
const LOOK: Duration = Duration::from_secs(1);

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
        journal: JournalMark,
    },
    /// This block's tombstone is durable.
    Bury(BlockKey),
    /// The tombstones of this directory of the waveform chain are durable.
    Evict(u32),
    /// Fetch a block.
    Read(BlockKey),
    /// Keep this image of the alarms' slots.
    KeepAlarms(Vec<u8>),
}

/// Blocks of one chain, and the cursors that go with them.
#[derive(Clone, PartialEq, Debug)]
pub struct Commit {
    /// Which chain.
    pub class: Class,
    /// Counts up per chain; its reply confirms all up to it.
    pub number: u64,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// All cursors, as of the last of these blocks.
    pub cursors: Vec<Cursor>,
}

/// What the spool answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Everything of this chain up to this commit survives a power cut.
    Committed(Class, u64),
    /// The disk refuses; the commit will be tried again.
    Refused(String),
    /// What an acknowledgement of this epoch covered has been freed.
    Freed(Epoch),
    /// The block asked for.
    Read(BlockKey, Result<Bytes, ReadError>),
    /// How much room there is, and what that means: at once when that has changed, and every second when
    /// only the bytes have.
    Room(Usage, Decision),
    /// The image of the alarms' slots that a former agent kept; said once, before all else.
    Alarms(Vec<u8>),
    /// The image of the alarms' slots is on disk, or the disk refused it.
    AlarmsKept(bool),
    /// These blocks of a directory of the waveform chain must get tombstones; then it may be evicted.
    Evicting(u32, Vec<BlockKey>),
}

/// Where requests are put; dropping it ends the thread after the last of them.
pub type Requests = SyncSender<Request>;

/// Starts the thread. `reply` may block.
pub fn spawn(
    spool: Spool,
    limits: Limits,
    reply: impl Fn(Reply) + Send + 'static,
) -> std::io::Result<(Requests, JoinHandle<()>)> {
    let (requests, queue) = sync_channel(REQUESTS_MAX);
    let thread = std::thread::Builder::new()
        .name("spool".to_owned())
        .spawn(move || Worker::new(spool, limits, reply).run(&queue))?;
    Ok((requests, thread))
}

struct Worker<R> {
    spool: Spool,
    limits: Limits,
    reply: R,
    /// Not yet on disk, by class.
    pending: [Option<Commit>; 2],
    /// After a refusal: when to try again, and the pause before.
    retry: Option<(Instant, Duration)>,
    told: Option<(Usage, Decision)>,
    /// When room was last looked at, and told of.
    looked: Option<Instant>,
    /// Whether something has been done since that takes room or makes some.
    has_changed: bool,
}

impl<R: Fn(Reply)> Worker<R> {
    const fn new(spool: Spool, limits: Limits, reply: R) -> Self {
        Self {
            spool,
            limits,
            reply,
            pending: [None, None],
            retry: None,
            told: None,
            looked: None,
            has_changed: true,
        }
    }

    fn run(mut self, queue: &Receiver<Request>) {
        if let Some(image) = self.spool.take_alarms() {
            (self.reply)(Reply::Alarms(image));
        }
        self.make_room();
        loop {
            let is_over = match queue.recv_timeout(self.pause()) {
                Ok(first) => {
                    let mut others = Vec::new();
                    for request in std::iter::once(first).chain(queue.try_iter()) {
                        match request {
                            Request::Commit(commit) => self.add(commit),
                            other => others.push(other),
                        }
                    }
                    if self.retry.is_none() {
                        self.store();
                    }
                    others.into_iter().for_each(|request| self.serve(request));
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if is_over || self.retry.is_some_and(|(at, _)| at <= now()) {
                self.store();
            }
            if is_over {
                break;
            }
            if self.has_changed || self.looked.is_none_or(|at| at + LOOK <= now()) {
                self.make_room();
            }
        }
        let blocks: usize = self
            .pending
            .iter()
            .flatten()
            .map(|commit| commit.blocks.len())
            .sum();
        if blocks > 0 {
            tracing::error!(
                blocks,
                "stopped before the disk took the last blocks; nodes still hold their frames"
            );
        }
    }

    fn pause(&self) -> Duration {
        let retry = self.retry.map(|(at, _)| at.saturating_duration_since(now()));
        retry.unwrap_or(LOOK).min(LOOK)
    }

    fn add(&mut self, next: Commit) {
        match &mut self.pending[next.class.index()] {
            Some(commit) => {
                commit.number = next.number;
                commit.blocks.extend(next.blocks);
                commit.cursors = next.cursors;
            }
            empty => *empty = Some(next),
        }
    }

    /// Tries to get everything pending onto the disk: essentials first, since waveforms name clock
    /// fixes that stand there.
    fn store(&mut self) {
        for class in Class::ALL {
            let Some(commit) = self.pending[class.index()].take() else {
                continue;
            };
            match self.spool.commit(class, &commit.blocks, &commit.cursors) {
                Ok(()) => {
                    self.retry = None;
                    self.has_changed = true;
                    (self.reply)(Reply::Committed(class, commit.number));
                }
                Err(error) => {
                    self.has_changed = true;
                    (self.reply)(Reply::Refused(error.to_string()));
                    self.pending[class.index()] = Some(commit);
                    let pause = self.retry.map_or(RETRY.0, |(_, pause)| (2 * pause).min(RETRY.1));
                    self.retry = Some((now() + pause, pause));
                    return;
                }
            }
        }
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::Commit(commit) => self.add(commit),
            Request::Acknowledge {
                epoch,
                received,
                journal,
            } => {
                self.spool.acknowledge(epoch, &received, journal);
                (self.reply)(Reply::Freed(epoch));
            }
            Request::Bury(key) => {
                self.spool.bury(key);
                self.has_changed = true;
            }
            Request::Evict(directory) => {
                self.spool.evict(directory);
                self.has_changed = true;
                // There is room now: what was refused is tried again at once.
                if let Some((at, _)) = &mut self.retry {
                    *at = now();
                }
            }
            Request::Read(key) => (self.reply)(Reply::Read(key, self.spool.read(key))),
            Request::KeepAlarms(image) => {
                let kept = self.spool.keep_alarms(&image);
                if let Err(error) = &kept {
                    tracing::error!(%error, "alarms not on disk; they are tried again and stay in memory");
                }
                (self.reply)(Reply::AlarmsKept(kept.is_ok()));
            }
        }
    }

    /// Carries out what retention decides, one step after the other.
    fn make_room(&mut self) {
        self.has_changed = false;
        let is_due = self.looked.is_none_or(|at| at + LOOK <= now());
        if is_due {
            self.looked = Some(now());
        }
        loop {
            let usage = match self.spool.usage() {
                Ok(usage) => usage,
                Err(error) => {
                    tracing::warn!(%error, "room on the spool's disk is not known");
                    return;
                }
            };
            let decision = self.limits.decide(&usage);
            self.spool.fit(&self.limits, &usage);
            if decision == Decision::Keep && self.retry.is_none() {
                self.spool.fill_ballast();
            }
            // Bytes change with every commit: they are told when they matter, and now and then.
            let is_news = self
                .told
                .as_ref()
                .is_none_or(|(told, before)| *before != decision || is_due && *told != usage);
            if is_news {
                (self.reply)(Reply::Room(usage.clone(), decision));
                self.told = Some((usage, decision));
            }
            match decision {
                Decision::EvictWaveform { directory } => {
                    let blocks = self.spool.begin_eviction(directory);
                    (self.reply)(Reply::Evicting(directory, blocks));
                }
                Decision::CloseWaveform => {
                    if let Err(error) = self.spool.close_waveform() {
                        (self.reply)(Reply::Refused(error.to_string()));
                        return;
                    }
                }
                Decision::Keep | Decision::StopWaveformIntake | Decision::StopIntake => return,
            }
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the pause before the disk is tried again is this thread's own, whatever else it is asked for"
)]
fn now() -> Instant {
    Instant::now()
}
