//! Site, area, asset, shaft, measurement point, channel: one validated model.
//!
//! The fleet file says what the plant is made of and which node's channel serves which measurement
//! point; agents and nodes know only node and channel numbers, and a node that is replaced changes one
//! line here. All ids are `[a-z0-9-]{1,32}`; asset ids are unique in the file, point ids within their
//! asset, channel ids within their point.
//!
//! ```toml
//! [[template]]                # optional: how a class of machines is judged
//! id = "fans"
//! [template.condition]        # optional, as is every key; an asset has the same
//! baseline_hours = 24         # a normal is proposed after so long, and baseline_windows = 300 windows
//! alert_ratio = 2             # told from so many times the normal on, alarm_ratio = 10 when it is bad, and
//! deviations = 4              # not below so many standard deviations
//! [[template.condition.alarm]] # limits that hold whatever is normal
//! feature = "crest_factor"
//! alert = 6
//! alarm = 10
//!
//! [[site]]
//! id = "bremen"
//! [[site.area]]
//! id = "hall-1"
//!
//! [[site.area.asset]]
//! id = "fan-3"
//! name = "Exhaust fan 3"
//! template = "fans"           # optional: what the asset itself says goes before
//! iso_group = 2               # ISO 20816-3: 1 above 300 kW, 2 above 15 kW; needs the next two
//! power_kw = 75               # instead: iso_class = "I" to "IV" (ISO 10816-1), or zones_mm_s = [2.5, 4, 6.6]
//! support = "rigid"           # or "flexible"
//! line_hz = 50                # optional: of its electric supply
//! [site.area.asset.condition]
//! off_below = 0.02            # RMS, in the channels' unit: below, it stands still
//! settle_s = 10               # so long after it begins to run it is not judged; speed_change_percent = 2
//! windows_required = 3        # so many of the last windows_of = 5 must agree
//! unusual_alone_s = 300       # rare readings of slow channels are told, averaged over so long; off without
//! unusual_together_s = 10     # slow channels are judged together in rows of so long; off without. What is
//! unusual_rows = 400          # normal of them is proposed after so many rows
//! speed_edges_rpm = [900]     # a normal of its own for each range of speeds; load_edges too
//! trip_mm_s = 5.0             # lower than 1.25 times C/D
//! expected_s = 1              # a window is expected so often; else by the plan
//! reading_s = 600             # windows of so long are one reading of the remaining life
//! life_model = "pumps"        # it ends like machines that `life learn pumps` was told of; off without
//! ran_before_h = 12000        # optional: so long it had run when the collector first heard of it
//!
//! [site.area.asset.operation] # optional: slow channels, as point/channel, that tell how it is operated
//! speed = "motor-de/speed"    # rpm of that point's shaft, and of the others by their ratio
//! load = "motor-de/current"   # in whose unit load_edges are
//! running = "motor-de/current" # it runs while this is above
//! running_above = 5.0
//! fresh_s = 60                # a reading counts for so long
//!
//! [[site.area.asset.shaft]]
//! id = "motor"
//! rpm = 1772                  # or driven_by = "other-shaft" and ratio = its speed times this
//! speed_tolerance_percent = 2 # optional: how far the true speed may be from that, by load (0.5 unless declared);
//!                             # above 0.5 it is read from the vibration where that shows it
//! blades = 6                  # optional, as is teeth
//! [[site.area.asset.shaft.bearing]]
//! id = "drive-end"
//! designation = "6205"        # or geometry = { balls, ball_mm, pitch_mm, angle_deg },
//!                             # or orders = { outer_race, inner_race, ball, cage }
//!
//! [[site.area.asset.point]]
//! id = "motor-de"
//! shaft = "motor"
//! bearing = "drive-end"       # optional: nothing is searched for without
//! mounting_limit_hz = 7000    # optional: what the mount passes on
//! envelope_band_hz = [2000, 4000] # optional: the band whose envelope is trended, for good
//! [[site.area.asset.point.band]] # optional, four at most: trended and judged as band_1 to band_4
//! orders = [4.5, 7.5]         # of the shaft's speed; or hz = [150, 220]
//! quantity = "velocity"       # mm/s; without it what the channel measures
//! alert = 1.8                 # optional, both: limits that hold whatever is normal
//! alarm = 4.5
//! [[site.area.asset.point.channel]]
//! id = "v"                    # optional: else quantity and axis
//! node = "00000000000000a1"
//! channel = 0
//! quantity = "acceleration"
//! unit = "g"
//! axis = "+v"                 # h, v or a (ISO 20816-1), with the sign of the sensor's positive direction
//! range = 16                  # full scale, in the unit
//! band_hz = [1, 5000]         # where the sensor can be used
//! sensitivity = 1.0           # optional: true value over reported value, from its calibration
//! plan = { window = 4096 }    # optional: "off", "raw", features over a window, or, with samples and
//!                             # every_s too, a waveform now and then; a node without any is left alone
//! [[site.area.asset.point.channel]]
//! id = "speed"
//! node = "00000000000000a1"
//! channel = 1
//! quantity = "speed"
//! unit = "rpm"
//! range = 3000
//! unusual = "off"             # optional: it is not looked at for what is unusual
//! [[site.area.asset.point.channel]]
//! id = "current"
//! node = "00000000000000a1"
//! channel = 2
//! quantity = "current"
//! unit = "A"
//! range = 200
//! alert = 150                 # of what is no vibration, optional, in its unit; alarm = 170 too
//! alert_below = 2             # and alarm_below = 1
//! expected_s = 10             # optional: a window is expected so often
//! group = "drive"             # optional: judged together with these only, else with all of the asset
//!
//! [[bearing]]                 # optional: designations of the plant's own, which go before the built-in ones
//! designation = "our 316"
//! geometry = { balls = 13, ball_mm = 22, pitch_mm = 125 }   # or orders
//!
//! [[site.gateway]]            # optional: what is not said here is as the gateway's own configuration says
//! id = "gw-1"
//! heartbeat_interval_ms = 10000
//! live_share_percent = 80
//! backfill_order = "oldest_first"
//! backfill_kib_s = 512
//! watch = "on"                # it judges its machines itself, too, for when it is cut off
//! ```

