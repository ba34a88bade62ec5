//! The one place where the order of stages is written.
//!
//! ```text
//! commit -> block -> frame -> known before? -> clock fix, channel table -> ledger
//!                                                     |
//!   health <- advisory <- detection, condition <- features <- window <- samples in event time -> streams
//! ```
//!
//! Everything follows the journal in its order, but for the features of windows: those that fire in a commit
//! are computed on several cores at once, by channel, and go on in the order in which they fired.
//! The windows of fast channels are analysed and detected on; the readings of slow ones are added up in
//! every stream that looks at them.
//!
//! [`Pipeline::apply`] takes the journal's commits in order and returns what follows from them; the
//! commit's time is its only clock. It runs the same live, after a restart from a checkpoint, and in
//! a replay from the beginning, and gives the same outputs byte for byte. [`Runner`] is the thread
//! around it.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | frames and readings that wait | [`crate::settings::Settings::waiting_bytes_max`] | the oldest becomes a dead letter |
//! | how long they wait | [`OVERDUE_NS`] | placed by their arrival, as history; without a channel table a dead letter |
//! | features of nodes and agents that wait | [`crate::derived::WAITING_MAX`] | the oldest is given up, counted |
//! | clock fixes per boot | [`FIXES_MAX`] | the oldest but the first is forgotten |
//! | channel tables per boot | [`TABLES_MAX`] | the oldest is forgotten |
//! | boots per node | [`dedup::BOOTS_MAX`](crate::ingest::dedup::BOOTS_MAX) | the one heard of longest ago is forgotten |
//! | boots of all nodes | [`BOOTS_MAX`] | the one heard of longest ago is forgotten |
//! | nodes | [`NODES_MAX`] | what comes from a further one becomes a dead letter |
//! | readings of a channel that tells how a machine is operated | [`READINGS_MAX`](trunnion_common::operation::READINGS_MAX) | the oldest is forgotten |
//! | fleet files | [`FLEETS_MAX`] | the oldest is forgotten |
//! | names of streams | [`NAMES_MAX`] | the one that ended first is forgotten |
//! | dead letters of late samples and wrong clocks | [`LETTERS_PER_HOUR`] of each node and reason | counted |
//! | samples of dead letters, told apart per channel and boot | [`RANGES_MAX`](crate::ledger::RANGES_MAX) | the lowest can no longer be replayed |
//! | letters known to have been replayed | [`REPLAYED_MAX`] | the oldest can be replayed again, which changes counts alone |
//!
//! A checkpoint is made beside it, of a copy of its state (`checkpointing`, `snapshot`).
//!
//! What a replayed dead letter adds to a window that has gone is added to what the journal says was in it:
//! after such a commit the pipeline asks for a part of the journal once more ([`Pipeline::recall`]).

mod advisory;
mod analysis;
mod attribution;
mod checkpointing;
mod condition;
mod counters;
mod diagnosis;
mod drifting;
mod edge;
mod firing;
mod lag;
mod learned;
mod operation;
mod overdue;
mod placement;
mod prognosis;
mod records;
mod remade;
mod replayed;
mod reports;
mod restated;
mod runner;
#[cfg(test)]
pub(crate) mod script;
mod shedding;
mod silence;
mod slow;
mod snapshot;
mod stages;
mod streams;
#[cfg(test)]
mod tests;
mod unusual;
mod waiting;

pub use counters::Counters;
pub use lag::LaneLag;
pub use overdue::OVERDUE_NS;
pub use placement::LETTERS_PER_HOUR;
pub use replayed::{REPLAYED_MAX, REVISION_REPLAYED, Recall};
pub use restated::{Restatement, look_ahead};
pub use runner::{RunError, Runner};
pub use stages::Stage;
pub use streams::NAMES_MAX;

