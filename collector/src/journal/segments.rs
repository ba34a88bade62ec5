//! Where a journal's segments are: in its own directory and, the older ones, in an archive.

use super::reader::segment_path;
use super::segment::{Damage, Head, HeadFound, Seal, SegmentReader};
use super::{JournalError, partition_directory};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trunnion_common::id::JournalId;
use trunnion_common::time::EventTime;

/// What holds sealed segments in the journal's place: the seam behind which a lake's bronze zone stands as
/// well as a directory ([`crate::retention::Directory`]).
///
/// A sealed segment never changes, and is kept and given back as it is, byte for byte.
pub trait Archive: fmt::Debug + Send + Sync {
    /// What it is, for messages: a directory, an address.
    fn name(&self) -> String;

    /// The numbers of the segments that it holds whole, ascending.
    fn list(&self) -> io::Result<Vec<u64>>;

    /// A segment that it holds whole; none if it does not.
    fn open(&self, number: u64) -> io::Result<Option<File>>;

    /// Takes in the first `bytes` bytes of a segment, and returns when they are durable and have been read
    /// back as they were. Whatever stood there under that number, whole or not, is replaced.
    fn store(&self, number: u64, segment: &File, bytes: u64) -> io::Result<()>;
}

/// A segment to which nothing is written any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealedSegment {
    /// Its number.
    pub number: u64,
    /// What of it is committed: its length, but for what was given up after a failed write.
    pub bytes: u64,
    /// The journal's time when it was sealed.
    pub sealed: EventTime,
}

/// The segments of one journal. Cheap to clone.
///
/// A segment is read from the journal's own directory if it is there, and from the archive if not; the
/// archive is asked for nothing that the directory holds, so that one that cannot be reached stops only
/// those who need it.
#[derive(Clone, Debug)]
pub struct Segments {
    directory: PathBuf,
    archive: Option<Arc<dyn Archive>>,
}

impl From<&Path> for Segments {
    /// The segments in the journal's directory.
    fn from(dir: &Path) -> Self {
        Self {
            directory: partition_directory(dir),
            archive: None,
        }
    }
}

impl From<&PathBuf> for Segments {
    fn from(dir: &PathBuf) -> Self {
        dir.as_path().into()
    }
}

impl From<&Segments> for Segments {
    fn from(segments: &Segments) -> Self {
        segments.clone()
    }
}

impl Segments {
    /// With an archive that holds what the directory no longer does.
    pub fn with_archive(self, archive: Option<Arc<dyn Archive>>) -> Self {
        Self { archive, ..self }
    }

