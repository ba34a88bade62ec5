//! The Numenta Anomaly Benchmark: anomalies of single series, scored by when they are told.
//!
//! A. Lavin and S. Ahmad, *Evaluating real-time anomaly detection algorithms: the Numenta Anomaly Benchmark*,
//! ICMLA 2015. The first 15 % of a series, at most 750 rows, are for learning; the best-placed anomaly in a
//! window earns up to 1 by a sigmoid, a window without one costs 1, and each anomaly outside costs by its
//! distance from the window before. 0 is what a detector gets that says nothing, 100 a perfect one.
//!
//! [`Scalar`] reads each series from its beginning. One threshold for each of the three profiles holds for
//! all series and stands in [`Settings`]; what the best threshold for these very series would give, and what
//! thresholds chosen on the other folders give on each, is told beside.

use super::scan::{Scan, scan};
use super::table::{Table, folder_of, time_of};
use super::{Benchmark, Outcome, Published};
use crate::bench::figure::Figure;
use crate::record::files_below;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use trunnion_common::detection::scalar::{LEARNING_MAX, Scalar, Settings};
use trunnion_common::time::EventTime;

/// The benchmark.
pub const NAB: Benchmark = Benchmark {
    name: "nab",
    needs_data: true,
    figures: &[
        Figure::at_least("nab_standard", 66.0, "points"),
        Figure::at_least("nab_low_fp", 58.0, "points"),
        Figure::at_least("nab_low_fn", 71.0, "points"),
    ],
    published: &[
        published("nab_standard", "ARTime, the 35 development series", 67.8),
        published("nab_standard", "HTM, the 35 development series", 66.6),
        published("nab_standard", "CAD-OSE, the 35 development series", 62.2),
        published("nab_low_fp", "ARTime, the 35 development series", 57.8),
        published("nab_low_fp", "HTM, the 35 development series", 60.8),
        published("nab_low_fp", "CAD-OSE, the 35 development series", 57.1),
        published("nab_low_fn", "ARTime, the 35 development series", 73.7),
        published("nab_low_fn", "HTM, the 35 development series", 71.1),
        published("nab_low_fn", "CAD-OSE, the 35 development series", 66.3),
    ],
    run,
};

const fn published(figure: &'static str, who: &'static str, value: f64) -> Published {
    Published { figure, who, value }
}

/// What hits, misses and false anomalies weigh (`config/profiles.json` of the benchmark).
struct Profile {
    figure: &'static str,
    missed: f64,
    outside: f64,
    settings: Settings,
}

const PROFILES: [Profile; 3] = [
    Profile {
        figure: "nab_standard",
        missed: 1.0,
        outside: 0.11,
        settings: Settings::STANDARD,
    },
    Profile {
        figure: "nab_low_fp",
        missed: 1.0,
        outside: 0.22,
        settings: Settings::FEW_FALSE,
    },
    Profile {
        figure: "nab_low_fn",
        missed: 2.0,
        outside: 0.11,
        settings: Settings::FEW_MISSED,
    },
];

fn run(folder: &Path) -> Result<Outcome> {
    let Scan {
        found: series,
        skipped,
    } = read(folder)?;
    let judged: Vec<Judged> = series.iter().map(Judged::new).collect();
    let all: Vec<&Judged> = judged.iter().collect();
    ensure!(windows(&all) > 0, "no windows in the labels of these series");
    let mut outcome = Outcome {
        skipped,
        ..Outcome::default()
    };
    let mut beside = Vec::new();
    for (profile, figure) in PROFILES.iter().zip(NAB.figures) {
        debug_assert_eq!(figure.name, profile.figure);
        let value = profile.points(&all, profile.settings.threshold);
        outcome.figures.push(figure.clone().measured(value));
        let told = |suffix: &str, value| {
            let figure = Figure {
                goal: None,
                ..figure.clone()
            };
            let name = format!("{}_{suffix}", profile.figure);
            figure.named(name).measured(value)
        };
        let (_, best) = profile.best(&all);
        beside.push(told("own_threshold", best));
        beside.push(told("folder_left_out", profile.left_out(&all)));
    }
    outcome.figures.append(&mut beside);
    let told = all
        .iter()
        .flat_map(|judged| judged.outside(Settings::STANDARD.threshold));
    outcome.false_alarms = Some(told.count() as u64);
    Ok(outcome)
}

/// One series with its truth.
struct Series {
    folder: String,
    times: Vec<EventTime>,
    values: Vec<f64>,
    /// Windows of anomalies: first and last row.
    windows: Vec<(usize, usize)>,
}

/// The windows of each series, by its folder and file: those of the benchmark's file, wherever that lies.
fn labels(folder: &Path) -> Result<BTreeMap<String, Vec<(String, String)>>> {
    let files = files_below(folder, "combined_windows.json");
    let labels = files
        .first()
        .with_context(|| format!("no labels (combined_windows.json) below {}", folder.display()))?;
    let text = fs::read_to_string(labels).with_context(|| format!("cannot read {}", labels.display()))?;
    serde_json::from_str(&text).with_context(|| format!("in {}", labels.display()))
}

