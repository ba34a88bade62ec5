//! What the bearing search claims, on recorded data and on the simulated machine.
//!
//! The detector is given samples, rate, speed and geometry. What the records really show is known to
//! this file alone.

use std::collections::BTreeMap;
use trunnion_common::feature::FeatureKind;
use trunnion_diagnosis::bearing::{BearingGeometry, BearingOrders, Element, Neighbours};
use trunnion_diagnosis::detection::{Detector, Verdict};
use trunnion_diagnosis::features::{Analyzer, Depth, Finding, PointContext, ShaftSpeed};
use trunnion_tests::record::{CwruRecord, FemtoSnapshot, Place, decimate_by_4, or_skip};
use trunnion_tests::sim_machine::{MachineSpec, SimMachine};
use trunnion_tests::sim_rig::Rig;

/// A channel to diagnose.
struct Channel<'a> {
    samples: &'a [f32],
    rate_hz: f64,
    shaft_hz: f64,
    tolerance: f64,
    bearing: BearingOrders,
}

/// What was claimed over a channel.
#[derive(Default, Debug, PartialEq)]
struct Claims {
    /// Windows by claim; `None` is silence, `Some(None)` a fault without an element.
    windows: BTreeMap<Option<Option<Element>>, usize>,
    /// What 3 of 5 windows confirmed at any time.
    confirmed: Vec<Option<Element>>,
    /// Lowest and highest score of a claim.
    scores: Option<(f64, f64)>,
}

impl Claims {
    fn only(&self, allowed: &[Option<Option<Element>>]) -> bool {
        self.windows.keys().all(|claim| allowed.contains(claim))
    }
}

/// Cuts `seconds` long windows from several places on, and gathers what they and 3 of 5 of them claim.
fn diagnose(channel: &Channel<'_>, seconds: f64) -> Claims {
    diagnose_from(channel, seconds, &[0.0, 0.137, 0.37, 0.5, 0.71, 0.93])
}

fn diagnose_from(channel: &Channel<'_>, seconds: f64, starts_s: &[f64]) -> Claims {
    let mut analyzer = Analyzer::new();
    let context = PointContext {
        shaft: ShaftSpeed::declared(channel.shaft_hz, channel.tolerance),
        bearing: Some(channel.bearing),
        neighbours: Neighbours::default(),
        band_high_hz: channel.rate_hz / 2.56,
    };
    let mut claims = Claims::default();
    for start_s in starts_s {
        let start = (start_s * channel.rate_hz) as usize;
        let mut detector = Detector::default();
        for window in channel
            .samples
            .get(start..)
            .unwrap_or_default()
            .chunks_exact((seconds * channel.rate_hz) as usize)
        {
            let features = analyzer.analyze(window, channel.rate_hz, &context, Depth::Full);
            let finding = features.finding.clone();
            let element = finding.as_ref().map(|finding| finding.element);
            *claims.windows.entry(element).or_default() += 1;
            if let Some(Finding { score, .. }) = finding {
                let (low, high) = claims.scores.unwrap_or((score, score));
                claims.scores = Some((low.min(score), high.max(score)));
            }
            let verdict = detector.weigh(Verdict::of(1.0, &features), features.envelope.as_ref());
            if let Some(confirmed) = detector.handle_window(verdict).confirmed
                && !claims.confirmed.contains(&confirmed.element)
            {
                claims.confirmed.push(confirmed.element);
            }
        }
    }
    assert!(!claims.windows.is_empty(), "the channel is shorter than a window");
    claims
}

/// Element that the name of a record of the drive-end bearing states; none for a healthy machine.
fn truth(name: &str) -> Option<Element> {
    let label = name.trim_start_matches("12k_Drive_End_");
    [
        ("IR", Element::InnerRace),
        ("OR", Element::OuterRace),
        ("B", Element::Ball),
    ]
    .into_iter()
    .find(|(prefix, _)| label.starts_with(prefix))
    .map(|(_, element)| element)
}

