//! Tables of what is known of machines: their health, and what is normal for them.

use super::reader::StateReader;
use super::{SeriesKey, StateError};
use crate::health::{Health, HealthRow};
use rusqlite::{Transaction, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trunnion_common::detection::multivariate::Learned;
use trunnion_common::time::EventTime;

/// Closed baselines kept; beyond, those closed first go. Open ones are bounded by the fleet.
pub const BASELINES_CLOSED_MAX: u32 = 10_000;

pub(super) const TABLES: &str = "
CREATE TABLE health(asset TEXT PRIMARY KEY, since INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE baseline(asset TEXT NOT NULL, point TEXT NOT NULL, channel TEXT NOT NULL, generation INTEGER NOT NULL,
    speed INTEGER NOT NULL, load INTEGER NOT NULL, closed INTEGER, body TEXT NOT NULL,
    PRIMARY KEY (asset, point, channel, generation, speed, load)) WITHOUT ROWID;
";

/// What is normal for one direction in one regime, and how far that is known.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BaselineRow {
    /// Where.
    pub series: SeriesKey,
    /// Which in a row: counted up when one is closed.
    pub generation: u32,
    /// The regime by speed.
    pub speed_regime: u8,
    /// The regime by load.
    pub load_regime: u8,
    /// [`trunnion_common::baseline::Stage`], by label.
    pub stage: String,
    /// Windows learned from.
    pub windows: u32,
    /// From when to when it was learned.
    pub learned: Option<(EventTime, EventTime)>,
    /// When a person agreed to it.
    pub accepted: Option<EventTime>,
    /// When it was closed; none while it is learned or judges.
    pub closed: Option<EventTime>,
    /// Why it was closed.
    pub note: Option<String>,
    /// What is normal, by feature.
    pub normals: Vec<NormalRow>,
    /// Of a group of slow channels, what rows are judged by; gateways are given it. Rows of before that have none.
    #[serde(default)]
    pub group: Option<Box<Learned>>,
}

/// What is normal of one feature.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NormalRow {
    /// Its label.
    pub feature: String,
    /// The middle, in its unit: of an amplitude the geometric mean.
    pub centre: f32,
    /// Standard deviation: of an amplitude that of its natural logarithm.
    pub spread: f32,
}

pub(super) fn write_health(to: &Transaction<'_>, row: &HealthRow) -> Result<(), StateError> {
    let body = serde_json::to_string(&row.health).map_err(|_| StateError::Corrupt("health.body"))?;
    to.prepare_cached("INSERT OR REPLACE INTO health(asset, since, body) VALUES (?1, ?2, ?3)")?
        .execute(params![row.asset, row.since.0, body])?;
    Ok(())
}

pub(super) fn write_baseline(to: &Transaction<'_>, row: &BaselineRow) -> Result<(), StateError> {
    let body = serde_json::to_string(row).map_err(|_| StateError::Corrupt("baseline.body"))?;
    to.prepare_cached(
        "INSERT OR REPLACE INTO baseline(asset, point, channel, generation, speed, load, closed, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        row.series.asset,
        row.series.point,
        row.series.channel,
        row.generation,
        row.speed_regime,
        row.load_regime,
        row.closed.map(|at| at.0),
        body
    ])?;
    Ok(())
}

/// Removes the baselines closed first until at most `most` closed ones are left.
pub(super) fn evict_baselines(to: &Transaction<'_>, most: u32) -> Result<(), StateError> {
    to.execute(
        "DELETE FROM baseline WHERE closed IS NOT NULL AND closed < (SELECT min(closed) FROM
            (SELECT closed FROM baseline WHERE closed IS NOT NULL ORDER BY closed DESC LIMIT ?1))",
        [most],
    )?;
    Ok(())
}

impl StateReader {
    /// The health of every asset that has had one, by asset.
    pub fn healths(&self) -> Result<BTreeMap<String, HealthRow>, StateError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT asset, since, body FROM health")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?)))?;
        let row = |(asset, since, body): (String, i64, String)| {
            let health: Health =
                serde_json::from_str(&body).map_err(|_| StateError::Corrupt("health.body"))?;
            let row = HealthRow {
                asset: asset.clone(),
                since: EventTime(since),
                health,
            };
            Ok((asset, row))
        };
        rows.map(|found| row(found?)).collect()
    }

    /// Baselines of one asset or of all, the newest of each place first; closed ones too.
    pub fn baselines(&self, asset: Option<&str>, limit: u32) -> Result<Vec<BaselineRow>, StateError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT body FROM baseline WHERE ?1 IS NULL OR asset = ?1
             ORDER BY asset, point, channel, generation DESC, speed, load LIMIT ?2",
        )?;
        let rows = statement.query_map(params![asset, limit], |row| row.get::<_, String>(0))?;
        rows.map(|body| serde_json::from_str(&body?).map_err(|_| StateError::Corrupt("baseline.body")))
            .collect()
    }

    /// Baselines that judge: accepted, and not closed.
    pub fn baselines_in_force(&self) -> Result<Vec<BaselineRow>, StateError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT body FROM baseline WHERE closed IS NULL")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        let row = |body: String| -> Result<BaselineRow, StateError> {
            serde_json::from_str(&body).map_err(|_| StateError::Corrupt("baseline.body"))
        };
        let rows = rows.map(|body| row(body?));
        rows.filter(|row| !matches!(row, Ok(row) if row.accepted.is_none()))
            .collect()
    }
}

/// What may be learned of two channels.
#[cfg(test)]
pub(crate) fn learned_of_two() -> Learned {
    use trunnion_common::detection::multivariate::{Multivariate, Settings};
    let settings = Settings {
        learning: 3,
        ..Settings::default()
    };
    let mut detector: Multivariate = Multivariate::new(2, settings);
    for row in [[1.0, 2.0], [2.0, 5.0], [3.0, 4.0]] {
        detector.handle_row(EventTime(0), &row);
    }
    let learned = detector
        .learned()
        .expect("three rows are all that it learns from");
    learned.clone()
}
