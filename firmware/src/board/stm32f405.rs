//! STM32F405RG at 168 MHz from a crystal of 8 MHz: a vendor's HAL and no operating system. The line's bytes come
//! and go in its interrupt; everything else is one loop.
//!
//! | what | pins |
//! |---|---|
//! | line to the agent, 921,600 baud | USART1: PA9 out, PA10 in; PA8 high while bytes go out |
//! | whether other nodes share that line | PB5: open, or to ground where they do |
//! | accelerometer, IIS3DWB | SPI1: PA5 clock, PA6 in, PA7 out, PA4 select |
//! | thermometer, TMP102 and its kind | I2C1: PB8 clock, PB9 data |
//! | current loop, ADS1115 | the same bus |
//! | tachometer | PB0, a rising edge each revolution |
//! | lamp | PC13, lit when low |
//! | settings and boot counter | the last two sectors of the flash, 128 KiB each |
//!
//! Nothing that is broken outside of the part keeps it from speaking: without a crystal it runs on its own oscillator,
//! at 16 MHz, and a slow bus that is held down is a bus without instruments.

use super::beginning::{self, Who, strapped};
use super::shaft::SHAFT;
use crate::flash::Blocking;
use core::cell::RefCell;
use cortex_m::interrupt::Mutex;
use cortex_m::peripheral::NVIC;
use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::{self, Operation};
use embedded_hal_bus::spi::ExclusiveDevice;
use embedded_storage::nor_flash::{ErrorType, MultiwriteNorFlash, NorFlash, ReadNorFlash};
use heapless::Deque;
use stm32f4xx_hal::flash::{FlashExt, LockedFlash};
use stm32f4xx_hal::gpio::{Edge, ExtiPin, Input, Output, PA4, PA8, PB0, PC13, Speed};
use stm32f4xx_hal::i2c::{Error as BusError, I2c};
use stm32f4xx_hal::pac::{self, GPIOB, I2C1, SPI1, TIM2, USART1, interrupt};
use stm32f4xx_hal::prelude::*;
use stm32f4xx_hal::rcc::{Config, Enable, Reset};
use stm32f4xx_hal::serial::{Event, Flag, Serial};
use stm32f4xx_hal::spi::Spi;
use stm32f4xx_hal::watchdog::IndependentWatchdog;
use trunnion_common::codec::{LINE_FRAME_MAX, crc32c};
use trunnion_common::frame::ResetCause;
use trunnion_common::time::NodeTicks;

/// Not fed for so long, the watchdog resets. A page of the flash takes two seconds to erase, and nothing runs
/// meanwhile.
const WATCHDOG_MS: u32 = 8_000;

/// The processor's clock, MHz.
const CLOCK_MHZ: u32 = 168;

/// How often it is looked whether the crystal swings: for 50 ms at least, where the data sheet has 2 ms (DS8626, table
/// 33).
const CRYSTAL_LOOKS: u32 = 100_000;

/// The line, bauds.
const BAUDS: u32 = 921_600;

/// The accelerometer's bus.
pub type AccelerometerBus = ExclusiveDevice<Spi<SPI1>, PA4<Output>, Cycles>;

/// Everything that the node uses.
pub struct Board {
    /// What it tells of itself.
    pub who: Who,
    /// The accelerometer's bus.
    pub spi: AccelerometerBus,
    /// The bus of the slow instruments.
    pub i2c: SlowBus,
    /// Settings' memory.
    pub flash: Blocking<InternalFlash>,
    /// The lamp.
    pub lamp: PC13<Output>,
    /// The watchdog, started.
    pub watchdog: IndependentWatchdog,
}

