//! Fill, stop at an awkward moment, open again.

use super::*;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use trunnion_common::block::Kind;
use trunnion_common::id::NodeId;

const JOURNAL: JournalId = JournalId(5);

fn block(epoch: u64, sequence: u64, bytes: usize) -> Block {
    let key = BlockKey {
        epoch: Epoch(epoch),
        sequence,
    };
    let body: Vec<u8> = (0..bytes).map(|i| (i as u64 * 31 + sequence) as u8).collect();
    Block::new(key, Kind::Frames, &body, Index::default())
}

fn cursor(upto: u64) -> Cursor {
    let mut set = SequenceSet::new();
    set.advance(upto);
    Cursor {
        node: NodeId::new(1).unwrap(),
        boot: trunnion_common::id::BootId::from_u64(2),
        received: [SequenceSet::new(), set],
        channels: Vec::new(),
        fix: None,
    }
}

fn open(path: &Path, epoch: u64) -> (Spool, Recovered) {
    Spool::open(path, Epoch(epoch)).unwrap()
}

fn key(epoch: u64, sequence: u64) -> BlockKey {
    block(epoch, sequence, 0).key
}

fn upto(end: u64) -> SequenceSet {
    let mut set = SequenceSet::new();
    set.advance(end);
    set
}

/// The state directory as a power cut would leave it: whatever has reached the files by now.
fn crash(path: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let after = tempfile::tempdir().unwrap();
    copy(path, after.path());
    after
}

fn databases(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(path.join("spool"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

#[test]
fn a_commit_outlives_a_crash_in_order_with_its_cursors_and_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, recovered) = open(dir.path(), 1);
    assert_eq!(recovered.epoch, Some((Epoch(1), 0)));
    spool
        .commit(&[block(1, 0, 70_000), block(1, 1, 10)], &[cursor(4)])
        .unwrap();
    spool.commit(&[block(1, 2, 65_536)], &[cursor(9)]).unwrap();

    let after = crash(dir.path());
    let (mut spool, recovered) = open(after.path(), 2);
    assert_eq!(recovered.epoch, Some((Epoch(2), 0)));
    let keys: Vec<BlockKey> = recovered.blocks.keys().copied().collect();
    assert_eq!(keys, [key(1, 0), key(1, 1), key(1, 2)]);
    assert_eq!(recovered.epochs[&Epoch(1)], (3, None));
    assert_eq!(recovered.cursors, [cursor(9)]);
    for (sequence, bytes) in [(0, 70_000), (1, 10), (2, 65_536)] {
        assert_eq!(
            spool.read(key(1, sequence)).unwrap(),
            block(1, sequence, bytes).bytes
        );
    }
    spool.commit(&[block(2, 0, 100)], &[cursor(10)]).unwrap();
    assert_eq!(spool.read(key(2, 0)).unwrap(), block(2, 0, 100).bytes);
}

#[test]
fn an_acknowledged_epoch_gives_its_space_back_and_is_not_listed_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    spool
        .commit(&[block(1, 0, 10), block(1, 1, 10)], &[cursor(3)])
        .unwrap();
    drop(spool);
    let (mut spool, _) = open(dir.path(), 2);
    spool.commit(&[], &[cursor(3)]).unwrap();
    assert_eq!(databases(dir.path()).len(), 2);
    spool.acknowledge(Epoch(1), &upto(1), JOURNAL);
    assert_eq!(databases(dir.path()).len(), 2);
    assert_eq!(
        spool.read(key(1, 0)),
        Err(ReadError::Lost("no database of the spool holds it".to_owned()))
    );
    spool.acknowledge(Epoch(1), &upto(2), JOURNAL);
    assert_eq!(databases(dir.path()).len(), 1);
    drop(spool);
    let (_, recovered) = open(dir.path(), 3);
    assert!(recovered.blocks.is_empty() && recovered.epochs.is_empty());
    assert_eq!(recovered.cursors, [cursor(3)], "cursors move on with the chain");
}

#[test]
fn an_acknowledgement_is_remembered_with_its_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    spool.commit(&[block(1, 0, 10), block(1, 1, 10)], &[]).unwrap();
    spool.acknowledge(Epoch(1), &upto(1), JOURNAL);
    spool.commit(&[block(1, 2, 10)], &[]).unwrap();
    let after = crash(dir.path());
    let (_, recovered) = open(after.path(), 2);
    let keys: Vec<BlockKey> = recovered.blocks.keys().copied().collect();
    assert_eq!(keys, [key(1, 1), key(1, 2)]);
    assert_eq!(recovered.epochs[&Epoch(1)], (3, Some(JOURNAL)));
}

#[test]
fn a_full_database_is_followed_by_the_next_and_blobs_stay_empty() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    let count = DATABASE_BYTES / 65_536 + 4;
    for sequence in (0..count).step_by(16) {
        let blocks: Vec<Block> = (sequence..sequence + 16).map(|n| block(1, n, 65_536)).collect();
        spool.commit(&blocks, &[cursor(sequence)]).unwrap();
    }
    let members = databases(dir.path());
    assert_eq!(members.len(), 2);
    for member in &members {
        assert_eq!(
            std::fs::read_dir(member.join("blobs")).unwrap().count(),
            0,
            "{member:?}"
        );
    }
    assert_eq!(spool.read(key(1, 3)).unwrap(), block(1, 3, 65_536).bytes);
    spool.acknowledge(Epoch(1), &upto(DATABASE_BYTES / 65_536 + 2), JOURNAL);
    assert_eq!(databases(dir.path()), members[1..]);
}

