use super::*;
use crate::severity::{Group, Standard, Support};

const SECOND: i64 = 1_000_000_000;
const OVERALL: FeatureKind = FeatureKind::VelocityRms;
const RMS: FeatureKind = FeatureKind::Rms;
const PEAK: FeatureKind = FeatureKind::Peak;

/// A motor of 75 kW on a rigid support at 1,500 rpm: zones end at 1.4, 2.8 and 4.5 mm/s.
fn settings() -> Settings {
    let standard = Standard::Iso20816Part3(Group::Medium, Support::Rigid);
    Settings {
        severity: Some(Severity {
            criterion: Criterion::of(standard).unwrap(),
            kind: OVERALL,
            unit: Some(Unit::MillimetrePerSecond),
            band_hz: Some([10.0, 1_000.0]),
            trip: None,
        }),
        watched: Vec::from_slice(&[Watched {
            kind: PEAK,
            absolute: None,
            relative: Some(Relative::default()),
        }])
        .unwrap(),
        gate: GateSettings {
            off_below: Some(0.05),
            settle_ns: 0,
            ..GateSettings::default()
        },
        learning: Some(Minimum {
            windows: 5,
            span_ns: 0,
        }),
        range: Some(16.0),
        ..Settings::default()
    }
}

/// A point fed with windows of 1 s.
struct Point {
    monitor: Monitor,
    settings: Settings,
    operating: Operating,
    seconds: i64,
}

impl Point {
    fn new(settings: Settings) -> Self {
        Self {
            monitor: Monitor::default(),
            settings,
            operating: Operating {
                speed_hz: Some(25.0),
                ..Operating::default()
            },
            seconds: 0,
        }
    }

    /// One whose normal is 1 mm/s and 3 g of peak, accepted.
    fn with_baseline() -> Self {
        let mut point = Self::new(settings());
        for _ in 0..5 {
            point.window(1.0, 1.0);
        }
        point.monitor.accept(EventTime(0)).unwrap();
        point
    }

    /// A window of that velocity, and of a signal of that RMS in g, whose peak is three times it.
    fn window(&mut self, velocity: f32, rms: f32) -> Assessment {
        self.window_of(velocity, rms, 3.0 * rms, true)
    }

    fn window_of(&mut self, velocity: f32, rms: f32, peak: f32, is_decided: bool) -> Assessment {
        let statistics = Statistics {
            mean: 0.0,
            rms,
            peak,
            peak_to_peak: 2.0 * peak,
            shape: None,
        };
        let values = [(OVERALL, velocity), (RMS, rms), (PEAK, peak)];
        let start = EventTime(self.seconds * SECOND);
        self.seconds += 1;
        let window = Window {
            start,
            end: start.plus_nanos(SECOND),
            is_decided,
            statistics: Some(&statistics),
            values: &values,
        };
        self.monitor
            .handle_window(&window, &self.operating, &self.settings)
    }

    /// The level of severity held after so many windows of that velocity.
    fn severity_after(&mut self, windows: usize, velocity: f32) -> Level {
        (0..windows).for_each(|_| drop(self.window(velocity, 1.0)));
        self.monitor.severity.held()
    }
}

fn judged(assessment: &Assessment, condition: Condition) -> Judged {
    let found = assessment
        .judged
        .iter()
        .find(|judged| judged.condition == condition);
    *found.unwrap()
}

#[test]
fn without_a_baseline_the_zones_decide_and_the_evidence_says_so() {
    let mut point = Point::new(settings());
    assert_eq!(point.severity_after(5, 2.8), Level::Normal, "2.8 mm/s is zone B");
    let assessment = point.window(2.9, 1.0);
    assert_eq!(assessment.zone, Ok(Zone::C));
    let evidence = judged(&assessment, Condition::Severity).evidence.unwrap();
    assert_eq!(
        (evidence.basis, evidence.limit, evidence.normal),
        (Basis::Absolute, 2.8, None)
    );
    assert_eq!(point.severity_after(2, 2.9), Level::Alert);
    assert_eq!(point.severity_after(3, 4.6), Level::Alarm, "zone D");
    assert_eq!(point.severity_after(3, 5.7), Level::Trip, "above 1.25 times C/D");
}

