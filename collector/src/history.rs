//! What history shows: faults of the past, told as such. Pure.
//!
//! History (the backfill lane) says how things were, comes in either direction, and comes beside live
//! samples. So it never reaches the detector and the advisories that say how things are: it neither
//! raises one nor clears one. [`History`] puts the verdicts on its windows in the order of event time and
//! looks back on them as detection does. A fault that is confirmed becomes an advisory that was over
//! before it was known: flagged as backfill, and cleared at the end of the last window that shows it.
//! In which order the windows came makes no difference, but to the advisory's id.
//!
//! | memory of a series | bound | what happens there |
//! |---|---|---|
//! | verdicts | [`VERDICTS_MAX`] | the one farthest in time from the newest goes |
//! | advisories that may still grow | [`EPISODES_MAX`] | the one that grew longest ago stays as it was told |

use crate::advisory::{Advisory, Cause, Evidence, recommendation};
use crate::state::SeriesKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trunnion_common::time::EventTime;
use trunnion_diagnosis::bearing::Element;
use trunnion_diagnosis::detection::{BEARING_LEVEL, Detector, Persistence, Verdict};
use trunnion_diagnosis::features::Finding;

/// Verdicts kept per series: many times what detection looks back on.
pub const VERDICTS_MAX: usize = 64;

/// Advisories per series that further windows may extend.
pub const EPISODES_MAX: usize = 8;

/// Signs of a fault this close to each other are one fault, nanoseconds: an advisory that stands is
/// told of again as often.
pub const REACH_NS: i64 = crate::advisory::Advisories::REFRESH_NS;

/// What the history of one series shows.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// By the window's end.
    verdicts: BTreeMap<EventTime, Verdict>,
    /// The one that grew last at the end.
    episodes: Vec<Advisory>,
}

/// A fault in history.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// The advisory as it is now.
    pub advisory: Advisory,
    /// Whether it is a new one.
    pub is_new: bool,
}

impl History {
    /// Takes a window in, in whatever order: its end, its length, and what it says.
    pub fn handle_window(
        &mut self,
        series: &SeriesKey,
        end: EventTime,
        length_ns: i64,
        verdict: Verdict,
    ) -> Option<Found> {
        let is_fault = matches!(verdict, Verdict::Fault(_));
        self.verdicts.insert(end, verdict);
        if self.verdicts.len() > VERDICTS_MAX {
            let far = |entry: Option<(&EventTime, _)>| entry.map_or(0, |(at, _)| at.0.abs_diff(end.0));
            if far(self.verdicts.first_key_value()) > far(self.verdicts.last_key_value()) {
                self.verdicts.pop_first();
            } else {
                self.verdicts.pop_last();
            }
        }
        let (finding, span) = is_fault.then(|| self.confirmed(end, length_ns)).flatten()?;
        Some(self.tell(series, &finding, span))
    }

    /// What the windows around `end` confirm together with it, and from where to where it shows.
    fn confirmed(&self, end: EventTime, length_ns: i64) -> Option<(Finding, (EventTime, EventTime))> {
        let mut detector = Detector::new(Persistence::default());
        let back = i64::from(Persistence::default().of()) - 1;
        let at = |place: i64| end.plus_nanos(length_ns.saturating_mul(place));
        let mut best: Option<Finding> = None;
        let mut span = (end, end);
        for place in -back..=back {
            let verdict = self.verdicts.get(&at(place)).cloned();
            let verdict = verdict.unwrap_or(Verdict::Undecided { coverage: 0.0 });
            let detection = detector.handle_window(verdict);
            let Some(finding) = detection.confirmed.filter(|_| place >= 0) else {
                continue;
            };
            for end in (place - back..=place).map(at) {
                let verdict = self.verdicts.get(&end);
                if verdict.is_some_and(|verdict| verdict.supports(finding.element)) {
                    span = (span.0.min(end), span.1.max(end));
                }
            }
            if best.as_ref().is_none_or(|best| finding.score > best.score) {
                best = Some(finding);
            }
        }
        best.map(|finding| (finding, span))
    }

    fn tell(
        &mut self,
        series: &SeriesKey,
        finding: &Finding,
        (first, last): (EventTime, EventTime),
    ) -> Found {
        let near = |known: &Advisory| {
            known.raised.plus_nanos(-REACH_NS) <= last && first <= known.last_seen.plus_nanos(REACH_NS)
        };
        let same = |known: &Advisory| {
            let element = known.cause.element();
            element == finding.element || element.is_none() || finding.element.is_none()
        };
        let known = self.episodes.iter().rposition(|known| near(known) && same(known));
        let mut advisory = match known {
            Some(at) => self.episodes.remove(at),
            None => begin(series, finding, (first, last)),
        };
        advisory.raised = advisory.raised.min(first);
        advisory.last_seen = advisory.last_seen.max(last);
        advisory.cleared = Some(advisory.last_seen);
        let element = advisory.cause.element();
        let upgrade = element.is_none() && finding.element.is_some();
        if upgrade || (element == finding.element && finding.score > advisory.evidence.score()) {
            advisory.cause = Cause::Bearing(finding.element);
            advisory.evidence = Evidence::Lines(finding.clone());
            recommendation(finding.element).clone_into(&mut advisory.recommendation);
        }
        self.episodes.push(advisory.clone());
        if self.episodes.len() > EPISODES_MAX {
            self.episodes.remove(0);
        }
        Found {
            advisory,
            is_new: known.is_none(),
        }
    }
}

