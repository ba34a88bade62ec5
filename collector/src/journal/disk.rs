//! The three things the journal asks of a disk, so that a test can refuse them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A disk that may fail. What is not on it, the names of files, goes to the host's.
pub trait Disk: Send {
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

#[cfg(test)]
pub(crate) mod faults {
    use super::*;
    use std::sync::{Arc, Mutex, MutexGuard};

    /// One thing asked of a disk.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum Call {
        Write,
        Sync,
        Truncate,
    }

    /// A disk that fails on request, as disks do: a failed write has written half, and after a failed
    /// sync the data may well be in the file. Cloning shares it.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct FaultyDisk(Arc<Mutex<Plan>>);

    #[derive(Debug, Default)]
    pub(crate) struct Plan {
        /// What was asked so far, and whether it was done.
        pub(crate) calls: Vec<(Call, bool)>,
        /// Calls that fail, by their number from 0.
        pub(crate) fail: std::ops::Range<usize>,
        /// How they fail.
        pub(crate) error: Option<io::ErrorKind>,
    }

    impl FaultyDisk {
        pub(crate) fn failing(fail: std::ops::Range<usize>, error: io::ErrorKind) -> Self {
            let disk = Self::default();
            disk.plan().fail = fail;
            disk.plan().error = Some(error);
            disk
        }

        pub(crate) fn plan(&self) -> MutexGuard<'_, Plan> {
            self.0.lock().unwrap()
        }

        fn call(&self, call: Call) -> io::Result<()> {
            let mut plan = self.plan();
            let fails = plan.fail.contains(&plan.calls.len());
            plan.calls.push((call, !fails));
            match plan.error {
                Some(error) if fails => Err(error.into()),
                _ => Ok(()),
            }
        }
    }

    impl Disk for FaultyDisk {
        fn write(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
            let outcome = self.call(Call::Write);
            let length = if outcome.is_ok() {
                bytes.len()
            } else {
                bytes.len() / 2
            };
            HostDisk.write(file, offset, &bytes[..length])?;
            outcome
        }

        fn sync(&mut self, _: &File) -> io::Result<()> {
            self.call(Call::Sync)
        }

        fn truncate(&mut self, file: &File, length: u64) -> io::Result<()> {
            self.call(Call::Truncate)?;
            HostDisk.truncate(file, length)
        }
    }
}
