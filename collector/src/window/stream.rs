//! The windows of a stream of readings, by key: place, advance, correct. Pure.
//!
//! A [`Stream`] cuts the readings of many keys (channels, or assets that join several) into windows of one
//! [`Shape`]. Call [`Stream::place`] for readings that have not been placed before, in any order, and
//! [`Stream::advance`] after it; both are told how far the key's sources have come ([`Marks`]), and
//! neither reads a clock. What is told is a function of the calls alone.
//!
//! A watermark `W` is exclusive: nothing before it comes any more. A window `[start, end)` fires when
//! `W >= end`; its state is kept until `W >= end + lateness`, and what comes for it in between corrects it.
//! (Flink's watermark of `T` ms says that nothing up to and including `T` comes: it is `T + 1` here.)
//!
//! | a reading that comes | verdict |
//! |---|---|
//! | for a window that collects, or a new one | on time |
//! | for a window that has fired and is kept | late: it corrects the window |
//! | for windows that are all over: given up, or `W >= end + lateness` | too late: counted; the caller keeps it as a dead letter |
//! | not a number, infinite or out of [range](super::scalar::VALUE_MAX) | unusable: counted |
//!
//! A session is `[first, last + gap)`, half-open as every window: a reading exactly one gap after the last
//! belongs to a new session. A reading that bridges sessions joins them while all of them are kept. One
//! that touches a session that is over is too late: no session is revived or fused afterwards.
//!
//! History (what an outage held back) neither waits for the watermark nor moves it: its windows are over
//! only once they have fired and are kept no longer, and they fire when [`Marks::outlook`] says that
//! nothing can come for them.
//!
//! A window is named by key and start. Each time it is told its revision counts up, from 0, with the old
//! values and the new ones; a sink that keeps the highest revision only holds the truth, whatever is
//! repeated or overtaken on the way. A session that became part of an earlier one is told as vanished, with
//! no new values. No window is ever told without a value in it.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | keys of a stream | [`KEYS_MAX`] | readings of further ones find no room: counted |
//! | windows of a key, open and kept | [`WINDOWS_MAX`] | the earliest kept one is over, else the first fires with what it has and is over: counted |
//! | spans of a key that are over | [`SPANS_MAX`] | the shortest time between two of them is over as well |
//! | changes of the rules | [`ERAS_MAX`] | the oldest is forgotten |

use super::scalar::{COUNT_MAX, Scalar, Summary, Value};
use super::shape::{Kind, Shape};
use crate::watermark::Outlook;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use trunnion_common::time::EventTime;

/// Most keys of one stream: more channels than a collector serves.
pub const KEYS_MAX: usize = 65_536;

/// Most windows of one key, open and kept: an hour's lateness of 10 s windows, and room for history.
pub const WINDOWS_MAX: usize = 512;

/// Most spans of event time of one key that are over and told apart: an outage parts two.
pub const SPANS_MAX: usize = 32;

/// Most changes of the rules that are remembered.
pub const ERAS_MAX: usize = 64;

/// What a stream makes of its readings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rules {
    /// How event time is cut.
    pub shape: Shape,
    /// How long past its end a fired window is kept for late readings, nanoseconds of event time.
    pub lateness_ns: i64,
    /// When windows are told.
    pub emit: Emit,
    /// Whether quantiles are told: up to 1 KiB for each window instead of 200 bytes.
    pub quantiles: bool,
}

/// When windows are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Emit {
    /// When they fire, and when they are corrected.
    Close,
    /// Whenever they have changed as well.
    Update,
}

/// Which way readings came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// As they were taken.
    Live,
    /// After an outage had held them back.
    History,
}

/// How far the sources of a key have come.
pub trait Marks {
    /// Whether live readings have come past a time: none before it comes any more.
    fn has_passed(&self, time: i64) -> bool;

    /// What may become of a window. By the watermark alone, it is due once its end is passed, and nothing
    /// comes for it after that; whoever knows of openings, silence or history says more.
    fn outlook(&self, window: &Extent) -> Outlook {
        Outlook {
            due: self.has_passed(window.end),
            grows: false,
        }
    }
}

/// A watermark on its own: exclusive, nanoseconds UTC.
impl Marks for EventTime {
    #[inline]
    fn has_passed(&self, time: i64) -> bool {
        self.0 >= time
    }
}

