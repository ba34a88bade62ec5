//! Health assessment: one grade for each asset, with its reasons. Pure.
//!
//! The stage of ISO 13374 between state detection ([`trunnion_diagnosis::detection`], [`trunnion_common::monitor`]) and
//! prognosis. An asset is as well as the worst of what is known of its points. That a machine stands still, and
//! that nothing is known of it, are grades of their own: neither is healthy.
//!
//! | grade | when |
//! |---|---|
//! | danger | an advisory above the TRIP limit stands |
//! | fault | an advisory of level alarm stands: a bearing's element, zone D, far off the normal |
//! | watch | an advisory of level alert stands, or a direction is in zone C |
//! | unknown | none of these, and a channel is silent, faulty, or has said nothing yet |
//! | off | none of these, and every vibration channel says that the machine stands still |
//! | healthy | none of these |
//!
//! Standing advisories decide whether data still comes or not: what was found does not go away with the data.
//! While a machine runs up or coasts down the grade stays what it was, since neither raises or clears anything.

use crate::advisory::{Advisory, Cause, Evidence};
use serde::{Deserialize, Serialize};
use trunnion_common::instrument::Fault;
use trunnion_common::level::Level;
use trunnion_common::operating::Run;
use trunnion_common::severity::{NotGraded, Zone};
use trunnion_common::time::EventTime;

/// Reasons told of an asset at most; what is worst comes first.
pub const REASONS_MAX: usize = 32;

/// How an asset is, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// Stop it.
    Danger,
    /// Something is broken or breaking.
    Fault,
    /// Something has changed, or is not fit for long.
    Watch,
    /// Nobody knows.
    Unknown,
    /// It stands still.
    Off,
    /// Fresh data, enough of it to decide on, and nothing found.
    Healthy,
}

impl Grade {
    /// Every grade, the worst first.
    pub const ALL: [Self; 6] = [
        Self::Danger,
        Self::Fault,
        Self::Watch,
        Self::Unknown,
        Self::Off,
        Self::Healthy,
    ];

    /// The name on the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Danger => "danger",
            Self::Fault => "fault",
            Self::Watch => "watch",
            Self::Unknown => "unknown",
            Self::Off => "off",
            Self::Healthy => "healthy",
        }
    }

    /// The grade of several assets together, such as those of an area: the worst that one of them has. One that
    /// is off takes nothing from the others; with none it is unknown.
    pub fn roll_up(grades: impl IntoIterator<Item = Self>) -> Self {
        let mut seen: Vec<Self> = grades.into_iter().collect();
        if seen.iter().any(|grade| *grade != Self::Off) {
            seen.retain(|grade| *grade != Self::Off);
        }
        let worst = Self::ALL.into_iter().find(|grade| seen.contains(grade));
        worst.unwrap_or(Self::Unknown)
    }

    const fn of_level(level: Level) -> Option<Self> {
        match level {
            Level::Normal => None,
            Level::Alert => Some(Self::Watch),
            Level::Alarm => Some(Self::Fault),
            Level::Trip => Some(Self::Danger),
        }
    }
}

/// What is known of one channel now.
#[derive(Clone, PartialEq, Debug)]
pub struct ChannelCondition {
    /// Measurement point id.
    pub point: String,
    /// Channel id.
    pub channel: String,
    /// How the machine was operated in the last decided window; none before any.
    pub run: Option<Run>,
    /// Whether its windows tell how the machine is operated: those of a slow channel do not.
    pub tells_run: bool,
    /// The zone of the last steady window, or why there is none.
    pub zone: Result<Zone, NotGraded>,
    /// The standard and edition that it is a zone of.
    pub standard: Option<&'static str>,
    /// Whether the overall value was far from its normal, above or below.
    pub has_changed: bool,
    /// What is held to be wrong with the instrument.
    pub fault: Option<Fault>,
}

/// Why an asset has its grade.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reason {
    /// The grade that this alone would give.
    pub grade: Grade,
    /// Measurement point id.
    pub point: String,
    /// Channel id, where it is one channel's.
    pub channel: Option<String>,
    /// What, in words.
    pub what: String,
    /// The advisory that says so, if one does.
    pub advisory: Option<String>,
}

/// A suspected fault.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Suspicion {
    /// Measurement point id.
    pub point: String,
    /// What is suspected, by the name of its element or cause.
    pub fault: String,
    /// From 0 to 1: of a bearing how far the element stands out from the next likely one, 1 less the ratio of
    /// their scores; of another cause how much of the vibration its lines hold. It orders suspicions; it is no
    /// probability.
    pub confidence: f32,
}

