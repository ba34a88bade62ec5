//! The whole system under a seed: whatever goes wrong, what was promised is kept.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use trunnion_tests::world::faults::{Fault, FaultCounts};
use trunnion_tests::world::{Mutant, play};

/// Worlds played by every run of the tests; `cargo xtask sim` plays as many as wanted.
const SEEDS: u64 = 200;

/// Worlds in one of which a broken rule must have been noticed; most are noticed in the first few.
const MUTANT_SEEDS: u64 = 400;

#[test]
fn whatever_goes_wrong_nothing_acknowledged_is_lost_or_counted_twice() {
    let mut faults = FaultCounts::default();
    for seed in 0..SEEDS {
        let outcome = play(seed, None).unwrap();
        assert!(
            outcome.violations.is_empty(),
            "cargo xtask sim --from {seed} --seeds 1: {:#?}",
            outcome.violations
        );
        assert!(
            outcome.samples_safe > 0 && outcome.samples_stored > 0,
            "seed {seed}"
        );
        faults.add(&outcome.faults);
    }
    println!("{SEEDS} worlds\n{faults}");
    for fault in Fault::ALL {
        assert!(faults.count(fault) > 0, "{fault:?} was never injected");
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
fn an_eviction_before_its_tombstone_is_noticed() {
    check(Mutant::EvictBeforeTombstone, "and no disk lost it");
}

#[test]
fn a_lane_that_changes_when_a_block_is_sent_again_is_noticed() {
    check(Mutant::LaneChangesOnResend, "goes in lane");
}
