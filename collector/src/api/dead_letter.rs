//! `GET /api/v1/dead-letters?reason=no_descriptor&gateway=bremen/gw-1&since=2026-01-31T11:00:00Z&limit=10`: what
//! could not be used, newest first, and what became of it when it was replayed.
//!
//! ```json
//! {"truncated": false, "dead_letters": [{
//!   "id": "0-1-4096-3", "reason": "no_descriptor", "gateway": "bremen/gw-1", "lane": "live", "form": "frame",
//!   "bytes": 1003, "fix": 2, "time": "2026-01-31T11:59:50Z", "time_ns": 1769860790000000000,
//!   "arrival": "2026-01-31T11:59:49Z", "arrival_ns": 1769860789000000000,
//!   "replay": {"time": "2026-01-31T12:00:00Z", "time_ns": 1769860800000000000, "outcome": "landed", "samples": 480}}]}
//! ```
//!
//! `gateway` is null for a text of the collector's own files, `replay` where nobody had it replayed. Payloads
//! are not shown here: `trunnion-collector dead-letter show` does. The outcomes are those of
//! [`crate::dead_letter::Outcome`], or the label of the reason for which it is still refused.

use super::error::{ApiError, Parameters};
use super::time::parse;
use super::{Api, clip};
use crate::dead_letter::tool;
use crate::state::LetterQuery;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use trunnion_common::time::EventTime;

/// Most dead letters in one answer: the newest.
pub const DEAD_LETTERS_SHOWN_MAX: usize = 1_000;

/// Which dead letters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    /// Only those refused for this.
    reason: Option<String>,
    /// Only those of this gateway, as `site/gateway`.
    gateway: Option<String>,
    /// Only those refused then or later.
    since: Option<String>,
    /// At most this many.
    limit: Option<usize>,
}

/// The body of the answer.
#[derive(Serialize)]
pub(super) struct DeadLetters {
    truncated: bool,
    dead_letters: Vec<serde_json::Value>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Parameters(selection): Parameters<Selection>,
) -> Result<Json<DeadLetters>, ApiError> {
    let since = match selection.since.as_deref().map(parse) {
        None => EventTime(i64::MIN),
        Some(Ok(since)) => since,
        Some(Err(what)) => return Err(ApiError::Parameter(format!("since: {what}"))),
    };
    let most = selection
        .limit
        .unwrap_or(DEAD_LETTERS_SHOWN_MAX)
        .min(DEAD_LETTERS_SHOWN_MAX);
    let query = LetterQuery {
        reason: selection.reason,
        gateway: selection.gateway,
        since,
        limit: most as u32 + 1,
    };
    let mut rows = api.readers.read(move |state| state.dead_letters(&query)).await?;
    let truncated = clip(&mut rows, most);
    Ok(Json(DeadLetters {
        truncated,
        dead_letters: rows.iter().map(tool::to_json).collect(),
    }))
}
