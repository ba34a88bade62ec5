//! What the spectra of a watched channel show: features that are judged by their limits and the baseline, the point's
//! own bands among them, and what is suspected of a shaft and of what hangs on it. Pure; the spectra are looked at
//! where windows are searched ([`super::search`]).
//!
//! What only a spectrum tells has a [`Monitor`] of its own, since it comes after the rest of its window was judged.
//!
//! A stretch is examined when one of its features is near its limit, and weighed by how it was judged: what the last
//! ones say together ([`Diagnosed`]) holds while a condition does that it explains, as bad as that is.

use super::search::Change;
use std::collections::BTreeMap;
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::definition::Basis;
use trunnion_common::feature::statistics::Statistics;
use trunnion_common::level::{Latch, Level};
use trunnion_common::monitor::{Assessment, Condition, Judged, Monitor, Settings, Watched, Window};
use trunnion_common::operating::Operating;
use trunnion_common::shaft::Cause;
use trunnion_common::time::EventTime;
use trunnion_common::watch::{Lines, SpectrumWatch, Watch};
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
    /// At the declared speed of the shaft.
    pub(super) basis: Basis,
    /// Whether features that only spectra tell are judged.
    pub(super) is_measured: bool,
    /// Features of the window.
    pub(super) values: Vec<(FeatureKind, f32)>,
    /// In the time domain.
    pub(super) statistics: Option<Statistics>,
    /// How its machine was operated.
    pub(super) operating: Operating,
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
    /// Features that only spectra tell.
    measured: Vec<(FeatureKind, f32)>,
    statistics: Option<Statistics>,
    operating: Operating,
    assessment: Assessment,
}

impl Examining {
    /// What its spectra say; `measured` is what was measured of it by the way.
    pub(super) fn run(
        self,
        analyzer: &mut Analyzer,
        (samples, coverage): (&[f32], f32),
        measured: &[(FeatureKind, f32)],
    ) -> Examined {
        let is_enough = coverage >= MINIMUM_COVERAGE;
        let examination = self.examination.filter(|_| is_enough);
        let measured = measured
            .iter()
            .filter(|(kind, _)| is_enough && is_spectral(*kind));
        let measured: Vec<_> = measured.copied().collect();
        let values = [&self.values[..], &measured].concat();
        let is_examined = examination
            .as_ref()
            .is_some_and(|examination| examination.is_worth(&values));
        // What hangs on the shaft is looked for at the speed that it had.
        let basis = Basis {
            shaft_hz: self.operating.speed_hz.map_or(self.basis.shaft_hz, f64::from),
            ..self.basis
        };
        let outcome = examination.map(|examination| match is_examined {
            true => analyzer.examine(samples, &basis, examination.train()),
            false => Outcome::Quiet,
        });
        Examined {
            outcome,
            is_examined,
            measured,
            statistics: self.statistics.filter(|_| is_enough),
            operating: self.operating,
            assessment: self.assessment,
        }
    }
}

/// Whether a feature of a vibration takes a spectrum, or an envelope: others are judged when the window closes.
pub(super) const fn is_spectral(kind: FeatureKind) -> bool {
    !matches!(
        kind,
        FeatureKind::Mean
            | FeatureKind::Rms
            | FeatureKind::Peak
            | FeatureKind::PeakToPeak
            | FeatureKind::CrestFactor
            | FeatureKind::KurtosisExcess
            | FeatureKind::Skewness
            | FeatureKind::VelocityRms
    )
}

