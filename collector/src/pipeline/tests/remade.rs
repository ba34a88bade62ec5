//! Dead letters of slow channels that are replayed: windows of every stream are made again.

use super::replayed::{outcomes, play_all, replays};
use super::streams::{Meter, at, joined, stream, warm_fan, with};
use super::*;
use crate::dead_letter::Outcome;
use crate::window::shape::Kind as Shape;

/// The second of the reading that comes too late.
const MISSED: u64 = 15;

/// Streams of every kind that wait for nothing.
fn impatient() -> Entry {
    with(vec![
        stream("short", Shape::Tumbling { size_ns: 2 * SECOND }),
        stream(
            "hops",
            Shape::Hopping {
                size_ns: 4 * SECOND,
                slide_ns: 2 * SECOND,
            },
        ),
        // Without the reading, two sessions.
        stream("runs", Shape::Session { gap_ns: 2 * SECOND }),
        joined(),
    ])
}

/// Each second a reading, of which one comes only at a later second; at last all have been silent for long.
fn story(comes_at: u64) -> Vec<(i64, Entry)> {
    let mut meter = Meter::new(1);
    let mut entries = vec![(0, impatient()), (0, warm_fan()), (0, meter.node.fix())];
    let mut late = None;
    for second in 0..42 {
        if second == comes_at {
            late = Some(meter.readings(&[(1_000 * MISSED, MISSED as f32)]));
        }
        if second != MISSED {
            let reading = meter.readings(&[(1_000 * second, second as f32)]);
            entries.push((second as i64 + 1, reading));
        }
        entries.extend(late.take().map(|entry| (second as i64 + 1, entry)));
    }
    entries.push((200, meter.readings(&[(199_000, 0.0)])));
    entries
}

/// The latest that is told of each window of these streams, those that are part of others left out.
fn newest(outputs: &[Output], streams: &[&str]) -> BTreeMap<(String, EventTime), Vec<(&'static str, f32)>> {
    let mut newest: BTreeMap<_, &FeatureRow> = BTreeMap::new();
    for row in windows(outputs) {
        let known = newest.entry((row.stream.clone(), row.start)).or_insert(row);
        if row.revision > known.revision {
            *known = row;
        }
    }
    newest
        .into_iter()
        .filter(|((name, _), row)| streams.contains(&name.as_str()) && !row.values.is_empty())
        .map(|(window, row)| (window, row.values.clone()))
        .collect()
}

fn check(comes_at: u64, streams: &[&str]) {
    let (_, whole) = play_all(&at(story(MISSED)), false);
    let mut entries = story(comes_at);
    let (_, before) = play_all(&at(entries.clone()), false);
    for name in streams {
        assert_ne!(newest(&before, &[name]), newest(&whole, &[name]), "{name}");
    }
    for second in [210, 220] {
        entries.extend(replays(&before).into_iter().map(|letter| (second, letter)));
    }
    let (pipeline, after) = play_all(&at(entries.clone()), false);
    assert_eq!(outcomes(&after), [Outcome::Landed { samples: 1 }, Outcome::Known]);
    assert_eq!(newest(&after, streams), newest(&whole, streams));
    let corrections = windows(&after)
        .into_iter()
        .filter(|row| row.revision > REVISION_REPLAYED);
    assert!(corrections.clone().all(|row| !row.old.is_empty()));
    assert!(corrections.count() >= streams.len());
    assert_eq!(ledger_of(&after), ledger_of(&before), "it had been stored");
    let (restarted, same) = play_all(&at(entries), true);
    assert_eq!(format!("{same:?}"), format!("{after:?}"));
    assert_eq!(restarted.state(), pipeline.state());
}

#[test]
fn a_reading_that_was_too_late_everywhere_lands_in_the_windows_of_every_stream() {
    check(40, &["", "short", "hops", "runs", "fan"]);
}

#[test]
fn a_reading_that_was_too_late_for_short_windows_alone_lands_in_those_alone() {
    // Of the window of 10 s, it was in time.
    check(17, &["short", "runs"]);
}

#[test]
fn nothing_is_told_twice_of_windows_that_had_the_reading() {
    let mut entries = story(17);
    let (_, before) = play_all(&at(entries.clone()), false);
    entries.extend(replays(&before).into_iter().map(|letter| (210, letter)));
    let (_, after) = play_all(&at(entries), false);
    assert_eq!(newest(&after, &["", "fan"]), newest(&before, &["", "fan"]));
    let replayed = windows(&after)
        .into_iter()
        .filter(|row| row.revision > REVISION_REPLAYED);
    let streams: BTreeSet<_> = replayed.map(|row| row.stream.as_str()).collect();
    assert!(!streams.contains(""), "{streams:?}");
}
