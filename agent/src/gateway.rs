//! The gateway as one state machine: what happened goes in, what to do comes out. Pure.
//!
//! Call `handle_*` for what happened, then [`Gateway::poll`] with the time, and carry out the actions
//! in order; come back at [`Gateway::next_timeout`] or when something else has happened.
//!
//! Order matters in five places. A commit to a chain takes everything of its class received so far, so
//! that its cursors never count a frame that is not in a block. A clock fix goes to disk before the
//! first frame that names it does. A node is acknowledged, and a block published, only when the commit
//! has been flushed. A block that is given up has a tombstone on disk before it is removed, and with the
//! tombstone the features of what was in it. What is held is not reported while essential blocks that are
//! history wait: the report would overtake them.
//!
//! An event costs what is under way, and the logarithm of what is held: nothing here walks a backlog,
//! but for a start and for the blocks that an event itself is about.

use crate::alarm::Alarms;
use crate::block::{Block, BlockKey, Gathering, Index};
use crate::clock::Now;
use crate::clock_sync::{ClockSync, FixInForce};
use crate::command::Commands;
use crate::command::record::Record;
use crate::config::Config;
use crate::derive::Derive;
use crate::drain::{self, Drain};
use crate::endpoints::Endpoints;
use crate::floor::{Floor, Refusal};
use crate::forecast::Forecast;
use crate::intake::{BootKey, Intake};
use crate::introduction::Introductions;
use crate::inventory::Inventory;
use crate::line::Line;
use crate::metrics::Metrics;
use crate::mqtt::MqttEvent;
use crate::port::Pace;
use crate::publisher::{Greeting, Publisher};
use crate::retention::{Decision, DerivedPlan, Limits};
use crate::spool::{Commit, ReadError, Recovered, Reply, Request};
use crate::spool_watch::SpoolWatch;
use crate::starts::Starts;
use crate::status;
use crate::timekeeper::{Change, Timekeeper};
use crate::watch::{Searching, Watches};
use bytes::Bytes;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use trunnion_common::ack::{Ack, JOURNALS_MAX, JournalMark};
use trunnion_common::block::{GatewayDescribe, Kind, Lane};
use trunnion_common::codec::crc32c;
use trunnion_common::frame::Class;
use trunnion_common::id::{Epoch, MasterId};
use trunnion_common::message::{self, GatewayStatus, MESSAGE_MAX, Phase};
use trunnion_common::reject::{Reject, RejectReason};
use trunnion_common::sample::LossCause;
use trunnion_common::sequence::SequenceSet;
use trunnion_common::time::{ClockQuality, EventTime};
use trunnion_common::topic;
use trunnion_common::watch::LocalWord;

mod command;
mod lines;
mod room;
#[cfg(test)]
mod tests;
mod watch;
mod writer;

pub(crate) use watch::about;
use writer::{ChainWriter, Flushing, Writer, encode};

/// Bytes of essential blocks not yet flushed at which no further frame is taken: the nodes hold on to
/// theirs.
const UNFLUSHED_ESSENTIAL_MAX: usize = 2 << 20;

/// Bytes of waveform blocks not yet flushed at which further waveforms are left with their nodes.
const UNFLUSHED_WAVEFORM_MAX: usize = 6 << 20;

/// Commits of a chain not yet flushed at which none is added; what they would hold waits in memory.
const COMMITS_MAX: usize = 32;

/// Blocks being read from the spool at once.
const READING_MAX: usize = 64;

/// From one report of what is held to the next, if anything has changed.
const HOLDINGS_INTERVAL: Duration = Duration::from_secs(1);

/// Before a block is tried again that the connection or the disk did not take.
const STALL: Duration = Duration::from_millis(50);

/// How much too early what is held may be reported when there is a commit anyway.
const HOLDINGS_EARLY: Duration = Duration::from_millis(500);

/// A node not heard for this long is not counted as present.
const PRESENCE: Duration = Duration::from_secs(10);

/// What the shell is to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// Write bytes to a line. What it does not take is dropped: the next poll says it again.
    Write(usize, Vec<u8>),
    /// Read a line at this pace from now on.
    Listen(usize, Pace),
    /// Ask the spool.
    Spool(Request),
    /// Connect to the endpoint of this position; events of the connection carry the number given.
    Connect {
        /// Which of the enrolled endpoints.
        endpoint: usize,
        /// Number of the connection.
        connection: u64,
    },
    /// Subscribe to the downlink topics.
    Subscribe,
    /// Publish a message.
    Publish(topic::Kind, Bytes),
    /// Publish a block; [`Gateway::handle_not_taken`] must be told if the connection does not take it.
    PublishBlock(BlockKey, Bytes),
    /// Close the connection.
    Disconnect,
    /// Make the record of commands durable; [`Gateway::handle_kept`] must be told how it went.
    Keep(Record),
    /// Show what is held against machines now, and switch the relay.
    Advise {
        /// The conditions, the worst first.
        standing: Vec<LocalWord>,
        /// When the window closed that changed them.
        closed: Duration,
    },
    /// Search a window, beside everything else; [`Gateway::handle_searched`] must be told what was found.
    Search(Box<Searching>),
}

