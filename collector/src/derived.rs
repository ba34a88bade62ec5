//! Features that agents computed at intake, or nodes by their plan, as rows of the trend. Pure.
//!
//! A [`Derived`] says what a stretch of samples held, so that the trend goes on when the waveform had
//! to give way on its gateway, or was not to be sent. It waits for its clock fix and its channel table as samples do, becomes a
//! [`DerivedRow`] in event time under the fleet in force then, and stays outside the ledger: it stands
//! for no sample. Nothing is detected on it and nothing raised, whichever lane it came in.
//!
//! Where the collector has a decided window of its own over any part of the same time, that window is
//! shown and the row is not kept ([`crate::state`]).

use crate::fleet::ChannelSite;
use crate::state::{SeriesKey, Source, UNASSIGNED};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use trunnion_common::block::Derived;
use trunnion_common::feature::FeatureKind;
use trunnion_common::frame::ChannelDescriptor;
use trunnion_common::id::{BootId, NodeId};
use trunnion_common::time::{ClockFix, EventTime};

/// Most features that wait for a fix or a table: over a minute of a thousand channels. One more, and the
/// oldest is given up, counted.
pub const WAITING_MAX: usize = 65_536;

/// Longest stretch believed: a day. Nanoseconds.
const STRETCH_NS_MAX: i128 = 86_400 * 1_000_000_000;

/// A stretch of samples as its agent or node saw it.
#[derive(Clone, PartialEq, Debug)]
pub struct DerivedRow {
    /// Where it hangs.
    pub series: SeriesKey,
    /// Start of the stretch (event time, inclusive).
    pub start: EventTime,
    /// Its end (event time, exclusive).
    pub end: EventTime,
    /// How many samples went in: all there are between the two.
    pub samples: u32,
    /// Whether it came as history.
    pub backfill: bool,
    /// Who computed it.
    pub source: Source,
    /// Feature labels and values, in the unit of the series where they have one.
    pub values: Vec<(&'static str, f32)>,
}

impl DerivedRow {
    /// What a stretch means, given what explains it; `None` when it is absurd: no rate, no samples, or
    /// longer than a day.
    pub fn new(
        derived: &Derived,
        descriptor: &ChannelDescriptor,
        fix: &ClockFix,
        site_at: impl FnOnce(EventTime) -> Option<ChannelSite>,
        (backfill, source): (bool, Source),
    ) -> Option<Self> {
        let nanos = i128::from(derived.count) * 1_000_000_000_000;
        let length = nanos.checked_div(i128::from(descriptor.rate_mhz))?;
        let length = i64::try_from(length).ok().filter(|length| *length > 0)?;
        if i128::from(length) > STRETCH_NS_MAX {
            return None;
        }
        let start = fix.event_time(derived.ticks);
        let site = site_at(start);
        let factor = site
            .as_ref()
            .and_then(|site| descriptor.unit.factor_to(site.unit));
        let (series, gain) = match site.zip(factor) {
            Some((site, factor)) => (site.series, site.gain * factor),
            None => (unassigned(derived), 1.0),
        };
        let values = derived.features.iter();
        Some(Self {
            series,
            start,
            end: start.plus_nanos(length),
            samples: derived.count,
            backfill,
            source,
            values: values
                .filter(|(_, value)| value.is_finite())
                .map(|&(kind, value)| (kind.label(), scaled(kind, value, gain as f32)))
                .collect(),
        })
    }
}

/// Where a channel hangs that no fleet file names.
fn unassigned(derived: &Derived) -> SeriesKey {
    SeriesKey {
        asset: UNASSIGNED.to_owned(),
        point: derived.node.to_string(),
        channel: derived.channel.to_string(),
    }
}

/// A feature of samples that are multiplied with `gain`, which may turn the axis round.
fn scaled(kind: FeatureKind, value: f32, gain: f32) -> f32 {
    match kind {
        FeatureKind::Mean => value * gain,
        FeatureKind::Rms
        | FeatureKind::Peak
        | FeatureKind::PeakToPeak
        | FeatureKind::VelocityRms
        | FeatureKind::EnvelopeRms
        | FeatureKind::VelocityOrder1
        | FeatureKind::VelocityOrder2
        | FeatureKind::VelocityOrder3
        | FeatureKind::Band1
        | FeatureKind::Band2
        | FeatureKind::Band3
        | FeatureKind::Band4
        | FeatureKind::Octave1
        | FeatureKind::Octave2
        | FeatureKind::Octave3
        | FeatureKind::Octave4 => value * gain.abs(),
        FeatureKind::Skewness => value * gain.signum(),
        FeatureKind::CrestFactor
        | FeatureKind::KurtosisExcess
        | FeatureKind::EnvelopeOuterRace
        | FeatureKind::EnvelopeInnerRace
        | FeatureKind::EnvelopeBall
        | FeatureKind::EnvelopeCage => value,
    }
}

/// A stretch that waits for what explains it, and whether it came as history.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Waiting {
    /// What was said.
    pub derived: Derived,
    /// Whether it came as history.
    pub backfill: bool,
    /// Who said it.
    pub source: Source,
}

/// Stretches that wait, in the journal's order.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct WaitingRoom {
    held: VecDeque<Waiting>,
}

impl WaitingRoom {
    /// Takes one more in; whether the oldest had to leave for it.
    #[must_use]
    pub fn push(&mut self, waiting: Waiting) -> bool {
        self.held.push_back(waiting);
        let is_full = self.held.len() > WAITING_MAX;
        if is_full {
            self.held.pop_front();
        }
        is_full
    }

