//! How long the journal keeps a segment, and what holds it afterwards.
//!
//! A sealed segment is copied to the archive, and removed from the journal's own directory once all of this
//! holds:
//!
//! - the archive has it, durably and read back as it was,
//! - the pipeline has passed it, by its last checkpoint and by the one before, and both are on disk, so that
//!   no start needs it,
//! - it was sealed [`Retention::keep`] ago,
//! - two later ones are sealed ([`SEALED_KEPT`]).
//!
//! Whoever reads the journal from its beginning reads what was removed from the archive ([`Segments`]).
//! Without an archive nothing is removed, unless the configuration says `archive = "none"`: then what is
//! removed is gone, and tables rebuilt from the journal begin with the oldest segment left. They then lack
//! every output of what came before, the fleet file and the channel tables and clock fixes that stood there
//! (what names them becomes a dead letter until nodes send them again), and the ledger of that time.
//!
//! What fails is logged, counted and tried again; it stops nothing else. A segment that does not read whole
//! is neither archived nor, with an archive, removed.

use crate::journal::{Archive, JournalError, Position, SealedSegment, Segments};
use crate::metrics::Metrics;
use crate::state::settle;
use rustix::fs::{Advice, fadvise};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use trunnion_common::id::JournalId;
use trunnion_common::time::EventTime;

/// Sealed segments that are never removed: a restart that finds the starts of the last ones damaged goes on
/// from the one before.
pub const SEALED_KEPT: usize = 2;

/// How often to look for segments that were sealed, or have come of age.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What is copied and compared at once.
const CHUNK_BYTES: usize = 1 << 20;

/// What is to become of sealed segments.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    /// Where they are copied to; nowhere if none.
    pub archive: Option<PathBuf>,
    /// How long ago a segment was sealed when it may be removed; none are if none.
    pub keep: Option<Duration>,
}

impl Retention {
    /// The archive of the journal in `journal_dir`; none if none is configured, or there is no journal.
    pub fn open_archive(&self, journal_dir: &Path) -> Result<Option<Arc<dyn Archive>>, JournalError> {
        let Some(directory) = &self.archive else {
            return Ok(None);
        };
        let journal = Segments::from(journal_dir).journal()?;
        Ok(journal.map(|journal| Arc::new(Directory::new(directory, journal)) as Arc<dyn Archive>))
    }
}

/// What to do with a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Copy it to the archive.
    Archive(SealedSegment),
    /// Remove it from the journal.
    Remove(SealedSegment),
}

/// What is to be done, oldest segments first. `archived` are the segments that the archive holds, if there is
/// one; `settled` is what every start has passed.
pub fn choose(
    sealed: &BTreeMap<u64, SealedSegment>,
    archived: Option<&BTreeSet<u64>>,
    settled: Position,
    keep: Option<Duration>,
    now: EventTime,
) -> Vec<Step> {
    let removable = sealed.len().saturating_sub(SEALED_KEPT);
    let mut steps = Vec::new();
    for (n, segment) in sealed.values().enumerate() {
        if archived.is_some_and(|archived| !archived.contains(&segment.number)) {
            steps.push(Step::Archive(*segment));
            continue;
        }
        let age = u128::try_from(now.nanos_since(segment.sealed)).unwrap_or(0);
        let is_old = keep.is_some_and(|keep| age >= keep.as_nanos());
        if n < removable && is_old && segment.number < settled.segment {
            steps.push(Step::Remove(*segment));
        }
    }
    steps
}

/// Carries it out, on a thread of its own.
#[derive(Debug)]
pub struct Keeper {
    segments: Segments,
    archive: Option<Arc<dyn Archive>>,
    keep: Option<Duration>,
    state_file: PathBuf,
    settled: watch::Receiver<Position>,
    metrics: Metrics,
    clock: fn() -> EventTime,
    /// What is known of the segments in the journal.
    sealed: BTreeMap<u64, SealedSegment>,
    /// Segments that do not read whole: looked at once per start.
    damaged: BTreeSet<u64>,
}

