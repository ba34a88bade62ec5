//! Dead letters that are replayed: their samples become stored, and land in their own windows.
//!
//! What a sample is judged by is not whether its frame was received, which it was, but whether it is in a
//! window: [`Letters`] keeps, per channel and boot, the indexes of the samples that dead letters hold. So
//! a letter takes effect once, however often it is replayed.
//!
//! A window that is open or kept takes such samples like any others. One that has gone is made again, in
//! two steps, since what was in it stands in the journal alone:
//!
//! ```text
//! apply(commit with the letter)  ->  recall(): which part of the journal
//!                                    remember(commit) for each of that part
//!                                    reopen(): the window as it was, and with the letter -> correction
//! ```
//!
//! The part begins where the journal's clock was at the earliest window's start, less the lead that a time
//! stamp may have on it, and ends with the commit: nothing else can have been in those windows. What was
//! refused, or came too late and was not replayed, was in none. A correction has the revision
//! [`REVISION_REPLAYED`] and the number of the replay, so that it stands above all that the window got
//! while it was kept. Replayed samples are history: they move no watermark, and a fault that they show is
//! told as one of the past.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | samples of letters, per channel and boot | [`RANGES_MAX`] ranges | the lowest can no longer be replayed |
//! | places in the journal by time | [`MILESTONES_MAX`] | every second one is forgotten, and more is read again |
//! | letters known to have been replayed | [`REPLAYED_MAX`] | the oldest can be replayed again, which changes counts alone |
//! | windows made again at once | [`WINDOWS_AT_ONCE`] | the others with another reading of the journal |

use super::placement::{Missing, Samples};
use super::remade::Slow;
use super::streams::{Destination, Readings as SlowReadings};
use super::waiting::Origin;
use super::{ChannelKey, Output, Pipeline, sample_range};
use crate::dead_letter::{DeadReason, Form, Letter, LetterId, Outcome, ReplayRow};
use crate::journal::{Commit, Entry, Position};
use crate::ledger::{AccountKey, IndexSet, RANGES_MAX};
use crate::settings::Definition;
use crate::watermark::Outlook;
use crate::window::{Cut, Fired, Run, Signal, Slot, Windows};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use trunnion_common::block::{Block, Body, Lane, Readings};
use trunnion_common::frame::{Payload, RawFrame};
use trunnion_common::id::{BootId, NodeId};
use trunnion_common::reject::RejectReason;
use trunnion_common::sequence::Range;
use trunnion_common::time::EventTime;

/// The revision of a window's correction by the first replay of all is one above this; that of the next
/// replay one more. What corrects a window while it is kept stays far below.
pub const REVISION_REPLAYED: u32 = 1 << 16;

/// Replayed letters that are recognised when they are replayed again.
pub const REPLAYED_MAX: usize = 4_096;

/// Places in the journal that are known by their time.
const MILESTONES_MAX: usize = 1_024;

/// Windows made again with one reading of the journal: at 25.6 kHz, 13 MB of samples.
const WINDOWS_AT_ONCE: usize = 64;

/// A part of the journal that is to be read again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recall {
    /// From here on; a place between two commits.
    pub from: Position,
    /// Up to here.
    pub upto: Position,
}

/// What the pipeline remembers of dead letters.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Letters {
    /// By stream, of which the first is the one that is always there and whose windows those of fast channels
    /// are: samples that are in no window of it, since they are in a dead letter.
    aside: BTreeMap<String, BTreeMap<AccountKey, IndexSet>>,
    /// Letters of which nothing is left to be replayed.
    done: BTreeSet<(LetterId, Form)>,
    /// Commits with replayed letters in them.
    replays: u32,
    milestones: Milestones,
}

impl Letters {
    /// The next commit has this time, and begins here.
    pub(super) fn note_commit(&mut self, time: EventTime, position: Position) {
        self.milestones.note(time, position);
    }

    /// Samples of a dead letter are in no window of a stream.
    pub(super) fn put_aside(&mut self, stream: &str, account: AccountKey, samples: Range) {
        if !self.aside.contains_key(stream) {
            self.aside.insert(stream.to_owned(), BTreeMap::new());
        }
        if let Some(accounts) = self.aside.get_mut(stream) {
            let aside = accounts.entry(account).or_default();
            aside.insert(samples);
            while aside.take_lowest(RANGES_MAX).is_some() {}
        }
    }

