//! A herd of nodes behind one gateway: their frames as blocks, each channel's in blocks of its own.
//!
//! The blocks are a function of the description alone. Waveforms are those of the simulated machine
//! ([`crate::sim_machine`]), every second of which has a damaged bearing, so that windows cost what they
//! cost in a plant: noise would leave the search for faults little to look at.

use crate::plant::SITE;
use crate::sim_machine::{MachineSpec, SimMachine};
use std::fmt::Write;
use trunnion_common::block::{Envelope, FRAME_RECORD_MAX, FrameRecord, Kind, Lane};
use trunnion_common::frame::{
    ChannelDescriptor, Class, Describe, FRAME_MAX, Header, Packing, Payload, READINGS_MAX, Scalar, Waveform,
    encode,
};
use trunnion_common::id::{BootId, ChannelId, Epoch, LineAddress, NodeId};
use trunnion_common::quantity::Unit;
use trunnion_common::time::{ClockFix, ClockQuality, EventTime, NodeTicks};
use trunnion_common::version;
use trunnion_diagnosis::bearing::Element;

/// Full scale of a vibration channel, g.
const RANGE_G: f32 = 16.0;

/// As many samples as a node puts into one frame.
const FRAME_SAMPLES: usize = 480;

/// Length of the recording that each machine's samples are taken from, seconds.
const RECORDING_S: f64 = 10.0;

/// Machines that the channels share: healthy, and one damage each.
const FAULTS: [Option<Element>; 4] = [
    None,
    Some(Element::OuterRace),
    Some(Element::InnerRace),
    Some(Element::Ball),
];

/// What the nodes of a herd are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spec {
    /// The first one's id; the others follow.
    pub first_node: u64,
    /// How many.
    pub nodes: u64,
    /// Channels of each.
    pub channels: u64,
    /// Waveforms, or else readings of a temperature.
    pub class: Class,
    /// Samples a second and channel.
    pub rate_hz: u32,
    /// Frames in one block.
    pub block_frames: u64,
    /// When the first samples were taken.
    pub start: EventTime,
}

/// Nodes whose blocks are made when they are asked for.
#[derive(Debug)]
pub struct Herd {
    spec: Spec,
    /// Samples of each machine in least significant bits, little-endian; empty for readings.
    recordings: Vec<Vec<u8>>,
}

impl Herd {
    /// These nodes.
    pub fn new(spec: Spec) -> Self {
        let recordings = match spec.class {
            Class::Waveform => FAULTS.map(|fault| recording(fault, spec.rate_hz)).into(),
            Class::Essential => Vec::new(),
        };
        Self { spec, recordings }
    }

    /// Samples in one block.
    pub const fn block_samples(&self) -> u64 {
        self.spec.block_frames * self.frame_samples() as u64
    }

    /// Blocks in one round: one of each channel.
    pub const fn round_blocks(&self) -> u64 {
        self.spec.nodes * self.spec.channels
    }

    /// How much of each channel's time a round tells of, nanoseconds.
    pub const fn round_ns(&self) -> i64 {
        self.nanos(self.block_samples())
    }

    /// What explains the samples, and comes before them: each node's clock fix, then the channel tables.
    pub fn preamble(&self) -> Vec<(Kind, Vec<u8>)> {
        let mut blocks: Vec<_> = self
            .nodes()
            .map(|node| (Kind::ClockFix, self.clock_fix(node)))
            .collect();
        let describe = self.describe();
        for nodes in Vec::from_iter(self.nodes()).chunks(64) {
            let mut body = Vec::new();
            for node in nodes {
                self.push_frame(&mut body, *node, Class::Essential, 0, 0, &describe);
            }
            blocks.push((Kind::Frames, body));
        }
        blocks
    }

