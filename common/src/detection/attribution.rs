//! Which machine element a rise belongs to, when several share a shaft and a housing.
//!
//! A failing bearing is heard at its neighbours, weaker and at the same time. And a machine that is loaded
//! more is louder everywhere alike. Neither is a fault of the element that hears it.

use serde::{Deserialize, Serialize};

/// How many times a rise, as a logarithm, its source rises by at least. On the development run of the IMS
/// bearings no neighbour ever rose by more than 0.57 of the failing bearing, which is 1 in 1.75.
const SOURCE: f64 = 1.3;

/// Share of a rise that must be left when what the other elements have in common is taken off.
const OWN: f64 = 0.5;

/// Elements compared at most; further ones are not looked at.
const ELEMENTS_MAX: usize = 32;

/// One element of a machine at one time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Element {
    /// Its rise over what was learned, natural logarithm ([`super::rise::Level::rise`]).
    pub rise: f64,
    /// Whether that is beyond its limit.
    pub raised: bool,
}

/// Whose rise it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attribution {
    /// The element's own.
    Own,
    /// Heard from this one, by its place.
    TransmittedFrom(u8),
    /// The whole machine's.
    Shared,
}

/// Whose the rise of the element at `place` is; `None` where there is none.
pub fn attribute(place: usize, elements: &[Element]) -> Option<Attribution> {
    let elements = elements.get(..ELEMENTS_MAX).unwrap_or(elements);
    let this = elements.get(place).filter(|this| this.raised)?;
    let others = || {
        let other = |(index, _): &(usize, &Element)| *index != place;
        elements.iter().enumerate().filter(other)
    };
    let loudest = others()
        .filter(|(_, other)| other.raised)
        .max_by(|(_, a), (_, b)| a.rise.total_cmp(&b.rise));
    if let Some((source, other)) = loudest
        && other.rise >= SOURCE * this.rise
    {
        return Some(Attribution::TransmittedFrom(source as u8));
    }
    let mut rises: heapless::Vec<f64, ELEMENTS_MAX> = others().map(|(_, other)| other.rise).collect();
    rises.sort_unstable_by(f64::total_cmp);
    // The lower of two in the middle: half of the others that have risen too are not the whole machine.
    let common = rises
        .get(rises.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(0.0);
    if rises.len() > 1 && this.rise - common.max(0.0) < OWN * this.rise {
        return Some(Attribution::Shared);
    }
    Some(Attribution::Own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributed(place: usize, rises: &[f64]) -> Option<Attribution> {
        let element = |&rise: &f64| Element {
            rise,
            raised: rise > 0.1,
        };
        let elements: std::vec::Vec<Element> = rises.iter().map(element).collect();
        attribute(place, &elements)
    }

    #[test]
    fn the_loudest_is_the_source_and_the_others_hear_it() {
        let rises = [0.8, 0.02, -0.03, 0.15];
        assert_eq!(attributed(0, &rises), Some(Attribution::Own));
        assert_eq!(attributed(3, &rises), Some(Attribution::TransmittedFrom(0)));
        assert_eq!(attributed(1, &rises), None);
    }

    #[test]
    fn late_in_a_failure_everybody_hears_it() {
        let rises = [1.78, 0.58, 0.53, 0.74];
        assert_eq!(attributed(0, &rises), Some(Attribution::Own));
        for place in 1..4 {
            assert_eq!(attributed(place, &rises), Some(Attribution::TransmittedFrom(0)));
        }
    }

    #[test]
    fn two_that_fail_are_both_told() {
        let rises = [0.01, 0.02, 0.5, 0.6];
        assert_eq!(attributed(2, &rises), Some(Attribution::Own));
        assert_eq!(attributed(3, &rises), Some(Attribution::Own));
    }

    #[test]
    fn what_rises_everywhere_alike_is_the_machine() {
        let rises = [0.2, 0.22, 0.18, 0.21];
        for place in 0..4 {
            assert_eq!(attributed(place, &rises), Some(Attribution::Shared));
        }
    }

    #[test]
    fn alone_or_with_one_other_a_rise_is_its_own_unless_it_is_heard() {
        assert_eq!(attributed(0, &[0.3]), Some(Attribution::Own));
        assert_eq!(attributed(0, &[0.3, 0.28]), Some(Attribution::Own));
        assert_eq!(attributed(0, &[0.3, 0.9]), Some(Attribution::TransmittedFrom(1)));
    }

    #[test]
    fn nothing_is_attributed_to_an_element_that_is_not_there() {
        assert_eq!(attributed(4, &[0.3]), None);
        assert_eq!(attributed(0, &[]), None);
    }
}
