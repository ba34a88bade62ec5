//! Figures, measured on a release build and written as JSON and as a table.

use crate::flags::{Area, Bench};
use crate::report::step;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use trunnion_tests::bench::figure::Report;
use trunnion_tests::bench::scenario::{self, Scenario};
use trunnion_tests::bench::{delivery, engine, firmware};
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
            let mut scale = delivery::Scale::default();
            if let Some(mib) = flags.backlog_mib {
                scale.backlog_mib = mib;
            }
            if let Some(kills) = flags.kills {
                scale.kills = kills;
            }
            let chosen = choose(&delivery::SCENARIOS, &flags.only)?;
            delivery::measure(dir.path(), &scale, &chosen, step)
        }
        Area::Engine => {
            let mut scale = engine::Scale::default();
            if let Some(seconds) = flags.burst_s {
                scale.burst = Duration::from_secs(seconds);
            }
            let chosen = choose(&engine::SCENARIOS, &flags.only)?;
            engine::measure(dir.path(), &scale, &chosen, step)
        }
        Area::Firmware => {
            let chosen = choose(&firmware::SCENARIOS, &flags.only)?;
            scenario::measure(dir.path(), &firmware::Scale, &chosen, step)
        }
    };
    let report = Report::new(commit(), figures);
    print!("\n{}", report.table());
    flags
        .report
        .as_deref()
        .map_or(Ok(()), |path| write(&report, path))
}

/// The scenarios of these names, or all of them.
fn choose<'a, S>(scenarios: &'a [Scenario<S>], names: &[String]) -> Result<Vec<&'a Scenario<S>>> {
    let known: Vec<_> = scenarios.iter().map(|scenario| scenario.name).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no scenario `{name}` here; there are: {}", known.join(", "));
    }
    let wanted = |scenario: &&Scenario<S>| names.is_empty() || names.iter().any(|name| name == scenario.name);
    Ok(scenarios.iter().filter(wanted).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names<S>(chosen: &[&Scenario<S>]) -> Vec<&'static str> {
        chosen.iter().map(|scenario| scenario.name).collect()
    }

    #[test]
    fn scenarios_are_chosen_by_name_and_all_of_them_without_one() {
        let only = ["collector".to_owned()];
        assert_eq!(names(&choose(&engine::SCENARIOS, &only).unwrap()), ["collector"]);
        let all = choose(&engine::SCENARIOS, &[]).unwrap();
        assert_eq!(all.len(), engine::SCENARIOS.len());
    }

    #[test]
    fn a_scenario_of_another_area_is_refused_with_those_there_are() {
        let refused = choose(&engine::SCENARIOS, &["drain".to_owned()]).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("`drain` here; there are: windows, waveform, "),
            "{refused}"
        );
    }
}
