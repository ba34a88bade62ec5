//! A channel's plan as it is carried out: which samples are sent, and the features of all.

use crate::schedule::samples_in;
use core::num::NonZeroU32;
use heapless::Vec;
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::moments::Moments;
use trunnion_common::feature::octave::Octaves;
use trunnion_common::feature::statistics::{Accumulator, Statistics};
use trunnion_common::feature::velocity::{Passband, VelocityFilter, VelocityMeter};
use trunnion_common::frame::{ChannelDescriptor, ChannelPlan, FEATURES_MAX};
use trunnion_common::time::NodeTicks;

/// What one channel does with its samples.
#[derive(Debug)]
pub(crate) struct Execution {
    plan: ChannelPlan,
    /// Samples that the sensor gave or should have given since boot, sent or not.
    seen: u64,
    /// Still to send of a capture.
    capture: u32,
    /// Still to send of a scheduled waveform.
    waveform: u32,
    waveform_due: NodeTicks,
    /// A waveform has begun at its trigger.
    is_triggered: bool,
    window: Window,
    window_first: u64,
    window_ticks: NodeTicks,
    /// Whether the next sample follows the last one that the filters took.
    continues: bool,
    /// The last reading, or the RMS of the last window, in the channel's unit: what triggers are about.
    level: Option<f32>,
}

/// Channels of a table that are filtered, from its first one on: three axes and one more. Others tell moments alone.
pub(crate) const FILTERED_MAX: usize = 4;

/// What tells features that no window alone can tell: it runs on from window to window until there is a gap.
#[derive(Debug)]
pub(crate) struct Filters {
    /// The first sample: all are taken less it, so that gravity and a bias are no step that would have to die away.
    origin: i16,
    octaves: Octaves,
    /// None of a channel that does not reach the velocity's band.
    velocity: Option<VelocityMeter>,
    /// Samples that a velocity is told over, at least.
    velocity_samples: u32,
}

impl Filters {
    fn new(origin: i16, channel: &ChannelDescriptor, band: Passband) -> Self {
        let rate_hz = f64::from(channel.rate_mhz) / 1e3;
        let reaches = channel.band_low_hz <= band.low_hz && channel.band_high_hz >= band.high_hz;
        let filter = VelocityFilter::new(channel.unit, rate_hz, band).filter(|_| reaches);
        Self {
            origin,
            octaves: Octaves::new(0.0),
            velocity: filter.map(VelocityMeter::new),
            // Ten revolutions of the slowest shaft that the band is for: a second, or five of the slow band.
            velocity_samples: (10.0 * rate_hz / f64::from(band.low_hz)) as u32,
        }
    }

    fn extend(&mut self, samples: &[i16], scale: f32) {
        let origin = i32::from(self.origin);
        self.octaves.extend(samples, origin);
        if let Some(velocity) = &mut self.velocity {
            let distances = samples.iter().map(|sample| (i32::from(*sample) - origin) as f32);
            distances.for_each(|distance| velocity.push(distance * scale));
        }
    }

    /// What the window adds to its statistics. A velocity comes with the first window that ends after it has been
    /// measured for long enough.
    fn take(&mut self, scale: f32) -> impl Iterator<Item = (FeatureKind, f32)> {
        let octaves = FeatureKind::OCTAVES.into_iter().zip(self.octaves.rms());
        self.octaves.restart();
        let is_whole = |meter: &&mut VelocityMeter| meter.count() >= self.velocity_samples;
        let velocity = self.velocity.as_mut().filter(is_whole).and_then(|meter| {
            let rms = meter.rms();
            meter.restart();
            rms
        });
        octaves
            .filter_map(move |(kind, rms)| Some((kind, rms? * scale.abs())))
            .chain(velocity.map(|rms| (FeatureKind::VelocityRms, rms)))
    }
}

/// What is known of the samples or readings of a window that is not full.
#[derive(Debug)]
enum Window {
    Empty,
    /// Of a fast channel: in least significant bits.
    Samples(Moments),
    /// Of a slow channel: in its unit.
    Readings(Accumulator),
}

impl Window {
    const fn count(&self) -> u32 {
        match self {
            Self::Empty => 0,
            Self::Samples(moments) => moments.count(),
            Self::Readings(accumulator) => accumulator.count(),
        }
    }

    fn extend(&mut self, samples: &[i16]) {
        match self {
            Self::Samples(_) => {}
            _ => {
                *self = samples
                    .first()
                    .map_or(Self::Empty, |first| Self::Samples(Moments::new(*first)));
            }
        }
        if let Self::Samples(moments) = self {
            moments.extend_from_slice(samples);
        }
    }

