//! Figures of the system, measured on real processes and written the same way everywhere.

pub mod backlog;
pub mod delivery;
pub mod figure;
pub mod kills;
pub mod latency;
pub mod mosquitto;
pub mod sender;
pub mod usage;
