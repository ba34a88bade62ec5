//! Which Hellos are news. A Hello closes epochs and books what nobody holds, so that one which the network
//! held up must not do so in the name of an agent that has gone on since. Pure.
//!
//! Starts of an agent have no order that could be trusted: clocks jump, and a gateway restored from an
//! old image counts again. Therefore each start names those before it, by random numbers. Those are
//! journaled as superseded, and their Hellos count no more, also after a restart of the collector.

use super::dedup::BlockSets;
use crate::journal::Entry;
use std::collections::BTreeMap;
use trunnion_common::ack::Hello;
use trunnion_common::id::{GatewayId, MasterId};

/// Why a Hello of a former start is refused.
const SUPERSEDED: &str = "hello_superseded";

/// Why a Hello is refused that came after a later one of the same start.
const OVERTAKEN: &str = "hello_overtaken";

/// The last Hello of every gateway that was taken in, since this collector's start: one of the same agent
/// start that is older says nothing wrong, only less, so that the number need not outlive the collector.
#[derive(Debug, Default)]
pub(super) struct NewestHellos(BTreeMap<GatewayId, (MasterId, u32)>);

impl NewestHellos {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Whether a Hello counts; if not, under which label it is counted.
    pub(super) fn judge(
        &mut self,
        gateway: &GatewayId,
        hello: &Hello,
        blocks: &BlockSets,
    ) -> Result<(), &'static str> {
        if blocks.is_superseded(gateway, hello.start) {
            return Err(SUPERSEDED);
        }
        match self.0.get(gateway) {
            // The same number again is a copy, or one that was sent again: it is answered again.
            Some((start, number)) if *start == hello.start && hello.number < *number => Err(OVERTAKEN),
            _ => {
                self.0.insert(gateway.clone(), (hello.start, hello.number));
                Ok(())
            }
        }
    }
}

/// What is to be journaled of the former starts that a Hello names, if any is not known as such yet.
pub(super) fn superseded(gateway: &GatewayId, hello: &Hello, blocks: &BlockSets) -> Option<Entry> {
    let is_new = |start: &&MasterId| **start != hello.start && !blocks.is_superseded(gateway, **start);
    let starts: Vec<MasterId> = hello.former.iter().rev().filter(is_new).copied().collect();
    let gateway = gateway.clone();
    (!starts.is_empty()).then_some(Entry::Superseded { gateway, starts })
}
