//! Remaining life from the trend of one feature and its limit. Pure.
//!
//! Normal is the median of the first readings after run-in, or given by whoever keeps the baseline. The
//! way from normal to the limit is measured in logarithms, since damage grows by its own size. An
//! [`OnsetDetector`] says when a fault has begun; from then on the time until the way is gone is the first
//! passage of a Wiener process (`passage.rs`). The way gone is the median of the last readings:
//! single blows are signs of a fault, and not how far it has come.
//!
//! The end is one time, of which every reading since the onset tells anew: a bound that is told is the earlier of what
//! the last reading tells and the median of what the last readings told. It makes intervals a seventh narrower, which
//! hold the truth a hundredth less of the time.
//!
//! Chosen on the six learning runs of PRONOSTIA (peak acceleration of both axes against 20 g): how many
//! readings make normal, the reference of the onset, the diffusion, and over how many readings bounds are compared.

use super::onset::OnsetDetector;
use super::passage::{Passage, Seen};
use super::{Outlook, Prognosis, RemainingLife};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use trunnion_common::time::EventTime;

/// Readings left out at the beginning: run-in.
const RUN_IN: u32 = 10;
/// Readings that make normal.
const LEARNED: usize = 60;
/// Readings whose median is the way gone.
const SMOOTHED: usize = 25;
/// Readings whose bounds are compared. On the learning runs intervals are 2.2 times the truth without and 1.9 with 60,
/// and from 20 to 60 hold it in more than 80 % of the time. With many more they come after what hurries.
const COMPARED: usize = 60;
/// The chance at which the upper bound of one reading is drawn: the earlier of two comes before the end more often than
/// either, so each lies further out than [`RemainingLife::QUANTILES`].
const UPPER_CHANCE: f64 = 0.86;
/// The limit lies at least so far above normal: below that, scatter alone goes much of the way.
const LIMIT_OVER_NORMAL_MIN: f64 = 1.5;
/// A reading counts as at least this share of normal, so that its logarithm stays a number.
const READING_MIN: f64 = 1e-3;

/// The trend of one feature on its way to a limit.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Degradation {
    limit: f64,
    normal: Normal,
    onset: OnsetDetector,
    /// The way that the last [`SMOOTHED`] readings had gone, oldest first.
    recent: VecDeque<f64>,
    /// What the last [`COMPARED`] readings since the onset told, oldest first.
    told: VecDeque<Bounds>,
    clock: Option<Clock>,
    outlook: Outlook,
}

/// The interval of one reading: time from the first reading until the end, seconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct Bounds {
    lower_s: f64,
    upper_s: f64,
}

/// What normal is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
enum Normal {
    /// Not known yet: how many readings of the run-in were left out, and those after it.
    Learning {
        left_out: u32,
        readings: Vec<f64>,
    },
    Known(f64),
}

/// When readings came.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct Clock {
    first: EventTime,
    last: EventTime,
    readings: u64,
}

impl Clock {
    fn seconds(from: EventTime, to: EventTime) -> f64 {
        to.nanos_since(from) as f64 * 1e-9
    }

    /// Mean time between readings, seconds; with one reading, a second.
    fn cadence_s(&self) -> f64 {
        if self.readings < 2 {
            return 1.0;
        }
        Self::seconds(self.first, self.last) / (self.readings - 1) as f64
    }
}

impl Degradation {
    /// A feature whose normal is to be learned from its first readings. `limit` is where its life ends, in
    /// its own unit; none unless that is a positive number.
    pub fn new(limit: f64) -> Option<Self> {
        let learning = Normal::Learning {
            left_out: 0,
            readings: Vec::new(),
        };
        Self::with(limit, learning)
    }

    /// A feature whose normal is known; none unless both are positive numbers.
    pub fn with_normal(normal: f64, limit: f64) -> Option<Self> {
        if !(normal.is_finite() && normal > 0.0) {
            return None;
        }
        Self::with(limit, Normal::Known(normal))
    }

    fn with(limit: f64, normal: Normal) -> Option<Self> {
        (limit.is_finite() && limit > 0.0).then(|| Self {
            limit,
            normal,
            onset: OnsetDetector::default(),
            recent: VecDeque::with_capacity(SMOOTHED),
            told: VecDeque::new(),
            clock: None,
            outlook: Outlook::Learning,
        })
    }

    /// What was said last.
    pub const fn outlook(&self) -> Outlook {
        self.outlook
    }