/// The state of the whole gateway.
#[derive(Debug)]
pub struct Gateway {
    /// What the lines are called in the log.
    ports: Vec<String>,
    lines: Vec<Line>,
    intake: Intake,
    introductions: Introductions,
    clocks: BTreeMap<BootKey, ClockSync>,
    clock_sync_interval: Duration,
    timekeeper: Timekeeper,
    forecast: Forecast,
    writer: Writer,
    /// By class.
    commits: [VecDeque<Flushing>; 2],
    commit_number: u64,
    spool_watch: SpoolWatch,
    /// What the spool's disk has room for.
    room: Decision,
    limits: Limits,
    derived_plan: DerivedPlan,
    derive: Derive,
    watches: Watches,
    alarms: Alarms,
    publisher: Publisher,
    starts: Starts,
    reading: usize,
    stalled_until: Duration,
    /// Acknowledgements on their way into the spool, one per epoch, and the next one if it came since.
    freeing: BTreeMap<Epoch, Option<(SequenceSet, JournalMark)>>,
    link: Link,
    endpoints: Endpoints,
    connection: u64,
    commands: Commands,
    /// As the configuration says.
    heartbeat_configured: Duration,
    drain_configured: Drain,
    /// This start of the agent.
    life: MasterId,
    /// As given with the last event of a connection.
    random: u32,
    heartbeat_interval: Duration,
    heartbeat_due: Duration,
    holdings_due: Duration,
    holdings_told: Vec<u8>,
    is_stopping: bool,
    /// By the gateway's clock.
    started: EventTime,
    metrics: Metrics,
    actions: VecDeque<Action>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    Down { retry_at: Duration },
    Connecting,
    Up,
}

/// A message with its version byte.
pub fn encode_message<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![0; MESSAGE_MAX];
    let used = message::encode(value, &mut bytes).map_or(0, <[u8]>::len);
    debug_assert!(used > 0, "the contract bounds its messages by MESSAGE_MAX");
    bytes.truncate(used);
    bytes
}

impl Gateway {
    /// Goes on from what the spool held.
    pub fn new(config: &Config, recovered: Recovered, master: MasterId, metrics: Metrics, now: Now) -> Self {
        let mut publisher = Publisher::new(config.drain, recovered.current, &recovered.epochs);
        let mut inventory = Inventory::default();
        let mut buried = Vec::new();
        for (key, (bytes, index)) in recovered.blocks {
            let age = drain::age(index.made, now.utc);
            publisher.handle_stored(key, bytes as usize, age, now.mono);
            inventory.insert(key, &index);
            buried.extend(index.buries);
        }
        let mut actions = VecDeque::new();
        for (epoch, blocks) in buried {
            for sequence in blocks.first()..blocks.end() {
                let key = BlockKey { epoch, sequence };
                publisher.handle_buried(key);
                if inventory.contains(key) {
                    // The former start did not get to it after its tombstone was on disk.
                    actions.push_back(Action::Spool(Request::Bury(key)));
                }
            }
        }
        let mut intake = Intake::default();
        let mut introductions = Introductions::new(recovered.journals);
        let mut clocks = BTreeMap::new();
        for cursor in &recovered.cursors {
            intake.restore(cursor);
            if let Some(FixInForce(fix)) = &cursor.fix {
                introductions.handle_fix(fix);
            }
            let clock = ClockSync::new(cursor.node, cursor.boot, cursor.fix, config.clock_sync_interval);
            clocks.insert((cursor.node, cursor.boot), clock);
        }
        metrics
            .databases_quarantined
            .inc_by(recovered.quarantined.len() as u64);
        metrics.databases_discarded.inc_by(recovered.discarded);
        let mut gateway = Self {
            ports: config
                .ports
                .iter()
                .map(|port| port.path.display().to_string())
                .collect(),
            lines: config
                .ports
                .iter()
                .map(|port| Line::new(master, port.wiring, port.baud, config.poll_interval))
                .collect(),
            intake,
            introductions,
            clocks,
            clock_sync_interval: config.clock_sync_interval,
            timekeeper: Timekeeper::default(),
            forecast: Forecast::new(config.retention, config.flash_endurance_bytes),
            writer: Writer {
                chains: recovered.current.map(|(epoch, next)| ChainWriter {
                    epoch,
                    next,
                    gathering: Gathering::new(config.block),
                    finished: Vec::new(),
                    due: None,
                }),
                age: config.block.age,
                inventory,
                removals: Vec::new(),
            },
            commits: [VecDeque::new(), VecDeque::new()],
            commit_number: 0,
            spool_watch: SpoolWatch::default(),
            room: Decision::Keep,
            limits: config.retention,
            derived_plan: DerivedPlan::Full,
            derive: Derive::new(config.derive),
            watches: Watches::default(),
            alarms: Alarms::default(),
            publisher,
            starts: Starts::new(master, Vec::new()),
            reading: 0,
            stalled_until: Duration::ZERO,
            freeing: BTreeMap::new(),
            link: Link::Down {
                retry_at: Duration::ZERO,
            },
            endpoints: Endpoints::new(config.enrolment.endpoints.len()),
            connection: 0,
            commands: Commands::new(&config.enrolment),
            heartbeat_configured: config.heartbeat_interval,
            drain_configured: config.drain,
            life: master,
            random: u32::MAX,
            heartbeat_interval: config.heartbeat_interval,
            heartbeat_due: Duration::ZERO,
            holdings_due: now.mono + HOLDINGS_INTERVAL,
            holdings_told: Vec::new(),
            is_stopping: false,
            started: now.utc,
            metrics,
            actions,
        };
        gateway.describe(now);
        gateway
    }

