//! sled's log, read without sled: what is left in a damaged one.
//!
//! Opening a database, sled follows its log as far as that is whole, takes what comes behind a flipped
//! byte for the torn tail of a crash, and overwrites it with zeros. A block was written once, in parts,
//! and checks itself: so the log is looked through before sled gets it, and where it is not whole from
//! end to end, the blocks in it are remembered.
//!
//! Of sled 0.34's layout this module knows: segments of [`SEGMENT_BYTES`], each a header of 20 bytes
//! (CRC-32, log number and highest stable log number, inverted) and messages back to back; a message
//! has a header (CRC-32 of what follows and the body, kind, and as sled's own variable-length integers the
//! length of the body, the segment and the page) and a body. It needs this only to tell whether a log is
//! whole; what is taken for damage by mistake costs a moment and nothing else. Blocks are found by what
//! they and their parts say of themselves.

use super::database::{PART_BYTES, PART_MAGIC, Part, SEGMENT_BYTES};
use crate::block::BlockKey;
use bytes::Bytes;
use flate2::Crc;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use trunnion_common::block::{BODY_MAX, Block, ENVELOPE_BYTES, MAGIC};
use trunnion_common::id::Epoch;

/// Of a segment.
const SEGMENT_HEADER_BYTES: usize = 20;

/// No message begins in so few bytes at the end of a segment.
const MESSAGE_HEADER_MAX: usize = 32;

/// The kind of a message that fills a segment up.
const CAP: u8 = 2;

/// Whether the log of the database in `directory` is whole up to its end. One that was being written
/// when the power went may not be either.
pub(crate) fn is_whole(directory: &Path) -> io::Result<bool> {
    let mut is_whole = true;
    each_segment(&directory.join("db"), |_, segment| {
        is_whole &= is_whole_segment(segment);
    })?;
    Ok(is_whole)
}

/// What a database's log has of blocks, by where it stands.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// Envelopes, and the length of the block that each says. Unchecked.
    blocks: BTreeMap<BlockKey, (u64, usize)>,
    /// Parts but the first, and their lengths.
    parts: BTreeMap<Part, (u64, usize)>,
}

impl Remains {
    /// Looks through the log of the database in `directory`.
    pub(crate) fn of(directory: &Path) -> io::Result<Self> {
        let mut remains = Self::default();
        each_segment(&directory.join("db"), |offset, segment| {
            let place = |at: usize, length| (offset + at as u64, length);
            for at in places_of(segment, MAGIC.to_le_bytes()) {
                if let Some((key, length)) = envelope(&segment[at..]) {
                    remains.blocks.insert(key, place(at, length));
                }
            }
            for at in places_of(segment, PART_MAGIC) {
                if let Some((part, bytes)) = Part::parse(&segment[at..]).filter(|(part, _)| part.number > 0) {
                    let at = at + super::database::PART_HEADER_BYTES;
                    remains.parts.insert(part, place(at, bytes.len()));
                }
            }
        })?;
        Ok(remains)
    }

    /// A block, if all of it is there and it is what was written.
    pub(crate) fn read(&self, directory: &Path, key: BlockKey) -> Option<Bytes> {
        let &(envelope, length) = self.blocks.get(&key)?;
        let file = File::open(directory.join("db")).ok()?;
        let mut bytes = vec![0; length];
        for (number, bytes) in (0..).zip(bytes.chunks_mut(PART_BYTES)) {
            let sequence = key.sequence;
            let at = match number {
                0 => envelope,
                _ => {
                    let place = self.parts.get(&Part { sequence, number })?;
                    Some(place).filter(|(_, length)| *length == bytes.len())?.0
                }
            };
            file.read_exact_at(bytes, at).ok()?;
        }
        let block = Block::parse(&bytes).ok()?;
        let is_it = (block.envelope.epoch, block.envelope.sequence) == (key.epoch, key.sequence);
        is_it.then(|| bytes.into())
    }

    /// Every block that is whole.
    pub(crate) fn blocks(&self, directory: &Path) -> impl Iterator<Item = (BlockKey, Bytes)> {
        let keys = self.blocks.keys();
        keys.filter_map(move |&key| Some((key, self.read(directory, key)?)))
    }
}

