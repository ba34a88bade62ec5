//! The durable, replayable log: append, group commit, read from a position.
//!
//! It is the collector's only truth: everything else can be computed from it again. One thread of one
//! process appends ([`Journal`]); any number of [`Reader`]s follow the committed position.
//!
//! - **What a commit promises.** When [`Journal::commit`] has returned, its entries survive the loss of
//!   the process and of power. Nothing may be acknowledged before.
//! - **After a failed write or sync** the file is never written again, since what a second sync
//!   reports about the first one's pages is worthless (Rebello et al., "Can applications recover from
//!   fsync failures?", USENIX ATC 2020): it is cut to its last synced length, and the same entries go
//!   to a new segment with the next attempt.
//! - **After a crash** whatever stands behind the last commit record is a torn tail, and cut off. Damage
//!   in front of a commit record is skipped and counted, and costs at most the entry it hits.
//!
//! The layout of the files is in `segment.rs`.

mod disk;
mod reader;
mod recovery;
mod segment;
mod segments;
mod tail;

pub use disk::Disk;
pub use reader::Reader;
pub use segment::Damage;
pub use segments::{Archive, SealedSegment, Segments};
pub use tail::committed_end;

use disk::HostDisk;

#[cfg(test)]
pub(crate) use disk::faults;

use crate::dead_letter::Letter;
use crate::decision::Decision;
use crate::ingest::dedup::SequenceSets;
use recovery::State;
use segment::{Group, Seal};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use trunnion_common::ack::{Extent, JournalMark};
use trunnion_common::id::{Epoch, GatewayId, JournalId, MasterId};
use trunnion_common::message::{Command, CommandResult};
use trunnion_common::sample::LossCause;
use trunnion_common::sequence::Range;
use trunnion_common::time::EventTime;
use trunnion_diagnosis::features::Depth;

/// The only partition for now.
const PARTITION: u32 = 0;

/// How often the lock is asked for, and how long in between: longer than a reader's look takes.
const LOCK_ATTEMPTS: u32 = 5;
const LOCK_WAIT: std::time::Duration = std::time::Duration::from_millis(50);

/// How a journal is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Bytes of groups after which a segment is sealed; it is exceeded by at most one group.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
        }
    }
}

/// What [`Journal::open`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Whether the journal was there already.
    pub existed: bool,
    /// Bytes of the torn tail that was cut off: never acknowledged to anybody.
    pub torn_bytes: u64,
    /// What could not be read back in the segments that recovery read; a [`Reader`] finds it again.
    pub damage: Damage,
}

/// Why the journal cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each message says it")]
pub enum JournalError {
    #[error("cannot {operation} {path}: {source}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("no room left on the disk of {path}: nothing is acknowledged until there is; free some space")]
    DiskFull { path: PathBuf },
    #[error("another process holds the journal ({path} is locked): stop it first")]
    Locked { path: PathBuf },
    #[error("{path} has format version {found}, and this build reads {FORMAT}: use the version that wrote it",
        FORMAT = segment::FORMAT)]
    Version { path: PathBuf, found: u32 },
    #[error(
        "both copies of what {path} starts with are damaged, and no earlier segment tells it: \
        restore the journal from a backup, or move it away to start a new one"
    )]
    Unreadable { path: PathBuf },
    #[error(
        "{path} is missing, and no archive holds it, so the journal cannot be read from {position}: restore \
        it from a backup or name the archive (journal.archive), or move the state database aside to start \
        with the oldest segment"
    )]
    NoSuchSegment { position: Position, path: PathBuf },
    #[error(
        "position {position} is past the journal's end {end}: it belongs to another journal or a \
        later state of this one; restore both from the same backup"
    )]
    Ahead { position: Position, end: Position },
    #[error("the system gives no random numbers for a new journal's id: {0}")]
    Random(getrandom::Error),
    #[error("cannot {operation} the archive {archive}: {source}; what has been archived is read from there")]
    Archive {
        operation: &'static str,
        archive: String,
        source: io::Error,
    },
}

impl JournalError {
    fn io(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path: path.clone() }
            }
            _ => Self::Io {
                operation,
                path: path.clone(),
                source,
            },
        }
    }
}

