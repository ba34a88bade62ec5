//! `GET /api/v1/assets`: what stands in the plant, and how it is.
//!
//! ```json
//! {"now": "2026-01-31T12:00:00Z", "now_ns": 1769860800000000000, "truncated": false,
//!  "assets": [{"asset": "pump-7", "name": "Feed pump 7", "site": "bremen", "area": "boiler-house",
//!    "grade": "fault", "grade_since": "2026-01-31T11:00:00Z", "grade_since_ns": 1769857200000000000,
//!    "reasons": [{"grade": "fault", "point": "drive-end", "channel": null,
//!      "what": "bearing fault: inner race", "advisory": "pump-7/drive-end/inner_race/1769857200000000000"}],
//!    "suspected": [{"point": "drive-end", "fault": "inner_race", "confidence": 0.75}],
//!    "zone": {"point": "drive-end", "channel": "x", "zone": "B", "standard": "ISO 20816-3:2022"},
//!    "active_advisories": 1,
//!    "last_data": "2026-01-31T11:59:59Z", "last_data_ns": 1769860799000000000,
//!    "points": [{"point": "drive-end", "channels": [
//!      {"channel": "x", "window_end": "...", "window_end_ns": 0, "coverage": 1.0, "decided": true,
//!       "values": {"rms": 0.12, "kurtosis_excess": 4.1}}]}]}]}
//! ```
//!
//! `grade` is one of [`Grade`], with its reasons, the worst first. `areas` rolls the assets up: the worst grade of
//! each area, and how many assets have which. `name`, `site` and `area` are null for data that no entry of the
//! fleet file claims, and such data has no reasons.

use super::error::ApiError;
use super::time::rfc3339;
use super::{Api, clip};
use crate::health::{Grade, Health, HealthRow, Reason, Suspicion, WorstZone};
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

/// Grades an asset at `now` by its data alone: one that the pipeline does not assess, since the fleet file does
/// not name it or none of its channels is watched. Windows of a channel follow one another, so each says when to
/// expect the next.
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
    areas: Vec<Area>,
    assets: Vec<Asset>,
}

#[derive(Serialize)]
struct Area {
    site: String,
    area: String,
    grade: Grade,
    assets: BTreeMap<&'static str, usize>,
}

#[derive(Serialize)]
struct Asset {
    asset: String,
    name: Option<String>,
    site: Option<String>,
    area: Option<String>,
    grade: Grade,
    grade_since: Option<String>,
    grade_since_ns: Option<i64>,
    reasons: Vec<Reason>,
    suspected: Vec<Suspicion>,
    zone: Option<WorstZone>,
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
    let (mut assets, mut healths) = api
        .readers
        .read(|state| Ok((state.assets()?, state.healths()?)))
        .await?;
    let now = (api.now)();
    let truncated = clip(&mut assets, ASSETS_MAX);
    let tree = |asset: AssetSummary| {
        let health = healths.remove(&asset.asset);
        tree(asset, health, now)
    };
    let assets: Vec<_> = assets.into_iter().map(tree).collect();
    Ok(Json(Assets {
        now: rfc3339(now),
        now_ns: now.0,
        truncated,
        areas: roll_up(&assets),
        assets,
    }))
}

fn roll_up(assets: &[Asset]) -> Vec<Area> {
    let mut areas: BTreeMap<(&str, &str), Vec<Grade>> = BTreeMap::new();
    for asset in assets {
        if let (Some(site), Some(area)) = (&asset.site, &asset.area) {
            areas.entry((site, area)).or_default().push(asset.grade);
        }
    }
    let area = |((site, area), grades): ((&str, &str), Vec<Grade>)| {
        let mut counts = BTreeMap::new();
        for grade in &grades {
            *counts.entry(grade.label()).or_default() += 1;
        }
        Area {
            site: site.to_owned(),
            area: area.to_owned(),
            grade: Grade::roll_up(grades),
            assets: counts,
        }
    };
    areas.into_iter().map(area).collect()
}

/// Channels gathered under their points.
fn tree(asset: AssetSummary, health: Option<HealthRow>, now: EventTime) -> Asset {
    let since = health.as_ref().map(|row| row.since);
    let health = health.map_or_else(
        || Health {
            grade: grade(&asset, now),
            reasons: Vec::new(),
            suspected: Vec::new(),
            zone: None,
        },
        |row| row.health,
    );
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
        grade: health.grade,
        grade_since: since.map(rfc3339),
        grade_since_ns: since.map(|at| at.0),
        reasons: health.reasons,
        suspected: health.suspected,
        zone: health.zone,
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
