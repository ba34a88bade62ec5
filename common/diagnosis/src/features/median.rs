//! The median of a stretch of values that moves on.
//!
//! The values are ranked once; those of the stretch are bits in the order of their ranks, and the median is the
//! middle one of them, a few bits from where it was before. That takes a third of the time that selecting it anew
//! from each stretch does, and finds the same value.

use std::ops::Range;

/// Bits of a word.
const BITS: usize = u64::BITS as usize;

/// The median of a stretch of values, of which either end only moves up.
#[derive(Debug)]
pub(super) struct MovingMedian {
    /// The values, ascending by IEEE 754's total order.
    sorted: Vec<f32>,
    /// Where each value stands in that order.
    ranks: Vec<u32>,
    /// A bit for each rank: whether its value is in the stretch.
    words: Vec<u64>,
    stretch: Range<usize>,
    /// A word, and how many bits are set in those before it.
    word: usize,
    before: usize,
}

impl MovingMedian {
    /// Of these values, with nothing in the stretch yet. There must be fewer than 2^32 of them.
    pub(super) fn of(values: &[f32]) -> Self {
        let keyed = (0u64..)
            .zip(values)
            .map(|(index, value)| key(*value) << 32 | index);
        let mut keyed: Vec<u64> = keyed.collect();
        keyed.sort_unstable();
        let mut ranks = vec![0; values.len()];
        let mut sorted = Vec::with_capacity(values.len());
        for (rank, keyed) in (0..).zip(keyed) {
            let index = keyed as u32 as usize;
            ranks[index] = rank;
            sorted.push(values[index]);
        }
        Self {
            sorted,
            ranks,
            words: vec![0; values.len().div_ceil(BITS)],
            stretch: 0..0,
            word: 0,
            before: 0,
        }
    }

    /// The median of the values from `stretch.start` to before `stretch.end`, neither of which is lower than in the
    /// call before; the upper one of two in the middle. None of an empty stretch.
    pub(super) fn over(&mut self, stretch: Range<usize>) -> Option<f32> {
        for index in self.stretch.end..stretch.end {
            self.toggle(index);
            self.before += usize::from(self.is_before(index));
        }
        for index in self.stretch.start..stretch.start {
            self.toggle(index);
            self.before -= usize::from(self.is_before(index));
        }
        let middle = stretch.len() / 2;
        self.stretch = stretch;
        if self.stretch.is_empty() {
            return None;
        }
        while self.before > middle {
            self.word -= 1;
            self.before -= self.words[self.word].count_ones() as usize;
        }
        loop {
            let set = self.words[self.word].count_ones() as usize;
            if self.before + set > middle {
                break;
            }
            self.before += set;
            self.word += 1;
        }
        let mut rest = self.words[self.word];
        for _ in self.before..middle {
            rest &= rest - 1;
        }
        Some(self.sorted[self.word * BITS + rest.trailing_zeros() as usize])
    }

    fn toggle(&mut self, index: usize) {
        let rank = self.ranks[index] as usize;
        self.words[rank / BITS] ^= 1 << (rank % BITS);
    }

    fn is_before(&self, index: usize) -> bool {
        (self.ranks[index] as usize) < self.word * BITS
    }
}

/// A number that is as large as the value stands in IEEE 754's total order.
const fn key(value: f32) -> u64 {
    let bits = value.to_bits();
    let turned = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    turned as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn selected(values: &[f32]) -> Option<u32> {
        let mut values = values.to_vec();
        values.sort_by(f32::total_cmp);
        values.get(values.len() / 2).map(|value| value.to_bits())
    }

    proptest! {
        #[test]
        fn it_is_the_median_wherever_the_stretch_is(
            values in prop::collection::vec(
                prop_oneof![any::<f32>(), (0u8..4).prop_map(f32::from)],
                1..300,
            ),
            steps in prop::collection::vec((0usize..40, 0usize..40), 1..30),
        ) {
            let mut moving = MovingMedian::of(&values);
            let (mut start, mut end) = (0, 0);
            for (up, further) in steps {
                end = (end + further).min(values.len());
                start = (start + up).min(end);
                let median = moving.over(start..end).map(f32::to_bits);
                prop_assert_eq!(median, selected(&values[start..end]));
            }
        }
    }

    #[test]
    fn there_is_none_of_nothing() {
        assert_eq!(MovingMedian::of(&[]).over(0..0), None);
        assert_eq!(MovingMedian::of(&[1.0]).over(1..1), None);
    }
}