impl Keeper {
    /// For the journal of `segments` whose pipeline writes `state_file` and follows `settled`
    /// ([`Runner::settled`](crate::pipeline::Runner::settled)).
    pub fn new(
        segments: Segments,
        archive: Option<Arc<dyn Archive>>,
        keep: Option<Duration>,
        state_file: &Path,
        settled: watch::Receiver<Position>,
        metrics: Metrics,
        clock: fn() -> EventTime,
    ) -> Self {
        Self {
            segments,
            archive,
            keep,
            state_file: state_file.to_owned(),
            settled,
            metrics,
            clock,
            sealed: BTreeMap::new(),
            damaged: BTreeSet::new(),
        }
    }

    /// Runs on the calling thread until it is told to stop.
    pub fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), Infallible> {
        let Ok(waiter) = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
        else {
            tracing::error!("the system gives no timer: segments are neither archived nor removed");
            return Ok(());
        };
        while !*stop.borrow() {
            self.turn((self.clock)(), &mut || !*stop.borrow());
            let told = async {
                tokio::time::timeout(LOOK_EVERY, stop.wait_for(|stop| *stop))
                    .await
                    .is_ok()
            };
            if waiter.block_on(told) {
                break;
            }
        }
        Ok(())
    }

    /// Does what is to be done now, for as long as that may go on.
    pub fn turn(&mut self, now: EventTime, goes_on: &mut dyn FnMut() -> bool) {
        if self.archive.is_none() && self.keep.is_none() {
            return;
        }
        // Asked first: what is settled by then is on disk after the sync below.
        let settled = *self.settled.borrow();
        let steps = match self.steps(settled, now) {
            Ok(steps) => steps,
            Err(error) => return self.failed(&error, "segments are neither archived nor removed for now"),
        };
        let mut is_on_disk = None;
        for step in steps {
            if !goes_on() {
                return;
            }
            match step {
                Step::Archive(segment) if self.damaged.contains(&segment.number) => {}
                Step::Archive(segment) => {
                    if let Err(error) = self.archive_segment(segment) {
                        self.failed(&error, "a segment is not archived for now");
                        // The others would most likely fare the same.
                        return;
                    }
                }
                Step::Remove(segment) => {
                    let is_on_disk = *is_on_disk.get_or_insert_with(|| match settle(&self.state_file) {
                        Ok(settled) => settled,
                        Err(error) => {
                            tracing::warn!(%error, "the tables cannot be synced: no segment is removed for now");
                            false
                        }
                    });
                    if !is_on_disk {
                        continue;
                    }
                    if let Err(error) = self.remove_segment(segment) {
                        self.failed(&error, "a segment is not removed for now");
                    }
                }
            }
        }
    }

    fn steps(&mut self, settled: Position, now: EventTime) -> Result<Vec<Step>, RetentionError> {
        self.sealed = self.segments.sealed(&self.sealed)?;
        let archived = match &self.archive {
            Some(archive) => Some(BTreeSet::from_iter(archive.list().map_err(failed(archive))?)),
            None => None,
        };
        Ok(choose(&self.sealed, archived.as_ref(), settled, self.keep, now))
    }

    fn archive_segment(&mut self, segment: SealedSegment) -> Result<(), RetentionError> {
        let (Some(archive), Some(file)) = (&self.archive, self.segments.open_own(segment.number)?) else {
            return Ok(());
        };
        if !self.segments.reads_whole(&file, segment)? {
            tracing::error!(
                segment = segment.number,
                "this segment does not read whole: it is not archived, and stays in the journal"
            );
            self.damaged.insert(segment.number);
            self.metrics.journal_retention_failures.inc();
            return Ok(());
        }
        archive
            .store(segment.number, &file, segment.bytes)
            .map_err(failed(archive))?;
        tracing::info!(
            segment = segment.number,
            bytes = segment.bytes,
            "a segment is archived"
        );
        self.metrics.journal_segments_archived.inc();
        Ok(())
    }

    fn remove_segment(&self, segment: SealedSegment) -> Result<(), RetentionError> {
        if let Some(archive) = &self.archive {
            let held = archive.open(segment.number).map_err(failed(archive))?;
            let length = match &held {
                Some(held) => held.metadata().map_err(failed(archive))?.len(),
                None => 0,
            };
            if length != segment.bytes {
                return Err(RetentionError::NotHeld {
                    segment: segment.number,
                    archive: archive.name(),
                });
            }
        }
        self.segments.remove_own(segment.number)?;
        tracing::info!(segment = segment.number, "a segment is removed from the journal");
        self.metrics.journal_segments_removed.inc();
        Ok(())
    }

    fn failed(&self, error: &RetentionError, what: &'static str) {
        tracing::warn!(%error, what, "the journal's retention has failed, and is tried again");
        self.metrics.journal_retention_failures.inc();
    }
}

