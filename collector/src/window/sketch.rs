//! Quantiles of a window's values from counts in logarithmic buckets. Pure, and independent of order.
//!
//! 35 buckets divide each octave, so that a bucket is 2 % wide and its middle within 1 % of any value in
//! it (relative error `(g - 1) / (g + 1)` with `g = 2^(1/35)`, as in DDSketch, Masson et al. 2019). The
//! bucket of a value is found by comparing its bits with a table: no logarithm that another library would
//! round differently.
//!
//! [`BUCKETS_MAX`] buckets are kept apart, of both signs together. If values fall into more, the ones of
//! the smallest magnitude are counted together as the rest. Which buckets that concerns follows from the
//! values alone: those that are not among the [`BUCKETS_MAX`] highest that any value fell into. So values
//! in another order, or merged from parts, make the same sketch, bit for bit.

use super::scalar::{GRID_BITS, Value};
use serde::{Deserialize, Serialize};

/// Buckets kept apart: 3.7 octaves of values of one sign, within 1 KiB of state for the window.
pub const BUCKETS_MAX: usize = 128;

/// Buckets of an octave.
const PARTS: usize = 35;

/// Where the buckets of an octave begin, as the fraction bits of a double: `2^(i/35)`, rounded.
const EDGES: [u64; PARTS] = edges();

/// Room is made for so many buckets at a time.
const GROWTH: usize = 16;

/// Counts of values by magnitude and sign.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Sketch {
    /// By rising key, which tells magnitude and sign.
    buckets: Vec<Bucket>,
    /// Values of smaller magnitude than all buckets.
    rest: u32,
    /// The highest key among them.
    rest_key: u16,
}

/// How many values fell into a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Bucket {
    key: u16,
    /// High and low half: a `u32` would make the bucket a third larger.
    count: [u16; 2],
}

impl Sketch {
    /// Counts a value. A bucket holds at most `u32::MAX`: it stays there.
    pub fn add(&mut self, value: Value) {
        self.count(key_of(value), 1);
    }

    /// Counts what another sketch has counted.
    pub fn merge(&mut self, other: &Self) {
        if other.rest > 0 {
            self.rest = self.rest.saturating_add(other.rest);
            self.rest_key = self.rest_key.max(other.rest_key);
            // A bucket may not stay below what the other has given up.
            let below = self.buckets.partition_point(|bucket| bucket.key <= self.rest_key);
            for bucket in self.buckets.drain(..below) {
                self.rest = self.rest.saturating_add(bucket.count());
            }
        }
        for bucket in &other.buckets {
            self.count(bucket.key, bucket.count());
        }
    }

    /// The smallest value that at least so many thousandths of all values do not exceed, within 1 %;
    /// `None` without values. A value of the rest is told as the middle of where the rest lies.
    pub fn quantile(&self, permille: u32) -> Option<f64> {
        let total = u64::from(self.rest)
            + self
                .buckets
                .iter()
                .map(|bucket| u64::from(bucket.count()))
                .sum::<u64>();
        if total == 0 {
            return None;
        }
        let rank = (total * u64::from(permille.min(1_000))).div_ceil(1_000).max(1);
        let negative = self.buckets.iter().rev().filter(|bucket| bucket.key & 1 == 1);
        let positive = self.buckets.iter().filter(|bucket| bucket.key & 1 == 0);
        let told = |bucket: &Bucket| (middle(bucket.key), bucket.count());
        let rest = (self.rest > 0).then(|| (self.middle_of_rest(), self.rest));
        let mut seen = 0;
        negative
            .map(told)
            .chain(rest)
            .chain(positive.map(told))
            .find(|(_, count)| {
                seen += u64::from(*count);
                seen >= rank
            })
            .map(|(value, _)| value)
    }

