//! What the diagnosis costs: one second of a three-axis sensor at 25.6 kHz, every feature, its bearing searched for.
//!
//! Processor time of one core, the mean over `ROUNDS` seconds after one to plan the transforms in.

use super::{Benchmark, Outcome};
use crate::bench::figure::Figure;
use crate::bench::inside::thread_s;
use crate::sim_machine::{MachineSpec, SimMachine};
use anyhow::Result;
use std::path::Path;
use trunnion_common::feature::definition::{BANDS_MAX, Basis, SpeedSource};
use trunnion_common::quantity::Unit;
use trunnion_diagnosis::bearing::{Element, Neighbours};
use trunnion_diagnosis::features::{Analyzer, Depth, PointContext, ShaftSpeed};

/// The benchmark.
pub const SPEED: Benchmark = Benchmark {
    name: "speed",
    needs_data: false,
    figures: &[WINDOW],
    published: &[],
    run,
};

const WINDOW: Figure = Figure::at_most("analysis_window_ms", 3.0, "ms");

const RATE_HZ: f64 = 25_600.0;
const AXES: u64 = 3;
const ROUNDS: u32 = 20;

fn run(_: &Path) -> Result<Outcome> {
    let machine = |axis| MachineSpec::motor(RATE_HZ, axis).with_fault(Element::OuterRace, 0.5, 0.0);
    let windows: Vec<Vec<f32>> = (0..AXES)
        .map(|axis| {
            let mut window = vec![0.0; RATE_HZ as usize];
            SimMachine::new(machine(axis)).fill(&mut window);
            window
        })
        .collect();
    let MachineSpec {
        shaft_hz, bearing, ..
    } = machine(0);
    let basis = Basis {
        unit: Unit::StandardGravity,
        rate_hz: RATE_HZ,
        seconds: 1.0,
        usable_low_hz: 1.0,
        usable_high_hz: RATE_HZ / 2.56,
        shaft_hz,
        speed: SpeedSource::Declared,
        envelope_hz: None,
        bands: [None; BANDS_MAX],
    };
    let context = PointContext {
        shaft: ShaftSpeed::declared(shaft_hz, ShaftSpeed::FINE),
        bearing: Some(bearing),
        neighbours: Neighbours::default(),
        band_high_hz: basis.usable_high_hz,
    };
    let mut analyzer = Analyzer::new();
    let mut second = || {
        for window in &windows {
            std::hint::black_box(analyzer.measure(window, &basis, &context, Depth::Full));
        }
    };
    second();
    let began = thread_s();
    for _ in 0..ROUNDS {
        second();
    }
    let each_ms = 1e3 * (thread_s() - began) / f64::from(ROUNDS);
    Ok(Outcome {
        figures: vec![WINDOW.measured(each_ms)],
        ..Outcome::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_second_of_a_sensor_costs_is_told() {
        let outcome = run(Path::new("")).unwrap();
        assert!(outcome.figures[0].value.unwrap() > 0.0);
    }
}
