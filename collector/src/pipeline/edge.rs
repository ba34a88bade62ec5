//! What agents themselves hold against machines: advisories of theirs are the collector's, one for each point
//! and cause.
//!
//! The latest word of an agent on a condition holds, by its own time, in whatever order words come. One that
//! comes as history may have been overtaken by one that is still on its way: it is raised as now only once no
//! more history has come from its gateway for [`HISTORY_QUIET_NS`]. What was over by then is told as past.
//!
//! What a gateway and the collector hold alike is one advisory, since the earlier of the two, until neither holds
//! it. What is suspected of a shaft explains how much its machine vibrates, whoever suspects it. A group of slow
//! channels a gateway names by its first one.
//!
//! Of a bearing, gateway and collector say the same of the same windows, one of them first: the advisory is one,
//! since the earlier of the two. It is over when the gateway has given it up and the windows seen here no longer
//! show it. What a gateway has told is not told again as found in history.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | the latest words | one for each condition of each channel of the fleet | those of others are not kept |

use super::Pipeline;
use super::firing::advisories;
use super::waiting::Origin;
use crate::advisory::{
    Advisory, AdvisoryChange, Cause, Evidence, LimitEvidence, Observation, UnusualEvidence,
};
use crate::fleet::{ChannelSite, Fleet, SlowJudging, series_of};
use crate::history::REACH_NS;
use crate::state::SeriesKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::definition::WatchedBand;
use trunnion_common::id::{ChannelId, GatewayId, NodeId};
use trunnion_common::level::Level;
use trunnion_common::monitor::{self, Condition};
use trunnion_common::time::EventTime;
use trunnion_common::watch::{Lines, LocalCondition, LocalWord};
use trunnion_diagnosis::bearing::Element;
use trunnion_diagnosis::diagnosis::Suspicion;
use trunnion_diagnosis::features::Finding;

/// Without history from a gateway for so long on the journal's clock, its backlog counts as told: several times
/// what a gateway pauses between two blocks of a backlog.
pub(super) const HISTORY_QUIET_NS: i64 = 30 * 1_000_000_000;

/// Which condition of which channel.
type WordKey = (NodeId, ChannelId, Condition);

/// What agents have told last.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Words {
    latest: BTreeMap<WordKey, LocalWord>,
    /// Those that came as history and are not raised yet: from whom, and when history was last heard from there.
    waiting: BTreeMap<WordKey, (GatewayId, EventTime)>,
}

/// What becomes of a word.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Verdict {
    /// It says how things are now.
    Now,
    /// It waits for what may overtake it.
    Waits,
    /// It was over then.
    Past(EventTime),
    /// It says nothing new.
    Known,
}

impl Words {
    /// Takes a word in, and what it ends that was never raised.
    fn take(&mut self, word: &LocalWord, history: Option<&GatewayId>, now: EventTime) -> Verdict {
        let told = &word.told;
        let key = (told.node, told.channel, told.condition);
        let before = self.latest.get(&key).map(|before| before.told);
        if let Some(latest) = before.filter(|latest| latest.at >= told.at) {
            let is_over = latest.level == Level::Normal && told.level > Level::Normal && latest.at > told.at;
            return if is_over {
                Verdict::Past(latest.at)
            } else {
                Verdict::Known
            };
        }
        if matches!(told.condition, Condition::Bearing(Some(_))) && told.level > Level::Normal {
            // The bearing of which no element showed has one now.
            let unnamed = (told.node, told.channel, Condition::Bearing(None));
            self.latest.remove(&unnamed);
            self.waiting.remove(&unnamed);
        }
        self.latest.insert(key, word.clone());
        let has_waited = self.waiting.remove(&key).is_some();
        let is_raised = !has_waited && before.is_some_and(|before| before.level > Level::Normal);
        match history {
            Some(gateway) if told.level > Level::Normal && !is_raised => {
                self.waiting.insert(key, (gateway.clone(), now));
                Verdict::Waits
            }
            _ => Verdict::Now,
        }
    }

