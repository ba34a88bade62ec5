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
fn a_flipped_byte_of_a_spool_is_noticed_costs_no_other_file_and_stops_no_start() {
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
