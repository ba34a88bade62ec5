mod attribution;
mod condition;
mod history;
mod learned;
mod machine;
mod remade;
mod replayed;
mod slow;
mod stages;
mod streams;

use super::script::*;
use super::*;
use crate::checkpoint;
use trunnion_common::block::{ChannelHolding, Envelope, Gap, Holding, Kind, Tombstone};
use trunnion_common::id::Epoch;
use trunnion_common::quantity::Unit;

fn play(commits: &[Commit]) -> (Pipeline, Vec<Output>) {
    let mut pipeline = Pipeline::new();
    let outputs = commits.iter().flat_map(|commit| pipeline.apply(commit)).collect();
    (pipeline, outputs)
}

fn windows(outputs: &[Output]) -> Vec<&FeatureRow> {
    let windows = outputs.iter().filter_map(|output| match output {
        Output::Features(row) => Some(row),
        _ => None,
    });
    windows.collect()
}

/// The ledger's rows as they are at the end.
fn ledger_of(outputs: &[Output]) -> BTreeMap<AccountKey, LedgerRow> {
    let rows = outputs.iter().filter_map(|output| match output {
        Output::Ledger(row) => Some(((row.node, row.boot, row.channel), row.clone())),
        _ => None,
    });
    rows.collect()
}

fn dead_letters(outputs: &[Output]) -> Vec<(DeadReason, usize)> {
    let letters = outputs.iter().filter_map(|output| match output {
        Output::DeadLetter(letter) => Some((letter.reason, letter.payload.len())),
        _ => None,
    });
    letters.collect()
}

fn sine(n: u64) -> f64 {
    0.5 * (std::f64::consts::TAU * 60.0 * n as f64 / RATE as f64).sin()
}

#[test]
fn windows_carry_the_features_of_exactly_their_samples() {
    let mut node = Node::new(1);
    let mut entries = vec![fleet(1)];
    entries.extend(node.story(60, sine));
    let (pipeline, outputs) = play(&commits(entries));
    let windows = windows(&outputs);
    // The node starts a quarter of a second into a second, and sends 2.4 s.
    let seen: Vec<_> = windows
        .iter()
        .map(|row| (row.start.0 - START.0 + SECOND / 4, row.decided, row.coverage))
        .collect();
    assert_eq!(seen, [(0, false, 0.75), (SECOND, true, 1.0)]);
    assert!(windows[0].values.is_empty());
    let value = |label| {
        windows[1]
            .values
            .iter()
            .find(|(name, _)| *name == label)
            .unwrap()
            .1
    };
    assert!((value("rms") - 0.5 / 2f32.sqrt()).abs() < 1e-3);
    assert!((value("crest_factor") - 2f32.sqrt()).abs() < 1e-2);
    let key = &windows[1].series;
    assert_eq!([&key.asset, &key.point, &key.channel], ["fan-1", "motor-de", "v"]);
    let row = ledger_of(&outputs).into_values().next().unwrap();
    assert_eq!(
        (row.produced, row.stored, row.unexplained),
        (60 * FRAME, 60 * FRAME, 0)
    );
    assert_eq!(pipeline.counters().samples_stored, 60 * FRAME);
}

#[test]
fn a_struck_outer_race_is_named_and_cleared_once_it_is_gone() {
    let mut node = Node::new(1);
    let mut entries = vec![fleet(1)];
    let onset = 3 * RATE;
    let mended = 12 * RATE;
    entries.extend(node.story(27 * 25, |n| {
        if (onset..mended).contains(&n) {
            outer_race_fault(n)
        } else {
            noise(n)
        }
    }));
    let (_, outputs) = play(&commits(entries));
    let changes: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Advisory(change) => Some(change),
            _ => None,
        })
        .collect();
    let AdvisoryChange::Raised(raised) = changes[0] else {
        panic!("{changes:?}");
    };
    assert_eq!(
        raised.cause.element(),
        Some(trunnion_diagnosis::bearing::Element::OuterRace)
    );
    assert_eq!(
        (raised.asset.as_str(), raised.point.as_str()),
        ("fan-1", "motor-de")
    );
    assert!(raised.raised > START.plus_nanos(3 * SECOND) && raised.raised < START.plus_nanos(9 * SECOND));
    assert!(matches!(changes.last(), Some(AdvisoryChange::Cleared(over)) if over.id == raised.id));
}

#[test]
fn a_channel_that_no_fleet_file_names_is_shown_as_unassigned() {
    let mut node = Node::new(0xab);
    let (_, outputs) = play(&commits(node.story(60, sine)));
    let row = windows(&outputs)[1].clone();
    let key = &row.series;
    assert_eq!(
        [&key.asset, &key.point, &key.channel],
        ["unassigned", "00000000000000ab", "0"]
    );
    assert!(row.values.iter().any(|(label, _)| *label == "rms"));
}

