//! Fill a journal, stop at an awkward moment or damage it, reopen, and see what is left.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step fails the test; the lint's exemption for tests does not reach their helpers"
)]

use bytes::Bytes;
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use trunnion_collector::journal::{
    Commit, Damage, Entry, Journal, JournalError, Options, Position, Reader, Recovered,
};
use trunnion_common::block::{Envelope, Kind, Lane};
use trunnion_common::id::{Epoch, GatewayId, JournalId, Name};
use trunnion_common::sample::LossCause;
use trunnion_common::sequence::Range;
use trunnion_common::time::EventTime;
use trunnion_diagnosis::features::Depth;

const NOW: EventTime = EventTime(1_800_000_000_000_000_000);

fn gateway() -> GatewayId {
    GatewayId {
        site: Name::new("bremen").unwrap(),
        gateway: Name::new("gw-1").unwrap(),
    }
}

fn block(sequence: u64, body: &[u8]) -> Entry {
    let envelope = Envelope::new(Epoch(1), sequence, Lane::Live, Kind::Frames);
    let bytes = Bytes::from([&envelope.encode(body)[..], body].concat());
    Entry::Block {
        gateway: gateway(),
        bytes,
    }
}

/// One entry of every kind, in groups of one to four.
fn groups() -> Vec<Vec<Entry>> {
    let fleet = Entry::Fleet {
        effective: NOW.plus_nanos(-5),
        text: "site = \"Brémen\"".to_owned(),
    };
    let lost = Entry::Lost {
        gateway: gateway(),
        epoch: Epoch(1),
        blocks: Range::new(5, 7).unwrap(),
        cause: LossCause::NotHeld,
    };
    let closed = Entry::EpochClosed {
        gateway: gateway(),
        epoch: Epoch(9),
    };
    let settings = Entry::Settings {
        effective: NOW.plus_nanos(-5),
        text: "waiting_bytes_max = 1".to_owned(),
    };
    vec![
        vec![block(0, b"zero"), block(1, &[1; 40]), block(2, b"two")],
        vec![
            Entry::Tick,
            settings,
            Entry::Shed {
                depth: Depth::Severity,
            },
        ],
        vec![block(3, &[0; 100]), fleet, lost, closed],
        vec![block(4, b"four")],
        vec![block(7, b"seven"), block(8, b"eight")],
    ]
}

fn open(dir: &Path) -> (Journal, Recovered) {
    Journal::open(dir, Options::default(), NOW).unwrap()
}

fn fill(journal: &mut Journal, groups: &[Vec<Entry>]) -> Vec<Position> {
    let mut ends = Vec::new();
    for group in groups {
        for entry in group {
            journal.append(entry);
        }
        ends.push(journal.commit(NOW).unwrap());
    }
    ends
}

fn read(dir: &Path, from: Position, upto: Position) -> (Vec<Commit>, Damage) {
    let mut reader = Reader::open(dir, from).unwrap();
    let mut commits = Vec::new();
    while let Some(commit) = reader.next_commit(upto).unwrap() {
        commits.push(commit);
    }
    assert_eq!(reader.position(), upto);
    (commits, reader.damage())
}

fn entries(commits: &[Commit]) -> Vec<Vec<Entry>> {
    let group = |commit: &Commit| commit.entries.iter().map(|(_, entry)| entry.clone()).collect();
    commits.iter().map(group).collect()
}

fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join("0").join(format!("{number:020}.seg"))
}

/// A small journal in one segment, and its bytes.
fn small() -> (TempDir, Vec<Position>, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let ends = fill(&mut open(dir.path()).0, &groups());
    let bytes = fs::read(segment(dir.path(), 1)).unwrap();
    assert_eq!(bytes.len() as u64, ends.last().unwrap().offset);
    (dir, ends, bytes)
}

#[test]
fn what_was_committed_is_read_back_in_order() {
    let (dir, ends, _) = small();
    let (commits, damage) = read(dir.path(), Position::default(), *ends.last().unwrap());
    assert_eq!(entries(&commits), groups());
    assert_eq!(damage, Damage::default());
    assert_eq!(commits.iter().map(|commit| commit.end).collect::<Vec<_>>(), ends);
    for commit in &commits {
        assert_eq!(commit.time, NOW);
        assert!(commit.entries.is_sorted_by_key(|(position, _)| *position));
        assert!(commit.entries.iter().all(|(position, _)| *position < commit.end));
    }
}