    /// A boot's accounts are closed.
    pub(super) fn forget(&mut self, (node, boot): (NodeId, BootId)) {
        for accounts in self.aside.values_mut() {
            accounts.retain(|key, _| (key.0, key.1) != (node, boot));
        }
    }

    /// There are no other streams any more.
    pub(super) fn keep_streams(&mut self, definitions: &[Definition]) {
        let is_one = |name: &str| definitions.iter().any(|known| known.stream.name == name);
        self.aside.retain(|name, _| is_one(name));
    }

    /// Those of the samples that are in a dead letter and in no window of a stream.
    pub(super) fn aside(&self, stream: &str, account: AccountKey, samples: Range) -> IndexSet {
        let aside = self.aside.get(stream).and_then(|accounts| accounts.get(&account));
        aside.map_or_else(IndexSet::default, |aside| aside.common(samples))
    }

    /// The same; they are in none of its dead letters any longer.
    fn take(&mut self, stream: &str, account: AccountKey, samples: Range) -> IndexSet {
        let taken = self.aside(stream, account, samples);
        if !taken.ranges().is_empty()
            && let Some(accounts) = self.aside.get_mut(stream)
            && let Some(aside) = accounts.get_mut(&account)
        {
            aside.remove(samples);
            if aside.ranges().is_empty() {
                accounts.remove(&account);
            }
        }
        taken
    }

    fn note_done(&mut self, letter: &Letter) {
        self.done.insert((letter.id, letter.form));
        if self.done.len() > REPLAYED_MAX {
            self.done.pop_first();
        }
    }
}

/// Where the journal was at which time, ever more coarsely the longer it gets.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Milestones {
    places: Vec<(EventTime, Position)>,
    /// At least so much time from one to the next, nanoseconds.
    apart_ns: i64,
}

impl Milestones {
    fn note(&mut self, time: EventTime, position: Position) {
        let is_due = |last: &(EventTime, Position)| time.nanos_since(last.0) >= self.apart_ns;
        if !self.places.last().is_none_or(is_due) {
            return;
        }
        self.places.push((time, position));
        if self.places.len() > MILESTONES_MAX {
            let mut even = false;
            self.places.retain(|_| {
                even = !even;
                even
            });
            self.apart_ns = (2 * self.apart_ns).max(1_000_000_000);
        }
    }

    /// A place behind which all commits of that time or later stand.
    fn before(&self, time: EventTime) -> Position {
        let at = self.places.partition_point(|(known, _)| *known < time);
        let place = at.checked_sub(1).map(|at| self.places[at].1);
        place.unwrap_or_default()
    }
}

/// Windows that are being made again. Nothing of it outlives a commit.
#[derive(Default)]
pub(super) struct Reopening {
    /// The letter in hand, and what it is.
    letter: Option<(LetterId, Form)>,
    /// What became of the letter in hand so far.
    tally: Tally,
    /// Windows wanted, with what is to be added to them.
    wanted: BTreeMap<(ChannelKey, i64), Reopened>,
    /// Those of them that are being filled from the journal.
    filling: BTreeMap<(ChannelKey, i64), Reopened>,
    /// The same of slow channels.
    pub(super) slow: Slow,
    /// Letters that windows are made again for.
    letters: Vec<LetterId>,
    /// Nodes whose windows are looked at once all letters of the commit are placed, and not after each.
    nodes: BTreeSet<NodeId>,
}

#[derive(Clone, Copy, Default)]
struct Tally {
    landed: u64,
    ahead: u64,
    /// Samples came that were where they belong already.
    known: bool,
    reopened: bool,
    waits: bool,
    refused: Option<DeadReason>,
}

/// A window that has gone.
struct Reopened {
    slot: Slot,
    /// What was in it, as far as it has been read.
    windows: Windows,
    /// Which samples that were.
    known: BTreeMap<BootId, IndexSet>,
    /// What comes on top.
    added: Vec<Piece>,
}