#[test]
fn with_a_baseline_the_alert_follows_the_normal() {
    let mut point = Point::with_baseline();
    // 1.0 mm/s and a quarter of B/C.
    assert_eq!(point.severity_after(5, 1.7), Level::Normal);
    let assessment = point.window(1.8, 1.0);
    assert_eq!(assessment.zone, Ok(Zone::B), "long before zone C");
    let evidence = judged(&assessment, Condition::Severity).evidence.unwrap();
    assert_eq!(evidence.basis, Basis::Baseline);
    assert!((evidence.limit - 1.7).abs() < 1e-5 && (evidence.normal.unwrap() - 1.0).abs() < 1e-5);
    assert_eq!(point.severity_after(2, 1.8), Level::Alert);
}

#[test]
fn a_trip_limit_can_be_lowered_and_not_raised() {
    let with_trip = |trip, velocity| {
        let mut settings = settings();
        settings.severity.as_mut().unwrap().trip = Some(trip);
        Point::new(settings).severity_after(3, velocity)
    };
    assert_eq!(with_trip(4.6, 4.7), Level::Trip);
    assert_eq!(with_trip(9.0, 5.7), Level::Trip);
    assert_eq!(with_trip(9.0, 5.6), Level::Alarm);
}

#[test]
fn an_alert_is_held_below_its_limit_and_given_up_in_the_end() {
    let mut point = Point::new(settings());
    assert_eq!(point.severity_after(3, 2.9), Level::Alert);
    assert_eq!(
        point.severity_after(20, 2.6),
        Level::Alert,
        "within a tenth of the limit"
    );
    assert_eq!(point.severity_after(8, 2.4), Level::Alert);
    assert_eq!(
        point.severity_after(1, 2.4),
        Level::Normal,
        "one of ten may still reach it"
    );
}

#[test]
fn a_change_matters_whatever_its_zone() {
    let mut point = Point::with_baseline();
    assert!(!point.window(1.6, 1.0).has_changed);
    assert!(point.window(1.8, 1.0).has_changed);
    assert!(point.window(0.2, 1.0).has_changed, "downwards too");
    assert!(!Point::new(settings()).window(9.0, 1.0).has_changed, "from what?");
}

#[test]
fn a_baseline_is_learned_proposed_accepted_and_frozen() {
    let mut point = Point::new(settings());
    let stages: std::vec::Vec<_> = (0..6).map(|_| point.window(1.0, 1.0).stage).collect();
    assert_eq!(stages, [None, None, None, None, Some(Stage::Proposed), None]);
    assert_eq!(
        judged(&point.window(1.0, 1.0), Condition::Severity)
            .evidence
            .unwrap()
            .normal,
        None
    );
    assert_eq!(point.monitor.accept(EventTime(9)).unwrap().len(), 1);
    assert_eq!(point.window(1.0, 1.0).stage, Some(Stage::Frozen));
    assert_eq!(point.monitor.accept(EventTime(9)), Err(Refusal::AlreadyAccepted));
    let before = point.monitor.baselines().to_vec();
    point.severity_after(50, 1.3);
    assert_eq!(
        point.monitor.baselines(),
        before,
        "it does not drift with the machine"
    );
}

