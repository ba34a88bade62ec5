//! The spool as its thread promises it: one request after the other, each takes its time, and a power
//! cut keeps exactly what has been confirmed, and perhaps the commit under way.

use super::Mutant;
use super::chance::Chance;
use super::faults::{Fault, FaultCounts};
use super::sim_room::SimRoom;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use trunnion_agent::block::{Block, BlockKey};
use trunnion_agent::intake::{BootKey, Cursor};
use trunnion_agent::introduction::put_first;
use trunnion_agent::spool::{Commit, FormerEpoch, ReadError, Recovered, Reply, Request};
use trunnion_common::ack::JournalMark;
use trunnion_common::frame::Class;
use trunnion_common::id::Epoch;
use trunnion_common::sequence::Range;

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
    /// Those that acknowledged; they go as far as when they freed what cannot come back.
    journals: Vec<JournalMark>,
    /// What may come back, and which journal freed it.
    freed: VecDeque<(Block, Option<JournalMark>)>,
    requests: VecDeque<Request>,
    /// Blocks that can never be read again.
    damaged: BTreeMap<BlockKey, Block>,
    /// Blocks that had to go, their tombstones on disk before them.
    evicted: BTreeMap<BlockKey, Block>,
    /// Blocks that were there when the disk was put back to an image without them.
    replaced: BTreeMap<BlockKey, Block>,
    room: SimRoom,
    /// Whether there is no room for commits.
    pub is_full: bool,
    /// One request in so many fails.
    pub fails_one_in: u64,
}

/// What stands on a spool's disk.
#[derive(Clone, Debug)]
pub struct SpoolImage {
    blocks: BTreeMap<BlockKey, Block>,
    cursors: [BTreeMap<BootKey, Cursor>; 2],
    epochs: BTreeMap<Epoch, FormerEpoch>,
    journals: Vec<JournalMark>,
    room: SimRoom,
}

/// Blocks told of a spool that should be empty.
const TOLD_MAX: usize = 4;

/// What became of the request in front.
#[derive(Debug, Default)]
pub struct Served {
    /// The answers, if it has any.
    pub replies: Vec<Reply>,
    /// When the next request is done, if there is one.
    pub next: Option<Duration>,
}

