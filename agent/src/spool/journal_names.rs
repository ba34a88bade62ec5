//! The small file that says which journals have acknowledged, by the names that the starts of their collectors
//! gave them: 16 hexadecimal digits a line, the last one first. That anything has been freed may stand nowhere but
//! there, so that an agent tells the names to whoever comes next, however often it started in between.

use crate::introduction::put_first;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use trunnion_common::ack::JOURNALS_MAX;
use trunnion_common::id::JournalId;

/// Longest file that is read: far above what is ever written.
const FILE_BYTES_MAX: u64 = 1_024;

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
        let names = read(&path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the names of former journals cannot be read; a collector that was put back to a backup may not be recognised");
            Vec::new()
        });
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
        let text: String = names.iter().map(|name| format!("{name}\n")).collect();
        let aside = self.path.with_extension("new");
        let mut file = File::create(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        std::fs::rename(&aside, &self.path)?;
        if let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        self.names = names;
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Vec<JournalId>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let names = text.lines().filter_map(|line| u64::from_str_radix(line, 16).ok());
    Ok(names.take(JOURNALS_MAX).map(JournalId).collect())
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
