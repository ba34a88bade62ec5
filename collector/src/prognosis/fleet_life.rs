//! What was learned of a fleet, with the names of what it was learned from: what is kept and journaled. Pure.
//!
//! Histories come as one table, in CSV: a column `machine` that names the machine, and columns that name
//! readings as `<point>/<channel>:<feature>`, the same ids in all machines of the fleet. A row is the mean of
//! each over one stretch of running, the oldest first, and the last row of a machine is its end.
//!
//! ```csv
//! machine,motor/speed:mean,de/v:velocity_rms,de/warm:mean
//! pump-1,1480,1.21,41.0
//! pump-1,1482,1.19,41.5
//! pump-9,1479,1.02,39.8
//! ```

use super::fleet_model::{FleetModel, FleetModelError, Life};
use crate::state::SeriesKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::str::FromStr;
use thiserror::Error;
use trunnion_common::feature::FeatureKind;
use trunnion_common::id::Name;

/// The version that what is kept begins with; others are not read.
const VERSION: u16 = 1;
/// Largest model that is kept, bytes: twenty times what is usual.
pub const MODEL_BYTES_MAX: usize = 2 << 20;
/// Readings and settings of a row at most.
pub const COLUMNS_MAX: usize = 64;
/// Rows of a table at most.
pub const ROWS_MAX: usize = 1_000_000;
/// The longest stretch that can be one row, nanoseconds: a month.
pub const ROW_NS_MAX: i64 = 31 * 86_400 * 1_000_000_000;
/// The shortest, nanoseconds: a second.
pub const ROW_NS_MIN: i64 = 1_000_000_000;
/// The column that names the machine.
const MACHINE: &str = "machine";

/// A reading of a row: which feature of which channel, at every machine of the fleet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Column {
    point: String,
    channel: String,
    feature: FeatureKind,
}

impl Column {
    /// Whether a feature of a channel is what is meant.
    pub fn is_of(&self, series: &SeriesKey, feature: FeatureKind) -> bool {
        self.feature == feature && self.channel == series.channel && self.point == series.point
    }

    /// The channel at one machine of the fleet.
    pub fn series(&self, asset: &str) -> SeriesKey {
        SeriesKey {
            asset: asset.to_owned(),
            point: self.point.clone(),
            channel: self.channel.clone(),
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.point, self.channel, self.feature.label())
    }
}

/// Not the name of a reading.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0:?} names no reading: write POINT/CHANNEL:FEATURE, such as de/v:velocity_rms")]
pub struct NoColumn(String);

impl FromStr for Column {
    type Err = NoColumn;

    fn from_str(text: &str) -> Result<Self, NoColumn> {
        let read = || {
            let (place, feature) = text.split_once(':')?;
            let (point, channel) = place.split_once('/')?;
            let id = |id: &str| Name::new(id).is_ok().then(|| id.to_owned());
            Some(Self {
                point: id(point)?,
                channel: id(channel)?,
                feature: FeatureKind::from_label(feature)?,
            })
        };
        read().ok_or_else(|| NoColumn(text.to_owned()))
    }
}

