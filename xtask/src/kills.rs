//! Real processes killed under load, as often as one likes.

use crate::bench::{commit, write};
use crate::flags::Kills;
use crate::report::step;
use anyhow::{Context, Result, bail};
use std::time::{SystemTime, UNIX_EPOCH};
use trunnion_tests::bench::figure::Report;
use trunnion_tests::bench::kills::figures;
use trunnion_tests::kills::{self, Options};
use trunnion_tests::workspace::cargo;

/// Kills, and says what it cost.
pub(crate) fn run(flags: &Kills) -> Result<()> {
    step("building the programs");
    crate::ci::run(cargo(["build", "--workspace", "--bins"]))?;
    let dir = tempfile::Builder::new()
        .prefix("trunnion-kills-")
        .tempdir()
        .context("no temporary directory")?;
    let options = Options {
        kills: flags.count,
        seed: flags.seed.unwrap_or_else(seed),
    };
    let outcome = kills::run(dir.path(), &options, step);
    let report = match outcome {
        Ok(report) if report.verdict.is_flawless() => report,
        // What happened is in the logs and the journal.
        Ok(report) => {
            let dir = dir.keep();
            bail!("{report:#?}\neverything lies in {}", dir.display());
        }
        Err(error) => {
            let dir = dir.keep();
            return Err(error.context(format!(
                "seed {}; everything lies in {}",
                options.seed,
                dir.display()
            )));
        }
    };
    println!("{report:#?}");
    let figures = figures(&report);
    let report = Report::new(commit(), figures);
    print!("\n{}", report.table());
    flags
        .report
        .as_deref()
        .map_or(Ok(()), |path| write(&report, path))
}

/// Another run, another seed; the run says which.
pub(crate) fn seed() -> u64 {
    #[allow(
        clippy::disallowed_methods,
        reason = "any number will do that is not the last one"
    )]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs()
}
