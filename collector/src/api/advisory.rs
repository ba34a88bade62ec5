//! `GET /api/v1/advisories?active=true&asset=pump-7`: what people are told, newest first.
//!
//! ```json
//! {"truncated": false, "advisories": [{
//!   "id": "pump-7/drive-end/inner_race/1769860790000000000",
//!   "asset": "pump-7", "point": "drive-end", "cause": "bearing", "element": "inner_race",
//!   "feature": null, "suspected": null, "level": "alarm", "active": true,
//!   "raised": "2026-01-31T11:59:50Z", "raised_ns": 1769860790000000000,
//!   "cleared": null, "cleared_ns": null,
//!   "last_seen": "2026-01-31T11:59:59Z", "last_seen_ns": 1769860799000000000,
//!   "evidence": {"order": 5.41, "score": 4.2, "runner_up": 0.7, "band_hz": [1.0, 5000.0],
//!     "confirmed": {"band_hz": [2500.0, 3750.0], "kurtosis": 3.1, "score": 5.0},
//!     "lines": [{"order": 5.41, "frequency_hz": 162.3, "harmonic": 1, "prominence": 9.1}]},
//!   "recommendation": "...", "explanation": null,
//!   "remaining_life": {"state": "declining", "since": "2026-01-30T02:10:00Z", "since_ns": 1769739000000000000,
//!     "earliest_s": 40000.0, "median_s": 140000.0, "latest_s": 420000.0, "confidence": 0.8,
//!     "as_of": "2026-01-31T11:50:00Z", "as_of_ns": 1769860200000000000,
//!     "basis": "baseline", "channel": "v", "feature": "velocity_rms", "limit": 4.5, "normal": 1.1,
//!     "model": null, "machines": null},
//!   "backfill": false}]}
//! ```
//!
//! `cause` and what it rests on, its evidence:
//!
//! | `cause` | is about | evidence |
//! |---|---|---|
//! | `bearing` | a bearing; `element` is `outer_race`, `inner_race`, `ball`, `cage` or `undetermined` | as above; `confirmed` is the part of `band_hz` that is most impulsive, where that shows the element as well, else null |
//! | `severity` | the overall vibration | `channel`, `feature`, `value`, `limit`, `below`, `normal`, `basis`, `zone`, `standard` |
//! | `deviation` | a `feature` that is off its limits or its normal | the same, without zone and standard; `band` of one of the point's own |
//! | `suspected` | what a shaft, a gear, blades or a motor may have: `suspected` is `unbalance`, `misalignment`, `looseness`, `gear_mesh`, `blade_pass` or `electrical`, and without a measurement of phase it stays suspected | `channel`, `score` (share of the vibration that the lines hold; of a gear sidebands over mesh), `band_hz`, `lines` with `order`, `frequency_hz`, `rms`, `prominence` |
//! | `instrument` | the sensor, its cable or its data, and not the machine | `channel`, `fault` |
//! | `drift` | a feature that has moved off its normal over days | `channel`, `feature`, `deviations` (standard deviations of the normal) |
//! | `remaining_life` | a decline that machines of its kind have shown before they failed | `model` |
//! | `unusual` | slow channels that are not as they were | `channel` (null for several), `value`, `limit`, `residual`, `rarity`, `contributions` of each `channel` with its `share` |
//!
//! A `suspected` one is as bad as the advisory that it explains, and over with it at the latest. `explanation` of a
//! `severity` one names those that stand at its point, what its spectra suspect or else its bearing,
//! `{"state": "suspected", "by": [{"cause", "suspected", "element", "advisory"}]}`, or says that its spectra were
//! looked at and do not tell: `{"state": "undetermined", "reason": "like_none"}`. That of a `deviation` of the RMS or
//! a `drift` says that it is heard from another point of the machine, `{"state": "transmitted", "from": "motor-de"}`, or
//! that all of them have risen alike, `{"state": "shared"}`.
//!
//! `remaining_life` says how long the machine has left at that point, where a limit is known that ends it: the zone
//! boundary C/D (or a lower TRIP) of the velocity, the ALARM limit of another feature. `state` is `declining` from
//! the onset of a fault on, with an interval that holds the end with the `confidence` given; else nothing is told
//! of the end: `before_onset`, `learning` while what is normal is not known, `undetermined` where it lies too close
//! to the limit. It is counted from `as_of` on, in calendar time at the use made of the machine so far. `basis` is
//! `baseline` where it starts from the accepted normal, `first_readings` where none is accepted, and `fleet` where
//! it was learned from so many `machines` that were run to failure, with the name of the `model`.
//!
//! `element`, `feature` and `suspected` are null where they are not meant. `basis` is `baseline` where the limit follows from
//! the accepted normal, and `absolute` where there is none. `level` is `alert`, `alarm` or `trip`.