    fn describe(&mut self, now: Now) {
        let describe = GatewayDescribe {
            agent_version: status::agent_version(),
            started: self.started,
        };
        self.writer.add_record(Kind::Describe, &describe, now);
    }

    /// Tells a journal that may have heard nothing yet what all others have been told once.
    fn introduce(&mut self, now: Now) {
        tracing::info!(
            "another journal, or another start of its collector, acknowledges: channel tables and clock fixes are sent again"
        );
        self.describe(now);
        let due = now.mono + self.writer.age;
        for (header, record) in self.introductions.tables() {
            let gathering = &mut self.writer.chains[Class::Essential.index()].gathering;
            if !gathering.add(&record, header, None, due) {
                self.writer.close_gathering(Class::Essential, now);
                let gathering = &mut self.writer.chains[Class::Essential.index()].gathering;
                let added = gathering.add(&record, header, None, due);
                debug_assert!(added, "an empty block has room for any frame");
            }
        }
        for fix in self.introductions.fixes() {
            self.writer.add_record(Kind::ClockFix, fix, now);
        }
    }

    /// Goes on from the commands that a former agent kept: before anything is handled.
    pub fn restore_commands(&mut self, record: Record) {
        self.commands.restore(record);
    }

    /// Whether the record of commands handed out last is on disk.
    pub fn handle_kept(&mut self, is_kept: bool, now: Now) {
        self.commands.handle_kept(is_kept, now.mono);
    }

    /// Whether the gateway's clock is synchronised, as of now.
    pub fn handle_quality(&mut self, quality: ClockQuality) {
        self.timekeeper.handle_quality(quality);
    }

    /// What UTC rests on, as the agent starts.
    pub fn handle_timekeeper(&mut self, timekeeper: Timekeeper) {
        self.timekeeper = timekeeper;
        self.metrics.observe_clock(&self.timekeeper);
    }

    /// Whose UTC is gone by.
    pub const fn timekeeper(&self) -> &Timekeeper {
        &self.timekeeper
    }

    /// The clock floor, to be saved or told of a verified certificate.
    pub const fn floor_mut(&mut self) -> &mut Floor {
        self.timekeeper.floor_mut()
    }

    /// Bytes that this process has had written to disks since it started.
    pub fn handle_written(&mut self, total: u64, now: Now) {
        self.forecast.handle_written(total, now.mono);
    }

    /// `now` in the UTC that is gone by, with what follows if that was set.
    fn keep_time(&mut self, now: Now) -> Now {
        let (change, floor) = self.timekeeper.observe(now);
        self.note_refusal(floor);
        let now = self.timekeeper.correct(now);
        if let Some(change) = change {
            self.handle_clock_change(change, now);
        }
        now
    }

