//! The sensor node as a host process: the firmware library on a pseudo-terminal.
//!
//! ```text
//! SampleSource -> Replay (quantise, pace) -> Node (frame, keep, resend) -> pty master | pty slave <- agent
//! ```
//!
//! The process is one thread that wakes for bytes, for a deadline of the node, and every
//! [`READ_MICROS`] to sample what has become due. Sampling never waits for the line: when nobody
//! reads the terminal, frames stay in the outbox, whose rule says what goes when it is full.

use anyhow::Context;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use trunnion_common::codec::LINE_FRAME_MAX;
use trunnion_common::frame::{ChannelDescriptor, Describe};
use trunnion_common::id::{BootId, ChannelId};
use trunnion_common::quantity::Unit;
use trunnion_common::time::NodeTicks;
use trunnion_firmware::channel::{Forming, WAVEFORM_SAMPLES};
use trunnion_firmware::node::{Identity, Memory, Node};
use trunnion_firmware::outbox::{ESSENTIAL_MIN, WAVEFORM_MIN};
use trunnion_firmware::schedule::Schedule;
use trunnion_firmware::sensor::{Batch, Sensor};

/// How often the sensor is emptied, microseconds: half of a full frame at 12 kHz.
pub const READ_MICROS: u64 = 20_000;

/// Bytes of outbox unless told otherwise: more than a minute of one channel at 48 kHz.
pub const OUTBOX_BYTES: usize = 8 << 20;

/// The essential class's part of the outbox, as a divisor.
const ESSENTIAL_PART: usize = 8;

const VIBRATION: ChannelId = ChannelId::new(0).expect("0 is below CHANNELS_MAX");
const TEMPERATURE: ChannelId = ChannelId::new(1).expect("1 is below CHANNELS_MAX");

/// One reading a second.
const TEMPERATURE_RATE_MHZ: NonZeroU32 = NonZeroU32::new(1_000).expect("not 0");

/// A node whose reports nobody takes has lost whoever started it, and stops.
const UNHEARD: &str = "cannot write a report";

/// Acceleration of a machine, sample by sample.
pub trait SampleSource {
    /// Samples per second.
    fn rate_hz(&self) -> f64;
    /// Writes the next samples, in g, to `out` and returns how many; 0 is the end.
    fn read(&mut self, out: &mut [f32]) -> usize;
}

/// A file of little-endian f32 values in g.
#[derive(Debug)]
pub struct Recording {
    samples: Vec<f32>,
    next: usize,
    rate_hz: f64,
    repeat: bool,
}

impl Recording {
    /// Reads the whole file; with `repeat` it starts over for ever.
    pub fn open(path: &Path, rate_hz: f64, repeat: bool) -> anyhow::Result<Self> {
        let bytes =
            fs::read(path).with_context(|| format!("cannot read the recording {}", path.display()))?;
        let (values, rest) = bytes.as_chunks::<4>();
        anyhow::ensure!(
            !values.is_empty() && rest.is_empty(),
            "the recording {} has {} bytes: f32 samples of 4 bytes each are expected",
            path.display(),
            bytes.len()
        );
        let samples: Vec<f32> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
        if let Some(bad) = samples.iter().position(|sample| !sample.is_finite()) {
            anyhow::bail!("sample {bad} of the recording {} is not a number", path.display());
        }
        Ok(Self {
            samples,
            next: 0,
            rate_hz,
            repeat,
        })
    }
}

impl SampleSource for Recording {
    fn rate_hz(&self) -> f64 {
        self.rate_hz
    }

    fn read(&mut self, out: &mut [f32]) -> usize {
        if self.repeat && self.next == self.samples.len() {
            self.next = 0;
        }
        let rest = &self.samples[self.next..];
        let taken = rest.len().min(out.len());
        out[..taken].copy_from_slice(&rest[..taken]);
        self.next += taken;
        taken
    }
}

