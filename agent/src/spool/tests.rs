//! Fill, stop at an awkward moment, open again.

mod damage;
mod refusal;

use super::*;
use crate::retention::Limits;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use trunnion_common::ack::{Extent, JournalMark};
use trunnion_common::block::Kind;
use trunnion_common::id::NodeId;

const JOURNAL: JournalId = JournalId(5);

/// Above the epochs of waveforms in these tests.
const ESSENTIAL: u64 = 1_000;

const LIMITS: Limits = crate::config::RETENTION;

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

/// A process that another test starts holds our lock from its fork to its exec: so that is waited for.
#[allow(clippy::disallowed_methods)] // Nobody tells of the exec.
fn open(path: &Path, epoch: u64) -> (Spool, Recovered) {
    let epochs = [Epoch(ESSENTIAL + epoch), Epoch(epoch)];
    let mut tries = 0..500;
    loop {
        match Spool::open(path, epochs) {
            Err(SpoolError::InUse { .. }) if tries.next().is_some() => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            opened => return opened.unwrap(),
        }
    }
}

fn key(epoch: u64, sequence: u64) -> BlockKey {
    block(epoch, sequence, 0).key
}

fn former(epoch: u64, next: u64, freed_by: Option<JournalId>) -> FormerEpoch {
    FormerEpoch {
        epoch: Epoch(epoch),
        class: Class::Waveform,
        next,
        freed_by,
    }
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
    let mut found: Vec<PathBuf> = std::fs::read_dir(path.join("spool/waveform"))
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
    assert_eq!(recovered.current, [(Epoch(ESSENTIAL + 1), 0), (Epoch(1), 0)]);
    spool
        .commit(
            Class::Waveform,
            &[block(1, 0, 70_000), block(1, 1, 10)],
            &[cursor(4)],
        )
        .unwrap();
    spool
        .commit(Class::Waveform, &[block(1, 2, 65_536)], &[cursor(9)])
        .unwrap();

    let after = crash(dir.path());
    let (mut spool, recovered) = open(after.path(), 2);
    assert_eq!(recovered.current, [(Epoch(ESSENTIAL + 2), 0), (Epoch(2), 0)]);
    let keys: Vec<BlockKey> = recovered.blocks.keys().copied().collect();
    assert_eq!(keys, [key(1, 0), key(1, 1), key(1, 2)]);
    assert_eq!(recovered.epochs, [former(1, 3, None)]);
    assert_eq!(recovered.cursors, [cursor(9)]);
    for (sequence, bytes) in [(0, 70_000), (1, 10), (2, 65_536)] {
        assert_eq!(
            spool.read(key(1, sequence)).unwrap(),
            block(1, sequence, bytes).bytes
        );
    }
    spool
        .commit(Class::Waveform, &[block(2, 0, 100)], &[cursor(10)])
        .unwrap();
    assert_eq!(spool.read(key(2, 0)).unwrap(), block(2, 0, 100).bytes);
}

#[test]
fn an_acknowledged_epoch_gives_its_space_back_and_is_not_listed_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    spool
        .commit(Class::Waveform, &[block(1, 0, 10), block(1, 1, 10)], &[cursor(3)])
        .unwrap();
    drop(spool);
    let (mut spool, _) = open(dir.path(), 2);
    spool.commit(Class::Waveform, &[], &[cursor(3)]).unwrap();
    assert_eq!(databases(dir.path()).len(), 2);
    spool.acknowledge(Epoch(1), &upto(1), JOURNAL.into());
    assert_eq!(databases(dir.path()).len(), 2);
    assert_eq!(
        spool.read(key(1, 0)),
        Err(ReadError::Lost("no database of the spool holds it".to_owned()))
    );
    spool.acknowledge(Epoch(1), &upto(2), JOURNAL.into());
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
    spool
        .commit(Class::Waveform, &[block(1, 0, 10), block(1, 1, 10)], &[])
        .unwrap();
    spool.acknowledge(Epoch(1), &upto(1), JOURNAL.into());
    spool.commit(Class::Waveform, &[block(1, 2, 10)], &[]).unwrap();
    let after = crash(dir.path());
    let (_, recovered) = open(after.path(), 2);
    let keys: Vec<BlockKey> = recovered.blocks.keys().copied().collect();
    assert_eq!(keys, [key(1, 1), key(1, 2)]);
    assert_eq!(recovered.epochs, [former(1, 3, Some(JOURNAL))]);
}

