//! A set of numbers that mostly follow each other, kept as runs: as large as its holes are many,
//! however long the runs. Pure.

use std::collections::BTreeMap;
use trunnion_common::sequence::Range;

/// A set of numbers. Every operation takes the logarithm of the number of runs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Runs {
    /// First number of a run to the number after its last; runs neither overlap nor touch.
    runs: BTreeMap<u64, u64>,
    count: u64,
}

impl Runs {
    /// None.
    pub const fn new() -> Self {
        Self {
            runs: BTreeMap::new(),
            count: 0,
        }
    }

    /// How many numbers are in it.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether `n` is in it.
    pub fn contains(&self, n: u64) -> bool {
        self.run_of(n).is_some()
    }

    /// The runs, lowest first.
    pub fn ranges(&self) -> impl Iterator<Item = Range> + '_ {
        self.runs
            .iter()
            .filter_map(|(&first, &end)| Range::new(first, end))
    }

    /// Adds a number; whether it is new. The last number of all is never added: no sequence gets there.
    pub fn insert(&mut self, n: u64) -> bool {
        let Some(after) = n.checked_add(1).filter(|_| !self.contains(n)) else {
            return false;
        };
        let end = self.runs.remove(&after).unwrap_or(after);
        match self.runs.range_mut(..n).next_back() {
            Some((_, before)) if *before == n => *before = end,
            _ => {
                self.runs.insert(n, end);
            }
        }
        self.count += 1;
        true
    }

    /// Takes a number out; whether it was there.
    pub fn remove(&mut self, n: u64) -> bool {
        let Some((first, end)) = self.run_of(n) else {
            return false;
        };
        self.runs.remove(&first);
        if first < n {
            self.runs.insert(first, n);
        }
        if n + 1 < end {
            self.runs.insert(n + 1, end);
        }
        self.count -= 1;
        true
    }

    /// Takes out what lies in `range`, and returns it.
    pub fn take(&mut self, range: Range) -> Vec<Range> {
        let (first, end) = (range.first(), range.end());
        let from = self.run_of(first).map_or(first, |(from, _)| from);
        let touched: Vec<(u64, u64)> = self.runs.range(from..end).map(|(&a, &b)| (a, b)).collect();
        let mut taken = Vec::new();
        for (a, b) in touched {
            self.runs.remove(&a);
            if a < first {
                self.runs.insert(a, first);
            }
            if end < b {
                self.runs.insert(end, b);
            }
            if let Some(part) = Range::new(a.max(first), b.min(end)) {
                self.count -= part.count();
                taken.push(part);
            }
        }
        taken
    }

    fn run_of(&self, n: u64) -> Option<(u64, u64)> {
        let (&first, &end) = self.runs.range(..=n).next_back()?;
        (n < end).then_some((first, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn runs_are_a_set_whatever_is_done_to_it(
            steps in prop::collection::vec((0u8..4, 0u64..60, 1u64..20), 0..200),
        ) {
            let (mut runs, mut set) = (Runs::new(), BTreeSet::new());
            for (step, n, length) in steps {
                match step {
                    0 | 1 => prop_assert_eq!(runs.insert(n), set.insert(n)),
                    2 => prop_assert_eq!(runs.remove(n), set.remove(&n)),
                    _ => {
                        let taken = runs.take(Range::new(n, n + length).unwrap());
                        let taken: Vec<u64> = taken.iter().flat_map(|r| r.first()..r.end()).collect();
                        let expected: Vec<u64> = set.range(n..n + length).copied().collect();
                        set.retain(|n| !expected.contains(n));
                        prop_assert_eq!(taken, expected);
                    }
                }
                prop_assert_eq!(runs.count(), set.len() as u64);
                let listed: Vec<u64> = runs.ranges().flat_map(|r| r.first()..r.end()).collect();
                prop_assert_eq!(listed, set.iter().copied().collect::<Vec<_>>());
                let ranges: Vec<Range> = runs.ranges().collect();
                prop_assert!(ranges.windows(2).all(|pair| pair[0].end() < pair[1].first()));
            }
        }
    }
}
