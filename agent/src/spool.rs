//! The spool: blocks on disk until the collector has them.
//!
//! A chain of small sled databases, `spool/00000017/` and so on: written at the newest, drained from
//! the oldest, a whole directory removed once all of its blocks are acknowledged. That bounds memory,
//! gives disk space back, keeps opening fast, and confines damage to one directory. Every start of the
//! agent begins a new directory with an epoch of its own; what former starts left drains under theirs.
//!
//! A commit is durable when [`Spool::commit`] returns: blocks, and the intake cursors that go with
//! them, in one batch, flushed through the drive's cache. Only then may a node be acknowledged and a
//! block be published.

mod database;
mod worker;

pub use worker::{Commit, Reply, Request, Requests, spawn};

use crate::block::{Block, BlockKey, Index};
use crate::intake::{BootKey, Cursor};
use bytes::Bytes;
use database::{Acknowledged, Contents, Database, DatabaseError};
use rustix::fs::{FlockOperation, flock};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use trunnion_common::ack::EPOCHS_MAX;
use trunnion_common::id::{Epoch, JournalId};
use trunnion_common::sequence::SequenceSet;

/// Bytes of blocks after which the next database is begun.
const DATABASE_BYTES: u64 = 64 << 20;

/// Most refused or unreadable blocks kept for inspection.
const QUARANTINE_MAX: usize = 256;

/// An open spool. All of its methods block on the disk.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    /// Locked for as long as the spool is open.
    _lock: File,
    epoch: Epoch,
    members: BTreeMap<u32, Member>,
    /// The newest, which is written; none after a disk error, until the next commit begins another.
    head: Option<u32>,
    /// The one member beside the head that is open for reading.
    reader: Option<u32>,
    cursors: BTreeMap<BootKey, Cursor>,
}

/// One database of the chain.
#[derive(Debug)]
struct Member {
    epoch: Epoch,
    /// Not yet acknowledged.
    left: BTreeSet<u64>,
    acknowledged: Acknowledged,
    /// Whether `acknowledged` is newer than on disk.
    is_ack_fresh: bool,
    bytes: u64,
    database: Option<Database>,
}

/// What a spool held when it was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The epoch that new blocks get, and the sequence of the first.
    pub epoch: Option<(Epoch, u64)>,
    /// Blocks that are not acknowledged: their length and content.
    pub blocks: BTreeMap<BlockKey, (u32, Index)>,
    /// Per epoch with such blocks: the sequence after its last, and who freed blocks of it.
    pub epochs: BTreeMap<Epoch, (u64, Option<JournalId>)>,
    /// Where the intake stood.
    pub cursors: Vec<Cursor>,
    /// Directories that could not be read and were set aside.
    pub quarantined: Vec<PathBuf>,
}

/// Why the spool cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A file or directory.
    #[error("the spool at {path}: {source}; check that the directory exists, is writable and has room")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error(
        "the spool at {path} is in use by another process: stop the other agent, or give this one a state_dir of its own"
    )]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// A database.
    #[error("the spool's database {path}: {reason}")]
    Database {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why a block cannot be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// It is gone, or not what was written: trying again will not help.
    #[error("unreadable: {0}")]
    Lost(String),
    /// The disk failed to answer: it may do so later.
    #[error("not readable now: {0}")]
    Later(String),
}

