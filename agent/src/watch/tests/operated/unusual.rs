//! Current and temperature that go together, in rows of ten seconds, and a temperature by itself.

use super::*;
use trunnion_common::detection::multivariate::{self, Judge, Learned, Multivariate};
use trunnion_common::detection::scalar;
use trunnion_common::level::Persistence;
use trunnion_common::watch::{GroupWatch, UnusualWatch};
use trunnion_diagnosis::unusual::HELD_READINGS;

const ROW: i64 = 10 * SECOND;

/// The current in a rhythm of twenty rows, and the temperature that follows it, with a small rhythm of its own.
fn load(row: u64) -> [f32; 2] {
    let wave = |period: f32| (std::f32::consts::TAU * row as f32 / period).sin();
    [20.0 + 4.0 * wave(20.0), 60.0 + 3.0 * wave(20.0) + 0.5 * wave(7.0)]
}

fn settings() -> multivariate::Settings {
    multivariate::Settings {
        learning: 100,
        ..multivariate::Settings::default()
    }
}

/// What the collector has learned of a hundred rows.
fn learned() -> Learned {
    let mut detector: Multivariate = Multivariate::new(2, settings());
    for row in 0..100 {
        detector.handle_row(EventTime(0), &load(row));
    }
    detector.learned().unwrap().clone()
}

fn name(channel: u16) -> Name {
    (key(1).0, number(channel))
}

/// Current and temperature, told by the first of them.
fn group(generation: u32) -> Unusuals {
    let group = GroupWatch {
        channels: [name(CURRENT), name(WARM)].into_iter().collect(),
        running: Some((name(CURRENT), 5.0)),
        every_ns: ROW,
        settings: settings(),
        persistence: Persistence::default(),
        generation,
        learned: learned(),
    };
    let unusual = UnusualWatch {
        alone_ns: None,
        group: Some(group),
    };
    Unusuals::from([(name(CURRENT), unusual)])
}

fn following(unusuals: &Unusuals) -> Machine {
    let mut current = thermometer();
    current.settings.watched.clear();
    current.slow = current.slow.map(|slow| SlowWatch {
        unit: Unit::Ampere,
        below: None,
        ..slow
    });
    let mut machine = Machine::watching([(WARM, thermometer()), (CURRENT, current)]);
    machine.watches.follow(unusuals, Duration::ZERO);
    machine
}

impl Machine {
    /// Rows of those values; what changed of what is unusual.
    fn rows(&mut self, rows: std::ops::Range<u64>, value: impl Fn(u64) -> [f32; 2]) -> Vec<News> {
        for row in rows {
            for (channel, value) in [CURRENT, WARM].into_iter().zip(value(row)) {
                self.read(channel, 10 * row, &[Ok(value); 10]);
            }
        }
        let mut news = self.news();
        news.retain(|news| {
            matches!(
                news.condition.condition,
                Condition::Unusual | Condition::UnusualTogether
            )
        });
        news
    }

    fn told(&mut self) -> Vec<LocalUnusual> {
        let bodies: Vec<_> = self.watches.poll_bodies().collect();
        let body = bodies.iter().find(|(kind, _)| *kind == Kind::Unusual);
        let records = body.map(|(_, body)| Records::<LocalUnusual>::new(body).map(Result::unwrap));
        records.into_iter().flatten().collect()
    }
}

/// The temperature does not follow, and is below its limit.
fn apart(row: u64) -> [f32; 2] {
    [load(row)[0], 70.0]
}

