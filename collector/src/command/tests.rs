//! A desk, a journal and a gateway that are played by hand.

use super::*;
use crate::ingest::dedup::SequenceSets;
use crate::state::learned_of_two;
use trunnion_common::block::{ChannelHolding, Envelope, Holding, Lane};
use trunnion_common::detection::multivariate;
use trunnion_common::frame::SettingsOutcome;
use trunnion_common::id::{ChannelId, Epoch, Name};
use trunnion_common::watch::{BearingSearch, SlowWatch, SpectrumWatch};

const START: EventTime = EventTime(1_800_000_000_000_000_000);
const FEATURES: ChannelPlan = ChannelPlan::Features { window: 4_096 };

fn gateway(name: &str) -> GatewayId {
    GatewayId {
        site: Name::new("plant").unwrap(),
        gateway: Name::new(name).unwrap(),
    }
}

fn node(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

fn settings(number: u64, plans: &[ChannelPlan]) -> Action {
    Action::Settings {
        node: node(number),
        plans: plans.iter().copied().collect(),
    }
}

struct World {
    log: CommandLog,
    desk: Desk,
    connected: Vec<GatewayId>,
    now: EventTime,
    blocks: u64,
}

impl World {
    /// One gateway with node 1 in its first life.
    fn new() -> Self {
        let mut world = Self {
            log: CommandLog::default(),
            desk: Desk::default(),
            connected: vec![gateway("gw-1")],
            now: START,
            blocks: 0,
        };
        world.hold("gw-1", &[(1, 1)]);
        world
    }

    /// The gateway reports that it holds data of these nodes and boots.
    fn hold(&mut self, name: &str, nodes: &[(u64, u32)]) {
        let holding = |&(number, boot): &(u64, u32)| Holding {
            node: node(number),
            boot: BootId::new(boot, 0),
            channels: heapless::Vec::from_slice(&[ChannelHolding {
                channel: ChannelId::new(0).unwrap(),
                produced: 5,
                at_node: 5,
                at_agent: None,
            }])
            .unwrap(),
        };
        let body: Vec<u8> = nodes
            .iter()
            .flat_map(|node| postcard::to_stdvec(&holding(node)).unwrap())
            .collect();
        let envelope = Envelope::new(Epoch(1), self.blocks, Lane::Live, Kind::Status);
        self.blocks += 1;
        let bytes = [&envelope.encode(&body)[..], &body].concat();
        // Through the very sets that the journal keeps.
        let mut sets = SequenceSets {
            commands: self.log.clone(),
            ..SequenceSets::default()
        };
        sets.apply(&Entry::Block {
            gateway: gateway(name),
            bytes: bytes.into(),
        });
        self.log = sets.commands;
    }

    fn want(&mut self, nodes: &[(u64, &[ChannelPlan])]) {
        self.desk.want(Wanted {
            gateways: BTreeMap::new(),
            nodes: nodes
                .iter()
                .map(|(number, plans)| (node(*number), plans.to_vec()))
                .collect(),
            ..Wanted::default()
        });
    }

    /// One look; what is issued is journaled. Returns (is it new, number, action).
    fn look(&mut self) -> Vec<(bool, u64, Action)> {
        let steps = self.desk.poll(&self.log, &self.connected, self.now);
        steps
            .into_iter()
            .map(|step| match step {
                Step::Resend(_, command) => (false, command.number, command.action),
                Step::Issue(gateway, command) => {
                    assert_eq!(command.expires, self.now.plus_nanos(GOOD_FOR));
                    self.log.apply(&Entry::Command {
                        gateway,
                        issued: self.now,
                        command: Box::new(command.clone()),
                    });
                    (true, command.number, command.action)
                }
            })
            .collect()
    }

    fn issued(&mut self) -> Vec<(u64, Action)> {
        let looked = self.look().into_iter();
        looked
            .filter(|(new, ..)| *new)
            .map(|(_, number, action)| (number, action))
            .collect()
    }

    fn answer(&mut self, name: &str, number: u64, outcome: CommandOutcome, highest: u64) -> bool {
        let result = CommandResult {
            number,
            outcome,
            highest,
        };
        let is_news = self.log.is_news(&gateway(name), &result);
        self.log.apply(&Entry::CommandResult {
            gateway: gateway(name),
            received: self.now,
            result,
        });
        is_news
    }

    fn pass(&mut self, seconds: i64) {
        self.now = self.now.plus_nanos(seconds * SECOND);
    }

    fn in_effect(&self) -> Vec<bool> {
        let rows = self.desk.rows(&self.log);
        rows.values().flatten().map(|row| row.in_effect).collect()
    }
}

#[test]
fn a_wish_is_commanded_once_and_is_in_effect_when_confirmed() {
    let mut world = World::new();
    assert!(world.look().is_empty(), "nothing is wanted, and nothing said");
    world.want(&[(1, &[FEATURES]), (2, &[FEATURES])]);
    assert_eq!(world.in_effect(), [false]);
    assert_eq!(world.issued(), [(1, settings(1, &[FEATURES]))]);
    assert!(world.look().is_empty());
    assert!(world.answer("gw-1", 1, CommandOutcome::Done, 1));
    assert!(
        !world.answer("gw-1", 1, CommandOutcome::NoAnswer, 1),
        "the first answer counts"
    );
    world.pass(100_000);
    assert!(world.look().is_empty());
    assert_eq!(world.in_effect(), [true]);
}

#[test]
fn without_an_answer_it_is_sent_again_ever_more_seldom_until_it_expires() {
    let mut world = World::new();
    world.want(&[(1, &[FEATURES])]);
    world.look();
    let mut resent = Vec::new();
    for second in 1..=120 {
        world.pass(1);
        resent.extend(world.look().iter().map(|(new, number, _)| {
            assert_eq!((*new, *number), (false, 1));
            second
        }));
    }
    assert_eq!(resent, [2, 6, 14, 30, 60, 90, 120]);
    world.pass(1);
    assert_eq!(world.issued(), [(2, settings(1, &[FEATURES]))]);
}

#[test]
fn what_was_not_done_is_tried_anew_after_a_growing_pause() {
    let mut world = World::new();
    world.want(&[(1, &[FEATURES])]);
    let mut issued = Vec::new();
    for second in 0..20_000 {
        for (number, _) in world.issued() {
            issued.push(second);
            world.answer("gw-1", number, CommandOutcome::NoAnswer, number);
        }
        world.pass(1);
    }
    assert_eq!(issued[..6], [0, 30, 90, 210, 450, 930]);
    assert_eq!(issued[issued.len() - 1] - issued[issued.len() - 2], 3_600);
}

#[test]
fn what_the_node_refuses_waits_for_another_wish_or_an_hour() {
    let mut world = World::new();
    world.want(&[(1, &[ChannelPlan::Raw])]);
    world.look();
    world.answer(
        "gw-1",
        1,
        CommandOutcome::RefusedByNode(SettingsOutcome::LineTooSlow),
        1,
    );
    world.pass(3_599);
    assert!(world.look().is_empty());
    world.want(&[(1, &[FEATURES])]);
    assert_eq!(world.issued(), [(2, settings(1, &[FEATURES]))]);
}

#[test]
fn another_wish_takes_the_place_of_the_one_under_way() {
    let mut world = World::new();
    world.want(&[(1, &[FEATURES])]);
    world.look();
    world.want(&[(1, &[ChannelPlan::Off])]);
    assert_eq!(world.issued(), [(2, settings(1, &[ChannelPlan::Off]))]);
    world.answer("gw-1", 1, CommandOutcome::Done, 1);
    assert_eq!(world.in_effect(), [false]);
    world.answer("gw-1", 2, CommandOutcome::Done, 2);
    assert_eq!(world.in_effect(), [true]);
}

#[test]
fn a_plan_that_is_taken_out_of_the_file_is_raw_again() {
    let mut world = World::new();
    world.want(&[(1, &[FEATURES])]);
    world.look();
    world.answer("gw-1", 1, CommandOutcome::Done, 1);
    world.want(&[]);
    assert_eq!(world.issued(), [(2, settings(1, &[]))]);
}

#[test]
fn a_node_that_has_restarted_is_asked_again() {
    let mut world = World::new();
    world.want(&[(1, &[FEATURES])]);
    world.look();
    world.answer("gw-1", 1, CommandOutcome::Done, 1);
    world.hold("gw-1", &[(1, 1), (1, 2)]);
    assert_eq!(world.issued().len(), 1);
    world.answer("gw-1", 2, CommandOutcome::Done, 2);
    world.hold("gw-1", &[(1, 1)]);
    world.hold("gw-1", &[(1, 2)]);
    assert!(world.look().is_empty());
}

#[test]
fn gateways_have_one_command_at_a_time_each() {
    let mut world = World::new();
    world.connected = vec![gateway("gw-1"), gateway("gw-2"), gateway("gw-9")];
    world.hold("gw-1", &[(1, 1), (2, 1)]);
    world.hold("gw-2", &[(3, 1)]);
    world.want(&[(1, &[FEATURES]), (2, &[FEATURES]), (3, &[FEATURES])]);
    assert_eq!(
        world.issued(),
        [(1, settings(1, &[FEATURES])), (1, settings(3, &[FEATURES]))]
    );
    world.answer("gw-1", 1, CommandOutcome::UnknownNode, 1);
    assert_eq!(world.issued(), [(2, settings(2, &[FEATURES]))]);
}

#[test]
fn a_gateway_that_is_away_is_told_when_it_is_back() {
    let mut world = World::new();
    world.want(&[(1, &[FEATURES])]);
    let away = std::mem::take(&mut world.connected);
    assert!(world.look().is_empty());
    world.connected = away;
    assert_eq!(world.issued().len(), 1);
}

#[test]
fn a_restart_goes_on_from_the_journal() {
    let mut world = World::new();
    world.want(&[(1, &[FEATURES])]);
    world.look();
    // Another process: the log is what the journal's sets say, as a segment keeps them.
    let sets = SequenceSets {
        commands: world.log.clone(),
        ..SequenceSets::default()
    };
    world.log = SequenceSets::decode(&sets.encode()).unwrap().commands;
    world.desk = Desk::default();
    world.want(&[(1, &[FEATURES])]);
    assert_eq!(
        world.look(),
        [(false, 1, settings(1, &[FEATURES]))],
        "the same number, at once"
    );
    world.answer("gw-1", 1, CommandOutcome::Done, 1);
    assert!(world.look().is_empty());
}

#[test]
fn a_collector_restored_from_a_backup_goes_on_above_what_was_begun() {
    let mut world = World::new();
    world.want(&[(1, &[FEATURES])]);
    world.look();
    assert!(world.answer("gw-1", 1, CommandOutcome::Superseded, 57));
    world.pass(30);
    assert_eq!(world.issued(), [(58, settings(1, &[FEATURES]))]);
    // A gateway that talks nonsense is not believed, and fills no journal.
    assert!(!world.answer("gw-1", 1, CommandOutcome::Superseded, u64::MAX));
    assert!(!world.answer("gw-1", 3, CommandOutcome::Done, 2));
    world.answer("gw-1", 58, CommandOutcome::NoAnswer, 58);
    world.pass(120);
    assert_eq!(world.issued()[0].0, 59);
}

#[test]
fn an_order_is_given_once_to_whoever_has_the_node() {
    let mut world = World::new();
    world.connected.push(gateway("gw-2"));
    world.hold("gw-2", &[(1, 1), (2, 1)]);
    let identify = Action::Identify {
        node: node(1),
        seconds: 5,
    };
    assert!(world.desk.order(identify.clone(), world.now));
    assert_eq!(world.issued(), [(1, identify.clone()), (1, identify.clone())]);
    world.answer("gw-1", 1, CommandOutcome::UnknownNode, 1);
    world.answer("gw-2", 1, CommandOutcome::Interrupted, 1);
    world.pass(50);
    assert!(
        world.look().is_empty(),
        "whatever became of it, it is not given again"
    );
    assert!(world.desk.order(identify.clone(), world.now));
    assert_eq!(world.issued().len(), 2, "a person may ask again");
}

#[test]
fn an_order_for_a_node_that_nobody_has_is_given_up() {
    let mut world = World::new();
    let identify = Action::Identify {
        node: node(9),
        seconds: 5,
    };
    for _ in 0..ORDERS_MAX {
        assert!(world.desk.order(identify.clone(), world.now));
    }
    assert!(!world.desk.order(identify.clone(), world.now), "so many may wait");
    world.pass(61);
    assert!(world.look().is_empty());
    world.hold("gw-1", &[(9, 1)]);
    assert!(world.look().is_empty());
}

#[test]
fn settings_of_the_gateway_itself_come_and_go_with_the_file() {
    let mut world = World::new();
    let faster = GatewaySettings {
        heartbeat_interval_ms: Some(2_000),
        ..GatewaySettings::default()
    };
    world.desk.want(Wanted {
        gateways: BTreeMap::from([(gateway("gw-1"), faster), (gateway("gw-2"), faster)]),
        ..Wanted::default()
    });
    assert_eq!(world.issued(), [(1, Action::Gateway(faster))]);
    world.answer("gw-1", 1, CommandOutcome::Done, 1);
    world.want(&[]);
    assert_eq!(world.issued(), [(2, Action::Gateway(GatewaySettings::default()))]);
}

#[test]
fn more_nodes_than_a_gateway_can_have_are_left_out_and_old_subjects_go() {
    let mut world = World::new();
    let nodes: Vec<_> = (1..=NODES_MAX as u64 + 10).map(|number| (number, 1)).collect();
    world.hold("gw-1", &nodes);
    assert_eq!(world.log.gateways[&gateway("gw-1")].nodes.len(), NODES_MAX);
    for number in 1..=SUBJECTS_MAX as u64 + 10 {
        world.pass(1);
        let command = Command {
            number,
            expires: world.now,
            action: settings(number, &[]),
        };
        world.log.apply(&Entry::Command {
            gateway: gateway("gw-1"),
            issued: world.now,
            command: Box::new(command),
        });
    }
    let subjects = &world.log.gateways[&gateway("gw-1")].subjects;
    assert_eq!(subjects.len(), SUBJECTS_MAX);
    assert!(!subjects.contains_key(&Subject::Settings(node(10))));
}

fn any_watch() -> Watch {
    Watch {
        settings: trunnion_common::monitor::Settings::default(),
        gain: 1.0,
        speed_hz: Some(25.0),
        baselines: Default::default(),
        operation: Default::default(),
        slow: None,
    }
}

#[test]
fn a_channel_is_watched_by_the_gateway_that_has_its_node_until_the_file_says_no_more() {
    let mut world = World::new();
    let channel = ChannelId::new(0).unwrap();
    let watch = any_watch();
    let action = |watch: Option<&Watch>| Action::Watch {
        node: node(9),
        channel,
        watch: watch.cloned(),
    };
    let want = |world: &mut World, watch: &Watch| {
        let watches = [9, 10].map(|number| ((node(number), channel), watch.clone()));
        world.desk.want(Wanted {
            watching: BTreeSet::from([gateway("gw-1")]),
            watches: BTreeMap::from(watches),
            ..Wanted::default()
        });
    };
    want(&mut world, &watch);
    world.hold("gw-2", &[(10, 1)]);
    assert!(world.look().is_empty(), "nobody that watches has the nodes");
    world.hold("gw-1", &[(9, 1)]);
    assert_eq!(world.issued(), [(1, action(Some(&watch)))]);
    world.answer("gw-1", 1, CommandOutcome::Done, 1);
    assert!(world.look().is_empty());
    let mut accepted = watch.clone();
    let normals = Default::default();
    accepted
        .baselines
        .push((Default::default(), normals, EventTime(5)))
        .unwrap();
    want(&mut world, &accepted);
    assert_eq!(
        world.issued(),
        [(2, action(Some(&accepted)))],
        "a baseline was accepted"
    );
    world.answer("gw-1", 2, CommandOutcome::Done, 2);
    world.want(&[]);
    assert_eq!(world.issued(), [(3, action(None))]);
}

#[test]
fn a_channel_is_searched_once_it_is_watched_until_the_file_says_no_more() {
    let mut world = World::new();
    let name = (node(9), ChannelId::new(0).unwrap());
    let watch = any_watch();
    let search = BearingSearch {
        speed_tolerance: 0.005,
        bearing: [3.585, 5.415, 4.713, 0.398],
        neighbours: Default::default(),
        band_high_hz: 5_000.0,
    };
    let want = |world: &mut World, search: Option<&BearingSearch>| {
        world.desk.want(Wanted {
            watching: BTreeSet::from([gateway("gw-1")]),
            watches: BTreeMap::from([(name, watch.clone())]),
            searches: search.map(|search| (name, search.clone())).into_iter().collect(),
            ..Wanted::default()
        });
    };
    want(&mut world, Some(&search));
    world.hold("gw-1", &[(9, 1)]);
    assert!(matches!(world.issued()[..], [(1, Action::Watch { .. })]));
    world.answer("gw-1", 1, CommandOutcome::Done, 1);
    let action = |search: Option<&BearingSearch>| Action::Search {
        node: name.0,
        channel: name.1,
        search: search.cloned(),
    };
    assert_eq!(world.issued(), [(2, action(Some(&search)))]);
    world.answer("gw-1", 2, CommandOutcome::Done, 2);
    assert!(world.look().is_empty());
    want(&mut world, None);
    assert_eq!(world.issued(), [(3, action(None))]);
}

#[test]
fn spectra_are_looked_at_once_the_channel_is_watched_until_the_file_says_no_more() {
    let mut world = World::new();
    let name = (node(9), ChannelId::new(0).unwrap());
    let watch = any_watch();
    let spectra = SpectrumWatch {
        teeth: None,
        blades: Some(7),
        line_hz: None,
        axial: false,
        band_hz: [1.0, 5_000.0],
        envelope_hz: None,
        bands: Default::default(),
    };
    let want = |world: &mut World, spectra: Option<&SpectrumWatch>| {
        world.desk.want(Wanted {
            watching: BTreeSet::from([gateway("gw-1")]),
            watches: BTreeMap::from([(name, watch.clone())]),
            examinations: spectra
                .map(|spectra| (name, spectra.clone()))
                .into_iter()
                .collect(),
            ..Wanted::default()
        });
    };
    want(&mut world, Some(&spectra));
    world.hold("gw-1", &[(9, 1)]);
    assert!(matches!(world.issued()[..], [(1, Action::Watch { .. })]));
    world.answer("gw-1", 1, CommandOutcome::Done, 1);
    let action = |spectra: Option<&SpectrumWatch>| Action::Examine {
        node: name.0,
        channel: name.1,
        spectra: spectra.cloned(),
    };
    assert_eq!(world.issued(), [(2, action(Some(&spectra)))]);
    world.answer("gw-1", 2, CommandOutcome::Done, 2);
    assert!(world.look().is_empty());
    want(&mut world, None);
    assert_eq!(world.issued(), [(3, action(None))]);
}

#[test]
fn a_group_of_slow_channels_is_judged_by_the_gateway_that_hears_all_of_them() {
    let mut world = World::new();
    let channel = ChannelId::new(0).unwrap();
    let [first, second] = [9, 10].map(|number| (node(number), channel));
    let group = GroupWatch {
        channels: [first, second].into_iter().collect(),
        running: None,
        every_ns: 10 * SECOND,
        settings: multivariate::Settings::default(),
        persistence: Default::default(),
        generation: 0,
        learned: learned_of_two(),
    };
    let want = |world: &mut World, alone_ns: Option<i64>, group: Option<&GroupWatch>| {
        let group = group.cloned();
        world.desk.want(Wanted {
            watching: BTreeSet::from([gateway("gw-1")]),
            watches: BTreeMap::from([(first, any_watch())]),
            unusuals: BTreeMap::from([(first, UnusualWatch { alone_ns, group })]),
            ..Wanted::default()
        });
    };
    let action = |unusual: Option<UnusualWatch>| Action::Unusual {
        node: first.0,
        channel,
        unusual,
    };
    want(&mut world, None, Some(&group));
    world.hold("gw-1", &[(9, 1)]);
    assert!(matches!(world.issued()[..], [(1, Action::Watch { .. })]));
    world.answer("gw-1", 1, CommandOutcome::Done, 1);
    assert!(world.look().is_empty(), "the other comes through somebody else");
    world.hold("gw-1", &[(9, 1), (10, 1)]);
    let [alone, together] = [None, Some(group.clone())].map(|group| UnusualWatch {
        alone_ns: group.is_none().then_some(300 * SECOND),
        group,
    });
    assert_eq!(world.issued(), [(2, action(Some(together)))]);
    world.answer("gw-1", 2, CommandOutcome::Done, 2);
    // Maintenance closes what was accepted.
    want(&mut world, Some(300 * SECOND), None);
    assert_eq!(world.issued(), [(3, action(Some(alone)))]);
    world.answer("gw-1", 3, CommandOutcome::Done, 3);
    want(&mut world, None, None);
    assert_eq!(world.issued(), [(4, action(None))]);
}

#[test]
fn of_more_channels_than_a_gateway_can_watch_slow_ones_are_left_out_first() {
    let mut world = World::new();
    let channel = |number| ChannelId::new(number).unwrap();
    let vibration = any_watch();
    let thermometer = Watch {
        slow: Some(SlowWatch {
            unit: trunnion_common::quantity::Unit::DegreeCelsius,
            below: None,
            size_ns: 10 * SECOND,
            offset_ns: 0,
            coverage_min_permille: 950,
        }),
        ..vibration.clone()
    };
    // The thermometer of each node stands before its vibration.
    let nodes = 1..=WATCHES_MAX as u64;
    let watches = nodes.clone().flat_map(|number| {
        let name = |at| (node(number), channel(at));
        [(name(0), thermometer.clone()), (name(1), vibration.clone())]
    });
    let wanted = Wanted {
        watching: BTreeSet::from([gateway("gw-1")]),
        watches: watches.collect(),
        ..Wanted::default()
    };
    let held: Vec<(u64, u32)> = nodes.map(|number| (number, 1)).collect();
    world.hold("gw-1", &held);
    let watched = world.log.gateways[&gateway("gw-1")].watched(&gateway("gw-1"), &wanted);
    assert_eq!(watched.len(), WATCHES_MAX);
    assert!(watched.iter().all(|(_, watched)| *watched == channel(1)));
}
