//! Each cause on a simulated machine, and what looks like it on a healthy one.

use super::*;
use realfft::{RealFftPlanner, RealToComplex};
use std::f64::consts::TAU;
use std::sync::Arc;
use trunnion_common::feature::envelope::{Complex32, RealFourier, hann};
use trunnion_common::feature::spectrum::{Buffers, Settings, averaged, integrate};

/// A simulated train: sines of a velocity at orders of the shaft or at frequencies, a mesh with its modulation,
/// and noise.
#[derive(Clone)]
struct Machine {
    shaft_hz: f64,
    /// Change of speed over the window, in parts.
    drift: f64,
    /// Order and mm/s RMS.
    orders: Vec<(f64, f64)>,
    /// Frequency and mm/s RMS.
    tones: Vec<(f64, f64)>,
    /// Teeth, g RMS, and how deep the mesh is modulated once and twice a turn.
    mesh: Option<(u16, f64, [f64; 2])>,
    /// Standard deviation of the noise, g.
    noise_g: f64,
    seed: u64,
}

impl Machine {
    /// A motor's healthy second at 29.53 Hz, as a rig on a bench has it: 0.6 mm/s at its speed.
    fn healthy(seed: u64) -> Self {
        Self {
            shaft_hz: 29.53,
            drift: 0.0,
            orders: vec![(1.0, 0.6), (2.0, 0.3), (3.0, 0.1), (4.0, 0.05)],
            tones: vec![(100.0, 0.1)],
            mesh: None,
            noise_g: 0.02,
            seed,
        }
    }

    fn with_orders(orders: &[(f64, f64)], seed: u64) -> Self {
        Self {
            orders: orders.to_vec(),
            ..Self::healthy(seed)
        }
    }

    /// `seconds` of samples in g.
    fn samples(&self, rate_hz: f64, seconds: f64) -> Vec<f32> {
        let mut state = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut chance = move || {
            // Knuth's generator of the MMIX; twelve of them are nearly normal.
            (0..12)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    (state >> 11) as f64 / (1u64 << 53) as f64
                })
                .sum::<f64>()
                - 6.0
        };
        let count = (rate_hz * seconds) as usize;
        let value = |index: usize, noise: f64| {
            let at = index as f64 / rate_hz;
            let turns = self.shaft_hz * at * (1.0 + 0.5 * self.drift * at / seconds);
            let sine = |turns: f64, phase: f64| 2f64.sqrt() * (TAU * turns + phase + self.seed as f64).sin();
            let acceleration = |hz: f64, mm_s: f64| mm_s * TAU * hz / 9_806.65;
            let orders: f64 = self
                .orders
                .iter()
                .map(|&(order, mm_s)| {
                    acceleration(order * self.shaft_hz, mm_s) * sine(order * turns, 2.0 * order)
                })
                .sum();
            let tones: f64 = self
                .tones
                .iter()
                .map(|&(hz, mm_s)| acceleration(hz, mm_s) * sine(hz * at, hz))
                .sum();
            let mesh = self.mesh.map_or(0.0, |(teeth, g, [once, twice])| {
                let modulation = 1.0 + once * sine(turns, 0.3) + twice * sine(2.0 * turns, 1.1);
                g * modulation * sine(f64::from(teeth) * turns, 0.7)
            });
            orders + tones + mesh + self.noise_g * noise
        };
        (0..count).map(|index| value(index, chance()) as f32).collect()
    }

    /// What a window of a second says.
    fn says(&self, train: &Train) -> Outcome {
        self.says_of(train, self.shaft_hz, 1.0)
    }

    fn says_of(&self, train: &Train, known_hz: f64, seconds: f64) -> Outcome {
        self.with_evidence(train, known_hz, seconds, |evidence| diagnose(evidence, train))
    }

    fn with_evidence<T>(
        &self,
        train: &Train,
        known_hz: f64,
        seconds: f64,
        say: impl FnOnce(&Evidence<'_>) -> T,
    ) -> T {
        let slow_rate_hz = 5_120.0;
        let settings = Settings::VELOCITY.within(seconds).unwrap();
        let (mut velocity, resolution_hz) =
            spectrum(&self.samples(slow_rate_hz, seconds), slow_rate_hz, &settings);
        integrate(&mut velocity, resolution_hz, 1.0, 9_806.65);
        let wide = Settings {
            high_hz: 10_000.0,
            lines: 12_800,
            averages: 4,
        };
        let acceleration = train.teeth.map(|_| {
            spectrum(
                &self.samples(25_600.0, seconds),
                25_600.0,
                &wide.within(seconds).unwrap(),
            )
        });
        say(&Evidence {
            velocity: Some(Lines {
                heights: &velocity,
                resolution_hz,
            }),
            acceleration: acceleration.as_ref().map(|(heights, resolution_hz)| Lines {
                heights,
                resolution_hz: *resolution_hz,
            }),
            shaft_hz: known_hz,
            usable_hz: (5.0, 10_000.0),
        })
    }
}

