//! Progress of event time per source. Pure.
//!
//! A source is one channel's samples as they come over one way: (node, class, lane). As long as no
//! frame of its node and class is missing or waiting, everything below its latest sample has come or
//! never will: the node sends in order. While one is missing, the source may still fill the hole, and
//! progress trails the latest sample by a bound. A source never looks at another one, so a broken
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
}

impl Default for Watermark {
    fn default() -> Self {
        let never = EventTime(i64::MIN);
        Self {
            latest: never,
            passed: never,
            heard: never,
        }
    }
}

impl Watermark {
    /// Samples up to `end` have come, at the journal's time `now`.
    pub fn observe(&mut self, end: EventTime, now: EventTime) {
        self.latest = self.latest.max(end);
        self.heard = self.heard.max(now);
    }

    /// Moves on: with `contiguous` input to the latest sample; with a hole to `trail_ns` behind it on
    /// the live lane, and not at all in a backfill, which may be drained newest first.
    /// Returns where it is now; it never moves back.
    pub fn advance(&mut self, contiguous: bool, lane: Lane, trail_ns: i64) -> EventTime {
        let reached = match (contiguous, lane) {
            (true, _) => self.latest,
            (false, Lane::Live) => self.latest.plus_nanos(-trail_ns),
            (false, Lane::Backfill) => self.passed,
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

    #[test]
    fn a_hole_holds_progress_back_by_the_bound_and_no_further() {
        let mut mark = Watermark::default();
        mark.observe(EventTime(100), EventTime(1));
        assert_eq!(mark.advance(true, Lane::Live, 30), EventTime(100));
        mark.observe(EventTime(120), EventTime(2));
        assert_eq!(mark.advance(false, Lane::Live, 30), EventTime(100), "never back");
        mark.observe(EventTime(150), EventTime(3));
        assert_eq!(mark.advance(false, Lane::Live, 30), EventTime(120));
        assert_eq!(mark.advance(true, Lane::Live, 30), EventTime(150));
    }

    #[test]
    fn a_backfill_with_a_hole_stands_still() {
        let mut mark = Watermark::default();
        mark.observe(EventTime(900), EventTime(1));
        assert_eq!(mark.advance(false, Lane::Backfill, 30), EventTime(i64::MIN));
        assert_eq!(mark.advance(true, Lane::Backfill, 30), EventTime(900));
    }

    #[test]
    fn silence_is_measured_from_the_last_sample_heard() {
        let mut mark = Watermark::default();
        mark.observe(EventTime(5), EventTime(1_000));
        assert!(!mark.is_idle(EventTime(1_059), 60));
        assert!(mark.is_idle(EventTime(1_060), 60));
    }
}
