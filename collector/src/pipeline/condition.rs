//! From a window's features to the condition of the machine: monitors, notices, baselines, health.
//!
//! The stage behind the features. Only live windows of channels that the fleet file knows reach it, in the
//! order in which they fired; history says how things were, and neither raises nor clears nor teaches anything.
//! What people decide ([`crate::decision`]) comes through the journal too, so that live and replay agree.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | monitors | one for each channel of the fleet in force | those that a fleet no longer has are forgotten with what they held |
//! | notices of a point | one for each cause | further channels support the one that stands |

use super::attribution::Risen;
use super::drifting::{Day, Drift};
use super::edge::{AT_GATEWAY, Words, cause};
use super::prognosis::shown;
use super::unusual::{self, Unusual};
use super::{Output, Pipeline};
use crate::advisory::{AdvisoryChange, Cause, Evidence, LimitEvidence, Notices, Observation};
use crate::decision::{Decision, DecisionAction};
use crate::health::{ChannelCondition, Health, HealthRow, assess};
use crate::state::{BaselineRow, NormalRow, SeriesKey};
use crate::window::Fired;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use trunnion_common::baseline::{Baseline, Stage};
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::definition::WatchedBand;
use trunnion_common::feature::statistics::Statistics;
use trunnion_common::instrument::Fault;
use trunnion_common::level::Level;
use trunnion_common::monitor::{
    Assessment, Condition, Evidence as Shown, InForce, Judged, Monitor, Settings, Window,
};
use trunnion_common::operating::{Operating, Regime, Run};
use trunnion_common::severity::{NotGraded, Zone};
use trunnion_common::slow;
use trunnion_common::time::EventTime;
use trunnion_diagnosis::diagnosis::Outcome;

/// What the stage remembers.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Conditions {
    pub(super) monitors: BTreeMap<SeriesKey, Monitored>,
    pub(super) notices: BTreeMap<(String, String), Notices>,
    /// As last told, by asset.
    healths: BTreeMap<String, (EventTime, Health)>,
    /// Nobody falls silent before this.
    silent_from: Option<EventTime>,
    pub(super) unusual: Unusual,
    pub(super) words: Words,
}

impl Conditions {
    /// What is known of a channel.
    pub(super) fn monitored(&mut self, series: &SeriesKey) -> &mut Monitored {
        self.monitors.entry(series.clone()).or_default()
    }

    /// Whether anything stands against a point.
    pub(super) fn has_notice(&self, point: &(String, String)) -> bool {
        self.notices.contains_key(point)
    }

    /// A channel falls silent then, if nothing more comes.
    pub(super) fn note_silence(&mut self, silent: Option<EventTime>) {
        self.silent_from = match (self.silent_from, silent) {
            (Some(next), Some(silent)) => Some(next.min(silent)),
            (next, silent) => next.or(silent),
        };
    }
}

/// A channel and what is known of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Monitored {
    pub(super) monitor: Monitor,
    /// Counted up when its baselines are closed.
    generation: u32,
    /// From one window to the next, nanoseconds.
    pub(super) interval_ns: i64,
    /// Once there is a normal.
    drift: Option<Box<Drift>>,
    /// Of a slow channel.
    pub(super) slow: Option<Box<slow::Memory>>,
    run: Option<Run>,
    /// Of the last window that was not a transient.
    zone: Result<Zone, NotGraded>,
    has_changed: bool,
    pub(super) risen: Option<Risen>,
}

impl Default for Monitored {
    fn default() -> Self {
        Self {
            monitor: Monitor::default(),
            generation: 0,
            interval_ns: 0,
            drift: None,
            slow: None,
            run: None,
            zone: Err(NotGraded::Value),
            has_changed: false,
            risen: None,
        }
    }
}

impl Monitored {
    pub(super) fn note(&mut self, assessment: &Assessment) {
        if assessment.run.is_none() || assessment.run == Some(Run::Transient) {
            return; // Held: it says nothing.
        }
        self.run = assessment.run;
        self.zone = assessment.zone;
        self.has_changed = assessment.has_changed;
    }