    /// The oldest segment that there is and whether the journal begins with it; none of a journal without
    /// segments.
    pub fn oldest(&self) -> Result<Option<(u64, bool)>, JournalError> {
        let number = match self.next_number(0) {
            Ok(number) => number,
            Err(JournalError::NoSuchSegment { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let first = match self.head(number)? {
            Some(HeadFound::Good(head)) => head.before == (0, 0),
            _ => number == 1,
        };
        Ok(Some((number, first)))
    }

    /// Which journal they are of; none of a journal without segments.
    pub fn journal(&self) -> Result<Option<JournalId>, JournalError> {
        super::reader::any_id(self)
    }

    /// How long each segment is, wherever it is, in bytes.
    pub fn lengths(&self) -> Result<BTreeMap<u64, u64>, JournalError> {
        let mut numbers = self.list_own()?;
        if let Some(archive) = &self.archive
            && numbers.first() != Some(&1)
        {
            let list = archive.list();
            numbers.extend(list.map_err(|source| archive_failed("list", archive.as_ref(), source))?);
        }
        let mut lengths = BTreeMap::new();
        for number in numbers {
            if let Some(file) = self.open(number)? {
                let metadata = file.metadata();
                let metadata = metadata.map_err(JournalError::io("read", &self.path(number)))?;
                lengths.insert(number, metadata.len());
            }
        }
        Ok(lengths)
    }

    /// The segments in the journal's own directory that are sealed for certain, by number: not the last, and
    /// none whose end the next one cannot tell. What is `known` of earlier answers is not read again, as
    /// nothing about a sealed segment changes.
    pub fn sealed(
        &self,
        known: &BTreeMap<u64, SealedSegment>,
    ) -> Result<BTreeMap<u64, SealedSegment>, JournalError> {
        let mut sealed = BTreeMap::new();
        for pair in self.list_own()?.windows(2) {
            let &[number, mut next] = pair else { continue };
            if let Some(segment) = known.get(&number) {
                sealed.insert(number, *segment);
                continue;
            }
            if next != number + 1 {
                next = self.next_number(number)?;
            }
            if let Some(HeadFound::Good(head)) = self.head(next)?
                && head.before.0 == number
            {
                let segment = SealedSegment {
                    number,
                    bytes: head.before.1,
                    sealed: head.created,
                };
                sealed.insert(number, segment);
            }
        }
        Ok(sealed)
    }

    /// Whether every entry of a sealed segment can be read.
    pub(crate) fn reads_whole(&self, file: &File, segment: SealedSegment) -> Result<bool, JournalError> {
        let io = JournalError::io("read", &self.path(segment.number));
        let HeadFound::Good(head) = Head::read(file, segment.number).map_err(&io)? else {
            return Ok(false);
        };
        let mut damage = head.damage(file).map_err(&io)?;
        let seal = Seal {
            journal: head.journal,
            segment: segment.number,
        };
        let file = file.try_clone().map_err(&io)?;
        let mut groups = SegmentReader::new(file, seal, head.entries_at());
        while let Some(group) = groups.next_group(segment.bytes).map_err(&io)? {
            damage += group.damage;
        }
        Ok(damage == Damage::default() && groups.at() == segment.bytes)
    }

    /// Removes a sealed segment from the journal's own directory, for good.
    pub(crate) fn remove_own(&self, number: u64) -> Result<(), JournalError> {
        let path = self.path(number);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(JournalError::io("remove", &path)(error))
            }
            _ => super::sync_directory(&self.directory),
        }
    }

    pub(super) fn list_own(&self) -> Result<Vec<u64>, JournalError> {
        super::list(&self.directory)
    }

    /// Where a segment is, or was, in the journal's own directory.
    pub(crate) fn path(&self, number: u64) -> PathBuf {
        segment_path(&self.directory, number)
    }

    pub(crate) fn open_own(&self, number: u64) -> Result<Option<File>, JournalError> {
        let path = self.path(number);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(JournalError::io("open", &path)(error)),
        }
    }

    /// A segment, from wherever it is.
    pub(super) fn open(&self, number: u64) -> Result<Option<File>, JournalError> {
        match (self.open_own(number)?, &self.archive) {
            (None, Some(archive)) => archive
                .open(number)
                .map_err(|source| archive_failed("open a segment in", archive.as_ref(), source)),
            (found, _) => Ok(found),
        }
    }

    /// What a segment starts with; none if it is nowhere.
    pub(super) fn head(&self, number: u64) -> Result<Option<HeadFound>, JournalError> {
        let Some(file) = self.open(number)? else {
            return Ok(None);
        };
        let head = Head::read(&file, number);
        head.map(Some)
            .map_err(JournalError::io("read", &self.path(number)))
    }

    /// The lowest segment above `number`.
    pub(super) fn next_number(&self, number: u64) -> Result<u64, JournalError> {
        let above = |numbers: Vec<u64>| numbers.into_iter().find(|&candidate| candidate > number);
        let own = above(self.list_own()?);
        let archived = match &self.archive {
            // Segments are numbered one by one: nothing can lie between.
            Some(archive) if own != Some(number + 1) => {
                let list = archive.list();
                above(list.map_err(|source| archive_failed("list", archive.as_ref(), source))?)
            }
            _ => None,
        };
        own.into_iter()
            .chain(archived)
            .min()
            .ok_or_else(|| JournalError::NoSuchSegment {
                position: super::segment::position(super::PARTITION, number + 1, 0),
                path: self.path(number + 1),
            })
    }
}

fn archive_failed(operation: &'static str, archive: &dyn Archive, source: io::Error) -> JournalError {
    JournalError::Archive {
        operation,
        archive: archive.name(),
        source,
    }
}
