//! Nodes under load on a plant, and the three witnesses of what became of their samples: the nodes (what
//! they produced), the ledger (what the collector says became of it), and the journal itself, sample by
//! sample ([`crate::audit`]).
//!
//! What happens to the plant meanwhile is for others to decide: [`crate::kills`], [`crate::outages`].

use crate::audit::{Audit, Played, audit};
use crate::plant::{Broker, Machine, NodeSpec, Plant, Source, Way, fleet_text};
use crate::process::{Process, await_some};
use crate::proxy::Proxy;
use crate::sim_machine::{MachineSpec, SimMachine};
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use trunnion_common::id::NodeId;

/// How much load.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Size {
    /// Nodes on the gateway.
    pub nodes: u8,
    /// Their sample rate: two bytes a sample.
    pub rate_hz: f64,
}

impl Default for Size {
    /// 51 kB/s from each of four nodes.
    fn default() -> Self {
        Self {
            nodes: 4,
            rate_hz: 25_600.0,
        }
    }
}

/// One turn of what a node plays. The noise in it makes every stretch unlike every other.
const RECORDING_S: f64 = 7.0;

/// Full scale, g.
const RANGE_G: f32 = 16.0;

/// Between the start of the processes and the first sample.
const LEAD_IN: Duration = Duration::from_secs(3);

/// How long catching up may take: the ten seconds of the nodes' loyalty, then what their outboxes hold.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(90);

/// What became of the samples, by the three witnesses.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Verdict {
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
    /// Blocks that came again and were recognised, since the collector's last start.
    pub blocks_duplicated: u64,
    /// What the journal holds.
    pub journal: Audit,
}

impl Verdict {
    /// Whether the three witnesses agree that everything is there, once.
    pub const fn is_flawless(&self) -> bool {
        self.samples_stored == self.samples_produced
            && self.samples_lost == 0
            && self.samples_double_counted == 0
            && self.samples_unexplained == 0
            && self.journal.is_flawless()
    }
}

/// A plant whose nodes produce samples until the end.
#[derive(Debug)]
pub struct Load {
    /// The plant, for whatever is to happen to it.
    pub plant: Plant,
    specs: Vec<NodeSpec>,
    played: Vec<Played>,
    rate_hz: f64,
    started: Duration,
    first_sample: Duration,
}

impl Load {
    /// Founds a plant in `dir`, starts everything, and waits until frames flow from end to end.
    pub fn start(dir: &Path, seed: u64, size: Size, way: Way) -> Result<Self> {
        Self::start_with(dir, seed, size, way, |_| Ok(()))
    }

    /// As [`Load::start`], with `before` done to the plant while nothing of it runs.
    pub fn start_after(
        dir: &Path,
        seed: u64,
        size: Size,
        before: impl FnOnce(&mut Plant) -> Result<()>,
    ) -> Result<Self> {
        Self::start_with(dir, seed, size, Way::default(), before)
    }

    /// As [`Load::start`], with gateways that dial the proxy.
    pub fn start_through(dir: &Path, seed: u64, size: Size, broker: Broker, proxy: &Proxy) -> Result<Self> {
        let way = Way {
            broker,
            dialled: Some(proxy.port()),
        };
        Self::start_with(dir, seed, size, way, |plant| {
            proxy.aim_at(plant.door_port());
            Ok(())
        })
    }

    fn start_with(
        dir: &Path,
        seed: u64,
        size: Size,
        way: Way,
        before: impl FnOnce(&mut Plant) -> Result<()>,
    ) -> Result<Self> {
        let started = unix_time();
        let (played, mut specs) = lay_out(dir, seed, size)?;
        let mut plant = Plant::found_with(dir, &fleet(&specs), way)?;
        before(&mut plant)?;
        if way.broker == Broker::Mosquitto {
            plant.start_broker()?;
        }
        plant.start_collector()?;
        let first_sample = unix_time() + LEAD_IN;
        for spec in &mut specs {
            spec.start_at_ms = first_sample.as_millis() as u64;
            plant.start_endless_node(spec)?;
        }
        plant.start_agent(&specs)?;
        let load = Self {
            plant,
            specs,
            played,
            rate_hz: size.rate_hz,
            started,
            first_sample,
        };
        wait((first_sample + Duration::from_secs(1)).saturating_sub(unix_time()));
        load.await_caught_up()?;
        Ok(load)
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        (unix_time() - self.started).as_secs_f64()
    }

