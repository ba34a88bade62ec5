use super::*;
use proptest::prelude::*;
use trunnion_common::block::ChannelHolding;
use trunnion_common::frame::{ChannelStatus, ResetCause};
use trunnion_common::id::Name;

fn gateway() -> GatewayId {
    GatewayId {
        site: Name::new("bremen").unwrap(),
        gateway: Name::new("gw-1").unwrap(),
    }
}

fn node() -> NodeId {
    NodeId::new(7).unwrap()
}

fn key(boot: u32) -> AccountKey {
    (node(), BootId::new(boot, 0), FIRST_CHANNEL)
}

fn range(first: u64, end: u64) -> Range {
    Range::new(first, end).unwrap()
}

fn status(produced: u64, drops: &[(LossCause, u64)]) -> Status {
    let channel = ChannelStatus {
        produced,
        held_from: 0,
        drops: drops.iter().copied().collect(),
    };
    Status {
        channels: [channel].into_iter().collect(),
        held: Default::default(),
        next: [0, 0],
        outbox_used: 0,
        outbox_capacity: 0,
        reset: ResetCause::PowerOn,
    }
}

fn holding(boot: u32, produced: u64, at_node: u64, at_agent: Option<Range>) -> Holding {
    let channel = ChannelHolding {
        channel: FIRST_CHANNEL,
        produced,
        at_node,
        at_agent,
    };
    Holding {
        node: node(),
        boot: BootId::new(boot, 0),
        channels: [channel].into_iter().collect(),
    }
}

fn observe_holding(ledger: &mut Ledger, holding: &Holding) {
    ledger.observe_holding(&gateway(), (Epoch(1), 0), holding, EventTime(0));
}

/// (produced, stored, lost, pending, unexplained)
fn sums(ledger: &mut Ledger, boot: u32) -> (u64, u64, u64, u64, u64) {
    let row = ledger.row(key(boot)).unwrap();
    (
        row.produced,
        row.stored,
        row.lost_total(),
        row.pending,
        row.unexplained,
    )
}

#[test]
fn samples_that_come_in_order_are_produced_and_stored_without_any_report() {
    let mut ledger = Ledger::default();
    assert_eq!(ledger.store(key(1), range(0, 100)), [range(0, 100)]);
    assert_eq!(ledger.store(key(1), range(50, 150)), [range(100, 150)]);
    assert_eq!(sums(&mut ledger, 1), (150, 150, 0, 0, 0));
    assert_eq!(ledger.row(key(1)).unwrap().duplicated, 50);
}

#[test]
fn what_lies_behind_a_hole_waits_for_the_next_report() {
    let mut ledger = Ledger::default();
    ledger.store(key(1), range(0, 100));
    ledger.store(key(1), range(200, 300));
    assert_eq!(sums(&mut ledger, 1), (100, 100, 0, 0, 0));
    observe_holding(&mut ledger, &holding(1, 300, 280, Some(range(100, 200))));
    assert_eq!(sums(&mut ledger, 1), (300, 200, 0, 100, 0));
    ledger.store(key(1), range(100, 200));
    assert_eq!(sums(&mut ledger, 1), (300, 300, 0, 0, 0));
}

#[test]
fn a_report_that_its_successor_overtook_says_nothing_any_more() {
    let mut ledger = Ledger::default();
    ledger.store(key(1), range(0, 100));
    let report = |ledger: &mut Ledger, epoch, sequence, at_agent| {
        let holding = holding(1, 120, 120, at_agent);
        ledger.observe_holding(&gateway(), (Epoch(epoch), sequence), &holding, EventTime(0));
    };
    ledger.refuse(key(1), range(100, 120));
    report(&mut ledger, 1, 8, None);
    report(&mut ledger, 1, 7, Some(range(100, 140)));
    let at_agent = |ledger: &Ledger| ledger.accounts.get(&key(1)).unwrap().at_agent;
    assert_eq!(at_agent(&ledger), None);
    report(&mut ledger, 2, 0, Some(range(100, 140)));
    assert!(at_agent(&ledger).is_some(), "another epoch counts anew");
}

