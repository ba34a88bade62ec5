//! A channel that its gateway watches by itself: what it is told, and what it says of it.
//!
//! The collector judges machines; a gateway that is cut off from it judges on. It is given the settings of the
//! [`Monitor`](crate::monitor::Monitor), the baselines that were accepted and the channels that tell how the
//! machine is operated, and runs the same code on the samples and readings that it takes in. What changes goes to
//! the collector as a [`LocalCondition`], among what is essential: so an advisory that the gateway has raised is
//! the collector's, too, once it hears of it, under the asset, point and cause that both mean.

use crate::baseline::Normals;
use crate::bearing::Claim;
use crate::detection::hotelling::CHANNELS_MAX;
use crate::detection::multivariate::{self, Learned};
use crate::feature::definition::{BANDS_MAX, WatchedBand};
use crate::id::{BootId, ChannelId, NodeId};
use crate::level::{Level, Persistence};
use crate::monitor::{Condition, Evidence, REGIMES_MAX, Settings};
use crate::operating::Regime;
use crate::operation::Operation;
use crate::quantity::Unit;
use crate::severity::Standard;
use crate::shaft::ShaftClaim;
use crate::time::EventTime;
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// Channels that one gateway watches: a monitor of each takes some kilobytes.
pub const WATCHES_MAX: usize = 256;

/// How a channel is watched.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Watch {
    /// What it is judged by.
    pub settings: Settings,
    /// What reported values are multiplied with: the sensitivity that is declared, and the axis' sign.
    pub gain: f32,
    /// Declared shaft speed, Hz; none: not known, and nothing is graded by a standard.
    pub speed_hz: Option<f32>,
    /// What is normal in each regime, and since when that is accepted. Without it absolute limits alone judge.
    pub baselines: Vec<(Regime, Normals, EventTime), REGIMES_MAX>,
    /// Which channels tell how its machine is operated. Of one that comes through another gateway nothing is
    /// heard here: it tells nothing.
    pub operation: Operation,
    /// How its readings are summed up; none of a vibration.
    pub slow: Option<SlowWatch>,
}

/// How readings of a slow channel are judged at a gateway.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct SlowWatch {
    /// In which unit limits are. A node that tells another quantity is not judged.
    pub unit: Unit,
    /// ALERT and ALARM for low values.
    pub below: Option<[f32; 2]>,
    /// Length of a window, nanoseconds.
    pub size_ns: i64,
    /// Distance of the windows from the epoch, nanoseconds.
    pub offset_ns: i64,
    /// Least share of readings that a window can be decided on, in thousandths.
    pub coverage_min_permille: u32,
}

/// Bearings of a machine beside the one that is searched for, at most.
pub const NEIGHBOURS_MAX: usize = 6;

/// How the bearing beside a channel is searched for at its gateway, beside what its [`Watch`] says.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BearingSearch {
    /// How far the true speed may be from the declared one, as a share of it.
    pub speed_tolerance: f64,
    /// The orders of its parts, in multiples of the shaft's speed, as [`Element::ALL`](crate::bearing::Element::ALL)
    /// has them.
    pub bearing: [f64; 4],
    /// Those of the machine's other bearings, in multiples of the same shaft's.
    pub neighbours: Vec<[f64; 4], NEIGHBOURS_MAX>,
    /// Nothing is looked for above this, Hz: what sensor and mounting are good for, as far as that is declared.
    pub band_high_hz: f64,
}

/// What a gateway looks for in the spectra of a channel, beside what its [`Watch`] says.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SpectrumWatch {
    /// Teeth of the wheel on the shaft.
    pub teeth: Option<u16>,
    /// Blades of the wheel on the shaft.
    pub blades: Option<u16>,
    /// Frequency of the electric supply, Hz.
    pub line_hz: Option<f64>,
    /// Whether the sensor looks along the shaft.
    pub axial: bool,
    /// The band that sensor and mounting are good for, as far as that is declared, Hz.
    pub band_hz: [f64; 2],
    /// The band whose envelope is trended, Hz, where one is declared.
    pub envelope_hz: Option<[f32; 2]>,
    /// Bands of the point's own, as [`FeatureKind::BANDS`](crate::feature::FeatureKind::BANDS) has them.
    pub bands: Vec<WatchedBand, BANDS_MAX>,
}

/// What a gateway judges of a slow channel that it watches, beside what its [`Watch`] says: whether it is as it was.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct UnusualWatch {
    /// Over how long readings are averaged that are judged by themselves, nanoseconds; none: they are not. What is
    /// normal of one channel follows it, so that each judge learns it alone.
    pub alone_ns: Option<i64>,
    /// The group that it is the first channel of, where a person has accepted what was learned of that.
    pub group: Option<GroupWatch>,
}

/// Slow channels that a gateway judges together, all of which it hears: what the collector has learned, as long as a
/// person agrees to it. 4,700 bytes at most, of the 65,536 of a message.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GroupWatch {
    /// Its channels, in the order of a row.
    pub channels: Vec<(NodeId, ChannelId), CHANNELS_MAX>,
    /// Which of them, or which channel besides, tells whether the machine runs, and above what it does.
    pub running: Option<((NodeId, ChannelId), f32)>,
    /// From one row to the next, nanoseconds.
    pub every_ns: i64,
    /// What the detector was set to when it learned.
    pub settings: multivariate::Settings,
    /// How many rows must agree.
    pub persistence: Persistence,
    /// Which in a row it is that was learned of the group.
    pub generation: u32,
    /// What was learned.
    pub learned: Learned,
}

