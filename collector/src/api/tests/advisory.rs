//! What an advisory says of a shaft, of a band and of what is left.

use super::*;
use crate::advisory::{Explaining, Explanation, LimitEvidence};
use crate::prognosis::{Forecast, Method, Outlook, RemainingLife};
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::band::Band;
use trunnion_common::feature::definition::WatchedBand;
use trunnion_common::monitor::Basis;
use trunnion_diagnosis::diagnosis::{self, SupportingLine, Suspicion, Undetermined};

fn limit(feature: FeatureKind, band: Option<WatchedBand>) -> Evidence {
    Evidence::Limit(LimitEvidence {
        channel: "v".into(),
        feature,
        is_below: false,
        value: 5.0,
        limit: 4.5,
        normal: None,
        basis: Basis::Absolute,
        zone: None,
        standard: None,
        band,
    })
}

async fn told(advisory: Advisory) -> Value {
    let served = Served::with(Batch {
        advisories: vec![advisory],
        ..Batch::default()
    })
    .await;
    served.json("/api/v1/advisories").await["advisories"][0].clone()
}

#[tokio::test]
async fn what_is_suspected_is_told_with_its_lines() {
    let suspicion = Suspicion {
        cause: diagnosis::Cause::BladePass,
        score: 0.9,
        lines: vec![SupportingLine {
            order: 7.0,
            frequency_hz: 207.0,
            rms: 5.0,
            prominence: 80.0,
        }],
        band_hz: (5.0, 1_000.0),
    };
    let answer = told(Advisory {
        cause: Cause::Suspected(diagnosis::Cause::BladePass),
        evidence: Evidence::Orders {
            channel: "v".into(),
            suspicion,
        },
        ..advisory("fan", None, -5, None)
    })
    .await;
    assert_eq!(
        (&answer["cause"], &answer["suspected"], &answer["element"]),
        (&json!("suspected"), &json!("blade_pass"), &Value::Null)
    );
    let line = json!({"order": 7.0, "frequency_hz": 207.0, "rms": 5.0, "prominence": 80.0});
    assert_eq!(
        answer["evidence"],
        json!({"channel": "v", "score": 0.9, "band_hz": [5.0, 1000.0], "lines": [line]})
    );
    assert_eq!(answer["explanation"], Value::Null);
}

#[tokio::test]
async fn severity_is_told_with_what_explains_it_or_that_nothing_does() {
    let severity = |explanation| Advisory {
        cause: Cause::Severity,
        evidence: limit(FeatureKind::VelocityRms, None),
        explanation: Some(explanation),
        ..advisory("fan", None, -5, None)
    };
    let by = Explaining {
        cause: Cause::Suspected(diagnosis::Cause::Unbalance),
        advisory: "fan/de/unbalance/1".into(),
    };
    let answer = told(severity(Explanation::Suspected(vec![by]))).await;
    let by = json!([{"cause": "suspected", "suspected": "unbalance", "element": null,
        "advisory": "fan/de/unbalance/1"}]);
    assert_eq!(answer["explanation"], json!({"state": "suspected", "by": by}));
    let answer = told(severity(Explanation::Undetermined(Undetermined::Ambiguous))).await;
    assert_eq!(
        answer["explanation"],
        json!({"state": "undetermined", "reason": "ambiguous"})
    );
}

#[tokio::test]
async fn the_remaining_life_is_told_with_its_interval_and_only_after_onset() {
    let with = |outlook| Advisory {
        remaining_life: Some(Forecast {
            outlook,
            as_of: NOON,
            method: Method::Trend {
                channel: "v".into(),
                feature: FeatureKind::VelocityRms,
                limit: 4.5,
                normal: Some(1.0),
            },
        }),
        ..advisory("fan", None, -5, None)
    };
    let remaining = RemainingLife {
        lower_s: 10.0,
        median_s: 30.0,
        upper_s: 90.0,
    };
    let since = NOON.plus_nanos(-60 * SECOND);
    let life = told(with(Outlook::Declining { since, remaining })).await["remaining_life"].clone();
    assert_eq!(
        [&life["state"], &life["since"], &life["as_of"]],
        ["declining", "2026-01-31T11:59:00Z", "2026-01-31T12:00:00Z"]
    );
    assert_eq!(
        json!([
            life["earliest_s"],
            life["median_s"],
            life["latest_s"],
            life["confidence"]
        ]),
        json!([10.0, 30.0, 90.0, RemainingLife::COVERAGE])
    );
    assert_eq!(
        (&life["basis"], &life["limit"]),
        (&json!("baseline"), &json!(4.5))
    );
    let life = told(with(Outlook::BeforeOnset)).await["remaining_life"].clone();
    assert_eq!(
        (&life["state"], &life["median_s"]),
        (&json!("before_onset"), &Value::Null)
    );
}

#[tokio::test]
async fn a_band_alarm_says_which_part_of_the_spectrum_it_is_of() {
    let watched = WatchedBand {
        band: Band::Orders { low: 5.5, high: 7.5 },
        velocity: true,
    };
    let answer = told(Advisory {
        cause: Cause::Deviation(FeatureKind::Band1),
        evidence: limit(FeatureKind::Band1, Some(watched)),
        ..advisory("fan", None, -5, None)
    })
    .await;
    assert_eq!(answer["feature"], "band_1");
    assert_eq!(
        answer["evidence"]["band"],
        json!({"hz": null, "orders": [5.5, 7.5], "velocity": true})
    );
}
