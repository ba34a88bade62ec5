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
//! bearing, a gear, a belt. Where one is stronger than the best element, that element's lines are
//! likely its sidebands, and nothing is claimed.
//!
//! A line within the slip of two orders belongs to either: of two elements, or of this bearing and of another one that
//! the machine is known to have. Then a fault is told without its element.
//!
//! A selected band names nothing ([`super::kurtogram`]); it confirms what is claimed, or does not.
//!
//! Which families are strangers was settled on simulated rigs of other geometries, speeds and rates, and by
//! searching the recorded faults for bearings that are not there.
//!
//! The constants were chosen once, between what noise reaches and what seeded faults show: of 6000
//! families searched in Gaussian noise none that is convincing scored above 2.6, while in windows of
//! 1 s seeded race faults scored 4.2 and more.

use super::drift::Claimed;
use super::median::MovingMedian;
use super::{EvidenceLine, Finding};
use crate::bearing::{BearingOrders, Element, Neighbours};

/// Turns of the shaft below which a window is too short to tell orders apart.
pub(super) const MINIMUM_REVOLUTIONS: f64 = 15.0;

/// Turns of the cage below which the cage is not claimed. It also has to show three of its lines: they lie
/// in the lowest part of the spectrum, where much else does.
const MINIMUM_CAGE_TURNS: f64 = 10.0;

/// The lowest of a cage's lines over the highest, from which it is named, where none of them is missing.
///
/// The strikes of a damaged ball, of this bearing or another, swell with the load once a turn of its cage, and that is
/// all that is left of the ball where the speed changes. But a load swells smoothly: of cos^(3/2) over half a turn,
/// squared, the fourth line has a tenth of the first, while a cage that strikes has all of them alike.
const ALIKE_LINES: f32 = 0.4;

/// Balls roll with a slip of 1 to 2 % (Randall and Antoni 2011); the speed's own error comes on top,
/// and a wider search would reach the neighbour's lines.
pub(super) const SLIP: f64 = 0.015;

/// Harmonics of a family: more smear out with the balls' random slip.
pub(super) const HARMONICS: usize = 4;

/// Lines a score is divided by at least, so that a family of which most is hidden under the shaft's
/// harmonics cannot win by one line.
const FEWEST_LINES: usize = 3;

/// Prominence from which a line counts by its logarithm: one line is no family, however high, and yet of
/// two strong families the stronger must score higher.
const STRONG: f32 = 10.0;

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

/// How far up strangers are looked for, in multiples of the bearing's highest order.
const STRANGERS: f64 = 1.5;

/// An element this near to a whole multiple of the shaft's speed cannot be told from the shaft.
const SHAFT_DISTANCE: f64 = 0.005;

/// Error of a declared speed that must not matter.
const SPEED_ERROR: f64 = 0.003;

/// Of two bearings that a family may belong to, it is that of which the order is so much nearer, as a share; else
/// nobody knows.
const NEARER: f64 = 0.0075;

/// What the orders of a neighbour are off from those of this bearing at most, as a share, where the two are alike:
/// then it is that element, in whichever of them.
const ALIKE: f64 = 0.001;

/// What is sought.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Sought {
    pub(super) bearing: BearingOrders,
    /// What else may be heard.
    pub(super) neighbours: Neighbours,
    /// How far the speed may be off, as a share, beyond what it may be anyway ([`SLIP`]).
    pub(super) tolerance: f64,
}

impl Sought {
    /// A bearing alone, at a speed that is known well.
    #[cfg(test)]
    pub(super) fn exactly(bearing: BearingOrders) -> Self {
        Self {
            bearing,
            neighbours: Neighbours::default(),
            tolerance: 0.0,
        }
    }

    /// How far from its order an element may stand, as a share.
    fn slip(&self) -> f64 {
        SLIP + self.tolerance
    }

    /// Whether an element cannot be told from the shaft: its order is nearly a whole multiple of the shaft's speed.
    fn is_near_shaft_harmonic(&self, element: Element) -> bool {
        let order = self.bearing.of(element);
        let apart = (order - order.round()).abs();
        order.round() >= 1.0 && apart < (SHAFT_DISTANCE + self.tolerance) * order
    }

