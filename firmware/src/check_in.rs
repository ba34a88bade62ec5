//! Who must show that it is alive before the watchdog is fed.
//!
//! A watchdog that is fed by a timer proves that the timer works. Here every task checks in when it has
//! gone once around its loop, and the watchdog is fed only when all have since it was fed last.

use core::sync::atomic::{AtomicU32, Ordering};

/// Check-ins of up to 32 tasks; shared between tasks and interrupts.
#[derive(Debug)]
pub struct CheckIns {
    wanted: u32,
    seen: AtomicU32,
}

impl CheckIns {
    /// Tasks 0 to `tasks` - 1 are awaited; beyond 32 there is no place.
    pub const fn new(tasks: u32) -> Self {
        assert!(1 <= tasks && tasks <= 32, "one bit for each task");
        Self {
            wanted: u32::MAX >> (32 - tasks),
            seen: AtomicU32::new(0),
        }
    }

    /// Task `task` has gone around its loop.
    pub fn check_in(&self, task: u32) {
        let bit = 1_u32.checked_shl(task).unwrap_or(0);
        self.seen.fetch_or(bit & self.wanted, Ordering::Relaxed);
    }

    /// Whether all have checked in since this was last true; then they are awaited anew.
    pub fn take_all(&self) -> bool {
        let is_all = self.seen.load(Ordering::Relaxed) == self.wanted;
        if is_all {
            self.seen.store(0, Ordering::Relaxed);
        }
        is_all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_that_hangs_is_enough_to_starve_the_watchdog() {
        let tasks = CheckIns::new(3);
        for _ in 0..5 {
            tasks.check_in(0);
            tasks.check_in(2);
            assert!(!tasks.take_all());
        }
        tasks.check_in(1);
        assert!(tasks.take_all());
        assert!(!tasks.take_all(), "each time anew");
    }

    #[test]
    fn a_task_that_is_not_awaited_counts_for_nobody() {
        let tasks = CheckIns::new(1);
        tasks.check_in(1);
        tasks.check_in(99);
        assert!(!tasks.take_all());
        tasks.check_in(0);
        assert!(tasks.take_all());
    }
}
