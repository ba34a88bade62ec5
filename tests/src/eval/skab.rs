//! The Skoltech Anomaly Benchmark: a rig with eight sensors, outliers and change points.
//!
//! I. D. Katser and V. O. Kozitsin, *Skoltech Anomaly Benchmark*, 2020. The first 400 rows of each run are
//! learned from; of the rest, pooled over the runs, each row is healthy or not (F1, false and missed alarm
//! rate). To call all of them faulty scores an F1 of about 0.7, so that none of the three says much without
//! the others.
//!
//! Change points are scored as in the Numenta benchmark, with windows from each change to 60 s after it.
//! There a blind clock scores high, as many alarms as windows being cheap: what a clock scores that alarms as
//! often as [`Multivariate`] did stands beside, and so does the number of false changes.

use super::nab::sigmoid;
use super::scan::{Scan, scan};
use super::table::{Table, folder_of};
use super::{Benchmark, Outcome, Published};
use crate::bench::figure::Figure;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use trunnion_common::detection::hotelling::CHANNELS_MAX;
use trunnion_common::detection::multivariate::{Multivariate, Settings};
use trunnion_common::time::EventTime;

/// The benchmark.
pub const SKAB: Benchmark = Benchmark {
    name: "skab",
    needs_data: true,
    figures: &[
        Figure::at_least("skab_f1", 0.83, "share"),
        Figure::at_most("skab_far", 15.0, "%"),
        Figure::at_most("skab_mar", 20.0, "%"),
        Figure::at_least("skab_changepoint", 40.0, "points"),
        Figure::at_most("skab_changepoint_false", 20.0, "alarms"),
    ],
    published: &[
        published("skab_f1", "T2 and Q, valve 1", 0.76),
        published("skab_far", "T2 and Q, valve 1", 23.9),
        published("skab_mar", "T2 and Q, valve 1", 26.1),
        published("skab_f1", "MSET, valve 1", 0.78),
        published("skab_far", "MSET, valve 1", 38.5),
        published("skab_mar", "MSET, valve 1", 15.0),
        published("skab_f1", "Conv-AE, valve 1", 0.755),
        published("skab_far", "Conv-AE, valve 1", 14.4),
        published("skab_mar", "Conv-AE, valve 1", 31.8),
        published("skab_changepoint", "MSCRED, valve 1", 36.7),
        published("skab_changepoint_false", "MSCRED, valve 1", 152.0),
        published("skab_changepoint", "Conv-AE, valve 1", 20.9),
        published("skab_changepoint_false", "Conv-AE, valve 1", 12.0),
    ],
    run,
};

const fn published(figure: &'static str, who: &'static str, value: f64) -> Published {
    Published { figure, who, value }
}

/// Columns that are no sensors.
const TIME: &str = "datetime";
const ANOMALY: &str = "anomaly";
const CHANGE_POINT: &str = "changepoint";

/// How long after a change it may be told.
const WINDOW_NS: i64 = 60_000_000_000;

fn run(folder: &Path) -> Result<Outcome> {
    let Scan { found: runs, skipped } = read(folder)?;
    let judged: Vec<Judged> = runs.iter().map(Judged::new).collect();
    let mut counts = Counts::default();
    judged.iter().for_each(|judged| counts.add(&judged.counts));
    let changes = Changes::of(&runs, &judged, |judged| &judged.changes);
    // A clock that alarms as often as we do, in each run evenly over what is judged.
    let clock: Vec<Judged> = runs.iter().zip(&judged).map(Judged::clock).collect();
    let clock = Changes::of(&runs, &clock, |judged| &judged.changes);
    let values = [
        counts.f1(),
        100.0 * counts.false_alarm_rate(),
        100.0 * counts.missed_alarm_rate(),
        changes.points(),
        changes.outside as f64,
    ];
    let figures = SKAB.figures.iter().zip(values);
    let mut figures: Vec<Figure> = figures
        .map(|(figure, value)| figure.clone().measured(value))
        .collect();
    let told = |name, unit, value| Figure {
        peer: None,
        ..Figure::told(name, unit).measured(value)
    };
    figures.push(told("skab_changepoint_blind_clock", "points", clock.points()));
    figures.push(told(
        "skab_changepoint_blind_clock_false",
        "alarms",
        clock.outside as f64,
    ));
    Ok(Outcome {
        figures,
        false_alarms: Some(changes.outside),
        skipped,
        ..Outcome::default()
    })
}

/// One run with its truth.
struct Run {
    folder: String,
    times: Vec<EventTime>,
    /// By row, one value per sensor.
    rows: Vec<Vec<f32>>,
    faulty: Vec<bool>,
    changes: Vec<EventTime>,
}

