//! Pseudo-terminals, which look like serial ports to whoever opens them.

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A pseudo-terminal under a name.
#[derive(Debug)]
pub struct PseudoTerminal {
    /// The side to speak on. It never blocks.
    pub master: OwnedFd,
    /// The other side, kept open so that the line does not hang up while nobody else has it.
    pub slave: OwnedFd,
    /// The device behind the name.
    pub device: PathBuf,
}

impl PseudoTerminal {
    /// Opens one, raw, that others open as `link`. A link that is there is replaced; a file is somebody's own.
    pub fn open(link: &Path) -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let device = PathBuf::from(OsString::from_vec(ptsname(&master, Vec::new())?.into_bytes()));
        // Raw before the first byte: a cooked terminal would echo what comes.
        let slave = raw(&device)?;
        rustix::fs::fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK)?;
        if fs::symlink_metadata(link).is_ok_and(|found| found.is_symlink()) {
            fs::remove_file(link)?;
        }
        std::os::unix::fs::symlink(&device, link)?;
        Ok(Self {
            master,
            slave,
            device,
        })
    }
}

/// Opens the terminal at `path`, and makes it raw.
pub fn raw(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(path, flags, Mode::empty())?;
    let mut attributes = tcgetattr(&terminal)?;
    attributes.make_raw();
    tcsetattr(&terminal, OptionalActions::Now, &attributes)?;
    Ok(terminal)
}
