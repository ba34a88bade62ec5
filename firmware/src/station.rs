//! A node with the sensors of every board: an accelerometer that samples by itself and a thermometer that is
//! asked once a second.
//!
//! A board calls [`Station::handle_time`] at the latest when [`Station::poll_timeout`] says so, and moves
//! bytes between the line and the node.
//!
//! Nothing of it is inlined into that loop: each call has the frames that it works on to itself on the stack, where a
//! loop would hold those of all of them at once.

use crate::alarm::{Alarm, Limit};
use crate::last_words::{self, LastWords};
use crate::node::{Identity, Memory, Node, NodeError};
use crate::schedule::Schedule;
use crate::sensor::condition::Condition;
use crate::sensor::rate::RateMeter;
use crate::sensor::{Batch, Gauge, Sensor};
use core::num::NonZeroU32;
use trunnion_common::frame::{ChannelDescriptor, Describe, Event, Packing};
use trunnion_common::id::ChannelId;
use trunnion_common::quantity::Unit;
use trunnion_common::time::NodeTicks;

/// The accelerometer's channel.
pub const VIBRATION: ChannelId = ChannelId::new(0).expect("0 is below CHANNELS_MAX");

/// The thermometer's channel.
pub const TEMPERATURE: ChannelId = ChannelId::new(1).expect("1 is below CHANNELS_MAX");

/// How often the accelerometer's queue is emptied, microseconds: the IIS3DWB's holds 19 ms.
pub const READ_MICROS: u64 = 10_000;

/// One reading a second.
const TEMPERATURE_RATE_MHZ: NonZeroU32 = NonZeroU32::new(1_000).expect("not 0");

/// Above this a bearing's housing is too hot for common grease and seals; the deadband is 5 K.
pub const HOUSING_LIMIT: Limit = Limit {
    alarm: 90.0,
    clear: 85.0,
};

/// What the accelerometer is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Accelerometer {
    /// Its sample rate.
    pub rate_mhz: NonZeroU32,
    /// Full scale of its 16 bits, g.
    pub range_g: f32,
    /// The band it is usable in, Hz.
    pub band_hz: [f32; 2],
}

/// A node and its sensors.
#[derive(Debug)]
pub struct Station<'m, A, T> {
    node: Node<'m>,
    accelerometer: Watched<A>,
    thermometer: T,
    alarm: Alarm,
    temperature: Schedule,
    temperatures: u64,
    read_at: NodeTicks,
}

impl<'m, A: Sensor, T: Gauge> Station<'m, A, T> {
    /// A node that begins to sample at `start`, after a life that left `former`.
    #[inline(never)]
    pub fn new(
        identity: Identity,
        former: Option<LastWords>,
        what: Accelerometer,
        (accelerometer, thermometer): (A, T),
        memory: Memory<'m>,
        start: NodeTicks,
    ) -> Result<Self, NodeError> {
        let mut node = Node::new(identity, &table(what), memory)?;
        node.set_packing(Packing::Predicted);
        for event in [
            last_words::obituary(former),
            last_words::brown_out(identity.reset),
        ] {
            event.into_iter().for_each(|event| node.handle_former(event));
        }
        Ok(Self {
            node,
            accelerometer: Watched {
                sensor: accelerometer,
                rate: RateMeter::new(what.rate_mhz),
                condition: Condition::new(VIBRATION, what.rate_mhz),
                taken: 0,
                measured: None,
                noticed: None,
            },
            thermometer,
            alarm: Alarm::new(TEMPERATURE, HOUSING_LIMIT),
            temperature: Schedule::new(start, TEMPERATURE_RATE_MHZ),
            temperatures: 0,
            read_at: start,
        })
    }