#[test]
fn how_far_the_journal_went_is_known_after_a_crash_wherever_what_it_freed_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    let mark = |extent| JournalMark {
        name: JOURNAL,
        extent: Extent(extent),
    };
    let blocks: Vec<Block> = (0..4).map(|n| block(1, n, 10)).collect();
    spool.commit(Class::Waveform, &blocks, &[]).unwrap();
    spool.acknowledge(Epoch(1), &upto(1), mark(7));
    // Of a database that is there, the one that was written says it; of one that is not, the file of names.
    for (freed, extent) in [(2, 8), (3, 9)] {
        spool.acknowledge(Epoch(1), &upto(freed), mark(extent));
        let sequence = freed + 2;
        let next = block(1, sequence, 10);
        spool.commit(Class::Waveform, &[next], &[]).unwrap();
        let (_, recovered) = open(crash(dir.path()).path(), 2);
        assert_eq!(recovered.blocks.len() as u64, sequence + 1 - freed);
        assert_eq!(recovered.journals, [mark(extent)]);
    }
    spool.acknowledge(Epoch(1), &upto(6), mark(12));
    spool.close_waveform().unwrap();
    assert_eq!(databases(dir.path()).len(), 1);
    let (_, recovered) = open(crash(dir.path()).path(), 2);
    assert!(recovered.blocks.is_empty());
    assert_eq!(recovered.journals, [mark(12)]);
}

#[test]
fn a_full_database_is_followed_by_the_next_and_blobs_stay_empty() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    let count = chain::DATABASE_BYTES / 65_536 + 4;
    for sequence in (0..count).step_by(16) {
        let blocks: Vec<Block> = (sequence..sequence + 16).map(|n| block(1, n, 65_536)).collect();
        spool
            .commit(Class::Waveform, &blocks, &[cursor(sequence)])
            .unwrap();
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
    assert_eq!(spool.usage().unwrap().blob_files, 0);
    assert_eq!(spool.read(key(1, 3)).unwrap(), block(1, 3, 65_536).bytes);
    spool.acknowledge(
        Epoch(1),
        &upto(chain::DATABASE_BYTES / 65_536 + 2),
        JOURNAL.into(),
    );
    assert_eq!(databases(dir.path()), members[1..]);
}

#[test]
fn a_value_outside_of_the_database_s_log_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    spool.commit(Class::Waveform, &[block(1, 0, 10)], &[]).unwrap();
    std::fs::write(databases(dir.path())[0].join("blobs/1"), "a value").unwrap();
    spool.close_waveform().unwrap();
    assert_eq!(spool.usage().unwrap().blob_files, 1);
    drop(spool);
    let (spool, _) = open(dir.path(), 2);
    assert_eq!(spool.usage().unwrap().blob_files, 1);
}

#[test]
fn damage_costs_at_most_its_database_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    let blocks: Vec<Block> = (0..8).map(|n| block(1, n, 30_000)).collect();
    spool.commit(Class::Waveform, &blocks, &[cursor(7)]).unwrap();
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
        spool
            .commit(Class::Waveform, &[block(2, 0, 10)], &[cursor(8)])
            .unwrap();
        assert!(spool.read(key(2, 0)).is_ok());
    }
}

