//! Advisories of conditions whose level a monitor holds: one for each point and cause, over all its channels.

use super::recommendation::{of_deviation, of_drift, of_fault, of_remaining_life, of_severity, of_unusual};
use super::{Advisories, Advisory, AdvisoryChange, Cause, Evidence};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trunnion_common::instrument::Fault;
use trunnion_common::level::Level;
use trunnion_common::time::EventTime;

/// What one window of one channel says about a cause.
#[derive(Clone, PartialEq, Debug)]
pub struct Observation {
    /// Channel id within the point.
    pub channel: String,
    /// About what.
    pub cause: Cause,
    /// When: the window's end.
    pub at: EventTime,
    /// The level that the channel's monitor holds.
    pub held: Level,
    /// Whether this window itself reaches a level.
    pub is_seen: bool,
    /// What it shows; none where it was not judged.
    pub evidence: Option<Evidence>,
}

/// The notices of one measurement point: at most one for each cause.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Notices {
    asset: String,
    point: String,
    standing: Vec<Notice>,
}

/// An advisory and who supports it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Notice {
    advisory: Advisory,
    /// Channels whose monitor holds a level.
    levels: BTreeMap<String, Level>,
    /// When it was last reported.
    told: EventTime,
}

impl Notices {
    /// A point of which nothing is to be told.
    pub fn new(asset: impl Into<String>, point: impl Into<String>) -> Self {
        Self {
            asset: asset.into(),
            point: point.into(),
            standing: Vec::new(),
        }
    }

    /// The advisories that stand, oldest first.
    pub fn standing(&self) -> impl Iterator<Item = &Advisory> {
        self.standing.iter().map(|notice| &notice.advisory)
    }

    /// Channels and causes that stand.
    pub fn causes(&self) -> Vec<(String, Cause)> {
        let of = |notice: &Notice| {
            let cause = notice.advisory.cause;
            let channels: Vec<_> = notice.levels.keys().map(|id| (id.clone(), cause)).collect();
            channels
        };
        self.standing.iter().flat_map(of).collect()
    }

    /// Takes what a window says in; returns what is to be told.
    pub fn handle(&mut self, observation: Observation) -> Option<AdvisoryChange> {
        let cause = observation.cause;
        let Some(index) = self
            .standing
            .iter()
            .position(|notice| notice.advisory.cause == cause)
        else {
            return self.raise(observation);
        };
        let notice = &mut self.standing[index];
        let change = notice.handle(observation)?;
        if notice.advisory.cleared.is_some() {
            self.standing.remove(index);
        }
        Some(change)
    }

    /// Takes what a gateway says in, which has held it since `raised`: what stands is as old.
    pub fn hear(&mut self, observation: Observation, raised: EventTime) -> Option<AdvisoryChange> {
        let (cause, is_held) = (observation.cause, observation.held > Level::Normal);
        let change = self.handle(observation);
        let is_younger = |notice: &&mut Notice| {
            let advisory = &notice.advisory;
            is_held && advisory.cause == cause && advisory.raised > raised
        };
        let Some(notice) = self.standing.iter_mut().find(is_younger) else {
            return change;
        };
        notice.advisory.raised = raised;
        let advisory = notice.advisory.clone();
        Some(match change {
            Some(AdvisoryChange::Raised(_)) => AdvisoryChange::Raised(advisory),
            _ => AdvisoryChange::Updated(advisory),
        })
    }

    fn raise(&mut self, observation: Observation) -> Option<AdvisoryChange> {
        let (channel, held, at) = (observation.channel.clone(), observation.held, observation.at);
        let advisory = observation.advisory(&self.asset, &self.point)?;
        self.standing.push(Notice {
            advisory: advisory.clone(),
            levels: BTreeMap::from([(channel, held)]),
            told: at,
        });
        Some(AdvisoryChange::Raised(advisory))
    }
}

impl Observation {
    /// What is told of it; none where nothing is held.
    fn advisory(self, asset: &str, point: &str) -> Option<Advisory> {
        let Self { cause, at, held, .. } = self;
        // A level is held from a window on that was judged, so that there is evidence.
        let evidence = self.evidence.filter(|_| held > Level::Normal)?;
        Some(Advisory {
            id: format!("{asset}/{point}/{}/{}", cause.slug(), at.0),
            asset: asset.to_owned(),
            point: point.to_owned(),
            cause,
            level: held,
            raised: at,
            cleared: None,
            last_seen: at,
            recommendation: recommended(cause, held, &evidence).to_owned(),
            evidence,
            backfill: false,
            explanation: None,
            remaining_life: None,
        })
    }

