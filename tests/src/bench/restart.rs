//! How soon a collector with many channels is back at work after a restart.

use super::delivery::{enrolment, runtime, utc};
use super::engine::Scale;
use super::figure::Figure;
use super::flood::await_stored;
use super::herd::{Herd, Spec, fleet_text};
use super::inside::{START, journaled};
use super::scenario::{Progress, Scenario};
use super::sender::Sender;
use crate::plant::{GATEWAY, Plant};
use crate::process::await_some;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::{Duration, Instant};
use trunnion_collector::journal::Position;
use trunnion_collector::journal::Segments;
use trunnion_collector::metrics::Metrics;
use trunnion_collector::pipeline::Runner;
use trunnion_collector::replay::open_state;
use trunnion_collector::state::State;
use trunnion_common::frame::Class;
use trunnion_common::id::Epoch;
use trunnion_common::time::EventTime;

/// How often the collector is killed and started: the median counts.
const STARTS: usize = 3;

/// Rounds of blocks before the checkpoint: half a second of each channel, so that each has a window open that
/// waits for what is missing.
const ROUNDS: u64 = 2;

/// Rounds after it, which a start repeats: 40 MB, what a loaded collector takes in from one checkpoint to the
/// next in some seconds.
const ROUNDS_AFTER: u64 = 1;

/// How long to wait for the checkpoint, or for a start to be done.
const LIMIT: Duration = Duration::from_secs(300);

const SECOND_NS: i64 = 1_000_000_000;

/// Bytes of a sample in a checkpoint.
const SAMPLE_BYTES: u64 = 4;

/// The epoch that all blocks are of.
const EPOCH: Epoch = Epoch(3);

/// SIGKILL and restart with 10,000 channels of vibration at 8 kHz.
pub const RESTART: Scenario<Scale> = Scenario {
    name: "restart",
    figures: &RESTART_FIGURES,
    measure: restart,
};

const RESTART_FIGURES: [Figure; 4] = [
    Figure::at_most("restart_s_10000_channels", 2.0, "s"),
    Figure::told("restart_applied_s_10000_channels", "s"),
    Figure::told("checkpoint_s_10000_channels", "s"),
    Figure::told("checkpoint_mib_10000_channels", "MiB"),
];

fn restart(dir: &Path, _: &Scale, progress: Progress<'_>) -> Result<Vec<Figure>> {
    const NODES: u64 = 1_000;
    let killed = measure_killed(&dir.join("killed"), NODES, progress)?;
    let stopped = measure_checkpoint(&dir.join("stopped"), NODES, progress)?;
    let [ready, applied, took, size] = RESTART_FIGURES;
    Ok(vec![
        ready.measured(killed.ready_s),
        applied.measured(killed.applied_s),
        took.measured(stopped.seconds),
        size.measured(stopped.bytes as f64 / f64::from(1 << 20)),
    ])
}

fn herd(nodes: u64, start: EventTime) -> Herd {
    Herd::new(Spec {
        first_node: 1,
        nodes,
        channels: 10,
        class: Class::Waveform,
        rate_hz: 8_000,
        block_frames: 4,
        start,
    })
}

/// How long starts after a SIGKILL took, from the process's start on.
struct Killed {
    /// Until everything listens: data is taken in and answers are given.
    ready_s: f64,
    /// Until the pipeline has repeated what came after the checkpoint.
    applied_s: f64,
}

