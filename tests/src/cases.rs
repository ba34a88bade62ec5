//! The machines that stories play: simulated ones, and recorded ones found in a folder.

use crate::host_node::Motor;
use crate::record::{CwruRecord, FemtoSnapshot, Place, decimate_by_4};
use crate::sim_machine::SeededFault;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use trunnion_diagnosis::bearing::Element;

pub use crate::story::{Case, Vibration};

/// Most records played at once: each is a process, and two cores keep up with these in real time.
const RECORDS_MAX: usize = 32;

/// Full scale of the sensors in the plant, g.
const RANGE_G: f32 = 16.0;

/// The FEMTO runs end at 20 g and beyond.
const FEMTO_RANGE_G: f32 = 64.0;

/// The simulated machine that stays healthy.
pub const HEALTHY: &str = "simulated, healthy";

/// The simulated machine that is healthy until its inner race spalls.
pub const INNER_RACE_FAULT: &str = "simulated, inner race";

/// The simulated machine that is healthy until its outer race spalls.
pub const OUTER_RACE_FAULT: &str = "simulated, outer race";

/// When the simulated faults appear, seconds from the first sample.
pub const FAULT_ONSET_S: f64 = 10.0;

/// How long the simulated machines run, seconds.
const SIMULATED_S: f64 = 30.0;

/// The rate of their sensors, Hz.
const SIMULATED_RATE_HZ: f64 = 25_600.0;

/// Three motors of a kind: one stays healthy, two begin to fail.
pub fn simulated() -> Vec<Case> {
    // Strikes at twenty times the noise: a large spall, as it is when somebody hears it.
    const SEVERITY_G: f64 = 1.0;
    let faults = [
        (HEALTHY, None),
        (INNER_RACE_FAULT, Some(Element::InnerRace)),
        (OUTER_RACE_FAULT, Some(Element::OuterRace)),
    ];
    let case = |(seed, (record, fault)): (u64, (&str, Option<Element>))| {
        let motor = Motor {
            seed,
            fault: fault.map(|element| SeededFault {
                element,
                severity_g: SEVERITY_G,
                onset_s: FAULT_ONSET_S,
            }),
            seconds: SIMULATED_S,
        };
        Case {
            record: record.to_owned(),
            vibration: Vibration::Simulated(motor),
            rate_hz: SIMULATED_RATE_HZ,
            range_g: RANGE_G,
            rpm: 60.0 * motor.spec(SIMULATED_RATE_HZ).shaft_hz,
            bearing: Some("6205".to_owned()),
        }
    };
    (1..).zip(faults).map(case).collect()
}

/// Every record in `dir` and the folders in it, one case each, sorted by path. A record at 48 kHz is
/// played as it is, and once more decimated to the 12 kHz of the others.
pub fn from_records(dir: &Path) -> Result<Vec<Case>> {
    let mut files = Vec::new();
    find(dir, &mut files)?;
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        if has_ending(&file, ".mat") {
            cases.extend(cwru(&file)?);
        } else {
            cases.push(femto(&file)?);
        }
    }
    if cases.is_empty() {
        bail!("no records (*.mat, *.f32le.gz) in {}", dir.display());
    }
    if cases.len() > RECORDS_MAX {
        println!("playing the first {RECORDS_MAX} of {} records", cases.len());
        cases.truncate(RECORDS_MAX);
    }
    Ok(cases)
}

fn has_ending(file: &Path, ending: &str) -> bool {
    file.file_name()
        .is_some_and(|name| name.to_string_lossy().ends_with(ending))
}

fn find(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("cannot read the folder {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if has_ending(&path, ".mat") || has_ending(&path, ".f32le.gz") {
            files.push(path);
        }
    }
    Ok(())
}

/// The drive-end channel, on its 6205 bearing.
fn cwru(file: &Path) -> Result<Vec<Case>> {
    let record = CwruRecord::read(file)?;
    let samples = record.channel(Place::DriveEnd);
    let samples = samples.with_context(|| format!("{} has no drive-end channel", file.display()))?;
    let case = Case {
        record: record.name.clone(),
        vibration: Vibration::Recorded(samples.to_vec()),
        rate_hz: record.rate_hz,
        range_g: RANGE_G,
        rpm: 60.0 * record.shaft_hz(),
        bearing: Some("6205".to_owned()),
    };
    if record.rate_hz <= 12_000.0 {
        return Ok(vec![case]);
    }
    let decimated = Case {
        record: format!("{} decimated", record.name),
        vibration: Vibration::Recorded(decimate_by_4(samples)),
        rate_hz: record.rate_hz / 4.0,
        ..case.clone()
    };
    Ok(vec![case, decimated])
}

/// The horizontal channel of up to 200 snapshots, end to end. The organisers say that bearing
/// frequencies do not match the damage, so no bearing is declared and nothing is searched for.
fn femto(file: &Path) -> Result<Case> {
    let snapshots = FemtoSnapshot::read_part(file)?;
    let folder = file
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let part = file.file_name().unwrap_or_default().to_string_lossy();
    let rpm = match folder
        .strip_prefix("Bearing")
        .and_then(|name| name.chars().next())
    {
        Some('1') => 1_800.0,
        Some('2') => 1_650.0,
        Some('3') => 1_500.0,
        _ => bail!(
            "{}: the speed is known for folders Bearing1_x, 2_x and 3_x only",
            file.display()
        ),
    };
    Ok(Case {
        record: format!("{folder} {}", part.trim_end_matches(".f32le.gz")),
        vibration: Vibration::Recorded(
            snapshots
                .into_iter()
                .flat_map(|snapshot| snapshot.horizontal)
                .collect(),
        ),
        rate_hz: FemtoSnapshot::RATE_HZ,
        range_g: FEMTO_RANGE_G,
        rpm,
        bearing: None,
    })
}
