//! Which packets a gateway may send: MQTT 3.1.1, cut down to the contract. Pure; bytes in, events out.
//!
//! Each packet is judged whole before any of it goes on, and its kind and length by the first bytes
//! alone, so that an oversized declaration is refused without reading what it declares.
//!
//! | packet | allowed |
//! |---|---|
//! | CONNECT | first and once; clean session, client id `trunnion-<site>-<gateway>`, a keep-alive, no user; a will only to the own `status`, not retained |
//! | PUBLISH | QoS 0 or 1, not retained, to the own `up` topics, up to the size of their messages |
//! | SUBSCRIBE, UNSUBSCRIBE | the own `down` topics, spelled out |
//! | PINGREQ, DISCONNECT | always |
//! | anything else | never |
//!
//! Every subscription is granted QoS 0: what is sent down is repeated until it takes effect, and
//! rumqttd disconnects a client that acknowledges out of order. So a client has no PUBACK to send. The
//! will does not reach the broker with the CONNECT either; the session publishes it when it is due.

use super::refusal::{Refusal, RefusalReason};
use crate::broker::PACKET_MAX;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::time::Duration;
use trunnion_common::block::{BODY_MAX, ENVELOPE_BYTES};
use trunnion_common::id::GatewayId;
use trunnion_common::message::MESSAGE_MAX;
use trunnion_common::topic::{Kind, TOPIC_MAX, Topic};

/// Longest CONNECT: a will as long as a status message, and room for the rest.
const CONNECT_MAX: usize = MESSAGE_MAX + 1_024;
/// Most filters in one SUBSCRIBE or UNSUBSCRIBE; a gateway has three to name.
const FILTERS_MAX: usize = 8;
/// Bytes of a fixed header at most (MQTT 3.1.1, 2.2).
const FIXED_HEADER_MAX: usize = 5;

/// The only client id under which a gateway connects.
pub fn client_id(gateway: &GatewayId) -> String {
    format!("trunnion-{}-{}", gateway.site, gateway.gateway)
}

/// Turns one client's bytes into events, or a refusal that ends the connection.
///
/// Append what was read to [`buffer`](Self::buffer), then call [`poll`](Self::poll) until it returns
/// `None`. The buffer never holds more than one packet and what was read beyond it.
#[derive(Debug)]
pub(crate) struct Filter {
    gateway: GatewayId,
    phase: Phase,
    buffer: BytesMut,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Nothing but CONNECT is legal.
    Fresh,
    Connected,
    /// Refused or disconnected: whatever comes is ignored.
    Ended,
}

/// What a client does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// Begins its session.
    Connect(Connect),
    /// Sends a packet; these bytes, and only these, go on.
    Packet(Bytes),
    /// Ends its session in order: its will is void.
    Disconnect,
}

/// What the session has to know of a CONNECT.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Connect {
    /// The longest silence the client promises.
    pub(crate) keep_alive: Duration,
    /// The will, as the PUBLISH that it becomes.
    pub(crate) will: Option<Bytes>,
}

impl Filter {
    pub(crate) fn new(gateway: GatewayId) -> Self {
        Self {
            gateway,
            phase: Phase::Fresh,
            buffer: BytesMut::new(),
        }
    }

    /// Where bytes from the client go.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next event, or `None` when more bytes are needed.
    pub(crate) fn poll(&mut self) -> Result<Option<Event>, Refusal> {
        let judged = self.judge();
        if judged.is_err() {
            self.phase = Phase::Ended;
        }
        if self.phase == Phase::Ended {
            self.buffer.clear();
        }
        judged
    }

    fn judge(&mut self) -> Result<Option<Event>, Refusal> {
        if self.phase == Phase::Ended {
            return Ok(None);
        }
        let Some(header) = self.header()? else {
            return Ok(None);
        };
        if self.buffer.len() < header.bytes + header.remaining {
            return Ok(None);
        }
        let packet = self.buffer.split_to(header.bytes + header.remaining);
        let body = &packet[header.bytes..];
        Ok(Some(match header.kind {
            Legal::Connect => {
                let connect = self.connect(body)?;
                self.phase = Phase::Connected;
                Event::Connect(connect)
            }
            Legal::Publish => {
                self.check_publish(packet[0], body)?;
                Event::Packet(packet.freeze())
            }
            Legal::Subscribe => self.subscribe(packet, header.bytes)?,
            Legal::Unsubscribe => {
                self.check_filters(body, false)?;
                Event::Packet(packet.freeze())
            }
            Legal::PingReq => Event::Packet(packet.freeze()),
            Legal::Disconnect => {
                self.phase = Phase::Ended;
                Event::Disconnect
            }
        }))
    }