/// A boot that has ended, of which an agent of epoch 1 said to hold the last 50 samples.
fn ended_boot_with_an_agent() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.observe_boot(node(), BootId::new(1, 0));
    ledger.observe_block(&gateway(), Epoch(1));
    ledger.store(key(1), range(0, 100));
    observe_holding(&mut ledger, &holding(1, 150, 150, Some(range(100, 150))));
    ledger.observe_boot(node(), BootId::new(2, 0));
    assert_eq!(sums(&mut ledger, 1), (150, 100, 0, 50, 0));
    ledger
}

/// An agent that knows of 80 samples, of which it holds what it says, reports in epoch 2.
fn report_of_an_old_image(ledger: &mut Ledger, at_agent: Option<Range>) {
    ledger.observe_block(&gateway(), Epoch(2));
    let holding = holding(1, 80, 80, at_agent);
    ledger.observe_holding(&gateway(), (Epoch(2), 0), &holding, EventTime(0));
}

#[test]
fn what_a_gateway_lost_with_its_disk_is_not_held_once_its_old_image_speaks() {
    for is_closed in [true, false] {
        let mut ledger = ended_boot_with_an_agent();
        if is_closed {
            ledger.observe_epoch_closed(&gateway(), Epoch(1));
        } else {
            ledger.observe_superseded(&gateway());
        }
        report_of_an_old_image(&mut ledger, Some(range(60, 80)));
        assert_eq!(sums(&mut ledger, 1), (150, 100, 50, 0, 0));
        assert_eq!(ledger.row(key(1)).unwrap().lost, [(LossCause::NotHeld, 50)]);
        // Another agent had them after all.
        ledger.store(key(1), range(100, 120));
        assert_eq!(sums(&mut ledger, 1), (150, 120, 30, 0, 0));
    }
}

#[test]
fn what_an_old_image_still_holds_is_pending_until_it_has_come() {
    let mut ledger = Ledger::default();
    ledger.observe_boot(node(), BootId::new(1, 0));
    ledger.observe_block(&gateway(), Epoch(1));
    ledger.store(key(1), range(0, 60));
    observe_holding(&mut ledger, &holding(1, 150, 150, Some(range(60, 150))));
    ledger.observe_boot(node(), BootId::new(2, 0));
    ledger.observe_epoch_closed(&gateway(), Epoch(1));
    report_of_an_old_image(&mut ledger, Some(range(60, 80)));
    assert_eq!(sums(&mut ledger, 1), (150, 60, 70, 20, 0));
    ledger.store(key(1), range(60, 75));
    let tombstone = Tombstone {
        epoch: Epoch(2),
        blocks: range(3, 4),
        cause: LossCause::SpoolUnreadable,
        frames: Default::default(),
        samples: [(node(), BootId::new(1, 0), FIRST_CHANNEL, 5)]
            .into_iter()
            .collect(),
    };
    ledger.observe_tombstone(&tombstone);
    let rest = holding(1, 80, 80, None);
    ledger.observe_holding(&gateway(), (Epoch(2), 1), &rest, EventTime(0));
    assert_eq!(sums(&mut ledger, 1), (150, 75, 75, 0, 0));
}

