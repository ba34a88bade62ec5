//! Stable numbered reasons why a frame, block or message is refused.

use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! reject_reasons {
    ($($number:literal $name:ident $label:literal $doc:literal)*) => {
        /// Why something was refused. Numbers are on the wire and in metrics, and never reused.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u16)]
        pub enum RejectReason {
            $(#[doc = $doc] $name = $number,)*
        }

        impl RejectReason {
            /// Every reason, by rising number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The label in metrics, logs and on the API.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// The reason with this number; a number of a later version reads as `Unknown`.
            pub const fn from_number(number: u16) -> Self {
                match number { $($number => Self::$name,)* _ => Self::Unknown }
            }

            /// The number on the wire.
            pub const fn number(self) -> u16 {
                self as u16
            }
        }
    };
}

reject_reasons! {
    0 Unknown "unknown" "A reason of a later version."
    1 BadCrc "bad_crc" "The checksum does not match."
    2 BadCobs "bad_cobs" "The byte stuffing is broken."
    3 TooLong "too_long" "Longer than the contract allows."
    4 TooShort "too_short" "Shorter than its own header."
    5 FrameVersion "frame_version" "A frame version this side does not read."
    6 FrameHeader "frame_header" "The frame's header does not decode."
    7 FramePayload "frame_payload" "The frame's payload does not decode."
    8 BadMagic "bad_magic" "Not a block."
    9 LengthMismatch "length_mismatch" "The envelope declares another body length than the message has."
    10 BodyVersion "body_version" "A body version this side does not read."
    11 BodyKind "body_kind" "A body kind this side does not know."
    12 BodyCodec "body_codec" "A body codec this side does not know."
    13 BodyDecode "body_decode" "The body does not decode."
    14 MessageVersion "message_version" "A message version this side does not read."
    15 MessageDecode "message_decode" "The message does not decode."
    16 Topic "topic" "Not a topic of the contract."
    17 UnknownChannel "unknown_channel" "No descriptor of that revision names the channel."
    18 Payload "payload" "The samples contradict their own header."
    19 ForgottenBoot "forgotten_boot" "A boot older than those remembered."
}

impl RejectReason {
    /// Whether a block that is refused so is journaled and acknowledged all the same: its sender has
    /// nothing to send again and nothing to give up, and only learns that this collector cannot read it.
    pub const fn is_kept(self) -> bool {
        matches!(self, Self::BodyVersion | Self::BodyKind | Self::BodyCodec)
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl core::error::Error for RejectReason {}

impl Serialize for RejectReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.number())
    }
}

impl<'de> Deserialize<'de> for RejectReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u16::deserialize(deserializer).map(Self::from_number)
    }
}

/// The collector refuses a block whose envelope is invalid; the agent quarantines the block it
/// finds by this checksum and sends a tombstone for its sequence. A block whose envelope is valid and
/// whose body is of another version is refused after its acknowledgement, for a reason that
/// [takes nothing back](RejectReason::is_kept); a message of another version is refused too, and nothing
/// follows from that but a count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reject {
    /// CRC-32C of the whole refused payload, computed by the collector.
    pub crc: u32,
    /// Why.
    pub reason: RejectReason,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_strangers_read_as_unknown() {
        for &reason in RejectReason::ALL {
            assert_eq!(RejectReason::from_number(reason.number()), reason);
        }
        assert_eq!(RejectReason::from_number(9_999), RejectReason::Unknown);
    }
}