/// Samples of one window.
struct Piece {
    boot: BootId,
    first: u64,
    time: EventTime,
    signal: Signal,
    values: Vec<f32>,
}

impl Pipeline {
    /// A person had a dead letter replayed.
    pub(super) fn handle_replayed(&mut self, letter: &Letter) {
        self.state.counters.letters_replayed += 1;
        if self.state.letters.done.contains(&(letter.id, letter.form)) {
            return self.tell(letter.id, Outcome::Known);
        }
        self.reopening.letter = Some((letter.id, letter.form));
        self.reopening.tally = Tally::default();
        let mut origin = Origin {
            gateway: letter.gateway.clone(),
            position: letter.id.position,
            item: letter.id.item,
            backfill: letter.backfill,
            arrival: letter.arrival,
            fix: letter.fix,
            replayed: true,
            since: self.state.elapsed_ns,
        };
        match letter.form {
            Form::Block => self.handle_block(&mut origin, &letter.payload),
            Form::Frame => self.handle_frame_again(&origin, &letter.payload),
            Form::Readings => self.handle_readings_again(&origin, &letter.payload),
            Form::Text => return self.tell(letter.id, Outcome::NotReplayable),
        }
        self.reopening.letter = None;
        let tally = self.reopening.tally;
        let outcome = match tally {
            Tally { landed: 1.., .. } => Outcome::Landed {
                samples: tally.landed,
            },
            Tally { waits: true, .. } => Outcome::Waits,
            Tally {
                refused: Some(reason),
                ..
            } => Outcome::Refused(reason),
            Tally { ahead: 1.., .. } => Outcome::Ahead,
            _ if tally.known => Outcome::Known,
            _ => Outcome::Taken,
        };
        if tally.reopened {
            self.reopening.letters.push(letter.id);
        }
        let is_done = match letter.form {
            // What of it is still refused is a letter of its own from now on.
            Form::Block => !is_undecoded(letter),
            _ => matches!(outcome, Outcome::Landed { .. } | Outcome::Taken) && tally.refused.is_none(),
        };
        if is_done {
            self.state.letters.note_done(letter);
        }
        self.tell(letter.id, outcome);
    }

    fn tell(&mut self, letter: LetterId, outcome: Outcome) {
        self.outputs.push(Output::Replayed(ReplayRow {
            letter,
            time: self.state.now,
            outcome,
        }));
    }

    /// The letter in hand, or something that it holds, is still refused. Whether it is the letter itself,
    /// of which nobody else needs to be told.
    pub(super) fn note_refused(&mut self, origin: &Origin, reason: DeadReason, form: Form) -> bool {
        let refused = LetterId {
            position: origin.position,
            item: origin.item,
        };
        self.reopening.tally.refused.get_or_insert(reason);
        self.reopening.letter == Some((refused, form))
    }

    /// A frame that was refused as such.
    fn handle_frame_again(&mut self, origin: &Origin, bytes: &[u8]) {
        let known = RawFrame::parse(bytes).ok().and_then(|frame| {
            let header = *frame.header();
            let received = self.state.frames.received(header.node, header.boot, header.class);
            let payload = frame.payload().ok()?;
            let samples = sample_range(&header, &payload);
            let source = (header.node, header.boot);
            received
                .contains(header.sequence)
                .then_some((source, payload, samples))
        });
        match known {
            // Its number has been counted, and its samples have not been placed.
            Some((source, Payload::Waveform(_) | Payload::Scalar(_), Some(_))) => {
                let refused = match self.explain_frame(origin, origin.fix, bytes) {
                    Ok(Ok(samples)) => {
                        self.place_again(&samples);
                        return self.fire_node(source.0);
                    }
                    Ok(Err(Missing::Fix)) => DeadReason::NoClockFix,
                    Ok(Err(Missing::Table)) => DeadReason::NoDescriptor,
                    Err((reason, ..)) => DeadReason::Rejected(reason),
                };
                self.note_refused(origin, refused, Form::Frame);
            }
            Some((source, Payload::Describe(describe), _)) => {
                self.take_table(source, &describe);
                self.fire_node(source.0);
            }
            Some(_) => {}
            None => {
                let node = self.handle_frame(origin, origin.fix, bytes);
                node.into_iter().for_each(|node| self.fire_node(node));
            }
        }
    }