    /// Bytes of the heap.
    pub fn heap_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
    }

    fn count(&mut self, key: u16, count: u32) {
        if self.rest > 0 && key <= self.rest_key {
            self.rest = self.rest.saturating_add(count);
            return;
        }
        match self.buckets.binary_search_by_key(&key, |bucket| bucket.key) {
            Ok(at) => self.buckets[at].add(count),
            Err(0) if self.buckets.len() >= BUCKETS_MAX => self.give_up(key, count),
            Err(at) if self.buckets.len() >= BUCKETS_MAX => {
                let lowest = self.buckets[0];
                self.give_up(lowest.key, lowest.count());
                self.buckets.copy_within(1..at, 0);
                self.buckets[at - 1] = Bucket::new(key, count);
            }
            Err(at) => {
                if self.buckets.len() == self.buckets.capacity() {
                    self.buckets.reserve_exact(GROWTH);
                }
                self.buckets.insert(at, Bucket::new(key, count));
            }
        }
    }

    fn give_up(&mut self, key: u16, count: u32) {
        self.rest = self.rest.saturating_add(count);
        self.rest_key = self.rest_key.max(key);
    }

    /// Around zero where buckets of both signs are kept, else in the middle up to the highest given up.
    fn middle_of_rest(&self) -> f64 {
        let has = |sign: u16| self.buckets.iter().any(|bucket| bucket.key & 1 == sign);
        match (has(0), has(1)) {
            (true, false) => middle(self.rest_key & !1),
            (false, true) => middle(self.rest_key | 1),
            _ => 0.0,
        }
    }
}

impl Bucket {
    const fn new(key: u16, count: u32) -> Self {
        Self {
            key,
            count: [(count >> 16) as u16, count as u16],
        }
    }

    const fn count(&self) -> u32 {
        (self.count[0] as u32) << 16 | self.count[1] as u32
    }

    const fn add(&mut self, count: u32) {
        *self = Self::new(self.key, self.count().saturating_add(count));
    }
}

/// Twice the place of the magnitude, counted from the grid's unit up, and one more below zero; 0 is zero.
fn key_of(value: Value) -> u16 {
    let bits = value.on_grid().abs().to_bits();
    if bits == 0 {
        return 0;
    }
    let octave = (bits >> 52) as usize - (1_023 - GRID_BITS as usize);
    let fraction = bits & ((1 << 52) - 1);
    // A part is at most one further than the even division of the octave says, or as many as it bends.
    let part = EDGES.partition_point(|edge| *edge <= fraction) - 1;
    let place = 1 + octave * PARTS + part;
    (2 * place) as u16 + u16::from(value.get() < 0.0)
}

/// The value of which all values of a bucket are within 1 %.
fn middle(key: u16) -> f64 {
    let Some(place) = usize::from(key >> 1).checked_sub(1) else {
        return 0.0;
    };
    let power = |place: usize| {
        let exponent = (place / PARTS + 1_023 - GRID_BITS as usize) as u64;
        f64::from_bits(exponent << 52 | EDGES[place % PARTS])
    };
    let (low, high) = (power(place), power(place + 1));
    // Equally far from both in proportion.
    let middle = 2.0 * low * high / (low + high);
    if key & 1 == 1 { -middle } else { middle }
}

/// `2^(i/35)` by bisection on the 35th power, in integers of 2^-31: exact enough that buckets are even to
/// 1 in 10^7, and the same on every machine.
const fn edges() -> [u64; PARTS] {
    let mut edges = [0; PARTS];
    let mut part = 1;
    while part < PARTS {
        let (mut low, mut high) = (1u64 << 31, 1u64 << 32);
        while high - low > 1 {
            let middle = u64::midpoint(low, high);
            if is_past(middle, part) {
                high = middle;
            } else {
                low = middle;
            }
        }
        edges[part] = (low - (1 << 31)) << 21;
        part += 1;
    }
    edges
}

