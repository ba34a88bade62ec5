//! The spool: blocks on disk until the collector has them.
//!
//! Two chains of small sled databases, `spool/essential/00000017/` and `spool/waveform/00000004/` and so
//! on, so that the bulk never stands in the way of what matters: each is written at the newest, drained
//! from the oldest, a whole directory removed once all of its blocks are acknowledged. That bounds
//! memory, gives disk space back, keeps opening fast, and confines damage to one directory. Every start
//! of the agent begins a new directory and an epoch in each; what former starts left drains under theirs.
//!
//! A commit to a chain is durable when [`Spool::commit`] returns: blocks, and the intake cursors of the
//! chain's class, in one batch, flushed through the drive's cache. Only then may a node be acknowledged
//! and a block be published. Commits to the two are made apart, and what waveforms refer to (clock
//! fixes) is made durable first.
//!
//! Beside each database stands an index of its blocks, so that even one that cannot be opened any more
//! can say what was lost with it. A ballast file keeps room on a full disk for the tombstones
//! with which room is made.

mod alarm_file;
mod chain;
mod database;
mod index_log;
mod journal_names;
mod log_file;
#[cfg(test)]
mod tests;
pub mod tools;
mod worker;

pub use worker::{Commit, Reply, Request, Requests, spawn};

use crate::block::{Block, BlockKey, Index};
use crate::intake::{BootKey, Cursor};
use crate::retention::{Limits, Usage};
use alarm_file::AlarmFile;
use bytes::Bytes;
use chain::{Chain, disk_bytes, numbered};
use journal_names::JournalNames;
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, statvfs};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use trunnion_common::ack::JournalMark;
use trunnion_common::frame::Class;
use trunnion_common::id::{Epoch, JournalId};
use trunnion_common::sequence::{Range, SequenceSet};

/// Most refused or unreadable blocks kept for inspection.
const QUARANTINE_MAX: usize = 256;

/// Room for a fresh database of the essential chain and the tombstones of an eviction.
const BALLAST_BYTES: u64 = 8 << 20;

/// The directories of the two chains.
const CHAINS: [&str; 2] = ["essential", "waveform"];

/// An open spool. All of its methods block on the disk.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    /// Locked for as long as the spool is open.
    _lock: File,
    /// By class.
    chains: [Chain; 2],
    quarantine_bytes: u64,
    journals: JournalNames,
    alarms: AlarmFile,
    /// The image of them that was there when the spool was opened.
    alarms_found: Option<Vec<u8>>,
}

/// What a spool held when it was opened.
#[derive(Debug)]
pub struct Recovered {
    /// Per class: the epoch that new blocks get, and the sequence of the first.
    pub current: [(Epoch, u64); 2],
    /// Blocks that are not acknowledged: their length and content.
    pub blocks: BTreeMap<BlockKey, (u32, Index)>,
    /// Epochs of former starts with such blocks or pending tombstones, in the order in which they are
    /// to be drained.
    pub epochs: Vec<FormerEpoch>,
    /// Where the intake stood.
    pub cursors: Vec<Cursor>,
    /// The journals that acknowledged, as their collectors named them, the last one first. They go as far as when
    /// they freed what is gone.
    pub journals: Vec<JournalMark>,
    /// Directories that could not be read and were set aside.
    pub quarantined: Vec<PathBuf>,
    /// Directories that former starts had set aside, removed since only the newest are kept.
    pub discarded: u64,
}

