//! From windows to zones, baselines, notices and health, and what people decide of them.

use super::*;
use crate::advisory::{Advisory, Cause, Evidence};
use crate::decision::{Decision, DecisionAction};
use crate::health::Grade;
use trunnion_common::instrument::Fault;
use trunnion_common::level::Level;
use trunnion_common::monitor::Basis;

/// Frames of a second.
const FRAMES: usize = (RATE / FRAME) as usize;

/// A motor of group 2 on a rigid support: zones end at 1.4, 2.8 and 4.5 mm/s.
const GRADED: &str = "iso_group = 2\npower_kw = 75\nsupport = \"rigid\"\n";

/// The fleet of these tests, whose asset has further keys.
fn fleet_with(keys: &str) -> Entry {
    let Entry::Fleet { effective, text } = fleet(1) else {
        unreachable!("the fleet is one");
    };
    let condition = "[site.area.asset.condition]\nsettle_s = 0\nbaseline_windows = 5\nbaseline_hours = 0\noff_below = 0.01\n";
    let id = "id = \"fan-1\"\n";
    Entry::Fleet {
        effective,
        text: text.replace(id, &format!("{id}{keys}{condition}")),
    }
}

/// A sine at 60 Hz of that velocity, mm/s RMS, in g, on a little noise.
fn vibration(velocity: f64, n: u64) -> f64 {
    let amplitude = 2f64.sqrt() * velocity * std::f64::consts::TAU * 60.0 / 9_806.65;
    amplitude * (std::f64::consts::TAU * 60.0 * n as f64 / RATE as f64).sin() + 0.2 * noise(n)
}

/// So many seconds of that velocity.
pub(super) fn run(node: &mut Node, seconds: usize, velocity: f64) -> Vec<Entry> {
    let frame = |_| {
        let frame = node.waveform(|n| vibration(velocity, n));
        node.frame_block(&[frame])
    };
    (0..seconds * FRAMES).map(frame).collect()
}

fn begin(node: &mut Node, keys: &str) -> Vec<Entry> {
    let mut entries = vec![fleet_with(keys)];
    entries.extend(node.story(0, |_| 0.0));
    entries
}

pub(super) fn decided(action: DecisionAction) -> Entry {
    Entry::Decided(Box::new(Decision {
        asset: "fan-1".into(),
        point: None,
        action,
    }))
}

pub(super) fn notices(outputs: &[Output]) -> Vec<(&'static str, &Advisory)> {
    let changes = outputs.iter().filter_map(|output| match output {
        Output::Advisory(AdvisoryChange::Raised(advisory)) => Some(("raised", advisory)),
        Output::Advisory(AdvisoryChange::Updated(advisory)) => Some(("updated", advisory)),
        Output::Advisory(AdvisoryChange::Cleared(advisory)) => Some(("cleared", advisory)),
        _ => None,
    });
    changes.collect()
}

pub(super) fn of_cause(outputs: &[Output], cause: Cause) -> Vec<(&'static str, Level)> {
    let notices = notices(outputs).into_iter();
    let of = notices.filter(|(_, advisory)| advisory.cause == cause);
    of.map(|(word, advisory)| (word, advisory.level)).collect()
}

pub(super) fn grades(outputs: &[Output]) -> Vec<Grade> {
    let mut grades: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Health(row) => Some(row.health.grade),
            _ => None,
        })
        .collect();
    grades.dedup();
    grades
}

fn stages(outputs: &[Output]) -> Vec<(u32, String, bool)> {
    let mut stages: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Baseline(row) => Some((row.generation, row.stage.clone(), row.closed.is_some())),
            _ => None,
        })
        .collect();
    stages.dedup();
    stages
}

/// The last commit again and again, later each time, with nothing in it but the second that has passed.
fn ticks(commits: &mut Vec<Commit>, from: EventTime, seconds: i64) {
    for second in 0..seconds {
        let last = commits[commits.len() - 1].end;
        let end = Position {
            offset: last.offset + 100,
            ..last
        };
        commits.push(Commit {
            time: from.plus_nanos(second * SECOND),
            entries: vec![(last, Entry::Tick)],
            end,
        });
    }
}

