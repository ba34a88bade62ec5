//! Slow channels that are not as they were, alone and together.
//!
//! | looked at | by | told when | normal is |
//! |---|---|---|---|
//! | one channel | [`Scalar`](trunnion_common::detection::scalar::Scalar), on means over `unusual_alone_s` | a mean, or the level of the last ones, is rarer than anything of late | what it was of late: the densities follow the channel, so nobody is asked to agree |
//! | a group | [`Multivariate`], on rows of `unusual_together_s` ([`trunnion_diagnosis::rows`]) | T-squared is beyond its limit, in as many rows as the asset's persistence asks for | the rows that it learned from, once a person has accepted them; maintenance begins anew |
//!
//! The detectors and their settings are those that `eval` judges. Both are evidence and no verdict: nothing says
//! that it is bad, so the level is never above ALERT. Beside T-squared stand its contributions, Q, and what
//! half-space trees say, which assume nothing of how channels go together; they raise nothing by themselves.
//!
//! While the machine is told to stand still nothing is learned or judged, and a group learns nothing while an
//! advisory of its asset stands. An anomaly of one channel is told once, so its advisory is held for
//! [`HELD_READINGS`](trunnion_diagnosis::unusual::HELD_READINGS) further ones.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | channels and groups | those of the fleet in force that are to be judged so | the others are forgotten |
//! | channels of a group | [`CHANNELS_MAX`] | a fleet file with more is refused |

use super::condition::Conditions;
use super::{Output, Pipeline};
use crate::advisory::{Cause, Evidence, Observation, UnusualEvidence};
use crate::fleet::{Fleet, Group, GroupKey, series_of};
use crate::state::{ALL_CHANNELS, BaselineRow, NormalRow, SeriesKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trunnion_common::baseline::Stage;
use trunnion_common::detection::hotelling::CHANNELS_MAX;
use trunnion_common::detection::multivariate::{Multivariate, Settings};
use trunnion_common::detection::trees::{HalfSpaceTrees, Range};
use trunnion_common::level::{Level, Persistence};
use trunnion_common::slow::Window;
use trunnion_common::time::EventTime;
use trunnion_diagnosis::rows::{Row, Rows};
use trunnion_diagnosis::unusual::{self, Alone, Departed, Shown, Told};

/// Trees of a group: fewer than the paper's 25, as the opinion is one beside others, and each takes 6 KiB.
const TREES: usize = 10;

/// Where the trees begin to look: this many learned deviations around the mean.
const TREES_REACH: f64 = 3.0;

/// By what lot the trees are grown: any will do, and the same one always.
const TREES_SEED: u64 = 1;

/// What the stage remembers.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Unusual {
    alone: BTreeMap<SeriesKey, Alone>,
    together: BTreeMap<GroupKey, Together>,
}

/// A group of channels.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Together {
    channels: Vec<String>,
    running: Option<(usize, f32)>,
    settings: Settings,
    rows: Rows,
    detector: Box<Multivariate>,
    trees: Option<Box<HalfSpaceTrees<TREES, CHANNELS_MAX>>>,
    /// Counted up whenever it begins anew.
    generation: u32,
    /// First and last row learned from.
    learned: Option<(EventTime, EventTime)>,
    accepted: Option<EventTime>,
    departed: Departed,
}

impl Together {
    fn new(group: &Group, generation: u32) -> Self {
        Self {
            channels: group.channels.clone(),
            running: group.running,
            settings: group.settings,
            rows: Rows::new(group.every_ns, group.width()),
            detector: Box::new(Multivariate::new(group.channels.len(), group.settings)),
            trees: None,
            generation,
            learned: None,
            accepted: None,
            departed: Departed::default(),
        }
    }

    /// Whether it is what the fleet wants.
    fn is_of(&self, group: &Group) -> bool {
        self.channels == group.channels
            && self.running == group.running
            && self.settings == group.settings
            && (self.rows.every_ns(), self.rows.width()) == (group.every_ns.max(1), group.width())
    }

    fn stage(&self) -> Stage {
        match self.accepted {
            Some(_) => Stage::Accepted,
            None if self.detector.is_judging() => Stage::Proposed,
            None => Stage::Learning,
        }
    }

    /// Takes the next row; says what is to be told. Whether the stage has changed, [`Self::stage`] says.
    fn handle_row(&mut self, row: &Row, may_learn: bool, persistence: Persistence) -> Option<Told> {
        let Some(readings) = unusual::judged(row, self.channels.len(), self.running) else {
            self.departed.handle_gap(persistence);
            return None;
        };
        if let Some(rows) = self.detector.learning() {
            if !may_learn {
                return None;
            }
            let first = self
                .learned
                .filter(|_| rows > 0)
                .map_or(row.end, |(first, _)| first);
            self.learned = Some((first, row.end));
        }
        let judgement = self.detector.handle_row(row.end, readings);
        if self.trees.is_none() {
            self.trees = self.plant();
        }
        let rarity = self.trees.as_mut().and_then(|trees| trees.handle_row(readings));
        let judgement = judgement?;
        self.departed.note(&judgement);
        // Until a person agrees that it was normal, nothing is told by it.
        self.accepted?;
        self.departed.handle(&judgement, rarity, persistence)
    }

