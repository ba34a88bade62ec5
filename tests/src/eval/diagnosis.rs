//! The diagnosis of one channel of a record, by the components that the collector runs: windows of the
//! length that it cuts, their search, and the agreement of windows.

use super::Claim;
use trunnion_collector::bearing::{BearingOrders, Element};
use trunnion_collector::detection::{Detector, Verdict};
use trunnion_collector::features::{Analyzer, Depth, PointContext};
use trunnion_collector::window::WindowSettings;

/// One channel, with what is known of the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channel<'a> {
    pub(super) samples: &'a [f32],
    pub(super) rate_hz: f64,
    pub(super) shaft_hz: f64,
    pub(super) bearing: BearingOrders,
}

impl Channel<'_> {
    /// What was confirmed at any time of the channel's record, each once; none in it is a fault without its
    /// element.
    pub(super) fn confirmed(&self, analyzer: &mut Analyzer) -> Vec<Option<Element>> {
        let seconds = WindowSettings::default().size_ns as f64 / 1e9;
        let context = PointContext {
            shaft_hz: self.shaft_hz,
            bearing: Some(self.bearing),
            band_high_hz: self.rate_hz / 2.56,
        };
        let mut detector = Detector::default();
        let mut confirmed = Vec::new();
        for window in self.samples.chunks_exact((seconds * self.rate_hz) as usize) {
            let finding = analyzer
                .analyze(window, self.rate_hz, &context, Depth::Full)
                .finding;
            let detection = detector.handle_window(Verdict::new(1.0, finding));
            if let Some(finding) = detection.confirmed
                && !confirmed.contains(&finding.element)
            {
                confirmed.push(finding.element);
            }
        }
        confirmed
    }
}

/// What a record's channel claims beside what is true of it, and how that counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Judged {
    pub(super) claim: Claim,
    /// The damaged element was named, and no other.
    pub(super) named: bool,
    /// An element was named that is not damaged, or anything was claimed of a healthy bearing.
    pub(super) wrong: bool,
}

impl Judged {
    pub(super) fn new(
        benchmark: &'static str,
        record: &str,
        channel: &str,
        confirmed: &[Option<Element>],
        truth: Option<Element>,
    ) -> Self {
        let mut elements: Vec<_> = confirmed.iter().flatten().copied().collect();
        elements.sort_unstable();
        let claimed = match (elements.as_slice(), confirmed) {
            ([], []) => None,
            ([], _) => Some("undetermined".to_owned()),
            (elements, _) => {
                let labels: Vec<_> = elements.iter().map(|element| element.label()).collect();
                Some(labels.join(" and "))
            }
        };
        Self {
            named: truth.is_some_and(|truth| elements == [truth]),
            wrong: elements.iter().any(|element| truth != Some(*element))
                || (truth.is_none() && !confirmed.is_empty()),
            claim: Claim {
                benchmark,
                record: record.to_owned(),
                channel: channel.to_owned(),
                claimed,
                truth: truth.map(|element| element.label().to_owned()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        confirmed: &[Option<Element>],
        truth: Option<Element>,
        claimed: Option<&str>,
        named: bool,
        wrong: bool,
    ) {
        let judged = Judged::new("rig", "record", "channel", confirmed, truth);
        assert_eq!(
            (judged.claim.claimed.as_deref(), judged.named, judged.wrong),
            (claimed, named, wrong),
            "{confirmed:?} of {truth:?}"
        );
    }

    #[test]
    fn only_the_damaged_element_alone_counts_as_named() {
        let (outer, ball) = (Some(Element::OuterRace), Some(Element::Ball));
        check(&[outer], outer, Some("outer_race"), true, false);
        check(&[None, outer], outer, Some("outer_race"), true, false);
        check(&[ball], outer, Some("ball"), false, true);
        check(&[ball, outer], outer, Some("outer_race and ball"), false, true);
        check(&[None], outer, Some("undetermined"), false, false);
        check(&[], outer, None, false, false);
    }

    #[test]
    fn any_claim_of_a_healthy_bearing_is_wrong() {
        check(&[], None, None, false, false);
        check(&[None], None, Some("undetermined"), false, true);
        check(&[Some(Element::Cage)], None, Some("cage"), false, true);
    }
}
