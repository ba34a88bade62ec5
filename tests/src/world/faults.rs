//! What can go wrong, and how often it did.

use super::chance::Chance;
use std::collections::BTreeMap;
use std::fmt;

/// A fault that the world injects.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "each name says it")]
pub enum Fault {
    LineDropped,
    LineGarbled,
    LineRepeated,
    LineCut,
    SensorMissed,
    NodeReboot,
    AgentCrash,
    /// A gateway is put back to an image of its disk that was made before.
    GatewayRestored,
    /// Blocks that were in a spool when it was, and not in the image.
    SpoolBlocksReplaced,
    /// A commit under way at the crash, which the disk has in full or not at all.
    SpoolCommitTorn,
    /// Blocks that were freed stand in the spool again after the crash.
    SpoolBlocksBack,
    SpoolWriteFailed,
    SpoolFull,
    /// Others have filled the disk.
    DiskFilled,
    /// Directories that had to go, after their tombstones.
    SpoolEvicted,
    SpoolUnreadable,
    /// Among the unreadable ones: a clock fix, a channel table, a gap or a tombstone.
    SpoolReferenceLost,
    SpoolLater,
    GatewayClockJump,
    NotTaken,
    SessionCut,
    /// Blocks sent as history.
    HistorySent,
    Partition,
    MessageLost,
    MessageRepeated,
    /// Messages of a connection that was cut arrive after its successor's first.
    MessageLate,
    /// Among them Hellos, which may come from a former start of the agent.
    HelloLate,
    BrokerOverrun,
    /// The process is killed.
    CollectorKill,
    /// The power is cut.
    CollectorCrash,
    /// A crash in the middle of a write or sync.
    CollectorCrashInDisk,
    /// The collector is put back to a backup that was made before.
    CollectorRestored,
    CollectorStall,
    /// Writes that a crash took back although they had been made.
    JournalWriteLost,
    JournalWriteTorn,
    JournalWriteFailed,
    JournalSyncFailed,
    JournalFull,
    CollectorClockJump,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 39] = [
        Self::LineDropped,
        Self::LineGarbled,
        Self::LineRepeated,
        Self::LineCut,
        Self::SensorMissed,
        Self::NodeReboot,
        Self::AgentCrash,
        Self::GatewayRestored,
        Self::SpoolBlocksReplaced,
        Self::SpoolCommitTorn,
        Self::SpoolBlocksBack,
        Self::SpoolWriteFailed,
        Self::SpoolFull,
        Self::DiskFilled,
        Self::SpoolEvicted,
        Self::SpoolUnreadable,
        Self::SpoolReferenceLost,
        Self::SpoolLater,
        Self::GatewayClockJump,
        Self::NotTaken,
        Self::SessionCut,
        Self::HistorySent,
        Self::Partition,
        Self::MessageLost,
        Self::MessageRepeated,
        Self::MessageLate,
        Self::HelloLate,
        Self::BrokerOverrun,
        Self::CollectorKill,
        Self::CollectorCrash,
        Self::CollectorCrashInDisk,
        Self::CollectorRestored,
        Self::CollectorStall,
        Self::JournalWriteLost,
        Self::JournalWriteTorn,
        Self::JournalWriteFailed,
        Self::JournalSyncFailed,
        Self::JournalFull,
        Self::CollectorClockJump,
    ];
}

/// How often each fault was injected.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FaultCounts(BTreeMap<Fault, u64>);

impl FaultCounts {
    /// One more.
    pub fn note(&mut self, fault: Fault) {
        *self.0.entry(fault).or_default() += 1;
    }

    /// How often.
    pub fn count(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or(0)
    }

    /// Adds those of another world.
    pub fn add(&mut self, other: &Self) {
        for (fault, count) in &other.0 {
            *self.0.entry(*fault).or_default() += count;
        }
    }
}

impl fmt::Display for FaultCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in Fault::ALL {
            writeln!(f, "{:24}{:>10}", format!("{fault:?}"), self.count(fault))?;
        }
        Ok(())
    }
}

/// How likely each fault is in one world. Worlds differ: some are calm but for one kind of trouble,
/// where long runs of success are possible, others have everything at once (swarm testing: Groce et al.,
/// ISSTA 2012).
#[derive(Clone, Debug)]
pub struct Weather {
    /// One chunk on a line in so many suffers.
    pub line: u64,
    /// One message in so many suffers.
    pub network: u64,
    /// One request to the spool in so many fails.
    pub spool: u64,
    /// One write or sync of the journal in so many fails.
    pub journal: u64,
    /// Longest time between two larger events, milliseconds.
    pub event_every: u64,
    /// The larger events that occur.
    pub events: Vec<Fault>,
}

impl Weather {
    /// That of a seed.
    pub fn draw(chance: &mut Chance) -> Self {
        let all = [
            Fault::LineCut,
            Fault::NodeReboot,
            Fault::AgentCrash,
            Fault::GatewayRestored,
            Fault::SpoolFull,
            Fault::DiskFilled,
            Fault::GatewayClockJump,
            Fault::SessionCut,
            Fault::Partition,
            Fault::CollectorKill,
            Fault::CollectorCrash,
            Fault::CollectorCrashInDisk,
            Fault::CollectorStall,
            Fault::JournalFull,
            Fault::CollectorClockJump,
        ];
        let mut events: Vec<Fault> = all.into_iter().filter(|_| !chance.one_in(3)).collect();
        if events.is_empty() {
            events.push(Fault::AgentCrash);
        }
        // It excuses much, so that most worlds go without; the others are what they were before it came.
        if chance.clone().one_in(4) {
            events.push(Fault::CollectorRestored);
        }
        let mut odds = |often: u64| match chance.below(4) {
            0 => 0,
            1 => often,
            2 => 4 * often,
            _ => 16 * often,
        };
        Self {
            line: odds(20),
            network: odds(15),
            spool: odds(20),
            journal: odds(20),
            event_every: 500 + chance.below(4_000),
            events,
        }
    }
}
