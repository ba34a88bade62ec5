//! The alarm of a slow channel: a limit, and whether its sensor answers.
//!
//! As IEC 62682 (ISA-18.2) has alarms: an *on-delay*, so that one odd reading says nothing, and a *deadband*,
//! so that a value at the limit does not chatter.

use trunnion_common::frame::{Event, EventKind, Severity};
use trunnion_common::id::ChannelId;
use trunnion_common::sample::{NoData, Reading};

/// Readings in a row that must agree before anything is said.
pub const ON_DELAY_READINGS: u8 = 3;

/// What a channel's readings are judged by.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limit {
    /// Above this there is an alarm, in the channel's unit.
    pub alarm: f32,
    /// At or below this it is over: lower than `alarm` by the deadband.
    pub clear: f32,
}

impl Limit {
    /// No value is too much: only whether the sensor answers is judged.
    pub const NONE: Self = Self {
        alarm: f32::INFINITY,
        clear: f32::INFINITY,
    };
}

/// The alarm of one channel.
#[derive(Clone, Debug)]
pub struct Alarm {
    channel: ChannelId,
    limit: Limit,
    is_exceeded: bool,
    is_lost: bool,
    /// Readings in a row that speak against `is_exceeded`, and against `is_lost`.
    against: [u8; 2],
}

impl Alarm {
    /// Nothing is exceeded and the sensor is there.
    pub const fn new(channel: ChannelId, limit: Limit) -> Self {
        Self {
            channel,
            limit,
            is_exceeded: false,
            is_lost: false,
            against: [0; 2],
        }
    }

    /// Takes the channel's next reading; an event, if it changes anything. No data is no statement about the
    /// limit: only whether the sensor is lost is judged by it, unless it is a sensor that has not begun yet.
    pub fn judge(&mut self, reading: Reading) -> Option<Event> {
        if reading == Err(NoData::NotReady) {
            return None;
        }
        let value = reading.ok().filter(|value| value.is_finite());
        let [limit, lost] = &mut self.against;
        if turns(&mut self.is_lost, value.is_none(), lost) {
            // What counted towards the limit was of other times.
            *limit = 0;
            return Some(if self.is_lost {
                self.event(EventKind::SensorLost, Severity::Alarm, 0.0)
            } else {
                self.event(EventKind::SensorBack, Severity::Info, value.unwrap_or(0.0))
            });
        }
        let value = value?;
        let exceeds = value
            > if self.is_exceeded {
                self.limit.clear
            } else {
                self.limit.alarm
            };
        turns(&mut self.is_exceeded, exceeds, limit).then(|| {
            if self.is_exceeded {
                self.event(EventKind::LimitExceeded, Severity::Alarm, value)
            } else {
                self.event(EventKind::LimitCleared, Severity::Info, value)
            }
        })
    }

    const fn event(&self, kind: EventKind, severity: Severity, value: f32) -> Event {
        Event {
            severity,
            kind,
            channel: Some(self.channel),
            repeats: 1,
            value,
        }
    }
}

/// Counts what speaks against `state`; whether that was enough to turn it.
fn turns(state: &mut bool, seen: bool, against: &mut u8) -> bool {
    *against = if seen == *state { 0 } else { *against + 1 };
    let is_enough = *against >= ON_DELAY_READINGS;
    if is_enough {
        (*state, *against) = (seen, 0);
    }
    is_enough
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: ChannelId = ChannelId::new(1).unwrap();
    const LIMIT: Limit = Limit {
        alarm: 80.0,
        clear: 75.0,
    };

    /// What each of the readings made the alarm say.
    fn said(readings: &[Reading]) -> Vec<(usize, EventKind)> {
        let mut alarm = Alarm::new(CHANNEL, LIMIT);
        let events = readings.iter().enumerate();
        events
            .filter_map(|(at, reading)| Some((at, alarm.judge(*reading)?.kind)))
            .collect()
    }

    #[test]
    fn a_limit_is_exceeded_after_the_delay_and_cleared_below_the_deadband() {
        let readings = [
            70.0, 81.0, 82.0, 83.0, 84.0, 78.0, 78.0, 78.0, 78.0, 75.0, 74.0, 73.0, 70.0,
        ];
        let readings: Vec<Reading> = readings.into_iter().map(Ok).collect();
        assert_eq!(
            said(&readings),
            [(3, EventKind::LimitExceeded), (11, EventKind::LimitCleared)]
        );
    }

    #[test]
    fn one_odd_reading_says_nothing() {
        let odd = [
            Ok(70.0),
            Ok(200.0),
            Ok(70.0),
            Err(NoData::BusError),
            Ok(f32::NAN),
            Ok(70.0),
        ];
        assert_eq!(said(&odd), []);
    }

    #[test]
    fn a_sensor_that_stays_away_is_lost_and_its_silence_clears_no_limit() {
        let mut readings = vec![Ok(90.0); 3];
        readings.extend([Err(NoData::BusError); 5]);
        readings.extend([Ok(90.0); 5]);
        assert_eq!(
            said(&readings),
            [
                (2, EventKind::LimitExceeded),
                (5, EventKind::SensorLost),
                (10, EventKind::SensorBack)
            ]
        );
    }

    #[test]
    fn a_sensor_that_has_not_begun_is_not_lost_and_one_without_a_limit_can_be() {
        assert_eq!(said(&[Err(NoData::NotReady); 9]), []);
        let mut alarm = Alarm::new(CHANNEL, Limit::NONE);
        let said = [Ok(f32::MAX), Ok(f32::MAX), Ok(f32::MAX)].map(|value| alarm.judge(value));
        assert_eq!(said, [None; 3]);
        let said = [Err(NoData::CableOff); 3].map(|value| alarm.judge(value).map(|event| event.kind));
        assert_eq!(said[2], Some(EventKind::SensorLost));
    }

    #[test]
    fn an_alarm_names_its_channel_and_value() {
        let mut alarm = Alarm::new(CHANNEL, LIMIT);
        let said = [81.0, 82.0, 83.5].map(|value| alarm.judge(Ok(value)));
        let event = said[2].unwrap();
        assert_eq!(
            (event.severity, event.channel, event.value),
            (Severity::Alarm, Some(CHANNEL), 83.5)
        );
    }
}
