//! The monitor of one direction at a measurement point: windows in, its condition out. Pure.
//!
//! ```text
//! window -> decided? -> runs, and steadily? -> the instrument? -> zone -> conditions -> learn
//! ```
//!
//! One code for the collector and the gateway's agent. A [`Monitor`] takes the features of each window with
//! what is known of the machine's operation, and answers with an [`Assessment`]: the run state, the zone or
//! why there is none, and each [`Condition`] with the level that is held, its evidence, and what it rests on.
//!
//! * Only steady windows raise, clear or teach anything. While the machine runs up, coasts down or stands
//!   still, and while the instrument is faulty, everything is held as it is.
//! * Severity is judged by the criterion; with an accepted baseline its ALERT follows the normal, without one
//!   the limits of the zones alone decide, and the evidence says so ([`Basis`]).
//! * A deviation of another feature is judged against entered limits, the accepted baseline, or both.
//! * Data that has ceased is a fault of the instrument ([`Monitor::handle_time`]).
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | regimes | [`REGIMES_MAX`] | windows of a further one are judged by absolute limits alone, and teach nothing |
//! | features watched | [`WATCHED_MAX`] | settings hold no more |

use crate::baseline::{Baseline, Minimum, Normal, Normals, Refusal, Stage, WATCHED_MAX};
use crate::bearing::Element;
use crate::feature::FeatureKind;
use crate::feature::statistics::Statistics;
use crate::instrument::{self, Expectation, Fault};
use crate::level::{Latch, Level, Persistence};
use crate::operating::{Gate, GateSettings, Operating, Regime, Regimes, Run};
use crate::quantity::Unit;
use crate::severity::{Criterion, NotGraded, Overall, Zone};
use crate::shaft::Cause;
use crate::time::EventTime;
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// Regimes with a baseline of their own.
pub const REGIMES_MAX: usize = 8;

/// Conditions of a monitor: severity, the features watched, and the instrument.
pub const CONDITIONS_MAX: usize = WATCHED_MAX + 2;

/// What a monitor judges by.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Severity by a standard or by entered limits; none: not graded.
    pub severity: Option<Severity>,
    /// Further features.
    pub watched: Vec<Watched, WATCHED_MAX>,
    /// How run states are told apart.
    pub gate: GateSettings,
    /// Operating regimes.
    pub regimes: Regimes,
    /// How many windows must agree.
    pub persistence: Persistence,
    /// What a baseline is proposed on; none: nothing is learned here.
    pub learning: Option<Minimum>,
    /// Full scale of the channel, in its unit.
    pub range: Option<f32>,
    /// From the end of one window to the end of the next, as expected, nanoseconds.
    pub interval_ns: i64,
}

impl Default for Settings {
    /// Nothing declared: windows of 1 s on end.
    fn default() -> Self {
        Self {
            severity: None,
            watched: Vec::new(),
            gate: GateSettings::default(),
            regimes: Regimes::default(),
            persistence: Persistence::default(),
            learning: Some(Minimum::default()),
            range: None,
            interval_ns: 1_000_000_000,
        }
    }
}

/// How severity is judged.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Severity {
    /// By what.
    pub criterion: Criterion,
    /// Which feature is the overall value.
    pub kind: FeatureKind,
    /// Its unit, as declared.
    pub unit: Option<Unit>,
    /// Its band, as declared, Hz.
    pub band_hz: Option<[f32; 2]>,
    /// A TRIP limit below that of the criterion.
    pub trip: Option<f32>,
}

impl Severity {
    fn trip(&self) -> f32 {
        let most = self.criterion.limits().trip();
        self.trip.map_or(most, |trip| trip.min(most))
    }

    /// From where on a level is reached, and whose limit that is.
    fn limit(&self, level: Level, normal: Option<f32>) -> (f32, Basis) {
        let limits = self.criterion.limits();
        match level {
            Level::Trip => (self.trip(), Basis::Absolute),
            Level::Alarm => (limits.cd(), Basis::Absolute),
            Level::Alert | Level::Normal => {
                let basis = normal.map_or(Basis::Absolute, |_| Basis::Baseline);
                (limits.alert(normal), basis)
            }
        }
    }
}

