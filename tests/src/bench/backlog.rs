//! Blocks as an agent holds them after an outage: one busy channel, written down long ago.

use crate::sim_machine::Chance;
use anyhow::Result;
use std::num::NonZeroU32;
use std::path::Path;
use trunnion_agent::block::{Block, BlockKey, Index};
use trunnion_agent::spool::Spool;
use trunnion_common::block::{ENVELOPE_BYTES, FrameRecord, Kind};
use trunnion_common::frame::{
    ChannelDescriptor, Class, Describe, FRAME_MAX, Header, Packing, Payload, Waveform, encode,
};
use trunnion_common::id::{BootId, ChannelId, Epoch, LineAddress, NodeId};
use trunnion_common::quantity::Unit;
use trunnion_common::sequence::Range;
use trunnion_common::time::{ClockFix, ClockQuality, EventTime, NodeTicks};
use trunnion_common::version;

/// Its node.
pub const NODE: NodeId = NodeId::new(0xb1).expect("not 0");

/// Full scale of its channel, g.
pub const RANGE_G: f32 = 16.0;

/// Its sample rate, Hz.
pub const RATE_HZ: f64 = 25_600.0;

const RATE_MHZ: NonZeroU32 = NonZeroU32::new(25_600_000).expect("not 0");

const CHANNEL: ChannelId = ChannelId::new(0).expect("0 is below CHANNELS_MAX");

/// As many as a node puts into one frame.
const FRAME_SAMPLES: usize = 480;

/// Frames of one block: what fits 64 KiB, envelope included.
const BLOCK_FRAMES: u64 = 65;

/// Blocks that come before the waveforms: the clock's fix, and the table of channels.
const PREAMBLE: u64 = 2;

/// Blocks that the spool is given at a time: what an agent behind a busy line commits at once.
const COMMIT_BLOCKS: u64 = 16;

/// The blocks of one epoch, made when they are asked for: the same number is always the same block.
#[derive(Clone, Copy, Debug)]
pub struct Backlog {
    /// How many.
    pub blocks: u64,
    /// When its first sample was taken.
    pub start: EventTime,
    /// Tells the boot, and the samples.
    pub seed: u64,
}

impl Backlog {
    /// A backlog of about so many bytes that ends about `now`.
    pub fn of_bytes(bytes: u64, now: EventTime, seed: u64) -> Self {
        let blocks = PREAMBLE + bytes.div_ceil(64 * 1_024);
        let samples = blocks * BLOCK_FRAMES * FRAME_SAMPLES as u64;
        let seconds = samples as f64 / RATE_HZ;
        Self {
            blocks,
            start: EventTime(now.0 - (seconds * 1e9) as i64),
            seed,
        }
    }

    /// Kind and body of a block.
    pub fn body(&self, sequence: u64) -> (Kind, Vec<u8>) {
        match sequence {
            0 => (Kind::ClockFix, self.clock_fix()),
            1 => {
                let mut body = Vec::with_capacity(FRAME_MAX);
                self.push_frame(&mut body, Class::Essential, 0, 0, &describe());
                (Kind::Frames, body)
            }
            _ => (Kind::Frames, self.waveforms(sequence - PREAMBLE)),
        }
    }

    /// Puts all of it into the spool of a stopped agent; returns its bytes.
    pub fn fill(&self, state: &Path) -> Result<f64> {
        std::fs::create_dir_all(state)?;
        let epochs = [Epoch(1), Epoch(2)];
        // All of it in the chain of the bulk, the few blocks that explain it included: they drain alike.
        let epoch = epochs[Class::Waveform.index()];
        let (mut spool, _) = Spool::open(state, epochs)?;
        let mut payload = 0;
        let mut commit = Vec::new();
        for sequence in 0..self.blocks {
            let (kind, body) = self.body(sequence);
            let block = Block::new(BlockKey { epoch, sequence }, kind, &body, self.index(sequence));
            payload += block.bytes.len();
            commit.push(block);
            if commit.len() as u64 == COMMIT_BLOCKS || sequence + 1 == self.blocks {
                spool.commit(Class::Waveform, &commit, &[])?;
                commit.clear();
            }
        }
        Ok(payload as f64)
    }

    /// What the agent that wrote a block knew of it.
    fn index(&self, sequence: u64) -> Index {
        let Some(first) = sequence.checked_sub(PREAMBLE).map(|block| block * BLOCK_FRAMES) else {
            return Index {
                made: self.start,
                ..Index::default()
            };
        };
        let (frames, samples) = (BLOCK_FRAMES, FRAME_SAMPLES as u64);
        let span = |each: u64| Range::new(first * each, (first + frames) * each);
        let mut index = Index {
            made: self.arrival(ticks_of(first + frames)),
            ..Index::default()
        };
        index.frames.extend(span(1).map(|span| {
            (
                NODE,
                self.boot(),
                Class::Waveform,
                std::iter::once(span).collect(),
            )
        }));
        index
            .samples
            .extend(span(samples).map(|span| (NODE, self.boot(), CHANNEL, frames * samples, span)));
        index
    }

