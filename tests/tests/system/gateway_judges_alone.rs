//! A gateway that is cut off from its collector judges on: the machine comes back from a stop with a vibration
//! in zone D, the gateway says so at once, and when the collector is there again it is one advisory.

use serde_json::Value;
use std::f64::consts::{SQRT_2, TAU};
use std::path::Path;
use std::time::Duration;
use trunnion_tests::plant::{GATEWAY, Machine, NodeSpec, Plant, SITE, Source, fleet_text, set};
use trunnion_tests::process::await_some;

const LIMIT: Duration = Duration::from_secs(120);
const RATE_HZ: f64 = 12_000.0;
const NODE: &str = "00000000000000a1";
const ASSET: &str = "fan-1";

/// Windows that the collector has seen of the machine before it counts as of one mind with its gateway.
const WINDOWS: f64 = 15.0;

fn fleet() -> String {
    let machine = Machine {
        asset: ASSET.to_owned(),
        node: NODE.to_owned(),
        rpm: 1_500.0,
        bearing: None,
        range_g: 16.0,
        band_high_hz: 4_000.0,
    };
    let site = format!("id = \"{SITE}\"\n");
    let gateway = format!("{site}\n[[site.gateway]]\nid = \"{GATEWAY}\"\nwatch = \"on\"\n");
    let asset = format!("id = \"{ASSET}\"\n");
    let judged = format!("{asset}iso_group = 2\npower_kw = 75\nsupport = \"rigid\"\n");
    fleet_text(&[machine])
        .replacen(&site, &gateway, 1)
        .replacen(&asset, &judged, 1)
}

/// A node whose machine vibrates with so many mm/s RMS at 50 Hz.
fn node(dir: &Path, name: &str, velocity: f64) -> NodeSpec {
    let height = SQRT_2 * velocity * 1e-3 * TAU * 50.0 / 9.806_65;
    let samples = dir.join(name);
    let bytes: Vec<u8> = (0..RATE_HZ as u32)
        .map(|n| (height * (TAU * 50.0 * f64::from(n) / RATE_HZ).sin()) as f32)
        .flat_map(f32::to_le_bytes)
        .collect();
    std::fs::write(&samples, bytes).unwrap();
    NodeSpec {
        id: NODE.to_owned(),
        source: Source::Recording(samples),
        rate_hz: RATE_HZ,
        range_g: 16.0,
        start_at_ms: 0,
    }
}

fn is_watched(plant: &Plant) -> Option<()> {
    let gateways = plant.get("/api/v1/gateways").ok()?;
    let commands = gateways["gateways"][0]["commands"].as_array()?.clone();
    let mut watch = commands.iter().filter(|command| command["kind"] == "watch");
    watch.any(|command| command["in_effect"] == true).then_some(())
}

/// The gateway's own advisory about the overall vibration.
fn at_gateway(plant: &Plant) -> Option<Value> {
    let page = plant.get_agent("/advisories").ok()?;
    let advisories = page["advisories"].as_array()?.clone();
    advisories.into_iter().find(|held| held["about"] == "severity")
}

/// What the collector tells of the overall vibration, standing or over.
fn at_collector(plant: &Plant) -> Vec<Value> {
    let told = plant.get("/api/v1/advisories").unwrap();
    let told = told["advisories"].as_array().unwrap().iter();
    told.filter(|told| told["cause"] == "severity").cloned().collect()
}

#[test]
fn an_advisory_raised_while_the_uplink_is_cut_is_one_advisory_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let sound = node(dir.path(), "sound.f32", 1.0);
    let faulty = node(dir.path(), "faulty.f32", 5.0);
    let relay = dir.path().join("relay");
    let mut plant = Plant::found(dir.path(), &fleet()).unwrap();
    plant.start_collector().unwrap();
    plant.start_endless_node(&sound).unwrap();
    plant
        .start_agent_with(&[sound], |config| {
            set(config, "relay", "file", relay.display().to_string());
        })
        .unwrap();
    await_some(LIMIT, || is_watched(&plant)).expect("the gateway is told to watch");
    let judged = || plant.agent_metric("trunnion_agent_windows_judged_total").ok();
    await_some(LIMIT, || judged().filter(|judged| *judged >= 3.0)).expect("the gateway judges");
    assert_eq!(at_gateway(&plant), None);
    assert_eq!(std::fs::read_to_string(&relay).unwrap(), "0\n");

    plant.collector.take().unwrap().kill().unwrap();
    plant.unplug_node(NODE).unwrap();
    plant.start_endless_node(&faulty).unwrap();
    let held = await_some(LIMIT, || {
        at_gateway(&plant).filter(|held| held["level"] == "alarm")
    })
    .expect("the gateway raises it alone");
    assert_eq!(
        (held["basis"].as_str(), held["standard"].as_str()),
        (Some("absolute"), Some("ISO 20816-3:2022"))
    );
    await_some(LIMIT, || {
        (std::fs::read_to_string(&relay).ok()? == "1\n").then_some(())
    })
    .expect("the relay is switched on");
    let log = plant.agent.as_ref().unwrap().log();
    assert!(
        log.contains("by absolute limits: no baseline is accepted"),
        "{log}"
    );

    plant.start_collector().unwrap();
    let told = await_some(LIMIT, || {
        Some(at_collector(&plant)).filter(|told| !told.is_empty())
    })
    .expect("the collector hears of it");
    assert_eq!(told[0]["raised"], held["raised"]);
    assert_eq!(
        (told[0]["asset"].as_str(), told[0]["active"].as_bool()),
        (Some(ASSET), Some(true))
    );
    let fired = || plant.metric("trunnion_collector_windows_fired_total").ok();
    let before = fired().unwrap();
    await_some(LIMIT, || fired().filter(|fired| *fired >= before + WINDOWS))
        .expect("the collector sees the machine itself");
    let after = at_collector(&plant);
    assert_eq!(after.len(), 1, "{after:#?}");
    assert_eq!(
        (&after[0]["id"], &after[0]["active"]),
        (&told[0]["id"], &Value::Bool(true))
    );
    plant.stop().unwrap();
}
