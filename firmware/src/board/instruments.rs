//! The instruments of every board with hardware: an accelerometer, a thermometer, a current loop and a tachometer. One
//! that does not answer at boot is told as lost, and the others go on.

use super::beginning::{AXES, Who};
use super::shaft::{SHAFT, Shaft};
use crate::sensor::current_loop::{CurrentLoop, LoopScale};
use crate::sensor::thermometer::Thermometer;
use crate::sensor::{Absent, Axis, Fitted, Sensor};
use crate::station::{Accelerometer, Quantity, Slow};
use core::cell::RefCell;
use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;
use embedded_hal::spi::SpiDevice;
use embedded_hal_bus::i2c::RefCellDevice;
use trunnion_common::time::NodeTicks;

/// The channels of the accelerometer: across the shaft first, since that one is sent raw where the line carries no more.
const ORDER: [Axis; AXES] = [Axis::Z, Axis::X, Axis::Y];

/// Amperes that the transmitter on the loop has at 20 mA; another one's are set by a calibration's gain.
const LOOP_AMPERES: f32 = 100.0;

/// The slow ones.
pub struct Instruments<'b, I: I2c> {
    thermometer: Thermometer<RefCellDevice<'b, I>>,
    current: Option<CurrentLoop<RefCellDevice<'b, I>>>,
    shaft: &'static Shaft,
}

impl<'b, I: I2c> Instruments<'b, I> {
    /// Those on this bus, and the board's tachometer.
    pub fn new(bus: &'b RefCell<I>) -> Self {
        let scale = LoopScale {
            at_4_ma: 0.0,
            at_20_ma: LOOP_AMPERES,
        };
        Self {
            thermometer: Thermometer::new(RefCellDevice::new(bus)),
            current: CurrentLoop::new(RefCellDevice::new(bus), scale).ok(),
            shaft: &SHAFT,
        }
    }

    /// As a station takes them: temperature, current, speed.
    pub fn slow(&mut self) -> [Slow<'_>; 3] {
        [
            (Quantity::HOUSING, &mut self.thermometer),
            (Quantity::current(LOOP_AMPERES), &mut self.current),
            (Quantity::SPEED, &mut self.shaft),
        ]
    }
}

/// The accelerometer: an IIS3DWB whose z is across the shaft.
#[cfg(not(feature = "lis3dh"))]
pub fn accelerometer<S: SpiDevice, I: I2c, D: DelayNs, N: FnOnce() -> NodeTicks>(
    who: &Who,
    spi: S,
    _i2c: &RefCell<I>,
    delay: &mut D,
    now: N,
) -> (Accelerometer, impl Sensor<AXES> + use<S, I, D, N>) {
    use crate::sensor::iis3dwb::{Axes, Iis3dwb, RATE_MHZ, Range};
    use core::num::NonZeroU32;

    const RATE: NonZeroU32 = NonZeroU32::new(RATE_MHZ).expect("not 0");
    const RANGE: Range = Range::G16;
    let what = Accelerometer {
        rate_mhz: RATE,
        range_g: RANGE.full_scale_g(),
        // Its 3 dB band (DS12569, table 3).
        band_hz: [5.0, 6_000.0],
    };
    let part = who.has_crystal.then(|| Iis3dwb::new(spi, RANGE, delay));
    let part = match part {
        Some(Ok(part)) => Fitted::Present(Axes::new(part, ORDER, RATE)),
        _ => Fitted::Absent(Absent::new(RATE, now())),
    };
    (what, part)
}

/// The accelerometer where little money is to be spent, or the machine turns slowly: a LIS3DH, on the bus of the others.
#[cfg(feature = "lis3dh")]
pub fn accelerometer<'b, S: SpiDevice, I: I2c, D: DelayNs, N: FnOnce() -> NodeTicks>(
    who: &Who,
    _spi: S,
    i2c: &'b RefCell<I>,
    _delay: &mut D,
    now: N,
) -> (Accelerometer, impl Sensor<AXES> + use<'b, S, I, D, N>) {
    use crate::sensor::lis3dh::{Axes, FULL_SCALE_G, RATE_MHZ};

    let what = Accelerometer {
        rate_mhz: RATE_MHZ,
        range_g: FULL_SCALE_G,
        // A ninth of its rate in high resolution (DS6839, table 9).
        band_hz: [1.0, 44.0],
    };
    let part = who.has_crystal.then(|| Axes::new(RefCellDevice::new(i2c), ORDER));
    let part = match part.flatten() {
        Some(part) => Fitted::Present(part),
        None => Fitted::Absent(Absent::new(RATE_MHZ, now())),
    };
    (what, part)
}
