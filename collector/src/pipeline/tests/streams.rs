//! Slow channels: configured streams, corrections, what comes too late, and clocks that are wrong.

use super::*;
use crate::settings::stream::{Key, Selector, StreamSettings};
use crate::state::Told;
use crate::window::shape::Kind as Shape;
use crate::window::stream::Emit;
use proptest::prelude::*;
use trunnion_common::quantity::Quantity;
use trunnion_common::time::{ClockQuality, NodeTicks};

/// A thermometer of a virtual node: readings at times in milliseconds after [`START`].
pub(super) struct Meter {
    pub(super) node: Node,
    sequence: u64,
    sample: u64,
}

impl Meter {
    pub(super) fn new(number: u64) -> Self {
        Self {
            node: Node::new(number),
            sequence: 0,
            sample: 0,
        }
    }

    pub(super) fn readings(&mut self, readings: &[(u64, f32)]) -> Entry {
        let body = Readings {
            node: self.node.id,
            boot: self.node.boot,
            sequence: self.sequence,
            channel: FIRST_CHANNEL,
            unit: Unit::DegreeCelsius,
            first_sample: self.sample,
            fix: 0,
            readings: readings
                .iter()
                .map(|(ms, value)| (NodeTicks(ms * 1_000), Ok(*value)))
                .collect(),
        };
        self.sequence += 1;
        self.sample += readings.len() as u64;
        let body = postcard::to_stdvec(&body).unwrap();
        self.node.block(Kind::Readings, &body)
    }

    /// A clock fix of another time than the journal's.
    fn fix_at(&mut self, utc: EventTime) -> Entry {
        let fix = ClockFix {
            node: self.node.id,
            boot: self.node.boot,
            number: 0,
            ticks: NodeTicks(0),
            utc,
            error_ns: 1_000,
            quality: ClockQuality::Synchronised,
        };
        let body = postcard::to_stdvec(&fix).unwrap();
        self.node.block(Kind::ClockFix, &body)
    }
}

/// A fan with a thermometer of node 1 at one end and of node 2 at the other.
pub(super) fn warm_fan() -> Entry {
    let Entry::Fleet { effective, text } = fleet(1) else {
        panic!("not a fleet");
    };
    let text = text
        .replace("quantity = \"acceleration\"", "quantity = \"temperature\"")
        .replace("unit = \"g\"", "unit = \"degC\"")
        .replace("axis = \"-v\"\n", "")
        .replace("range = 16", "range = 125");
    let second = text[text.find("[[site.area.asset.point.channel]]").unwrap()..]
        .replace("id = \"v\"", "id = \"w\"")
        .replace("0000000000000001", "0000000000000002");
    Entry::Fleet {
        effective,
        text: format!("{text}{second}"),
    }
}

pub(super) fn stream(name: &str, shape: Shape) -> StreamSettings {
    StreamSettings {
        name: name.to_owned(),
        offset_ns: 0,
        lateness_ns: 0,
        key: Key::Channel,
        emit: Emit::Close,
        quantiles: false,
        shape,
        select: Selector::default(),
    }
}

pub(super) fn with(streams: Vec<StreamSettings>) -> Entry {
    settings(Settings {
        streams: streams.into(),
        ..Settings::default()
    })
}

/// One commit per entry at these seconds after [`START`].
pub(super) fn at(entries: Vec<(i64, Entry)>) -> Vec<Commit> {
    let (seconds, entries): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
    let mut commits = commits(entries);
    for (commit, seconds) in commits.iter_mut().zip(seconds) {
        commit.time = START.plus_nanos(seconds * SECOND);
    }
    commits
}

/// Rows of a stream: start in tenths of a second after the window that holds [`START`], revision, count.
fn told(outputs: &[Output], name: &str) -> Vec<(i64, u32, f32)> {
    let base = START.0 - 250_000_000;
    let rows = windows(outputs).into_iter().filter(|row| row.stream == name);
    rows.map(|row| {
        let count = row.values.first().map_or(0.0, |value| value.1);
        ((row.start.0 - base) * 10 / SECOND, row.revision, count)
    })
    .collect()
}

