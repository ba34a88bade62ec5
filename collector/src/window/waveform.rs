//! Windows of consecutive samples, laid out by index. Pure.
//!
//! [`Windows`] cuts one channel's samples into tumbling windows `[start, end)` aligned to the epoch
//! plus an offset. Each sample has its own event time, from its own frame's clock fix, so a frame
//! that straddles a boundary is cut at the exact sample. Within a window samples stand by their
//! index and never by their time stamp, whose jitter would tear the signal.
//!
//! Call [`Windows::place`] for samples that have not been placed before, in any order, and
//! [`Windows::fire`] after it, with the [outlook](Outlook) that [`crate::watermark`] gives of each window:
//! live windows fire in the order of their time, those of history as they are filled.
//!
//! A window fires once with what it has. If more may still come for it, as where an outage begins and
//! ends, its samples are kept; what comes then is added, and the window fires once more, with the next
//! revision and always with more samples than before.
//!
//! | a sample that comes | verdict |
//! |---|---|
//! | for an open or a new window | on time |
//! | for a window that has fired and is kept | late: it corrects the window |
//! | for another window that has fired | too late: counted; it stays in the journal and in the ledger |
//! | more than [`WindowSettings::lead_ns`] ahead of the journal's clock | too far ahead: counted, nothing moves |
//!
//! | memory of a channel | bound | what happens there |
//! |---|---|---|
//! | open windows | [`OPEN_MAX`] | the first fires with what it has, and is kept |
//! | windows kept | [`KEPT_MAX`] | the earliest is given up: it stays as it fired |
//! | spans that have fired | [`SPANS_MAX`] | the time between the two earliest counts as fired |

use super::grid::{Cut, Slot, WindowSettings};
use super::values::Values;
use crate::watermark::{Outlook, Span};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trunnion_common::id::BootId;
use trunnion_common::quantity::Unit;
use trunnion_common::sequence::Range;
use trunnion_common::time::EventTime;

/// Most windows open at once per channel; one more, and the first fires with what it has.
pub const OPEN_MAX: usize = 16;

/// Most fired windows kept per channel for what may still come: an outage makes two, where it begins and
/// where it ends, until its history has come.
pub const KEPT_MAX: usize = 8;

/// Most spans of event time that have fired, told apart per channel: an outage parts two, until its
/// history has come.
pub const SPANS_MAX: usize = 64;

/// Values that a window takes beyond twice what its rate makes of its length, before it holds no signal.
const PLACED_SPARE: u64 = 4_096;

/// Values that a window's first run has room for at once, at most: 256 KiB. A rate that promises more has to send
/// them.
const ROOM_MAX: usize = 65_536;

/// What a channel's samples are, as their node says.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Signal {
    /// Sample rate, millihertz; 0 when each sample has its own time and comes in a run of its own.
    pub rate_mhz: u32,
    /// What the values are counted in.
    pub unit: Unit,
    /// Upper edge of the sensor's usable band, Hz.
    pub band_high_hz: f64,
    /// Consecutive samples of a fast channel; otherwise readings.
    pub waveform: bool,
}

impl Signal {
    /// Whether samples of both make one signal.
    fn continues(&self, other: &Self) -> bool {
        (self.rate_mhz, self.unit, self.waveform) == (other.rate_mhz, other.unit, other.waveform)
    }
}

/// Samples in a row, with the clock they are on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Run<'a> {
    /// Which boot counted them.
    pub boot: BootId,
    /// Index of the first one.
    pub first: u64,
    /// Its event time.
    pub time: EventTime,
    /// What they are.
    pub signal: Signal,
    /// The values; not a number where the sensor gave none.
    pub values: &'a [f32],
    /// Whether they are history.
    pub backfill: bool,
}

