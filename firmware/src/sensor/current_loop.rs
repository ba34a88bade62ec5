//! A transmitter on a current loop of 4 to 20 mA, through a resistor on an ADS1115 (I2C).
//!
//! What a loop's current means beyond its scale is NAMUR NE 43's: a transmitter measures from 3.8 to 20.5 mA, and
//! says that it has failed below 3.6 or from 21 mA on. In between it is at the end of what it can measure.

use super::Gauge;
use ads1x1x::channel::SingleA0;
use ads1x1x::ic::{Ads1115, Resolution16Bit};
use ads1x1x::mode::Continuous;
use ads1x1x::{Ads1x1x, Error, FullScaleRange, ModeChangeError, TargetAddr};
use embedded_hal::i2c::I2c;
use trunnion_common::sample::{NoData, Reading};
use trunnion_common::time::NodeTicks;

/// The resistor from A0 to ground, ohms: 20 mA are 3 V, and 21 mA are below a supply of 3.3 V.
pub const BURDEN_OHM: f32 = 150.0;

/// One least significant bit at a full scale of 4.096 V, microvolts (TI SBAS444, table 8-3).
const LSB_UV: f32 = 125.0;

/// What a loop tells.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LoopScale {
    /// At 4 mA, in the channel's unit.
    pub at_4_ma: f32,
    /// At 20 mA, in the channel's unit.
    pub at_20_ma: f32,
}

impl LoopScale {
    /// What a current says, in the channel's unit, or why it says nothing.
    pub fn read(&self, milliamperes: f32) -> Reading {
        match milliamperes {
            measured if (3.8..=20.5).contains(&measured) => {
                Ok(self.at_4_ma + (self.at_20_ma - self.at_4_ma) * (measured - 4.0) / 16.0)
            }
            end if (3.6..21.0).contains(&end) => Err(NoData::Clipped),
            // An open loop, or a transmitter that says by it that it has failed.
            low if low < 3.6 => Err(NoData::CableOff),
            // The transmitter says that it has failed; a current that is no number says no more.
            _ => Err(NoData::SelfTest),
        }
    }
}

/// The loop on input A0 of a converter that converts by itself, 128 times a second.
pub struct CurrentLoop<I> {
    part: Ads1x1x<I, Ads1115, Resolution16Bit, Continuous>,
    scale: LoopScale,
}

impl<E, I: I2c<Error = E>> CurrentLoop<I> {
    /// The converter whose address pin is tied to its supply, 0x49: a thermometer has 0x48.
    pub fn new(bus: I, scale: LoopScale) -> Result<Self, E> {
        let mut part = Ads1x1x::new_ads1115(bus, TargetAddr::Vdd);
        let set_up = part.set_full_scale_range(FullScaleRange::Within4_096V);
        match set_up {
            Ok(()) | Err(Error::InvalidInputData) => {}
            Err(Error::I2C(error)) => return Err(error),
        }
        let mut part = part
            .into_continuous()
            .map_err(|ModeChangeError::I2C(error, _)| error)?;
        match part.select_channel(SingleA0) {
            Ok(()) | Err(Error::InvalidInputData) => Ok(Self { part, scale }),
            Err(Error::I2C(error)) => Err(error),
        }
    }
}

impl<E, I: I2c<Error = E>> Gauge for CurrentLoop<I> {
    fn read(&mut self, _now: NodeTicks) -> Reading {
        let raw = self.part.read().map_err(|_| NoData::BusError)?;
        self.scale.read(f32::from(raw) * LSB_UV / BURDEN_OHM * 1e-3)
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_bus::{Part, Shared};
    use super::*;

    const SCALE: LoopScale = LoopScale {
        at_4_ma: -50.0,
        at_20_ma: 150.0,
    };

    #[test]
    fn a_current_is_a_value_an_end_or_a_failure() {
        for (current, expected) in [
            (4.0, Ok(-50.0)),
            (12.0, Ok(50.0)),
            (20.0, Ok(150.0)),
            (20.5, Ok(156.25)),
            (3.7, Err(NoData::Clipped)),
            (20.8, Err(NoData::Clipped)),
            (3.5, Err(NoData::CableOff)),
            (0.0, Err(NoData::CableOff)),
            (-0.1, Err(NoData::CableOff)),
            (21.0, Err(NoData::SelfTest)),
            (f32::NAN, Err(NoData::SelfTest)),
        ] {
            assert_eq!(SCALE.read(current), expected, "{current} mA");
        }
    }

    #[test]
    fn the_converter_is_set_up_and_its_voltage_is_a_current() {
        // 12 mA in 150 ohms are 1.8 V, 14,400 of 125 uV.
        let mut bus = Part::of_words(0x49, &[(0, 14_400)]);
        let mut gauge = CurrentLoop::new(&mut bus, SCALE).unwrap();
        assert!(
            gauge
                .read(NodeTicks(0))
                .is_ok_and(|value| (value - 50.0).abs() < 1e-3)
        );
        // A0 to ground, 4.096 V, continuous (TI SBAS444, table 8-3).
        assert_eq!(bus.word(1) & 0x7F00, 0b0100_0010 << 8);
    }

    #[test]
    fn a_converter_that_falls_silent_gives_no_data() {
        let bus = core::cell::RefCell::new(Part::of_words(0x49, &[(0, 14_400)]));
        let mut gauge = CurrentLoop::new(Shared(&bus), SCALE).unwrap();
        bus.borrow_mut().is_there = false;
        assert_eq!(gauge.read(NodeTicks(0)), Err(NoData::BusError));
        assert!(CurrentLoop::new(Shared(&bus), SCALE).is_err());
    }
}
