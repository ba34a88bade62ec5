//! What a journal must have heard before samples mean anything to it: each boot's channel table and clock
//! fix. Pure.
//!
//! A node sends its table when it boots and when it hears a new agent, and what a journal has acknowledged
//! is deleted. So when another journal begins to acknowledge (a collector of the same plant that has taken
//! over), or the same one after a new start (a backup of it may have been restored), it may never have had
//! them: they are sent again, the table as the very frame that it was, which a journal that does have it
//! knows as a duplicate.

use crate::intake::BootKey;
use std::collections::{BTreeMap, VecDeque};
use trunnion_common::ack::{JOURNALS_MAX, JournalMark};
use trunnion_common::block::FrameRecord;
use trunnion_common::frame::Header;
use trunnion_common::time::{ClockFix, EventTime};

/// Fixes of a boot that are sent again: those of the last minutes, by which frames are dated that are still
/// on their way. What older frames of a backlog name, they wait for until they are overdue.
const FIXES_MAX: usize = 16;

/// The newest table and the last fixes of each boot that the intake remembers: at most
/// [`crate::intake::BOOTS_MAX`], each table a frame long.
#[derive(Debug, Default)]
pub struct Introductions {
    /// Which acknowledged, the last one first.
    journals: Vec<JournalMark>,
    tables: BTreeMap<BootKey, Table>,
    fixes: BTreeMap<BootKey, VecDeque<ClockFix>>,
}

#[derive(Debug)]
struct Table {
    header: Header,
    arrival: EventTime,
    fix: u32,
    frame: Vec<u8>,
}

impl Introductions {
    /// Of an agent to which these journals acknowledged, the last one first, as far as its disk knows.
    pub fn new(journals: Vec<JournalMark>) -> Self {
        Self {
            journals,
            ..Self::default()
        }
    }

    /// The journals that acknowledged and how far they went then, the last one first.
    pub fn journals(&self) -> &[JournalMark] {
        &self.journals
    }

    /// A frame with a boot's channel table was taken in.
    pub fn handle_table(&mut self, header: &Header, record: &FrameRecord<'_>) {
        let table = Table {
            header: *header,
            arrival: record.arrival,
            fix: record.fix,
            frame: record.frame.to_vec(),
        };
        self.tables.insert((header.node, header.boot), table);
    }

    /// A fix is in force from now on.
    pub fn handle_fix(&mut self, fix: &ClockFix) {
        let fixes = self.fixes.entry((fix.node, fix.boot)).or_default();
        if fixes.len() == FIXES_MAX {
            fixes.pop_front();
        }
        fixes.push_back(*fix);
    }

    /// Forgets boots.
    pub fn retain(&mut self, is_known: impl Fn(BootKey) -> bool) {
        self.tables.retain(|key, _| is_known(*key));
        self.fixes.retain(|key, _| is_known(*key));
    }

    /// This journal acknowledges, named by a start of its collector; whether that is another than before, to
    /// which all may be new.
    pub fn handle_journal(&mut self, journal: JournalMark) -> bool {
        let before = self.journals.first().map(|before| before.name);
        put_first(&mut self.journals, journal);
        before.is_some_and(|before| before != journal.name)
    }

    /// The last fixes of every boot, oldest first.
    pub fn fixes(&self) -> impl Iterator<Item = &ClockFix> {
        self.fixes.values().flatten()
    }

    /// The tables, as the frames that they came in.
    pub fn tables(&self) -> impl Iterator<Item = (&Header, FrameRecord<'_>)> {
        self.tables.values().map(|table| {
            let record = FrameRecord {
                arrival: table.arrival,
                fix: table.fix,
                frame: &table.frame,
            };
            (&table.header, record)
        })
    }
}

/// Puts a journal in front of the others, which are told no further than a Hello has room. It goes as far as it ever
/// went.
pub fn put_first(journals: &mut Vec<JournalMark>, mut journal: JournalMark) {
    if let Some(known) = journals.iter().find(|known| known.name == journal.name) {
        journal.extent = journal.extent.max(known.extent);
    }
    journals.retain(|known| known.name != journal.name);
    journals.insert(0, journal);
    journals.truncate(JOURNALS_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::ack::Extent;
    use trunnion_common::id::{BootId, JournalId, NodeId};
    use trunnion_common::time::{ClockQuality, NodeTicks};

    #[test]
    fn the_last_fixes_of_a_boot_are_remembered_until_it_is_forgotten() {
        let mut introductions = Introductions::default();
        for number in 0..40 {
            introductions.handle_fix(&ClockFix {
                node: NodeId::new(1).unwrap(),
                boot: BootId::new(1, 2),
                number,
                ticks: NodeTicks(0),
                utc: EventTime(0),
                error_ns: 1,
                quality: ClockQuality::Free,
            });
        }
        let numbers: Vec<_> = introductions.fixes().map(|fix| fix.number).collect();
        assert_eq!(numbers, Vec::from_iter(24..40));
        introductions.retain(|_| false);
        assert_eq!(introductions.fixes().count(), 0);
    }

    #[test]
    fn the_last_journals_are_remembered_each_once() {
        let mut introductions = Introductions::default();
        let mark = |name, extent| JournalMark {
            name: JournalId(name),
            extent: Extent(extent),
        };
        for (name, extent, is_another) in [(1, 9, false), (1, 8, false), (2, 5, true), (1, 7, true)] {
            let told = introductions.handle_journal(mark(name, extent));
            assert_eq!(told, is_another, "{name}");
        }
        assert_eq!(introductions.journals(), [mark(1, 9), mark(2, 5)]);
        for name in 3..20 {
            assert!(introductions.handle_journal(mark(name, 0)));
        }
        let newest = (20 - JOURNALS_MAX as u64..20).rev().map(|name| mark(name, 0));
        assert!(introductions.journals().iter().copied().eq(newest));
    }
}