mod band;
mod bearing;
mod condition;
mod operation;
mod plan;
mod section;
mod shaft;
mod slow;
mod watch;

pub use band::PointBand;
pub use condition::{ALARMS_MAX, Judging, Origin, Told};
pub use slow::{Group, GroupKey, SlowJudging, series_of};
pub use trunnion_common::severity::Support;

use crate::command::Wanted;
use crate::state::{AssetRow, SeriesKey, UNASSIGNED};
use crate::window::WindowSettings;
use band::read_bands;
use bearing::{Catalogue, read_catalogue};
use condition::Draft;
use operation::read_operation;
use section::{At, Section, Source};
use shaft::read_shafts;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use toml::de::DeTable;
use trunnion_common::feature::definition::{BANDS_MAX, Basis, SpeedSource};
use trunnion_common::frame::ChannelPlan;
use trunnion_common::id::{ChannelId, Name, NodeId};
use trunnion_common::monitor;
use trunnion_common::operating::Operating;
use trunnion_common::operation::{Operation, Witness};
use trunnion_common::quantity::{Quantity, Unit};
use trunnion_diagnosis::bearing::{BearingOrders, Neighbours};
use trunnion_diagnosis::diagnosis::Train;
use trunnion_diagnosis::features::{NYQUIST_MARGIN, PointContext, ShaftSpeed};

/// Something wrong with a fleet file, where, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The file's name.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            what,
            fix,
        } = self;
        write!(f, "{file}:{line}:{column}: {what}; {fix}")
    }
}

/// The plant, as far as it is measured.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Fleet {
    assets: Vec<Asset>,
    channels: BTreeMap<(NodeId, ChannelId), ChannelSite>,
    /// Which of them hangs where.
    places: BTreeMap<SeriesKey, (NodeId, ChannelId)>,
    /// By asset, of those of which channels tell how they are operated.
    operations: BTreeMap<String, Operation>,
    /// Slow channels that are judged together.
    groups: slow::Groups,
    /// The channels that do.
    witnesses: BTreeSet<(NodeId, ChannelId)>,
    wanted: Wanted,
}

/// A machine.
#[derive(Clone, PartialEq, Debug)]
pub struct Asset {
    /// Asset id.
    pub id: String,
    /// Name for people; the id when none is given.
    pub name: String,
    /// Site id.
    pub site: String,
    /// Area id.
    pub area: String,
    /// How its condition is judged.
    pub judging: Judging,
}

/// The unit of limits between zones.
const UNIT_OF_ZONES: Unit = Unit::MillimetrePerSecond;

