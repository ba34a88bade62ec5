//! Bearings of the PRONOSTIA platform run to 20 g: onset, and remaining life with an interval.
//!
//! Protocol: a run is a folder of waveforms (`Bearing1_1/part_NN.f32le.gz`) or the rows of one bearing in
//! a file of features (`*.csv.gz`); where both are there, the waveforms count. Its two sensors go through
//! the collector's [`Tracks`] as peak acceleration against the platform's limit, each snapshot a window and a
//! reading, and the one that ends first speaks. The truth is the time until the last snapshot, since the platform stopped a run
//! there. Runs that never reach the limit have no truth and are left out.
//!
//! `femto_coverage` is the share of the snapshots after onset whose interval holds the truth, by run, and
//! the mean over the runs; `femto_width_ratio` the median over all of them of the interval's width over
//! the truth; `femto_score` the mean of the score of the IEEE PHM 2012 data challenge over the
//! snapshots after onset, by run, and the mean over the runs (the challenge took it once a run).

use super::{Benchmark, Outcome, Skipped};
use crate::bench::figure::Figure;
use crate::record::{FemtoSnapshot, files_below};
use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use trunnion_collector::prognosis::RemainingLife;
use trunnion_collector::prognosis::track::{Shown, Tracks, Window};
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::statistics::Statistics;
use trunnion_common::operating::Regime;
use trunnion_common::time::EventTime;

/// Where the platform stopped a run: g.
const LIMIT_G: f64 = 20.0;
/// Time between snapshots, and how long one is: seconds.
const CADENCE_S: f64 = 10.0;
const SNAPSHOT_S: f64 = 0.1;
/// Two snapshots at the limit within so many end a bearing's life; a lone blow does not.
const LIMIT_WITHIN: usize = 10;

const COVERAGE: Figure = Figure::at_least("femto_coverage", 0.8, "share");
const WORST: Figure = Figure::at_least("femto_coverage_worst", 0.6, "share");
const WIDTH: Figure = Figure::at_most("femto_width_ratio", 2.0, "of the truth");
const ONSETS: Figure = Figure::at_least("femto_onsets", 1.0, "share");
const SCORE: Figure = Figure::told_higher("femto_score", "points");

/// The benchmark.
pub const FEMTO: Benchmark = Benchmark {
    name: "femto",
    needs_data: true,
    figures: &[COVERAGE, WORST, WIDTH, ONSETS, SCORE],
    published: &[],
    run,
};

/// Peak acceleration of one run by snapshot: horizontal, vertical; g.
type Run = Vec<[f64; 2]>;

/// What a run gave.
#[derive(Clone, PartialEq, Debug)]
struct Judged {
    /// Whether a fault was seen to begin before the limit was reached.
    onset_in_time: bool,
    /// Share of the snapshots after onset whose interval holds the truth.
    coverage: f64,
    /// Mean score over them.
    score: f64,
    /// Width over truth of each.
    widths: Vec<f64>,
}

fn run(folder: &Path) -> Result<Outcome> {
    let (runs, mut skipped) = read(folder);
    let mut judged = Vec::new();
    for (name, run) in &runs {
        match judge(run) {
            Some(run) => judged.push(run),
            None => skipped.push(Skipped::new(
                FEMTO.name,
                Path::new(name),
                format!("never reaches {LIMIT_G} g: its end is not known"),
            )),
        }
    }
    ensure!(
        !judged.is_empty(),
        "no run to {LIMIT_G} g in {}",
        folder.display()
    );
    let mean = |of: fn(&Judged) -> f64| judged.iter().map(of).sum::<f64>() / judged.len() as f64;
    let worst = judged.iter().map(|each| each.coverage).fold(1.0, f64::min);
    let mut widths: Vec<f64> = judged
        .iter()
        .flat_map(|each| each.widths.iter().copied())
        .collect();
    widths.sort_by(f64::total_cmp);
    let width = widths.get(widths.len() / 2).copied();
    Ok(Outcome {
        figures: vec![
            COVERAGE.measured(mean(|each| each.coverage)),
            WORST.measured(worst),
            width.map_or_else(|| WIDTH.missing("no onset"), |width| WIDTH.measured(width)),
            ONSETS.measured(mean(|each| f64::from(u8::from(each.onset_in_time)))),
            SCORE.measured(mean(|each| each.score)),
        ],
        skipped,
        ..Outcome::default()
    })
}

