//! Windows that were told otherwise once more had come, and what they had said before.

use super::reader::StateReader;
use super::{FeatureRow, SERIES_KEPT_NS, SeriesKey, StateError};
use rusqlite::{Transaction, params};
use std::collections::BTreeMap;
use trunnion_common::time::EventTime;

/// Corrections kept; beyond, those made first go, as do those of windows that are no longer kept.
pub const CORRECTIONS_MAX: u32 = 100_000;

pub(super) const TABLES: &str = "
CREATE TABLE correction(channel INTEGER NOT NULL REFERENCES channel(id), start INTEGER NOT NULL,
    revision INTEGER NOT NULL, end INTEGER NOT NULL, time INTEGER NOT NULL, backfill INTEGER NOT NULL,
    old TEXT NOT NULL, new TEXT NOT NULL, PRIMARY KEY (channel, start, revision)) WITHOUT ROWID;
CREATE INDEX correction_by_time ON correction(time);
";

/// Which corrections to list: all that meet every condition given, newest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CorrectionQuery {
    /// Asset id.
    pub asset: Option<String>,
    /// Measurement point id.
    pub point: Option<String>,
    /// Channel id.
    pub channel: Option<String>,
    /// Name of the stream; empty for the windows that are always there.
    pub stream: Option<String>,
    /// At most this many.
    pub limit: u32,
}

/// One correction.
#[derive(Clone, PartialEq, Debug)]
pub struct CorrectionRow {
    /// Where the window hangs.
    pub series: SeriesKey,
    /// Its stream.
    pub stream: String,
    /// Start of the window.
    pub start: EventTime,
    /// Its end.
    pub end: EventTime,
    /// The revision that the correction made.
    pub revision: u32,
    /// The journal's time when it was made.
    pub time: EventTime,
    /// Whether history is in the window.
    pub backfill: bool,
    /// The values before, by label; empty if nothing could be decided then.
    pub old: BTreeMap<String, f32>,
    /// The values since.
    pub new: BTreeMap<String, f32>,
}

/// Notes a correction; once however often it is written.
pub(super) fn write(
    to: &Transaction<'_>,
    channel: i64,
    row: &FeatureRow,
    at: EventTime,
) -> Result<(), StateError> {
    let text = |values: &[(&'static str, f32)], column| {
        // JSON has no word for what is no number.
        let values = values.iter().copied().filter(|(_, value)| value.is_finite());
        let values: BTreeMap<_, _> = values.collect();
        serde_json::to_string(&values).map_err(|_| StateError::Corrupt(column))
    };
    to.prepare_cached(
        "INSERT OR IGNORE INTO correction(channel, start, revision, end, time, backfill, old, new)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        channel,
        row.start.0,
        row.revision,
        row.end.0,
        at.0,
        row.backfill,
        text(&row.old, "correction.old")?,
        text(&row.values, "correction.new")?
    ])?;
    Ok(())
}

/// Removes the corrections made first until at most `most` are left.
pub(super) fn evict(to: &Transaction<'_>, most: u32) -> Result<(), StateError> {
    to.execute(
        "DELETE FROM correction WHERE (channel, start, revision) IN
            (SELECT channel, start, revision FROM correction
             ORDER BY time DESC, channel DESC, start DESC, revision DESC LIMIT -1 OFFSET ?1)",
        [most],
    )?;
    Ok(())
}

/// Removes corrections of windows that are [`SERIES_KEPT_NS`] older than `newest`.
pub(super) fn evict_old(to: &Transaction<'_>, newest: EventTime) -> Result<(), StateError> {
    to.execute(
        "DELETE FROM correction WHERE channel IN (SELECT id FROM channel) AND start < ?1",
        [newest.plus_nanos(-SERIES_KEPT_NS).0],
    )?;
    Ok(())
}

