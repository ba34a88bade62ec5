//! What computations of the node cost on the emulated processor, and what they come to there.

use super::image::{Toolchain, target_dir};
use super::{BOARD, MACHINE, Stimulus, machine};
use crate::host_node::quantised;
use crate::process::Process;
use crate::sim_machine::{MachineSpec, SimMachine};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::moments::Moments;
use trunnion_common::feature::octave::Octaves;
use trunnion_common::feature::velocity::{Passband, VelocityFilter, VelocityMeter};
use trunnion_common::quantity::Unit;

/// The image that measures.
const IMAGE: &str = "qemu-an386-figures";

/// Samples of its window.
pub const SAMPLES: usize = 1_024;

/// How often it does each thing, the time to warm up included.
pub const TIMES: usize = 51;

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What an image has told.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Told {
    /// Instructions, by name.
    pub instructions: BTreeMap<String, u64>,
    /// Results, by name.
    pub values: BTreeMap<String, f32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Cost { name: String, instructions: u64 },
    Value { name: String, bits: u32 },
}

/// Runs the image on the first samples of `stimulus`, with files in `dir`.
pub fn measure(dir: &Path, toolchain: Toolchain, stimulus: &Stimulus) -> Result<Told> {
    let image = toolchain.build_program(BOARD, IMAGE, &target_dir())?;
    std::fs::create_dir_all(dir)?;
    let mut command = machine(MACHINE, &image);
    command
        .args(["-serial", "stdio"])
        // An instruction takes a nanosecond, and nothing waits for real time: always the same counts.
        .args(["-icount", "shift=0,sleep=off"])
        .args(stimulus.load(dir)?);
    let mut process = Process::start("qemu", command, &dir.join("figures.log"))?;
    let mut told = Told::default();
    process.await_line(LIMIT, |line| {
        match serde_json::from_str(line) {
            Ok(Line::Cost { name, instructions }) => {
                told.instructions.insert(name, instructions);
            }
            Ok(Line::Value { name, bits }) => {
                told.values.insert(name, f32::from_bits(bits));
            }
            Err(_) => return (line.trim() == "done").then_some(()),
        }
        None
    })?;
    Ok(told)
}

/// A second of a healthy motor, felt at 12 kHz.
pub fn stimulus() -> Result<Stimulus> {
    const RATE_HZ: f64 = 12_000.0;
    const RANGE_G: f32 = 16.0;
    let mut samples = vec![0.0; 12_000];
    SimMachine::new(MachineSpec::motor(RATE_HZ, 1)).fill(&mut samples);
    Ok(Stimulus {
        samples: samples
            .into_iter()
            .map(|value| quantised(value, RANGE_G))
            .collect(),
        rate_mhz: NonZeroU32::new(RATE_HZ as u32 * 1_000).context("not 0")?,
        range_g: RANGE_G,
    })
}

/// Largest difference between a value of the image and the host's, of that value. Filters are the same operations of
/// f32 in the same order, and differ by nothing; sums of moments are of whole numbers there and of doubles here.
const TOLERANCE: f32 = 1e-6;

/// What the image should have told of `stimulus`: the same code, on this processor.
pub fn expected(stimulus: &Stimulus) -> Result<BTreeMap<String, f32>> {
    let samples = stimulus
        .samples
        .get(..SAMPLES)
        .context("the stimulus is too short")?;
    let scale = stimulus.range_g / 32_768.0;
    let origin = i32::from(samples[0]);
    let distances = || samples.iter().map(|sample| (i32::from(*sample) - origin) as f32);
    let mut values = BTreeMap::new();
    let statistics = Moments::of(samples.iter().copied()).and_then(|found| found.statistics(scale.into()));
    let statistics = statistics.context("samples have statistics")?;
    let shape = statistics.shape.context("the stimulus moves")?;
    let mut octaves = Octaves::new(0.0);
    let rate_hz = f64::from(stimulus.rate_mhz.get()) / 1e3;
    let filter = VelocityFilter::new(Unit::StandardGravity, rate_hz, Passband::STANDARD);
    let mut meter = VelocityMeter::new(filter.context("the stimulus is too slow")?);
    for _ in 0..TIMES {
        octaves.restart();
        octaves.extend(samples, origin);
        distances().for_each(|distance| meter.push(distance * scale));
    }
    for (kind, rms) in FeatureKind::OCTAVES.into_iter().zip(octaves.rms()) {
        values.insert(
            kind.label().to_owned(),
            rms.context("a window has every octave")? * scale,
        );
    }
    for (kind, value) in [
        (FeatureKind::Mean, statistics.mean),
        (FeatureKind::Rms, statistics.rms),
        (FeatureKind::Peak, statistics.peak),
        (FeatureKind::PeakToPeak, statistics.peak_to_peak),
        (FeatureKind::CrestFactor, shape.crest_factor),
        (FeatureKind::KurtosisExcess, shape.kurtosis_excess),
        (FeatureKind::Skewness, shape.skewness),
        (
            FeatureKind::VelocityRms,
            meter.rms().context("the filter has settled")?,
        ),
    ] {
        values.insert(kind.label().to_owned(), value);
    }
    Ok(values)
}

/// Whether the image has told every value, and each within the tolerance.
pub fn compare(told: &BTreeMap<String, f32>, expected: &BTreeMap<String, f32>) -> Result<()> {
    for (name, expected) in expected {
        let told = told
            .get(name)
            .with_context(|| format!("the image does not tell {name}"))?;
        let apart = (told - expected).abs();
        ensure!(
            apart <= TOLERANCE * expected.abs(),
            "the image's {name} is {told}, the host's {expected}: they are {apart} apart"
        );
    }
    Ok(())
}

impl Told {
    /// The instructions of that name.
    pub fn cost(&self, name: &str) -> Result<u64> {
        let found = self.instructions.get(name);
        found
            .copied()
            .with_context(|| format!("the image does not tell {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_missing_or_off_is_refused_and_rounding_is_not() {
        let values = |rms: f32| BTreeMap::from([("rms".to_owned(), rms)]);
        assert!(compare(&values(1.0), &values(1.0 + 5e-7)).is_ok());
        assert!(compare(&values(1.0), &values(1.000_01)).is_err());
        assert!(compare(&BTreeMap::new(), &values(1.0)).is_err());
        assert!(compare(&values(f32::NAN), &values(1.0)).is_err());
    }
}
