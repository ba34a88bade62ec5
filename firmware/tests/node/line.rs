//! What a node says, when, and what becomes of it on its way.

use super::world::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use trunnion_common::codec::LINE_FRAME_MAX;
use trunnion_common::frame::{
    ChannelPlan, Class, EventKind, Header, Payload, Poll, RawFrame, Settings, TimeReply, TimeRequest, Trigger,
};
use trunnion_common::id::{BootId, LineAddress, MasterId, NodeId};
use trunnion_common::sample::LossCause;
use trunnion_common::shared_line::{END_OF_TURN, SLOTS, slot_micros};
use trunnion_common::time::NodeTicks;
use trunnion_firmware::channel::WAVEFORM_SAMPLES;
use trunnion_firmware::link::Wiring;
use trunnion_firmware::outbox::{ESSENTIAL_MIN, WAVEFORM_MIN};
use trunnion_firmware::sensor::{Batch, Missed, Sensor};

#[derive(Clone, Debug)]
enum Step {
    Produce(u64),
    Read(u64),
    Miss(u64),
    Plan(ChannelPlan),
    Pass(u64),
    AgentAway(u64),
    AskTime,
    Line { loss: u8, repetition: u8 },
}

fn plan() -> impl Strategy<Value = ChannelPlan> {
    prop_oneof![
        Just(ChannelPlan::Off),
        Just(ChannelPlan::Raw),
        (16u32..3_000).prop_map(|window| ChannelPlan::Features { window }),
        (16u32..3_000, 1u32..2_000).prop_map(|(window, samples)| ChannelPlan::Scheduled {
            window,
            samples,
            every_s: 1,
        }),
        (16u32..3_000, 1u32..2_000, -1_000i32..1_000).prop_map(|(window, samples, low_milli)| {
            ChannelPlan::Triggered {
                window,
                samples,
                every_s: 1,
                trigger: Trigger {
                    channel: VIBRATION,
                    low_milli,
                    high_milli: i32::MAX,
                },
            }
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u64..3_000).prop_map(Step::Produce),
        2 => (1u64..80).prop_map(Step::Read),
        1 => (1u64..500).prop_map(Step::Miss),
        2 => plan().prop_map(Step::Plan),
        4 => (20u64..1_500).prop_map(Step::Pass),
        1 => (20u64..12_000).prop_map(Step::AgentAway),
        1 => Just(Step::AskTime),
        1 => (0u8..100, 0u8..100).prop_map(|(loss, repetition)| Step::Line { loss, repetition }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever happens, each sample arrives as it was or is counted as dropped, and in a small outbox
    /// as in a large one the figures always add up.
    #[test]
    fn everything_produced_is_delivered_or_counted(
        steps in prop::collection::vec(step(), 1..40),
        room in 0usize..60_000,
        seed in 1u64..,
    ) {
        let wiring = if seed % 2 == 0 { Wiring::Own } else { Wiring::Shared };
        let mut world = World::new(node_on(wiring, ESSENTIAL_MIN + room / 8, WAVEFORM_MIN + room));
        world.random = seed;
        world.node.restore_settings(None).unwrap();
        let mut missed = 0;
        for step in steps {
            match step {
                Step::Produce(count) => world.produce(count),
                Step::Read(count) => world.read(count),
                Step::Miss(count) => {
                    missed += if world.plan == ChannelPlan::Off { 0 } else { count };
                    world.node.handle_missed(VIBRATION, count, Missed::Overrun).unwrap();
                }
                Step::Plan(plan) => {
                    let plans = heapless::Vec::from_slice(&[plan]).unwrap();
                    world.tell(&Payload::Settings(Settings { command: 1, plans }));
                    if world.node.poll_settings().is_some() {
                        world.node.handle_settings_stored(world.ticks(), true);
                        world.plan = plan;
                    }
                }
                Step::Pass(millis) => world.pass(millis),
                Step::AgentAway(millis) => {
                    let master = world.master.take();
                    world.pass(millis);
                    world.master = master;
                }
                Step::AskTime => world.tell(&Payload::TimeRequest(TimeRequest { request: 1 })),
                Step::Line { loss, repetition } => (world.loss, world.repetition) = (loss, repetition),
            }
        }
        world.drain();
        let status = world.agent.last_status.clone().expect("a status each second");
        for channel in [VIBRATION, TEMPERATURE] {
            let account = world.node.account(channel).unwrap();
            // A frame may arrive and still be dropped before its acknowledgement comes; never the reverse.
            let never_came = account.produced - world.delivered(channel);
            prop_assert!(never_came <= account.dropped_total(), "channel {}: {:?}", channel, account);
            let reported = &status.channels[channel.index()];
            prop_assert_eq!(reported.produced, account.produced);
            prop_assert_eq!(reported.held_from, account.produced);
            prop_assert_eq!(&reported.drops, &account.dropped);
            let overruns = account.dropped.iter().find(|(cause, _)| *cause == LossCause::SensorOverrun);
            let expected = if channel == VIBRATION { missed } else { 0 };
            prop_assert_eq!(overruns.map_or(0, |(_, count)| *count), expected);
        }
    }
}

#[test]
fn a_lossy_line_with_a_large_outbox_loses_nothing() {
    let mut world = World::new(node(ESSENTIAL_MIN + 20_000, 1 << 20));
    (world.loss, world.repetition) = (60, 60);
    for _ in 0..50 {
        world.produce(2_400);
        world.read(1);
        world.pass(200);
    }
    world.drain();
    for (channel, produced) in [(VIBRATION, 120_000), (TEMPERATURE, 50)] {
        let account = world.node.account(channel).unwrap();
        assert_eq!((account.produced, account.acknowledged), (produced, produced));
        assert_eq!(world.delivered(channel), produced);
    }
}

#[test]
fn on_a_shared_line_a_node_answers_who_is_there_once_and_speaks_when_it_is_polled() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.produce(2_000);
    world.carry();
    assert_eq!(world.agent.order, []);
    let discover = Header {
        node: NodeId::new(1).unwrap(),
        boot: BootId::from_u64(0),
        ..header_to(LineAddress::BROADCAST, BOOT)
    };
    let question = line_bytes(&discover, &Payload::Discover);
    world.node.handle_bytes(world.ticks(), &question);
    let mut out = [0; 4 * LINE_FRAME_MAX];
    let mut length = 0;
    while length == 0 {
        world.now = world.node.poll_timeout().expect("a slot").0;
        assert!(world.now < u64::from(SLOTS) * slot_micros(960));
        length = world.node.poll_transmit(world.ticks(), &mut out);
    }
    let answer = frames(&out[..length]);
    let answer = RawFrame::parse(&answer[0]).unwrap();
    assert_eq!(
        (answer.header().node, answer.payload()),
        (node_id(), Ok(Payload::Discover))
    );
    assert_eq!(world.node.poll_transmit(world.ticks(), &mut out), 0);
    world.pass(100);
    assert_eq!(world.agent.events, [(EventKind::Boot, 1)]);
    // Its master knows it, and another node's answer is no question.
    world.node.handle_bytes(world.ticks(), &question);
    world.pass(5_000);
    let asked = |(_, _, kind): &(Class, u64, String)| kind == "Discover";
    assert!(!world.agent.order.iter().any(asked), "{:?}", world.agent.order);
}

#[test]
fn a_turn_ends_with_its_mark_and_then_the_node_is_silent() {
    let mut world = World::new(node(ESSENTIAL_MIN, 20 * WAVEFORM_MIN));
    world.produce(12_000);
    let mut out = [0; LINE_FRAME_MAX];
    let mut turn = |world: &mut World, credit| {
        let (address, master, upto) = (LineAddress(1), MasterId(1), world.agent.flushed);
        world.tell(&Payload::Poll(Poll {
            address,
            master,
            upto,
            credit,
        }));
        let mut said = Vec::new();
        loop {
            let length = world.node.poll_transmit(world.ticks(), &mut out);
            if length == 0 {
                return said;
            }
            said.extend(&out[..length]);
        }
    };
    let full = turn(&mut world, 5_000);
    assert!((3_900..=5_001).contains(&full.len()), "{}", full.len());
    assert!(full.ends_with(&[0, END_OF_TURN]));
    assert_eq!(
        turn(&mut world, 10),
        [END_OF_TURN],
        "not even the smallest frame fits"
    );
    let rest = turn(&mut world, 1 << 20);
    assert!(rest.ends_with(&[0, END_OF_TURN]));
    assert_eq!(turn(&mut world, 1 << 20), [END_OF_TURN]);
    world.now += 500_000;
    world.produce(12_000);
    assert_eq!(
        world.node.poll_transmit(world.ticks(), &mut [0; LINE_FRAME_MAX]),
        0
    );
}

#[test]
fn on_a_line_of_its_own_a_node_announces_itself_until_it_has_a_master() {
    let mut world = World::new(node_on(Wiring::Own, ESSENTIAL_MIN, WAVEFORM_MIN));
    world.master = None;
    world.produce(2_000);
    world.pass(3_010);
    assert_eq!(
        world.agent.order,
        vec![(Class::Essential, 0, "Describe".to_owned()); 4]
    );
    world.master = Some(MasterId(1));
    world.pass(3_000);
    let describes = world.agent.order[4..]
        .iter()
        .filter(|(_, _, kind)| kind == "Describe");
    assert_eq!(
        describes.count(),
        1,
        "the first table is safe, its successor is for the new master"
    );
    // Everything is acknowledged when the master goes: after ten seconds there is a new table to show.
    world.master = None;
    world.pass(9_900);
    let before = world.agent.order.len();
    world.pass(1_200);
    let announced: Vec<&str> = world.agent.order[before..]
        .iter()
        .map(|(_, _, kind)| kind.as_str())
        .collect();
    assert!(announced.len() <= 2 && !announced.is_empty(), "{announced:?}");
}

#[test]
fn what_is_meant_for_another_life_or_address_is_ignored() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    let poll = Payload::Poll(Poll {
        address: LineAddress(1),
        master: MasterId(1),
        upto: [0; 2],
        credit: CREDIT,
    });
    let stranger = Header {
        node: NodeId::new(1).unwrap(),
        ..header_to(LineAddress(1), BOOT)
    };
    for header in [
        stranger,
        header_to(LineAddress(1), BootId::new(2, 77)),
        header_to(LineAddress(9), BOOT),
    ] {
        world
            .node
            .handle_bytes(world.ticks(), &line_bytes(&header, &poll));
        world.carry();
        assert_eq!(world.agent.order, [], "{header:?}");
    }
    world.node.handle_bytes(
        world.ticks(),
        &line_bytes(&header_to(LineAddress(1), BOOT), &poll),
    );
    world.carry();
    assert_ne!(world.agent.order, []);
}

#[test]
fn a_time_reply_is_stamped_when_it_leaves() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.now = 5_000;
    world.tell(&Payload::TimeRequest(TimeRequest { request: 9 }));
    world.now = 300_000_000;
    world.poll_as(MasterId(1));
    world.carry();
    let reply = TimeReply {
        request: 9,
        received: NodeTicks(5_000),
        sent: NodeTicks(300_000_000),
    };
    assert_eq!(world.agent.replies, [reply]);
}

