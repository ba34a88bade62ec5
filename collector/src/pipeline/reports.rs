//! What nodes and agents report beside samples: features of stretches, and alarms of nodes.

use super::waiting::Origin;
use super::{Output, Pipeline};
use crate::alarm::AlarmRow;
use crate::derived::{DerivedRow, Waiting};
use crate::fleet::{ChannelSite, Fleet};
use crate::state::Source;
use std::collections::BTreeMap;
use trunnion_common::block::{Derived, LocalAdvisory};
use trunnion_common::frame::{FeatureReport, Header};
use trunnion_common::id::{BootId, ChannelId, NodeId};
use trunnion_common::time::EventTime;

impl Pipeline {
    /// Where a channel hung at a time, if the fleet file of then names it.
    pub(super) fn site_at(&self, time: EventTime, node: NodeId, channel: ChannelId) -> Option<&ChannelSite> {
        site_at(&self.fleets, time, node, channel)
    }

    /// Tries again what waited of a boot.
    pub(super) fn release_derived(&mut self, source: (NodeId, BootId)) {
        for waiting in self.state.derived.take(source) {
            self.take_derived(waiting);
        }
    }

    /// What a node computed by its plan.
    pub(super) fn take_report(&mut self, origin: &Origin, fix: u32, header: &Header, report: FeatureReport) {
        self.state.counters.reports_kept += 1;
        self.take_derived(Waiting {
            derived: Derived {
                node: header.node,
                boot: header.boot,
                channel: report.channel,
                first_sample: report.first_sample,
                count: report.count,
                features: report.features,
                ticks: header.ticks,
                fix,
                revision: report.revision,
            },
            backfill: origin.backfill,
            source: Source::Node,
        });
    }

    /// Places a stretch that a node or an agent computed, or lets it wait for what explains it.
    pub(super) fn take_derived(&mut self, waiting: Waiting) {
        let derived = &waiting.derived;
        let boot = self.state.boots.get(&(derived.node, derived.boot));
        let explained = boot.and_then(|boot| {
            let table = boot.tables.get(&derived.revision)?;
            Some((table, boot.fixes.get(&derived.fix)?))
        });
        let counters = &mut self.state.counters;
        let Some((table, fix)) = explained else {
            counters.derived_refused += u64::from(self.state.derived.push(waiting));
            return;
        };
        let row = table.get(derived.channel.index()).and_then(|descriptor| {
            let site = |start| site_at(&self.fleets, start, derived.node, derived.channel).cloned();
            DerivedRow::new(derived, descriptor, fix, site, (waiting.backfill, waiting.source))
        });
        let lead_ns = self.state.settings.at(self.state.now).windows.lead_ns;
        let is_ahead = |row: &DerivedRow| row.end.nanos_since(self.state.now) > lead_ns;
        // A clock that is set wrong would put it where no sample goes either.
        match row.filter(|row| !is_ahead(row)) {
            Some(row) => {
                counters.derived_stored += 1;
                self.outputs.push(Output::Derived(row));
            }
            None => counters.derived_refused += 1,
        }
    }

    /// An alarm of a node, as its agent keeps it.
    pub(super) fn take_alarm(&mut self, origin: &Origin, told: &LocalAdvisory) {
        self.state.counters.alarms_told += 1;
        let site = told
            .channel
            .and_then(|channel| site_at(&self.fleets, told.raised, told.node, channel));
        let series = site.map(|site| site.series.clone());
        let row = AlarmRow::new(&origin.gateway, told, series);
        self.outputs.push(Output::Alarm(row));
    }
}

/// Where a channel hung at a time, if the fleet file of then names it.
fn site_at(
    fleets: &BTreeMap<EventTime, Fleet>,
    time: EventTime,
    node: NodeId,
    channel: ChannelId,
) -> Option<&ChannelSite> {
    let (_, fleet) = fleets.range(..=time).next_back()?;
    fleet.channel(node, channel)
}

#[cfg(test)]
mod tests {
    use super::super::script::{self, Node, RATE, SECOND, START};
    use super::*;
    use crate::journal::Entry;
    use crate::state::SeriesKey;
    use trunnion_common::block::Kind;
    use trunnion_common::feature::FeatureKind;
    use trunnion_common::frame::{Class, EventKind, Payload, Severity};
    use trunnion_common::time::NodeTicks;

    fn derived(node: &Node, second: u64) -> Vec<u8> {
        let derived = Derived {
            node: node.id,
            boot: node.boot,
            channel: ChannelId::new(0).unwrap(),
            first_sample: second * RATE,
            count: RATE as u32,
            features: [(FeatureKind::Rms, 2.0), (FeatureKind::KurtosisExcess, 90.0)]
                .into_iter()
                .collect(),
            ticks: NodeTicks(second * 1_000_000),
            fix: 0,
            revision: 1,
        };
        postcard::to_stdvec(&derived).unwrap()
    }

    fn told(node: &Node, repeats: u32) -> Vec<u8> {
        let told = LocalAdvisory {
            node: node.id,
            boot: node.boot,
            channel: ChannelId::new(0),
            raised: START,
            evidence: Default::default(),
            kind: Some(EventKind::LimitExceeded),
            severity: Severity::Alarm,
            last: START.plus_nanos(SECOND),
            repeats,
            value: 12.5,
        };
        postcard::to_stdvec(&told).unwrap()
    }

