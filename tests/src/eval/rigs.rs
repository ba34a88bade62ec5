//! Simulated rigs of random geometry, speed, rate and interference: name the element, or stay silent.
//!
//! The rigs are those of the seeds from 0 up ([`Rig`]), eight seconds of each. They stand for the plants that no
//! record is at hand of: what is tuned on the recorded ones shows here whether it holds elsewhere. Many of their
//! faults are too weak to be heard at all; that the share of the named is below 1 says nothing by itself.

use super::diagnosis::{Channel, Judged, of_bands, of_windows};
use super::{Benchmark, Outcome};
use crate::bench::figure::Figure;
use crate::sim_rig::Rig;
use anyhow::Result;
use std::path::Path;
use trunnion_diagnosis::bearing::Element;
use trunnion_diagnosis::features::{Analyzer, ShaftSpeed};

const NAME: &str = "rigs";

/// Rigs that are judged.
const RIGS_MAX: u64 = 400;

/// How much is heard of each.
const SECONDS: f64 = 8.0;

/// Rigs of which the damaged element alone was named.
const NAMED: Figure = Figure::at_least("rigs_named", 180.0, "rigs");

/// Rigs of which an element was named that is not damaged.
const WRONG: Figure = Figure::at_most("rigs_wrong", 0.0, "rigs");

/// The same without the rigs beside which a bearing is damaged that nobody declared: its order may be that of an element
/// of the rig's own, and nothing tells them apart then.
const WRONG_DECLARED: Figure = Figure::at_most("rigs_wrong_declared", 0.0, "rigs");

/// Healthy bearings of which a fault was told, with an element or without.
const FALSE: Figure = Figure::told("rigs_false", "rigs");

/// Windows of 1 s of the damaged rigs that name the element by themselves.
const WINDOWS_NAMED: Figure = Figure::told_higher("rigs_windows_named", "share");

/// Of these, those that the most impulsive band confirms.
const NAMED_CONFIRMED: Figure = Figure::told_higher("rigs_windows_named_confirmed", "share");

/// The same of the windows that name another element.
const WRONG_CONFIRMED: Figure = Figure::told("rigs_windows_wrong_confirmed", "share");

/// The benchmark.
pub const RIGS: Benchmark = Benchmark {
    name: NAME,
    needs_data: false,
    figures: &[
        NAMED,
        WRONG,
        WRONG_DECLARED,
        FALSE,
        WINDOWS_NAMED,
        NAMED_CONFIRMED,
        WRONG_CONFIRMED,
    ],
    published: &[],
    run,
};

fn run(_: &Path) -> Result<Outcome> {
    Ok(judge(0..RIGS_MAX))
}

fn judge(seeds: std::ops::Range<u64>) -> Outcome {
    let mut analyzer = Analyzer::new();
    let mut judged = Vec::new();
    let (mut wrong, mut wrong_declared, mut healthy) = (0u32, 0u32, 0u32);
    for seed in seeds {
        let rig = Rig::draw(seed);
        let heard = Channel {
            samples: &rig.samples(SECONDS),
            rate_hz: rig.machine.rate_hz,
            shaft: ShaftSpeed::declared(rig.declared_hz, rig.tolerance),
            bearing: rig.machine.bearing,
            neighbours: rig.declared_neighbour.into_iter().collect(),
        };
        let diagnosis = heard.diagnose(&mut analyzer);
        let record = format!("rig {seed}");
        let each = Judged::new(NAME, &record, "bearing", &diagnosis, rig.truth());
        let is_named = |element: &Option<Element>| element.is_some() && *element != rig.truth();
        let is_wrong = diagnosis.confirmed.iter().any(is_named);
        let is_declared = rig.neighbour.is_none() || rig.declared_neighbour.is_some();
        wrong += u32::from(is_wrong);
        wrong_declared += u32::from(is_wrong && is_declared);
        healthy += u32::from(rig.truth().is_none() && !diagnosis.confirmed.is_empty());
        judged.push(each);
    }
    let count = |is: fn(&Judged) -> bool| judged.iter().filter(|judged| is(judged)).count();
    let (windows_named, _) = of_windows(&judged);
    let confirmed = [NAMED_CONFIRMED, WRONG_CONFIRMED]
        .into_iter()
        .zip(of_bands(&judged));
    let confirmed = confirmed.map(|(figure, share)| match share {
        Some(share) => figure.measured(share),
        None => figure.missing("no such windows"),
    });
    let figures = [
        NAMED.measured(count(|judged| judged.named) as f64),
        WRONG.measured(wrong.into()),
        WRONG_DECLARED.measured(wrong_declared.into()),
        FALSE.measured(healthy.into()),
        WINDOWS_NAMED.measured(windows_named),
    ];
    Outcome {
        figures: figures.into_iter().chain(confirmed).collect(),
        false_alarms: Some(healthy.into()),
        claims: judged.into_iter().map(|judged| judged.claim).collect(),
        ..Outcome::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rigs_are_named_and_hardly_any_is_wronged() {
        let outcome = judge(0..16);
        let value = |index: usize| outcome.figures[index].value.unwrap();
        assert_eq!(outcome.claims.len(), 16);
        // Ten of them are damaged.
        assert!(value(0) >= 5.0, "{}", value(0));
        assert_eq!(value(1), 0.0, "{:#?}", outcome.claims);
    }
}
