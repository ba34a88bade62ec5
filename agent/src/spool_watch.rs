//! Whether the spool still answers what it was asked. Pure.
//!
//! A disk that refuses is no reason to end: the spool says so at least every five seconds and tries again.
//! But a call may also never return: after some failed `sync_file_range` sled's `flush` is not woken any
//! more, and a kernel may hold a call to a dying disk. The spool's thread hangs then, without an error. Nothing
//! false is confirmed, and nothing at all any more: nodes hold on to their frames until they drop the oldest.
//! Only a new process gets out of that, so the agent ends with an error that says why. Where the kernel
//! holds the call, the process and its lock on the spool are gone when that lets go, and no sooner.
//!
//! Silence is counted in looks and not in time: a process that was stopped for an hour, or a machine that
//! slept, finds one look due when it goes on, and the spool's answer before the next.

use std::time::Duration;

/// From one look to the next. Above the longest pause between two refusals.
pub(crate) const LOOK: Duration = Duration::from_secs(10);

/// Looks in a row without an answer at which the spool is given up: after a minute. Far above what a
/// busy disk needs for the few megabytes that are in hand at most.
const LOOKS_MAX: u32 = 6;

/// How long the spool has owed an answer.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SpoolWatch {
    /// In a row, each [`LOOK`] or more after the one before, without an answer in between.
    looks: u32,
    /// The next look, while an answer is owed.
    due: Option<Duration>,
}

impl SpoolWatch {
    /// The spool said something, whatever it was.
    pub fn handle_reply(&mut self) {
        *self = Self::default();
    }

    /// Looks, if that is due; `is_owing` says whether the spool was asked for something that it has not
    /// answered.
    pub fn poll(&mut self, is_owing: bool, now: Duration) {
        if !is_owing {
            *self = Self::default();
        } else if *self.due.get_or_insert(now + LOOK) <= now {
            self.looks = self.looks.saturating_add(1);
            self.due = Some(now + LOOK);
        }
    }

    /// When [`Self::poll`] has to be called again.
    pub const fn next_timeout(&self) -> Option<Duration> {
        self.due
    }

    /// How long the spool has owed an answer, at least.
    pub fn silence(&self) -> Duration {
        LOOK.saturating_mul(self.looks)
    }

    /// Whether it will never come.
    pub const fn is_over(&self) -> bool {
        self.looks >= LOOKS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen every tenth of a second from `from` to `to`, each in seconds: when it is over, if so.
    fn watch(watch: &mut SpoolWatch, is_owing: bool, from: u64, to: u64) -> Option<Duration> {
        (from * 10..to * 10)
            .map(|tenth| Duration::from_millis(100 * tenth))
            .find(|now| {
                watch.poll(is_owing, *now);
                watch.is_over()
            })
    }

    #[test]
    fn a_spool_that_owes_an_answer_for_a_minute_is_given_up() {
        let mut silent = SpoolWatch::default();
        assert_eq!(watch(&mut silent, true, 3, 63), None);
        assert_eq!(watch(&mut silent, true, 63, 64), Some(Duration::from_secs(63)));
        assert_eq!(silent.silence(), Duration::from_secs(60));
    }

    #[test]
    fn a_spool_that_is_asked_for_nothing_may_be_silent_for_ever() {
        let mut idle = SpoolWatch::default();
        assert_eq!(watch(&mut idle, false, 0, 600), None);
        assert_eq!(idle.next_timeout(), None);
        // What it was asked for before counts no more when nobody waits for it.
        assert_eq!(watch(&mut idle, true, 600, 655), None);
        assert_eq!(watch(&mut idle, false, 655, 656), None);
        assert_eq!(watch(&mut idle, true, 656, 710), None);
    }

    #[test]
    fn a_spool_that_refuses_and_tries_again_is_waited_for() {
        let mut refusing = SpoolWatch::default();
        for refusal in 0..1_000 {
            assert_eq!(watch(&mut refusing, true, 5 * refusal, 5 * (refusal + 1)), None);
            assert_eq!(refusing.silence(), Duration::ZERO);
            refusing.handle_reply();
        }
        // So is one whose disk takes nearly a minute for every answer.
        for answer in 100..200 {
            assert_eq!(watch(&mut refusing, true, 59 * answer, 59 * (answer + 1)), None);
            refusing.handle_reply();
        }
    }

    #[test]
    fn a_process_that_stood_still_waits_for_the_answer_all_the_same() {
        let mut resumed = SpoolWatch::default();
        assert_eq!(watch(&mut resumed, true, 0, 9), None);
        assert_eq!(watch(&mut resumed, true, 3_600, 3_605), None);
        assert_eq!(resumed.silence(), LOOK);
    }
}
