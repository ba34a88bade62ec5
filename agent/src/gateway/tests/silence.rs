//! A spool whose thread hangs, and others that only look like it.

use super::*;

const BOUND: Duration = Duration::from_secs(60);

#[test]
fn a_spool_that_leaves_a_commit_unanswered_for_a_minute_is_given_up_at_the_time_announced() {
    let mut world = World::fresh();
    world.advance(AGE);
    assert!(!world.unflushed.is_empty());
    world.advance(BOUND - AGE);
    assert_eq!(world.gateway.spool_silence(), None);
    assert_eq!(world.metrics.spool_silent_seconds.get(), 50);
    // The gateway asks to be woken for it.
    while world.gateway.spool_silence().is_none() {
        world.mono = world.gateway.next_timeout();
        assert!(world.mono <= BOUND + AGE);
        world.pump();
    }
    assert_eq!(world.gateway.spool_silence(), Some(BOUND));
}

#[test]
fn a_stop_notices_it_too() {
    let mut world = World::fresh();
    world.advance(AGE);
    world.gateway.handle_shutdown(now(world.mono));
    world.pump();
    world.advance(BOUND);
    assert_eq!(world.gateway.spool_silence(), Some(BOUND));
}

#[test]
fn a_disk_that_refuses_is_waited_for() {
    let mut world = World::fresh();
    for _ in 0..100 {
        world.advance(Duration::from_secs(5));
        let refused = Reply::Refused("no space left on device".to_owned());
        world.gateway.handle_spool(refused, now(world.mono));
        world.pump();
    }
    assert!(!world.unflushed.is_empty());
    assert_eq!(world.gateway.spool_silence(), None);
    assert_eq!(world.metrics.commits_refused.get(), 100);
}

#[test]
fn a_spool_that_has_nothing_to_answer_may_be_silent() {
    let mut world = World::fresh();
    world.advance(AGE);
    world.flush();
    world.advance(100 * BOUND);
    assert!(world.unflushed.is_empty());
    assert_eq!(world.gateway.spool_silence(), None);
    assert_eq!(world.metrics.spool_silent_seconds.get(), 0);
}

#[test]
fn a_block_that_is_never_read_counts_as_unanswered_too() {
    let mut world = World::fresh();
    world.advance(AGE);
    world.flush();
    // As if the spool hung over one.
    world.gateway.reading = 1;
    world.pump();
    world.advance(BOUND);
    assert_eq!(world.gateway.spool_silence(), Some(BOUND));
}
