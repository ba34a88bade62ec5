//! How much a window vibrates, by band: overall velocity, lines of the shaft, the trended envelope.
//!
//! [`trunnion_common::feature`] defines the values. What is slow is computed on fewer samples: a low-pass
//! leaves about 5000 a second, on which the velocity's filter and the spectrum up to 1000 Hz cost a fifth. Only bands of a
//! point's own that reach higher need a spectrum of all samples.

use super::{Depth, lanes};
use crate::diagnosis::{Evidence, Outcome, Train, Undetermined, diagnose};
use realfft::{RealFftPlanner, RealToComplex};
use std::collections::BTreeMap;
use std::sync::Arc;
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::band::{Band, Lines};
use trunnion_common::feature::decimation::{low_pass, outputs, taps_needed};
use trunnion_common::feature::definition::Basis;
use trunnion_common::feature::envelope::{Complex32, RealFourier, hann};
use trunnion_common::feature::quadrature;
use trunnion_common::feature::spectrum::{Buffers, Settings, averaged, integrate};
use trunnion_common::feature::statistics::mean;
use trunnion_common::feature::velocity::{VelocityFilter, VelocityMeter};
use trunnion_common::quantity::{Quantity, Unit};

/// Samples a second that are kept of what is slow, at least: enough that nothing up to the velocity's corner
/// at 1259 Hz is lost to a low-pass of few taps.
const SLOW_RATE_HZ: f64 = 4_800.0;

/// No sensor delivers more samples a second; a rate beyond is none.
const RATE_MAX_HZ: f64 = 1e7;

/// Up to here the slow samples tell of everything, Hz.
const SLOW_PASS_HZ: f64 = 1_260.0;

/// Plans kept, one for each sampling rate, band or length; one more drops them all.
const PLANS_MAX: usize = 64;

/// Plans, and the buffers between them.
#[derive(Default)]
pub(super) struct Vibration {
    low_passes: BTreeMap<u64, Arc<LowPass>>,
    demodulations: BTreeMap<[u64; 3], Arc<Demodulation>>,
    transforms: BTreeMap<usize, Transform>,
    slow: Vec<f32>,
    envelope: Vec<f32>,
}

struct LowPass {
    factor: usize,
    taps: Vec<f32>,
}

struct Demodulation {
    factor: usize,
    cosine: Vec<f32>,
    sine: Vec<f32>,
}

/// A planned transform with its buffers.
struct Transform {
    forward: Arc<dyn RealToComplex<f32>>,
    scratch: Vec<Complex32>,
    window: Vec<f32>,
    segment: Vec<f32>,
    spectrum: Vec<Complex32>,
}

/// Lines of a window.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Spectrum {
    pub(super) heights: Vec<f32>,
    pub(super) resolution_hz: f64,
}

impl Spectrum {
    pub(super) fn lines(&self) -> Lines<'_> {
        Lines {
            heights: &self.heights,
            resolution_hz: self.resolution_hz,
        }
    }

    /// The same as velocity, mm/s, from the lower edge of the sensor's band on.
    pub(super) fn velocity(&self, basis: &Basis) -> Option<Self> {
        let mut velocity = self.clone();
        let factor = match basis.unit.quantity() {
            Quantity::Acceleration => 1e3 * basis.unit.factor_to(Unit::MetrePerSecondSquared)?,
            Quantity::Velocity => return Some(velocity),
            _ => return None,
        };
        // Where nothing says how low a sensor reaches, 1 Hz keeps its drift out.
        let low_hz = basis.usable_low_hz.max(1.0);
        integrate(&mut velocity.heights, velocity.resolution_hz, low_hz, factor);
        Some(velocity)
    }
}

impl Vibration {
    /// Adds what there is to tell of a window without missing samples to `values`.
    pub(super) fn measure(
        &mut self,
        window: &[f32],
        basis: &Basis,
        depth: Depth,
        values: &mut Vec<(FeatureKind, f32)>,
    ) {
        let is_vibration = matches!(basis.unit.quantity(), Quantity::Acceleration | Quantity::Velocity);
        if !is_vibration || !(0.0..=RATE_MAX_HZ).contains(&basis.rate_hz) {
            return;
        }
        let slow_rate_hz = self.slow_samples(window, basis.rate_hz);
        if let Some(rms) = self.overall(slow_rate_hz, basis) {
            values.push((FeatureKind::VelocityRms, rms));
        }
        if depth == Depth::Full {
            if let Some(rms) = self.trended_envelope(window, basis) {
                values.push((FeatureKind::EnvelopeRms, rms));
            }
            self.bands(window, slow_rate_hz, basis, values);
        }
    }

