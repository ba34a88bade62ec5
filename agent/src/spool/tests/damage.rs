//! A byte that is not what was written, anywhere in a stopped spool: every block is there as it was, or is
//! named as lost, and one byte costs one block at most.

use super::*;

/// What stands in the spool that is damaged: about a megabyte, in commits of several blocks.
const BLOCKS: u64 = 60;

/// Bytes between the places that are tried with a whole spool; prime, so that it meets every alignment.
const STRIDE: u64 = 30_011;

/// The same for the log alone.
const STRIDE_OF_LOG: usize = 499;

/// Blocks of a few bytes up to some that fill three parts.
fn bytes_of(sequence: u64) -> usize {
    [40, 700, 9_000, 65_536 / 4, 3_000, 24_000][sequence as usize % 6]
}

/// A frame each, so that the cursor follows from the blocks.
fn written(sequence: u64) -> Block {
    let mut block = block(1, sequence, bytes_of(sequence));
    let cursor = cursor(0);
    let one = Range::one(sequence).unwrap();
    block.index.frames = vec![(
        cursor.node,
        cursor.boot,
        Class::Waveform,
        std::iter::once(one).collect(),
    )];
    block
}

fn fill(path: &Path) {
    let (mut spool, _) = open(path, 1);
    for first in (0..BLOCKS).step_by(3) {
        let blocks: Vec<Block> = (first..first + 3).map(written).collect();
        spool
            .commit(Class::Waveform, &blocks, &[cursor(first + 3)])
            .unwrap();
    }
}