#[test]
fn a_database_that_is_no_database_is_set_aside_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    spool
        .commit(Class::Waveform, &[block(1, 0, 10)], &[cursor(1)])
        .unwrap();
    drop(spool);
    let member = databases(dir.path())[0].clone();
    std::fs::write(member.join("db"), vec![0xA5; 8 << 20]).unwrap();
    for start in 2..4 {
        let (mut spool, recovered) = open(dir.path(), start);
        // Its index still tells what was in it, and that it cannot be had, until that is settled.
        assert_eq!(recovered.epochs, [former(1, 1, None)]);
        assert_eq!(
            recovered.blocks[&key(1, 0)].0 as usize,
            block(1, 0, 10).bytes.len()
        );
        assert!(matches!(spool.read(key(1, 0)), Err(ReadError::Lost(_))));
        let aside = member.with_extension("quarantine");
        assert!(aside.is_dir());
        assert_eq!(recovered.quarantined.is_empty(), start > 2, "told once");
        assert!(spool.usage().unwrap().quarantine_bytes > 0);
    }
    let (mut spool, _) = open(dir.path(), 4);
    spool.acknowledge(Epoch(1), &upto(1), JOURNAL.into());
    drop(spool);
    let (_, recovered) = open(dir.path(), 5);
    assert!(recovered.blocks.is_empty() && recovered.epochs.is_empty());
    assert!(
        member.with_extension("quarantine").is_dir(),
        "it stays for a person"
    );
}

#[test]
fn of_the_databases_that_were_set_aside_the_newest_stay_and_all_are_told() {
    let dir = tempfile::tempdir().unwrap();
    for start in 1..=20 {
        let (mut spool, _) = open(dir.path(), start);
        spool
            .commit(Class::Waveform, &[block(start, 0, 10)], &[cursor(start)])
            .unwrap();
        drop(spool);
        let newest = databases(dir.path())
            .into_iter()
            .rfind(|path| path.extension().is_none());
        std::fs::write(newest.unwrap().join("db"), [0xA5; 4_096]).unwrap();
    }
    let aside = || {
        let paths = databases(dir.path()).into_iter();
        let aside = paths.filter(|path| path.extension().is_some_and(|ending| ending == "quarantine"));
        aside.collect::<Vec<_>>()
    };
    assert_eq!(aside().len(), 16, "the starts before this one kept to it");
    let (mut spool, recovered) = open(dir.path(), 21);
    assert_eq!((aside().len(), recovered.discarded), (16, 1));
    assert!(aside()[0].ends_with("00000005.quarantine"), "{:?}", aside());
    let told: Vec<BlockKey> = recovered.blocks.keys().copied().collect();
    assert_eq!(told, (1..=20).map(|epoch| key(epoch, 0)).collect::<Vec<_>>());
    for key in told {
        assert!(matches!(spool.read(key), Err(ReadError::Lost(_))));
        spool.acknowledge(key.epoch, &upto(1), JOURNAL.into());
    }
    drop(spool);
    let (_, recovered) = open(dir.path(), 22);
    assert!(recovered.blocks.is_empty(), "nothing is told twice");
}

#[test]
fn each_class_has_its_chain_and_its_part_of_the_cursors() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    let mut both = cursor(7);
    both.received[0].advance(3);
    both.channels = vec![(trunnion_common::id::ChannelId::new(0).unwrap(), 70, 60)];
    let cursors = [both.clone()];
    let essential = block(ESSENTIAL + 1, 0, 10);
    spool.commit(Class::Essential, &[essential], &cursors).unwrap();
    let after = crash(dir.path());
    let (_, recovered) = open(after.path(), 2);
    assert_eq!(recovered.cursors[0].received[0].upto(), 3);
    assert_eq!(
        recovered.cursors[0].received[1].upto(),
        0,
        "its frames are not on disk"
    );
    spool
        .commit(Class::Waveform, &[block(1, 0, 10)], &cursors)
        .unwrap();
    drop(spool);
    let (mut spool, recovered) = open(dir.path(), 2);
    assert_eq!(recovered.cursors, [both]);
    let classes: Vec<Class> = recovered.epochs.iter().map(|former| former.class).collect();
    assert_eq!(classes, [Class::Essential, Class::Waveform]);
    assert!(spool.read(key(ESSENTIAL + 1, 0)).is_ok() && spool.read(key(1, 0)).is_ok());
}

