//! Bearings searched for at the gateway.

use super::*;
use std::collections::BTreeSet;
use trunnion_common::bearing::Element;
use trunnion_common::feature::band::Band;
use trunnion_common::feature::definition::WatchedBand;
use trunnion_common::operation::{Operation, Witness};
use trunnion_common::shaft::Cause;
use trunnion_common::watch::{BearingSearch, LocalSuspicion, LocalWord, SpectrumWatch};
use trunnion_diagnosis::bearing::BearingOrders;
use trunnion_diagnosis::features::Analyzer;

const RATE: u64 = 12_800;
const FRAME: u64 = 400;
const SHAFT_HZ: f64 = 30.0;

fn orders() -> BearingOrders {
    "6205".parse().unwrap()
}

fn search() -> BearingSearch {
    BearingSearch {
        speed_tolerance: 0.005,
        bearing: orders().each(),
        neighbours: Default::default(),
        band_high_hz: 5_000.0,
    }
}

fn quiet() -> Watch {
    Watch {
        settings: Settings::default(),
        speed_hz: Some(SHAFT_HZ as f32),
        ..watch()
    }
}

/// Machines of which each has a sensor beside a bearing, and samples at the rate of its table.
struct Plant {
    watches: Watches,
    analyzer: Analyzer,
    noise: u64,
    /// Whether what is handed out is searched.
    is_searching: bool,
    took: Duration,
}

fn name(node: u64) -> Name {
    (NodeId::new(node).unwrap(), channel())
}

impl Plant {
    fn new(machines: u64, rate: u64) -> Self {
        let names = || (1..=machines).map(name);
        let plan: Plan = names().map(|name| (name, quiet())).collect();
        let searches: Searches = names().map(|name| (name, search())).collect();
        let mut watches = Watches::default();
        watches.configure(&plan, &searches, &Examinations::new(), Duration::ZERO);
        for (node, _) in names() {
            let mut table = table();
            table.channels[0].rate_mhz = 1_000 * rate as u32;
            table.channels[0].band_high_hz = 5_000.0;
            watches.handle_describe((node, BootId::from_u64(1)), &table);
        }
        Self {
            watches,
            analyzer: Analyzer::new(),
            noise: 1,
            is_searching: true,
            took: Duration::ZERO,
        }
    }

    /// Even from -1 to 1 (a linear congruential generator: Knuth, MMIX).
    fn noise(&mut self) -> f64 {
        self.noise = self
            .noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.noise >> 40) as f64 / f64::from(1 << 23) - 1.0
    }

    /// A ringing of 3 kHz whenever a ball meets a spot at that order, if there is one, in noise; milli-g.
    fn sample(&mut self, number: u64, order: Option<f64>) -> i16 {
        let seconds = number as f64 / RATE as f64;
        let strike = order.map_or(0.0, |order| {
            let hz = 1.003 * order * SHAFT_HZ;
            // Balls slide, so that no two strikes are quite as far apart as the two before.
            let early = |strike: f64| 0.05 * (strike * 0.618_034).fract();
            let last = (seconds * hz + 0.05).floor();
            let last = if last - early(last) > seconds * hz {
                last - 1.0
            } else {
                last
            };
            let since = seconds - (last - early(last)) / hz;
            (-1_200.0 * since).exp() * (std::f64::consts::TAU * 3_000.0 * since).sin()
        });
        (400.0 * strike + 60.0 * self.noise()) as i16
    }

    fn frame(&mut self, node: u64, first: u64, samples: &[i16]) {
        let data: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let key = (name(node).0, BootId::from_u64(1));
        let waveform = Waveform {
            revision: 1,
            channel: channel(),
            first_sample: first,
            count: samples.len() as u16,
            packing: Packing::I16,
            data: &data,
        };
        let fix = fix(key);
        let arrival = Arrival {
            ticks: NodeTicks(1_000_000 * first / RATE),
            fix: Some(&fix),
            utc: EventTime(0),
            mono: Duration::from_micros(1_000_000 * (first + FRAME) / RATE),
        };
        self.watches.handle_waveform(key, &waveform, arrival);
        self.work(arrival.mono);
    }

    fn work(&mut self, now: Duration) {
        while self.is_searching
            && let Some(window) = self.watches.poll_search(now)
        {
            let searched = window.run(&mut self.analyzer);
            self.watches.handle_searched(&searched, self.took, now);
        }
    }

    /// Seconds of the first machine; what changed of its bearing.
    fn run(&mut self, seconds: std::ops::Range<u64>, order: Option<f64>) -> Vec<News> {
        self.play(seconds, |plant, number| plant.sample(number, order))
    }

    fn play(&mut self, seconds: std::ops::Range<u64>, sample: impl Fn(&mut Self, u64) -> i16) -> Vec<News> {
        for first in (seconds.start * RATE..seconds.end * RATE).step_by(FRAME as usize) {
            let numbers = first..first + FRAME;
            let samples: Vec<i16> = numbers.map(|number| sample(self, number)).collect();
            self.frame(1, first, &samples);
        }
        self.news()
    }

    fn news(&mut self) -> Vec<News> {
        let news = std::iter::from_fn(|| self.watches.poll());
        let is_found = |news: &News| {
            let condition = news.condition.condition;
            matches!(condition, Condition::Bearing(_) | Condition::Suspected(_))
        };
        news.filter(is_found).collect()
    }

    fn findings(&mut self) -> Vec<LocalFinding> {
        let body = self.body(Kind::Finding);
        Records::new(&body).map(Result::unwrap).collect()
    }

    fn suspicions(&mut self) -> Vec<LocalSuspicion> {
        let body = self.body(Kind::Suspicion);
        Records::new(&body).map(Result::unwrap).collect()
    }

    fn body(&mut self, kind: Kind) -> Vec<u8> {
        let mut bodies = self.watches.poll_bodies();
        let body = bodies.find_map(|(of, body)| (of == kind).then_some(body));
        body.unwrap_or_default()
    }
}

