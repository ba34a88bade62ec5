//! What boards with a part of ST on embassy-stm32 share.
#![allow(unsafe_code, reason = "the interrupt of an executor")]

use super::embassy::ticks;
use super::shaft::SHAFT;
use super::whole;
use crate::flash::Blocking;
use embassy_executor::InterruptExecutor;
use embassy_stm32::exti::ExtiInput;
use embassy_stm32::flash::{self, Flash};
use embassy_stm32::gpio::Output;
use embassy_stm32::i2c::{self, I2c};
use embassy_stm32::interrupt;
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
    Output<'static>,
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

/// The bus of the slow instruments: 100 kHz.
pub fn slow_bus() -> i2c::Config {
    let mut bus = i2c::Config::default();
    bus.frequency = Hertz(100_000);
    bus
}

/// Stamps the pulses of a tachometer, whatever else goes on: in the interrupt of a UART that no board uses.
static STAMPING: InterruptExecutor = InterruptExecutor::new();

#[embassy_stm32::interrupt]
unsafe fn UART5() {
    // SAFETY: only this handler calls it, and `stamp_pulses` enables its interrupt.
    unsafe { STAMPING.on_interrupt() }
}

/// Lets the pulses on `pin` tell the shaft's speed; once.
pub fn stamp_pulses(pin: ExtiInput<'static, mode::Async>) {
    if let Ok(task) = stamp(pin) {
        STAMPING.start(interrupt::UART5).spawn(task);
    }
}

#[embassy_executor::task]
async fn stamp(mut pin: ExtiInput<'static, mode::Async>) {
    loop {
        pin.wait_for_rising_edge().await;
        SHAFT.handle_pulse(ticks());
    }
}

/// The part's unique id of 96 bits, folded to 64: two parts of a plant have the same with a probability of 2^-64.
pub fn node_id() -> u64 {
    let mut id = uid::uid();
    let high = crc32c(&id);
    id.reverse();
    u64::from(high) << 32 | u64::from(crc32c(&id))
}
