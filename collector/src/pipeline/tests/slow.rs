//! Slow channels: they tell how a machine is operated, and are judged themselves, alone and together.

use super::condition::{decided, grades, notices, of_cause};
use super::*;
use crate::advisory::{Advisory, Cause, Evidence};
use crate::decision::DecisionAction;
use crate::health::Grade;
use trunnion_common::detection::multivariate::{Multivariate, Settings as MultivariateSettings};
use trunnion_common::detection::scalar::{Scalar, Settings as ScalarSettings};
use trunnion_common::feature::FeatureKind;
use trunnion_common::instrument::Fault;
use trunnion_common::level::Level;
use trunnion_common::monitor;
use trunnion_common::watch::{LocalCondition, LocalUnusual, UnusualRow};

/// A fan with vibration, current and temperature of one node, and the temperature of another one; what its
/// condition, its operation and the temperature's channel say.
pub(super) fn fan(condition: &str, operation: &str, temperature: &str) -> Entry {
    let slow = |id: &str, node: u64, number: u8, unit: &str, keys: &str| {
        let quantity = if unit == "A" { "current" } else { "temperature" };
        format!(
            "[[site.area.asset.point.channel]]\nid = \"{id}\"\nnode = \"{node:016x}\"\nchannel = {number}\n\
             quantity = \"{quantity}\"\nunit = \"{unit}\"\nrange = 150\n{keys}\n"
        )
    };
    let text = format!(
        "[[site]]\nid = \"bremen\"\n[[site.area]]\nid = \"hall-1\"\n[[site.area.asset]]\nid = \"fan-1\"\n\
         iso_group = 2\npower_kw = 75\nsupport = \"rigid\"\n\
         [site.area.asset.condition]\nsettle_s = 0\n{condition}\n\
         [site.area.asset.operation]\n{operation}\n\
         [[site.area.asset.shaft]]\nid = \"motor\"\nrpm = 1772\n\
         [[site.area.asset.point]]\nid = \"de\"\nshaft = \"motor\"\n\
         [[site.area.asset.point.channel]]\nid = \"v\"\nnode = \"0000000000000001\"\nchannel = 0\n\
         quantity = \"acceleration\"\nunit = \"g\"\naxis = \"v\"\nrange = 16\nband_hz = [1, 5000]\n{}{}{}",
        slow("current", 1, 1, "A", ""),
        slow("warm", 1, 2, "degC", temperature),
        slow("warm-2", 2, 0, "degC", "unusual = \"off\""),
    );
    Entry::Fleet {
        effective: EventTime(0),
        text,
    }
}

/// Commits at seconds after [`START`], in rising order.
pub(super) fn committed(entries: Vec<(u64, Vec<Entry>)>) -> Vec<Commit> {
    let at = |offset| Position {
        offset,
        ..Position::default()
    };
    let mut offset = 0;
    let commit = |(second, entries): (u64, Vec<Entry>)| {
        let placed = entries.into_iter().map(|entry| {
            offset += 100;
            (at(offset), entry)
        });
        Commit {
            time: START.plus_nanos(second as i64 * SECOND),
            entries: placed.collect(),
            end: at(offset + 100),
        }
    };
    entries.into_iter().map(commit).collect()
}

/// A node whose slow channels are read every ten seconds, each commit one reading of each.
pub(super) fn readings(
    fleet: Entry,
    count: u64,
    channels: &[(u16, Unit)],
    value: impl Fn(u16, u64) -> Option<f32>,
) -> Vec<(u64, Vec<Entry>)> {
    let mut node = Node::new(1);
    let describe = node.describe();
    let begin = vec![fleet, node.frame_block(&[describe]), node.fix()];
    let mut commits = vec![(0, begin)];
    for number in 0..count {
        let second = 10 * number + 5;
        let reading = |(channel, unit): &(u16, Unit)| {
            let reading = value(*channel, number)?;
            Some(node.readings(*channel, *unit, number, &[(second, reading)]))
        };
        commits.push((second + 1, channels.iter().filter_map(reading).collect()));
    }
    commits
}

pub(super) const WARM: (u16, Unit) = (2, Unit::DegreeCelsius);
pub(super) const CURRENT: (u16, Unit) = (1, Unit::Ampere);

