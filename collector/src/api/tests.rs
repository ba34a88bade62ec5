mod advisory;
mod condition;

use super::*;
use crate::advisory::{Advisory, Cause, Evidence};
use crate::ledger::LedgerRow;
use crate::state::{AssetRow, Batch, FeatureRow, FleetRow, SeriesKey, State, Told};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use trunnion_common::id::{BootId, ChannelId, GatewayId, NodeId};
use trunnion_common::level::Level;
use trunnion_common::message::{GatewayStatus, Phase};
use trunnion_common::sample::LossCause;
use trunnion_diagnosis::bearing::Element;
use trunnion_diagnosis::features::{ConfirmingBand, EvidenceLine, Finding};

const SECOND: i64 = 1_000_000_000;

/// 2026-01-31T12:00:00Z.
const NOON: EventTime = EventTime(1_769_860_800 * SECOND);

fn window(asset: &str, start_s: i64, rms: f32) -> FeatureRow {
    FeatureRow {
        series: SeriesKey {
            asset: asset.into(),
            point: "drive end".into(),
            channel: "x".into(),
        },
        start: NOON.plus_nanos(start_s * SECOND),
        end: NOON.plus_nanos((start_s + 1) * SECOND),
        coverage: 1.0,
        decided: true,
        values: vec![("rms", rms)],
        ..FeatureRow::default()
    }
}

fn advisory(asset: &str, element: Option<Element>, raised_s: i64, cleared_s: Option<i64>) -> Advisory {
    let at = |s: i64| NOON.plus_nanos(s * SECOND);
    Advisory {
        id: format!("{asset}/{raised_s}"),
        asset: asset.into(),
        point: "drive end".into(),
        cause: Cause::Bearing(element),
        level: Level::Alarm,
        raised: at(raised_s),
        cleared: cleared_s.map(at),
        last_seen: at(raised_s + 1),
        evidence: Evidence::Lines(Finding {
            element,
            order: 5.41,
            score: 4.2,
            runner_up: 0.7,
            lines: vec![EvidenceLine {
                order: 5.41,
                frequency_hz: 162.3,
                harmonic: 1,
                prominence: 9.0,
            }],
            band_hz: (2_000.0, 4_000.0),
            confirmed: Some(ConfirmingBand {
                band_hz: (2_500.0, 3_000.0),
                kurtosis: 3.5,
                score: 5.5,
            }),
        }),
        recommendation: "Plan a bearing change.".into(),
        backfill: false,
        explanation: None,
        remaining_life: None,
    }
}

fn asset(asset: &str) -> AssetRow {
    AssetRow {
        asset: asset.into(),
        name: format!("Machine {asset}"),
        site: "bremen".into(),
        area: "hall-1".into(),
    }
}

fn plant() -> Batch {
    let row = |channel, unexplained| LedgerRow {
        node: NodeId::new(0xa1).unwrap(),
        boot: BootId::new(1, 7),
        channel: ChannelId::new(channel).unwrap(),
        produced: 100 + unexplained,
        stored: 97,
        lost: vec![(LossCause::OutboxFull, 2)],
        pending: 1,
        unexplained,
        duplicated: 3,
    };
    Batch {
        features: (-10..0)
            .map(|s| window("pump", s, s as f32))
            .chain([window("fan", -60, 1.0)])
            .collect(),
        advisories: vec![
            advisory("pump", Some(Element::InnerRace), -5, None),
            advisory("pump", None, -50, Some(-40)),
            advisory("press", Some(Element::OuterRace), -9, Some(-3)),
        ],
        ledger: vec![row(0, 0), row(1, 0)],
        fleet: Some(FleetRow {
            effective: NOON,
            text: String::new(),
            assets: ["fan", "press", "pump"].map(asset).into(),
        }),
        published: NOON,
        ..Batch::default()
    }
}

/// An API on a free port, with a state of its own.
struct Served {
    address: SocketAddr,
    state: std::sync::Mutex<State>,
    broker_ok: Arc<AtomicBool>,
    stop: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<io::Result<()>>,
    metrics: Metrics,
    _dir: tempfile::TempDir,
}

