//! A limit with memory: raised by what stays beyond it, cleared by what stays well below.

use serde::{Deserialize, Serialize};

/// Where the state changes.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Raised above this.
    pub raise: f64,
    /// Cleared below this, which is at most `raise`.
    pub clear: f64,
    /// Readings in a row above `raise` until it is raised; 0 counts as 1.
    pub raise_after: u16,
    /// Readings in a row below `clear` until it is cleared; 0 counts as 1.
    pub clear_after: u16,
}

/// A change of the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// It went beyond the limit and stayed.
    Raised,
    /// It came back and stayed.
    Cleared,
}

/// Whether a statistic is beyond its limit, without chatter.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Hysteresis {
    raised: bool,
    /// Readings in a row that speak for the other state.
    against: u16,
}

impl Hysteresis {
    /// Takes the next value; one that is not a number says nothing and interrupts nothing.
    pub fn push(&mut self, value: f64, limits: &Limits) -> Option<Edge> {
        let (speaks, after) = if self.raised {
            (value < limits.clear, limits.clear_after)
        } else {
            (value > limits.raise, limits.raise_after)
        };
        if value.is_nan() {
            return None;
        }
        if !speaks {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        if self.against < after.max(1) {
            return None;
        }
        self.against = 0;
        self.raised = !self.raised;
        Some(if self.raised { Edge::Raised } else { Edge::Cleared })
    }

    /// Whether it is raised.
    pub const fn is_raised(&self) -> bool {
        self.raised
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(values: &[f64]) -> Vec<(usize, Edge)> {
        let limits = Limits {
            raise: 10.0,
            clear: 8.0,
            raise_after: 2,
            clear_after: 3,
        };
        let mut state = Hysteresis::default();
        let edge = |(index, &value)| Some((index, state.push(value, &limits)?));
        values.iter().enumerate().filter_map(edge).collect()
    }

    #[test]
    fn what_stays_beyond_raises_and_what_stays_below_clears() {
        let told = edges(&[11.0, 11.0, 7.0, 7.0, 7.0, 7.0]);
        assert_eq!(told, [(1, Edge::Raised), (4, Edge::Cleared)]);
    }

    #[test]
    fn what_touches_the_limit_or_lies_between_changes_nothing() {
        assert_eq!(edges(&[11.0, 9.0, 11.0, 10.0, 11.0, 9.0]), []);
        assert_eq!(
            edges(&[11.0, 11.0, 7.0, 7.0, 9.0, 7.0, 7.0, 9.0]),
            [(1, Edge::Raised)]
        );
    }

    #[test]
    fn a_missing_value_interrupts_nothing() {
        assert_eq!(edges(&[11.0, f64::NAN, 11.0]), [(2, Edge::Raised)]);
    }
}
