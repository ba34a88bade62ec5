//! The wire between a node in QEMU and the agent: a pseudo-terminal on the agent's side, a socket on the
//! node's, and the noise between them.

use crate::sim_machine::Chance;
use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// How soon a direction notices that the line is taken away.
const NOTICE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// A line that stands.
#[derive(Debug)]
pub struct Line {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    link: PathBuf,
}

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    /// Flipped bits in a million.
    noise: AtomicU32,
    flipped: AtomicU64,
}

impl Line {
    /// Joins a node's socket to a new pseudo-terminal, linked as `link`.
    pub fn open(node: UnixStream, link: &Path) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = PathBuf::from(OsString::from_vec(ptsname(&master, Vec::new())?.into_bytes()));
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        // Kept open, so that the line does not hang up while no agent has it.
        let slave = rustix::fs::open(&name, flags, Mode::empty())?;
        // Raw before the first byte: a cooked terminal would echo the node's own frames back to it.
        let mut attributes = tcgetattr(&slave)?;
        attributes.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &attributes)?;
        rustix::fs::fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK)?;
        node.set_nonblocking(true)?;
        let _ = std::fs::remove_file(link);
        std::os::unix::fs::symlink(&name, link)
            .with_context(|| format!("cannot link a terminal as {}", link.display()))?;
        let shared = Arc::new(Shared::default());
        let (master, node) = (Arc::new(master), Arc::new(OwnedFd::from(node)));
        let directions = [
            (Arc::clone(&node), Arc::clone(&master), 1, None),
            (master, node, 2, Some(slave)),
        ];
        let threads = directions.map(|(from, to, seed, held)| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                carry(&from, &to, &shared, Chance::new(seed));
                drop(held);
            })
        });
        Ok(Self {
            shared,
            threads: threads.into(),
            link: link.to_owned(),
        })
    }

    /// From now on so many bits in a million are flipped, in both directions.
    pub fn set_noise(&self, bits_per_million: u32) {
        self.shared.noise.store(bits_per_million, Ordering::Relaxed);
    }

    /// Bits flipped so far.
    pub fn flipped(&self) -> u64 {
        self.shared.flipped.load(Ordering::Relaxed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A direction that panicked has said so on the standard error.
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.link);
    }
}

/// Carries bytes until the line is over or an end has gone.
fn carry(from: &OwnedFd, to: &OwnedFd, shared: &Shared, mut chance: Chance) {
    let mut bytes = [0; 4_096];
    while let Some(length) = transfer(from, PollFlags::IN, shared, || {
        rustix::io::read(from, &mut bytes[..])
    }) {
        if length == 0 {
            return;
        }
        let noise = shared.noise.load(Ordering::Relaxed);
        let flipped = flip(&mut bytes[..length], noise, &mut chance);
        shared.flipped.fetch_add(flipped, Ordering::Relaxed);
        let mut rest = &bytes[..length];
        while !rest.is_empty() {
            match transfer(to, PollFlags::OUT, shared, || rustix::io::write(to, rest)) {
                Some(written) => rest = &rest[written..],
                None => return,
            }
        }
    }
}

/// Does `act` once `end` is ready; nothing when the line is over or the end has gone.
fn transfer(
    end: &OwnedFd,
    ready: PollFlags,
    shared: &Shared,
    mut act: impl FnMut() -> rustix::io::Result<usize>,
) -> Option<usize> {
    while !shared.is_over.load(Ordering::Relaxed) {
        match act() {
            Ok(length) => return Some(length),
            Err(rustix::io::Errno::AGAIN) => {
                let mut ends = [PollFd::from_borrowed_fd(end.as_fd(), ready)];
                // Its outcome does not matter: the next attempt tells.
                let _ = poll(&mut ends, Some(&NOTICE));
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    None
}

/// Flips each bit with a probability of `per_million`; returns how many.
fn flip(bytes: &mut [u8], per_million: u32, chance: &mut Chance) -> u64 {
    let mut flipped = 0;
    if per_million == 0 {
        return flipped;
    }
    for byte in bytes {
        for bit in 0..8 {
            if chance.next() % 1_000_000 < u64::from(per_million) {
                *byte ^= 1 << bit;
                flipped += 1;
            }
        }
    }
    flipped
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_quiet_line_changes_nothing_and_a_noisy_one_flips_its_share() {
        let dir = tempfile::tempdir().unwrap();
        let (mut node, end) = UnixStream::pair().unwrap();
        let line = Line::open(end, &dir.path().join("line")).unwrap();
        let mut agent = std::fs::File::options()
            .read(true)
            .write(true)
            .open(dir.path().join("line"))
            .unwrap();
        let sent: Vec<u8> = (0..=255).collect();
        let mut got = [0; 256];
        node.write_all(&sent).unwrap();
        agent.read_exact(&mut got).unwrap();
        assert_eq!(got[..], sent);
        agent.write_all(&sent).unwrap();
        node.read_exact(&mut got).unwrap();
        assert_eq!(got[..], sent);
        assert_eq!(line.flipped(), 0);
        line.set_noise(100_000);
        node.write_all(&sent).unwrap();
        agent.read_exact(&mut got).unwrap();
        let differing: u32 = got.iter().zip(&sent).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!(u64::from(differing), line.flipped());
        assert!((100..320).contains(&differing), "{differing} of 2,048 bits");
    }
}
