//! Tables of what agents report beside samples: features of stretches, and alarms of nodes.
//!
//! At rest no stretch overlaps a decided window of the same channel: whichever of the two is written
//! last, the window stays and the stretch does not. So a series reads the same whatever the order in
//! which essentials and waveforms were drained.

use super::reader::StateReader;
use super::{SERIES_KEPT_NS, SeriesKey, SeriesQuery, SeriesValue, Source, StateError};
use crate::alarm::AlarmRow;
use crate::derived::DerivedRow;
use rusqlite::{Row, Transaction, params};
use std::collections::BTreeMap;
use trunnion_common::feature::FeatureKind;
use trunnion_common::time::EventTime;

/// Alarms kept; beyond, those not heard of for the longest time go.
pub const ALARMS_MAX: u32 = 10_000;

pub(super) const TABLES: &str = "
CREATE TABLE derived(channel INTEGER NOT NULL REFERENCES channel(id), start INTEGER NOT NULL,
    end INTEGER NOT NULL, samples INTEGER NOT NULL, backfill INTEGER NOT NULL, source TEXT NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY (channel, start)) WITHOUT ROWID;
CREATE TABLE alarm(gateway TEXT NOT NULL, node TEXT NOT NULL, boot TEXT NOT NULL, channel INTEGER NOT NULL,
    kind TEXT NOT NULL, asset TEXT, point TEXT, name TEXT, severity TEXT NOT NULL, first INTEGER NOT NULL,
    last INTEGER NOT NULL, repeats INTEGER NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (node, channel, kind, first)) WITHOUT ROWID;
CREATE INDEX alarm_by_last ON alarm(last);
";

/// The number that stands for no channel.
const NO_CHANNEL: i64 = -1;

/// Writes a stretch, unless a decided window of the channel covers any of its time.
pub(super) fn write_derived(to: &Transaction<'_>, row: &DerivedRow) -> Result<(), StateError> {
    let channel = super::channel_id(to, &row.series, "")?;
    let covered: Option<i64> = {
        let mut newest = to.prepare_cached(
            "SELECT end FROM window WHERE channel = ?1 AND start < ?2 AND decided ORDER BY start DESC LIMIT 1",
        )?;
        let mut rows = newest.query(params![channel, row.end.0])?;
        rows.next()?.map(|row| row.get(0)).transpose()?
    };
    if covered.is_some_and(|end| end > row.start.0) {
        return Ok(());
    }
    let values: BTreeMap<&str, f32> = row.values.iter().copied().collect();
    for feature in values.keys() {
        super::definitions::series_id(to, channel, feature, None)?;
    }
    let body = serde_json::to_string(&values).map_err(|_| StateError::Corrupt("derived.body"))?;
    to.prepare_cached(
        "INSERT OR REPLACE INTO derived(channel, start, end, samples, backfill, source, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        channel,
        row.start.0,
        row.end.0,
        row.samples,
        row.backfill,
        row.source.label(),
        body
    ])?;
    Ok(())
}

/// A decided window has come: stretches that it covers any of are not shown any more.
pub(super) fn clear_derived(
    to: &Transaction<'_>,
    channel: i64,
    start: EventTime,
    end: EventTime,
) -> Result<(), StateError> {
    let mut covered = Vec::new();
    {
        // Stretches of a channel do not overlap: the first one that ends before is where to stop.
        let mut before = to.prepare_cached(
            "SELECT start, end FROM derived WHERE channel = ?1 AND start < ?2 ORDER BY start DESC",
        )?;
        let mut rows = before.query(params![channel, end.0])?;
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(1)? <= start.0 {
                break;
            }
            covered.push(row.get::<_, i64>(0)?);
        }
    }
    for start in covered {
        to.prepare_cached("DELETE FROM derived WHERE channel = ?1 AND start = ?2")?
            .execute([channel, start])?;
    }
    Ok(())
}

/// Removes stretches that are [`SERIES_KEPT_NS`] older than `newest`.
pub(super) fn evict_derived(to: &Transaction<'_>, newest: EventTime) -> Result<(), StateError> {
    to.execute(
        "DELETE FROM derived WHERE channel IN (SELECT id FROM channel) AND start < ?1",
        [newest.plus_nanos(-SERIES_KEPT_NS).0],
    )?;
    Ok(())
}

