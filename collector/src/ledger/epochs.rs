//! Which epochs of a gateway came first. Pure.
//!
//! An agent numbers its blocks in epochs, of which each of its starts begins new ones. That a start has been
//! superseded is in the journal; so of two epochs the one is of a later start that was first heard after a
//! supersession that the other was heard before. That is also so where the later start knows less than the
//! former: a gateway that was put back to an old image.

use crate::ingest::dedup::EPOCHS_OPEN_MAX;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trunnion_common::id::{Epoch, GatewayId};

/// The open epochs of all gateways.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Epochs(BTreeMap<GatewayId, Heard>);

/// What an agent said when it said what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Reported {
    /// Which gateway's.
    gateway: u32,
    /// Where it stands.
    pub(super) epoch: Epoch,
    pub(super) sequence: u64,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Heard {
    /// Of the gateway, in the order in which they came.
    number: u32,
    /// Starts superseded so far.
    superseded: u64,
    epochs: BTreeMap<Epoch, Open>,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct Open {
    /// Starts superseded when it was first heard.
    superseded: u64,
    /// Whether it has said what the agent holds.
    has_reported: bool,
}

impl Epochs {
    /// A block of an epoch was committed.
    pub(super) fn hear(&mut self, gateway: &GatewayId, epoch: Epoch) {
        let heard = self.of(gateway);
        if heard.epochs.contains_key(&epoch) {
            return;
        }
        if heard.epochs.len() >= EPOCHS_OPEN_MAX {
            // The door to the journal leaves no more open; should it ever, one that is forgotten counts as
            // closed.
            let first = heard.epochs.iter().min_by_key(|(_, open)| open.superseded);
            if let Some(first) = first.map(|(epoch, _)| *epoch) {
                heard.epochs.remove(&first);
            }
        }
        let open = Open {
            superseded: heard.superseded,
            has_reported: false,
        };
        heard.epochs.insert(epoch, open);
    }

    /// A start of the agent has followed others.
    pub(super) fn supersede(&mut self, gateway: &GatewayId) {
        let heard = self.of(gateway);
        heard.superseded = heard.superseded.saturating_add(1);
    }

    /// The agent has done with an epoch.
    pub(super) fn close(&mut self, gateway: &GatewayId, epoch: Epoch) {
        self.of(gateway).epochs.remove(&epoch);
    }

    /// The agent says what it holds.
    pub(super) fn report(&mut self, gateway: &GatewayId, (epoch, sequence): (Epoch, u64)) -> Reported {
        Reported {
            gateway: self.of(gateway).number,
            epoch,
            sequence,
        }
    }

    /// Whether that is the first time in this epoch.
    pub(super) fn is_first(&mut self, report: Reported, gateway: &GatewayId) -> bool {
        let open = self.of(gateway).epochs.get_mut(&report.epoch);
        open.is_some_and(|open| !std::mem::replace(&mut open.has_reported, true))
    }

    /// Whether a report is of a later start than another of the same gateway. An epoch that is closed is
    /// earlier than any open one.
    pub(super) fn is_later(&self, gateway: &GatewayId, report: Reported, other: Reported) -> bool {
        let heard = self.0.get(gateway);
        let since = |report: Reported| {
            let open = heard.and_then(|heard| heard.epochs.get(&report.epoch));
            open.map(|open| open.superseded)
        };
        report.gateway == other.gateway && report.epoch != other.epoch && since(report) > since(other)
    }

    fn of(&mut self, gateway: &GatewayId) -> &mut Heard {
        let number = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.entry(gateway.clone()).or_insert_with(|| Heard {
            number,
            ..Heard::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::id::Name;

    fn gateway(name: &str) -> GatewayId {
        GatewayId {
            site: Name::new("bremen").unwrap(),
            gateway: Name::new(name).unwrap(),
        }
    }

    impl Epochs {
        fn is_epoch_later(&mut self, gateway: &GatewayId, epoch: u64, other: u64) -> bool {
            let [report, other] = [epoch, other].map(|epoch| self.report(gateway, (Epoch(epoch), 0)));
            self.is_later(gateway, report, other)
        }
    }

    #[test]
    fn an_epoch_is_later_once_another_start_came_between_or_the_other_is_closed() {
        let (mut epochs, mine) = (Epochs::default(), gateway("gw-1"));
        epochs.hear(&mine, Epoch(9));
        epochs.hear(&mine, Epoch(4));
        assert!(!epochs.is_epoch_later(&mine, 4, 9), "the same start");
        epochs.supersede(&gateway("gw-2"));
        epochs.hear(&mine, Epoch(5));
        assert!(!epochs.is_epoch_later(&mine, 5, 9), "not its own");
        epochs.supersede(&mine);
        epochs.hear(&mine, Epoch(4));
        epochs.hear(&mine, Epoch(2));
        assert!(epochs.is_epoch_later(&mine, 2, 4));
        assert!(!epochs.is_epoch_later(&mine, 4, 2), "heard again, not first");
        epochs.close(&mine, Epoch(2));
        assert!(epochs.is_epoch_later(&mine, 4, 2));
        assert!(!epochs.is_epoch_later(&mine, 2, 2));
    }

    #[test]
    fn a_report_of_one_gateway_is_not_later_than_that_of_another() {
        let (mut epochs, mine, other) = (Epochs::default(), gateway("gw-1"), gateway("gw-2"));
        epochs.hear(&mine, Epoch(1));
        let theirs = epochs.report(&other, (Epoch(2), 0));
        let report = epochs.report(&mine, (Epoch(1), 0));
        assert!(!epochs.is_later(&mine, report, theirs));
    }

    #[test]
    fn an_epoch_reports_for_the_first_time_once() {
        let (mut epochs, mine) = (Epochs::default(), gateway("gw-1"));
        let report = epochs.report(&mine, (Epoch(1), 7));
        assert!(!epochs.is_first(report, &mine), "nothing was heard of it");
        epochs.hear(&mine, Epoch(1));
        assert!(epochs.is_first(report, &mine));
        assert!(!epochs.is_first(report, &mine));
    }

    #[test]
    fn no_more_are_remembered_than_can_be_open() {
        let (mut epochs, mine) = (Epochs::default(), gateway("gw-1"));
        for number in 0..2 * EPOCHS_OPEN_MAX as u64 {
            epochs.hear(&mine, Epoch(number));
            epochs.supersede(&mine);
        }
        assert_eq!(epochs.0[&mine].epochs.len(), EPOCHS_OPEN_MAX);
        assert!(epochs.is_epoch_later(&mine, 2 * EPOCHS_OPEN_MAX as u64 - 1, 0));
    }
}