/// A feature that is watched, and from where on it is told of.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Watched {
    /// Which.
    pub kind: FeatureKind,
    /// ALERT and ALARM in its unit, whatever is normal.
    pub absolute: Option<[f32; 2]>,
    /// ALERT and ALARM against the normal, once there is an accepted one.
    pub relative: Option<Relative>,
}

impl Watched {
    /// From where on a level is reached, and whose limit that is: of two limits the lower one counts. None
    /// where there is nothing to compare with.
    fn limit(&self, level: Level, normal: Option<&Normal>) -> Option<(f32, Basis)> {
        let place = usize::from(level >= Level::Alarm);
        let absolute = self.absolute.map(|limits| (limits[place], Basis::Absolute));
        let relative = self
            .relative
            .zip(normal)
            .map(|(relative, normal)| (relative.limits(normal)[place], Basis::Baseline));
        match (absolute, relative) {
            (Some(absolute), Some(relative)) if relative.0 < absolute.0 => Some(relative),
            (Some(absolute), _) => Some(absolute),
            (None, relative) => relative,
        }
    }
}

/// Limits against the normal.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Relative {
    /// ALERT at so many times the normal.
    pub alert: f32,
    /// ALARM at so many times the normal.
    pub alarm: f32,
    /// Neither below so many standard deviations above the normal: a feature that varies much by itself must
    /// rise more.
    pub deviations: f32,
}

impl Default for Relative {
    /// A doubling and a tenfold (6 and 20 dB), the customary steps for acceleration and envelope levels; and
    /// 4 standard deviations, which a normally distributed logarithm exceeds once in 30,000 windows.
    fn default() -> Self {
        Self {
            alert: 2.0,
            alarm: 10.0,
            deviations: 4.0,
        }
    }
}

impl Relative {
    fn limits(&self, normal: &Normal) -> [f32; 2] {
        let least = normal.above(self.deviations);
        [self.alert, self.alarm].map(|factor| (factor * normal.centre).max(least))
    }
}

/// A limit that holds for a channel in one regime.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct InForce {
    /// What is judged by it.
    pub condition: Condition,
    /// Which feature.
    pub kind: FeatureKind,
    /// The limit, in the feature's unit.
    pub limit: f32,
    /// What is normal, where that is accepted.
    pub normal: Option<f32>,
    /// Whose limit it is.
    pub basis: Basis,
}

/// A window of one channel.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Window<'a> {
    /// Start (event time, inclusive).
    pub start: EventTime,
    /// End (event time, exclusive).
    pub end: EventTime,
    /// Whether there was enough of it to decide on.
    pub is_decided: bool,
    /// In the time domain; none of a channel that is not a vibration.
    pub statistics: Option<&'a Statistics>,
    /// Features, those watched among them.
    pub values: &'a [(FeatureKind, f32)],
}

impl Window<'_> {
    fn value(&self, kind: FeatureKind) -> Option<f32> {
        let found = self.values.iter().find(|(known, _)| *known == kind);
        found.map(|(_, value)| *value).filter(|value| value.is_finite())
    }
}

/// What an alarm is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The overall vibration.
    Severity,
    /// Another feature.
    Deviation(FeatureKind),
    /// The instrument.
    Instrument,
    /// A part of the bearing beside the sensor; none: a bearing, of which the part does not show. The first part
    /// that is named takes the place of the one without. No monitor judges it: it is sought, and what it rests on
    /// is a [`Claim`](crate::bearing::Claim).
    Bearing(Option<Element>),
    /// What a shaft, or what hangs on it, may have. No monitor judges it: spectra suspect it while a condition holds
    /// that it explains, and what it rests on is a [`ShaftClaim`](crate::shaft::ShaftClaim).
    Suspected(Cause),
    /// A slow channel by itself. No monitor judges it: a detector follows it.
    Unusual,
    /// Slow channels together, of which this is the first. No monitor judges them: a detector knows what was accepted.
    UnusualTogether,
}

