//! One of the two chains: small databases, written at the newest, drained from the oldest.

use super::database::{Acknowledged, Contents, Database, DatabaseError, Stored};
use super::index_log::{self, IndexLog};
use super::{ReadError, SpoolError};
use crate::block::{Block, BlockKey, Index};
use crate::intake::{BootKey, Cursor};
use crate::retention::{Directory, DirectoryState};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use trunnion_common::ack::EPOCHS_MAX;
use trunnion_common::frame::Class;
use trunnion_common::id::{Epoch, JournalId};
use trunnion_common::sequence::{Range, SequenceSet};

/// Bytes of blocks after which the next database is begun, unless the quota asks for smaller ones.
pub(super) const DATABASE_BYTES: u64 = 16 << 20;

/// Smaller databases are mostly sled's own overhead.
const DATABASE_BYTES_MIN: u64 = 1 << 20;

/// Epochs of one chain that a hello has room for.
const CHAIN_EPOCHS_MAX: usize = EPOCHS_MAX / 2;

/// Name of a directory that was set aside.
pub(super) const QUARANTINE: &str = "quarantine";

/// An open chain.
#[derive(Debug)]
pub(super) struct Chain {
    class: Class,
    directory: PathBuf,
    epoch: Epoch,
    members: BTreeMap<u32, Member>,
    /// The members of each epoch.
    by_epoch: BTreeMap<Epoch, BTreeSet<u32>>,
    /// What the collector has said of each epoch that has members.
    acknowledged: BTreeMap<Epoch, Acknowledged>,
    /// Members with nothing left to send: all but the head may be removed.
    drained: BTreeSet<u32>,
    /// The newest, which is written; none after a disk error, until the next commit begins another.
    head: Option<u32>,
    /// The one member beside the head that is open for reading.
    reader: Option<u32>,
    /// This class's part of the cursors.
    cursors: BTreeMap<BootKey, Cursor>,
    database_bytes: u64,
    next_number: u32,
}

/// One database of the chain.
#[derive(Debug)]
struct Member {
    epoch: Epoch,
    /// Not yet acknowledged.
    left: BTreeSet<u64>,
    /// Whether more is acknowledged than its database says.
    is_ack_fresh: bool,
    /// Of its blocks.
    bytes: u64,
    disk_bytes: u64,
    /// Of `disk_bytes`, what does not grow with the blocks.
    fixed_bytes: u64,
    database: Option<Database>,
    index: Option<IndexLog>,
    /// Set aside: only its index is left.
    is_damaged: bool,
    is_leaving: bool,
}

/// What a chain held when it was opened.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) blocks: BTreeMap<BlockKey, (u32, Index)>,
    /// Oldest first: sequence after the last block, and who freed blocks of it.
    pub(super) epochs: Vec<(Epoch, u64, Option<JournalId>)>,
    pub(super) cursors: Vec<Cursor>,
    pub(super) quarantined: Vec<PathBuf>,
    /// The epoch of new blocks and the sequence of the first.
    pub(super) current: (Epoch, u64),
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

/// Numbers of the databases in a chain's directory, with the ending of each name.
pub(super) fn numbered(directory: &Path) -> io::Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let Some((digits, ending)) = name
            .to_str()
            .map(|name| name.split_once('.').unwrap_or((name, "")))
        else {
            continue;
        };
        if digits.len() == 8
            && let Ok(number) = digits.parse()
        {
            found.push((number, ending.to_owned()));
        }
    }
    found.sort();
    Ok(found)
}

/// Bytes of disk that a file or directory takes.
pub(super) fn disk_bytes(path: &Path) -> u64 {
    let Ok(meta) = std::fs::symlink_metadata(path) else {
        return 0;
    };
    let own = meta.blocks().saturating_mul(512);
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    own + entries.map(|entry| disk_bytes(&entry.path())).sum::<u64>()
}

