//! Figures, measured on a release build and written as JSON and as a table.

use crate::flags::{Area, Bench};
use crate::report::step;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;
use trunnion_tests::bench::delivery::{self, Scale, Scenario};
use trunnion_tests::bench::figure::Report;
use trunnion_tests::workspace::{cargo, root};

/// Measures an area. Figures are of the release build: a debug build starts that one instead.
pub(crate) fn run(flags: &Bench) -> Result<()> {
    if cfg!(debug_assertions) && !flags.debug {
        step("building for release");
        let mut again = cargo(["run", "--quiet", "--release", "--package", "xtask", "--"]);
        again.args(std::env::args_os().skip(1));
        return crate::ci::run(again);
    }
    let dir = tempfile::Builder::new()
        .prefix("trunnion-bench-")
        .tempdir()
        .context("no temporary directory")?;
    let figures = match flags.area {
        Area::Delivery => {
            let mut scale = Scale::default();
            if let Some(mib) = flags.backlog_mib {
                scale.backlog_mib = mib;
            }
            if let Some(kills) = flags.kills {
                scale.kills = kills;
            }
            let chosen: Vec<Scenario> = Scenario::ALL
                .into_iter()
                .filter(|scenario| flags.only.is_empty() || flags.only.contains(scenario))
                .collect();
            delivery::measure(dir.path(), &scale, &chosen, step)
        }
    };
    let report = Report::new(commit(), figures);
    print!("\n{}", report.table());
    flags
        .report
        .as_deref()
        .map_or(Ok(()), |path| write(&report, path))
}

/// Writes a report as JSON.
pub(crate) fn write(report: &Report, path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write the report {}", path.display()))
}

/// The commit that is checked out; `unknown` outside of a repository.
pub(crate) fn commit() -> String {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(root())
        .output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}