/// What a node's channel measures, and where.
#[derive(Clone, PartialEq, Debug)]
pub struct ChannelSite {
    /// Asset, point and channel id.
    pub series: SeriesKey,
    /// Unit of the series.
    pub unit: Unit,
    /// Full scale, in the unit.
    pub range: f64,
    /// What reported values are multiplied with: sensitivity, and the axis' sign.
    pub gain: f64,
    /// Speed of the point's shaft, Hz.
    pub shaft_hz: f64,
    /// How far the true speed may be from that, as a share.
    pub speed_tolerance: f64,
    /// The bearing beside the sensor, if one is named.
    pub bearing: Option<BearingOrders>,
    /// The asset's other bearings.
    pub neighbours: Neighbours,
    /// Lower edge of the sensor's usable band, Hz.
    pub band_low_hz: f64,
    /// The lower of the sensor's upper edge and the mounting's limit, Hz.
    pub band_high_hz: f64,
    /// What its monitor judges by; none of a vibration channel that sends no waveforms.
    pub monitor: Option<monitor::Settings>,
    /// How it is judged beside that; none of a vibration channel.
    pub slow: Option<SlowJudging>,
    /// The band whose envelope is trended, Hz, where the point declares one.
    pub envelope_hz: Option<(f32, f32)>,
    /// Bands of the point's own, [`BANDS_MAX`] at most.
    pub bands: Vec<PointBand>,
    /// Windows of so long, nanoseconds, are one reading of the remaining life.
    pub reading_ns: i64,
    /// What was learned of the asset's fleet, by name.
    pub life_model: Option<String>,
    /// What hangs on the point's shaft. The limit is not the fleet file's to say: it follows from the machine's
    /// class and its baseline.
    pub train: Train,
}

impl ChannelSite {
    /// Whether it measures vibration.
    pub const fn is_vibration(&self) -> bool {
        matches!(
            self.unit.quantity(),
            Quantity::Acceleration | Quantity::Velocity | Quantity::Displacement
        )
    }

    /// What the analysis needs to know, for samples at `rate_hz` of a sensor whose own descriptor ends its
    /// band at `sensor_high_hz`.
    pub fn context(&self, rate_hz: f64, sensor_high_hz: f64) -> PointContext {
        PointContext {
            shaft: ShaftSpeed::declared(self.shaft_hz, self.speed_tolerance),
            bearing: self.bearing,
            neighbours: self.neighbours,
            band_high_hz: self
                .band_high_hz
                .min(sensor_high_hz)
                .min(rate_hz / NYQUIST_MARGIN),
        }
    }

    /// What the values of a window of `seconds` are computed from, for samples and a sensor as for
    /// [`Self::context`].
    pub fn basis(&self, rate_hz: f64, sensor_high_hz: f64, seconds: f64) -> Basis {
        let context = self.context(rate_hz, sensor_high_hz);
        let mut bands = [None; BANDS_MAX];
        for (place, band) in bands.iter_mut().zip(&self.bands) {
            *place = Some(band.watched);
        }
        Basis {
            unit: self.unit,
            rate_hz,
            seconds,
            usable_low_hz: self.band_low_hz,
            usable_high_hz: context.band_high_hz,
            shaft_hz: self.shaft_hz,
            speed: if self.shaft_hz > 0.0 {
                SpeedSource::Declared
            } else {
                SpeedSource::Unknown
            },
            envelope_hz: self.envelope_hz,
            bands,
        }
    }
}