/// What a judgement rests on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Limits that do not depend on this machine: there is no accepted baseline for how it is operated.
    Absolute,
    /// The accepted baseline.
    Baseline,
}

impl Basis {
    /// The name on the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Absolute => "absolute",
            Self::Baseline => "baseline",
        }
    }
}

/// The value of a window and what it was compared with.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Evidence {
    /// Of which feature; none where the instrument is meant.
    pub kind: Option<FeatureKind>,
    /// Its value, in its unit.
    pub value: f32,
    /// The limit of the level that it reaches, or of ALERT where it reaches none.
    pub limit: f32,
    /// What is normal, where that is accepted.
    pub normal: Option<f32>,
    /// Whose limit it is.
    pub basis: Basis,
    /// What is wrong with the instrument, where that is meant.
    pub fault: Option<Fault>,
}

/// How one condition stands after a window.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Judged {
    /// What it is about.
    pub condition: Condition,
    /// The level held.
    pub held: Level,
    /// The level held before, if this window changed it.
    pub before: Option<Level>,
    /// What this window alone reaches; none when it was not judged.
    pub reached: Option<Level>,
    /// What this window shows.
    pub evidence: Option<Evidence>,
}

/// What a window says.
#[derive(Clone, PartialEq, Debug)]
pub struct Assessment {
    /// How the machine was operated; none when the window could not be decided on.
    pub run: Option<Run>,
    /// In which regime.
    pub regime: Regime,
    /// The zone, or why there is none.
    pub zone: Result<Zone, NotGraded>,
    /// Whether the overall value is so far from the normal, above or below, that it matters whatever the zone.
    pub has_changed: bool,
    /// What is wrong with the instrument, by this window alone.
    pub fault: Option<Fault>,
    /// What is alarmed on.
    pub judged: Vec<Judged, CONDITIONS_MAX>,
    /// The stage that the regime's baseline has just entered, if it did.
    pub stage: Option<Stage>,
}

/// What is remembered of a direction at a measurement point.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Monitor {
    gate: Gate,
    baselines: Vec<(Regime, Baseline), REGIMES_MAX>,
    severity: Latch,
    deviations: Vec<(FeatureKind, Latch), WATCHED_MAX>,
    instrument: Latch,
    /// What was last seen to be wrong with the instrument.
    fault: Option<Fault>,
    /// While nothing comes: from which end on a window shows that something comes again. One that ends before
    /// is of the time when data ceased.
    silent_until: Option<EventTime>,
    /// Where the last window ended.
    end: Option<EventTime>,
}

