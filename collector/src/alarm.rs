//! Alarms that nodes raised, as their agents tell them.
//!
//! An agent keeps each alarm in a slot and tells it again whenever more is known
//! ([`LocalAdvisory`]); resends, restarts and copies from former spools come in any order. A row is
//! named by (node, channel, kind, first), and of two tellings of it the higher count holds: so each
//! alarm is shown once, whatever came how often. The frames with the events themselves are journaled and
//! counted, and show nothing here.

use crate::state::SeriesKey;
use trunnion_common::block::LocalAdvisory;
use trunnion_common::frame::{EventKind, Severity};
use trunnion_common::id::{BootId, ChannelId, GatewayId, NodeId};
use trunnion_common::time::EventTime;

/// An alarm as it was told last.
#[derive(Clone, PartialEq, Debug)]
pub struct AlarmRow {
    /// Which agent told it.
    pub gateway: GatewayId,
    /// Which node raised it.
    pub node: NodeId,
    /// In its latest boot.
    pub boot: BootId,
    /// On which channel, if on one.
    pub channel: Option<ChannelId>,
    /// What happened; `None`: several things, folded for want of room.
    pub kind: Option<EventKind>,
    /// Where the channel hung when the alarm was raised, if a fleet file named it.
    pub series: Option<SeriesKey>,
    /// How much it matters.
    pub severity: Severity,
    /// When the agent heard of it first, by the gateway's clock.
    pub first: EventTime,
    /// When it heard of it last.
    pub last: EventTime,
    /// How often it happened.
    pub repeats: u32,
    /// The latest event's number: a limit's value, an error code.
    pub value: f32,
}

impl AlarmRow {
    /// What an agent told.
    pub fn new(gateway: &GatewayId, told: &LocalAdvisory, series: Option<SeriesKey>) -> Self {
        Self {
            gateway: gateway.clone(),
            node: told.node,
            boot: told.boot,
            channel: told.channel,
            kind: told.kind,
            series,
            severity: told.severity,
            first: told.raised,
            last: told.last.max(told.raised),
            repeats: told.repeats,
            value: told.value,
        }
    }

    /// The name of its kind in the API.
    pub const fn kind_label(&self) -> &'static str {
        match self.kind {
            None => "several",
            Some(kind) => kind.label(),
        }
    }
}
