//! ST LIS3DH: three axes of acceleration, 12 bits, 400 Hz, over I2C: for what turns slowly, and for inclination.
//!
//! Too slow for bearings and for the velocity that machines are judged by (ISO 2954 wants 1 kHz).

use super::{Axis, Batch, Missed, Sensor};
use ::lis3dh::{Configuration, DataRate, FifoMode, Lis3dh, Lis3dhI2C, Mode, Range, SlaveAddr};
use accelerometer::RawAccelerometer;
use core::fmt::Debug;
use core::num::NonZeroU32;
use embedded_hal::i2c::I2c;
use trunnion_common::time::NodeTicks;

/// Nominal sample rate, millihertz.
pub const RATE_MHZ: NonZeroU32 = NonZeroU32::new(400_000).expect("not 0");

/// Full scale of its 16 left-justified bits, g: 2,048 steps of 12 mg (DS6839, table 4). It is no round number, since
/// the part's steps are not.
pub const FULL_SCALE_G: f32 = 2_048.0 * 0.012;

/// Samples that its queue holds.
const FIFO: usize = 32;

/// Microseconds from sample to sample.
const PERIOD_MICROS: u64 = 1_000_000_000 / RATE_MHZ.get() as u64;

/// Axes of the part as channels.
pub struct Axes<I, const AXES: usize> {
    part: Lis3dh<Lis3dhI2C<I>>,
    order: [Axis; AXES],
    /// When the next sample is due; nothing before the first.
    due: Option<NodeTicks>,
}

impl<E: Debug, I: I2c<Error = E>, const AXES: usize> Axes<I, AXES> {
    /// These axes, in this order, of the part whose address pin is tied to ground, 0x18, at 16 g. `None` when it does
    /// not answer as it should.
    pub fn new(bus: I, order: [Axis; AXES]) -> Option<Self> {
        let configuration = Configuration {
            mode: Mode::HighResolution,
            datarate: DataRate::Hz_400,
            ..Configuration::default()
        };
        let mut part = Lis3dh::new_i2c_with_config(bus, SlaveAddr::Default, configuration).ok()?;
        part.set_range(Range::G16).ok()?;
        part.enable_fifo(FifoMode::ByPass, 0).ok()?;
        part.enable_fifo(FifoMode::Stream, 0).ok()?;
        Some(Self {
            part,
            order,
            due: None,
        })
    }

    /// Takes what its queue holds; whether samples before those are gone.
    fn fill(&mut self, out: &mut [[i16; AXES]]) -> Option<(usize, usize, bool)> {
        let status = self.part.get_fifo_status().ok()?;
        let waiting = if status.overrun {
            FIFO
        } else {
            usize::from(status.stack_size)
        };
        let taken = waiting.min(out.len());
        for slot in &mut out[..taken] {
            let sample = self.part.accel_raw().ok()?;
            *slot = self.order.map(|axis| axis.of([sample.x, sample.y, sample.z]));
        }
        Some((taken, waiting, status.overrun))
    }
}

