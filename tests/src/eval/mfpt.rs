//! The bearing records of the Society for Machinery Failure Prevention Technology: name the element.
//!
//! Another rig than Case Western's: a NICE bearing of eight balls at 25 Hz, in records of three or six seconds at
//! 48,828 or 97,656 Hz and loads from 0 to 300 pounds. Records of other machines, which the set also has, are
//! passed over: neither geometry nor truth of them is stated.

use super::diagnosis::{Channel, Judged, of_windows};
use super::{Benchmark, Outcome};
use crate::bench::figure::Figure;
use crate::record::{MfptRecord, files_below};
use anyhow::{Context, Result, bail};
use std::path::Path;
use trunnion_collector::bearing::{BearingOrders, Element};
use trunnion_collector::features::Analyzer;

const NAME: &str = "mfpt";

/// Records of which the damaged element alone was named; the goal is all that have one.
const NAMED: Figure = Figure::at_least("mfpt_named", 1.0, "records");

/// Records of which something was claimed that is not so.
const WRONG: Figure = Figure::at_most("mfpt_wrong", 0.0, "claims");

/// Windows of 1 s of the damaged bearings that name the element by themselves: records of the shortest length.
const WINDOWS_NAMED: Figure = Figure::at_least("mfpt_windows_named", 0.5, "share");

/// Windows of any channel that by themselves name what is not damaged.
const WINDOWS_WRONG: Figure = Figure::at_most("mfpt_windows_wrong", 0.0, "windows");

/// The benchmark.
pub const MFPT: Benchmark = Benchmark {
    name: NAME,
    figures: &[NAMED, WRONG, WINDOWS_NAMED, WINDOWS_WRONG],
    published: &[],
    run,
};

/// Outer race, inner race, twice the ball's spin (2 x 2.5546) and cage, as the set states them.
fn bearing() -> Result<BearingOrders> {
    BearingOrders::declared(3.245, 4.755, 5.1092, 0.4056).context("the rig's bearing")
}

fn run(folder: &Path) -> Result<Outcome> {
    let bearing = bearing()?;
    let mut analyzer = Analyzer::new();
    let mut judged = Vec::new();
    for file in files_below(folder, ".mat") {
        let Some(truth) = truth(file.strip_prefix(folder).unwrap_or(&file)) else {
            continue;
        };
        let record = MfptRecord::read(&file)?;
        let heard = Channel {
            samples: &record.samples,
            rate_hz: record.rate_hz,
            shaft_hz: record.shaft_hz,
            bearing,
        };
        let diagnosis = heard.diagnose(&mut analyzer);
        judged.push(Judged::new(NAME, &record.name, "bearing", &diagnosis, truth));
    }
    if judged.is_empty() {
        bail!("no records of the rig at {}", folder.display());
    }
    let count = |is: fn(&Judged) -> bool| judged.iter().filter(|judged| is(judged)).count();
    let damaged = count(|judged| judged.claim.truth.is_some());
    let wrong = count(|judged| judged.wrong);
    let (windows_named, windows_wrong) = of_windows(&judged);
    let goal = Figure::at_least("mfpt_named", damaged as f64, "records");
    Ok(Outcome {
        figures: vec![
            goal.measured(count(|judged| judged.named) as f64),
            WRONG.measured(wrong as f64),
            WINDOWS_NAMED.measured(windows_named),
            WINDOWS_WRONG.measured(windows_wrong as f64),
        ],
        false_alarms: Some(wrong as u64),
        claims: judged.into_iter().map(|judged| judged.claim).collect(),
    })
}

/// What folder and file name say is damaged: none in it for a healthy bearing, and none at all where they do not
/// speak of this rig. The file's own name goes before the folder's.
fn truth(path: &Path) -> Option<Option<Element>> {
    path.iter().rev().find_map(|part| {
        let part = part.to_string_lossy().to_ascii_lowercase();
        [
            ("baseline", None),
            ("normal", None),
            ("inner", Some(Element::InnerRace)),
            ("outer", Some(Element::OuterRace)),
        ]
        .into_iter()
        .find(|(word, _)| part.contains(word))
        .map(|(_, truth)| truth)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_and_file_name_state_what_is_damaged() {
        for (path, expected) in [
            ("1 - Three Baseline Conditions/baseline_1.mat", Some(None)),
            (
                "3 - Seven More Outer Race Fault Conditions/OuterRaceFault_vload_2.mat",
                Some(Some(Element::OuterRace)),
            ),
            ("InnerRaceFault_vload_7.mat", Some(Some(Element::InnerRace))),
            ("5 - Real World Examples/IntermediateSpeedBearing.mat", None),
        ] {
            assert_eq!(truth(Path::new(path)), expected, "{path}");
        }
    }
}