    /// Readings of a virtual node that were refused.
    fn handle_readings_again(&mut self, origin: &Origin, bytes: &[u8]) {
        let readings = match postcard::from_bytes::<Readings>(bytes) {
            Ok(readings) => readings,
            Err(_) => {
                let reason = DeadReason::Rejected(RejectReason::BodyDecode);
                self.note_refused(origin, reason, Form::Readings);
                return;
            }
        };
        match self.explain_readings(origin, &readings) {
            Some(all) => all.iter().for_each(|samples| self.place_again(samples)),
            None => {
                self.note_refused(origin, DeadReason::NoClockFix, Form::Readings);
            }
        }
        self.fire_node(readings.node);
    }

    /// Samples have come of which some are too late, or too far ahead: those are in no window.
    pub(super) fn put_misplaced_aside(&mut self, account: AccountKey, whole: &Run<'_>, part: Range) {
        let (schedule, now) = (&self.state.settings, self.state.now);
        let lead_ns = schedule.at(now).windows.lead_ns;
        let windows = self.state.channels.get(&(account.0, account.2));
        let cut = |time| schedule.cut(time, whole.signal.waveform);
        for (slot, run) in pieces(whole, part, cut) {
            let has_closed = windows.is_some_and(|channel| channel.windows.has_closed(slot.start));
            if (has_closed || run.time.nanos_since(now) > lead_ns)
                && let Some(samples) = run.range()
            {
                self.state.letters.put_aside("", account, samples);
            }
        }
    }

    /// Something replayed waits for what explains it.
    pub(super) const fn note_waits(&mut self) {
        self.reopening.tally.waits = true;
    }

    /// Samples that were in a dead letter, and whose time and unit are known: those that are in no window
    /// go where they belong.
    pub(super) fn place_again(&mut self, samples: &Samples) {
        let account = samples.account;
        let restored = self.state.ledger.restore(account, samples.range);
        let count: u64 = restored.iter().map(|new| new.count()).sum();
        self.state.counters.samples_stored += count;
        self.state.counters.samples_backfilled += count;
        // What is in no window of a stream yet, by stream, and of any.
        let mut fresh = IndexSet::default();
        let mut fresh_in: BTreeMap<String, IndexSet> = BTreeMap::new();
        for definition in &self.definitions {
            let name = &definition.stream.name;
            if fresh_in.contains_key(name) {
                continue;
            }
            let mut mine = self.state.letters.take(name, account, samples.range);
            restored.iter().for_each(|new| drop(mine.insert(*new)));
            // Samples of fast channels are in windows of their own alone, and stand under the first.
            if name.is_empty() || !samples.signal.waveform {
                mine.ranges().iter().for_each(|new| drop(fresh.insert(*new)));
                fresh_in.insert(name.clone(), mine);
            }
        }
        let key = (account.0, account.2);
        let (schedule, now) = (&self.state.settings, self.state.now);
        let settings = schedule.at(now).windows;
        let whole = samples.run();
        let cut = |time| schedule.cut(time, samples.signal.waveform);
        let tally = &mut self.reopening.tally;
        tally.known |= fresh.ranges().is_empty();
        let (mut aside, mut slow): (Vec<Range>, _) = (Vec::new(), Vec::new());
        for &part in fresh.ranges() {
            for (slot, run) in pieces(&whole, part, cut) {
                let channel = self.state.channels.or_default(key);
                let count = run.values.len() as u64;
                if run.time.nanos_since(now) > settings.lead_ns {
                    aside.extend(run.range());
                    tally.ahead += count;
                    continue;
                }
                tally.landed += count;
                self.state.counters.samples_replayed += count;
                if !samples.signal.waveform {
                    slow.push(run);
                    continue;
                }
                if !channel.windows.has_closed(slot.start) {
                    // It has not closed, so that none of them is too late.
                    let _ = channel.windows.place(&run, cut, &settings, now);
                    continue;
                }
                tally.reopened = true;
                let reopened = self.reopening.wanted.entry((key, slot.start));
                let reopened = reopened.or_insert_with(|| Reopened::new(slot));
                reopened.added.push(Piece::new(&run));
            }
        }
        for ahead in aside {
            for (name, fresh) in &fresh_in {
                for part in fresh.common(ahead).ranges() {
                    self.state.letters.put_aside(name, account, *part);
                }
            }
        }
        for run in slow {
            for (name, fresh) in &fresh_in {
                let mine = run.range().map(|range| fresh.common(range));
                for &part in mine.unwrap_or_default().ranges() {
                    self.take_slow_again(name, account, &part_of(&run, part));
                }
            }
        }
    }

