//! A channel's plan as it is carried out: which samples are sent, and the features of all.

use core::num::NonZeroU32;
use heapless::Vec;
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::moments::Moments;
use trunnion_common::feature::statistics::{Accumulator, Statistics};
use trunnion_common::frame::{ChannelPlan, FEATURES_MAX};
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
    window: Window,
    window_first: u64,
    window_ticks: NodeTicks,
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
            Self::Samples(moments) => moments.extend(samples.iter().copied()),
            _ => *self = Moments::of(samples.iter().copied()).map_or(Self::Empty, Self::Samples),
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
            window: Window::Empty,
            window_first: 0,
            window_ticks: NodeTicks(0),
        }
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
    /// whether they are sent. At least one, if there is one.
    pub(crate) fn next_part(
        &mut self,
        ticks: NodeTicks,
        count: usize,
        rate_mhz: NonZeroU32,
    ) -> (usize, bool) {
        if self.plan == ChannelPlan::Raw {
            self.capture = self.capture.saturating_sub(count.try_into().unwrap_or(u32::MAX));
            return (count, true);
        }
        let mut unsent = count;
        if let ChannelPlan::Scheduled { samples, every_s, .. } = self.plan {
            if self.waveform_due <= ticks {
                self.waveform = samples;
                self.waveform_due = ticks.plus_micros(u64::from(every_s) * 1_000_000);
            }
            let until_due = u128::from(self.waveform_due.micros_since(ticks)) * u128::from(rate_mhz.get());
            let samples = usize::try_from(until_due.div_ceil(1_000_000_000)).unwrap_or(usize::MAX);
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

    /// Takes samples into the window, the first of them taken at `ticks`, up to its end or theirs. Returns how
    /// many it took and, if the window is full, its features in the unit that `scale` gives them.
    pub(crate) fn feed(&mut self, ticks: NodeTicks, samples: &[i16], scale: f32) -> (usize, Option<Report>) {
        let taken = self.begin(ticks, samples.len());
        if self.length().is_some() {
            self.window.extend(&samples[..taken]);
        }
        (taken, self.end(scale))
    }

    /// Takes a reading into the window; its features, if that is full.
    pub(crate) fn feed_reading(&mut self, ticks: NodeTicks, value: f32) -> Option<Report> {
        self.begin(ticks, 1);
        if self.length().is_some() {
            self.window.push(value);
        }
        self.end(1.0)
    }

    /// Samples of a window, if the plan wants features.
    const fn length(&self) -> Option<u32> {
        match self.plan {
            ChannelPlan::Features { window } | ChannelPlan::Scheduled { window, .. } => Some(window),
            ChannelPlan::Off | ChannelPlan::Raw => None,
        }
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
    fn end(&mut self, scale: f32) -> Option<Report> {
        if self.window.count() < self.length()? {
            return None;
        }
        let window = core::mem::replace(&mut self.window, Window::Empty);
        window.statistics(scale).map(|statistics| Report {
            ticks: self.window_ticks,
            first_sample: self.window_first,
            count: window.count(),
            features: features(&statistics),
        })
    }

    /// The sensor has no values for `count` samples: a window is of samples in a row, and begins anew.
    pub(crate) fn skip(&mut self, count: u64) {
        self.seen += count;
        self.window = Window::Empty;
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

    const RATE: NonZeroU32 = NonZeroU32::new(1_000_000).unwrap();

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
            let (part, is_sent) = execution.next_part(ticks, count - at, RATE);
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
        let feed = |execution: &mut Execution, ticks, count: usize| {
            let (taken, report) = execution.feed(NodeTicks(ticks), &vec![1; count], 1.0);
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
}