#[test]
fn a_fleet_file_holds_from_its_effective_time_on() {
    let mut node = Node::new(1);
    let Entry::Fleet { text, .. } = fleet(1) else {
        panic!("not a fleet");
    };
    let effective = START.plus_nanos(SECOND * 3 / 4);
    let mut entries = vec![Entry::Fleet { effective, text }];
    entries.extend(node.story(60, sine));
    let (_, outputs) = play(&commits(entries));
    let assets: Vec<_> = windows(&outputs)
        .iter()
        .map(|row| row.series.asset.clone())
        .collect();
    assert_eq!(assets, ["unassigned", "fan-1"]);
}

/// Settings as they are journaled at a start.
fn settings(settings: Settings) -> Entry {
    Entry::Settings {
        effective: EventTime(i64::MIN),
        text: settings.to_text(),
    }
}

fn sized(seconds: i64) -> Settings {
    let mut settings = Settings::default();
    settings.windows.size_ns = seconds * SECOND;
    settings
}

#[test]
fn settings_come_from_the_journal_and_from_nowhere_else() {
    let story = Node::new(1).story(150, sine);
    let lengths = |entries: &[Entry]| {
        let (pipeline, outputs) = play(&commits(entries.to_vec()));
        let resumed = Pipeline::resume(checkpoint::load(&checkpoint::save(pipeline.state())).unwrap());
        assert_eq!(resumed.state(), pipeline.state());
        windows(&outputs)
            .iter()
            .map(|row| row.end.nanos_since(row.start) / SECOND)
            .collect::<Vec<_>>()
    };
    assert_eq!(lengths(&story), [1; 6]);
    let mut entries = story.clone();
    entries.insert(0, settings(sized(2)));
    assert_eq!(lengths(&entries), [2; 3]);
    // Said again at the next start, they change nothing.
    entries.insert(70, settings(sized(2)));
    assert_eq!(lengths(&entries), [2; 3]);
}

#[test]
fn other_settings_cut_only_what_nothing_has_been_placed_in() {
    let mut node = Node::new(1);
    let mut entries = vec![fleet(1)];
    entries.extend(node.story(25, sine));
    let changed_at = entries.len();
    entries.push(settings(sized(2)));
    for _ in 0..25 * 70 {
        let frame = node.waveform(noise);
        entries.push(node.frame_block(&[frame]));
    }
    // Commits come every 20 ms here, and so do half the samples of a frame.
    let all: Vec<_> = commits(entries)
        .into_iter()
        .map(|commit| Commit {
            time: START.plus_nanos(2 * commit.time.nanos_since(START)),
            ..commit
        })
        .collect();
    let (pipeline, outputs) = play(&all);
    let windows = windows(&outputs);
    let lead = Settings::default().windows.lead_ns;
    let from = all[changed_at].time.plus_nanos(lead + 1);
    assert!(outputs.contains(&Output::Settings {
        settings: sized(2),
        from
    }));
    assert!(
        windows.windows(2).all(|pair| pair[0].end == pair[1].start),
        "no overlap, no gap"
    );
    for window in &windows[1..] {
        let seconds = window.end.nanos_since(window.start) / SECOND;
        match () {
            () if window.end < from => assert_eq!((seconds, window.decided), (1, true)),
            () if window.start > from => assert_eq!((seconds, window.decided), (2, true)),
            () => assert!(!window.decided, "cut short: {window:?}"),
        }
    }
    assert!(windows.last().unwrap().start > from);
    assert_eq!(pipeline.counters().samples_late, 0);
}

#[test]
fn settings_that_cannot_be_read_become_a_dead_letter() {
    let entry = Entry::Settings {
        effective: START,
        text: "windows = 7".into(),
    };
    let (_, outputs) = play(&commits(vec![entry]));
    assert_eq!(dead_letters(&outputs), [(DeadReason::Settings, 11)]);
}

#[test]
fn samples_wait_for_their_clock_fix_and_channel_table() {
    let mut node = Node::new(1);
    let in_order = node.story(60, sine);
    let (_, expected) = play(&commits(in_order.clone()));
    let mut swapped = in_order;
    // Table and fix come after the samples.
    swapped.rotate_left(2);
    let mut pipeline = Pipeline::new();
    let mut outputs = Vec::new();
    for (n, commit) in commits(swapped).iter().enumerate() {
        outputs.extend(pipeline.apply(commit));
        if n < 60 {
            let row = ledger_of(&outputs).into_values().next().unwrap();
            assert_eq!((row.produced, row.stored), ((n as u64 + 1) * FRAME, 0));
            assert_eq!((row.pending, row.unexplained), (row.produced, 0));
        }
    }
    assert_eq!(windows(&outputs), windows(&expected));
    assert_eq!(ledger_of(&outputs), ledger_of(&expected));
}