/// What is looked for in the spectra of one channel, and what is suspected there.
#[derive(Debug)]
pub(super) struct ShaftHunt {
    pub(super) spectra: SpectrumWatch,
    pub(super) train: Train,
    /// What judges the features that only spectra tell, and by what; none where none is watched.
    monitor: Option<(Monitor, Settings)>,
    /// Whether anything is judged that a cause may explain.
    is_limited: bool,
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
    /// Beside how the channel is watched, with a monitor of that which has judged nothing yet.
    pub(super) fn new(spectra: SpectrumWatch, watch: &Watch, monitor: Monitor) -> Self {
        let normals = || watch.baselines.iter().flat_map(|(_, normals, _)| normals);
        // What there is nothing to compare with need not be measured.
        let is_judged = |watched: &&Watched| {
            let is_learned = || normals().any(|normal| normal.kind == watched.kind);
            is_spectral(watched.kind) && (watched.absolute.is_some() || is_learned())
        };
        let watched = watch.settings.watched.iter().filter(is_judged);
        let settings = Settings {
            severity: None,
            watched: watched.copied().collect(),
            ..watch.settings.clone()
        };
        let Settings {
            severity, watched, ..
        } = &watch.settings;
        let has_wheel = spectra.teeth.is_some() && !watched.is_empty();
        Self {
            is_limited: severity.is_some() || has_wheel,
            monitor: (!settings.watched.is_empty()).then_some((monitor, settings)),
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

    /// Whether features are judged that only spectra tell.
    pub(super) const fn is_measured(&self) -> bool {
        self.monitor.is_some()
    }

    /// Whether there is nothing to look for.
    pub(super) const fn is_idle(&self) -> bool {
        !self.is_limited && !self.is_measured()
    }

    /// Judges what a window's spectra tell; how those features stand, and whether that could be decided.
    pub(super) fn judge(
        &mut self,
        (start, end): (EventTime, EventTime),
        examined: &Examined,
    ) -> (Vec<Judged>, bool) {
        let Some((monitor, settings)) = &mut self.monitor else {
            return (Vec::new(), false);
        };
        let window = Window {
            start,
            end,
            is_decided: examined.statistics.is_some(),
            statistics: examined.statistics.as_ref(),
            values: &examined.measured,
        };
        let assessment = monitor.handle_window(&window, &examined.operating, settings);
        let is_feature = |judged: &&Judged| matches!(judged.condition, Condition::Deviation(_));
        let judged = assessment.judged.iter().filter(is_feature).copied();
        (judged.collect(), window.is_decided)
    }

    /// Takes what a window says, and how features stand that only its spectra tell; what has changed with it. Once enough
    /// windows have been judged, it is also told what does not hold: a former start of the agent may have told that it
    /// does.
    pub(super) fn handle_window(
        &mut self,
        end: EventTime,
        interval_ns: i64,
        examined: &Examined,
        spectral: &[Judged],
    ) -> Vec<Change> {
        let mut assessment = examined.assessment.clone();
        // There is a place for each feature that is watched.
        assessment.judged.extend(spectral.iter().copied());
        let assessment = &assessment;
        let outcome = weigh(examined.outcome.clone(), assessment);
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

    fn watch() -> Watch {
        Watch {
            settings: Settings::default(),
            gain: 1.0,
            speed_hz: Some(25.0),
            baselines: Default::default(),
            operation: Default::default(),
            slow: None,
        }
    }

    /// Windows of a second: what each shows (`u` unbalance, `.` nothing, `-` not looked at), and the level of severity
    /// that is held and reached with it (`a` ALERT, `l` ALARM, `.` normal). What has changed after each: the level's
    /// letter, `o` when it is over, `-` when nothing has.
    fn changes(windows: &str, levels: &str) -> String {
        let mut hunt = ShaftHunt::new(spectra(), &watch(), Monitor::default());
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
                    outcome,
                    is_examined: true,
                    measured: Vec::new(),
                    statistics: None,
                    operating: Operating::default(),
                    assessment,
                };
                let end = EventTime((second as i64 + 1) * 1_000_000_000);
                let is_held = hunt.standing.contains_key(&Cause::Unbalance);
                let changes = hunt.handle_window(end, 1_000_000_000, &examined, &[]);
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
        let mut hunt = ShaftHunt::new(spectra(), &watch(), Monitor::default());
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
                    measured: Vec::new(),
                    statistics: None,
                    operating: Operating::default(),
                    assessment: assessment.clone(),
                };
                let end = EventTime(second * 1_000_000_000);
                hunt.handle_window(end, 1_000_000_000, &examined, &[]).len()
            })
            .collect();
        assert_eq!(told, [0, 0, 0, 0, 0, 0, 0, 0, 0, Cause::ALL.len(), 0, 0]);
    }
}
