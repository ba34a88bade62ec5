//! ST IIS3DWB: three axes of acceleration, flat from 5 Hz to 6.3 kHz, 26.7 kHz each, over SPI.
//!
//! A driver on embedded-hal 1.0 that knows nothing of this project but its name for a sensor: [`Iis3dwb`] is the
//! part, [`Axes`] makes it a [`Sensor`]. Register names, addresses and values are those of the vendor's
//! register header (`iis3dwb_reg.h`); sensitivities and times are the part's data sheet's (DS12569).
//!
//! The part samples by itself into a FIFO of 512 words of seven bytes, one sample of three axes each: 19 ms. Read
//! it at least every 10 ms. What it could not keep is told by it (`FIFO_OVR_IA`), not how much; the caller's
//! clock says that.

use super::{Axis, Batch, Missed, Sensor};
use embedded_hal::delay::DelayNs;
use embedded_hal::spi::{Operation, SpiDevice};
use trunnion_common::time::NodeTicks;

/// Nominal sample rate, millihertz; a part is up to a few percent off, so measure it.
pub const RATE_MHZ: u32 = 26_667_000;

/// Words in its FIFO.
pub const FIFO_WORDS: usize = 512;

/// Bytes of a word: its tag, and three axes.
const WORD_BYTES: usize = 7;

/// Words read in one transfer.
const BURST_WORDS: usize = 32;

/// Registers.
mod register {
    pub(super) const FIFO_CTRL3: u8 = 0x09;
    pub(super) const FIFO_CTRL4: u8 = 0x0A;
    pub(super) const WHO_AM_I: u8 = 0x0F;
    pub(super) const CTRL1_XL: u8 = 0x10;
    pub(super) const CTRL3_C: u8 = 0x12;
    pub(super) const CTRL4_C: u8 = 0x13;
    pub(super) const CTRL5_C: u8 = 0x14;
    pub(super) const CTRL8_XL: u8 = 0x17;
    pub(super) const STATUS_REG: u8 = 0x1E;
    pub(super) const OUT_TEMP_L: u8 = 0x20;
    pub(super) const OUTX_L_A: u8 = 0x28;
    pub(super) const FIFO_STATUS1: u8 = 0x3A;
    pub(super) const FIFO_DATA_OUT_TAG: u8 = 0x78;
}

/// What `WHO_AM_I` reads.
const IDENTITY: u8 = 0x7B;

/// `CTRL1_XL`: `XL_EN` = 101, sampling at 26.7 kHz.
const SAMPLING: u8 = 0b1010_0000;

/// `CTRL3_C`: `BDU` and `IF_INC`.
const WHOLE_VALUES: u8 = 0b0100_0100;
const SOFTWARE_RESET: u8 = 0b0000_0001;

/// `CTRL4_C`: `I2C_disable`.
const SPI_ONLY: u8 = 0b0000_0100;

/// `FIFO_CTRL3`: `BDR_XL` = 1010, every sample.
const BATCH_ALL: u8 = 0b1010;

/// `FIFO_CTRL4`: `FIFO_MODE`: 000 empties it, 110 overwrites the oldest.
const BYPASS: u8 = 0b000;
const CONTINUOUS: u8 = 0b110;

/// `FIFO_DATA_OUT_TAG`: a sample of acceleration, in the upper five bits.
const ACCELERATION: u8 = 0x02;

/// `FIFO_STATUS2`: it was full and the oldest samples are gone.
const OVERRUN: u8 = 0b0100_0000;

/// Time to the first sample after power-on and a reset, milliseconds (with room).
const BOOT_MS: u32 = 15;

/// Full scale.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Range {
    /// 2 g.
    G2,
    /// 4 g.
    G4,
    /// 8 g.
    G8,
    /// 16 g.
    G16,
}

impl Range {
    /// `FS[1:0]_XL`: not in order.
    const fn bits(self) -> u8 {
        (match self {
            Self::G2 => 0b00,
            Self::G16 => 0b01,
            Self::G4 => 0b10,
            Self::G8 => 0b11,
        }) << 2
    }

    /// Full scale of 16 bits, g: the sensitivity (0.061 mg at 2 g) times 32,768.
    pub const fn full_scale_g(self) -> f32 {
        let mg = match self {
            Self::G2 => 0.061,
            Self::G4 => 0.122,
            Self::G8 => 0.244,
            Self::G16 => 0.488,
        };
        mg * 32.768
    }
}