struct Planned(Arc<dyn RealToComplex<f32>>);

impl RealFourier for Planned {
    fn samples(&self) -> usize {
        self.0.len()
    }
    fn forward(&mut self, signal: &mut [f32], spectrum: &mut [Complex32]) {
        self.0.process(signal, spectrum).unwrap();
    }
    fn inverse(&mut self, _: &mut [Complex32], _: &mut [f32]) {
        unreachable!("a spectrum only goes forward");
    }
}

fn spectrum(samples: &[f32], rate_hz: f64, settings: &Settings) -> (Vec<f32>, f64) {
    let segment = settings.segment(rate_hz);
    let mut window = vec![0.0; segment];
    hann(&mut window);
    let mut heights = vec![0.0; usize::from(settings.lines) + 1];
    let buffers = Buffers {
        window: &window,
        segment: &mut vec![0.0; segment],
        spectrum: &mut vec![Complex32::default(); segment / 2 + 1],
    };
    let mut fourier = Planned(RealFftPlanner::new().plan_fft_forward(segment));
    let averages = usize::from(settings.averages);
    assert_eq!(
        averaged(&mut fourier, samples, averages, buffers, &mut heights),
        averages
    );
    (heights, settings.resolution_hz(rate_hz))
}

/// A machine of ISO 20816-3 group 2 on a rigid foundation: zone B ends at 2.8 mm/s.
const LIMIT: Train = Train {
    teeth: None,
    blades: None,
    line_hz: Some(50.0),
    axial: false,
    limit_mm_s: Some(2.8),
};

fn cause(outcome: &Outcome) -> Option<Cause> {
    match outcome {
        Outcome::Suspected(suspicion) => Some(suspicion.cause),
        Outcome::Quiet | Outcome::Undetermined(_) => None,
    }
}

/// Every seed says the cause, on the window and with every height a fifth higher or lower.
fn suspects(orders: &[(f64, f64)], train: &Train, expected: Cause) {
    for seed in 0..8 {
        for scale in [0.8, 1.0, 1.2] {
            let mut scaled = orders.to_vec();
            scaled.iter_mut().for_each(|(_, mm_s)| *mm_s *= scale);
            let outcome = Machine::with_orders(&scaled, seed).says(train);
            assert_eq!(
                cause(&outcome),
                Some(expected),
                "seed {seed}, {scale}: {outcome:?}"
            );
        }
    }
}

/// No seed says any cause.
fn suspects_nothing(machine: &Machine, train: &Train) -> Outcome {
    let mut last = Outcome::Quiet;
    for seed in 0..8 {
        let machine = Machine {
            seed,
            ..machine.clone()
        };
        last = machine.says(train);
        assert_eq!(cause(&last), None, "seed {seed}: {last:?}");
    }
    last
}