    /// Takes how far features of a judged window are from their accepted normal; says how a day has ended.
    fn drift(&mut self, assessment: &Assessment, window: &Window<'_>, settings: &Settings) -> Option<Day> {
        let is_usable = assessment.fault.is_none_or(Fault::spares_vibration);
        if assessment.run != Some(Run::Steady) || !is_usable {
            return None;
        }
        let severity = settings.severity.iter().map(|severity| severity.kind);
        let kinds = severity.chain(settings.watched.iter().map(|watched| watched.kind));
        let monitor = &self.monitor;
        let deviations = kinds.filter_map(|kind| {
            let normal = monitor.in_force(assessment.regime, kind)?;
            let (_, value) = window.values.iter().find(|(known, _)| *known == kind)?;
            Some((kind, normal.deviations(*value)?))
        });
        let mut deviations = deviations.peekable();
        deviations.peek()?;
        let drift = self.drift.get_or_insert_default();
        drift.handle_window(window.end, deviations)
    }

    pub(super) fn settings(&self, site: &Settings) -> Settings {
        Settings {
            interval_ns: self.interval_ns,
            ..site.clone()
        }
    }
}

impl Conditions {
    /// What stands at a point, if anything does.
    pub(super) fn notices_of(&self, point: &(String, String)) -> Option<&Notices> {
        self.notices.get(point)
    }

    /// The limits of a level that hold for a channel; of one that nothing has come of yet, those that depend on
    /// no baseline.
    pub(super) fn limits(
        &self,
        series: &SeriesKey,
        level: Level,
        regime: Regime,
        settings: &Settings,
    ) -> Vec<InForce> {
        let limits = match self.monitors.get(series) {
            Some(known) => known.monitor.limits(level, regime, settings),
            None => Monitor::default().limits(level, regime, settings),
        };
        limits.iter().copied().collect()
    }
}

impl Pipeline {
    /// Takes a live window of a channel in, with what it says of the cause where somebody looked.
    pub(super) fn judge(
        &mut self,
        series: &SeriesKey,
        window: &Fired,
        features: &[(FeatureKind, f32)],
        operating: &Operating,
        outcome: Option<Outcome>,
    ) {
        let Some(site) = self.settings_of(series, window.start) else {
            return;
        };
        let length = window.end.nanos_since(window.start);
        let known = self.state.conditions.monitored(series);
        known.interval_ns = site.interval_ns.max(length);
        let settings = known.settings(&site);
        let statistics = statistics(features);
        let seen = Window {
            start: window.start,
            end: window.end,
            is_decided: window.decided && statistics.is_some(),
            statistics: statistics.as_ref(),
            values: features,
        };
        let before = learning(&known.monitor);
        let assessment = known.monitor.handle_window(&seen, operating, &settings);
        let day = known.drift(&assessment, &seen, &settings);
        known.note(&assessment);
        known.note_rise(&assessment.judged, window.end);
        let shown = shown(&known.monitor, &assessment, &settings);
        let is_usable = assessment.fault.is_none_or(Fault::spares_vibration);
        let is_telling = assessment.run == Some(Run::Steady) && is_usable;
        let silent = known.monitor.silent_from(&settings);
        let is_news = assessment.stage.is_some()
            || (learning(&known.monitor) != before
                && before.is_none_or(|windows| (windows + 1).is_power_of_two()));
        self.state.conditions.note_silence(silent);
        if is_news {
            self.tell_baseline(series, assessment.regime, None);
        }
        let interval_ns = settings.interval_ns;
        self.follow(series, window, interval_ns, &assessment, &shown);
        if is_telling {
            self.learn_of(series, (window.start, window.end), features);
        }
        let mut suspected = self.suspect(series, interval_ns, window.end, &assessment, outcome);
        for observation in std::mem::take(&mut suspected.holding) {
            self.notice(series, observation);
        }
        for judged in &assessment.judged {
            self.observe(series, &settings, window.end, judged, assessment.zone.ok());
        }
        if assessment.judged.iter().any(|judged| judged.held > Level::Normal) {
            self.retell_rise(series, window.end);
        }
        self.explain(series, window.end, suspected);
        if let Some(day) = day {
            self.observe_drift(series, &day);
        }
        self.concern(&series.asset);
    }

