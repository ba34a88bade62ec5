//! The slow channels of one asset together: whether it has left what was learned, and when it changed.
//!
//! The readings of all channels at one time are a row. Rows are smoothed ([`super::ewma`]) and compared with
//! those learned by Hotelling's T-squared ([`super::hotelling`]); a channel that wandered while it was
//! learned counts for less ([`super::spread`]). The limit is wide, a multiple of the largest T-squared
//! learned, because a few hundred readings of a machine are far fewer independent ones: the largest itself
//! is exceeded by 45 % of the healthy readings of the rig below. Q is told beside it and raises nothing: there
//! it added six points of false alarms and saved one of misses.
//!
//! Chosen on the 16 runs of valve 1 of the Skoltech Anomaly Benchmark; a fifth more or less of any number
//! leaves F1 at 0.87 or above.

use super::change::{Change, ChangePoints};
use super::ewma::Ewma;
use super::hotelling::{CHANNELS_MAX, Covariance, Model, Row};
use super::hysteresis::{Edge, Hysteresis, Limits};
use super::spread::Spread;
use crate::time::EventTime;
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// Readings of all channels that are learned from at most, unless the detector's type says otherwise: 400
/// rows of 16. They are kept while learning, and their place is part of the detector's size afterwards.
pub const LEARNING_CELLS: usize = 400 * CHANNELS_MAX;

/// What is set for an asset.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Rows learned from before any is judged; as many as fit in the detector. They should span a warm-up and
    /// a cycle of the process: a rig that was learned for seven minutes of its warming up had left what was
    /// learned ten minutes later, and from 27 minutes on never did. With fewer than
    /// [`super::change::HISTORY`], no change of level is ever told.
    pub learning: u16,
    /// Share of the newest row in the smoothed one.
    pub weight: f64,
    /// The limit, as a multiple of the largest T-squared learned.
    pub factor: f64,
    /// Share of the limit below which the asset has returned.
    pub clear: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            learning: 400,
            weight: 0.05,
            factor: 4.0,
            clear: 0.8,
        }
    }
}

/// The asset has left what was learned, or returned to it.
#[derive(Clone, PartialEq, Debug)]
pub struct Departure {
    /// Which of both.
    pub edge: Edge,
    /// Share of each channel in T-squared; they sum to 1.
    pub contributions: Row,
}

/// What is said of one row.
#[derive(Clone, PartialEq, Debug)]
pub struct Judgement {
    /// When the row was read.
    pub at: EventTime,
    /// T-squared over its limit.
    pub distance: f64,
    /// Q over the largest learned.
    pub residual: f64,
    /// Whether the asset is outside of what was learned.
    pub outside: bool,
    /// That this is new, if it is.
    pub departure: Option<Departure>,
    /// A change of level, if there is one.
    pub change: Option<Change>,
}

/// What was learned of an asset: all that rows are judged by.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Learned {
    model: Model,
    /// Of T-squared.
    limit: f64,
    /// The largest Q learned.
    residual: f64,
}

impl Learned {
    /// Means, scales and how the channels go together.
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// Whether it is of so many channels and rows can be judged by it: what comes from elsewhere may be anything.
    pub fn is_sound(&self, channels: usize) -> bool {
        let is_distance = |number: f64| number.is_finite() && number > 0.0;
        self.model.is_sound(channels) && is_distance(self.limit) && is_distance(self.residual)
    }

    /// The next smoothed row; changes of level are somebody else's.
    fn judge(&self, at: EventTime, smoothed: &[f64], clear: f64, state: &mut Hysteresis) -> Judgement {
        let t_squared = self.model.t_squared(smoothed);
        let limits = Limits {
            raise: self.limit,
            clear: self.limit * clear,
            raise_after: 1,
            clear_after: 1,
        };
        let edge = state.push(t_squared.value, &limits);
        let sum = t_squared.value.max(f64::MIN_POSITIVE);
        let shares = || t_squared.contributions.iter().map(|each| each / sum).collect();
        Judgement {
            at,
            distance: t_squared.value / self.limit,
            residual: self.model.q(smoothed).value / self.residual,
            outside: state.is_raised(),
            departure: edge.map(|edge| Departure {
                edge,
                contributions: shares(),
            }),
            change: None,
        }
    }
}