#[test]
fn what_an_old_image_does_not_even_know_of_is_not_held_either() {
    let mut ledger = ended_boot_with_an_agent();
    let held = |ledger: &mut Ledger, epoch, boot| {
        ledger.observe_block(&gateway(), Epoch(epoch));
        let boots = BTreeSet::from([(node(), BootId::new(boot, 0))]);
        ledger.observe_boots_held(&gateway(), (Epoch(epoch), 0), &boots);
    };
    held(&mut ledger, 2, 2);
    assert_eq!(sums(&mut ledger, 1), (150, 100, 0, 50, 0), "the same start");
    ledger.observe_superseded(&gateway());
    held(&mut ledger, 3, 1);
    assert_eq!(sums(&mut ledger, 1), (150, 100, 0, 50, 0), "it knows the boot");
    ledger.observe_epoch_closed(&gateway(), Epoch(1));
    held(&mut ledger, 4, 2);
    assert_eq!(ledger.row(key(1)).unwrap().lost, [(LossCause::NotHeld, 50)]);
    assert_eq!(sums(&mut ledger, 1), (150, 100, 50, 0, 0));
}

#[test]
fn a_report_that_says_less_and_is_of_no_later_start_says_nothing() {
    let mut ledger = ended_boot_with_an_agent();
    report_of_an_old_image(&mut ledger, None);
    assert_eq!(sums(&mut ledger, 1), (150, 100, 0, 50, 0));
    // A former start's report that was on its way while its successor spoke.
    ledger.observe_superseded(&gateway());
    let newest = holding(1, 150, 150, Some(range(100, 150)));
    ledger.observe_block(&gateway(), Epoch(3));
    ledger.observe_holding(&gateway(), (Epoch(3), 0), &newest, EventTime(0));
    report_of_an_old_image(&mut ledger, None);
    assert_eq!(sums(&mut ledger, 1), (150, 100, 0, 50, 0));
}

#[test]
fn a_hole_that_nobody_holds_and_nobody_lost_is_unexplained() {
    let mut ledger = Ledger::default();
    ledger.store(key(1), range(0, 100));
    observe_holding(&mut ledger, &holding(1, 300, 280, Some(range(150, 290))));
    assert_eq!(sums(&mut ledger, 1), (300, 100, 0, 150, 50));
    assert_eq!(ledger.unexplained(), 50);
    ledger.observe_status(
        node(),
        BootId::new(1, 0),
        &status(300, &[(LossCause::OutboxFull, 50)]),
    );
    assert_eq!(sums(&mut ledger, 1), (300, 100, 50, 150, 0));
}

#[test]
fn a_sample_dropped_after_its_acknowledgement_was_lost_counts_as_stored() {
    let mut ledger = Ledger::default();
    ledger.store(key(1), range(0, 100));
    ledger.observe_status(
        node(),
        BootId::new(1, 0),
        &status(100, &[(LossCause::OutboxFull, 20)]),
    );
    observe_holding(&mut ledger, &holding(1, 100, 100, None));
    assert_eq!(sums(&mut ledger, 1), (100, 100, 0, 0, 0));
}

#[test]
fn what_an_ended_boot_still_held_is_lost_unless_it_comes() {
    let mut ledger = Ledger::default();
    ledger.observe_boot(node(), BootId::new(1, 0));
    ledger.store(key(1), range(0, 100));
    observe_holding(&mut ledger, &holding(1, 150, 100, None));
    assert_eq!(sums(&mut ledger, 1), (150, 100, 0, 50, 0));
    ledger.observe_boot(node(), BootId::new(2, 9));
    assert_eq!(ledger.row(key(1)).unwrap().lost, [(LossCause::NodeReset, 50)]);
    ledger.store(key(1), range(100, 120));
    assert_eq!(sums(&mut ledger, 1), (150, 120, 30, 0, 0));
    assert!(
        ledger
            .poll_changes()
            .iter()
            .any(|row| row.boot == BootId::new(1, 0))
    );
    assert!(ledger.poll_changes().is_empty());
}

