//! The segment file: its layout, and reading groups of entries back from one that may be damaged.
//!
//! Little-endian throughout; CRC is CRC-32C (RFC 3720, appendix B.4). Segment `n` of partition `p`
//! is the file `p/n.seg`, `n` in twenty digits from 1:
//!
//! | bytes | content |
//! |---|---|
//! | 64 | head |
//! | 64 | head again |
//! | s | sequence sets as of the segment's start ([`SequenceSets`], postcard) |
//! | s | sequence sets again |
//! | rest | groups |
//!
//! | offset in the head | field | type |
//! |---|---|---|
//! | 0 | magic | u32, `TRJ1` |
//! | 4 | format version | u32 |
//! | 8 | journal id | u64 |
//! | 16 | segment number | u64 |
//! | 24 | journal clock at creation, ns UTC | i64 |
//! | 32 | number of the segment before, 0 for none | u64 |
//! | 40 | offset at which the segment before ends | u64 |
//! | 48 | partition | u32 |
//! | 52 | s | u32 |
//! | 56 | CRC of the sets | u32 |
//! | 60 | CRC of bytes 0..60 | u32 |
//!
//! A group is entries back to back, then its commit record, then the commit record's echo:
//!
//! | offset in the entry | field | type |
//! |---|---|---|
//! | 0 | length of the body | u32 |
//! | 4 | kind | u32 |
//! | 8 | CRC of the body | u32 |
//! | 12 | CRC of journal id, segment number, the entry's offset in the file (u64 each), bytes 0..12 | u32 |
//! | 16 | body | |
//!
//! | kind | body |
//! |---|---|
//! | 1 block | gateway (postcard: site and gateway, each length-prefixed), the block verbatim |
//! | 2 fleet | i64 in force from, ns UTC; the text in UTF-8 |
//! | 3 lost | gateway, epoch, (first, end), number of the cause (postcard) |
//! | 4 epoch closed | gateway, epoch (postcard) |
//! | 5 tick | nothing |
//! | 6 settings | as fleet |
//! | 7 superseded | gateway, starts of its agent (postcard) |
//! | 8 command | gateway, i64 issued, [`Command`](trunnion_common::message::Command) (postcard) |
//! | 9 command result | gateway, i64 received, [`CommandResult`](trunnion_common::message::CommandResult) (postcard) |
//! | 10 replayed | position, item, gateway, history or not, i64 arrival, clock fix, number of the form (postcard); the payload verbatim |
//! | 11 shed | u8: 0 everything is computed of each window from here on, 1 no search for faults is made |
//! | 12 restated | u64 which computation; the settings' text in UTF-8 |
//! | 13 decided | [`Decision`] (postcard) |
//! | 14 learned | name (postcard); [`FleetLife`] verbatim |
//! | 15 started | u16 name of the start; u64 how far the journal went before it, where that is told |
//! | 16 delivered elsewhere | gateway, u64 name of that journal, number of the cause, u64 how far it went where that is told (postcard) |
//! | 17 greeted | gateway, start of its agent, (epoch, next sequence) each (postcard) |
//! | 128 commit | i64 commit time, ns UTC; u64 offset of the group's first entry; u32 number of entries |
//! | 129 commit's echo | the same |
//!
//! A group whose commit record or echo can be read, with both inside the file, is committed. Its
//! entries stand by themselves: one that cannot be read is skipped, and found missing by the count.
//! The head's own CRC makes the length trustworthy when only a body is damaged; when the head is
//! damaged, the next entry is searched byte by byte, and since the CRC binds an entry to its place,
//! nothing inside a body can pose as one. Head, sets and commit record stand twice because each of
//! them would take more than one block with it.

