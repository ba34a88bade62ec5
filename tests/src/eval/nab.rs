//! The Numenta Anomaly Benchmark: anomalies of single series, scored by when they are told.

use super::{Benchmark, Outcome};
use crate::bench::figure::Figure;
use anyhow::{Result, bail};
use std::path::Path;

/// The benchmark.
pub const NAB: Benchmark = Benchmark {
    name: "nab",
    figures: &[
        Figure::at_least("nab_standard", 66.0, "points"),
        Figure::at_least("nab_low_fp", 58.0, "points"),
        Figure::at_least("nab_low_fn", 71.0, "points"),
    ],
    published: &[],
    run,
};

fn run(_folder: &Path) -> Result<Outcome> {
    bail!("this benchmark is not there yet")
}