impl Fleet {
    /// Reads a fleet file, or says everything that is wrong with it, in the order of the file.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, Vec<Problem>> {
        let source = Source {
            file: file_name,
            text,
            problems: RefCell::default(),
        };
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let at = error.span().unwrap_or(0..0);
            source.refuse(
                &at,
                format!("not TOML: {}", error.message()),
                "see https://toml.io",
            );
        }
        let mut fleet = Self::default();
        if source.problems.borrow().is_empty() {
            fleet.read(&Section::new(&source, "fleet file", root.get_ref(), 0..0));
        }
        let mut problems = source.problems.into_inner();
        if problems.is_empty() {
            return Ok(fleet);
        }
        problems.sort_by_key(|problem| (problem.line, problem.column));
        Err(problems)
    }

    /// The assets, in the order of the file.
    pub fn assets(&self) -> &[Asset] {
        &self.assets
    }

    /// The assets as the state keeps them.
    pub fn asset_rows(&self) -> Vec<AssetRow> {
        let row = |asset: &Asset| AssetRow {
            asset: asset.id.clone(),
            name: asset.name.clone(),
            site: asset.site.clone(),
            area: asset.area.clone(),
        };
        self.assets.iter().map(row).collect()
    }

    /// What a node's channel measures; none when the file does not name it.
    pub fn channel(&self, node: NodeId, channel: ChannelId) -> Option<&ChannelSite> {
        self.channels.get(&(node, channel))
    }

    /// What hangs at that place; none when the file does not name it.
    pub fn site(&self, series: &SeriesKey) -> Option<&ChannelSite> {
        self.channels.get(self.places.get(series)?)
    }

    /// Which channels tell how an asset is operated, if any do.
    pub fn operation(&self, asset: &str) -> Option<&Operation> {
        self.operations.get(asset)
    }

    /// Whether a channel tells how an asset is operated.
    pub fn is_witness(&self, node: NodeId, channel: ChannelId) -> bool {
        self.witnesses.contains(&(node, channel))
    }

    /// How the machine at a place was operated, as far as the readings of its witnesses tell.
    pub fn operating(
        &self,
        site: &ChannelSite,
        reading: impl Fn((NodeId, ChannelId)) -> Option<f32>,
    ) -> Operating {
        let declared_hz = (site.shaft_hz > 0.0).then_some(site.shaft_hz as f32);
        match self.operations.get(&site.series.asset) {
            Some(operation) => operation.operating(declared_hz, reading),
            None => Operating {
                speed_hz: declared_hz,
                declared_hz,
                ..Operating::default()
            },
        }
    }

    /// Speed of the shaft at a place: measured where a channel of its asset tells it, else as declared.
    pub fn shaft(&self, site: &ChannelSite, operating: &Operating) -> ShaftSpeed {
        let operation = self.operation(&site.series.asset);
        let tells_speed = operation.is_some_and(Operation::tells_speed);
        let declared = ShaftSpeed::declared(site.shaft_hz, site.speed_tolerance);
        ShaftSpeed::during(operating, tells_speed, declared)
    }

    /// What the file wants of gateways and nodes, where readings of slow channels are summed up in such windows.
    pub fn wanted(&self, windows: &WindowSettings) -> Wanted {
        let mut wanted = self.wanted.clone();
        if !wanted.watching.is_empty() {
            wanted.watches = self.watches(windows).collect();
            wanted.searches = self.searches().collect();
            wanted.examinations = self.examinations().collect();
            wanted.unusuals = self.unusuals().collect();
        }
        wanted
    }

    /// All channels, by node and number.
    pub fn channels(&self) -> impl Iterator<Item = (NodeId, ChannelId, &ChannelSite)> {
        self.channels
            .iter()
            .map(|(&(node, channel), site)| (node, channel, site))
    }

    fn read(&mut self, root: &Section<'_>) {
        let (mut sites, mut assets) = (Names::default(), Names::default());
        let templates = read_templates(root);
        let catalogue = read_catalogue(root);
        for site in root.tables("site") {
            let site_id = sites.claim(&site);
            site.text("name");
            let mut gateways = Names::default();
            for gateway in site.tables("gateway") {
                let id = gateways.claim(&gateway);
                let is_watching = watch::read_watching(&gateway);
                let wanted = plan::read_gateway(&gateway, &site_id, &id);
                let name = wanted.as_ref().filter(|_| is_watching);
                self.wanted.watching.extend(name.map(|(name, _)| name.clone()));
                self.wanted.gateways.extend(wanted);
            }
            let mut areas = Names::default();
            for area in site.tables("area") {
                let area_id = areas.claim(&area);
                area.text("name");
                for asset in area.tables("asset") {
                    let id = assets.claim(&asset);
                    if id == UNASSIGNED {
                        let what = format!("the asset id {UNASSIGNED:?} is taken");
                        root.source
                            .refuse(&asset.at, what, "channels without an asset are shown under it");
                    }
                    let name = asset.text("name").map_or(id.clone(), |(name, _)| name.to_owned());
                    let judging = read_judging(&asset, &templates);
                    self.read_points(&asset, &id, (&judging, &catalogue));
                    if let Some(operation) = read_operation(&asset, &id, self) {
                        self.witnesses.extend(operation.witnesses().map(Witness::name));
                        self.operations.insert(id.clone(), operation);
                    }
                    self.read_groups(&asset, &id, &judging);
                    self.assets.push(Asset {
                        judging,
                        id: id.clone(),
                        name,
                        site: site_id.clone(),
                        area: area_id.clone(),
                    });
                }
            }
        }
    }

    fn want(&mut self, (node, channel): (NodeId, ChannelId), plan: ChannelPlan) {
        let plans = self.wanted.nodes.entry(node).or_default();
        if plans.len() <= channel.index() {
            plans.resize(channel.index() + 1, ChannelPlan::Raw);
        }
        plans[channel.index()] = plan;
    }

    fn read_points(
        &mut self,
        asset: &Section<'_>,
        asset_id: &str,
        (judging, catalogue): (&Judging, &Catalogue),
    ) {
        let shafts = read_shafts(asset, catalogue);
        let line_hz = asset.positive("line_hz").map(|(line_hz, _)| line_hz);
        let mut points = Names::default();
        for point in asset.tables("point") {
            let point_id = points.claim(&point);
            let mounting = point.positive("mounting_limit_hz");
            let envelope_hz = read_envelope_band(&point);
            let bands = read_bands(&point);
            judging.check_room(&point, &bands);
            let named = point.text("shaft");
            let named = point.require("shaft", named, "name the shaft that it is measured at");
            let shaft = named.and_then(|(name, at)| {
                let found = shafts.get(name);
                if found.is_none() {
                    let known: Vec<_> = shafts.keys().map(String::as_str).collect();
                    let fix = format!("name one of this asset's shafts: {}", known.join(", "));
                    point
                        .source
                        .refuse(&at, format!("there is no shaft {name:?} here"), fix);
                }
                found
            });
            let beside = point.text("shaft").zip(point.text("bearing"));
            let neighbours = beside.map_or_else(Neighbours::default, |((shaft, _), (bearing, _))| {
                shaft::neighbours(&shafts, shaft, bearing)
            });
            let bearing = point.text("bearing").and_then(|(name, at)| {
                let found = shaft?.bearings.get(name);
                if found.is_none() {
                    let what = format!("its shaft has no bearing {name:?}");
                    point
                        .source
                        .refuse(&at, what, "declare it with the shaft, or leave it out");
                }
                *found?
            });
            let mut channels = BTreeSet::new();
            for channel in point.tables("channel") {
                let plan = plan::read_plan(&channel);
                let Some((key, at, site)) = read_channel(&channel) else {
                    continue;
                };
                let interval_ns = plan.and_then(|plan| match (plan.waveform(), plan.trigger()) {
                    (Some((_, every_s)), None) => Some(i64::from(every_s) * 1_000_000_000),
                    _ => None,
                });
                // Whoever sends no waveforms is not waited for.
                let is_expected = matches!(plan, None | Some(ChannelPlan::Raw)) || interval_ns.is_some();
                if let Some(plan) = plan {
                    let shaft_hz = shaft.and_then(|shaft| shaft.hz).unwrap_or(0.0);
                    let vibrates =
                        matches!(site.unit.quantity(), Quantity::Acceleration | Quantity::Velocity);
                    self.want(key, if vibrates { plan.for_speed(shaft_hz) } else { plan });
                }
                let mut site = ChannelSite {
                    series: SeriesKey {
                        asset: asset_id.to_owned(),
                        point: point_id.clone(),
                        channel: site.series.channel,
                    },
                    shaft_hz: shaft.and_then(|shaft| shaft.hz).unwrap_or(0.0),
                    speed_tolerance: shaft.map_or(ShaftSpeed::FINE, |shaft| shaft.tolerance),
                    bearing,
                    neighbours,
                    band_high_hz: site
                        .band_high_hz
                        .min(mounting.as_ref().map_or(f64::MAX, |limit| limit.0)),
                    envelope_hz,
                    bands: bands.clone(),
                    reading_ns: judging.reading_ns,
                    life_model: judging.life_model.clone(),
                    train: Train {
                        teeth: shaft.and_then(|shaft| shaft.teeth),
                        blades: shaft.and_then(|shaft| shaft.blades),
                        line_hz,
                        ..site.train
                    },
                    ..site
                };
                if is_expected && site.is_vibration() {
                    site.monitor = Some(judging.monitor(&site, interval_ns));
                }
                if !site.is_vibration() {
                    let slow = slow::read_slow(&channel, judging);
                    if is_expected {
                        site.monitor = Some(judging.slow_monitor(&site, &slow));
                        site.slow = Some(slow);
                    }
                }
                if !channels.insert(site.series.channel.clone()) {
                    let what = format!("this point has a channel {:?} already", site.series.channel);
                    channel
                        .source
                        .refuse(&channel.at, what, "give each an id of its own");
                }
                self.places.insert(site.series.clone(), key);
                if let Some(other) = self.channels.insert(key, site) {
                    let SeriesKey {
                        asset,
                        point,
                        channel: id,
                    } = other.series;
                    let what = format!(
                        "channel {} of node {} serves {asset}/{point}/{id} already",
                        key.1, key.0
                    );
                    channel
                        .source
                        .refuse(&at, what, "a channel measures at one place");
                }
            }
        }
    }
}