impl SimSpool {
    /// An empty one.
    pub fn new(mut chance: Chance, mutant: Option<Mutant>) -> Self {
        Self {
            room: SimRoom::draw(&mut chance),
            evicted: BTreeMap::new(),
            replaced: BTreeMap::new(),
            chance,
            mutant,
            blocks: BTreeMap::new(),
            cursors: Default::default(),
            epochs: BTreeMap::new(),
            journals: Vec::new(),
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
                // What else is asked for goes on meanwhile, above all what makes room.
                let others = std::mem::take(&mut self.requests);
                let (commits, others): (VecDeque<_>, VecDeque<_>) = others
                    .into_iter()
                    .partition(|request| matches!(request, Request::Commit(_)));
                let mut replies = vec![Reply::Refused("the disk takes nothing".to_owned())];
                for other in others {
                    replies.extend(self.serve_other(other, false, faults));
                }
                self.requests = commits;
                replies.extend(self.look());
                return Served {
                    replies,
                    next: Some(RETRY_PAUSE),
                };
            }
            Request::Commit(commit) => {
                let done = Reply::Committed(commit.class, commit.number);
                self.commit(commit);
                (self.mutant != Some(Mutant::AckBeforeFlush)).then_some(done)
            }
            other => self.serve_other(other, fails, faults),
        };
        let mut replies: Vec<Reply> = reply.into_iter().collect();
        replies.extend(self.look());
        Served {
            replies,
            next: (!self.requests.is_empty()).then(|| self.latency()),
        }
    }

    /// Anything but a commit.
    fn serve_other(&mut self, request: Request, fails: bool, faults: &mut FaultCounts) -> Option<Reply> {
        match request {
            Request::Acknowledge {
                epoch,
                received,
                journal,
            } => {
                // Its name is noted beforehand; how far it goes, with what it frees.
                put_first(&mut self.journals, journal.name.into());
                let keys: Vec<BlockKey> = self
                    .blocks
                    .keys()
                    .filter(|key| key.epoch == epoch && received.contains(key.sequence))
                    .copied()
                    .collect();
                for key in keys {
                    self.free(key, Some(journal));
                }
                if let Some(former) = self.epochs.get_mut(&epoch) {
                    former.freed_by = Some(journal.name);
                }
                Some(Reply::Freed(epoch))
            }
            Request::Bury(key) => {
                // Its tombstone has been committed: it does not come back.
                self.blocks.remove(&key);
                None
            }
            Request::Evict(directory) => {
                faults.note(Fault::SpoolEvicted);
                for key in self.room.evict(directory) {
                    if let Some(block) = self.blocks.get(&key).cloned() {
                        self.free(key, None);
                        self.evicted.insert(key, block);
                    }
                }
                None
            }
            Request::Commit(_) => None,
            Request::Read(key) => Some(Reply::Read(key, self.read(key, fails, faults))),
            // No node of this world raises an alarm.
            Request::KeepAlarms(_) => Some(Reply::AlarmsKept(!fails)),
        }
    }

    /// What there is to say of room.
    pub fn look(&mut self) -> Vec<Reply> {
        let mut replies = self.room.look(&self.blocks);
        if self.mutant == Some(Mutant::EvictWithoutTombstone) {
            replies.retain(|reply| {
                if let Reply::Evicting(directory, _) = reply {
                    for key in self.room.evict(*directory) {
                        self.blocks.remove(&key);
                    }
                }
                !matches!(reply, Reply::Evicting(..))
            });
        }
        replies
    }

    /// Others fill the disk, or make room again.
    pub const fn set_cramped(&mut self, is_cramped: bool) {
        self.room.is_cramped = is_cramped;
    }

    /// Nothing is asked for any more, and what has been done is on disk.
    pub fn stop(&mut self) {
        self.requests.clear();
        self.journals = self.journals_of(self.freed.len());
        self.freed.clear();
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
        let gone = self.freed.len().saturating_sub(back);
        self.journals = self.journals_of(gone);
        for (block, _) in self.freed.drain(..).skip(gone) {
            faults.note(Fault::SpoolBlocksBack);
            self.blocks.insert(block.key, block);
        }
    }

    /// What stands on the disk.
    pub fn image(&self) -> SpoolImage {
        SpoolImage {
            blocks: self.blocks.clone(),
            cursors: self.cursors.clone(),
            epochs: self.epochs.clone(),
            journals: self.journals_of(self.freed.len()),
            room: self.room.clone(),
        }
    }

    /// The disk is another one, with what an image has: what is in it can be read again.
    pub fn restore(&mut self, image: SpoolImage, faults: &mut FaultCounts) {
        self.evicted.append(&mut self.damaged);
        // With the disk may go the tombstones that name them.
        self.replaced
            .extend(self.evicted.iter().map(|(key, block)| (*key, block.clone())));
        self.freed.clear();
        for (key, block) in std::mem::replace(&mut self.blocks, image.blocks) {
            if !self.blocks.contains_key(&key) {
                faults.note(Fault::SpoolBlocksReplaced);
                self.replaced.insert(key, block);
            }
        }
        self.cursors = image.cursors;
        self.epochs = image.epochs;
        self.journals = image.journals;
        let is_cramped = std::mem::replace(&mut self.room, image.room).is_cramped;
        self.room.is_cramped = is_cramped;
    }

    /// What a new start finds.
    pub fn recover(&mut self, fresh: [Epoch; 2]) -> Recovered {
        self.room.restart();
        // The tombstones say that these go, should their directory have outlived the crash.
        let buried: Vec<(Epoch, Range)> = self
            .blocks
            .values()
            .filter_map(|block| block.index.buries)
            .collect();
        let room = &self.room;
        let (freed, evicted) = (&mut self.freed, &mut self.evicted);
        self.blocks.retain(|key, block| {
            let is_buried = room.holds(*key)
                && buried.iter().any(|(epoch, blocks)| {
                    *epoch == key.epoch && blocks.first() <= key.sequence && key.sequence < blocks.end()
                });
            if is_buried {
                freed.retain(|(freed, _)| freed.key != *key);
                evicted.insert(*key, block.clone());
            }
            !is_buried
        });
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
            journals: self.journals.clone(),
            quarantined: Vec::new(),
            discarded: 0,
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

    /// Blocks that can never be read again or were evicted, as they were.
    pub fn lost(&self) -> impl Iterator<Item = (&BlockKey, &Block)> {
        self.damaged.iter().chain(&self.evicted)
    }

    /// Blocks that went with a disk, as they were.
    pub fn replaced(&self) -> impl Iterator<Item = (&BlockKey, &Block)> {
        self.replaced.iter()
    }

    /// Whether it holds samples that the collector does not have for all it knows, or a tombstone that
    /// stands for some.
    pub fn holds_samples(&self) -> bool {
        let tells = |block: &Block| !block.index.samples.is_empty() || block.index.buries.is_some();
        self.blocks.values().any(tells)
    }

    /// The blocks in it.
    pub fn keys(&self) -> impl Iterator<Item = BlockKey> {
        self.blocks.keys().copied()
    }

    /// What it holds, for a person who looks at a world that went wrong.
    pub fn describe(&self) -> String {
        let blocks = self.blocks.iter().take(TOLD_MAX);
        let blocks: Vec<String> = blocks
            .map(|(key, block)| format!("{key:?} {:?}", block.index))
            .collect();
        format!("{} blocks, among them {blocks:?}", self.blocks.len())
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
        let keys: Vec<Block> = commit.blocks.clone();
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
        self.room.store(commit.class, &keys, &self.blocks);
    }

    fn keep_cursors(&mut self, class: Class, cursors: &[Cursor]) {
        self.cursors[class.index()] = cursors
            .iter()
            .map(|cursor| ((cursor.node, cursor.boot), cursor.part(class)))
            .collect();
    }

    fn free(&mut self, key: BlockKey, by: Option<JournalMark>) {
        if let Some(block) = self.blocks.remove(&key) {
            if self.freed.len() == FREED_MAX {
                self.journals = self.journals_of(1);
                self.freed.pop_front();
            }
            self.freed.push_back((block, by));
        }
    }

    /// How far the journals went that freed what is on disk, the first so many of the freed blocks included.
    fn journals_of(&self, freed: usize) -> Vec<JournalMark> {
        let mut journals = self.journals.clone();
        let marks = self.freed.iter().take(freed).filter_map(|(_, by)| *by);
        for mark in marks {
            for known in journals.iter_mut().filter(|known| known.name == mark.name) {
                known.extent = known.extent.max(mark.extent);
            }
        }
        journals
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
        {
            if block.index.stand_in.is_some() {
                faults.note(Fault::SpoolReferenceLost);
            }
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
