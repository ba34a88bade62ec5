//! Half-space trees: where few rows have lain of late.
//!
//! S. C. Tan, K. M. Ting and T. F. Liu, *Fast anomaly detection for streaming data*, IJCAI 2011. Each tree
//! halves the space of the channels again and again, along channels drawn by lot, before it has seen
//! anything; then it only counts how many of the last rows lay in each half. A row where all trees count few
//! is rare. Nothing is assumed of distributions, clusters or correlation, and a row costs some additions.

use heapless::Vec;
use serde::{Deserialize, Serialize};

/// Halvings from the root to a leaf.
const DEPTH: usize = 8;
/// Nodes of a tree: a root, and twice as many in each level.
const NODES: usize = (1 << (DEPTH + 1)) - 1;
/// Rows after which what was counted becomes what is compared with (the paper's window).
pub const WINDOW: u16 = 250;
/// A node with fewer rows than this decides without its children (a tenth of the window, as in the paper).
const FEW: u16 = WINDOW / 10;

/// Where a node halves what it covers.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct Split {
    channel: u8,
    /// In shares of the channel's range.
    at: f32,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Tree {
    splits: Vec<Split, NODES>,
    /// Rows of the last window by node, compared with.
    reference: Vec<u16, NODES>,
    /// Rows of this window by node.
    counted: Vec<u16, NODES>,
}

/// The range that a channel is expected in, in its unit.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Range {
    /// Its lower end.
    pub low: f32,
    /// Its upper end, above `low`.
    pub high: f32,
}

/// A forest of `TREES` trees over at most `CHANNELS` channels; 25 trees are the paper's.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HalfSpaceTrees<const TREES: usize, const CHANNELS: usize> {
    ranges: Vec<Range, CHANNELS>,
    trees: Vec<Tree, TREES>,
    rows: u16,
    has_reference: bool,
}

/// Numbers by lot that are the same for the same seed (G. L. Steele et al., SplitMix64, 2014).
struct Lot(u64);

impl Lot {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// Evenly between 0 and 1.
    fn share(&mut self) -> f32 {
        (self.draw() >> 40) as f32 / (1u32 << 24) as f32
    }

    fn below(&mut self, count: usize) -> usize {
        (self.draw() % count.max(1) as u64) as usize
    }
}

impl Tree {
    fn grow<const CHANNELS: usize>(channels: usize, lot: &mut Lot) -> Self {
        // A space larger than the range, with the range somewhere in it (the paper's section 4): trees do not
        // all halve at the same place.
        let space = |lot: &mut Lot| {
            let centre = lot.share();
            let reach = 2.0 * centre.max(1.0 - centre);
            (centre - reach, centre + reach)
        };
        let mut boxes: Vec<(f32, f32), CHANNELS> = (0..channels).map(|_| space(lot)).collect();
        let mut splits: Vec<Split, NODES> = Vec::new();
        let none = Split { channel: 0, at: 0.0 };
        splits.resize(NODES, none).unwrap_or_default();
        halve(&mut splits, 0, &mut boxes, lot);
        let mut zeros: Vec<u16, NODES> = Vec::new();
        zeros.resize(NODES, 0).unwrap_or_default();
        Self {
            splits,
            reference: zeros.clone(),
            counted: zeros,
        }
    }

    /// The nodes that a row falls into, from the root on, with their levels.
    fn path<'a>(&'a self, row: &'a [f32]) -> impl Iterator<Item = (usize, usize)> + 'a {
        let mut node = 0;
        (0..=DEPTH).map(move |level| {
            let this = node;
            let split = self.splits.get(this);
            let upper = split.is_some_and(|split| {
                row.get(usize::from(split.channel))
                    .is_some_and(|share| *share >= split.at)
            });
            node = 2 * this + 1 + usize::from(upper);
            (this, level)
        })
    }

    /// Rows compared with, as many as there would be were they spread evenly over the leaves.
    fn mass(&self, row: &[f32]) -> f64 {
        let count = |node: usize| self.reference.get(node).copied().unwrap_or(0);
        let end = self
            .path(row)
            .find(|&(node, level)| level == DEPTH || count(node) <= FEW);
        end.map_or(0.0, |(node, level)| {
            f64::from(count(node)) * f64::from(1u32 << level)
        })
    }

    fn count(&mut self, row: &[f32]) {
        let mut nodes: Vec<usize, { DEPTH + 1 }> = Vec::new();
        nodes.extend(self.path(row).map(|(node, _)| node));
        for node in nodes {
            if let Some(counted) = self.counted.get_mut(node) {
                *counted = counted.saturating_add(1);
            }
        }
    }

    fn turn(&mut self) {
        core::mem::swap(&mut self.reference, &mut self.counted);
        self.counted.iter_mut().for_each(|counted| *counted = 0);
    }
}

