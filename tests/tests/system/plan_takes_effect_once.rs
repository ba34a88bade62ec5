//! A plan written into the fleet file reaches the node through a collector and an agent that are killed on the
//! way, takes effect once, and leaves nothing unexplained; so do the orders of a person.

use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use trunnion_tests::plant::{
    CHANNEL, GATEWAY, Machine, NodeSpec, POINT, Plant, SITE, Source, binary, fleet_text, run,
};
use trunnion_tests::process::await_some;

const LIMIT: Duration = Duration::from_secs(120);
const RATE_HZ: f64 = 12_000.0;
const NODE: &str = "00000000000000a1";
const CAPTURED: u64 = 6_000;

fn fleet(plan: &str) -> String {
    let machine = Machine {
        asset: "fan-1".to_owned(),
        node: NODE.to_owned(),
        rpm: 1_772.0,
        bearing: None,
        range_g: 16.0,
        band_high_hz: 4_000.0,
    };
    let site = format!("id = \"{SITE}\"\n");
    let gateway = format!("{site}\n[[site.gateway]]\nid = \"{GATEWAY}\"\nheartbeat_interval_ms = 1000\n");
    // The channel is the last section.
    fleet_text(&[machine]).replacen(&site, &gateway, 1) + plan
}

fn node(dir: &Path) -> NodeSpec {
    let samples = dir.join("saw.f32");
    let bytes: Vec<u8> = (0..12_000u32)
        .flat_map(|i| ((i % 1_000) as f32 / 1_000.0).to_le_bytes())
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

/// The entry of this kind in the first gateway's commands.
fn command(plant: &Plant, kind: &str) -> Option<Value> {
    let gateways = plant.get("/api/v1/gateways").ok()?;
    let commands = gateways["gateways"][0]["commands"].as_array()?.clone();
    commands.into_iter().find(|command| command["kind"] == kind)
}

fn await_in_effect(plant: &Plant, kind: &str, wanted: &str) -> Value {
    let found = await_some(LIMIT, || {
        command(plant, kind).filter(|found| found["in_effect"] == true && found["wanted"] == wanted)
    });
    found.unwrap_or_else(|| panic!("{kind} is not {wanted}: {:?}", plant.get("/api/v1/gateways")))
}

/// Blocks of features that a node sends in a few seconds: longer than any sample is on its way.
const REST_BLOCKS: f64 = 20.0;

/// Samples produced once nothing is on the way any more: the figure stays while features go on coming.
fn await_rest(plant: &Plant) -> u64 {
    let mut since = None;
    let rest = await_some(LIMIT, || {
        let ledger = plant.get("/api/v1/ledger").ok()?;
        let produced = ledger["totals"]["produced"].as_u64()?;
        let blocks = plant.metric("trunnion_collector_blocks_committed_total").ok()?;
        let is_settled = ledger["totals"]["pending"] == 0 && ledger["balanced"] == true;
        let (first, at) = *since.get_or_insert((produced, blocks));
        if first != produced || !is_settled {
            since = None;
            return None;
        }
        (blocks >= at + REST_BLOCKS).then_some(produced)
    });
    rest.unwrap_or_else(|| panic!("the node goes on sending: {:?}", plant.get("/api/v1/ledger")))
}

/// What the node says in the place of samples is in the series.
fn await_series_of_node(plant: &Plant) {
    for feature in ["rms", "octave_1"] {
        let series = format!(
            "/api/v1/series?asset=fan-1&point={POINT}&channel={CHANNEL}&feature={feature}&limit=1000"
        );
        let told = await_some(LIMIT, || {
            let answer = plant.get(&series).ok()?;
            let mut values = answer["values"].as_array()?.iter();
            values
                .any(|value| value["source"] == "node" && value["value"].as_f64() > Some(0.0))
                .then_some(())
        });
        assert!(told.is_some(), "{feature}: {:?}", plant.get(&series));
    }
}

#[test]
fn a_plan_takes_effect_once_whoever_is_killed_on_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let spec = node(dir.path());
    let mut plant = Plant::found(dir.path(), &fleet("")).unwrap();
    plant.start_collector().unwrap();
    plant.start_endless_node(&spec).unwrap();
    let specs = [spec];
    plant.start_agent(&specs).unwrap();
    let raw = await_some(LIMIT, || {
        let ledger = plant.get("/api/v1/ledger").ok()?;
        ledger["totals"]["stored"]
            .as_u64()
            .filter(|stored| *stored > 24_000)
    });
    assert!(raw.is_some(), "no samples came");
    await_in_effect(&plant, "gateway", "heartbeat_interval_ms = 1000");

    let plan = "plan = { window = 1024 }\n";
    std::fs::write(plant.collector_dir().join("fleet.toml"), fleet(plan)).unwrap();
    plant
        .collector
        .as_ref()
        .unwrap()
        .signal(rustix::process::Signal::HUP)
        .unwrap();
    plant.kill_and_restart_agent(&specs).unwrap();
    plant.kill_and_restart_collector().unwrap();
    let done = await_in_effect(&plant, "settings", "features(1024)");
    assert_eq!((&done["node"], &done["outcome"]), (&NODE.into(), &"done".into()));
    let at_rest = await_rest(&plant);
    await_series_of_node(&plant);

    // Whoever is restarted now, it is not given a second time.
    plant.kill_and_restart_agent(&specs).unwrap();
    plant.kill_and_restart_collector().unwrap();
    let capture = [
        "command",
        "capture",
        NODE,
        "--samples",
        &CAPTURED.to_string(),
        "--config",
    ];
    let config = plant.collector_dir().join("collector.toml");
    let collector = binary("trunnion-collector").unwrap();
    // An order is for gateways that are there within a minute.
    run(Command::new(&collector).args(capture).arg(&config)).unwrap();
    await_in_effect(&plant, "capture", "6000 samples of channel 0");
    let captured = await_some(LIMIT, || {
        let ledger = plant.get("/api/v1/ledger").ok()?;
        ledger["totals"]["stored"]
            .as_u64()
            .filter(|stored| *stored >= at_rest + CAPTURED)
    });
    assert!(captured.is_some(), "{:?}", plant.get("/api/v1/ledger"));
    assert_eq!(await_rest(&plant), at_rest + CAPTURED);
    let identify = ["command", "identify", NODE, "--seconds", "1", "--config"];
    run(Command::new(&collector).args(identify).arg(&config)).unwrap();
    await_in_effect(&plant, "identify", "1 s");

    let lines = plant.nodes[0].lines().join("\n");
    assert_eq!(lines.matches("settings_stored").count(), 1, "{lines}");
    assert_eq!(lines.matches("identifying").count(), 1, "{lines}");
    assert_eq!(command(&plant, "settings").unwrap()["number"], done["number"]);
    let ledger = plant.get("/api/v1/ledger").unwrap();
    assert_eq!(ledger["totals"]["unexplained"], 0, "{ledger}");
    assert_eq!(ledger["totals"]["lost"], 0, "{ledger}");
    assert_eq!(
        plant.metric("trunnion_collector_samples_unexplained").unwrap(),
        0.0
    );
    plant.stop().unwrap();
}
