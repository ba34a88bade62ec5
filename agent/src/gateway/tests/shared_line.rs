//! Several nodes on one line of the gateway.

use super::*;
use crate::config::Wiring;
use trunnion_common::shared_line::END_OF_TURN;

fn shared() -> World {
    let config = Config {
        ports: vec![PortConfig {
            path: "unused".into(),
            baud: 921_600,
            wiring: Wiring::Shared,
        }],
        ..config()
    };
    World::with(&config, nothing())
}

impl World {
    fn bytes(&mut self, bytes: &[u8]) {
        let arrived = now(self.mono);
        self.port(PortEvent::Bytes(Bytes::copy_from_slice(bytes), arrived));
    }

    /// A node tells a discovery that it is there.
    fn answer(&mut self, node: u64, address: LineAddress) {
        let header = Header {
            version: trunnion_common::version::FRAME,
            address,
            node: NodeId::new(node).unwrap(),
            boot: BootId::from_u64(3),
            class: Class::Essential,
            sequence: 0,
            ticks: NodeTicks(0),
        };
        let (mut raw, mut line) = ([0; FRAME_MAX], [0; LINE_FRAME_MAX]);
        let bytes = stuff(frame(&header, &Payload::Discover, &mut raw).unwrap(), &mut line).unwrap();
        self.bytes(bytes);
    }

    /// Until somebody is polled.
    fn await_poll(&mut self) -> Poll {
        self.polls.clear();
        for _ in 0..5_000 {
            self.advance(Duration::from_millis(1));
            if let Some(poll) = self.polls.pop() {
                return poll;
            }
        }
        panic!("nobody is polled");
    }
}

#[test]
fn nodes_of_a_shared_line_are_asked_for_and_then_polled_in_turns() {
    let mut world = shared();
    assert_eq!(
        (world.discoveries, world.paces.as_slice()),
        (1, &[Pace::AtOnce][..])
    );
    world.answer(9, LineAddress(1));
    world.answer(10, LineAddress::UNASSIGNED);
    assert_eq!(world.polls, [], "others may still answer");
    let first = world.await_poll();
    assert_eq!(first.address, LineAddress(1));
    world.advance(Duration::from_millis(20));
    assert_eq!(world.polls, [], "it is the first one's turn");
    world.bytes(&[END_OF_TURN]);
    assert_eq!(world.polls.pop().map(|poll| poll.address), Some(LineAddress(2)));
    assert_eq!(world.assigned, [LineAddress(2)]);
    assert_eq!(Metrics::label(&world.metrics.line_changes, "joined").get(), 2);
}

#[test]
fn a_node_on_a_shared_line_is_acknowledged_once_its_frames_are_flushed() {
    let mut world = shared();
    world.answer(9, LineAddress(1));
    assert_eq!(world.await_poll().upto, [0, 0]);
    world.waveform(0);
    world.bytes(&[END_OF_TURN]);
    assert_eq!(world.await_poll().upto, [0, 0]);
    assert_eq!(
        world.requests.len(),
        1,
        "what time it is there is asked in the same turn"
    );
    world.bytes(&[END_OF_TURN]);
    world.advance(AGE);
    world.flush();
    assert_eq!(world.await_poll().upto, [0, 1]);
}

#[test]
fn a_node_that_does_not_answer_is_asked_less_often_and_counted() {
    let mut world = shared();
    world.answer(9, LineAddress(1));
    for _ in 0..4 {
        world.await_poll();
    }
    assert_eq!(world.metrics.polls_unanswered.get(), 3);
    world.polls.clear();
    world.advance(Duration::from_millis(900));
    assert_eq!(world.polls, []);
    world.advance(Duration::from_secs(12));
    let asked = world.polls.len();
    assert!((4..12).contains(&asked), "{asked}");
    // It has no master any more, and would answer who is there.
    assert_eq!(world.gateway.lines[0].nodes().count(), 0);
}
