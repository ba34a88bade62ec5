//! QEMU's `mps2-an386`: a Cortex-M4F at 25 MHz with ARM's CMSDK peripherals (Arm DAI 0386), as QEMU 7.2 has
//! them.
//!
//! | what | where |
//! |---|---|
//! | the agent's line | UART 0 |
//! | time | timer 0, free-running at 25 MHz; timer 1 wakes |
//! | thermometer (TMP105) and EEPROM (AT24C256) | I2C behind the shield connector, addresses 0x48 and 0x50 |
//! | accelerometer | a record in the external RAM, loaded by QEMU |
//! | node id, entropy and wiring | the last 16 bytes of that RAM, loaded by QEMU |
#![allow(
    unsafe_code,
    reason = "registers and memory at fixed addresses, which Arm DAI 0386 and QEMU's `hw/arm/mps2.c` give"
)]

use crate::board::beginning::strapped;
use crate::board::embassy::Received;
use crate::board::life;
use crate::last_words::End;
use crate::link::Wiring;
use core::cell::{Cell, RefCell};
use core::task::Waker;
use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;
use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::{Duration, with_timeout};
use embassy_time_queue_utils::Queue;
use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};

/// Clock of the processor and of every peripheral here.
const CLOCK_HZ: u32 = 25_000_000;

const TICKS_PER_MICRO: u64 = CLOCK_HZ as u64 / 1_000_000;

/// The external RAM that a record is loaded into.
const STIMULUS: usize = 0x2100_0000;
const STIMULUS_BYTES: usize = 16 << 20;

/// The end of it: node id (8 bytes), entropy (4), 0 or, where other nodes share the line, 1 (4).
const IDENTITY_BYTES: usize = 16;

/// A register at a fixed address.
#[derive(Clone, Copy)]
struct Register(usize);

impl Register {
    fn read(self) -> u32 {
        // SAFETY: every `Register` of this file is the address of a device register of this board, which may
        // be read at any time and aliases no Rust object.
        unsafe { (self.0 as *const u32).read_volatile() }
    }

    fn write(self, value: u32) {
        // SAFETY: as for `read`; what a write does is the device's business, none touches memory.
        unsafe { (self.0 as *mut u32).write_volatile(value) }
    }
}

/// Interrupts of this board.
#[derive(Clone, Copy)]
#[repr(u16)]
enum Irq {
    Uart0Receive = 0,
    Uart0Transmit = 1,
    Timer1 = 9,
    /// Of a peripheral that is not there: the executor runs in it.
    Executor = 30,
}

// SAFETY: the numbers are those of the vector table below, all below 32.
unsafe impl InterruptNumber for Irq {
    fn number(self) -> u16 {
        self as u16
    }
}

/// An entry of the vector table.
type Vector = unsafe extern "C" fn();

unsafe extern "C" {
    fn DefaultHandler();
}

/// The part of the vector table that `cortex-m-rt` leaves to the device.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
static __INTERRUPTS: [Vector; 32] = {
    let mut table = [DefaultHandler as Vector; 32];
    table[Irq::Uart0Receive as usize] = uart0_receive;
    table[Irq::Uart0Transmit as usize] = uart0_transmit;
    table[Irq::Timer1 as usize] = timer1;
    table[Irq::Executor as usize] = executor;
    table
};

/// Runs every task of the image; the main loop only sleeps, since an executor that idles with `wfe` keeps
/// QEMU busy.
static EXECUTOR: embassy_executor::InterruptExecutor = embassy_executor::InterruptExecutor::new();

unsafe extern "C" fn executor() {
    // SAFETY: only this handler calls it, and `start` enables its interrupt.
    unsafe { EXECUTOR.on_interrupt() }
}