/// A window, as far as progress is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Inclusive, nanoseconds UTC.
    pub start: i64,
    /// Exclusive.
    pub end: i64,
    /// Whether live readings are in it and it has not fired.
    pub live: bool,
}

/// What became of readings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Placed {
    /// They are in windows that had not fired.
    pub on_time: u64,
    /// They correct at least one window that had.
    pub corrects: u64,
    /// All of their windows are over.
    pub late: u64,
    /// They are no numbers that can be added up, or one too many in their window.
    pub unusable: u64,
    /// Their key is one too many.
    pub no_room: u64,
}

/// Why a window is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Cause {
    /// It has changed, and still collects.
    Updated,
    /// It has fired.
    Closed,
    /// What came late has changed it, or made it part of another one.
    Corrected,
}

/// What is told of a window.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Emitted<K> {
    /// Whose readings.
    pub key: K,
    /// Inclusive; it names the window.
    pub start: EventTime,
    /// Exclusive; of a session it may change.
    pub end: EventTime,
    /// 0 when it is told for the first time.
    pub revision: u32,
    /// Why.
    pub cause: Cause,
    /// Whether any of its readings are history.
    pub history: bool,
    /// What was told before; `None` the first time.
    pub old: Option<Summary>,
    /// What holds now; `None` if it is part of another window now.
    pub new: Option<Summary>,
}

/// The windows of all keys of a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    from = "Stored<K>",
    bound(deserialize = "K: Clone + Eq + Hash + Deserialize<'de>")
)]
pub struct Stream<K> {
    lateness_ns: i64,
    emit: Emit,
    quantiles: bool,
    /// By rising time; the first is from the beginning of time.
    eras: Vec<Era>,
    /// In the order in which their keys came first.
    slots: Vec<Slot<K>>,
    /// Before the watermark reaches this, there is nothing to tell or to forget.
    next: i64,
    given_up: u64,
    #[serde(skip)]
    index: Index<K>,
}

/// Where the slot of a key is. Never walked, and not told, so that its order means nothing.
#[derive(Clone)]
struct Index<K>(HashMap<K, u32, BuildHasherDefault<Mix>>);

/// From when on event time is cut how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Era {
    from: i64,
    shape: Shape,
}

/// A shape and where it holds.
#[derive(Clone, Copy)]
struct Cut {
    shape: Shape,
    from: i64,
    to: i64,
}

/// The windows of one key.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Slot<K> {
    key: K,
    /// By rising start, which names them.
    windows: Vec<Window>,
    over: Spans,
    /// Told with the next advance.
    pending: Vec<Emitted<K>>,
    next: i64,
}

/// A window that collects, or has fired and is kept.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Window {
    start: i64,
    end: i64,
    values: Scalar,
    /// What was told last, if values have come since.
    old: Option<Box<Summary>>,
    /// How often it was told.
    revision: u32,
    has_fired: bool,
    /// Values have come that were not told.
    changed: bool,
    live: bool,
    history: bool,
}

/// Spans of event time: from and to, ascending; none overlap or touch.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Spans(Vec<(i64, i64)>);

/// What became of one reading.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    OnTime,
    Corrects,
    Late,
    Unusable,
}

impl<K: Clone + Ord + Hash> Stream<K> {
    /// A stream without readings.
    pub fn new(rules: Rules) -> Self {
        Self {
            lateness_ns: rules.lateness_ns.max(0),
            emit: rules.emit,
            quantiles: rules.quantiles,
            eras: vec![Era {
                from: i64::MIN,
                shape: rules.shape,
            }],
            slots: Vec::new(),
            next: i64::MAX,
            given_up: 0,
            index: Index::default(),
        }
    }

