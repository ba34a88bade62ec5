//! What a former start left: found again, completed, and saved from damage.
//!
//! sled cuts a log off at the first byte that is not what was written, and overwrites what follows. So
//! a log that is not whole is read before sled opens it, and the blocks in it are kept in memory for the
//! moment, a database's worth at most. What the index names and the opened database does not have is
//! damage: from memory it goes to a new database under its own numbers, and what is not there either
//! stays with the damaged one, as a block that cannot be read, until its tombstone is on disk.

use super::super::SpoolError;
use super::super::database::{Acknowledged, Contents, Database, DatabaseError, FORMAT, Stored, encode};
use super::super::index_log::{self, IndexLog, Known};
use super::super::log_file::{self, Remains};
use super::{
    CHAIN_EPOCHS_MAX, Chain, DATABASE_BYTES, Member, QUARANTINE, blob_files, disk_bytes, numbered, remove,
};
use crate::block::{Block, BlockKey, Index};
use crate::intake::{self, Cursor};
use crate::stand_in::StandIn;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use trunnion_common::ack::JournalMark;
use trunnion_common::block::{Body, Kind};
use trunnion_common::frame::{Class, RawFrame};
use trunnion_common::id::{Epoch, JournalId};
use trunnion_common::sequence::{Range, SequenceSet};

/// Most databases of a chain that stay set aside for a person to look at. One that is damaged at every start
/// must not fill the disk with what is left of it.
const QUARANTINED_MAX: usize = 16;

/// Blocks in one batch when a database is written anew: sled keeps a batch in memory.
const RESTORED_AT_A_TIME: usize = 16;

/// What a chain held when it was opened.
#[derive(Debug)]
pub(in crate::spool) struct Recovered {
    pub(in crate::spool) blocks: BTreeMap<BlockKey, (u32, Index)>,
    /// Oldest first: sequence after the last block, and who freed blocks of it.
    pub(in crate::spool) epochs: Vec<(Epoch, u64, Option<JournalId>)>,
    pub(in crate::spool) cursors: Vec<Cursor>,
    /// Which freed blocks, and how far they went then.
    pub(in crate::spool) journals: Vec<JournalMark>,
    pub(in crate::spool) quarantined: Vec<PathBuf>,
    /// Databases that had been set aside, and are gone.
    pub(in crate::spool) discarded: u64,
    /// The epoch of new blocks and the sequence of the first.
    pub(in crate::spool) current: (Epoch, u64),
}

impl Recovered {
    fn epoch(&mut self, epoch: Epoch) -> &mut (Epoch, u64, Option<JournalId>) {
        let at = self.epochs.iter().position(|known| known.0 == epoch);
        let at = at.unwrap_or_else(|| {
            self.epochs.push((epoch, 0, None));
            self.epochs.len() - 1
        });
        &mut self.epochs[at]
    }
}

impl Chain {
    /// Opens the chain in `directory`. `buried` blocks have tombstones in the other chain already.
    pub(in crate::spool) fn open(
        directory: PathBuf,
        class: Class,
        fresh: Epoch,
        buried: &[(Epoch, Range)],
    ) -> Result<(Self, Recovered), SpoolError> {
        let failed = |source| SpoolError::Directory {
            path: directory.clone(),
            source,
        };
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let names = numbered(&directory).map_err(failed)?;
        let mut chain = Self {
            class,
            directory: directory.clone(),
            epoch: fresh,
            members: BTreeMap::new(),
            by_epoch: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            drained: BTreeSet::new(),
            head: None,
            reader: None,
            cursors: BTreeMap::new(),
            database_bytes: DATABASE_BYTES,
            next_number: names.last().map_or(1, |(last, _)| last.saturating_add(1)),
        };
        let mut recovered = Recovered {
            current: (fresh, 0),
            blocks: BTreeMap::new(),
            epochs: Vec::new(),
            cursors: Vec::new(),
            journals: Vec::new(),
            quarantined: Vec::new(),
            discarded: 0,
        };
        for (number, _) in names.iter().filter(|(_, ending)| ending.is_empty()) {
            chain.recover(*number, &mut recovered)?;
        }
        for (number, _) in names.iter().filter(|(_, ending)| ending == "index") {
            if !chain.members.contains_key(number) {
                chain.recover_index(*number, &mut recovered);
            }
        }
        recovered.discarded = chain.discard_quarantined();
        chain.settle(buried, &mut recovered);
        let held: BTreeSet<Epoch> = recovered.blocks.keys().map(|key| key.epoch).collect();
        let is_buried = |epoch: Epoch| buried.iter().any(|(buried, _)| *buried == epoch);
        recovered
            .epochs
            .retain(|(epoch, ..)| held.contains(epoch) || is_buried(*epoch));
        if recovered.epochs.len() >= CHAIN_EPOCHS_MAX
            && let Some((newest, ..)) = recovered.epochs.last()
        {
            chain.epoch = *newest;
        }
        let current = recovered.epochs.iter().find(|(epoch, ..)| *epoch == chain.epoch);
        recovered.current = (chain.epoch, current.map_or(0, |(_, next, _)| *next));
        recovered.cursors = chain.cursors.values().cloned().collect();
        chain.begin_database()?;
        Ok((chain, recovered))
    }

