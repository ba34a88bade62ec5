//! The collector as a process: it comes up on free ports, takes a gateway's blocks, answers for them,
//! survives being killed, and stops in order.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod dead_letters;
mod gateway;
mod process;
mod secrets;

use gateway::{Gateway, Signal};
use process::{Collector, Plant, until};
use rustix::process::Signal as Unix;
use serde_json::Value;

/// A fleet of one fan whose only channel is the one that [`Signal`] sends.
const FLEET: &str = r#"
[[site]]
id = "bremen"
[[site.area]]
id = "hall-1"
[[site.area.asset]]
id = "fan-1"
name = "Exhaust fan 1"
[[site.area.asset.shaft]]
id = "motor"
rpm = 1800
[[site.area.asset.point]]
id = "drive-end"
shaft = "motor"
[[site.area.asset.point.channel]]
id = "v"
node = "a1"
channel = 0
quantity = "acceleration"
unit = "g"
axis = "+v"
range = 16
band_hz = [1, 400]
"#;

fn values(collector: &Collector) -> Vec<Value> {
    let path = "/api/v1/series?asset=fan-1&point=drive-end&channel=v&feature=rms&limit=10000";
    collector.json(path)["values"].as_array().unwrap().clone()
}

#[test]
fn a_collector_comes_up_on_free_ports_and_is_ready() {
    let plant = Plant::new(FLEET);
    let collector = plant.start();
    until("readiness", || collector.status("/readyz") == 200);
    assert_eq!(collector.status("/healthz"), 200);
    let assets = &collector.json("/api/v1/assets")["assets"];
    assert_eq!(
        (&assets[0]["asset"], &assets[0]["grade"]),
        (&"fan-1".into(), &"unknown".into())
    );
    assert_eq!(collector.json("/api/v1/ledger")["balanced"], true);
    assert!(collector.stop(Unix::TERM).success());
}

#[test]
fn it_stops_in_order_on_either_signal() {
    let plant = Plant::new(FLEET);
    for signal in [Unix::TERM, Unix::INT] {
        let collector = plant.start();
        assert!(collector.stop(signal).success());
    }
}

#[test]
fn a_second_collector_on_the_same_data_is_refused() {
    let plant = Plant::new(FLEET);
    let first = plant.start();
    let second = plant.run_to_its_end();
    assert_eq!(second.code, Some(1));
    assert!(
        second.log.contains("another process holds the journal"),
        "{}",
        second.log
    );
    assert_eq!(first.status("/healthz"), 200);
}