#[test]
fn a_second_master_is_refused_and_reported_once_the_first_goes_on() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.pass(1_000);
    world.agent.events.clear();
    for _ in 0..3 {
        world.poll_as(MasterId(2));
    }
    world.pass(1_000);
    assert_eq!(world.agent.events, [(EventKind::SecondMaster, 3)]);
}

#[test]
fn a_successor_is_obeyed_after_ten_seconds_and_gets_the_table() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.pass(1_000);
    assert_eq!(world.agent.tables.len(), 1);
    world.master = Some(MasterId(2));
    world.pass(9_980);
    assert_eq!(world.agent.tables.len(), 1);
    world.pass(100);
    assert_eq!(world.agent.tables.len(), 2);
    // Taking over is not a conflict.
    assert_eq!(world.agent.events, [(EventKind::Boot, 1)]);
}

#[test]
fn the_oldest_samples_go_first_and_the_table_and_events_stay() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.produce(10 * WAVEFORM_SAMPLES as u64);
    world.read(5_000);
    let kept = world.node.account(VIBRATION).unwrap();
    assert_eq!(kept.held, 2 * WAVEFORM_SAMPLES as u64);
    assert_eq!(
        kept.dropped,
        [(LossCause::OutboxFull, 8 * WAVEFORM_SAMPLES as u64)]
    );
    world.drain();
    assert_eq!((world.agent.tables.len(), world.agent.events.len()), (1, 1));
    for channel in [VIBRATION, TEMPERATURE] {
        let account = world.node.account(channel).unwrap();
        let delivered: Vec<u64> = world
            .agent
            .samples
            .keys()
            .filter(|(c, _)| *c == channel.get())
            .map(|(_, i)| *i)
            .collect();
        let newest: Vec<u64> = (account.dropped_total()..account.produced).collect();
        assert_eq!(delivered, newest, "channel {channel}");
    }
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_not_believed() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.produce(WAVEFORM_SAMPLES as u64);
    world.agent.flushed = [1_000, 1_000];
    world.poll_as(MasterId(1));
    assert_eq!(world.node.account(VIBRATION).unwrap().acknowledged, 0);
    world.agent.flushed = [0, 0];
    world.drain();
    assert_eq!(world.delivered(VIBRATION), WAVEFORM_SAMPLES as u64);
}

