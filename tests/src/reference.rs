//! The simple model that a simulated world is compared with: what nodes were told is safe, what agents
//! were told is durable, and what the journal must therefore hold.

use crate::world::sim_node::{CHANNELS, value};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use trunnion_agent::block::BlockKey;
use trunnion_collector::ingest::dedup::SequenceSets;
use trunnion_collector::journal::{Commit, Entry};
use trunnion_collector::ledger::{AccountKey, LedgerRow};
use trunnion_common::ack::Ack;
use trunnion_common::block::{Block, Body};
use trunnion_common::frame::{Class, Payload, RawFrame};
use trunnion_common::id::{BootId, ChannelId, Epoch, GatewayId, NodeId};
use trunnion_common::sample::LossCause;
use trunnion_common::sequence::Range;
use trunnion_firmware::channel::Account;

/// Violations told of one comparison; the first few say it all.
const TOLD_MAX: usize = 8;

/// What was promised.
#[derive(Debug, Default)]
pub struct Reference {
    streams: BTreeMap<AccountKey, Stream>,
    /// Blocks that an acknowledgement told an agent to forget.
    acknowledged: BTreeMap<(GatewayId, Epoch), BTreeSet<u64>>,
}

/// One channel of one boot.
#[derive(Debug, Default)]
struct Stream {
    produced: u64,
    acknowledged: u64,
    dropped: u64,
    /// Samples that the node holds, oldest first.
    held: VecDeque<u64>,
    /// Samples that it forgot because they were called safe.
    safe: Vec<u64>,
}

impl Reference {
    /// A node's accounts after it was given something to do; `missed` when it was told of samples that
    /// its sensors do not have.
    pub fn observe_node(
        &mut self,
        node: NodeId,
        boot: BootId,
        accounts: &[Account; CHANNELS.len()],
        missed: bool,
    ) {
        for (channel, account) in CHANNELS.into_iter().zip(accounts) {
            let stream = self.streams.entry((node, boot, channel)).or_default();
            if !missed {
                stream.held.extend(stream.produced..account.produced);
            }
            stream.produced = account.produced;
            let outbox = |(cause, _): &&(LossCause, u64)| *cause == LossCause::OutboxFull;
            let dropped = account.dropped.iter().find(outbox).map_or(0, |(_, count)| *count);
            // A full outbox drops a channel's oldest, and acknowledgements free its oldest.
            for _ in stream.dropped..dropped {
                stream.held.pop_front();
            }
            stream.dropped = dropped;
            for _ in stream.acknowledged..account.acknowledged {
                stream.safe.extend(stream.held.pop_front());
            }
            stream.acknowledged = account.acknowledged;
        }
    }

    /// An acknowledgement left the collector.
    pub fn observe_ack(&mut self, gateway: &GatewayId, ack: &Ack) {
        let known = self.acknowledged.entry((gateway.clone(), ack.epoch)).or_default();
        let ranges = ack
            .received
            .ranges()
            .iter()
            .flat_map(|range| range.first()..range.end());
        known.extend((0..ack.received.upto()).chain(ranges));
    }

    /// Samples of all nodes.
    pub fn samples_produced(&self) -> u64 {
        self.streams.values().map(|stream| stream.produced).sum()
    }

    /// Samples that nodes forgot because they were called safe.
    pub fn samples_safe(&self) -> u64 {
        self.streams.values().map(|stream| stream.safe.len() as u64).sum()
    }

    /// Blocks that agents were told are durable and that are not in the journal, nor named lost in it, nor
    /// went with the collector's disk.
    pub fn check_acknowledged(&self, record: &Record, destroyed: &Destroyed) -> Vec<String> {
        let mut violations = Vec::new();
        for ((gateway, epoch), blocks) in &self.acknowledged {
            let known = record.blocks.get(&(gateway.clone(), *epoch));
            for block in blocks {
                let is_known = known.is_some_and(|known| known.contains(block));
                if !is_known && !destroyed.was_journaled(gateway, *epoch, *block) {
                    violations.push(format!(
                        "block {block} of epoch {epoch} was acknowledged to {gateway} and is not in the journal"
                    ));
                }
            }
        }
        violations.truncate(TOLD_MAX);
        violations
    }

