//! Slow channels: their readings go into the windows of every stream that looks at them.
//!
//! | a reading of | is told in | under |
//! |---|---|---|
//! | a channel that the fleet file names | the file's unit, with its gain | the channel, or its asset |
//! | any other, or one whose unit contradicts the file | the node's unit | [`UNASSIGNED`] |
//!
//! Unit and place are those of the fleet file in force at the reading's own time; a window is shown where
//! the one in force at its start says.
//!
//! A channel's windows go by its own watermark ([`crate::watermark`]). Those of an asset go by the least of
//! its channels that are not idle, which never falls back; when all are idle, by the highest. They are
//! looked at once each commit, so that the order of blocks within one does not show.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | streams | [`STREAMS_MAX`](crate::settings::stream::STREAMS_MAX) names at once | more are no settings |
//! | names that were streams once | [`NAMES_MAX`] | the one that ended first is forgotten |
//! | keys and windows of a stream | as [`crate::window::stream`] says | counted |

use super::{Channel, ChannelKey, Output, Pipeline};
use crate::fleet::{ChannelSite, Fleet};
use crate::settings::Definition;
use crate::settings::stream::{Key, Selector, StreamSettings};
use crate::slots::Slots;
use crate::state::{ALL_CHANNELS, FeatureRow, SeriesKey, Told, UNASSIGNED};
use crate::watermark::{Outlook, Watermark};
use crate::window::Signal;
use crate::window::scalar::{Scalar, Summary, Value};
use crate::window::shape::Kind;
use crate::window::stream::{Cause, Emit, Emitted, Extent, Lane, Marks, Stream};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use trunnion_common::feature::FeatureKind;
use trunnion_common::id::{ChannelId, NodeId};
use trunnion_common::operation::Recent;
use trunnion_common::quantity::Unit;
use trunnion_common::slow::{self, Delay};
use trunnion_common::time::EventTime;

/// Names of streams kept, those that are configured no longer included.
pub const NAMES_MAX: usize = 64;

/// Whose readings share a window.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub(super) enum StreamKey {
    /// A channel, in the fleet file's unit.
    Channel(NodeId, ChannelId),
    /// A channel in the unit of its node, by the unit's number.
    Unassigned(NodeId, ChannelId, u8),
    /// All channels of an asset that the stream looks at.
    Asset(String),
}

/// What a slow channel is.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Slow {
    /// Readings that were to come per thousand seconds, by the latest table; 0 where each has its own time.
    pub(super) rate_mhz: u32,
    /// Its own keys with a window, open or kept, in some stream.
    keys: BTreeSet<StreamKey>,
    /// Whether history is in any of them.
    backfilled: bool,
    /// Of one that tells how a machine is operated.
    #[serde(with = "super::operation::readings")]
    pub(super) recent: Option<Box<Recent>>,
    pub(super) delay: Delay,
}

impl Slow {
    /// Whether none of its windows is open or kept.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Channel {
    /// From when on a lane counts as silent that readings in its slow windows came on, if nothing more
    /// comes; none without such windows.
    fn silent_from(&self, idle_ns: i64) -> Option<EventTime> {
        let [live, history] = self.watermark.silent_from(idle_ns);
        let silent = if self.slow.backfilled {
            live.min(history)
        } else {
            live
        };
        (!self.slow.is_empty()).then_some(silent)
    }
}

/// The windows of all streams.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Streams {
    by_name: BTreeMap<String, Windows>,
}

impl Streams {
    /// The windows of a stream.
    pub(super) fn named(&self, name: &str) -> Option<&Stream<StreamKey>> {
        self.by_name.get(name).map(|windows| &windows.stream)
    }
}

/// The windows of one stream.
#[derive(Clone, Serialize, Deserialize)]
struct Windows {
    stream: Stream<StreamKey>,
    emit: Emit,
    /// Where its last definition ends, nanoseconds of event time.
    until: i64,
    assets: BTreeMap<String, Joined>,
}

/// By what a checkpoint would hold: the stream keeps an index beside it whose order means nothing.
impl PartialEq for Windows {
    fn eq(&self, other: &Self) -> bool {
        let bytes = |windows: &Self| postcard::to_stdvec(windows).unwrap_or_default();
        bytes(self) == bytes(other)
    }
}

