//! What vibration says of the bearings, shafts and gears of a machine, and what is unusual of its slow channels:
//! one code for gateway and collector.
//!
//! ```text
//! window -> features (bearing's orders, shaft's speed) -> detection: the last windows together
//!                 `-> diagnosis: what a shaft, and what hangs on it, may have
//! ```
//!
//! Signals, geometry and speed come in, claims with their evidence come out. Nothing here keeps what it has
//! computed, but what the last windows of a channel say together ([`features::EnvelopeMemory`],
//! [`detection::Detector`], [`diagnosis::Persistence`]), which is its caller's to keep.

pub mod bearing;
pub mod detection;
pub mod diagnosis;
pub mod features;
pub mod rows;
pub mod unusual;