    fn plant(&self) -> Option<Box<HalfSpaceTrees<TREES, CHANNELS_MAX>>> {
        let model = self.detector.learned()?.model();
        let range = |(mean, scale): (&f64, &f64)| Range {
            low: (mean - TREES_REACH * scale) as f32,
            high: (mean + TREES_REACH * scale) as f32,
        };
        let ranges: Vec<Range> = model.means().iter().zip(model.scales()).map(range).collect();
        Some(Box::new(HalfSpaceTrees::new(&ranges, TREES_SEED)))
    }

    fn row(&self, key: &GroupKey, closed: Option<(EventTime, &str)>) -> BaselineRow {
        let group = self.detector.learned();
        let learned = group.into_iter().flat_map(|learned| {
            let model = learned.model();
            model.means().iter().zip(model.scales())
        });
        let normal = |(channel, (mean, scale)): (&String, (&f64, &f64))| NormalRow {
            feature: channel.clone(),
            centre: *mean as f32,
            spread: *scale as f32,
        };
        let rows = self.detector.learning();
        BaselineRow {
            series: series_of(key),
            generation: self.generation,
            speed_regime: 0,
            load_regime: 0,
            stage: self.stage().label().to_owned(),
            windows: rows.unwrap_or(usize::from(self.settings.learning)) as u32,
            learned: self.learned,
            accepted: self.accepted,
            closed: closed.map(|(at, _)| at),
            note: closed.map(|(_, why)| why.to_owned()),
            normals: self.channels.iter().zip(learned).map(normal).collect(),
            // As long as it judges: rows that are closed are kept for years.
            group: group
                .filter(|_| self.accepted.is_some() && closed.is_none())
                .map(|learned| Box::new(learned.clone())),
        }
    }
}

/// What is shown of one channel of a point, or of a group of these.
pub(super) fn evidence(channel: Option<&str>, group: &[String], shown: Shown) -> UnusualEvidence {
    let shares = shown.contributions.iter().copied();
    let mut contributions: Vec<_> = group.iter().cloned().zip(shares).collect();
    contributions.sort_by(|a, b| b.1.total_cmp(&a.1));
    UnusualEvidence {
        channel: channel.map(str::to_owned),
        value: shown.value,
        limit: shown.limit,
        residual: shown.residual,
        rarity: shown.rarity,
        contributions,
    }
}

/// Whether a fleet still wants to know what is unusual there.
pub(super) fn is_watched(fleet: &Fleet, series: &SeriesKey) -> bool {
    if series.point == ALL_CHANNELS {
        return fleet
            .group(&(series.asset.clone(), series.channel.clone()))
            .is_some();
    }
    let slow = fleet.site(series).and_then(|site| site.slow.as_ref());
    slow.is_some_and(|slow| slow.alone_ns.is_some())
}

impl Unusual {
    /// Forgets what a fleet no longer wants to know.
    pub(super) fn retain(&mut self, fleet: &Fleet) {
        self.alone.retain(|series, _| is_watched(fleet, series));
        self.together.retain(|key, _| fleet.group(key).is_some());
    }
}

impl Pipeline {
    /// One channel by itself.
    pub(super) fn judge_alone(
        &mut self,
        series: &SeriesKey,
        every_ns: Option<i64>,
        window: &Window,
        is_off: bool,
    ) {
        let Some(every_ns) = every_ns else {
            return;
        };
        let all = &mut self.state.conditions.unusual.alone;
        if all.get(series).is_some_and(|alone| alone.every_ns() != every_ns) {
            all.remove(series);
            self.conclude_unusual(series, window.end);
        }
        let all = &mut self.state.conditions.unusual.alone;
        let alone = all.entry(series.clone()).or_insert_with(|| Alone::new(every_ns));
        alone.handle_window(window, is_off);
        let mut told = Vec::new();
        while let Some((row, found)) = alone.poll() {
            told.extend(found.map(|found| (row.end, found)));
        }
        for (at, found) in told {
            let evidence = |shown| evidence(Some(&series.channel), &[], shown);
            self.tell_unusual(series, at, found.held, found.shown.map(evidence));
        }
    }

