//! The contract between node, gateway and collector.
//!
//! Three hops carry a sample to the collector, and everything that two of them must agree on is
//! defined here once, `no_std` and without allocation, and pinned by golden bytes
//! (`tests/golden.rs`):
//!
//! | hop | unit | defined in | sent by |
//! |---|---|---|---|
//! | node line | COBS frame `header, payload, crc32c` | [`frame`], [`codec`], [`shared_line`] | node and agent |
//! | uplink, topic `up/.../data` | block: frozen envelope and a versioned body | [`block`] | agent |
//! | uplink, topic `up/.../hello` | [`ack::Hello`] | [`ack`] | agent |
//! | uplink, topics `up/.../status`, `result` | [`message::GatewayStatus`], [`message::CommandResult`] | [`message`] | agent |
//! | downlink, topic `down/.../ack` | [`ack::Ack`] | [`ack`] | collector |
//! | downlink, topic `down/.../reject` | [`reject::Reject`] | [`reject`] | collector |
//! | downlink, topic `down/.../command` | [`message::SignedCommand`] | [`message`] | collector |
//!
//! **Compatibility promise.** Golden bytes of a released version are never edited. A change of
//! meaning is a new version number ([`version`]); new fields go at the end and are ignored by
//! older readers; enum variants are only ever appended, since their position is their number. Records
//! that stand back to back ([`block::Records`]) have no end of their own: a new field of theirs is a new
//! body version. A number that has been retired is never given out again.
//!
//! What becomes of bytes from a build one version later (N+1) or earlier (N-1) that the reader's build
//! does not accept, so that nothing is lost, nothing stalls, and the sender's side knows:
//!
//! | what | outcome | who is told |
//! |---|---|---|
//! | fields after the last known one of a frame's payload, a single body or a message | ignored | nobody |
//! | frame, version | not taken in by the agent: counted as `frame_version`, and its node keeps it | the agent's metrics |
//! | frame, unknown or retired payload | taken in, journaled and acknowledged; a dead letter `frame_payload` | agent's and collector's metrics |
//! | block, version, kind or codec of the body | journaled and acknowledged; a dead letter `body_version`, `body_kind` or `body_codec`, to be replayed after the upgrade | the agent by a [`reject::Reject`] that [takes nothing back](reject::RejectReason::is_kept) |
//! | hello, status, result: version, or an unknown kind in it | refused, `message_version` or `message_decode` | the agent by a [`reject::Reject`] |
//! | ack, reject, command: version, or an unknown kind in it | refused, counted by the agent; a command is answered as [`Unsupported`](message::CommandOutcome::Unsupported) where its number can be read | the agent's metrics |
//! | reason of a [`reject::Reject`] | read as [`Unknown`](reject::RejectReason::Unknown) | nobody |
//!
//! So the collector is upgraded first, then the agents, then the nodes.
//!
//! Beside the contract stands what all three judge a machine by, so that they judge alike: [`feature`]s of
//! windows, how the machine is [`operating`] and who tells that ([`operation`]), the [`severity`] of its vibration, the [`baseline`] of what is
//! normal for it, faults of the [`instrument`], what a [`bearing`] and a [`shaft`] may have, and the [`monitor`] that joins them, of [`slow`] channels too; what a gateway is told to
//! [`watch`] with that, and what it then says.
#![cfg_attr(not(test), no_std)]

pub mod ack;
pub mod baseline;
pub mod bearing;
pub mod block;
pub mod codec;
pub mod detection;
pub mod feature;
pub mod frame;
pub mod id;
pub mod instrument;
pub mod level;
pub mod message;
pub mod monitor;
pub mod operating;
pub mod operation;
pub mod packing;
pub mod quantity;
pub mod reject;
pub mod sample;
pub mod sequence;
pub mod severity;
pub mod shaft;
pub mod shared_line;
pub mod slow;
pub mod time;
pub mod topic;
pub mod version;
pub mod watch;