    fn push(&mut self, value: f32) {
        if !matches!(self, Self::Readings(_)) {
            *self = Self::Readings(Accumulator::default());
        }
        if let Self::Readings(accumulator) = self {
            accumulator.push(value);
        }
    }

    fn statistics(&self, scale: f32) -> Option<Statistics> {
        match self {
            Self::Empty => None,
            Self::Samples(moments) => moments.statistics(f64::from(scale)),
            Self::Readings(accumulator) => accumulator.statistics(),
        }
    }
}

/// Features of a window that is full.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Report {
    pub(crate) ticks: NodeTicks,
    pub(crate) first_sample: u64,
    pub(crate) count: u32,
    pub(crate) features: Vec<(FeatureKind, f32), FEATURES_MAX>,
}

impl Execution {
    pub(crate) fn new() -> Self {
        Self {
            plan: ChannelPlan::Raw,
            seen: 0,
            capture: 0,
            waveform: 0,
            waveform_due: NodeTicks(0),
            is_triggered: false,
            window: Window::Empty,
            window_first: 0,
            window_ticks: NodeTicks(0),
            continues: false,
            level: None,
        }
    }

    /// What triggers on this channel are judged by, if anything is known.
    pub(crate) const fn level(&self) -> Option<f32> {
        self.level
    }

    pub(crate) const fn plan(&self) -> ChannelPlan {
        self.plan
    }

    /// Goes by another plan from the next sample on. A window under way is not reported.
    pub(crate) fn apply(&mut self, plan: ChannelPlan) {
        if plan != self.plan {
            self.plan = plan;
            self.waveform = 0;
            self.waveform_due = NodeTicks(0);
            self.window = Window::Empty;
            self.continues = false;
        }
    }

    /// Sends the next `samples` whatever the plan says.
    pub(crate) fn capture(&mut self, samples: u32) {
        self.capture = samples;
    }

    /// Whether samples that the sensor fails to give now would be missed by anybody.
    pub(crate) const fn is_sampling(&self) -> bool {
        !matches!(self.plan, ChannelPlan::Off) || self.capture > 0
    }

    /// How many of the next `count` samples, the first of them taken at `ticks`, go the same way, and
    /// whether they are sent. At least one, if there is one. `may_begin` says whether the plan's trigger, if it has one, says so.
    pub(crate) fn next_part(
        &mut self,
        ticks: NodeTicks,
        count: usize,
        rate_mhz: NonZeroU32,
        may_begin: bool,
    ) -> (usize, bool) {
        if self.plan == ChannelPlan::Raw {
            self.capture = self.capture.saturating_sub(count.try_into().unwrap_or(u32::MAX));
            return (count, true);
        }
        let mut unsent = count;
        if let Some((samples, every_s)) = self.plan.waveform()
            && (may_begin || self.waveform_due > ticks)
        {
            if self.waveform_due <= ticks {
                self.waveform = samples;
                self.is_triggered = self.plan.trigger().is_some();
                self.waveform_due = ticks.plus_micros(u64::from(every_s) * 1_000_000);
            }
            let until_due = samples_in(self.waveform_due.micros_since(ticks), rate_mhz);
            let samples = usize::try_from(until_due).unwrap_or(usize::MAX);
            unsent = count.min(samples.max(1));
        }
        let sent = unsent.min(self.waveform.max(self.capture).try_into().unwrap_or(usize::MAX));
        if sent == 0 {
            return (unsent, false);
        }
        // It came out of a u32 a few lines above.
        self.waveform = self.waveform.saturating_sub(sent as u32);
        self.capture = self.capture.saturating_sub(sent as u32);
        (sent, true)
    }

    /// Whether the part that [`Self::next_part`] told begins a waveform that waited for a trigger: what came before belongs
    /// to it.
    pub(crate) const fn take_triggered(&mut self) -> bool {
        core::mem::replace(&mut self.is_triggered, false)
    }

    /// Takes samples into the window, the first of them taken at `ticks`, up to its end or theirs. Returns how
    /// many it took and, if the window is full, its features in the channel's unit. `filters` are the channel's own,
    /// if it has any.
    pub(crate) fn feed(
        &mut self,
        ticks: NodeTicks,
        samples: &[i16],
        channel: &ChannelDescriptor,
        mut filters: Option<&mut Option<Filters>>,
    ) -> (usize, Option<Report>) {
        let taken = self.begin(ticks, samples.len());
        let samples = &samples[..taken];
        if let (Some(_), Some(first)) = (self.length(), samples.first()) {
            self.window.extend(samples);
            if let Some(filters) = &mut filters {
                if !core::mem::replace(&mut self.continues, true) {
                    **filters = None;
                }
                filters
                    .get_or_insert_with(|| Filters::new(*first, channel, self.plan.passband()))
                    .extend(samples, channel.scale);
            }
        }
        (taken, self.end(channel.scale, filters))
    }

