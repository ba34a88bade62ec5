//! One line: bytes in, frames out; polls and requests back. Pure.
//!
//! The agent is the line's master. On a line of one node's own it learns from the frames that it hears which
//! node is there, and speaks when it likes; a line that several nodes share has [turns](shared). Should it
//! hear another master's poll, it stops using the line: two masters would acknowledge each other's
//! frames.

pub mod shared;

use shared::{Change, Shared, Turn};
use std::time::Duration;
use trunnion_common::codec::{Decoder, Fed, LINE_FRAME_MAX, stuff};
use trunnion_common::frame::{Class, FRAME_MAX, Header, Payload, Poll, RawFrame, TimeRequest, encode};
use trunnion_common::id::{BootId, LineAddress, MasterId, NodeId};
use trunnion_common::reject::RejectReason;
use trunnion_common::shared_line::END_OF_TURN;
use trunnion_common::time::NodeTicks;
use trunnion_common::version;

use crate::config::Wiring;
use crate::intake::{BootKey, Upto};
use crate::port::Pace;

/// Bytes a node may have under way until the next poll. On a full-duplex line it only guards against a
/// node that floods: at the poll interval it allows 640 kB/s, more than any line carries.
const CREDIT_BYTES: u32 = 160 * 1_024;

/// From one word about broken frames on a line to the next: noise must not flood the log as well.
const NOISE_TOLD: Duration = Duration::from_secs(10);

/// A line.
#[derive(Debug)]
pub struct Line {
    master: MasterId,
    decoder: Decoder<'static>,
    way: Way,
    phase: Phase,
    sent: u64,
    requests: u32,
    pace: Pace,
    /// Broken frames not told of yet, and until when they need not be.
    broken: u64,
    quiet_until: Duration,
}

/// Who is on the other end.
#[derive(Debug)]
enum Way {
    /// One node.
    Own {
        contact: Option<Contact>,
        next_poll: Duration,
        poll_interval: Duration,
    },
    /// Several, in turns.
    Shared(Shared),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The port is not open.
    Closed,
    /// In use.
    Open,
    /// Another master is on the line: not used again in this life of the agent.
    SecondMaster,
}

#[derive(Clone, Copy, Debug)]
struct Contact {
    key: BootKey,
    address: LineAddress,
}

/// What was found on the line.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "lives on the stack of one loop, for one frame"
)]
pub enum Heard<'l> {
    /// A frame from a node, and what it says if this build can read it.
    Frame(RawFrame<'l>, Option<Payload<'l>>),
    /// Bytes that are no frame.
    Broken(RejectReason),
    /// Another master polls here: the line has been given up.
    SecondMaster(MasterId),
    /// A node answered a discovery, or spoke unasked, and that changed who is polled on a shared line.
    Changed(BootKey, Change),
}

impl Line {
    /// A line that is not open yet. A node of its own is polled after `poll_interval` at the latest.
    pub fn new(master: MasterId, wiring: Wiring, baud: u32, poll_interval: Duration) -> Self {
        // The decoder borrows its buffer; lines last as long as the process, and so may this.
        let buffer = Box::leak(Box::new([0; LINE_FRAME_MAX]));
        Self {
            master,
            decoder: Decoder::new(buffer),
            way: match wiring {
                Wiring::Own => Way::Own {
                    contact: None,
                    next_poll: Duration::ZERO,
                    poll_interval,
                },
                Wiring::Shared => Way::Shared(Shared::new(baud)),
            },
            phase: Phase::Closed,
            sent: 0,
            requests: 0,
            pace: Pace::default(),
            broken: 0,
            quiet_until: Duration::ZERO,
        }
    }

    /// The port has been opened: what was left of a frame is not continued by what comes now.
    pub fn handle_opened(&mut self) {
        let _ = self.decoder.feed(&[0]);
        if self.phase == Phase::Closed {
            self.phase = Phase::Open;
        }
        if let Way::Shared(shared) = &mut self.way {
            shared.handle_opened();
        }
    }

