//! Birth, heartbeat and death: what the collector is told about the gateway itself.

use crate::clock::Now;
use crate::forecast::Outlook;
use crate::timekeeper::Timekeeper;
use trunnion_common::id::MasterId;
use trunnion_common::message::{GatewayHealth, GatewayStatus, Phase};

/// Version of this agent.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A status message.
pub fn status(
    phase: Phase,
    now: Now,
    nodes: usize,
    (blocks, bytes): (u64, u64),
    (life, connection): (MasterId, u64),
    health: GatewayHealth,
) -> GatewayStatus {
    GatewayStatus {
        phase,
        agent_version: agent_version(),
        utc: now.utc,
        nodes: u16::try_from(nodes).unwrap_or(u16::MAX),
        spool_blocks: blocks,
        spool_bytes: bytes,
        life: life.0,
        connection,
        health,
    }
}

/// How the gateway fares, as the status says it.
pub fn health(timekeeper: &Timekeeper, outlook: &Outlook) -> GatewayHealth {
    GatewayHealth {
        clock: timekeeper.clock(),
        clock_floor: timekeeper.floor().utc(),
        clock_steps: timekeeper.steps(),
        holds_s: outlook.holds.map(|holds| holds.as_secs()),
        drains_s: outlook.drains.map(|drains| drains.as_secs()),
        written_per_day_bytes: outlook.written_per_day,
        flash_life_days: outlook.flash_life_days,
    }
}

/// The version as messages carry it; a longer one is cut.
pub fn agent_version() -> heapless::String<32> {
    VERSION.chars().take(32).filter(char::is_ascii).collect()
}
