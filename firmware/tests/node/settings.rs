//! What may be changed about a node, and what it does then.

use super::world::*;
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::statistics::Statistics;
use trunnion_common::frame::{
    Calibrate, Calibration, Capture, ChannelPlan, Identify, Payload, Settings, SettingsOutcome, Trigger,
};
use trunnion_common::id::ChannelId;
use trunnion_common::sample::NoData;
use trunnion_common::time::NodeTicks;
use trunnion_firmware::channel::RECALLED_SAMPLES;
use trunnion_firmware::node::Node;
use trunnion_firmware::outbox::{ESSENTIAL_MIN, WAVEFORM_MIN};
use trunnion_firmware::sensor::Missed;
use trunnion_firmware::settings::LineSpeed;

#[test]
fn settings_that_cannot_be_kept_are_not_taken() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    for second in [ChannelPlan::Raw, ChannelPlan::Off] {
        let plans = heapless::Vec::from_slice(&[ChannelPlan::Raw, second]).unwrap();
        world.tell(&Payload::Settings(Settings { command: 1, plans }));
    }
    world.pass(100);
    assert_eq!(
        world.agent.outcomes,
        [SettingsOutcome::Unchanged, SettingsOutcome::NotStored]
    );
}

/// Plans reach the node, and are stored or not.
fn settle(world: &mut World, command: u32, plans: &[ChannelPlan], is_stored: bool) {
    let plans = heapless::Vec::from_slice(plans).unwrap();
    order(world, &Payload::Settings(Settings { command, plans }), is_stored);
}

/// An order reaches the node, and its board stores what there is to store.
fn order(world: &mut World, wanted: &Payload<'_>, is_stored: bool) {
    world.tell(wanted);
    if world.node.poll_settings().is_some() {
        world.node.handle_settings_stored(world.ticks(), is_stored);
    }
    world.pass(100);
}

#[test]
fn a_plan_is_in_force_once_it_is_stored_and_not_before() {
    let mut world = World::new(node(ESSENTIAL_MIN, 4 * WAVEFORM_MIN));
    world.node.restore_settings(None).unwrap();
    let off = [ChannelPlan::Off];
    settle(&mut world, 1, &off, false);
    assert_eq!(world.agent.outcomes, [SettingsOutcome::NotStored]);
    world.produce(100);
    assert_eq!(
        world.produced(VIBRATION),
        100,
        "what could not be stored is not in force"
    );

    settle(&mut world, 2, &off, true);
    settle(&mut world, 2, &off, true);
    assert_eq!(
        world.agent.outcomes[1..],
        [SettingsOutcome::Applied, SettingsOutcome::Unchanged]
    );
    world.produce(100);
    world.read(3);
    assert_eq!((world.produced(VIBRATION), world.produced(TEMPERATURE)), (100, 3));
    world.drain();
}

#[test]
fn a_second_order_while_the_board_stores_is_answered_when_it_is_repeated() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.node.restore_settings(None).unwrap();
    let settings = |command, plan| {
        let plans = heapless::Vec::from_slice(&[plan]).unwrap();
        Payload::Settings(Settings { command, plans })
    };
    world.tell(&settings(1, ChannelPlan::Off));
    assert!(world.node.poll_settings().is_some());
    assert!(
        world.node.poll_settings().is_none(),
        "an image is handed out once"
    );
    world.tell(&settings(2, ChannelPlan::Features { window: 16 }));
    assert!(world.node.poll_settings().is_none(), "one is being stored");
    world.node.handle_settings_stored(world.ticks(), true);
    world.tell(&settings(2, ChannelPlan::Features { window: 16 }));
    assert!(world.node.poll_settings().is_some());
    world.node.handle_settings_stored(world.ticks(), true);
    world.node.handle_settings_stored(world.ticks(), true);
    world.pass(100);
    assert_eq!(world.agent.outcomes, [SettingsOutcome::Applied; 2]);
}

