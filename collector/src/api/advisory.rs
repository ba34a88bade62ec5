//! `GET /api/v1/advisories?active=true&asset=pump-7`: what people are told, newest first.
//!
//! ```json
//! {"truncated": false, "advisories": [{
//!   "id": "pump-7/drive-end/inner_race/1769860790000000000",
//!   "asset": "pump-7", "point": "drive-end", "cause": "bearing", "element": "inner_race",
//!   "feature": null, "level": "alarm", "active": true,
//!   "raised": "2026-01-31T11:59:50Z", "raised_ns": 1769860790000000000,
//!   "cleared": null, "cleared_ns": null,
//!   "last_seen": "2026-01-31T11:59:59Z", "last_seen_ns": 1769860799000000000,
//!   "evidence": {"order": 5.41, "score": 4.2, "runner_up": 0.7, "band_hz": [2000.0, 4000.0],
//!     "lines": [{"order": 5.41, "frequency_hz": 162.3, "harmonic": 1, "prominence": 9.1}]},
//!   "recommendation": "...", "backfill": false}]}
//! ```
//!
//! `cause` and what it rests on, its evidence:
//!
//! | `cause` | is about | evidence |
//! |---|---|---|
//! | `bearing` | a bearing; `element` is `outer_race`, `inner_race`, `ball`, `cage` or `undetermined` | as above |
//! | `severity` | the overall vibration | `channel`, `feature`, `value`, `limit`, `normal`, `basis`, `zone`, `standard` |
//! | `deviation` | a `feature` that is off its limits or its normal | the same, without zone and standard |
//! | `instrument` | the sensor, its cable or its data, and not the machine | `channel`, `fault` |
//!
//! `element` and `feature` are null where they are not meant. `basis` is `baseline` where the limit follows from
//! the accepted normal, and `absolute` where there is none. `level` is `alert`, `alarm` or `trip`.

use super::error::{ApiError, Parameters};
use super::time::rfc3339;
use super::{Api, clip};
use crate::advisory::{Advisory, Cause, Evidence};
use crate::bearing::Element;
use crate::features::EvidenceLine;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use trunnion_common::severity::Zone;

/// Most advisories in one answer: the newest.
pub const ADVISORIES_MAX: usize = 1_000;

/// Which advisories.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    /// Only those that stand.
    #[serde(default)]
    active: bool,
    /// Only those of this asset.
    asset: Option<String>,
}

/// The body of the answer.
#[derive(Serialize)]
pub(super) struct Advisories {
    truncated: bool,
    advisories: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    id: String,
    asset: String,
    point: String,
    cause: &'static str,
    element: Option<&'static str>,
    feature: Option<&'static str>,
    level: &'static str,
    active: bool,
    raised: String,
    raised_ns: i64,
    cleared: Option<String>,
    cleared_ns: Option<i64>,
    last_seen: String,
    last_seen_ns: i64,
    evidence: Shown,
    recommendation: String,
    backfill: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Shown {
    Lines {
        order: f64,
        score: f64,
        runner_up: f64,
        band_hz: [f64; 2],
        lines: Vec<Line>,
    },
    Limit {
        channel: String,
        feature: &'static str,
        value: f32,
        limit: f32,
        normal: Option<f32>,
        basis: &'static str,
        zone: Option<&'static str>,
        standard: Option<String>,
    },
    Instrument {
        channel: String,
        fault: &'static str,
    },
}

#[derive(Serialize)]
struct Line {
    order: f64,
    frequency_hz: f64,
    harmonic: u8,
    prominence: f64,
}

pub(super) async fn list(
    State(api): State<Api>,
    Parameters(selection): Parameters<Selection>,
) -> Result<Json<Advisories>, ApiError> {
    let mut advisories = api
        .readers
        .read(move |state| {
            // One more than shown tells whether there are more.
            let limit = ADVISORIES_MAX as u32 + 1;
            state.advisories(selection.active, selection.asset.as_deref(), limit)
        })
        .await?;
    let truncated = clip(&mut advisories, ADVISORIES_MAX);
    let advisories = advisories.into_iter().map(entry).collect();
    Ok(Json(Advisories {
        truncated,
        advisories,
    }))
}

fn entry(advisory: Advisory) -> Entry {
    Entry {
        id: advisory.id,
        asset: advisory.asset,
        point: advisory.point,
        cause: advisory.cause.label(),
        element: match advisory.cause {
            Cause::Bearing(element) => Some(element.map_or("undetermined", Element::label)),
            _ => None,
        },
        feature: match advisory.cause {
            Cause::Deviation(kind) => Some(kind.label()),
            _ => None,
        },
        level: advisory.level.label(),
        active: advisory.cleared.is_none(),
        raised: rfc3339(advisory.raised),
        raised_ns: advisory.raised.0,
        cleared: advisory.cleared.map(rfc3339),
        cleared_ns: advisory.cleared.map(|at| at.0),
        last_seen: rfc3339(advisory.last_seen),
        last_seen_ns: advisory.last_seen.0,
        evidence: shown(advisory.evidence),
        recommendation: advisory.recommendation,
        backfill: advisory.backfill,
    }
}

fn shown(evidence: Evidence) -> Shown {
    match evidence {
        Evidence::Lines(finding) => {
            let line = |line: EvidenceLine| Line {
                order: line.order,
                frequency_hz: line.frequency_hz,
                harmonic: line.harmonic,
                prominence: line.prominence,
            };
            Shown::Lines {
                order: finding.order,
                score: finding.score,
                runner_up: finding.runner_up,
                band_hz: finding.band_hz.into(),
                lines: finding.lines.into_iter().map(line).collect(),
            }
        }
        Evidence::Limit(limit) => Shown::Limit {
            channel: limit.channel,
            feature: limit.feature.label(),
            value: limit.value,
            limit: limit.limit,
            normal: limit.normal,
            basis: limit.basis.label(),
            zone: limit.zone.map(Zone::label),
            standard: limit.standard,
        },
        Evidence::Instrument { channel, fault } => Shown::Instrument {
            channel,
            fault: fault.label(),
        },
    }
}
