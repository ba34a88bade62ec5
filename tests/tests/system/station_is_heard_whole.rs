//! What boards for hardware have: three axes at 26.7 kHz, of which the line carries one raw, a thermometer, a current loop
//! and a tachometer. Each of the six reaches the collector as what it is.

use serde_json::Value;
use std::f64::consts::SQRT_2;
use std::time::Duration;
use trunnion_common::id::NodeId;
use trunnion_tests::host_node::{Felt, HostStation};
use trunnion_tests::plant::{NodeSpec, Plant, SITE, Source};
use trunnion_tests::process::await_some;

const LIMIT: Duration = Duration::from_secs(60);
const NODE: &str = "00000000000000c1";
const ASSET: &str = "pump-1";
const POINT: &str = "de";

const FELT: Felt = Felt {
    amplitudes_g: [2.0, 1.0, 0.5],
    hz: 160.0,
    degrees: 41.5,
    amperes: 37.25,
    rpm: 1_480.0,
};

/// The axes' channels, and the slow ones': id, quantity, unit, range, reading.
const AXES: [(&str, &str); 3] = [("z", "+v"), ("x", "+h"), ("y", "+a")];
const SLOW: [(&str, &str, &str, f32, f32); 3] = [
    ("housing", "temperature", "degC", 128.0, FELT.degrees),
    ("load", "current", "A", 100.0, FELT.amperes),
    ("speed", "speed", "rpm", 60_000.0, FELT.rpm),
];

fn fleet() -> String {
    let mut text = format!(
        "[[site]]\nid = \"{SITE}\"\n[[site.area]]\nid = \"hall-1\"\n[[site.area.asset]]\nid = \"{ASSET}\"\n\
         [[site.area.asset.shaft]]\nid = \"shaft\"\nrpm = {:?}\n\
         [[site.area.asset.point]]\nid = \"{POINT}\"\nshaft = \"shaft\"\n",
        FELT.rpm
    );
    let channel = |id: &str, position: usize| {
        format!("[[site.area.asset.point.channel]]\nid = \"{id}\"\nnode = \"{NODE}\"\nchannel = {position}\n")
    };
    for (position, (id, axis)) in AXES.into_iter().enumerate() {
        text += &channel(id, position);
        text += &format!(
            "quantity = \"acceleration\"\nunit = \"g\"\naxis = \"{axis}\"\nrange = 16\nband_hz = [5, 6000]\n"
        );
    }
    for (position, (id, quantity, unit, range, _)) in (AXES.len()..).zip(SLOW) {
        text += &channel(id, position);
        text += &format!("quantity = \"{quantity}\"\nunit = \"{unit}\"\nrange = {range:?}\n");
    }
    text
}

/// The newest value of a feature, and the unit that its definition tells, if it has one.
fn newest(plant: &Plant, channel: &str, feature: &str) -> Option<(Value, f64)> {
    let path =
        format!("/api/v1/series?asset={ASSET}&point={POINT}&channel={channel}&feature={feature}&limit=1");
    let series = plant.get(&path).ok()?;
    let value = series["values"].as_array()?.last()?["value"].as_f64()?;
    Some((series["definition"]["unit"].clone(), value))
}

#[test]
fn every_channel_of_a_station_reaches_the_collector_as_what_it_is_and_every_sample_has_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut plant = Plant::found(dir.path(), &fleet()).unwrap();
    plant.start_collector().unwrap();
    let node: NodeId = NODE.parse().unwrap();
    let station = HostStation::start(&plant.line(NODE), node, FELT);
    await_some(LIMIT, || plant.line(NODE).exists().then_some(())).expect("the station has a line");
    let spec = NodeSpec {
        id: NODE.to_owned(),
        source: Source::Recording(dir.path().join("none")),
        rate_hz: 26_667.0,
        range_g: 16.0,
        start_at_ms: 0,
    };
    plant.start_agent(&[spec]).unwrap();

    // An axis whose samples come, of which the collector defines what it computes (until it does, the series shows what
    // the gateway derived), and two that tell their features.
    let told_of = [Value::from("g"), Value::Null, Value::Null];
    for (((channel, _), amplitude), defined) in AXES.into_iter().zip(FELT.amplitudes_g).zip(told_of) {
        let expected = amplitude / SQRT_2;
        let is_it = |told: &(Value, f64)| told.0 == defined && (told.1 / expected - 1.0).abs() < 0.01;
        let found = await_some(LIMIT, || newest(&plant, channel, "rms").filter(is_it));
        assert!(
            found.is_some(),
            "{channel}: {:?} is not {expected} {defined}",
            newest(&plant, channel, "rms")
        );
    }
    for (channel, _, _, _, expected) in SLOW {
        let is_it = |told: &(Value, f64)| told.1 == f64::from(expected);
        let found = await_some(LIMIT, || newest(&plant, channel, "mean").filter(is_it));
        assert!(
            found.is_some(),
            "{channel}: {:?} is not {expected}",
            newest(&plant, channel, "mean")
        );
    }

    // What the table says of each is what the fleet file says, or it would be refused.
    let refused = plant.get("/api/v1/dead-letters").unwrap();
    assert_eq!(
        refused["dead_letters"].as_array().map(Vec::len),
        Some(0),
        "{refused:#}"
    );
    let balanced = await_some(LIMIT, || {
        let ledger = plant.get("/api/v1/ledger").ok()?;
        let is_it = ledger["balanced"] == true && ledger["totals"]["unexplained"] == 0;
        is_it.then_some(ledger)
    });
    let ledger = balanced.unwrap_or_else(|| panic!("{:#?}", plant.get("/api/v1/ledger")));
    let stored = |channel: usize| {
        let rows = ledger["rows"].as_array().unwrap().iter();
        let mut own = rows.filter(|row| row["node"] == NODE && row["channel"] == channel);
        own.any(|row| row["stored"].as_u64() > Some(0))
    };
    for channel in [0, 3, 4, 5] {
        assert!(stored(channel), "channel {channel}: {ledger:#}");
    }
    station.stop().unwrap();
    plant.stop().unwrap();
}
