//! What windows of readings promise, point by point, with the numbers of those who promised it before.
//!
//! Points 4 to 6, 10 to 12 and 14 are facts of Flink's and RisingWave's own tests. Their times are
//! milliseconds, and Flink's watermark of `T` ms says that nothing up to and including `T` comes any more:
//! [`flink`] makes our exclusive one of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use proptest::test_runner::Config;
use std::collections::{BTreeMap, BTreeSet};
use trunnion_collector::watermark::Outlook;
use trunnion_collector::window::scalar::{Scalar, Summary, Value};
use trunnion_collector::window::shape::{Kind, Shape};
use trunnion_collector::window::source_mark::{ClockVerdict, CombinedMark, Reader, SourceMark, Trust};
use trunnion_collector::window::stream::{Cause, Emit, Emitted, Extent, Lane, Marks, Placed, Rules, Stream};
use trunnion_common::time::EventTime;

const MS: i64 = 1_000_000;

fn ms(time: i64) -> EventTime {
    EventTime(time * MS)
}

/// Flink's watermark as ours.
fn flink(watermark: i64) -> EventTime {
    ms(watermark + 1)
}

fn tumbling(size: i64) -> Kind {
    Kind::Tumbling { size_ns: size * MS }
}

fn hopping(size: i64, slide: i64) -> Kind {
    Kind::Hopping {
        size_ns: size * MS,
        slide_ns: slide * MS,
    }
}

fn session(gap: i64) -> Kind {
    Kind::Session { gap_ns: gap * MS }
}

/// A stream of one key, played in milliseconds.
struct Play {
    stream: Stream<u32>,
    watermark: EventTime,
}

/// What was told of a window: start, end, count, revision.
type Told = (i64, i64, u64, u32);

impl Play {
    fn new(kind: Kind) -> Self {
        Self::with(kind, 0, Emit::Close)
    }

    fn with(kind: Kind, lateness: i64, emit: Emit) -> Self {
        Self {
            stream: Stream::new(rules(kind, lateness, emit)),
            watermark: EventTime(i64::MIN),
        }
    }

    /// Events come, each with its time as its value.
    fn events(&mut self, times: impl IntoIterator<Item = i64>) -> Placed {
        let readings = times.into_iter().map(|time| (ms(time), time as f64));
        self.stream.place(&1, Lane::Live, &self.watermark, readings)
    }

    fn verdict(&mut self, time: i64) -> &'static str {
        match self.events([time]) {
            Placed { on_time: 1, .. } => "on time",
            Placed { corrects: 1, .. } => "corrects",
            Placed { late: 1, .. } => "too late",
            _ => "unusable",
        }
    }

    /// The watermark moves; what is told.
    fn emitted(&mut self, watermark: EventTime) -> Vec<Emitted<u32>> {
        self.watermark = self.watermark.max(watermark);
        self.stream.advance(&1, &self.watermark)
    }

    fn told(&mut self, watermark: EventTime) -> Vec<Told> {
        let told = |emitted: &Emitted<u32>| {
            let count = emitted.new.map_or(0, |new| new.count);
            (emitted.start.0 / MS, emitted.end.0 / MS, count, emitted.revision)
        };
        self.emitted(watermark).iter().map(told).collect()
    }
}

fn rules(kind: Kind, lateness: i64, emit: Emit) -> Rules {
    Rules {
        shape: Shape::new(kind, 0).unwrap(),
        lateness_ns: lateness * MS,
        emit,
        quantiles: true,
    }
}

fn shape(kind: Kind, offset: i64) -> Shape {
    Shape::new(kind, offset * MS).unwrap()
}

#[test]
fn point_1_windows_are_half_open_and_aligned_to_the_epoch_plus_an_offset_also_before_it() {
    let start = |offset: i64, time: i64| {
        shape(tumbling(2_000), offset)
            .windows(time * MS)
            .next()
            .unwrap()
            .0
            / MS
    };
    assert_eq!([0, 1_999, 2_000].map(|time| start(0, time)), [0, 0, 2_000]);
    assert_eq!(
        [-1, -2_000, -2_001].map(|time| start(0, time)),
        [-2_000, -2_000, -4_000]
    );
    assert_eq!([0, 499, 500].map(|time| start(500, time)), [-1_500, -1_500, 500]);
    assert_eq!(
        [-501, -500, 0].map(|time| start(-500, time)),
        [-2_500, -500, -500]
    );
    let mut play = Play::new(tumbling(2_000));
    let _ = play.events([-2_000, -1, 0]);
    assert_eq!(play.told(ms(2_000)), [(-2_000, 0, 2, 0), (0, 2_000, 1, 0)]);
}