    /// Says of each channel that has fallen silent that it has, once.
    pub(super) fn settle_silence(&mut self) {
        let now = self.state.now;
        if self.state.conditions.silent_from.is_none_or(|next| now <= next) {
            return;
        }
        let mut next = None;
        let mut fallen = Vec::new();
        let fleet = self.fleets.range(..=now).next_back().map(|(_, fleet)| fleet);
        for (series, known) in &mut self.state.conditions.monitors {
            let Some(site) = fleet.and_then(|fleet| fleet.site(series)) else {
                continue;
            };
            let Some(settings) = site.monitor.as_ref().map(|settings| known.settings(settings)) else {
                continue;
            };
            if let Some(judged) = known.monitor.handle_time(now, &settings) {
                fallen.push((series.clone(), settings, judged));
            } else if let Some(silent) = known.monitor.silent_from(&settings) {
                next = Some(next.map_or(silent, |next: EventTime| next.min(silent)));
            }
        }
        self.state.conditions.silent_from = next;
        for (series, settings, judged) in fallen {
            self.observe(&series, &settings, now, &judged, None);
            self.concern(&series.asset);
        }
    }

    /// What a person decided takes effect.
    pub(super) fn handle_decision(&mut self, decision: &Decision) {
        let now = self.state.now;
        let covered = |series: &&SeriesKey| decision.covers(&series.asset, &series.point);
        let covered: Vec<_> = self
            .state
            .conditions
            .monitors
            .keys()
            .filter(covered)
            .cloned()
            .collect();
        for series in covered {
            match &decision.action {
                DecisionAction::AcceptBaseline => self.accept(&series, now),
                DecisionAction::RejectBaseline => self.begin_anew(&series, now, "rejected"),
                DecisionAction::Maintenance { note } => self.begin_anew(&series, now, note),
            }
        }
        let covers = |series: &SeriesKey| decision.covers(&series.asset, &series.point);
        match &decision.action {
            DecisionAction::AcceptBaseline => self.accept_groups(covers, now),
            DecisionAction::RejectBaseline => self.begin_unusual_anew(covers, now, "rejected"),
            DecisionAction::Maintenance { note } => self.begin_unusual_anew(covers, now, note),
        }
        self.decide_learned(decision);
        self.concern(&decision.asset);
    }

    /// Other assets and channels are in force: what is no longer watched is forgotten, and what it held is over.
    pub(super) fn settle_conditions(&mut self) {
        let now = self.state.now;
        let Some((_, fleet)) = self.fleets.range(..=now).next_back() else {
            return;
        };
        let mut over = Vec::new();
        for ((asset, point), notices) in &self.state.conditions.notices {
            for (channel, cause) in notices.causes() {
                let series = SeriesKey {
                    asset: asset.clone(),
                    point: point.clone(),
                    // A gateway speaks for the channels of the same fleet.
                    channel: channel.trim_end_matches(AT_GATEWAY).to_owned(),
                };
                let settings = fleet.site(&series).and_then(|site| site.monitor.as_ref());
                let stays = match cause {
                    Cause::Unusual => unusual::is_watched(fleet, &series),
                    // Ended with the machine that lives by a model.
                    Cause::RemainingLife => true,
                    _ => settings.is_some_and(|settings| is_watched(settings, cause)),
                };
                if !stays {
                    over.push((SeriesKey { channel, ..series }, cause));
                }
            }
        }
        self.state.conditions.unusual.retain(fleet);
        self.state.conditions.words.retain(fleet);
        let is_monitored = |series: &SeriesKey| fleet.site(series).is_some_and(|site| site.monitor.is_some());
        let mut gone: BTreeSet<String> = BTreeSet::new();
        self.state.conditions.monitors.retain(|series, _| {
            let stays = is_monitored(series);
            if !stays {
                gone.insert(series.asset.clone());
            }
            stays
        });
        self.state.lives.retain(|series, _| is_monitored(series));
        let unwatched = self.state.diagnoses.keys().filter(|series| !is_monitored(series));
        let unwatched: Vec<_> = unwatched.cloned().collect();
        for series in unwatched {
            self.forget_diagnosis(&series, now);
        }
        for (series, cause) in over {
            self.conclude(&series, cause, now);
            gone.insert(series.asset);
        }
        gone.iter().for_each(|asset| self.concern(asset));
        self.settle_learned();
    }

