//! The spool of this format version as it stands on a disk, `tests/golden/spool_4`, and of the one before,
//! which is read as well.
//!
//! Files of a released version are never written again: they are the compatibility promise. Before, a
//! change of the format writes them anew:
//! `cargo test -p trunnion-agent --test golden -- --ignored write_the_golden_spool`.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use trunnion_agent::block::{Block, BlockKey, Index};
use trunnion_agent::intake::Cursor;
use trunnion_agent::spool::{FormerEpoch, ReadError, Recovered, Spool, SpoolError, tools};
use trunnion_common::block::Kind;
use trunnion_common::frame::Class;
use trunnion_common::id::{BootId, ChannelId, Epoch, JournalId, NodeId};
use trunnion_common::sequence::{Range, SequenceSet};

const ESSENTIAL: Epoch = Epoch(0xE551);
const WAVEFORM: Epoch = Epoch(0x3A7E);
const JOURNAL: JournalId = JournalId(5);

/// The next start's.
const FRESH: [Epoch; 2] = [Epoch(1), Epoch(2)];

/// The formats that are read, newest last.
const FORMATS: [u32; 2] = [3, 4];

const NEWEST: u32 = FORMATS[1];

fn golden(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/spool_{format}"))
}

fn upto(end: u64) -> SequenceSet {
    let mut set = SequenceSet::new();
    set.advance(end);
    set
}

fn node() -> NodeId {
    NodeId::new(0xa1).unwrap()
}

fn boot() -> BootId {
    BootId::from_u64(7)
}

fn cursor(essential: u64, waveform: u64) -> Cursor {
    Cursor {
        node: node(),
        boot: boot(),
        received: [upto(essential), upto(waveform)],
        channels: vec![(ChannelId::new(0).unwrap(), 480 * waveform, 480 * waveform)],
        fix: None,
    }
}

/// A block of frames, one for each of the sequences given.
fn block(epoch: Epoch, sequence: u64, bytes: usize, class: Class, frames: (u64, u64)) -> Block {
    let key = BlockKey { epoch, sequence };
    let body: Vec<u8> = (0..bytes).map(|at| (at as u64 * 31 + sequence) as u8).collect();
    let span = Range::new(frames.0, frames.1).unwrap();
    let index = Index {
        frames: vec![(node(), boot(), class, std::iter::once(span).collect())],
        samples: vec![(node(), boot(), ChannelId::new(0).unwrap(), 480, span)],
        ..Index::default()
    };
    Block::new(key, Kind::Frames, &body, index)
}

/// What is in it: two essentials; five blocks of waveforms, of which the first is acknowledged, the next
/// two stand in a database beside it, and the last two in one that is set aside.
fn essentials() -> [Block; 2] {
    [
        block(ESSENTIAL, 0, 300, Class::Essential, (0, 2)),
        block(ESSENTIAL, 1, 40, Class::Essential, (2, 3)),
    ]
}

fn waveforms() -> [Block; 5] {
    [
        block(WAVEFORM, 0, 100, Class::Waveform, (0, 1)),
        // Three parts.
        block(WAVEFORM, 1, 20_000, Class::Waveform, (1, 9)),
        block(WAVEFORM, 2, 700, Class::Waveform, (9, 10)),
        block(WAVEFORM, 3, 500, Class::Waveform, (10, 11)),
        block(WAVEFORM, 4, 600, Class::Waveform, (11, 12)),
    ]
}

fn open(state: &Path) -> Result<(Spool, Recovered), SpoolError> {
    Spool::open(state, FRESH)
}

/// The files below a directory, by their path in it.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(directory: &Path, base: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, base, files);
            } else {
                files.insert(
                    path.strip_prefix(base).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(directory, directory, &mut found);
    found
}

/// A state directory with a copy of the golden spool.
fn copy(format: u32) -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    for (path, bytes) in files(&golden(format)) {
        let to = state.path().join("spool").join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    }
    state
}

#[test]
fn the_golden_spool_is_found_exactly_as_it_was_left() {
    FORMATS.into_iter().for_each(check_golden);
}

