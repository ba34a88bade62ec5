//! One sled database of the spool: blocks of one epoch, and the cursors that were in force with them.
//!
//! | key | value |
//! |---|---|
//! | `b`, slot | a part of a block, or nothing yet |
//! | `c`, node, boot | a [`Cursor`] |
//! | `i`, sequence | a block's length, its [`Index`], and the first of its slots, which follow each other |
//! | `m` | format version, epoch |
//! | `r` | what of the epoch is acknowledged (received by the collector), by which journal, and how far that went |
//!
//! Integers in keys are big-endian. All of a commit is one batch, so that a crash leaves all of it or
//! nothing. sled's own `flush` may stop at the drive's cache; `fdatasync` of its file does not.
//!
//! Blocks go to slots made beforehand because of what sled writes: a leaf of more than 16 entries is
//! split, and a leaf of more than ten fragments is put together, and either writes all of its values
//! again. Appending blocks as new keys wrote them 3.5 times. An empty slot costs next to nothing to
//! split; filling it later adds one fragment, and the nine slots that a split leaves in a leaf stay
//! below ten: a block is written once.
//!
//! A part says itself what it is, so that it is found in a log that sled cannot follow any more (the numbers
//! are little-endian):
//!
//! | offset | field | type |
//! |---|---|---|
//! | 0 | magic | u32, `TRP1` |
//! | 4 | the block's sequence | u64 |
//! | 12 | which part, from 0 | u16 |
//! | 14 | its bytes, [`PART_BYTES`] unless it is the last | u16 |
//! | 16 | the bytes | |
//!
//! sled reports most damage as an error and some as a panic. Both are taken as damage here: a panic is
//! caught, and the database not used again.

use crate::block::{Block, Index};
use crate::intake::Cursor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;
use trunnion_common::ack::{Extent, JournalMark};
use trunnion_common::block::{BODY_MAX, ENVELOPE_BYTES};
use trunnion_common::id::{Epoch, JournalId};
use trunnion_common::sequence::{Insertion, SequenceSet};

/// Version of the layout above and of the index beside it. A database of a version that is not read is
/// refused, not guessed at.
pub(crate) const FORMAT: u32 = 4;

/// The version before: its parts are bare, and [`VALUE_BYTES`] long. Its index was written before it and
/// not after it, and so may name blocks that were never committed.
pub(crate) const FORMAT_BARE: u32 = 3;

/// sled's log segment. A value above a 128th of it could end up in one of sled's blob files, which are
/// never synchronised to disk: leaves gather up to sixteen values, and a quarter of a segment is the limit.
pub(super) const SEGMENT_BYTES: usize = 1 << 20;

/// The longest value.
const VALUE_BYTES: usize = SEGMENT_BYTES / 128;

/// Before the bytes of each part.
pub(super) const PART_HEADER_BYTES: usize = 16;

/// Bytes of a block in each of its parts but the last.
pub(super) const PART_BYTES: usize = VALUE_BYTES - PART_HEADER_BYTES;

/// `TRP1`.
pub(super) const PART_MAGIC: [u8; 4] = *b"TRP1";

/// The largest block, envelope included.
const BLOCK_MAX: usize = BODY_MAX + ENVELOPE_BYTES;

/// Slots made at a time.
const SLOTS_MADE: u32 = 256;

/// Empty slots that always stay behind the last one in use: what follows them in the tree changes often,
/// and must not share a leaf with blocks.
const SLOTS_SPARE: u32 = 32;

/// sled's page cache; a database is read once, from front to back.
const CACHE_BYTES: u64 = 4 << 20;

/// sled reports a file still locked as an error of kind `Other`.
const LOCK_ATTEMPTS: u32 = 50;

const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// An open database.
#[derive(Debug)]
pub(crate) struct Database {
    /// Always there until it is dropped.
    db: Option<sled::Db>,
    file: File,
    slots: Slots,
    /// [`FORMAT`], or an earlier one that is read.
    format: u32,
}

impl Drop for Database {
    fn drop(&mut self) {
        // sled synchronises once more, and panics when the disk refuses. What had to be durable is.
        let db = self.db.take();
        let closed = guarded(|| {
            drop(db);
            Ok(())
        });
        if closed.is_err() {
            tracing::warn!(
                "the disk refused while a database of the spool was closed; nothing confirmed depends on it"
            );
        }
    }
}

/// What a part of a block says of itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Part {
    pub(super) sequence: u64,
    pub(super) number: u16,
}

impl Part {
    fn encode(self, bytes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(bytes.len()).expect("a part is a few kilobytes");
        [
            &PART_MAGIC,
            &self.sequence.to_le_bytes()[..],
            &self.number.to_le_bytes(),
            &length.to_le_bytes(),
            bytes,
        ]
        .concat()
    }

