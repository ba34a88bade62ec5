//! The loss ledger: `produced = stored + lost(by cause) + pending + unexplained`, per channel and boot. Pure.
//!
//! Every term is measured for itself, and none is what remains of the others but `unexplained`:
//!
//! - **stored**: sample indexes of committed frames that decode and have an event time;
//! - **pending**: indexes that wait for a clock fix or a channel table here, and indexes that the last
//!   [`Holding`] reported with the agent or with the node, less those that have come since;
//! - **lost**: indexes known to be lost (refused, or held by a node that restarted), and counts that
//!   node and agent reported by cause. A node counts what it dropped even if only the
//!   acknowledgement of it was lost on the line, so counts are booked against indexes that are truly
//!   missing, and a late arrival takes its booking back;
//! - **produced**: up to the last [`Holding`], which is a consistent cut, and from there on as far as
//!   samples came without a hole. A hole beyond the last cut is nobody's claim yet: it is judged, with
//!   everything behind it, at the next cut, or when the node has restarted.
//!
//! So in healthy operation `unexplained` is 0 at every commit and not only at rest.

mod account;
mod epochs;
mod holdings;
mod index_set;
mod unnamed;

pub use index_set::IndexSet;
pub use unnamed::Unnamed;

use crate::slots::Slots;
use account::Account;
use epochs::Epochs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
#[cfg(doc)]
use trunnion_common::block::Holding;
use trunnion_common::block::Tombstone;
use trunnion_common::frame::Status;
use trunnion_common::id::{BootId, ChannelId, Epoch, GatewayId, MasterId, NodeId};
use trunnion_common::sample::LossCause;
use trunnion_common::sequence::Range;
use unnamed::Losses;

/// Most ranges kept per channel and kind; one more, and the lowest hole is written off.
pub const RANGES_MAX: usize = 256;

/// One channel and boot of the ledger, in samples.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LedgerRow {
    /// Which node.
    pub node: NodeId,
    /// Which boot.
    pub boot: BootId,
    /// Which channel.
    pub channel: ChannelId,
    /// The highest index reported, plus one.
    pub produced: u64,
    /// Committed to the journal and placed in event time.
    pub stored: u64,
    /// Lost for good, by cause; causes with none are left out.
    pub lost: Vec<(LossCause, u64)>,
    /// Reported as held by node or agent, or waiting for a clock fix.
    pub pending: u64,
    /// The remainder. Anything but 0 is an alarm.
    pub unexplained: u64,
    /// Samples that came again and were recognised, beside the equation.
    pub duplicated: u64,
}

impl LedgerRow {
    /// Samples lost, over all causes.
    pub fn lost_total(&self) -> u64 {
        self.lost.iter().map(|(_, samples)| samples).sum()
    }
}

/// Which account: one boot of one channel.
pub type AccountKey = (NodeId, BootId, ChannelId);

/// The accounts of all channels and boots.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    accounts: Slots<AccountKey, Account>,
    newest: Slots<NodeId, BootId>,
    losses: Losses,
    epochs: Epochs,
    changed: BTreeSet<AccountKey>,
}

impl Ledger {
    /// A block was committed, by epoch and sequence.
    pub fn observe_block(&mut self, gateway: &GatewayId, block: (Epoch, u64)) {
        self.epochs.hear(gateway, block);
    }

    /// A start of a gateway's agent has followed others.
    pub fn observe_superseded(&mut self, gateway: &GatewayId) {
        self.epochs.supersede(gateway);
    }

    /// An agent's start has said where its epochs stand: what is booked next was found by that.
    pub fn observe_greeting(&mut self, gateway: &GatewayId, start: MasterId, next: &[(Epoch, u64)]) {
        self.epochs.greet(gateway, start, next);
    }

    /// An agent has done with an epoch.
    pub fn observe_epoch_closed(&mut self, gateway: &GatewayId, epoch: Epoch) {
        self.epochs.close(gateway, epoch);
    }

    /// Samples of a frame were committed and have an event time. Returns those that had not come before.
    pub fn store(&mut self, key: AccountKey, samples: Range) -> Vec<Range> {
        let account = self.account(key);
        account.waiting.remove(samples);
        let new = account.stored.insert(samples);
        account.duplicated += samples.count() - new.iter().map(|range| range.count()).sum::<u64>();
        account.bound();
        new
    }

    /// Samples of a frame were committed and wait for their clock fix or channel table.
    pub fn wait(&mut self, key: AccountKey, samples: Range) {
        let account = self.account(key);
        let known = account.stored.count() + account.waiting.count();
        for missing in account.stored.missing(samples) {
            account.waiting.insert(missing);
        }
        let new = account.stored.count() + account.waiting.count() - known;
        account.duplicated += samples.count() - new;
        account.bound();
    }

    /// Samples of a frame were committed, and nobody can make use of them.
    pub fn refuse(&mut self, key: AccountKey, samples: Range) {
        let account = self.account(key);
        account.waiting.remove(samples);
        account.refused.insert(samples);
        account.bound();
    }

