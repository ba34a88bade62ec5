//! A wheel with teeth: its mesh and the sidebands that a bad tooth or an eccentric wheel leaves there.
//!
//! Every pair of wheels meshes with a line at teeth x speed and its multiples, which alone says nothing. What
//! is different from tooth to tooth comes once a turn, and modulates the mesh: sidebands at the distance of
//! the shaft's speed. Their sum over the mesh is the sideband energy ratio; from 1 on it is a fault.

use super::criteria::Criteria;
use super::orders::{Orders, Shape};
use super::{Cause, Evidence, Outcome, SupportingLine, Suspicion, Train, Undetermined};

/// Sidebands on either side that are added up.
const SIDEBANDS: u16 = 3;

/// Of those on either side, how many must stand out on both.
const PAIRS: usize = 2;

/// What the wheel on this shaft says; none where there is none.
pub(super) fn examine(evidence: &Evidence<'_>, train: &Train, criteria: &Criteria) -> Option<Outcome> {
    let teeth = f64::from(train.teeth?);
    let Some(lines) = evidence.acceleration else {
        return Some(Outcome::Undetermined(Undetermined::NoSpectrum));
    };
    let orders = Orders::new(
        (lines, Shape::Plain),
        evidence.shaft_hz,
        evidence.usable_hz,
        criteria,
    );
    let orders = match orders {
        Ok(orders) => orders,
        Err(reason) => return Some(Outcome::Undetermined(reason)),
    };
    // Sidebands beyond the usable band are not there to be added up.
    let (_, high_hz) = orders.band_hz();
    if (teeth + f64::from(SIDEBANDS)) * orders.shaft_hz() > high_hz {
        return Some(Outcome::Undetermined(Undetermined::NoSpectrum));
    }
    let Some(mesh) = orders.at(teeth) else {
        return Some(Outcome::Quiet);
    };
    // At a high order the speed's own error moves the mesh by more than a line; its sidebands lie beside
    // where it was found.
    let side = |number: f64| {
        let hz = mesh.frequency_hz + number * orders.shaft_hz();
        orders.at_hz(hz, 0.0)
    };
    let pairs: Vec<[Option<SupportingLine>; 2]> = (1..=SIDEBANDS)
        .map(|number| [-f64::from(number), f64::from(number)].map(side))
        .collect();
    let both = pairs
        .iter()
        .filter(|pair| pair.iter().all(Option::is_some))
        .count();
    let sidebands: Vec<SupportingLine> = pairs.into_iter().flatten().flatten().collect();
    let ratio = sidebands.iter().map(|line| line.rms).sum::<f64>() / mesh.rms;
    if both < PAIRS || ratio < criteria.sideband_ratio {
        return Some(Outcome::Quiet);
    }
    let mut found = vec![mesh];
    found.extend(sidebands);
    Some(Outcome::Suspected(Suspicion {
        cause: Cause::GearMesh,
        score: ratio,
        lines: found,
        band_hz: orders.band_hz(),
    }))
}
