//! Several nodes on two wires: found, addressed and polled in turns, whatever the wires do to their bytes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod bus;

use bus::{Bus, Spec};
use std::collections::BTreeSet;
use std::time::Duration;
use trunnion_common::id::LineAddress;
use trunnion_common::sample::LossCause;

const SECOND: Duration = Duration::from_secs(1);

/// `count` nodes as they come from the shelf, with room for half a minute each.
fn nodes(count: u64, rate_hz: u32) -> Vec<Spec> {
    let spec = |number| Spec {
        node: 0x1000 + number,
        boot: 1,
        address: LineAddress::UNASSIGNED,
        rate_hz,
        waveform_bytes: 80 * rate_hz as usize,
    };
    (0..count).map(spec).collect()
}

/// Each sample is stored or counted as dropped, whatever became of its frame.
fn assert_accounted(bus: &Bus) {
    for node in &bus.nodes {
        let (account, id) = (node.account(), node.spec.key().0);
        let stored = bus.stored(node.spec);
        assert_eq!(
            account.produced,
            account.acknowledged + account.dropped_total(),
            "{id}"
        );
        // What came and was dropped before its acknowledgement is stored all the same.
        assert!(
            account.acknowledged <= stored && stored <= account.produced,
            "{id}: {account:?}"
        );
        let causes = account.dropped.iter().map(|(cause, _)| *cause);
        assert!(
            causes.into_iter().all(|cause| cause == LossCause::OutboxFull),
            "{id}"
        );
    }
}

#[test]
fn nodes_without_an_address_are_found_and_nothing_they_say_is_lost() {
    let specs = nodes(8, 3_000);
    let mut bus = Bus::new(&specs);
    bus.pass(20 * SECOND);
    let all: BTreeSet<_> = specs.iter().map(Spec::key).collect();
    assert_eq!(bus.agent.polled(), all);
    let addresses: BTreeSet<u8> = all.iter().map(|key| bus.agent.address(*key).unwrap().0).collect();
    assert_eq!(addresses, (1..=8).collect());
    bus.drain();
    assert_accounted(&bus);
    for node in &bus.nodes {
        let account = node.account();
        assert!(account.produced > 55_000, "{account:?}");
        assert_eq!(account.acknowledged, account.produced);
    }
    assert_eq!(bus.collisions, 0);
}

#[test]
fn of_two_nodes_with_one_address_the_second_is_given_another() {
    let mut specs = nodes(3, 1_000);
    specs.iter_mut().for_each(|spec| spec.address = LineAddress(7));
    let mut bus = Bus::new(&specs);
    bus.pass(10 * SECOND);
    let addresses: BTreeSet<u8> = specs
        .iter()
        .map(|spec| bus.agent.address(spec.key()).unwrap().0)
        .collect();
    assert_eq!(addresses, [1, 2, 7].into());
    let named = |name| {
        bus.agent
            .changes
            .iter()
            .filter(|(_, change)| *change == name)
            .count()
    };
    assert_eq!((named("joined"), named("address_conflict")), (1, 2));
    bus.drain();
    assert_accounted(&bus);
    assert_eq!(bus.collisions, 0);
}

#[test]
fn a_full_line_is_shared_and_gives_up_the_oldest_waveforms_and_no_alarm() {
    // Half as much again as the line carries.
    let mut specs = nodes(4, 17_000);
    specs.iter_mut().for_each(|spec| spec.waveform_bytes = 64 << 10);
    let mut bus = Bus::new(&specs);
    for _ in 0..30 {
        bus.pass(SECOND);
        let now = bus.now;
        bus.nodes.iter_mut().for_each(|node| node.alarm(now));
    }
    bus.drain();
    assert_accounted(&bus);
    for node in &bus.nodes {
        assert!(node.account().dropped_total() > 0, "{:?}", node.account());
    }
    let said: Vec<u64> = bus.nodes.iter().map(|node| node.said).collect();
    let (least, most) = (said.iter().min().unwrap(), said.iter().max().unwrap());
    assert!(least * 10 > most * 9, "{said:?}");
    // The line itself is busy: 92,160 bytes a second, two to a sample.
    let stored: u64 = specs.iter().map(|spec| bus.stored(*spec)).sum();
    assert!(stored > 30 * 92_160 / 2 * 8 / 10, "{stored}");
    // And next to nothing is said twice, whatever was dropped on the way: frames cost 5 % beside two bytes a sample.
    assert!(
        said.iter().sum::<u64>() * 10 < stored * 22,
        "{said:?} for {stored}"
    );
    for spec in &specs {
        let alarms = &bus.agent.alarms[&spec.key()];
        assert_eq!(
            alarms.iter().copied().collect::<BTreeSet<_>>(),
            (1..=30).collect()
        );
    }
    assert_eq!(bus.collisions, 0);
}