    /// What has become of the assets of which something has come in this commit.
    pub(super) fn settle_health(&mut self) {
        for asset in std::mem::take(&mut self.concerned) {
            let health = self.assess(&asset);
            let told = self.state.conditions.healths.get(&asset);
            if told.is_some_and(|(_, told)| *told == health) {
                continue;
            }
            let since = match told {
                Some((since, told)) if told.grade == health.grade => *since,
                _ => self.state.now,
            };
            self.outputs.push(Output::Health(HealthRow {
                asset: asset.clone(),
                since,
                health: health.clone(),
            }));
            self.state.conditions.healths.insert(asset, (since, health));
        }
    }

    /// Something has come that may change the health of an asset.
    pub(super) fn concern(&mut self, asset: &str) {
        if !self.concerned.contains(asset) {
            self.concerned.insert(asset.to_owned());
        }
    }

    fn assess(&self, asset: &str) -> Health {
        let conditions = &self.state.conditions;
        let first = SeriesKey {
            asset: asset.to_owned(),
            ..SeriesKey::default()
        };
        let monitors = conditions.monitors.range(first..);
        let fleet = self.fleets.range(..=self.state.now).next_back();
        let channels: Vec<_> = monitors
            .take_while(|(series, _)| series.asset == asset)
            .map(|(series, known)| ChannelCondition {
                point: series.point.clone(),
                channel: series.channel.clone(),
                run: known.run,
                tells_run: known.slow.is_none(),
                zone: known.zone,
                standard: fleet
                    .and_then(|(_, fleet)| fleet.site(series)?.monitor.as_ref()?.severity)
                    .map(|severity| severity.criterion.standard().edition()),
                has_changed: known.has_changed,
                fault: known.monitor.fault(),
            })
            .collect();
        let of_asset = (asset.to_owned(), String::new());
        let notices = conditions.notices.range(of_asset.clone()..);
        let notices = notices.take_while(|((of, _), _)| of == asset);
        let bearings = self.state.advisories.range(of_asset..);
        let bearings = bearings.take_while(|((of, _), _)| of == asset);
        let standing = notices.flat_map(|(_, notices)| notices.standing());
        let standing = standing.chain(bearings.flat_map(|(_, advisories)| advisories.standing()));
        assess(&channels, standing)
    }

    fn settings_of(&self, series: &SeriesKey, at: EventTime) -> Option<Settings> {
        let (_, fleet) = self.fleets.range(..=at).next_back()?;
        let site = fleet.site(series)?;
        // Waveforms of a channel that is no vibration have no limits of their own.
        site.monitor.clone().filter(|_| site.slow.is_none())
    }

    /// Which part of the spectrum a feature is of, where it is a band of the point's own.
    fn band_of(&self, series: &SeriesKey, kind: FeatureKind, at: EventTime) -> Option<WatchedBand> {
        let place = FeatureKind::BANDS.iter().position(|band| *band == kind)?;
        let (_, fleet) = self.fleets.range(..=at).next_back()?;
        Some(fleet.site(series)?.bands.get(place)?.watched)
    }