/// The same, with a restart from a checkpoint after every commit.
pub(super) fn play_restarted(commits: &[Commit]) -> Vec<Output> {
    let mut pipeline = Pipeline::new();
    let mut outputs = Vec::new();
    for commit in commits {
        outputs.extend(pipeline.apply(commit));
        let kept = postcard::to_stdvec(pipeline.state()).unwrap();
        pipeline = Pipeline::resume(postcard::from_bytes(&kept).unwrap());
    }
    outputs
}

fn words(outputs: &[Output], cause: Cause) -> Vec<(&'static str, Level)> {
    of_cause(outputs, cause)
        .into_iter()
        .filter(|(word, _)| *word != "updated")
        .collect()
}

fn noise_at(number: u64) -> f32 {
    noise(number) as f32 * 5.0
}

#[test]
fn a_temperature_is_judged_by_its_limits_on_both_sides_and_by_as_many_windows_as_agree() {
    let keys = "alert = 80\nalarm = 95\nalert_below = 5";
    let value = |_, number| {
        Some(match number {
            20..30 => 85.0,
            30..40 => 100.0,
            60..70 => -20.0,
            _ => 40.0 + noise_at(number),
        })
    };
    let commits = committed(readings(fan("", "", keys), 100, &[WARM], value));
    let (_, outputs) = play(&commits);
    let told = of_cause(&outputs, Cause::Deviation(FeatureKind::Mean));
    let levels: Vec<_> = told.iter().map(|(word, level)| (*word, *level)).collect();
    assert_eq!(levels[0], ("raised", Level::Alert));
    assert!(levels.contains(&("updated", Level::Alarm)), "{levels:?}");
    let cleared = levels.iter().filter(|(word, _)| *word == "cleared").count();
    let raised = levels.iter().filter(|(word, _)| *word == "raised").count();
    assert_eq!((raised, cleared), (2, 2), "{levels:?}");
    let notices = notices(&outputs);
    let low = notices.iter().find_map(|(_, advisory)| match &advisory.evidence {
        Evidence::Limit(limit) if limit.is_below => Some(limit),
        _ => None,
    });
    assert_eq!(low.map(|limit| (limit.value, limit.limit)), Some((-20.0, 5.0)));
    assert_eq!(play_restarted(&commits), outputs);
}

#[test]
fn a_temperature_that_a_gateway_tells_of_and_the_collector_sees_itself_is_one_advisory() {
    let value = |_, number| {
        let is_hot = (5..40).contains(&number);
        Some(if is_hot { 88.5 } else { 40.0 + noise_at(number) })
    };
    let word = |second: i64, level| {
        let at = START.plus_nanos(second * SECOND);
        let told = LocalCondition {
            node: NodeId::new(1).unwrap(),
            boot: BootId::new(1, 7),
            channel: ChannelId::new(2).unwrap(),
            condition: monitor::Condition::Deviation(FeatureKind::Mean),
            level,
            raised: at,
            at,
            evidence: Some(monitor::Evidence {
                kind: Some(FeatureKind::Mean),
                value: 88.5,
                limit: 80.0,
                normal: None,
                basis: monitor::Basis::Absolute,
                fault: None,
            }),
            standard: None,
        };
        postcard::to_stdvec(&told).unwrap()
    };
    let mut gateway = Node::new(2);
    let mut story = readings(fan("", "", "alert = 80"), 100, &[WARM], value);
    // Before the collector has three windows of it, and after it has ten good ones.
    story[8]
        .1
        .push(gateway.block(Kind::Condition, &word(70, Level::Alert)));
    story[60]
        .1
        .push(gateway.block(Kind::Condition, &word(590, Level::Normal)));
    let commits = committed(story);
    let (_, outputs) = play(&commits);
    let told = notices(&outputs);
    let ends = |word| told.iter().filter(move |(said, _)| *said == word);
    let ([(_, raised)], [(_, cleared)]) = (
        &ends("raised").collect::<Vec<_>>()[..],
        &ends("cleared").collect::<Vec<_>>()[..],
    ) else {
        panic!("{told:#?}");
    };
    assert_eq!(
        (&raised.id, raised.cause),
        (&cleared.id, Cause::Deviation(FeatureKind::Mean))
    );
    assert_eq!(
        raised.raised,
        START.plus_nanos(70 * SECOND),
        "as the gateway says"
    );
    assert_eq!(
        cleared.cleared,
        Some(START.plus_nanos(590 * SECOND)),
        "when both say so"
    );
    assert_eq!(play_restarted(&commits), outputs);
}

