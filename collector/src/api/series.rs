//! `GET /api/v1/series`: which series there are, or a part of one.
//!
//! Without `point`, `channel` and `feature` it lists names, of one asset or of all:
//!
//! ```json
//! {"truncated": false, "series": [{"asset": "pump-7", "point": "drive-end", "channel": "x", "stream": "",
//!   "feature": "velocity_rms", "definition": {"number": "e9084d1d", "quantity": "velocity", "unit": "mm/s",
//!     "detector": "rms", "domain": "time", "band": {"hz": {"low": 10.0, "high": 1000.0}},
//!     "window": "rectangular", "averages": 1, "resolution_hz": null, "duration_ms": 800,
//!     "speed": "unknown", "source": "..."}}]}
//! ```
//!
//! Values that are measured otherwise, in another band or unit or over another time, go into a series of
//! another definition. `definition` names one by its number; without it the one is read whose values are the
//! newest. It is null for readings of slow channels, whose features need none.
//!
//! With all four it reads the newest values of the range, by rising time; `from` and `to` (RFC 3339 or
//! nanoseconds, `to` exclusive) bound the start of their windows:
//!
//! ```json
//! {"asset": "pump-7", "point": "drive-end", "channel": "x", "stream": "", "feature": "rms",
//!  "definition": {"number": "30bc7e6a", "...": "..."}, "truncated": true,
//!  "next": "/api/v1/series?asset=pump-7&point=drive-end&channel=x&stream=&feature=rms&definition=30bc7e6a&from=...&to=...&limit=1000",
//!  "values": [{"start": "...", "start_ns": 0, "end": "...", "end_ns": 0, "value": 0.12, "coverage": 1.0,
//!    "revision": 0, "open": false, "backfill": false, "source": "collector"}]}
//! ```
//!
//! `stream` names the windows of a configured stream; without it they are those that are always there. A
//! stream that joins the channels of an asset stands under the point `*` and the channel `*`.
//!
//! `revision` counts how often a window has been told again, `open` says that it still collects, and `backfill`
//! says that samples came as history: after an outage, and not as they were taken. `source` is `agent` where the
//! samples never came, as their gateway had to evict them, and only the features that it had computed of them are
//! left, and `node` where the node's plan is to send features in their place.
//!
//! `next` is where the older values of the range are, or null.

use super::error::{ApiError, Parameters};
use super::time::{parse, rfc3339};
use super::{Api, clip};
use crate::state::{SeriesDefinition, SeriesKey, SeriesName, SeriesQuery, SeriesValue};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use trunnion_common::time::EventTime;

/// Values in one answer unless `limit` says otherwise.
pub const VALUES_DEFAULT: u32 = 1_000;

/// Most values in one answer.
pub const VALUES_MAX: u32 = 10_000;

/// Most names in one answer.
pub const NAMES_MAX: usize = 10_000;

/// Which series, and which part of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    asset: Option<String>,
    point: Option<String>,
    channel: Option<String>,
    stream: Option<String>,
    feature: Option<String>,
    definition: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<u32>,
}

/// What a selection asks for.
#[derive(PartialEq, Eq, Debug)]
enum Request {
    Names { asset: Option<String> },
    Values(SeriesQuery),
}

#[derive(Serialize)]
struct Names {
    truncated: bool,
    series: Vec<Name>,
}

#[derive(Serialize)]
struct Name {
    asset: String,
    point: String,
    channel: String,
    stream: String,
    feature: String,
    definition: Option<serde_json::Value>,
}

#[derive(Serialize)]
struct Values {
    #[serde(flatten)]
    name: Name,
    truncated: bool,
    next: Option<String>,
    values: Vec<Value>,
}

#[derive(Serialize)]
struct Value {
    start: String,
    start_ns: i64,
    end: String,
    end_ns: i64,
    value: f32,
    coverage: f32,
    revision: u32,
    open: bool,
    backfill: bool,
    source: &'static str,
}