/// Writes what was told of an alarm, unless more is known of it.
pub(super) fn write_alarm(to: &Transaction<'_>, row: &AlarmRow) -> Result<(), StateError> {
    let series = row.series.as_ref();
    to.prepare_cached(
        "INSERT INTO alarm(gateway, node, boot, channel, kind, asset, point, name, severity, first, last,
            repeats, value)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT DO UPDATE SET gateway = excluded.gateway, boot = excluded.boot,
            severity = excluded.severity, last = max(last, excluded.last), repeats = excluded.repeats,
            value = excluded.value
         WHERE excluded.repeats >= repeats",
    )?
    .execute(params![
        row.gateway.to_string(),
        row.node.to_string(),
        row.boot.to_string(),
        row.channel.map_or(NO_CHANNEL, |channel| i64::from(channel.get())),
        row.kind_label(),
        series.map(|series| &series.asset),
        series.map(|series| &series.point),
        series.map(|series| &series.channel),
        row.severity.label(),
        row.first.0,
        row.last.0,
        row.repeats,
        f64::from(row.value)
    ])?;
    Ok(())
}

/// Removes the alarms not heard of for the longest time until at most `most` are left.
pub(super) fn evict_alarms(to: &Transaction<'_>, most: u32) -> Result<(), StateError> {
    to.execute(
        "DELETE FROM alarm WHERE (node, channel, kind, first) IN
            (SELECT node, channel, kind, first FROM alarm
             ORDER BY last DESC, node, channel, kind, first LIMIT -1 OFFSET ?1)",
        [most],
    )?;
    Ok(())
}

/// An alarm as it is read.
#[derive(Clone, PartialEq, Debug)]
pub struct Alarm {
    /// `site/gateway` of the agent that told it.
    pub gateway: String,
    /// The node's id, in hexadecimal.
    pub node: String,
    /// Its latest boot, in hexadecimal.
    pub boot: String,
    /// The channel's number, if it was on one.
    pub channel: Option<u16>,
    /// Label of the kind of event; `several` when folded.
    pub kind: String,
    /// Where the channel hung when the alarm was raised.
    pub series: Option<SeriesKey>,
    /// Label of the severity.
    pub severity: String,
    /// When the agent heard of it first.
    pub first: EventTime,
    /// When it heard of it last.
    pub last: EventTime,
    /// How often it happened.
    pub repeats: u32,
    /// The latest event's number.
    pub value: f32,
}