#[test]
fn an_hour_without_an_agent_leaves_one_status_and_no_holes() {
    let mut world = World::new(node(ESSENTIAL_MIN + 200_000, WAVEFORM_MIN));
    world.pass(2_000);
    world.master = None;
    for _ in 0..360 {
        world.read(10);
        world.pass(10_000);
    }
    world.drain();
    assert_eq!(
        world.agent.gone[0].difference(&world.agent.received[0]).count(),
        0
    );
    assert_eq!(world.delivered(TEMPERATURE), 3_600);
}

#[test]
fn an_agent_that_never_acknowledges_is_asked_less_and_less_often() {
    let mut world = World::new(node(ESSENTIAL_MIN, 1 << 20));
    world.agent.flush_micros = u64::MAX / 2;
    world.produce(500 * WAVEFORM_SAMPLES as u64);
    let mut times = Vec::new();
    for _ in 0..1_000 {
        world.pass(20);
        let heard = std::mem::take(&mut world.agent.order);
        let waveforms = heard.iter().filter(|(class, ..)| *class == Class::Waveform);
        let numbers: BTreeSet<u64> = waveforms.map(|(_, number, _)| *number).collect();
        if numbers.contains(&0) {
            times.push(world.now / 1_000);
        }
        assert!(
            numbers.last().is_none_or(|number| *number < 270),
            "the window is 256 KiB"
        );
    }
    let waits: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.len() >= 3 && waits.is_sorted(), "{times:?}");
    assert!(
        waits.iter().all(|wait| (2_000..=8_100).contains(wait)),
        "{times:?}"
    );
}