use crate::advisory::{Advisories, AdvisoryChange};
use crate::alarm::AlarmRow;
use crate::dead_letter::{DeadLetter, DeadReason, Form, ReplayRow};
use crate::derived::{self, DerivedRow};
use crate::fleet::Fleet;
use crate::health::HealthRow;
use crate::history::History;
use crate::ingest::dedup::{BOOTS_MAX as BOOTS_OF_NODE_MAX, FrameSets, FrameVerdict, NODES_MAX};
use crate::journal::{Commit, Entry, Position};
use crate::ledger::{AccountKey, Ledger, LedgerRow, Unnamed};
use crate::prognosis::track::Tracks;
use crate::settings::{Definition, Schedule, Settings};
use crate::slots::Slots;
use crate::state::{BaselineRow, FeatureRow, FleetRow, SeriesKey, Source};
use crate::watermark::Watermark;
use crate::window::{WindowSettings, Windows};
use analysis::Analysis;
use placement::{Missing, Quotas};
use serde::{Deserialize, Serialize};
use silence::SilenceWatch;
use stages::StageWatch;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroUsize;
use streams::{Slow, Streams};
use trunnion_common::block::{BODY_MAX, Block, Body, Lane, Readings};
use trunnion_common::feature::FeatureKind;
use trunnion_common::frame::{ChannelDescriptor, Class, Describe, FRAME_MAX, Header, Payload, RawFrame};
use trunnion_common::id::{BootId, ChannelId, Epoch, GatewayId, NodeId};
use trunnion_common::reject::RejectReason;
use trunnion_common::sample::LossCause;
use trunnion_common::sequence::Range;
use trunnion_common::time::{ClockFix, EventTime};
use trunnion_diagnosis::detection::Sequence;
use trunnion_diagnosis::diagnosis::Diagnosed;
use trunnion_diagnosis::features::Depth;
use waiting::{Content, Held, Origin, Waiting};

/// Clock fixes kept per boot: at one in ten seconds, half a day of backlog.
pub const FIXES_MAX: usize = 4_096;

/// Channel tables kept per boot: a node re-measures its rates now and then.
pub const TABLES_MAX: usize = 16;

/// Fleet files kept: so many changes may lie between a sample and its arrival.
pub const FLEETS_MAX: usize = 64;

/// Boots of all nodes kept, with their fixes, tables and ledger: four of each node that is told apart.
pub const BOOTS_MAX: usize = 4 * NODES_MAX;

/// A sample takes two bytes at least on the wire.
const SAMPLE_BYTES_MIN: u64 = 2;

/// What follows from a commit.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// A window fired.
    Features(FeatureRow),
    /// An agent's features of a stretch have found their place.
    Derived(DerivedRow),
    /// An agent told of a node's alarm.
    Alarm(AlarmRow),
    /// An advisory changed.
    Advisory(AdvisoryChange),
    /// A row of the ledger changed.
    Ledger(LedgerRow),
    /// Something could not be used.
    DeadLetter(DeadLetter),
    /// The health of an asset changed.
    Health(HealthRow),
    /// A baseline is at another stage, or has been closed.
    Baseline(BaselineRow),
    /// A dead letter was replayed.
    Replayed(ReplayRow),
    /// Another fleet file is in force.
    Fleet(FleetRow),
    /// Other settings hold.
    Settings {
        /// What they are.
        settings: Settings,
        /// From when on.
        from: EventTime,
    },
}

/// From commits to outputs.
pub struct Pipeline {
    state: PipelineState,
    /// The fleet files of the state, read.
    fleets: BTreeMap<EventTime, Fleet>,
    analysis: Analysis,
    /// Of fast channels, and of slow ones by their patience in nanoseconds.
    idle: SilenceWatch<WindowSettings>,
    slow_idle: SilenceWatch<i64>,
    outputs: Vec<Output>,
    /// The streams of the state's settings.
    definitions: Vec<Definition>,
    /// Nodes of which something has come in this commit.
    touched: BTreeSet<NodeId>,
    /// Windows that have gone and are to be made again before the next commit.
    reopening: replayed::Reopening,
    stages: StageWatch,
    /// Assets of which something has come in this commit.
    concerned: BTreeSet<String>,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Everything the pipeline remembers: what a checkpoint holds.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct PipelineState {
    position: Position,
    now: EventTime,
    settings: Schedule,
    frames: FrameSets,
    boots: Slots<(NodeId, BootId), Boot>,
    waiting: Waiting,
    ledger: Ledger,
    channels: Slots<ChannelKey, Channel>,
    streams: Streams,
    quotas: Quotas,
    detectors: BTreeMap<SeriesKey, Sequence>,
    histories: BTreeMap<SeriesKey, History>,
    advisories: BTreeMap<(String, String), Advisories>,
    conditions: condition::Conditions,
    diagnoses: BTreeMap<SeriesKey, Diagnosed>,
    lives: BTreeMap<SeriesKey, Tracks>,
    learned: learned::Learned,
    fleets: BTreeMap<EventTime, String>,
    counters: Counters,
    derived: derived::WaitingRoom,
    /// How long the collector has been at work ([`overdue`]), and when it last looked for samples that
    /// have waited too long.
    elapsed_ns: i64,
    overdue_looked: i64,
    restated: Option<restated::Begun>,
    letters: replayed::Letters,
    /// How much is computed on a window that fires ([`Entry::Shed`]).
    depth: Depth,
}

/// A channel of a node.
type ChannelKey = (NodeId, ChannelId);

/// What explains a boot's samples.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Boot {
    fixes: BTreeMap<u32, ClockFix>,
    tables: BTreeMap<u16, Vec<ChannelDescriptor>>,
    /// When it gave its last sign of life, on the journal's clock.
    heard: EventTime,
}