/// Why the part cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error<E> {
    /// The bus failed.
    Bus(E),
    /// Somebody else answers, or nobody: this is what `WHO_AM_I` reads.
    Identity(u8),
    /// It stays in reset.
    Reset,
    /// Its own force moved this axis by so many least significant bits, which is too little or too much.
    SelfTest {
        /// 0 is x.
        axis: u8,
        /// By how much, at [`Range::G4`].
        moved: i32,
    },
}

impl<E> From<E> for Error<E> {
    fn from(error: E) -> Self {
        Self::Bus(error)
    }
}

/// What the FIFO gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drained {
    /// Samples written.
    pub samples: usize,
    /// Samples were lost before these.
    pub is_overrun: bool,
    /// Samples that waited, these among them.
    pub waiting: usize,
}

/// The part, sampling.
#[derive(Debug)]
pub struct Iis3dwb<S> {
    bus: S,
    range: Range,
}

impl<S: SpiDevice> Iis3dwb<S> {
    /// Resets the part, sets it up and lets it sample. The bus is in mode 0 or 3 and at most 10 MHz.
    pub fn new(bus: S, range: Range, delay: &mut impl DelayNs) -> Result<Self, Error<S::Error>> {
        let mut part = Self { bus, range };
        delay.delay_ms(BOOT_MS);
        let identity = part.read_register(register::WHO_AM_I)?;
        if identity != IDENTITY {
            return Err(Error::Identity(identity));
        }
        part.write_register(register::CTRL3_C, SOFTWARE_RESET)?;
        delay.delay_ms(BOOT_MS);
        if part.read_register(register::CTRL3_C)? & SOFTWARE_RESET != 0 {
            return Err(Error::Reset);
        }
        part.write_register(register::CTRL3_C, WHOLE_VALUES)?;
        part.write_register(register::CTRL4_C, SPI_ONLY)?;
        // Low-pass at a quarter of the rate: the part's whole bandwidth.
        part.write_register(register::CTRL8_XL, 0)?;
        part.write_register(register::FIFO_CTRL3, BATCH_ALL)?;
        part.write_register(register::CTRL1_XL, SAMPLING | range.bits())?;
        delay.delay_ms(BOOT_MS);
        part.empty()?;
        Ok(part)
    }

    /// Full scale.
    pub const fn range(&self) -> Range {
        self.range
    }

    /// Throws away what the FIFO holds.
    pub fn empty(&mut self) -> Result<(), Error<S::Error>> {
        self.write_register(register::FIFO_CTRL4, BYPASS)?;
        self.write_register(register::FIFO_CTRL4, CONTINUOUS)
    }

    /// Takes the oldest samples of the FIFO, three axes each.
    pub fn drain(&mut self, out: &mut [[i16; 3]]) -> Result<Drained, Error<S::Error>> {
        let mut status = [0; 2];
        self.read(register::FIFO_STATUS1, &mut status)?;
        let waiting = usize::from(status[0]) | usize::from(status[1] & 0b11) << 8;
        let taken = waiting.min(out.len());
        let mut samples = 0;
        let mut words = [0; BURST_WORDS * WORD_BYTES];
        let mut left = taken;
        while left > 0 {
            let part = left.min(BURST_WORDS);
            let words = &mut words[..part * WORD_BYTES];
            // The address returns to the tag after each word.
            self.read(register::FIFO_DATA_OUT_TAG, words)?;
            for word in words.as_chunks::<WORD_BYTES>().0 {
                if word[0] >> 3 == ACCELERATION {
                    out[samples] = axes([word[1], word[2], word[3], word[4], word[5], word[6]]);
                    samples += 1;
                }
            }
            left -= part;
        }
        Ok(Drained {
            samples,
            is_overrun: status[1] & OVERRUN != 0,
            waiting,
        })
    }

    /// Its own temperature, degrees Celsius (256 a degree, 0 at 25).
    pub fn temperature(&mut self) -> Result<f32, Error<S::Error>> {
        let mut bytes = [0; 2];
        self.read(register::OUT_TEMP_L, &mut bytes)?;
        Ok(25.0 + f32::from(i16::from_le_bytes(bytes)) / 256.0)
    }