impl fmt::Debug for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Windows")
            .field("held", &postcard::to_stdvec(self).unwrap_or_default())
            .finish()
    }
}

/// Channels whose readings share the windows of an asset.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Joined {
    members: BTreeSet<ChannelKey>,
    /// How far they have come together, nanoseconds of event time.
    passed: i64,
}

impl Streams {
    /// Another definition holds for each stream that begins one at `from`; all of them anew without.
    pub(super) fn define(&mut self, definitions: &[Definition], from: Option<i64>) {
        if from.is_none() {
            self.by_name.clear();
        }
        for definition in definitions {
            // What is journaled has been checked, and what is always there is bounded where it is made.
            let Ok(rules) = definition.stream.rules() else {
                continue;
            };
            let name = &definition.stream.name;
            match self.by_name.get_mut(name) {
                Some(windows) => {
                    windows.until = definition.to;
                    if from.is_none_or(|from| from == definition.from) {
                        windows.stream.change(rules, EventTime(definition.from));
                        windows.emit = rules.emit;
                    }
                }
                None => {
                    let windows = Windows {
                        stream: Stream::new(rules),
                        emit: rules.emit,
                        until: definition.to,
                        assets: BTreeMap::new(),
                    };
                    self.by_name.insert(name.clone(), windows);
                }
            }
        }
        while self.by_name.len() > NAMES_MAX {
            let first = self.by_name.iter().min_by_key(|(_, windows)| windows.until);
            let Some(name) = first.map(|(name, _)| name.clone()) else {
                break;
            };
            self.by_name.remove(&name);
        }
    }

    /// Windows that were over before their time, as there were too many.
    pub(super) fn given_up(&self) -> u64 {
        self.by_name
            .values()
            .map(|windows| windows.stream.given_up())
            .sum()
    }
}

/// Readings of one channel, in one unit and on one lane.
pub(super) struct Readings<'a> {
    pub(super) key: ChannelKey,
    pub(super) signal: Signal,
    pub(super) backfill: bool,
    /// When each was taken; not a number where the sensor gave none.
    pub(super) values: &'a [(EventTime, f32)],
}

/// Which streams readings are put into.
#[derive(Clone, Copy)]
pub(super) enum Destination<'a> {
    /// All that look at their channel.
    All,
    /// The one of that name.
    Named(&'a str),
}

/// Readings that are too late for all their windows of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Late {
    /// Which definition of a stream it is.
    pub(super) definition: usize,
    /// Which of the readings.
    pub(super) at: usize,
}

/// What became of readings, counted once for all streams.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[must_use]
pub(super) struct Taken {
    /// Too late for all their windows of some stream.
    pub(super) late: u64,
    /// Which, and of which stream.
    pub(super) late_in: Vec<Late>,
    /// No numbers that can be added up.
    pub(super) unusable: u64,
    /// Of one channel more than a stream tells apart.
    pub(super) no_room: u64,
}

/// Where a slow channel's readings belong, by the fleet file in force.
pub(super) struct Place<'a> {
    channel: ChannelKey,
    /// In which unit the node tells them.
    unit: Unit,
    /// Its site, unless its unit contradicts the file.
    site: Option<&'a ChannelSite>,
    /// From the node's unit to the one that they are told in.
    pub(super) gain: f64,
    /// The key of the channel's own windows.
    own: StreamKey,
    /// Whether it tells how a machine is operated.
    is_witness: bool,
}

impl<'a> Place<'a> {
    /// Of a channel at a time.
    pub(super) fn at(
        fleets: &'a BTreeMap<EventTime, Fleet>,
        time: EventTime,
        channel: ChannelKey,
        unit: Unit,
    ) -> Self {
        let site = site_at(fleets, time, channel);
        let placed = site.and_then(|site| Some((site, unit.factor_to(site.unit)?)));
        Self {
            channel,
            unit,
            site: placed.map(|(site, _)| site),
            gain: placed.map_or(1.0, |(site, factor)| site.gain * factor),
            is_witness: placed.is_some()
                && (fleets.range(..=time).next_back())
                    .is_some_and(|(_, fleet)| fleet.is_witness(channel.0, channel.1)),
            own: match placed {
                Some(_) => StreamKey::Channel(channel.0, channel.1),
                None => StreamKey::Unassigned(channel.0, channel.1, unit as u8),
            },
        }
    }

