//! `/healthz`, `/readyz`, `/metrics` and `/api/v1/latency`: what a supervisor asks.
//!
//! `/readyz` answers 200 when every check passes and 503 otherwise:
//!
//! ```json
//! {"ready": false, "checks": [{"name": "broker", "ok": true, "reason": null},
//!   {"name": "pipeline", "ok": false, "reason": "41.2 s behind the clock; 30 s are allowed"}]}
//! ```
//!
//! `/api/v1/latency?since=...` answers milliseconds from a live window's end to its published
//! features, over the last hour unless `since` (RFC 3339 or nanoseconds) says otherwise; the
//! percentiles are null when there were no windows:
//!
//! ```json
//! {"since": "2026-01-31T11:00:00Z", "since_ns": 0, "windows": 3600, "p50_ms": 612.0, "p99_ms": 840.0}
//! ```

use super::Api;
use super::error::{ApiError, Parameters};
use super::time::{parse, rfc3339};
use crate::state::Progress;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fmt;
use trunnion_common::time::EventTime;

/// Windows looked at for the latency unless `since` says otherwise: those of the last hour.
const LATENCY_SPAN_NS: i64 = 3_600_000_000_000;

/// How far the outputs may be behind the clock. The journal ticks each second, so without trouble it is
/// little more than that; an outage's backlog takes longer, and its readers should know.
const LAG_MAX_NS: i64 = 30_000_000_000;

/// One condition of being ready.
pub struct Check {
    /// Its name, for people and for alarms.
    pub name: &'static str,
    /// Passes, or says why not. Must not block.
    pub check: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Check").field(&self.name).finish()
    }
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    checks: Vec<Outcome>,
}

#[derive(Serialize)]
struct Outcome {
    name: &'static str,
    ok: bool,
    reason: Option<String>,
}

/// The process lives: it answers.
pub(super) async fn live() -> Json<serde_json::Value> {
    Json(json!({"live": true}))
}

pub(super) async fn ready(State(api): State<Api>) -> impl IntoResponse {
    let progress = api.readers.read(|state| state.position()).await;
    let lag = match progress {
        Ok(progress) => lag(progress, (api.now)()),
        Err(error) => Err(format!("the state cannot be read: {error}")),
    };
    let checks: Vec<Outcome> = api
        .checks
        .iter()
        .map(|check| (check.name, (check.check)()))
        .chain([("pipeline", lag)])
        .map(|(name, outcome)| Outcome {
            name,
            ok: outcome.is_ok(),
            reason: outcome.err(),
        })
        .collect();
    let ready = checks.iter().all(|check| check.ok);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Readiness { ready, checks }))
}

/// Whether the outputs are up to date, or how far they are behind.
fn lag(progress: Option<Progress>, now: EventTime) -> Result<(), String> {
    let Some(progress) = progress else {
        return Err("nothing of the journal has been read yet".into());
    };
    let behind = now.nanos_since(progress.now);
    if behind <= LAG_MAX_NS {
        return Ok(());
    }
    Err(format!(
        "{:.1} s behind the clock; {} s are allowed",
        behind as f64 / 1e9,
        LAG_MAX_NS / 1_000_000_000
    ))
}

pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    api.metrics.age((api.now)());
    ([(header::CONTENT_TYPE, kind)], api.metrics.render())
}

/// From when on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    since: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Latency {
    since: String,
    since_ns: i64,
    windows: u64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

pub(super) async fn latency(
    State(api): State<Api>,
    Parameters(Since { since }): Parameters<Since>,
) -> Result<Json<Latency>, ApiError> {
    let since = match since {
        Some(text) => parse(&text).map_err(|error| ApiError::Parameter(format!("since: {error}")))?,
        None => (api.now)().plus_nanos(-LATENCY_SPAN_NS),
    };
    let found = api
        .readers
        .read(move |state| state.latency_percentiles(since))
        .await?;
    Ok(Json(Latency {
        since: rfc3339(since),
        since_ns: since.0,
        windows: found.map_or(0, |found| found.windows),
        p50_ms: found.map(|found| found.p50_ms),
        p99_ms: found.map(|found| found.p99_ms),
    }))
}
