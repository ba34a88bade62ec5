//! Commands of the collector: verified, begun at most once, carried to the node, answered. Pure.
//!
//! ```text
//! message --> signature? number? time? --> Keep "begun" --> node's line, again until it answers --> Keep result --> answer
//! ```
//!
//! - **At most once.** That a number is begun is on disk before anything is done about it, and a number
//!   not above the highest begun is never begun again: it is answered with the result that is known. An
//!   agent that dies in between does not know what became of it, and says so
//!   ([`CommandOutcome::Interrupted`]).
//! - **One at a time.** A higher number takes the place of the one under way.
//! - **Proof.** Whatever is not signed by the collector's certificate for this gateway is counted and
//!   logged, and not answered: an answer would tell the collector about a number that it never gave.
//!
//! Settings and a calibration may be repeated to a node that has restarted meanwhile, since they are the
//! same; a capture or an identification may not.

pub mod record;
pub mod signature;

use crate::enrolment::Enrolment;
use crate::intake::BootKey;
use record::Record;
use signature::{Refusal, Verifier};
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;
use trunnion_common::feature::band::Band;
use trunnion_common::feature::definition::WatchedBand;
use trunnion_common::frame::{
    Calibrate, Capture, Identify, Payload, Settings, SettingsOutcome, SettingsResult,
};
use trunnion_common::id::NodeId;
use trunnion_common::message::{
    self, Action, Command, CommandOutcome, CommandResult, GatewaySettings, SignedCommand,
};
use trunnion_common::reject::RejectReason;
use trunnion_common::time::EventTime;
use trunnion_common::watch::{BearingSearch, GroupWatch, SpectrumWatch, UnusualWatch, WATCHES_MAX, Watch};

use crate::clock::Now;
use crate::watch::{Examinations, Name, Plan, Searches, Unusuals};

/// From one try to tell the node to the next: it needs a poll or two to answer, and flash takes its time.
const RETRY: Duration = Duration::from_secs(1);

/// How long a node may take to appear and answer: it obeys a former master for 10 s, and may then wait 8 s
/// before it sends what was lost. The collector tries again by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the collector may set the heartbeat to, milliseconds: as in the configuration file.
const HEARTBEAT_MS: RangeInclusive<u32> = 1_000..=600_000;

/// As in the configuration file.
const LIVE_SHARE_PERCENT: RangeInclusive<u8> = 1..=99;

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one, and it comes a few times a month"
)]
pub enum Effect {
    /// Make this durable; [`Commands::handle_kept`] must be told how it went.
    Keep(Record),
    /// Send this to a node, on a line.
    Send((usize, BootKey), Payload<'static>),
    /// Tell the collector.
    Answer(CommandResult),
    /// Work like this from now on.
    Configure(GatewaySettings),
    /// Watch this from now on, search it for that, and look for that in its spectra.
    Watch(Plan, Searches, Examinations),
    /// Judge from now on whether these slow channels are as they were.
    Follow(Unusuals),
}

/// Why a message was refused without an answer.
#[derive(Clone, Debug)]
pub enum Unanswered {
    /// It is no command.
    Unreadable(RejectReason),
    /// It is not the collector's, or not for this gateway.
    Unproven(Refusal),
}

impl Unanswered {
    /// The label in metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreadable(reason) => reason.label(),
            Self::Unproven(refusal) => refusal.label(),
        }
    }
}

/// Commands of one gateway.
#[derive(Debug)]
pub struct Commands {
    verifier: Verifier,
    record: Record,
    phase: Phase,
    effects: VecDeque<Effect>,
}

#[derive(Clone, PartialEq, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one, and it comes a few times a month"
)]
enum Phase {
    Idle,
    /// On its way to the disk that it begins.
    Beginning(Command),
    /// The node is being told.
    UnderWay(Errand),
    /// On its way to the disk what became of it.
    Ending(CommandResult),
}

/// A command on its way to a node.
#[derive(Clone, PartialEq, Debug)]
struct Errand {
    number: u64,
    node: NodeId,
    payload: Payload<'static>,
    /// Whom it was sent to, if to anybody.
    sent_to: Option<BootKey>,
    next_try: Duration,
    give_up: Duration,
}

