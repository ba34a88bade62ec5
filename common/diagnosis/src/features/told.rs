//! Findings on the wire.

use super::{ConfirmingBand, EvidenceLine, Finding};
use trunnion_common::bearing::{Claim, ClaimBand, ClaimLine, Element};

impl Finding {
    /// As a gateway tells of it. Of its lines, as many as a claim has room for.
    pub fn told(&self) -> Claim {
        let line = |line: &EvidenceLine| ClaimLine {
            order: line.order as f32,
            frequency_hz: line.frequency_hz as f32,
            harmonic: line.harmonic,
            prominence: line.prominence as f32,
        };
        let mut claim = Claim {
            order: self.order as f32,
            score: self.score as f32,
            runner_up: self.runner_up as f32,
            band_hz: [self.band_hz.0 as f32, self.band_hz.1 as f32],
            lines: Default::default(),
            confirmed: self.confirmed.map(|band| ClaimBand {
                band_hz: [band.band_hz.0 as f32, band.band_hz.1 as f32],
                kurtosis: band.kurtosis as f32,
                score: band.score as f32,
            }),
        };
        let room = claim.lines.capacity();
        claim.lines.extend(self.lines.iter().map(line).take(room));
        claim
    }

    /// As it was told.
    pub fn heard(element: Option<Element>, claim: &Claim) -> Self {
        let band = |[low, high]: [f32; 2]| (low.into(), high.into());
        let line = |line: &ClaimLine| EvidenceLine {
            order: line.order.into(),
            frequency_hz: line.frequency_hz.into(),
            harmonic: line.harmonic,
            prominence: line.prominence.into(),
        };
        Self {
            element,
            order: claim.order.into(),
            score: claim.score.into(),
            runner_up: claim.runner_up.into(),
            lines: claim.lines.iter().map(line).collect(),
            band_hz: band(claim.band_hz),
            confirmed: claim.confirmed.map(|confirmed| ConfirmingBand {
                band_hz: band(confirmed.band_hz),
                kurtosis: confirmed.kurtosis.into(),
                score: confirmed.score.into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_heard() {
        let line = |harmonic: u8| EvidenceLine {
            order: 5.5 * f64::from(harmonic),
            frequency_hz: 165.0 * f64::from(harmonic),
            harmonic,
            prominence: 9.5,
        };
        let finding = Finding {
            element: Some(Element::InnerRace),
            order: 5.5,
            score: 7.25,
            runner_up: 1.5,
            lines: (1..=12).map(line).collect(),
            band_hz: (1.0, 5_000.0),
            confirmed: Some(ConfirmingBand {
                band_hz: (2_500.0, 3_750.0),
                kurtosis: 4.5,
                score: 6.5,
            }),
        };
        assert_eq!(Finding::heard(finding.element, &finding.told()), finding);
    }

    #[test]
    fn lines_beyond_the_room_are_left_out() {
        let line = EvidenceLine {
            order: 1.0,
            frequency_hz: 1.0,
            harmonic: 1,
            prominence: 1.0,
        };
        let finding = Finding {
            element: None,
            order: 0.0,
            score: 1.0,
            runner_up: 1.0,
            lines: vec![line; 100],
            band_hz: (1.0, 2.0),
            confirmed: None,
        };
        assert_eq!(
            finding.told().lines.len(),
            trunnion_common::bearing::CLAIM_LINES_MAX
        );
    }
}
