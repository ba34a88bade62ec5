//! What agents themselves hold against machines: advisories of theirs are the collector's, one for each point
//! and cause.
//!
//! The latest word of an agent on a condition holds, by its own time, in whatever order words come. One that
//! comes as history may have been overtaken by one that is still on its way: it is raised as now only once no
//! more history has come from its gateway for [`HISTORY_QUIET_NS`]. What was over by then is told as past.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | the latest words | one for each condition of each channel of the fleet | those of others are not kept |

use super::Pipeline;
use super::waiting::Origin;
use crate::advisory::{AdvisoryChange, Cause, Evidence, LimitEvidence, Observation};
use crate::fleet::{Fleet, SlowJudging};
use crate::state::SeriesKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trunnion_common::id::{ChannelId, GatewayId, NodeId};
use trunnion_common::level::Level;
use trunnion_common::monitor::{self, Condition};
use trunnion_common::time::EventTime;
use trunnion_common::watch::LocalCondition;

/// Without history from a gateway for so long on the journal's clock, its backlog counts as told: several times
/// what a gateway pauses between two blocks of a backlog.
pub(super) const HISTORY_QUIET_NS: i64 = 30 * 1_000_000_000;

/// Which condition of which channel.
type WordKey = (NodeId, ChannelId, Condition);

/// What agents have told last.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Words {
    latest: BTreeMap<WordKey, LocalCondition>,
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
    fn take(&mut self, told: &LocalCondition, history: Option<&GatewayId>, now: EventTime) -> Verdict {
        let key = (told.node, told.channel, told.condition);
        let before = self.latest.get(&key).copied();
        if let Some(latest) = before.filter(|latest| latest.at >= told.at) {
            let is_over = latest.level == Level::Normal && told.level > Level::Normal && latest.at > told.at;
            return if is_over {
                Verdict::Past(latest.at)
            } else {
                Verdict::Known
            };
        }
        self.latest.insert(key, *told);
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
    fn ended_by(&self, told: &LocalCondition) -> Option<LocalCondition> {
        let key = (told.node, told.channel, told.condition);
        let before = self.latest.get(&key).filter(|before| before.at < told.at)?;
        let ends = told.level == Level::Normal && self.waiting.contains_key(&key);
        ends.then_some(*before)
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
    fn poll(&mut self, now: EventTime) -> Vec<LocalCondition> {
        let is_due = |heard: &EventTime| now.nanos_since(*heard) >= HISTORY_QUIET_NS;
        let due = self.waiting.iter().filter(|(_, (_, heard))| is_due(heard));
        let due: Vec<WordKey> = due.map(|(key, _)| *key).collect();
        due.iter()
            .filter_map(|key| {
                self.waiting.remove(key);
                self.latest.get(key).copied()
            })
            .collect()
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
    pub(super) fn take_condition(&mut self, origin: &Origin, told: &LocalCondition) {
        self.state.counters.conditions_told += 1;
        // A channel that no file names has no asset to tell of.
        let Some(place) = self.place_told(told) else {
            return;
        };
        let now = self.state.now;
        let history = origin.backfill.then_some(&origin.gateway);
        let words = &mut self.state.conditions.words;
        let ended = words.ended_by(told);
        match words.take(told, history, now) {
            Verdict::Now => match ended {
                Some(before) => self.tell_past(&place, &before, told.at),
                None => self.tell_condition(&place, told),
            },
            Verdict::Past(over) => self.tell_past(&place, told, over),
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
        for told in self.state.conditions.words.poll(self.state.now) {
            if let Some(place) = self.place_told(&told) {
                self.tell_condition(&place, &told);
            }
        }
    }

    fn place_told(&self, told: &LocalCondition) -> Option<Place> {
        let site = self.site_at(told.at, told.node, told.channel)?;
        Some(Place {
            series: site.series.clone(),
            slow: site.slow.clone(),
        })
    }

    fn tell_condition(&mut self, place: &Place, told: &LocalCondition) {
        self.notice(&place.series, observation(place, told));
        self.concern(&place.series.asset);
    }

    /// It held, and is over: nothing is raised or cleared by it.
    fn tell_past(&mut self, place: &Place, told: &LocalCondition, over: EventTime) {
        let observation = Observation {
            at: told.raised,
            ..observation(place, told)
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
}

fn observation(place: &Place, told: &LocalCondition) -> Observation {
    Observation {
        // Another voice than the collector's own of that channel: neither takes back what the other says.
        channel: format!("{}{AT_GATEWAY}", place.series.channel),
        cause: cause(told.condition),
        at: told.at,
        held: told.level,
        is_seen: told.level > Level::Normal,
        evidence: told.evidence.and_then(|found| evidence(place, told, found)),
    }
}

/// Whether a limit is one of those for low values: a word does not say, and the fleet file does.
fn is_below(slow: &SlowJudging, limit: f32) -> bool {
    let holds = |limits: Option<[f32; 2]>| limits.is_some_and(|limits| limits.contains(&limit));
    holds(slow.below) && !holds(slow.above)
}

/// What marks a channel's name where its gateway speaks for it.
pub(super) const AT_GATEWAY: &str = "@gateway";

const fn cause(condition: Condition) -> Cause {
    match condition {
        Condition::Severity => Cause::Severity,
        Condition::Deviation(kind) => Cause::Deviation(kind),
        Condition::Instrument => Cause::Instrument,
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
        // A gateway judges no bands of the spectrum.
        band: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::Output;
    use super::super::script::{self, Node, SECOND, START};
    use super::*;
    use crate::advisory::{Advisory, AdvisoryChange};
    use trunnion_common::block::{Kind, Lane};
    use trunnion_common::feature::FeatureKind;
    use trunnion_common::id::ChannelId;
    use trunnion_common::monitor::Basis;

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
}