/// Sets the board up; nothing the second time, or when the line cannot be had.
pub fn start() -> Option<Board> {
    let device = pac::Peripherals::take()?;
    let reset = reset_cause(&device.RCC);
    let mut watchdog = IndependentWatchdog::new(device.IWDG);
    watchdog.start(WATCHDOG_MS.millis());
    // The HAL waits for a crystal for good.
    device.RCC.cr().modify(|_, w| w.hseon().set_bit());
    let swings = || device.RCC.cr().read().hserdy().bit_is_set();
    let has_crystal = (0..CRYSTAL_LOOKS).any(|_| swings());
    let mut rcc = device.RCC.constrain();
    if has_crystal {
        rcc = rcc.freeze(Config::hse(8.MHz()).sysclk(CLOCK_MHZ.MHz()).require_pll48clk());
    }
    let (a, b, c) = (
        device.GPIOA.split(&mut rcc),
        device.GPIOB.split(&mut rcc),
        device.GPIOC.split(&mut rcc),
    );
    let mut lamp = c.pc13.into_push_pull_output();
    lamp.set_high();
    let strap = b.pb5.into_pull_up_input();
    // By its registers: the HAL's timer is a thousand bytes, most of them for a panic that cannot be.
    let counter = device.TIM2;
    TIM2::enable(&mut rcc);
    TIM2::reset(&mut rcc);
    let divider = rcc.clocks.timclk1().raw() / 1_000_000;
    counter.psc().write(|w| w.psc().set(divider as u16 - 1));
    counter.egr().write(|w| w.ug().set_bit());
    counter.cr1().write(|w| w.cen().set_bit());
    let clock = Clock {
        counter,
        last: 0,
        micros: 0,
    };
    let mut pulse = b.pb0.into_pull_up_input();
    let (mut exti, mut config) = (device.EXTI, device.SYSCFG.constrain(&mut rcc));
    pulse.make_interrupt_source(&mut config);
    pulse.trigger_on_edge(&mut exti, Edge::Rising);
    pulse.enable_interrupt(&mut exti);
    cortex_m::interrupt::free(|section| {
        CLOCK.borrow(section).replace(Some(clock));
        PULSE.borrow(section).replace(Some(pulse));
    });

    let mut serial = device
        .USART1
        .serial((a.pa9, a.pa10), BAUDS.bps(), &mut rcc)
        .ok()?;
    serial.listen(Event::RxNotEmpty);
    let driver = a.pa8.into_push_pull_output();
    cortex_m::interrupt::free(|section| {
        PORT.borrow(section).replace(Some(Port { serial, driver }));
    });
    unmask();

    let pins = (
        Some(a.pa5.into_alternate::<5>().speed(Speed::High)),
        Some(a.pa6.into_alternate::<5>()),
        Some(a.pa7.into_alternate::<5>().speed(Speed::High)),
    );
    let spi = Spi::new(device.SPI1, pins, embedded_hal::spi::MODE_3, 8.MHz(), &mut rcc);
    let mut select = a.pa4.into_push_pull_output();
    select.set_high();
    let Ok(spi) = ExclusiveDevice::new(spi, select, Cycles);
    let i2c = SlowBus(I2c::new(device.I2C1, (b.pb8, b.pb9), 100.kHz(), &mut rcc));
    // The generator has its clock from the crystal; without one the boot counter alone tells boots apart.
    let entropy = if has_crystal {
        let random = device.RNG.constrain(&mut rcc).release();
        // Its first word takes 40 cycles of 48 MHz; one that never comes leaves the watchdog to speak.
        while random.sr().read().drdy().bit_is_clear() {}
        random.dr().read().rndata().bits()
    } else {
        0
    };
    Some(Board {
        who: Who {
            id: node_id(),
            entropy,
            reset,
            has_crystal,
            wiring: strapped(strap.is_low()),
            line_bytes_per_s: BAUDS / 10,
        },
        spi,
        i2c,
        flash: Blocking(InternalFlash(LockedFlash::new(device.FLASH))),
        lamp,
        watchdog,
    })
}

