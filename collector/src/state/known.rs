//! Rows of channels and series that were found before.
//!
//! Such a row is made once and never goes, so that its number can be remembered: looking for it again with every
//! value takes longer than writing the value.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | channels | [`CHANNELS_MAX`] | all of them are forgotten, and looked for again |

use super::definitions::series_id;
use super::{SeriesKey, StateError, channel_id};
use rusqlite::Transaction;
use std::collections::HashMap;
use trunnion_common::feature::definition::Basis;

/// Channels remembered, each with some 500 bytes of series.
const CHANNELS_MAX: usize = 32_768;

/// What the writer remembers. What was not committed is not there: with a transaction that fails, it forgets all.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Of each channel, by stream.
    channels: HashMap<SeriesKey, Vec<Channel>>,
}

/// The row of a channel in a stream, with those of its series.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: i64,
    stream: String,
    /// What the series' values were computed from.
    basis: Option<Basis>,
    series: Vec<(&'static str, i64)>,
}

impl Known {
    /// The row of a channel in a stream, which is made if it is not there.
    pub(super) fn channel(
        &mut self,
        to: &Transaction<'_>,
        key: &SeriesKey,
        stream: &str,
    ) -> Result<&mut Channel, StateError> {
        if !self.channels.contains_key(key) && self.channels.len() >= CHANNELS_MAX {
            self.channels.clear();
        }
        let streams = self.channels.entry(key.clone()).or_default();
        let at = match streams.iter().position(|channel| channel.stream == stream) {
            Some(at) => at,
            None => {
                streams.push(Channel {
                    id: channel_id(to, key, stream)?,
                    stream: stream.to_owned(),
                    basis: None,
                    series: Vec::new(),
                });
                streams.len() - 1
            }
        };
        Ok(&mut streams[at])
    }
}

impl Channel {
    /// The row of a feature's series, which is made if it is not there.
    pub(super) fn series(
        &mut self,
        to: &Transaction<'_>,
        feature: &'static str,
        basis: Option<&Basis>,
    ) -> Result<i64, StateError> {
        if self.basis.as_ref() != basis {
            self.series.clear();
            self.basis = basis.copied();
        }
        if let Some((_, id)) = self.series.iter().find(|(known, _)| *known == feature) {
            return Ok(*id);
        }
        let id = series_id(to, self.id, feature, basis)?;
        self.series.push((feature, id));
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AssetRow, Batch, FeatureRow, FleetRow, SeriesQuery, State};
    use super::*;
    use trunnion_common::time::EventTime;

    fn row(start: i64, stream: &str, values: &[(&'static str, f32)]) -> FeatureRow {
        FeatureRow {
            series: SeriesKey {
                asset: "fan".to_owned(),
                point: "de".to_owned(),
                channel: "v".to_owned(),
            },
            stream: stream.to_owned(),
            start: EventTime(start),
            end: EventTime(start + 10),
            decided: true,
            values: values.to_vec(),
            ..FeatureRow::default()
        }
    }

    #[test]
    fn rows_of_a_transaction_that_failed_are_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.sqlite");
        let mut state = State::open(&path).unwrap();
        let asset = || AssetRow {
            asset: "fan".to_owned(),
            name: String::new(),
            site: String::new(),
            area: String::new(),
        };
        let mut batch = Batch {
            features: vec![
                row(0, "", &[("mean", 1.0), ("rms", 2.0)]),
                row(0, "hourly", &[("mean", 3.0)]),
            ],
            fleet: Some(FleetRow {
                effective: EventTime(0),
                text: String::new(),
                // One asset twice.
                assets: vec![asset(), asset()],
            }),
            ..Batch::default()
        };
        assert!(state.write(&batch).is_err());
        batch.fleet = None;
        state.write(&batch).unwrap();
        batch.features = vec![row(10, "hourly", &[("mean", 4.0)]), row(10, "", &[("rms", 5.0)])];
        state.write(&batch).unwrap();
        let reader = State::open_reader(&path).unwrap();
        let values = |stream: &str, feature: &str| {
            let query = SeriesQuery {
                series: row(0, "", &[]).series,
                stream: stream.to_owned(),
                feature: feature.to_owned(),
                definition: None,
                from: EventTime(0),
                to: EventTime(100),
                limit: 10,
            };
            let values = reader.series(&query).unwrap();
            values.iter().map(|value| value.value).collect::<Vec<_>>()
        };
        assert_eq!(values("", "mean"), [1.0]);
        assert_eq!(values("", "rms"), [2.0, 5.0]);
        assert_eq!(values("hourly", "mean"), [3.0, 4.0]);
    }
}
