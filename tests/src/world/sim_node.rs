//! A node: the real state machine, fed with samples whose values tell where they belong.

use super::chance::Chance;
use crate::node_memory::NodeMemory;
use std::time::Duration;
use trunnion_common::codec::LINE_FRAME_MAX;
use trunnion_common::frame::{ChannelDescriptor, Describe, ResetCause};
use trunnion_common::id::{BootId, ChannelId, LineAddress, NodeId};
use trunnion_common::quantity::Unit;
use trunnion_common::time::NodeTicks;
use trunnion_firmware::channel::Account;
use trunnion_firmware::link::Wiring;
use trunnion_firmware::node::{Identity, Node};
use trunnion_firmware::outbox::{ESSENTIAL_MIN, WAVEFORM_MIN};
use trunnion_firmware::schedule::Schedule;
use trunnion_firmware::sensor::Missed;

/// A fast channel and a slow one.
pub const CHANNELS: [ChannelId; 2] = [channel(0), channel(1)];

/// Their rates, millihertz.
const RATES_MHZ: [u32; 2] = [400_000, 2_000];

/// From one reading of the sensors to the next.
pub const SAMPLING: Duration = Duration::from_millis(50);

/// Room for what a node has to say at once.
const TRANSMIT_BYTES: usize = 4 * LINE_FRAME_MAX;

const fn channel(position: u16) -> ChannelId {
    match ChannelId::new(position) {
        Some(channel) => channel,
        None => panic!("a node may have that many channels"),
    }
}

/// The value that every sample has, known to whoever asks.
pub fn value(node: NodeId, boot: BootId, channel: ChannelId, index: u64) -> i16 {
    let mixed = Chance::new(node.get() ^ boot.get().rotate_left(17) ^ index.rotate_left(40))
        .next()
        .wrapping_add(u64::from(channel.get()));
    (mixed >> 48) as i16
}

/// The channel table of every node.
fn table() -> Describe {
    let descriptor = |unit, scale, rate_mhz| ChannelDescriptor {
        unit,
        scale,
        rate_mhz,
        range: 16.0,
        band_low_hz: 0.0,
        band_high_hz: 200.0,
    };
    Describe {
        revision: 1,
        channels: [
            descriptor(Unit::StandardGravity, 16.0 / 32_768.0, RATES_MHZ[0]),
            descriptor(Unit::DegreeCelsius, 1.0, RATES_MHZ[1]),
        ]
        .into_iter()
        .collect(),
    }
}

/// The memory of one life of a node: some hold half a minute, others a second.
pub fn draw_memory(chance: &mut Chance) -> NodeMemory {
    let waveform = WAVEFORM_MIN + chance.below(40 * 1_024) as usize;
    let essential = ESSENTIAL_MIN + chance.below(8 * 1_024) as usize;
    NodeMemory::new(essential, waveform, CHANNELS.len())
}

/// A node in one of its lives.
#[derive(Debug)]
pub struct SimNode<'m> {
    /// Which node.
    pub id: NodeId,
    /// Which life.
    pub boot: BootId,
    node: Node<'m>,
    booted: Duration,
    /// How much faster than the world its clock runs, parts per million.
    drift_ppm: i64,
    produced: [u64; CHANNELS.len()],
}

impl<'m> SimNode<'m> {
    /// Switched on `now`.
    pub fn new(id: NodeId, boot: BootId, memory: &'m mut NodeMemory, drift_ppm: i64, now: Duration) -> Self {
        let identity = Identity {
            node: id,
            boot,
            address: LineAddress(1),
            wiring: Wiring::Own,
            reset: ResetCause::PowerOn,
        };
        Self {
            id,
            boot,
            node: Node::new(identity, &table(), memory.lend()).expect("memory and table suffice"),
            booted: now,
            drift_ppm,
            produced: [0; CHANNELS.len()],
        }
    }

    /// Reads the sensors; `missed` of them ran over. Returns whether there was anything to miss.
    pub fn sample(&mut self, now: Duration, missed: bool) -> bool {
        let ticks = self.ticks(now);
        let mut has_missed = false;
        for (at, channel) in CHANNELS.into_iter().enumerate() {
            let rate = RATES_MHZ[at].try_into().expect("no rate is zero");
            let schedule = Schedule::new(NodeTicks(0), rate);
            let (first, end) = (self.produced[at], schedule.due_by(ticks));
            if first == end {
                continue;
            }
            self.produced[at] = end;
            let start = schedule.ticks_of(first);
            let values = (first..end).map(|index| value(self.id, self.boot, channel, index));
            let taken = if missed {
                has_missed = true;
                self.node.handle_missed(channel, end - first, Missed::Overrun)
            } else if at == 0 {
                let values: Vec<i16> = values.collect();
                self.node.handle_samples(channel, start, &values)
            } else {
                let values: Vec<_> = values.map(|value| Ok(f32::from(value))).collect();
                self.node.handle_readings(channel, start, &values)
            };
            taken.expect("the table has both channels");
        }
        has_missed
    }

    /// Takes bytes from the line.
    pub fn handle_bytes(&mut self, now: Duration, bytes: &[u8]) {
        self.node.handle_bytes(self.ticks(now), bytes);
    }

    /// What it has to say, in one piece, if anything.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<Vec<u8>> {
        let mut out = [0; TRANSMIT_BYTES];
        let length = self.node.poll_transmit(self.ticks(now), &mut out);
        (length > 0).then(|| out[..length].to_vec())
    }

    /// When it next has something to do by itself.
    pub fn next_timeout(&self) -> Option<Duration> {
        let ticks = self.node.poll_timeout()?;
        let micros = i128::from(ticks.0) * 1_000_000 / i128::from(1_000_000 + self.drift_ppm) + 1;
        Some(self.booted + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX / 2)))
    }

    /// Where the samples of both channels have gone.
    pub fn accounts(&self) -> [Account; CHANNELS.len()] {
        CHANNELS.map(|channel| self.node.account(channel).expect("the table has both channels"))
    }

    fn ticks(&self, now: Duration) -> NodeTicks {
        let micros = (now - self.booted).as_micros() as i128;
        NodeTicks((micros * i128::from(1_000_000 + self.drift_ppm) / 1_000_000) as u64)
    }
}
