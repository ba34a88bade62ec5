//! Reading the tables: what lists, series and pages are made of.

use super::{BUSY_WAIT, SCHEMA, STATEMENTS_KEPT, SeriesKey, StateError};
use crate::advisory::Advisory;
use crate::journal::Position;
use crate::ledger::LedgerRow;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use std::collections::BTreeMap;
use std::path::Path;
use trunnion_common::id::{BootId, ChannelId};
use trunnion_common::sample::LossCause;
use trunnion_common::time::EventTime;

/// A read-only connection.
#[derive(Debug)]
pub struct StateReader {
    pub(super) connection: Connection,
}

impl StateReader {
    /// Opens an existing database for reading.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|source| StateError::Open {
            path: path.to_owned(),
            source,
        })?;
        connection.busy_timeout(BUSY_WAIT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found == SCHEMA {
            Ok(Self { connection })
        } else {
            Err(StateError::Schema { found })
        }
    }

    /// Every asset of the fleet in force, and every other one that has data, by id.
    pub fn assets(&self) -> Result<Vec<AssetSummary>, StateError> {
        let mut assets = BTreeMap::new();
        fn entry<'a>(assets: &'a mut BTreeMap<String, AssetSummary>, asset: &str) -> &'a mut AssetSummary {
            assets.entry(asset.to_owned()).or_insert_with(|| AssetSummary {
                asset: asset.to_owned(),
                name: None,
                site: None,
                area: None,
                active_advisories: 0,
                channels: Vec::new(),
            })
        }
        let mut statement = self
            .connection
            .prepare_cached("SELECT asset, name, site, area FROM asset")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let summary = entry(
                &mut assets,
                row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?,
            );
            (summary.name, summary.site, summary.area) = (row.get(1)?, row.get(2)?, row.get(3)?);
        }
        let mut statement = self
            .connection
            .prepare_cached("SELECT asset, count(*) FROM advisory WHERE cleared IS NULL GROUP BY asset")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let asset: String = row.get(0)?;
            entry(&mut assets, &asset).active_advisories = row.get::<_, i64>(1)? as u64;
        }
        let mut statement = self.connection.prepare_cached(
            "SELECT c.asset, c.point, c.channel, c.id, w.start, w.end, w.coverage, w.decided
             FROM channel c JOIN window w ON w.channel = c.id
              AND w.start = (SELECT max(start) FROM window WHERE channel = c.id)
             ORDER BY c.asset, c.point, c.channel",
        )?;
        let mut values = self.connection.prepare_cached(
            "SELECT s.feature, v.value FROM series s JOIN value v ON v.series = s.id AND v.start = ?2
             WHERE s.channel = ?1",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let asset: String = row.get(0)?;
            let (channel, start): (i64, i64) = (row.get(3)?, row.get(4)?);
            let summary = ChannelSummary {
                point: row.get(1)?,
                channel: row.get(2)?,
                window_start: EventTime(start),
                window_end: EventTime(row.get(5)?),
                coverage: row.get::<_, f64>(6)? as f32,
                decided: row.get(7)?,
                values: values
                    .query_map([channel, start], |row| {
                        Ok((row.get(0)?, row.get::<_, f64>(1)? as f32))
                    })?
                    .collect::<Result<_, _>>()?,
            };
            entry(&mut assets, &asset).channels.push(summary);
        }
        Ok(assets.into_values().collect())
    }

    /// The newest advisories, newest first: those that stand or all of them, of one asset or of all, and
    /// at most `limit`.
    pub fn advisories(
        &self,
        active_only: bool,
        asset: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Advisory>, StateError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT body FROM advisory WHERE (?1 = 0 OR cleared IS NULL) AND (?2 IS NULL OR asset = ?2)
             ORDER BY raised DESC, id LIMIT ?3",
        )?;
        let rows = statement.query_map(params![active_only, asset, limit], |row| row.get::<_, String>(0))?;
        rows.map(|body| serde_json::from_str(&body?).map_err(|_| StateError::Corrupt("advisory.body")))
            .collect()
    }

    /// Part of a series, by rising time: what the collector's own windows say, and where it has none, what
    /// agents computed at intake.
    pub fn series(&self, query: &SeriesQuery) -> Result<Vec<SeriesValue>, StateError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT v.start, w.end, v.value, w.coverage, w.revision, w.backfill
             FROM channel c
             JOIN series s ON s.channel = c.id AND s.feature = ?4
             JOIN value v ON v.series = s.id AND v.start >= ?5 AND v.start < ?6
             JOIN window w ON w.channel = c.id AND w.start = v.start
             WHERE c.asset = ?1 AND c.point = ?2 AND c.channel = ?3
             ORDER BY v.start DESC LIMIT ?7",
        )?;
        let key = &query.series;
        let rows = statement.query_map(
            params![
                key.asset,
                key.point,
                key.channel,
                query.feature,
                query.from.0,
                query.to.0,
                query.limit
            ],
            |row| {
                Ok(SeriesValue {
                    start: EventTime(row.get(0)?),
                    end: EventTime(row.get(1)?),
                    value: row.get::<_, f64>(2)? as f32,
                    coverage: row.get::<_, f64>(3)? as f32,
                    revision: row.get(4)?,
                    backfill: row.get(5)?,
                    source: Source::Collector,
                })
            },
        )?;
        let mut values: Vec<_> = rows.collect::<Result<_, _>>()?;
        let derived = self.derived(query)?;
        if !derived.is_empty() {
            values.extend(derived);
            values.sort_by_key(|value| std::cmp::Reverse(value.start));
            values.truncate(query.limit as usize);
        }
        values.reverse();
        Ok(values)
    }

    /// The series that exist, of one asset or of all, by name; at most `limit`.
    pub fn series_names(&self, asset: Option<&str>, limit: u32) -> Result<Vec<SeriesName>, StateError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT c.asset, c.point, c.channel, s.feature FROM channel c JOIN series s ON s.channel = c.id
             WHERE ?1 IS NULL OR c.asset = ?1 ORDER BY 1, 2, 3, 4 LIMIT ?2",
        )?;
        let rows = statement.query_map(params![asset, limit], |row| {
            Ok(SeriesName {
                series: SeriesKey {
                    asset: row.get(0)?,
                    point: row.get(1)?,
                    channel: row.get(2)?,
                },
                feature: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The loss ledger, by node, boot and channel: row by row, as a plant that is restarted often has
    /// more of them than anybody wants in memory.
    pub fn for_each_ledger_row(&self, mut look: impl FnMut(LedgerRow)) -> Result<(), StateError> {
        let mut losses = self.connection.prepare_cached(
            "SELECT cause, samples FROM loss WHERE node = ?1 AND boot = ?2 AND channel = ?3",
        )?;
        let mut statement = self.connection.prepare_cached(
            "SELECT node, boot, channel, produced, stored, pending, unexplained, duplicated FROM ledger
             ORDER BY node, boot, channel",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (node, boot, channel): (String, String, u16) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let mut lost = losses
                .query_map(params![node, boot, channel], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)? as u64))
                })?
                .map(|loss| {
                    let (label, samples) = loss?;
                    LossCause::ALL
                        .into_iter()
                        .find(|cause| cause.label() == label)
                        .map(|cause| (cause, samples))
                        .ok_or(StateError::Corrupt("loss.cause"))
                })
                .collect::<Result<Vec<_>, _>>()?;
            lost.sort();
            let count = |at| row.get::<_, i64>(at).map(|count| count as u64);
            look(LedgerRow {
                node: node.parse().map_err(|_| StateError::Corrupt("ledger.node"))?,
                boot: u64::from_str_radix(&boot, 16)
                    .map(BootId::from_u64)
                    .map_err(|_| StateError::Corrupt("ledger.boot"))?,
                channel: ChannelId::new(channel).ok_or(StateError::Corrupt("ledger.channel"))?,
                produced: count(3)?,
                stored: count(4)?,
                lost,
                pending: count(5)?,
                unexplained: count(6)?,
                duplicated: count(7)?,
            });
        }
        Ok(())
    }

    /// The pipeline's counters since the journal began, by label: windows and samples by verdict.
    pub fn counters(&self) -> Result<BTreeMap<String, u64>, StateError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT label, value FROM counter")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The fleet file in force, without its asset list; none before the first.
    pub fn fleet_text(&self) -> Result<Option<(EventTime, String)>, StateError> {
        Ok(self
            .connection
            .query_row(
                "SELECT effective, text FROM fleet ORDER BY effective DESC LIMIT 1",
                [],
                |row| Ok((EventTime(row.get(0)?), row.get(1)?)),
            )
            .optional()?)
    }

    /// How far the outputs reach; none before the first batch.
    pub fn position(&self) -> Result<Option<Progress>, StateError> {
        progress(&self.connection)
    }

    /// How long after their end live windows were published that end at or after `since`; none when there are
    /// none.
    pub fn latency_percentiles(&self, since: EventTime) -> Result<Option<LatencyPercentiles>, StateError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT published - end FROM window WHERE end >= ?1 AND backfill = 0 ORDER BY 1",
        )?;
        let rows = statement.query_map([since.0], |row| row.get::<_, i64>(0))?;
        let latencies: Vec<i64> = rows.collect::<Result<_, _>>()?;
        // Nearest rank: the smallest value with at least this share at or below it.
        let rank = |share: f64| {
            let rank = (share * latencies.len() as f64).ceil() as usize;
            latencies.get(rank.max(1) - 1).map(|ns| *ns as f64 / 1e6)
        };
        Ok(rank(0.50)
            .zip(rank(0.99))
            .map(|(p50_ms, p99_ms)| LatencyPercentiles {
                windows: latencies.len() as u64,
                p50_ms,
                p99_ms,
            }))
    }
}

