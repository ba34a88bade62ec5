use super::*;
use proptest::prelude::*;
use trunnion_common::block::{ChannelHolding, Holding};
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

/// One report, by epoch and sequence, of an agent that knows one boot.
fn say(ledger: &mut Ledger, (epoch, sequence): (u64, u64), holding: &Holding) {
    let holdings = std::slice::from_ref(holding);
    ledger.observe_holdings(&gateway(), (Epoch(epoch), sequence), holdings, true);
}

fn observe_holding(ledger: &mut Ledger, holding: &Holding) {
    say(ledger, (1, 0), holding);
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
        say(ledger, (epoch, sequence), &holding);
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
    ledger.observe_block(&gateway(), (Epoch(1), 0));
    ledger.store(key(1), range(0, 100));
    observe_holding(&mut ledger, &holding(1, 150, 150, Some(range(100, 150))));
    ledger.observe_boot(node(), BootId::new(2, 0));
    assert_eq!(sums(&mut ledger, 1), (150, 100, 0, 50, 0));
    ledger
}

/// An agent that knows of 80 samples, of which it holds what it says, reports in epoch 2.
fn report_of_an_old_image(ledger: &mut Ledger, at_agent: Option<Range>) {
    ledger.observe_block(&gateway(), (Epoch(2), 0));
    let holding = holding(1, 80, 80, at_agent);
    say(ledger, (2, 0), &holding);
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
    ledger.observe_block(&gateway(), (Epoch(1), 0));
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
    say(&mut ledger, (2, 1), &rest);
    assert_eq!(sums(&mut ledger, 1), (150, 75, 75, 0, 0));
}

/// Of another boot of the node, which is not the one in question.
fn report_of_boot(ledger: &mut Ledger, epoch: u64, boot: u32) {
    ledger.observe_block(&gateway(), (Epoch(epoch), 0));
    let holding = holding(boot, 0, 0, None);
    say(ledger, (epoch, 0), &holding);
}

#[test]
fn what_an_old_image_does_not_even_know_of_is_not_held_either() {
    let mut ledger = ended_boot_with_an_agent();
    report_of_boot(&mut ledger, 2, 2);
    assert_eq!(sums(&mut ledger, 1), (150, 100, 0, 50, 0), "the same start");
    ledger.observe_superseded(&gateway());
    ledger.observe_block(&gateway(), (Epoch(3), 0));
    say(&mut ledger, (3, 0), &holding(1, 150, 150, Some(range(100, 150))));
    assert_eq!(sums(&mut ledger, 1), (150, 100, 0, 50, 0), "it knows the boot");
    ledger.observe_epoch_closed(&gateway(), Epoch(3));
    report_of_boot(&mut ledger, 4, 2);
    assert_eq!(ledger.row(key(1)).unwrap().lost, [(LossCause::NotHeld, 50)]);
    assert_eq!(sums(&mut ledger, 1), (150, 100, 50, 0, 0));
}

#[test]
fn a_channel_of_which_an_old_image_knows_the_boot_alone_is_not_held_either() {
    let mut ledger = ended_boot_with_an_agent();
    ledger.observe_superseded(&gateway());
    ledger.observe_block(&gateway(), (Epoch(2), 0));
    let mut other = holding(1, 1, 0, None);
    other.channels[0].channel = ChannelId::new(1).unwrap();
    say(&mut ledger, (2, 0), &other);
    assert_eq!(ledger.row(key(1)).unwrap().lost, [(LossCause::NotHeld, 50)]);
    assert_eq!(sums(&mut ledger, 1), (150, 100, 50, 0, 0));
}

