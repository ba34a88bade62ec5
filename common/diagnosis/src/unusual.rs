//! What rows of slow channels show that is unusual, and for how long that is held: one channel by itself, and a
//! group. Pure.
//!
//! An anomaly of one channel ([`Scalar`]) is told once, so it is held for [`HELD_READINGS`] further readings. That
//! a group has left what was learned is held by the asset's persistence. Both are evidence and no verdict: the
//! level is never above ALERT.

use crate::rows::{Row, Rows};
use serde::{Deserialize, Serialize};
use trunnion_common::detection::hotelling::CHANNELS_MAX;
use trunnion_common::detection::hysteresis::Edge;
use trunnion_common::detection::multivariate::Judgement;
use trunnion_common::detection::scalar::{self, Scalar};
use trunnion_common::id::{ChannelId, NodeId};
use trunnion_common::level::{Latch, Level, Persistence};
use trunnion_common::slow::Window;
use trunnion_common::time::EventTime;
use trunnion_common::watch::UnusualRow;

/// Readings after an anomaly for which it is held: as many windows as a level is cleared on.
pub const HELD_READINGS: u8 = Latch::CLEAR_WINDOWS as u8;

/// What is to be told of a row.
#[derive(Clone, PartialEq, Debug)]
pub struct Told {
    /// The level that is held.
    pub held: Level,
    /// What the row itself shows; none where it is as it was.
    pub shown: Option<Shown>,
}

/// That nothing is held any more.
pub const OVER: Told = Told {
    held: Level::Normal,
    shown: None,
};

/// What a row shows that is unusual.
#[derive(Clone, PartialEq, Debug)]
pub struct Shown {
    /// Of one channel how rare the reading is, nats; of a group T-squared over its limit.
    pub value: f32,
    /// From where on it is told.
    pub limit: f32,
    /// Of a group: Q over the largest learned.
    pub residual: Option<f32>,
    /// Of a group: how few of the last rows lay there, from 0 to 1, where somebody has looked.
    pub rarity: Option<f32>,
    /// Of a group: the share of each channel in T-squared when it left what was learned, in the order of the row.
    pub contributions: Vec<f32>,
}

impl Shown {
    /// As a gateway tells of it; of a group, with its channels in the order of the row.
    pub fn told(&self, channels: &[(NodeId, ChannelId)]) -> UnusualRow {
        let shares = channels.iter().copied().zip(self.contributions.iter().copied());
        UnusualRow {
            value: self.value,
            limit: self.limit,
            residual: self.residual,
            contributions: shares.take(CHANNELS_MAX).collect(),
        }
    }
}

/// One channel.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Alone {
    rows: Rows,
    detector: Box<Scalar>,
    /// Readings since the last anomaly, while it is held.
    since: Option<u8>,
}

impl Alone {
    /// One of which nothing is known, whose readings are averaged over so many nanoseconds.
    pub fn new(every_ns: i64) -> Self {
        Self {
            rows: Rows::new(every_ns, 1),
            detector: Box::new(Scalar::new(scalar::Settings::default())),
            since: None,
        }
    }

    /// Over how many nanoseconds readings are averaged.
    pub const fn every_ns(&self) -> i64 {
        self.rows.every_ns()
    }

    /// Takes the next window of readings, in the order of event time. Nothing is learned or judged of one in which
    /// the machine stands still.
    pub fn handle_window(&mut self, window: &Window, is_off: bool) {
        let readings = window.readings().filter(|_| !is_off);
        self.rows.add(0, (window.start, window.end), readings);
    }

    /// The next row that is over and what is to be told of it; none when there is no such row yet.
    pub fn poll(&mut self) -> Option<(Row, Option<Told>)> {
        let row = self.rows.poll()?;
        let value = row.values.first().copied().unwrap_or(f32::NAN);
        let told = self.handle_reading(row.end, value);
        Some((row, told))
    }

    /// Event time was set back: what is known of the channel stays.
    pub fn handle_set_back(&mut self) {
        self.rows.begin_anew();
    }

