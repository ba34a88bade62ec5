//! Gradient-boosted regression trees. Pure, and the same from the same rows.
//!
//! J. H. Friedman, "Greedy function approximation: a gradient boosting machine", Annals of Statistics 29
//! (2001), for squared error, each tree on a part of the rows (his "Stochastic gradient boosting", 2002)
//! and of the columns, with splits sought among the bins of a histogram.
//!
//! Of the crates that do this, those that are looked after weigh 40 crates and train for minutes, or want
//! a C library and a newer compiler; the small ones draw their samples from an unseeded generator, or not
//! at all. What is needed is this page, and a model file must be readable for as long as a plant runs.

use serde::{Deserialize, Serialize};

/// Trees of a model.
const TREES: usize = 400;
/// What each adds of what is left.
const LEARNING_RATE: f64 = 0.03;
/// Levels of a tree.
const DEPTH: usize = 3;
/// Rows of a leaf at least.
const LEAF_MIN: f64 = 60.0;
/// Rows counted in addition in a leaf, all of residual 0: what is seen little moves little.
const SHRINK_ROWS: f64 = 5.0;
/// Share of the rows that a tree sees.
const ROW_SHARE: f64 = 0.7;
/// Share of the columns that a tree sees.
const COLUMN_SHARE: f64 = 0.4;
/// Values of a column told apart.
const BINS: usize = 64;
const NODES: usize = (1 << DEPTH) - 1;
const LEAVES: usize = 1 << DEPTH;

/// A sum of trees.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Boosted {
    columns: usize,
    base: f64,
    trees: Vec<Tree>,
}

/// A complete tree of [`DEPTH`] levels.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Tree {
    /// By level, from the left; at most [`NODES`].
    splits: Vec<Split>,
    /// From the left, [`LEAVES`] of them.
    leaves: Vec<f64>,
}

/// Rows whose value in the column is at most the threshold go left.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct Split {
    column: u32,
    threshold: f64,
}

impl Boosted {
    /// Trees that tell `targets` from `rows`; none without rows, with rows of different lengths or of
    /// none, or when there are fewer targets or more than rows.
    pub fn train(rows: &[Vec<f64>], targets: &[f64], seed: u64) -> Option<Self> {
        let columns = rows.first()?.len();
        let uneven = rows.iter().any(|row| row.len() != columns);
        if uneven || columns == 0 || rows.len() != targets.len() {
            return None;
        }
        let binned: Vec<Binned> = (0..columns).map(|column| Binned::of(rows, column)).collect();
        let base = targets.iter().sum::<f64>() / targets.len() as f64;
        let mut residuals: Vec<f64> = targets.iter().map(|target| target - base).collect();
        let mut chance = Chance(seed);
        let mut trees = Vec::with_capacity(TREES);
        for _ in 0..TREES {
            let seen: Vec<bool> = (0..rows.len()).map(|_| chance.next() < ROW_SHARE).collect();
            let chosen: Vec<usize> = (0..columns).filter(|_| chance.next() < COLUMN_SHARE).collect();
            let (tree, leaf_of) = Tree::grow(&binned, &chosen, &residuals, &seen);
            for (residual, leaf) in residuals.iter_mut().zip(leaf_of) {
                *residual -= tree.leaves[leaf];
            }
            trees.push(tree);
        }
        Some(Self { columns, base, trees })
    }

    /// What the trees tell of a row; none when it has another length than those trained on.
    pub fn predict(&self, row: &[f64]) -> Option<f64> {
        if row.len() != self.columns {
            return None;
        }
        let sum: Option<f64> = self.trees.iter().map(|tree| tree.leaf(row)).sum();
        Some(self.base + sum?)
    }
}

impl Tree {
    fn grow(binned: &[Binned], chosen: &[usize], residuals: &[f64], seen: &[bool]) -> (Self, Vec<usize>) {
        let mut node_of = vec![0usize; residuals.len()];
        let mut splits = Vec::with_capacity(NODES);
        for level in 0..DEPTH {
            let nodes = 1 << level;
            let best = best_splits(binned, chosen, residuals, seen, &node_of, nodes);
            for (row, node) in node_of.iter_mut().enumerate() {
                // Without a split everything goes left.
                let right = best[*node].is_some_and(|(column, bin)| binned[column].bins[row] > bin);
                *node = 2 * *node + usize::from(right);
            }
            splits.extend(best.into_iter().map(|split| match split {
                Some((column, bin)) => Split {
                    column: column as u32,
                    threshold: binned[column].edges[usize::from(bin)],
                },
                None => Split {
                    column: 0,
                    threshold: f64::INFINITY,
                },
            }));
        }
        let mut sums = [(0.0, 0.0); LEAVES];
        for ((&leaf, &residual), _) in node_of.iter().zip(residuals).zip(seen).filter(|(_, seen)| **seen) {
            sums[leaf].0 += residual;
            sums[leaf].1 += 1.0;
        }
        let leaves = sums
            .iter()
            .map(|(sum, count)| LEARNING_RATE * sum / (count + SHRINK_ROWS))
            .collect();
        (Self { splits, leaves }, node_of)
    }

