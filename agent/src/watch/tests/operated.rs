//! A machine whose current and speed tell how it is operated, and its thermometer.

mod unusual;

use super::*;
use trunnion_common::instrument::Fault;
use trunnion_common::operating::{GateSettings, Regimes};
use trunnion_common::operation::{Operation, Witness};
use trunnion_common::sample::NoData;

const WARM: u16 = 1;
const CURRENT: u16 = 2;
const SPEED: u16 = 3;

fn number(channel: u16) -> ChannelId {
    ChannelId::new(channel).unwrap()
}

/// Vibration and three slow channels that are read each second.
fn whole_table() -> Describe {
    let slow = |unit| ChannelDescriptor {
        unit,
        scale: 1.0,
        rate_mhz: 1_000,
        range: 2_000.0,
        band_low_hz: 0.0,
        band_high_hz: 0.5,
    };
    let mut table = table();
    let units = [Unit::DegreeCelsius, Unit::Ampere, Unit::RevolutionPerMinute];
    table.channels.extend(units.map(slow));
    table
}

fn witness(channel: u16, unit: Unit) -> Witness {
    Witness {
        node: key(1).0,
        channel: number(channel),
        unit,
        gain: 1.0,
    }
}

/// It runs above 5 A.
fn by_current() -> Operation {
    Operation {
        running: Some((witness(CURRENT, Unit::Ampere), 5.0)),
        fresh_ns: 60 * SECOND,
        ..Operation::default()
    }
}

/// A vibration that is judged from the second on in which its machine runs.
fn operated(operation: Operation) -> Watch {
    let mut watch = watch();
    watch.settings.gate = GateSettings {
        settle_ns: 0,
        ..GateSettings::default()
    };
    Watch { operation, ..watch }
}

/// ALERT above 80 and below 5 degrees, ALARM above 95 and below 2, by windows of ten seconds.
fn thermometer() -> Watch {
    let watched = Watched {
        kind: FeatureKind::Mean,
        absolute: Some([80.0, 95.0]),
        relative: None,
    };
    Watch {
        settings: Settings {
            watched: [watched].into_iter().collect(),
            gate: GateSettings {
                settle_ns: 0,
                ..GateSettings::default()
            },
            learning: None,
            range: Some(150.0),
            interval_ns: 0,
            ..Settings::default()
        },
        slow: Some(SlowWatch {
            unit: Unit::DegreeCelsius,
            below: Some([5.0, 2.0]),
            size_ns: 10 * SECOND,
            offset_ns: 0,
            coverage_min_permille: 950,
        }),
        ..watch()
    }
}

impl Machine {
    fn watching(watches: impl IntoIterator<Item = (u16, Watch)>) -> Self {
        let plan = watches
            .into_iter()
            .map(|(channel, watch)| ((key(1).0, number(channel)), watch));
        let mut machine = Self {
            watches: Watches::default(),
        };
        machine.watches.configure(
            &plan.collect(),
            &Searches::new(),
            &Examinations::new(),
            Duration::ZERO,
        );
        machine.watches.handle_describe(key(1), &whole_table());
        machine
    }

    /// Readings of a channel, from that second on, as they come in one frame with the last of them.
    fn read(&mut self, channel: u16, first: u64, readings: &[Result<f32, NoData>]) {
        let scalar = Scalar {
            revision: 1,
            channel: number(channel),
            first_sample: first,
            readings: readings.iter().copied().collect(),
        };
        let fix = fix(key(1));
        let last = first + readings.len() as u64 - 1;
        let arrival = Arrival {
            ticks: NodeTicks(1_000_000 * first),
            fix: Some(&fix),
            utc: second(last as i64),
            mono: Duration::from_secs(last),
        };
        self.watches.handle_scalar(key(1), &scalar, arrival);
    }

    /// That temperature in each of these seconds; what changed.
    fn warm(&mut self, seconds: std::ops::Range<u64>, degrees: f32) -> Vec<News> {
        seconds.for_each(|at| self.read(WARM, at, &[Ok(degrees)]));
        self.news()
    }
}

fn of(news: &[News], condition: Condition) -> Vec<(Level, Level)> {
    let of = news
        .iter()
        .filter(|news| news.condition.condition == condition && news.before != news.condition.level);
    of.map(|news| (news.before, news.condition.level)).collect()
}