/// In memory, where the system has such a place: these tests copy much.
pub(super) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else if entry.file_name() != "ballast" {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn flip(file: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// Opens a damaged spool twice, as two starts of the agent would: each finds every block whole or named
/// as lost, and the cursor where it was. Returns how many are lost.
fn lost_in(state: &Path, what: &str) -> usize {
    let mut lost = Vec::new();
    for start in 2..4 {
        let (mut spool, recovered) = open(state, start);
        let mut lost_now = Vec::new();
        for sequence in 0..BLOCKS {
            assert!(
                recovered.blocks.contains_key(&key(1, sequence)),
                "{what}: block {sequence} has vanished at start {start}"
            );
            match spool.read(key(1, sequence)) {
                Ok(bytes) => assert_eq!(bytes, written(sequence).bytes, "{what}: block {sequence}"),
                Err(ReadError::Lost(_)) => lost_now.push(sequence),
                Err(error) => panic!("{what}: block {sequence}: {error}"),
            }
        }
        assert_eq!(
            recovered.cursors[0].received[1].upto(),
            BLOCKS,
            "{what}: the cursor at start {start}"
        );
        spool
            .commit(Class::Waveform, &[block(start, 0, 10)], &recovered.cursors)
            .unwrap();
        assert!(spool.read(key(start, 0)).is_ok(), "{what}");
        if start > 2 {
            assert_eq!(
                lost_now, lost,
                "{what}: the second start finds what the first one found"
            );
        }
        lost = lost_now;
    }
    lost.len()
}

/// One start after one flipped byte.
fn check_flip(sound: &Path, file: &Path, at: u64) -> usize {
    let damaged = folder();
    copy(sound, damaged.path());
    flip(&damaged.path().join(file), at);
    let what = format!("byte {at} of {}", file.display());
    let lost = lost_in(damaged.path(), &what);
    assert!(lost <= 1, "{what} costs {lost} blocks");
    lost
}

/// Every file of the waveform chain, and the places to damage in each.
fn places(state: &Path) -> Vec<(PathBuf, u64)> {
    let chain = Path::new("spool/waveform");
    let mut places = Vec::new();
    for file in ["00000001/db", "00000001/conf", "00000001.index"] {
        let file = chain.join(file);
        let length = std::fs::metadata(state.join(&file)).unwrap().len();
        let head = [0, 4, 12, 20, 24, 25, 60].into_iter().filter(|at| *at < length);
        let rest = (1..)
            .map(|n| n * STRIDE.min(length / 7))
            .take_while(|at| *at < length);
        places.extend(head.chain(rest).map(|at| (file.clone(), at)));
    }
    places
}

#[test]
fn a_flipped_byte_is_noticed_and_costs_one_block_at_most() {
    let sound = folder();
    fill(sound.path());
    assert_eq!(lost_in(crash(sound.path()).path(), "nothing"), 0);
    let outcomes: Vec<usize> = places(sound.path())
        .iter()
        .map(|(file, at)| check_flip(sound.path(), file, *at))
        .collect();
    let lost: usize = outcomes.iter().sum();
    eprintln!("{} bytes flipped, {lost} blocks lost", outcomes.len());
    assert!(lost > outcomes.len() / 8, "most of a spool is blocks");
}

#[test]
#[ignore = "hours; TRUNNION_FLIPS=N tries every N-th byte of the spool instead of all"]
fn every_flipped_byte_is_noticed_and_costs_one_block_at_most() {
    let sound = folder();
    fill(sound.path());
    let every = std::env::var("TRUNNION_FLIPS").map_or(1, |every| every.parse().unwrap());
    let mut tried = 0;
    for file in ["00000001/db", "00000001/conf", "00000001.index"] {
        let file = Path::new("spool/waveform").join(file);
        let length = std::fs::metadata(sound.path().join(&file)).unwrap().len();
        for at in (0..length).step_by(every) {
            check_flip(sound.path(), &file, at);
            tried += 1;
        }
    }
    eprintln!("{tried} bytes flipped");
}

#[test]
fn a_log_that_is_not_whole_is_known_and_has_all_blocks_but_the_one_that_was_hit() {
    use crate::spool::log_file::{Remains, is_whole};
    let dir = folder();
    fill(dir.path());
    let database = databases(dir.path())[0].clone();
    assert!(is_whole(&database).unwrap());
    let all: BTreeMap<BlockKey, Bytes> = (0..BLOCKS).map(|n| (key(1, n), written(n).bytes)).collect();
    let read =
        || -> BTreeMap<BlockKey, Bytes> { Remains::of(&database).unwrap().blocks(&database).collect() };
    assert_eq!(read(), all);
    let log = std::fs::read(database.join("db")).unwrap();
    let used = log.iter().rposition(|byte| *byte != 0).unwrap();
    let mut unnoticed = Vec::new();
    for (tried, at) in (0..used).step_by(STRIDE_OF_LOG).enumerate() {
        flip(&database.join("db"), at as u64);
        if is_whole(&database).unwrap() {
            unnoticed.push(at);
        }
        if tried % 16 == 0 {
            let left = read();
            assert!(left.len() + 1 >= all.len(), "byte {at}");
            assert!(left.iter().all(|(key, bytes)| all[key] == *bytes), "byte {at}");
        }
        flip(&database.join("db"), at as u64);
    }
    assert_eq!(unnoticed, [0_usize; 0], "of {used} bytes");
}

#[test]
fn a_name_damaged_into_that_of_another_block_costs_one_block() {
    use crate::spool::database::PART_MAGIC;
    use crate::spool::log_file::Remains;
    use trunnion_common::block::MAGIC;
    let dir = folder();
    fill(dir.path());
    let database = databases(dir.path())[0].clone();
    let all: BTreeMap<BlockKey, Bytes> = (0..BLOCKS).map(|n| (key(1, n), written(n).bytes)).collect();
    let mut log = std::fs::read(database.join("db")).unwrap();
    log.truncate(log.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    let starts = |magic: [u8; 4]| {
        let windows = log.windows(4).enumerate();
        windows.filter_map(move |(at, bytes)| (bytes == magic).then_some(at))
    };
    // The lowest bytes of a block's sequence, in its envelope and in the parts, and of a part's number.
    let sequences = starts(MAGIC.to_le_bytes()).map(|at| at + 12);
    let parts = starts(PART_MAGIC).filter(|at| log[at + 12] > 0);
    let parts = parts.flat_map(|at| [at + 4, at + 12]);
    let places: Vec<usize> = sequences.chain(parts).collect();
    assert!(places.len() > 2 * BLOCKS as usize);
    for at in places {
        for bit in [1, 4, 32] {
            let mut damaged = log.clone();
            damaged[at] ^= bit;
            std::fs::write(database.join("db"), damaged).unwrap();
            let left: BTreeMap<BlockKey, Bytes> = Remains::of(&database).unwrap().blocks(&database).collect();
            assert!(
                left.len() + 1 >= all.len(),
                "byte {at}, bit {bit}: {} left",
                left.len()
            );
            assert!(
                left.iter().all(|(key, bytes)| all[key] == *bytes),
                "byte {at}, bit {bit}"
            );
        }
    }
}