const INNER: Condition = Condition::Bearing(Some(Element::InnerRace));

#[test]
fn a_damaged_race_is_named_with_its_lines_and_given_up_when_it_no_longer_shows() {
    let mut plant = Plant::new(1, RATE);
    let order = orders().inner_race;
    assert!(plant.run(0..4, None).is_empty());
    let mut news = plant.run(4..12, Some(order));
    news.retain(|news| news.condition.level > Level::Normal);
    assert_eq!(news.len(), 1, "{news:?}");
    let told = news[0].condition;
    assert_eq!((told.condition, told.level), (INNER, Level::Alarm));
    // Of the first one the windows before it still say otherwise.
    assert_eq!((told.raised, told.at), (second(8), second(8)));
    assert_eq!(news[0].closed, Duration::from_secs(8));

    let mut findings = plant.findings();
    assert_eq!(findings.len(), 5, "and what else there is not");
    findings.retain(|finding| finding.told.level > Level::Normal);
    assert_eq!((findings.len(), findings[0].told), (1, told));
    let claim = findings[0].claim.clone().unwrap();
    assert!(
        (f64::from(claim.order) / (1.003 * order) - 1.0).abs() < 0.003,
        "{claim:?}"
    );
    assert!(
        claim.score > claim.runner_up && claim.lines.len() >= 3,
        "{claim:?}"
    );
    let words: Vec<LocalWord> = findings.into_iter().map(LocalWord::from).collect();
    assert_eq!(plant.watches.words(), words);

    let over = plant.run(12..26, None);
    let over: Vec<_> = over
        .iter()
        .filter(|news| news.before == Level::Alarm)
        .map(|news| news.condition)
        .collect();
    assert_eq!(
        (over.len(), over[0].condition, over[0].level),
        (1, INNER, Level::Normal)
    );
    assert_eq!(over[0].raised, told.raised);
    assert!(plant.watches.words().is_empty());
}

#[test]
fn a_sound_bearing_is_told_as_sound_once_and_nothing_else() {
    let mut plant = Plant::new(1, RATE);
    assert!(plant.run(0..9, None).is_empty());
    let news = plant.run(9..30, None);
    assert!(news.iter().all(|news| news.condition.level == Level::Normal));
    let told: BTreeSet<_> = news.iter().map(|news| news.condition.condition).collect();
    assert_eq!((news.len(), told.len()), (5, 5), "four elements, and none");
    assert!(plant.findings().iter().all(|finding| finding.claim.is_none()));
    let tally = plant.watches.take_search_tally();
    assert_eq!((tally.searched, tally.no_room, tally.behind), (30, 0, 0));
}

#[test]
fn what_is_not_searched_in_time_makes_room_for_the_newer_and_is_counted() {
    let mut plant = Plant::new(1, RATE);
    plant.is_searching = false;
    plant.run(0..5, None);
    let tally = plant.watches.take_search_tally();
    assert_eq!(tally.searched, 0);
    assert!(tally.behind >= 3, "{tally:?}");
    let window = plant.watches.poll_search(Duration::ZERO).unwrap();
    assert_eq!(plant.watches.poll_search(Duration::ZERO), None, "one at a time");
    let searched = window.run(&mut plant.analyzer);
    plant
        .watches
        .handle_searched(&searched, Duration::ZERO, Duration::ZERO);
    assert_eq!(plant.watches.take_search_tally().searched, 1);
}

