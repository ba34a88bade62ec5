//! Time is three clocks, and they never mix by accident.
//!
//! A node counts [`NodeTicks`] since its boot. The gateway knows UTC and relates the two by numbered
//! [`ClockFix`]es, each with an error bound. The collector computes [`EventTime`] from a frame's ticks
//! and the fix that the frame's record names. Nothing here reads a clock.

use crate::id::{BootId, NodeId};
use core::fmt;
use serde::{Deserialize, Serialize};

/// Microseconds since the node's boot, monotonic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct NodeTicks(pub u64);

impl NodeTicks {
    /// Microseconds from `earlier` to this, or 0 if that is later.
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This much later.
    pub const fn plus_micros(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

/// Nanoseconds since 1970-01-01 UTC, leap seconds not counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct EventTime(pub i64);

impl EventTime {
    /// This much later (earlier when negative), held at the ends of the range.
    pub const fn plus_nanos(self, nanos: i64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// Nanoseconds from `earlier` to this; negative if that is later.
    pub const fn nanos_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:09}s",
            self.0.div_euclid(1_000_000_000),
            self.0.rem_euclid(1_000_000_000)
        )
    }
}

/// How far a time stamp can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum ClockQuality {
    /// The gateway's clock was synchronised when the fix was taken.
    Synchronised,
    /// The gateway's clock was running free: order holds, the date may not.
    Free,
    /// No fix ever came: the time of arrival stands in for the time of the event.
    Arrival,
}

/// One relation between a boot's ticks and UTC, numbered from 0 per (node, boot).
///
/// A frame's record names the fix in force when it was taken in, and event time uses exactly that
/// one, so that it does not depend on what arrives first.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct ClockFix {
    /// Whose ticks.
    pub node: NodeId,
    /// Of which boot.
    pub boot: BootId,
    /// Position among that boot's fixes.
    pub number: u32,
    /// The node's clock at the fix.
    pub ticks: NodeTicks,
    /// UTC at the same instant.
    pub utc: EventTime,
    /// Bound of the error of `utc`, nanoseconds.
    pub error_ns: u64,
    /// Whether the gateway's own clock was synchronised.
    pub quality: ClockQuality,
}

impl ClockFix {
    /// The event time of an instant on the node's clock.
    pub const fn event_time(&self, ticks: NodeTicks) -> EventTime {
        let micros = ticks.0 as i128 - self.ticks.0 as i128;
        let nanos = self.utc.0 as i128 + micros * 1_000;
        if nanos > i64::MAX as i128 {
            EventTime(i64::MAX)
        } else if nanos < i64::MIN as i128 {
            EventTime(i64::MIN)
        } else {
            EventTime(nanos as i64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fix(ticks: u64, utc: i64) -> ClockFix {
        ClockFix {
            node: NodeId::new(1).unwrap(),
            boot: BootId::from_u64(1),
            number: 0,
            ticks: NodeTicks(ticks),
            utc: EventTime(utc),
            error_ns: 0,
            quality: ClockQuality::Synchronised,
        }
    }

    #[test]
    fn ticks_before_and_after_the_fix_map_to_utc() {
        let fix = fix(1_000, 5_000_000_000);
        assert_eq!(fix.event_time(NodeTicks(1_000)), EventTime(5_000_000_000));
        assert_eq!(fix.event_time(NodeTicks(1_001)), EventTime(5_000_001_000));
        assert_eq!(fix.event_time(NodeTicks(0)), EventTime(4_999_000_000));
    }

    #[test]
    fn an_absurd_clock_saturates() {
        assert_eq!(
            fix(0, i64::MAX).event_time(NodeTicks(u64::MAX)),
            EventTime(i64::MAX)
        );
        assert_eq!(
            fix(u64::MAX, i64::MIN).event_time(NodeTicks(0)),
            EventTime(i64::MIN)
        );
    }
}
