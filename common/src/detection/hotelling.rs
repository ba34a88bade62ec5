//! Channels that no longer move together: Hotelling's T-squared, the residual Q, and who contributes.
//!
//! T-squared is the squared distance from the learned mean in the metric of the learned covariance (H.
//! Hotelling, *Multivariate quality control*, 1947). Q is the squared distance from the plane of the
//! principal components that explain most of the learned variance (J. E. Jackson, *A User's Guide to
//! Principal Components*, section 2.7): small movements that break the habit of the channels, where T-squared
//! sees large ones along it too. Contributions sum to the statistic (S. J. Qin, *Statistical process
//! monitoring*, Journal of Chemometrics 17, 2003).

use heapless::Vec;
use serde::{Deserialize, Serialize};

/// Channels looked at together at most.
pub const CHANNELS_MAX: usize = 16;
const CELLS_MAX: usize = CHANNELS_MAX * CHANNELS_MAX;

/// One figure for each channel.
pub type Row = Vec<f64, CHANNELS_MAX>;

/// What the principal components kept must explain of the learned variance (Jackson's usual choice).
const EXPLAINED: f64 = 0.9;

/// What is added to each variance, of the standardised channels: two channels that are copies of each other
/// still have a metric, and a difference of theirs counts from a ten-thousandth of their spread on.
const RIDGE: f64 = 1e-8;

/// Means and covariances of rows.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Covariance {
    count: u32,
    mean: Row,
    /// Row by row.
    products: Vec<f64, CELLS_MAX>,
}

impl Covariance {
    /// Takes a row; all have the same length, and what is beyond [`CHANNELS_MAX`] is not looked at.
    pub fn push(&mut self, row: &[f64]) {
        let channels = row.len().min(CHANNELS_MAX);
        if self.count == 0 {
            // Neither is beyond its bound, by the line above.
            self.mean.resize(channels, 0.0).unwrap_or_default();
            self.products.resize(channels * channels, 0.0).unwrap_or_default();
        }
        self.count = self.count.saturating_add(1);
        let before: Row = row
            .iter()
            .zip(&self.mean)
            .map(|(value, mean)| value - mean)
            .collect();
        for (mean, before) in self.mean.iter_mut().zip(&before) {
            *mean += before / f64::from(self.count);
        }
        let after: Row = row
            .iter()
            .zip(&self.mean)
            .map(|(value, mean)| value - mean)
            .collect();
        for (products, before) in self.products.chunks_exact_mut(channels.max(1)).zip(&before) {
            for (product, after) in products.iter_mut().zip(&after) {
                *product += before * after;
            }
        }
    }

    /// Means by channel.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    fn matrix(&self) -> Matrix {
        let count = f64::from(self.count.max(1));
        Matrix {
            size: self.mean.len(),
            cells: self.products.iter().map(|product| product / count).collect(),
        }
    }
}

/// A square matrix of the channels, row by row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Matrix {
    size: usize,
    cells: Vec<f64, CELLS_MAX>,
}

impl Matrix {
    fn identity(size: usize) -> Self {
        let cells = (0..size * size).map(|cell| f64::from(u8::from(cell / size == cell % size)));
        Self {
            size,
            cells: cells.collect(),
        }
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        self.cells.get(row * self.size + column).copied().unwrap_or(0.0)
    }

    fn set(&mut self, row: usize, column: usize, value: f64) {
        if let Some(cell) = self.cells.get_mut(row * self.size + column) {
            *cell = value;
        }
    }

    fn times(&self, row: &[f64]) -> Row {
        let product = |cells: &[f64]| cells.iter().zip(row).map(|(a, b)| a * b).sum();
        self.cells.chunks_exact(self.size.max(1)).map(product).collect()
    }

    /// Its eigenvalues and, as columns, eigenvectors, by Jacobi's rotations (G. H. Golub and C. F. Van
    /// Loan, *Matrix Computations*, section 8.5); it must be symmetric.
    fn eigen(mut self) -> (Row, Self) {
        // Five sweeps make 16 channels exact; more are for the odd one out.
        const SWEEPS: usize = 30;
        let size = self.size;
        let mut vectors = Self::identity(size);
        for _ in 0..SWEEPS {
            let mut off = 0.0;
            for row in 0..size {
                for column in row + 1..size {
                    off += self.at(row, column) * self.at(row, column);
                    self.rotate(row, column, &mut vectors);
                }
            }
            if off < 1e-22 {
                break;
            }
        }
        ((0..size).map(|index| self.at(index, index)).collect(), vectors)
    }