#[test]
fn point_2_an_event_belongs_to_size_by_slide_hopping_windows_and_no_multiple_is_refused() {
    let mut play = Play::new(hopping(3_000, 1_000));
    assert_eq!(play.verdict(2_400), "on time");
    assert_eq!(
        play.told(ms(9_000)),
        [(0, 3_000, 1, 0), (1_000, 4_000, 1, 0), (2_000, 5_000, 1, 0)]
    );
    let refused = Shape::new(hopping(2_500, 1_000), 0).unwrap_err().to_string();
    assert!(refused.contains("no multiple"), "{refused}");
}

#[test]
fn point_3_a_window_fires_when_the_exclusive_watermark_reaches_its_end() {
    let mut play = Play::new(tumbling(2_000));
    let _ = play.events([1_000]);
    assert_eq!(play.told(EventTime(2_000 * MS - 1)), []);
    assert_eq!(
        play.told(EventTime(2_000 * MS)),
        [(0, 2_000, 1, 0)],
        "as RisingWave: >= end"
    );
    // Flink's rule, watermark >= end - 1 ms, says the same of its own watermarks.
    let _ = play.events([3_000]);
    assert_eq!(play.told(flink(3_998)), []);
    assert_eq!(play.told(flink(3_999)), [(2_000, 4_000, 1, 0)]);
}

#[test]
fn point_4_without_lateness_an_event_is_kept_until_its_window_fires_and_late_after_it() {
    let mut play = Play::new(tumbling(2_000));
    let _ = play.events([1_000]);
    assert_eq!(play.told(flink(1_985)), []);
    assert_eq!(play.verdict(1_980), "on time");
    assert_eq!(play.told(flink(1_999)), [(0, 2_000, 2, 0)]);
    assert_eq!(play.verdict(1_998), "too late");
    assert_eq!(play.told(flink(1_999)), []);
}

#[test]
fn point_5_lateness_is_judged_by_each_window_on_its_own() {
    let mut play = Play::new(hopping(3_000, 1_000));
    assert_eq!(play.told(flink(3_000)), []);
    // Late for the window that ends at 2999 (Flink's way to say it), kept in 3999 and 4999.
    assert_eq!(play.verdict(2_400), "on time");
    assert_eq!(
        play.told(flink(4_999)),
        [(1_000, 4_000, 1, 0), (2_000, 5_000, 1, 0)]
    );
    assert_eq!(
        play.verdict(2_400),
        "too late",
        "once all of its windows are over"
    );
}

#[test]
fn point_6_a_bridging_event_makes_one_session_and_late_ones_revive_fuse_and_fire_nothing() {
    let mut play = Play::new(session(3_000));
    let _ = play.events([1_000, 2_000, 4_500, 8_500]);
    let _ = play.events([7_000]);
    assert_eq!(play.told(flink(11_499)), [(1_000, 11_500, 5, 0)]);
    // Closed: an event inside, one in reach before and one in reach after it are late.
    for late in [7_000, 900, 11_400] {
        assert_eq!(play.verdict(late), "too late", "{late}");
    }
    assert_eq!(play.verdict(15_000), "on time");
    assert_eq!(
        play.verdict(11_499),
        "too late",
        "it would fuse a closed session with an open one"
    );
    assert_eq!(play.events(vec![6_500; 1_000]).late, 1_000);
    assert_eq!(play.told(flink(17_999)), [(15_000, 18_000, 1, 0)]);
    assert_eq!(play.events((0..1_000).map(|n| n * 10)).late, 1_000);
    assert_eq!(
        play.told(ms(1_000_000)),
        [],
        "late events never fire an empty window"
    );
}

#[test]
fn point_7_an_event_exactly_one_gap_later_begins_a_new_session() {
    let mut play = Play::new(session(3_000));
    let _ = play.events([1_000, 4_000]);
    assert_eq!(play.told(ms(9_000)), [(1_000, 4_000, 1, 0), (4_000, 7_000, 1, 0)]);
    let mut play = Play::new(session(3_000));
    let _ = play.stream.place(
        &1,
        Lane::Live,
        &play.watermark,
        [(ms(1_000), 0.0), (EventTime(4_000 * MS - 1), 0.0)],
    );
    assert_eq!(
        play.told(ms(9_000)).len(),
        1,
        "and one nanosecond earlier does not"
    );
}

