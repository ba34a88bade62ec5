//! A station and its agent.

use super::*;
use crate::channel::{FORMING_SAMPLES, Forming};
use crate::link::Wiring;
use crate::outbox::{ESSENTIAL_MIN, WAVEFORM_MIN};
use crate::sensor::current_loop::{CurrentLoop, LoopScale};
use crate::sensor::iis3dwb::{self, Iis3dwb};
use crate::sensor::record::{Player, Record, header};
use crate::sensor::tachometer::{Tachometer, Wheel};
use crate::sensor::test_bus::{Part, Shared};
use crate::sensor::thermometer::Thermometer;
use crate::sensor::{Absent, Axis, Fitted};
use crate::settings::LineSpeed;
use core::cell::RefCell;
use core::num::NonZeroU16;
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
    fn read(&mut self, _now: NodeTicks) -> Reading {
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
fn station<A: Sensor<AXES>, const AXES: usize, const SLOW: usize>(
    former: Option<LastWords>,
    accelerometer: (Accelerometer, A),
    slow: [Slow<'static>; SLOW],
) -> Station<'static, A, AXES, SLOW> {
    let identity = Identity {
        node: NodeId::new(7).unwrap(),
        boot: BootId::new(1, 1),
        address: LineAddress(1),
        wiring: Wiring::Own,
        reset: last_words::reset_cause(former),
    };
    let forming: Vec<Forming> = vec![[0; FORMING_SAMPLES]; AXES];
    let memory = Memory {
        essential: vec![0; 4 * ESSENTIAL_MIN].leak(),
        waveform: vec![0; 8 * WAVEFORM_MIN].leak(),
        forming: forming.leak(),
        line: vec![0; LINE_FRAME_MAX].leak(),
    };
    Station::new(identity, former, accelerometer, slow, memory, NodeTicks(0)).unwrap()
}

/// A thermometer that tells this, and the last of it for ever.
fn housing(readings: Vec<Reading>) -> Slow<'static> {
    (Quantity::HOUSING, Box::leak(Box::new(Steps(readings))))
}

/// A frame as the agent has it.
struct Heard {
    ticks: NodeTicks,
    payload: Said,
}

/// What of a payload outlives its frame.
#[derive(PartialEq, Debug)]
enum Said {
    Table(Vec<Unit>),
    /// Channel, index of the first, samples.
    Samples(usize, u64, Vec<i16>),
    Reading(usize, Reading),
    Features(usize),
    Event(Event),
    Status(ResetCause, Vec<(u64, u64)>),
    Else,
}

impl Said {
    fn of(payload: Payload<'_>) -> Self {
        match payload {
            Payload::Describe(table) => {
                Self::Table(table.channels.iter().map(|channel| channel.unit).collect())
            }
            Payload::Waveform(waveform) => {
                let samples = waveform.samples().unwrap().collect();
                Self::Samples(waveform.channel.index(), waveform.first_sample, samples)
            }
            Payload::Scalar(scalar) => Self::Reading(scalar.channel.index(), scalar.readings[0]),
            Payload::Feature(report) => Self::Features(report.channel.index()),
            Payload::Event(event) => Self::Event(event),
            Payload::Status(status) => {
                let lost = |drops: &[(_, u64)]| drops.iter().map(|(_, count)| count).sum();
                let channels = status.channels.iter();
                let channels = channels.map(|channel| (channel.produced, lost(&channel.drops)));
                Self::Status(status.reset, channels.collect())
            }
            _ => Self::Else,
        }
    }
}

