//! The mean of squares of a stream of f32.

/// Squares that are added up in f32 before they go into the sum: their rounding is at most 32 x 2^-24 of it, 2e-6.
const BLOCK: u32 = 32;

/// Sums of squares. Only one in 32 additions is of doubles, which a microcontroller emulates; the sum does not lose
/// small squares to large ones however long it grows.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct MeanSquare {
    count: u32,
    block: f32,
    sum: f64,
}

impl MeanSquare {
    /// Of nothing yet.
    pub const fn new() -> Self {
        Self {
            count: 0,
            block: 0.0,
            sum: 0.0,
        }
    }

    /// Takes the next value, which must be finite. Of more than 2^32 the rest does not count.
    #[inline]
    pub fn push(&mut self, value: f32) {
        let Some(count) = self.count.checked_add(1) else {
            return;
        };
        self.count = count;
        self.block += value * value;
        if count.is_multiple_of(BLOCK) {
            self.settle();
        }
    }

    /// Takes the sum of the squares of some values, at most 32 of them, all finite.
    #[inline]
    pub fn push_squares(&mut self, squares: f32, values: u32) {
        let Some(count) = self.count.checked_add(values) else {
            return;
        };
        let is_full = count / BLOCK != self.count / BLOCK;
        self.count = count;
        self.block += squares;
        if is_full {
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.sum += f64::from(self.block);
        self.block = 0.0;
    }

    /// Values so far.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Root mean square, in the unit of the values; none of no values.
    pub fn rms(&self) -> Option<f32> {
        let sum = self.sum + f64::from(self.block);
        (self.count > 0).then(|| libm::sqrt(sum / f64::from(self.count)) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_stream_is_told_as_exactly_as_a_short_one() {
        assert_eq!(MeanSquare::default().rms(), None);
        for length in [1_u32, 31, 32, 33, 3_000_000] {
            let mut stream = MeanSquare::default();
            let mut expected = 0.0;
            for index in 0..length {
                let value = 1.0 + (index % 7) as f32;
                stream.push(value);
                expected += f64::from(value) * f64::from(value);
            }
            let expected = (expected / f64::from(length)).sqrt();
            let found = f64::from(stream.rms().unwrap());
            assert!(
                (found - expected).abs() < 2e-6 * expected,
                "{found} is not {expected}"
            );
            assert_eq!(stream.count(), length);
        }
    }
}
