//! The Skoltech Anomaly Benchmark: a rig with eight sensors, outliers and change points.

use super::{Benchmark, Outcome};
use crate::bench::figure::Figure;
use anyhow::{Result, bail};
use std::path::Path;

/// The benchmark.
pub const SKAB: Benchmark = Benchmark {
    name: "skab",
    figures: &[
        Figure::at_least("skab_f1", 0.83, "share"),
        Figure::at_most("skab_far", 15.0, "%"),
        Figure::at_most("skab_mar", 20.0, "%"),
        Figure::at_least("skab_changepoint", 40.0, "points"),
        Figure::at_most("skab_changepoint_false", 20.0, "alarms"),
    ],
    published: &[],
    run,
};

fn run(_folder: &Path) -> Result<Outcome> {
    bail!("this benchmark is not there yet")
}