#[test]
fn a_flood_of_requests_costs_no_samples() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.read(10);
    for request in 0..10_000 {
        world.tell(&Payload::TimeRequest(TimeRequest { request }));
    }
    let account = world.node.account(TEMPERATURE).unwrap();
    assert_eq!((account.held, account.dropped_total()), (10, 0));
    world.drain();
    assert_eq!(world.delivered(TEMPERATURE), 10);
}

/// A queue of a sensor that overran once.
struct Overrun {
    next: u64,
    left: usize,
    missed: Option<(u64, Missed)>,
}

impl Sensor for Overrun {
    fn read(&mut self, now: NodeTicks, out: &mut [[i16; 1]]) -> Batch {
        let missed = self.missed.take();
        self.next += missed.map_or(0, |(count, _)| count);
        let taken = out.len().min(self.left);
        for (sample, index) in out[..taken].iter_mut().zip(self.next..) {
            *sample = [value(VIBRATION, index)];
        }
        self.next += taken as u64;
        self.left -= taken;
        Batch {
            missed,
            taken,
            first: now,
        }
    }
}

#[test]
fn a_sensor_is_emptied_and_its_overrun_leaves_a_counted_gap() {
    let mut world = World::new(node(ESSENTIAL_MIN, 100_000));
    world.produce(100);
    let mut sensor = Overrun {
        next: 100,
        left: 1_000,
        missed: Some((50, Missed::Overrun)),
    };
    world.node.sample(NodeTicks(0), VIBRATION, &mut sensor).unwrap();
    world.drain();
    let account = world.node.account(VIBRATION).unwrap();
    assert_eq!((account.produced, account.acknowledged), (1_150, 1_100));
    assert_eq!(account.dropped, [(LossCause::SensorOverrun, 50)]);
    assert!(!world.agent.samples.contains_key(&(0, 149)));
    assert!(world.agent.samples.contains_key(&(0, 150)));
}
