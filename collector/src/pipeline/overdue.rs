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
                        let ticks = readings.readings.first().map_or(NodeTicks(0), |(ticks, _)| *ticks);
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