#[test]
fn the_oldest_that_waits_becomes_a_dead_letter_when_there_is_no_room() {
    let mut node = Node::new(1);
    let mut entries = node.story(8, sine);
    entries.remove(1); // The clock fix.
    entries.insert(
        0,
        settings(Settings {
            waiting_bytes_max: 5_000,
            ..Settings::default()
        }),
    );
    let (_, outputs) = play(&commits(entries));
    let dead = dead_letters(&outputs);
    assert!(!dead.is_empty() && dead.iter().all(|(reason, _)| *reason == DeadReason::NoClockFix));
    let row = ledger_of(&outputs).into_values().next().unwrap();
    assert_eq!(row.lost, [(LossCause::Refused, dead.len() as u64 * FRAME)]);
    assert_eq!(row.produced, row.lost_total() + row.pending);
}

#[test]
fn a_frame_that_comes_again_changes_nothing_but_a_count() {
    let mut node = Node::new(1);
    let describe = node.describe();
    let mut entries = vec![fleet(1), node.frame_block(&[describe]), node.fix()];
    let frames: Vec<_> = (0..60).map(|_| node.waveform(sine)).collect();
    let once = node.frame_block(&frames);
    let again = node.frame_block(&frames);
    entries.push(once);
    let (_, expected) = play(&commits(entries.clone()));
    entries.push(again);
    let (pipeline, outputs) = play(&commits(entries));
    assert_eq!(windows(&outputs), windows(&expected));
    let row = ledger_of(&outputs).into_values().next().unwrap();
    assert_eq!((row.stored, row.duplicated), (60 * FRAME, 60 * FRAME));
    assert_eq!(pipeline.counters().frames_duplicated, 60);
}

#[test]
fn frames_in_any_order_make_the_same_windows() {
    let mut node = Node::new(1);
    let mut entries = vec![fleet(1)];
    entries.extend(node.story(100, noise));
    let (_, expected) = play(&commits(entries.clone()));
    // Pairs swapped, and one frame far behind its place.
    for pair in entries[3..].chunks_exact_mut(2) {
        pair.swap(0, 1);
    }
    let late = entries.remove(40);
    entries.insert(70, late);
    let (pipeline, outputs) = play(&commits(entries));
    assert_eq!(windows(&outputs), windows(&expected));
    assert_eq!(pipeline.counters().samples_late, 0);
}

#[test]
fn what_cannot_be_decoded_is_a_dead_letter_and_the_rest_goes_on() {
    let mut node = Node::new(1);
    let mut entries = node.story(30, sine);
    entries.push(node.block(Kind::ClockFix, &[0xff; 3]));
    let mut broken = node.waveform(sine);
    broken[20] ^= 1;
    entries.push(node.frame_block(&[broken]));
    let mut odd = node.waveform(sine);
    let at = odd.len() - 5;
    odd.truncate(at);
    let crc = trunnion_common::codec::crc32c(&odd);
    odd.extend(crc.to_le_bytes());
    entries.push(node.frame_block(&[odd]));
    entries.push(Entry::Fleet {
        effective: START,
        text: "[[site]".to_owned(),
    });
    for _ in 0..30 {
        let frame = node.waveform(sine);
        entries.push(node.frame_block(&[frame]));
    }
    // The agent holds nothing any more, and the node neither.
    let produced = node.sample;
    let (id, boot) = (node.id, node.boot);
    entries.push(
        node.holding(Holding {
            node: id,
            boot,
            channels: [ChannelHolding {
                channel: FIRST_CHANNEL,
                produced,
                at_node: produced,
                at_agent: None,
            }]
            .into_iter()
            .collect(),
        }),
    );
    let (pipeline, outputs) = play(&commits(entries));
    let reasons: Vec<_> = dead_letters(&outputs)
        .into_iter()
        .map(|(reason, _)| reason)
        .collect();
    assert_eq!(
        reasons,
        [
            DeadReason::Rejected(RejectReason::BodyDecode),
            DeadReason::Rejected(RejectReason::BadCrc),
            DeadReason::Rejected(RejectReason::FramePayload),
            DeadReason::Fleet,
        ]
    );
    let row = ledger_of(&outputs).into_values().next().unwrap();
    assert_eq!(
        (row.produced, row.stored, row.unexplained),
        (produced, 60 * FRAME, 0)
    );
    assert_eq!(row.lost, [(LossCause::Refused, 2 * FRAME)]);
    assert_eq!(pipeline.unexplained(), 0);
}

#[test]
fn gaps_and_tombstones_let_the_watermark_go_on() {
    for named in ["gap", "tombstone"] {
        let mut node = Node::new(1);
        let mut entries = node.story(30, sine);
        let _lost = node.waveform(sine);
        for _ in 0..60 {
            let frame = node.waveform(sine);
            entries.push(node.frame_block(&[frame]));
        }
        let (_, before) = play(&commits(entries.clone()));
        let ranges = [Range::one(30).unwrap()].into_iter().collect();
        let (id, boot) = (node.id, node.boot);
        let (kind, body) = match named {
            "gap" => (
                Kind::Gap,
                postcard::to_stdvec(&Gap {
                    node: id,
                    boot,
                    class: Class::Waveform,
                    ranges,
                    cause: LossCause::OutboxFull,
                }),
            ),
            _ => (
                Kind::Tombstone,
                postcard::to_stdvec(&Tombstone {
                    epoch: Epoch(1),
                    blocks: Range::one(1_000).unwrap(),
                    cause: LossCause::SpoolEvicted,
                    frames: [(id, boot, Class::Waveform, ranges)].into_iter().collect(),
                    samples: [(id, boot, FIRST_CHANNEL, FRAME)].into_iter().collect(),
                }),
            ),
        };
        entries.push(node.block(kind, &body.unwrap()));
        let (_, after) = play(&commits(entries));
        let fired = |outputs: &[Output]| windows(outputs).len();
        assert!(fired(&before) < fired(&after), "{named}");
        let window = &windows(&after)[1];
        assert!(
            (window.coverage - 0.96).abs() < 1e-6 && window.decided,
            "{window:?}"
        );
    }
}

