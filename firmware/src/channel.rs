//! One channel: what it has produced, where that went, and its next waveform frame while it fills.

use crate::plan::Execution;
use crate::schedule::Schedule;
use core::num::NonZeroU32;
use heapless::Vec;
use trunnion_common::codec::CRC_BYTES;
use trunnion_common::frame::{Calibration, ChannelDescriptor, DROP_CAUSES_MAX, FRAME_MAX, Packing};
use trunnion_common::packing;
use trunnion_common::sample::LossCause;
use trunnion_common::time::NodeTicks;

/// Most bytes of a waveform frame that are not samples, every varint at its longest. Header: version 1,
/// address 1, node 10, boot 10, class 1, sequence 10, ticks 10. Payload: kind 1, revision 3, channel 1,
/// first sample 10, count 2, packing 1, length 2.
pub(crate) const OVERHEAD_MAX: usize = 43 + 20 + CRC_BYTES;

/// Bytes that always fit for the samples of a waveform frame.
pub const DATA_MAX: usize = FRAME_MAX - OVERHEAD_MAX;

/// Samples of a full waveform frame that is not packed: as many as always fit.
pub const WAVEFORM_SAMPLES: usize = DATA_MAX / 2;

/// Most samples that wait for a frame: as many as a packed one holds at best.
pub const FORMING_SAMPLES: usize = packing::SAMPLES_MAX;

/// Room for the samples of one channel's next waveform frame.
pub type Forming = [i16; FORMING_SAMPLES];

/// Samples from before a trigger that are sent with its waveform, at most: they wait in the room of a frame that nothing
/// forms in meanwhile.
pub const RECALLED_SAMPLES: usize = FORMING_SAMPLES / 2;

/// How long a sample waits for its frame to fill, microseconds: a slow channel's samples travel in
/// short frames rather than late.
pub const FORMING_MICROS_MAX: u64 = 100_000;

/// Where a channel's samples have gone. At any instant `produced = acknowledged + held + dropped`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// Samples since boot, as far as the plan sends them.
    pub produced: u64,
    /// Safe with the agent.
    pub acknowledged: u64,
    /// In the outbox, or in a frame that is not full yet.
    pub held: u64,
    /// Gone, by cause; causes with none are left out.
    pub dropped: Vec<(LossCause, u64), DROP_CAUSES_MAX>,
}

impl Account {
    /// Gone, whatever the cause.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().map(|(_, count)| count).sum()
    }
}

/// Samples with which a forming frame is full.
const fn forming_max(packing: Packing) -> usize {
    match packing {
        Packing::I16 => WAVEFORM_SAMPLES,
        Packing::Predicted => FORMING_SAMPLES,
    }
}

/// Writes as many of `samples` as fit to `data`, packed where that is wanted and takes less room; how they were
/// written, how many, and the bytes.
pub(crate) fn write_samples<'d>(
    samples: &[i16],
    wanted: Packing,
    data: &'d mut [u8; DATA_MAX],
) -> (Packing, usize, &'d [u8]) {
    let plain = samples.len().min(WAVEFORM_SAMPLES);
    if wanted == Packing::Predicted {
        let packed = packing::pack(samples, data);
        if packed.samples > plain || (packed.samples == plain && packed.bytes < 2 * plain) {
            return (Packing::Predicted, packed.samples, &data[..packed.bytes]);
        }
    }
    for (bytes, sample) in data.chunks_exact_mut(2).zip(&samples[..plain]) {
        bytes.copy_from_slice(&sample.to_le_bytes());
    }
    (Packing::I16, plain, &data[..2 * plain])
}

/// The causes for which a node loses samples.
const CAUSES: [LossCause; 3] = [
    LossCause::OutboxFull,
    LossCause::SensorOverrun,
    LossCause::SensorFault,
];

/// A channel of the table.
#[derive(Debug)]
pub(crate) struct Channel<'m> {
    pub(crate) descriptor: ChannelDescriptor,
    pub(crate) produced: u64,
    pub(crate) acknowledged: u64,
    pub(crate) execution: Execution,
    calibration: Calibration,
    /// Scale and range of its kind.
    nominal: [f32; 2],
    dropped: [u64; CAUSES.len()],
    pub(crate) rate_mhz: NonZeroU32,
    /// Nothing of a channel that takes readings alone.
    forming: &'m mut [i16],
    forming_count: usize,
    forming_ticks: NodeTicks,
    /// While nothing is formed: so many samples stand in its room that were not sent.
    remembered: usize,
}