#[test]
fn zones_c_and_d_transients_standstill_and_alarms_teach_nothing() {
    let mut point = Point::new(settings());
    point.severity_after(20, 3.0);
    point.severity_after(20, 5.0);
    (0..20).for_each(|_| drop(point.window(0.1, 0.01)));
    (0..20).for_each(|_| drop(point.window_of(1.0, 1.0, 3.0, false)));
    (0..20).for_each(|_| drop(point.window_of(1.0, 1.0, 16.0, true)));
    for second in 0..20 {
        point.operating.speed_hz = Some(if second % 2 == 0 { 30.0 } else { 25.0 });
        point.settings.gate.settle_ns = SECOND;
        point.window(1.0, 1.0);
    }
    let learned: u32 = point
        .monitor
        .baselines()
        .iter()
        .map(|(_, baseline)| baseline.windows())
        .sum();
    assert_eq!(learned, 0);
}

#[test]
fn each_regime_has_a_normal_of_its_own() {
    let mut point = Point::new(Settings {
        regimes: Regimes::new(&[20.0], &[]).unwrap(),
        ..settings()
    });
    let slow = |point: &mut Point| point.operating.speed_hz = Some(15.0);
    let fast = |point: &mut Point| point.operating.speed_hz = Some(25.0);
    for _ in 0..5 {
        fast(&mut point);
        point.window(1.3, 1.0);
    }
    slow(&mut point);
    point.window(0.4, 1.0);
    assert_eq!(
        point.monitor.accept(EventTime(0)).unwrap().len(),
        1,
        "the slow one still learns"
    );
    let normal = |assessment: &Assessment| judged(assessment, Condition::Severity).evidence.unwrap().normal;
    assert_eq!(normal(&point.window(0.4, 1.0)), None);
    fast(&mut point);
    assert!((normal(&point.window(1.3, 1.0)).unwrap() - 1.3).abs() < 1e-5);
    assert_eq!(point.monitor.baselines().len(), 2);
}

#[test]
fn more_regimes_than_are_kept_are_judged_by_absolute_limits() {
    let mut point = Point::new(Settings {
        regimes: Regimes::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], &[10.0]).unwrap(),
        ..settings()
    });
    for load in [5.0, 15.0] {
        for speed in 1..=8 {
            point.operating.speed_hz = Some(speed as f32 - 0.5);
            point.operating.load = Some(load);
            point.window(1.0, 1.0);
        }
    }
    assert_eq!(point.monitor.baselines().len(), REGIMES_MAX);
}

#[test]
fn everything_is_held_while_the_machine_runs_up_or_stands() {
    let mut point = Point::new(settings());
    assert_eq!(point.severity_after(3, 2.9), Level::Alert);
    let off = |point: &mut Point| point.window(0.0, 0.01);
    for _ in 0..30 {
        assert_eq!(off(&mut point).run, Some(Run::Off));
    }
    assert_eq!(point.monitor.severity.held(), Level::Alert);
    assert_eq!(off(&mut point).zone, Err(NotGraded::Off));
    point.settings.gate.settle_ns = 3 * SECOND;
    for _ in 0..3 {
        let assessment = point.window(9.0, 1.0);
        assert_eq!(
            (assessment.run, assessment.zone),
            (Some(Run::Transient), Err(NotGraded::Transient))
        );
        assert_eq!(point.monitor.severity.held(), Level::Alert, "nor is it raised");
    }
    assert_eq!(point.window(9.0, 1.0).zone, Ok(Zone::D));
}

#[test]
fn speeds_and_bands_out_of_scope_are_not_graded() {
    let mut point = Point::new(settings());
    point.operating.speed_hz = None;
    assert_eq!(point.window(9.0, 1.0).zone, Err(NotGraded::SpeedUnknown));
    point.operating.speed_hz = Some(1.0);
    assert_eq!(point.window(9.0, 1.0).zone, Err(NotGraded::SpeedOutOfScope));
    point.operating.speed_hz = Some(25.0);
    point.settings.severity.as_mut().unwrap().band_hz = None;
    assert_eq!(point.window(9.0, 1.0).zone, Err(NotGraded::Band));
    assert_eq!(point.monitor.severity.held(), Level::Normal);
    point.settings.severity = None;
    let assessment = point.window(9.0, 1.0);
    assert_eq!(assessment.zone, Err(NotGraded::Undeclared));
    assert!(
        assessment
            .judged
            .iter()
            .all(|judged| judged.condition != Condition::Severity)
    );
}

