//! A channel that is watched at the gateway, while nobody else hears of it.

use super::*;
use trunnion_common::feature::FeatureKind;
use trunnion_common::frame::{ChannelDescriptor, Describe};
use trunnion_common::level::Level;
use trunnion_common::monitor::{Settings, Watched};
use trunnion_common::quantity::Unit;
use trunnion_common::watch::Watch;

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
    };
    let name = (NodeId::new(9).unwrap(), ChannelId::new(0).unwrap());
    Record {
        watches: [(name, watch)].into_iter().collect(),
        ..Record::default()
    }
}

fn table() -> Payload<'static> {
    let channel = ChannelDescriptor {
        unit: Unit::StandardGravity,
        scale: 0.001,
        rate_mhz: 100_000,
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
    world.node(&table(), Class::Essential, 0);
    second(&mut world, 0);
    second(&mut world, 1);
    assert!(world.advised.is_empty());
    let before = world.mono;
    second(&mut world, 2);
    let [(standing, closed)] = &world.advised.clone()[..] else {
        panic!("{:?}", world.advised);
    };
    assert_eq!((standing.len(), standing[0].level), (1, Level::Alert));
    assert_eq!((*closed, world.mono), (before, before), "nothing was waited for");
    assert_eq!(world.metrics.advisories_raised.get(), 1);
    world.flush();
    let told = told(&world);
    assert_eq!((told.len(), &told[0]), (1, &standing[0]));
}