/// The writing end. There is one per journal, and dropping it loses what was not committed.
pub struct Journal {
    directory: PathBuf,
    options: Options,
    disk: Box<dyn Disk>,
    id: JournalId,
    /// As of the last commit.
    sets: SequenceSets,
    time: EventTime,
    /// The committed position. It stays in its segment until a commit in the next one has succeeded.
    end: Position,
    segment: Segment,
    /// The entries of the next commit, encoded and as they are.
    group: Group,
    entries: Vec<Entry>,
    /// Holds the lock for as long as the journal lives.
    _lock: File,
}

/// The last segment.
#[derive(Debug)]
struct Segment {
    /// `None` after a failure: the next commit goes to a new segment.
    file: Option<File>,
    number: u64,
    /// Where its first group stands.
    start: u64,
    /// Where its last commit ends.
    end: u64,
    /// Where the segment before ends.
    before: (u64, u64),
}

impl Segment {
    const fn end(&self) -> Position {
        segment::position(PARTITION, self.number, self.end)
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("id", &self.id)
            .field("directory", &self.directory)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Journal {
    /// Opens the journal in `dir` or starts a new one there. `now` is UTC; the journal's own clock
    /// never runs behind what it has already written.
    pub fn open(dir: &Path, options: Options, now: EventTime) -> Result<(Self, Recovered), JournalError> {
        let id = || getrandom::u64().map(JournalId).map_err(JournalError::Random);
        Self::open_on(Box::new(HostDisk), dir, options, now, id)
    }

    /// As [`Journal::open`], on a disk and with an id of the caller's choice: for simulations.
    pub fn open_on(
        mut disk: Box<dyn Disk>,
        dir: &Path,
        options: Options,
        now: EventTime,
        new_id: impl FnOnce() -> Result<JournalId, JournalError>,
    ) -> Result<(Self, Recovered), JournalError> {
        let directory = partition_directory(dir);
        fs::create_dir_all(&directory).map_err(JournalError::io("create", &directory))?;
        let lock = lock(dir)?;
        let numbers = list(&directory)?;
        let state = if numbers.is_empty() {
            // The names of the new directories must last as long as what is committed in them.
            sync_directory(dir)?;
            let resolved = fs::canonicalize(dir).map_err(JournalError::io("resolve", dir))?;
            if let Some(parent) = resolved.parent() {
                sync_directory(parent)?;
            }
            State::new(new_id()?)
        } else {
            recovery::recover(&directory, &numbers, disk.as_mut())?
        };
        let mut journal = Self {
            directory,
            options,
            disk,
            id: state.id,
            sets: state.sets,
            time: state.time,
            end: Position::default(),
            segment: state.segment,
            group: Group::default(),
            entries: Vec::new(),
            _lock: lock,
        };
        if journal.segment.file.is_none() {
            journal.start_segment(now)?;
        }
        journal.end = journal.segment.end();
        Ok((journal, state.recovered))
    }

    /// Adds an entry to the next commit.
    pub fn append(&mut self, entry: &Entry) {
        self.group.append(entry);
        self.entries.push(entry.clone());
    }

    /// Makes everything appended durable and returns the position after it.
    ///
    /// The commit's time is `now`, or the last commit's if that is later. On an error nothing of it is
    /// durable, the entries stay appended, and the next call tries them again in a new segment.
    pub fn commit(&mut self, now: EventTime) -> Result<Position, JournalError> {
        if self.group.is_empty() {
            return Ok(self.end);
        }
        if self.segment.end - self.segment.start >= self.options.segment_bytes {
            self.segment.file = None;
        }
        if self.segment.file.is_none() {
            self.start_segment(now)?;
        }
        let time = self.time.max(now);
        let path = reader::segment_path(&self.directory, self.segment.number);
        let Some(file) = &self.segment.file else {
            unreachable!("a segment was started above, or this has returned its error");
        };
        let seal = Seal {
            journal: self.id,
            segment: self.segment.number,
        };
        let bytes = self.group.sealed(seal, self.segment.end, time);
        let written = bytes.len() as u64;
        let outcome = self
            .disk
            .write(file, self.segment.end, bytes)
            .map_err(JournalError::io("write", &path))
            .and_then(|()| self.disk.sync(file).map_err(JournalError::io("sync", &path)));
        if let Err(error) = outcome {
            self.group.unseal();
            // Should this fail as well, readers and recovery still stop where the next segment's
            // head says that this one ends.
            if let Err(error) = self.disk.truncate(file, self.segment.end) {
                tracing::warn!(path = %path.display(), %error, "cannot cut off a failed commit");
            }
            self.segment.file = None;
            return Err(error);
        }
        self.segment.end += written;
        self.time = time;
        for entry in self.entries.drain(..) {
            self.sets.apply(&entry);
        }
        self.group.clear();
        self.end = self.segment.end();
        Ok(self.end)
    }

    /// Which journal this is; drawn at random when it was created.
    pub const fn id(&self) -> JournalId {
        self.id
    }

    /// How far the journal goes: the end of its last commit, by segment (upper half) and offset in it.
    pub fn extent(&self) -> Extent {
        let last = &self.segment;
        let (segment, offset) = if last.end > last.start {
            (last.number, last.end)
        } else {
            last.before
        };
        // Segments are a few hundred megabytes at most.
        Extent(segment << 32 | offset.min(u64::from(u32::MAX)))
    }

    /// The committed position.
    pub const fn end(&self) -> Position {
        self.end
    }

    /// What has been received, as of the last commit.
    pub const fn sets(&self) -> &SequenceSets {
        &self.sets
    }

    /// Bytes appended and not committed yet.
    pub fn pending_bytes(&self) -> usize {
        self.group.bytes()
    }

    /// Entries appended and not committed yet.
    pub fn pending_entries(&self) -> usize {
        self.entries.len()
    }

    /// Creates the segment after the current one, or one in its place if that has no commit yet.
    ///
    /// Written aside, synced and renamed, so that a segment never exists without its head.
    fn start_segment(&mut self, now: EventTime) -> Result<(), JournalError> {
        let current = &self.segment;
        let (number, before) = if current.end > current.start {
            (current.number + 1, (current.number, current.end))
        } else {
            (current.number.max(1), current.before)
        };
        let time = self.time.max(now);
        let (head, bytes) = segment::encode_start(self.id, number, PARTITION, time, before, &self.sets);
        let aside = self.directory.join("next.tmp");
        let path = reader::segment_path(&self.directory, number);
        let created = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&aside)
            .map_err(JournalError::io("create", &aside))
            .and_then(|file| {
                let disk = &mut self.disk;
                disk.write(&file, 0, &bytes)
                    .map_err(JournalError::io("write", &aside))?;
                disk.sync(&file).map_err(JournalError::io("sync", &aside))?;
                fs::rename(&aside, &path).map_err(JournalError::io("create", &path))?;
                sync_directory(&self.directory)?;
                Ok(file)
            });
        let file = match created {
            Ok(file) => file,
            Err(error) => {
                // It may hold the very room that is missing. The next attempt replaces it anyway.
                let _ = fs::remove_file(&aside);
                return Err(error);
            }
        };
        self.segment = Segment {
            file: Some(file),
            number,
            start: head.entries_at(),
            end: head.entries_at(),
            before,
        };
        Ok(())
    }
}

/// A place between two entries of the journal; ordered as the journal is.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize, serde::Deserialize,
)]
pub struct Position {
    /// Which partition; one for now.
    pub partition: u32,
    /// Which segment file.
    pub segment: u64,
    /// Byte offset in the segment.
    pub offset: u64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.partition, self.segment, self.offset)
    }
}