const UNBALANCED: [(f64, f64); 4] = [(1.0, 6.0), (2.0, 0.4), (3.0, 0.2), (4.0, 0.05)];
const MISALIGNED: [(f64, f64); 4] = [(1.0, 3.0), (2.0, 4.5), (3.0, 1.5), (4.0, 0.2)];
const LOOSE: [(f64, f64); 9] = [
    (0.5, 1.0),
    (1.0, 4.0),
    (1.5, 1.2),
    (2.0, 2.5),
    (2.5, 0.8),
    (3.0, 2.0),
    (4.0, 1.0),
    (5.0, 0.8),
    (6.0, 0.7),
];

#[test]
fn unbalance_is_suspected_and_the_same_line_on_a_healthy_machine_is_not() {
    suspects(&UNBALANCED, &LIMIT, Cause::Unbalance);
    let quiet = suspects_nothing(&Machine::with_orders(&[(1.0, 2.2), (2.0, 0.1)], 0), &LIMIT);
    assert_eq!(quiet, Outcome::Quiet, "below the limit");
    // Along the shaft it is something else.
    let axial = Train { axial: true, ..LIMIT };
    let outcome = suspects_nothing(&Machine::with_orders(&UNBALANCED, 0), &axial);
    assert_eq!(outcome, Outcome::Undetermined(Undetermined::LikeNone));
}

#[test]
fn a_neighbours_line_beside_the_shafts_speed_is_no_unbalance() {
    let neighbour = Machine {
        tones: vec![(33.4, 6.0)],
        ..Machine::healthy(0)
    };
    suspects_nothing(&neighbour, &LIMIT);
}

#[test]
fn misalignment_is_suspected_and_a_motors_field_is_not() {
    suspects(&MISALIGNED, &LIMIT, Cause::Misalignment);
    // A motor of one pole pair: twice its speed and twice the line frequency are one line.
    for (line_hz, shaft_hz) in [(Some(50.0), 49.6), (None, 49.6), (None, 59.2)] {
        let two_pole = Machine {
            shaft_hz,
            tones: Vec::new(),
            ..Machine::with_orders(&[(1.0, 2.0), (2.0, 4.0)], 0)
        };
        let train = Train { line_hz, ..LIMIT };
        let outcome = suspects_nothing(&two_pole, &train);
        assert_eq!(
            outcome,
            Outcome::Undetermined(Undetermined::Ambiguous),
            "{line_hz:?} at {shaft_hz}"
        );
    }
}

#[test]
fn looseness_is_suspected_and_a_belt_or_a_wheel_is_not() {
    suspects(&LOOSE, &LIMIT, Cause::Looseness);
    let harmonics: Vec<_> = (1..=10)
        .map(|order| (f64::from(order), 4.0 / f64::from(order)))
        .collect();
    suspects(&harmonics, &LIMIT, Cause::Looseness);
    // One line at half the speed, as a belt of twice the length leaves it.
    let belt = Machine::with_orders(&[(0.5, 3.0), (1.0, 2.5), (2.0, 1.0)], 0);
    suspects_nothing(&belt, &LIMIT);
    // A wheel of five blades and its second harmonic.
    let wheel = Machine::with_orders(&[(1.0, 2.0), (5.0, 3.0), (10.0, 1.0)], 0);
    let train = Train {
        blades: Some(5),
        ..LIMIT
    };
    for seed in 0..8 {
        let outcome = Machine {
            seed,
            ..wheel.clone()
        }
        .says(&train);
        assert!(
            matches!(cause(&outcome), None | Some(Cause::BladePass)),
            "{outcome:?}"
        );
    }
}