    /// Turns the plane of two axes so that nothing is left between them.
    fn rotate(&mut self, p: usize, q: usize, vectors: &mut Self) {
        let between = self.at(p, q);
        if between == 0.0 {
            return;
        }
        let ratio = (self.at(q, q) - self.at(p, p)) / (2.0 * between);
        let tangent = libm::copysign(1.0, ratio) / (libm::fabs(ratio) + libm::sqrt(1.0 + ratio * ratio));
        let cosine = 1.0 / libm::sqrt(1.0 + tangent * tangent);
        let sine = tangent * cosine;
        for index in 0..self.size {
            let (a, b) = (self.at(index, p), self.at(index, q));
            self.set(index, p, cosine * a - sine * b);
            self.set(index, q, sine * a + cosine * b);
        }
        for index in 0..self.size {
            let (a, b) = (self.at(p, index), self.at(q, index));
            self.set(p, index, cosine * a - sine * b);
            self.set(q, index, sine * a + cosine * b);
            let (a, b) = (vectors.at(index, p), vectors.at(index, q));
            vectors.set(index, p, cosine * a - sine * b);
            vectors.set(index, q, sine * a + cosine * b);
        }
    }
}

/// A statistic of one row, and what each channel contributes to it.
#[derive(Clone, PartialEq, Debug)]
pub struct Statistic {
    /// The squared distance.
    pub value: f64,
    /// By channel; they sum to the value. One can be negative where channels make up for each other.
    pub contributions: Row,
}

/// What was learned of the channels.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Model {
    mean: Row,
    /// What one is in each channel.
    scale: Row,
    /// The inverse of the covariance of the scaled channels.
    metric: Matrix,
    /// What is left of a scaled row without the principal components kept.
    residual: Matrix,
}

impl Model {
    /// The model of what was learned. `widening` is by what each channel's distances are divided beyond
    /// that; `None` when nothing was learned or a figure is not finite.
    pub fn new(learned: &Covariance, widening: &[f64]) -> Option<Self> {
        let covariance = learned.matrix();
        let size = covariance.size;
        if size == 0 || widening.len() < size {
            return None;
        }
        let deviations: Row = (0..size)
            .map(|index| deviation_or_floor(libm::sqrt(covariance.at(index, index)), learned.mean[index]))
            .collect();
        let mut correlation = covariance;
        for row in 0..size {
            for column in 0..size {
                let ridge = if row == column { RIDGE } else { 0.0 };
                let scaled = correlation.at(row, column) / (deviations[row] * deviations[column]);
                correlation.set(row, column, scaled + ridge);
            }
        }
        let (values, vectors) = correlation.eigen();
        let metric = spectral(&vectors, |index| 1.0 / values[index].max(RIDGE));
        let residual = {
            let kept = Kept::of(&values);
            spectral(&vectors, |index| if kept.has(index) { 0.0 } else { 1.0 })
        };
        let model = Self {
            mean: learned.mean.clone(),
            scale: deviations.iter().zip(widening).map(|(a, b)| a * b).collect(),
            metric,
            residual,
        };
        let finite = |row: &[f64]| row.iter().all(|value| value.is_finite());
        (finite(&model.mean) && finite(&model.scale) && finite(&model.metric.cells)).then_some(model)
    }

    /// Whether it is one of so many channels, all of its numbers finite.
    pub fn is_sound(&self, channels: usize) -> bool {
        let is_row = |row: &Row| row.len() == channels && row.iter().all(|value| value.is_finite());
        let is_matrix = |matrix: &Matrix| {
            let is_square = matrix.size == channels && matrix.cells.len() == channels * channels;
            is_square && matrix.cells.iter().all(|cell| cell.is_finite())
        };
        let is_scale = self.scale.iter().all(|scale| *scale > 0.0);
        is_row(&self.mean)
            && is_row(&self.scale)
            && is_scale
            && is_matrix(&self.metric)
            && is_matrix(&self.residual)
    }

    /// Means by channel, as learned.
    pub fn means(&self) -> &[f64] {
        &self.mean
    }

    /// What one is in each channel: its learned standard deviation, widened.
    pub fn scales(&self) -> &[f64] {
        &self.scale
    }

    fn scaled(&self, row: &[f64]) -> Row {
        let learned = self.mean.iter().zip(&self.scale);
        row.iter()
            .zip(learned)
            .map(|(value, (mean, scale))| (value - mean) / scale)
            .collect()
    }

    /// Hotelling's T-squared of a row.
    pub fn t_squared(&self, row: &[f64]) -> Statistic {
        let scaled = self.scaled(row);
        let weighted = self.metric.times(&scaled);
        sum_of(scaled.iter().zip(&weighted).map(|(a, b)| a * b).collect())
    }

    /// The residual Q of a row.
    pub fn q(&self, row: &[f64]) -> Statistic {
        let left = self.residual.times(&self.scaled(row));
        sum_of(left.iter().map(|left| left * left).collect())
    }
}

