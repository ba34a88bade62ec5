//! When the pipeline is too far behind to compute everything. Pure.
//!
//! Ledger, windows, severity and alarms are never given up; the search for faults is, since it takes most of
//! the time: a window that is shed says how much the machine vibrates, and decides nothing about faults.
//! What is decided here is journaled by ingest ([`crate::journal::Entry::Shed`]) and obeyed from there on, so
//! that a replay sheds the same windows.

use std::time::Duration;
use trunnion_diagnosis::features::Depth;

/// Shedding ends where the lag has fallen to this part of where it begins: nearer, it would begin again at
/// once.
const END: u32 = 10;

/// Decides, and remembers what it has asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shedding {
    /// Beyond this lag it begins.
    begin: Duration,
    /// What was asked for last: it takes as long as the lag until it is in force.
    wanted: Depth,
}

impl Shedding {
    /// Beginning beyond that lag, where `depth` is in force.
    pub(super) const fn new(begin: Duration, depth: Depth) -> Self {
        Self { begin, wanted: depth }
    }

    /// What is to be asked for, if anything, so far behind the journal.
    pub(super) fn choose(&self, lag: Duration) -> Option<Depth> {
        let wanted = match self.wanted {
            Depth::Full if lag > self.begin => Depth::Severity,
            Depth::Severity if lag <= self.begin / END => Depth::Full,
            unchanged => unchanged,
        };
        (wanted != self.wanted).then_some(wanted)
    }

    /// It was asked for.
    pub(super) const fn note_asked(&mut self, depth: Depth) {
        self.wanted = depth;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_beyond_the_lag_and_ends_well_below_it() {
        let mut shedding = Shedding::new(Duration::from_secs(30), Depth::Full);
        let mut asked = |seconds: u64| {
            let choice = shedding.choose(Duration::from_secs(seconds));
            choice.into_iter().for_each(|depth| shedding.note_asked(depth));
            choice
        };
        assert_eq!([0, 29, 30].map(&mut asked), [None; 3]);
        assert_eq!(asked(31), Some(Depth::Severity));
        assert_eq!([60, 31, 29, 4].map(&mut asked), [None; 4], "asked once");
        assert_eq!(asked(3), Some(Depth::Full));
        assert_eq!([4, 30].map(&mut asked), [None; 2]);
    }

    #[test]
    fn what_could_not_be_asked_for_is_chosen_again() {
        let shedding = Shedding::new(Duration::from_secs(30), Depth::Severity);
        assert_eq!(shedding.choose(Duration::ZERO), Some(Depth::Full));
        assert_eq!(shedding.choose(Duration::ZERO), Some(Depth::Full));
    }
}
