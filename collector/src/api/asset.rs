//! `GET /api/v1/assets`: what stands in the plant, and how it is.
//!
//! ```json
//! {"now": "2026-01-31T12:00:00Z", "now_ns": 1769860800000000000, "truncated": false,
//!  "assets": [{"asset": "pump-7", "name": "Feed pump 7", "site": "bremen", "area": "boiler-house",
//!    "grade": "fault", "active_advisories": 1,
//!    "last_data": "2026-01-31T11:59:59Z", "last_data_ns": 1769860799000000000,
//!    "points": [{"point": "drive-end", "channels": [
//!      {"channel": "x", "window_end": "...", "window_end_ns": 0, "coverage": 1.0, "decided": true,
//!       "values": {"rms": 0.12, "kurtosis_excess": 4.1}}]}]}]}
//! ```
//!
//! `name`, `site` and `area` are null for data that no entry of the fleet file claims.

use super::error::ApiError;
use super::time::rfc3339;
use super::{Api, clip};
use crate::state::{AssetSummary, ChannelSummary};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::collections::BTreeMap;
use trunnion_common::time::EventTime;

/// Most assets in one answer.
pub const ASSETS_MAX: usize = 1_000;

/// An asset is unknown when its data is older than this many windows: one that was cut short by the
/// end of a block, one on its way, and one for a resend.
const STALE_WINDOWS: i64 = 3;

/// How an asset is, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// An advisory stands, whether data still comes or not.
    Fault,
    /// Fresh data, enough of it to decide on, and no advisory.
    Healthy,
    /// No data, or too old, or too little of it to say anything.
    Unknown,
}

/// Grades an asset at `now`. Windows of a channel follow one another, so each says when to expect the
/// next.
pub fn grade(asset: &AssetSummary, now: EventTime) -> Grade {
    let fresh = |channel: &ChannelSummary| {
        let interval = channel.window_end.nanos_since(channel.window_start);
        let age = now.nanos_since(channel.window_end);
        channel.decided && age <= interval.saturating_mul(STALE_WINDOWS)
    };
    if asset.active_advisories > 0 {
        Grade::Fault
    } else if asset.channels.iter().any(fresh) {
        Grade::Healthy
    } else {
        Grade::Unknown
    }
}

/// The body of the answer.
#[derive(Serialize)]
pub(super) struct Assets {
    now: String,
    now_ns: i64,
    truncated: bool,
    assets: Vec<Asset>,
}

#[derive(Serialize)]
struct Asset {
    asset: String,
    name: Option<String>,
    site: Option<String>,
    area: Option<String>,
    grade: Grade,
    active_advisories: u64,
    last_data: Option<String>,
    last_data_ns: Option<i64>,
    points: Vec<Point>,
}

#[derive(Serialize)]
struct Point {
    point: String,
    channels: Vec<Channel>,
}

#[derive(Serialize)]
struct Channel {
    channel: String,
    window_end: String,
    window_end_ns: i64,
    coverage: f32,
    decided: bool,
    values: BTreeMap<String, f32>,
}

pub(super) async fn list(State(api): State<Api>) -> Result<Json<Assets>, ApiError> {
    let mut assets = api.readers.read(|state| state.assets()).await?;
    let now = (api.now)();
    let truncated = clip(&mut assets, ASSETS_MAX);
    let assets = assets.into_iter().map(|asset| tree(asset, now)).collect();
    Ok(Json(Assets {
        now: rfc3339(now),
        now_ns: now.0,
        truncated,
        assets,
    }))
}

/// Channels gathered under their points.
fn tree(asset: AssetSummary, now: EventTime) -> Asset {
    let grade = grade(&asset, now);
    let last_data = asset.channels.iter().map(|channel| channel.window_end).max();
    let mut points: BTreeMap<String, Vec<Channel>> = BTreeMap::new();
    for channel in asset.channels {
        points.entry(channel.point).or_default().push(Channel {
            channel: channel.channel,
            window_end: rfc3339(channel.window_end),
            window_end_ns: channel.window_end.0,
            coverage: channel.coverage,
            decided: channel.decided,
            values: channel.values,
        });
    }
    Asset {
        asset: asset.asset,
        name: asset.name,
        site: asset.site,
        area: asset.area,
        grade,
        active_advisories: asset.active_advisories,
        last_data: last_data.map(rfc3339),
        last_data_ns: last_data.map(|at| at.0),
        points: points
            .into_iter()
            .map(|(point, channels)| Point { point, channels })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An asset with windows of a length, that ended some time ago, decided or not.
    fn check(active_advisories: u64, windows: &[(i64, i64, bool)], expected: Grade) {
        const MILLISECOND: i64 = 1_000_000;
        let now = EventTime(1_000_000_000_000);
        let channels = windows
            .iter()
            .map(|(length_ms, age_ms, decided)| ChannelSummary {
                point: "p".into(),
                channel: "c".into(),
                window_start: now.plus_nanos(-(age_ms + length_ms) * MILLISECOND),
                window_end: now.plus_nanos(-age_ms * MILLISECOND),
                coverage: 1.0,
                decided: *decided,
                values: BTreeMap::new(),
            })
            .collect();
        let asset = AssetSummary {
            asset: "a".into(),
            name: None,
            site: None,
            area: None,
            active_advisories,
            channels,
        };
        assert_eq!(
            grade(&asset, now),
            expected,
            "{active_advisories} advisories, windows {windows:?}"
        );
    }

    #[test]
    fn an_asset_is_healthy_only_on_fresh_and_sufficient_data() {
        check(0, &[], Grade::Unknown);
        check(0, &[(1_000, 3_000, true)], Grade::Healthy);
        check(0, &[(1_000, 3_001, true)], Grade::Unknown);
        check(0, &[(10_000, 30_000, true)], Grade::Healthy);
        check(0, &[(1_000, 500, false)], Grade::Unknown);
        check(0, &[(1_000, 9_000, true), (1_000, 500, true)], Grade::Healthy);
        check(0, &[(1_000, -200, true)], Grade::Healthy);
    }

    #[test]
    fn a_standing_advisory_outlives_the_data() {
        check(1, &[], Grade::Fault);
        check(2, &[(1_000, 500, true)], Grade::Fault);
        check(1, &[(1_000, 60_000, true)], Grade::Fault);
    }
}
