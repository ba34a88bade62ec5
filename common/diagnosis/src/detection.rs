//! State detection: findings of single windows to a persistent one (k of n). Pure.
//!
//! One window may err; a fault does not go away. What is detected is what `required` of the last `of`
//! windows say alike. A window that could not be decided on keeps its place and supports nothing, so
//! that a fault is never confirmed out of scraps far apart.
//!
//! What is too weak for one window shows where several are heard together: a window's finding is that of the
//! running mean up to it ([`EnvelopeMemory`]), as long as the window itself does not deny it.

use crate::bearing::Element;
use crate::features::{Envelope, EnvelopeMemory, Finding, WindowFeatures};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use trunnion_common::level::Level;
use trunnion_common::time::EventTime;

/// Share of a window's samples that must be present for it to be decided on. The rest counts as the mean:
/// holes of that size leave the diagnosis of a fault as it is, while larger ones, above all regular ones,
/// modulate the signal as a fault would.
pub const MINIMUM_COVERAGE: f32 = 0.95;

/// How bad a bearing fault is that has been confirmed: to be acted on at the next occasion, however small it
/// still is, since it does not mend itself.
pub const BEARING_LEVEL: Level = Level::Alarm;

/// What one window says.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Verdict {
    /// Too much was missing, the machine did not run steadily, or its speed is not known well enough.
    Undecided {
        /// Share of the samples that were present.
        coverage: f32,
    },
    /// Looked at, and nothing found.
    Healthy,
    /// A claim.
    Fault(Finding),
}

impl Verdict {
    /// The verdict on a window with that share of its samples present, by what was found in it. A bearing that could
    /// not be searched for element by element is not healthy for that nothing was found.
    pub fn of(coverage: f32, features: &WindowFeatures) -> Self {
        match &features.finding {
            None if features.undetermined.is_some() => Self::Undecided { coverage },
            finding => Self::new(coverage, finding.clone()),
        }
    }

    /// The verdict on a window with that share of its samples present.
    pub fn new(coverage: f32, finding: Option<Finding>) -> Self {
        // A coverage that is no number decides nothing either.
        if !matches!(coverage.partial_cmp(&MINIMUM_COVERAGE), Some(order) if order.is_ge()) {
            return Self::Undecided { coverage };
        }
        finding.map_or(Self::Healthy, Self::Fault)
    }

    /// Whether the window says anything.
    pub const fn is_decided(&self) -> bool {
        !matches!(self, Self::Undecided { .. })
    }

    /// Whether the window supports a fault of `element` (none: of whichever element). A fault whose
    /// element did not show speaks for each.
    pub fn supports(&self, element: Option<Element>) -> bool {
        match self {
            Self::Fault(finding) => {
                finding.element.is_none() || element.is_none() || finding.element == element
            }
            Self::Undecided { .. } | Self::Healthy => false,
        }
    }
}

/// How many windows must agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Persistence {
    required: u8,
    of: u8,
}

impl Persistence {
    /// Windows looked back on at most: the state is kept in every checkpoint, and an advisory is cleared
    /// on as many, so that what is still confirmed cannot be cleared.
    pub const LONGEST: u8 = 10;

    /// `required` of the last `of` windows; none unless it is a majority of at most
    /// [`Self::LONGEST`], since otherwise two elements could both be confirmed.
    pub const fn new(required: u8, of: u8) -> Option<Self> {
        if of <= Self::LONGEST && required <= of && 2 * required > of {
            Some(Self { required, of })
        } else {
            None
        }
    }
}

impl Persistence {
    /// How many windows must agree.
    pub const fn required(&self) -> u8 {
        self.required
    }

    /// How many windows are looked back on.
    pub const fn of(&self) -> u8 {
        self.of
    }
}

impl Default for Persistence {
    /// 3 of 5: at a chance of 1 in 1000 for one window to be wrong, 1 in 10^8 for a detection, and at
    /// windows of 1 s still a decision within 5 s.
    fn default() -> Self {
        Self { required: 3, of: 5 }
    }
}