#[test]
fn a_hole_that_an_ended_boot_never_reported_died_with_it_unless_it_comes() {
    let mut ledger = Ledger::default();
    ledger.observe_boot(node(), BootId::new(1, 0));
    ledger.store(key(1), range(0, 100));
    ledger.store(key(1), range(150, 200));
    assert_eq!(sums(&mut ledger, 1), (100, 100, 0, 0, 0));
    ledger.observe_boot(node(), BootId::new(2, 0));
    assert_eq!(ledger.row(key(1)).unwrap().lost, [(LossCause::NodeReset, 50)]);
    assert_eq!(sums(&mut ledger, 1), (200, 150, 50, 0, 0));
    ledger.store(key(1), range(100, 150));
    assert_eq!(sums(&mut ledger, 1), (200, 200, 0, 0, 0));
}

#[test]
fn tombstones_and_refusals_are_named() {
    let mut ledger = Ledger::default();
    ledger.store(key(1), range(0, 100));
    ledger.refuse(key(1), range(100, 110));
    ledger.observe_tombstone(&Tombstone {
        epoch: Epoch(1),
        blocks: range(3, 4),
        cause: LossCause::SpoolEvicted,
        frames: Default::default(),
        samples: [(node(), BootId::new(1, 0), FIRST_CHANNEL, 40)]
            .into_iter()
            .collect(),
    });
    observe_holding(&mut ledger, &holding(1, 150, 150, None));
    let row = ledger.row(key(1)).unwrap();
    assert_eq!(
        row.lost,
        [(LossCause::SpoolEvicted, 40), (LossCause::Refused, 10)]
    );
    assert_eq!((row.stored, row.unexplained), (100, 0));
}

#[test]
fn a_loss_of_unknown_content_explains_what_is_missing_at_the_next_report_and_no_more() {
    let mut ledger = Ledger::default();
    ledger.store(key(1), range(0, 100));
    ledger.observe_unnamed(Unnamed {
        gateway: gateway(),
        boot: None,
        cause: LossCause::NotHeld,
        samples_max: 60,
        since: EventTime(0),
    });
    observe_holding(&mut ledger, &holding(1, 150, 150, None));
    assert_eq!(ledger.row(key(1)).unwrap().lost, [(LossCause::NotHeld, 50)]);
    observe_holding(&mut ledger, &holding(1, 200, 200, None));
    assert_eq!(sums(&mut ledger, 1), (200, 100, 60, 0, 40));
}

#[test]
fn many_holes_stay_bounded_and_the_equation_holds() {
    let mut ledger = Ledger::default();
    let holes = 3 * RANGES_MAX as u64;
    for n in 0..holes {
        ledger.store(key(1), range(10 * n, 10 * n + 7));
        ledger.observe_status(
            node(),
            BootId::new(1, 0),
            &status(10 * n + 10, &[(LossCause::OutboxFull, 3 * (n + 1))]),
        );
        observe_holding(&mut ledger, &holding(1, 10 * n + 10, 10 * n + 10, None));
    }
    assert_eq!(sums(&mut ledger, 1), (10 * holes, 7 * holes, 3 * holes, 0, 0));
    assert_eq!(
        ledger.row(key(1)).unwrap().lost,
        [(LossCause::OutboxFull, 3 * holes)]
    );
    assert!(ledger.accounts.get(&key(1)).unwrap().stored.ranges().len() <= RANGES_MAX);
}

/// Where a sample really is.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Place {
    Node,
    /// With the agent; whether the node knows that it is safe.
    Agent,
    Stored,
    Lost,
}

/// What the agent sends, in order.
#[derive(Clone)]
enum Sent {
    Frame(u64, u64),
    Status(Box<Status>),
    Holding(Box<Holding>),
}