impl Chain {
    /// Opens the chain in `directory`. `buried` blocks have tombstones in the other chain already.
    pub(super) fn open(
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
            quarantined: Vec::new(),
        };
        for (number, _) in names.iter().filter(|(_, ending)| ending.is_empty()) {
            chain.recover(*number, &mut recovered)?;
        }
        for (number, _) in names.iter().filter(|(_, ending)| ending == "index") {
            if !chain.members.contains_key(number) {
                chain.recover_index(*number, &mut recovered);
            }
        }
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
        chain.remove_drained();
        Ok((chain, recovered))
    }

    /// Takes a directory that a former start left into the chain, or sets it aside.
    fn recover(&mut self, number: u32, recovered: &mut Recovered) -> Result<(), SpoolError> {
        let path = self.path(number);
        let contents = match Database::open(&path) {
            // Not kept open: there may be many, and they are drained one after the other.
            Ok((_, contents)) => contents,
            Err(error) if error.is_damage() => {
                let aside = path.with_extension(QUARANTINE);
                std::fs::rename(&path, &aside).map_err(|source| SpoolError::Directory {
                    path: path.clone(),
                    source,
                })?;
                tracing::error!(directory = %aside.display(), %error, "database of the spool is damaged and set aside; `trunnion-agent spool salvage` may save blocks before they are told as lost");
                recovered.quarantined.push(aside);
                return Ok(());
            }
            Err(error) => {
                return Err(SpoolError::Database {
                    path,
                    reason: error.to_string(),
                });
            }
        };
        let Contents {
            epoch,
            blocks,
            acknowledged,
            cursors,
        } = contents;
        for cursor in cursors {
            self.cursors.insert((cursor.node, cursor.boot), cursor);
        }
        self.admit(number, epoch, blocks, acknowledged, recovered);
        Ok(())
    }

    /// Takes the index of a database that is set aside into the chain: its blocks are held until
    /// their tombstones are.
    fn recover_index(&mut self, number: u32, recovered: &mut Recovered) {
        let path = self.path(number);
        match index_log::read(&path) {
            Ok(Some((epoch, blocks))) => {
                self.admit(number, epoch, blocks, Acknowledged::default(), recovered);
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
        known.2 = acknowledged.journal.or(known.2);
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
            database: None,
            index: None,
            is_damaged: false,
            is_leaving: false,
        };
        self.insert(number, member);
    }

    fn insert(&mut self, number: u32, member: Member) {
        self.by_epoch.entry(member.epoch).or_default().insert(number);
        self.acknowledged.entry(member.epoch).or_default();
        self.members.insert(number, member);
    }

    /// Once every member is known: what others acknowledged, hold as well, or have buried is not left.
    fn settle(&mut self, buried: &[(Epoch, Range)], recovered: &mut Recovered) {
        let healthy = |member: &&Member| !member.is_damaged;
        let good: BTreeSet<BlockKey> = self
            .members
            .values()
            .filter(healthy)
            .flat_map(|member| member.left.iter().map(|&sequence| (member.epoch, sequence)))
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
            let is_damaged = member.is_damaged;
            member.left.retain(|&sequence| {
                let key = BlockKey { epoch, sequence };
                !(is_settled(&key) || is_damaged && good.contains(&key))
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

    /// Stores blocks and cursors; durable when it returns `Ok`. On an error nothing of it counts: the
    /// same commit may be tried again, and goes to a new database then.
    pub(super) fn commit(&mut self, blocks: &[Block], cursors: &[Cursor]) -> Result<(), SpoolError> {
        let is_full = |member: &Member| member.bytes >= self.database_bytes;
        let head = match self.head {
            Some(head) if self.members.get(&head).is_some_and(|member| !is_full(member)) => head,
            _ => self.begin_database()?,
        };
        let parts: BTreeMap<BootKey, Cursor> = cursors
            .iter()
            .map(|cursor| ((cursor.node, cursor.boot), cursor.part(self.class)))
            .collect();
        let changed: Vec<Cursor> = parts
            .iter()
            .filter(|(key, part)| self.cursors.get(key) != Some(part))
            .map(|(_, part)| part.clone())
            .collect();
        let path = self.path(head);
        let acknowledged = self.acknowledged.get(&self.epoch);
        let member = self.members.get_mut(&head).expect("the head is a member");
        if let Err(error) = member.write(blocks, &changed, acknowledged) {
            // sled does not recover from a failed write; what it has stored stays readable from disk.
            member.database = None;
            member.index = None;
            member.disk_bytes = disk_bytes(&path) + disk_bytes(&index_log::path_of(&path));
            self.head = None;
            if member.left.is_empty() {
                self.drained.insert(head);
            }
            return Err(SpoolError::Database {
                path,
                reason: error.to_string(),
            });
        }
        member.is_ack_fresh = false;
        for block in blocks {
            if member.left.insert(block.key.sequence) {
                member.bytes += block.bytes.len() as u64;
            }
        }
        member.disk_bytes = member.fixed_bytes + member.grown_bytes();
        if !member.left.is_empty() {
            self.drained.remove(&head);
        }
        self.cursors = parts;
        self.remove_drained();
        Ok(())
    }

    /// Frees what the collector has made durable.
    pub(super) fn acknowledge(&mut self, epoch: Epoch, received: &SequenceSet, journal: JournalId) {
        let Some(numbers) = self.by_epoch.get(&epoch) else {
            return;
        };
        let acknowledged = Acknowledged {
            received: received.clone(),
            journal: Some(journal),
        };
        for number in numbers {
            let member = self.members.get_mut(number).expect("it is listed");
            member.is_ack_fresh = true;
            if !member.free(received) {
                continue;
            }
            if member.left.is_empty() {
                self.drained.insert(*number);
            } else if let Some(database) = &member.database
                // Only an abbreviation: what is acknowledged again after a crash is told by the collector.
                && database.acknowledge(&acknowledged).is_ok()
            {
                member.is_ack_fresh = false;
            }
        }
        self.acknowledged.insert(epoch, acknowledged);
        self.remove_drained();
    }

    /// A block's bytes, checked.
    pub(super) fn read(&mut self, key: BlockKey) -> Result<Bytes, ReadError> {
        let Some(number) = self.find(key) else {
            return Err(ReadError::Lost("no database of the spool holds it".to_owned()));
        };
        let bytes = self
            .open_for_reading(number)
            .and_then(|database| database.read(key.sequence))
            .map_err(|error| {
                if error.is_damage() {
                    ReadError::Lost(error.to_string())
                } else {
                    ReadError::Later(error.to_string())
                }
            })?;
        match trunnion_common::block::Block::parse(&bytes) {
            Ok(block) if block.envelope.epoch == key.epoch && block.envelope.sequence == key.sequence => {
                Ok(bytes.into())
            }
            Ok(_) => Err(ReadError::Lost("another block stands in its place".to_owned())),
            Err(reason) => Err(ReadError::Lost(reason.to_string())),
        }
    }

    /// What can be read of a block, checked or not.
    pub(super) fn read_raw(&mut self, key: BlockKey) -> Vec<u8> {
        self.find(key)
            .and_then(|number| self.open_for_reading(number).ok()?.read(key.sequence).ok())
            .unwrap_or_default()
    }

    /// Takes a block out of the chain that has a tombstone on disk.
    pub(super) fn forget(&mut self, key: BlockKey) {
        for number in self.by_epoch.get(&key.epoch).into_iter().flatten() {
            let member = self.members.get_mut(number).expect("it is listed");
            if member.left.remove(&key.sequence) && member.left.is_empty() {
                self.drained.insert(*number);
            }
        }
        self.remove_drained();
    }

    /// Whether a block of that epoch and sequence is in the chain.
    pub(super) fn holds(&self, key: BlockKey) -> bool {
        self.find(key).is_some()
    }

    /// The directories, oldest first; those that are damaged count as quarantine.
    pub(super) fn directories(&self) -> impl Iterator<Item = Directory> + '_ {
        let members = self.members.iter().filter(|(_, member)| !member.is_damaged);
        members.map(|(&number, member)| Directory {
            number,
            bytes: member.disk_bytes,
            state: match self.head {
                _ if member.is_leaving => DirectoryState::Leaving,
                Some(head) if head == number && member.bytes == 0 => DirectoryState::Empty,
                Some(head) if head == number => DirectoryState::Written,
                _ => DirectoryState::Closed,
            },
        })
    }

    /// Announces that a directory will be evicted: the blocks in it that are not acknowledged.
    pub(super) fn begin_eviction(&mut self, number: u32) -> Vec<BlockKey> {
        let Some(member) = self.members.get_mut(&number) else {
            return Vec::new();
        };
        member.is_leaving = true;
        let epoch = member.epoch;
        let key = |&sequence: &u64| BlockKey { epoch, sequence };
        member.left.iter().map(key).collect()
    }

    /// Removes a directory, whatever is in it.
    pub(super) fn evict(&mut self, number: u32) {
        if Some(number) != self.head
            && let Some(member) = self.members.get_mut(&number)
        {
            member.left.clear();
            self.drained.insert(number);
        }
        self.remove_drained();
    }

    /// Sizes databases so that one is a small part of what the chain may take.
    pub(super) fn set_quota(&mut self, bytes: u64) {
        self.database_bytes = (bytes / 16).clamp(DATABASE_BYTES_MIN, DATABASE_BYTES);
    }

    /// Ends the database being written and begins the next.
    pub(super) fn close_head(&mut self) -> Result<(), SpoolError> {
        self.begin_database()?;
        self.remove_drained();
        Ok(())
    }

    fn find(&self, key: BlockKey) -> Option<u32> {
        let holder = |number: u32| {
            let member = self.members.get(&number)?;
            (member.epoch == key.epoch && member.left.contains(&key.sequence)).then_some((number, member))
        };
        // Blocks are asked for in their order: the database that is open has the next one, too.
        let open = self
            .reader
            .and_then(holder)
            .filter(|(_, member)| !member.is_damaged);
        let numbers = || self.by_epoch.get(&key.epoch).into_iter().flatten().copied();
        // A commit that was tried again can stand in two databases.
        let found = open.or_else(|| {
            numbers()
                .filter_map(holder)
                .min_by_key(|(_, member)| member.is_damaged)
        });
        found.map(|(number, _)| number)
    }

    fn path(&self, number: u32) -> PathBuf {
        self.directory.join(format!("{number:08}"))
    }

    fn begin_database(&mut self) -> Result<u32, SpoolError> {
        let number = self.next_number;
        let path = self.path(number);
        let cursors: Vec<Cursor> = self.cursors.values().cloned().collect();
        let begun = IndexLog::create(&path, self.epoch)
            .map_err(DatabaseError::from)
            .and_then(|index| Ok((index, Database::create(&path, self.epoch, &cursors)?)));
        let (index, database) = begun.map_err(|error| {
            // Half a database would be taken for a damaged one at the next start.
            if let Err(error) = remove(&path) {
                tracing::debug!(path = %path.display(), %error, "unfinished database not removed");
            }
            SpoolError::Database {
                path: path.clone(),
                reason: error.to_string(),
            }
        })?;
        self.next_number = number.saturating_add(1);
        if let Some(former) = self.head.take().and_then(|head| self.members.get_mut(&head)) {
            former.database = None;
            former.index = None;
        }
        let disk_bytes = disk_bytes(&path) + disk_bytes(&index_log::path_of(&path));
        let mut member = Member {
            epoch: self.epoch,
            left: BTreeSet::new(),
            is_ack_fresh: false,
            bytes: 0,
            disk_bytes,
            fixed_bytes: 0,
            database: Some(database),
            index: Some(index),
            is_damaged: false,
            is_leaving: false,
        };
        member.fixed_bytes = disk_bytes.saturating_sub(member.grown_bytes());
        self.insert(number, member);
        self.drained.insert(number);
        self.head = Some(number);
        Ok(number)
    }

    fn open_for_reading(&mut self, number: u32) -> Result<&Database, DatabaseError> {
        let path = self.path(number);
        if self.reader != Some(number) && self.head != Some(number) {
            if let Some(former) = self
                .reader
                .take()
                .and_then(|reader| self.members.get_mut(&reader))
            {
                former.database = None;
            }
            self.reader = Some(number);
        }
        let member = self
            .members
            .get_mut(&number)
            .filter(|member| !member.is_damaged)
            .ok_or(DatabaseError::Damaged("database"))?;
        match &mut member.database {
            Some(database) => Ok(database),
            empty => Ok(empty.insert(Database::reopen(&path)?)),
        }
    }

    fn remove_member(&mut self, number: u32) -> Option<Member> {
        self.drained.remove(&number);
        let member = self.members.remove(&number)?;
        if let Some(numbers) = self.by_epoch.get_mut(&member.epoch) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_epoch.remove(&member.epoch);
                self.acknowledged.remove(&member.epoch);
            }
        }
        Some(member)
    }

    /// Removes every directory, but the newest, of which nothing is left to send.
    fn remove_drained(&mut self) {
        // The newest cursors may stand in a former head as long as no other has taken them over.
        if self.head.is_none() {
            return;
        }
        let drained: Vec<u32> = self
            .drained
            .iter()
            .copied()
            .filter(|number| Some(*number) != self.head)
            .collect();
        for number in drained {
            let path = self.path(number);
            if self.reader == Some(number) {
                self.reader = None;
            }
            // sled lets go of its files when the database is dropped.
            let is_damaged = self.remove_member(number).is_some_and(|member| member.is_damaged);
            let removed = if is_damaged {
                let index = index_log::path_of(&path);
                std::fs::rename(index, path.with_extension(QUARANTINE).join("index"))
            } else {
                remove(&path)
            };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "drained database not removed; its blocks will be sent again after a restart");
            }
        }
    }
}

