//! What the node needs from any sensor, and the sensors there are.
//!
//! Fast sensors convert at their own pace into a queue of their own; a driver empties it when asked
//! ([`Sensor`]). Slow quantities are read one by one ([`Gauge`]).

pub mod condition;
pub mod current_loop;
pub mod current_monitor;
pub mod iis3dwb;
pub mod lis3dh;
pub mod rate;
pub mod record;
pub mod tachometer;
#[cfg(test)]
pub(crate) mod test_bus;
pub mod thermometer;

use crate::schedule::Schedule;
use core::num::NonZeroU32;
use trunnion_common::sample::{LossCause, NoData, Reading};
use trunnion_common::time::NodeTicks;

/// A sampled sensor of so many axes, whose samples come together: an accelerometer with its queue, a converter with its
/// transfer buffer.
pub trait Sensor<const AXES: usize = 1> {
    /// Takes samples that are ready by `now`, oldest first, into `out`.
    fn read(&mut self, now: NodeTicks, out: &mut [[i16; AXES]]) -> Batch;

    /// Its rate has been measured, millihertz: what it dates its samples by from now on.
    fn set_rate(&mut self, rate_mhz: NonZeroU32) {
        let _ = rate_mhz;
    }
}

/// A sensor that is asked for one value at a time: a thermometer, a current loop, a tachometer.
pub trait Gauge {
    /// The value now in the channel's unit, or why there is none.
    fn read(&mut self, now: NodeTicks) -> Reading;
}

/// One that may not have answered when it was set up: it never gives data then.
impl<G: Gauge> Gauge for Option<G> {
    fn read(&mut self, now: NodeTicks) -> Reading {
        match self {
            Some(gauge) => gauge.read(now),
            None => Err(NoData::BusError),
        }
    }
}

/// An axis of an accelerometer, by the letter on its housing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Axis {
    /// Along the part's x.
    X,
    /// Along its y.
    Y,
    /// Along its z, out of its lid.
    Z,
}

impl Axis {
    /// Its value of the three that a part gives.
    const fn of(self, [x, y, z]: [i16; 3]) -> i16 {
        match self {
            Self::X => x,
            Self::Y => y,
            Self::Z => z,
        }
    }
}

/// A sensor that was never found: each of its samples is missed when it is due.
#[derive(Clone, Debug)]
pub struct Absent {
    schedule: Schedule,
    booked: u64,
}

impl Absent {
    /// It should have sampled at this rate from `start` on.
    pub const fn new(rate_mhz: NonZeroU32, start: NodeTicks) -> Self {
        Self {
            schedule: Schedule::new(start, rate_mhz),
            booked: 0,
        }
    }
}

impl<const AXES: usize> Sensor<AXES> for Absent {
    fn read(&mut self, now: NodeTicks, _out: &mut [[i16; AXES]]) -> Batch {
        let due = self.schedule.due_by(now);
        let missed = due.saturating_sub(core::mem::replace(&mut self.booked, due));
        Batch {
            missed: (missed > 0).then_some((missed, Missed::Fault)),
            taken: 0,
            first: now,
        }
    }
}

/// A sensor that was found, or was not.
#[derive(Clone, Debug)]
pub enum Fitted<S> {
    /// It answers.
    Present(S),
    /// It never did.
    Absent(Absent),
}

impl<S: Sensor<AXES>, const AXES: usize> Sensor<AXES> for Fitted<S> {
    fn read(&mut self, now: NodeTicks, out: &mut [[i16; AXES]]) -> Batch {
        match self {
            Self::Present(sensor) => sensor.read(now, out),
            Self::Absent(absent) => absent.read(now, out),
        }
    }

    fn set_rate(&mut self, rate_mhz: NonZeroU32) {
        match self {
            Self::Present(sensor) => sensor.set_rate(rate_mhz),
            Self::Absent(_) => {}
        }
    }
}

/// What one [`Sensor::read`] brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batch {
    /// How many samples of each axis between the last batch and this one can no longer be had, and why.
    pub missed: Option<(u64, Missed)>,
    /// Samples of each axis written to the buffer. When they fill it, there may be more.
    pub taken: usize,
    /// When the first of them was taken.
    pub first: NodeTicks,
}

/// Why a sensor has no sample where there should be one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missed {
    /// Its queue ran over before it was read.
    Overrun,
    /// It did not answer.
    Fault,
}

impl From<Missed> for LossCause {
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::Overrun => Self::SensorOverrun,
            Missed::Fault => Self::SensorFault,
        }
    }
}