    /// The groups that a channel stands in.
    pub(super) fn judge_together(&mut self, series: &SeriesKey, window: &Window) {
        let now = self.state.now;
        let Some((_, fleet)) = self.fleets.range(..=now).next_back() else {
            return;
        };
        let groups: Vec<(GroupKey, usize, Group)> = fleet
            .groups_of(series)
            .iter()
            .filter_map(|(key, place)| Some((key.clone(), *place, fleet.group(key)?.clone())))
            .collect();
        for (key, place, group) in groups {
            let known = self.state.conditions.unusual.together.get(&key);
            if known.is_some_and(|known| !known.is_of(&group)) {
                self.begin_group_anew(&key, now, "other channels or settings");
            }
            let may_learn = !self.has_standing(&key.0);
            let all = &mut self.state.conditions.unusual.together;
            let together = all.entry(key.clone()).or_insert_with(|| Together::new(&group, 0));
            if !together.is_of(&group) {
                *together = Together::new(&group, together.generation);
            }
            let before = together.stage();
            together
                .rows
                .add(place, (window.start, window.end), window.readings());
            let mut told = Vec::new();
            while let Some(row) = together.rows.poll() {
                let found = together.handle_row(&row, may_learn, group.persistence);
                told.extend(found.map(|found| (row.end, found)));
            }
            if together.stage() != before {
                let row = together.row(&key, None);
                self.outputs.push(Output::Baseline(row));
            }
            let series = series_of(&key);
            for (at, found) in told {
                let evidence = |shown| evidence(None, &group.channels, shown);
                self.tell_unusual(&series, at, found.held, found.shown.map(evidence));
            }
        }
    }

    /// A person agrees to what a group has learned.
    pub(super) fn accept_groups(&mut self, covers: impl Fn(&SeriesKey) -> bool, now: EventTime) {
        for (key, together) in &mut self.state.conditions.unusual.together {
            if covers(&series_of(key)) && together.stage() == Stage::Proposed {
                together.accepted = Some(now);
                self.outputs.push(Output::Baseline(together.row(key, None)));
            }
        }
    }

    /// What is learned of slow channels is normal no more.
    pub(super) fn begin_unusual_anew(
        &mut self,
        covers: impl Fn(&SeriesKey) -> bool,
        now: EventTime,
        why: &str,
    ) {
        let unusual = &mut self.state.conditions.unusual;
        let alone: Vec<_> = unusual
            .alone
            .keys()
            .filter(|series| covers(series))
            .cloned()
            .collect();
        for series in &alone {
            unusual.alone.remove(series);
        }
        let groups = unusual.together.keys().filter(|key| covers(&series_of(key)));
        let groups: Vec<_> = groups.cloned().collect();
        for series in alone {
            self.conclude_unusual(&series, now);
        }
        for key in groups {
            self.begin_group_anew(&key, now, why);
        }
    }

    fn begin_group_anew(&mut self, key: &GroupKey, now: EventTime, why: &str) {
        let Some(together) = self.state.conditions.unusual.together.get_mut(key) else {
            return;
        };
        self.outputs
            .push(Output::Baseline(together.row(key, Some((now, why)))));
        let settings = together.settings;
        together.generation += 1;
        *together.detector = Multivariate::new(together.channels.len(), settings);
        (together.trees, together.learned, together.accepted) = (None, None, None);
        together.departed.begin_anew();
        self.conclude_unusual(&series_of(key), now);
    }

    fn conclude_unusual(&mut self, series: &SeriesKey, now: EventTime) {
        self.tell_unusual(series, now, Level::Normal, None);
    }

    fn tell_unusual(
        &mut self,
        series: &SeriesKey,
        at: EventTime,
        held: Level,
        evidence: Option<UnusualEvidence>,
    ) {
        let point = (series.asset.clone(), series.point.clone());
        if held == Level::Normal && !self.state.conditions.has_notice(&point) {
            return;
        }
        self.notice(
            series,
            Observation {
                channel: series.channel.clone(),
                cause: Cause::Unusual,
                at,
                held,
                is_seen: evidence.is_some(),
                evidence: evidence.map(Evidence::Unusual),
            },
        );
        self.concern(&series.asset);
    }

    /// Whether anything stands against an asset but that it is unusual.
    fn has_standing(&self, asset: &str) -> bool {
        let Conditions { notices, .. } = &self.state.conditions;
        let first = (asset.to_owned(), String::new());
        let notices = notices.range(first.clone()..);
        let mut notices = notices.take_while(|((of, _), _)| of == asset);
        let bearings = self.state.advisories.range(first..);
        let mut bearings = bearings.take_while(|((of, _), _)| of == asset);
        notices.any(|(_, of)| of.standing().any(|advisory| advisory.cause != Cause::Unusual))
            || bearings.any(|(_, of)| of.standing().next().is_some())
    }
}