#[test]
fn between_two_searches_is_four_times_as_much_rest() {
    let mut plant = Plant::new(2, RATE);
    plant.is_searching = false;
    for node in [1, 2] {
        for first in (0..RATE).step_by(FRAME as usize) {
            plant.frame(node, first, &[0; FRAME as usize]);
        }
    }
    let ms = Duration::from_millis;
    let window = plant.watches.poll_search(ms(1_000)).unwrap();
    assert_eq!(plant.watches.next_search(), None, "one is under way");
    let searched = window.run(&mut plant.analyzer);
    plant.watches.handle_searched(&searched, ms(5), ms(1_005));
    assert_eq!(plant.watches.next_search(), Some(ms(1_025)));
    assert_eq!(plant.watches.poll_search(ms(1_024)), None);
    assert!(plant.watches.poll_search(ms(1_025)).is_some());
}

#[test]
fn channels_beyond_the_room_for_samples_are_watched_without_a_search() {
    // A little more than half of all for one channel.
    const FAST: u64 = SAMPLES_MAX / 2 / 2 + 400;
    let mut plant = Plant::new(2, FAST);
    plant.is_searching = false;
    let frame = [0; FRAME as usize];
    for node in [1, 2] {
        for first in (0..2 * FAST).step_by(FRAME as usize) {
            plant.frame(node, first, &frame);
        }
    }
    assert_eq!(plant.watches.take_tally().windows, 4);
    let tally = plant.watches.take_search_tally();
    assert_eq!(tally.no_room, 2, "{tally:?}");
    assert_eq!(
        plant.watches.poll_search(Duration::ZERO).unwrap().name,
        name(1),
        "first come"
    );
}

#[test]
fn a_machine_that_stands_still_is_not_searched() {
    let mut plant = Plant::new(1, RATE);
    let current = Witness {
        node: NodeId::new(9).unwrap(),
        channel: channel(),
        unit: Unit::Ampere,
        gain: 1.0,
    };
    let operation = Operation {
        running: Some((current, 5.0)),
        fresh_ns: 3_600 * SECOND,
        ..Operation::default()
    };
    let plan = Plan::from([(name(1), Watch { operation, ..quiet() })]);
    let searches = Searches::from([(name(1), search())]);
    plant
        .watches
        .configure(&plan, &searches, &Examinations::new(), Duration::ZERO);
    let key = (current.node, BootId::from_u64(1));
    let mut table = table();
    table.channels[0].unit = Unit::Ampere;
    plant.watches.handle_describe(key, &table);
    let amperes = |plant: &mut Plant, amperes: f32, seconds: u64| {
        let scalar = Scalar {
            revision: 1,
            channel: channel(),
            first_sample: seconds,
            readings: [Ok(amperes)].into_iter().collect(),
        };
        let arrival = Arrival {
            ticks: NodeTicks(1_000_000 * seconds),
            fix: Some(&fix(key)),
            utc: EventTime(0),
            mono: Duration::from_secs(seconds),
        };
        plant.watches.handle_scalar(key, &scalar, arrival);
    };
    amperes(&mut plant, 0.0, 0);
    let order = Some(orders().inner_race);
    assert!(plant.run(0..6, order).is_empty());
    assert_eq!(plant.watches.take_search_tally().searched, 0);
    amperes(&mut plant, 20.0, 6);
    assert_eq!(plant.run(6..12, order).len(), 1);
}

#[test]
fn what_is_sought_no_more_is_given_up() {
    let mut plant = Plant::new(1, RATE);
    plant.run(0..5, Some(orders().inner_race));
    assert_eq!(plant.watches.words().len(), 1);
    plant.findings();
    let plan = Plan::from([(name(1), quiet())]);
    plant.watches.configure(
        &plan,
        &Searches::new(),
        &Examinations::new(),
        Duration::from_secs(5),
    );
    let news = plant.news();
    assert_eq!((news.len(), news[0].condition.level), (1, Level::Normal));
    assert!(news[0].condition.at > news[0].condition.raised);
    assert_eq!(plant.findings().len(), 1);
    assert!(plant.watches.words().is_empty());
    plant.run(5..8, Some(orders().inner_race));
    assert_eq!(plant.watches.take_search_tally().searched, 5);
}