#[test]
fn noise_costs_repetitions_and_every_sample_has_its_name() {
    let specs = nodes(3, 1_000);
    let mut bus = Bus::new(&specs);
    bus.pass(5 * SECOND);
    // One in ten thousand spoils half of the long frames, one in a thousand nearly all.
    for noise in [100, 1_000] {
        bus.noise = noise;
        bus.pass(20 * SECOND);
    }
    bus.drain();
    assert!(bus.agent.broken > 100, "{}", bus.agent.broken);
    assert_accounted(&bus);
    let dropped: u64 = bus.nodes.iter().map(|node| node.account().dropped_total()).sum();
    let produced: u64 = bus.nodes.iter().map(|node| node.account().produced).sum();
    assert!(dropped < produced / 2, "{dropped} of {produced}");
}

#[test]
fn another_life_of_a_node_is_polled_as_soon_as_it_answers() {
    let specs = nodes(3, 1_000);
    let mut bus = Bus::new(&specs);
    bus.pass(5 * SECOND);
    let address = bus.agent.address(specs[1].key());
    bus.restart_node(1);
    bus.pass(2 * SECOND);
    let expected = bus.nodes.iter().map(|node| node.spec.key());
    assert_eq!(bus.agent.polled(), expected.collect());
    assert_eq!(bus.agent.changes.len(), 4, "{:?}", bus.agent.changes);
    // A node keeps no address over a reset, and is given the one that it had.
    assert_eq!(bus.agent.address(bus.nodes[1].spec.key()), address);
}

#[test]
fn a_node_that_is_gone_is_not_polled_for_ever_and_the_others_go_on() {
    let specs = nodes(3, 3_000);
    let mut bus = Bus::new(&specs);
    bus.pass(5 * SECOND);
    bus.nodes.pop();
    bus.pass(12 * SECOND);
    assert_eq!(bus.agent.polled(), specs[..2].iter().map(Spec::key).collect());
    bus.drain();
    assert!(bus.nodes.iter().all(|node| node.account().dropped_total() == 0));
}

#[test]
fn another_start_of_the_agent_finds_everybody_once_the_former_is_forgotten() {
    let specs = nodes(3, 1_000);
    let mut bus = Bus::new(&specs);
    bus.pass(5 * SECOND);
    bus.restart_agent(2);
    bus.pass(8 * SECOND);
    assert_eq!(bus.agent.polled(), [].into(), "each still obeys the former");
    bus.pass(10 * SECOND);
    assert_eq!(bus.agent.polled(), specs.iter().map(Spec::key).collect());
    bus.drain();
    for node in &bus.nodes {
        assert_eq!(node.account().dropped_total(), 0);
    }
}

#[test]
fn a_port_that_is_opened_again_finds_its_nodes_at_once() {
    let specs = nodes(3, 1_000);
    let mut bus = Bus::new(&specs);
    bus.pass(5 * SECOND);
    bus.agent.reopen();
    let before: Vec<u64> = specs.iter().map(|spec| bus.stored(*spec)).collect();
    bus.pass(2 * SECOND);
    for (spec, before) in specs.iter().zip(before) {
        assert!(bus.stored(*spec) > before + 1_500, "{before}");
    }
    assert_eq!(bus.agent.changes.len(), 3, "{:?}", bus.agent.changes);
}

#[test]
fn two_nodes_with_one_id_are_told_and_not_polled() {
    let mut specs = nodes(3, 1_000);
    // The same part number twice, in different lives.
    specs[2] = Spec { boot: 9, ..specs[1] };
    let mut bus = Bus::new(&specs);
    bus.pass(5 * SECOND);
    let twins = |(_, change): &&(_, &str)| *change == "twins";
    assert_eq!(
        bus.agent.changes.iter().filter(twins).count(),
        1,
        "{:?}",
        bus.agent.changes
    );
    assert_eq!(bus.agent.polled(), [specs[0].key()].into());
}
