//! An outage and what the agent sends after it: live samples at once, and beside them its history.

use super::*;
use crate::advisory::Cause;
use proptest::prelude::*;

/// Frames per block of history: no whole number of them makes a window.
const BLOCK: usize = 13;
/// Frames per second.
const FRAMES: usize = 25;

/// Live until an outage, live again after it, and what was taken in between as history, oldest first.
struct Outage {
    before: Vec<Entry>,
    live: Vec<Entry>,
    history: Vec<Entry>,
    seconds: usize,
}

impl Outage {
    fn new(seconds: [usize; 3], signal: impl Fn(u64) -> f64) -> Self {
        let mut node = Node::new(1);
        let mut before = vec![fleet(1)];
        // It begins and ends within a window.
        before.extend(node.story(seconds[0] * FRAMES + 7, &signal));
        node.lane = Lane::Backfill;
        let missed: Vec<_> = (0..seconds[1] * FRAMES).map(|_| node.waveform(&signal)).collect();
        let history = missed.chunks(BLOCK).map(|frames| node.frame_block(frames));
        let history = history.collect();
        node.lane = Lane::Live;
        let live = (0..seconds[2] * FRAMES).map(|_| {
            let frame = node.waveform(&signal);
            node.frame_block(&[frame])
        });
        Self {
            before,
            live: live.collect(),
            history,
            seconds: seconds[1],
        }
    }

    /// As it would have come without the outage.
    fn uninterrupted(&self) -> Vec<Commit> {
        let relived = self.history.iter().map(|entry| {
            let Entry::Block { gateway, bytes } = entry else {
                panic!("history is blocks");
            };
            let block = Block::parse(bytes).unwrap();
            let envelope = Envelope::new(Epoch(2), block.envelope.sequence, Lane::Live, Kind::Frames);
            Entry::Block {
                gateway: gateway.clone(),
                bytes: [&envelope.encode(block.body)[..], block.body].concat().into(),
            }
        });
        let frames = |entries: usize, each: usize| std::iter::repeat_n(each as i64, entries);
        let entries = self
            .before
            .iter()
            .cloned()
            .chain(relived)
            .chain(self.live.clone());
        let frames = frames(self.before.len(), 1)
            .chain(frames(self.history.len(), BLOCK))
            .chain(frames(self.live.len(), 1));
        let mut now = START;
        let timed = entries.zip(frames).zip(0..).map(|((entry, frames), n)| {
            now = now.plus_nanos(frames * FRAME_NS);
            commit(now, entry, n)
        });
        timed.collect()
    }

    /// Each live frame in its time, a tick each second of the outage, and `history` so many blocks to
    /// each live frame, from the end of the outage on.
    fn commits(&self, history: &[Entry], each: usize) -> Vec<Commit> {
        let (mut history, mut entries) = (history.chunks(each), self.live.iter());
        let mut now = START.plus_nanos(self.before.len() as i64 * FRAME_NS);
        let mut timed: Vec<_> = (self.before.iter().cloned())
            .zip(1..)
            .map(|(entry, n)| (START.plus_nanos(n * FRAME_NS), entry))
            .collect();
        for _ in 0..self.seconds {
            now = now.plus_nanos(SECOND);
            timed.push((now, Entry::Tick));
        }
        loop {
            let next = (entries.next(), history.next());
            if next == (None, None) {
                break;
            }
            now = now.plus_nanos(FRAME_NS);
            let (live, history) = next;
            let both = live.into_iter().chain(history.into_iter().flatten());
            timed.extend(both.map(|entry| (now, entry.clone())));
        }
        // What is left falls silent.
        timed.extend((1..200).map(|second| (now.plus_nanos(second * SECOND), Entry::Tick)));
        let placed = timed.into_iter().zip(0..);
        placed.map(|((time, entry), n)| commit(time, entry, n)).collect()
    }

    fn newest_first(&self) -> Vec<Entry> {
        self.history.iter().rev().cloned().collect()
    }
}

const FRAME_NS: i64 = SECOND / FRAMES as i64;

