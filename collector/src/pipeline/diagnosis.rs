//! From what windows say of a shaft and what hangs on it to advisories of what may be wrong.
//!
//! When a window is examined, and what windows say together, gateways decide alike
//! ([`trunnion_diagnosis::diagnosis`]).
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | what windows said | one entry for each channel of the fleet in force of which something was said lately | it is forgotten with the last thing that was said |

use super::Pipeline;
use super::condition::Conditions;
use crate::advisory::{Advisory, Cause, Evidence, Explanation, Observation};
use crate::fleet::ChannelSite;
use crate::state::SeriesKey;
use trunnion_common::level::Level;
use trunnion_common::monitor::Assessment;
use trunnion_common::operating::Operating;
use trunnion_common::time::EventTime;
use trunnion_diagnosis::diagnosis::{Examination, Outcome, weigh};

impl Conditions {
    /// When a window of the channel is examined; none where there is nothing to look for.
    pub(super) fn examination(&self, site: &ChannelSite, operating: &Operating) -> Option<Examination> {
        let settings = site.monitor.as_ref()?;
        let regime = settings.regimes.regime(operating);
        let in_force = self.limits(&site.series, Level::Alert, regime, settings);
        Examination::new(&in_force, &site.train)
    }
}

/// What is to be observed of causes after a window.
#[derive(Debug, Default)]
pub(super) struct Suspected {
    /// What explained the point's severity before; none where nothing has changed.
    before: Option<Option<Explanation>>,
    /// Of causes that hold.
    pub(super) holding: Vec<Observation>,
    /// Of those that do not.
    over: Vec<Observation>,
}

impl Pipeline {
    /// Takes what a live window says of the cause, with how it was judged; none where nobody looked.
    ///
    /// What is to be observed of causes comes back: those that hold are told before what they explain, so that it
    /// is raised with its cause, and those that are over after it, so that it is cleared with its cause.
    pub(super) fn suspect(
        &mut self,
        series: &SeriesKey,
        interval_ns: i64,
        end: EventTime,
        assessment: &Assessment,
        outcome: Option<Outcome>,
    ) -> Suspected {
        let outcome = weigh(outcome, assessment);
        let is_known = self.state.diagnoses.contains_key(series);
        let mut suspected = Suspected::default();
        if !is_known && matches!(outcome, None | Some(Outcome::Quiet)) {
            return suspected; // Nothing is suspected and nothing was: the normal case costs nothing more.
        }
        suspected.before = Some(self.explanation(&series.asset, &series.point));
        let diagnosed = self.state.diagnoses.entry(series.clone()).or_default();
        for held in diagnosed.handle_window(end, interval_ns, outcome.as_ref(), assessment) {
            let observation = Observation {
                channel: series.channel.clone(),
                cause: Cause::Suspected(held.cause),
                at: end,
                held: held.level,
                is_seen: held.suspicion.is_some(),
                evidence: held.suspicion.map(|suspicion| Evidence::Orders {
                    channel: series.channel.clone(),
                    suspicion,
                }),
            };
            match observation.held {
                Level::Normal => suspected.over.push(observation),
                _ => suspected.holding.push(observation),
            }
        }
        if diagnosed.forget_idle() {
            self.state.diagnoses.remove(series);
        }
        suspected
    }

    /// Tells severity again that stands for longer than this window, where something else explains it now.
    pub(super) fn explain(&mut self, series: &SeriesKey, end: EventTime, suspected: Suspected) {
        for observation in suspected.over {
            self.notice(series, observation);
        }
        let Some(before) = suspected.before else {
            return;
        };
        let is_older = |standing: &Advisory| standing.raised < end;
        self.explain_anew(&series.asset, &series.point, before.as_ref(), is_older);
    }

    /// Tells the severity of a point again that `is_meant`, where something else explains it than before.
    pub(super) fn explain_anew(
        &mut self,
        asset: &str,
        point: &str,
        before: Option<&Explanation>,
        is_meant: impl Fn(&Advisory) -> bool,
    ) {
        let after = self.explanation(asset, point);
        if is_other(before, after.as_ref()) {
            self.retell(asset, point, |standing| {
                standing.cause == Cause::Severity && is_meant(standing)
            });
        }
    }

    /// The channel is watched no more, or was worked on: what was suspected of it is over.
    pub(super) fn forget_diagnosis(&mut self, series: &SeriesKey, at: EventTime) {
        let before = self.explanation(&series.asset, &series.point);
        let Some(diagnosed) = self.state.diagnoses.remove(series) else {
            return;
        };
        for cause in diagnosed.causes() {
            self.conclude(series, Cause::Suspected(cause), at);
        }
        self.explain_anew(&series.asset, &series.point, before.as_ref(), |_| true);
    }
}

/// Whether something else is suspected; why nothing can be told may change from window to window.
fn is_other(before: Option<&Explanation>, after: Option<&Explanation>) -> bool {
    match (before, after) {
        (Some(Explanation::Undetermined(_)), Some(Explanation::Undetermined(_))) => false,
        (before, after) => before != after,
    }
}
