//! `GET /api/v1/corrections`: windows that were told otherwise once more had come, newest first.
//!
//! ```json
//! {"truncated": false, "corrections": [{
//!   "asset": "pump-7", "point": "drive-end", "channel": "t", "stream": "",
//!   "start": "2026-01-31T11:59:50Z", "start_ns": 1769860790000000000,
//!   "end": "2026-01-31T12:00:00Z", "end_ns": 1769860800000000000,
//!   "revision": 1, "time": "2026-01-31T12:00:07Z", "time_ns": 1769860807000000000, "backfill": true,
//!   "old": {"count": 9, "mean": 61.5}, "new": {"count": 10, "mean": 61.75}}]}
//! ```
//!
//! `asset`, `point`, `channel` and `stream` (empty for the windows that are always there) each narrow the
//! list; `limit` bounds it. `time` is the journal's when the correction was made. `old` and `new` are what
//! the window said before and says since, empty where nothing could be decided. The series show what
//! holds ([`super::series`]); this is what a reader that has seen it has to change. Corrections are kept as
//! long as windows are, and at most [`crate::state::CORRECTIONS_MAX`] of them.

use super::error::{ApiError, Parameters};
use super::time::rfc3339;
use super::{Api, clip};
use crate::state::{CorrectionQuery, CorrectionRow};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Corrections in one answer unless `limit` says otherwise.
pub const CORRECTIONS_DEFAULT: u32 = 1_000;

/// Most corrections in one answer.
pub const CORRECTIONS_SHOWN_MAX: u32 = 10_000;

/// Which corrections.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    asset: Option<String>,
    point: Option<String>,
    channel: Option<String>,
    stream: Option<String>,
    limit: Option<u32>,
}

/// The body of the answer.
#[derive(Serialize)]
pub(super) struct Corrections {
    truncated: bool,
    corrections: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    asset: String,
    point: String,
    channel: String,
    stream: String,
    start: String,
    start_ns: i64,
    end: String,
    end_ns: i64,
    revision: u32,
    time: String,
    time_ns: i64,
    backfill: bool,
    old: BTreeMap<String, f32>,
    new: BTreeMap<String, f32>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Parameters(selection): Parameters<Selection>,
) -> Result<Json<Corrections>, ApiError> {
    let limit = selection.limit.unwrap_or(CORRECTIONS_DEFAULT);
    if !(1..=CORRECTIONS_SHOWN_MAX).contains(&limit) {
        let wrong = format!("limit: choose from 1 to {CORRECTIONS_SHOWN_MAX}");
        return Err(ApiError::Parameter(wrong));
    }
    let query = CorrectionQuery {
        asset: selection.asset,
        point: selection.point,
        channel: selection.channel,
        stream: selection.stream,
        // One more than asked for shows whether there are older ones.
        limit: limit + 1,
    };
    let mut corrections = api.readers.read(move |state| state.corrections(&query)).await?;
    let truncated = clip(&mut corrections, limit as usize);
    let corrections = corrections.into_iter().map(entry).collect();
    Ok(Json(Corrections {
        truncated,
        corrections,
    }))
}

fn entry(row: CorrectionRow) -> Entry {
    Entry {
        asset: row.series.asset,
        point: row.series.point,
        channel: row.series.channel,
        stream: row.stream,
        start: rfc3339(row.start),
        start_ns: row.start.0,
        end: rfc3339(row.end),
        end_ns: row.end.0,
        revision: row.revision,
        time: rfc3339(row.time),
        time_ns: row.time.0,
        backfill: row.backfill,
        old: row.old,
        new: row.new,
    }
}
