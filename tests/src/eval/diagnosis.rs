//! The diagnosis of one channel of a record, by the components that the collector runs: windows of the
//! length that it cuts, their search, and the agreement of windows.

use super::Claim;
use trunnion_collector::window::WindowSettings;
use trunnion_diagnosis::bearing::{BearingOrders, Element, Neighbours};
use trunnion_diagnosis::detection::{Detector, Persistence, Verdict};
use trunnion_diagnosis::features::{Analyzer, Depth, PointContext, ShaftSpeed};

/// One channel, with what is known of the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channel<'a> {
    pub(super) samples: &'a [f32],
    pub(super) rate_hz: f64,
    pub(super) shaft: ShaftSpeed,
    pub(super) bearing: BearingOrders,
    /// What else may be heard.
    pub(super) neighbours: Neighbours,
}

/// What was said of a channel.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Diagnosis {
    /// What was confirmed at any time, each once; none in it is a fault without its element.
    pub(super) confirmed: Vec<Option<Element>>,
    /// What each window claims by itself, as if it were all there is.
    pub(super) windows: Vec<Option<Option<Element>>>,
    /// Which of them name an element that the most impulsive band shows, too.
    pub(super) confirmed_by_a_band: Vec<bool>,
}

impl Channel<'_> {
    /// What is said of the channel, window by window, without looking ahead.
    ///
    /// Of a record shorter than the windows that are looked back on, a majority of those it has must agree.
    pub(super) fn diagnose(&self, analyzer: &mut Analyzer) -> Diagnosis {
        let seconds = WindowSettings::default().size_ns as f64 / 1e9;
        let context = PointContext {
            shaft: self.shaft,
            bearing: Some(self.bearing),
            neighbours: self.neighbours,
            band_high_hz: self.rate_hz / 2.56,
        };
        let length = (seconds * self.rate_hz) as usize;
        let mut detector = Detector::new(persistence(self.samples.len() / length.max(1)));
        let mut diagnosis = Diagnosis::default();
        let Diagnosis {
            confirmed,
            windows,
            confirmed_by_a_band,
        } = &mut diagnosis;
        for window in self.samples.chunks_exact(length.max(1)) {
            let features = analyzer.analyze(window, self.rate_hz, &context, Depth::Full);
            let finding = features.finding.as_ref();
            windows.push(finding.map(|finding| finding.element));
            confirmed_by_a_band.push(finding.is_some_and(|finding| finding.confirmed.is_some()));
            let verdict = Verdict::of(1.0, &features);
            let verdict = detector.weigh(verdict, features.envelope.as_ref());
            let detection = detector.handle_window(verdict);
            if let Some(finding) = detection.confirmed
                && !confirmed.contains(&finding.element)
            {
                confirmed.push(finding.element);
            }
        }
        diagnosis
    }
}

/// How many windows must agree in a record that has so many.
fn persistence(windows: usize) -> Persistence {
    let usual = Persistence::default();
    let windows = u8::try_from(windows).unwrap_or(u8::MAX);
    if windows >= usual.of() {
        return usual;
    }
    Persistence::new(windows / 2 + 1, windows).unwrap_or(usual)
}

/// Sums over channels: windows that name the damaged element by themselves as a share of those that could, and
/// windows that name another.
pub(super) fn of_windows(judged: &[Judged]) -> (f64, usize) {
    let sum = |of: fn(&Judged) -> usize| judged.iter().map(of).sum::<usize>();
    let named =
        sum(|judged| judged.windows_named.0) as f64 / sum(|judged| judged.windows_named.1).max(1) as f64;
    (named, sum(|judged| judged.windows_wrong))
}

/// Of the windows that name the damaged element by themselves, and of those that name another, the shares that a band
/// confirms; none of no windows.
pub(super) fn of_bands(judged: &[Judged]) -> [Option<f64>; 2] {
    let sum = |of: fn(&Judged) -> usize| judged.iter().map(of).sum::<usize>();
    let share = |part: usize, of: usize| (of > 0).then(|| part as f64 / of as f64);
    [
        share(
            sum(|judged| judged.windows_confirmed.0),
            sum(|judged| judged.windows_named.0),
        ),
        share(
            sum(|judged| judged.windows_confirmed.1),
            sum(|judged| judged.windows_wrong),
        ),
    ]
}

