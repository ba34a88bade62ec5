//! What outputs look like at rest: feature series, advisories, ledger, in SQLite behind one seam.
//!
//! One [`State`] writes, in one transaction per [`Batch`]: outputs and the journal position they reach;
//! and, behind them, now and then a checkpoint of the pipeline. Every row has a key that follows from the
//! journal alone, and writing a row again changes nothing, so that a replay after a crash is harmless.
//! Readers ([`StateReader`]) have connections of their own and see whole batches only.

mod checkpoints;
mod conditions;
mod corrections;
mod definitions;
mod file;
mod known;
mod letters;
mod reader;
mod reports;
mod values;

pub use checkpoints::CheckpointId;
#[cfg(test)]
pub(crate) use conditions::learned_of_two;
pub use conditions::{BASELINES_CLOSED_MAX, BaselineRow, NormalRow};
pub use corrections::{CORRECTIONS_MAX, CorrectionQuery, CorrectionRow};
pub use definitions::SeriesDefinition;
pub use file::{set_aside, settle};
pub use letters::{DEAD_LETTER_BYTES_MAX, DEAD_LETTERS_MAX, DeadLetterRow, LetterQuery, Replay};
pub use reader::{
    AssetSummary, ChannelSummary, LatencyPercentiles, Progress, SeriesName, SeriesQuery, SeriesValue, Source,
    StateReader,
};
pub use reports::{ALARMS_MAX, Alarm};

use crate::advisory::Advisory;
use crate::alarm::AlarmRow;
use crate::dead_letter::{DeadLetter, ReplayRow};
use crate::derived::DerivedRow;
use crate::health::HealthRow;
use crate::journal::Position;
use crate::ledger::LedgerRow;
use known::Known;
use rusqlite::{Connection, Transaction, params};
use std::path::{Path, PathBuf};
use std::time::Duration;
use trunnion_common::feature::definition::Basis;
use trunnion_common::id::JournalId;
use trunnion_common::time::EventTime;

/// Version of the tables; another one is refused rather than guessed at.
const SCHEMA: i64 = 11;

/// Cleared advisories kept; beyond, those raised first go. Those that stand are bounded by the fleet:
/// one for each point and element at most.
pub const ADVISORIES_CLEARED_MAX: u32 = 10_000;

/// How long windows and their values are kept, in the journal's time: 30 days. Nanoseconds.
pub const SERIES_KEPT_NS: i64 = 30 * 86_400 * 1_000_000_000;

/// How often windows that are too old are removed, on the journal's clock: an hour more is nothing to a month, and
/// looking through all series takes a writer's time.
const EVICT_WINDOWS_EVERY_NS: i64 = 3_600 * 1_000_000_000;

/// Longest wait for a lock: a writer's batch takes milliseconds, a checkpoint of the WAL more.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// Prepared statements kept: more than there are, so that none is ever prepared twice.
const STATEMENTS_KEPT: usize = 64;

/// Asset id under which channels appear that no fleet entry names.
pub const UNASSIGNED: &str = "unassigned";

/// Point and channel under which windows appear that hold all channels of an asset; no id is like it.
pub const ALL_CHANNELS: &str = "*";

/// Where a series hangs in the plant.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize, serde::Deserialize,
)]
pub struct SeriesKey {
    /// Asset id of the fleet file, or [`UNASSIGNED`].
    pub asset: String,
    /// Measurement point id, or the node's id in hexadecimal.
    pub point: String,
    /// Channel id within the point, or the node's channel number.
    pub channel: String,
}

/// One window of one channel and stream, with what was computed on it.
///
/// Of the rows of one window the one of the highest revision counts, in whatever order and however often
/// they come.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct FeatureRow {
    /// Where it hangs.
    pub series: SeriesKey,
    /// The stream that it is a window of ([`crate::settings::stream`]); empty for those that are always
    /// there, of fast channels and of slow ones.
    pub stream: String,
    /// Start of the window (event time, inclusive).
    pub start: EventTime,
    /// End of the window (event time, exclusive).
    pub end: EventTime,
    /// Share of the window's samples that were there, 0 to 1.
    pub coverage: f32,
    /// Whether there was enough to decide on; if not, `values` is empty.
    pub decided: bool,
    /// 0 as first told; counted up whenever it is told again.
    pub revision: u32,
    /// Why it is told.
    pub told: Told,
    /// Whether it was fired from history rather than live data.
    pub backfill: bool,
    /// Feature labels and values, in the channel's unit where they have one.
    pub values: Vec<(&'static str, f32)>,
    /// Of a correction, what held before; empty if nothing could be decided then.
    pub old: Vec<(&'static str, f32)>,
    /// What the features of a fast channel are computed from, which defines them; none for readings.
    pub basis: Option<Basis>,
}

/// Why a window is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Told {
    /// Something has been added to it, and it still collects.
    Update,
    /// It has fired.
    #[default]
    Fired,
    /// It had fired, and says something else now.
    Corrected {
        /// When, by the journal's clock.
        at: EventTime,
    },
}