#[test]
fn a_machine_in_zone_d_is_told_of_by_absolute_limits_until_it_is_better() {
    let mut node = Node::new(1);
    let mut entries = begin(&mut node, GRADED);
    entries.extend(run(&mut node, 3, 1.0));
    entries.extend(run(&mut node, 6, 5.0));
    entries.extend(run(&mut node, 14, 1.0));
    let (_, outputs) = play(&commits(entries));
    assert_eq!(
        of_cause(&outputs, Cause::Severity),
        [("raised", Level::Alarm), ("cleared", Level::Alarm)]
    );
    let notices = notices(&outputs);
    let (_, raised) = notices[0];
    let Evidence::Limit(evidence) = &raised.evidence else {
        panic!("{raised:?}");
    };
    assert_eq!((evidence.limit, evidence.basis), (4.5, Basis::Absolute));
    assert!((evidence.value - 5.0).abs() < 0.2, "{evidence:?}");
    assert_eq!(evidence.standard.as_deref(), Some("ISO 20816-3:2022"));
    assert!(raised.recommendation.contains("damage"));
    let grades = grades(&outputs);
    assert_eq!(grades.last(), Some(&Grade::Healthy));
    assert!(grades.contains(&Grade::Fault), "{grades:?}");
}

#[test]
fn without_a_declared_group_nothing_is_graded_and_the_asset_is_healthy() {
    let mut node = Node::new(1);
    let mut entries = begin(&mut node, "");
    entries.extend(run(&mut node, 9, 5.0));
    let (_, outputs) = play(&commits(entries));
    assert_eq!(notices(&outputs), []);
    assert_eq!(
        grades(&outputs),
        [Grade::Unknown, Grade::Healthy],
        "unknown before the first whole window"
    );
}

#[test]
fn a_machine_that_stands_still_is_off() {
    let mut node = Node::new(1);
    let mut entries = begin(&mut node, GRADED);
    entries.extend(run(&mut node, 3, 1.0));
    let still = |node: &mut Node| {
        let frame = node.waveform(|n| 0.02 * noise(n));
        node.frame_block(&[frame])
    };
    entries.extend((0..3 * FRAMES).map(|_| still(&mut node)));
    let (_, outputs) = play(&commits(entries));
    assert_eq!(grades(&outputs), [Grade::Unknown, Grade::Healthy, Grade::Off]);
}

/// Learns 1 mm/s, has it accepted, rises to 1.9 mm/s, is mended, and learns again.
fn life() -> Vec<Entry> {
    let mut node = Node::new(1);
    let mut entries = begin(&mut node, GRADED);
    entries.extend(run(&mut node, 8, 1.0));
    entries.push(decided(DecisionAction::AcceptBaseline));
    entries.extend(run(&mut node, 4, 1.0));
    entries.extend(run(&mut node, 6, 1.9));
    entries.push(decided(DecisionAction::Maintenance {
        note: "bearing changed".into(),
    }));
    entries.extend(run(&mut node, 16, 1.0));
    entries
}

#[test]
fn a_baseline_is_learned_accepted_frozen_and_closed_by_maintenance() {
    let (_, outputs) = play(&commits(life()));
    let stage = |generation, stage: &str, closed| (generation, stage.to_owned(), closed);
    assert_eq!(
        stages(&outputs),
        [
            stage(0, "learning", false),
            stage(0, "proposed", false),
            stage(0, "accepted", false),
            stage(0, "frozen", false),
            stage(0, "frozen", true),
            stage(1, "learning", false),
            stage(1, "proposed", false),
        ]
    );
    let closed = outputs.iter().find_map(|output| match output {
        Output::Baseline(row) if row.closed.is_some() => Some(row),
        _ => None,
    });
    let closed = closed.unwrap();
    assert_eq!(closed.note.as_deref(), Some("bearing changed"));
    let normal = closed
        .normals
        .iter()
        .find(|normal| normal.feature == "velocity_rms");
    assert!((normal.unwrap().centre - 1.0).abs() < 0.1, "{closed:?}");
}

