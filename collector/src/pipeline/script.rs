//! Nodes and gateways for tests: what they would have had journaled.

use crate::journal::{Commit, Entry, Position};
use serde::Serialize;
use trunnion_common::block::{Envelope, FrameRecord, Holding, Kind, Lane, Readings};
use trunnion_common::frame::{
    ChannelDescriptor, Class, Describe, Header, Packing, Payload, Waveform, encode,
};
use trunnion_common::id::{BootId, ChannelId, Epoch, GatewayId, LineAddress, Name, NodeId};
use trunnion_common::quantity::Unit;
use trunnion_common::time::{ClockFix, ClockQuality, EventTime, NodeTicks};

pub(crate) const SECOND: i64 = 1_000_000_000;
/// Samples per second.
pub(crate) const RATE: u64 = 12_000;
/// Samples per frame.
pub(crate) const FRAME: u64 = 480;
/// When the nodes of these tests start.
pub(crate) const START: EventTime = EventTime(1_700_000_000 * SECOND + 250_000_000);

pub(crate) fn fleet(node: u64) -> Entry {
    let text = format!(
        r#"
[[site]]
id = "bremen"
[[site.area]]
id = "hall-1"
[[site.area.asset]]
id = "fan-{node}"
[[site.area.asset.shaft]]
id = "motor"
rpm = 1772
[[site.area.asset.shaft.bearing]]
id = "drive-end"
designation = "6205"
[[site.area.asset.point]]
id = "motor-de"
shaft = "motor"
bearing = "drive-end"
[[site.area.asset.point.channel]]
id = "v"
node = "{node:016x}"
channel = 0
quantity = "acceleration"
unit = "g"
axis = "-v"
range = 16
band_hz = [1, 5000]
"#
    );
    Entry::Fleet {
        effective: EventTime(0),
        text,
    }
}

/// A node with one waveform channel behind a gateway of its own.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) boot: BootId,
    pub(crate) gateway: GatewayId,
    blocks: u64,
    frames: [u64; 2],
    /// Of the blocks it sends from now on.
    pub(crate) lane: Lane,
    pub(crate) sample: u64,
}

impl Node {
    pub(crate) fn new(number: u64) -> Self {
        Self {
            id: NodeId::new(number).unwrap(),
            boot: BootId::new(1, 7),
            gateway: GatewayId {
                site: Name::new("bremen").unwrap(),
                gateway: Name::new(&format!("gw-{number}")).unwrap(),
            },
            blocks: 0,
            frames: [0; 2],
            lane: Lane::Live,
            sample: 0,
        }
    }

    pub(crate) fn reboot(&mut self) {
        self.boot = BootId::new(self.boot.counter() + 1, 7);
        self.frames = [0; 2];
        self.sample = 0;
    }

    pub(crate) fn block(&mut self, kind: Kind, body: &[u8]) -> Entry {
        let envelope = Envelope::new(Epoch(1), self.blocks, self.lane, kind);
        self.blocks += 1;
        Entry::Block {
            gateway: self.gateway.clone(),
            bytes: [&envelope.encode(body)[..], body].concat().into(),
        }
    }

    fn records<T: Serialize>(&mut self, kind: Kind, records: &[T]) -> Entry {
        let body: Vec<u8> = records
            .iter()
            .flat_map(|record| postcard::to_stdvec(record).unwrap())
            .collect();
        self.block(kind, &body)
    }

    pub(crate) fn frame_block(&mut self, frames: &[Vec<u8>]) -> Entry {
        let record = |frame| FrameRecord {
            arrival: START,
            fix: 0,
            frame,
        };
        let records: Vec<_> = frames.iter().map(|frame| record(frame)).collect();
        self.records(Kind::Frames, &records)
    }

    pub(crate) fn frame(&mut self, class: Class, ticks: u64, payload: &Payload<'_>) -> Vec<u8> {
        let header = Header {
            version: trunnion_common::version::FRAME,
            address: LineAddress(1),
            node: self.id,
            boot: self.boot,
            class,
            sequence: self.frames[class.index()],
            ticks: NodeTicks(ticks),
        };
        self.frames[class.index()] += 1;
        encode(&header, payload, &mut [0; 1_024]).unwrap().to_vec()
    }

    pub(crate) fn describe(&mut self) -> Vec<u8> {
        self.describe_in(Unit::StandardGravity, 1)
    }