#[test]
fn what_a_node_dropped_is_named_by_the_tombstone_of_the_frames_that_would_have_told_it() {
    for (class, unexplained) in [(Class::Essential, 0), (Class::Waveform, 20)] {
        let mut node = Node::new(1);
        let mut entries = vec![fleet(1)];
        entries.extend(node.story(5, sine));
        let (id, boot) = (node.id, node.boot);
        let lost = Tombstone {
            epoch: Epoch(1),
            blocks: Range::one(1_000).unwrap(),
            cause: LossCause::SpoolUnreadable,
            frames: [(id, boot, class, [Range::one(900).unwrap()].into_iter().collect())]
                .into_iter()
                .collect(),
            samples: Default::default(),
        };
        entries.push(node.block(Kind::Tombstone, &postcard::to_stdvec(&lost).unwrap()));
        let channel = ChannelHolding {
            channel: FIRST_CHANNEL,
            produced: node.sample + 20,
            at_node: node.sample + 20,
            at_agent: None,
        };
        entries.push(node.holding(Holding {
            node: id,
            boot,
            channels: [channel].into_iter().collect(),
        }));
        let (_, outputs) = play(&commits(entries));
        let row = &ledger_of(&outputs)[&(id, boot, FIRST_CHANNEL)];
        assert_eq!(row.unexplained, unexplained, "{row:?}");
        assert_eq!(row.lost_total(), 20 - unexplained, "{row:?}");
    }
}

#[test]
fn a_restarted_node_goes_on_in_the_same_series() {
    let mut node = Node::new(1);
    let mut entries = vec![fleet(1)];
    entries.extend(node.story(50, sine));
    let (id, old) = (node.id, node.boot);
    entries.push(
        node.holding(Holding {
            node: id,
            boot: old,
            channels: [ChannelHolding {
                channel: FIRST_CHANNEL,
                produced: node.sample + 100,
                at_node: node.sample,
                at_agent: None,
            }]
            .into_iter()
            .collect(),
        }),
    );
    node.reboot();
    entries.extend(node.story(10, sine));
    let (_, outputs) = play(&commits(entries));
    let rows = ledger_of(&outputs);
    assert_eq!(
        rows[&(id, old, FIRST_CHANNEL)].lost,
        [(LossCause::NodeReset, 100)]
    );
    assert_eq!(rows[&(id, node.boot, FIRST_CHANNEL)].stored, 10 * FRAME);
}

#[test]
fn a_silent_nodes_window_fires_by_the_journals_clock() {
    let mut node = Node::new(1);
    let mut commits = commits(node.story(10, sine));
    let end = commits.last().unwrap().end;
    for seconds in [30, 59, 62] {
        commits.push(Commit {
            time: START.plus_nanos(seconds * SECOND),
            entries: vec![(end, Entry::Tick)],
            end,
        });
    }
    let (_, outputs) = play(&commits);
    let windows = windows(&outputs);
    assert_eq!((windows.len(), windows[0].decided), (1, false));
    assert!((windows[0].coverage - 0.4).abs() < 1e-6);
    let (_, before) = play(&commits[..commits.len() - 1]);
    assert!(!before.iter().any(|output| matches!(output, Output::Features(_))));
}

/// A node with a thermometer at 2 Hz; readings by index, none where the sensor failed.
fn thermometer(frames: &[(u64, &[trunnion_common::sample::Reading])]) -> Vec<Entry> {
    let mut node = Node::new(1);
    let descriptor = ChannelDescriptor {
        unit: Unit::DegreeCelsius,
        scale: 1.0,
        rate_mhz: 2_000,
        range: 125.0,
        band_low_hz: 0.0,
        band_high_hz: 1.0,
    };
    let table = trunnion_common::frame::Describe {
        revision: 4,
        channels: [descriptor].into_iter().collect(),
    };
    let describe = node.frame(Class::Essential, 0, &Payload::Describe(table));
    let mut entries = vec![node.frame_block(&[describe]), node.fix()];
    for (first, readings) in frames {
        let scalar = trunnion_common::frame::Scalar {
            revision: 4,
            channel: FIRST_CHANNEL,
            first_sample: *first,
            readings: readings.iter().copied().collect(),
        };
        let frame = node.frame(Class::Essential, first * 500_000, &Payload::Scalar(scalar));
        entries.push(node.frame_block(&[frame]));
    }
    entries
}