    /// How far the feature has gone from normal (0) to the limit (1), by its last readings; none while
    /// normal is learned.
    pub fn progress(&self) -> Option<f64> {
        median(self.recent.iter().copied())
    }

    /// Normal, if it is known by now.
    fn learn(&mut self, reading: f64) -> Option<f64> {
        match &mut self.normal {
            Normal::Known(normal) => return Some(*normal),
            Normal::Learning { left_out, .. } if *left_out < RUN_IN => *left_out += 1,
            Normal::Learning { readings, .. } => {
                readings.push(reading);
                if readings.len() == LEARNED {
                    let normal = median(readings.iter().copied()).unwrap_or_default();
                    self.normal = Normal::Known(normal);
                }
            }
        }
        None
    }

    fn judge(&mut self, clock: Clock, normal: f64, reading: f64) -> Outlook {
        let over_normal = self.limit / normal;
        // A normal of 0 (a sensor that is off) leaves no way to measure, either.
        if !(over_normal.is_finite() && over_normal >= LIMIT_OVER_NORMAL_MIN) {
            return Outlook::Undetermined;
        }
        let progress = (reading / normal).max(READING_MIN).ln() / over_normal.ln();
        while self.recent.len() >= SMOOTHED {
            self.recent.pop_front();
        }
        self.recent.push_back(progress);
        let Some(since) = self.onset.handle_progress(clock.last, progress) else {
            self.told.clear();
            return Outlook::BeforeOnset;
        };
        let passage = Passage::new(Seen {
            before_s: Clock::seconds(clock.first, since),
            // The reading that showed it first was taken at the end of the time it speaks for.
            since_s: Clock::seconds(since, clock.last) + clock.cadence_s(),
            cadence_s: clock.cadence_s(),
            progress: self.progress().unwrap_or_default(),
        });
        let [lower, middle, _] = RemainingLife::QUANTILES;
        let [lower_s, median_s, upper_s] =
            [lower, middle, UPPER_CHANCE].map(|chance| passage.quantile(chance));
        let now = RemainingLife {
            lower_s,
            median_s,
            upper_s,
        };
        let remaining = self.compare(Clock::seconds(clock.first, clock.last), now);
        Outlook::Declining { since, remaining }
    }

    /// The interval by what was told so far, so long after the first reading, and now.
    fn compare(&mut self, age_s: f64, now: RemainingLife) -> RemainingLife {
        while self.told.len() >= COMPARED {
            self.told.pop_front();
        }
        self.told.push_back(Bounds {
            lower_s: age_s + now.lower_s,
            upper_s: age_s + now.upper_s,
        });
        let earlier = |now_s: f64, of: fn(&Bounds) -> f64| {
            let told = median(self.told.iter().map(of)).unwrap_or(f64::INFINITY);
            now_s.min(told - age_s)
        };
        RemainingLife {
            lower_s: earlier(now.lower_s, |told| told.lower_s).max(0.0),
            median_s: now.median_s,
            upper_s: earlier(now.upper_s, |told| told.upper_s).max(now.median_s),
        }
    }
}

impl Prognosis for Degradation {
    fn handle_readings(&mut self, at: EventTime, readings: &[f64]) -> Outlook {
        let &[reading] = readings else {
            return self.outlook;
        };
        let mut clock = self.clock.unwrap_or(Clock {
            first: at,
            last: at,
            readings: 0,
        });
        let is_next = clock.readings == 0 || at.nanos_since(clock.last) > 0;
        if !reading.is_finite() || !is_next {
            return self.outlook;
        }
        clock.last = at;
        clock.readings += 1;
        self.clock = Some(clock);
        if let Some(normal) = self.learn(reading) {
            self.outlook = self.judge(clock, normal, reading);
        }
        self.outlook
    }
}

