//! The features against an independent implementation: SciPy, to 1e-5.
//!
//! `reference.py` computes them from the same samples with SciPy's own filters, windows, moments and Hilbert
//! transform, and NumPy's linear algebra. Its numbers (SciPy 1.17.1, NumPy 2.4.6) for one seed stand here, so that
//! they are compared on every machine; where there is a Python with both (`TRUNNION_PYTHON`, or `python3`), they are
//! computed anew for several.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::ffi::OsStr;
use std::process::Command;
use std::sync::Arc;
use trunnion_common::detection::hotelling::{Covariance, Model};
use trunnion_common::feature::band::Lines;
use trunnion_common::feature::envelope::{
    Complex32, EnvelopeBuffers, RealFourier, envelope_spectrum, hann, squared_envelope,
};
use trunnion_common::feature::moments::Moments;
use trunnion_common::feature::octave::Octaves;
use trunnion_common::feature::quadrature::{self, Plan};
use trunnion_common::feature::spectrum::{Buffers, Settings, averaged, integrate};
use trunnion_common::feature::statistics::{Accumulator, Statistics};
use trunnion_common::feature::velocity::{Passband, VelocityFilter, VelocityMeter};
use trunnion_common::quantity::Unit;

const RATE_HZ: f64 = 5_120.0;

/// What a sample of 1 of the converter stands for: a power of two, so that nothing is rounded.
const STEP: f32 = 1.0 / 4_096.0;

/// Which machine the numbers below are of.
const SEED: u64 = 1;

/// What SciPy and NumPy say of [`samples`] of that seed.
const SCIPY: [(&str, f64); 31] = [
    ("mean", 0.7908962726593017),
    ("rms", 0.5480154923257274),
    ("peak", 2.908078336715698),
    ("peak_to_peak", 4.586181640625),
    ("crest_factor", 5.306562273219833),
    ("kurtosis_excess", 1.2840053463821226),
    ("skewness", 0.753505482118414),
    ("line_12", 0.27383772241367),
    ("line_24", 0.16194628404679826),
    ("line_41", 0.08062326112745477),
    ("line_173", 0.19388957674481774),
    ("line_391", 0.03555369408839781),
    ("band_acceleration", 0.3583126972922222),
    ("band_velocity", 15.742350725619206),
    ("velocity_rms", 15.724956524266346),
    ("velocity_peak", 30.540295596058854),
    ("envelope_rms", 0.1559882735719618),
    ("envelope_line_214", 614178.163382962),
    ("envelope_line_215", 579519.0193898786),
    ("envelope_line_429", 1004837.5315140309),
    ("envelope_line_644", 721877.4871810627),
    ("octave_1", 0.0879929551728512),
    ("octave_2", 0.22809703401395792),
    ("octave_3", 0.19028176004996175),
    ("octave_4", 0.2726000050364798),
    ("t_squared_0", 16.24425858136193),
    ("q_0", 3.096569202854022),
    ("t_squared_77", 1.1720240338584462),
    ("q_77", 0.027586678536022265),
    ("t_squared_640", 1.3757569178910387),
    ("q_640", 0.10310181345904805),
];

/// A machine's second as a converter of 16 bits has it: a bias, a shaft with a harmonic, other lines, a carrier that a
/// bearing modulates, strikes that ring to one side, and noise.
fn samples(seed: u64) -> Vec<i16> {
    // Noise of a linear congruential generator (Knuth, MMIX), even from -1 to 1.
    let mut state = seed;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    let mut value = |index: u32| {
        let at = f64::from(index) / RATE_HZ;
        let sine = |hz: f64| (TAU * hz * at + hz + seed as f64).sin();
        let lines = [
            (29.53, 0.4),
            (59.06, 0.25),
            (101.7, 0.12),
            (433.3, 0.3),
            (977.1, 0.05),
        ];
        let lines: f64 = lines.into_iter().map(|(hz, height)| height * sine(hz)).sum();
        let since = (107.3 * at).fract() / 107.3;
        let strike = 1.5 * (-since * 900.0).exp() * (0.4 + (TAU * 1_730.0 * since).sin());
        0.7 + lines + (0.2 + 0.1 * sine(37.0)) * sine(1_010.0) + strike + 0.2 * noise()
    };
    let converted = |index| (value(index) / f64::from(STEP)).round() as i16;
    (0..RATE_HZ as u32).map(converted).collect()
}

type Values = BTreeMap<String, f64>;

fn tell(values: &mut Values, name: &str, value: impl Into<f64>) {
    values.insert(name.to_owned(), value.into());
}