#[test]
fn an_eviction_that_a_crash_cut_short_is_finished_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    spool
        .commit(Class::Waveform, &[block(1, 0, 10), block(1, 1, 10)], &[])
        .unwrap();
    spool.close_waveform().unwrap();
    assert_eq!(spool.begin_eviction(1), [key(1, 0), key(1, 1)]);
    let mut tombstone = block(ESSENTIAL + 1, 0, 10);
    tombstone.index.buries = Range::new(0, 2).map(|blocks| (Epoch(1), blocks));
    spool.commit(Class::Essential, &[tombstone], &[]).unwrap();
    let after = crash(dir.path());
    spool.evict(1);
    assert_eq!(databases(dir.path()).len(), 1);
    drop(spool);
    for state in [&dir, &after] {
        let (_, recovered) = open(state.path(), 2);
        let keys: Vec<BlockKey> = recovered.blocks.keys().copied().collect();
        assert_eq!(
            keys,
            [key(ESSENTIAL + 1, 0)],
            "only the tombstone is left to send"
        );
        assert_eq!(databases(state.path()).len(), 1);
    }
}

#[test]
fn a_spool_of_the_former_layout_is_refused_with_the_fix() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("spool/00000003")).unwrap();
    let error = Spool::open(dir.path(), [Epoch(1), Epoch(2)]).unwrap_err();
    assert!(matches!(error, SpoolError::Layout { .. }));
    assert!(
        error
            .to_string()
            .contains("run that version until they are drained"),
        "{error}"
    );
}

#[test]
fn what_stands_in_a_damaged_database_and_in_a_good_one_is_read_from_the_good_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    spool
        .commit(Class::Waveform, &[block(1, 0, 10), block(1, 1, 10)], &[])
        .unwrap();
    spool.close_waveform().unwrap();
    // As after a refusal: the same commit again.
    spool.commit(Class::Waveform, &[block(1, 1, 10)], &[]).unwrap();
    drop(spool);
    std::fs::write(databases(dir.path())[0].join("db"), vec![0xA5; 1 << 20]).unwrap();
    let (mut spool, recovered) = open(dir.path(), 2);
    assert_eq!(recovered.blocks.len(), 2);
    assert!(matches!(spool.read(key(1, 0)), Err(ReadError::Lost(_))));
    assert_eq!(spool.read(key(1, 1)).unwrap(), block(1, 1, 10).bytes);
}

#[test]
fn a_buried_block_is_kept_for_inspection_and_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    spool.commit(Class::Waveform, &[block(1, 0, 10)], &[]).unwrap();
    drop(spool);
    let (mut spool, _) = open(dir.path(), 2);
    spool.bury(key(1, 0));
    assert_eq!(databases(dir.path()).len(), 1, "the new database");
    let kept = dir.path().join("spool/quarantine/0000000000000001-0.block");
    assert_eq!(std::fs::read(kept).unwrap(), block(1, 0, 10).bytes);
}

#[test]
fn a_spool_belongs_to_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let (_spool, _) = open(dir.path(), 1);
    let error = Spool::open(dir.path(), [Epoch(1), Epoch(2)]).unwrap_err();
    assert!(matches!(error, SpoolError::InUse { .. }), "{error}");
}

#[test]
fn so_many_epochs_that_no_hello_could_list_them_are_never_made() {
    let dir = tempfile::tempdir().unwrap();
    const CHAIN_MAX: u64 = trunnion_common::ack::EPOCHS_MAX as u64 / 2;
    for start in 0..CHAIN_MAX + 2 {
        let (mut spool, recovered) = open(dir.path(), 100 + start);
        let (epoch, next) = recovered.current[1];
        assert!(recovered.epochs.len() <= CHAIN_MAX as usize);
        if start >= CHAIN_MAX {
            assert_eq!((epoch, next), (Epoch(100 + CHAIN_MAX - 1), 1 + start - CHAIN_MAX));
        }
        spool
            .commit(Class::Waveform, &[block(epoch.0, next, 10)], &[])
            .unwrap();
    }
}