impl StateReader {
    /// The alarms heard of last, newest first: of one node (hexadecimal) or of all, and at most `limit`.
    pub fn alarms(&self, node: Option<&str>, limit: u32) -> Result<Vec<Alarm>, StateError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT gateway, node, boot, channel, kind, asset, point, name, severity, first, last, repeats, value
             FROM alarm WHERE ?1 IS NULL OR node = ?1 ORDER BY last DESC, node, channel, kind, first LIMIT ?2",
        )?;
        let rows = statement.query_map(params![node, limit], alarm)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The part of a series that nodes and agents computed and no window of the collector covers, by falling time.
    pub(super) fn derived(&self, query: &SeriesQuery) -> Result<Vec<SeriesValue>, StateError> {
        if !query.stream.is_empty() {
            return Ok(Vec::new());
        }
        // The label becomes part of a path into the body.
        let Some(feature) = FeatureKind::from_label(&query.feature) else {
            return Ok(Vec::new());
        };
        let mut statement = self.connection.prepare_cached(
            "SELECT d.start, d.end, d.body ->> ?4, d.backfill, d.source
             FROM channel c JOIN derived d ON d.channel = c.id AND d.start >= ?5 AND d.start < ?6
             WHERE c.asset = ?1 AND c.point = ?2 AND c.channel = ?3 AND c.stream = '' AND d.body ->> ?4 IS NOT NULL
             ORDER BY d.start DESC LIMIT ?7",
        )?;
        let key = &query.series;
        let rows = statement.query_map(
            params![
                key.asset,
                key.point,
                key.channel,
                format!("$.{}", feature.label()),
                query.from.0,
                query.to.0,
                query.limit
            ],
            |row| {
                Ok(SeriesValue {
                    start: EventTime(row.get(0)?),
                    end: EventTime(row.get(1)?),
                    value: row.get::<_, f64>(2)? as f32,
                    coverage: 1.0,
                    revision: 0,
                    backfill: row.get(3)?,
                    open: false,
                    source: source(row.get(4)?)?,
                })
            },
        )?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn source(label: String) -> Result<Source, rusqlite::Error> {
    Source::from_label(&label).ok_or(rusqlite::Error::InvalidColumnName(label))
}

fn alarm(row: &Row<'_>) -> Result<Alarm, rusqlite::Error> {
    let asset: Option<String> = row.get(5)?;
    let series = match asset {
        Some(asset) => Some(SeriesKey {
            asset,
            point: row.get(6)?,
            channel: row.get(7)?,
        }),
        None => None,
    };
    Ok(Alarm {
        gateway: row.get(0)?,
        node: row.get(1)?,
        boot: row.get(2)?,
        channel: u16::try_from(row.get::<_, i64>(3)?).ok(),
        kind: row.get(4)?,
        series,
        severity: row.get(8)?,
        first: EventTime(row.get(9)?),
        last: EventTime(row.get(10)?),
        repeats: row.get(11)?,
        value: row.get::<_, f64>(12)? as f32,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, FeatureRow, State};
    use super::*;
    use trunnion_common::frame::{EventKind, Severity};
    use trunnion_common::id::{BootId, ChannelId, GatewayId, Name, NodeId};

    fn key() -> SeriesKey {
        SeriesKey {
            asset: "pump".to_owned(),
            point: "de".to_owned(),
            channel: "v".to_owned(),
        }
    }

    fn window(start: i64, decided: bool) -> FeatureRow {
        FeatureRow {
            series: key(),
            start: EventTime(start),
            end: EventTime(start + 10),
            coverage: 1.0,
            decided,
            values: if decided { vec![("rms", 1.0)] } else { Vec::new() },
            ..FeatureRow::default()
        }
    }

    fn stretch(start: i64) -> DerivedRow {
        DerivedRow {
            source: Source::Agent,
            series: key(),
            start: EventTime(start),
            end: EventTime(start + 10),
            samples: 10,
            backfill: false,
            values: vec![("rms", 2.0), ("kurtosis_excess", 0.5)],
        }
    }

    fn query(feature: &str) -> SeriesQuery {
        SeriesQuery {
            series: key(),
            stream: String::new(),
            feature: feature.to_owned(),
            definition: None,
            from: EventTime(0),
            to: EventTime(1_000),
            limit: 100,
        }
    }

    fn open() -> (tempfile::TempDir, State, StateReader) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.sqlite");
        let state = State::open(&path).unwrap();
        let reader = State::open_reader(&path).unwrap();
        (dir, state, reader)
    }

    fn starts(reader: &StateReader, feature: &str) -> Vec<(i64, Source)> {
        let values = reader.series(&query(feature)).unwrap();
        values.iter().map(|value| (value.start.0, value.source)).collect()
    }

    #[test]
    fn where_a_window_covers_the_time_it_is_shown_whatever_came_first() {
        let windows = Batch {
            features: vec![
                window(0, true),
                window(10, true),
                window(20, false),
                window(50, true),
            ],
            ..Batch::default()
        };
        let stretches = Batch {
            derived: [3, 13, 23, 33, 43, 53, 63].map(stretch).into(),
            ..Batch::default()
        };
        for windows_first in [true, false] {
            let (_dir, mut state, reader) = open();
            let mut batches = [&windows, &stretches];
            if !windows_first {
                batches.reverse();
            }
            // Written again, as after a crash.
            for batch in batches.into_iter().chain(batches) {
                state.write(batch).unwrap();
            }
            let own = |start| (start, Source::Collector);
            let agents = |start| (start, Source::Agent);
            assert_eq!(
                starts(&reader, "rms"),
                [own(0), own(10), agents(23), agents(33), own(50), agents(63)]
            );
            assert_eq!(
                starts(&reader, "kurtosis_excess"),
                [agents(23), agents(33), agents(63)]
            );
            assert_eq!(starts(&reader, "no' such"), []);
            let mut short = query("rms");
            short.limit = 2;
            let newest: Vec<i64> = reader
                .series(&short)
                .unwrap()
                .iter()
                .map(|value| value.start.0)
                .collect();
            assert_eq!(newest, [50, 63], "the newest of both");
        }
    }

    #[test]
    fn a_channel_of_which_only_features_came_is_listed_and_read() {
        let (_dir, mut state, reader) = open();
        let node = DerivedRow {
            source: Source::Node,
            ..stretch(25)
        };
        let batch = Batch {
            derived: vec![stretch(5), node],
            ..Batch::default()
        };
        state.write(&batch).unwrap();
        let names: Vec<String> = reader
            .series_names(None, 10)
            .unwrap()
            .into_iter()
            .map(|name| name.feature)
            .collect();
        assert_eq!(names, ["kurtosis_excess", "rms"]);
        assert_eq!(starts(&reader, "rms"), [(5, Source::Agent), (25, Source::Node)]);
    }

    #[test]
    fn stretches_are_kept_as_long_as_windows_are() {
        let (_dir, mut state, reader) = open();
        let now = EventTime(2 * SERIES_KEPT_NS);
        let mut recent = stretch(now.0 - 100);
        recent.end = EventTime(now.0 - 90);
        let batch = Batch {
            derived: vec![stretch(5), recent],
            now,
            ..Batch::default()
        };
        state.write(&batch).unwrap();
        state.evict(now).unwrap();
        let mut all = query("rms");
        all.to = now;
        assert_eq!(reader.series(&all).unwrap().len(), 1);
    }

    fn told(node: u64, first: i64, repeats: u32) -> AlarmRow {
        AlarmRow {
            gateway: GatewayId {
                site: Name::new("bremen").unwrap(),
                gateway: Name::new("gw-1").unwrap(),
            },
            node: NodeId::new(node).unwrap(),
            boot: BootId::from_u64(7),
            channel: ChannelId::new(2),
            kind: Some(EventKind::LimitExceeded),
            series: Some(key()),
            severity: Severity::Alarm,
            first: EventTime(first),
            last: EventTime(first + i64::from(repeats)),
            repeats,
            value: repeats as f32,
        }
    }

    #[test]
    fn an_alarm_is_one_row_with_the_latest_of_what_was_told() {
        let (_dir, mut state, reader) = open();
        let mut whole_node = told(2, 10, 1);
        (whole_node.channel, whole_node.kind, whole_node.series) = (None, None, None);
        for alarms in [
            vec![told(1, 10, 3), told(1, 10, 5), told(1, 10, 4)],
            vec![told(1, 10, 3), whole_node, told(1, 900, 1)],
        ] {
            let batch = Batch {
                alarms,
                ..Batch::default()
            };
            state.write(&batch).unwrap();
        }
        let all = reader.alarms(None, 10).unwrap();
        let seen: Vec<_> = all
            .iter()
            .map(|alarm| {
                (
                    alarm.node.as_str(),
                    alarm.first.0,
                    alarm.repeats,
                    alarm.kind.as_str(),
                )
            })
            .collect();
        let (one, two) = ("0000000000000001", "0000000000000002");
        assert_eq!(
            seen,
            [
                (one, 900, 1, "limit_exceeded"),
                (one, 10, 5, "limit_exceeded"),
                (two, 10, 1, "several")
            ]
        );
        assert_eq!(
            (all[1].value, all[1].last, all[1].channel),
            (5.0, EventTime(15), Some(2))
        );
        assert_eq!((all[2].channel, &all[2].series), (None, &None));
        assert_eq!(reader.alarms(Some(two), 10).unwrap().len(), 1);
        let transaction = state.connection.transaction().unwrap();
        evict_alarms(&transaction, 1).unwrap();
        transaction.commit().unwrap();
        let left = reader.alarms(None, 10).unwrap();
        assert_eq!((left.len(), left[0].first), (1, EventTime(900)));
    }
}
