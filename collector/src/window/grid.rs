//! How event time is cut into windows, and for how long they wait. Pure.

use crate::watermark::Patience;
use serde::{Deserialize, Serialize};
use trunnion_common::time::EventTime;
use trunnion_diagnosis::detection::MINIMUM_COVERAGE;

/// How windows are cut and when they fire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WindowSettings {
    /// Length of a window of a fast channel, nanoseconds.
    pub size_ns: i64,
    /// Length of a window of a slow channel, nanoseconds.
    pub scalar_size_ns: i64,
    /// Distance of the grid from the epoch, nanoseconds.
    pub offset_ns: i64,
    /// How long past its end a fired window is kept for what comes late, nanoseconds of event time. Of a
    /// fast channel so are [`KEPT_MAX`](super::KEPT_MAX) windows at most.
    pub lateness_ns: i64,
    /// How far live samples come past a missing frame before it is waited for no longer, nanoseconds.
    pub trail_ns: i64,
    /// How long a silent channel's windows wait for the rest of their samples, nanoseconds.
    pub idle_ns: i64,
    /// How far a time stamp may lie ahead of the journal's clock, nanoseconds.
    pub lead_ns: i64,
    /// How far a live sample's may lie behind it, nanoseconds; without limit in a text from before
    /// there was one.
    #[serde(default = "unlimited")]
    pub behind_ns: i64,
    /// Least share of samples that a window can be decided on, in thousandths.
    pub coverage_min_permille: u32,
}

impl Default for WindowSettings {
    fn default() -> Self {
        const SECOND: i64 = 1_000_000_000;
        Self {
            // Long enough for a resolution of 1 Hz, which tells a bearing's races apart.
            size_ns: SECOND,
            scalar_size_ns: 10 * SECOND,
            offset_ns: 0,
            lateness_ns: 0,
            // A node repeats a frame within a few polls; an agent restarts within seconds.
            trail_ns: 5 * SECOND,
            idle_ns: 60 * SECOND,
            // Gateways are synchronised to well under a second; a minute ahead is a broken clock.
            lead_ns: 60 * SECOND,
            // As long as windows are kept: what lies further behind than that is shown nowhere.
            behind_ns: 30 * 86_400 * SECOND,
            coverage_min_permille: (f64::from(MINIMUM_COVERAGE) * 1e3).round() as u32,
        }
    }
}

const fn unlimited() -> i64 {
    i64::MAX
}

impl WindowSettings {
    /// How long windows wait for what is missing.
    pub const fn patience(&self) -> Patience {
        Patience {
            lateness_ns: self.lateness_ns,
            trail_ns: self.trail_ns,
        }
    }

    /// How event time is cut for fast channels, or for slow ones.
    pub const fn grid(&self, fast: bool) -> Grid {
        Grid {
            size_ns: if fast { self.size_ns } else { self.scalar_size_ns },
            offset_ns: self.offset_ns,
        }
    }
}

/// How event time is cut: into pieces of one size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grid {
    /// Length of a window, nanoseconds.
    pub size_ns: i64,
    /// Distance of the grid from the epoch, nanoseconds.
    pub offset_ns: i64,
}

/// A grid and where it holds. A window that reaches beyond ends there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// How.
    pub grid: Grid,
    /// From this event time on, nanoseconds.
    pub from: i64,
    /// Until before this one, nanoseconds.
    pub to: i64,
}

impl Cut {
    /// The window that holds an instant; the cut is the one around it.
    pub fn slot(&self, time: EventTime) -> Slot {
        let length = self.grid.size_ns.max(1);
        let since = time.0.saturating_sub(self.grid.offset_ns).rem_euclid(length);
        let start = time.0.saturating_sub(since);
        Slot {
            start: start.max(self.from),
            end: start.saturating_add(length).min(self.to),
            length,
        }
    }
}

/// A window's place in event time, nanoseconds UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Inclusive.
    pub start: i64,
    /// Exclusive.
    pub end: i64,
    /// The grid's length; longer than from start to end where the grid changes in between.
    pub length: i64,
}