fn check_golden(format: u32) {
    let state = copy(format);
    let (mut spool, recovered) = open(state.path()).unwrap();
    assert_eq!(recovered.current, [(FRESH[0], 0), (FRESH[1], 0)]);
    let held: Vec<Block> = essentials()
        .into_iter()
        .chain(waveforms().into_iter().skip(1))
        .collect();
    let expected: BTreeMap<_, _> = held
        .iter()
        .map(|block| (block.key, (block.bytes.len() as u32, block.index.clone())))
        .collect();
    assert_eq!(recovered.blocks, expected);
    let former = |epoch, class, next, freed_by| FormerEpoch {
        epoch,
        class,
        next,
        freed_by,
    };
    assert_eq!(
        recovered.epochs,
        [
            former(ESSENTIAL, Class::Essential, 2, None),
            former(WAVEFORM, Class::Waveform, 5, Some(JOURNAL)),
        ]
    );
    assert_eq!(recovered.cursors, [cursor(3, 12)]);
    assert!(recovered.quarantined.is_empty(), "it was set aside before");
    for block in &held {
        let read = spool.read(block.key);
        let is_aside = block.key.epoch == WAVEFORM && block.key.sequence >= 3;
        if is_aside {
            assert!(matches!(read, Err(ReadError::Lost(_))), "{:?}", block.key);
        } else {
            assert_eq!(read.unwrap(), block.bytes, "{:?}", block.key);
        }
    }
}

#[test]
fn the_tools_save_what_is_set_aside_in_the_golden_spool() {
    for format in FORMATS {
        let state = copy(format);
        let saved = tools::salvage(state.path(), None).unwrap();
        assert_eq!((saved.saved, saved.lost), (2, 0));
        let (mut spool, _) = open(state.path()).unwrap();
        for block in &waveforms()[1..] {
            assert_eq!(spool.read(block.key).unwrap(), block.bytes);
        }
    }
}

#[test]
fn a_spool_of_another_format_is_refused_in_clear_words_and_left_as_it_is() {
    let state = copy(NEWEST);
    let database = state.path().join("spool/waveform/00000001");
    {
        let db = sled::Config::new()
            .path(&database)
            .segment_size(1 << 20)
            .open()
            .unwrap();
        let header = postcard::to_extend(&(99_u32, WAVEFORM), Vec::new()).unwrap();
        assert!(
            db.insert(b"m", header).unwrap().is_some(),
            "its header stands there"
        );
        db.flush().unwrap();
    }
    let before = files(&database);
    let error = open(state.path()).unwrap_err().to_string();
    assert!(
        error.contains("format 99") && error.contains("run the version that wrote it"),
        "{error}"
    );
    let after = files(&database);
    assert_eq!(before["db".as_ref() as &Path], after["db".as_ref() as &Path]);
    assert!(
        state.path().join("spool/waveform/00000001.index").is_file()
            && state.path().join("spool/essential/00000001/db").is_file(),
        "nothing was removed"
    );
}

#[test]
#[ignore = "writes the files that the other tests compare with"]
fn write_the_golden_spool() {
    let state = tempfile::tempdir().unwrap();
    {
        let (mut spool, _) = Spool::open(state.path(), [ESSENTIAL, WAVEFORM]).unwrap();
        let blocks = waveforms();
        spool
            .commit(Class::Essential, &essentials(), &[cursor(3, 12)])
            .unwrap();
        spool
            .commit(Class::Waveform, &blocks[..3], &[cursor(3, 10)])
            .unwrap();
        spool.acknowledge(WAVEFORM, &upto(1), JOURNAL.into());
        spool.close_waveform().unwrap();
        spool
            .commit(Class::Waveform, &blocks[3..], &[cursor(3, 12)])
            .unwrap();
        // So that the cursors outlive the one that is set aside.
        spool.close_waveform().unwrap();
    }
    let waveform = state.path().join("spool/waveform");
    fs::rename(waveform.join("00000002"), waveform.join("00000002.quarantine")).unwrap();
    let _ = fs::remove_dir_all(golden(NEWEST));
    let mut bytes_in_all = 0;
    for (path, bytes) in files(&state.path().join("spool")) {
        if ["lock", "ballast", "alarms"]
            .iter()
            .any(|name| path.ends_with(name))
        {
            continue;
        }
        let to = golden(NEWEST).join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        bytes_in_all += bytes.len();
        fs::write(to, bytes).unwrap();
    }
    assert!(
        bytes_in_all < 300 << 10,
        "{bytes_in_all} bytes are too many to keep"
    );
}