    /// Samples that a node was told are safe and that are neither in the journal nor in one of the
    /// blocks that the disk destroyed, named by a tombstone.
    pub fn check_samples(&self, record: &Record, destroyed: &Destroyed) -> Vec<String> {
        let mut violations = Vec::new();
        for (key, stream) in &self.streams {
            let stored = record.samples.get(key);
            let lost: Vec<u64> = stream
                .safe
                .iter()
                .filter(|index| !stored.is_some_and(|stored| stored.contains(index)))
                .filter(|index| !destroyed.names(record, *key, **index))
                .copied()
                .collect();
            if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
                violations.push(format!(
                    "{} samples from {first} to {last} of {} were acknowledged to the node and are lost",
                    lost.len(),
                    name(*key),
                ));
            }
        }
        for ((gateway, epoch), blocks) in &record.lost {
            for block in blocks {
                if !destroyed.has(gateway, *epoch, *block) {
                    violations.push(format!(
                        "block {block} of epoch {epoch} of {gateway} is booked as lost, and no disk lost it"
                    ));
                }
            }
        }
        violations.truncate(TOLD_MAX);
        violations
    }

    /// The ledger against what was produced and what the journal holds. `live` are the boots that run.
    pub fn check_ledger(
        &self,
        record: &Record,
        destroyed: &Destroyed,
        rows: &BTreeMap<AccountKey, LedgerRow>,
        live: &BTreeSet<(NodeId, BootId)>,
    ) -> Vec<String> {
        let mut violations = Vec::new();
        for (key, row) in rows {
            let mut wrong = |what: String| violations.push(format!("ledger of {}: {what}", name(*key)));
            let sum = row.stored + row.lost_total() + row.pending + row.unexplained;
            if row.produced != sum {
                wrong(format!("{} produced are not the sum {sum}", row.produced));
            }
            if row.unexplained > destroyed.gone_twice(record, *key) {
                wrong(format!("{} unexplained: {row:?}", row.unexplained));
            }
            let stored = record.samples.get(key).map_or(0, BTreeSet::len) as u64;
            let is_live = live.contains(&(key.0, key.1));
            // What waits for a clock fix or a table that died with its boot is stored and pending, and so is
            // what waits for a fix that died with the collector's disk.
            let waiting = destroyed.waiting(record, *key);
            let claimed = if is_live && waiting == 0 {
                row.stored
            } else {
                row.stored + row.pending
            };
            if claimed != stored {
                wrong(format!("{stored} samples are in the journal: {row:?}"));
            }
            let produced = self.streams.get(key).map_or(0, |stream| stream.produced);
            if row.produced > produced || (is_live && row.produced < produced) {
                wrong(format!("the node produced {produced}: {row:?}"));
            }
            if is_live && row.pending > waiting {
                wrong(format!("{} still pending: {row:?}", row.pending));
            }
        }
        for (node, boot) in live {
            for channel in CHANNELS {
                if !rows.contains_key(&(*node, *boot, channel)) {
                    violations.push(format!("ledger of {}: no row", name((*node, *boot, channel))));
                }
            }
        }
        violations.truncate(TOLD_MAX);
        violations
    }
}

fn name((node, boot, channel): AccountKey) -> String {
    format!("node {node} boot {boot} channel {channel}")
}

/// Blocks that a spool's disk destroyed, and what was in them.
#[derive(Debug, Default)]
pub struct Destroyed {
    blocks: BTreeMap<(GatewayId, BlockKey), Contents>,
    /// Samples in blocks that went with a whole disk. Nobody may know of such a block, and so none names it:
    /// the ledger alone names what was in it.
    with_disks: BTreeSet<(AccountKey, u64)>,
    /// Samples that were stored, and went with the collector's disk.
    committed: BTreeMap<AccountKey, BTreeSet<u64>>,
    /// Nodes of a gateway that was put back to an image.
    put_back: BTreeSet<NodeId>,
    /// Blocks that went with the collector's disk, journaled or named lost since the backup.
    journaled: BTreeMap<(GatewayId, Epoch), BTreeSet<u64>>,
}

