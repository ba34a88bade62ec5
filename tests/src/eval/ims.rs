//! Bearings run to failure at the University of Cincinnati: how early, and what of the healthy ones.
//!
//! J. Lee, H. Qiu, G. Yu and J. Lin, *Bearing data set*, IMS, University of Cincinnati, 2007. Four bearings
//! on one shaft are watched by the RMS of each snapshot ([`Rise`], learned from a fixed number of snapshots),
//! and a rise is attributed among the four: one that a louder neighbour explains is no alarm of this bearing.
//! How long before the end a failing bearing was told is its lead; an alarm of any other bearing is false,
//! and nothing is left out.

use super::scan::scan;
use super::table::Table;
use super::{Benchmark, Outcome, Published};
use crate::bench::figure::{Better, Figure};
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;
use trunnion_common::detection::attribution::{Attribution, Element, attribute};
use trunnion_common::detection::rise::{Rise, Settings};
use trunnion_common::time::EventTime;

/// The benchmark.
pub const IMS: Benchmark = Benchmark {
    name: "ims",
    needs_data: true,
    figures: &[
        Figure::at_least("ims_lead_h_test2", 72.0, "h"),
        Figure::at_most("ims_false_alarms_test2", 0.0, "alarms"),
    ],
    published: &[
        published("ims_lead_h_test1", "log-RMS, clean on all three sets", 91.5),
        published("ims_lead_h_test1", "isolation forest", 79.5),
        published("ims_lead_h_test2", "log-RMS, clean on all three sets", 72.2),
        published("ims_lead_h_test2", "isolation forest", 53.7),
        published("ims_lead_h_test3", "log-RMS, clean on all three sets", 56.8),
        published("ims_lead_h_test3", "isolation forest", 57.0),
    ],
    run,
};

const fn published(figure: &'static str, who: &'static str, value: f64) -> Published {
    Published { figure, who, value }
}

/// Which bearings failed, for the scores alone.
const FAILED: [(&str, &[u32]); 3] = [("test1", &[3, 4]), ("test2", &[1]), ("test3", &[3])];

/// Snapshots at the end that were taken after the rig had been shut down.
const AFTER_SHUTDOWN: usize = 2;

const RAW: &str = "_raw.csv";

fn run(folder: &Path) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut false_alarms = 0;
    let scan = scan(IMS.name, folder, RAW, |path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let set = name.to_ascii_lowercase().trim_end_matches(RAW).to_owned();
        Ok((set, Set::read(&Table::read(path, ',')?)?.alarms()))
    })?;
    for (set, told) in scan.found {
        let Some((_, failed)) = FAILED.iter().find(|(known, _)| *known == set) else {
            let unknown = figure(format!("ims_lead_h_{set}"), 0.0);
            let why = "nobody has said which bearing failed";
            outcome.figures.push(
                Figure {
                    value: None,
                    ..unknown
                }
                .missing(why),
            );
            continue;
        };
        let lead = told
            .iter()
            .filter(|(bearing, _)| failed.contains(bearing))
            .map(|(_, lead_h)| *lead_h)
            .fold(0.0, f64::max);
        let healthy = told.iter().filter(|(bearing, _)| !failed.contains(bearing));
        let healthy = healthy.count() as u64;
        false_alarms += healthy;
        outcome.figures.push(figure(format!("ims_lead_h_{set}"), lead));
        outcome
            .figures
            .push(figure(format!("ims_false_alarms_{set}"), healthy as f64));
    }
    outcome.skipped = scan.skipped;
    outcome.false_alarms = Some(false_alarms);
    Ok(outcome)
}

/// The figure of that name, with a goal if there is one for this set.
fn figure(name: String, value: f64) -> Figure {
    let known = IMS.figures.iter().find(|figure| figure.name == name);
    let figure = known.cloned().unwrap_or_else(|| {
        let is_lead = name.starts_with("ims_lead_h");
        let (unit, better) = if is_lead {
            ("h", Better::Higher)
        } else {
            ("alarms", Better::Lower)
        };
        Figure {
            better,
            ..Figure::told("", unit)
        }
    });
    figure.named(name).measured(value)
}

/// One run to failure.
struct Set {
    times: Vec<EventTime>,
    /// RMS about the mean by bearing and sensor, g.
    bearings: BTreeMap<u32, Vec<Vec<f64>>>,
}

/// What one bearing's sensors say at one snapshot.
fn of_bearing(watches: &mut [Rise], at: EventTime, values: impl Iterator<Item = f64>) -> Option<Element> {
    let levels = watches.iter_mut().zip(values);
    let levels = levels.filter_map(|(watch, value)| watch.handle_reading(at, value as f32));
    // The sensor in the worst direction speaks for the bearing.
    levels.fold(None, |worst: Option<Element>, level| {
        let rise = worst.map_or(level.rise, |worst| worst.rise.max(level.rise));
        let raised = level.raised || worst.is_some_and(|worst| worst.raised);
        Some(Element { rise, raised })
    })
}

impl Set {
    /// Columns are named `Bearing1_ch1_std`: standard deviation, which is the RMS about the mean; `_rms` where there
    /// are none. As many bearings and sensors as there are.
    fn read(table: &Table) -> Result<Self> {
        let has_deviation = table.columns.iter().any(|name| name.ends_with("_std"));
        let detector = if has_deviation { "_std" } else { "_rms" };
        let mut bearings: BTreeMap<u32, Vec<Vec<f64>>> = BTreeMap::new();
        for (index, name) in table.columns.iter().enumerate() {
            let bearing = name
                .strip_prefix("Bearing")
                .filter(|rest| rest.ends_with(detector))
                .and_then(|rest| rest.split('_').next()?.parse().ok());
            if let Some(bearing) = bearing {
                bearings.entry(bearing).or_default().push(table.numbers(index)?);
            }
        }
        ensure!(
            !bearings.is_empty(),
            "no columns `Bearing<n>_ch<n>_std` or `_rms`"
        );
        let mut times = table.times(table.column("timestamp")?)?;
        times.truncate(times.len().saturating_sub(AFTER_SHUTDOWN));
        Ok(Self { times, bearings })
    }

