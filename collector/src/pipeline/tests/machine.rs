//! What a machine's shaft does: from samples to what is suspected, band alarms, and how long it has left.

use super::condition::notices;
use super::*;
use crate::advisory::{Advisory, Cause, Evidence, Explanation};
use crate::decision::{Decision, DecisionAction};
use crate::prognosis::{Method, Outlook, RemainingLife};
use std::f64::consts::TAU;
use trunnion_common::feature::band::Band;
use trunnion_common::level::Level;
use trunnion_common::monitor::{self, Condition};
use trunnion_common::shaft::{ShaftClaim, ShaftLine};
use trunnion_common::watch::{LocalCondition, LocalSuspicion};
use trunnion_diagnosis::diagnosis::{self, Undetermined};

/// Frames of a second.
const FRAMES: usize = (RATE / FRAME) as usize;

/// Speed of the shaft, Hz.
const SHAFT_HZ: f64 = 1_772.0 / 60.0;

/// A motor of group 2 on a rigid support: zones end at 1.4, 2.8 and 4.5 mm/s.
const GRADED: &str = "iso_group = 2\npower_kw = 75\nsupport = \"rigid\"\nline_hz = 50\n";

/// The fleet of these tests: keys of its asset, its condition, its shaft and its point.
fn fleet_with([asset, condition, shaft, point]: [&str; 4]) -> Entry {
    let Entry::Fleet { effective, text } = fleet(1) else {
        unreachable!("the fleet is one");
    };
    let condition = format!(
        "[site.area.asset.condition]\nsettle_s = 0\nbaseline_windows = 5\nbaseline_hours = 0\nreading_s = 1\n{condition}"
    );
    let text = text
        .replace("id = \"fan-1\"\n", &format!("id = \"fan-1\"\n{asset}{condition}"))
        .replace("rpm = 1772\n", &format!("rpm = 1772\n{shaft}"))
        .replace(
            "bearing = \"drive-end\"\n",
            &format!("bearing = \"drive-end\"\n{point}"),
        );
    Entry::Fleet { effective, text }
}

/// A sample of lines, each of an order of the shaft and mm/s RMS, in g, on a little noise.
fn lines(orders: &[(f64, f64)], n: u64) -> f64 {
    let at = n as f64 / RATE as f64;
    let line = |&(order, velocity): &(f64, f64)| {
        let hz = order * SHAFT_HZ;
        2f64.sqrt() * velocity * TAU * hz / 9_806.65 * (TAU * hz * at).sin()
    };
    orders.iter().map(line).sum::<f64>() + 0.2 * noise(n)
}

const UNBALANCED: [(f64, f64); 3] = [(1.0, 5.0), (2.0, 0.4), (3.0, 0.2)];
const HEALTHY: [(f64, f64); 3] = [(1.0, 1.0), (2.0, 0.4), (3.0, 0.2)];

/// So many seconds of a signal.
fn run(node: &mut Node, seconds: usize, signal: impl Fn(u64) -> f64) -> Vec<Entry> {
    let frame = |_| {
        let frame = node.waveform(&signal);
        node.frame_block(&[frame])
    };
    (0..seconds * FRAMES).map(frame).collect()
}

fn begin(node: &mut Node, keys: [&str; 4]) -> Vec<Entry> {
    let mut entries = vec![fleet_with(keys)];
    entries.extend(node.story(0, |_| 0.0));
    entries
}

fn decided(action: DecisionAction) -> Entry {
    Entry::Decided(Box::new(Decision {
        asset: "fan-1".into(),
        point: None,
        action,
    }))
}

fn of_cause(outputs: &[Output], cause: Cause) -> Vec<(&'static str, &Advisory)> {
    let notices = notices(outputs).into_iter();
    notices.filter(|(_, advisory)| advisory.cause == cause).collect()
}