    /// What came before a word and still waits: the word says that it is over.
    fn ended_by(&self, told: &LocalCondition) -> Option<LocalWord> {
        let key = (told.node, told.channel, told.condition);
        let before = self.latest.get(&key).filter(|before| before.told.at < told.at)?;
        let ends = told.level == Level::Normal && self.waiting.contains_key(&key);
        ends.then(|| before.clone())
    }

    /// Whether the condition that a word is about was held by the word before.
    fn is_held(&self, told: &LocalCondition) -> bool {
        let key = (told.node, told.channel, told.condition);
        let before = self.latest.get(&key);
        before.is_some_and(|before| before.told.level > Level::Normal)
    }

    /// History has come from a gateway.
    fn note_history(&mut self, gateway: &GatewayId, now: EventTime) {
        let mut waiting = self.waiting.values_mut();
        waiting
            .by_ref()
            .filter(|(from, _)| from == gateway)
            .for_each(|(_, heard)| *heard = now);
    }

    /// Words that have not been overtaken.
    fn poll(&mut self, now: EventTime) -> Vec<LocalWord> {
        let is_due = |heard: &EventTime| now.nanos_since(*heard) >= HISTORY_QUIET_NS;
        let due = self.waiting.iter().filter(|(_, (_, heard))| is_due(heard));
        let due: Vec<WordKey> = due.map(|(key, _)| *key).collect();
        due.iter()
            .filter_map(|key| {
                self.waiting.remove(key);
                self.latest.get(key).cloned()
            })
            .collect()
    }

    /// What was told last of the bearings at a place.
    fn of_bearing(
        &self,
        fleet: &Fleet,
        place: &SeriesKey,
    ) -> impl Iterator<Item = (Option<Element>, &LocalCondition)> {
        let is_here = |node, channel| {
            let site = fleet.channel(node, channel);
            site.is_some_and(|site| (&site.series.asset, &site.series.point) == (&place.asset, &place.point))
        };
        let words = self.latest.iter().map(|(key, word)| (key, &word.told));
        words.filter_map(move |((node, channel, condition), told)| match condition {
            Condition::Bearing(element) if is_here(*node, *channel) => Some((*element, told)),
            _ => None,
        })
    }

    /// Whether a gateway holds a fault of that element, or one of which no element shows, against the bearing at a
    /// place.
    pub(super) fn hold(&self, fleet: &Fleet, place: &SeriesKey, element: Option<Element>) -> bool {
        self.of_bearing(fleet, place)
            .any(|(of, told)| told.level > Level::Normal && (of == element || of.is_none()))
    }

    /// Whether a gateway has told of the fault that history shows.
    pub(super) fn tell_of(&self, fleet: &Fleet, place: &SeriesKey, found: &Advisory) -> bool {
        let element = found.cause.element();
        self.of_bearing(fleet, place).any(|(of, told)| {
            let has_begun = told.raised <= found.last_seen.plus_nanos(REACH_NS);
            let lasts = told.level > Level::Normal
                || (told.raised < told.at && found.raised <= told.at.plus_nanos(REACH_NS));
            (of == element || of.is_none() || element.is_none()) && has_begun && lasts
        })
    }

    /// Forgets channels that a fleet no longer has.
    pub(super) fn retain(&mut self, fleet: &Fleet) {
        let is_known = |(node, channel, _): &WordKey| fleet.channel(*node, *channel).is_some();
        self.latest.retain(|key, _| is_known(key));
        self.waiting.retain(|key, _| is_known(key));
    }
}

