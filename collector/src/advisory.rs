//! Raise, hold, clear: advisories with hysteresis. Pure.
//!
//! There is at most one advisory for each asset, measurement point and [`Cause`]: what further windows and
//! other directions say changes the one that stands. [`Advisories`] are of bearing faults, whose evidence is
//! collected window by window; [`Notices`] are of conditions whose level a monitor holds
//! ([`trunnion_common::monitor`]), and of causes that spectra suspect while such a condition holds
//! ([`trunnion_diagnosis::diagnosis`]): they are as bad as what they explain, and are over with it at the latest.

mod notice;
mod recommendation;
mod unusual;

pub use notice::{Notices, Observation};
pub(crate) use recommendation::of_bearing as recommendation;
pub use unusual::UnusualEvidence;

use crate::prognosis::Forecast;
use serde::{Deserialize, Serialize};
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::definition::WatchedBand;
use trunnion_common::instrument::Fault;
use trunnion_common::level::Level;
use trunnion_common::monitor;
use trunnion_common::severity::Zone;
use trunnion_common::time::EventTime;
use trunnion_diagnosis::bearing::Element;
use trunnion_diagnosis::detection::{BEARING_LEVEL, Detection, Support, Verdict, standing_for};
use trunnion_diagnosis::diagnosis::{self, Suspicion, Undetermined};
use trunnion_diagnosis::features::Finding;

/// What an advisory is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A bearing; the element is none when undetermined.
    Bearing(Option<Element>),
    /// The overall vibration.
    Severity,
    /// Another feature that is off its limits or its normal.
    Deviation(FeatureKind),
    /// What a shaft, a gear, a wheel with blades or a motor may have, by the lines of a spectrum.
    Suspected(diagnosis::Cause),
    /// The instrument, and not the machine.
    Instrument,
    /// Slow channels that are not as they were: no limit says that it is bad.
    Unusual,
    /// A feature that has moved off its normal over days.
    Drift,
    /// A decline that machines of its kind have shown before they failed.
    RemainingLife,
}

impl Cause {
    /// The kind of cause on the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Bearing(_) => "bearing",
            Self::Severity => "severity",
            Self::Deviation(_) => "deviation",
            Self::Suspected(_) => "suspected",
            Self::Instrument => "instrument",
            Self::Unusual => "unusual",
            Self::Drift => "drift",
            Self::RemainingLife => "remaining_life",
        }
    }

    /// What stands for it in an advisory's id.
    fn slug(self) -> &'static str {
        match self {
            Self::Bearing(element) => element.map_or("undetermined", Element::label),
            Self::Deviation(kind) => kind.label(),
            Self::Suspected(cause) => cause.label(),
            Self::Severity | Self::Instrument | Self::Unusual | Self::Drift | Self::RemainingLife => {
                self.label()
            }
        }
    }

    /// The element of a bearing, where that is meant and clear.
    pub const fn element(self) -> Option<Element> {
        match self {
            Self::Bearing(element) => element,
            Self::Severity
            | Self::Deviation(_)
            | Self::Suspected(_)
            | Self::Instrument
            | Self::Unusual
            | Self::Drift
            | Self::RemainingLife => None,
        }
    }
}

/// What an advisory rests on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// Lines of an envelope spectrum.
    Lines(Finding),
    /// A value and the limit that it was compared with.
    Limit(LimitEvidence),
    /// Lines of a spectrum by order of the shaft's speed.
    Orders {
        /// Which channel of the point, so in which direction.
        channel: String,
        /// What they say.
        suspicion: Suspicion,
    },
    /// What is wrong with the instrument.
    Instrument {
        /// Which channel of the point.
        channel: String,
        /// What.
        fault: Fault,
    },
    /// How far slow channels are from what they were.
    Unusual(UnusualEvidence),
    /// How far a feature has moved.
    Drift {
        /// Which channel of the point.
        channel: String,
        /// Which feature.
        feature: FeatureKind,
        /// Mean of the last day, in standard deviations of the normal from its middle.
        deviations: f32,
    },
    /// What was learned of machines of its kind.
    Fleet {
        /// The name of what was learned.
        model: String,
    },
}

