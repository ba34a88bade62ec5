//! Bearings of the PRONOSTIA platform run to 20 g: onset, and remaining life with an interval.

use super::{Benchmark, Outcome};
use crate::bench::figure::Figure;
use anyhow::{Result, bail};
use std::path::Path;

/// The benchmark.
pub const FEMTO: Benchmark = Benchmark {
    name: "femto",
    figures: &[
        Figure::at_least("femto_coverage", 0.8, "share"),
        Figure::told("femto_score", "points"),
    ],
    published: &[],
    run,
};

fn run(_folder: &Path) -> Result<Outcome> {
    bail!("this benchmark is not there yet")
}