fn commit(time: EventTime, entry: Entry, n: u64) -> Commit {
    let at = |offset| Position {
        offset,
        ..Position::default()
    };
    Commit {
        time,
        entries: vec![(at(100 * n), entry)],
        end: at(100 * (n + 1)),
    }
}

/// What a window holds in the end: all but who corrected it how often, and over which way it came.
type Last = (i64, f32, bool, Vec<(&'static str, f32)>);

/// Each window as it stands at the end. A correction has a higher revision, and never less in it.
fn last(outputs: &[Output]) -> BTreeMap<i64, Last> {
    let mut last: BTreeMap<i64, FeatureRow> = BTreeMap::new();
    for row in windows(outputs) {
        if let Some(before) = last.insert(row.start.0, row.clone()) {
            assert!(
                before.revision < row.revision && before.coverage < row.coverage,
                "{before:?} then {row:?}"
            );
        } else {
            assert_eq!(row.revision, 0, "{row:?}");
        }
    }
    let last = last.into_iter();
    last.map(|(start, row)| (start, (row.end.0, row.coverage, row.decided, row.values)))
        .collect()
}

/// The same windows, as they stand at the end.
fn assert_same(seen: &BTreeMap<i64, Last>, expected: &BTreeMap<i64, Last>) {
    assert!(
        seen.keys().eq(expected.keys()),
        "other windows: {:?} {:?}, not {:?} {:?}",
        seen.len(),
        seen.last_key_value(),
        expected.len(),
        expected.last_key_value()
    );
    for (start, window) in seen {
        assert_eq!(window, &expected[start], "{start}");
    }
}

/// Advisories, but for those of the instrument: an outage of the line is told by them.
fn changes(outputs: &[Output]) -> Vec<&AdvisoryChange> {
    let is_of_machine = |change: &&AdvisoryChange| change.advisory().cause != Cause::Instrument;
    let changes = outputs.iter().filter_map(|output| match output {
        Output::Advisory(change) => Some(change),
        _ => None,
    });
    changes.filter(is_of_machine).collect()
}

/// The faults that history shows, as they were told last: from and to.
fn found(outputs: &[Output]) -> Vec<(EventTime, EventTime)> {
    let found: BTreeMap<_, _> = changes(outputs)
        .into_iter()
        .filter_map(|change| match change {
            AdvisoryChange::Found(found) => Some((found.id.clone(), found)),
            _ => None,
        })
        .collect();
    assert!(
        found
            .values()
            .all(|found| found.backfill && found.cleared.is_some())
    );
    let found = found.into_values();
    found.map(|found| (found.raised, found.last_seen)).collect()
}

/// How long after their end live windows fired, at most.
fn live_delay(commits: &[Commit]) -> i64 {
    let mut pipeline = Pipeline::new();
    let mut longest = 0;
    for commit in commits {
        let outputs = pipeline.apply(commit);
        for row in windows(&outputs) {
            // The two that the outage cuts are not whole live windows.
            if !row.backfill && row.coverage == 1.0 {
                longest = longest.max(commit.time.nanos_since(row.end));
            }
        }
    }
    longest
}

#[test]
fn five_minutes_of_history_drain_in_either_order_beside_live_windows() {
    let outage = Outage::new([4, 300, 30], noise);
    let uninterrupted = outage.uninterrupted();
    let (_, expected) = play(&uninterrupted);
    let mut expected = last(&expected);
    let delay = live_delay(&uninterrupted);
    for history in [outage.history.clone(), outage.newest_first()] {
        let commits = outage.commits(&history, 1);
        let (pipeline, outputs) = play(&commits);
        let mut seen = last(&outputs);
        // Silence fires the very last one as well.
        let open = seen.pop_last().unwrap();
        assert!(!open.1.2 && expected.get(&open.0).is_none_or(|known| !known.2));
        expected.remove(&open.0);
        assert_same(&seen, &expected);
        assert!(
            live_delay(&commits) <= delay + FRAME_NS,
            "no live window waits for history"
        );
        let samples = (4 * FRAMES + 7 + 330 * FRAMES) as u64 * FRAME;
        let row = ledger_of(&outputs).into_values().next().unwrap();
        assert_eq!(
            (
                row.produced,
                row.stored,
                row.lost_total(),
                row.pending,
                row.unexplained
            ),
            (samples, samples, 0, 0, 0)
        );
        let counters = pipeline.counters();
        assert_eq!((counters.samples_stored, counters.samples_late), (samples, 0));
        assert_eq!(counters.samples_backfilled, (300 * FRAMES) as u64 * FRAME);
        assert_eq!(changes(&outputs), Vec::<&AdvisoryChange>::new());
        // All that history is in is flagged, and nothing else is.
        let begins = START.plus_nanos((4 * FRAMES as i64 + 7) * FRAME_NS);
        let ends = begins.plus_nanos(300 * SECOND);
        let mut flagged = BTreeMap::new();
        for row in windows(&outputs) {
            flagged.insert(row.start, (row.end > begins && row.start < ends, row.backfill));
        }
        assert!(
            flagged.values().all(|(history, flag)| history == flag),
            "{flagged:?}"
        );
    }
}

#[test]
fn a_window_where_an_outage_begins_or_ends_is_corrected_once_and_whole() {
    let outage = Outage::new([3, 6, 6], noise);
    for history in [outage.history.clone(), outage.newest_first()] {
        // Long after the live samples: both have fired with what they had.
        let mut commits = outage.commits(&[], 1);
        let (end, now) = (commits.len() as u64, commits.last().unwrap().time);
        let blocks = history.into_iter().chain([Entry::Tick]);
        commits.extend(blocks.zip(end..).map(|(entry, n)| commit(now, entry, n)));
        let (pipeline, outputs) = play(&commits);
        let mut seen: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in windows(&outputs) {
            let as_seen = (row.revision, row.decided, row.backfill);
            seen.entry(row.start).or_default().push(as_seen);
        }
        let corrected: Vec<_> = seen.into_values().filter(|seen| seen.len() > 1).collect();
        let twice = vec![(0, false, false), (1, true, true)];
        assert_eq!(corrected, [twice.clone(), twice]);
        assert_eq!(pipeline.counters().windows_corrected, 2);
        assert_eq!(pipeline.counters().samples_late, 0);
    }
}

#[test]
fn a_fault_that_only_history_shows_is_told_as_one_of_the_past() {
    let (from, to) = (6 * RATE, 20 * RATE);
    let outage = Outage::new([4, 30, 20], |n| {
        if (from..to).contains(&n) {
            outer_race_fault(n)
        } else {
            noise(n)
        }
    });
    let mut told = Vec::new();
    for history in [outage.history.clone(), outage.newest_first()] {
        let (pipeline, outputs) = play(&outage.commits(&history, 2));
        let all_found = |change: &&AdvisoryChange| matches!(change, AdvisoryChange::Found(_));
        assert!(changes(&outputs).iter().all(all_found));
        let found = found(&outputs);
        assert_eq!((found.len(), pipeline.counters().advisories_found), (1, 1));
        // Not each window of so slight a fault claims it.
        let (raised, last_seen) = (found[0].0.nanos_since(START), found[0].1.nanos_since(START));
        assert!(
            6 * SECOND < raised && raised + 2 * SECOND <= last_seen && last_seen <= 21 * SECOND,
            "{raised} to {last_seen}"
        );
        told.push(found);
    }
    assert_eq!(told[0], told[1]);
}

#[test]
fn neither_an_outage_nor_its_history_moves_an_advisory_that_stands() {
    // Struck before the outage and for a while after it; what is said of the time between is healthy.
    let (struck, mended) = (12 * RATE, 45 * RATE);
    let outage = Outage::new([12, 30, 20], |n| {
        if n < struck || (42 * RATE..mended).contains(&n) {
            outer_race_fault(n)
        } else {
            noise(n)
        }
    });
    let history = outage.newest_first();
    for commits in [outage.commits(&history, 1), outage.commits(&[], 1)] {
        let (_, outputs) = play(&commits);
        let now = changes(&outputs).into_iter();
        let now: Vec<_> = now
            .filter(|change| !matches!(change, AdvisoryChange::Updated(_)))
            .collect();
        let [AdvisoryChange::Raised(raised), AdvisoryChange::Cleared(cleared)] = now[..] else {
            panic!("{now:?}");
        };
        assert!(raised.raised < START.plus_nanos(12 * SECOND) && raised.id == cleared.id);
        // Ten live windows after it was mended.
        assert!(
            cleared.cleared > Some(START.plus_nanos(53 * SECOND)),
            "{cleared:?}"
        );
    }
}

#[test]
fn a_restart_during_a_drain_changes_no_output() {
    let outage = Outage::new([3, 8, 4], outer_race_fault);
    let commits = outage.commits(&outage.newest_first(), 1);
    let (whole, expected) = play(&commits);
    let mut pipeline = Pipeline::new();
    let mut outputs = Vec::new();
    for commit in &commits {
        outputs.extend(pipeline.apply(commit));
        pipeline = Pipeline::resume(checkpoint::load(&checkpoint::save(pipeline.state())).unwrap());
    }
    assert_eq!(format!("{outputs:?}"), format!("{expected:?}"));
    assert_eq!(
        checkpoint::save(pipeline.state()),
        checkpoint::save(whole.state())
    );
}

#[test]
fn at_the_bound_the_earliest_windows_stay_as_they_were_and_their_samples_are_counted() {
    use crate::window::KEPT_MAX;
    const OUTAGES: usize = 10;
    let mut node = Node::new(1);
    let mut entries = vec![fleet(1)];
    entries.extend(node.story(FRAMES + 7, noise));
    let mut history = Vec::new();
    for _ in 0..OUTAGES {
        node.lane = Lane::Backfill;
        let missed: Vec<_> = (0..6 * FRAMES).map(|_| node.waveform(noise)).collect();
        history.extend(missed.chunks(BLOCK).map(|frames| node.frame_block(frames)));
        node.lane = Lane::Live;
        for _ in 0..3 * FRAMES {
            let frame = node.waveform(noise);
            entries.push(node.frame_block(&[frame]));
        }
    }
    let expected_stored = node.sample;
    // Nothing of it comes before all of it has passed.
    entries.extend(history.into_iter().rev());
    entries.push(Entry::Tick);
    let (pipeline, outputs) = play(
        &entries
            .into_iter()
            .zip(0..)
            .map(|(entry, n)| commit(START.plus_nanos(100 * SECOND + n as i64), entry, n))
            .collect::<Vec<_>>(),
    );
    let undecided = last(&outputs).into_values().filter(|window| !window.2).count();
    // The node's first window is not whole either, and its last one has not fired.
    assert_eq!(undecided, 2 * OUTAGES - KEPT_MAX + 1);
    assert_eq!(pipeline.counters().windows_corrected, KEPT_MAX as u64);
    assert!(pipeline.counters().samples_late > 0);
    let row = ledger_of(&outputs).into_values().next().unwrap();
    assert_eq!((row.stored, row.unexplained), (expected_stored, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Blocks of history in any order, in any turns with live ones, some of them twice.
    #[test]
    fn the_order_of_live_and_history_does_not_show_in_any_window(
        order in Just((0..16usize).collect::<Vec<_>>()).prop_shuffle(),
        turns in 1usize..5,
        twice in prop::collection::vec(0..16usize, 0..4),
    ) {
        let outage = Outage::new([2, 8, 3], sine);
        let (_, expected) = play(&outage.uninterrupted());
        let expected = last(&expected);
        let mut history: Vec<_> = order.iter().map(|at| outage.history[*at].clone()).collect();
        history.extend(twice.iter().map(|at| outage.history[*at].clone()));
        let (pipeline, outputs) = play(&outage.commits(&history, turns));
        let mut seen = last(&outputs);
        seen.pop_last();
        assert_same(&seen, &expected);
        prop_assert_eq!(pipeline.counters().samples_late, 0);
        prop_assert_eq!(pipeline.unexplained(), 0);
    }
}