/// Sets the board going: time, the line, the executor. Call it once, first of all.
pub fn start(received: &'static Received) -> embassy_executor::SendSpawner {
    TIMER_0.start_free_running();
    RECEIVED.lock(|place| place.set(Some(received)));
    UART_0.start();
    // SAFETY: everything that the handlers use has been set up above. The executor has the lowest priority:
    // whatever it runs, time and the line go on.
    unsafe {
        let mut peripherals = cortex_m::Peripherals::steal();
        peripherals.NVIC.set_priority(Irq::Executor, 0xE0);
        for irq in [Irq::Uart0Receive, Irq::Uart0Transmit, Irq::Timer1] {
            peripherals.NVIC.set_priority(irq, 0x40);
            NVIC::unmask(irq);
        }
    }
    EXECUTOR.start(Irq::Executor)
}

/// A CMSDK timer (Arm DDI 0479, section 4.4): counts down at the clock's rate.
struct Timer {
    control: Register,
    value: Register,
    reload: Register,
    interrupt: Register,
}

impl Timer {
    const fn at(base: usize) -> Self {
        Self {
            control: Register(base),
            value: Register(base + 4),
            reload: Register(base + 8),
            interrupt: Register(base + 12),
        }
    }

    fn start_free_running(&self) {
        self.reload.write(u32::MAX);
        self.value.write(u32::MAX);
        self.control.write(1);
    }

    /// Fires once, this many counts from now.
    fn fire_in(&self, counts: u32) {
        self.control.write(0);
        self.interrupt.write(1);
        self.reload.write(0);
        self.value.write(counts.max(1));
        self.control.write(0b1001);
    }
}

const TIMER_0: Timer = Timer::at(0x4000_0000);
const TIMER_1: Timer = Timer::at(0x4000_1000);

/// Sets up what a measurement needs, and nothing that would interrupt it: the timer, and a line for text.
pub fn start_measuring() -> impl core::fmt::Write {
    TIMER_0.start_free_running();
    UART_0.start();
    Text
}

/// Counts of the timer since the start, 25 in a microsecond; it runs over after 171 s.
pub fn counts() -> u32 {
    u32::MAX - TIMER_0.value.read()
}

/// Text on the line, waiting for it.
struct Text;

impl core::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            while UART_0.is_full() {}
            UART_0.data.write(u32::from(byte));
        }
        Ok(())
    }
}

/// Longest sleep: timer 0 runs over after 171 s, and must be read before.
const SLEEP_MICROS_MAX: u64 = 60_000_000;

/// Embassy's clock. The free-running counter is read, never counted in an interrupt: a virtual processor that
/// its host lets wait loses interrupts, and with them time.
struct Clock {
    state: Mutex<CriticalSectionRawMutex, RefCell<ClockState>>,
}

struct ClockState {
    counts: u64,
    last: u32,
    queue: Queue,
}

impl ClockState {
    fn micros(&mut self) -> u64 {
        let value = counts();
        self.counts += u64::from(value.wrapping_sub(self.last));
        self.last = value;
        self.counts / TICKS_PER_MICRO
    }

    /// Wakes who is due, and sets timer 1 for who is next.
    fn advance(&mut self) {
        loop {
            let now = self.micros();
            let next = self.queue.next_expiration(now);
            if next > now {
                let micros = (next - now).min(SLEEP_MICROS_MAX);
                TIMER_1.fire_in((micros * TICKS_PER_MICRO) as u32);
                return;
            }
        }
    }
}

impl embassy_time_driver::Driver for Clock {
    fn now(&self) -> u64 {
        self.state.lock(|state| state.borrow_mut().micros())
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        self.state.lock(|state| {
            let mut state = state.borrow_mut();
            if state.queue.schedule_wake(at, waker) {
                state.advance();
            }
        });
    }
}

embassy_time_driver::time_driver_impl!(static CLOCK: Clock = Clock {
    state: Mutex::new(RefCell::new(ClockState { counts: 0, last: 0, queue: Queue::new() })),
});

unsafe extern "C" fn timer1() {
    TIMER_1.interrupt.write(1);
    CLOCK.state.lock(|state| state.borrow_mut().advance());
}

