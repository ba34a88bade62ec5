//! What the spool keeps when there is no room for everything. Pure.
//!
//! The essential chain (scalars, events, clock fixes, tombstones) is never evicted. Waveforms give way,
//! oldest directory first, each with a tombstone that is on disk before the directory goes; when not
//! even that helps, waveforms are no longer taken in and stay with their nodes, and at last nothing is.
//!
//! The quota is the smaller of a number of bytes and a share of the disk that is free or the spool's
//! own. So the spool also gives way when something else fills the disk.

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
    /// Nothing is taken in until there is room.
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

    /// The next step; to be asked again when it has been done.
    pub fn decide(&self, usage: &Usage) -> Decision {
        let staying = usage
            .waveform
            .iter()
            .filter(|d| d.state != DirectoryState::Leaving);
        let bytes: u64 = staying.clone().map(|directory| directory.bytes).sum();
        if bytes <= self.waveform_quota(usage) {
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