impl Destroyed {
    /// A block was destroyed.
    pub fn note(&mut self, gateway: &GatewayId, key: BlockKey, bytes: &[u8]) {
        let mut contents = Contents::default();
        if let Ok(block) = Block::parse(bytes) {
            contents.take(&block);
        }
        self.blocks.insert((gateway.clone(), key), contents);
    }

    /// A block was on a disk that was replaced.
    pub fn note_with_disk(&mut self, gateway: &GatewayId, key: BlockKey, bytes: &[u8]) {
        self.note(gateway, key, bytes);
        let contents = self.blocks.get(&(gateway.clone(), key));
        let samples = contents.into_iter().flat_map(|contents| &contents.samples);
        self.with_disks
            .extend(samples.map(|(account, index, _)| (*account, *index)));
    }

    /// The gateway of these nodes was put back to an image.
    pub fn note_put_back(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        self.put_back.extend(nodes);
    }

    /// These commits went with the collector's disk.
    pub fn note_commits(&mut self, commits: &[Commit]) {
        for (block, blocks) in Record::read(commits).blocks {
            self.journaled.entry(block).or_default().extend(blocks);
        }
        for (_, entry) in commits.iter().flat_map(|commit| &commit.entries) {
            if let Entry::Block { bytes, .. } = entry
                && let Ok(block) = Block::parse(bytes)
            {
                let mut contents = Contents::default();
                contents.take(&block);
                for (account, index, _) in contents.samples {
                    self.committed.entry(account).or_default().insert(index);
                }
            }
        }
    }

    /// Whether anything did.
    pub fn has_commits(&self) -> bool {
        !self.journaled.is_empty()
    }

    /// Samples of a channel that nobody has, where what named them may have gone twice: with the disk of the
    /// collector, and with that of their gateway.
    fn gone_twice(&self, record: &Record, key: AccountKey) -> u64 {
        if !self.has_commits() || !self.put_back.contains(&key.0) {
            return 0;
        }
        let mut gone = self.committed.get(&key).cloned().unwrap_or_default();
        let destroyed = self.blocks.values().flat_map(|contents| &contents.samples);
        let destroyed = destroyed.filter(|(account, ..)| *account == key);
        gone.extend(destroyed.map(|(_, index, _)| *index));
        let stored = record.samples.get(&key);
        gone.retain(|index| !stored.is_some_and(|stored| stored.contains(index)));
        gone.len() as u64
    }

    /// Samples of a channel that wait for a clock fix which went with the collector's disk.
    pub fn waiting(&self, record: &Record, key: AccountKey) -> u64 {
        if !self.has_commits() {
            return 0;
        }
        let (node, boot, _) = key;
        let by_fix = record.by_fix.get(&key).into_iter().flatten();
        by_fix
            .filter(|(fix, _)| !record.fixes.contains(&(node, boot, **fix)))
            .map(|(_, count)| count)
            .sum()
    }

    fn was_journaled(&self, gateway: &GatewayId, epoch: Epoch, sequence: u64) -> bool {
        let known = self.journaled.get(&(gateway.clone(), epoch));
        known.is_some_and(|known| known.contains(&sequence))
    }

    fn has(&self, gateway: &GatewayId, epoch: Epoch, sequence: u64) -> bool {
        self.blocks
            .contains_key(&(gateway.clone(), BlockKey { epoch, sequence }))
            || self.was_journaled(gateway, epoch, sequence)
    }

    /// Whether a sample was in a destroyed block that the journal names.
    fn names(&self, record: &Record, key: AccountKey, index: u64) -> bool {
        let is_with_disk = self.with_disks.contains(&(key, index))
            || self
                .committed
                .get(&key)
                .is_some_and(|known| known.contains(&index));
        let mut blocks = self.blocks.iter();
        is_with_disk
            || blocks.any(|((gateway, block), contents)| {
                let told = record.blocks.get(&(gateway.clone(), block.epoch));
                contents.samples.iter().any(|(k, i, _)| *k == key && *i == index)
                    && (told.is_some_and(|told| told.contains(&block.sequence))
                        || self.was_journaled(gateway, block.epoch, block.sequence))
            })
    }
}

