//! Who sent it: identities that travel with the data on every hop.

use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize};

/// A node: the unique id burnt into its microcontroller. Zero is not an id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct NodeId(u64);

impl NodeId {
    /// The id, unless it is zero (what an unprogrammed part reads).
    pub const fn new(id: u64) -> Option<Self> {
        if id == 0 { None } else { Some(Self(id)) }
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u64::deserialize(deserializer)?).ok_or_else(|| serde::de::Error::custom("node id 0"))
    }
}

/// Sixteen hexadecimal digits, as printed on the part and written in the fleet file.
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for NodeId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let digits = !text.is_empty() && text.len() <= 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !digits {
            return Err(InvalidId);
        }
        u64::from_str_radix(text, 16)
            .ok()
            .and_then(Self::new)
            .ok_or(InvalidId)
    }
}

/// One life of a node: a persisted boot counter (high 32 bits) and entropy (low 32), never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct BootId(u64);

impl BootId {
    /// The boot counted `counter` by the node's own memory, told from a re-flashed twin by `entropy`.
    pub const fn new(counter: u32, entropy: u32) -> Self {
        Self(((counter as u64) << 32) | entropy as u64)
    }

    /// From the bare number on the wire.
    pub const fn from_u64(id: u64) -> Self {
        Self(id)
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The persisted boot counter.
    pub const fn counter(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Most channels one node can have; the channel table of a node must fit one frame.
pub const CHANNELS_MAX: usize = 16;

/// A channel of a node: its position in the node's channel table, below [`CHANNELS_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct ChannelId(u16);

impl ChannelId {
    /// The channel at `position`, if a node can have that many.
    pub const fn new(position: u16) -> Option<Self> {
        if (position as usize) < CHANNELS_MAX {
            Some(Self(position))
        } else {
            None
        }
    }

    /// The bare number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// As an index into a table of [`CHANNELS_MAX`] entries.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl<'de> Deserialize<'de> for ChannelId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u16::deserialize(deserializer)?)
            .ok_or_else(|| serde::de::Error::custom("channel number out of range"))
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A node's address on its line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LineAddress(pub u8);

impl LineAddress {
    /// Everybody on the line.
    pub const BROADCAST: Self = Self(0);
    /// A node that has not been given an address yet.
    pub const UNASSIGNED: Self = Self(255);
}

/// One start of one agent, as the master of its lines: a node obeys one master at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct MasterId(pub u64);

/// One start of one spool chain: block sequences count from 0 within it, and it is never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A collector's journal: an acknowledgement names the journal that holds the data.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct JournalId(pub u64);

impl JournalId {
    /// The journal as one start of its collector names it in acknowledgements, by its lowest 16 bits. Gateways
    /// tell whoever is new to them what all others were told once, and a collector that has started anew may
    /// be one that was put back to a backup: a name that it never went by shows that it was.
    pub const fn named_by(self, start: u16) -> Self {
        Self(self.0 & !0xffff | start as u64)
    }

    /// The start that names it.
    pub const fn start(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// Whether both name the same journal, whichever starts did.
    pub const fn is(self, other: Self) -> bool {
        self.named_by(0).0 == other.named_by(0).0
    }
}

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A site's or gateway's name: `[a-z0-9-]{1,32}`, safe in a topic, a path and a certificate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct Name(heapless::String<32>);

impl Name {
    /// The name, if every character is allowed and the length fits.
    pub fn new(text: &str) -> Result<Self, InvalidId> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || !text.bytes().all(allowed) {
            return Err(InvalidId);
        }
        heapless::String::try_from(text).map(Self).map_err(|_| InvalidId)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = heapless::String::<32>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// A gateway within its site; its certificate names it as `urn:trunnion:<site>:<gateway>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct GatewayId {
    /// The plant or part of it that one collector serves.
    pub site: Name,
    /// The gateway within the site.
    pub gateway: Name,
}

impl GatewayId {
    /// Parses the URI of a certificate's subject alternative name.
    pub fn from_urn(urn: &str) -> Result<Self, InvalidId> {
        let mut parts = urn.split(':');
        match (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) {
            (Some("urn"), Some("trunnion"), Some(site), Some(gateway), None) => Ok(Self {
                site: Name::new(site)?,
                gateway: Name::new(gateway)?,
            }),
            _ => Err(InvalidId),
        }
    }

    /// Writes the URI of a certificate's subject alternative name.
    pub fn write_urn(&self, out: &mut impl fmt::Write) -> fmt::Result {
        write!(out, "urn:trunnion:{}:{}", self.site, self.gateway)
    }
}

/// `site/gateway`, as in a topic.
impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.site, self.gateway)
    }
}

/// The text is no id of this kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidId;

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not an id: names are [a-z0-9-]{1,32}, node ids are 1 to 16 hexadecimal digits and not zero",
        )
    }
}

impl core::error::Error for InvalidId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_grammar_do_not_exist() {
        for bad in [
            "",
            "A",
            "a/b",
            "a+",
            "#",
            "ä",
            "a b",
            "0123456789abcdef0123456789abcdef0",
        ] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
        assert_eq!(Name::new("press-3").unwrap().as_str(), "press-3");
    }

    #[test]
    fn a_journal_is_the_same_whichever_start_names_it_and_its_names_differ() {
        let journal = JournalId(0x0123_4567_89ab_cdef);
        let names = [0, 1, 0xffff].map(|start| journal.named_by(start));
        assert!(names.iter().all(|name| name.is(journal)));
        assert_eq!(names[2], JournalId(0x0123_4567_89ab_ffff));
        assert!(names[0] != names[1] && names[1] != names[2]);
        assert!(!journal.is(JournalId(0x0123_4567_89aa_cdef)));
    }

    #[test]
    fn a_urn_round_trips_and_nothing_else_parses() {
        let id = GatewayId::from_urn("urn:trunnion:bremen:gw-1").unwrap();
        let mut text = String::new();
        id.write_urn(&mut text).unwrap();
        assert_eq!(text, "urn:trunnion:bremen:gw-1");
        for bad in [
            "urn:trunnion:bremen",
            "urn:trunnion:bremen:gw:1",
            "urn:other:a:b",
            "URN:trunnion:a:b",
            "",
        ] {
            assert!(GatewayId::from_urn(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_channel_past_the_table_does_not_decode() {
        let mut bytes = [0; 4];
        let encoded = postcard::to_slice(&(CHANNELS_MAX as u16), &mut bytes).unwrap();
        assert!(postcard::from_bytes::<ChannelId>(encoded).is_err());
        assert!(postcard::from_bytes::<NodeId>(&[0]).is_err());
    }

    #[test]
    fn a_node_id_prints_as_it_parses() {
        let id = NodeId::new(0x00ab_cdef_0123_4567).unwrap();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(
            "0".parse::<NodeId>().is_err()
                && "0x1".parse::<NodeId>().is_err()
                && "+1".parse::<NodeId>().is_err()
        );
    }
}
