//! The sensor node, without its hardware.
//!
//! A node's life: it boots, queues its channel table and a boot event, and from then on samples its
//! channels into frames. A frame is numbered and kept in the [`outbox`] until the agent says that it
//! is safe on disk; the [`link`] sends kept frames while a master grants credit, and sends them again
//! when no acknowledgement comes. When the outbox is full the oldest samples go, and every one that
//! goes is counted, so that at any instant and for each channel
//!
//! ```text
//! produced = acknowledged + held + dropped (by cause)
//! ```
//!
//! Each second a status reports these figures.
//!
//! Nothing here names a microcontroller, owns memory beyond its own fixed size, or reads a clock:
//! [`node::Node`] takes bytes, samples and the time, and returns bytes to write and the next deadline.
//! A board brings drivers behind [`sensor::Sensor`] and a loop around the node: [`station`] is what boards
//! share without naming hardware, `board` (there on a microcontroller alone) is the hardware.
#![cfg_attr(not(test), no_std)]

pub mod alarm;
#[cfg(target_os = "none")]
pub mod board;
pub mod channel;
pub mod check_in;
pub mod eeprom;
pub mod event_log;
pub mod flash;
pub mod last_words;
pub mod link;
pub mod node;
pub mod outbox;
mod plan;
pub mod schedule;
pub mod sensor;
pub mod settings;
pub mod station;
pub mod store;
#[cfg(test)]
mod test_flash;