    /// The port is gone.
    pub fn handle_closed(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Closed;
        }
    }

    /// Takes bytes up to the end of the next frame; call it again with what is left of `bytes`.
    pub fn handle_bytes(&mut self, bytes: &mut &[u8], now: Duration) -> Option<Heard<'_>> {
        if self.phase == Phase::SecondMaster {
            *bytes = &[];
            return None;
        }
        let Fed { taken, frame } = self.decoder.feed(bytes);
        let is_end = bytes[..taken].last() == Some(&END_OF_TURN);
        *bytes = &bytes[taken..];
        if let Way::Shared(shared) = &mut self.way {
            shared.handle_bytes(taken, now);
            if is_end && frame.is_none() {
                shared.handle_end_of_turn(now);
            }
        }
        let raw = match frame? {
            Ok(raw) => raw,
            Err(reason) => return Some(Heard::Broken(reason)),
        };
        let header = *raw.header();
        let payload = match raw.payload() {
            // On a two-wire line one's own frames come back.
            Ok(Payload::Poll(poll)) if poll.master == self.master => {
                if let Way::Shared(shared) = &mut self.way {
                    shared.handle_echo(now);
                }
                return None;
            }
            Ok(Payload::Poll(poll)) => {
                self.phase = Phase::SecondMaster;
                return Some(Heard::SecondMaster(poll.master));
            }
            // A question goes to everybody, an answer bears its node's own address.
            Ok(Payload::Discover) if header.address != LineAddress::BROADCAST => None,
            Ok(payload) if is_from_agent(&payload) => {
                if let Way::Shared(shared) = &mut self.way {
                    shared.handle_echo(now);
                }
                return None;
            }
            payload => Some(payload.ok()),
        };
        let key = (header.node, header.boot);
        match &mut self.way {
            Way::Own { contact, .. } => {
                let address = header.address;
                *contact = Some(Contact { key, address });
            }
            Way::Shared(shared) => {
                if let Some(change) = shared.handle_frame(&header, now) {
                    // A node that was not known was not polled: what else it says, it will say again.
                    return Some(Heard::Changed(key, change));
                }
            }
        }
        payload.map(|payload| Heard::Frame(raw, payload))
    }

    /// A broken frame was heard: how many there were since they were last told of, if it is time again.
    pub fn note_broken(&mut self, now: Duration) -> Option<u64> {
        self.broken += 1;
        (self.quiet_until <= now).then(|| {
            self.quiet_until = now + NOISE_TOLD;
            std::mem::take(&mut self.broken)
        })
    }

    /// The boots of the nodes on this line, while the line is in use.
    pub fn nodes(&self) -> impl Iterator<Item = BootKey> + '_ {
        let (own, shared) = match &self.way {
            _ if self.phase != Phase::Open => (None, None),
            Way::Own { contact, .. } => (contact.map(|contact| contact.key), None),
            Way::Shared(shared) => (None, Some(shared.nodes())),
        };
        own.into_iter().chain(shared.into_iter().flatten())
    }

    /// The one node of a line of its own, while the line is in use.
    pub fn own_node(&self) -> Option<BootKey> {
        self.contact().map(|contact| contact.key)
    }

    fn contact(&self) -> Option<Contact> {
        match &self.way {
            Way::Own { contact, .. } if self.phase == Phase::Open => *contact,
            Way::Own { .. } | Way::Shared(_) => None,
        }
    }

    /// The turns of a shared line, while the line is in use.
    pub fn shared(&mut self) -> Option<&mut Shared> {
        match &mut self.way {
            Way::Shared(shared) if self.phase == Phase::Open => Some(shared),
            Way::Own { .. } | Way::Shared(_) => None,
        }
    }

    /// How soon its bytes are wanted now; whether that is another pace than before.
    pub fn set_pace(&mut self, pace: Pace) -> bool {
        std::mem::replace(&mut self.pace, pace) != pace
    }

    /// How soon its bytes are wanted.
    pub const fn pace(&self) -> Pace {
        self.pace
    }

    /// When the next poll or turn is due.
    pub fn next_timeout(&self) -> Option<Duration> {
        match &self.way {
            _ if self.phase != Phase::Open => None,
            Way::Own {
                contact, next_poll, ..
            } => contact.map(|_| *next_poll),
            Way::Shared(shared) => Some(shared.next_timeout()),
        }
    }

    /// The next poll of this node is worth sending at once: it acknowledges something new.
    pub fn hasten_poll(&mut self, key: BootKey, now: Duration) {
        match &mut self.way {
            Way::Own { next_poll, .. } => *next_poll = Duration::ZERO,
            Way::Shared(shared) => shared.hasten(key, now),
        }
    }

    /// Whether a poll of the one node is due.
    pub fn is_poll_due(&self, now: Duration) -> bool {
        self.own_node().is_some() && self.next_timeout().is_some_and(|due| due <= now)
    }

    /// A poll of the one node: its bytes for the line.
    pub fn poll(&mut self, upto: Upto, now: Duration) -> Option<Vec<u8>> {
        let contact = self.contact()?;
        if let Way::Own {
            next_poll,
            poll_interval,
            ..
        } = &mut self.way
        {
            *next_poll = now + *poll_interval;
        }
        self.encode_poll(contact, upto, CREDIT_BYTES)
    }

    /// What gives somebody on a shared line leave to speak: its bytes for the line. `is_time_asked`: the node
    /// is also asked what time it is there.
    pub fn take_turn(
        &mut self,
        turn: Turn,
        upto: Upto,
        is_time_asked: bool,
        now: Duration,
    ) -> Option<Vec<u8>> {
        let credit = self.shared()?.credit();
        let mut bytes = Vec::new();
        match &turn {
            Turn::Discovery => {
                // Whoever hears it, nobody is named; an id is never 0.
                let nobody = (NodeId::new(u64::MAX)?, BootId::from_u64(0));
                let everybody = Contact {
                    key: nobody,
                    address: LineAddress::BROADCAST,
                };
                bytes.extend(self.encode(everybody, &Payload::Discover)?);
            }
            Turn::Node {
                key,
                address,
                is_assigned,
                requests,
            } => {
                let (key, address) = (*key, *address);
                if *is_assigned {
                    let everywhere = Contact {
                        key,
                        address: LineAddress::BROADCAST,
                    };
                    bytes.extend(self.encode(everywhere, &Payload::Assign(address))?);
                }
                bytes.extend(requests.iter().flatten());
                let contact = Contact { key, address };
                if is_time_asked {
                    bytes.extend(self.encode_time_request(contact)?);
                }
                bytes.extend(self.encode_poll(contact, upto, credit)?);
            }
        }
        self.shared()?.handle_sent(&turn, bytes.len(), now);
        Some(bytes)
    }

    /// The number that the next time request will have.
    pub fn next_request(&self) -> u32 {
        self.requests
    }

    /// A time request to the one node: its bytes for the line.
    pub fn time_request(&mut self) -> Option<Vec<u8>> {
        let contact = self.contact()?;
        self.encode_time_request(contact)
    }

    /// What a command says to a node: its bytes for the line, unless they wait for the node's turn.
    pub fn command(&mut self, key: BootKey, payload: &Payload<'_>) -> Option<Vec<u8>> {
        if let Some(contact) = self.contact() {
            return self.encode(contact, payload);
        }
        let address = self.shared()?.address(key)?;
        let bytes = self.encode(Contact { key, address }, payload)?;
        self.shared()?.keep_request(key, bytes);
        None
    }

    fn encode_poll(&mut self, contact: Contact, upto: Upto, credit: u32) -> Option<Vec<u8>> {
        let poll = Poll {
            address: contact.address,
            master: self.master,
            upto,
            credit,
        };
        self.encode(contact, &Payload::Poll(poll))
    }

    fn encode_time_request(&mut self, contact: Contact) -> Option<Vec<u8>> {
        let request = self.requests;
        self.requests = self.requests.wrapping_add(1);
        self.encode(contact, &Payload::TimeRequest(TimeRequest { request }))
    }

    fn encode(&mut self, contact: Contact, payload: &Payload<'_>) -> Option<Vec<u8>> {
        let header = Header {
            version: version::FRAME,
            address: contact.address,
            node: contact.key.0,
            boot: contact.key.1,
            class: Class::Essential,
            sequence: self.sent,
            ticks: NodeTicks(0),
        };
        self.sent += 1;
        let (mut frame, mut line) = ([0; FRAME_MAX], [0; LINE_FRAME_MAX]);
        let frame = encode(&header, payload, &mut frame).ok()?;
        stuff(frame, &mut line).ok().map(<[u8]>::to_vec)
    }
}

