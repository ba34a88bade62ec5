//! Two wires for real processes (TIA-485): every end hears what the others say, at the line's speed. Who speaks while
//! another does is heard by nobody: what arrives then is noise.

use crate::pseudo_terminal::{PseudoTerminal, raw};
use crate::sim_machine::Chance;
use rustix::fs::OFlags;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

/// The wires, until this is dropped.
#[derive(Debug)]
pub struct Wires {
    link: PathBuf,
    changes: Sender<Change>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    carried: AtomicU64,
    collided: AtomicU64,
}

#[derive(Debug)]
enum Change {
    /// The master's adapter, in place of the former one.
    Master(PseudoTerminal),
    Node(OwnedFd),
}

/// How long a stretch of the wires is carried at a time.
const STRETCH: Duration = Duration::from_millis(1);

/// Bytes of one end that wait for the wires; beyond, it is not read, and has to wait itself.
const WAITING_MAX: usize = 64 << 10;

impl Wires {
    /// Wires of this speed, whose master opens them as `link`.
    pub fn open(link: &Path, baud: u32) -> io::Result<Self> {
        let (changes, incoming) = channel();
        let counts = Arc::new(Counts::default());
        let wires = Self {
            link: link.to_owned(),
            changes,
            counts: counts.clone(),
        };
        wires.plug_in()?;
        let stretch_bytes = (baud as usize / 10_000).max(1);
        std::thread::spawn(move || carry(&incoming, stretch_bytes, &counts));
        Ok(wires)
    }

    /// The master's adapter is pulled, and put in again.
    pub fn plug_in(&self) -> io::Result<()> {
        self.tell(Change::Master(PseudoTerminal::open(&self.link)?))
    }

    /// A node whose line is the terminal at `path`; it leaves with its process.
    pub fn connect(&self, path: &Path) -> io::Result<()> {
        let node = raw(path)?;
        rustix::fs::fcntl_setfl(&node, OFlags::RDWR | OFlags::NONBLOCK)?;
        self.tell(Change::Node(node))
    }

    /// Bytes carried, and those of them that nobody understood since two spoke.
    pub fn counts(&self) -> (u64, u64) {
        let Counts { carried, collided } = &*self.counts;
        (carried.load(Ordering::Relaxed), collided.load(Ordering::Relaxed))
    }

    fn tell(&self, change: Change) -> io::Result<()> {
        let told = self.changes.send(change);
        told.map_err(|_| io::Error::other("the wires carry nothing any more"))
    }
}

/// Whoever is connected.
struct End {
    line: OwnedFd,
    /// Of the master's terminal, the side that keeps it from hanging up.
    held: Option<OwnedFd>,
    waiting: VecDeque<u8>,
    is_gone: bool,
}

impl End {
    fn new(change: Change) -> Self {
        let (line, held) = match change {
            Change::Master(terminal) => (terminal.master, Some(terminal.slave)),
            Change::Node(line) => (line, None),
        };
        Self {
            line,
            held,
            waiting: VecDeque::new(),
            is_gone: false,
        }
    }

    fn listen(&mut self) {
        let mut bytes = [0; 4_096];
        while self.waiting.len() < WAITING_MAX {
            match rustix::io::read(&self.line, &mut bytes) {
                Ok(0) => self.is_gone = true,
                Ok(length) => {
                    self.waiting.extend(&bytes[..length]);
                    continue;
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(_) => self.is_gone = true,
            }
            return;
        }
    }

    /// What it does not take is lost, as on any receiver that is too slow.
    fn hear(&self, bytes: &[u8]) {
        let _ = rustix::io::write(&self.line, bytes);
    }
}

fn carry(changes: &Receiver<Change>, stretch_bytes: usize, counts: &Counts) {
    let (mut ends, mut noise) = (Vec::<End>::new(), Chance::new(1));
    let mut next = now();
    loop {
        match changes.try_recv() {
            Ok(change) => {
                if matches!(change, Change::Master(_)) {
                    ends.retain(|end| end.held.is_none());
                }
                ends.push(End::new(change));
                continue;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return,
        }
        // A process that was held up does not make the wires faster afterwards.
        next = (next + STRETCH).max(now());
        pause(next.saturating_duration_since(now()));
        let mut speakers = Vec::new();
        for (at, end) in ends.iter_mut().enumerate() {
            end.listen();
            if !end.waiting.is_empty() {
                let length = end.waiting.len().min(stretch_bytes);
                speakers.push((at, end.waiting.drain(..length).collect::<Vec<u8>>()));
            }
        }
        let Some((speaker, mut bytes)) = speakers.pop() else {
            ends.retain(|end| !end.is_gone);
            continue;
        };
        counts.carried.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let is_collision = !speakers.is_empty();
        if is_collision {
            counts.collided.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            bytes.fill_with(|| noise.next() as u8);
        }
        let hears = |at: &usize| is_collision || *at != speaker;
        (0..ends.len()).filter(hears).for_each(|at| ends[at].hear(&bytes));
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "wires between real processes carry bytes in real time"
)]
fn now() -> Instant {
    Instant::now()
}

#[allow(
    clippy::disallowed_methods,
    reason = "wires between real processes carry bytes in real time"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