/// What one block says of frames and samples.
#[derive(Debug, Default)]
struct Contents {
    frames: Vec<(NodeId, BootId, Class, Range)>,
    /// Whose, which, and what; the frame that they came in.
    samples: Vec<(AccountKey, u64, i16)>,
}

impl Contents {
    fn take(&mut self, block: &Block<'_>) {
        match block.decode() {
            Ok(Body::Frames(records)) => {
                for record in records.map_while(Result::ok) {
                    if let Ok(frame) = RawFrame::parse(record.frame) {
                        self.take_frame(&frame);
                    }
                }
            }
            Ok(Body::Gap(gap)) => {
                let ranges = gap.ranges.iter();
                self.frames
                    .extend(ranges.map(|range| (gap.node, gap.boot, gap.class, *range)));
            }
            Ok(Body::Tombstone(tombstone)) => {
                for (node, boot, class, ranges) in &tombstone.frames {
                    let ranges = ranges.iter();
                    self.frames
                        .extend(ranges.map(|range| (*node, *boot, *class, *range)));
                }
            }
            _ => {}
        }
    }

    fn take_frame(&mut self, frame: &RawFrame<'_>) {
        let header = frame.header();
        let Some(one) = Range::one(header.sequence) else {
            return;
        };
        self.frames.push((header.node, header.boot, header.class, one));
        let mut add = |channel: ChannelId, index: u64, value: i16| {
            self.samples
                .push(((header.node, header.boot, channel), index, value));
        };
        match frame.payload() {
            Ok(Payload::Waveform(waveform)) => {
                let values = waveform.samples().into_iter().flatten();
                for (index, value) in (waveform.first_sample..).zip(values) {
                    add(waveform.channel, index, value);
                }
            }
            Ok(Payload::Scalar(scalar)) => {
                for (index, reading) in (scalar.first_sample..).zip(&scalar.readings) {
                    if let Ok(reading) = reading {
                        add(scalar.channel, index, *reading as i16);
                    }
                }
            }
            _ => {}
        }
    }
}

/// What a journal holds, read in the plainest way.
#[derive(Debug, Default)]
pub struct Record {
    /// Blocks journaled, or named lost.
    blocks: BTreeMap<(GatewayId, Epoch), BTreeSet<u64>>,
    /// Blocks named lost although no tombstone names them.
    lost: BTreeMap<(GatewayId, Epoch), BTreeSet<u64>>,
    frames: BTreeMap<(NodeId, BootId, Class), BTreeSet<u64>>,
    samples: BTreeMap<AccountKey, BTreeSet<u64>>,
    /// How many of them are dated by which clock fix.
    by_fix: BTreeMap<AccountKey, BTreeMap<u32, u64>>,
    fixes: BTreeSet<(NodeId, BootId, u32)>,
    /// What should never be.
    pub violations: Vec<String>,
}

impl Record {
    /// Reads a journal's commits.
    pub fn read(commits: &[Commit]) -> Self {
        let mut record = Self::default();
        for (_, entry) in commits.iter().flat_map(|commit| &commit.entries) {
            record.take(entry);
        }
        if commits.windows(2).any(|pair| pair[1].time < pair[0].time) {
            record
                .violations
                .push("the journal's clock runs backwards".to_owned());
        }
        record.violations.truncate(TOLD_MAX);
        record
    }

    /// Samples, each counted once.
    pub fn samples_stored(&self) -> u64 {
        self.samples.values().map(|samples| samples.len() as u64).sum()
    }