    /// Takes out everything of one boot.
    pub fn take(&mut self, source: (NodeId, BootId)) -> Vec<Waiting> {
        let is_mine = |waiting: &Waiting| (waiting.derived.node, waiting.derived.boot) == source;
        if !self.held.iter().any(is_mine) {
            return Vec::new();
        }
        let (mine, others): (Vec<_>, Vec<_>) = self.held.drain(..).partition(is_mine);
        self.held = others.into();
        mine
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::id::ChannelId;
    use trunnion_common::quantity::Unit;
    use trunnion_common::time::{ClockQuality, NodeTicks};

    const SECOND: i64 = 1_000_000_000;

    fn derived(node: u64, count: u32) -> Derived {
        let features = [
            (FeatureKind::Mean, 0.5),
            (FeatureKind::Rms, 1.0),
            (FeatureKind::CrestFactor, 3.0),
            (FeatureKind::Skewness, 0.25),
            (FeatureKind::Peak, f32::NAN),
        ];
        Derived {
            node: NodeId::new(node).unwrap(),
            boot: BootId::from_u64(1),
            channel: ChannelId::new(2).unwrap(),
            first_sample: 12_000,
            count,
            features: features.into_iter().collect(),
            ticks: NodeTicks(2_500_000),
            fix: 4,
            revision: 1,
        }
    }

    fn descriptor(rate_mhz: u32) -> ChannelDescriptor {
        ChannelDescriptor {
            unit: Unit::StandardGravity,
            scale: 0.001,
            rate_mhz,
            range: 16.0,
            band_low_hz: 1.0,
            band_high_hz: 500.0,
        }
    }

    fn fix() -> ClockFix {
        ClockFix {
            node: NodeId::new(9).unwrap(),
            boot: BootId::from_u64(1),
            number: 4,
            ticks: NodeTicks(500_000),
            utc: EventTime(100 * SECOND),
            error_ns: 0,
            quality: ClockQuality::Synchronised,
        }
    }

    fn site(unit: Unit, gain: f64) -> ChannelSite {
        ChannelSite {
            series: SeriesKey {
                asset: "pump-7".to_owned(),
                point: "de".to_owned(),
                channel: "v".to_owned(),
            },
            unit,
            range: 16.0,
            gain,
            shaft_hz: 25.0,
            speed_tolerance: 0.005,
            bearing: None,
            neighbours: trunnion_diagnosis::bearing::Neighbours::default(),
            band_low_hz: 1.0,
            band_high_hz: 500.0,
            envelope_hz: None,
            bands: Vec::new(),
            reading_ns: 0,
            life_model: None,
            train: trunnion_diagnosis::diagnosis::Train::default(),
            monitor: None,
            slow: None,
        }
    }

    fn row(count: u32, rate_mhz: u32, site: Option<ChannelSite>) -> Option<DerivedRow> {
        DerivedRow::new(
            &derived(9, count),
            &descriptor(rate_mhz),
            &fix(),
            |_| site,
            (true, Source::Agent),
        )
    }

    #[test]
    fn a_stretch_has_the_time_of_its_fix_and_the_length_of_its_rate() {
        let row = row(3_000, 1_500_000, None).unwrap();
        assert_eq!(
            (row.start, row.end),
            (EventTime(102 * SECOND), EventTime(104 * SECOND))
        );
        assert_eq!((row.samples, row.backfill), (3_000, true));
        assert_eq!(row.series.asset, UNASSIGNED);
        assert_eq!(
            row.values,
            [
                ("mean", 0.5),
                ("rms", 1.0),
                ("crest_factor", 3.0),
                ("skewness", 0.25)
            ]
        );
    }

    #[test]
    fn amplitudes_are_in_the_unit_of_the_series_and_along_its_axis() {
        let row = row(100, 1_000_000, Some(site(Unit::MetrePerSecondSquared, -2.0))).unwrap();
        assert_eq!(row.series.asset, "pump-7");
        let gain = 2.0 * 9.806_65;
        assert_eq!(
            row.values,
            [
                ("mean", -0.5 * gain),
                ("rms", gain),
                ("crest_factor", 3.0),
                ("skewness", -0.25)
            ]
        );
    }

    #[test]
    fn a_unit_that_contradicts_the_fleet_is_shown_as_unassigned() {
        let row = row(100, 1_000_000, Some(site(Unit::Ampere, 5.0))).unwrap();
        assert_eq!(
            (row.series.asset.as_str(), row.values[1]),
            (UNASSIGNED, ("rms", 1.0))
        );
    }

    #[test]
    fn absurd_stretches_are_none() {
        assert_eq!(row(100, 0, None), None);
        assert_eq!(row(0, 1_000_000, None), None);
        assert_eq!(row(u32::MAX, 1, None), None);
    }

    #[test]
    fn those_that_wait_leave_together_and_are_bounded() {
        let mut room = WaitingRoom::default();
        for n in 0..WAITING_MAX as u64 + 3 {
            let waiting = Waiting {
                source: Source::Node,
                derived: derived(1 + n % 2, n as u32),
                backfill: false,
            };
            assert_eq!(room.push(waiting), n >= WAITING_MAX as u64);
        }
        let source = |node| (NodeId::new(node).unwrap(), BootId::from_u64(1));
        let mine = room.take(source(1));
        assert_eq!(mine.len(), WAITING_MAX / 2);
        assert!(mine.is_sorted_by_key(|waiting| waiting.derived.count));
        assert!(room.take(source(1)).is_empty());
        assert_eq!(room.take(source(2)).len(), WAITING_MAX / 2);
    }
}
