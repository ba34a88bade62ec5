//! How well samples are dated: the agent's own clock relation against nodes whose clocks drift, over lines that
//! delay. Simulated, so that the truth is known.

use super::figure::Figure;
use super::firmware::Scale;
use super::scenario::{Progress, Scenario};
use crate::sim_machine::Chance;
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;
use trunnion_agent::clock::Now;
use trunnion_agent::clock_sync::ClockSync;
use trunnion_agent::config::CLOCK_SYNC_INTERVAL;
use trunnion_common::frame::TimeReply;
use trunnion_common::id::{BootId, NodeId};
use trunnion_common::time::{ClockFix, ClockQuality, EventTime, NodeTicks};

/// Nodes at plus and minus 50 ppm, half an hour each.
pub(super) const CLOCK: Scenario<Scale> = Scenario {
    name: "clock",
    figures: &FIGURES,
    measure: clock,
};

const FIGURES: [Figure; 2] = [
    Figure::at_most("clock_error_ms_p99", 1.0, "ms"),
    Figure::at_least("clock_error_within_bound", 0.99, ""),
];

const NODES: u32 = 40;
const SECONDS: u64 = 1_800;
const DRIFT_PPM: f64 = 50.0;

/// Largest delay on either way beside the line's own, microseconds.
const JITTER_MICROS: f64 = 1_000.0;

/// What a time request and its reply take at 921,600 baud, microseconds: some 60 bytes each.
const LINE_MICROS: f64 = 60.0 * 10.0 / 0.9216;

/// What two crystals may drift apart by after a fix was made, as the agent reckons.
const BOUND_PPM: f64 = 100.0;

fn clock(_: &Path, _: &Scale, _: Progress<'_>) -> Result<Vec<Figure>> {
    dated(1)
}

/// The figures of the nodes that `seed` makes.
fn dated(seed: u64) -> Result<Vec<Figure>> {
    let mut chance = Chance::new(seed);
    let (mut errors_ms, mut within) = (Vec::new(), 0_u64);
    for node in 0..NODES {
        let ppm = DRIFT_PPM * (2.0 * chance.uniform() - 1.0);
        for (error_ms, is_within) in stamps(u64::from(node) + 1, ppm, &mut chance)? {
            errors_ms.push(error_ms);
            within += u64::from(is_within);
        }
    }
    errors_ms.sort_by(f64::total_cmp);
    let [p99, share] = FIGURES;
    Ok(vec![
        p99.measured(errors_ms[errors_ms.len() * 99 / 100]),
        share.measured(within as f64 / errors_ms.len() as f64),
    ])
}

/// Each hundredth of a second of one node: how far its stamp is from the truth, ms, and whether that is within the
/// bound that goes with it. `mono` and UTC of the gateway are the truth, from 0.
fn stamps(node: u64, ppm: f64, chance: &mut Chance) -> Result<Vec<(f64, bool)>> {
    let node = NodeId::new(node).context("not 0")?;
    let mut sync = ClockSync::new(node, BootId::new(1, 1), None, CLOCK_SYNC_INTERVAL);
    let ticks = |true_micros: f64| NodeTicks((true_micros * (1.0 + ppm * 1e-6)) as u64);
    let now = |true_micros: f64| Now {
        mono: Duration::from_nanos((true_micros * 1e3) as u64),
        utc: EventTime((true_micros * 1e3) as i64),
    };
    // The fix in force, and when it was made.
    let mut fix: Option<(ClockFix, f64)> = None;
    let mut arriving: Option<(f64, TimeReply)> = None;
    let mut found = Vec::new();
    let mut number = 0;
    for hundredth in 1..=SECONDS * 100 {
        let micros = hundredth as f64 * 10_000.0;
        if let Some((at, reply)) = arriving.take_if(|(at, _)| *at <= micros)
            && let Some(new) = sync.handle_reply(&reply, now(at), Some(ClockQuality::Synchronised))
        {
            fix = Some((new, at));
        }
        if sync.poll_request(now(micros), number) {
            let received = micros + LINE_MICROS + JITTER_MICROS * chance.uniform();
            let sent = received + 200.0;
            let reply = TimeReply {
                request: number,
                received: ticks(received),
                sent: ticks(sent),
            };
            arriving = Some((sent + LINE_MICROS + JITTER_MICROS * chance.uniform(), reply));
            number += 1;
        }
        if let Some((fix, made)) = &fix {
            let error_ns = fix.event_time(ticks(micros)).0 as f64 - micros * 1e3;
            let bound_ns = fix.error_ns as f64 + BOUND_PPM * 1e-6 * (micros - made) * 1e3;
            found.push((error_ns.abs() / 1e6, error_ns.abs() <= bound_ns));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_near_the_truth_and_within_the_bound_that_goes_with_them_whatever_the_nodes() {
        for seed in 1..=4 {
            let figures = dated(seed).unwrap();
            assert_eq!(figures[0].is_reached(), Some(true), "seed {seed}: {figures:?}");
            assert_eq!(figures[1].value, Some(1.0), "seed {seed}: {figures:?}");
        }
    }
}
