//! `GET /api/v1/pipeline`: how the pipeline is doing: how far behind it is, what it spends its time on, and
//! what it has counted.
//!
//! ```json
//! {"behind_s": 0.8, "backlog_bytes": 0,
//!  "watermarks": [{"lane": "live", "channels": 12, "median_lag_s": 0.4, "slowest_lag_s": 1.2},
//!    {"lane": "backfill", "channels": 0, "median_lag_s": null, "slowest_lag_s": null}],
//!  "stage_s": {"wait": 51.0, "read": 0.2, "decode": 1.5, "windows": 0.4, "features": 6.0, "checkpoint": 0.1,
//!    "state": 0.8},
//!  "checkpoint": {"age_s": 4.1, "bytes": 181204, "duration_s": 0.004},
//!  "counters": {"samples_late": 0, "windows_corrected": 3, "...": 0}}
//! ```
//!
//! `behind_s` is from the journal's time that is applied to now; the journal ticks each second, so that
//! it is little more without trouble. `backlog_bytes` were committed and not applied when a batch was last
//! written. A lag is from where event time has come to the journal's time, among the channels active
//! in that lane, and null when there are none. `stage_s` is since the collector's start, `counters` since
//! the journal's beginning. `duration_s` is how long the last checkpoint kept the pipeline from its work. What is
//! not known yet is null.

use super::Api;
use super::error::ApiError;
use crate::metrics::{LANES, LagLabel, LaneLabel, Metrics, StageLabel};
use crate::pipeline::Stage;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::collections::BTreeMap;

/// The body of the answer.
#[derive(Serialize)]
pub(super) struct Condition {
    behind_s: Option<f64>,
    backlog_bytes: i64,
    watermarks: Vec<Lane>,
    stage_s: BTreeMap<&'static str, f64>,
    checkpoint: Checkpoint,
    counters: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Lane {
    lane: &'static str,
    channels: i64,
    median_lag_s: Option<f64>,
    slowest_lag_s: Option<f64>,
}

#[derive(Serialize)]
struct Checkpoint {
    age_s: Option<f64>,
    bytes: Option<i64>,
    duration_s: Option<f64>,
}

pub(super) async fn read(State(api): State<Api>) -> Result<Json<Condition>, ApiError> {
    let counters = api.readers.read(|state| state.counters()).await?;
    let metrics = &api.metrics;
    let [behind_s, age_s] = metrics.age((api.now)());
    let known = age_s.is_some();
    Ok(Json(Condition {
        behind_s,
        backlog_bytes: metrics.pipeline_backlog.get(),
        watermarks: LANES.map(|lane| watermark(metrics, lane)).into(),
        stage_s: Stage::ALL.map(|stage| spent(metrics, stage)).into(),
        checkpoint: Checkpoint {
            age_s,
            bytes: known.then(|| metrics.checkpoint_size.get()),
            duration_s: known.then(|| metrics.checkpoint_duration.get()),
        },
        counters,
    }))
}

fn watermark(metrics: &Metrics, lane: &'static str) -> Lane {
    let channels = metrics
        .watermark_channels
        .get_or_create(&LaneLabel { lane })
        .get();
    let lag = |channel| {
        let label = LagLabel { lane, channel };
        (channels > 0).then(|| metrics.watermark_lag.get_or_create(&label).get())
    };
    Lane {
        lane,
        channels,
        median_lag_s: lag("median"),
        slowest_lag_s: lag("slowest"),
    }
}

fn spent(metrics: &Metrics, stage: Stage) -> (&'static str, f64) {
    let stage = stage.label();
    let counter = metrics.pipeline_stage.get_or_create(&StageLabel { stage });
    (stage, counter.get())
}