/// One asset of the fleet in force, as shown in lists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AssetRow {
    /// Asset id.
    pub asset: String,
    /// Name for people.
    pub name: String,
    /// Site id.
    pub site: String,
    /// Area id.
    pub area: String,
}

/// The fleet file in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FleetRow {
    /// From when on.
    pub effective: EventTime,
    /// The TOML text.
    pub text: String,
    /// Its assets.
    pub assets: Vec<AssetRow>,
}

/// What one transaction writes.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Batch {
    /// Fired windows.
    pub features: Vec<FeatureRow>,
    /// Stretches that agents computed features of.
    pub derived: Vec<DerivedRow>,
    /// Alarms of nodes as they were told.
    pub alarms: Vec<AlarmRow>,
    /// Advisories as they are now.
    pub advisories: Vec<Advisory>,
    /// Assets whose health has changed.
    pub healths: Vec<HealthRow>,
    /// Baselines that are at another stage.
    pub baselines: Vec<BaselineRow>,
    /// Ledger rows as they are now.
    pub ledger: Vec<LedgerRow>,
    /// New dead letters.
    pub dead_letters: Vec<DeadLetter>,
    /// Dead letters that were replayed, these and earlier ones.
    pub replays: Vec<ReplayRow>,
    /// The fleet, if it changed.
    pub fleet: Option<FleetRow>,
    /// The pipeline's counters as they are now, by label.
    pub counters: Vec<(String, u64)>,
    /// The journal position that all of this reaches.
    pub position: Position,
    /// The journal's time there.
    pub now: EventTime,
    /// Wall time of this write, from the shell: when the features became visible.
    pub published: EventTime,
}

/// The state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// SQLite refused.
    #[error("state database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// SQLite could not open the file.
    #[error("cannot open the state database {path}: {source}; is the directory there and writable?")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The tables are of another version.
    #[error(
        "the state database has schema {found}, this build reads {SCHEMA}; \
         move the file aside, and it is rebuilt from the journal"
    )]
    Schema {
        /// The version found.
        found: i64,
    },
    /// The tables follow from another journal.
    #[error(
        "the state database belongs to journal {found}, and the journal here is {wanted}; \
         put the right one back, or move the state aside, and it is rebuilt"
    )]
    OtherJournal {
        /// The journal that the tables follow from.
        found: String,
        /// The journal that is here.
        wanted: JournalId,
    },
    /// It could not be moved out of the way.
    #[error("cannot set the state database {path} aside: {source}; move it by hand, and it is rebuilt")]
    SetAside {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A stored value does not read back.
    #[error("state database: the {0} column holds what this build never writes")]
    Corrupt(&'static str),
}

impl StateError {
    /// Whether another database, filled from the journal, would not have it: this one is damaged, or of an
    /// earlier version. One of a later version is left to the build that wrote it.
    pub fn is_cured_by_rebuilding(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            Self::Sqlite(error) | Self::Open { source: error, .. } => {
                matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
            }
            Self::Schema { found } => *found < SCHEMA,
            Self::Corrupt(_) => true,
            Self::OtherJournal { .. } | Self::SetAside { .. } => false,
        }
    }
}

/// The writer: one per process.
#[derive(Debug)]
pub struct State {
    connection: Connection,
    known: Known,
    /// When old windows were last removed.
    windows_evicted: Option<EventTime>,
}