/// A channel's samples in event time, live and history alike.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Channel {
    /// Of a fast channel.
    windows: Windows,
    /// What was told of windows that may be corrected, by their start.
    told: BTreeMap<EventTime, Vec<(FeatureKind, f32)>>,
    slow: Slow,
    watermark: Watermark,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self::new()
    }
}

impl Pipeline {
    /// A pipeline before the journal's first entry.
    pub fn new() -> Self {
        Self::resume(PipelineState::default())
    }

    /// A pipeline that goes on from a checkpoint.
    pub fn resume(mut state: PipelineState) -> Self {
        let read = |text: &String| Fleet::parse(text, FLEET_FILE).ok();
        let fleets = state
            .fleets
            .iter()
            .filter_map(|(at, text)| Some((*at, read(text)?)));
        let fleets = fleets.collect();
        let definitions = state.settings.streams();
        if state.channels.is_empty() {
            state.streams.define(&definitions, None);
        }
        Self {
            fleets,
            state,
            analysis: Analysis::new(NonZeroUsize::MIN),
            idle: SilenceWatch::default(),
            slow_idle: SilenceWatch::default(),
            outputs: Vec::new(),
            definitions,
            touched: BTreeSet::new(),
            reopening: replayed::Reopening::default(),
            stages: StageWatch::default(),
            concerned: BTreeSet::new(),
        }
    }

    /// Computes the features of windows on so many threads, this one included. What comes out is the same.
    pub fn set_workers(&mut self, workers: NonZeroUsize) {
        self.publish_pending();
        self.analysis = Analysis::new(workers);
    }

    /// Takes the next commit in; returns what follows from it, in a fixed order.
    ///
    /// Where it holds replayed dead letters, more may follow from it: see [`Self::recall`].
    pub fn apply(&mut self, commit: &Commit) -> Vec<Output> {
        assert!(
            self.recall().is_none(),
            "what a commit wants to read again is read before the next one"
        );
        self.stages.enter(Stage::Decode);
        self.count_elapsed(commit.time);
        self.state.now = self.state.now.max(commit.time);
        self.state.letters.note_commit(commit.time, self.state.position);
        for (position, entry) in &commit.entries {
            self.handle_entry(*position, entry);
        }
        self.settle_replayed();
        self.settle_overdue();
        self.fire_idle();
        self.settle_streams();
        self.publish_pending();
        self.settle_words();
        self.settle_silence();
        self.settle_health();
        self.state.position = commit.end;
        let changes = self.state.ledger.poll_changes();
        self.outputs.extend(changes.into_iter().map(Output::Ledger));
        std::mem::take(&mut self.outputs)
    }

    /// Tells from now on which stage it is at, at every change. What follows from commits is the same.
    pub fn watch_stages(&mut self, tell: impl FnMut(Stage) + Send + 'static) {
        self.stages = StageWatch::new(tell);
    }

    /// The thread around it has gone on to a stage of its own.
    pub(crate) fn enter(&mut self, stage: Stage) {
        self.stages.enter(stage);
    }

    /// What a checkpoint holds.
    pub const fn state(&self) -> &PipelineState {
        &self.state
    }

    /// Counts since the journal began.
    pub const fn counters(&self) -> &Counters {
        &self.state.counters
    }

    /// Samples whose whereabouts nobody can explain; anything but 0 is an alarm.
    pub fn unexplained(&self) -> u64 {
        self.state.ledger.unexplained()
    }

