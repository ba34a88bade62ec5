//! From the broker to the journal: identity, deduplication, durable commit, acknowledgement.
//!
//! One thread owns the journal. It drains what has arrived into a group, commits the group with one
//! sync, and only then acknowledges:
//!
//! ```text
//! BlockSource -> Admission (new? known? invalid?) -> Journal::append ... Journal::commit -> acks -> position
//! ```
//!
//! Acknowledgements are written from the sets that the journal has committed, never from what has
//! merely arrived, so a failed commit cannot acknowledge anything. While commits fail (a full disk, a
//! broken one) the group in hand is tried again and nothing further is taken in: the broker's log
//! overruns in the end, and the agents, which hold every block until it is acknowledged, send again.

mod admission;
pub mod dedup;
mod gateways;
mod hello;

pub use gateways::{GATEWAYS_MAX, Gateway, Gateways};

use crate::command::signer::Sign;
use crate::command::{Desk, LOOK_INTERVAL, Step, Wanted};
use crate::dead_letter::Letter;
use crate::features::Depth;
use crate::journal::{Entry, Journal, JournalError, Position};
use crate::metrics::{Cause, Metrics, Reason};
use crate::settings::Settings;
use admission::{Admission, Decision};
use gateways::Word;
use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use trunnion_common::ack::{Ack, AckLevel};
use trunnion_common::id::{Epoch, GatewayId};
use trunnion_common::message::{self, Action, Command, MESSAGE_MAX};
use trunnion_common::reject::Reject;
use trunnion_common::time::EventTime;
use trunnion_common::topic::{Kind, Topic};

/// A message as it came from a gateway.
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// The topic; the door has made sure that it is the sender's own.
    pub topic: String,
    /// The payload.
    pub payload: bytes::Bytes,
}

/// Where blocks come from and acknowledgements go: the embedded broker, or one of the plant's own.
pub trait BlockSource: Send {
    /// The next message, or `None` when there was none for `timeout`.
    fn receive(&mut self, timeout: Duration) -> Result<Option<Message>, SourceClosed>;

    /// Sends a message to a gateway.
    fn publish(&mut self, topic: &str, payload: Vec<u8>) -> Result<(), SourceClosed>;
}

impl<S: BlockSource + ?Sized> BlockSource for Box<S> {
    fn receive(&mut self, timeout: Duration) -> Result<Option<Message>, SourceClosed> {
        (**self).receive(timeout)
    }

    fn publish(&mut self, topic: &str, payload: Vec<u8>) -> Result<(), SourceClosed> {
        (**self).publish(topic, payload)
    }
}

/// The source has gone for good: the collector is stopping.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the source of blocks has closed")]
pub struct SourceClosed;

/// What others ask ingest to journal, since it alone writes.
#[derive(Clone, PartialEq, Debug)]
pub enum IngestCommand {
    /// The fleet file changed.
    Fleet {
        /// The TOML text, at most [`FLEET_BYTES_MAX`].
        text: String,
        /// From when on.
        effective: EventTime,
    },
    /// The settings of this start, in force as soon as that can be ([`Entry::Settings`]).
    Settings(Settings),
    /// How much is to be computed of each window from here on ([`Entry::Shed`]).
    Shed(Depth),
    /// What the fleet file wants of gateways and nodes ([`crate::command`]).
    Wanted(Box<Wanted>),
    /// What a person wants of a node, once.
    Order(Box<Action>),
    /// Dead letters that a person wants replayed; they are journaled in one commit.
    Replay(Vec<Letter>),
}

/// Longest fleet file that is journaled; one of ten thousand channels has about half of it.
pub const FLEET_BYTES_MAX: usize = 4 << 20;