/// Ids claimed so far among siblings.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    /// The section's id; empty when it has none that will do, which is a problem noted.
    fn claim(&mut self, section: &Section<'_>) -> String {
        let id = section.text("id");
        let Some((id, at)) = section.require("id", id, "give it one of [a-z0-9-]{1,32}") else {
            return String::new();
        };
        if Name::new(id).is_err() {
            section.source.refuse(
                &at,
                format!("{id:?} is no id"),
                "use 1 to 32 of a to z, 0 to 9 and -",
            );
        } else if !self.0.insert(id.to_owned()) {
            let what = format!("another {} is called {id:?}", section.kind);
            section.source.refuse(&at, what, "give each an id of its own");
        }
        id.to_owned()
    }
}

fn read_templates(root: &Section<'_>) -> BTreeMap<String, Draft> {
    let mut names = Names::default();
    let templates = root.tables("template");
    let read = templates
        .iter()
        .map(|template| (names.claim(template), Draft::read(template)));
    read.collect()
}

fn read_judging(asset: &Section<'_>, templates: &BTreeMap<String, Draft>) -> Judging {
    let own = Draft::read(asset);
    let template = asset.text("template").and_then(|(id, at)| {
        let found = templates.get(id).map(|template| (id, template));
        if found.is_none() {
            let known: Vec<_> = templates.keys().map(String::as_str).collect();
            let fix = format!("declare it above, or name one of: {}", known.join(", "));
            asset
                .source
                .refuse(&at, format!("there is no template {id:?}"), fix);
        }
        found
    });
    own.merge(template)
}