    /// The part at the beginning of `value`, and its bytes.
    pub(super) fn parse(value: &[u8]) -> Option<(Self, &[u8])> {
        let rest = value.strip_prefix(&PART_MAGIC)?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let part = Self {
            sequence: u64::from_le_bytes(*sequence),
            number: u16::from_le_bytes(*number),
        };
        Some((part, rest.get(..usize::from(u16::from_le_bytes(*length)))?))
    }
}

/// Of a database being written: where the next block goes.
#[derive(Clone, Copy, Debug)]
enum Slots {
    /// Nowhere: it was opened for reading.
    Closed,
    /// To slot `next`; those below `made` exist.
    Open { next: u32, made: u32 },
}

/// What a database held when it was opened.
#[derive(Debug)]
pub(crate) struct Contents {
    /// [`FORMAT`], or an earlier one that is read.
    pub(crate) format: u32,
    pub(crate) epoch: Epoch,
    pub(crate) blocks: BTreeMap<u64, Stored>,
    pub(crate) acknowledged: Acknowledged,
    pub(crate) cursors: Vec<Cursor>,
}

/// A block's entry in the index.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) bytes: u32,
    pub(crate) index: Index,
}

impl Stored {
    pub(crate) fn of(block: &Block) -> Self {
        Self {
            bytes: u32::try_from(block.bytes.len()).expect("a block is a few megabytes at most"),
            index: block.index.clone(),
        }
    }
}

/// How far an epoch is acknowledged.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Acknowledged {
    pub(crate) received: SequenceSet,
    pub(crate) journal: Option<JournalMark>,
}

impl Acknowledged {
    /// How far the journal went stands behind the rest, where agents of before do not look.
    fn encode(&self) -> Vec<u8> {
        let bytes = encode(&(&self.received, self.journal.map(|mark| mark.name)));
        match self.journal {
            Some(JournalMark { extent, .. }) if extent != Extent::default() => {
                postcard::to_extend(&extent, bytes).expect("a vector takes any length, and a number encodes")
            }
            _ => bytes,
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = postcard::take_from_bytes::<(SequenceSet, Option<JournalId>)>(bytes).ok()?;
        let (received, name) = first;
        let extent = postcard::from_bytes(rest).unwrap_or_default();
        let journal = name.map(|name| JournalMark { name, extent });
        Some(Self { received, journal })
    }

    /// Takes in what another database of the same epoch says: none of them is wrong.
    pub(crate) fn join(&mut self, other: &Self) {
        self.journal = other.journal.or(self.journal);
        self.received.advance(other.received.upto());
        for range in other.received.ranges() {
            let mut joined = self.received.clone();
            // One range too many would close a hole; the collector says again what is in it.
            if !matches!(joined.insert_range(*range), Insertion::Overflow { .. }) {
                self.received = joined;
            }
        }
    }
}

/// Why a database, or something in it, cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    #[error("sled panicked, which it does on some damaged files")]
    Panicked,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the {0} is missing or does not decode")]
    Damaged(&'static str),
    #[error(
        "it has format {found}, this version reads {FORMAT_BARE} and {FORMAT}: run the version that wrote it until it is drained"
    )]
    Format { found: u32 },
}

impl DatabaseError {
    /// Whether the files are damaged, as against the disk being full or failing right now.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Sled(sled::Error::Io(_)) | Self::Io(_) | Self::Format { .. } => false,
            Self::Sled(_) | Self::Panicked | Self::Damaged(_) => true,
        }
    }
}

fn guarded<T>(work: impl FnOnce() -> Result<T, DatabaseError>) -> Result<T, DatabaseError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(DatabaseError::Panicked))
}

fn key(kind: u8, numbers: &[u64]) -> Vec<u8> {
    let mut key = vec![kind];
    for number in numbers {
        key.extend_from_slice(&number.to_be_bytes());
    }
    key
}

fn slot_key(slot: u32) -> [u8; 5] {
    let [a, b, c, d] = slot.to_be_bytes();
    [b'b', a, b, c, d]
}

/// Slots that a block of so many bytes takes.
fn slots_of(bytes: usize, part_bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(part_bytes)).unwrap_or(u32::MAX)
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, Vec::new()).expect("a vector takes any length, and these types always encode")
}

fn sequence_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..9)?.try_into().ok()?))
}

