//! The small file that says which journals have acknowledged, by the names that the starts of their collectors
//! gave them: 16 hexadecimal digits a line, the last one first. That anything has been freed may stand nowhere but
//! there, so that an agent tells the names to whoever comes next, however often it started in between.

use crate::introduction::put_first;
use crate::number_file;
use std::io;
use std::path::{Path, PathBuf};
use trunnion_common::ack::JOURNALS_MAX;
use trunnion_common::id::JournalId;

/// The file, and what stands in it.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct JournalNames {
    path: PathBuf,
    names: Vec<JournalId>,
}

impl JournalNames {
    /// Reads the file in a directory, if there is one.
    pub(super) fn open(directory: &Path) -> Self {
        let path = directory.join("journals");
        let lines = number_file::read(&path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the names of former journals cannot be read; a collector that was put back to a backup may not be recognised");
            Vec::new()
        });
        let names = lines.into_iter().filter(|line| line.len() == 1).flatten();
        let names = names.take(JOURNALS_MAX).map(JournalId).collect();
        Self { path, names }
    }

    /// The last one first.
    pub(super) fn get(&self) -> &[JournalId] {
        &self.names
    }

    /// This one has acknowledged; durable when it returns `Ok`.
    pub(super) fn keep(&mut self, name: JournalId) -> io::Result<()> {
        if self.names.first() == Some(&name) {
            return Ok(());
        }
        let mut names = self.names.clone();
        put_first(&mut names, name);
        let lines: Vec<Vec<u64>> = names.iter().map(|name| vec![name.0]).collect();
        number_file::replace(&self.path, &lines)?;
        self.names = names;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_names_are_found_again_and_a_damaged_one_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other] = [7, 0xfedc_ba98_7654_3210].map(JournalId);
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
}
