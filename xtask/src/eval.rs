//! Judges on public benchmarks how well faults are found; figures as JSON and as a table.

use crate::bench::commit;
use crate::flags::Eval;
use crate::report::step;
use anyhow::{Context, Result, bail};
use trunnion_tests::eval::{BENCHMARKS, Benchmark, Evaluation};
use trunnion_tests::record::data_dir;
use trunnion_tests::workspace::cargo;

/// Runs every benchmark that has data, on a release build: a debug build starts that one instead.
pub(crate) fn run(flags: &Eval) -> Result<()> {
    if cfg!(debug_assertions) && !flags.debug {
        step("building for release");
        let mut again = cargo(["run", "--quiet", "--release", "--package", "xtask", "--"]);
        again.args(std::env::args_os().skip(1));
        return crate::ci::run(again);
    }
    let chosen = choose(&flags.only)?;
    let data = flags.data.clone().unwrap_or_else(data_dir);
    if !data.is_dir() {
        bail!("no data at {}: give its folder with --data", data.display());
    }
    let evaluation = Evaluation::run(&data, &chosen, commit(), step);
    print!("\n{}", evaluation.table());
    let Some(path) = &flags.report else {
        return Ok(());
    };
    let text = serde_json::to_string_pretty(&evaluation)?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write the report {}", path.display()))
}

/// The benchmarks of these names, or all of them.
fn choose(names: &[String]) -> Result<Vec<&'static Benchmark>> {
    let known = || BENCHMARKS.iter().map(|benchmark| benchmark.name);
    if let Some(name) = names
        .iter()
        .find(|name| known().all(|known| known != name.as_str()))
    {
        let known: Vec<_> = known().collect();
        bail!("no benchmark `{name}`; there are: {}", known.join(", "));
    }
    let wanted = |benchmark: &&Benchmark| names.is_empty() || names.iter().any(|name| name == benchmark.name);
    Ok(BENCHMARKS.iter().filter(wanted).collect())
}