    /// Whose windows of a stream they are in; none if it does not look at them. What is not assigned to an
    /// asset is none of its channels.
    pub(super) fn key_in(&self, stream: &StreamSettings) -> Option<StreamKey> {
        if !takes(&stream.select, self.site, self.channel, self.unit) {
            return None;
        }
        match stream.key {
            Key::Channel => Some(self.own.clone()),
            Key::Asset => self.site.map(|site| StreamKey::Asset(site.series.asset.clone())),
        }
    }
}

impl Pipeline {
    /// Puts readings into the windows of streams that look at their channel.
    pub(super) fn take_slow(&mut self, readings: &Readings<'_>, into: Destination<'_>) -> Taken {
        let mut taken = Taken::default();
        let (Some((first, _)), Some((last, _))) = (readings.values.first(), readings.values.last()) else {
            return taken;
        };
        let (settings, now) = (self.state.settings.at(self.state.now).windows, self.state.now);
        let place = Place::at(&self.fleets, *first, readings.key, readings.signal.unit);
        let gain = place.gain;
        let lane = if readings.backfill {
            Lane::History
        } else {
            Lane::Live
        };
        let state = &mut self.state;
        let channel = state.channels.or_default(readings.key);
        channel.slow.rate_mhz = readings.signal.rate_mhz;
        let silent = now.plus_nanos(settings.idle_ns);
        // Beside history the live lane may have been silent for long, or always.
        let live = channel.watermark.silent_from(settings.idle_ns)[0];
        self.slow_idle.note(if readings.backfill {
            live.min(silent)
        } else {
            silent
        });
        // What is history, or is read again, says nothing of how a machine is operated now.
        let is_live = !readings.backfill && matches!(into, Destination::All);
        if is_live {
            channel.slow.delay.note(*first, now);
        }
        if is_live && place.is_witness {
            let recent = channel.slow.recent.get_or_insert_default();
            for (time, value) in readings.values.iter().filter(|(_, value)| value.is_finite()) {
                recent.note(*time, (f64::from(*value) * gain) as f32);
            }
        }
        for (number, definition) in self.definitions.iter().enumerate() {
            if last.0 < definition.from || first.0 >= definition.to {
                continue;
            }
            let stream = &definition.stream;
            if matches!(into, Destination::Named(name) if name != stream.name) {
                continue;
            }
            let Some(key) = place.key_in(stream) else {
                continue;
            };
            let Some(windows) = state.streams.by_name.get_mut(&stream.name) else {
                continue;
            };
            let within = |(time, value): &&(EventTime, f32)| {
                definition.from <= time.0 && time.0 < definition.to && !value.is_nan()
            };
            let values = readings.values.iter().filter(within);
            let values = values.map(|(time, value)| (*time, f64::from(*value) * gain));
            let patience = Patience {
                now,
                trail_ns: settings.trail_ns,
            };
            let late_in = &mut taken.late_in;
            let late = |time| {
                let at = readings.values.iter().position(|reading| reading.0 == time);
                late_in.extend(at.map(|at| Late {
                    definition: number,
                    at,
                }));
            };
            let result = match &key {
                StreamKey::Channel(..) | StreamKey::Unassigned(..) => {
                    let channel = state.channels.or_default(readings.key);
                    if !channel.slow.keys.contains(&key) {
                        channel.slow.keys.insert(key.clone());
                    }
                    channel.slow.backfilled |= readings.backfill;
                    let sources = [Source::new(&channel.watermark, now, settings.idle_ns)];
                    let marks = Together::new(sources[0].mark.live(), &sources, patience);
                    windows.stream.place_telling(&key, lane, &marks, values, late)
                }
                StreamKey::Asset(asset) => {
                    let joined = windows.assets.entry(asset.clone()).or_insert_with(|| Joined {
                        members: BTreeSet::new(),
                        passed: i64::MIN,
                    });
                    joined.members.insert(readings.key);
                    let sources = joined.sources(&state.channels, now, settings.idle_ns);
                    let marks = Together::new(EventTime(joined.passed), &sources, patience);
                    windows.stream.place_telling(&key, lane, &marks, values, late)
                }
            };
            taken.late = taken.late.max(result.late);
            taken.unusable = taken.unusable.max(result.unusable);
            taken.no_room = taken.no_room.max(result.no_room);
        }
        taken
    }