/// The same features by name, as this crate computes them.
fn features(converted: &[i16]) -> Values {
    let samples: Vec<f32> = converted.iter().map(|value| f32::from(*value) * STEP).collect();
    let mut values = amplitudes(&Statistics::of(&samples).unwrap());
    spectra(&samples, &mut values);
    velocity(&samples, &mut values);
    envelopes(&samples, &mut values);
    octaves(&samples, &mut values);
    rows(&samples, &mut values);
    values
}

fn amplitudes(statistics: &Statistics) -> Values {
    let mut values = Values::new();
    let shape = statistics.shape.unwrap();
    for (name, value) in [
        ("mean", statistics.mean),
        ("rms", statistics.rms),
        ("peak", statistics.peak),
        ("peak_to_peak", statistics.peak_to_peak),
        ("crest_factor", shape.crest_factor),
        ("kurtosis_excess", shape.kurtosis_excess),
        ("skewness", shape.skewness),
    ] {
        tell(&mut values, name, value);
    }
    values
}

fn spectra(samples: &[f32], values: &mut Values) {
    let settings = Settings::VELOCITY.within(1.0).unwrap();
    let mut heights = spectrum(samples, &settings);
    for index in [12, 24, 41, 173, 391] {
        tell(values, &format!("line_{index}"), heights[index]);
    }
    let resolution_hz = settings.resolution_hz(RATE_HZ);
    let band = |heights: &[f32]| {
        let lines = Lines {
            heights,
            resolution_hz,
        };
        lines.band_rms(20.0, 120.0).unwrap()
    };
    tell(values, "band_acceleration", band(&heights));
    integrate(&mut heights, resolution_hz, 0.0, 9_806.65);
    tell(values, "band_velocity", band(&heights));
}

fn velocity(samples: &[f32], values: &mut Values) {
    let mean = Statistics::of(samples).unwrap().mean;
    let filter = VelocityFilter::new(Unit::StandardGravity, RATE_HZ, Passband::STANDARD).unwrap();
    let mut meter = VelocityMeter::new(filter);
    samples.iter().for_each(|&sample| meter.push(sample - mean));
    tell(values, "velocity_rms", meter.rms().unwrap());
    tell(values, "velocity_peak", meter.peak().unwrap());
}

/// The trended envelope of one band, and lines of the spectrum of the whitened samples' squared envelope at the rate
/// of the strikes, half a line apart.
fn envelopes(samples: &[f32], values: &mut Values) {
    let plan = Plan::new(0.35 * RATE_HZ / 2.56, 0.65 * RATE_HZ / 2.56, RATE_HZ).unwrap();
    let (mut cosine, mut sine) = (vec![0.0; plan.taps], vec![0.0; plan.taps]);
    plan.fill(&mut cosine, &mut sine);
    let mut envelope = vec![0.0; samples.len()];
    let count = quadrature::envelope(samples, &cosine, &sine, plan.factor, &mut envelope);
    tell(
        values,
        "envelope_rms",
        Statistics::of(&envelope[..count]).unwrap().rms,
    );

    let (n, mean) = (samples.len(), Statistics::of(samples).unwrap().mean);
    let mut signal: Vec<f32> = samples.iter().map(|sample| sample - mean).collect();
    let mut squares = vec![0.0; n];
    squared_envelope(
        &mut Planned::new(n),
        1..=2_000,
        EnvelopeBuffers {
            signal: &mut signal,
            spectrum: &mut vec![Complex32::default(); n / 2 + 1],
            quadrature: &mut vec![Complex32::default(); n / 2 + 1],
            envelope: &mut squares,
        },
    );
    let mut window = vec![0.0; n];
    hann(&mut window);
    let mut magnitudes = vec![0.0; n + 1];
    envelope_spectrum(
        &mut Planned::new(2 * n),
        &squares,
        &window,
        &mut vec![0.0; 2 * n],
        &mut vec![Complex32::default(); n + 1],
        &mut magnitudes,
    );
    for line in [214, 215, 429, 644] {
        tell(values, &format!("envelope_line_{line}"), magnitudes[line]);
    }
}

fn octaves(samples: &[f32], values: &mut Values) {
    let mut octaves = Octaves::new(samples[0]);
    samples.iter().for_each(|&sample| octaves.push(sample));
    for (number, rms) in (1..).zip(octaves.rms()) {
        tell(values, &format!("octave_{number}"), rms.unwrap());
    }
}

/// Channels that are looked at together: four samples in a row, which move together as a machine's do.
fn rows(samples: &[f32], values: &mut Values) {
    let rows = samples.as_chunks::<4>().0.iter().map(|row| row.map(f64::from));
    let rows: Vec<_> = rows.collect();
    let mut covariance = Covariance::default();
    rows.iter().for_each(|row| covariance.push(row));
    let model = Model::new(&covariance, &[1.0; 4]).unwrap();
    for index in [0, 77, 640] {
        tell(
            values,
            &format!("t_squared_{index}"),
            model.t_squared(&rows[index]).value,
        );
        tell(values, &format!("q_{index}"), model.q(&rows[index]).value);
    }
}