    /// The fixed header, judged as far as its bytes have come.
    fn header(&self) -> Result<Option<Header>, Refusal> {
        let Some((&first, rest)) = self.buffer.split_first() else {
            return Ok(None);
        };
        let kind = Legal::of(first, self.phase)?;
        let mut remaining = 0;
        for (at, &byte) in rest.iter().take(FIXED_HEADER_MAX - 1).enumerate() {
            remaining |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 != 0 {
                continue;
            }
            if byte == 0 && at > 0 {
                return Err(malformed("a length with superfluous bytes"));
            }
            let (least, most) = kind.lengths();
            if remaining > most {
                let detail = format!("{kind:?} of {remaining} bytes, {most} is the most");
                return Err(Refusal::new(RefusalReason::Oversized, detail));
            }
            if remaining < least {
                return Err(malformed(format!("{kind:?} of {remaining} bytes")));
            }
            return Ok(Some(Header {
                kind,
                bytes: 2 + at,
                remaining,
            }));
        }
        if rest.len() >= FIXED_HEADER_MAX - 1 {
            return Err(malformed("a length of more than four bytes"));
        }
        Ok(None)
    }

    fn connect(&self, body: &[u8]) -> Result<Connect, Refusal> {
        let mut body = Fields(body);
        let (name, version) = (body.string()?, body.byte()?);
        if (name, version) != (b"MQTT", 4) {
            let detail = format!(
                "protocol \"{}\" version {version}",
                name[..name.len().min(16)].escape_ascii()
            );
            return Err(Refusal::new(RefusalReason::ProtocolVersion, detail));
        }
        let flags = body.byte()?;
        let has_will = flags & 0b100 != 0;
        if flags & 1 != 0 || (!has_will && flags & 0b0011_1000 != 0) {
            return Err(malformed(format!("CONNECT flags {flags:08b}")));
        }
        if flags & 0b1100_0000 != 0 {
            return Err(Refusal::new(
                RefusalReason::Credentials,
                "the certificate is the only credential",
            ));
        }
        if flags & 0b10 == 0 {
            return Err(Refusal::new(
                RefusalReason::PersistentSession,
                "clean session is required",
            ));
        }
        match flags >> 3 & 3 {
            0 | 1 => {}
            2 => return Err(Refusal::new(RefusalReason::Qos2, "a will of QoS 2")),
            _ => return Err(malformed("a will of QoS 3")),
        }
        if flags & 0b0010_0000 != 0 {
            return Err(Refusal::new(RefusalReason::Retain, "a retained will"));
        }
        let keep_alive = body.number()?;
        if keep_alive == 0 {
            return Err(Refusal::new(
                RefusalReason::KeepAliveZero,
                "a keep-alive is required",
            ));
        }
        let id = body.string()?;
        if id != client_id(&self.gateway).as_bytes() {
            return Err(Refusal::quoting(RefusalReason::ClientId, "client id", id));
        }
        let will = if has_will {
            let (topic, message) = (body.string()?, body.string()?);
            if !self.owns(topic, |kind| kind == Kind::Status) {
                return Err(Refusal::quoting(RefusalReason::Will, "a will to", topic));
            }
            Some(publish(topic, message))
        } else {
            None
        };
        body.end()?;
        Ok(Connect {
            keep_alive: Duration::from_secs(keep_alive.into()),
            will,
        })
    }

    fn check_publish(&self, first: u8, body: &[u8]) -> Result<(), Refusal> {
        let mut body = Fields(body);
        let topic = body.string()?;
        if !self.owns(topic, Kind::is_up) {
            return Err(Refusal::quoting(RefusalReason::Topic, "publishing to", topic));
        }
        if first & 0b110 != 0 {
            check_packet_id(body.number()?)?;
        }
        let most = if self.owns(topic, |kind| kind == Kind::Data) {
            ENVELOPE_BYTES + BODY_MAX
        } else {
            MESSAGE_MAX
        };
        if body.0.len() > most {
            let detail = format!(
                "a message of {} bytes, {most} is the most on this topic",
                body.0.len()
            );
            return Err(Refusal::new(RefusalReason::Oversized, detail));
        }
        Ok(())
    }

