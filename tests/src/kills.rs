//! The collector and the agent are killed again and again under load, and nothing is lost.
//!
//! Kills come in volleys. A node that has lost its master ignores every other one for ten seconds, so
//! only the first kills of a volley fall while frames flow from the nodes; the later ones hit processes
//! that are starting, recovering, connecting or draining what the spool holds. Between volleys the
//! nodes hand over what their outboxes held, and everything catches up.
//!
//! A killed process leaves to the kernel what it has written, so this says nothing of torn and lost
//! writes: those are a power cut's, and need a simulated disk.
//!
//! What is proven at the end is told by three witnesses: the nodes (what they produced), the ledger
//! (what the collector says became of it), and the journal itself, sample by sample ([`crate::audit`]).

use crate::load::{Load, Size, Verdict, wait};
use crate::plant::Way;
use crate::sim_machine::Chance;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// What is to be killed, and by which dice.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Kills in all, collector and agent taking turns.
    pub kills: u32,
    /// Decides every delay; the same seed strikes at the same offsets.
    pub seed: u64,
}

/// How it ended.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Report {
    /// The dice.
    pub seed: u64,
    /// Kills of the collector.
    pub kills_collector: u32,
    /// Kills of the agent.
    pub kills_agent: u32,
    /// Length of the run, seconds.
    pub seconds: f64,
    /// What became of the samples.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Kills in a volley, at most: some four seconds of the ten in which nodes wait for their master.
const VOLLEY: u32 = 10;

/// Whom a strike hits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Collector,
    Agent,
}

/// One SIGKILL, so long after the one before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Strike {
    target: Target,
    delay: Duration,
}

/// The strikes of a run, volley by volley. Pure.
fn plan(options: &Options) -> Vec<Vec<Strike>> {
    let mut chance = Chance::new(options.seed);
    let mut millis = |most: u64| Duration::from_millis(chance.next() % (most + 1));
    let strikes: Vec<Strike> = (0..options.kills)
        .map(|number| Strike {
            target: if number % 2 == 0 {
                Target::Collector
            } else {
                Target::Agent
            },
            delay: match number % VOLLEY {
                // While data flows from end to end: anywhere in some cycles of poll, flush and commit.
                0 | 1 => millis(1_000),
                // Start-up, mostly: recovery of journal and spool, the handshake, the first blocks.
                2..8 => millis(300),
                // And what follows it: draining, acknowledgements, deletion.
                _ => millis(1_500),
            },
        })
        .collect();
    strikes.chunks(VOLLEY as usize).map(<[Strike]>::to_vec).collect()
}

/// Founds a plant in `dir`, kills by the plan, and says how it ended. `progress` hears a line now and
/// then.
pub fn run(dir: &Path, options: &Options, mut progress: impl FnMut(&str)) -> Result<Report> {
    progress(&format!("{} kills, seed {}", options.kills, options.seed));
    let mut load = Load::start(dir, options.seed, Size::default(), Way::default())?;
    let mut report = Report {
        seed: options.seed,
        ..Report::default()
    };
    for volley in plan(options) {
        for strike in &volley {
            wait(strike.delay);
            hit(&mut load, strike.target)?;
            match strike.target {
                Target::Collector => report.kills_collector += 1,
                Target::Agent => report.kills_agent += 1,
            }
        }
        load.plant.await_collector()?;
        load.await_caught_up()?;
        progress(&format!(
            "{} of {} kills, caught up after {:.0} s",
            report.kills_collector + report.kills_agent,
            options.kills,
            load.seconds()
        ));
    }
    report.seconds = load.seconds();
    report.verdict = load.finish()?;
    Ok(report)
}

/// SIGKILL and a new start, without waiting for it. A process that has ended by itself is a finding of
/// its own, which a kill must not hide.
fn hit(load: &mut Load, target: Target) -> Result<()> {
    let plant = &mut load.plant;
    let process = match target {
        Target::Collector => plant.collector.take(),
        Target::Agent => plant.agent.take(),
    };
    let mut process = process.context("every strike's target was started again")?;
    ensure!(
        process.is_running(),
        "the {target:?} had ended before it was killed; its log:\n{}",
        process.log()
    );
    process.kill()?;
    match target {
        Target::Collector => plant.launch_collector(),
        Target::Agent => load.start_agent(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_takes_turns_and_depends_on_the_seed_alone() {
        let options = Options { kills: 25, seed: 4 };
        let volleys = plan(&options);
        assert_eq!(volleys, plan(&options));
        assert_ne!(volleys, plan(&Options { seed: 5, ..options }));
        assert_eq!(volleys.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
        let strikes = volleys.concat();
        assert!(strikes.windows(2).all(|pair| pair[0].target != pair[1].target));
    }
}
