//! What this gateway holds against machines, as its page shows it: `/advisories`, JSON.

use crate::gateway::about;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use trunnion_common::time::EventTime;
use trunnion_common::watch::LocalCondition;

/// One of them.
#[derive(Serialize)]
struct Shown {
    node: String,
    channel: u16,
    /// `severity`, `instrument`, or the feature that is off.
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
}

/// The page.
pub fn page(standing: &[LocalCondition]) -> String {
    let shown: Vec<Shown> = standing.iter().map(show).collect();
    serde_json::json!({ "advisories": shown }).to_string()
}

fn show(held: &LocalCondition) -> Shown {
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
    }
}

/// Empty for a time that no calendar has.
fn rfc3339(at: EventTime) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0)).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}