#[test]
fn reading_goes_on_from_any_commit() {
    let (dir, ends, _) = small();
    for (done, &from) in ends.iter().enumerate() {
        let (commits, _) = read(dir.path(), from, *ends.last().unwrap());
        assert_eq!(entries(&commits), groups()[done + 1..]);
    }
}

#[test]
fn a_reader_sees_nothing_beyond_the_position_it_is_given() {
    let (dir, ends, _) = small();
    let (commits, _) = read(dir.path(), Position::default(), ends[1]);
    assert_eq!(entries(&commits), groups()[..2]);
}

#[test]
fn a_torn_tail_is_cut_off_wherever_it_tears() {
    let (_, ends, bytes) = small();
    let (last, before) = (ends[ends.len() - 1].offset, ends[ends.len() - 2].offset);
    for length in before..last {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("0")).unwrap();
        fs::write(segment(dir.path(), 1), &bytes[..length as usize]).unwrap();
        let (mut journal, recovered) = open(dir.path());
        assert_eq!(recovered.torn_bytes, length - before);
        assert_eq!(recovered.damage, Damage::default());
        assert_eq!(journal.end().offset, before);
        let (commits, damage) = read(dir.path(), Position::default(), journal.end());
        assert_eq!(entries(&commits), groups()[..groups().len() - 1]);
        assert_eq!(damage, Damage::default());

        // The place of the tail is written anew.
        let again = fill(&mut journal, &groups()[groups().len() - 1..]);
        let (commits, damage) = read(dir.path(), Position::default(), again[0]);
        assert_eq!(entries(&commits), groups());
        assert_eq!(damage, Damage::default());
    }
}

#[test]
fn garbage_behind_the_last_commit_is_cut_off() {
    for garbage in [vec![0; 5_000], vec![0xff; 5_000], small().2] {
        let (dir, ends, mut bytes) = small();
        bytes.extend(&garbage);
        fs::write(segment(dir.path(), 1), &bytes).unwrap();
        let (journal, recovered) = open(dir.path());
        assert_eq!(recovered.torn_bytes, garbage.len() as u64);
        assert_eq!(journal.end(), *ends.last().unwrap());
    }
}

#[test]
fn any_flipped_byte_is_found_and_costs_at_most_one_entry() {
    let (_, ends, bytes) = small();
    let whole: Vec<Entry> = groups().concat();
    let end = *ends.last().unwrap();
    for at in 0..bytes.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("0")).unwrap();
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        fs::write(segment(dir.path(), 1), &damaged).unwrap();

        let (mut journal, recovered) = open(dir.path());
        assert_eq!(journal.end(), end, "byte {at}");
        let (commits, damage) = read(dir.path(), Position::default(), end);
        assert_eq!(damage, recovered.damage, "byte {at}");
        assert_ne!(damage.bytes, 0, "byte {at}");
        let left: Vec<Entry> = entries(&commits).concat();
        assert_eq!(whole.len() - left.len(), damage.entries as usize, "byte {at}");
        assert!(damage.entries <= 1, "byte {at}");
        let mut rest = whole.iter();
        assert!(left.iter().all(|entry| rest.any(|of| of == entry)), "byte {at}");

        // And it goes on from there.
        let more = fill(&mut journal, &[vec![block(100, b"more")]]);
        let (commits, _) = read(dir.path(), end, more[0]);
        assert_eq!(entries(&commits), [[block(100, b"more")]]);
    }
}

