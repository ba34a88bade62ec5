//! Where a journal ends, for those who only read it.

use super::segment::{HeadFound, Seal, SegmentReader};
use super::{JournalError, PARTITION, Position, Segments, reader, segment};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::Path;

/// The end of what is certainly committed in the journal in `dir`, to be read up to: at or after `known`, an
/// earlier answer or [`Position::default`], which is returned where nothing is committed.
///
/// Beside a process that writes, the last group is not taken for committed: its sync may not have returned,
/// and if it fails, the same entries come again in the next segment. The group before it is: a group is only
/// written once the one before it is durable.
pub fn committed_end(dir: &Path, known: Position) -> Result<Position, JournalError> {
    let segments = Segments::from(dir);
    let Some((last, file, length, quiet)) = look(dir, &segments)? else {
        return Ok(known);
    };
    let (journal, start, before) = match segments.head(last)? {
        Some(HeadFound::Good(head)) => (head.journal, head.entries_at(), head.before),
        Some(HeadFound::Version(found)) => {
            let path = segments.path(last);
            return Err(JournalError::Version { path, found });
        }
        // Nothing is appended to a segment that does not tell what it is; what stands in it is found by
        // searching.
        _ => match reader::any_id(&segments)? {
            Some(journal) => (journal, 0, (0, 0)),
            None => return Ok(known),
        },
    };
    // Of the last group, and of the one before it.
    let (mut end, mut end_before, mut from) = (known, known, start);
    if known.segment == last {
        from = start.max(known.offset);
    } else if before.0 != 0 {
        end = segment::position(PARTITION, before.0, before.1);
        end_before = end;
    }
    let seal = Seal {
        journal,
        segment: last,
    };
    let mut groups = SegmentReader::new(file, seal, from);
    let io = JournalError::io("read", &segments.path(last));
    while let Some(group) = groups.next_group(length).map_err(&io)? {
        end_before = end;
        end = segment::position(PARTITION, last, group.end);
    }
    Ok(if quiet { end } else { end_before }.max(known))
}

/// The last segment, how long it is, and whether nobody was writing to it at that length.
fn look(dir: &Path, segments: &Segments) -> Result<Option<(u64, File, u64, bool)>, JournalError> {
    let path = dir.join("lock");
    let lock = match File::open(&path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(JournalError::io("open", &path)(error)),
    };
    let quiet = lock
        .as_ref()
        .is_some_and(|lock| flock(lock, FlockOperation::NonBlockingLockShared).is_ok());
    let Some(&last) = segments.list_own()?.last() else {
        return Ok(None);
    };
    let Some(file) = segments.open_own(last)? else {
        return Ok(None);
    };
    let metadata = file.metadata();
    let length = metadata
        .map_err(JournalError::io("read", &segments.path(last)))?
        .len();
    Ok(Some((last, file, length, quiet)))
}