    /// Looks at a node's slow channels again, whose watermarks have been settled.
    pub(super) fn advance_slow(&mut self, node: NodeId) {
        let channels = self.state.channels.from((node, super::FIRST_CHANNEL));
        let slow = channels
            .take_while(|(key, _)| key.0 == node)
            .filter(|(_, channel)| !channel.slow.is_empty());
        let keys: Vec<ChannelKey> = slow.map(|(key, _)| *key).collect();
        for key in keys {
            self.advance_channel(key, |emit| emit == Emit::Close);
        }
        self.touched.insert(node);
    }

    /// At the end of a commit: what is told of each one, what waits for several channels, and what waits for
    /// channels that have fallen silent.
    pub(super) fn settle_streams(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        let (now, idle_ns) = (
            self.state.now,
            self.state.settings.at(self.state.now).windows.idle_ns,
        );
        let mut keys = BTreeSet::new();
        if (self.state.streams.by_name.values()).any(|windows| windows.emit == Emit::Update) {
            let of_node = |node: &NodeId| {
                let node = *node;
                let channels = self.state.channels.from((node, super::FIRST_CHANNEL));
                channels.take_while(move |(key, _)| key.0 == node)
            };
            let slow = touched
                .iter()
                .flat_map(of_node)
                .filter(|(_, channel)| !channel.slow.is_empty());
            keys.extend(slow.map(|(key, _)| *key));
        }
        if self.slow_idle.begin(now, idle_ns) {
            for (key, channel) in self.state.channels.iter() {
                let Some(silent) = channel.silent_from(idle_ns) else {
                    continue;
                };
                self.slow_idle.note(silent);
                if silent <= now {
                    keys.insert(*key);
                }
            }
        }
        for key in keys {
            self.advance_channel(key, |_| true);
        }
        self.advance_assets();
        self.state.counters.windows_given_up = self.state.streams.given_up();
    }

    /// Tells what there is to tell of a channel's own windows, in the streams told of that way.
    fn advance_channel(&mut self, key: ChannelKey, which: impl Fn(Emit) -> bool) {
        let settings = self.state.settings.at(self.state.now).windows;
        let patience = Patience {
            now: self.state.now,
            trail_ns: settings.trail_ns,
        };
        let Some(channel) = self.state.channels.get_mut(&key) else {
            return;
        };
        let sources = [Source::new(&channel.watermark, self.state.now, settings.idle_ns)];
        let marks = Together::new(channel.watermark.live(), &sources, patience);
        let mut told = Vec::new();
        let streams = &mut self.state.streams.by_name;
        channel.slow.keys.retain(|own| {
            let mut is_empty = true;
            for (name, windows) in streams.iter_mut() {
                if which(windows.emit) {
                    let emitted = windows.stream.advance(own, &marks);
                    told.extend(emitted.into_iter().map(|emitted| (name.clone(), emitted)));
                }
                is_empty &= windows.stream.is_empty(own);
            }
            !is_empty
        });
        channel.slow.backfilled &= !channel.slow.keys.is_empty();
        let rate_mhz = channel.slow.rate_mhz;
        for (name, emitted) in told {
            self.publish_slow(&name, rate_mhz, emitted);
        }
    }

    fn advance_assets(&mut self) {
        let (now, settings) = (self.state.now, self.state.settings.at(self.state.now).windows);
        let patience = Patience {
            now,
            trail_ns: settings.trail_ns,
        };
        let mut told = Vec::new();
        for (name, windows) in &mut self.state.streams.by_name {
            for (asset, joined) in &mut windows.assets {
                let key = StreamKey::Asset(asset.clone());
                if windows.stream.is_empty(&key) {
                    continue;
                }
                let sources = joined.sources(&self.state.channels, now, settings.idle_ns);
                joined.passed = joined.passed.max(Together::combined(&sources).0);
                let marks = Together::new(EventTime(joined.passed), &sources, patience);
                let emitted = windows.stream.advance(&key, &marks);
                told.extend(emitted.into_iter().map(|emitted| (name.clone(), emitted)));
            }
        }
        for (name, emitted) in told {
            self.publish_slow(&name, 0, emitted);
        }
    }

