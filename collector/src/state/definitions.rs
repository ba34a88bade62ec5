//! Series by definition: values that are measured otherwise go into another series.

use super::StateError;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::definition::Basis;

pub(super) const TABLES: &str = "
CREATE TABLE definition(number INTEGER PRIMARY KEY, body TEXT NOT NULL);
";

/// Number of a series whose feature says all there is: readings, and what agents computed at intake.
pub(super) const PLAIN: u32 = 0;

/// What the values of a series are, as the API tells it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SeriesDefinition {
    /// Another number is another series.
    pub number: u32,
    /// The definition ([`trunnion_common::feature::definition::Definition`]) as JSON.
    pub body: String,
}

/// The row of a feature's series, which is made if it is not there.
pub(super) fn series_id(
    to: &Transaction<'_>,
    channel: i64,
    feature: &str,
    basis: Option<&Basis>,
) -> Result<i64, StateError> {
    let definition = basis
        .zip(FeatureKind::from_label(feature))
        .map(|(basis, kind)| basis.define(kind));
    let number = definition
        .as_ref()
        .map_or(PLAIN, |definition| definition.number());
    let named = params![channel, feature, number];
    let find = |to: &Transaction<'_>| {
        to.prepare_cached("SELECT id FROM series WHERE channel = ?1 AND feature = ?2 AND definition = ?3")?
            .query_row(named, |row| row.get(0))
            .optional()
    };
    if let Some(found) = find(to)? {
        return Ok(found);
    }
    if let Some(definition) = definition {
        let body = serde_json::to_string(&definition).map_err(|_| StateError::Corrupt("definition.body"))?;
        to.prepare_cached("INSERT OR IGNORE INTO definition(number, body) VALUES (?1, ?2)")?
            .execute(params![number, body])?;
    }
    to.prepare_cached("INSERT INTO series(channel, feature, definition) VALUES (?1, ?2, ?3)")?
        .execute(named)?;
    Ok(to.last_insert_rowid())
}

/// The definition of that number; none of [`PLAIN`].
pub(super) fn read(connection: &Connection, number: u32) -> Result<Option<SeriesDefinition>, StateError> {
    let body = connection
        .prepare_cached("SELECT body FROM definition WHERE number = ?1")?
        .query_row([number], |row| row.get(0))
        .optional()?;
    Ok(body.map(|body| SeriesDefinition { number, body }))
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, FeatureRow, SeriesKey, SeriesQuery, State, StateReader};
    use super::*;
    use trunnion_common::feature::definition::{BANDS_MAX, SpeedSource};
    use trunnion_common::quantity::Unit;
    use trunnion_common::time::EventTime;

    fn basis(seconds: f64) -> Basis {
        Basis {
            unit: Unit::StandardGravity,
            rate_hz: 25_600.0,
            seconds,
            usable_low_hz: 1.0,
            usable_high_hz: 10_000.0,
            shaft_hz: 25.0,
            speed: SpeedSource::Declared,
            envelope_hz: None,
            bands: [None; BANDS_MAX],
        }
    }

    fn key() -> SeriesKey {
        SeriesKey {
            asset: "fan".to_owned(),
            point: "de".to_owned(),
            channel: "v".to_owned(),
        }
    }

    fn row(start: i64, basis: Option<Basis>, value: f32) -> FeatureRow {
        FeatureRow {
            series: key(),
            start: EventTime(start),
            end: EventTime(start + 10),
            decided: true,
            values: vec![("velocity_rms", value)],
            basis,
            ..FeatureRow::default()
        }
    }

    /// Values of the newest series, or of that of a definition.
    fn read(reader: &StateReader, definition: Option<u32>) -> Vec<f32> {
        let query = SeriesQuery {
            series: key(),
            stream: String::new(),
            feature: "velocity_rms".to_owned(),
            definition,
            from: EventTime(0),
            to: EventTime(1_000),
            limit: 10,
        };
        let told = reader.definition(&query).unwrap().map(|told| told.number);
        let values = reader.series(&query).unwrap();
        let is_as_asked = told == definition.filter(|number| *number != PLAIN);
        assert!(definition.is_none() || values.is_empty() || is_as_asked);
        values.iter().map(|value| value.value).collect()
    }

    #[test]
    fn a_changed_definition_starts_a_new_series_and_the_old_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.sqlite");
        let mut state = State::open(&path).unwrap();
        let reader = State::open_reader(&path).unwrap();
        let mut write = |features| {
            let batch = Batch {
                features,
                ..Batch::default()
            };
            state.write(&batch).unwrap();
        };
        write(vec![
            row(0, None, 0.5),
            row(10, Some(basis(1.0)), 1.0),
            row(20, Some(basis(1.0)), 2.0),
        ]);
        assert_eq!(read(&reader, None), [1.0, 2.0]);
        write(vec![row(30, Some(basis(2.0)), 3.0)]);
        assert_eq!(read(&reader, None), [3.0], "the newest");
        let number = |seconds| basis(seconds).define(FeatureKind::VelocityRms).number();
        assert_eq!(read(&reader, Some(number(1.0))), [1.0, 2.0]);
        assert_eq!(read(&reader, Some(PLAIN)), [0.5]);
        assert!(read(&reader, Some(1)).is_empty(), "no such definition");
        // Back to what it was: the series goes on.
        write(vec![row(40, Some(basis(1.0)), 4.0)]);
        assert_eq!(read(&reader, None), [1.0, 2.0, 4.0]);

        let names = reader.series_names(None, 10).unwrap();
        let told: Vec<_> = names
            .iter()
            .map(|name| name.definition.as_ref().unwrap())
            .collect();
        assert_eq!(
            told.iter().map(|told| told.number).collect::<Vec<_>>(),
            [number(1.0), number(2.0)]
        );
        assert!(told[0].body.contains("\"duration_ms\":800"), "{}", told[0].body);
    }
}
