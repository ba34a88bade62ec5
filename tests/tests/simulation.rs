//! The whole system under a seed: whatever goes wrong, what was promised is kept.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use trunnion_tests::world::faults::{Fault, FaultCounts};
use trunnion_tests::world::returns::return_to_live_backup;
use trunnion_tests::world::{Mutant, play};

/// Worlds played by every run of the tests; `cargo xtask sim` plays as many as wanted.
const SEEDS: u64 = 200;

/// Worlds in one of which a broken rule must have been noticed; most are noticed in the first few.
const MUTANT_SEEDS: u64 = 400;

#[test]
fn whatever_goes_wrong_nothing_acknowledged_is_lost_or_counted_twice() {
    let (next, told) = (
        AtomicU64::new(0),
        Mutex::new((FaultCounts::default(), Vec::new())),
    );
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS {
                        break;
                    }
                    let outcome = play(seed, None).unwrap();
                    let (faults, failed) = &mut *told.lock().unwrap();
                    faults.add(&outcome.faults);
                    if !outcome.violations.is_empty() {
                        let again = format!("cargo xtask sim --from {seed} --seeds 1");
                        println!("{again}: {:#?}", outcome.violations);
                        failed.push(again);
                    }
                    if outcome.samples_safe == 0 || outcome.samples_stored == 0 {
                        failed.push(format!("seed {seed} stores nothing"));
                    }
                }
            });
        }
    });
    let (faults, failed) = told.into_inner().unwrap();
    println!("{SEEDS} worlds\n{faults}");
    assert!(failed.is_empty(), "{failed:#?}");
    for fault in Fault::ALL {
        assert!(faults.count(fault) > 0, "{fault:?} was never injected");
    }
}

#[test]
fn what_was_delivered_after_a_live_backup_and_done_with_is_not_held_after_the_return_to_it() {
    for seed in 0..12 {
        for starts in 0..3 {
            let returned = return_to_live_backup(seed, starts).unwrap();
            let case = format!("seed {seed}, {starts} starts: {returned:#?}");
            assert!(returned.outcome.violations.is_empty(), "{case}");
            assert_eq!(returned.unexplained, 0, "{case}");
            assert!(returned.not_held > 0, "{case}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_world_again() {
    for seed in [3, 66, 70] {
        let [first, second] = [seed; 2].map(|seed| play(seed, None).unwrap());
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
    }
}

/// Breaks a rule; some world must notice, by a violation that says `expected`.
fn check(mutant: Mutant, expected: &str) {
    let mut violations = (0..MUTANT_SEEDS).flat_map(|seed| play(seed, Some(mutant)).unwrap().violations);
    assert!(
        violations.any(|violation| violation.contains(expected)),
        "{mutant:?} goes unnoticed in {MUTANT_SEEDS} worlds"
    );
}

#[test]
fn an_acknowledgement_before_the_flush_is_noticed() {
    check(
        Mutant::AckBeforeFlush,
        "were acknowledged to the node and are lost",
    );
}

#[test]
fn a_block_deleted_before_its_acknowledgement_is_noticed() {
    check(
        Mutant::DeleteBeforeAck,
        "were acknowledged to the node and are lost",
    );
}

#[test]
fn the_intakes_sets_outside_the_commit_are_noticed() {
    check(
        Mutant::CursorsOutsideCommit,
        "were acknowledged to the node and are lost",
    );
}

#[test]
fn the_collectors_sets_outside_the_commit_are_noticed() {
    check(Mutant::SetOutsideCommit, "and is not in the journal");
}

#[test]
fn an_eviction_without_a_tombstone_is_noticed() {
    check(
        Mutant::EvictWithoutTombstone,
        "were acknowledged to the node and are lost",
    );
}

#[test]
fn a_lane_that_changes_when_a_block_is_sent_again_is_noticed() {
    check(Mutant::LaneChangesOnResend, "goes in lane");
}