    /// Other rules are to hold: another shape from `from` on, which must be past all readings placed, and
    /// the rest at once. Windows that reach beyond end there, sessions too; what comes last wins. (A session
    /// that a change has cut short stays so if the change is taken back before it holds.)
    pub fn change(&mut self, rules: Rules, from: EventTime) {
        self.lateness_ns = rules.lateness_ns.max(0);
        self.emit = rules.emit;
        self.quantiles = rules.quantiles;
        self.eras.retain(|era| era.from == i64::MIN || era.from < from.0);
        if self.eras.last().is_none_or(|era| era.shape != rules.shape) {
            self.eras.push(Era {
                from: from.0,
                shape: rules.shape,
            });
        }
        if self.eras.len() > ERAS_MAX {
            self.eras.remove(0);
            self.eras[0].from = i64::MIN;
        }
        for slot in &mut self.slots {
            for window in &mut slot.windows {
                window.end = Cut::at(&self.eras, window.start).end_of(window);
            }
            // Lateness may be over, and what has changed may be told now.
            slot.next = i64::MIN;
        }
        self.next = i64::MIN;
    }

    /// A stream of the same rules, former ones included, without readings: for windows that are over and are
    /// made once more from what they held and what was missing.
    pub fn emptied(&self) -> Self {
        Self {
            eras: self.eras.clone(),
            lateness_ns: self.lateness_ns,
            emit: self.emit,
            quantiles: self.quantiles,
            slots: Vec::new(),
            next: i64::MAX,
            given_up: 0,
            index: Index::default(),
        }
    }

    /// Assigns readings of one key, that have not been placed before, to its windows.
    pub fn place(
        &mut self,
        key: &K,
        lane: Lane,
        marks: &impl Marks,
        readings: impl IntoIterator<Item = (EventTime, f64)>,
    ) -> Placed {
        self.place_telling(key, lane, marks, readings, |_| ())
    }

    /// The same, and tells the time of each reading that is too late.
    pub fn place_telling(
        &mut self,
        key: &K,
        lane: Lane,
        marks: &impl Marks,
        readings: impl IntoIterator<Item = (EventTime, f64)>,
        mut late: impl FnMut(EventTime),
    ) -> Placed {
        let mut placed = Placed::default();
        let Some(at) = self.slot(key) else {
            placed.no_room = readings.into_iter().count() as u64;
            return placed;
        };
        let (lateness_ns, quantiles, eras) = (self.lateness_ns, self.quantiles, &self.eras);
        let slot = &mut self.slots[at];
        let given_up = &mut self.given_up;
        for (time, value) in readings {
            let verdict = match Value::new(value) {
                Some(value) => {
                    let mut reading = Reading {
                        time: time.0,
                        value,
                        lane,
                        quantiles,
                        emit: self.emit,
                        given_up,
                    };
                    let is_over = |start, end| {
                        let live = lane == Lane::Live;
                        let extent = Extent { start, end, live };
                        live && marks.has_passed(end.saturating_add(lateness_ns))
                            && !marks.outlook(&extent).grows
                    };
                    slot.take(&mut reading, eras, is_over)
                }
                None => Verdict::Unusable,
            };
            match verdict {
                Verdict::OnTime => placed.on_time += 1,
                Verdict::Corrects => placed.corrects += 1,
                Verdict::Late => {
                    placed.late += 1;
                    late(time);
                }
                Verdict::Unusable => placed.unusable += 1,
            }
        }
        self.next = self.next.min(slot.next);
        placed
    }

    /// From where to where readings stand together with one that came too late, in windows that are over:
    /// those have to be read again to make its windows once more ([`Self::emptied`]).
    pub fn over_around(&self, key: &K, time: EventTime) -> (i64, i64) {
        let cut = Cut::at(&self.eras, time.0);
        let windows = cut.shape.windows(time.0);
        let windows = windows.map(|(start, end)| (start.max(cut.from), end.min(cut.to)));
        let hull = |(from, to): (i64, i64), (start, end): (i64, i64)| (from.min(start), to.max(end));
        match (cut.shape.kind(), self.index.0.get(key)) {
            (Kind::Session { .. }, Some(&at)) => {
                // What is not over belongs to sessions that are open or kept.
                let (start, end) = (time.0, windows.map(|(_, end)| end).max().unwrap_or(time.0));
                let touched = self.slots[at as usize].over.0.iter();
                let touched = touched.filter(|span| span.0 < end && start < span.1);
                touched.copied().reduce(hull).unwrap_or((start, start))
            }
            _ => windows.reduce(hull).unwrap_or((time.0, time.0)),
        }
    }