/// Velocity along the shaft's orders, mm/s RMS; milli-g in a little noise.
fn turning(plant: &mut Plant, number: u64, lines: &[(f64, f64)]) -> i16 {
    let line = |&(order, velocity): &(f64, f64)| {
        let omega = std::f64::consts::TAU * order * SHAFT_HZ;
        std::f64::consts::SQRT_2 * velocity * omega / 9.806_65 * (omega * number as f64 / RATE as f64).sin()
    };
    let noise = 2.0 * plant.noise();
    (lines.iter().map(line).sum::<f64>() + noise).round() as i16
}

const BALANCED: [(f64, f64); 3] = [(1.0, 1.0), (2.0, 0.4), (3.0, 0.2)];
const UNBALANCED: [(f64, f64); 3] = [(1.0, 5.0), (2.0, 0.4), (3.0, 0.2)];
const UNBALANCE: Condition = Condition::Suspected(Cause::Unbalance);

/// A machine graded by a standard, whose spectra are looked at, and no bearing.
fn graded() -> Plant {
    let mut plant = Plant::new(1, RATE);
    let settings = Settings {
        severity: Some(severity()),
        ..Settings::default()
    };
    let plan = Plan::from([(name(1), Watch { settings, ..quiet() })]);
    let examinations = Examinations::from([(name(1), spectra())]);
    plant
        .watches
        .configure(&plan, &Searches::new(), &examinations, Duration::ZERO);
    plant
}

fn spectra() -> SpectrumWatch {
    SpectrumWatch {
        teeth: None,
        blades: None,
        line_hz: Some(50.0),
        axial: false,
        band_hz: [1.0, 5_000.0],
        envelope_hz: None,
        bands: Default::default(),
    }
}

#[test]
fn an_unbalanced_rotor_is_suspected_as_bad_as_it_vibrates_and_over_when_it_is_balanced() {
    let mut plant = graded();
    assert!(
        plant
            .play(0..4, |plant, at| turning(plant, at, &BALANCED))
            .is_empty()
    );
    let tally = plant.watches.take_search_tally();
    assert_eq!((tally.searched, tally.examined), (0, 0), "nobody had to look");
    let mut news = plant.play(4..9, |plant, at| turning(plant, at, &UNBALANCED));
    assert_eq!(news.len(), 1, "{news:?}");
    let told = news.remove(0);
    assert_eq!(
        (told.condition.condition, told.condition.level),
        (UNBALANCE, Level::Alarm)
    );
    assert_eq!((told.condition.raised, told.condition.at), (second(7), second(7)));
    assert_eq!(told.closed, Duration::from_secs(7));
    assert_eq!(plant.watches.take_search_tally().examined, 5);
    let suspicions = plant.suspicions();
    assert_eq!((suspicions.len(), suspicions[0].told), (1, told.condition));
    let line = *suspicions[0].claim.as_ref().unwrap().highest().unwrap();
    assert!(
        (line.order - 1.0).abs() < 0.01 && (line.rms - 5.0).abs() < 0.2,
        "{line:?}"
    );
    let held = plant.watches.words();
    assert!(held.contains(&LocalWord::from(suspicions[0].clone())), "{held:?}");
    let news = plant.play(9..24, |plant, at| turning(plant, at, &BALANCED));
    let over: Vec<_> = news.iter().filter(|news| news.before > Level::Normal).collect();
    assert_eq!(over.len(), 1, "{news:?}");
    assert_eq!(
        (over[0].condition.condition, over[0].condition.level),
        (UNBALANCE, Level::Normal)
    );
    assert_eq!(over[0].condition.raised, second(7));
    assert!(plant.watches.words().is_empty());
}

#[test]
fn samples_are_kept_only_where_there_is_something_to_look_for_in_them() {
    let mut plant = Plant::new(1, RATE);
    plant.is_searching = false;
    let plan = Plan::from([(name(1), quiet())]);
    let examinations = Examinations::from([(name(1), spectra())]);
    plant
        .watches
        .configure(&plan, &Searches::new(), &examinations, Duration::ZERO);
    plant.play(0..3, |plant, at| turning(plant, at, &UNBALANCED));
    assert_eq!(plant.watches.poll_search(Duration::ZERO), None);
    let tally = plant.watches.take_search_tally();
    assert_eq!((tally.no_room, tally.behind), (0, 0), "nobody wanted to look");
}

