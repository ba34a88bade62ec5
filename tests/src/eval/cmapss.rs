//! NASA's turbofan engines run to failure: remaining cycles at each test engine's last row.
//!
//! Protocol: for each set (`FD001`, ...) found, a [`FleetModel`] learns from the engines of its `train`
//! file; the engines of its `test` file go through it row by row, and what it says at the last one is
//! compared with the `RUL` file. An engine of which nothing is said counts as at the horizon, and a
//! prediction is the median. `_rmse` is against the truth, `_rmse_clipped` with both at most 125, `_score`
//! the sum of e^(-d/13) - 1 for what is told too short and e^(d/10) - 1 for what is told too long (A. Saxena,
//! K. Goebel, D. Simon and N. Eklund, "Damage propagation modeling for aircraft engine run-to-failure
//! simulation", 2008), `_coverage` the share of the intervals that hold the truth, clipped likewise, among
//! the engines of which something is said.
//!
//! Files are in the original layout (26 columns between spaces) or hold only the 16 that say something
//! (`*_16cols.csv.gz`); of the original, the same 16 are used, for one way through both.

use super::{Benchmark, Outcome, Published, Skipped};
use crate::bench::figure::Figure;
use crate::record::files_below;
use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use trunnion_collector::prognosis::fleet_model::{FleetMember, FleetModel, HORIZON, Life, MemberState};
use trunnion_collector::prognosis::{Outlook, Prognosis};
use trunnion_common::time::EventTime;

const FIGURES: [Figure; 8] = [
    Figure::at_most("cmapss_FD001_rmse", 12.0, "cycles"),
    Figure::at_most("cmapss_FD001_rmse_clipped", 11.0, "cycles"),
    Figure::told("cmapss_FD001_score", "points"),
    Figure::at_least("cmapss_FD001_coverage", 0.8, "share"),
    Figure::at_most("cmapss_FD003_rmse", 11.5, "cycles"),
    Figure::at_most("cmapss_FD003_rmse_clipped", 9.8, "cycles"),
    Figure::told("cmapss_FD003_score", "points"),
    Figure::at_least("cmapss_FD003_coverage", 0.8, "share"),
];

/// The benchmark.
pub const CMAPSS: Benchmark = Benchmark {
    name: "cmapss",
    needs_data: true,
    figures: &FIGURES,
    published: &[
        published("cmapss_FD001_rmse", "boosted trees", 11.3),
        published("cmapss_FD001_rmse_clipped", "boosted trees", 10.1),
        published(
            "cmapss_FD001_rmse_clipped",
            "MTSTAN (clipped as far as can be told)",
            10.97,
        ),
        published("cmapss_FD001_score", "MTSTAN", 175.0),
        published("cmapss_FD003_rmse", "boosted trees", 11.0),
        published("cmapss_FD003_rmse_clipped", "boosted trees", 9.1),
        published(
            "cmapss_FD003_rmse_clipped",
            "MTSTAN (clipped as far as can be told)",
            10.9,
        ),
        published("cmapss_FD003_score", "MTSTAN", 188.0),
    ],
    run,
};

const fn published(figure: &'static str, who: &'static str, value: f64) -> Published {
    Published { figure, who, value }
}

/// Settings at the head of a row.
const SETTINGS: usize = 2;
/// The columns used, by their number in the original layout from 1: two settings, then 14 sensors.
const ORIGINAL: [usize; 16] = [3, 4, 7, 8, 9, 12, 13, 14, 16, 17, 18, 19, 20, 22, 25, 26];
/// A cycle, as time: the model counts cycles, and any length will do.
const CYCLE_NS: i64 = 1_000_000_000;

fn run(folder: &Path) -> Result<Outcome> {
    let mut figures = Vec::new();
    let mut skipped = Vec::new();
    for set in sets(folder)? {
        let judged = match judge(folder, &set) {
            Ok(judged) => judged,
            Err(error) => {
                skipped.push(Skipped::new(CMAPSS.name, Path::new(&set), format!("{error:#}")));
                continue;
            }
        };
        let add = |name: &str, unit, value: f64| {
            let name = format!("cmapss_{set}_{name}");
            let known = FIGURES.iter().find(|figure| figure.name == name).cloned();
            let figure = known.unwrap_or_else(|| Figure::told("", unit).named(name));
            figure.measured(value)
        };
        figures.push(add("rmse", "cycles", rmse(&judged, f64::INFINITY)));
        figures.push(add("rmse_clipped", "cycles", rmse(&judged, HORIZON)));
        figures.push(add("score", "points", judged.iter().map(Judged::penalty).sum()));
        let told: Vec<bool> = judged.iter().filter_map(|engine| engine.held).collect();
        if !told.is_empty() {
            let held = told.iter().filter(|held| **held).count();
            figures.push(add("coverage", "share", held as f64 / told.len() as f64));
        }
    }
    if let (Some(first), true) = (skipped.first(), figures.is_empty()) {
        bail!("{}: {}", first.file, first.reason);
    }
    Ok(Outcome {
        figures,
        skipped,
        ..Outcome::default()
    })
}

