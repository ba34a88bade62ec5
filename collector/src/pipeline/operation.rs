//! How a machine was operated during a window, by the slow channels that tell it.
//!
//! Of a witness, the reading counts that was taken last at or before the window's end, if that is no more than
//! [`fresh_ns`](crate::fleet::Operation::fresh_ns) before it: among the live readings, in event time, that the
//! journal holds before what made the window fire. So a replay sees the same one. A reading that the journal
//! holds only later counts for none of the windows before it; where witness and vibration come through different
//! gateways, that depends on which of them was journaled first.
//!
//! The values of a window never follow from other channels: what a witness says bears on verdicts and conditions.

use super::{ChannelKey, Pipeline};
use crate::fleet::{ChannelSite, Fleet};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use trunnion_common::operating::Operating;
use trunnion_common::time::EventTime;

/// Readings of a witness kept: four minutes of one in each second, and so more than windows are behind the
/// readings beside them.
pub const READINGS_MAX: usize = 256;

/// The last readings of a channel, by rising time, in the fleet file's unit.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Recent(VecDeque<(EventTime, f32)>);

impl Recent {
    /// Takes a reading. Of two of the same time the later one holds.
    pub(super) fn note(&mut self, time: EventTime, value: f32) {
        let place = self.0.partition_point(|(known, _)| *known < time);
        match self.0.get_mut(place) {
            Some(same) if same.0 == time => same.1 = value,
            _ => self.0.insert(place, (time, value)),
        }
        if self.0.len() > READINGS_MAX {
            self.0.pop_front();
        }
    }

    /// The last reading at or before a time, unless it is older than that.
    fn at(&self, time: EventTime, fresh_ns: i64) -> Option<f32> {
        let after = self.0.partition_point(|(known, _)| *known <= time);
        let (taken, value) = self.0.get(after.checked_sub(1)?)?;
        (time.nanos_since(*taken) <= fresh_ns).then_some(*value)
    }
}

impl Pipeline {
    /// How the machine at a place was operated at a time.
    pub(super) fn operating_at(&self, fleet: &Fleet, site: &ChannelSite, at: EventTime) -> Operating {
        let operation = fleet.operation(&site.series.asset);
        let fresh_ns = operation.map_or(0, |operation| operation.fresh_ns());
        let reading = |key: ChannelKey| self.state.channels.get(&key)?.slow.recent.at(at, fresh_ns);
        fleet.operating(site, reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reading_up_to_the_end_counts_while_it_is_fresh_whatever_the_order() {
        for times in [[10, 20, 30], [30, 10, 20]] {
            let mut recent = Recent::default();
            times
                .into_iter()
                .for_each(|time| recent.note(EventTime(time), time as f32));
            let at = |time| recent.at(EventTime(time), 15);
            assert_eq!(
                [at(9), at(10), at(19), at(30), at(45), at(46)],
                [None, Some(10.0), Some(10.0), Some(30.0), Some(30.0), None]
            );
        }
    }

    #[test]
    fn the_oldest_reading_makes_room() {
        let mut recent = Recent::default();
        (0..=READINGS_MAX as i64).for_each(|time| recent.note(EventTime(time), 0.0));
        assert_eq!(recent.0.len(), READINGS_MAX);
        assert_eq!(recent.at(EventTime(0), i64::MAX), None);
    }
}