/// What the last windows of one measurement point say together.
#[derive(Clone, PartialEq, Debug)]
pub struct Detection {
    /// What is confirmed: the strongest of the findings that agree, with no element when windows agree
    /// on a fault and not on the element.
    pub confirmed: Option<Finding>,
    /// Windows of those looked back on that claim a fault.
    pub faulty: u8,
    /// Windows of those looked back on that were decided.
    pub decided: u8,
}

/// The windows of one measurement point that are looked back on.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Detector {
    persistence: Persistence,
    /// Oldest first, `persistence.of` at most.
    recent: VecDeque<Verdict>,
    memory: EnvelopeMemory,
}

impl Detector {
    /// A detector that has seen nothing.
    pub fn new(persistence: Persistence) -> Self {
        Self {
            persistence,
            recent: VecDeque::with_capacity(persistence.of.into()),
            memory: EnvelopeMemory::default(),
        }
    }

    /// The verdict on the next window when it is heard together with those before: that of the window alone when
    /// it was not decided on, or nothing was searched.
    pub fn weigh(&mut self, verdict: Verdict, envelope: Option<&Envelope>) -> Verdict {
        match envelope {
            Some(envelope) if verdict.is_decided() => self
                .memory
                .hear(envelope)
                .map_or(Verdict::Healthy, Verdict::Fault),
            _ => verdict,
        }
    }

    /// Takes the next window's verdict, in the order of event time.
    pub fn handle_window(&mut self, verdict: Verdict) -> Detection {
        while self.recent.len() >= self.persistence.of.into() {
            self.recent.pop_front();
        }
        self.recent.push_back(verdict);
        self.detection()
    }

    /// So many windows never came. Each keeps its place and supports nothing: what was found before an
    /// outage and after it does not add up.
    pub fn handle_gap(&mut self, windows: u64) {
        if windows >= self.persistence.of.into() {
            self.memory.forget();
        }
        for _ in 0..windows.min(self.persistence.of.into()) {
            let _ = self.handle_window(Verdict::Undecided { coverage: 0.0 });
        }
    }

    fn detection(&self) -> Detection {
        let findings = || {
            self.recent.iter().filter_map(|verdict| match verdict {
                Verdict::Fault(finding) => Some(finding),
                Verdict::Undecided { .. } | Verdict::Healthy => None,
            })
        };
        let strongest = |element: Option<Element>| {
            findings()
                .filter(|finding| finding.element == element)
                .max_by(|a, b| a.score.total_cmp(&b.score))
                .cloned()
        };
        let required = usize::from(self.persistence.required);
        let faulty = findings().count();
        let element = Element::ALL.into_iter().find(|element| {
            findings()
                .filter(|finding| finding.element == Some(*element))
                .count()
                >= required
        });
        let confirmed = match element {
            Some(element) => strongest(Some(element)),
            None if faulty >= required => strongest(None).or_else(|| {
                // Each window names an element, each another: the strongest lends its evidence.
                let finding = findings().max_by(|a, b| a.score.total_cmp(&b.score))?;
                Some(Finding {
                    element: None,
                    order: 0.0,
                    ..finding.clone()
                })
            }),
            None => None,
        };
        Detection {
            confirmed,
            faulty: faulty as u8,
            decided: self.recent.iter().filter(|verdict| verdict.is_decided()).count() as u8,
        }
    }
}

/// The windows of one series, in the order of event time.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Sequence {
    detector: Detector,
    /// Where the last one ended.
    end: Option<EventTime>,
}

impl Sequence {
    /// Takes the next window in: what it says when it is heard together with those before, and what they confirm.
    /// Windows between the last one and this one that never came keep their places.
    pub fn handle_window(
        &mut self,
        start: EventTime,
        end: EventTime,
        verdict: Verdict,
        envelope: Option<&Envelope>,
    ) -> (Verdict, Detection) {
        let missed = self.end.map_or(0, |last| {
            let length = end.nanos_since(start).max(1);
            start.nanos_since(last).max(0) / length
        });
        self.detector.handle_gap(missed.unsigned_abs());
        self.end = self.end.max(Some(end));
        let verdict = self.detector.weigh(verdict, envelope);
        let detection = self.detector.handle_window(verdict.clone());
        (verdict, detection)
    }
}

