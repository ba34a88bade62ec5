//! The journal's disk: it fails, fills up, and forgets at a power cut what was not synced.
//!
//! Files are real, so that the journal's reader sees them; what of them would survive a power cut is
//! kept beside them, and put in their place when there is one.

use super::chance::Chance;
use super::faults::{Fault, FaultCounts};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use trunnion_collector::journal::Disk;

/// A crash keeps or loses this much of a write at a time.
const SECTOR_BYTES: usize = 512;

/// The disk. Cloning shares it: the journal has one clone, the world another.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<Platter>>);

#[derive(Debug)]
struct Platter {
    chance: Chance,
    faults: FaultCounts,
    /// In the order in which they were first written, which a seed determines and inodes do not.
    files: Vec<Stored>,
    /// One call in so many fails.
    fails_one_in: u64,
    is_full: bool,
    /// Calls left until the power is cut in the middle of one.
    calls_to_crash: Option<u64>,
    is_off: bool,
}

/// A file, as it would be after a power cut.
#[derive(Debug)]
struct Stored {
    /// The open file keeps it, so that it is not used twice.
    inode: u64,
    file: File,
    synced: Vec<u8>,
    since: Vec<Change>,
    /// A sync has failed: readers see more than the disk has, whatever later syncs say.
    is_doubtful: bool,
}

/// Files and what was in them.
#[derive(Clone, Debug)]
pub struct Backup(Vec<(PathBuf, Vec<u8>)>);

#[derive(Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => {
                let (start, end) = (*offset as usize, *offset as usize + bytes.len());
                to.resize(to.len().max(end), 0);
                to[start..end].copy_from_slice(bytes);
            }
            Self::Truncate(length) => to.truncate(*length as usize),
        }
    }
}

impl SimDisk {
    /// A disk that works.
    pub fn new(chance: Chance) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            chance,
            faults: FaultCounts::default(),
            files: Vec::new(),
            fails_one_in: 0,
            is_full: false,
            calls_to_crash: None,
            is_off: false,
        })))
    }

    /// From now on one call in so many fails; none for 0.
    pub fn set_failing(&self, one_in: u64) {
        self.platter().fails_one_in = one_in;
    }

    /// Whether there is no room.
    pub fn set_full(&self, is_full: bool) {
        self.platter().is_full = is_full;
    }

    /// Cuts the power in the middle of the call after so many.
    pub fn crash_after(&self, calls: u64) {
        self.platter().calls_to_crash = Some(calls);
    }

    /// Whether the power is cut.
    pub fn is_off(&self) -> bool {
        self.platter().is_off
    }

    /// What went wrong so far.
    pub fn faults(&self) -> FaultCounts {
        self.platter().faults.clone()
    }

    /// The power was cut and is back: files hold what was synced, and of the rest what chance left.
    pub fn power_cycle(&self) -> io::Result<()> {
        let mut platter = self.platter();
        let Platter {
            chance,
            faults,
            files,
            ..
        } = &mut *platter;
        for stored in files {
            if stored.since.is_empty() && !stored.is_doubtful {
                continue;
            }
            let mut content = std::mem::take(&mut stored.synced);
            for change in stored.since.drain(..) {
                match (chance.below(3), change) {
                    (0, change) => change.apply(&mut content),
                    (1, Change::Write(offset, bytes)) if bytes.len() > SECTOR_BYTES => {
                        faults.note(Fault::JournalWriteTorn);
                        let sectors = bytes.chunks(SECTOR_BYTES).zip(0..);
                        for (sector, number) in sectors {
                            if chance.one_in(2) {
                                let at = offset + number * SECTOR_BYTES as u64;
                                Change::Write(at, sector.to_vec()).apply(&mut content);
                            }
                        }
                    }
                    (1, Change::Write(offset, bytes)) => {
                        faults.note(Fault::JournalWriteTorn);
                        let kept = chance.below(bytes.len().max(1) as u64) as usize;
                        Change::Write(offset, bytes[..kept].to_vec()).apply(&mut content);
                    }
                    _ => faults.note(Fault::JournalWriteLost),
                }
            }
            stored.file.set_len(content.len() as u64)?;
            stored.file.write_all_at(&content, 0)?;
            stored.synced = content;
            stored.is_doubtful = false;
        }
        platter.restart();
        Ok(())
    }

    /// The files of a directory, as a backup of them that is made now has them: what was synced.
    pub fn backup(&self, directory: &Path) -> io::Result<Backup> {
        let platter = self.platter();
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                continue;
            }
            let stored = platter.files.iter().find(|known| known.inode == metadata.ino());
            let content = match stored {
                Some(stored) => stored.synced.clone(),
                None => std::fs::read(entry.path())?,
            };
            files.push((entry.path(), content));
        }
        Ok(Backup(files))
    }

    /// Puts a backup in the place of what the directory holds, while nothing has its files open.
    pub fn restore(&self, directory: &Path, backup: &Backup) -> io::Result<()> {
        let mut platter = self.platter();
        platter.files.clear();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if !entry.metadata()?.is_dir() {
                std::fs::remove_file(entry.path())?;
            }
        }
        backup
            .0
            .iter()
            .try_for_each(|(path, content)| std::fs::write(path, content))
    }

    /// The process was killed and the power stayed on: nothing written is lost.
    pub fn restart(&self) {
        self.platter().restart();
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        // A panic under the lock ends the world anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Platter {
    const fn restart(&mut self) {
        self.calls_to_crash = None;
        self.is_off = false;
    }

    fn stored(&mut self, file: &File) -> io::Result<&mut Stored> {
        let metadata = file.metadata()?;
        let known = self.files.iter().position(|known| known.inode == metadata.ino());
        let at = match known {
            Some(at) => at,
            None => {
                let mut synced = vec![0; metadata.len() as usize];
                file.read_exact_at(&mut synced, 0)?;
                self.files.push(Stored {
                    inode: metadata.ino(),
                    file: file.try_clone()?,
                    synced,
                    since: Vec::new(),
                    is_doubtful: false,
                });
                self.files.len() - 1
            }
        };
        Ok(&mut self.files[at])
    }

    /// Whether this call is the one in which the power is cut.
    fn is_cut_now(&mut self) -> bool {
        let left = self.calls_to_crash.as_mut();
        let is_cut = left.is_some_and(|left| {
            *left = left.saturating_sub(1);
            *left == 0
        });
        if is_cut {
            self.is_off = true;
            self.faults.note(Fault::CollectorCrashInDisk);
        }
        is_cut
    }

    fn fails(&mut self) -> bool {
        self.chance.one_in(self.fails_one_in)
    }

    fn change(&mut self, file: &File, change: Change) -> io::Result<()> {
        let stored = self.stored(file)?;
        match &change {
            Change::Write(offset, bytes) => file.write_all_at(bytes, *offset)?,
            Change::Truncate(length) => file.set_len(*length)?,
        }
        stored.since.push(change);
        Ok(())
    }
}