#[test]
fn blade_pass_is_suspected_and_the_same_line_of_a_healthy_fan_is_not() {
    let fan = Train {
        blades: Some(7),
        ..LIMIT
    };
    suspects(
        &[(1.0, 1.0), (2.0, 0.3), (7.0, 5.0), (14.0, 1.0)],
        &fan,
        Cause::BladePass,
    );
    let healthy = Machine::with_orders(&[(1.0, 1.0), (2.0, 0.3), (7.0, 1.5)], 0);
    assert_eq!(suspects_nothing(&healthy, &fan), Outcome::Quiet);
    // Whose wheel it is has to be declared.
    let outcome = suspects_nothing(&Machine::with_orders(&[(1.0, 1.0), (7.0, 5.0)], 0), &LIMIT);
    assert_eq!(outcome, Outcome::Undetermined(Undetermined::LikeNone));
}

#[test]
fn the_field_is_suspected_where_no_order_is_near() {
    let field = |shaft_hz: f64, mm_s: f64| Machine {
        shaft_hz,
        tones: vec![(100.0, mm_s)],
        ..Machine::with_orders(&[(1.0, 1.0), (2.0, 0.4)], 0)
    };
    for seed in 0..8 {
        let outcome = Machine {
            seed,
            ..field(29.53, 5.0)
        }
        .says(&LIMIT);
        assert_eq!(cause(&outcome), Some(Cause::Electrical), "{outcome:?}");
    }
    assert_eq!(suspects_nothing(&field(29.53, 1.5), &LIMIT), Outcome::Quiet);
    // Four times the speed of a motor of two pole pairs lies 1.2 Hz below.
    let outcome = suspects_nothing(&field(24.7, 5.0), &LIMIT);
    assert_eq!(outcome, Outcome::Undetermined(Undetermined::Ambiguous));
}

#[test]
fn a_wheel_with_strong_sidebands_is_suspected_and_a_healthy_mesh_is_not() {
    let train = Train {
        teeth: Some(23),
        limit_mm_s: None,
        ..LIMIT
    };
    let geared = |modulation: [f64; 2]| Machine {
        mesh: Some((23, 0.5, modulation)),
        ..Machine::healthy(0)
    };
    for seed in 0..8 {
        let outcome = Machine {
            seed,
            ..geared([0.7, 0.5])
        }
        .says(&train);
        let Outcome::Suspected(suspicion) = outcome else {
            panic!("seed {seed}: {outcome:?}");
        };
        assert_eq!(suspicion.cause, Cause::GearMesh);
        assert!(
            suspicion.score > 1.0 && suspicion.lines.len() >= 5,
            "{suspicion:?}"
        );
        assert!((suspicion.lines[0].order - 23.0).abs() < 0.05);
    }
    for modulation in [[0.0, 0.0], [0.1, 0.05], [0.25, 0.1]] {
        assert_eq!(
            suspects_nothing(&geared(modulation), &train),
            Outcome::Quiet,
            "{modulation:?}"
        );
    }
    assert_eq!(
        suspects_nothing(&Machine::healthy(0), &train),
        Outcome::Quiet,
        "no mesh to be heard"
    );
    // Sidebands beyond the usable band are not there to be added up.
    let many = Train {
        teeth: Some(340),
        ..train
    };
    let outcome = suspects_nothing(&geared([0.7, 0.5]), &many);
    assert_eq!(outcome, Outcome::Undetermined(Undetermined::NoSpectrum));
}

#[test]
fn a_healthy_machine_is_quiet_and_two_faults_at_once_are_not_one() {
    assert_eq!(suspects_nothing(&Machine::healthy(0), &LIMIT), Outcome::Quiet);
    let both = Machine {
        tones: vec![(100.0, 4.0)],
        ..Machine::with_orders(&[(1.0, 4.0), (2.0, 0.3)], 0)
    };
    suspects_nothing(&both, &LIMIT);
    let noisy = Machine {
        noise_g: 3.0,
        ..Machine::healthy(0)
    };
    suspects_nothing(
        &noisy,
        &Train {
            blades: Some(7),
            ..LIMIT
        },
    );
}