#[test]
fn a_slow_channel_that_falls_silent_makes_unknown_until_it_comes_back() {
    let value = |_, number| (!(20..40).contains(&number)).then(|| 40.0 + noise_at(number));
    let commits = committed(readings(fan("", "", ""), 50, &[WARM], value));
    let (_, outputs) = play(&commits);
    assert_eq!(
        words(&outputs, Cause::Instrument),
        [("raised", Level::Alert), ("cleared", Level::Alert)]
    );
    let notices = notices(&outputs);
    let (_, raised) = notices[0];
    let silent = |evidence: &Evidence| {
        matches!(
            evidence,
            Evidence::Instrument {
                fault: Fault::Silent,
                ..
            }
        )
    };
    assert!(silent(&raised.evidence));
    // The last window that fired ended at 190 s; three intervals of ten seconds later, when the clock is told next.
    assert_eq!(raised.raised.nanos_since(START) / SECOND, 226);
    let grades = grades(&outputs);
    assert_eq!(grades, [Grade::Healthy, Grade::Unknown, Grade::Healthy]);
    assert_eq!(play_restarted(&commits), outputs);
}

#[test]
fn readings_that_are_sent_many_at_a_time_are_not_silent_in_between() {
    let mut node = Node::new(1);
    let describe = node.describe();
    let mut entries = vec![(
        0,
        vec![fan("", "", ""), node.frame_block(&[describe]), node.fix()],
    )];
    for batch in 0..10u64 {
        let readings: Vec<_> = (0..12)
            .map(|n| (120 * batch + 10 * n + 5, 40.0 + n as f32))
            .collect();
        for second in [30, 60, 90] {
            entries.push((120 * batch + second, vec![Entry::Tick]));
        }
        let sent = node.readings(2, Unit::DegreeCelsius, 12 * batch, &readings);
        entries.push((120 * (batch + 1), vec![sent]));
    }
    let (_, outputs) = play(&committed(entries));
    assert_eq!(notices(&outputs), []);
}

/// Current and temperature go together in a rhythm of twenty readings, the temperature with a small one of its
/// own; from `apart` to `again` it does not follow.
fn load(apart: u64, again: u64) -> impl Fn(u16, u64) -> Option<f32> {
    move |channel, number| {
        let wave = |period: f32| (std::f32::consts::TAU * number as f32 / period).sin();
        Some(match channel {
            1 => 20.0 + 4.0 * wave(20.0),
            _ if (apart..again).contains(&number) => 75.0,
            _ => 60.0 + 3.0 * wave(20.0) + 0.5 * wave(7.0),
        })
    }
}

const TOGETHER: &str = "unusual_together_s = 10\nunusual_rows = 100";

fn group_settings() -> MultivariateSettings {
    MultivariateSettings {
        learning: 100,
        ..MultivariateSettings::default()
    }
}

fn group_story(accepted: bool) -> Vec<Commit> {
    let fleet = fan(TOGETHER, "running = \"de/current\"\nrunning_above = 5", "");
    let mut entries = readings(fleet, 400, &[CURRENT, WARM], load(200, 250));
    if accepted {
        entries[150].1.push(decided(DecisionAction::AcceptBaseline));
    }
    entries[350].1.push(decided(DecisionAction::Maintenance {
        note: "new thermometer".into(),
    }));
    committed(entries)
}

