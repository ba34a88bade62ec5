//! nRF52840 at 64 MHz from a crystal of 32 MHz, on embassy; time is that of a crystal of 32,768 Hz, in steps of 31 us.
//! Pins are those that the nRF52840-DK leads out.
//!
//! | what | pins |
//! |---|---|
//! | line to the agent, 921,600 baud | UARTE0: P0.06 out, P0.08 in; P1.01 high while bytes go out |
//! | whether other nodes share that line | P1.02: open, or to ground where they do |
//! | accelerometer, IIS3DWB | SPIM3: P1.15 clock, P1.14 in, P1.13 out, P1.12 select |
//! | thermometer, TMP102 and its kind | TWIM0: P0.27 clock, P0.26 data |
//! | current loop, ADS1115 | the same bus |
//! | tachometer | P1.03, a rising edge each revolution |
//! | lamp | P0.13, lit when low |
//! | settings and boot counter | the last 16 KiB of the flash |
#![allow(unsafe_code, reason = "the interrupt of an executor")]

mod transceiver;

use super::beginning::{self, Who, settings_place, strapped};
use super::embassy::ticks;
use super::shaft::SHAFT;
use super::whole;
use crate::flash::Blocking;
use embassy_executor::InterruptExecutor;
use embassy_nrf::buffered_uarte::{self, BufferedUarte, BufferedUarteRx};
use embassy_nrf::config::{Config, HfclkSource, LfclkSource};
use embassy_nrf::gpio::{Input, Level, Output, OutputDrive, Pull};
use embassy_nrf::nvmc::Nvmc;
use embassy_nrf::peripherals::{SPI3, TWISPI0, UARTE0};
use embassy_nrf::rng::Rng;
use embassy_nrf::spim::{self, Spim};
use embassy_nrf::twim::{self, Twim};
use embassy_nrf::uarte::{self, Baudrate};
use embassy_nrf::wdt::{self, Watchdog, WatchdogHandle};
use embassy_nrf::{bind_interrupts, interrupt, pac};
use embassy_time::Delay;
use embedded_hal::digital::PinState;
use embedded_hal_bus::spi::ExclusiveDevice;
use static_cell::ConstStaticCell;
use transceiver::Driven;
use trunnion_common::codec::LINE_FRAME_MAX;
use trunnion_common::frame::ResetCause;

/// Not fed for so long, the watchdog resets: eight seconds of 32,768 Hz.
const WATCHDOG_TICKS: u32 = 8 * 32_768;

/// Bytes that arrive while the processor is busy: an even number.
const RECEIVED_BYTES: usize = 512;

bind_interrupts!(struct Interrupts {
    UARTE0 => buffered_uarte::InterruptHandler<UARTE0>;
    SPIM3 => spim::InterruptHandler<SPI3>;
    TWISPI0 => twim::InterruptHandler<TWISPI0>;
});

static TO_SEND: ConstStaticCell<[u8; LINE_FRAME_MAX]> = ConstStaticCell::new([0; LINE_FRAME_MAX]);
static RECEIVED: ConstStaticCell<[u8; RECEIVED_BYTES]> = ConstStaticCell::new([0; RECEIVED_BYTES]);
/// What is written to the bus of the slow instruments is read from RAM.
static REQUEST: ConstStaticCell<[u8; 16]> = ConstStaticCell::new([0; 16]);

/// The accelerometer's bus.
pub type AccelerometerBus = ExclusiveDevice<Spim<'static>, Output<'static>, Delay>;

/// Everything that the node uses.
pub type Board = whole::Board<
    AccelerometerBus,
    Twim<'static>,
    Blocking<Nvmc<'static>>,
    BufferedUarteRx<'static>,
    Driven,
    WatchdogHandle,
    Output<'static>,
>;

impl whole::Watchdog for WatchdogHandle {
    fn feed(&mut self) {
        self.pet();
    }
}

