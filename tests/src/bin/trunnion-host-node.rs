//! A sensor node as a host process: replays a recording on a pseudo-terminal until told to stop.

use anyhow::Context;
use clap::Parser;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{SignalKind, signal};
use trunnion_common::frame::ResetCause;
use trunnion_common::id::{LineAddress, NodeId};
use trunnion_firmware::link::Wiring;
use trunnion_firmware::node::Identity;
use trunnion_tests::host_node::{OUTBOX_BYTES, Options, Recording, next_boot, run};

/// Replays a recording as a sensor node on a pseudo-terminal.
///
/// Writes one line of JSON to the standard output when the terminal is there, when every sample has
/// been acknowledged, and when it stops (SIGTERM or SIGINT).
#[derive(Parser, Debug)]
struct Arguments {
    /// Symbolic link to make to the terminal: the port that the agent opens.
    #[arg(long)]
    link: PathBuf,
    /// The node's id, hexadecimal.
    #[arg(long)]
    node: NodeId,
    /// The node's address on the line.
    #[arg(long, default_value_t = 1)]
    address: u8,
    /// File that counts the boots, by which a later one is told from an earlier one [default: LINK.boot].
    #[arg(long)]
    boot_counter: Option<PathBuf>,
    /// Recording to replay: little-endian f32 values in g.
    #[arg(long)]
    file: PathBuf,
    /// Start the recording over at its end.
    #[arg(long = "loop")]
    repeat: bool,
    /// Samples per second of the recording.
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
    /// Bytes for unacknowledged frames.
    #[arg(long, default_value_t = OUTBOX_BYTES)]
    outbox_bytes: usize,
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
        .unwrap_or_else(|| arguments.link.with_extension("boot"));
    let mut source = Recording::open(&arguments.file, arguments.rate, arguments.repeat)?;
    let options = Options {
        link: arguments.link,
        identity: Identity {
            node: arguments.node,
            boot: next_boot(&boot_counter)?,
            address: LineAddress(arguments.address),
            wiring: Wiring::Own,
            reset: ResetCause::PowerOn,
        },
        range_g: arguments.range,
        speed: arguments.speed,
        delay: until(arguments.start_at).saturating_add(lead_in),
        temperature: arguments.temperature,
        outbox_bytes: arguments.outbox_bytes,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
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