/// Streams one run; none if it never reaches the limit. A run without an estimate holds the truth never.
fn judge(run: &[[f64; 2]]) -> Option<Judged> {
    let reached = limit_reached(run)?;
    let last = run.len() - 1;
    let mut sensors = [Tracks::default(), Tracks::default()];
    let mut judged = Judged {
        onset_in_time: false,
        coverage: 0.0,
        score: 0.0,
        widths: Vec::new(),
    };
    let (mut held, mut score) = (0usize, 0.0);
    for (index, peaks) in run[..last].iter().enumerate() {
        let start = EventTime((index as f64 * CADENCE_S * 1e9) as i64);
        let window = Window {
            start,
            end: start.plus_nanos((SNAPSHOT_S * 1e9) as i64),
            interval_ns: (CADENCE_S * 1e9) as i64,
            regime: Regime::default(),
        };
        let told = sensors
            .iter_mut()
            .zip(peaks)
            .filter_map(|(sensor, &peak)| {
                let shown = Shown {
                    kind: FeatureKind::Peak,
                    value: peak as f32,
                    limit: LIMIT_G as f32,
                    normal: None,
                };
                sensor.handle_window(&window, &[shown], window.interval_ns);
                sensor.forecast("")?.outlook.remaining()
            })
            .reduce(RemainingLife::earlier);
        let Some(remaining) = told else {
            continue;
        };
        let truth_s = (last - index) as f64 * CADENCE_S;
        judged.onset_in_time |= index < reached;
        held += usize::from(remaining.holds(truth_s));
        score += accuracy(truth_s, remaining.median_s);
        judged.widths.push(remaining.width_s() / truth_s);
    }
    let told = judged.widths.len().max(1) as f64;
    judged.coverage = held as f64 / told;
    judged.score = score / told;
    Some(judged)
}

/// The snapshot at which the limit is reached.
fn limit_reached(run: &[[f64; 2]]) -> Option<usize> {
    let beyond: Vec<usize> = (0..run.len())
        .filter(|&index| run[index].iter().any(|&peak| peak >= LIMIT_G))
        .collect();
    let close = beyond.windows(2).find(|pair| pair[1] - pair[0] < LIMIT_WITHIN);
    close.map(|pair| pair[0]).or_else(|| beyond.last().copied())
}

/// The score of the IEEE PHM 2012 challenge: 1 for the truth, one half for 5 % too late or 20 % too early.
fn accuracy(truth_s: f64, told_s: f64) -> f64 {
    let error = 100.0 * (truth_s - told_s) / truth_s;
    if error <= 0.0 {
        (-0.5f64.ln() * error / 5.0).exp()
    } else {
        (0.5f64.ln() * error / 20.0).exp()
    }
}

/// Every run below the folder, by bearing, and what could not be read.
fn read(folder: &Path) -> (BTreeMap<String, Run>, Vec<Skipped>) {
    let mut runs = BTreeMap::new();
    let mut skipped = Vec::new();
    let mut skip = |path: &Path, error: anyhow::Error| {
        let path = path.strip_prefix(folder).unwrap_or(path);
        skipped.push(Skipped::new(FEMTO.name, path, format!("{error:#}")));
    };
    for path in files_below(folder, ".csv.gz") {
        match read_features(&path) {
            Ok(read) => runs.extend(read),
            Err(error) => skip(&path, error),
        }
    }
    let mut parts: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for ending in [".f32le.gz", ".csv"] {
        for path in files_below(folder, ending) {
            // Beside the acceleration a bearing has its temperature.
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if ending == ".f32le.gz" || name.starts_with("acc_") {
                let bearing = path.parent().unwrap_or(folder).to_owned();
                parts.entry(bearing).or_default().push(path);
            }
        }
    }
    for (bearing, parts) in parts {
        let name = bearing.file_name().unwrap_or_default().to_string_lossy();
        match read_waveforms(&parts) {
            Ok(run) => drop(runs.insert(name.into_owned(), run)),
            Err(error) => skip(&bearing, error),
        }
    }
    (runs, skipped)
}

/// A bearing's waveforms, in the order of their names, through the feature code of node, gateway and collector.
fn read_waveforms(parts: &[PathBuf]) -> Result<Run> {
    let peak = |samples: &[f32]| Statistics::of(samples).map_or(f64::NAN, |all| f64::from(all.peak));
    let mut run = Run::new();
    let mut last = None;
    for part in parts {
        let number = number_of(part);
        ensure!(
            last.is_none() || number.zip(last).is_none_or(|(number, last)| number == last + 1),
            "{}: snapshots before it are missing",
            part.display()
        );
        last = number;
        let snapshots = FemtoSnapshot::read_part(part)?;
        run.extend(
            snapshots
                .iter()
                .map(|snapshot| [peak(&snapshot.horizontal), peak(&snapshot.vertical)]),
        );
    }
    Ok(run)
}