    /// Whose a family is that this element of the bearing explains, of which the order is known to a share of `error`.
    fn owner(&self, element: Element, order: f64, error: f64) -> Owner {
        let reach = self.slip() + error;
        // An error of the speed moves both alike.
        let nearer = NEARER + 2.0 * (self.tolerance + error);
        let own = (order / self.bearing.of(element) - 1.0).abs();
        let off = |of: f64| Some((order / of - 1.0).abs()).filter(|off| *off <= reach);
        let is_alike = |other: &&BearingOrders| {
            let mut elements = Element::ALL.into_iter();
            elements.all(|element| (other.of(element) / self.bearing.of(element) - 1.0).abs() <= ALIKE)
        };
        // What meets both races alike shows at twice its order, too.
        let beside = self
            .neighbours
            .iter()
            .filter(|other| !is_alike(other))
            .flat_map(|other| Element::ALL.map(|element| other.of(element)))
            .flat_map(|of| [off(of), off(2.0 * of)])
            .flatten()
            .fold(f64::INFINITY, f64::min);
        let others = Element::ALL.into_iter().filter(|other| *other != element);
        let within = others
            .filter_map(|other| off(self.bearing.of(other)))
            .fold(f64::INFINITY, f64::min);
        if own >= beside + nearer {
            Owner::Neighbour
        } else if beside.min(within) < own + nearer {
            Owner::Either
        } else {
            Owner::Own
        }
    }
}

/// Whose a family is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Own,
    /// Another element's of this bearing, or a neighbour's, as well.
    Either,
    Neighbour,
}

/// The heights of an envelope spectrum over its local floor.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Prominences {
    /// One after the other from 0 Hz.
    pub(super) lines: Vec<f32>,
    /// Distance of the lines, Hz: half the resolution.
    pub(super) spacing_hz: f64,
    pub(super) shaft_hz: f64,
}

impl Prominences {
    /// From magnitudes `spacing_hz` apart, of which those up to `usable_hz` are used.
    pub(super) fn new(magnitudes: &[f32], spacing_hz: f64, shaft_hz: f64, usable_hz: f64) -> Self {
        let usable = magnitudes.len().min((usable_hz / spacing_hz) as usize + 1);
        let magnitudes = &magnitudes[..usable];
        let floor = local_floor(magnitudes, (0.8 * shaft_hz / spacing_hz) as usize);
        let lines = magnitudes.iter().zip(&floor);
        Self {
            lines: lines
                .map(|(magnitude, floor)| magnitude / floor.max(f32::MIN_POSITIVE))
                .collect(),
            spacing_hz,
            shaft_hz,
        }
    }
}

/// Prominences, by order, as a search looks at them.
pub(super) struct EnvelopeSpectrum {
    /// The highest prominence on a line and its two neighbours; NaN where a harmonic of the shaft is.
    peaks: Vec<f32>,
    spacing_hz: f64,
    shaft_hz: f64,
    /// Lines to an order.
    per_order: f64,
}

impl EnvelopeSpectrum {
    /// The highest frequency that a search for a bearing looks at, Hz.
    pub(super) fn reach_hz(bearing: &BearingOrders, shaft_hz: f64) -> f64 {
        HARMONICS as f64 * STRANGERS * highest_order(bearing) * shaft_hz
    }

    /// How far up the lines of the bearing's own families lie, Hz.
    pub(super) fn family_hz(bearing: &BearingOrders, shaft_hz: f64) -> f64 {
        HARMONICS as f64 * highest_order(bearing) * shaft_hz
    }

