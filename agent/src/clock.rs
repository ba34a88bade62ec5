//! The one place that reads clocks: everything else is given a [`Now`].

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use trunnion_common::time::EventTime;

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