    fn take(&mut self, entry: &Entry) {
        match entry {
            Entry::Block { gateway, bytes } => {
                let block = match Block::parse(bytes) {
                    Ok(block) => block,
                    Err(reason) => {
                        return self
                            .violations
                            .push(format!("an unreadable block is journaled: {reason}"));
                    }
                };
                let epoch = block.envelope.epoch;
                let known = self.blocks.entry((gateway.clone(), epoch)).or_default();
                if !known.insert(block.envelope.sequence) {
                    self.violations.push(format!(
                        "block {} of epoch {epoch} of {gateway} is journaled twice",
                        block.envelope.sequence
                    ));
                }
                if let Ok(Body::Tombstone(tombstone)) = block.decode() {
                    self.blocks
                        .entry((gateway.clone(), tombstone.epoch))
                        .or_default()
                        .extend(tombstone.blocks.first()..tombstone.blocks.end());
                }
                self.take_contents(&block);
            }
            Entry::Lost {
                gateway,
                epoch,
                blocks,
                ..
            } => {
                let key = (gateway.clone(), *epoch);
                let numbers = blocks.first()..blocks.end();
                self.blocks
                    .entry(key.clone())
                    .or_default()
                    .extend(numbers.clone());
                self.lost.entry(key).or_default().extend(numbers);
            }
            Entry::EpochClosed { .. }
            | Entry::Superseded { .. }
            | Entry::Started { .. }
            | Entry::DeliveredElsewhere { .. }
            | Entry::Greeted { .. }
            | Entry::Fleet { .. }
            | Entry::Settings { .. }
            | Entry::Restated { .. }
            | Entry::Decided(_)
            | Entry::Learned { .. }
            | Entry::Command { .. }
            | Entry::CommandResult { .. }
            | Entry::Shed { .. }
            | Entry::Replayed(_)
            | Entry::Tick => {}
        }
    }

    fn take_contents(&mut self, block: &Block<'_>) {
        if let Ok(Body::ClockFix(fix)) = block.decode() {
            self.fixes.insert((fix.node, fix.boot, fix.number));
        }
        let Ok(Body::Frames(records)) = block.decode() else {
            let mut contents = Contents::default();
            contents.take(block);
            for (node, boot, class, range) in contents.frames {
                self.frames
                    .entry((node, boot, class))
                    .or_default()
                    .extend(range.first()..range.end());
            }
            return;
        };
        for record in records.map_while(Result::ok) {
            let Ok(frame) = RawFrame::parse(record.frame) else {
                self.violations
                    .push("an unreadable frame is journaled".to_owned());
                continue;
            };
            let header = frame.header();
            let known = self
                .frames
                .entry((header.node, header.boot, header.class))
                .or_default();
            // A frame may come again in another block: it counts once.
            if !known.insert(header.sequence) {
                continue;
            }
            let mut contents = Contents::default();
            contents.take_frame(&frame);
            for (key, index, found) in contents.samples {
                *self.by_fix.entry(key).or_default().entry(record.fix).or_default() += 1;
                if found != value(key.0, key.1, key.2, index) {
                    self.violations
                        .push(format!("sample {index} of {} has a wrong value", name(key)));
                }
                if !self.samples.entry(key).or_default().insert(index) {
                    self.violations
                        .push(format!("sample {index} of {} is stored twice", name(key)));
                }
            }
        }
    }

    /// The journal's own sets against the plain ones, of which so many entries are damaged: a Hello behind one
    /// in its group may have closed the epoch.
    pub fn check_sets(&self, sets: &SequenceSets, damaged: u64) -> Vec<String> {
        let mut violations = Vec::new();
        for ((gateway, epoch), plain) in &self.blocks {
            let set = sets.blocks.received(gateway, *epoch);
            let end = set.end().max(plain.last().map_or(0, |last| last + 1));
            let is_wrong = (0..end).any(|n| plain.contains(&n) && !set.contains(n));
            let unknown = (0..end).filter(|n| set.contains(*n) && !plain.contains(n));
            if is_wrong || unknown.count() as u64 > damaged {
                violations.push(format!(
                    "the set of epoch {epoch} of {gateway} is {set:?}, the journal has {plain:?}"
                ));
            }
        }
        for ((node, boot, class), plain) in &self.frames {
            let set = sets.frames.received(*node, *boot, *class);
            let end = set.end().max(plain.last().map_or(0, |last| last + 1));
            if (0..end).any(|n| set.contains(n) != plain.contains(&n)) {
                violations.push(format!(
                    "the set of {class:?} frames of node {node} boot {boot} is {set:?}, the journal has {plain:?}"
                ));
            }
        }
        violations.truncate(TOLD_MAX);
        violations
    }
}
