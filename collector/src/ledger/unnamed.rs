//! Losses whose content nobody knows: frames that never came, blocks that nobody can read. Pure.
//!
//! Any missing sample of the scope may have been in one. What it holds was produced before the first word of
//! its gateway that is newer than it, and so below the cut of that word. Until neither agent nor node is said
//! to hold anything below that cut, a hole that it made may hide among what is held, however long a backlog
//! takes to drain; so no clock is asked.
//!
//! Then its holes have all been seen. Some may have been booked against counts of other causes, whose own
//! holes are hidden still: so it remains for as many samples as were explained in its stead, and for as long
//! as that goes on. Beyond that it must not explain what is missing later.

use super::AccountKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trunnion_common::id::{BootId, Epoch, GatewayId, NodeId};
use trunnion_common::sample::LossCause;

/// Scopes and causes told apart; the one that came first makes room, so that what it could have explained
/// stays unexplained.
const UNNAMED_MAX: usize = 256;

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
    /// The block that tells of it, if one does: words that stand before it are older than the loss.
    pub told: Option<(Epoch, u64)>,
}

impl Unnamed {
    fn is_scope_of(&self, gateway: &GatewayId, boot: (NodeId, BootId)) -> bool {
        self.gateway == *gateway && self.boot.is_none_or(|mine| mine == boot)
    }
}

/// How far a channel is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Judged {
    /// Nothing below is held by node or agent.
    pub(super) settled: u64,
    /// The last word goes as far as that.
    pub(super) cut: u64,
    /// Samples that are missing, explained or not.
    pub(super) missing: u64,
    /// How many there were when an earlier word last left none of them unexplained.
    pub(super) named: u64,
}

/// The losses that may still explain something, in the order in which they came.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Losses(Vec<Loss>);

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Loss {
    unnamed: Unnamed,
    /// From the first newer word on.
    open: Option<Open>,
    /// Whether no newer word has come since more was lost.
    is_news: bool,
    /// Samples that it explained since it came, or since its holes had been seen.
    explained: u64,
}

/// What is to be seen before a loss has made all its holes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Open {
    /// Channels with something held below their cut; the cut, and what was missing before.
    channels: BTreeMap<AccountKey, (u64, u64)>,
    /// Samples found missing since then, in channels that are no longer open.
    found: u64,
}

impl Open {
    /// None where a word names no channel of the scope.
    fn new(
        unnamed: &Unnamed,
        judged: &BTreeMap<AccountKey, Judged>,
        missing: impl Fn(&Judged) -> u64,
    ) -> Option<Self> {
        let mine = judged
            .iter()
            .filter(|(key, _)| unnamed.is_scope_of(&unnamed.gateway, (key.0, key.1)));
        let channels: BTreeMap<_, _> = mine
            .map(|(key, judged)| (*key, (judged.cut, missing(judged))))
            .collect();
        (!channels.is_empty()).then_some(Self { channels, found: 0 })
    }

    /// Takes the place of another one: what was found missing then has been found.
    fn follow(&mut self, former: Option<Self>) {
        let Some(former) = former else {
            return;
        };
        self.found = former.found;
        for (key, (_, missing)) in former.channels {
            if let Some((_, known)) = self.channels.get_mut(&key) {
                *known = missing;
            }
        }
    }

    /// Whether everything has been seen.
    fn review(&mut self, judged: &BTreeMap<AccountKey, Judged>) -> bool {
        let found = &mut self.found;
        self.channels.retain(|key, (cut, missing)| match judged.get(key) {
            Some(judged) if judged.settled < *cut => true,
            Some(judged) => {
                *found = found.saturating_add(judged.missing.saturating_sub(*missing));
                false
            }
            None => false,
        });
        self.channels.is_empty()
    }
}

impl Losses {
    /// One more. Of one scope and cause they are one loss.
    pub(super) fn insert(&mut self, unnamed: Unnamed) {
        let same = self.0.iter_mut().find(|loss| {
            let known = &loss.unnamed;
            (known.boot, known.cause) == (unnamed.boot, unnamed.cause) && known.gateway == unnamed.gateway
        });
        if let Some(loss) = same {
            let known = &mut loss.unnamed;
            known.samples_max = known.samples_max.saturating_add(unnamed.samples_max);
            let is_newer = |told: &(Epoch, u64)| {
                known
                    .told
                    .is_none_or(|known| known.0 != told.0 || known.1 < told.1)
            };
            known.told = unnamed.told.filter(is_newer).or(known.told);
            loss.is_news = true;
            return;
        }
        if self.0.len() >= UNNAMED_MAX {
            self.0.remove(0);
        }
        self.0.push(Loss {
            unnamed,
            open: None,
            is_news: true,
            explained: 0,
        });
    }

    /// Explains missing samples of a boot as far as it can; how many, by cause.
    pub(super) fn explain(
        &mut self,
        gateway: &GatewayId,
        boot: (NodeId, BootId),
        mut missing: u64,
    ) -> Vec<(LossCause, u64)> {
        let mut explained = Vec::new();
        for loss in &mut self.0 {
            let unnamed = &mut loss.unnamed;
            let taken = missing.min(unnamed.samples_max);
            if taken > 0 && unnamed.is_scope_of(gateway, boot) {
                missing -= taken;
                unnamed.samples_max -= taken;
                loss.explained = loss.explained.saturating_add(taken);
                explained.push((unnamed.cause, taken));
            }
        }
        self.0.retain(|loss| loss.unnamed.samples_max > 0);
        explained
    }

    /// A gateway has said in one word what it holds of these channels, and of no others. `is_newer` than what
    /// that block tells, or than what no block tells.
    pub(super) fn review(
        &mut self,
        gateway: &GatewayId,
        judged: &BTreeMap<AccountKey, Judged>,
        is_newer: impl Fn(Option<(Epoch, u64)>) -> bool,
    ) {
        self.0.retain_mut(|loss| {
            let Loss {
                unnamed,
                open,
                is_news,
                explained,
            } = loss;
            if unnamed.gateway != *gateway {
                return true;
            }
            if !is_newer(unnamed.told) {
                // What older words found missing is below where counting begins.
                if open.is_none() {
                    *explained = 0;
                }
                return true;
            }
            if *is_news && let Some(mut fresh) = Open::new(unnamed, judged, |judged| judged.named) {
                fresh.follow(open.take());
                (*open, *is_news) = (Some(fresh), false);
            }
            // An agent may know that frames of a boot are gone before it knows of any channel.
            let Some(seen) = open else {
                return true;
            };
            if seen.review(judged) {
                let instead = seen.found.saturating_sub(std::mem::take(explained));
                unnamed.samples_max = unnamed.samples_max.min(instead);
                *open = Open::new(unnamed, judged, |judged| judged.missing);
                return open.is_some() && unnamed.samples_max > 0;
            }
            unnamed.samples_max > 0
        });
    }

    /// A boot's accounts are closed.
    pub(super) fn forget(&mut self, boot: (NodeId, BootId)) {
        self.0.retain(|loss| loss.unnamed.boot != Some(boot));
    }
}
