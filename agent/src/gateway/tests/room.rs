//! A spool without room: what is evicted, what stays with the nodes, and what is told all the same.

use super::*;

#[test]
fn a_directory_is_evicted_after_its_tombstone_is_on_disk_and_the_holding_drops_it_after_the_acknowledgement()
{
    let mut world = World::fresh();
    for sequence in 0..3 {
        world.waveform(sequence);
        world.advance(AGE);
        world.flush();
    }
    let blocks: Vec<BlockKey> = world
        .disk
        .keys()
        .filter(|key| key.epoch == WAVEFORMS)
        .copied()
        .collect();
    let evicting = Reply::Evicting(4, blocks[..2].to_vec());
    world.gateway.handle_spool(evicting, now(world.mono));
    world.pump();
    assert!(world.evicted.is_empty());
    world.flush();
    assert_eq!(world.evicted, [4]);
    let (key, tombstone) = world.last_tombstone();
    assert_eq!(
        (tombstone.epoch, tombstone.blocks),
        (WAVEFORMS, Range::new(0, 2).unwrap())
    );
    assert_eq!(
        (tombstone.cause, tombstone.samples[0].3),
        (LossCause::SpoolEvicted, 200)
    );
    assert_eq!(tombstone.frames[0].3[..], [Range::new(0, 2).unwrap()]);

    world.connect();
    world.ack(0);
    assert!(world.published.iter().all(|sent| !blocks[..2].contains(sent)));
    let waveforms = &world.hellos[0].epochs[1];
    assert_eq!(
        waveforms.held[..],
        [Range::new(0, 3).unwrap()],
        "held until the tombstone is acknowledged"
    );
    world.ack(key.sequence + 1);
    world.advance(Duration::from_secs(1));
    world.flush();
    let last = world.last_essential();
    let Body::Status(mut records) = block::Block::parse(&last.bytes).unwrap().decode().unwrap() else {
        panic!("a status expected");
    };
    let channel = records.next().unwrap().unwrap().channels[0];
    assert_eq!(channel.at_agent, Range::new(200, 300));
}

#[test]
fn without_room_waveforms_stay_with_their_nodes_and_come_when_there_is_some() {
    let mut world = World::fresh();
    let room = |world: &mut World, decision| {
        world
            .gateway
            .handle_spool(Reply::Room(Usage::default(), decision), now(world.mono));
    };
    room(&mut world, Decision::StopWaveformIntake);
    world.waveform(0);
    world.node(&describe(), Class::Essential, 0);
    assert_eq!(world.metrics.frames_declined.get(), 1);
    assert!(!world.gateway.is_congested());
    room(&mut world, Decision::StopIntake);
    assert!(world.gateway.is_congested());
    room(&mut world, Decision::Keep);
    assert!(!world.gateway.is_congested());
    world.waveform(0);
    world.advance(AGE);
    world.flush();
    assert_eq!(world.polls.last().unwrap().upto, [1, 1]);
    let steps = |decision: Decision| Metrics::step(&world.metrics.retention_steps, decision.label()).get();
    assert_eq!(steps(Decision::StopWaveformIntake), 1);
    assert_eq!(steps(Decision::StopIntake), 1);
}

/// Samples at 1 kHz of a channel that its table explains, a tenth of a second per frame.
fn table() -> Payload<'static> {
    let channel = trunnion_common::frame::ChannelDescriptor {
        unit: trunnion_common::quantity::Unit::StandardGravity,
        scale: 0.5,
        rate_mhz: 1_000_000,
        range: 16.0,
        band_low_hz: 1.0,
        band_high_hz: 400.0,
    };
    Payload::Describe(trunnion_common::frame::Describe {
        revision: 1,
        channels: [channel].into_iter().collect(),
    })
}

fn alarm(repeats: u32) -> Payload<'static> {
    Payload::Event(trunnion_common::frame::Event {
        severity: trunnion_common::frame::Severity::Alarm,
        kind: trunnion_common::frame::EventKind::LimitExceeded,
        channel: ChannelId::new(0),
        repeats,
        value: 7.5,
    })
}

impl World {
    /// What was computed at intake and is on disk: the ranges of samples.
    fn derived(&self) -> Vec<(u64, u64)> {
        let mut ranges = Vec::new();
        for block in self.disk.values() {
            if let Body::Derived(records) = block::Block::parse(&block.bytes).unwrap().decode().unwrap() {
                ranges.extend(
                    records
                        .map(Result::unwrap)
                        .map(|record| (record.first_sample, record.first_sample + u64::from(record.count))),
                );
            }
        }
        ranges
    }

    /// The alarms told of in blocks on disk: their counts.
    fn advisories(&self) -> Vec<(BlockKey, u32)> {
        let mut told = Vec::new();
        for (key, block) in &self.disk {
            if let Body::Advisory(records) = block::Block::parse(&block.bytes).unwrap().decode().unwrap() {
                told.extend(
                    records
                        .map(Result::unwrap)
                        .map(|advisory| (*key, advisory.repeats)),
                );
            }
        }
        told
    }
}

