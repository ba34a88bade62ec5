//! Dead letters at rest: what they are, as much of their payloads as there is room for, and what became
//! of those that were replayed.

use super::reader::position_at;
use super::{StateError, StateReader};
use crate::dead_letter::{DeadLetter, Form, LetterId, Outcome, ReplayRow};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use trunnion_common::time::EventTime;

/// Bytes of dead payloads kept; beyond, the oldest goes (the journal has it still).
pub const DEAD_LETTER_BYTES_MAX: i64 = 64 << 20;

/// Dead letters listed, with or without their payload; beyond, the oldest goes.
pub const DEAD_LETTERS_MAX: u32 = 100_000;

pub(super) const TABLES: &str = "
CREATE TABLE dead_letter(partition INTEGER NOT NULL, segment INTEGER NOT NULL, offset INTEGER NOT NULL,
    item INTEGER NOT NULL, gateway TEXT, backfill INTEGER NOT NULL, arrival INTEGER NOT NULL,
    fix INTEGER NOT NULL, reason TEXT NOT NULL, time INTEGER NOT NULL, form TEXT NOT NULL,
    bytes INTEGER NOT NULL, payload BLOB, replayed INTEGER, outcome TEXT, samples INTEGER,
    PRIMARY KEY (partition, segment, offset, item));
CREATE INDEX dead_letter_whole ON dead_letter(partition, segment, offset, item, bytes) WHERE payload IS NOT NULL;
";

/// Which dead letters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LetterQuery {
    /// Only those with this label of the reason.
    pub reason: Option<String>,
    /// Only those of this gateway, as `site/gateway`.
    pub gateway: Option<String>,
    /// Only those refused at this time or later, by the journal's clock.
    pub since: EventTime,
    /// At most this many, the newest.
    pub limit: u32,
}

/// A dead letter without its payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetterRow {
    /// Where it stands in the journal.
    pub id: LetterId,
    /// `site/gateway` of the sender; none when it did not come from a gateway.
    pub gateway: Option<String>,
    /// Whether its block was history.
    pub backfill: bool,
    /// When it arrived at the gateway, by the gateway's clock.
    pub arrival: EventTime,
    /// Number of the clock fix that it names.
    pub fix: u32,
    /// Label of the reason.
    pub reason: String,
    /// The journal's time when it was refused.
    pub time: EventTime,
    /// What the payload is.
    pub form: Form,
    /// Bytes of the payload.
    pub bytes: u64,
    /// What became of it when it was last replayed; none if it was not.
    pub replay: Option<Replay>,
}

/// What became of a dead letter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replay {
    /// When it was replayed, by the journal's clock.
    pub time: EventTime,
    /// Label of the [`Outcome`].
    pub outcome: String,
    /// Samples that came into their windows by it.
    pub samples: u64,
}

pub(super) fn write_letter(to: &Transaction<'_>, letter: &DeadLetter) -> Result<(), StateError> {
    to.prepare_cached(
        "INSERT OR REPLACE INTO dead_letter(partition, segment, offset, item, gateway, backfill, arrival, fix,
            reason, time, form, bytes, payload)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?
    .execute(params![
        letter.position.partition,
        letter.position.segment as i64,
        letter.position.offset as i64,
        letter.item,
        letter.gateway.as_ref().map(ToString::to_string),
        letter.backfill,
        letter.arrival.0,
        letter.fix,
        letter.reason.label(),
        letter.time.0,
        letter.form.label(),
        letter.payload.len() as i64,
        letter.payload
    ])?;
    Ok(())
}

/// A letter that is no longer listed needs no outcome.
pub(super) fn write_replay(to: &Transaction<'_>, row: &ReplayRow) -> Result<(), StateError> {
    let samples = match row.outcome {
        Outcome::Landed { samples } => samples,
        _ => 0,
    };
    let at = row.letter.position;
    to.prepare_cached(
        "UPDATE dead_letter SET replayed = ?5, outcome = ?6, samples = ?7
         WHERE partition = ?1 AND segment = ?2 AND offset = ?3 AND item = ?4",
    )?
    .execute(params![
        at.partition,
        at.segment as i64,
        at.offset as i64,
        row.letter.item,
        row.time.0,
        row.outcome.label(),
        samples as i64
    ])?;
    Ok(())
}

