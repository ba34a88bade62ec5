//! Whether a fast sensor measures: dead, stuck and clipped ones are told as such.
//!
//! | what | told when | over when |
//! |---|---|---|
//! | dead | the part does not answer | it does |
//! | stuck | a whole second of samples are one and the same: the noise of any accelerometer moves its last bits | one differs |
//! | clipped | of a second, one sample in a hundred is at the end of the range: statistics are wrong by then | a second has fewer |

use super::{Batch, Missed};
use core::num::NonZeroU32;
use trunnion_common::frame::{Event, EventKind, Severity};
use trunnion_common::id::ChannelId;

/// One sample in so many at the end of the range makes a sensor clipped.
const CLIPPED_SHARE: u32 = 100;

/// What is wrong with a sensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Dead,
    Stuck,
    Clipped,
}

/// Judges the samples of one channel.
#[derive(Clone, Debug)]
pub struct Condition {
    channel: ChannelId,
    /// Samples of a second.
    second: u32,
    fault: Option<Fault>,
    last: i16,
    /// Samples in a row that are `last`.
    same: u32,
    /// Of the second under way: samples, and those at the end of the range.
    seen: u32,
    clipped: u32,
}

impl Condition {
    /// Nothing is wrong with a sensor that samples at this rate.
    pub const fn new(channel: ChannelId, rate_mhz: NonZeroU32) -> Self {
        let second = rate_mhz.get() / 1_000;
        Self {
            channel,
            second: if second > 0 { second } else { 1 },
            fault: None,
            last: 0,
            same: 0,
            seen: 0,
            clipped: 0,
        }
    }

    /// Takes what one reading brought; an event, if it changes anything.
    pub fn judge(&mut self, batch: &Batch, samples: impl Iterator<Item = i16>) -> Option<Event> {
        if matches!(batch.missed, Some((_, Missed::Fault))) {
            (self.same, self.seen, self.clipped) = (0, 0, 0);
            return self.turn(Some(Fault::Dead));
        }
        let mut is_clipped = None;
        for sample in samples {
            self.same = if sample == self.last {
                self.same.saturating_add(1)
            } else {
                1
            };
            self.last = sample;
            self.seen += 1;
            self.clipped += u32::from(matches!(sample, i16::MIN | i16::MAX));
            if self.seen >= self.second {
                is_clipped = Some(self.clipped >= self.seen.div_ceil(CLIPPED_SHARE));
                (self.seen, self.clipped) = (0, 0);
            }
        }
        if batch.taken == 0 {
            return None;
        }
        let found = if self.same >= self.second {
            Some(Fault::Stuck)
        } else {
            match is_clipped {
                Some(true) => Some(Fault::Clipped),
                // What was clipped is so until a second has passed.
                None if self.fault == Some(Fault::Clipped) => self.fault,
                Some(false) | None => None,
            }
        };
        self.turn(found)
    }

    fn turn(&mut self, found: Option<Fault>) -> Option<Event> {
        if found == self.fault {
            return None;
        }
        self.fault = found;
        let (kind, severity) = match found {
            Some(Fault::Dead) => (EventKind::SensorLost, Severity::Alarm),
            Some(Fault::Stuck) => (EventKind::SensorStuck, Severity::Alarm),
            Some(Fault::Clipped) => (EventKind::SensorClipped, Severity::Warning),
            None => (EventKind::SensorBack, Severity::Info),
        };
        Some(Event {
            severity,
            kind,
            channel: Some(self.channel),
            repeats: 1,
            value: f32::from(self.last),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::time::NodeTicks;

    const CHANNEL: ChannelId = ChannelId::new(0).unwrap();

    fn batch(missed: Option<(u64, Missed)>, taken: usize) -> Batch {
        Batch {
            missed,
            taken,
            first: NodeTicks(0),
        }
    }

    /// A sample by its number.
    type Signal = fn(usize) -> i16;

    /// What batches of a tenth of a second, at 1 kHz, make it say, by the number of the batch.
    fn said(batches: &[Option<Signal>]) -> Vec<(usize, EventKind)> {
        let mut condition = Condition::new(CHANNEL, NonZeroU32::new(1_000_000).unwrap());
        let mut said = Vec::new();
        for (at, sample) in batches.iter().enumerate() {
            let event = match sample {
                Some(sample) => condition.judge(&batch(None, 100), (0..100).map(sample)),
                None => condition.judge(&batch(Some((100, Missed::Fault)), 0), core::iter::empty()),
            };
            said.extend(event.map(|event| (at, event.kind)));
        }
        said
    }

    const NOISE: Option<Signal> = Some(|at| at as i16 % 7);
    const FLAT: Option<Signal> = Some(|_| 5);
    const CLIPPED: Option<Signal> = Some(|at| if at < 2 { i16::MAX } else { at as i16 });

    #[test]
    fn a_sensor_that_measures_says_nothing() {
        assert_eq!(said(&[NOISE; 50]), []);
        assert_eq!(
            said(&[&[FLAT; 9][..], &[NOISE]].concat()),
            [],
            "less than a second"
        );
    }

    #[test]
    fn a_dead_a_stuck_and_a_clipped_sensor_are_told_apart_once_each_and_when_they_are_over() {
        assert_eq!(
            said(&[&[NOISE, None, None][..], &[NOISE; 3]].concat()),
            [(1, EventKind::SensorLost), (3, EventKind::SensorBack)]
        );
        assert_eq!(
            said(&[&[FLAT; 20][..], &[NOISE; 3]].concat()),
            [(9, EventKind::SensorStuck), (20, EventKind::SensorBack)]
        );
        assert_eq!(
            said(&[&[CLIPPED; 25][..], &[NOISE; 20]].concat()),
            [(9, EventKind::SensorClipped), (39, EventKind::SensorBack)]
        );
    }

    #[test]
    fn one_blow_at_the_end_of_the_range_is_no_fault() {
        let blow: Option<Signal> = Some(|at| if at == 0 { i16::MIN } else { at as i16 });
        assert_eq!(said(&[&[blow][..], &[NOISE; 20]].concat()), []);
    }
}
