//! What boards with a part of ST on embassy-stm32 share.

use super::whole;
use crate::flash::Blocking;
use embassy_stm32::flash::{self, Flash};
use embassy_stm32::gpio::Output;
use embassy_stm32::i2c::{self, I2c};
use embassy_stm32::mode;
use embassy_stm32::peripherals::IWDG;
use embassy_stm32::spi::{self, Spi};
use embassy_stm32::time::Hertz;
use embassy_stm32::uid;
use embassy_stm32::usart::{self, BufferedUartRx, BufferedUartTx};
use embassy_stm32::wdg::IndependentWatchdog;
use embassy_time::Delay;
use embedded_hal_bus::spi::ExclusiveDevice;
use static_cell::ConstStaticCell;
use trunnion_common::codec::{LINE_FRAME_MAX, crc32c};

/// The line, bauds.
pub const BAUDS: u32 = 921_600;

/// Not fed for so long, the watchdog resets.
pub const WATCHDOG_MICROS: u32 = 8_000_000;

/// Bytes on their way to the line.
pub static TO_SEND: ConstStaticCell<[u8; LINE_FRAME_MAX]> = ConstStaticCell::new([0; LINE_FRAME_MAX]);

/// Bytes that arrive while the processor is busy.
pub static RECEIVED: ConstStaticCell<[u8; 512]> = ConstStaticCell::new([0; 512]);

/// The accelerometer's bus.
pub type AccelerometerBus =
    ExclusiveDevice<Spi<'static, mode::Blocking, spi::mode::Master>, Output<'static>, Delay>;

/// Everything that the node uses.
pub type Board = whole::Board<
    AccelerometerBus,
    I2c<'static, mode::Blocking, i2c::Master>,
    Blocking<Flash<'static, flash::Blocking>>,
    BufferedUartRx<'static>,
    BufferedUartTx<'static>,
    IndependentWatchdog<'static, IWDG>,
>;

impl whole::Watchdog for IndependentWatchdog<'static, IWDG> {
    fn feed(&mut self) {
        self.pet();
    }
}

/// The line, whose transceiver, if there is one, is driven by the hardware a bit longer than the bytes, at both ends.
pub fn line() -> usart::Config {
    let mut line = usart::Config::default();
    line.baudrate = BAUDS;
    line.de_assertion_time = 16;
    line.de_deassertion_time = 16;
    line
}

/// The IIS3DWB's bus: 8 MHz, mode 3.
pub fn accelerometer() -> spi::Config {
    let mut bus = spi::Config::default();
    bus.mode = spi::MODE_3;
    bus.frequency = Hertz(8_000_000);
    bus
}

/// The thermometer's bus: 100 kHz.
pub fn thermometer() -> i2c::Config {
    let mut bus = i2c::Config::default();
    bus.frequency = Hertz(100_000);
    bus
}

/// The part's unique id of 96 bits, folded to 64: two parts of a plant have the same with a probability of 2^-64.
pub fn node_id() -> u64 {
    let mut id = uid::uid();
    let high = crc32c(&id);
    id.reverse();
    u64::from(high) << 32 | u64::from(crc32c(&id))
}
