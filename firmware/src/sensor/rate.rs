//! The sample rate that a sensor really has: parts with an oscillator of their own are up to several percent off what
//! their data sheet says, and a line of a bearing is then looked for where it is not.

use core::num::NonZeroU32;
use trunnion_common::time::NodeTicks;

/// Time that a rate is measured over, microseconds. The queue is read some 100 us early or late, which is 10 ppm of
/// this.
const SPAN_MICROS: u64 = 10_000_000;

/// A measured rate is told when it is further than this from the one told last: a twentieth of a percent, half of what
/// a rate may be off.
const TOLD_PPM: u64 = 500;

/// A rate further than this from the nominal one is a fault and no rate: ten percent.
const OFF_MAX_PPM: u64 = 100_000;

/// Counts samples against the node's clock, whose crystal is a hundred times as good as what is measured.
#[derive(Clone, Debug)]
pub struct RateMeter {
    nominal: NonZeroU32,
    told: NonZeroU32,
    /// When counting began.
    start: Option<NodeTicks>,
    samples: u64,
}

impl RateMeter {
    /// Nothing is measured yet; the nominal rate has been told. Millihertz.
    pub const fn new(nominal: NonZeroU32) -> Self {
        Self {
            nominal,
            told: nominal,
            start: None,
            samples: 0,
        }
    }

    /// The queue is empty at `now`, and `samples` came out of it since the last call. A new rate, millihertz, if there
    /// is one to tell.
    pub fn handle_empty(&mut self, now: NodeTicks, samples: usize) -> Option<NonZeroU32> {
        let Some(start) = self.start else {
            self.begin(now);
            return None;
        };
        self.samples += samples as u64;
        let micros = now.micros_since(start);
        if micros < SPAN_MICROS {
            return None;
        }
        // Below 2^63: ten seconds and a bit of any sensor's samples.
        let measured = self.samples.saturating_mul(1_000_000_000) / micros;
        self.begin(now);
        let measured = NonZeroU32::new(u32::try_from(measured).ok()?)?;
        let is_off = |from: NonZeroU32, ppm| apart_ppm(measured, from) > ppm;
        if is_off(self.nominal, OFF_MAX_PPM) || !is_off(self.told, TOLD_PPM) {
            return None;
        }
        self.told = measured;
        Some(measured)
    }

    /// Samples were lost: what was counted says nothing.
    pub const fn restart(&mut self) {
        self.start = None;
    }

    const fn begin(&mut self, now: NodeTicks) {
        self.start = Some(now);
        self.samples = 0;
    }
}

fn apart_ppm(a: NonZeroU32, b: NonZeroU32) -> u64 {
    u64::from(a.get().abs_diff(b.get())) * 1_000_000 / u64::from(b.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOMINAL: NonZeroU32 = NonZeroU32::new(26_667_000).unwrap();

    /// What is told of a queue that is emptied each ten milliseconds, give or take a tenth of one, for `seconds`.
    fn told(rate_hz: f64, seconds: u64) -> Vec<f64> {
        let mut meter = RateMeter::new(NOMINAL);
        let (mut told, mut taken) = (Vec::new(), 0);
        for read in 0..seconds * 100 {
            let micros = read * 10_000 + [0, 70, 100, 30][read as usize % 4];
            let due = (rate_hz * micros as f64 / 1e6) as u64;
            let samples = (due - taken) as usize;
            taken = due;
            told.extend(meter.handle_empty(NodeTicks(micros), samples));
        }
        told.into_iter().map(|rate| f64::from(rate.get()) / 1e3).collect()
    }

    #[test]
    fn a_rate_is_told_once_and_to_a_thousandth() {
        for rate_hz in [25_900.0, 26_500.0, 27_400.0] {
            let told = told(rate_hz, 60);
            assert_eq!(told.len(), 1, "{told:?}");
            assert!((told[0] / rate_hz - 1.0).abs() < 1e-4, "{told:?}");
        }
    }

    #[test]
    fn a_part_at_its_nominal_rate_and_one_that_is_broken_say_nothing() {
        assert_eq!(told(26_667.0, 60), []);
        assert_eq!(told(26_675.0, 60), [], "0.03 % is no news");
        assert_eq!(told(9_000.0, 60), []);
    }

    #[test]
    fn what_was_counted_before_a_loss_is_forgotten() {
        let mut meter = RateMeter::new(NOMINAL);
        assert_eq!(meter.handle_empty(NodeTicks(0), 0), None);
        assert_eq!(meter.handle_empty(NodeTicks(9_000_000), 1_000), None);
        meter.restart();
        assert_eq!(meter.handle_empty(NodeTicks(9_500_000), 7), None);
        let told = meter.handle_empty(NodeTicks(19_500_000), 260_000);
        assert_eq!(told, NonZeroU32::new(26_000_000));
    }
}
