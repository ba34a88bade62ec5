//! The packet filter on its own, for whoever wants to know what it makes of given bytes: no socket, no
//! broker. The door itself uses it through its sessions only.

use super::filter::{Event, Filter};
use super::refusal::RefusalReason;
use trunnion_common::id::GatewayId;

/// What the filter made of a client's bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Examined {
    /// The packets that go on to the broker, in order.
    pub passed: Vec<Vec<u8>>,
    /// Why the rest is refused, if it is.
    pub refusal: Option<RefusalReason>,
    /// Whether the client ended its session in order.
    pub is_ended: bool,
    /// Bytes that wait for more.
    pub held: usize,
}

/// Gives `bytes` to the filter of a gateway's new connection, in pieces of so many.
pub fn examine(gateway: &GatewayId, bytes: &[u8], piece: usize) -> Examined {
    let mut filter = Filter::new(gateway.clone());
    let mut examined = Examined {
        passed: Vec::new(),
        refusal: None,
        is_ended: false,
        held: 0,
    };
    for piece in bytes.chunks(piece.clamp(1, bytes.len().max(1))) {
        filter.buffer().extend_from_slice(piece);
        loop {
            match filter.poll() {
                Ok(Some(Event::Packet(packet))) => examined.passed.push(packet.to_vec()),
                Ok(Some(Event::Disconnect)) => examined.is_ended = true,
                Ok(Some(Event::Connect(_))) => {}
                Ok(None) => break,
                Err(refusal) => {
                    examined.refusal = Some(refusal.reason);
                    return examined;
                }
            }
        }
    }
    examined.held = filter.buffer().len();
    examined
}
