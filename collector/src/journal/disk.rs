//! The three things the journal asks of a disk, so that a test can refuse them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A disk that may fail.
pub(crate) trait Disk: Send {
    /// Writes all of `bytes` at `offset`.
    fn write(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything written is on stable storage.
    fn sync(&mut self, file: &File) -> io::Result<()>;

    /// Cuts the file.
    fn truncate(&mut self, file: &File, length: u64) -> io::Result<()>;
}

/// The host's.
#[derive(Debug)]
pub(crate) struct HostDisk;

impl Disk for HostDisk {
    fn write(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn truncate(&mut self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }
}
