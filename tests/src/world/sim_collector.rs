//! The collector: the real ingest, journal, pipeline and checkpoint, on a disk that forgets.

use super::Mutant;
use super::chance::Chance;
use super::sim_disk::{Backup, SimDisk};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use trunnion_collector::checkpoint;
use trunnion_collector::ingest::dedup::SequenceSets;
use trunnion_collector::ingest::{BlockSource, Ingest, IngestError, IngestHandle, Message, SourceClosed};
use trunnion_collector::journal::{Commit, Journal, Options, Position, Reader};
use trunnion_collector::ledger::{AccountKey, LedgerRow};
use trunnion_collector::metrics::Metrics;
use trunnion_collector::pipeline::{Output, Pipeline, PipelineState};
use trunnion_common::ack::{Ack, AckLevel};
use trunnion_common::block::Block;
use trunnion_common::id::{Epoch, GatewayId, JournalId};
use trunnion_common::message;
use trunnion_common::sequence::SequenceSet;
use trunnion_common::time::EventTime;
use trunnion_common::topic::{Kind, Topic};

/// Messages that the broker keeps for a reader that is behind; the oldest beyond that are dropped
/// without a word, as rumqttd's log does it.
const BROKER_MESSAGES_MAX: usize = 24;

/// Small segments, so that there are many.
const OPTIONS: Options = Options {
    segment_bytes: 24 * 1_024,
};

const JOURNAL: JournalId = JournalId(0x51_4d);

type Clock = Box<dyn Fn() -> EventTime + Send>;

/// The collector and what outlives its process.
pub struct SimCollector {
    directory: tempfile::TempDir,
    /// Where the journal is.
    pub disk: SimDisk,
    clock: Arc<AtomicI64>,
    mailbox: Mailbox,
    checkpoint: Option<Vec<Vec<u8>>>,
    running: Option<Running>,
    rows: BTreeMap<AccountKey, LedgerRow>,
    backup: Option<Saved>,
    mutant: Option<Mutant>,
    /// What a mutant remembers beside the journal.
    remembered: BTreeMap<(GatewayId, Epoch), BTreeSet<u64>>,
}

/// A backup of all that outlives the process.
struct Saved {
    /// Up to where its journal goes.
    end: Position,
    files: Vec<(PathBuf, Backup)>,
    checkpoint: Option<Vec<Vec<u8>>>,
    rows: BTreeMap<AccountKey, LedgerRow>,
}

struct Running {
    ingest: Ingest<Mailbox, Clock>,
    handle: IngestHandle,
    reader: Reader,
    pipeline: Pipeline,
}

impl fmt::Debug for SimCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimCollector").finish_non_exhaustive()
    }
}

/// What a turn came to.
#[derive(Debug, Default)]
pub struct Turn {
    /// Messages for gateways.
    pub sent: Vec<(Topic, Vec<u8>)>,
    /// Whether the journal refused; the group is in hand still.
    pub is_refused: bool,
    /// Whether the power was cut in it.
    pub is_cut: bool,
}

impl SimCollector {
    /// Switched off, with an empty disk.
    pub fn new(chance: Chance, mutant: Option<Mutant>) -> Result<Self> {
        Ok(Self {
            directory: tempfile::tempdir().context("a directory for the journal")?,
            disk: SimDisk::new(chance),
            clock: Arc::default(),
            mailbox: Mailbox::default(),
            checkpoint: None,
            running: None,
            rows: BTreeMap::new(),
            backup: None,
            mutant,
            remembered: BTreeMap::new(),
        })
    }

    /// Starts the process. It may not come up on a disk that fails.
    pub fn start(&mut self, utc: EventTime) -> Result<bool> {
        self.clock.store(utc.0, Ordering::Relaxed);
        let disk = Box::new(self.disk.clone());
        let opened = Journal::open_on(disk, self.directory.path(), OPTIONS, utc, || Ok(JOURNAL));
        let Ok((journal, _)) = opened else {
            return Ok(false);
        };
        let state = match &self.checkpoint {
            Some(parts) => checkpoint::load(parts)?,
            None => PipelineState::default(),
        };
        let pipeline = Pipeline::resume(state);
        let reader = Reader::open(self.directory.path(), pipeline.state().position())?;
        let clock = Arc::clone(&self.clock);
        let clock: Clock = Box::new(move || EventTime(clock.load(Ordering::Relaxed)));
        let (ingest, handle) = Ingest::new(journal, self.mailbox.clone(), Metrics::default(), clock);
        self.running = Some(Running {
            ingest,
            handle,
            reader,
            pipeline,
        });
        self.follow()?;
        Ok(true)
    }