/// Whether `x^35 > 2^part`, for `x` from 1 to 2 in units of 2^-31.
const fn is_past(x: u64, part: usize) -> bool {
    // As a mantissa of 63 bits from 1 to 2, and how often it was halved.
    let base = (x as u128) << 32;
    let (mut power, mut halved, mut n) = (base, 0, 1);
    while n < PARTS {
        power = (power * base) >> 63;
        if power >= 1 << 64 {
            power >>= 1;
            halved += 1;
        }
        n += 1;
    }
    halved >= part
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sketch(values: impl IntoIterator<Item = f64>) -> Sketch {
        let mut sketch = Sketch::default();
        for value in values {
            sketch.add(Value::new(value).unwrap());
        }
        sketch
    }

    #[test]
    fn an_octave_is_divided_evenly() {
        for (part, edge) in EDGES.iter().enumerate() {
            let edge = f64::from_bits(1_023 << 52 | edge);
            let even = 2f64.powf(part as f64 / PARTS as f64);
            assert!((edge / even - 1.0).abs() < 1e-8, "{part}: {edge} for {even}");
        }
    }

    #[test]
    fn quantiles_of_a_thousand_readings_are_within_a_percent() {
        let sketch = sketch((1..=1_000).map(|n| 200.0 + f64::from(n)));
        for (permille, exact) in [
            (0, 201.0),
            (500, 700.0),
            (950, 1_150.0),
            (990, 1_190.0),
            (1_000, 1_200.0),
        ] {
            let told = sketch.quantile(permille).unwrap();
            assert!(
                (told / exact - 1.0).abs() <= 0.01,
                "{permille}: {told} for {exact}"
            );
        }
    }

    #[test]
    fn values_of_both_signs_stand_in_their_order() {
        let sketch = sketch([-8.0, -1.0, 0.0, 1.0, 8.0]);
        let told: Vec<_> = [200, 400, 600, 800, 1_000]
            .map(|permille| sketch.quantile(permille).unwrap().round())
            .into();
        assert_eq!(told, [-8.0, -1.0, 0.0, 1.0, 8.0]);
        assert_eq!(super::Sketch::default().quantile(500), None);
    }

    #[test]
    fn what_falls_out_is_of_the_smallest_magnitude_and_high_quantiles_stay() {
        let wide = || (0..4_000).map(|n| 1e-6 * 1.01f64.powi(n % 2_000));
        let sketch = sketch(wide());
        assert_eq!(sketch.buckets.len(), BUCKETS_MAX);
        let mut sorted: Vec<_> = wide().collect();
        sorted.sort_by(f64::total_cmp);
        let exact = sorted[3_959];
        assert!((sketch.quantile(990).unwrap() / exact - 1.0).abs() <= 0.01);
        assert!(sketch.quantile(500).unwrap() <= sketch.quantile(900).unwrap());
        assert!(sketch.heap_bytes() <= 6 * BUCKETS_MAX);
    }

    proptest! {
        #[test]
        fn every_value_is_within_a_percent_of_its_buckets_middle(
            (exponent, fraction, negative) in (-70i32..59, 1.0f64..2.0, any::<bool>()),
        ) {
            let value = 2f64.powi(exponent) * if negative { -fraction } else { fraction };
            let told = middle(key_of(Value::new(value).unwrap()));
            prop_assert!((told / value - 1.0).abs() <= 0.01, "{} for {}", told, value);
        }

        /// More distinct buckets than are kept, so that some fall out on the way.
        #[test]
        fn any_order_and_any_division_into_parts_make_the_same_sketch(
            (values, keys, cut) in prop::collection::vec((-9i32..9, 1.0f64..2.0, any::<bool>()), 1..600).prop_flat_map(|values| {
                let count = values.len();
                (Just(values), prop::collection::vec(any::<u32>(), count), 0..=count)
            }),
        ) {
            let values: Vec<f64> = values.iter().map(|(exponent, fraction, negative)| {
                2f64.powi(*exponent) * if *negative { -fraction } else { *fraction }
            }).collect();
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by_key(|n| keys[*n]);
            let whole = sketch(values.iter().copied());
            prop_assert_eq!(&sketch(order.iter().map(|n| values[*n])), &whole);
            let (left, right) = order.split_at(cut);
            let mut merged = sketch(left.iter().map(|n| values[*n]));
            merged.merge(&sketch(right.iter().map(|n| values[*n])));
            prop_assert_eq!(merged, whole);
        }
    }
}