/// Why a machine vibrates as it does, as far as its spectra tell.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Explanation {
    /// Advisories of the same point that say what may be wrong: what its spectra suspect, else its bearing.
    Suspected(Vec<Explaining>),
    /// The spectra were looked at, and do not tell.
    Undetermined(Undetermined),
    /// It is heard from another point of the machine, which has risen more.
    Transmitted(String),
    /// All points of the machine have risen alike.
    Shared,
}

/// An advisory that explains another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Explaining {
    /// What it is about.
    pub cause: Cause,
    /// Its id.
    pub advisory: String,
}

/// A value and the limit that it was compared with.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LimitEvidence {
    /// Which channel of the point, so in which direction.
    pub channel: String,
    /// Which feature.
    pub feature: FeatureKind,
    /// Its value, in its unit.
    pub value: f32,
    /// The limit.
    pub limit: f32,
    /// Whether lower values than the limit are the bad ones.
    pub is_below: bool,
    /// What is normal, where that has been accepted.
    pub normal: Option<f32>,
    /// Whether the limit follows from the normal, or holds whatever that is.
    pub basis: monitor::Basis,
    /// The zone, where severity is meant.
    pub zone: Option<Zone>,
    /// By which standard and edition, where severity is meant.
    pub standard: Option<String>,
    /// Which part of the spectrum, where a band of the point's own is meant.
    #[serde(default)]
    pub band: Option<WatchedBand>,
}

/// What a person is told about an asset.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Advisory {
    /// Stable id: `<asset>/<point>/<cause>/<raised ns>`, with the element it was raised with where that is the
    /// cause.
    pub id: String,
    /// Asset id of the fleet file.
    pub asset: String,
    /// Measurement point id.
    pub point: String,
    /// What it is about.
    pub cause: Cause,
    /// How bad it is: the highest level that holds, and of one that is over the last that held.
    pub level: Level,
    /// End of the window that raised it (event time); where a gateway tells later that it has held it for longer,
    /// of the gateway's.
    pub raised: EventTime,
    /// End of the window that cleared it; none while it stands.
    pub cleared: Option<EventTime>,
    /// End of the last window that supported it.
    pub last_seen: EventTime,
    /// The strongest so far.
    pub evidence: Evidence,
    /// What to do about it, in a sentence.
    pub recommendation: String,
    /// Whether it rests on history rather than on live data.
    pub backfill: bool,
    /// What may be wrong, where this is about the overall vibration and its spectra were looked at; whose a rise
    /// is, where it is not the point's own. What is told has it; what stands does not keep it.
    #[serde(default)]
    pub explanation: Option<Explanation>,
    /// How long the point's machine has left, where that is followed; of one that is over, none. What is told
    /// has it; what stands does not keep it.
    #[serde(default)]
    pub remaining_life: Option<Forecast>,
}

/// A change to show, store and count.
#[derive(Clone, PartialEq, Debug)]
pub enum AdvisoryChange {
    /// New.
    Raised(Advisory),
    /// Same advisory, newer evidence.
    Updated(Advisory),
    /// Over.
    Cleared(Advisory),
    /// History shows that there was one; it is over, and says nothing of now ([`crate::history`]).
    Found(Advisory),
}

/// The advisories of one measurement point: at most one for each element, as elements fail and are
/// mended apart, and one without an element, which takes on the first that is confirmed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Advisories {
    asset: String,
    point: String,
    standing: Vec<Standing>,
}

impl Advisories {
    /// While nothing else changes, the last sign of a fault is reported this often, in nanoseconds of
    /// event time: a fault shows in every window, and nobody needs each of them told.
    pub const REFRESH_NS: i64 = 60_000_000_000;

    /// The evidence is replaced when a finding is stronger by this factor, for the same reason.
    pub const STRONGER: f64 = 1.1;

    /// A point without advisories.
    pub fn new(asset: impl Into<String>, point: impl Into<String>) -> Self {
        Self {
            asset: asset.into(),
            point: point.into(),
            standing: Vec::new(),
        }
    }

