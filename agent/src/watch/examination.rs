//! What is suspected of a shaft, and of what hangs on it, at a watched channel. Pure; the spectra are looked at where
//! windows are searched ([`super::search`]).
//!
//! A stretch is examined when one of its features is near its limit, and weighed by how it was judged: what the last
//! ones say together ([`Diagnosed`]) holds while a condition does that it explains, as bad as that is.

use super::search::Change;
use std::collections::BTreeMap;
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::definition::Basis;
use trunnion_common::level::{Latch, Level};
use trunnion_common::monitor::{Assessment, Condition};
use trunnion_common::shaft::Cause;
use trunnion_common::time::EventTime;
use trunnion_common::watch::{Lines, SpectrumWatch};
use trunnion_diagnosis::detection::MINIMUM_COVERAGE;
use trunnion_diagnosis::diagnosis::{
    Diagnosed, Examination, Held, Outcome, Suspicion, Train, is_judged, weigh,
};
use trunnion_diagnosis::features::Analyzer;

/// A window that is to be examined, if it is worth it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Examining {
    /// When it is examined; none where there is nothing to look for.
    pub(super) examination: Option<Examination>,
    pub(super) basis: Basis,
    /// Features of the window.
    pub(super) values: Vec<(FeatureKind, f32)>,
    /// How it was judged.
    pub(super) assessment: Assessment,
}

/// What came of it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Examined {
    /// What the window says; none where nobody looked.
    pub(super) outcome: Option<Outcome>,
    /// Whether that took an examination.
    pub(super) is_examined: bool,
    assessment: Assessment,
}

impl Examining {
    pub(super) fn run(self, analyzer: &mut Analyzer, samples: &[f32], coverage: f32) -> Examined {
        let examination = self.examination.filter(|_| coverage >= MINIMUM_COVERAGE);
        let is_examined = examination
            .as_ref()
            .is_some_and(|examination| examination.is_worth(&self.values));
        let outcome = examination.map(|examination| match is_examined {
            true => analyzer.examine(samples, &self.basis, examination.train()),
            false => Outcome::Quiet,
        });
        Examined {
            outcome: weigh(outcome, &self.assessment),
            is_examined,
            assessment: self.assessment,
        }
    }
}

/// What is looked for in the spectra of one channel, and what is suspected there.
#[derive(Debug)]
pub(super) struct ShaftHunt {
    pub(super) spectra: SpectrumWatch,
    pub(super) train: Train,
    diagnosed: Diagnosed,
    standing: BTreeMap<Cause, Standing>,
    /// Judged windows since it began, no more than matter.
    decided: usize,
    is_told: bool,
}

/// A cause that is held.
#[derive(Debug)]
struct Standing {
    level: Level,
    raised: EventTime,
    suspicion: Suspicion,
}

impl ShaftHunt {
    pub(super) fn new(spectra: SpectrumWatch) -> Self {
        Self {
            train: Train {
                teeth: spectra.teeth,
                blades: spectra.blades,
                line_hz: spectra.line_hz,
                axial: spectra.axial,
                // By what is judged when a window comes.
                limit_mm_s: None,
            },
            spectra,
            diagnosed: Diagnosed::default(),
            standing: BTreeMap::new(),
            decided: 0,
            is_told: false,
        }
    }

    /// Takes what a window says; what has changed with it. Once enough windows have been judged, it is also told what
    /// does not hold: a former start of the agent may have told that it does.
    pub(super) fn handle_window(
        &mut self,
        end: EventTime,
        interval_ns: i64,
        examined: &Examined,
    ) -> Vec<Change> {
        let Examined {
            outcome, assessment, ..
        } = examined;
        let held = self
            .diagnosed
            .handle_window(end, interval_ns, outcome.as_ref(), assessment);
        let mut changes: Vec<Change> = held
            .into_iter()
            .filter_map(|held| self.follow(end, held))
            .collect();
        self.diagnosed.forget_idle();
        self.decided += usize::from(!self.is_told && is_judged(assessment));
        if !self.is_told && self.decided >= Latch::CLEAR_WINDOWS {
            self.is_told = true;
            let is_changed = |condition| changes.iter().any(|change| change.condition == condition);
            let sound = Cause::ALL.into_iter().filter(|cause| {
                !self.standing.contains_key(cause) && !is_changed(Condition::Suspected(*cause))
            });
            let sound: Vec<_> = sound.map(|cause| over(cause, end)).collect();
            changes.extend(sound);
        }
        changes
    }

    /// Keeps how a cause stands; what has changed.
    fn follow(&mut self, end: EventTime, held: Held) -> Option<Change> {
        let Held {
            cause,
            level,
            suspicion,
        } = held;
        if level == Level::Normal {
            let standing = self.standing.remove(&cause)?;
            return Some(over(cause, standing.raised));
        }
        match self.standing.get_mut(&cause) {
            Some(standing) if standing.level == level => return None,
            Some(standing) => {
                standing.level = level;
                standing.suspicion = suspicion.unwrap_or_else(|| standing.suspicion.clone());
            }
            None => {
                let standing = Standing {
                    level,
                    raised: end,
                    // It is told with the first window that shows it.
                    suspicion: suspicion?,
                };
                self.standing.insert(cause, standing);
            }
        }
        let standing = self.standing.get(&cause)?;
        Some(Change {
            condition: Condition::Suspected(cause),
            level,
            raised: standing.raised,
            lines: Some(Lines::Shaft(standing.suspicion.told())),
        })
    }