impl Run<'_> {
    /// Event time of the instant `samples` after the first.
    pub fn time_after(&self, samples: u64) -> EventTime {
        EventTime(saturate(i128::from(self.time.0) + self.nanos(samples)))
    }

    fn nanos(&self, samples: u64) -> i128 {
        match self.signal.rate_mhz {
            0 => 0,
            rate => i128::from(samples) * NANOS_MILLI / i128::from(rate),
        }
    }

    /// The indexes of the samples; none when it is empty.
    pub fn range(&self) -> Option<Range> {
        Range::new(self.first, self.first.saturating_add(self.values.len() as u64))
    }

    /// How many samples lie before `end`.
    pub fn samples_before(&self, end: i64) -> usize {
        let nanos = i128::from(end) - i128::from(self.time.0);
        let samples = match (self.signal.rate_mhz, nanos) {
            (_, ..=0) => 0,
            (0, _) => return self.values.len(),
            (rate, nanos) => (nanos * i128::from(rate) + NANOS_MILLI - 1) / NANOS_MILLI,
        };
        usize::try_from(samples).map_or(self.values.len(), |samples| samples.min(self.values.len()))
    }
}

/// Nanoseconds per second, times thousandths of a hertz per hertz.
const NANOS_MILLI: i128 = 1_000_000_000_000;

fn saturate(nanos: i128) -> i64 {
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

/// What became of a run's samples that found no window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Misplaced {
    /// Their window had fired.
    pub late: u64,
    /// Too far ahead of the journal's clock.
    pub ahead: u64,
}

/// A window whose time has come.
#[derive(Clone, PartialEq, Debug)]
pub struct Fired {
    /// Inclusive.
    pub start: EventTime,
    /// Exclusive.
    pub end: EventTime,
    /// What the samples are.
    pub signal: Signal,
    /// The samples by index, as many as the rate makes of the length; not a number where one is
    /// missing. Empty when undecided.
    pub samples: Vec<f32>,
    /// How many values there really were.
    pub placed: u64,
    /// Share of the samples that were there, 0 to 1.
    pub coverage: f32,
    /// Whether that is enough, of one boot and at one rate.
    pub decided: bool,
    /// Whether any of it is history.
    pub backfill: bool,
    /// 0 when it fires for the first time, counted up by corrections.
    pub revision: u32,
    /// Whether it says how things are now: live, not corrected, and later than those before it.
    pub current: bool,
}

/// The windows of one channel.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Windows {
    open: BTreeMap<i64, Open>,
    /// Fired, and more may come for them.
    kept: BTreeMap<i64, Open>,
    /// What has fired: from and to, ascending; none overlap or touch.
    fired: Vec<(i64, i64)>,
    /// Where the latest live window ends that has fired.
    live_end: Option<i64>,
}

/// A window that collects.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Open {
    start: i64,
    end: i64,
    /// The grid's; longer than from start to end if the grid changed in between.
    length: i64,
    boot: BootId,
    signal: Signal,
    /// Samples of two boots, rates or units came, or far too many: they do not make one signal.
    mixed: bool,
    /// Whether live samples, and whether history came.
    live: bool,
    backfill: bool,
    /// How often it has fired.
    revision: u32,
    /// Values that came, not a number not counted.
    placed: u64,
    /// Runs of samples by the index of their first; none overlap or touch.
    runs: BTreeMap<u64, Values>,
}

impl Windows {
    /// Assigns samples that have not been placed before to windows; `cut` says how event time is cut
    /// around an instant, and always says the same of it.
    pub fn place(
        &mut self,
        run: &Run<'_>,
        cut: impl Fn(EventTime) -> Cut,
        settings: &WindowSettings,
        now: EventTime,
    ) -> Misplaced {
        let mut misplaced = Misplaced::default();
        let mut at = 0;
        while at < run.values.len() {
            let time = run.time_after(at as u64);
            let ahead = time.0.saturating_sub(now.0) > settings.lead_ns;
            let Slot { start, end, length } = cut(time).slot(time);
            let upto = run.samples_before(end).max(at + 1);
            let count = (upto - at) as u64;
            if ahead {
                misplaced.ahead += count;
            } else {
                match self.collecting(start, || Open::new(start, end, length, run)) {
                    Some(open) => open.place(run, at, upto),
                    None => misplaced.late += count,
                }
            }
            at = upto;
        }
        misplaced
    }

