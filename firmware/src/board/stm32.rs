//! What boards with a part of ST on embassy-stm32 share.
#![allow(unsafe_code, reason = "the interrupt of an executor")]

use super::beginning::{self, Who, settings_place, strapped};
use super::embassy::ticks;
use super::shaft::SHAFT;
use super::whole;
use crate::flash::Blocking;
use embassy_executor::InterruptExecutor;
use embassy_stm32::Peri;
use embassy_stm32::exti::ExtiInput;
use embassy_stm32::flash::{self, Flash};
use embassy_stm32::gpio::{Input, Output};
use embassy_stm32::i2c::{self, I2c};
use embassy_stm32::interrupt;
use embassy_stm32::mode;
use embassy_stm32::peripherals::IWDG;
use embassy_stm32::spi::{self, Spi};
use embassy_stm32::time::Hertz;
use embassy_stm32::uid;
use embassy_stm32::usart::{self, BufferedUart, BufferedUartRx, BufferedUartTx};
use embassy_stm32::wdg::IndependentWatchdog;
use embassy_time::Delay;
use embedded_hal::digital::PinState;
use embedded_hal_bus::spi::ExclusiveDevice;
use static_cell::ConstStaticCell;
use trunnion_common::codec::{LINE_FRAME_MAX, crc32c};
use trunnion_common::frame::ResetCause;

/// The line, bauds.
const BAUDS: u32 = 921_600;

/// Not fed for so long, the watchdog resets.
const WATCHDOG_MICROS: u32 = 8_000_000;

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

/// What differs between boards, which is what is on their pins.
pub struct Parts {
    /// Why the part was reset.
    pub reset: ResetCause,
    /// Drawn anew.
    pub entropy: u32,
    /// Whether others share the line.
    pub strap: Input<'static>,
    /// The line.
    pub line: BufferedUart<'static>,
    /// The accelerometer's bus, and what selects it.
    pub spi: Spi<'static, mode::Blocking, spi::mode::Master>,
    /// High while it is not selected.
    pub select: Output<'static>,
    /// The bus of the slow instruments.
    pub i2c: I2c<'static, mode::Blocking, i2c::Master>,
    /// The shaft's pulses.
    pub tachometer: ExtiInput<'static, mode::Async>,
    /// Lit when high.
    pub lamp: Output<'static>,
    /// The part's.
    pub flash: Flash<'static, flash::Blocking>,
    /// Started.
    pub watchdog: IndependentWatchdog<'static, IWDG>,
}

/// The board that has these, once.
pub fn board(parts: Parts) -> Board {
    stamp_pulses(parts.tachometer);
    let (to_send, received) = parts.line.split();
    let Ok(spi) = ExclusiveDevice::new(parts.spi, parts.select, Delay);
    Board {
        who: Who {
            id: node_id(),
            entropy: parts.entropy,
            reset: parts.reset,
            // Its HAL waits for it.
            has_crystal: true,
            wiring: strapped(parts.strap.is_low()),
            line_bytes_per_s: BAUDS / 10,
        },
        spi,
        i2c: parts.i2c,
        flash: (Blocking(parts.flash), settings_place()),
        line: (received, to_send),
        watchdog: parts.watchdog,
        lamp: (parts.lamp, PinState::High),
    }
}

/// Starts the watchdog.
pub fn watch(part: Peri<'static, IWDG>) -> IndependentWatchdog<'static, IWDG> {
    let mut watchdog = IndependentWatchdog::new(part, WATCHDOG_MICROS);
    watchdog.unleash();
    watchdog
}

/// By the flags of a part that does not tell a brown-out from a power-on, which sets the flag of both.
pub fn reset_cause(brown_out: bool, watchdog: bool, software: bool, pin: bool) -> ResetCause {
    beginning::reset_cause([
        (brown_out, ResetCause::PowerOn),
        (watchdog, ResetCause::Watchdog),
        (software, ResetCause::Software),
        (pin, ResetCause::Pin),
    ])
}

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
fn stamp_pulses(pin: ExtiInput<'static, mode::Async>) {
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