    /// Tells what there is to tell of one key, by rising start, and forgets what is over.
    pub fn advance(&mut self, key: &K, marks: &impl Marks) -> Vec<Emitted<K>> {
        let mut told = Vec::new();
        if let Some(&at) = self.index.0.get(key) {
            let ending = (self.lateness_ns, self.emit, self.eras.as_slice());
            self.slots[at as usize].advance(ending, marks, &mut told);
        }
        told
    }

    /// The same of all keys, by rising key, for one source of all: next to nothing before a window is due.
    /// At [`i64::MAX`] all that is left is told.
    pub fn advance_all(&mut self, watermark: EventTime) -> Vec<Emitted<K>> {
        let mut told = Vec::new();
        if watermark.0 < self.next {
            return told;
        }
        self.next = i64::MAX;
        for slot in &mut self.slots {
            if slot.next <= watermark.0 {
                slot.advance((self.lateness_ns, self.emit, &self.eras), &watermark, &mut told);
            }
            self.next = self.next.min(slot.next);
        }
        // Each key's are in their order already.
        told.sort_by(|a, b| a.key.cmp(&b.key));
        told
    }

    /// Whether a key has no window, open or kept, and nothing to be told.
    pub fn is_empty(&self, key: &K) -> bool {
        let slot = self.index.0.get(key).map(|at| &self.slots[*at as usize]);
        slot.is_none_or(|slot| slot.windows.is_empty() && slot.pending.is_empty())
    }

    /// Windows of all keys, open and kept.
    pub fn windows(&self) -> usize {
        self.slots.iter().map(|slot| slot.windows.len()).sum()
    }

    /// Windows that were over before their time, because their key had too many.
    pub const fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Bytes of memory that keys and windows take, as far as the stream knows: without the allocator's.
    pub fn state_bytes(&self) -> usize {
        let slots = self.slots.iter().map(|slot| {
            slot.windows.capacity() * size_of::<Window>()
                + slot.windows.iter().map(Window::heap_bytes).sum::<usize>()
                + slot.over.0.capacity() * size_of::<(i64, i64)>()
                + slot.pending.capacity() * size_of::<Emitted<K>>()
        });
        slots.sum::<usize>()
            + self.slots.capacity() * size_of::<Slot<K>>()
            + self.index.0.capacity() * (size_of::<(K, u32)>() + 1)
    }

    /// Where the slot of a key is, which is made if there is room.
    fn slot(&mut self, key: &K) -> Option<usize> {
        if let Some(&at) = self.index.0.get(key) {
            return Some(at as usize);
        }
        let at = self.slots.len();
        if at >= KEYS_MAX {
            return None;
        }
        self.slots.push(Slot {
            key: key.clone(),
            windows: Vec::new(),
            over: Spans::default(),
            pending: Vec::new(),
            next: i64::MAX,
        });
        self.index.0.insert(key.clone(), at as u32);
        Some(at)
    }
}

/// A reading on its way to its windows.
struct Reading<'a> {
    time: i64,
    value: Value,
    lane: Lane,
    quantiles: bool,
    emit: Emit,
    given_up: &'a mut u64,
}

impl<K: Clone> Slot<K> {
    /// Puts a reading into its windows; `is_over` says of one that is not there whether its time is over.
    #[inline]
    fn take(
        &mut self,
        reading: &mut Reading<'_>,
        eras: &[Era],
        is_over: impl Fn(i64, i64) -> bool,
    ) -> Verdict {
        match Cut::at(eras, reading.time).shape.kind() {
            Kind::Tumbling { .. } => {
                // Windows of one kind do not overlap: the one that holds it is its own, and nearly always the last.
                let time = reading.time;
                let found = self.windows.iter().rposition(|window| window.start <= time);
                match found {
                    Some(at) if time < self.windows[at].end => self.add(at, reading),
                    _ => self.take_each(reading, eras, is_over),
                }
            }
            Kind::Hopping { .. } => self.take_each(reading, eras, is_over),
            Kind::Session { .. } => self.take_session(reading, eras, is_over),
        }
    }