    /// Whether a window that has fired is kept, or collects once more.
    pub fn may_correct(&self, start: EventTime) -> bool {
        let again = self.open.get(&start.0).is_some_and(|open| open.revision > 0);
        again || self.kept.contains_key(&start.0)
    }

    /// Whether the window that begins there has fired and is not kept: what comes for it is too late.
    pub fn has_closed(&self, start: i64) -> bool {
        let collects = self.open.contains_key(&start) || self.kept.contains_key(&start);
        !collects && covers(&self.fired, start)
    }

    /// Fires a window that is due, or the first when there are too many. Call until `None`.
    pub fn fire(&mut self, settings: &WindowSettings, look: impl Fn(&Span) -> Outlook) -> Option<Fired> {
        self.kept.retain(|_, open| look(&open.span()).grows);
        let mut live_waits = false;
        let due = self.open.iter().find_map(|(&start, open)| {
            let span = open.span();
            if span.live && live_waits {
                return None;
            }
            let outlook = look(&span);
            live_waits |= span.live && !outlook.due;
            outlook.due.then_some((start, outlook.grows))
        });
        let (start, grows) = match due {
            Some(due) => due,
            None if self.open.len() > OPEN_MAX => {
                let (&start, first) = self.open.first_key_value()?;
                (start, look(&first.span()).grows)
            }
            None => return None,
        };
        self.fire_at(start, grows, settings)
    }

    /// Fires a window that has ended by the journal's clock and that nothing comes for any more: `idle`
    /// says whether the live samples have fallen silent, and whether history has. Call until `None`.
    pub fn fire_idle(
        &mut self,
        now: EventTime,
        idle: [bool; 2],
        settings: &WindowSettings,
        look: impl Fn(&Span) -> Outlook,
    ) -> Option<Fired> {
        let span = self
            .open
            .values()
            .map(Open::span)
            .find(|span| idle[usize::from(!span.live)] && span.end <= now.0)?;
        self.fire_at(span.start, look(&span).grows, settings)
    }

    /// When [`Self::fire_idle`] has something to fire at the earliest, if nothing more comes: `silent` says
    /// from when on live samples count as silent, and history does. `None` where no window is open.
    pub fn idle_from(&self, silent: [EventTime; 2], settings: &WindowSettings) -> Option<EventTime> {
        let spans = self.open.values().map(Open::span);
        let due = spans.map(|span| {
            let ended = EventTime(span.end.saturating_add(settings.lateness_ns));
            silent[usize::from(!span.live)].max(ended)
        });
        due.min()
    }

    /// Whether no window is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The window that begins there and still collects.
    fn collecting(&mut self, start: i64, new: impl FnOnce() -> Open) -> Option<&mut Open> {
        use std::collections::btree_map::Entry;
        match self.open.entry(start) {
            Entry::Occupied(open) => Some(open.into_mut()),
            Entry::Vacant(room) => match self.kept.remove(&start) {
                Some(kept) => Some(room.insert(kept)),
                None if covers(&self.fired, start) => None,
                None => Some(room.insert(new())),
            },
        }
    }

    fn fire_at(&mut self, start: i64, grows: bool, settings: &WindowSettings) -> Option<Fired> {
        let mut open = self.open.remove(&start)?;
        let is_kept = grows && !open.mixed;
        let mut fired = open.fire(settings, is_kept);
        if open.revision == 0 {
            self.note_fired(open.start, open.end);
            if open.live {
                let is_latest = self.live_end.is_none_or(|end| end <= open.start);
                fired.current = is_latest && !open.backfill;
                self.live_end = self.live_end.max(Some(open.end));
            }
        }
        open.revision += 1;
        if is_kept {
            self.kept.insert(start, open);
            if self.kept.len() > KEPT_MAX {
                self.kept.pop_first();
            }
        }
        Some(fired)
    }

