//! The station that boards make, on a pseudo-terminal: an accelerometer of three axes and three slow instruments.

use super::terminal::Terminal;
use super::{Clock, await_turn, next_wake};
use crate::node_memory::NodeMemory;
use anyhow::{Context, anyhow};
use std::f64::consts::TAU;
use std::num::NonZeroU32;
use std::path::Path;
use std::thread::JoinHandle;
use tokio::sync::oneshot;
use trunnion_common::frame::ResetCause;
use trunnion_common::id::{BootId, LineAddress, NodeId};
use trunnion_common::sample::Reading;
use trunnion_common::time::NodeTicks;
use trunnion_firmware::link::Wiring;
use trunnion_firmware::node::Identity;
use trunnion_firmware::schedule::Schedule;
use trunnion_firmware::sensor::iis3dwb::RATE_MHZ;
use trunnion_firmware::sensor::{Batch, Gauge, Sensor};
use trunnion_firmware::settings::LineSpeed;
use trunnion_firmware::station::{Accelerometer, Quantity, READ_MICROS, Slow, Station};

/// Axes of the accelerometer: the first channels of the table.
pub const AXES: usize = 3;

/// Bytes for unacknowledged frames, as a board has them.
const ESSENTIAL_BYTES: usize = 8 << 10;
const WAVEFORM_BYTES: usize = 68 << 10;

/// Bytes a second that the line of every board carries, at 921,600 baud.
const LINE_BYTES_PER_S: u32 = 92_160;

const WHAT: Accelerometer = Accelerometer {
    rate_mhz: NonZeroU32::new(RATE_MHZ).expect("not 0"),
    range_g: 16.0,
    band_hz: [5.0, 6_000.0],
};

/// What the instruments feel, all the time alike.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Felt {
    /// Amplitude of a sine on each axis, g.
    pub amplitudes_g: [f64; AXES],
    /// Its frequency, Hz.
    pub hz: f64,
    /// Temperature of the housing, degrees Celsius.
    pub degrees: f32,
    /// What the machine takes, A, of 100.
    pub amperes: f32,
    /// Speed of the shaft, rpm.
    pub rpm: f32,
}

/// A station that runs until this is dropped.
#[derive(Debug)]
pub struct HostStation {
    over: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl HostStation {
    /// Starts one on a thread of its own; its line, which no other node is on, appears as `link`.
    pub fn start(link: &Path, node: NodeId, felt: Felt) -> Self {
        let (over, is_over) = oneshot::channel();
        let link = link.to_owned();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(run(&link, node, felt, is_over))
        });
        Self {
            over: Some(over),
            thread: Some(thread),
        }
    }

    /// Ends it; an error if it had ended by itself.
    pub fn stop(mut self) -> anyhow::Result<()> {
        drop(self.over.take());
        let thread = self.thread.take().context("it is stopped once")?;
        thread.join().map_err(|_| anyhow!("the station panicked"))?
    }
}

impl Drop for HostStation {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(thread) = self.thread.take() {
            // A story that ends without `stop` has failed already.
            let _ = thread.join();
        }
    }
}

async fn run(
    link: &Path,
    node: NodeId,
    felt: Felt,
    mut is_over: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let clock = Clock::start();
    let start = clock.ticks();
    let identity = Identity {
        node,
        boot: BootId::new(1, 1),
        address: LineAddress(1),
        wiring: Wiring::Own,
        reset: ResetCause::PowerOn,
    };
    let [mut housing, mut current, mut shaft] = [felt.degrees, felt.amperes, felt.rpm].map(Steady);
    let slow: [Slow<'_>; 3] = [
        (Quantity::HOUSING, &mut housing),
        (Quantity::current(100.0), &mut current),
        (Quantity::SPEED, &mut shaft),
    ];
    let mut memory = NodeMemory::new(ESSENTIAL_BYTES, WAVEFORM_BYTES, AXES);
    let accelerometer = (WHAT, Shaken::new(felt, start));
    let mut station = Station::new(identity, None, accelerometer, slow, memory.lend(), start)
        .context("cannot build the station")?;
    station
        .node()
        .set_line_speed(LineSpeed::BytesPerSecond(LINE_BYTES_PER_S));
    station.node().plan_for_line();
    let mut terminal = Terminal::open(link)
        .with_context(|| format!("cannot open a terminal linked as {}", link.display()))?;
    loop {
        let received = terminal.read().context("cannot read the terminal")?;
        let is_idle = received.is_empty();
        station.handle_bytes(clock.ticks(), received);
        station.handle_time(clock.ticks());
        let is_blocked = terminal
            .write_all_of(|out| station.poll_transmit(clock.ticks(), out))
            .context("cannot write to the terminal")?;
        let read_at = clock.ticks().plus_micros(if is_idle { READ_MICROS } else { 0 });
        let wake = clock.instant(next_wake(read_at, Some(station.poll_timeout()), is_blocked));
        if !await_turn(&terminal, is_blocked, wake, &mut is_over).await? {
            return Ok(());
        }
    }
}

/// An accelerometer in a sine.
struct Shaken {
    felt: Felt,
    schedule: Schedule,
    produced: u64,
}

impl Shaken {
    const fn new(felt: Felt, start: NodeTicks) -> Self {
        Self {
            felt,
            schedule: Schedule::new(start, WHAT.rate_mhz),
            produced: 0,
        }
    }
}

impl Sensor<AXES> for Shaken {
    fn read(&mut self, now: NodeTicks, out: &mut [[i16; AXES]]) -> Batch {
        let first = self.schedule.ticks_of(self.produced);
        let due = self.schedule.due_by(now) - self.produced;
        let taken = usize::try_from(due).unwrap_or(usize::MAX).min(out.len());
        for (index, sample) in (self.produced..).zip(&mut out[..taken]) {
            let seconds = index as f64 * 1_000.0 / f64::from(WHAT.rate_mhz.get());
            let sine = (TAU * self.felt.hz * seconds).sin();
            *sample = self
                .felt
                .amplitudes_g
                .map(|amplitude| super::quantised((amplitude * sine) as f32, WHAT.range_g));
        }
        self.produced += taken as u64;
        Batch {
            missed: None,
            taken,
            first,
        }
    }
}

/// An instrument that always says the same.
struct Steady(f32);

impl Gauge for Steady {
    fn read(&mut self, _now: NodeTicks) -> Reading {
        Ok(self.0)
    }
}