#[test]
fn a_slow_channel_is_summarised_over_what_its_sensor_gave() {
    use trunnion_common::sample::NoData;
    // The node starts at 0.25 s into a ten-second window: indexes 0 to 19 lie in it.
    let readings: Vec<_> = (0..24)
        .map(|n| {
            if n == 7 {
                Err(NoData::BusError)
            } else {
                Ok(20.0 + n as f32)
            }
        })
        .collect();
    let (_, outputs) = play(&commits(thermometer(&[
        (0, &readings[..12]),
        (12, &readings[12..]),
    ])));
    let expected = windows(&outputs)[0].clone();
    assert_eq!((expected.coverage, expected.decided), (0.95, true));
    let given = || (0..20).filter(|n| *n != 7).map(|n| 20.0 + f64::from(n));
    let mean = given().sum::<f64>() / 19.0;
    let variance = given().map(|value| (value - mean).powi(2)).sum::<f64>() / 19.0;
    assert_eq!(
        expected.values,
        [
            ("count", 19.0),
            ("mean", mean as f32),
            ("standard_deviation", variance.sqrt() as f32),
            ("minimum", 20.0),
            ("maximum", 39.0)
        ]
    );
    let row = ledger_of(&outputs).into_values().next().unwrap();
    assert_eq!(
        (row.stored, row.unexplained),
        (24, 0),
        "a reading without a value is a reading"
    );
}

#[test]
fn readings_of_a_virtual_node_stand_at_their_own_times() {
    let mut node = Node::new(1);
    let mut entries = Vec::new();
    for sequence in 0..3u64 {
        let readings = Readings {
            node: node.id,
            boot: node.boot,
            sequence,
            channel: FIRST_CHANNEL,
            unit: Unit::Bar,
            first_sample: 2 * sequence,
            fix: 0,
            readings: [0, 1]
                .map(|n| {
                    let ticks = sequence * 7_000_000 + n * 1_000_000;
                    (
                        trunnion_common::time::NodeTicks(ticks),
                        Ok((2 * sequence + n) as f32),
                    )
                })
                .into_iter()
                .collect(),
        };
        let body = postcard::to_stdvec(&readings).unwrap();
        entries.push(node.block(Kind::Readings, &body));
    }
    entries.push(entries[0].clone());
    entries.push(node.fix());
    let (_, outputs) = play(&commits(entries));
    let row = ledger_of(&outputs).into_values().next().unwrap();
    assert_eq!((row.stored, row.duplicated, row.unexplained), (6, 2, 0));
    let windows = windows(&outputs);
    assert_eq!(windows.len(), 1, "the second still collects");
    assert_eq!(
        windows[0].values,
        [
            ("count", 4.0),
            ("mean", 1.5),
            ("standard_deviation", 1.25f32.sqrt()),
            ("minimum", 0.0),
            ("maximum", 3.0)
        ]
    );
}

#[test]
fn values_are_told_in_the_unit_of_the_fleet_file_or_not_at_all() {
    let in_unit = |unit: &str, quantity: &str| {
        let Entry::Fleet { effective, text } = fleet(1) else {
            panic!("not a fleet");
        };
        let text = text
            .replace("unit = \"g\"", &format!("unit = \"{unit}\""))
            .replace(
                "quantity = \"acceleration\"",
                &format!("quantity = \"{quantity}\""),
            );
        let mut entries = vec![Entry::Fleet { effective, text }];
        entries.extend(Node::new(1).story(60, |n| 1.0 + sine(n)));
        let (pipeline, outputs) = play(&commits(entries));
        let row = windows(&outputs)[1].clone();
        (
            row.series.asset,
            row.values[0],
            pipeline.counters().windows_contradicted,
        )
    };
    // The axis is declared upside down, so the mean is negative.
    let (asset, (label, mean), contradicted) = in_unit("m/s2", "acceleration");
    assert_eq!((asset.as_str(), label, contradicted), ("fan-1", "mean", 0));
    assert!((mean + 9.80665).abs() < 1e-3, "{mean}");
    let (asset, (_, mean), contradicted) = in_unit("mm/s", "velocity");
    assert_eq!((asset.as_str(), contradicted), ("unassigned", 2));
    assert!((mean - 1.0).abs() < 1e-3, "{mean}");
}

/// Two nodes behind two gateways, one with a fault, something to wait for and something broken.
fn plant() -> (Vec<Entry>, Vec<Entry>) {
    let mut faulty = Node::new(1);
    let mut one = faulty.story(150, outer_race_fault);
    one.insert(20, faulty.block(Kind::Gap, &[1]));
    let mut healthy = Node::new(2);
    let mut other = healthy.story(140, noise);
    let fix = other.remove(1);
    other.insert(50, fix);
    (one, other)
}

