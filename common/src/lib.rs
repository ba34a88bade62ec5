//! The contract between node, gateway and collector.
//!
//! Three hops carry a sample to the collector, and everything that two of them must agree on is
//! defined here once, `no_std` and without allocation, and pinned by golden bytes
//! (`tests/golden.rs`):
//!
//! | hop | unit | defined in | sent by |
//! |---|---|---|---|
//! | node line | COBS frame `header, payload, crc32c` | [`frame`], [`codec`] | node and agent |
//! | uplink, topic `up/.../data` | block: frozen envelope and a versioned body | [`block`] | agent |
//! | uplink, topic `up/.../hello` | [`ack::Hello`] | [`ack`] | agent |
//! | uplink, topics `up/.../status`, `result` | [`message::GatewayStatus`], [`message::CommandResult`] | [`message`] | agent |
//! | downlink, topic `down/.../ack` | [`ack::Ack`] | [`ack`] | collector |
//! | downlink, topic `down/.../reject` | [`reject::Reject`] | [`reject`] | collector |
//! | downlink, topic `down/.../command` | [`message::SignedCommand`] | [`message`] | collector |
//!
//! **Compatibility promise.** Golden bytes of a released version are never edited. A change of
//! meaning is a new version number ([`version`]); new fields go at the end and are ignored by
//! older readers; enum variants are only ever appended, since their position is their number.
#![cfg_attr(not(test), no_std)]

pub mod ack;
pub mod block;
pub mod codec;
pub mod feature;
pub mod frame;
pub mod id;
pub mod message;
pub mod quantity;
pub mod reject;
pub mod sample;
pub mod sequence;
pub mod time;
pub mod topic;
pub mod version;
