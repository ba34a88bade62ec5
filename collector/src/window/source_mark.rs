//! How far event time has come at a source, and at several of them together. Pure.
//!
//! A [`SourceMark`] is the highest event time that a source has sent, less the bound of its disorder. It
//! never moves back. A source that has been silent for a while is idle: it holds nobody back any more. The
//! wait begins at its last record, by the journal's clock, and stands still while the reader itself is
//! blocked: then nothing can be heard of anybody.
//!
//! [`CombinedMark`] is the least of the active sources. When one goes idle it may leap ahead; when that one
//! wakes it stays where it is, and what the source then sends is judged by that. When all are idle, it is
//! the highest of their marks: nobody is waited for, so nobody's windows are. Without a source, nothing is
//! passed.

use serde::{Deserialize, Serialize};
use trunnion_common::time::EventTime;

/// How far event time has come at one source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SourceMark {
    /// How far out of order its records may come, nanoseconds.
    bound_ns: i64,
    /// After how long a silence it is idle, nanoseconds of the journal's clock.
    idle_ns: i64,
    watermark: EventTime,
    /// Since when it has been silent, by the journal's clock.
    silent_since: EventTime,
    is_idle: bool,
}

/// Whether records can be heard at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    /// The reader takes what comes.
    Reads,
    /// What is behind the reader has no room: back-pressure.
    Blocked,
}

impl SourceMark {
    /// A source that has sent nothing, from `now` on by the journal's clock.
    pub const fn new(bound_ns: i64, idle_ns: i64, now: EventTime) -> Self {
        Self {
            bound_ns,
            idle_ns,
            watermark: NEVER,
            silent_since: now,
            is_idle: false,
        }
    }

    /// A record of this event time has come, at the journal's time `now`.
    pub fn observe(&mut self, time: EventTime, now: EventTime) {
        self.watermark = self.watermark.max(time.plus_nanos(-self.bound_ns));
        self.silent_since = self.silent_since.max(now);
        self.is_idle = false;
    }

    /// Time passes on the journal's clock.
    pub fn tick(&mut self, now: EventTime, reader: Reader) {
        match reader {
            Reader::Blocked => self.silent_since = self.silent_since.max(now),
            Reader::Reads => self.is_idle |= now.nanos_since(self.silent_since) >= self.idle_ns,
        }
    }

    /// Nothing before this comes any more, as far as the bound holds.
    pub const fn watermark(&self) -> EventTime {
        self.watermark
    }

    /// Whether nobody has to wait for it.
    pub const fn is_idle(&self) -> bool {
        self.is_idle
    }
}

/// How far event time has come at all sources of a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CombinedMark {
    watermark: EventTime,
}

impl Default for CombinedMark {
    fn default() -> Self {
        Self { watermark: NEVER }
    }
}

impl CombinedMark {
    /// Looks at the sources again; returns the watermark.
    pub fn combine<'a>(&mut self, sources: impl IntoIterator<Item = &'a SourceMark>) -> EventTime {
        let (mut active, mut idle) = (None, NEVER);
        for source in sources {
            if source.is_idle {
                idle = idle.max(source.watermark);
            } else {
                active =
                    Some(active.map_or(source.watermark, |least: EventTime| least.min(source.watermark)));
            }
        }
        self.watermark = self.watermark.max(active.unwrap_or(idle));
        self.watermark
    }

    /// Nothing before this is waited for.
    pub const fn watermark(&self) -> EventTime {
        self.watermark
    }
}

/// Before every time stamp.
const NEVER: EventTime = EventTime(i64::MIN);

/// How far from the journal's clock a time stamp may lie before the clock that gave it counts as broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Trust {
    /// Ahead, nanoseconds.
    pub lead_ns: i64,
    /// Behind, nanoseconds; history is older by nature, and not judged by this.
    pub behind_ns: i64,
}

/// What a time stamp says of its clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockVerdict {
    /// It may be right.
    Sound,
    /// It is too far ahead: the record may touch no watermark and no window.
    Ahead,
    /// It is too far behind: likewise.
    Behind,
}

impl Trust {
    /// Judges the time stamp of a live record by the journal's clock.
    pub const fn judge(&self, time: EventTime, now: EventTime) -> ClockVerdict {
        let lead = time.nanos_since(now);
        if lead > self.lead_ns {
            ClockVerdict::Ahead
        } else if lead < -self.behind_ns {
            ClockVerdict::Behind
        } else {
            ClockVerdict::Sound
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_trusted_up_to_the_limit_either_way() {
        let trust = Trust {
            lead_ns: 60,
            behind_ns: 1_000,
        };
        let judge = |time| trust.judge(EventTime(time), EventTime(5_000));
        assert_eq!([judge(5_060), judge(4_000)], [ClockVerdict::Sound; 2]);
        assert_eq!([judge(5_061), judge(i64::MAX)], [ClockVerdict::Ahead; 2]);
        assert_eq!([judge(3_999), judge(i64::MIN)], [ClockVerdict::Behind; 2]);
    }

    #[test]
    fn a_source_that_has_said_nothing_holds_back_until_it_is_idle() {
        let speaks = |time| {
            let mut source = SourceMark::new(0, 60, EventTime(0));
            source.observe(EventTime(time), EventTime(0));
            source
        };
        let (a, mut silent) = (speaks(500), SourceMark::new(0, 60, EventTime(0)));
        let mut combined = CombinedMark::default();
        assert_eq!(combined.combine([&a, &silent]), EventTime(i64::MIN));
        silent.tick(EventTime(60), Reader::Reads);
        assert_eq!(combined.combine([&a, &silent]), EventTime(500));
    }

    #[test]
    fn a_journal_clock_that_stands_still_makes_nobody_idle() {
        let mut source = SourceMark::new(5, 60, EventTime(100));
        for _ in 0..1_000 {
            source.tick(EventTime(100), Reader::Reads);
        }
        assert!(!source.is_idle());
        source.observe(EventTime(i64::MIN), EventTime(100));
        assert_eq!(
            source.watermark(),
            EventTime(i64::MIN),
            "held at the end of the range"
        );
    }
}