    /// Takes a reading into the window; its features, if that is full.
    pub(crate) fn feed_reading(&mut self, ticks: NodeTicks, value: f32) -> Option<Report> {
        self.begin(ticks, 1);
        self.level = Some(value);
        if self.length().is_some() {
            self.window.push(value);
        }
        self.end(1.0, None)
    }

    /// Samples of a window, if the plan wants features.
    const fn length(&self) -> Option<u32> {
        self.plan.window()
    }

    /// How many of `count` values come next; they count as seen.
    fn begin(&mut self, ticks: NodeTicks, count: usize) -> usize {
        let room = self.length().map_or(u32::MAX, |length| {
            if self.window.count() == 0 {
                (self.window_first, self.window_ticks) = (self.seen, ticks);
            }
            length.saturating_sub(self.window.count())
        });
        let taken = count.min(room as usize);
        self.seen += taken as u64;
        taken
    }

    /// The features of the window, if it is full; the next one begins.
    fn end(&mut self, scale: f32, filters: Option<&mut Option<Filters>>) -> Option<Report> {
        if self.window.count() < self.length()? {
            return None;
        }
        let window = core::mem::replace(&mut self.window, Window::Empty);
        let statistics = window.statistics(scale)?;
        let mut features = features(&statistics);
        if let Window::Samples(_) = window {
            self.level = Some(statistics.rms);
        }
        if let Some(Some(filters)) = filters {
            features.extend(filters.take(scale));
        }
        Some(Report {
            ticks: self.window_ticks,
            first_sample: self.window_first,
            count: window.count(),
            features,
        })
    }

    /// The sensor has no values for `count` samples: a window is of samples in a row, and begins anew.
    pub(crate) fn skip(&mut self, count: u64) {
        self.seen += count;
        self.window = Window::Empty;
        self.continues = false;
        self.level = None;
    }
}