/// The detector of one asset. Rows of the same channels go in in the order of their time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Multivariate<const CELLS: usize = LEARNING_CELLS> {
    settings: Settings,
    smooth: Vec<Ewma, CHANNELS_MAX>,
    phase: Phase<CELLS>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(
    clippy::large_enum_variant,
    reason = "without allocation, and both are needed in turn"
)]
enum Phase<const CELLS: usize> {
    /// Row by row, as read.
    Learning(Vec<f32, CELLS>),
    Judging {
        learned: Learned,
        state: Hysteresis,
        changes: ChangePoints,
    },
    /// What was learned has no model: a figure beyond all bounds.
    Blind,
}

impl<const CELLS: usize> Multivariate<CELLS> {
    /// A detector that has seen nothing, for so many channels; those beyond [`CHANNELS_MAX`] are not looked
    /// at.
    pub fn new(channels: usize, settings: Settings) -> Self {
        let smooth = (0..channels.min(CHANNELS_MAX)).map(|_| Ewma::new(settings.weight));
        Self {
            settings,
            smooth: smooth.collect(),
            phase: Phase::Learning(Vec::new()),
        }
    }

    /// Takes the next row. One with a gap, or with fewer channels than it was made for, says nothing and
    /// interrupts nothing. `None` while learning.
    pub fn handle_row(&mut self, at: EventTime, row: &[f32]) -> Option<Judgement> {
        let channels = self.smooth.len();
        let row = row.get(..channels)?;
        if channels == 0 || row.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let smoothed = smoothed(&mut self.smooth, row);
        match &mut self.phase {
            Phase::Learning(cells) => {
                // A whole number of rows fits: it is emptied before the one that would not.
                cells.extend_from_slice(row).unwrap_or_default();
                let rows = usize::from(self.settings.learning).min(CELLS / channels);
                if cells.len() >= rows * channels {
                    let cells = core::mem::take(cells);
                    self.phase = learn(&self.settings, &cells, channels);
                }
                None
            }
            Phase::Judging {
                learned,
                state,
                changes,
            } => Some(Judgement {
                change: changes.handle_row(row),
                ..learned.judge(at, &smoothed, self.settings.clear, state)
            }),
            Phase::Blind => None,
        }
    }

    /// What was learned of the channels, once it was.
    pub const fn learned(&self) -> Option<&Learned> {
        match &self.phase {
            Phase::Judging { learned, .. } => Some(learned),
            Phase::Learning(_) | Phase::Blind => None,
        }
    }

    /// Rows learned from so far, while it learns.
    pub fn learning(&self) -> Option<usize> {
        match &self.phase {
            Phase::Learning(cells) => Some(cells.len() / self.smooth.len().max(1)),
            Phase::Judging { .. } | Phase::Blind => None,
        }
    }

    /// Whether rows are judged yet.
    pub const fn is_judging(&self) -> bool {
        matches!(self.phase, Phase::Judging { .. })
    }
}

/// Judges rows by what somebody else has learned.
///
/// Smoothing begins at the means that were learned: a start shows nothing by itself, and what was off before is
/// seen once rows have said so, [`Self::run_in`] of them where it is little.
#[derive(Clone, PartialEq, Debug)]
pub struct Judge {
    learned: Learned,
    /// As in [`Settings`].
    clear: f64,
    smooth: Vec<Ewma, CHANNELS_MAX>,
    state: Hysteresis,
}

impl Judge {
    /// By what was learned with those settings.
    pub fn new(learned: Learned, settings: &Settings) -> Self {
        let average = Ewma::new(settings.weight);
        let smooth = learned.model.means().iter();
        Self {
            smooth: smooth.map(|mean| average.starting_at(*mean)).collect(),
            clear: settings.clear,
            state: Hysteresis::default(),
            learned,
        }
    }

    /// Rows after which a start counts for a twentieth at most, with those settings.
    pub fn run_in(settings: &Settings) -> u32 {
        let left = libm::log1p(-settings.weight.clamp(1e-6, 1.0 - 1e-6));
        libm::ceil(libm::log(0.05) / left) as u32
    }