struct Planned(Arc<dyn RealToComplex<f32>>, Arc<dyn ComplexToReal<f32>>);

impl Planned {
    fn new(samples: usize) -> Self {
        let mut planner = RealFftPlanner::new();
        Self(
            planner.plan_fft_forward(samples),
            planner.plan_fft_inverse(samples),
        )
    }
}

impl RealFourier for Planned {
    fn samples(&self) -> usize {
        self.0.len()
    }
    fn forward(&mut self, signal: &mut [f32], spectrum: &mut [Complex32]) {
        self.0.process(signal, spectrum).unwrap();
    }
    fn inverse(&mut self, spectrum: &mut [Complex32], signal: &mut [f32]) {
        self.1.process(spectrum, signal).unwrap();
    }
}

fn spectrum(samples: &[f32], settings: &Settings) -> Vec<f32> {
    let segment = settings.segment(RATE_HZ);
    let mut window = vec![0.0; segment];
    hann(&mut window);
    let mut heights = vec![0.0; usize::from(settings.lines) + 1];
    let buffers = Buffers {
        window: &window,
        segment: &mut vec![0.0; segment],
        spectrum: &mut vec![Complex32::default(); segment / 2 + 1],
    };
    let averages = usize::from(settings.averages);
    let found = averaged(
        &mut Planned::new(segment),
        samples,
        averages,
        buffers,
        &mut heights,
    );
    assert_eq!(found, averages);
    heights
}

/// Whether values are those expected, as far as they are told.
fn compare(found: &Values, expected: &Values, of: &str) {
    for (name, found) in found {
        let error = (found / expected[name] - 1.0).abs();
        println!("{of}, {name}: {found} {} {error:.1e}", expected[name]);
        assert!(
            error < 1e-5,
            "{of}, {name}: {found} is {error:e} from {}",
            expected[name]
        );
    }
}

/// Whether all features of a seed are those expected, and those of samples that come one by one or as a converter has
/// them, too.
fn compare_all(seed: u64, expected: &Values) {
    let samples = samples(seed);
    let found = features(&samples);
    let names = |values: &Values| values.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(expected));
    compare(&found, expected, "a window");
    let mut running = Accumulator::default();
    samples
        .iter()
        .for_each(|value| running.push(f32::from(*value) * STEP));
    compare(
        &amplitudes(&running.statistics().unwrap()),
        expected,
        "one by one",
    );
    let moments = Moments::of(samples.iter().copied()).unwrap();
    compare(
        &amplitudes(&moments.statistics(STEP.into()).unwrap()),
        expected,
        "as converted",
    );
}

#[test]
fn features_are_those_of_an_independent_implementation() {
    let scipy = SCIPY.into_iter().map(|(name, value)| (name.to_owned(), value));
    compare_all(SEED, &scipy.collect());
}

#[test]
fn features_are_those_that_scipy_computes_here() {
    const NAME: &str = "features_are_those_that_scipy_computes_here";
    let python = std::env::var_os("TRUNNION_PYTHON").unwrap_or_else(|| "python3".into());
    let has_scipy = Command::new(&python).args(["-c", "import scipy.signal"]).output();
    if !has_scipy.is_ok_and(|output| output.status.success()) {
        skipped(&format!(
            "{NAME}: no Python with scipy; name one in TRUNNION_PYTHON"
        ));
        return;
    }
    for seed in SEED..SEED + 3 {
        compare_all(seed, &by_scipy(&python, seed));
    }
}

/// What the script says of the samples of a seed.
fn by_scipy(python: &OsStr, seed: u64) -> Values {
    let samples = samples(seed);
    let bytes = samples.into_iter().map(|value| f32::from(value) * STEP);
    let bytes: Vec<u8> = bytes.flat_map(f32::to_le_bytes).collect();
    let file = std::env::temp_dir().join(format!("trunnion-reference-{}-{seed}.f32le", std::process::id()));
    std::fs::write(&file, bytes).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference.py");
    let output = Command::new(python)
        .arg(script)
        .arg(&file)
        .arg(RATE_HZ.to_string())
        .output();
    std::fs::remove_file(&file).unwrap();
    let output = output.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let (name, value) = line.split_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    text.lines().map(line).collect()
}

/// Says so on the standard output, and in the file where `cargo xtask test` gathers what is left out.
fn skipped(what: &str) {
    println!("skipped: {what}");
    if let Some(path) = std::env::var_os("TRUNNION_SKIPS") {
        let file = std::fs::File::options().append(true).create(true).open(path);
        std::io::Write::write_all(&mut file.unwrap(), format!("{what}\n").as_bytes()).unwrap();
    }
}