impl<'m> Channel<'m> {
    pub(crate) fn new(descriptor: ChannelDescriptor, rate_mhz: NonZeroU32, forming: &'m mut [i16]) -> Self {
        Self {
            descriptor,
            produced: 0,
            acknowledged: 0,
            execution: Execution::new(),
            calibration: Calibration::NONE,
            nominal: [descriptor.scale, descriptor.range],
            dropped: [0; CAUSES.len()],
            rate_mhz,
            forming,
            forming_count: 0,
            forming_ticks: NodeTicks(0),
            remembered: 0,
        }
    }

    /// Whether it has room for samples, and does not take readings alone.
    pub(crate) const fn takes_samples(&self) -> bool {
        self.forming.len() == FORMING_SAMPLES
    }

    /// What its sensor differs by from its kind.
    pub(crate) const fn calibration(&self) -> Calibration {
        self.calibration
    }

    /// Its sensor differs like this: the table is another one.
    pub(crate) fn calibrate(&mut self, calibration: Calibration) {
        let [scale, range] = self.nominal;
        self.calibration = calibration;
        self.descriptor.scale = scale * calibration.gain();
        self.descriptor.range = range * calibration.gain();
        self.execution.skip(0);
    }

    /// When the sample `index` places after the one at `first` was taken.
    pub(crate) fn ticks_after(&self, first: NodeTicks, index: usize) -> NodeTicks {
        Schedule::new(first, self.rate_mhz).ticks_of(index as u64)
    }

    /// Takes as many of `samples` as the forming frame has room for; `ticks` is the first one's.
    pub(crate) fn fill(&mut self, ticks: NodeTicks, samples: &[i16], packing: Packing) -> usize {
        if self.forming_count == 0 {
            self.forming_ticks = ticks;
            self.remembered = 0;
        }
        let full = forming_max(packing).max(self.forming_count);
        let room = &mut self.forming[self.forming_count..full];
        let taken = samples.len().min(room.len());
        room[..taken].copy_from_slice(&samples[..taken]);
        self.forming_count += taken;
        self.produced += taken as u64;
        taken
    }

    /// Keeps samples that are not sent, in case that a trigger follows them. Nothing is being formed.
    pub(crate) fn remember(&mut self, samples: &[i16]) {
        debug_assert_eq!(self.forming_count, 0);
        let samples = &samples[samples.len().saturating_sub(RECALLED_SAMPLES)..];
        let gone = (self.remembered + samples.len()).saturating_sub(RECALLED_SAMPLES);
        self.forming.copy_within(gone..self.remembered, 0);
        let kept = self.remembered - gone;
        self.remembered = kept + samples.len();
        self.forming[kept..self.remembered].copy_from_slice(samples);
    }

    /// What is remembered is sent after all: a trigger came, and the next sample was taken at `ticks`.
    pub(crate) fn recall(&mut self, ticks: NodeTicks) {
        let count = core::mem::take(&mut self.remembered);
        if count > 0 {
            // A thousand thousandths of a hertz and a million microseconds; the product stays below 2^40.
            let micros = count as u64 * 1_000_000_000 / u64::from(self.rate_mhz.get());
            self.forming_ticks = NodeTicks(ticks.0.saturating_sub(micros));
            self.forming_count = count;
            self.produced += count as u64;
        }
    }

    /// What is remembered does not belong to what follows.
    pub(crate) const fn forget(&mut self) {
        self.remembered = 0;
    }

    /// The forming frame: when its first sample was taken, that sample's index, the samples.
    pub(crate) fn formed(&self) -> Option<(NodeTicks, u64, &[i16])> {
        (self.forming_count > 0).then(|| {
            let first = self.produced - self.forming_count as u64;
            (self.forming_ticks, first, &self.forming[..self.forming_count])
        })
    }

    pub(crate) const fn is_full(&self, packing: Packing) -> bool {
        self.forming_count >= forming_max(packing)
    }

    /// When the forming frame must go even if it is not full.
    pub(crate) fn deadline(&self) -> Option<NodeTicks> {
        self.formed()
            .map(|(ticks, ..)| ticks.plus_micros(FORMING_MICROS_MAX))
    }

    /// The first `count` samples of the forming frame are in the outbox now.
    pub(crate) fn take_formed(&mut self, count: usize) {
        let count = count.min(self.forming_count);
        self.forming_ticks = self.ticks_after(self.forming_ticks, count);
        self.forming.copy_within(count..self.forming_count, 0);
        self.forming_count -= count;
    }

    /// Books samples as gone. They have been produced all the same.
    pub(crate) fn drop_samples(&mut self, cause: LossCause, count: u64) {
        let known = CAUSES.iter().position(|known| *known == cause);
        self.dropped[known.expect("the node's own causes are all in the list")] += count;
    }

    /// Samples gone, by cause.
    pub(crate) fn drops(&self) -> Vec<(LossCause, u64), DROP_CAUSES_MAX> {
        CAUSES
            .into_iter()
            .zip(self.dropped)
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}