#[test]
fn features_are_in_the_essential_commit_of_each_second() {
    let mut world = World::fresh();
    world.node(&table(), Class::Essential, 0);
    for sequence in 0..25 {
        world.waveform(sequence);
        world.advance(Duration::from_millis(100));
    }
    world.advance(Duration::from_secs(1));
    let commits = world.unflushed.iter();
    let with_features = commits.filter(|commit| {
        let kinds = commit.blocks.iter().map(|block| block.bytes[21]);
        kinds.clone().any(|kind| kind == Kind::Derived as u8) && commit.class == Class::Essential
    });
    assert_eq!(with_features.count(), 2);
    world.flush();
    assert_eq!(world.derived(), [(0, 1_000), (1_000, 2_000)]);
    assert_eq!(world.metrics.derived_records.get(), 2);
    world.gateway.handle_shutdown(now(world.mono));
    world.pump();
    world.flush();
    assert_eq!(
        world.derived()[2..],
        [(2_000, 2_500)],
        "a stop writes what there is"
    );
}

#[test]
fn waveforms_are_removed_only_after_their_features_are_on_disk() {
    let mut world = World::fresh();
    world.node(&table(), Class::Essential, 0);
    for sequence in 0..15 {
        world.waveform(sequence);
        world.advance(Duration::from_millis(20));
    }
    world.advance(AGE);
    world.flush();
    let waveforms = world.disk.keys().filter(|key| key.epoch == WAVEFORMS).copied();
    let blocks: Vec<BlockKey> = waveforms.collect();
    world
        .gateway
        .handle_spool(Reply::Evicting(1, blocks), now(world.mono));
    world.pump();
    assert!(world.evicted.is_empty(), "before the flush nothing goes");
    world.flush();
    assert_eq!(
        (world.evicted.as_slice(), world.derived()),
        ([1].as_slice(), vec![(0, 1_000), (1_000, 1_500)])
    );
}

#[test]
fn features_are_thinned_when_essentials_take_much_of_the_room() {
    let mut world = World::fresh();
    world.node(&table(), Class::Essential, 0);
    let room = |world: &mut World, essential_bytes| {
        let usage = Usage {
            essential_bytes,
            free_bytes: 0,
            ..Usage::default()
        };
        world
            .gateway
            .handle_spool(Reply::Room(usage, Decision::Keep), now(world.mono));
    };
    world.waveform(0);
    room(&mut world, 1 << 20);
    world.waveform(1);
    room(&mut world, 0);
    world.waveform(2);
    world.advance(Duration::from_secs(2));
    world.flush();
    assert_eq!(world.derived(), [(0, 100)]);
    let steps = |plan: DerivedPlan| Metrics::step(&world.metrics.retention_steps, plan.label()).get();
    assert_eq!((steps(DerivedPlan::Stop), steps(DerivedPlan::Full)), (1, 0));
}

#[test]
fn alarms_are_heard_and_told_when_nothing_else_is_taken_in() {
    let mut world = World::fresh();
    world.pump();
    world.connect();
    world.ack(0);
    world.gateway.handle_spool(
        Reply::Room(Usage::default(), Decision::StopIntake),
        now(world.mono),
    );
    for _ in 0..3 {
        // The node says it again until it is acknowledged, which it is not.
        world.node(&alarm(2), Class::Essential, 0);
    }
    assert_eq!(world.metrics.frames_declined.get(), 3);
    assert!(!world.alarms.is_empty(), "kept in their own place");
    world.flush();
    let told = world.advisories();
    assert_eq!(told.iter().map(|(_, repeats)| *repeats).collect::<Vec<_>>(), [2]);
    assert_eq!(world.published.last(), Some(&told[0].0));
    world.node(&alarm(5), Class::Essential, 1);
    world.advance(Duration::from_secs(2));
    world.flush();
    assert_eq!(world.advisories().len(), 1, "one block is under way");
    world.ack(told[0].0.sequence + 1);
    world.advance(Duration::from_secs(1));
    world.flush();
    assert_eq!(world.advisories().last().unwrap().1, 7);
    assert_eq!(
        world.polls.last().unwrap().upto,
        [0, 0],
        "the node keeps its frames"
    );
    // Room again: the frames go their normal way, and are not counted twice.
    world
        .gateway
        .handle_spool(Reply::Room(Usage::default(), Decision::Keep), now(world.mono));
    world.node(&alarm(2), Class::Essential, 0);
    world.node(&alarm(5), Class::Essential, 1);
    world.advance(Duration::from_secs(2));
    world.flush();
    assert_eq!(world.polls.last().unwrap().upto, [2, 0]);
    assert_eq!(
        (
            world.advisories().last().unwrap().1,
            world.metrics.alarm_events.get()
        ),
        (7, 2)
    );
}

#[test]
fn alarms_that_the_disk_refuses_are_tried_again_and_outlive_a_restart() {
    let mut world = World::fresh();
    world.refuses_alarms = true;
    world.node(&alarm(1), Class::Essential, 0);
    world.advance(Duration::from_secs(3));
    assert!(world.alarms.is_empty() && world.metrics.alarms_refused.get() >= 2);
    world.refuses_alarms = false;
    world.advance(Duration::from_secs(2));
    assert!(!world.alarms.is_empty());
    // The chain never took the block: what the file holds is told by the next agent.
    let mut next = World::fresh();
    next.gateway
        .handle_spool(Reply::Alarms(world.alarms), now(next.mono));
    next.advance(Duration::from_secs(1));
    next.flush();
    assert_eq!(next.advisories().len(), 1);
}