impl Served {
    async fn with(batch: Batch) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let mut state = State::open(&path).unwrap();
        state.write(&batch).unwrap();
        let broker_ok = Arc::new(AtomicBool::new(true));
        let broker = Arc::clone(&broker_ok);
        let check = Check {
            name: "broker",
            check: Box::new(move || match broker.load(Ordering::Relaxed) {
                true => Ok(()),
                false => Err("the canary got no answer for 12 s".into()),
            }),
        };
        let gateways = || {
            let status = GatewayStatus {
                phase: Phase::Heartbeat,
                agent_version: "0.1.0".try_into().unwrap(),
                utc: NOON,
                nodes: 3,
                spool_blocks: 4,
                spool_bytes: 5,
                life: 1,
                connection: 1,
                health: trunnion_common::message::GatewayHealth::default(),
            };
            let gateway = |urn, status| {
                let said = Gateway {
                    heard: NOON,
                    connected: true,
                    status,
                    commands: Vec::new(),
                };
                (GatewayId::from_urn(urn).unwrap(), said)
            };
            BTreeMap::from([
                gateway("urn:trunnion:bremen:gw-1", Some(status)),
                gateway("urn:trunnion:bremen:gw-2", None),
            ])
        };
        let metrics = Metrics::default();
        let api = Api::new(&path, metrics.clone(), || NOON, gateways, vec![check]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(api.serve(listener, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            state: state.into(),
            broker_ok,
            stop,
            serving,
            metrics,
            _dir: dir,
        }
    }

    async fn exchange(&self, method: &str, path: &str, host: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_ascii_lowercase(),
            body: body.into(),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        let answer = self.exchange("GET", path, "Host: localhost\r\n").await;
        for header in [
            "content-security-policy: default-src 'self';",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "cache-control: no-store",
        ] {
            assert!(
                answer.head.contains(header),
                "{path} without {header}: {}",
                answer.head
            );
        }
        answer
    }

    /// The body of an answer that has to be 200.
    async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(answer.head.contains("content-type: application/json"));
        answer.json()
    }

    /// The code of an answer that has to be an error in this API's form.
    async fn error(&self, path: &str, status: u16) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        answer.error_code()
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn error_code(&self) -> String {
        let body = self.json();
        assert!(!body["error"]["message"].as_str().unwrap().is_empty());
        assert_eq!(body.as_object().unwrap().len(), 1, "nothing beside the error");
        body["error"]["code"].as_str().unwrap().into()
    }
}