#[test]
fn a_balanced_rotor_is_told_as_sound_once_and_nothing_else() {
    let mut plant = graded();
    let news = plant.play(0..25, |plant, at| turning(plant, at, &BALANCED));
    assert!(news.iter().all(|news| news.condition.level == Level::Normal));
    assert_eq!(news.len(), Cause::ALL.len());
    assert_eq!(plant.watches.take_search_tally().examined, 0);
}

#[test]
fn a_band_of_the_points_own_is_judged_by_its_limits_and_told_as_any_feature_is() {
    const BAND: Condition = Condition::Deviation(FeatureKind::Band1);
    let mut plant = Plant::new(1, RATE);
    let watched = Watched {
        kind: FeatureKind::Band1,
        absolute: Some([1.0, 2.0]),
        relative: None,
    };
    let settings = Settings {
        watched: [watched].into_iter().collect(),
        ..Settings::default()
    };
    let band = WatchedBand {
        band: Band::Orders { low: 5.5, high: 7.5 },
        velocity: true,
    };
    let spectra = SpectrumWatch {
        bands: [band].into_iter().collect(),
        ..spectra()
    };
    let plan = Plan::from([(name(1), Watch { settings, ..quiet() })]);
    let examinations = Examinations::from([(name(1), spectra)]);
    plant
        .watches
        .configure(&plan, &Searches::new(), &examinations, Duration::ZERO);
    let mut of_band = |seconds: std::ops::Range<u64>, height: f64| {
        plant.play(seconds, |plant, at| {
            turning(plant, at, &[(1.0, 1.0), (7.0, height)])
        });
        let body = plant.body(Kind::Condition);
        let told = Records::<LocalCondition>::new(&body).map(Result::unwrap);
        let told: Vec<_> = told.filter(|told| told.condition == BAND).collect();
        told
    };
    assert_eq!(of_band(0..4, 0.5), []);
    let told = of_band(4..8, 1.5);
    assert_eq!(
        (told.len(), told[0].level, told[0].at),
        (1, Level::Alert, second(7))
    );
    let evidence = told[0].evidence.unwrap();
    assert_eq!((evidence.kind, evidence.limit), (Some(FeatureKind::Band1), 1.0));
    assert!((evidence.value - 1.5).abs() < 0.05, "{evidence:?}");
    let told = of_band(8..20, 0.5);
    assert_eq!((told.len(), told[0].level), (1, Level::Normal));
    assert_eq!(told[0].raised, second(7));
}

#[test]
fn what_is_watched_no_more_is_given_up_whatever_it_is() {
    let mut plant = graded();
    plant.play(0..6, |plant, at| turning(plant, at, &UNBALANCED));
    plant.body(Kind::Condition);
    let held: Vec<_> = plant.watches.words().iter().map(|word| word.told).collect();
    assert_eq!(held.len(), 2, "{held:?}");
    let none = (Plan::new(), Searches::new(), Examinations::new());
    plant
        .watches
        .configure(&none.0, &none.1, &none.2, Duration::from_secs(6));
    let news: Vec<News> = std::iter::from_fn(|| plant.watches.poll()).collect();
    assert_eq!(news.len(), 2, "{news:?}");
    for told in news {
        let before = held
            .iter()
            .find(|held| held.condition == told.condition.condition)
            .unwrap();
        assert_eq!((told.condition.level, told.before), (Level::Normal, before.level));
        assert!(told.condition.at > before.at, "the latest word holds");
    }
    let kinds: Vec<_> = plant.watches.poll_bodies().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Kind::Condition, Kind::Suspicion]);
    assert!(plant.watches.words().is_empty());
}

#[test]
fn a_frame_that_comes_again_completes_the_samples_of_its_stretch() {
    let mut plant = Plant::new(1, RATE);
    let order = Some(orders().inner_race);
    for second in 0..5 {
        let frames: Vec<(u64, Vec<i16>)> = (second * RATE..(second + 1) * RATE)
            .step_by(FRAME as usize)
            .map(|first| {
                let samples = (first..first + FRAME).map(|number| plant.sample(number, order));
                (first, samples.collect())
            })
            .collect();
        // Each third frame is lost at first.
        let (lost, heard): (Vec<_>, Vec<_>) = frames.iter().partition(|(first, _)| first / FRAME % 3 == 1);
        for (first, samples) in heard.into_iter().chain(lost) {
            plant.frame(1, *first, samples);
        }
    }
    let news = plant.news();
    assert_eq!((news.len(), news[0].condition.condition), (1, INNER));
    assert_eq!(news[0].condition.at, second(3));
}