#[test]
fn blocks_become_features_on_the_api_and_are_acknowledged() {
    let plant = Plant::new(FLEET);
    let collector = plant.start();
    let mut gateway = Gateway::connect(&plant, &collector, "gw-1");
    let mut signal = Signal::new();
    gateway.send(signal.next_blocks(5));
    gateway.await_acknowledged();
    until("five windows", || values(&collector).len() >= 4);
    // A sine of amplitude 1 g.
    for value in values(&collector) {
        let rms = value["value"].as_f64().unwrap();
        assert!((rms - 0.5_f64.sqrt()).abs() < 0.01, "{value}");
    }
    let ledger = collector.json("/api/v1/ledger");
    assert_eq!(ledger["balanced"], true, "{ledger}");
    assert_eq!(ledger["totals"]["stored"], signal.samples());
    assert_eq!(ledger["totals"]["duplicated"], 0);
    let gateways = &collector.json("/api/v1/gateways")["gateways"];
    assert_eq!(
        (&gateways[0]["gateway"], &gateways[0]["connected"]),
        (&"bremen/gw-1".into(), &true.into())
    );
    assert!(collector.json("/api/v1/latency")["windows"].as_u64().unwrap() >= 4);
    assert!(
        collector
            .text("/metrics")
            .contains("trunnion_collector_blocks_committed_total")
    );
    assert!(collector.stop(Unix::TERM).success());
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there_after_it_and_counts_once() {
    let plant = Plant::new(FLEET);
    let mut signal = Signal::new();
    let first = signal.next_blocks(4);
    {
        let collector = plant.start();
        let mut gateway = Gateway::connect(&plant, &collector, "gw-1");
        gateway.send(first.clone());
        gateway.await_acknowledged();
        collector.kill();
    }
    let collector = plant.start();
    let mut gateway = Gateway::connect_again(&plant, &collector, "gw-1");
    // All over again, as an agent does that has not seen the acknowledgement, and then the rest.
    gateway.send(first);
    gateway.send(signal.next_blocks(4));
    gateway.await_acknowledged();
    until("all samples", || {
        collector.json("/api/v1/ledger")["totals"]["stored"] == signal.samples()
    });
    let ledger = collector.json("/api/v1/ledger");
    assert_eq!(ledger["balanced"], true, "{ledger}");
    assert_eq!(ledger["totals"]["produced"], signal.samples());
    until("windows from both lives", || values(&collector).len() >= 7);
    let mut starts: Vec<i64> = values(&collector)
        .iter()
        .map(|v| v["start_ns"].as_i64().unwrap())
        .collect();
    let count = starts.len();
    starts.dedup();
    assert_eq!(starts.len(), count, "no window twice");
    assert!(
        starts.windows(2).all(|pair| pair[1] - pair[0] == 1_000_000_000),
        "none missing: {starts:?}"
    );
}

#[test]
fn a_lost_state_is_rebuilt_from_the_journal() {
    let plant = Plant::new(FLEET);
    let collector = plant.start();
    let mut gateway = Gateway::connect(&plant, &collector, "gw-1");
    gateway.send(Signal::new().next_blocks(4));
    gateway.await_acknowledged();
    until("the windows", || values(&collector).len() >= 4);
    let before = (values(&collector), collector.json("/api/v1/ledger"));
    assert!(collector.stop(Unix::TERM).success());

    for file in ["state.db", "state.db-wal", "state.db-shm"] {
        let _ = std::fs::remove_file(plant.path("data").join(file));
    }
    let collector = plant.start();
    until("the windows again", || values(&collector).len() >= 4);
    until("readiness", || collector.status("/readyz") == 200);
    assert_eq!((values(&collector), collector.json("/api/v1/ledger")), before);
    assert!(
        !collector.log().contains("the fleet file has changed"),
        "{}",
        collector.log()
    );
    assert!(collector.stop(Unix::TERM).success());
}

#[test]
fn history_is_computed_anew_beside_the_collector_and_switched_over_to() {
    let plant = Plant::new(FLEET);
    let collector = plant.start();
    let mut gateway = Gateway::connect(&plant, &collector, "gw-1");
    let mut signal = Signal::new();
    gateway.send(signal.next_blocks(9));
    gateway.await_acknowledged();
    until("the windows", || values(&collector).len() >= 8);
    let config = std::fs::read_to_string(plant.config()).unwrap();
    let config = format!("{config}\n[window]\nsize_ms = 2000\n");
    std::fs::write(plant.path("new.toml"), config).unwrap();
    let (new, into) = (plant.path("new.toml"), plant.path("anew"));
    let replay = |more: &[&str]| -> Value {
        let arguments = [
            "replay",
            "--json",
            "--config",
            new.to_str().unwrap(),
            "--into",
            into.to_str().unwrap(),
        ];
        serde_json::from_str(&plant.command(&[&arguments, more].concat())).unwrap()
    };
    // Beside the running collector, whose outputs stay as they are.
    let fact = replay(&[]);
    assert_eq!(
        (&fact["event"], &fact["replay"]["restated"]),
        (&"replayed".into(), &true.into())
    );
    assert!(values(&collector).len() >= 8);
    assert!(collector.stop(Unix::TERM).success());
    assert_eq!(replay(&["--switch"])["switched"], true);
    std::fs::rename(&new, plant.config()).unwrap();
    let collector = plant.start();
    let lengths: Vec<i64> = values(&collector)
        .iter()
        .map(|value| value["end_ns"].as_i64().unwrap() - value["start_ns"].as_i64().unwrap())
        .collect();
    assert!((3..=4).contains(&lengths.len()), "{lengths:?}");
    assert!(
        lengths.iter().all(|&length| length == 2_000_000_000),
        "{lengths:?}"
    );
    assert!(plant.path("data/state.db.before").exists());
    // It goes on as it would have.
    let mut gateway = Gateway::connect_again(&plant, &collector, "gw-1");
    gateway.send(signal.next_blocks(5));
    gateway.await_acknowledged();
    until("windows after the switch", || {
        values(&collector).len() > lengths.len() + 1
    });
    assert!(collector.stop(Unix::TERM).success());
}

#[test]
fn a_part_that_fails_ends_the_process_with_its_reason() {
    let plant = Plant::new(FLEET);
    let mut collector = plant.start();
    until("readiness", || collector.status("/readyz") == 200);
    // Holding the database keeps the pipeline from writing for longer than it waits.
    let other = rusqlite::Connection::open(plant.path("data/state.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(collector.end().code(), Some(1));
    for words in [
        "a part of the collector has ended by itself",
        "trunnion-collector: the pipeline has ended: the pipeline cannot write its outputs",
    ] {
        until(words, || collector.log().contains(words));
    }
}

#[test]
fn a_hang_up_takes_a_good_fleet_file_and_keeps_the_old_one_over_a_bad_one() {
    let plant = Plant::new(FLEET);
    let collector = plant.start();
    let name = |collector: &Collector| collector.json("/api/v1/assets")["assets"][0]["name"].clone();
    until("the first fleet", || name(&collector) == "Exhaust fan 1");

    plant.write_fleet("[[site]]\nid = \"Not A Name\"\n");
    collector.signal(Unix::HUP);
    until("the refusal", || collector.log().contains("fleet.toml:2:6: "));
    assert_eq!(name(&collector), "Exhaust fan 1");

    plant.write_fleet(&FLEET.replace("Exhaust fan 1", "Supply fan 1"));
    collector.signal(Unix::HUP);
    until("the second fleet", || name(&collector) == "Supply fan 1");
    assert!(collector.stop(Unix::TERM).success());

    let again = plant.start();
    until("the same fleet", || name(&again) == "Supply fan 1");
}

#[test]
fn what_was_learned_of_a_fleet_is_taken_by_the_running_collector_and_journaled() {
    let plant = Plant::new(FLEET);
    let collector = plant.start();
    let mut table = "machine,de/v:rms\n".to_owned();
    for machine in 0..10 {
        for row in 0..30 {
            table.push_str(&format!("m-{machine},{}\n", row * (machine + 5)));
        }
    }
    let lives = plant.path("lives.csv");
    std::fs::write(&lives, table).unwrap();
    let config = plant.config();
    let files = [lives.to_str().unwrap(), config.to_str().unwrap()];
    plant.command(&["life", "learn", "fans", "--lives", files[0], "--config", files[1]]);
    let taken = |collector: &Collector| collector.json("/api/v1/pipeline")["counters"]["models_taken"] == 1;
    until("the model", || taken(&collector));
    collector.kill();
    // The journal has it: the file is no longer needed.
    std::fs::remove_dir_all(plant.path("data/learned")).unwrap();
    let again = plant.start();
    until("the model after a kill", || taken(&again));
}

#[test]
fn a_revoked_gateway_is_cut_and_does_not_come_back() {
    let plant = Plant::new(FLEET);
    let collector = plant.start();
    let mut gateway = Gateway::connect(&plant, &collector, "gw-1");
    gateway.send(Signal::new().next_blocks(1));
    gateway.await_acknowledged();
    plant.revoke("gw-1");
    collector.signal(Unix::HUP);
    gateway.await_cut();
    assert!(Gateway::try_connect_again(&plant, &collector, "gw-1").is_err());
}