/// The runs in all folders; one without labels, for learning only, is not judged.
fn read(folder: &Path) -> Result<Scan<Run>> {
    let mut scan = scan(SKAB.name, folder, ".csv", |path| {
        let table = Table::read(path, ';')?;
        let (anomaly, change) = table
            .column(ANOMALY)
            .and_then(|anomaly| Ok((anomaly, table.column(CHANGE_POINT)?)))
            .context("without labels, which only learning could use")?;
        let times = table.times(table.column(TIME)?)?;
        let is_sensor = |name: &&String| ![TIME, ANOMALY, CHANGE_POINT].contains(&name.as_str());
        let sensors: Vec<Vec<f64>> = table
            .columns
            .iter()
            .filter(is_sensor)
            .take(CHANNELS_MAX)
            .map(|name| table.numbers(table.column(name)?))
            .collect::<Result<_>>()?;
        ensure!(!sensors.is_empty(), "no sensor among the columns");
        let row = |row| sensors.iter().map(|sensor| sensor[row] as f32).collect();
        let marked = |column| -> Result<Vec<bool>> {
            Ok(table.numbers(column)?.iter().map(|mark| *mark > 0.0).collect())
        };
        let at_change = marked(change)?;
        let changes = times.iter().zip(&at_change).filter(|(_, marked)| **marked);
        Ok(Run {
            folder: folder_of(path),
            rows: (0..times.len()).map(row).collect(),
            faulty: marked(anomaly)?,
            changes: changes.map(|(time, _)| *time).collect(),
            times,
        })
    })?;
    scan.found.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(scan)
}

/// Rows by what was said and what was so.
#[derive(Clone, Copy, Default)]
struct Counts {
    found: u64,
    missed: u64,
    false_alarms: u64,
    healthy: u64,
}

impl Counts {
    fn count(&mut self, said: bool, so: bool) {
        match (said, so) {
            (true, true) => self.found += 1,
            (false, true) => self.missed += 1,
            (true, false) => self.false_alarms += 1,
            (false, false) => self.healthy += 1,
        }
    }

    fn add(&mut self, other: &Self) {
        self.found += other.found;
        self.missed += other.missed;
        self.false_alarms += other.false_alarms;
        self.healthy += other.healthy;
    }

    fn f1(&self) -> f64 {
        2.0 * self.found as f64 / (2 * self.found + self.missed + self.false_alarms).max(1) as f64
    }

    fn false_alarm_rate(&self) -> f64 {
        self.false_alarms as f64 / (self.false_alarms + self.healthy).max(1) as f64
    }

    fn missed_alarm_rate(&self) -> f64 {
        self.missed as f64 / (self.missed + self.found).max(1) as f64
    }
}

/// What was said of one run.
struct Judged {
    counts: Counts,
    changes: Vec<EventTime>,
    /// The first row that was judged.
    first: usize,
}

impl Judged {
    fn new(run: &Run) -> Self {
        let sensors = run.rows.first().map_or(0, Vec::len);
        let mut detector: Multivariate = Multivariate::new(sensors, Settings::default());
        let mut judged = Self {
            counts: Counts::default(),
            changes: Vec::new(),
            first: run.rows.len(),
        };
        for (index, ((at, row), faulty)) in run.times.iter().zip(&run.rows).zip(&run.faulty).enumerate() {
            let Some(judgement) = detector.handle_row(*at, row) else {
                continue;
            };
            judged.first = judged.first.min(index);
            judged.counts.count(judgement.outside, *faulty);
            if judgement.change.is_some() {
                judged.changes.push(*at);
            }
        }
        judged
    }

    /// As many alarms, evenly over what was judged.
    fn clock((run, judged): (&Run, &Self)) -> Self {
        let rows = run.times.get(judged.first..).unwrap_or_default();
        let count = judged.changes.len();
        let alarm = |index: usize| rows.get((2 * index + 1) * rows.len() / (2 * count)).copied();
        Self {
            counts: Counts::default(),
            changes: (0..count).filter_map(alarm).collect(),
            first: judged.first,
        }
    }
}

/// How well changes were told.
#[derive(Default)]
struct Changes {
    /// Changes in what was judged.
    windows: u64,
    raw: f64,
    /// Told in no window.
    outside: u64,
}

impl Changes {
    /// What a false change costs in the benchmark's standard profile.
    const COST: f64 = 0.11;

    fn of(runs: &[Run], all: &[Judged], told: impl Fn(&Judged) -> &Vec<EventTime>) -> Self {
        let mut changes = Self::default();
        for (run, judged) in runs.iter().zip(all) {
            let Some(first) = run.times.get(judged.first) else {
                continue;
            };
            let windows: Vec<EventTime> = run.changes.iter().copied().filter(|at| at >= first).collect();
            changes.add(&windows, told(judged));
        }
        changes
    }