    fn note_fired(&mut self, mut from: i64, mut to: i64) {
        self.fired.retain(|known| {
            let apart = known.1 < from || to < known.0;
            if !apart {
                (from, to) = (from.min(known.0), to.max(known.1));
            }
            apart
        });
        let at = self.fired.partition_point(|known| known.0 < from);
        self.fired.insert(at, (from, to));
        if self.fired.len() > SPANS_MAX {
            let lowest = self.fired.remove(0);
            self.fired[0].0 = lowest.0;
        }
    }
}

/// Whether one of these spans holds an instant.
fn covers(spans: &[(i64, i64)], at: i64) -> bool {
    spans.iter().any(|&(from, to)| from <= at && at < to)
}

impl Fired {
    /// Samples per second.
    pub fn rate_hz(&self) -> f64 {
        f64::from(self.signal.rate_mhz) / 1e3
    }
}

impl Open {
    fn new(start: i64, end: i64, length: i64, run: &Run<'_>) -> Self {
        Self {
            start,
            end,
            length,
            boot: run.boot,
            signal: run.signal,
            mixed: false,
            live: false,
            backfill: false,
            revision: 0,
            placed: 0,
            runs: BTreeMap::new(),
        }
    }

    fn place(&mut self, run: &Run<'_>, at: usize, upto: usize) {
        let values = &run.values[at..upto];
        self.backfill |= run.backfill;
        self.live |= !run.backfill;
        self.placed += values.iter().filter(|value| !value.is_nan()).count() as u64;
        // A clock that stands still would put everything into one window.
        let overfull = self.placed > 2 * self.wanted() + PLACED_SPARE;
        if overfull || self.boot != run.boot || !self.signal.continues(&run.signal) {
            self.mixed = true;
        }
        if self.mixed {
            self.runs.clear();
            return;
        }
        let first = run.first + at as u64;
        let end = first + values.len() as u64;
        let before = self.runs.range_mut(..first).next_back();
        let key = match before {
            Some((&key, known)) if key + known.len() as u64 == first => {
                known.append(values);
                key
            }
            _ => {
                // The first run of a window mostly becomes all of it.
                let room = if self.runs.is_empty() { self.wanted() } else { 0 };
                let room = usize::try_from(room).map_or(ROOM_MAX, |room| room.min(ROOM_MAX));
                self.runs.insert(first, Values::with_room(values, room));
                first
            }
        };
        if let Some(after) = self.runs.remove(&end)
            && let Some(known) = self.runs.get_mut(&key)
        {
            known.append(&after);
        }
    }

    /// As many samples as the rate makes of the length; 0 without a rate.
    fn wanted(&self) -> u64 {
        let samples = i128::from(self.signal.rate_mhz) * i128::from(self.length);
        ((samples + NANOS_MILLI / 2) / NANOS_MILLI) as u64
    }

    /// As far as progress is concerned.
    fn span(&self) -> Span {
        let period_ns = NANOS_MILLI.checked_div(self.signal.rate_mhz.into()).unwrap_or(0);
        Span {
            start: self.start,
            end: self.end,
            boot: self.boot,
            period_ns: saturate(period_ns),
            live: self.live && self.revision == 0,
        }
    }

    /// Fires with what there is, which stays if it `is_kept`.
    fn fire(&mut self, settings: &WindowSettings, is_kept: bool) -> Fired {
        let wanted = self.wanted() as usize;
        let coverage = match wanted {
            0 => 1.0,
            wanted => (self.placed as f64 / wanted as f64).min(1.0),
        };
        let decided =
            !self.mixed && self.placed > 0 && coverage * 1e3 >= f64::from(settings.coverage_min_permille);
        let samples = match (decided, is_kept) {
            (false, _) => Vec::new(),
            (true, true) => self.lay_out(wanted),
            (true, false) => self.take_out(wanted),
        };
        Fired {
            start: EventTime(self.start),
            end: EventTime(self.end),
            signal: self.signal,
            samples,
            placed: self.placed,
            coverage: coverage as f32,
            decided,
            backfill: self.backfill,
            revision: self.revision,
            current: false,
        }
    }

