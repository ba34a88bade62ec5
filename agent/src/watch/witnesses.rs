//! What the witnesses of watched machines said last.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | witnesses | three of each channel watched | there are no more |
//! | readings of each | [`READINGS_MAX`](trunnion_common::operation::READINGS_MAX) | the oldest makes room |

use super::{Name, Plan};
use std::collections::BTreeMap;
use std::time::Duration;
use trunnion_common::operating::Operating;
use trunnion_common::operation::{Operation, Recent, Witness};
use trunnion_common::quantity::Unit;
use trunnion_common::time::EventTime;
use trunnion_common::watch::Watch;

/// The witnesses that anything watched names, with what they said.
#[derive(Debug, Default)]
pub(super) struct Witnesses(BTreeMap<Name, (Witness, Box<Recent>)>);

impl Witnesses {
    /// Hears those that a plan names from now on. Of those that are named still, what was heard counts.
    pub(super) fn configure(&mut self, plan: &Plan) {
        let named = plan.values().flat_map(|watch| watch.operation.witnesses());
        let named: BTreeMap<Name, Witness> = named.map(|witness| (witness.name(), *witness)).collect();
        self.0
            .retain(|name, (known, _)| named.get(name).is_some_and(|witness| witness == known));
        for (name, witness) in named {
            self.0.entry(name).or_insert_with(|| (witness, Box::default()));
        }
    }

    /// Takes readings of a channel, in the unit of its node.
    pub(super) fn note(&mut self, name: Name, unit: Unit, readings: impl Iterator<Item = (EventTime, f32)>) {
        let Some((witness, recent)) = self.0.get_mut(&name) else {
            return;
        };
        // A channel that measures something else tells nothing.
        let Some(factor) = unit.factor_to(witness.unit) else {
            return;
        };
        let gain = witness.gain * factor;
        for (time, value) in readings.filter(|(_, value)| value.is_finite()) {
            // A node repeats no frame so late: the clock was ahead, and was set back.
            if recent.is_beyond(time) {
                **recent = Recent::default();
            }
            recent.note(time, (f64::from(value) * gain) as f32);
        }
    }

    /// How the machine of a watched channel was operated at a time.
    pub(super) fn operating(&self, watch: &Watch, at: EventTime) -> Operating {
        let operation = &watch.operation;
        let reading = |name| self.0.get(&name)?.1.at(at, operation.fresh_ns);
        operation.operating(watch.speed_hz, reading)
    }

    fn have_spoken(&self, operation: &Operation) -> bool {
        let recent = |witness: &Witness| self.0.get(&witness.name());
        let mut recent = operation.witnesses().map(recent);
        recent.all(|known| known.is_some_and(|(_, recent)| !recent.is_empty()))
    }
}

/// How long windows wait for a witness at most: one that comes through another gateway is never heard, and a
/// machine must not stay unjudged for it.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// After a start nobody has heard how the machine is operated: its windows wait for the first word of each
/// witness, as long as a reading counts, and [`WAIT_MAX`] at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Waiting {
    /// No window has closed yet.
    #[default]
    NotYet,
    /// Since then, by the monotonic clock.
    Since(Duration),
    /// They have spoken, or had time to.
    Over,
}

impl Waiting {
    /// Whether a window that closed at `closed` comes too early.
    pub(super) fn is_early(
        &mut self,
        witnesses: &Witnesses,
        operation: &Operation,
        closed: Duration,
    ) -> bool {
        let since = match *self {
            Self::Over => return false,
            Self::Since(since) => since,
            Self::NotYet => closed,
        };
        let fresh = Duration::from_nanos(operation.fresh_ns.max(0).unsigned_abs());
        let waited = closed.saturating_sub(since);
        let is_early = !witnesses.have_spoken(operation) && waited < fresh.min(WAIT_MAX);
        *self = if is_early { Self::Since(since) } else { Self::Over };
        is_early
    }
}