/// What a host node is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the terminal's symbolic link goes: the name that the agent opens.
    pub link: PathBuf,
    /// Who the node is.
    pub identity: Identity,
    /// Full scale, g.
    pub range_g: f32,
    /// Samples come this many times faster than the source says, and are declared so.
    pub speed: f64,
    /// From the start of the process to the first sample.
    pub delay: Duration,
    /// Whether a second channel reports a temperature each second.
    pub temperature: bool,
    /// Bytes for unacknowledged frames.
    pub outbox_bytes: usize,
}

/// What a host node tells.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Report {
    /// The terminal is there.
    Started {
        /// The node's id.
        node: String,
        /// This life.
        boot: String,
        /// The terminal behind the link.
        terminal: PathBuf,
    },
    /// The source has ended and nothing of the vibration channel is held any more.
    Drained {
        /// Samples produced.
        produced: u64,
        /// Samples safe with the agent.
        acknowledged: u64,
        /// Samples gone, whatever the cause.
        dropped: u64,
        /// Samples beyond the range, sent as the end of it.
        clipped: u64,
    },
    /// The last word.
    Stopped {
        /// Samples beyond the range, sent as the end of it.
        clipped: u64,
        /// Every channel's account.
        channels: Vec<ChannelReport>,
    },
}

/// Where the samples of one channel have gone.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ChannelReport {
    /// Its number.
    pub channel: u16,
    /// Samples produced.
    pub produced: u64,
    /// Samples safe with the agent.
    pub acknowledged: u64,
    /// Samples still held.
    pub held: u64,
    /// Samples gone, by cause.
    pub dropped: BTreeMap<&'static str, u64>,
}

/// Runs a node until `shutdown` resolves, handing each [`Report`] to `report`.
pub async fn run(
    options: &Options,
    source: &mut dyn SampleSource,
    shutdown: impl Future<Output = ()>,
    mut report: impl FnMut(&Report) -> io::Result<()>,
) -> anyhow::Result<()> {
    let clock = Clock::start();
    let rate_mhz = millihertz(source.rate_hz() * options.speed)?;
    let start =
        NodeTicks(u64::try_from(options.delay.as_micros()).context("the first sample is too far ahead")?);
    let mut replay = Replay::new(source, Schedule::new(start, rate_mhz), options.range_g);
    let mut thermometer = options.temperature.then(|| Thermometer::new(start));

    let table = channel_table(rate_mhz, options.range_g, options.temperature);
    let essential_bytes = (options.outbox_bytes / ESSENTIAL_PART).max(ESSENTIAL_MIN);
    let waveform_bytes = options.outbox_bytes.saturating_sub(essential_bytes);
    anyhow::ensure!(
        waveform_bytes >= WAVEFORM_MIN,
        "an outbox of {} bytes is too small: give it at least {}",
        options.outbox_bytes,
        ESSENTIAL_MIN + WAVEFORM_MIN
    );
    let (mut essential, mut waveform) = (vec![0; essential_bytes], vec![0; waveform_bytes]);
    let mut forming: [Forming; 2] = [[0; 2 * WAVEFORM_SAMPLES]; 2];
    let mut line = [0; LINE_FRAME_MAX];
    let memory = Memory {
        essential: &mut essential,
        waveform: &mut waveform,
        forming: &mut forming,
        line: &mut line,
    };
    let mut node = Node::new(options.identity, &table, memory).context("cannot build the node")?;

    let mut terminal = Terminal::open(&options.link)
        .with_context(|| format!("cannot open a terminal linked as {}", options.link.display()))?;
    report(&Report::Started {
        node: options.identity.node.to_string(),
        boot: options.identity.boot.to_string(),
        terminal: terminal.slave_path.clone(),
    })
    .context(UNHEARD)?;

    let mut shutdown = pin!(shutdown);
    let mut is_drained = false;
    loop {
        let received = terminal.read().context("cannot read the terminal")?;
        let is_idle = received.is_empty();
        node.handle_bytes(clock.ticks(), received);

        let now = clock.ticks();
        node.sample(now, VIBRATION, &mut replay)
            .expect("the table has a vibration channel");
        if let Some(thermometer) = &mut thermometer
            && !replay.is_ended
        {
            thermometer.read(now, &mut node);
        }

        let is_blocked = terminal
            .write_all_of(|out| node.poll_transmit(clock.ticks(), out))
            .context("cannot write to the terminal")?;

        if replay.is_ended && !is_drained {
            let account = node
                .account(VIBRATION)
                .expect("the table has a vibration channel");
            is_drained = account.held == 0;
            if is_drained {
                report(&Report::Drained {
                    produced: account.produced,
                    acknowledged: account.acknowledged,
                    dropped: account.dropped_total(),
                    clipped: replay.clipped,
                })
                .context(UNHEARD)?;
            }
        }

        // Bytes taken in may be half of what there is: look again before waiting.
        let read_at = now.plus_micros(if is_idle { READ_MICROS } else { 0 });
        let wake = node.poll_timeout().map_or(read_at, |at| at.min(read_at));
        let interest = if is_blocked {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            ready = terminal.master.ready(interest) => {
                ready.context("cannot wait for the terminal")?.clear_ready();
            }
            () = tokio::time::sleep_until(clock.instant(wake).into()) => {}
        }
    }

    let channels = (0..table.channels.len() as u16).filter_map(ChannelId::new);
    report(&Report::Stopped {
        clipped: replay.clipped,
        channels: channels
            .filter_map(|channel| {
                let account = node.account(channel).ok()?;
                Some(ChannelReport {
                    channel: channel.get(),
                    produced: account.produced,
                    acknowledged: account.acknowledged,
                    held: account.held,
                    dropped: account
                        .dropped
                        .iter()
                        .map(|(cause, count)| (cause.label(), *count))
                        .collect(),
                })
            })
            .collect(),
    })
    .context(UNHEARD)
}