#[test]
fn channels_that_no_longer_go_together_are_told_with_the_share_of_each_once_a_person_has_agreed() {
    let commits = group_story(true);
    let (_, outputs) = play(&commits);
    assert_eq!(
        words(&outputs, Cause::Unusual),
        [("raised", Level::Alert), ("cleared", Level::Alert)]
    );
    let notices = notices(&outputs);
    let (_, raised) = notices
        .iter()
        .find(|(_, told)| told.cause == Cause::Unusual)
        .unwrap();
    let Evidence::Unusual(evidence) = &raised.evidence else {
        panic!("{raised:?}");
    };
    let mut channels: Vec<_> = evidence
        .contributions
        .iter()
        .map(|(channel, _)| channel.as_str())
        .collect();
    channels.sort_unstable();
    assert_eq!(channels, ["de/current", "de/warm"]);
    let whole: f32 = evidence.contributions.iter().map(|(_, share)| share).sum();
    assert!((whole - 1.0).abs() < 1e-3, "{evidence:?}");
    assert!(
        evidence.value > 1.0 && evidence.residual > Some(1.0),
        "{evidence:?}"
    );
    assert_eq!((raised.asset.as_str(), raised.point.as_str()), ("fan-1", "*"));
    // By the detector that eval judges: at the third row outside of what was learned.
    let mut detector: Multivariate = Multivariate::new(2, group_settings());
    let row = load(200, 250);
    let mut outside = (0..400).filter(|number| {
        let row = [row(1, *number), row(2, *number)].map(Option::unwrap);
        let judgement = detector.handle_row(EventTime(0), &row);
        judgement.is_some_and(|judgement| judgement.outside)
    });
    let third = outside.nth(2).unwrap() as i64;
    let begin = START.0.div_euclid(10 * SECOND) * 10 * SECOND;
    assert_eq!(raised.raised, EventTime(begin + (third + 1) * 10 * SECOND));
    assert!((200..210).contains(&third), "{third}");
    let stages: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Baseline(row) => Some((row.generation, row.stage.as_str(), row.closed.is_some())),
            _ => None,
        })
        .collect();
    assert_eq!(
        stages,
        [
            (0, "proposed", false),
            (0, "accepted", false),
            (0, "accepted", true)
        ]
    );
    assert!(grades(&outputs).contains(&Grade::Watch));
    assert_eq!(play_restarted(&commits), outputs);
}

#[test]
fn what_a_group_has_learned_is_told_by_only_once_a_person_has_agreed() {
    let (_, outputs) = play(&group_story(false));
    assert_eq!(words(&outputs, Cause::Unusual), []);
}

#[test]
fn a_machine_that_stands_still_is_not_unusual() {
    let running = load(u64::MAX, u64::MAX);
    let value = |channel, number| match number {
        200..300 if channel == 1 => Some(0.0),
        200..300 => Some(20.0),
        _ => running(channel, number),
    };
    let told = |operation: &str| {
        let mut entries = readings(fan(TOGETHER, operation, ""), 400, &[CURRENT, WARM], value);
        entries[150].1.push(decided(DecisionAction::AcceptBaseline));
        words(&play(&committed(entries)).1, Cause::Unusual).len()
    };
    assert_eq!(told("running = \"de/current\"\nrunning_above = 5"), 0);
    assert!(told("") > 0, "nobody says that it stands still");
}

/// A channel that lives by a rhythm and once does not.
fn rhythm(number: u64) -> f32 {
    let spike = if (900..903).contains(&number) { 30.0 } else { 0.0 };
    40.0 + 5.0 * (number as f32 / 20.0).sin() + noise_at(number) + spike
}

#[test]
fn a_rare_reading_is_told_when_the_detector_that_eval_judges_tells_it() {
    let fleet = fan("unusual_alone_s = 10", "", "");
    let commits = committed(readings(fleet, 1_000, &[WARM], |_, number| Some(rhythm(number))));
    let (_, outputs) = play(&commits);
    let mut detector = Scalar::new(ScalarSettings::default());
    let direct: Vec<i64> = (0..1_000)
        .filter_map(|number| {
            let end = START.0.div_euclid(10 * SECOND) * 10 * SECOND + (number as i64 + 1) * 10 * SECOND;
            detector.handle_reading(EventTime(end), rhythm(number))
        })
        .map(|anomaly| anomaly.at.0)
        .collect();
    assert!(!direct.is_empty(), "the spike is rare");
    let notices = notices(&outputs);
    let raised: Vec<i64> = notices
        .iter()
        .filter(|(word, told)| told.cause == Cause::Unusual && *word == "raised")
        .map(|(_, told)| told.raised.0)
        .collect();
    assert_eq!(raised.len(), 1, "one advisory while it is held: {raised:?}");
    assert_eq!(raised[0], direct[0]);
    assert_eq!(
        words(&outputs, Cause::Unusual).last(),
        Some(&("cleared", Level::Alert))
    );
    assert_eq!(play_restarted(&commits), outputs);
}

