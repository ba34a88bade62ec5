//! Which slow channels tell how a machine is operated, and what their readings say: its speed, its load, and
//! whether it runs.
//!
//! Of a witness, the reading counts that was taken last at or before a window's end, if that is no more than
//! [`Operation::fresh_ns`] before it. One code for the collector and the gateway's agent; of a witness that
//! somebody does not hear nothing is known there, as of one that has fallen silent.

use crate::id::{ChannelId, NodeId};
use crate::operating::Operating;
use crate::quantity::Unit;
use crate::time::EventTime;
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// A shaft that turns slower than this share of its declared speed stands still: below it, a speed sensor
/// shows its zero, or somebody turns the shaft by hand.
const STANDSTILL_SHARE: f32 = 0.05;

/// Readings of a witness kept: four minutes of one in each second, and so more than windows are behind the
/// readings beside them.
pub const READINGS_MAX: usize = 256;

/// A slow channel that tells something of a machine.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Witness {
    /// Of which node.
    pub node: NodeId,
    /// Which channel.
    pub channel: ChannelId,
    /// In which unit its readings count.
    pub unit: Unit,
    /// What its readings are multiplied with, once they are in that unit.
    pub gain: f64,
}

impl Witness {
    /// The channel of the node.
    pub const fn name(&self) -> (NodeId, ChannelId) {
        (self.node, self.channel)
    }
}

/// The witnesses of a machine; without any, it turns as declared.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Operation {
    /// Of the speed, rpm, and the declared speed of the shaft that it is measured at, Hz.
    pub speed: Option<(Witness, f64)>,
    /// Of the load.
    pub load: Option<Witness>,
    /// Of whether it runs, and above what it does.
    pub running: Option<(Witness, f32)>,
    /// How long a reading counts, nanoseconds.
    pub fresh_ns: i64,
}

impl Operation {
    /// Every channel that tells something; one that tells two things, twice.
    pub fn witnesses(&self) -> impl Iterator<Item = &Witness> {
        let speed = self.speed.iter().map(|(witness, _)| witness);
        let running = self.running.iter().map(|(witness, _)| witness);
        speed.chain(&self.load).chain(running)
    }

    /// Whether a channel tells the speed.
    pub const fn tells_speed(&self) -> bool {
        self.speed.is_some()
    }

    /// How the machine was operated, as far as the channels' readings tell, which `reading` gives.
    /// `declared_hz` is the declared speed of the shaft that is asked about.
    ///
    /// Where a channel is to tell the speed and does not, the speed is not known: a declared one would be
    /// that of another regime.
    pub fn operating(
        &self,
        declared_hz: Option<f32>,
        reading: impl Fn((NodeId, ChannelId)) -> Option<f32>,
    ) -> Operating {
        let speed_hz = match self.speed {
            None => declared_hz,
            Some((witness, shaft_hz)) => reading(witness.name()).map(|rpm| {
                let ratio = declared_hz.map_or(1.0, |declared| f64::from(declared) / shaft_hz);
                (f64::from(rpm) / 60.0 * ratio) as f32
            }),
        };
        let turns = || {
            self.speed?;
            Some(speed_hz? > STANDSTILL_SHARE * declared_hz?)
        };
        let running = self.running;
        let running = running.and_then(|(witness, above)| Some(reading(witness.name())? > above));
        Operating {
            is_running: running.or_else(turns),
            speed_hz,
            declared_hz,
            load: self.load.and_then(|witness| reading(witness.name())),
        }
    }
}

/// The last readings of a witness, by rising time, in its unit. Beyond [`READINGS_MAX`] the oldest makes room.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Recent(Vec<(EventTime, f32), READINGS_MAX>);

impl Recent {
    /// Takes a reading. Of two of the same time the later one holds.
    pub fn note(&mut self, time: EventTime, value: f32) {
        let place = self.0.partition_point(|(known, _)| *known < time);
        if let Some(same) = self.0.get_mut(place).filter(|same| same.0 == time) {
            same.1 = value;
            return;
        }
        if !self.0.is_full() {
            // There is room.
            let _ = self.0.insert(place, (time, value));
        } else if let Some(before) = place.checked_sub(1) {
            self.0.remove(0);
            let _ = self.0.insert(before, (time, value));
        }
    }

    /// Whether it is full of readings from after a time, so that one of then finds no room.
    pub fn is_beyond(&self, time: EventTime) -> bool {
        self.0.is_full() && self.0.first().is_some_and(|(first, _)| *first > time)
    }

    /// Whether nothing has been heard.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last reading at or before a time, unless it is older than that.
    pub fn at(&self, time: EventTime, fresh_ns: i64) -> Option<f32> {
        let after = self.0.partition_point(|(known, _)| *known <= time);
        let (taken, value) = self.0.get(after.checked_sub(1)?)?;
        (time.nanos_since(*taken) <= fresh_ns).then_some(*value)
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
    fn the_oldest_reading_makes_room_and_an_older_one_finds_none() {
        let mut recent = Recent::default();
        (1..=READINGS_MAX as i64 + 1).for_each(|time| recent.note(EventTime(time), 1.0));
        assert_eq!(recent.0.len(), READINGS_MAX);
        assert_eq!(recent.at(EventTime(1), i64::MAX), None);
        recent.note(EventTime(0), 0.0);
        assert_eq!(recent.at(EventTime(1), i64::MAX), None);
        assert_eq!(recent.at(EventTime(2), i64::MAX), Some(1.0));
    }

    #[test]
    fn of_two_readings_of_the_same_time_the_later_one_holds() {
        let mut recent = Recent::default();
        recent.note(EventTime(5), 1.0);
        recent.note(EventTime(5), 2.0);
        assert_eq!((recent.0.len(), recent.at(EventTime(5), 0)), (1, Some(2.0)));
    }
}
