//! The spool as its thread promises it: one request after the other, each takes its time, and a power
//! cut keeps exactly what has been confirmed, and perhaps the commit under way.

use super::Mutant;
use super::chance::Chance;
use super::faults::{Fault, FaultCounts};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use trunnion_agent::block::{Block, BlockKey};
use trunnion_agent::intake::{BootKey, Cursor};
use trunnion_agent::spool::{Commit, FormerEpoch, ReadError, Recovered, Reply, Request};
use trunnion_common::block::Body;
use trunnion_common::frame::{Class, Payload, RawFrame};
use trunnion_common::id::Epoch;

/// Between attempts to write while the disk refuses, as the real thread has it.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Freed blocks that a crash may bring back, per spool; older ones are gone for good.
const FREED_MAX: usize = 256;

/// One gateway's spool.
#[derive(Debug)]
pub struct SimSpool {
    chance: Chance,
    mutant: Option<Mutant>,
    blocks: BTreeMap<BlockKey, Block>,
    /// Per chain: its part of the cursors.
    cursors: [BTreeMap<BootKey, Cursor>; 2],
    epochs: BTreeMap<Epoch, FormerEpoch>,
    freed: VecDeque<Block>,
    requests: VecDeque<Request>,
    /// Blocks that can never be read again.
    damaged: BTreeMap<BlockKey, Block>,
    /// Whether there is no room for commits.
    pub is_full: bool,
    /// One request in so many fails.
    pub fails_one_in: u64,
}

/// What became of the request in front.
#[derive(Debug, Default)]
pub struct Served {
    /// The answer, if it has one.
    pub reply: Option<Reply>,
    /// When the next request is done, if there is one.
    pub next: Option<Duration>,
}

impl SimSpool {
    /// An empty one.
    pub fn new(chance: Chance, mutant: Option<Mutant>) -> Self {
        Self {
            chance,
            mutant,
            blocks: BTreeMap::new(),
            cursors: Default::default(),
            epochs: BTreeMap::new(),
            freed: VecDeque::new(),
            requests: VecDeque::new(),
            damaged: BTreeMap::new(),
            is_full: false,
            fails_one_in: 0,
        }
    }

    /// Asks for something. An idle spool says how long it takes.
    pub fn request(&mut self, request: Request) -> (Option<Reply>, Option<Duration>) {
        let mut reply = None;
        if let Request::Commit(commit) = &request {
            if self.mutant == Some(Mutant::AckBeforeFlush) {
                reply = Some(Reply::Committed(commit.class, commit.number));
            }
            if self.mutant == Some(Mutant::CursorsOutsideCommit) {
                self.keep_cursors(commit.class, &commit.cursors);
            }
        }
        let was_idle = self.requests.is_empty();
        self.requests.push_back(request);
        (reply, was_idle.then(|| self.latency()))
    }

    /// The time of the request in front is over.
    pub fn serve(&mut self, faults: &mut FaultCounts) -> Served {
        let Some(request) = self.requests.pop_front() else {
            return Served::default();
        };
        let fails = self.chance.one_in(self.fails_one_in);
        let reply = match request {
            Request::Commit(commit) if self.is_full || fails => {
                faults.note(if self.is_full {
                    Fault::SpoolFull
                } else {
                    Fault::SpoolWriteFailed
                });
                self.requests.push_front(Request::Commit(commit));
                return Served {
                    reply: Some(Reply::Refused("the disk takes nothing".to_owned())),
                    next: Some(RETRY_PAUSE),
                };
            }
            Request::Commit(commit) => {
                let done = Reply::Committed(commit.class, commit.number);
                self.commit(commit);
                (self.mutant != Some(Mutant::AckBeforeFlush)).then_some(done)
            }
            Request::Acknowledge {
                epoch,
                received,
                journal,
            } => {
                let keys: Vec<BlockKey> = self
                    .blocks
                    .keys()
                    .filter(|key| key.epoch == epoch && received.contains(key.sequence))
                    .copied()
                    .collect();
                for key in keys {
                    self.free(key);
                }
                if let Some(former) = self.epochs.get_mut(&epoch) {
                    former.freed_by = Some(journal);
                }
                Some(Reply::Freed(epoch))
            }
            Request::Bury(key) => {
                // Its tombstone has been committed: it does not come back.
                self.blocks.remove(&key);
                None
            }
            // Nothing is ever evicted here: this spool never tells of its room.
            Request::Evict(_) => None,
            Request::Read(key) => Some(Reply::Read(key, self.read(key, fails, faults))),
            // No node of this world raises an alarm.
            Request::KeepAlarms(_) => Some(Reply::AlarmsKept(!fails)),
        };
        Served {
            reply,
            next: (!self.requests.is_empty()).then(|| self.latency()),
        }
    }