    /// Of one window, or of several together.
    pub(super) fn new(prominences: &Prominences) -> Self {
        let &Prominences {
            ref lines,
            spacing_hz,
            shaft_hz,
        } = prominences;
        // One more on either side, for the neighbours of the first and the last.
        let mut near = Vec::with_capacity(lines.len() + 2);
        near.push(f32::NAN);
        near.extend_from_slice(lines);
        near.push(f32::NAN);
        hide_shaft(&mut near[1..=lines.len()], spacing_hz, shaft_hz);
        let neighbours = near.iter().zip(near.iter().skip(1)).zip(near.iter().skip(2));
        let peaks = neighbours.map(|((below, line), above)| {
            // `max` passes over a neighbour that is NaN; a line that is one itself stays one.
            if line.is_nan() {
                f32::NAN
            } else {
                0f32.max(*below).max(*line).max(*above)
            }
        });
        Self {
            peaks: peaks.collect(),
            spacing_hz,
            shaft_hz,
            per_order: shaft_hz / spacing_hz,
        }
    }

    /// The prominence at an order; none at a harmonic of the shaft or beyond the usable lines.
    fn at(&self, order: f64) -> Option<f32> {
        // What is cut off to a whole number is rounded then: on every processor without a call.
        let index = order * self.per_order + 0.5;
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

    /// The score of the family of exactly that order.
    pub(super) fn score(&self, order: f64) -> f64 {
        self.family(order).score
    }

    fn family(&self, order: f64) -> Family {
        let lines = self.lines(order);
        let usable = lines.iter().flatten().count();
        let weight = |line: &f32| {
            if *line <= STRONG {
                *line
            } else {
                STRONG * (1.0 + (line / STRONG).ln())
            }
        };
        let sum: f32 = lines.iter().flatten().map(weight).sum();
        Family {
            order,
            score: f64::from(sum) / usable.max(FEWEST_LINES) as f64,
            convincing: self.is_convincing(order),
            standing: lines
                .iter()
                .flatten()
                .filter(|line| **line >= SIGNIFICANT)
                .count(),
        }
    }

    /// Whether the fundamental of an order stands out, and a second or third harmonic with it: both where the
    /// fundamental is hidden.
    fn is_convincing(&self, order: f64) -> bool {
        let stands_out = |harmonic: f64| self.at(harmonic * order).map(|line| line >= SIGNIFICANT);
        let is_there = |harmonic: f64| stands_out(harmonic) == Some(true);
        match stands_out(1.0) {
            Some(first) => first && (is_there(2.0) || is_there(3.0)),
            None => is_there(2.0) && is_there(3.0),
        }
    }

    /// The orders from one to another at which families are looked for. Beyond the usable lines there is nothing to
    /// find, whatever order was declared.
    fn orders(&self, from: f64, to: f64) -> impl Iterator<Item = f64> + use<> {
        let step = self.step();
        let highest = self.peaks.len() as f64 * self.spacing_hz / self.shaft_hz;
        let steps = ((to.min(highest) - from) / step) as usize;
        (0..=steps).map(move |index| from + index as f64 * step)
    }

    /// The best family from one order to another: the highest score among the convincing, else among all.
    fn best(&self, from: f64, to: f64) -> Option<Family> {
        self.orders(from, to)
            .map(|order| self.family(order))
            .max_by(|a, b| a.convincing.cmp(&b.convincing).then(a.score.total_cmp(&b.score)))
    }

    /// The highest score of a convincing family from one order to another that passes; 0 if there is none.
    fn best_convincing(&self, from: f64, to: f64, passes: impl Fn(f64) -> bool) -> f64 {
        // Hardly any is convincing, which is told soonest.
        self.orders(from, to)
            .filter(|order| self.is_convincing(*order) && passes(*order))
            .map(|order| self.family(order).score)
            .fold(0.0, f64::max)
    }

    /// Whether the lines of a fundamental are those of strikes: none that could be seen is missing, or much lower.
    fn shows_strikes(&self, order: f64) -> bool {
        let lines = self.lines(order);
        let seen = || lines.iter().flatten().copied();
        let highest = seen().fold(0.0, f32::max);
        let lowest = seen().fold(f32::INFINITY, f32::min);
        lowest >= SIGNIFICANT && lowest >= ALIKE_LINES * highest
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

    /// Whether a family lies on the first or second sidebands of this one, or is the modulation itself.
    ///
    /// For a ball of some bearings, the inner race lies a cage order below its own. Lines there that are
    /// weaker than the ball's are its sidebands, while a damaged inner race has none at the ball's order.
    fn explains(&self, other: &Family, width: f64) -> bool {
        self.sidebands.is_some_and(|distance| {
            let apart = (other.order - self.family.order).abs();
            [apart - distance, apart - 2.0 * distance, other.order - distance]
                .into_iter()
                .any(|error| error.abs() < width)
        })
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
    /// Searches a spectrum.
    pub(super) fn new(spectrum: &EnvelopeSpectrum, sought: &Sought) -> Self {
        let (bearing, slip) = (&sought.bearing, sought.slip());
        let candidates: Vec<Candidate> = Element::ALL
            .into_iter()
            .filter(|element| !sought.is_near_shaft_harmonic(*element))
            .filter_map(|element| {
                let order = bearing.of(element);
                let family = spectrum.best(order * (1.0 - slip), order * (1.0 + slip))?;
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
        let claim = Self::claim(spectrum, sought, &candidates);
        Self { candidates, claim }
    }

    /// The element's score; none where it cannot be told from the shaft.
    pub(super) fn score(&self, element: Element) -> Option<f64> {
        self.candidates
            .iter()
            .find(|candidate| candidate.element == element)
            .map(|candidate| candidate.family.score)
    }

    /// Where what is claimed stands in the spectrum that was searched.
    pub(super) fn claimed(&self, spectrum: &EnvelopeSpectrum) -> Option<Claimed> {
        let order = self.claim.as_ref()?.family.order;
        let stands = |line: &Option<f32>| line.is_some_and(|line| line >= SIGNIFICANT);
        let lines = (1..).zip(spectrum.lines(order));
        Some(Claimed {
            hz: order * spectrum.shaft_hz,
            harmonics: lines
                .filter(|(_, line)| stands(line))
                .map(|(harmonic, _)| harmonic)
                .collect(),
        })
    }

    /// The element that is named.
    pub(super) fn element(&self) -> Option<Element> {
        self.claim.as_ref()?.element
    }

    /// The score of what is claimed in another band's spectrum: of the family of the same order, where that would be
    /// claimed there, too.
    pub(super) fn confirmed(&self, spectrum: &EnvelopeSpectrum) -> Option<f64> {
        let order = self.claim.as_ref()?.family.order;
        let width = line_width(spectrum) / HARMONICS as f64;
        let family = spectrum.best(order - width, order + width)?;
        (family.convincing && family.score >= CLAIM).then_some(family.score)
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
            confirmed: None,
        })
    }

    fn claim(spectrum: &EnvelopeSpectrum, sought: &Sought, candidates: &[Candidate]) -> Option<Claim> {
        let (bearing, slip) = (&sought.bearing, sought.slip());
        let mut ranked: Vec<&Candidate> = candidates
            .iter()
            .filter(|candidate| candidate.family.convincing)
            .collect();
        ranked.sort_by(|a, b| b.family.score.total_cmp(&a.family.score));
        // A cage that may not be claimed is still a rival: its ninth harmonic is the outer race of a
        // bearing with nine balls.
        let cage_turns = spectrum.shaft_hz * bearing.cage * 0.5 / spectrum.spacing_hz;
        let best = ranked.iter().position(|candidate| match candidate.element {
            Element::Cage => candidate.family.standing >= 3 && cage_turns >= MINIMUM_CAGE_TURNS,
            Element::OuterRace | Element::InnerRace | Element::Ball => true,
        })?;
        let best = ranked.remove(best);
        let score = best.family.score;
        if !best.claims() || score <= stranger(spectrum, bearing, best, slip) {
            return None;
        }
        // What swells once a turn, and not with the cage, is an inner race, if another bearing's.
        let swells_with_the_shaft = !best.supported && spectrum.has_sidebands(best.family.order, 1.0);
        if best.element == Element::Ball && swells_with_the_shaft {
            return None;
        }
        let width = line_width(spectrum);
        let error = width / (HARMONICS as f64 * best.family.order);
        let owner = sought.owner(best.element, best.family.order, error);
        if owner == Owner::Neighbour {
            return None;
        }
        let strikes = best.element != Element::Cage || spectrum.shows_strikes(best.family.order);
        let clear = ranked
            .iter()
            .all(|rival| best.explains(&rival.family, width) || score >= MARGIN * rival.family.score);
        Some(Claim {
            element: (clear && strikes && owner == Owner::Own).then_some(best.element),
            family: best.family,
            runner_up: ranked.first().map_or(0.0, |rival| rival.family.score),
            lines: spectrum.evidence(&best.family, best.sidebands),
        })
    }
}

/// Score of the strongest convincing family that is neither an element nor a multiple of `best`; 0 if
/// there is none.
///
/// What lies just beyond an element's slip is a stranger too: the element's own family would then be no more
/// than the flank of its lines.
fn stranger(spectrum: &EnvelopeSpectrum, bearing: &BearingOrders, best: &Candidate, slip: f64) -> f64 {
    let orders = Element::ALL.map(|element| bearing.of(element));
    let width = line_width(spectrum);
    let own = best.family.order;
    // A spot on a ball meets both races once a turn, rarely with the same force: lines at odd multiples of the
    // ball's own spin, half the order of the strikes, belong to it.
    let part = match best.element {
        Element::Ball => 0.5,
        Element::OuterRace | Element::InnerRace | Element::Cage => 1.0,
    };
    let is_own = |order: f64| {
        let multiple = (order / (part * own)).round() * part;
        (multiple > 0.0 && multiple != 1.0 && (order - multiple * own).abs() < width)
            || orders.into_iter().any(|of| (order - of).abs() <= of * slip)
    };
    // Further down lie belts and the cage, whose many harmonics reach every order.
    spectrum.best_convincing(1.2, STRANGERS * highest_order(bearing), |order| !is_own(order))
}

/// Two resolutions, in orders: the width of a line under the Hann window.
fn line_width(spectrum: &EnvelopeSpectrum) -> f64 {
    4.0 * spectrum.spacing_hz / spectrum.shaft_hz
}

fn highest_order(bearing: &BearingOrders) -> f64 {
    Element::ALL
        .into_iter()
        .map(|element| bearing.of(element))
        .fold(0.0, f64::max)
}

/// Puts NaN in the place of lines that may be the shaft's: within a line's width (two resolutions under the Hann
/// window) and the speed's error of a multiple of its speed.
fn hide_shaft(lines: &mut [f32], spacing_hz: f64, shaft_hz: f64) {
    let width = 4.0 * spacing_hz;
    // Turns are far apart against lines ([`MINIMUM_REVOLUTIONS`]).
    for harmonic in 0..lines.len() {
        let centre = harmonic as f64 * shaft_hz;
        let from = (centre - width) / (1.0 + SPEED_ERROR) / spacing_hz;
        let to = (centre + width) / (1.0 - SPEED_ERROR) / spacing_hz;
        // So it is behind the last line, and at a speed that is no number.
        if !(from < lines.len() as f64 && to > from) {
            break;
        }
        // Neither edge belongs to it.
        let first = if from < 0.0 { 0 } else { from as usize + 1 };
        let end = (to.ceil() as usize).min(lines.len());
        if let Some(hidden) = lines.get_mut(first..end) {
            hidden.fill(f32::NAN);
        }
    }
}

/// The median of the lines within `reach` on either side, at every eighth line and held in between: a
/// median because the lines looked for must not raise their own floor.
fn local_floor(magnitudes: &[f32], reach: usize) -> Vec<f32> {
    const HOLD: usize = 8;
    let mut median = MovingMedian::of(magnitudes);
    let mut floor = Vec::with_capacity(magnitudes.len());
    for start in (0..magnitudes.len()).step_by(HOLD) {
        let centre = start + HOLD / 2;
        let near = centre.saturating_sub(reach).min(start)..(centre + reach + 1).min(magnitudes.len());
        let held = HOLD.min(magnitudes.len() - start);
        floor.extend(std::iter::repeat_n(median.over(near).unwrap_or(0.0), held));
    }
    floor
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAFT_HZ: f64 = 30.0;
    const SPACING_HZ: f64 = 0.5;
    const BAND: (f64, f64) = (1.0, 4687.0);

    fn of(magnitudes: &[f32], spacing_hz: f64, shaft_hz: f64, usable_hz: f64) -> EnvelopeSpectrum {
        EnvelopeSpectrum::new(&Prominences::new(magnitudes, spacing_hz, shaft_hz, usable_hz))
    }

    /// A floor of 1 with lines of a height at some orders.
    fn spectrum(lines: &[(f64, f32)]) -> EnvelopeSpectrum {
        let mut magnitudes = vec![1.0; 2400];
        for (order, height) in lines {
            magnitudes[(order * SHAFT_HZ / SPACING_HZ).round() as usize] = *height;
        }
        of(&magnitudes, SPACING_HZ, SHAFT_HZ, 2400.0)
    }

    fn bearing() -> BearingOrders {
        "6205".parse().unwrap()
    }

    /// The first three harmonics of an order, 0.4 % slipped.
    fn family(order: f64, height: f32) -> Vec<(f64, f32)> {
        (1..=3)
            .map(|harmonic| (f64::from(harmonic) * order * 1.004, height))
            .collect()
    }

    fn finding(lines: &[(f64, f32)]) -> Option<Finding> {
        Search::new(&spectrum(lines), &Sought::exactly(bearing())).finding(BAND)
    }

    fn claim(lines: &[(f64, f32)]) -> Option<Option<Element>> {
        finding(lines).map(|finding| finding.element)
    }

    #[test]
    fn an_element_is_named_by_its_family() {
        for element in [Element::OuterRace, Element::InnerRace, Element::Ball] {
            let found = finding(&family(bearing().of(element), 8.0)).unwrap();
            assert_eq!(found.element, Some(element));
            assert!(
                (found.order / bearing().of(element) - 1.004).abs() < 3e-3,
                "{}",
                found.order
            );
            // Three lines of 8, and one of 1 where the shaft does not hide it.
            assert!((6.24..8.01).contains(&found.score), "{}", found.score);
            let harmonics: Vec<u8> = found.lines.iter().map(|line| line.harmonic).collect();
            assert_eq!(harmonics, [1, 2, 3]);
            assert_eq!(found.band_hz, BAND);
        }
    }

    #[test]
    fn nothing_is_claimed_on_a_flat_floor() {
        assert_eq!(claim(&[]), None);
    }

    #[test]
    fn one_line_is_no_family_however_high() {
        assert_eq!(claim(&[(bearing().outer_race, 1000.0)]), None);
    }

    #[test]
    fn a_family_without_its_fundamental_belongs_to_another() {
        let order = bearing().inner_race;
        assert_eq!(claim(&[(2.0 * order, 20.0), (4.0 * order, 20.0)]), None);
    }

    #[test]
    fn harmonics_that_slip_apart_are_no_family() {
        let order = bearing().outer_race;
        assert_eq!(
            claim(&[(0.987 * order, 6.0), (2.026 * order, 6.0), (3.0 * order, 6.0)]),
            None
        );
    }

    #[test]
    fn harmonics_of_the_shaft_are_no_evidence() {
        let lines: Vec<_> = (1..30).map(|harmonic| (f64::from(harmonic), 50.0)).collect();
        assert_eq!(claim(&lines), None);
    }

    #[test]
    fn an_element_on_a_harmonic_of_the_shaft_is_ignored() {
        let fan_end: BearingOrders = "6203".parse().unwrap();
        let search = Search::new(&spectrum(&family(fan_end.ball, 20.0)), &Sought::exactly(fan_end));
        assert_eq!(search.score(Element::Ball), None);
        assert_eq!(search.finding(BAND), None);
    }

    #[test]
    fn two_elements_alike_leave_it_undetermined() {
        let mut lines = family(bearing().outer_race, 8.0);
        lines.extend(family(bearing().ball, 7.0));
        let found = finding(&lines).unwrap();
        assert_eq!((found.element, found.order), (None, 0.0));
        assert!(found.runner_up > 5.0 && found.runner_up <= found.score);
    }

    #[test]
    fn a_stronger_family_of_something_else_silences_the_search() {
        let mut lines = family(bearing().outer_race, 6.0);
        assert_eq!(claim(&lines), Some(Some(Element::OuterRace)));
        lines.extend(family(2.6, 9.0));
        assert_eq!(claim(&lines), None);
    }

    #[test]
    fn the_flank_of_a_line_beyond_the_slip_is_no_element() {
        let order = 1.017 * bearing().outer_race;
        // A line and what the Hann window leaves of it on either side.
        let mut lines = Vec::new();
        for harmonic in 1..=3 {
            let carrier = f64::from(harmonic) * order;
            for (lines_off, height) in [(-2.0, 3.5), (-1.0, 6.0), (0.0, 9.0), (1.0, 6.0), (2.0, 3.5)] {
                lines.push((carrier + lines_off * SPACING_HZ / SHAFT_HZ, height));
            }
        }
        assert_eq!(claim(&lines), None);
        let within: Vec<_> = lines
            .iter()
            .map(|(order, height)| (order / 1.012, *height))
            .collect();
        assert_eq!(claim(&within), Some(Some(Element::OuterRace)));
    }

    #[test]
    fn a_spot_that_meets_one_race_harder_is_still_the_ball_s() {
        let ball = bearing().ball;
        let mut lines = family(ball, 7.0);
        lines.extend([(0.502 * ball, 7.0), (1.506 * ball, 7.0)]);
        assert_eq!(claim(&lines), Some(Some(Element::Ball)));
    }

    #[test]
    fn what_swells_with_the_shaft_is_no_ball() {
        let ball = 1.004 * bearing().ball;
        let mut lines = family(bearing().ball, 7.0);
        lines.extend([(ball - 1.0, 4.0), (ball + 1.0, 4.0)]);
        assert_eq!(claim(&lines), None);
        let cage = bearing().cage;
        lines.extend([(ball - cage, 4.0), (ball + cage, 4.0)]);
        assert_eq!(claim(&lines), Some(Some(Element::Ball)));
    }

    /// A bearing with an outer race so many times as high, and nothing else in common.
    fn beside(outer_race: f64) -> BearingOrders {
        BearingOrders {
            outer_race: outer_race * bearing().outer_race,
            inner_race: 6.6,
            ball: 2.7,
            cage: 0.44,
        }
    }

    fn claim_beside(neighbour: BearingOrders, lines: &[(f64, f32)]) -> Option<Option<Element>> {
        let sought = Sought {
            neighbours: [neighbour].into_iter().collect(),
            ..Sought::exactly(bearing())
        };
        let finding = Search::new(&spectrum(lines), &sought).finding(BAND);
        finding.map(|finding| finding.element)
    }

    #[test]
    fn what_a_neighbour_explains_as_well_is_of_no_element() {
        let lines = family(bearing().outer_race, 8.0);
        assert_eq!(claim_beside(beside(1.1), &lines), Some(Some(Element::OuterRace)));
        for outer_race in [0.996, 1.002, 1.006] {
            assert_eq!(
                claim_beside(beside(outer_race), &lines),
                Some(None),
                "{outer_race}"
            );
        }
    }

    #[test]
    fn twice_the_order_of_a_neighbour_s_element_is_no_ball_for_sure() {
        let lines = family(bearing().ball, 8.0);
        assert_eq!(claim_beside(beside(1.1), &lines), Some(Some(Element::Ball)));
        let half = BearingOrders {
            inner_race: 0.5 * bearing().ball,
            ..beside(1.1)
        };
        assert_eq!(claim_beside(half, &lines), Some(None));
    }

    #[test]
    fn what_is_much_nearer_to_a_neighbour_is_the_neighbour_s() {
        let owner = |order: f64| {
            let sought = Sought {
                neighbours: [beside(1.012)].into_iter().collect(),
                ..Sought::exactly(bearing())
            };
            sought.owner(Element::OuterRace, order * bearing().outer_race, 0.001)
        };
        assert_eq!(owner(1.013), Owner::Neighbour);
        assert_eq!(owner(1.006), Owner::Either);
        assert_eq!(owner(0.999), Owner::Own);
    }

    #[test]
    fn a_bearing_of_the_same_kind_beside_it_takes_nothing_away() {
        let lines = family(bearing().outer_race, 8.0);
        assert_eq!(claim_beside(bearing(), &lines), Some(Some(Element::OuterRace)));
    }

    #[test]
    fn between_two_elements_of_a_bearing_nothing_is_named() {
        let sought = Sought::exactly(BearingOrders {
            ball: 1.01 * bearing().inner_race,
            ..bearing()
        });
        let lines = family(1.002 * bearing().inner_race, 8.0);
        let finding = Search::new(&spectrum(&lines), &sought).finding(BAND);
        assert_eq!(finding.map(|finding| finding.element), Some(None));
    }

    #[test]
    fn a_speed_that_may_be_further_off_leaves_elements_where_they_may_be() {
        let lines = family(1.016 * bearing().outer_race, 8.0);
        assert_eq!(claim(&lines), None);
        let sought = Sought {
            tolerance: 0.01,
            ..Sought::exactly(bearing())
        };
        let finding = Search::new(&spectrum(&lines), &sought).finding(BAND);
        assert_eq!(
            finding.map(|finding| finding.element),
            Some(Some(Element::OuterRace))
        );
    }

    #[test]
    fn sidebands_support_a_weaker_inner_race_and_stand_in_the_evidence() {
        let order = 1.004 * bearing().inner_race;
        let mut lines = vec![(order, 5.5), (2.0 * order, 4.5)];
        assert_eq!(claim(&lines), None);
        lines.extend([(order - 1.0, 4.0), (order + 1.0, 4.0)]);
        let found = finding(&lines).unwrap();
        assert_eq!(found.element, Some(Element::InnerRace));
        assert_eq!(found.lines.iter().filter(|line| line.harmonic == 1).count(), 3);
    }

    #[test]
    fn orders_beyond_the_spectrum_are_not_claimed_and_cost_nothing() {
        let absurd = BearingOrders {
            outer_race: 1e12,
            inner_race: 1e12,
            ball: 1e300,
            cage: 0.4,
        };
        assert_eq!(
            Search::new(&spectrum(&family(3.5, 9.0)), &Sought::exactly(absurd)).finding(BAND),
            None
        );
    }

    #[test]
    fn the_cage_is_claimed_alone_and_on_enough_turns() {
        let cage = bearing().cage;
        let lines: Vec<_> = (1..=4)
            .map(|harmonic| (f64::from(harmonic) * cage, 9.0))
            .collect();
        assert_eq!(claim(&lines), Some(Some(Element::Cage)));
        let mut with_ball = lines.clone();
        with_ball.extend(family(bearing().ball, 12.0));
        assert_eq!(claim(&with_ball), Some(Some(Element::Ball)));
        // What swells with the cage, as the strikes of a ball do, has no more than its first lines.
        assert_eq!(claim(&lines[..3]), Some(None));
        let swell = (1..=4).zip([24.0, 18.0, 9.0, 5.0]);
        let swell: Vec<_> = swell
            .map(|(harmonic, height)| (f64::from(harmonic) * cage, height))
            .collect();
        assert_eq!(claim(&swell), Some(None));
        // The same lines in orders, in a window of half a second: 6 turns of the cage.
        let mut magnitudes = vec![1.0; 2400];
        for (order, height) in &lines {
            magnitudes[(order * SHAFT_HZ / 1.0).round() as usize] = *height;
        }
        let short = of(&magnitudes, 1.0, SHAFT_HZ, 2400.0);
        assert_eq!(
            Search::new(&short, &Sought::exactly(bearing())).finding(BAND),
            None
        );
    }
}