    /// A reading of windows on a grid.
    fn take_each(
        &mut self,
        reading: &mut Reading<'_>,
        eras: &[Era],
        is_over: impl Fn(i64, i64) -> bool,
    ) -> Verdict {
        let cut = Cut::at(eras, reading.time);
        let mut verdict = Verdict::Late;
        for (start, end) in cut.shape.windows(reading.time) {
            let begins_before = start <= cut.from;
            let (start, end) = (start.max(cut.from), end.min(cut.to));
            let at = self.windows.partition_point(|window| window.start < start);
            let found = self.windows.get(at).is_some_and(|window| window.start == start);
            let one = if found {
                self.add(at, reading)
            } else if self.over.touches(start, start.saturating_add(1)) || is_over(start, end) {
                Verdict::Late
            } else {
                self.open(at, (start, end), reading, eras)
            };
            verdict = match (verdict, one) {
                (Verdict::Late, one) => one,
                (_, Verdict::Corrects) => Verdict::Corrects,
                (verdict, _) => verdict,
            };
            // Where the shape begins to hold, windows that would have begun before are one.
            if begins_before {
                break;
            }
        }
        verdict
    }

    /// A reading that makes, extends or joins sessions.
    fn take_session(
        &mut self,
        reading: &mut Reading<'_>,
        eras: &[Era],
        is_over: impl Fn(i64, i64) -> bool,
    ) -> Verdict {
        let cut = Cut::at(eras, reading.time);
        let Some((start, end)) = cut.shape.windows(reading.time).next() else {
            return Verdict::Late;
        };
        let end = end.min(cut.to);
        let at = self.windows.partition_point(|window| window.end <= start);
        let joined = self.windows[at..].iter().take_while(|window| window.start < end);
        let (count, values) = joined.fold((0, 0), |(count, values), window| {
            (count + 1, values + window.values.count())
        });
        if count == 0 {
            return if self.over.touches(start, end) || is_over(start, end) {
                Verdict::Late
            } else {
                self.open(at, (start, end), reading, eras)
            };
        }
        let is_inside = self.windows[at].start <= start && end <= self.windows[at].end;
        if !is_inside && self.over.touches(start, end) {
            return Verdict::Late;
        }
        if values >= COUNT_MAX {
            return Verdict::Unusable;
        }
        let had_fired = self.windows[at..at + count].iter().any(|window| window.has_fired);
        let absorbed: Vec<Window> = self.windows.drain(at + 1..at + count).collect();
        let window = &mut self.windows[at];
        window.change();
        for other in absorbed {
            self.pending.extend(other.vanished(&self.key));
            window.absorb(&other);
        }
        if start < window.start {
            self.pending.extend(window.vanished(&self.key));
            window.rename(start);
        }
        if window.end < end {
            window.end = end;
            // It has to be passed once more.
            window.has_fired = false;
        }
        let (window_end, fired) = (window.end, window.has_fired);
        let verdict = self.add(at, reading);
        if !self.pending.is_empty() {
            self.next = i64::MIN;
        } else if !fired {
            self.next = self.next.min(window_end);
        }
        match verdict {
            Verdict::OnTime if had_fired => Verdict::Corrects,
            verdict => verdict,
        }
    }

    /// Adds a reading to a window that is there.
    #[inline]
    fn add(&mut self, at: usize, reading: &Reading<'_>) -> Verdict {
        let window = &mut self.windows[at];
        window.change();
        if !window.values.add(reading.value) {
            return Verdict::Unusable;
        }
        window.live |= reading.lane == Lane::Live;
        window.history |= reading.lane == Lane::History;
        if window.has_fired {
            self.next = i64::MIN;
            return Verdict::Corrects;
        }
        if reading.emit == Emit::Update {
            self.next = i64::MIN;
        }
        Verdict::OnTime
    }

    /// A new window with a reading in it; makes room for it if there is none.
    fn open(
        &mut self,
        at: usize,
        (start, end): (i64, i64),
        reading: &mut Reading<'_>,
        eras: &[Era],
    ) -> Verdict {
        let mut at = at;
        if self.windows.len() >= WINDOWS_MAX {
            let kept = self.windows.iter().position(|window| window.has_fired);
            let first = kept.unwrap_or(0);
            let mut window = self.windows.remove(first);
            at -= usize::from(first < at);
            *reading.given_up += 1;
            if !window.has_fired || window.changed {
                let cause = window.cause_to_close(reading.emit);
                self.pending.push(window.tell(&self.key, cause));
                self.next = i64::MIN;
            }
            self.over.note(window.names(eras));
        }
        if self.windows.len() == self.windows.capacity() {
            // Most keys have one or two windows: room for four would be wasted on them.
            self.windows.reserve_exact(self.windows.len() / 2 + 1);
        }
        self.windows
            .insert(at, Window::new(start, end, reading.quantiles));
        self.next = self.next.min(end);
        self.add(at, reading)
    }

