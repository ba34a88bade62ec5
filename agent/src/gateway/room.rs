//! What the gateway gives up when there is no room, and what it puts in the place of it.

use super::{Gateway, encode};
use crate::block::{BlockKey, Index, tombstones};
use crate::clock::Now;
use crate::gateway::Action;
use crate::metrics::Metrics;
use crate::retention::{Decision, DerivedPlan, Usage};
use crate::spool::Request;
use trunnion_common::block::{Kind, Tombstone};
use trunnion_common::frame::Class;
use trunnion_common::sample::LossCause;

impl Gateway {
    /// The spool has more or less room than before.
    pub(super) fn handle_room(&mut self, usage: &Usage, decision: Decision) {
        self.metrics.observe_spool(usage);
        self.plan_derived(self.limits.derived_plan(usage));
        self.forecast.handle_usage(usage);
        let was = std::mem::replace(&mut self.room, decision);
        if was.label() == decision.label() {
            return;
        }
        Metrics::step(&self.metrics.retention_steps, decision.label()).inc();
        match decision {
            Decision::Keep => tracing::info!("the spool has room again"),
            Decision::EvictWaveform { .. } | Decision::CloseWaveform => {}
            Decision::StopWaveformIntake => {
                tracing::error!(
                    "no room for waveforms in the spool: they stay with their nodes, which drop the oldest; connect the collector or make room on the disk"
                );
            }
            Decision::StopIntake => {
                tracing::error!(
                    "no room in the spool for anything but alarms: nodes hold on to their frames and drop the oldest; connect the collector or make room on the disk"
                );
            }
        }
    }

    /// How much room features have from now on.
    fn plan_derived(&mut self, plan: DerivedPlan) {
        if std::mem::replace(&mut self.derived_plan, plan) == plan {
            return;
        }
        Metrics::step(&self.metrics.retention_steps, plan.label()).inc();
        self.derive.handle_plan(plan);
        match plan {
            DerivedPlan::Full => tracing::info!("features at intake are computed as configured again"),
            DerivedPlan::Thin(factor) => {
                tracing::warn!(
                    factor,
                    "essentials take much of the spool: features at intake are of longer stretches"
                );
            }
            DerivedPlan::Stop => {
                tracing::error!(
                    "essentials take nearly all of the spool: no features at intake; connect the collector or make room on the disk"
                );
            }
        }
    }

    /// Puts the features made so far into blocks.
    pub(super) fn add_derived(&mut self, now: Now) {
        while let Some(body) = self.derive.poll() {
            self.writer.add(Kind::Derived, &body, Index::default(), now);
        }
    }

    /// Puts tombstones in the place of a directory of waveforms; it goes when they are on disk.
    pub(super) fn evict(&mut self, directory: u32, blocks: &[BlockKey], now: Now) {
        // What is being computed of them goes to disk with the tombstones.
        for index in blocks.iter().filter_map(|key| self.writer.inventory.get(*key)) {
            for (node, boot, channel, _, range) in &index.samples {
                self.derive.close_before((*node, *boot), *channel, range.end());
            }
        }
        self.add_derived(now);
        // What has been acknowledged or given up since needs none.
        let (publisher, inventory) = (&self.publisher, &self.writer.inventory);
        let lost: Vec<(BlockKey, Index)> = blocks
            .iter()
            .filter(|key| !publisher.is_buried(**key))
            .filter_map(|key| Some((*key, inventory.get(*key)?)))
            .collect();
        tracing::error!(
            directory,
            blocks = lost.len(),
            "the spool is full: its oldest waveforms are evicted"
        );
        self.metrics.directories_evicted.inc();
        Metrics::cause(&self.metrics.blocks_lost, LossCause::SpoolEvicted).inc_by(lost.len() as u64);
        let tombstones = tombstones(
            lost.iter().map(|(key, index)| (*key, index)),
            LossCause::SpoolEvicted,
        );
        let keys: Vec<BlockKey> = lost.into_iter().map(|(key, _)| key).collect();
        for key in keys {
            self.publisher.handle_lost(key);
        }
        for tombstone in &tombstones {
            self.add_tombstone(tombstone, now);
        }
        self.writer.removals.push(Request::Evict(directory));
        if tombstones.is_empty() {
            self.actions.extend(self.writer.removals.pop().map(Action::Spool));
        }
        self.commit(Class::Essential, now);
    }

    fn add_tombstone(&mut self, tombstone: &Tombstone, now: Now) {
        let index = Index {
            buries: Some((tombstone.epoch, tombstone.blocks)),
            ..Index::default()
        };
        self.writer.add(Kind::Tombstone, &encode(tombstone), index, now);
    }

    /// Puts a tombstone in the place of a block.
    pub(super) fn bury(&mut self, key: BlockKey, cause: LossCause, now: Now) {
        Metrics::cause(&self.metrics.blocks_lost, cause).inc();
        self.alarms.handle_lost(key);
        let index = self.writer.inventory.get(key).unwrap_or_default();
        self.put_stand_in(&index, now);
        for tombstone in tombstones([(key, &index.without_stand_in())], cause) {
            self.add_tombstone(&tombstone, now);
            self.writer.removals.push(Request::Bury(key));
        }
        // It may have been the newest report of what is held.
        self.holdings_told.clear();
    }

    /// Says once more, in a block of its own, what others refer to of one that is given up.
    fn put_stand_in(&mut self, index: &Index, now: Now) {
        let Some(stand_in) = &index.stand_in else {
            return;
        };
        let Some(kind) = stand_in.kind() else {
            return;
        };
        self.metrics.blocks_remade.inc();
        let index = Index {
            buries: index.buries,
            stand_in: Some(stand_in.clone()),
            ..Index::default()
        };
        self.writer.add(kind, stand_in.body(), index, now);
    }
}
