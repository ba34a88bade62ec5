//! The spool of a stopped agent under a person's hands: look, check, save, take along.
//!
//! Nothing here removes anything, and sled opens no database whose log is not whole: it would cut it off
//! there. Such a one is opened as a copy, or read without sled. Every tool takes the spool's lock, and so refuses while an agent runs.
//!
//! An export file is blocks back to back, each after its length in bytes as a little-endian u32. A block
//! is an envelope with its own checksum, and a body; so a reader needs nothing else.

use super::chain::{self, QUARANTINE, disk_bytes, index_of, numbered};
use super::database::{Contents, Database, DatabaseError};
use super::index_log;
use super::log_file::{self, Remains};
use super::{CHAINS, SpoolError, lock};
use crate::block::{Block, BlockKey, Index};
use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a spool holds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Report {
    /// Databases, essential chain first, oldest first.
    pub databases: Vec<DatabaseReport>,
    /// Where the intake of each boot stood.
    pub cursors: Vec<CursorReport>,
    /// Damaged databases and blocks that were set aside, with the bytes of disk that each takes.
    pub quarantine: Vec<(PathBuf, u64)>,
}

/// One database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DatabaseReport {
    /// Which chain.
    pub chain: &'static str,
    /// Its directory.
    pub path: PathBuf,
    /// Bytes of disk.
    pub disk_bytes: u64,
    /// When it was last written, in seconds since 1970.
    pub written_s: i64,
    /// Its epoch, as 16 hexadecimal digits.
    pub epoch: String,
    /// Blocks.
    pub blocks: u64,
    /// Bytes of those.
    pub block_bytes: u64,
    /// First and last sequence.
    pub sequences: Option<(u64, u64)>,
    /// Blocks that the collector has not acknowledged.
    pub unacknowledged: u64,
    /// Why it cannot be read, if so.
    pub damage: Option<String>,
}

/// One boot's cursor in one chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CursorReport {
    /// Which chain.
    pub chain: &'static str,
    /// Which node.
    pub node: String,
    /// Which boot.
    pub boot: String,
    /// Every frame below this has been taken in.
    pub upto: u64,
}

/// What became of every block.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Verdict {
    /// Blocks that are what was written.
    pub good: u64,
    /// Epoch, sequence and fault of each that is not.
    pub bad: Vec<(String, u64, String)>,
    /// Databases that cannot be opened.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// What was saved.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Salvage {
    /// Blocks saved.
    pub saved: u64,
    /// Bytes of those.
    pub saved_bytes: u64,
    /// Blocks that a healthy database holds as well.
    pub known: u64,
    /// Blocks that indexes name and that could not be found whole.
    pub lost: u64,
}