    /// The blocks of one round, of channel after channel.
    pub fn round(&self, round: u64) -> impl Iterator<Item = (Kind, Vec<u8>)> + '_ {
        let channels = (0..self.spec.channels).filter_map(|channel| ChannelId::new(channel as u16));
        self.nodes().flat_map(move |node| {
            channels
                .clone()
                .map(move |channel| (Kind::Frames, self.block(node, channel, round)))
        })
    }

    /// Everything up to a number of rounds as the messages of one epoch.
    pub fn messages(&self, epoch: Epoch, rounds: u64) -> Vec<Vec<u8>> {
        let bodies = self.preamble().into_iter();
        let bodies = bodies.chain((0..rounds).flat_map(|round| self.round(round)));
        (0..)
            .zip(bodies)
            .map(|(sequence, (kind, body))| message(epoch, sequence, kind, &body))
            .collect()
    }

    /// A fleet file's assets for these nodes: one machine each, every channel at a point of its own; those of
    /// vibration at a bearing whose geometry is known.
    pub fn assets(&self) -> String {
        let mut text = String::new();
        let MachineSpec { shaft_hz, .. } = MachineSpec::motor(f64::from(self.spec.rate_hz), 0);
        let (quantity, unit, range) = match self.spec.class {
            Class::Waveform => ("acceleration", "g", RANGE_G),
            Class::Essential => ("temperature", "degC", 200.0),
        };
        for node in self.nodes() {
            let rpm = 60.0 * shaft_hz;
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "\n[[site.area.asset]]\nid = \"asset-{node}\"\n\
                 \n[[site.area.asset.shaft]]\nid = \"shaft\"\nrpm = {rpm:?}\n\
                 \n[[site.area.asset.shaft.bearing]]\nid = \"bearing\"\ndesignation = \"6205\"\n"
            );
            for channel in 0..self.spec.channels {
                let _ = write!(
                    text,
                    "\n[[site.area.asset.point]]\nid = \"p{channel}\"\nshaft = \"shaft\"\nbearing = \"bearing\"\n\
                     \n[[site.area.asset.point.channel]]\nid = \"v\"\nnode = \"{node}\"\nchannel = {channel}\n\
                     quantity = \"{quantity}\"\nunit = \"{unit}\"\naxis = \"+v\"\nrange = {range:?}\n\
                     band_hz = [1.0, {band:?}]\n",
                    band = f64::from(self.spec.rate_hz) / 2.56,
                );
            }
        }
        text
    }

    fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        let Spec {
            first_node, nodes, ..
        } = self.spec;
        (first_node..first_node + nodes).filter_map(NodeId::new)
    }

    fn boot(&self) -> BootId {
        BootId::new(1, 7)
    }

    const fn frame_samples(&self) -> usize {
        match self.spec.class {
            Class::Waveform => FRAME_SAMPLES,
            Class::Essential => READINGS_MAX,
        }
    }

    const fn nanos(&self, samples: u64) -> i64 {
        (samples as i128 * 1_000_000_000 / self.spec.rate_hz as i128) as i64
    }

    fn clock_fix(&self, node: NodeId) -> Vec<u8> {
        let fix = ClockFix {
            node,
            boot: self.boot(),
            number: 0,
            ticks: NodeTicks(0),
            utc: self.spec.start,
            error_ns: 1_000_000,
            quality: ClockQuality::Synchronised,
        };
        let mut room = [0; 64];
        let body = postcard::to_slice(&fix, &mut room).expect("a fix has at most 50 bytes");
        body.to_vec()
    }

    fn describe(&self) -> Payload<'static> {
        let rate_mhz = self.spec.rate_hz * 1_000;
        let band_high_hz = self.spec.rate_hz as f32 / 2.56;
        let (unit, scale, range) = match self.spec.class {
            Class::Waveform => (Unit::StandardGravity, RANGE_G / 32_768.0, RANGE_G),
            Class::Essential => (Unit::DegreeCelsius, 1.0, 200.0),
        };
        let descriptor = ChannelDescriptor {
            unit,
            scale,
            rate_mhz,
            range,
            band_low_hz: 1.0,
            band_high_hz,
        };
        Payload::Describe(Describe {
            revision: 1,
            channels: (0..self.spec.channels).map(|_| descriptor).collect(),
        })
    }

    fn block(&self, node: NodeId, channel: ChannelId, round: u64) -> Vec<u8> {
        let mut body = Vec::with_capacity(64 * 1_024);
        let turn = round * self.spec.channels + channel.index() as u64;
        for frame in 0..self.spec.block_frames {
            let first_sample = (round * self.spec.block_frames + frame) * self.frame_samples() as u64;
            let ticks = self.nanos(first_sample) as u64 / 1_000;
            let sequence = turn * self.spec.block_frames + frame;
            let class = self.spec.class;
            match class {
                Class::Waveform => {
                    let key = node.get() * self.spec.channels + channel.index() as u64;
                    let recording = &self.recordings[key as usize % FAULTS.len()];
                    let bytes = 2 * FRAME_SAMPLES;
                    let at = (first_sample as usize * 2 + key as usize * bytes) % (recording.len() - bytes);
                    let payload = Payload::Waveform(Waveform {
                        revision: 1,
                        channel,
                        first_sample,
                        count: FRAME_SAMPLES as u16,
                        packing: Packing::I16,
                        data: &recording[at & !1..(at & !1) + bytes],
                    });
                    self.push_frame(&mut body, node, class, sequence, ticks, &payload);
                }
                Class::Essential => {
                    let reading = |index: u64| 40.0 + ((node.get() + index) % 1_000) as f32 * 0.01;
                    let readings = (first_sample..).take(READINGS_MAX);
                    let payload = Payload::Scalar(Scalar {
                        revision: 1,
                        channel,
                        first_sample,
                        readings: readings.map(|index| Ok(reading(index))).collect(),
                    });
                    // The channel table was frame 0 of this class.
                    self.push_frame(&mut body, node, class, sequence + 1, ticks, &payload);
                }
            }
        }
        body
    }

    fn push_frame(
        &self,
        body: &mut Vec<u8>,
        node: NodeId,
        class: Class,
        sequence: u64,
        ticks: u64,
        payload: &Payload<'_>,
    ) {
        let header = Header {
            version: version::FRAME,
            address: LineAddress(1),
            node,
            boot: self.boot(),
            class,
            sequence,
            ticks: NodeTicks(ticks),
        };
        let mut room = [0; FRAME_MAX];
        let frame = encode(&header, payload, &mut room).expect("a node's frames leave room for the header");
        let record = FrameRecord {
            arrival: EventTime(self.spec.start.0 + ticks as i64 * 1_000),
            fix: 0,
            frame,
        };
        let mut room = [0; FRAME_RECORD_MAX];
        let record = postcard::to_slice(&record, &mut room).expect("room for the largest record");
        body.extend_from_slice(record);
    }
}