    fn handle_clock_change(&mut self, change: Change, now: Now) {
        self.metrics.observe_clock(&self.timekeeper);
        let Change { step, from, to } = change;
        if step == 0 {
            tracing::info!(?from, ?to, "the gateway goes by another clock");
        } else {
            tracing::warn!(
                step_s = step as f64 / 1e9,
                ?from,
                ?to,
                "the gateway's clock was set"
            );
        }
        let Some(quality) = self.timekeeper.quality() else {
            return;
        };
        let present: BTreeSet<BootKey> = self.lines.iter().flat_map(Line::nodes).collect();
        for (key, clock) in &mut self.clocks {
            // A boot that is over needs one fix, and gets no more.
            if (present.contains(key) || clock.fix().is_none())
                && let Some(fix) = clock.renew(now, quality)
            {
                self.metrics.clock_fixes.inc();
                self.introductions.handle_fix(&fix);
                self.writer.add_record(Kind::ClockFix, &fix, now);
            }
        }
    }

    fn note_refusal(&self, floor: Result<(), Refusal>) {
        if let Err(refusal) = floor {
            Metrics::refusal(&self.metrics.clock_floor_refused, refusal).inc();
            tracing::warn!(
                reason = refusal.label(),
                "a time that cannot be was not taken for the clock floor"
            );
        }
    }

    /// The starts of this agent before this one, newest first; to be told before anything is polled.
    pub fn handle_former_starts(&mut self, former: Vec<MasterId>) {
        self.starts = Starts::new(self.starts.start(), former);
    }

    /// Whether everything is left with the nodes for now: there is no room, or the disk is behind. Only
    /// alarms are heard.
    pub fn is_congested(&self) -> bool {
        self.room == Decision::StopIntake || self.is_behind(Class::Essential, UNFLUSHED_ESSENTIAL_MAX)
    }

    /// Whether frames of each class are left with their nodes for now.
    fn declines(&self) -> [bool; 2] {
        let all = self.is_congested();
        let waveforms = self.room == Decision::StopWaveformIntake
            || self.is_behind(Class::Waveform, UNFLUSHED_WAVEFORM_MAX);
        [all, all || waveforms]
    }

    fn is_behind(&self, class: Class, bytes_max: usize) -> bool {
        let commits = &self.commits[class.index()];
        let unflushed: usize = commits.iter().map(|commit| commit.bytes).sum();
        unflushed >= bytes_max || commits.len() >= COMMITS_MAX
    }

    /// The spool answered.
    pub fn handle_spool(&mut self, reply: Reply, now: Now) {
        self.spool_watch.handle_reply();
        let now = self.keep_time(now);
        match reply {
            Reply::Committed(class, number) => self.handle_committed(class, number, now),
            Reply::Room(usage, decision) => self.handle_room(&usage, decision),
            Reply::Evicting(directory, blocks) => self.evict(directory, &blocks, now),
            Reply::Alarms(image) => {
                if !self.alarms.restore(&image) {
                    tracing::error!(
                        "the file of alarms holds none that this version can read; what it held is not told"
                    );
                }
            }
            Reply::AlarmsKept(is_kept) => {
                self.alarms.handle_kept(is_kept);
                self.metrics.alarms_refused.inc_by(u64::from(!is_kept));
            }
            Reply::Refused(error) => {
                self.metrics.commits_refused.inc();
                tracing::error!(%error, "the disk refuses; nothing is acknowledged to nodes until it takes the data");
            }
            Reply::Freed(epoch) => {
                if let Some(Some((received, journal))) = self.freeing.remove(&epoch) {
                    self.free(epoch, received, journal);
                }
            }
            Reply::Read(key, result) => {
                self.reading = self.reading.saturating_sub(1);
                match (result, self.publisher.lane(key)) {
                    (Ok(bytes), Some(lane)) => {
                        let bytes = drain::in_lane(bytes, lane);
                        if lane == Lane::Backfill {
                            self.metrics.history_published.inc();
                        }
                        self.publisher.handle_sent(key, crc32c(&bytes), now.mono);
                        self.metrics.blocks_published.inc();
                        self.metrics.published_bytes.inc_by(bytes.len() as u64);
                        self.actions.push_back(Action::PublishBlock(key, bytes));
                    }
                    (Err(ReadError::Lost(reason)), _)
                        if self.writer.inventory.contains(key) && !self.publisher.is_buried(key) =>
                    {
                        tracing::error!(epoch = %key.epoch, sequence = key.sequence, reason, "block of the spool is unreadable and lost");
                        self.publisher.handle_lost(key);
                        self.bury(key, LossCause::SpoolUnreadable, now);
                    }
                    // Acknowledged, or its connection gone, while it was read.
                    (Ok(_), None) | (Err(ReadError::Lost(_)), _) => {}
                    (Err(ReadError::Later(reason)), _) => {
                        tracing::warn!(epoch = %key.epoch, sequence = key.sequence, reason, "block not readable now");
                        self.handle_not_taken(key, now);
                    }
                }
            }
        }
    }