/// A sine at 60 Hz of that velocity, mm/s RMS, in g, on a little noise.
fn vibration(velocity: f64, n: u64) -> f64 {
    let amplitude = 2f64.sqrt() * velocity * std::f64::consts::TAU * 60.0 / 9_806.65;
    amplitude * (std::f64::consts::TAU * 60.0 * n as f64 / RATE as f64).sin() + 0.2 * noise(n)
}

/// Seconds of zone D, with the current of each second told before its samples.
fn witnessed(operation: &str, ampere: impl Fn(u64) -> Option<f32>) -> Vec<Commit> {
    let mut node = Node::new(1);
    let mut entries = vec![fan("", operation, "")];
    entries.extend(node.story(0, |_| 0.0));
    for second in 0..12 {
        let told = ampere(second).map(|ampere| node.readings(1, Unit::Ampere, second, &[(second, ampere)]));
        entries.extend(told);
        for _ in 0..RATE / FRAME {
            let frame = node.waveform(|n| vibration(5.0, n));
            entries.push(node.frame_block(&[frame]));
        }
    }
    commits(entries)
}

const RUNNING: &str = "running = \"de/current\"\nrunning_above = 5";

#[test]
fn a_machine_that_vibrates_and_draws_no_current_is_off_and_its_neighbours_are_not_its_fault() {
    let severity = |ampere: fn(u64) -> Option<f32>| {
        let commits = witnessed(RUNNING, ampere);
        let (_, outputs) = play(&commits);
        assert_eq!(play_restarted(&commits), outputs);
        (of_cause(&outputs, Cause::Severity).len(), grades(&outputs))
    };
    let (told, grades) = severity(|_| Some(0.5));
    assert_eq!((told, grades.last()), (0, Some(&Grade::Off)));
    let (told, grades) = severity(|_| Some(10.0));
    assert_eq!((told, grades.last()), (1, Some(&Grade::Fault)));
    // Nobody tells: it is judged.
    assert_eq!(severity(|_| None).0, 1);
}

#[test]
fn a_reading_counts_for_as_long_as_it_is_fresh() {
    let told = |fresh: &str| {
        let operation = format!("{RUNNING}\n{fresh}");
        let commits = witnessed(&operation, |second| (second == 0).then_some(0.5));
        of_cause(&play(&commits).1, Cause::Severity).len()
    };
    assert_eq!(told("fresh_s = 60"), 0, "it stood still, as far as is known");
    assert_eq!(told("fresh_s = 3"), 1, "nothing is known of it from then on");
}

#[test]
fn the_turns_of_two_gateways_do_not_show_in_what_a_group_is_told_of() {
    let fleet = fan(TOGETHER, "", "").clone();
    let Entry::Fleet { effective, text } = fleet else {
        unreachable!("the fleet is one");
    };
    // The thermometers of both nodes, and no current.
    let text = text.replace("unusual = \"off\"", "").replace(
        "quantity = \"current\"",
        "unusual = \"off\"\nquantity = \"current\"",
    );
    let fleet = Entry::Fleet { effective, text };
    let run = |behind: usize| {
        let (mut one, mut two) = (Node::new(1), Node::new(2));
        let [first, second] = [one.describe(), two.describe()];
        let begin = vec![
            fleet.clone(),
            one.frame_block(&[first]),
            one.fix(),
            two.frame_block(&[second]),
            two.fix(),
        ];
        let value =
            |number: u64, seed: u64| 50.0 + 4.0 * noise_at(number / 5) + 0.2 * noise_at(2 * number + seed);
        let mut commits = vec![(0, begin)];
        let mut held = std::collections::VecDeque::new();
        for number in 0..300 {
            let at = 10 * number + 5;
            let mut entries = vec![one.readings(2, Unit::DegreeCelsius, number, &[(at, value(number, 0))])];
            let far = if (200..230).contains(&number) { 9.0 } else { 0.0 };
            held.push_back(two.readings(0, Unit::DegreeCelsius, number, &[(at, far + value(number, 1))]));
            if held.len() > behind {
                entries.extend(held.pop_front());
            }
            if number == 150 {
                entries.push(decided(DecisionAction::AcceptBaseline));
            }
            commits.push((at + 1, entries));
        }
        commits.push((3_001, held.into_iter().collect()));
        let (_, outputs) = play(&committed(commits));
        let told = notices(&outputs).into_iter();
        let told = told.filter(|(_, told)| told.cause == Cause::Unusual);
        told.map(|(word, told)| (word, told.clone()))
            .collect::<Vec<(_, Advisory)>>()
    };
    let told = run(0);
    assert_eq!(told[0].0, "raised");
    assert_eq!(run(3), told);
}