/// Records whose race fault is known to show; the name's front part, before load and number.
const RACE_RECORDS: [&str; 6] = [
    "IR007_0_105",
    "IR007_1_106",
    "IR021_0_209",
    "OR007@6_0_130",
    "OR007@6_1_131",
    "OR021@6_0_234",
];

fn cwru(test: &str) -> Option<Vec<CwruRecord>> {
    let files = or_skip(test, "cwru", ".mat")?;
    Some(
        files
            .iter()
            .map(|file| CwruRecord::read(file).unwrap_or_else(|error| panic!("{error}")))
            .collect(),
    )
}

/// Every channel of the record beside a bearing, at its own rate and, at 48 kHz, at 12 kHz too.
fn with_channels(record: &CwruRecord, shaft_hz: f64, mut each: impl FnMut(Place, &Channel<'_>)) {
    for (place, designation) in [(Place::DriveEnd, "6205"), (Place::FanEnd, "6203")] {
        let Some(samples) = record.channel(place) else {
            continue;
        };
        let bearing = designation.parse().expect("catalogued");
        each(
            place,
            &Channel {
                samples,
                rate_hz: record.rate_hz,
                shaft_hz,
                tolerance: ShaftSpeed::FINE,
                bearing,
            },
        );
        if record.rate_hz > 40_000.0 {
            let samples = decimate_by_4(samples);
            each(
                place,
                &Channel {
                    samples: &samples,
                    rate_hz: record.rate_hz / 4.0,
                    shaft_hz,
                    tolerance: ShaftSpeed::FINE,
                    bearing,
                },
            );
        }
    }
}

fn check_record(record: &CwruRecord, place: Place, channel: &Channel<'_>, seconds: f64) {
    let claims = diagnose(channel, seconds);
    let what = format!(
        "{} {place:?} at {} Hz, {seconds} s: {claims:?}",
        record.name, channel.rate_hz
    );
    println!("{what}");
    let damaged = if place == Place::DriveEnd {
        truth(&record.name)
    } else {
        None
    };
    match damaged {
        None => assert!(claims.only(&[None]), "a healthy bearing is claimed: {what}"),
        Some(element) if RACE_RECORDS.iter().any(|known| record.name.ends_with(known)) => {
            // A record of 10 s holds no three windows of 4 s: there each has to name the element itself.
            let expected: &[_] = if seconds > 3.0 {
                &[Some(Some(element))]
            } else {
                &[None, Some(Some(element))]
            };
            assert!(
                claims.only(expected),
                "a wrong element in some window, or none: {what}"
            );
            assert!(seconds > 3.0 || claims.confirmed == [Some(element)], "{what}");
        }
        Some(element) => {
            assert!(
                claims.only(&[None, Some(None), Some(Some(element))]),
                "a wrong element in some window: {what}"
            );
        }
    }
}

#[test]
fn seeded_race_faults_are_named_and_nothing_else_is_in_any_window() {
    let Some(records) = cwru("seeded_race_faults_are_named_and_nothing_else_is_in_any_window") else {
        return;
    };
    for record in &records {
        for seconds in [1.0, 1.7, 2.0, 4.0] {
            with_channels(record, record.shaft_hz(), |place, channel| {
                check_record(record, place, channel, seconds);
            });
        }
    }
}

#[test]
fn a_speed_half_a_percent_off_does_not_change_the_diagnosis() {
    let Some(records) = cwru("a_speed_half_a_percent_off_does_not_change_the_diagnosis") else {
        return;
    };
    for record in &records {
        for error in [0.995, 0.997, 1.003, 1.005] {
            with_channels(record, record.shaft_hz() * error, |place, channel| {
                check_record(record, place, channel, 1.0);
            });
        }
    }
}

/// A nameplate says what a motor turns at under full load.
#[test]
fn a_speed_some_per_cent_off_is_read_from_the_record() {
    let Some(records) = cwru("a_speed_some_per_cent_off_is_read_from_the_record") else {
        return;
    };
    for record in &records {
        for error in [0.98, 0.988, 1.012, 1.02] {
            with_channels(record, record.shaft_hz() * error, |place, channel| {
                let channel = Channel {
                    tolerance: 0.03,
                    ..*channel
                };
                let claims = diagnose_from(&channel, 1.0, &[0.0]);
                let what = format!("{} {place:?} at {error}: {claims:?}", record.name);
                let damaged = truth(&record.name).filter(|_| place == Place::DriveEnd);
                let named: Vec<_> = claims.confirmed.iter().flatten().copied().collect();
                let is_race = RACE_RECORDS.iter().any(|known| record.name.ends_with(known));
                match damaged {
                    None => assert!(
                        claims.confirmed.is_empty(),
                        "a healthy bearing is claimed: {what}"
                    ),
                    Some(element) if is_race => assert_eq!(named, [element], "{what}"),
                    Some(element) => assert!(named.iter().all(|name| *name == element), "{what}"),
                }
            });
        }
    }
}

/// The samples as they would be of a machine that speeds up by a share of its speed each second, and has its
/// recorded speed in the middle, as long as it is within 3 % of that.
fn speeding_up(samples: &[f32], rate_hz: f64, share: f64) -> Vec<f32> {
    speeding_up_within(samples, rate_hz, share, 0.03)
}

/// The same as long as the speed is within a share of the recorded one: Catmull and Rom's cubic between the samples.
fn speeding_up_within(samples: &[f32], rate_hz: f64, share: f64, within: f64) -> Vec<f32> {
    let middle = samples.len() as f64 / 2.0;
    let place = |index: usize| {
        let from_middle = index as f64 - middle;
        middle + from_middle * (1.0 + 0.5 * share * from_middle / rate_hz)
    };
    let reach = (within / share * rate_hz) as usize;
    let centre = samples.len() / 2;
    (centre.saturating_sub(reach)..(centre + reach).min(samples.len()))
        .map(place)
        .skip_while(|place| *place < 1.0)
        .map_while(|place| {
            let near = samples.get(place as usize - 1..place as usize + 3)?;
            let [a, b, c, d] = [near[0], near[1], near[2], near[3]].map(f64::from);
            let x = place.fract();
            let slope = x * (2.0 * a - 5.0 * b + 4.0 * c - d + x * (3.0 * (b - c) + d - a));
            Some((b + 0.5 * x * (c - a + slope)) as f32)
        })
        .collect()
}

#[test]
fn a_record_that_speeds_up_names_no_wrong_element() {
    let Some(records) = cwru("a_record_that_speeds_up_names_no_wrong_element") else {
        return;
    };
    for record in &records {
        for share in [0.005, 0.02, 0.05] {
            with_channels(record, record.shaft_hz(), |place, channel| {
                let samples = speeding_up(channel.samples, channel.rate_hz, share);
                let claims = diagnose_from(
                    &Channel {
                        samples: &samples,
                        tolerance: 0.03,
                        ..*channel
                    },
                    1.0,
                    &[0.0],
                );
                let damaged = truth(&record.name).filter(|_| place == Place::DriveEnd);
                let what = format!("{} {place:?} at {share}: {claims:?}", record.name);
                println!("{what}");
                let named = claims.confirmed.iter().flatten();
                assert!(named.into_iter().all(|name| Some(*name) == damaged), "{what}");
                assert!(damaged.is_some() || claims.confirmed.is_empty(), "{what}");
            });
        }
    }
}

#[test]
fn a_simulated_machine_that_speeds_up_names_no_wrong_element() {
    for element in [Element::OuterRace, Element::InnerRace, Element::Ball] {
        for (share, may_be_named) in [(0.003, true), (0.02, false), (0.03, false)] {
            let spec = MachineSpec::motor(12_000.0, 31).with_fault(element, 1.5, 0.0);
            let mut samples = vec![0.0; 12 * 12_000];
            SimMachine::new(spec).fill(&mut samples);
            let samples = speeding_up(&samples, spec.rate_hz, share);
            let channel = Channel {
                samples: &samples,
                rate_hz: spec.rate_hz,
                shaft_hz: spec.shaft_hz,
                tolerance: 0.03,
                bearing: spec.bearing,
            };
            let claims = diagnose_from(&channel, 1.0, &[0.0]);
            let what = format!("{element} at {share}: {claims:?}");
            println!("{what}");
            let mut named = claims.confirmed.iter().flatten();
            assert!(named.all(|name| *name == element), "{what}");
            let is_named = claims.confirmed.contains(&Some(element));
            assert!(may_be_named || !is_named, "over 1 % in a window: {what}");
            assert!(!may_be_named || is_named, "{what}");
        }
    }
}

/// Of a damaged ball nothing but the turns of its cage is left where its lines are smeared. On each
/// of these rigs three lines of the cage by themselves named it.
#[test]
fn a_damaged_ball_of_a_machine_that_speeds_up_is_not_named_as_the_cage() {
    for seed in [43, 107, 174, 181, 199, 271, 620] {
        let rig = Rig::draw(seed);
        let share = if seed == 620 { 1e-9 } else { 0.02 };
        let samples = speeding_up_within(&rig.samples(8.0), rig.machine.rate_hz, share, 0.1);
        let channel = Channel {
            samples: &samples,
            rate_hz: rig.machine.rate_hz,
            shaft_hz: rig.declared_hz,
            tolerance: rig.tolerance,
            bearing: rig.machine.bearing,
        };
        let claims = diagnose_from(&channel, 1.0, &[0.0]);
        let named = claims.confirmed.iter().flatten();
        let mut wrong = named.filter(|element| Some(**element) != rig.truth());
        assert_eq!(wrong.next(), None, "rig {seed}: {claims:?}");
    }
}

#[test]
fn quantisation_to_sixteen_bits_does_not_change_the_diagnosis() {
    let Some(records) = cwru("quantisation_to_sixteen_bits_does_not_change_the_diagnosis") else {
        return;
    };
    for record in &records {
        with_channels(record, record.shaft_hz(), |place, channel| {
            let quantised: Vec<f32> = channel
                .samples
                .iter()
                .map(|sample| (sample / 16.0 * 32767.0).round() * 16.0 / 32767.0)
                .collect();
            check_record(
                record,
                place,
                &Channel {
                    samples: &quantised,
                    ..*channel
                },
                1.0,
            );
        });
    }
}

#[test]
fn a_window_with_a_twentieth_missing_keeps_its_diagnosis() {
    let Some(records) = cwru("a_window_with_a_twentieth_missing_keeps_its_diagnosis") else {
        return;
    };
    for record in &records {
        with_channels(record, record.shaft_hz(), |place, channel| {
            let mut samples = channel.samples.to_vec();
            // One hole of 4 % a second, as a lost frame leaves it, wandering through the windows.
            let second = channel.rate_hz as usize;
            for (index, second) in samples.chunks_mut(second).enumerate() {
                let start = second.len() * (index % 7) / 8;
                let end = (start + second.len() / 25).min(second.len());
                second[start..end].fill(f32::NAN);
            }
            check_record(
                record,
                place,
                &Channel {
                    samples: &samples,
                    ..*channel
                },
                1.0,
            );
        });
    }
}

/// The bearing that is searched for does not exist: nothing may be claimed on the sole strength of a
/// strong fault nearby.
#[test]
fn a_bearing_that_is_not_there_is_not_claimed() {
    let Some(records) = cwru("a_bearing_that_is_not_there_is_not_claimed") else {
        return;
    };
    // 12 small balls: no order within the slip of one of the rig's two bearings, their multiples and
    // their first sidebands.
    let absent = BearingOrders::declared(5.052, 6.948, 6.185, 0.421).unwrap();
    for record in &records {
        with_channels(record, record.shaft_hz(), |place, channel| {
            let claims = diagnose(
                &Channel {
                    bearing: absent,
                    ..*channel
                },
                1.0,
            );
            assert!(claims.only(&[None]), "{} {place:?}: {claims:?}", record.name);
        });
    }
}

/// Forty bearings that the rig does not have: none of their elements is claimed, unless it stands where one of the
/// rig's does, or a multiple of it.
#[test]
fn no_bearing_is_claimed_for_the_faults_of_another() {
    let Some(records) = cwru("no_bearing_is_claimed_for_the_faults_of_another") else {
        return;
    };
    let rig: Vec<f64> = ["6205", "6203"]
        .into_iter()
        .flat_map(|designation| {
            let orders: BearingOrders = designation.parse().expect("catalogued");
            Element::ALL.map(|element| orders.of(element))
        })
        .flat_map(|order| [order, 2.0 * order, 3.0 * order])
        .collect();
    let others = (7..=14).flat_map(|balls| {
        [0.13, 0.16, 0.19, 0.22, 0.205]
            .into_iter()
            .filter_map(move |ball| BearingGeometry::new(balls, ball, 1.0, 0.0).ok())
            .map(|geometry| geometry.orders())
    });
    for bearing in others {
        for record in &records {
            for place in [Place::DriveEnd, Place::FanEnd] {
                let Some(samples) = record.channel(place) else {
                    continue;
                };
                let channel = Channel {
                    // Six windows are enough to confirm something.
                    samples: &samples[..samples.len().min(6 * record.rate_hz as usize)],
                    rate_hz: record.rate_hz,
                    shaft_hz: record.shaft_hz(),
                    tolerance: ShaftSpeed::FINE,
                    bearing,
                };
                let claims = diagnose_from(&channel, 1.0, &[0.0]);
                for element in claims.confirmed.iter().flatten() {
                    let order = bearing.of(*element);
                    let is_there = rig.iter().any(|of| (order / of - 1.0).abs() < 0.025);
                    assert!(
                        is_there,
                        "{} {place:?}, {element} at {order}: {claims:?}",
                        record.name
                    );
                }
            }
        }
    }
}

#[test]
fn snapshots_of_a_run_to_failure_are_read_as_recorded() {
    let Some(parts) = or_skip(
        "snapshots_of_a_run_to_failure_are_read_as_recorded",
        "femto/Bearing1_1",
        ".f32le.gz",
    ) else {
        return;
    };
    let snapshots = FemtoSnapshot::read_part(&parts[0]).unwrap_or_else(|error| panic!("{error}"));
    let context = PointContext {
        shaft: ShaftSpeed::declared(30.0, 0.003),
        bearing: None,
        neighbours: Neighbours::default(),
        band_high_hz: 10_000.0,
    };
    let features = Analyzer::new().analyze(
        &snapshots[0].horizontal,
        FemtoSnapshot::RATE_HZ,
        &context,
        Depth::Full,
    );
    // The first row of the publishers' own feature table.
    for (kind, expected) in [
        (FeatureKind::Rms, 0.561_746),
        (FeatureKind::PeakToPeak, 3.773),
        (FeatureKind::KurtosisExcess, -0.1315),
    ] {
        let (_, value) = features
            .values
            .iter()
            .find(|(of, _)| *of == kind)
            .expect("computed");
        assert!(
            (value - expected).abs() < 2e-3,
            "{kind:?}: {value} is not {expected}"
        );
    }
    assert_eq!(features.finding, None);
}

fn simulate(spec: MachineSpec, seconds: usize) -> Claims {
    let mut samples = vec![0.0; spec.rate_hz as usize * seconds];
    SimMachine::new(spec).fill(&mut samples);
    let channel = Channel {
        samples: &samples,
        rate_hz: spec.rate_hz,
        shaft_hz: spec.shaft_hz,
        tolerance: ShaftSpeed::FINE,
        bearing: spec.bearing,
    };
    diagnose(&channel, 1.0)
}

#[test]
fn a_healthy_simulated_machine_is_silent() {
    for seed in 0..4 {
        for rate_hz in [12_000.0, 25_600.0] {
            let claims = simulate(MachineSpec::motor(rate_hz, seed), 12);
            assert!(claims.only(&[None]), "seed {seed} at {rate_hz} Hz: {claims:?}");
        }
    }
}

/// The fault must come out as its element and at no time as another. That a ball's sidebands leave some
/// windows undetermined is allowed.
fn check_simulated(spec: MachineSpec, element: Element, severity_g: f64) {
    let claims = simulate(spec.with_fault(element, severity_g, 0.0), 8);
    let what = format!(
        "{element} {severity_g} g at {} Hz of {} Hz: {claims:?}",
        spec.shaft_hz, spec.rate_hz
    );
    println!("{what}");
    assert!(claims.only(&[None, Some(None), Some(Some(element))]), "{what}");
    assert!(claims.confirmed.contains(&Some(element)), "{what}");
    let named = claims.windows.get(&Some(Some(element))).copied().unwrap_or(0);
    let windows: usize = claims.windows.values().sum();
    assert!(10 * named >= 9 * windows, "{what}");
}

#[test]
fn a_simulated_fault_is_named_by_its_element() {
    for element in [Element::OuterRace, Element::InnerRace, Element::Ball] {
        for (seed, severity_g) in [(11, 0.4), (12, 0.6), (13, 1.5), (14, 5.0)] {
            for rate_hz in [12_000.0, 25_600.0] {
                check_simulated(MachineSpec::motor(rate_hz, seed), element, severity_g);
            }
        }
    }
}

/// Twelve blows a second are a short family, and its ninth harmonic is the outer race's order: a window may
/// err, 3 of 5 may not.
#[test]
fn a_simulated_cage_fault_is_named_and_never_confirmed_as_another() {
    for (seed, severity_g) in [(11, 0.4), (12, 1.0), (13, 3.0)] {
        for rate_hz in [12_000.0, 25_600.0] {
            let spec = MachineSpec::motor(rate_hz, seed).with_fault(Element::Cage, severity_g, 0.0);
            let claims = simulate(spec, 12);
            let what = format!("{severity_g} g at {rate_hz} Hz: {claims:?}");
            println!("{what}");
            assert!(claims.confirmed.contains(&Some(Element::Cage)), "{what}");
            assert!(
                claims
                    .confirmed
                    .iter()
                    .all(|element| matches!(element, None | Some(Element::Cage))),
                "{what}"
            );
        }
    }
}

#[test]
fn a_simulated_fault_is_named_at_other_speeds_and_on_other_bearings() {
    let eight_balls = BearingOrders::declared(3.245, 4.755, 5.1092, 0.4056).unwrap();
    let rollers = "ZA-2115".parse().unwrap();
    for (bearing, shaft_hz) in [(eight_balls, 25.0), (eight_balls, 48.7), (rollers, 33.3)] {
        for element in [Element::OuterRace, Element::InnerRace, Element::Ball] {
            check_simulated(
                MachineSpec {
                    bearing,
                    shaft_hz,
                    ..MachineSpec::motor(25_600.0, 5)
                },
                element,
                1.0,
            );
        }
    }
}

#[test]
fn a_fault_is_confirmed_within_five_windows_of_its_onset() {
    let spec = MachineSpec::motor(25_600.0, 21).with_fault(Element::InnerRace, 1.0, 6.0);
    let mut machine = SimMachine::new(spec);
    let mut analyzer = Analyzer::new();
    let mut detector = Detector::default();
    let context = PointContext {
        shaft: ShaftSpeed::declared(spec.shaft_hz, 0.003),
        bearing: Some(spec.bearing),
        neighbours: Neighbours::default(),
        band_high_hz: 10_000.0,
    };
    let mut window = vec![0.0; 25_600];
    let confirmed_at = (1..=15).find(|_| {
        machine.fill(&mut window);
        let finding = analyzer
            .analyze(&window, spec.rate_hz, &context, Depth::Full)
            .finding;
        detector
            .handle_window(Verdict::new(1.0, finding))
            .confirmed
            .is_some()
    });
    assert!(matches!(confirmed_at, Some(9..=11)), "{confirmed_at:?}");
}

/// What single windows say of a simulated machine, to which `disturb` may add something.
fn windows(spec: MachineSpec, disturb: impl FnOnce(&mut [f32])) -> Vec<Option<Finding>> {
    let mut samples = vec![0.0; 8 * spec.rate_hz as usize];
    SimMachine::new(spec).fill(&mut samples);
    disturb(&mut samples);
    let context = PointContext {
        shaft: ShaftSpeed::declared(spec.shaft_hz, ShaftSpeed::FINE),
        bearing: Some(spec.bearing),
        neighbours: Neighbours::default(),
        band_high_hz: spec.rate_hz / 2.56,
    };
    let mut analyzer = Analyzer::new();
    let windows = samples.chunks_exact(spec.rate_hz as usize);
    windows
        .map(|window| {
            analyzer
                .analyze(window, spec.rate_hz, &context, Depth::Full)
                .finding
        })
        .collect()
}

/// How many windows of a machine that rings at 3.2 kHz are confirmed; each by a band that has the resonance in it.
fn confirmed(findings: &[Option<Finding>], element: Element) -> usize {
    let confirmed = findings.iter().flatten().filter_map(|finding| {
        let band = finding.confirmed?;
        assert_eq!(
            finding.element,
            Some(element),
            "what confirms an element names none"
        );
        assert!(band.band_hz.0 < 3_400.0 && band.band_hz.1 > 3_000.0, "{band:?}");
        assert!(finding.band_hz.0 < band.band_hz.0 && band.band_hz.1 <= finding.band_hz.1);
        Some(())
    });
    confirmed.count()
}

#[test]
fn the_band_that_rings_confirms_an_element() {
    for element in [Element::OuterRace, Element::InnerRace] {
        for rate_hz in [12_000.0, 25_600.0] {
            let spec = MachineSpec::motor(rate_hz, 5).with_fault(element, 1.0, 0.0);
            let findings = windows(spec, |_| ());
            assert!(
                confirmed(&findings, element) >= 6,
                "{element} at {rate_hz} Hz: {findings:?}"
            );
        }
    }
}

#[test]
fn a_blow_in_each_window_moves_no_confirming_band() {
    let spec = MachineSpec::motor(25_600.0, 5).with_fault(Element::OuterRace, 1.0, 0.0);
    let findings = windows(spec, |samples| {
        for window in samples.chunks_exact_mut(25_600) {
            for (index, sample) in window.iter_mut().skip(7_000).take(300).enumerate() {
                let at = index as f32 / 25_600.0;
                *sample += 0.5 * (-800.0 * at).exp() * (std::f32::consts::TAU * 8_000.0 * at).sin();
            }
        }
    });
    assert!(confirmed(&findings, Element::OuterRace) >= 4, "{findings:?}");
}

#[test]
fn a_band_names_nothing_on_its_own() {
    // Strikes that the whole band does not name, in the bearing that is searched for.
    let spec = MachineSpec::motor(25_600.0, 5).with_fault(Element::OuterRace, 1.0, 0.0);
    let other = MachineSpec {
        bearing: "6203".parse().unwrap(),
        ..spec
    };
    let mut samples = vec![0.0; 25_600];
    SimMachine::new(spec).fill(&mut samples);
    let context = PointContext {
        shaft: ShaftSpeed::declared(other.shaft_hz, ShaftSpeed::FINE),
        bearing: Some(other.bearing),
        neighbours: Neighbours::default(),
        band_high_hz: 10_000.0,
    };
    let features = Analyzer::new().analyze(&samples, 25_600.0, &context, Depth::Full);
    assert_eq!(
        features.finding, None,
        "of another bearing's strikes nothing is told"
    );
    for seed in 0..4 {
        let findings = windows(MachineSpec::motor(25_600.0, seed), |_| ());
        assert!(findings.iter().all(Option::is_none), "{findings:?}");
    }
}