#[test]
fn the_worker_confirms_commits_and_finishes_what_it_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 1);
    let (replies, inbox) = std::sync::mpsc::channel();
    let (requests, thread) = spawn(spool, LIMITS, move |reply| replies.send(reply).unwrap()).unwrap();
    for number in 0..5 {
        requests
            .send(Request::Commit(Commit {
                class: Class::Waveform,
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
    assert!(replies.contains(&Reply::Read(key(1, 4), Ok(block(1, 4, 1_000).bytes))));
    assert!(replies.contains(&Reply::Committed(Class::Waveform, 4)));
    let (_, recovered) = open(dir.path(), 2);
    assert_eq!(recovered.blocks.len(), 5);
}

#[test]
fn a_salvaged_database_is_sent_under_its_own_numbers_and_the_source_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    let blocks = [block(1, 0, 300), block(1, 1, 50_000), block(1, 2, 200)];
    spool.commit(Class::Waveform, &blocks, &[cursor(9)]).unwrap();
    drop(spool);
    let good = crash(dir.path());
    // A damaged database that opens again when it is looked at apart: set aside by hand.
    let member = databases(dir.path())[0].clone();
    std::fs::rename(&member, member.with_extension("quarantine")).unwrap();

    let file = dir.path().join("saved");
    let saved = tools::salvage(dir.path(), Some(&file)).unwrap();
    assert_eq!((saved.saved, saved.lost), (3, 0));
    let exported = dir.path().join("exported");
    assert_eq!(tools::export(good.path(), &exported).unwrap(), 3);
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(bytes, std::fs::read(exported).unwrap(), "one format");
    assert_eq!(bytes[..4], (blocks[0].bytes.len() as u32).to_le_bytes());
    assert_eq!(bytes[4..4 + blocks[0].bytes.len()], blocks[0].bytes);

    assert_eq!(tools::salvage(dir.path(), None).unwrap().saved, 3);
    assert_eq!(
        tools::salvage(dir.path(), None).unwrap().known,
        3,
        "once is enough"
    );
    assert!(member.with_extension("quarantine").is_dir());
    let (mut spool, recovered) = open(dir.path(), 2);
    assert_eq!(recovered.blocks.len(), 3);
    for block in &blocks {
        assert_eq!(spool.read(block.key).unwrap(), block.bytes);
    }
}

#[test]
fn blocks_are_found_in_a_file_that_no_database_can_be_made_of() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    spool
        .commit(Class::Waveform, &[block(1, 0, 300), block(1, 1, 200)], &[])
        .unwrap();
    drop(spool);
    let member = databases(dir.path())[0].clone();
    let aside = member.with_extension("quarantine");
    std::fs::rename(&member, &aside).unwrap();
    std::fs::write(aside.join("conf"), b"nothing that sled knows").unwrap();
    let saved = tools::salvage(dir.path(), None).unwrap();
    assert_eq!((saved.saved, saved.lost), (2, 0));
}

#[test]
fn the_tools_tell_what_is_there_and_find_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 1);
    let mut damaged = block(1, 1, 100);
    let mut bytes = damaged.bytes.to_vec();
    bytes[50] ^= 1;
    damaged.bytes = bytes.into();
    spool
        .commit(Class::Waveform, &[block(1, 0, 100), damaged], &[cursor(4)])
        .unwrap();
    assert!(matches!(
        tools::inspect(dir.path()),
        Err(SpoolError::InUse { .. })
    ));
    drop(spool);
    let report = tools::inspect(dir.path()).unwrap();
    let waveform = report
        .databases
        .iter()
        .find(|database| database.chain == "waveform")
        .unwrap();
    assert_eq!(
        (waveform.blocks, waveform.sequences, waveform.unacknowledged),
        (2, Some((0, 1)), 2)
    );
    assert_eq!((report.cursors[0].chain, report.cursors[0].upto), ("waveform", 4));
    let verdict = tools::verify(dir.path()).unwrap();
    assert_eq!((verdict.good, verdict.bad.len(), verdict.bad[0].1), (1, 1, 1));
}