    /// The advisories that stand, oldest first.
    pub fn standing(&self) -> impl Iterator<Item = &Advisory> {
        self.standing.iter().map(|standing| &standing.advisory)
    }

    /// Takes the next live window, in the order of event time: its end, what it says itself, and what it says
    /// together with those before it.
    ///
    /// Returns at most one change for each advisory. An undecided window changes nothing: a machine that
    /// is not observed is not mended. What a gateway still holds (`is_held`) is not over.
    pub fn handle_window(
        &mut self,
        end: EventTime,
        verdict: &Verdict,
        detection: &Detection,
        is_held: impl Fn(Option<Element>) -> bool,
    ) -> Vec<AdvisoryChange> {
        if !verdict.is_decided() {
            return Vec::new();
        }
        let news = detection
            .confirmed
            .as_ref()
            .and_then(|finding| self.confirm(end, finding));
        let mut changes = Vec::new();
        for (index, standing) in self.standing.iter_mut().enumerate() {
            let supported = verdict.supports(standing.element());
            standing.support.note(supported);
            if supported {
                standing.advisory.last_seen = end;
            }
            let refresh = supported && end.nanos_since(standing.told) >= Self::REFRESH_NS;
            let change = match news {
                Some((of, change)) if of == index => change,
                _ if standing.support.is_over() && !is_held(standing.element()) => {
                    standing.advisory.cleared = Some(end);
                    AdvisoryChange::Cleared
                }
                _ if refresh => AdvisoryChange::Updated,
                _ => continue,
            };
            standing.told = end;
            changes.push(change(standing.advisory.clone()));
        }
        self.standing
            .retain(|standing| standing.advisory.cleared.is_none());
        changes
    }

    /// A gateway holds a fault since a time, as of another: the one that stands, or a new one.
    pub fn hold(
        &mut self,
        (raised, at): (EventTime, EventTime),
        finding: &Finding,
    ) -> Option<AdvisoryChange> {
        let news = self.confirm(raised, finding);
        let position = news
            .map(|(of, _)| of)
            .or_else(|| self.position(finding.element))?;
        let standing = self.standing.get_mut(position)?;
        let advisory = &mut standing.advisory;
        let is_earlier = raised < advisory.raised;
        advisory.raised = advisory.raised.min(raised);
        advisory.last_seen = advisory.last_seen.max(at);
        standing.told = standing.told.max(at);
        let change = match news {
            Some((_, change)) => change,
            None if is_earlier => AdvisoryChange::Updated,
            None => return None,
        };
        Some(change(standing.advisory.clone()))
    }

    /// A gateway gives up what it held: over, unless windows that were seen here say otherwise.
    pub fn give_up(&mut self, at: EventTime, element: Option<Element>) -> Option<AdvisoryChange> {
        let is_over = |standing: &Standing| standing.element() == element && standing.support.is_weak();
        let position = self.standing.iter().position(is_over)?;
        let mut advisory = self.standing.remove(position).advisory;
        advisory.cleared = Some(at);
        Some(AdvisoryChange::Cleared(advisory))
    }

    /// Raises, upgrades or strengthens an advisory with what is confirmed; says which, and the change.
    fn confirm(&mut self, end: EventTime, finding: &Finding) -> Option<(usize, Change)> {
        let Some(position) = self.position(finding.element) else {
            let advisory = self.raise(end, finding);
            self.standing.push(Standing {
                advisory,
                support: Support::default(),
                told: end,
            });
            return Some((self.standing.len() - 1, AdvisoryChange::Raised));
        };
        let standing = &mut self.standing[position];
        let upgrade = standing.element().is_none() && finding.element.is_some();
        let stronger = standing.element() == finding.element
            && finding.score >= Self::STRONGER * standing.advisory.evidence.score();
        if !(upgrade || stronger) {
            return None;
        }
        let advisory = &mut standing.advisory;
        advisory.cause = Cause::Bearing(finding.element);
        advisory.evidence = Evidence::Lines(finding.clone());
        advisory.recommendation = recommendation(finding.element).to_owned();
        Some((position, AdvisoryChange::Updated))
    }

