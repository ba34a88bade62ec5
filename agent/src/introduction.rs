//! What a journal must have heard before samples mean anything to it: each boot's channel table and clock
//! fix. Pure.
//!
//! A node sends its table when it boots and when it hears a new agent, and what a journal has acknowledged
//! is deleted. So when another journal begins to acknowledge (a collector of the same plant that has taken
//! over, or one that was restored), it has never had them: they are sent again, the table as the very
//! frame that it was, which a journal that does have it knows as a duplicate.

use crate::intake::BootKey;
use std::collections::BTreeMap;
use trunnion_common::block::FrameRecord;
use trunnion_common::frame::Header;
use trunnion_common::id::JournalId;
use trunnion_common::time::EventTime;

/// The newest table of each boot that the intake remembers: at most [`crate::intake::BOOTS_MAX`], each
/// a frame long.
#[derive(Debug, Default)]
pub struct Introductions {
    /// Which acknowledged last.
    journal: Option<JournalId>,
    tables: BTreeMap<BootKey, Table>,
}

#[derive(Debug)]
struct Table {
    header: Header,
    arrival: EventTime,
    fix: u32,
    frame: Vec<u8>,
}

impl Introductions {
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

    /// Forgets boots.
    pub fn retain(&mut self, is_known: impl Fn(BootKey) -> bool) {
        self.tables.retain(|key, _| is_known(*key));
    }

    /// This journal acknowledges; whether it is another than before, to which all is new.
    pub fn handle_journal(&mut self, journal: JournalId) -> bool {
        let before = self.journal.replace(journal);
        before.is_some_and(|before| before != journal)
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