impl Commands {
    /// Those of the gateway of this bundle; nothing has ever been begun.
    pub fn new(enrolment: &Enrolment) -> Self {
        Self {
            verifier: Verifier::new(enrolment),
            record: Record::default(),
            phase: Phase::Idle,
            effects: VecDeque::new(),
        }
    }

    /// Goes on from what a former agent kept.
    pub fn restore(&mut self, mut record: Record) {
        if record.highest > 0 && record.outcome.is_none() {
            tracing::warn!(
                number = record.highest,
                "the agent stopped while a command was under way"
            );
            record.outcome = Some(CommandOutcome::Interrupted);
        }
        self.effects.push_back(Effect::Configure(record.settings));
        self.record = record;
        self.watch_as_recorded();
        self.follow_as_recorded();
    }

    /// Takes a message of the command topic.
    pub fn handle_message(&mut self, bytes: &[u8], now: Now) -> Result<(), Unanswered> {
        let signed: SignedCommand<'_> = message::decode(bytes).map_err(Unanswered::Unreadable)?;
        self.verifier
            .verify(&signed, now.utc)
            .map_err(Unanswered::Unproven)?;
        let unreadable = |_| Unanswered::Unreadable(RejectReason::MessageDecode);
        let ((number, expires), action): ((u64, EventTime), _) =
            postcard::take_from_bytes(signed.command).map_err(unreadable)?;
        if number <= self.record.highest {
            self.answer_known(number);
        } else if expires < now.utc {
            self.answer(number, CommandOutcome::Expired);
        } else if let Ok((action, _)) = postcard::take_from_bytes::<Action>(action)
            && is_supported(&action, &self.record)
        {
            self.begin(Command {
                number,
                expires,
                action,
            });
        } else {
            self.answer(number, CommandOutcome::Unsupported);
        }
        Ok(())
    }