impl Monitor {
    /// Takes the next window, in the order of event time.
    pub fn handle_window(
        &mut self,
        window: &Window<'_>,
        operating: &Operating,
        settings: &Settings,
    ) -> Assessment {
        self.note_gap(window, settings);
        let was_silent = self.silent_until.is_some_and(|until| window.end >= until);
        if was_silent {
            self.silent_until = None;
        }
        let regime = settings.regimes.regime(operating);
        let (run, fault) = if window.is_decided {
            let rms = window.statistics.map(|statistics| statistics.rms);
            let span = (window.start, window.end);
            let run = self.gate.handle_window(span, rms, operating, &settings.gate);
            (Some(run), self.examine(window, run, operating, regime, settings))
        } else {
            (None, None)
        };
        let mut judged = Vec::new();
        // Whether a cable is back cannot be seen while the machine stands still.
        let says_of_instrument = fault.is_some() || !matches!(run, None | Some(Run::Off));
        let instrument = self.judge_instrument(says_of_instrument, fault, was_silent, settings);
        let is_usable = fault.is_none_or(Fault::spares_vibration);
        let is_judged = run == Some(Run::Steady) && is_usable;
        let normal = |kind| self.in_force(regime, kind);
        let (zone, severity_normal) = match settings.severity {
            None => (Err(NotGraded::Undeclared), None),
            Some(severity) => {
                let zone = grade(&severity, window, operating, run, is_usable);
                (zone, normal(severity.kind))
            }
        };
        if let Some(severity) = &settings.severity {
            let value = window.value(severity.kind).filter(|_| zone.is_ok());
            let shown = value.map(|value| severity_shown(&self.severity, severity, value, severity_normal));
            let found = judge(
                &mut self.severity,
                Condition::Severity,
                shown,
                settings.persistence,
            );
            // The array has a place for each condition that settings can hold.
            let _ = judged.push(found);
        }
        for watched in &settings.watched {
            let normal = self.in_force(regime, watched.kind);
            let latch = self.latch(watched.kind);
            let value = window.value(watched.kind).filter(|_| is_judged);
            let shown = value.and_then(|value| deviation_shown(&latch, watched, value, normal));
            let mut latch = latch;
            let condition = Condition::Deviation(watched.kind);
            let _ = judged.push(judge(&mut latch, condition, shown, settings.persistence));
            self.keep_latch(watched.kind, latch);
        }
        let _ = judged.push(instrument);
        let has_changed = zone.is_ok()
            && settings
                .severity
                .zip(severity_normal)
                .is_some_and(|(severity, normal)| {
                    let value = window.value(severity.kind);
                    let limits = severity.criterion.limits();
                    value.is_some_and(|value| limits.has_changed(value, normal.centre))
                });
        // What is told of is not normal, whatever its zone.
        let is_conspicuous = judged.iter().any(|judged| judged.reached > Some(Level::Normal));
        let stage = if is_judged && !is_conspicuous {
            self.teach(window, regime, zone.ok(), settings)
        } else {
            None
        };
        Assessment {
            run,
            regime,
            zone,
            has_changed,
            fault,
            judged,
            stage,
        }
    }

    /// Time has passed. Says when the channel has fallen silent, once.
    pub fn handle_time(&mut self, now: EventTime, settings: &Settings) -> Option<Judged> {
        let last = self.end?;
        if self.silent_until.is_some() || !instrument::is_silent(last, settings.interval_ns, now) {
            return None;
        }
        self.silent_until = Some(instrument::silent_from(last, settings.interval_ns));
        self.fault = Some(Fault::Silent);
        Some(Judged {
            condition: Condition::Instrument,
            held: Level::Alert,
            before: Some(self.instrument.held()),
            reached: Some(Level::Alert),
            evidence: Some(fault_evidence(Fault::Silent)),
        })
    }

    /// When it falls silent unless another window comes; none when it has, or nothing ever came.
    pub fn silent_from(&self, settings: &Settings) -> Option<EventTime> {
        let last = self.end.filter(|_| self.silent_until.is_none())?;
        Some(instrument::silent_from(last, settings.interval_ns))
    }

    /// A person agrees to the baselines that are proposed. Returns the regimes.
    pub fn accept(&mut self, at: EventTime) -> Result<Vec<Regime, REGIMES_MAX>, Refusal> {
        let mut accepted = Vec::new();
        let mut refusal = Refusal::NotProposed;
        for (regime, baseline) in &mut self.baselines {
            match baseline.accept(at) {
                Ok(()) => {
                    let _ = accepted.push(*regime);
                }
                Err(Refusal::AlreadyAccepted) => refusal = Refusal::AlreadyAccepted,
                Err(Refusal::NotProposed) => {}
            }
        }
        if accepted.is_empty() {
            Err(refusal)
        } else {
            Ok(accepted)
        }
    }

    /// Puts a baseline in force that was accepted elsewhere, in place of what is known of its regime. False
    /// when there is no room for another regime.
    pub fn adopt(&mut self, regime: Regime, normals: &Normals, accepted: EventTime) -> bool {
        let adopted = Baseline::adopted(normals, accepted);
        match self.baselines.iter_mut().find(|(known, _)| *known == regime) {
            Some((_, baseline)) => {
                *baseline = adopted;
                true
            }
            None => self.baselines.push((regime, adopted)).is_ok(),
        }
    }