fn is_from_agent(payload: &Payload<'_>) -> bool {
    match payload {
        Payload::Poll(_)
        | Payload::Discover
        | Payload::Assign(_)
        | Payload::TimeRequest(_)
        | Payload::Settings(_)
        | Payload::Identify(_)
        | Payload::Capture(_)
        | Payload::Calibrate(_) => true,
        Payload::Describe(_)
        | Payload::Waveform(_)
        | Payload::Scalar(_)
        | Payload::Feature(_)
        | Payload::Event(_)
        | Payload::Status(_)
        | Payload::TimeReply(_)
        | Payload::SettingsResult(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::frame::TimeReply;

    const INTERVAL: Duration = Duration::from_millis(100);

    fn line_frame(payload: &Payload<'_>) -> Vec<u8> {
        let header = Header {
            version: version::FRAME,
            address: LineAddress(3),
            node: NodeId::new(9).unwrap(),
            boot: BootId::from_u64(4),
            class: Class::Essential,
            sequence: 0,
            ticks: NodeTicks(0),
        };
        let (mut frame, mut line) = ([0; FRAME_MAX], [0; LINE_FRAME_MAX]);
        stuff(encode(&header, payload, &mut frame).unwrap(), &mut line)
            .unwrap()
            .to_vec()
    }

    fn from_node() -> Vec<u8> {
        line_frame(&Payload::TimeReply(TimeReply {
            request: 1,
            received: NodeTicks(1),
            sent: NodeTicks(2),
        }))
    }

    fn poll_of(master: u64) -> Vec<u8> {
        line_frame(&Payload::Poll(Poll {
            address: LineAddress(3),
            master: MasterId(master),
            upto: [0, 0],
            credit: 1,
        }))
    }

    fn open_line() -> Line {
        let mut line = Line::new(MasterId(1), Wiring::Own, 921_600, INTERVAL);
        line.handle_opened();
        line
    }

    #[test]
    fn a_node_that_was_heard_is_polled_at_the_interval() {
        let mut line = open_line();
        assert!(line.poll([0, 0], Duration::ZERO).is_none(), "nobody known yet");
        assert!(matches!(
            line.handle_bytes(&mut &from_node()[..], Duration::ZERO),
            Some(Heard::Frame(_, Some(_)))
        ));
        assert!(line.is_poll_due(Duration::ZERO));
        let bytes = line.poll([5, 6], Duration::ZERO).unwrap();
        assert!(!line.is_poll_due(INTERVAL / 2) && line.is_poll_due(INTERVAL));

        let mut buffer = [0; LINE_FRAME_MAX];
        let mut decoder = Decoder::new(&mut buffer);
        let raw = decoder.feed(&bytes).frame.unwrap().unwrap();
        assert_eq!((raw.header().node.get(), raw.header().boot.get()), (9, 4));
        let Ok(Payload::Poll(poll)) = raw.payload() else {
            panic!("a poll expected");
        };
        assert_eq!((poll.upto, poll.address), ([5, 6], LineAddress(3)));
    }

    #[test]
    fn a_second_master_ends_the_use_of_the_line() {
        let mut line = open_line();
        line.handle_bytes(&mut &from_node()[..], Duration::ZERO);
        assert!(
            line.handle_bytes(&mut &poll_of(1)[..], Duration::ZERO).is_none(),
            "an echo of our own"
        );
        assert!(line.own_node().is_some());
        assert!(matches!(
            line.handle_bytes(&mut &poll_of(2)[..], Duration::ZERO),
            Some(Heard::SecondMaster(MasterId(2)))
        ));
        assert!(line.handle_bytes(&mut &from_node()[..], Duration::ZERO).is_none());
        line.handle_closed();
        line.handle_opened();
        assert!(
            line.own_node().is_none(),
            "opening the port again does not bring it back"
        );
    }

    #[test]
    fn half_a_frame_before_an_unplug_does_not_spoil_the_next() {
        let mut line = open_line();
        assert!(
            line.handle_bytes(&mut &from_node()[..5], Duration::ZERO)
                .is_none()
        );
        line.handle_closed();
        assert!(line.own_node().is_none());
        line.handle_opened();
        assert!(matches!(
            line.handle_bytes(&mut &from_node()[..], Duration::ZERO),
            Some(Heard::Frame(..))
        ));
    }

    #[test]
    fn noise_is_told_at_once_and_then_every_ten_seconds() {
        let mut line = open_line();
        let told: Vec<_> = (0..25)
            .filter_map(|second| line.note_broken(Duration::from_secs(second)))
            .collect();
        assert_eq!(told, [1, 10, 10]);
    }

    #[test]
    fn noise_is_counted_by_reason() {
        let mut line = open_line();
        assert!(matches!(
            line.handle_bytes(&mut &b"\x05noise\0"[..], Duration::ZERO),
            Some(Heard::Broken(_))
        ));
    }
}