    fn advance(
        &mut self,
        (lateness_ns, emit, eras): (i64, Emit, &[Era]),
        marks: &impl Marks,
        told: &mut Vec<Emitted<K>>,
    ) {
        told.append(&mut self.pending);
        let (key, over) = (&self.key, &mut self.over);
        let mut next = i64::MAX;
        self.windows.retain_mut(|window| {
            if window.has_fired {
                if window.changed {
                    told.push(window.tell(key, Cause::Corrected));
                }
            } else if marks.outlook(&window.extent()).due {
                told.push(window.tell(key, window.cause_to_close(emit)));
                window.has_fired = true;
            } else {
                if window.changed && emit == Emit::Update {
                    told.push(window.tell(key, Cause::Updated));
                }
                next = next.min(window.end);
                return true;
            }
            let kept_until = window.end.saturating_add(lateness_ns);
            if marks.has_passed(kept_until) && !marks.outlook(&window.extent()).grows {
                over.note(window.names(eras));
                return false;
            }
            next = next.min(kept_until);
            true
        });
        self.next = next;
    }
}

impl Window {
    fn new(start: i64, end: i64, quantiles: bool) -> Self {
        Self {
            start,
            end,
            values: Scalar::new(quantiles),
            old: None,
            revision: 0,
            has_fired: false,
            changed: false,
            live: false,
            history: false,
        }
    }

    const fn extent(&self) -> Extent {
        Extent {
            start: self.start,
            end: self.end,
            live: self.live && !self.has_fired,
        }
    }

    /// The span of starts that is over with it: up to where the next one begins, so that no window which
    /// never was is over with it.
    fn names(&self, eras: &[Era]) -> (i64, i64) {
        match Cut::at(eras, self.start).shape.kind() {
            Kind::Hopping { slide_ns, .. } => (self.start, self.end.min(self.start.saturating_add(slide_ns))),
            Kind::Tumbling { .. } | Kind::Session { .. } => (self.start, self.end),
        }
    }

    /// Before values come: remembers what was told.
    #[inline]
    fn change(&mut self) {
        if !self.changed {
            self.changed = true;
            if self.revision > 0 {
                self.old = self.values.summary().map(Box::new);
            }
        }
    }

    /// As it is told now.
    fn tell<K: Clone>(&mut self, key: &K, cause: Cause) -> Emitted<K> {
        let old = self.told_last();
        let revision = self.revision;
        self.old = None;
        self.changed = false;
        self.revision += 1;
        Emitted {
            key: key.clone(),
            start: EventTime(self.start),
            end: EventTime(self.end),
            revision,
            cause,
            history: self.history,
            old,
            new: self.values.summary(),
        }
    }

    fn told_last(&self) -> Option<Summary> {
        match (self.revision, &self.old) {
            (0, _) => None,
            (_, Some(old)) => Some(**old),
            (_, None) => self.values.summary(),
        }
    }

    /// That it is part of another one now, if it was ever told.
    fn vanished<K: Clone>(&self, key: &K) -> Option<Emitted<K>> {
        let old = self.told_last()?;
        Some(Emitted {
            key: key.clone(),
            start: EventTime(self.start),
            end: EventTime(self.end),
            revision: self.revision,
            cause: Cause::Corrected,
            history: self.history,
            old: Some(old),
            new: None,
        })
    }

    /// A session that had fired before it went on is corrected when it fires again.
    fn cause_to_close(&self, emit: Emit) -> Cause {
        match emit {
            Emit::Close if self.revision > 0 => Cause::Corrected,
            Emit::Close | Emit::Update => Cause::Closed,
        }
    }

    /// Takes over the values of a later session.
    fn absorb(&mut self, other: &Self) {
        let has_room = self.values.merge(&other.values);
        debug_assert!(has_room, "the values of all were counted before");
        self.has_fired &= other.has_fired;
        if self.end < other.end {
            self.end = other.end;
        }
        self.live |= other.live;
        self.history |= other.history;
    }