#[test]
fn point_8_a_late_event_corrects_its_window_until_end_plus_lateness() {
    let mut play = Play::with(tumbling(2_000), 500, Emit::Close);
    let _ = play.events([1_000]);
    assert_eq!(play.told(flink(1_999)), [(0, 2_000, 1, 0)]);
    assert_eq!(play.verdict(1_998), "corrects");
    let correction = play.emitted(flink(1_999)).remove(0);
    assert_eq!((correction.revision, correction.cause), (1, Cause::Corrected));
    let (old, new) = (correction.old.unwrap(), correction.new.unwrap());
    assert_eq!((old.count, old.mean, old.maximum), (1, 1_000.0, 1_000.0));
    assert_eq!((new.count, new.mean, new.maximum), (2, 1_499.0, 1_998.0));
    assert_eq!(play.told(flink(2_498)), [], "nothing new, nothing told");
    assert_eq!(
        play.verdict(1_500),
        "corrects",
        "the state is kept to end + lateness"
    );
    assert_eq!(play.told(flink(2_498)), [(0, 2_000, 3, 2)]);
    // A window of which nothing came in time fires late, for the first time.
    let mut play = Play::with(tumbling(2_000), 500, Emit::Close);
    assert_eq!(play.told(flink(2_100)), []);
    assert_eq!(play.verdict(1_500), "on time");
    assert_eq!(play.told(flink(2_100)), [(0, 2_000, 1, 0)]);
}

#[test]
fn point_9_later_than_that_an_event_is_counted_as_too_late_and_changes_nothing() {
    let mut play = Play::with(tumbling(2_000), 500, Emit::Close);
    let _ = play.events([1_000]);
    assert_eq!(play.told(flink(2_499)), [(0, 2_000, 1, 0)]);
    let placed = play.events([1_998, 1_999, 2_600]);
    assert_eq!(
        (placed.late, placed.on_time),
        (2, 1),
        "for the caller to keep as a dead letter"
    );
    assert_eq!(play.told(ms(9_000)), [(2_000, 4_000, 1, 0)]);
}

#[test]
fn point_10_the_watermark_is_the_maximum_event_time_less_the_bound_and_never_falls() {
    let mut source = SourceMark::new(500 * MS, i64::MAX, ms(0));
    let watermarks: Vec<_> = [1_000, 1_700, 900, 1_200, 1_800]
        .into_iter()
        .map(|time| {
            source.observe(ms(time), ms(0));
            source.watermark()
        })
        .collect();
    assert_eq!(watermarks, [500, 1_200, 1_200, 1_200, 1_300].map(ms));
}

/// Sources that speak at times of their own (event time), heard at the journal's time 0.
fn sources<const N: usize>(times: [i64; N]) -> [SourceMark; N] {
    times.map(|time| {
        let mut source = SourceMark::new(0, 60_000 * MS, ms(0));
        source.observe(ms(time), ms(0));
        source
    })
}

#[test]
fn point_11_the_combined_watermark_is_the_minimum_over_the_active_and_never_moves_back() {
    let mut combined = CombinedMark::default();
    assert_eq!(
        combined.combine([]),
        EventTime(i64::MIN),
        "without a source, nothing is passed"
    );
    let [mut a, mut b] = sources([5_000, 2_000]);
    assert_eq!(combined.combine([&a, &b]), ms(2_000));
    a.observe(ms(70_000), ms(60_000));
    a.tick(ms(60_000), Reader::Reads);
    b.tick(ms(60_000), Reader::Reads);
    assert_eq!(
        combined.combine([&a, &b]),
        ms(70_000),
        "an idle source stops holding back"
    );
    b.observe(ms(3_000), ms(61_000));
    assert_eq!(
        combined.combine([&a, &b]),
        ms(70_000),
        "and moves nothing back when it wakes"
    );
    b.observe(ms(90_000), ms(62_000));
    a.observe(ms(80_000), ms(62_000));
    assert_eq!(combined.combine([&a, &b]), ms(80_000));
    a.tick(ms(200_000), Reader::Reads);
    b.tick(ms(200_000), Reader::Reads);
    assert_eq!(
        combined.combine([&a, &b]),
        ms(90_000),
        "all idle: the highest of their marks"
    );
}

