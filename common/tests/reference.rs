//! The features against an independent implementation: SciPy, to 1e-5.
//!
//! `reference.py` computes them from the same samples with SciPy's own filters, windows and moments. Its
//! numbers (SciPy 1.17.1, NumPy 2.4.6) stand here, so that they are compared on every machine; where there is
//! a Python with both (`TRUNNION_PYTHON`, or `python3`), they are computed anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use realfft::{RealFftPlanner, RealToComplex};
use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::process::Command;
use std::sync::Arc;
use trunnion_common::feature::band::Lines;
use trunnion_common::feature::envelope::{Complex32, RealFourier, hann};
use trunnion_common::feature::quadrature::{self, Plan};
use trunnion_common::feature::spectrum::{Buffers, Settings, averaged, integrate};
use trunnion_common::feature::statistics::Statistics;
use trunnion_common::feature::velocity::{Passband, VelocityFilter, VelocityMeter};
use trunnion_common::quantity::Unit;

const RATE_HZ: f64 = 5_120.0;

/// What SciPy says of [`samples`].
const SCIPY: [(&str, f64); 17] = [
    ("mean", 0.6991277333214541),
    ("rms", 0.43409277359671067),
    ("peak", 1.2871250514075498),
    ("peak_to_peak", 2.511277675628662),
    ("crest_factor", 2.9650920948141373),
    ("kurtosis_excess", -0.42838796766133935),
    ("skewness", -0.0007684941618863931),
    ("line_12", 0.27642684855098726),
    ("line_24", 0.16125738832773573),
    ("line_41", 0.079396383032824),
    ("line_173", 0.198488211167951),
    ("line_391", 0.03537292608168373),
    ("band_acceleration", 0.3441657140249557),
    ("band_velocity", 15.769033759253965),
    ("velocity_rms", 15.734642424430994),
    ("velocity_peak", 29.824414496994436),
    ("envelope_rms", 0.09120275954103586),
];

/// A machine's second: a bias, a shaft with a harmonic, other lines, and a carrier that a bearing modulates.
fn samples() -> Vec<f32> {
    let value = |index: u32| {
        let at = f64::from(index) / RATE_HZ;
        let sine = |hz: f64| (TAU * hz * at + hz).sin();
        let lines = [
            (29.53, 0.4),
            (59.06, 0.25),
            (101.7, 0.12),
            (433.3, 0.3),
            (977.1, 0.05),
        ];
        let lines: f64 = lines.into_iter().map(|(hz, height)| height * sine(hz)).sum();
        0.7 + lines + (0.2 + 0.1 * sine(37.0)) * sine(1_010.0)
    };
    (0..RATE_HZ as u32).map(|index| value(index) as f32).collect()
}

/// The same features by name, as this crate computes them.
fn features(samples: &[f32]) -> BTreeMap<String, f64> {
    let mut features = BTreeMap::new();
    let mut tell = |name: &str, value: f32| {
        features.insert(name.to_owned(), f64::from(value));
    };
    let statistics = Statistics::of(samples).unwrap();
    let shape = statistics.shape.unwrap();
    tell("mean", statistics.mean);
    tell("rms", statistics.rms);
    tell("peak", statistics.peak);
    tell("peak_to_peak", statistics.peak_to_peak);
    tell("crest_factor", shape.crest_factor);
    tell("kurtosis_excess", shape.kurtosis_excess);
    tell("skewness", shape.skewness);

    let settings = Settings::VELOCITY.within(1.0).unwrap();
    let mut heights = spectrum(samples, &settings);
    for index in [12, 24, 41, 173, 391] {
        tell(&format!("line_{index}"), heights[index]);
    }
    let resolution_hz = settings.resolution_hz(RATE_HZ);
    let band = |heights: &[f32]| {
        let lines = Lines {
            heights,
            resolution_hz,
        };
        lines.band_rms(20.0, 120.0).unwrap()
    };
    tell("band_acceleration", band(&heights));
    integrate(&mut heights, resolution_hz, 0.0, 9_806.65);
    tell("band_velocity", band(&heights));

    let filter = VelocityFilter::new(Unit::StandardGravity, RATE_HZ, Passband::STANDARD).unwrap();
    let mut meter = VelocityMeter::new(filter);
    samples
        .iter()
        .for_each(|&sample| meter.push(sample - statistics.mean));
    tell("velocity_rms", meter.rms().unwrap());
    tell("velocity_peak", meter.peak().unwrap());

    let plan = Plan::new(0.35 * RATE_HZ / 2.56, 0.65 * RATE_HZ / 2.56, RATE_HZ).unwrap();
    let (mut cosine, mut sine) = (vec![0.0; plan.taps], vec![0.0; plan.taps]);
    plan.fill(&mut cosine, &mut sine);
    let mut envelope = vec![0.0; samples.len()];
    let count = quadrature::envelope(samples, &cosine, &sine, plan.factor, &mut envelope);
    tell("envelope_rms", Statistics::of(&envelope[..count]).unwrap().rms);
    features
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
    let mut fourier = Planned(RealFftPlanner::new().plan_fft_forward(segment));
    let averages = usize::from(settings.averages);
    assert_eq!(
        averaged(&mut fourier, samples, averages, buffers, &mut heights),
        averages
    );
    heights
}

fn compare(expected: &BTreeMap<String, f64>) {
    let found = features(&samples());
    let names = |values: &BTreeMap<String, f64>| values.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(expected));
    for (name, expected) in expected {
        let error = (found[name] / expected - 1.0).abs();
        println!("{name}: {} {expected} {error:.1e}", found[name]);
        assert!(
            error < 1e-5,
            "{name}: {} is {error:e} from {expected}",
            found[name]
        );
    }
}

#[test]
fn features_are_those_of_an_independent_implementation() {
    compare(
        &SCIPY
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    );
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
    let bytes: Vec<u8> = samples().into_iter().flat_map(f32::to_le_bytes).collect();
    let file = std::env::temp_dir().join(format!("trunnion-reference-{}.f32le", std::process::id()));
    std::fs::write(&file, bytes).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference.py");
    let output = Command::new(&python)
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
    compare(&text.lines().map(line).collect());
}

/// Says so on the standard output, and in the file where `cargo xtask test` gathers what is left out.
fn skipped(what: &str) {
    println!("skipped: {what}");
    if let Some(path) = std::env::var_os("TRUNNION_SKIPS") {
        let file = std::fs::File::options().append(true).create(true).open(path);
        std::io::Write::write_all(&mut file.unwrap(), format!("{what}\n").as_bytes()).unwrap();
    }
}