    fn handle_entry(&mut self, position: Position, entry: &Entry) {
        match entry {
            Entry::Block { gateway, bytes } => {
                let mut origin = Origin {
                    gateway: gateway.clone(),
                    position,
                    item: 0,
                    backfill: false,
                    arrival: self.state.now,
                    fix: 0,
                    replayed: false,
                    since: self.state.elapsed_ns,
                };
                self.handle_block(&mut origin, bytes);
            }
            Entry::Replayed(letter) => self.handle_replayed(letter),
            Entry::Fleet { effective, text } => self.handle_fleet(position, *effective, text),
            Entry::Settings { .. } if self.is_restating() => {}
            Entry::Settings { effective, text } => self.handle_settings(position, *effective, text),
            Entry::Restated { id, .. } => self.handle_restated(*id),
            Entry::Lost {
                gateway,
                epoch,
                blocks,
                cause,
            } => {
                let bytes = blocks.count().saturating_mul(BODY_MAX as u64);
                // They were got rid of after they were made, and so after the words before them.
                let is_told = self.state.ledger.speaks_of_present(gateway, *epoch);
                let told = is_told.then_some((*epoch, blocks.end()));
                self.lose_unnamed(gateway, None, told, *cause, bytes);
            }
            Entry::Shed { depth } => self.state.depth = *depth,
            Entry::Decided(decision) => {
                // What fired before it is judged before it.
                self.publish_pending();
                self.handle_decision(decision);
            }
            Entry::Learned { name, bytes } => {
                self.publish_pending();
                self.handle_learned(name, bytes);
            }
            Entry::EpochClosed { gateway, epoch } => {
                self.state.ledger.observe_epoch_closed(gateway, *epoch);
            }
            Entry::Superseded { gateway, .. } => self.state.ledger.observe_superseded(gateway),
            Entry::DeliveredElsewhere { gateway, cause, .. } => self.state.ledger.observe_unnamed(Unnamed {
                gateway: gateway.clone(),
                boot: None,
                cause: *cause,
                samples_max: u64::MAX,
                told: None,
            }),
            Entry::Greeted { gateway, start, next } => {
                self.state.ledger.observe_greeting(gateway, *start, next);
            }
            Entry::Started { .. } | Entry::Command { .. } | Entry::CommandResult { .. } | Entry::Tick => {}
        }
    }

    /// A block from its origin's record on.
    fn handle_block(&mut self, origin: &mut Origin, bytes: &[u8]) {
        let gateway = &origin.gateway.clone();
        let first = origin.item as usize;
        let mut key = (Epoch(0), 0);
        let body = match Block::parse(bytes).and_then(|block| {
            origin.backfill = block.lane() == Lane::Backfill;
            key = (block.envelope.epoch, block.envelope.sequence);
            if !origin.replayed {
                self.state.ledger.observe_block(gateway, key);
            }
            block.decode()
        }) {
            Ok(body) => body,
            Err(reason) => return self.refuse_unnamed(origin, None, reason, (Form::Block, bytes)),
        };
        if origin.backfill {
            self.note_history(gateway);
        }
        match body {
            Body::Frames(records) => {
                // A node's windows are looked at once its frames in a row have been placed: a block holds
                // some dozens of them, mostly of one channel.
                let mut last = None;
                for (item, record) in records.enumerate().skip(first) {
                    origin.item = item as u32;
                    let node = match record {
                        Ok(record) => {
                            (origin.arrival, origin.fix) = (record.arrival, record.fix);
                            self.handle_frame(origin, record.fix, record.frame)
                        }
                        Err(reason) => {
                            self.refuse_unnamed(origin, None, reason, (Form::Block, bytes));
                            None
                        }
                    };
                    if node != last {
                        last.into_iter().for_each(|node| self.fire_node(node));
                        last = node;
                    }
                }
                last.into_iter().for_each(|node| self.fire_node(node));
            }
            Body::Readings(readings) => {
                origin.fix = readings.fix;
                self.handle_readings(origin, readings);
            }
            Body::ClockFix(fix) => self.handle_fix(fix),
            Body::Gap(gap) => {
                // Samples that are missing for it have a name. Their node does not count them as dropped: it
                // had handed them over, to an agent that has lost them.
                self.lose_unseen(
                    origin,
                    key,
                    (gap.node, gap.boot, gap.class),
                    &gap.ranges,
                    gap.cause,
                );
                self.fill_frames(gateway, (gap.node, gap.boot), gap.class, &gap.ranges);
            }
            Body::Tombstone(tombstone) => {
                for (node, boot, ..) in &tombstone.samples {
                    self.note_boot((*node, *boot));
                }
                self.state.ledger.observe_tombstone(&tombstone);
                for (node, boot, class, ranges) in &tombstone.frames {
                    // The samples in them are counted above. But an essential frame may also have been
                    // the last one that told what its node dropped: that is missing without another word.
                    if *class == Class::Essential {
                        self.lose_unseen(origin, key, (*node, *boot, *class), ranges, tombstone.cause);
                    }
                    self.fill_frames(gateway, (*node, *boot), *class, ranges);
                }
            }
            Body::Derived(records) => {
                self.take_records(origin, records, bytes, |pipeline, origin, derived| {
                    let backfill = origin.backfill;
                    pipeline.take_derived(derived::Waiting {
                        derived,
                        backfill,
                        source: Source::Agent,
                    });
                });
            }
            Body::Advisory(records) => {
                self.take_records(origin, records, bytes, |pipeline, origin, told| {
                    pipeline.take_alarm(origin, &told);
                });
            }
            Body::Condition(records) => {
                self.take_records(origin, records, bytes, |pipeline, origin, word| {
                    pipeline.take_condition(origin, word.into());
                });
            }
            Body::Finding(records) => {
                self.take_records(origin, records, bytes, |pipeline, origin, word| {
                    pipeline.take_condition(origin, word.into());
                });
            }
            Body::Suspicion(records) => {
                self.take_records(origin, records, bytes, |pipeline, origin, word| {
                    pipeline.take_condition(origin, word.into());
                });
            }
            Body::Unusual(records) => {
                self.take_records(origin, records, bytes, |pipeline, origin, word| {
                    pipeline.take_condition(origin, word.into());
                });
            }
            Body::Describe(_) => {}
            Body::Status(records) => {
                // Where one cannot be read, the boots behind it are not known.
                let is_whole = !origin.replayed && records.clone().all(|record| record.is_ok());
                let mut holdings = Vec::new();
                self.take_records(origin, records, bytes, |pipeline, _, holding| {
                    pipeline.note_boot((holding.node, holding.boot));
                    holdings.push(holding);
                });
                let ledger = &mut self.state.ledger;
                ledger.observe_holdings(gateway, key, &holdings, is_whole);
            }
        }
    }

