//! The one place that reads clocks: everything else is given a [`Now`].

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

/// What systemd-timesyncd(8) touches each time that it has adjusted the clock.
const SYNCHRONISED_FLAG: &str = "/run/systemd/timesync/synchronized";

/// How long its touch counts: systemd-timesyncd asks at least every 2,048 s (`PollIntervalMaxSec`), and
/// may fail twice.
const SYNCHRONISED_FOR: Duration = Duration::from_secs(3 * 2_048);

/// Whether the gateway's clock is known to be synchronised.
///
/// The kernel's own word (`adjtimex`) needs a system call outside of safe Rust, so that only
/// systemd-timesyncd's flag counts; a gateway disciplined by anything else says `Free`, which
/// understates it and misleads nobody.
#[allow(clippy::disallowed_methods, reason = "the shell's clock")]
pub fn quality() -> ClockQuality {
    match std::fs::metadata(SYNCHRONISED_FLAG).and_then(|flag| flag.modified()) {
        Ok(touched) => quality_of(touched, SystemTime::now()),
        Err(_) => ClockQuality::Free,
    }
}

/// A server lost hours ago leaves the flag behind, and a clock set back since then is not the server's.
fn quality_of(touched: SystemTime, now: SystemTime) -> ClockQuality {
    match now.duration_since(touched) {
        Ok(age) if age <= SYNCHRONISED_FOR => ClockQuality::Synchronised,
        _ => ClockQuality::Free,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_synchronised_as_long_as_its_server_may_still_answer() {
        let (touched, second) = (UNIX_EPOCH + 2 * SYNCHRONISED_FOR, Duration::from_secs(1));
        for (now, quality) in [
            (touched + second, ClockQuality::Synchronised),
            (touched + SYNCHRONISED_FOR + second, ClockQuality::Free),
            (touched - second, ClockQuality::Free),
        ] {
            assert_eq!(quality_of(touched, now), quality);
        }
    }
}