fn features(statistics: &Statistics) -> Vec<(FeatureKind, f32), FEATURES_MAX> {
    let shape = statistics.shape.map(|shape| {
        [
            (FeatureKind::CrestFactor, shape.crest_factor),
            (FeatureKind::KurtosisExcess, shape.kurtosis_excess),
            (FeatureKind::Skewness, shape.skewness),
        ]
    });
    let amplitudes = [
        (FeatureKind::Mean, statistics.mean),
        (FeatureKind::Rms, statistics.rms),
        (FeatureKind::Peak, statistics.peak),
        (FeatureKind::PeakToPeak, statistics.peak_to_peak),
    ];
    amplitudes
        .into_iter()
        .chain(shape.into_iter().flatten())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::f64::consts::TAU;
    use trunnion_common::frame::Trigger;
    use trunnion_common::id::ChannelId;
    use trunnion_common::quantity::Unit;

    const RATE: NonZeroU32 = NonZeroU32::new(1_000_000).unwrap();

    const CHANNEL: ChannelDescriptor = ChannelDescriptor {
        unit: Unit::StandardGravity,
        scale: 1.0,
        rate_mhz: RATE.get(),
        range: 16.0,
        band_low_hz: 1.0,
        band_high_hz: 400.0,
    };

    fn executing(plan: ChannelPlan) -> Execution {
        let mut execution = Execution::new();
        execution.apply(plan);
        execution
    }

    /// Feeds `count` samples at 1 kHz from `ticks` on; returns which of them are sent.
    fn sent(execution: &mut Execution, from_ms: u64, count: usize) -> std::vec::Vec<u64> {
        let (mut sent, mut at) = (std::vec::Vec::new(), 0);
        while at < count {
            let ticks = NodeTicks((from_ms + at as u64) * 1_000);
            let (part, is_sent) = execution.next_part(ticks, count - at, RATE, true);
            assert!(part > 0 && part <= count - at);
            if is_sent {
                sent.extend((at..at + part).map(|index| from_ms + index as u64));
            }
            at += part;
        }
        sent
    }

    #[test]
    fn only_raw_sends_everything() {
        assert_eq!(sent(&mut executing(ChannelPlan::Raw), 0, 10).len(), 10);
        assert!(sent(&mut executing(ChannelPlan::Off), 0, 10).is_empty());
        assert!(sent(&mut executing(ChannelPlan::Features { window: 16 }), 0, 10).is_empty());
    }

    #[test]
    fn a_capture_is_sent_whatever_the_plan_and_then_it_is_over() {
        let mut execution = executing(ChannelPlan::Off);
        execution.capture(5);
        assert_eq!(sent(&mut execution, 0, 3), [0, 1, 2]);
        assert_eq!(sent(&mut execution, 3, 10), [3, 4]);
        assert!(!execution.is_sampling());
    }

    #[test]
    fn a_waveform_is_sent_at_once_and_then_every_so_often() {
        let mut execution = executing(ChannelPlan::Scheduled {
            window: 16,
            samples: 3,
            every_s: 1,
        });
        let found = sent(&mut execution, 500, 2_400);
        assert_eq!(found, [500, 501, 502, 1_500, 1_501, 1_502, 2_500, 2_501, 2_502]);
    }

    #[test]
    fn waveforms_longer_than_the_time_between_them_are_all_samples() {
        let mut execution = executing(ChannelPlan::Scheduled {
            window: 16,
            samples: 5_000,
            every_s: 1,
        });
        assert_eq!(sent(&mut execution, 0, 7_000).len(), 7_000);
    }

    #[test]
    fn windows_follow_one_another_and_a_gap_begins_a_new_one() {
        let mut execution = executing(ChannelPlan::Features { window: 16 });
        let mut filters = None;
        let mut feed = |execution: &mut Execution, ticks, count: usize| {
            let (taken, report) =
                execution.feed(NodeTicks(ticks), &vec![1; count], &CHANNEL, Some(&mut filters));
            (
                taken,
                report.map(|report| (report.ticks.0, report.first_sample, report.count)),
            )
        };
        assert_eq!(feed(&mut execution, 10, 20), (16, Some((10, 0, 16))));
        assert_eq!(feed(&mut execution, 26, 4), (4, None));
        execution.skip(5);
        assert_eq!(feed(&mut execution, 40, 16), (16, Some((40, 25, 16))));
        // What another plan began is not reported by this one.
        assert_eq!(feed(&mut execution, 60, 15), (15, None));
        execution.apply(ChannelPlan::Features { window: 17 });
        assert_eq!(feed(&mut execution, 75, 17), (17, Some((75, 56, 17))));
    }

    /// The features of each report of `seconds` of a sine of 1 mm/s RMS that stands on gravity, felt at `rate_hz` with
    /// 16 bits of 16 g.
    fn reports(rate_hz: u32, plan: ChannelPlan, hz: f64, seconds: u32) -> std::vec::Vec<Report> {
        reports_of(rate_hz, plan, (hz, 1.0), seconds)
    }

    /// The same of so many mm/s RMS.
    fn reports_of(
        rate_hz: u32,
        plan: ChannelPlan,
        (hz, velocity): (f64, f64),
        seconds: u32,
    ) -> std::vec::Vec<Report> {
        let channel = ChannelDescriptor {
            scale: 16.0 / 32_768.0,
            rate_mhz: 1_000 * rate_hz,
            band_high_hz: 5_000.0,
            ..CHANNEL
        };
        let amplitude = velocity * 2f64.sqrt() * TAU * hz / 9_806.65 / f64::from(channel.scale);
        let samples: std::vec::Vec<i16> = (0..rate_hz * seconds)
            .map(|index| 2_048.0 + amplitude * (TAU * hz * f64::from(index) / f64::from(rate_hz)).sin())
            .map(|value| value.round() as i16)
            .collect();
        let mut execution = executing(plan);
        let (mut reports, mut at, mut filters) = (std::vec::Vec::new(), 0, None);
        while at < samples.len() {
            let (taken, report) =
                execution.feed(NodeTicks(at as u64), &samples[at..], &channel, Some(&mut filters));
            reports.extend(report);
            at += taken;
        }
        reports
    }

    fn value(report: &Report, wanted: FeatureKind) -> Option<f32> {
        report
            .features
            .iter()
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| *value)
    }

    /// What is told of the velocity, and from which sample on.
    fn velocities(reports: &[Report]) -> std::vec::Vec<(u64, f32)> {
        let told = |report: &Report| Some((report.first_sample, value(report, FeatureKind::VelocityRms)?));
        reports.iter().filter_map(told).collect()
    }

    const FEATURES: ChannelPlan = ChannelPlan::Features { window: 1_024 };

    #[test]
    fn the_velocity_is_within_a_tenth_over_a_second_of_windows_far_shorter_than_that() {
        for rate_hz in [12_000, 26_667] {
            for hz in [12.5, 25.0, 50.0, 500.0] {
                let told = velocities(&reports(rate_hz, FEATURES, hz, 6));
                // A fifth of a second to settle, and then one for each second.
                assert!((4..=5).contains(&told.len()), "{told:?}");
                assert!(told[0].0 >= u64::from(rate_hz), "{told:?}");
                for (at, rms) in told {
                    assert!(
                        (rms - 1.0).abs() < 0.1,
                        "{hz} Hz at {rate_hz}, sample {at}: {rms}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_velocity_of_a_slow_machine_is_within_a_tenth_from_3_hz_on() {
        let slow = FEATURES.for_speed(3.0);
        for rate_hz in [12_000, 26_667] {
            for hz in [3.0, 5.0, 12.5, 500.0] {
                // A slow machine's velocity is little acceleration: 4 mm/s at 3 Hz are 16 steps of 16 bits.
                let told = velocities(&reports_of(rate_hz, slow, (hz, 4.0), 17));
                // A second to settle, and then one for each five seconds.
                assert_eq!(told.len(), 3, "{told:?}");
                assert!(told[0].0 >= 5 * u64::from(rate_hz), "{told:?}");
                for (at, rms) in told {
                    assert!(
                        (rms / 4.0 - 1.0).abs() < 0.1,
                        "{hz} Hz at {rate_hz}, sample {at}: {rms}"
                    );
                }
            }
        }
        // Of the same a plan for faster machines tells next to nothing.
        let told = velocities(&reports_of(12_000, FEATURES, (3.0, 4.0), 4));
        assert!(told.iter().all(|(_, rms)| *rms < 0.3), "{told:?}");
        assert_eq!(FEATURES.for_speed(10.0), FEATURES);
    }

    #[test]
    fn a_window_tells_the_octaves_and_gravity_is_in_none_of_them() {
        let reports = reports(12_000, FEATURES, 1_000.0, 1);
        for report in &reports {
            let octaves = FeatureKind::OCTAVES.map(|kind| value(report, kind).unwrap());
            let expected = value(report, FeatureKind::Rms).unwrap();
            assert!(
                (octaves[1] / expected - 1.0).abs() < 0.05,
                "{octaves:?} of {expected}"
            );
            assert!(
                [0, 2, 3].iter().all(|other| octaves[*other] < 0.3 * expected),
                "{octaves:?}"
            );
        }
        assert_eq!(reports.len(), 11);
    }

    #[test]
    fn a_waveform_begins_only_where_its_trigger_says_so_and_goes_on_to_its_end() {
        let plan = ChannelPlan::Triggered {
            window: 16,
            samples: 4,
            every_s: 1,
            trigger: Trigger {
                channel: ChannelId::new(1).unwrap(),
                low_milli: 500,
                high_milli: 3_000,
            },
        };
        let mut execution = executing(plan);
        let part = |execution: &mut Execution, ms: u64, count, may_begin| {
            execution.next_part(NodeTicks(ms * 1_000), count, RATE, may_begin)
        };
        assert_eq!(part(&mut execution, 0, 10, false), (10, false));
        assert_eq!(part(&mut execution, 10, 3, true), (3, true));
        assert_eq!(part(&mut execution, 13, 10, false), (1, true));
        // Not again within the second, whatever the trigger says.
        assert_eq!(part(&mut execution, 14, 10, true), (10, false));
        assert_eq!(part(&mut execution, 1_010, 10, false), (10, false));
        assert_eq!(part(&mut execution, 1_020, 10, true), (4, true));
    }

    #[test]
    fn triggers_are_about_the_last_reading_or_the_last_windows_rms_and_a_gap_ends_both() {
        let mut slow = executing(ChannelPlan::Raw);
        assert_eq!(slow.level(), None);
        slow.feed_reading(NodeTicks(0), 24.5);
        assert_eq!(slow.level(), Some(24.5));
        slow.skip(1);
        assert_eq!(slow.level(), None);
        let mut fast = executing(ChannelPlan::Features { window: 16 });
        let samples: std::vec::Vec<i16> = (0..20).map(|index| if index % 2 == 0 { 3 } else { -3 }).collect();
        fast.feed(NodeTicks(0), &samples, &CHANNEL, None);
        assert_eq!(fast.level(), Some(3.0));
        fast.skip(1);
        assert_eq!(fast.level(), None);
    }
}