    /// Whether the process lives.
    pub const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The process is gone, and the broker with it.
    pub fn kill(&mut self) {
        self.running = None;
        self.mailbox.messages().clear();
        self.disk.restart();
    }

    /// The power is cut: unsynced writes are gone as well.
    pub fn crash(&mut self) -> Result<()> {
        self.kill();
        self.disk.power_cycle().context("put back what was synced")
    }

    /// A message has reached the broker. Returns how many others it pushed out.
    pub fn handle_message(&mut self, topic: &Topic, payload: bytes::Bytes) -> usize {
        let mut inbox = self.mailbox.messages();
        inbox.arrived.push_back(Message {
            topic: topic.text().to_string(),
            payload,
        });
        let mut dropped = 0;
        while inbox.arrived.len() > BROKER_MESSAGES_MAX {
            inbox.arrived.pop_front();
            dropped += 1;
        }
        dropped
    }

    /// A turn of the ingest thread, and of the pipeline behind it.
    pub fn turn(&mut self, utc: EventTime) -> Result<Turn> {
        self.clock.store(utc.0, Ordering::Relaxed);
        if self.mutant == Some(Mutant::SetOutsideCommit) {
            self.remember_apart(utc);
        }
        let Some(running) = &mut self.running else {
            return Ok(Turn::default());
        };
        let mut turn = Turn::default();
        match running.ingest.turn(false) {
            Ok(()) => {}
            Err(IngestError::Journal(_)) => {
                turn.is_cut = self.disk.is_off();
                turn.is_refused = !turn.is_cut;
            }
            Err(error @ IngestError::Source(_)) => return Err(error.into()),
        }
        for (topic, payload) in self.mailbox.messages().published.drain(..) {
            let topic = Topic::parse(&topic).context("a topic of ingest")?;
            turn.sent.push((topic, payload));
        }
        if !turn.is_cut {
            self.follow()?;
        }
        Ok(turn)
    }

    /// Saves a checkpoint of the pipeline.
    pub fn save(&mut self) {
        if let Some(running) = &self.running {
            self.checkpoint = Some(checkpoint::save(running.pipeline.state()));
        }
    }

    /// Makes a backup of a collector that runs, if there is none yet; whether one was made.
    pub fn take_backup(&mut self) -> Result<bool> {
        let (None, Some(running)) = (&self.backup, &self.running) else {
            return Ok(false);
        };
        let directories = directories(self.directory.path())?;
        let files = directories
            .into_iter()
            .map(|directory| Ok((directory.clone(), self.disk.backup(&directory)?)));
        self.backup = Some(Saved {
            end: *running.handle.committed.borrow(),
            files: files.collect::<Result<_>>()?,
            checkpoint: self.checkpoint.clone(),
            rows: self.rows.clone(),
        });
        Ok(true)
    }

    /// What was committed after the backup.
    pub fn commits_since_backup(&self) -> Result<Vec<Commit>> {
        let end = self
            .backup
            .as_ref()
            .map_or(Position::default(), |backup| backup.end);
        let mut commits = self.commits()?;
        commits.retain(|commit| commit.end > end);
        Ok(commits)
    }

    /// Puts the backup in the place of what there is, while the process does not run.
    pub fn restore(&mut self) -> Result<()> {
        let Some(backup) = self.backup.take() else {
            return Ok(());
        };
        for (directory, files) in &backup.files {
            self.disk.restore(directory, files)?;
        }
        self.checkpoint = backup.checkpoint;
        self.rows = backup.rows;
        Ok(())
    }

    /// Everything committed, read anew.
    pub fn commits(&self) -> Result<Vec<Commit>> {
        let Some(running) = &self.running else {
            return Ok(Vec::new());
        };
        let upto = *running.handle.committed.borrow();
        let mut reader = Reader::open(self.directory.path(), Position::default())?;
        let mut commits = Vec::new();
        while let Some(commit) = reader.next_commit(upto)? {
            commits.push(commit);
        }
        Ok(commits)
    }

