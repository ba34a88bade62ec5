//! Progress of event time per source. Pure.
//!
//! A source is one channel's samples as they come over one way: (node, class, lane). As long as no
//! frame of its node and class is missing or waiting, everything below its latest sample has come or
//! never will: the node sends in order. While one is missing, the source may still fill the hole, and
//! progress trails the latest sample by a bound; a hole older than the bound is waited for no longer,
//! so that a loss nobody names costs no latency for good. A source never looks at another one, so a broken
//! clock or an idle neighbour holds nobody back; a source that fell silent is declared idle by the
//! journal's clock.

use serde::{Deserialize, Serialize};
use trunnion_common::block::Lane;
use trunnion_common::time::EventTime;

/// How far event time has come at one source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Watermark {
    latest: EventTime,
    passed: EventTime,
    heard: EventTime,
    /// The highest hole, and the latest sample when it was first seen.
    hole: Option<(u64, EventTime)>,
}

impl Default for Watermark {
    fn default() -> Self {
        let never = EventTime(i64::MIN);
        Self {
            latest: never,
            passed: never,
            heard: never,
            hole: None,
        }
    }
}

impl Watermark {
    /// Samples up to `end` have come, at the journal's time `now`.
    pub fn observe(&mut self, end: EventTime, now: EventTime) {
        self.latest = self.latest.max(end);
        self.heard = self.heard.max(now);
    }

    /// Moves on: without a `hole` (named by the frame above it) to the latest sample; with one to
    /// `trail_ns` behind it, and again to the latest once no new hole has opened for that long. A
    /// backfill, which may be drained newest first, stands still until there is no hole.
    /// Returns where it is now; it never moves back.
    pub fn advance(&mut self, hole: Option<u64>, lane: Lane, trail_ns: i64) -> EventTime {
        self.hole = hole.map(|hole| match self.hole {
            Some((known, since)) if known == hole => (known, since),
            _ => (hole, self.latest),
        });
        let reached = match (self.hole, lane) {
            (None, _) => self.latest,
            (Some((_, since)), Lane::Live) if self.latest.nanos_since(since) >= trail_ns => self.latest,
            (Some(_), Lane::Live) => self.latest.plus_nanos(-trail_ns),
            (Some(_), Lane::Backfill) => self.passed,
        };
        self.passed = self.passed.max(reached);
        self.passed
    }

    /// Whether nothing has come for `idle_ns` of the journal's time.
    pub fn is_idle(&self, now: EventTime, idle_ns: i64) -> bool {
        now.nanos_since(self.heard) >= idle_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the mark is after a sample at that time, with that hole.
    fn advance(mark: &mut Watermark, latest: i64, hole: Option<u64>, lane: Lane) -> i64 {
        mark.observe(EventTime(latest), EventTime(1));
        mark.advance(hole, lane, 30).0
    }

    #[test]
    fn a_hole_holds_progress_back_by_the_bound_and_no_further() {
        let mut mark = Watermark::default();
        assert_eq!(advance(&mut mark, 100, None, Lane::Live), 100);
        assert_eq!(advance(&mut mark, 120, Some(7), Lane::Live), 100, "never back");
        assert_eq!(advance(&mut mark, 149, Some(7), Lane::Live), 119);
        assert_eq!(advance(&mut mark, 149, None, Lane::Live), 149);
    }

    #[test]
    fn an_old_hole_is_waited_for_no_longer_and_a_new_one_is() {
        let mut mark = Watermark::default();
        assert_eq!(advance(&mut mark, 100, Some(7), Lane::Live), 70);
        assert_eq!(advance(&mut mark, 130, Some(7), Lane::Live), 130);
        assert_eq!(advance(&mut mark, 200, Some(7), Lane::Live), 200);
        assert_eq!(advance(&mut mark, 210, Some(9), Lane::Live), 200);
        assert_eq!(advance(&mut mark, 239, Some(9), Lane::Live), 209);
    }

    #[test]
    fn a_backfill_with_a_hole_stands_still() {
        let mut mark = Watermark::default();
        assert_eq!(advance(&mut mark, 900, Some(7), Lane::Backfill), i64::MIN);
        assert_eq!(advance(&mut mark, 950, Some(7), Lane::Backfill), i64::MIN);
        assert_eq!(advance(&mut mark, 950, None, Lane::Backfill), 950);
    }

    #[test]
    fn silence_is_measured_from_the_last_sample_heard() {
        let mut mark = Watermark::default();
        mark.observe(EventTime(5), EventTime(1_000));
        assert!(!mark.is_idle(EventTime(1_059), 60));
        assert!(mark.is_idle(EventTime(1_060), 60));
    }
}