/// What the journal records. Everything that outputs depend on is one of these.
#[derive(Clone, PartialEq, Debug)]
pub enum Entry {
    /// A block with a valid envelope, verbatim.
    Block {
        /// Who sent it, from the certificate-bound topic.
        gateway: GatewayId,
        /// Envelope and body.
        bytes: bytes::Bytes,
    },
    /// The fleet file changed; in force from `effective`.
    Fleet {
        /// From when on.
        effective: EventTime,
        /// The TOML text.
        text: String,
    },
    /// Blocks neither held by the agent nor committed, found by its Hello.
    Lost {
        /// Whose.
        gateway: GatewayId,
        /// In which epoch.
        epoch: Epoch,
        /// Which blocks.
        blocks: Range,
        /// Why.
        cause: LossCause,
    },
    /// An epoch that the agent no longer lists.
    EpochClosed {
        /// Whose.
        gateway: GatewayId,
        /// Which.
        epoch: Epoch,
    },
    /// Starts of an agent that a later one has named as those before it.
    Superseded {
        /// Whose.
        gateway: GatewayId,
        /// Which, oldest first.
        starts: Vec<MasterId>,
    },
    /// A start of the collector: acknowledgements name the journal by it from here on.
    Started {
        /// The lowest 16 bits of that name ([`JournalId::named_by`]).
        name: u16,
        /// How far the journal went before it, and so under the name of the start before; the default where an earlier
        /// build did not say.
        ended: Extent,
    },
    /// A Hello by which something was lost, or whose gateway was put back to an image: what follows it in the
    /// commit was found by it, and blocks below these are older than that.
    Greeted {
        /// Whose.
        gateway: GatewayId,
        /// The start of the agent that said it.
        start: MasterId,
        /// The epochs that it lists, and the sequence of the next block of each.
        next: Vec<(Epoch, u64)>,
    },
    /// A gateway was acknowledged under a name that this journal never went by, or not so far: what it delivered then
    /// is not here.
    DeliveredElsewhere {
        /// Which.
        gateway: GatewayId,
        /// That name, and how far the journal went then.
        to: JournalMark,
        /// [`LossCause::Elsewhere`] where it is another journal's, [`LossCause::NotHeld`] where this one was put
        /// back to a backup.
        cause: LossCause,
    },
    /// A gateway was, or is about to be, told to do something.
    Command {
        /// Which.
        gateway: GatewayId,
        /// When, on the collector's clock.
        issued: EventTime,
        /// What.
        command: Box<Command>,
    },
    /// A gateway said what became of a command.
    CommandResult {
        /// Which.
        gateway: GatewayId,
        /// When the collector heard it, on its clock.
        received: EventTime,
        /// What it said.
        result: CommandResult,
    },
    /// A person had a dead letter replayed, here in full.
    Replayed(Box<Letter>),
    /// A person decided something about a machine.
    Decided(Box<Decision>),
    /// What was learned of a fleet; it holds from here on.
    Learned {
        /// The name that assets of the fleet file give.
        name: String,
        /// As [`FleetLife`](crate::prognosis::fleet_life::FleetLife) keeps it.
        bytes: Vec<u8>,
    },
    /// A second passed without traffic.
    Tick,
    /// From here on the pipeline computes so much of each window: it is too far behind for everything, or
    /// no longer so.
    Shed {
        /// How much.
        depth: Depth,
    },
    /// What the pipeline works by ([`crate::settings`]); in force from `effective`, or later where that
    /// would cut anew what has been cut.
    Settings {
        /// From when on.
        effective: EventTime,
        /// The TOML text.
        text: String,
    },
    /// History has been computed anew, with settings that hold from the journal's beginning up to here
    /// ([`crate::pipeline::Restatement`]); whoever reads from the beginning obeys the last one of these.
    Restated {
        /// Which computation it was; drawn at random.
        id: u64,
        /// The settings, as [`Entry::Settings`] has them.
        text: String,
    },
}