const LIMITS: Condition = Condition::Deviation(FeatureKind::Mean);

#[test]
fn a_temperature_over_its_limit_is_told_with_the_reading_that_completes_the_third_window() {
    let mut machine = Machine::watching([(WARM, thermometer())]);
    assert_eq!(of(&machine.warm(0..20, 41.5), LIMITS), []);
    assert_eq!(of(&machine.warm(20..49, 88.5), LIMITS), []);
    let news = machine.warm(49..50, 88.5);
    assert_eq!(of(&news, LIMITS), [(Level::Normal, Level::Alert)]);
    let told = news[0].condition;
    assert_eq!(
        (told.raised, told.at, news[0].closed),
        (second(50), second(50), Duration::from_secs(49)),
        "its window ends a second after its last reading"
    );
    let evidence = told.evidence.unwrap();
    assert_eq!((evidence.value, evidence.limit), (88.5, 80.0));
    assert_eq!(machine.watches.standing(), [told]);
    assert_eq!(
        of(&machine.warm(50..80, 99.0), LIMITS),
        [(Level::Alert, Level::Alarm)]
    );
    assert_eq!(
        of(&machine.warm(80..200, 41.5), LIMITS),
        [(Level::Alarm, Level::Normal)]
    );
    assert_eq!(machine.watches.take_tally().undecided, 0);
}

#[test]
fn a_temperature_that_is_too_low_is_the_same_condition_by_the_other_limits() {
    let mut machine = Machine::watching([(WARM, thermometer())]);
    let news = machine.warm(0..30, 1.0);
    assert_eq!(of(&news, LIMITS), [(Level::Normal, Level::Alarm)]);
    assert_eq!(news[0].condition.evidence.unwrap().limit, 2.0);
    assert_eq!(machine.watches.standing().len(), 1);
}

#[test]
fn a_thermometer_that_is_gone_or_at_the_end_of_its_range_is_an_instrument_fault() {
    let faults = |machine: &Machine| -> Vec<Option<Fault>> {
        let standing = machine.watches.standing();
        standing.iter().map(|held| held.evidence?.fault).collect()
    };
    let mut off = Machine::watching([(WARM, thermometer())]);
    off.warm(0..30, 150.0);
    assert_eq!(faults(&off), [Some(Fault::CableOff)]);

    let mut silent = Machine::watching([(WARM, thermometer())]);
    silent.warm(0..30, 41.5);
    silent.watches.handle_time(second(60), Duration::from_secs(60));
    assert_eq!(faults(&silent), []);
    silent.watches.handle_time(second(61), Duration::from_secs(61));
    assert_eq!(faults(&silent), [Some(Fault::Silent)]);
}

#[test]
fn readings_without_a_value_and_of_another_quantity_are_none() {
    let mut machine = Machine::watching([(WARM, thermometer())]);
    (0..60).for_each(|at| machine.read(WARM, at, &[Err(NoData::BusError)]));
    assert_eq!(machine.watches.take_tally(), Tally::default());

    let mut table = whole_table();
    table.channels[usize::from(WARM)].unit = Unit::Ampere;
    machine.watches.handle_describe(key(1), &table);
    machine.warm(60..120, 99.0);
    assert_eq!(machine.watches.take_tally(), Tally::default());
}

#[test]
fn a_window_of_readings_with_a_hole_is_given_up_as_time_passes() {
    let mut machine = Machine::watching([(WARM, thermometer())]);
    (0..12)
        .filter(|at| *at != 5)
        .for_each(|at| machine.read(WARM, at, &[Ok(41.5)]));
    let at = |seconds| (second(seconds), Duration::from_secs(seconds.unsigned_abs()));
    let mut pass = |seconds| {
        let (utc, mono) = at(seconds);
        machine.watches.handle_time(utc, mono);
        machine.watches.take_tally().windows
    };
    assert_eq!((pass(11), pass(12)), (0, 1));
}

#[test]
fn a_machine_that_stands_still_by_its_witness_is_not_judged_however_it_shakes() {
    let mut machine = Machine::watching([(0, operated(by_current()))]);
    machine.read(CURRENT, 0, &[Ok(0.2)]);
    assert_eq!(changes(&machine.run(0..20, 3.0)), []);
    machine.read(CURRENT, 20, &[Ok(40.0)]);
    assert_eq!(
        changes(&machine.run(20..23, 3.0)),
        [(Level::Normal, Level::Alarm)]
    );
    machine.read(CURRENT, 23, &[Ok(0.2)]);
    assert_eq!(
        changes(&machine.run(23..60, 0.1)),
        [],
        "nothing is cleared while it stands still"
    );
}