/// The number at the end of a file's name: of `acc_00001.csv`, 1.
fn number_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?.split('.').next()?;
    name.rsplit('_').next()?.parse().ok()
}

/// Rows of features, in the order of the file; columns are found by their names.
fn read_features(path: &Path) -> Result<BTreeMap<String, Run>> {
    let mut text = String::new();
    GzDecoder::new(fs::File::open(path)?)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| {
        let column = header.iter().position(|column| column.trim() == name);
        column.with_context(|| format!("{}: no column {name}", path.display()))
    };
    let (bearing, horizontal, vertical) = (column("bearing")?, column("h_peak")?, column("v_peak")?);
    let mut runs: BTreeMap<String, Run> = BTreeMap::new();
    for (number, line) in lines.enumerate() {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let number_at = |column: usize| fields.get(column).and_then(|field| field.parse::<f64>().ok());
        let Some((name, peaks)) = fields
            .get(bearing)
            .zip(number_at(horizontal).zip(number_at(vertical)))
        else {
            bail!("{}, line {}: not a row of features", path.display(), number + 2);
        };
        runs.entry((*name).to_owned())
            .or_default()
            .push([peaks.0, peaks.1]);
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::scan;
    use std::io::Write;

    /// Healthy for 300 snapshots, then growing to 30 g at snapshot 500.
    fn failing() -> Run {
        (0..500)
            .map(|index: i32| {
                let way = f64::from((index - 300).max(0)) / 200.0;
                let scatter = 1.0 + 0.1 * (f64::from(index) * 12.9898).sin();
                [2.0 * scatter * 15f64.powf(way), 2.0 * scatter]
            })
            .collect()
    }

    #[test]
    fn a_run_that_grows_to_the_limit_is_seen_in_time() {
        let judged = judge(&failing()).unwrap();
        assert!(judged.onset_in_time);
        assert!(
            judged.coverage > 0.0 && judged.coverage <= 1.0,
            "{}",
            judged.coverage
        );
    }

    #[test]
    fn a_run_that_never_reaches_the_limit_has_no_truth() {
        assert_eq!(judge(&failing()[..400]), None);
    }

    #[test]
    fn a_lone_blow_does_not_reach_the_limit() {
        let mut run = vec![[2.0, 2.0]; 100];
        run[10] = [25.0, 2.0];
        run[60] = [25.0, 2.0];
        run[65] = [2.0, 25.0];
        assert_eq!(limit_reached(&run), Some(60));
        assert_eq!(limit_reached(&run[..60]), Some(10));
        assert_eq!(limit_reached(&run[..10]), None);
    }

    #[test]
    fn a_life_told_too_long_costs_four_times_as_much() {
        assert!((accuracy(100.0, 100.0) - 1.0).abs() < 1e-12);
        assert!((accuracy(100.0, 105.0) - 0.5).abs() < 1e-12);
        assert!((accuracy(100.0, 80.0) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_folder_of_published_snapshots_is_a_run_unless_some_are_missing() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| scan::write(folder.path(), path, text);
        let snapshot = |peak: f32| {
            let swing = format!("9,39,39,65664,{peak},-0.5\n9,39,39,65703,-{peak},0.5\n");
            swing.repeat(FemtoSnapshot::SAMPLES / 2)
        };
        for number in 1..=3u8 {
            let peak = f32::from(number);
            write(
                &format!("Full_Test_Set/Bearing1_3/acc_{number:05}.csv"),
                &snapshot(peak),
            );
        }
        write("Full_Test_Set/Bearing1_3/temp_00001.csv", "9,39,39,0,65.3\n");
        write("original_sample/acc_00001.csv", &snapshot(1.0));
        write("original_sample/acc_02803.csv", &snapshot(30.0));
        write("Bearing2_4/acc_00001.csv", "torn");
        let (runs, skipped) = read(folder.path());
        assert_eq!(runs.len(), 1);
        assert_eq!(runs["Bearing1_3"], [[1.0, 0.5], [2.0, 0.5], [3.0, 0.5]]);
        let skipped: Vec<_> = skipped.iter().map(|skipped| &*skipped.file).collect();
        assert_eq!(skipped, ["Bearing2_4", "original_sample"]);
    }

    #[test]
    fn features_are_read_by_bearing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("features.csv.gz");
        let mut file =
            flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
        file.write_all(b"set,bearing,h_peak,v_peak\nL,B1,1.5,2\nL,B2,3,4\nL,B1,5,6\n")
            .unwrap();
        file.finish().unwrap();
        let (runs, _) = read(folder.path());
        assert_eq!(runs["B1"], [[1.5, 2.0], [5.0, 6.0]]);
        assert_eq!(runs["B2"], [[3.0, 4.0]]);
    }
}
