//! A pseudo-terminal whose other side an agent opens like any serial port.

use crate::pseudo_terminal::PseudoTerminal;
use rustix::io::Errno;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;
use trunnion_common::codec::LINE_FRAME_MAX;

/// The node's side of a pseudo-terminal.
pub(super) struct Terminal {
    pub(super) master: AsyncFd<OwnedFd>,
    /// Kept open, so that the line does not hang up while no agent has it.
    _slave: OwnedFd,
    pub(super) slave_path: PathBuf,
    link: PathBuf,
    input: Vec<u8>,
    output: Vec<u8>,
    /// What of `output` the terminal has not taken yet.
    unwritten: std::ops::Range<usize>,
}

impl Terminal {
    pub(super) fn open(link: &Path) -> anyhow::Result<Self> {
        let PseudoTerminal {
            master,
            slave,
            device,
        } = PseudoTerminal::open(link)?;
        #[allow(
            deprecated,
            reason = "an OwnedFd keeps its descriptor, which is all that the unsafe successor demands"
        )]
        let master = AsyncFd::new(master)?;
        Ok(Self {
            master,
            _slave: slave,
            slave_path: device,
            link: link.to_owned(),
            input: vec![0; 4_096],
            output: vec![0; 8 * LINE_FRAME_MAX],
            unwritten: 0..0,
        })
    }

    /// What has arrived, or nothing.
    pub(super) fn read(&mut self) -> io::Result<&[u8]> {
        match rustix::io::read(self.master.get_ref(), &mut self.input[..]) {
            Ok(length) => Ok(&self.input[..length]),
            Err(Errno::AGAIN | Errno::INTR) => Ok(&[]),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what `next` provides until it provides nothing; returns whether the terminal would take
    /// no more.
    pub(super) fn write_all_of(&mut self, mut next: impl FnMut(&mut [u8]) -> usize) -> io::Result<bool> {
        loop {
            if self.unwritten.is_empty() {
                self.unwritten = 0..next(&mut self.output);
                if self.unwritten.is_empty() {
                    return Ok(false);
                }
            }
            match rustix::io::write(self.master.get_ref(), &self.output[self.unwritten.clone()]) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(true),
                Ok(length) => self.unwritten.start += length,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Another node may have taken the name over.
        if fs::read_link(&self.link).is_ok_and(|target| target == self.slave_path) {
            let _: io::Result<()> = fs::remove_file(&self.link);
        }
    }
}