    fn position(&self, found: Option<Element>) -> Option<usize> {
        let standing: Vec<_> = self.standing.iter().map(Standing::element).collect();
        standing_for(&standing, found)
    }

    fn raise(&self, end: EventTime, finding: &Finding) -> Advisory {
        let cause = Cause::Bearing(finding.element);
        Advisory {
            id: format!("{}/{}/{}/{}", self.asset, self.point, cause.slug(), end.0),
            asset: self.asset.clone(),
            point: self.point.clone(),
            cause,
            level: BEARING_LEVEL,
            raised: end,
            cleared: None,
            last_seen: end,
            evidence: Evidence::Lines(finding.clone()),
            recommendation: recommendation(finding.element).to_owned(),
            backfill: false,
            explanation: None,
            remaining_life: None,
        }
    }
}

impl Evidence {
    /// How strong lines are; 0 for other evidence, which is not compared by strength.
    pub(crate) const fn score(&self) -> f64 {
        match self {
            Self::Lines(finding) => finding.score,
            Self::Limit(_)
            | Self::Orders { .. }
            | Self::Instrument { .. }
            | Self::Unusual(_)
            | Self::Drift { .. }
            | Self::Fleet { .. } => 0.0,
        }
    }
}

type Change = fn(Advisory) -> AdvisoryChange;

impl AdvisoryChange {
    /// The advisory as it is after the change.
    pub const fn advisory(&self) -> &Advisory {
        match self {
            Self::Raised(advisory)
            | Self::Updated(advisory)
            | Self::Cleared(advisory)
            | Self::Found(advisory) => advisory,
        }
    }

    /// The same, to be completed before it is told.
    pub(crate) const fn advisory_mut(&mut self) -> &mut Advisory {
        match self {
            Self::Raised(advisory)
            | Self::Updated(advisory)
            | Self::Cleared(advisory)
            | Self::Found(advisory) => advisory,
        }
    }
}

/// An advisory and the windows since that say whether it still holds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Standing {
    advisory: Advisory,
    support: Support,
    /// When it was last reported.
    told: EventTime,
}

