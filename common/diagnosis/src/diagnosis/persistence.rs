//! Which causes hold, by the last windows of a channel. Pure.

use super::{Cause, Outcome, Undetermined};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trunnion_common::level::{Latch, Level, Persistence as Agreement};

/// The last windows of a channel: a cause holds from 3 of 5 on, and until at most 1 of 10 decided ones
/// suspects it, as every other condition does ([`Latch`]). State of a checkpoint.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Persistence {
    /// Of causes that one of the last windows suspected.
    causes: BTreeMap<Cause, Latch>,
    undetermined: Latch,
    /// Why the last of them could not be told.
    reason: Option<Undetermined>,
}

impl Persistence {
    /// Takes what the next window says, in the order of event time; none where nobody looked at it, which
    /// supports nothing and clears nothing.
    pub fn handle_window(&mut self, outcome: Option<&Outcome>) {
        if let Some(Outcome::Suspected(suspicion)) = outcome {
            self.causes.entry(suspicion.cause).or_default();
        }
        let reached = |is_said: bool| {
            outcome.map(|_| match is_said {
                true => Level::Alert,
                false => Level::Normal,
            })
        };
        for (cause, latch) in &mut self.causes {
            let is_said = matches!(outcome, Some(Outcome::Suspected(said)) if said.cause == *cause);
            latch.handle_window(reached(is_said), Agreement::default());
        }
        let is_undetermined = match outcome {
            Some(Outcome::Undetermined(reason)) => {
                self.reason = Some(*reason);
                true
            }
            _ => false,
        };
        self.undetermined
            .handle_window(reached(is_undetermined), Agreement::default());
    }

    /// So many windows never came: each keeps its place and supports nothing.
    pub fn handle_gap(&mut self, windows: u64) {
        let latches = self.causes.values_mut();
        for latch in latches.chain([&mut self.undetermined]) {
            latch.handle_gap(windows);
        }
    }

    /// Causes that one of the last windows suspected, and whether they hold.
    pub fn causes(&self) -> impl Iterator<Item = (Cause, bool)> {
        self.causes
            .iter()
            .map(|(cause, latch)| (*cause, latch.held() != Level::Normal))
    }

    /// Why the cause cannot be told, where that holds and no cause does.
    pub fn undetermined(&self) -> Option<Undetermined> {
        let is_known = self.causes().any(|(_, holds)| holds);
        let holds = !is_known && self.undetermined.held() != Level::Normal;
        self.reason.filter(|_| holds)
    }

    /// Forgets causes that no window suspects any more; whether nothing is left to remember.
    pub fn forget_idle(&mut self) -> bool {
        self.causes.retain(|_, latch| !latch.is_idle());
        self.causes.is_empty() && self.undetermined.is_idle()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Suspicion;
    use super::*;

    /// Windows by letter: `u` unbalance, `l` looseness, `?` undetermined, `.` quiet, `-` not looked at. Says what
    /// holds after each: the same letters, and `.` for nothing.
    fn held(windows: &str) -> String {
        let suspected = |cause| {
            Some(Outcome::Suspected(Suspicion {
                cause,
                score: 0.9,
                lines: Vec::new(),
                band_hz: (5.0, 1_000.0),
            }))
        };
        let mut last = Persistence::default();
        let say = |letter| match letter {
            'u' => suspected(Cause::Unbalance),
            'l' => suspected(Cause::Looseness),
            '?' => Some(Outcome::Undetermined(Undetermined::LikeNone)),
            '.' => Some(Outcome::Quiet),
            _ => None,
        };
        let letters = windows.chars().map(|letter| {
            last.handle_window(say(letter).as_ref());
            last.forget_idle();
            let holds: Vec<_> = last.causes().filter(|(_, holds)| *holds).collect();
            match (holds.first(), last.undetermined()) {
                (Some((Cause::Unbalance, _)), _) => 'u',
                (Some(_), _) => 'l',
                (None, Some(_)) => '?',
                (None, None) => '.',
            }
        });
        letters.collect()
    }

    fn check(windows: &str, expected: &str) {
        assert_eq!(held(windows), expected, "after {windows}");
    }

    #[test]
    fn three_of_five_windows_must_agree() {
        check("uu...uu..", ".........");
        check("u.u.u", "....u");
        check("ulul", "....");
        check("uu-?u", "....u");
    }

    #[test]
    fn a_cause_is_over_when_one_of_ten_decided_windows_suspects_it_at_most() {
        check("uuu..........", "..uuuuuuuuuu.");
        check("uuu----..........", "..uuuuuuuuuuuuuu.");
    }

    #[test]
    fn undetermined_is_said_where_no_cause_holds() {
        check("???", "..?");
        check("uuu???", "..uuuu");
    }

    #[test]
    fn what_was_before_an_outage_does_not_add_up() {
        let suspicion = Suspicion {
            cause: Cause::Unbalance,
            score: 0.9,
            lines: Vec::new(),
            band_hz: (5.0, 1_000.0),
        };
        let outcome = Outcome::Suspected(suspicion);
        let mut last = Persistence::default();
        last.handle_window(Some(&outcome));
        last.handle_window(Some(&outcome));
        last.handle_gap(1_000);
        last.handle_window(Some(&outcome));
        assert_eq!(last.causes().collect::<Vec<_>>(), [(Cause::Unbalance, false)]);
    }

    #[test]
    fn a_quiet_channel_takes_no_room() {
        let mut last = Persistence::default();
        last.handle_window(Some(&Outcome::Quiet));
        assert!(last.forget_idle());
        let bytes = postcard::to_stdvec(&last).unwrap();
        assert_eq!(postcard::from_bytes(&bytes), Ok(last));
    }
}
