//! The contract is the same over a broker that knows nothing of it: Debian's mosquitto, unmodified.

use std::time::Duration;
use trunnion_tests::bench::mosquitto;
use trunnion_tests::load::{Load, Size};
use trunnion_tests::outages::{Options, broker_kills};
use trunnion_tests::plant::{Broker, Way};

/// Whether there is a mosquitto; says so when there is none.
fn is_installed(test: &str) -> bool {
    let is_installed = mosquitto::program().is_some();
    if !is_installed {
        println!("skipped: {test} (install mosquitto)");
    }
    is_installed
}

#[test]
fn kills_of_a_mosquitto_cost_no_sample_and_double_none() {
    if !is_installed("kills_of_a_mosquitto_cost_no_sample_and_double_none") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = Options { count: 6, seed: 11 };
    let report = broker_kills(dir.path(), &options, |line| eprintln!("{line}")).unwrap();
    assert!(report.verdict.is_flawless(), "{report:#?}");
    assert!(report.connections > 1, "{report:#?}");
}

#[test]
fn a_collector_killed_behind_a_mosquitto_costs_no_sample() {
    if !is_installed("a_collector_killed_behind_a_mosquitto_costs_no_sample") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let way = Way {
        broker: Broker::Mosquitto,
        dialled: None,
    };
    let mut load = Load::start(dir.path(), 12, Size::default(), way).unwrap();
    for _ in 0..2 {
        trunnion_tests::load::wait(Duration::from_millis(700));
        load.plant.kill_and_restart_collector().unwrap();
        load.await_caught_up().unwrap();
    }
    let connections = load.plant.metric("trunnion_collector_broker_connections_total");
    assert_eq!(connections.unwrap(), 1.0, "since its last start");
    let verdict = load.finish().unwrap();
    assert!(verdict.is_flawless(), "{verdict:#?}");
}