/// By the flags of RM0090, section 7.3.21, which are cleared for the next reset. A power-on sets that of the
/// brown-out, too.
fn reset_cause(rcc: &pac::RCC) -> ResetCause {
    let flags = rcc.csr().read();
    rcc.csr().modify(|_, w| w.rmvf().set_bit());
    let watchdog = flags.wdgrstf().bit_is_set() || flags.wwdgrstf().bit_is_set();
    beginning::reset_cause([
        (flags.porrstf().bit_is_set(), ResetCause::PowerOn),
        (flags.borrstf().bit_is_set(), ResetCause::BrownOut),
        (watchdog, ResetCause::Watchdog),
        (flags.sftrstf().bit_is_set(), ResetCause::Software),
        (flags.padrstf().bit_is_set(), ResetCause::Pin),
    ])
}

/// The part's unique id (RM0090, section 39.1).
const UNIQUE_ID: *const [u32; 3] = 0x1FFF_7A10 as *const _;

/// The part's unique id of 96 bits, folded to 64: two parts of a plant have the same with a probability of 2^-64.
#[allow(unsafe_code, reason = "memory that the part has beside the program's")]
fn node_id() -> u64 {
    // SAFETY: every part has these words, and nothing writes them.
    let words = unsafe { UNIQUE_ID.read_volatile() };
    let mut bytes = [0; 12];
    for (bytes, word) in bytes.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let high = crc32c(&bytes);
    bytes.reverse();
    u64::from(high) << 32 | u64::from(crc32c(&bytes))
}

/// Time since the reset.
static CLOCK: Mutex<RefCell<Option<Clock>>> = Mutex::new(RefCell::new(None));

/// Now; 0 before the board is set up.
pub fn ticks() -> NodeTicks {
    cortex_m::interrupt::free(|section| {
        let mut clock = CLOCK.borrow(section).borrow_mut();
        clock.as_mut().map_or(NodeTicks(0), Clock::ticks)
    })
}

/// Microseconds since the start, of a counter of 32 bits that is read more often than it runs over (71 minutes).
struct Clock {
    counter: TIM2,
    last: u32,
    micros: u64,
}

impl Clock {
    fn ticks(&mut self) -> NodeTicks {
        let now = self.counter.cnt().read().bits();
        self.micros += u64::from(now.wrapping_sub(self.last));
        self.last = now;
        NodeTicks(self.micros)
    }
}

/// Waits by the processor's cycles, no shorter than it is asked to.
pub struct Cycles;

impl DelayNs for Cycles {
    fn delay_ns(&mut self, ns: u32) {
        cortex_m::asm::delay((ns / 1_000 + 1) * CLOCK_MHZ);
    }
}

/// The bus of the slow instruments, as long as nothing holds a wire of it down: the HAL would wait for good.
pub struct SlowBus(I2c<I2C1>);

impl SlowBus {
    #[allow(unsafe_code, reason = "the level of pins that the HAL has taken")]
    fn free(&mut self) -> Result<&mut I2c<I2C1>, BusError> {
        // SAFETY: reading the register of the inputs changes nothing.
        let levels = unsafe { (*GPIOB::ptr()).idr().read() };
        if levels.idr8().bit_is_set() && levels.idr9().bit_is_set() {
            Ok(&mut self.0)
        } else {
            Err(BusError::Bus)
        }
    }
}

impl i2c::ErrorType for SlowBus {
    type Error = BusError;
}

impl i2c::I2c for SlowBus {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), BusError> {
        i2c::I2c::transaction(self.free()?, address, operations)
    }
}

/// The line, shared with its interrupt.
static PORT: Mutex<RefCell<Option<Port>>> = Mutex::new(RefCell::new(None));

struct Port {
    serial: Serial<USART1>,
    /// Of a transceiver, if there is one: high from before the first byte until the last has left.
    driver: PA8<Output>,
}

/// Its bytes. Apart from the port, all of it starts as zeros and takes no flash.
struct Line {
    /// When it is full, bytes are dropped: their frame does not pass its checksum, and the agent repeats it.
    arrived: Deque<u8, 512>,
    waiting: Deque<u8, { 2 * LINE_FRAME_MAX }>,
}

