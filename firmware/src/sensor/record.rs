//! A recorded waveform in memory, played over and over at its own rate: the accelerometer of a board that
//! has none.
//!
//! | bytes | content, little-endian |
//! |---|---|
//! | 0-3 | `TRNW` |
//! | 4-7 | version, 1 |
//! | 8-11 | sample rate, millihertz |
//! | 12-15 | full scale, g (f32) |
//! | 16-19 | number of samples |
//! | 20-23 | CRC-32C of the samples' bytes |
//! | 24.. | samples, 16 bit, two's complement |

use super::{Batch, Sensor};
use crate::schedule::Schedule;
use core::num::NonZeroU32;
use trunnion_common::codec::crc32c;
use trunnion_common::time::NodeTicks;

const MAGIC: [u8; 4] = *b"TRNW";
const VERSION: u32 = 1;

/// Bytes before the samples.
pub const HEADER_BYTES: usize = 24;

/// Why memory holds no record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordError {
    /// It does not begin as a record does.
    Absent,
    /// A later program wrote it.
    Version(u32),
    /// Its header makes no sense, its samples are not all there, or their checksum does not match.
    Damaged,
}

/// A record, as it lies in memory.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Record<'a> {
    /// Its sample rate.
    pub rate_mhz: NonZeroU32,
    /// Full scale, g.
    pub range_g: f32,
    samples: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record that `memory` begins with.
    pub fn parse(memory: &'a [u8]) -> Result<Self, RecordError> {
        let (header, rest) = memory
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(RecordError::Absent)?;
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if header[..4] != MAGIC {
            return Err(RecordError::Absent);
        }
        if word(4) != VERSION {
            return Err(RecordError::Version(word(4)));
        }
        let (range_g, bytes) = (f32::from_bits(word(12)), u64::from(word(16)) * 2);
        let samples = usize::try_from(bytes).ok().and_then(|bytes| rest.get(..bytes));
        let samples = samples.ok_or(RecordError::Damaged)?;
        let is_sound = range_g > 0.0 && range_g.is_finite() && !samples.is_empty();
        if !is_sound || crc32c(samples) != word(20) {
            return Err(RecordError::Damaged);
        }
        Ok(Self {
            rate_mhz: NonZeroU32::new(word(8)).ok_or(RecordError::Damaged)?,
            range_g,
            samples,
        })
    }

    /// How many samples there are before it begins anew.
    pub const fn len(&self) -> usize {
        self.samples.len() / 2
    }

    /// Never: a record has samples.
    pub const fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The sample at `index`, counted over all rounds.
    pub fn sample(&self, index: u64) -> i16 {
        let at = (index % self.len() as u64) as usize * 2;
        i16::from_le_bytes([self.samples[at], self.samples[at + 1]])
    }
}

/// The header of a record of these samples, as bytes: `samples` follow it.
pub fn header(rate_mhz: NonZeroU32, range_g: f32, samples: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let count = u32::try_from(samples.len() / 2).unwrap_or(u32::MAX);
    let words = [
        u32::from_le_bytes(MAGIC),
        VERSION,
        rate_mhz.get(),
        range_g.to_bits(),
        count,
        crc32c(samples),
    ];
    for (place, word) in header.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    header
}

/// A record that plays.
#[derive(Clone, Debug)]
pub struct Player<'a> {
    record: Record<'a>,
    schedule: Schedule,
    played: u64,
}

impl<'a> Player<'a> {
    /// Plays `record` from `start` on.
    pub const fn new(record: Record<'a>, start: NodeTicks) -> Self {
        Self {
            record,
            schedule: Schedule::new(start, record.rate_mhz),
            played: 0,
        }
    }
}

impl Sensor for Player<'_> {
    fn read(&mut self, now: NodeTicks, out: &mut [[i16; 1]]) -> Batch {
        let first = self.schedule.ticks_of(self.played);
        let due = self.schedule.due_by(now).saturating_sub(self.played);
        let taken = out.len().min(usize::try_from(due).unwrap_or(usize::MAX));
        for (index, sample) in (self.played..).zip(&mut out[..taken]) {
            *sample = [self.record.sample(index)];
        }
        self.played += taken as u64;
        Batch {
            missed: None,
            taken,
            first,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: NonZeroU32 = NonZeroU32::new(1_000_000).unwrap();

    fn memory(samples: &[i16]) -> Vec<u8> {
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let mut memory = header(RATE, 16.0, &bytes).to_vec();
        memory.extend(bytes);
        memory.extend([0xAA; 7]);
        memory
    }

    #[test]
    fn a_record_plays_at_its_rate_and_begins_anew_at_its_end() {
        let memory = memory(&[1, -2, 3]);
        let record = Record::parse(&memory).unwrap();
        assert_eq!((record.rate_mhz, record.range_g, record.len()), (RATE, 16.0, 3));
        let mut player = Player::new(record, NodeTicks(5_000));
        let mut out = [[0]; 4];
        assert_eq!(player.read(NodeTicks(4_999), &mut out).taken, 0);
        let batch = player.read(NodeTicks(8_500), &mut out);
        assert_eq!(
            (batch.taken, batch.first, out),
            (4, NodeTicks(5_000), [[1], [-2], [3], [1]])
        );
        let batch = player.read(NodeTicks(10_000), &mut out);
        assert_eq!(
            (batch.taken, batch.first, &out[..2]),
            (2, NodeTicks(9_000), &[[-2], [3]][..])
        );
    }

    #[test]
    fn what_is_no_record_is_told_from_one_that_is_damaged() {
        let whole = memory(&[7; 10]);
        assert_eq!(Record::parse(&[0xFF; 40]), Err(RecordError::Absent));
        assert_eq!(Record::parse(&whole[..20]), Err(RecordError::Absent));
        assert_eq!(Record::parse(&whole[..40]), Err(RecordError::Damaged));
        for at in 0..HEADER_BYTES + 20 {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x80;
            // The rate and the range stand for themselves: any other rate is one, too.
            let stands_for_itself = (8..15).contains(&at);
            assert_eq!(Record::parse(&damaged).is_ok(), stands_for_itself, "byte {at}");
        }
    }
}