    /// Takes a frame in; whose windows are to be looked at for it.
    fn handle_frame(&mut self, origin: &Origin, fix: u32, bytes: &[u8]) -> Option<NodeId> {
        let frame = match RawFrame::parse(bytes) {
            Ok(frame) => frame,
            Err(reason) => {
                self.refuse_unnamed(origin, None, reason, (Form::Frame, bytes));
                return None;
            }
        };
        let header = frame.header();
        let source = (header.node, header.boot);
        let payload = frame.payload();
        let samples = payload
            .as_ref()
            .ok()
            .and_then(|payload| sample_range(header, payload));
        match self.admit(origin, source, header.class, header.sequence) {
            FrameVerdict::New | FrameVerdict::Overflow { .. } => {}
            FrameVerdict::Duplicate => {
                if let Some((account, range)) = samples {
                    self.state.ledger.repeat(account, range);
                }
                return None;
            }
            FrameVerdict::ForgottenBoot => {
                let reason = DeadReason::Rejected(RejectReason::ForgottenBoot);
                self.bury(origin, reason, (Form::Frame, bytes));
                return None;
            }
            FrameVerdict::TooManyNodes => {
                self.bury(origin, DeadReason::TooManyNodes, (Form::Frame, bytes));
                return None;
            }
        }
        match payload {
            Err(reason) => self.refuse_unnamed(origin, Some(source), reason, (Form::Frame, bytes)),
            Ok(payload @ (Payload::Waveform(_) | Payload::Scalar(_))) => match samples {
                Some((account, range)) => {
                    if let Some(missing) = self.take_samples(origin, fix, (header, &payload), bytes) {
                        self.state.ledger.wait(account, range);
                        let content = Content::Frame {
                            fix,
                            bytes: bytes.to_vec(),
                        };
                        self.hold(origin, source, content, missing);
                    }
                }
                None => {
                    let reason = RejectReason::Payload;
                    self.refuse_unnamed(origin, Some(source), reason, (Form::Frame, bytes));
                }
            },
            Ok(Payload::Describe(describe)) => {
                self.take_table(source, &describe);
            }
            Ok(Payload::Status(status)) => {
                self.state
                    .ledger
                    .observe_status(header.node, header.boot, &status);
            }
            Ok(Payload::Event(_)) => self.state.counters.node_events += 1,
            Ok(Payload::Feature(report)) => self.take_report(origin, fix, header, report),
            // Line traffic that an agent has no reason to forward.
            Ok(
                Payload::TimeReply(_)
                | Payload::SettingsResult(_)
                | Payload::Poll(_)
                | Payload::Discover
                | Payload::Assign(_)
                | Payload::TimeRequest(_)
                | Payload::Settings(_)
                | Payload::Identify(_)
                | Payload::Capture(_)
                | Payload::Calibrate(_),
            ) => {}
        }
        Some(header.node)
    }

