//! How soon a collector with many channels is back at work after a restart.

use super::engine::Scale;
use super::figure::Figure;
use super::herd::{Herd, Spec};
use super::inside::{START, journaled};
use super::scenario::{Progress, Scenario};
use anyhow::{Result, ensure};
use std::path::Path;
use std::time::Instant;
use trunnion_collector::journal::{Journal, Options, Position, Segments};
use trunnion_collector::metrics::Metrics;
use trunnion_collector::pipeline::Runner;
use trunnion_collector::replay::open_state;
use trunnion_common::frame::Class;

/// How often the collector is started: the median counts.
const STARTS: usize = 3;

/// Rounds of blocks: some seconds of each channel, so that each has windows open that wait for what is
/// missing.
const ROUNDS: u64 = 3;

/// A restart with 10,000 channels of vibration at 1 kHz.
pub const RESTART: Scenario<Scale> = Scenario {
    name: "restart",
    figures: &RESTART_FIGURES,
    measure: |dir, _, progress| measure_restart(dir, 1_000, progress),
};

const RESTART_FIGURES: [Figure; 3] = [
    Figure::at_most("restart_s_10000_channels", 2.0, "s"),
    Figure::told("checkpoint_s_10000_channels", "s"),
    Figure::told("checkpoint_mib_10000_channels", "MiB"),
];

/// From opening the journal to the pipeline being where it was, as the collector does it at its start, with
/// ten channels of each of so many nodes; and what the checkpoint costs that it starts from.
///
/// The collector was stopped in order. After a kill it is ready as soon, and its pipeline then also repeats
/// what came after the last checkpoint, while new data is taken in.
pub fn measure_restart(dir: &Path, nodes: u64, progress: Progress<'_>) -> Result<Vec<Figure>> {
    let herd = Herd::new(Spec {
        first_node: 1,
        nodes,
        channels: 10,
        class: Class::Waveform,
        rate_hz: 1_000,
        block_frames: 4,
        start: START,
    });
    let journal_dir = dir.join("journal");
    let end = journaled(&journal_dir, &herd, ROUNDS)?;
    progress("journaled");
    let mut runner = open(dir, end)?;
    runner.catch_up(end)?;
    progress("caught up");
    let (checkpoint_s, saved) = seconds(|| runner.save());
    saved?;
    drop(runner);
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let (start_s, started) = seconds(|| -> Result<Position> {
            let (journal, _) = Journal::open(&journal_dir, Options::default(), START)?;
            let mut runner = open(dir, journal.end())?;
            runner.catch_up(journal.end())?;
            Ok(runner.position())
        });
        ensure!(started? == end, "the pipeline is not where it was");
        starts.push(start_s);
    }
    starts.sort_by(f64::total_cmp);
    let [restart, took, size] = RESTART_FIGURES;
    Ok(vec![
        restart.measured(starts[STARTS / 2]),
        took.measured(checkpoint_s),
        size.measured(checkpoint_bytes(dir)? as f64 / f64::from(1 << 20)),
    ])
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

fn checkpoint_bytes(dir: &Path) -> Result<u64> {
    let state = trunnion_collector::state::State::open(&dir.join("state.db"))?;
    let newest = state.checkpoints()?.into_iter().next();
    Ok(newest.map_or(0, |bytes| bytes.len() as u64))
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
    fn a_restarted_pipeline_is_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let figures = measure_restart(dir.path(), 2, &mut |_| ()).unwrap();
        assert!(
            figures
                .iter()
                .all(|figure| figure.value.is_some_and(|value| value > 0.0))
        );
    }
}