/// The median; of an even number, the mean of the two in the middle. None of nothing.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    Some(if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[half - 1], upper)
    } else {
        upper
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second between readings.
    fn at(index: usize) -> EventTime {
        EventTime(index as i64 * 1_000_000_000)
    }

    /// Scatter of a tenth, the same in every run.
    fn scatter(index: usize) -> f64 {
        (index as f64 * 12.9898).sin() * 0.1
    }

    /// Healthy for `healthy` readings at 1, then growing exponentially to 10 at reading `end`.
    fn run_to_failure(healthy: usize, end: usize) -> Vec<f64> {
        (0..end)
            .map(|index| {
                let share = index.saturating_sub(healthy) as f64 / (end - healthy) as f64;
                (10f64.ln() * share + scatter(index)).exp()
            })
            .collect()
    }

    fn outlooks(model: &mut Degradation, readings: &[f64]) -> Vec<Outlook> {
        let told = readings.iter().enumerate();
        told.map(|(index, reading)| model.handle_readings(at(index), &[*reading]))
            .collect()
    }

    #[test]
    fn nothing_is_said_before_onset() {
        let mut model = Degradation::new(10.0).unwrap();
        let healthy: Vec<f64> = (0..2_000).map(|index| scatter(index).exp()).collect();
        let outlooks = outlooks(&mut model, &healthy);
        assert!(outlooks[..69].iter().all(|outlook| *outlook == Outlook::Learning));
        assert!(
            outlooks[70..]
                .iter()
                .all(|outlook| *outlook == Outlook::BeforeOnset)
        );
    }

    #[test]
    fn after_onset_the_interval_holds_the_truth_and_narrows() {
        let readings = run_to_failure(600, 1_000);
        let mut model = Degradation::new(10.0).unwrap();
        let outlooks = outlooks(&mut model, &readings);
        let told: Vec<(f64, RemainingLife)> = outlooks
            .iter()
            .enumerate()
            .filter_map(|(index, outlook)| Some(((1_000 - index) as f64, outlook.remaining()?)))
            .collect();
        assert!(told.len() > 200 && told.len() < 300, "{}", told.len());
        let held = told.iter().filter(|(truth, remaining)| remaining.holds(*truth));
        assert!(held.count() as f64 >= 0.8 * told.len() as f64);
        let width = |index: usize| told[index].1.width_s();
        assert!(width(0) > 2.0 * width(told.len() - 20));
    }

    #[test]
    fn one_reading_moves_an_interval_towards_the_end_at_once_and_away_from_it_later() {
        let mut model = Degradation::with_normal(1.0, 10.0).unwrap();
        let now = |median_s: f64| RemainingLife {
            lower_s: 0.5 * median_s,
            median_s,
            upper_s: 2.0 * median_s,
        };
        for age in (0..20).map(f64::from) {
            model.compare(age, now(1_000.0 - age));
        }
        let sooner = model.clone().compare(20.0, now(300.0));
        assert_eq!(
            sooner,
            now(300.0),
            "nothing that was told keeps an earlier end back"
        );
        let later = model.compare(20.0, now(3_000.0));
        assert_eq!(later.median_s, 3_000.0);
        assert!(later.lower_s < 500.0 && later.upper_s == 3_000.0, "{later:?}");
        // What was told is forgotten in time.
        for age in 21..=60 {
            model.compare(f64::from(age), now(3_000.0));
        }
        assert_eq!(model.compare(61.0, now(2_900.0)).upper_s, 5_800.0);
    }

    #[test]
    fn a_known_normal_needs_no_learning() {
        let mut model = Degradation::with_normal(1.0, 10.0).unwrap();
        assert_eq!(model.handle_readings(at(0), &[1.1]), Outlook::BeforeOnset);
        assert_eq!(Degradation::with_normal(0.0, 10.0), None);
        assert_eq!(Degradation::new(f64::NAN), None);
    }

    #[test]
    fn a_limit_within_the_scatter_leaves_it_undetermined() {
        let mut model = Degradation::with_normal(1.0, 1.2).unwrap();
        assert_eq!(model.handle_readings(at(0), &[1.19]), Outlook::Undetermined);
    }

    #[test]
    fn readings_out_of_order_and_what_is_no_number_change_nothing() {
        let mut model = Degradation::with_normal(1.0, 10.0).unwrap();
        model.handle_readings(at(5), &[1.0]);
        let before = model.clone();
        model.handle_readings(at(5), &[9.0]);
        model.handle_readings(at(4), &[9.0]);
        model.handle_readings(at(6), &[f64::NAN]);
        model.handle_readings(at(6), &[1.0, 2.0]);
        assert_eq!(model, before);
    }

    #[test]
    fn a_model_taken_up_from_its_image_goes_on_alike() {
        let readings = run_to_failure(200, 400);
        let mut model = Degradation::new(10.0).unwrap();
        outlooks(&mut model, &readings[..300]);
        let bytes = postcard::to_stdvec(&model).unwrap();
        let mut again: Degradation = postcard::from_bytes(&bytes).unwrap();
        for (index, &reading) in readings.iter().enumerate().skip(300) {
            let outlook = model.handle_readings(at(index), &[reading]);
            assert_eq!(again.handle_readings(at(index), &[reading]), outlook);
        }
    }
}