/// Entries that became durable together.
#[derive(Clone, PartialEq, Debug)]
pub struct Commit {
    /// The journal's clock at the commit: never decreases, and is the pipeline's only `now`.
    pub time: EventTime,
    /// The entries in order, each with the position just before it.
    pub entries: Vec<(Position, Entry)>,
    /// The position after the commit.
    pub end: Position,
}

/// Where a journal keeps its segments.
fn partition_directory(dir: &Path) -> PathBuf {
    dir.join(PARTITION.to_string())
}

/// The numbers of the segments, ascending. Whatever else stands there is left alone.
fn list(directory: &Path) -> Result<Vec<u64>, JournalError> {
    let io = JournalError::io("list", directory);
    let mut numbers = Vec::new();
    for file in fs::read_dir(directory).map_err(&io)? {
        let name = file.map_err(&io)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        if let Some(number) = number
            && number.len() == 20
            && let Ok(number) = number.parse::<u64>()
            && number > 0
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Takes the lock that keeps a second process out. The kernel gives it back however this one ends.
///
/// Those who only read hold it for the moment in which they look where the journal ends ([`tail`]), so
/// one that is taken is asked for a few times more.
#[allow(
    clippy::disallowed_methods,
    reason = "the kernel tells nobody that a lock is free"
)]
fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(JournalError::io("open", &path))?;
    for attempt in 1.. {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) if attempt < LOCK_ATTEMPTS => {
                std::thread::sleep(LOCK_WAIT);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(JournalError::Locked { path }),
            Err(error) => return Err(JournalError::io("lock", &path)(error.into())),
        }
    }
    Ok(file)
}