    /// What is told of one that was over then, and is no word about now.
    pub fn past(self, asset: &str, point: &str, over: EventTime) -> Option<Advisory> {
        let advisory = self.advisory(asset, point)?;
        Some(Advisory {
            cleared: Some(over),
            backfill: true,
            ..advisory
        })
    }
}

impl Notice {
    fn handle(&mut self, observation: Observation) -> Option<AdvisoryChange> {
        let Observation {
            channel,
            at,
            held,
            is_seen,
            evidence,
            ..
        } = observation;
        if held == Level::Normal {
            self.levels.remove(&channel);
        } else {
            self.levels.insert(channel, held);
        }
        let Some(level) = self.levels.values().copied().max() else {
            self.advisory.cleared = Some(at);
            self.told = at;
            return Some(AdvisoryChange::Cleared(self.advisory.clone()));
        };
        if is_seen {
            self.advisory.last_seen = self.advisory.last_seen.max(at);
        }
        let has_moved = level != self.advisory.level;
        let is_news = evidence.is_some_and(|evidence| {
            // While the level stays, the strongest window stays as its evidence.
            let replaces = (has_moved && held == level) || is_stronger(&evidence, &self.advisory.evidence);
            if replaces {
                self.advisory.evidence = evidence;
            }
            replaces
        });
        self.advisory.level = level;
        if has_moved || is_news {
            let words = recommended(self.advisory.cause, level, &self.advisory.evidence);
            words.clone_into(&mut self.advisory.recommendation);
        }
        let refresh = is_seen && at.nanos_since(self.told) >= Advisories::REFRESH_NS;
        (has_moved || is_news || refresh).then(|| {
            self.told = at;
            AdvisoryChange::Updated(self.advisory.clone())
        })
    }
}

/// Whether new evidence says clearly more than what is shown, or something else.
fn is_stronger(new: &Evidence, shown: &Evidence) -> bool {
    match (new, shown) {
        (Evidence::Limit(new), Evidence::Limit(shown)) => {
            if new.is_below {
                let step = (Advisories::STRONGER - 1.0) * f64::from(shown.limit.abs());
                f64::from(new.value) <= f64::from(shown.value) - step
            } else {
                f64::from(new.value) >= Advisories::STRONGER * f64::from(shown.value)
            }
        }
        (Evidence::Orders { suspicion: new, .. }, Evidence::Orders { suspicion: shown, .. }) => {
            new.height() >= Advisories::STRONGER * shown.height()
        }
        (
            Evidence::Drift { deviations: new, .. },
            Evidence::Drift {
                deviations: shown, ..
            },
        ) => f64::from(new.abs()) >= Advisories::STRONGER * f64::from(shown.abs()),
        (Evidence::Unusual(new), Evidence::Unusual(shown)) => new.is_stronger(shown, Advisories::STRONGER),
        (Evidence::Instrument { fault: new, .. }, Evidence::Instrument { fault: shown, .. }) => new != shown,
        _ => false,
    }
}

