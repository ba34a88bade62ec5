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

mod epochs;
mod index_set;

pub use index_set::IndexSet;

use crate::slots::Slots;
use epochs::{Epochs, Reported};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use trunnion_common::block::{Holding, Tombstone};
use trunnion_common::frame::Status;
use trunnion_common::id::{BootId, ChannelId, Epoch, GatewayId, NodeId};
use trunnion_common::sample::LossCause;
use trunnion_common::sequence::Range;
use trunnion_common::time::EventTime;

/// Most ranges kept per channel and kind; one more, and the lowest hole is written off.
pub const RANGES_MAX: usize = 256;

/// Losses of unknown content kept for attribution.
const UNNAMED_MAX: usize = 256;

/// How long a loss of unknown content may explain missing samples: by then every agent in contact
/// has reported what it holds many times over. Nanoseconds.
const UNNAMED_FOR: i64 = 600 * 1_000_000_000;

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

/// What was lost when its content is not known: any missing sample of its scope may have been in it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Unnamed {
    /// Whose blocks they were in.
    pub gateway: GatewayId,
    /// The node and boot, if that much is known.
    pub boot: Option<(NodeId, BootId)>,
    /// Why they were lost.
    pub cause: LossCause,
    /// At most this many samples.
    pub samples_max: u64,
    /// The journal's time when it was found out.
    pub since: EventTime,
}

/// The accounts of all channels and boots.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    accounts: Slots<AccountKey, Account>,
    newest: Slots<NodeId, BootId>,
    unnamed: Vec<Unnamed>,
    epochs: Epochs,
    changed: BTreeSet<AccountKey>,
}

impl Ledger {
    /// A block of an epoch was committed.
    pub fn observe_block(&mut self, gateway: &GatewayId, epoch: Epoch) {
        self.epochs.hear(gateway, epoch);
    }