/// Which of the faults that stand, given by their elements, a confirmed finding is about; none: a new one. At most
/// one stands for each element, as elements fail and are mended apart, and one without an element, which takes on
/// the first that is confirmed. A finding without an element speaks for whatever stands.
pub fn standing_for(standing: &[Option<Element>], found: Option<Element>) -> Option<usize> {
    let same = standing.iter().position(|element| *element == found);
    same.or_else(|| {
        standing
            .iter()
            .position(|element| found.is_none() || element.is_none())
    })
}

/// Windows since a fault was raised that say whether it still holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Support {
    /// Decided ones, [`Self::CLEAR_WINDOWS`] at most.
    decided: u32,
    /// Which of them supported it, the newest in the lowest bit.
    support: u32,
}

impl Support {
    /// Decided windows looked back on before a fault is given up, and how many of them may still support it.
    /// Raised on 3 of 5 and cleared on 1 of 10, so that a fault on the verge of being seen does not come and go;
    /// at windows of 1 s it clears 10 s after the last sign of it.
    pub const CLEAR_WINDOWS: u32 = 10;
    /// See [`Self::CLEAR_WINDOWS`].
    pub const CLEAR_SUPPORT: u32 = 1;

    /// Takes a decided window.
    pub fn note(&mut self, is_supported: bool) {
        let kept = (1 << Self::CLEAR_WINDOWS) - 1;
        self.support = (self.support << 1 | u32::from(is_supported)) & kept;
        self.decided = (self.decided + 1).min(Self::CLEAR_WINDOWS);
    }

    /// Whether so few support it that it is over as soon as enough have been decided.
    pub const fn is_weak(&self) -> bool {
        self.support.count_ones() <= Self::CLEAR_SUPPORT
    }