fn interleave(one: &[Entry], other: &[Entry], run: usize) -> Vec<Entry> {
    let mut entries = vec![fleet(1)];
    let (mut one, mut other) = (one.chunks(run), other.chunks(run + 1));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return entries,
            (some, more) => entries.extend(some.into_iter().chain(more).flatten().cloned()),
        }
    }
}

#[test]
fn a_restart_at_any_commit_changes_no_output() {
    let (one, other) = plant();
    let commits = commits(interleave(&one, &other, 3));
    let (whole, expected) = play(&commits);
    let mut pipeline = Pipeline::new();
    let mut outputs = Vec::new();
    for commit in &commits {
        outputs.extend(pipeline.apply(commit));
        let saved = checkpoint::save(pipeline.state());
        let state = checkpoint::load(&saved).unwrap();
        pipeline = Pipeline::resume(state);
        assert_eq!(checkpoint::save(pipeline.state()), saved);
    }
    assert_eq!(format!("{outputs:?}"), format!("{expected:?}"));
    assert_eq!(
        checkpoint::save(pipeline.state()),
        checkpoint::save(whole.state())
    );
    assert!(
        expected
            .iter()
            .any(|output| matches!(output, Output::Advisory(_)))
    );
}

#[test]
fn a_replay_gives_the_same_bytes() {
    let (one, other) = plant();
    let commits = commits(interleave(&one, &other, 2));
    let (first, outputs) = play(&commits);
    let (second, again) = play(&commits);
    assert_eq!(format!("{outputs:?}"), format!("{again:?}"));
    assert_eq!(checkpoint::save(first.state()), checkpoint::save(second.state()));
}

#[test]
fn the_order_of_two_gateways_does_not_show_in_any_channel() {
    let (one, other) = plant();
    let per_channel = |entries| {
        let (_, outputs) = play(&commits(entries));
        let mut channels: BTreeMap<SeriesKey, Vec<FeatureRow>> = BTreeMap::new();
        for row in windows(&outputs) {
            channels.entry(row.series.clone()).or_default().push(row.clone());
        }
        (channels, ledger_of(&outputs))
    };
    let expected = per_channel(interleave(&one, &other, 1));
    assert_eq!(expected.0.len(), 2);
    for run in [2, 7, 40, 1_000] {
        assert_eq!(per_channel(interleave(&one, &other, run)), expected, "{run}");
        assert_eq!(per_channel(interleave(&other, &one, run)), expected, "{run}");
    }
}

#[test]
fn a_checkpoint_that_is_damaged_or_foreign_is_refused() {
    let (pipeline, _) = play(&commits(Node::new(1).story(5, sine)));
    let saved = checkpoint::save(pipeline.state());
    let [part] = &saved[..] else {
        panic!("{} parts", saved.len());
    };
    for at in 0..part.len() {
        let mut damaged = part.clone();
        damaged[at] ^= 0x10;
        assert!(checkpoint::load(&[damaged]).is_err(), "byte {at}");
    }
    assert_eq!(checkpoint::load(&saved).unwrap(), *pipeline.state());
}

#[test]
fn a_fix_that_comes_after_a_megabyte_of_frames_gives_the_same_windows() {
    let in_order = Node::new(1).story(1_100, sine);
    assert!(
        in_order
            .iter()
            .map(|entry| match entry {
                Entry::Block { bytes, .. } => bytes.len(),
                _ => 0,
            })
            .sum::<usize>()
            > 1 << 20
    );
    let (_, expected) = play(&commits(in_order.clone()));
    let mut late = in_order;
    let fix = late.remove(1);
    late.push(fix);
    let (pipeline, outputs) = play(&commits(late));
    assert_eq!(windows(&outputs), windows(&expected));
    assert_eq!(ledger_of(&outputs), ledger_of(&expected));
    assert_eq!(pipeline.counters().samples_late, 0);
}

#[test]
fn an_agent_restored_from_an_image_counts_nothing_twice() {
    let mut node = Node::new(1);
    let describe = node.describe();
    let mut entries = vec![fleet(1), node.frame_block(&[describe]), node.fix()];
    let frames: Vec<_> = (0..90).map(|_| node.waveform(sine)).collect();
    entries.push(node.frame_block(&frames[..60]));
    let mut expected = entries.clone();
    expected.push(node.frame_block(&frames[60..]));
    let (_, expected) = play(&commits(expected));
    // It remembers 30 frames, and packs what the node repeats into other blocks of another epoch.
    entries.push(node.frame_block(&frames[30..45]));
    entries.push(node.frame_block(&frames[45..80]));
    entries.push(node.frame_block(&frames[80..]));
    let (pipeline, outputs) = play(&commits(entries));
    assert_eq!(windows(&outputs), windows(&expected));
    assert_eq!(pipeline.counters().frames_duplicated, 30);
    let row = ledger_of(&outputs).into_values().next().unwrap();
    assert_eq!(
        (row.produced, row.stored, row.duplicated),
        (90 * FRAME, 90 * FRAME, 30 * FRAME)
    );
    assert_eq!((row.lost, row.pending, row.unexplained), (vec![], 0, 0));
}

