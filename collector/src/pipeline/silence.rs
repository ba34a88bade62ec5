//! When the next channel may have fallen silent.

use trunnion_common::time::EventTime;

/// When channels are to be looked through for those that have fallen silent, so that a commit costs the same
/// however many there are. It follows from the channels, and is no part of the state: looking too early finds
/// nothing.
#[derive(Debug)]
pub(super) struct SilenceWatch<S> {
    /// Nobody falls silent before this, by the settings it was computed with.
    next: Option<(EventTime, S)>,
}

impl<S> Default for SilenceWatch<S> {
    fn default() -> Self {
        Self { next: None }
    }
}

impl<S: Copy + PartialEq> SilenceWatch<S> {
    /// Whether somebody may have fallen silent by now. If so, every channel is to be [noted](Self::note).
    pub(super) fn begin(&mut self, now: EventTime, settings: S) -> bool {
        let is_due = self
            .next
            .is_none_or(|(next, with)| next <= now || with != settings);
        if is_due {
            self.next = Some((EventTime(i64::MAX), settings));
        }
        is_due
    }

    /// A channel falls silent then, if nothing more comes.
    pub(super) fn note(&mut self, silent: EventTime) {
        if let Some((next, _)) = &mut self.next {
            *next = silent.min(*next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_at_first_when_somebody_may_be_silent_and_under_other_settings() {
        let mut watch = SilenceWatch::default();
        let due = |watch: &mut SilenceWatch<u8>, now, settings| watch.begin(EventTime(now), settings);
        assert!(due(&mut watch, 0, 1));
        watch.note(EventTime(10));
        watch.note(EventTime(20));
        assert!(!due(&mut watch, 9, 1));
        assert!(due(&mut watch, 10, 1));
        assert!(!due(&mut watch, i64::MAX - 1, 1), "nobody was noted");
        assert!(due(&mut watch, 11, 2));
    }
}