use super::error::{ApiError, Parameters};
use super::time::rfc3339;
use super::{Api, clip};
use crate::advisory::{Advisory, Cause, Evidence, Explanation};
use crate::prognosis::{Forecast, Method, Outlook, RemainingLife};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use trunnion_common::feature::band::Band;
use trunnion_common::feature::definition::WatchedBand;
use trunnion_common::severity::Zone;
use trunnion_diagnosis::diagnosis::SupportingLine;
use trunnion_diagnosis::features::EvidenceLine;

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
    cause: &'static str,
    element: Option<&'static str>,
    feature: Option<&'static str>,
    suspected: Option<&'static str>,
    level: &'static str,
    active: bool,
    raised: String,
    raised_ns: i64,
    cleared: Option<String>,
    cleared_ns: Option<i64>,
    last_seen: String,
    last_seen_ns: i64,
    evidence: Shown,
    recommendation: String,
    explanation: Option<Explained>,
    remaining_life: Option<Life>,
    backfill: bool,
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Explained {
    Suspected { by: Vec<By> },
    Undetermined { reason: &'static str },
    Transmitted { from: String },
    Shared,
}

#[derive(Serialize)]
struct By {
    cause: &'static str,
    suspected: Option<&'static str>,
    element: Option<&'static str>,
    advisory: String,
}

#[derive(Serialize)]
struct Life {
    #[serde(flatten)]
    outlook: Told,
    as_of: String,
    as_of_ns: i64,
    basis: &'static str,
    channel: Option<String>,
    feature: Option<&'static str>,
    limit: Option<f32>,
    normal: Option<f32>,
    model: Option<String>,
    machines: Option<usize>,
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Told {
    Declining {
        since: String,
        since_ns: i64,
        earliest_s: f64,
        median_s: f64,
        latest_s: f64,
        confidence: f64,
    },
    BeforeOnset,
    Learning,
    Undetermined,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Shown {
    Lines {
        order: f64,
        score: f64,
        runner_up: f64,
        band_hz: [f64; 2],
        /// The most impulsive band, where that shows the element as well.
        confirmed: Option<Confirming>,
        lines: Vec<Line>,
    },
    Limit {
        channel: String,
        feature: &'static str,
        value: f32,
        limit: f32,
        /// Whether values below the limit are the bad ones.
        below: bool,
        normal: Option<f32>,
        basis: &'static str,
        zone: Option<&'static str>,
        standard: Option<String>,
        band: Option<Part>,
    },
    Orders {
        channel: String,
        score: f64,
        band_hz: [f64; 2],
        lines: Vec<OrderLine>,
    },
    Instrument {
        channel: String,
        fault: &'static str,
    },
    Drift {
        channel: String,
        feature: &'static str,
        deviations: f32,
    },
    Fleet {
        model: String,
    },
    Unusual {
        /// None where several channels are judged together.
        channel: Option<String>,
        value: f32,
        limit: f32,
        residual: Option<f32>,
        rarity: Option<f32>,
        contributions: Vec<Contribution>,
    },
}

#[derive(Serialize)]
struct Confirming {
    band_hz: [f64; 2],
    kurtosis: f64,
    score: f64,
}

#[derive(Serialize)]
struct Contribution {
    channel: String,
    share: f32,
}

/// A part of the spectrum.
#[derive(Serialize)]
struct Part {
    hz: Option<[f32; 2]>,
    orders: Option<[f32; 2]>,
    velocity: bool,
}

#[derive(Serialize)]
struct OrderLine {
    order: f64,
    frequency_hz: f64,
    rms: f64,
    prominence: f64,
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
    Entry {
        id: advisory.id,
        asset: advisory.asset,
        point: advisory.point,
        cause: advisory.cause.label(),
        element: element(advisory.cause),
        feature: match advisory.cause {
            Cause::Deviation(kind) => Some(kind.label()),
            _ => None,
        },
        suspected: suspected(advisory.cause),
        level: advisory.level.label(),
        active: advisory.cleared.is_none(),
        raised: rfc3339(advisory.raised),
        raised_ns: advisory.raised.0,
        cleared: advisory.cleared.map(rfc3339),
        cleared_ns: advisory.cleared.map(|at| at.0),
        last_seen: rfc3339(advisory.last_seen),
        last_seen_ns: advisory.last_seen.0,
        evidence: shown(advisory.evidence),
        recommendation: advisory.recommendation,
        explanation: advisory.explanation.map(explained),
        remaining_life: advisory.remaining_life.map(life),
        backfill: advisory.backfill,
    }
}

const fn element(cause: Cause) -> Option<&'static str> {
    match cause {
        Cause::Bearing(Some(element)) => Some(element.label()),
        Cause::Bearing(None) => Some("undetermined"),
        _ => None,
    }
}

const fn suspected(cause: Cause) -> Option<&'static str> {
    match cause {
        Cause::Suspected(cause) => Some(cause.label()),
        _ => None,
    }
}

fn explained(explanation: Explanation) -> Explained {
    match explanation {
        Explanation::Suspected(by) => Explained::Suspected {
            by: by
                .into_iter()
                .map(|by| By {
                    cause: by.cause.label(),
                    suspected: suspected(by.cause),
                    element: element(by.cause),
                    advisory: by.advisory,
                })
                .collect(),
        },
        Explanation::Undetermined(reason) => Explained::Undetermined {
            reason: reason.label(),
        },
        Explanation::Transmitted(from) => Explained::Transmitted { from },
        Explanation::Shared => Explained::Shared,
    }
}

/// What a forecast rests on; the rest is still to be said.
fn by(method: Method) -> Life {
    let nothing = Life {
        outlook: Told::Learning,
        as_of: String::new(),
        as_of_ns: 0,
        basis: "fleet",
        channel: None,
        feature: None,
        limit: None,
        normal: None,
        model: None,
        machines: None,
    };
    match method {
        Method::Trend {
            channel,
            feature,
            limit,
            normal,
        } => Life {
            basis: match normal {
                Some(_) => "baseline",
                None => "first_readings",
            },
            channel: Some(channel),
            feature: Some(feature.label()),
            limit: Some(limit),
            normal,
            ..nothing
        },
        Method::Fleet { model, machines } => Life {
            model: Some(model),
            machines: Some(machines),
            ..nothing
        },
    }
}

fn life(forecast: Forecast) -> Life {
    Life {
        outlook: match forecast.outlook {
            Outlook::Declining { since, remaining } => Told::Declining {
                since: rfc3339(since),
                since_ns: since.0,
                earliest_s: remaining.lower_s,
                median_s: remaining.median_s,
                latest_s: remaining.upper_s,
                confidence: RemainingLife::COVERAGE,
            },
            Outlook::BeforeOnset => Told::BeforeOnset,
            Outlook::Learning => Told::Learning,
            Outlook::Undetermined => Told::Undetermined,
        },
        as_of: rfc3339(forecast.as_of),
        as_of_ns: forecast.as_of.0,
        ..by(forecast.method)
    }
}

fn part(watched: WatchedBand) -> Part {
    let (hz, orders) = match watched.band {
        Band::Hz { low, high } => (Some([low, high]), None),
        Band::Orders { low, high } => (None, Some([low, high])),
    };
    Part {
        hz,
        orders,
        velocity: watched.velocity,
    }
}

fn shown(evidence: Evidence) -> Shown {
    match evidence {
        Evidence::Lines(finding) => {
            let line = |line: EvidenceLine| Line {
                order: line.order,
                frequency_hz: line.frequency_hz,
                harmonic: line.harmonic,
                prominence: line.prominence,
            };
            Shown::Lines {
                order: finding.order,
                score: finding.score,
                runner_up: finding.runner_up,
                band_hz: finding.band_hz.into(),
                confirmed: finding.confirmed.map(|band| Confirming {
                    band_hz: band.band_hz.into(),
                    kurtosis: band.kurtosis,
                    score: band.score,
                }),
                lines: finding.lines.into_iter().map(line).collect(),
            }
        }
        Evidence::Limit(limit) => Shown::Limit {
            channel: limit.channel,
            feature: limit.feature.label(),
            value: limit.value,
            limit: limit.limit,
            below: limit.is_below,
            normal: limit.normal,
            basis: limit.basis.label(),
            zone: limit.zone.map(Zone::label),
            standard: limit.standard,
            band: limit.band.map(part),
        },
        Evidence::Orders { channel, suspicion } => {
            let line = |line: SupportingLine| OrderLine {
                order: line.order,
                frequency_hz: line.frequency_hz,
                rms: line.rms,
                prominence: line.prominence,
            };
            Shown::Orders {
                channel,
                score: suspicion.score,
                band_hz: suspicion.band_hz.into(),
                lines: suspicion.lines.into_iter().map(line).collect(),
            }
        }
        Evidence::Instrument { channel, fault } => Shown::Instrument {
            channel,
            fault: fault.label(),
        },
        Evidence::Drift {
            channel,
            feature,
            deviations,
        } => Shown::Drift {
            channel,
            feature: feature.label(),
            deviations,
        },
        Evidence::Fleet { model } => Shown::Fleet { model },
        Evidence::Unusual(unusual) => {
            let share = |(channel, share)| Contribution { channel, share };
            Shown::Unusual {
                channel: unusual.channel,
                value: unusual.value,
                limit: unusual.limit,
                residual: unusual.residual,
                rarity: unusual.rarity,
                contributions: unusual.contributions.into_iter().map(share).collect(),
            }
        }
    }
}
