//! What this gateway holds against machines, as its page shows it: `/advisories`, JSON.

use crate::gateway::about;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use trunnion_common::id::{ChannelId, NodeId};
use trunnion_common::time::EventTime;
use trunnion_common::watch::{Lines, LocalWord, UnusualRow};

/// One of them.
#[derive(Serialize)]
struct Shown {
    node: String,
    channel: u16,
    /// `severity`, `instrument`, the feature that is off, the part of a bearing, `bearing`, or what is suspected of a
    /// shaft; `unusual` and `unusual_together` of slow channels, the latter of the group that the channel is the first
    /// of.
    about: &'static str,
    level: &'static str,
    raised: String,
    /// End of the window that changed it last.
    changed: String,
    /// Of what is unusual: how rare, nats, and T-squared over its limit.
    value: Option<f32>,
    limit: Option<f32>,
    normal: Option<f32>,
    /// `absolute`: no baseline is accepted for how the machine runs.
    basis: Option<&'static str>,
    standard: Option<&'static str>,
    fault: Option<&'static str>,
    /// Of a bearing: the order that was found, in multiples of the shaft's speed. Of what is suspected of a shaft: the
    /// order of its highest line.
    order: Option<f32>,
    /// Of a bearing: how high its lines stand over what is about them. Of what is suspected of a shaft: how much of
    /// the whole its lines are.
    score: Option<f32>,
    /// Of a bearing: whether the band that rings most shows it, too.
    confirmed: Option<bool>,
    /// Of slow channels that are unusual together: the share of each, the largest first.
    contributions: Option<Vec<Contribution>>,
}

/// A channel of a group.
#[derive(Serialize)]
struct Contribution {
    node: String,
    channel: u16,
    /// In T-squared, of 1.
    share: f32,
}

fn contributions(row: &UnusualRow) -> Vec<Contribution> {
    let contribution = |((node, channel), share): &((NodeId, ChannelId), f32)| Contribution {
        node: node.to_string(),
        channel: channel.get(),
        share: *share,
    };
    let mut shown: Vec<Contribution> = row.contributions.iter().map(contribution).collect();
    shown.sort_by(|a, b| b.share.total_cmp(&a.share));
    shown
}

/// The page.
pub fn page(standing: &[LocalWord]) -> String {
    let shown: Vec<Shown> = standing.iter().map(show).collect();
    serde_json::json!({ "advisories": shown }).to_string()
}

fn show(word: &LocalWord) -> Shown {
    let LocalWord { told: held, lines } = word;
    let (order, score, confirmed) = match lines {
        Some(Lines::Bearing(claim)) => (
            Some(claim.order),
            Some(claim.score),
            Some(claim.confirmed.is_some()),
        ),
        Some(Lines::Shaft(claim)) => (claim.highest().map(|line| line.order), Some(claim.score), None),
        Some(Lines::Unusual(_)) | None => (None, None, None),
    };
    let row = match lines {
        Some(Lines::Unusual(row)) => Some(row),
        _ => None,
    };
    let evidence = held.evidence.filter(|evidence| evidence.fault.is_none());
    Shown {
        node: held.node.to_string(),
        channel: held.channel.get(),
        about: about(held.condition),
        level: held.level.label(),
        raised: rfc3339(held.raised),
        changed: rfc3339(held.at),
        value: evidence
            .map(|evidence| evidence.value)
            .or(row.map(|row| row.value)),
        limit: evidence
            .map(|evidence| evidence.limit)
            .or(row.map(|row| row.limit)),
        normal: evidence.and_then(|evidence| evidence.normal),
        basis: evidence.map(|evidence| evidence.basis.label()),
        standard: held.standard.map(|standard| standard.edition()),
        fault: held
            .evidence
            .and_then(|evidence| evidence.fault)
            .map(|fault| fault.label()),
        order: order.filter(|order| *order > 0.0),
        score,
        confirmed,
        contributions: row.filter(|row| !row.contributions.is_empty()).map(contributions),
    }
}

/// Empty for a time that no calendar has.
fn rfc3339(at: EventTime) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0)).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}
