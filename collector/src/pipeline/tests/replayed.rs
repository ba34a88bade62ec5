//! Dead letters that are replayed.

use super::*;
use crate::dead_letter::{Letter, LetterId, Outcome};

/// Plays commits, reading again what the pipeline asks for; `restart` goes through a checkpoint after each.
pub(super) fn play_all(commits: &[Commit], restart: bool) -> (Pipeline, Vec<Output>) {
    let mut pipeline = Pipeline::new();
    let mut outputs = Vec::new();
    for (n, commit) in commits.iter().enumerate() {
        outputs.extend(pipeline.apply(commit));
        while let Some(recall) = pipeline.recall() {
            let again = commits[..=n]
                .iter()
                .filter(|again| recall.from < again.end && again.end <= recall.upto);
            again.for_each(|again| pipeline.remember(again));
            outputs.extend(pipeline.reopen());
        }
        if restart {
            pipeline = Pipeline::resume(checkpoint::load(&checkpoint::save(pipeline.state())).unwrap());
        }
    }
    (pipeline, outputs)
}

/// All dead letters, to be replayed.
pub(super) fn replays(outputs: &[Output]) -> Vec<Entry> {
    let letters = outputs.iter().filter_map(|output| match output {
        Output::DeadLetter(letter) => Some(letter),
        _ => None,
    });
    let replayed = letters.map(|letter| {
        Entry::Replayed(Box::new(Letter {
            id: LetterId {
                position: letter.position,
                item: letter.item,
            },
            gateway: letter.gateway.clone().unwrap(),
            backfill: letter.backfill,
            arrival: letter.arrival,
            fix: letter.fix,
            form: letter.form,
            payload: letter.payload.clone().into(),
        }))
    });
    replayed.collect()
}

pub(super) fn outcomes(outputs: &[Output]) -> Vec<Outcome> {
    let rows = outputs.iter().filter_map(|output| match output {
        Output::Replayed(row) => Some(row.outcome),
        _ => None,
    });
    rows.collect()
}

/// Nothing waits: what is not explained at once is a dead letter.
fn impatient() -> Entry {
    settings(Settings {
        waiting_bytes_max: 0,
        ..Settings::default()
    })
}

/// So many frames, of which those numbered `strange` come under a channel table that nobody has.
fn story_without_a_table(node: &mut Node, frames: u64, strange: std::ops::Range<u64>) -> Vec<Entry> {
    let table = node.describe();
    let mut entries = vec![impatient(), fleet(1), node.frame_block(&[table]), node.fix()];
    for n in 0..frames {
        let frame = node.waveform_under(if strange.contains(&n) { 2 } else { 1 }, noise);
        entries.push(node.frame_block(&[frame]));
    }
    entries
}

#[test]
fn a_letter_lands_in_its_own_window_as_a_correction_with_old_and_new_values() {
    let mut node = Node::new(1);
    let mut whole = vec![fleet(1)];
    whole.extend(node.story(100, noise));
    let (_, expected) = play_all(&commits(whole), false);

    let mut node = Node::new(1);
    let mut entries = story_without_a_table(&mut node, 100, 40..41);
    let (_, before) = play_all(&commits(entries.clone()), false);
    assert_eq!(dead_letters(&before).len(), 1);
    let fired = windows(&before)[1].clone();
    assert!(fired.decided && fired.coverage < 1.0, "{fired:?}");

    let table = node.describe_in(Unit::StandardGravity, 2);
    entries.push(node.frame_block(&[table]));
    entries.extend(replays(&before));
    let (pipeline, after) = play_all(&commits(entries.clone()), false);
    assert_eq!(outcomes(&after), [Outcome::Landed { samples: FRAME }]);
    let corrections: Vec<_> = windows(&after)
        .into_iter()
        .filter(|row| row.revision > 0)
        .collect();
    let [correction] = corrections[..] else {
        panic!("{corrections:?}");
    };
    assert_eq!(correction.revision, REVISION_REPLAYED + 1);
    assert_eq!((correction.start, &correction.old), (fired.start, &fired.values));
    let whole = windows(&expected)[1];
    assert_eq!((correction.start, correction.coverage), (whole.start, 1.0));
    assert_eq!(correction.values, whole.values);
    assert_ne!(correction.values, correction.old);

    let row = ledger_of(&after).into_values().next().unwrap();
    assert_eq!(
        (row.produced, row.stored, row.unexplained),
        (100 * FRAME, 100 * FRAME, 0)
    );
    assert_eq!((row.lost, row.duplicated), (vec![], 0));
    assert_eq!(pipeline.counters().samples_replayed, FRAME);

    // A second time changes nothing but the count, and neither does a restart at any commit.
    entries.extend(replays(&before));
    let (pipeline, again) = play_all(&commits(entries.clone()), false);
    assert_eq!(
        outcomes(&again),
        [Outcome::Landed { samples: FRAME }, Outcome::Known]
    );
    assert_eq!(windows(&again), windows(&after));
    assert_eq!(ledger_of(&again), ledger_of(&after));
    let (restarted, same) = play_all(&commits(entries), true);
    assert_eq!(format!("{same:?}"), format!("{again:?}"));
    assert_eq!(restarted.state(), pipeline.state());
}

