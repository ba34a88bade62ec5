//! What this gateway holds against machines, as its page shows it: `/advisories`, JSON.

use crate::gateway::about;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use trunnion_common::time::EventTime;
use trunnion_common::watch::LocalFinding;

/// One of them.
#[derive(Serialize)]
struct Shown {
    node: String,
    channel: u16,
    /// `severity`, `instrument`, the feature that is off, the part of a bearing, or `bearing`.
    about: &'static str,
    level: &'static str,
    raised: String,
    /// End of the window that changed it last.
    changed: String,
    value: Option<f32>,
    limit: Option<f32>,
    normal: Option<f32>,
    /// `absolute`: no baseline is accepted for how the machine runs.
    basis: Option<&'static str>,
    standard: Option<&'static str>,
    fault: Option<&'static str>,
    /// Of a bearing: the order that was found, in multiples of the shaft's speed.
    order: Option<f32>,
    /// Of a bearing: how high its lines stand over what is about them.
    score: Option<f32>,
    /// Of a bearing: whether the band that rings most shows it, too.
    confirmed: Option<bool>,
}

/// The page.
pub fn page(standing: &[LocalFinding]) -> String {
    let shown: Vec<Shown> = standing.iter().map(show).collect();
    serde_json::json!({ "advisories": shown }).to_string()
}

fn show(finding: &LocalFinding) -> Shown {
    let LocalFinding { told: held, claim } = finding;
    let claim = claim.as_ref();
    let evidence = held.evidence.filter(|evidence| evidence.fault.is_none());
    Shown {
        node: held.node.to_string(),
        channel: held.channel.get(),
        about: about(held.condition),
        level: held.level.label(),
        raised: rfc3339(held.raised),
        changed: rfc3339(held.at),
        value: evidence.map(|evidence| evidence.value),
        limit: evidence.map(|evidence| evidence.limit),
        normal: evidence.and_then(|evidence| evidence.normal),
        basis: evidence.map(|evidence| evidence.basis.label()),
        standard: held.standard.map(|standard| standard.edition()),
        fault: held
            .evidence
            .and_then(|evidence| evidence.fault)
            .map(|fault| fault.label()),
        order: claim.map(|claim| claim.order).filter(|order| *order > 0.0),
        score: claim.map(|claim| claim.score),
        confirmed: claim.map(|claim| claim.confirmed.is_some()),
    }
}

/// Empty for a time that no calendar has.
fn rfc3339(at: EventTime) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0)).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}
