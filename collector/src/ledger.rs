//! The loss ledger: `produced = stored + lost(by cause) + pending + unexplained`, per channel and boot. Pure.

use trunnion_common::id::{BootId, ChannelId, NodeId};
use trunnion_common::sample::LossCause;

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