/// Each second a reading, from 0 to before `seconds`, with its number as its value.
fn steady(meter: &mut Meter, seconds: u64) -> Vec<(i64, Entry)> {
    let reading = |n: u64, meter: &mut Meter| (n as i64 + 1, meter.readings(&[(n * 1_000, n as f32)]));
    (0..seconds).map(|n| reading(n, meter)).collect()
}

#[test]
fn each_stream_tells_windows_of_its_own_beside_those_that_are_always_there() {
    let tumbling = StreamSettings {
        quantiles: true,
        ..stream("slow", Shape::Tumbling { size_ns: 20 * SECOND })
    };
    let hopping = stream(
        "hops",
        Shape::Hopping {
            size_ns: 10 * SECOND,
            slide_ns: 5 * SECOND,
        },
    );
    let session = stream("runs", Shape::Session { gap_ns: 3 * SECOND });
    let elsewhere = StreamSettings {
        select: Selector {
            quantity: Some(Quantity::Current),
            ..Selector::default()
        },
        ..stream("amps", Shape::Tumbling { size_ns: SECOND })
    };
    let mut meter = Meter::new(1);
    let mut entries = vec![
        (0, with(vec![tumbling, hopping, session, elsewhere])),
        (0, warm_fan()),
        (0, meter.node.fix()),
    ];
    entries.extend(steady(&mut meter, 21));
    entries.push((30, meter.readings(&[(29_000, 0.0), (30_000, 0.0)])));
    let (pipeline, outputs) = play(&at(entries));
    assert_eq!(told(&outputs, ""), [(0, 0, 10.0), (100, 0, 10.0), (200, 0, 2.0)]);
    assert_eq!(told(&outputs, "slow"), [(0, 0, 20.0)]);
    let hops = [
        (-50, 0, 5.0),
        (0, 0, 10.0),
        (50, 0, 10.0),
        (100, 0, 10.0),
        (150, 0, 6.0),
        (200, 0, 2.0),
    ];
    assert_eq!(told(&outputs, "hops"), hops);
    assert_eq!(told(&outputs, "runs"), [(2, 0, 21.0)], "silent from 20 s to 29 s");
    assert_eq!(told(&outputs, "amps"), []);
    let rows = windows(&outputs);
    let slow = rows.iter().find(|row| row.stream == "slow").unwrap();
    let labels: Vec<_> = slow.values.iter().map(|value| value.0).collect();
    let expected = [
        "count",
        "mean",
        "standard_deviation",
        "minimum",
        "maximum",
        "p50",
        "p95",
        "p99",
    ];
    assert_eq!(labels, expected);
    assert_eq!(
        (slow.values[1].1, slow.values[3].1, slow.values[4].1),
        (9.5, 0.0, 19.0)
    );
    assert!((slow.values[5].1 - 9.5).abs() < 0.7, "{:?}", slow.values[5]);
    assert_eq!(
        (slow.series.asset.as_str(), slow.series.channel.as_str()),
        ("fan-1", "v")
    );
    assert_eq!(pipeline.counters().samples_late, 0);
}

#[test]
fn a_late_reading_corrects_its_window_and_a_later_one_is_a_dead_letter() {
    let mut patient = Settings::default();
    patient.windows.lateness_ns = 5 * SECOND;
    let mut meter = Meter::new(1);
    let mut entries = vec![(0, settings(patient)), (0, meter.node.fix())];
    for (second, readings) in [
        (10, vec![(1_000, 1.0), (9_000, 2.0)]),
        // Past 10 s: the window fires, and is kept until 15 s are passed.
        (12, vec![(12_000, 3.0)]),
        (13, vec![(5_000, 6.0)]),
        (16, vec![(16_000, 4.0)]),
        (17, vec![(6_000, 5.0)]),
    ] {
        entries.push((second, meter.readings(&readings)));
    }
    let (pipeline, outputs) = play(&at(entries));
    assert_eq!(told(&outputs, ""), [(0, 0, 2.0), (0, 1, 3.0)]);
    let rows = windows(&outputs);
    assert_eq!(rows[0].told, Told::Fired);
    assert_eq!(
        rows[1].told,
        Told::Corrected {
            at: START.plus_nanos(13 * SECOND)
        }
    );
    assert_eq!(rows[1].old, rows[0].values, "what is taken back is what was told");
    assert_eq!(
        (rows[1].values[1], rows[1].old[1]),
        (("mean", 3.0), ("mean", 1.5))
    );
    let letters = dead_letters(&outputs);
    assert_eq!(letters.len(), 1);
    assert!(
        letters[0].0 == DeadReason::TooLate && letters[0].1 > 10,
        "{letters:?}"
    );
    let counters = pipeline.counters();
    assert_eq!(
        (
            counters.samples_late,
            counters.samples_stored,
            counters.windows_corrected
        ),
        (1, 6, 1)
    );
}