    fn boot(&self) -> BootId {
        BootId::new(1, self.seed as u32)
    }

    fn clock_fix(&self) -> Vec<u8> {
        let fix = ClockFix {
            node: NODE,
            boot: self.boot(),
            number: 0,
            ticks: NodeTicks(0),
            utc: self.start,
            error_ns: 1_000_000,
            quality: ClockQuality::Synchronised,
        };
        let mut room = [0; 64];
        let body = postcard::to_slice(&fix, &mut room).expect("a fix has at most 50 bytes");
        body.to_vec()
    }

    fn waveforms(&self, block: u64) -> Vec<u8> {
        let mut chance = Chance::new(self.seed ^ (block << 20));
        let mut body = Vec::with_capacity(64 * 1_024 - ENVELOPE_BYTES);
        let mut data = [0; 2 * FRAME_SAMPLES];
        for frame in block * BLOCK_FRAMES..(block + 1) * BLOCK_FRAMES {
            for bytes in data.chunks_exact_mut(8) {
                bytes.copy_from_slice(&chance.next().to_le_bytes());
            }
            let first_sample = frame * FRAME_SAMPLES as u64;
            let ticks = ticks_of(frame);
            let payload = Payload::Waveform(Waveform {
                revision: 1,
                channel: CHANNEL,
                first_sample,
                count: FRAME_SAMPLES as u16,
                packing: Packing::I16,
                data: &data,
            });
            self.push_frame(&mut body, Class::Waveform, frame, ticks, &payload);
        }
        body
    }

    /// When what was taken at these ticks reached the agent.
    const fn arrival(&self, ticks: u64) -> EventTime {
        EventTime(self.start.0 + ticks as i64 * 1_000)
    }

    fn push_frame(&self, body: &mut Vec<u8>, class: Class, sequence: u64, ticks: u64, payload: &Payload<'_>) {
        let header = Header {
            version: version::FRAME,
            address: LineAddress(1),
            node: NODE,
            boot: self.boot(),
            class,
            sequence,
            ticks: NodeTicks(ticks),
        };
        let mut room = [0; FRAME_MAX];
        let frame = encode(&header, payload, &mut room).expect("480 samples leave room for the header");
        let record = FrameRecord {
            arrival: self.arrival(ticks),
            fix: 0,
            frame,
        };
        let mut room = [0; trunnion_common::block::FRAME_RECORD_MAX];
        let record = postcard::to_slice(&record, &mut room).expect("room for the largest record");
        body.extend_from_slice(record);
    }
}

/// When the first sample of a frame is taken, in the node's microseconds.
fn ticks_of(frame: u64) -> u64 {
    frame * FRAME_SAMPLES as u64 * 1_000_000_000 / u64::from(RATE_MHZ.get())
}

fn describe() -> Payload<'static> {
    let channel = ChannelDescriptor {
        unit: Unit::StandardGravity,
        scale: RANGE_G / 32_768.0,
        rate_mhz: RATE_MHZ.get(),
        range: RANGE_G,
        band_low_hz: 1.0,
        band_high_hz: (RATE_HZ / 2.56) as f32,
    };
    let mut describe = Describe {
        revision: 1,
        channels: Default::default(),
    };
    describe
        .channels
        .push(channel)
        .expect("one channel is below CHANNELS_MAX");
    Payload::Describe(describe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::block::{Block, Body, Envelope, Lane};
    use trunnion_common::frame::RawFrame;
    use trunnion_common::id::Epoch;

    #[test]
    fn a_block_is_64_kib_of_frames_that_follow_each_other() {
        let backlog = Backlog::of_bytes(1 << 20, EventTime(0), 5);
        assert_eq!(backlog.blocks, 18);
        let mut next = 0;
        for sequence in 2..4 {
            let (kind, body) = backlog.body(sequence);
            assert!((63 * 1_024..=64 * 1_024).contains(&body.len()), "{}", body.len());
            let envelope = Envelope::new(Epoch(1), sequence, Lane::Live, kind).encode(&body);
            let bytes = [&envelope[..], &body].concat();
            let Ok(Body::Frames(records)) = Block::parse(&bytes).unwrap().decode() else {
                panic!("frames were encoded");
            };
            for record in records {
                let record = record.unwrap();
                let frame = RawFrame::parse(record.frame).unwrap();
                let Ok(Payload::Waveform(waveform)) = frame.payload() else {
                    panic!("waveforms were encoded");
                };
                assert_eq!(waveform.first_sample, next);
                next += waveform.samples().unwrap().len() as u64;
            }
        }
        assert_eq!(backlog.body(3), backlog.body(3));
    }
}
