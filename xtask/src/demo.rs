//! The main job: the whole system on loopback, a healthy machine and failing ones, told in a table.

use crate::ci::cargo;
use crate::flags::{Demo, Machine};
use crate::report::step;
use anyhow::{Context, Result, bail};
use std::path::Path;
use trunnion_tests::cases;
use trunnion_tests::story::{self, Report};

/// Plays the demo and prints how it ended.
pub(crate) fn run(flags: &Demo) -> Result<()> {
    step("building the programs");
    crate::ci::run(cargo(&["build", "--workspace", "--bins"]))?;
    let cases = match (&flags.data, flags.machine) {
        (Some(dir), None) => {
            step(&format!("reading records from {}", dir.display()));
            cases::from_records(dir)?
        }
        (None, Some(Machine::Simulated) | None) => cases::simulated(),
        (Some(_), Some(_)) => bail!("--data and --machine exclude each other"),
    };
    for case in &cases {
        println!(
            "    {:<22} {:>7.0} Hz {:>6.1} s",
            case.record,
            case.rate_hz,
            case.duration_s()
        );
    }
    let dir = tempfile::Builder::new()
        .prefix("trunnion-demo-")
        .tempdir()
        .context("no temporary directory")?;
    let (report, mut plant) = story::play(dir.path(), cases, flags.kill, step)?;
    print_table(&report);
    if let Some(path) = &flags.report {
        write_report(&report, path)?;
    }
    if flags.keep {
        println!(
            "\nThe page is at {}; everything lies in {}.",
            plant.url("/")?,
            dir.path().display()
        );
        println!("Ctrl-C ends the demo.");
        wait_for_interrupt();
    }
    plant.stop()?;
    if report.samples_unexplained > 0 || report.samples_double_counted > 0 {
        bail!("the ledger does not add up: see the table");
    }
    Ok(())
}

fn print_table(report: &Report) {
    let line = |name: &str, value: String| println!("  {name:<34} {value:>14}");
    println!();
    line("nodes", report.nodes.to_string());
    line("samples produced", report.samples_produced.to_string());
    line("samples stored", report.samples_stored.to_string());
    line("samples lost", report.samples_lost.to_string());
    line(
        "samples double-counted",
        report.samples_double_counted.to_string(),
    );
    line("samples unexplained", report.samples_unexplained.to_string());
    line("blocks committed", report.blocks_committed.to_string());
    line(
        "blocks duplicated, recognised",
        report.blocks_duplicated.to_string(),
    );
    line(
        "kills of agent and collector",
        format!("{} + {}", report.kills.agent, report.kills.collector),
    );
    line(
        "latency to feature, median ms",
        format!("{:.0}", report.latency_ms.p50),
    );
    line(
        "latency to feature, p99 ms",
        format!("{:.0}", report.latency_ms.p99),
    );
    println!(
        "\n  {:<10} {:<24} {:<13} {:>8} {:>12}",
        "asset", "record", "element", "order", "raised after"
    );
    for raised in &report.advisories {
        println!(
            "  {:<10} {:<24} {:<13} {:>8.3} {:>10.1} s",
            raised.asset, raised.record, raised.element, raised.order, raised.raised_after_s
        );
    }
    for record in &report.silent {
        println!("  {:<10} {:<24} {:<13}", "", record, "no advisory");
    }
}

fn write_report(report: &Report, path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write the report {}", path.display()))
}

/// Blocks until the terminal interrupts: the children get the signal too and stop by themselves.
fn wait_for_interrupt() {
    let mut line = String::new();
    // The end of standard input ends the wait as well, where there is no terminal.
    while std::io::stdin().read_line(&mut line).is_ok_and(|read| read > 0) {}
}
