//! One channel of one boot: what is known of its samples, and how that adds up. Pure.

use super::epochs::Word;
use super::unnamed::Judged;
use super::{IndexSet, RANGES_MAX};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trunnion_common::block::ChannelHolding;
use trunnion_common::sample::LossCause;
use trunnion_common::sequence::Range;

/// What is known of one channel of one boot.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Account {
    /// Includes holes that were closed to keep it bounded.
    pub(super) stored: IndexSet,
    pub(super) waiting: IndexSet,
    pub(super) refused: IndexSet,
    /// In frames that came after the hole they belong in had been given up.
    pub(super) given_up: IndexSet,
    /// Indexes below this were judged by the last report.
    pub(super) cut: u64,
    pub(super) at_node: Option<Range>,
    pub(super) at_agent: Option<Range>,
    /// The last word that counted.
    pub(super) said: Option<Said>,
    /// What a start of an agent was said to hold, and none has since its gateway was put back to an image.
    pub(super) gone: IndexSet,
    /// Counted by the node, since its boot.
    pub(super) node_drops: BTreeMap<LossCause, u64>,
    /// Counted by the agent.
    pub(super) agent_losses: BTreeMap<LossCause, u64>,
    /// How much of the two counts stands for missing samples.
    pub(super) booked: BTreeMap<LossCause, u64>,
    /// Samples in closed holes that were missing: they stay missing, without their indexes.
    pub(super) closed_missing: u64,
    /// Samples in closed holes that were still expected.
    pub(super) closed_expected: u64,
    pub(super) duplicated: u64,
    /// Samples that were missing when a word last left none of them unexplained.
    pub(super) named: u64,
    /// As of the last settling: samples that are missing, and those of them that nothing explains.
    pub(super) missing: u64,
    pub(super) unexplained: u64,
}

/// A word of a gateway about one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) word: Word,
    /// As far as it knew.
    pub(super) produced: u64,
}

pub(super) struct Sums {
    pub(super) produced: u64,
    pub(super) stored: u64,
    pub(super) pending: u64,
    pub(super) lost: BTreeMap<LossCause, u64>,
    pub(super) unexplained: u64,
}

impl Account {
    /// Adds up, and books reported losses against samples that are missing.
    pub(super) fn settle(&mut self, ended: bool) -> Sums {
        // Each sample goes where it is found first.
        let mut known = self.stored.clone();
        let mut claim = |ranges: &[Range], end: u64| -> u64 {
            let clipped = ranges
                .iter()
                .filter_map(|range| Range::new(range.first(), range.end().min(end)));
            clipped
                .flat_map(|range| known.insert(range))
                .map(|range| range.count())
                .sum()
        };
        let mut pending = claim(self.waiting.ranges(), u64::MAX);
        let mut refused = claim(self.refused.ranges(), u64::MAX);
        let mut given_up = claim(self.given_up.ranges(), u64::MAX);
        let last_end = known.ranges().last().map_or(0, |last| last.end());
        let produced = if ended {
            // No report of this boot may come any more: what it is seen to have produced, it did.
            self.cut.max(last_end)
        } else {
            known.run_end(self.cut)
        };
        // What lies behind a hole that no report has judged yet is left out until it is.
        let beyond = |set: &IndexSet| set.count() - set.count_below(produced);
        if last_end > produced {
            let mut seen = self.stored.clone();
            let mut left_out = |set: &IndexSet| {
                let before = beyond(&seen);
                for &range in set.ranges() {
                    seen.insert(range);
                }
                beyond(&seen) - before
            };
            pending -= left_out(&self.waiting);
            refused -= left_out(&self.refused);
            given_up -= left_out(&self.given_up);
        }
        let stored = self.stored.count_below(produced) - self.closed_missing - self.closed_expected;
        let mut claim = |range: Option<Range>| -> u64 {
            let clipped = range.and_then(|range| Range::new(range.first(), range.end().min(produced)));
            let new = clipped.map(|range| known.insert(range)).unwrap_or_default();
            new.iter().map(|range| range.count()).sum()
        };
        pending += claim(self.at_agent);
        let at_node = claim(self.at_node);
        let gone: u64 = self.gone.ranges().iter().map(|range| claim(Some(*range))).sum();
        let mut lost = BTreeMap::new();
        lost.insert(LossCause::NotHeld, gone);
        if ended {
            // Behind the last cut, what nobody has died with the node too.
            let unreported = claim(Range::new(self.cut, produced));
            lost.insert(LossCause::NodeReset, at_node + unreported);
        } else {
            pending += at_node;
        }
        *lost.entry(LossCause::Refused).or_default() += refused;
        *lost.entry(LossCause::SetOverflow).or_default() += given_up + self.closed_expected;
        let missing = produced - known.count_below(produced) + self.closed_missing;
        self.missing = missing;
        self.unexplained = missing - self.book(missing);
        for (&cause, &samples) in &self.booked {
            *lost.entry(cause).or_default() += samples;
        }
        Sums {
            produced,
            stored,
            pending,
            lost,
            unexplained: self.unexplained,
        }
    }