    /// Whether the record that was handed out last is on disk.
    pub fn handle_kept(&mut self, is_kept: bool, now: Duration) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Beginning(command) if is_kept => {
                self.record.highest = command.number;
                self.record.outcome = None;
                self.carry_out(command, now);
            }
            // As if it had not come: the collector may give the number again.
            Phase::Beginning(command) => self.answer(command.number, CommandOutcome::NotStored),
            Phase::Ending(result) => self.effects.push_back(Effect::Answer(result)),
            other => self.phase = other,
        }
    }

    /// A node says what became of a command.
    pub fn handle_result(&mut self, (node, _): BootKey, result: &SettingsResult) {
        let Phase::UnderWay(errand) = &self.phase else {
            return;
        };
        if errand.node != node || node_number(errand.number) != result.command {
            return;
        }
        let outcome = match result.outcome {
            SettingsOutcome::Applied | SettingsOutcome::Unchanged => CommandOutcome::Done,
            refused => CommandOutcome::RefusedByNode(refused),
        };
        self.end(errand.number, outcome);
    }

    /// What is to be done now; `find` knows the line and boot of a node that is there.
    pub fn poll(
        &mut self,
        now: Duration,
        find: impl Fn(NodeId) -> Option<(usize, BootKey)>,
    ) -> Option<Effect> {
        if self.effects.is_empty()
            && let Phase::UnderWay(errand) = &mut self.phase
            && errand.next_try <= now
        {
            let (number, found) = (errand.number, find(errand.node));
            let is_repeatable = matches!(errand.payload, Payload::Settings(_) | Payload::Calibrate(_));
            match (errand.sent_to, found) {
                (Some(former), Some((_, boot))) if former != boot && !is_repeatable => {
                    self.end(number, CommandOutcome::OtherBoot);
                }
                (Some(_), _) if errand.give_up <= now => self.end(number, CommandOutcome::NoAnswer),
                (None, _) if errand.give_up <= now => self.end(number, CommandOutcome::UnknownNode),
                (_, found) => {
                    errand.next_try = errand.give_up.min(now + RETRY);
                    if let Some((line, boot)) = found {
                        errand.sent_to = Some(boot);
                        return Some(Effect::Send((line, boot), errand.payload.clone()));
                    }
                }
            }
        }
        self.effects.pop_front()
    }

    /// When [`Self::poll`] will have something to do although nothing happened.
    pub fn next_timeout(&self) -> Option<Duration> {
        match &self.phase {
            _ if !self.effects.is_empty() => Some(Duration::ZERO),
            Phase::UnderWay(errand) => Some(errand.next_try),
            Phase::Idle | Phase::Beginning(_) | Phase::Ending(_) => None,
        }
    }

    fn begin(&mut self, command: Command) {
        match &self.phase {
            // The disk first; the collector says it again.
            Phase::Beginning(_) | Phase::Ending(_) => return,
            Phase::UnderWay(errand) => {
                tracing::warn!(number = errand.number, "a command under way is superseded");
            }
            Phase::Idle => {}
        }
        self.effects.push_back(Effect::Keep(Record {
            highest: command.number,
            outcome: None,
            settings: self.record.settings,
            watches: self.record.watches.clone(),
            searches: self.record.searches.clone(),
            examinations: self.record.examinations.clone(),
            unusuals: self.record.unusuals.clone(),
        }));
        self.phase = Phase::Beginning(command);
    }

    fn carry_out(&mut self, command: Command, now: Duration) {
        let number = command.number;
        let (node, payload) = match command.action {
            Action::Gateway(settings) => {
                self.record.settings = settings;
                self.effects.push_back(Effect::Configure(settings));
                return self.end(number, CommandOutcome::Done);
            }
            Action::WatchPlain { node, channel, watch } => {
                return self.watch(number, (node, channel), watch.map(Watch::from));
            }
            Action::Watch { node, channel, watch } => return self.watch(number, (node, channel), watch),
            Action::Search {
                node,
                channel,
                search,
            } => {
                set(&mut self.record.searches, (node, channel), search);
                return self.end_watching(number);
            }
            Action::Examine {
                node,
                channel,
                spectra,
            } => {
                set(&mut self.record.examinations, (node, channel), spectra);
                return self.end_watching(number);
            }
            Action::Unusual {
                node,
                channel,
                unusual,
            } => {
                set(&mut self.record.unusuals, (node, channel), unusual);
                self.follow_as_recorded();
                return self.end(number, CommandOutcome::Done);
            }
            Action::Settings { node, plans } => {
                let command = node_number(number);
                (node, Payload::Settings(Settings { command, plans }))
            }
            Action::Identify { node, seconds } => {
                let command = node_number(number);
                (node, Payload::Identify(Identify { seconds, command }))
            }
            Action::Capture {
                node,
                channel,
                samples,
            } => {
                let command = node_number(number);
                (
                    node,
                    Payload::Capture(Capture {
                        command,
                        channel,
                        samples,
                    }),
                )
            }
            Action::Calibrate {
                node,
                channel,
                calibration,
            } => {
                let command = node_number(number);
                (
                    node,
                    Payload::Calibrate(Calibrate {
                        command,
                        channel,
                        calibration,
                    }),
                )
            }
        };
        self.phase = Phase::UnderWay(Errand {
            number,
            node,
            payload,
            sent_to: None,
            next_try: now,
            give_up: now + PATIENCE,
        });
    }

    fn watch(&mut self, number: u64, name: Name, watch: Option<Watch>) {
        set(&mut self.record.watches, name, watch);
        self.end_watching(number);
    }

    /// Another watch is recorded, and takes effect.
    fn end_watching(&mut self, number: u64) {
        self.watch_as_recorded();
        self.end(number, CommandOutcome::Done);
    }

    fn watch_as_recorded(&mut self) {
        let Record {
            watches,
            searches,
            examinations,
            ..
        } = &self.record;
        let effect = Effect::Watch(watches.clone(), searches.clone(), examinations.clone());
        self.effects.push_back(effect);
    }

    fn follow_as_recorded(&mut self) {
        self.effects
            .push_back(Effect::Follow(self.record.unusuals.clone()));
    }

    fn end(&mut self, number: u64, outcome: CommandOutcome) {
        self.record.outcome = Some(outcome);
        self.effects.push_back(Effect::Keep(self.record.clone()));
        self.phase = Phase::Ending(self.result(number, outcome));
    }

    /// A number that is not above the highest begun.
    fn answer_known(&mut self, number: u64) {
        if number < self.record.highest {
            return self.answer(number, CommandOutcome::Superseded);
        }
        // While it is under way its answer is still to come.
        if let Some(outcome) = self.record.outcome
            && self.phase == Phase::Idle
        {
            self.answer(number, outcome);
        }
    }

    fn answer(&mut self, number: u64, outcome: CommandOutcome) {
        let result = self.result(number, outcome);
        self.effects.push_back(Effect::Answer(result));
    }

    fn result(&self, number: u64, outcome: CommandOutcome) -> CommandResult {
        CommandResult {
            number,
            outcome,
            highest: self.record.highest,
        }
    }
}