#[test]
fn a_level_that_stays_off_its_normal_below_every_limit_is_told_after_days() {
    let mut node = Node::new(1);
    let condition = "baseline_windows = 5\nbaseline_hours = 0";
    let begin = node.story(0, |_| 0.0);
    let mut entries = vec![(0, std::iter::once(fan(condition, "", "")).chain(begin).collect())];
    let mut seconds = |entries: &mut Vec<(u64, Vec<Entry>)>, day: u64, count: u64, velocity: f64| {
        node.sample = node.sample.max(day * 86_400 * RATE);
        for _ in 0..count {
            let frame = |_| {
                let frame = node.waveform(|n| vibration(velocity, n));
                node.frame_block(&[frame])
            };
            let second = (0..RATE / FRAME).map(frame).collect();
            entries.push((node.sample / RATE + 1, second));
        }
    };
    seconds(&mut entries, 0, 8, 1.0);
    entries.push((9, vec![decided(DecisionAction::AcceptBaseline)]));
    seconds(&mut entries, 1, 13, 1.0);
    for day in 2..4 {
        seconds(&mut entries, day, 13, 1.1);
    }
    seconds(&mut entries, 4, 3, 1.1);
    entries.push((
        4 * 86_400 + 60,
        vec![decided(DecisionAction::Maintenance {
            note: "cleaned".into(),
        })],
    ));
    let commits = committed(entries);
    let (_, outputs) = play(&commits);
    assert_eq!(words(&outputs, Cause::Severity), []);
    assert_eq!(
        words(&outputs, Cause::Drift),
        [("raised", Level::Alert), ("cleared", Level::Alert)]
    );
    let notices = notices(&outputs);
    let (_, raised) = notices
        .iter()
        .find(|(_, told)| told.cause == Cause::Drift)
        .unwrap();
    let Evidence::Drift { deviations, .. } = &raised.evidence else {
        panic!("{raised:?}");
    };
    assert!(*deviations > 1.0, "{deviations}");
    assert_eq!(play_restarted(&commits), outputs);
}

/// What a gateway says of the group that the current is the first channel of.
fn word_of_group(raised: EventTime, at: EventTime, level: Level) -> Vec<u8> {
    let name = |channel| (NodeId::new(1).unwrap(), ChannelId::new(channel).unwrap());
    let shown = UnusualRow {
        value: 1.25,
        limit: 1.0,
        residual: Some(2.0),
        contributions: [(name(1), 0.25), (name(2), 0.75)].into_iter().collect(),
    };
    let told = LocalCondition {
        node: name(1).0,
        boot: BootId::new(1, 7),
        channel: name(1).1,
        condition: monitor::Condition::UnusualTogether,
        level,
        raised,
        at,
        evidence: None,
        standard: None,
    };
    let shown = (level > Level::Normal).then_some(shown);
    postcard::to_stdvec(&LocalUnusual { told, shown }).unwrap()
}

