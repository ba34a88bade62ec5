//! The gateway.
pub mod backoff;
pub mod block;
pub mod clock;
pub mod clock_sync;
pub mod config;
pub mod enrolment;
pub mod intake;
pub mod line;
pub mod metrics;
pub mod mqtt;
pub mod port;
pub mod status;
pub mod tls;
pub mod publisher;
pub mod spool;
mod toml_section;