    /// A word that counts; whether the same start of the agent gave the last one.
    pub(super) fn hear(&mut self, word: Word, report: ChannelHolding, is_same_start: bool, ended: bool) {
        if report.produced >= self.cut {
            self.cut = report.produced;
            self.at_node = Range::new(report.at_node, report.produced);
        } else if !is_same_start {
            self.leave(ended);
        }
        self.at_agent = report.at_agent;
        let produced = report.produced;
        self.said = Some(Said { word, produced });
    }

    /// A later start of the agent does not know the channel.
    pub(super) fn abandon(&mut self, word: Word, ended: bool) {
        self.leave(ended);
        self.said = Some(Said { word, produced: 0 });
    }

    /// The agent has nothing any more of what it was said to have. What it had not explained yet it never will:
    /// the tombstone or gap may have been on the disk as well.
    fn leave(&mut self, ended: bool) {
        let unexplained = self.settle(ended).unexplained;
        if unexplained > 0 {
            let lost = self.agent_losses.entry(LossCause::NotHeld).or_default();
            *lost = lost.saturating_add(unexplained);
        }
        if let Some(held) = self.at_agent.take() {
            self.gone.insert(held);
            self.bound();
        }
    }

    /// How far it is judged.
    pub(super) fn judged(&self, ended: bool) -> Judged {
        let at_node = self.at_node.filter(|_| !ended);
        let held = [self.at_agent, at_node].into_iter().flatten();
        Judged {
            settled: held.fold(self.cut, |settled, held| settled.min(held.first())),
            cut: self.cut,
            missing: self.missing,
            named: self.named,
        }
    }

    /// Books reported counts against that many missing samples; returns how many are booked then.
    fn book(&mut self, missing: u64) -> u64 {
        let mut booked: u64 = self.booked.values().sum();
        for cause in LossCause::ALL {
            let reported = self.reported(cause);
            let mine = self.booked.entry(cause).or_default();
            if booked > missing {
                // First of all those are taken back that the node counted as dropped: the
                // acknowledgement of a frame can be lost, a spool's own block cannot.
                let back = (booked - missing).min(*mine);
                *mine -= back;
                booked -= back;
            } else {
                let more = (missing - booked).min(reported.saturating_sub(*mine));
                *mine += more;
                booked += more;
            }
        }
        self.booked.retain(|_, samples| *samples > 0);
        booked
    }

    fn reported(&self, cause: LossCause) -> u64 {
        let of = |counts: &BTreeMap<LossCause, u64>| counts.get(&cause).copied().unwrap_or(0);
        of(&self.node_drops).saturating_add(of(&self.agent_losses))
    }

    /// Keeps every set within [`RANGES_MAX`]. What is written off counts as judged.
    pub(super) fn bound(&mut self) {
        while let Some(hole) = self.stored.close_lowest_hole(RANGES_MAX) {
            let mut expected = IndexSet::default();
            let held = [self.at_node, self.at_agent, Range::new(self.cut, u64::MAX)];
            let sets = [&self.waiting, &self.refused, &self.given_up];
            let claims = held.into_iter().flatten();
            for claim in claims.chain(sets.iter().flat_map(|set| set.ranges().iter().copied())) {
                let overlap = Range::new(hole.first().max(claim.first()), hole.end().min(claim.end()));
                if let Some(overlap) = overlap {
                    expected.insert(overlap);
                }
            }
            self.closed_expected += expected.count();
            self.closed_missing += hole.count() - expected.count();
            self.cut = self.cut.max(hole.end());
        }
        for set in [
            &mut self.waiting,
            &mut self.refused,
            &mut self.given_up,
            &mut self.gone,
        ] {
            while let Some(lowest) = set.take_lowest(RANGES_MAX) {
                let new = self.stored.insert(lowest);
                self.closed_expected += new.iter().map(|range| range.count()).sum::<u64>();
                self.cut = self.cut.max(lowest.end());
            }
        }
    }
}