/// The latest window of one channel.
#[derive(Clone, PartialEq, Debug)]
pub struct ChannelSummary {
    /// Measurement point id.
    pub point: String,
    /// Channel id.
    pub channel: String,
    /// Start of the latest window.
    pub window_start: EventTime,
    /// Its end.
    pub window_end: EventTime,
    /// Its coverage, 0 to 1.
    pub coverage: f32,
    /// Whether it could be decided on.
    pub decided: bool,
    /// Its features, by label.
    pub values: BTreeMap<String, f32>,
}

/// One asset with what is known of its health.
#[derive(Clone, PartialEq, Debug)]
pub struct AssetSummary {
    /// Asset id.
    pub asset: String,
    /// Name for people; none for [`UNASSIGNED`](super::UNASSIGNED) and for assets no longer in the fleet.
    pub name: Option<String>,
    /// Site id, as long as the asset is in the fleet.
    pub site: Option<String>,
    /// Area id, as long as the asset is in the fleet.
    pub area: Option<String>,
    /// Advisories that stand.
    pub active_advisories: u64,
    /// Latest window of each channel that has had one.
    pub channels: Vec<ChannelSummary>,
}

/// Which part of a series to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeriesQuery {
    /// Where the series hangs.
    pub series: SeriesKey,
    /// Feature label, as in [`trunnion_common::feature::FeatureKind::label`]; scalar channels also
    /// have `count`, `minimum` and `maximum`.
    pub feature: String,
    /// Windows that start at or after this.
    pub from: EventTime,
    /// Windows that start before this.
    pub to: EventTime,
    /// At most this many, the newest of the range.
    pub limit: u32,
}

