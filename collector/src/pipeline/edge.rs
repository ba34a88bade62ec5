//! What agents themselves hold against machines: advisories of theirs are the collector's, one for each point
//! and cause.

use super::Pipeline;
use super::waiting::Origin;
use crate::advisory::{Cause, Evidence, LimitEvidence, Observation};
use crate::dead_letter::{DeadReason, Form};
use trunnion_common::block::Records;
use trunnion_common::level::Level;
use trunnion_common::monitor::{self, Condition};
use trunnion_common::watch::LocalCondition;

impl Pipeline {
    /// What an agent holds, as it tells of it.
    pub(super) fn handle_conditions(
        &mut self,
        origin: &mut Origin,
        records: Records<'_, LocalCondition>,
        bytes: &[u8],
    ) {
        for (item, record) in records.enumerate().skip(origin.item as usize) {
            origin.item = item as u32;
            match record {
                Ok(told) => self.take_condition(&told),
                Err(reason) => self.bury(origin, DeadReason::Rejected(reason), (Form::Block, bytes)),
            }
        }
    }

    fn take_condition(&mut self, told: &LocalCondition) {
        self.state.counters.conditions_told += 1;
        let site = self.site_at(told.at, told.node, told.channel);
        // A channel that no file names has no asset to tell of.
        let Some(series) = site.map(|site| site.series.clone()) else {
            return;
        };
        let observation = Observation {
            // Another voice than the collector's own of that channel: neither takes back what the other says.
            channel: format!("{}{AT_GATEWAY}", series.channel),
            cause: cause(told.condition),
            at: told.at,
            held: told.level,
            is_seen: told.level > Level::Normal,
            evidence: told
                .evidence
                .and_then(|found| evidence(&series.channel, told, found)),
        };
        self.notice(&series, observation);
        self.concern(&series.asset);
    }
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
fn evidence(channel: &str, told: &LocalCondition, found: monitor::Evidence) -> Option<Evidence> {
    let channel = channel.to_owned();
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
    use trunnion_common::block::Kind;
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