/// An epoch that a former start left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FormerEpoch {
    /// Which.
    pub epoch: Epoch,
    /// Of which chain.
    pub class: Class,
    /// The sequence after its last block.
    pub next: u64,
    /// The journal that freed blocks of it.
    pub freed_by: Option<JournalId>,
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
    /// The layout of a version before the two chains.
    #[error(
        "the spool at {path} holds databases in a layout of an earlier version: run that version until they are drained, or move the directory away, which loses what is in it"
    )]
    Layout {
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
    /// Opens the spool in `state_dir`, which is created if need be. `fresh` become the epochs of new
    /// blocks, by class, unless so many former ones are left that a hello could not list another: then
    /// the newest of them is continued.
    pub fn open(state_dir: &Path, fresh: [Epoch; 2]) -> Result<(Self, Recovered), SpoolError> {
        let directory = state_dir.join("spool");
        let failed = |source| SpoolError::Directory {
            path: directory.clone(),
            source,
        };
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let lock = lock(&directory)?;
        // Another spool's ballast is ours to use now; it is made again when there is room for it.
        remove_if_there(&directory.join("ballast")).map_err(failed)?;
        let open = |class: Class, buried: &[(Epoch, Range)]| {
            let directory = directory.join(CHAINS[class.index()]);
            Chain::open(directory, class, fresh[class.index()], buried)
        };
        let (essential, held) = open(Class::Essential, &[])?;
        let buried: Vec<(Epoch, Range)> = held
            .blocks
            .values()
            .filter_map(|(_, index)| index.buries)
            .collect();
        let (waveform, bulk) = open(Class::Waveform, &buried)?;
        let mut recovered = Recovered {
            current: [held.current, bulk.current],
            blocks: held.blocks,
            epochs: Vec::new(),
            cursors: Vec::new(),
            journals: Vec::new(),
            quarantined: held.quarantined,
            discarded: held.discarded + bulk.discarded,
        };
        recovered.blocks.extend(bulk.blocks);
        recovered.quarantined.extend(bulk.quarantined);
        let mut cursors: BTreeMap<BootKey, Cursor> = BTreeMap::new();
        for (class, parts) in [(Class::Essential, held.cursors), (Class::Waveform, bulk.cursors)] {
            for part in parts {
                let key = (part.node, part.boot);
                cursors
                    .entry(key)
                    .or_insert_with(|| part.clone())
                    .join(class, &part);
            }
        }
        recovered.cursors = cursors.into_values().collect();
        for (class, epochs) in [(Class::Essential, held.epochs), (Class::Waveform, bulk.epochs)] {
            recovered
                .epochs
                .extend(epochs.iter().map(|&(epoch, next, freed_by)| FormerEpoch {
                    epoch,
                    class,
                    next,
                    freed_by,
                }));
        }
        let quarantine_bytes = quarantine_bytes(&directory);
        let mut journals = JournalNames::open(&directory);
        for mark in held.journals.into_iter().chain(bulk.journals) {
            journals.raise(mark);
        }
        recovered.journals = journals.get().to_vec();
        let (alarms, alarms_found) = AlarmFile::open(&directory);
        let mut spool = Self {
            alarms,
            alarms_found,
            _lock: lock,
            chains: [essential, waveform],
            quarantine_bytes,
            journals,
            directory,
        };
        spool.remove_drained();
        spool.fill_ballast();
        Ok((spool, recovered))
    }

    /// Stores blocks of a class and its part of the cursors; durable when it returns `Ok`. On an error
    /// nothing of it counts: the same commit may be tried again, and goes to a new database then.
    pub fn commit(&mut self, class: Class, blocks: &[Block], cursors: &[Cursor]) -> Result<(), SpoolError> {
        let stored = self.chains[class.index()].commit(blocks, cursors);
        if stored.is_err() && class == Class::Essential {
            // With its room the next attempt may succeed, and tombstones can make more.
            if let Err(error) = remove_if_there(&self.directory.join("ballast")) {
                tracing::warn!(%error, "ballast of the spool not removed");
            }
        }
        self.remove_drained();
        stored
    }

    /// Frees what the collector has made durable.
    pub fn acknowledge(&mut self, epoch: Epoch, received: &SequenceSet, journal: JournalMark) {
        if let Err(error) = self.journals.keep(journal) {
            tracing::warn!(%error, "the journal that acknowledges cannot be noted; should its collector be put back to a backup, what is freed now may be missing there without a cause");
        }
        for chain in &mut self.chains {
            chain.acknowledge(epoch, received, journal);
        }
        self.remove_drained();
    }

    /// A block's bytes, checked.
    pub fn read(&mut self, key: BlockKey) -> Result<Bytes, ReadError> {
        let at = usize::from(self.chains[1].holds(key));
        self.chains[at].read(key)
    }

    /// Takes a block out of its chain whose tombstone has been committed, and keeps what can be read of
    /// it for inspection.
    pub fn bury(&mut self, key: BlockKey) {
        for chain in self.chains.iter_mut().filter(|chain| chain.holds(key)) {
            let bytes = chain.read_raw(key);
            // Of a database that is set aside as a whole there is nothing to keep here.
            let kept = if bytes.is_empty() {
                Ok(0)
            } else {
                keep_for_inspection(&self.directory, key, &bytes)
            };
            match kept {
                Ok(bytes) => self.quarantine_bytes += bytes,
                Err(error) => {
                    tracing::warn!(epoch = %key.epoch, sequence = key.sequence, %error, "block not kept for inspection");
                }
            }
            chain.forget(key);
        }
        self.remove_drained();
    }

    /// Keeps an image of the alarms' slots; durable when it returns `Ok`.
    pub fn keep_alarms(&mut self, image: &[u8]) -> io::Result<()> {
        self.alarms.write(image).or_else(|error| {
            // Its room could not be had beforehand: this is what the ballast is for.
            remove_if_there(&self.directory.join("ballast"))?;
            self.alarms.write(image).map_err(|_| error)
        })
    }

    /// The image of the alarms' slots that a former agent kept, once.
    pub fn take_alarms(&mut self) -> Option<Vec<u8>> {
        self.alarms_found.take()
    }

    /// What the spool takes of the disk, as far as its files are known to it.
    pub fn usage(&self) -> io::Result<Usage> {
        let disk = statvfs(&self.directory)?;
        Ok(Usage {
            essential_bytes: self.chains[0]
                .directories()
                .map(|directory| directory.bytes)
                .sum(),
            quarantine_bytes: self.quarantine_bytes,
            waveform: self.chains[1].directories().collect(),
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            blob_files: self.chains.iter().map(Chain::blob_files).sum(),
        })
    }

    /// Sizes the databases of waveforms to the quota.
    pub fn fit(&mut self, limits: &Limits, usage: &Usage) {
        self.chains[1].set_quota(limits.waveform_quota(usage));
    }

    /// Announces that a directory of the waveform chain will be evicted: the blocks in it that are not
    /// acknowledged. They must have tombstones on disk before [`Self::evict`].
    pub fn begin_eviction(&mut self, directory: u32) -> Vec<BlockKey> {
        self.chains[1].begin_eviction(directory)
    }

    /// Removes a directory of the waveform chain, which gives its space back at once.
    pub fn evict(&mut self, directory: u32) {
        self.chains[1].evict(directory);
        self.remove_drained();
    }

    /// Ends the waveform database being written, so that it can be evicted.
    pub fn close_waveform(&mut self) -> Result<(), SpoolError> {
        self.chains[1].close_head()?;
        self.remove_drained();
        Ok(())
    }

    /// Removes databases of which nothing is left to send. How far the journals went that freed their blocks is on
    /// disk elsewhere before that: else nobody could tell that a collector was put back to before it.
    fn remove_drained(&mut self) {
        if self.chains.iter().all(|chain| chain.drained().next().is_none()) {
            return;
        }
        if let Err(error) = self.journals.settle() {
            tracing::warn!(%error, "how far the journal went cannot be noted; should its collector be put back to a backup, what was freed until now may be missing there without a cause");
        }
        self.chains.iter_mut().for_each(Chain::remove_drained);
    }

    /// Takes up room that a full disk will need, unless that would fill it.
    pub fn fill_ballast(&self) {
        let path = self.directory.join("ballast");
        let has_room = statvfs(&self.directory)
            .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= 4 * BALLAST_BYTES);
        if !has_room || path.exists() {
            return;
        }
        let filled = File::create(&path)
            .and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, BALLAST_BYTES)?));
        if let Err(error) = filled {
            tracing::debug!(%error, "this file system keeps no ballast");
            // An empty file would look like one.
            let _ = remove_if_there(&path);
        }
    }
}