    /// Moves the mass by the part's own force, and looks whether the axes follow
    /// by 800 to 3,200 mg, in either direction. The machine should stand still. Sampling goes on afterwards
    /// as before, with an empty FIFO.
    pub fn self_test(&mut self, delay: &mut impl DelayNs) -> Result<(), Error<S::Error>> {
        self.write_register(register::CTRL1_XL, SAMPLING | Range::G4.bits())?;
        let outcome = self.try_self_test(delay);
        self.write_register(register::CTRL5_C, 0)?;
        self.write_register(register::CTRL1_XL, SAMPLING | self.range.bits())?;
        delay.delay_ms(BOOT_MS);
        self.empty()?;
        outcome
    }

    fn try_self_test(&mut self, delay: &mut impl DelayNs) -> Result<(), Error<S::Error>> {
        /// At 4 g, 0.122 mg each.
        const MOVED: core::ops::RangeInclusive<i32> = 6_557..=26_230;
        /// `ST[1:0]_XL`.
        const POSITIVE: u8 = 0b01;
        const NEGATIVE: u8 = 0b10;
        delay.delay_ms(BOOT_MS);
        let rest = self.mean(delay)?;
        for sign in [POSITIVE, NEGATIVE] {
            self.write_register(register::CTRL5_C, sign)?;
            delay.delay_ms(BOOT_MS);
            let pushed = self.mean(delay)?;
            for (axis, (pushed, rest)) in (0..).zip(pushed.into_iter().zip(rest)) {
                let moved = (pushed - rest).abs();
                if !MOVED.contains(&moved) {
                    return Err(Error::SelfTest { axis, moved });
                }
            }
        }
        Ok(())
    }

    /// Of five samples a millisecond apart; one that is not ready stays the one before.
    fn mean(&mut self, delay: &mut impl DelayNs) -> Result<[i32; 3], Error<S::Error>> {
        const COUNT: i32 = 5;
        let mut sums = [0; 3];
        for _ in 0..COUNT {
            delay.delay_ms(1);
            let _ready = self.read_register(register::STATUS_REG)?;
            let mut bytes = [0; 6];
            self.read(register::OUTX_L_A, &mut bytes)?;
            for (sum, value) in sums.iter_mut().zip(axes(bytes)) {
                *sum += i32::from(value);
            }
        }
        Ok(sums.map(|sum| sum / COUNT))
    }

    fn read_register(&mut self, register: u8) -> Result<u8, Error<S::Error>> {
        let mut byte = [0];
        self.read(register, &mut byte)?;
        Ok(byte[0])
    }

    /// Bit 7 of the address says that it is a reading.
    fn read(&mut self, register: u8, bytes: &mut [u8]) -> Result<(), Error<S::Error>> {
        let address = [register | 0x80];
        Ok(self
            .bus
            .transaction(&mut [Operation::Write(&address), Operation::Read(bytes)])?)
    }

    fn write_register(&mut self, register: u8, value: u8) -> Result<(), Error<S::Error>> {
        Ok(self.bus.write(&[register, value])?)
    }
}

fn axes([x0, x1, y0, y1, z0, z1]: [u8; 6]) -> [i16; 3] {
    [[x0, x1], [y0, y1], [z0, z1]].map(i16::from_le_bytes)
}

/// Axes of the part as channels.
#[derive(Debug)]
pub struct Axes<S, const AXES: usize> {
    part: Iis3dwb<S>,
    order: [Axis; AXES],
    /// Nanoseconds from sample to sample.
    period_ns: u64,
    /// When the next sample is due; nothing before the first.
    due: Option<NodeTicks>,
    is_faulty: bool,
}

impl<S: SpiDevice, const AXES: usize> Axes<S, AXES> {
    /// These axes, in this order, of a part that samples at `rate_mhz`.
    pub const fn new(part: Iis3dwb<S>, order: [Axis; AXES], rate_mhz: core::num::NonZeroU32) -> Self {
        Self {
            part,
            order,
            period_ns: 1_000_000_000_000 / rate_mhz.get() as u64,
            due: None,
            is_faulty: false,
        }
    }

    /// The part, for its self-test.
    pub const fn part(&mut self) -> &mut Iis3dwb<S> {
        &mut self.part
    }

    /// Samples from when the next one was due to `upto`.
    fn owed(&self, upto: NodeTicks) -> u64 {
        self.due
            .map_or(0, |due| upto.micros_since(due) * 1_000 / self.period_ns)
    }

