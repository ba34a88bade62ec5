//! What lies in a benchmark's folder: every file that reads as one of its records, and the others by name.

use super::Skipped;
use crate::record::files_below;
use anyhow::{Result, ensure};
use std::path::Path;

/// What was found, in the order of the paths.
pub(super) struct Scan<T> {
    pub(super) found: Vec<T>,
    /// What could not be read, and why.
    pub(super) skipped: Vec<Skipped>,
}

/// Reads every file below a folder whose name ends so, upper or lower case. One that is refused costs itself alone.
///
/// # Errors
/// Where nothing reads; says why the first file did not.
pub(super) fn scan<T>(
    benchmark: &'static str,
    folder: &Path,
    ending: &str,
    mut read: impl FnMut(&Path) -> Result<T>,
) -> Result<Scan<T>> {
    let mut scan = Scan {
        found: Vec::new(),
        skipped: Vec::new(),
    };
    for file in files_below(folder, ending) {
        match read(&file) {
            Ok(record) => scan.found.push(record),
            Err(error) => {
                let path = file.strip_prefix(folder).unwrap_or(&file);
                let reason = format!("{error:#}");
                scan.skipped.push(Skipped::new(benchmark, path, reason));
            }
        }
    }
    let why = scan.skipped.first().map_or_else(String::new, |skipped| {
        format!("; {}: {}", skipped.file, skipped.reason)
    });
    ensure!(
        !scan.found.is_empty(),
        "nothing to judge below {}{why}",
        folder.display()
    );
    Ok(scan)
}

/// Writes a file of a folder that a test judges, and the folders that it lies in.
#[cfg(test)]
pub(super) fn write(folder: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = folder.join(path);
    let parent = path.parent().expect("a file lies in a folder");
    std::fs::create_dir_all(parent).expect("a test may write");
    std::fs::write(path, bytes).expect("a test may write");
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use std::fs;

    fn read(path: &Path) -> Result<i32> {
        fs::read_to_string(path)?.trim().parse().context("no number")
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_and_the_others_are_found_at_any_depth() {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in [("a/b/1.csv", "1"), ("2.CSV", "2"), ("3.csv", "x"), ("4.txt", "4")] {
            write(folder.path(), path, text);
        }
        let scan = scan("numbers", folder.path(), ".csv", read).unwrap();
        assert_eq!(scan.found, [2, 1]);
        assert_eq!(scan.skipped.len(), 1);
        assert_eq!(scan.skipped[0].file, "3.csv");
        assert!(scan.skipped[0].reason.contains("no number"), "{:?}", scan.skipped);
    }

    #[test]
    fn where_nothing_reads_the_first_reason_is_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("3.csv"), "x").unwrap();
        let error = scan("numbers", folder.path(), ".csv", read).err().unwrap();
        assert!(error.to_string().contains("3.csv: no number"), "{error}");
    }
}
