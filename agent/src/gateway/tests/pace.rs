//! How often the disk and the lines are troubled.

use super::*;
use trunnion_common::frame::{ResetCause, Status};

fn status() -> Payload<'static> {
    Payload::Status(Status {
        reset: ResetCause::PowerOn,
        outbox_used: 0,
        outbox_capacity: 1,
        next: [0, 0],
        held: Default::default(),
        channels: Default::default(),
    })
}

/// Commits of the essential chain asked for since this was last asked; the disk confirms them.
fn commits(world: &mut World) -> usize {
    let essential = |commit: &&Commit| commit.class == Class::Essential;
    let commits = world.unflushed.iter().filter(essential).count();
    world.flush();
    commits
}

#[test]
fn a_report_waits_for_others_and_brings_the_word_of_what_is_held() {
    let mut world = World::fresh();
    world.advance(AGE);
    world.waveform(0);
    world.advance(Duration::from_millis(850));
    commits(&mut world);
    world.node(&status(), Class::Essential, 0);
    world.advance(REPORT_AGE - Duration::from_millis(1));
    assert_eq!(commits(&mut world), 0);
    world.waveform(1);
    world.advance(Duration::from_millis(1));
    assert_eq!(commits(&mut world), 1);
    let kinds = world.kinds();
    assert_eq!(
        kinds.iter().filter(|kind| **kind == Kind::Status as u8).count(),
        2
    );
    world.advance(Duration::from_millis(400));
    assert_eq!(commits(&mut world), 0, "what is held was told a moment ago");
}

#[test]
fn whatever_else_a_node_says_takes_its_reports_along() {
    let mut world = World::fresh();
    world.advance(AGE);
    commits(&mut world);
    world.node(&status(), Class::Essential, 0);
    world.node(&describe(), Class::Essential, 1);
    world.advance(AGE);
    assert_eq!(commits(&mut world), 1);
}

#[test]
fn a_commit_without_news_of_a_node_is_no_reason_to_poll_it() {
    let mut world = World::fresh();
    world.waveform(0);
    world.advance(AGE);
    let before = world.polls.len();
    world.flush();
    assert_eq!(world.polls.len(), before + 1);
    world.advance(Duration::from_secs(1));
    let before = world.polls.len();
    assert_eq!(commits(&mut world), 1, "of what is held");
    assert_eq!(world.polls.len(), before);
}
