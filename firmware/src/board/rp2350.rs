//! RP2350 at 150 MHz from a crystal of 12 MHz, on embassy. Pins are those of a Raspberry Pi Pico 2, whose flash is 4 MiB.
//!
//! | what | pins |
//! |---|---|
//! | line to the agent, 921,600 baud, of this node alone | UART0: GP0 out, GP1 in |
//! | accelerometer, IIS3DWB | SPI0: GP18 clock, GP16 in, GP19 out, GP17 select |
//! | thermometer, TMP102 and its kind | I2C0: GP5 clock, GP4 data |
//! | current loop, ADS1115 | the same bus |
//! | tachometer | GP15, a rising edge each revolution |
//! | lamp | GP25, lit when high |
//! | settings and boot counter | the last 16 KiB of the flash |
//!
//! Its UART does not tell when the last bit has gone, so that no transceiver can be driven in time.
#![allow(unsafe_code, reason = "the interrupt of an executor")]

use super::beginning::{Who, settings_place};
use super::embassy::ticks;
use super::shaft::SHAFT;
use super::{life, whole};
use crate::flash::Blocking;
use crate::last_words::reset_cause;
use crate::link::Wiring;
use embassy_executor::InterruptExecutor;
use embassy_rp::bind_interrupts;
use embassy_rp::flash::{self, Flash};
use embassy_rp::gpio::{Input, Level, Output, Pull};
use embassy_rp::i2c::{self, I2c};
use embassy_rp::interrupt;
use embassy_rp::otp;
use embassy_rp::peripherals::{FLASH, I2C0, SPI0, TRNG, UART0};
use embassy_rp::spi::{self, Spi};
use embassy_rp::trng::{self, Trng};
use embassy_rp::uart::{self, BufferedInterruptHandler, BufferedUart, BufferedUartRx, BufferedUartTx};
use embassy_rp::watchdog::Watchdog;
use embassy_time::{Delay, Duration};
use embedded_hal::digital::PinState;
use embedded_hal_bus::spi::ExclusiveDevice;
use static_cell::ConstStaticCell;
use trunnion_common::codec::LINE_FRAME_MAX;
use trunnion_common::frame::ResetCause;

/// Of the flash beside the part.
const FLASH_BYTES: usize = 4 << 20;

/// Not fed for so long, the watchdog resets: it counts no further than 16.7 s.
const WATCHDOG: Duration = Duration::from_secs(8);

/// The line, bauds.
const BAUDS: u32 = 921_600;

bind_interrupts!(struct Interrupts {
    UART0_IRQ => BufferedInterruptHandler<UART0>;
    TRNG_IRQ => trng::InterruptHandler<TRNG>;
});

static TO_SEND: ConstStaticCell<[u8; LINE_FRAME_MAX]> = ConstStaticCell::new([0; LINE_FRAME_MAX]);
static RECEIVED: ConstStaticCell<[u8; 512]> = ConstStaticCell::new([0; 512]);

/// The accelerometer's bus.
pub type AccelerometerBus = ExclusiveDevice<Spi<'static, SPI0, spi::Blocking>, Output<'static>, Delay>;

/// Everything that the node uses.
pub type Board = whole::Board<
    AccelerometerBus,
    I2c<'static, I2C0, i2c::Blocking>,
    Blocking<Flash<'static, FLASH, flash::Blocking, FLASH_BYTES>>,
    BufferedUartRx,
    BufferedUartTx,
    Watchdog,
    Output<'static>,
>;

impl whole::Watchdog for Watchdog {
    fn feed(&mut self) {
        Self::feed(self, WATCHDOG);
    }
}

/// Stamps the pulses of the tachometer, whatever else goes on: in an interrupt of software alone.
static STAMPING: InterruptExecutor = InterruptExecutor::new();

#[embassy_rp::interrupt]
unsafe fn SWI_IRQ_0() {
    // SAFETY: only this handler calls it, and `start` enables its interrupt.
    unsafe { STAMPING.on_interrupt() }
}

#[embassy_executor::task]
async fn stamp(mut pin: Input<'static>) {
    loop {
        pin.wait_for_rising_edge().await;
        SHAFT.handle_pulse(ticks());
    }
}

/// Sets the board up, once.
pub fn start() -> Board {
    let board = embassy_rp::init(embassy_rp::config::Config::default());
    let mut watchdog = Watchdog::new(board.WATCHDOG);
    // The part tells a reset by its watchdog; of the others last words say more.
    let reset = if watchdog.reset_reason().is_some() {
        ResetCause::Watchdog
    } else {
        reset_cause(life::told())
    };
    watchdog.start(WATCHDOG);
    if let Ok(task) = stamp(Input::new(board.PIN_15, Pull::Up)) {
        STAMPING.start(interrupt::SWI_IRQ_0).spawn(task);
    }

    let mut at = uart::Config::default();
    at.baudrate = BAUDS;
    let line = BufferedUart::new(
        board.UART0,
        board.PIN_0,
        board.PIN_1,
        Interrupts,
        TO_SEND.take(),
        RECEIVED.take(),
        at,
    );
    let (to_send, received) = line.split();
    let mut at = spi::Config::default();
    at.frequency = 8_000_000;
    // Mode 3.
    at.polarity = spi::Polarity::IdleHigh;
    at.phase = spi::Phase::CaptureOnSecondTransition;
    let bus = Spi::new_blocking(board.SPI0, board.PIN_18, board.PIN_19, board.PIN_16, at);
    let select = Output::new(board.PIN_17, Level::High);
    let Ok(spi) = ExclusiveDevice::new(bus, select, Delay);
    Board {
        who: Who {
            // What cannot be read is no id.
            id: otp::get_chipid().unwrap_or(0),
            entropy: Trng::new(board.TRNG, Interrupts, trng::Config::default()).blocking_next_u32(),
            reset,
            has_crystal: true,
            wiring: Wiring::Own,
            line_bytes_per_s: BAUDS / 10,
        },
        spi,
        i2c: I2c::new_blocking(board.I2C0, board.PIN_5, board.PIN_4, i2c::Config::default()),
        flash: (Blocking(Flash::new_blocking(board.FLASH)), settings_place()),
        line: (received, to_send),
        watchdog,
        lamp: (Output::new(board.PIN_25, Level::Low), PinState::High),
    }
}
