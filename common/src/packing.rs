//! Waveforms in fewer bytes: each sample is predicted from those before it, and what the prediction leaves is
//! written with as few bits as it needs. Nothing is lost.
//!
//! As lossless audio coders have it (J. Makhoul, "Linear prediction: a tutorial review", *Proc. IEEE* 63, 1975;
//! R. F. Rice, *Some Practical Universal Noiseless Coding Techniques*, JPL 79-22, 1979; RFC 9639). A piece
//! stands for itself: no frame needs the one before it.
//!
//! | field | bits | meaning |
//! |---|---|---|
//! | order | 5 | number of coefficients, at most [`ORDER_MAX`] |
//! | shift | 4 | the coefficients are worth 2^-shift |
//! | start | 5 | the parameter that the code begins with |
//! | coefficients | 12 each | two's complement, the newest sample's first |
//! | samples | | what is left of each, by the adaptive code below |
//! | fill | 0-7 | zeros up to the next byte |
//!
//! Bits are written from the highest of a byte down. The prediction of a sample is the sum of coefficient times
//! sample over as many samples before it, times 2^-shift, rounded (halves up) and held to 16 bits; before there
//! are that many it is the sample before it, and of the first one 0. The rest `r` is folded
//! to `u = 2r`, or `-2r - 1` below 0, and written with the Rice parameter `k`: `u >> k` ones, a zero, the low
//! `k` bits of `u`; from [`ESCAPE`] ones on no zero follows, but 17 bits of `u`.
//! `k` follows the samples: a running sum `s` of `u` over some sixteen of them starts at `16 << start` and
//! becomes `s - s / 16 + u`; `k` is the whole part of the binary logarithm of `s / 16 * 11 / 16`, at least 0.

use heapless::Vec;

/// Most samples of a piece.
pub const SAMPLES_MAX: usize = 1_024;

/// Most coefficients of a prediction.
pub const ORDER_MAX: usize = 16;

/// Ones of a code at which the value is written out.
pub const ESCAPE: u32 = 20;

/// Bits of a coefficient.
const COEFFICIENT_BITS: u32 = 12;

/// Bits of a value that is written out: two samples are at most 65,535 apart.
const VALUE_BITS: u32 = 17;

/// What of the samples fits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packed {
    /// How many samples, from the first one on.
    pub samples: usize,
    /// Bytes written.
    pub bytes: usize,
}

/// The bytes are no packed samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// Packs as many of `samples` (of the first [`SAMPLES_MAX`]) into `out` as fit.
pub fn pack(samples: &[i16], out: &mut [u8]) -> Packed {
    let samples = &samples[..samples.len().min(SAMPLES_MAX)];
    let predictor = Predictor::of(samples);
    let mut bits = Writer { out, bits: 0 };
    let start = predictor.start(samples);
    let mut code = Code::new(start);
    let is_headed = bits.put(predictor.order() as u32, 5)
        && bits.put(predictor.shift, 4)
        && bits.put(start, 5)
        && predictor
            .coefficients
            .iter()
            .all(|coefficient| bits.put(*coefficient as u32 & 0xFFF, COEFFICIENT_BITS));
    let mut taken = 0;
    if is_headed {
        while taken < samples.len() {
            let rest = i32::from(samples[taken]) - predictor.predict(&samples[..taken]);
            if !code.write(fold(rest), &mut bits) {
                break;
            }
            taken += 1;
        }
    }
    Packed {
        samples: taken,
        bytes: if taken == 0 { 0 } else { bits.bits.div_ceil(8) },
    }
}

/// The `count` samples of `bytes`, which hold them and nothing else.
pub fn unpack(bytes: &[u8], count: usize) -> Result<Vec<i16, SAMPLES_MAX>, Malformed> {
    if count > SAMPLES_MAX || count == 0 {
        return Err(Malformed);
    }
    let mut bits = Reader { bytes, at: 0 };
    let (order, shift, start) = (bits.take(5)?, bits.take(4)?, bits.take(5)?);
    if order as usize > ORDER_MAX {
        return Err(Malformed);
    }
    let mut predictor = Predictor {
        coefficients: Vec::new(),
        shift,
    };
    for _ in 0..order {
        let raw = bits.take(COEFFICIENT_BITS)?;
        // The highest of its bits is its sign.
        let coefficient = ((raw << 20) as i32 >> 20) as i16;
        predictor.coefficients.push(coefficient).map_err(|_| Malformed)?;
    }
    let mut code = Code::new(start);
    let mut samples = Vec::new();
    for _ in 0..count {
        let rest = unfold(code.read(&mut bits)?);
        let sample = predictor.predict(&samples) + rest;
        let sample = i16::try_from(sample).map_err(|_| Malformed)?;
        samples.push(sample).map_err(|_| Malformed)?;
    }
    if bits.is_all_taken() {
        Ok(samples)
    } else {
        Err(Malformed)
    }
}

