//! Small files of a few lines of hexadecimal numbers, replaced as a whole.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Longest file that is read: far above what is ever written.
const FILE_BYTES_MAX: u64 = 4_096;

/// The numbers of each line; none where there is no such file. A line with anything else in it is left out. Blocks
/// on the disk.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Vec<u64>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let numbers = |line: &str| {
        let words = line.split(' ');
        words.map(|word| u64::from_str_radix(word, 16).ok()).collect()
    };
    Ok(text.lines().filter_map(numbers).collect())
}

/// Puts these lines in the place of what there is; durable when it returns `Ok`. Blocks on the disk.
pub(crate) fn replace(path: &Path, lines: &[Vec<u64>]) -> io::Result<()> {
    let line = |numbers: &Vec<u64>| {
        let words: Vec<String> = numbers.iter().map(|number| format!("{number:016x}")).collect();
        words.join(" ") + "\n"
    };
    let text: String = lines.iter().map(line).collect();
    let aside = path.with_extension("new");
    let mut file = File::create(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    std::fs::rename(&aside, path)?;
    path.parent()
        .map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_damaged_lines_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("numbers");
        assert_eq!(read(&path).unwrap(), Vec::<Vec<u64>>::new());
        let lines = [vec![7], vec![u64::MAX, 0], vec![1, 2]];
        replace(&path, &lines).unwrap();
        assert_eq!(read(&path).unwrap(), lines);
        let mut text = std::fs::read(&path).unwrap();
        assert!(text.starts_with(b"0000000000000007\nffffffffffffffff 0000000000000000\n"));
        text[20] = 0xff;
        std::fs::write(&path, text).unwrap();
        assert_eq!(read(&path).unwrap(), [&lines[0][..], &lines[2]]);
        assert!(replace(&dir.path().join("nowhere/numbers"), &lines).is_err());
    }
}
