//! The sensor node as a host process: the firmware library on a pseudo-terminal.
//!
//! ```text
//! SampleSource -> Replay (quantise, pace) -> Node (frame, keep, resend) -> pty master | pty slave <- agent
//! ```
//!
//! The process is one thread that wakes for bytes, for a deadline of the node, and every
//! [`READ_MICROS`] to sample what has become due. Sampling never waits for the line: when nobody
//! reads the terminal, frames stay in the outbox, whose rule says what goes when it is full.

mod machine;
mod source;
mod station;
mod terminal;

pub use machine::{Motor, RunningMotor};
pub use source::{Recording, SampleSource, Switched, quantised};
pub use station::{AXES, Felt, HostStation};

use crate::node_memory::NodeMemory;
use anyhow::Context;
use serde::Serialize;
use source::{Replay, scale_g};
use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};
use terminal::Terminal;
use tokio::io::Interest;
use trunnion_common::frame::{ChannelDescriptor, Describe};
use trunnion_common::id::{BootId, ChannelId};
use trunnion_common::quantity::Unit;
use trunnion_common::time::NodeTicks;
use trunnion_firmware::alarm::Alarm;
use trunnion_firmware::node::{Identity, Node};
use trunnion_firmware::outbox::{ESSENTIAL_MIN, WAVEFORM_MIN};
use trunnion_firmware::schedule::Schedule;
use trunnion_firmware::settings::LineSpeed;
use trunnion_firmware::station::HOUSING_LIMIT;

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
    /// What a second channel reports each second, if there is one.
    pub temperature: Option<Warmth>,
    /// Bytes for unacknowledged frames.
    pub outbox_bytes: usize,
    /// The file that stands for the memory in which a board keeps its settings.
    pub settings: PathBuf,
    /// How fast the line is said to be.
    pub line_speed: LineSpeed,
}