    /// The node: for its settings and its lamp.
    pub const fn node(&mut self) -> &mut Node<'m> {
        &mut self.node
    }

    /// Takes bytes from the line.
    #[inline(never)]
    pub fn handle_bytes(&mut self, now: NodeTicks, bytes: &[u8]) {
        self.node.handle_bytes(now, bytes);
    }

    /// Reads the sensors that are due.
    #[inline(never)]
    pub fn handle_time(&mut self, now: NodeTicks) {
        if now >= self.read_at {
            let sampled = self.node.sample(now, VIBRATION, &mut self.accelerometer);
            debug_assert!(sampled.is_ok(), "the table has this channel");
            self.read_at = now.plus_micros(READ_MICROS);
            if let Some(event) = self.accelerometer.noticed.take() {
                self.node.handle_event(now, event);
            }
            if let Some(rate_mhz) = self.accelerometer.measured.take() {
                self.accelerometer.sensor.set_rate(rate_mhz);
                let told = self.node.set_rate(now, VIBRATION, rate_mhz);
                debug_assert!(told.is_ok(), "the table has this channel");
            }
        }
        let due = self.temperature.due_by(now);
        if due > self.temperatures {
            // Readings that a long pause has cost were never made.
            let missed = due - self.temperatures - 1;
            if missed > 0 {
                let overrun = crate::sensor::Missed::Overrun;
                let booked = self.node.handle_missed(TEMPERATURE, missed, overrun);
                debug_assert!(booked.is_ok(), "the table has this channel");
            }
            let (ticks, reading) = (self.temperature.ticks_of(due - 1), self.thermometer.read());
            let taken = self.node.handle_readings(TEMPERATURE, ticks, &[reading]);
            debug_assert!(taken.is_ok(), "the table has this channel");
            let reading = self.node.calibrated(TEMPERATURE, reading);
            if let Some(event) = self.alarm.judge(reading) {
                self.node.handle_event(now, event);
            }
            self.temperatures = due;
        }
    }

    /// Writes frames for the line to `out` as [`Node::poll_transmit`] does.
    #[inline(never)]
    pub fn poll_transmit(&mut self, now: NodeTicks, out: &mut [u8]) -> usize {
        self.node.poll_transmit(now, out)
    }

    /// When to come back if nothing else happens.
    pub fn poll_timeout(&self) -> NodeTicks {
        let own = self.read_at.min(self.temperature.ticks_of(self.temperatures));
        self.node.poll_timeout().map_or(own, |node| node.min(own))
    }
}

/// A sensor whose rate is measured and whose condition is judged while its queue is emptied.
#[derive(Debug)]
struct Watched<A> {
    sensor: A,
    rate: RateMeter,
    condition: Condition,
    /// Samples taken since the queue was last empty.
    taken: usize,
    /// A rate to tell.
    measured: Option<NonZeroU32>,
    /// The last change of its condition.
    noticed: Option<Event>,
}

impl<A: Sensor> Sensor for Watched<A> {
    fn read(&mut self, now: NodeTicks, out: &mut [i16]) -> Batch {
        let batch = self.sensor.read(now, out);
        let samples = &out[..batch.taken];
        self.noticed = self.condition.judge(&batch, samples).or(self.noticed);
        if batch.missed.is_some() {
            self.rate.restart();
        }
        // A full buffer leaves more behind: only an empty queue says how many samples there have been.
        if batch.taken < out.len() {
            self.measured = self
                .rate
                .handle_empty(now, self.taken + batch.taken)
                .or(self.measured);
            self.taken = 0;
        } else {
            self.taken += batch.taken;
        }
        batch
    }
}