#[test]
fn letters_of_one_commit_make_one_correction_and_windows_that_never_were() {
    let mut node = Node::new(1);
    let mut entries = story_without_a_table(&mut node, 150, 30..90);
    let (_, before) = play_all(&commits(entries.clone()), false);
    let table = node.describe_in(Unit::StandardGravity, 2);
    entries.push(node.frame_block(&[table]));
    let mut all = commits(entries);
    let last = all.last().unwrap().clone();
    let at = |n| Position {
        offset: last.end.offset + n,
        ..last.end
    };
    let letters = replays(&before);
    all.push(Commit {
        time: last.time,
        entries: letters
            .into_iter()
            .zip(0..)
            .map(|(entry, n)| (at(n), entry))
            .collect(),
        end: at(100),
    });
    // Silence, after which what is left fires.
    all.push(Commit {
        time: last.time.plus_nanos(100 * SECOND),
        entries: vec![(at(100), Entry::Tick)],
        end: at(200),
    });
    let (_, after) = play_all(&all, false);
    assert_eq!(outcomes(&after).len(), 60);
    let mut rows: BTreeMap<EventTime, &FeatureRow> = BTreeMap::new();
    for row in windows(&after) {
        let newest = rows.entry(row.start).or_insert(row);
        if row.revision > newest.revision {
            *newest = row;
        }
    }
    let seen: Vec<_> = rows.values().map(|row| (row.coverage, row.revision)).collect();
    let replayed = REVISION_REPLAYED + 1;
    assert_eq!(
        seen,
        [
            (0.75, 0),
            (1.0, replayed),
            (1.0, 0),
            (1.0, replayed),
            (1.0, 0),
            (1.0, 0),
            (0.25, 0)
        ]
    );
    assert_eq!(windows(&after).iter().filter(|row| row.revision > 0).count(), 2);
}

#[test]
fn what_is_still_not_explained_stays_a_letter_with_its_outcome() {
    let mut node = Node::new(1);
    let mut entries = story_without_a_table(&mut node, 60, 10..11);
    let (_, before) = play_all(&commits(entries.clone()), false);
    entries.extend(replays(&before));
    let (_, after) = play_all(&commits(entries.clone()), false);
    assert_eq!(outcomes(&after), [Outcome::Refused(DeadReason::NoDescriptor)]);
    assert_eq!(dead_letters(&after), dead_letters(&before));
    assert_eq!(windows(&after), windows(&before));
    // Mended, it lands.
    let table = node.describe_in(Unit::StandardGravity, 2);
    entries.push(node.frame_block(&[table]));
    entries.extend(replays(&before));
    let (_, mended) = play_all(&commits(entries), false);
    assert_eq!(outcomes(&mended)[1], Outcome::Landed { samples: FRAME });
}

