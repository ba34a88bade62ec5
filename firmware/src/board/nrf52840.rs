//! nRF52840 at 64 MHz from a crystal of 32 MHz, on embassy; time is that of a crystal of 32,768 Hz, in steps of 31 us.
//! Pins are those that the nRF52840-DK leads out.
//!
//! | what | pins |
//! |---|---|
//! | line to the agent, 921,600 baud | UARTE0: P0.06 out, P0.08 in |
//! | accelerometer, IIS3DWB | SPIM3: P1.15 clock, P1.14 in, P1.13 out, P1.12 select |
//! | thermometer, TMP102 and its kind | TWIM0: P0.27 clock, P0.26 data |
//! | settings and boot counter | the last 16 KiB of the flash |

use crate::flash::Blocking;
use embassy_nrf::buffered_uarte::{self, BufferedUarte, BufferedUarteRx, BufferedUarteTx};
use embassy_nrf::config::{Config, HfclkSource, LfclkSource};
use embassy_nrf::gpio::{Level, Output, OutputDrive};
use embassy_nrf::nvmc::Nvmc;
use embassy_nrf::peripherals::{SPI3, TWISPI0, UARTE0};
use embassy_nrf::rng::Rng;
use embassy_nrf::spim::{self, Spim};
use embassy_nrf::twim::{self, Twim};
use embassy_nrf::uarte::{self, Baudrate};
use embassy_nrf::wdt::{self, Watchdog, WatchdogHandle};
use embassy_nrf::{bind_interrupts, pac};
use embassy_time::Delay;
use embedded_hal_bus::spi::ExclusiveDevice;
use static_cell::ConstStaticCell;
use trunnion_common::codec::LINE_FRAME_MAX;
use trunnion_common::frame::ResetCause;

/// Where settings are kept, from the start of the flash; the memory map leaves it out.
const STORE: core::ops::Range<u32> = 0xF_C000..0x10_0000;

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
/// What is written to the thermometer's bus is read from RAM.
static REQUEST: ConstStaticCell<[u8; 16]> = ConstStaticCell::new([0; 16]);

/// The accelerometer's bus.
pub type AccelerometerBus = ExclusiveDevice<Spim<'static>, Output<'static>, Delay>;

/// Everything that the node uses.
pub struct Board {
    /// The part's own id.
    pub id: u64,
    /// Drawn anew at each boot.
    pub entropy: u32,
    /// Why it was reset.
    pub reset: ResetCause,
    /// The accelerometer's bus.
    pub spi: AccelerometerBus,
    /// The thermometer's bus.
    pub i2c: Twim<'static>,
    /// Settings' memory, and the place in it.
    pub flash: (Blocking<Nvmc<'static>>, core::ops::Range<u32>),
    /// The line.
    pub line: (BufferedUarteRx<'static>, BufferedUarteTx<'static>),
    /// Bytes a second of the line.
    pub line_bytes_per_s: u32,
    /// The watchdog, started.
    pub watchdog: WatchdogHandle,
}

/// Sets the board up, once; nothing when the watchdog runs in another way than this firmware starts it, which only a
/// power-on ends.
pub fn start() -> Option<Board> {
    let mut config = Config::default();
    config.hfclk_source = HfclkSource::ExternalXtal;
    config.lfclk_source = LfclkSource::ExternalXtal;
    let board = embassy_nrf::init(config);
    let reset = reset_cause();
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
        id: u64::from(pac::FICR.deviceid(1).read()) << 32 | u64::from(pac::FICR.deviceid(0).read()),
        entropy: Rng::new_blocking(board.RNG).blocking_next_u32(),
        reset,
        spi,
        i2c,
        flash: (Blocking(Nvmc::new(board.NVMC)), STORE),
        line: line.split(),
        line_bytes_per_s: 92_160,
        watchdog,
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
    if reasons == 0 {
        ResetCause::PowerOn
    } else if reasons & WATCHDOG != 0 {
        ResetCause::Watchdog
    } else if reasons & SOFTWARE != 0 {
        ResetCause::Software
    } else if reasons & PIN != 0 {
        ResetCause::Pin
    } else {
        ResetCause::Unknown
    }
}