    fn handle_committed(&mut self, class: Class, number: u64, now: Now) {
        let commits = &mut self.commits[class.index()];
        let confirmed = commits
            .iter()
            .take_while(|commit| commit.number <= number)
            .count();
        let mut moved = BTreeSet::new();
        for commit in commits.drain(..confirmed) {
            moved.extend(self.intake.handle_durable(&commit.upto));
            let age = now.mono.saturating_sub(commit.made);
            for (key, bytes) in commit.blocks {
                self.publisher.handle_stored(key, bytes, age, now.mono);
                self.metrics.blocks_stored.inc();
                self.metrics.stored_bytes.inc_by(bytes as u64);
            }
            self.actions
                .extend(commit.removals.into_iter().map(Action::Spool));
        }
        for line in &mut self.lines {
            let news: Vec<BootKey> = line.nodes().filter(|key| moved.contains(key)).collect();
            news.into_iter().for_each(|key| line.hasten_poll(key, now.mono));
        }
    }

    /// The connection did not take a block that it was given.
    pub fn handle_not_taken(&mut self, key: BlockKey, now: Now) {
        self.publisher.handle_not_sent(key);
        self.stalled_until = now.mono + STALL;
    }

    /// Something happened on the connection `connection`; `random` is uniform over its type.
    pub fn handle_mqtt(&mut self, connection: u64, event: MqttEvent, random: u32, now: Now) {
        if connection != self.connection || matches!(self.link, Link::Down { .. }) {
            return;
        }
        self.random = random;
        let now = self.keep_time(now);
        match event {
            MqttEvent::Connected => {
                self.metrics.connections.inc();
                self.actions.push_back(Action::Subscribe);
            }
            MqttEvent::Subscribed => {
                tracing::info!(connection, "connected to the collector");
                self.link = Link::Up;
                self.publisher.handle_subscribed(now.mono);
                self.alarms.handle_connected(now.mono);
                self.tell_status(Phase::Birth, now);
            }
            MqttEvent::Message(kind, payload) => self.handle_message(kind, &payload, now),
            MqttEvent::Disconnected(reason) => {
                self.publisher.handle_disconnected();
                self.handle_down(&reason, now);
            }
        }
    }

    /// There is no connection any more.
    fn handle_down(&mut self, reason: &str, now: Now) {
        self.metrics.disconnections.inc();
        let failure = self.endpoints.handle_failure(now.mono, self.random);
        let retry_at = failure.retry_at;
        let retry_in_ms = retry_at.saturating_sub(now.mono).as_millis() as u64;
        let connection = self.connection;
        tracing::warn!(connection, reason, retry_in_ms, "no connection to the collector");
        if failure.is_takeover {
            self.metrics.takeovers.inc();
            tracing::error!(
                connection,
                "the collector's connection is cut again and again soon after it was made: another agent \
                 seems to connect with this one's enrolment bundle; stop one of the two"
            );
        }
        if failure.is_out {
            self.metrics.endpoints_put_out.inc();
        }
        self.link = Link::Down { retry_at };
    }

    fn handle_message(&mut self, kind: topic::Kind, payload: &[u8], now: Now) {
        let outcome = match kind {
            topic::Kind::Ack => message::decode(payload).map(|ack: Ack| {
                let refusal = self.timekeeper.handle_ack(ack.utc, now);
                self.note_refusal(refusal);
                self.handle_ack(&ack, now);
            }),
            topic::Kind::Reject => message::decode(payload).map(|reject| self.handle_reject(reject, now)),
            topic::Kind::Command => {
                self.handle_command(payload, now);
                Ok(())
            }
            topic::Kind::Data | topic::Kind::Hello | topic::Kind::Status | topic::Kind::Result => {
                Err(RejectReason::Topic)
            }
        };
        if let Err(reason) = outcome {
            Metrics::reason(&self.metrics.messages_refused, reason).inc();
            tracing::warn!(kind = kind.level(), %reason, "message of the collector refused");
        }
    }