#[test]
fn blocks_of_two_boots_in_turns_lose_and_double_nothing() {
    let mut node = Node::new(1);
    let before = node.story(60, sine);
    let (first, at) = (node.boot, node.sample);
    node.reboot();
    let after = node.story(60, sine);
    let mut entries = vec![fleet(1)];
    entries.extend(
        before
            .into_iter()
            .zip(after)
            .flat_map(|(before, after)| [before, after]),
    );
    let (pipeline, outputs) = play(&commits(entries));
    let ledger = ledger_of(&outputs);
    assert_eq!(ledger.len(), 2);
    for row in ledger.values() {
        assert_eq!(
            (row.produced, row.stored, row.unexplained),
            (at, at, 0),
            "{row:?}"
        );
        assert_eq!((row.duplicated, row.lost_total(), row.pending), (0, 0, 0));
    }
    assert!(ledger.contains_key(&(node.id, first, FIRST_CHANNEL)));
    // Both clocks say the same time, so their windows hold two signals: neither is judged.
    assert!(windows(&outputs).iter().all(|row| !row.decided));
    assert_eq!(pipeline.counters().samples_stored, 2 * at);
}

#[test]
fn another_node_at_the_same_point_goes_on_with_its_series() {
    let (mut old, mut new) = (Node::new(1), Node::new(2));
    let Entry::Fleet { text, .. } = fleet(1) else {
        panic!("not a fleet");
    };
    let replaced = text.replace("0000000000000001", "0000000000000002");
    let mut entries = vec![fleet(1)];
    entries.extend(old.story(60, sine));
    let effective = START.plus_nanos(2 * SECOND + SECOND / 2);
    entries.push(Entry::Fleet {
        effective,
        text: replaced,
    });
    let first = new.describe();
    entries.extend([new.frame_block(&[first]), new.fix()]);
    for _ in 0..120 {
        // Both are powered for a while: the old one's samples belong nowhere any more.
        let (a, b) = (old.waveform(sine), new.waveform(sine));
        entries.extend([old.frame_block(&[a]), new.frame_block(&[b])]);
    }
    let (_, outputs) = play(&commits(entries));
    let mut seen = BTreeMap::new();
    for row in windows(&outputs) {
        let key = (row.series.asset.clone(), row.series.point.clone());
        let second = row.start.nanos_since(START).div_euclid(SECOND) + 1;
        assert!(
            seen.insert((key, second), row.decided).is_none(),
            "one window, once: {row:?}"
        );
    }
    let seconds = |asset: &str, point: &str| {
        let of = |key: &(String, String)| (key.0.as_str(), key.1.as_str()) == (asset, point);
        seen.keys()
            .filter(|(key, _)| of(key))
            .map(|(_, second)| *second)
            .collect::<Vec<_>>()
    };
    assert_eq!(seconds("fan-1", "motor-de"), [0, 1, 2, 3, 4]);
    assert_eq!(seconds("unassigned", "0000000000000001"), [3, 4, 5, 6]);
    assert_eq!(seconds("unassigned", "0000000000000002"), [0, 1, 2]);
}

#[test]
fn a_fleet_of_a_clock_that_was_ahead_does_not_come_back_into_force() {
    let named = |asset: &str, effective| {
        let Entry::Fleet { text, .. } = fleet(1) else {
            panic!("not a fleet");
        };
        Entry::Fleet {
            effective,
            text: text.replace("fan-1", asset),
        }
    };
    let mut entries = vec![
        named("first", EventTime(i64::MIN)),
        named("ahead", START.plus_nanos(3 * SECOND)),
        named("last", START.plus_nanos(SECOND)),
    ];
    entries.extend(Node::new(1).story(150, sine));
    let (_, outputs) = play(&commits(entries));
    let mut assets: Vec<_> = windows(&outputs)
        .iter()
        .map(|row| row.series.asset.as_str())
        .collect();
    assets.dedup();
    assert_eq!(assets, ["first", "last"]);
}

#[test]
fn a_unit_that_changes_does_not_change_the_window_before() {
    let mut node = Node::new(1);
    let mut entries = vec![fleet(1)];
    // Ends with the second: the first frame in the other unit fires the last window in the old one.
    entries.extend(node.story(25 + 25 * 3 / 4 + 1, sine));
    let (_, before) = play(&commits(entries.clone()));
    let table = node.describe_in(Unit::MetrePerSecondSquared, 2);
    entries.push(node.frame_block(&[table]));
    for _ in 0..30 {
        let frame = node.waveform_under(2, sine);
        entries.push(node.frame_block(&[frame]));
    }
    let (_, after) = play(&commits(entries));
    let rms = |outputs: &[Output]| -> Vec<f32> {
        let rows = windows(outputs).into_iter().filter(|row| row.decided);
        rows.map(|row| row.values.iter().find(|value| value.0 == "rms").unwrap().1)
            .collect()
    };
    let rms = (rms(&before), rms(&after));
    assert_eq!(rms.0[..], rms.1[..rms.0.len()]);
    let expected = 0.5 / 2f32.sqrt();
    assert!(!rms.1.is_empty() && (rms.1[0] - expected).abs() < 1e-3, "{rms:?}");
}

