//! The detectors of slow channels and of features that rise, on recorded data, by the benchmarks that
//! `cargo xtask eval` runs. A test whose data is not there is skipped, and says so.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use trunnion_tests::eval::{Benchmark, ims, nab, skab};
use trunnion_tests::record::{data_dir, or_skip};

/// Every figure of the benchmark that has a goal reaches it.
fn reaches_its_goals(test: &str, benchmark: &Benchmark, below: &str, ending: &str) {
    if or_skip(test, &format!("{}/{below}", benchmark.name), ending).is_none() {
        return;
    }
    let outcome = (benchmark.run)(&data_dir().join(benchmark.name)).unwrap();
    let goals: Vec<_> = outcome
        .figures
        .iter()
        .filter(|figure| figure.goal.is_some())
        .collect();
    assert!(!goals.is_empty());
    for figure in goals {
        assert_eq!(figure.is_reached(), Some(true), "{figure:?}");
    }
}

#[test]
fn rare_readings_are_told_early_and_seldom_without_cause() {
    reaches_its_goals(
        "rare_readings_are_told_early_and_seldom_without_cause",
        &nab::NAB,
        "labels",
        "combined_windows.json",
    );
}

#[test]
fn a_rig_that_leaves_what_was_learned_is_told_and_so_are_its_changes() {
    reaches_its_goals(
        "a_rig_that_leaves_what_was_learned_is_told_and_so_are_its_changes",
        &skab::SKAB,
        "valve1",
        ".csv",
    );
}

#[test]
fn a_failing_bearing_is_told_days_before_its_end_and_its_neighbours_are_not() {
    reaches_its_goals(
        "a_failing_bearing_is_told_days_before_its_end_and_its_neighbours_are_not",
        &ims::IMS,
        "",
        "test2_raw.csv",
    );
}