    /// The machine was worked on, or a person disagrees with what is proposed: what was normal is normal no
    /// more, and is learned anew. Returns the deviations that were held and have lost what they were judged
    /// by; severity goes on by absolute limits.
    pub fn begin_anew(&mut self) -> Vec<Judged, WATCHED_MAX> {
        self.baselines.clear();
        let deviations = core::mem::take(&mut self.deviations);
        let held = deviations
            .into_iter()
            .filter(|(_, latch)| latch.held() != Level::Normal);
        let ended = held.map(|(kind, latch)| Judged {
            condition: Condition::Deviation(kind),
            held: Level::Normal,
            before: Some(latch.held()),
            reached: None,
            evidence: None,
        });
        ended.collect()
    }

    /// The baselines, by regime.
    pub fn baselines(&self) -> &[(Regime, Baseline)] {
        &self.baselines
    }

    /// The limits of a level that hold for a window in that regime: of severity first, then of what is watched.
    /// What has none is left out.
    pub fn limits(&self, level: Level, regime: Regime, settings: &Settings) -> Vec<InForce, CONDITIONS_MAX> {
        let severity = settings.severity.map(|severity| {
            let normal = self.in_force(regime, severity.kind).map(|normal| normal.centre);
            let (limit, basis) = severity.limit(level, normal);
            InForce {
                condition: Condition::Severity,
                kind: severity.kind,
                limit,
                normal,
                basis,
            }
        });
        let watched = settings.watched.iter().filter_map(|watched| {
            let normal = self.in_force(regime, watched.kind);
            let (limit, basis) = watched.limit(level, normal.as_ref())?;
            Some(InForce {
                condition: Condition::Deviation(watched.kind),
                kind: watched.kind,
                limit,
                normal: normal.map(|normal| normal.centre),
                basis,
            })
        });
        severity.into_iter().chain(watched).collect()
    }

    /// Where the last window ended.
    pub const fn last(&self) -> Option<EventTime> {
        self.end
    }

    /// What is held to be wrong with the instrument.
    pub fn fault(&self) -> Option<Fault> {
        let is_held = self.silent_until.is_some() || self.instrument.held() != Level::Normal;
        self.fault.filter(|_| is_held)
    }

    /// The level held of each condition that is not normal, but for the instrument's.
    pub fn held(&self) -> impl Iterator<Item = (Condition, Level)> {
        let severity = core::iter::once((Condition::Severity, self.severity.held()));
        let deviations = self.deviations.iter();
        let deviations = deviations.map(|(kind, latch)| (Condition::Deviation(*kind), latch.held()));
        severity
            .chain(deviations)
            .filter(|(_, level)| *level != Level::Normal)
    }

    /// Windows that were expected between the last one and this one and never came keep their places.
    fn note_gap(&mut self, window: &Window<'_>, settings: &Settings) {
        let interval = settings.interval_ns.max(1);
        let missed = self
            .end
            .map_or(0, |last| window.end.nanos_since(last) / interval - 1);
        if missed > 0 {
            let deviations = self.deviations.iter_mut().map(|(_, latch)| latch);
            let latches = [&mut self.severity, &mut self.instrument].into_iter();
            for latch in latches.chain(deviations) {
                latch.handle_gap(missed.unsigned_abs());
            }
        }
        self.end = self.end.max(Some(window.end));
    }

    fn examine(
        &self,
        window: &Window<'_>,
        run: Run,
        operating: &Operating,
        regime: Regime,
        settings: &Settings,
    ) -> Option<Fault> {
        let normal = |kind| self.in_force(regime, kind);
        let is_off = (run == Run::Off).then_some(false);
        let expected = Expectation {
            range: settings.range,
            is_running: operating.is_running.or(is_off),
            rms: normal(FeatureKind::Rms),
            mean: normal(FeatureKind::Mean),
        };
        instrument::examine(window.statistics?, &expected)
    }