    /// A channel table of that unit and revision.
    pub(crate) fn describe_in(&mut self, unit: Unit, revision: u16) -> Vec<u8> {
        let channel = ChannelDescriptor {
            unit,
            scale: 16.0 / 32_768.0,
            rate_mhz: RATE as u32 * 1_000,
            range: 16.0,
            band_low_hz: 1.0,
            band_high_hz: 5_500.0,
        };
        let channels = [channel].into_iter().collect();
        self.frame(
            Class::Essential,
            0,
            &Payload::Describe(Describe { revision, channels }),
        )
    }

    pub(crate) fn fix(&mut self) -> Entry {
        let fix = ClockFix {
            node: self.id,
            boot: self.boot,
            number: 0,
            ticks: NodeTicks(0),
            utc: START,
            error_ns: 1_000,
            quality: ClockQuality::Synchronised,
        };
        self.records(Kind::ClockFix, &[fix])
    }

    /// Readings of a slow channel at times in seconds after [`START`], the first of them with that number.
    pub(crate) fn readings(
        &mut self,
        channel: u16,
        unit: Unit,
        first_sample: u64,
        readings: &[(u64, f32)],
    ) -> Entry {
        let body = Readings {
            node: self.id,
            boot: self.boot,
            sequence: self.frames[Class::Essential.index()],
            channel: ChannelId::new(channel).unwrap(),
            unit,
            first_sample,
            fix: 0,
            readings: readings
                .iter()
                .map(|(second, value)| (NodeTicks(second * 1_000_000), Ok(*value)))
                .collect(),
        };
        self.frames[Class::Essential.index()] += 1;
        let body = postcard::to_stdvec(&body).unwrap();
        self.block(Kind::Readings, &body)
    }

    /// The next frame of the signal.
    pub(crate) fn waveform(&mut self, signal: impl Fn(u64) -> f64) -> Vec<u8> {
        self.waveform_under(1, signal)
    }

    /// The next frame of the signal, under that channel table.
    pub(crate) fn waveform_under(&mut self, revision: u16, signal: impl Fn(u64) -> f64) -> Vec<u8> {
        let first = self.sample;
        self.sample += FRAME;
        let data: Vec<u8> = (first..self.sample)
            .flat_map(|n| ((signal(n) * 2_048.0).round() as i16).to_le_bytes())
            .collect();
        let waveform = Waveform {
            revision,
            channel: ChannelId::new(0).unwrap(),
            first_sample: first,
            count: FRAME as u16,
            packing: Packing::I16,
            data: &data,
        };
        self.frame(
            Class::Waveform,
            first * 1_000_000 / RATE,
            &Payload::Waveform(waveform),
        )
    }

    pub(crate) fn holding(&mut self, holding: Holding) -> Entry {
        self.records(Kind::Status, &[holding])
    }

    /// Channel table, clock fix, and that many frames of the signal, one block each.
    pub(crate) fn story(&mut self, frames: usize, signal: impl Fn(u64) -> f64) -> Vec<Entry> {
        let describe = self.describe();
        let mut entries = vec![self.frame_block(&[describe]), self.fix()];
        for _ in 0..frames {
            let frame = self.waveform(&signal);
            entries.push(self.frame_block(&[frame]));
        }
        entries
    }
}

/// One commit per entry, 20 ms apart.
pub(crate) fn commits(entries: Vec<Entry>) -> Vec<Commit> {
    let at = |offset| Position {
        offset,
        ..Position::default()
    };
    entries
        .into_iter()
        .zip(0..)
        .map(|(entry, n)| Commit {
            time: START.plus_nanos(n as i64 * 20_000_000),
            entries: vec![(at(100 * n), entry)],
            end: at(100 * (n + 1)),
        })
        .collect()
}

/// Noise of +-0.1 g, the same for the same index.
pub(crate) fn noise(n: u64) -> f64 {
    let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((mixed >> 40) as f64 / (1u64 << 24) as f64 - 0.5) * 0.2
}

/// A bearing 6205 at 1772 rpm whose outer race is struck: a 3 kHz resonance rings at each strike.
pub(crate) fn outer_race_fault(n: u64) -> f64 {
    let period = RATE as f64 / (3.5848 * 1772.0 / 60.0);
    let since = (n as f64 % period) / RATE as f64;
    noise(n) + 3.0 * (-since * 900.0).exp() * (std::f64::consts::TAU * 3_000.0 * since).sin()
}
