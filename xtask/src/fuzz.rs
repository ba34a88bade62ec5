//! Every target of the fuzzer for a while, two at a time; a finding is written to a file and told.

use crate::flags::Fuzz;
use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use trunnion_tests::fuzz::{Limit, Outcome, TARGETS, Target, play, run as run_target, target};
use trunnion_tests::workspace;

/// Targets tried at once.
const THREADS: usize = 2;

/// Tries the targets, and fails if one of them found something.
pub(crate) fn run(flags: &Fuzz) -> Result<()> {
    let targets = match &flags.target {
        Some(name) => vec![target(name)?],
        None => TARGETS.to_vec(),
    };
    if let (Some(input), [target]) = (&flags.input, &targets[..]) {
        let bytes = std::fs::read(input).with_context(|| format!("reading {}", input.display()))?;
        if let Err(what) = play(target, &bytes) {
            bail!("{}: {what}", target.name);
        }
        println!("{}: nothing is wrong with {}", target.name, input.display());
        return Ok(());
    }
    let seed = flags.seed.unwrap_or_else(crate::kills::seed);
    let limit = match flags.executions {
        Some(executions) => Limit::Executions(executions),
        None => Limit::Time(Duration::from_secs(flags.seconds)),
    };
    println!("seed {seed}, {} targets, {limit:?} each", targets.len());
    let next = AtomicUsize::new(0);
    let work = || -> Result<usize> {
        let mut findings = 0;
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = run_target(target, seed, limit).with_context(|| target.name.to_owned())?;
            findings += usize::from(tell(target, seed, &outcome)?);
        }
        Ok(findings)
    };
    let findings = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(findings) => findings,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.sum::<Result<usize>>()
    })?;
    ensure!(findings == 0, "{findings} targets found something");
    println!("no target found anything");
    Ok(())
}

/// Says what a run came to; whether it found something.
fn tell(target: &Target, seed: u64, outcome: &Outcome) -> Result<bool> {
    println!(
        "{:10}{:>12} inputs tried, {:>5} kept",
        target.name, outcome.executions, outcome.population
    );
    let Some(finding) = &outcome.finding else {
        return Ok(false);
    };
    let file: PathBuf = finding.write(target, seed, &workspace::root().join("target/fuzz"))?;
    println!(
        "{}: seed {seed}, input {}: {}\n    again: cargo xtask fuzz --target {} --input {}",
        target.name,
        finding.execution,
        finding.what,
        target.name,
        file.display()
    );
    Ok(true)
}