    /// What the shaft, and what hangs on it, says of a window without missing samples.
    pub(super) fn examine(&mut self, window: &[f32], basis: &Basis, train: &Train) -> Outcome {
        if !(0.0..=RATE_MAX_HZ).contains(&basis.rate_hz) {
            return Outcome::Undetermined(Undetermined::NoSpectrum);
        }
        let slow_rate_hz = self.slow_samples(window, basis.rate_hz);
        let velocity = self
            .slow_spectrum(slow_rate_hz, basis)
            .and_then(|spectrum| spectrum.velocity(basis));
        // Nobody but a gear asks for it, and it costs as much as all the rest.
        let acceleration = train.teeth.and_then(|_| {
            let settings = basis.wide_spectrum()?;
            self.spectrum(window, basis.rate_hz, &settings)
        });
        let evidence = Evidence {
            velocity: velocity.as_ref().map(Spectrum::lines),
            acceleration: acceleration.as_ref().map(Spectrum::lines),
            shaft_hz: basis.shaft_hz,
            usable_hz: (basis.usable_low_hz, basis.usable_high_hz),
        };
        diagnose(&evidence, train)
    }

    /// The spectrum of what [`Self::slow_samples`] has left.
    fn slow_spectrum(&mut self, slow_rate_hz: f64, basis: &Basis) -> Option<Spectrum> {
        let settings = basis.slow_spectrum()?;
        let samples = std::mem::take(&mut self.slow);
        let spectrum = self.spectrum(&samples, slow_rate_hz, &settings);
        self.slow = samples;
        spectrum
    }

    /// The slow part of a window into `self.slow`; how many samples a second those are.
    fn slow_samples(&mut self, window: &[f32], rate_hz: f64) -> f64 {
        let factor = ((rate_hz / SLOW_RATE_HZ) as usize).max(1);
        if factor == 1 {
            self.slow.clear();
            self.slow.extend_from_slice(window);
            return rate_hz;
        }
        if self.low_passes.len() >= PLANS_MAX {
            self.low_passes.clear();
        }
        let plan = self.low_passes.entry(rate_hz.to_bits()).or_insert_with(|| {
            let (pass, stop) = (
                SLOW_PASS_HZ / rate_hz,
                1.0 / factor as f64 - SLOW_PASS_HZ / rate_hz,
            );
            let mut taps = vec![0.0; taps_needed(pass, stop)];
            low_pass(&mut taps, 0.5 * (pass + stop));
            Arc::new(LowPass { factor, taps })
        });
        let plan = Arc::clone(plan);
        self.slow
            .resize(outputs(window.len(), plan.taps.len(), factor), 0.0);
        lanes::decimate(window, &plan.taps, plan.factor, &mut self.slow);
        rate_hz / factor as f64
    }

    /// Overall RMS of the velocity over what is left of the window when the filter has settled.
    fn overall(&self, rate_hz: f64, basis: &Basis) -> Option<f32> {
        let filter = VelocityFilter::new(basis.unit, rate_hz, basis.velocity_band()?)?;
        let mean = mean(&self.slow) as f32;
        let mut meter = VelocityMeter::new(filter);
        self.slow.iter().for_each(|&value| meter.push(value - mean));
        meter.rms().filter(|rms| rms.is_finite())
    }

    /// RMS about its mean of the envelope of the point's band.
    fn trended_envelope(&mut self, window: &[f32], basis: &Basis) -> Option<f32> {
        let (low_hz, high_hz) = basis.envelope_band();
        if high_hz > basis.usable_high_hz {
            return None;
        }
        if self.demodulations.len() >= PLANS_MAX {
            self.demodulations.clear();
        }
        let key = [low_hz, high_hz, basis.rate_hz].map(f64::to_bits);
        let plan = match self.demodulations.get(&key) {
            Some(plan) => Arc::clone(plan),
            None => {
                let plan = quadrature::Plan::new(low_hz, high_hz, basis.rate_hz)?;
                let (mut cosine, mut sine) = (vec![0.0; plan.taps], vec![0.0; plan.taps]);
                plan.fill(&mut cosine, &mut sine);
                let factor = plan.factor;
                let plan = Arc::new(Demodulation { factor, cosine, sine });
                self.demodulations.insert(key, Arc::clone(&plan));
                plan
            }
        };
        self.envelope
            .resize(outputs(window.len(), plan.cosine.len(), plan.factor), 0.0);
        let taps = [&*plan.cosine, &*plan.sine];
        lanes::envelope(window, taps, plan.factor, &mut self.envelope);
        lanes::statistics(&self.envelope).map(|statistics| statistics.rms)
    }