/// What an agent that polls every 10 ms hears of a station in `seconds`, while `world` goes on.
fn listen<A: Sensor<AXES>, const AXES: usize, const SLOW: usize>(
    station: &mut Station<'_, A, AXES, SLOW>,
    seconds: u64,
    mut world: impl FnMut(NodeTicks),
) -> Vec<Heard> {
    let (mut heard, mut upto) = (Vec::new(), [0; 2]);
    let mut buffer = [0; LINE_FRAME_MAX];
    let mut decoder = Decoder::new(&mut buffer);
    for round in 0..seconds * 100 {
        let now = NodeTicks(round * READ_MICROS);
        world(now);
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
                    heard.push(Heard {
                        ticks: header.ticks,
                        payload: Said::of(frame.payload().unwrap()),
                    });
                }
            }
        }
    }
    heard
}

/// What is heard of a station with a record of 12,000 samples, each its own number, and a thermometer.
fn heard(readings: Vec<Reading>, former: Option<LastWords>, seconds: u64) -> Vec<Heard> {
    let bytes: Vec<u8> = (0..12_000_i16).flat_map(i16::to_le_bytes).collect();
    let mut memory = header(RATE, 16.0, &bytes).to_vec();
    memory.extend(bytes);
    let player = Player::new(Record::parse(&memory).unwrap(), NodeTicks(0));
    listen(
        &mut station(former, (WHAT, player), [housing(readings)]),
        seconds,
        |_| {},
    )
}

/// Each event that matters, on which channel and when.
fn told(heard: &[Heard]) -> Vec<(u64, EventKind, Option<usize>)> {
    let events = heard.iter().filter_map(|frame| match &frame.payload {
        Said::Event(event) if event.severity > Severity::Info => {
            Some((frame.ticks.0, event.kind, event.channel.map(ChannelId::index)))
        }
        _ => None,
    });
    events.collect()
}

/// The readings of a channel.
fn readings(heard: &[Heard], channel: usize) -> Vec<Reading> {
    let readings = heard.iter().filter_map(|frame| match frame.payload {
        Said::Reading(of, reading) if of == channel => Some(reading),
        _ => None,
    });
    readings.collect()
}

#[test]
fn waveforms_readings_and_a_hot_housing_reach_the_agent() {
    let mut steps: Vec<Reading> = vec![Ok(40.0); 3];
    steps.extend([Ok(95.0); 4]);
    steps.push(Err(NoData::BusError));
    let heard = heard(steps, None, 9);
    let mut frames = 0;
    for frame in &heard {
        if let Said::Samples(0, first, samples) = &frame.payload {
            frames += 1;
            for (index, sample) in (*first..).zip(samples) {
                assert_eq!(u64::from(sample.unsigned_abs()), index % 12_000);
            }
        }
    }
    // Nine seconds but for what is still forming, and in as few frames as packing makes of it.
    assert!(
        (100..=9 * 12_000 / FORMING_SAMPLES + 1).contains(&frames),
        "{frames}"
    );
    assert_eq!(readings(&heard, 1).len(), 9);
    assert_eq!(told(&heard), [(5_000_000, EventKind::LimitExceeded, Some(1))]);
}