/// Stamps the pulses of the tachometer, whatever else goes on: in an interrupt of software alone.
static STAMPING: InterruptExecutor = InterruptExecutor::new();

#[embassy_nrf::interrupt]
unsafe fn EGU1_SWI1() {
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

/// Sets the board up, once; nothing when the watchdog runs in another way than this firmware starts it, which only a
/// power-on ends.
pub fn start() -> Option<Board> {
    let mut config = Config::default();
    config.hfclk_source = HfclkSource::ExternalXtal;
    config.lfclk_source = LfclkSource::ExternalXtal;
    let board = embassy_nrf::init(config);
    let reset = reset_cause();
    if let Ok(task) = stamp(Input::new(board.P1_03, Pull::Up)) {
        STAMPING.start(interrupt::EGU1_SWI1).spawn(task);
    }
    let strap = Input::new(board.P1_02, Pull::Up);
    let mut at = wdt::Config::default();
    at.timeout_ticks = WATCHDOG_TICKS;
    let (_, [watchdog]) = Watchdog::try_new::<_, 1>(board.WDT, at).ok()?;

    let mut at = uarte::Config::default();
    at.baudrate = Baudrate::Baud921600;
    let line = BufferedUarte::new(
        board.UARTE0,
        board.TIMER1,
        board.PPI_CH0,
        board.PPI_CH1,
        board.PPI_GROUP0,
        board.P0_08,
        board.P0_06,
        Interrupts,
        at,
        RECEIVED.take(),
        TO_SEND.take(),
    );
    let (received, to_send) = line.split();
    let driver = transceiver::Parts {
        pin: board.P1_01,
        channel: board.GPIOTE_CH0,
        timer: board.TIMER2,
        connections: (board.PPI_CH2, board.PPI_CH3, board.PPI_CH4),
    };
    let mut at = spim::Config::default();
    at.frequency = spim::Frequency::M8;
    at.mode = spim::MODE_3;
    let bus = Spim::new(board.SPI3, Interrupts, board.P1_15, board.P1_14, board.P1_13, at);
    let select = Output::new(board.P1_12, Level::High, OutputDrive::Standard);
    let Ok(spi) = ExclusiveDevice::new(bus, select, Delay);
    let i2c = Twim::new(
        board.TWISPI0,
        Interrupts,
        board.P0_26,
        board.P0_27,
        twim::Config::default(),
        REQUEST.take(),
    );
    Some(Board {
        who: Who {
            id: u64::from(pac::FICR.deviceid(1).read()) << 32 | u64::from(pac::FICR.deviceid(0).read()),
            entropy: Rng::new_blocking(board.RNG).blocking_next_u32(),
            reset,
            has_crystal: true,
            wiring: strapped(strap.is_low()),
            line_bytes_per_s: 92_160,
        },
        spi,
        i2c,
        flash: (Blocking(Nvmc::new(board.NVMC)), settings_place()),
        line: (received, Driven::new(to_send, driver)),
        watchdog,
        lamp: (
            Output::new(board.P0_13, Level::High, OutputDrive::Standard),
            PinState::Low,
        ),
    })
}

/// By the flags of RESETREAS (product specification, POWER), which are cleared for the next reset by writing ones. A
/// power-on and a brown-out set none.
fn reset_cause() -> ResetCause {
    const PIN: u32 = 1 << 0;
    const WATCHDOG: u32 = 1 << 1;
    const SOFTWARE: u32 = 1 << 2;
    let reasons = pac::POWER.resetreas().read().0;
    pac::POWER.resetreas().write(|w| w.0 = u32::MAX);
    beginning::reset_cause([
        (reasons == 0, ResetCause::PowerOn),
        (reasons & WATCHDOG != 0, ResetCause::Watchdog),
        (reasons & SOFTWARE != 0, ResetCause::Software),
        (reasons & PIN != 0, ResetCause::Pin),
    ])
}