/// What a channel section says by itself; asset, point, shaft and bearing are the caller's to fill in.
fn read_channel(channel: &Section<'_>) -> Option<((NodeId, ChannelId), Range<usize>, ChannelSite)> {
    let source = channel.source;
    let node = channel.text("node");
    let node = channel.require("node", node, "give the node's id, as printed on it");
    let node = node.and_then(|(text, at)| match text.parse::<NodeId>() {
        Ok(node) => Some((node, at)),
        Err(error) => {
            source.refuse(
                &at,
                format!("{text:?} is {error}"),
                "copy the id printed on the node",
            );
            None
        }
    });
    let number = channel.whole("channel", trunnion_common::id::CHANNELS_MAX as u16 - 1);
    let number = channel.require("channel", number, "give its number on the node, from 0");
    let quantity = word::<Quantity>(channel, "quantity", "what it measures, such as \"acceleration\"");
    let unit = word::<Unit>(channel, "unit", "the unit of its values, such as \"g\"");
    if let (Some((quantity, _)), Some((unit, at))) = (&quantity, &unit)
        && unit.quantity() != *quantity
    {
        let what = format!("{} is no unit of this channel's quantity", unit.symbol());
        source.refuse(at, what, "make unit and quantity agree");
    }
    let gain = channel.positive("sensitivity").map_or(1.0, |(gain, _)| gain);
    let vibration = matches!(
        quantity,
        Some((
            Quantity::Acceleration | Quantity::Velocity | Quantity::Displacement,
            _
        ))
    );
    let axis = channel.text("axis");
    let axis = match axis {
        None if vibration => channel.require(
            "axis",
            None,
            "write h, v or a, with the sign of its positive direction: \"+v\"",
        ),
        None => None,
        Some((text, at)) => {
            let (sign, letter) = match text.split_at_checked(1) {
                Some(("-", letter)) => (-1.0, letter),
                Some(("+", letter)) => (1.0, letter),
                _ => (1.0, text),
            };
            if !matches!(letter, "h" | "v" | "a") {
                source.refuse(
                    &at,
                    format!("{text:?} is no axis"),
                    "write h (horizontal), v (vertical) or a (axial), with its sign: \"+v\"",
                );
            }
            Some((sign, letter))
        }
    };
    let range = channel.positive("range");
    let range = channel.require("range", range, "give the full scale, in its unit");
    let band = channel.pair("band_hz");
    let band = if vibration {
        channel.require(
            "band_hz",
            band,
            "give the edges of the band that the sensor can be used in",
        )
    } else {
        Some(band.unwrap_or(((0.0, f64::MAX), channel.at.clone())))
    };
    if let Some(((low, high), at)) = &band
        && !(0.0 <= *low && low < high)
    {
        let what = format!("a band from {low} to {high} Hz is none");
        source.refuse(at, what, "give the lower edge first");
    }
    let quantity_name = channel.text("quantity").map_or("", |(name, _)| name);
    let id = match channel.text("id") {
        Some((id, at)) => {
            if Name::new(id).is_err() {
                source.refuse(
                    &at,
                    format!("{id:?} is no id"),
                    "use 1 to 32 of a to z, 0 to 9 and -",
                );
            }
            id.to_owned()
        }
        None => match axis {
            Some((_, letter)) => format!("{quantity_name}-{letter}"),
            None => quantity_name.to_owned(),
        },
    };
    let (node, at) = node?;
    let (unit, _) = unit?;
    quantity?;
    let ((band_low_hz, band_high_hz), _) = band?;
    Some((
        (node, ChannelId::new(number?.0)?),
        at,
        ChannelSite {
            series: SeriesKey {
                asset: String::new(),
                point: String::new(),
                channel: id,
            },
            unit,
            range: range?.0,
            gain: gain * axis.map_or(1.0, |(sign, _)| sign),
            shaft_hz: 0.0,
            speed_tolerance: ShaftSpeed::FINE,
            bearing: None,
            neighbours: Neighbours::default(),
            band_low_hz,
            band_high_hz,
            monitor: None,
            slow: None,
            envelope_hz: None,
            bands: Vec::new(),
            reading_ns: 0,
            life_model: None,
            train: Train {
                axial: axis.is_some_and(|(_, letter)| letter == "a"),
                ..Train::default()
            },
        },
    ))
}