#[test]
fn a_fast_channels_correction_says_what_held_before() {
    let mut node = Node::new(1);
    let mut entries = vec![fleet(1)];
    let mut story = node.story(200, sine);
    // A frame of the second window comes when the eighth is over: the fifth's end has left it behind.
    let late = story.remove(2 + 40);
    story.push(late);
    entries.extend(story);
    let (_, outputs) = play(&commits(entries));
    let rows = windows(&outputs);
    let corrected: Vec<_> = rows
        .iter()
        .filter(|row| matches!(row.told, Told::Corrected { .. }))
        .collect();
    assert_eq!(corrected.len(), 1);
    let first = rows
        .iter()
        .find(|row| row.start == corrected[0].start && row.told == Told::Fired)
        .unwrap();
    assert_eq!((first.revision, corrected[0].revision), (0, 1));
    assert_eq!(corrected[0].old, first.values);
    assert!(corrected[0].coverage > first.coverage);
}

#[test]
fn a_wrong_clock_is_nobody_elses_business_and_floods_no_letters() {
    let year = 365 * 86_400 * SECOND;
    let play_with = |utc: Option<i64>| {
        let (mut good, mut bad) = (Meter::new(1), Meter::new(2));
        let mut entries = vec![(0, warm_fan()), (0, good.node.fix())];
        if let Some(off) = utc {
            entries.push((0, bad.fix_at(START.plus_nanos(off))));
            entries.extend((0..100).map(|n| (1, bad.readings(&[(n * 10, 1.0), (n * 10 + 5, 1.0)]))));
        }
        entries.extend(steady(&mut good, 30));
        let (pipeline, outputs) = play(&at(entries));
        let rows: Vec<FeatureRow> = windows(&outputs).into_iter().cloned().collect();
        (rows, pipeline.counters().clone(), dead_letters(&outputs))
    };
    let (expected, ..) = play_with(None);
    assert_eq!(expected.len(), 2);
    for (off, reason) in [
        (10 * year, DeadReason::ClockAhead),
        (-10 * year, DeadReason::ClockBehind),
    ] {
        let (rows, counters, letters) = play_with(Some(off));
        assert_eq!(rows, expected, "{reason:?}");
        assert_eq!(counters.dead_letters[&reason], 100);
        assert_eq!(letters.len() as u32, LETTERS_PER_HOUR);
        assert!(letters.iter().all(|letter| letter.0 == reason));
        assert_eq!(counters.letters_not_kept, 40);
        let counted = (counters.samples_ahead, counters.samples_behind);
        assert_eq!(counted.0 + counted.1, 200);
        assert_eq!(counters.samples_stored, 230, "they are stored all the same");
    }
}

pub(super) fn joined() -> StreamSettings {
    StreamSettings {
        key: Key::Asset,
        select: Selector {
            unit: Some(Unit::DegreeCelsius),
            ..Selector::default()
        },
        ..stream("fan", Shape::Tumbling { size_ns: 10 * SECOND })
    }
}