    /// Passes a SUBSCRIBE on with QoS 0 asked for throughout.
    fn subscribe(&self, mut packet: BytesMut, header: usize) -> Result<Event, Refusal> {
        for at in self.check_filters(&packet[header..], true)? {
            packet[header + at] = 0;
        }
        Ok(Event::Packet(packet.freeze()))
    }

    /// Checks the filters of a SUBSCRIBE, which has a QoS with each, or of an UNSUBSCRIBE; returns where
    /// the QoS bytes are.
    fn check_filters(&self, body: &[u8], with_qos: bool) -> Result<Vec<usize>, Refusal> {
        let mut fields = Fields(body);
        check_packet_id(fields.number()?)?;
        let (mut count, mut places) = (0, Vec::new());
        while count == 0 || !fields.0.is_empty() {
            let filter = fields.string()?;
            if !self.owns(filter, |kind| !kind.is_up()) {
                return Err(Refusal::quoting(RefusalReason::Filter, "subscribing to", filter));
            }
            if with_qos {
                places.push(body.len() - fields.0.len());
                if fields.byte()? > 2 {
                    return Err(malformed("a subscription of more than QoS 2"));
                }
            }
            count += 1;
        }
        Ok(places)
    }

    fn owns(&self, topic: &[u8], kind: impl FnOnce(Kind) -> bool) -> bool {
        str::from_utf8(topic)
            .ok()
            .and_then(Topic::parse)
            .is_some_and(|topic| topic.gateway == self.gateway && kind(topic.kind))
    }
}

struct Header {
    kind: Legal,
    bytes: usize,
    remaining: usize,
}

/// The packets that a client may send.
#[derive(Clone, Copy, Debug)]
enum Legal {
    Connect,
    Publish,
    Subscribe,
    Unsubscribe,
    PingReq,
    Disconnect,
}

impl Legal {
    /// By the first byte of a packet: kind and flags (MQTT 3.1.1, 2.2.1 and 2.2.2).
    fn of(first: u8, phase: Phase) -> Result<Self, Refusal> {
        let refuse = |reason, detail: &str| Err(Refusal::new(reason, format!("{detail} ({first:#04x})")));
        match (phase, first) {
            (Phase::Fresh, 0x10) => return Ok(Self::Connect),
            (Phase::Fresh, _) => {
                return refuse(RefusalReason::NotConnected, "the first packet is not CONNECT");
            }
            _ => {}
        }
        match (first >> 4, first & 0xf) {
            (1, 0) => refuse(RefusalReason::SecondConnect, "CONNECT within a session"),
            (3, flags) => match flags >> 1 & 3 {
                2 => refuse(RefusalReason::Qos2, "PUBLISH of QoS 2"),
                3 => refuse(RefusalReason::Malformed, "PUBLISH of QoS 3"),
                _ if flags & 1 != 0 => refuse(RefusalReason::Retain, "a retained PUBLISH"),
                0 if flags & 8 != 0 => refuse(RefusalReason::Malformed, "a repeated PUBLISH of QoS 0"),
                _ => Ok(Self::Publish),
            },
            (4, 0) => refuse(
                RefusalReason::Unsolicited,
                "PUBACK, and nothing was sent that wants one",
            ),
            (5 | 7, 0) | (6, 2) => refuse(RefusalReason::Qos2, "a packet of QoS 2's handshake"),
            (8, 2) => Ok(Self::Subscribe),
            (10, 2) => Ok(Self::Unsubscribe),
            (12, 0) => Ok(Self::PingReq),
            (14, 0) => Ok(Self::Disconnect),
            (2 | 9 | 11 | 13, _) => refuse(RefusalReason::ServerPacket, "a packet that only servers send"),
            _ => refuse(
                RefusalReason::Malformed,
                "a packet kind or flags that do not exist",
            ),
        }
    }