    /// Takes a directory that a former start left into the chain, or sets it aside.
    fn recover(&mut self, number: u32, recovered: &mut Recovered) -> Result<(), SpoolError> {
        let path = self.path(number);
        let known = index_log::read(&path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "index of a database is not readable");
            None
        });
        // What is not whole is read before sled touches it.
        let whole = log_file::is_whole(&path);
        let mut saved = match whole {
            Ok(false) => saved_blocks(&path, known.as_ref()),
            Ok(true) | Err(_) => BTreeMap::new(),
        };
        match Database::open(&path) {
            // Not kept open: there may be many, and they are drained one after the other.
            Ok((_, contents)) => {
                self.take_over(number, known, contents, saved, recovered);
                Ok(())
            }
            Err(error) if error.is_damage() => {
                if !matches!(whole, Ok(false)) {
                    saved = saved_blocks(&path, known.as_ref());
                }
                let aside = path.with_extension(QUARANTINE);
                std::fs::rename(&path, &aside).map_err(|source| SpoolError::Directory {
                    path: path.clone(),
                    source,
                })?;
                tracing::error!(directory = %aside.display(), %error, blocks_saved = saved.len(), "database of the spool is damaged and set aside; blocks that could not be saved are told as lost");
                recovered.quarantined.push(aside);
                if let Some(known) = &known {
                    for cursor in &known.cursors {
                        self.cursors.insert((cursor.node, cursor.boot), cursor.clone());
                    }
                    self.hear_again(known.blocks.values().map(|stored| &stored.index));
                }
                self.restore(saved, known.as_ref(), recovered);
                Ok(())
            }
            Err(error) => Err(SpoolError::Database {
                path,
                reason: error.to_string(),
            }),
        }
    }

    /// Keeps the newest of the databases that are set aside; returns how many others there were. What was in
    /// them has been saved, or is told as lost by the index beside them.
    fn discard_quarantined(&self) -> u64 {
        let names = numbered(&self.directory).unwrap_or_default();
        let aside = names.iter().filter(|(_, ending)| ending == QUARANTINE);
        let aside: Vec<PathBuf> = aside
            .map(|(number, _)| self.path(*number).with_extension(QUARANTINE))
            .collect();
        let surplus = aside.len().saturating_sub(QUARANTINED_MAX);
        let mut discarded = 0;
        for path in &aside[..surplus] {
            match std::fs::remove_dir_all(path) {
                Ok(()) => {
                    tracing::warn!(directory = %path.display(), kept = QUARANTINED_MAX, "the oldest database that was set aside is removed: no more are kept");
                    discarded += 1;
                }
                Err(error) => {
                    tracing::warn!(directory = %path.display(), %error, "a database that was set aside is not removed");
                }
            }
        }
        discarded
    }

    /// Takes an opened database into the chain, and what it has lost.
    fn take_over(
        &mut self,
        number: u32,
        known: Option<Known>,
        contents: Contents,
        mut saved: BTreeMap<BlockKey, Bytes>,
        recovered: &mut Recovered,
    ) {
        let path = self.path(number);
        let Contents {
            format,
            epoch,
            mut blocks,
            acknowledged,
            cursors,
        } = contents;
        let mut named = known
            .filter(|known| known.format == FORMAT && known.epoch == epoch)
            .unwrap_or_else(|| Known {
                format,
                epoch,
                cursors: cursors.clone(),
                blocks: BTreeMap::new(),
            });
        let mut absent: BTreeMap<u64, Stored> = named
            .blocks
            .iter()
            .filter(|(sequence, _)| !blocks.contains_key(sequence))
            .map(|(sequence, stored)| (*sequence, stored.clone()))
            .collect();
        let has_unnamed = blocks.keys().any(|sequence| !named.blocks.contains_key(sequence));
        if has_unnamed && format == FORMAT {
            // A crash came between the two, or the index is damaged. From now on these blocks count.
            named.blocks.extend(
                blocks
                    .iter()
                    .map(|(sequence, stored)| (*sequence, stored.clone())),
            );
            if let Err(error) = index_log::rewrite(&path, &named) {
                tracing::warn!(path = %path.display(), %error, "index of a database not completed; until it is, blocks that it does not name are not missed when they are damaged");
            }
        }
        for cursor in cursors {
            self.cursors.insert((cursor.node, cursor.boot), cursor);
        }
        self.hear_again(absent.values().map(|stored| &stored.index));
        absent.retain(|sequence, _| !acknowledged.received.contains(*sequence));
        saved.retain(|key, _| {
            key.epoch == epoch
                && !blocks.contains_key(&key.sequence)
                && !acknowledged.received.contains(key.sequence)
        });
        if !absent.is_empty() || !saved.is_empty() {
            tracing::error!(directory = %path.display(), blocks_absent = absent.len(), blocks_saved = saved.len(), "database of the spool has lost blocks; those that could not be saved, and no other has, are told as lost");
        }
        let absences = absent.keys().copied().collect();
        blocks.extend(absent);
        self.admit(number, epoch, blocks, acknowledged, recovered);
        if let Some(member) = self.members.get_mut(&number) {
            member.absent = absences;
        }
        self.restore(saved, Some(&named), recovered);
    }

    /// What blocks held has been taken in, though the cursors that said so are gone.
    fn hear_again<'a>(&mut self, indexes: impl Iterator<Item = &'a Index>) {
        let class = self.class;
        for (node, boot, _, ranges) in indexes
            .flat_map(|index| &index.frames)
            .filter(|(_, _, of, _)| *of == class)
        {
            let cursor = self.cursors.entry((*node, *boot)).or_insert_with(|| Cursor {
                node: *node,
                boot: *boot,
                received: [SequenceSet::new(), SequenceSet::new()],
                channels: Vec::new(),
                fix: None,
            });
            for range in ranges {
                // One range too many is left out: its frames are taken in twice, and told apart later.
                let _ = cursor.received[class.index()].insert_range(*range);
            }
        }
    }

    /// Stores blocks anew that damage would have taken; without success they are told as lost.
    fn restore(
        &mut self,
        saved: BTreeMap<BlockKey, Bytes>,
        known: Option<&Known>,
        recovered: &mut Recovered,
    ) {
        let mut epochs: BTreeMap<Epoch, Vec<Block>> = BTreeMap::new();
        for (key, bytes) in saved {
            let stored = known
                .filter(|known| known.epoch == key.epoch)
                .and_then(|known| known.blocks.get(&key.sequence));
            let index = stored.map_or_else(|| index_of(&bytes), |stored| stored.index.clone());
            epochs
                .entry(key.epoch)
                .or_default()
                .push(Block { key, bytes, index });
        }
        for (epoch, blocks) in epochs {
            let number = self.next_number;
            let path = self.path(number);
            if let Err(error) = restore(&path, epoch, &blocks) {
                tracing::error!(path = %path.display(), %error, blocks = blocks.len(), "blocks saved from a damaged database could not be stored anew and are told as lost");
                if let Err(error) = remove(&path) {
                    tracing::debug!(path = %path.display(), %error, "unfinished database not removed");
                }
                continue;
            }
            self.next_number = number.saturating_add(1);
            let blocks = blocks.iter().map(|block| (block.key.sequence, Stored::of(block)));
            self.admit(
                number,
                epoch,
                blocks.collect(),
                Acknowledged::default(),
                recovered,
            );
        }
    }

    /// Takes the index of a database that is set aside into the chain: its blocks are held until
    /// their tombstones are.
    fn recover_index(&mut self, number: u32, recovered: &mut Recovered) {
        let path = self.path(number);
        match index_log::read(&path) {
            Ok(Some(known)) => {
                self.admit(
                    number,
                    known.epoch,
                    known.blocks,
                    Acknowledged::default(),
                    recovered,
                );
                if let Some(member) = self.members.get_mut(&number) {
                    member.is_damaged = true;
                }
            }
            Ok(None) => {
                tracing::error!(path = %path.display(), "index of a database that is set aside is damaged too; the collector will find out what is missing");
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "index of a database that is set aside is not readable");
            }
        }
    }

    fn admit(
        &mut self,
        number: u32,
        epoch: Epoch,
        blocks: BTreeMap<u64, Stored>,
        acknowledged: Acknowledged,
        recovered: &mut Recovered,
    ) {
        let end = blocks.keys().last().map_or(0, |last| last.saturating_add(1));
        let mut left = BTreeSet::new();
        let mut bytes = 0;
        for (sequence, stored) in blocks {
            bytes += u64::from(stored.bytes);
            if !acknowledged.received.contains(sequence) {
                left.insert(sequence);
                let key = BlockKey { epoch, sequence };
                recovered
                    .blocks
                    .entry(key)
                    .or_insert((stored.bytes, stored.index));
            }
        }
        let known = recovered.epoch(epoch);
        known.1 = end.max(acknowledged.received.end()).max(known.1);
        known.2 = acknowledged.journal.map(|mark| mark.name).or(known.2);
        recovered.journals.extend(acknowledged.journal);
        let told = self.acknowledged.entry(epoch).or_default();
        told.join(&acknowledged);
        let path = self.path(number);
        let member = Member {
            epoch,
            left,
            is_ack_fresh: false,
            bytes,
            disk_bytes: disk_bytes(&path) + disk_bytes(&index_log::path_of(&path)),
            fixed_bytes: 0,
            blob_files: blob_files(&path),
            database: None,
            index: None,
            is_damaged: false,
            absent: BTreeSet::new(),
            remains: None,
            is_leaving: false,
        };
        self.insert(number, member);
    }

    pub(super) fn insert(&mut self, number: u32, member: Member) {
        self.by_epoch.entry(member.epoch).or_default().insert(number);
        self.acknowledged.entry(member.epoch).or_default();
        self.members.insert(number, member);
    }

    /// Once every member is known: what others acknowledged, hold as well, or have buried is not left.
    fn settle(&mut self, buried: &[(Epoch, Range)], recovered: &mut Recovered) {
        let good: BTreeSet<BlockKey> = self
            .members
            .values()
            .flat_map(|member| {
                let had = member.left.iter().filter(|&&sequence| !member.lacks(sequence));
                had.map(|&sequence| (member.epoch, sequence))
            })
            .map(|(epoch, sequence)| BlockKey { epoch, sequence })
            .collect();
        let acknowledged = &self.acknowledged;
        let is_settled = |key: &BlockKey| {
            acknowledged
                .get(&key.epoch)
                .is_some_and(|told| told.received.contains(key.sequence))
                || buried.iter().any(|(epoch, range)| {
                    *epoch == key.epoch && (range.first()..range.end()).contains(&key.sequence)
                })
        };
        for member in self.members.values_mut() {
            let epoch = member.epoch;
            let (is_damaged, absent) = (member.is_damaged, &member.absent);
            member.left.retain(|&sequence| {
                let key = BlockKey { epoch, sequence };
                let is_absent = is_damaged || absent.contains(&sequence);
                !(is_settled(&key) || is_absent && good.contains(&key))
            });
        }
        let empty = self.members.iter().filter(|(_, member)| member.left.is_empty());
        self.drained = empty.map(|(number, _)| *number).collect();
        recovered.blocks.retain(|key, _| !is_settled(key));
        for (epoch, range) in buried {
            if let Some(known) = recovered.epochs.iter_mut().find(|known| known.0 == *epoch) {
                known.1 = known.1.max(range.end());
            }
        }
    }
}

