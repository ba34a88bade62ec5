//! What a window of readings remembers: count, mean, variance, extremes. Pure, and independent of order.
//!
//! Sums are integers, so that adding in another order, or merging parts, gives the same bits; Welford's
//! and pairwise sums in floating point do not. Each value is rounded to the grid of 2^-80 (to even), on
//! its own; from there on everything is exact: the sum in 192 bits, the sum of the squares in 320, and the
//! variance from both without cancellation. Only the results are rounded, once or twice.

use super::sketch::Sketch;
use serde::{Deserialize, Serialize};
use trunnion_common::slow;

/// Values are rounded to multiples of 2^-80, about 8e-25.
pub const GRID_BITS: u32 = 80;

/// Values must be below 2^60 in magnitude, about 1.2e18: no sensor's reading is.
pub const VALUE_MAX: f64 = (1u64 << 60) as f64;

/// Most values of one window, 5 x 10^11; with [`VALUE_MAX`], what the sums have room for.
pub const COUNT_MAX: u64 = 1 << 39;

/// Which quantiles are told, in thousandths: median, 95 % and 99 %.
pub const QUANTILES: [u32; 3] = [500, 950, 990];

/// A number that can be added up: finite and within [`VALUE_MAX`].
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct Value(f64);

impl Value {
    /// `None` if it is not a number, infinite or out of range.
    #[inline]
    pub fn new(value: f64) -> Option<Self> {
        // Adding 0 makes the negative zero positive: the two would tell orders apart.
        (value.abs() < VALUE_MAX).then_some(Self(value + 0.0))
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// The same, rounded to the grid.
    pub(super) fn on_grid(self) -> f64 {
        let (mantissa, shift) = self.parts();
        let magnitude = mantissa as f64 * power_of_two(shift as i32 - GRID_BITS as i32);
        if self.0 < 0.0 { -magnitude } else { magnitude }
    }

    /// Magnitude in units of the grid: at most 53 bits, and by how many they are shifted to the left
    /// (at most 87).
    #[inline]
    const fn parts(self) -> (u64, u32) {
        const FRACTION: u32 = 52;
        let bits = self.0.to_bits() & !(1 << 63);
        let exponent = (bits >> FRACTION) as i32;
        let mantissa = bits & ((1 << FRACTION) - 1) | 1 << FRACTION;
        // A double is its mantissa times 2^(exponent - 1075); those below 2^-1022 round to 0 here.
        let shift = exponent - 1_075 + GRID_BITS as i32;
        if shift >= 0 {
            return (mantissa, shift as u32);
        }
        let down = -shift as u32;
        if down > FRACTION + 1 {
            return (0, 0);
        }
        let (whole, half) = (mantissa >> down, 1u64 << (down - 1));
        let rest = mantissa & ((1 << down) - 1);
        let up = rest > half || rest == half && whole & 1 == 1;
        (whole + up as u64, 0)
    }
}

/// The values of a window, added up.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Scalar {
    count: u64,
    /// Two's complement, lowest first, in units of 2^-80.
    sum: [u64; 3],
    /// Lowest first, in units of 2^-160.
    squares: [u64; 5],
    minimum: f64,
    maximum: f64,
    sketch: Option<Box<Sketch>>,
}

/// What is told of a window of readings.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// How many values.
    pub count: u64,
    /// Arithmetic mean, in the values' unit.
    pub mean: f64,
    /// Population variance, in the values' unit squared.
    pub variance: f64,
    /// Smallest value.
    pub minimum: f64,
    /// Largest value.
    pub maximum: f64,
    /// The [`QUANTILES`], within 1 % (see [`Sketch`]); `None` unless asked for.
    pub quantiles: Option<[f64; 3]>,
}

impl Summary {
    /// Population standard deviation, in the values' unit.
    pub fn deviation(&self) -> f64 {
        self.variance.sqrt()
    }

    /// As slow channels are judged by it.
    pub fn slow(&self) -> slow::Summary {
        slow::Summary {
            count: self.count,
            mean: self.mean,
            deviation: self.deviation(),
            minimum: self.minimum,
            maximum: self.maximum,
        }
    }
}

