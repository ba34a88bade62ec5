//! When the bytes of a line cannot wait for its turn.

use super::*;

#[test]
fn a_line_is_read_at_once_from_a_time_request_to_its_reply() {
    let mut world = World::fresh();
    assert!(world.paces.is_empty(), "nobody is known who could be asked");
    world.waveform(0);
    assert_eq!((world.requests.len(), &world.paces[..]), (1, &[Pace::AtOnce][..]));
    world.time_reply(0);
    assert_eq!(world.paces, [Pace::AtOnce, Pace::InTurn]);
    while world.requests.len() == 1 {
        world.advance(Duration::from_millis(10));
    }
    assert_eq!(world.paces.len(), 3);
    assert_eq!(world.paces[2], Pace::AtOnce);
}

#[test]
fn a_reply_that_does_not_come_is_not_waited_for_long() {
    let mut world = World::fresh();
    world.waveform(0);
    // Past the quick exchanges of a boot that was just heard.
    world.advance(Duration::from_secs(1));
    assert_eq!(world.paces, [Pace::AtOnce, Pace::InTurn]);
    assert!(
        world.gateway.next_timeout() > world.mono,
        "nothing is left to wake for"
    );
}

#[test]
fn where_a_machine_is_judged_here_lines_are_read_at_once_all_the_time() {
    let mut world = World::fresh();
    world.gateway.restore_commands(super::watching::record());
    world.waveform(0);
    world.time_reply(0);
    world.advance(Duration::from_secs(3));
    assert_eq!(world.paces, [Pace::AtOnce]);
    assert!(world.gateway.next_timeout() > world.mono);
}

#[test]
fn a_line_without_a_node_waits_for_its_turn() {
    let mut world = World::fresh();
    world.waveform(0);
    world.port(PortEvent::Closed);
    assert_eq!(world.paces, [Pace::AtOnce, Pace::InTurn]);
}
