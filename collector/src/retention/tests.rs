use super::*;
use crate::journal::{Commit, Entry, Journal, Options, Reader};
use crate::state::{Batch, State};

const NOW: EventTime = EventTime(1_800_000_000_000_000_000);
const DAY: Duration = Duration::from_secs(86_400);

fn sealed(numbers: &[u64]) -> BTreeMap<u64, SealedSegment> {
    let sealed = |&number: &u64| SealedSegment {
        number,
        bytes: 100 * number,
        sealed: NOW.plus_nanos(number as i64),
    };
    numbers.iter().map(|number| (*number, sealed(number))).collect()
}

fn within(segment: u64) -> Position {
    Position {
        segment,
        offset: 1,
        ..Position::default()
    }
}

/// The numbers of the segments that are to be archived, and of those that are to be removed.
fn chosen(
    numbers: &[u64],
    archived: Option<&[u64]>,
    settled: u64,
    keep: Option<Duration>,
    age: Duration,
) -> (Vec<u64>, Vec<u64>) {
    let archived = archived.map(|numbers| BTreeSet::from_iter(numbers.iter().copied()));
    let now = NOW.plus_nanos(age.as_nanos() as i64);
    let steps = choose(&sealed(numbers), archived.as_ref(), within(settled), keep, now);
    let (mut archive, mut remove) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Archive(segment) => archive.push(segment.number),
            Step::Remove(segment) => remove.push(segment.number),
        }
    }
    (archive, remove)
}

#[test]
fn a_segment_goes_when_it_is_archived_and_passed_and_old_and_not_one_of_the_last() {
    let all: &[u64] = &[1, 2, 3, 4, 5];
    let (old, young) = (2 * DAY, DAY / 2);
    let nothing = (vec![], vec![]);
    assert_eq!(chosen(all, Some(all), 9, Some(DAY), old), (vec![], vec![1, 2, 3]));
    assert_eq!(chosen(all, Some(all), 9, Some(DAY), young), nothing);
    assert_eq!(chosen(all, Some(all), 9, None, old), nothing);
    assert_eq!(chosen(all, Some(all), 3, Some(DAY), old), (vec![], vec![1, 2]));
    assert_eq!(
        chosen(all, Some(&[2]), 9, Some(DAY), old),
        (vec![1, 3, 4, 5], vec![2])
    );
    assert_eq!(
        chosen(&[4, 5], Some(&[]), 9, Some(DAY), old),
        (vec![4, 5], vec![])
    );
    assert_eq!(chosen(all, None, 9, Some(DAY), old), (vec![], vec![1, 2, 3]));
    assert_eq!(chosen(all, None, 9, None, old), nothing);
}

/// A journal of several segments, and what reads back from it.
struct Place {
    dir: tempfile::TempDir,
    commits: Vec<Commit>,
    end: Position,
    settled: watch::Sender<Position>,
    metrics: Metrics,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes: 1_000 };
        let (mut journal, _) = Journal::open(&dir.path().join("journal"), options, NOW).unwrap();
        for n in 0..40 {
            journal.append(&Entry::Fleet {
                effective: EventTime(n),
                text: "x".repeat(200),
            });
            journal.commit(NOW.plus_nanos(n)).unwrap();
        }
        let end = journal.end();
        drop(State::open(&dir.path().join("state.db")).unwrap());
        fs::create_dir(dir.path().join("archive")).unwrap();
        let mut place = Self {
            dir,
            commits: Vec::new(),
            end,
            settled: watch::channel(end).0,
            metrics: Metrics::default(),
        };
        place.commits = place.read(&place.segments());
        assert!(place.own().len() > 5 && place.commits.len() == 40);
        place
    }

    fn segments(&self) -> Segments {
        Segments::from(&self.dir.path().join("journal"))
    }

    fn archive(&self) -> Arc<dyn Archive> {
        let journal = self.segments().journal().unwrap().unwrap();
        Arc::new(Directory::new(&self.dir.path().join("archive"), journal))
    }

    fn with_archive(&self) -> Segments {
        self.segments().with_archive(Some(self.archive()))
    }

    fn keeper(&self, archive: Option<Arc<dyn Archive>>) -> Keeper {
        Keeper::new(
            self.segments().with_archive(archive.clone()),
            archive,
            Some(DAY),
            &self.dir.path().join("state.db"),
            self.settled.subscribe(),
            self.metrics.clone(),
            || NOW,
        )
    }

    fn turn(&self, archive: Option<Arc<dyn Archive>>, age: Duration) {
        let now = NOW.plus_nanos(age.as_nanos() as i64);
        self.keeper(archive).turn(now, &mut || true);
    }

    /// The segments in the journal's own directory.
    fn own(&self) -> Vec<u64> {
        self.segments().lengths().unwrap().into_keys().collect()
    }

    fn read(&self, segments: &Segments) -> Vec<Commit> {
        let mut reader = Reader::open(segments, Position::default()).unwrap();
        std::iter::from_fn(|| reader.next_commit(self.end).unwrap()).collect()
    }

    fn failures(&self) -> u64 {
        self.metrics.journal_retention_failures.get()
    }
}