#[test]
fn a_group_that_leaves_what_was_accepted_is_told_with_the_share_of_each_and_over_when_it_returns() {
    let mut machine = following(&group(0));
    let settled = machine.rows(100..200, load);
    let [told] = &settled[..] else {
        panic!("{settled:#?}");
    };
    let after = 100 + i64::from(Judge::run_in(&settings()));
    assert_eq!(
        (told.condition.level, told.before, told.condition.at),
        (Level::Normal, Level::Normal, second(10 * after)),
        "a former start may have held it"
    );
    machine.told();

    let raised = machine.rows(200..210, apart);
    let [news] = &raised[..] else {
        panic!("{raised:#?}");
    };
    let held = news.condition;
    assert_eq!(
        (held.condition, held.level),
        (Condition::UnusualTogether, Level::Alert)
    );
    assert_eq!(
        (held.node, held.channel, held.raised),
        (key(1).0, number(CURRENT), held.at)
    );
    let Some(Lines::Unusual(row)) = &news.lines else {
        panic!("{news:#?}");
    };
    assert!(row.value > row.limit && row.residual > Some(1.0), "{row:?}");
    let [(first, one), (second, other)] = row.contributions[..] else {
        panic!("{row:?}");
    };
    assert_eq!((first, second), (name(CURRENT), name(WARM)));
    assert!((one + other - 1.0).abs() < 1e-5, "{row:?}");
    let word = LocalWord {
        told: held,
        lines: news.lines.clone(),
    };
    assert_eq!(machine.watches.words(), [word], "and no limit is reached");
    let told = machine.told();
    assert_eq!(
        (told.len(), told[0].told, told[0].shown.as_ref()),
        (1, held, Some(row))
    );

    let over = machine.rows(210..400, load);
    assert_eq!(
        of(&over, Condition::UnusualTogether),
        [(Level::Alert, Level::Normal)]
    );
    assert_eq!(over[0].condition.raised, held.raised);
    let told = machine.told();
    assert_eq!(
        (told[0].told.level, told[0].shown.as_ref()),
        (Level::Normal, None)
    );
    assert_eq!(machine.watches.words(), []);
}

#[test]
fn a_group_whose_machine_stands_still_or_of_which_a_channel_is_missing_is_not_judged() {
    let mut machine = following(&group(0));
    assert_eq!(machine.rows(100..200, |_| [0.5, 20.0]), []);
    let mut machine = following(&group(0));
    (100..300).for_each(|row| machine.read(WARM, 10 * row, &[Ok(70.0); 10]));
    assert_eq!(machine.rows(300..302, load), []);
}

#[test]
fn what_was_held_of_a_group_is_over_when_something_else_is_accepted_or_nothing() {
    for wanted in [group(1), Unusuals::new()] {
        let mut machine = following(&group(0));
        let held = machine.rows(100..120, apart)[0].condition;
        machine.watches.follow(&group(0), Duration::ZERO);
        assert_eq!(machine.news(), [], "nothing has changed");
        machine.watches.follow(&wanted, Duration::from_secs(1_200));
        let over = machine.news();
        assert_eq!(
            of(&over, Condition::UnusualTogether),
            [(Level::Alert, Level::Normal)]
        );
        assert!(over[0].condition.at > held.at, "the latest word holds");
        assert_eq!(machine.watches.words(), []);
    }
}

#[test]
fn when_the_clock_was_set_back_a_group_is_judged_on() {
    let mut machine = following(&group(0));
    machine.rows(1_000..1_060, load);
    let raised = machine.rows(100..120, apart);
    assert_eq!(
        of(&raised, Condition::UnusualTogether),
        [(Level::Normal, Level::Alert)]
    );
}

#[test]
fn a_rare_reading_of_one_channel_is_told_as_the_collector_tells_it_and_over_after_ten() {
    let rhythm = |row: u64| {
        let noise = (row.wrapping_mul(2_654_435_761) >> 16 & 0xffff) as f32 / 65_536.0;
        let spike = if (900..903).contains(&row) { 20.0 } else { 0.0 };
        40.0 + 5.0 * (row as f32 / 20.0).sin() + noise + spike
    };
    let unusual = UnusualWatch {
        alone_ns: Some(ROW),
        group: None,
    };
    let mut machine = following(&Unusuals::from([(name(WARM), unusual)]));
    let news = machine.rows(0..1_000, |row| [20.0, rhythm(row)]);
    let mut detector = scalar::Scalar::new(scalar::Settings::default());
    let direct: Vec<i64> = (0..1_000)
        .filter_map(|row| detector.handle_reading(second(10 * row as i64 + 10), rhythm(row)))
        .map(|anomaly| anomaly.at.0)
        .collect();
    let first = EventTime(*direct.first().expect("the spike is rare"));
    let last = EventTime(*direct.last().unwrap());
    assert_eq!(
        of(&news, Condition::Unusual),
        [(Level::Normal, Level::Alert), (Level::Alert, Level::Normal)]
    );
    let changed: Vec<_> = news
        .iter()
        .filter(|news| news.before != news.condition.level)
        .collect();
    assert_eq!(
        (changed[0].condition.node, changed[0].condition.channel),
        name(WARM)
    );
    assert_eq!(changed[0].condition.raised, first);
    assert_eq!(
        changed[1].condition.at,
        last.plus_nanos(i64::from(HELD_READINGS) * ROW)
    );
    let settled = news
        .iter()
        .find(|news| news.before == news.condition.level)
        .unwrap();
    assert_eq!(settled.condition.at, second(10 * i64::from(HELD_READINGS)));
}