    /// Readings go into what is open or kept of a stream; its windows that have gone are made again.
    fn take_slow_again(&mut self, stream: &str, account: AccountKey, run: &Run<'_>) {
        let times = (0..run.values.len() as u64).map(|n| run.time_after(n));
        let values: Vec<_> = times.zip(run.values.iter().copied()).collect();
        let readings = SlowReadings {
            key: (account.0, account.2),
            signal: run.signal,
            backfill: true,
            values: &values,
        };
        let taken = self.take_slow(&readings, Destination::Named(stream));
        for late in taken.late_in {
            self.reopening.tally.reopened = true;
            self.want_slow(late, account, run.first, &readings);
        }
    }

    /// Whether a node's windows are looked at later, since a letter is in hand.
    pub(super) fn puts_off_firing(&mut self, node: NodeId) -> bool {
        let is_in_hand = self.reopening.letter.is_some();
        if is_in_hand {
            self.reopening.nodes.insert(node);
        }
        is_in_hand
    }

    /// Ends a commit: its corrections have a number of their own.
    pub(super) fn settle_replayed(&mut self) {
        for node in std::mem::take(&mut self.reopening.nodes) {
            self.fire_node(node);
        }
        if !self.reopening.wanted.is_empty() || self.reopening.slow.is_wanted() {
            self.state.letters.replays = self.state.letters.replays.saturating_add(1);
        }
    }

    /// What is to be read again after a commit, before the next one: hand each commit of that part to
    /// [`Self::remember`], in order, then call [`Self::reopen`] for more of what follows from the commit,
    /// and ask once more.
    pub fn recall(&mut self) -> Option<Recall> {
        if self.reopening.filling.is_empty() && self.reopening.slow.begins().is_none() {
            self.reopening.slow.fill(WINDOWS_AT_ONCE);
            let mut rest = std::mem::take(&mut self.reopening.wanted);
            if let Some(&beyond) = rest.keys().nth(WINDOWS_AT_ONCE) {
                self.reopening.wanted = rest.split_off(&beyond);
            }
            self.reopening.filling = rest;
        }
        let earliest = self
            .reopening
            .filling
            .values()
            .map(|window| window.slot.start)
            .chain(self.reopening.slow.begins())
            .min()?;
        let schedule = &self.state.settings;
        let lead = |at| schedule.at(at).windows.lead_ns;
        let lead_ns = lead(EventTime(earliest)).max(lead(self.state.now)).max(0);
        let since = EventTime(earliest).plus_nanos(-lead_ns);
        Some(Recall {
            from: self.state.letters.milestones.before(since),
            upto: self.state.position,
        })
    }

    /// A commit that is read again, of the part that was asked for.
    pub fn remember(&mut self, commit: &Commit) {
        for (position, entry) in &commit.entries {
            let Entry::Block { gateway, bytes } = entry else {
                continue;
            };
            let Ok(block) = Block::parse(bytes) else {
                continue;
            };
            let mut origin = Origin {
                gateway: gateway.clone(),
                position: *position,
                item: 0,
                backfill: block.lane() == Lane::Backfill,
                arrival: commit.time,
                fix: 0,
                replayed: false,
                since: 0,
            };
            match block.decode() {
                Ok(Body::Frames(records)) => {
                    for record in records.flatten() {
                        origin.fix = record.fix;
                        self.remember_frame(&origin, record.frame);
                    }
                }
                Ok(Body::Readings(readings)) => self.remember_readings(&origin, &readings),
                _ => {}
            }
        }
    }

