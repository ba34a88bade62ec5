//! What gateways say that they and their nodes hold. Pure.
//!
//! A word of a gateway is a consistent cut: every sample below its `produced` is stored, with the agent, with the
//! node, or lost. Words that come late say nothing ([`epochs`](super::epochs)). One that counts and knows of
//! fewer samples than are known here is that of a gateway that was put back to an old image: of what the former
//! start held, it has what it says, and the rest is gone. What it does not even name, a channel or a whole boot,
//! it does not hold either.

use super::epochs::{Standing, Word};
use super::unnamed::{Judged, Unnamed};
use super::{AccountKey, Ledger};
use std::collections::BTreeMap;
use trunnion_common::block::{ChannelHolding, Holding};
use trunnion_common::id::{BootId, Epoch, GatewayId, NodeId};

impl Ledger {
    /// The agent says in one block, by epoch and sequence, what it and its nodes hold: everything below
    /// `produced` can be judged. `is_whole` where that is every boot that it knows.
    pub fn observe_holdings(
        &mut self,
        gateway: &GatewayId,
        block: (Epoch, u64),
        holdings: &[Holding],
        is_whole: bool,
    ) {
        let Some(word) = self.epochs.take_word(gateway, block) else {
            return;
        };
        let mut judged = BTreeMap::new();
        for holding in holdings {
            for report in &holding.channels {
                let key = (holding.node, holding.boot, report.channel);
                self.observe_channel(gateway, word, key, *report);
                let is_named = self.explain(gateway, key);
                let ended = self.ended(key);
                if let Some(account) = self.accounts.get_mut(&key) {
                    judged.insert(key, account.judged(ended));
                    if is_named {
                        account.named = account.missing;
                    }
                }
            }
        }
        if !is_whole {
            return;
        }
        // Once for each epoch: every account is looked at.
        if self.epochs.is_first(gateway, word) {
            self.abandon_others(gateway, word, &judged);
        }
        let is_newer = |told| self.epochs.is_newer(gateway, word, told);
        self.losses.review(gateway, &judged, is_newer);
    }

    /// Whether blocks of that epoch say what the gateway holds at present.
    pub fn speaks_of_present(&self, gateway: &GatewayId, epoch: Epoch) -> bool {
        self.epochs.speaks_of_present(gateway, epoch)
    }

    /// Something was lost, and its content is not known.
    pub fn observe_unnamed(&mut self, unnamed: Unnamed) {
        let (gateway, boot) = (unnamed.gateway.clone(), unnamed.boot);
        self.losses.insert(unnamed);
        // It may have been overtaken by the word that misses it, and that may have been the last one.
        let theirs = |key: &AccountKey| boot == Some((key.0, key.1));
        let keys: Vec<_> = boot
            .into_iter()
            .flat_map(|(node, _)| self.accounts_of(node))
            .filter(theirs)
            .collect();
        for key in keys {
            self.explain(&gateway, key);
        }
    }

    fn observe_channel(&mut self, gateway: &GatewayId, word: Word, key: AccountKey, report: ChannelHolding) {
        let former = self.accounts.get(&key).and_then(|account| account.said);
        let standing = former.map(|former| self.epochs.standing(gateway, word, former.word));
        let ended = self.ended(key);
        let account = self.account(key);
        let counts = match (standing, former) {
            (Some(Standing::Newer | Standing::Later), _) => true,
            (Some(Standing::Earlier), _) => false,
            // The one that knows more is the newer one: agents forget nothing but with their disk.
            (Some(Standing::Unordered), Some(former)) => report.produced >= former.produced,
            _ => report.produced >= account.cut,
        };
        if counts {
            let is_same_start = standing == Some(Standing::Newer);
            account.hear(word, report, is_same_start, ended);
        }
    }

    /// A later start knows nothing of other channels, so that it has nothing of them.
    fn abandon_others(&mut self, gateway: &GatewayId, word: Word, named: &BTreeMap<AccountKey, Judged>) {
        let is_forgotten = |key: &AccountKey, former: Word| {
            !named.contains_key(key) && self.epochs.standing(gateway, word, former) == Standing::Later
        };
        let forgotten: Vec<_> = self
            .accounts
            .iter()
            .filter_map(|(key, account)| account.said.map(|said| (*key, said.word)))
            .filter(|(key, former)| is_forgotten(key, *former))
            .collect();
        for (key, _) in forgotten {
            let ended = self.ended(key);
            self.account(key).abandon(word, ended);
        }
    }

    /// Books losses of unknown content against what is missing of a channel; whether all of it is explained.
    fn explain(&mut self, gateway: &GatewayId, key: AccountKey) -> bool {
        let ended = self.ended(key);
        let boot: (NodeId, BootId) = (key.0, key.1);
        let Some(account) = self.accounts.get_mut(&key) else {
            return true;
        };
        let mut missing = account.settle(ended).unexplained;
        if missing == 0 {
            return true;
        }
        let explained = self.losses.explain(gateway, boot, missing);
        let account = self.account(key);
        for (cause, samples) in explained {
            missing -= samples;
            let known = account.agent_losses.entry(cause).or_default();
            *known = known.saturating_add(samples);
        }
        missing == 0
    }
}