/// Why ingest stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Nothing can arrive any more.
    #[error(transparent)]
    Source(#[from] SourceClosed),
    /// It was told to stop while the last group could not be committed: the agents still hold it.
    #[error("stopped without committing the last group, which the agents keep: {0}")]
    Journal(#[from] JournalError),
}

/// Commands waiting; whoever sends one more is blocked until ingest has taken one.
const COMMANDS_MAX: usize = 16;

/// A group is committed at this size even when more has arrived. Large enough for a sync to cost
/// little beside the writing, small enough to be read back in one piece.
const GROUP_BYTES: usize = 4 << 20;

/// A group is committed at this count even when more has arrived.
const GROUP_ENTRIES: usize = 4_096;

/// A group is committed when it is this old even when more keeps arriving, so that acknowledgements
/// stay as prompt under load as without.
const GROUP_NANOS: i64 = 5_000_000;

/// The journal's clock moves at least this often.
const TICK_NANOS: i64 = 1_000_000_000;

/// How long to wait for a message before looking at commands, shutdown and the clock again.
const POLL: Duration = Duration::from_millis(50);

/// First and longest pause before a failed commit is tried again. Without jitter: nobody else
/// competes for the journal.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What all gateways together may have on the way. The broker keeps its log in memory and drops
/// silently what its reader has not taken in time, so this stays well below that log.
const CREDIT_TOTAL: usize = 64 << 20;

/// What one gateway may have on the way: at least two of its usual blocks, at most what fills a
/// 100 Mbit/s line through a third of a second of delay.
const CREDIT: (usize, usize) = (128 << 10, 4 << 20);

/// The thread that journals and acknowledges.
#[derive(Debug)]
pub struct Ingest<S, C> {
    journal: Journal,
    source: S,
    clock: C,
    metrics: Metrics,
    admission: Admission,
    gateways: Gateways,
    commands: mpsc::Receiver<IngestCommand>,
    committed: watch::Sender<Position>,
    group: Group,
    /// The clock at the last commit, as it read then.
    last_commit: EventTime,
    /// Room to encode what is sent to gateways.
    downlink: Vec<u8>,
    /// Without it no gateway is commanded.
    signer: Option<Box<dyn Sign>>,
    desk: Desk,
    /// When the desk was last asked; `None` asks it at once.
    looked: Option<EventTime>,
    /// Commands to send as soon as they are committed.
    commanded: Vec<(GatewayId, Command)>,
}

/// What others hold of a running ingest.
#[derive(Clone, Debug)]
pub struct IngestHandle {
    /// The journal's committed position: how far a reader may read.
    pub committed: watch::Receiver<Position>,
    /// What to journal beside blocks.
    pub commands: mpsc::SyncSender<IngestCommand>,
    /// What the gateways last said.
    pub gateways: Gateways,
}

/// What the next commit settles.
#[derive(Debug, Default)]
struct Group {
    blocks: u64,
    bytes: u64,
    /// Whom to acknowledge afterwards.
    owed: BTreeSet<(GatewayId, Epoch)>,
    /// Whom to tell after that of blocks that are journaled and that this build cannot read. Not before:
    /// an agent gives up a block that is refused before it is acknowledged.
    unread: Vec<(GatewayId, Reject)>,
}

impl<S: BlockSource, C: Fn() -> EventTime> Ingest<S, C> {
    /// Takes over the journal. `clock` gives UTC; the journal turns it into one that never decreases.
    pub fn new(journal: Journal, source: S, metrics: Metrics, clock: C) -> (Self, IngestHandle) {
        let (committed, follow) = watch::channel(journal.end());
        let (send, commands) = mpsc::sync_channel(COMMANDS_MAX);
        let gateways = Gateways::default();
        let handle = IngestHandle {
            committed: follow,
            commands: send,
            gateways: gateways.clone(),
        };
        let ingest = Self {
            admission: Admission::new(journal.id(), journal.sets().blocks.clone()),
            journal,
            source,
            metrics,
            gateways,
            commands,
            committed,
            group: Group::default(),
            last_commit: clock(),
            clock,
            downlink: vec![0; MESSAGE_MAX],
            signer: None,
            desk: Desk::default(),
            looked: None,
            commanded: Vec::new(),
        };
        (ingest, handle)
    }

    /// Signs commands from now on; before, none are given.
    pub fn set_signer(&mut self, signer: Box<dyn Sign>) {
        self.signer = Some(signer);
    }

    /// Runs on the calling thread until `shutdown` says true or its sender is gone, then commits and
    /// acknowledges what is in hand.
    pub fn run(mut self, shutdown: watch::Receiver<bool>) -> Result<(), IngestError> {
        let stopping = || *shutdown.borrow() || shutdown.has_changed().is_err();
        // The first retry, in a new segment, is at once: most likely it was that file alone.
        let mut pause = Duration::ZERO;
        loop {
            let last = stopping();
            match self.turn(last) {
                Ok(()) if last => return Ok(()),
                Ok(()) => pause = Duration::ZERO,
                // On the way out the source may go first.
                Err(IngestError::Source(_)) if stopping() => return Ok(()),
                Err(IngestError::Journal(error)) if pause.is_zero() || !stopping() => {
                    tracing::error!(%error, "cannot commit; nothing is acknowledged until it succeeds");
                    std::thread::park_timeout(pause);
                    pause = (2 * pause).clamp(RETRY.0, RETRY.1);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One turn: takes in what has arrived (nothing, if this is the last one), commits it, and
    /// acknowledges what is durable.
    ///
    /// After an error of the journal the group stays in hand: the next turn takes in nothing further
    /// and tries it again.
    pub fn turn(&mut self, last: bool) -> Result<(), IngestError> {
        let mut open = Ok(());
        if self.journal.pending_entries() == 0 {
            self.take_commands();
            if !last {
                open = self.collect();
            }
            self.look_at_commands();
            self.tick_if_due();
        }
        self.commit()?;
        self.acknowledge().and(open)?;
        self.send_commands()?;
        Ok(())
    }

    fn take_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                IngestCommand::Fleet { text, effective } if text.len() <= FLEET_BYTES_MAX => {
                    self.journal.append(&Entry::Fleet { effective, text });
                }
                IngestCommand::Settings(settings) => self.journal.append(&Entry::Settings {
                    effective: EventTime(i64::MIN),
                    text: settings.to_text(),
                }),
                IngestCommand::Shed(depth) => self.journal.append(&Entry::Shed { depth }),
                IngestCommand::Replay(letters) => {
                    for letter in letters {
                        self.journal.append(&Entry::Replayed(Box::new(letter)));
                    }
                }
                IngestCommand::Wanted(wanted) => {
                    self.desk.want(*wanted);
                    self.looked = None;
                }
                IngestCommand::Order(action) => {
                    self.looked = None;
                    if !self.desk.order(*action, (self.clock)()) {
                        tracing::error!("too many orders wait: one is refused");
                    }
                }
                IngestCommand::Fleet { text, .. } => {
                    tracing::error!(
                        bytes = text.len(),
                        limit = FLEET_BYTES_MAX,
                        "the fleet file is too long and not in force"
                    );
                    self.refused("fleet_too_long");
                }
            }
        }
    }

    /// Takes in what has arrived, up to one group.
    fn collect(&mut self) -> Result<(), SourceClosed> {
        let Some(message) = self.source.receive(POLL)? else {
            return Ok(());
        };
        let start = (self.clock)();
        self.handle(&message, start)?;
        while self.journal.pending_bytes() < GROUP_BYTES && self.journal.pending_entries() < GROUP_ENTRIES {
            let now = (self.clock)();
            if !(0..GROUP_NANOS).contains(&now.nanos_since(start)) {
                break;
            }
            let Some(message) = self.source.receive(Duration::ZERO)? else {
                break;
            };
            self.handle(&message, now)?;
        }
        Ok(())
    }

    fn handle(&mut self, message: &Message, now: EventTime) -> Result<(), SourceClosed> {
        match self.admission.handle(message) {
            Decision::Store {
                gateway,
                epochs,
                entries,
                unread,
            } => {
                self.group.blocks += 1;
                self.group.bytes += message.payload.len() as u64;
                self.append(&entries);
                if let Some(reject) = unread {
                    self.group.unread.push((gateway.clone(), reject));
                }
                self.owe(gateway, epochs, now);
            }
            Decision::Duplicate { gateway, epochs } => {
                self.metrics.blocks_duplicated.inc();
                self.owe(gateway, epochs, now);
            }
            Decision::Greet {
                gateway,
                epochs,
                entries,
            } => {
                self.append(&entries);
                self.owe(gateway, epochs, now);
            }
            Decision::Note { gateway, word } => {
                if let Word::Result(result) = &word
                    && self.journal.sets().commands.is_news(&gateway, result)
                {
                    let (number, outcome) = (result.number, result.outcome.label());
                    tracing::info!(%gateway, number, outcome, "a command is answered");
                    self.metrics
                        .command_results
                        .get_or_create(&Reason { reason: outcome })
                        .inc();
                    self.looked = None;
                    self.journal.append(&Entry::CommandResult {
                        gateway: gateway.clone(),
                        received: now,
                        result: *result,
                    });
                }
                self.gateways.note(&gateway, word, now);
            }
            Decision::Reject { gateway, reject } => {
                tracing::warn!(%gateway, reason = reject.reason.label(), crc = reject.crc, "rejected a block");
                self.refused(reject.reason.label());
                let kind = Kind::Reject;
                let payload = encode(&reject, &mut self.downlink);
                self.source.publish(&Topic { gateway, kind }.text(), payload)?;
            }
            Decision::Refuse { label } => {
                tracing::warn!(topic = message.topic, reason = label, "refused a message");
                self.refused(label);
            }
        }
        Ok(())
    }

    /// These epochs of the gateway, which was just heard, are to be acknowledged.
    fn owe(&mut self, gateway: GatewayId, epochs: impl IntoIterator<Item = Epoch>, now: EventTime) {
        self.gateways.note(&gateway, Word::Something, now);
        let owed = epochs.into_iter().map(|epoch| (gateway.clone(), epoch));
        self.group.owed.extend(owed);
    }

    fn append(&mut self, entries: &[Entry]) {
        for entry in entries {
            if let Entry::Lost {
                gateway,
                epoch,
                blocks,
                cause,
            } = entry
            {
                tracing::error!(
                    %gateway,
                    %epoch,
                    first = blocks.first(),
                    end = blocks.end(),
                    cause = cause.label(),
                    "blocks are lost"
                );
                let cause = cause.label();
                let counter = self.metrics.blocks_lost.get_or_create(&Cause { cause });
                counter.inc_by(blocks.count());
            }
            self.journal.append(entry);
        }
    }

    /// Asks the desk what gateways are to be told, as of what is committed.
    fn look_at_commands(&mut self) {
        let now = (self.clock)();
        let interval = LOOK_INTERVAL.as_nanos() as i64;
        let is_due = self
            .looked
            .is_none_or(|looked| !(0..interval).contains(&now.nanos_since(looked)));
        if self.signer.is_none() || !is_due {
            return;
        }
        self.looked = Some(now);
        let log = &self.journal.sets().commands;
        self.gateways.show(self.desk.rows(log));
        for step in self.desk.poll(log, &self.gateways.connected(), now) {
            let (gateway, command) = match step {
                Step::Resend(gateway, command) => (gateway, command),
                Step::Issue(gateway, command) => {
                    let number = command.number;
                    tracing::info!(%gateway, number, action = ?command.action, "a command is given");
                    self.metrics.commands_issued.inc();
                    self.journal.append(&Entry::Command {
                        gateway: gateway.clone(),
                        issued: now,
                        command: Box::new(command.clone()),
                    });
                    (gateway, command)
                }
            };
            self.commanded.push((gateway, command));
        }
    }

    /// Sends what has been committed. What cannot be signed is tried again when it would be sent again.
    fn send_commands(&mut self) -> Result<(), SourceClosed> {
        for (gateway, command) in std::mem::take(&mut self.commanded) {
            let Some(signer) = &self.signer else {
                break;
            };
            match signer.sign(&gateway, &command) {
                Ok(payload) => {
                    self.metrics.commands_sent.inc();
                    let kind = Kind::Command;
                    self.source.publish(&Topic { gateway, kind }.text(), payload)?;
                }
                Err(error) => {
                    tracing::error!(%gateway, number = command.number, %error, "a command cannot be signed");
                }
            }
        }
        Ok(())
    }

    /// Without traffic the journal's clock still has to move. A clock set back starts the second anew.
    fn tick_if_due(&mut self) {
        let quiet = (self.clock)().nanos_since(self.last_commit);
        if self.journal.pending_entries() == 0 && !(0..TICK_NANOS).contains(&quiet) {
            self.journal.append(&Entry::Tick);
        }
    }

    fn commit(&mut self) -> Result<(), JournalError> {
        if self.journal.pending_entries() == 0 {
            return Ok(());
        }
        let now = (self.clock)();
        let watch = Stopwatch::start();
        let position = self.journal.commit(now)?;
        self.metrics.commit_duration.observe(watch.seconds());
        self.metrics
            .blocks_committed
            .inc_by(std::mem::take(&mut self.group.blocks));
        self.metrics
            .bytes_committed
            .inc_by(std::mem::take(&mut self.group.bytes));
        self.last_commit = now;
        self.committed.send_replace(position);
        Ok(())
    }

    /// Tells whoever is owed it what is durable.
    fn acknowledge(&mut self) -> Result<(), SourceClosed> {
        let utc = (self.clock)();
        let received = &self.journal.sets().blocks;
        let credit_bytes = credit(received.gateways());
        for (gateway, epoch) in std::mem::take(&mut self.group.owed) {
            let ack = Ack {
                epoch,
                received: received.received(&gateway, epoch),
                credit_bytes,
                utc,
                journal: self.journal.id(),
                level: AckLevel::Local,
            };
            let kind = Kind::Ack;
            let payload = encode(&ack, &mut self.downlink);
            self.source.publish(&Topic { gateway, kind }.text(), payload)?;
        }
        for (gateway, reject) in std::mem::take(&mut self.group.unread) {
            let reason = reject.reason.label();
            tracing::warn!(%gateway, reason, "a block is kept that this build cannot read");
            self.refused(reason);
            let kind = Kind::Reject;
            let payload = encode(&reject, &mut self.downlink);
            self.source.publish(&Topic { gateway, kind }.text(), payload)?;
        }
        Ok(())
    }

    fn refused(&self, reason: &'static str) {
        self.metrics
            .messages_rejected
            .get_or_create(&Reason { reason })
            .inc();
    }
}

fn encode(content: &impl serde::Serialize, room: &mut [u8]) -> Vec<u8> {
    message::encode(content, room)
        .expect("rejections and acknowledgements are far below MESSAGE_MAX")
        .to_vec()
}

/// Bytes that each of so many gateways may have on the way.
fn credit(gateways: usize) -> u32 {
    (CREDIT_TOTAL / gateways.max(1)).clamp(CREDIT.0, CREDIT.1) as u32
}

/// Times one commit, for the metric alone.
struct Stopwatch(Instant);

impl Stopwatch {
    #[allow(
        clippy::disallowed_methods,
        reason = "measures the shell's own work; nothing is decided by it"
    )]
    fn start() -> Self {
        Self(Instant::now())
    }

    fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::signer::SignerError;
    use crate::journal::faults::{Call, FaultyDisk};
    use crate::journal::{Commit, Options, Reader};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, VecDeque};
    use std::io::ErrorKind;
    use std::path::Path;
    use std::sync::{Arc, Mutex};
    use tempfile::TempDir;
    use trunnion_common::ack::{HeldEpoch, Hello};
    use trunnion_common::block::{Envelope, Kind as BlockKind, Lane};
    use trunnion_common::codec::crc32c;
    use trunnion_common::id::{JournalId, MasterId, Name};
    use trunnion_common::message::{CommandOutcome, CommandResult, GatewaySettings, GatewayStatus, Phase};
    use trunnion_common::reject::{Reject, RejectReason};
    use trunnion_common::sample::LossCause;
    use trunnion_common::sequence::{Range, Ranges};

    const START: EventTime = EventTime(1_800_000_000_000_000_000);
    const ID: JournalId = JournalId(7);
    const EPOCH: Epoch = Epoch(1);

    fn gateway(name: &str) -> GatewayId {
        GatewayId {
            site: Name::new("bremen").unwrap(),
            gateway: Name::new(name).unwrap(),
        }
    }

    fn message(gateway: &GatewayId, kind: Kind, payload: Vec<u8>) -> Message {
        let gateway = gateway.clone();
        Message {
            topic: Topic { gateway, kind }.to_string(),
            payload: payload.into(),
        }
    }

    fn block(sequence: u64) -> Message {
        let envelope = Envelope::new(EPOCH, sequence, Lane::Live, BlockKind::Frames);
        message(&gateway("gw-1"), Kind::Data, envelope.encode(&[]).to_vec())
    }

    fn encoded(content: &impl serde::Serialize) -> Vec<u8> {
        let mut bytes = vec![0; MESSAGE_MAX];
        message::encode(content, &mut bytes).unwrap().to_vec()
    }

    /// What a scripted source hands out: `None` is a quiet spell of one poll.
    type Script = Vec<Option<Message>>;

    /// Plays a script, records what is published, and stops ingest at the end of the script.
    struct Scripted {
        script: VecDeque<Option<Message>>,
        clock: Arc<Mutex<EventTime>>,
        disk: FaultyDisk,
        published: Arc<Mutex<Vec<Published>>>,
        stop: watch::Sender<bool>,
    }

    struct Published {
        topic: String,
        payload: Vec<u8>,
        /// Whether the last thing asked of the disk before was a sync that succeeded.
        after_sync: bool,
    }

    impl BlockSource for Scripted {
        fn receive(&mut self, timeout: Duration) -> Result<Option<Message>, SourceClosed> {
            let next = self.script.pop_front();
            if self.script.is_empty() {
                self.stop.send_replace(true);
            }
            let message = next.flatten();
            if message.is_none() {
                let mut now = self.clock.lock().unwrap();
                *now = now.plus_nanos(timeout.as_nanos() as i64);
            }
            Ok(message)
        }

        fn publish(&mut self, topic: &str, payload: Vec<u8>) -> Result<(), SourceClosed> {
            let after_sync = self.disk.plan().calls.last() == Some(&(Call::Sync, true));
            self.published.lock().unwrap().push(Published {
                topic: topic.to_owned(),
                payload,
                after_sync,
            });
            Ok(())
        }
    }

    /// What was left after a script had been played.
    struct Played {
        dir: TempDir,
        published: Vec<Published>,
        handle: IngestHandle,
        metrics: Metrics,
        outcome: Result<(), IngestError>,
    }

    impl Played {
        fn commits(&self) -> Vec<Commit> {
            commits(self.dir.path(), *self.handle.committed.borrow())
        }

        fn entries(&self) -> Vec<Entry> {
            let all = self.commits().into_iter().flat_map(|commit| commit.entries);
            all.map(|(_, entry)| entry).collect()
        }

        fn acks(&self) -> Vec<Ack> {
            let acks = self.published.iter().filter(|sent| sent.topic.ends_with("/ack"));
            acks.map(|sent| message::decode(&sent.payload).unwrap()).collect()
        }
    }

    fn commits(dir: &Path, upto: Position) -> Vec<Commit> {
        let mut reader = Reader::open(dir, Position::default()).unwrap();
        std::iter::from_fn(|| reader.next_commit(upto).unwrap()).collect()
    }

    fn play(script: Script) -> Played {
        play_on(FaultyDisk::default(), tempfile::tempdir().unwrap(), script, &[])
    }

    fn play_on(disk: FaultyDisk, dir: TempDir, script: Script, commands: &[IngestCommand]) -> Played {
        let clock = Arc::new(Mutex::new(START));
        let (stop, shutdown) = watch::channel(false);
        let published = Arc::default();
        let source = Scripted {
            script: script.into(),
            clock: clock.clone(),
            disk: disk.clone(),
            published: Arc::clone(&published),
            stop,
        };
        let (journal, _) =
            Journal::open_on(Box::new(disk), dir.path(), Options::default(), START, || Ok(ID)).unwrap();
        let metrics = Metrics::default();
        let now = move || *clock.lock().unwrap();
        let (mut ingest, handle) = Ingest::new(journal, source, metrics.clone(), now);
        ingest.set_signer(Box::new(Scribe));
        for command in commands {
            handle.commands.send(command.clone()).unwrap();
        }
        let outcome = ingest.run(shutdown);
        let published = std::mem::take(&mut *published.lock().unwrap());
        Played {
            dir,
            published,
            handle,
            metrics,
            outcome,
        }
    }

    /// Writes commands down without any proof.
    #[derive(Debug)]
    struct Scribe;

    impl Sign for Scribe {
        fn sign(&self, _: &GatewayId, command: &Command) -> Result<Vec<u8>, SignerError> {
            Ok(encoded(command))
        }
    }

    #[test]
    fn a_command_is_sent_after_its_commit_and_its_answer_is_journaled_once() {
        let settings = GatewaySettings {
            heartbeat_interval_ms: Some(2_000),
            ..GatewaySettings::default()
        };
        let wanted = Wanted {
            gateways: BTreeMap::from([(gateway("gw-1"), settings), (gateway("gw-2"), settings)]),
            ..Wanted::default()
        };
        let result = CommandResult {
            number: 1,
            outcome: CommandOutcome::Done,
            highest: 1,
        };
        let answer = message(&gateway("gw-1"), Kind::Result, encoded(&result));
        // A block says that the gateway is there; a look is due once a second.
        let mut script = vec![Some(block(0))];
        script.resize(30, None);
        script.extend([Some(answer.clone()), None, Some(answer)]);
        script.resize(100, None);
        let commands = [IngestCommand::Wanted(Box::new(wanted))];
        let played = play_on(
            FaultyDisk::default(),
            tempfile::tempdir().unwrap(),
            script,
            &commands,
        );
        let sent: Vec<_> = played
            .published
            .iter()
            .filter(|sent| sent.topic.ends_with("/command"))
            .collect();
        let [sent] = &sent[..] else {
            panic!("{} commands were sent", sent.len());
        };
        assert!(sent.after_sync);
        assert_eq!(sent.topic, "trunnion/down/bremen/gw-1/command");
        let command: Command = message::decode(&sent.payload).unwrap();
        assert_eq!((command.number, &command.action), (1, &Action::Gateway(settings)));
        let entries = played.entries();
        let journaled = |wanted: fn(&Entry) -> bool| entries.iter().filter(|entry| wanted(entry)).count();
        assert_eq!(journaled(|entry| matches!(entry, Entry::Command { .. })), 1);
        assert_eq!(journaled(|entry| matches!(entry, Entry::CommandResult { .. })), 1);
        let shown = played.handle.gateways.snapshot();
        assert!(shown[&gateway("gw-1")].commands[0].in_effect);
    }

    fn is_tick(entry: &Entry) -> bool {
        *entry == Entry::Tick
    }

    #[test]
    fn a_block_is_acknowledged_after_the_sync_of_its_commit() {
        let played = play(vec![Some(block(0)), Some(block(1)), None, Some(block(2)), None]);
        played.outcome.as_ref().unwrap();
        let acks = played.acks();
        assert_eq!(
            acks.iter().map(|ack| ack.received.upto()).collect::<Vec<_>>(),
            [2, 3]
        );
        assert!(played.published.iter().all(|sent| sent.after_sync));
        assert!(
            played
                .published
                .iter()
                .all(|sent| sent.topic == "trunnion/down/bremen/gw-1/ack")
        );
        assert!(acks.iter().all(|ack| ack.epoch == EPOCH && ack.journal == ID));
        assert_eq!(played.commits().len(), 2);
        assert_eq!(played.metrics.blocks_committed.get(), 3);
    }

    #[test]
    fn a_duplicate_is_acknowledged_again_and_stored_once() {
        let played = play(vec![Some(block(0)), Some(block(0)), None, Some(block(0)), None]);
        assert_eq!(played.acks().len(), 2);
        assert_eq!(played.entries().len(), 1);
        assert_eq!(played.metrics.blocks_duplicated.get(), 2);
    }

    #[test]
    fn a_restart_still_knows_every_block() {
        let first = play(vec![Some(block(0)), Some(block(2)), None]);
        let script = vec![Some(block(2)), Some(block(1)), Some(block(0)), None];
        let second = play_on(FaultyDisk::default(), first.dir, script, &[]);
        let blocks: Vec<_> = second
            .entries()
            .into_iter()
            .filter(|entry| !is_tick(entry))
            .collect();
        assert_eq!(blocks.len(), 3);
        assert_eq!(second.acks().last().unwrap().received.upto(), 3);
        assert_eq!(second.metrics.blocks_duplicated.get(), 2);
    }

    #[test]
    fn a_failed_write_or_sync_acknowledges_nothing_and_the_retry_goes_to_a_new_segment() {
        // Calls 0 and 1 create the segment, 2 and 3 commit block 0, 4 and 5 block 1.
        for at in 2..6 {
            let disk = FaultyDisk::failing(at..at + 1, ErrorKind::Other);
            let script = vec![Some(block(0)), None, Some(block(1)), None];
            let played = play_on(disk, tempfile::tempdir().unwrap(), script, &[]);
            played.outcome.as_ref().unwrap();
            assert!(played.published.iter().all(|sent| sent.after_sync), "call {at}");
            let received = played
                .acks()
                .iter()
                .map(|ack| ack.received.upto())
                .collect::<Vec<_>>();
            assert_eq!(received, [1, 2], "call {at}");
            assert_eq!(played.entries().len(), 2, "call {at}");
            let end = *played.handle.committed.borrow();
            // A segment that had no commit yet is replaced, any other one is left as it is.
            assert_eq!(end.segment, if at < 4 { 1 } else { 2 }, "call {at}");
        }
    }

    #[test]
    fn told_to_stop_on_a_full_disk_it_stops_without_acknowledging() {
        let disk = FaultyDisk::failing(2..usize::MAX, ErrorKind::StorageFull);
        let played = play_on(disk, tempfile::tempdir().unwrap(), vec![Some(block(0))], &[]);
        assert!(matches!(
            played.outcome,
            Err(IngestError::Journal(JournalError::DiskFull { .. }))
        ));
        assert!(played.published.is_empty());
        assert_eq!(played.metrics.blocks_committed.get(), 0);
    }

    /// Has one message and is gone.
    struct Closing(Option<Message>);

    impl BlockSource for Closing {
        fn receive(&mut self, _: Duration) -> Result<Option<Message>, SourceClosed> {
            self.0.take().map(Some).ok_or(SourceClosed)
        }

        fn publish(&mut self, _: &str, _: Vec<u8>) -> Result<(), SourceClosed> {
            Err(SourceClosed)
        }
    }

    #[test]
    fn what_is_in_hand_is_committed_even_when_the_source_has_closed() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path(), Options::default(), START).unwrap();
        let source = Closing(Some(block(0)));
        let (ingest, handle) = Ingest::new(journal, source, Metrics::default(), || START);
        let (_stop, shutdown) = watch::channel(false);
        assert!(matches!(ingest.run(shutdown), Err(IngestError::Source(_))));
        let upto = *handle.committed.borrow();
        assert_eq!(commits(dir.path(), upto)[0].entries.len(), 1);
    }

    #[test]
    fn a_second_without_traffic_is_a_tick() {
        let polls = (3 * TICK_NANOS / POLL.as_nanos() as i64) as usize;
        let played = play(vec![None; polls]);
        let commits = played.commits();
        assert_eq!(played.entries(), vec![Entry::Tick; 3]);
        for (second, commit) in commits.iter().enumerate() {
            assert_eq!(commit.time, START.plus_nanos((second as i64 + 1) * TICK_NANOS));
        }
    }

    #[test]
    fn a_hello_is_answered_for_every_epoch_and_books_what_nobody_has() {
        let held = |epoch, next, ranges: &[Range]| HeldEpoch {
            epoch,
            next,
            held: Ranges::from_slice(ranges).unwrap(),
            freed_by: None,
        };
        let epochs = [
            held(EPOCH, 4, &[Range::new(3, 4).unwrap()]),
            held(Epoch(2), 0, &[]),
        ];
        let hello = Hello::first(MasterId(1), heapless::Vec::from_slice(&epochs).unwrap());
        let hello = message(&gateway("gw-1"), Kind::Hello, encoded(&hello));
        let played = play(vec![Some(block(0)), None, Some(hello), None]);
        let acks = played.acks();
        assert_eq!(
            acks[1..]
                .iter()
                .map(|ack| (ack.epoch, ack.received.upto()))
                .collect::<Vec<_>>(),
            [(EPOCH, 3), (Epoch(2), 0)]
        );
        assert_eq!(
            played.entries()[1..],
            [Entry::Lost {
                gateway: gateway("gw-1"),
                epoch: EPOCH,
                blocks: Range::new(1, 3).unwrap(),
                cause: LossCause::NotHeld,
            }]
        );
    }

    #[test]
    fn an_invalid_envelope_is_rejected_and_not_journaled() {
        let mut broken = block(0);
        broken.payload = b"TRB1 and then nonsense, forty bytes of it".to_vec().into();
        let crc = crc32c(&broken.payload);
        let played = play(vec![Some(broken), None]);
        assert_eq!(played.entries(), []);
        let [sent] = &played.published[..] else {
            panic!("one message");
        };
        assert_eq!(sent.topic, "trunnion/down/bremen/gw-1/reject");
        let reject: Reject = message::decode(&sent.payload).unwrap();
        assert_eq!(
            reject,
            Reject {
                crc,
                reason: RejectReason::LengthMismatch
            }
        );
        let reason = RejectReason::LengthMismatch.label();
        let counted = played
            .metrics
            .messages_rejected
            .get_or_create(&Reason { reason })
            .get();
        assert_eq!(counted, 1);
    }

    #[test]
    fn a_block_that_nobody_can_read_is_journaled_acknowledged_and_then_refused() {
        let mut envelope = trunnion_common::block::Envelope::new(
            EPOCH,
            0,
            trunnion_common::block::Lane::Live,
            trunnion_common::block::Kind::Frames,
        );
        envelope.body_version += 1;
        let mut later = block(0);
        later.payload = [&envelope.encode(b"later")[..], b"later"].concat().into();
        let crc = crc32c(&later.payload);
        let played = play(vec![Some(later.clone()), None, Some(later), None]);
        assert_eq!(played.entries().len(), 1);
        let topics: Vec<_> = played.published.iter().map(|sent| &sent.topic[..]).collect();
        let (ack, reject) = (
            "trunnion/down/bremen/gw-1/ack",
            "trunnion/down/bremen/gw-1/reject",
        );
        assert_eq!(
            topics,
            [ack, reject, ack],
            "told once, and acknowledged each time"
        );
        let reason = RejectReason::BodyVersion;
        assert_eq!(
            message::decode::<Reject>(&played.published[1].payload),
            Ok(Reject { crc, reason })
        );
    }

    #[test]
    fn the_last_word_of_a_gateway_is_kept() {
        let status = |phase| {
            let status = GatewayStatus {
                phase,
                agent_version: heapless::String::try_from("1.2.3").unwrap(),
                utc: START,
                nodes: 3,
                spool_blocks: 4,
                spool_bytes: 5,
                life: 1,
                connection: 1,
                health: trunnion_common::message::GatewayHealth::default(),
            };
            Some(message(&gateway("gw-2"), Kind::Status, encoded(&status)))
        };
        let played = play(vec![
            Some(block(0)),
            status(Phase::Birth),
            status(Phase::Death),
            None,
        ]);
        let table = played.handle.gateways.snapshot();
        let connected: BTreeMap<_, _> = table
            .iter()
            .map(|(id, gateway)| (id.gateway.as_str(), gateway.connected))
            .collect();
        assert_eq!(connected, BTreeMap::from([("gw-1", true), ("gw-2", false)]));
        assert_eq!(table[&gateway("gw-2")].status.as_ref().unwrap().nodes, 3);
    }

    #[test]
    fn settings_go_through_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::default();
        let played = play_on(
            FaultyDisk::default(),
            dir,
            vec![None],
            &[IngestCommand::Settings(settings.clone())],
        );
        let (effective, text) = (EventTime(i64::MIN), settings.to_text());
        assert_eq!(played.entries(), [Entry::Settings { effective, text }]);
    }

    #[test]
    fn a_fleet_file_goes_through_the_journal() {
        let fleet = |text: &str| IngestCommand::Fleet {
            text: text.to_owned(),
            effective: START,
        };
        let long = "x".repeat(FLEET_BYTES_MAX + 1);
        let commands = [fleet("site = \"bremen\""), fleet(&long)];
        let dir = tempfile::tempdir().unwrap();
        let played = play_on(FaultyDisk::default(), dir, vec![None], &commands);
        let text = "site = \"bremen\"".to_owned();
        let effective = START;
        assert_eq!(played.entries(), [Entry::Fleet { effective, text }]);
    }

    #[test]
    fn a_group_is_bounded_in_time_and_size() {
        let count = 2 * GROUP_ENTRIES as u64;
        let script = (0..count).map(|n| Some(block(n))).chain([None]).collect();
        let played = play(script);
        let commits = played.commits();
        assert!(commits.iter().all(|commit| commit.entries.len() <= GROUP_ENTRIES));
        assert_eq!(
            commits.iter().map(|commit| commit.entries.len()).sum::<usize>(),
            count as usize
        );
        assert_eq!(played.acks().last().unwrap().received.upto(), count);
    }

    #[test]
    fn credit_is_shared_within_its_bounds() {
        assert_eq!(credit(0), 4 << 20);
        assert_eq!(credit(16), 4 << 20);
        assert_eq!(credit(64), 1 << 20);
        assert_eq!(credit(100_000), 128 << 10);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Any order and any number of copies, with a disk that fails now and then and a restart in
        /// between: every block is stored once and acknowledged.
        #[test]
        fn every_block_is_stored_exactly_once(
            order in Just((0..24u64).flat_map(|n| [n, n]).collect::<Vec<_>>()).prop_shuffle(),
            quiet in prop::collection::vec(any::<bool>(), 48),
            restart in 0..48usize,
            fail in 2..30usize,
        ) {
            let script = |range: std::ops::Range<usize>| -> Script {
                let steps = order[range.clone()].iter().zip(&quiet[range]);
                let messages = steps.flat_map(|(&n, &quiet)| [Some(Some(block(n))), quiet.then_some(None)]);
                messages.flatten().chain([None]).collect()
            };
            let disk = FaultyDisk::failing(fail..fail + 2, ErrorKind::Other);
            let first = play_on(disk, tempfile::tempdir().unwrap(), script(0..restart), &[]);
            prop_assume!(first.outcome.is_ok());
            let second = play_on(FaultyDisk::default(), first.dir, script(restart..order.len()), &[]);
            second.outcome.as_ref().unwrap();

            let end = *second.handle.committed.borrow();
            let stored = commits(second.dir.path(), end).into_iter().flat_map(|commit| commit.entries);
            let mut sequences: Vec<u64> = stored
                .filter_map(|(_, entry)| match entry {
                    Entry::Block { bytes, .. } => {
                        Some(trunnion_common::block::Block::parse(&bytes).unwrap().envelope.sequence)
                    }
                    _ => None,
                })
                .collect();
            sequences.sort_unstable();
            // With 24 blocks there are never more than 16 ranges, so no hole is ever given up.
            prop_assert_eq!(sequences, (0..24).collect::<Vec<_>>());
            let received = Journal::open(second.dir.path(), Options::default(), START).unwrap().0;
            prop_assert_eq!(received.sets().blocks.received(&gateway("gw-1"), EPOCH).upto(), 24);
        }
    }
}
