//! When a channel's samples are due. Pure arithmetic on a start and a rate, so it cannot drift.

use core::num::NonZeroU32;
use trunnion_common::time::NodeTicks;

const MICROS_MILLIHERTZ: u64 = 1_000_000_000;

/// The instants of a channel's samples: number `i` is due at `start + i / rate`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Schedule {
    start: NodeTicks,
    rate_mhz: NonZeroU32,
}

impl Schedule {
    /// Sample 0 at `start`, then `rate_mhz` samples in 1,000 seconds.
    pub const fn new(start: NodeTicks, rate_mhz: NonZeroU32) -> Self {
        Self { start, rate_mhz }
    }

    /// When sample `index` is due, rounded down to a microsecond.
    pub fn ticks_of(&self, index: u64) -> NodeTicks {
        // In two parts, since a microcontroller has no division of 128 bits.
        let rate = u64::from(self.rate_mhz.get());
        let (whole, rest) = (index / rate, index % rate);
        let micros = whole
            .saturating_mul(MICROS_MILLIHERTZ)
            .saturating_add(rest * MICROS_MILLIHERTZ / rate);
        self.start.plus_micros(micros)
    }

    /// How many samples are due by `now`: the first index whose instant lies ahead.
    pub fn due_by(&self, now: NodeTicks) -> u64 {
        let Some(micros) = now.0.checked_sub(self.start.0) else {
            return 0;
        };
        samples_in(micros.saturating_add(1), self.rate_mhz)
    }
}

/// Samples that begin within so many microseconds, the first of them at their start.
pub(crate) fn samples_in(micros: u64, rate_mhz: NonZeroU32) -> u64 {
    let rate = u64::from(rate_mhz.get());
    let (whole, rest) = (micros / MICROS_MILLIHERTZ, micros % MICROS_MILLIHERTZ);
    // Both numbers of the second part are below 2^32.
    whole
        .saturating_mul(rate)
        .saturating_add((rest * rate).div_ceil(MICROS_MILLIHERTZ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule(start: u64, rate_mhz: u32) -> Schedule {
        Schedule::new(NodeTicks(start), NonZeroU32::new(rate_mhz).unwrap())
    }

    #[test]
    fn the_first_sample_is_due_at_the_start() {
        let schedule = schedule(500, 12_000_000);
        assert_eq!(schedule.due_by(NodeTicks(499)), 0);
        assert_eq!(schedule.due_by(NodeTicks(500)), 1);
        assert_eq!(schedule.ticks_of(12_000), NodeTicks(1_000_500));
    }

    proptest! {
        #[test]
        fn a_sample_is_due_from_its_instant_on(start in 0u64..1 << 40, rate in 1u32.., index in 0u64..1 << 40) {
            let schedule = schedule(start, rate);
            let at = schedule.ticks_of(index);
            prop_assert!(schedule.due_by(at) > index);
            if at.0 > start {
                prop_assert!(schedule.due_by(NodeTicks(at.0 - 1)) <= index);
            }
        }
    }
}