    fn accept(&mut self, series: &SeriesKey, now: EventTime) {
        let Some(known) = self.state.conditions.monitors.get_mut(series) else {
            return;
        };
        // Where nothing is proposed there is nothing to agree to; what is in force stays.
        let accepted = known.monitor.accept(now).unwrap_or_default();
        for regime in accepted {
            self.tell_baseline(series, regime, None);
        }
    }

    fn begin_anew(&mut self, series: &SeriesKey, now: EventTime, why: &str) {
        let Some(known) = self.state.conditions.monitors.get(series) else {
            return;
        };
        let regimes: Vec<_> = known
            .monitor
            .baselines()
            .iter()
            .map(|(regime, _)| *regime)
            .collect();
        for regime in regimes {
            self.tell_baseline(series, regime, Some((now, why)));
        }
        let Some(known) = self.state.conditions.monitors.get_mut(series) else {
            return;
        };
        known.generation += 1;
        known.has_changed = false;
        known.drift = None;
        for ended in known.monitor.begin_anew() {
            if let Condition::Deviation(kind) = ended.condition {
                self.conclude(series, Cause::Deviation(kind), now);
            }
        }
        self.state.lives.remove(series);
        self.forget_diagnosis(series, now);
        self.conclude(series, Cause::Drift, now);
    }

    fn tell_baseline(&mut self, series: &SeriesKey, regime: Regime, closed: Option<(EventTime, &str)>) {
        let known = self.state.conditions.monitors.get(series);
        let found = known.and_then(|known| {
            let baselines = known.monitor.baselines();
            let (_, baseline) = baselines.iter().find(|(of, _)| *of == regime)?;
            Some(row(series, known.generation, regime, baseline, closed))
        });
        self.outputs.extend(found.map(Output::Baseline));
    }

    /// A cause of one channel is over, whatever it was judged by.
    pub(super) fn conclude(&mut self, series: &SeriesKey, cause: Cause, at: EventTime) {
        self.notice(
            series,
            Observation {
                channel: series.channel.clone(),
                cause,
                at,
                held: Level::Normal,
                is_seen: false,
                evidence: None,
            },
        );
    }

    /// A day of a channel has ended.
    fn observe_drift(&mut self, series: &SeriesKey, day: &Day) {
        let point = (series.asset.clone(), series.point.clone());
        if !day.is_held && !self.state.conditions.has_notice(&point) {
            return;
        }
        let evidence = day.shown.map(|shown| Evidence::Drift {
            channel: series.channel.clone(),
            feature: shown.kind,
            deviations: shown.deviations as f32,
        });
        self.notice(
            series,
            Observation {
                channel: series.channel.clone(),
                cause: Cause::Drift,
                at: day.end,
                held: if day.is_held { Level::Alert } else { Level::Normal },
                is_seen: day.is_held,
                evidence,
            },
        );
    }

    pub(super) fn observe(
        &mut self,
        series: &SeriesKey,
        settings: &Settings,
        at: EventTime,
        judged: &Judged,
        zone: Option<Zone>,
    ) {
        let point = (series.asset.clone(), series.point.clone());
        // Nothing stands and nothing begins: the normal case costs nothing more.
        if judged.held == Level::Normal && !self.state.conditions.notices.contains_key(&point) {
            return;
        }
        let cause = cause(judged.condition);
        let evidence = judged.evidence.and_then(|shown| {
            let zone = zone.filter(|_| cause == Cause::Severity);
            let band = shown.kind.and_then(|kind| self.band_of(series, kind, at));
            evidence(&series.channel, settings, &shown, zone, band)
        });
        self.notice(
            series,
            Observation {
                channel: series.channel.clone(),
                cause,
                at,
                held: self.softened(series, judged, at),
                is_seen: judged.reached > Some(Level::Normal),
                evidence,
            },
        );
    }

    pub(super) fn notice(&mut self, series: &SeriesKey, observation: Observation) {
        self.change_notices(series, |notices| notices.handle(observation));
    }