#[test]
fn point_12_the_idle_timer_starts_at_the_last_record() {
    let [mut source] = sources([0]);
    source.observe(ms(1_000), ms(30_000));
    source.tick(ms(89_999), Reader::Reads);
    assert!(!source.is_idle());
    source.tick(ms(90_000), Reader::Reads);
    assert!(source.is_idle());
    source.observe(ms(2_000), ms(90_001));
    assert!(!source.is_idle(), "a record wakes it");
}

#[test]
fn point_13_no_source_is_idle_while_the_reader_is_blocked() {
    let [mut source] = sources([0]);
    for second in 1..=600 {
        source.tick(ms(second * 1_000), Reader::Blocked);
        assert!(!source.is_idle());
    }
    source.tick(ms(659_999), Reader::Reads);
    assert!(!source.is_idle(), "it could not be heard for ten minutes");
    source.tick(ms(660_000), Reader::Reads);
    assert!(source.is_idle());
}

#[test]
fn point_14_a_window_is_told_on_close_or_on_each_update_as_well() {
    let script = |emit| {
        let mut play = Play::with(tumbling(2_000), 0, emit);
        let _ = play.events([1_000]);
        let first = play.told(flink(1_100));
        let _ = play.events([1_200, 1_300]);
        let second = play.told(flink(1_400));
        let quiet = play.told(flink(1_500));
        (first, second, quiet, play.told(flink(1_999)))
    };
    assert_eq!(
        script(Emit::Close),
        (vec![], vec![], vec![], vec![(0, 2_000, 3, 0)])
    );
    let updates = (
        vec![(0, 2_000, 1, 0)],
        vec![(0, 2_000, 3, 1)],
        vec![],
        vec![(0, 2_000, 3, 2)],
    );
    assert_eq!(script(Emit::Update), updates);
}

#[test]
fn point_15_the_watermark_alone_closes_sessions_and_their_state_is_removed() {
    let mut stream = Stream::new(rules(session(3_000), 1_000, Emit::Close));
    let readings = |time| [(ms(time), 1.0)];
    let _ = stream.place(&1, Lane::Live, &ms(0), readings(1_000));
    let _ = stream.place(&2, Lane::Live, &ms(0), readings(2_000));
    // No further event of either key.
    let closed: Vec<_> = stream
        .advance_all(ms(4_500))
        .iter()
        .map(|told| told.key)
        .collect();
    assert_eq!((closed, stream.windows()), (vec![1], 2));
    let closed: Vec<_> = stream
        .advance_all(ms(5_000))
        .iter()
        .map(|told| told.key)
        .collect();
    assert_eq!(
        (closed, stream.windows()),
        (vec![2], 1),
        "the first one's lateness is over"
    );
    assert_eq!((stream.advance_all(ms(6_000)).len(), stream.windows()), (0, 0));
    assert!(stream.is_empty(&1) && stream.is_empty(&2));
}

#[test]
fn point_16_a_retraction_names_old_and_new_and_sessions_that_become_part_of_another_vanish() {
    let mut play = Play::with(session(3_000), 10_000, Emit::Close);
    let _ = play.events([1_000, 6_000]);
    assert_eq!(play.told(ms(9_000)), [(1_000, 4_000, 1, 0), (6_000, 9_000, 1, 0)]);
    assert_eq!(play.verdict(3_500), "corrects");
    let told = play.emitted(ms(9_000));
    let told: Vec<_> = told
        .iter()
        .map(|told| {
            let count = |summary: Option<Summary>| summary.map(|summary| summary.count);
            (told.start.0 / MS, told.revision, count(told.old), count(told.new))
        })
        .collect();
    assert_eq!(told, [(6_000, 1, Some(1), None), (1_000, 1, Some(1), Some(3))]);
    let mut sink = Sink::default();
    let mut play = Play::with(session(3_000), 10_000, Emit::Update);
    for times in [vec![6_000], vec![1_000], vec![3_500], vec![500]] {
        let _ = play.events(times);
        sink.take(play.emitted(ms(0)));
    }
    let left: Vec<_> = sink
        .rows()
        .map(|((_, start), summary)| (start / MS, summary.count))
        .collect();
    assert_eq!(left, [(500, 4)], "groups that became empty are gone");
}