    /// Harmonics of the shaft, and the point's own bands.
    fn bands(
        &mut self,
        window: &[f32],
        slow_rate_hz: f64,
        basis: &Basis,
        values: &mut Vec<(FeatureKind, f32)>,
    ) {
        let slow = self.slow_spectrum(slow_rate_hz, basis);
        let slow_velocity = slow.as_ref().and_then(|spectrum| spectrum.velocity(basis));
        let orders = [
            FeatureKind::VelocityOrder1,
            FeatureKind::VelocityOrder2,
            FeatureKind::VelocityOrder3,
        ];
        for (order, kind) in (1u8..).zip(orders) {
            let band = Basis::order_band(order);
            if let Some(rms) = slow_velocity
                .as_ref()
                .and_then(|spectrum| in_band(spectrum, band, basis))
            {
                values.push((kind, rms));
            }
        }
        let watched = FeatureKind::BANDS.into_iter().zip(basis.bands);
        let watched: Vec<_> = watched.filter_map(|(kind, band)| Some((kind, band?))).collect();
        let mut wide = None;
        for (kind, watched) in watched {
            let Some(settings) = basis.spectrum_for(watched.band) else {
                continue;
            };
            let found = if Some(settings) == basis.slow_spectrum() {
                if watched.velocity {
                    slow_velocity.as_ref()
                } else {
                    slow.as_ref()
                }
            } else {
                let (plain, velocity) = wide.get_or_insert_with(|| {
                    let plain = self.spectrum(window, basis.rate_hz, &settings);
                    let velocity = plain.as_ref().and_then(|plain| plain.velocity(basis));
                    (plain, velocity)
                });
                if watched.velocity {
                    velocity.as_ref()
                } else {
                    plain.as_ref()
                }
            };
            if let Some(rms) = found.and_then(|spectrum| in_band(spectrum, watched.band, basis)) {
                values.push((kind, rms));
            }
        }
    }

    /// The spectrum of samples; none where there are too few, or it has a line that is no number.
    pub(super) fn spectrum(
        &mut self,
        samples: &[f32],
        rate_hz: f64,
        settings: &Settings,
    ) -> Option<Spectrum> {
        let segment = settings.segment(rate_hz);
        if segment < 2 {
            return None;
        }
        if self.transforms.len() >= PLANS_MAX {
            self.transforms.clear();
        }
        let transform = self
            .transforms
            .entry(segment)
            .or_insert_with(|| Transform::new(segment));
        let resolution_hz = rate_hz / segment as f64;
        let count = (f64::from(settings.high_hz) / resolution_hz) as usize + 1;
        let mut heights = vec![0.0; count.min(segment / 2 + 1)];
        let used = transform.lines(samples, settings.averages.into(), &mut heights);
        (used == usize::from(settings.averages) && heights.iter().all(|line| line.is_finite())).then_some(
            Spectrum {
                heights,
                resolution_hz,
            },
        )
    }
}

impl Transform {
    fn new(samples: usize) -> Self {
        let forward = RealFftPlanner::new().plan_fft_forward(samples);
        let mut window = vec![0.0; samples];
        hann(&mut window);
        Self {
            scratch: forward.make_scratch_vec(),
            window,
            segment: vec![0.0; samples],
            spectrum: forward.make_output_vec(),
            forward,
        }
    }

    fn lines(&mut self, samples: &[f32], averages: usize, heights: &mut [f32]) -> usize {
        let buffers = Buffers {
            window: &self.window,
            segment: &mut self.segment,
            spectrum: &mut self.spectrum,
        };
        let mut forward = Forward {
            transform: &*self.forward,
            scratch: &mut self.scratch,
        };
        averaged(&mut forward, samples, averages, buffers, heights)
    }
}

/// A planned transform, as the spectrum's definition wants it.
struct Forward<'a> {
    transform: &'a dyn RealToComplex<f32>,
    scratch: &'a mut [Complex32],
}

impl RealFourier for Forward<'_> {
    fn samples(&self) -> usize {
        self.transform.len()
    }

    fn forward(&mut self, signal: &mut [f32], spectrum: &mut [Complex32]) {
        self.transform
            .process_with_scratch(signal, spectrum, self.scratch)
            .expect("the buffers were made for this plan");
    }

    fn inverse(&mut self, spectrum: &mut [Complex32], signal: &mut [f32]) {
        RealFftPlanner::new()
            .plan_fft_inverse(self.samples())
            .process(spectrum, signal)
            .expect("the buffers are as long as the plan's");
    }
}

fn in_band(spectrum: &Spectrum, band: Band, basis: &Basis) -> Option<f32> {
    let (low_hz, high_hz) = band.edges_hz(basis.shaft_hz)?;
    // A band of fewer lines than a line is wide tells of its neighbours.
    let is_resolved = high_hz - low_hz >= 2.0 * spectrum.resolution_hz;
    let reaches = low_hz >= basis.usable_low_hz && high_hz <= basis.usable_high_hz;
    (is_resolved && reaches)
        .then(|| spectrum.lines().band_rms(low_hz, high_hz))
        .flatten()
}