/// What is left in the journal when all the others are removed: the last, and those that are never removed.
fn left_of(numbers: &[u64]) -> &[u64] {
    &numbers[numbers.len() - 1 - SEALED_KEPT..]
}

#[test]
fn what_is_removed_is_read_from_the_archive() {
    let place = Place::new();
    let before = place.own();
    place.turn(Some(place.archive()), DAY / 2);
    assert_eq!(place.own(), before, "copied, and still there");
    let archived = place.archive().list().unwrap();
    assert_eq!(archived, before[..before.len() - 1]);
    place.turn(Some(place.archive()), 2 * DAY);
    assert_eq!(place.own(), left_of(&before));
    assert_eq!(place.read(&place.with_archive()), place.commits);
    assert_eq!(place.with_archive().oldest().unwrap(), Some((1, true)));
    assert_eq!(place.with_archive().lengths().unwrap().len(), before.len());
    let (archived, removed) = (
        place.metrics.journal_segments_archived.get(),
        place.metrics.journal_segments_removed.get(),
    );
    assert_eq!(
        (archived, removed),
        (before.len() as u64 - 1, before.len() as u64 - 3)
    );
    assert_eq!(place.failures(), 0);
    // The writer, too, goes on.
    let dir = place.dir.path().join("journal");
    let (journal, recovered) = Journal::open(&dir, Options::default(), NOW).unwrap();
    assert_eq!((journal.end(), recovered.torn_bytes), (place.end, 0));
}

#[test]
fn what_the_pipeline_has_not_passed_for_certain_stays() {
    let place = Place::new();
    let before = place.own();
    place.settled.send_replace(within(3));
    place.turn(Some(place.archive()), 2 * DAY);
    place.turn(Some(place.archive()), 2 * DAY);
    assert_eq!(place.own(), before[2..]);
    place.settled.send_replace(place.end);
    // A reader that holds on to an older state keeps the sync from being complete.
    let state = place.dir.path().join("state.db");
    let reader = rusqlite::Connection::open(&state).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM asset;")
        .unwrap();
    let mut writer = State::open(&state).unwrap();
    writer.write(&Batch::default()).unwrap();
    place.turn(Some(place.archive()), 2 * DAY);
    assert_eq!(place.own(), before[2..]);
    drop(reader);
    place.turn(Some(place.archive()), 2 * DAY);
    assert_eq!(place.own(), left_of(&before));
}

#[test]
fn without_an_archive_what_is_removed_is_gone_and_the_oldest_left_is_the_beginning() {
    let place = Place::new();
    let before = place.own();
    place.turn(None, 2 * DAY);
    let left = place.own();
    assert_eq!(left, left_of(&before));
    let read = place.read(&place.segments());
    assert_eq!(read, place.commits[place.commits.len() - read.len()..]);
    assert!(!read.is_empty() && read.len() < place.commits.len());
    assert_eq!(place.segments().oldest().unwrap(), Some((left[0], false)));
    let mut reader = Reader::open(&place.segments(), within(2)).unwrap();
    let gone = reader.next_commit(place.end).unwrap_err();
    assert!(matches!(gone, JournalError::NoSuchSegment { .. }), "{gone}");
}

#[test]
fn killed_in_mid_copy_or_before_the_removal_it_goes_on() {
    let place = Place::new();
    let before = place.own();
    place.turn(Some(place.archive()), Duration::ZERO);
    let journal = place.segments().journal().unwrap().unwrap();
    let archive = place.dir.path().join("archive").join(journal.to_string());
    // Killed while it copied the third one.
    let third = archive.join(format!("{:020}.seg", 3));
    let bytes = fs::read(&third).unwrap();
    fs::remove_file(&third).unwrap();
    let half = archive.join(format!("{:020}.tmp", 3));
    fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    assert!(!place.archive().list().unwrap().contains(&3));
    place.turn(Some(place.archive()), 2 * DAY);
    assert_eq!(fs::read(&third).unwrap(), bytes);
    assert!(
        place.own().contains(&3),
        "removed once it is archived for certain"
    );
    place.turn(Some(place.archive()), 2 * DAY);
    assert_eq!(place.own(), left_of(&before));
    assert_eq!(place.read(&place.with_archive()), place.commits);
}