/// Makes the names in a directory durable.
fn sync_directory(path: &Path) -> Result<(), JournalError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(JournalError::io("sync", path))
}

#[cfg(test)]
mod tests {
    use super::faults::{Call, FaultyDisk};
    use super::*;
    use trunnion_common::block::{Envelope, Kind, Lane};
    use trunnion_common::id::{Name, NodeId};
    use trunnion_common::message::{Action, CommandOutcome};

    const NOW: EventTime = EventTime(1_800_000_000_000_000_000);
    const ID: JournalId = JournalId(0x0123_4567_89ab_cdef);

    fn gateway() -> GatewayId {
        GatewayId {
            site: Name::new("bremen").unwrap(),
            gateway: Name::new("gw-1").unwrap(),
        }
    }

    fn block(sequence: u64) -> Entry {
        let envelope = Envelope::new(Epoch(1), sequence, Lane::Live, Kind::Frames);
        Entry::Block {
            gateway: gateway(),
            bytes: envelope.encode(&[]).to_vec().into(),
        }
    }

    fn open_on(
        disk: &FaultyDisk,
        dir: &Path,
        segment_bytes: u64,
    ) -> Result<(Journal, Recovered), JournalError> {
        Journal::open_on(
            Box::new(disk.clone()),
            dir,
            Options { segment_bytes },
            NOW,
            || Ok(ID),
        )
    }

    fn read(dir: &Path, upto: Position) -> Vec<Vec<Entry>> {
        let mut reader = Reader::open(dir, Position::default()).unwrap();
        let mut groups = Vec::new();
        while let Some(commit) = reader.next_commit(upto).unwrap() {
            groups.push(commit.entries.into_iter().map(|(_, entry)| entry).collect());
        }
        assert_eq!(reader.damage(), Damage::default());
        groups
    }

    /// Six groups of two blocks, each commit repeated until it succeeds; how often one failed.
    fn fill(journal: &mut Journal) -> (Vec<Vec<Entry>>, usize) {
        let mut failures = 0;
        let mut groups = Vec::new();
        for n in 0..6 {
            let group = vec![block(2 * n), block(2 * n + 1)];
            for entry in &group {
                journal.append(entry);
            }
            let before = journal.end();
            while journal.commit(NOW).is_err() {
                assert_eq!(journal.end(), before);
                assert_eq!(journal.sets().blocks.received(&gateway(), Epoch(1)).upto(), 2 * n);
                failures += 1;
            }
            groups.push(group);
        }
        (groups, failures)
    }

    #[test]
    fn a_failure_at_any_call_loses_nothing_and_doubles_nothing() {
        for segment_bytes in [1, 400, 1 << 20] {
            let healthy = FaultyDisk::default();
            let dir = tempfile::tempdir().unwrap();
            fill(&mut open_on(&healthy, dir.path(), segment_bytes).unwrap().0);
            let calls = healthy.plan().calls.len();
            for at in 0..calls {
                for length in [1, 2, 3, 7] {
                    let disk = FaultyDisk::failing(at..at + length, io::ErrorKind::Other);
                    let dir = tempfile::tempdir().unwrap();
                    let Some((mut journal, _)) =
                        (0..=length).find_map(|_| open_on(&disk, dir.path(), segment_bytes).ok())
                    else {
                        panic!("still fails after {length} failures");
                    };
                    let (groups, failures) = fill(&mut journal);
                    assert!(at < 2 || failures > 0);
                    assert_eq!(
                        read(dir.path(), journal.end()),
                        groups,
                        "call {at}, {length} failures"
                    );
                    let end = journal.end();
                    let sets = journal.sets().clone();
                    drop(journal);
                    let (reopened, recovered) = Journal::open(dir.path(), Options::default(), NOW).unwrap();
                    assert_eq!(reopened.end(), end);
                    assert_eq!(reopened.sets(), &sets);
                    assert_eq!(recovered.damage, Damage::default());
                }
            }
        }
    }