/// How a sample follows from those before it.
#[derive(Clone, PartialEq, Debug)]
struct Predictor {
    coefficients: Vec<i16, ORDER_MAX>,
    shift: u32,
}

impl Predictor {
    /// The one that fits `samples`: it is chosen in single precision, where another choice costs bits and
    /// nothing else.
    fn of(samples: &[i16]) -> Self {
        let none = Self {
            coefficients: Vec::new(),
            shift: 0,
        };
        let Some(correlation) = autocorrelation(samples) else {
            return none;
        };
        // Levinson and Durbin's recursion; the order with the fewest bits in all is kept.
        let (mut model, mut best) = ([0f32; ORDER_MAX], [0f32; ORDER_MAX]);
        let (mut error, mut best_order) = (correlation[0], 0);
        let mut fewest = f32::INFINITY;
        for order in 1..=ORDER_MAX {
            let mut reflection = correlation[order];
            for (weight, lag) in model[..order - 1].iter().zip((1..order).rev()) {
                reflection -= weight * correlation[lag];
            }
            reflection /= error;
            let former = model;
            model[order - 1] = reflection;
            for (at, weight) in model[..order - 1].iter_mut().enumerate() {
                *weight = former[at] - reflection * former[order - 2 - at];
            }
            error *= 1.0 - reflection * reflection;
            if !(error > 0.0 && error.is_finite()) {
                break;
            }
            let bits =
                0.5 * samples.len() as f32 * libm::log2f(error) + (order as u32 * COEFFICIENT_BITS) as f32;
            if bits < fewest {
                (fewest, best_order, best) = (bits, order, model);
            }
        }
        Self::quantised(&best[..best_order])
    }

    /// With coefficients of [`COEFFICIENT_BITS`], as many of them below the point as the largest allows.
    fn quantised(model: &[f32]) -> Self {
        let largest = model
            .iter()
            .fold(0f32, |largest, weight| largest.max(libm::fabsf(*weight)));
        let most = ((1 << (COEFFICIENT_BITS - 1)) - 1) as f32;
        let mut shift = 15;
        while shift > 0 && largest * (1u32 << shift) as f32 > most {
            shift -= 1;
        }
        let unit = (1u32 << shift) as f32;
        // What rounding takes from one coefficient is given to the next.
        let mut carried = 0.0;
        let round = |weight: &f32| {
            let wanted = weight * unit + carried;
            let kept = libm::roundf(wanted).clamp(-most, most);
            carried = wanted - kept;
            kept as i16
        };
        Self {
            coefficients: model.iter().map(round).collect(),
            shift,
        }
    }

    fn order(&self) -> usize {
        self.coefficients.len()
    }

    fn predict(&self, before: &[i16]) -> i32 {
        let Some(known) = before.len().checked_sub(self.order()) else {
            return before.last().map_or(0, |last| i32::from(*last));
        };
        if self.order() == 0 {
            return before.last().map_or(0, |last| i32::from(*last));
        }
        let terms = self.coefficients.iter().zip(before[known..].iter().rev());
        // Sixteen products of 12 and 16 bits have 31 and the sign.
        let sum: i32 = terms
            .map(|(weight, sample)| i32::from(*weight) * i32::from(*sample))
            .sum();
        ((sum + self.half()) >> self.shift).clamp(i32::from(i16::MIN), i32::from(i16::MAX))
    }

    /// Half of what the shift makes one.
    const fn half(&self) -> i32 {
        (1 << self.shift) >> 1
    }

    /// The parameter to begin with: of what is left of the first samples.
    fn start(&self, samples: &[i16]) -> u32 {
        let first = samples.len().min(64);
        let sum: u32 = (0..first)
            .map(|at| fold(i32::from(samples[at]) - self.predict(&samples[..at])))
            .sum();
        parameter(sum / first.max(1) as u32 * 16).min(16)
    }
}