    /// Fewest and most bytes after the fixed header.
    const fn lengths(self) -> (usize, usize) {
        let filters = 2 + FILTERS_MAX * (2 + TOPIC_MAX + 1);
        match self {
            Self::Connect => (12, CONNECT_MAX),
            Self::Publish => (2, PACKET_MAX - FIXED_HEADER_MAX),
            Self::Subscribe | Self::Unsubscribe => (4, filters),
            Self::PingReq | Self::Disconnect => (0, 0),
        }
    }
}

/// Reads the fields of a packet's body.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn byte(&mut self) -> Result<u8, Refusal> {
        self.0
            .try_get_u8()
            .map_err(|_| malformed("a packet that ends within a field"))
    }

    fn number(&mut self) -> Result<u16, Refusal> {
        self.0
            .try_get_u16()
            .map_err(|_| malformed("a packet that ends within a field"))
    }

    fn string(&mut self) -> Result<&'a [u8], Refusal> {
        let length = usize::from(self.number()?);
        let (string, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| malformed("a string longer than its packet"))?;
        self.0 = rest;
        Ok(string)
    }

    fn end(&self) -> Result<(), Refusal> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(malformed("bytes after the last field"))
        }
    }
}

fn check_packet_id(id: u16) -> Result<(), Refusal> {
    if id == 0 {
        return Err(Refusal::new(RefusalReason::PacketId, "packet identifier 0"));
    }
    Ok(())
}

fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal::new(RefusalReason::Malformed, detail)
}