    #[test]
    fn a_file_is_not_written_again_after_a_failed_sync() {
        let disk = FaultyDisk::default();
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open_on(&disk, dir.path(), 1 << 20).unwrap();
        journal.append(&block(0));
        let first = journal.commit(NOW).unwrap();
        let sync = disk.plan().calls.len() + 1;
        disk.plan().fail = sync..sync + 1;
        disk.plan().error = Some(io::ErrorKind::Other);
        journal.append(&block(1));
        assert!(matches!(
            journal.commit(NOW),
            Err(JournalError::Io {
                operation: "sync",
                ..
            })
        ));
        let path = reader::segment_path(&journal.directory, 1);
        assert_eq!(fs::metadata(&path).unwrap().len(), first.offset);
        let second = journal.commit(NOW).unwrap();
        assert_eq!((first.segment, second.segment), (1, 2));
        assert_eq!(fs::metadata(&path).unwrap().len(), first.offset);
    }

    #[test]
    fn what_a_failed_commit_left_behind_is_not_read() {
        // Write done, sync failed, cutting failed: the group stands in the file, whole.
        let disk = FaultyDisk::default();
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open_on(&disk, dir.path(), 1 << 20).unwrap();
        journal.append(&block(0));
        journal.commit(NOW).unwrap();
        let sync = disk.plan().calls.len() + 1;
        disk.plan().fail = sync..sync + 2;
        disk.plan().error = Some(io::ErrorKind::Other);
        journal.append(&block(1));
        journal.commit(NOW).unwrap_err();
        assert_eq!(disk.plan().calls.last(), Some(&(Call::Truncate, false)));
        let end = journal.commit(NOW).unwrap();
        assert_eq!(read(dir.path(), end), [[block(0)], [block(1)]]);
        drop(journal);
        let (journal, _) = Journal::open(dir.path(), Options::default(), NOW).unwrap();
        assert_eq!(journal.end(), end);
    }

    #[test]
    fn a_full_disk_is_named_and_passes() {
        let disk = FaultyDisk::default();
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open_on(&disk, dir.path(), 1 << 20).unwrap();
        let calls = disk.plan().calls.len();
        disk.plan().fail = calls..calls + 1_000;
        disk.plan().error = Some(io::ErrorKind::StorageFull);
        journal.append(&block(0));
        for _ in 0..100 {
            assert!(matches!(journal.commit(NOW), Err(JournalError::DiskFull { .. })));
        }
        disk.plan().error = None;
        let end = journal.commit(NOW).unwrap();
        assert_eq!(read(dir.path(), end), [[block(0)]]);
        assert_eq!(list(&journal.directory).unwrap(), [1], "no segment per attempt");
    }

    #[test]
    fn entries_of_the_same_journal_inside_a_block_are_not_taken_for_entries() {
        let open = |dir: &Path| open_on(&FaultyDisk::default(), dir, 1 << 20).unwrap().0;
        let inner = tempfile::tempdir().unwrap();
        fill(&mut open(inner.path()));
        let inner = fs::read(reader::segment_path(&partition_directory(inner.path()), 1)).unwrap();

        let outer = tempfile::tempdir().unwrap();
        let mut journal = open(outer.path());
        let envelope = Envelope::new(Epoch(1), 0, Lane::Live, Kind::Frames);
        let carrier = Entry::Block {
            gateway: gateway(),
            bytes: [&envelope.encode(&inner)[..], &inner].concat().into(),
        };
        for entry in [&carrier, &block(1)] {
            journal.append(entry);
            journal.commit(NOW).unwrap();
        }
        // With the carrier's head gone, the next entry is searched through all of its body.
        let path = reader::segment_path(&journal.directory, 1);
        let mut bytes = fs::read(&path).unwrap();
        let head = journal.segment.start as usize;
        bytes[head] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let mut reader = Reader::open(outer.path(), Position::default()).unwrap();
        let first = reader.next_commit(journal.end()).unwrap().unwrap();
        assert_eq!(first.entries, []);
        let second = reader.next_commit(journal.end()).unwrap().unwrap();
        assert_eq!(second.entries[0].1, block(1));
        assert_eq!(reader.damage().entries, 1);
    }

