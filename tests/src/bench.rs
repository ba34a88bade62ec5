//! Figures of the system, measured on real processes and written the same way everywhere.

pub mod backlog;
mod clock;
pub mod delivery;
mod edge;
pub mod engine;
pub mod figure;
pub mod firmware;
pub mod flood;
pub mod herd;
pub mod inside;
pub mod kills;
pub mod latency;
pub mod mosquitto;
pub mod restart;
pub mod scenario;
pub mod sender;
pub mod usage;
pub mod windows;
