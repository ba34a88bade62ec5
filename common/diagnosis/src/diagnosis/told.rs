//! Suspicions on the wire.

use super::{Cause, SupportingLine, Suspicion};
use trunnion_common::shaft::{ShaftClaim, ShaftLine};

impl Suspicion {
    /// As a gateway tells of it. Of its lines, as many as a claim has room for.
    pub fn told(&self) -> ShaftClaim {
        let line = |line: &SupportingLine| ShaftLine {
            order: line.order as f32,
            frequency_hz: line.frequency_hz as f32,
            rms: line.rms as f32,
            prominence: line.prominence as f32,
        };
        let mut claim = ShaftClaim {
            score: self.score as f32,
            band_hz: [self.band_hz.0 as f32, self.band_hz.1 as f32],
            lines: Default::default(),
        };
        let room = claim.lines.capacity();
        claim.lines.extend(self.lines.iter().map(line).take(room));
        claim
    }

    /// As it was told.
    pub fn heard(cause: Cause, claim: &ShaftClaim) -> Self {
        let line = |line: &ShaftLine| SupportingLine {
            order: line.order.into(),
            frequency_hz: line.frequency_hz.into(),
            rms: line.rms.into(),
            prominence: line.prominence.into(),
        };
        let [low, high] = claim.band_hz.map(f64::from);
        Self {
            cause,
            score: claim.score.into(),
            lines: claim.lines.iter().map(line).collect(),
            band_hz: (low, high),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::shaft::SHAFT_LINES_MAX;

    fn suspicion(lines: usize) -> Suspicion {
        let line = |order: usize| SupportingLine {
            order: order as f64,
            frequency_hz: 25.0 * order as f64,
            rms: 5.5,
            prominence: 80.0,
        };
        Suspicion {
            cause: Cause::Looseness,
            score: 0.75,
            lines: (1..=lines).map(line).collect(),
            band_hz: (5.0, 1_000.0),
        }
    }

    #[test]
    fn what_is_told_is_heard() {
        let suspicion = suspicion(SHAFT_LINES_MAX);
        assert_eq!(Suspicion::heard(suspicion.cause, &suspicion.told()), suspicion);
    }

    #[test]
    fn lines_beyond_the_room_are_left_out() {
        assert_eq!(suspicion(100).told().lines.len(), SHAFT_LINES_MAX);
    }
}
