//! STM32H563ZI at 250 MHz from a clock of 8 MHz, on embassy. Pins are those that the Nucleo-H563ZI leads out; its debugger
//! gives the clock, and carries the line over USB where no transceiver is wired.
//!
//! | what | pins |
//! |---|---|
//! | line to the agent, 921,600 baud | USART3: PD8 out, PD9 in, PD12 high while bytes go out |
//! | whether other nodes share that line | PE14: open, or to ground where they do |
//! | accelerometer, IIS3DWB | SPI1: PA5 clock, PG9 in, PB5 out, PD14 select |
//! | thermometer, TMP102 and its kind | I2C1: PB8 clock, PB9 data |
//! | current loop, ADS1115 | the same bus |
//! | tachometer | PE9, a rising edge each revolution |
//! | lamp | PB0, lit when high |
//! | settings and boot counter | the last 32 KiB of the flash |

use super::stm32::{self, Board, Parts, RECEIVED, TO_SEND};
use embassy_stm32::exti::{self, ExtiInput};
use embassy_stm32::flash::Flash;
use embassy_stm32::gpio::{Input, Level, Output, Pull, Speed};
use embassy_stm32::i2c::I2c;
use embassy_stm32::peripherals::{RNG, USART3};
use embassy_stm32::rcc::{Hse, HseMode, Pll, PllDiv, PllMul, PllPreDiv, PllSource, Sysclk, VoltageScale};
use embassy_stm32::rng::{self, Rng};
use embassy_stm32::spi::Spi;
use embassy_stm32::time::Hertz;
use embassy_stm32::usart::{self, BufferedUart};
use embassy_stm32::{Config, bind_interrupts, interrupt, pac};
use trunnion_common::frame::ResetCause;

bind_interrupts!(struct Interrupts {
    USART3 => usart::BufferedInterruptHandler<USART3>;
    RNG => rng::InterruptHandler<RNG>;
    EXTI9 => exti::InterruptHandler<interrupt::typelevel::EXTI9>;
});

/// Sets the board up, once; nothing when its line cannot be had.
pub fn start() -> Option<Board> {
    let mut config = Config::default();
    // Time is the crystal's: the part's own oscillator is a percent off, and agents expect 100 ppm.
    config.rcc.hse = Some(Hse {
        freq: Hertz(8_000_000),
        mode: HseMode::BypassDigital,
    });
    config.rcc.pll1 = Some(Pll {
        source: PllSource::HSE,
        prediv: PllPreDiv::DIV2,
        mul: PllMul::MUL125,
        divp: Some(PllDiv::DIV2),
        divq: Some(PllDiv::DIV4),
        divr: None,
    });
    config.rcc.sys = Sysclk::PLL1_P;
    config.rcc.voltage_scale = VoltageScale::Scale0;
    let board = embassy_stm32::init(config);
    let reset = reset_cause();
    let watchdog = stm32::watch(board.IWDG);
    // Pulled up long before it is read.
    let strap = Input::new(board.PE14, Pull::Up);
    let line = BufferedUart::new_with_de(
        board.USART3,
        board.PD9,
        board.PD8,
        board.PD12,
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
            board.PB5,
            board.PG9,
            stm32::accelerometer(),
        ),
        select: Output::new(board.PD14, Level::High, Speed::High),
        i2c: I2c::new_blocking(board.I2C1, board.PB8, board.PB9, stm32::slow_bus()),
        tachometer: ExtiInput::new(board.PE9, board.EXTI9, Pull::Up, Interrupts),
        lamp: Output::new(board.PB0, Level::Low, Speed::Low),
        flash: Flash::new_blocking(board.FLASH),
        watchdog,
    }))
}

/// By the flags of RM0481, RCC_RSR, which are cleared for the next reset. A power-on sets that of the brown-out: this part
/// does not tell the two apart.
fn reset_cause() -> ResetCause {
    let flags = pac::RCC.rsr().read();
    pac::RCC.rsr().modify(|w| w.set_rmvf(true));
    stm32::reset_cause(
        flags.borrstf(),
        flags.iwdgrstf() || flags.wwdgrstf(),
        flags.sftrstf(),
        flags.pinrstf(),
    )
}