impl Standing {
    const fn element(&self) -> Option<Element> {
        self.advisory.cause.element()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_diagnosis::detection::Detector;

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

    /// A point fed with windows of 1 s through the detector.
    struct Point {
        detector: Detector,
        advisories: Advisories,
        seconds: i64,
    }

    impl Point {
        fn new() -> Self {
            Self {
                detector: Detector::default(),
                advisories: Advisories::new("pump-1", "de"),
                seconds: 0,
            }
        }

        /// Windows by letter: `o` outer, `O` the same stronger, `i` inner, `u` without an element,
        /// `.` healthy, `?` undecided. Says what changed, with the second.
        fn feed(&mut self, windows: &str) -> Vec<String> {
            windows.chars().flat_map(|window| self.window(window)).collect()
        }

        fn window(&mut self, window: char) -> Vec<String> {
            self.seconds += 1;
            let fault = |element, score| Verdict::Fault(finding(element, score));
            let verdict = match window {
                'o' => fault(Some(Element::OuterRace), 5.0),
                'O' => fault(Some(Element::OuterRace), 8.0),
                'i' => fault(Some(Element::InnerRace), 5.0),
                'u' => fault(None, 5.0),
                '.' => Verdict::Healthy,
                _ => Verdict::Undecided { coverage: 0.5 },
            };
            let detection = self.detector.handle_window(verdict.clone());
            let end = EventTime(self.seconds * 1_000_000_000);
            self.advisories
                .handle_window(end, &verdict, &detection, |_| false)
                .into_iter()
                .map(|change| {
                    let word = match &change {
                        AdvisoryChange::Raised(_) => "raised",
                        AdvisoryChange::Updated(_) => "updated",
                        AdvisoryChange::Cleared(_) => "cleared",
                        AdvisoryChange::Found(_) => "found",
                    };
                    let element = change
                        .advisory()
                        .cause
                        .element()
                        .map_or("undetermined", Element::label);
                    format!("{} {word} {element}", self.seconds)
                })
                .collect()
        }
    }

    fn check(windows: &str, expected: &[&str]) {
        assert_eq!(Point::new().feed(windows), expected, "after {windows}");
    }

    #[test]
    fn an_advisory_is_raised_once_and_held() {
        check("oo", &[]);
        check("ooooooo", &["3 raised outer_race"]);
        check("ooo.o..o.o..o", &["3 raised outer_race"]);
    }

    #[test]
    fn it_clears_when_one_of_ten_windows_supports_it_and_not_before() {
        check("ooo.........", &["3 raised outer_race", "12 cleared outer_race"]);
        check("ooo........o", &["3 raised outer_race"]);
        check("ooo........o.", &["3 raised outer_race", "13 cleared outer_race"]);
    }

    #[test]
    fn a_machine_that_is_not_observed_is_not_mended() {
        check("ooo????????????????????????????", &["3 raised outer_race"]);
        check("ooo..........", &["3 raised outer_race", "12 cleared outer_race"]);
    }

    #[test]
    fn stronger_evidence_updates_it() {
        check("oooOooo", &["3 raised outer_race", "4 updated outer_race"]);
    }

    #[test]
    fn a_fault_that_stays_is_reported_once_a_minute() {
        check(
            &"o".repeat(130),
            &[
                "3 raised outer_race",
                "63 updated outer_race",
                "123 updated outer_race",
            ],
        );
    }

    #[test]
    fn an_element_found_later_upgrades_the_same_advisory() {
        let mut point = Point::new();
        assert_eq!(point.feed("uuu"), ["3 raised undetermined"]);
        let id = point.advisories.standing().next().unwrap().id.clone();
        assert_eq!(id, "pump-1/de/undetermined/3000000000");
        assert_eq!(point.feed("ooo"), ["6 updated outer_race"]);
        let standing: Vec<_> = point.advisories.standing().collect();
        assert_eq!((standing.len(), &standing[0].id), (1, &id));
        assert_eq!(standing[0].cause.element(), Some(Element::OuterRace));
    }

    #[test]
    fn a_fault_without_an_element_supports_the_one_that_stands() {
        check("ooouuuuuuuuuuuuuuu", &["3 raised outer_race"]);
    }

    #[test]
    fn two_elements_stand_and_clear_apart() {
        check(
            "oooiii.......",
            &[
                "3 raised outer_race",
                "6 raised inner_race",
                "12 cleared outer_race",
            ],
        );
    }

    #[test]
    fn what_a_gateway_holds_is_the_advisory_that_stands_or_a_new_one() {
        let second = |n: i64| EventTime(n * 1_000_000_000);
        let outer = Some(Element::OuterRace);
        let mut point = Point::new();
        point.feed("ooooo");
        let held = point
            .advisories
            .hold((second(1), second(6)), &finding(outer, 5.0))
            .unwrap();
        let AdvisoryChange::Updated(advisory) = held else {
            panic!("{held:?}");
        };
        assert_eq!((advisory.raised, advisory.last_seen), (second(1), second(6)));
        assert_eq!(advisory.id, "pump-1/de/outer_race/3000000000");
        let again = point.advisories.hold((second(1), second(4)), &finding(None, 9.0));
        assert_eq!(again, None, "without an element it speaks for what stands");
        let inner = finding(Some(Element::InnerRace), 5.0);
        let other = point.advisories.hold((second(5), second(5)), &inner);
        assert!(matches!(other, Some(AdvisoryChange::Raised(_))), "{other:?}");
        assert_eq!(point.advisories.standing().count(), 2);
        // Windows show the one, and nobody but the gateway the other.
        assert_eq!(point.advisories.give_up(second(6), outer), None);
        let over = point.advisories.give_up(second(6), inner.element);
        assert!(matches!(over, Some(AdvisoryChange::Cleared(_))), "{over:?}");
    }

    #[test]
    fn state_survives_a_checkpoint() {
        let mut point = Point::new();
        point.feed("ooo.....");
        let saved = postcard::to_stdvec(&point.advisories).unwrap();
        point.advisories = postcard::from_bytes(&saved).unwrap();
        assert_eq!(point.feed("...."), ["12 cleared outer_race"]);
    }
}