/// How an asset is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Health {
    /// In one word.
    pub grade: Grade,
    /// Why; the worst first, and none of a healthy one.
    pub reasons: Vec<Reason>,
    /// What is suspected, the most likely first.
    pub suspected: Vec<Suspicion>,
    /// The worst zone of its directions, with point and channel and by which standard.
    pub zone: Option<WorstZone>,
}

/// The worst direction of an asset.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WorstZone {
    /// Measurement point id.
    pub point: String,
    /// Channel id, so the direction.
    pub channel: String,
    /// Its zone.
    pub zone: Zone,
    /// The standard and its edition.
    pub standard: String,
}

/// A change of an asset's health.
#[derive(Clone, PartialEq, Debug)]
pub struct HealthRow {
    /// Asset id.
    pub asset: String,
    /// Since when it has this grade, by the journal's clock.
    pub since: EventTime,
    /// How it is.
    pub health: Health,
}

/// The health of an asset with those channels and standing advisories.
pub fn assess<'a>(
    channels: &[ChannelCondition],
    advisories: impl IntoIterator<Item = &'a Advisory>,
) -> Health {
    let mut reasons = Vec::new();
    let mut suspected = Vec::new();
    for advisory in advisories {
        reasons.extend(of_advisory(advisory));
        suspected.extend(suspicion(advisory));
    }
    reasons.extend(channels.iter().flat_map(of_channel));
    let worst = Grade::ALL
        .into_iter()
        .find(|grade| reasons.iter().any(|reason: &Reason| reason.grade == *grade));
    let mut runs = channels.iter().filter(|channel| channel.tells_run).peekable();
    let is_off = runs.peek().is_some() && runs.all(|channel| channel.run == Some(Run::Off));
    let grade = match worst {
        Some(grade) if grade != Grade::Healthy => grade,
        _ if channels.is_empty() => Grade::Unknown,
        _ if is_off => Grade::Off,
        _ => Grade::Healthy,
    };
    let rank = |grade: Grade| Grade::ALL.iter().position(|known| *known == grade);
    reasons.sort_by_key(|reason| rank(reason.grade));
    reasons.truncate(REASONS_MAX);
    suspected.sort_by(|a: &Suspicion, b| b.confidence.total_cmp(&a.confidence));
    Health {
        grade,
        reasons,
        suspected,
        zone: worst_zone(channels),
    }
}

fn of_advisory(advisory: &Advisory) -> Option<Reason> {
    // What the instrument says of itself says nothing of the machine, except that it is not known.
    let grade = match advisory.cause {
        Cause::Instrument => Grade::Unknown,
        _ => Grade::of_level(advisory.level)?,
    };
    let what = match &advisory.evidence {
        Evidence::Lines(_) => {
            let element = advisory.cause.element();
            let element = element.map_or("undetermined".to_owned(), |element| element.to_string());
            format!("bearing fault: {}", element.replace('_', " "))
        }
        Evidence::Limit(limit) => {
            let side = if limit.is_below { "below" } else { "above" };
            let (feature, value, limit) = (limit.feature.label(), limit.value, limit.limit);
            format!("{feature} {value:.3} {side} {limit:.3}")
        }
        Evidence::Unusual(unusual) => unusual.words(),
        Evidence::Drift {
            feature, deviations, ..
        } => {
            format!(
                "{} has moved by {deviations:.1} standard deviations over days",
                feature.label()
            )
        }
        Evidence::Fleet { model } => format!("declines as others of {model} did before they failed"),
        Evidence::Orders { suspicion, .. } => {
            format!("suspected {}", suspicion.cause.label().replace('_', " "))
        }
        Evidence::Instrument { fault, .. } => format!("instrument: {}", fault.label().replace('_', " ")),
    };
    Some(Reason {
        grade,
        point: advisory.point.clone(),
        channel: match &advisory.evidence {
            Evidence::Limit(limit) => Some(limit.channel.clone()),
            Evidence::Orders { channel, .. }
            | Evidence::Instrument { channel, .. }
            | Evidence::Drift { channel, .. } => Some(channel.clone()),
            Evidence::Unusual(unusual) => unusual.channel.clone(),
            Evidence::Lines(_) | Evidence::Fleet { .. } => None,
        },
        what,
        advisory: Some(advisory.id.clone()),
    })
}