#[test]
fn an_archive_that_has_vanished_stops_nothing_but_those_who_need_it() {
    let place = Place::new();
    place.turn(Some(place.archive()), 2 * DAY);
    let before = place.own();
    let (root, away) = (place.dir.path().join("archive"), place.dir.path().join("away"));
    fs::rename(&root, &away).unwrap();
    place.turn(Some(place.archive()), 2 * DAY);
    assert_eq!((place.own(), place.failures()), (before.clone(), 1));
    assert!(!root.exists(), "a disk that is not mounted is not written to");
    fs::rename(&away, &root).unwrap();
    place.turn(Some(place.archive()), 2 * DAY);
    assert_eq!(place.own(), left_of(&before));
    fs::rename(&root, &away).unwrap();
    // What the journal itself holds is read without it.
    let from = place.commits[37].end;
    let mut reader = Reader::open(&place.with_archive(), from).unwrap();
    let next = reader.next_commit(place.end).unwrap();
    assert_eq!(next.as_ref(), Some(&place.commits[38]));
    let mut reader = Reader::open(&place.with_archive(), Position::default()).unwrap();
    let unreachable = reader.next_commit(place.end).unwrap_err();
    assert!(
        matches!(unreachable, JournalError::Archive { .. }),
        "{unreachable}"
    );
}

/// An archive whose disk is full from some segment on, or which says that it holds what it does not.
#[derive(Debug)]
struct Faulty {
    inner: Arc<dyn Archive>,
    full_from: u64,
    claims: &'static [u64],
}

impl Archive for Faulty {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn list(&self) -> io::Result<Vec<u64>> {
        let mut numbers = self.inner.list()?;
        numbers.extend(self.claims);
        Ok(numbers)
    }

    fn open(&self, number: u64) -> io::Result<Option<File>> {
        self.inner.open(number)
    }

    fn store(&self, number: u64, segment: &File, bytes: u64) -> io::Result<()> {
        if number >= self.full_from {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.store(number, segment, bytes)
    }
}

#[test]
fn a_full_archive_is_counted_and_tried_again() {
    let place = Place::new();
    let before = place.own();
    let full = || -> Arc<dyn Archive> {
        Arc::new(Faulty {
            inner: place.archive(),
            full_from: 3,
            claims: &[],
        })
    };
    for failures in 1..4 {
        place.turn(Some(full()), Duration::ZERO);
        assert_eq!(place.failures(), failures);
    }
    assert_eq!(place.archive().list().unwrap(), [1, 2]);
    assert_eq!(place.own(), before);
    for _ in 0..2 {
        place.turn(Some(place.archive()), 2 * DAY);
    }
    assert_eq!(place.own(), left_of(&before));
    assert_eq!(place.read(&place.with_archive()), place.commits);
}

#[test]
fn an_archive_is_not_believed_before_the_segment_is_there() {
    let place = Place::new();
    let before = place.own();
    let liar = Arc::new(Faulty {
        inner: place.archive(),
        full_from: u64::MAX,
        claims: &[2],
    });
    place.turn(Some(liar), 2 * DAY);
    assert_eq!((place.own(), place.failures()), (before, 1));
}

#[test]
fn a_segment_that_does_not_read_whole_stays_where_it_is() {
    let place = Place::new();
    let before = place.own();
    let path = place.segments().path(2);
    let mut bytes = fs::read(&path).unwrap();
    let text = bytes.windows(100).position(|window| window == [b'x'; 100]);
    bytes[text.unwrap()] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut keeper = place.keeper(Some(place.archive()));
    let now = NOW.plus_nanos(2 * DAY.as_nanos() as i64);
    for _ in 0..3 {
        keeper.turn(now, &mut || true);
    }
    assert_eq!(place.failures(), 1, "told once");
    assert!(!place.archive().list().unwrap().contains(&2));
    assert_eq!(place.own(), [&[2], left_of(&before)].concat());
    // Everything else is read as before, each from where it is.
    let mut reader = Reader::open(&place.with_archive(), Position::default()).unwrap();
    let mut entries = 0;
    while let Some(commit) = reader.next_commit(place.end).unwrap() {
        entries += commit.entries.len();
    }
    assert_eq!((entries, reader.damage().entries), (39, 1));
}