/// The spool's lock, held for as long as the file is open.
fn lock(directory: &Path) -> Result<File, SpoolError> {
    let failed = |source| SpoolError::Directory {
        path: directory.to_owned(),
        source,
    };
    let lock = File::create(directory.join("lock")).map_err(failed)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => SpoolError::InUse {
            path: directory.to_owned(),
        },
        error => failed(error.into()),
    })?;
    let former = numbered(directory).map_err(failed)?;
    if former.is_empty() {
        Ok(lock)
    } else {
        Err(SpoolError::Layout {
            path: directory.to_owned(),
        })
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Keeps a block's bytes for a person; returns how much disk that took.
fn keep_for_inspection(directory: &Path, key: BlockKey, bytes: &[u8]) -> io::Result<u64> {
    let directory = directory.join("quarantine");
    std::fs::create_dir_all(&directory)?;
    if std::fs::read_dir(&directory)?.count() >= QUARANTINE_MAX {
        return Ok(0);
    }
    let path = directory.join(format!("{}-{}.block", key.epoch, key.sequence));
    std::fs::write(&path, bytes)?;
    Ok(disk_bytes(&path))
}

/// What damaged databases and blocks take.
fn quarantine_bytes(directory: &Path) -> u64 {
    let chains = CHAINS.map(|name| directory.join(name));
    let aside = chains.iter().flat_map(|chain| {
        let names = numbered(chain).unwrap_or_default();
        let aside = names
            .into_iter()
            .filter(|(_, ending)| ending == chain::QUARANTINE);
        aside.map(move |(number, ending)| chain.join(format!("{number:08}.{ending}")))
    });
    let whole: u64 = aside.map(|path| disk_bytes(&path)).sum();
    whole + disk_bytes(&directory.join("quarantine"))
}
