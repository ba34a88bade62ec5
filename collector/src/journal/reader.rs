//! Reading whole commits from a position on, while the writer appends.

use super::segment::{self, Damage, Head, HeadFound, Seal, SegmentReader};
use super::{Commit, JournalError, PARTITION, Position, Segments};
use std::path::{Path, PathBuf};
use trunnion_common::id::JournalId;

/// Reads a journal's commits in order. It never writes and takes no lock: any number may read beside
/// the one process that writes.
///
/// Blocks it returns are slices of what was read at once (1 MiB, or one longer group); whoever keeps
/// one beyond its commit copies it.
#[derive(Debug)]
pub struct Reader {
    segments: Segments,
    position: Position,
    segment: Option<OpenSegment>,
    damage: Damage,
}

#[derive(Debug)]
struct OpenSegment {
    reader: SegmentReader,
    /// Where it ends, once a later segment says so.
    sealed_at: Option<u64>,
}

impl Reader {
    /// Starts at `from`: [`Position::default`] is the beginning, or the oldest segment that there is; any
    /// other must be one that this journal returned.
    ///
    /// A journal's directory stands for its segments there; [`Segments`] names an archive too.
    pub fn open(journal: impl Into<Segments>, from: Position) -> Result<Self, JournalError> {
        let segments = journal.into();
        segments.list_own()?;
        Ok(Self {
            segments,
            position: from,
            segment: None,
            damage: Damage::default(),
        })
    }

    /// Where the next commit will be read from.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Bytes from here to `end`, heads and seals of segments included; a segment that is gone counts as 0.
    pub fn bytes_until(&self, end: Position) -> u64 {
        if self.position.segment >= end.segment {
            return end.offset.saturating_sub(self.position.offset);
        }
        let lengths = self.segments.lengths().unwrap_or_default();
        let between: u64 = lengths
            .range(self.position.segment..end.segment)
            .map(|(_, bytes)| bytes)
            .sum();
        (between + end.offset).saturating_sub(self.position.offset)
    }

    /// What could not be read back so far. Each finding is logged with its place when it is made.
    pub const fn damage(&self) -> Damage {
        self.damage
    }

    /// The next commit that ends at or before `upto`, the writer's committed position; `None` when all
    /// of them have been read.
    pub fn next_commit(&mut self, upto: Position) -> Result<Option<Commit>, JournalError> {
        loop {
            if self.position == upto {
                return Ok(None);
            }
            if self.position > upto {
                return Err(JournalError::Ahead {
                    position: self.position,
                    end: upto,
                });
            }
            // Opened only when there is something to read: until its first commit, a segment may
            // still be replaced by another of the same number.
            let open = match &mut self.segment {
                Some(open) => open,
                None => {
                    let (open, damage) = open_segment(&self.segments, self.position)?;
                    self.damage += damage;
                    self.segment.insert(open)
                }
            };
            let (number, from) = (open.reader.number(), open.reader.at());
            let limit = open.limit(&self.segments, upto)?;
            let group = open
                .reader
                .next_group(limit)
                .map_err(JournalError::io("read", &self.segments.path(number)))?;
            if let Some(group) = group {
                self.position = segment::position(PARTITION, number, group.end);
                self.note(group.damage, number, from);
                let place = |offset| segment::position(PARTITION, number, offset);
                let entries = group.entries.into_iter();
                return Ok(Some(Commit {
                    time: group.time,
                    entries: entries.map(|(offset, entry)| (place(offset), entry)).collect(),
                    end: self.position,
                }));
            }
            // Whatever is left has lost its commit record.
            let bytes = limit.saturating_sub(from);
            self.note(Damage { entries: 0, bytes }, number, from);
            self.segment = None;
            self.position = if number == upto.segment {
                upto
            } else {
                segment::position(PARTITION, self.segments.next_number(number)?, 0)
            };
        }
    }