    /// What a cause that is held rests on.
    pub(super) fn lines(&self, cause: Cause) -> Option<Lines> {
        let standing = self.standing.get(&cause)?;
        Some(Lines::Shaft(standing.suspicion.told()))
    }
}

const fn over(cause: Cause, raised: EventTime) -> Change {
    Change {
        condition: Condition::Suspected(cause),
        level: Level::Normal,
        raised,
        lines: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::monitor::Judged;
    use trunnion_common::operating::{Regime, Run};
    use trunnion_common::severity::Zone;

    fn spectra() -> SpectrumWatch {
        SpectrumWatch {
            teeth: None,
            blades: None,
            line_hz: None,
            axial: false,
            band_hz: [1.0, 5_000.0],
            envelope_hz: None,
            bands: Default::default(),
        }
    }

    /// Windows of a second: what each shows (`u` unbalance, `.` nothing, `-` not looked at), and the level of severity
    /// that is held and reached with it (`a` ALERT, `l` ALARM, `.` normal). What has changed after each: the level's
    /// letter, `o` when it is over, `-` when nothing has.
    fn changes(windows: &str, levels: &str) -> String {
        let mut hunt = ShaftHunt::new(spectra());
        let told = windows
            .chars()
            .zip(levels.chars())
            .enumerate()
            .map(|(second, (window, level))| {
                let level = match level {
                    'a' => Level::Alert,
                    'l' => Level::Alarm,
                    _ => Level::Normal,
                };
                let severity = Judged {
                    condition: Condition::Severity,
                    held: level,
                    before: None,
                    reached: Some(level),
                    evidence: None,
                };
                let assessment = Assessment {
                    run: Some(Run::Steady),
                    regime: Regime::default(),
                    zone: Ok(Zone::C),
                    has_changed: false,
                    fault: None,
                    judged: [severity].into_iter().collect(),
                    stage: None,
                };
                let suspicion = Suspicion {
                    cause: Cause::Unbalance,
                    score: 0.9,
                    lines: Vec::new(),
                    band_hz: (5.0, 1_000.0),
                };
                let outcome = match window {
                    'u' => Some(Outcome::Suspected(suspicion)),
                    '.' => Some(Outcome::Quiet),
                    _ => None,
                };
                let examined = Examined {
                    outcome: weigh(outcome, &assessment),
                    is_examined: true,
                    assessment,
                };
                let end = EventTime((second as i64 + 1) * 1_000_000_000);
                let is_held = hunt.standing.contains_key(&Cause::Unbalance);
                let changes = hunt.handle_window(end, 1_000_000_000, &examined);
                let of_unbalance = |change: &&Change| {
                    change.condition == Condition::Suspected(Cause::Unbalance)
                        && (is_held || change.level > Level::Normal)
                };
                changes
                    .iter()
                    .find(of_unbalance)
                    .map_or('-', |change| match change.level {
                        Level::Normal => 'o',
                        Level::Alert => 'a',
                        _ => 'l',
                    })
            });
        told.collect()
    }

    fn check(windows: &str, levels: &str, expected: &str) {
        assert_eq!(changes(windows, levels), expected, "after {windows} at {levels}");
    }

    #[test]
    fn a_cause_is_as_bad_as_what_it_explains_and_over_with_it() {
        check("uuuuuuu", "aaaalll", "--a-l--");
        check("uuuuuuu", "aaaa...", "--a-o--");
        check("uuu..........", "aaaaaaaaaaaaa", "--a---------o");
    }

    #[test]
    fn below_the_limit_nothing_is_suspected() {
        check("uuuuu", ".....", "-----");
    }

    #[test]
    fn a_window_that_nobody_looked_at_supports_nothing_and_clears_nothing() {
        check("u-u-u", "aaaaa", "----a");
        check("uuu---------------", "aaaaaaaaaaaaaaaaaa", "--a---------------");
    }

    #[test]
    fn what_does_not_hold_is_told_once() {
        let mut hunt = ShaftHunt::new(spectra());
        let assessment = Assessment {
            run: Some(Run::Steady),
            regime: Regime::default(),
            zone: Ok(Zone::A),
            has_changed: false,
            fault: None,
            judged: [Judged {
                condition: Condition::Severity,
                held: Level::Normal,
                before: None,
                reached: Some(Level::Normal),
                evidence: None,
            }]
            .into_iter()
            .collect(),
            stage: None,
        };
        let told: Vec<usize> = (1..=12)
            .map(|second| {
                let examined = Examined {
                    outcome: Some(Outcome::Quiet),
                    is_examined: false,
                    assessment: assessment.clone(),
                };
                let end = EventTime(second * 1_000_000_000);
                hunt.handle_window(end, 1_000_000_000, &examined).len()
            })
            .collect();
        assert_eq!(told, [0, 0, 0, 0, 0, 0, 0, 0, 0, Cause::ALL.len(), 0, 0]);
    }
}