/// What a record's channel claims beside what is true of it, and how that counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Judged {
    pub(super) claim: Claim,
    /// The damaged element was named, and no other.
    pub(super) named: bool,
    /// An element was named that is not damaged, or anything was claimed of a healthy bearing.
    pub(super) wrong: bool,
    /// Windows that name the damaged element by themselves, and of how many that could.
    pub(super) windows_named: (usize, usize),
    /// Windows that by themselves name what is not damaged.
    pub(super) windows_wrong: usize,
    /// Windows of those named, and of those wrong, that a band confirms.
    pub(super) windows_confirmed: (usize, usize),
}

impl Judged {
    pub(super) fn new(
        benchmark: &'static str,
        record: &str,
        channel: &str,
        diagnosis: &Diagnosis,
        truth: Option<Element>,
    ) -> Self {
        let Diagnosis {
            confirmed, windows, ..
        } = diagnosis;
        let by_a_band = |is: fn(Element, Option<Element>) -> bool| {
            let windows = windows.iter().zip(&diagnosis.confirmed_by_a_band);
            let confirmed = windows.filter_map(|(claim, by_a_band)| claim.flatten().filter(|_| *by_a_band));
            confirmed.filter(|element| is(*element, truth)).count()
        };
        let claims = |is: fn(Element, Option<Element>) -> bool| {
            let elements = windows.iter().copied().flatten().flatten();
            elements.filter(|element| is(*element, truth)).count()
        };
        let mut elements: Vec<_> = confirmed.iter().flatten().copied().collect();
        elements.sort_unstable();
        let claimed = match (elements.as_slice(), confirmed.as_slice()) {
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
            windows_named: (
                claims(|element, truth| truth == Some(element)),
                if truth.is_some() { windows.len() } else { 0 },
            ),
            windows_wrong: claims(|element, truth| truth != Some(element)),
            windows_confirmed: (
                by_a_band(|element, truth| truth == Some(element)),
                by_a_band(|element, truth| truth != Some(element)),
            ),
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
    use crate::sim_machine::{MachineSpec, SimMachine};

    fn check(
        confirmed: &[Option<Element>],
        truth: Option<Element>,
        claimed: Option<&str>,
        named: bool,
        wrong: bool,
    ) {
        let diagnosis = Diagnosis {
            confirmed: confirmed.to_vec(),
            windows: confirmed
                .iter()
                .map(|element| Some(*element))
                .chain([None])
                .collect(),
            confirmed_by_a_band: vec![true; confirmed.len() + 1],
        };
        let judged = Judged::new("rig", "record", "channel", &diagnosis, truth);
        let of_truth = confirmed
            .iter()
            .filter(|element| element.is_some() && **element == truth);
        let windows = if truth.is_some() { confirmed.len() + 1 } else { 0 };
        assert_eq!(
            judged.windows_named,
            (of_truth.count(), windows),
            "{confirmed:?} of {truth:?}"
        );
        assert_eq!(
            judged.windows_confirmed,
            (judged.windows_named.0, judged.windows_wrong)
        );
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
    fn a_short_record_is_judged_by_the_majority_of_its_windows() {
        let required = [0, 1, 2, 3, 4, 5, 900].map(|windows| {
            let persistence = persistence(windows);
            (persistence.required(), persistence.of())
        });
        assert_eq!(required, [(3, 5), (1, 1), (2, 2), (2, 3), (3, 4), (3, 5), (3, 5)]);
    }

    #[test]
    fn a_record_of_one_window_is_judged_by_what_that_says() {
        let bearing = "6205".parse().unwrap();
        let spec = MachineSpec::motor(12_800.0, 3).with_fault(Element::OuterRace, 1.0, 0.0);
        let mut samples = vec![0.0; 5 * 12_800];
        SimMachine::new(spec).fill(&mut samples);
        for seconds in 1..=5 {
            let channel = Channel {
                samples: &samples[..seconds * 12_800],
                rate_hz: spec.rate_hz,
                shaft: ShaftSpeed::declared(spec.shaft_hz, 0.003),
                bearing,
                neighbours: Neighbours::default(),
            };
            let diagnosis = channel.diagnose(&mut Analyzer::new());
            assert_eq!(diagnosis.confirmed, [Some(Element::OuterRace)], "{seconds} s");
            assert_eq!(diagnosis.windows.len(), seconds);
        }
    }

    #[test]
    fn any_claim_of_a_healthy_bearing_is_wrong() {
        check(&[], None, None, false, false);
        check(&[None], None, Some("undetermined"), false, true);
        check(&[Some(Element::Cage)], None, Some("cage"), false, true);
    }
}
