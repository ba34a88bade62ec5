//! The main job: the whole system on loopback, a healthy machine and failing ones, told in a table.

mod microcontroller;
mod screen;

use crate::flags::{Demo, Emulator, Machine};
use crate::interrupt::Interrupt;
use crate::report::step;
use anyhow::{Context, Result, bail};
use screen::Screen;
use std::path::Path;
use trunnion_tests::cases;
use trunnion_tests::story::{self, Report};
use trunnion_tests::workspace::cargo;

/// Plays the demo and prints how it ended.
pub(crate) fn run(flags: &Demo) -> Result<()> {
    if let Some(Emulator::Qemu) = flags.firmware {
        return microcontroller::run();
    }
    let cases = match (&flags.data, flags.machine) {
        (Some(dir), _) => {
            step(&format!("reading records from {}", dir.display()));
            cases::from_records(dir)?
        }
        (None, Some(Machine::Simulated) | None) => cases::simulated(),
    };
    for case in &cases {
        println!(
            "    {:<32} {:>7.0} Hz {:>6.1} s",
            case.record,
            case.rate_hz,
            case.duration_s()
        );
    }
    if let Some(path) = &flags.report {
        // A mistyped path is told before the demo has been waited for.
        std::fs::File::create(path).with_context(|| format!("cannot write the report {}", path.display()))?;
    }
    step("building the programs");
    crate::ci::run(cargo(["build", "--workspace", "--bins"]))?;

    let dir = tempfile::Builder::new()
        .prefix("trunnion-demo-")
        .tempdir()
        .context("no temporary directory")?;
    let mut screen = Screen::new(Interrupt::install()?);
    let told = tell(flags, cases, dir.path(), &mut screen);
    screen.close();
    match told {
        Err(_) if screen.interrupt.has_come() => bail!("interrupted; every process has been ended"),
        Err(error) => bail!(
            "{error:#}\nevery process has been ended; logs and data are kept in {}",
            dir.keep().display()
        ),
        Ok(report) if report.samples_unexplained > 0 || report.samples_double_counted > 0 => {
            bail!(
                "the ledger does not add up; logs and data are kept in {}",
                dir.keep().display()
            )
        }
        Ok(_) => Ok(()),
    }
}

/// Whatever way this ends, no process is left: one that is dropped is killed.
fn tell(flags: &Demo, cases: Vec<cases::Case>, dir: &Path, screen: &mut Screen) -> Result<Report> {
    let (report, mut plant) = story::play_to(dir, cases, flags.kill, screen)?;
    screen.close();
    print_table(&report);
    if let Some(path) = &flags.report {
        write_report(&report, path)?;
    }
    if flags.keep {
        println!(
            "\nThe page is at {}; logs and data are in {} until the end.",
            plant.url("/")?,
            dir.display()
        );
        println!("Ctrl-C ends the demo.");
        screen.interrupt.wait();
        println!();
        step("stopping everything");
    }
    plant.stop()?;
    Ok(report)
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