use super::{Entry, Position};
use crate::dead_letter::Letter;
#[cfg(doc)]
use crate::decision::Decision;
use crate::ingest::dedup::SequenceSets;
#[cfg(doc)]
use crate::prognosis::fleet_life::FleetLife;
use bytes::Bytes;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use trunnion_common::ack::{Extent, JournalMark};
use trunnion_common::codec::{crc32c, crc32c_parts};
use trunnion_common::id::{Epoch, GatewayId, JournalId};
use trunnion_common::sample::LossCause;
use trunnion_common::sequence::Range;
use trunnion_common::time::EventTime;
use trunnion_diagnosis::features::Depth;

/// The only format version so far.
pub(super) const FORMAT: u32 = 1;

const MAGIC: u32 = u32::from_le_bytes(*b"TRJ1");
const HEAD_BYTES: usize = 64;
const HEADS_BYTES: usize = 2 * HEAD_BYTES;
const ENTRY_HEAD_BYTES: usize = 16;
const COMMIT_BODY_BYTES: usize = 20;
const COMMIT_BYTES: usize = ENTRY_HEAD_BYTES + COMMIT_BODY_BYTES;

/// What is read at once; a longer group is read in one piece of its own.
const CHUNK_BYTES: u64 = 1 << 20;

mod kind {
    pub(super) const BLOCK: u32 = 1;
    pub(super) const FLEET: u32 = 2;
    pub(super) const LOST: u32 = 3;
    pub(super) const EPOCH_CLOSED: u32 = 4;
    pub(super) const TICK: u32 = 5;
    pub(super) const SETTINGS: u32 = 6;
    pub(super) const SUPERSEDED: u32 = 7;
    pub(super) const COMMAND: u32 = 8;
    pub(super) const COMMAND_RESULT: u32 = 9;
    pub(super) const REPLAYED: u32 = 10;
    pub(super) const SHED: u32 = 11;
    pub(super) const RESTATED: u32 = 12;
    pub(super) const DECIDED: u32 = 13;
    pub(super) const LEARNED: u32 = 14;
    pub(super) const STARTED: u32 = 15;
    pub(super) const DELIVERED_ELSEWHERE: u32 = 16;
    pub(super) const GREETED: u32 = 17;
    pub(super) const COMMIT: u32 = 128;
    pub(super) const COMMIT_ECHO: u32 = 129;
}

/// Says whose a segment is and what stood before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) journal: JournalId,
    pub(super) number: u64,
    pub(super) created: EventTime,
    /// Where the segment before ends: number and offset; (0, 0) for none.
    pub(super) before: (u64, u64),
    pub(super) partition: u32,
    sets_bytes: u32,
    sets_crc: u32,
}

/// What was found where a head should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HeadFound {
    Good(Head),
    /// Its checksum holds, but a later version wrote it.
    Version(u32),
    Unreadable,
}

impl Head {
    /// Reads the head of segment `number`.
    pub(super) fn read(file: &File, number: u64) -> io::Result<HeadFound> {
        let heads = read_upto(file, 0, HEADS_BYTES as u64)?;
        let found = heads
            .chunks_exact(HEAD_BYTES)
            .map(|bytes| Self::decode(bytes, number));
        Ok(found
            .into_iter()
            .find(|found| *found != HeadFound::Unreadable)
            .unwrap_or(HeadFound::Unreadable))
    }

    /// Reads the sequence sets as of the segment's start, unless both copies are damaged.
    pub(super) fn read_sets(&self, file: &File) -> io::Result<Option<SequenceSets>> {
        let length = u64::from(self.sets_bytes);
        for copy in 0..2 {
            let bytes = read_upto(file, HEADS_BYTES as u64 + copy * length, length)?;
            if crc32c(&bytes) == self.sets_crc
                && let Some(sets) = SequenceSets::decode(&bytes)
            {
                return Ok(Some(sets));
            }
        }
        Ok(None)
    }

