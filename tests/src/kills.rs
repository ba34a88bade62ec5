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

use crate::audit::{Audit, Played, audit};
use crate::plant::{Machine, NodeSpec, Plant, Source, fleet_text};
use crate::process::{Process, await_some};
use crate::sim_machine::{Chance, MachineSpec, SimMachine};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use trunnion_common::id::NodeId;

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
    /// Samples that the nodes produced, as they say.
    pub samples_produced: u64,
    /// Samples in the collector's ledger.
    pub samples_stored: u64,
    /// Samples lost by the ledger, whatever the cause.
    pub samples_lost: u64,
    /// Samples stored beyond what was produced.
    pub samples_double_counted: u64,
    /// Samples that the ledger cannot explain.
    pub samples_unexplained: u64,
    /// What the journal holds.
    pub journal: Audit,
}

impl Report {
    /// Whether the three witnesses agree that everything is there, once.
    pub const fn is_flawless(&self) -> bool {
        self.samples_stored == self.samples_produced
            && self.samples_lost == 0
            && self.samples_double_counted == 0
            && self.samples_unexplained == 0
            && self.journal.is_flawless()
    }
}

/// Nodes on the gateway.
const NODES: u8 = 4;

/// Their sample rate: 51 kB/s each.
const RATE_HZ: f64 = 25_600.0;

/// One turn of what they play. The noise in it makes every stretch unlike every other.
const RECORDING_S: f64 = 7.0;

/// Full scale, g.
const RANGE_G: f32 = 16.0;

/// Kills in a volley, at most: some four seconds of the ten in which nodes wait for their master.
const VOLLEY: u32 = 10;

/// Between the start of the processes and the first sample.
const LEAD_IN: Duration = Duration::from_secs(3);

/// How long catching up may take: the ten seconds of the nodes' loyalty, then what their outboxes hold.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(90);

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
    let started = unix_time();
    progress(&format!("{} kills, seed {}", options.kills, options.seed));
    let (mut played, mut specs) = lay_out(dir, options.seed)?;
    let mut plant = Plant::found(dir, &fleet(&specs))?;
    plant.start_collector()?;
    let first_sample = unix_time() + LEAD_IN;
    for spec in &mut specs {
        spec.start_at_ms = first_sample.as_millis() as u64;
        plant.start_endless_node(spec)?;
    }
    plant.start_agent(&specs)?;
    // Frames flow before the first strike.
    await_time(first_sample + Duration::from_secs(1));
    await_caught_up(&plant, &specs, first_sample)?;

    let mut report = Report {
        seed: options.seed,
        ..Report::default()
    };
    for volley in plan(options) {
        for strike in &volley {
            wait(strike.delay);
            hit(&mut plant, &specs, strike.target)?;
            match strike.target {
                Target::Collector => report.kills_collector += 1,
                Target::Agent => report.kills_agent += 1,
            }
        }
        plant.await_collector()?;
        await_caught_up(&plant, &specs, first_sample)?;
        progress(&format!(
            "{} of {} kills, caught up after {:.0} s",
            report.kills_collector + report.kills_agent,
            options.kills,
            (unix_time() - started).as_secs_f64()
        ));
    }

    for node in &plant.nodes {
        node.signal(Signal::USR1)?;
    }
    for (played, node) in played.iter_mut().zip(&mut plant.nodes) {
        played.produced = await_drained(node)?;
    }
    report.samples_produced = played.iter().map(|played| played.produced).sum();
    let ledger = settled(&plant, report.samples_produced)?;
    let total = |key: &str| ledger["totals"][key].as_u64().unwrap_or(0);
    report.samples_stored = total("stored");
    report.samples_lost = total("lost");
    report.samples_unexplained = total("unexplained");
    report.samples_double_counted = doubles(&ledger, &played);
    plant.stop()?;
    report.journal = audit(&plant.collector_dir().join("data/journal"), &played)?;
    report.seconds = (unix_time() - started).as_secs_f64();
    Ok(report)
}

/// SIGKILL and a new start, without waiting for it. A process that has ended by itself is a finding of
/// its own, which a kill must not hide.
fn hit(plant: &mut Plant, specs: &[NodeSpec], target: Target) -> Result<()> {
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
        Target::Agent => plant.start_agent(specs),
    }
}

/// Waits until the ledger has everything that was produced up to now.
fn await_caught_up(plant: &Plant, specs: &[NodeSpec], first_sample: Duration) -> Result<()> {
    let due = ((unix_time() - first_sample).as_secs_f64() * RATE_HZ) as u64;
    let caught_up = await_some(CATCH_UP_LIMIT, || {
        let stored = stored_by_node(&plant.get("/api/v1/ledger").ok()?);
        specs
            .iter()
            .all(|spec| stored.get(&spec.id).is_some_and(|stored| *stored >= due))
            .then_some(())
    });
    caught_up.with_context(|| {
        format!(
            "not caught up within {CATCH_UP_LIMIT:?}: {due} samples of each node were due, the ledger says {:?}",
            plant.get("/api/v1/ledger").map(|ledger| ledger["rows"].to_string())
        )
    })
}