#[test]
fn point_17_a_far_future_time_stamp_closes_nobodys_windows() {
    let trust = Trust {
        lead_ns: 60_000 * MS,
        behind_ns: 30 * 86_400_000 * MS,
    };
    let mut sources = BTreeMap::from([
        (1, SourceMark::new(0, i64::MAX, ms(0))),
        (2, SourceMark::new(0, i64::MAX, ms(0))),
    ]);
    let mut stream = Stream::new(rules(tumbling(1_000), 0, Emit::Close));
    let mut quarantined = Vec::new();
    let year_2099 = 4_070_908_800_000;
    for (source, time) in [
        (1, 100),
        (2, 200),
        (2, year_2099),
        (1, 300),
        (2, 400),
        (2, -year_2099),
        (1, 1_000),
    ] {
        let now = ms(time.clamp(0, 1_000));
        if trust.judge(ms(time), now) != ClockVerdict::Sound {
            quarantined.push(trust.judge(ms(time), now));
            continue;
        }
        let mark = sources.get_mut(&source).unwrap();
        mark.observe(ms(time), now);
        assert_eq!(
            stream
                .place(&source, Lane::Live, &mark.watermark(), [(ms(time), 1.0)])
                .on_time,
            1
        );
        let told = stream.advance(&source, &mark.watermark());
        assert_eq!(told.len(), usize::from(time == 1_000), "{source} at {time}");
    }
    assert_eq!(quarantined, [ClockVerdict::Ahead, ClockVerdict::Behind]);
    assert_eq!(
        stream.windows(),
        2,
        "the broken clock's own window, and the new one of the other"
    );
}

#[test]
fn point_17_duplicates_by_sequence_number_are_idempotent() {
    let play = |arrivals: &[u64]| {
        let mut play = Play::with(session(3_000), 0, Emit::Close);
        let mut seen = BTreeSet::new();
        for sequence in arrivals {
            if seen.insert(*sequence) {
                let _ = play.events([*sequence as i64 * 700]);
            }
        }
        play.emitted(EventTime(i64::MAX))
    };
    assert_eq!(play(&[0, 1, 1, 2, 0, 3, 2, 1, 4]), play(&[0, 1, 2, 3, 4]));
}

/// Says what an outlook of more than a watermark would: here, that history still comes before a time.
struct Backfilling {
    live: EventTime,
    /// Milliseconds.
    history_below: i64,
}

impl Marks for Backfilling {
    fn has_passed(&self, time: i64) -> bool {
        self.live.has_passed(time)
    }

    fn outlook(&self, window: &Extent) -> Outlook {
        let grows = window.start < self.history_below * MS;
        Outlook {
            due: if window.live {
                self.has_passed(window.end)
            } else {
                !grows
            },
            grows,
        }
    }
}

#[test]
fn history_waits_for_no_watermark_and_live_windows_wait_for_no_history() {
    let mut stream = Stream::new(rules(tumbling(1_000), 0, Emit::Close));
    let mut marks = Backfilling {
        live: ms(9_500),
        history_below: 9_000,
    };
    let place = |stream: &mut Stream<u32>, lane, marks: &Backfilling, time| {
        stream.place(&1, lane, marks, [(ms(time), 1.0)])
    };
    let told = |stream: &mut Stream<u32>, marks: &Backfilling| -> Vec<_> {
        let emitted = stream.advance(&1, marks);
        emitted
            .iter()
            .map(|told| (told.start.0 / MS, told.revision, told.history))
            .collect()
    };
    // The outage ended at 8.2 s: that window fires live, with what it has.
    assert_eq!(place(&mut stream, Lane::Live, &marks, 8_200).on_time, 1);
    assert_eq!(told(&mut stream, &marks), [(8_000, 0, false)]);
    // Newest first, ages behind the live watermark.
    for time in [8_100, 7_900, 6_500, 5_500] {
        assert_eq!(place(&mut stream, Lane::History, &marks, time).late, 0, "{time}");
    }
    assert_eq!(
        told(&mut stream, &marks),
        [(8_000, 1, true)],
        "corrected; the rest may still be filled"
    );
    marks.history_below = 6_000;
    assert_eq!(told(&mut stream, &marks), [(6_000, 0, true), (7_000, 0, true)]);
    assert_eq!(
        place(&mut stream, Lane::History, &marks, 6_600).late,
        1,
        "it has fired, and is over"
    );
    marks.history_below = 0;
    assert_eq!(told(&mut stream, &marks), [(5_000, 0, true)]);
    assert_eq!(stream.windows(), 0);
}

