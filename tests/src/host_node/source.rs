//! What a host node samples: a source of values, played in real time as a sensor.

use anyhow::Context;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use trunnion_common::time::NodeTicks;
use trunnion_firmware::schedule::Schedule;
use trunnion_firmware::sensor::{Batch, Sensor};

/// Acceleration of a machine, sample by sample.
pub trait SampleSource {
    /// Samples per second.
    fn rate_hz(&self) -> f64;
    /// Writes the next samples, in g, to `out` and returns how many; 0 is the end.
    fn read(&mut self, out: &mut [f32]) -> usize;
}

impl<S: SampleSource + ?Sized> SampleSource for Box<S> {
    fn rate_hz(&self) -> f64 {
        (**self).rate_hz()
    }

    fn read(&mut self, out: &mut [f32]) -> usize {
        (**self).read(out)
    }
}

/// A file of little-endian f32 values in g.
#[derive(Debug)]
pub struct Recording {
    samples: Vec<f32>,
    next: usize,
    rate_hz: f64,
    repeat: bool,
}

impl Recording {
    /// Reads the whole file; with `repeat` it starts over for ever.
    pub fn open(path: &Path, rate_hz: f64, repeat: bool) -> anyhow::Result<Self> {
        let bytes =
            fs::read(path).with_context(|| format!("cannot read the recording {}", path.display()))?;
        let (values, rest) = bytes.as_chunks::<4>();
        anyhow::ensure!(
            !values.is_empty() && rest.is_empty(),
            "the recording {} has {} bytes: f32 samples of 4 bytes each are expected",
            path.display(),
            bytes.len()
        );
        let samples: Vec<f32> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
        if let Some(bad) = samples.iter().position(|sample| !sample.is_finite()) {
            anyhow::bail!("sample {bad} of the recording {} is not a number", path.display());
        }
        Ok(Self {
            samples,
            next: 0,
            rate_hz,
            repeat,
        })
    }
}

impl SampleSource for Recording {
    fn rate_hz(&self) -> f64 {
        self.rate_hz
    }

    fn read(&mut self, out: &mut [f32]) -> usize {
        if self.repeat && self.next == self.samples.len() {
            self.next = 0;
        }
        let rest = &self.samples[self.next..];
        let taken = rest.len().min(out.len());
        out[..taken].copy_from_slice(&rest[..taken]);
        self.next += taken;
        taken
    }
}

/// A machine with a switch: its source ends when somebody turns it off.
#[derive(Debug)]
pub struct Switched<S> {
    source: S,
    is_off: Arc<AtomicBool>,
}

impl<S> Switched<S> {
    /// Plays `source` until `is_off` is set.
    pub const fn new(source: S, is_off: Arc<AtomicBool>) -> Self {
        Self { source, is_off }
    }
}

impl<S: SampleSource> SampleSource for Switched<S> {
    fn rate_hz(&self) -> f64 {
        self.source.rate_hz()
    }

    fn read(&mut self, out: &mut [f32]) -> usize {
        if self.is_off.load(Ordering::Relaxed) {
            return 0;
        }
        self.source.read(out)
    }
}

/// Plays a source as a sensor: sample `i` exactly when the schedule says.
pub(super) struct Replay<'s> {
    source: &'s mut dyn SampleSource,
    schedule: Schedule,
    range_g: f32,
    produced: u64,
    /// Samples beyond the range.
    pub(super) clipped: u64,
    /// Whether the source has no more.
    pub(super) is_ended: bool,
    values: Vec<f32>,
}

impl<'s> Replay<'s> {
    pub(super) fn new(source: &'s mut dyn SampleSource, schedule: Schedule, range_g: f32) -> Self {
        Self {
            source,
            schedule,
            range_g,
            produced: 0,
            clipped: 0,
            is_ended: false,
            values: Vec::new(),
        }
    }
}

