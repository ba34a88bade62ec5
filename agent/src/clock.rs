//! The one place that reads clocks: everything else is given a [`Now`].

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use trunnion_common::time::{ClockQuality, EventTime};

/// One instant on both of the gateway's clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Since the agent started; never runs backwards. All waiting is measured on it.
    pub mono: Duration,
    /// UTC as the gateway has it; may be set at any time.
    pub utc: EventTime,
}

/// The gateway's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts counting.
    #[allow(clippy::disallowed_methods, reason = "the shell's clock")]
    #[allow(
        clippy::new_without_default,
        reason = "a default that reads a clock would surprise"
    )]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Reads both clocks. A gateway that believes to be before 1970 says 1970.
    #[allow(clippy::disallowed_methods, reason = "the shell's clock")]
    pub fn now(&self) -> Now {
        let utc = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: self.start.elapsed(),
            utc: EventTime(i64::try_from(utc.as_nanos()).unwrap_or(i64::MAX)),
        }
    }
}

/// What systemd-timesyncd(8) creates once it has set the clock.
const SYNCHRONISED_FLAG: &str = "/run/systemd/timesync/synchronized";

/// Whether the gateway's clock is known to be synchronised.
///
/// The kernel's own word (`adjtimex`) needs a system call outside of safe Rust, so that only
/// systemd-timesyncd's flag counts; a gateway disciplined by anything else says `Free`, which
/// understates it and misleads nobody.
pub fn quality() -> ClockQuality {
    if Path::new(SYNCHRONISED_FLAG).exists() {
        ClockQuality::Synchronised
    } else {
        ClockQuality::Free
    }
}