    /// The power is cut.
    pub fn crash(&mut self, faults: &mut FaultCounts) {
        if let Some(Request::Commit(commit)) = self.requests.pop_front() {
            faults.note(Fault::SpoolCommitTorn);
            if !self.is_full && self.chance.one_in(2) {
                self.commit(commit);
            }
        }
        self.requests.clear();
        // That a block was freed may stand in the page cache alone.
        let back = self.chance.below(2 * self.freed.len() as u64 + 1) as usize;
        for block in self.freed.drain(..).rev().take(back) {
            faults.note(Fault::SpoolBlocksBack);
            self.blocks.insert(block.key, block);
        }
    }

    /// What a new start finds.
    pub fn recover(&mut self, fresh: [Epoch; 2]) -> Recovered {
        let left: BTreeSet<Epoch> = self.blocks.keys().map(|key| key.epoch).collect();
        self.epochs.retain(|epoch, _| left.contains(epoch));
        let blocks = self.blocks.values();
        Recovered {
            current: fresh.map(|epoch| (epoch, 0)),
            blocks: blocks
                .map(|block| (block.key, (block.bytes.len() as u32, block.index.clone())))
                .collect(),
            epochs: self.epochs.values().copied().collect(),
            cursors: self.whole_cursors(),
            quarantined: Vec::new(),
        }
    }

    /// The cursors, put together of each chain's part.
    fn whole_cursors(&self) -> Vec<Cursor> {
        let mut whole: BTreeMap<BootKey, Cursor> = BTreeMap::new();
        for class in Class::ALL {
            for (key, part) in &self.cursors[class.index()] {
                whole
                    .entry(*key)
                    .or_insert_with(|| part.clone())
                    .join(class, part);
            }
        }
        whole.into_values().collect()
    }

    /// Blocks that can never be read again, as they were.
    pub const fn damaged(&self) -> &BTreeMap<BlockKey, Block> {
        &self.damaged
    }

    /// Whether it holds samples that the collector does not have for all it knows.
    pub fn holds_samples(&self) -> bool {
        self.blocks.values().any(|block| !block.index.samples.is_empty())
    }

    fn latency(&mut self) -> Duration {
        if self.chance.one_in(50) {
            self.chance.millis(50, 600)
        } else {
            self.chance.millis(1, 12)
        }
    }

    fn commit(&mut self, commit: Commit) {
        if self.mutant != Some(Mutant::CursorsOutsideCommit) {
            self.keep_cursors(commit.class, &commit.cursors);
        }
        for block in commit.blocks {
            let former = self.epochs.entry(block.key.epoch).or_insert(FormerEpoch {
                epoch: block.key.epoch,
                class: commit.class,
                next: 0,
                freed_by: None,
            });
            former.next = former.next.max(block.key.sequence + 1);
            self.blocks.insert(block.key, block);
        }
    }

    fn keep_cursors(&mut self, class: Class, cursors: &[Cursor]) {
        self.cursors[class.index()] = cursors
            .iter()
            .map(|cursor| ((cursor.node, cursor.boot), cursor.part(class)))
            .collect();
    }

    fn free(&mut self, key: BlockKey) {
        if let Some(block) = self.blocks.remove(&key) {
            if self.freed.len() == FREED_MAX {
                self.freed.pop_front();
            }
            self.freed.push_back(block);
        }
    }

    fn read(
        &mut self,
        key: BlockKey,
        fails: bool,
        faults: &mut FaultCounts,
    ) -> Result<bytes::Bytes, ReadError> {
        if fails && self.chance.one_in(2) {
            faults.note(Fault::SpoolLater);
            return Err(ReadError::Later("the disk does not answer".to_owned()));
        }
        if fails
            && self.chance.one_in(4)
            && let Some(block) = self.blocks.get(&key)
            && is_samples_alone(block)
        {
            faults.note(Fault::SpoolUnreadable);
            self.damaged.insert(key, block.clone());
        }
        if self.damaged.contains_key(&key) {
            return Err(ReadError::Lost("its checksum does not match".to_owned()));
        }
        let bytes = self.blocks.get(&key).map(|block| block.bytes.clone());
        if self.mutant == Some(Mutant::DeleteBeforeAck) {
            self.blocks.remove(&key);
        }
        bytes.ok_or_else(|| ReadError::Lost("no database of the spool holds it".to_owned()))
    }
}

/// Whether nothing but samples is lost with a block. With a clock fix or a channel table everything that
/// refers to them is stranded, and with a tombstone what it names: the product has no second copy.
fn is_samples_alone(block: &Block) -> bool {
    let parsed = trunnion_common::block::Block::parse(&block.bytes);
    let Ok(Ok(Body::Frames(mut records))) = parsed.map(|block| block.decode()) else {
        return false;
    };
    records.all(|record| {
        let payload = record.and_then(|record| {
            RawFrame::parse(record.frame)?
                .payload()
                .map(|payload| !matches!(payload, Payload::Describe(_)))
        });
        payload == Ok(true)
    })
}