/// A CMSDK UART (Arm DDI 0479, section 4.3).
#[derive(Clone, Copy)]
pub struct Uart {
    data: Register,
    state: Register,
    control: Register,
    interrupt: Register,
    divider: Register,
}

/// The agent's line.
pub const UART_0: Uart = Uart::at(0x4000_4000);

/// Where the line's bytes go.
static RECEIVED: Mutex<CriticalSectionRawMutex, Cell<Option<&'static Received>>> =
    Mutex::new(Cell::new(None));

/// The transmitter has room again.
static HAS_ROOM: Signal<CriticalSectionRawMutex, ()> = Signal::new();

impl Uart {
    const ENABLED: u32 = 0b11;
    const RECEIVE_INTERRUPT: u32 = 0b1000;
    const TRANSMIT_INTERRUPT: u32 = 0b0100;

    const fn at(base: usize) -> Self {
        Self {
            data: Register(base),
            state: Register(base + 4),
            control: Register(base + 8),
            interrupt: Register(base + 12),
            divider: Register(base + 16),
        }
    }

    fn start(self) {
        // 921,600 baud; QEMU passes bytes on as fast as they come.
        self.divider.write(CLOCK_HZ / 921_600);
        self.control.write(Self::ENABLED | Self::RECEIVE_INTERRUPT);
    }

    fn is_full(self) -> bool {
        self.state.read() & 1 != 0
    }

    /// Puts bytes on the line; waits, without holding anybody up, while the transmitter has no room.
    /// `still_waiting` is called a few times a second meanwhile.
    pub async fn write(self, bytes: &[u8], still_waiting: impl Fn()) {
        for byte in bytes {
            while self.is_full() {
                HAS_ROOM.reset();
                self.control
                    .write(Self::ENABLED | Self::RECEIVE_INTERRUPT | Self::TRANSMIT_INTERRUPT);
                // It may have got room just before its interrupt was asked for.
                if self.is_full() {
                    still_waiting();
                    let _ = with_timeout(Duration::from_millis(250), HAS_ROOM.wait()).await;
                }
                self.control.write(Self::ENABLED | Self::RECEIVE_INTERRUPT);
            }
            self.data.write(u32::from(*byte));
        }
    }
}

unsafe extern "C" fn uart0_receive() {
    UART_0.interrupt.write(0b10);
    let received = RECEIVED.lock(Cell::get);
    while UART_0.state.read() & 0b10 != 0 {
        let byte = UART_0.data.read() as u8;
        if let Some(received) = received {
            // Without room the byte is dropped, and its frame with it: see `Received`.
            let _ = received.try_write(&[byte]);
        }
    }
}

unsafe extern "C" fn uart0_transmit() {
    UART_0.interrupt.write(0b01);
    HAS_ROOM.signal(());
}

/// The two-wire bus of the shield connector: two pins that software moves (Arm DDI 0479, section 4.7; QEMU's
/// `versatile_i2c`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Bus;

impl Bus {
    const STATE: Register = Register(0x4002_A000);
    const CLEAR: Register = Register(0x4002_A004);
    const CLOCK: u32 = 1;
    const DATA: u32 = 2;

    fn rise(self, pin: u32) {
        Self::STATE.write(pin);
    }

    fn fall(self, pin: u32) {
        Self::CLEAR.write(pin);
    }

    fn begin(self) {
        self.rise(Self::DATA);
        self.rise(Self::CLOCK);
        self.fall(Self::DATA);
        self.fall(Self::CLOCK);
    }

    fn end(self) {
        self.fall(Self::DATA);
        self.rise(Self::CLOCK);
        self.rise(Self::DATA);
    }

    fn send(self, bit: bool) {
        if bit {
            self.rise(Self::DATA)
        } else {
            self.fall(Self::DATA)
        }
        self.rise(Self::CLOCK);
        self.fall(Self::CLOCK);
    }