fn each_segment(file: &Path, mut each: impl FnMut(u64, &[u8])) -> io::Result<()> {
    let file = File::open(file)?;
    let mut segment = vec![0; SEGMENT_BYTES];
    let mut offset = 0;
    loop {
        let mut length = 0;
        while length < segment.len() {
            match file.read_at(&mut segment[length..], offset + length as u64) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if length == 0 {
            return Ok(());
        }
        each(offset, &segment[..length]);
        offset += length as u64;
    }
}

fn is_whole_segment(segment: &[u8]) -> bool {
    let is_empty = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    let Some(number) = segment_number(segment) else {
        return is_empty(segment);
    };
    let mut at = SEGMENT_HEADER_BYTES;
    while SEGMENT_BYTES - at >= MESSAGE_HEADER_MAX {
        match message(&segment[at..]) {
            Some(message) if message.segment == number => {
                at += message.bytes;
                if message.kind == CAP {
                    return true;
                }
            }
            _ => return is_empty(&segment[at..]),
        }
    }
    true
}

/// The segment's place in the log, if its header is what was written.
fn segment_number(segment: &[u8]) -> Option<u64> {
    let (crc, header) = segment.get(..SEGMENT_HEADER_BYTES)?.split_first_chunk()?;
    let (log_number, _) = header.split_first_chunk()?;
    let is_good = !u32::from_le_bytes(*crc) == checksum(&[header]);
    let log_number = u64::from_le_bytes(*log_number) ^ (u64::MAX >> 1);
    is_good.then_some(log_number / SEGMENT_BYTES as u64)
}

/// A whole message of the log.
struct Message {
    kind: u8,
    segment: u64,
    /// Header and body.
    bytes: usize,
}

fn message(bytes: &[u8]) -> Option<Message> {
    let (crc, rest) = bytes.split_first_chunk()?;
    let (&kind, rest) = rest.split_first()?;
    let (length, rest) = integer(rest)?;
    let (segment, rest) = integer(rest)?;
    let (_page, rest) = integer(rest)?;
    let body = rest.get(..usize::try_from(length).ok()?)?;
    let header = bytes.len() - rest.len();
    let is_good = !u32::from_le_bytes(*crc) == checksum(&[body, &bytes[4..header]]);
    is_good.then_some(Message {
        kind,
        segment,
        bytes: header + body.len(),
    })
}

/// One of sled's integers of one to nine bytes, and what follows it.
fn integer(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let high = |base: u8| 256 * u64::from(first - base);
    match first {
        0..=240 => Some((u64::from(first), rest)),
        241..=248 => {
            let (&low, rest) = rest.split_first()?;
            Some((240 + high(241) + u64::from(low), rest))
        }
        249 => {
            let ([middle, low], rest) = rest.split_first_chunk()?;
            Some((2_288 + 256 * u64::from(*middle) + u64::from(*low), rest))
        }
        250..=255 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first) - 247)?;
            let value = digits
                .iter()
                .rev()
                .fold(0, |value, digit| value << 8 | u64::from(*digit));
            Some((value, rest))
        }
    }
}

fn checksum(parts: &[&[u8]]) -> u32 {
    let mut crc = Crc::new();
    parts.iter().for_each(|part| crc.update(part));
    crc.sum()
}

fn places_of(segment: &[u8], magic: [u8; 4]) -> impl Iterator<Item = usize> + '_ {
    let starts = segment.windows(magic.len()).enumerate();
    starts.filter(move |(_, start)| *start == magic).map(|(at, _)| at)
}

/// Which block begins with these bytes, and its length.
fn envelope(bytes: &[u8]) -> Option<(BlockKey, usize)> {
    let head = bytes.get(..ENVELOPE_BYTES)?;
    let number = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    let body = u32::from_le_bytes(head.get(25..29)?.try_into().ok()?) as usize;
    let key = BlockKey {
        epoch: Epoch(number(4)?),
        sequence: number(12)?,
    };
    (body <= BODY_MAX).then_some((key, ENVELOPE_BYTES + body))
}