proptest! {
    /// A node, an agent and a collector, sample by sample: after every step the equation holds
    /// with nothing unexplained, and once everything has come it agrees with where each sample
    /// really is.
    #[test]
    fn nothing_is_ever_unexplained(
        steps in prop::collection::vec((0u8..8, 1u64..12), 0..150),
    ) {
        let mut ledger = Ledger::default();
        let mut places: Vec<Place> = Vec::new();
        // Samples the agent has, but whose acknowledgement the node has not heard.
        let mut unheard: Vec<(u64, u64)> = Vec::new();
        let mut node_dropped = 0;
        let mut chain: std::collections::VecDeque<Sent> = Default::default();
        let deliver = |ledger: &mut Ledger, places: &mut Vec<Place>, sent: Sent| match sent {
            Sent::Frame(first, end) => {
                ledger.store(key(1), range(first, end));
                for place in &mut places[first as usize..end as usize] {
                    *place = Place::Stored;
                }
            }
            Sent::Status(status) => ledger.observe_status(node(), BootId::new(1, 0), &status),
            Sent::Holding(holding) => observe_holding(ledger, &holding),
        };
        let report = |places: &[Place], last_status: &Status| {
            let find = |wanted| places.iter().position(|place| *place == wanted);
            let at_agent = find(Place::Agent).map(|first| {
                let last = places.iter().rposition(|place| *place == Place::Agent).unwrap();
                range(first as u64, last as u64 + 1)
            });
            holding(1, last_status.channels[0].produced, last_status.channels[0].held_from, at_agent)
        };
        for (step, n) in steps {
            let node_first = places.iter().position(|place| *place == Place::Node);
            match step {
                0 | 1 => places.extend((0..n).map(|_| Place::Node)),
                2 => {
                    // The oldest samples go to the agent, and perhaps the node hears of it.
                    if let Some(first) = node_first {
                        let end = places.len().min(first + n as usize);
                        let end = (first..end).find(|&i| places[i] != Place::Node).unwrap_or(end);
                        places[first..end].fill(Place::Agent);
                        chain.push_back(Sent::Frame(first as u64, end as u64));
                        if n % 2 == 0 {
                            unheard.push((first as u64, end as u64));
                        }
                    }
                }
                3 => {
                    // The node drops its oldest, which the agent may have already.
                    if let Some((first, end)) = unheard.pop() {
                        node_dropped += end - first;
                    } else if let Some(first) = node_first {
                        places[first] = Place::Lost;
                        node_dropped += 1;
                    }
                }
                4 | 5 => {
                    let mut last_status = status(places.len() as u64, &[(LossCause::OutboxFull, node_dropped)]);
                    last_status.channels[0].held_from = unheard
                        .iter()
                        .map(|unheard| unheard.0)
                        .chain(node_first.map(|first| first as u64))
                        .min()
                        .unwrap_or(places.len() as u64);
                    chain.push_back(Sent::Status(Box::new(last_status.clone())));
                    chain.push_back(Sent::Holding(Box::new(report(&places, &last_status))));
                }
                _ => {
                    for _ in 0..n {
                        if let Some(sent) = chain.pop_front() {
                            deliver(&mut ledger, &mut places, sent);
                        }
                    }
                }
            }
            if let Some(row) = ledger.row(key(1)) {
                prop_assert_eq!(row.unexplained, 0);
                prop_assert_eq!(row.produced, row.stored + row.lost_total() + row.pending);
                prop_assert!(row.produced <= places.len() as u64);
            }
        }
        unheard.clear();
        for (first, place) in places.iter_mut().enumerate() {
            if *place == Place::Node {
                *place = Place::Agent;
                chain.push_back(Sent::Frame(first as u64, first as u64 + 1));
            }
        }
        let mut last_status = status(places.len() as u64, &[(LossCause::OutboxFull, node_dropped)]);
        last_status.channels[0].held_from = places.len() as u64;
        chain.push_back(Sent::Status(Box::new(last_status.clone())));
        while let Some(sent) = chain.pop_front() {
            deliver(&mut ledger, &mut places, sent);
        }
        observe_holding(&mut ledger, &report(&places, &last_status));
        let count = |wanted| places.iter().filter(|place| **place == wanted).count() as u64;
        prop_assert_eq!(
            sums(&mut ledger, 1),
            (places.len() as u64, count(Place::Stored), count(Place::Lost), 0, 0)
        );
    }
}
