//! TMP102, TMP112 and their kind (TMP105, TMP75) on I2C.

use super::Gauge;
use embedded_hal::i2c::I2c;
use tmp1x2::marker::mode::Continuous;
use tmp1x2::{SlaveAddr, Tmp1x2};
use trunnion_common::sample::{NoData, Reading};
use trunnion_common::time::NodeTicks;

/// What the part can tell, degrees Celsius (TI SBOS397, section 6.3).
const RANGE: core::ops::RangeInclusive<f32> = -55.0..=128.0;

/// A thermometer that converts by itself, four times a second.
#[derive(Debug)]
pub struct Thermometer<I: I2c> {
    part: Tmp1x2<I, Continuous>,
}

impl<E, I: I2c<Error = E>> Thermometer<I> {
    /// The part whose address pin is tied to ground: 0x48.
    pub fn new(bus: I) -> Self {
        Self {
            part: Tmp1x2::new(bus, SlaveAddr::default()),
        }
    }
}

impl<E, I: I2c<Error = E>> Gauge for Thermometer<I> {
    fn read(&mut self, _now: NodeTicks) -> Reading {
        match self.part.read_temperature() {
            Ok(degrees) if RANGE.contains(&degrees) => Ok(degrees),
            // A bus that floats high reads as the end of the range.
            Ok(_) => Err(NoData::Clipped),
            Err(_) => Err(NoData::BusError),
        }
    }
}
