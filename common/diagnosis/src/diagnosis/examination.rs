//! When a window is examined, and what the windows of a channel say together of the conditions that they explain.
//! Pure.
//!
//! A window is examined when one of its features is close to the limit from which on a person is told: a healthy
//! machine costs nothing. What windows say together is told while the condition holds that it explains, as bad
//! as that is, and never without it.

use super::{Cause, Outcome, Persistence, Suspicion, Train, Undetermined};
use serde::{Deserialize, Serialize};
use trunnion_common::feature::FeatureKind;
use trunnion_common::level::{Latch, Level};
use trunnion_common::monitor::{Assessment, Condition, InForce, Judged};
use trunnion_common::time::EventTime;

/// When a window is examined, and with what.
#[derive(Clone, PartialEq, Debug)]
pub struct Examination {
    train: Train,
    /// A feature above one of these makes it worth it.
    limits: Vec<(FeatureKind, f32)>,
}

impl Examination {
    /// By the ALERT limits in force, severity's first; none where there is nothing to look for.
    pub fn new(in_force: &[InForce], train: &Train) -> Option<Self> {
        // A level is held until the value is a little below its limit, and so long it is looked for the cause.
        let worth = |limit: f32| Latch::HYSTERESIS * limit;
        let velocity = in_force
            .iter()
            .find(|in_force| in_force.condition == Condition::Severity)
            .map(|in_force| worth(in_force.limit));
        // Wheels with teeth show in the acceleration, whichever of its features says so.
        let limits = in_force
            .iter()
            .filter(|in_force| in_force.condition == Condition::Severity || train.teeth.is_some())
            .map(|in_force| (in_force.kind, worth(in_force.limit)));
        let limits: Vec<_> = limits.collect();
        (!limits.is_empty()).then(|| Self {
            train: Train {
                limit_mm_s: velocity.map(f64::from),
                ..*train
            },
            limits,
        })
    }

    /// Whether a window of those values is worth it.
    pub fn is_worth(&self, values: &[(FeatureKind, f32)]) -> bool {
        let exceeds = |&(kind, limit): &(FeatureKind, f32)| {
            let value = values.iter().find(|(known, _)| *known == kind);
            value.is_some_and(|(_, value)| *value > limit)
        };
        self.limits.iter().any(exceeds)
    }

    /// What hangs on the shaft.
    pub const fn train(&self) -> &Train {
        &self.train
    }
}

/// What the last windows of a channel said.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Diagnosed {
    persistence: Persistence,
    /// Where the last window ended.
    end: Option<EventTime>,
}

/// How a cause stands after a window.
#[derive(Clone, PartialEq, Debug)]
pub struct Held {
    /// Which.
    pub cause: Cause,
    /// As bad as what it explains; normal where it does not hold.
    pub level: Level,
    /// What this window shows of it, if it does.
    pub suspicion: Option<Suspicion>,
}

impl Diagnosed {
    /// Takes what a window says, as [weighed](weigh) by how it was judged; how each cause stands that one of the last
    /// windows suspected. Windows between the last one and this one that never came keep their places.
    pub fn handle_window(
        &mut self,
        end: EventTime,
        interval_ns: i64,
        outcome: Option<&Outcome>,
        assessment: &Assessment,
    ) -> Vec<Held> {
        let missed = self
            .end
            .map_or(0, |last| end.nanos_since(last) / interval_ns.max(1) - 1);
        self.persistence.handle_gap(missed.max(0).unsigned_abs());
        self.end = self.end.max(Some(end));
        self.persistence.handle_window(outcome);
        let causes = self.persistence.causes().filter(|_| is_judged(assessment));
        let held = causes.map(|(cause, holds)| Held {
            cause,
            level: worst_explained(cause, assessment, |judged| Some(judged.held))
                .filter(|_| holds)
                .unwrap_or_default(),
            suspicion: match outcome {
                Some(Outcome::Suspected(suspicion)) if suspicion.cause == cause => Some(suspicion.clone()),
                _ => None,
            },
        });
        held.collect()
    }

    /// Why the cause of what holds cannot be told, where it cannot.
    pub fn undetermined(&self) -> Option<Undetermined> {
        self.persistence.undetermined()
    }

    /// Causes that one of the last windows suspected.
    pub fn causes(&self) -> impl Iterator<Item = Cause> {
        self.persistence.causes().map(|(cause, _)| cause)
    }

    /// Forgets causes that no window suspects any more; whether nothing is left to remember.
    pub fn forget_idle(&mut self) -> bool {
        self.persistence.forget_idle()
    }
}

/// Whether a window was judged by any limit.
pub fn is_judged(assessment: &Assessment) -> bool {
    let is_judged = |judged: &Judged| judged.condition != Condition::Instrument && judged.reached.is_some();
    assessment.judged.iter().any(is_judged)
}

/// What a window says, of one that was judged and as far as it reaches the level of what that would explain: below,
/// nothing is wrong.
pub fn weigh(outcome: Option<Outcome>, assessment: &Assessment) -> Option<Outcome> {
    let outcome = outcome.filter(|_| is_judged(assessment))?;
    let reaches = |cause| worst_explained(cause, assessment, |judged| judged.reached) > Some(Level::Normal);
    let is_worth = match &outcome {
        Outcome::Suspected(suspicion) => reaches(suspicion.cause),
        Outcome::Undetermined(_) => reaches(Cause::Unbalance),
        Outcome::Quiet => true,
    };
    Some(if is_worth { outcome } else { Outcome::Quiet })
}

/// The worst level of the conditions that a cause explains.
fn worst_explained(
    cause: Cause,
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