#[test]
fn a_full_disk_is_survived_and_room_is_made_with_tombstones_first() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"])
        .arg(dir.path())
        .stderr(std::process::Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!(
            "skipped: a_full_disk_is_survived_and_room_is_made_with_tombstones_first (needs the right to mount a tmpfs)"
        );
        return;
    }
    let outcome = std::panic::catch_unwind(|| fill_the_disk(dir.path()));
    let unmounted = std::process::Command::new("umount")
        .arg("-l")
        .arg(dir.path())
        .status();
    assert!(unmounted.unwrap().success());
    outcome.unwrap();
}

fn fill_the_disk(path: &Path) {
    use std::io::Write;
    let (spool, _) = open(path, 1);
    let (replies, inbox) = std::sync::mpsc::channel();
    let (requests, thread) = spawn(spool, LIMITS, move |reply| drop(replies.send(reply))).unwrap();
    let mut number = 0;
    let mut commit = |class, blocks: Vec<Block>| {
        number += 1;
        requests
            .send(Request::Commit(Commit {
                class,
                number,
                blocks,
                cursors: Vec::new(),
            }))
            .unwrap();
        number
    };
    let patience = std::time::Duration::from_secs(60);
    let (mut sequence, mut essential, mut evicted, mut refused) = (0, 0, 0, 0);
    let mut hog = None;
    while evicted < 3 || refused == 0 {
        let waveforms: Vec<Block> = (sequence..sequence + 8).map(|n| block(1, n, 65_536)).collect();
        sequence += 8;
        let mut awaited = BTreeMap::from([(Class::Waveform, commit(Class::Waveform, waveforms))]);
        let mut evicting = Vec::new();
        while !awaited.is_empty() || !evicting.is_empty() {
            match inbox
                .recv_timeout(patience)
                .expect("the spool recovers by itself")
            {
                Reply::Committed(class, done) => {
                    if awaited.get(&class) == Some(&done) {
                        awaited.remove(&class);
                    }
                    if class == Class::Essential {
                        for directory in evicting.drain(..) {
                            evicted += 1;
                            requests.send(Request::Evict(directory)).unwrap();
                        }
                    }
                }
                Reply::Evicting(directory, _) => {
                    evicting.push(directory);
                    let tombstone = block(ESSENTIAL + 1, essential, 500);
                    essential += 1;
                    awaited.insert(Class::Essential, commit(Class::Essential, vec![tombstone]));
                }
                Reply::Refused(_) => {
                    refused += 1;
                    // Whoever filled the disk goes away.
                    if refused > 3 && hog.take().is_some() {
                        std::fs::remove_file(path.join("hog")).unwrap();
                    }
                }
                _ => {}
            }
        }
        if evicted > 0 && hog.is_none() && refused == 0 {
            let mut file = File::create(path.join("hog")).unwrap();
            while file.write_all(&[1; 65_536]).is_ok() {}
            hog = Some(file);
        }
    }
    drop(requests);
    thread.join().unwrap();
    let (_, recovered) = open(path, 2);
    assert!(recovered.quarantined.is_empty(), "a full disk damages nothing");
    assert!(recovered.blocks.contains_key(&key(1, sequence - 1)));
    assert!(recovered.blocks.contains_key(&key(ESSENTIAL + 1, 0)));
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
            .commit(
                Class::Waveform,
                &[block(1, sequence, 20_000)],
                &[cursor(sequence + 1)],
            )
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