    /// Begins earlier, and so has another name.
    fn rename(&mut self, start: i64) {
        self.start = start;
        self.revision = 0;
        self.old = None;
        self.has_fired = false;
    }

    fn heap_bytes(&self) -> usize {
        let old = self.old.as_ref().map_or(0, |_| size_of::<Summary>());
        self.values.heap_bytes() + old
    }
}

impl Cut {
    /// How event time is cut around an instant.
    #[inline]
    fn at(eras: &[Era], time: i64) -> Self {
        // The last one, as nearly always.
        let last = eras.iter().rposition(|era| era.from <= time).unwrap_or(0);
        let era = eras[last];
        Self {
            shape: era.shape,
            from: era.from,
            to: eras.get(last + 1).map_or(i64::MAX, |next| next.from),
        }
    }

    /// Where a window that begins in it ends.
    fn end_of(&self, window: &Window) -> i64 {
        let end = match self.shape.kind() {
            Kind::Session { .. } => window.end,
            Kind::Tumbling { .. } | Kind::Hopping { .. } => {
                let latest = self.shape.windows(window.start).next();
                latest.map_or(window.end, |(_, end)| end)
            }
        };
        end.min(self.to)
    }
}

impl Spans {
    fn touches(&self, from: i64, to: i64) -> bool {
        self.0.iter().rev().any(|span| span.0 < to && from < span.1)
    }

    fn note(&mut self, (mut from, mut to): (i64, i64)) {
        self.0.retain(|known| {
            let apart = known.1 < from || to < known.0;
            if !apart {
                (from, to) = (from.min(known.0), to.max(known.1));
            }
            apart
        });
        let at = self.0.partition_point(|known| known.0 < from);
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(1);
        }
        self.0.insert(at, (from, to));
        if self.0.len() > SPANS_MAX {
            let between = |at: &usize| self.0[*at].0.saturating_sub(self.0[*at - 1].1);
            if let Some(shortest) = (1..self.0.len()).min_by_key(between) {
                let upper = self.0.remove(shortest);
                self.0[shortest - 1].1 = upper.1;
            }
        }
    }
}

/// Everything but the index, which follows from it.
#[derive(Deserialize)]
struct Stored<K> {
    lateness_ns: i64,
    emit: Emit,
    quantiles: bool,
    eras: Vec<Era>,
    slots: Vec<Slot<K>>,
    next: i64,
    given_up: u64,
}

impl<K: Clone + Eq + Hash> From<Stored<K>> for Stream<K> {
    fn from(stored: Stored<K>) -> Self {
        let keys = stored.slots.iter().map(|slot| slot.key.clone());
        Self {
            lateness_ns: stored.lateness_ns,
            emit: stored.emit,
            quantiles: stored.quantiles,
            eras: stored.eras,
            next: stored.next,
            given_up: stored.given_up,
            index: Index(keys.zip(0..).collect()),
            slots: stored.slots,
        }
    }
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K> fmt::Debug for Index<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl<K: PartialEq> PartialEq for Stream<K> {
    fn eq(&self, other: &Self) -> bool {
        let rules = |stream: &Self| (stream.lateness_ns, stream.emit, stream.quantiles);
        rules(self) == rules(other)
            && self.eras == other.eras
            && self.slots == other.slots
            && (self.next, self.given_up) == (other.next, other.given_up)
    }
}

/// Finds a key in a few nanoseconds (after the hash of the Rust compiler). Keys are channels and assets
/// of the plant's own, so that nobody can choose them to collide.
#[derive(Clone, Copy, Debug, Default)]
struct Mix(u64);

impl Mix {
    #[inline]
    fn mix(&mut self, word: u64) {
        self.0 = self.0.wrapping_add(word).wrapping_mul(0xf135_7aea_2e62_a9c5);
    }
}

impl Hasher for Mix {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    #[inline]
    fn write_u8(&mut self, word: u8) {
        self.mix(word.into());
    }

    #[inline]
    fn write_u16(&mut self, word: u16) {
        self.mix(word.into());
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.mix(word.into());
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    #[inline]
    fn finish(&self) -> u64 {
        // The best bits are the high ones; the table takes the low ones.
        self.0.rotate_left(26)
    }
}

#[cfg(test)]
mod tests;
