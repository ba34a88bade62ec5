//! The frames received of one boot and class.

use crate::ledger::IndexSet;
use serde::{Deserialize, Serialize};
use trunnion_common::sequence::{Insertion, Range};

/// Most ranges of a [`FrameSet`]: as many as of a channel's samples in the ledger. What an acknowledgement
/// can tell ([`trunnion_common::sequence::RANGES_MAX`]) would not do here: that many holes an agent leaves
/// at a time, but the blocks of its former starts, resent in any order, leave theirs as well.
pub const RANGES_MAX: usize = crate::ledger::RANGES_MAX;

/// Numbers of frames received, encoded as a [`trunnion_common::sequence::SequenceSet`] is: everything below
/// one number, and ranges above it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Parts", into = "Parts")]
pub struct FrameSet(IndexSet);

#[derive(Serialize, Deserialize)]
struct Parts {
    upto: u64,
    ranges: Vec<Range>,
}

impl FrameSet {
    /// Nothing received yet.
    pub const fn new() -> Self {
        Self(IndexSet::new())
    }

    /// Every number below this has been received (exclusive).
    pub fn upto(&self) -> u64 {
        match self.0.ranges().first() {
            Some(lowest) if lowest.first() == 0 => lowest.end(),
            _ => 0,
        }
    }

    /// What has been received above the first hole.
    pub fn ranges(&self) -> &[Range] {
        match self.0.ranges() {
            [lowest, above @ ..] if lowest.first() == 0 => above,
            ranges => ranges,
        }
    }

    /// The number after the highest received.
    pub fn end(&self) -> u64 {
        self.0.ranges().last().map_or(0, |highest| highest.end())
    }

    /// Whether `n` has been received.
    pub fn contains(&self, n: u64) -> bool {
        Range::one(n).is_some_and(|one| self.0.missing(one).is_empty())
    }

    /// Adds one number.
    pub fn insert(&mut self, n: u64) -> Insertion {
        match Range::one(n) {
            Some(range) => self.insert_range(range),
            None => Insertion::Duplicate,
        }
    }

    /// Adds a range of numbers.
    pub fn insert_range(&mut self, range: Range) -> Insertion {
        let new: u64 = self.0.insert(range).iter().map(|new| new.count()).sum();
        if new == 0 {
            return Insertion::Duplicate;
        }
        if let Some(closed) = self.close_lowest_hole() {
            return Insertion::Overflow { closed };
        }
        if new == range.count() {
            Insertion::New
        } else {
            Insertion::Partial
        }
    }

    /// With a range too many: the lowest hole, which counts as received from now on.
    fn close_lowest_hole(&mut self) -> Option<Range> {
        if self.ranges().len() <= RANGES_MAX {
            return None;
        }
        let hole = Range::new(self.upto(), self.ranges().first()?.first())?;
        self.0.insert(hole);
        Some(hole)
    }
}

impl From<Parts> for FrameSet {
    fn from(parts: Parts) -> Self {
        let mut set = IndexSet::default();
        let below = Range::new(0, parts.upto);
        for range in below.into_iter().chain(parts.ranges) {
            set.insert(range);
        }
        Self(set)
    }
}

impl From<FrameSet> for Parts {
    fn from(set: FrameSet) -> Self {
        Self {
            upto: set.upto(),
            ranges: set.ranges().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use trunnion_common::sequence::SequenceSet;

    fn range(first: u64, end: u64) -> Range {
        Range::new(first, end).unwrap()
    }

    #[test]
    fn one_range_too_many_gives_the_lowest_hole_up_and_says_so() {
        let mut set = FrameSet::new();
        for n in 0..RANGES_MAX as u64 {
            assert_eq!(set.insert(10 + 2 * n), Insertion::New);
        }
        assert!(!set.contains(9));
        assert_eq!(set.insert(9_000), Insertion::Overflow { closed: range(0, 10) });
        assert_eq!((set.upto(), set.end()), (11, 9_001));
        assert!(set.contains(9));
        assert_eq!(set.ranges().len(), RANGES_MAX);
        assert_eq!(set.insert(9), Insertion::Duplicate);
    }

    proptest! {
        /// Within what a sequence set can hold, both are one: verdicts, content and bytes.
        #[test]
        fn it_is_a_sequence_set_with_more_room(
            insertions in prop::collection::vec((0u64..60, 1u64..6), 0..60),
        ) {
            let (mut wide, mut narrow) = (FrameSet::new(), SequenceSet::new());
            for (first, count) in insertions {
                let verdict = narrow.insert_range(range(first, first + count));
                if let Insertion::Overflow { .. } = verdict {
                    return Ok(());
                }
                prop_assert_eq!(wide.insert_range(range(first, first + count)), verdict);
                prop_assert_eq!(wide.upto(), narrow.upto());
                prop_assert_eq!(wide.ranges(), narrow.ranges());
                prop_assert_eq!(wide.end(), narrow.end());
                prop_assert!((0..70).all(|n| wide.contains(n) == narrow.contains(n)));
                let bytes = postcard::to_stdvec(&wide).unwrap();
                prop_assert_eq!(&bytes, &postcard::to_stdvec(&narrow).unwrap());
                prop_assert_eq!(&postcard::from_bytes::<FrameSet>(&bytes).unwrap(), &wide);
            }
        }
    }
}