    /// None if the tree is not a whole one: it was read from a file.
    fn leaf(&self, row: &[f64]) -> Option<f64> {
        let mut node = 0;
        for level in 0..DEPTH {
            let split = self.splits.get((1 << level) - 1 + node)?;
            let value = row.get(split.column as usize)?;
            node = 2 * node + usize::from(*value > split.threshold);
        }
        self.leaves.get(node).copied()
    }
}

/// For each node of a level the column and the last bin on the left that take most off the squared error.
fn best_splits(
    binned: &[Binned],
    chosen: &[usize],
    residuals: &[f64],
    seen: &[bool],
    node_of: &[usize],
    nodes: usize,
) -> Vec<Option<(usize, u8)>> {
    let mut best = vec![(0.0, None); nodes];
    let gain = |sum: f64, count: f64| sum * sum / (count + SHRINK_ROWS);
    let mut histogram = vec![[(0.0f64, 0.0f64); BINS]; nodes];
    for &column in chosen {
        histogram.iter_mut().for_each(|bins| bins.fill((0.0, 0.0)));
        let rows = binned[column].bins.iter().zip(node_of).zip(residuals).zip(seen);
        for (((&bin, &node), &residual), _) in rows.filter(|(_, seen)| **seen) {
            let cell = &mut histogram[node][usize::from(bin)];
            cell.0 += residual;
            cell.1 += 1.0;
        }
        for (bins, best) in histogram.iter().zip(&mut best) {
            let (sum, count) = bins
                .iter()
                .fold((0.0, 0.0), |all, bin| (all.0 + bin.0, all.1 + bin.1));
            let mut left = (0.0, 0.0);
            for (bin, cell) in bins.iter().enumerate().take(binned[column].edges.len()) {
                left = (left.0 + cell.0, left.1 + cell.1);
                if left.1 < LEAF_MIN || count - left.1 < LEAF_MIN {
                    continue;
                }
                let gained = gain(left.0, left.1) + gain(sum - left.0, count - left.1) - gain(sum, count);
                if gained > best.0 {
                    *best = (gained, Some((column, bin as u8)));
                }
            }
        }
    }
    best.into_iter().map(|(_, split)| split).collect()
}

/// One column in bins of about as many rows each.
struct Binned {
    /// Upper edges of all bins but the last, rising.
    edges: Vec<f64>,
    /// Bin of each row.
    bins: Vec<u8>,
}

impl Binned {
    fn of(rows: &[Vec<f64>], column: usize) -> Self {
        let mut sorted: Vec<f64> = rows.iter().map(|row| row[column]).collect();
        sorted.sort_by(f64::total_cmp);
        let mut edges: Vec<f64> = (1..BINS)
            .map(|bin| sorted[bin * (sorted.len() - 1) / BINS])
            .collect();
        edges.dedup();
        // An edge at the largest value would have nothing beyond it.
        edges.retain(|edge| *edge < sorted[sorted.len() - 1]);
        let bin = |value: f64| edges.partition_point(|edge| *edge < value) as u8;
        let bins = rows.iter().map(|row| bin(row[column])).collect();
        Self { edges, bins }
    }
}

/// SplitMix64 (G. L. Steele, D. Lea and C. H. Flood, "Fast splittable pseudorandom number generators", 2014).
struct Chance(u64);

impl Chance {
    /// The next number, from 0 to below 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of two columns that matter and three that do not, and what they tell.
    fn rows() -> (Vec<Vec<f64>>, Vec<f64>) {
        let mut chance = Chance(3);
        let rows: Vec<Vec<f64>> = (0..3_000)
            .map(|_| (0..5).map(|_| chance.next()).collect())
            .collect();
        let targets = rows
            .iter()
            .map(|row| 10.0 * row[0] + if row[1] > 0.5 { 5.0 } else { 0.0 })
            .collect();
        (rows, targets)
    }

    #[test]
    fn a_law_is_learned_from_its_rows() {
        let (rows, targets) = rows();
        let model = Boosted::train(&rows, &targets, 1).unwrap();
        let errors = rows.iter().zip(&targets).map(|(row, target)| {
            let error = model.predict(row).unwrap() - target;
            error * error
        });
        let rmse = (errors.sum::<f64>() / rows.len() as f64).sqrt();
        assert!(rmse < 0.5, "{rmse}");
    }

    #[test]
    fn the_same_rows_give_the_same_model() {
        let (rows, targets) = rows();
        let train = || Boosted::train(&rows, &targets, 1);
        assert_eq!(train(), train());
    }

    #[test]
    fn rows_that_do_not_fit_are_refused() {
        let (rows, targets) = rows();
        assert_eq!(Boosted::train(&[], &[], 1), None);
        assert_eq!(Boosted::train(&rows, &targets[1..], 1), None);
        assert_eq!(Boosted::train(&[vec![1.0], vec![]], &[1.0, 2.0], 1), None);
        let model = Boosted::train(&rows, &targets, 1).unwrap();
        assert_eq!(model.predict(&[1.0]), None);
    }
}