#[test]
fn a_deviation_needs_a_baseline_or_an_entered_limit() {
    let level = |point: &Point| point.monitor.latch(PEAK).held();
    let rise = |point: &mut Point, peak| {
        for _ in 0..3 {
            point.window_of(1.0, 1.0, peak, true);
        }
    };
    let mut point = Point::new(settings());
    rise(&mut point, 14.0);
    assert_eq!(level(&point), Level::Normal);
    let mut point = Point::with_baseline();
    rise(&mut point, 5.9);
    assert_eq!(level(&point), Level::Normal);
    rise(&mut point, 6.1);
    assert_eq!(level(&point), Level::Alert, "more than twice the normal 3 g");
    let mut point = Point::new(settings());
    point.settings.watched[0].absolute = Some([4.0, 8.0]);
    rise(&mut point, 4.1);
    assert_eq!(level(&point), Level::Alert);
    rise(&mut point, 8.1);
    assert_eq!(level(&point), Level::Alarm);
}

#[test]
fn of_an_entered_limit_and_a_normal_the_lower_one_counts() {
    let mut point = Point::with_baseline();
    let limit = |point: &mut Point, absolute| {
        point.settings.watched[0].absolute = Some(absolute);
        let evidence = judged(&point.window(1.0, 1.0), Condition::Deviation(PEAK))
            .evidence
            .unwrap();
        (evidence.basis, (evidence.limit * 10.0).round() / 10.0)
    };
    assert_eq!(limit(&mut point, [4.0, 5.0]), (Basis::Absolute, 4.0));
    assert_eq!(limit(&mut point, [9.0, 15.0]), (Basis::Baseline, 6.0));
}

#[test]
fn a_faulty_instrument_is_told_and_the_machine_is_not_graded() {
    let mut point = Point::with_baseline();
    assert_eq!(point.severity_after(3, 1.8), Level::Alert);
    for clipped in 1..=15 {
        let assessment = point.window_of(0.1, 1.0, 16.0, true);
        assert_eq!(assessment.zone, Err(NotGraded::Instrument));
        assert_eq!(assessment.fault, Some(Fault::Clipped));
        assert_eq!(judged(&assessment, Condition::Severity).reached, None);
        assert_eq!(point.monitor.fault().is_some(), clipped >= 3);
    }
    assert_eq!(
        point.monitor.severity.held(),
        Level::Alert,
        "a clipped signal mends nothing"
    );
    (0..8).for_each(|_| drop(point.window(1.0, 1.0)));
    assert_eq!(point.monitor.fault(), Some(Fault::Clipped));
    point.window(1.0, 1.0);
    assert_eq!(point.monitor.fault(), None);
}

#[test]
fn a_dead_signal_of_a_machine_that_runs_is_a_cable() {
    let mut point = Point::with_baseline();
    point.operating.is_running = Some(true);
    point.window(1.0, 1.0);
    assert_eq!(point.window(0.01, 0.02).fault, Some(Fault::CableOff));
    point.operating.is_running = Some(false);
    let standing = point.window(0.01, 0.02);
    assert_eq!((standing.run, standing.fault), (Some(Run::Off), None));
}