fn sum_of(contributions: Row) -> Statistic {
    Statistic {
        value: contributions.iter().sum(),
        contributions,
    }
}

/// A channel's standard deviation, or what counts as one where it stood still: a ten-thousandth of its mean.
pub(super) fn deviation_or_floor(deviation: f64, mean: f64) -> f64 {
    deviation.max(1e-4 * libm::fabs(mean)).max(1e-9)
}

/// The matrix with these eigenvectors and the eigenvalues that `value` gives.
fn spectral(vectors: &Matrix, value: impl Fn(usize) -> f64) -> Matrix {
    let size = vectors.size;
    let cell = |cell: usize| {
        let (row, column) = (cell / size, cell % size);
        (0..size)
            .map(|index| vectors.at(row, index) * value(index) * vectors.at(column, index))
            .sum()
    };
    Matrix {
        size,
        cells: (0..size * size).map(cell).collect(),
    }
}

/// Which principal components are kept: the largest, until they explain enough.
struct Kept {
    smallest: f64,
    values: Row,
}

impl Kept {
    fn of(values: &Row) -> Self {
        let mut sorted = values.clone();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let all: f64 = sorted.iter().sum();
        let mut explained = 0.0;
        let last = sorted.iter().find(|value| {
            explained += **value;
            explained >= EXPLAINED * all
        });
        Self {
            smallest: last.copied().unwrap_or(0.0),
            values: values.clone(),
        }
    }

    fn has(&self, index: usize) -> bool {
        self.values
            .get(index)
            .is_some_and(|value| *value >= self.smallest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, expected: f64) {
        assert!(
            (got - expected).abs() <= 1e-4 * expected.abs().max(1e-6),
            "{got} is not {expected}"
        );
    }

    /// Two channels that move together and one of its own.
    fn rows() -> impl Iterator<Item = [f64; 3]> {
        (0..200).map(|i| {
            let i = f64::from(i);
            let common = (i * 0.7).sin();
            [
                common + 0.1 * (i * 2.3).sin(),
                2.0 * common + 5.0,
                (i * 1.1).cos(),
            ]
        })
    }

    fn learned() -> Model {
        let mut covariance = Covariance::default();
        rows().for_each(|row| covariance.push(&row));
        Model::new(&covariance, &[1.0; 3]).unwrap()
    }

    /// numpy 2: with `R` the rows, `C = np.cov(R.T, bias=True)` and `d = row - R.mean(0)`,
    /// `d @ np.linalg.inv(C) @ d`.
    #[test]
    fn t_squared_agrees_with_an_independent_implementation() {
        let model = learned();
        for (row, expected) in [
            ([0.5, 6.5, -1.0], 15.58029182908398),
            ([1.0, 3.0, 0.0], 804.6652086223583),
        ] {
            let found = model.t_squared(&row);
            close(found.value, expected);
            close(found.contributions.iter().sum(), expected);
        }
    }

    #[test]
    fn on_average_the_learned_rows_are_as_far_as_there_are_channels() {
        let model = learned();
        let mean = rows().map(|row| model.t_squared(&row).value).sum::<f64>() / 200.0;
        assert!((mean - 3.0).abs() < 1e-3, "{mean}");
    }

    #[test]
    fn q_sees_what_breaks_the_habit_and_not_what_follows_it() {
        let model = learned();
        // Both up together, as always; one up and one down, as never.
        let along = model.q(&[1.0, 7.0, 0.0]).value;
        let across = model.q(&[1.0, 3.0, 0.0]);
        assert!(across.value > 50.0 * along, "{} {along}", across.value);
        let alone = across.contributions[2] / across.value;
        assert!(alone < 0.05, "{alone}");
    }

    #[test]
    fn copies_of_a_channel_and_one_that_stands_still_have_a_metric() {
        let mut covariance = Covariance::default();
        (0..100).for_each(|i| {
            let value = f64::from(i % 7);
            covariance.push(&[value, value, 42.0]);
        });
        let model = Model::new(&covariance, &[1.0; 3]).unwrap();
        assert!(model.t_squared(&[3.0, 3.0, 42.0]).value < 3.0);
        assert!(model.t_squared(&[3.0, 3.0, 43.0]).value > 100.0);
        assert!(model.t_squared(&[3.0, 0.0, 42.0]).value > 100.0);
    }

    #[test]
    fn widening_shrinks_distances_by_its_square() {
        let mut covariance = Covariance::default();
        rows().for_each(|row| covariance.push(&row));
        let wide = Model::new(&covariance, &[3.0; 3]).unwrap();
        let row = [1.0, 3.0, 0.0];
        close(wide.t_squared(&row).value, learned().t_squared(&row).value / 9.0);
    }

    #[test]
    fn nothing_learned_is_no_model() {
        assert_eq!(Model::new(&Covariance::default(), &[]), None);
    }
}