    /// Samples that had been refused are stored after all, since their dead letter was replayed. Returns
    /// those that were not stored before.
    pub fn restore(&mut self, key: AccountKey, samples: Range) -> Vec<Range> {
        let account = self.account(key);
        let named = |account: &Account| {
            let sets = [&account.waiting, &account.refused, &account.given_up];
            sets.iter().map(|set| set.count()).sum::<u64>()
        };
        let before = named(account);
        for set in [&mut account.waiting, &mut account.refused, &mut account.given_up] {
            set.remove(samples);
        }
        let named = before - named(account);
        let new = account.stored.insert(samples);
        // Those that were refused before anybody knew which they were are booked as a count.
        let count: u64 = new.iter().map(|range| range.count()).sum();
        let unnamed = count.saturating_sub(named);
        for counts in [&mut account.agent_losses, &mut account.booked] {
            if let Some(refused) = counts.get_mut(&LossCause::Refused) {
                *refused = refused.saturating_sub(unnamed);
            }
        }
        account.bound();
        new
    }

    /// Those of the samples that are stored.
    pub fn stored(&self, key: AccountKey, samples: Range) -> IndexSet {
        let account = self.accounts.get(&key);
        account.map_or_else(IndexSet::default, |account| account.stored.common(samples))
    }

    /// Samples came in a frame that had been received before.
    pub fn repeat(&mut self, key: AccountKey, samples: Range) {
        let account = self.account(key);
        account.duplicated += samples.count();
        // A frame in a hole that was given up comes too late: its samples are named after that.
        for missing in account.stored.missing(samples) {
            for missing in account.waiting.missing(missing) {
                account.given_up.insert(missing);
            }
        }
        account.bound();
    }

    /// The node counts what it dropped.
    pub fn observe_status(&mut self, node: NodeId, boot: BootId, status: &Status) {
        for (position, channel) in status.channels.iter().enumerate() {
            let Some(id) = ChannelId::new(position as u16) else {
                return;
            };
            if channel.produced == 0 && channel.drops.is_empty() {
                continue;
            }
            let account = self.account((node, boot, id));
            for &(cause, samples) in &channel.drops {
                // Samples that only an estimate knows of were never produced, as far as anyone can tell.
                if cause != LossCause::ResetUnknown {
                    let known = account.node_drops.entry(cause).or_default();
                    *known = samples.max(*known);
                }
            }
        }
    }

    /// Blocks were evicted or cannot be read, and the agent counts what was in them.
    pub fn observe_tombstone(&mut self, tombstone: &Tombstone) {
        for &(node, boot, channel, samples) in &tombstone.samples {
            let account = self.account((node, boot, channel));
            let known = account.agent_losses.entry(tombstone.cause).or_default();
            *known = known.saturating_add(samples);
        }
    }

    /// A boot of a node gave a sign of life: earlier boots have ended, and what they still held is lost.
    pub fn observe_boot(&mut self, node: NodeId, boot: BootId) {
        let newest = self.newest.or_insert_with(node, || boot);
        if boot <= *newest {
            return;
        }
        *newest = boot;
        let keys: Vec<_> = self.accounts_of(node).collect();
        self.changed.extend(keys);
    }

    /// A boot's accounts are closed to make room for others: its rows stay what they were, and what
    /// comes of it from now on is counted from nothing.
    pub fn forget(&mut self, (node, boot): (NodeId, BootId)) {
        let theirs = |key: &AccountKey| (key.0, key.1) == (node, boot);
        let keys: Vec<_> = self.accounts_of(node).filter(theirs).collect();
        for key in keys {
            self.accounts.remove(&key);
            self.changed.remove(&key);
        }
        self.losses.forget((node, boot));
        if self.accounts_of(node).next().is_none() {
            self.newest.remove(&node);
        }
    }

    /// The rows that changed since the last call.
    pub fn poll_changes(&mut self) -> Vec<LedgerRow> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|key| self.row(key)).collect()
    }

    /// One row, settled as of now.
    pub fn row(&mut self, key: AccountKey) -> Option<LedgerRow> {
        let ended = self.ended(key);
        let sums = self.accounts.get_mut(&key)?.settle(ended);
        let account = self.accounts.get(&key)?;
        Some(LedgerRow {
            node: key.0,
            boot: key.1,
            channel: key.2,
            produced: sums.produced,
            stored: sums.stored,
            lost: sums
                .lost
                .into_iter()
                .filter(|&(_, samples)| samples > 0)
                .collect(),
            pending: sums.pending,
            unexplained: sums.unexplained,
            duplicated: account.duplicated,
        })
    }

    /// Samples without an explanation, over all accounts.
    pub fn unexplained(&self) -> u64 {
        // Counts come from nodes: a wild one must not end in an overflow.
        let unexplained = self.accounts.iter().map(|(_, account)| account.unexplained);
        unexplained.fold(0, u64::saturating_add)
    }

    fn account(&mut self, key: AccountKey) -> &mut Account {
        self.changed.insert(key);
        self.accounts.or_default(key)
    }

    fn accounts_of(&self, node: NodeId) -> impl Iterator<Item = AccountKey> + '_ {
        let first = (node, BootId::from_u64(0), FIRST_CHANNEL);
        let mine = move |(key, _): &(&AccountKey, _)| key.0 == node;
        self.accounts.from(first).take_while(mine).map(|(key, _)| *key)
    }

    fn ended(&self, (node, boot, _): AccountKey) -> bool {
        self.newest.get(&node).is_some_and(|&newest| boot < newest)
    }
}

const FIRST_CHANNEL: ChannelId = match ChannelId::new(0) {
    Some(channel) => channel,
    None => panic!("a node can have one channel"),
};

#[cfg(test)]
mod tests;
