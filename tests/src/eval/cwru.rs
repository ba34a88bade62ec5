//! Case Western Reserve University's seeded bearing faults: name the element from one record.

use super::{Benchmark, Outcome};
use crate::bench::figure::Figure;
use anyhow::{Result, bail};
use std::path::Path;

/// The benchmark.
pub const CWRU: Benchmark = Benchmark {
    name: "cwru",
    figures: &[
        Figure::at_least("cwru_named", 6.0, "records"),
        Figure::at_most("cwru_wrong", 0.0, "claims"),
    ],
    published: &[],
    run,
};

fn run(_folder: &Path) -> Result<Outcome> {
    bail!("this benchmark is not there yet")
}