    /// The bearings that were told, with the hours from then to the end.
    fn alarms(&self) -> Vec<(u32, f64)> {
        let watches = |sensors: &Vec<Vec<f64>>| vec![Rise::new(Settings::default()); sensors.len()];
        let mut watches: Vec<Vec<Rise>> = self.bearings.values().map(watches).collect();
        let mut told = BTreeMap::new();
        for (row, at) in self.times.iter().enumerate() {
            let elements = self
                .bearings
                .values()
                .zip(&mut watches)
                .map(|(sensors, watches)| of_bearing(watches, *at, sensors.iter().map(|sensor| sensor[row])));
            // Each takes its reading before any is asked for: learning goes on whatever the others do.
            let elements: Vec<Option<Element>> = elements.collect();
            // They are read at once and rest together; a snapshot that one says nothing of is not compared.
            let Some(elements) = elements.into_iter().collect::<Option<Vec<Element>>>() else {
                continue;
            };
            for (place, bearing) in self.bearings.keys().enumerate() {
                if attribute(place, &elements) == Some(Attribution::Own) {
                    told.entry(*bearing).or_insert(*at);
                }
            }
        }
        let end = self.times.last().copied().unwrap_or_default();
        told.into_iter()
            .map(|(bearing, at)| (bearing, end.nanos_since(at) as f64 / 3.6e12))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of four bearings, a snapshot every ten minutes; the third begins to fail at `onset`.
    fn set(onset: usize) -> Set {
        let noise =
            |index: usize| f64::from((index as u32).wrapping_mul(2_654_435_761) >> 16) / 65_536.0 - 0.5;
        let rms = |bearing: usize, row: usize| {
            let damage = row.saturating_sub(onset) as f64 * 0.01;
            let heard = if bearing == 3 { damage } else { 0.3 * damage };
            0.08 * (1.0 + 0.03 * noise(4 * row + bearing) + heard)
        };
        let bearing = |bearing: usize| {
            let sensor = (0..600).map(|row| rms(bearing, row)).collect();
            (bearing as u32, vec![sensor])
        };
        Set {
            times: (0..600).map(|row| EventTime(row * 600_000_000_000)).collect(),
            bearings: (1..=4).map(bearing).collect(),
        }
    }

    #[test]
    fn the_failing_bearing_is_told_and_those_that_hear_it_are_not() {
        let told = set(450).alarms();
        let [(3, lead_h)] = told[..] else {
            panic!("{told:?}");
        };
        assert!((20.0..25.0).contains(&lead_h), "{lead_h}");
    }

    #[test]
    fn of_healthy_bearings_none_is_told() {
        assert_eq!(set(600).alarms(), []);
    }

    #[test]
    fn sets_of_any_number_of_sensors_are_judged_and_what_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        // Two sensors to each bearing, of which the last bearing's begin to rise 50 snapshots before the end.
        let write = |name: &str, sensors: u32, detector: &str| {
            let columns = (1..=4).flat_map(|bearing| {
                (1..=sensors).map(move |sensor| format!(",Bearing{bearing}_ch{sensor}_{detector}"))
            });
            let mut text = "timestamp".to_owned() + &columns.collect::<String>() + "\n";
            let set = set(450);
            for (row, at) in set.times.iter().enumerate() {
                let minutes = at.0 / 60_000_000_000;
                let (day, minutes) = (1 + minutes / 1_440, minutes % 1_440);
                text += &format!("2003-11-{day:02} {:02}:{:02}:00", minutes / 60, minutes % 60);
                for bearing in set.bearings.values() {
                    text += &format!(",{}", bearing[0][row]).repeat(sensors as usize);
                }
                text += "\n";
            }
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        write("test1_raw.csv", 2, "std");
        write("test3_raw.csv", 1, "rms");
        std::fs::write(folder.path().join("test1_spectral.csv"), "file_index\n0\n").unwrap();
        std::fs::write(folder.path().join("test4_raw.csv"), "timestamp,x\n").unwrap();
        let outcome = run(folder.path()).unwrap();
        let figures: Vec<_> = outcome.figures.iter().map(|figure| &*figure.name).collect();
        assert_eq!(
            figures,
            [
                "ims_lead_h_test1",
                "ims_false_alarms_test1",
                "ims_lead_h_test3",
                "ims_false_alarms_test3"
            ]
        );
        for lead in [0, 2] {
            let lead_h = outcome.figures[lead].value.unwrap();
            assert!((20.0..25.0).contains(&lead_h), "{lead_h}");
        }
        assert_eq!(outcome.false_alarms, Some(0));
        assert_eq!(outcome.skipped.len(), 1);
        assert_eq!(outcome.skipped[0].file, "test4_raw.csv");
    }

    #[test]
    fn sensors_are_found_by_their_columns_and_the_end_is_before_the_shutdown() {
        let text = "timestamp,Bearing1_ch1_rms,Bearing1_ch1_std,Bearing1_ch2_std\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test1_raw.csv");
        let rows = "2004-02-12 10:32:39,1,2,3\n".repeat(5);
        std::fs::write(&path, format!("{text}{rows}")).unwrap();
        let set = Set::read(&Table::read(&path, ',').unwrap()).unwrap();
        assert_eq!(set.times.len(), 3);
        assert_eq!(set.bearings[&1].len(), 2);
        assert_eq!(set.bearings[&1][0][0], 2.0);
    }
}
