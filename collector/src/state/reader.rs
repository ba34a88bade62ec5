//! Reading the tables: what lists, series and pages are made of.

use super::definitions::{self, SeriesDefinition};
use super::{BUSY_WAIT, SCHEMA, STATEMENTS_KEPT, SeriesKey, StateError, values};
use crate::advisory::Advisory;
use crate::journal::Position;
use crate::ledger::LedgerRow;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use trunnion_common::id::{BootId, ChannelId};
use trunnion_common::sample::LossCause;
use trunnion_common::time::EventTime;

/// Where the values of a query are.
#[derive(Clone, Copy)]
struct Place {
    channel: i64,
    series: i64,
    definition: u32,
}

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
            "SELECT c.asset, c.point, c.channel, c.id, w.computed, w.start, w.end, w.coverage, w.decided
             FROM channel c JOIN window w ON w.channel = c.id
              AND w.start = (SELECT max(start) FROM window WHERE channel = c.id)
             WHERE c.stream = '' ORDER BY c.asset, c.point, c.channel",
        )?;
        let mut features = self
            .connection
            .prepare_cached("SELECT id, feature FROM series WHERE channel = ?1")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let asset: String = row.get(0)?;
            let features: BTreeMap<i64, String> = features
                .query_map([row.get::<_, i64>(3)?], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            let computed = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
            let summary = ChannelSummary {
                point: row.get(1)?,
                channel: row.get(2)?,
                window_start: EventTime(row.get(5)?),
                window_end: EventTime(row.get(6)?),
                coverage: row.get::<_, f64>(7)? as f32,
                decided: row.get(8)?,
                values: values::each(computed)
                    .filter_map(|(series, value)| Some((features.get(&series)?.clone(), value)))
                    .collect(),
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

    /// The definition of what a query reads; none for readings, and where there is no such series.
    ///
    /// A query that names none reads the series whose values are the newest.
    pub fn definition(&self, query: &SeriesQuery) -> Result<Option<SeriesDefinition>, StateError> {
        self.place(query)?.map_or(Ok(None), |place| {
            definitions::read(&self.connection, place.definition)
        })
    }

    fn place(&self, query: &SeriesQuery) -> Result<Option<Place>, StateError> {
        let key = &query.series;
        let mut statement = self.connection.prepare_cached(
            "SELECT c.id, s.id, s.definition FROM channel c JOIN series s ON s.channel = c.id AND s.feature = ?4
             WHERE c.asset = ?1 AND c.point = ?2 AND c.channel = ?3 AND c.stream = ?5
               AND (?6 IS NULL OR s.definition = ?6)
             ORDER BY s.id DESC",
        )?;
        let named = params![
            key.asset,
            key.point,
            key.channel,
            query.feature,
            query.stream,
            query.definition
        ];
        let places: Vec<Place> = statement
            .query_map(named, |row| {
                Ok(Place {
                    channel: row.get(0)?,
                    series: row.get(1)?,
                    definition: row.get(2)?,
                })
            })?
            .collect::<Result<_, _>>()?;
        let [first, _, ..] = places[..] else {
            return Ok(places.first().copied());
        };
        let mut statement = self
            .connection
            .prepare_cached("SELECT computed FROM window WHERE channel = ?1 ORDER BY start DESC")?;
        let mut windows = statement.query([first.channel])?;
        while let Some(window) = windows.next()? {
            let computed = window.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
            let newest = places
                .iter()
                .find(|place| values::find(computed, place.series).is_some());
            if newest.is_some() {
                return Ok(newest.copied());
            }
        }
        Ok(Some(first))
    }

    /// Part of a series, by rising time: what the collector's own windows say, and where it has none, what
    /// agents computed at intake.
    pub fn series(&self, query: &SeriesQuery) -> Result<Vec<SeriesValue>, StateError> {
        let Some(place) = self.place(query)? else {
            return Ok(Vec::new());
        };
        let mut statement = self.connection.prepare_cached(
            "SELECT start, end, computed, coverage, revision, backfill, open FROM window
             WHERE channel = ?1 AND start >= ?2 AND start < ?3 ORDER BY start DESC",
        )?;
        let mut windows = statement.query([place.channel, query.from.0, query.to.0])?;
        let mut values = Vec::new();
        while values.len() < query.limit as usize
            && let Some(row) = windows.next()?
        {
            let computed = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
            if let Some(value) = values::find(computed, place.series) {
                values.push(SeriesValue {
                    start: EventTime(row.get(0)?),
                    end: EventTime(row.get(1)?),
                    value,
                    coverage: row.get::<_, f64>(3)? as f32,
                    revision: row.get(4)?,
                    backfill: row.get(5)?,
                    open: row.get(6)?,
                    source: Source::Collector,
                });
            }
        }
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
            "SELECT c.asset, c.point, c.channel, c.stream, s.feature, s.definition, d.body
             FROM channel c JOIN series s ON s.channel = c.id
             LEFT JOIN definition d ON d.number = s.definition
             WHERE (?1 IS NULL OR c.asset = ?1) AND (s.definition <> ?3 OR NOT EXISTS
                (SELECT 1 FROM series o WHERE o.channel = s.channel AND o.feature = s.feature AND o.definition <> ?3))
             ORDER BY 1, 2, 3, 4, 5, s.id LIMIT ?2",
        )?;
        let rows = statement.query_map(params![asset, limit, definitions::PLAIN], |row| {
            let number = row.get(5)?;
            let body: Option<String> = row.get(6)?;
            Ok(SeriesName {
                series: SeriesKey {
                    asset: row.get(0)?,
                    point: row.get(1)?,
                    channel: row.get(2)?,
                },
                stream: row.get(3)?,
                feature: row.get(4)?,
                definition: body.map(|body| SeriesDefinition { number, body }),
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
            "SELECT published - end FROM window WHERE end >= ?1 AND backfill = 0
              AND channel IN (SELECT id FROM channel WHERE stream = '') ORDER BY 1",
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
    /// The stream whose windows it is of; empty for those that are always there.
    pub stream: String,
    /// Feature label, as in [`trunnion_common::feature::FeatureKind::label`]; scalar channels also
    /// have `count`, `standard_deviation`, `minimum`, `maximum` and, where a stream keeps them, `p50`, `p95`
    /// and `p99`.
    pub feature: String,
    /// Number of its definition; the one whose values are the newest when none is given.
    pub definition: Option<u32>,
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
    /// Whether its window still collects.
    pub open: bool,
    /// Who computed it.
    pub source: Source,
}

/// Who computed a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Source {
    /// The collector, of a window of samples.
    Collector,
    /// An agent at intake, of a stretch of samples that never came.
    Agent,
    /// A node by its plan, of a window of samples that it did not send.
    Node,
}

impl Source {
    /// The name in the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Collector => "collector",
            Self::Agent => "agent",
            Self::Node => "node",
        }
    }

    /// The one with that name.
    pub(super) fn from_label(label: &str) -> Option<Self> {
        let all = [Self::Collector, Self::Agent, Self::Node];
        all.into_iter().find(|source| source.label() == label)
    }
}

/// A series that exists.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SeriesName {
    /// Where it hangs.
    pub series: SeriesKey,
    /// The stream whose windows it is of; empty for those that are always there.
    pub stream: String,
    /// Feature label.
    pub feature: String,
    /// What its values are; none for readings, whose feature says it.
    pub definition: Option<SeriesDefinition>,
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