/// Of `samples` about their mean, tapered at both ends, at lags of 0 to [`ORDER_MAX`]; nothing when they are too
/// few to tell, or do not move.
fn autocorrelation(samples: &[i16]) -> Option<[f32; ORDER_MAX + 1]> {
    if samples.len() < 4 * ORDER_MAX {
        return None;
    }
    let taper = samples.len() / 8;
    let mut correlation = [0f32; ORDER_MAX + 1];
    let mut recent = [0f32; ORDER_MAX + 1];
    for (at, sample) in samples.iter().enumerate() {
        let edge = (at + 1).min(samples.len() - at);
        let weight = if edge < taper {
            edge as f32 / taper as f32
        } else {
            1.0
        };
        recent.copy_within(..ORDER_MAX, 1);
        recent[0] = weight * f32::from(*sample);
        for (sum, value) in correlation.iter_mut().zip(&recent) {
            *sum += recent[0] * value;
        }
    }
    // A floor of white noise far below a least significant bit keeps the recursion stable.
    correlation[0] = correlation[0] * (1.0 + 1e-7) + 1.0;
    (correlation[0] > 2.0).then_some(correlation)
}

/// The adaptive code.
struct Code {
    sum: u32,
}

impl Code {
    const fn new(start: u32) -> Self {
        // No value has more than 17 bits; whatever else a head says is as good as that.
        let start = if start > VALUE_BITS { VALUE_BITS } else { start };
        Self { sum: 16 << start }
    }

    const fn take_note(&mut self, value: u32) {
        self.sum = self.sum - self.sum / 16 + value;
    }

    /// Whether there was room.
    fn write(&mut self, value: u32, bits: &mut Writer<'_>) -> bool {
        let k = parameter(self.sum);
        let ones = value >> k;
        let is_written = if ones < ESCAPE {
            let low = value & ((1 << k) - 1);
            bits.has_room(ones + 1 + k) && bits.put((1 << (ones + 1)) - 2, ones + 1) && bits.put(low, k)
        } else {
            let escape = ESCAPE + VALUE_BITS;
            bits.has_room(escape) && bits.put((1 << ESCAPE) - 1, ESCAPE) && bits.put(value, VALUE_BITS)
        };
        self.take_note(value);
        is_written
    }

    fn read(&mut self, bits: &mut Reader<'_>) -> Result<u32, Malformed> {
        let k = parameter(self.sum);
        let mut ones = 0;
        while ones < ESCAPE && bits.take(1)? == 1 {
            ones += 1;
        }
        let value = if ones < ESCAPE {
            ones << k | bits.take(k)?
        } else {
            bits.take(VALUE_BITS)?
        };
        if value >= 1 << VALUE_BITS {
            return Err(Malformed);
        }
        self.take_note(value);
        Ok(value)
    }
}

/// The Rice parameter for values whose running sum over sixteen is `sum`.
const fn parameter(sum: u32) -> u32 {
    let scaled = (sum / 16 * 11) / 16;
    if scaled == 0 { 0 } else { scaled.ilog2() }
}

/// Small on either side of 0 becomes small.
const fn fold(rest: i32) -> u32 {
    (rest << 1 ^ rest >> 31) as u32
}

const fn unfold(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

struct Writer<'a> {
    out: &'a mut [u8],
    bits: usize,
}

