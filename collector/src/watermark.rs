//! How far a channel's event time has come, and where something may still be filled in. Pure.
//!
//! A channel's samples come over two lanes, live and as history (backfill), and history comes in
//! either direction beside the live samples. So the highest time seen says little. What counts is the
//! order at the source: a node numbers its frames, and a channel's samples rise with them. Between two
//! frames that have come, with a frame missing in between, lies an opening: the channel's samples
//! between the two may still come, and nothing else. Where no sample index is missing between them,
//! the missing frame is another channel's.
//!
//! | window | is due when its end is behind | and with an opening in it |
//! |---|---|---|
//! | with live samples | the latest live sample | once live samples lie `trail_ns` past where the opening begins |
//! | of history alone | any sample of its boot | not before the opening has closed |
//!
//! A window that has fired is kept until live samples lie `lateness_ns` past its end, and for as long as
//! history may come for it.
//!
//! A node repeats a lost frame at once, so an opening that live samples have left behind is an outage's:
//! history will fill it, and live windows do not wait for that. What comes for a window that has
//! fired corrects it. A source never looks at another one, so a broken clock or an idle neighbour holds
//! nobody back; a lane that fell silent is idle by the journal's clock.
//!
//! | memory of a channel | bound | what happens there |
//! |---|---|---|
//! | boots | [`BOOTS_MAX`] | the one heard of longest ago is forgotten: its windows wait for nothing |
//! | islands per boot | ranges of a [`FrameSet`] | closing a hole there joins the islands around it |

use crate::ingest::dedup::FrameSet;
use serde::{Deserialize, Serialize};
use trunnion_common::frame::Class;
use trunnion_common::id::BootId;
use trunnion_common::sequence::Range;
use trunnion_common::time::EventTime;

/// Boots of a channel's node whose samples may come in turns: the running one, and those of a backlog.
pub const BOOTS_MAX: usize = 4;

/// Before every time stamp.
const NEVER: EventTime = EventTime(i64::MIN);

/// A frame's samples, placed in event time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Which boot counted them.
    pub boot: BootId,
    /// The frame's class.
    pub class: Class,
    /// The frame's number in its boot and class.
    pub sequence: u64,
    /// The samples' indexes.
    pub samples: Range,
    /// Event time of the first one.
    pub start: EventTime,
    /// Event time after the last one.
    pub end: EventTime,
    /// Whether they came as history.
    pub backfill: bool,
}

/// A window, as far as progress is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Its start, nanoseconds UTC.
    pub start: i64,
    /// Its end, exclusive.
    pub end: i64,
    /// Whose samples it holds.
    pub boot: BootId,
    /// Time between two samples, nanoseconds; 0 when each has a time of its own.
    pub period_ns: i64,
    /// Whether live samples are in it, and it has not fired.
    pub live: bool,
}

/// How long windows wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// For what comes late, after the end has been passed, nanoseconds.
    pub lateness_ns: i64,
    /// For an opening, in live samples past its beginning, nanoseconds.
    pub trail_ns: i64,
}

/// What may become of a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outlook {
    /// It need not wait any longer.
    pub due: bool,
    /// More samples may come for it, or come late and correct it.
    pub grows: bool,
}

/// How far event time has come at one channel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Watermark {
    /// Where live samples end.
    live: EventTime,
    /// When something was last heard, live and as history, by the journal's clock.
    heard: [EventTime; 2],
    /// In the order in which they were last heard of.
    tracks: Vec<Track>,
}

impl Default for Watermark {
    fn default() -> Self {
        Self {
            live: NEVER,
            heard: [NEVER; 2],
            tracks: Vec::new(),
        }
    }
}

impl Watermark {
    /// Samples have come, at the journal's time `now`; `received` are the frames of their boot and class.
    pub fn observe(&mut self, arrival: &Arrival, received: &FrameSet, now: EventTime) {
        let heard = &mut self.heard[usize::from(arrival.backfill)];
        *heard = now.max(*heard);
        if !arrival.backfill {
            self.live = self.live.max(arrival.end);
        }
        let same = |track: &Track| (track.boot, track.class) == (arrival.boot, arrival.class);
        match self.tracks.iter().rposition(same) {
            Some(at) => self.tracks[at..].rotate_left(1),
            None => {
                if self.tracks.len() >= BOOTS_MAX {
                    self.tracks.remove(0);
                }
                self.tracks.push(Track::new(arrival.boot, arrival.class));
            }
        }
        if let Some(track) = self.tracks.last_mut() {
            track.add(Island::new(arrival), received);
        }
    }

