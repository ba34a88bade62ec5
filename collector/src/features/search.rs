//! Which element of a bearing, if any, an envelope spectrum speaks of.
//!
//! Terms. A *line's prominence* is its height over the local median, so that 1.2 is noise. A *family*
//! is a fundamental and its harmonics, all scaled by one common slip, since balls that slide do so for
//! every harmonic alike. Its *score* is the mean prominence of its lines. A family is *convincing* when
//! its fundamental stands out and a second or third harmonic with it: the multiples of one element
//! often fall on those of another (twice the inner race of a 6205 lies 0.7 % from three times the
//! outer), but then every other line is missing.
//!
//! A *stranger* is a convincing family that belongs to no element of this bearing: the neighbouring
//! bearing, a gear, a belt. Where one is as strong as the best element, that element's lines are
//! likely its sidebands, and nothing is claimed.
//!
//! The constants were chosen once, between what noise reaches and what seeded faults show: of 6000
//! families searched in Gaussian noise none that is convincing scored above 2.6, while in windows of
//! 1 s seeded race faults scored 4.7 and more.

use super::{EvidenceLine, Finding};
use crate::bearing::{BearingOrders, Element};

/// Turns of the shaft below which a window is too short to tell orders apart.
pub(super) const MINIMUM_REVOLUTIONS: f64 = 15.0;

/// Turns of the cage below which the cage is not claimed.
const MINIMUM_CAGE_TURNS: f64 = 10.0;

/// Balls roll with a slip of 1 to 2 % (Randall and Antoni 2011); the speed's own error comes on top,
/// and a wider search would reach the neighbour's lines.
const SLIP: f64 = 0.015;

/// Harmonics of a family: more smear out with the balls' random slip.
const HARMONICS: usize = 4;

/// Lines a score is divided by at least, so that a family of which most is hidden under the shaft's
/// harmonics cannot win by one line.
const FEWEST_LINES: usize = 3;

/// A single line counts no higher than this: one line is no family, however high.
const HIGHEST_PROMINENCE: f32 = 10.0;

/// From here a line stands out: Gaussian noise reaches it once in 500 lines.
const SIGNIFICANT: f32 = 3.0;

/// Score from which an element is claimed.
const CLAIM: f64 = 3.3;

/// The same where the sidebands that the element's modulation must leave are there too.
const CLAIM_WITH_SIDEBANDS: f64 = 2.8;

/// Prominence from which both sidebands of a carrier count as there.
const SIDEBAND: f32 = 2.5;

/// The best element over the next: nearer, and a fault shows but the element does not.
const MARGIN: f64 = 1.3;

/// The best element over the best stranger: nearer, and the lines are likely the stranger's.
const STRANGER_MARGIN: f64 = 1.1;

/// An element this near to a whole multiple of the shaft's speed cannot be told from the shaft.
const SHAFT_DISTANCE: f64 = 0.005;

/// Error of a declared speed that must not matter.
const SPEED_ERROR: f64 = 0.003;

/// The heights of an envelope spectrum over its local floor, by order.
pub(super) struct EnvelopeSpectrum {
    /// The highest prominence on a line and its two neighbours; NaN where a harmonic of the shaft is.
    peaks: Vec<f32>,
    /// Distance of the lines, Hz: half the resolution.
    spacing_hz: f64,
    shaft_hz: f64,
}

impl EnvelopeSpectrum {
    /// From magnitudes `spacing_hz` apart, of which those up to `usable_hz` are used.
    pub(super) fn new(magnitudes: &[f32], spacing_hz: f64, shaft_hz: f64, usable_hz: f64) -> Self {
        let usable = magnitudes.len().min((usable_hz / spacing_hz) as usize + 1);
        let magnitudes = &magnitudes[..usable];
        let floor = local_floor(magnitudes, (0.8 * shaft_hz / spacing_hz) as usize);
        let prominence: Vec<f32> = magnitudes
            .iter()
            .zip(&floor)
            .enumerate()
            .map(|(index, (magnitude, floor))| {
                if is_shaft_harmonic(index as f64 * spacing_hz, spacing_hz, shaft_hz) {
                    f32::NAN
                } else {
                    magnitude / floor.max(f32::MIN_POSITIVE)
                }
            })
            .collect();
        let peaks = (0..prominence.len())
            .map(|index| {
                let near = &prominence[index.saturating_sub(1)..(index + 2).min(prominence.len())];
                // `max` passes over a neighbour that is NaN; a line that is one itself stays one.
                if prominence[index].is_nan() {
                    f32::NAN
                } else {
                    near.iter().copied().fold(0.0, f32::max)
                }
            })
            .collect();
        Self {
            peaks,
            spacing_hz,
            shaft_hz,
        }
    }

    /// The prominence at an order; none at a harmonic of the shaft or beyond the usable lines.
    fn at(&self, order: f64) -> Option<f32> {
        let index = (order * self.shaft_hz / self.spacing_hz).round();
        if index < 0.0 {
            return None;
        }
        self.peaks
            .get(index as usize)
            .copied()
            .filter(|peak| !peak.is_nan())
    }