impl State {
    /// Opens the database, making it if it is not there.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let open = |source| StateError::Open {
            path: path.to_owned(),
            source,
        };
        let connection = Connection::open(path).map_err(open)?;
        connection.busy_timeout(BUSY_WAIT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        connection
            .pragma_update(None, "journal_mode", "wal")
            .map_err(open)?;
        // The journal is the truth: what a power cut takes from this file, a replay brings back, and
        // WAL keeps the file whole. So one fsync per WAL checkpoint is enough.
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match found {
            0 => connection.execute_batch(&format!(
                "BEGIN IMMEDIATE; {TABLES} {} {} {} {} {} {} PRAGMA user_version = {SCHEMA}; COMMIT;",
                definitions::TABLES,
                checkpoints::TABLES,
                conditions::TABLES,
                reports::TABLES,
                corrections::TABLES,
                letters::TABLES
            ))?,
            SCHEMA => {}
            found => return Err(StateError::Schema { found }),
        }
        Ok(Self {
            connection,
            known: Known::default(),
            windows_evicted: None,
        })
    }

    /// Ties the tables to the journal that they follow from, for good.
    pub fn bind(&mut self, journal: JournalId) -> Result<(), StateError> {
        self.connection.execute(
            "INSERT OR IGNORE INTO journal(id, journal) VALUES (0, ?1)",
            [journal.to_string()],
        )?;
        let found: String = self
            .connection
            .query_row("SELECT journal FROM journal", [], |row| row.get(0))?;
        if found == journal.to_string() {
            Ok(())
        } else {
            Err(StateError::OtherJournal {
                found,
                wanted: journal,
            })
        }
    }

    /// A connection that only reads, for one thread; sees whole batches only.
    pub fn open_reader(path: &Path) -> Result<StateReader, StateError> {
        StateReader::open(path)
    }

    /// Writes a batch, all or nothing.
    pub fn write(&mut self, batch: &Batch) -> Result<(), StateError> {
        let written = self.write_all(batch);
        if written.is_err() {
            self.known = Known::default();
        }
        written
    }

    fn write_all(&mut self, batch: &Batch) -> Result<(), StateError> {
        let transaction = self.connection.transaction()?;
        for row in &batch.features {
            write_features(&transaction, &mut self.known, row, batch.published)?;
        }
        for row in &batch.derived {
            reports::write_derived(&transaction, row)?;
        }
        for row in &batch.alarms {
            reports::write_alarm(&transaction, row)?;
        }
        for advisory in &batch.advisories {
            write_advisory(&transaction, advisory)?;
        }
        for row in &batch.healths {
            conditions::write_health(&transaction, row)?;
        }
        for row in &batch.baselines {
            conditions::write_baseline(&transaction, row)?;
        }
        for row in &batch.ledger {
            write_ledger(&transaction, row)?;
        }
        for letter in &batch.dead_letters {
            letters::write_letter(&transaction, letter)?;
        }
        if !batch.dead_letters.is_empty() {
            letters::evict_payloads(&transaction, DEAD_LETTER_BYTES_MAX)?;
        }
        for row in &batch.replays {
            letters::write_replay(&transaction, row)?;
        }
        if let Some(fleet) = &batch.fleet {
            write_fleet(&transaction, fleet)?;
        }
        for (label, value) in &batch.counters {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO counter(label, value) VALUES (?1, ?2)")?
                .execute(params![label, *value as i64])?;
        }
        let at = batch.position;
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO progress(id, partition, segment, offset, now) VALUES (0, ?1, ?2, ?3, ?4)",
            )?
            .execute(params![at.partition, at.segment as i64, at.offset as i64, batch.now.0])?;
        Ok(transaction.commit()?)
    }

    /// Removes what has become too old or too many, as of the journal's time `now`.
    pub fn evict(&mut self, now: EventTime) -> Result<(), StateError> {
        let transaction = self.connection.transaction()?;
        // Every series is looked at for it.
        let is_due = |last: EventTime| now.nanos_since(last) >= EVICT_WINDOWS_EVERY_NS;
        if self.windows_evicted.is_none_or(is_due) {
            evict_windows(&transaction, now)?;
            self.windows_evicted = Some(now);
        }
        evict_advisories(&transaction, ADVISORIES_CLEARED_MAX)?;
        letters::evict_letters(&transaction, DEAD_LETTERS_MAX)?;
        reports::evict_alarms(&transaction, ALARMS_MAX)?;
        conditions::evict_baselines(&transaction, BASELINES_CLOSED_MAX)?;
        corrections::evict(&transaction, CORRECTIONS_MAX)?;
        Ok(transaction.commit()?)
    }

    /// How far the outputs reach; none before the first batch.
    pub fn progress(&self) -> Result<Option<Progress>, StateError> {
        reader::progress(&self.connection)
    }
}

const TABLES: &str = "
CREATE TABLE journal(id INTEGER PRIMARY KEY CHECK (id = 0), journal TEXT NOT NULL);
CREATE TABLE progress(id INTEGER PRIMARY KEY CHECK (id = 0), partition INTEGER NOT NULL,
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, now INTEGER NOT NULL);
CREATE TABLE channel(id INTEGER PRIMARY KEY, asset TEXT NOT NULL, point TEXT NOT NULL, channel TEXT NOT NULL,
    stream TEXT NOT NULL, UNIQUE (asset, point, channel, stream));
