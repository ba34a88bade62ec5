//! Sets of sequence numbers: what has been received, in bounded memory.

use heapless::Vec;
use serde::{Deserialize, Deserializer, Serialize};

/// Most separate ranges a [`SequenceSet`] holds above its contiguous part.
pub const RANGES_MAX: usize = 16;

/// Sequence numbers `first <= n < end`; never empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Range {
    first: u64,
    end: u64,
}

impl Range {
    /// `first <= n < end`, unless that is nothing.
    pub const fn new(first: u64, end: u64) -> Option<Self> {
        if first < end {
            Some(Self { first, end })
        } else {
            None
        }
    }

    /// The one number `n`; the last number of all cannot be named, and no stream gets there.
    pub const fn one(n: u64) -> Option<Self> {
        match n.checked_add(1) {
            Some(end) => Some(Self { first: n, end }),
            None => None,
        }
    }

    /// The lowest number in it.
    pub const fn first(self) -> u64 {
        self.first
    }

    /// The number after the highest in it.
    pub const fn end(self) -> u64 {
        self.end
    }

    /// How many numbers.
    pub const fn count(self) -> u64 {
        self.end - self.first
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (first, end) = <(u64, u64)>::deserialize(deserializer)?;
        Self::new(first, end).ok_or_else(|| serde::de::Error::custom("empty range"))
    }
}

/// Up to [`RANGES_MAX`] ranges, ascending and neither overlapping nor touching.
pub type Ranges = Vec<Range, RANGES_MAX>;

/// Everything below `upto`, and at most [`RANGES_MAX`] ranges above it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct SequenceSet {
    upto: u64,
    ranges: Ranges,
}

/// What became of an insertion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Insertion {
    /// All of it was new.
    New,
    /// All of it was there before.
    Duplicate,
    /// Some was new, some was there.
    Partial,
    /// New, but one range too many: the lowest hole was closed to make room, its numbers count as
    /// received from now on although they never were, and must be booked as lost.
    Overflow {
        /// The numbers given up.
        closed: Range,
    },
}

impl SequenceSet {
    /// Nothing received yet.
    pub const fn new() -> Self {
        Self {
            upto: 0,
            ranges: Vec::new(),
        }
    }

    /// From its parts, if `ranges` is ascending, separate and above `upto`.
    pub fn from_parts(upto: u64, ranges: &[Range]) -> Option<Self> {
        let mut floor = upto;
        for range in ranges {
            if range.first <= floor {
                return None;
            }
            floor = range.end;
        }
        Some(Self {
            upto,
            ranges: Vec::from_slice(ranges).ok()?,
        })
    }

    /// Every number below this has been received (exclusive).
    pub const fn upto(&self) -> u64 {
        self.upto
    }

    /// What has been received above the first hole.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// The number after the highest received.
    pub fn end(&self) -> u64 {
        self.ranges.last().map_or(self.upto, |range| range.end)
    }

    /// Whether `n` has been received.
    pub fn contains(&self, n: u64) -> bool {
        n < self.upto || self.ranges.iter().any(|range| range.first <= n && n < range.end)
    }

