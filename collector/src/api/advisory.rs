//! `GET /api/v1/advisories?active=true&asset=pump-7`: what people are told, newest first.
//!
//! ```json
//! {"truncated": false, "advisories": [{
//!   "id": "pump-7/drive-end/inner_race/1769860790000000000",
//!   "asset": "pump-7", "point": "drive-end", "element": "inner_race", "active": true,
//!   "raised": "2026-01-31T11:59:50Z", "raised_ns": 1769860790000000000,
//!   "cleared": null, "cleared_ns": null,
//!   "last_seen": "2026-01-31T11:59:59Z", "last_seen_ns": 1769860799000000000,
//!   "evidence": {"order": 5.41, "score": 4.2, "runner_up": 0.7, "band_hz": [2000.0, 4000.0],
//!     "lines": [{"order": 5.41, "frequency_hz": 162.3, "harmonic": 1, "prominence": 9.1}]},
//!   "recommendation": "...", "backfill": false}]}
//! ```
//!
//! `element` is `outer_race`, `inner_race`, `ball`, `cage` or `undetermined`.

use super::error::{ApiError, Parameters};
use super::time::rfc3339;
use super::{Api, clip};
use crate::advisory::Advisory;
use crate::bearing::Element;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

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
    element: &'static str,
    active: bool,
    raised: String,
    raised_ns: i64,
    cleared: Option<String>,
    cleared_ns: Option<i64>,
    last_seen: String,
    last_seen_ns: i64,
    evidence: Evidence,
    recommendation: String,
    backfill: bool,
}

#[derive(Serialize)]
struct Evidence {
    order: f64,
    score: f64,
    runner_up: f64,
    band_hz: [f64; 2],
    lines: Vec<Line>,
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
    let evidence = advisory.evidence;
    Entry {
        id: advisory.id,
        asset: advisory.asset,
        point: advisory.point,
        element: element(advisory.element),
        active: advisory.cleared.is_none(),
        raised: rfc3339(advisory.raised),
        raised_ns: advisory.raised.0,
        cleared: advisory.cleared.map(rfc3339),
        cleared_ns: advisory.cleared.map(|at| at.0),
        last_seen: rfc3339(advisory.last_seen),
        last_seen_ns: advisory.last_seen.0,
        evidence: Evidence {
            order: evidence.order,
            score: evidence.score,
            runner_up: evidence.runner_up,
            band_hz: evidence.band_hz.into(),
            lines: evidence
                .lines
                .into_iter()
                .map(|line| Line {
                    order: line.order,
                    frequency_hz: line.frequency_hz,
                    harmonic: line.harmonic,
                    prominence: line.prominence,
                })
                .collect(),
        },
        recommendation: advisory.recommendation,
        backfill: advisory.backfill,
    }
}

fn element(element: Option<Element>) -> &'static str {
    match element {
        Some(Element::OuterRace) => "outer_race",
        Some(Element::InnerRace) => "inner_race",
        Some(Element::Ball) => "ball",
        Some(Element::Cage) => "cage",
        None => "undetermined",
    }
}
