//! One channel: what it has produced, where that went, and its next waveform frame while it fills.

use crate::plan::Execution;
use crate::schedule::Schedule;
use core::num::NonZeroU32;
use heapless::Vec;
use trunnion_common::codec::CRC_BYTES;
use trunnion_common::frame::{ChannelDescriptor, DROP_CAUSES_MAX, FRAME_MAX};
use trunnion_common::sample::LossCause;
use trunnion_common::time::NodeTicks;

/// Most bytes of a waveform frame that are not samples, every varint at its longest. Header: version 1,
/// address 1, node 10, boot 10, class 1, sequence 10, ticks 10. Payload: kind 1, revision 3, channel 1,
/// first sample 10, count 2, packing 1, length 2.
pub(crate) const OVERHEAD_MAX: usize = 43 + 20 + CRC_BYTES;

/// Samples of a full waveform frame: as many as always fit.
pub const WAVEFORM_SAMPLES: usize = (FRAME_MAX - OVERHEAD_MAX) / 2;

/// Room for the samples of one channel's next waveform frame.
pub type Forming = [u8; 2 * WAVEFORM_SAMPLES];

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
    dropped: [u64; CAUSES.len()],
    pub(crate) rate_mhz: NonZeroU32,
    forming: &'m mut Forming,
    forming_count: usize,
    forming_ticks: NodeTicks,
}

impl<'m> Channel<'m> {
    pub(crate) fn new(descriptor: ChannelDescriptor, rate_mhz: NonZeroU32, forming: &'m mut Forming) -> Self {
        Self {
            descriptor,
            produced: 0,
            acknowledged: 0,
            execution: Execution::new(),
            dropped: [0; CAUSES.len()],
            rate_mhz,
            forming,
            forming_count: 0,
            forming_ticks: NodeTicks(0),
        }
    }

    /// When the sample `index` places after the one at `first` was taken.
    pub(crate) fn ticks_after(&self, first: NodeTicks, index: usize) -> NodeTicks {
        Schedule::new(first, self.rate_mhz).ticks_of(index as u64)
    }

    /// Takes as many of `samples` as the forming frame has room for; `ticks` is the first one's.
    pub(crate) fn fill(&mut self, ticks: NodeTicks, samples: &[i16]) -> usize {
        if self.forming_count == 0 {
            self.forming_ticks = ticks;
        }
        let room = &mut self.forming[2 * self.forming_count..];
        let taken = samples.len().min(room.len() / 2);
        for (bytes, sample) in room.chunks_exact_mut(2).zip(samples) {
            bytes.copy_from_slice(&sample.to_le_bytes());
        }
        self.forming_count += taken;
        self.produced += taken as u64;
        taken
    }

    /// The forming frame: when its first sample was taken, that sample's index, the data.
    pub(crate) fn formed(&self) -> Option<(NodeTicks, u64, &[u8])> {
        (self.forming_count > 0).then(|| {
            let first = self.produced - self.forming_count as u64;
            (self.forming_ticks, first, &self.forming[..2 * self.forming_count])
        })
    }

    pub(crate) fn is_full(&self) -> bool {
        self.forming_count == WAVEFORM_SAMPLES
    }

    /// When the forming frame must go even if it is not full.
    pub(crate) fn deadline(&self) -> Option<NodeTicks> {
        self.formed()
            .map(|(ticks, ..)| ticks.plus_micros(FORMING_MICROS_MAX))
    }

    /// The forming frame is in the outbox now.
    pub(crate) fn clear_formed(&mut self) {
        self.forming_count = 0;
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