CREATE TABLE window(channel INTEGER NOT NULL REFERENCES channel(id), start INTEGER NOT NULL,
    end INTEGER NOT NULL, coverage REAL NOT NULL, decided INTEGER NOT NULL, revision INTEGER NOT NULL,
    open INTEGER NOT NULL, backfill INTEGER NOT NULL, published INTEGER NOT NULL, computed BLOB NOT NULL,
    PRIMARY KEY (channel, start)) WITHOUT ROWID;
CREATE INDEX window_by_end ON window(end);
CREATE TABLE series(id INTEGER PRIMARY KEY, channel INTEGER NOT NULL REFERENCES channel(id),
    feature TEXT NOT NULL, definition INTEGER NOT NULL, UNIQUE (channel, feature, definition));
CREATE TABLE advisory(id TEXT PRIMARY KEY, asset TEXT NOT NULL, raised INTEGER NOT NULL, cleared INTEGER,
    body TEXT NOT NULL);
CREATE INDEX advisory_by_asset ON advisory(asset, raised);
CREATE TABLE ledger(node TEXT NOT NULL, boot TEXT NOT NULL, channel INTEGER NOT NULL,
    produced INTEGER NOT NULL, stored INTEGER NOT NULL, pending INTEGER NOT NULL, unexplained INTEGER NOT NULL,
    duplicated INTEGER NOT NULL, PRIMARY KEY (node, boot, channel)) WITHOUT ROWID;
CREATE TABLE loss(node TEXT NOT NULL, boot TEXT NOT NULL, channel INTEGER NOT NULL, cause TEXT NOT NULL,
    samples INTEGER NOT NULL, PRIMARY KEY (node, boot, channel, cause)) WITHOUT ROWID;
CREATE TABLE fleet(effective INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE asset(asset TEXT PRIMARY KEY, name TEXT NOT NULL, site TEXT NOT NULL, area TEXT NOT NULL);
CREATE TABLE counter(label TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
";

/// The row of a channel in a stream, which is made if it is not there.
fn channel_id(to: &Transaction<'_>, key: &SeriesKey, stream: &str) -> Result<i64, StateError> {
    let named = params![key.asset, key.point, key.channel, stream];
    to.prepare_cached(
        "INSERT OR IGNORE INTO channel(asset, point, channel, stream) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(named)?;
    Ok(to
        .prepare_cached(
            "SELECT id FROM channel WHERE asset = ?1 AND point = ?2 AND channel = ?3 AND stream = ?4",
        )?
        .query_row(named, |row| row.get(0))?)
}

fn write_features(
    to: &Transaction<'_>,
    known: &mut Known,
    row: &FeatureRow,
    published: EventTime,
) -> Result<(), StateError> {
    let known = known.channel(to, &row.series, &row.stream)?;
    let channel = known.id;
    if row.decided {
        reports::clear_derived(to, channel, row.start, row.end)?;
    }
    if let Told::Corrected { at } = row.told {
        corrections::write(to, channel, row, at)?;
    }
    let mut values = Vec::with_capacity(8 * row.values.len());
    for (feature, value) in &row.values {
        values::push(
            &mut values,
            known.series(to, feature, row.basis.as_ref())?,
            *value,
        )?;
    }
    // Written again, as in a replay, a window must not look published later than it was, nor take back
    // what has been corrected. A correction is news.
    to.prepare_cached(
        "INSERT INTO window(channel, start, end, coverage, decided, revision, open, backfill, published, computed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT DO UPDATE SET end = excluded.end, coverage = excluded.coverage,
            decided = excluded.decided, revision = excluded.revision, open = excluded.open,
            backfill = excluded.backfill, published = excluded.published, computed = excluded.computed
         WHERE excluded.revision > revision",
    )?
    .execute(params![
        channel,
        row.start.0,
        row.end.0,
        f64::from(row.coverage),
        row.decided,
        row.revision,
        row.told == Told::Update,
        row.backfill,
        published.0,
        values
    ])?;
    Ok(())
}

fn write_advisory(to: &Transaction<'_>, advisory: &Advisory) -> Result<(), StateError> {
    let body = serde_json::to_string(advisory).map_err(|_| StateError::Corrupt("advisory.body"))?;
    to.prepare_cached(
        "INSERT OR REPLACE INTO advisory(id, asset, raised, cleared, body) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        advisory.id,
        advisory.asset,
        advisory.raised.0,
        advisory.cleared.map(|at| at.0),
        body
    ])?;
    Ok(())
}

fn write_ledger(to: &Transaction<'_>, row: &LedgerRow) -> Result<(), StateError> {
    let (node, boot) = (row.node.to_string(), row.boot.to_string());
    to.prepare_cached(
        "INSERT OR REPLACE INTO ledger(node, boot, channel, produced, stored, pending, unexplained, duplicated)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        node,
        boot,
        row.channel.get(),
        row.produced as i64,
        row.stored as i64,
        row.pending as i64,
        row.unexplained as i64,
        row.duplicated as i64
    ])?;
    to.prepare_cached("DELETE FROM loss WHERE node = ?1 AND boot = ?2 AND channel = ?3")?
        .execute(params![node, boot, row.channel.get()])?;
    for (cause, samples) in &row.lost {
        to.prepare_cached(
            "INSERT INTO loss(node, boot, channel, cause, samples) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            node,
            boot,
            row.channel.get(),
            cause.label(),
            *samples as i64
        ])?;
    }
    Ok(())
}

