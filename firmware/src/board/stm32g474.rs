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

use super::stm32::{self, Board, Parts, RECEIVED, TO_SEND};
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
use embassy_stm32::{Config, bind_interrupts, interrupt, pac};
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
    let watchdog = stm32::watch(board.IWDG);
    // Pulled up long before it is read.
    let strap = Input::new(board.PB5, Pull::Up);
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
    Some(stm32::board(Parts {
        reset,
        entropy: Rng::new(board.RNG, Interrupts).next_u32(),
        strap,
        line: line.ok()?,
        spi: Spi::new_blocking(
            board.SPI1,
            board.PA5,
            board.PA7,
            board.PA6,
            stm32::accelerometer(),
        ),
        select: Output::new(board.PA4, Level::High, Speed::High),
        i2c: I2c::new_blocking(board.I2C1, board.PA15, board.PB7, stm32::slow_bus()),
        tachometer: ExtiInput::new(board.PC6, board.EXTI6, Pull::Up, Interrupts),
        lamp: Output::new(board.PC8, Level::Low, Speed::Low),
        flash: Flash::new_blocking(board.FLASH),
        watchdog,
    }))
}

/// By the flags of RM0440, section 7.4.28, which are cleared for the next reset. A power-on sets that of the brown-out:
/// this part does not tell the two apart.
fn reset_cause() -> ResetCause {
    let flags = pac::RCC.csr().read();
    pac::RCC.csr().modify(|w| w.set_rmvf(true));
    stm32::reset_cause(
        flags.borrstf(),
        flags.iwdgrstf() || flags.wwdgrstf(),
        flags.sftrstf(),
        flags.pinrstf(),
    )
}
