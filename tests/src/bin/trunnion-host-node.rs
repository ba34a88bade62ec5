//! A sensor node as a host process: replays a recording, or feels a simulated machine, on a
//! pseudo-terminal until told to stop.

use anyhow::Context;
use clap::Parser;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{SignalKind, signal};
use trunnion_common::frame::ResetCause;
use trunnion_common::id::{LineAddress, NodeId};
use trunnion_diagnosis::bearing::Element;
use trunnion_firmware::link::Wiring;
use trunnion_firmware::node::Identity;
use trunnion_firmware::settings::LineSpeed;
use trunnion_tests::host_node::{
    Motor, OUTBOX_BYTES, Options, Recording, SampleSource, Switched, Warmth, next_boot, run,
};
use trunnion_tests::sim_machine::SeededFault;

/// Replays a recording, or feels a simulated machine, as a sensor node on a pseudo-terminal.
///
/// Writes one line of JSON to the standard output when the terminal is there, when every sample has
/// been acknowledged, and when it stops (SIGTERM or SIGINT). SIGUSR1 switches the machine off: no more
/// samples come, and what is held is still handed over.
#[derive(Parser, Debug)]
struct Arguments {
    /// Symbolic link to make to the terminal: the port that the agent opens.
    #[arg(long)]
    link: PathBuf,
    /// The node's id, hexadecimal.
    #[arg(long)]
    node: NodeId,
    /// The node's address on the line [default: 1; none on a shared line, where the agent gives one].
    #[arg(long)]
    address: Option<u8>,
    /// Other nodes are on the line: speak only when polled or asked, as on RS-485.
    #[arg(long, requires = "baud")]
    shared: bool,
    /// File that counts the boots, by which a later one is told from an earlier one [default: LINK.boot].
    #[arg(long)]
    boot_counter: Option<PathBuf>,
    /// File that keeps the settings, as a board's flash does [default: LINK.settings].
    #[arg(long)]
    settings: Option<PathBuf>,
    /// Speed of the line in baud, beyond which no plan may go; without it the line is as fast as a terminal.
    #[arg(long)]
    baud: Option<u32>,
    /// Recording to replay: little-endian f32 values in g.
    #[arg(long, required_unless_present = "machine", conflicts_with = "machine")]
    file: Option<PathBuf>,
    /// Start the recording over at its end.
    #[arg(long = "loop", requires = "file")]
    repeat: bool,
    /// Machine to simulate instead of a recording.
    #[arg(long, value_enum, requires = "seconds")]
    machine: Option<Machine>,
    /// Seconds that the simulated machine runs.
    #[arg(long, requires = "machine")]
    seconds: Option<f64>,
    /// What the simulation draws its chance from.
    #[arg(long, requires = "machine", default_value_t = 1)]
    seed: u64,
    /// Element of the simulated machine's bearing that fails: outer_race, inner_race, ball or cage.
    #[arg(long, requires = "machine", value_parser = element)]
    fault: Option<Element>,
    /// Amplitude of the fault's strikes, g.
    #[arg(long, requires = "fault", default_value_t = 1.0)]
    severity: f64,
    /// Seconds from the first sample to the fault.
    #[arg(long, requires = "fault", default_value_t = 0.0)]
    onset: f64,
    /// Samples per second.
    #[arg(long)]
    rate: f64,
    /// Replay this many times faster; the declared rate rises with it.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// Full scale in g: values beyond it are clipped and counted.
    #[arg(long, default_value_t = 16.0)]
    range: f32,
    /// When to begin, milliseconds since 1970-01-01 UTC; at once if that is past.
    #[arg(long)]
    start_at: Option<u64>,
    /// Seconds from the beginning to the first sample.
    #[arg(long, default_value_t = 0.0)]
    lead_in: f64,
    /// Report a temperature each second as channel 1.
    #[arg(long)]
    temperature: bool,
    /// Report each second as channel 1 the temperature that stands in this file, degrees Celsius.
    #[arg(long, conflicts_with = "temperature")]
    temperature_file: Option<PathBuf>,
    /// Bytes for unacknowledged frames.
    #[arg(long, default_value_t = OUTBOX_BYTES)]
    outbox_bytes: usize,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Machine {
    /// A small motor on a 6205.
    Motor,
}

fn element(name: &str) -> Result<Element, String> {
    let found = Element::ALL.into_iter().find(|element| element.label() == name);
    found.ok_or_else(|| format!("one of {}", Element::ALL.map(Element::label).join(", ")))
}

impl Arguments {
    fn source(&self) -> anyhow::Result<Box<dyn SampleSource>> {
        let fault = self.fault.map(|element| SeededFault {
            element,
            severity_g: self.severity,
            onset_s: self.onset,
        });
        Ok(match (&self.file, self.machine, self.seconds) {
            (Some(file), _, _) => Box::new(Recording::open(file, self.rate, self.repeat)?),
            (None, Some(Machine::Motor), Some(seconds)) => {
                let seed = self.seed;
                Box::new(Motor { seed, fault, seconds }.start(self.rate)?)
            }
            // The command line's own rules leave no other case.
            (None, ..) => anyhow::bail!("give --file, or --machine and --seconds"),
        })
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    anyhow::ensure!(
        arguments.range.is_finite() && arguments.range > 0.0,
        "--range {} is no full scale: give a positive number of g",
        arguments.range
    );
    let lead_in = Duration::try_from_secs_f64(arguments.lead_in).context("--lead-in is no length of time")?;
    let boot_counter = arguments
        .boot_counter
        .clone()
        .unwrap_or_else(|| arguments.link.with_extension("boot"));
    let settings = arguments.settings.clone();
    let settings = settings.unwrap_or_else(|| arguments.link.with_extension("settings"));
    let (wiring, unassigned) = if arguments.shared {
        (Wiring::Shared, LineAddress::UNASSIGNED)
    } else {
        (Wiring::Own, LineAddress(1))
    };
    // A start and a stop bit with each byte.
    let line_speed = arguments.baud.map(|baud| LineSpeed::BytesPerSecond(baud / 10));
    let is_off = Arc::new(AtomicBool::new(false));
    let mut source = Switched::new(arguments.source()?, is_off.clone());
    let options = Options {
        link: arguments.link,
        identity: Identity {
            node: arguments.node,
            boot: next_boot(&boot_counter)?,
            address: arguments.address.map_or(unassigned, LineAddress),
            wiring,
            reset: ResetCause::PowerOn,
        },
        range_g: arguments.range,
        speed: arguments.speed,
        delay: until(arguments.start_at).saturating_add(lead_in),
        temperature: match arguments.temperature_file {
            Some(file) => Some(Warmth::Told(file)),
            None => arguments.temperature.then_some(Warmth::WarmingUp),
        },
        outbox_bytes: arguments.outbox_bytes,
        settings,
        line_speed: line_speed.unwrap_or(LineSpeed::Unknown),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut switched_off = signal(SignalKind::user_defined1())?;
        tokio::spawn(async move {
            switched_off.recv().await;
            is_off.store(true, Ordering::Relaxed);
        });
        let shutdown = async {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = interrupted.recv() => {}
            }
        };
        run(&options, &mut source, shutdown, |report| {
            writeln!(io::stdout(), "{}", serde_json::json!(report))
        })
        .await
    })
}

/// From now to `start_at`, or nothing if that is past.
#[allow(
    clippy::disallowed_methods,
    reason = "an appointment on the wall clock is kept here"
)]
fn until(start_at: Option<u64>) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(start_at.unwrap_or(0)).saturating_sub(now)
}