/// Why nothing was learned, or what is kept cannot be read.
#[derive(Debug, Error)]
pub enum FleetLifeError {
    /// The table is none.
    #[error("{0}: write a table of comma-separated values with one line of names above it")]
    Table(#[from] csv::Error),
    /// A column has another name.
    #[error(transparent)]
    Column(#[from] NoColumn),
    /// Nobody says whose rows they are.
    #[error("no column is called {MACHINE:?}: it names the machine of each row")]
    NoMachine,
    /// The same reading stands twice.
    #[error("column {0} stands twice: leave one of them out")]
    Twice(Column),
    /// Called a setting, and not there.
    #[error("{0} is to be a setting, and no column is called so")]
    NoSetting(Column),
    /// None, or more than are told apart.
    #[error("{0} readings in a row: give 1 to {COLUMNS_MAX}")]
    Columns(usize),
    /// More than are read.
    #[error("more than {ROWS_MAX} rows: make a row of a longer stretch")]
    Rows,
    /// Not a number.
    #[error("line {line}: {text:?} is no number; leave out rows that lack a reading")]
    Number {
        /// Which line, from 1.
        line: u64,
        /// What stands there.
        text: String,
    },
    /// A row of no length, or too long.
    #[error("a row cannot be of {0} s: give 1 to {max}", max = ROW_NS_MAX / 1_000_000_000)]
    Row(f64),
    /// The rows do not make a model.
    #[error(transparent)]
    Model(#[from] FleetModelError),
    /// Stored by another version, or damaged.
    #[error("not a learned life of version {VERSION}: learn it anew")]
    Stored,
}

/// What was learned of a fleet: the model, and what its rows are made of.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FleetLife {
    /// Settings first.
    columns: Vec<Column>,
    row_ns: i64,
    settings: usize,
    machines: usize,
    model: FleetModel,
}

impl FleetLife {
    /// Learns from a table; its rows are means over `row_s` seconds, and the readings named by `settings` are no
    /// signs of wear but how the machine was operated.
    pub fn learn(table: impl Read, settings: &[Column], row_s: f64) -> Result<Self, FleetLifeError> {
        let row_ns = (row_s * 1e9) as i64;
        if !(ROW_NS_MIN..=ROW_NS_MAX).contains(&row_ns) {
            return Err(FleetLifeError::Row(row_s));
        }
        let mut table = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(table);
        let places = Places::find(table.headers()?, settings)?;
        let mut lives: BTreeMap<String, Life> = BTreeMap::new();
        for (number, record) in table.records().enumerate() {
            if number >= ROWS_MAX {
                return Err(FleetLifeError::Rows);
            }
            let record = record?;
            let machine = record.get(places.machine).unwrap_or_default();
            let row = places.row(&record)?;
            lives.entry(machine.to_owned()).or_default().rows.push(row);
        }
        let lives: Vec<Life> = lives.into_values().collect();
        let model = FleetModel::train(&lives, settings.len())?;
        Ok(Self {
            columns: places.columns.into_iter().map(|(_, column)| column).collect(),
            row_ns,
            settings: settings.len(),
            machines: lives.len(),
            model,
        })
    }

    /// What a row is made of, in the order of its numbers.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The reading that advisories of this model are told at: the first that is no setting.
    pub fn first_reading(&self) -> Option<&Column> {
        self.columns.get(self.settings)
    }

    /// How long a row is, nanoseconds; at least [`ROW_NS_MIN`].
    pub const fn row_ns(&self) -> i64 {
        self.row_ns
    }

    /// How many machines it was learned from.
    pub const fn machines(&self) -> usize {
        self.machines
    }

    /// What tells of rows.
    pub const fn model(&self) -> &FleetModel {
        &self.model
    }

    /// As it is kept.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FleetLifeError> {
        postcard::to_stdvec(&(VERSION, self)).map_err(|_| FleetLifeError::Stored)
    }

    /// From the bytes that [`Self::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FleetLifeError> {
        let read = || {
            let (version, rest) = postcard::take_from_bytes::<u16>(bytes).ok()?;
            let life: Self = (version == VERSION).then(|| postcard::from_bytes(rest).ok())??;
            let is_usable = (ROW_NS_MIN..=ROW_NS_MAX).contains(&life.row_ns)
                && life.columns.len() <= COLUMNS_MAX
                && life.settings < life.columns.len()
                && life.model.columns() == life.columns.len();
            is_usable.then_some(life)
        };
        (bytes.len() <= MODEL_BYTES_MAX)
            .then(read)
            .flatten()
            .ok_or(FleetLifeError::Stored)
    }
}

/// Where in a line of the table what stands.
struct Places {
    machine: usize,
    /// Settings first, each in the order of the table.
    columns: Vec<(usize, Column)>,
}

impl Places {
    fn find(names: &csv::StringRecord, settings: &[Column]) -> Result<Self, FleetLifeError> {
        let machine = names.iter().position(|name| name == MACHINE);
        let machine = machine.ok_or(FleetLifeError::NoMachine)?;
        let mut columns: Vec<(usize, Column)> = Vec::new();
        for (place, name) in names.iter().enumerate().filter(|(place, _)| *place != machine) {
            let column: Column = name.parse()?;
            if columns.iter().any(|(_, known)| *known == column) {
                return Err(FleetLifeError::Twice(column));
            }
            columns.push((place, column));
        }
        let is_there = |setting: &&Column| columns.iter().any(|(_, column)| column == *setting);
        if let Some(missing) = settings.iter().find(|setting| !is_there(setting)) {
            return Err(FleetLifeError::NoSetting(missing.clone()));
        }
        if !(1..=COLUMNS_MAX).contains(&columns.len()) {
            return Err(FleetLifeError::Columns(columns.len()));
        }
        // A stable sort: each kind stays in the order of the table.
        columns.sort_by_key(|(_, column)| !settings.contains(column));
        Ok(Self { machine, columns })
    }

