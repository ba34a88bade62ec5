//! A first look at every decoder with inputs of one seed; `cargo xtask fuzz` tries as many as wanted.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use trunnion_tests::fuzz::{Limit, TARGETS, run};

/// Inputs for each target: a few seconds for all of them.
const EXECUTIONS: u64 = 600;

#[test]
fn no_input_breaks_a_decoder() {
    for target in &TARGETS {
        let outcome = run(target, 1, Limit::Executions(EXECUTIONS)).unwrap();
        if let Some(finding) = outcome.finding {
            let file = finding.write(target, 1, &std::env::temp_dir()).unwrap();
            panic!(
                "{}: {}; cargo xtask fuzz --target {} --input {}",
                target.name,
                finding.what,
                target.name,
                file.display()
            );
        }
        assert!(outcome.executions >= EXECUTIONS, "{}", target.name);
    }
}

/// Places in each file of the spool that are damaged.
const PLACES: u8 = 24;

#[test]
fn a_flipped_byte_of_a_spool_never_gives_a_wrong_block_and_stops_no_start() {
    let spool = trunnion_tests::fuzz::target("spool").unwrap();
    for file in 0..trunnion_tests::fuzz::spool_files() {
        // Every place near the beginning, where most is decided, then further and further apart.
        for place in 0..PLACES {
            let at = u16::from(place) * u16::from(place) * 97 + u16::from(place);
            let [high, low] = at.to_be_bytes();
            for flip in [0x03_u8, 0x84] {
                let outcome = trunnion_tests::fuzz::play(&spool, &[file, high, low, flip]);
                assert_eq!(outcome, Ok(()), "file {file}, byte {at}, bits {flip:#04x}");
            }
        }
    }
}

/// Bytes of each file in which there is anything to damage.
const DENSE: u16 = 20 * 1_024;

#[test]
#[ignore = "half an hour; TRUNNION_FLIPS=N tries every N-th byte instead of all"]
fn every_flipped_byte_of_a_spool_costs_one_block_at_most() {
    let spool = trunnion_tests::fuzz::target("spool").unwrap();
    let every = std::env::var("TRUNNION_FLIPS").map_or(1, |every| every.parse().unwrap());
    for file in 0..trunnion_tests::fuzz::spool_files() {
        for at in (0..DENSE).step_by(every) {
            let [high, low] = at.to_be_bytes();
            for flip in [0x02_u8, 0x04, 0x84] {
                let outcome = trunnion_tests::fuzz::play(&spool, &[file, high, low, flip]);
                assert_eq!(outcome, Ok(()), "file {file}, byte {at}, bits {flip:#04x}");
            }
        }
    }
}