impl Spool {
    /// Opens the spool in `state_dir`, which is created if need be. `fresh` becomes the epoch of new
    /// blocks, unless so many former ones are left that a hello could not list another: then the newest
    /// of them is continued.
    pub fn open(state_dir: &Path, fresh: Epoch) -> Result<(Self, Recovered), SpoolError> {
        let directory = state_dir.join("spool");
        let failed = |source| SpoolError::Directory {
            path: directory.clone(),
            source,
        };
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let lock = File::create(directory.join("lock")).map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => SpoolError::InUse {
                path: directory.clone(),
            },
            error => failed(error.into()),
        })?;
        let mut spool = Self {
            _lock: lock,
            epoch: fresh,
            members: BTreeMap::new(),
            head: None,
            reader: None,
            cursors: BTreeMap::new(),
            directory: directory.clone(),
        };
        let mut recovered = Recovered::default();
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            // Anything not named like a database (quarantined ones, say) is not this chain's.
            let digits = name
                .to_str()
                .filter(|name| name.len() == 8 && name.bytes().all(|b| b.is_ascii_digit()));
            numbers.extend(digits.and_then(|digits| digits.parse::<u32>().ok()));
        }
        numbers.sort_unstable();
        for &number in &numbers {
            spool.recover(number, &mut recovered)?;
        }
        let left: BTreeSet<Epoch> = recovered.blocks.keys().map(|key| key.epoch).collect();
        recovered.epochs.retain(|epoch, _| left.contains(epoch));
        if recovered.epochs.len() >= EPOCHS_MAX {
            let newest = spool.members.values().rev().map(|member| member.epoch);
            spool.epoch = newest
                .into_iter()
                .find(|epoch| left.contains(epoch))
                .unwrap_or(fresh);
        }
        let next = recovered.epochs.get(&spool.epoch).map_or(0, |(next, _)| *next);
        recovered.epoch = Some((spool.epoch, next));
        recovered.cursors = spool.cursors.values().cloned().collect();
        spool.begin_database(numbers.last().map_or(0, |last| last + 1))?;
        spool.remove_drained();
        Ok((spool, recovered))
    }

    /// Stores blocks and cursors; durable when it returns `Ok`. On an error nothing of it counts: the
    /// same commit may be tried again, and goes to a new database then.
    pub fn commit(&mut self, blocks: &[Block], cursors: &[Cursor]) -> Result<(), SpoolError> {
        let head = match self.head {
            Some(head) if self.members.get(&head).is_some_and(|m| m.bytes < DATABASE_BYTES) => head,
            _ => {
                let next = self.members.keys().last().map_or(0, |last| last + 1);
                self.begin_database(next)?
            }
        };
        let changed: Vec<Cursor> = cursors
            .iter()
            .filter(|cursor| self.cursors.get(&(cursor.node, cursor.boot)) != Some(cursor))
            .cloned()
            .collect();
        let path = self.path(head);
        let member = self.members.get_mut(&head).expect("the head is a member");
        let database = member.database.as_ref().expect("the head is open");
        let fresh_ack = member.is_ack_fresh.then_some(&member.acknowledged);
        let written = database
            .append(blocks, &changed, fresh_ack)
            .and_then(|()| database.flush());
        if let Err(error) = written {
            // sled does not recover from a failed write; what it has stored stays readable from disk.
            member.database = None;
            self.head = None;
            return Err(SpoolError::Database {
                path,
                reason: error.to_string(),
            });
        }
        member.is_ack_fresh = false;
        for block in blocks {
            member.left.insert(block.key.sequence);
            member.bytes += block.bytes.len() as u64;
        }
        self.cursors = cursors
            .iter()
            .map(|cursor| ((cursor.node, cursor.boot), cursor.clone()))
            .collect();
        self.remove_drained();
        Ok(())
    }

    /// Frees what the collector has made durable.
    pub fn acknowledge(&mut self, epoch: Epoch, received: &SequenceSet, journal: JournalId) {
        for member in self.members.values_mut().filter(|member| member.epoch == epoch) {
            member.left.retain(|sequence| !received.contains(*sequence));
            member.acknowledged = Acknowledged {
                received: received.clone(),
                journal: Some(journal),
            };
            member.is_ack_fresh = true;
            // Only an abbreviation: what is acknowledged again after a crash is told by the collector.
            if !member.left.is_empty()
                && let Some(database) = &member.database
                && database.append(&[], &[], Some(&member.acknowledged)).is_ok()
            {
                member.is_ack_fresh = false;
            }
        }
        self.remove_drained();
    }

    /// A block's bytes, checked.
    pub fn read(&mut self, key: BlockKey) -> Result<Bytes, ReadError> {
        let number = self
            .members
            .iter()
            .find(|(_, member)| member.epoch == key.epoch && member.left.contains(&key.sequence))
            .map(|(number, _)| *number)
            .ok_or_else(|| ReadError::Lost("no database of the spool holds it".to_owned()))?;
        let bytes = self.open_for_reading(number).and_then(|db| db.read(key.sequence));
        let bytes = bytes.map_err(|error| {
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

    /// Takes a block out of the chain whose tombstone has been committed, and keeps what can be read of
    /// it for inspection.
    pub fn bury(&mut self, key: BlockKey) {
        let number = self
            .members
            .iter()
            .find(|(_, member)| member.epoch == key.epoch && member.left.contains(&key.sequence))
            .map(|(number, _)| *number);
        let Some(number) = number else {
            return;
        };
        let bytes = self
            .open_for_reading(number)
            .and_then(|db| db.read(key.sequence))
            .unwrap_or_default();
        if let Err(error) = self.keep_for_inspection(key, &bytes) {
            tracing::warn!(epoch = %key.epoch, sequence = key.sequence, %error, "block not kept for inspection");
        }
        if let Some(member) = self.members.get_mut(&number) {
            member.left.remove(&key.sequence);
        }
        self.remove_drained();
    }

    fn keep_for_inspection(&self, key: BlockKey, bytes: &[u8]) -> io::Result<()> {
        let directory = self.directory.join("quarantine");
        std::fs::create_dir_all(&directory)?;
        if std::fs::read_dir(&directory)?.count() < QUARANTINE_MAX {
            let name = format!("{}-{}.block", key.epoch, key.sequence);
            std::fs::write(directory.join(name), bytes)?;
        }
        Ok(())
    }

    fn path(&self, number: u32) -> PathBuf {
        self.directory.join(format!("{number:08}"))
    }

    /// Takes a directory that a former start left into the chain, or sets it aside.
    fn recover(&mut self, number: u32, recovered: &mut Recovered) -> Result<(), SpoolError> {
        let path = self.path(number);
        let contents = match Database::open(&path) {
            // Not kept open: there may be many, and they are drained one after the other.
            Ok((_, contents)) => contents,
            Err(error) if error.is_damage() => {
                let aside = path.with_extension("quarantine");
                std::fs::rename(&path, &aside).map_err(|source| SpoolError::Directory {
                    path: path.clone(),
                    source,
                })?;
                tracing::error!(directory = %aside.display(), %error, "database of the spool is damaged and set aside; its blocks are lost unless salvaged");
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
        let end = blocks.keys().last().map_or(0, |last| last + 1);
        let mut left = BTreeSet::new();
        let mut bytes = 0;
        for (sequence, stored) in blocks {
            bytes += u64::from(stored.bytes);
            if !acknowledged.received.contains(sequence) {
                left.insert(sequence);
                let key = BlockKey { epoch, sequence };
                recovered.blocks.insert(key, (stored.bytes, stored.index));
            }
        }
        let (next, freed_by) = recovered.epochs.entry(epoch).or_insert((0, None));
        *next = end.max(acknowledged.received.end()).max(*next);
        *freed_by = acknowledged.journal.or(*freed_by);
        self.members.insert(
            number,
            Member {
                epoch,
                left,
                acknowledged,
                is_ack_fresh: false,
                bytes,
                database: None,
            },
        );
        Ok(())
    }

    fn begin_database(&mut self, number: u32) -> Result<u32, SpoolError> {
        let path = self.path(number);
        let cursors: Vec<Cursor> = self.cursors.values().cloned().collect();
        let database = Database::create(&path, self.epoch, &cursors).map_err(|error| {
            // Half a database would be taken for a damaged one at the next start.
            if let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::debug!(path = %path.display(), %error, "unfinished database not removed");
            }
            SpoolError::Database {
                path: path.clone(),
                reason: error.to_string(),
            }
        })?;
        if let Some(former) = self.head.take().and_then(|head| self.members.get_mut(&head)) {
            former.database = None;
        }
        self.members.insert(
            number,
            Member {
                epoch: self.epoch,
                left: BTreeSet::new(),
                acknowledged: Acknowledged::default(),
                is_ack_fresh: false,
                bytes: 0,
                database: Some(database),
            },
        );
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
            .ok_or(DatabaseError::Damaged("database"))?;
        match &mut member.database {
            Some(database) => Ok(database),
            empty => Ok(empty.insert(Database::reopen(&path)?)),
        }
    }

    /// Removes every directory, but the newest, of which nothing is left to send.
    fn remove_drained(&mut self) {
        let drained: Vec<u32> = self
            .members
            .iter()
            .filter(|(number, member)| member.left.is_empty() && Some(**number) != self.head)
            .map(|(number, _)| *number)
            .collect();
        for number in drained {
            // The newest cursors may stand in it as long as no head has taken them over.
            if self.head.is_none() {
                return;
            }
            let path = self.path(number);
            let removed = match self.members.remove(&number).and_then(|member| member.database) {
                Some(database) => database.remove(),
                None => std::fs::remove_dir_all(&path),
            };
            if self.reader == Some(number) {
                self.reader = None;
            }
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "drained database not removed; its blocks will be sent again after a restart");
            }
        }
    }
}

#[cfg(test)]
mod tests;
