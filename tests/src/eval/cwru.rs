//! Case Western Reserve University's seeded bearing faults: name the element from one record.
//!
//! The sensor at the drive end is searched for faults of the drive-end bearing, the one at the fan end for faults
//! of the fan-end bearing; only one of the two is damaged in a record, and the other one's sensor hears it.
//! Speed is what the record states.

use super::diagnosis::{Channel, Judged, of_windows};
use super::scan::{Scan, scan};
use super::{Benchmark, Outcome, Skipped};
use crate::bench::figure::Figure;
use crate::record::{CwruRecord, Place};
use anyhow::{Context, Result, ensure};
use std::ops::RangeInclusive;
use std::path::Path;
use trunnion_diagnosis::bearing::Element;
use trunnion_diagnosis::features::{Analyzer, ShaftSpeed};

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
    needs_data: true,
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
    let mut analyzer = Analyzer::new();
    let scan = scan(NAME, folder, ".mat", |file| {
        let record = CwruRecord::read(file)?;
        let path = file.strip_prefix(folder).unwrap_or(file);
        let truth = truth(path, record.number).context("neither name nor number states what is damaged")?;
        let (shaft_hz, tolerance) = record.shaft();
        let mut judged = Vec::new();
        for (place, channel, designation) in PLACES {
            let Some(samples) = record.channel(place) else {
                continue;
            };
            let heard = Channel {
                samples,
                rate_hz: record.rate_hz,
                shaft: ShaftSpeed::declared(shaft_hz, tolerance),
                bearing: designation.parse().context("the rig's bearing")?,
                neighbours: PLACES
                    .iter()
                    .filter(|(other, ..)| *other != place)
                    .filter_map(|(.., designation)| designation.parse().ok())
                    .collect(),
            };
            let diagnosis = heard.diagnose(&mut analyzer);
            let own = truth.filter(|(at, _)| *at == place).map(|(_, element)| element);
            judged.push(Judged::new(NAME, &record.name, channel, &diagnosis, own));
        }
        ensure!(!judged.is_empty(), "no sensor beside one of the rig's bearings");
        Ok(judged)
    })?;
    let Scan { found, skipped } = scan;
    Ok(outcome(found.into_iter().flatten().collect(), skipped))
}

fn outcome(judged: Vec<Judged>, skipped: Vec<Skipped>) -> Outcome {
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
        skipped,
    }
}

/// Which bearing and element is damaged; none of a healthy machine.
type Damage = Option<(Place, Element)>;

/// Numbers of records by what is damaged, from the tables of the Bearing Data Center: what holds where a name says
/// nothing.
const NUMBERS: [(RangeInclusive<u32>, Damage); 15] = [
    (97..=100, None),
    (105..=112, Some((Place::DriveEnd, Element::InnerRace))),
    (118..=125, Some((Place::DriveEnd, Element::Ball))),
    (130..=164, Some((Place::DriveEnd, Element::OuterRace))),
    (169..=177, Some((Place::DriveEnd, Element::InnerRace))),
    (185..=192, Some((Place::DriveEnd, Element::Ball))),
    (197..=204, Some((Place::DriveEnd, Element::OuterRace))),
    (209..=217, Some((Place::DriveEnd, Element::InnerRace))),
    (222..=229, Some((Place::DriveEnd, Element::Ball))),
    (234..=265, Some((Place::DriveEnd, Element::OuterRace))),
    (270..=281, Some((Place::FanEnd, Element::InnerRace))),
    (282..=293, Some((Place::FanEnd, Element::Ball))),
    (294..=318, Some((Place::FanEnd, Element::OuterRace))),
    (3001..=3004, Some((Place::DriveEnd, Element::InnerRace))),
    (3005..=3008, Some((Place::DriveEnd, Element::Ball))),
];

/// Which bearing and element the path of a record states, within none for a healthy machine; none where neither it
/// nor the record's number says anything. Names are of parts such as `12k_Drive_End_OR007@6_0_130`: the element's
/// letters come before the diameter of the damage. The file's own name goes before its folders'.
fn truth(path: &Path, number: Option<u32>) -> Option<Damage> {
    let by_number = || {
        let number = named_number(path).or(number)?;
        NUMBERS
            .iter()
            .find(|(numbers, _)| numbers.contains(&number))
            .map(|(_, truth)| *truth)
    };
    let text = path.with_extension("").to_string_lossy().to_ascii_lowercase();
    let is_fan = ["fan_end", "fan end", "fan-end", "fanend"]
        .iter()
        .any(|words| text.contains(words));
    let parts: Vec<&str> = text.split(['_', ' ', '-', '/', '\\']).collect();
    let is_fan = is_fan || parts.contains(&"fe");
    let by_name = parts.iter().rev().find_map(|part| {
        if *part == "normal" {
            return Some(None);
        }
        let elements = [
            ("ir", Element::InnerRace),
            ("or", Element::OuterRace),
            ("b", Element::Ball),
        ];
        elements.into_iter().find_map(|(letters, element)| {
            let rest = part.strip_prefix(letters)?;
            rest.starts_with(|next: char| next.is_ascii_digit())
                .then_some(Some(element))
        })
    });
    let Some(by_name) = by_name else {
        return by_number();
    };
    // A name without a place may be of either end; the number knows.
    let place = match by_number() {
        _ if is_fan => Place::FanEnd,
        Some(Some((place, _))) => place,
        Some(None) | None => Place::DriveEnd,
    };
    Some(by_name.map(|element| (place, element)))
}

/// The number of a record that is named by it alone, or at the end.
fn named_number(path: &Path) -> Option<u32> {
    let name = path.file_stem()?.to_str()?;
    let number = name.rsplit('_').next()?.parse().ok()?;
    // What is lower is a load.
    (number >= 97).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_number_state_bearing_and_element() {
        let drive = |element| Some(Some((Place::DriveEnd, element)));
        let fan = |element| Some(Some((Place::FanEnd, element)));
        for (path, number, expected) in [
            ("normal_0_97.mat", None, Some(None)),
            ("Normal Baseline/Normal_2.mat", Some(99), Some(None)),
            ("98.mat", None, Some(None)),
            ("12k_Drive_End_IR007_0_105.mat", None, drive(Element::InnerRace)),
            ("48k_Drive_End_B021_2_228.mat", None, drive(Element::Ball)),
            ("12k_Fan_End_OR007@3_1_299.mat", None, fan(Element::OuterRace)),
            (
                "48k Drive End/OR014@6_3.mat",
                Some(204),
                drive(Element::OuterRace),
            ),
            ("12k Fan End/B007_0.mat", None, fan(Element::Ball)),
            ("B007_0.mat", Some(282), fan(Element::Ball)),
            ("ir021_0.mat", Some(209), drive(Element::InnerRace)),
            ("130.mat", Some(130), drive(Element::OuterRace)),
            ("278.mat", Some(278), fan(Element::InnerRace)),
            ("B028_0_3005.mat", Some(48), drive(Element::Ball)),
            ("readings.mat", None, None),
            ("readings.mat", Some(7), None),
        ] {
            assert_eq!(truth(Path::new(path), number), expected, "{path}");
        }
    }
}
