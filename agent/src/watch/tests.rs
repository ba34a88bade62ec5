//! Windows of a second from frames of a tenth.

mod operated;
mod searched;

use super::*;
use trunnion_common::baseline::Normal;
use trunnion_common::block::Records;
use trunnion_common::frame::Packing;
use trunnion_common::monitor::{Basis, Relative, Settings, Severity, Watched};
use trunnion_common::operating::Regime;
use trunnion_common::quantity::Unit;
use trunnion_common::severity::{Criterion, Group, Standard, Support};
use trunnion_common::time::{ClockFix, ClockQuality, NodeTicks};

const RATE: u64 = 1_000;
const SECOND: i64 = 1_000_000_000;
/// UTC at ticks 0.
const UTC: i64 = 1_700_000_000 * SECOND;

fn key(boot: u64) -> BootKey {
    (NodeId::new(9).unwrap(), BootId::from_u64(boot))
}

fn channel() -> ChannelId {
    ChannelId::new(0).unwrap()
}

fn table() -> Describe {
    let channel = ChannelDescriptor {
        unit: Unit::StandardGravity,
        scale: 0.001,
        rate_mhz: 1_000 * RATE as u32,
        range: 16.0,
        band_low_hz: 1.0,
        band_high_hz: 400.0,
    };
    Describe {
        revision: 1,
        channels: [channel].into_iter().collect(),
    }
}

/// ALERT from 0.5 g, ALARM from 2 g, or from twice and ten times what is normal.
fn watch() -> Watch {
    let watched = Watched {
        kind: FeatureKind::Rms,
        absolute: Some([0.5, 2.0]),
        relative: Some(Relative::default()),
    };
    Watch {
        settings: Settings {
            watched: [watched].into_iter().collect(),
            ..Settings::default()
        },
        gain: 1.0,
        speed_hz: Some(25.0),
        baselines: Default::default(),
        operation: Default::default(),
        slow: None,
    }
}

/// By the zones of a standard.
const STANDARD: Standard = Standard::Iso20816Part3(Group::Medium, Support::Rigid);

fn severity() -> Severity {
    Severity {
        criterion: Criterion::of(STANDARD).unwrap(),
        kind: FeatureKind::VelocityRms,
        unit: Some(Unit::MillimetrePerSecond),
        band_hz: Some([10.0, 1_000.0]),
        trip: None,
    }
}

fn plan(watch: Watch) -> Plan {
    Plan::from([((key(1).0, channel()), watch)])
}

fn fix(key: BootKey) -> ClockFix {
    ClockFix {
        node: key.0,
        boot: key.1,
        number: 0,
        ticks: NodeTicks(0),
        utc: EventTime(UTC),
        error_ns: 0,
        quality: ClockQuality::Synchronised,
    }
}

struct Machine {
    watches: Watches,
}

impl Machine {
    fn new(watch: Watch) -> Self {
        let mut watches = Watches::default();
        watches.configure(
            &plan(watch),
            &Searches::new(),
            &Examinations::new(),
            Duration::ZERO,
        );
        watches.handle_describe(key(1), &table());
        Self { watches }
    }

    /// A tenth of a second of a square wave of that height, g.
    fn frame(&mut self, key: BootKey, first: u64, height: f64) {
        let data: Vec<u8> = (first..first + 100)
            .map(|index| (1_000.0 * height) as i16 * if index % 2 == 0 { 1 } else { -1 })
            .flat_map(i16::to_le_bytes)
            .collect();
        let waveform = Waveform {
            revision: 1,
            channel: channel(),
            first_sample: first,
            count: 100,
            packing: Packing::I16,
            data: &data,
        };
        let fix = fix(key);
        let arrival = Arrival {
            ticks: NodeTicks(1_000 * first),
            fix: Some(&fix),
            utc: EventTime(0),
            mono: Duration::from_millis(first + 100),
        };
        self.watches.handle_waveform(key, &waveform, arrival);
    }

    /// Seconds of that height; what changed.
    fn run(&mut self, seconds: std::ops::Range<u64>, height: f64) -> Vec<News> {
        for first in (seconds.start * RATE..seconds.end * RATE).step_by(100) {
            self.frame(key(1), first, height);
        }
        self.news()
    }

    fn body(&mut self) -> Vec<u8> {
        let bodies: Vec<_> = self.watches.poll_bodies().collect();
        let [(Kind::Condition, body)] = &bodies[..] else {
            panic!("{bodies:?}");
        };
        body.clone()
    }

    fn news(&mut self) -> Vec<News> {
        std::iter::from_fn(|| self.watches.poll()).collect()
    }
}