#[test]
fn stored_settings_are_in_force_after_a_reset() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.node.restore_settings(None).unwrap();
    let plans = heapless::Vec::from_slice(&[ChannelPlan::Features { window: 32 }]).unwrap();
    world.tell(&Payload::Settings(Settings { command: 1, plans }));
    let image = world.node.poll_settings().unwrap();

    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.node.restore_settings(Some(&image)).unwrap();
    world.produce(100);
    world.pass(100);
    assert_eq!(world.produced(VIBRATION), 0);
    assert_eq!(world.agent.reports.len(), 3);

    let mut damaged = image.clone();
    damaged[2] ^= 4;
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    assert!(world.node.restore_settings(Some(&damaged)).is_err());
    world.produce(100);
    assert_eq!(world.produced(VIBRATION), 100);
    settle(&mut world, 2, &[ChannelPlan::Off], true);
    assert_eq!(world.agent.outcomes, [SettingsOutcome::Applied]);
}

#[test]
fn features_are_those_of_the_samples_and_none_is_sent() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.node.restore_settings(None).unwrap();
    settle(&mut world, 1, &[ChannelPlan::Features { window: 256 }], true);
    let samples: Vec<i16> = (0..600).map(|index| value(VIBRATION, index)).collect();
    world
        .node
        .handle_samples(VIBRATION, NodeTicks(5_000_000), &samples)
        .unwrap();
    world.pass(500);
    assert_eq!(world.delivered(VIBRATION), 0);
    assert_eq!(world.agent.reports.len(), 2, "the third window is not full");
    for (report, window) in world.agent.reports.iter().zip(samples.chunks(256)) {
        let scale = 16.0 / 32_768.0;
        let window: Vec<f32> = window.iter().map(|sample| f32::from(*sample) * scale).collect();
        let expected = Statistics::of(&window).unwrap();
        let found = |wanted| {
            report
                .features
                .iter()
                .find(|(kind, _)| *kind == wanted)
                .unwrap()
                .1
        };
        assert!((found(FeatureKind::Rms) - expected.rms).abs() < 1e-4 * expected.rms);
        assert!((found(FeatureKind::Peak) - expected.peak).abs() < 1e-4 * expected.peak);
        assert_eq!(report.count, 256);
    }
    let firsts: Vec<u64> = world
        .agent
        .reports
        .iter()
        .map(|report| report.first_sample)
        .collect();
    assert_eq!(firsts, [0, 256]);
}

#[test]
fn a_capture_is_carried_out_once_however_often_it_is_asked_for() {
    let mut world = World::new(node(ESSENTIAL_MIN, 8 * WAVEFORM_MIN));
    world.node.restore_settings(None).unwrap();
    settle(&mut world, 1, &[ChannelPlan::Off], true);
    let capture = |channel, samples| {
        Payload::Capture(Capture {
            command: 2,
            channel,
            samples,
        })
    };
    for _ in 0..3 {
        world.tell(&capture(VIBRATION, 500));
    }
    world.pass(100);
    world.tell(&capture(ChannelId::new(2).unwrap(), 1));
    world.tell(&capture(VIBRATION, 0));
    world.pass(100);
    use SettingsOutcome::{Applied, BadPlan, Unchanged, UnknownChannel};
    assert_eq!(
        world.agent.outcomes,
        [Applied, Applied, Unchanged, Unchanged, UnknownChannel, BadPlan]
    );
    let samples: Vec<i16> = (0..800).map(|index| value(VIBRATION, index)).collect();
    world
        .node
        .handle_samples(VIBRATION, world.ticks(), &samples)
        .unwrap();
    world.drain();
    assert_eq!(
        (world.delivered(VIBRATION), world.produced(VIBRATION)),
        (500, 500)
    );
}