static LINE: Mutex<RefCell<Line>> = Mutex::new(RefCell::new(Line {
    arrived: Deque::new(),
    waiting: Deque::new(),
}));

fn with_line<T>(act: impl FnOnce(&mut Line) -> T) -> T {
    cortex_m::interrupt::free(|section| act(&mut LINE.borrow(section).borrow_mut()))
}

fn with_port(act: impl FnOnce(&mut Line, &mut Port)) {
    cortex_m::interrupt::free(|section| {
        if let Some(port) = PORT.borrow(section).borrow_mut().as_mut() {
            act(&mut LINE.borrow(section).borrow_mut(), port);
        }
    });
}

/// Takes what has arrived; how many bytes.
pub fn receive(bytes: &mut [u8]) -> usize {
    with_line(|line| {
        let mut taken = 0;
        while taken < bytes.len()
            && let Some(byte) = line.arrived.pop_front()
        {
            bytes[taken] = byte;
            taken += 1;
        }
        taken
    })
}

/// Bytes that can be sent now.
pub fn room() -> usize {
    with_line(|line| line.waiting.capacity() - line.waiting.len())
}

/// Sends bytes, as many as there is room for.
pub fn send(bytes: &[u8]) {
    with_port(|line, port| {
        for byte in bytes {
            // Beyond the room there is nothing: the caller has asked.
            let _ = line.waiting.push_back(*byte);
        }
        if !line.waiting.is_empty() {
            port.driver.set_high();
            port.serial.listen(Event::TxEmpty);
            // An emulated port takes bytes at once, and its interrupt tells of arrivals alone.
            NVIC::pend(pac::Interrupt::USART1);
        }
    });
}

#[interrupt]
fn USART1() {
    with_port(|line, Port { serial, driver }| {
        while serial.is_rx_not_empty() {
            if let Ok(byte) = serial.read() {
                let _ = line.arrived.push_back(byte);
            }
        }
        while serial.is_tx_empty() {
            let Some(byte) = line.waiting.pop_front() else {
                break;
            };
            let _ = serial.write(byte);
        }
        if !line.waiting.is_empty() {
            return;
        }
        if serial.flags().contains(Flag::TransmissionComplete) {
            serial.unlisten(Event::TxEmpty | Event::TransmissionComplete);
            driver.set_low();
        } else {
            // The last byte is still on its way out.
            serial.unlisten(Event::TxEmpty);
            serial.listen(Event::TransmissionComplete);
        }
    });
}

#[allow(unsafe_code, reason = "interrupts whose handlers are this file's own")]
fn unmask() {
    // SAFETY: what the handlers use is in its place before, and nothing else relies on the interrupts being off.
    unsafe {
        NVIC::unmask(pac::Interrupt::USART1);
        NVIC::unmask(pac::Interrupt::EXTI0);
    }
}

/// The tachometer's pin.
static PULSE: Mutex<RefCell<Option<PB0<Input>>>> = Mutex::new(RefCell::new(None));

#[interrupt]
fn EXTI0() {
    cortex_m::interrupt::free(|section| {
        if let Some(pin) = PULSE.borrow(section).borrow_mut().as_mut() {
            pin.clear_interrupt_pending_bit();
        }
    });
    SHAFT.handle_pulse(ticks());
}

/// The flash that the program runs from, unlocked only while it is written.
pub struct InternalFlash(LockedFlash);

impl ErrorType for InternalFlash {
    type Error = stm32f4xx_hal::flash::Error;
}

impl ReadNorFlash for InternalFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        ReadNorFlash::read(&mut self.0, offset, bytes)
    }

    fn capacity(&self) -> usize {
        ReadNorFlash::capacity(&self.0)
    }
}

impl NorFlash for InternalFlash {
    const WRITE_SIZE: usize = 1;
    const ERASE_SIZE: usize = 128 * 1_024;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        NorFlash::erase(&mut self.0.unlocked(), from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        NorFlash::write(&mut self.0.unlocked(), offset, bytes)
    }
}

impl MultiwriteNorFlash for InternalFlash {}