    fn take_table(&mut self, source: (NodeId, BootId), describe: &Describe) {
        let tables = &mut self.note_boot(source).tables;
        tables.insert(describe.revision, describe.channels.to_vec());
        if tables.len() > TABLES_MAX {
            tables.pop_first();
        }
        self.release(source);
    }

    fn handle_readings(&mut self, origin: &Origin, readings: Readings) {
        let source = (readings.node, readings.boot);
        let account = (readings.node, readings.boot, readings.channel);
        let Some(range) = end_of(readings.first_sample, readings.readings.len()) else {
            return;
        };
        let bytes = || postcard::to_stdvec(&readings).unwrap_or_default();
        match self.admit(origin, source, Class::Essential, readings.sequence) {
            FrameVerdict::New | FrameVerdict::Overflow { .. } => {}
            FrameVerdict::Duplicate => return self.state.ledger.repeat(account, range),
            FrameVerdict::ForgottenBoot => {
                let reason = DeadReason::Rejected(RejectReason::ForgottenBoot);
                return self.bury(origin, reason, (Form::Readings, &bytes()));
            }
            FrameVerdict::TooManyNodes => {
                return self.bury(origin, DeadReason::TooManyNodes, (Form::Readings, &bytes()));
            }
        }
        if let Some(missing) = self.take_readings(origin, &readings) {
            self.state.ledger.wait(account, range);
            self.hold(origin, source, Content::Readings(Box::new(readings)), missing);
        }
        self.fire_node(source.0);
    }

    fn handle_fix(&mut self, fix: ClockFix) {
        let source = (fix.node, fix.boot);
        let fixes = &mut self.note_boot(source).fixes;
        fixes.entry(fix.number).or_insert(fix);
        if fixes.len() > FIXES_MAX {
            // The first one stays: frames taken in before it name it by 0.
            let oldest = fixes.keys().copied().find(|number| *number != 0);
            oldest.and_then(|number| fixes.remove(&number));
        }
        self.release(source);
        self.fire_node(fix.node);
    }

    fn handle_fleet(&mut self, position: Position, effective: EventTime, text: &str) {
        let fleet = match Fleet::parse(text, FLEET_FILE) {
            Ok(fleet) => fleet,
            Err(_) => return self.bury_text(position, DeadReason::Fleet, text),
        };
        self.outputs.push(Output::Fleet(FleetRow {
            effective,
            text: text.to_owned(),
            assets: fleet.asset_rows(),
        }));
        // What comes last wins: after a clock that was ahead was set right, a fleet of the time ahead
        // would otherwise come back into force one day.
        self.fleets.split_off(&effective);
        self.state.fleets.split_off(&effective);
        self.fleets.insert(effective, fleet);
        self.state.fleets.insert(effective, text.to_owned());
        if self.state.fleets.len() > FLEETS_MAX {
            self.state.fleets.pop_first();
            self.fleets.pop_first();
        }
        self.settle_conditions();
    }

    fn handle_settings(&mut self, position: Position, effective: EventTime, text: &str) {
        let Ok(settings) = Settings::parse(text) else {
            return self.bury_text(position, DeadReason::Settings, text);
        };
        let (now, begun) = (self.state.now, !self.state.channels.is_empty());
        if let Some(from) = self
            .state
            .settings
            .change(settings.clone(), effective, now, begun)
        {
            self.definitions = self.state.settings.streams();
            self.state.letters.keep_streams(&self.definitions);
            // Before the first sample nothing is cut, and everything may be.
            self.state
                .streams
                .define(&self.definitions, begun.then_some(from.0));
            self.outputs.push(Output::Settings { settings, from });
        }
    }

