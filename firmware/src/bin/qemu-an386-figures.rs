//! What the node's computations cost and come to on the emulated processor: QEMU counts instructions
//! (`-icount shift=0`: each is a nanosecond, and the 25 MHz timer ticks with every fortieth). Prints one line of
//! JSON for each and `done`, on the UART.
//!
//! The samples are the record that QEMU has loaded, at least 1,024 of them.
#![no_std]
#![no_main]

use core::fmt::Write as _;
use core::hint::black_box;
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::moments::Moments;
use trunnion_common::feature::octave::Octaves;
use trunnion_common::feature::velocity::{Passband, VelocityFilter, VelocityMeter};
use trunnion_common::monitor::{Monitor, Settings, Severity, Watched, Window};
use trunnion_common::operating::Operating;
use trunnion_common::packing;
use trunnion_common::quantity::Unit;
use trunnion_common::severity::{Criterion, Group, Standard, Support};
use trunnion_common::time::EventTime;
use trunnion_firmware::board::qemu_an386 as board;
use trunnion_firmware::sensor::record::Record;

/// Samples of a window.
const SAMPLES: usize = 1_024;

/// Instructions of a tick of the timer.
const TICK: u32 = 40;

/// How often each is done: their mean is told, to a few instructions.
const TIMES: u32 = 50;

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut out = board::start_measuring();
    let told = match Record::parse(board::stimulus()) {
        Ok(record) => measure(&record, &mut out),
        Err(_) => writeln!(out, "no record"),
    };
    // A line that cannot be written shows as one that is missing.
    let _ = told.and_then(|()| writeln!(out, "done"));
    loop {
        cortex_m::asm::wfi();
    }
}

fn measure(record: &Record<'_>, out: &mut impl core::fmt::Write) -> core::fmt::Result {
    let mut samples = [0_i16; SAMPLES];
    for (index, sample) in samples.iter_mut().enumerate() {
        *sample = record.sample(index as u64);
    }
    let samples = &samples;
    let scale = record.range_g / 32_768.0;
    let statistics = || {
        let samples = black_box(samples);
        let mut moments = Moments::new(samples[0]);
        moments.extend_from_slice(samples);
        moments.statistics(f64::from(scale))
    };
    // As a node does it: filters go on from window to window.
    let mut octaves = Octaves::new(0.0);
    tell(out, "feature_window_instructions", || {
        octaves.restart();
        let samples = black_box(samples);
        let origin = i32::from(samples[0]);
        octaves.extend(samples, origin);
        (statistics(), octaves.rms())
    })?;
    for (name, rms) in ["octave_1", "octave_2", "octave_3", "octave_4"]
        .into_iter()
        .zip(octaves.rms())
    {
        if let Some(rms) = rms {
            value(out, name, rms * scale)?;
        }
    }
    if let Some(found) = statistics() {
        value(out, "mean", found.mean)?;
        value(out, "rms", found.rms)?;
        value(out, "peak", found.peak)?;
        value(out, "peak_to_peak", found.peak_to_peak)?;
        if let Some(shape) = found.shape {
            value(out, "crest_factor", shape.crest_factor)?;
            value(out, "kurtosis_excess", shape.kurtosis_excess)?;
            value(out, "skewness", shape.skewness)?;
        }
    }

    let rate_hz = f64::from(record.rate_mhz.get()) / 1_000.0;
    if let Some(filter) = VelocityFilter::new(Unit::StandardGravity, rate_hz, Passband::STANDARD) {
        let mut meter = VelocityMeter::new(filter);
        tell(out, "velocity_window_instructions", || {
            let samples = black_box(samples);
            let origin = i32::from(samples[0]);
            for sample in samples {
                meter.push((i32::from(*sample) - origin) as f32 * scale);
            }
        })?;
        // The filter has run over the window as often as it was measured, and once more to warm up.
        if let Some(rms) = meter.rms() {
            value(out, "velocity_rms", rms)?;
        }
    }

    let mut packed = [0; 957];
    tell(out, "packing_window_instructions", || {
        packing::pack(black_box(samples), &mut packed)
    })?;

    let settings = Settings {
        severity: Criterion::of(Standard::Iso20816Part3(Group::Medium, Support::Rigid)).map(|criterion| {
            Severity {
                criterion,
                kind: FeatureKind::VelocityRms,
                unit: Some(Unit::MillimetrePerSecond),
                band_hz: Some([10.0, 1_000.0]),
                trip: None,
            }
        }),
        watched: [Watched {
            kind: FeatureKind::Rms,
            absolute: Some([1.0, 2.0]),
            relative: None,
        }]
        .into_iter()
        .collect(),
        ..Settings::default()
    };
    let mut monitor = Monitor::default();
    let found = statistics();
    let values = [(FeatureKind::VelocityRms, 3.0), (FeatureKind::Rms, 1.5)];
    let mut second = 0;
    tell(out, "edge_inference_instructions", || {
        second += 1;
        let window = Window {
            start: EventTime((second - 1) * 1_000_000_000),
            end: EventTime(second * 1_000_000_000),
            is_decided: true,
            statistics: found.as_ref(),
            values: black_box(&values),
        };
        monitor.handle_window(&window, &Operating::default(), &settings)
    })
}

/// Says how many instructions `work` takes, the first time left out.
fn tell<T>(out: &mut impl core::fmt::Write, name: &str, mut work: impl FnMut() -> T) -> core::fmt::Result {
    black_box(work());
    let begun = board::counts();
    for _ in 0..TIMES {
        black_box(work());
    }
    let instructions = u64::from(board::counts().wrapping_sub(begun)) * u64::from(TICK) / u64::from(TIMES);
    writeln!(out, "{{\"name\": \"{name}\", \"instructions\": {instructions}}}")
}

/// Says a result, bit by bit.
fn value(out: &mut impl core::fmt::Write, name: &str, value: f32) -> core::fmt::Result {
    writeln!(out, "{{\"name\": \"{name}\", \"bits\": {}}}", value.to_bits())
}