fn words(changes: &[(&'static str, &Advisory)]) -> Vec<(&'static str, Level)> {
    let mut words: Vec<_> = changes
        .iter()
        .map(|(word, advisory)| (*word, advisory.level))
        .collect();
    words.dedup();
    words
}

/// Three healthy seconds, six unbalanced ones, fourteen healthy ones.
fn unbalanced_for_a_while() -> Vec<Entry> {
    let mut node = Node::new(1);
    let mut entries = begin(&mut node, [GRADED, "", "", ""]);
    entries.extend(run(&mut node, 3, |n| lines(&HEALTHY, n)));
    entries.extend(run(&mut node, 6, |n| lines(&UNBALANCED, n)));
    entries.extend(run(&mut node, 14, |n| lines(&HEALTHY, n)));
    entries
}

#[test]
fn an_unbalanced_rotor_is_suspected_beside_its_severity_and_both_are_over_when_it_is_balanced() {
    let (pipeline, outputs) = play(&commits(unbalanced_for_a_while()));
    let suspected = of_cause(&outputs, Cause::Suspected(diagnosis::Cause::Unbalance));
    assert_eq!(
        words(&suspected),
        [("raised", Level::Alarm), ("cleared", Level::Alarm)]
    );
    let (_, raised) = suspected[0];
    let Evidence::Orders { channel, suspicion } = &raised.evidence else {
        panic!("{raised:?}");
    };
    assert_eq!(channel, "v");
    assert!(
        (suspicion.lines[0].order - 1.0).abs() < 0.01 && suspicion.score > 0.9,
        "{suspicion:?}"
    );
    assert!((suspicion.lines[0].rms - 5.0).abs() < 0.2, "{suspicion:?}");
    assert!(raised.recommendation.contains("balance weights"));
    let severity = of_cause(&outputs, Cause::Severity);
    let explained = severity
        .iter()
        .find(|(_, told)| told.explanation.is_some())
        .map(|(_, told)| *told);
    let Some(Explanation::Suspected(by)) = explained.and_then(|told| told.explanation.as_ref()) else {
        panic!("{severity:?}");
    };
    assert_eq!(by[0].advisory, raised.id, "one thing, told as one");
    assert!(explained.unwrap().recommendation.contains("balance weights"));
    assert_eq!(severity.last().unwrap().0, "cleared");
    let others = notices(&outputs).into_iter().filter(|(_, told)| {
        !matches!(
            told.cause,
            Cause::Severity | Cause::Suspected(diagnosis::Cause::Unbalance)
        )
    });
    assert_eq!(others.count(), 0);
    // What fired while it was close to the limit and no window beside it.
    let examined = pipeline.counters().windows_examined;
    assert!((5..=7).contains(&examined), "{examined}");
}

#[test]
fn what_is_suspected_is_as_bad_as_what_it_explains() {
    let mut node = Node::new(1);
    let mut entries = begin(&mut node, [GRADED, "", "", ""]);
    entries.extend(run(&mut node, 5, |n| lines(&[(1.0, 3.5), (2.0, 0.2)], n)));
    entries.extend(run(&mut node, 4, |n| lines(&UNBALANCED, n)));
    entries.extend(run(&mut node, 4, |n| lines(&[(1.0, 7.0), (2.0, 0.2)], n)));
    let (_, outputs) = play(&commits(entries));
    let cause = Cause::Suspected(diagnosis::Cause::Unbalance);
    let levels = |cause| {
        let mut levels: Vec<_> = of_cause(&outputs, cause)
            .iter()
            .map(|(_, told)| told.level)
            .collect();
        levels.dedup();
        levels
    };
    assert_eq!(levels(cause), [Level::Alert, Level::Alarm, Level::Trip]);
    assert_eq!(levels(cause), levels(Cause::Severity));
    let ids: BTreeSet<_> = of_cause(&outputs, cause)
        .iter()
        .map(|(_, told)| told.id.clone())
        .collect();
    assert_eq!(ids.len(), 1, "one advisory of its point and cause");
}

#[test]
fn the_same_line_on_a_healthy_machine_costs_no_examination_and_says_nothing() {
    let mut node = Node::new(1);
    let mut entries = begin(&mut node, [GRADED, "", "", ""]);
    entries.extend(run(&mut node, 10, |n| lines(&[(1.0, 2.2), (2.0, 0.1)], n)));
    let (pipeline, outputs) = play(&commits(entries));
    assert_eq!(notices(&outputs), []);
    assert_eq!(pipeline.counters().windows_examined, 0);
}

#[test]
fn what_is_like_no_known_cause_is_said_to_be_undetermined() {
    let mut node = Node::new(1);
    let mut entries = begin(&mut node, [GRADED, "", "", ""]);
    // A line that is no order: of a neighbour, or a resonance.
    entries.extend(run(&mut node, 8, |n| lines(&[(1.0, 1.0), (1.37, 5.0)], n)));
    let (_, outputs) = play(&commits(entries));
    let told: Vec<_> = of_cause(&outputs, Cause::Severity)
        .iter()
        .filter_map(|(_, told)| told.explanation.clone())
        .collect();
    assert_eq!(
        told.last(),
        Some(&Explanation::Undetermined(Undetermined::LikeNone))
    );
    assert!(
        !notices(&outputs)
            .iter()
            .any(|(_, told)| matches!(told.cause, Cause::Suspected(_)))
    );
}

#[test]
fn a_bearing_that_is_damaged_explains_what_no_lines_of_the_shaft_do() {
    let mut node = Node::new(1);
    let mut entries = begin(&mut node, [GRADED, "", "", ""]);
    entries.extend(run(&mut node, 9, |n| {
        lines(&[(1.0, 1.0), (1.37, 5.0)], n) + outer_race_fault(n)
    }));
    let (_, outputs) = play(&commits(entries));
    let is_bearing = |cause: Cause| matches!(cause, Cause::Bearing(_));
    let changes = notices(&outputs);
    let (_, bearing) = changes.iter().find(|(_, told)| is_bearing(told.cause)).unwrap();
    let (_, severity) = *of_cause(&outputs, Cause::Severity).last().unwrap();
    let Some(Explanation::Suspected(by)) = &severity.explanation else {
        panic!("{severity:?}");
    };
    assert_eq!(by[0].advisory, bearing.id);
    assert!(severity.recommendation.contains(&bearing.recommendation));
}

/// What the machine's gateway says of its balance, held for two seconds then.
fn told_at_gateway(node: &mut Node, second: i64, level: Level) -> Entry {
    let at = START.plus_nanos(second * SECOND);
    let told = LocalCondition {
        node: node.id,
        boot: node.boot,
        channel: ChannelId::new(0).unwrap(),
        condition: Condition::Suspected(diagnosis::Cause::Unbalance),
        level,
        raised: at.plus_nanos(-2 * SECOND),
        at,
        evidence: None,
        standard: None,
    };
    let line = ShaftLine {
        order: 1.0,
        frequency_hz: SHAFT_HZ as f32,
        rms: 5.0,
        prominence: 80.0,
    };
    let claim = ShaftClaim {
        score: 0.95,
        band_hz: [5.0, 1_000.0],
        lines: [line].into_iter().collect(),
    };
    let claim = (level > Level::Normal).then_some(claim);
    let body = postcard::to_stdvec(&LocalSuspicion { told, claim }).unwrap();
    node.block(Kind::Suspicion, &body)
}

#[test]
fn what_gateway_and_collector_suspect_is_one_advisory_since_the_earlier_until_neither_does() {
    let cause = Cause::Suspected(diagnosis::Cause::Unbalance);
    for is_word_first in [true, false] {
        let mut node = Node::new(1);
        let mut entries = begin(&mut node, [GRADED, "", "", ""]);
        entries.extend(run(&mut node, 3, |n| lines(&HEALTHY, n)));
        let word = told_at_gateway(&mut node, 6, Level::Alarm);
        let at = entries.len();
        entries.extend(run(&mut node, 6, |n| lines(&UNBALANCED, n)));
        entries.insert(if is_word_first { at } else { entries.len() }, word);
        entries.extend(run(&mut node, 14, |n| lines(&HEALTHY, n)));
        let (_, outputs) = play(&commits(entries.clone()));
        let told = of_cause(&outputs, cause);
        assert!(
            told.iter().all(|(word, _)| *word != "cleared"),
            "the gateway holds it"
        );
        let (_, last) = told.last().unwrap();
        assert_eq!(last.raised, START.plus_nanos(4 * SECOND), "the gateway was first");
        let raised = told.iter().filter(|(word, _)| *word == "raised");
        assert_eq!((raised.count(), &last.id), (1, &told[0].1.id));
        entries.push(told_at_gateway(&mut node, 40, Level::Normal));
        let (_, outputs) = play(&commits(entries));
        let told = of_cause(&outputs, cause);
        let (word, last) = told.last().unwrap();
        assert_eq!(
            (*word, last.cleared),
            ("cleared", Some(START.plus_nanos(40 * SECOND)))
        );
    }
}

#[test]
fn what_a_gateway_suspects_explains_the_severity_that_it_told_before() {
    let mut node = Node::new(1);
    let mut entries = begin(&mut node, [GRADED, "", "", ""]);
    let at = START.plus_nanos(6 * SECOND);
    let severity = LocalCondition {
        node: node.id,
        boot: node.boot,
        channel: ChannelId::new(0).unwrap(),
        condition: Condition::Severity,
        level: Level::Alarm,
        raised: at,
        at,
        evidence: Some(monitor::Evidence {
            kind: Some(FeatureKind::VelocityRms),
            value: 5.0,
            limit: 4.5,
            normal: None,
            basis: monitor::Basis::Absolute,
            fault: None,
        }),
        standard: None,
    };
    let body = postcard::to_stdvec(&severity).unwrap();
    entries.push(node.block(Kind::Condition, &body));
    entries.push(told_at_gateway(&mut node, 6, Level::Alarm));
    let (_, outputs) = play(&commits(entries));
    let suspected = of_cause(&outputs, Cause::Suspected(diagnosis::Cause::Unbalance));
    let Evidence::Orders { channel, suspicion } = &suspected[0].1.evidence else {
        panic!("{suspected:?}");
    };
    assert_eq!((channel.as_str(), suspicion.lines.len()), ("v", 1));
    let severity = of_cause(&outputs, Cause::Severity);
    assert_eq!(severity[0].1.explanation, None, "told first");
    let Some(Explanation::Suspected(by)) = &severity.last().unwrap().1.explanation else {
        panic!("{severity:?}");
    };
    assert_eq!(by[0].advisory, suspected[0].1.id);
}

/// A wheel of 23 teeth whose mesh is modulated so deep, on a healthy shaft.
fn geared(depth: f64, n: u64) -> f64 {
    let turns = SHAFT_HZ * n as f64 / RATE as f64;
    let modulation = 1.0 + depth * ((TAU * turns).sin() + 0.7 * (TAU * 2.0 * turns).sin());
    lines(&HEALTHY, n) + 0.7 * modulation * (TAU * 23.0 * turns).sin()
}

#[test]
fn a_wheel_with_strong_sidebands_is_suspected_while_the_acceleration_is_off_its_limit() {
    let alarm = "[[site.area.asset.condition.alarm]]\nfeature = \"rms\"\nalert = 0.6\nalarm = 5\n";
    let mut node = Node::new(1);
    let mut entries = begin(&mut node, [GRADED, alarm, "teeth = 23\n", ""]);
    entries.extend(run(&mut node, 4, |n| geared(0.1, n)));
    let healthy = entries.len();
    entries.extend(run(&mut node, 7, |n| geared(0.9, n)));
    let commits = commits(entries);
    let (pipeline, outputs) = play(&commits[..healthy]);
    assert_eq!(notices(&outputs), [], "a healthy mesh");
    assert_eq!(pipeline.counters().windows_examined, 0, "and nobody looked");
    let (_, outputs) = play(&commits);
    let suspected = of_cause(&outputs, Cause::Suspected(diagnosis::Cause::GearMesh));
    assert_eq!(words(&suspected)[0], ("raised", Level::Alert));
    let Evidence::Orders { suspicion, .. } = &suspected[0].1.evidence else {
        panic!("{suspected:?}");
    };
    assert!((suspicion.lines[0].order - 23.0).abs() < 0.05 && suspicion.lines.len() >= 5);
}

#[test]
fn work_on_the_machine_ends_what_was_suspected() {
    let mut node = Node::new(1);
    let mut entries = begin(&mut node, [GRADED, "", "", ""]);
    entries.extend(run(&mut node, 6, |n| lines(&UNBALANCED, n)));
    entries.push(decided(DecisionAction::Maintenance {
        note: "balanced".into(),
    }));
    let (_, outputs) = play(&commits(entries));
    let suspected = of_cause(&outputs, Cause::Suspected(diagnosis::Cause::Unbalance));
    assert_eq!(suspected.last().unwrap().0, "cleared");
    // The vibration is still there, and nobody has looked at it since.
    let (_, severity) = *of_cause(&outputs, Cause::Severity).last().unwrap();
    assert_eq!((severity.cleared, &severity.explanation), (None, &None));
}

#[test]
fn a_band_of_the_points_own_is_trended_and_told_of_above_its_limit() {
    let band = "[[site.area.asset.point.band]]\norders = [5.5, 7.5]\nquantity = \"velocity\"\nalert = 1\nalarm = 2\n";
    let mut node = Node::new(1);
    let mut entries = begin(&mut node, ["", "", "", band]);
    entries.extend(run(&mut node, 4, |n| lines(&[(1.0, 1.0), (7.0, 0.5)], n)));
    entries.extend(run(&mut node, 6, |n| lines(&[(1.0, 1.0), (7.0, 1.5)], n)));
    entries.extend(run(&mut node, 14, |n| lines(&[(1.0, 1.0), (7.0, 0.5)], n)));
    let (_, outputs) = play(&commits(entries));
    let cause = Cause::Deviation(FeatureKind::Band1);
    let told = of_cause(&outputs, cause);
    assert_eq!(
        words(&told),
        [("raised", Level::Alert), ("cleared", Level::Alert)]
    );
    let Evidence::Limit(evidence) = &told[0].1.evidence else {
        panic!("{told:?}");
    };
    assert_eq!(evidence.limit, 1.0);
    assert!((evidence.value - 1.5).abs() < 0.05, "{evidence:?}");
    let watched = evidence.band.unwrap();
    assert_eq!(watched.band, Band::Orders { low: 5.5, high: 7.5 });
    let rows = windows(&outputs);
    let definition = rows[2].basis.unwrap().define(FeatureKind::Band1);
    assert_eq!(definition.band, watched.band, "the series says which band it is");
    assert_eq!(definition.unit, Some(Unit::MillimetrePerSecond));
    let value = rows[2].values.iter().find(|(label, _)| *label == "band_1");
    assert!((value.unwrap().1 - 0.5).abs() < 0.05);
}

/// When the vibration at the shaft's speed begins to grow, and how long it takes until C/D, seconds.
const GROWS_FROM: f64 = 24.0;
const GROWS_FOR: f64 = 70.0;

/// 1 mm/s that is accepted as normal and then grows exponentially to 4.5 mm/s, for so many seconds in all.
fn failing(seconds: usize) -> Vec<Entry> {
    let mut node = Node::new(1);
    let mut entries = begin(&mut node, [GRADED, "", "", ""]);
    let growing = |n: u64| {
        let since = (n as f64 / RATE as f64 - GROWS_FROM).max(0.0);
        let velocity = 4.5f64.powf(since / GROWS_FOR);
        lines(&[(1.0, velocity), (2.0, 0.1)], n)
    };
    entries.extend(run(&mut node, 8, growing));
    entries.push(decided(DecisionAction::AcceptBaseline));
    entries.extend(run(&mut node, seconds - 8, growing));
    entries
}

/// What was said of the end, with the second as of which.
fn told_of_life(outputs: &[Output]) -> Vec<(f64, Outlook)> {
    let told = notices(outputs).into_iter().filter_map(|(_, advisory)| {
        let life = advisory.remaining_life.as_ref()?;
        Some((life.as_of.nanos_since(START) as f64 / 1e9, life.outlook))
    });
    told.collect()
}

#[test]
fn of_a_growing_fault_the_remaining_life_is_told_with_an_interval_that_shrinks_onto_the_truth() {
    let (pipeline, outputs) = play(&commits(failing(92)));
    let told = told_of_life(&outputs);
    let first = told[0];
    assert_eq!(
        first.1,
        Outlook::BeforeOnset,
        "an ALERT before the onset: {told:?}"
    );
    let declining: Vec<(f64, RemainingLife)> = told
        .iter()
        .filter_map(|(at, outlook)| Some((GROWS_FROM + GROWS_FOR - at, outlook.remaining()?)))
        .collect();
    assert!(declining.len() > 20, "{told:?}");
    let held = declining
        .iter()
        .filter(|(truth, remaining)| remaining.holds(*truth));
    assert!(
        held.count() as f64 >= 0.8 * declining.len() as f64,
        "{declining:?}"
    );
    let [(_, begun), .., (truth, end)] = declining[..] else {
        panic!("{declining:?}");
    };
    assert!(end.width_s() < 0.5 * begun.width_s(), "{begun:?} {end:?}");
    assert!((end.median_s - truth).abs() < 10.0, "{truth}: {end:?}");
    assert!(
        declining
            .windows(2)
            .all(|pair| pair[1].0 <= pair[0].0 && pair[1].1.median_s < 1.3 * pair[0].1.median_s)
    );
    let standing = of_cause(&outputs, Cause::Severity);
    let life = standing.last().unwrap().1.remaining_life.clone().unwrap();
    let Method::Trend {
        feature,
        limit,
        normal,
        ..
    } = life.method
    else {
        panic!("{life:?}");
    };
    assert_eq!((feature, limit), (FeatureKind::VelocityRms, 4.5));
    assert!((normal.unwrap() - 1.0).abs() < 0.1, "{normal:?}");
    let (channels, shortest) = pipeline.outlooks();
    assert_eq!(channels, [1, 0, 0, 0]);
    assert_eq!(shortest, life.outlook.remaining().map(|life| life.median_s));
}

#[test]
fn of_a_machine_that_stays_as_it_is_no_end_is_told() {
    let mut node = Node::new(1);
    let mut entries = begin(&mut node, [GRADED, "", "", ""]);
    entries.extend(run(&mut node, 8, |n| lines(&HEALTHY, n)));
    entries.push(decided(DecisionAction::AcceptBaseline));
    entries.extend(run(&mut node, 20, |n| lines(&HEALTHY, n)));
    let (pipeline, outputs) = play(&commits(entries));
    assert_eq!(told_of_life(&outputs), []);
    assert_eq!(pipeline.outlooks(), ([0, 1, 0, 0], None));
}

#[test]
fn maintenance_begins_a_new_life() {
    let mut entries = failing(80);
    entries.push(decided(DecisionAction::Maintenance {
        note: "bearing changed".into(),
    }));
    let (pipeline, outputs) = play(&commits(entries));
    assert!(matches!(
        told_of_life(&outputs).last(),
        Some((_, Outlook::Declining { .. }))
    ));
    assert_eq!(pipeline.outlooks(), ([0; 4], None));
}

#[test]
fn live_and_replay_agree_from_any_checkpoint_on() {
    for entries in [unbalanced_for_a_while(), failing(60)] {
        let commits = commits(entries);
        let (whole, outputs) = play(&commits);
        let length = commits.len();
        for at in [10, length / 4, length / 2, 3 * length / 4, length - 5] {
            let (before, after) = commits.split_at(at);
            let (pipeline, mut resumed) = play(before);
            let saved = checkpoint::save(pipeline.state());
            let mut pipeline = Pipeline::resume(checkpoint::load(&saved).unwrap());
            resumed.extend(after.iter().flat_map(|commit| pipeline.apply(commit)));
            assert_eq!(resumed, outputs, "from {at}");
            assert_eq!(pipeline.state(), whole.state());
        }
    }
}
