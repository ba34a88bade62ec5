//! Current through a shunt resistor, by an INA219 (I2C).

use super::Gauge;
use embedded_hal::i2c::I2c;
use ina219::SyncIna219;
use ina219::address::Address;
use ina219::calibration::UnCalibrated;
use trunnion_common::sample::{NoData, Reading};
use trunnion_common::time::NodeTicks;

/// Full scale of the shunt's voltage after a reset, 10 uV (TI SBOS448, table 8-4: PGA / 8).
const FULL_SCALE_10UV: i16 = 32_000;

/// The part, converting by itself: 12 bits, 0.5 ms.
pub struct CurrentMonitor<I> {
    part: SyncIna219<I, UnCalibrated>,
    shunt_ohm: f32,
}

impl<I: I2c> CurrentMonitor<I> {
    /// The part whose address pins are tied to ground, 0x40, with this shunt; its full scale is 0.32 V over that.
    /// `None` when it does not answer to a reset.
    pub fn new(bus: I, shunt_ohm: f32) -> Option<Self> {
        let part = SyncIna219::new(bus, Address::default()).ok()?;
        Some(Self { part, shunt_ohm })
    }
}

impl<I: I2c> Gauge for CurrentMonitor<I> {
    /// Amperes.
    fn read(&mut self, _now: NodeTicks) -> Reading {
        let Ok(voltage) = self.part.shunt_voltage() else {
            return Err(NoData::BusError);
        };
        let raw = voltage.shunt_voltage_10uv();
        if raw.unsigned_abs() >= FULL_SCALE_10UV.unsigned_abs() {
            return Err(NoData::Clipped);
        }
        Ok(f32::from(raw) * 1e-5 / self.shunt_ohm)
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_bus::{Part, Shared};
    use super::*;
    use core::cell::RefCell;

    /// Configuration after a reset, and a voltage of the shunt in 10 uV.
    fn part(voltage: i16) -> Part {
        let mut part = Part::of_words(0x40, &[(0, 0x399F), (1, voltage as u16)]);
        part.resets_itself = true;
        part
    }

    #[test]
    fn a_voltage_over_the_shunt_is_a_current_and_the_end_of_the_scale_is_none() {
        for (voltage, expected) in [
            (2_000, Ok(0.2)),
            (-2_000, Ok(-0.2)),
            (0, Ok(0.0)),
            (32_000, Err(NoData::Clipped)),
            (-32_000, Err(NoData::Clipped)),
        ] {
            let bus = RefCell::new(part(0));
            let mut gauge = CurrentMonitor::new(Shared(&bus), 0.1).unwrap();
            *bus.borrow_mut() = part(voltage);
            let found = gauge.read(NodeTicks(0));
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert!((found - expected).abs() < 1e-6_f32, "{found}"),
                (found, expected) => assert_eq!(found.err(), expected.err()),
            }
        }
    }

    #[test]
    fn a_part_that_falls_silent_gives_no_data() {
        let bus = RefCell::new(part(100));
        let mut gauge = CurrentMonitor::new(Shared(&bus), 0.1).unwrap();
        bus.borrow_mut().is_there = false;
        assert_eq!(gauge.read(NodeTicks(0)), Err(NoData::BusError));
        assert!(CurrentMonitor::new(Shared(&bus), 0.1).is_none());
    }
}