/// A PUBLISH of QoS 0.
fn publish(topic: &[u8], message: &[u8]) -> Bytes {
    let mut length = 2 + topic.len() + message.len();
    let mut packet = BytesMut::with_capacity(FIXED_HEADER_MAX + length);
    packet.put_u8(0x30);
    while length > 0x7f {
        packet.put_u8((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    packet.put_u8(length as u8);
    // A topic that the filter has let pass is no longer than TOPIC_MAX.
    packet.put_u16(topic.len() as u16);
    packet.put_slice(topic);
    packet.put_slice(message);
    packet.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use RefusalReason as Reason;
    use proptest::prelude::*;

    fn gateway() -> GatewayId {
        GatewayId::from_urn("urn:trunnion:plant:gw-1").unwrap()
    }

    fn run<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Option<Refusal>) {
        let (mut filter, mut events) = (Filter::new(gateway()), Vec::new());
        for chunk in chunks {
            filter.buffer().extend_from_slice(chunk);
            loop {
                match filter.poll() {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(refusal) => return (events, Some(refusal)),
                }
            }
        }
        (events, None)
    }

    fn packet(first: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![first];
        let mut length = body.len();
        while length > 127 {
            packet.push((length & 127) as u8 | 128);
            length >>= 7;
        }
        packet.push(length as u8);
        packet.extend(body);
        packet
    }

    fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
        let text = text.as_ref();
        [&(text.len() as u16).to_be_bytes()[..], text].concat()
    }

    fn connect_with(flags: u8, keep_alive: u16, payload: &[Vec<u8>]) -> Vec<u8> {
        let mut body = [&string("MQTT")[..], &[4, flags], &keep_alive.to_be_bytes()].concat();
        body.extend(payload.concat());
        packet(0x10, &body)
    }

    fn connect() -> Vec<u8> {
        connect_with(0b10, 30, &[string("trunnion-plant-gw-1")])
    }

    fn publishing(first: u8, topic: &str, payload: &[u8]) -> Vec<u8> {
        let id: &[u8] = if first & 0b110 != 0 { &[0, 1] } else { &[] };
        packet(first, &[&string(topic)[..], id, payload].concat())
    }

    fn check_connect(packet: Vec<u8>, expected: Option<Reason>) {
        let (events, refusal) = run([&packet[..]]);
        assert_eq!(refusal.map(|refusal| refusal.reason), expected);
        assert_eq!(events.is_empty(), expected.is_some());
    }

    /// What a connected client may send, and whether it goes on as it came.
    fn check(packet: &[u8], expected: Result<&[u8], Reason>) {
        let stream = [&connect()[..], packet].concat();
        let (events, refusal) = run([&stream[..]]);
        assert!(matches!(events[0], Event::Connect(_)));
        match expected {
            Ok(passed) => {
                assert_eq!(refusal, None, "{packet:02x?}");
                assert_eq!(events[1..], [Event::Packet(Bytes::copy_from_slice(passed))]);
            }
            Err(reason) => {
                assert_eq!(
                    refusal.map(|refusal| refusal.reason),
                    Some(reason),
                    "{packet:02x?}"
                );
                assert_eq!(events.len(), 1, "nothing goes on");
            }
        }
    }

    #[test]
    fn only_the_own_clean_session_connects() {
        let id = || string("trunnion-plant-gw-1");
        let status = || string("trunnion/up/plant/gw-1/status");
        check_connect(connect(), None);
        check_connect(connect_with(0b110, 30, &[id(), status(), string("gone")]), None);
        check_connect(connect_with(0b1110, 30, &[id(), status(), string("")]), None);
        for (packet, reason) in [
            (connect_with(0b10, 0, &[id()]), Reason::KeepAliveZero),
            (connect_with(0b00, 30, &[id()]), Reason::PersistentSession),
            (connect_with(0b11, 30, &[id()]), Reason::Malformed),
            (connect_with(0b1010, 30, &[id()]), Reason::Malformed),
            (
                connect_with(0b1000_0010, 30, &[id(), string("door")]),
                Reason::Credentials,
            ),
            (
                connect_with(0b1100_0010, 30, &[id(), string("door"), string("x")]),
                Reason::Credentials,
            ),
            (connect_with(0b10, 30, &[string("")]), Reason::ClientId),
            (
                connect_with(0b10, 30, &[string("trunnion-plant-gw-2")]),
                Reason::ClientId,
            ),
            (
                connect_with(0b10, 30, &[string("trunnion-plant-gw-1\0")]),
                Reason::ClientId,
            ),
            (connect_with(0b10, 30, &[string("canary")]), Reason::ClientId),
            (connect_with(0b10, 30, &[id(), string("more")]), Reason::Malformed),
            (
                connect_with(
                    0b110,
                    30,
                    &[id(), string("trunnion/up/plant/gw-1/data"), string("")],
                ),
                Reason::Will,
            ),
            (
                connect_with(
                    0b110,
                    30,
                    &[id(), string("trunnion/up/plant/gw-2/status"), string("")],
                ),
                Reason::Will,
            ),
            (
                connect_with(
                    0b110,
                    30,
                    &[id(), string("trunnion/up/plant/+/status"), string("")],
                ),
                Reason::Will,
            ),
            (
                connect_with(0b10_0110, 30, &[id(), status(), string("")]),
                Reason::Retain,
            ),
            (
                connect_with(0b1_0110, 30, &[id(), status(), string("")]),
                Reason::Qos2,
            ),
            (
                connect_with(0b1_1110, 30, &[id(), status(), string("")]),
                Reason::Malformed,
            ),
            (connect_with(0b110, 30, &[id(), status()]), Reason::Malformed),
            (
                packet(0x10, &[&string("MQTT")[..], &[5, 2, 0, 30, 0], &id()].concat()),
                Reason::ProtocolVersion,
            ),
            (
                packet(0x10, &[&string("MQIsdp")[..], &[3, 2, 0, 30], &id()].concat()),
                Reason::ProtocolVersion,
            ),
            (packet(0x10, &[0; 11]), Reason::Malformed),
            (packet(0x11, &[0; 20]), Reason::NotConnected),
            (packet(0x10, &vec![0; CONNECT_MAX + 1]), Reason::Oversized),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Reason::NotConnected),
        ] {
            check_connect(packet, Some(reason));
        }
    }

    #[test]
    fn the_will_becomes_a_publish_of_the_own_status() {
        let topic = "trunnion/up/plant/gw-1/status";
        let packet = connect_with(
            0b110,
            30,
            &[string("trunnion-plant-gw-1"), string(topic), string(vec![7; 300])],
        );
        let (events, _) = run([&packet[..]]);
        let [Event::Connect(connect)] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(connect.keep_alive, Duration::from_secs(30));
        assert_eq!(
            connect.will.as_deref(),
            Some(&publishing(0x30, topic, &[7; 300])[..])
        );
    }

    #[test]
    fn every_packet_kind_and_flag_before_connect_is_refused() {
        for first in (0..=u8::MAX).filter(|&first| first != 0x10) {
            assert_eq!(
                run([&[first][..]]).1.map(|refusal| refusal.reason),
                Some(Reason::NotConnected)
            );
        }
    }

    #[test]
    fn every_packet_kind_and_flag_within_a_session_is_judged_by_its_first_byte() {
        let mut legal = Vec::new();
        for first in 0..=u8::MAX {
            let stream = [&connect()[..], &[first]].concat();
            match run([&stream[..]]).1 {
                None => legal.push(first),
                Some(refusal) => {
                    let expected = match first >> 4 {
                        1 if first == 0x10 => Reason::SecondConnect,
                        2 | 9 | 11 | 13 => Reason::ServerPacket,
                        3 if first & 0b110 == 0b100 => Reason::Qos2,
                        3 if first & 0b110 == 0b110 => Reason::Malformed,
                        3 if first & 1 != 0 => Reason::Retain,
                        4 if first == 0x40 => Reason::Unsolicited,
                        5..=7 if matches!(first, 0x50 | 0x62 | 0x70) => Reason::Qos2,
                        _ => Reason::Malformed,
                    };
                    assert_eq!(refusal.reason, expected, "{first:#04x}");
                }
            }
        }
        assert_eq!(legal, [0x30, 0x32, 0x3a, 0x82, 0xa2, 0xc0, 0xe0]);
    }

    #[test]
    fn publishing_is_for_the_own_topics() {
        for kind in ["data", "hello", "status", "result"] {
            for first in [0x30, 0x32, 0x3a] {
                let own = publishing(first, &format!("trunnion/up/plant/gw-1/{kind}"), b"payload");
                check(&own, Ok(&own));
            }
        }
        for topic in [
            "",
            "#",
            "+",
            "$SYS/broker",
            "$share/g/trunnion/up/plant/gw-1/data",
            "trunnion/up/plant/gw-2/data",
            "trunnion/up/other/gw-1/data",
            "trunnion/up/plant/+/data",
            "trunnion/up/plant/gw-1/#",
            "trunnion/up/plant/gw-1/data/",
            "/trunnion/up/plant/gw-1/data",
            "trunnion/up/plant/gw-1/ack",
            "trunnion/down/plant/gw-1/ack",
            "trunnion/up/plant/gw-1/data\0",
            "TRUNNION/up/plant/gw-1/data",
            "trunnion/up/plant/gw-1/../gw-2/data",
        ] {
            check(&publishing(0x30, topic, b""), Err(Reason::Topic));
        }
        check(&packet(0x30, &[0, 2, 0xff, 0xfe]), Err(Reason::Topic));
        check(
            &packet(
                0x32,
                &[&string("trunnion/up/plant/gw-1/data")[..], &[0, 0]].concat(),
            ),
            Err(Reason::PacketId),
        );
        check(
            &packet(0x32, &string("trunnion/up/plant/gw-1/data")),
            Err(Reason::Malformed),
        );
        check(&packet(0x30, &[0xff, 0xff, b'a']), Err(Reason::Malformed));
    }

    #[test]
    fn sizes_are_bounded_by_topic_and_declarations_by_their_first_bytes() {
        let largest = publishing(
            0x32,
            "trunnion/up/plant/gw-1/data",
            &vec![0; ENVELOPE_BYTES + BODY_MAX],
        );
        check(&largest, Ok(&largest));
        let over = publishing(
            0x32,
            "trunnion/up/plant/gw-1/data",
            &vec![0; ENVELOPE_BYTES + BODY_MAX + 1],
        );
        check(&over, Err(Reason::Oversized));
        let hello = publishing(0x32, "trunnion/up/plant/gw-1/hello", &vec![0; MESSAGE_MAX + 1]);
        check(&hello, Err(Reason::Oversized));
        check(&[0x30, 0xff, 0xff, 0xff, 0x7f], Err(Reason::Oversized));
        check(&[0x30, 0xff, 0xff, 0xff, 0xff], Err(Reason::Malformed));
        check(&[0x30, 0x83, 0x00], Err(Reason::Malformed));
        check(&[0xc0, 1], Err(Reason::Oversized));
        check(&[0xe0, 1], Err(Reason::Oversized));
        check(&[0x82, 0xff, 0x7f], Err(Reason::Oversized));
    }

    #[test]
    fn subscribing_is_for_the_own_topics_at_qos_0() {
        let filters = |qos: u8, names: &[&str]| {
            let mut body = vec![0, 9];
            for name in names {
                body.extend(string(name));
                body.push(qos);
            }
            packet(0x82, &body)
        };
        let own = [
            "trunnion/down/plant/gw-1/ack",
            "trunnion/down/plant/gw-1/reject",
            "trunnion/down/plant/gw-1/command",
        ];
        for qos in 0..3 {
            check(&filters(qos, &own), Ok(&filters(0, &own)));
        }
        check(&filters(3, &own), Err(Reason::Malformed));
        for name in [
            "",
            "#",
            "+/+/+/+/+",
            "$SYS/#",
            "$share/g/trunnion/down/plant/gw-1/ack",
            "trunnion/#",
            "trunnion/down/plant/gw-1/+",
            "trunnion/down/plant/gw-1/#",
            "trunnion/down/plant/gw-2/ack",
            "trunnion/down/other/gw-1/ack",
            "trunnion/up/plant/gw-1/data",
        ] {
            check(&filters(0, &[own[0], name]), Err(Reason::Filter));
            check(
                &packet(0xa2, &[&[0, 9][..], &string(name)].concat()),
                Err(Reason::Filter),
            );
        }
        let unsubscribe = packet(0xa2, &[&[0, 9][..], &string(own[0])].concat());
        check(&unsubscribe, Ok(&unsubscribe));
        check(&packet(0x82, &[0, 9, 0, 0]), Err(Reason::Filter));
        check(&packet(0x82, &[0, 0, 0, 0, 0]), Err(Reason::PacketId));
        check(&packet(0x82, &[0, 9]), Err(Reason::Malformed));
    }

    #[test]
    fn after_a_disconnect_nothing_is_read() {
        let stream = [
            &connect()[..],
            &[0xe0, 0],
            &publishing(0x30, "trunnion/up/plant/gw-1/data", b""),
        ]
        .concat();
        let (events, refusal) = run([&stream[..]]);
        assert_eq!(refusal, None);
        assert!(
            matches!(events[..], [Event::Connect(_), Event::Disconnect]),
            "{events:?}"
        );
    }

    /// Mostly legal streams with an odd packet among them.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let legal = prop::sample::select(vec![
            publishing(0x30, "trunnion/up/plant/gw-1/data", b"0123456789"),
            publishing(0x32, "trunnion/up/plant/gw-1/hello", &[0; 300]),
            packet(
                0x82,
                &[&[0, 9][..], &string("trunnion/down/plant/gw-1/ack"), &[1]].concat(),
            ),
            vec![0xc0, 0],
        ]);
        let odd = prop_oneof![
            Just(vec![0xe0, 0]),
            Just(connect()),
            Just(publishing(0x30, "trunnion/up/plant/gw-2/data", b"")),
            prop::collection::vec(any::<u8>(), 0..40),
        ];
        let packets = prop::collection::vec(prop_oneof![6 => legal, 1 => odd], 0..12);
        (prop::bool::weighted(0.9), packets).prop_map(|(greeted, packets)| {
            let mut stream = if greeted { connect() } else { Vec::new() };
            stream.extend(packets.concat());
            stream
        })
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_verdict(stream in stream(), cuts in prop::collection::vec(1usize..50, 1..80)) {
            let whole = run([&stream[..]]);
            let mut chunks = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, tail) = rest.split_at(cut.min(rest.len()));
                chunks.push(chunk);
                rest = tail;
            }
            prop_assert_eq!(run(chunks), whole);
        }

        #[test]
        fn random_bytes_never_panic_and_let_only_pings_pass(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let stream = [connect(), bytes].concat();
            let (events, _) = run([&stream[..]]);
            for event in &events[1..] {
                prop_assert!(matches!(event, Event::Disconnect) || *event == Event::Packet(Bytes::from_static(&[0xc0, 0])));
            }
        }

        #[test]
        fn nothing_passes_that_names_another_gateway(kind in 0usize..3, topic in "[trunio/updowplang\\-w12+#$ack]{0,40}") {
            let packet = match kind {
                0 => publishing(0x30, &topic, b""),
                1 => packet(0x82, &[&[0, 9][..], &string(&topic), &[0]].concat()),
                _ => packet(0xa2, &[&[0, 9][..], &string(&topic)].concat()),
            };
            let stream = [connect(), packet].concat();
            let own = Topic::parse(&topic).is_some_and(|topic| topic.gateway == gateway());
            prop_assert_eq!(run([&stream[..]]).1.is_none(), own);
        }
    }
}
