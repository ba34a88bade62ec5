//! The node's image in QEMU: what it computes, and what a plant hears of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod features_are_those_of_the_host;
mod microcontroller_is_heard;

use std::num::NonZeroU32;
use trunnion_collector::bearing::Element;
use trunnion_tests::host_node::{Motor, quantised};
use trunnion_tests::qemu::image::{Toolchain, has};
use trunnion_tests::qemu::{PROGRAM, Stimulus};
use trunnion_tests::record::skipped;
use trunnion_tests::sim_machine::{SeededFault, SimMachine};

/// Sample rate of the accelerometer, Hz.
const RATE_HZ: f64 = 12_000.0;

/// Its full scale, g.
const RANGE_G: f32 = 16.0;

/// A compiler for images that can be run here; nothing without, and then the test says so.
fn toolchain(test: &str) -> Option<Toolchain> {
    let Some(toolchain) = Toolchain::find() else {
        skipped(test, "no compiler for thumbv7em-none-eabihf");
        return None;
    };
    if !has(PROGRAM) {
        skipped(test, &format!("{PROGRAM} is not installed"));
        return None;
    }
    Some(toolchain)
}

/// What the accelerometer feels, and how fast the shaft turns meanwhile.
struct Felt {
    stimulus: Stimulus,
    rpm: f64,
}

/// Samples in g, as the accelerometer gives them.
fn felt(samples: &[f32], rpm: f64) -> Felt {
    Felt {
        stimulus: Stimulus {
            samples: samples.iter().map(|value| quantised(*value, RANGE_G)).collect(),
            rate_mhz: NonZeroU32::new(RATE_HZ as u32 * 1_000).unwrap(),
            range_g: RANGE_G,
        },
        rpm,
    }
}

/// Eight seconds of a simulated motor whose bearing has a spalled inner race.
fn simulated() -> Felt {
    let motor = Motor {
        seed: 7,
        fault: Some(SeededFault {
            element: Element::InnerRace,
            severity_g: 1.0,
            onset_s: 0.0,
        }),
        seconds: 8.0,
    };
    let spec = motor.spec(RATE_HZ);
    let rpm = 60.0 * spec.shaft_hz;
    let mut samples = vec![0.0; (motor.seconds * RATE_HZ) as usize];
    SimMachine::new(spec).fill(&mut samples);
    felt(&samples, rpm)
}
