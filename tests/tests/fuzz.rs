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