    fn judge_instrument(
        &mut self,
        is_said: bool,
        fault: Option<Fault>,
        was_silent: bool,
        settings: &Settings,
    ) -> Judged {
        let before = self.instrument.held();
        let is_silent = self.silent_until.is_some();
        self.fault = fault.or(self.fault.filter(|_| is_silent || before != Level::Normal));
        let reached = is_said.then(|| fault.map_or(Level::Normal, |_| Level::Alert));
        let changed = self.instrument.handle_window(reached, settings.persistence);
        let held = match is_silent {
            true => Level::Alert,
            false => self.instrument.held(),
        };
        Judged {
            condition: Condition::Instrument,
            held,
            // Silence is over with the first window of what comes again, decided or not.
            before: match (is_silent, was_silent) {
                (true, _) => None,
                (false, true) => (held == Level::Normal).then_some(Level::Alert),
                (false, false) => changed,
            },
            reached,
            evidence: fault.map(fault_evidence),
        }
    }

    fn teach(
        &mut self,
        window: &Window<'_>,
        regime: Regime,
        zone: Option<Zone>,
        settings: &Settings,
    ) -> Option<Stage> {
        let place = self.baselines.iter().position(|(known, _)| *known == regime);
        let place = place.or_else(|| {
            settings.learning?;
            self.baselines.push((regime, Baseline::default())).ok()?;
            Some(self.baselines.len() - 1)
        })?;
        let (_, baseline) = self.baselines.get_mut(place)?;
        if baseline.freeze() {
            return Some(Stage::Frozen);
        }
        let mut values: Vec<(FeatureKind, f32), WATCHED_MAX> = Vec::new();
        let instrument = [FeatureKind::Rms, FeatureKind::Mean];
        let severity = settings.severity.map(|severity| severity.kind);
        let watched = settings.watched.iter().map(|watched| watched.kind);
        for kind in severity.into_iter().chain(watched).chain(instrument) {
            let is_known = values.iter().any(|(known, _)| *known == kind);
            if let Some(value) = window.value(kind).filter(|_| !is_known) {
                // Beyond the bound the instrument's features are left out, which come last.
                let _ = values.push((kind, value));
            }
        }
        let minimum = settings.learning?;
        baseline
            .learn(window.end, &values, zone, &minimum)
            .then_some(Stage::Proposed)
    }

    /// What is normal of a feature in a regime, once a person has agreed.
    pub fn in_force(&self, regime: Regime, kind: FeatureKind) -> Option<Normal> {
        let (_, baseline) = self.baselines.iter().find(|(known, _)| *known == regime)?;
        baseline.in_force(kind)
    }

    fn latch(&self, kind: FeatureKind) -> Latch {
        let found = self.deviations.iter().find(|(known, _)| *known == kind);
        found.map_or_else(Latch::default, |(_, latch)| *latch)
    }

    fn keep_latch(&mut self, kind: FeatureKind, kept: Latch) {
        match self.deviations.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, latch)) => *latch = kept,
            // Settings that were changed leave features behind that nobody watches any more: the first makes
            // room.
            None => {
                if self.deviations.is_full() {
                    self.deviations.remove(0);
                }
                let _ = self.deviations.push((kind, kept));
            }
        }
    }
}

/// The worst of the directions at a point, and which it is (ISO 20816-1:2016: the highest of the directions
/// measured counts).
pub fn worst<K>(zones: impl IntoIterator<Item = (K, Zone)>) -> Option<(K, Zone)> {
    zones
        .into_iter()
        .reduce(|worst, next| if next.1 > worst.1 { next } else { worst })
}

