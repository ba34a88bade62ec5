//! The small file that keeps the slots of [`crate::alarm`], whatever room there is for anything else.
//!
//! It holds two images, of which the older one is overwritten in place: a write that is torn leaves the
//! other. All of its room is written once, beforehand, so that a full disk or a full quota stops no
//! later write.
//!
//! | offset in its half | field | type, little-endian |
//! |---|---|---|
//! | 0 | magic | u32, `TRA1` |
//! | 4 | number, counting up | u64 |
//! | 12 | length of the image | u32 |
//! | 16 | crc32c over bytes 0..16 and the image | u32 |
//! | 20 | image | |

use crate::alarm::IMAGE_MAX;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use trunnion_common::codec::crc32c_parts;

const MAGIC: u32 = u32::from_le_bytes(*b"TRA1");
const CRC_AT: usize = 16;
const IMAGE_AT: usize = 20;

/// Room for the largest image, in whole pages.
const HALF_BYTES: usize = (IMAGE_AT + IMAGE_MAX).next_multiple_of(4_096);

/// The file, or where it will be as soon as there is room for it.
#[derive(Debug)]
pub(super) struct AlarmFile {
    path: PathBuf,
    file: Option<File>,
    /// Of the image written last.
    number: u64,
}

impl AlarmFile {
    /// Opens the file in a directory, or makes it; with the latest image in it.
    pub(super) fn open(directory: &Path) -> (Self, Option<Vec<u8>>) {
        let mut alarms = Self {
            path: directory.join("alarms"),
            file: None,
            number: 0,
        };
        let latest = match std::fs::read(&alarms.path) {
            Ok(bytes) => bytes.chunks(HALF_BYTES).filter_map(parse).max(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %alarms.path.display(), %error, "kept alarms not readable");
                None
            }
        };
        if let Some((number, _)) = &latest {
            alarms.number = *number;
        }
        if let Err(error) = alarms.make() {
            tracing::warn!(path = %alarms.path.display(), %error, "no room for alarms yet; they stay in memory");
        }
        (alarms, latest.map(|(_, image)| image))
    }

    /// Keeps an image in the place of the last but one; durable when it returns `Ok`.
    pub(super) fn write(&mut self, image: &[u8]) -> io::Result<()> {
        if image.len() > HALF_BYTES - IMAGE_AT {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.make()?;
        let Some(file) = &self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let number = self.number + 1;
        let mut bytes = Vec::with_capacity(IMAGE_AT + image.len());
        bytes.extend_from_slice(&MAGIC.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&(image.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&crc32c_parts(&[&bytes, image]).to_le_bytes());
        bytes.extend_from_slice(image);
        let written = file
            .write_all_at(&bytes, (number % 2) * HALF_BYTES as u64)
            .and_then(|()| file.sync_data());
        match written {
            Ok(()) => self.number = number,
            // A failed sync may have dropped what was to be written: the next attempt starts afresh.
            Err(_) => self.file = None,
        }
        written
    }

    /// Opens the file, and makes sure that all of its room is there.
    fn make(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)?;
        let there = file.metadata()?.len();
        let wanted = 2 * HALF_BYTES as u64;
        if there < wanted {
            let missing = vec![0; (wanted - there) as usize];
            file.write_all_at(&missing, there)?;
            file.sync_all()?;
            if let Some(directory) = self.path.parent() {
                File::open(directory)?.sync_all()?;
            }
        }
        self.file = Some(file);
        Ok(())
    }
}

/// The number and image of a half, if it holds one.
fn parse(half: &[u8]) -> Option<(u64, Vec<u8>)> {
    let number_at = |at: usize, bytes: usize| {
        let field = half.get(at..at + bytes)?;
        Some(
            field
                .iter()
                .rev()
                .fold(0, |number, byte| number << 8 | u64::from(*byte)),
        )
    };
    let length = usize::try_from(number_at(12, 4)?).ok()?;
    let image = half.get(IMAGE_AT..)?.get(..length)?;
    let is_whole = number_at(0, 4)? == u64::from(MAGIC)
        && number_at(CRC_AT, 4)? == u64::from(crc32c_parts(&[&half[..CRC_AT], image]));
    is_whole.then(|| number_at(4, 8).map(|number| (number, image.to_vec())))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latest(directory: &Path) -> Option<Vec<u8>> {
        AlarmFile::open(directory).1
    }

    #[test]
    fn the_latest_image_is_read_back_and_the_file_never_grows() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, none) = AlarmFile::open(dir.path());
        assert_eq!(none, None);
        for n in 0..20u8 {
            let image = vec![n; usize::from(n) * 100];
            file.write(&image).unwrap();
            assert_eq!(latest(dir.path()), Some(image));
        }
        let bytes = std::fs::metadata(dir.path().join("alarms")).unwrap().len();
        assert_eq!(bytes, 2 * HALF_BYTES as u64);
        assert!(
            file.write(&vec![0; HALF_BYTES]).is_err(),
            "no image is that large"
        );
    }

    #[test]
    fn of_a_torn_write_the_image_before_is_left_wherever_it_was_torn() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = AlarmFile::open(dir.path());
        file.write(&[1; 300]).unwrap();
        file.write(&[2; 300]).unwrap();
        let path = dir.path().join("alarms");
        let before = std::fs::read(&path).unwrap();
        file.write(&[3; 300]).unwrap();
        let after = std::fs::read(&path).unwrap();
        let written = HALF_BYTES..HALF_BYTES + IMAGE_AT + 300;
        for cut in written.clone().step_by(7) {
            let torn = [&after[..cut], &before[cut..]].concat();
            std::fs::write(&path, torn).unwrap();
            assert_eq!(latest(dir.path()), Some(vec![2; 300]), "cut at {cut}");
        }
        for flipped in written {
            let mut bytes = after.clone();
            bytes[flipped] ^= 0x10;
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(latest(dir.path()), Some(vec![2; 300]), "flipped at {flipped}");
        }
    }

    #[test]
    fn the_next_number_follows_the_one_found() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..5 {
            let (mut file, image) = AlarmFile::open(dir.path());
            assert_eq!(image, (n > 0).then(|| vec![n]));
            file.write(&[n + 1]).unwrap();
        }
    }
}