    /// Brings the openings up to date. `frames` says which frames of a boot and class have been received,
    /// and whether any samples of that boot wait for a clock fix or a channel table.
    pub fn settle<'a>(&mut self, mut frames: impl FnMut(BootId, Class) -> (&'a FrameSet, bool)) {
        for track in &mut self.tracks {
            let (received, waiting) = frames(track.boot, track.class);
            track.settle(received);
            track.waiting = waiting.then(|| track.waiting.unwrap_or(self.live));
        }
    }

    /// What may become of a window.
    pub fn outlook(&self, span: &Span, patience: Patience) -> Outlook {
        let end = EventTime(span.end);
        let may_correct = patience.lateness_ns > 0 && self.live < end.plus_nanos(patience.lateness_ns);
        let Some(track) = self.tracks.iter().find(|track| track.boot == span.boot) else {
            let due = !span.live || self.live >= end;
            return Outlook {
                due,
                grows: may_correct,
            };
        };
        let left_behind = |since: EventTime| self.live >= since.plus_nanos(patience.trail_ns);
        let openings = || track.openings().filter(|opening| opening.touches(span));
        let open = openings().next().is_some() || track.waiting.is_some();
        let due = if span.live {
            self.live >= end
                && openings().all(|opening| left_behind(opening.since))
                && track.waiting.is_none_or(left_behind)
        } else {
            track.end() >= end && !open
        };
        let grows = track.end() < end || open || may_correct;
        Outlook { due, grows }
    }

    /// From when on the journal's time counts as silent if nothing more comes, for live samples and for
    /// history.
    pub fn silent_from(&self, idle_ns: i64) -> [EventTime; 2] {
        self.heard.map(|heard| heard.plus_nanos(idle_ns))
    }

    /// Where live samples end.
    pub const fn live(&self) -> EventTime {
        self.live
    }

    /// What may become of a window that takes the samples of all boots alike. Of each boot nothing can come
    /// from before an earlier one's end, nor from after a later one's beginning.
    pub fn outlook_of_all(&self, start: i64, end: i64, live: bool, trail_ns: i64) -> Outlook {
        let left_behind = |since: EventTime| self.live >= since.plus_nanos(trail_ns);
        let reached = self.tracks.iter().map(Track::end).max().unwrap_or(NEVER);
        let waiting = || self.tracks.iter().filter_map(|track| track.waiting);
        let span = |track: &Track| Span {
            start,
            end,
            boot: track.boot,
            period_ns: 0,
            live,
        };
        let openings = || {
            self.tracks.iter().flat_map(|track| {
                let openings = self.openings_of(track);
                openings.filter(|opening| opening.touches(&span(track)))
            })
        };
        let open = openings().next().is_some() || waiting().next().is_some();
        let due = if live {
            self.live.0 >= end
                && openings().all(|opening| left_behind(opening.since))
                && waiting().all(left_behind)
        } else {
            reached.0 >= end && !open
        };
        let grows = reached.0 < end || open;
        Outlook { due, grows }
    }

    fn openings_of<'a>(&'a self, track: &'a Track) -> impl Iterator<Item = Opening> + 'a {
        let boot = track.boot.counter();
        let earlier = self
            .tracks
            .iter()
            .filter(move |other| other.boot.counter() < boot);
        let later = self
            .tracks
            .iter()
            .filter(move |other| other.boot.counter() > boot);
        let least = earlier.map(Track::end).max().unwrap_or(NEVER);
        let most = later.map(Track::start).min().unwrap_or(EventTime(i64::MAX));
        track.openings().map(move |opening| Opening {
            from: opening.from.max(least),
            to: opening.to.min(most),
            since: opening.since,
        })
    }

    /// How far a lane has come: where live samples end; or the oldest place where history is still to be
    /// filled in, and where samples end if there is none. `None` before anything has come.
    pub fn reached(&self, backfill: bool) -> Option<EventTime> {
        let reached = if backfill {
            let openings = self.tracks.iter().flat_map(Track::openings);
            let oldest = openings.map(|opening| opening.since).min();
            oldest.or_else(|| self.tracks.iter().map(Track::end).max())?
        } else {
            self.live
        };
        (reached != NEVER).then_some(reached)
    }

    /// Whether nothing has come for `idle_ns` of the journal's time, live or as history.
    pub fn is_idle(&self, backfill: bool, now: EventTime, idle_ns: i64) -> bool {
        now.nanos_since(self.heard[usize::from(backfill)]) >= idle_ns
    }
}

