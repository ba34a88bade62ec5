//! The line through an RS-485 transceiver, whose driver is enabled while bytes go out. Peripherals do that among
//! themselves, since the program may be busy for milliseconds when the last bit has gone.
//!
//! Each stretch of bytes starts with the transmitter's `TXSTARTED` and ends with its `ENDTX`. Nordic does not say whether
//! the last byte has left the pin by then, so the driver stays enabled for a character more, which a timer measures;
//! the next stretch stops that timer.
#![allow(unsafe_code, reason = "events of a peripheral that the HAL does not hand out")]

use core::ptr::NonNull;
use embassy_nrf::Peri;
use embassy_nrf::buffered_uarte::{BufferedUarteTx, Error};
use embassy_nrf::gpio::{Level, OutputDrive};
use embassy_nrf::gpiote::{OutputChannel, OutputChannelPolarity};
use embassy_nrf::pac;
use embassy_nrf::pac::common::{RW, Reg};
use embassy_nrf::peripherals::{GPIOTE_CH0, P1_01, PPI_CH2, PPI_CH3, PPI_CH4, TIMER2};
use embassy_nrf::ppi::{Event, Ppi};
use embassy_nrf::timer::{Frequency, Timer};
use embedded_io_async::{ErrorType, Write};

/// A character of ten bits at 921,600 baud, rounded up, and one microsecond that the timer's start may take.
const HOLD_MICROS: u32 = 12;

/// What enables the driver.
pub struct Parts {
    /// The driver's pin, high while it is enabled.
    pub pin: Peri<'static, P1_01>,
    /// What moves it.
    pub channel: Peri<'static, GPIOTE_CH0>,
    /// What measures the last character.
    pub timer: Peri<'static, TIMER2>,
    /// What connects these.
    pub connections: (
        Peri<'static, PPI_CH2>,
        Peri<'static, PPI_CH3>,
        Peri<'static, PPI_CH4>,
    ),
}

/// The transmitter of UARTE 0 and the driver behind it.
pub struct Driven {
    transmitter: BufferedUarteTx<'static>,
    driver: OutputChannel<'static>,
}

impl Driven {
    /// With the driver disabled.
    pub fn new(transmitter: BufferedUarteTx<'static>, parts: Parts) -> Self {
        let driver = OutputChannel::new(
            parts.channel,
            parts.pin,
            Level::Low,
            OutputDrive::Standard,
            OutputChannelPolarity::Toggle,
        );
        let hold = Timer::new(parts.timer);
        hold.set_frequency(Frequency::F1MHz);
        hold.cc(0).write(HOLD_MICROS);
        hold.cc(0).short_compare_stop();
        let events = pac::UARTE0.events_dma().tx();
        let (started, ended) = (event(events.ready()), event(events.end()));
        let is_over = hold.cc(0).event_compare();
        let (first, second, third) = parts.connections;
        let mut start = Ppi::new_one_to_two(first, started, driver.task_set(), hold.task_stop());
        let mut end = Ppi::new_one_to_two(second, ended, hold.task_clear(), hold.task_start());
        let mut over = Ppi::new_one_to_one(third, is_over, driver.task_clr());
        start.enable();
        end.enable();
        over.enable();
        start.persist();
        end.persist();
        over.persist();
        hold.persist();
        Self { transmitter, driver }
    }
}

fn event(register: Reg<u32, RW>) -> Event<'static> {
    let register = NonNull::new(register.as_ptr()).expect("no register is at 0");
    // SAFETY: both callers name an event of UARTE 0, which is there for good.
    unsafe { Event::new_unchecked(register) }
}

impl ErrorType for Driven {
    type Error = Error;
}

impl Write for Driven {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        // Before the first start bit; the start of the stretch does it again, when an end has come in between.
        self.driver.set();
        self.transmitter.write(bytes).await
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.transmitter.flush().await
    }
}
