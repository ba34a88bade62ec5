//! `GET /api/v1/alarms?node=00000000000000a1`: what nodes raised, the one heard of last first.
//!
//! ```json
//! {"truncated": false, "alarms": [{
//!   "source": "agent", "gateway": "bremen/gw-1", "node": "00000000000000a1", "boot": "00000003deadbeef",
//!   "channel": 0, "kind": "limit_exceeded", "severity": "alarm", "repeats": 3, "value": 12.5,
//!   "asset": "pump-7", "point": "drive-end", "name": "v",
//!   "first": "2026-01-31T11:59:50Z", "first_ns": 1769860790000000000,
//!   "last": "2026-01-31T11:59:59Z", "last_ns": 1769860799000000000}]}
//! ```
//!
//! Agents keep the alarms of their nodes when there is room for nothing else, and tell each of them
//! with its count. `channel` is null for one of the whole node, `kind` is `several` where an agent had
//! to fold them, and `asset`, `point` and `name` are null where no fleet file named the channel.

use super::error::{ApiError, Parameters};
use super::time::rfc3339;
use super::{Api, clip};
use crate::state::{Alarm, SeriesKey, Source};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

/// Most alarms in one answer: those heard of last.
pub const ALARMS_SHOWN_MAX: usize = 1_000;

/// Which alarms.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    /// Only those of this node.
    node: Option<String>,
}

/// The body of the answer.
#[derive(Serialize)]
pub(super) struct Alarms {
    truncated: bool,
    alarms: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    source: &'static str,
    gateway: String,
    node: String,
    boot: String,
    channel: Option<u16>,
    kind: String,
    severity: String,
    repeats: u32,
    value: f32,
    asset: Option<String>,
    point: Option<String>,
    name: Option<String>,
    first: String,
    first_ns: i64,
    last: String,
    last_ns: i64,
}

pub(super) async fn list(
    State(api): State<Api>,
    Parameters(selection): Parameters<Selection>,
) -> Result<Json<Alarms>, ApiError> {
    let mut alarms = api
        .readers
        .read(move |state| state.alarms(selection.node.as_deref(), ALARMS_SHOWN_MAX as u32 + 1))
        .await?;
    let truncated = clip(&mut alarms, ALARMS_SHOWN_MAX);
    let alarms = alarms.into_iter().map(entry).collect();
    Ok(Json(Alarms { truncated, alarms }))
}

fn entry(alarm: Alarm) -> Entry {
    let (asset, point, name) = match alarm.series {
        Some(SeriesKey {
            asset,
            point,
            channel,
        }) => (Some(asset), Some(point), Some(channel)),
        None => (None, None, None),
    };
    Entry {
        source: Source::Agent.label(),
        gateway: alarm.gateway,
        node: alarm.node,
        boot: alarm.boot,
        channel: alarm.channel,
        kind: alarm.kind,
        severity: alarm.severity,
        repeats: alarm.repeats,
        value: alarm.value,
        asset,
        point,
        name,
        first: rfc3339(alarm.first),
        first_ns: alarm.first.0,
        last: rfc3339(alarm.last),
        last_ns: alarm.last.0,
    }
}