/// The boot that follows the one counted in `state`, if there is such a file to count in.
pub fn next_boot(state: Option<&Path>) -> anyhow::Result<BootId> {
    let mut entropy = [0; 4];
    fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut entropy))
        .context("cannot read /dev/urandom")?;
    let mut counter = 1;
    if let Some(path) = state {
        counter = match fs::read_to_string(path) {
            Ok(text) => text
                .trim()
                .parse::<u32>()
                .ok()
                .and_then(|last| last.checked_add(1))
                .with_context(|| format!("{} does not hold a boot counter", path.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 1,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let written = path.with_extension("new");
        fs::write(&written, counter.to_string())
            .and_then(|()| fs::rename(&written, path))
            .with_context(|| format!("cannot write the boot counter {}", path.display()))?;
    }
    Ok(BootId::new(counter, u32::from_le_bytes(entropy)))
}

fn millihertz(rate_hz: f64) -> anyhow::Result<NonZeroU32> {
    let rate = (rate_hz * 1_000.0).round();
    NonZeroU32::new(rate as u32)
        .filter(|_| rate <= f64::from(u32::MAX))
        .with_context(|| format!("{rate_hz} Hz is no sample rate: give one from 0.001 to 4294967"))
}

fn channel_table(rate_mhz: NonZeroU32, range_g: f32, temperature: bool) -> Describe {
    let vibration = ChannelDescriptor {
        unit: Unit::StandardGravity,
        scale: scale_g(range_g),
        rate_mhz: rate_mhz.get(),
        range: range_g,
        band_low_hz: 1.0,
        // What an anti-alias filter leaves of the half of the rate.
        band_high_hz: rate_mhz.get() as f32 / 1_000.0 * 0.4,
    };
    let temperature = temperature.then_some(ChannelDescriptor {
        unit: Unit::DegreeCelsius,
        scale: 1.0,
        rate_mhz: TEMPERATURE_RATE_MHZ.get(),
        range: 150.0,
        band_low_hz: 0.0,
        band_high_hz: 0.1,
    });
    Describe {
        revision: 1,
        channels: [vibration].into_iter().chain(temperature).collect(),
    }
}

/// Value of one least significant bit: the range spread over sixteen bits.
fn scale_g(range_g: f32) -> f32 {
    range_g / 32_768.0
}

/// Plays a source as a sensor: sample `i` exactly when the schedule says.
struct Replay<'s> {
    source: &'s mut dyn SampleSource,
    schedule: Schedule,
    scale: f32,
    produced: u64,
    clipped: u64,
    is_ended: bool,
    values: Vec<f32>,
}

impl<'s> Replay<'s> {
    fn new(source: &'s mut dyn SampleSource, schedule: Schedule, range_g: f32) -> Self {
        Self {
            source,
            schedule,
            scale: scale_g(range_g),
            produced: 0,
            clipped: 0,
            is_ended: false,
            values: Vec::new(),
        }
    }
}

impl Sensor for Replay<'_> {
    fn read(&mut self, now: NodeTicks, out: &mut [i16]) -> Batch {
        let first = self.schedule.ticks_of(self.produced);
        let due = self.schedule.due_by(now) - self.produced;
        let due = usize::try_from(due).unwrap_or(usize::MAX).min(out.len());
        self.values.resize(if self.is_ended { 0 } else { due }, 0.0);
        let mut taken = 0;
        if !self.values.is_empty() {
            taken = self.source.read(&mut self.values);
            self.is_ended = taken == 0;
        }
        for (sample, value) in out.iter_mut().zip(&self.values[..taken]) {
            let bits = (value / self.scale).round();
            let is_clipped = bits < f32::from(i16::MIN) || f32::from(i16::MAX) < bits;
            self.clipped += u64::from(is_clipped);
            // A conversion from float ends at the ends of the range.
            *sample = bits as i16;
        }
        self.produced += taken as u64;
        Batch {
            missed: None,
            taken,
            first,
        }
    }
}