/// What has come of one boot's channel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Track {
    boot: BootId,
    class: Class,
    /// By rising frame number; each in a run of its own of the class's frames.
    islands: Vec<Island>,
    /// Whether frames are missing below the lowest island.
    below: bool,
    /// Whether frames are missing between the highest island and other channels' frames above it.
    above: bool,
    /// Samples of the boot wait for what explains them; how far live samples had come by then.
    waiting: Option<EventTime>,
}

/// Frames of the channel with no frame missing between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Island {
    frames: (u64, u64),
    samples: (u64, u64),
    start: EventTime,
    end: EventTime,
}

/// Where samples may still come, in event time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Opening {
    from: EventTime,
    to: EventTime,
    /// Live windows wait for it from here on.
    since: EventTime,
}

impl Track {
    const fn new(boot: BootId, class: Class) -> Self {
        Self {
            boot,
            class,
            islands: Vec::new(),
            below: false,
            above: false,
            waiting: None,
        }
    }

    fn add(&mut self, island: Island, received: &FrameSet) {
        let place = run(received, island.frames.0);
        match self.islands.last_mut() {
            // In order, as nearly always.
            Some(last) if last.frames.1 <= island.frames.0 && run(received, last.frames.1) == place => {
                last.join(island);
            }
            _ => {
                let at = self
                    .islands
                    .partition_point(|known| known.frames.0 <= island.frames.0);
                self.islands.insert(at, island);
                self.settle(received);
            }
        }
    }

    /// Joins islands between which no frame is missing any more.
    fn settle(&mut self, received: &FrameSet) {
        self.islands.dedup_by(|upper, lower| {
            let joined = run(received, lower.frames.1) == run(received, upper.frames.0);
            if joined {
                lower.join(*upper);
            }
            joined
        });
        let (lowest, highest) = (self.islands.first(), self.islands.last());
        self.below = lowest.is_some_and(|lowest| lowest.frames.0 >= received.upto());
        self.above = highest.is_some_and(|highest| run(received, highest.frames.1) < received.ranges().len());
    }

    fn openings(&self) -> impl Iterator<Item = Opening> + '_ {
        let lowest = self.islands.first();
        let below = lowest.filter(|lowest| self.below && lowest.samples.0 > 0);
        let below = below.map(|lowest| Opening {
            from: NEVER,
            to: lowest.start,
            since: lowest.start,
        });
        let between = self.islands.windows(2).filter_map(|pair| match pair {
            [lower, upper] if lower.samples.1 < upper.samples.0 => Some(Opening {
                from: lower.end,
                to: upper.start,
                since: lower.end,
            }),
            _ => None,
        });
        let above = self.islands.last().filter(|_| self.above);
        let above = above.map(|highest| Opening {
            from: highest.end,
            to: EventTime(i64::MAX),
            since: highest.end,
        });
        below.into_iter().chain(between).chain(above)
    }

    /// Where its samples begin.
    fn start(&self) -> EventTime {
        let starts = self.islands.iter().map(|island| island.start);
        starts.min().unwrap_or(EventTime(i64::MAX))
    }

    /// Where its samples end.
    fn end(&self) -> EventTime {
        let ends = self.islands.iter().map(|island| island.end);
        ends.max().unwrap_or(NEVER)
    }
}

impl Island {
    const fn new(arrival: &Arrival) -> Self {
        Self {
            frames: (arrival.sequence, arrival.sequence),
            samples: (arrival.samples.first(), arrival.samples.end()),
            start: arrival.start,
            end: arrival.end,
        }
    }

    fn join(&mut self, other: Self) {
        let hull = |a: (u64, u64), b: (u64, u64)| (a.0.min(b.0), a.1.max(b.1));
        self.frames = hull(self.frames, other.frames);
        self.samples = hull(self.samples, other.samples);
        self.start = self.start.min(other.start);
        self.end = self.end.max(other.end);
    }
}

impl Opening {
    /// Whether a sample may come into the window. Half a sample is the clock's jitter, as frames are
    /// stamped one by one.
    fn touches(&self, span: &Span) -> bool {
        let half = span.period_ns / 2;
        self.from.0 < span.end.saturating_sub(half) && self.to.0.saturating_sub(half) > span.start
    }
}

