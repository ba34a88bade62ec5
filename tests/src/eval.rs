//! How well faults are found: public benchmarks, run through the components that the collector runs.
//!
//! A benchmark reads what it finds in its folder of the data, streams it through production code without
//! looking ahead, and compares what came out with the truth, which nothing but the comparison sees. One
//! configuration serves every bearing, rig and series. Where there is no data, its figures are listed as
//! not measured.

pub mod cmapss;
pub mod cwru;
mod diagnosis;
pub mod femto;
pub mod ims;
pub mod mfpt;
pub mod nab;
pub mod rigs;
mod scan;
pub mod skab;
pub mod speed;
mod table;

use crate::bench::figure::{Figure, Report};
use anyhow::Result;
use serde::Serialize;
use std::path::Path;
use std::thread;
use std::time::Instant;

/// Something to be judged on.
#[derive(Debug)]
pub struct Benchmark {
    /// Its name on the command line, and its folder in the data.
    pub name: &'static str,
    /// Whether it reads that folder, or makes what it is judged on.
    pub needs_data: bool,
    /// Figures that are listed where there is no data, with their goals.
    pub figures: &'static [Figure],
    /// What others reached, by the figure's name; listed beside ours.
    pub published: &'static [Published],
    /// Runs it on its folder of the data.
    pub run: fn(&Path) -> Result<Outcome>,
}

/// What somebody else reached.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Published {
    /// In which figure.
    pub figure: &'static str,
    /// Who.
    pub who: &'static str,
    /// How much, in the figure's unit.
    pub value: f64,
}

/// What a benchmark gave.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Outcome {
    /// Figures, measured.
    pub figures: Vec<Figure>,
    /// What was claimed of each record, if it is about claims.
    pub claims: Vec<Claim>,
    /// Alarms, claims or change points where there was nothing.
    pub false_alarms: Option<u64>,
    /// Files that were passed over.
    pub skipped: Vec<Skipped>,
}

/// A file that was passed over, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Skipped {
    /// The benchmark.
    pub benchmark: &'static str,
    /// The file, below the benchmark's folder.
    pub file: String,
    /// What was missing.
    pub reason: String,
}

impl Skipped {
    fn new(benchmark: &'static str, file: &Path, reason: impl ToString) -> Self {
        Self {
            benchmark,
            file: file.display().to_string(),
            reason: reason.to_string(),
        }
    }
}

/// What was claimed of one channel of one record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Claim {
    /// The benchmark.
    pub benchmark: &'static str,
    /// The record's file, without its ending.
    pub record: String,
    /// The channel of it.
    pub channel: String,
    /// The element claimed; none when nothing is, `undetermined` when a fault is without its element.
    pub claimed: Option<String>,
    /// The element that was damaged, if this channel's bearing is the damaged one.
    pub truth: Option<String>,
}

/// Every benchmark, in the order in which they run.
pub static BENCHMARKS: [Benchmark; 9] = [
    cwru::CWRU,
    mfpt::MFPT,
    rigs::RIGS,
    ims::IMS,
    nab::NAB,
    skab::SKAB,
    cmapss::CMAPSS,
    femto::FEMTO,
    speed::SPEED,
];

/// One benchmark's part of the report.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Evaluated {
    /// Which.
    pub benchmark: &'static str,
    /// How long it took, seconds.
    pub seconds: f64,
    /// Alarms where there was nothing.
    pub false_alarms: Option<u64>,
    /// What others reached.
    pub published: &'static [Published],
    /// Names of its figures.
    #[serde(skip)]
    figures: Vec<String>,
}

/// Runs a benchmark on a thread of its own: what goes wrong in one says nothing of the others.
fn run_apart(benchmark: &Benchmark, folder: &Path) -> Result<Outcome> {
    let judged = thread::scope(|scope| scope.spawn(|| (benchmark.run)(folder)).join());
    judged.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(anyhow::anyhow!(
            "the benchmark gave up: {}",
            text.unwrap_or("for no stated reason")
        ))
    })
}

/// Everything that was judged.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Evaluation {
    /// Machine, commit and figures.
    #[serde(flatten)]
    pub report: Report,
    /// By benchmark.
    pub benchmarks: Vec<Evaluated>,
    /// What was claimed of each record.
    pub claims: Vec<Claim>,
    /// Files that were passed over.
    pub skipped: Vec<Skipped>,
}