    /// The windows as they were and as they are now: corrections, of those that have been read again.
    pub fn reopen(&mut self) -> Vec<Output> {
        let revision = REVISION_REPLAYED.saturating_add(self.state.letters.replays);
        let (schedule, now) = (&self.state.settings, self.state.now);
        let settings = schedule.at(now).windows;
        let fire = |windows: &mut Windows| {
            let look = |_: &_| Outlook {
                due: true,
                grows: false,
            };
            windows.fire(&settings, look)
        };
        let mut corrections = Vec::new();
        for ((key, _), mut reopened) in std::mem::take(&mut self.reopening.filling) {
            let before = fire(&mut reopened.windows.clone());
            for piece in &reopened.added {
                let run = piece.run();
                let _ = reopened.windows.place(
                    &run,
                    |time| schedule.cut(time, run.signal.waveform),
                    &settings,
                    now,
                );
            }
            if let Some(after) = fire(&mut reopened.windows) {
                let after = Fired {
                    revision,
                    current: false,
                    ..after
                };
                corrections.push((key, before, after));
            }
        }
        for (key, before, after) in corrections {
            self.publish_again(key, before, after);
        }
        self.publish_pending();
        self.reopen_slow(revision);
        if self.reopening.wanted.is_empty() && !self.reopening.slow.is_wanted() {
            self.reopening.letters.clear();
        }
        std::mem::take(&mut self.outputs)
    }

    /// In place of [`Self::reopen`], where that part of the journal is gone: the windows stay as they fired.
    pub fn leave_closed(&mut self) -> Vec<Output> {
        self.reopening.filling.clear();
        self.reopening.wanted.clear();
        self.reopening.slow = Slow::default();
        for letter in std::mem::take(&mut self.reopening.letters) {
            self.tell(letter, Outcome::WindowsGone);
        }
        std::mem::take(&mut self.outputs)
    }

    fn remember_frame(&mut self, origin: &Origin, bytes: &[u8]) {
        let Ok(frame) = RawFrame::parse(bytes) else {
            return;
        };
        let header = *frame.header();
        let mut filling = self.reopening.filling.keys();
        if !filling.any(|(key, _)| key.0 == header.node) && !self.reopening.slow.is_filling(header.node) {
            return;
        }
        let account = frame
            .payload()
            .ok()
            .and_then(|payload| sample_range(&header, &payload));
        let Some((account, _)) = account else {
            return;
        };
        if (self.is_filling((account.0, account.2)) || self.reopening.slow.is_filling(account.0))
            && let Ok(Ok(samples)) = self.explain_frame(origin, origin.fix, bytes)
        {
            self.remember_samples(&samples);
        }
    }

    fn remember_readings(&mut self, origin: &Origin, readings: &Readings) {
        if self.reopening.slow.is_filling(readings.node) {
            for samples in self.explain_readings(origin, readings).into_iter().flatten() {
                self.remember_samples(&samples);
            }
        }
    }

    fn is_filling(&self, key: ChannelKey) -> bool {
        let first = (key, i64::MIN)..=(key, i64::MAX);
        self.reopening.filling.range(first).next().is_some()
    }

    /// Those of the samples go into their windows again that were in them.
    fn remember_samples(&mut self, samples: &Samples) {
        if !samples.signal.waveform {
            return self.remember_slow(samples);
        }
        let (node, boot, channel) = samples.account;
        let key = (node, channel);
        let (schedule, now) = (&self.state.settings, self.state.now);
        let settings = schedule.at(now).windows;
        let cut = |time| schedule.cut(time, samples.signal.waveform);
        let mut placed = self.state.ledger.stored(samples.account, samples.range);
        let aside = self.state.letters.aside("", samples.account, samples.range);
        for &gone in aside.ranges() {
            placed.remove(gone);
        }
        let whole = samples.run();
        for &part in placed.ranges() {
            for (slot, run) in pieces(&whole, part, cut) {
                let Some(reopened) = self.reopening.filling.get_mut(&(key, slot.start)) else {
                    continue;
                };
                let Some(indexes) = run.range() else {
                    continue;
                };
                let mut added = IndexSet::default();
                let mine = reopened.added.iter().filter(|piece| piece.boot == boot);
                for piece in mine.filter_map(Piece::range) {
                    added.insert(piece);
                }
                // A frame may stand in the journal twice, and what is added was not there.
                let new = reopened.known.entry(boot).or_default().insert(indexes);
                for new in new.into_iter().flat_map(|new| added.missing(new)) {
                    for (_, run) in pieces(&whole, new, cut) {
                        let _ = reopened.windows.place(&run, cut, &settings, now);
                    }
                }
            }
        }
    }
}

