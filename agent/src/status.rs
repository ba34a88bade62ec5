//! Birth, heartbeat and death: what the collector is told about the gateway itself.

use crate::clock::Now;
use trunnion_common::message::{GatewayHealth, GatewayStatus, Phase};

/// Version of this agent.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A status message.
pub fn status(phase: Phase, now: Now, nodes: usize, (blocks, bytes): (u64, u64)) -> GatewayStatus {
    GatewayStatus {
        phase,
        agent_version: agent_version(),
        utc: now.utc,
        nodes: u16::try_from(nodes).unwrap_or(u16::MAX),
        spool_blocks: blocks,
        spool_bytes: bytes,
        health: GatewayHealth::default(),
    }
}

/// The version as messages carry it; a longer one is cut.
pub fn agent_version() -> heapless::String<32> {
    VERSION.chars().take(32).filter(char::is_ascii).collect()
}
