//! From what windows say of a shaft and what hangs on it to advisories of what may be wrong.
//!
//! A window is examined when one of its features is close to the limit from which on a person is told: a healthy
//! machine costs nothing. What windows say together is told while the condition holds that it explains, as bad
//! as that is, and never without it.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | what windows said | one entry for each channel of the fleet in force of which something was said lately | it is forgotten with the last thing that was said |

use super::Pipeline;
use super::condition::Conditions;
use crate::advisory::{Advisory, Cause, Evidence, Explanation, Observation};
use crate::fleet::ChannelSite;
use crate::state::SeriesKey;
use serde::{Deserialize, Serialize};
use trunnion_common::feature::FeatureKind;
use trunnion_common::level::{Latch, Level};
use trunnion_common::monitor::{Assessment, Condition, Judged};
use trunnion_common::operating::Operating;
use trunnion_common::time::EventTime;
use trunnion_diagnosis::diagnosis::{self, Outcome, Persistence, Train, Undetermined};

/// When a window is examined, and with what.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Examination {
    train: Train,
    /// A feature above one of these makes it worth it.
    limits: Vec<(FeatureKind, f32)>,
}

impl Examination {
    /// Whether a window of those values is worth it.
    pub(super) fn is_worth(&self, values: &[(FeatureKind, f32)]) -> bool {
        let exceeds = |&(kind, limit): &(FeatureKind, f32)| {
            let value = values.iter().find(|(known, _)| *known == kind);
            value.is_some_and(|(_, value)| *value > limit)
        };
        self.limits.iter().any(exceeds)
    }

    /// What hangs on the shaft.
    pub(super) const fn train(&self) -> &Train {
        &self.train
    }
}

impl Conditions {
    /// When a window of the channel is examined; none where there is nothing to look for.
    pub(super) fn examination(&self, site: &ChannelSite, operating: &Operating) -> Option<Examination> {
        let settings = site.monitor.as_ref()?;
        let regime = settings.regimes.regime(operating);
        let in_force = self.limits(&site.series, Level::Alert, regime, settings);
        // A level is held until the value is a little below its limit, and so long it is looked for the cause.
        let worth = |limit: f32| Latch::HYSTERESIS * limit;
        let velocity = in_force
            .iter()
            .find(|in_force| in_force.condition == Condition::Severity)
            .map(|in_force| worth(in_force.limit));
        // Wheels with teeth show in the acceleration, whichever of its features says so.
        let limits = in_force
            .iter()
            .filter(|in_force| in_force.condition == Condition::Severity || site.train.teeth.is_some())
            .map(|in_force| (in_force.kind, worth(in_force.limit)));
        let limits: Vec<_> = limits.collect();
        (!limits.is_empty()).then(|| Examination {
            train: Train {
                limit_mm_s: velocity.map(f64::from),
                ..site.train
            },
            limits,
        })
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

/// What the last windows of a channel said.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Diagnosed {
    persistence: Persistence,
    /// Where the last window ended.
    end: Option<EventTime>,
}

impl Diagnosed {
    /// Why the cause of what holds cannot be told, where it cannot.
    pub(super) fn undetermined(&self) -> Option<Undetermined> {
        self.persistence.undetermined()
    }

    /// Takes what a window says; windows between the last one and this one that never came keep their places.
    fn handle_window(&mut self, end: EventTime, interval_ns: i64, outcome: Option<&Outcome>) {
        let missed = self
            .end
            .map_or(0, |last| end.nanos_since(last) / interval_ns.max(1) - 1);
        self.persistence.handle_gap(missed.max(0).unsigned_abs());
        self.end = self.end.max(Some(end));
        self.persistence.handle_window(outcome);
    }
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
        let is_judged = assessment
            .judged
            .iter()
            .any(|judged| judged.condition != Condition::Instrument && judged.reached.is_some());
        let outcome = outcome
            .filter(|_| is_judged)
            .map(|outcome| within(outcome, assessment));
        let is_known = self.state.diagnoses.contains_key(series);
        let mut suspected = Suspected::default();
        if !is_known && matches!(outcome, None | Some(Outcome::Quiet)) {
            return suspected; // Nothing is suspected and nothing was: the normal case costs nothing more.
        }
        suspected.before = Some(self.explanation(&series.asset, &series.point));
        let diagnosed = self.state.diagnoses.entry(series.clone()).or_default();
        diagnosed.handle_window(end, interval_ns, outcome.as_ref());
        for (cause, holds) in diagnosed.persistence.causes().filter(|_| is_judged) {
            let explained = worst_explained(cause, assessment, |judged| Some(judged.held));
            let suspicion = match &outcome {
                Some(Outcome::Suspected(suspicion)) if suspicion.cause == cause => Some(suspicion.clone()),
                _ => None,
            };
            let observation = Observation {
                channel: series.channel.clone(),
                cause: Cause::Suspected(cause),
                at: end,
                held: explained.filter(|_| holds).unwrap_or_default(),
                is_seen: suspicion.is_some(),
                evidence: suspicion.map(|suspicion| Evidence::Orders {
                    channel: series.channel.clone(),
                    suspicion,
                }),
            };
            match observation.held {
                Level::Normal => suspected.over.push(observation),
                _ => suspected.holding.push(observation),
            }
        }
        if diagnosed.persistence.forget_idle() {
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
        let causes: Vec<_> = diagnosed.persistence.causes().collect();
        for (cause, _) in causes {
            self.conclude(series, Cause::Suspected(cause), at);
        }
        self.explain_anew(&series.asset, &series.point, before.as_ref(), |_| true);
    }
}

/// What a window says as far as it reaches the level of what that would explain: below, nothing is wrong.
fn within(outcome: Outcome, assessment: &Assessment) -> Outcome {
    let reaches = |cause| worst_explained(cause, assessment, |judged| judged.reached) > Some(Level::Normal);
    let is_worth = match &outcome {
        Outcome::Suspected(suspicion) => reaches(suspicion.cause),
        Outcome::Undetermined(_) => reaches(diagnosis::Cause::Unbalance),
        Outcome::Quiet => true,
    };
    if is_worth { outcome } else { Outcome::Quiet }
}

/// The worst level of the conditions that a cause explains.
fn worst_explained(
    cause: diagnosis::Cause,
    assessment: &Assessment,
    level: impl Fn(&Judged) -> Option<Level>,
) -> Option<Level> {
    let explains = |judged: &&Judged| match judged.condition {
        Condition::Severity => true,
        Condition::Deviation(_) => !cause.shows_in_velocity(),
        Condition::Instrument
        | Condition::Bearing(_)
        | Condition::Suspected(_)
        | Condition::Unusual
        | Condition::UnusualTogether => false,
    };
    assessment.judged.iter().filter(explains).filter_map(level).max()
}

/// Whether something else is suspected; why nothing can be told may change from window to window.
fn is_other(before: Option<&Explanation>, after: Option<&Explanation>) -> bool {
    match (before, after) {
        (Some(Explanation::Undetermined(_)), Some(Explanation::Undetermined(_))) => false,
        (before, after) => before != after,
    }
}