impl GroupWatch {
    /// The channels of a row, by place: its own, and who tells whether the machine runs where that is none of them.
    pub fn row(&self) -> impl Iterator<Item = (NodeId, ChannelId)> {
        let own = &self.channels;
        let running = self.running.map(|(witness, _)| witness);
        let witness = running.filter(|witness| !own.contains(witness));
        own.iter().copied().chain(witness)
    }

    /// Whether rows can be judged by it.
    pub fn is_sound(&self) -> bool {
        let is_share = |share: f64| share > 0.0 && share <= 1.0;
        let is_set = is_share(self.settings.weight) && is_share(self.settings.clear);
        self.every_ns > 0 && is_set && !self.channels.is_empty() && self.learned.is_sound(self.channels.len())
    }
}

/// A [`Watch`] of before gateways heard witnesses and slow channels, as it stands in journals, and in what
/// gateways keep.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PlainWatch {
    /// What it is judged by.
    pub settings: Settings,
    /// What reported values are multiplied with.
    pub gain: f32,
    /// Declared shaft speed, Hz.
    pub speed_hz: Option<f32>,
    /// What is normal in each regime.
    pub baselines: Vec<(Regime, Normals, EventTime), REGIMES_MAX>,
}

impl From<PlainWatch> for Watch {
    fn from(plain: PlainWatch) -> Self {
        let PlainWatch {
            settings,
            gain,
            speed_hz,
            baselines,
        } = plain;
        Self {
            settings,
            gain,
            speed_hz,
            baselines,
            operation: Operation::default(),
            slow: None,
        }
    }
}

/// What a gateway holds against a bearing, told as a [`LocalCondition`] is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LocalFinding {
    /// Which bearing, since when, and how bad.
    pub told: LocalCondition,
    /// What that rests on; none when it is over.
    pub claim: Option<Claim>,
}

/// What a gateway suspects of a shaft or of what hangs on it, told as a [`LocalCondition`] is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LocalSuspicion {
    /// Of which cause, since when, and how bad.
    pub told: LocalCondition,
    /// What that rests on; none when it is over.
    pub claim: Option<ShaftClaim>,
}

/// What a gateway finds unusual of slow channels, told as a [`LocalCondition`] is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LocalUnusual {
    /// Of which channel or group, since when, and how bad.
    pub told: LocalCondition,
    /// What that rests on; none when it is over.
    pub shown: Option<UnusualRow>,
}

/// A row of slow channels that is not as it was, as a gateway tells it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct UnusualRow {
    /// Of one channel how rare the reading is, nats; of a group T-squared over its limit.
    pub value: f32,
    /// From where on it is told.
    pub limit: f32,
    /// Of a group: Q over the largest learned.
    pub residual: Option<f32>,
    /// Of a group: the share of each channel in T-squared.
    pub contributions: Vec<((NodeId, ChannelId), f32), CHANNELS_MAX>,
}

/// What a gateway says of a condition, in whichever of these it is told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LocalWord {
    /// Which condition, since when, and how bad.
    pub told: LocalCondition,
    /// The lines that it rests on; none where it rests on none, or is over.
    pub lines: Option<Lines>,
}

/// Lines of spectra that a condition rests on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Lines {
    /// Of a bearing.
    Bearing(Claim),
    /// Of a shaft, or of what hangs on it.
    Shaft(ShaftClaim),
    /// No lines, but a row of slow channels.
    Unusual(UnusualRow),
}

impl Lines {
    /// Those of a bearing, if they are.
    pub fn of_bearing(self) -> Option<Claim> {
        match self {
            Self::Bearing(claim) => Some(claim),
            Self::Shaft(_) | Self::Unusual(_) => None,
        }
    }

    /// Those of a shaft, if they are.
    pub fn of_shaft(self) -> Option<ShaftClaim> {
        match self {
            Self::Shaft(claim) => Some(claim),
            Self::Bearing(_) | Self::Unusual(_) => None,
        }
    }

    /// The row of slow channels, if it is one.
    pub fn of_row(self) -> Option<UnusualRow> {
        match self {
            Self::Unusual(row) => Some(row),
            Self::Bearing(_) | Self::Shaft(_) => None,
        }
    }
}

impl From<LocalCondition> for LocalWord {
    fn from(told: LocalCondition) -> Self {
        Self { told, lines: None }
    }
}

impl From<LocalFinding> for LocalWord {
    fn from(LocalFinding { told, claim }: LocalFinding) -> Self {
        let lines = claim.map(Lines::Bearing);
        Self { told, lines }
    }
}

impl From<LocalSuspicion> for LocalWord {
    fn from(LocalSuspicion { told, claim }: LocalSuspicion) -> Self {
        let lines = claim.map(Lines::Shaft);
        Self { told, lines }
    }
}

impl From<LocalUnusual> for LocalWord {
    fn from(LocalUnusual { told, shown }: LocalUnusual) -> Self {
        let lines = shown.map(Lines::Unusual);
        Self { told, lines }
    }
}

/// What a gateway holds against a machine, told whenever it changes, and once when it has begun to watch.
/// (node, channel, condition) says which is meant, and the latest `at` holds. Outside the ledger.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct LocalCondition {
    /// Whose channel.
    pub node: NodeId,
    /// In which boot.
    pub boot: BootId,
    /// Which channel.
    pub channel: ChannelId,
    /// What it is about.
    pub condition: Condition,
    /// The level that is held; normal when it is over.
    pub level: Level,
    /// End of the window in which it was first held (event time); of a normal one that is not over, as `at`.
    pub raised: EventTime,
    /// End of the window that changed it (event time).
    pub at: EventTime,
    /// What that window shows, with the limit and what that rests on.
    pub evidence: Option<Evidence>,
    /// Whose limits those are, where severity is judged.
    pub standard: Option<Standard>,
}