impl Scalar {
    /// No values yet; `quantiles` says whether they are to be told as well.
    pub fn new(quantiles: bool) -> Self {
        Self {
            count: 0,
            sum: [0; 3],
            squares: [0; 5],
            minimum: f64::INFINITY,
            maximum: f64::NEG_INFINITY,
            sketch: quantiles.then(Box::default),
        }
    }

    /// Adds a value; `false` if there are [`COUNT_MAX`] already.
    #[inline]
    #[must_use]
    pub fn add(&mut self, value: Value) -> bool {
        if self.count >= COUNT_MAX {
            return false;
        }
        let (mantissa, shift) = value.parts();
        self.count += 1;
        self.add_to_sum(mantissa, shift, value.0 < 0.0);
        self.add_to_squares(mantissa, 2 * shift);
        self.minimum = self.minimum.min(value.0);
        self.maximum = self.maximum.max(value.0);
        if let Some(sketch) = &mut self.sketch {
            sketch.add(value);
        }
        true
    }

    /// Adds what another has added up; `false`, and nothing is added, if both have more than [`COUNT_MAX`].
    #[must_use]
    pub fn merge(&mut self, other: &Self) -> bool {
        if self.count + other.count > COUNT_MAX {
            return false;
        }
        self.count += other.count;
        add(&mut self.sum, &other.sum);
        add(&mut self.squares, &other.squares);
        self.minimum = self.minimum.min(other.minimum);
        self.maximum = self.maximum.max(other.maximum);
        match (&mut self.sketch, &other.sketch) {
            (Some(sketch), Some(other)) => sketch.merge(other),
            // Quantiles of a part of the values are none of the whole.
            (sketch, _) => *sketch = None,
        }
        true
    }

    /// How many values.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// What is told of them; `None` without values.
    pub fn summary(&self) -> Option<Summary> {
        if self.count == 0 {
            return None;
        }
        let count = self.count as f64;
        let is_negative = self.sum[2] >> 63 == 1;
        let mut magnitude = self.sum;
        if is_negative {
            negate(&mut magnitude);
        }
        let mean = to_f64(&magnitude) * power_of_two(-(GRID_BITS as i32)) / count;
        // n^2 times the variance is n times the sum of the squares less the square of the sum.
        let mut spread = times(&self.squares, self.count);
        let mut square = square(&magnitude);
        negate(&mut square);
        add(&mut spread, &square);
        let variance = to_f64(&spread) * power_of_two(-2 * GRID_BITS as i32) / (count * count);
        let within = |value: f64| value.clamp(self.minimum, self.maximum);
        let quantiles = self
            .sketch
            .as_deref()
            .map(|sketch| QUANTILES.map(|permille| sketch.quantile(permille).map_or(self.minimum, within)));
        Some(Summary {
            count: self.count,
            mean: if is_negative { -mean } else { mean },
            variance,
            minimum: self.minimum,
            maximum: self.maximum,
            quantiles,
        })
    }

    /// Bytes of the heap.
    pub fn heap_bytes(&self) -> usize {
        let sketch = self.sketch.as_deref();
        sketch.map_or(0, |sketch| size_of::<Sketch>() + sketch.heap_bytes())
    }

    #[inline]
    fn add_to_sum(&mut self, mantissa: u64, shift: u32, is_negative: bool) {
        let wide = u128::from(mantissa) << (shift % 64);
        let (low, high) = (wide as u64, (wide >> 64) as u64);
        let addend = if shift < 64 {
            [low, high, 0]
        } else {
            [0, low, high]
        };
        // The complement plus one is the negative.
        let mask = 0u64.wrapping_sub(u64::from(is_negative));
        let mut carry = is_negative;
        for (limb, addend) in self.sum.iter_mut().zip(addend) {
            (*limb, carry) = carrying_add(*limb, addend ^ mask, carry);
        }
    }

    #[inline]
    fn add_to_squares(&mut self, mantissa: u64, shift: u32) {
        let square = u128::from(mantissa) * u128::from(mantissa);
        let bits = shift % 64;
        let low = u128::from(square as u64) << bits;
        let high = ((square >> 64) << bits) + (low >> 64);
        let addend = [low as u64, high as u64, (high >> 64) as u64];
        let mut carry = false;
        let mut limbs = self.squares.iter_mut().skip(shift as usize / 64);
        for addend in addend {
            if let Some(limb) = limbs.next() {
                (*limb, carry) = carrying_add(*limb, addend, carry);
            }
        }
        for limb in limbs {
            (*limb, carry) = carrying_add(*limb, 0, carry);
        }
    }
}