    /// The same of what a gateway has held since `raised`.
    pub(super) fn hear(&mut self, series: &SeriesKey, observation: Observation, raised: EventTime) {
        self.change_notices(series, |notices| notices.hear(observation, raised));
    }

    fn change_notices(
        &mut self,
        series: &SeriesKey,
        change: impl FnOnce(&mut Notices) -> Option<AdvisoryChange>,
    ) {
        let point = (series.asset.clone(), series.point.clone());
        let notices = &mut self.state.conditions.notices;
        let standing = notices
            .entry(point.clone())
            .or_insert_with(|| Notices::new(series.asset.as_str(), series.point.as_str()));
        let change = change(standing);
        if standing.standing().next().is_none() {
            notices.remove(&point);
        }
        if let Some(change) = change {
            self.tell_advisory(change);
        }
    }
}

/// Windows learned from in the regimes that still learn; none where none does.
fn learning(monitor: &Monitor) -> Option<u32> {
    let baselines = monitor.baselines().iter();
    let learning = baselines.filter(|(_, baseline)| baseline.stage() == Stage::Learning);
    learning
        .map(|(_, baseline)| baseline.windows())
        .reduce(|a, b| a + b)
}

/// Whether settings still judge a cause.
fn is_watched(settings: &Settings, cause: Cause) -> bool {
    match cause {
        Cause::Bearing(_) | Cause::Suspected(_) | Cause::Instrument => true,
        // Not by a monitor.
        Cause::Unusual | Cause::RemainingLife => false,
        Cause::Drift => settings.learning.is_some(),
        Cause::Severity => settings.severity.is_some(),
        Cause::Deviation(kind) => settings.watched.iter().any(|watched| watched.kind == kind),
    }
}

pub(super) fn evidence(
    channel: &str,
    settings: &Settings,
    shown: &Shown,
    zone: Option<Zone>,
    band: Option<WatchedBand>,
) -> Option<Evidence> {
    let channel = channel.to_owned();
    if let Some(fault) = shown.fault {
        return Some(Evidence::Instrument { channel, fault });
    }
    let standard = settings.severity.filter(|_| zone.is_some());
    Some(Evidence::Limit(LimitEvidence {
        channel,
        feature: shown.kind?,
        value: shown.value,
        limit: shown.limit,
        is_below: false,
        normal: shown.normal,
        basis: shown.basis,
        zone,
        standard: standard.map(|severity| severity.criterion.standard().edition().to_owned()),
        band,
    }))
}

/// What the features say of the samples themselves.
fn statistics(features: &[(FeatureKind, f32)]) -> Option<Statistics> {
    let value = |kind| {
        features
            .iter()
            .find(|(known, _)| *known == kind)
            .map(|(_, value)| *value)
    };
    Some(Statistics {
        mean: value(FeatureKind::Mean)?,
        rms: value(FeatureKind::Rms)?,
        peak: value(FeatureKind::Peak)?,
        peak_to_peak: value(FeatureKind::PeakToPeak)?,
        shape: None,
    })
}

fn row(
    series: &SeriesKey,
    generation: u32,
    regime: Regime,
    baseline: &Baseline,
    closed: Option<(EventTime, &str)>,
) -> BaselineRow {
    let normal = |normal: &trunnion_common::baseline::Normal| NormalRow {
        feature: normal.kind.label().to_owned(),
        centre: normal.centre,
        spread: normal.spread,
    };
    BaselineRow {
        series: series.clone(),
        generation,
        speed_regime: regime.speed,
        load_regime: regime.load,
        stage: baseline.stage().label().to_owned(),
        windows: baseline.windows(),
        learned: baseline.learned(),
        accepted: baseline.accepted(),
        closed: closed.map(|(at, _)| at),
        note: closed.map(|(_, why)| why.to_owned()),
        normals: baseline.normals().iter().map(normal).collect(),
        group: None,
    }
}