/// Keeps the highest revision of each window, whatever comes twice or late.
#[derive(Default)]
struct Sink {
    told: BTreeMap<(u32, i64), (u32, Option<Summary>)>,
}

impl Sink {
    fn take(&mut self, emitted: impl IntoIterator<Item = Emitted<u32>>) {
        for told in emitted {
            let row = self
                .told
                .entry((told.key, told.start.0))
                .or_insert((told.revision, told.new));
            if row.0 < told.revision {
                *row = (told.revision, told.new);
            }
        }
    }

    fn rows(&self) -> impl Iterator<Item = ((u32, i64), Summary)> {
        self.told
            .iter()
            .filter_map(|(name, (_, summary))| Some((*name, (*summary)?)))
    }
}

/// An event of generated disorder.
#[derive(Clone, Copy, Debug)]
struct Event {
    source: u32,
    time: i64,
    value: i16,
    /// How much later than in order it comes, up to bound and lateness.
    delay: i64,
    /// Where among the other sources' events.
    turn: u8,
    again: bool,
    /// Whether what has become due is asked for after it, and whether a checkpoint is taken and loaded.
    advance: bool,
    restart: bool,
}

#[derive(Clone, Debug)]
struct Case {
    kind: Kind,
    bound: i64,
    lateness: i64,
    emit: Emit,
    /// Whether all sources share one key, as the channels of an asset do.
    joined: bool,
    events: Vec<Event>,
}

fn case() -> impl Strategy<Value = Case> {
    let kind = prop_oneof![
        (1i64..40).prop_map(|size_ns| Kind::Tumbling { size_ns }),
        (1i64..20, 1i64..5).prop_map(|(slide_ns, overlap)| Kind::Hopping {
            size_ns: slide_ns * overlap,
            slide_ns
        }),
        (1i64..20).prop_map(|gap_ns| Kind::Session { gap_ns }),
    ];
    let settings = (kind, 0i64..30, 0i64..30, any::<[bool; 2]>());
    let event = (
        (0u32..3, -100i64..100, any::<i16>()),
        (0i64..60, any::<u8>()),
        any::<[bool; 3]>(),
    );
    (settings, prop::collection::vec(event, 1..24)).prop_map(|((kind, bound, lateness, flags), events)| {
        Case {
            kind,
            bound,
            lateness,
            emit: if flags[0] { Emit::Close } else { Emit::Update },
            joined: flags[1],
            events: events
                .into_iter()
                .map(|((source, time, value), (delay, turn), flags)| Event {
                    source,
                    time,
                    value,
                    delay: delay % (bound + lateness + 1),
                    turn,
                    again: flags[0],
                    advance: flags[1],
                    restart: flags[2] && turn < 32,
                })
                .collect(),
        }
    })
}

impl Case {
    fn key(&self, event: &Event) -> u32 {
        if self.joined { 9 } else { event.source }
    }

    fn rules(&self) -> Rules {
        Rules {
            shape: Shape::new(self.kind, 0).unwrap(),
            lateness_ns: self.lateness,
            emit: self.emit,
            quantiles: false,
        }
    }

    /// The order in which events arrive, by their number: each source's own disorder, and any turns between
    /// the sources; some arrive twice.
    fn arrivals(&self) -> Vec<usize> {
        let mut lanes: [Vec<usize>; 3] = Default::default();
        for (number, event) in self.events.iter().enumerate() {
            lanes[event.source as usize].push(number);
        }
        for lane in &mut lanes {
            lane.sort_by_key(|number| self.events[*number].time + self.events[*number].delay);
        }
        let mut at = [0; 3];
        let mut arrivals = Vec::new();
        for event in self.events.iter().cycle() {
            let open: Vec<usize> = (0..3).filter(|lane| at[*lane] < lanes[*lane].len()).collect();
            let Some(lane) = open.get(usize::from(event.turn) % open.len().max(1)).copied() else {
                break;
            };
            let number = lanes[lane][at[lane]];
            at[lane] += 1;
            arrivals.push(number);
            if self.events[number].again {
                arrivals.push(arrivals[usize::from(event.turn) % arrivals.len()]);
            }
        }
        arrivals
    }