#[inline]
const fn carrying_add(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let (sum, over) = a.overflowing_add(b);
    let (sum, over_carry) = sum.overflowing_add(carry as u64);
    (sum, over | over_carry)
}

fn add<const N: usize>(to: &mut [u64; N], other: &[u64; N]) {
    let mut carry = false;
    for (limb, other) in to.iter_mut().zip(other) {
        (*limb, carry) = carrying_add(*limb, *other, carry);
    }
}

fn negate<const N: usize>(limbs: &mut [u64; N]) {
    let mut carry = true;
    for limb in limbs {
        (*limb, carry) = carrying_add(!*limb, 0, carry);
    }
}

/// Limbs that hold the square of a sum, and as many values times their squares.
const PRODUCT: usize = 6;

fn times(limbs: &[u64; 5], by: u64) -> [u64; PRODUCT] {
    let mut product = [0; PRODUCT];
    let mut carry = 0;
    for (out, limb) in product.iter_mut().zip(limbs.iter().chain([&0])) {
        let part = u128::from(*limb) * u128::from(by) + u128::from(carry);
        *out = part as u64;
        carry = (part >> 64) as u64;
    }
    product
}

fn square(limbs: &[u64; 3]) -> [u64; PRODUCT] {
    let mut square = [0; PRODUCT];
    for (low, a) in limbs.iter().enumerate() {
        let mut carry = 0;
        for (at, b) in limbs.iter().enumerate() {
            let part = u128::from(*a) * u128::from(*b) + u128::from(square[low + at]) + u128::from(carry);
            square[low + at] = part as u64;
            carry = (part >> 64) as u64;
        }
        square[low + limbs.len()] = carry;
    }
    square
}

/// The nearest double of a number that is not negative.
fn to_f64<const N: usize>(limbs: &[u64; N]) -> f64 {
    let Some(top) = limbs.iter().rposition(|limb| *limb != 0) else {
        return 0.0;
    };
    let zeros = limbs[top].leading_zeros();
    let below = top.checked_sub(1).map_or(0, |at| limbs[at]);
    let window = (u128::from(limbs[top]) << 64 | u128::from(below)) << zeros;
    // 64 leading bits, and whether anything follows: enough to round as all of them would be.
    let rest = window as u64 != 0 || limbs[..top.saturating_sub(1)].iter().any(|limb| *limb != 0);
    let leading = (window >> 64) as u64 | u64::from(rest);
    leading as f64 * power_of_two(64 * top as i32 - zeros as i32)
}