impl Reopened {
    fn new(slot: Slot) -> Self {
        Self {
            slot,
            windows: Windows::default(),
            known: BTreeMap::new(),
            added: Vec::new(),
        }
    }
}

impl Piece {
    fn new(run: &Run<'_>) -> Self {
        Self {
            boot: run.boot,
            first: run.first,
            time: run.time,
            signal: run.signal,
            values: run.values.to_vec(),
        }
    }

    fn run(&self) -> Run<'_> {
        Run {
            boot: self.boot,
            first: self.first,
            time: self.time,
            signal: self.signal,
            values: &self.values,
            backfill: true,
        }
    }

    fn range(&self) -> Option<Range> {
        self.run().range()
    }
}

/// A part of a run's samples by index, cut where windows end.
fn pieces<'a>(whole: &Run<'a>, part: Range, cut: impl Fn(EventTime) -> Cut) -> Vec<(Slot, Run<'a>)> {
    let mut pieces = Vec::new();
    let mut first = part.first();
    while first < part.end() {
        let run = match Range::new(first, part.end()) {
            Some(rest) => part_of(whole, rest),
            None => break,
        };
        let slot = cut(run.time).slot(run.time);
        let count = run.samples_before(slot.end).max(1);
        pieces.push((
            slot,
            Run {
                values: &run.values[..count],
                ..run
            },
        ));
        first += count as u64;
    }
    pieces
}

/// The samples of a run that have these indexes, all of which it has.
fn part_of<'a>(whole: &Run<'a>, part: Range) -> Run<'a> {
    let skipped = part.first() - whole.first;
    let (at, end) = (skipped as usize, (part.end() - whole.first) as usize);
    Run {
        first: part.first(),
        time: whole.time_after(skipped),
        values: &whole.values[at..end],
        ..*whole
    }
}

/// Whether a letter is a block that this build does not read either.
fn is_undecoded(letter: &Letter) -> bool {
    letter.form == Form::Block
        && Block::parse(&letter.payload)
            .and_then(|block| block.decode())
            .is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_by_time_are_bounded_and_never_too_late() {
        let mut milestones = Milestones::default();
        let place = |n: u64| Position {
            offset: n,
            ..Position::default()
        };
        for n in 0..100_000 {
            milestones.note(EventTime(n as i64 * 100_000_000), place(n));
            assert!(milestones.places.len() <= MILESTONES_MAX);
        }
        for n in (0..100_000).step_by(777) {
            let from = milestones.before(EventTime(n as i64 * 100_000_000)).offset;
            assert!(from <= n && n - from < 400, "{from} for {n}");
        }
        assert_eq!(milestones.before(EventTime(i64::MIN)), Position::default());
    }

    #[test]
    fn samples_aside_are_told_apart_up_to_a_bound_and_the_lowest_goes_first() {
        let mut letters = Letters::default();
        let account = (
            NodeId::new(1).unwrap(),
            BootId::new(1, 0),
            trunnion_common::id::ChannelId::new(0).unwrap(),
        );
        for n in 0..RANGES_MAX as u64 + 5 {
            letters.put_aside("", account, Range::new(10 * n, 10 * n + 5).unwrap());
        }
        let taken = |letters: &mut Letters, n: u64| {
            let samples = Range::new(10 * n, 10 * n + 10).unwrap();
            letters.take("", account, samples).count()
        };
        assert_eq!((taken(&mut letters, 4), taken(&mut letters, 5)), (0, 5));
        assert_eq!(taken(&mut letters, 5), 0, "they are taken once");
    }
}