/// Every series below the folder of which there are labels.
fn read(folder: &Path) -> Result<Scan<Series>> {
    let labels = labels(folder)?;
    scan(NAB.name, folder, ".csv", |path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let windows = labels
            .get(&format!("{}/{file}", folder_of(path)))
            .context("no labels of this series")?;
        let table = Table::read(path, ',')?;
        let times = table.times(table.column("timestamp")?)?;
        let values = table.numbers(table.column("value")?)?;
        let windows = windows.iter().map(|(first, last)| rows_of(&times, first, last));
        Ok(Series {
            folder: folder_of(path),
            windows: windows.collect::<Result<_>>()?,
            times,
            values,
        })
    })
}

/// The first and the last row of a window.
fn rows_of(times: &[EventTime], first: &str, last: &str) -> Result<(usize, usize)> {
    let row = |text: &str| {
        let time = time_of(text)?;
        let row = times.iter().position(|&at| at == time);
        row.with_context(|| format!("no row at {text}, where a window begins or ends"))
    };
    Ok((row(first)?, row(last)?))
}

impl Series {
    /// Rows for learning: 15 %, at most those of a series of 5,000.
    fn probation(&self) -> usize {
        (self.values.len() * 15 / 100).min(LEARNING_MAX)
    }

    /// The anomalies with their scores, whatever the threshold.
    fn anomalies(&self) -> Vec<(usize, f64)> {
        let mut detector = Scalar::new(Settings {
            learning: self.probation() as u16,
            threshold: f64::NEG_INFINITY,
            ..Settings::STANDARD
        });
        let mut rows = self.times.iter().zip(&self.values).enumerate();
        let told = |(row, (&at, &value)): (usize, (&EventTime, &f64))| {
            let anomaly = detector.handle_reading(at, value as f32)?;
            Some((row, anomaly.score))
        };
        rows.by_ref().filter_map(told).collect()
    }
}

/// An anomaly as the benchmark sees it.
struct Told {
    score: f64,
    /// The window that it lies in.
    window: Option<usize>,
    /// By the sigmoid: 1 to 0 in a window, 0 to -1 after one, -1 before the first.
    place: f64,
}

/// A series' anomalies with their places.
struct Judged {
    folder: String,
    windows: usize,
    told: Vec<Told>,
}

/// 1 far to the left, 0 at 0, -1 to the right, and exactly that from 3 on.
pub(super) fn sigmoid(position: f64) -> f64 {
    if position > 3.0 {
        -1.0
    } else {
        2.0 / (1.0 + (5.0 * position).exp()) - 1.0
    }
}

/// Where a row lies among the windows.
fn place(row: usize, windows: &[(usize, usize)]) -> (Option<usize>, f64) {
    let within = |&(first, last): &(usize, usize)| (first..=last).contains(&row);
    if let Some(index) = windows.iter().position(within) {
        let (first, last) = windows[index];
        let position = -((last - row + 1) as f64) / (last - first + 1) as f64;
        return (Some(index), sigmoid(position) / sigmoid(-1.0));
    }
    let before = windows.iter().rev().find(|&&(_, last)| last < row);
    let past = before.map_or(-1.0, |&(first, last)| {
        sigmoid((row - last) as f64 / (last - first) as f64)
    });
    (None, past)
}

impl Judged {
    fn new(series: &Series) -> Self {
        let told = |(row, score)| {
            let (window, place) = place(row, &series.windows);
            Told { score, window, place }
        };
        Self {
            folder: series.folder.clone(),
            windows: series.windows.len(),
            told: series.anomalies().into_iter().map(told).collect(),
        }
    }

    /// The anomalies in no window.
    fn outside(&self, threshold: f64) -> impl Iterator<Item = &Told> {
        let outside = move |told: &&Told| told.score >= threshold && told.window.is_none();
        self.told.iter().filter(outside)
    }
}

fn windows(all: &[&Judged]) -> usize {
    all.iter().map(|judged| judged.windows).sum()
}

impl Profile {
    /// Of one series, before it is put between nothing and perfect.
    fn raw(&self, judged: &Judged, threshold: f64) -> f64 {
        let mut best = vec![-self.missed; judged.windows];
        for told in judged.told.iter().filter(|told| told.score >= threshold) {
            if let Some(best) = told.window.and_then(|window| best.get_mut(window)) {
                *best = best.max(told.place);
            }
        }
        let outside: f64 = judged.outside(threshold).map(|told| told.place).sum();
        best.iter().sum::<f64>() + self.outside * outside
    }

    /// From 0, of nothing told, to 100.
    fn normalised(&self, raw: f64, windows: usize) -> f64 {
        let windows = windows as f64;
        100.0 * (raw + self.missed * windows) / (windows + self.missed * windows)
    }

    fn points(&self, all: &[&Judged], threshold: f64) -> f64 {
        let raw = all.iter().map(|judged| self.raw(judged, threshold)).sum();
        self.normalised(raw, windows(all))
    }