#[test]
fn a_window_of_an_asset_waits_for_all_its_channels_that_are_not_idle() {
    let (mut one, mut two) = (Meter::new(1), Meter::new(2));
    let mut entries = vec![
        (0, with(vec![joined()])),
        (0, warm_fan()),
        (0, one.node.fix()),
        (0, two.node.fix()),
    ];
    entries.push((1, two.readings(&[(500, 7.0)])));
    entries.extend(steady(&mut one, 65));
    let (_, outputs) = play(&at(entries.clone()));
    // The other one was last heard at 1 s, and is idle from 61 s on.
    assert_eq!(told(&outputs, "fan")[0], (0, 0, 11.0));
    assert_eq!(told(&outputs, "fan").len(), 6);
    let upto = |seconds: i64| {
        let upto = entries.iter().filter(|(at, _)| *at <= seconds).cloned();
        told(&play(&at(upto.collect())).1, "fan").len()
    };
    assert_eq!((upto(60), upto(61)), (0, 6));
    // A window that fired without it is kept for it; when it wakes the mark does not move back.
    entries.push((66, two.readings(&[(2_000, 7.0), (64_500, 8.0)])));
    entries.push((75, one.readings(&[(74_000, 0.0)])));
    entries.push((76, two.readings(&[(75_000, 0.0), (3_000, 9.0)])));
    let (pipeline, outputs) = play(&at(entries));
    assert_eq!(told(&outputs, "fan")[6..], [(0, 1, 12.0), (600, 0, 6.0)]);
    assert_eq!(pipeline.counters().samples_late, 1, "it was whole by then");
    let row = windows(&outputs)
        .into_iter()
        .rfind(|row| row.stream == "fan")
        .unwrap()
        .clone();
    let SeriesKey {
        asset,
        point,
        channel,
    } = row.series;
    assert_eq!(
        (asset.as_str(), point.as_str(), channel.as_str()),
        ("fan-1", "*", "*")
    );
}

#[test]
fn a_stream_that_tells_updates_tells_each_commit_that_adds() {
    let updating = StreamSettings {
        emit: Emit::Update,
        ..stream("now", Shape::Tumbling { size_ns: 10 * SECOND })
    };
    let mut meter = Meter::new(1);
    let mut entries = vec![(0, with(vec![updating])), (0, meter.node.fix())];
    entries.push((3, meter.readings(&[(1_000, 1.0), (2_000, 2.0)])));
    entries.push((4, Entry::Tick));
    entries.push((5, meter.readings(&[(5_000, 3.0)])));
    entries.push((12, meter.readings(&[(11_000, 4.0)])));
    let (pipeline, outputs) = play(&at(entries));
    let first: Vec<_> = windows(&outputs)
        .into_iter()
        .filter(|row| row.stream == "now" && row.start < START)
        .map(|row| (row.revision, row.told, row.values[0].1))
        .collect();
    assert_eq!(
        first,
        [
            (0, Told::Update, 2.0),
            (1, Told::Update, 3.0),
            (2, Told::Fired, 3.0)
        ]
    );
    assert_eq!(told(&outputs, "now")[3..], [(100, 0, 1.0)]);
    assert_eq!(pipeline.counters().windows_updated, 3);
}

#[test]
fn a_stream_that_changes_cuts_nothing_anew_and_one_that_ends_takes_nothing_more() {
    let lead = Settings::default().windows.lead_ns / SECOND;
    let sized = |seconds| {
        stream(
            "slow",
            Shape::Tumbling {
                size_ns: seconds * SECOND,
            },
        )
    };
    let mut meter = Meter::new(1);
    let mut entries = vec![(0, with(vec![sized(20)])), (0, meter.node.fix())];
    let mut all = steady(&mut meter, 300).into_iter();
    entries.extend(all.by_ref().take(30));
    entries.push((30, with(vec![sized(30)])));
    entries.extend(all.by_ref().take(120));
    entries.push((150, with(vec![])));
    entries.extend(all);
    let (pipeline, outputs) = play(&at(entries));
    let rows: Vec<_> = windows(&outputs)
        .into_iter()
        .filter(|row| row.stream == "slow")
        .collect();
    assert!(
        rows.windows(2).all(|pair| pair[0].end == pair[1].start),
        "no overlap, no gap"
    );
    let changed = START.plus_nanos((30 + lead) * SECOND + 1);
    let ended = START.plus_nanos((150 + lead) * SECOND + 1);
    for row in &rows {
        let seconds = row.end.nanos_since(row.start) / SECOND;
        match () {
            () if row.end < changed => assert_eq!(seconds, 20),
            () if row.start > changed => assert_eq!(seconds, 30),
            () => assert!(row.end == changed || row.start == changed, "{row:?}"),
        }
        assert!(row.start < ended);
    }
    let counted: f32 = rows.iter().map(|row| row.values[0].1).sum();
    assert_eq!(
        counted as i64,
        150 + lead + 1,
        "each reading once, and none after the end"
    );
    assert_eq!(pipeline.counters().samples_late, 0);
}