impl Writer<'_> {
    fn has_room(&self, count: u32) -> bool {
        self.bits + count as usize <= 8 * self.out.len()
    }

    /// Writes the low `count` bits; whether there was room.
    fn put(&mut self, value: u32, count: u32) -> bool {
        if !self.has_room(count) {
            return false;
        }
        let mut left = count;
        while left > 0 {
            let (byte, used) = (self.bits / 8, (self.bits % 8) as u32);
            let part = left.min(8 - used);
            let chunk = (value >> (left - part)) & ((1 << part) - 1);
            let old = if used == 0 { 0 } else { self.out[byte] };
            self.out[byte] = old | (chunk << (8 - used - part)) as u8;
            self.bits += part as usize;
            left -= part;
        }
        true
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, count: u32) -> Result<u32, Malformed> {
        let mut value = 0;
        let mut left = count;
        while left > 0 {
            let byte = *self.bytes.get(self.at / 8).ok_or(Malformed)?;
            let used = (self.at % 8) as u32;
            let part = left.min(8 - used);
            let chunk = u32::from(byte) >> (8 - used - part) & ((1 << part) - 1);
            value = value << part | chunk;
            self.at += part as usize;
            left -= part;
        }
        Ok(value)
    }

    /// Whether nothing follows but the fill.
    fn is_all_taken(&self) -> bool {
        let fill = (8 - self.at % 8) % 8;
        let is_zero = fill == 0 || self.bytes[self.at / 8] & ((1 << fill) - 1) == 0;
        self.at.div_ceil(8) == self.bytes.len() && is_zero
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Packs all of `samples`, piece by piece into `room` bytes each; returns the bytes taken.
    fn round_trip(samples: &[i16], room: usize) -> usize {
        let (mut at, mut bytes) = (0, 0);
        let mut out = vec![0xA5; room];
        while at < samples.len() {
            let packed = pack(&samples[at..], &mut out);
            assert!(packed.samples > 0 && packed.bytes <= room);
            let piece = unpack(&out[..packed.bytes], packed.samples).unwrap();
            assert_eq!(piece[..], samples[at..at + packed.samples]);
            at += packed.samples;
            bytes += packed.bytes;
        }
        bytes
    }

    fn sine(amplitude: f64, samples: usize) -> Vec<i16> {
        let value = |at: usize| amplitude * (at as f64 * 0.1).sin();
        (0..samples).map(|at| value(at).round() as i16).collect()
    }

    #[test]
    fn what_can_be_predicted_takes_little_room() {
        assert!(round_trip(&[7; 4_096], 957) < 4_096 / 5);
        assert!(round_trip(&sine(8_000.0, 4_096), 957) < 4_096);
    }

    #[test]
    fn the_ends_of_the_range_come_through() {
        let square: Vec<i16> = (0..2_000)
            .map(|at| if at / 7 % 2 == 0 { i16::MIN } else { i16::MAX })
            .collect();
        round_trip(&square, 957);
        round_trip(&[i16::MAX; 100], 957);
        round_trip(&[i16::MIN, i16::MAX, 0], 957);
        round_trip(&[5], 957);
    }

    #[test]
    fn without_room_nothing_is_packed() {
        let nothing = Packed { samples: 0, bytes: 0 };
        for room in 0..2 {
            assert_eq!(pack(&[1, 2, 3], &mut [0; 2][..room]), nothing);
        }
        assert_eq!(pack(&[], &mut [0; 100]), nothing);
    }

    #[test]
    fn a_byte_too_many_or_too_few_is_malformed() {
        let mut out = [0; 957];
        let packed = pack(&sine(500.0, 300), &mut out);
        assert_eq!(packed.samples, 300);
        let bytes = packed.bytes;
        assert!(unpack(&out[..bytes], 300).is_ok());
        assert_eq!(unpack(&out[..bytes - 1], 300), Err(Malformed));
        assert_eq!(unpack(&out[..bytes + 1], 300), Err(Malformed));
        assert_eq!(unpack(&out[..bytes], 290), Err(Malformed));
        assert_eq!(unpack(&out[..bytes], 0), Err(Malformed));
        assert_eq!(unpack(&out[..bytes], SAMPLES_MAX + 1), Err(Malformed));
        assert_eq!(unpack(&[0xFF; 30], 1), Err(Malformed));
    }

    proptest! {
        #[test]
        fn whatever_is_packed_comes_back(
            samples in prop::collection::vec(any::<i16>(), 1..3_000),
            shift in 0u32..16,
            room in 60usize..1_000,
        ) {
            let samples: Vec<i16> = samples.iter().map(|sample| sample >> shift).collect();
            round_trip(&samples, room);
        }

        #[test]
        fn walks_come_back(steps in prop::collection::vec(-300i16..300, 1..3_000)) {
            let walk: Vec<i16> = steps
                .iter()
                .scan(0i16, |at, step| {
                    *at = at.saturating_add(*step);
                    Some(*at)
                })
                .collect();
            round_trip(&walk, 957);
        }

        #[test]
        fn any_bytes_are_unpacked_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            count in 0usize..1_100,
        ) {
            if let Ok(samples) = unpack(&bytes, count) {
                prop_assert_eq!(samples.len(), count);
            }
        }
    }
}