    fn micros(&self, samples: usize) -> u64 {
        samples as u64 * self.period_ns / 1_000
    }

    /// Fills `out` as far as there are samples.
    fn fill(&mut self, out: &mut [[i16; AXES]]) -> Result<Drained, Error<S::Error>> {
        if core::mem::replace(&mut self.is_faulty, false) {
            // What is in the FIFO has been booked as missed.
            self.part.empty()?;
        }
        let mut all: Option<Drained> = None;
        let mut words = [[0; 3]; BURST_WORDS];
        loop {
            let taken = all.map_or(0, |all| all.samples);
            let room = (out.len() - taken).min(BURST_WORDS);
            let drained = self.part.drain(&mut words[..room])?;
            for (sample, word) in out[taken..].iter_mut().zip(&words[..drained.samples]) {
                *sample = self.order.map(|axis| axis.of(*word));
            }
            let sum = all.get_or_insert(Drained {
                samples: 0,
                ..drained
            });
            sum.samples += drained.samples;
            sum.is_overrun |= drained.is_overrun;
            if sum.samples == out.len() || drained.waiting <= room {
                return Ok(*sum);
            }
        }
    }
}

/// How far a sample's time may be from what the clock says before it is set anew, microseconds: a few words more
/// or less are in the FIFO when it is read.
const SLACK_MICROS: u64 = 1_000;

impl<S: SpiDevice, const AXES: usize> Sensor<AXES> for Axes<S, AXES> {
    fn set_rate(&mut self, rate_mhz: core::num::NonZeroU32) {
        self.period_ns = 1_000_000_000_000 / u64::from(rate_mhz.get());
    }

    fn read(&mut self, now: NodeTicks, out: &mut [[i16; AXES]]) -> Batch {
        let Ok(drained) = self.fill(out) else {
            // Whatever was taken before the bus failed is among what is owed.
            self.is_faulty = true;
            let owed = self.owed(now);
            let due = self.due.get_or_insert(now);
            *due = due.plus_micros(owed * self.period_ns / 1_000);
            return Batch {
                missed: (owed > 0).then_some((owed, Missed::Fault)),
                taken: 0,
                first: now,
            };
        };
        let by_clock = NodeTicks(now.0.saturating_sub(self.micros(drained.waiting)));
        let missed = if drained.is_overrun {
            self.owed(by_clock)
        } else {
            0
        };
        // Samples follow one another at the nominal rate, until that and the clock disagree.
        let first = match self.due {
            Some(due) if missed == 0 && due.0.abs_diff(by_clock.0) <= SLACK_MICROS => due,
            _ => by_clock,
        };
        self.due = Some(first.plus_micros(self.micros(drained.samples)));
        Batch {
            missed: (missed > 0).then_some((missed, Missed::Overrun)),
            taken: drained.samples,
            first,
        }
    }
}

#[cfg(test)]
pub(crate) mod model {
    use super::*;
    use embedded_hal::spi::{ErrorKind, ErrorType};
    use std::collections::VecDeque;

    /// The part by its data sheet, as far as the driver looks at it.
    #[derive(Debug)]
    pub(crate) struct Part {
        pub(super) registers: [u8; 128],
        fifo: VecDeque<[i16; 3]>,
        is_overrun: bool,
        /// At rest, in least significant bits of the full scale.
        rest: [i16; 3],
        /// What its own force does, at 4 g.
        pub(super) push: i16,
        pub(crate) is_dead: bool,
        pub(super) resets: u32,
    }

    impl Part {
        pub(crate) fn new() -> Self {
            let mut registers = [0; 128];
            registers[usize::from(register::WHO_AM_I)] = IDENTITY;
            Self {
                registers,
                fifo: VecDeque::new(),
                is_overrun: false,
                rest: [0, 0, 8_197],
                push: 12_000,
                is_dead: false,
                resets: 0,
            }
        }

        /// The machine moves for so many samples.
        pub(crate) fn sample(&mut self, samples: impl Iterator<Item = [i16; 3]>) {
            let is_sampling = self.registers[usize::from(register::CTRL1_XL)] >> 5 == 0b101;
            let is_batching = self.registers[usize::from(register::FIFO_CTRL3)] & 0xF == BATCH_ALL
                && self.registers[usize::from(register::FIFO_CTRL4)] & 0b111 == CONTINUOUS;
            for sample in samples.filter(|_| is_sampling && is_batching) {
                if self.fifo.len() == FIFO_WORDS {
                    self.fifo.pop_front();
                    self.is_overrun = true;
                }
                self.fifo.push_back(sample);
            }
        }