    /// Bytes of heads and sets that cannot be read, of the two copies of each.
    pub(super) fn damage(&self, file: &File) -> io::Result<Damage> {
        let mut bytes = 0;
        for copy in read_upto(file, 0, HEADS_BYTES as u64)?.chunks_exact(HEAD_BYTES) {
            if Self::decode(copy, self.number) != HeadFound::Good(*self) {
                bytes += HEAD_BYTES as u64;
            }
        }
        let length = u64::from(self.sets_bytes);
        for copy in 0..2 {
            if crc32c(&read_upto(file, HEADS_BYTES as u64 + copy * length, length)?) != self.sets_crc {
                bytes += length;
            }
        }
        Ok(Damage { entries: 0, bytes })
    }

    /// Where the first group stands.
    pub(super) fn entries_at(&self) -> u64 {
        HEADS_BYTES as u64 + 2 * u64::from(self.sets_bytes)
    }

    fn decode(bytes: &[u8], number: u64) -> HeadFound {
        let mut fields = Fields(bytes);
        let whole = crc32c(&bytes[..HEAD_BYTES - 4]).to_le_bytes() == bytes[HEAD_BYTES - 4..];
        if !whole || fields.u32() != Some(MAGIC) {
            return HeadFound::Unreadable;
        }
        let Some(version) = fields.u32() else {
            return HeadFound::Unreadable;
        };
        if version != FORMAT {
            return HeadFound::Version(version);
        }
        let head = (|| {
            Some(Self {
                journal: JournalId(fields.u64()?),
                number: fields.u64()?,
                created: EventTime(fields.u64()? as i64),
                before: (fields.u64()?, fields.u64()?),
                partition: fields.u32()?,
                sets_bytes: fields.u32()?,
                sets_crc: fields.u32()?,
            })
        })();
        match head {
            Some(head) if head.number == number => HeadFound::Good(head),
            _ => HeadFound::Unreadable,
        }
    }
}

/// The bytes of a new segment before its first group, and their meaning.
pub(super) fn encode_start(
    journal: JournalId,
    number: u64,
    partition: u32,
    created: EventTime,
    before: (u64, u64),
    sets: &SequenceSets,
) -> (Head, Vec<u8>) {
    let sets = sets.encode();
    let head = Head {
        journal,
        number,
        created,
        before,
        partition,
        sets_bytes: u32::try_from(sets.len()).expect("bounded tables encode to far less than 4 GiB"),
        sets_crc: crc32c(&sets),
    };
    let mut bytes = Vec::with_capacity(HEADS_BYTES + 2 * sets.len());
    bytes.extend_from_slice(&MAGIC.to_le_bytes());
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&head.journal.0.to_le_bytes());
    bytes.extend_from_slice(&head.number.to_le_bytes());
    bytes.extend_from_slice(&head.created.0.to_le_bytes());
    bytes.extend_from_slice(&head.before.0.to_le_bytes());
    bytes.extend_from_slice(&head.before.1.to_le_bytes());
    bytes.extend_from_slice(&head.partition.to_le_bytes());
    bytes.extend_from_slice(&head.sets_bytes.to_le_bytes());
    bytes.extend_from_slice(&head.sets_crc.to_le_bytes());
    bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
    bytes.extend_from_within(..HEAD_BYTES);
    bytes.extend_from_slice(&sets);
    bytes.extend_from_slice(&sets);
    (head, bytes)
}

/// Binds entries to their segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seal {
    pub(super) journal: JournalId,
    pub(super) segment: u64,
}

impl Seal {
    fn crc(self, offset: u64, head: &[u8]) -> u32 {
        crc32c_parts(&[
            &self.journal.0.to_le_bytes(),
            &self.segment.to_le_bytes(),
            &offset.to_le_bytes(),
            head,
        ])
    }

    /// Whether `bytes` starts with the head of an entry at `offset`; if so, how long its body is.
    fn body_length(self, offset: u64, bytes: &[u8]) -> Option<u64> {
        let mut fields = Fields(bytes.get(12..ENTRY_HEAD_BYTES)?);
        if fields.u32()? != self.crc(offset, &bytes[..12]) {
            return None;
        }
        Fields(bytes).u32().map(u64::from)
    }
}

