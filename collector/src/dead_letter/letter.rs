//! A dead letter as it is used again: its name, what the journal says of it, and its payload.

use crate::journal::{Entry, JournalError, Position, Reader};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use trunnion_common::block::{Block, Body};
use trunnion_common::id::GatewayId;
use trunnion_common::time::EventTime;

/// What a letter's payload is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Form {
    /// A gateway's block, envelope and body.
    Block,
    /// A node's frame: header, payload, checksum.
    Frame,
    /// [`Readings`](trunnion_common::block::Readings) of a virtual node, in postcard.
    Readings,
    /// Text of a fleet file or of settings.
    Text,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Block, Self::Frame, Self::Readings, Self::Text];

    /// The label in the state, on the API and on the command line.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Frame => "frame",
            Self::Readings => "readings",
            Self::Text => "text",
        }
    }
}

/// Names a dead letter: where it stands in the journal. Written `partition-segment-offset-item`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct LetterId {
    /// The journal entry that it came in.
    pub position: Position,
    /// Which of that entry's records.
    pub item: u32,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position {
            partition,
            segment,
            offset,
        } = self.position;
        write!(f, "{partition}-{segment}-{offset}-{}", self.item)
    }
}

/// A text that names no dead letter.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} names no dead letter: copy an id from `dead-letter list`, such as 0-1-4096-0")]
pub struct NoLetterId(String);

impl FromStr for LetterId {
    type Err = NoLetterId;

    fn from_str(text: &str) -> Result<Self, NoLetterId> {
        let mut parts = text.split('-').map(|part| {
            // `parse` alone would take a sign too.
            let digits = part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<u64>().ok().filter(|_| digits)
        });
        let mut part = || parts.next().flatten();
        let narrow = |part: u64| u32::try_from(part).ok();
        let id = (|| {
            Some(Self {
                position: Position {
                    partition: part().and_then(narrow)?,
                    segment: part()?,
                    offset: part()?,
                },
                item: part().and_then(narrow)?,
            })
        })();
        match (id, parts.next()) {
            (Some(id), None) => Ok(id),
            _ => Err(NoLetterId(text.to_owned())),
        }
    }
}

/// Everything that is needed to use a dead letter again. It is journaled so when it is replayed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// Where it first stood.
    pub id: LetterId,
    /// Who sent it.
    pub gateway: GatewayId,
    /// Whether its block was history.
    pub backfill: bool,
    /// When it arrived at the gateway, by the gateway's clock.
    pub arrival: EventTime,
    /// Number of the clock fix that it names.
    pub fix: u32,
    /// What the payload is.
    pub form: Form,
    /// The whole block, frame or readings.
    pub payload: bytes::Bytes,
}

/// Why a payload cannot be read from the journal.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The journal itself cannot be read there.
    #[error("the journal cannot be read at the letter's place: {0}")]
    Journal(#[from] JournalError),
    /// No entry stands there, or it holds no such record.
    #[error("the journal has no such payload at {0}: it is damaged there, or belongs to another state")]
    NotThere(LetterId),
}

impl Letter {
    /// The payload of a letter as the journal has it, whatever has become of the copy in the state.
    /// `upto` is a committed position behind it, such as the state's.
    pub fn read(journal: &Path, upto: Position, id: LetterId, form: Form) -> Result<bytes::Bytes, ReadError> {
        let not_there = || ReadError::NotThere(id);
        let mut reader = Reader::open(journal, id.position)?;
        let commit = reader.next_commit(upto)?.ok_or_else(not_there)?;
        let entry = commit.entries.into_iter().find(|(at, _)| *at == id.position);
        let bytes = match entry.ok_or_else(not_there)?.1 {
            Entry::Fleet { text, .. } | Entry::Settings { text, .. } => return Ok(text.into()),
            Entry::Block { bytes, .. } => bytes,
            _ => return Err(not_there()),
        };
        match form {
            Form::Block => Ok(bytes),
            Form::Readings => match Block::parse(&bytes) {
                Ok(block) => Ok(bytes::Bytes::copy_from_slice(block.body)),
                Err(_) => Err(not_there()),
            },
            Form::Frame => match Block::parse(&bytes).and_then(|block| block.decode()) {
                Ok(Body::Frames(mut records)) => match records.nth(id.item as usize) {
                    Some(Ok(record)) => Ok(bytes::Bytes::copy_from_slice(record.frame)),
                    _ => Err(not_there()),
                },
                _ => Err(not_there()),
            },
            Form::Text => Err(not_there()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letters_name_is_read_as_it_is_written_and_nothing_else_is() {
        let id = LetterId {
            position: Position {
                partition: 0,
                segment: 12,
                offset: u64::MAX,
            },
            item: 7,
        };
        assert_eq!(id.to_string(), "0-12-18446744073709551615-7");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in [
            "",
            "1-2-3",
            "1-2-3-4-5",
            "0-+1-2-3",
            "0-1-2-",
            "0-1-2-4294967296",
            "a-1-2-3",
        ] {
            assert!(wrong.parse::<LetterId>().is_err(), "{wrong}");
        }
    }
}