/// The real collector with ten channels of each of so many nodes: it makes a checkpoint with a window of each
/// open, takes in more, and is killed once that is acknowledged.
fn measure_killed(dir: &Path, nodes: u64, progress: Progress<'_>) -> Result<Killed> {
    // A whole second: what is sent lies in one window of each channel, which stays open.
    let start = (utc().0 - 3_600_000_000_000) / SECOND_NS * SECOND_NS;
    let herd = herd(nodes, EventTime(start));
    let mut plant = Plant::found(dir, &fleet_text(&[&herd]))?;
    let blocks = herd.messages(EPOCH, ROUNDS + ROUNDS_AFTER);
    let after = blocks.len() - (ROUNDS_AFTER * herd.round_blocks()) as usize;
    plant.start_collector()?;
    let enrolment = enrolment(&plant.bundle(GATEWAY))?;
    let samples = ROUNDS * herd.round_blocks() * herd.block_samples();
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut sender = Sender::connect(&enrolment, EPOCH, after as u64).await?;
        sender.deliver(&blocks[..after]).await
    })?;
    await_stored(&plant, samples)?;
    // One that holds nearly all of them: the last ones may have come while it was made.
    let bytes = (samples * SAMPLE_BYTES) as f64 * 0.9;
    let is_saved = || {
        let size = plant.metric("trunnion_collector_checkpoint_size_bytes").ok()?;
        (size >= bytes).then_some(())
    };
    await_some(LIMIT, is_saved).context("no checkpoint was made")?;
    progress("a checkpoint is made");
    runtime.block_on(async {
        let mut sender = Sender::connect(&enrolment, EPOCH, blocks.len() as u64).await?;
        sender.deliver(&blocks).await
    })?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let (ready_s, started) = seconds(|| plant.kill_and_restart_collector());
        started?;
        let is_applied = || {
            let pipeline = plant.get("/api/v1/pipeline").ok()?;
            let begun = pipeline["behind_s"].is_number();
            (begun && pipeline["backlog_bytes"] == 0).then_some(())
        };
        let (applied_s, applied) = seconds(|| await_some(LIMIT, is_applied));
        applied.context("the pipeline does not catch up")?;
        progress(&format!(
            "ready after {ready_s:.2} s, applied {applied_s:.2} s later"
        ));
        starts.push((ready_s, ready_s + applied_s));
    }
    let all = samples / ROUNDS * (ROUNDS + ROUNDS_AFTER);
    let ledger = plant.get("/api/v1/ledger")?;
    let stored = ledger["totals"]["stored"].as_u64();
    ensure!(stored == Some(all), "{stored:?} of {all} samples are stored");
    plant.stop()?;
    starts.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ready_s, applied_s) = starts[STARTS / 2];
    Ok(Killed { ready_s, applied_s })
}

/// What a checkpoint costs that a stop waits for.
struct Checkpoint {
    seconds: f64,
    bytes: usize,
}

/// A stop in this process with as many channels, and a start from its checkpoint.
fn measure_checkpoint(dir: &Path, nodes: u64, progress: Progress<'_>) -> Result<Checkpoint> {
    let end = journaled(&dir.join("journal"), &herd(nodes, START), ROUNDS)?;
    progress("journaled");
    let mut runner = open(dir, end)?;
    runner.catch_up(end)?;
    progress("caught up");
    let (seconds, saved) = seconds(|| runner.save());
    saved?;
    drop(runner);
    ensure!(
        open(dir, end)?.position() == end,
        "the pipeline is not where it was"
    );
    let state = State::open(&dir.join("state.db"))?;
    let mut bytes = 0;
    for newest in state.checkpoints()?.into_iter().take(1) {
        state.read_checkpoint(newest, |part| bytes += part.len())?;
    }
    Ok(Checkpoint { seconds, bytes })
}

/// The pipeline as it starts, with its tables.
fn open(dir: &Path, end: Position) -> Result<Runner> {
    let segments = Segments::from(&dir.join("journal"));
    let Some(journal) = segments.journal()? else {
        anyhow::bail!("there is no journal");
    };
    let state = open_state(&dir.join("state.db"), journal)?;
    let mut runner = Runner::resume(&segments, state, Metrics::default())?;
    runner.look_ahead(end)?;
    Ok(runner)
}

#[allow(clippy::disallowed_methods, reason = "a figure is measured")]
fn seconds<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let began = Instant::now();
    let done = work();
    (began.elapsed().as_secs_f64(), done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_pipeline_is_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = measure_checkpoint(dir.path(), 2, &mut |_| ()).unwrap();
        assert!(checkpoint.seconds > 0.0 && checkpoint.bytes > 0);
    }
}