    fn handle_ack(&mut self, ack: &Ack, now: Now) {
        let freed = self.publisher.handle_ack(ack, now.mono);
        if self.publisher.is_flowing() {
            self.endpoints.handle_answer(now.mono);
        }
        if self.introductions.handle_journal(ack.journal) {
            self.introduce(now);
            // It may have answered a block of an earlier connection, and not the Hello that tells what others
            // were told; behind a broker of the plant's own, no Hello went before.
            self.publisher.greet_again(now.mono);
        }
        if freed.is_empty() {
            return;
        }
        self.metrics.blocks_acknowledged.inc_by(freed.len() as u64);
        self.alarms.handle_acknowledged(&freed);
        for key in &freed {
            // With a tombstone the collector has also settled what it stands for.
            if let Some((epoch, blocks)) = self.writer.inventory.remove(*key) {
                for key in self.publisher.handle_settled(epoch, blocks) {
                    self.writer.inventory.remove(key);
                }
            }
        }
        if self.writer.is_done(ack.epoch) {
            // What it said of holdings may have come after newer words of this start.
            self.holdings_told.clear();
        }
        match self.freeing.get_mut(&ack.epoch) {
            Some(next) => *next = Some((ack.received.clone(), ack.journal)),
            None => self.free(ack.epoch, ack.received.clone(), ack.journal),
        }
    }

    fn free(&mut self, epoch: Epoch, received: SequenceSet, journal: JournalMark) {
        self.freeing.insert(epoch, None);
        self.actions.push_back(Action::Spool(Request::Acknowledge {
            epoch,
            received: Box::new(received),
            journal,
        }));
    }

    fn handle_reject(&mut self, reject: Reject, now: Now) {
        Metrics::reason(&self.metrics.payloads_refused, reject.reason).inc();
        if reject.reason.is_kept() {
            // Journaled and acknowledged: it may go, and sending it again would help nobody.
            tracing::warn!(reason = %reject.reason, "the collector keeps a block that it cannot read: upgrade it, then have its dead letters replayed");
            return;
        }
        match self.publisher.handle_reject(reject.crc) {
            Some(key) => {
                tracing::error!(epoch = %key.epoch, sequence = key.sequence, reason = %reject.reason, "the collector refused a block, which is lost");
                self.bury(key, LossCause::EnvelopeRejected, now);
            }
            // It was damaged on the way: the block itself is sent again when its time is over.
            None => {
                tracing::warn!(crc = reject.crc, reason = %reject.reason, "the collector refused a payload that is no block of ours");
            }
        }
    }

    /// Takes no more from lines or timers; what is in hand still goes to disk.
    pub fn handle_shutdown(&mut self, now: Now) {
        let now = self.keep_time(now);
        self.is_stopping = true;
        self.derive.close_all();
        self.tell_holdings(now);
        Class::ALL.into_iter().for_each(|class| self.commit(class, now));
    }

    /// Whether everything in hand is on disk.
    pub fn is_flushed(&self) -> bool {
        self.commits.iter().all(VecDeque::is_empty) && self.writer.due().is_none()
    }

    /// Whether nothing is left that the connection could take.
    pub fn is_drained(&self) -> bool {
        self.is_flushed() && (!self.publisher.is_flowing() || self.publisher.backlog().0 == 0)
    }

    /// The last words, to be published before the connection is closed.
    pub fn farewell(&mut self, now: Now) -> Bytes {
        let now = self.keep_time(now);
        encode_message(&self.status(Phase::Death, 0, now)).into()
    }