#[test]
fn a_word_of_the_former_start_that_comes_after_the_old_images_says_nothing() {
    let mut ledger = ended_boot_with_an_agent();
    // The image was made before the former start, and cannot name it: it lists its epochs no more.
    ledger.observe_epoch_closed(&gateway(), Epoch(1));
    report_of_an_old_image(&mut ledger, None);
    assert_eq!(sums(&mut ledger, 1), (150, 100, 50, 0, 0));
    // The network had held these up.
    for (sequence, produced) in [(5, 150), (6, 170)] {
        ledger.observe_block(&gateway(), (Epoch(1), 0));
        let late = holding(1, produced, produced, Some(range(100, produced)));
        say(&mut ledger, (1, sequence), &late);
    }
    let late_boot = holding(2, 40, 40, Some(range(0, 40)));
    say(&mut ledger, (1, 7), &late_boot);
    assert_eq!(sums(&mut ledger, 1), (150, 100, 50, 0, 0));
    assert_eq!(ledger.row(key(2)), None);
    // What came with them is stored all the same.
    ledger.store(key(1), range(100, 120));
    assert_eq!(sums(&mut ledger, 1), (150, 120, 30, 0, 0));
}

#[test]
fn what_a_former_start_had_not_explained_went_with_its_disk() {
    for knows_it in [true, false] {
        let mut ledger = ended_boot_with_an_agent();
        // The tombstone of the first 20 was older than this report, and yet to come.
        say(&mut ledger, (1, 9), &holding(1, 150, 150, Some(range(120, 150))));
        assert_eq!(sums(&mut ledger, 1), (150, 100, 0, 30, 20));
        ledger.observe_superseded(&gateway());
        if knows_it {
            report_of_an_old_image(&mut ledger, None);
        } else {
            report_of_boot(&mut ledger, 2, 2);
        }
        assert_eq!(sums(&mut ledger, 1), (150, 100, 50, 0, 0));
    }
}

#[test]
fn of_two_starts_whose_order_nobody_knows_the_one_that_knows_more_is_the_newer() {
    let mut ledger = ended_boot_with_an_agent();
    ledger.observe_epoch_closed(&gateway(), Epoch(1));
    // A backlog of the image that no journal has heard of, and the start that drains it.
    ledger.observe_block(&gateway(), (Epoch(2), 0));
    say(&mut ledger, (2, 3), &holding(1, 40, 40, Some(range(20, 110))));
    assert_eq!(sums(&mut ledger, 1), (150, 100, 40, 10, 0));
    ledger.observe_block(&gateway(), (Epoch(3), 0));
    say(&mut ledger, (3, 0), &holding(1, 80, 80, Some(range(100, 130))));
    assert_eq!(sums(&mut ledger, 1), (150, 100, 20, 30, 0));
    say(&mut ledger, (2, 4), &holding(1, 60, 60, Some(range(20, 110))));
    assert_eq!(sums(&mut ledger, 1), (150, 100, 20, 30, 0), "it knows less");
    say(&mut ledger, (3, 1), &holding(1, 80, 80, None));
    assert_eq!(ledger.row(key(1)).unwrap().lost, [(LossCause::NotHeld, 50)]);
}

