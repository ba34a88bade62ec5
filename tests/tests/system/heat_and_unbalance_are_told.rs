//! A plant learns of what is no bearing: a housing that is too hot, and a rotor out of balance.

use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use trunnion_tests::plant::{CHANNEL, Machine, NodeSpec, POINT, Plant, fleet_text, warm};
use trunnion_tests::process::await_some;

const LIMIT: Duration = Duration::from_secs(120);
const NODE: &str = "00000000000000b1";
const ASSET: &str = "fan-1";
const SHAFT_HZ: f64 = 25.0;

/// A fan of 75 kW on a rigid support, with a thermometer beside its accelerometer.
fn fleet() -> String {
    let machine = Machine {
        asset: ASSET.to_owned(),
        node: NODE.to_owned(),
        rpm: 60.0 * SHAFT_HZ,
        bearing: None,
        range_g: 16.0,
        band_high_hz: 4_000.0,
    };
    let asset = format!("id = \"{ASSET}\"\n");
    let judged = format!("{asset}iso_group = 2\npower_kw = 75\nsupport = \"rigid\"\n");
    let thermometer = format!(
        "\n[[site.area.asset.point.channel]]\nid = \"warm\"\nnode = \"{NODE}\"\nchannel = 1\n\
         quantity = \"temperature\"\nunit = \"degC\"\nrange = 150\nalert = 80\nalarm = 95\n"
    );
    fleet_text(&[machine]).replacen(&asset, &judged, 1) + &thermometer
}

/// A node whose machine vibrates with so many mm/s RMS at the speed of its shaft, and a little at twice that.
fn node(dir: &Path, name: &str, velocity: f64) -> NodeSpec {
    let lines = [(velocity, SHAFT_HZ), (0.3, 2.0 * SHAFT_HZ)];
    NodeSpec::vibrating(dir, NODE, name, &lines).unwrap()
}

/// What the collector tells of one cause, standing or over, newest first.
fn told(plant: &Plant, cause: &str) -> Vec<Value> {
    let body = plant.get("/api/v1/advisories").unwrap();
    let advisories = body["advisories"].as_array().unwrap().iter();
    advisories
        .filter(|told| told["cause"] == cause)
        .cloned()
        .collect()
}

/// The collector, the machine and its gateway run, and the collector has judged something.
fn start(dir: &Path, spec: &NodeSpec, thermometer: &Path) -> Plant {
    let mut plant = Plant::found(dir, &fleet()).unwrap();
    plant.start_collector().unwrap();
    plant
        .start_endless_node_with_thermometer(spec, thermometer)
        .unwrap();
    plant.start_agent(std::slice::from_ref(spec)).unwrap();
    let fired = || plant.metric("trunnion_collector_windows_fired_total").ok();
    await_some(LIMIT, || fired().filter(|fired| *fired >= 10.0)).expect("windows fire");
    plant
}

#[test]
fn a_housing_that_is_too_hot_is_told_with_its_limit_and_is_over_when_it_has_cooled() {
    let dir = tempfile::tempdir().unwrap();
    let thermometer = dir.path().join("degrees");
    warm(&thermometer, 41.5).unwrap();
    let mut plant = start(dir.path(), &node(dir.path(), "sound.f32", 1.0), &thermometer);
    assert_eq!(told(&plant, "deviation"), Vec::<Value>::new());

    warm(&thermometer, 88.5).unwrap();
    let standing = |told: &Value| told["active"] == true;
    let hot = await_some(LIMIT, || told(&plant, "deviation").into_iter().find(standing)).expect("it is told");
    let text = |key: &str| hot[key].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (text("asset"), text("point"), text("feature"), text("level")),
        (ASSET.into(), POINT.into(), "mean".into(), "alert".into()),
        "{hot:#}"
    );
    let evidence = &hot["evidence"];
    assert_eq!(evidence["channel"], "warm", "{hot:#}");
    assert_eq!(
        (evidence["value"].as_f64(), evidence["limit"].as_f64()),
        (Some(88.5), Some(80.0))
    );
    assert_eq!(
        (&evidence["below"], &evidence["basis"]),
        (&Value::Bool(false), &"absolute".into())
    );
    assert!(!text("recommendation").is_empty());

    // Hotter is the same advisory, and worse.
    warm(&thermometer, 99.0).unwrap();
    let alarm = |told: &Value| told["level"] == "alarm";
    let worse = await_some(LIMIT, || told(&plant, "deviation").into_iter().find(alarm)).expect("it is worse");
    assert_eq!(worse["id"], hot["id"]);

    warm(&thermometer, 41.5).unwrap();
    let over = |told: &Value| told["active"] == false;
    let cooled = await_some(LIMIT, || told(&plant, "deviation").into_iter().find(over)).expect("it is over");
    assert_eq!(cooled["id"], hot["id"]);
    assert!(cooled["cleared"].is_string(), "{cooled:#}");
    assert_eq!(told(&plant, "deviation").len(), 1);
    plant.stop().unwrap();
}

#[test]
fn a_rotor_out_of_balance_is_suspected_in_the_advisory_of_its_severity() {
    let dir = tempfile::tempdir().unwrap();
    let thermometer = dir.path().join("degrees");
    warm(&thermometer, 41.5).unwrap();
    let mut plant = start(dir.path(), &node(dir.path(), "unbalanced.f32", 5.0), &thermometer);
    let explained = |told: &Value| told["explanation"]["state"] == "suspected";
    let severity = await_some(LIMIT, || told(&plant, "severity").into_iter().find(explained))
        .expect("its severity is told and explained");
    assert_eq!(
        (&severity["asset"], &severity["active"]),
        (&ASSET.into(), &Value::Bool(true))
    );
    let by = severity["explanation"]["by"].as_array().unwrap();
    assert_eq!(by.len(), 1, "{severity:#}");
    assert_eq!(by[0]["suspected"], "unbalance", "{severity:#}");

    let suspected = told(&plant, "suspected");
    assert_eq!(suspected.len(), 1, "{suspected:#?}");
    let suspected = &suspected[0];
    assert_eq!(
        (&suspected["id"], &suspected["level"]),
        (&by[0]["advisory"], &severity["level"])
    );
    let evidence = &suspected["evidence"];
    assert_eq!(evidence["channel"], CHANNEL);
    let line = &evidence["lines"][0];
    let near = |key: &str, expected: f64, within: f64| {
        let value = line[key].as_f64().unwrap();
        assert!(
            (value - expected).abs() <= within,
            "{key} is {value}: {suspected:#}"
        );
    };
    near("order", 1.0, 0.01);
    near("frequency_hz", SHAFT_HZ, 0.3);
    near("rms", 5.0, 0.3);
    assert!(
        suspected["recommendation"]
            .as_str()
            .unwrap()
            .contains("balance weights")
    );
    plant.stop().unwrap();
}