/// Why a segment was not archived or removed this time.
#[derive(Debug, thiserror::Error)]
enum RetentionError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the archive {archive}: {source}; see that it is there and has room")]
    Archive { archive: String, source: io::Error },
    #[error("the archive {archive} lists segment {segment} and does not hold it whole; see to the archive")]
    NotHeld { segment: u64, archive: String },
}

fn failed(archive: &Arc<dyn Archive>) -> impl Fn(io::Error) -> RetentionError + use<> {
    let archive = archive.name();
    move |source| RetentionError::Archive {
        archive: archive.clone(),
        source,
    }
}

/// An archive in a directory, on another disk as a rule: `DIR/JOURNAL/NUMBER.seg`, so that journals may share
/// one.
///
/// The directory itself has to be there: one that is not is a disk that is not mounted.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    own: PathBuf,
}

impl Directory {
    /// The segments of that journal in the directory.
    pub fn new(root: &Path, journal: JournalId) -> Self {
        Self {
            root: root.to_owned(),
            own: root.join(journal.to_string()),
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.own.join(format!("{number:020}.seg"))
    }
}

impl Archive for Directory {
    fn name(&self) -> String {
        self.own.display().to_string()
    }

    fn list(&self) -> io::Result<Vec<u64>> {
        let entries = match fs::read_dir(&self.own) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return fs::metadata(&self.root).map(|_| Vec::new());
            }
            listed => listed?,
        };
        let mut numbers = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".seg"));
            numbers.extend(
                number
                    .filter(|number| number.len() == 20)
                    .and_then(|number| number.parse::<u64>().ok()),
            );
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn open(&self, number: u64) -> io::Result<Option<File>> {
        match File::open(self.path(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::metadata(&self.root).map(|_| None),
            opened => opened.map(Some),
        }
    }

    fn store(&self, number: u64, segment: &File, bytes: u64) -> io::Result<()> {
        fs::metadata(&self.root)?;
        match DirBuilder::new().mode(0o700).create(&self.own) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => File::open(&self.root)?.sync_all()?,
        }
        let aside = self.own.join(format!("{number:020}.tmp"));
        let stored = copy(segment, bytes, &aside).and_then(|()| fs::rename(&aside, self.path(number)));
        if stored.is_err() {
            // It may hold the very room that is missing.
            let _ = fs::remove_file(&aside);
        }
        stored?;
        File::open(&self.own)?.sync_all()
    }
}

/// Copies the first `bytes` of a file, syncs, and compares what then is on the disk.
fn copy(from: &File, bytes: u64, to: &Path) -> io::Result<()> {
    let mut copy = File::create(to)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut read_back = vec![0; CHUNK_BYTES];
    let chunks = || {
        let chunk = CHUNK_BYTES as u64;
        (0..bytes.div_ceil(chunk)).map(move |n| (n * chunk, (bytes - n * chunk).min(chunk) as usize))
    };
    for (at, length) in chunks() {
        from.read_exact_at(&mut chunk[..length], at)?;
        copy.write_all(&chunk[..length])?;
    }
    copy.sync_all()?;
    // What is read next shall come from the disk; where the system does not care to, from its memory.
    let _ = fadvise(&copy, 0, None, Advice::DontNeed);
    let mut copy = File::open(to)?;
    for (at, length) in chunks() {
        from.read_exact_at(&mut chunk[..length], at)?;
        copy.read_exact(&mut read_back[..length])?;
        if chunk[..length] != read_back[..length] {
            let what = format!("{} does not read back as it was written", to.display());
            return Err(io::Error::other(what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