/// What a thermometer feels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Warmth {
    /// A housing that warms up: Newton's law, from 22 to 42 degrees with a time constant of 15 minutes.
    WarmingUp,
    /// What stands in a file, degrees Celsius, which a story writes anew when the machine's turn comes.
    Told(PathBuf),
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
    /// New settings are stored, and in force.
    SettingsStored {
        /// How many times in this life.
        times: u32,
    },
    /// Somebody asked where the node is: a board would light its lamp.
    Identifying,
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
    let mut thermometer = options
        .temperature
        .clone()
        .map(|warmth| Thermometer::new(start, warmth));

    let table = channel_table(rate_mhz, options.range_g, options.temperature.is_some());
    let essential_bytes = (options.outbox_bytes / ESSENTIAL_PART).max(ESSENTIAL_MIN);
    let waveform_bytes = options.outbox_bytes.saturating_sub(essential_bytes);
    anyhow::ensure!(
        waveform_bytes >= WAVEFORM_MIN,
        "an outbox of {} bytes is too small: give it at least {}",
        options.outbox_bytes,
        ESSENTIAL_MIN + WAVEFORM_MIN
    );
    let mut memory = NodeMemory::new(essential_bytes, waveform_bytes, table.channels.len());
    let mut node = Node::new(options.identity, &table, memory.lend()).context("cannot build the node")?;
    node.set_line_speed(options.line_speed);
    let image = read_settings(&options.settings)?;
    if let Err(error) = node.restore_settings(image.as_deref()) {
        eprintln!("{}: {error}", options.settings.display());
    }
    let (mut settings_stored, mut is_identifying) = (0, false);

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
        if let Some(image) = node.poll_settings() {
            let stored = keep_settings(&options.settings, &image);
            node.handle_settings_stored(now, stored.is_ok());
            match stored {
                Ok(()) => {
                    settings_stored += 1;
                    report(&Report::SettingsStored {
                        times: settings_stored,
                    })
                    .context(UNHEARD)?;
                }
                Err(error) => eprintln!("{}: {error}", options.settings.display()),
            }
        }
        if std::mem::replace(&mut is_identifying, node.is_identifying(now)) != is_identifying
            && is_identifying
        {
            report(&Report::Identifying).context(UNHEARD)?;
        }
        node.sample(now, VIBRATION, &mut replay)
            .expect("the table has a vibration channel");
        if let Some(thermometer) = &mut thermometer
            && !replay.is_ended
        {
            thermometer.read(now, &mut node)?;
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
        let wake = next_wake(read_at, node.poll_timeout(), is_blocked);
        if !await_turn(&terminal, is_blocked, clock.instant(wake), &mut shutdown).await? {
            break;
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

/// Waits for bytes, for room in a terminal that takes nothing, or for `wake`; whether to go on, and not to shut down.
async fn await_turn(
    terminal: &Terminal,
    is_blocked: bool,
    wake: Instant,
    shutdown: impl Future,
) -> anyhow::Result<bool> {
    let interest = if is_blocked {
        Interest::READABLE | Interest::WRITABLE
    } else {
        Interest::READABLE
    };
    tokio::select! {
        biased;
        _ = shutdown => return Ok(false),
        ready = terminal.master.ready(interest) => {
            ready.context("cannot wait for the terminal")?.clear_ready();
        }
        () = tokio::time::sleep_until(wake.into()) => {}
    }
    Ok(true)
}

/// When to go on if no byte comes: at the node's deadline or to sample. While the terminal takes
/// nothing, the node cannot act on its deadline, and to wake for it would be to wake without end.
fn next_wake(read_at: NodeTicks, deadline: Option<NodeTicks>, is_blocked: bool) -> NodeTicks {
    match deadline {
        Some(deadline) if !is_blocked => deadline.min(read_at),
        _ => read_at,
    }
}

/// The boot that follows the one counted in the file `state`.
pub fn next_boot(state: &Path) -> anyhow::Result<BootId> {
    let mut entropy = [0; 4];
    fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut entropy))
        .context("cannot read /dev/urandom")?;
    let counter = match fs::read_to_string(state) {
        Ok(text) => text
            .trim()
            .parse::<u32>()
            .ok()
            .and_then(|last| last.checked_add(1))
            .with_context(|| format!("{} does not hold a boot counter", state.display()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 1,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", state.display())),
    };
    let written = state.with_extension("new");
    fs::write(&written, counter.to_string())
        .and_then(|()| fs::rename(&written, state))
        .with_context(|| format!("cannot write the boot counter {}", state.display()))?;
    Ok(BootId::new(counter, u32::from_le_bytes(entropy)))
}

/// The image stored last, if any ever was.
fn read_settings(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(image) => Ok(Some(image)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// All of the image or nothing of it, as a board with two pages of flash does it.
fn keep_settings(path: &Path, image: &[u8]) -> io::Result<()> {
    let written = path.with_extension("new");
    fs::write(&written, image)?;
    fs::File::open(&written)?.sync_all()?;
    fs::rename(&written, path)
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

struct Thermometer {
    schedule: Schedule,
    warmth: Warmth,
    alarm: Alarm,
    produced: u64,
}

impl Thermometer {
    fn new(start: NodeTicks, warmth: Warmth) -> Self {
        Self {
            schedule: Schedule::new(start, TEMPERATURE_RATE_MHZ),
            warmth,
            alarm: Alarm::new(TEMPERATURE, HOUSING_LIMIT),
            produced: 0,
        }
    }

    fn read(&mut self, now: NodeTicks, node: &mut Node<'_>) -> anyhow::Result<()> {
        while self.produced < self.schedule.due_by(now) {
            let reading = Ok(self.warmth.degrees(self.produced as f32)?);
            node.handle_readings(TEMPERATURE, self.schedule.ticks_of(self.produced), &[reading])
                .expect("the table has a temperature channel");
            if let Some(event) = self.alarm.judge(node.calibrated(TEMPERATURE, reading)) {
                node.handle_event(now, event);
            }
            self.produced += 1;
        }
        Ok(())
    }
}

impl Warmth {
    /// So many seconds after the first reading.
    fn degrees(&self, seconds: f32) -> anyhow::Result<f32> {
        match self {
            Self::WarmingUp => Ok(22.0 + 20.0 * (1.0 - (-seconds / 900.0).exp())),
            Self::Told(path) => {
                let text = fs::read_to_string(path)
                    .with_context(|| format!("cannot read the temperature in {}", path.display()))?;
                let degrees = text.trim().parse();
                degrees.with_context(|| format!("{} does not hold a temperature", path.display()))
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_cannot_be_kept_wakes_nobody() {
        let (past, soon) = (NodeTicks(5), NodeTicks(9));
        assert_eq!(next_wake(soon, Some(past), false), past);
        assert_eq!(next_wake(soon, Some(past), true), soon);
        assert_eq!(next_wake(soon, None, false), soon);
    }

    #[test]
    fn boots_are_counted_in_their_file() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("boot");
        let counters = [1, 2, 3].map(|_| next_boot(&state).unwrap().counter());
        assert_eq!(counters, [1, 2, 3]);
        fs::write(&state, "many").unwrap();
        assert!(next_boot(&state).is_err());
    }

    #[test]
    fn a_rate_must_be_a_rate() {
        assert_eq!(millihertz(25_600.0).unwrap().get(), 25_600_000);
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 5e6] {
            assert!(millihertz(bad).is_err(), "{bad}");
        }
    }
}