    /// Counts a frame as received, and books what that gave up.
    fn admit(
        &mut self,
        origin: &Origin,
        source: (NodeId, BootId),
        class: Class,
        sequence: u64,
    ) -> FrameVerdict {
        let verdict = self.state.frames.admit_frame(source.0, source.1, class, sequence);
        match verdict {
            FrameVerdict::Overflow { closed } => self.give_up_frames(&origin.gateway, source, closed),
            FrameVerdict::Duplicate => self.state.counters.frames_duplicated += 1,
            FrameVerdict::New | FrameVerdict::ForgottenBoot | FrameVerdict::TooManyNodes => {}
        }
        if matches!(verdict, FrameVerdict::New | FrameVerdict::Overflow { .. }) {
            self.note_boot(source);
        }
        verdict
    }

    /// Counts frames as received that never will be.
    fn fill_frames(&mut self, gateway: &GatewayId, source: (NodeId, BootId), class: Class, ranges: &[Range]) {
        for closed in self.state.frames.fill(source.0, source.1, class, ranges) {
            self.give_up_frames(gateway, source, closed);
        }
        self.fire_node(source.0);
    }

    /// Frames that nobody has any more: what was in those not received explains samples that are missing.
    fn lose_unseen(
        &mut self,
        origin: &Origin,
        told: (Epoch, u64),
        (node, boot, class): (NodeId, BootId, Class),
        ranges: &[Range],
        cause: LossCause,
    ) {
        let unseen = self.state.frames.unseen(node, boot, class, ranges);
        if unseen > 0 {
            self.state.ledger.observe_unnamed(Unnamed {
                gateway: origin.gateway.clone(),
                boot: Some((node, boot)),
                cause,
                samples_max: unseen.saturating_mul(FRAME_MAX as u64) / SAMPLE_BYTES_MIN,
                told: Some(told),
            });
        }
    }

    fn give_up_frames(&mut self, gateway: &GatewayId, source: (NodeId, BootId), frames: Range) {
        let bytes = frames.count().saturating_mul(FRAME_MAX as u64);
        self.lose_unnamed(gateway, Some(source), None, LossCause::SetOverflow, bytes);
    }

    /// A node showed a sign of life under that boot. There is always room for it.
    fn note_boot(&mut self, source: (NodeId, BootId)) -> &mut Boot {
        let boots = &mut self.state.boots;
        if !boots.contains_key(&source) {
            let mine = || {
                let known = boots.from((source.0, BootId::from_u64(0)));
                known.take_while(|(known, _)| known.0 == source.0)
            };
            let displaced = if mine().count() >= BOOTS_OF_NODE_MAX {
                longest_ago(mine())
            } else if boots.len() >= BOOTS_MAX {
                longest_ago(boots.iter())
            } else {
                None
            };
            if let Some(displaced) = displaced {
                boots.remove(&displaced);
                self.state.ledger.forget(displaced);
                self.state.letters.forget(displaced);
            }
        }
        self.state.ledger.observe_boot(source.0, source.1);
        let boot = self.state.boots.or_default(source);
        boot.heard = self.state.now;
        boot
    }

    /// Lets samples wait for what is missing.
    fn hold(&mut self, origin: &Origin, source: (NodeId, BootId), content: Content, missing: Missing) {
        if origin.replayed {
            self.note_waits();
        }
        let held = Held {
            origin: origin.clone(),
            source,
            content,
        };
        tracing::debug!(node = %source.0, boot = %source.1, ?missing, "samples wait");
        let bytes_max = self.state.settings.at(self.state.now).waiting_bytes_max;
        for displaced in self.state.waiting.push(held, bytes_max) {
            self.give_up_held(&displaced);
        }
    }

    /// What waited longest had to leave.
    fn give_up_held(&mut self, held: &Held) {
        match &held.content {
            Content::Frame { fix, bytes } => {
                let reason = match self.explain_frame(&held.origin, *fix, bytes) {
                    Ok(Err(Missing::Fix)) => DeadReason::NoClockFix,
                    _ => DeadReason::NoDescriptor,
                };
                let range = RawFrame::parse(bytes)
                    .ok()
                    .and_then(|frame| sample_range(frame.header(), &frame.payload().ok()?));
                if let Some((account, range)) = range {
                    self.refuse(account, range);
                }
                self.bury(&held.origin, reason, (Form::Frame, bytes));
            }
            Content::Readings(readings) => {
                if let Some(range) = end_of(readings.first_sample, readings.readings.len()) {
                    let account = (readings.node, readings.boot, readings.channel);
                    self.refuse(account, range);
                }
                let bytes = postcard::to_stdvec(readings).unwrap_or_default();
                self.bury(&held.origin, DeadReason::NoClockFix, (Form::Readings, &bytes));
            }
        }
    }

