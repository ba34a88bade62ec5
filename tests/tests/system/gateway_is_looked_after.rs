//! What the integrator has in hand: a test of the connection, an archive for a person far away, a capture
//! of a line, and what the collector shows of the gateway.

use rustix::fs::{Mode, OFlags};
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use trunnion_tests::plant::{GATEWAY, Machine, NodeSpec, Plant, Source, binary, fleet_text};
use trunnion_tests::process::await_some;

const LIMIT: Duration = Duration::from_secs(60);
const NODE: &str = "00000000000000a1";

fn plant(dir: &Path) -> (Plant, NodeSpec) {
    let machine = Machine {
        asset: "fan-1".to_owned(),
        node: NODE.to_owned(),
        rpm: 1_772.0,
        bearing: None,
        range_g: 16.0,
        band_high_hz: 4_000.0,
    };
    let samples = dir.join("samples.f32");
    let bytes: Vec<u8> = (0..600_000_u32)
        .flat_map(|i| ((i % 1_000) as f32 / 1_000.0).to_le_bytes())
        .collect();
    std::fs::write(&samples, bytes).unwrap();
    let node = NodeSpec {
        id: NODE.to_owned(),
        source: Source::Recording(samples),
        rate_hz: 12_000.0,
        range_g: 16.0,
        start_at_ms: 0,
    };
    (Plant::found(dir, &fleet_text(&[machine])).unwrap(), node)
}

fn agent(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(binary("trunnion-agent").unwrap())
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    (output, text)
}

#[test]
fn a_connection_is_tested_before_and_after_the_gateway_is_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let (mut plant, _) = plant(dir.path());
    plant.start_collector().unwrap();
    let bundle = plant.bundle(GATEWAY);
    let test = ["connect", "--test", "--bundle", bundle.to_str().unwrap()];

    let (good, text) = agent(&test);
    assert!(good.status.success(), "{text}");
    assert!(text.contains("own topics subscribed"), "{text}");

    let config = plant.collector_dir().join("collector.toml");
    let revoked = Command::new(binary("trunnion-collector").unwrap())
        .args(["gateway", "revoke", GATEWAY, "--config"])
        .arg(config)
        .output()
        .unwrap();
    assert!(revoked.status.success(), "{revoked:?}");
    let text = await_some(LIMIT, || {
        let (output, text) = agent(&test);
        (!output.status.success()).then_some(text)
    })
    .unwrap();
    assert!(text.contains("FAILED") && text.contains("revoked"), "{text}");
    plant.stop().unwrap();
}

#[test]
fn the_collector_shows_how_the_gateway_fares_and_when_it_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let (mut plant, node) = plant(dir.path());
    plant.start_collector().unwrap();
    plant.start_node(&node).unwrap();
    plant.start_agent(std::slice::from_ref(&node)).unwrap();
    let gateway = |plant: &Plant| plant.get("/api/v1/gateways").unwrap()["gateways"][0].clone();

    // A heartbeat that has seen the intake long enough to expect something of it.
    let shown = await_some(LIMIT, || {
        let shown = gateway(&plant);
        shown["health"]["holds_s"].is_u64().then_some(shown)
    })
    .unwrap();
    assert_eq!(shown["connected"], true, "{shown}");
    assert!(
        ["free", "synchronised"].contains(&shown["health"]["clock"].as_str().unwrap()),
        "{shown}"
    );
    assert!(shown["health"]["holds_s"].as_u64().unwrap() > 3_600, "{shown}");
    assert!(plant.agent_metric("trunnion_agent_spool_holds_seconds").unwrap() > 3_600.0);
    // The collector's acknowledgements have moved the floor to about now.
    assert!(
        shown["health"]["clock_floor"].as_i64().unwrap() > 1_700_000_000_000_000_000,
        "{shown}"
    );

    let out = dir.path().join("diag.tar.gz");
    let log = dir.path().join("agent.log");
    let config = dir.path().join("agent.toml");
    let (output, text) = agent(&[
        "diag",
        "--config",
        config.to_str().unwrap(),
        "--log",
        log.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{text}");
    for part in [
        "metrics.txt",
        "forecast.txt",
        "log.txt",
        "clock.json",
        "spool.json",
    ] {
        assert!(text.contains(part), "{text}");
    }

    plant.kill_agent().unwrap();
    await_some(LIMIT, || {
        (gateway(&plant)["connected"] == Value::Bool(false)).then_some(())
    })
    .unwrap();
    assert!(dir.path().join("agent").join("clock_floor").exists());
    plant.start_agent(std::slice::from_ref(&node)).unwrap();
    await_some(LIMIT, || {
        (gateway(&plant)["connected"] == Value::Bool(true)).then_some(())
    })
    .unwrap();
    plant.stop().unwrap();
}

#[test]
fn a_capture_of_a_nodes_line_is_readable() {
    let dir = tempfile::tempdir().unwrap();
    let (mut plant, node) = plant(dir.path());
    plant.start_node(&node).unwrap();
    let flags = OFlags::RDONLY | OFlags::NOCTTY;
    let line = rustix::fs::open(plant.line(NODE), flags, Mode::empty()).unwrap();
    let mut line = File::from(line);
    let mut capture = Vec::new();
    // A node says each second how it fares, asked or not.
    while capture.iter().filter(|byte| **byte == 0).count() < 3 {
        let mut bytes = [0; 512];
        let length = line.read(&mut bytes).unwrap();
        assert!(length > 0, "the line ended");
        capture.extend_from_slice(&bytes[..length]);
    }
    let path = dir.path().join("line.bin");
    std::fs::write(&path, &capture).unwrap();
    let (output, text) = agent(&["decode", path.to_str().unwrap()]);
    assert!(output.status.success(), "{text}");
    assert!(text.contains(NODE), "{text}");
    assert!(
        text.contains("status: produced") || text.contains("describe: "),
        "{text}"
    );
    plant.stop().unwrap();
}