impl Database {
    /// A new one with the cursors in force, durable when this returns.
    pub(crate) fn create(path: &Path, epoch: Epoch, cursors: &[Cursor]) -> Result<Self, DatabaseError> {
        std::fs::create_dir(path)?;
        let database = guarded(|| {
            let mut database = Self::start(path)?;
            database.slots = Slots::Open { next: 0, made: 0 };
            let mut batch = sled::Batch::default();
            batch.insert(key(b'm', &[]), encode(&(FORMAT, epoch)));
            batch_cursors(&mut batch, cursors);
            database.db().apply_batch(batch)?;
            Ok(database)
        })?;
        database.flush()?;
        for directory in [Some(path), path.parent()].into_iter().flatten() {
            File::open(directory)?.sync_all()?;
        }
        Ok(database)
    }

    /// Opens an existing one and reads everything but the blocks' bytes.
    pub(crate) fn open(path: &Path) -> Result<(Self, Contents), DatabaseError> {
        match guarded(|| Self::open_and_scan(path)) {
            // A damaged snapshot stops sled, although it only abbreviates what the log says as well.
            Err(error) if error.is_damage() && set_snapshots_aside(path)? => {
                guarded(|| Self::open_and_scan(path))
            }
            result => result,
        }
    }

    /// Opens one that has been scanned before.
    pub(crate) fn reopen(path: &Path) -> Result<Self, DatabaseError> {
        guarded(|| {
            let mut database = Self::start(path)?;
            (database.format, _) = database.header()?;
            Ok(database)
        })
    }

    /// Adds to it, in one batch. Durable only after [`Self::flush`].
    pub(crate) fn append(
        &mut self,
        blocks: &[Block],
        cursors: &[Cursor],
        acknowledged: Option<&Acknowledged>,
    ) -> Result<(), DatabaseError> {
        let slots = blocks
            .iter()
            .map(|block| slots_of(block.bytes.len(), PART_BYTES))
            .sum();
        let mut slot = self.reserve_slots(slots)?;
        guarded(|| {
            let mut batch = sled::Batch::default();
            for block in blocks {
                let entry = encode(&(Stored::of(block), slot));
                batch.insert(key(b'i', &[block.key.sequence]), entry);
                for (number, bytes) in (0..).zip(block.bytes.chunks(PART_BYTES)) {
                    let part = Part {
                        sequence: block.key.sequence,
                        number,
                    };
                    batch.insert(&slot_key(slot), part.encode(bytes));
                    slot += 1;
                }
            }
            batch_cursors(&mut batch, cursors);
            if let Some(acknowledged) = acknowledged {
                batch.insert(key(b'r', &[]), acknowledged.encode());
            }
            Ok(self.db().apply_batch(batch)?)
        })
    }

    /// Takes so many slots, of which the first is returned, and makes new ones if few are left.
    fn reserve_slots(&mut self, count: u32) -> Result<u32, DatabaseError> {
        let Slots::Open {
            next: first,
            mut made,
        } = self.slots
        else {
            unreachable!("the chain writes new databases only");
        };
        let next = first
            .checked_add(count)
            .ok_or(DatabaseError::Damaged("number of slots"))?;
        while made < next.saturating_add(SLOTS_SPARE) {
            let end = made.saturating_add(SLOTS_MADE);
            guarded(|| {
                // One after the other: a batch would add them in no order, and split leaves unevenly.
                for slot in made..end {
                    self.db().insert(slot_key(slot), &[])?;
                }
                Ok(())
            })?;
            made = end;
        }
        self.slots = Slots::Open { next, made };
        Ok(first)
    }

    /// Notes what is acknowledged. It reaches the disk with the next flush, of sled's own or ours, or when
    /// the database is closed.
    pub(crate) fn acknowledge(&self, acknowledged: &Acknowledged) -> Result<(), DatabaseError> {
        guarded(|| {
            self.db().insert(key(b'r', &[]), acknowledged.encode())?;
            Ok(())
        })
    }

    /// Everything appended so far survives a power cut once this has returned.
    pub(crate) fn flush(&self) -> Result<(), DatabaseError> {
        guarded(|| {
            self.db().flush()?;
            Ok(())
        })?;
        Ok(self.file.sync_data()?)
    }

    /// Bytes of disk that its file takes, as long as it is known.
    pub(crate) fn disk_bytes(&self) -> u64 {
        disk_bytes(&self.file)
    }

