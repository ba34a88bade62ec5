//! Case Western Reserve University's seeded bearing faults: name the element from one record.
//!
//! The sensor at the drive end is searched for faults of the drive-end bearing, the one at the fan end for faults
//! of the fan-end bearing; only one of the two is damaged in a record, and the other one's sensor hears it.
//! Speed is what the record states.

use super::diagnosis::{Channel, Judged, of_windows};
use super::{Benchmark, Outcome};
use crate::bench::figure::Figure;
use crate::record::{CwruRecord, Place, files_below};
use anyhow::{Context, Result, bail};
use std::path::Path;
use trunnion_collector::bearing::Element;
use trunnion_collector::features::Analyzer;

const NAME: &str = "cwru";

/// Records of which the damaged element alone was named.
const NAMED: Figure = Figure::at_least("cwru_named", 6.0, "records");

/// Channels of which something was claimed that is not so.
const WRONG: Figure = Figure::at_most("cwru_wrong", 0.0, "claims");

/// Windows of 1 s of the damaged bearings that name the element by themselves: records of the shortest length.
const WINDOWS_NAMED: Figure = Figure::at_least("cwru_windows_named", 0.85, "share");

/// Windows of any channel that by themselves name what is not damaged.
const WINDOWS_WRONG: Figure = Figure::at_most("cwru_windows_wrong", 0.0, "windows");

/// The benchmark.
pub const CWRU: Benchmark = Benchmark {
    name: NAME,
    figures: &[NAMED, WRONG, WINDOWS_NAMED, WINDOWS_WRONG],
    published: &[],
    run,
};

/// The sensors, and the bearing beside each.
const PLACES: [(Place, &str, &str); 2] = [
    (Place::DriveEnd, "drive_end", "6205"),
    (Place::FanEnd, "fan_end", "6203"),
];

fn run(folder: &Path) -> Result<Outcome> {
    let files = files_below(folder, ".mat");
    if files.is_empty() {
        bail!("no records at {}", folder.display());
    }
    let mut analyzer = Analyzer::new();
    let mut judged = Vec::new();
    for file in &files {
        let record = CwruRecord::read(file)?;
        let truth = truth(&record.name);
        for (place, channel, designation) in PLACES {
            let Some(samples) = record.channel(place) else {
                continue;
            };
            let heard = Channel {
                samples,
                rate_hz: record.rate_hz,
                shaft_hz: record.shaft_hz(),
                bearing: designation.parse().context("the rig's bearing")?,
            };
            let diagnosis = heard.diagnose(&mut analyzer);
            let own = truth.filter(|(at, _)| *at == place).map(|(_, element)| element);
            judged.push(Judged::new(NAME, &record.name, channel, &diagnosis, own));
        }
    }
    Ok(outcome(judged))
}

fn outcome(judged: Vec<Judged>) -> Outcome {
    let count = |is: fn(&Judged) -> bool| judged.iter().filter(|judged| is(judged)).count();
    let wrong = count(|judged| judged.wrong);
    let (windows_named, windows_wrong) = of_windows(&judged);
    Outcome {
        figures: vec![
            NAMED.measured(count(|judged| judged.named) as f64),
            WRONG.measured(wrong as f64),
            WINDOWS_NAMED.measured(windows_named),
            WINDOWS_WRONG.measured(windows_wrong as f64),
        ],
        false_alarms: Some(wrong as u64),
        claims: judged.into_iter().map(|judged| judged.claim).collect(),
    }
}

/// Which bearing and element a record's name states; none for a healthy machine. A name is of parts such as
/// `12k_Drive_End_OR007@6_0_130`: the element's letters come before the diameter of the damage.
fn truth(name: &str) -> Option<(Place, Element)> {
    let place = if name.contains("Fan_End") || name.contains("_FE") {
        Place::FanEnd
    } else {
        Place::DriveEnd
    };
    let elements = [
        ("IR", Element::InnerRace),
        ("OR", Element::OuterRace),
        ("B", Element::Ball),
    ];
    let element = name.split('_').find_map(|part| {
        elements.into_iter().find_map(|(letters, element)| {
            let rest = part.strip_prefix(letters)?;
            rest.starts_with(|next: char| next.is_ascii_digit())
                .then_some(element)
        })
    })?;
    Some((place, element))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_record_states_bearing_and_element() {
        for (name, expected) in [
            ("normal_0_97", None),
            (
                "12k_Drive_End_IR007_0_105",
                Some((Place::DriveEnd, Element::InnerRace)),
            ),
            ("48k_Drive_End_B021_2_228", Some((Place::DriveEnd, Element::Ball))),
            (
                "12k_Fan_End_OR007@3_1_299",
                Some((Place::FanEnd, Element::OuterRace)),
            ),
        ] {
            assert_eq!(truth(name), expected, "{name}");
        }
    }
}
