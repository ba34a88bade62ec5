//! Sets of sample indexes, as ascending ranges.

use serde::{Deserialize, Serialize};
use trunnion_common::sequence::Range;

/// Sample indexes, as ranges that neither overlap nor touch. Its owner bounds it with
/// [`Self::close_lowest_hole`] or [`Self::take_lowest`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct IndexSet {
    ranges: Vec<Range>,
}

impl IndexSet {
    /// Nothing in it.
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// How many indexes are in it.
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|range| range.count()).sum()
    }

    /// Adds a range; returns the parts of it that were not there.
    pub fn insert(&mut self, new: Range) -> Vec<Range> {
        let missing = self.missing(new);
        if missing.is_empty() {
            return missing;
        }
        // Everything that overlaps or touches the new range melts into it.
        let from = self.ranges.partition_point(|range| range.end() < new.first());
        let to = self.ranges.partition_point(|range| range.first() <= new.end());
        let melted = &self.ranges[from..to];
        let first = melted
            .first()
            .map_or(new.first(), |range| range.first().min(new.first()));
        let end = melted
            .last()
            .map_or(new.end(), |range| range.end().max(new.end()));
        self.ranges.splice(from..to, Range::new(first, end));
        missing
    }

    /// The parts of `wanted` that are not in the set.
    pub fn missing(&self, wanted: Range) -> Vec<Range> {
        let mut floor = wanted.first();
        let mut missing = Vec::new();
        let from = self.ranges.partition_point(|range| range.end() <= floor);
        for range in &self.ranges[from..] {
            if range.first() >= wanted.end() {
                break;
            }
            missing.extend(Range::new(floor, range.first()));
            floor = range.end();
        }
        missing.extend(Range::new(floor, wanted.end()));
        missing
    }

    /// The part of `wanted` that is in the set.
    pub fn common(&self, wanted: Range) -> Self {
        let from = self.ranges.partition_point(|range| range.end() <= wanted.first());
        let overlapping = self.ranges[from..]
            .iter()
            .take_while(|range| range.first() < wanted.end());
        let clip =
            |range: &Range| Range::new(range.first().max(wanted.first()), range.end().min(wanted.end()));
        Self {
            ranges: overlapping.filter_map(clip).collect(),
        }
    }

    /// Takes a range out.
    pub fn remove(&mut self, gone: Range) {
        self.ranges = self
            .ranges
            .iter()
            .flat_map(|range| {
                [
                    Range::new(range.first(), range.end().min(gone.first())),
                    Range::new(range.first().max(gone.end()), range.end()),
                ]
            })
            .flatten()
            .collect();
    }

    /// The end of the unbroken run from `from` on; `from` itself when it is not in the set.
    pub fn run_end(&self, from: u64) -> u64 {
        let at = self.ranges.partition_point(|range| range.end() <= from);
        match self.ranges.get(at) {
            Some(range) if range.first() <= from => range.end(),
            _ => from,
        }
    }

    /// How many indexes below `end` are in the set.
    pub fn count_below(&self, end: u64) -> u64 {
        let below = |range: &Range| range.end().min(end).saturating_sub(range.first());
        self.ranges.iter().map(below).sum()
    }

    /// With more than `ranges_max` ranges: closes the lowest hole between two of them and returns it.
    pub fn close_lowest_hole(&mut self, ranges_max: usize) -> Option<Range> {
        if self.ranges.len() <= ranges_max.max(1) {
            return None;
        }
        let hole = Range::new(self.ranges[0].end(), self.ranges[1].first());
        self.ranges
            .splice(0..2, Range::new(self.ranges[0].first(), self.ranges[1].end()));
        hole
    }

    /// With more than `ranges_max` ranges: takes the lowest out and returns it.
    pub fn take_lowest(&mut self, ranges_max: usize) -> Option<Range> {
        (self.ranges.len() > ranges_max).then(|| self.ranges.remove(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(operations in prop::collection::vec((any::<bool>(), 0u64..60, 1u64..9), 0..60)) {
            let mut set = IndexSet::default();
            let mut model = BTreeSet::new();
            for (add, first, count) in operations {
                let range = Range::new(first, first + count).unwrap();
                let wanted: BTreeSet<u64> = (first..first + count).collect();
                if add {
                    let new: BTreeSet<u64> =
                        set.insert(range).iter().flat_map(|r| r.first()..r.end()).collect();
                    prop_assert_eq!(new, wanted.difference(&model).copied().collect());
                    model.extend(wanted);
                } else {
                    set.remove(range);
                    model.retain(|n| !wanted.contains(n));
                }
                prop_assert_eq!(
                    set.ranges().iter().flat_map(|r| r.first()..r.end()).collect::<Vec<_>>(),
                    model.iter().copied().collect::<Vec<_>>()
                );
                prop_assert!(set.ranges().windows(2).all(|pair| pair[0].end() < pair[1].first()));
                prop_assert_eq!(set.count_below(30), model.range(..30).count() as u64);
                prop_assert_eq!(
                    set.common(range).ranges().iter().flat_map(|r| r.first()..r.end()).collect::<Vec<_>>(),
                    model.range(range.first()..range.end()).copied().collect::<Vec<_>>()
                );
                let run_end = (20..).find(|n| !model.contains(n)).unwrap();
                prop_assert_eq!(set.run_end(20), run_end);
            }
        }
    }
}
