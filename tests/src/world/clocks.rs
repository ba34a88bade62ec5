//! One gateway's clock is nobody else's business: what the collector makes of other machines does not
//! change when a clock is off by ten years either way, or knows no date at all.

use std::collections::BTreeSet;
use trunnion_collector::journal::{Commit, Entry};
use trunnion_collector::pipeline::{Output, Pipeline};
use trunnion_collector::state::FeatureRow;
use trunnion_common::block::{Block, Body};
use trunnion_common::id::{GatewayId, NodeId};
use trunnion_common::time::{ClockFix, EventTime};

const TEN_YEARS: i64 = 10 * 365 * 86_400 * 1_000_000_000;

/// Replays a journal with the clock of `gateway` set otherwise; the windows of `others` must stay what
/// they were, byte for byte.
pub(super) fn check(commits: &[Commit], gateway: &GatewayId, others: &BTreeSet<NodeId>) -> Vec<String> {
    let expected = windows(commits, others);
    let mut violations = Vec::new();
    for (how, shift) in [
        ("ten years ahead", Some(TEN_YEARS)),
        ("ten years behind", Some(-TEN_YEARS)),
        ("at 1970", None),
    ] {
        let shifted: Vec<Commit> = commits
            .iter()
            .map(|commit| with_clock(commit, gateway, shift))
            .collect();
        let found = windows(&shifted, others);
        if found != expected {
            violations.push(format!(
                "with the clock of {gateway} {how}, {} windows of other machines become {}",
                expected.len(),
                found.len()
            ));
        }
    }
    violations
}

/// The windows of these nodes, each by its full text: what is not a number is not equal to itself.
fn windows(commits: &[Commit], nodes: &BTreeSet<NodeId>) -> Vec<String> {
    let points: BTreeSet<String> = nodes.iter().map(ToString::to_string).collect();
    let mut pipeline = Pipeline::new();
    let mut rows: Vec<FeatureRow> = Vec::new();
    for commit in commits {
        rows.extend(
            pipeline
                .apply(commit)
                .into_iter()
                .filter_map(|output| match output {
                    Output::Features(row) if points.contains(&row.series.point) => Some(row),
                    _ => None,
                }),
        );
    }
    rows.iter().map(|row| format!("{row:?}")).collect()
}

fn with_clock(commit: &Commit, gateway: &GatewayId, shift: Option<i64>) -> Commit {
    let mut commit = commit.clone();
    for (_, entry) in &mut commit.entries {
        if let Entry::Block {
            gateway: whose,
            bytes,
        } = entry
            && whose == gateway
            && let Ok(block) = Block::parse(bytes)
            && let Ok(Body::ClockFix(fix)) = block.decode()
        {
            let utc = match shift {
                Some(shift) => fix.utc.plus_nanos(shift),
                // A clock that began at 0 when the machine was switched on.
                None => EventTime(i64::try_from(fix.ticks.0.saturating_mul(1_000)).unwrap_or(i64::MAX)),
            };
            let Ok(body) = postcard::to_extend(&ClockFix { utc, ..fix }, Vec::new()) else {
                continue;
            };
            *bytes = [&block.envelope.encode(&body)[..], &body].concat().into();
        }
    }
    commit
}
