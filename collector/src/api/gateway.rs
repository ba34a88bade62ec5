//! `GET /api/v1/gateways`: who delivers.
//!
//! ```json
//! {"truncated": false, "gateways": [{"gateway": "bremen/gw-1", "connected": true,
//!   "last_heard": "2026-01-31T12:00:00Z", "last_heard_ns": 0, "agent_version": "0.1.0", "nodes": 3,
//!   "spool_blocks": 0, "spool_bytes": 0}]}
//! ```
//!
//! What an agent says of itself (`agent_version` to `spool_bytes`) is null until its first status.

use super::time::rfc3339;
use super::{Api, clip};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use trunnion_common::id::GatewayId;
use trunnion_common::message::GatewayStatus;
use trunnion_common::time::EventTime;

/// Most gateways in one answer.
pub const GATEWAYS_MAX: usize = 1_000;

/// What the collector knows of a gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gateway {
    /// Which.
    pub gateway: GatewayId,
    /// Whether it has a session at the door.
    pub connected: bool,
    /// When its last message came; none before the first since the collector's start.
    pub last_heard: Option<EventTime>,
    /// What it last said of itself.
    pub status: Option<GatewayStatus>,
}

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
    last_heard: Option<String>,
    last_heard_ns: Option<i64>,
    agent_version: Option<String>,
    nodes: Option<u16>,
    spool_blocks: Option<u64>,
    spool_bytes: Option<u64>,
}

pub(super) async fn list(State(api): State<Api>) -> Json<Gateways> {
    let mut gateways = (api.gateways)();
    let truncated = clip(&mut gateways, GATEWAYS_MAX);
    let gateways = gateways.into_iter().map(entry).collect();
    Json(Gateways { truncated, gateways })
}

fn entry(gateway: Gateway) -> Entry {
    let status = gateway.status.as_ref();
    Entry {
        gateway: gateway.gateway.to_string(),
        connected: gateway.connected,
        last_heard: gateway.last_heard.map(rfc3339),
        last_heard_ns: gateway.last_heard.map(|at| at.0),
        agent_version: status.map(|status| status.agent_version.as_str().to_owned()),
        nodes: status.map(|status| status.nodes),
        spool_blocks: status.map(|status| status.spool_blocks),
        spool_bytes: status.map(|status| status.spool_bytes),
    }
}