#[test]
fn a_speed_that_is_a_little_off_is_read_from_the_shafts_own_line() {
    for known_hz in [29.2, 29.53, 29.9] {
        let machine = Machine::with_orders(&MISALIGNED, 3);
        let outcome = machine.says_of(&LIMIT, known_hz, 1.0);
        let Outcome::Suspected(suspicion) = outcome else {
            panic!("{known_hz}: {outcome:?}");
        };
        assert!((suspicion.lines[0].frequency_hz - 29.53).abs() < 0.1);
        assert!((suspicion.lines[1].order - 2.0).abs() < 0.01);
        assert_eq!(suspicion.band_hz, (5.0, 1_000.0));
    }
}

#[test]
fn what_is_not_known_or_not_resolved_is_undetermined() {
    let machine = Machine::with_orders(&UNBALANCED, 0);
    let reason = |train: &Train, shaft_hz| match machine.says_of(train, shaft_hz, 1.0) {
        Outcome::Undetermined(reason) => reason,
        outcome => panic!("{outcome:?}"),
    };
    for unknown in [0.0, -1.0, f64::NAN] {
        assert_eq!(reason(&LIMIT, unknown), Undetermined::SpeedUnknown);
    }
    let undeclared = Train {
        limit_mm_s: None,
        ..LIMIT
    };
    assert_eq!(reason(&undeclared, 29.53), Undetermined::NothingDeclared);
    assert_eq!(
        reason(&LIMIT, 6.0),
        Undetermined::Unresolved,
        "2.5 Hz do not part 6 Hz"
    );
    // The shaft does not turn at the speed that is declared.
    assert_eq!(reason(&LIMIT, 41.0), Undetermined::LikeNone);
    let none = Evidence {
        velocity: None,
        acceleration: None,
        shaft_hz: 29.53,
        usable_hz: (5.0, 10_000.0),
    };
    assert_eq!(
        diagnose(&none, &LIMIT),
        Outcome::Undetermined(Undetermined::NoSpectrum)
    );
}

#[test]
fn a_shaft_that_changes_its_speed_is_not_judged() {
    let running_up = Machine {
        drift: 0.5,
        ..Machine::with_orders(&UNBALANCED, 0)
    };
    suspects_nothing(&running_up, &LIMIT);
}

#[test]
fn a_longer_window_parts_slower_shafts() {
    let slow = Machine {
        shaft_hz: 6.0,
        tones: Vec::new(),
        ..Machine::with_orders(&UNBALANCED, 1)
    };
    assert_eq!(
        slow.says_of(&LIMIT, 6.0, 1.0),
        Outcome::Undetermined(Undetermined::Unresolved)
    );
    assert_eq!(cause(&slow.says_of(&LIMIT, 6.0, 4.0)), Some(Cause::Unbalance));
}