#[test]
fn a_plant_of_many_restarts_never_runs_out_of_boots() {
    use crate::ingest::dedup::BOOTS_MAX as PER_NODE;
    let mut entries = Vec::new();
    let nodes = BOOTS_MAX / PER_NODE + 2;
    for number in 1..=nodes as u64 {
        let mut node = Node::new(number);
        for _ in 0..PER_NODE + 2 {
            node.reboot();
            entries.push(node.fix());
        }
    }
    let mut live = Node::new(1);
    live.boot = BootId::new(10_000, 0);
    entries.extend(live.story(60, sine));
    let (pipeline, outputs) = play(&commits(entries));
    assert_eq!(pipeline.state().boots.len(), BOOTS_MAX);
    assert_eq!(dead_letters(&outputs), []);
    assert_eq!(pipeline.counters().samples_stored, 60 * FRAME);
}

#[test]
fn what_an_agent_reports_of_nodes_that_never_were_is_bounded() {
    let mut gateway = Node::new(1);
    let entries = (0..BOOTS_MAX as u64 + 100).map(|n| {
        let channel = ChannelHolding {
            channel: FIRST_CHANNEL,
            produced: u64::MAX,
            at_node: u64::MAX,
            at_agent: None,
        };
        gateway.holding(Holding {
            node: NodeId::new(n + 1).unwrap(),
            boot: BootId::new(1, 0),
            channels: [channel].into_iter().collect(),
        })
    });
    let (pipeline, _) = play(&commits(entries.collect()));
    assert_eq!(pipeline.state().boots.len(), BOOTS_MAX);
    assert_eq!(pipeline.unexplained(), u64::MAX);
}

mod hostile {
    use super::*;
    use proptest::prelude::*;
    use trunnion_common::block::ChannelHolding;

    /// A block whose envelope is right and whose content need not be.
    fn mangled(node: &mut Node, kind: u8, flips: &[(usize, u8)], cut: usize) -> Entry {
        let mut frame = match kind % 3 {
            0 => node.describe(),
            _ => node.waveform(noise),
        };
        frame.truncate(frame.len() - 4);
        for (at, bits) in flips {
            let at = at % frame.len();
            frame[at] ^= bits;
        }
        frame.truncate(frame.len().saturating_sub(cut % 8));
        // The line's checksum is right: the node itself wrote this.
        let crc = trunnion_common::codec::crc32c(&frame);
        frame.extend(crc.to_le_bytes());
        node.frame_block(&[frame])
    }

    fn odd_block(node: &mut Node, kind: u8, body: &[u8]) -> Entry {
        let kinds = Kind::ALL;
        node.block(kinds[usize::from(kind) % kinds.len()], body)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Nothing that passes the envelope's check panics, grows without bound or breaks the ledger.
        #[test]
        fn the_equation_holds_whatever_is_journaled(
            steps in prop::collection::vec(
                (
                    0u8..8,
                    any::<u8>(),
                    prop::collection::vec((any::<usize>(), any::<u8>()), 0..4),
                    prop::collection::vec(any::<u8>(), 0..60),
                    (0u64..60_000, 0u64..60_000, 0u64..60_000),
                ),
                1..60,
            ),
        ) {
            let mut node = Node::new(1);
            let describe = node.describe();
            let mut entries = vec![fleet(1), node.frame_block(&[describe]), node.fix()];
            for (step, kind, flips, body, (a, b, c)) in steps {
                entries.push(match step {
                    0 => odd_block(&mut node, kind, &body),
                    1 | 2 => mangled(&mut node, kind, &flips, body.len()),
                    3 => {
                        let (id, boot) = (node.id, node.boot);
                        let channel = ChannelHolding {
                            channel: FIRST_CHANNEL,
                            produced: a,
                            at_node: b,
                            at_agent: Range::new(b.min(c), b.max(c)),
                        };
                        node.holding(Holding { node: id, boot, channels: [channel].into_iter().collect() })
                    }
                    4 => {
                        // Frames that never come.
                        let _lost = node.waveform(noise);
                        Entry::Tick
                    }
                    5 if kind < 16 => {
                        node.reboot();
                        node.fix()
                    }
                    _ => {
                        let frame = node.waveform(noise);
                        node.frame_block(&[frame])
                    }
                });
            }
            let mut pipeline = Pipeline::new();
            for commit in commits(entries) {
                for output in pipeline.apply(&commit) {
                    if let Output::Ledger(row) = output {
                        prop_assert_eq!(
                            row.produced,
                            row.stored + row.lost_total() + row.pending + row.unexplained,
                            "{:?}", row
                        );
                    }
                }
            }
            let saved = checkpoint::save(pipeline.state());
            prop_assert_eq!(
                &checkpoint::load(&saved).unwrap(),
                pipeline.state()
            );
        }
    }
}