fn table(accelerometer: Accelerometer) -> Describe {
    let vibration = ChannelDescriptor {
        unit: Unit::StandardGravity,
        scale: accelerometer.range_g / 32_768.0,
        rate_mhz: accelerometer.rate_mhz.get(),
        range: accelerometer.range_g,
        band_low_hz: accelerometer.band_hz[0],
        band_high_hz: accelerometer.band_hz[1],
    };
    let temperature = ChannelDescriptor {
        unit: Unit::DegreeCelsius,
        scale: 1.0,
        rate_mhz: TEMPERATURE_RATE_MHZ.get(),
        range: 128.0,
        band_low_hz: 0.0,
        band_high_hz: 0.5,
    };
    Describe {
        revision: 1,
        channels: [vibration, temperature].into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{FORMING_SAMPLES, Forming};
    use crate::link::Wiring;
    use crate::outbox::{ESSENTIAL_MIN, WAVEFORM_MIN};
    use crate::sensor::record::{Player, Record, header};
    use trunnion_common::codec::{Decoder, LINE_FRAME_MAX, stuff};
    use trunnion_common::frame::{
        Class, EventKind, FRAME_MAX, Header, Payload, Poll, ResetCause, Severity, encode,
    };
    use trunnion_common::id::{BootId, LineAddress, MasterId, NodeId};
    use trunnion_common::sample::{NoData, Reading};
    use trunnion_common::version;

    const RATE: NonZeroU32 = NonZeroU32::new(12_000_000).unwrap();

    struct Steps(Vec<Reading>);

    impl Gauge for Steps {
        fn read(&mut self) -> Reading {
            if self.0.len() > 1 {
                self.0.remove(0)
            } else {
                self.0[0]
            }
        }
    }

    const WHAT: Accelerometer = Accelerometer {
        rate_mhz: RATE,
        range_g: 16.0,
        band_hz: [1.0, 5_000.0],
    };

    /// A station that works in memory which is never given back: a test is short.
    fn station<A: Sensor>(former: Option<LastWords>, sensors: (A, Steps)) -> Station<'static, A, Steps> {
        let identity = Identity {
            node: NodeId::new(7).unwrap(),
            boot: BootId::new(1, 1),
            address: LineAddress(1),
            wiring: Wiring::Own,
            reset: last_words::reset_cause(former),
        };
        let forming: Vec<Forming> = vec![[0; FORMING_SAMPLES]; 2];
        let memory = Memory {
            essential: vec![0; 4 * ESSENTIAL_MIN].leak(),
            waveform: vec![0; 8 * WAVEFORM_MIN].leak(),
            forming: forming.leak(),
            line: vec![0; LINE_FRAME_MAX].leak(),
        };
        Station::new(identity, former, WHAT, sensors, memory, NodeTicks(0)).unwrap()
    }

    /// What an agent that polls every 20 ms hears of a station in `seconds`.
    fn heard(
        readings: Vec<Reading>,
        former: Option<LastWords>,
        seconds: u64,
    ) -> Vec<(NodeTicks, String, Option<Payload<'static>>)> {
        let bytes: Vec<u8> = (0..12_000_i16).flat_map(i16::to_le_bytes).collect();
        let mut memory = header(RATE, 16.0, &bytes).to_vec();
        memory.extend(bytes);
        let player = Player::new(Record::parse(&memory).unwrap(), NodeTicks(0));
        let mut station = station(former, (player, Steps(readings)));
        let (mut heard, mut upto) = (Vec::new(), [0; 2]);
        let mut buffer = [0; LINE_FRAME_MAX];
        let mut decoder = Decoder::new(&mut buffer);
        for round in 0..seconds * 50 {
            let now = NodeTicks(round * 20_000);
            let poll = Payload::Poll(Poll {
                address: LineAddress(1),
                master: MasterId(1),
                upto,
                credit: 64 << 10,
            });
            let head = Header {
                version: version::FRAME,
                address: LineAddress(1),
                node: NodeId::new(7).unwrap(),
                boot: BootId::new(1, 1),
                class: Class::Essential,
                sequence: round,
                ticks: NodeTicks(0),
            };
            let (mut frame, mut out) = ([0; FRAME_MAX], [0; 4 * LINE_FRAME_MAX]);
            let frame = encode(&head, &poll, &mut frame).unwrap();
            station.handle_bytes(now, stuff(frame, &mut out).unwrap());
            station.handle_time(now);
            assert!(station.poll_timeout() <= now.plus_micros(READ_MICROS));
            loop {
                let length = station.poll_transmit(now, &mut out);
                if length == 0 {
                    break;
                }
                let mut rest = &out[..length];
                while !rest.is_empty() {
                    let fed = decoder.feed(rest);
                    rest = &rest[fed.taken..];
                    if let Some(Ok(frame)) = fed.frame {
                        let header = frame.header();
                        upto[header.class.index()] = header.sequence + 1;
                        let payload = frame.payload().unwrap();
                        if let Payload::Waveform(waveform) = &payload {
                            for (index, sample) in (waveform.first_sample..).zip(waveform.samples().unwrap())
                            {
                                assert_eq!(u64::from(sample.unsigned_abs()), index % 12_000);
                            }
                        }
                        let kind = format!("{payload:?}")
                            .split(['(', ' '])
                            .next()
                            .unwrap()
                            .to_owned();
                        let event = match payload {
                            Payload::Event(event) => Some(Payload::Event(event)),
                            Payload::Status(status) => Some(Payload::Status(status)),
                            Payload::Scalar(scalar) => Some(Payload::Scalar(scalar)),
                            _ => None,
                        };
                        heard.push((header.ticks, kind, event));
                    }
                }
            }
        }
        heard
    }

    #[test]
    fn waveforms_readings_and_a_hot_housing_reach_the_agent() {
        let mut readings: Vec<Reading> = vec![Ok(40.0); 3];
        readings.extend([Ok(95.0); 4]);
        readings.push(Err(NoData::BusError));
        let heard = heard(readings, None, 9);
        let count = |kind: &str| heard.iter().filter(|(_, found, _)| found == kind).count();
        // Nine seconds but for what is still forming, and in as few frames as packing makes of it.
        assert!(
            (100..=9 * 12_000 / FORMING_SAMPLES + 1).contains(&count("Waveform")),
            "{}",
            count("Waveform")
        );
        assert_eq!(count("Scalar"), 9);
        let alarms: Vec<_> = heard
            .iter()
            .filter_map(|(ticks, _, payload)| match payload {
                Some(Payload::Event(event)) if event.severity == Severity::Alarm => {
                    Some((ticks.0, event.kind))
                }
                _ => None,
            })
            .collect();
        assert_eq!(alarms, [(5_000_000, EventKind::LimitExceeded)]);
    }

    #[test]
    fn a_panic_is_told_before_anything_else_of_the_next_life() {
        let former = LastWords::alive(None).ending(last_words::End::Panic, 123);
        let heard = heard(vec![Ok(20.0)], Some(former), 2);
        let panic = heard
            .iter()
            .position(|(_, _, payload)| matches!(payload, Some(Payload::Event(event)) if event.kind == EventKind::Panicked && event.value == 123.0))
            .unwrap();
        let first_sample = heard
            .iter()
            .position(|(_, kind, _)| kind == "Waveform" || kind == "Scalar");
        assert!(Some(panic) < first_sample, "{panic} {first_sample:?}");
        let reset = heard.iter().find_map(|(_, _, payload)| match payload {
            Some(Payload::Status(status)) => Some(status.reset),
            _ => None,
        });
        assert_eq!(reset, Some(ResetCause::Software));
    }

    /// Samples by itself, a little faster than it says.
    struct Fast {
        taken: u64,
        dated_by: NonZeroU32,
    }

    impl Sensor for Fast {
        fn read(&mut self, now: NodeTicks, out: &mut [i16]) -> Batch {
            let first = Schedule::new(NodeTicks(0), self.dated_by).ticks_of(self.taken);
            let taken = ((now.0 * 123 / 10_000) - self.taken).min(out.len() as u64);
            for slot in &mut out[..taken as usize] {
                self.taken += 1;
                *slot = (self.taken % 100) as i16;
            }
            Batch {
                missed: None,
                taken: taken as usize,
                first,
            }
        }

        fn set_rate(&mut self, rate_mhz: NonZeroU32) {
            self.dated_by = rate_mhz;
        }
    }

    #[test]
    fn a_measured_rate_stands_in_a_new_table_that_later_samples_name() {
        let sensor = Fast {
            taken: 0,
            dated_by: RATE,
        };
        let mut station = station(None, (sensor, Steps(vec![Ok(20.0)])));
        let mut told = Vec::new();
        for round in 0..3_000_u64 {
            station.handle_time(NodeTicks(round * 10_000));
            let rate = station.accelerometer.sensor.dated_by;
            if told.last() != Some(&rate) {
                told.push(rate);
            }
        }
        // 12.3 kHz, where 12 kHz were declared.
        assert_eq!(told, [RATE, NonZeroU32::new(12_300_000).unwrap()]);
        assert_eq!(station.node.revision(), 2);
    }
}
