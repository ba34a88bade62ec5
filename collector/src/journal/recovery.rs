//! Finding out what is committed, after whatever ended the process before.

use super::disk::Disk;
use super::reader::segment_path;
use super::segment::{Damage, Head, HeadFound, Seal, SegmentReader};
use super::{JournalError, Recovered, Segment};
use crate::ingest::dedup::SequenceSets;
use std::fs::File;
use std::path::{Path, PathBuf};
use trunnion_common::id::JournalId;
use trunnion_common::time::EventTime;

/// What the writer goes on from.
pub(super) struct State {
    pub(super) id: JournalId,
    pub(super) sets: SequenceSets,
    /// The journal's clock.
    pub(super) time: EventTime,
    /// The last segment; without a file, if nothing may be appended to it.
    pub(super) segment: Segment,
    pub(super) recovered: Recovered,
}

impl State {
    /// That of a journal without any segment.
    pub(super) fn new(id: JournalId) -> Self {
        Self {
            id,
            sets: SequenceSets::default(),
            time: EventTime(i64::MIN),
            segment: Segment {
                file: None,
                number: 0,
                start: 0,
                end: 0,
                before: (0, 0),
            },
            recovered: Recovered::default(),
        }
    }
}

/// Reads the last segment, and as many before it as it takes to know the sequence sets, then cuts off
/// the torn tail. `numbers` are the segments there are, ascending, at least one.
pub(super) fn recover(directory: &Path, numbers: &[u64], disk: &mut dyn Disk) -> Result<State, JournalError> {
    let (files, sets) = last_readable(directory, numbers)?;
    let known = files.iter().find_map(|file| file.head);
    let Some(known) = known else {
        unreachable!("the first of the files has sets, thus a head");
    };
    let mut state = State::new(known.journal);
    state.sets = sets;
    state.recovered.existed = true;
    let mut files = files.into_iter().peekable();
    while let Some(file) = files.next() {
        let sealed_at = files.peek().map(|next| match next.head {
            Some(head) if head.before.0 == file.number => head.before.1,
            _ => u64::MAX,
        });
        let end = state.replay(&file, sealed_at.unwrap_or(u64::MAX))?;
        if sealed_at.is_none() {
            state.go_on_in(file, end, disk)?;
        }
    }
    let damage = state.recovered.damage;
    if damage != Damage::default() {
        tracing::error!(
            entries = damage.entries,
            bytes = damage.bytes,
            "the journal is damaged; what can be read is used"
        );
    }
    Ok(state)
}

/// A segment's file and, if it can be read, its head.
struct SegmentFile {
    number: u64,
    path: PathBuf,
    file: File,
    head: Option<Head>,
}

/// The last segment whose sets can be read, those sets, and every segment after it.
fn last_readable(
    directory: &Path,
    numbers: &[u64],
) -> Result<(Vec<SegmentFile>, SequenceSets), JournalError> {
    let mut files = Vec::new();
    for &number in numbers.iter().rev() {
        let path = segment_path(directory, number);
        let io = JournalError::io("read", &path);
        let opened = File::options().read(true).write(true).open(&path);
        let file = opened.map_err(JournalError::io("open", &path))?;
        let head = match Head::read(&file, number).map_err(&io)? {
            HeadFound::Good(head) => Some(head),
            HeadFound::Version(found) => return Err(JournalError::Version { path, found }),
            HeadFound::Unreadable => None,
        };
        let sets = match &head {
            // The first segment of all starts with nothing, whether that can be read or not.
            Some(head) if head.before == (0, 0) => Some(SequenceSets::default()),
            Some(head) => head.read_sets(&file).map_err(&io)?,
            None => None,
        };
        if sets.is_none() {
            tracing::error!(path = %path.display(), "damaged at its start; read from the segment before on");
        }
        files.push(SegmentFile {
            number,
            path,
            file,
            head,
        });
        if let Some(sets) = sets {
            files.reverse();
            return Ok((files, sets));
        }
    }
    Err(JournalError::Unreadable {
        path: segment_path(directory, numbers[0]),
    })
}

impl State {
    /// Applies what is committed in a segment below `limit`; returns where that ends.
    fn replay(&mut self, segment: &SegmentFile, limit: u64) -> Result<u64, JournalError> {
        let io = JournalError::io("read", &segment.path);
        let mut start = 0;
        if let Some(head) = segment.head {
            start = head.entries_at();
            self.time = self.time.max(head.created);
            self.recovered.damage += head.damage(&segment.file).map_err(&io)?;
        }
        let seal = Seal {
            journal: self.id,
            segment: segment.number,
        };
        let file = segment.file.try_clone().map_err(&io)?;
        let mut groups = SegmentReader::new(file, seal, start);
        while let Some(group) = groups.next_group(limit).map_err(&io)? {
            self.recovered.damage += group.damage;
            self.time = self.time.max(group.time);
            for (_, entry) in &group.entries {
                self.sets.apply(entry);
            }
        }
        Ok(groups.at())
    }

    /// Makes the last segment the one to append to, from `end` on.
    fn go_on_in(&mut self, last: SegmentFile, end: u64, disk: &mut dyn Disk) -> Result<(), JournalError> {
        let metadata = last.file.metadata();
        let length = metadata.map_err(JournalError::io("read", &last.path))?.len();
        self.segment.number = last.number;
        let Some(head) = last.head else {
            // Nothing is appended to a file that does not tell what it is, nor is it replaced: as far
            // as its successor is concerned, all of it is committed.
            self.segment.end = length.max(1);
            return Ok(());
        };
        self.segment.start = head.entries_at();
        self.segment.end = end;
        self.segment.before = head.before;
        let torn = length.saturating_sub(end);
        if torn > 0 {
            tracing::warn!(
                path = %last.path.display(),
                bytes = torn,
                "cut off a torn tail; none of it was acknowledged"
            );
            disk.truncate(&last.file, end)
                .map_err(JournalError::io("truncate", &last.path))?;
        }
        self.recovered.torn_bytes = torn;
        // What an earlier process wrote may so far stand in the page cache alone.
        disk.sync(&last.file)
            .map_err(JournalError::io("sync", &last.path))?;
        self.segment.file = Some(last.file);
        Ok(())
    }
}