    fn row(&self, record: &csv::StringRecord) -> Result<Vec<f64>, FleetLifeError> {
        let numbers = self.columns.iter().map(|(place, _)| {
            let text = record.get(*place).unwrap_or_default();
            let number = text.parse().ok().filter(|number: &f64| number.is_finite());
            number.ok_or_else(|| FleetLifeError::Number {
                line: record.position().map_or(0, csv::Position::line),
                text: text.to_owned(),
            })
        });
        numbers.collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Machines of which one reading creeps up towards the end and another follows half; a third is how they are
    /// operated.
    pub(crate) fn table(machines: usize) -> String {
        let mut table = "machine,de/warm:mean,motor/speed:mean,de/current:mean\n".to_owned();
        for machine in 0..machines {
            for row in 0..length(machine) {
                let [warm, current] = readings(machine, row);
                table.push_str(&format!("m-{machine},{warm},1500,{current}\n"));
            }
        }
        table
    }

    /// How many rows that machine lives.
    pub(crate) const fn length(machine: usize) -> usize {
        150 + 13 * machine % 97
    }

    /// What it reads then.
    pub(crate) fn readings(machine: usize, row: usize) -> [f64; 2] {
        let scatter = |of: f64| ((row * 7 + machine * 31) as f64 * of).sin() * 0.3;
        let left = (length(machine) - 1).saturating_sub(row) as f64;
        let wear = 4.0 * (-left / 50.0).exp();
        [40.0 + wear + scatter(12.99), 9.0 - wear / 2.0 + scatter(3.71)]
    }

    fn column(text: &str) -> Column {
        text.parse().unwrap()
    }

    #[test]
    fn a_table_becomes_a_model_that_is_kept_and_read_again() {
        let life = FleetLife::learn(table(12).as_bytes(), &[column("motor/speed:mean")], 3_600.0).unwrap();
        let names: Vec<_> = life.columns().iter().map(Column::to_string).collect();
        assert_eq!(names, ["motor/speed:mean", "de/warm:mean", "de/current:mean"]);
        assert_eq!(life.first_reading(), Some(&column("de/warm:mean")));
        assert_eq!((life.machines(), life.row_ns()), (12, 3_600_000_000_000));
        let bytes = life.to_bytes().unwrap();
        assert!(bytes.len() < MODEL_BYTES_MAX / 10, "{}", bytes.len());
        assert_eq!(FleetLife::from_bytes(&bytes).unwrap(), life);
        for cut in [0, 1, 2, bytes.len() / 2, bytes.len() - 1] {
            assert!(FleetLife::from_bytes(&bytes[..cut]).is_err(), "{cut} bytes");
        }
        let other = [&[9], &bytes[1..]].concat();
        assert!(FleetLife::from_bytes(&other).is_err(), "another version");
    }

    #[test]
    fn what_is_wrong_with_a_table_is_said_with_its_place() {
        let refused = |table: &str, settings: &[Column]| {
            let refused = FleetLife::learn(table.as_bytes(), settings, 60.0);
            refused.unwrap_err().to_string()
        };
        let told = refused("machine,de/warm:mean\na,1\na,none\n", &[]);
        assert!(told.starts_with("line 3: \"none\" is no number"), "{told}");
        let told = refused("name,de/warm:mean\n", &[]);
        assert!(told.starts_with("no column is called \"machine\""), "{told}");
        let told = refused("machine,warm\n", &[]);
        assert!(told.starts_with("\"warm\" names no reading"), "{told}");
        let told = refused("machine,de/warm:mean,de/warm:mean\n", &[]);
        assert!(told.starts_with("column de/warm:mean stands twice"), "{told}");
        let told = refused("machine,de/warm:mean\na,1\na,1,2\n", &[]);
        assert!(told.contains("line: 3"), "{told}");
        let told = refused("machine,de/warm:mean\n", &[column("de/v:rms")]);
        assert!(told.starts_with("de/v:rms is to be a setting"), "{told}");
        let told = refused("machine,de/warm:mean\na,1\n", &[]);
        assert!(told.starts_with("1 machines were run to failure"), "{told}");
    }
}