impl Pipeline {
    /// What an agent holds, as it tells of it.
    pub(super) fn take_condition(&mut self, origin: &Origin, word: LocalWord) {
        self.state.counters.conditions_told += 1;
        // A channel that no file names has no asset to tell of.
        let told = &word.told;
        let Some(place) = self.place_told(&word) else {
            return;
        };
        let now = self.state.now;
        let history = origin.backfill.then_some(&origin.gateway);
        let words = &mut self.state.conditions.words;
        let ended = words.ended_by(told);
        // After a start an agent tells what it does not hold, too.
        let is_idle = matches!(told.condition, Condition::Bearing(_)) && !words.is_held(told);
        match words.take(&word, history, now) {
            Verdict::Now => match ended {
                Some(before) => self.tell_past(&place, &before, told.at),
                None if told.level == Level::Normal && is_idle => {}
                None => self.tell_condition(&place, &word),
            },
            Verdict::Past(over) => self.tell_past(&place, &word, over),
            Verdict::Waits | Verdict::Known => {}
        }
    }

    /// A block of history has come.
    pub(super) fn note_history(&mut self, gateway: &GatewayId) {
        let now = self.state.now;
        self.state.conditions.words.note_history(gateway, now);
    }

    /// Raises what came as history and still holds.
    pub(super) fn settle_words(&mut self) {
        for word in self.state.conditions.words.poll(self.state.now) {
            if let Some(place) = self.place_told(&word) {
                self.tell_condition(&place, &word);
            }
        }
    }

    fn place_told(&self, word: &LocalWord) -> Option<Place> {
        let told = &word.told;
        let site = self.site_at(told.at, told.node, told.channel)?;
        let (_, fleet) = self.fleets.range(..=told.at).next_back()?;
        let series = match told.condition {
            Condition::UnusualTogether => series_of(fleet.group_begun_by(&site.series)?),
            _ => site.series.clone(),
        };
        Some(Place {
            series,
            slow: site.slow.clone(),
            shares: shares(fleet, word),
            band: own_band(site, told.condition),
        })
    }

    fn tell_condition(&mut self, place: &Place, word: &LocalWord) {
        match word.told.condition {
            Condition::Bearing(element) => self.tell_bearing(place, word, element),
            Condition::Severity
            | Condition::Deviation(_)
            | Condition::Instrument
            | Condition::Unusual
            | Condition::UnusualTogether => {
                self.hear(&place.series, observation(place, word), word.told.raised);
            }
            Condition::Suspected(_) => self.tell_suspicion(place, word),
        }
        self.concern(&place.series.asset);
    }

    /// The advisory of the bearing is one, whoever has found out first.
    fn tell_bearing(&mut self, place: &Place, word: &LocalWord, element: Option<Element>) {
        let LocalCondition {
            level, raised, at, ..
        } = word.told;
        let advisories = advisories(&mut self.state.advisories, &place.series);
        let change = match &word.lines {
            _ if level == Level::Normal => advisories.give_up(at, element),
            Some(Lines::Bearing(claim)) => advisories.hold((raised, at), &Finding::heard(element, claim)),
            _ => None,
        };
        self.tell_of_bearing(&place.series, change.into_iter().collect());
    }

    /// What is suspected is one advisory, too, and explains how much the machine vibrates.
    fn tell_suspicion(&mut self, place: &Place, word: &LocalWord) {
        let SeriesKey { asset, point, .. } = &place.series;
        let before = self.explanation(asset, point);
        self.hear(&place.series, observation(place, word), word.told.raised);
        self.explain_anew(asset, point, before.as_ref(), |_| true);
    }

    /// It held, and is over: nothing is raised or cleared by it.
    fn tell_past(&mut self, place: &Place, word: &LocalWord, over: EventTime) {
        let observation = Observation {
            at: word.told.raised,
            ..observation(place, word)
        };
        let SeriesKey { asset, point, .. } = &place.series;
        if let Some(advisory) = observation.past(asset, point, over) {
            self.state.counters.advisories_found += 1;
            self.tell_advisory(AdvisoryChange::Found(advisory));
        }
    }
}

/// Of what a word is.
struct Place {
    series: SeriesKey,
    /// How it is judged, if it is a slow channel.
    slow: Option<SlowJudging>,
    /// Which part of the spectrum is meant, where a band of the point's own is.
    band: Option<WatchedBand>,
    /// Of a group, the share of each channel, the largest first.
    shares: Vec<(String, f32)>,
}

