//! What has waited for a day waits no longer: a clock fix that has not come by then is not expected any
//! more, and neither is a channel table.
//!
//! Samples without a fix are placed by the time at which their frame arrived at the gateway, as history
//! and with the quality `arrival`; one such relation serves all frames that name the same fix, so that
//! their distances stay those of the node's clock. Samples without a table have no unit and no rate, and
//! become dead letters.
//!
//! The day is counted in time during which the collector was at work. Without traffic it commits a tick
//! each second, so that a longer step of the journal's clock is one during which nothing could arrive,
//! or a clock that was set: no reason to give up what may come with the next block.

use super::Pipeline;
use super::waiting::Content;
use super::{Missing, RawFrame};
use trunnion_common::id::{BootId, NodeId};
use trunnion_common::time::{ClockFix, ClockQuality, EventTime, NodeTicks};

/// How long samples wait for what explains them: 24 h, nanoseconds.
pub const OVERDUE_NS: i64 = 86_400 * 1_000_000_000;

/// From one look at what waits to the next, nanoseconds: it is a walk through all of it.
const LOOK_NS: i64 = 60 * 1_000_000_000;

/// A longer step of the journal's clock counts as this much, nanoseconds.
const STEP_NS_MAX: i64 = 10 * 1_000_000_000;

impl Pipeline {
    /// A commit of this time is next.
    pub(super) fn count_elapsed(&mut self, time: EventTime) {
        let step = time.nanos_since(self.state.now).clamp(0, STEP_NS_MAX);
        self.state.elapsed_ns = self.state.elapsed_ns.saturating_add(step);
    }

    /// Settles what has waited for too long.
    pub(super) fn settle_overdue(&mut self) {
        let now = self.state.elapsed_ns;
        if now - self.state.overdue_looked < LOOK_NS {
            return;
        }
        self.state.overdue_looked = now;
        let limit = now - OVERDUE_NS;
        for source in self.state.waiting.sources_since(limit) {
            self.settle_source(source, limit);
        }
    }

    fn settle_source(&mut self, source: (NodeId, BootId), limit: i64) {
        for mut held in self.state.waiting.take(source) {
            if held.origin.since <= limit {
                let (fix, ticks, missing) = match &held.content {
                    Content::Frame { fix, bytes } => {
                        let ticks = RawFrame::parse(bytes).map_or(NodeTicks(0), |frame| frame.header().ticks);
                        let missing = self.explain_frame(&held.origin, *fix, bytes).ok();
                        (*fix, ticks, missing.and_then(Result::err))
                    }
                    Content::Readings(readings) => {
                        let ticks = readings
                            .readings
                            .first()
                            .map_or(NodeTicks(0), |(ticks, _)| *ticks);
                        (readings.fix, ticks, Some(Missing::Fix))
                    }
                };
                if missing == Some(Missing::Table) {
                    self.give_up_held(&held);
                    continue;
                }
                held.origin.backfill = true;
                let by_arrival = ClockFix {
                    node: source.0,
                    boot: source.1,
                    number: fix,
                    ticks,
                    utc: held.origin.arrival,
                    error_ns: u64::MAX,
                    quality: ClockQuality::Arrival,
                };
                let fixes = &mut self.note_boot(source).fixes;
                if let std::collections::btree_map::Entry::Vacant(vacant) = fixes.entry(fix) {
                    vacant.insert(by_arrival);
                    self.state.counters.fixes_by_arrival += 1;
                }
            }
            let bytes_max = self.state.settings.at(self.state.now).waiting_bytes_max;
            for displaced in self.state.waiting.push(held, bytes_max) {
                self.give_up_held(&displaced);
            }
        }
        self.release(source);
        self.fire_node(source.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Output;
    use super::super::script::{Node, commits};
    use super::*;
    use crate::dead_letter::DeadReason;
    use crate::journal::{Commit, Entry};
    use crate::ledger::LedgerRow;

    /// Plays entries, then ticks `step_ns` apart until so much time has passed on the journal's clock.
    fn play(entries: Vec<Entry>, step_ns: i64, for_ns: i64) -> (Pipeline, Vec<Output>) {
        let mut commits = commits(entries);
        let last = commits.last().unwrap().clone();
        commits.extend((1..=for_ns / step_ns).map(|n| Commit {
            time: last.time.plus_nanos(n * step_ns),
            entries: vec![(last.end, Entry::Tick)],
            end: last.end,
        }));
        let mut pipeline = Pipeline::new();
        let outputs = commits.iter().flat_map(|commit| pipeline.apply(commit)).collect();
        (pipeline, outputs)
    }

    fn last_row(outputs: &[Output]) -> LedgerRow {
        let mut rows = outputs.iter().filter_map(|output| match output {
            Output::Ledger(row) => Some(row.clone()),
            _ => None,
        });
        rows.next_back().unwrap()
    }

    /// A table and samples, without the fix that they name, or the fix without the table.
    fn entries(with_table: bool, with_fix: bool) -> Vec<Entry> {
        let mut node = Node::new(1);
        let mut frames = Vec::new();
        let table = node.describe();
        if with_table {
            frames.push(table);
        }
        frames.extend((0..30).map(|_| node.waveform(|_| 1.0)));
        let mut entries = vec![node.frame_block(&frames)];
        if with_fix {
            entries.push(node.fix());
        }
        entries
    }

    const STEP: i64 = 5 * 1_000_000_000;

    #[test]
    fn samples_whose_fix_never_comes_are_placed_by_arrival_after_a_day_and_not_before() {
        let (pipeline, outputs) = play(entries(true, false), STEP, OVERDUE_NS - 120 * 1_000_000_000);
        assert_eq!(pipeline.counters().fixes_by_arrival, 0);
        let row = last_row(&outputs);
        assert_eq!((row.stored, row.pending), (0, row.produced));
        let (pipeline, outputs) = play(entries(true, false), STEP, OVERDUE_NS + 120 * 1_000_000_000);
        assert_eq!(pipeline.counters().fixes_by_arrival, 1);
        let row = last_row(&outputs);
        assert_eq!((row.stored, row.pending, row.lost), (row.produced, 0, vec![]));
    }

    #[test]
    fn samples_whose_table_never_comes_become_dead_letters_and_are_refused() {
        let (_, outputs) = play(entries(false, true), STEP, OVERDUE_NS + 120 * 1_000_000_000);
        let letters = outputs.iter().filter(
            |output| matches!(output, Output::DeadLetter(letter) if letter.reason == DeadReason::NoDescriptor),
        );
        assert_eq!(letters.count(), 30);
        let row = last_row(&outputs);
        assert_eq!((row.lost_total(), row.pending), (row.produced, 0));
    }

    #[test]
    fn a_clock_that_leaps_makes_nothing_overdue() {
        let (pipeline, outputs) = play(entries(true, false), 10 * OVERDUE_NS, 50 * OVERDUE_NS);
        assert_eq!(pipeline.counters().fixes_by_arrival, 0);
        let row = last_row(&outputs);
        assert_eq!(row.pending, row.produced);
    }
}