fn begin(series: &SeriesKey, finding: &Finding, (first, last): (EventTime, EventTime)) -> Advisory {
    let element = finding.element.map_or("undetermined", Element::label);
    let SeriesKey {
        asset,
        point,
        channel,
    } = series;
    Advisory {
        id: format!("{asset}/{point}/{element}/history/{channel}/{}", last.0),
        asset: asset.clone(),
        point: point.clone(),
        cause: Cause::Bearing(finding.element),
        level: BEARING_LEVEL,
        raised: first,
        cleared: Some(last),
        last_seen: last,
        evidence: Evidence::Lines(finding.clone()),
        recommendation: recommendation(finding.element).to_owned(),
        backfill: true,
        explanation: None,
        remaining_life: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000_000;

    fn series() -> SeriesKey {
        SeriesKey {
            asset: "pump-1".into(),
            point: "de".into(),
            channel: "v".into(),
        }
    }

    fn verdict(letter: u8, score: f64) -> Verdict {
        let fault = |element| {
            Verdict::Fault(Finding {
                element,
                order: 3.6,
                score,
                runner_up: 1.0,
                lines: Vec::new(),
                band_hz: (1.0, 5000.0),
                confirmed: None,
            })
        };
        match letter {
            b'o' => fault(Some(Element::OuterRace)),
            b'i' => fault(Some(Element::InnerRace)),
            b'u' => fault(None),
            b'.' => Verdict::Healthy,
            _ => Verdict::Undecided { coverage: 0.5 },
        }
    }

    /// Windows of 1 s by letter, taken in the given order; the advisories as they are at the end:
    /// element, from and to second.
    fn found(windows: &str, order: &[usize]) -> Vec<(Option<Element>, i64, i64)> {
        let mut history = History::default();
        let mut told = BTreeMap::new();
        for &at in order {
            let end = EventTime((at as i64 + 1) * SECOND);
            let verdict = verdict(windows.as_bytes()[at], 5.0 + at as f64);
            if let Some(found) = history.handle_window(&series(), end, SECOND, verdict) {
                assert!(found.advisory.backfill && found.advisory.cleared == Some(found.advisory.last_seen));
                assert_eq!(found.is_new, !told.contains_key(&found.advisory.id));
                told.insert(found.advisory.id.clone(), found.advisory);
            }
        }
        let mut told: Vec<_> = told
            .into_values()
            .map(|told| {
                (
                    told.cause.element(),
                    told.raised.0 / SECOND,
                    told.last_seen.0 / SECOND,
                )
            })
            .collect();
        told.sort_by_key(|told| told.1);
        told
    }

    fn check(windows: &str, expected: &[(Option<Element>, i64, i64)]) {
        let forth: Vec<_> = (0..windows.len()).collect();
        let back: Vec<_> = forth.iter().rev().copied().collect();
        assert_eq!(found(windows, &forth), expected, "{windows} oldest first");
        assert_eq!(found(windows, &back), expected, "{windows} newest first");
    }

    #[test]
    fn three_of_five_in_event_time_are_a_fault_and_two_are_not() {
        check("..oo.....oo...", &[]);
        check("..o.o.o...", &[(Some(Element::OuterRace), 3, 7)]);
        check("..oooooo..", &[(Some(Element::OuterRace), 3, 8)]);
        check("oo????o", &[]);
    }

    #[test]
    fn an_element_that_shows_later_is_what_it_was_about() {
        check("uuuoooo", &[(Some(Element::OuterRace), 1, 7)]);
    }

    #[test]
    fn faults_far_apart_are_told_apart() {
        let windows = format!("ooo{}ooo", ".".repeat(70));
        let outer = Some(Element::OuterRace);
        let forth: Vec<_> = (0..windows.len()).collect();
        assert_eq!(found(&windows, &forth), [(outer, 1, 3), (outer, 74, 76)]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut history = History::default();
        for n in 0..10_000 {
            let verdict = verdict(if n % 100 < 5 { b'o' } else { b'.' }, 5.0);
            history.handle_window(&series(), EventTime(n * SECOND), SECOND, verdict);
        }
        assert_eq!(
            (history.verdicts.len(), history.episodes.len()),
            (VERDICTS_MAX, EPISODES_MAX)
        );
    }

    proptest! {
        #[test]
        fn the_order_of_arrival_does_not_show(
            (windows, order) in ("[o.?]{12}", Just((0..12usize).collect::<Vec<_>>()).prop_shuffle()),
        ) {
            let forth: Vec<_> = (0..windows.len()).collect();
            prop_assert_eq!(found(&windows, &order), found(&windows, &forth));
        }
    }
}
