//! One of the two chains: small databases, written at the newest, drained from the oldest.

mod recovery;

pub(super) use recovery::{index_of, restore};

use super::database::{Acknowledged, Database, DatabaseError};
use super::index_log::{self, IndexLog};
use super::log_file::Remains;
use super::{ReadError, SpoolError};
use crate::block::{Block, BlockKey};
use crate::intake::{BootKey, Cursor};
use crate::retention::{Directory, DirectoryState};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use trunnion_common::ack::{EPOCHS_MAX, JournalMark};
use trunnion_common::frame::Class;
use trunnion_common::id::Epoch;
use trunnion_common::sequence::SequenceSet;

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
    /// As of its opening or closing.
    blob_files: u64,
    database: Option<Database>,
    index: Option<IndexLog>,
    /// Set aside: only its index is left.
    is_damaged: bool,
    /// Blocks that its index names and that are not in it any more.
    absent: BTreeSet<u64>,
    /// What its log still has of blocks, once one could not be read.
    remains: Option<Remains>,
    is_leaving: bool,
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
        Ok(())
    }

    /// Frees what the collector has made durable.
    pub(super) fn acknowledge(&mut self, epoch: Epoch, received: &SequenceSet, journal: JournalMark) {
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
    }

    /// A block's bytes, checked.
    pub(super) fn read(&mut self, key: BlockKey) -> Result<Bytes, ReadError> {
        let Some(number) = self.find(key) else {
            return Err(ReadError::Lost("no database of the spool holds it".to_owned()));
        };
        if self.members[&number].lacks(key.sequence) {
            return Err(ReadError::Lost(
                "its database is damaged and does not have it any more".to_owned(),
            ));
        }
        let fault = match self
            .open_for_reading(number)
            .and_then(|database| database.read(key.sequence))
        {
            Ok(bytes) => match trunnion_common::block::Block::parse(&bytes) {
                Ok(block) if (block.envelope.epoch, block.envelope.sequence) == (key.epoch, key.sequence) => {
                    return Ok(bytes.into());
                }
                Ok(_) => "another block stands in its place".to_owned(),
                Err(reason) => reason.to_string(),
            },
            Err(error) if error.is_damage() => error.to_string(),
            Err(error) => return Err(ReadError::Later(error.to_string())),
        };
        // sled gives up a page for one part of it that is damaged, and the page has other blocks, too.
        self.read_remains(number, key).ok_or(ReadError::Lost(fault))
    }

    /// A block from its database's log, past sled.
    fn read_remains(&mut self, number: u32, key: BlockKey) -> Option<Bytes> {
        let path = self.path(number);
        let member = self.members.get_mut(&number)?;
        if member.remains.is_none() {
            member.remains = Remains::of(&path).ok();
        }
        member.remains.as_ref()?.read(&path, key)
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

    /// Files that hold values outside of the databases' logs.
    pub(super) fn blob_files(&self) -> u64 {
        self.members.values().map(|member| member.blob_files).sum()
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

    /// Gives a directory up, whatever is in it.
    pub(super) fn evict(&mut self, number: u32) {
        if Some(number) != self.head
            && let Some(member) = self.members.get_mut(&number)
        {
            member.left.clear();
            self.drained.insert(number);
        }
    }

    /// Sizes databases so that one is a small part of what the chain may take.
    pub(super) fn set_quota(&mut self, bytes: u64) {
        self.database_bytes = (bytes / 16).clamp(DATABASE_BYTES_MIN, DATABASE_BYTES);
    }

    /// Ends the database being written and begins the next.
    pub(super) fn close_head(&mut self) -> Result<(), SpoolError> {
        self.begin_database()?;
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
            .filter(|(_, member)| !member.lacks(key.sequence));
        let numbers = || self.by_epoch.get(&key.epoch).into_iter().flatten().copied();
        // A commit that was tried again can stand in two databases, as what was saved from damage does.
        let found = open.or_else(|| {
            numbers()
                .filter_map(holder)
                .min_by_key(|(_, member)| member.lacks(key.sequence))
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
        let begun = IndexLog::create(&path, self.epoch, &cursors)
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
        if let Some(head) = self.head.take() {
            let blobs = blob_files(&self.path(head));
            let former = self.members.get_mut(&head).expect("the head is a member");
            former.database = None;
            former.index = None;
            former.blob_files = blobs;
            if blobs > 0 {
                tracing::error!(
                    directory = head,
                    blobs,
                    "values of the spool lie in files that are never made durable"
                );
            }
        }
        let disk_bytes = disk_bytes(&path) + disk_bytes(&index_log::path_of(&path));
        let mut member = Member {
            epoch: self.epoch,
            left: BTreeSet::new(),
            is_ack_fresh: false,
            bytes: 0,
            disk_bytes,
            fixed_bytes: 0,
            blob_files: 0,
            database: Some(database),
            index: Some(index),
            is_damaged: false,
            absent: BTreeSet::new(),
            remains: None,
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
                former.remains = None;
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

    /// The directories, but for the newest, of which nothing is left to send.
    pub(super) fn drained(&self) -> impl Iterator<Item = u32> {
        // The newest cursors may stand in a former head as long as no other has taken them over.
        let removable = |number: &u32| self.head.is_some_and(|head| head != *number);
        self.drained.iter().copied().filter(removable)
    }

    /// Removes those. What their databases say of journals must be on disk elsewhere.
    pub(super) fn remove_drained(&mut self) {
        let drained: Vec<u32> = self.drained().collect();
        for number in drained {
            let path = self.path(number);
            if self.reader == Some(number) {
                self.reader = None;
            }
            // sled lets go of its files when the database is dropped.
            let is_damaged = self.remove_member(number).is_some_and(|member| member.is_damaged);
            let removed = if is_damaged {
                settle_index(&path)
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

    /// Whether a block that it is said to hold cannot be had from it.
    fn lacks(&self, sequence: u64) -> bool {
        self.is_damaged || self.absent.contains(&sequence)
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
        let fresh_ack = acknowledged.filter(|_| self.is_ack_fresh);
        database.append(blocks, cursors, fresh_ack)?;
        database.flush()?;
        // Last: what the index names has been on disk, and is missed when it is gone.
        Ok(index.append_blocks(blocks)?)
    }
}

/// Files in which sled put values that are too large for its log. It never synchronises them.
fn blob_files(database: &Path) -> u64 {
    std::fs::read_dir(database.join("blobs")).map_or(0, |files| files.count() as u64)
}

/// Puts the index of a database that is set aside, and owes nothing any more, to the rest of it; it goes when
/// that is gone.
fn settle_index(database: &Path) -> io::Result<()> {
    let index = index_log::path_of(database);
    let aside = database.with_extension(QUARANTINE);
    if aside.is_dir() {
        std::fs::rename(index, aside.join("index"))
    } else {
        std::fs::remove_file(index)
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
