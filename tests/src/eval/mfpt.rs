//! The bearing records of the Society for Machinery Failure Prevention Technology: name the element.
//!
//! Another rig than Case Western's: a NICE bearing of eight balls at 25 Hz, in records of three or six seconds at
//! 48,828 or 97,656 Hz and loads from 0 to 300 pounds. Records of other machines, which the set also has, are
//! passed over: neither geometry nor truth of them is stated.

use super::diagnosis::{Channel, Judged, of_windows};
use super::scan::{Scan, scan};
use super::{Benchmark, Outcome};
use crate::bench::figure::Figure;
use crate::record::MfptRecord;
use anyhow::{Context, Result};
use std::path::Path;
use trunnion_diagnosis::bearing::{BearingOrders, Element, Neighbours};
use trunnion_diagnosis::features::{Analyzer, ShaftSpeed};

const NAME: &str = "mfpt";

/// Records of which the damaged element alone was named; the goal is all that have one.
const NAMED: Figure = Figure::at_least("mfpt_named", 1.0, "records");

/// Records of which something was claimed that is not so.
const WRONG: Figure = Figure::at_most("mfpt_wrong", 0.0, "claims");

/// Windows of 1 s of the damaged bearings that name the element by themselves: records of the shortest length.
const WINDOWS_NAMED: Figure = Figure::at_least("mfpt_windows_named", 0.5, "share");

/// Windows of any channel that by themselves name what is not damaged.
const WINDOWS_WRONG: Figure = Figure::at_most("mfpt_windows_wrong", 0.0, "windows");

/// The files state one nominal speed for all loads: what a machine of that kind may be off it, as a share.
const SPEED_TOLERANCE: f64 = 0.01;

/// The benchmark.
pub const MFPT: Benchmark = Benchmark {
    name: NAME,
    needs_data: true,
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
    let scan = scan(NAME, folder, ".mat", |file| {
        let path = file.strip_prefix(folder).unwrap_or(file);
        let truth = truth(path).context("its name does not state what is damaged on this rig")?;
        let record = MfptRecord::read(file)?;
        let heard = Channel {
            samples: &record.samples,
            rate_hz: record.rate_hz,
            shaft: ShaftSpeed::declared(record.shaft_hz, SPEED_TOLERANCE),
            bearing,
            neighbours: Neighbours::default(),
        };
        let diagnosis = heard.diagnose(&mut analyzer);
        Ok(Judged::new(NAME, &record.name, "bearing", &diagnosis, truth))
    })?;
    let Scan {
        found: judged,
        skipped,
    } = scan;
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
        skipped,
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
    use crate::eval::scan;
    use crate::record::matlab::tests as matlab;
    use crate::sim_machine::{MachineSpec, SimMachine};

    /// A simulated record of the rig, in the publisher's format. The speed is up to 0.8 % off what is stated, by load.
    fn record(rate_hz: f64, seconds: f64, load_lbs: f64, element: Option<Element>) -> Vec<u8> {
        let mut machine = MachineSpec {
            shaft_hz: 25.0 * (1.004 - 0.012 * load_lbs / 300.0),
            bearing: bearing().unwrap(),
            resonance_hz: 10_000.0,
            damping: 0.1,
            ..MachineSpec::motor(rate_hz, load_lbs as u64)
        };
        if let Some(element) = element {
            machine = machine.with_fault(element, 0.5 + load_lbs / 100.0, 0.0);
        }
        let mut samples = vec![0.0; (rate_hz * seconds) as usize];
        SimMachine::new(machine).fill(&mut samples);
        matlab::bearing(rate_hz, load_lbs, 25.0, &samples)
    }

    #[test]
    fn a_set_in_the_publisher_s_layout_is_judged_at_every_load_and_what_is_not_of_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: &[u8]| scan::write(folder.path(), path, bytes);
        let [outer, inner] = [Element::OuterRace, Element::InnerRace].map(Some);
        write(
            "1 - Three Baseline Conditions/baseline_1.mat",
            &record(97_656.0, 6.0, 270.0, None),
        );
        write(
            "2 - Three Outer Race Fault Conditions/OuterRaceFault_1.mat",
            &record(97_656.0, 6.0, 270.0, outer),
        );
        for (number, load) in [(1, 25.0), (4, 150.0), (7, 300.0)] {
            write(
                &format!("3 - Seven More Outer Race Fault Conditions/OuterRaceFault_vload_{number}.mat"),
                &record(48_828.0, 3.0, load, outer),
            );
            write(
                &format!("4 - Seven Inner Race Fault Conditions/InnerRaceFault_vload_{number}.mat"),
                &record(48_828.0, 3.0, load, inner),
            );
        }
        write("5 - Analyses/IntermediateSpeedBearing.mat", b"");
        write(
            "3 - Seven More Outer Race Fault Conditions/OuterRaceFault_cut.mat",
            b"",
        );
        let outcome = run(folder.path()).unwrap();
        let value = |name: &str| {
            outcome
                .figures
                .iter()
                .find(|figure| figure.name == name)
                .unwrap()
                .value
        };
        assert_eq!(value("mfpt_named"), Some(7.0), "{:#?}", outcome.claims);
        assert_eq!(value("mfpt_wrong"), Some(0.0), "{:#?}", outcome.claims);
        assert_eq!(outcome.claims.len(), 8);
        let skipped: Vec<_> = outcome.skipped.iter().map(|skipped| &*skipped.file).collect();
        assert_eq!(
            skipped,
            [
                "3 - Seven More Outer Race Fault Conditions/OuterRaceFault_cut.mat",
                "5 - Analyses/IntermediateSpeedBearing.mat"
            ]
        );
    }

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
