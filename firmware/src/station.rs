//! A node and its instruments: an accelerometer that samples by itself, each of its axes a channel, and slow ones that are
//! asked once a second.
//!
//! A board calls [`Station::handle_time`] at the latest when [`Station::poll_timeout`] says so, and moves
//! bytes between the line and the node.
//!
//! Nothing of it is inlined into that loop: each call has the frames that it works on to itself on the stack, where a
//! loop would hold those of all of them at once.

use crate::alarm::{Alarm, Limit};
use crate::last_words::{self, LastWords};
use crate::node::{Identity, Memory, Node, NodeError};
use crate::schedule::Schedule;
use crate::sensor::condition::Condition;
use crate::sensor::rate::RateMeter;
use crate::sensor::{Batch, Gauge, Missed, Sensor};
use core::num::NonZeroU32;
use trunnion_common::frame::{ChannelDescriptor, Describe, Event, Packing};
use trunnion_common::id::{CHANNELS_MAX, ChannelId};
use trunnion_common::quantity::Unit;
use trunnion_common::time::NodeTicks;

/// The accelerometer's first channel.
const VIBRATION: ChannelId = ChannelId::new(0).expect("0 is below CHANNELS_MAX");

/// How often the accelerometer's queue is emptied, microseconds: the IIS3DWB's holds 19 ms.
pub const READ_MICROS: u64 = 10_000;

/// Slow instruments are read once a second.
const SLOW_RATE_MHZ: NonZeroU32 = NonZeroU32::new(1_000).expect("not 0");

/// Above this a bearing's housing is too hot for common grease and seals; the deadband is 5 K.
pub const HOUSING_LIMIT: Limit = Limit {
    alarm: 90.0,
    clear: 85.0,
};

/// What the accelerometer is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Accelerometer {
    /// Its sample rate.
    pub rate_mhz: NonZeroU32,
    /// Full scale of its 16 bits, g.
    pub range_g: f32,
    /// The band it is usable in, Hz.
    pub band_hz: [f32; 2],
}

/// What a slow instrument measures.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Quantity {
    /// Its unit.
    pub unit: Unit,
    /// Full scale, in the unit.
    pub range: f32,
    /// What is too much.
    pub limit: Limit,
}

impl Quantity {
    /// The temperature of a bearing's housing, degrees Celsius.
    pub const HOUSING: Self = Self {
        unit: Unit::DegreeCelsius,
        range: 128.0,
        limit: HOUSING_LIMIT,
    };

    /// The speed of a shaft, rpm.
    pub const SPEED: Self = Self {
        unit: Unit::RevolutionPerMinute,
        range: 60_000.0,
        limit: Limit::NONE,
    };

    /// A current up to `range` amperes.
    pub const fn current(range: f32) -> Self {
        Self {
            unit: Unit::Ampere,
            range,
            limit: Limit::NONE,
        }
    }
}

/// A slow instrument: what it measures, and whom to ask.
pub type Slow<'m> = (Quantity, &'m mut dyn Gauge);

/// A node and its instruments. The axes are the first channels of its table, the slow ones the next.
pub struct Station<'m, A, const AXES: usize, const SLOW: usize> {
    node: Node<'m>,
    accelerometer: Watched<A, AXES>,
    slow: [Slow<'m>; SLOW],
    alarms: [Alarm; SLOW],
    schedule: Schedule,
    /// Readings of each slow instrument.
    readings: u64,
    read_at: NodeTicks,
}

impl<'m, A: Sensor<AXES>, const AXES: usize, const SLOW: usize> Station<'m, A, AXES, SLOW> {
    /// A node that begins to sample at `start`, after a life that left `former`.
    #[inline(never)]
    pub fn new(
        identity: Identity,
        former: Option<LastWords>,
        (what, accelerometer): (Accelerometer, A),
        slow: [Slow<'m>; SLOW],
        memory: Memory<'m>,
        start: NodeTicks,
    ) -> Result<Self, NodeError> {
        const {
            assert!(
                0 < AXES && AXES + SLOW <= CHANNELS_MAX,
                "a table has so many channels"
            );
        }
        let quantities = slow.each_ref().map(|(quantity, _)| *quantity);
        // Made where it is returned, as the node is.
        let node = Node::new(identity, &table::<AXES>(what, &quantities), memory);
        let mut made = node.map(|node| Self {
            node,
            accelerometer: Watched {
                sensor: accelerometer,
                rate: RateMeter::new(what.rate_mhz),
                conditions: core::array::from_fn(|axis| Condition::new(channel(axis), what.rate_mhz)),
                taken: 0,
                measured: None,
                noticed: [None; AXES],
            },
            slow,
            alarms: core::array::from_fn(|at| Alarm::new(channel(AXES + at), quantities[at].limit)),
            schedule: Schedule::new(start, SLOW_RATE_MHZ),
            readings: 0,
            read_at: start,
        });
        if let Ok(station) = &mut made {
            let node = &mut station.node;
            node.set_packing(Packing::Predicted);
            for event in [
                last_words::obituary(former),
                last_words::brown_out(identity.reset),
                last_words::stack_used(former),
            ] {
                event.into_iter().for_each(|event| node.handle_former(event));
            }
        }
        made
    }

    /// The node: for its settings and its lamp.
    pub const fn node(&mut self) -> &mut Node<'m> {
        &mut self.node
    }