    /// The slow obvious way: all events at once.
    fn expected(&self) -> BTreeMap<(u32, i64), Summary> {
        let mut groups: BTreeMap<(u32, i64), Vec<i16>> = BTreeMap::new();
        let mut sorted: Vec<&Event> = self.events.iter().collect();
        sorted.sort_by_key(|event| event.time);
        match self.kind {
            Kind::Session { gap_ns } => {
                let mut last: BTreeMap<u32, (i64, i64)> = BTreeMap::new();
                for event in sorted {
                    let key = self.key(event);
                    let began = match last.get(&key) {
                        Some((start, last)) if event.time - last < gap_ns => *start,
                        _ => event.time,
                    };
                    last.insert(key, (began, event.time));
                    groups.entry((key, began)).or_default().push(event.value);
                }
            }
            Kind::Tumbling { size_ns } => self.group(sorted, size_ns, size_ns, &mut groups),
            Kind::Hopping { size_ns, slide_ns } => self.group(sorted, size_ns, slide_ns, &mut groups),
        }
        let summary = |values: Vec<i16>| {
            let mut scalar = Scalar::new(false);
            for value in values {
                assert!(scalar.add(Value::new(value.into()).unwrap()));
            }
            scalar.summary().unwrap()
        };
        groups
            .into_iter()
            .map(|(name, values)| (name, summary(values)))
            .collect()
    }

    fn group(&self, events: Vec<&Event>, size: i64, slide: i64, groups: &mut BTreeMap<(u32, i64), Vec<i16>>) {
        for event in events {
            for start in (-200..200).map(|n| n * slide) {
                if start <= event.time && event.time < start + size {
                    groups
                        .entry((self.key(event), start))
                        .or_default()
                        .push(event.value);
                }
            }
        }
    }

    /// As the events arrive; what a sink holds at the end.
    fn played(&self) -> Result<BTreeMap<(u32, i64), Summary>, TestCaseError> {
        let mut stream = Stream::new(self.rules());
        let mut sources = [SourceMark::new(self.bound, i64::MAX, EventTime(0)); 3];
        let mut combined = CombinedMark::default();
        let mut seen = BTreeSet::new();
        let (mut sink, mut overtaken) = (Sink::default(), Vec::new());
        // Of a joined window, all sources that will ever speak are waited for.
        let speakers: BTreeSet<u32> = self.events.iter().map(|event| event.source).collect();
        for number in self.arrivals() {
            let event = &self.events[number];
            if !seen.insert(number) {
                continue;
            }
            let key = self.key(event);
            let source = &mut sources[event.source as usize];
            let mark = if self.joined {
                combined.watermark()
            } else {
                source.watermark()
            };
            let placed = stream.place(
                &key,
                Lane::Live,
                &mark,
                [(EventTime(event.time), event.value.into())],
            );
            prop_assert_eq!(placed.late, 0, "within bound and lateness nothing is too late");
            source.observe(EventTime(event.time), EventTime(0));
            let mark = if self.joined {
                combined.combine(speakers.iter().map(|source| &sources[*source as usize]))
            } else {
                source.watermark()
            };
            if event.advance {
                let told = stream.advance(&key, &mark);
                // Batches reach the sink twice, the second time overtaken by the next one.
                sink.take(told.iter().cloned());
                sink.take(std::mem::replace(&mut overtaken, told));
            }
            if event.restart {
                let bytes = postcard::to_stdvec(&(&stream, &sources, &combined)).unwrap();
                let (loaded, marks, mark): (Stream<u32>, [SourceMark; 3], CombinedMark) =
                    postcard::from_bytes(&bytes).unwrap();
                prop_assert!(loaded == stream, "a checkpoint holds all of it");
                (stream, sources, combined) = (loaded, marks, mark);
            }
        }
        sink.take(stream.advance_all(EventTime(i64::MAX)));
        sink.take(overtaken);
        prop_assert_eq!((stream.windows(), stream.given_up()), (0, 0));
        Ok(sink.rows().collect())
    }
}

proptest! {
    #![proptest_config(Config { cases: 100_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn point_17_generated_disorder_duplicates_interleaving_and_restarts_leave_the_windows_identical(case in case()) {
        prop_assert_eq!(case.played()?, case.expected());
    }
}