    fn handle_reading(&mut self, at: EventTime, value: f32) -> Option<Told> {
        if let Some(anomaly) = self.detector.handle_reading(at, value) {
            self.since = Some(0);
            return Some(Told {
                held: Level::Alert,
                shown: Some(Shown {
                    value: anomaly.score as f32,
                    limit: scalar::Settings::default().threshold as f32,
                    residual: None,
                    rarity: None,
                    contributions: Vec::new(),
                }),
            });
        }
        let since = self.since?.saturating_add(u8::from(value.is_finite()));
        self.since = (since < HELD_READINGS).then_some(since);
        self.since.is_none().then_some(OVER)
    }
}

/// Whether a group is held to have left what was learned, and by whose doing.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Departed {
    latch: Latch,
    /// Of each channel, when the group last left what was learned.
    contributions: Vec<f32>,
}

impl Departed {
    /// A row that says nothing: a channel is missing, or the machine stands still.
    pub fn handle_gap(&mut self, persistence: Persistence) {
        self.latch.handle_window(None, persistence);
    }

    /// Nothing is held any more.
    pub fn begin_anew(&mut self) {
        self.latch = Latch::default();
    }

    /// Remembers whose doing it is that the group leaves what was learned, where a row says so.
    pub fn note(&mut self, judgement: &Judgement) {
        if let Some(departure) = &judgement.departure
            && departure.edge == Edge::Raised
        {
            let shares = departure.contributions.iter().map(|share| *share as f32);
            self.contributions = shares.collect();
        }
    }

    /// Takes a row that was judged and noted; what is to be told, where anything is held or was.
    pub fn handle(
        &mut self,
        judgement: &Judgement,
        rarity: Option<f64>,
        persistence: Persistence,
    ) -> Option<Told> {
        let reached = if judgement.outside {
            Level::Alert
        } else {
            Level::Normal
        };
        let changed = self.latch.handle_window(Some(reached), persistence);
        let is_news = changed.is_some() || self.latch.held() > Level::Normal;
        is_news.then(|| Told {
            held: self.latch.held(),
            shown: judgement.outside.then(|| Shown {
                value: judgement.distance as f32,
                limit: 1.0,
                residual: Some(judgement.residual as f32),
                rarity: rarity.map(|rarity| rarity as f32),
                contributions: self.contributions.clone(),
            }),
        })
    }
}

/// The readings of a group's row that can be judged: none where one is missing, or where the machine stands still by
/// the place of the row that `running` names, with what that is above while it runs.
pub fn judged(row: &Row, channels: usize, running: Option<(usize, f32)>) -> Option<&[f32]> {
    let value = |place: usize| row.values.get(place).copied().unwrap_or(f32::NAN);
    let is_off = running.is_some_and(|(place, above)| value(place) <= above);
    let readings = row.values.get(..channels)?;
    (!is_off && readings.iter().all(|value| value.is_finite())).then_some(readings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_judged_when_all_channels_are_there_and_the_machine_is_not_known_to_stand_still() {
        let is_judged = |values: [f32; 3], running| {
            let row = Row {
                end: EventTime(0),
                values: values.to_vec(),
            };
            judged(&row, 2, running) == Some(&values[..2])
        };
        let witness = Some((2, 5.0));
        assert!(is_judged([1.0, 2.0, f32::NAN], None) && is_judged([1.0, 2.0, 6.0], witness));
        assert!(
            is_judged([1.0, 2.0, f32::NAN], witness),
            "nobody says that it stands still"
        );
        assert!(!is_judged([1.0, 2.0, 5.0], witness) && !is_judged([1.0, f32::NAN, 6.0], witness));
        assert!(
            !is_judged([1.0, 2.0, 6.0], Some((0, 1.0))),
            "a channel may tell it itself"
        );
    }

    #[test]
    fn what_a_group_shows_is_told_by_the_channels_of_its_row() {
        let name = |channel| (NodeId::new(7).unwrap(), ChannelId::new(channel).unwrap());
        let shown = Shown {
            value: 1.5,
            limit: 1.0,
            residual: Some(2.0),
            rarity: None,
            contributions: vec![0.25, 0.75],
        };
        let told = shown.told(&[name(3), name(1)]);
        assert_eq!(told.contributions[..], [(name(3), 0.25), (name(1), 0.75)]);
        assert!(shown.told(&[]).contributions.is_empty(), "a channel by itself");
    }
}