    /// As [`Self::lay_out`], of a window that nobody asks again: mostly one run, which need not be copied.
    fn take_out(&mut self, wanted: usize) -> Vec<f32> {
        match self.runs.first_entry() {
            Some(first) if wanted > 0 && first.get().len() >= wanted => {
                let mut samples = first.remove().into_vec();
                samples.truncate(wanted);
                samples
            }
            _ => self.lay_out(wanted),
        }
    }

    /// The samples by index from the first one on, `wanted` of them (all there are, when 0).
    fn lay_out(&self, wanted: usize) -> Vec<f32> {
        if wanted == 0 {
            return self.runs.values().flat_map(|run| run.iter().copied()).collect();
        }
        let mut laid = vec![f32::NAN; wanted];
        let base = self.runs.keys().next().copied().unwrap_or(0);
        for (&first, run) in &self.runs {
            let at = ((first - base).min(wanted as u64)) as usize;
            for (slot, value) in laid[at..].iter_mut().zip(run.iter()) {
                *slot = *value;
            }
        }
        laid
    }
}

#[cfg(test)]
mod tests {
    use super::super::grid::Grid;
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000_000;
    /// Samples per second in these tests.
    const RATE: u64 = 100;

    fn settings() -> WindowSettings {
        WindowSettings::default()
    }