#[test]
fn the_journal_of_every_released_version_can_be_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("0")).unwrap();
    for number in [1, 2, 3] {
        let from = golden.join(format!("journal-1-{number}.seg"));
        fs::copy(from, segment(dir.path(), number)).unwrap();
    }
    let (journal, recovered) = open(dir.path());
    assert_eq!((recovered.torn_bytes, recovered.damage), (0, Damage::default()));
    assert_eq!(journal.id(), JournalId(0x0123_4567_89ab_cdef));
    // The epoch was closed at block 3.
    assert_eq!(journal.sets().blocks.received(&gateway(), Epoch(1)).upto(), 3);
    let (commits, damage) = read(dir.path(), Position::default(), journal.end());
    assert_eq!(damage, Damage::default());
    assert_eq!(
        commits
            .iter()
            .map(|commit| commit.entries.len())
            .collect::<Vec<_>>(),
        [3, 3, 2]
    );
    assert_eq!(commits[0].entries[0].1, block(0, b""));
    assert_eq!(commits[0].time, NOW);
}

/// Ten segments of one group each.
fn many(dir: &Path) -> (Journal, Vec<Position>) {
    let options = Options { segment_bytes: 1 };
    let (mut journal, _) = Journal::open(dir, options, NOW).unwrap();
    let groups: Vec<_> = (0..10).map(|n| vec![block(n, &[n as u8; 50])]).collect();
    let ends = fill(&mut journal, &groups);
    (journal, ends)
}

#[test]
fn a_full_segment_is_sealed_and_reading_crosses_over() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, ends) = many(dir.path());
    assert_eq!(
        ends.iter().map(|end| end.segment).collect::<Vec<_>>(),
        (1..=10).collect::<Vec<_>>()
    );
    let sets = journal.sets().clone();
    drop(journal);
    for (done, &from) in ends.iter().enumerate() {
        let (commits, damage) = read(dir.path(), from, ends[9]);
        assert_eq!((commits.len(), damage), (9 - done, Damage::default()));
    }
    let (reopened, recovered) = open(dir.path());
    assert_eq!(reopened.end(), ends[9]);
    assert_eq!(reopened.sets(), &sets);
    assert_eq!(sets.blocks.received(&gateway(), Epoch(1)).upto(), 10);
    assert_eq!(
        recovered,
        Recovered {
            existed: true,
            ..Recovered::default()
        }
    );
}

#[test]
fn the_oldest_segments_may_be_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, ends) = many(dir.path());
    drop(journal);
    for number in 1..=4 {
        fs::remove_file(segment(dir.path(), number)).unwrap();
    }
    let (journal, _) = open(dir.path());
    assert_eq!(journal.sets().blocks.received(&gateway(), Epoch(1)).upto(), 10);
    assert_eq!(read(dir.path(), Position::default(), ends[9]).0.len(), 6);
    assert!(matches!(
        Reader::open(dir.path(), ends[2]).unwrap().next_commit(ends[9]),
        Err(JournalError::NoSuchSegment { .. })
    ));
}

#[test]
fn a_segment_with_both_heads_damaged_is_read_all_the_same() {
    for (number, kept) in [(1, 10), (5, 10), (10, 10)] {
        let dir = tempfile::tempdir().unwrap();
        let (journal, ends) = many(dir.path());
        let id = journal.id();
        drop(journal);
        let path = segment(dir.path(), number);
        let mut bytes = fs::read(&path).unwrap();
        for byte in &mut bytes[..128] {
            *byte = !*byte;
        }
        fs::write(&path, &bytes).unwrap();

        let (mut journal, _) = open(dir.path());
        assert_eq!(journal.id(), id);
        assert_eq!(
            journal.sets().blocks.received(&gateway(), Epoch(1)).upto(),
            10,
            "segment {number}"
        );
        assert!(journal.end() >= ends[9]);
        let more = fill(&mut journal, &[vec![block(10, b"more")]]);
        let (commits, damage) = read(dir.path(), Position::default(), more[0]);
        assert_eq!(commits.len(), kept + 1, "segment {number}");
        assert_eq!(damage.entries, 0);
    }
}

#[test]
fn a_journal_without_any_readable_head_is_refused_with_what_to_do() {
    let (dir, _, mut bytes) = small();
    bytes[..128].fill(0);
    fs::write(segment(dir.path(), 1), &bytes).unwrap();
    let error = Journal::open(dir.path(), Options::default(), NOW).unwrap_err();
    assert!(matches!(error, JournalError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains("restore"), "{error}");
}

#[test]
fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let error = Journal::open(dir.path(), Options::default(), NOW).unwrap_err();
    assert!(matches!(error, JournalError::Locked { .. }), "{error}");
    drop(journal);
    open(dir.path());
}