pub(super) async fn read(
    State(api): State<Api>,
    Parameters(selection): Parameters<Selection>,
) -> Result<Response, ApiError> {
    Ok(match request(selection).map_err(ApiError::Parameter)? {
        Request::Names { asset } => {
            let mut names = api
                .readers
                .read(move |state| state.series_names(asset.as_deref(), NAMES_MAX as u32 + 1))
                .await?;
            let truncated = clip(&mut names, NAMES_MAX);
            let series = names.into_iter().map(name).collect();
            Json(Names { truncated, series }).into_response()
        }
        Request::Values(query) => {
            // One more than asked for shows whether there are older ones.
            let mut probe = query.clone();
            probe.limit += 1;
            let (mut values, definition) = api
                .readers
                .read(move |state| Ok((state.series(&probe)?, state.definition(&probe)?)))
                .await?;
            let truncated = values.len() > query.limit as usize;
            if truncated {
                values.remove(0);
            }
            let next = values
                .first()
                .filter(|_| truncated)
                .map(|oldest| link(&query, definition.as_ref(), oldest.start));
            Json(Values {
                name: name(SeriesName {
                    series: query.series,
                    stream: query.stream,
                    feature: query.feature,
                    definition,
                }),
                truncated,
                next,
                values: values.into_iter().map(value).collect(),
            })
            .into_response()
        }
    })
}

/// Decides what is asked for, or says which parameter is wrong.
fn request(selection: Selection) -> Result<Request, String> {
    let instant = |name: &str, text: Option<String>, open: EventTime| {
        text.map_or(Ok(open), |text| {
            parse(&text).map_err(|error| format!("{name}: {error}"))
        })
    };
    let from = instant("from", selection.from, EventTime(i64::MIN))?;
    let to = instant("to", selection.to, EventTime(i64::MAX))?;
    let limit = selection.limit.unwrap_or(VALUES_DEFAULT);
    if !(1..=VALUES_MAX).contains(&limit) {
        return Err(format!("limit: choose from 1 to {VALUES_MAX}"));
    }
    let definition = selection.definition.map(|text| {
        u32::from_str_radix(&text, 16).map_err(|_| format!("definition: {text:?} is no number of one"))
    });
    let definition = definition.transpose()?;
    match (
        selection.asset,
        selection.point,
        selection.channel,
        selection.feature,
    ) {
        (asset, None, None, None) if selection.stream.is_none() => Ok(Request::Names { asset }),
        (Some(asset), Some(point), Some(channel), Some(feature)) => Ok(Request::Values(SeriesQuery {
            series: SeriesKey {
                asset,
                point,
                channel,
            },
            stream: selection.stream.unwrap_or_default(),
            feature,
            definition,
            from,
            to,
            limit,
        })),
        _ => Err(
            "a series is named by asset, point, channel and feature together; \
                  leave out the last three, and the stream, to list what there is"
                .into(),
        ),
    }
}

/// Where the values before `to` are.
fn link(query: &SeriesQuery, definition: Option<&SeriesDefinition>, to: EventTime) -> String {
    let SeriesKey {
        asset,
        point,
        channel,
    } = &query.series;
    // The next page is of the same series, whatever has become the newest by then.
    let definition = definition.map_or_else(String::new, |definition| {
        format!("&definition={:08x}", definition.number)
    });
    format!(
        "/api/v1/series?asset={}&point={}&channel={}&stream={}&feature={}{definition}&from={}&to={}&limit={}",
        escape(asset),
        escape(point),
        escape(channel),
        escape(&query.stream),
        escape(&query.feature),
        query.from.0,
        to.0,
        query.limit
    )
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn name(name: SeriesName) -> Name {
    Name {
        asset: name.series.asset,
        point: name.series.point,
        channel: name.series.channel,
        stream: name.stream,
        feature: name.feature,
        definition: name.definition.and_then(told),
    }
}

/// The definition with its number in front.
fn told(definition: SeriesDefinition) -> Option<serde_json::Value> {
    let mut body: serde_json::Value = serde_json::from_str(&definition.body).ok()?;
    let number = format!("{:08x}", definition.number);
    body.as_object_mut()?.insert("number".to_owned(), number.into());
    Some(body)
}

fn value(value: SeriesValue) -> Value {
    Value {
        start: rfc3339(value.start),
        start_ns: value.start.0,
        end: rfc3339(value.end),
        end_ns: value.end.0,
        value: value.value,
        coverage: value.coverage,
        revision: value.revision,
        open: value.open,
        backfill: value.backfill,
        source: value.source.label(),
    }
}