    fn play(entries: Vec<Entry>) -> (Pipeline, Vec<Output>) {
        let mut pipeline = Pipeline::new();
        let outputs = script::commits(entries)
            .iter()
            .flat_map(|commit| pipeline.apply(commit))
            .collect();
        (pipeline, outputs)
    }

    fn rows(outputs: &[Output]) -> Vec<&DerivedRow> {
        let rows = outputs.iter().filter_map(|output| match output {
            Output::Derived(row) => Some(row),
            _ => None,
        });
        rows.collect()
    }

    /// What becomes of features whose clock fix and channel table come after them, in either order.
    fn waited(features: impl Fn(&mut Node) -> Entry) -> [(Pipeline, Vec<Output>); 2] {
        [false, true].map(|table_first| {
            let mut node = Node::new(1);
            let mut entries = vec![script::fleet(1), features(&mut node)];
            let table = node.describe();
            let (table, fix) = (node.frame_block(&[table]), node.fix());
            entries.extend(if table_first { [table, fix] } else { [fix, table] });
            play(entries)
        })
    }

    /// In which seconds they begin.
    fn starts(rows: &[&DerivedRow]) -> Vec<i64> {
        let starts = rows.iter().map(|row| row.start.nanos_since(START) / SECOND);
        starts.collect()
    }

    #[test]
    fn features_of_agents_wait_for_fix_and_table_and_leave_the_ledger_alone() {
        let told = |node: &mut Node| {
            let body = [derived(node, 3), derived(node, 4)].concat();
            node.block(Kind::Derived, &body)
        };
        for (pipeline, outputs) in waited(told) {
            let rows = rows(&outputs);
            assert_eq!(starts(&rows), [3, 4]);
            assert_eq!(rows[0].end.nanos_since(rows[0].start), SECOND);
            // The fleet file turns the axis round and keeps the unit.
            assert_eq!(rows[0].values, [("rms", 2.0), ("kurtosis_excess", 90.0)]);
            let key = SeriesKey {
                asset: "fan-1".to_owned(),
                point: "motor-de".to_owned(),
                channel: "v".to_owned(),
            };
            assert_eq!(rows[0].series, key);
            assert_eq!(pipeline.counters().derived_stored, 2);
            assert!(
                !outputs
                    .iter()
                    .any(|output| matches!(output, Output::Ledger(_) | Output::Advisory(_)))
            );
        }
    }

    #[test]
    fn features_of_a_node_wait_for_fix_and_table_and_are_told_as_its_own() {
        let told = |node: &mut Node| {
            let reports = [3, 4].map(|second| {
                let report = FeatureReport {
                    revision: 1,
                    channel: ChannelId::new(0).unwrap(),
                    first_sample: second * RATE,
                    count: RATE as u32,
                    features: [(FeatureKind::Rms, 2.0), (FeatureKind::Octave1, 0.5)]
                        .into_iter()
                        .collect(),
                };
                node.frame(Class::Essential, second * 1_000_000, &Payload::Feature(report))
            });
            node.frame_block(&reports)
        };
        for (pipeline, outputs) in waited(told) {
            let rows = rows(&outputs);
            assert_eq!(starts(&rows), [3, 4]);
            assert!(rows.iter().all(|row| row.source == Source::Node));
            assert_eq!(rows[1].end.nanos_since(rows[1].start), SECOND);
            assert_eq!(rows[1].values, [("rms", 2.0), ("octave_1", 0.5)]);
            assert_eq!(rows[1].series.asset, "fan-1");
            assert_eq!(pipeline.counters().reports_kept, 2);
        }
    }

    #[test]
    fn features_far_ahead_of_the_journal_and_unreadable_ones_are_refused() {
        let mut node = Node::new(1);
        let table = node.describe();
        let mut body = derived(&node, 1_000);
        body.extend([0xff; 3]);
        let entries = vec![
            node.frame_block(&[table]),
            node.fix(),
            node.block(Kind::Derived, &body),
        ];
        let (pipeline, outputs) = play(entries);
        assert!(rows(&outputs).is_empty());
        assert_eq!(pipeline.counters().derived_refused, 1);
        assert!(
            outputs
                .iter()
                .any(|output| matches!(output, Output::DeadLetter(_)))
        );
    }

    #[test]
    fn an_alarm_that_is_told_again_is_the_same_with_its_latest_count() {
        let mut node = Node::new(1);
        let (first, again) = (told(&node, 1), told(&node, 7));
        let entries = vec![
            script::fleet(1),
            node.block(Kind::Advisory, &first),
            node.block(Kind::Advisory, &[again, first.clone()].concat()),
        ];
        let (pipeline, outputs) = play(entries);
        let alarms: Vec<&AlarmRow> = outputs
            .iter()
            .filter_map(|output| match output {
                Output::Alarm(row) => Some(row),
                _ => None,
            })
            .collect();
        assert_eq!(
            alarms.iter().map(|alarm| alarm.repeats).collect::<Vec<_>>(),
            [1, 7, 1]
        );
        assert!(
            alarms
                .iter()
                .all(|alarm| alarm.first == START && alarm.kind_label() == "limit_exceeded")
        );
        assert_eq!(alarms[0].series.as_ref().unwrap().asset, "fan-1");
        assert_eq!(pipeline.counters().alarms_told, 3);
    }
}
