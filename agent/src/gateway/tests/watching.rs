//! A channel that is watched at the gateway, while nobody else hears of it.

use super::*;
use trunnion_common::feature::FeatureKind;
use trunnion_common::frame::{ChannelDescriptor, Describe, READINGS_MAX, Scalar};
use trunnion_common::level::{Level, Persistence};
use trunnion_common::monitor::{Settings, Watched};
use trunnion_common::quantity::Unit;
use trunnion_common::watch::{LocalCondition, SlowWatch, Watch};

pub(super) fn record() -> Record {
    let watched = Watched {
        kind: FeatureKind::Rms,
        absolute: Some([0.5, 2.0]),
        relative: None,
    };
    let watch = Watch {
        settings: Settings {
            watched: [watched].into_iter().collect(),
            ..Settings::default()
        },
        gain: 1.0,
        speed_hz: None,
        baselines: Default::default(),
        operation: Default::default(),
        slow: None,
    };
    let name = (NodeId::new(9).unwrap(), ChannelId::new(0).unwrap());
    Record {
        watches: [(name, watch)].into_iter().collect(),
        ..Record::default()
    }
}

fn table(unit: Unit, rate_mhz: u32) -> Payload<'static> {
    let channel = ChannelDescriptor {
        unit,
        scale: 0.001,
        rate_mhz,
        range: 16.0,
        band_low_hz: 1.0,
        band_high_hz: 40.0,
    };
    Payload::Describe(Describe {
        revision: 1,
        channels: [channel].into_iter().collect(),
    })
}

/// A second of a square wave of 1 g.
fn second(world: &mut World, sequence: u64) {
    let data: Vec<u8> = (0..100)
        .flat_map(|n: u64| (if n.is_multiple_of(2) { 1_000_i16 } else { -1_000 }).to_le_bytes())
        .collect();
    let payload = Payload::Waveform(Waveform {
        revision: 1,
        channel: ChannelId::new(0).unwrap(),
        first_sample: 100 * sequence,
        count: 100,
        packing: Packing::I16,
        data: &data,
    });
    world.node(&payload, Class::Waveform, sequence);
}

fn told(world: &World) -> Vec<LocalCondition> {
    let mut told = Vec::new();
    for block in world.disk.values() {
        if let Body::Condition(records) = block::Block::parse(&block.bytes).unwrap().decode().unwrap() {
            told.extend(records.map(Result::unwrap));
        }
    }
    told
}

#[test]
fn an_advisory_is_shown_at_once_and_on_disk_with_the_next_flush_without_a_collector() {
    let mut world = World::fresh();
    world.gateway.restore_commands(record());
    world.node(&table(Unit::StandardGravity, 100_000), Class::Essential, 0);
    second(&mut world, 0);
    second(&mut world, 1);
    assert!(world.advised.is_empty());
    let before = world.mono;
    second(&mut world, 2);
    let [(standing, closed)] = &world.advised.clone()[..] else {
        panic!("{:?}", world.advised);
    };
    assert_eq!((standing.len(), standing[0].told.level), (1, Level::Alert));
    assert_eq!((*closed, world.mono), (before, before), "nothing was waited for");
    assert_eq!(world.metrics.advisories_raised.get(), 1);
    world.flush();
    let told = told(&world);
    assert_eq!((told.len(), &told[0]), (1, &standing[0].told));
}

#[test]
fn a_temperature_over_its_limit_is_shown_with_the_reading_that_completes_its_window() {
    let mut record = record();
    for watch in record.watches.values_mut() {
        watch.settings.watched[0] = Watched {
            kind: FeatureKind::Mean,
            absolute: Some([80.0, 95.0]),
            relative: None,
        };
        watch.settings.persistence = Persistence::new(1, 1).unwrap();
        watch.slow = Some(SlowWatch {
            unit: Unit::DegreeCelsius,
            below: None,
            size_ns: 10_000_000_000,
            offset_ns: 0,
            coverage_min_permille: 950,
        });
    }
    let mut world = World::fresh();
    world.gateway.restore_commands(record);
    world.node(&table(Unit::DegreeCelsius, 1_000), Class::Essential, 0);
    // As many as a frame holds: wherever windows begin, two are whole.
    let scalar = Scalar {
        revision: 1,
        channel: ChannelId::new(0).unwrap(),
        first_sample: 0,
        readings: [Ok(88.5); READINGS_MAX].into_iter().collect(),
    };
    let before = world.mono;
    world.node(&Payload::Scalar(scalar), Class::Essential, 1);
    let [(standing, closed)] = &world.advised.clone()[..] else {
        panic!("{:?}", world.advised);
    };
    assert_eq!((standing.len(), standing[0].told.level), (1, Level::Alert));
    assert_eq!((*closed, world.mono), (before, before), "nothing was waited for");
}