    fn add(&mut self, windows: &[EventTime], told: &[EventTime]) {
        let mut best = vec![-1.0; windows.len()];
        for at in told {
            let mut inside = false;
            for (best, window) in best.iter_mut().zip(windows) {
                let passed = at.nanos_since(*window);
                if (0..=WINDOW_NS).contains(&passed) {
                    inside = true;
                    let place = sigmoid(passed as f64 / WINDOW_NS as f64 - 1.0) / sigmoid(-1.0);
                    *best = f64::max(*best, place);
                }
            }
            if inside {
                continue;
            }
            self.outside += 1;
            let past = |window: &EventTime| {
                let passed = at.nanos_since(*window) - WINDOW_NS;
                (passed > 0).then(|| passed as f64 / WINDOW_NS as f64)
            };
            let nearest = windows.iter().filter_map(past).reduce(f64::min);
            self.raw += Self::COST * nearest.map_or(-1.0, sigmoid);
        }
        self.windows += windows.len() as u64;
        self.raw += best.iter().sum::<f64>();
    }

    /// 0 for silence, 100 for each change at once and nothing else.
    fn points(&self) -> f64 {
        let windows = self.windows.max(1) as f64;
        100.0 * (self.raw + windows) / (2.0 * windows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::scan;

    fn seconds(seconds: &[i64]) -> Vec<EventTime> {
        seconds
            .iter()
            .map(|second| EventTime(second * 1_000_000_000))
            .collect()
    }

    fn changes(windows: &[i64], told: &[i64]) -> Changes {
        let mut changes = Changes::default();
        changes.add(&seconds(windows), &seconds(told));
        changes
    }

    #[test]
    fn runs_of_every_folder_are_judged_and_those_without_labels_are_named() {
        let data = tempfile::tempdir().unwrap();
        let write = |path: &str, header: &str, row: &dyn Fn(u32) -> String| {
            let rows = (0..900).map(|second| {
                let (minute, second, value) = (second / 60, second % 60, row(second));
                format!("2020-03-09 10:{minute:02}:{second:02};{value}\n")
            });
            let text = format!("{header}\n{}", rows.collect::<String>());
            scan::write(data.path(), path, text);
        };
        let sensor = |second: u32, of: f64| {
            let level = if (600..800).contains(&second) { 3.0 } else { 0.0 };
            level + (f64::from(second) * of).sin()
        };
        let labelled = |second: u32| {
            let faulty = u8::from((600..800).contains(&second));
            let change = u8::from(second == 600 || second == 800);
            let (first, second) = (sensor(second, 12.99), sensor(second, 7.13));
            format!("{first};{second};{faulty}.0;{change}.0")
        };
        let header = "datetime;Current;Pressure;anomaly;changepoint";
        write("valve2/0.csv", header, &labelled);
        write("other/14.csv", header, &labelled);
        write("other/torn.csv", header, &|_| "1;2".to_owned());
        write(
            "anomaly-free/anomaly-free.csv",
            "datetime;Current;Pressure",
            &|_| "1;2".to_owned(),
        );
        let outcome = run(data.path()).unwrap();
        let value = |name: &str| {
            let figure = outcome.figures.iter().find(|figure| figure.name == name);
            figure.unwrap().value.unwrap()
        };
        assert!(value("skab_f1") > 0.8, "{}", value("skab_f1"));
        assert!(value("skab_changepoint") > 50.0, "{}", value("skab_changepoint"));
        let skipped: Vec<_> = outcome.skipped.iter().map(|skipped| &*skipped.file).collect();
        assert_eq!(skipped, ["anomaly-free/anomaly-free.csv", "other/torn.csv"]);
    }

    #[test]
    fn changes_told_at_once_are_perfect_and_silence_is_nothing() {
        assert!((changes(&[100, 400], &[100, 400]).points() - 100.0).abs() < 1e-9);
        assert_eq!(changes(&[100, 400], &[]).points(), 0.0);
    }

    #[test]
    fn a_late_change_earns_less_and_a_false_one_costs() {
        let late = changes(&[100], &[150]);
        assert!(late.points() < 80.0 && late.outside == 0);
        let early = changes(&[100], &[100, 99]);
        assert_eq!(early.outside, 1);
        assert!((early.points() - (100.0 - 5.5)).abs() < 1e-9);
    }

    #[test]
    fn a_change_in_two_windows_counts_for_both() {
        assert!(changes(&[100, 157], &[158]).points() > changes(&[100, 157], &[220]).points());
        assert_eq!(changes(&[100, 157], &[158]).outside, 0);
    }

    #[test]
    fn rates_are_of_the_rows_that_were_so() {
        let mut counts = Counts::default();
        for (said, so) in [
            (true, true),
            (true, true),
            (false, true),
            (true, false),
            (false, false),
        ] {
            counts.count(said, so);
        }
        assert!((counts.f1() - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(counts.false_alarm_rate(), 0.5);
        assert!((counts.missed_alarm_rate() - 1.0 / 3.0).abs() < 1e-9);
    }
}