    /// Starts the agent on the nodes' lines.
    pub fn start_agent(&mut self) -> Result<()> {
        self.plant.start_agent(&self.specs)
    }

    /// The nodes, in the order of their numbers.
    pub fn specs(&self) -> &[NodeSpec] {
        &self.specs
    }

    /// Waits until the ledger has everything that was produced up to now.
    pub fn await_caught_up(&self) -> Result<()> {
        let due = ((unix_time() - self.first_sample).as_secs_f64() * self.rate_hz) as u64;
        await_caught_up_with(&self.plant, &self.specs, due, CATCH_UP_LIMIT)
    }

    /// Switches the nodes off, waits until nothing is pending, stops everything and hears the witnesses.
    pub fn finish(mut self) -> Result<Verdict> {
        for node in &self.plant.nodes {
            node.signal(Signal::USR1)?;
        }
        for (played, node) in self.played.iter_mut().zip(&mut self.plant.nodes) {
            played.produced = await_drained(node)?;
        }
        let produced = self.played.iter().map(|played| played.produced).sum();
        let ledger = settled(&self.plant, produced)?;
        let total = |key: &str| ledger["totals"][key].as_u64().unwrap_or(0);
        let duplicated = self.plant.metric("trunnion_collector_blocks_duplicated_total")? as u64;
        self.plant.stop()?;
        Ok(Verdict {
            samples_produced: produced,
            samples_stored: total("stored"),
            samples_lost: total("lost"),
            samples_double_counted: doubles(&ledger, &self.played),
            samples_unexplained: total("unexplained"),
            blocks_duplicated: duplicated,
            journal: audit(&self.plant.collector_dir().join("data/journal"), &self.played)?,
        })
    }
}

/// Waits until the ledger has so many samples of each node.
fn await_caught_up_with(plant: &Plant, specs: &[NodeSpec], due: u64, limit: Duration) -> Result<()> {
    let caught_up = await_some(limit, || {
        let stored = stored_by_node(&plant.get("/api/v1/ledger").ok()?);
        specs
            .iter()
            .all(|spec| stored.get(&spec.id).is_some_and(|stored| *stored >= due))
            .then_some(())
    });
    caught_up.with_context(|| {
        format!(
            "not caught up within {limit:?}: {due} samples of each node were due, the ledger says {:?}",
            plant
                .get("/api/v1/ledger")
                .map(|ledger| ledger["rows"].to_string())
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
fn lay_out(dir: &Path, seed: u64, size: Size) -> Result<(Vec<Played>, Vec<NodeSpec>)> {
    std::fs::create_dir_all(dir)?;
    let (mut all, mut specs) = (Vec::new(), Vec::new());
    for number in 1..=size.nodes {
        let node = NodeId::new(0xa0 + u64::from(number)).context("not 0")?;
        let mut samples = vec![0.0; (RECORDING_S * size.rate_hz) as usize];
        let motor = MachineSpec::motor(size.rate_hz, seed.wrapping_add(u64::from(number)));
        let machine = MachineSpec {
            // A slow sensor hears the machine through its filter.
            resonance_hz: motor.resonance_hz.min(size.rate_hz / 4.0),
            ..motor
        };
        SimMachine::new(machine).fill(&mut samples);
        let file = dir.join(format!("node-{number}.f32"));
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        std::fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
        specs.push(NodeSpec {
            id: node.to_string(),
            source: Source::Recording(file),
            rate_hz: size.rate_hz,
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
            rpm: 60.0 * MachineSpec::motor(spec.rate_hz, 0).shaft_hz,
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

/// Lets the processes go on for so long, where the length of an outage is what is being tested.
pub fn wait(delay: Duration) {
    let _ = await_some::<()>(delay, || None);
}

#[cfg(test)]
mod tests {
    use super::*;

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