impl Evaluation {
    /// Runs these benchmarks on the folders of `data`. One that fails, or panics, leaves its figures without a
    /// value, and says why; the others are judged all the same.
    #[allow(
        clippy::disallowed_methods,
        reason = "how long a benchmark takes is part of its report"
    )]
    pub fn run(data: &Path, chosen: &[&Benchmark], commit: String, mut progress: impl FnMut(&str)) -> Self {
        let mut evaluation = Self {
            report: Report::new(commit, Vec::new()),
            benchmarks: Vec::new(),
            claims: Vec::new(),
            skipped: Vec::new(),
        };
        for benchmark in chosen {
            progress(benchmark.name);
            let begun = Instant::now();
            let folder = data.join(benchmark.name);
            let outcome = if folder.is_dir() || !benchmark.needs_data {
                run_apart(benchmark, &folder)
            } else {
                Err(anyhow::anyhow!("no data at {}", folder.display()))
            };
            evaluation.add(benchmark, outcome, begun.elapsed().as_secs_f64());
        }
        evaluation
    }

    fn add(&mut self, benchmark: &Benchmark, outcome: Result<Outcome>, seconds: f64) {
        let (mut outcome, why) = match outcome {
            Ok(outcome) => (outcome, "not in this data".to_owned()),
            Err(error) => (Outcome::default(), format!("{error:#}")),
        };
        for figure in benchmark.figures {
            if outcome
                .figures
                .iter()
                .all(|measured| measured.name != figure.name)
            {
                outcome.figures.push(figure.clone().missing(why.clone()));
            }
        }
        self.benchmarks.push(Evaluated {
            benchmark: benchmark.name,
            seconds,
            false_alarms: outcome.false_alarms,
            published: benchmark.published,
            figures: outcome
                .figures
                .iter()
                .map(|figure| figure.name.to_string())
                .collect(),
        });
        self.report.figures.extend(outcome.figures);
        self.claims.extend(outcome.claims);
        self.skipped.extend(outcome.skipped);
    }

    /// One table: the figures with what others reached, then false alarms and seconds by benchmark.
    pub fn table(&self) -> String {
        let mut text = self.report.table();
        let theirs = |evaluated: &Evaluated| {
            let named =
                |published: &&Published| evaluated.figures.iter().any(|name| name == published.figure);
            evaluated.published.iter().filter(named).collect::<Vec<_>>()
        };
        text += "\n  published\n";
        for published in self.benchmarks.iter().flat_map(theirs) {
            let Published { figure, who, value } = published;
            text += &format!("  {figure:<34} {value:>12.3} {who}\n");
        }
        text += "\n  benchmark        seconds  false alarms\n";
        for evaluated in &self.benchmarks {
            let false_alarms = evaluated
                .false_alarms
                .map_or_else(|| "-".to_owned(), |count| count.to_string());
            let Evaluated {
                benchmark, seconds, ..
            } = evaluated;
            text += &format!("  {benchmark:<12} {seconds:>11.1}  {false_alarms:>12}\n");
        }
        for Skipped {
            benchmark,
            file,
            reason,
        } in &self.skipped
        {
            text += &format!("  skipped: {benchmark}/{file}: {reason}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORE: [Figure; 1] = [Figure::at_least("guess_score", 60.0, "points")];
    const PUBLISHED: [Published; 1] = [Published {
        figure: "guess_score",
        who: "a coin",
        value: 50.0,
    }];
    const GUESS: Benchmark = Benchmark {
        name: "guess",
        needs_data: true,
        figures: &SCORE,
        published: &PUBLISHED,
        run: |_| {
            Ok(Outcome {
                figures: vec![SCORE[0].clone().measured(61.0)],
                false_alarms: Some(3),
                ..Outcome::default()
            })
        },
    };

    #[test]
    fn a_table_shows_the_score_the_published_bests_and_the_false_alarms() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join("guess")).unwrap();
        let evaluation = Evaluation::run(data.path(), &[&GUESS], "abc".to_owned(), |_| ());
        let table = evaluation.table();
        assert!(
            table.contains("61.000 points") && table.contains("reached"),
            "{table}"
        );
        assert!(table.contains("50.000 a coin"), "{table}");
        assert_eq!(evaluation.benchmarks[0].false_alarms, Some(3));
        let json = serde_json::to_value(&evaluation).unwrap();
        assert_eq!(json["figures"][0]["name"], "guess_score");
        assert_eq!(json["benchmarks"][0]["published"][0]["who"], "a coin");
    }

    #[test]
    fn a_benchmark_without_data_lists_its_figures_as_not_measured() {
        let data = tempfile::tempdir().unwrap();
        let evaluation = Evaluation::run(data.path(), &[&GUESS], "abc".to_owned(), |_| ());
        let figure = &evaluation.report.figures[0];
        assert_eq!(figure.value, None);
        assert!(figure.reason.as_deref().unwrap().contains("no data at"));
    }

    #[test]
    fn a_benchmark_that_gives_up_leaves_the_others_their_figures() {
        const BROKEN: Benchmark = Benchmark {
            name: "broken",
            figures: &[Figure::at_least("broken_score", 1.0, "points")],
            run: |_| panic!("index out of bounds"),
            needs_data: false,
            ..GUESS
        };
        const SET: Benchmark = Benchmark {
            name: "set",
            figures: &[
                Figure::at_least("guess_score", 60.0, "points"),
                Figure::told("guess_of_another_set", "points"),
            ],
            needs_data: false,
            ..GUESS
        };
        let data = tempfile::tempdir().unwrap();
        let evaluation = Evaluation::run(data.path(), &[&BROKEN, &SET], "abc".to_owned(), |_| ());
        let [broken, score, other] = &evaluation.report.figures[..] else {
            panic!("{:?}", evaluation.report.figures);
        };
        assert!(broken.reason.as_deref().unwrap().contains("index out of bounds"));
        assert_eq!(score.value, Some(61.0));
        assert_eq!(other.reason.as_deref(), Some("not in this data"));
    }

    #[test]
    fn benchmarks_have_names_of_their_own() {
        let mut names: Vec<_> = BENCHMARKS.iter().map(|benchmark| benchmark.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), BENCHMARKS.len());
    }
}