/// The share of each channel, by its name in a fleet, in what is unusual of a group.
fn shares(fleet: &Fleet, word: &LocalWord) -> Vec<(String, f32)> {
    let Some(Lines::Unusual(row)) = &word.lines else {
        return Vec::new();
    };
    let named = row.contributions.iter().filter_map(|((node, channel), share)| {
        let SeriesKey { point, channel, .. } = &fleet.channel(*node, *channel)?.series;
        Some((format!("{point}/{channel}"), *share))
    });
    let mut shares: Vec<_> = named.collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    shares
}

fn own_band(site: &ChannelSite, condition: Condition) -> Option<WatchedBand> {
    let mut bands = FeatureKind::BANDS.into_iter().zip(&site.bands);
    let (_, band) = bands.find(|(kind, _)| condition == Condition::Deviation(*kind))?;
    Some(band.watched)
}

fn observation(place: &Place, word: &LocalWord) -> Observation {
    let told = &word.told;
    Observation {
        // Another voice than the collector's own of that channel: neither takes back what the other says.
        channel: format!("{}{AT_GATEWAY}", place.series.channel),
        cause: cause(told.condition),
        at: told.at,
        held: told.level,
        is_seen: told.level > Level::Normal,
        evidence: match (told.condition, &word.lines) {
            (Condition::Bearing(element), Some(Lines::Bearing(claim))) => {
                Some(Evidence::Lines(Finding::heard(element, claim)))
            }
            (Condition::Suspected(cause), Some(Lines::Shaft(claim))) => Some(Evidence::Orders {
                channel: place.series.channel.clone(),
                suspicion: Suspicion::heard(cause, claim),
            }),
            (_, Some(Lines::Unusual(row))) => Some(Evidence::Unusual(UnusualEvidence {
                channel: (told.condition == Condition::Unusual).then(|| place.series.channel.clone()),
                value: row.value,
                limit: row.limit,
                residual: row.residual,
                rarity: None,
                contributions: place.shares.clone(),
            })),
            _ => told.evidence.and_then(|found| evidence(place, told, found)),
        },
    }
}

/// Whether a limit is one of those for low values: a word does not say, and the fleet file does.
fn is_below(slow: &SlowJudging, limit: f32) -> bool {
    let holds = |limits: Option<[f32; 2]>| limits.is_some_and(|limits| limits.contains(&limit));
    holds(slow.below) && !holds(slow.above)
}

/// What marks a channel's name where its gateway speaks for it.
pub(super) const AT_GATEWAY: &str = "@gateway";

/// What an advisory of a condition is about.
pub(super) const fn cause(condition: Condition) -> Cause {
    match condition {
        Condition::Severity => Cause::Severity,
        Condition::Deviation(kind) => Cause::Deviation(kind),
        Condition::Instrument => Cause::Instrument,
        Condition::Bearing(element) => Cause::Bearing(element),
        Condition::Suspected(cause) => Cause::Suspected(cause),
        Condition::Unusual | Condition::UnusualTogether => Cause::Unusual,
    }
}