        fn write(&mut self, address: u8, value: u8) {
            if address == register::CTRL3_C && value & SOFTWARE_RESET != 0 {
                *self = Self {
                    resets: self.resets + 1,
                    ..Self::new()
                };
                return;
            }
            if address == register::FIFO_CTRL4 && value & 0b111 == BYPASS {
                self.fifo.clear();
                self.is_overrun = false;
            }
            self.registers[usize::from(address)] = value;
        }

        fn read(&mut self, address: u8, bytes: &mut [u8]) {
            match address {
                register::FIFO_STATUS1 => {
                    let count = self.fifo.len() as u16;
                    let overrun = if core::mem::take(&mut self.is_overrun) {
                        OVERRUN
                    } else {
                        0
                    };
                    bytes.copy_from_slice(&[count as u8, (count >> 8) as u8 | overrun]);
                }
                register::FIFO_DATA_OUT_TAG => {
                    for word in bytes.chunks_exact_mut(WORD_BYTES) {
                        let sample = self.fifo.pop_front().expect("no more is read than there is");
                        word[0] = ACCELERATION << 3 | 0b101;
                        for (bytes, value) in word[1..].chunks_exact_mut(2).zip(sample) {
                            bytes.copy_from_slice(&value.to_le_bytes());
                        }
                    }
                }
                register::OUTX_L_A => {
                    let push = match self.registers[usize::from(register::CTRL5_C)] & 0b11 {
                        0b01 => self.push,
                        0b10 => -self.push,
                        _ => 0,
                    };
                    for (bytes, value) in bytes.chunks_exact_mut(2).zip(self.rest) {
                        bytes.copy_from_slice(&(value + push).to_le_bytes());
                    }
                }
                _ => {
                    let at = usize::from(address);
                    bytes.copy_from_slice(&self.registers[at..at + bytes.len()]);
                }
            }
        }
    }

    impl ErrorType for &mut Part {
        type Error = ErrorKind;
    }

    impl SpiDevice for &mut Part {
        fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), ErrorKind> {
            self.answer(operations)
        }
    }

    /// The part on a bus that the test looks at, too.
    #[derive(Debug)]
    pub(crate) struct Shared<'a>(pub(crate) &'a core::cell::RefCell<Part>);

    impl ErrorType for Shared<'_> {
        type Error = ErrorKind;
    }

    impl SpiDevice for Shared<'_> {
        fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), ErrorKind> {
            self.0.borrow_mut().answer(operations)
        }
    }

    impl Part {
        fn answer(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), ErrorKind> {
            if self.is_dead {
                return Err(ErrorKind::Other);
            }
            match operations {
                [Operation::Write([address, value])] if address & 0x80 == 0 => {
                    Part::write(self, *address, *value);
                }
                [Operation::Write([address]), Operation::Read(bytes)] if address & 0x80 != 0 => {
                    Part::read(self, address & 0x7F, bytes);
                }
                _ => panic!("the part knows no such transfer"),
            }
            Ok(())
        }
    }

    pub(crate) struct NoDelay;

    impl DelayNs for NoDelay {
        fn delay_ns(&mut self, _ns: u32) {}
    }
}

#[cfg(test)]
mod tests {
    use super::model::{NoDelay, Part};
    use super::*;
    use core::num::NonZeroU32;
    use embedded_hal::spi::ErrorKind;

    const RATE: NonZeroU32 = NonZeroU32::new(RATE_MHZ).unwrap();

    fn started(part: &mut Part) -> Iis3dwb<&mut Part> {
        Iis3dwb::new(part, Range::G16, &mut NoDelay).unwrap()
    }

    #[test]
    fn the_part_is_reset_and_samples_at_full_rate_and_scale() {
        let mut part = Part::new();
        let range = started(&mut part).range();
        assert!((range.full_scale_g() - 16.0).abs() < 0.01);
        assert_eq!(part.resets, 1);
        assert_eq!(part.registers[usize::from(register::CTRL1_XL)], 0b1010_0100);
        assert_eq!(part.registers[usize::from(register::CTRL3_C)], 0x44);
    }