/// Which run of the frames received a frame is in, from below.
fn run(received: &FrameSet, frame: u64) -> usize {
    if frame < received.upto() {
        return 0;
    }
    let ranges = received.ranges();
    1 + (ranges.iter().position(|range| frame < range.end())).unwrap_or(ranges.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        lateness_ns: 0,
        trail_ns: 30,
    };

    /// A channel whose frame `n` holds samples `10n..10n + 10`, one each nanosecond.
    struct Source {
        mark: Watermark,
        received: FrameSet,
    }

    impl Source {
        fn new() -> Self {
            Self {
                mark: Watermark::default(),
                received: FrameSet::new(),
            }
        }

        fn frame(&mut self, n: u64, backfill: bool) -> &mut Self {
            let _ = self.received.insert(n);
            let arrival = Arrival {
                boot: BootId::new(1, 0),
                class: Class::Waveform,
                sequence: n,
                samples: Range::new(10 * n, 10 * n + 10).unwrap(),
                start: EventTime(10 * n as i64),
                end: EventTime(10 * n as i64 + 10),
                backfill,
            };
            self.mark.observe(&arrival, &self.received, EventTime(1));
            self
        }

        fn live(&mut self, frames: impl IntoIterator<Item = u64>) -> &mut Self {
            for n in frames {
                self.frame(n, false);
            }
            self
        }

        fn history(&mut self, frames: impl IntoIterator<Item = u64>) -> &mut Self {
            for n in frames {
                self.frame(n, true);
            }
            self
        }

        /// Frames that nobody will ever send, or another channel's.
        fn others(&mut self, frames: impl IntoIterator<Item = u64>) -> &mut Self {
            for n in frames {
                let _ = self.received.insert(n);
            }
            self
        }

        /// Of windows of 20 ns: whether it is due and whether it grows, by letter. `.` waits, `w` waits
        /// for what is to come, `d` is due, `D` is due and grows.
        fn windows(&mut self, live: bool, starts: impl IntoIterator<Item = i64>) -> String {
            let received = self.received.clone();
            self.mark.settle(|_, _| (&received, false));
            let letter = |start: i64| {
                let span = Span {
                    start,
                    end: start + 20,
                    boot: BootId::new(1, 0),
                    period_ns: 1,
                    live,
                };
                match self.mark.outlook(&span, PATIENCE) {
                    Outlook {
                        due: false,
                        grows: false,
                    } => '.',
                    Outlook {
                        due: false,
                        grows: true,
                    } => 'w',
                    Outlook {
                        due: true,
                        grows: false,
                    } => 'd',
                    Outlook {
                        due: true,
                        grows: true,
                    } => 'D',
                }
            };
            starts.into_iter().map(letter).collect()
        }
    }

    #[test]
    fn in_order_a_window_is_due_when_its_end_is_passed() {
        let mut source = Source::new();
        assert_eq!(source.live(0..4).windows(true, [0, 20, 40]), "ddw");
        assert_eq!(source.live(4..5).windows(true, [0, 20, 40]), "ddw");
        assert_eq!(source.live(5..6).windows(true, [40]), "d");
    }

    #[test]
    fn a_lost_frame_holds_back_its_own_window_by_the_bound_and_no_further() {
        let mut source = Source::new();
        // Frame 2 is missing: its samples lie in 20..30.
        assert_eq!(source.live([0, 1, 3]).windows(true, [0, 20]), "dw");
        assert_eq!(
            source.live([4]).windows(true, [0, 20, 30]),
            "dDd",
            "50 is 30 past 20"
        );
        assert_eq!(source.live([2]).windows(true, [0, 20]), "dd");
    }

    #[test]
    fn lateness_delays_no_window_and_keeps_it_until_so_much_later() {
        let patient = Patience {
            lateness_ns: 15,
            ..PATIENCE
        };
        let span = Span {
            start: 0,
            end: 20,
            boot: BootId::new(1, 0),
            period_ns: 1,
            live: true,
        };
        let mut source = Source::new();
        let outlooks = [1, 2, 3, 4].map(|frames| {
            source.live(frames - 1..frames);
            source.mark.outlook(&span, patient)
        });
        let seen = outlooks.map(|outlook| (outlook.due, outlook.grows));
        // Samples end at 10, 20, 30 and 40.
        assert_eq!(seen, [(false, true), (true, true), (true, true), (true, false)]);
    }

    #[test]
    fn live_windows_do_not_wait_for_what_history_will_fill() {
        let mut source = Source::new();
        source.live(0..5).live(105..108);
        // The window where the outage begins, the one where it ends, and one of now.
        assert_eq!(source.windows(true, [40, 1_040, 1_060]), "DDd");
        for n in (90..105).rev() {
            assert_eq!(
                source.history([n]).windows(true, [1_060]),
                "d",
                "newest first, {n}"
            );
        }
        for n in 5..20 {
            assert_eq!(
                source.history([n]).windows(true, [1_060]),
                "d",
                "oldest first, {n}"
            );
        }
    }

    #[test]
    fn history_is_due_when_nothing_can_be_filled_in_whatever_the_direction() {
        let mut newest = Source::new();
        newest.live(0..5).live(105..108).history(101..105);
        assert_eq!(newest.windows(false, [980, 1_000, 1_020, 1_040]), "wwdd");
        newest.history(97..101);
        assert_eq!(newest.windows(false, [960, 980, 1_000]), "wdd");
        let mut oldest = Source::new();
        oldest.live(0..5).live(105..108).history(5..9);
        assert_eq!(oldest.windows(false, [40, 60, 80]), "ddw");
    }

    #[test]
    fn a_frame_of_another_channel_holds_nobody_back() {
        let mut source = Source::new();
        let arrival = |n: u64, sequence| Arrival {
            boot: BootId::new(1, 0),
            class: Class::Waveform,
            sequence,
            samples: Range::new(10 * n, 10 * n + 10).unwrap(),
            start: EventTime(10 * n as i64),
            end: EventTime(10 * n as i64 + 10),
            backfill: true,
        };
        // Each second frame is this channel's; the others are missing.
        for n in 0..6 {
            let _ = source.received.insert(2 * n);
            source
                .mark
                .observe(&arrival(n, 2 * n), &source.received, EventTime(1));
        }
        assert_eq!(source.windows(false, [0, 20, 40]), "ddd");
    }

    #[test]
    fn frames_that_are_given_up_are_not_waited_for() {
        let mut source = Source::new();
        source.history([0, 1, 4, 5]);
        assert_eq!(source.windows(false, [0, 20, 40]), "dwd");
        assert_eq!(source.others([2, 3]).windows(false, [0, 20, 40]), "ddd");
    }

    #[test]
    fn what_lies_below_the_first_frame_or_above_the_last_may_still_come() {
        let mut source = Source::new();
        source.history(4..7).others([9]);
        assert_eq!(source.windows(false, [20, 40, 50, 60]), "wddw");
        assert_eq!(source.others(0..4).windows(false, [20, 40]), "dd");
        assert_eq!(source.others(7..9).windows(false, [50, 60]), "dw");
    }

    #[test]
    fn while_samples_wait_for_their_clock_history_stands_still_and_live_windows_trail() {
        let mut source = Source::new();
        source.live(0..4);
        let received = source.received.clone();
        let span = |start, live| Span {
            start,
            end: start + 20,
            boot: BootId::new(1, 0),
            period_ns: 1,
            live,
        };
        source.mark.settle(|_, _| (&received, true));
        assert!(!source.mark.outlook(&span(0, true), PATIENCE).due);
        assert!(!source.mark.outlook(&span(0, false), PATIENCE).due);
        source.live(4..7);
        let received = source.received.clone();
        source.mark.settle(|_, _| (&received, true));
        assert!(source.mark.outlook(&span(0, true), PATIENCE).due);
        assert!(!source.mark.outlook(&span(0, false), PATIENCE).due);
    }

    #[test]
    fn silence_is_measured_by_lane_from_the_last_sample_heard() {
        let mut source = Source::new();
        source.live([0]);
        assert!(!source.mark.is_idle(false, EventTime(60), 60));
        assert!(source.mark.is_idle(false, EventTime(61), 60));
        assert!(source.mark.is_idle(true, EventTime(1), 60), "never heard");
    }

    #[test]
    fn memory_is_bounded() {
        let mut source = Source::new();
        for n in 0..1_000 {
            source.frame(2 * n, n % 2 == 0);
        }
        let islands = source.mark.tracks.iter().map(|track| track.islands.len());
        assert!(islands.sum::<usize>() <= 1 + crate::ingest::dedup::frame_set::RANGES_MAX);
        for boot in 0..100 {
            let arrival = Arrival {
                boot: BootId::new(boot, 0),
                class: Class::Waveform,
                sequence: 0,
                samples: Range::new(0, 10).unwrap(),
                start: EventTime(0),
                end: EventTime(10),
                backfill: false,
            };
            source.mark.observe(&arrival, &FrameSet::new(), EventTime(1));
        }
        assert_eq!(source.mark.tracks.len(), BOOTS_MAX);
    }
}