/// Halves what `node` covers, and what its children do.
fn halve<const CHANNELS: usize>(
    splits: &mut Vec<Split, NODES>,
    node: usize,
    boxes: &mut Vec<(f32, f32), CHANNELS>,
    lot: &mut Lot,
) {
    let channel = lot.below(boxes.len());
    let (Some(split), Some(&(low, high))) = (splits.get_mut(node), boxes.get(channel)) else {
        return;
    };
    let at = (low + high) / 2.0;
    *split = Split {
        channel: channel as u8,
        at,
    };
    for (child, half) in [(2 * node + 1, (low, at)), (2 * node + 2, (at, high))] {
        boxes[channel] = half;
        halve(splits, child, boxes, lot);
    }
    boxes[channel] = (low, high);
}

impl<const TREES: usize, const CHANNELS: usize> HalfSpaceTrees<TREES, CHANNELS> {
    /// Trees grown by the lot of `seed` over channels of these ranges; those beyond `CHANNELS` are not
    /// looked at.
    pub fn new(ranges: &[Range], seed: u64) -> Self {
        let ranges: Vec<Range, CHANNELS> = ranges.iter().take(CHANNELS).copied().collect();
        let mut lot = Lot(seed);
        let grow = |_| Tree::grow::<CHANNELS>(ranges.len(), &mut lot);
        Self {
            trees: (0..TREES).map(grow).collect(),
            ranges,
            rows: 0,
            has_reference: false,
        }
    }

    /// Takes the next row: how rare it is, 0 where as many rows have lain as anywhere and 1 where none have.
    /// `None` in the first window, and of a row with a gap or too few channels, which is not counted.
    pub fn handle_row(&mut self, row: &[f32]) -> Option<f64> {
        let row = row.get(..self.ranges.len())?;
        if self.ranges.is_empty() || row.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let share = |(value, range): (&f32, &Range)| {
            (value - range.low) / (range.high - range.low).max(f32::MIN_POSITIVE)
        };
        let row: Vec<f32, CHANNELS> = row.iter().zip(&self.ranges).map(share).collect();
        let rarity = self.has_reference.then(|| {
            let mass: f64 = self.trees.iter().map(|tree| tree.mass(&row)).sum();
            // A mean mass of the whole window is what evenly spread rows have.
            1.0 / (1.0 + mass / (TREES.max(1) as f64 * f64::from(WINDOW)))
        });
        self.trees.iter_mut().for_each(|tree| tree.count(&row));
        self.rows += 1;
        if self.rows == WINDOW {
            self.trees.iter_mut().for_each(Tree::turn);
            self.rows = 0;
            self.has_reference = true;
        }
        rarity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Range = Range { low: 0.0, high: 1.0 };

    fn forest() -> HalfSpaceTrees<25, 2> {
        HalfSpaceTrees::new(&[UNIT; 2], 7)
    }

    /// Two clusters, of which each channel alone shows nothing of the gap between them.
    fn row(index: u32) -> [f32; 2] {
        let noise = |index: u32| (index.wrapping_mul(2_654_435_761) >> 16) as f32 / 655_360.0;
        let base = if index.is_multiple_of(2) { 0.2 } else { 0.7 };
        [base + noise(index), base + noise(index + 1_000_000)]
    }

    #[test]
    fn a_row_where_none_has_lain_is_rarer_than_those_where_most_do() {
        let mut forest = forest();
        let usual: std::vec::Vec<f64> = (0..1_000).filter_map(|i| forest.handle_row(&row(i))).collect();
        assert_eq!(usual.len(), 750);
        let mean = usual.iter().sum::<f64>() / usual.len() as f64;
        let between = forest.handle_row(&[0.25, 0.75]).unwrap();
        let outside = forest.handle_row(&[3.0, -2.0]).unwrap();
        assert!(mean < 0.1, "{mean}");
        assert!(
            between > 3.0 * mean && outside > 5.0 * mean,
            "{mean} {between} {outside}"
        );
    }

    #[test]
    fn what_has_become_usual_is_rare_no_more() {
        let mut forest = forest();
        (0..500).for_each(|i| {
            forest.handle_row(&row(i));
        });
        // To where neither cluster was.
        let moved = |i: u32| [row(i)[0] * 0.1 + 0.45, row(i)[1] * 0.1];
        let first = forest.handle_row(&moved(500)).unwrap();
        (501..1_000).for_each(|i| {
            forest.handle_row(&moved(i));
        });
        let last = forest.handle_row(&moved(1_000)).unwrap();
        assert!(last < 0.5 * first, "{first} {last}");
    }

    #[test]
    fn the_same_seed_grows_the_same_trees() {
        assert_eq!(forest(), forest());
        assert_ne!(forest(), HalfSpaceTrees::new(&[UNIT; 2], 8));
    }

    #[test]
    fn a_row_with_a_gap_is_not_counted() {
        let mut forest = forest();
        let before = forest.clone();
        assert_eq!(forest.handle_row(&[0.5, f32::NAN]), None);
        assert_eq!(forest.handle_row(&[0.5]), None);
        assert_eq!(forest, before);
    }
}
