//! How far event time has come beside the journal's. Pure.
//!
//! Only channels that are active in a lane count: one that fell silent holds nobody back. The lag of a
//! live channel is where its samples end; of one whose history comes it is the oldest place where
//! something is still to be filled in, or where its samples end when there is none.

use super::Pipeline;

/// How far the channels of a lane are behind the journal's time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LaneLag {
    /// Channels that are active in it.
    pub channels: usize,
    /// Of the one in the middle, nanoseconds; the upper of two. Below 0 when its clock is ahead.
    pub median_ns: i64,
    /// Of the one that is furthest behind, nanoseconds.
    pub slowest_ns: i64,
}

impl LaneLag {
    fn new(mut lags: Vec<i64>) -> Self {
        let middle = lags.len() / 2;
        let median_ns = if lags.is_empty() {
            0
        } else {
            *lags.select_nth_unstable(middle).1
        };
        Self {
            channels: lags.len(),
            median_ns,
            slowest_ns: lags.into_iter().max().unwrap_or(0),
        }
    }
}

impl Pipeline {
    /// The lag of the live lane and of history (backfill). Looks at every channel.
    pub fn lane_lags(&self) -> [LaneLag; 2] {
        let now = self.state.now;
        let idle_ns = self.state.settings.at(now).windows.idle_ns;
        [false, true].map(|backfill| {
            let marks = self.state.channels.iter().map(|(_, channel)| &channel.watermark);
            let active = marks.filter(|mark| !mark.is_idle(backfill, now, idle_ns));
            let lags = active.filter_map(|mark| mark.reached(backfill));
            LaneLag::new(lags.map(|reached| now.nanos_since(reached)).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::{self, Node, SECOND};
    use super::*;

    #[test]
    fn a_lane_without_active_channels_has_no_lag() {
        assert_eq!(LaneLag::new(Vec::new()), LaneLag::default());
        assert_eq!(Pipeline::new().lane_lags(), [LaneLag::default(); 2]);
    }

    #[test]
    fn the_slowest_and_the_middle_channel_are_told() {
        let lag = LaneLag::new(vec![5, -2, 9, 1]);
        let expected = LaneLag {
            channels: 4,
            median_ns: 5,
            slowest_ns: 9,
        };
        assert_eq!(lag, expected);
    }

    #[test]
    fn a_live_channel_lags_by_what_its_samples_are_behind_the_journal_until_it_falls_silent() {
        let mut node = Node::new(1);
        let entries = node.story(4, |_| 0.0);
        let mut commits = script::commits(entries);
        let mut pipeline = Pipeline::new();
        for commit in &commits {
            pipeline.apply(commit);
        }
        let [live, backfill] = pipeline.lane_lags();
        assert_eq!((live.channels, backfill.channels), (1, 0));
        assert_eq!(live.slowest_ns, live.median_ns);
        let mut last = commits.pop().unwrap();
        last.entries.clear();
        last.time = last.time.plus_nanos(SECOND);
        pipeline.apply(&last);
        assert_eq!(pipeline.lane_lags()[0].slowest_ns, live.slowest_ns + SECOND);
        last.time = last.time.plus_nanos(86_400 * SECOND);
        pipeline.apply(&last);
        assert_eq!(pipeline.lane_lags()[0], LaneLag::default());
    }
}
