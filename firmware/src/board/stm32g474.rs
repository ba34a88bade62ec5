//! STM32G474RE at 170 MHz from a crystal of 24 MHz, on embassy. Pins are those that the Nucleo-G474RE leads out.
//!
//! | what | pins |
//! |---|---|
//! | line to the agent, 921,600 baud | USART1: PA9 out, PA10 in, PA12 high while bytes go out |
//! | whether other nodes share that line | PB5: open, or to ground where they do |
//! | accelerometer, IIS3DWB | SPI1: PA5 clock, PA6 in, PA7 out, PA4 select |
//! | thermometer, TMP102 and its kind | I2C1: PA15 clock, PB7 data |
//! | current loop, ADS1115 | the same bus |
//! | tachometer | PC6, a rising edge each revolution |
//! | lamp | PC8, lit when high |
//! | settings and boot counter | the last 32 KiB of the flash |

use super::beginning::{Who, settings_place, strapped};
use super::stm32::{self, BAUDS, Board, RECEIVED, TO_SEND, WATCHDOG_MICROS};
use crate::flash::Blocking;
use embassy_stm32::exti::{self, ExtiInput};
use embassy_stm32::flash::Flash;
use embassy_stm32::gpio::{Input, Level, Output, Pull, Speed};
use embassy_stm32::i2c::I2c;
use embassy_stm32::peripherals::{RNG, USART1};
use embassy_stm32::rcc::{Hse, HseMode, Pll, PllMul, PllPreDiv, PllRDiv, PllSource, Sysclk};
use embassy_stm32::rng::{self, Rng};
use embassy_stm32::spi::Spi;
use embassy_stm32::time::Hertz;
use embassy_stm32::usart::{self, BufferedUart};
use embassy_stm32::wdg::IndependentWatchdog;
use embassy_stm32::{Config, bind_interrupts, interrupt, pac};
use embassy_time::Delay;
use embedded_hal::digital::PinState;
use embedded_hal_bus::spi::ExclusiveDevice;
use trunnion_common::frame::ResetCause;

bind_interrupts!(struct Interrupts {
    USART1 => usart::BufferedInterruptHandler<USART1>;
    RNG => rng::InterruptHandler<RNG>;
    EXTI9_5 => exti::InterruptHandler<interrupt::typelevel::EXTI9_5>;
});

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
    stm32::stamp_pulses(ExtiInput::new(board.PC6, board.EXTI6, Pull::Up, Interrupts));
    let strap = Input::new(board.PB5, Pull::Up);
    let mut watchdog = IndependentWatchdog::new(board.IWDG, WATCHDOG_MICROS);
    watchdog.unleash();

    let line = BufferedUart::new_with_de(
        board.USART1,
        board.PA10,
        board.PA9,
        board.PA12,
        Interrupts,
        TO_SEND.take(),
        RECEIVED.take(),
        stm32::line(),
    );
    let (to_send, received) = line.ok()?.split();
    let bus = Spi::new_blocking(
        board.SPI1,
        board.PA5,
        board.PA7,
        board.PA6,
        stm32::accelerometer(),
    );
    let select = Output::new(board.PA4, Level::High, Speed::High);
    let Ok(spi) = ExclusiveDevice::new(bus, select, Delay);
    Some(Board {
        who: Who {
            id: stm32::node_id(),
            entropy: Rng::new(board.RNG, Interrupts).next_u32(),
            reset,
            wiring: strapped(strap.is_low()),
            line_bytes_per_s: BAUDS / 10,
        },
        spi,
        i2c: I2c::new_blocking(board.I2C1, board.PA15, board.PB7, stm32::slow_bus()),
        flash: (Blocking(Flash::new_blocking(board.FLASH)), settings_place()),
        line: (received, to_send),
        watchdog,
        lamp: (Output::new(board.PC8, Level::Low, Speed::Low), PinState::High),
    })
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
