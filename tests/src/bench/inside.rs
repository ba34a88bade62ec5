//! From the journal to features in this process: what the pipeline itself costs, on one core.

use super::engine::Scale;
use super::figure::Figure;
use super::herd::{Herd, Spec, fleet_text, message};
use super::scenario::{Progress, Scenario};
use crate::plant::SITE;
use anyhow::{Context, Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use trunnion_collector::journal::{Entry, Journal, Options, Position, Reader};
use trunnion_collector::pipeline::{Output, Pipeline};
use trunnion_common::block::Kind;
use trunnion_common::frame::Class;
use trunnion_common::id::{Epoch, GatewayId};
use trunnion_common::time::EventTime;

/// How often each journal is read: the fastest counts, since everything else on the machine only adds.
const RUNS: usize = 3;

/// Rounds of many channels that are measured at least.
const ROUNDS_MIN: u64 = 2;

/// Blocks of one commit: what the collector's group commit gathers under load.
const COMMIT_BLOCKS: usize = 16;

/// When all samples were taken.
pub(super) const START: EventTime = EventTime(1_800_000_000_000_000_000);

/// Waveforms to features, search for bearing faults included.
pub const WAVEFORM: Scenario<Scale> = Scenario {
    name: "waveform",
    figures: &WAVEFORM_FIGURES,
    measure: waveform,
};

const WAVEFORM_FIGURES: [Figure; 1] = [Figure::at_least("waveform_msamples_per_s_core", 60.0, "M/s")];

fn waveform(dir: &Path, scale: &Scale, _: Progress<'_>) -> Result<Vec<Figure>> {
    let herd = Herd::new(Spec {
        first_node: 1,
        nodes: 64,
        channels: 1,
        class: Class::Waveform,
        rate_hz: 25_600,
        block_frames: 64,
        start: START,
    });
    let rounds = (scale.waveform_s * 25_600).div_ceil(herd.block_samples());
    let end = journaled(dir, &herd, rounds)?;
    let samples = rounds * herd.round_blocks() * herd.block_samples();
    let seconds = fastest(dir, end, (0, samples))?;
    let [speed] = WAVEFORM_FIGURES;
    Ok(vec![speed.measured(samples as f64 / 1e6 / seconds)])
}

/// What a reading costs where there are many channels, against where there are few: once each channel is known.
/// Reading the fleet file and meeting ten thousand channels for the first time is what a start costs
/// ([`super::restart`]), and no reading's.
pub const COST: Scenario<Scale> = Scenario {
    name: "cost",
    figures: &COST_FIGURES,
    measure: cost,
};

const COST_FIGURES: [Figure; 2] = [
    Figure::at_most("cost_ratio_10000_to_10", 1.15, ""),
    Figure::told("cost_ns_per_reading_10000", "ns"),
];

fn cost(dir: &Path, scale: &Scale, progress: Progress<'_>) -> Result<Vec<Figure>> {
    let mut seconds_per_reading = |channels: u64| -> Result<f64> {
        let herd = Herd::new(Spec {
            first_node: 1,
            nodes: channels / 10,
            channels: 10,
            class: Class::Essential,
            rate_hz: 100,
            block_frames: 32,
            start: START,
        });
        let in_round = herd.round_blocks() * herd.block_samples();
        let rounds = scale.readings.div_ceil(in_round).max(ROUNDS_MIN);
        let dir = dir.join(channels.to_string());
        let end = journaled(&dir, &herd, 1 + rounds)?;
        let readings = rounds * in_round;
        let seconds = fastest(&dir, end, (in_round, readings))?;
        progress(&format!(
            "{channels} channels: {:.0} readings/s",
            readings as f64 / seconds
        ));
        Ok(seconds / readings as f64)
    };
    let (few, many) = (seconds_per_reading(10)?, seconds_per_reading(10_000)?);
    let [ratio, each] = COST_FIGURES;
    Ok(vec![ratio.measured(many / few), each.measured(many * 1e9)])
}

/// Writes the herd's rounds into a journal, as ingest would; returns its end.
pub(super) fn journaled(dir: &Path, herd: &Herd, rounds: u64) -> Result<Position> {
    std::fs::create_dir_all(dir)?;
    let (mut journal, _) = Journal::open(dir, Options::default(), START)?;
    let gateway = GatewayId {
        site: SITE.parse()?,
        gateway: "gw-1".parse()?,
    };
    journal.append(&Entry::Fleet {
        effective: EventTime(0),
        text: fleet_text(&[herd]),
    });
    let mut sequence = 0;
    let mut write = |blocks: Vec<(Kind, Vec<u8>)>, now: EventTime| -> Result<()> {
        for blocks in blocks.chunks(COMMIT_BLOCKS) {
            for (kind, body) in blocks {
                let bytes = message(Epoch(1), sequence, *kind, body).into();
                let gateway = gateway.clone();
                journal.append(&Entry::Block { gateway, bytes });
                sequence += 1;
            }
            journal.commit(now)?;
        }
        Ok(())
    };
    write(herd.preamble(), START)?;
    for round in 0..rounds {
        let now = START.plus_nanos((round as i64 + 1) * herd.round_ns());
        write(herd.round(round).collect(), now)?;
    }
    Ok(journal.end())
}

/// Processor seconds of one thread that reads the journal and applies it, the fastest of some runs: those of
/// `samples` that follow `before`. All of them must have been stored, and windows made of them.
fn fastest(dir: &Path, end: Position, (before, samples): (u64, u64)) -> Result<f64> {
    let mut fastest = f64::INFINITY;
    for _ in 0..RUNS {
        let mut reader = Reader::open(dir, Position::default())?;
        let mut pipeline = Pipeline::new();
        let mut windows = 0;
        let mut began = thread_s();
        let mut is_warm = before == 0;
        while let Some(commit) = reader.next_commit(end)? {
            if !is_warm && pipeline.counters().samples_stored >= before {
                (began, is_warm) = (thread_s(), true);
            }
            let outputs = pipeline.apply(&commit).into_iter();
            windows += outputs
                .filter(|output| matches!(output, Output::Features(row) if row.decided))
                .count();
        }
        fastest = fastest.min(thread_s() - began);
        let stored = pipeline.counters().samples_stored;
        let all = before + samples;
        ensure!(stored == all, "{stored} of {all} samples were stored");
        ensure!(
            windows > 0,
            "no window was decided: there are too few samples for one"
        );
    }
    (fastest > 0.0)
        .then_some(fastest)
        .context("the thread's clock stands still")
}

/// Processor time of this thread, seconds: what others take from it does not count.
pub(crate) fn thread_s() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_journaled_is_stored_and_becomes_windows() {
        let dir = tempfile::tempdir().unwrap();
        let herd = Herd::new(Spec {
            first_node: 1,
            nodes: 2,
            channels: 2,
            class: Class::Essential,
            rate_hz: 100,
            block_frames: 32,
            start: START,
        });
        let end = journaled(dir.path(), &herd, 3).unwrap();
        let samples = 3 * herd.round_blocks() * herd.block_samples();
        assert!(fastest(dir.path(), end, (0, samples)).unwrap() > 0.0);
        assert!(fastest(dir.path(), end, (samples / 3, samples * 2 / 3)).unwrap() > 0.0);
        assert!(fastest(dir.path(), end, (0, samples + 1)).is_err());
    }
}