/// Streams of every kind over two gateways.
fn every_kind() -> Entry {
    let late = |stream| StreamSettings {
        lateness_ns: 4 * SECOND,
        ..stream
    };
    with(vec![
        late(stream("slow", Shape::Tumbling { size_ns: 7 * SECOND })),
        late(stream(
            "hops",
            Shape::Hopping {
                size_ns: 6 * SECOND,
                slide_ns: 2 * SECOND,
            },
        )),
        StreamSettings {
            quantiles: true,
            ..late(stream("runs", Shape::Session { gap_ns: 2 * SECOND }))
        },
        joined(),
        StreamSettings {
            emit: Emit::Update,
            ..stream("now", Shape::Tumbling { size_ns: 5 * SECOND })
        },
    ])
}

/// Readings of a gateway, some of them out of order.
fn disordered(number: u64, seed: u64) -> Vec<Entry> {
    let mut meter = Meter::new(number);
    let mut entries = vec![meter.node.fix()];
    for n in 0..40u64 {
        let jitter = (n + 1).wrapping_mul(seed | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 51;
        // Half of them after a pause that no disorder bridges.
        let ms = n * 700 + 8_200 + n / 20 * 12_000 - jitter;
        entries.push(meter.readings(&[(ms, n as f32), (ms + 90, -(n as f32))]));
    }
    entries
}

#[test]
fn a_restart_at_any_commit_changes_nothing_that_streams_tell() {
    let mut entries = vec![every_kind(), warm_fan()];
    for (one, other) in disordered(1, 3).into_iter().zip(disordered(2, 5)) {
        entries.extend([one, other]);
    }
    let commits: Vec<_> = commits(entries)
        .into_iter()
        .map(|commit| Commit {
            time: START.plus_nanos(18 * commit.time.nanos_since(START)),
            ..commit
        })
        .collect();
    let (whole, expected) = play(&commits);
    for name in ["", "slow", "hops", "runs", "fan", "now"] {
        assert!(!told(&expected, name).is_empty(), "{name}");
    }
    assert!(whole.counters().windows_corrected > 0 && whole.counters().samples_late > 0);
    let mut pipeline = Pipeline::new();
    let mut outputs = Vec::new();
    for commit in &commits {
        outputs.extend(pipeline.apply(commit));
        let saved = checkpoint::save(pipeline.state());
        pipeline = Pipeline::resume(checkpoint::load(&saved).unwrap());
        assert_eq!(checkpoint::save(pipeline.state()), saved);
    }
    assert_eq!(format!("{outputs:?}"), format!("{expected:?}"));
    assert_eq!(pipeline.state(), whole.state());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Blocks of three gateways, in any interleaving and in commits of any size.
    #[test]
    fn no_order_of_gateways_shows_in_the_windows_of_a_channel(
        seed in 0u64..1_000,
        turns in proptest::collection::vec((0usize..3, 1usize..6), 30..90),
    ) {
        let gateways = [1, 2, 3].map(|number| disordered(number, seed + number));
        let per_channel = |turns: &[(usize, usize)]| {
            let mut left = gateways.clone().map(Vec::into_iter);
            let mut entries = vec![vec![every_kind(), warm_fan()]];
            for (gateway, run) in turns.iter().copied().chain([(0, 99), (1, 99), (2, 99)]) {
                entries.push(left[gateway].by_ref().take(run).collect());
            }
            // One time for all of them: what falls silent is another matter.
            let (time, mut offset) = (START.plus_nanos(40 * SECOND), 0);
            let mut at = || {
                offset += 1;
                Position { offset, ..Position::default() }
            };
            let commits: Vec<Commit> = entries
                .into_iter()
                .map(|entries| Commit {
                    time,
                    entries: entries.into_iter().map(|entry| (at(), entry)).collect(),
                    end: at(),
                })
                .collect();
            let mut channels: BTreeMap<(SeriesKey, String), Vec<FeatureRow>> = BTreeMap::new();
            for row in windows(&play(&commits).1) {
                // Several channels share windows there, and updates are told by commit.
                if row.stream != "fan" && row.stream != "now" {
                    let key = (row.series.clone(), row.stream.clone());
                    channels.entry(key).or_default().push(row.clone());
                }
            }
            channels
        };
        let expected = per_channel(&[(0, 99), (1, 99), (2, 99)]);
        prop_assert_eq!(expected.len(), 3 * 4);
        prop_assert_eq!(per_channel(&turns), expected);
    }
}