    /// Step of order at which no line of a family moves by more than half the resolution.
    fn step(&self) -> f64 {
        self.spacing_hz / (HARMONICS as f64 * self.shaft_hz)
    }

    /// The lines of a fundamental, by harmonic.
    fn lines(&self, order: f64) -> [Option<f32>; HARMONICS] {
        std::array::from_fn(|index| self.at((index + 1) as f64 * order))
    }

    fn family(&self, order: f64) -> Family {
        let lines = self.lines(order);
        let usable = lines.iter().flatten().count();
        let sum: f32 = lines
            .iter()
            .flatten()
            .map(|line| line.min(HIGHEST_PROMINENCE))
            .sum();
        let stands_out = lines.map(|line| line.is_some_and(|line| line >= SIGNIFICANT));
        let convincing = match lines[0] {
            Some(_) => stands_out[0] && (stands_out[1] || stands_out[2]),
            None => stands_out[1] && stands_out[2],
        };
        Family {
            order,
            score: f64::from(sum) / usable.max(FEWEST_LINES) as f64,
            convincing,
            standing: stands_out.into_iter().filter(|stands_out| *stands_out).count(),
        }
    }

    /// The best family from one order to another: the highest score among the convincing, else among all.
    fn best(&self, from: f64, to: f64, mut passes: impl FnMut(f64) -> bool) -> Option<Family> {
        let step = self.step();
        let steps = ((to - from) / step) as usize;
        (0..=steps)
            .map(|index| from + index as f64 * step)
            .filter(|order| passes(*order))
            .map(|order| self.family(order))
            .max_by(|a, b| {
                (a.convincing, a.score)
                    .partial_cmp(&(b.convincing, b.score))
                    .expect("scores are finite")
            })
    }

    /// Whether a strong harmonic has both sidebands at that distance.
    fn has_sidebands(&self, order: f64, distance: f64) -> bool {
        let stands = |order: f64, least: f32| self.at(order).is_some_and(|line| line >= least);
        [order, 2.0 * order].into_iter().any(|carrier| {
            stands(carrier, SIGNIFICANT)
                && stands(carrier - distance, SIDEBAND)
                && stands(carrier + distance, SIDEBAND)
        })
    }

    fn evidence(&self, family: &Family, sidebands: Option<f64>) -> Vec<EvidenceLine> {
        let mut lines = Vec::new();
        for harmonic in 1..=HARMONICS {
            let carrier = harmonic as f64 * family.order;
            let offsets = [Some(0.0), sidebands.map(|distance| -distance), sidebands];
            for (offset, least) in offsets.into_iter().zip([SIGNIFICANT, SIDEBAND, SIDEBAND]) {
                let Some(offset) = offset else { continue };
                let order = carrier + offset;
                if let Some(prominence) = self.at(order).filter(|line| *line >= least) {
                    lines.push(EvidenceLine {
                        order,
                        frequency_hz: order * self.shaft_hz,
                        harmonic: harmonic as u8,
                        prominence: f64::from(prominence),
                    });
                }
            }
        }
        lines
    }
}

/// A fundamental with its harmonics.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Family {
    order: f64,
    score: f64,
    convincing: bool,
    /// Lines that stand out.
    standing: usize,
}

/// An element's best family.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    element: Element,
    family: Family,
    /// Distance of the sidebands its modulation leaves, in orders.
    sidebands: Option<f64>,
    supported: bool,
}

impl Candidate {
    fn claims(&self) -> bool {
        let least = if self.supported {
            CLAIM_WITH_SIDEBANDS
        } else {
            CLAIM
        };
        self.family.convincing && self.family.score >= least
    }
}

/// The result of a search.
pub(super) struct Search {
    candidates: Vec<Candidate>,
    claim: Option<Claim>,
}

struct Claim {
    element: Option<Element>,
    family: Family,
    runner_up: f64,
    lines: Vec<EvidenceLine>,
}

impl Search {
    pub(super) fn new(spectrum: &EnvelopeSpectrum, bearing: &BearingOrders) -> Self {
        let candidates: Vec<Candidate> = Element::ALL
            .into_iter()
            .filter(|element| !is_near_shaft_harmonic(bearing.of(*element)))
            .filter_map(|element| {
                let order = bearing.of(element);
                let family = spectrum.best(order * (1.0 - SLIP), order * (1.0 + SLIP), |_| true)?;
                // The inner race passes the load zone once a turn, a ball with the cage (McFadden and
                // Smith 1984); the outer race stands in it.
                let sidebands = match element {
                    Element::InnerRace => Some(1.0),
                    Element::Ball => Some(bearing.cage),
                    Element::OuterRace | Element::Cage => None,
                };
                let supported =
                    sidebands.is_some_and(|distance| spectrum.has_sidebands(family.order, distance));
                Some(Candidate {
                    element,
                    family,
                    sidebands,
                    supported,
                })
            })
            .collect();
        let claim = Self::claim(spectrum, bearing, &candidates);
        Self { candidates, claim }
    }