#[test]
fn what_a_gateway_and_the_collector_find_unusual_of_a_group_is_one_advisory_since_the_earlier_and_until_the_later()
 {
    let second = |second: i64| START.plus_nanos(second * SECOND);
    let told = |heard_at: usize, over_at: Option<usize>| {
        let mut gateway = Node::new(2);
        let mut story = readings(fan(TOGETHER, "", ""), 400, &[CURRENT, WARM], load(200, 250));
        story[150].1.push(decided(DecisionAction::AcceptBaseline));
        let raised = second(1_990);
        let word = word_of_group(raised, raised, Level::Alert);
        story[heard_at].1.push(gateway.block(Kind::Unusual, &word));
        if let Some(over_at) = over_at {
            let over = word_of_group(raised, second(10 * over_at as i64), Level::Normal);
            story[over_at].1.push(gateway.block(Kind::Unusual, &over));
        }
        let commits = committed(story);
        let (_, outputs) = play(&commits);
        assert_eq!(play_restarted(&commits), outputs);
        let told = notices(&outputs).into_iter();
        told.filter(|(_, told)| told.cause == Cause::Unusual)
            .map(|(word, told)| (word, told.clone()))
            .collect::<Vec<_>>()
    };
    // Told before the collector's own rows show it, and after.
    for heard_at in [201, 240] {
        let told = told(heard_at, Some(390));
        let [first, .., last] = &told[..] else {
            panic!("{told:#?}");
        };
        assert_eq!((first.0, last.0), ("raised", "cleared"), "{told:#?}");
        let once = |word| told.iter().filter(|(said, _)| *said == word).count();
        assert_eq!((once("raised"), once("cleared")), (1, 1), "{told:#?}");
        assert_eq!(last.1.id, first.1.id);
        assert_eq!(
            (last.1.raised, last.1.cleared),
            (second(1_990), Some(second(3_900)))
        );
        assert_eq!((last.1.asset.as_str(), last.1.point.as_str()), ("fan-1", "*"));
    }
    // The collector sees no more of it, and the gateway holds it.
    let told = told(201, None);
    assert!(told.iter().all(|(word, _)| *word != "cleared"), "{told:#?}");
    let Evidence::Unusual(evidence) = &told[0].1.evidence else {
        panic!("{told:#?}");
    };
    let shares = [("de/warm".to_owned(), 0.75), ("de/current".to_owned(), 0.25)];
    assert_eq!((&evidence.contributions[..], evidence.value), (&shares[..], 1.25));
}

#[test]
fn what_a_gateway_finds_rare_on_one_channel_is_the_advisory_of_its_point() {
    let mut gateway = Node::new(2);
    let mut story = readings(fan("unusual_alone_s = 10", "", ""), 60, &[WARM], |_, _| {
        Some(40.0)
    });
    let word = |at: i64, level| {
        let at = START.plus_nanos(at * SECOND);
        let told = LocalCondition {
            node: NodeId::new(1).unwrap(),
            boot: BootId::new(1, 7),
            channel: ChannelId::new(2).unwrap(),
            condition: monitor::Condition::Unusual,
            level,
            raised: at,
            at,
            evidence: None,
            standard: None,
        };
        let shown = UnusualRow {
            value: 17.5,
            limit: 15.5,
            residual: None,
            contributions: Default::default(),
        };
        let shown = (level > Level::Normal).then_some(shown);
        postcard::to_stdvec(&LocalUnusual { told, shown }).unwrap()
    };
    story[10]
        .1
        .push(gateway.block(Kind::Unusual, &word(90, Level::Alert)));
    story[30]
        .1
        .push(gateway.block(Kind::Unusual, &word(290, Level::Normal)));
    let (_, outputs) = play(&committed(story));
    assert_eq!(
        words(&outputs, Cause::Unusual),
        [("raised", Level::Alert), ("cleared", Level::Alert)]
    );
    let notices = notices(&outputs);
    let (_, raised) = notices.iter().find(|(word, _)| *word == "raised").unwrap();
    assert_eq!(
        (raised.point.as_str(), raised.raised),
        ("de", START.plus_nanos(90 * SECOND))
    );
    let Evidence::Unusual(evidence) = &raised.evidence else {
        panic!("{raised:#?}");
    };
    assert_eq!(
        (evidence.channel.as_deref(), evidence.value),
        (Some("warm"), 17.5)
    );
}