    /// Tries again what waited of a boot.
    fn release(&mut self, source: (NodeId, BootId)) {
        self.release_derived(source);
        for held in self.state.waiting.take(source) {
            let missing = match &held.content {
                Content::Frame { fix, bytes } => self.take_frame(&held.origin, *fix, bytes),
                Content::Readings(readings) => self.take_readings(&held.origin, readings),
            };
            if let Some(missing) = missing {
                self.hold(&held.origin, source, held.content, missing);
            }
        }
    }

    /// A dead letter whose samples, if it held any, are not known by index.
    fn refuse_unnamed(
        &mut self,
        origin: &Origin,
        source: Option<(NodeId, BootId)>,
        reason: RejectReason,
        payload: (Form, &[u8]),
    ) {
        if !origin.replayed {
            let bytes = payload.1.len() as u64;
            self.lose_unnamed(&origin.gateway, source, None, LossCause::Refused, bytes);
        }
        self.bury(origin, DeadReason::Rejected(reason), payload);
    }

    /// Samples that nobody can make use of, unless they are replayed one day.
    fn refuse(&mut self, account: AccountKey, samples: Range) {
        self.state.ledger.refuse(account, samples);
        self.put_aside(account, &[samples]);
    }

    fn lose_unnamed(
        &mut self,
        gateway: &GatewayId,
        boot: Option<(NodeId, BootId)>,
        told: Option<(Epoch, u64)>,
        cause: LossCause,
        bytes: u64,
    ) {
        self.state.ledger.observe_unnamed(Unnamed {
            gateway: gateway.clone(),
            boot,
            cause,
            samples_max: bytes / SAMPLE_BYTES_MIN,
            told,
        });
    }

    fn bury(&mut self, origin: &Origin, reason: DeadReason, (form, payload): (Form, &[u8])) {
        if origin.replayed && self.note_refused(origin, reason, form) {
            return; // It is a letter already, and tells of this as its outcome.
        }
        self.bury_whole(DeadLetter {
            position: origin.position,
            item: origin.item,
            gateway: Some(origin.gateway.clone()),
            backfill: origin.backfill,
            arrival: origin.arrival,
            fix: origin.fix,
            reason,
            time: self.state.now,
            form,
            payload: payload.to_vec(),
        });
    }

    fn bury_text(&mut self, position: Position, reason: DeadReason, text: &str) {
        self.bury_whole(DeadLetter {
            position,
            item: 0,
            gateway: None,
            backfill: false,
            arrival: self.state.now,
            fix: 0,
            reason,
            time: self.state.now,
            form: Form::Text,
            payload: text.as_bytes().to_vec(),
        });
    }

    fn bury_whole(&mut self, letter: DeadLetter) {
        *self.state.counters.dead_letters.entry(letter.reason).or_default() += 1;
        self.outputs.push(Output::DeadLetter(letter));
    }
}

impl PipelineState {
    /// Everything of the journal before this has been applied.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// How much is computed on windows that fire now.
    pub const fn depth(&self) -> Depth {
        self.depth
    }

    /// The journal's time there.
    pub const fn now(&self) -> EventTime {
        self.now
    }
}

/// The boot that was heard of longest ago.
fn longest_ago<'a>(
    boots: impl Iterator<Item = (&'a (NodeId, BootId), &'a Boot)>,
) -> Option<(NodeId, BootId)> {
    boots
        .min_by_key(|(_, boot)| boot.heard)
        .map(|(source, _)| *source)
}

/// What problems of a journaled fleet file would be reported under.
const FLEET_FILE: &str = "fleet.toml";

const FIRST_CHANNEL: ChannelId = match ChannelId::new(0) {
    Some(channel) => channel,
    None => panic!("a node can have one channel"),
};

/// The channel and indexes of a payload's samples; `None` when it carries none, or no index can have them.
fn sample_range(header: &Header, payload: &Payload<'_>) -> Option<(AccountKey, Range)> {
    let (channel, first, count) = match payload {
        Payload::Waveform(waveform) => (waveform.channel, waveform.first_sample, waveform.count.into()),
        Payload::Scalar(scalar) => (scalar.channel, scalar.first_sample, scalar.readings.len()),
        _ => return None,
    };
    Some(((header.node, header.boot, channel), end_of(first, count)?))
}

fn end_of(first: u64, count: usize) -> Option<Range> {
    Range::new(first, first.checked_add(count as u64)?)
}