#[tokio::test]
async fn assets_are_a_tree_with_grades() {
    let served = Served::with(plant()).await;
    let answer = served.json("/api/v1/assets").await;
    assert_eq!(answer["now"], "2026-01-31T12:00:00Z");
    assert_eq!(answer["now_ns"], NOON.0);
    assert_eq!(answer["truncated"], false);
    let grades: Vec<(&str, &str)> = answer["assets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|asset| (asset["asset"].as_str().unwrap(), asset["grade"].as_str().unwrap()))
        .collect();
    assert_eq!(
        grades,
        [("fan", "unknown"), ("press", "unknown"), ("pump", "fault")]
    );
    let pump = &answer["assets"][2];
    assert_eq!(pump["name"], "Machine pump");
    assert_eq!(pump["area"], "hall-1");
    assert_eq!(pump["active_advisories"], 1);
    assert_eq!(pump["last_data"], "2026-01-31T12:00:00Z");
    let channel = &pump["points"][0]["channels"][0];
    assert_eq!(
        (&channel["channel"], &channel["values"]["rms"]),
        (&json!("x"), &json!(-1.0))
    );
    assert_eq!(answer["assets"][1]["last_data"], Value::Null);
}

#[tokio::test]
async fn an_asset_without_advisory_and_with_fresh_data_is_healthy() {
    let served = Served::with(Batch {
        features: vec![window("pump", -1, 0.1)],
        ..Batch::default()
    })
    .await;
    let answer = served.json("/api/v1/assets").await;
    assert_eq!(answer["assets"][0]["grade"], "healthy");
    assert_eq!(
        answer["assets"][0]["name"],
        Value::Null,
        "no fleet file claims it"
    );
}

#[tokio::test]
async fn advisories_are_selected_by_standing_and_asset() {
    let served = Served::with(plant()).await;
    let ids = |answer: &Value| -> Vec<String> {
        let advisories = answer["advisories"].as_array().unwrap();
        advisories
            .iter()
            .map(|a| a["id"].as_str().unwrap().into())
            .collect()
    };
    let all = served.json("/api/v1/advisories").await;
    assert_eq!(ids(&all), ["pump/-5", "press/-9", "pump/-50"]);
    let active = served.json("/api/v1/advisories?active=true").await;
    assert_eq!(ids(&active), ["pump/-5"]);
    let pump = served.json("/api/v1/advisories?active=false&asset=pump").await;
    assert_eq!(ids(&pump), ["pump/-5", "pump/-50"]);
    assert_eq!(
        ids(&served.json("/api/v1/advisories?asset=nobody").await),
        [""; 0]
    );

    let first = &all["advisories"][0];
    assert_eq!(first["element"], "inner_race");
    assert_eq!(first["active"], true);
    assert_eq!(first["cleared"], Value::Null);
    assert_eq!(first["raised"], "2026-01-31T11:59:55Z");
    assert_eq!(first["evidence"]["band_hz"], json!([2000.0, 4000.0]));
    assert_eq!(first["evidence"]["lines"][0]["harmonic"], 1);
    assert_eq!(
        first["evidence"]["confirmed"],
        json!({"band_hz": [2500.0, 3000.0], "kurtosis": 3.5, "score": 5.5})
    );
    let last = &all["advisories"][2];
    assert_eq!(
        (&last["element"], &last["active"]),
        (&json!("undetermined"), &json!(false))
    );
    assert_eq!(last["cleared_ns"], NOON.0 - 40 * SECOND);
}

#[tokio::test]
async fn a_series_is_read_page_by_page_from_its_newest_value() {
    let served = Served::with(plant()).await;
    let names = served.json("/api/v1/series?asset=pump").await;
    let name = json!({"asset": "pump", "point": "drive end", "channel": "x", "stream": "", "feature": "rms",
        "definition": null});
    assert_eq!(names["series"], json!([name]));

    let mut seen = Vec::new();
    let mut path =
        Some("/api/v1/series?asset=pump&point=drive%20end&channel=x&feature=rms&limit=4".to_owned());
    while let Some(at) = path {
        let page = served.json(&at).await;
        let values = page["values"].as_array().unwrap();
        assert!(values.len() <= 4);
        assert_eq!(page["truncated"].as_bool().unwrap(), page["next"].is_string());
        let read = values.iter().map(|value| value["value"].as_f64().unwrap());
        seen.splice(0..0, read);
        path = page["next"].as_str().map(str::to_owned);
    }
    let expected: Vec<f64> = (-10..0).map(f64::from).collect();
    assert_eq!(seen, expected);

    let base = "/api/v1/series?asset=pump&point=drive+end&channel=x&feature=rms";
    let range = format!("{base}&from=2026-01-31T11:59:52Z&to={}", NOON.0 - 5 * SECOND);
    let part = served.json(&range).await;
    let starts: Vec<&str> = part["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value["start"].as_str().unwrap())
        .collect();
    assert_eq!(
        starts,
        [
            "2026-01-31T11:59:52Z",
            "2026-01-31T11:59:53Z",
            "2026-01-31T11:59:54Z"
        ]
    );
}

#[tokio::test]
async fn a_correction_is_listed_and_its_stream_read_beside_the_others() {
    let mut batch = plant();
    batch.features.push(FeatureRow {
        stream: "hourly".to_owned(),
        revision: 1,
        backfill: true,
        told: Told::Corrected { at: NOON },
        old: vec![("rms", 0.5)],
        ..window("pump", -5, 7.5)
    });
    let served = Served::with(batch).await;
    let listed = served.json("/api/v1/corrections?asset=pump").await;
    assert_eq!(listed["truncated"], false);
    let expected = json!([{
        "asset": "pump", "point": "drive end", "channel": "x", "stream": "hourly",
        "start": "2026-01-31T11:59:55Z", "start_ns": NOON.0 - 5 * SECOND,
        "end": "2026-01-31T11:59:56Z", "end_ns": NOON.0 - 4 * SECOND,
        "revision": 1, "time": "2026-01-31T12:00:00Z", "time_ns": NOON.0, "backfill": true,
        "old": {"rms": 0.5}, "new": {"rms": 7.5},
    }]);
    assert_eq!(listed["corrections"], expected);
    for none in ["stream=", "asset=fan", "point=x"] {
        let listed = served.json(&format!("/api/v1/corrections?{none}")).await;
        assert_eq!(listed["corrections"], json!([]), "{none}");
    }
    let base = "/api/v1/series?asset=pump&point=drive+end&channel=x&feature=rms";
    let hourly = served.json(&format!("{base}&stream=hourly")).await;
    let values = hourly["values"].as_array().unwrap();
    assert_eq!((values.len(), &values[0]["value"]), (1, &json!(7.5)));
    assert_eq!(served.json(base).await["values"].as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn the_ledger_is_balanced_only_if_every_row_is() {
    let served = Served::with(plant()).await;
    let answer = served.json("/api/v1/ledger").await;
    assert_eq!(answer["balanced"], true);
    assert_eq!(answer["rows"].as_array().unwrap().len(), 2);
    assert_eq!(answer["rows"][0]["node"], "00000000000000a1");
    assert_eq!(answer["rows"][1]["lost_by_cause"], json!({"outbox_full": 2}));
    let totals = &answer["totals"];
    for (field, samples) in [
        ("produced", 200),
        ("stored", 194),
        ("lost", 4),
        ("pending", 2),
        ("duplicated", 6),
    ] {
        assert_eq!(totals[field], samples, "{field}");
    }

    let mut one_unexplained = plant();
    one_unexplained.ledger[1].unexplained = 5;
    one_unexplained.ledger[1].produced += 5;
    let served = Served::with(one_unexplained).await;
    let answer = served.json("/api/v1/ledger").await;
    assert_eq!(answer["balanced"], false);
    assert_eq!(answer["totals"]["unexplained"], 5);
    assert_eq!(answer["rows"][0]["balanced"], true);
    assert_eq!(answer["rows"][1]["balanced"], false);

    let mut surplus = plant();
    surplus.ledger[0].stored += 1;
    surplus.ledger[1].stored -= 1;
    let served = Served::with(surplus).await;
    assert_eq!(
        served.json("/api/v1/ledger").await["balanced"],
        false,
        "errors do not cancel"
    );
}

#[tokio::test]
async fn an_empty_state_answers_with_empty_lists() {
    let served = Served::with(Batch::default()).await;
    assert_eq!(served.json("/api/v1/assets").await["assets"], json!([]));
    assert_eq!(served.json("/api/v1/advisories").await["advisories"], json!([]));
    assert_eq!(served.json("/api/v1/series").await["series"], json!([]));
    assert_eq!(served.json("/api/v1/ledger").await["balanced"], true);
    let latency = served.json("/api/v1/latency").await;
    assert_eq!(
        (&latency["windows"], &latency["p99_ms"]),
        (&json!(0), &Value::Null)
    );
}

#[tokio::test]
async fn what_is_written_shows_at_once() {
    let served = Served::with(Batch::default()).await;
    assert_eq!(served.json("/api/v1/advisories").await["advisories"], json!([]));
    served.state.lock().unwrap().write(&plant()).unwrap();
    assert_eq!(
        served.json("/api/v1/advisories").await["advisories"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[tokio::test]
async fn latency_is_over_the_windows_since() {
    let served = Served::with(plant()).await;
    let all = served.json("/api/v1/latency").await;
    assert_eq!(all["windows"], 11);
    assert_eq!(all["p99_ms"], 59_000.0);
    let recent = served.json("/api/v1/latency?since=2026-01-31T11:59:58.5Z").await;
    assert_eq!((&recent["windows"], &recent["p50_ms"]), (&json!(2), &json!(0.0)));
}

#[tokio::test]
async fn gateways_show_what_they_said_of_themselves() {
    let served = Served::with(Batch::default()).await;
    let answer = served.json("/api/v1/gateways").await;
    let first = &answer["gateways"][0];
    assert_eq!(
        (&first["gateway"], &first["connected"]),
        (&json!("bremen/gw-1"), &json!(true))
    );
    assert_eq!(
        (&first["agent_version"], &first["nodes"]),
        (&json!("0.1.0"), &json!(3))
    );
    assert_eq!(first["health"]["clock"], json!("free"));
    assert_eq!(answer["gateways"][1]["spool_bytes"], Value::Null);
    assert_eq!(answer["gateways"][1]["health"], Value::Null);
}

#[tokio::test]
async fn readiness_follows_its_checks_and_liveness_does_not() {
    let reached = |now| Batch {
        now,
        ..Batch::default()
    };
    let served = Served::with(reached(NOON.plus_nanos(-SECOND))).await;
    assert_eq!(served.json("/readyz").await["ready"], true);
    served.broker_ok.store(false, Ordering::Relaxed);
    let answer = served.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.json()["checks"][0],
        json!({"name": "broker", "ok": false, "reason": "the canary got no answer for 12 s"})
    );
    assert_eq!(served.json("/healthz").await["live"], true);

    served.broker_ok.store(true, Ordering::Relaxed);
    assert_eq!(served.get("/readyz").await.status, 200);
    let behind = reached(NOON.plus_nanos(-40 * SECOND));
    served.state.lock().unwrap().write(&behind).unwrap();
    let answer = served.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.json()["checks"][1],
        json!({"name": "pipeline", "ok": false, "reason": "40.0 s behind the clock; 30 s are allowed"})
    );
}

#[tokio::test]
async fn the_pipeline_says_how_far_behind_it_is_as_of_the_question_and_null_before_it_knows() {
    let served = Served::with(Batch {
        counters: vec![("windows_corrected".into(), 3)],
        ..Batch::default()
    })
    .await;
    let answer = served.json("/api/v1/pipeline").await;
    assert_eq!(answer["behind_s"], Value::Null);
    assert_eq!(
        answer["checkpoint"],
        json!({"age_s": null, "bytes": null, "duration_s": null})
    );
    assert_eq!(
        answer["watermarks"][1],
        json!({"lane": "backfill", "channels": 0, "median_lag_s": null, "slowest_lag_s": null})
    );
    assert_eq!(answer["counters"], json!({"windows_corrected": 3}));
    served.metrics.observe_progress(NOON.plus_nanos(-2 * SECOND), 640);
    served
        .metrics
        .observe_checkpoint(NOON.plus_nanos(-5 * SECOND), 1_000, 0.25);
    let answer = served.json("/api/v1/pipeline").await;
    assert_eq!(
        (&answer["behind_s"], &answer["backlog_bytes"]),
        (&json!(2.0), &json!(640))
    );
    assert_eq!(
        answer["checkpoint"],
        json!({"age_s": 5.0, "bytes": 1000, "duration_s": 0.25})
    );
    let stages: Vec<&String> = answer["stage_s"].as_object().unwrap().keys().collect();
    assert_eq!(
        stages,
        [
            "checkpoint",
            "decode",
            "features",
            "read",
            "state",
            "wait",
            "windows"
        ]
    );
    let metrics = served.get("/metrics").await.body;
    for line in [
        "trunnion_collector_pipeline_behind_seconds 2.0",
        "trunnion_collector_pipeline_backlog_bytes 640",
        "trunnion_collector_checkpoint_age_seconds 5.0",
        "trunnion_collector_checkpoint_size_bytes 1000",
        "trunnion_collector_pipeline_stage_seconds_total{stage=\"features\"} 0.0",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn metrics_are_openmetrics() {
    let served = Served::with(Batch::default()).await;
    let answer = served.get("/metrics").await;
    assert!(
        answer
            .head
            .contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(
        answer
            .body
            .contains("trunnion_collector_blocks_committed_total 0")
    );
    assert!(answer.body.ends_with("# EOF\n"));
}

#[tokio::test]
async fn wrong_parameters_are_refused_by_name() {
    let served = Served::with(plant()).await;
    for path in [
        "/api/v1/advisories?active=yes",
        "/api/v1/advisories?actve=true",
        "/api/v1/series?asset=pump&feature=rms",
        "/api/v1/series?limit=0",
        "/api/v1/series?limit=10001",
        "/api/v1/series?limit=-1",
        "/api/v1/series?from=yesterday",
        "/api/v1/series?to=2026-01-31",
        "/api/v1/series?unknown=1",
        "/api/v1/series?stream=hourly",
        "/api/v1/corrections?limit=0",
        "/api/v1/corrections?feature=rms",
        "/api/v1/latency?since=x",
    ] {
        assert_eq!(served.error(path, 400).await, "parameter", "{path}");
    }
    let hostile = "/api/v1/advisories?asset=%27%20OR%201%3D1%20--";
    assert_eq!(served.json(hostile).await["advisories"], json!([]));
}

#[tokio::test]
async fn unknown_routes_and_methods_are_refused_in_the_same_form() {
    let served = Served::with(Batch::default()).await;
    for path in [
        "/api/v1/",
        "/api/v2/assets",
        "/api/v1/assets/",
        "/..%2fetc/passwd",
        "/page.html",
        "//",
    ] {
        assert_eq!(served.error(path, 404).await, "not_found", "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let answer = served
            .exchange(method, "/api/v1/assets", "Host: localhost\r\n")
            .await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (405, "method_not_allowed"),
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_foreign_host_gets_nothing() {
    let served = Served::with(plant()).await;
    for host in [
        "Host: evil.example\r\n",
        "Host: 192.168.0.7:80\r\n",
        "Host: localhost.evil.example\r\n",
    ] {
        for path in ["/", "/api/v1/assets", "/healthz", "/nothing"] {
            let answer = served.exchange("GET", path, host).await;
            assert_eq!(
                (answer.status, answer.error_code().as_str()),
                (421, "foreign_host"),
                "{host}{path}"
            );
        }
    }
    assert!(
        matches!(served.exchange("GET", "/", "").await.status, 400 | 421),
        "no host at all"
    );
    let port = served.address.port();
    let own = format!("Host: 127.0.0.1:{port}\r\n");
    assert_eq!(served.exchange("GET", "/api/v1/assets", &own).await.status, 200);
}

#[tokio::test]
async fn the_page_comes_from_memory_with_its_types() {
    let served = Served::with(Batch::default()).await;
    for (path, kind, words) in [
        (
            "/",
            "text/html; charset=utf-8",
            "<title>Trunnion collector</title>",
        ),
        ("/page.js", "text/javascript; charset=utf-8", "textContent"),
        (
            "/page.css",
            "text/css; charset=utf-8",
            "prefers-color-scheme: dark",
        ),
        ("/icon.svg", "image/svg+xml", "<svg"),
    ] {
        let answer = served.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(
            answer.head.contains(&format!("content-type: {kind}")),
            "{path}: {}",
            answer.head
        );
        assert!(answer.body.contains(words), "{path}");
    }
}

#[tokio::test]
async fn serving_ends_when_told_although_a_client_stays_connected() {
    let served = Served::with(Batch::default()).await;
    let mut idle = TcpStream::connect(served.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    served.stop.send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), served.serving).await;
    ended.expect("ends within its drain time").unwrap().unwrap();
}

#[tokio::test]
async fn many_at_once_are_all_answered() {
    let served = Arc::new(Served::with(plant()).await);
    let asking: Vec<_> = (0..100)
        .map(|_| {
            let served = Arc::clone(&served);
            tokio::spawn(async move {
                served.json("/api/v1/assets").await["assets"]
                    .as_array()
                    .unwrap()
                    .len()
            })
        })
        .collect();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), 3);
    }
}
