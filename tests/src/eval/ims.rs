//! Bearings run to failure at the University of Cincinnati: how early, and what of the healthy ones.

use super::{Benchmark, Outcome};
use crate::bench::figure::Figure;
use anyhow::{Result, bail};
use std::path::Path;

/// The benchmark.
pub const IMS: Benchmark = Benchmark {
    name: "ims",
    figures: &[
        Figure::at_least("ims_lead_h_test2", 72.0, "h"),
        Figure::at_most("ims_false_alarms_test2", 0.0, "alarms"),
    ],
    published: &[],
    run,
};

fn run(_folder: &Path) -> Result<Outcome> {
    bail!("this benchmark is not there yet")
}