#[test]
fn data_that_ceases_is_told_once_and_comes_back_at_once() {
    let mut point = Point::new(settings());
    point.window(1.0, 1.0);
    let at = |seconds: i64| EventTime(seconds * SECOND);
    assert_eq!(point.monitor.silent_from(&point.settings), Some(at(4)));
    assert_eq!(point.monitor.handle_time(at(4), &point.settings), None);
    let told = point.monitor.handle_time(at(5), &point.settings).unwrap();
    assert_eq!((told.held, told.before), (Level::Alert, Some(Level::Normal)));
    assert_eq!(told.evidence.unwrap().fault, Some(Fault::Silent));
    assert_eq!(point.monitor.fault(), Some(Fault::Silent));
    assert_eq!(point.monitor.handle_time(at(6), &point.settings), None);
    let rest = judged(&point.window(1.0, 1.0), Condition::Instrument);
    assert_eq!(
        (rest.held, rest.before, point.monitor.fault()),
        (Level::Alert, None, Some(Fault::Silent)),
        "what was left of before shows nothing of now"
    );
    point.seconds = 9;
    let back = judged(&point.window(1.0, 1.0), Condition::Instrument);
    assert_eq!((back.held, back.before), (Level::Normal, Some(Level::Alert)));
    assert_eq!(point.monitor.fault(), None);
    assert_eq!(
        Monitor::default().handle_time(at(99), &settings()),
        None,
        "nothing was expected"
    );
}

#[test]
fn what_lies_around_an_outage_does_not_add_up() {
    let mut point = Point::new(settings());
    point.severity_after(2, 2.9);
    point.seconds += 3;
    assert_eq!(point.severity_after(1, 2.9), Level::Normal);
    let mut point = Point::new(settings());
    point.severity_after(2, 2.9);
    point.seconds += 2;
    assert_eq!(point.severity_after(1, 2.9), Level::Alert);
}

#[test]
fn maintenance_ends_deviations_and_starts_to_learn_anew() {
    let mut point = Point::with_baseline();
    for _ in 0..3 {
        point.window_of(1.8, 1.0, 9.0, true);
    }
    let ended = point.monitor.begin_anew();
    assert_eq!(ended.len(), 1);
    assert_eq!(
        (ended[0].condition, ended[0].held),
        (Condition::Deviation(PEAK), Level::Normal)
    );
    assert_eq!(point.monitor.baselines(), []);
    assert_eq!(
        point.monitor.severity.held(),
        Level::Alert,
        "by absolute limits until it is over"
    );
    let assessment = point.window(1.0, 1.0);
    assert_eq!(
        judged(&assessment, Condition::Severity).evidence.unwrap().basis,
        Basis::Absolute
    );
    assert_eq!(point.monitor.baselines()[0].1.stage(), Stage::Learning);
}

#[test]
fn an_agent_judges_by_the_baseline_that_it_was_told_and_learns_nothing() {
    let accepted = Point::with_baseline();
    let normals = accepted.monitor.baselines()[0].1.normals();
    let mut edge = Point::new(Settings {
        learning: None,
        ..settings()
    });
    edge.severity_after(20, 1.0);
    assert_eq!(edge.monitor.baselines(), []);
    assert!(edge.monitor.adopt(Regime::default(), &normals, EventTime(0)));
    assert_eq!(edge.severity_after(3, 1.8), Level::Alert);
    assert!(
        edge.monitor.adopt(Regime::default(), &normals, EventTime(1)),
        "told again"
    );
    assert_eq!(edge.monitor.baselines().len(), 1);
}

#[test]
fn the_worst_direction_counts() {
    assert_eq!(
        worst([("h", Zone::B), ("v", Zone::C), ("a", Zone::A)]),
        Some(("v", Zone::C))
    );
    assert_eq!(worst::<&str>([]), None);
}

#[test]
fn state_survives_a_checkpoint() {
    let mut point = Point::with_baseline();
    point.severity_after(2, 1.8);
    let mut bytes = [0; 1_024];
    let saved = postcard::to_slice(&point.monitor, &mut bytes).unwrap();
    point.monitor = postcard::from_bytes(saved).unwrap();
    assert_eq!(point.severity_after(1, 1.8), Level::Alert);
    let mut bytes = [0; 1_024];
    let saved = postcard::to_slice(&point.settings, &mut bytes).unwrap();
    assert_eq!(postcard::from_bytes::<Settings>(saved).unwrap(), point.settings);
}
