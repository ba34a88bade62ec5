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

/// Of a log that is only checked, read at once: a start checks every database of the spool, and a segment
/// in memory for each would stay with the allocator.
const PIECE_BYTES: usize = 32 * 1_024;

/// Whether the log of the database in `directory` is whole up to its end. One that was being written
/// when the power went may not be either.
pub(crate) fn is_whole(directory: &Path) -> io::Result<bool> {
    let mut log = Pieces::of(&directory.join("db"))?;
    for start in (0..log.length).step_by(SEGMENT_BYTES) {
        if !is_whole_segment(&mut log, start)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How many ways to put a block together are tried. Damage adds one of them for each damaged byte at
/// most; a block of which there are more is given up.
const WAYS_MAX: usize = 64;

/// What a database's log has of blocks, by where it stands.
///
/// Nothing here is checked before a block is read: a damaged byte can turn the name of one block, or of
/// one of its parts, into that of another, which must not hide that one. So every place is kept, and the
/// block's own checksum says which of them was meant. How many places there are is bounded by the log.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// Envelopes, and the length of the block that each says.
    blocks: BTreeMap<BlockKey, Vec<Place>>,
    /// Parts but the first, and their lengths.
    parts: BTreeMap<Part, Vec<Place>>,
}

/// Bytes of a log.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    length: usize,
}

impl Place {
    fn read(self, log: &File) -> Option<Vec<u8>> {
        let mut bytes = vec![0; self.length];
        log.read_exact_at(&mut bytes, self.at).ok()?;
        Some(bytes)
    }
}

impl Remains {
    /// Looks through the log of the database in `directory`.
    pub(crate) fn of(directory: &Path) -> io::Result<Self> {
        let mut remains = Self::default();
        each_segment(&directory.join("db"), |offset, segment| {
            let place = |at: usize, length| Place {
                at: offset + at as u64,
                length,
            };
            for at in places_of(segment, MAGIC.to_le_bytes()) {
                if let Some((key, length)) = envelope(&segment[at..]) {
                    remains.blocks.entry(key).or_default().push(place(at, length));
                }
            }
            for at in places_of(segment, PART_MAGIC) {
                if let Some((part, bytes)) = Part::parse(&segment[at..]).filter(|(part, _)| part.number > 0) {
                    let place = place(at + super::database::PART_HEADER_BYTES, bytes.len());
                    remains.parts.entry(part).or_default().push(place);
                }
            }
        })?;
        Ok(remains)
    }

    /// A block, if all of it is there and it is what was written.
    pub(crate) fn read(&self, directory: &Path, key: BlockKey) -> Option<Bytes> {
        let envelopes = self.blocks.get(&key)?;
        let log = File::open(directory.join("db")).ok()?;
        let mut envelopes = envelopes.iter().rev();
        envelopes.find_map(|envelope| whole(&self.choices(&log, key, *envelope)?, key))
    }

    /// What may stand in each part of a block that begins with this envelope, the newest first. sled moves
    /// values: the same bytes at another place are no other choice.
    fn choices(&self, log: &File, key: BlockKey, envelope: Place) -> Option<Vec<Vec<Vec<u8>>>> {
        let Place { at, length } = envelope;
        let length = length.min(PART_BYTES);
        let mut parts = vec![vec![Place { at, length }.read(log)?]];
        for number in 1..envelope.length.div_ceil(PART_BYTES) {
            let part = Part {
                sequence: key.sequence,
                number: u16::try_from(number).ok()?,
            };
            let length = PART_BYTES.min(envelope.length - number * PART_BYTES);
            let places = self.parts.get(&part)?.iter().rev();
            let mut choices = Vec::new();
            for place in places.filter(|place| place.length == length) {
                let bytes = place.read(log)?;
                if !choices.contains(&bytes) {
                    choices.push(bytes);
                }
            }
            parts.push(choices);
        }
        Some(parts)
    }

    /// Every block that is whole.
    pub(crate) fn blocks(&self, directory: &Path) -> impl Iterator<Item = (BlockKey, Bytes)> {
        let keys = self.blocks.keys();
        keys.filter_map(move |&key| Some((key, self.read(directory, key)?)))
    }
}