const fn recommended(cause: Cause, level: Level, evidence: &Evidence) -> &'static str {
    match cause {
        Cause::Bearing(element) => super::recommendation::of_bearing(element),
        Cause::Severity => of_severity(level),
        Cause::Deviation(kind) => of_deviation(kind),
        Cause::Suspected(cause) => cause.recommended_check(),
        Cause::Instrument => match evidence {
            Evidence::Instrument { fault, .. } => of_fault(*fault),
            _ => of_fault(Fault::Silent),
        },
        Cause::Drift => of_drift(),
        Cause::Unusual => of_unusual(),
        Cause::RemainingLife => of_remaining_life(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advisory::LimitEvidence;
    use trunnion_common::feature::FeatureKind;
    use trunnion_common::monitor::Basis;
    use trunnion_common::severity::Zone;

    const SECOND: i64 = 1_000_000_000;

    fn severity(channel: &str, second: i64, held: Level, value: f32) -> Observation {
        Observation {
            channel: channel.into(),
            cause: Cause::Severity,
            at: EventTime(second * SECOND),
            held,
            is_seen: value > 2.8,
            evidence: Some(Evidence::Limit(LimitEvidence {
                channel: channel.into(),
                feature: FeatureKind::Rms,
                value,
                limit: 2.8,
                is_below: false,
                normal: None,
                basis: Basis::Absolute,
                zone: Some(Zone::C),
                standard: None,
                band: None,
            })),
        }
    }

    fn instrument(second: i64, held: Level, fault: Option<Fault>) -> Observation {
        Observation {
            channel: "v".into(),
            cause: Cause::Instrument,
            at: EventTime(second * SECOND),
            held,
            is_seen: fault.is_some(),
            evidence: fault.map(|fault| Evidence::Instrument {
                channel: "v".into(),
                fault,
            }),
        }
    }

    fn word(change: Option<AdvisoryChange>) -> String {
        change.map_or_else(String::new, |change| {
            let word = match &change {
                AdvisoryChange::Raised(_) => "raised",
                AdvisoryChange::Updated(_) => "updated",
                AdvisoryChange::Cleared(_) => "cleared",
                AdvisoryChange::Found(_) => "found",
            };
            format!("{word} {}", change.advisory().level.label())
        })
    }

    #[test]
    fn directions_share_one_advisory_that_escalates_and_clears_with_the_last() {
        let mut notices = Notices::new("fan-3", "de");
        let mut told =
            |channel, second, held, value| word(notices.handle(severity(channel, second, held, value)));
        assert_eq!(told("h", 1, Level::Normal, 1.0), "");
        assert_eq!(told("h", 2, Level::Alert, 3.0), "raised alert");
        assert_eq!(told("v", 2, Level::Alert, 2.9), "");
        assert_eq!(told("v", 3, Level::Alarm, 5.0), "updated alarm");
        assert_eq!(told("v", 4, Level::Alarm, 5.1), "", "little more is no news");
        assert_eq!(told("v", 5, Level::Normal, 1.0), "updated alert");
        assert_eq!(told("h", 6, Level::Normal, 1.0), "cleared alert");
        assert_eq!(told("h", 7, Level::Normal, 1.0), "");
        assert_eq!(notices.standing().count(), 0);
    }

    #[test]
    fn what_a_gateway_has_held_for_longer_is_as_old() {
        let mut notices = Notices::new("fan-3", "de");
        notices.handle(severity("h", 5, Level::Alert, 3.0));
        let mut hear = |second, held, raised: i64| {
            let observation = severity("h@gateway", second, held, 3.0);
            let change = notices.hear(observation, EventTime(raised * SECOND));
            let raised = notices.standing().next().map(|told| told.raised.0 / SECOND);
            (word(change), raised)
        };
        assert_eq!(hear(6, Level::Alert, 2), ("updated alert".to_owned(), Some(2)));
        assert_eq!(hear(7, Level::Alert, 2), (String::new(), Some(2)));
        assert_eq!(hear(8, Level::Alert, 4), (String::new(), Some(2)), "the earlier");
        assert_eq!(
            hear(9, Level::Normal, 4),
            (String::new(), Some(2)),
            "seen here, too"
        );
        let mut notices = Notices::new("fan-3", "de");
        let told = notices.hear(severity("h@gateway", 9, Level::Alarm, 5.0), EventTime(4 * SECOND));
        assert_eq!(told.as_ref().unwrap().advisory().raised, EventTime(4 * SECOND));
        assert_eq!(word(told), "raised alarm");
    }

    #[test]
    fn an_advisory_that_stays_is_reported_once_a_minute() {
        let mut notices = Notices::new("fan-3", "de");
        let told: Vec<_> = (1..=130)
            .filter(|second| {
                notices
                    .handle(severity("h", *second, Level::Alert, 3.0))
                    .is_some()
            })
            .collect();
        assert_eq!(told, [1, 61, 121]);
    }

    #[test]
    fn the_strongest_window_is_the_evidence() {
        let mut notices = Notices::new("fan-3", "de");
        for value in [3.0, 3.1, 4.0, 3.5] {
            notices.handle(severity("h", 1, Level::Alert, value));
        }
        let standing = notices.standing().next().unwrap();
        assert!(matches!(&standing.evidence, Evidence::Limit(shown) if shown.value == 4.0));
        assert_eq!(standing.id, "fan-3/de/severity/1000000000");
    }

    #[test]
    fn an_instrument_that_fails_otherwise_changes_what_to_do() {
        let mut notices = Notices::new("fan-3", "de");
        notices.handle(instrument(1, Level::Alert, Some(Fault::Clipped)));
        let change = notices
            .handle(instrument(2, Level::Alert, Some(Fault::Silent)))
            .unwrap();
        assert_eq!(change.advisory().recommendation, of_fault(Fault::Silent));
        assert_eq!(
            word(notices.handle(instrument(3, Level::Normal, None))),
            "cleared alert"
        );
    }

    #[test]
    fn causes_stand_apart() {
        let mut notices = Notices::new("fan-3", "de");
        notices.handle(severity("h", 1, Level::Alert, 3.0));
        notices.handle(instrument(1, Level::Alert, Some(Fault::Drift)));
        assert_eq!(notices.standing().count(), 2);
        let causes = [
            ("h".to_owned(), Cause::Severity),
            ("v".to_owned(), Cause::Instrument),
        ];
        assert_eq!(notices.causes(), causes);
    }
}