/// Entries on their way to the disk: encoded once, sealed when their place is known.
#[derive(Debug, Default)]
pub(super) struct Group {
    bytes: Vec<u8>,
    /// Where in `bytes` each entry starts.
    starts: Vec<usize>,
}

impl Group {
    pub(super) fn append(&mut self, entry: &Entry) {
        let number = match entry {
            Entry::Block { .. } => kind::BLOCK,
            Entry::Fleet { .. } => kind::FLEET,
            Entry::Lost { .. } => kind::LOST,
            Entry::EpochClosed { .. } => kind::EPOCH_CLOSED,
            Entry::Tick => kind::TICK,
            Entry::Settings { .. } => kind::SETTINGS,
            Entry::Superseded { .. } => kind::SUPERSEDED,
            Entry::Command { .. } => kind::COMMAND,
            Entry::CommandResult { .. } => kind::COMMAND_RESULT,
            Entry::Replayed(_) => kind::REPLAYED,
            Entry::Shed { .. } => kind::SHED,
            Entry::Restated { .. } => kind::RESTATED,
            Entry::Decided(_) => kind::DECIDED,
            Entry::Learned { .. } => kind::LEARNED,
            Entry::Started { .. } => kind::STARTED,
            Entry::DeliveredElsewhere { .. } => kind::DELIVERED_ELSEWHERE,
            Entry::Greeted { .. } => kind::GREETED,
        };
        self.push(number, |bytes| match entry {
            Entry::Block {
                gateway,
                bytes: block,
            } => {
                push_postcard(bytes, gateway);
                bytes.extend_from_slice(block);
            }
            Entry::Fleet { effective, text } | Entry::Settings { effective, text } => {
                bytes.extend_from_slice(&effective.0.to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
            Entry::Lost {
                gateway,
                epoch,
                blocks,
                cause,
            } => push_postcard(bytes, &(gateway, epoch, blocks, cause)),
            Entry::EpochClosed { gateway, epoch } => push_postcard(bytes, &(gateway, epoch)),
            Entry::Superseded { gateway, starts } => push_postcard(bytes, &(gateway, starts)),
            Entry::Command {
                gateway,
                issued,
                command,
            } => push_postcard(bytes, &(gateway, issued, command)),
            Entry::CommandResult {
                gateway,
                received,
                result,
            } => push_postcard(bytes, &(gateway, received, result)),
            Entry::Replayed(letter) => {
                let Letter {
                    id,
                    gateway,
                    backfill,
                    arrival,
                    fix,
                    form,
                    payload,
                } = &**letter;
                push_postcard(bytes, &(id, gateway, backfill, arrival, fix, form));
                bytes.extend_from_slice(payload);
            }
            Entry::Shed { depth } => bytes.push(match depth {
                Depth::Full => 0,
                Depth::Severity => 1,
            }),
            Entry::Restated { id, text } => {
                bytes.extend_from_slice(&id.to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
            Entry::Decided(decision) => push_postcard(bytes, decision),
            Entry::Learned { name, bytes: life } => {
                push_postcard(bytes, name);
                bytes.extend_from_slice(life);
            }
            Entry::Started { name, ended } => {
                bytes.extend_from_slice(&name.to_le_bytes());
                if *ended != Extent::default() {
                    bytes.extend_from_slice(&ended.0.to_le_bytes());
                }
            }
            Entry::DeliveredElsewhere { gateway, to, cause } => {
                push_postcard(bytes, &(gateway, to.name, cause));
                if to.extent != Extent::default() {
                    push_postcard(bytes, &to.extent);
                }
            }
            Entry::Greeted { gateway, start, next } => push_postcard(bytes, &(gateway, start, next)),
            Entry::Tick => {}
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes to write at `offset`, commit record included.
    pub(super) fn sealed(&mut self, seal: Seal, offset: u64, time: EventTime) -> &[u8] {
        let (length, count) = (self.bytes.len(), self.starts.len());
        for number in [kind::COMMIT, kind::COMMIT_ECHO] {
            self.push(number, |bytes| {
                bytes.extend_from_slice(&time.0.to_le_bytes());
                bytes.extend_from_slice(&offset.to_le_bytes());
                bytes.extend_from_slice(&(count as u32).to_le_bytes());
            });
        }
        for &start in &self.starts {
            let crc = seal.crc(offset + start as u64, &self.bytes[start..start + 12]);
            self.bytes[start + 12..start + 16].copy_from_slice(&crc.to_le_bytes());
        }
        self.starts.truncate(count);
        debug_assert_eq!(self.bytes.len(), length + 2 * COMMIT_BYTES);
        &self.bytes
    }

    /// Takes the commit record off again, to seal the entries for another place.
    pub(super) fn unseal(&mut self) {
        let length = self.bytes.len().saturating_sub(2 * COMMIT_BYTES);
        self.bytes.truncate(length);
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    fn push(&mut self, number: u32, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend_from_slice(&[0; ENTRY_HEAD_BYTES]);
        body(&mut self.bytes);
        let body = &self.bytes[start + ENTRY_HEAD_BYTES..];
        let length = u32::try_from(body.len()).expect("blocks and fleet texts are far below 4 GiB");
        let crc = crc32c(body);
        self.bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.bytes[start + 4..start + 8].copy_from_slice(&number.to_le_bytes());
        self.bytes[start + 8..start + 12].copy_from_slice(&crc.to_le_bytes());
    }
}

fn push_postcard(bytes: &mut Vec<u8>, value: &impl serde::Serialize) {
    postcard::to_io(value, bytes).expect("writing to memory does not fail");
}

/// What could not be read back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Damage {
    /// Committed entries that are gone, as far as a readable commit record counts them.
    pub entries: u64,
    /// Bytes that are no part of anything readable.
    pub bytes: u64,
}

impl std::ops::AddAssign for Damage {
    fn add_assign(&mut self, other: Self) {
        self.entries += other.entries;
        self.bytes += other.bytes;
    }
}

/// A group as it was read back.
#[derive(Debug)]
pub(super) struct ReadGroup {
    pub(super) time: EventTime,
    pub(super) entries: Vec<(u64, Entry)>,
    pub(super) end: u64,
    pub(super) damage: Damage,
}

/// Reads one segment's groups in order.
#[derive(Debug)]
pub(super) struct SegmentReader {
    file: File,
    seal: Seal,
    at: u64,
    /// What has been read of the file, from `chunk_at` on.
    chunk: Bytes,
    chunk_at: u64,
}

impl SegmentReader {
    pub(super) fn new(file: File, seal: Seal, at: u64) -> Self {
        Self {
            file,
            seal,
            at,
            chunk: Bytes::new(),
            chunk_at: at,
        }
    }

    /// The place after the last group that was read.
    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    pub(super) const fn number(&self) -> u64 {
        self.seal.segment
    }

    pub(super) fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// The next group that ends at or before `limit`; `None` when no commit record is left there.
    pub(super) fn next_group(&mut self, limit: u64) -> io::Result<Option<ReadGroup>> {
        let limit = limit.min(self.length()?);
        loop {
            if self.at >= limit {
                return Ok(None);
            }
            let window = self.window(limit);
            if let Some(group) = read_group(self.seal, self.at, &window) {
                self.at = group.end;
                return Ok(Some(group));
            }
            let read_to = self.at + window.len() as u64;
            if read_to >= limit {
                return Ok(None);
            }
            let length = (2 * window.len() as u64).max(CHUNK_BYTES).min(limit - self.at);
            self.chunk = read_upto(&self.file, self.at, length)?.into();
            self.chunk_at = self.at;
            if (self.chunk.len() as u64) < length {
                return Ok(None);
            }
        }
    }

    /// What has been read from `at` on, up to `limit`.
    fn window(&self, limit: u64) -> Bytes {
        let chunk_end = self.chunk_at + self.chunk.len() as u64;
        let end = chunk_end.min(limit);
        if self.at < self.chunk_at || self.at >= end {
            return Bytes::new();
        }
        self.chunk
            .slice((self.at - self.chunk_at) as usize..(end - self.chunk_at) as usize)
    }
}

/// The first group in `window`, which stands at `start` in the file.
fn read_group(seal: Seal, start: u64, window: &Bytes) -> Option<ReadGroup> {
    let mut entries = Vec::new();
    let mut damage = Damage::default();
    let mut at = 0;
    loop {
        let offset = start + at as u64;
        let found = match look(seal, offset, &window[at..]) {
            Look::Entry(found) => found,
            Look::Damaged { bytes } => {
                damage.bytes += bytes as u64;
                at += bytes;
                continue;
            }
            Look::End => return None,
        };
        let body = window.slice(at + ENTRY_HEAD_BYTES..at + found.bytes);
        at += found.bytes;
        let commit = match found.kind {
            kind::COMMIT | kind::COMMIT_ECHO => CommitBody::decode(&body),
            _ => None,
        };
        let Some(commit) = commit else {
            match decode_entry(found.kind, body) {
                Some(entry) => entries.push((offset, entry)),
                None => damage.bytes += found.bytes as u64,
            }
            continue;
        };
        if found.kind == kind::COMMIT {
            let echo = window.get(at..at + COMMIT_BYTES)?;
            match look(seal, start + at as u64, echo) {
                Look::Entry(found) if found.kind == kind::COMMIT_ECHO => {}
                _ => damage.bytes += COMMIT_BYTES as u64,
            }
            at += COMMIT_BYTES;
        }
        let own = entries
            .iter()
            .filter(|(offset, _)| *offset >= commit.first)
            .count() as u64;
        // Whoever begins in the middle of a group misses nothing.
        if start <= commit.first {
            damage.entries += u64::from(commit.count).saturating_sub(own);
        }
        return Some(ReadGroup {
            time: commit.time,
            entries,
            end: start + at as u64,
            damage,
        });
    }
}

struct EntryFound {
    kind: u32,
    /// Head and body.
    bytes: usize,
}

enum Look {
    Entry(EntryFound),
    /// So many bytes are no entry; another entry may follow.
    Damaged {
        bytes: usize,
    },
    /// Nothing whole stands here or anywhere behind.
    End,
}

fn look(seal: Seal, offset: u64, bytes: &[u8]) -> Look {
    let Some(length) = seal.body_length(offset, bytes) else {
        let next =
            (1..bytes.len()).find(|&skip| seal.body_length(offset + skip as u64, &bytes[skip..]).is_some());
        return match next {
            Some(bytes) => Look::Damaged { bytes },
            None => Look::End,
        };
    };
    let whole = ENTRY_HEAD_BYTES as u64 + length;
    if whole > bytes.len() as u64 {
        return Look::End;
    }
    let entry = &bytes[..whole as usize];
    let mut fields = Fields(&entry[4..]);
    match (fields.u32(), fields.u32()) {
        (Some(kind), Some(crc)) if crc == crc32c(&entry[ENTRY_HEAD_BYTES..]) => Look::Entry(EntryFound {
            kind,
            bytes: entry.len(),
        }),
        _ => Look::Damaged { bytes: entry.len() },
    }
}

struct CommitBody {
    time: EventTime,
    first: u64,
    count: u32,
}

impl CommitBody {
    fn decode(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        Some(Self {
            time: EventTime(fields.u64()? as i64),
            first: fields.u64()?,
            count: fields.u32()?,
        })
    }
}

fn decode_entry(number: u32, body: Bytes) -> Option<Entry> {
    Some(match number {
        kind::BLOCK => {
            let (gateway, rest) = postcard::take_from_bytes::<GatewayId>(&body).ok()?;
            let bytes = body.slice(body.len() - rest.len()..);
            Entry::Block { gateway, bytes }
        }
        kind::FLEET | kind::SETTINGS => {
            let mut fields = Fields(&body);
            let effective = EventTime(fields.u64()? as i64);
            let text = std::str::from_utf8(fields.0).ok()?.to_owned();
            match number {
                kind::FLEET => Entry::Fleet { effective, text },
                _ => Entry::Settings { effective, text },
            }
        }
        kind::LOST => {
            let (gateway, epoch, blocks, cause) =
                postcard::from_bytes::<(GatewayId, Epoch, Range, LossCause)>(&body).ok()?;
            Entry::Lost {
                gateway,
                epoch,
                blocks,
                cause,
            }
        }
        kind::EPOCH_CLOSED => {
            let (gateway, epoch) = postcard::from_bytes(&body).ok()?;
            Entry::EpochClosed { gateway, epoch }
        }
        kind::SUPERSEDED => {
            let (gateway, starts) = postcard::from_bytes(&body).ok()?;
            Entry::Superseded { gateway, starts }
        }
        kind::STARTED => {
            let (name, rest) = body.split_first_chunk()?;
            let ended = Fields(rest).u64().unwrap_or_default();
            Entry::Started {
                name: u16::from_le_bytes(*name),
                ended: Extent(ended),
            }
        }
        kind::DELIVERED_ELSEWHERE => {
            let ((gateway, name, cause), rest) = postcard::take_from_bytes(&body).ok()?;
            let extent = postcard::from_bytes(rest).unwrap_or_default();
            let to = JournalMark { name, extent };
            Entry::DeliveredElsewhere { gateway, to, cause }
        }
        kind::GREETED => {
            let (gateway, start, next) = postcard::from_bytes(&body).ok()?;
            Entry::Greeted { gateway, start, next }
        }
        kind::COMMAND => {
            let (gateway, issued, command) = postcard::from_bytes(&body).ok()?;
            Entry::Command {
                gateway,
                issued,
                command,
            }
        }
        kind::COMMAND_RESULT => {
            let (gateway, received, result) = postcard::from_bytes(&body).ok()?;
            Entry::CommandResult {
                gateway,
                received,
                result,
            }
        }
        kind::SHED => {
            let depth = match body.first()? {
                0 => Depth::Full,
                1 => Depth::Severity,
                _ => return None,
            };
            Entry::Shed { depth }
        }
        kind::REPLAYED => {
            let ((id, gateway, backfill, arrival, fix, form), rest) =
                postcard::take_from_bytes(&body).ok()?;
            let payload = body.slice(body.len() - rest.len()..);
            Entry::Replayed(Box::new(Letter {
                id,
                gateway,
                backfill,
                arrival,
                fix,
                form,
                payload,
            }))
        }
        kind::RESTATED => {
            let mut fields = Fields(&body);
            let id = fields.u64()?;
            let text = std::str::from_utf8(fields.0).ok()?.to_owned();
            Entry::Restated { id, text }
        }
        kind::DECIDED => Entry::Decided(Box::new(postcard::from_bytes(&body).ok()?)),
        kind::LEARNED => {
            let (name, bytes) = postcard::take_from_bytes(&body).ok()?;
            let bytes = bytes.to_vec();
            Entry::Learned { name, bytes }
        }
        kind::TICK => Entry::Tick,
        _ => return None,
    })
}

/// Little-endian fields taken off the front one by one.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u32(&mut self) -> Option<u32> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*field))
    }

    fn u64(&mut self) -> Option<u64> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*field))
    }
}

/// Up to `length` bytes at `offset`; fewer where the file ends.
fn read_upto(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let room = file.metadata()?.len().saturating_sub(offset).min(length);
    let mut bytes = vec![0; room as usize];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// The position of an offset in a segment.
pub(super) const fn position(partition: u32, segment: u64, offset: u64) -> Position {
    Position {
        partition,
        segment,
        offset,
    }
}