fn suspicion(advisory: &Advisory) -> Option<Suspicion> {
    let (fault, confidence) = match &advisory.evidence {
        Evidence::Lines(finding) => {
            let element = advisory.cause.element()?;
            let share = 1.0 - finding.runner_up / finding.score;
            (
                element.label(),
                if share.is_finite() { share as f32 } else { 0.0 },
            )
        }
        Evidence::Orders { suspicion, .. } => (suspicion.cause.label(), suspicion.share() as f32),
        Evidence::Limit(_)
        | Evidence::Instrument { .. }
        | Evidence::Unusual(_)
        | Evidence::Drift { .. }
        | Evidence::Fleet { .. } => return None,
    };
    Some(Suspicion {
        point: advisory.point.clone(),
        fault: fault.to_owned(),
        confidence: confidence.clamp(0.0, 1.0),
    })
}

fn of_channel(condition: &ChannelCondition) -> Vec<Reason> {
    let reason = |grade, what: String| Reason {
        grade,
        point: condition.point.clone(),
        channel: Some(condition.channel.clone()),
        what,
        advisory: None,
    };
    let mut reasons = Vec::new();
    match condition.fault {
        // A zero that has moved leaves the vibration what it is.
        Some(fault) if fault.spares_vibration() => {}
        Some(fault) => reasons.push(reason(
            Grade::Unknown,
            format!("instrument: {}", fault.label().replace('_', " ")),
        )),
        None if condition.run.is_none() => {
            reasons.push(reason(Grade::Unknown, "nothing decided yet".to_owned()));
        }
        None => {}
    }
    if let Ok(zone @ (Zone::C | Zone::D)) = condition.zone {
        let standard = condition.standard.unwrap_or_default();
        reasons.push(reason(
            Grade::Watch,
            format!("zone {} ({standard})", zone.label()),
        ));
    }
    if condition.has_changed {
        let what = "the overall vibration is more than a quarter of B/C off its normal";
        reasons.push(reason(Grade::Healthy, what.to_owned()));
    }
    reasons
}