    fn note(&mut self, damage: Damage, segment: u64, offset: u64) {
        if damage != Damage::default() {
            tracing::error!(
                segment,
                offset,
                entries = damage.entries,
                bytes = damage.bytes,
                "the journal is damaged here; what can be read is used"
            );
            self.damage += damage;
        }
    }
}

impl OpenSegment {
    /// Up to where it is committed.
    fn limit(&mut self, segments: &Segments, upto: Position) -> Result<u64, JournalError> {
        if self.reader.number() == upto.segment {
            return Ok(upto.offset);
        }
        match self.sealed_at {
            Some(limit) => Ok(limit),
            None => Ok(*self.sealed_at.insert(sealed_at(segments, &self.reader)?)),
        }
    }
}

/// Opens the segment of a position. Damage in front of the position was counted when that was read.
fn open_segment(segments: &Segments, from: Position) -> Result<(OpenSegment, Damage), JournalError> {
    let number = if from.segment == 0 {
        segments.next_number(0)?
    } else {
        from.segment
    };
    let path = segments.path(number);
    let Some(file) = segments.open(number)? else {
        return Err(JournalError::NoSuchSegment { position: from, path });
    };
    let io = JournalError::io("read", &path);
    let (journal, start, damage) = match Head::read(&file, number).map_err(&io)? {
        HeadFound::Good(head) => {
            let damage = if from.offset <= head.entries_at() {
                head.damage(&file).map_err(&io)?
            } else {
                Damage::default()
            };
            (head.journal, head.entries_at(), damage)
        }
        HeadFound::Version(found) => return Err(JournalError::Version { path, found }),
        // Both copies of the head are gone; any other segment still tells the journal's id, and the
        // first group is found by searching.
        HeadFound::Unreadable => (
            any_id(segments)?.ok_or(JournalError::Unreadable { path })?,
            0,
            Damage::default(),
        ),
    };
    let seal = Seal {
        journal,
        segment: number,
    };
    let reader = SegmentReader::new(file, seal, start.max(from.offset));
    Ok((
        OpenSegment {
            reader,
            sealed_at: None,
        },
        damage,
    ))
}

/// Where a segment ends that is not the last: its successor says so; what stands behind was given up
/// after a failed write.
fn sealed_at(segments: &Segments, reader: &SegmentReader) -> Result<u64, JournalError> {
    let end = match segments.head(segments.next_number(reader.number())?)? {
        Some(HeadFound::Good(head)) if head.before.0 == reader.number() => Some(head.before.1),
        _ => None,
    };
    match end {
        Some(end) => Ok(end),
        None => reader
            .length()
            .map_err(JournalError::io("read", &segments.path(reader.number()))),
    }
}

/// The id of the journal, from whichever segment of its own directory can tell.
pub(super) fn any_id(segments: &Segments) -> Result<Option<JournalId>, JournalError> {
    for number in segments.list_own()? {
        if let Some(HeadFound::Good(head)) = segments.head(number)? {
            return Ok(Some(head.journal));
        }
    }
    Ok(None)
}

/// The file of segment `number`.
pub(super) fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.seg"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Entry, Journal, Options};
    use trunnion_common::time::EventTime;

    #[test]
    fn what_is_left_to_read_falls_with_every_commit_across_segments_to_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes: 4_096 };
        let (mut journal, _) = Journal::open(dir.path(), options, EventTime(0)).unwrap();
        for n in 0..40 {
            journal.append(&Entry::Fleet {
                effective: EventTime(n),
                text: "x".repeat(700),
            });
            journal.commit(EventTime(n)).unwrap();
        }
        let end = journal.end();
        assert!(end.segment > 4, "{end}");
        let mut reader = Reader::open(dir.path(), Position::default()).unwrap();
        let mut left = reader.bytes_until(end);
        assert!(left > 40 * 700, "{left}");
        while reader.next_commit(end).unwrap().is_some() {
            let now = reader.bytes_until(end);
            assert!(now + 700 < left, "{now} after {left}");
            left = now;
        }
        assert_eq!(left, 0);
    }
}
