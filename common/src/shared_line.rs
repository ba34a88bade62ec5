//! A line that several nodes share: RS-485 on two wires (TIA-485), half duplex, polled by one master.
//!
//! Who speaks when two do is heard by nobody, so that every turn is given:
//!
//! 1. The master's bytes are requests of one node and, last of them, its [`Poll`](crate::frame::Poll). The node
//!    answers with whole frames, no more bytes than the poll's credit, and [`END_OF_TURN`]. Then it is silent
//!    until its next poll.
//! 2. A master [discovers](crate::frame::Payload::Discover) by a frame to everybody. Each node that has no
//!    master answers with the same payload under its own header, in the [`slot`] that chance gives it. Two
//!    in one slot are not heard, and find other slots next time.
//! 3. A node is known by its id and boot, and polled by these *and* its address. The master gives another
//!    address by [`Assign`](crate::frame::Payload::Assign), sent to everybody in the name of the node and boot.
//!
//! A broken or missing end of a turn costs the master a silence, and nothing else.

use crate::frame::Header;

/// The byte behind a node's last frame of a turn, which is the end of an empty frame: readers that know of no
/// turns ignore it.
pub const END_OF_TURN: u8 = 0;

/// Slots for answers to a discovery: of eight nodes that join at once, five are heard in the first.
pub const SLOTS: u32 = 16;

/// Most bytes of an answer on the line: the longest header, an empty payload, checksum and stuffing are 50.
pub const ANSWER_BYTES_MAX: u32 = 64;

/// What a slot is longer than an answer: a node's loop may be as late, and transceivers take a moment to turn
/// around.
const SLOT_GUARD_MICROS: u64 = 2_000;

/// How long a slot is, at so many bytes a second.
pub const fn slot_micros(bytes_per_s: u32) -> u64 {
    let bytes_per_s = if bytes_per_s == 0 { 1 } else { bytes_per_s };
    ANSWER_BYTES_MAX as u64 * 1_000_000 / bytes_per_s as u64 + SLOT_GUARD_MICROS
}

/// The slot of the node with the header `own` for the discovery that has the header `question`: always
/// another one, so that nodes that spoke at once do so once.
pub const fn slot(question: &Header, own: &Header) -> u32 {
    // The finaliser of SplitMix64 (Steele, Lea and Flood 2014): each bit of the input changes half of the output.
    let seed = own.node.get() ^ own.boot.get().rotate_left(32);
    let mut mixed = seed ^ question.sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((mixed ^ (mixed >> 31)) % SLOTS as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{LINE_FRAME_MAX, stuff};
    use crate::frame::{Class, FRAME_MAX, Payload, encode};
    use crate::id::{BootId, LineAddress, NodeId};
    use crate::time::NodeTicks;

    fn header(node: u64, sequence: u64) -> Header {
        Header {
            version: crate::version::FRAME,
            address: LineAddress::UNASSIGNED,
            node: NodeId::new(node).unwrap(),
            boot: BootId::from_u64(u64::MAX),
            class: Class::Essential,
            sequence,
            ticks: NodeTicks(u64::MAX),
        }
    }

    #[test]
    fn the_longest_answer_fits_its_slot() {
        let (mut frame, mut line) = ([0; FRAME_MAX], [0; LINE_FRAME_MAX]);
        let frame = encode(&header(u64::MAX, u64::MAX), &Payload::Discover, &mut frame).unwrap();
        let line = stuff(frame, &mut line).unwrap();
        assert!(line.len() <= ANSWER_BYTES_MAX as usize, "{}", line.len());
        assert_eq!(slot_micros(64_000), 3_000);
    }

    #[test]
    fn nodes_that_share_a_slot_part_soon_and_all_slots_are_used() {
        let mut used = [0_u32; SLOTS as usize];
        for question in 0..1_000 {
            used[slot(&header(1, question), &header(7, 0)) as usize] += 1;
        }
        assert!(used.iter().all(|count| (30..100).contains(count)), "{used:?}");
        // Neighbours in a batch of parts: ids that differ in one bit.
        for other in [0x1001, 0x1002, 0x1004, 0x9000] {
            let meet = |question| {
                let question = header(1, question);
                slot(&question, &header(0x1000, 0)) == slot(&question, &header(other, 0))
            };
            let meetings = (0..1_000).filter(|question| meet(*question)).count();
            assert!((30..100).contains(&meetings), "{other:#x}: {meetings} of 1,000");
        }
    }
}