#[test]
fn a_waveform_begins_while_another_channel_says_so_and_a_reset_does_not_forget_it() {
    let mut world = World::new(node(ESSENTIAL_MIN, 8 * WAVEFORM_MIN));
    world.node.restore_settings(None).unwrap();
    let triggered = ChannelPlan::Triggered {
        window: 256,
        samples: 50,
        every_s: 1,
        trigger: Trigger {
            channel: TEMPERATURE,
            low_milli: 30_000,
            high_milli: 40_000,
        },
    };
    let plans = heapless::Vec::from_slice(&[triggered]).unwrap();
    world.tell(&Payload::Settings(Settings { command: 1, plans }));
    let image = world.node.poll_settings().unwrap();

    let mut node = node(ESSENTIAL_MIN, 8 * WAVEFORM_MIN);
    node.restore_settings(Some(&image)).unwrap();
    let samples = [0; 100];
    let produced = |node: &Node<'_>| node.account(VIBRATION).unwrap().produced;
    node.handle_samples(VIBRATION, NodeTicks(0), &samples).unwrap();
    assert_eq!(produced(&node), 0, "nothing is known of the temperature");
    for (seconds, reading, expected) in [
        (1, Ok(29.0), 0),
        // With the 200 samples before it, and then with what was not sent since.
        (2, Ok(35.0), 250),
        (3, Ok(41.0), 250),
        (4, Ok(35.0), 450),
        (5, Err(NoData::BusError), 450),
    ] {
        let at = NodeTicks(seconds * 1_000_000);
        node.handle_readings(TEMPERATURE, at, &[reading]).unwrap();
        node.handle_samples(VIBRATION, at, &samples).unwrap();
        assert_eq!(produced(&node), expected, "{reading:?}");
    }
}

#[test]
fn a_triggered_waveform_begins_with_what_came_before_its_trigger_and_no_further_than_a_gap() {
    let mut world = World::new(node(ESSENTIAL_MIN, 8 * WAVEFORM_MIN));
    world.node.restore_settings(None).unwrap();
    let triggered = ChannelPlan::Triggered {
        window: 4_096,
        samples: 100,
        every_s: 1,
        trigger: Trigger {
            channel: TEMPERATURE,
            low_milli: 30_000,
            high_milli: i32::MAX,
        },
    };
    settle(&mut world, 1, &[triggered, ChannelPlan::Off], true);
    world.plan = triggered;
    let warm = |world: &mut World, degrees| {
        let at = world.ticks();
        world
            .node
            .handle_readings(TEMPERATURE, at, &[Ok(degrees)])
            .unwrap();
    };
    world.produce(700);
    assert_eq!(world.produced(VIBRATION), 0);
    warm(&mut world, 35.0);
    let begun = world.ticks();
    world.produce(200);
    let recalled = RECALLED_SAMPLES as u64;
    assert_eq!(world.produced(VIBRATION), recalled + 100);

    // What stands before a gap does not belong to what comes after it.
    warm(&mut world, 20.0);
    world.pass(1_500);
    world.produce(300);
    world.node.handle_missed(VIBRATION, 5, Missed::Overrun).unwrap();
    world.produce(10);
    warm(&mut world, 35.0);
    world.produce(100);
    assert_eq!(world.produced(VIBRATION), recalled + 100 + 5 + 110);

    // The agent has compared every sample; the first one's time is that of 12 kHz.
    world.drain();
    assert_eq!(world.delivered(VIBRATION), recalled + 210);
    let first = begun.0 - recalled * 1_000 / 12;
    assert_eq!(world.agent.waveforms[0], (NodeTicks(first), 0));
}

#[test]
fn a_slow_line_refuses_what_would_fill_it() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.node.restore_settings(None).unwrap();
    world.node.set_line_speed(LineSpeed::BytesPerSecond(11_520));
    settle(&mut world, 1, &[ChannelPlan::Features { window: 4_096 }], true);
    settle(&mut world, 2, &[ChannelPlan::Raw], true);
    let [SettingsOutcome::Applied, SettingsOutcome::Overfull { needs, may }] = world.agent.outcomes[..]
    else {
        panic!("{:?}", world.agent.outcomes);
    };
    // 70 % of the line, and twelve thousand samples of two bytes with their headers and the status.
    assert_eq!(may, 8_064);
    assert!((24_000..30_000).contains(&needs), "{needs}");
}

#[test]
fn a_node_shows_where_it_is_for_as_long_as_asked() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    assert!(!world.node.is_identifying(NodeTicks(0)));
    world.tell(&Payload::Identify(Identify {
        seconds: 3,
        command: 1,
    }));
    assert!(world.node.is_identifying(NodeTicks(2_999_999)));
    assert!(!world.node.is_identifying(NodeTicks(3_000_000)));
}