#[test]
fn damage_costs_at_most_its_database_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    let blocks: Vec<Block> = (0..8).map(|n| block(1, n, 30_000)).collect();
    spool.commit(&blocks, &[cursor(7)]).unwrap();
    drop(spool);
    let length = std::fs::metadata(databases(dir.path())[0].join("db"))
        .unwrap()
        .len();
    // One flipped byte at places all over the file, the head included.
    let places = (0..20).map(|i| i * length / 20).chain([0, 8, 16, 24, 32]);
    for at in places {
        let damaged = crash(dir.path());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(databases(damaged.path())[0].join("db"))
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[!byte[0]], at).unwrap();

        let (mut spool, recovered) = open(damaged.path(), 2);
        for key in recovered.blocks.keys() {
            if let Ok(bytes) = spool.read(*key) {
                assert_eq!(bytes, block(1, key.sequence, 30_000).bytes, "byte {at}");
            }
        }
        spool.commit(&[block(2, 0, 10)], &[cursor(8)]).unwrap();
        assert!(spool.read(key(2, 0)).is_ok());
    }
}

#[test]
fn a_database_that_is_no_database_is_set_aside_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    spool.commit(&[block(1, 0, 10)], &[cursor(1)]).unwrap();
    drop(spool);
    let member = databases(dir.path())[0].clone();
    std::fs::write(member.join("db"), vec![0xA5; 8 << 20]).unwrap();
    let (_, recovered) = open(dir.path(), 2);
    assert!(recovered.blocks.is_empty());
    assert_eq!(recovered.quarantined, [member.with_extension("quarantine")]);
    assert!(recovered.quarantined[0].is_dir());
}

#[test]
fn a_buried_block_is_kept_for_inspection_and_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    spool.commit(&[block(1, 0, 10)], &[]).unwrap();
    drop(spool);
    let (mut spool, _) = open(dir.path(), 2);
    spool.bury(key(1, 0));
    let names: Vec<PathBuf> = databases(dir.path());
    assert_eq!(names.len(), 2, "the new database and the quarantine: {names:?}");
    let kept = dir.path().join("spool/quarantine/0000000000000001-0.block");
    assert_eq!(std::fs::read(kept).unwrap(), block(1, 0, 10).bytes);
}

#[test]
fn a_spool_belongs_to_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let (_spool, _) = open(dir.path(), 1);
    let error = Spool::open(dir.path(), Epoch(2)).unwrap_err();
    assert!(matches!(error, SpoolError::InUse { .. }), "{error}");
}

#[test]
fn so_many_epochs_that_no_hello_could_list_them_are_never_made() {
    let dir = tempfile::tempdir().unwrap();
    for start in 0..EPOCHS_MAX as u64 + 2 {
        let (mut spool, recovered) = open(dir.path(), 100 + start);
        let (epoch, next) = recovered.epoch.unwrap();
        assert!(recovered.epochs.len() <= EPOCHS_MAX);
        if start >= EPOCHS_MAX as u64 {
            assert_eq!(
                (epoch, next),
                (Epoch(100 + EPOCHS_MAX as u64 - 1), 1 + start - EPOCHS_MAX as u64)
            );
        }
        spool.commit(&[block(epoch.0, next, 10)], &[]).unwrap();
    }
}

#[test]
fn the_worker_confirms_commits_and_finishes_what_it_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 1);
    let (replies, inbox) = std::sync::mpsc::channel();
    let (requests, thread) = spawn(spool, move |reply| replies.send(reply).unwrap()).unwrap();
    for number in 0..5 {
        requests
            .send(Request::Commit(Commit {
                number,
                blocks: vec![block(1, number, 1_000)],
                cursors: vec![cursor(number)],
            }))
            .unwrap();
    }
    requests.send(Request::Read(key(1, 4))).unwrap();
    drop(requests);
    thread.join().unwrap();
    let replies: Vec<Reply> = inbox.iter().collect();
    assert_eq!(
        replies.last(),
        Some(&Reply::Read(key(1, 4), Ok(block(1, 4, 1_000).bytes)))
    );
    assert!(replies.contains(&Reply::Committed(4)));
    let (_, recovered) = open(dir.path(), 2);
    assert_eq!(recovered.blocks.len(), 5);
}

/// Not a test of its own: what the next one runs in a process that it kills.
#[test]
fn victim_that_commits_until_it_is_killed() {
    let Some(dir) = std::env::var_os("TRUNNION_SPOOL_VICTIM") else {
        return;
    };
    let (mut spool, _) = open(Path::new(&dir), 1);
    for sequence in 0.. {
        spool
            .commit(&[block(1, sequence, 20_000)], &[cursor(sequence + 1)])
            .unwrap();
        println!("committed {sequence}");
    }
}

#[test]
fn nothing_confirmed_is_lost_to_a_kill() {
    use std::io::{BufRead, BufReader};
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let path = dir.path().join(round.to_string());
        let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "spool::tests::victim_that_commits_until_it_is_killed",
            ])
            .env("TRUNNION_SPOOL_VICTIM", &path)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(victim.stdout.take().unwrap());
        let mut lines = output.lines().map_while(Result::ok);
        let is_confirmation = |line: &String| line.contains("committed");
        let mut confirmed = lines
            .by_ref()
            .filter(is_confirmation)
            .take(20 + 7 * round)
            .count() as u64;
        victim.kill().unwrap();
        victim.wait().unwrap();
        confirmed += lines.filter(is_confirmation).count() as u64;

        let (mut spool, recovered) = open(&path, 2);
        assert!(
            recovered.blocks.len() as u64 >= confirmed,
            "{confirmed} confirmed"
        );
        for key in recovered.blocks.keys() {
            assert_eq!(spool.read(*key).unwrap(), block(1, key.sequence, 20_000).bytes);
        }
        let upto = recovered.cursors[0].received[1].upto();
        assert_eq!(
            upto,
            recovered.blocks.len() as u64,
            "cursors and blocks are one commit"
        );
    }
}