/// A block as it travels.
pub fn message(epoch: Epoch, sequence: u64, kind: Kind, body: &[u8]) -> Vec<u8> {
    let envelope = Envelope::new(epoch, sequence, Lane::Live, kind).encode(body);
    [&envelope[..], body].concat()
}

/// The fleet file of herds.
pub fn fleet_text(herds: &[&Herd]) -> String {
    let assets: String = herds.iter().map(|herd| herd.assets()).collect();
    format!("[[site]]\nid = \"{SITE}\"\n\n[[site.area]]\nid = \"hall-1\"\n{assets}")
}

fn recording(fault: Option<Element>, rate_hz: u32) -> Vec<u8> {
    let mut spec = MachineSpec::motor(f64::from(rate_hz), 11);
    if let Some(element) = fault {
        spec = spec.with_fault(element, 0.5, 0.0);
    }
    let mut samples = vec![0.0; (RECORDING_S * f64::from(rate_hz)) as usize];
    SimMachine::new(spec).fill(&mut samples);
    let scaled = |sample: f32| (sample * 32_768.0 / RANGE_G) as i16;
    samples
        .into_iter()
        .flat_map(|sample| scaled(sample).to_le_bytes())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::block::{Block, Body};
    use trunnion_common::frame::RawFrame;

    fn herd(class: Class) -> Herd {
        Herd::new(Spec {
            first_node: 1,
            nodes: 2,
            channels: 3,
            class,
            rate_hz: 12_800,
            block_frames: 4,
            start: EventTime(0),
        })
    }

    #[test]
    fn the_samples_of_a_channel_and_the_frames_of_a_node_follow_each_other() {
        for class in Class::ALL {
            let herd = herd(class);
            let messages = herd.messages(Epoch(1), 3);
            assert_eq!(messages.len() as u64, 2 + 1 + 3 * herd.round_blocks());
            let mut next_sample = [[0u64; 3]; 2];
            let mut next_frame = [u64::from(class == Class::Essential); 2];
            for message in &messages[3..] {
                let Ok(Body::Frames(records)) = Block::parse(message).unwrap().decode() else {
                    panic!("frames were encoded");
                };
                for record in records {
                    let frame = RawFrame::parse(record.unwrap().frame).unwrap();
                    let (channel, first, count) = match frame.payload().unwrap() {
                        Payload::Waveform(it) => (it.channel, it.first_sample, u64::from(it.count)),
                        Payload::Scalar(it) => (it.channel, it.first_sample, it.readings.len() as u64),
                        other => panic!("{other:?}"),
                    };
                    let node = frame.header().node.get() as usize - 1;
                    assert_eq!(frame.header().sequence, next_frame[node]);
                    next_frame[node] += 1;
                    let next = &mut next_sample[node][channel.index()];
                    assert_eq!(first, *next);
                    *next += count;
                }
            }
            assert_eq!(next_sample, [[3 * herd.block_samples(); 3]; 2]);
        }
    }

    #[test]
    fn the_fleet_knows_every_channel() {
        let text = fleet_text(&[&herd(Class::Waveform)]);
        let fleet = trunnion_collector::fleet::Fleet::parse(&text, "fleet.toml").unwrap();
        let (node, channel) = (NodeId::new(2).unwrap(), ChannelId::new(2).unwrap());
        assert_eq!(fleet.channel(node, channel).unwrap().series.point, "p2");
    }
}