    /// Samples of a clock that started at `t0`, each with its index as its value.
    fn run(t0: i64, first: u64, values: &[f32]) -> Run<'_> {
        Run {
            boot: BootId::new(1, 0),
            first,
            time: EventTime(t0 + (first * 10_000_000) as i64),
            signal: Signal {
                rate_mhz: (RATE * 1_000) as u32,
                unit: Unit::StandardGravity,
                band_high_hz: 40.0,
                waveform: true,
            },
            values,
            backfill: false,
        }
    }

    fn indexes(first: u64, end: u64) -> Vec<f32> {
        (first..end).map(|n| n as f32).collect()
    }

    /// One grid for all times.
    fn cut(_: EventTime) -> Cut {
        Cut {
            grid: settings().grid(true),
            from: i64::MIN,
            to: i64::MAX,
        }
    }

    fn place(windows: &mut Windows, t0: i64, first: u64, end: u64) -> Misplaced {
        windows.place(
            &run(t0, first, &indexes(first, end)),
            cut,
            &settings(),
            EventTime(t0),
        )
    }

    fn fire(windows: &mut Windows, watermark: i64) -> Vec<Fired> {
        fire_growing(windows, watermark, false)
    }

    /// As above, and whether more may come for each.
    fn fire_growing(windows: &mut Windows, watermark: i64, grows: bool) -> Vec<Fired> {
        let look = |span: &Span| Outlook {
            due: span.end <= watermark,
            grows,
        };
        std::iter::from_fn(|| windows.fire(&settings(), look)).collect()
    }

    #[test]
    fn a_frame_across_a_boundary_is_cut_at_the_exact_sample() {
        let mut windows = Windows::default();
        // The clock started 5 ms before a second: sample 0 belongs to the second before.
        let t0 = 10 * SECOND - 5_000_000;
        assert_eq!(place(&mut windows, t0, 0, 150), Misplaced::default());
        let fired = fire(&mut windows, 12 * SECOND);
        assert_eq!(fired.len(), 3);
        assert_eq!((fired[0].placed, fired[0].decided), (1, false));
        assert_eq!(fired[1].samples, indexes(1, 101));
        assert_eq!((fired[1].coverage, fired[1].decided), (1.0, true));
        assert_eq!((fired[2].start, fired[2].placed), (EventTime(11 * SECOND), 49));
    }

    #[test]
    fn a_sample_exactly_at_the_end_belongs_to_the_next_window() {
        let mut windows = Windows::default();
        let _ = place(&mut windows, 0, 0, 101);
        assert_eq!(fire(&mut windows, SECOND)[0].samples, indexes(0, 100));
        assert!(!windows.is_empty());
    }

    #[test]
    fn under_the_least_coverage_a_window_is_undecided() {
        for (missing, decided) in [(5, true), (6, false)] {
            let mut windows = Windows::default();
            let _ = place(&mut windows, 0, 0, 50);
            let _ = place(&mut windows, 0, 50 + missing, 100);
            let fired = fire(&mut windows, SECOND).remove(0);
            assert_eq!(fired.decided, decided, "{missing}");
            assert_eq!(fired.samples.len(), if decided { 100 } else { 0 });
        }
    }

    #[test]
    fn samples_behind_a_gap_keep_their_place() {
        let mut windows = Windows::default();
        let _ = place(&mut windows, 0, 0, 40);
        let _ = place(&mut windows, 0, 42, 100);
        let samples = fire(&mut windows, SECOND).remove(0).samples;
        assert_eq!(samples[..40], indexes(0, 40));
        assert!(samples[40].is_nan() && samples[41].is_nan());
        assert_eq!(samples[42..], indexes(42, 100));
    }

    #[test]
    fn a_window_that_is_kept_fires_with_the_same_samples() {
        for holes in [&[0, 100][..], &[0, 40, 43, 100]] {
            let [kept, gone] = [true, false].map(|grows| {
                let mut windows = Windows::default();
                for part in holes.chunks(2) {
                    let _ = place(&mut windows, 0, part[0], part[1]);
                }
                let samples = fire_growing(&mut windows, SECOND, grows).remove(0).samples;
                samples.iter().map(|sample| sample.to_bits()).collect::<Vec<_>>()
            });
            assert_eq!((kept.len(), &kept), (100, &gone), "{holes:?}");
        }
    }

    #[test]
    fn late_samples_are_counted_and_change_nothing() {
        let mut windows = Windows::default();
        let _ = place(&mut windows, 0, 0, 90);
        assert_eq!(fire(&mut windows, SECOND).len(), 1);
        assert_eq!(place(&mut windows, 0, 90, 110), Misplaced { late: 10, ahead: 0 });
        assert!(fire(&mut windows, SECOND).is_empty());
    }

    #[test]
    fn a_stamp_far_ahead_is_quarantined_and_closes_nothing() {
        let mut windows = Windows::default();
        let _ = place(&mut windows, 0, 0, 90);
        let far = run(4_000_000 * SECOND, 90, &[0.0; 10]);
        let misplaced = windows.place(&far, cut, &settings(), EventTime(0));
        assert_eq!(misplaced, Misplaced { late: 0, ahead: 10 });
        assert_eq!(place(&mut windows, 0, 90, 100), Misplaced::default());
        assert_eq!(fire(&mut windows, SECOND)[0].samples, indexes(0, 100));
    }

    #[test]
    fn what_comes_for_a_window_that_is_kept_corrects_it() {
        let mut windows = Windows::default();
        let _ = place(&mut windows, 0, 0, 90);
        let fired = fire_growing(&mut windows, SECOND, true).remove(0);
        assert_eq!((fired.revision, fired.decided, fired.current), (0, false, true));
        assert_eq!(place(&mut windows, 0, 90, 100), Misplaced::default());
        let fired = fire(&mut windows, SECOND).remove(0);
        assert_eq!((fired.revision, fired.decided, fired.current), (1, true, false));
        assert_eq!(fired.samples, indexes(0, 100));
        // Nothing more can come, so it is not kept any longer.
        assert!(windows.kept.is_empty());
    }

    #[test]
    fn windows_of_the_past_are_neither_too_late_nor_of_now() {
        let mut windows = Windows::default();
        let _ = place(&mut windows, 0, 500, 600);
        assert!(fire(&mut windows, 6 * SECOND)[0].current);
        for second in [3, 1, 2] {
            assert_eq!(
                place(&mut windows, 0, second * RATE, (second + 1) * RATE),
                Misplaced::default()
            );
            let fired = fire(&mut windows, 6 * SECOND).remove(0);
            assert_eq!((fired.decided, fired.current), (true, false), "{second}");
        }
        assert_eq!(windows.fired, [(SECOND, 4 * SECOND), (5 * SECOND, 6 * SECOND)]);
        let history = Run {
            backfill: true,
            ..run(0, 600, &[0.0; 100])
        };
        let _ = windows.place(&history, cut, &settings(), EventTime(0));
        let fired = fire(&mut windows, 7 * SECOND).remove(0);
        assert!(fired.backfill && !fired.current, "history says nothing of now");
    }

    #[test]
    fn live_windows_fire_in_order_and_history_does_not_hold_them_back() {
        let mut windows = Windows::default();
        let _ = place(&mut windows, 0, 0, 300);
        let history = Run {
            backfill: true,
            ..run(0, 400, &[0.0; 100])
        };
        let _ = windows.place(&history, cut, &settings(), EventTime(0));
        let mut fire = |waiting: i64| {
            let look = |span: &Span| Outlook {
                due: span.start != waiting * SECOND,
                grows: false,
            };
            let fired = std::iter::from_fn(|| windows.fire(&settings(), look));
            fired.map(|fired| fired.start.0 / SECOND).collect::<Vec<_>>()
        };
        assert_eq!(fire(1), [0, 4]);
        assert_eq!(fire(9), [1, 2]);
    }

    #[test]
    fn what_is_kept_and_what_is_known_to_have_fired_is_bounded() {
        let mut windows = Windows::default();
        let now = EventTime(1_000 * SECOND);
        let place = |windows: &mut Windows, first: u64, end: u64| {
            windows.place(&run(0, first, &indexes(first, end)), cut, &settings(), now)
        };
        for n in 0..2 * SPANS_MAX as u64 {
            let _ = place(&mut windows, 2 * n * RATE, 2 * n * RATE + 50);
            assert_eq!(fire_growing(&mut windows, i64::MAX, true).len(), 1);
        }
        assert_eq!((windows.kept.len(), windows.fired.len()), (KEPT_MAX, SPANS_MAX));
        // The first one was given up: what comes for it, and for what lay between, is too late.
        assert_eq!(place(&mut windows, 50, 60), Misplaced { late: 10, ahead: 0 });
        assert_eq!(place(&mut windows, 110, 120), Misplaced { late: 10, ahead: 0 });
        let last = (4 * SPANS_MAX as u64 - 2) * RATE;
        assert_eq!(place(&mut windows, last + 50, last + 60), Misplaced::default());
    }

    #[test]
    fn two_boots_do_not_make_one_signal() {
        let mut windows = Windows::default();
        let _ = place(&mut windows, 0, 0, 50);
        let values = indexes(0, 50);
        let other = Run {
            boot: BootId::new(2, 0),
            ..run(SECOND / 2, 0, &values)
        };
        let _ = windows.place(&other, cut, &settings(), EventTime(0));
        let fired = fire(&mut windows, SECOND).remove(0);
        assert_eq!((fired.placed, fired.coverage, fired.decided), (100, 1.0, false));
    }

    #[test]
    fn two_units_do_not_make_one_signal_and_a_window_keeps_the_one_it_began_with() {
        let mut windows = Windows::default();
        let _ = place(&mut windows, 0, 0, 150);
        let values = indexes(150, 300);
        let mut other = run(0, 150, &values);
        other.signal.unit = Unit::MetrePerSecondSquared;
        let _ = windows.place(&other, cut, &settings(), EventTime(0));
        let fired: Vec<_> = fire(&mut windows, 3 * SECOND)
            .iter()
            .map(|fired| (fired.signal.unit, fired.decided))
            .collect();
        let (before, after) = (Unit::StandardGravity, Unit::MetrePerSecondSquared);
        assert_eq!(fired, [(before, true), (before, false), (after, true)]);
    }

    #[test]
    fn a_silent_lane_fires_by_the_journals_clock() {
        for backfill in [false, true] {
            let mut windows = Windows::default();
            let part = Run {
                backfill,
                ..run(0, 0, &[0.0; 40])
            };
            let _ = windows.place(&part, cut, &settings(), EventTime(0));
            let look = |_: &Span| Outlook {
                due: false,
                grows: true,
            };
            let mut fire = |now, idle| windows.fire_idle(EventTime(now), idle, &settings(), look);
            assert_eq!(fire(SECOND - 1, [true; 2]), None);
            assert_eq!(
                fire(SECOND, [backfill, !backfill]),
                None,
                "the other lane is silent"
            );
            let fired = fire(SECOND, [!backfill, backfill]).unwrap();
            assert_eq!((fired.placed, fired.decided), (40, false));
        }
    }

    #[test]
    fn a_clock_that_stands_still_fills_no_memory() {
        let mut windows = Windows::default();
        for n in 0..1_000 {
            let stuck = Run {
                first: n * 100,
                ..run(0, 0, &[1.0; 90])
            };
            let _ = windows.place(&stuck, cut, &settings(), EventTime(0));
        }
        assert!(windows.open.values().all(|open| open.runs.is_empty()));
        assert!(!fire(&mut windows, SECOND)[0].decided);
    }

    #[test]
    fn absurd_stamps_are_placed_or_quarantined() {
        let mut windows = Windows::default();
        for (time, ahead) in [(i64::MIN, 0), (i64::MAX, 2)] {
            let absurd = Run {
                time: EventTime(time),
                ..run(0, 0, &[1.0; 2])
            };
            let misplaced = windows.place(&absurd, cut, &settings(), EventTime(0));
            assert_eq!(misplaced, Misplaced { late: 0, ahead });
        }
    }

    #[test]
    fn open_windows_are_bounded() {
        let mut windows = Windows::default();
        for n in 0..3 * OPEN_MAX as u64 {
            let _ = place(&mut windows, 0, n * RATE + 10, n * RATE + 20);
            let _ = fire(&mut windows, 0);
        }
        assert_eq!(windows.open.len(), OPEN_MAX);
    }

    #[test]
    fn where_the_grid_changes_both_windows_end_and_are_judged_by_their_full_length() {
        let change = 2 * SECOND + SECOND / 2;
        let cut = |time: EventTime| {
            let before = time.0 < change;
            Cut {
                grid: Grid {
                    size_ns: if before { SECOND } else { 2 * SECOND },
                    offset_ns: 0,
                },
                from: if before { i64::MIN } else { change },
                to: if before { change } else { i64::MAX },
            }
        };
        let values = indexes(0, 800);
        let mut windows = Windows::default();
        let _ = windows.place(&run(0, 0, &values), cut, &settings(), EventTime(0));
        let fired: Vec<_> = fire(&mut windows, 9 * SECOND)
            .iter()
            .map(|fired| {
                (
                    fired.start.0 * 10 / SECOND,
                    fired.end.0 * 10 / SECOND,
                    fired.placed,
                    fired.decided,
                )
            })
            .collect();
        assert_eq!(
            fired,
            [
                (0, 10, 100, true),
                (10, 20, 100, true),
                (20, 25, 50, false),
                (25, 40, 150, false),
                (40, 60, 200, true),
                (60, 80, 200, true),
            ]
        );
    }

    proptest! {
        /// Frames in any order, fired at the end: the same windows as in order.
        #[test]
        fn the_order_of_arrival_does_not_matter(
            (start, order) in (0i64..2_000, Just((0u64..12).collect::<Vec<_>>()).prop_shuffle()),
        ) {
            let t0 = start * 1_000_000;
            let play = |order: &[u64]| {
                let mut windows = Windows::default();
                for n in order {
                    let _ = place(&mut windows, t0, n * 37, (n + 1) * 37);
                }
                fire(&mut windows, i64::MAX)
            };
            let expected = play(&(0..12).collect::<Vec<_>>());
            // As text, since a missing sample is not equal to itself.
            prop_assert_eq!(format!("{:?}", play(&order)), format!("{expected:?}"));
        }
    }
}