/// Removes the payloads of the oldest dead letters until at most `bytes_max` are left.
pub(super) fn evict_payloads(to: &Transaction<'_>, bytes_max: i64) -> Result<(), StateError> {
    to.prepare_cached(
        "UPDATE dead_letter SET payload = NULL WHERE rowid IN (
            SELECT rowid FROM (
                SELECT rowid, sum(bytes) OVER
                    (ORDER BY partition DESC, segment DESC, offset DESC, item DESC) AS newer
                FROM dead_letter WHERE payload IS NOT NULL)
            WHERE newer > ?1)",
    )?
    .execute([bytes_max])?;
    Ok(())
}

/// Removes the oldest dead letters until at most `most` are left.
pub(super) fn evict_letters(to: &Transaction<'_>, most: u32) -> Result<(), StateError> {
    to.prepare_cached(
        "DELETE FROM dead_letter WHERE rowid IN (SELECT rowid FROM dead_letter
            ORDER BY partition DESC, segment DESC, offset DESC, item DESC LIMIT -1 OFFSET ?1)",
    )?
    .execute([most])?;
    Ok(())
}

const COLUMNS: &str = "partition, segment, offset, item, gateway, backfill, arrival, fix, reason, time, form,
    bytes, replayed, outcome, samples";

impl StateReader {
    /// Dead letters, newest first.
    pub fn dead_letters(&self, query: &LetterQuery) -> Result<Vec<DeadLetterRow>, StateError> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM dead_letter
             WHERE (?1 IS NULL OR reason = ?1) AND (?2 IS NULL OR gateway = ?2) AND time >= ?3
             ORDER BY partition DESC, segment DESC, offset DESC, item DESC LIMIT ?4"
        ))?;
        let mut rows = statement.query(params![query.reason, query.gateway, query.since.0, query.limit])?;
        let mut letters = Vec::new();
        while let Some(row) = rows.next()? {
            letters.push(letter_at(row)?);
        }
        Ok(letters)
    }

    /// One dead letter, if it is still listed.
    pub fn dead_letter(&self, id: LetterId) -> Result<Option<DeadLetterRow>, StateError> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM dead_letter
             WHERE partition = ?1 AND segment = ?2 AND offset = ?3 AND item = ?4"
        ))?;
        let at = id.position;
        let mut rows = statement.query(params![
            at.partition,
            at.segment as i64,
            at.offset as i64,
            id.item
        ])?;
        rows.next()?.map(letter_at).transpose()
    }

    /// The payload of a dead letter, if it is still kept here.
    pub fn dead_payload(&self, id: LetterId) -> Result<Option<Vec<u8>>, StateError> {
        let at = id.position;
        let payload = self
            .connection
            .prepare_cached(
                "SELECT payload FROM dead_letter
                 WHERE partition = ?1 AND segment = ?2 AND offset = ?3 AND item = ?4",
            )?
            .query_row(
                params![at.partition, at.segment as i64, at.offset as i64, id.item],
                |row| row.get::<_, Option<Vec<u8>>>(0),
            )
            .optional()?;
        Ok(payload.flatten())
    }
}

fn letter_at(row: &Row<'_>) -> Result<DeadLetterRow, StateError> {
    let form: String = row.get(10)?;
    let form = Form::ALL.into_iter().find(|known| known.label() == form);
    let replay = match row.get::<_, Option<i64>>(12)? {
        Some(time) => Some(Replay {
            time: EventTime(time),
            outcome: row.get(13)?,
            samples: row.get::<_, i64>(14)? as u64,
        }),
        None => None,
    };
    Ok(DeadLetterRow {
        id: LetterId {
            position: position_at(row, 0)?,
            item: row.get(3)?,
        },
        gateway: row.get(4)?,
        backfill: row.get(5)?,
        arrival: EventTime(row.get(6)?),
        fix: row.get(7)?,
        reason: row.get(8)?,
        time: EventTime(row.get(9)?),
        form: form.ok_or(StateError::Corrupt("dead_letter.form"))?,
        bytes: row.get::<_, i64>(11)? as u64,
        replay,
    })
}
