//! What a database holds, written beside it: `00000017.index` next to `00000017/`.
//!
//! When a database has lost blocks, or cannot be opened any more, this file still says which blocks,
//! frames and samples were in it, so that their loss has a name. It is appended to and synced after the
//! database is, and before anything is confirmed: so every block that it names was on disk, and one that
//! its database does not have any more has been lost. What a crash left in the database alone was never
//! confirmed; it is added here before it counts. A record is
//!
//! | bytes | |
//! |---|---|
//! | 4 | length of the record, little-endian |
//! | 4 | CRC-32C of the record, little-endian |
//! | length | postcard: format version, epoch and the cursors that the database began with in the first; sequence and [`Stored`] in the others |
//!
//! What follows a record that is torn or damaged is not read; the database still has it then, and the
//! file is written anew.

use super::database::{FORMAT, FORMAT_BARE, Stored, disk_bytes, encode};
use crate::block::Block;
use crate::intake::Cursor;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use trunnion_common::codec::crc32c;
use trunnion_common::id::Epoch;

/// The file beside a database's directory.
pub(crate) fn path_of(database: &Path) -> PathBuf {
    database.with_extension("index")
}

/// An index being written.
#[derive(Debug)]
pub(crate) struct IndexLog {
    file: File,
}

impl IndexLog {
    /// A new one beside the database `database` of the epoch; its directory entry is for the caller
    /// to sync.
    pub(crate) fn create(database: &Path, epoch: Epoch, cursors: &[Cursor]) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(path_of(database))?;
        file.write_all(&record(&encode(&(FORMAT, epoch, cursors))))?;
        file.sync_data()?;
        Ok(Self { file })
    }

    /// Bytes of disk that it takes.
    pub(crate) fn disk_bytes(&self) -> u64 {
        disk_bytes(&self.file)
    }

    /// Adds blocks that the database has; durable when it returns.
    pub(crate) fn append_blocks(&mut self, blocks: &[Block]) -> io::Result<()> {
        let entry = |block: &Block| record(&encode(&(block.key.sequence, Stored::of(block))));
        let bytes: Vec<u8> = blocks.iter().flat_map(entry).collect();
        if bytes.is_empty() {
            return Ok(());
        }
        self.file.write_all(&bytes)?;
        self.file.sync_data()
    }
}

/// What an index says.
#[derive(Debug)]
pub(crate) struct Known {
    /// [`FORMAT`], or an earlier one that is read.
    pub(crate) format: u32,
    pub(crate) epoch: Epoch,
    /// Where the intake stood when the database was begun.
    pub(crate) cursors: Vec<Cursor>,
    pub(crate) blocks: BTreeMap<u64, Stored>,
}

/// What the file beside `database` says, as far as it can be read; `None` when not even the epoch can.
pub(crate) fn read(database: &Path) -> io::Result<Option<Known>> {
    let bytes = std::fs::read(path_of(database))?;
    let mut records = Records(&bytes);
    let head = records.next().and_then(|head| {
        let ((format, epoch), rest) = postcard::take_from_bytes(head).ok()?;
        let cursors = match format {
            FORMAT => postcard::from_bytes(rest).ok()?,
            FORMAT_BARE => Vec::new(),
            _ => return None,
        };
        Some((format, epoch, cursors))
    });
    Ok(head.map(|(format, epoch, cursors)| Known {
        format,
        epoch,
        cursors,
        blocks: records
            .map_while(|record| postcard::from_bytes(record).ok())
            .collect(),
    }))
}

/// Puts another file in the place of the one beside `database`; durable when it returns.
pub(crate) fn rewrite(database: &Path, known: &Known) -> io::Result<()> {
    let path = path_of(database);
    let fresh = database.with_extension("index-new");
    let mut bytes = record(&encode(&(FORMAT, known.epoch, &known.cursors)));
    for entry in &known.blocks {
        bytes.extend(record(&encode(&entry)));
    }
    let mut file = File::create(&fresh)?;
    file.write_all(&bytes)?;
    file.sync_data()?;
    std::fs::rename(&fresh, &path)?;
    File::open(path.parent().unwrap_or(&path))?.sync_all()
}

fn record(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("an index is a few kilobytes at most");
    [&length.to_le_bytes(), &crc32c(content).to_le_bytes(), content].concat()
}

struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk()?;
        let (crc, rest) = rest.split_first_chunk()?;
        let (content, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.0 = rest;
        (crc32c(content) == u32::from_le_bytes(*crc)).then_some(content)
    }
}
