//! STM32G474RE at 170 MHz from a crystal of 24 MHz, on embassy.
//!
//! | what | pins |
//! |---|---|
//! | line to the agent, 921,600 baud | USART1: PA9 out, PA10 in |
//! | accelerometer, IIS3DWB | SPI1: PA5 clock, PA6 in, PA7 out, PA4 select |
//! | thermometer, TMP102 and its kind | I2C1: PA15 clock, PB7 data |
//! | settings and boot counter | the last 32 KiB of the flash |

use crate::flash::Blocking;
use embassy_stm32::flash::{self, Flash};
use embassy_stm32::gpio::{Level, Output, Speed};
use embassy_stm32::i2c::{self, I2c};
use embassy_stm32::mode;
use embassy_stm32::peripherals::{IWDG, RNG, USART1};
use embassy_stm32::rcc::{Hse, HseMode, Pll, PllMul, PllPreDiv, PllRDiv, PllSource, Sysclk};
use embassy_stm32::rng::{self, Rng};
use embassy_stm32::spi::{self, Spi};
use embassy_stm32::time::Hertz;
use embassy_stm32::usart::{self, BufferedUart, BufferedUartRx, BufferedUartTx};
use embassy_stm32::wdg::IndependentWatchdog;
use embassy_stm32::{Config, bind_interrupts, pac, uid};
use embassy_time::Delay;
use embedded_hal_bus::spi::ExclusiveDevice;
use static_cell::ConstStaticCell;
use trunnion_common::codec::{LINE_FRAME_MAX, crc32c};
use trunnion_common::frame::ResetCause;

/// Where settings are kept, from the start of the flash; the memory map leaves it out.
const STORE: core::ops::Range<u32> = 0x7_8000..0x8_0000;

/// Not fed for so long, the watchdog resets.
const WATCHDOG_MICROS: u32 = 8_000_000;

/// The line, bauds.
const BAUDS: u32 = 921_600;

bind_interrupts!(struct Interrupts {
    USART1 => usart::BufferedInterruptHandler<USART1>;
    RNG => rng::InterruptHandler<RNG>;
});

static TO_SEND: ConstStaticCell<[u8; LINE_FRAME_MAX]> = ConstStaticCell::new([0; LINE_FRAME_MAX]);
static RECEIVED: ConstStaticCell<[u8; 512]> = ConstStaticCell::new([0; 512]);

/// The accelerometer's bus.
pub type AccelerometerBus =
    ExclusiveDevice<Spi<'static, mode::Blocking, spi::mode::Master>, Output<'static>, Delay>;

/// Everything that the node uses.
pub struct Board {
    /// The part's own id, of 96 bits folded to 64.
    pub id: u64,
    /// Drawn anew at each boot.
    pub entropy: u32,
    /// Why it was reset.
    pub reset: ResetCause,
    /// The accelerometer's bus.
    pub spi: AccelerometerBus,
    /// The thermometer's bus.
    pub i2c: I2c<'static, mode::Blocking, i2c::Master>,
    /// Settings' memory, and the place in it.
    pub flash: (Blocking<Flash<'static, flash::Blocking>>, core::ops::Range<u32>),
    /// The line.
    pub line: (BufferedUartRx<'static>, BufferedUartTx<'static>),
    /// Bytes a second of the line.
    pub line_bytes_per_s: u32,
    /// The watchdog, started.
    pub watchdog: IndependentWatchdog<'static, IWDG>,
}

/// Sets the board up, once; nothing when its line cannot be had.
pub fn start() -> Option<Board> {
    let mut config = Config::default();
    // Time is the crystal's: the part's own oscillator is a percent off, and agents expect 100 ppm.
    config.rcc.hse = Some(Hse {
        freq: Hertz(24_000_000),
        mode: HseMode::Oscillator,
    });
    config.rcc.pll = Some(Pll {
        source: PllSource::HSE,
        prediv: PllPreDiv::DIV6,
        mul: PllMul::MUL85,
        divp: None,
        divq: None,
        divr: Some(PllRDiv::DIV2),
    });
    config.rcc.sys = Sysclk::PLL1_R;
    config.rcc.boost = true;
    let board = embassy_stm32::init(config);
    let reset = reset_cause();
    let mut watchdog = IndependentWatchdog::new(board.IWDG, WATCHDOG_MICROS);
    watchdog.unleash();

    let mut at = usart::Config::default();
    at.baudrate = BAUDS;
    let line = BufferedUart::new(
        board.USART1,
        board.PA10,
        board.PA9,
        TO_SEND.take(),
        RECEIVED.take(),
        Interrupts,
        at,
    );
    let (to_send, received) = line.ok()?.split();
    let mut at = spi::Config::default();
    at.mode = spi::MODE_3;
    at.frequency = Hertz(8_000_000);
    let bus = Spi::new_blocking(board.SPI1, board.PA5, board.PA7, board.PA6, at);
    let select = Output::new(board.PA4, Level::High, Speed::High);
    let Ok(spi) = ExclusiveDevice::new(bus, select, Delay);
    let mut at = i2c::Config::default();
    at.frequency = Hertz(100_000);
    Some(Board {
        id: node_id(uid::uid()),
        entropy: Rng::new(board.RNG, Interrupts).next_u32(),
        reset,
        spi,
        i2c: I2c::new_blocking(board.I2C1, board.PA15, board.PB7, at),
        flash: (Blocking(Flash::new_blocking(board.FLASH)), STORE),
        line: (received, to_send),
        line_bytes_per_s: BAUDS / 10,
        watchdog,
    })
}

/// The part's unique id of 96 bits, folded to 64: two parts of a plant have the same with a probability of 2^-64.
fn node_id(mut id: [u8; 12]) -> u64 {
    let high = crc32c(&id);
    id.reverse();
    u64::from(high) << 32 | u64::from(crc32c(&id))
}

/// By the flags of RM0440, section 7.4.28, which are cleared for the next reset. A power-on sets that of the brown-out:
/// this part does not tell the two apart.
fn reset_cause() -> ResetCause {
    let flags = pac::RCC.csr().read();
    let cause = if flags.borrstf() {
        ResetCause::PowerOn
    } else if flags.iwdgrstf() || flags.wwdgrstf() {
        ResetCause::Watchdog
    } else if flags.sftrstf() {
        ResetCause::Software
    } else if flags.pinrstf() {
        ResetCause::Pin
    } else {
        ResetCause::Unknown
    };
    pac::RCC.csr().modify(|w| w.set_rmvf(true));
    cause
}