fn calibrate(world: &mut World, channel: ChannelId, gain_ppm: u32, offset_milli: i32, is_stored: bool) {
    let calibration = Calibration {
        gain_ppm,
        offset_milli,
    };
    let wanted = Calibrate {
        command: gain_ppm,
        channel,
        calibration,
    };
    order(world, &Payload::Calibrate(wanted), is_stored);
}

#[test]
fn a_calibration_is_in_the_table_that_later_samples_name_and_only_once_it_is_stored() {
    use SettingsOutcome::{Applied, BadCalibration, NotStored, Unchanged, UnknownChannel};
    let mut world = World::new(node(ESSENTIAL_MIN, 4 * WAVEFORM_MIN));
    world.node.restore_settings(None).unwrap();
    world.produce(100);
    world.pass(100);
    calibrate(&mut world, VIBRATION, 1_250_000, 0, false);
    assert_eq!(world.node.revision(), 1);
    calibrate(&mut world, VIBRATION, 1_250_000, 0, true);
    calibrate(&mut world, VIBRATION, 1_250_000, 0, true);
    calibrate(&mut world, VIBRATION, 1_250_000, 7, true);
    calibrate(&mut world, ChannelId::new(2).unwrap(), 1_250_000, 0, true);
    assert_eq!(
        world.agent.outcomes,
        [NotStored, Applied, Unchanged, BadCalibration, UnknownChannel]
    );
    let [first, second] = &world.agent.tables[..] else {
        panic!("{:?}", world.agent.tables);
    };
    assert_eq!((first, second.revision), (&table(), 2));
    let expected = [1.25 * 16.0 / 32_768.0, 1.25 * 16.0];
    assert_eq!([second.channels[0].scale, second.channels[0].range], expected);
    assert_eq!(second.channels[1], first.channels[1]);
    // It does not add up: the second is of the sensor's kind again.
    calibrate(&mut world, VIBRATION, 1_000_000, 0, true);
    assert_eq!(world.agent.tables[2].channels, table().channels);
    world.produce(100);
    world.drain();
    assert_eq!(world.delivered(VIBRATION), 200);
}

#[test]
fn a_calibrated_sensor_is_calibrated_after_a_reset_and_a_plan_does_not_forget_it() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.node.restore_settings(None).unwrap();
    calibrate(&mut world, TEMPERATURE, 1_100_000, -400, true);
    let plans = heapless::Vec::from_slice(&[ChannelPlan::Off]).unwrap();
    world.tell(&Payload::Settings(Settings { command: 2, plans }));
    let image = world.node.poll_settings().unwrap();

    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.node.restore_settings(Some(&image)).unwrap();
    assert_eq!(world.node.revision(), 2);
    world.produce(100);
    assert_eq!(world.produced(VIBRATION), 0);
    let found = world.node.calibrated(TEMPERATURE, Ok(50.0)).unwrap();
    assert!((found - 54.6).abs() < 1e-4, "{found}");
    let none = Err(NoData::BusError);
    assert_eq!(world.node.calibrated(TEMPERATURE, none), none);
    assert_eq!(world.node.calibrated(VIBRATION, Ok(50.0)), Ok(50.0));
    // A calibration leaves the plans as they are, too.
    calibrate(&mut world, TEMPERATURE, 1_000_000, 0, true);
    world.produce(100);
    assert_eq!(world.produced(VIBRATION), 0);
    assert_eq!(world.node.calibrated(TEMPERATURE, Ok(50.0)), Ok(50.0));
}

#[test]
fn readings_come_corrected() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.node.restore_settings(None).unwrap();
    calibrate(&mut world, TEMPERATURE, 2_000_000, 1_000, true);
    let now = world.ticks();
    // The agent of these tests takes a reading for what it should be by its index.
    let expected = f32::from(value(TEMPERATURE, 0));
    let told = (expected - 1.0) / 2.0;
    world.node.handle_readings(TEMPERATURE, now, &[Ok(told)]).unwrap();
    world.drain();
    assert_eq!(world.delivered(TEMPERATURE), 1);
}