impl<E: Debug, I: I2c<Error = E>, const AXES: usize> Sensor<AXES> for Axes<I, AXES> {
    fn read(&mut self, now: NodeTicks, out: &mut [[i16; AXES]]) -> Batch {
        let owed = |due: Option<NodeTicks>, upto: NodeTicks| {
            due.map_or(0, |due| upto.micros_since(due) / PERIOD_MICROS)
        };
        let Some((taken, waiting, is_overrun)) = self.fill(out) else {
            let missed = owed(self.due, now);
            self.due = Some(self.due.unwrap_or(now).plus_micros(missed * PERIOD_MICROS));
            return Batch {
                missed: (missed > 0).then_some((missed, Missed::Fault)),
                taken: 0,
                first: now,
            };
        };
        let by_clock = NodeTicks(now.0.saturating_sub(waiting as u64 * PERIOD_MICROS));
        let missed = if is_overrun { owed(self.due, by_clock) } else { 0 };
        // Samples follow one another, until that and the clock are a sample apart.
        let first = match self.due {
            Some(due) if missed == 0 && due.0.abs_diff(by_clock.0) <= 2 * PERIOD_MICROS => due,
            _ => by_clock,
        };
        self.due = Some(first.plus_micros(taken as u64 * PERIOD_MICROS));
        Batch {
            missed: (missed > 0).then_some((missed, Missed::Overrun)),
            taken,
            first,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_bus::{Part, Shared};
    use super::*;
    use core::cell::RefCell;

    const WHO_AM_I: u8 = 0x0F;
    const CTRL_REG1: u8 = 0x20;
    const CTRL_REG4: u8 = 0x23;
    const CTRL_REG5: u8 = 0x24;
    const OUT_X_L: u8 = 0x28;
    const FIFO_CTRL_REG: u8 = 0x2E;
    const FIFO_SRC_REG: u8 = 0x2F;

    /// The part with so many samples waiting: each axis counts, y from 100 and z from 200.
    fn part(waiting: u8) -> Part {
        let mut part = Part::of_bytes(0x18, &[(WHO_AM_I, 0x33), (FIFO_SRC_REG, waiting)]);
        let sample = |index: i16| [index, 100 + index, 200 + index].map(i16::to_le_bytes).concat();
        part.queue = Some((OUT_X_L, (0..40).map(sample).collect()));
        part
    }

    #[test]
    fn the_part_is_set_up_as_its_data_sheet_has_it() {
        let bus = RefCell::new(part(0));
        assert!(Axes::new(Shared(&bus), [Axis::Z]).is_some());
        let bus = bus.borrow();
        // 400 Hz and three axes; high resolution at 16 g; a queue that keeps the newest.
        assert_eq!(bus.byte(CTRL_REG1), 0b0111_0111);
        assert_eq!(bus.byte(CTRL_REG4) & 0b0011_1000, 0b0011_1000);
        assert_eq!(bus.byte(CTRL_REG5) & 0b0100_0000, 0b0100_0000);
        assert_eq!(bus.byte(FIFO_CTRL_REG) >> 6, 0b10);
        let silent = RefCell::new(part(0));
        silent.borrow_mut().is_there = false;
        assert!(Axes::new(Shared(&silent), [Axis::Z]).is_none());
    }

    #[test]
    fn waiting_samples_are_taken_in_order_and_dated_by_the_clock() {
        let bus = RefCell::new(part(4));
        let mut axis = Axes::new(Shared(&bus), [Axis::Z, Axis::X]).unwrap();
        let mut out = [[0; 2]; 64];
        let batch = axis.read(NodeTicks(100_000), &mut out);
        assert_eq!(
            (batch.taken, batch.missed, batch.first),
            (4, None, NodeTicks(90_000))
        );
        assert_eq!(out[..4], [[200, 0], [201, 1], [202, 2], [203, 3]]);
        let next = axis.read(NodeTicks(110_300), &mut out);
        assert_eq!(
            (next.first, out[0]),
            (NodeTicks(100_000), [204, 4]),
            "the next one follows the last"
        );
    }

    #[test]
    fn a_queue_that_ran_over_and_a_part_that_falls_silent_are_booked() {
        let bus = RefCell::new(part(4));
        let mut axis = Axes::new(Shared(&bus), [Axis::X]).unwrap();
        let mut out = [[0]; 64];
        axis.read(NodeTicks(100_000), &mut out);
        // 32 wait, and 80 ms more have passed than those take.
        bus.borrow_mut().set_byte(FIFO_SRC_REG, 0b0100_0000);
        let batch = axis.read(NodeTicks(260_000), &mut out);
        assert_eq!((batch.taken, batch.missed), (32, Some((32, Missed::Overrun))));
        bus.borrow_mut().is_there = false;
        let batch = axis.read(NodeTicks(300_000), &mut out);
        assert_eq!((batch.taken, batch.missed), (0, Some((16, Missed::Fault))));
    }
}