    /// The threshold that serves these series best, and what it gives.
    fn best(&self, all: &[&Judged]) -> (f64, f64) {
        // Between 10 and 25 nats lies all that is ever worth telling.
        let thresholds = (0..=750).map(|step| 10.0 + f64::from(step) * 0.02);
        thresholds
            .map(|threshold| (threshold, self.points(all, threshold)))
            .fold(
                (f64::INFINITY, 0.0),
                |best, next| {
                    if next.1 > best.1 { next } else { best }
                },
            )
    }

    /// Every folder with the threshold that serves the other folders best.
    fn left_out(&self, all: &[&Judged]) -> f64 {
        let folders: BTreeSet<&str> = all.iter().map(|judged| judged.folder.as_str()).collect();
        let raw = |folder: &&str| -> f64 {
            let (left_out, others): (Vec<&Judged>, Vec<&Judged>) =
                all.iter().partition(|judged| judged.folder == *folder);
            let (threshold, _) = self.best(&others);
            left_out.iter().map(|judged| self.raw(judged, threshold)).sum()
        };
        let raw = folders.iter().map(raw).sum();
        self.normalised(raw, windows(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::scan;

    const STANDARD: &Profile = &PROFILES[0];

    fn judged(told: &[(usize, f64)], windows: &[(usize, usize)]) -> Judged {
        let told = told.iter().map(|&(row, score)| {
            let (window, place) = place(row, windows);
            Told { score, window, place }
        });
        Judged {
            folder: String::new(),
            windows: windows.len(),
            told: told.collect(),
        }
    }

    fn points(told: &[(usize, f64)], windows: &[(usize, usize)]) -> f64 {
        STANDARD.points(&[&judged(told, windows)], 1.0)
    }

    #[test]
    fn series_are_found_in_any_folder_and_one_without_labels_is_named() {
        let data = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| scan::write(data.path(), path, text);
        let row = |minute: u32| format!("2014-04-10 07:{minute:02}:00,{}\n", minute * minute);
        let text = "timestamp,value\n".to_owned() + &(0..60).map(row).collect::<String>();
        write("data/realTraffic/speed.csv", &text);
        write("data/realTweets/volume.csv", &text);
        write("data/realTweets/unlabelled.csv", &text);
        write(
            "data/realTweets/torn.csv",
            "timestamp,value\n2014-04-10 07:00:00\n",
        );
        let window = r#"[["2014-04-10 07:20:00.000000", "2014-04-10 07:30:00.000000"]]"#;
        let labels = format!(
            r#"{{"realTraffic/speed.csv": {window}, "realTweets/volume.csv": [], "realTweets/torn.csv": [],
                "realTweets/elsewhere.csv": {window}}}"#
        );
        write("labels/combined_windows.json", &labels);
        let scan = read(data.path()).unwrap();
        let found: Vec<_> = scan
            .found
            .iter()
            .map(|series| (&*series.folder, &*series.windows))
            .collect();
        assert_eq!(found, [("realTraffic", &[(20, 30)][..]), ("realTweets", &[])]);
        let skipped: Vec<_> = scan.skipped.iter().map(|skipped| &*skipped.file).collect();
        assert_eq!(
            skipped,
            ["data/realTweets/torn.csv", "data/realTweets/unlabelled.csv"]
        );
        assert_eq!(run(data.path()).unwrap().skipped.len(), 2);
    }

    #[test]
    fn the_beginning_of_each_window_is_perfect_and_silence_is_nothing() {
        let windows = [(100, 199), (400, 499)];
        assert!((points(&[(100, 1.0), (400, 1.0)], &windows) - 100.0).abs() < 1e-9);
        assert_eq!(points(&[], &windows), 0.0);
        // Below the threshold is not told.
        assert_eq!(points(&[(100, 0.9)], &windows), 0.0);
    }

    /// By the benchmark's own scorer in Python: `scaledSigmoid(-(199 - 149 + 1) / 100.0)` over
    /// `scaledSigmoid(-1.0)`, between nothing and perfect.
    #[test]
    fn a_window_earns_by_its_best_placed_anomaly() {
        let alone = points(&[(149, 1.0)], &[(100, 199)]);
        assert!((alone - 93.337454).abs() < 1e-5, "{alone}");
        assert_eq!(points(&[(149, 1.0), (180, 1.0)], &[(100, 199)]), alone);
    }

    #[test]
    fn an_anomaly_costs_most_before_the_first_window_and_far_from_any() {
        let windows = [(100, 199)];
        let cost = |row| 100.0 - points(&[(100, 1.0), (row, 1.0)], &windows);
        let most = 100.0 * 0.11 / 2.0;
        assert!((cost(50) - most).abs() < 1e-9);
        assert!((cost(700) - most).abs() < 1e-9);
        assert!(cost(202) < cost(230) && cost(230) < most);
    }

    #[test]
    fn a_threshold_for_each_profile_is_stored_and_none_is_beyond_the_others_reach() {
        let all = [judged(&[(100, 12.0), (300, 11.0)], &[(100, 199)])];
        let all: Vec<&Judged> = all.iter().collect();
        let (threshold, best) = STANDARD.best(&all);
        assert!((11.0..=12.0).contains(&threshold));
        assert!((best - 100.0).abs() < 1e-9);
    }
}
