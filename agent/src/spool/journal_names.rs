//! The small file that says which journals have acknowledged, by the names that the starts of their collectors
//! gave them, and how far they went: 16 hexadecimal digits each, a journal a line, the last one first. That anything
//! has been freed may stand nowhere but there, so that an agent tells it to whoever comes next, however often it
//! started in between.
//!
//! A name is on disk before anything is freed under it. How far its journal goes changes with every acknowledgement,
//! and stands in the databases beside what was freed; it is written here before one of them goes.

use crate::introduction::put_first;
use crate::number_file;
use std::io;
use std::path::{Path, PathBuf};
use trunnion_common::ack::{Extent, JOURNALS_MAX, JournalMark};
use trunnion_common::id::JournalId;

/// The file, and what is to stand in it.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct JournalNames {
    path: PathBuf,
    marks: Vec<JournalMark>,
    written: Vec<JournalMark>,
}

impl JournalNames {
    /// Reads the file in a directory, if there is one.
    pub(super) fn open(directory: &Path) -> Self {
        let path = directory.join("journals");
        let lines = number_file::read(&path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the names of former journals cannot be read; a collector that was put back to a backup may not be recognised");
            Vec::new()
        });
        let marks = lines.iter().filter_map(|line| match line[..] {
            [name] => Some(JournalId(name).into()),
            [name, extent] => Some(JournalMark {
                name: JournalId(name),
                extent: Extent(extent),
            }),
            _ => None,
        });
        let marks: Vec<JournalMark> = marks.take(JOURNALS_MAX).collect();
        Self {
            path,
            written: marks.clone(),
            marks,
        }
    }

    /// The last one first.
    pub(super) fn get(&self) -> &[JournalMark] {
        &self.marks
    }

    /// A database says that this one went so far.
    pub(super) fn raise(&mut self, mark: JournalMark) {
        for known in self.marks.iter_mut().filter(|known| known.name == mark.name) {
            known.extent = known.extent.max(mark.extent);
        }
    }

    /// This one has acknowledged; its name is durable when it returns `Ok`.
    pub(super) fn keep(&mut self, mark: JournalMark) -> io::Result<()> {
        put_first(&mut self.marks, mark);
        match self.written.first() {
            Some(last) if last.name == mark.name => Ok(()),
            _ => self.settle(),
        }
    }

    /// All of it is durable when this returns `Ok`.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        if self.marks == self.written {
            return Ok(());
        }
        let line = |mark: &JournalMark| match mark.extent {
            Extent(0) => vec![mark.name.0],
            Extent(extent) => vec![mark.name.0, extent],
        };
        let lines: Vec<Vec<u64>> = self.marks.iter().map(line).collect();
        number_file::replace(&self.path, &lines)?;
        self.written.clone_from(&self.marks);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_names_are_found_again_and_a_damaged_one_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other] = [7, 0xfedc_ba98_7654_3210].map(|name| JournalMark::from(JournalId(name)));
        let mut names = JournalNames::open(directory.path());
        assert!(names.get().is_empty());
        for name in [one, one, other] {
            names.keep(name).unwrap();
            assert_eq!(names.get().first(), Some(&name));
        }
        let mut again = JournalNames::open(directory.path());
        assert_eq!(again, names);
        assert_eq!(again.get(), [other, one]);
        let mut text = std::fs::read(directory.path().join("journals")).unwrap();
        text[3] = 0xff;
        std::fs::write(directory.path().join("journals"), text).unwrap();
        again = JournalNames::open(directory.path());
        assert_eq!(again.get(), [one]);
        again.keep(other).unwrap();
        assert_eq!(JournalNames::open(directory.path()).get(), [other, one]);
    }

    #[test]
    fn how_far_a_journal_goes_is_written_with_the_next_name_and_when_that_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let mark = |name, extent| JournalMark {
            name: JournalId(name),
            extent: Extent(extent),
        };
        let mut names = JournalNames::open(directory.path());
        let on_disk = || JournalNames::open(directory.path()).get().to_vec();
        for (told, expected) in [
            (mark(1, 5), vec![mark(1, 5)]),
            (mark(1, 8), vec![mark(1, 5)]),
            (mark(2, 3), vec![mark(2, 3), mark(1, 8)]),
            (mark(2, 4), vec![mark(2, 3), mark(1, 8)]),
        ] {
            names.keep(told).unwrap();
            assert_eq!(on_disk(), expected, "{told:?}");
        }
        names.raise(mark(1, 9));
        names.raise(mark(2, 1));
        names.raise(mark(7, 1));
        names.settle().unwrap();
        assert_eq!(on_disk(), [mark(2, 4), mark(1, 9)]);
    }
}