    /// A window of readings; `rate_mhz` says how many there were to be.
    pub(super) fn publish_slow(&mut self, name: &str, rate_mhz: u32, told: Emitted<StreamKey>) {
        let unassigned = |node: NodeId, channel: ChannelId| SeriesKey {
            asset: UNASSIGNED.to_owned(),
            point: node.to_string(),
            channel: channel.to_string(),
        };
        let site = |node, channel| site_at(&self.fleets, told.start, (node, channel));
        let counters = &mut self.state.counters;
        let series = match &told.key {
            StreamKey::Channel(node, channel) => {
                site(*node, *channel).map_or_else(|| unassigned(*node, *channel), |site| site.series.clone())
            }
            StreamKey::Unassigned(node, channel, _) => {
                counters.windows_contradicted += u64::from(site(*node, *channel).is_some());
                unassigned(*node, *channel)
            }
            StreamKey::Asset(asset) => SeriesKey {
                asset: asset.clone(),
                point: ALL_CHANNELS.to_owned(),
                channel: ALL_CHANNELS.to_owned(),
            },
        };
        let holds = |definition: &&Definition| {
            definition.stream.name == name && definition.from <= told.start.0 && told.start.0 < definition.to
        };
        let shape = self
            .definitions
            .iter()
            .find(holds)
            .map(|definition| definition.stream.shape);
        let length = match shape {
            Some(Kind::Tumbling { size_ns } | Kind::Hopping { size_ns, .. }) => size_ns,
            Some(Kind::Session { .. }) | None => 0,
        };
        let wanted = slow::wanted(rate_mhz, length);
        let coverage = |summary: &Summary| match wanted {
            0 => 1.0,
            wanted => (summary.count as f64 / wanted as f64).min(1.0),
        };
        let least = self
            .state
            .settings
            .at(self.state.now)
            .windows
            .coverage_min_permille;
        let is_update = told.cause == Cause::Updated;
        let is_enough = |summary: &Summary| is_update || coverage(summary) * 1e3 >= f64::from(least);
        let values = |summary: Option<Summary>| {
            let enough = summary.filter(is_enough);
            enough.map_or_else(Vec::new, |summary| summarised(&summary))
        };
        let decided = told.new.as_ref().is_some_and(is_enough);
        match told.cause {
            Cause::Updated => counters.windows_updated += 1,
            Cause::Closed => {
                counters.windows_fired += 1;
                counters.windows_undecided += u64::from(!decided);
            }
            Cause::Corrected => counters.windows_corrected += 1,
        }
        counters.windows_backfilled += u64::from(told.history && !is_update);
        let corrected = told.cause == Cause::Corrected;
        // The stream that is always there is what slow channels are judged by.
        let judged = match &told.key {
            StreamKey::Channel(node, channel)
                if name.is_empty() && told.cause == Cause::Closed && !told.history =>
            {
                Some(((*node, *channel), series.clone()))
            }
            _ => None,
        };
        let summary = told.new.filter(|_| decided);
        self.outputs.push(Output::Features(FeatureRow {
            series,
            stream: name.to_owned(),
            start: told.start,
            end: told.end,
            coverage: told.new.as_ref().map_or(0.0, |summary| coverage(summary) as f32),
            decided,
            revision: told.revision,
            told: match told.cause {
                Cause::Updated => Told::Update,
                Cause::Closed => Told::Fired,
                Cause::Corrected => Told::Corrected { at: self.state.now },
            },
            backfill: told.history,
            values: values(told.new),
            old: if corrected { values(told.old) } else { Vec::new() },
            basis: None,
        }));
        if let Some((key, series)) = judged {
            let window = slow::Window {
                start: told.start,
                end: told.end,
                summary: summary.as_ref().map(Summary::slow),
            };
            self.judge_slow(key, &series, &window);
        }
    }
}

/// What is told of a window of readings.
fn summarised(summary: &Summary) -> Vec<(&'static str, f32)> {
    let mut values = vec![
        ("count", summary.count as f32),
        (FeatureKind::Mean.label(), summary.mean as f32),
        ("standard_deviation", summary.deviation() as f32),
        ("minimum", summary.minimum as f32),
        ("maximum", summary.maximum as f32),
    ];
    if let Some([p50, p95, p99]) = summary.quantiles {
        values.extend([("p50", p50 as f32), ("p95", p95 as f32), ("p99", p99 as f32)]);
    }
    values
}

