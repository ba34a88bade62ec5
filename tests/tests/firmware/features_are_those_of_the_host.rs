//! What the microcontroller computes of a window, and what that costs it.

use super::toolchain;
use trunnion_common::feature::moments::Moments;
use trunnion_common::feature::velocity::{Passband, VelocityFilter, VelocityMeter};
use trunnion_common::quantity::Unit;
use trunnion_tests::qemu::figures;
use trunnion_tests::qemu::scene::{Felt, RANGE_G, RATE_HZ};

/// Results in single precision, by another processor and another library of functions.
const TOLERANCE: f32 = 1e-5;

#[test]
fn features_on_the_microcontroller_are_those_of_the_host_and_within_their_instructions() {
    let name = "features_on_the_microcontroller_are_those_of_the_host_and_within_their_instructions";
    let Some(toolchain) = toolchain(name) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let stimulus = Felt::simulated().stimulus;
    let told = figures::measure(dir.path(), toolchain, &stimulus).unwrap();

    let window = &stimulus.samples[..figures::SAMPLES];
    let scale = RANGE_G / 32_768.0;
    let moments = Moments::of(window.iter().copied()).unwrap();
    let statistics = moments.statistics(f64::from(scale)).unwrap();
    let shape = statistics.shape.unwrap();
    let filter = VelocityFilter::new(Unit::StandardGravity, RATE_HZ, Passband::STANDARD).unwrap();
    let mut meter = VelocityMeter::new(filter);
    for _ in 0..figures::TIMES {
        window
            .iter()
            .for_each(|sample| meter.push(f32::from(*sample) * scale));
    }
    for (name, expected) in [
        ("mean", statistics.mean),
        ("rms", statistics.rms),
        ("peak", statistics.peak),
        ("peak_to_peak", statistics.peak_to_peak),
        ("crest_factor", shape.crest_factor),
        ("kurtosis_excess", shape.kurtosis_excess),
        ("skewness", shape.skewness),
        ("velocity_rms", meter.rms().unwrap()),
    ] {
        let found = told.values[name];
        let tolerance = TOLERANCE * expected.abs().max(1e-3);
        assert!(
            (found - expected).abs() <= tolerance,
            "{name}: {found} is not {expected}"
        );
    }
    for (name, most) in [
        ("feature_window_instructions", 90_000),
        ("edge_inference_instructions", 200_000),
    ] {
        let cost = told.cost(name).unwrap();
        assert!(cost <= most, "{name}: {cost} is more than {most}");
    }
}