/// One test engine.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Judged {
    told: f64,
    truth: f64,
    /// Whether the interval held the truth, if there was one.
    held: Option<bool>,
}

impl Judged {
    fn penalty(&self) -> f64 {
        let late = self.told - self.truth;
        if late < 0.0 {
            (-late / 13.0).exp() - 1.0
        } else {
            (late / 10.0).exp() - 1.0
        }
    }
}

fn rmse(judged: &[Judged], most: f64) -> f64 {
    let square = |engine: &Judged| (engine.told.min(most) - engine.truth.min(most)).powi(2);
    (judged.iter().map(square).sum::<f64>() / judged.len().max(1) as f64).sqrt()
}

fn judge(folder: &Path, set: &str) -> Result<Vec<Judged>> {
    let train: Vec<Life> = read(&find(folder, "train", set)?)?.into_values().collect();
    let test = read(&find(folder, "test", set)?)?;
    let truths = numbers(&find(folder, "RUL", set)?)?;
    ensure!(
        test.len() == truths.len(),
        "{set}: {} test engines and {} truths",
        test.len(),
        truths.len()
    );
    let model = FleetModel::train(&train, SETTINGS)?;
    let engines = test.values().zip(truths);
    Ok(engines
        .map(|(engine, truth)| {
            let remaining = last_outlook(&model, engine).remaining();
            Judged {
                told: remaining.map_or(HORIZON, |remaining| remaining.median_s),
                truth,
                held: remaining.map(|remaining| remaining.holds(truth.min(HORIZON))),
            }
        })
        .collect())
}

/// What is said of an engine at its last row, a cycle being a second.
fn last_outlook(model: &FleetModel, engine: &Life) -> Outlook {
    let mut member = FleetMember::new(model, MemberState::default());
    let mut outlook = Outlook::Learning;
    for (cycle, row) in engine.rows.iter().enumerate() {
        outlook = member.handle_readings(EventTime(cycle as i64 * CYCLE_NS), row);
    }
    outlook
}

/// A file's name, in capitals.
fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_uppercase()
}

/// The sets of which the training engines are there.
fn sets(folder: &Path) -> Result<BTreeSet<String>> {
    let sets: BTreeSet<String> = files_below(folder, "")
        .iter()
        .map(|path| name_of(path))
        .filter(|name| name.contains("TRAIN"))
        .filter_map(|name| {
            let begin = name.find("FD")?;
            name.get(begin..begin + 5).map(str::to_owned)
        })
        .collect();
    ensure!(!sets.is_empty(), "no training engines in {}", folder.display());
    Ok(sets)
}

/// The file of that kind and set; the original layout where both are there.
fn find(folder: &Path, kind: &str, set: &str) -> Result<PathBuf> {
    let mut found = files_below(folder, "");
    found.retain(|path| {
        let name = name_of(path);
        name.contains(&kind.to_ascii_uppercase()) && name.contains(set)
    });
    found.sort_by_key(|path| name_of(path).contains("16COLS"));
    found
        .into_iter()
        .next()
        .with_context(|| format!("{}: no {kind} of {set}", folder.display()))
}

fn text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut text = String::new();
        GzDecoder::new(bytes.as_slice())
            .read_to_string(&mut text)
            .with_context(|| format!("cannot unpack {}", path.display()))?;
        return Ok(text);
    }
    String::from_utf8(bytes).with_context(|| format!("{} is no text", path.display()))
}

/// Rows of numbers; a first line of names is left out.
fn rows(path: &Path) -> Result<Vec<Vec<f64>>> {
    let mut rows = Vec::new();
    for (number, line) in text(path)?.lines().enumerate() {
        let fields = line
            .split(|char: char| char == ',' || char == ';' || char.is_whitespace())
            .filter(|field| !field.is_empty());
        let row: Result<Vec<f64>, _> = fields.map(str::parse).collect();
        match row {
            Ok(row) if row.is_empty() => {}
            Ok(row) => rows.push(row),
            Err(_) if number == 0 => {}
            Err(error) => bail!("{}, line {}: {error}", path.display(), number + 1),
        }
    }
    Ok(rows)
}