    /// The element's score; none where it cannot be told from the shaft.
    pub(super) fn score(&self, element: Element) -> Option<f64> {
        self.candidates
            .iter()
            .find(|candidate| candidate.element == element)
            .map(|candidate| candidate.family.score)
    }

    pub(super) fn finding(self, band_hz: (f64, f64)) -> Option<Finding> {
        self.claim.map(|claim| Finding {
            element: claim.element,
            order: if claim.element.is_some() {
                claim.family.order
            } else {
                0.0
            },
            score: claim.family.score,
            runner_up: claim.runner_up,
            lines: claim.lines,
            band_hz,
        })
    }

    fn claim(
        spectrum: &EnvelopeSpectrum,
        bearing: &BearingOrders,
        candidates: &[Candidate],
    ) -> Option<Claim> {
        let mut ranked: Vec<&Candidate> = candidates
            .iter()
            .filter(|candidate| candidate.element != Element::Cage && candidate.family.convincing)
            .collect();
        ranked.sort_by(|a, b| b.family.score.total_cmp(&a.family.score));
        let runner_up = ranked.get(1).map_or(0.0, |candidate| candidate.family.score);
        let claim = |element, candidate: &Candidate, runner_up| Claim {
            element,
            family: candidate.family,
            runner_up,
            lines: spectrum.evidence(&candidate.family, candidate.sidebands),
        };
        let Some(best) = ranked.first().filter(|candidate| candidate.claims()) else {
            // A damaged ball modulates with the cage's frequency and shows its lines too, so the cage
            // is claimed only when nothing else can be, and on three lines of its four.
            let cage = candidates
                .iter()
                .find(|candidate| candidate.element == Element::Cage)?;
            let turns = spectrum.shaft_hz * bearing.cage * 0.5 / spectrum.spacing_hz;
            let clear = ranked.is_empty() && cage.claims() && cage.family.standing >= 3;
            return (clear && turns >= MINIMUM_CAGE_TURNS).then(|| claim(Some(Element::Cage), cage, 0.0));
        };
        let score = best.family.score;
        if stranger(spectrum, bearing, &best.family).is_some_and(|other| score < STRANGER_MARGIN * other) {
            return None;
        }
        let element = (score >= MARGIN * runner_up).then_some(best.element);
        Some(claim(element, best, runner_up))
    }
}

/// Score of the strongest convincing family that is neither an element nor a multiple of `best`.
fn stranger(spectrum: &EnvelopeSpectrum, bearing: &BearingOrders, best: &Family) -> Option<f64> {
    let orders = Element::ALL.map(|element| bearing.of(element));
    let highest = orders.into_iter().fold(0.0, f64::max);
    // Two resolutions: the width of a line under the Hann window.
    let width = 4.0 * spectrum.spacing_hz / spectrum.shaft_hz;
    let is_own = |order: f64| {
        let multiple = (order / best.order).round().max(1.0);
        (order - multiple * best.order).abs() < width
            || orders
                .into_iter()
                .any(|own| (order - own).abs() < own * SLIP + width)
    };
    // Below the shaft's own speed lie the cage and belts; a family up there has its place in the search.
    spectrum
        .best(1.2, 1.5 * highest, |order| !is_own(order))
        .filter(|family| family.convincing)
        .map(|family| family.score)
}

fn is_near_shaft_harmonic(order: f64) -> bool {
    order.round() >= 1.0 && (order - order.round()).abs() < SHAFT_DISTANCE * order
}

/// Within a line's width (two resolutions under the Hann window) and the speed's error of a multiple of
/// the shaft's speed.
fn is_shaft_harmonic(frequency_hz: f64, spacing_hz: f64, shaft_hz: f64) -> bool {
    let distance = (frequency_hz - (frequency_hz / shaft_hz).round() * shaft_hz).abs();
    distance < 4.0 * spacing_hz + SPEED_ERROR * frequency_hz
}

/// The median of the lines within `reach` on either side, at every eighth line and held in between: a
/// median because the lines looked for must not raise their own floor.
fn local_floor(magnitudes: &[f32], reach: usize) -> Vec<f32> {
    const HOLD: usize = 8;
    let mut scratch = Vec::with_capacity(2 * reach + 1);
    let mut floor = Vec::with_capacity(magnitudes.len());
    for start in (0..magnitudes.len()).step_by(HOLD) {
        let centre = start + HOLD / 2;
        let near =
            &magnitudes[centre.saturating_sub(reach).min(start)..(centre + reach + 1).min(magnitudes.len())];
        scratch.clear();
        scratch.extend_from_slice(near);
        let middle = scratch.len() / 2;
        let (_, median, _) = scratch.select_nth_unstable_by(middle, f32::total_cmp);
        floor.extend(std::iter::repeat_n(*median, HOLD.min(magnitudes.len() - start)));
    }
    floor
}
