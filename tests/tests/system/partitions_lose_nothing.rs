//! However a line fails, it costs time and no sample.

use std::time::Duration;
use trunnion_tests::load::{Load, Size, wait};
use trunnion_tests::outages::{Options, partitions};
use trunnion_tests::plant::Broker;
use trunnion_tests::proxy::{Conditions, Proxy};

#[test]
fn every_way_in_which_a_line_fails_costs_no_sample_and_doubles_none() {
    let dir = tempfile::tempdir().unwrap();
    // A whole round of every fault.
    let options = Options { count: 20, seed: 7 };
    let report = partitions(dir.path(), &options, |line| eprintln!("{line}")).unwrap();
    assert_eq!(report.outages.len(), 7, "{report:#?}");
    assert!(report.verdict.is_flawless(), "{report:#?}");
    assert!(report.connections > 5, "{report:#?}");
}

#[test]
fn a_long_thin_line_carries_what_fits_it() {
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::start().unwrap();
    // 2 kB/s of samples, on a line of 64 kbit/s with half a second of delay each way.
    let size = Size {
        nodes: 1,
        rate_hz: 1_000.0,
    };
    let load = Load::start_through(dir.path(), 8, size, Broker::Embedded, &proxy).unwrap();
    proxy.set(Conditions {
        delay: Duration::from_millis(500),
        bytes_per_second: Some(8_000),
        ..Conditions::default()
    });
    // A new connection is made over the thin line too.
    proxy.cut();
    for _ in 0..4 {
        wait(Duration::from_secs(5));
        load.await_caught_up().unwrap();
    }
    let verdict = load.finish().unwrap();
    assert!(verdict.is_flawless(), "{verdict:#?}");
}
