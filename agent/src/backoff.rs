//! Jittered exponential backoff: the time and the randomness are passed in.

use std::time::Duration;

/// How long to wait before the next attempt.
///
/// The wait is drawn from between half and all of a ceiling that doubles with each failure ("equal
/// jitter"): many gateways that lost the same collector come back spread out, and none at once.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits of about `first` after the first failure and never above `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
        }
    }

    /// Another attempt has failed: when to try again. `random` is uniform over its type.
    pub fn handle_failure(&mut self, now: Duration, random: u32) -> Duration {
        let ceiling = self
            .first
            .saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX))
            .min(self.longest);
        self.failures = self.failures.saturating_add(1);
        let jitter = (ceiling / 2).mul_f64(f64::from(random) / f64::from(u32::MAX));
        now + ceiling / 2 + jitter
    }

    /// An attempt has succeeded: the next failure is a first one again.
    pub const fn handle_success(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(30);

    #[test]
    fn waits_double_up_to_the_longest_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let ceilings: Vec<Duration> = (0..40)
            .map(|_| backoff.handle_failure(Duration::ZERO, u32::MAX))
            .collect();
        assert_eq!(ceilings[..4], [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]);
        assert_eq!(ceilings[39], LONGEST);
        backoff.handle_success();
        assert_eq!(backoff.handle_failure(LONGEST, u32::MAX), LONGEST + FIRST);
    }

    #[test]
    fn no_wait_is_shorter_than_half_its_ceiling() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        assert_eq!(backoff.handle_failure(Duration::ZERO, 0), FIRST / 2);
        assert_eq!(backoff.handle_failure(Duration::ZERO, 0), FIRST);
    }
}