impl StateReader {
    /// Corrections, the one made last first.
    pub fn corrections(&self, query: &CorrectionQuery) -> Result<Vec<CorrectionRow>, StateError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT c.asset, c.point, c.channel, c.stream, k.start, k.end, k.revision, k.time, k.backfill,
                k.old, k.new
             FROM correction k JOIN channel c ON c.id = k.channel
             WHERE (?1 IS NULL OR c.asset = ?1) AND (?2 IS NULL OR c.point = ?2)
               AND (?3 IS NULL OR c.channel = ?3) AND (?4 IS NULL OR c.stream = ?4)
             ORDER BY k.time DESC, c.asset, c.point, c.channel, c.stream, k.start DESC, k.revision DESC
             LIMIT ?5",
        )?;
        let mut rows = statement.query(params![
            query.asset,
            query.point,
            query.channel,
            query.stream,
            query.limit
        ])?;
        let mut corrections = Vec::new();
        while let Some(row) = rows.next()? {
            let values = |at, column| {
                let text: String = row.get(at)?;
                serde_json::from_str(&text).map_err(|_| StateError::Corrupt(column))
            };
            corrections.push(CorrectionRow {
                series: SeriesKey {
                    asset: row.get(0)?,
                    point: row.get(1)?,
                    channel: row.get(2)?,
                },
                stream: row.get(3)?,
                start: EventTime(row.get(4)?),
                end: EventTime(row.get(5)?),
                revision: row.get(6)?,
                time: EventTime(row.get(7)?),
                backfill: row.get(8)?,
                old: values(9, "correction.old")?,
                new: values(10, "correction.new")?,
            });
        }
        Ok(corrections)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, State, Told};
    use super::*;

    fn corrected(start: i64, revision: u32, old: f32, new: f32) -> FeatureRow {
        FeatureRow {
            series: SeriesKey {
                asset: "pump".to_owned(),
                point: "de".to_owned(),
                channel: "v".to_owned(),
            },
            start: EventTime(start),
            end: EventTime(start + 10),
            coverage: 1.0,
            decided: true,
            revision,
            values: vec![("rms", new)],
            told: Told::Corrected {
                at: EventTime(start + i64::from(revision)),
            },
            old: vec![("rms", old)],
            ..FeatureRow::default()
        }
    }

    fn open() -> (tempfile::TempDir, State, StateReader) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.sqlite");
        let state = State::open(&path).unwrap();
        let reader = State::open_reader(&path).unwrap();
        (dir, state, reader)
    }

    fn seen(reader: &StateReader, query: &CorrectionQuery) -> Vec<(i64, u32, f32, f32)> {
        let rows = reader.corrections(query).unwrap();
        rows.iter()
            .map(|row| (row.start.0, row.revision, row.old["rms"], row.new["rms"]))
            .collect()
    }

    fn all() -> CorrectionQuery {
        CorrectionQuery {
            limit: 10,
            ..CorrectionQuery::default()
        }
    }

    #[test]
    fn corrections_are_listed_newest_first_and_once_whatever_the_order_of_batches() {
        let (_dir, mut state, reader) = open();
        let (first, second) = (corrected(0, 1, 1.0, 2.0), corrected(0, 2, 2.0, 3.0));
        let other = FeatureRow {
            stream: "hourly".to_owned(),
            ..corrected(50, 1, 4.0, 5.0)
        };
        for features in [
            vec![second.clone(), other.clone()],
            vec![first.clone()],
            vec![first, second, other],
        ] {
            let batch = Batch {
                features,
                ..Batch::default()
            };
            state.write(&batch).unwrap();
        }
        let (hourly, two, one) = ((50, 1, 4.0, 5.0), (0, 2, 2.0, 3.0), (0, 1, 1.0, 2.0));
        assert_eq!(seen(&reader, &all()), [hourly, two, one]);
        let stream = |stream: &str| CorrectionQuery {
            stream: Some(stream.to_owned()),
            ..all()
        };
        assert_eq!(seen(&reader, &stream("")), [two, one]);
        assert_eq!(seen(&reader, &stream("hourly")), [hourly]);
        let elsewhere = CorrectionQuery {
            asset: Some("fan".to_owned()),
            ..all()
        };
        assert_eq!(seen(&reader, &elsewhere), []);
        let newest = CorrectionQuery { limit: 1, ..all() };
        assert_eq!(seen(&reader, &newest), [hourly]);
    }

    #[test]
    fn of_too_many_or_too_old_corrections_the_first_go() {
        let (_dir, mut state, reader) = open();
        let batch = Batch {
            features: (0..4).map(|n| corrected(10 * n, 1, 0.0, 1.0)).collect(),
            ..Batch::default()
        };
        state.write(&batch).unwrap();
        let transaction = state.connection.transaction().unwrap();
        evict(&transaction, 3).unwrap();
        evict_old(&transaction, EventTime(SERIES_KEPT_NS + 20)).unwrap();
        transaction.commit().unwrap();
        let starts: Vec<i64> = seen(&reader, &all()).iter().map(|row| row.0).collect();
        assert_eq!(starts, [30, 20]);
    }
}
