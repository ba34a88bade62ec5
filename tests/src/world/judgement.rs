//! Whether a world has come to rest, and whether everything that was promised in it was kept.

use super::sim_gateway::SimGateway;
use super::sim_node::{CHANNELS, SimNode};
use super::{Outcome, World, clocks};
use crate::reference::Record;
use anyhow::Result;
use std::collections::BTreeSet;
use trunnion_agent::block::BlockKey;
use trunnion_collector::journal::{Commit, Position};
use trunnion_collector::pipeline::Pipeline;
use trunnion_common::id::{BootId, NodeId};
use trunnion_common::time::EventTime;

impl World<'_> {
    /// Whether everything that is to come has come. Tombstones count as the samples they stand for: they
    /// are reported as held until their tombstone has arrived, also those of boots that have ended.
    pub(super) fn is_at_rest(&self) -> bool {
        let rows = self.collector.rows();
        // Only what was put back can have lost what samples wait for.
        let record = self.destroyed.has_commits().then(|| self.collector.commits());
        let record = record.and_then(Result::ok).map(|commits| Record::read(&commits));
        let waiting = |key| {
            record
                .as_ref()
                .map_or(0, |record| self.destroyed.waiting(record, key))
        };
        let told = |node: &SimNode<'_>| {
            CHANNELS
                .into_iter()
                .zip(node.accounts())
                .all(|(channel, account)| {
                    let key = (node.id, node.boot, channel);
                    rows.get(&key)
                        .is_some_and(|row| row.produced == account.produced && row.pending <= waiting(key))
                        && account.held == 0
                })
        };
        self.nodes.iter().all(told) && !self.gateways.iter().any(|gateway| gateway.spool.holds_samples())
    }

    /// Every block in a spool. Nodes and agents go on saying how they are, so that there is always one on
    /// its way, but none that stays.
    pub(super) fn spooled(&self) -> BTreeSet<(usize, BlockKey)> {
        let gateways = self.gateways.iter().enumerate();
        gateways
            .flat_map(|(number, gateway)| gateway.spool.keys().map(move |key| (number, key)))
            .collect()
    }

    /// Why it is not.
    pub(super) fn unrest(&self) -> String {
        let nodes = self.nodes.iter().map(|node| {
            let rows = CHANNELS.map(|channel| self.collector.rows().get(&(node.id, node.boot, channel)));
            format!(
                "node {} boot {} {:?} told {rows:?}",
                node.id,
                node.boot,
                node.accounts()
            )
        });
        let gateways = self.gateways.iter().map(SimGateway::describe);
        let collector = format!("collector running: {}", self.collector.is_running());
        nodes
            .chain(gateways)
            .chain([collector])
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// Compares with the reference.
    pub(super) fn judge(mut self, seed: u64) -> Result<Outcome> {
        let mut destroyed = std::mem::take(&mut self.destroyed);
        for gateway in &self.gateways {
            for (key, block) in gateway.spool.lost() {
                destroyed.note(&gateway.id(), *key, &block.bytes);
            }
            for (key, block) in gateway.spool.replaced() {
                destroyed.note_with_disk(&gateway.id(), *key, &block.bytes);
            }
        }
        let mut violations = self.violations;
        let commits = self.collector.commits()?;
        let record = Record::read(&commits);
        violations.extend(record.violations.iter().cloned());
        violations.extend(self.reference.check_acknowledged(&record, &destroyed));
        violations.extend(self.reference.check_samples(&record, &destroyed));
        let live: BTreeSet<(NodeId, BootId)> = self.nodes.iter().map(|node| (node.id, node.boot)).collect();
        violations.extend(
            self.reference
                .check_ledger(&record, &destroyed, self.collector.rows(), &live),
        );
        violations.extend(check_replay(self.collector.pipeline(), &commits));
        // The clock of one gateway, by turns.
        let number = (seed / 3) as usize % self.gateways.len();
        let others = self.lines.iter().zip(&self.nodes);
        let others: BTreeSet<NodeId> = others
            .filter(|(line, _)| line.gateway != number)
            .map(|(_, node)| node.id)
            .collect();
        if !others.is_empty() {
            violations.extend(clocks::check(
                &commits,
                &self.gateways[number].id(),
                &others,
                seed,
            ));
        }
        let utc = EventTime(self.collector_utc + self.now.as_nanos() as i64);
        let damaged = self.collector.damaged_entries()?;
        self.collector.crash()?;
        let sets = self.collector.recovered_sets(utc)?;
        violations.extend(record.check_sets(&sets, damaged));
        self.faults.add(&self.collector.disk.faults());
        Ok(Outcome {
            seed,
            violations,
            faults: self.faults,
            samples_produced: self.reference.samples_produced(),
            samples_safe: self.reference.samples_safe(),
            samples_stored: record.samples_stored(),
            lasted: self.now,
            events: self.events,
        })
    }
}

/// What crashes and checkpoints led to against one replay from the beginning.
fn check_replay(live: Option<&Pipeline>, commits: &[Commit]) -> Option<String> {
    let Some(live) = live else {
        return Some("the collector does not run".to_owned());
    };
    let mut replayed = Pipeline::new();
    for commit in commits {
        let _ = replayed.apply(commit);
    }
    let end = commits.last().map_or(Position::default(), |commit| commit.end);
    (replayed.state() != live.state()).then(|| {
        format!(
            "the pipeline at {} is not what a replay to {end} gives",
            live.state().position()
        )
    })
}