#[test]
fn readings_that_come_many_at_a_time_count_each_at_its_time() {
    let mut machine = Machine::watching([(0, operated(by_current()))]);
    machine.read(CURRENT, 0, &[Ok(40.0), Ok(40.0), Ok(40.0), Ok(0.2), Ok(0.2)]);
    assert_eq!(changes(&machine.run(0..4, 3.0)), [], "it ran in two windows");
    machine.read(CURRENT, 5, &[Ok(40.0)]);
    assert_eq!(changes(&machine.run(4..5, 3.0)).len(), 1, "and in a third one");
}

#[test]
fn after_a_start_windows_wait_for_the_first_word_of_the_witness_as_long_as_that_counts() {
    let mut machine = Machine::watching([(0, operated(by_current()))]);
    assert_eq!(changes(&machine.run(0..30, 3.0)), []);
    machine.read(CURRENT, 29, &[Ok(0.2)]);
    assert_eq!(changes(&machine.run(30..60, 3.0)), [], "it stands still");

    // One that comes through another gateway is never heard: the vibration alone tells, as without a witness.
    let mut alone = Machine::watching([(0, operated(by_current()))]);
    assert_eq!(changes(&alone.run(0..60, 3.0)), []);
    assert_eq!(changes(&alone.run(60..64, 3.0)), [(Level::Normal, Level::Alarm)]);
}

#[test]
fn when_the_clock_was_set_back_a_witness_is_heard_anew() {
    let mut machine = Machine::watching([(0, operated(by_current()))]);
    (10_000..10_300).for_each(|at| machine.read(CURRENT, at, &[Ok(40.0)]));
    machine.read(CURRENT, 0, &[Ok(0.2)]);
    assert_eq!(changes(&machine.run(0..20, 3.0)), [], "it stands still");
}

#[test]
fn what_was_heard_of_a_witness_counts_on_when_a_watch_changes() {
    let mut machine = Machine::watching([(0, operated(by_current()))]);
    machine.read(CURRENT, 0, &[Ok(40.0)]);
    machine.run(0..2, 0.1);
    let mut changed = operated(by_current());
    changed.settings.range = Some(16.0);
    machine.watches.configure(
        &plan(changed),
        &Searches::new(),
        &Examinations::new(),
        Duration::ZERO,
    );
    assert_eq!(changes(&machine.run(2..6, 3.0)), [(Level::Normal, Level::Alarm)]);
}

#[test]
fn the_baseline_of_the_regime_counts_that_the_measured_speed_tells() {
    let normal = |centre| {
        let normal = Normal {
            kind: FeatureKind::Rms,
            centre,
            spread: 0.01,
        };
        [normal].into_iter().collect()
    };
    let regime = |speed| Regime { speed, load: 0 };
    let mut watch = operated(Operation {
        speed: Some((witness(SPEED, Unit::RevolutionPerMinute), 25.0)),
        fresh_ns: 60 * SECOND,
        ..Operation::default()
    });
    watch.settings.regimes = Regimes::new(&[15.0], &[]).unwrap();
    watch.settings.watched[0].absolute = None;
    // Slow, it vibrates with 0.1 g; at full speed, with 0.4 g.
    watch.baselines = [(0, 0.1), (1, 0.4)]
        .map(|(speed, centre)| (regime(speed), normal(centre), EventTime(0)))
        .into_iter()
        .collect();
    let told = |rpm: Option<f32>, seconds| {
        let mut machine = Machine::watching([(0, watch.clone())]);
        rpm.into_iter().for_each(|rpm| machine.read(SPEED, 0, &[Ok(rpm)]));
        changes(&machine.run(0..seconds, 0.4))
    };
    assert_eq!(told(Some(600.0), 10), [(Level::Normal, Level::Alert)]);
    assert_eq!(told(Some(1_500.0), 10), []);
    assert_eq!(
        told(None, 80),
        [],
        "of an unknown speed nothing is known to be normal"
    );
}