    /// A start of a gateway's agent has followed others.
    pub fn observe_superseded(&mut self, gateway: &GatewayId) {
        self.epochs.supersede(gateway);
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

    /// The agent says what node and agent hold: everything below its `produced` can be judged.
    /// `block` is where it stands, by epoch and sequence: of one epoch the later one is the newer.
    ///
    /// Where it says less than what is known, it is an older report that came late, or one of an agent that
    /// knows less than the one before it did, since its gateway was put back to an old image. That one's word
    /// of what it holds counts: what the former said to hold, and it does not, is lost.
    pub fn observe_holding(
        &mut self,
        gateway: &GatewayId,
        block: (Epoch, u64),
        holding: &Holding,
        now: EventTime,
    ) {
        self.unnamed
            .retain(|unnamed| unnamed.samples_max > 0 && now.nanos_since(unnamed.since) < UNNAMED_FOR);
        let mut losses = std::mem::take(&mut self.unnamed);
        let reported = self.epochs.report(gateway, block);
        for report in &holding.channels {
            let key = (holding.node, holding.boot, report.channel);
            let ended = self.ended(key);
            let former = self.accounts.get(&key).and_then(|account| account.reported);
            let is_later = former.is_some_and(|former| self.epochs.is_later(gateway, reported, former));
            let account = self.account(key);
            let is_overtaken = account
                .reported
                .is_some_and(|former| former.epoch == block.0 && block.1 < former.sequence);
            // What the same start says after that is its newer word.
            let is_newer = former.is_some_and(|former| former.epoch == block.0 && former.sequence < block.1);
            if report.produced < account.cut && (is_later || is_newer) {
                account.reported = Some(reported);
                if is_later {
                    account.abandon(report.at_agent);
                } else {
                    account.at_agent = report.at_agent;
                }
                continue;
            }
            if report.produced < account.cut || is_overtaken {
                continue; // An older report that came late.
            }
            account.reported = Some(reported);
            account.cut = report.produced;
            account.at_node = Range::new(report.at_node, report.produced);
            account.at_agent = report.at_agent;
            let mut missing = account.settle(ended).unexplained;
            for unnamed in &mut losses {
                let in_scope = unnamed.boot.is_none_or(|boot| boot == (key.0, key.1));
                if unnamed.gateway == *gateway && in_scope {
                    let taken = missing.min(unnamed.samples_max);
                    missing -= taken;
                    unnamed.samples_max -= taken;
                    *account.agent_losses.entry(unnamed.cause).or_default() += taken;
                }
            }
        }
        self.unnamed = losses;
    }

    /// The agent has said in one block what it holds of all `boots` that it knows. Where that is the first
    /// word of a later start, it has nothing of any other boot that a former one knew.
    pub fn observe_boots_held(
        &mut self,
        gateway: &GatewayId,
        block: (Epoch, u64),
        boots: &BTreeSet<(NodeId, BootId)>,
    ) {
        let reported = self.epochs.report(gateway, block);
        // Once for each epoch: every account is looked at.
        if !self.epochs.is_first(reported, gateway) {
            return;
        }
        let is_forgotten = |(key, account): &(&AccountKey, &Account)| {
            let is_later = |former| self.epochs.is_later(gateway, reported, former);
            !boots.contains(&(key.0, key.1)) && account.reported.is_some_and(is_later)
        };
        let forgotten: Vec<AccountKey> = self
            .accounts
            .iter()
            .filter(is_forgotten)
            .map(|(key, _)| *key)
            .collect();
        for key in forgotten {
            let account = self.account(key);
            account.reported = Some(reported);
            account.abandon(None);
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

    /// Something was lost, and its content is not known.
    pub fn observe_unnamed(&mut self, unnamed: Unnamed) {
        if self.unnamed.len() >= UNNAMED_MAX {
            // The oldest had the most chances to explain something.
            self.unnamed.remove(0);
        }
        self.unnamed.push(unnamed);
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

/// What is known of one channel of one boot.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Account {
    /// Includes holes that were closed to keep it bounded.
    stored: IndexSet,
    waiting: IndexSet,
    refused: IndexSet,
    /// In frames that came after the hole they belong in had been given up.
    given_up: IndexSet,
    /// Indexes below this were judged by the last report.
    cut: u64,
    at_node: Option<Range>,
    at_agent: Option<Range>,
    /// The last report.
    reported: Option<Reported>,
    /// Counted by the node, since its boot.
    node_drops: BTreeMap<LossCause, u64>,
    /// Counted by the agent.
    agent_losses: BTreeMap<LossCause, u64>,
    /// How much of the two counts stands for missing samples.
    booked: BTreeMap<LossCause, u64>,
    /// Samples in closed holes that were missing: they stay missing, without their indexes.
    closed_missing: u64,
    /// Samples in closed holes that were still expected.
    closed_expected: u64,
    duplicated: u64,
    /// As of the last settling.
    unexplained: u64,
}

struct Sums {
    produced: u64,
    stored: u64,
    pending: u64,
    lost: BTreeMap<LossCause, u64>,
    unexplained: u64,
}

impl Account {
    /// Adds up, and books reported losses against samples that are missing.
    fn settle(&mut self, ended: bool) -> Sums {
        // Each sample goes where it is found first.
        let mut known = self.stored.clone();
        let mut claim = |ranges: &[Range], end: u64| -> u64 {
            let clipped = ranges
                .iter()
                .filter_map(|range| Range::new(range.first(), range.end().min(end)));
            clipped
                .flat_map(|range| known.insert(range))
                .map(|range| range.count())
                .sum()
        };
        let mut pending = claim(self.waiting.ranges(), u64::MAX);
        let mut refused = claim(self.refused.ranges(), u64::MAX);
        let mut given_up = claim(self.given_up.ranges(), u64::MAX);
        let last_end = known.ranges().last().map_or(0, |last| last.end());
        let produced = if ended {
            // No report of this boot may come any more: what it is seen to have produced, it did.
            self.cut.max(last_end)
        } else {
            known.run_end(self.cut)
        };
        // What lies behind a hole that no report has judged yet is left out until it is.
        let beyond = |set: &IndexSet| set.count() - set.count_below(produced);
        if last_end > produced {
            let mut seen = self.stored.clone();
            let mut left_out = |set: &IndexSet| {
                let before = beyond(&seen);
                for &range in set.ranges() {
                    seen.insert(range);
                }
                beyond(&seen) - before
            };
            pending -= left_out(&self.waiting);
            refused -= left_out(&self.refused);
            given_up -= left_out(&self.given_up);
        }
        let stored = self.stored.count_below(produced) - self.closed_missing - self.closed_expected;
        let mut claim = |range: Option<Range>| -> u64 {
            let clipped = range.and_then(|range| Range::new(range.first(), range.end().min(produced)));
            let new = clipped.map(|range| known.insert(range)).unwrap_or_default();
            new.iter().map(|range| range.count()).sum()
        };
        pending += claim(self.at_agent);
        let at_node = claim(self.at_node);
        let mut lost = BTreeMap::new();
        if ended {
            // Behind the last cut, what nobody has died with the node too.
            let unreported = claim(Range::new(self.cut, produced));
            lost.insert(LossCause::NodeReset, at_node + unreported);
        } else {
            pending += at_node;
        }
        *lost.entry(LossCause::Refused).or_default() += refused;
        *lost.entry(LossCause::SetOverflow).or_default() += given_up + self.closed_expected;
        let missing = produced - known.count_below(produced) + self.closed_missing;
        self.unexplained = missing - self.book(missing);
        for (&cause, &samples) in &self.booked {
            *lost.entry(cause).or_default() += samples;
        }
        Sums {
            produced,
            stored,
            pending,
            lost,
            unexplained: self.unexplained,
        }
    }

    /// The agent has nothing else any more than `at_agent`: what it was said to have beside that, and nobody
    /// has, is lost.
    fn abandon(&mut self, at_agent: Option<Range>) {
        let mut known = self.stored.clone();
        let named = [&self.waiting, &self.refused, &self.given_up];
        let named = named.into_iter().flat_map(|set| set.ranges().iter().copied());
        for range in named.chain(at_agent) {
            known.insert(range);
        }
        let gone = self.at_agent.map(|range| known.insert(range)).unwrap_or_default();
        let samples: u64 = gone.iter().map(|range| range.count()).sum();
        let lost = self.agent_losses.entry(LossCause::NotHeld).or_default();
        *lost = lost.saturating_add(samples);
        self.at_agent = at_agent;
    }

    /// Books reported counts against that many missing samples; returns how many are booked then.
    fn book(&mut self, missing: u64) -> u64 {
        let mut booked: u64 = self.booked.values().sum();
        for cause in LossCause::ALL {
            let reported = self.reported(cause);
            let mine = self.booked.entry(cause).or_default();
            if booked > missing {
                // First of all those are taken back that the node counted as dropped: the
                // acknowledgement of a frame can be lost, a spool's own block cannot.
                let back = (booked - missing).min(*mine);
                *mine -= back;
                booked -= back;
            } else {
                let more = (missing - booked).min(reported.saturating_sub(*mine));
                *mine += more;
                booked += more;
            }
        }
        self.booked.retain(|_, samples| *samples > 0);
        booked
    }

    fn reported(&self, cause: LossCause) -> u64 {
        let of = |counts: &BTreeMap<LossCause, u64>| counts.get(&cause).copied().unwrap_or(0);
        of(&self.node_drops).saturating_add(of(&self.agent_losses))
    }

    /// Keeps every set within [`RANGES_MAX`]. What is written off counts as judged.
    fn bound(&mut self) {
        while let Some(hole) = self.stored.close_lowest_hole(RANGES_MAX) {
            let mut expected = IndexSet::default();
            let held = [self.at_node, self.at_agent, Range::new(self.cut, u64::MAX)];
            let sets = [&self.waiting, &self.refused, &self.given_up];
            let claims = held.into_iter().flatten();
            for claim in claims.chain(sets.iter().flat_map(|set| set.ranges().iter().copied())) {
                let overlap = Range::new(hole.first().max(claim.first()), hole.end().min(claim.end()));
                if let Some(overlap) = overlap {
                    expected.insert(overlap);
                }
            }
            self.closed_expected += expected.count();
            self.closed_missing += hole.count() - expected.count();
            self.cut = self.cut.max(hole.end());
        }
        for set in [&mut self.waiting, &mut self.refused, &mut self.given_up] {
            while let Some(lowest) = set.take_lowest(RANGES_MAX) {
                let new = self.stored.insert(lowest);
                self.closed_expected += new.iter().map(|range| range.count()).sum::<u64>();
                self.cut = self.cut.max(lowest.end());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use trunnion_common::block::ChannelHolding;
    use trunnion_common::frame::{ChannelStatus, ResetCause};
    use trunnion_common::id::Name;

    fn gateway() -> GatewayId {
        GatewayId {
            site: Name::new("bremen").unwrap(),
            gateway: Name::new("gw-1").unwrap(),
        }
    }

    fn node() -> NodeId {
        NodeId::new(7).unwrap()
    }

    fn key(boot: u32) -> AccountKey {
        (node(), BootId::new(boot, 0), FIRST_CHANNEL)
    }

    fn range(first: u64, end: u64) -> Range {
        Range::new(first, end).unwrap()
    }

    fn status(produced: u64, drops: &[(LossCause, u64)]) -> Status {
        let channel = ChannelStatus {
            produced,
            held_from: 0,
            drops: drops.iter().copied().collect(),
        };
        Status {
            channels: [channel].into_iter().collect(),
            held: Default::default(),
            next: [0, 0],
            outbox_used: 0,
            outbox_capacity: 0,
            reset: ResetCause::PowerOn,
        }
    }

    fn holding(boot: u32, produced: u64, at_node: u64, at_agent: Option<Range>) -> Holding {
        let channel = ChannelHolding {
            channel: FIRST_CHANNEL,
            produced,
            at_node,
            at_agent,
        };
        Holding {
            node: node(),
            boot: BootId::new(boot, 0),
            channels: [channel].into_iter().collect(),
        }
    }

    fn observe_holding(ledger: &mut Ledger, holding: &Holding) {
        ledger.observe_holding(&gateway(), (Epoch(1), 0), holding, EventTime(0));
    }

    /// (produced, stored, lost, pending, unexplained)
    fn sums(ledger: &mut Ledger, boot: u32) -> (u64, u64, u64, u64, u64) {
        let row = ledger.row(key(boot)).unwrap();
        (
            row.produced,
            row.stored,
            row.lost_total(),
            row.pending,
            row.unexplained,
        )
    }

    #[test]
    fn samples_that_come_in_order_are_produced_and_stored_without_any_report() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.store(key(1), range(0, 100)), [range(0, 100)]);
        assert_eq!(ledger.store(key(1), range(50, 150)), [range(100, 150)]);
        assert_eq!(sums(&mut ledger, 1), (150, 150, 0, 0, 0));
        assert_eq!(ledger.row(key(1)).unwrap().duplicated, 50);
    }

    #[test]
    fn what_lies_behind_a_hole_waits_for_the_next_report() {
        let mut ledger = Ledger::default();
        ledger.store(key(1), range(0, 100));
        ledger.store(key(1), range(200, 300));
        assert_eq!(sums(&mut ledger, 1), (100, 100, 0, 0, 0));
        observe_holding(&mut ledger, &holding(1, 300, 280, Some(range(100, 200))));
        assert_eq!(sums(&mut ledger, 1), (300, 200, 0, 100, 0));
        ledger.store(key(1), range(100, 200));
        assert_eq!(sums(&mut ledger, 1), (300, 300, 0, 0, 0));
    }

    #[test]
    fn a_report_that_its_successor_overtook_says_nothing_any_more() {
        let mut ledger = Ledger::default();
        ledger.store(key(1), range(0, 100));
        let report = |ledger: &mut Ledger, epoch, sequence, at_agent| {
            let holding = holding(1, 120, 120, at_agent);
            ledger.observe_holding(&gateway(), (Epoch(epoch), sequence), &holding, EventTime(0));
        };
        ledger.refuse(key(1), range(100, 120));
        report(&mut ledger, 1, 8, None);
        report(&mut ledger, 1, 7, Some(range(100, 140)));
        let at_agent = |ledger: &Ledger| ledger.accounts.get(&key(1)).unwrap().at_agent;
        assert_eq!(at_agent(&ledger), None);
        report(&mut ledger, 2, 0, Some(range(100, 140)));
        assert!(at_agent(&ledger).is_some(), "another epoch counts anew");
    }

    /// A boot that has ended, of which an agent of epoch 1 said to hold the last 50 samples.
    fn ended_boot_with_an_agent() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.observe_boot(node(), BootId::new(1, 0));
        ledger.observe_block(&gateway(), Epoch(1));
        ledger.store(key(1), range(0, 100));
        observe_holding(&mut ledger, &holding(1, 150, 150, Some(range(100, 150))));
        ledger.observe_boot(node(), BootId::new(2, 0));
        assert_eq!(sums(&mut ledger, 1), (150, 100, 0, 50, 0));
        ledger
    }

    /// An agent that knows of 80 samples, of which it holds what it says, reports in epoch 2.
    fn report_of_an_old_image(ledger: &mut Ledger, at_agent: Option<Range>) {
        ledger.observe_block(&gateway(), Epoch(2));
        let holding = holding(1, 80, 80, at_agent);
        ledger.observe_holding(&gateway(), (Epoch(2), 0), &holding, EventTime(0));
    }

    #[test]
    fn what_a_gateway_lost_with_its_disk_is_not_held_once_its_old_image_speaks() {
        for is_closed in [true, false] {
            let mut ledger = ended_boot_with_an_agent();
            if is_closed {
                ledger.observe_epoch_closed(&gateway(), Epoch(1));
            } else {
                ledger.observe_superseded(&gateway());
            }
            report_of_an_old_image(&mut ledger, Some(range(60, 80)));
            assert_eq!(sums(&mut ledger, 1), (150, 100, 50, 0, 0));
            assert_eq!(ledger.row(key(1)).unwrap().lost, [(LossCause::NotHeld, 50)]);
            // Another agent had them after all.
            ledger.store(key(1), range(100, 120));
            assert_eq!(sums(&mut ledger, 1), (150, 120, 30, 0, 0));
        }
    }

    #[test]
    fn what_an_old_image_still_holds_is_pending_until_it_has_come() {
        let mut ledger = Ledger::default();
        ledger.observe_boot(node(), BootId::new(1, 0));
        ledger.observe_block(&gateway(), Epoch(1));
        ledger.store(key(1), range(0, 60));
        observe_holding(&mut ledger, &holding(1, 150, 150, Some(range(60, 150))));
        ledger.observe_boot(node(), BootId::new(2, 0));
        ledger.observe_epoch_closed(&gateway(), Epoch(1));
        report_of_an_old_image(&mut ledger, Some(range(60, 80)));
        assert_eq!(sums(&mut ledger, 1), (150, 60, 70, 20, 0));
        ledger.store(key(1), range(60, 75));
        let tombstone = Tombstone {
            epoch: Epoch(2),
            blocks: range(3, 4),
            cause: LossCause::SpoolUnreadable,
            frames: Default::default(),
            samples: [(node(), BootId::new(1, 0), FIRST_CHANNEL, 5)]
                .into_iter()
                .collect(),
        };
        ledger.observe_tombstone(&tombstone);
        let rest = holding(1, 80, 80, None);
        ledger.observe_holding(&gateway(), (Epoch(2), 1), &rest, EventTime(0));
        assert_eq!(sums(&mut ledger, 1), (150, 75, 75, 0, 0));
    }

    #[test]
    fn what_an_old_image_does_not_even_know_of_is_not_held_either() {
        let mut ledger = ended_boot_with_an_agent();
        let held = |ledger: &mut Ledger, epoch, boot| {
            ledger.observe_block(&gateway(), Epoch(epoch));
            let boots = BTreeSet::from([(node(), BootId::new(boot, 0))]);
            ledger.observe_boots_held(&gateway(), (Epoch(epoch), 0), &boots);
        };
        held(&mut ledger, 2, 2);
        assert_eq!(sums(&mut ledger, 1), (150, 100, 0, 50, 0), "the same start");
        ledger.observe_superseded(&gateway());
        held(&mut ledger, 3, 1);
        assert_eq!(sums(&mut ledger, 1), (150, 100, 0, 50, 0), "it knows the boot");
        ledger.observe_epoch_closed(&gateway(), Epoch(1));
        held(&mut ledger, 4, 2);
        assert_eq!(ledger.row(key(1)).unwrap().lost, [(LossCause::NotHeld, 50)]);
        assert_eq!(sums(&mut ledger, 1), (150, 100, 50, 0, 0));
    }

    #[test]
    fn a_report_that_says_less_and_is_of_no_later_start_says_nothing() {
        let mut ledger = ended_boot_with_an_agent();
        report_of_an_old_image(&mut ledger, None);
        assert_eq!(sums(&mut ledger, 1), (150, 100, 0, 50, 0));
        // A former start's report that was on its way while its successor spoke.
        ledger.observe_superseded(&gateway());
        let newest = holding(1, 150, 150, Some(range(100, 150)));
        ledger.observe_block(&gateway(), Epoch(3));
        ledger.observe_holding(&gateway(), (Epoch(3), 0), &newest, EventTime(0));
        report_of_an_old_image(&mut ledger, None);
        assert_eq!(sums(&mut ledger, 1), (150, 100, 0, 50, 0));
    }

    #[test]
    fn a_hole_that_nobody_holds_and_nobody_lost_is_unexplained() {
        let mut ledger = Ledger::default();
        ledger.store(key(1), range(0, 100));
        observe_holding(&mut ledger, &holding(1, 300, 280, Some(range(150, 290))));
        assert_eq!(sums(&mut ledger, 1), (300, 100, 0, 150, 50));
        assert_eq!(ledger.unexplained(), 50);
        ledger.observe_status(
            node(),
            BootId::new(1, 0),
            &status(300, &[(LossCause::OutboxFull, 50)]),
        );
        assert_eq!(sums(&mut ledger, 1), (300, 100, 50, 150, 0));
    }

    #[test]
    fn a_sample_dropped_after_its_acknowledgement_was_lost_counts_as_stored() {
        let mut ledger = Ledger::default();
        ledger.store(key(1), range(0, 100));
        ledger.observe_status(
            node(),
            BootId::new(1, 0),
            &status(100, &[(LossCause::OutboxFull, 20)]),
        );
        observe_holding(&mut ledger, &holding(1, 100, 100, None));
        assert_eq!(sums(&mut ledger, 1), (100, 100, 0, 0, 0));
    }

    #[test]
    fn what_an_ended_boot_still_held_is_lost_unless_it_comes() {
        let mut ledger = Ledger::default();
        ledger.observe_boot(node(), BootId::new(1, 0));
        ledger.store(key(1), range(0, 100));
        observe_holding(&mut ledger, &holding(1, 150, 100, None));
        assert_eq!(sums(&mut ledger, 1), (150, 100, 0, 50, 0));
        ledger.observe_boot(node(), BootId::new(2, 9));
        assert_eq!(ledger.row(key(1)).unwrap().lost, [(LossCause::NodeReset, 50)]);
        ledger.store(key(1), range(100, 120));
        assert_eq!(sums(&mut ledger, 1), (150, 120, 30, 0, 0));
        assert!(
            ledger
                .poll_changes()
                .iter()
                .any(|row| row.boot == BootId::new(1, 0))
        );
        assert!(ledger.poll_changes().is_empty());
    }

    #[test]
    fn a_hole_that_an_ended_boot_never_reported_died_with_it_unless_it_comes() {
        let mut ledger = Ledger::default();
        ledger.observe_boot(node(), BootId::new(1, 0));
        ledger.store(key(1), range(0, 100));
        ledger.store(key(1), range(150, 200));
        assert_eq!(sums(&mut ledger, 1), (100, 100, 0, 0, 0));
        ledger.observe_boot(node(), BootId::new(2, 0));
        assert_eq!(ledger.row(key(1)).unwrap().lost, [(LossCause::NodeReset, 50)]);
        assert_eq!(sums(&mut ledger, 1), (200, 150, 50, 0, 0));
        ledger.store(key(1), range(100, 150));
        assert_eq!(sums(&mut ledger, 1), (200, 200, 0, 0, 0));
    }

    #[test]
    fn tombstones_and_refusals_are_named() {
        let mut ledger = Ledger::default();
        ledger.store(key(1), range(0, 100));
        ledger.refuse(key(1), range(100, 110));
        ledger.observe_tombstone(&Tombstone {
            epoch: Epoch(1),
            blocks: range(3, 4),
            cause: LossCause::SpoolEvicted,
            frames: Default::default(),
            samples: [(node(), BootId::new(1, 0), FIRST_CHANNEL, 40)]
                .into_iter()
                .collect(),
        });
        observe_holding(&mut ledger, &holding(1, 150, 150, None));
        let row = ledger.row(key(1)).unwrap();
        assert_eq!(
            row.lost,
            [(LossCause::SpoolEvicted, 40), (LossCause::Refused, 10)]
        );
        assert_eq!((row.stored, row.unexplained), (100, 0));
    }

    #[test]
    fn a_loss_of_unknown_content_explains_what_is_missing_at_the_next_report_and_no_more() {
        let mut ledger = Ledger::default();
        ledger.store(key(1), range(0, 100));
        ledger.observe_unnamed(Unnamed {
            gateway: gateway(),
            boot: None,
            cause: LossCause::NotHeld,
            samples_max: 60,
            since: EventTime(0),
        });
        observe_holding(&mut ledger, &holding(1, 150, 150, None));
        assert_eq!(ledger.row(key(1)).unwrap().lost, [(LossCause::NotHeld, 50)]);
        observe_holding(&mut ledger, &holding(1, 200, 200, None));
        assert_eq!(sums(&mut ledger, 1), (200, 100, 60, 0, 40));
    }

    #[test]
    fn many_holes_stay_bounded_and_the_equation_holds() {
        let mut ledger = Ledger::default();
        let holes = 3 * RANGES_MAX as u64;
        for n in 0..holes {
            ledger.store(key(1), range(10 * n, 10 * n + 7));
            ledger.observe_status(
                node(),
                BootId::new(1, 0),
                &status(10 * n + 10, &[(LossCause::OutboxFull, 3 * (n + 1))]),
            );
            observe_holding(&mut ledger, &holding(1, 10 * n + 10, 10 * n + 10, None));
        }
        assert_eq!(sums(&mut ledger, 1), (10 * holes, 7 * holes, 3 * holes, 0, 0));
        assert_eq!(
            ledger.row(key(1)).unwrap().lost,
            [(LossCause::OutboxFull, 3 * holes)]
        );
        assert!(ledger.accounts.get(&key(1)).unwrap().stored.ranges().len() <= RANGES_MAX);
    }

    /// Where a sample really is.
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Place {
        Node,
        /// With the agent; whether the node knows that it is safe.
        Agent,
        Stored,
        Lost,
    }

    /// What the agent sends, in order.
    #[derive(Clone)]
    enum Sent {
        Frame(u64, u64),
        Status(Box<Status>),
        Holding(Box<Holding>),
    }

    proptest! {
        /// A node, an agent and a collector, sample by sample: after every step the equation holds
        /// with nothing unexplained, and once everything has come it agrees with where each sample
        /// really is.
        #[test]
        fn nothing_is_ever_unexplained(
            steps in prop::collection::vec((0u8..8, 1u64..12), 0..150),
        ) {
            let mut ledger = Ledger::default();
            let mut places: Vec<Place> = Vec::new();
            // Samples the agent has, but whose acknowledgement the node has not heard.
            let mut unheard: Vec<(u64, u64)> = Vec::new();
            let mut node_dropped = 0;
            let mut chain: std::collections::VecDeque<Sent> = Default::default();
            let deliver = |ledger: &mut Ledger, places: &mut Vec<Place>, sent: Sent| match sent {
                Sent::Frame(first, end) => {
                    ledger.store(key(1), range(first, end));
                    for place in &mut places[first as usize..end as usize] {
                        *place = Place::Stored;
                    }
                }
                Sent::Status(status) => ledger.observe_status(node(), BootId::new(1, 0), &status),
                Sent::Holding(holding) => observe_holding(ledger, &holding),
            };
            let report = |places: &[Place], last_status: &Status| {
                let find = |wanted| places.iter().position(|place| *place == wanted);
                let at_agent = find(Place::Agent).map(|first| {
                    let last = places.iter().rposition(|place| *place == Place::Agent).unwrap();
                    range(first as u64, last as u64 + 1)
                });
                holding(1, last_status.channels[0].produced, last_status.channels[0].held_from, at_agent)
            };
            for (step, n) in steps {
                let node_first = places.iter().position(|place| *place == Place::Node);
                match step {
                    0 | 1 => places.extend((0..n).map(|_| Place::Node)),
                    2 => {
                        // The oldest samples go to the agent, and perhaps the node hears of it.
                        if let Some(first) = node_first {
                            let end = places.len().min(first + n as usize);
                            let end = (first..end).find(|&i| places[i] != Place::Node).unwrap_or(end);
                            places[first..end].fill(Place::Agent);
                            chain.push_back(Sent::Frame(first as u64, end as u64));
                            if n % 2 == 0 {
                                unheard.push((first as u64, end as u64));
                            }
                        }
                    }
                    3 => {
                        // The node drops its oldest, which the agent may have already.
                        if let Some((first, end)) = unheard.pop() {
                            node_dropped += end - first;
                        } else if let Some(first) = node_first {
                            places[first] = Place::Lost;
                            node_dropped += 1;
                        }
                    }
                    4 | 5 => {
                        let mut last_status = status(places.len() as u64, &[(LossCause::OutboxFull, node_dropped)]);
                        last_status.channels[0].held_from = unheard
                            .iter()
                            .map(|unheard| unheard.0)
                            .chain(node_first.map(|first| first as u64))
                            .min()
                            .unwrap_or(places.len() as u64);
                        chain.push_back(Sent::Status(Box::new(last_status.clone())));
                        chain.push_back(Sent::Holding(Box::new(report(&places, &last_status))));
                    }
                    _ => {
                        for _ in 0..n {
                            if let Some(sent) = chain.pop_front() {
                                deliver(&mut ledger, &mut places, sent);
                            }
                        }
                    }
                }
                if let Some(row) = ledger.row(key(1)) {
                    prop_assert_eq!(row.unexplained, 0);
                    prop_assert_eq!(row.produced, row.stored + row.lost_total() + row.pending);
                    prop_assert!(row.produced <= places.len() as u64);
                }
            }
            unheard.clear();
            for (first, place) in places.iter_mut().enumerate() {
                if *place == Place::Node {
                    *place = Place::Agent;
                    chain.push_back(Sent::Frame(first as u64, first as u64 + 1));
                }
            }
            let mut last_status = status(places.len() as u64, &[(LossCause::OutboxFull, node_dropped)]);
            last_status.channels[0].held_from = places.len() as u64;
            chain.push_back(Sent::Status(Box::new(last_status.clone())));
            while let Some(sent) = chain.pop_front() {
                deliver(&mut ledger, &mut places, sent);
            }
            observe_holding(&mut ledger, &report(&places, &last_status));
            let count = |wanted| places.iter().filter(|place| **place == wanted).count() as u64;
            prop_assert_eq!(
                sums(&mut ledger, 1),
                (places.len() as u64, count(Place::Stored), count(Place::Lost), 0, 0)
            );
        }
    }
}