#[test]
fn a_panic_and_its_stack_are_told_before_anything_else_of_the_next_life() {
    let stack = last_words::Stack {
        used: 30_000,
        room: 40_000,
    };
    let former = LastWords::alive(None)
        .ending(last_words::End::Panic, 123)
        .with_stack(stack);
    let heard = heard(vec![Ok(20.0)], Some(former), 2);
    let position = |is_it: &dyn Fn(&Said) -> bool| heard.iter().position(|frame| is_it(&frame.payload));
    let panic = position(
        &|said| matches!(said, Said::Event(event) if event.kind == EventKind::Panicked && event.value == 123.0),
    );
    let stack = position(
        &|said| matches!(said, Said::Event(event) if event.kind == EventKind::StackUsed && event.value == 30_000.0),
    );
    let sample = position(&|said| matches!(said, Said::Samples(..) | Said::Reading(..)));
    assert!(panic.is_some() && panic < stack, "{panic:?} {stack:?}");
    assert!(stack < sample, "{stack:?} {sample:?}");
    let reset = heard.iter().find_map(|frame| match frame.payload {
        Said::Status(reset, _) => Some(reset),
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
    fn read(&mut self, now: NodeTicks, out: &mut [[i16; 1]]) -> Batch {
        let first = Schedule::new(NodeTicks(0), self.dated_by).ticks_of(self.taken);
        let taken = ((now.0 * 123 / 10_000) - self.taken).min(out.len() as u64);
        for slot in &mut out[..taken as usize] {
            self.taken += 1;
            *slot = [(self.taken % 100) as i16];
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
    let mut station = station(None, (WHAT, sensor), [housing(vec![Ok(20.0)])]);
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

/// What a board has, as registers: an accelerometer, a thermometer, a converter on a current loop, and a shaft.
struct Bench {
    accelerometer: RefCell<iis3dwb::model::Part>,
    thermometer: RefCell<Part>,
    converter: RefCell<Part>,
    tachometer: RefCell<Tachometer>,
}

impl Bench {
    /// A housing of 25 degrees, 12 mA in 150 ohms, a shaft that never turned.
    fn new() -> &'static Self {
        Box::leak(Box::new(Self {
            accelerometer: RefCell::new(iis3dwb::model::Part::new()),
            thermometer: RefCell::new(Part::of_words(0x48, &[(0, 25 << 8)])),
            converter: RefCell::new(Part::of_words(0x49, &[(0, 14_400)])),
            tachometer: RefCell::new(Tachometer::new(Wheel {
                pulses: NonZeroU16::MIN,
                highest_hz: 200.0,
                slowest_hz: 0.5,
            })),
        }))
    }

    /// The node that has them, on a line of 921,600 baud.
    fn station(
        &'static self,
    ) -> Station<'static, Fitted<iis3dwb::Axes<iis3dwb::model::Shared<'static>, 3>>, 3, 3> {
        let accelerometer = iis3dwb::model::Shared(&self.accelerometer);
        let part = match Iis3dwb::new(accelerometer, iis3dwb::Range::G16, &mut iis3dwb::model::NoDelay) {
            Ok(part) => Fitted::Present(iis3dwb::Axes::new(part, [Axis::Z, Axis::X, Axis::Y], DWB_RATE)),
            Err(_) => Fitted::Absent(Absent::new(DWB_RATE, NodeTicks(0))),
        };
        let what = Accelerometer {
            rate_mhz: DWB_RATE,
            ..WHAT
        };
        let scale = LoopScale {
            at_4_ma: 0.0,
            at_20_ma: 100.0,
        };
        let slow: [Slow<'static>; 3] = [
            (
                Quantity::HOUSING,
                Box::leak(Box::new(Thermometer::new(Shared(&self.thermometer)))),
            ),
            (
                Quantity::current(100.0),
                Box::leak(Box::new(CurrentLoop::new(Shared(&self.converter), scale).ok())),
            ),
            (Quantity::SPEED, Box::leak(Box::new(Shaft(&self.tachometer)))),
        ];
        let mut station = station(None, (what, part), slow);
        station.node().set_line_speed(LineSpeed::BytesPerSecond(92_160));
        station.node().plan_for_line();
        station
    }

    /// Ten milliseconds of vibration, z counting, and of a shaft that turns at 1,500 rpm.
    fn go_on(&self, now: NodeTicks) {
        let sampled = |micros: u64| micros * u64::from(DWB_RATE.get()) / 1_000_000_000;
        let since = now.0.saturating_sub(READ_MICROS);
        let samples = (sampled(since)..sampled(now.0)).map(|index| {
            let index = (index % 10_000) as i16;
            [index / 2, -index, index]
        });
        self.accelerometer.borrow_mut().sample(samples);
        let pulses = (since..now.0).filter(|micros| micros.is_multiple_of(40_000));
        pulses.for_each(|pulse| self.tachometer.borrow_mut().handle_pulse(NodeTicks(pulse)));
    }
}

const DWB_RATE: NonZeroU32 = NonZeroU32::new(iis3dwb::RATE_MHZ).unwrap();

/// A tachometer that somebody else turns.
struct Shaft(&'static RefCell<Tachometer>);

impl Gauge for Shaft {
    fn read(&mut self, now: NodeTicks) -> Reading {
        self.0.borrow_mut().read(now)
    }
}

#[test]
fn three_axes_a_thermometer_a_current_loop_and_a_tachometer_are_channels_of_one_node() {
    let bench = Bench::new();
    let heard = listen(&mut bench.station(), 4, |now| bench.go_on(now));
    let units = heard.iter().find_map(|frame| match &frame.payload {
        Said::Table(units) => Some(units.clone()),
        _ => None,
    });
    let expected = [
        Unit::StandardGravity,
        Unit::StandardGravity,
        Unit::StandardGravity,
        Unit::DegreeCelsius,
        Unit::Ampere,
        Unit::RevolutionPerMinute,
    ];
    assert_eq!(units.as_deref(), Some(&expected[..]));
    // The line carries one axis of 26.7 kHz, and the features of the other two.
    let (mut next, mut features) = (0, [0; 3]);
    for frame in &heard {
        match &frame.payload {
            Said::Samples(channel, first, samples) => {
                assert_eq!((*channel, *first), (0, next));
                let mut counted = samples.iter().zip(next..);
                assert!(counted.all(|(z, index)| u64::from(z.unsigned_abs()) == index % 10_000));
                next += samples.len() as u64;
            }
            Said::Features(channel) => features[*channel] += 1,
            _ => {}
        }
    }
    assert!(next > 100_000, "{next}");
    assert_eq!(features, [0, 3, 3]);
    assert_eq!(readings(&heard, 3), [Ok(25.0); 4]);
    assert!(
        readings(&heard, 4)
            .iter()
            .all(|reading| reading.is_ok_and(|amperes| (amperes - 50.0).abs() < 0.01))
    );
    let speeds = readings(&heard, 5);
    assert_eq!(speeds[0], Err(NoData::NotReady));
    assert_eq!(speeds[1..], [Ok(1_500.0); 3]);
    assert_eq!(told(&heard), []);
}

#[test]
fn an_instrument_that_falls_silent_is_told_and_the_others_go_on() {
    let bench = Bench::new();
    let heard = listen(&mut bench.station(), 8, |now| {
        bench.converter.borrow_mut().is_there = now.0 < 3_500_000;
        bench.go_on(now);
    });
    assert_eq!(told(&heard), [(6_000_000, EventKind::SensorLost, Some(4))]);
    assert_eq!(readings(&heard, 4)[4..], [Err(NoData::BusError); 4]);
    assert_eq!(readings(&heard, 3), [Ok(25.0); 8]);
    assert_eq!(readings(&heard, 5)[1..], [Ok(1_500.0); 7]);
}

#[test]
fn instruments_that_do_not_answer_at_boot_are_told_booked_and_no_reason_to_stop() {
    let bench = Bench::new();
    bench.accelerometer.borrow_mut().is_dead = true;
    bench.converter.borrow_mut().is_there = false;
    let heard = listen(&mut bench.station(), 5, |now| bench.go_on(now));
    let mut lost: Vec<_> = told(&heard).into_iter().map(|(_, kind, at)| (at, kind)).collect();
    lost.sort();
    let expected = [0, 1, 2, 4].map(|channel| (Some(channel), EventKind::SensorLost));
    assert_eq!(lost, expected);
    let status = heard.iter().rev().find_map(|frame| match &frame.payload {
        Said::Status(_, channels) => Some(channels.clone()),
        _ => None,
    });
    let status = status.unwrap();
    for (produced, lost) in &status[..3] {
        assert!(*produced > 100_000);
        assert_eq!(produced, lost);
    }
    assert_eq!(readings(&heard, 3), [Ok(25.0); 5]);
}