fn off() -> io::Error {
    io::Error::other("the power is off")
}

impl Disk for SimDisk {
    fn write(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut platter = self.platter();
        if platter.is_off {
            return Err(off());
        }
        let is_cut = platter.is_cut_now();
        let error = if is_cut {
            off()
        } else if platter.is_full {
            platter.faults.note(Fault::JournalFull);
            io::ErrorKind::StorageFull.into()
        } else if platter.fails() {
            platter.faults.note(Fault::JournalWriteFailed);
            io::Error::other("a write failed")
        } else {
            return platter.change(file, Change::Write(offset, bytes.to_vec()));
        };
        // As disks do, it has written some of it.
        let written = platter.chance.below(bytes.len() as u64 + 1) as usize;
        platter.change(file, Change::Write(offset, bytes[..written].to_vec()))?;
        Err(error)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        let mut platter = self.platter();
        if platter.is_off || platter.is_cut_now() {
            return Err(off());
        }
        if platter.fails() {
            platter.faults.note(Fault::JournalSyncFailed);
            let mut chance = platter.chance.split();
            let stored = platter.stored(file)?;
            stored.is_doubtful = true;
            // The pages count as clean from now on, and no later sync writes them: Rebello et al., "Can
            // applications recover from fsync failures?", USENIX ATC 2020.
            for change in stored.since.drain(..).filter(|_| chance.one_in(2)) {
                change.apply(&mut stored.synced);
            }
            return Err(io::Error::other("a sync failed"));
        }
        let stored = platter.stored(file)?;
        for change in stored.since.drain(..) {
            change.apply(&mut stored.synced);
        }
        Ok(())
    }

    fn truncate(&mut self, file: &File, length: u64) -> io::Result<()> {
        let mut platter = self.platter();
        if platter.is_off {
            return Err(off());
        }
        if platter.fails() {
            platter.faults.note(Fault::JournalWriteFailed);
            return Err(io::Error::other("a truncation failed"));
        }
        platter.change(file, Change::Truncate(length))
    }
}
