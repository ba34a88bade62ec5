//! What the spool keeps when there is no room for everything. Pure.
//!
//! The essential chain (scalars, events, clock fixes, tombstones, features) is never evicted. Waveforms
//! give way, oldest directory first, each with a tombstone that is on disk before the directory goes;
//! when not even that helps, waveforms are no longer taken in and stay with their nodes, and at last
//! nothing is but alarms, which have a place of their own ([`crate::alarm`]).
//!
//! | what is short of room | step |
//! |---|---|
//! | waveforms | `evict_waveform`, `close_waveform`, `stop_waveform_intake` |
//! | essentials take half of the quota | `thin_derived`: features of ten times as long stretches each |
//! | essentials take three quarters of it | `thin_derived`: of sixty times as long ones |
//! | essentials take nine tenths of it | `stop_derived`: the rest is for what only the nodes know |
//! | essentials take all of it | `stop_intake` |
//!
//! The quota is the smaller of a number of bytes and a share of the disk that is free or the spool's
//! own. So the spool also gives way when something else fills the disk.

use std::time::Duration;

/// How much the spool may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Most bytes of disk for both chains.
    pub quota_bytes: u64,
    /// Most percent of the disk that is free or the spool's own.
    pub disk_percent: u64,
    /// Bytes of the quota that waveforms never take.
    pub essential_bytes: u64,
}

/// What the spool takes, in bytes of disk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// The essential chain.
    pub essential_bytes: u64,
    /// Damaged databases and blocks, kept for a person to look at.
    pub quarantine_bytes: u64,
    /// The waveform chain's directories, oldest first.
    pub waveform: Vec<Directory>,
    /// What the file system has left.
    pub free_bytes: u64,
    /// Files that the database put beside its log, which are never made durable: there must be none.
    pub blob_files: u64,
}

/// A directory of the waveform chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Directory {
    /// Its number.
    pub number: u32,
    /// What it takes.
    pub bytes: u64,
    /// What is to become of it.
    pub state: DirectoryState,
}

/// What is to become of a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DirectoryState {
    /// Complete: may be evicted.
    Closed,
    /// Being written, and with blocks in it.
    Written,
    /// Being written, and still empty.
    Empty,
    /// Its tombstones are on their way to disk, and it goes when they are there.
    Leaving,
}

/// The next step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// There is room.
    Keep,
    /// This directory goes, as soon as its tombstones are on disk.
    EvictWaveform {
        /// Its number.
        directory: u32,
    },
    /// The directory being written is all there is: it is closed, so that it can go.
    CloseWaveform,
    /// Waveforms are not taken in until there is room; nodes hold on to them.
    StopWaveformIntake,
    /// Nothing but alarms is taken in until there is room.
    StopIntake,
}

impl Decision {
    /// Name in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::EvictWaveform { .. } => "evict_waveform",
            Self::CloseWaveform => "close_waveform",
            Self::StopWaveformIntake => "stop_waveform_intake",
            Self::StopIntake => "stop_intake",
        }
    }
}

/// What features computed at intake may take of the essential chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DerivedPlan {
    /// As configured.
    Full,
    /// Stretches so many times as long: so many times fewer features.
    Thin(u32),
    /// None.
    Stop,
}

impl DerivedPlan {
    /// Name in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Full => "keep_derived",
            Self::Thin(_) => "thin_derived",
            Self::Stop => "stop_derived",
        }
    }

    /// The length of a stretch that is configured to be that long.
    pub fn window(self, configured: Duration) -> Option<Duration> {
        match self {
            Self::Full => Some(configured),
            Self::Thin(factor) => Some(configured.saturating_mul(factor)),
            Self::Stop => None,
        }
    }
}

/// From which percentage of the quota on essentials leave features less room.
const DERIVED_STEPS: [(u64, DerivedPlan); 3] = [
    (90, DerivedPlan::Stop),
    (75, DerivedPlan::Thin(60)),
    (50, DerivedPlan::Thin(10)),
];

impl Usage {
    /// The waveform chain, in all.
    pub fn waveform_bytes(&self) -> u64 {
        self.waveform.iter().map(|directory| directory.bytes).sum()
    }
}

impl Limits {
    /// Bytes that both chains may take together, as the disk stands.
    pub fn quota(&self, usage: &Usage) -> u64 {
        let own = usage.essential_bytes + usage.quarantine_bytes + usage.waveform_bytes();
        let share = u128::from(usage.free_bytes.saturating_add(own)) * u128::from(self.disk_percent) / 100;
        self.quota_bytes.min(u64::try_from(share).unwrap_or(u64::MAX))
    }

    /// Bytes that the waveform chain may take, as the disk stands.
    pub fn waveform_quota(&self, usage: &Usage) -> u64 {
        let essential = usage.essential_bytes.max(self.essential_bytes);
        self.quota(usage)
            .saturating_sub(essential.saturating_add(usage.quarantine_bytes))
    }

    /// What features computed at intake may take.
    pub fn derived_plan(&self, usage: &Usage) -> DerivedPlan {
        let taken = u128::from(usage.essential_bytes.saturating_add(usage.quarantine_bytes)) * 100;
        let quota = u128::from(self.quota(usage));
        let step = DERIVED_STEPS
            .into_iter()
            .find(|(percent, _)| taken >= quota * u128::from(*percent));
        step.map_or(DerivedPlan::Full, |(_, plan)| plan)
    }

