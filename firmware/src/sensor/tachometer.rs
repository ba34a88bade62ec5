//! The speed of a shaft from the pulses of a tachometer: a mark that passes, or the teeth of a wheel.
//!
//! The board stamps each pulse; speed is pulses over the time between the first and the last of a reading, so that
//! its error is that of two stamps, whatever the number of pulses between.

use super::Gauge;
use core::num::NonZeroU16;
use trunnion_common::sample::{NoData, Reading};
use trunnion_common::time::NodeTicks;

/// What the tachometer sees.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Wheel {
    /// Pulses of a revolution.
    pub pulses: NonZeroU16,
    /// Highest speed of the shaft, Hz: pulses that come faster by more than a half are bounces of a contact.
    pub highest_hz: f32,
    /// Slowest speed that is told, Hz; below it the shaft stands still.
    pub slowest_hz: f32,
}

impl Wheel {
    /// Microseconds from pulse to pulse at this speed.
    fn interval_micros(&self, hz: f32) -> u64 {
        // A speed that is none makes a conversion that saturates, and nothing worse.
        (1e6 / (hz * f32::from(self.pulses.get()))) as u64
    }
}

/// Counts pulses between readings.
#[derive(Clone, Debug)]
pub struct Tachometer {
    wheel: Wheel,
    /// The pulse that the reading under way began with, and the last one.
    span: Option<(NodeTicks, NodeTicks)>,
    /// Pulses between the two.
    pulses: u32,
    bounces: u32,
}

impl Tachometer {
    /// No pulse has come.
    pub const fn new(wheel: Wheel) -> Self {
        Self {
            wheel,
            span: None,
            pulses: 0,
            bounces: 0,
        }
    }

    /// A pulse came at `at`.
    pub fn handle_pulse(&mut self, at: NodeTicks) {
        let Some((_, last)) = &mut self.span else {
            self.span = Some((at, at));
            return;
        };
        let interval = at.micros_since(*last);
        if 3 * interval < 2 * self.wheel.interval_micros(self.wheel.highest_hz) {
            self.bounces = self.bounces.saturating_add(1);
            return;
        }
        *last = at;
        self.pulses = self.pulses.saturating_add(1);
    }

    /// Pulses that were taken for bounces, ever.
    pub const fn bounces(&self) -> u32 {
        self.bounces
    }
}

impl Gauge for Tachometer {
    /// The shaft's speed since the last reading, rpm: 0 when no pulse has come for longer than at the slowest speed,
    /// and no data while it cannot be told yet.
    fn read(&mut self, now: NodeTicks) -> Reading {
        let Some((first, last)) = self.span else {
            return Err(NoData::NotReady);
        };
        if now.micros_since(last) > self.wheel.interval_micros(self.wheel.slowest_hz) {
            self.span = Some((last, last));
            self.pulses = 0;
            return Ok(0.0);
        }
        if self.pulses == 0 {
            return Err(NoData::NotReady);
        }
        let seconds = last.micros_since(first) as f32 / 1e6;
        let revolutions = self.pulses as f32 / f32::from(self.wheel.pulses.get());
        self.span = Some((last, last));
        self.pulses = 0;
        Ok(60.0 * revolutions / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHEEL: Wheel = Wheel {
        pulses: NonZeroU16::new(4).unwrap(),
        highest_hz: 100.0,
        slowest_hz: 0.5,
    };

    /// Lets the shaft turn at `hz` from `from` on, in microseconds.
    fn turn(tachometer: &mut Tachometer, hz: f64, from: u64, upto: u64) {
        let interval = 1e6 / (hz * 4.0);
        let pulses = ((upto - from) as f64 / interval) as u64;
        for pulse in 0..=pulses {
            tachometer.handle_pulse(NodeTicks(from + (pulse as f64 * interval) as u64));
        }
    }

    #[test]
    fn the_speed_is_told_to_the_stamps_of_two_pulses() {
        for hz in [0.7, 24.875, 99.9] {
            let mut tachometer = Tachometer::new(WHEEL);
            turn(&mut tachometer, hz, 1_000, 10_000_000);
            let found = f64::from(tachometer.read(NodeTicks(10_000_000)).unwrap()) / 60.0;
            assert!((found - hz).abs() < hz * 1e-5, "{found} is not {hz}");
        }
    }

    #[test]
    fn a_shaft_that_stands_still_has_speed_0_and_one_never_seen_has_none() {
        let mut tachometer = Tachometer::new(WHEEL);
        assert_eq!(tachometer.read(NodeTicks(5_000_000)), Err(NoData::NotReady));
        turn(&mut tachometer, 10.0, 0, 1_000_000);
        assert!(tachometer.read(NodeTicks(1_000_000)).is_ok_and(|rpm| rpm > 594.0));
        // At the slowest speed a pulse comes each half second.
        assert_eq!(tachometer.read(NodeTicks(1_400_000)), Err(NoData::NotReady));
        assert_eq!(tachometer.read(NodeTicks(1_600_000)), Ok(0.0));
        assert_eq!(tachometer.read(NodeTicks(9_000_000)), Ok(0.0));
    }

    #[test]
    fn bounces_of_a_contact_are_no_revolutions() {
        let mut tachometer = Tachometer::new(WHEEL);
        for pulse in 0..40 {
            for bounce in [0, 150, 400] {
                tachometer.handle_pulse(NodeTicks(pulse * 25_000 + bounce));
            }
        }
        let found = tachometer.read(NodeTicks(1_000_000)).unwrap();
        assert!((found - 600.0).abs() < 0.06, "{found}");
        assert_eq!(tachometer.bounces(), 80);
    }
}