/// A housing that warms up: Newton's law, from 22 to 42 degrees with a time constant of 15 minutes.
struct Thermometer {
    schedule: Schedule,
    produced: u64,
}

impl Thermometer {
    fn new(start: NodeTicks) -> Self {
        Self {
            schedule: Schedule::new(start, TEMPERATURE_RATE_MHZ),
            produced: 0,
        }
    }

    fn read(&mut self, now: NodeTicks, node: &mut Node<'_>) {
        while self.produced < self.schedule.due_by(now) {
            let seconds = self.produced as f32;
            let degrees = 22.0 + 20.0 * (1.0 - (-seconds / 900.0).exp());
            node.handle_readings(TEMPERATURE, self.schedule.ticks_of(self.produced), &[Ok(degrees)])
                .expect("the table has a temperature channel");
            self.produced += 1;
        }
    }
}

/// The node's ticks: microseconds since the process began.
struct Clock {
    start: Instant,
}

impl Clock {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is where the host node's time comes from"
    )]
    fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    fn ticks(&self) -> NodeTicks {
        NodeTicks(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn instant(&self, ticks: NodeTicks) -> Instant {
        self.start + Duration::from_micros(ticks.0)
    }
}

/// The node's side of a pseudo-terminal.
struct Terminal {
    master: AsyncFd<OwnedFd>,
    /// Kept open, so that the line does not hang up while no agent has it.
    _slave: OwnedFd,
    slave_path: PathBuf,
    link: PathBuf,
    input: Vec<u8>,
    output: Vec<u8>,
    /// What of `output` the terminal has not taken yet.
    unwritten: std::ops::Range<usize>,
}

impl Terminal {
    fn open(link: &Path) -> anyhow::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?.into_bytes();
        let slave_path = PathBuf::from(std::ffi::OsString::from_vec(name));
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(&slave_path, flags, rustix::fs::Mode::empty())?;
        // Raw before the first byte: a cooked terminal would echo the agent's own frames back to it.
        let mut attributes = tcgetattr(&slave)?;
        attributes.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &attributes)?;
        rustix::fs::fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK)?;

        // A link left behind by a killed process may be replaced; a file is somebody's own.
        if fs::symlink_metadata(link).is_ok_and(|found| found.is_symlink()) {
            fs::remove_file(link)?;
        }
        std::os::unix::fs::symlink(&slave_path, link)?;
        #[allow(
            deprecated,
            reason = "an OwnedFd keeps its descriptor, which is all that the unsafe successor demands"
        )]
        let master = AsyncFd::new(master)?;
        Ok(Self {
            master,
            _slave: slave,
            slave_path,
            link: link.to_owned(),
            input: vec![0; 4_096],
            output: vec![0; 8 * LINE_FRAME_MAX],
            unwritten: 0..0,
        })
    }

    /// What has arrived, or nothing.
    fn read(&mut self) -> io::Result<&[u8]> {
        match rustix::io::read(self.master.get_ref(), &mut self.input[..]) {
            Ok(length) => Ok(&self.input[..length]),
            Err(Errno::AGAIN | Errno::INTR) => Ok(&[]),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what `next` provides until it provides nothing; returns whether the terminal would take
    /// no more.
    fn write_all_of(&mut self, mut next: impl FnMut(&mut [u8]) -> usize) -> io::Result<bool> {
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Values(Vec<f32>);

    impl SampleSource for Values {
        fn rate_hz(&self) -> f64 {
            1_000.0
        }

        fn read(&mut self, out: &mut [f32]) -> usize {
            let taken = self.0.len().min(out.len());
            for (place, value) in out.iter_mut().zip(self.0.drain(..taken)) {
                *place = value;
            }
            taken
        }
    }

    fn replay(values: &[f32], read: impl FnOnce(&mut Replay<'_>)) {
        let mut source = Values(values.to_vec());
        let schedule = Schedule::new(NodeTicks(5_000), millihertz(1_000.0).unwrap());
        read(&mut Replay::new(&mut source, schedule, 16.0));
    }

    #[test]
    fn a_sample_comes_when_it_is_due_and_not_before() {
        replay(&[1.0; 10], |replay| {
            let mut out = [0; 4];
            assert_eq!(replay.read(NodeTicks(4_999), &mut out).taken, 0);
            assert_eq!(replay.read(NodeTicks(6_000), &mut out).taken, 2);
            let batch = replay.read(NodeTicks(60_000), &mut out);
            assert_eq!((batch.taken, batch.first), (4, NodeTicks(7_000)));
        });
    }

    #[test]
    fn the_end_is_reached_once_the_last_sample_is_out() {
        replay(&[1.0; 3], |replay| {
            let mut out = [0; 4];
            assert_eq!(replay.read(NodeTicks(7_000), &mut out).taken, 3);
            assert!(!replay.is_ended);
            assert_eq!(replay.read(NodeTicks(8_000), &mut out).taken, 0);
            assert!(replay.is_ended);
        });
    }

    #[test]
    fn values_beyond_the_range_are_clipped_and_counted() {
        replay(&[0.0, 1.0, -16.0, 15.999_5, 16.0, -17.0], |replay| {
            let mut out = [0; 6];
            replay.read(NodeTicks(60_000), &mut out);
            assert_eq!(out, [0, 2_048, -32_768, 32_767, 32_767, -32_768]);
            assert_eq!(replay.clipped, 2);
        });
    }

    #[test]
    fn boots_are_counted_in_their_file() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("boot");
        let counters = [1, 2, 3].map(|_| next_boot(Some(&state)).unwrap().counter());
        assert_eq!(counters, [1, 2, 3]);
        fs::write(&state, "many").unwrap();
        assert!(next_boot(Some(&state)).is_err());
    }

    #[test]
    fn a_rate_must_be_a_rate() {
        assert_eq!(millihertz(25_600.0).unwrap().get(), 25_600_000);
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 5e6] {
            assert!(millihertz(bad).is_err(), "{bad}");
        }
    }
}