/// The number by which a node tells commands: it only compares one with the last.
const fn node_number(number: u64) -> u32 {
    number as u32
}

/// Keeps what is wanted of a channel; nothing where none is.
fn set<T>(wanted: &mut BTreeMap<Name, T>, name: Name, value: Option<T>) {
    match value {
        Some(value) => wanted.insert(name, value),
        None => wanted.remove(&name),
    };
}

/// Whether something may be wanted of a channel beside what is.
fn has_room<T>(wanted: &BTreeMap<Name, T>, name: Name) -> bool {
    wanted.contains_key(&name) || wanted.len() < WATCHES_MAX
}

fn is_supported(action: &Action, record: &Record) -> bool {
    match action {
        Action::WatchPlain { node, channel, watch } => {
            watch.is_none() || has_room(&record.watches, (*node, *channel))
        }
        Action::Watch { node, channel, watch } => {
            watch.is_none() || has_room(&record.watches, (*node, *channel))
        }
        Action::Search {
            node,
            channel,
            search,
        } => {
            let has_room = has_room(&record.searches, (*node, *channel));
            search
                .as_ref()
                .is_none_or(|search| has_room && is_sensible(search))
        }
        Action::Examine {
            node,
            channel,
            spectra,
        } => {
            let has_room = has_room(&record.examinations, (*node, *channel));
            spectra
                .as_ref()
                .is_none_or(|spectra| has_room && is_orderly(spectra))
        }
        Action::Unusual {
            node,
            channel,
            unusual,
        } => {
            let has_room = has_room(&record.unusuals, (*node, *channel));
            unusual
                .as_ref()
                .is_none_or(|unusual| has_room && is_sound(unusual))
        }
        Action::Settings { .. }
        | Action::Identify { .. }
        | Action::Capture { .. }
        | Action::Calibrate { .. } => true,
        Action::Gateway(settings) => {
            let heartbeat = settings.heartbeat_interval_ms;
            let share = settings.live_share_percent;
            heartbeat.is_none_or(|ms| HEARTBEAT_MS.contains(&ms))
                && share.is_none_or(|percent| LIVE_SHARE_PERCENT.contains(&percent))
                && settings.backfill_kib_s.is_none_or(|kib| kib > 0)
        }
    }
}

/// Whether every number is one that can be sought by.
fn is_sensible(search: &BearingSearch) -> bool {
    let bearings = search.neighbours.iter().chain([&search.bearing]);
    let mut numbers = bearings.flatten().chain([&search.band_high_hz]);
    let is_positive = |number: &f64| number.is_finite() && *number > 0.0;
    numbers.all(is_positive) && (0.0..1.0).contains(&search.speed_tolerance)
}

/// Whether rows can be cut and judged by it.
fn is_sound(unusual: &UnusualWatch) -> bool {
    let is_sound_group = |group: &GroupWatch| group.is_sound();
    unusual.alone_ns.is_none_or(|every_ns| every_ns > 0) && unusual.group.as_ref().is_none_or(is_sound_group)
}

/// Whether every number is one that can be looked for.
fn is_orderly(spectra: &SpectrumWatch) -> bool {
    let rises = |[low, high]: [f64; 2]| low.is_finite() && high.is_finite() && 0.0 <= low && low < high;
    let edges = |band: &WatchedBand| match band.band {
        Band::Hz { low, high } | Band::Orders { low, high } => [low, high],
    };
    let bands = spectra.bands.iter().map(edges).chain(spectra.envelope_hz);
    let mut bands = bands.map(|edges| edges.map(f64::from)).chain([spectra.band_hz]);
    bands.all(rises) && spectra.line_hz.is_none_or(|hz| hz.is_finite() && hz > 0.0)
}

#[cfg(test)]
mod tests;