#[test]
fn what_is_normal_is_told_of_only_once_a_person_has_accepted_it() {
    let (_, outputs) = play(&commits(life()));
    // 1.9 mm/s is zone B, and more than a quarter of B/C above the normal 1 mm/s.
    // What its cause is has to be looked at anew after the maintenance.
    let severity = of_cause(&outputs, Cause::Severity);
    let told = ["raised", "updated", "cleared"].map(|word| (word, Level::Alert));
    assert_eq!(severity, told);
    let notices = notices(&outputs);
    let (_, raised) = notices
        .iter()
        .find(|(_, told)| told.cause == Cause::Severity)
        .unwrap();
    assert!(matches!(&raised.evidence, Evidence::Limit(limit) if limit.basis == Basis::Baseline));
    let never = life()
        .into_iter()
        .filter(|entry| !matches!(entry, Entry::Decided(_)));
    let (_, outputs) = play(&commits(never.collect()));
    assert_eq!(of_cause(&outputs, Cause::Severity), []);
}

#[test]
fn live_and_replay_agree_from_any_checkpoint_on() {
    let commits = commits(life());
    let (whole, outputs) = play(&commits);
    for at in [10, commits.len() / 3, commits.len() / 2, commits.len() - 5] {
        let (before, after) = commits.split_at(at);
        let (pipeline, mut resumed) = play(before);
        let mut pipeline = Pipeline::resume(pipeline.state().clone());
        resumed.extend(after.iter().flat_map(|commit| pipeline.apply(commit)));
        assert_eq!(resumed, outputs, "from {at}");
        assert_eq!(pipeline.state(), whole.state());
    }
}

#[test]
fn data_that_ceases_makes_unknown_with_an_instrument_alarm_until_it_comes_back() {
    let mut node = Node::new(1);
    let mut entries = begin(&mut node, GRADED);
    entries.extend(run(&mut node, 6, 1.0));
    let mut commits = commits(entries);
    let last = START.plus_nanos(6 * SECOND);
    ticks(&mut commits, last, 3);
    let (_, outputs) = play(&commits);
    assert_eq!(
        of_cause(&outputs, Cause::Instrument),
        [],
        "three intervals have not passed"
    );
    ticks(&mut commits, last.plus_nanos(3 * SECOND), 4);
    let (mut pipeline, outputs) = play(&commits);
    assert_eq!(of_cause(&outputs, Cause::Instrument), [("raised", Level::Alert)]);
    let notices = notices(&outputs);
    let silent = |evidence: &Evidence| {
        matches!(
            evidence,
            Evidence::Instrument {
                fault: Fault::Silent,
                ..
            }
        )
    };
    assert!(silent(&notices[0].1.evidence));
    assert_eq!(grades(&outputs).last(), Some(&Grade::Unknown));
    let from = commits[commits.len() - 1].clone();
    // What was measured meanwhile is lost.
    node.sample += 6 * RATE;
    let mut back = Vec::new();
    for (n, entry) in run(&mut node, 4, 1.0).into_iter().enumerate() {
        let end = Position {
            offset: from.end.offset + 100 * (n as u64 + 1),
            ..from.end
        };
        let commit = Commit {
            time: from.time.plus_nanos(n as i64 * 20_000_000),
            entries: vec![(from.end, entry)],
            end,
        };
        back.extend(pipeline.apply(&commit));
    }
    assert_eq!(of_cause(&back, Cause::Instrument), [("cleared", Level::Alert)]);
    assert_eq!(grades(&back).last(), Some(&Grade::Healthy));
}

#[test]
fn what_a_new_fleet_no_longer_watches_is_over() {
    let mut node = Node::new(1);
    let mut entries = begin(&mut node, GRADED);
    entries.extend(run(&mut node, 6, 5.0));
    entries.push(fleet_with(""));
    let (_, outputs) = play(&commits(entries));
    assert_eq!(
        of_cause(&outputs, Cause::Severity),
        [("raised", Level::Alarm), ("cleared", Level::Alarm)]
    );
}

#[test]
fn history_neither_raises_nor_teaches() {
    let mut node = Node::new(1);
    let mut entries = begin(&mut node, GRADED);
    node.lane = trunnion_common::block::Lane::Backfill;
    entries.extend(run(&mut node, 9, 5.0));
    let (_, outputs) = play(&commits(entries));
    assert_eq!(notices(&outputs), []);
    assert_eq!(stages(&outputs), []);
}