/// Whether an agent, or a tool, has the spool in `state_dir` open. Looks, and creates nothing.
pub fn is_in_use(state_dir: &Path) -> bool {
    File::open(state_dir.join("spool").join("lock")).is_ok_and(|lock| {
        flock(&lock, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
    })
}

/// Databases, epochs, sequences, cursors, quarantine.
pub fn inspect(state_dir: &Path) -> Result<Report, SpoolError> {
    let (directory, _lock) = enter(state_dir)?;
    let mut report = Report::default();
    for (chain, path) in databases(&directory)? {
        let meta = std::fs::metadata(path.join("db"));
        let mut database = DatabaseReport {
            chain,
            disk_bytes: disk_bytes(&path),
            written_s: meta.map_or(0, |meta| meta.mtime()),
            epoch: String::new(),
            blocks: 0,
            block_bytes: 0,
            sequences: None,
            unacknowledged: 0,
            damage: None,
            path: path.clone(),
        };
        match contents(&directory, &path) {
            Ok(contents) => {
                let sequences = || contents.blocks.keys().copied();
                database.epoch = contents.epoch.to_string();
                database.blocks = contents.blocks.len() as u64;
                database.block_bytes = contents.blocks.values().map(|block| u64::from(block.bytes)).sum();
                database.sequences = sequences().next().zip(sequences().next_back());
                let acknowledged = &contents.acknowledged.received;
                database.unacknowledged = sequences().filter(|&n| !acknowledged.contains(n)).count() as u64;
                for cursor in contents.cursors {
                    let class = CHAINS.iter().position(|name| *name == chain).unwrap_or_default();
                    report.cursors.push(CursorReport {
                        chain,
                        node: cursor.node.to_string(),
                        boot: cursor.boot.to_string(),
                        upto: cursor.received[class].upto(),
                    });
                }
            }
            Err(error) => database.damage = Some(error.to_string()),
        }
        report.databases.push(database);
    }
    // Each database starts with the cursors in force: the newest word counts.
    let newest: BTreeMap<_, _> = report
        .cursors
        .into_iter()
        .map(|cursor| ((cursor.chain, cursor.node.clone(), cursor.boot.clone()), cursor))
        .collect();
    report.cursors = newest.into_values().collect();
    let aside = quarantined(&directory)?.into_iter().map(|(_, path)| path);
    report.quarantine = aside
        .chain(kept_blocks(&directory))
        .map(|path| (path.clone(), disk_bytes(&path)))
        .collect();
    Ok(report)
}

/// Reads every block and checks its envelope.
pub fn verify(state_dir: &Path) -> Result<Verdict, SpoolError> {
    let (directory, _lock) = enter(state_dir)?;
    let (mut good, mut bad) = (BTreeSet::new(), BTreeMap::new());
    let mut verdict = Verdict::default();
    for (_, path) in databases(&directory)? {
        let each = each_block(&path, |key, bytes| match bytes {
            Ok(_) => {
                verdict.good += 1;
                good.insert(key);
            }
            Err(fault) => {
                bad.insert(key, fault);
            }
        });
        if let Err(error) = each {
            verdict.unreadable.push((path, error.to_string()));
        }
    }
    // What was saved from a damaged database stands in another.
    bad.retain(|key, _| !good.contains(key));
    let bad = bad
        .into_iter()
        .map(|(key, fault)| (key.epoch.to_string(), key.sequence, fault));
    verdict.bad = bad.collect();
    Ok(verdict)
}

/// Writes every good block to a new file; returns how many.
pub fn export(state_dir: &Path, file: &Path) -> Result<u64, SpoolError> {
    let (directory, _lock) = enter(state_dir)?;
    let mut output = create(file)?;
    let (mut count, mut outcome) = (0, Ok(()));
    for (_, path) in databases(&directory)? {
        let each = each_block(&path, |_, bytes| {
            if let Ok(bytes) = bytes
                && outcome.is_ok()
            {
                outcome = put(&mut output, &bytes);
                count += 1;
            }
        });
        if let Err(error) = each {
            tracing::warn!(path = %path.display(), %error, "database not readable and left out");
        }
    }
    outcome.and_then(|()| finish(output)).map_err(failed(file))?;
    Ok(count)
}

/// Reads what can be read out of databases that were set aside: into an export file, or, without one,
/// into new databases beside them, under their own epochs and sequences. From there the agent's next
/// start sends them as if nothing had happened, as long as it has not told them as lost before.
pub fn salvage(state_dir: &Path, file: Option<&Path>) -> Result<Salvage, SpoolError> {
    let (directory, _lock) = enter(state_dir)?;
    let mut known = BTreeSet::new();
    for (_, path) in databases(&directory)? {
        // One that cannot be opened knows nothing.
        let _ = each_block(&path, |key, bytes| {
            if bytes.is_ok() {
                known.insert(key);
            }
        });
    }
    let mut salvage = Salvage::default();
    let mut output = file.map(create).transpose()?;
    for (chain, aside) in quarantined(&directory)? {
        let home = directory.join(chain);
        let mut found: BTreeMap<BlockKey, Block> = BTreeMap::new();
        let named = named_blocks(&aside);
        for (key, bytes) in readable_blocks(&directory, &aside).map_err(failed(&aside))? {
            let index = named.get(&key).cloned().unwrap_or_else(|| index_of(&bytes));
            found.entry(key).or_insert(Block { key, bytes, index });
        }
        salvage.lost += named.keys().filter(|key| !found.contains_key(key)).count() as u64;
        let before = found.len();
        found.retain(|key, _| known.insert(*key));
        salvage.known += (before - found.len()) as u64;
        salvage.saved += found.len() as u64;
        salvage.saved_bytes += found.values().map(|block| block.bytes.len() as u64).sum::<u64>();
        match &mut output {
            Some(output) => {
                let mut blocks = found.values();
                blocks
                    .try_for_each(|block| put(output, &block.bytes))
                    .map_err(failed(&aside))?;
            }
            None => restore(&home, &found).map_err(|error| SpoolError::Database {
                path: home,
                reason: error.to_string(),
            })?,
        }
    }
    if let (Some(mut output), Some(file)) = (output, file) {
        for path in kept_blocks(&directory) {
            let bytes = std::fs::read(&path).map_err(failed(&path))?;
            if let Ok(block) = trunnion_common::block::Block::parse(&bytes)
                && known.insert(key_of(&block))
            {
                put(&mut output, &bytes).map_err(failed(file))?;
                salvage.saved += 1;
                salvage.saved_bytes += bytes.len() as u64;
            }
        }
        finish(output).map_err(failed(file))?;
    }
    Ok(salvage)
}

fn enter(state_dir: &Path) -> Result<(PathBuf, File), SpoolError> {
    let directory = state_dir.join("spool");
    let lock = lock(&directory)?;
    Ok((directory, lock))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> SpoolError + '_ {
    move |source| SpoolError::Directory {
        path: path.to_owned(),
        source,
    }
}

fn with_ending(directory: &Path, wanted: &str) -> Result<Vec<(&'static str, PathBuf)>, SpoolError> {
    let mut found = Vec::new();
    for chain in CHAINS {
        let home = directory.join(chain);
        if !home.exists() {
            continue;
        }
        for (number, ending) in numbered(&home).map_err(failed(&home))? {
            if ending == wanted {
                let dot = if ending.is_empty() { "" } else { "." };
                found.push((chain, home.join(format!("{number:08}{dot}{ending}"))));
            }
        }
    }
    Ok(found)
}

fn databases(directory: &Path) -> Result<Vec<(&'static str, PathBuf)>, SpoolError> {
    with_ending(directory, "")
}

fn quarantined(directory: &Path) -> Result<Vec<(&'static str, PathBuf)>, SpoolError> {
    with_ending(directory, QUARANTINE)
}

/// Single blocks kept for inspection.
fn kept_blocks(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory.join("quarantine"))
        .into_iter()
        .flatten();
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn key_of(block: &trunnion_common::block::Block<'_>) -> BlockKey {
    BlockKey {
        epoch: block.envelope.epoch,
        sequence: block.envelope.sequence,
    }
}

/// What a database holds; of one whose log is not whole, what sled makes of a copy.
fn contents(directory: &Path, path: &Path) -> Result<Contents, DatabaseError> {
    if log_file::is_whole(path)? {
        return Ok(Database::open(path)?.1);
    }
    let copy = copy_of(directory, path)?;
    let opened = Database::open(&copy).map(|(_, contents)| contents);
    std::fs::remove_dir_all(&copy)?;
    opened
}

/// Every block of a database and every one that its index names, or what is wrong with it.
fn each_block(
    path: &Path,
    mut each: impl FnMut(BlockKey, Result<Bytes, String>),
) -> Result<(), DatabaseError> {
    let named = named_blocks(path);
    let mut seen = BTreeSet::new();
    if log_file::is_whole(path)? {
        let (database, contents) = Database::open(path)?;
        for &sequence in contents.blocks.keys() {
            let key = BlockKey {
                epoch: contents.epoch,
                sequence,
            };
            seen.insert(key);
            let bytes = database.read(sequence).map_err(|error| error.to_string());
            each(
                key,
                bytes.and_then(|bytes| match trunnion_common::block::Block::parse(&bytes) {
                    Ok(block) if key_of(&block) == key => Ok(bytes.into()),
                    Ok(_) => Err("another block stands in its place".to_owned()),
                    Err(reason) => Err(reason.to_string()),
                }),
            );
        }
    } else {
        for (key, bytes) in Remains::of(path)?.blocks(path) {
            seen.insert(key);
            each(key, Ok(bytes));
        }
    }
    for key in named.keys().filter(|key| !seen.contains(key)) {
        each(
            *key,
            Err("the database does not have it whole any more".to_owned()),
        );
    }
    Ok(())
}

/// What the index beside a database that was set aside says, or in it once all of it is settled.
fn named_blocks(aside: &Path) -> BTreeMap<BlockKey, Index> {
    let Ok(Some(known)) = index_log::read(aside) else {
        return BTreeMap::new();
    };
    let epoch = known.epoch;
    let key = |sequence| BlockKey { epoch, sequence };
    known
        .blocks
        .into_iter()
        .map(|(sequence, stored)| (key(sequence), stored.index))
        .collect()
}

/// Blocks that are whole: as the database gives them if a copy of it can be opened, and whatever its log
/// still has of others.
fn readable_blocks(directory: &Path, aside: &Path) -> io::Result<Vec<(BlockKey, Bytes)>> {
    let mut found = Vec::new();
    let copy = copy_of(directory, aside)?;
    let opened = each_block(&copy, |key, bytes| {
        found.extend(bytes.ok().map(|bytes| (key, bytes)));
    });
    if let Err(error) = opened {
        tracing::warn!(path = %aside.display(), %error, "database does not open; its log is searched for blocks");
    }
    std::fs::remove_dir_all(&copy)?;
    match Remains::of(aside) {
        Ok(remains) => found.extend(remains.blocks(aside)),
        Err(error) => tracing::warn!(path = %aside.display(), %error, "its log is not readable"),
    }
    Ok(found)
}

/// A copy that sled may do with what it likes, in the place of the one before.
fn copy_of(directory: &Path, database: &Path) -> io::Result<PathBuf> {
    let copy = directory.join("salvage");
    // What an interrupted one left.
    if copy.exists() {
        std::fs::remove_dir_all(&copy)?;
    }
    copy_directory(database, &copy)?;
    Ok(copy)
}

fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Puts blocks into new databases, one for each epoch.
fn restore(home: &Path, blocks: &BTreeMap<BlockKey, Block>) -> Result<(), DatabaseError> {
    let mut epochs: BTreeMap<_, Vec<Block>> = BTreeMap::new();
    for block in blocks.values() {
        epochs.entry(block.key.epoch).or_default().push(block.clone());
    }
    for (epoch, blocks) in epochs {
        let next = numbered(home)?
            .last()
            .map_or(1, |(last, _)| last.saturating_add(1));
        chain::restore(&home.join(format!("{next:08}")), epoch, &blocks)?;
    }
    Ok(())
}

fn create(file: &Path) -> Result<File, SpoolError> {
    File::create_new(file).map_err(failed(file))
}

fn put(output: &mut File, block: &[u8]) -> io::Result<()> {
    let length = u32::try_from(block.len()).map_err(io::Error::other)?;
    output.write_all(&[&length.to_le_bytes()[..], block].concat())
}

fn finish(output: File) -> io::Result<()> {
    output.sync_all()
}