impl Sensor for Replay<'_> {
    fn read(&mut self, now: NodeTicks, out: &mut [[i16; 1]]) -> Batch {
        let first = self.schedule.ticks_of(self.produced);
        let due = self.schedule.due_by(now) - self.produced;
        let due = usize::try_from(due).unwrap_or(usize::MAX).min(out.len());
        self.values.resize(if self.is_ended { 0 } else { due }, 0.0);
        let mut taken = 0;
        if !self.values.is_empty() {
            taken = self.source.read(&mut self.values);
            self.is_ended = taken == 0;
        }
        for (sample, value) in out.iter_mut().zip(&self.values[..taken]) {
            let bits = bits_of(*value, self.range_g);
            let is_clipped = bits < f32::from(i16::MIN) || f32::from(i16::MAX) < bits;
            self.clipped += u64::from(is_clipped);
            // A conversion from float ends at the ends of the range.
            *sample = [bits as i16];
        }
        self.produced += taken as u64;
        Batch {
            missed: None,
            taken,
            first,
        }
    }
}

/// The sample that a value becomes at this full scale; beyond it, the end of the range.
pub fn quantised(value_g: f32, range_g: f32) -> i16 {
    bits_of(value_g, range_g) as i16
}

fn bits_of(value_g: f32, range_g: f32) -> f32 {
    (value_g / scale_g(range_g)).round()
}

/// Value of one least significant bit: the range spread over sixteen bits.
pub(super) fn scale_g(range_g: f32) -> f32 {
    range_g / 32_768.0
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Values(Vec<f32>);

    impl SampleSource for Values {
        fn rate_hz(&self) -> f64 {
            1_000.0
        }

        fn read(&mut self, out: &mut [f32]) -> usize {
            let taken = self.0.len().min(out.len());
            for (place, value) in out.iter_mut().zip(self.0.drain(..taken)) {
                *place = value;
            }
            taken
        }
    }

    fn replay(values: &[f32], read: impl FnOnce(&mut Replay<'_>)) {
        let mut source = Values(values.to_vec());
        let schedule = Schedule::new(NodeTicks(5_000), std::num::NonZeroU32::new(1_000_000).unwrap());
        read(&mut Replay::new(&mut source, schedule, 16.0));
    }

    #[test]
    fn a_sample_comes_when_it_is_due_and_not_before() {
        replay(&[1.0; 10], |replay| {
            let mut out = [[0]; 4];
            assert_eq!(replay.read(NodeTicks(4_999), &mut out).taken, 0);
            assert_eq!(replay.read(NodeTicks(6_000), &mut out).taken, 2);
            let batch = replay.read(NodeTicks(60_000), &mut out);
            assert_eq!((batch.taken, batch.first), (4, NodeTicks(7_000)));
        });
    }

    #[test]
    fn the_end_is_reached_once_the_last_sample_is_out() {
        replay(&[1.0; 3], |replay| {
            let mut out = [[0]; 4];
            assert_eq!(replay.read(NodeTicks(7_000), &mut out).taken, 3);
            assert!(!replay.is_ended);
            assert_eq!(replay.read(NodeTicks(8_000), &mut out).taken, 0);
            assert!(replay.is_ended);
        });
    }

    #[test]
    fn a_machine_that_is_switched_off_has_no_more_samples() {
        let is_off = Arc::new(AtomicBool::new(false));
        let mut machine = Switched::new(Values(vec![1.0; 10]), is_off.clone());
        assert_eq!(machine.read(&mut [0.0; 4]), 4);
        is_off.store(true, Ordering::Relaxed);
        assert_eq!(machine.read(&mut [0.0; 4]), 0);
    }

    #[test]
    fn values_beyond_the_range_are_clipped_and_counted() {
        replay(&[0.0, 1.0, -16.0, 15.999_5, 16.0, -17.0], |replay| {
            let mut out = [[0]; 6];
            replay.read(NodeTicks(60_000), &mut out);
            assert_eq!(out.as_flattened(), [0, 2_048, -32_768, 32_767, 32_767, -32_768]);
            assert_eq!(replay.clipped, 2);
        });
    }
}
