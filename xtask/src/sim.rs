//! As many seeded worlds as wanted; each that breaks a promise is named, and can be played again.

use crate::flags::Sim;
use anyhow::{Result, ensure};
use trunnion_tests::world::faults::FaultCounts;
use trunnion_tests::world::{narrate, play};

/// Worlds from one line of progress to the next.
const PROGRESS: u64 = 500;

/// Plays the worlds, and fails if one of them broke a promise.
pub(crate) fn run(flags: &Sim) -> Result<()> {
    if let Some(node) = flags.node {
        for line in narrate(flags.from, node)? {
            println!("{line}");
        }
        return Ok(());
    }
    let mut faults = FaultCounts::default();
    let (mut failed, mut produced, mut stored) = (0, 0, 0);
    for (played, seed) in (1..=flags.seeds).zip(flags.from..) {
        let outcome = play(seed, None)?;
        faults.add(&outcome.faults);
        produced += outcome.samples_produced;
        stored += outcome.samples_stored;
        if !outcome.violations.is_empty() {
            failed += 1;
            println!("seed {seed} (again: cargo xtask sim --from {seed} --seeds 1)");
            for violation in &outcome.violations {
                println!("    {violation}");
            }
        }
        if played % PROGRESS == 0 {
            println!("{played} worlds, {failed} with a violation");
        }
    }
    println!("{faults}");
    println!(
        "{} worlds, {produced} samples produced, {stored} stored",
        flags.seeds
    );
    ensure!(failed == 0, "{failed} worlds broke a promise");
    println!("every promise was kept");
    Ok(())
}