fn second(n: i64) -> EventTime {
    EventTime(UTC + n * SECOND)
}

fn changes(news: &[News]) -> Vec<(Level, Level)> {
    let about = |news: &&News| news.condition.condition == Condition::Deviation(FeatureKind::Rms);
    let changes = news
        .iter()
        .filter(about)
        .map(|news| (news.before, news.condition.level));
    changes.filter(|(before, now)| before != now).collect()
}

#[test]
fn three_bad_windows_are_told_with_the_last_byte_of_the_third() {
    let mut machine = Machine::new(watch());
    assert_eq!(changes(&machine.run(0..4, 0.2)), []);
    assert_eq!(changes(&machine.run(4..6, 1.0)), []);
    let news = machine.run(6..7, 1.0);
    assert_eq!(changes(&news), [(Level::Normal, Level::Alert)]);
    let told = news[0].condition;
    assert_eq!(
        (told.raised, told.at, news[0].closed),
        (second(7), second(7), Duration::from_secs(7))
    );
    let evidence = told.evidence.unwrap();
    assert_eq!((evidence.basis, evidence.limit), (Basis::Absolute, 0.5));
    assert_eq!(machine.watches.standing(), [told]);
    let news = machine.run(7..10, 3.0);
    assert_eq!(changes(&news), [(Level::Alert, Level::Alarm)]);
    assert_eq!(
        news[0].condition.raised,
        second(7),
        "it is the same that has become worse"
    );
}

#[test]
fn it_is_over_after_ten_good_windows_and_told_so() {
    let mut machine = Machine::new(watch());
    machine.run(0..5, 1.0);
    assert_eq!(machine.watches.standing().len(), 1);
    let news = machine.run(5..20, 0.2);
    assert_eq!(changes(&news), [(Level::Alert, Level::Normal)]);
    assert!(machine.watches.standing().is_empty());
}

#[test]
fn an_accepted_baseline_judges_where_there_is_one() {
    let normal = Normal {
        kind: FeatureKind::Rms,
        centre: 0.1,
        spread: 0.01,
    };
    let mut watch = watch();
    let normals = [normal].into_iter().collect();
    watch
        .baselines
        .push((Regime::default(), normals, EventTime(0)))
        .unwrap();
    let news = Machine::new(watch).run(0..4, 0.3);
    assert_eq!(changes(&news), [(Level::Normal, Level::Alert)]);
    let evidence = news[0].condition.evidence.unwrap();
    assert_eq!(evidence.basis, Basis::Baseline);
    assert!((evidence.limit - 0.2).abs() < 1e-6);
}

#[test]
fn a_frame_that_is_sent_again_completes_its_window_and_one_that_is_not_costs_it() {
    let tally = |holes: &[u64], repaired: bool| {
        let mut machine = Machine::new(watch());
        let frames = (0..50).map(|n| 100 * n);
        frames
            .filter(|first| !holes.contains(first))
            .for_each(|first| machine.frame(key(1), first, 0.2));
        if repaired {
            holes.iter().for_each(|first| machine.frame(key(1), *first, 0.2));
        }
        machine.watches.take_tally()
    };
    let judged = |windows, undecided| Tally {
        windows,
        undecided,
        dropped: 0,
    };
    assert_eq!(tally(&[], false), judged(5, 0));
    assert_eq!(
        tally(&[3_200], true),
        judged(5, 0),
        "the two behind it waited for it"
    );
    assert_eq!(tally(&[3_200], false), judged(3, 0));
    assert_eq!(tally(&[1_200], false), judged(5, 0), "nine tenths are enough");
    assert_eq!(tally(&[1_200, 1_300, 1_400], false), judged(5, 1));
}

#[test]
fn after_a_start_each_condition_is_told_once_when_it_has_been_judged() {
    let mut machine = Machine::new(watch());
    assert!(machine.run(0..9, 0.2).is_empty());
    let news = machine.run(9..30, 0.2);
    let told: Vec<_> = news
        .iter()
        .map(|news| (news.condition.condition, news.condition.level))
        .collect();
    assert_eq!(
        told,
        [
            (Condition::Deviation(FeatureKind::Rms), Level::Normal),
            (Condition::Instrument, Level::Normal)
        ]
    );
    let body = machine.body();
    assert_eq!(Records::<LocalCondition>::new(&body).count(), 2);
    assert_eq!(machine.watches.poll_bodies().count(), 0);
}