    /// Does what time asks for; then hands out actions until there is none.
    pub fn poll(&mut self, now: Now) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        let now = self.keep_time(now);
        if !self.is_stopping {
            self.poll_lines(now);
            let commit = self.writer.chains[Class::Essential.index()].due();
            let is_riding =
                commit.is_some_and(|due| due <= now.mono) && self.holdings_due <= now.mono + HOLDINGS_EARLY;
            if is_riding || self.holdings_due <= now.mono {
                self.tell_holdings(now);
            }
        }
        for class in Class::ALL {
            if self.writer.chains[class.index()]
                .due()
                .is_some_and(|due| due <= now.mono)
            {
                self.commit(class, now);
            }
        }
        self.poll_alarms(now);
        self.poll_watches(now);
        if !self.is_stopping {
            self.poll_commands(now);
        }
        self.poll_link(now);
        self.poll_publisher(now);
        let is_owing = self.commits.iter().any(|commits| !commits.is_empty())
            || self.reading > 0
            || !self.freeing.is_empty();
        self.spool_watch.poll(is_owing, now.mono);
        self.actions.pop_front()
    }

    /// How long the spool has owed an answer, once that is so long that it will never come. Nothing helps
    /// then but another process.
    pub fn spool_silence(&self) -> Option<Duration> {
        let watch = &self.spool_watch;
        watch.is_over().then(|| watch.silence())
    }

    /// When [`Self::poll`] will have something to do although nothing happened.
    pub fn next_timeout(&self) -> Duration {
        let retry = match self.link {
            Link::Down { retry_at } => (!self.is_stopping).then_some(retry_at),
            Link::Connecting => None,
            Link::Up => Some(self.heartbeat_due),
        };
        // A commit that must wait for others is woken by their confirmation.
        let chains = self.writer.chains.iter().zip(&self.commits);
        let commit = chains
            .filter(|(_, commits)| commits.len() < COMMITS_MAX)
            .filter_map(|(chain, _)| chain.due())
            .min();
        // While the connection or the disk is given a pause, nothing is asked of the publisher.
        let publisher = self.publisher.next_timeout();
        let publisher = publisher.map(|at| at.max(self.stalled_until));
        let stall = (self.stalled_until > Duration::ZERO).then_some(self.stalled_until);
        let alarms = self.alarms.next_timeout(self.may_commit_essentials());
        let holdings = (!self.is_stopping).then_some(self.holdings_due);
        let commands = self.commands.next_timeout().filter(|_| !self.is_stopping);
        let lines = self.lines.iter().filter(|_| !self.is_stopping).flat_map(|line| {
            // On a shared line the time is asked in the node's turn.
            let clock = line.own_node().and_then(|key| self.clocks.get(&key));
            let reply = clock.and_then(ClockSync::reply_expected_until);
            let is_waiting = line.pace() == Pace::AtOnce && !self.is_watching();
            [
                line.next_timeout(),
                clock.map(ClockSync::next_timeout),
                reply.filter(|_| is_waiting),
            ]
        });
        lines
            .chain([holdings, retry, commit, stall, alarms, commands, publisher])
            .chain([self.spool_watch.next_timeout(), self.watches.next_search()])
            .flatten()
            .min()
            .unwrap_or(Duration::MAX)
    }

    /// What is held, as of now and consistent with the blocks before it.
    fn tell_holdings(&mut self, now: Now) {
        self.holdings_due = now.mono + HOLDINGS_INTERVAL;
        self.metrics.blocks_overdue.inc_by(self.publisher.take_overdue());
        let (blocks, bytes) = self.publisher.backlog();
        self.metrics
            .spool_blocks
            .set(i64::try_from(blocks).unwrap_or(i64::MAX));
        self.metrics
            .spool_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.nodes.set(self.nodes_present(now) as i64);
        let silence = self.spool_watch.silence().as_secs();
        self.metrics.spool_silent_seconds.set(silence as i64);
        self.forecast
            .handle_backlog(self.metrics.stored_bytes.get(), bytes, now.mono);
        self.metrics.observe_outlook(&self.forecast.outlook());
        let (derived, alarms) = (self.derive.take_tally(), self.alarms.take_tally());
        self.metrics.observe_intake(derived, alarms, self.alarms.slots());
        if self.commits[Class::Essential.index()].len() >= COMMITS_MAX {
            return;
        }
        self.watches.handle_time(now.utc, now.mono);
        let (judged, searched) = (self.watches.take_tally(), self.watches.take_search_tally());
        self.metrics.observe_watches(judged, searched);
        // Features ride in the commit of each second.
        self.derive.handle_time(now.mono);
        self.add_derived(now);
        if self.publisher.has_essential_history(now.mono) {
            // The report would overtake the tombstones among it, which explain what is missing, and an
            // old report among it would come after this one: it is told anew when they are through.
            self.holdings_told.clear();
            return;
        }
        let samples = self.writer.samples();
        let holdings = self
            .intake
            .holdings(|key, channel| samples.get(&(key, channel)).copied());
        let body: Vec<u8> = holdings.iter().flat_map(encode).collect();
        if body != self.holdings_told {
            self.writer.add(Kind::Status, &body, Index::default(), now);
            self.holdings_told = body;
            self.commit(Class::Essential, now);
        }
    }

    /// Sends everything of a class received so far to disk, with the cursors that belong to it.
    fn commit(&mut self, class: Class, now: Now) {
        let essential = &self.writer.chains[Class::Essential.index()];
        if class == Class::Waveform && !essential.finished.is_empty() {
            // A clock fix among them may be named by what follows.
            self.commit(Class::Essential, now);
        }
        self.writer.close_gathering(class, now);
        let chain = &mut self.writer.chains[class.index()];
        if self.commits[class.index()].len() >= COMMITS_MAX || chain.finished.is_empty() {
            return;
        }
        let blocks = std::mem::take(&mut chain.finished);
        chain.due = None;
        let removals = match class {
            Class::Essential => std::mem::take(&mut self.writer.removals),
            Class::Waveform => Vec::new(),
        };
        self.push_commit(class, blocks, removals, now);
        // What a gap says of waveforms moves their cursor, and no waveform may follow.
        let waveforms = &self.writer.chains[Class::Waveform.index()];
        if class == Class::Essential
            && waveforms.due().is_none()
            && self.commits[Class::Waveform.index()].is_empty()
            && self.intake.has_undurable(Class::Waveform)
        {
            self.push_commit(Class::Waveform, Vec::new(), Vec::new(), now);
        }
    }

    fn push_commit(&mut self, class: Class, blocks: Vec<Block>, removals: Vec<Request>, now: Now) {
        self.commit_number += 1;
        let mut upto = self.intake.upto();
        for upto in upto.values_mut() {
            upto[1 - class.index()] = 0;
        }
        self.commits[class.index()].push_back(Flushing {
            number: self.commit_number,
            upto,
            made: now.mono,
            bytes: blocks.iter().map(|block| block.bytes.len()).sum(),
            blocks: blocks
                .iter()
                .map(|block| (block.key, block.bytes.len()))
                .collect(),
            removals,
        });
        let clocks = &self.clocks;
        let fix = |key| {
            clocks
                .get(&key)
                .and_then(|clock| clock.fix().copied().map(FixInForce))
        };
        self.actions.push_back(Action::Spool(Request::Commit(Commit {
            class,
            number: self.commit_number,
            blocks,
            cursors: self.intake.cursors(fix),
        })));
    }

    fn may_commit_essentials(&self) -> bool {
        self.commits[Class::Essential.index()].len() < COMMITS_MAX
    }

    /// Tells of alarms and keeps them, each on its way past everything else.
    fn poll_alarms(&mut self, now: Now) {
        if let Some(image) = self.alarms.poll_image(now.mono) {
            self.actions.push_back(Action::Spool(Request::KeepAlarms(image)));
        }
        if self.may_commit_essentials()
            && let Some(body) = self.alarms.poll_block(now.mono)
        {
            let key = self.writer.add(Kind::Advisory, &body, Index::default(), now);
            self.alarms.handle_made(key);
            self.commit(Class::Essential, now);
        }
    }

    fn poll_link(&mut self, now: Now) {
        match self.link {
            Link::Down { retry_at } if retry_at <= now.mono && !self.is_stopping => {
                let endpoint = self.endpoints.choose(now.mono);
                self.connection += 1;
                self.link = Link::Connecting;
                let connection = self.connection;
                self.actions.push_back(Action::Connect { endpoint, connection });
            }
            Link::Up if self.heartbeat_due <= now.mono => self.tell_status(Phase::Heartbeat, now),
            Link::Down { .. } | Link::Connecting | Link::Up => {}
        }
    }

    fn poll_publisher(&mut self, now: Now) {
        match self.publisher.poll_hello(now.mono) {
            Some(Greeting::Hello(mut hello)) => {
                self.starts.sign(&mut hello);
                let journals = self.introductions.journals().iter().copied();
                hello.journals = journals.take(JOURNALS_MAX).collect();
                self.publish(topic::Kind::Hello, hello.as_ref());
            }
            Some(Greeting::GiveUp) => {
                self.starts.handle_unanswered();
                self.metrics.silences.inc();
                self.handle_down("the collector does not answer", now);
                self.actions.push_back(Action::Disconnect);
            }
            None => {}
        }
        if now.mono < self.stalled_until {
            return;
        }
        self.stalled_until = Duration::ZERO;
        while self.reading < READING_MAX
            && let Some(key) = self.publisher.poll_block(now.mono)
        {
            self.reading += 1;
            self.actions.push_back(Action::Spool(Request::Read(key)));
        }
    }

    fn tell_status(&mut self, phase: Phase, now: Now) {
        self.heartbeat_due = now.mono + self.heartbeat_interval;
        let status = self.status(phase, self.nodes_present(now), now);
        self.publish(topic::Kind::Status, &status);
    }

    fn status(&self, phase: Phase, nodes: usize, now: Now) -> GatewayStatus {
        let health = status::health(&self.timekeeper, &self.forecast.outlook());
        let connection = (self.life, self.connection);
        status::status(phase, now, nodes, self.publisher.backlog(), connection, health)
    }

    /// What the broker is to say of this gateway when its connection breaks.
    pub fn will(&self, now: Now) -> Vec<u8> {
        encode_message(&self.status(Phase::Death, 0, self.timekeeper.correct(now)))
    }

    fn nodes_present(&self, now: Now) -> usize {
        match now.mono.checked_sub(PRESENCE) {
            Some(since) => self.intake.nodes_heard_since(since),
            None => self.intake.nodes_heard_since(Duration::ZERO),
        }
    }

    fn publish<T: Serialize>(&mut self, kind: topic::Kind, message: &T) {
        self.actions
            .push_back(Action::Publish(kind, encode_message(message).into()));
    }
}