/// `2^exponent`, exactly, for exponents from -1022 to 1023.
const fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1_023 + exponent) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scalar(values: impl IntoIterator<Item = f64>) -> Scalar {
        let mut scalar = Scalar::new(true);
        for value in values {
            assert!(scalar.add(Value::new(value).unwrap()));
        }
        scalar
    }

    #[test]
    fn mean_variance_and_extremes_of_a_few_values() {
        let summary = scalar([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
            .summary()
            .unwrap();
        assert_eq!((summary.count, summary.mean, summary.variance), (8, 5.0, 4.0));
        assert_eq!(
            (summary.minimum, summary.maximum, summary.deviation()),
            (2.0, 9.0, 2.0)
        );
        let summary = scalar([-1.5]).summary().unwrap();
        assert_eq!((summary.mean, summary.variance), (-1.5, 0.0));
        assert_eq!(summary.quantiles, Some([-1.5; 3]), "within the extremes");
        assert_eq!(Scalar::new(false).summary(), None);
    }

    #[test]
    fn large_values_with_a_small_spread_lose_none_of_it() {
        // A sum of squares in doubles has nothing left of this variance.
        let summary = scalar([1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0])
            .summary()
            .unwrap();
        assert_eq!((summary.mean, summary.variance), (1e9 + 10.0, 22.5));
        let summary = scalar([1e17, 1.0, -1e17]).summary().unwrap();
        assert_eq!(summary.mean, 1.0 / 3.0);
    }

    #[test]
    fn what_cannot_be_added_up_is_no_value() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, VALUE_MAX, -1e300] {
            assert_eq!(Value::new(value), None, "{value}");
        }
        let largest = VALUE_MAX.next_down();
        assert_eq!(
            scalar([largest, -largest, largest]).summary().unwrap().maximum,
            largest
        );
        assert_eq!(scalar([-0.0, 0.0]), scalar([0.0, -0.0]));
    }

    #[test]
    fn the_smallest_values_are_rounded_to_the_grid_each_on_its_own() {
        let unit = 2f64.powi(-80);
        let told = |value: f64| Value::new(value).unwrap().on_grid() / unit;
        assert_eq!(
            [0.5, 0.51, 1.5, 2.5, -3.5].map(|units| told(units * unit)),
            [0.0, 1.0, 2.0, 2.0, -4.0]
        );
        assert_eq!(told(f64::MIN_POSITIVE / 4.0), 0.0);
    }

    #[test]
    fn as_many_values_as_there_is_room_for_do_not_overflow() {
        let mut scalar = scalar([-VALUE_MAX.next_down()]);
        scalar.sketch = None;
        let same = scalar.summary().unwrap();
        for _ in 0..39 {
            let half = scalar.clone();
            assert!(scalar.merge(&half));
        }
        let summary = scalar.summary().unwrap();
        assert_eq!(summary.count, COUNT_MAX);
        assert_eq!((summary.mean, summary.variance), (same.mean, 0.0));
        let full = scalar.clone();
        assert!(!scalar.merge(&full) && !scalar.add(Value(1.0)));
        assert_eq!(scalar, full, "what finds no room changes nothing");
    }

    #[test]
    fn a_state_is_small_and_comes_back_from_a_checkpoint() {
        assert!(size_of::<Scalar>() <= 96);
        let wide = scalar((0..10_000).map(|n| 1.003f64.powi(n)));
        assert!(size_of::<Scalar>() + wide.heap_bytes() <= 1_024 - 96);
        let bytes = postcard::to_stdvec(&wide).unwrap();
        assert_eq!(postcard::from_bytes::<Scalar>(&bytes), Ok(wide));
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        let wide = (-90i32..59, 1.0f64..2.0, any::<bool>()).prop_map(|(exponent, fraction, negative)| {
            2f64.powi(exponent) * if negative { -fraction } else { fraction }
        });
        prop::collection::vec(prop_oneof![wide, -100.0f64..100.0, Just(0.0), Just(-0.0)], 1..60)
    }

    proptest! {
        #[test]
        fn any_order_and_any_division_into_parts_give_the_same_bits(
            (values, keys, cut) in values().prop_flat_map(|values| {
                let count = values.len();
                (Just(values), prop::collection::vec(any::<u32>(), count), 0..=count)
            }),
        ) {
            let whole = scalar(values.iter().copied());
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by_key(|n| keys[*n]);
            let (left, right) = order.split_at(cut);
            let mut merged = scalar(left.iter().map(|n| values[*n]));
            prop_assert!(merged.merge(&scalar(right.iter().map(|n| values[*n]))));
            // As bytes: equal numbers with unequal bits would not do.
            prop_assert_eq!(postcard::to_stdvec(&merged), postcard::to_stdvec(&whole));
            prop_assert_eq!(postcard::to_stdvec(&merged.summary()), postcard::to_stdvec(&whole.summary()));
        }

        /// Whole numbers up to 2^31, whose sums a pair of `i128` holds exactly.
        #[test]
        fn results_are_those_of_exact_arithmetic(values in prop::collection::vec(any::<i32>(), 1..200)) {
            let summary = scalar(values.iter().map(|value| f64::from(*value))).summary().unwrap();
            let n = values.len() as i128;
            let sum: i128 = values.iter().map(|value| i128::from(*value)).sum();
            let squares: i128 = values.iter().map(|value| i128::from(*value) * i128::from(*value)).sum();
            prop_assert_eq!(summary.mean, sum as f64 / n as f64);
            prop_assert_eq!(summary.variance, (n * squares - sum * sum) as f64 / (n * n) as f64);
        }

        #[test]
        fn results_are_within_the_last_bits_of_a_careful_sum(values in prop::collection::vec(-1e3f64..1e3, 2..100)) {
            let summary = scalar(values.iter().copied()).summary().unwrap();
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
            prop_assert!((summary.mean - mean).abs() <= 1e-10);
            prop_assert!((summary.variance - variance).abs() <= 1e-9 * (1.0 + variance));
        }
    }
}
