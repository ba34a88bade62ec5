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
mod commands;
pub mod dedup;
mod gateways;
mod hello;
pub mod names;

pub use commands::{FLEET_BYTES_MAX, IngestCommand};
pub use gateways::{GATEWAYS_MAX, Gateway, Gateways};

use crate::command::Desk;
use crate::command::signer::Sign;
use crate::journal::{Entry, Journal, JournalError, Position};
use crate::metrics::{Cause, Metrics, Reason};
use admission::{Admission, Decision};
use commands::COMMANDS_MAX;
use gateways::Word;
use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use trunnion_common::ack::{Ack, AckLevel, JournalMark};
use trunnion_common::codec::crc32c;
use trunnion_common::id::{Epoch, GatewayId, JournalId};
use trunnion_common::message::{self, Command, MESSAGE_MAX};
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
    /// What acknowledgements call the journal: by this start.
    name: JournalId,
    /// Whether the journal knows that name: it does before anything is acknowledged under it.
    is_named: bool,
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
        let start = crc32c(&clock().0.to_le_bytes());
        let (send, commands) = mpsc::sync_channel(COMMANDS_MAX);
        let gateways = Gateways::default();
        let handle = IngestHandle {
            committed: follow,
            commands: send,
            gateways: gateways.clone(),
        };
        let name = start as u16;
        let mut names = journal.sets().names.clone();
        names.start(name, journal.extent());
        let ingest = Self {
            admission: Admission::new(journal.id(), journal.sets().blocks.clone(), names),
            name: journal.id().named_by(name),
            is_named: false,
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

    /// Without traffic the journal's clock still has to move. A clock set back starts the second anew.
    fn tick_if_due(&mut self) {
        let quiet = (self.clock)().nanos_since(self.last_commit);
        if self.journal.pending_entries() == 0 && !(0..TICK_NANOS).contains(&quiet) {
            self.journal.append(&Entry::Tick);
        }
    }

    fn commit(&mut self) -> Result<(), JournalError> {
        let is_due = self.journal.pending_entries() > 0 || !self.group.owed.is_empty();
        if is_due && !self.is_named {
            let name = self.name.start();
            let ended = self.journal.extent();
            self.journal.append(&Entry::Started { name, ended });
            self.is_named = true;
        }
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
        for (gateway, epoch) in std::mem::take(&mut self.group.owed) {
            self.tell(gateway, epoch)?;
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

    /// Tells a gateway what of an epoch is durable.
    fn tell(&mut self, gateway: GatewayId, epoch: Epoch) -> Result<(), SourceClosed> {
        let received = &self.journal.sets().blocks;
        let ack = Ack {
            epoch,
            received: received.received(&gateway, epoch),
            credit_bytes: credit(received.gateways()),
            utc: (self.clock)(),
            journal: JournalMark {
                name: self.name,
                extent: self.journal.extent(),
            },
            level: AckLevel::Local,
        };
        let kind = Kind::Ack;
        let payload = encode(&ack, &mut self.downlink);
        self.source.publish(&Topic { gateway, kind }.text(), payload)
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
mod tests;