/// Machines with a fault and what it is, and healthy ones and others of which nothing can be told.
fn catalogue() -> Vec<(Machine, Train, Option<Cause>)> {
    let orders = |orders: &[(f64, f64)]| Machine::with_orders(orders, 0);
    let beside = |tone: (f64, f64), of: &[(f64, f64)]| Machine {
        tones: vec![tone],
        ..orders(of)
    };
    let geared = |modulation| Machine {
        mesh: Some((23, 0.5, modulation)),
        ..Machine::healthy(0)
    };
    let fan = Train {
        blades: Some(7),
        ..LIMIT
    };
    let wheel = Train {
        teeth: Some(23),
        limit_mm_s: None,
        ..LIMIT
    };
    let axial = Train { axial: true, ..LIMIT };
    let harmonics: Vec<_> = (1..=10)
        .map(|order| (f64::from(order), 4.0 / f64::from(order)))
        .collect();
    let two_pole = Machine {
        shaft_hz: 49.6,
        tones: Vec::new(),
        ..orders(&[(1.0, 2.0), (2.0, 4.0)])
    };
    vec![
        (orders(&UNBALANCED), LIMIT, Some(Cause::Unbalance)),
        (orders(&MISALIGNED), LIMIT, Some(Cause::Misalignment)),
        (orders(&LOOSE), LIMIT, Some(Cause::Looseness)),
        (orders(&harmonics), LIMIT, Some(Cause::Looseness)),
        (
            orders(&[(1.0, 1.0), (2.0, 0.3), (7.0, 5.0), (14.0, 1.0)]),
            fan,
            Some(Cause::BladePass),
        ),
        (
            beside((100.0, 5.0), &[(1.0, 1.0), (2.0, 0.4)]),
            LIMIT,
            Some(Cause::Electrical),
        ),
        (geared([0.7, 0.5]), wheel, Some(Cause::GearMesh)),
        (Machine::healthy(0), LIMIT, None),
        (orders(&[(1.0, 2.2), (2.0, 0.1)]), LIMIT, None),
        (orders(&UNBALANCED), axial, None),
        (beside((33.4, 6.0), &[(1.0, 0.6), (2.0, 0.3)]), LIMIT, None),
        (two_pole, LIMIT, None),
        (orders(&[(0.5, 3.0), (1.0, 2.5), (2.0, 1.0)]), LIMIT, None),
        (orders(&[(1.0, 1.0), (2.0, 0.3), (7.0, 1.5)]), fan, None),
        (beside((100.0, 4.0), &[(1.0, 4.0), (2.0, 0.3)]), LIMIT, None),
        (geared([0.25, 0.1]), wheel, None),
        (geared([0.0, 0.0]), wheel, None),
    ]
}

/// Each criterion by itself a fifth lower and a fifth higher, by name.
fn a_fifth_off() -> Vec<(&'static str, f64, Criteria)> {
    type Of = fn(&mut Criteria) -> &mut f64;
    let all: [(&str, Of); 10] = [
        ("stands_out", |criteria| &mut criteria.stands_out),
        ("sharp", |criteria| &mut criteria.sharp),
        ("share", |criteria| &mut criteria.share),
        ("share_of_one", |criteria| &mut criteria.share_of_one),
        ("share_of_loose", |criteria| &mut criteria.share_of_loose),
        ("beside_unbalance", |criteria| &mut criteria.beside_unbalance),
        ("second_over_first", |criteria| &mut criteria.second_over_first),
        ("beside_misalignment", |criteria| {
            &mut criteria.beside_misalignment
        }),
        ("loose", |criteria| &mut criteria.loose),
        ("sideband_ratio", |criteria| &mut criteria.sideband_ratio),
    ];
    let changed = all.into_iter().flat_map(|(name, of)| {
        [0.8, 1.2].map(|factor| {
            let mut criteria = Criteria::CHOSEN;
            *of(&mut criteria) *= factor;
            (name, factor, criteria)
        })
    });
    changed.collect()
}

#[test]
fn each_criterion_may_be_a_fifth_off() {
    let variations = a_fifth_off();
    let mut named = vec![0; variations.len()];
    let mut faulty = 0;
    for (machine, train, expected) in catalogue() {
        for seed in 0..8 {
            let machine = Machine {
                seed,
                ..machine.clone()
            };
            faulty += usize::from(expected.is_some());
            machine.with_evidence(&train, machine.shaft_hz, 1.0, |evidence| {
                for ((name, factor, criteria), named) in variations.iter().zip(&mut named) {
                    let outcome = diagnose_by(criteria, evidence, &train);
                    let said = cause(&outcome);
                    assert!(
                        said.is_none() || said == expected,
                        "{name} x {factor}, seed {seed}: {outcome:?} for {expected:?}"
                    );
                    *named += usize::from(said.is_some());
                }
            });
        }
    }
    for ((name, factor, _), named) in variations.iter().zip(&named) {
        assert_eq!(*named, faulty, "{name} x {factor}");
    }
}