fn worst_zone(channels: &[ChannelCondition]) -> Option<WorstZone> {
    let zones = channels
        .iter()
        .filter_map(|channel| Some((channel, channel.zone.ok()?)));
    let (channel, zone) = trunnion_common::monitor::worst(zones)?;
    Some(WorstZone {
        point: channel.point.clone(),
        channel: channel.channel.clone(),
        zone,
        standard: channel.standard?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advisory::LimitEvidence;
    use trunnion_common::feature::FeatureKind;
    use trunnion_common::monitor::Basis;
    use trunnion_diagnosis::bearing::Element;
    use trunnion_diagnosis::detection::BEARING_LEVEL;
    use trunnion_diagnosis::features::Finding;

    fn channel(run: Option<Run>, zone: Result<Zone, NotGraded>, fault: Option<Fault>) -> ChannelCondition {
        ChannelCondition {
            point: "de".into(),
            channel: "h".into(),
            run,
            tells_run: true,
            zone,
            standard: Some("ISO 20816-3:2022"),
            has_changed: false,
            fault,
        }
    }

    fn steady(zone: Zone) -> ChannelCondition {
        channel(Some(Run::Steady), Ok(zone), None)
    }

    fn off() -> ChannelCondition {
        channel(Some(Run::Off), Err(NotGraded::Off), None)
    }

    fn silent() -> ChannelCondition {
        channel(Some(Run::Steady), Ok(Zone::A), Some(Fault::Silent))
    }

    fn advisory(cause: Cause, level: Level, evidence: Evidence) -> Advisory {
        Advisory {
            id: "fan/de/x/1".into(),
            asset: "fan".into(),
            point: "de".into(),
            cause,
            level,
            raised: EventTime(1),
            cleared: None,
            last_seen: EventTime(1),
            evidence,
            recommendation: String::new(),
            backfill: false,
            explanation: None,
            remaining_life: None,
        }
    }

    fn severity(level: Level) -> Advisory {
        let evidence = LimitEvidence {
            channel: "h".into(),
            feature: FeatureKind::VelocityRms,
            value: 5.0,
            limit: 4.5,
            is_below: false,
            normal: None,
            basis: Basis::Absolute,
            zone: Some(Zone::D),
            standard: None,
            band: None,
        };
        advisory(Cause::Severity, level, Evidence::Limit(evidence))
    }

    fn bearing(score: f64, runner_up: f64) -> Advisory {
        let finding = Finding {
            element: Some(Element::InnerRace),
            order: 5.4,
            score,
            runner_up,
            lines: Vec::new(),
            band_hz: (1.0, 5_000.0),
            confirmed: None,
        };
        let cause = Cause::Bearing(Some(Element::InnerRace));
        advisory(cause, BEARING_LEVEL, Evidence::Lines(finding))
    }

    fn check(channels: &[ChannelCondition], advisories: &[Advisory], expected: Grade) {
        let health = assess(channels, advisories);
        assert_eq!(health.grade, expected, "{health:#?}");
        assert_eq!(
            health.reasons.iter().any(|reason| reason.grade == expected),
            !matches!(expected, Grade::Healthy | Grade::Off) && !channels.is_empty()
                || !advisories.is_empty(),
            "a grade that is not good has a reason: {health:#?}"
        );
    }

    #[test]
    fn a_machine_is_healthy_only_on_data_that_says_so() {
        check(&[steady(Zone::A), steady(Zone::B)], &[], Grade::Healthy);
        check(
            &[channel(Some(Run::Steady), Err(NotGraded::Undeclared), None)],
            &[],
            Grade::Healthy,
        );
        check(&[], &[], Grade::Unknown);
        check(
            &[steady(Zone::A), channel(None, Err(NotGraded::Value), None)],
            &[],
            Grade::Unknown,
        );
        check(&[steady(Zone::A), silent()], &[], Grade::Unknown);
    }

    #[test]
    fn a_machine_that_stands_still_is_off_and_not_healthy() {
        check(&[off(), off()], &[], Grade::Off);
        check(&[off(), steady(Zone::A)], &[], Grade::Healthy);
        check(&[off(), silent()], &[], Grade::Unknown);
    }

    #[test]
    fn what_stands_decides_whether_data_comes_or_not() {
        check(&[silent()], &[severity(Level::Alert)], Grade::Watch);
        check(&[off()], &[severity(Level::Alarm)], Grade::Fault);
        check(&[steady(Zone::A)], &[bearing(4.0, 1.0)], Grade::Fault);
        check(
            &[steady(Zone::D)],
            &[bearing(4.0, 1.0), severity(Level::Trip)],
            Grade::Danger,
        );
        check(&[], &[bearing(4.0, 1.0)], Grade::Fault);
    }

    #[test]
    fn zone_c_is_watched_without_an_advisory() {
        check(&[steady(Zone::C)], &[], Grade::Watch);
        let zone = assess(&[steady(Zone::A), steady(Zone::C)], &[]).zone.unwrap();
        assert_eq!((zone.zone, zone.standard.as_str()), (Zone::C, "ISO 20816-3:2022"));
    }

    #[test]
    fn a_faulty_instrument_makes_unknown_and_a_moved_zero_does_not() {
        check(
            &[channel(Some(Run::Steady), Ok(Zone::A), Some(Fault::Clipped))],
            &[],
            Grade::Unknown,
        );
        let drift = channel(Some(Run::Steady), Ok(Zone::A), Some(Fault::Drift));
        assert_eq!(assess(&[drift], &[]).grade, Grade::Healthy);
    }

    #[test]
    fn a_suspicion_is_as_strong_as_the_element_stands_out() {
        let health = assess(&[steady(Zone::A)], &[bearing(4.0, 1.0), bearing(4.0, 3.0)]);
        let confidence: Vec<_> = health
            .suspected
            .iter()
            .map(|suspicion| suspicion.confidence)
            .collect();
        assert_eq!(confidence, [0.75, 0.25]);
        assert_eq!(health.suspected[0].fault, "inner_race");
    }

    #[test]
    fn the_tree_is_as_well_as_the_worst_of_it_that_runs() {
        let roll_up = |grades: &[Grade]| Grade::roll_up(grades.iter().copied());
        assert_eq!(
            roll_up(&[Grade::Healthy, Grade::Fault, Grade::Unknown]),
            Grade::Fault
        );
        assert_eq!(roll_up(&[Grade::Healthy, Grade::Off]), Grade::Healthy);
        assert_eq!(roll_up(&[Grade::Off, Grade::Off]), Grade::Off);
        assert_eq!(roll_up(&[Grade::Healthy, Grade::Unknown]), Grade::Unknown);
        assert_eq!(roll_up(&[]), Grade::Unknown);
    }
}