    #[test]
    fn another_part_or_none_is_not_taken_for_this_one() {
        let mut part = Part::new();
        part.registers[usize::from(register::WHO_AM_I)] = 0x6B;
        let found = Iis3dwb::new(&mut part, Range::G2, &mut NoDelay).unwrap_err();
        assert_eq!(found, Error::Identity(0x6B));
        part.is_dead = true;
        let found = Iis3dwb::new(&mut part, Range::G2, &mut NoDelay).unwrap_err();
        assert_eq!(found, Error::Bus(ErrorKind::Other));
    }

    #[test]
    fn the_self_test_tells_a_mass_that_moves_from_one_that_sticks() {
        let mut part = Part::new();
        let mut driver = started(&mut part);
        assert_eq!(driver.self_test(&mut NoDelay), Ok(()));
        driver.bus.push = 20;
        assert_eq!(
            driver.self_test(&mut NoDelay),
            Err(Error::SelfTest { axis: 0, moved: 20 })
        );
        assert_eq!(
            part.registers[usize::from(register::CTRL5_C)],
            0,
            "it is off again"
        );
        assert_eq!(part.registers[usize::from(register::CTRL1_XL)], 0b1010_0100);
    }

    #[test]
    fn axes_give_their_samples_in_order_and_their_times() {
        let mut part = Part::new();
        let mut axes = Axes::new(started(&mut part), [Axis::Z, Axis::X, Axis::Y], RATE);
        axes.part.bus.sample((0..300).map(|at| [-1, 1, at]));
        let mut out = [[0; 3]; 256];
        // 300 samples at 26.667 kHz are 11,250 us.
        let now = NodeTicks(1_000_000);
        let batch = axes.read(now, &mut out);
        assert_eq!((batch.taken, batch.missed), (256, None));
        assert!(out.iter().copied().eq((0..256).map(|at| [at, -1, 1])));
        let batch = axes.read(now, &mut out);
        assert_eq!((batch.taken, batch.missed), (44, None));
        assert!(out[..44].iter().copied().eq((256..300).map(|at| [at, -1, 1])));
    }

    #[test]
    fn what_the_fifo_could_not_keep_is_booked_by_the_clock() {
        let mut part = Part::new();
        let mut axis = Axes::new(started(&mut part), [Axis::X], RATE);
        let mut out = [[0]; 600];
        axis.part.bus.sample((0..267).map(|at| [at, 0, 0]));
        assert_eq!(axis.read(NodeTicks(10_000), &mut out).taken, 267);
        // 40 ms are 1,067 samples, of which the FIFO has the last 512.
        axis.part.bus.sample((0..1_067).map(|at| [at, 0, 0]));
        let batch = axis.read(NodeTicks(50_000), &mut out);
        assert_eq!((batch.taken, out[0]), (512, [555]));
        let Some((missed, Missed::Overrun)) = batch.missed else {
            panic!("{batch:?}");
        };
        assert!(missed.abs_diff(555) <= 1, "{missed}");
    }

    #[test]
    fn a_part_that_does_not_answer_owes_its_samples_until_it_does() {
        let mut part = Part::new();
        let mut axis = Axes::new(started(&mut part), [Axis::Z], RATE);
        let mut out = [[0]; 256];
        axis.part.bus.sample((0..100).map(|_| [0; 3]));
        axis.read(NodeTicks(10_000), &mut out);
        axis.part.bus.is_dead = true;
        let mut owed = 0;
        for millisecond in 11..=110 {
            let batch = axis.read(NodeTicks(millisecond * 1_000), &mut out);
            assert_eq!(batch.taken, 0);
            owed += batch.missed.map_or(0, |(count, cause)| {
                assert_eq!(cause, Missed::Fault);
                count
            });
        }
        assert!(u64::abs_diff(owed, 2_667) <= 3, "{owed}");
        axis.part.bus.is_dead = false;
        axis.part.bus.sample((0..10).map(|at| [0, 0, at]));
        assert_eq!(
            axis.read(NodeTicks(110_100), &mut out).taken,
            0,
            "what was owed is not given"
        );
        axis.part.bus.sample((0..10).map(|at| [0, 0, at]));
        assert_eq!(axis.read(NodeTicks(110_500), &mut out).taken, 10);
    }
}