#[test]
fn a_block_that_an_earlier_build_could_not_read_is_taken_in_by_one_that_can() {
    let mut node = Node::new(1);
    let mut entries = vec![fleet(1)];
    entries.extend(node.story(60, sine));
    let frames: Vec<_> = (0..30).map(|_| node.waveform(sine)).collect();
    let Entry::Block { gateway, bytes } = node.frame_block(&frames) else {
        panic!("a block");
    };
    for _ in 0..60 {
        let frame = node.waveform(sine);
        entries.push(node.frame_block(&[frame]));
    }
    // As a build wrote it that did not know the body's version: the block stands at this place, unread.
    let (mut head, body) = (
        bytes[..].to_vec(),
        bytes.slice(trunnion_common::block::ENVELOPE_BYTES..),
    );
    head.truncate(trunnion_common::block::ENVELOPE_BYTES);
    let mut envelope = Block::parse(&bytes).unwrap().envelope;
    envelope.body_version += 1;
    let later = Entry::Block {
        gateway: gateway.clone(),
        bytes: [&envelope.encode(&body)[..], &body].concat().into(),
    };
    entries.insert(63, later);
    let (_, before) = play_all(&commits(entries.clone()), false);
    let refused = DeadReason::Rejected(RejectReason::BodyVersion);
    assert_eq!(dead_letters(&before)[0].0, refused);

    let [Entry::Replayed(letter)] = &replays(&before)[..] else {
        panic!("one letter");
    };
    let with = |payload: bytes::Bytes| {
        let mut entries = entries.clone();
        let letter = Letter {
            payload,
            ..(**letter).clone()
        };
        entries.push(Entry::Replayed(Box::new(letter.clone())));
        entries.push(Entry::Replayed(Box::new(letter)));
        play_all(&commits(entries), false).1
    };
    let still = with(letter.payload.clone());
    assert_eq!(outcomes(&still), [Outcome::Refused(refused); 2]);
    let read = with(bytes.clone());
    let landed = Outcome::Landed { samples: 30 * FRAME };
    assert_eq!(outcomes(&read), [landed, Outcome::Known]);
    let row = ledger_of(&read).into_values().next().unwrap();
    assert_eq!((row.stored, row.lost, row.duplicated), (150 * FRAME, vec![], 0));
}

#[test]
fn readings_whose_fix_comes_too_late_land_when_they_are_replayed() {
    let mut node = Node::new(1);
    let source = NodeId::new(77).unwrap();
    let reading = |n: u64| trunnion_common::block::Readings {
        node: source,
        boot: BootId::new(1, 0),
        sequence: n,
        channel: FIRST_CHANNEL,
        unit: Unit::DegreeCelsius,
        first_sample: n,
        fix: 0,
        readings: [(
            trunnion_common::time::NodeTicks(n * 1_000_000),
            Ok(20.0 + n as f32),
        )]
        .into_iter()
        .collect(),
    };
    let mut entries = vec![impatient()];
    for n in 0..3 {
        entries.push(node.block(Kind::Readings, &postcard::to_stdvec(&reading(n)).unwrap()));
    }
    let (_, before) = play_all(&commits(entries.clone()), false);
    assert_eq!(dead_letters(&before).len(), 3);
    let fix = ClockFix {
        node: source,
        boot: BootId::new(1, 0),
        number: 0,
        ticks: trunnion_common::time::NodeTicks(0),
        utc: START,
        error_ns: 1,
        quality: trunnion_common::time::ClockQuality::Synchronised,
    };
    entries.push(node.block(Kind::ClockFix, &postcard::to_stdvec(&fix).unwrap()));
    entries.extend(replays(&before));
    let mut all = commits(entries);
    let last = all.last().unwrap().clone();
    all.push(Commit {
        time: last.time.plus_nanos(100 * SECOND),
        entries: vec![(last.end, Entry::Tick)],
        end: last.end,
    });
    let (_, after) = play_all(&all, false);
    assert_eq!(outcomes(&after), [Outcome::Landed { samples: 1 }; 3]);
    // Replayed readings are history: their window waits until no more of it comes, and fires once with all.
    let mean = |values: &[(&str, f32)]| values.iter().find(|value| value.0 == "mean").unwrap().1;
    let rows: Vec<_> = windows(&after)
        .into_iter()
        .map(|row| (row.revision, mean(&row.values)))
        .collect();
    assert_eq!(rows, [(0, 21.0)]);
}