/// As the collector shows it; none where a limit is meant and no feature is named.
fn evidence(place: &Place, told: &LocalCondition, found: monitor::Evidence) -> Option<Evidence> {
    let channel = place.series.channel.clone();
    if let Some(fault) = found.fault {
        return Some(Evidence::Instrument { channel, fault });
    }
    let standard = told.standard;
    let limits = standard.and_then(|standard| standard.limits());
    Some(Evidence::Limit(LimitEvidence {
        channel,
        feature: found.kind?,
        value: found.value,
        limit: found.limit,
        is_below: place
            .slow
            .as_ref()
            .is_some_and(|slow| is_below(slow, found.limit)),
        normal: found.normal,
        basis: found.basis,
        zone: limits.map(|limits| limits.zone(found.value)),
        standard: standard.map(|standard| standard.edition().to_owned()),
        band: place.band,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::Output;
    use super::super::script::{self, Node, SECOND, START};
    use super::*;
    use trunnion_common::bearing::Claim;
    use trunnion_common::block::{Kind, Lane};
    use trunnion_common::id::ChannelId;
    use trunnion_common::monitor::Basis;
    use trunnion_common::watch::LocalFinding;

    fn told(node: &Node, second: i64, level: Level) -> Vec<u8> {
        let at = START.plus_nanos(second * SECOND);
        let told = LocalCondition {
            node: node.id,
            boot: node.boot,
            channel: ChannelId::new(0).unwrap(),
            condition: Condition::Deviation(FeatureKind::Rms),
            level,
            raised: at,
            at,
            evidence: Some(monitor::Evidence {
                kind: Some(FeatureKind::Rms),
                value: 3.0,
                limit: 2.0,
                normal: None,
                basis: Basis::Absolute,
                fault: None,
            }),
            standard: None,
        };
        postcard::to_stdvec(&told).unwrap()
    }

    fn play(entries: Vec<crate::journal::Entry>) -> (Pipeline, Vec<Output>) {
        let mut pipeline = Pipeline::new();
        let outputs = script::commits(entries)
            .iter()
            .flat_map(|commit| pipeline.apply(commit))
            .collect();
        (pipeline, outputs)
    }

    fn changes(outputs: Vec<Output>) -> Vec<(&'static str, Advisory)> {
        let change = |output| match output {
            Output::Advisory(AdvisoryChange::Raised(advisory)) => Some(("raised", advisory)),
            Output::Advisory(AdvisoryChange::Updated(advisory)) => Some(("updated", advisory)),
            Output::Advisory(AdvisoryChange::Cleared(advisory)) => Some(("cleared", advisory)),
            _ => None,
        };
        outputs.into_iter().filter_map(change).collect()
    }

    /// What is told of a story whose words come as history or not.
    fn changed(words: &[(i64, Level, bool)], seconds_after: i64) -> Vec<(&'static str, bool)> {
        let mut node = Node::new(1);
        let mut entries = vec![script::fleet(1)];
        for (second, level, is_history) in words {
            let body = told(&node, *second, *level);
            node.lane = if *is_history { Lane::Backfill } else { Lane::Live };
            entries.push(node.block(Kind::Condition, &body));
        }
        let mut commits = script::commits(entries);
        let last = commits[commits.len() - 1].clone();
        commits.push(crate::journal::Commit {
            time: last.time.plus_nanos(seconds_after * SECOND),
            entries: vec![(last.end, crate::journal::Entry::Tick)],
            end: last.end,
        });
        let mut pipeline = Pipeline::new();
        let outputs = commits.iter().flat_map(|commit| {
            let outputs = pipeline.apply(commit);
            let kept = postcard::to_stdvec(pipeline.state()).unwrap();
            pipeline = Pipeline::resume(postcard::from_bytes(&kept).unwrap());
            outputs
        });
        let word = |output| match output {
            Output::Advisory(AdvisoryChange::Raised(advisory)) => Some(("raised", advisory.backfill)),
            Output::Advisory(AdvisoryChange::Updated(advisory)) => Some(("updated", advisory.backfill)),
            Output::Advisory(AdvisoryChange::Cleared(advisory)) => Some(("cleared", advisory.backfill)),
            Output::Advisory(AdvisoryChange::Found(advisory)) => {
                assert!(advisory.cleared > Some(advisory.raised));
                Some(("found", advisory.backfill))
            }
            _ => None,
        };
        outputs.filter_map(word).collect()
    }

    #[test]
    fn whether_a_limit_is_one_for_low_values_the_fleet_file_says() {
        let slow = SlowJudging {
            above: Some([80.0, 95.0]),
            below: Some([5.0, f32::NEG_INFINITY]),
            ..SlowJudging::default()
        };
        let is_below = |limit| is_below(&slow, limit);
        assert_eq!([80.0, 95.0, 5.0, 7.0].map(is_below), [false, false, true, false]);
        let high = SlowJudging {
            below: None,
            ..slow.clone()
        };
        assert!(!super::is_below(&high, 5.0));
    }

    #[test]
    fn what_history_tells_is_raised_only_once_nothing_has_overtaken_it() {
        let raised = (5, Level::Alert, true);
        assert_eq!(changed(&[raised], 29), []);
        assert_eq!(changed(&[raised], 31), [("raised", false)]);
        // Over by a later word, whichever comes first, and by whichever way.
        for over in [(30, Level::Normal, true), (30, Level::Normal, false)] {
            assert_eq!(changed(&[raised, over], 60), [("found", true)]);
            assert_eq!(changed(&[over, raised], 60), [("found", true)]);
        }
    }

    #[test]
    fn the_latest_word_holds_in_whatever_order_they_come() {
        let live = |second, level| (second, level, false);
        let (alert, alarm) = (live(5, Level::Alert), live(8, Level::Alarm));
        assert_eq!(changed(&[alarm, alert], 60), [("raised", false)]);
        // What stands is changed at once, by history too.
        let worse = (8, Level::Alarm, true);
        assert_eq!(
            changed(&[alert, worse], 0),
            [("raised", false), ("updated", false)]
        );
    }

    #[test]
    fn what_a_gateway_raised_while_it_was_cut_off_is_one_advisory_however_often_it_is_told() {
        let mut node = Node::new(1);
        let [alert, again, alarm, over] = [
            told(&node, 5, Level::Alert),
            told(&node, 5, Level::Alert),
            told(&node, 8, Level::Alarm),
            told(&node, 30, Level::Normal),
        ];
        let entries = vec![
            script::fleet(1),
            node.block(Kind::Condition, &alert),
            node.block(Kind::Condition, &[again, alarm].concat()),
            node.block(Kind::Condition, &over),
        ];
        let (pipeline, outputs) = play(entries);
        let raised = changes(outputs);
        let words: Vec<_> = raised.iter().map(|(word, _)| *word).collect();
        assert_eq!(words, ["raised", "updated", "cleared"]);
        assert_eq!(raised[0].1.raised, START.plus_nanos(5 * SECOND));
        assert_eq!(raised[1].1.level, Level::Alarm);
        assert_eq!(raised[1].1.cause, Cause::Deviation(FeatureKind::Rms));
        assert!(raised.iter().all(|(_, advisory)| advisory.id == raised[0].1.id));
        assert_eq!(pipeline.counters().conditions_told, 4);
    }

    const OUTER: Option<Element> = Some(Element::OuterRace);

    /// What the gateway says of the bearing, raised two seconds before.
    fn of_bearing(node: &Node, second: i64, level: Level, element: Option<Element>) -> Vec<u8> {
        let at = START.plus_nanos(second * SECOND);
        let told = LocalCondition {
            node: node.id,
            boot: node.boot,
            channel: ChannelId::new(0).unwrap(),
            condition: Condition::Bearing(element),
            level,
            raised: at.plus_nanos(-2 * SECOND),
            at,
            evidence: None,
            standard: None,
        };
        let claim = Claim {
            order: 3.58,
            score: 4.0,
            runner_up: 1.5,
            band_hz: [1.0, 5_000.0],
            lines: Default::default(),
            confirmed: None,
        };
        let claim = (level > Level::Normal).then_some(claim);
        postcard::to_stdvec(&LocalFinding { told, claim }).unwrap()
    }

    fn bearings(outputs: Vec<Output>) -> Vec<(&'static str, Advisory)> {
        let mut changes = changes(outputs);
        changes.retain(|(_, advisory)| matches!(advisory.cause, Cause::Bearing(_)));
        changes
    }

    #[test]
    fn what_gateway_and_collector_find_of_a_bearing_is_one_advisory_since_the_earlier() {
        for is_word_first in [true, false] {
            let mut node = Node::new(1);
            let told = of_bearing(&node, 3, Level::Alarm, OUTER);
            let word = node.block(Kind::Finding, &told);
            let mut entries = node.story(10 * 25, script::outer_race_fault);
            entries.insert(if is_word_first { 0 } else { entries.len() }, word);
            entries.insert(0, script::fleet(1));
            let told = bearings(play(entries).1);
            let raised = told.iter().filter(|(word, _)| *word == "raised");
            assert_eq!(raised.count(), 1, "{told:#?}");
            let (_, last) = told.last().unwrap();
            assert_eq!((&last.id, last.cause), (&told[0].1.id, Cause::Bearing(OUTER)));
            assert_eq!(last.raised, START.plus_nanos(SECOND), "the gateway was first");
            assert!(last.cleared.is_none() && last.evidence.score() > 3.0);
        }
    }

    #[test]
    fn a_bearing_that_a_gateway_holds_is_over_when_it_gives_it_up_and_nobody_else_sees_it() {
        let mut node = Node::new(1);
        let [held_word, over] =
            [(3, Level::Alarm), (40, Level::Normal)].map(|(at, level)| of_bearing(&node, at, level, OUTER));
        let held = node.block(Kind::Finding, &held_word);
        // The collector looks at the bearing, too, and sees nothing.
        let mut entries = vec![script::fleet(1), held];
        entries.extend(node.story(20 * 25, script::noise));
        let told = bearings(play(entries.clone()).1);
        let words: Vec<_> = told.iter().map(|(word, _)| *word).collect();
        assert_eq!(words, ["raised"], "the gateway holds it");
        entries.push(node.block(Kind::Finding, &over));
        let told = bearings(play(entries).1);
        let words: Vec<_> = told.iter().map(|(word, _)| *word).collect();
        assert_eq!(words, ["raised", "cleared"]);
        assert_eq!(told[1].1.cleared, Some(START.plus_nanos(40 * SECOND)));

        // It sees what the gateway no longer does.
        let mut node = Node::new(1);
        let held = node.block(Kind::Finding, &held_word);
        let mut entries = vec![script::fleet(1), held];
        entries.extend(node.story(10 * 25, script::outer_race_fault));
        entries.push(node.block(Kind::Finding, &over));
        assert!(
            bearings(play(entries).1)
                .iter()
                .all(|(word, _)| *word != "cleared")
        );
    }

    #[test]
    fn the_element_that_a_gateway_names_takes_the_place_of_none_in_history_too() {
        let mut node = Node::new(1);
        node.lane = Lane::Backfill;
        let unnamed = of_bearing(&node, 5, Level::Alarm, None);
        let named = of_bearing(&node, 8, Level::Alarm, OUTER);
        let entries = vec![
            script::fleet(1),
            node.block(Kind::Finding, &unnamed),
            node.block(Kind::Finding, &named),
        ];
        let mut commits = script::commits(entries);
        let last = commits[commits.len() - 1].clone();
        commits.push(crate::journal::Commit {
            time: last.time.plus_nanos(60 * SECOND),
            entries: vec![(last.end, crate::journal::Entry::Tick)],
            end: last.end,
        });
        let mut pipeline = Pipeline::new();
        let outputs = commits.iter().flat_map(|commit| pipeline.apply(commit)).collect();
        let told = bearings(outputs);
        assert_eq!(told.len(), 1, "{told:#?}");
        assert_eq!(told[0].1.cause, Cause::Bearing(OUTER));
        assert_eq!(told[0].1.raised, START.plus_nanos(6 * SECOND));
    }

    #[test]
    fn what_a_gateway_has_told_of_a_bearing_is_not_found_again_in_history() {
        let found = |is_told: bool| {
            let mut node = Node::new(1);
            node.lane = Lane::Backfill;
            let word = of_bearing(&node, 5, Level::Alarm, OUTER);
            let word = is_told.then(|| node.block(Kind::Finding, &word));
            let mut entries = vec![script::fleet(1)];
            entries.extend(word);
            entries.extend(node.story(10 * 25, script::outer_race_fault));
            let (_, outputs) = play(entries);
            let is_found = |output: &&Output| matches!(output, Output::Advisory(AdvisoryChange::Found(_)));
            outputs.iter().filter(is_found).count()
        };
        assert!(found(false) > 0);
        assert_eq!(found(true), 0);
    }
}
