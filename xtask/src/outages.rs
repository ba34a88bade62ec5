//! Partitions, broker kills and a thin line under load, as often and long as one likes.

use crate::bench::{commit, write};
use crate::flags::Outages;
use crate::kills::seed;
use crate::report::step;
use anyhow::{Context, Result, bail};
use std::path::Path;
use trunnion_tests::bench::figure::{Figure, Report};
use trunnion_tests::bench::mosquitto;
use trunnion_tests::load::Verdict;
use trunnion_tests::outages::{self, Options, broker_kills, partitions, thin_line};
use trunnion_tests::workspace::cargo;

/// Lets lines and brokers fail, and says what it cost.
pub(crate) fn run(flags: &Outages) -> Result<()> {
    step("building the programs");
    crate::ci::run(cargo(["build", "--workspace", "--bins"]))?;
    let seed = flags.seed.unwrap_or_else(seed);
    let mut figures = Vec::new();
    if flags.partitions > 0 {
        let count = flags.partitions;
        let verdict = play(Options { count, seed }, |dir, options| {
            partitions(dir, options, step)
        })?;
        figures.push(Figure::at_least("partitions", 200.0, "").measured(f64::from(count)));
        figures.extend(costs(["partitions_lost", "partitions_double_counted"], &verdict));
    }
    if flags.broker_kills > 0 && mosquitto::program().is_none() {
        step("skipped: kills of the broker (apt-get install mosquitto)");
    } else if flags.broker_kills > 0 {
        let count = flags.broker_kills;
        let verdict = play(Options { count, seed }, |dir, options| {
            broker_kills(dir, options, step)
        })?;
        figures.push(Figure::at_least("broker_kills", 100.0, "").measured(f64::from(count)));
        figures.extend(costs(
            ["broker_kills_lost", "broker_kills_double_counted"],
            &verdict,
        ));
    }
    if flags.thin_minutes > 0 {
        let minutes = flags.thin_minutes;
        let options = Options { count: minutes, seed };
        let verdict = play(options, |dir, options| {
            thin_line(dir, options.seed, options.count, step)
        })?;
        figures.push(Figure::at_least("thin_line", 30.0, "min").measured(f64::from(minutes)));
        figures.extend(costs(["thin_line_lost", "thin_line_double_counted"], &verdict));
    }
    let report = Report::new(commit(), figures);
    print!("\n{}", report.table());
    flags
        .report
        .as_deref()
        .map_or(Ok(()), |path| write(&report, path))
}

fn costs([lost, doubled]: [&'static str; 2], verdict: &Verdict) -> [Figure; 2] {
    [
        Figure::at_most(lost, 0.0, "samples")
            .measured((verdict.samples_lost + verdict.journal.samples_missing) as f64),
        Figure::at_most(doubled, 0.0, "samples").measured(verdict.samples_double_counted as f64),
    ]
}

/// One run in a directory of its own, which is kept when anything was lost: what happened is in the logs
/// and the journal.
fn play(options: Options, run: impl FnOnce(&Path, &Options) -> Result<outages::Report>) -> Result<Verdict> {
    let dir = tempfile::Builder::new()
        .prefix("trunnion-outages-")
        .tempdir()
        .context("no temporary directory")?;
    match run(dir.path(), &options) {
        Ok(report) if report.verdict.is_flawless() => {
            println!("{report:#?}");
            Ok(report.verdict)
        }
        Ok(report) => bail!("{report:#?}\neverything lies in {}", dir.keep().display()),
        Err(error) => {
            let dir = dir.keep();
            let seed = options.seed;
            Err(error.context(format!("seed {seed}; everything lies in {}", dir.display())))
        }
    }
}