impl Member {
    /// Takes out what the collector has; whether there was any.
    fn free(&mut self, received: &SequenceSet) -> bool {
        let before = self.left.len();
        while self.left.first().is_some_and(|&first| first < received.upto()) {
            self.left.pop_first();
        }
        for range in received.ranges() {
            let gone: Vec<u64> = self.left.range(range.first()..range.end()).copied().collect();
            for sequence in gone {
                self.left.remove(&sequence);
            }
        }
        self.left.len() < before
    }

    /// Bytes of disk of the files that grow with the blocks.
    fn grown_bytes(&self) -> u64 {
        let database = self.database.as_ref().map_or(0, Database::disk_bytes);
        database + self.index.as_ref().map_or(0, IndexLog::disk_bytes)
    }

    fn write(
        &mut self,
        blocks: &[Block],
        cursors: &[Cursor],
        acknowledged: Option<&Acknowledged>,
    ) -> Result<(), DatabaseError> {
        let database = self.database.as_mut().expect("the head is open");
        let index = self.index.as_mut().expect("the head's index is open");
        index.append_blocks(blocks)?;
        let fresh_ack = acknowledged.filter(|_| self.is_ack_fresh);
        database.append(blocks, cursors, fresh_ack)?;
        database.flush()
    }
}

/// Removes a database and then its index; either may be missing.
fn remove(database: &Path) -> io::Result<()> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    };
    gone(std::fs::remove_dir_all(database))?;
    gone(std::fs::remove_file(index_log::path_of(database)))?;
    File::open(database.parent().unwrap_or(database))?.sync_all()
}