/// As it is told of a window, of readings that stand side by side.
pub(super) fn summarise(readings: &[f32]) -> Vec<(&'static str, f32)> {
    let mut window = Scalar::new(false);
    for value in readings.iter().filter_map(|value| Value::new(f64::from(*value))) {
        // There are never as many in memory as a window counts.
        let _ = window.add(value);
    }
    window
        .summary()
        .map_or_else(Vec::new, |summary| summarised(&summary))
}

/// Whether a stream looks at a channel, which no fleet file may name.
fn takes(select: &Selector, site: Option<&ChannelSite>, key: ChannelKey, unit: Unit) -> bool {
    if *select == Selector::default() {
        return true;
    }
    match site {
        Some(site) => {
            let series = &site.series;
            select.takes(&series.asset, &series.point, &series.channel, site.unit)
        }
        None => select.takes(UNASSIGNED, &key.0.to_string(), &key.1.to_string(), unit),
    }
}

fn site_at(
    fleets: &BTreeMap<EventTime, Fleet>,
    time: EventTime,
    (node, channel): ChannelKey,
) -> Option<&ChannelSite> {
    let (_, fleet) = fleets.range(..=time).next_back()?;
    fleet.channel(node, channel)
}

impl Joined {
    /// Its channels that are known still.
    fn sources<'a>(
        &self,
        channels: &'a Slots<ChannelKey, Channel>,
        now: EventTime,
        idle_ns: i64,
    ) -> Vec<Source<'a>> {
        let members = self.members.iter().filter_map(|key| channels.get(key));
        members
            .map(|channel| Source::new(&channel.watermark, now, idle_ns))
            .collect()
    }
}

/// A channel whose readings share windows with others'.
struct Source<'a> {
    mark: &'a Watermark,
    /// Whether its live samples have fallen silent, and whether history has.
    idle: [bool; 2],
}

impl<'a> Source<'a> {
    fn new(mark: &'a Watermark, now: EventTime, idle_ns: i64) -> Self {
        Self {
            mark,
            idle: [false, true].map(|backfill| mark.is_idle(backfill, now, idle_ns)),
        }
    }
}

/// How long windows wait, and by which clock.
#[derive(Clone, Copy)]
struct Patience {
    now: EventTime,
    trail_ns: i64,
}

/// How far the channels of a window have come together.
struct Together<'a> {
    passed: EventTime,
    sources: &'a [Source<'a>],
    patience: Patience,
}

impl<'a> Together<'a> {
    const fn new(passed: EventTime, sources: &'a [Source<'a>], patience: Patience) -> Self {
        Self {
            passed,
            sources,
            patience,
        }
    }

    /// The least of those that are not idle; the highest of all when all are.
    fn combined(sources: &[Source<'_>]) -> EventTime {
        let active = sources.iter().filter(|source| !source.idle[0]);
        let least = active.map(|source| source.mark.live()).min();
        let highest = || sources.iter().map(|source| source.mark.live()).max();
        least.or_else(highest).unwrap_or(EventTime(i64::MIN))
    }

    fn look(&self, source: &Source<'_>, window: &Extent) -> Outlook {
        let trail_ns = self.patience.trail_ns;
        source
            .mark
            .outlook_of_all(window.start, window.end, window.live, trail_ns)
    }
}

impl Marks for Together<'_> {
    fn has_passed(&self, time: i64) -> bool {
        self.passed.0 >= time
    }

    fn outlook(&self, window: &Extent) -> Outlook {
        let mut active = (self.sources.iter())
            .filter(|source| !source.idle[usize::from(!window.live)])
            .peekable();
        // When all have fallen silent, the journal's clock says that it is over.
        let due = match active.peek() {
            None => window.end <= self.patience.now.0,
            Some(_) => {
                (!window.live || self.has_passed(window.end))
                    && active.all(|source| self.look(source, window).due)
            }
        };
        let grows = self.sources.iter().any(|source| self.look(source, window).grows);
        Outlook { due, grows }
    }
}