    /// The holes below [`Self::end`], lowest first.
    pub fn holes(&self) -> impl Iterator<Item = Range> + '_ {
        let mut floor = self.upto;
        self.ranges.iter().map(move |range| {
            let hole = Range {
                first: floor,
                end: range.first,
            };
            floor = range.end;
            hole
        })
    }

    /// Adds one number.
    pub fn insert(&mut self, n: u64) -> Insertion {
        match Range::one(n) {
            Some(range) => self.insert_range(range),
            None => Insertion::Duplicate,
        }
    }

    /// Adds a range of numbers.
    pub fn insert_range(&mut self, new: Range) -> Insertion {
        if new.end <= self.upto
            || self
                .ranges
                .iter()
                .any(|r| r.first <= new.first && new.end <= r.end)
        {
            return Insertion::Duplicate;
        }
        let overlaps =
            new.first < self.upto || self.ranges.iter().any(|r| r.first < new.end && new.first < r.end);
        let outcome = if overlaps {
            Insertion::Partial
        } else {
            Insertion::New
        };

        // The new range swallows every range it overlaps or touches.
        let mut merged = new;
        self.ranges.retain(|r| {
            let separate = r.end < merged.first || merged.end < r.first;
            if !separate {
                merged = Range {
                    first: merged.first.min(r.first),
                    end: merged.end.max(r.end),
                };
            }
            separate
        });
        if merged.first <= self.upto {
            self.upto = self.upto.max(merged.end);
            return outcome;
        }
        if self.ranges.is_full() {
            // Make room by giving up the lowest hole: below the first range, which may be the new one.
            let first = self.ranges.remove(0);
            let lowest = if merged.first < first.first { merged } else { first };
            let closed = Range {
                first: self.upto,
                end: lowest.first,
            };
            self.upto = lowest.end;
            if lowest == merged {
                self.place(first);
            } else {
                self.place(merged);
            }
            return Insertion::Overflow { closed };
        }
        self.place(merged);
        outcome
    }

    /// Declares everything below `upto` received, whether it was or not.
    pub fn advance(&mut self, upto: u64) {
        if let Some(range) = Range::new(self.upto, upto) {
            // Touches `self.upto`, so it cannot open a range and cannot overflow.
            let _ = self.insert_range(range);
        }
    }

    fn place(&mut self, range: Range) {
        let position = self
            .ranges
            .iter()
            .position(|r| range.first < r.first)
            .unwrap_or(self.ranges.len());
        let placed = self.ranges.insert(position, range);
        debug_assert!(placed.is_ok(), "room was made before");
    }
}

impl<'de> Deserialize<'de> for SequenceSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (upto, ranges) = <(u64, Ranges)>::deserialize(deserializer)?;
        Self::from_parts(upto, &ranges).ok_or_else(|| serde::de::Error::custom("ranges out of order"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn range(first: u64, end: u64) -> Range {
        Range::new(first, end).unwrap()
    }

    #[test]
    fn in_order_numbers_need_no_ranges() {
        let mut set = SequenceSet::new();
        for n in 0..100 {
            assert_eq!(set.insert(n), Insertion::New);
        }
        assert_eq!((set.upto(), set.ranges().len()), (100, 0));
        assert_eq!(set.insert(50), Insertion::Duplicate);
    }

    #[test]
    fn a_filled_hole_closes() {
        let mut set = SequenceSet::new();
        assert_eq!(set.insert_range(range(5, 8)), Insertion::New);
        assert_eq!(set.holes().collect::<std::vec::Vec<_>>(), [range(0, 5)]);
        assert_eq!(set.insert_range(range(0, 6)), Insertion::Partial);
        assert_eq!((set.upto(), set.ranges().len()), (8, 0));
    }

    #[test]
    fn the_seventeenth_range_gives_up_the_lowest_hole() {
        let mut set = SequenceSet::new();
        for n in 0..RANGES_MAX as u64 {
            assert_eq!(set.insert(10 + 2 * n), Insertion::New);
        }
        assert_eq!(set.insert(1_000), Insertion::Overflow { closed: range(0, 10) });
        assert_eq!(set.upto(), 11);
        let mut set = SequenceSet::new();
        for n in 0..RANGES_MAX as u64 {
            let _ = set.insert(10 + 2 * n);
        }
        assert_eq!(set.insert(4), Insertion::Overflow { closed: range(0, 4) });
        assert_eq!(set.upto(), 5);
    }

    proptest! {
        /// Against a plain set: the same members, as long as nothing overflows, and after an
        /// overflow exactly the closed hole more.
        #[test]
        fn it_is_a_set(numbers in prop::collection::vec((0u64..120, 1u64..6), 0..200)) {
            let mut set = SequenceSet::new();
            let mut model = BTreeSet::new();
            for (first, count) in numbers {
                let new: BTreeSet<u64> = (first..first + count).collect();
                let known = new.intersection(&model).count();
                let outcome = set.insert_range(range(first, first + count));
                model.extend(&new);
                match outcome {
                    Insertion::New => prop_assert_eq!(known, 0),
                    Insertion::Duplicate => prop_assert_eq!(known, new.len()),
                    Insertion::Partial => prop_assert!(0 < known && known < new.len()),
                    Insertion::Overflow { closed } => model.extend(closed.first..closed.end),
                }
                for n in 0..130 {
                    prop_assert_eq!(set.contains(n), model.contains(&n), "{}", n);
                }
                prop_assert!(SequenceSet::from_parts(set.upto(), set.ranges()).as_ref() == Some(&set));
            }
        }
    }
}