    /// A block's bytes; whether they are what was written is for its checksum to say.
    pub(crate) fn read(&self, sequence: u64) -> Result<Vec<u8>, DatabaseError> {
        guarded(|| {
            let entry = self.db().get(key(b'i', &[sequence]))?;
            let entry = entry.ok_or(DatabaseError::Damaged("block's entry"))?;
            let (stored, first) = decode_entry(&entry)?;
            let length = stored.bytes as usize;
            let mut bytes = Vec::with_capacity(length.min(BLOCK_MAX));
            let is_bare = self.format == FORMAT_BARE;
            let part_bytes = if is_bare { VALUE_BYTES } else { PART_BYTES };
            let slots = (first..).take(slots_of(length, part_bytes) as usize);
            for (number, slot) in (0..).zip(slots) {
                const DAMAGED: DatabaseError = DatabaseError::Damaged("part of a block");
                let value = self.db().get(slot_key(slot))?.ok_or(DAMAGED)?;
                let part = if is_bare {
                    &value
                } else {
                    let expected = Part { sequence, number };
                    let part = Part::parse(&value).filter(|(part, _)| *part == expected);
                    part.ok_or(DAMAGED)?.1
                };
                bytes.extend_from_slice(part);
            }
            Ok(bytes)
        })
    }

    const fn db(&self) -> &sled::Db {
        self.db
            .as_ref()
            .expect("it is taken when the database is dropped")
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "sled's own threads let go of the file a moment after it was closed, and nobody tells when"
    )]
    fn start(path: &Path) -> Result<Self, DatabaseError> {
        let config = sled::Config::new()
            .path(path)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            // Whoever must not lose a thing flushes; sled's own thread would wake, and move what is good
            // where it stands, in every open database.
            .flush_every_ms(None);
        let mut attempts = 1;
        let db = loop {
            match config.open() {
                Err(sled::Error::Io(error))
                    if attempts < LOCK_ATTEMPTS && error.kind() == io::ErrorKind::Other =>
                {
                    attempts += 1;
                    std::thread::sleep(LOCK_PAUSE);
                }
                result => break result?,
            }
        };
        Ok(Self {
            db: Some(db),
            file: File::open(path.join("db"))?,
            slots: Slots::Closed,
            format: FORMAT,
        })
    }

    fn open_and_scan(path: &Path) -> Result<(Self, Contents), DatabaseError> {
        let mut database = Self::start(path)?;
        let contents = database.scan()?;
        database.format = contents.format;
        Ok((database, contents))
    }

    /// Format and epoch.
    fn header(&self) -> Result<(u32, Epoch), DatabaseError> {
        let meta = self
            .db()
            .get(key(b'm', &[]))?
            .ok_or(DatabaseError::Damaged("header"))?;
        let (format, epoch) = postcard::from_bytes(&meta).map_err(|_| DatabaseError::Damaged("header"))?;
        if ![FORMAT, FORMAT_BARE].contains(&format) {
            return Err(DatabaseError::Format { found: format });
        }
        Ok((format, epoch))
    }

    fn scan(&self) -> Result<Contents, DatabaseError> {
        let (format, epoch) = self.header()?;
        let acknowledged = match self.db().get(key(b'r', &[]))? {
            Some(bytes) => Acknowledged::decode(&bytes).ok_or(DatabaseError::Damaged("acknowledgement"))?,
            None => Acknowledged::default(),
        };
        let mut cursors = Vec::new();
        for entry in self.db().scan_prefix(b"c") {
            cursors.push(postcard::from_bytes(&entry?.1).map_err(|_| DatabaseError::Damaged("cursor"))?);
        }
        let mut blocks = BTreeMap::new();
        for entry in self.db().scan_prefix(b"i") {
            let (key, value) = entry?;
            let sequence = sequence_of(&key).ok_or(DatabaseError::Damaged("index"))?;
            let (stored, _) = decode_entry(&value)?;
            blocks.insert(sequence, stored);
        }
        Ok(Contents {
            format,
            epoch,
            blocks,
            acknowledged,
            cursors,
        })
    }
}

/// Bytes of disk that an open file takes; 0 when the file system does not say.
pub(crate) fn disk_bytes(file: &File) -> u64 {
    file.metadata()
        .map_or(0, |meta| meta.blocks().saturating_mul(512))
}

fn decode_entry(entry: &[u8]) -> Result<(Stored, u32), DatabaseError> {
    postcard::from_bytes(entry).map_err(|_| DatabaseError::Damaged("index"))
}

fn batch_cursors(batch: &mut sled::Batch, cursors: &[Cursor]) {
    for cursor in cursors {
        batch.insert(key(b'c', &[cursor.node.get(), cursor.boot.get()]), encode(cursor));
    }
}

/// Renames sled's snapshots out of its sight; whether there were any.
fn set_snapshots_aside(path: &Path) -> io::Result<bool> {
    let mut found = false;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b"snap.") {
            let mut aside = std::ffi::OsString::from("aside.");
            aside.push(entry.file_name());
            std::fs::rename(entry.path(), path.join(aside))?;
            found = true;
        }
    }
    Ok(found)
}