/// One value of a series.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SeriesValue {
    /// Start of the window.
    pub start: EventTime,
    /// End of the window.
    pub end: EventTime,
    /// The value.
    pub value: f32,
    /// Share of the window's samples that were there, 0 to 1.
    pub coverage: f32,
    /// 0 as first fired; counted up by corrections.
    pub revision: u32,
    /// Whether history is in it.
    pub backfill: bool,
    /// Who computed it.
    pub source: Source,
}

/// Who computed a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The collector, of a window of samples.
    Collector,
    /// An agent at intake, of a stretch of samples that never came.
    Agent,
}

impl Source {
    /// The name in the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Collector => "collector",
            Self::Agent => "agent",
        }
    }
}

/// A series that exists.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SeriesName {
    /// Where it hangs.
    pub series: SeriesKey,
    /// Feature label.
    pub feature: String,
}

/// How long after their end windows were published.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LatencyPercentiles {
    /// Windows looked at.
    pub windows: u64,
    /// Median, milliseconds.
    pub p50_ms: f64,
    /// 99th percentile (nearest rank), milliseconds.
    pub p99_ms: f64,
}

/// How far the outputs reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Everything of the journal before this is in the tables.
    pub position: Position,
    /// The journal's time there.
    pub now: EventTime,
}

pub(super) fn progress(connection: &Connection) -> Result<Option<Progress>, StateError> {
    Ok(connection
        .prepare_cached("SELECT partition, segment, offset, now FROM progress")?
        .query_row([], |row| {
            Ok(Progress {
                position: position_at(row, 0)?,
                now: EventTime(row.get(3)?),
            })
        })
        .optional()?)
}

pub(super) fn position_at(row: &Row<'_>, first: usize) -> Result<Position, rusqlite::Error> {
    Ok(Position {
        partition: row.get(first)?,
        segment: row.get::<_, i64>(first + 1)? as u64,
        offset: row.get::<_, i64>(first + 2)? as u64,
    })
}