/// What a database's log has of the blocks that its index names; of all blocks, when there is no index.
/// A block takes memory once, and a database is a few megabytes.
fn saved_blocks(database: &Path, known: Option<&Known>) -> BTreeMap<BlockKey, Bytes> {
    let is_named = |key: &BlockKey| {
        known.is_none_or(|known| known.epoch == key.epoch && known.blocks.contains_key(&key.sequence))
    };
    match Remains::of(database) {
        Ok(remains) => {
            let blocks = remains.blocks(database).filter(|(key, _)| is_named(key));
            blocks.collect()
        }
        Err(error) => {
            tracing::error!(path = %database.display(), %error, "log of a damaged database is not readable");
            BTreeMap::new()
        }
    }
}

/// Puts blocks of an epoch into a new database; durable when it returns.
pub(in crate::spool) fn restore(path: &Path, epoch: Epoch, blocks: &[Block]) -> Result<(), DatabaseError> {
    let mut index = IndexLog::create(path, epoch, &[])?;
    let mut database = Database::create(path, epoch, &[])?;
    for some in blocks.chunks(RESTORED_AT_A_TIME) {
        database.append(some, &[], None)?;
    }
    database.flush()?;
    Ok(index.append_blocks(blocks)?)
}

/// What a block's frames are, read from the block itself.
pub(in crate::spool) fn index_of(bytes: &[u8]) -> Index {
    let mut index = Index::default();
    let block = trunnion_common::block::Block::parse(bytes);
    match block
        .as_ref()
        .map_err(|reason| *reason)
        .and_then(|block| block.decode())
    {
        Ok(Body::Frames(records)) => {
            for record in records.map_while(Result::ok) {
                if let Ok(frame) = RawFrame::parse(record.frame) {
                    let samples = frame.payload().ok().as_ref().and_then(intake::samples);
                    // A block is closed before its index is full.
                    index.add(frame.header(), samples);
                    let bytes = encode(&record);
                    StandIn::add(&mut index.stand_in, frame.header(), record.frame, &bytes);
                }
            }
        }
        Ok(Body::Tombstone(tombstone)) => index.buries = Some((tombstone.epoch, tombstone.blocks)),
        _ => {}
    }
    if let Ok(block) = block
        && let Some(kind) = Kind::from_number(block.envelope.kind)
    {
        index.stand_in = index.stand_in.or_else(|| StandIn::of(kind, block.body));
    }
    index
}