/// Removes the oldest cleared advisories until at most `most` are left.
fn evict_advisories(to: &Transaction<'_>, most: u32) -> Result<(), StateError> {
    to.execute(
        "DELETE FROM advisory WHERE id IN (SELECT id FROM advisory WHERE cleared IS NOT NULL
            ORDER BY raised DESC, id LIMIT -1 OFFSET ?1)",
        [most],
    )?;
    Ok(())
}

/// Removes windows that are [`SERIES_KEPT_NS`] old, series by series along their keys. As the journal's
/// clock never runs back, one that was once set years ahead stays there; so age counts from the newest
/// window, if that is earlier.
fn evict_windows(to: &Transaction<'_>, now: EventTime) -> Result<(), StateError> {
    let newest: Option<i64> = to.query_row("SELECT max(end) FROM window", [], |row| row.get(0))?;
    let newest = now.min(EventTime(newest.unwrap_or(i64::MAX)));
    let oldest = newest.plus_nanos(-SERIES_KEPT_NS);
    reports::evict_derived(to, newest)?;
    corrections::evict_old(to, newest)?;
    to.execute(
        "DELETE FROM window WHERE channel IN (SELECT id FROM channel) AND start < ?1",
        [oldest.0],
    )?;
    Ok(())
}

fn write_fleet(to: &Transaction<'_>, fleet: &FleetRow) -> Result<(), StateError> {
    // What comes last wins over what was to be in force later.
    to.execute("DELETE FROM fleet WHERE effective >= ?1", [fleet.effective.0])?;
    to.execute(
        "INSERT INTO fleet(effective, text) VALUES (?1, ?2)",
        params![fleet.effective.0, fleet.text],
    )?;
    to.execute("DELETE FROM asset", [])?;
    for row in &fleet.assets {
        to.prepare_cached("INSERT INTO asset(asset, name, site, area) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![row.asset, row.name, row.site, row.area])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advisory::{Cause, Evidence};
    use crate::dead_letter::{DeadReason, Form, LetterId};
    use trunnion_common::id::{BootId, ChannelId, NodeId};
    use trunnion_common::level::Level;
    use trunnion_common::reject::RejectReason;
    use trunnion_common::sample::LossCause;
    use trunnion_diagnosis::features::Finding;

    fn key(asset: &str) -> SeriesKey {
        SeriesKey {
            asset: asset.to_owned(),
            point: "de".to_owned(),
            channel: "v".to_owned(),
        }
    }

    fn features(asset: &str, start: i64, rms: f32) -> FeatureRow {
        FeatureRow {
            series: key(asset),
            start: EventTime(start),
            end: EventTime(start + 10),
            coverage: 1.0,
            decided: true,
            values: vec![("rms", rms), ("peak", 2.0 * rms)],
            ..FeatureRow::default()
        }
    }

    fn advisory(asset: &str, raised: i64) -> Advisory {
        Advisory {
            id: format!("{asset}/de/ball/{raised}"),
            asset: asset.to_owned(),
            point: "de".to_owned(),
            cause: Cause::Bearing(None),
            level: Level::Alarm,
            raised: EventTime(raised),
            cleared: None,
            last_seen: EventTime(raised),
            evidence: Evidence::Lines(Finding {
                element: None,
                order: 0.0,
                score: 3.25,
                runner_up: 1.0,
                lines: Vec::new(),
                band_hz: (1.0, 2.0),
                confirmed: None,
            }),
            recommendation: "Look at it.".to_owned(),
            backfill: false,
            explanation: None,
            remaining_life: None,
        }
    }

    fn open() -> (tempfile::TempDir, State, StateReader) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.sqlite");
        let state = State::open(&path).unwrap();
        let reader = State::open_reader(&path).unwrap();
        (dir, state, reader)
    }

    #[test]
    fn the_highest_revision_counts_in_whatever_order_rows_come() {
        let (_dir, mut state, reader) = open();
        let partial = FeatureRow {
            coverage: 0.5,
            ..features("fan", 0, 1.0)
        };
        let whole = FeatureRow {
            revision: 1,
            backfill: true,
            ..features("fan", 0, 2.0)
        };
        let third = FeatureRow {
            revision: 2,
            decided: false,
            values: Vec::new(),
            ..features("fan", 10, 0.0)
        };
        let again = features("fan", 10, 7.0);
        for row in [&partial, &whole, &partial, &third, &again, &third] {
            let batch = Batch {
                features: vec![row.clone()],
                ..Batch::default()
            };
            state.write(&batch).unwrap();
        }
        let query = SeriesQuery {
            series: key("fan"),
            stream: String::new(),
            feature: "rms".to_owned(),
            definition: None,
            from: EventTime(0),
            to: EventTime(20),
            limit: 10,
        };
        let seen = reader.series(&query).unwrap();
        let [value] = seen[..] else {
            panic!("{seen:?}");
        };
        assert_eq!(
            (value.value, value.coverage, value.revision, value.backfill),
            (2.0, 1.0, 1, true)
        );
    }

    fn every_letter() -> LetterQuery {
        LetterQuery {
            reason: None,
            gateway: None,
            since: EventTime(i64::MIN),
            limit: 1_000,
        }
    }

    #[test]
    fn streams_of_a_channel_are_series_of_their_own() {
        let (_dir, mut state, reader) = open();
        let hourly = FeatureRow {
            stream: "hourly".to_owned(),
            told: Told::Update,
            ..features("fan", 0, 5.0)
        };
        let batch = Batch {
            features: vec![features("fan", 0, 1.0), hourly],
            ..Batch::default()
        };
        state.write(&batch).unwrap();
        for (stream, value, open) in [("", 1.0, false), ("hourly", 5.0, true)] {
            let query = SeriesQuery {
                series: key("fan"),
                stream: stream.to_owned(),
                feature: "rms".to_owned(),
                definition: None,
                from: EventTime(0),
                to: EventTime(10),
                limit: 10,
            };
            let seen = reader.series(&query).unwrap();
            assert_eq!(seen.len(), 1, "{stream}");
            assert_eq!((seen[0].value, seen[0].open), (value, open), "{stream}");
        }
        let names = reader.series_names(None, 10).unwrap();
        let streams: Vec<_> = names.iter().map(|name| name.stream.as_str()).collect();
        assert_eq!(streams, ["", "", "hourly", "hourly"]);
        let assets = reader.assets().unwrap();
        assert_eq!(
            assets[0].channels.len(),
            1,
            "the page shows those that are always there"
        );
        assert_eq!(assets[0].channels[0].values["rms"], 1.0);
    }

    #[test]
    fn a_batch_is_read_back_as_it_was_written_and_twice_is_once() {
        let (_dir, mut state, reader) = open();
        let row = LedgerRow {
            node: NodeId::new(0xab).unwrap(),
            boot: BootId::new(3, 4),
            channel: ChannelId::new(5).unwrap(),
            produced: 100,
            stored: 60,
            lost: vec![(LossCause::OutboxFull, 10), (LossCause::NodeReset, 20)],
            pending: 9,
            unexplained: 1,
            duplicated: 7,
        };
        let letter = DeadLetter {
            position: Position {
                partition: 0,
                segment: 1,
                offset: 2,
            },
            item: 3,
            gateway: None,
            backfill: true,
            arrival: EventTime(4),
            fix: 5,
            form: Form::Frame,
            reason: DeadReason::Rejected(RejectReason::BodyDecode),
            time: EventTime(4),
            payload: vec![1, 2, 3],
        };
        let id = LetterId {
            position: letter.position,
            item: letter.item,
        };
        let replayed = ReplayRow {
            letter: id,
            time: EventTime(29),
            outcome: crate::dead_letter::Outcome::Landed { samples: 480 },
        };
        let batch = Batch {
            baselines: Vec::new(),
            healths: Vec::new(),
            derived: Vec::new(),
            alarms: Vec::new(),
            features: vec![
                features("fan", 0, 1.0),
                features("fan", 10, 2.0),
                features("saw", 0, 3.0),
            ],
            advisories: vec![advisory("fan", 20)],
            ledger: vec![row.clone()],
            dead_letters: vec![letter.clone()],
            replays: vec![replayed],
            fleet: Some(FleetRow {
                effective: EventTime(1),
                text: "text".to_owned(),
                assets: vec![AssetRow {
                    asset: "fan".to_owned(),
                    name: "The fan".to_owned(),
                    site: "s".to_owned(),
                    area: "a".to_owned(),
                }],
            }),
            counters: vec![("windows_fired".to_owned(), 3)],
            position: letter.position,
            now: EventTime(30),
            published: EventTime(5_000_010),
        };
        for _ in 0..2 {
            state.write(&batch).unwrap();
            let assets = reader.assets().unwrap();
            assert_eq!(assets.len(), 2);
            assert_eq!(
                (assets[0].name.as_deref(), assets[0].active_advisories),
                (Some("The fan"), 1)
            );
            assert_eq!(assets[0].channels[0].values["rms"], 2.0);
            assert_eq!(
                (assets[1].asset.as_str(), assets[1].name.as_deref()),
                ("saw", None)
            );
            assert_eq!(reader.advisories(true, None, 100).unwrap(), [advisory("fan", 20)]);
            assert!(reader.advisories(false, Some("saw"), 100).unwrap().is_empty());
            let mut ledger = Vec::new();
            reader.for_each_ledger_row(|row| ledger.push(row)).unwrap();
            assert_eq!(ledger, std::slice::from_ref(&row));
            let letters = reader.dead_letters(&every_letter()).unwrap();
            let [seen] = &letters[..] else {
                panic!("{letters:?}");
            };
            assert_eq!((seen.reason.as_str(), seen.form), ("body_decode", Form::Frame));
            assert_eq!((seen.backfill, seen.arrival, seen.fix), (true, EventTime(4), 5));
            let outcome = seen.replay.as_ref().unwrap();
            assert_eq!((outcome.outcome.as_str(), outcome.samples), ("landed", 480));
            assert_eq!(reader.dead_letter(id).unwrap().as_ref(), Some(seen));
            assert_eq!(reader.dead_payload(id).unwrap(), Some(vec![1, 2, 3]));
            assert_eq!(reader.counters().unwrap()["windows_fired"], 3);
            assert_eq!(
                reader.fleet_text().unwrap(),
                Some((EventTime(1), "text".to_owned()))
            );
            assert_eq!(reader.position().unwrap().unwrap().now, EventTime(30));
            assert_eq!(reader.series_names(Some("fan"), 9).unwrap().len(), 2);
        }
        let mut query = SeriesQuery {
            series: key("fan"),
            stream: String::new(),
            feature: "rms".to_owned(),
            definition: None,
            from: EventTime(0),
            to: EventTime(100),
            limit: 10,
        };
        let values = |query: &SeriesQuery| -> Vec<f32> {
            reader
                .series(query)
                .unwrap()
                .iter()
                .map(|value| value.value)
                .collect()
        };
        assert_eq!(values(&query), [1.0, 2.0]);
        query.limit = 1;
        assert_eq!(values(&query), [2.0], "the newest");
        (query.limit, query.to) = (10, EventTime(10));
        assert_eq!(values(&query), [1.0], "`to` is exclusive");
    }

    #[test]
    fn latency_is_that_of_the_first_publication() {
        let (_dir, mut state, reader) = open();
        assert_eq!(reader.latency_percentiles(EventTime(0)).unwrap(), None);
        for published in [1_000_010, 9_000_010] {
            let batch = Batch {
                features: vec![features("fan", 0, 1.0)],
                published: EventTime(published),
                ..Batch::default()
            };
            state.write(&batch).unwrap();
        }
        let latency = reader.latency_percentiles(EventTime(0)).unwrap().unwrap();
        assert_eq!((latency.windows, latency.p50_ms, latency.p99_ms), (1, 1.0, 1.0));
        assert_eq!(reader.latency_percentiles(EventTime(11)).unwrap(), None);
    }

    #[test]
    fn a_cleared_advisory_no_longer_stands() {
        let (_dir, mut state, reader) = open();
        let mut over = advisory("fan", 20);
        over.cleared = Some(EventTime(50));
        let batch = Batch {
            advisories: vec![advisory("fan", 20), advisory("fan", 30), over.clone()],
            ..Batch::default()
        };
        state.write(&batch).unwrap();
        assert_eq!(
            reader.advisories(true, Some("fan"), 100).unwrap(),
            [advisory("fan", 30)]
        );
        assert_eq!(
            reader.advisories(false, None, 100).unwrap(),
            [advisory("fan", 30), over]
        );
    }

    #[test]
    fn old_windows_and_dead_letters_make_room() {
        let (_dir, mut state, reader) = open();
        let letter = |offset: u64| DeadLetter {
            position: Position {
                offset,
                ..Position::default()
            },
            item: 0,
            gateway: None,
            backfill: false,
            arrival: EventTime(0),
            fix: 0,
            form: Form::Text,
            reason: DeadReason::Fleet,
            time: EventTime(offset as i64),
            payload: vec![0; 1 << 20],
        };
        let kept = DEAD_LETTER_BYTES_MAX as u64 >> 20;
        let batch = Batch {
            features: vec![features("fan", 0, 1.0), features("fan", SERIES_KEPT_NS, 1.0)],
            dead_letters: (0..kept + 3).map(letter).collect(),
            now: EventTime(SERIES_KEPT_NS + 11),
            ..Batch::default()
        };
        state.write(&batch).unwrap();
        state.evict(batch.now).unwrap();
        let letters = reader.dead_letters(&every_letter()).unwrap();
        assert_eq!(letters.len() as u64, kept + 3, "they stay listed");
        let whole = letters
            .iter()
            .filter(|letter| reader.dead_payload(letter.id).unwrap().is_some());
        let oldest = whole.map(|letter| letter.id.position.offset).min();
        assert_eq!(oldest, Some(3));
        let chosen = LetterQuery {
            reason: Some("fleet".to_owned()),
            since: EventTime(5),
            limit: 7,
            ..every_letter()
        };
        let chosen = reader.dead_letters(&chosen).unwrap();
        assert!(chosen.len() == 7 && chosen.iter().all(|letter| letter.time >= EventTime(5)));
        let others = LetterQuery {
            gateway: Some("bremen/gw-1".to_owned()),
            ..every_letter()
        };
        assert_eq!(reader.dead_letters(&others).unwrap(), []);
        let transaction = state.connection.transaction().unwrap();
        letters::evict_letters(&transaction, 10).unwrap();
        transaction.commit().unwrap();
        let letters = reader.dead_letters(&every_letter()).unwrap();
        assert_eq!((letters.len(), letters[9].id.position.offset), (10, kept - 7));
        let windows: i64 = reader
            .connection
            .query_row("SELECT count(*) FROM window", [], |row| row.get(0))
            .unwrap();
        assert_eq!(windows, 1);
    }

    #[test]
    fn age_counts_from_the_newest_window_when_the_clock_is_years_ahead() {
        let (_dir, mut state, reader) = open();
        let batch = Batch {
            features: vec![features("fan", 10, 1.0)],
            now: EventTime(100 * SERIES_KEPT_NS),
            ..Batch::default()
        };
        state.write(&batch).unwrap();
        assert_eq!(reader.assets().unwrap().len(), 1);
    }

    #[test]
    fn the_oldest_cleared_advisories_go_and_those_that_stand_stay() {
        let (_dir, mut state, reader) = open();
        let cleared = |raised| Advisory {
            cleared: Some(EventTime(raised + 1)),
            ..advisory("fan", raised)
        };
        let batch = Batch {
            advisories: [advisory("fan", 1)]
                .into_iter()
                .chain((2..9).map(cleared))
                .collect(),
            ..Batch::default()
        };
        state.write(&batch).unwrap();
        let transaction = state.connection.transaction().unwrap();
        evict_advisories(&transaction, 2).unwrap();
        transaction.commit().unwrap();
        let left = reader.advisories(false, None, 100).unwrap();
        let raised: Vec<_> = left.iter().map(|advisory| advisory.raised.0).collect();
        assert_eq!(raised, [8, 7, 1]);
    }

    #[test]
    fn a_fleet_that_comes_last_is_in_force_whatever_its_time() {
        let (_dir, mut state, reader) = open();
        for (effective, text) in [(5, "one"), (90, "ahead"), (50, "last")] {
            let fleet = FleetRow {
                effective: EventTime(effective),
                text: text.to_owned(),
                assets: Vec::new(),
            };
            let batch = Batch {
                fleet: Some(fleet),
                ..Batch::default()
            };
            state.write(&batch).unwrap();
        }
        assert_eq!(
            reader.fleet_text().unwrap(),
            Some((EventTime(50), "last".to_owned()))
        );
    }

    #[test]
    fn tables_of_another_journal_or_schema_are_refused() {
        let (dir, mut state, _) = open();
        state.bind(JournalId(1)).unwrap();
        state.bind(JournalId(1)).unwrap();
        assert!(matches!(
            state.bind(JournalId(2)),
            Err(StateError::OtherJournal { .. })
        ));
        state.connection.pragma_update(None, "user_version", 99).unwrap();
        let path = dir.path().join("state.sqlite");
        assert!(matches!(
            State::open(&path),
            Err(StateError::Schema { found: 99 })
        ));
        assert!(matches!(
            State::open_reader(&path),
            Err(StateError::Schema { found: 99 })
        ));
        assert!(matches!(
            State::open(&dir.path().join("none/state.sqlite")),
            Err(StateError::Open { .. })
        ));
    }
}