    /// Takes bytes from the line.
    #[inline(never)]
    pub fn handle_bytes(&mut self, now: NodeTicks, bytes: &[u8]) {
        self.node.handle_bytes(now, bytes);
    }

    /// Reads the instruments that are due.
    #[inline(never)]
    pub fn handle_time(&mut self, now: NodeTicks) {
        if now >= self.read_at {
            self.read_accelerometer(now);
            self.read_at = now.plus_micros(READ_MICROS);
        }
        let due = self.schedule.due_by(now);
        if due > self.readings {
            // Readings that a long pause has cost were never made.
            let missed = due - self.readings - 1;
            for at in 0..SLOW {
                self.read_slow(now, at, self.schedule.ticks_of(due - 1), missed);
            }
            self.readings = due;
        }
    }

    fn read_accelerometer(&mut self, now: NodeTicks) {
        let sampled = self.node.sample(now, VIBRATION, &mut self.accelerometer);
        debug_assert!(sampled.is_ok(), "the table has these channels");
        for noticed in &mut self.accelerometer.noticed {
            if let Some(event) = noticed.take() {
                self.node.handle_event(now, event);
            }
        }
        if let Some(rate_mhz) = self.accelerometer.measured.take() {
            self.accelerometer.sensor.set_rate(rate_mhz);
            let told = self.node.set_rate(now, VIBRATION, AXES, rate_mhz);
            debug_assert!(told.is_ok(), "the table has these channels");
        }
    }

    /// Reads the slow instrument at this place; the reading counts as made at `ticks`.
    fn read_slow(&mut self, now: NodeTicks, at: usize, ticks: NodeTicks, missed: u64) {
        let channel = channel(AXES + at);
        if missed > 0 {
            let booked = self.node.handle_missed(channel, missed, Missed::Overrun);
            debug_assert!(booked.is_ok(), "the table has this channel");
        }
        let reading = self.slow[at].1.read(now);
        let taken = self.node.handle_readings(channel, ticks, &[reading]);
        debug_assert!(taken.is_ok(), "the table has this channel");
        let reading = self.node.calibrated(channel, reading);
        if let Some(event) = self.alarms[at].judge(reading) {
            self.node.handle_event(now, event);
        }
    }

    /// Writes frames for the line to `out` as [`Node::poll_transmit`] does.
    #[inline(never)]
    pub fn poll_transmit(&mut self, now: NodeTicks, out: &mut [u8]) -> usize {
        self.node.poll_transmit(now, out)
    }

    /// When to come back if nothing else happens.
    pub fn poll_timeout(&self) -> NodeTicks {
        let own = self.read_at.min(self.schedule.ticks_of(self.readings));
        self.node.poll_timeout().map_or(own, |node| node.min(own))
    }
}

/// A sensor whose rate is measured and whose condition is judged while its queue is emptied.
#[derive(Debug)]
struct Watched<A, const AXES: usize> {
    sensor: A,
    rate: RateMeter,
    conditions: [Condition; AXES],
    /// Samples taken since the queue was last empty.
    taken: usize,
    /// A rate to tell.
    measured: Option<NonZeroU32>,
    /// The last change of each axis's condition.
    noticed: [Option<Event>; AXES],
}

impl<A: Sensor<AXES>, const AXES: usize> Sensor<AXES> for Watched<A, AXES> {
    fn read(&mut self, now: NodeTicks, out: &mut [[i16; AXES]]) -> Batch {
        let batch = self.sensor.read(now, out);
        for (axis, (condition, noticed)) in self.conditions.iter_mut().zip(&mut self.noticed).enumerate() {
            let samples = out[..batch.taken].iter().map(|sample| sample[axis]);
            *noticed = condition.judge(&batch, samples).or(*noticed);
        }
        if batch.missed.is_some() {
            self.rate.restart();
        }
        // A full buffer leaves more behind: only an empty queue says how many samples there have been.
        if batch.taken < out.len() {
            self.measured = self
                .rate
                .handle_empty(now, self.taken + batch.taken)
                .or(self.measured);
            self.taken = 0;
        } else {
            self.taken += batch.taken;
        }
        batch
    }
}

/// The channel at this position of the table.
fn channel(position: usize) -> ChannelId {
    ChannelId::new(position as u16).expect("a station has at most CHANNELS_MAX channels")
}

fn table<const AXES: usize>(accelerometer: Accelerometer, slow: &[Quantity]) -> Describe {
    let vibration = ChannelDescriptor {
        unit: Unit::StandardGravity,
        scale: accelerometer.range_g / 32_768.0,
        rate_mhz: accelerometer.rate_mhz.get(),
        range: accelerometer.range_g,
        band_low_hz: accelerometer.band_hz[0],
        band_high_hz: accelerometer.band_hz[1],
    };
    let slow = slow.iter().map(|quantity| ChannelDescriptor {
        unit: quantity.unit,
        scale: 1.0,
        rate_mhz: SLOW_RATE_MHZ.get(),
        range: quantity.range,
        band_low_hz: 0.0,
        band_high_hz: 0.5,
    });
    Describe {
        revision: 1,
        channels: [vibration; AXES].into_iter().chain(slow).collect(),
    }
}

#[cfg(test)]
mod tests;
