//! `GET /api/v1/gateways`: who delivers.
//!
//! ```json
//! {"truncated": false, "gateways": [{"gateway": "bremen/gw-1", "connected": true,
//!   "last_heard": "2026-01-31T12:00:00Z", "last_heard_ns": 0, "agent_version": "0.1.0", "nodes": 3,
//!   "spool_blocks": 0, "spool_bytes": 0, "health": {"clock": "synchronised", "clock_floor": 0,
//!   "clock_steps": 0, "holds_s": 532800, "drains_s": 0, "written_per_day_bytes": 21000000000,
//!   "flash_life_days": 1900}}]}
//! ```
//!
//! `health` says whose UTC the gateway goes by (`synchronised`, `free`, `collector`, `implausible`), its
//! clock floor in nanoseconds since 1970, and for how many seconds its spool holds out and drains at the
//! present rates; what is not known is null.
//!
//! Gateways are listed once they have been heard since the collector's start. What an agent says of
//! itself (`agent_version` to `health`) is null until its first status.

use super::time::rfc3339;
use super::{Api, clip};
use crate::ingest::Gateway;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use trunnion_common::id::GatewayId;
use trunnion_common::message::GatewayHealth;

/// Most gateways in one answer.
pub const GATEWAYS_MAX: usize = 1_000;

/// The body of the answer.
#[derive(Serialize)]
pub(super) struct Gateways {
    truncated: bool,
    gateways: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    gateway: String,
    connected: bool,
    last_heard: String,
    last_heard_ns: i64,
    agent_version: Option<String>,
    nodes: Option<u16>,
    spool_blocks: Option<u64>,
    spool_bytes: Option<u64>,
    health: Option<GatewayHealth>,
}

pub(super) async fn list(State(api): State<Api>) -> Json<Gateways> {
    let mut gateways = Vec::from_iter((api.gateways)());
    let truncated = clip(&mut gateways, GATEWAYS_MAX);
    let gateways = gateways.into_iter().map(entry).collect();
    Json(Gateways { truncated, gateways })
}

fn entry((id, gateway): (GatewayId, Gateway)) -> Entry {
    let status = gateway.status.as_ref();
    Entry {
        gateway: id.to_string(),
        connected: gateway.connected,
        last_heard: rfc3339(gateway.heard),
        last_heard_ns: gateway.heard.0,
        agent_version: status.map(|status| status.agent_version.as_str().to_owned()),
        nodes: status.map(|status| status.nodes),
        spool_blocks: status.map(|status| status.spool_blocks),
        spool_bytes: status.map(|status| status.spool_bytes),
        health: status.map(|status| status.health),
    }
}
