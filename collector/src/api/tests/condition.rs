//! What is normal, why an asset has its grade, and what is unusual.

use super::*;
use crate::advisory::UnusualEvidence;
use crate::health::{Grade, Health, HealthRow, Reason, Suspicion};
use crate::state::{BaselineRow, NormalRow};

/// A plant of one pump that is judged, and not by the defaults alone.
const FLEET: &str = "[[site]]\nid = \"bremen\"\n[[site.area]]\nid = \"hall-1\"\n\
    [[site.area.asset]]\nid = \"pump\"\nzones_mm_s = [2, 4, 6]\n\
    [site.area.asset.condition]\nalert_ratio = 3\n";

fn baseline(asset: &str, generation: u32, closed: bool) -> BaselineRow {
    BaselineRow {
        series: SeriesKey {
            asset: asset.into(),
            point: "drive end".into(),
            channel: "x".into(),
        },
        generation,
        speed_regime: 1,
        load_regime: 0,
        stage: if closed { "frozen" } else { "proposed" }.into(),
        windows: 300,
        learned: Some((NOON.plus_nanos(-10 * SECOND), NOON)),
        accepted: closed.then_some(NOON),
        closed: closed.then_some(NOON),
        note: closed.then(|| "bearing changed".into()),
        normals: vec![NormalRow {
            feature: "velocity_rms".into(),
            centre: 1.25,
            spread: 0.5,
        }],
        group: None,
    }
}

fn unusual(evidence: UnusualEvidence) -> Advisory {
    Advisory {
        cause: Cause::Unusual,
        level: Level::Alert,
        evidence: Evidence::Unusual(evidence),
        ..advisory("pump", None, -5, None)
    }
}

fn judged() -> Batch {
    let evidence = UnusualEvidence {
        channel: None,
        value: 2.5,
        limit: 1.0,
        residual: Some(1.5),
        rarity: None,
        contributions: vec![("drive/current".into(), 0.75), ("drive/warm".into(), 0.25)],
    };
    let reason = Reason {
        grade: Grade::Watch,
        point: "*".into(),
        channel: None,
        what: evidence.words(),
        advisory: Some("pump/-5".into()),
    };
    Batch {
        baselines: vec![
            baseline("pump", 0, true),
            baseline("pump", 1, false),
            baseline("fan", 0, false),
        ],
        healths: vec![HealthRow {
            asset: "pump".into(),
            since: NOON,
            health: Health {
                grade: Grade::Watch,
                reasons: vec![reason],
                suspected: vec![Suspicion {
                    point: "drive end".into(),
                    fault: "cage".into(),
                    confidence: 0.5,
                }],
                zone: None,
            },
        }],
        advisories: vec![unusual(evidence)],
        fleet: Some(FleetRow {
            effective: NOON,
            text: FLEET.into(),
            assets: vec![asset("pump")],
        }),
        published: NOON,
        ..Batch::default()
    }
}

#[tokio::test]
async fn baselines_are_told_with_their_past_and_how_the_asset_is_judged() {
    let served = Served::with(judged()).await;
    let answer = served.json("/api/v1/baselines?asset=pump").await;
    assert_eq!(answer["truncated"], false);
    let rows = answer["baselines"].as_array().unwrap();
    let seen: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["generation"].as_u64(),
                row["stage"].as_str(),
                row["note"].as_str(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (Some(1), Some("proposed"), None),
            (Some(0), Some("frozen"), Some("bearing changed"))
        ]
    );
    let closed = &rows[1];
    assert_eq!(closed["closed"], "2026-01-31T12:00:00Z");
    assert_eq!(closed["learned_from_ns"], NOON.0 - 10 * SECOND);
    assert_eq!(
        (&closed["speed_regime"], &closed["load_regime"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(
        closed["normals"][0],
        json!({"feature": "velocity_rms", "centre": 1.25, "spread": 0.5})
    );
    let settings = answer["judged"][0]["settings"].as_array().unwrap();
    let setting = |key: &str| settings.iter().find(|setting| setting["key"] == key).unwrap();
    assert_eq!(setting("alert_ratio")["value"], "3");
    assert_eq!(setting("alert_ratio")["origin"], "asset");
    assert_eq!(setting("alarm_ratio")["origin"], "default");
    let all = served.json("/api/v1/baselines").await;
    assert_eq!(all["baselines"].as_array().unwrap().len(), 3);
    let nobody = served.json("/api/v1/baselines?asset=nobody").await;
    assert_eq!(
        (&nobody["baselines"], &nobody["judged"]),
        (&json!([]), &json!([]))
    );
}

#[tokio::test]
async fn an_asset_tells_why_it_has_its_grade_and_since_when() {
    let served = Served::with(judged()).await;
    let answer = served.json("/api/v1/assets").await;
    let pump = &answer["assets"][0];
    assert_eq!(
        (&pump["grade"], &pump["grade_since_ns"]),
        (&json!("watch"), &json!(NOON.0))
    );
    let reason = &pump["reasons"][0];
    assert_eq!(
        reason["what"],
        "unusual together: drive/current 75 %, drive/warm 25 %"
    );
    assert_eq!(
        (&reason["grade"], &reason["advisory"]),
        (&json!("watch"), &json!("pump/-5"))
    );
    assert_eq!(reason["channel"], Value::Null);
    assert_eq!(
        pump["suspected"][0],
        json!({"point": "drive end", "fault": "cage", "confidence": 0.5})
    );
    assert_eq!(answer["areas"][0]["assets"]["watch"], 1);
}

#[tokio::test]
async fn what_is_unusual_is_told_with_the_share_of_each_channel() {
    let served = Served::with(judged()).await;
    let answer = served.json("/api/v1/advisories").await;
    let told = &answer["advisories"][0];
    assert_eq!(
        (&told["cause"], &told["level"]),
        (&json!("unusual"), &json!("alert"))
    );
    assert_eq!(
        told["evidence"],
        json!({"channel": null, "value": 2.5, "limit": 1.0, "residual": 1.5, "rarity": null,
            "contributions": [{"channel": "drive/current", "share": 0.75}, {"channel": "drive/warm", "share": 0.25}]})
    );
}