    /// Entries of committed groups that cannot be read back: a power cut tears a group that nobody was told of,
    /// and leaves its end.
    pub fn damaged_entries(&self) -> Result<u64> {
        let Some(running) = &self.running else {
            return Ok(0);
        };
        let upto = *running.handle.committed.borrow();
        let mut reader = Reader::open(self.directory.path(), Position::default())?;
        while reader.next_commit(upto)?.is_some() {}
        Ok(reader.damage().entries)
    }

    /// What the journal says of itself when it is opened once more.
    pub fn recovered_sets(&self, utc: EventTime) -> Result<SequenceSets> {
        let disk = Box::new(self.disk.clone());
        let opened = Journal::open_on(disk, self.directory.path(), OPTIONS, utc, || Ok(JOURNAL));
        Ok(opened?.0.sets().clone())
    }

    /// The pipeline as it is, if the process lives.
    pub fn pipeline(&self) -> Option<&Pipeline> {
        self.running.as_ref().map(|running| &running.pipeline)
    }

    /// The newest row of every account.
    pub const fn rows(&self) -> &BTreeMap<AccountKey, LedgerRow> {
        &self.rows
    }

    fn follow(&mut self) -> Result<()> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let upto = *running.handle.committed.borrow();
        while let Some(commit) = running.reader.next_commit(upto)? {
            for output in running.pipeline.apply(&commit) {
                if let Output::Ledger(row) = output {
                    self.rows.insert((row.node, row.boot, row.channel), row);
                }
            }
        }
        Ok(())
    }

    /// The mutant that keeps its set of received blocks apart from the data: it notes a block when it
    /// arrives, and takes for a duplicate, to be acknowledged, what it has noted.
    fn remember_apart(&mut self, utc: EventTime) {
        let mut inbox = self.mailbox.messages();
        let arrived = std::mem::take(&mut inbox.arrived);
        for message in arrived {
            let block = Topic::parse(&message.topic)
                .filter(|topic| topic.kind == Kind::Data)
                .and_then(|topic| Some((topic, Block::parse(&message.payload).ok()?)));
            let Some((topic, block)) = block else {
                inbox.arrived.push_back(message);
                continue;
            };
            let epoch = block.envelope.epoch;
            let known = self.remembered.entry((topic.gateway.clone(), epoch)).or_default();
            if known.insert(block.envelope.sequence) {
                inbox.arrived.push_back(message);
                continue;
            }
            let mut received = SequenceSet::new();
            for sequence in known.iter() {
                let _ = received.insert(*sequence);
            }
            let ack = Ack {
                epoch,
                received,
                credit_bytes: 1 << 20,
                utc,
                journal: JOURNAL.into(),
                level: AckLevel::Local,
            };
            let mut room = vec![0; message::MESSAGE_MAX];
            if let Some(bytes) = message::encode(&ack, &mut room) {
                let topic = Topic {
                    gateway: topic.gateway,
                    kind: Kind::Ack,
                };
                inbox.published.push((topic.text().to_string(), bytes.to_vec()));
            }
        }
    }
}

/// A directory and those below it.
fn directories(root: &Path) -> Result<Vec<PathBuf>> {
    let mut all = vec![root.to_owned()];
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        if entry.metadata()?.is_dir() {
            all.extend(directories(&entry.path())?);
        }
    }
    Ok(all)
}

/// The broker's two ends, as ingest sees them.
#[derive(Clone, Debug, Default)]
struct Mailbox(Arc<Mutex<Messages>>);

#[derive(Debug, Default)]
struct Messages {
    arrived: VecDeque<Message>,
    published: Vec<(String, Vec<u8>)>,
}

impl Messages {
    fn clear(&mut self) {
        self.arrived.clear();
        self.published.clear();
    }
}

impl Mailbox {
    fn messages(&self) -> MutexGuard<'_, Messages> {
        // A panic under the lock ends the world anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockSource for Mailbox {
    fn receive(&mut self, _: Duration) -> Result<Option<Message>, SourceClosed> {
        Ok(self.messages().arrived.pop_front())
    }

    fn publish(&mut self, topic: &str, payload: Vec<u8>) -> Result<(), SourceClosed> {
        self.messages().published.push((topic.to_owned(), payload));
        Ok(())
    }
}