#[test]
fn of_what_was_not_told_in_time_only_the_latest_is() {
    let mut machine = Machine::new(watch());
    machine.run(0..4, 1.0);
    machine.run(4..8, 3.0);
    let body = machine.body();
    let told: Vec<_> = Records::<LocalCondition>::new(&body)
        .map(Result::unwrap)
        .collect();
    assert_eq!((told.len(), told[0].level), (1, Level::Alarm));
}

#[test]
fn what_is_watched_no_more_is_forgotten_and_what_has_not_changed_goes_on() {
    let mut machine = Machine::new(watch());
    machine.run(0..2, 1.0);
    machine.watches.configure(
        &plan(watch()),
        &Searches::new(),
        &Examinations::new(),
        Duration::ZERO,
    );
    assert_eq!(
        changes(&machine.run(2..3, 1.0)),
        [(Level::Normal, Level::Alert)],
        "the two windows before still count"
    );
    machine.watches.configure(
        &Plan::new(),
        &Searches::new(),
        &Examinations::new(),
        Duration::ZERO,
    );
    assert_eq!(
        (machine.watches.channels(), machine.watches.standing().len()),
        (0, 0)
    );
    assert_eq!(
        changes(&machine.run(3..8, 3.0)),
        [(Level::Alert, Level::Normal)],
        "what was held is given up, and nothing else is told"
    );
}

#[test]
fn samples_of_another_boot_or_without_a_table_join_no_window() {
    let mut machine = Machine::new(watch());
    (0..5).for_each(|n| machine.frame(key(1), 100 * n, 0.2));
    (5..10).for_each(|n| machine.frame(key(2), 100 * n, 0.2));
    assert_eq!(machine.watches.take_tally(), Tally::default());
    machine.watches.handle_describe(key(2), &table());
    (10..20).for_each(|n| machine.frame(key(2), 100 * n, 0.2));
    assert_eq!(machine.watches.take_tally().windows, 1);
}

#[test]
fn a_channel_that_falls_silent_is_an_instrument_fault() {
    let mut machine = Machine::new(watch());
    machine.run(0..3, 0.2);
    machine.watches.handle_time(second(4), Duration::from_secs(4));
    assert!(machine.news().is_empty());
    machine.watches.handle_time(second(60), Duration::from_secs(60));
    let news = machine.news();
    assert_eq!(
        (news.len(), news[0].condition.condition),
        (1, Condition::Instrument)
    );
    assert_eq!(machine.watches.standing().len(), 1);
}

#[test]
fn without_a_baseline_the_zones_of_the_standard_judge_and_are_named() {
    const RATE: u64 = 5_120;
    let judged = |millimetres: f64| {
        let mut machine = Machine::new(Watch {
            settings: Settings {
                severity: Some(severity()),
                ..Settings::default()
            },
            ..watch()
        });
        let mut table = table();
        table.channels[0].rate_mhz = 1_000 * RATE as u32;
        machine.watches.handle_describe(key(1), &table);
        let omega = std::f64::consts::TAU * 50.0;
        // g, of a velocity of so many mm/s RMS at 50 Hz.
        let height = std::f64::consts::SQRT_2 * millimetres * 1e-3 * omega / 9.806_65;
        for first in (0..5 * RATE).step_by(512) {
            let data: Vec<u8> = (first..first + 512)
                .map(|n| (1_000.0 * height * (omega * n as f64 / RATE as f64).sin()).round() as i16)
                .flat_map(i16::to_le_bytes)
                .collect();
            let waveform = Waveform {
                revision: 1,
                channel: channel(),
                first_sample: first,
                count: 512,
                packing: Packing::I16,
                data: &data,
            };
            let arrival = Arrival {
                ticks: NodeTicks(1_000_000 * first / RATE),
                fix: None,
                utc: EventTime(UTC),
                mono: Duration::ZERO,
            };
            machine.watches.handle_waveform(key(1), &waveform, arrival);
        }
        machine.watches.standing()
    };
    assert!(judged(2.0).is_empty(), "zone B");
    let [alert] = judged(3.5)[..] else {
        panic!("zone C");
    };
    assert_eq!(
        (alert.condition, alert.level),
        (Condition::Severity, Level::Alert)
    );
    assert_eq!(alert.standard, Some(STANDARD));
    let evidence = alert.evidence.unwrap();
    assert_eq!(evidence.basis, Basis::Absolute);
    assert!((evidence.value - 3.5).abs() < 0.05, "{} mm/s", evidence.value);
    assert_eq!(judged(5.0)[0].level, Level::Alarm);
    assert_eq!(judged(7.0)[0].level, Level::Trip);
}
