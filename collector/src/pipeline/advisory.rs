//! What is told of an advisory beside what it is raised on: what explains it, and how long the machine has left.
//!
//! Both are of the measurement point and change with it, so that they are put in when an advisory is told, and
//! what stands is told again when they have changed.

use super::{Output, Pipeline};
use crate::advisory::{Advisory, AdvisoryChange, Cause, Explaining, Explanation, Notices, recommendation};
use crate::state::SeriesKey;

impl Pipeline {
    /// Tells of a change.
    pub(super) fn tell_advisory(&mut self, mut change: AdvisoryChange) {
        let counters = &mut self.state.counters;
        match &change {
            AdvisoryChange::Raised(_) => counters.advisories_raised += 1,
            AdvisoryChange::Cleared(_) => counters.advisories_cleared += 1,
            AdvisoryChange::Updated(_) | AdvisoryChange::Found(_) => {}
        }
        self.complete(change.advisory_mut());
        self.outputs.push(Output::Advisory(change));
    }

    /// Tells again of those that stand at a point and that `is_meant`.
    pub(super) fn retell(&mut self, asset: &str, point: &str, is_meant: impl Fn(&Advisory) -> bool) {
        let point = (asset.to_owned(), point.to_owned());
        let notices = self.state.conditions.notices_of(&point);
        let notices = notices.into_iter().flat_map(Notices::standing);
        let bearings = self.state.advisories.get(&point);
        let bearings = bearings.into_iter().flat_map(|bearings| bearings.standing());
        let meant = notices.chain(bearings).filter(|standing| is_meant(standing));
        let meant: Vec<_> = meant.cloned().collect();
        for advisory in meant {
            self.tell_advisory(AdvisoryChange::Updated(advisory));
        }
    }

    /// What may be wrong at a point, by what stands there and by the spectra that were looked at.
    pub(super) fn explanation(&self, asset: &str, point: &str) -> Option<Explanation> {
        let name = (asset.to_owned(), point.to_owned());
        let explaining = |standing: &Advisory| Explaining {
            cause: standing.cause,
            advisory: standing.id.clone(),
        };
        let notices = self.state.conditions.notices_of(&name);
        let notices = notices.into_iter().flat_map(Notices::standing);
        let suspected = notices.filter(|standing| matches!(standing.cause, Cause::Suspected(_)));
        let suspected: Vec<_> = suspected.map(explaining).collect();
        if !suspected.is_empty() {
            return Some(Explanation::Suspected(suspected));
        }
        // A damaged bearing shakes its machine, too; what holds the vibration by its lines goes before it.
        let bearings = self.state.advisories.get(&name);
        let bearings = bearings.into_iter().flat_map(|bearings| bearings.standing());
        let bearings: Vec<_> = bearings.map(explaining).collect();
        if !bearings.is_empty() {
            return Some(Explanation::Suspected(bearings));
        }
        let first = SeriesKey {
            asset: name.0,
            point: name.1,
            ..SeriesKey::default()
        };
        let channels = self.state.diagnoses.range(first..);
        let mut channels = channels.take_while(|(series, _)| series.asset == asset && series.point == point);
        let reason = channels.find_map(|(_, channel)| channel.undetermined());
        reason.map(Explanation::Undetermined)
    }

    fn complete(&self, advisory: &mut Advisory) {
        if advisory.cause == Cause::Instrument || advisory.backfill {
            return;
        }
        if advisory.cleared.is_none() {
            advisory.remaining_life = self.forecast(&advisory.asset, &advisory.point);
        }
        advisory.explanation = self.explanation_of_rise(advisory.cause, &advisory.asset, &advisory.point);
        if advisory.cause == Cause::Severity {
            advisory.explanation = self.explanation(&advisory.asset, &advisory.point);
            if let Some(Explanation::Suspected(suspected)) = &advisory.explanation {
                let checks = suspected.iter().filter_map(|explaining| match explaining.cause {
                    Cause::Suspected(cause) => Some(cause.recommended_check()),
                    Cause::Bearing(element) => Some(recommendation(element)),
                    _ => None,
                });
                for check in checks {
                    advisory.recommendation.push(' ');
                    advisory.recommendation.push_str(check);
                }
            }
        }
    }
}