#[test]
fn a_report_that_says_less_and_is_of_no_later_start_says_nothing() {
    let mut ledger = ended_boot_with_an_agent();
    report_of_an_old_image(&mut ledger, None);
    assert_eq!(sums(&mut ledger, 1), (150, 100, 0, 50, 0));
    // A former start's report that was on its way while its successor spoke.
    ledger.observe_superseded(&gateway());
    let newest = holding(1, 150, 150, Some(range(100, 150)));
    ledger.observe_block(&gateway(), (Epoch(3), 0));
    say(&mut ledger, (3, 0), &newest);
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

/// Up to 60 samples of boot 1, of which block 4 of epoch 1 tells.
fn unnamed() -> Unnamed {
    Unnamed {
        gateway: gateway(),
        boot: Some((node(), BootId::new(1, 0))),
        cause: LossCause::NotHeld,
        samples_max: 60,
        told: Some((Epoch(1), 4)),
    }
}

#[test]
fn a_loss_of_unknown_content_explains_what_is_missing_at_the_next_report_and_no_more() {
    for boot in [None, Some((node(), BootId::new(1, 0)))] {
        let mut ledger = Ledger::default();
        ledger.store(key(1), range(0, 100));
        ledger.observe_unnamed(Unnamed { boot, ..unnamed() });
        say(&mut ledger, (1, 5), &holding(1, 150, 150, None));
        assert_eq!(ledger.row(key(1)).unwrap().lost, [(LossCause::NotHeld, 50)]);
        say(&mut ledger, (1, 6), &holding(1, 200, 200, None));
        assert_eq!(
            sums(&mut ledger, 1),
            (200, 100, 50, 0, 50),
            "it was before the first"
        );
    }
}

#[test]
fn a_loss_of_unknown_content_explains_a_hole_that_shows_only_when_a_backlog_has_drained() {
    let mut ledger = Ledger::default();
    ledger.store(key(1), range(0, 100));
    ledger.observe_unnamed(unnamed());
    // The agent names the first and the last that it holds; 40 between them are lost.
    for (sequence, first) in [(5, 100), (6, 120), (7, 140)] {
        ledger.store(key(1), range(100, first.max(101)));
        let report = holding(1, 300, 300, Some(range(first, 300)));
        say(&mut ledger, (1, sequence), &report);
        assert_eq!(sums(&mut ledger, 1).4, 0);
    }
    ledger.store(key(1), range(180, 300));
    say(&mut ledger, (1, 8), &holding(1, 300, 300, None));
    assert_eq!(ledger.row(key(1)).unwrap().lost, [(LossCause::NotHeld, 40)]);
    assert_eq!(sums(&mut ledger, 1), (300, 260, 40, 0, 0));
    say(&mut ledger, (1, 9), &holding(1, 310, 310, None));
    assert_eq!(sums(&mut ledger, 1), (310, 260, 40, 0, 10), "that has passed");
}

#[test]
fn a_loss_remains_for_what_counts_explained_in_its_stead() {
    let mut ledger = Ledger::default();
    ledger.store(key(1), range(0, 100));
    ledger.observe_unnamed(unnamed());
    say(&mut ledger, (1, 5), &holding(1, 140, 140, Some(range(100, 140))));
    // The sensor's own 20 are at 150 to 170, but 100 to 140 is missing first.
    ledger.observe_status(
        node(),
        BootId::new(1, 0),
        &status(200, &[(LossCause::SensorOverrun, 20)]),
    );
    say(&mut ledger, (1, 6), &holding(1, 200, 200, Some(range(140, 200))));
    assert_eq!(sums(&mut ledger, 1), (200, 100, 40, 60, 0));
    ledger.store(key(1), range(140, 150));
    ledger.store(key(1), range(170, 200));
    say(&mut ledger, (1, 7), &holding(1, 200, 200, None));
    assert_eq!(sums(&mut ledger, 1), (200, 140, 60, 0, 0));
    assert_eq!(
        ledger.row(key(1)).unwrap().lost,
        [(LossCause::SensorOverrun, 20), (LossCause::NotHeld, 40)]
    );
    say(&mut ledger, (1, 8), &holding(1, 200, 200, None));
    say(&mut ledger, (1, 9), &holding(1, 210, 210, None));
    assert_eq!(sums(&mut ledger, 1), (210, 140, 60, 0, 10), "that is over");
}

#[test]
fn a_report_that_is_older_than_a_loss_does_not_end_what_it_may_explain() {
    let mut ledger = Ledger::default();
    ledger.store(key(1), range(0, 100));
    ledger.observe_unnamed(unnamed());
    say(&mut ledger, (1, 3), &holding(1, 100, 100, None));
    say(&mut ledger, (1, 5), &holding(1, 150, 150, None));
    assert_eq!(sums(&mut ledger, 1), (150, 100, 50, 0, 0));
}

#[test]
fn a_report_of_a_former_start_is_older_than_a_loss_of_which_a_later_one_tells() {
    let mut ledger = Ledger::default();
    ledger.observe_block(&gateway(), (Epoch(1), 0));
    ledger.observe_superseded(&gateway());
    ledger.observe_block(&gateway(), (Epoch(2), 0));
    ledger.store(key(1), range(0, 100));
    ledger.observe_unnamed(Unnamed {
        told: Some((Epoch(2), 1)),
        ..unnamed()
    });
    say(&mut ledger, (1, 9), &holding(1, 120, 120, Some(range(100, 120))));
    ledger.store(key(1), range(100, 120));
    say(&mut ledger, (2, 5), &holding(1, 200, 200, Some(range(120, 200))));
    ledger.store(key(1), range(170, 200));
    say(&mut ledger, (2, 6), &holding(1, 200, 200, None));
    assert_eq!(sums(&mut ledger, 1), (200, 150, 50, 0, 0));
}

#[test]
fn a_loss_that_comes_after_the_report_that_misses_it_explains_it_all_the_same() {
    let mut ledger = Ledger::default();
    ledger.store(key(1), range(0, 100));
    say(&mut ledger, (1, 5), &holding(1, 150, 150, None));
    assert_eq!(sums(&mut ledger, 1), (150, 100, 0, 0, 50));
    ledger.observe_unnamed(unnamed());
    assert_eq!(sums(&mut ledger, 1), (150, 100, 50, 0, 0));
}

#[test]
fn a_loss_that_comes_late_remains_for_what_counts_had_explained_before_it() {
    let mut ledger = Ledger::default();
    let overrun = |ledger: &mut Ledger, samples| {
        let status = status(300, &[(LossCause::SensorOverrun, samples)]);
        ledger.observe_status(node(), BootId::new(1, 0), &status);
    };
    ledger.store(key(1), range(0, 100));
    // The sensor's own 20 are at 150, with the agent as far as anybody knows; 100 to 150 is missing.
    overrun(&mut ledger, 20);
    say(&mut ledger, (1, 5), &holding(1, 200, 200, Some(range(150, 200))));
    assert_eq!(sums(&mut ledger, 1), (200, 100, 20, 50, 30));
    ledger.observe_unnamed(unnamed());
    say(&mut ledger, (1, 6), &holding(1, 200, 200, Some(range(150, 200))));
    assert_eq!(sums(&mut ledger, 1), (200, 100, 50, 50, 0));
    // The next 20 are at 230.
    overrun(&mut ledger, 40);
    ledger.store(key(1), range(170, 210));
    say(&mut ledger, (1, 7), &holding(1, 260, 260, Some(range(210, 260))));
    assert_eq!(sums(&mut ledger, 1), (260, 140, 70, 50, 0));
    ledger.store(key(1), range(210, 230));
    ledger.store(key(1), range(250, 260));
    say(&mut ledger, (1, 8), &holding(1, 260, 260, None));
    assert_eq!(sums(&mut ledger, 1), (260, 170, 90, 0, 0));
}

#[test]
fn losses_of_unknown_content_stay_bounded_and_those_of_one_kind_are_one() {
    let mut losses = Losses::default();
    for boot in 0..1_000 {
        let boot = Some((node(), BootId::new(boot, 0)));
        for _ in 0..3 {
            losses.insert(Unnamed { boot, ..unnamed() });
        }
    }
    let explained =
        |losses: &mut Losses, boot| losses.explain(&gateway(), (node(), BootId::new(boot, 0)), 1_000);
    assert_eq!(explained(&mut losses, 999), [(LossCause::NotHeld, 180)]);
    assert_eq!(explained(&mut losses, 999), []);
    assert_eq!(explained(&mut losses, 0), [], "the first has made room");
    losses.forget((node(), BootId::new(998, 0)));
    assert_eq!(explained(&mut losses, 998), []);
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
