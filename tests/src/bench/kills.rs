//! The figures of a run of kills.

use super::figure::Figure;
use crate::kills::Report;

/// What a run is measured by, before there is one.
pub const FIGURES: [Figure; 3] = [
    Figure::at_least("kills", 100.0, ""),
    Figure::at_most("kills_lost", 0.0, "samples"),
    Figure::at_most("kills_double_counted", 0.0, "samples"),
];

/// The figures of a run: a sample is lost when the ledger says so or the journal lacks it.
pub fn figures(report: &Report) -> Vec<Figure> {
    let [kills, lost, doubled] = FIGURES;
    vec![
        kills.measured(f64::from(report.kills_collector + report.kills_agent)),
        lost.measured((report.verdict.samples_lost + report.verdict.journal.samples_missing) as f64),
        doubled.measured(report.verdict.samples_double_counted as f64),
    ]
}