    fn receive(self) -> bool {
        self.rise(Self::DATA);
        self.rise(Self::CLOCK);
        let bit = Self::STATE.read() & Self::DATA != 0;
        self.fall(Self::CLOCK);
        bit
    }

    /// Sends a byte; whether it was acknowledged.
    fn send_byte(self, byte: u8) -> bool {
        (0..8).rev().for_each(|bit| self.send(byte >> bit & 1 != 0));
        !self.receive()
    }

    fn receive_byte(self, is_last: bool) -> u8 {
        let byte = (0..8).fold(0, |byte, _| byte << 1 | u8::from(self.receive()));
        self.send(is_last);
        byte
    }

    fn transact(self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), NoAcknowledgeSource> {
        let reads: heapless::Vec<bool, 8> = operations
            .iter()
            .map(|operation| matches!(operation, Operation::Read(_)))
            .collect();
        for (at, operation) in operations.iter_mut().enumerate() {
            let is_read = reads[at];
            // Operations of one kind in a row are one transfer.
            if at == 0 || reads[at - 1] != is_read {
                self.begin();
                if !self.send_byte(address << 1 | u8::from(is_read)) {
                    return Err(NoAcknowledgeSource::Address);
                }
            }
            match operation {
                Operation::Write(bytes) => {
                    if !bytes.iter().all(|byte| self.send_byte(*byte)) {
                        return Err(NoAcknowledgeSource::Data);
                    }
                }
                Operation::Read(bytes) => {
                    let goes_on = reads.get(at + 1) == Some(&true);
                    let last = bytes.len().wrapping_sub(1);
                    for (index, byte) in bytes.iter_mut().enumerate() {
                        *byte = self.receive_byte(index == last && !goes_on);
                    }
                }
            }
        }
        Ok(())
    }
}

impl ErrorType for Bus {
    type Error = ErrorKind;
}

impl I2c for Bus {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        if operations.len() > 8 {
            return Err(ErrorKind::Other);
        }
        let outcome = self.transact(address, operations);
        self.end();
        outcome.map_err(ErrorKind::NoAcknowledge)
    }
}

/// The external RAM up to the identity: the record, if one was loaded.
pub fn stimulus() -> &'static [u8] {
    // SAFETY: RAM of this board that the linker gives to nobody and that nothing writes after the reset.
    unsafe { core::slice::from_raw_parts(STIMULUS as *const u8, STIMULUS_BYTES - IDENTITY_BYTES) }
}

/// What stands for the part's unique id, its random number generator and the strap that says whether other nodes share
/// the line: 0 where nothing was loaded.
pub fn identity() -> (u64, u32, Wiring) {
    let word = |at: usize| Register(STIMULUS + STIMULUS_BYTES - IDENTITY_BYTES + at).read();
    let id = u64::from(word(4)) << 32 | u64::from(word(0));
    (id, word(8), strapped(word(12) == 1))
}

/// The CMSDK watchdog (Arm DDI 0479, section 4.6): a warning when it was not fed for [`Watchdog::SECONDS`],
/// and the reset after as long again.
#[derive(Clone, Copy, Debug)]
pub struct Watchdog;

impl Watchdog {
    /// Until the warning, and from there to the reset.
    pub const SECONDS: u32 = 2;
    const LOAD: Register = Register(0x4000_8000);
    const CONTROL: Register = Register(0x4000_8008);
    const FEED: Register = Register(0x4000_800C);

    /// From here on it must be fed.
    pub fn start(self) {
        Self::LOAD.write(CLOCK_HZ * Self::SECONDS);
        Self::CONTROL.write(0b11);
    }

    /// All is well.
    pub fn feed(self) {
        Self::FEED.write(1);
    }
}

/// The watchdog's warning: nothing brings this life back. The reset follows by itself.
#[cortex_m_rt::exception]
unsafe fn NonMaskableInt() -> ! {
    life::end(End::Watchdog, 0);
    loop {
        cortex_m::asm::nop();
    }
}