    /// The next step; to be asked again when it has been done.
    pub fn decide(&self, usage: &Usage) -> Decision {
        let staying = usage
            .waveform
            .iter()
            .filter(|d| d.state != DirectoryState::Leaving);
        let bytes: u64 = staying.clone().map(|directory| directory.bytes).sum();
        let waveform_quota = self.waveform_quota(usage);
        // None at all is no room, even where there is no directory that could give way: on a full disk
        // none can be begun.
        if bytes <= waveform_quota && waveform_quota > 0 {
            return Decision::Keep;
        }
        let find = |state| staying.clone().find(move |directory| directory.state == state);
        if let Some(oldest) = find(DirectoryState::Closed) {
            return Decision::EvictWaveform {
                directory: oldest.number,
            };
        }
        if find(DirectoryState::Written).is_some() {
            return Decision::CloseWaveform;
        }
        if usage.essential_bytes + usage.quarantine_bytes >= self.quota(usage) {
            return Decision::StopIntake;
        }
        Decision::StopWaveformIntake
    }
}

#[cfg(test)]
mod tests {
    use super::DirectoryState::{Closed, Empty, Leaving, Written};
    use super::*;

    const LIMITS: Limits = Limits {
        quota_bytes: 100,
        disk_percent: 50,
        essential_bytes: 20,
    };

    fn usage(essential: u64, waveform: &[(u64, DirectoryState)], free: u64) -> Usage {
        let directory =
            |(number, &(bytes, state)): (u32, &(u64, DirectoryState))| Directory { number, bytes, state };
        Usage {
            essential_bytes: essential,
            quarantine_bytes: 0,
            waveform: (1..).zip(waveform).map(directory).collect(),
            free_bytes: free,
            blob_files: 0,
        }
    }

    fn check(essential: u64, waveform: &[(u64, DirectoryState)], free: u64, expected: Decision) {
        let usage = usage(essential, waveform, free);
        assert_eq!(LIMITS.decide(&usage), expected, "{usage:?}");
    }

    #[test]
    fn what_fits_stays() {
        check(0, &[], 1_000, Decision::Keep);
        check(20, &[(40, Closed), (40, Written)], 1_000, Decision::Keep);
    }

    #[test]
    fn the_oldest_directory_goes_first_and_one_that_is_leaving_counts_as_gone() {
        let evict = |directory| Decision::EvictWaveform { directory };
        check(5, &[(40, Closed), (40, Closed), (10, Written)], 1_000, evict(1));
        check(5, &[(40, Leaving), (80, Closed), (10, Written)], 1_000, evict(2));
        check(
            5,
            &[(40, Leaving), (40, Closed), (10, Written)],
            1_000,
            Decision::Keep,
        );
    }

    #[test]
    fn the_essential_reserve_is_never_taken_by_waveforms_and_may_be_exceeded() {
        check(
            0,
            &[(81, Closed)],
            1_000,
            Decision::EvictWaveform { directory: 1 },
        );
        check(
            50,
            &[(51, Closed)],
            1_000,
            Decision::EvictWaveform { directory: 1 },
        );
    }

    #[test]
    fn a_disk_that_others_fill_makes_the_spool_give_way() {
        // 60 of its own and 10 free: half of 70 is 35, of which 20 are reserved.
        check(
            0,
            &[(30, Closed), (30, Written)],
            10,
            Decision::EvictWaveform { directory: 1 },
        );
        check(0, &[(30, Written)], 0, Decision::CloseWaveform);
    }

    #[test]
    fn the_directory_being_written_is_closed_before_waveforms_are_refused() {
        check(5, &[(90, Written)], 1_000, Decision::CloseWaveform);
        check(95, &[(6, Empty)], 1_000, Decision::StopWaveformIntake);
        check(100, &[(6, Empty)], 1_000, Decision::StopIntake);
        check(100, &[], 1_000, Decision::StopIntake);
        check(10, &[], 0, Decision::StopIntake);
        check(10, &[], 25, Decision::StopWaveformIntake);
    }

    #[test]
    fn features_give_way_in_steps_before_anything_that_only_the_nodes_know() {
        for (essential, quarantine, free, expected) in [
            (0, 0, 1_000, DerivedPlan::Full),
            (49, 0, 1_000, DerivedPlan::Full),
            (50, 0, 1_000, DerivedPlan::Thin(10)),
            (60, 15, 1_000, DerivedPlan::Thin(60)),
            (90, 0, 1_000, DerivedPlan::Stop),
            // Half of 20 of its own and 20 free is 20: full by the share of the disk.
            (20, 0, 20, DerivedPlan::Stop),
            (15, 0, 45, DerivedPlan::Thin(10)),
        ] {
            let usage = Usage {
                quarantine_bytes: quarantine,
                ..usage(essential, &[], free)
            };
            assert_eq!(LIMITS.derived_plan(&usage), expected, "{usage:?}");
        }
        let second = Duration::from_secs(1);
        assert_eq!(DerivedPlan::Full.window(second), Some(second));
        assert_eq!(DerivedPlan::Thin(60).window(second), Some(60 * second));
        assert_eq!(DerivedPlan::Stop.window(second), None);
    }

    #[test]
    fn following_the_decisions_always_ends() {
        for free in (0..400).step_by(7) {
            for essential in (0..130).step_by(9) {
                let mut usage = usage(essential, &[(30, Closed), (30, Closed), (30, Written)], free);
                let mut steps = 0;
                loop {
                    match LIMITS.decide(&usage) {
                        Decision::EvictWaveform { directory } => {
                            let at = usage.waveform.iter().position(|d| d.number == directory).unwrap();
                            usage.free_bytes += usage.waveform.remove(at).bytes;
                        }
                        Decision::CloseWaveform => {
                            usage.waveform.last_mut().unwrap().state = Closed;
                        }
                        Decision::Keep | Decision::StopWaveformIntake | Decision::StopIntake => break,
                    }
                    steps += 1;
                    assert!(steps < 10);
                }
            }
        }
    }
}