fn grade(
    severity: &Severity,
    window: &Window<'_>,
    operating: &Operating,
    run: Option<Run>,
    is_usable: bool,
) -> Result<Zone, NotGraded> {
    if !is_usable {
        return Err(NotGraded::Instrument);
    }
    match run {
        None => return Err(NotGraded::Value),
        Some(Run::Off) => return Err(NotGraded::Off),
        Some(Run::Transient) => return Err(NotGraded::Transient),
        Some(Run::Steady) => {}
    }
    let overall = Overall {
        // What is missing is no number; a band or speed that is not the right one is the better reason.
        rms: window.value(severity.kind).unwrap_or(f32::NAN),
        unit: severity.unit,
        band_hz: severity.band_hz,
    };
    // While nothing tells the speed, the declared one says whether the standard applies.
    let speed_hz = operating.speed_hz.or(operating.declared_hz);
    severity.criterion.grade(&overall, speed_hz)
}

/// What a window shows: the level that it reaches, and its evidence.
type Shown = (Level, Evidence);

fn severity_shown(latch: &Latch, severity: &Severity, value: f32, normal: Option<Normal>) -> Shown {
    let normal = normal.map(|normal| normal.centre);
    let steps = [Level::Trip, Level::Alarm, Level::Alert].map(|level| {
        let (limit, basis) = severity.limit(level, normal);
        (level, limit, basis)
    });
    shown(latch, severity.kind, value, normal, &steps)
}

/// None where there is nothing to compare with.
fn deviation_shown(latch: &Latch, watched: &Watched, value: f32, normal: Option<Normal>) -> Option<Shown> {
    let step = |level| {
        let (limit, basis) = watched.limit(level, normal.as_ref())?;
        Some((level, limit, basis))
    };
    let steps = [step(Level::Alarm)?, step(Level::Alert)?];
    let normal = normal.map(|normal| normal.centre);
    Some(shown(latch, watched.kind, value, normal, &steps))
}

/// By limits from the highest to the lowest.
fn shown(
    latch: &Latch,
    kind: FeatureKind,
    value: f32,
    normal: Option<f32>,
    steps: &[(Level, f32, Basis)],
) -> Shown {
    let reached = steps
        .iter()
        .find(|(level, limit, _)| value > latch.effective(*limit, *level));
    let told = reached.or(steps.last());
    let evidence = Evidence {
        kind: Some(kind),
        value,
        limit: told.map_or(f32::INFINITY, |(_, limit, _)| *limit),
        normal,
        basis: told.map_or(Basis::Absolute, |(_, _, basis)| *basis),
        fault: None,
    };
    (reached.map_or(Level::Normal, |(level, _, _)| *level), evidence)
}

fn judge(latch: &mut Latch, condition: Condition, shown: Option<Shown>, persistence: Persistence) -> Judged {
    let reached = shown.map(|(level, _)| level);
    let before = latch.handle_window(reached, persistence);
    Judged {
        condition,
        held: latch.held(),
        before,
        reached,
        evidence: shown.map(|(_, evidence)| evidence),
    }
}

/// A feature whose low values matter, such as a pressure or a flow: ALERT and ALARM below those limits. No value
/// where it is not judged.
pub fn judge_below(
    latch: &mut Latch,
    kind: FeatureKind,
    limits: [f32; 2],
    value: Option<f32>,
    persistence: Persistence,
) -> Judged {
    let [alert, alarm] = limits.map(|limit| -limit);
    let steps = [
        (Level::Alarm, alarm, Basis::Absolute),
        (Level::Alert, alert, Basis::Absolute),
    ];
    // Upside down, what lies too low lies too high.
    let shown = value.map(|value| shown(latch, kind, -value, None, &steps));
    let mut judged = judge(latch, Condition::Deviation(kind), shown, persistence);
    if let Some(evidence) = &mut judged.evidence {
        (evidence.value, evidence.limit) = (-evidence.value, -evidence.limit);
    }
    judged
}

const fn fault_evidence(fault: Fault) -> Evidence {
    Evidence {
        kind: None,
        value: 0.0,
        limit: 0.0,
        normal: None,
        basis: Basis::Absolute,
        fault: Some(fault),
    }
}

#[cfg(test)]
mod tests;