/// The block that one choice for each part makes, of at most [`WAYS_MAX`] ways.
fn whole(parts: &[Vec<Vec<u8>>], key: BlockKey) -> Option<Bytes> {
    let mut chosen = vec![0; parts.len()];
    for _ in 0..WAYS_MAX {
        let mut bytes = Vec::new();
        for (choices, &choice) in parts.iter().zip(&chosen) {
            bytes.extend_from_slice(choices.get(choice)?);
        }
        if let Ok(block) = Block::parse(&bytes)
            && (block.envelope.epoch, block.envelope.sequence) == (key.epoch, key.sequence)
        {
            return Some(bytes.into());
        }
        // As one counts: the first that has another choice takes it, and those before begin anew.
        let next = (0..parts.len()).find(|&part| chosen[part] + 1 < parts[part].len())?;
        chosen[..next].fill(0);
        chosen[next] += 1;
    }
    None
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

/// A file of which a piece at a time is in memory.
struct Pieces {
    file: File,
    length: u64,
    piece: Vec<u8>,
    /// Where the piece stands in the file.
    at: u64,
}

impl Pieces {
    fn of(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let (piece, at) = (Vec::with_capacity(PIECE_BYTES), 0);
        Ok(Self {
            file,
            length,
            piece,
            at,
        })
    }

    /// The bytes from `at` on: at least `wanted` of them or, at `end`, as many as there are.
    fn get(&mut self, at: u64, wanted: usize, end: u64) -> io::Result<&[u8]> {
        let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        let wanted = wanted.min(left);
        debug_assert!(wanted <= PIECE_BYTES, "a piece holds what is asked for");
        if at < self.at || self.at + (self.piece.len() as u64) < at + wanted as u64 {
            let left = usize::try_from(self.length.saturating_sub(at)).unwrap_or(usize::MAX);
            self.piece.resize(left.min(PIECE_BYTES), 0);
            self.at = at;
            self.file.read_exact_at(&mut self.piece, at)?;
        }
        let bytes = self.piece.get((at - self.at) as usize..).unwrap_or_default();
        Ok(&bytes[..bytes.len().min(left)])
    }

    /// Hands over all bytes from `at` to `end`, piece by piece, for as long as `each` wants more; whether
    /// it wanted all.
    fn each(&mut self, mut at: u64, end: u64, mut each: impl FnMut(&[u8]) -> bool) -> io::Result<bool> {
        while at < end {
            let bytes = self.get(at, 1, end)?;
            if bytes.is_empty() || !each(bytes) {
                return Ok(false);
            }
            at += bytes.len() as u64;
        }
        Ok(true)
    }
}

fn is_whole_segment(log: &mut Pieces, start: u64) -> io::Result<bool> {
    let room = start + SEGMENT_BYTES as u64;
    let end = room.min(log.length);
    let is_empty = |log: &mut Pieces, at| log.each(at, end, |bytes| bytes.iter().all(|byte| *byte == 0));
    let Some(number) = segment_number(log.get(start, SEGMENT_HEADER_BYTES, end)?) else {
        return is_empty(log, start);
    };
    let mut at = start + SEGMENT_HEADER_BYTES as u64;
    while room.saturating_sub(at) >= MESSAGE_HEADER_MAX as u64 {
        match message(log, at, end)? {
            Some(message) if message.segment == number => {
                at += message.bytes;
                if message.kind == CAP {
                    return Ok(true);
                }
            }
            _ => return is_empty(log, at),
        }
    }
    Ok(true)
}

/// The segment's place in the log, if its header is what was written.
fn segment_number(header: &[u8]) -> Option<u64> {
    let (crc, header) = header.get(..SEGMENT_HEADER_BYTES)?.split_first_chunk()?;
    let (log_number, _) = header.split_first_chunk()?;
    let mut sum = Crc::new();
    sum.update(header);
    let is_good = !u32::from_le_bytes(*crc) == sum.sum();
    let log_number = u64::from_le_bytes(*log_number) ^ (u64::MAX >> 1);
    is_good.then_some(log_number / SEGMENT_BYTES as u64)
}

/// A whole message of the log.
struct Message {
    kind: u8,
    segment: u64,
    /// Header and body.
    bytes: u64,
}

/// The message that begins at `at`, if all of it stands before `end` and is what was written.
fn message(log: &mut Pieces, at: u64, end: u64) -> io::Result<Option<Message>> {
    let mut head = [0; MESSAGE_HEADER_MAX];
    let there = log.get(at, MESSAGE_HEADER_MAX, end)?;
    let there = &there[..there.len().min(MESSAGE_HEADER_MAX)];
    head[..there.len()].copy_from_slice(there);
    let Some((crc, header, message)) = message_header(&head[..there.len()]) else {
        return Ok(None);
    };
    let body = at + header as u64;
    let Some(behind) = body.checked_add(message.bytes).filter(|behind| *behind <= end) else {
        return Ok(None);
    };
    // The checksum is of the body first, and of the header behind itself.
    let mut sum = Crc::new();
    log.each(body, behind, |bytes| {
        sum.update(bytes);
        true
    })?;
    sum.update(&head[4..header]);
    Ok((!crc == sum.sum()).then_some(Message {
        bytes: behind - at,
        ..message
    }))
}

/// The header of a message: its checksum, its length, and what it says, with the body's bytes alone.
fn message_header(bytes: &[u8]) -> Option<(u32, usize, Message)> {
    let (crc, rest) = bytes.split_first_chunk()?;
    let (&kind, rest) = rest.split_first()?;
    let (body, rest) = integer(rest)?;
    let (segment, rest) = integer(rest)?;
    let (_page, rest) = integer(rest)?;
    let message = Message {
        kind,
        segment,
        bytes: body,
    };
    Some((u32::from_le_bytes(*crc), bytes.len() - rest.len(), message))
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