fn numbers(path: &Path) -> Result<Vec<f64>> {
    Ok(rows(path)?.into_iter().flatten().collect())
}

/// The engines of a file, by their number.
fn read(path: &Path) -> Result<BTreeMap<u64, Life>> {
    let mut engines: BTreeMap<u64, Life> = BTreeMap::new();
    for (number, row) in rows(path)?.into_iter().enumerate() {
        let used: Vec<f64> = match row.len() {
            26 => ORIGINAL.iter().map(|column| row[column - 1]).collect(),
            18 => row[2..].to_vec(),
            columns => bail!("{}, row {}: {columns} columns", path.display(), number + 1),
        };
        engines.entry(row[0] as u64).or_default().rows.push(used);
    }
    Ok(engines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_late_costs_more_than_too_early() {
        let engine = |told| Judged {
            told,
            truth: 50.0,
            held: None,
        };
        assert!((engine(60.0).penalty() - (1f64.exp() - 1.0)).abs() < 1e-12);
        assert!((engine(37.0).penalty() - (1f64.exp() - 1.0)).abs() < 1e-12);
        assert_eq!(rmse(&[engine(53.0), engine(46.0)], f64::INFINITY), 12.5f64.sqrt());
    }

    #[test]
    fn both_layouts_give_the_same_rows() {
        let folder = tempfile::tempdir().unwrap();
        let original: Vec<String> = (1..=26).map(|column| column.to_string()).collect();
        fs::write(folder.path().join("train_FD002.txt"), original.join(" ") + "  \n").unwrap();
        let few: Vec<String> = [1, 2].iter().chain(&ORIGINAL).map(ToString::to_string).collect();
        let path = folder.path().join("train_FD004_16cols.csv.gz");
        let file = fs::File::create(&path).unwrap();
        let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, format!("unit,cycle\n{}\n", few.join(",")).as_bytes())
            .unwrap();
        packed.finish().unwrap();
        let sets = sets(folder.path()).unwrap();
        assert_eq!(sets.into_iter().collect::<Vec<_>>(), ["FD002", "FD004"]);
        let rows = |set| read(&find(folder.path(), "train", set).unwrap()).unwrap();
        assert_eq!(rows("FD002"), rows("FD004"));
    }

    /// Engines that wear under six settings in turn, of which each moves every sensor elsewhere; the last `cut` rows
    /// of each are left out.
    fn engines(engines: std::ops::Range<usize>, cut: usize) -> String {
        let mut text = String::new();
        for engine in engines {
            let length = 140 + 17 * engine % 61;
            for cycle in 1..=length - cut {
                let scatter = |of: f64| ((cycle * 7 + engine * 31) as f64 * of).sin() * 0.3;
                let regime = (cycle * 5 + engine * 3) % 6;
                let wear = 4.0 * (-((length - cycle) as f64) / 40.0).exp();
                text += &format!("{engine} {cycle} {} {}", 10 * regime, 0.1 * regime as f64);
                for sensor in 0..14 {
                    let offset = (100 * (sensor + 1) * (regime + 1)) as f64;
                    let gain = 1.0 + regime as f64;
                    let share = f64::from(u8::from(sensor % 3 != 0));
                    let value = offset + gain * (share * wear + scatter(1.7 + sensor as f64));
                    text += &format!(" {value:.4}");
                }
                text += "\n";
            }
        }
        text
    }

    #[test]
    fn sets_of_several_operating_conditions_are_judged_and_one_without_its_truth_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        for set in ["FD002", "FD004"] {
            write(&format!("train_{set}_16cols.csv"), &engines(1..25, 0));
            write(&format!("test_{set}_16cols.csv"), &engines(30..40, 40));
        }
        write("RUL_FD002.txt", &"40\n".repeat(10));
        let outcome = run(folder.path()).unwrap();
        let value = |name: &str| {
            let figure = outcome.figures.iter().find(|figure| figure.name == name);
            figure.unwrap().value.unwrap()
        };
        // Told as at the horizon, each would be 85 off.
        assert!(
            value("cmapss_FD002_rmse") < 25.0,
            "{}",
            value("cmapss_FD002_rmse")
        );
        assert_eq!(outcome.skipped.len(), 1);
        assert_eq!(outcome.skipped[0].file, "FD004");
        assert!(outcome.skipped[0].reason.contains("no RUL of FD004"));
    }
}