#[test]
fn where_the_journal_is_gone_windows_stay_as_they_fired_and_the_letter_says_so() {
    let mut node = Node::new(1);
    let mut entries = story_without_a_table(&mut node, 100, 40..41);
    let (_, before) = play_all(&commits(entries.clone()), false);
    let table = node.describe_in(Unit::StandardGravity, 2);
    entries.push(node.frame_block(&[table]));
    entries.extend(replays(&before));
    let mut pipeline = Pipeline::new();
    let mut after = Vec::new();
    for commit in commits(entries) {
        after.extend(pipeline.apply(&commit));
        if pipeline.recall().is_some() {
            after.extend(pipeline.leave_closed());
        }
    }
    assert_eq!(
        outcomes(&after),
        [Outcome::Landed { samples: FRAME }, Outcome::WindowsGone]
    );
    assert!(windows(&after).iter().all(|row| row.revision == 0));
}

#[test]
fn what_came_too_late_was_in_no_window_and_lands_in_it_when_it_is_replayed() {
    // More outages than windows are kept for, whose history comes when all of them are over.
    const OUTAGES: usize = 10;
    let mut node = Node::new(1);
    let mut entries = vec![fleet(1)];
    entries.extend(node.story(32, noise));
    let mut missed = Vec::new();
    for _ in 0..OUTAGES {
        missed.extend((0..150).map(|_| node.waveform(noise)));
        for _ in 0..75 {
            let frame = node.waveform(noise);
            entries.push(node.frame_block(&[frame]));
        }
    }
    node.lane = Lane::Backfill;
    let history_at = entries.len();
    entries.extend(missed.chunks(50).rev().map(|frames| node.frame_block(frames)));
    // The node's samples lie before the journal's clock.
    let passed = |entries: Vec<Entry>| -> Vec<Commit> {
        let later = |commit: Commit| Commit {
            time: commit.time.plus_nanos(100 * SECOND),
            ..commit
        };
        commits(entries).into_iter().map(later).collect()
    };
    let (pipeline, before) = play_all(&passed(entries.clone()), false);
    let late = pipeline.counters().samples_late;
    assert!(late > 0);

    let letters: Vec<_> = passed(entries.clone())[history_at..]
        .iter()
        .zip(missed.chunks(50).rev())
        .flat_map(|(commit, frames)| {
            let letter = |(item, frame): (u32, &Vec<u8>)| Letter {
                id: LetterId {
                    position: commit.entries[0].0,
                    item,
                },
                gateway: node.gateway.clone(),
                backfill: true,
                arrival: START,
                fix: 0,
                form: Form::Frame,
                payload: frame.clone().into(),
            };
            (0..).zip(frames).map(letter).collect::<Vec<_>>()
        })
        .collect();
    let mut all = passed(entries);
    let last = all.last().unwrap().clone();
    all.push(Commit {
        time: last.time,
        entries: letters
            .into_iter()
            .map(|letter| (last.end, Entry::Replayed(Box::new(letter))))
            .collect(),
        end: Position {
            offset: last.end.offset + 100,
            ..last.end
        },
    });
    let (pipeline, after) = play_all(&all, false);
    assert_eq!(
        pipeline.counters().samples_replayed,
        late,
        "those in a window already change nothing"
    );
    assert_eq!(ledger_of(&after), ledger_of(&before));
    let newest = |outputs: &[Output]| -> BTreeMap<EventTime, (u32, f32)> {
        let mut rows = BTreeMap::new();
        for row in windows(outputs) {
            rows.insert(row.start, (row.revision, row.coverage));
        }
        rows
    };
    let cut = newest(&before).values().filter(|row| row.1 < 1.0).count();
    assert!(cut > 2);
    // The node's first window is not whole.
    let rows = newest(&after);
    assert!(rows.values().skip(1).all(|row| row.1 == 1.0), "{rows:?}");
    let corrected = rows.values().filter(|row| row.0 > REVISION_REPLAYED);
    assert_eq!(corrected.count(), cut - 1);
}