#[test]
fn a_checkpoint_of_another_journal_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    let end = fill(&mut journal, &groups()[..1])[0];
    let beyond = Position {
        segment: 7,
        ..Position::default()
    };
    assert!(matches!(
        Reader::open(dir.path(), beyond).unwrap().next_commit(end),
        Err(JournalError::Ahead { .. })
    ));
}

#[test]
fn the_journal_keeps_its_id_and_its_clock_never_runs_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, recovered) = open(dir.path());
    assert!(!recovered.existed);
    let id = journal.id();
    fill(&mut journal, &groups()[..1]);
    drop(journal);
    let past = EventTime(0);
    let (mut journal, recovered) = Journal::open(dir.path(), Options::default(), past).unwrap();
    assert!(recovered.existed);
    assert_eq!(journal.id(), id);
    journal.append(&Entry::Tick);
    let end = journal.commit(past).unwrap();
    let (commits, _) = read(dir.path(), Position::default(), end);
    assert!(commits.iter().all(|commit| commit.time == NOW));

    let other = tempfile::tempdir().unwrap();
    assert_ne!(open(other.path()).0.id(), id);
}

#[test]
fn an_empty_commit_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    let start = journal.end();
    assert_eq!(journal.commit(NOW).unwrap(), start);
    assert_eq!(read(dir.path(), Position::default(), start).0, []);
}

#[test]
fn a_reader_follows_a_writer_on_another_thread() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 20_000,
    };
    let (mut journal, _) = Journal::open(dir.path(), options, NOW).unwrap();
    let (send, mut committed) = tokio::sync::watch::channel(journal.end());
    let writer = std::thread::spawn(move || {
        for n in 0..200 {
            for part in 0..5 {
                journal.append(&block(5 * n + part, &[n as u8; 500]));
            }
            send.send_replace(journal.commit(NOW).unwrap());
        }
    });
    let mut reader = Reader::open(dir.path(), Position::default()).unwrap();
    let mut expected = 0;
    loop {
        // The last position is read after the writer has gone.
        let last = committed.has_changed().is_err();
        let upto = *committed.borrow_and_update();
        while let Some(commit) = reader.next_commit(upto).unwrap() {
            assert_eq!(commit.entries.len(), 5);
            for (_, entry) in commit.entries {
                assert_eq!(entry, block(expected, &[(expected / 5) as u8; 500]));
                expected += 1;
            }
        }
        if last {
            break;
        }
        std::thread::yield_now();
    }
    writer.join().unwrap();
    assert_eq!(expected, 1_000);
    assert_eq!(reader.damage(), Damage::default());
}

#[test]
fn a_group_longer_than_one_read_is_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    let groups: Vec<Vec<Entry>> = (0..3)
        .map(|n| {
            (0..30)
                .map(|part| block(30 * n + part, &vec![n as u8; 64 << 10]))
                .collect()
        })
        .collect();
    let end = *fill(&mut journal, &groups).last().unwrap();
    let (commits, damage) = read(dir.path(), Position::default(), end);
    assert!(entries(&commits) == groups);
    assert_eq!(damage, Damage::default());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is overwritten anywhere: no panic, no error that would keep the collector from
    /// starting unless both heads are hit, and nothing read that was not written.
    #[test]
    fn random_damage_invents_nothing(
        wounds in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let (dir, _, mut bytes) = small();
        for (at, value) in wounds {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let length = bytes.len();
        bytes.truncate(length - cut.index(length / 4));
        fs::write(segment(dir.path(), 1), &bytes).unwrap();
        match Journal::open(dir.path(), Options::default(), NOW) {
            Ok((journal, _)) => {
                let (commits, _) = read(dir.path(), Position::default(), journal.end());
                let whole = groups().concat();
                let mut rest = whole.iter();
                for entry in entries(&commits).concat() {
                    prop_assert!(rest.any(|of| *of == entry));
                }
            }
            Err(error) => prop_assert!(matches!(error, JournalError::Unreadable { .. }), "{error}"),
        }
    }
}
