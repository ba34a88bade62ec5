//! `GET /api/v1/baselines?asset=pump-7`: what is normal for machines, how far that is known, and how they are
//! judged.
//!
//! ```json
//! {"truncated": false,
//!  "baselines": [{"asset": "pump-7", "point": "drive-end", "channel": "v", "generation": 1,
//!    "speed_regime": 0, "load_regime": 0, "stage": "proposed", "windows": 300,
//!    "learned_from": "...", "learned_from_ns": 0, "learned_to": "...", "learned_to_ns": 0,
//!    "accepted": null, "accepted_ns": null, "closed": null, "closed_ns": null, "note": null,
//!    "normals": [{"feature": "velocity_rms", "centre": 1.2, "spread": 0.05}]}],
//!  "judged": [{"asset": "pump-7", "settings": [
//!    {"key": "alert_ratio", "value": "2", "origin": "default"}]}]}
//! ```
//!
//! `stage` is `learning`, `proposed`, `accepted` or `frozen`. A baseline that maintenance has ended is `closed`
//! and stays. `spread` is a standard deviation, of an amplitude that of its natural logarithm. `judged` says for
//! each asset of the fleet in force what it is judged by, and whether a value is the asset's own, its
//! template's, or the default.

use super::error::{ApiError, Parameters};
use super::time::rfc3339;
use super::{Api, clip};
use crate::fleet::{Asset, Fleet, Told};
use crate::state::{BaselineRow, NormalRow};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use trunnion_common::time::EventTime;

/// Most baselines in one answer.
pub const BASELINES_MAX: usize = 10_000;

/// Most assets whose settings are told in one answer.
pub const JUDGED_MAX: usize = 1_000;

/// Which baselines.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    /// Only those of this asset.
    asset: Option<String>,
}

/// The body of the answer.
#[derive(Serialize)]
pub(super) struct Baselines {
    truncated: bool,
    baselines: Vec<Entry>,
    judged: Vec<Judged>,
}

#[derive(Serialize)]
struct Entry {
    asset: String,
    point: String,
    channel: String,
    generation: u32,
    speed_regime: u8,
    load_regime: u8,
    stage: String,
    windows: u32,
    learned_from: Option<String>,
    learned_from_ns: Option<i64>,
    learned_to: Option<String>,
    learned_to_ns: Option<i64>,
    accepted: Option<String>,
    accepted_ns: Option<i64>,
    closed: Option<String>,
    closed_ns: Option<i64>,
    note: Option<String>,
    normals: Vec<NormalRow>,
}

#[derive(Serialize)]
struct Judged {
    asset: String,
    settings: Vec<Setting>,
}

#[derive(Serialize)]
struct Setting {
    key: String,
    value: String,
    origin: String,
}

pub(super) async fn list(
    State(api): State<Api>,
    Parameters(selection): Parameters<Selection>,
) -> Result<Json<Baselines>, ApiError> {
    let (mut rows, mut judged) = api
        .readers
        .read(move |state| {
            let asset = selection.asset.as_deref();
            // One more than shown tells whether there are more.
            let rows = state.baselines(asset, BASELINES_MAX as u32 + 1)?;
            let fleet = state.fleet_text()?;
            let fleet = fleet.and_then(|(_, text)| Fleet::parse(&text, "fleet.toml").ok());
            let assets = fleet.iter().flat_map(Fleet::assets);
            let shown = assets.filter(|found| asset.is_none_or(|asset| found.id == asset));
            Ok((rows, shown.map(told).collect::<Vec<_>>()))
        })
        .await?;
    let truncated = clip(&mut rows, BASELINES_MAX) | clip(&mut judged, JUDGED_MAX);
    Ok(Json(Baselines {
        truncated,
        baselines: rows.into_iter().map(entry).collect(),
        judged,
    }))
}

fn told(asset: &Asset) -> Judged {
    let setting = |told: &Told| Setting {
        key: told.key.clone(),
        value: told.value.clone(),
        origin: told.origin.to_string(),
    };
    Judged {
        asset: asset.id.clone(),
        settings: asset.judging.told.iter().map(setting).collect(),
    }
}

fn entry(row: BaselineRow) -> Entry {
    let (from, to) = (row.learned.map(|span| span.0), row.learned.map(|span| span.1));
    let ns = |at: Option<EventTime>| at.map(|at| at.0);
    Entry {
        asset: row.series.asset,
        point: row.series.point,
        channel: row.series.channel,
        generation: row.generation,
        speed_regime: row.speed_regime,
        load_regime: row.load_regime,
        stage: row.stage,
        windows: row.windows,
        learned_from: from.map(rfc3339),
        learned_from_ns: ns(from),
        learned_to: to.map(rfc3339),
        learned_to_ns: ns(to),
        accepted: row.accepted.map(rfc3339),
        accepted_ns: ns(row.accepted),
        closed: row.closed.map(rfc3339),
        closed_ns: ns(row.closed),
        note: row.note,
        normals: row.normals,
    }
}