    /// Whether it is over.
    pub const fn is_over(&self) -> bool {
        self.decided == Self::CLEAR_WINDOWS && self.is_weak()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(element: Option<Element>, score: f64) -> Finding {
        Finding {
            element,
            order: 3.6,
            score,
            runner_up: 1.0,
            lines: Vec::new(),
            band_hz: (1.0, 5000.0),
            confirmed: None,
        }
    }

    /// Windows by letter: `o` outer, `i` inner, `b` ball, `u` fault without an element, `.` healthy,
    /// `?` undecided. Says what stands confirmed after each, by the same letters.
    fn confirmed_after(windows: &str) -> String {
        let mut detector = Detector::default();
        windows
            .chars()
            .map(|window| {
                let fault = |element| Verdict::new(1.0, Some(finding(element, 5.0)));
                let detection = detector.handle_window(match window {
                    'o' => fault(Some(Element::OuterRace)),
                    'i' => fault(Some(Element::InnerRace)),
                    'b' => fault(Some(Element::Ball)),
                    'u' => fault(None),
                    '.' => Verdict::new(1.0, None),
                    _ => Verdict::new(0.9, Some(finding(Some(Element::OuterRace), 9.0))),
                });
                match detection.confirmed.map(|finding| finding.element) {
                    Some(Some(Element::OuterRace)) => 'o',
                    Some(Some(Element::InnerRace)) => 'i',
                    Some(Some(Element::Ball)) => 'b',
                    Some(Some(Element::Cage)) => 'c',
                    Some(None) => 'u',
                    None => '.',
                }
            })
            .collect()
    }

    fn check(windows: &str, confirmed: &str) {
        assert_eq!(confirmed_after(windows), confirmed, "after {windows}");
    }

    #[test]
    fn three_of_five_confirm_and_two_do_not() {
        check("ooo", "..o");
        check("o.o.o", "....o");
        check("oo...o", "......");
        check("ooo.....", "..ooo...");
    }

    #[test]
    fn an_undecided_window_keeps_its_place_and_supports_nothing() {
        check("???", "...");
        check("oo?o", "...o");
        check("oo???o", "......");
    }

    #[test]
    fn an_outage_does_not_add_up_what_lies_around_it() {
        for (missing, confirms) in [(2, true), (3, false), (u64::MAX, false)] {
            let mut detector = Detector::default();
            let fault = || Verdict::Fault(finding(Some(Element::Cage), 4.0));
            detector.handle_window(fault());
            detector.handle_window(fault());
            detector.handle_gap(missing);
            assert_eq!(
                detector.handle_window(fault()).confirmed.is_some(),
                confirms,
                "{missing}"
            );
        }
    }

    #[test]
    fn windows_that_disagree_on_the_element_leave_it_undetermined() {
        check("oib", "..u");
        check("uuu", "..u");
        check("oouo", "..uo");
        check("oooiii", "..oooi");
    }

    #[test]
    fn coverage_decides_whether_a_window_speaks() {
        assert_eq!(Verdict::new(0.95, None), Verdict::Healthy);
        assert_eq!(Verdict::new(0.949, None), Verdict::Undecided { coverage: 0.949 });
        assert!(!Verdict::new(f32::NAN, None).is_decided());
    }

    #[test]
    fn the_strongest_of_the_agreeing_windows_is_the_evidence() {
        let mut detector = Detector::default();
        let mut last = None;
        for score in [5.0, 7.0, 6.0] {
            last = detector
                .handle_window(Verdict::Fault(finding(Some(Element::Ball), score)))
                .confirmed;
        }
        assert_eq!(last.map(|finding| finding.score), Some(7.0));
    }

    #[test]
    fn only_a_majority_is_a_persistence() {
        assert!(Persistence::new(3, 5).is_some());
        assert!(Persistence::new(1, 1).is_some());
        assert!(Persistence::new(2, 4).is_none());
        assert!(Persistence::new(6, 5).is_none());
        assert!(Persistence::new(0, 0).is_none());
        assert!(Persistence::new(6, 11).is_none());
    }

    #[test]
    fn a_finding_is_about_its_element_else_about_one_that_is_not_named() {
        let [outer, inner] = [Some(Element::OuterRace), Some(Element::InnerRace)];
        for (standing, found, expected) in [
            (&[][..], outer, None),
            (&[outer], outer, Some(0)),
            (&[outer], inner, None),
            (&[outer, None], inner, Some(1)),
            (&[None, inner], inner, Some(1)),
            (&[outer, inner], None, Some(0)),
        ] {
            assert_eq!(standing_for(standing, found), expected, "{standing:?}, {found:?}");
        }
    }

    #[test]
    fn a_fault_is_over_when_one_of_ten_decided_windows_supports_it_at_most() {
        let mut support = Support::default();
        assert!(support.is_weak());
        let over = |supported: bool, support: &mut Support| {
            support.note(supported);
            support.is_over()
        };
        assert!((0..9).all(|at| !over(at < 2, &mut support)));
        assert!(!over(false, &mut support), "two of ten");
        assert!(over(false, &mut support), "one of ten");
    }

    #[test]
    fn windows_that_never_came_keep_their_places_in_a_sequence() {
        let second = |n: i64| EventTime(n * 1_000_000_000);
        let fault = || Verdict::Fault(finding(Some(Element::Cage), 4.0));
        let confirmed = |seconds: [i64; 3]| {
            let mut sequence = Sequence::default();
            let confirmed = seconds.map(|n| {
                let (_, detection) = sequence.handle_window(second(n), second(n + 1), fault(), None);
                detection.confirmed.is_some()
            });
            confirmed[2]
        };
        assert!(confirmed([0, 1, 2]) && confirmed([0, 2, 4]));
        assert!(!confirmed([0, 1, 5]));
    }

    #[test]
    fn state_survives_a_checkpoint() {
        let mut detector = Detector::default();
        let fault = || Verdict::Fault(finding(Some(Element::Cage), 4.0));
        detector.handle_window(fault());
        detector.handle_window(fault());
        let saved = postcard::to_stdvec(&detector).unwrap();
        let mut restored: Detector = postcard::from_bytes(&saved).unwrap();
        assert_eq!(restored, detector);
        assert!(restored.handle_window(fault()).confirmed.is_some());
    }
}