    /// Takes the next row, as [`Multivariate::handle_row`] does. Changes of level are not looked for.
    pub fn handle_row(&mut self, at: EventTime, row: &[f32]) -> Option<Judgement> {
        let row = row.get(..self.smooth.len())?;
        if row.is_empty() || row.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let smoothed = smoothed(&mut self.smooth, row);
        Some(self.learned.judge(at, &smoothed, self.clear, &mut self.state))
    }
}

fn smoothed(smooth: &mut [Ewma], row: &[f32]) -> Row {
    smooth
        .iter_mut()
        .zip(row)
        .map(|(average, value)| average.push((*value).into()))
        .collect()
}

/// What the learned rows say of those to come.
fn learn<const CELLS: usize>(settings: &Settings, cells: &[f32], channels: usize) -> Phase<CELLS> {
    let rows = || cells.chunks_exact(channels);
    let count = (cells.len() / channels) as u16;
    let each_smoothed = || {
        let mut smooth: Vec<Ewma, CHANNELS_MAX> = (0..channels).map(|_| Ewma::new(settings.weight)).collect();
        rows().map(move |row| smoothed(&mut smooth, row))
    };
    let mut covariance = Covariance::default();
    each_smoothed().for_each(|row| covariance.push(&row));
    let mut spreads: Vec<Spread, CHANNELS_MAX> = (0..channels).map(|_| Spread::new(count)).collect();
    for row in rows() {
        for (spread, value) in spreads.iter_mut().zip(row) {
            spread.push((*value).into());
        }
    }
    let widening: Row = spreads.iter().map(Spread::widening).collect();
    let Some(model) = Model::new(&covariance, &widening) else {
        return Phase::Blind;
    };
    let (t_squared, residual) = each_smoothed().fold((0.0f64, 0.0f64), |(t_squared, residual), row| {
        (
            t_squared.max(model.t_squared(&row).value),
            residual.max(model.q(&row).value),
        )
    });
    let learned = Learned {
        model,
        // An asset that stood still has no distance to multiply: one learned deviation of one channel.
        limit: settings.factor * t_squared.max(1.0),
        residual: residual.max(f64::MIN_POSITIVE),
    };
    Phase::Judging {
        learned,
        state: Hysteresis::default(),
        changes: ChangePoints::learn(rows(), covariance.mean()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(index: u32) -> f32 {
        (index.wrapping_mul(2_654_435_761) >> 16) as f32 / 65_536.0 - 0.5
    }

    /// A pump: flow and current go together, the water's temperature wanders.
    fn pump(index: u32) -> [f32; 3] {
        let load = noise(index / 20);
        [
            100.0 + 10.0 * load + noise(index * 3 + 1),
            20.0 + 2.0 * load + 0.2 * noise(index * 3 + 2),
            60.0 + (index as f32 / 90.0).sin() + 0.1 * noise(index * 3),
        ]
    }

    fn judge(rows: impl Iterator<Item = [f32; 3]>) -> std::vec::Vec<(usize, Judgement)> {
        let mut detector: Multivariate = Multivariate::new(3, Settings::default());
        let judged = |(index, row): (usize, [f32; 3])| {
            Some((index, detector.handle_row(EventTime(index as i64), &row)?))
        };
        rows.enumerate().filter_map(judged).collect()
    }

    #[test]
    fn a_healthy_asset_stays_inside() {
        let judged = judge((0..4_000).map(pump));
        assert_eq!(judged.len(), 3_600);
        assert!(judged.iter().all(|(_, judgement)| !judgement.outside));
        assert!(judged.iter().all(|(_, judgement)| judgement.change.is_none()));
    }

    #[test]
    fn channels_that_no_longer_go_together_are_told_with_the_one_that_left() {
        // The flow falls by a tenth and the current does not follow: neither is out of its own range.
        let choked = |index| {
            let [flow, current, temperature] = pump(index);
            [if index < 800 { flow } else { flow - 7.0 }, current, temperature]
        };
        let judged = judge((0..1_600).map(choked));
        let (index, judgement) = judged
            .iter()
            .find(|(_, judgement)| judgement.departure.is_some())
            .unwrap();
        assert!((800..840).contains(index), "{index}");
        let departure = judgement.departure.as_ref().unwrap();
        assert_eq!(departure.edge, Edge::Raised);
        let [flow, current, temperature] = departure.contributions[..] else {
            panic!("three channels");
        };
        assert!(flow > current && flow > temperature, "{departure:?}");
        assert!((flow + current + temperature - 1.0).abs() < 1e-9);
        assert!(judgement.residual > 1.0, "{judgement:?}");
    }

    #[test]
    fn it_returns_when_the_asset_does() {
        let stopped = |index| {
            let mut row = pump(index);
            if (800..1_000).contains(&index) {
                row[0] = 0.0;
            }
            row
        };
        let judged = judge((0..2_000).map(stopped));
        let edges: std::vec::Vec<_> = judged
            .iter()
            .filter_map(|(_, judgement)| Some(judgement.departure.as_ref()?.edge))
            .collect();
        assert_eq!(edges, [Edge::Raised, Edge::Cleared]);
        assert!(judged.iter().any(|(_, judgement)| judgement.change.is_some()));
    }

    #[test]
    fn who_judges_by_what_another_has_learned_says_the_same_once_both_have_heard_enough() {
        let settings = Settings::default();
        let mut detector: Multivariate = Multivariate::new(3, settings);
        (0..400).for_each(|index| {
            detector.handle_row(EventTime(0), &pump(index));
        });
        let learned = detector.learned().unwrap().clone();
        assert!(learned.is_sound(3) && !learned.is_sound(2));
        let mut judge = Judge::new(learned, &settings);
        assert_eq!(Judge::run_in(&settings), 59);
        let choked = |index| {
            let [flow, current, temperature] = pump(index);
            [if index < 800 { flow } else { flow - 7.0 }, current, temperature]
        };
        for index in 400..1_200 {
            let at = EventTime(index.into());
            let [own, other] = [
                detector.handle_row(at, &choked(index)),
                judge.handle_row(at, &choked(index)),
            ]
            .map(Option::unwrap);
            if index >= 700 {
                assert!((own.distance - other.distance).abs() < 1e-3, "{index}");
                assert_eq!(own.outside, other.outside, "{index}");
            }
            if index < 800 {
                assert!(other.distance < 1.0, "a start shows nothing: {index}");
            }
        }
        assert_eq!(judge.handle_row(EventTime(0), &[1.0, f32::NAN, 2.0]), None);
    }

    #[test]
    fn a_row_with_a_gap_or_too_few_channels_says_nothing() {
        let mut detector: Multivariate = Multivariate::new(3, Settings::default());
        for index in 0..500 {
            detector.handle_row(EventTime(index.into()), &pump(index));
        }
        let before = detector.clone();
        assert_eq!(detector.handle_row(EventTime(500), &[1.0, f32::NAN, 2.0]), None);
        assert_eq!(detector.handle_row(EventTime(500), &[1.0, 2.0]), None);
        assert_eq!(detector, before);
    }

    #[test]
    fn its_state_survives_a_restart_while_learning_and_after() {
        let mut buffer = std::vec![0; 65_536];
        for rows in [300, 500] {
            let mut detector: Multivariate = Multivariate::new(3, Settings::default());
            for index in 0..rows {
                detector.handle_row(EventTime(index.into()), &pump(index));
            }
            let bytes = postcard::to_slice(&detector, &mut buffer).unwrap();
            let mut restarted: Multivariate = postcard::from_bytes(bytes).unwrap();
            for index in rows..rows + 200 {
                let at = EventTime(index.into());
                assert_eq!(
                    restarted.handle_row(at, &pump(index)),
                    detector.handle_row(at, &pump(index))
                );
            }
        }
    }

    #[test]
    fn more_channels_than_it_can_hold_are_not_looked_at() {
        let mut detector: Multivariate = Multivariate::new(40, Settings::default());
        for index in 0..500 {
            let row: [f32; 40] = core::array::from_fn(|channel| noise(index * 40 + channel as u32));
            detector.handle_row(EventTime(index.into()), &row);
        }
        assert!(detector.is_judging());
    }
}
