//! Which epochs of a gateway came first. Pure.
//!
//! An agent numbers its blocks in epochs, of which each of its starts begins new ones. That a start has been
//! superseded is in the journal; so of two epochs the one is of a later start that was first heard after a
//! supersession that the other was heard before. That is also so where the later start knows less than the
//! former: a gateway that was put back to an old image.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trunnion_common::id::{Epoch, GatewayId};

use crate::ingest::dedup::EPOCHS_OPEN_MAX;

/// The open epochs of all gateways.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Epochs(BTreeMap<GatewayId, Heard>);

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Heard {
    /// Starts superseded so far.
    superseded: u64,
    /// How many there were when each open epoch was first heard.
    epochs: BTreeMap<Epoch, u64>,
}

impl Epochs {
    /// A block of an epoch was committed.
    pub(super) fn hear(&mut self, gateway: &GatewayId, epoch: Epoch) {
        let Some(heard) = self.0.get_mut(gateway) else {
            let first = Heard {
                superseded: 0,
                epochs: BTreeMap::from([(epoch, 0)]),
            };
            self.0.insert(gateway.clone(), first);
            return;
        };
        if heard.epochs.contains_key(&epoch) {
            return;
        }
        if heard.epochs.len() >= EPOCHS_OPEN_MAX {
            // The door to the journal leaves no more open; should it ever, one that is forgotten counts as
            // closed.
            let first = heard.epochs.iter().min_by_key(|(_, since)| **since);
            if let Some(first) = first.map(|(epoch, _)| *epoch) {
                heard.epochs.remove(&first);
            }
        }
        heard.epochs.insert(epoch, heard.superseded);
    }

    /// A start of the agent has followed others.
    pub(super) fn supersede(&mut self, gateway: &GatewayId) {
        let heard = self.0.entry(gateway.clone()).or_default();
        heard.superseded = heard.superseded.saturating_add(1);
    }

    /// The agent has done with an epoch.
    pub(super) fn close(&mut self, gateway: &GatewayId, epoch: Epoch) {
        if let Some(heard) = self.0.get_mut(gateway) {
            heard.epochs.remove(&epoch);
        }
    }

    /// Whether `epoch` is of a later start than `other`. An epoch that is closed is earlier than any open one.
    pub(super) fn is_later(&self, gateway: &GatewayId, epoch: Epoch, other: Epoch) -> bool {
        let since = |epoch| self.0.get(gateway).and_then(|heard| heard.epochs.get(&epoch));
        epoch != other && since(epoch) > since(other)
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

    #[test]
    fn an_epoch_is_later_once_another_start_came_between_or_the_other_is_closed() {
        let (mut epochs, mine) = (Epochs::default(), gateway("gw-1"));
        epochs.hear(&mine, Epoch(9));
        epochs.hear(&mine, Epoch(4));
        assert!(!epochs.is_later(&mine, Epoch(4), Epoch(9)), "the same start");
        epochs.supersede(&gateway("gw-2"));
        epochs.hear(&mine, Epoch(5));
        assert!(!epochs.is_later(&mine, Epoch(5), Epoch(9)), "not its own");
        epochs.supersede(&mine);
        epochs.hear(&mine, Epoch(4));
        epochs.hear(&mine, Epoch(2));
        assert!(epochs.is_later(&mine, Epoch(2), Epoch(4)));
        assert!(
            !epochs.is_later(&mine, Epoch(4), Epoch(2)),
            "heard again, not first"
        );
        epochs.close(&mine, Epoch(2));
        assert!(epochs.is_later(&mine, Epoch(4), Epoch(2)));
        assert!(!epochs.is_later(&mine, Epoch(2), Epoch(2)));
    }

    #[test]
    fn no_more_are_remembered_than_can_be_open() {
        let (mut epochs, mine) = (Epochs::default(), gateway("gw-1"));
        for number in 0..2 * EPOCHS_OPEN_MAX as u64 {
            epochs.hear(&mine, Epoch(number));
            epochs.supersede(&mine);
        }
        assert_eq!(epochs.0[&mine].epochs.len(), EPOCHS_OPEN_MAX);
        let newest = Epoch(2 * EPOCHS_OPEN_MAX as u64 - 1);
        assert!(epochs.is_later(&mine, newest, Epoch(0)));
    }
}
