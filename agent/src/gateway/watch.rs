//! The gateway's part in watching: what [`crate::watch`] finds goes to the log, to the shell and to the disk.

use super::{Action, Gateway};
use crate::block::Index;
use crate::clock::Now;
use crate::watch::{News, Searched};
use std::fmt;
use std::time::Duration;
use trunnion_common::feature::FeatureKind;
use trunnion_common::frame::Class;
use trunnion_common::level::Level;
use trunnion_common::monitor::{Basis, Condition};
use trunnion_common::watch::{Lines, UnusualRow};

impl Gateway {
    /// Says what has changed, first here and then to the collector.
    pub(super) fn poll_watches(&mut self, now: Now) {
        let mut closed = None;
        while let Some(news) = self.watches.poll() {
            tell(&news);
            if news.condition.level != news.before {
                closed = Some(closed.map_or(news.closed, |first: Duration| first.min(news.closed)));
            }
            if news.before == Level::Normal && news.condition.level > Level::Normal {
                self.metrics.advisories_raised.inc();
            }
        }
        if let Some(closed) = closed {
            let standing = self.watches.words();
            self.metrics.advisories_standing.set(standing.len() as i64);
            self.actions.push_back(Action::Advise { standing, closed });
        }
        // What cannot be committed now is told as it is then.
        if self.may_commit_essentials() {
            let mut bodies = self.watches.poll_bodies().peekable();
            let is_any = bodies.peek().is_some();
            for (kind, body) in bodies {
                self.writer.add(kind, &body, Index::default(), now);
            }
            if is_any {
                self.commit(Class::Essential, now);
            }
        }
        // What has been judged is searched after it has been told.
        let searching = self.watches.poll_search(now.mono);
        let action = |searching| Action::Search(Box::new(searching));
        self.actions.extend(searching.map(action));
    }

    /// A window has been searched, which took so long.
    pub fn handle_searched(&mut self, searched: &Searched, took: Duration, now: Now) {
        self.metrics.observe_search(took);
        self.watches.handle_searched(searched, took, now.mono);
    }
}

fn tell(news: &News) {
    let condition = &news.condition;
    let (node, channel) = (condition.node, condition.channel.get());
    let (level, before) = (condition.level.label(), news.before.label());
    let about = about(condition.condition);
    if condition.level == news.before {
        tracing::debug!(%node, channel, about, "the channel is watched here");
        return;
    }
    if condition.level == Level::Normal {
        tracing::info!(%node, channel, about, before, "an advisory of this gateway is over");
        return;
    }
    match &news.lines {
        Some(Lines::Bearing(claim)) => {
            let (order, score) = (claim.order, claim.score);
            let is_confirmed = claim.confirmed.is_some();
            tracing::warn!(%node, channel, about, level, before, order, score, is_confirmed, "advisory of this gateway, by lines of the bearing");
            return;
        }
        Some(Lines::Shaft(claim)) => {
            let (order, score) = (claim.highest().map(|line| line.order), claim.score);
            tracing::warn!(%node, channel, about, level, before, order, score, "advisory of this gateway, suspected by lines of the shaft");
            return;
        }
        Some(Lines::Unusual(row)) => {
            let (value, limit, contributions) = (row.value, row.limit, Contributions(row));
            tracing::warn!(%node, channel, about, level, before, value, limit, %contributions, "advisory of this gateway, by slow channels that are not as they were");
            return;
        }
        None => {}
    }
    let Some(evidence) = condition.evidence else {
        return;
    };
    let standard = condition.standard.map(|standard| standard.edition());
    let (value, limit, fault) = (
        evidence.value,
        evidence.limit,
        evidence.fault.map(|fault| fault.label()),
    );
    match evidence.basis {
        Basis::Baseline => {
            tracing::warn!(%node, channel, about, level, before, value, limit, normal = evidence.normal, "advisory of this gateway");
        }
        Basis::Absolute if fault.is_some() => {
            tracing::warn!(%node, channel, about, level, before, fault, "advisory of this gateway");
        }
        // A slow channel has no baseline.
        Basis::Absolute if condition.condition == Condition::Deviation(FeatureKind::Mean) => {
            tracing::warn!(%node, channel, about, level, before, value, limit, "advisory of this gateway, by the limits of its channel");
        }
        Basis::Absolute => {
            tracing::warn!(%node, channel, about, level, before, value, limit, standard, "advisory of this gateway, by absolute limits: no baseline is accepted for how the machine runs");
        }
    }
}

/// The share of each channel, as `node/channel share`; nothing of a channel by itself.
struct Contributions<'a>(&'a UnusualRow);

impl fmt::Display for Contributions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shares = self.0.contributions.iter();
        shares.try_for_each(|((node, channel), share)| write!(f, "{node}/{channel} {share:.2} "))
    }
}

/// What a condition is about, in a word.
pub(crate) const fn about(condition: Condition) -> &'static str {
    match condition {
        Condition::Severity => "severity",
        Condition::Deviation(kind) => kind.label(),
        Condition::Instrument => "instrument",
        Condition::Bearing(Some(element)) => element.label(),
        Condition::Bearing(None) => "bearing",
        Condition::Suspected(cause) => cause.label(),
        Condition::Unusual => "unusual",
        Condition::UnusualTogether => "unusual_together",
    }
}