fn read_envelope_band(point: &Section<'_>) -> Option<(f32, f32)> {
    let ((low, high), at) = point.pair("envelope_band_hz")?;
    if !(low > 0.0 && low < high) {
        let what = format!("a band from {low} to {high} Hz has no envelope");
        point
            .source
            .refuse(&at, what, "give two frequencies above 0, the lower one first");
        return None;
    }
    Some((low as f32, high as f32))
}

/// A word out of a closed list, by its serde name.
fn word<'t, T: serde::Deserialize<'t>>(section: &Section<'t>, key: &'static str, fix: &str) -> Option<At<T>> {
    use serde::de::value::{BorrowedStrDeserializer, Error};
    let text = section.text(key);
    let (text, at) = section.require(key, text, fix)?;
    match T::deserialize(BorrowedStrDeserializer::<Error>::new(text)) {
        Ok(value) => Some((value, at)),
        Err(error) => {
            section
                .source
                .refuse(&at, format!("no {key} is called {text:?}"), error.to_string());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the module's documentation.
    fn example() -> String {
        let source = include_str!("fleet.rs");
        let lines = source.lines().take_while(|line| line.starts_with("//!"));
        lines
            .skip_while(|line| *line != "//! ```toml")
            .skip(1)
            .take_while(|line| *line != "//! ```")
            .map(|line| format!("{}\n", line.trim_start_matches("//!").trim_start_matches(' ')))
            .collect()
    }

    /// The problems of the example after one replacement, as text.
    fn refused(from: &str, to: &str) -> Vec<String> {
        let text = example();
        assert!(text.contains(from), "{from}");
        let problems = Fleet::parse(&text.replacen(from, to, 1), "fleet.toml").unwrap_err();
        problems.iter().map(ToString::to_string).collect()
    }

    fn check(from: &str, to: &str, wanted: &str) {
        let problems = refused(from, to);
        assert!(
            problems.iter().any(|problem| problem.contains(wanted)),
            "{from} -> {to}: {problems:#?}"
        );
    }

    #[test]
    fn a_designation_of_the_plant_goes_before_the_built_in_ones() {
        let own = "[[bearing]]\ndesignation = \"6205\"\n\
                   geometry = { balls = 8, ball_mm = 8, pitch_mm = 40 }\n[[site]]\nid = \"bremen\"";
        let text = example().replacen("[[site]]\nid = \"bremen\"", own, 1);
        let fleet = Fleet::parse(&text, "fleet.toml").unwrap();
        let (_, _, site) = fleet.channels().next().unwrap();
        assert!((site.bearing.unwrap().outer_race - 3.2).abs() < 1e-9);
        check(
            "designation = \"our 316\"",
            "designation = \"our 316\"\norders = {}",
            "by geometry or by orders",
        );
        check("designation = \"our 316\"", "", "designation");
        check("pitch_mm = 125", "pitch_mm = 12", "13 balls");
    }

    #[test]
    fn the_example_of_the_documentation_is_a_fleet() {
        let fleet = Fleet::parse(&example(), "fleet.toml").unwrap();
        assert_eq!(
            (fleet.assets()[0].id.as_str(), fleet.assets()[0].area.as_str()),
            ("fan-3", "hall-1")
        );
        let site = fleet
            .channel("a1".parse().unwrap(), ChannelId::new(0).unwrap())
            .unwrap();
        assert_eq!(
            (site.series.point.as_str(), site.series.channel.as_str()),
            ("motor-de", "v")
        );
        let context = site.context(48_000.0, 20_000.0);
        assert!((context.shaft.hz - 1772.0 / 60.0).abs() < 1e-9);
        assert_eq!(context.shaft.tolerance, 0.02);
        assert!((context.bearing.unwrap().outer_race - 3.5848).abs() < 1e-3);
        assert_eq!(context.band_high_hz, 5_000.0);
        assert_eq!(site.context(2_560.0, 20_000.0).band_high_hz, 1_000.0);
        let basis = site.basis(48_000.0, 20_000.0, 1.0);
        assert_eq!((basis.usable_low_hz, basis.usable_high_hz), (1.0, 5_000.0));
        assert_eq!(basis.envelope_band(), (2_000.0, 4_000.0));
        let train = Train {
            blades: Some(6),
            line_hz: Some(50.0),
            ..Train::default()
        };
        assert_eq!(site.train, train);
        assert!(
            fleet
                .channel("a1".parse().unwrap(), ChannelId::new(3).unwrap())
                .is_none()
        );
    }

    #[test]
    fn every_gap_is_refused_with_its_place_and_fix() {
        check(
            "id = \"fan-3\"",
            "id = \"Fan 3\"",
            "fleet.toml:18:6: \"Fan 3\" is no id",
        );
        check(
            "power_kw = 75 ",
            "# ",
            "this asset has no power_kw; its ISO 20816-3 group",
        );
        check(
            "support = \"rigid\"",
            "support = \"loose\"",
            "does not stand \"loose\"",
        );
        check("support = \"rigid\"", "", "this asset has no support");
        check("rpm = 1772", "rpm = 0", "rpm = 0 of this shaft is not above 0");
        check("rpm = 1772", "", "this shaft has no rpm");
        check("percent = 2 #", "percent = 9 #", "may be 9 % off");
        check("rpm = 1772", "driven_by = \"motor\"\nratio = 2", "in a circle");
        check(
            "rpm = 1772",
            "driven_by = \"gear\"\nratio = 2",
            "there is no shaft \"gear\" here",
        );
        check("blades = 6", "blades = 0", "0 blades");
        check(
            "line_hz = 50",
            "line_hz = 0",
            "line_hz = 0 of this asset is not above 0",
        );
        check(
            "shaft = \"motor\"",
            "shaft = \"pump\"",
            "name one of this asset's shafts: motor",
        );
        check("shaft = \"motor\"", "", "this point has no shaft");
        check(
            "bearing = \"drive-end\"",
            "bearing = \"fan-end\"",
            "its shaft has no bearing \"fan-end\"",
        );
        check("designation = \"6205\"", "", "and this one in 0");
        check(
            "designation = \"6205\"",
            "designation = \"X1\"",
            "not in the catalogue",
        );
        check(
            "designation = \"6205\"",
            "geometry = { balls = 2, ball_mm = 8, pitch_mm = 39 }",
            "2 balls",
        );
        check(
            "designation = \"6205\"",
            "orders = { outer_race = 3.5 }",
            "has no cage",
        );
        check(
            "unit = \"g\"",
            "unit = \"degC\"",
            "degC is no unit of this channel's quantity",
        );
        check(
            "unit = \"g\"",
            "unit = \"furlong\"",
            "no unit is called \"furlong\"",
        );
        check("axis = \"+v\"", "axis = \"x\"", "\"x\" is no axis");
        check("axis = \"+v\"", "", "this channel has no axis");
        check(
            "band_hz = [1, 5000]",
            "band_hz = [5000, 1]",
            "is none; give the lower edge first",
        );
        check(
            "envelope_band_hz = [2000, 4000]",
            "envelope_band_hz = [4000, 2000]",
            "has no envelope; give two frequencies",
        );
        check(
            "node = \"00000000000000a1\"",
            "node = \"0\"",
            "copy the id printed",
        );
        check("channel = 0", "channel = 16", "from 0 to 15");
        check(
            "channel = 0",
            "channel = \"0\"",
            "channel of this channel is string; give a number",
        );
        check("range = 16", "rnage = 16", "a channel has no rnage");
        check("[[site]]", "[[site]", "not TOML");
        check("id = \"fan-3\"", "id = \"unassigned\"", "is taken");
    }

    #[test]
    fn every_problem_is_told_in_one_go() {
        let text = example()
            .replace("rpm = 1772", "rpm = -1")
            .replace("unit = \"g\"", "unit = \"degC\"")
            .replace("[1, 5000]", "[2, 1]");
        assert_eq!(Fleet::parse(&text, "fleet.toml").unwrap_err().len(), 3);
    }

    #[test]
    fn nothing_is_claimed_twice() {
        let (head, asset) = {
            let text = example();
            let at = text.find("[[site.area.asset]]").unwrap();
            (text[..at].to_owned(), text[at..].to_owned())
        };
        let twice = format!("{head}{asset}{asset}");
        let problems: Vec<_> = Fleet::parse(&twice, "f")
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(
            problems
                .iter()
                .any(|problem| problem.contains("another asset is called \"fan-3\""))
        );
        assert!(
            problems
                .iter()
                .any(|problem| problem.contains("serves fan-3/motor-de/v already")),
            "{problems:#?}"
        );
    }

    #[test]
    fn a_driven_shaft_turns_by_its_ratio() {
        let gear = "rpm = 1772\n[[site.area.asset.shaft]]\nid = \"gear\"\ndriven_by = \"motor\"\nratio = 0.25\n\
                    [[site.area.asset.shaft]]\nid = \"fan\"\ndriven_by = \"gear\"\nratio = 2.0\n";
        let text = example()
            .replace("rpm = 1772", gear)
            .replace("shaft = \"motor\"\n", "shaft = \"fan\"\n");
        let fleet = Fleet::parse(&text, "fleet.toml").unwrap();
        let (_, _, site) = fleet.channels().next().unwrap();
        assert!((site.shaft_hz - 1772.0 / 60.0 / 2.0).abs() < 1e-9);
    }
}
