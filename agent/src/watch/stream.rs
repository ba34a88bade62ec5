//! The samples of a watched channel, cut into stretches by the sample's number.

use std::collections::BTreeMap;
use std::time::Duration;
use trunnion_common::feature::moments::Moments;
use trunnion_common::feature::velocity::VelocityMeter;
use trunnion_common::frame::Waveform;
use trunnion_common::id::BootId;
use trunnion_common::quantity::Unit;
use trunnion_common::time::{ClockFix, EventTime, NodeTicks};

/// Share of a stretch's samples that must be there to decide on it, percent.
pub(super) const ENOUGH_PERCENT: u64 = 80;

/// The samples of one boot under one table.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) boot: BootId,
    pub(super) revision: u16,
    /// The channel's.
    pub(super) unit: Unit,
    /// From samples to the channel's unit.
    pub(super) scale: f64,
    pub(super) rate_mhz: u32,
    /// Up to where they show anything, Hz.
    pub(super) high_hz: f64,
    /// Samples of a stretch.
    pub(super) size: u64,
    /// Stretches below are through.
    pub(super) next: u64,
    pub(super) newest: u64,
    /// By number, the open ones.
    pub(super) open: BTreeMap<u64, Stretch>,
    pub(super) velocity: Option<Velocity>,
}

/// The velocity of samples that come in their order; one that is late is not waited for.
#[derive(Debug)]
pub(super) struct Velocity {
    /// As it was before any sample.
    pub(super) fresh: VelocityMeter,
    pub(super) meter: VelocityMeter,
    /// The sample that is to come.
    pub(super) next: u64,
}

#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) start: EventTime,
    pub(super) moments: Moments,
    /// RMS, mm/s, where enough of it was heard in order.
    pub(super) velocity: Option<f32>,
    /// In the channel's unit, those that are missing no numbers, where they are kept to be searched.
    pub(super) samples: Option<Vec<f32>>,
}

/// Where samples came from, and when.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The node's clock at the first of them.
    pub ticks: NodeTicks,
    /// The fix in force; none: they are dated by their arrival.
    pub fix: Option<&'a ClockFix>,
    /// When they arrived, by the gateway's clock.
    pub utc: EventTime,
    /// The same, since the start.
    pub mono: Duration,
}

const MICROS_MILLI: u64 = 1_000_000_000;

impl Stream {
    /// Adds a frame to the stretches that it reaches into. Of so many that begin with it, at most, the samples are
    /// kept.
    pub(super) fn take(
        &mut self,
        waveform: &Waveform<'_>,
        arrival: &Arrival<'_>,
        mut places: u64,
    ) -> Option<()> {
        let mut first = waveform.first_sample;
        let end = first.checked_add(u64::from(waveform.count))?;
        let mut samples = waveform.samples().ok()?;
        while first < end {
            let number = first / self.size;
            let begin = number * self.size;
            let upto = begin.saturating_add(self.size).min(end);
            let count = (upto - first) as usize;
            let open = self.open.get(&number);
            let is_kept = open.map_or(places > 0, |stretch| stretch.samples.is_some());
            let heard = is_kept.then(|| samples.clone().take(count));
            let piece = Moments::of(samples.by_ref().take(count))?;
            // What comes for a stretch that is through is too late.
            if number >= self.next {
                let start = self.date(begin, waveform.first_sample, arrival);
                let stretch = self
                    .open
                    .entry(number)
                    .and_modify(|stretch| stretch.moments.join(&piece))
                    .or_insert_with(|| {
                        places -= u64::from(is_kept);
                        Stretch {
                            start,
                            moments: piece,
                            velocity: None,
                            samples: is_kept.then(|| vec![f32::NAN; self.size as usize]),
                        }
                    });
                if let (Some(kept), Some(heard)) = (&mut stretch.samples, heard) {
                    let at = (first - begin) as usize;
                    for (place, sample) in kept[at..].iter_mut().zip(heard) {
                        *place = (f64::from(sample) * self.scale) as f32;
                    }
                }
            }
            first = upto;
        }
        self.measure_velocity(waveform, end)?;
        self.newest = self.newest.max((end - 1) / self.size);
        Some(())
    }

    /// Takes the velocity of a frame that comes in its turn, and begins anew behind a gap.
    fn measure_velocity(&mut self, waveform: &Waveform<'_>, end: u64) -> Option<()> {
        let Some(velocity) = self.velocity.as_mut() else {
            return Some(());
        };
        let first = waveform.first_sample;
        if first < velocity.next {
            return Some(());
        }
        if first > velocity.next {
            velocity.meter = velocity.fresh;
        }
        for (index, sample) in (first..end).zip(waveform.samples().ok()?) {
            velocity.meter.push((f64::from(sample) * self.scale) as f32);
            if (index + 1) % self.size == 0 {
                let is_enough = u64::from(velocity.meter.count()) * 100 >= ENOUGH_PERCENT * self.size;
                if let Some(stretch) = self.open.get_mut(&(index / self.size)) {
                    stretch.velocity = velocity.meter.rms().filter(|_| is_enough);
                }
                velocity.meter.restart();
            }
        }
        velocity.next = end;
        Some(())
    }

    /// When the sample `at` was taken, of which a frame is known that begins at `first`.
    fn date(&self, at: u64, first: u64, arrival: &Arrival<'_>) -> EventTime {
        let nanos = nanos_of(at.abs_diff(first), self.rate_mhz);
        let begun = match arrival.fix {
            Some(fix) => fix.event_time(arrival.ticks),
            None => arrival.utc,
        };
        begun.plus_nanos(if at < first { -nanos } else { nanos })
    }
}

impl Arrival<'_> {
    /// When the reading `at` of a frame of `count` was taken. Readings of a slow channel may be sent many at a
    /// time: without a fix, the last of them counts as taken when they came.
    pub(super) fn of_reading(&self, at: u64, count: u64, rate_mhz: u32) -> EventTime {
        match self.fix {
            Some(fix) => fix.event_time(self.ticks).plus_nanos(nanos_of(at, rate_mhz)),
            None => {
                let before = count.saturating_sub(1).saturating_sub(at);
                self.utc.plus_nanos(-nanos_of(before, rate_mhz))
            }
        }
    }
}

/// How long so many samples take, in whole microseconds.
fn nanos_of(samples: u64, rate_mhz: u32) -> i64 {
    let micros = samples.saturating_mul(MICROS_MILLI) / u64::from(rate_mhz.max(1));
    i64::try_from(micros.saturating_mul(1_000)).unwrap_or(i64::MAX)
}