fn stored_by_node(ledger: &Value) -> BTreeMap<String, u64> {
    let rows = ledger["rows"].as_array().into_iter().flatten();
    rows.filter_map(|row| Some((row["node"].as_str()?.to_owned(), row["stored"].as_u64()?)))
        .collect()
}

/// Samples stored beyond what their node produced, each node by itself: no surplus hides a deficit.
fn doubles(ledger: &Value, played: &[Played]) -> u64 {
    let stored = stored_by_node(ledger);
    played
        .iter()
        .map(|played| {
            let stored = stored.get(&played.node.to_string()).copied().unwrap_or(0);
            stored.saturating_sub(played.produced)
        })
        .sum()
}

/// The ledger once nothing is pending any more.
fn settled(plant: &Plant, produced: u64) -> Result<Value> {
    let settled = await_some(CATCH_UP_LIMIT, || {
        let ledger = plant.get("/api/v1/ledger").ok()?;
        let total = |key: &str| ledger["totals"][key].as_u64();
        let is_whole = total("produced") == Some(produced)
            && total("pending") == Some(0)
            && total("stored")? + total("lost")? >= produced;
        is_whole.then_some(ledger)
    });
    match settled {
        Some(ledger) => Ok(ledger),
        None => bail!(
            "the ledger did not settle within {CATCH_UP_LIMIT:?}: {produced} samples produced, the collector says {}",
            plant.get("/api/v1/ledger")?["totals"]
        ),
    }
}

/// Waits until a node that was switched off holds nothing any more; returns what it produced.
fn await_drained(node: &mut Process) -> Result<u64> {
    node.await_line(CATCH_UP_LIMIT, |line| {
        let event: Value = serde_json::from_str(line).ok()?;
        (event["event"] == "drained")
            .then(|| event["produced"].as_u64())
            .flatten()
    })
}

/// Writes a recording of its own for each node.
fn lay_out(dir: &Path, seed: u64) -> Result<(Vec<Played>, Vec<NodeSpec>)> {
    std::fs::create_dir_all(dir)?;
    let (mut all, mut specs) = (Vec::new(), Vec::new());
    for number in 1..=NODES {
        let node = NodeId::new(0xa0 + u64::from(number)).context("not 0")?;
        let mut samples = vec![0.0; (RECORDING_S * RATE_HZ) as usize];
        let machine = MachineSpec::motor(RATE_HZ, seed.wrapping_add(u64::from(number)));
        SimMachine::new(machine).fill(&mut samples);
        let file = dir.join(format!("node-{number}.f32"));
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        std::fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
        specs.push(NodeSpec {
            id: node.to_string(),
            source: Source::Recording(file),
            rate_hz: RATE_HZ,
            range_g: RANGE_G,
            start_at_ms: 0,
        });
        all.push(Played {
            node,
            samples,
            range_g: RANGE_G,
            produced: 0,
        });
    }
    Ok((all, specs))
}

fn fleet(specs: &[NodeSpec]) -> String {
    let machines: Vec<Machine> = specs
        .iter()
        .enumerate()
        .map(|(number, spec)| Machine {
            asset: format!("asset-{:02}", number + 1),
            node: spec.id.clone(),
            rpm: 60.0 * MachineSpec::motor(RATE_HZ, 0).shaft_hz,
            bearing: None,
            range_g: spec.range_g,
            band_high_hz: spec.rate_hz / 2.56,
        })
        .collect();
    fleet_text(&machines)
}

fn unix_time() -> Duration {
    #[allow(clippy::disallowed_methods, reason = "real processes are killed in real time")]
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn await_time(at: Duration) {
    wait(at.saturating_sub(unix_time()));
}

/// Lets the processes go on for so long: the strikes' delays are what is being tested.
fn wait(delay: Duration) {
    let _ = await_some::<()>(delay, || None);
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

    #[test]
    fn a_surplus_of_one_node_is_not_hidden_by_the_deficit_of_another() {
        let ledger = serde_json::json!({"rows": [
            {"node": "00000000000000a1", "stored": 11}, {"node": "00000000000000a2", "stored": 9}
        ]});
        let played = |node| Played {
            node: NodeId::new(node).unwrap(),
            samples: Vec::new(),
            range_g: 1.0,
            produced: 10,
        };
        assert_eq!(doubles(&ledger, &[played(0xa1), played(0xa2)]), 1);
    }
}
