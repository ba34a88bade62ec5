//! The plant's collector: commits what arrives, cuts the streams into event-time windows, and says
//! which machine is failing and which part of it.
//!
//! ```text
//! gateway ==mutual TLS==> door -> broker -> ingest -> journal (fsync) --ack--> gateway
//!                                                        |
//!                  reader -> pipeline: ledger, window -> features -> detection -> advisory
//!                                                        |
//!                                       state (SQLite) -> api, page, metrics
//! ```
//!
//! The journal is the truth: everything right of it is a function of a journal prefix alone, and the
//! same code runs live, after a restart and in a replay.

pub mod advisory;
pub mod alarm;
pub mod api;
pub mod broker;
pub mod checkpoint;
pub mod command;
pub mod config;
pub mod dead_letter;
pub mod decision;
pub mod derived;
pub mod door;
pub mod fleet;
pub mod health;
pub mod history;
pub mod ingest;
pub mod init;
pub mod journal;
pub mod ledger;
pub mod metrics;
pub mod page;
pub mod pipeline;
pub mod pki;
pub mod prognosis;
pub mod replay;
pub mod retention;
mod service;
pub mod settings;
pub mod slots;
pub mod source;
pub mod state;
pub mod watermark;
pub mod window;

pub use service::{Addresses, RunError, run};