    /// The bytes of format version 1 never change: a difference here means a new version.
    #[test]
    fn version_1_is_written_as_it_always_was() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open_on(&FaultyDisk::default(), dir.path(), 1).unwrap();
        let groups = [
            vec![
                block(0),
                block(2),
                Entry::Fleet {
                    effective: NOW.plus_nanos(-5),
                    text: "site = \"bremen\"".to_owned(),
                },
            ],
            vec![
                Entry::Lost {
                    gateway: gateway(),
                    epoch: Epoch(1),
                    blocks: Range::new(1, 2).unwrap(),
                    cause: LossCause::NotHeld,
                },
                Entry::EpochClosed {
                    gateway: gateway(),
                    epoch: Epoch(1),
                },
                Entry::Tick,
            ],
            vec![
                Entry::Settings {
                    effective: NOW.plus_nanos(-5),
                    text: "waiting_bytes_max = 1".to_owned(),
                },
                Entry::Superseded {
                    gateway: gateway(),
                    starts: vec![MasterId(1), MasterId(2)],
                },
            ],
        ];
        let mut end = journal.end();
        for (n, group) in groups.iter().enumerate() {
            group.iter().for_each(|entry| journal.append(entry));
            end = journal.commit(NOW.plus_nanos(n as i64)).unwrap();
        }
        assert_eq!(read(dir.path(), end), groups);
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        for number in [1, 2, 3] {
            let written = fs::read(reader::segment_path(&journal.directory, number)).unwrap();
            let path = golden.join(format!("journal-1-{number}.seg"));
            if !path.exists() {
                fs::write(&path, &written).unwrap();
                panic!("{} was missing and is written now; look at it", path.display());
            }
            assert!(written == fs::read(&path).unwrap(), "{} differs", path.display());
        }
    }

    /// What version 1 has come to say later.
    #[test]
    fn later_kinds_are_written_as_they_were_first() {
        let replayed = Entry::Replayed(Box::new(Letter {
            id: "0-1-4096-3".parse().unwrap(),
            gateway: gateway(),
            backfill: true,
            arrival: NOW.plus_nanos(-5),
            fix: 2,
            form: crate::dead_letter::Form::Frame,
            payload: b"frame".as_slice().into(),
        }));
        check_golden("kind-10", vec![replayed]);
        check_golden("kinds-15-17", names(Extent::default()));
        check_golden("kinds-15-17-extents", names(Extent(3 << 32 | 0x1000)));
    }

    fn names(extent: Extent) -> Vec<Entry> {
        vec![
            Entry::Started {
                name: 0xfffe,
                ended: extent,
            },
            Entry::DeliveredElsewhere {
                gateway: gateway(),
                to: JournalMark {
                    name: JournalId(u64::MAX),
                    extent,
                },
                cause: LossCause::NotHeld,
            },
            Entry::Greeted {
                gateway: gateway(),
                start: MasterId(0x1234),
                next: vec![(Epoch(1), 7), (Epoch(u64::MAX), 0)],
            },
        ]
    }

    fn check_golden(what: &str, entries: Vec<Entry>) {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open_on(&FaultyDisk::default(), dir.path(), 1).unwrap();
        entries.iter().for_each(|entry| journal.append(entry));
        let end = journal.commit(NOW).unwrap();
        assert_eq!(read(dir.path(), end), [entries]);
        let written = fs::read(reader::segment_path(&journal.directory, 1)).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/journal-1-{what}.seg"));
        if !path.exists() {
            fs::write(&path, &written).unwrap();
            panic!("{} was missing and is written now; look at it", path.display());
        }
        assert!(written == fs::read(&path).unwrap(), "{} differs", path.display());
    }

    #[test]
    fn names_of_journals_outlive_segments_and_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::default();
        let (mut journal, _) = open_on(&disk, dir.path(), 1).unwrap();
        let empty = journal.sets().names.clone();
        for extent in [Extent::default(), journal.extent()] {
            names(extent).iter().for_each(|entry| journal.append(entry));
        }
        journal.commit(NOW).unwrap();
        let known = journal.sets().names.clone();
        assert_ne!(known, empty);
        // A segment per group: the second one's sets are all that a restart knows of the first.
        journal.append(&Entry::Tick);
        journal.commit(NOW).unwrap();
        drop(journal);
        let (journal, _) = open_on(&disk, dir.path(), 1).unwrap();
        assert_eq!(journal.sets().names, known);
    }

    #[test]
    fn a_journal_goes_further_with_each_commit_and_as_far_after_a_restart() {
        for segment_bytes in [1, 400, 1 << 20] {
            let dir = tempfile::tempdir().unwrap();
            let disk = FaultyDisk::default();
            let (mut journal, _) = open_on(&disk, dir.path(), segment_bytes).unwrap();
            let mut known = Extent::default();
            assert_eq!(journal.extent(), known);
            for n in 0..9 {
                if n % 3 == 2 {
                    // Its segment is not written again, and an empty one may be left behind.
                    let calls = disk.plan().calls.len();
                    disk.plan().fail = calls..calls + 3;
                    disk.plan().error = Some(io::ErrorKind::Other);
                    journal.append(&block(n));
                    while journal.commit(NOW).is_err() {
                        assert_eq!(journal.extent(), known);
                    }
                } else {
                    journal.append(&block(n));
                    journal.commit(NOW).unwrap();
                }
                assert!(journal.extent() > known);
                known = journal.extent();
                drop(journal);
                journal = open_on(&disk, dir.path(), segment_bytes).unwrap().0;
                assert_eq!(journal.extent(), known);
            }
        }
    }

    #[test]
    fn commands_are_read_back_and_their_numbers_outlive_segments_and_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::default();
        // A segment per group: the sets at the segment's start are all that a restart knows of the first.
        let (mut journal, _) = open_on(&disk, dir.path(), 1).unwrap();
        let command = Command {
            number: 7,
            expires: NOW,
            action: Action::Identify {
                node: NodeId::new(5).unwrap(),
                seconds: 3,
            },
        };
        let result = CommandResult {
            number: 7,
            outcome: CommandOutcome::Superseded,
            highest: 9,
        };
        let entries = [
            Entry::Command {
                gateway: gateway(),
                issued: NOW,
                command: Box::new(command),
            },
            Entry::CommandResult {
                gateway: gateway(),
                received: NOW,
                result,
            },
            Entry::Tick,
        ];
        let mut end = journal.end();
        for entry in &entries {
            journal.append(entry);
            end = journal.commit(NOW).unwrap();
        }
        let known = journal.sets().commands.clone();
        assert_ne!(known, Default::default());
        let read: Vec<Entry> = read(dir.path(), end).into_iter().flatten().collect();
        assert_eq!(read, entries);
        drop(journal);
        let (journal, _) = open_on(&disk, dir.path(), 1).unwrap();
        assert_eq!(journal.sets().commands, known);
    }

    #[test]
    fn who_only_reads_takes_no_commit_for_durable_that_may_not_be() {
        let dir = tempfile::tempdir().unwrap();
        let nothing = committed_end(dir.path(), Position::default());
        assert!(nothing.is_err(), "no journal is there");
        let (mut journal, _) = open_on(&FaultyDisk::default(), dir.path(), 400).unwrap();
        let mut ends = vec![Position::default()];
        let mut known = Position::default();
        for n in 0..9 {
            journal.append(&block(n));
            ends.push(journal.commit(NOW).unwrap());
            let afresh = committed_end(dir.path(), Position::default()).unwrap();
            known = committed_end(dir.path(), known).unwrap();
            assert_eq!((afresh, known), (ends[n as usize], ends[n as usize]));
        }
        assert!(ends[9].segment > 2);
        drop(journal);
        assert_eq!(committed_end(dir.path(), known).unwrap(), ends[9]);
        let afresh = committed_end(dir.path(), Position::default()).unwrap();
        assert_eq!(afresh, ends[9]);
    }

    #[test]
    fn a_restatement_is_kind_12_with_an_id_and_a_text() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open_on(&FaultyDisk::default(), dir.path(), 1 << 20).unwrap();
        let (id, text) = (0x0123_4567_89ab_cdef_u64, "waiting_bytes_max = 1");
        let restated = Entry::Restated {
            id,
            text: text.to_owned(),
        };
        journal.append(&restated);
        let end = journal.commit(NOW).unwrap();
        assert_eq!(read(dir.path(), end), [[restated]]);
        let bytes = fs::read(reader::segment_path(&journal.directory, 1)).unwrap();
        let body = [&id.to_le_bytes()[..], text.as_bytes()].concat();
        let head = [(body.len() as u32).to_le_bytes(), 12u32.to_le_bytes()].concat();
        let stands = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        assert!(stands(&head) && stands(&body));
    }

    #[test]
    fn a_later_format_is_refused_in_plain_words() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = open_on(&FaultyDisk::default(), dir.path(), 1).unwrap();
        let path = reader::segment_path(&journal.directory, 1);
        drop(journal);
        let mut bytes = fs::read(&path).unwrap();
        bytes[4] = 2;
        let crc = trunnion_common::codec::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        let error = Journal::open(dir.path(), Options::default(), NOW).unwrap_err();
        assert!(matches!(error, JournalError::Version { found: 2, .. }), "{error}");
    }
}
