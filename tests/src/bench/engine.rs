//! The event-time engine: how fast windows, features and outputs follow from what has arrived.
//!
//! `windows` measures the windows alone, beside stream processors; `inside` measures in this process, on one
//! core; `flood` measures the real collector, over mutual TLS.

use super::figure::Figure;
use super::scenario::{self, Scenario};
use super::{flood, inside, restart, windows};
use std::path::Path;
use std::time::Duration;

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    /// Events that are put into windows, beside the peers.
    pub window_events: u64,
    /// Waveforms that are read from a journal in this process, seconds of 64 channels at 25.6 kHz.
    pub waveform_s: u64,
    /// Readings that are read from a journal in this process.
    pub readings: u64,
    /// What gateways send to a collector as fast as it takes it, MiB.
    pub sent_mib: u64,
    /// How long a thirtyfold load lasts: a minute for the figure's own goal.
    pub burst: Duration,
    /// How long live data is watched.
    pub watched: Duration,
}

impl Default for Scale {
    fn default() -> Self {
        Self {
            window_events: 10_000_000,
            waveform_s: 60,
            readings: 10_000_000,
            sent_mib: 1_024,
            burst: Duration::from_secs(60),
            watched: Duration::from_secs(30),
        }
    }
}

/// Everything that can be measured here, in the order in which it is.
pub const SCENARIOS: [Scenario<Scale>; 8] = [
    windows::WINDOWS,
    inside::WAVEFORM,
    inside::COST,
    restart::RESTART,
    flood::COLLECTOR,
    flood::SCALARS,
    flood::ADVISORY,
    flood::BURST,
];

/// Measures these scenarios in folders below `dir`. `progress` hears a line now and then.
pub fn measure(
    dir: &Path,
    scale: &Scale,
    scenarios: &[&Scenario<Scale>],
    progress: impl FnMut(&str),
) -> Vec<Figure> {
    scenario::measure(dir, scale, scenarios, progress)
}
