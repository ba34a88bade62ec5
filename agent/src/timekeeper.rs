//! Whose UTC the gateway goes by, and when it was set. Pure.
//!
//! Arrival stamps, clock fixes and the age of blocks are made of one UTC, chosen in this order:
//!
//! 1. the system's clock while NTP synchronises it;
//! 2. the system's clock while it runs free but agrees with the collector's last acknowledgement;
//! 3. the collector's time, carried on by the monotonic clock, when the system's is far from it;
//! 4. before any acknowledgement, the system's clock when it is not below the clock floor;
//! 5. nothing: the clock is implausible. Stamps then say the floor plus the time since the start, which
//!    is a lower bound, and no clock fix is made: frames name none and wait at the collector. The first
//!    fix made later counts for all of their boot, since it relates to the same monotonic clock.
//!
//! UTC is watched against the monotonic clock: a difference that changes by more than [`STEP_MIN`] from
//! one look to the next is a step, however it came about; less is a clock being slewed, and followed.

use crate::clock::Now;
use crate::floor::{Floor, Refusal};
use std::time::Duration;
use trunnion_common::message::GatewayClock;
use trunnion_common::time::{ClockQuality, EventTime};

/// Least change of UTC that counts as set and not slewed: ntpd(8) slews what is below 128 ms and at no
/// more than 500 ppm, chronyd(8) at no more than 83,333 ppm.
pub const STEP_MIN: Duration = Duration::from_secs(1);

/// A free clock further than this from the collector's is not gone by.
const YIELD: Duration = Duration::from_secs(60);

/// It is gone by again when it is closer than this.
const RETURN: Duration = Duration::from_secs(5);

/// A clock was set, or another one is gone by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// By how much the system's clock or the UTC gone by was set, whichever is more: nanoseconds,
    /// negative when it was set back; 0 when neither was.
    pub step: i64,
    /// Whose UTC it was before.
    pub from: GatewayClock,
    /// Whose UTC it is now.
    pub to: GatewayClock,
}

/// The choice of UTC and what it rests on.
#[derive(Clone, Debug, Default)]
pub struct Timekeeper {
    floor: Floor,
    quality: Option<ClockQuality>,
    /// What the collector said, and when that came.
    anchor: Option<(Duration, EventTime)>,
    clock: GatewayClock,
    /// UTC less the monotonic clock, when last looked at: the system's, and the one gone by.
    offsets: Option<[i128; 2]>,
    /// NTP has just been asked, so that the floor has not been told.
    is_ntp_news: bool,
    steps: u32,
}

impl Timekeeper {
    /// A gateway that has just started, with its floor.
    pub fn new(floor: Floor) -> Self {
        Self {
            floor,
            ..Self::default()
        }
    }

    /// Whose UTC the gateway goes by.
    pub const fn clock(&self) -> GatewayClock {
        self.clock
    }

    /// Times that UTC was set.
    pub const fn steps(&self) -> u32 {
        self.steps
    }

    /// The clock floor.
    pub const fn floor(&self) -> &Floor {
        &self.floor
    }

    /// The clock floor, to be saved or told of a verified certificate.
    pub const fn floor_mut(&mut self) -> &mut Floor {
        &mut self.floor
    }

    /// What a clock fix made now is worth; `None` when none may be made.
    pub fn quality(&self) -> Option<ClockQuality> {
        match self.clock {
            GatewayClock::Synchronised => Some(ClockQuality::Synchronised),
            GatewayClock::Free | GatewayClock::Collector => Some(ClockQuality::Free),
            GatewayClock::Implausible => None,
        }
    }

    /// Whether NTP synchronises the system's clock, as of now; takes effect at the next look.
    pub const fn handle_quality(&mut self, quality: ClockQuality) {
        self.quality = Some(quality);
        self.is_ntp_news = true;
    }

    /// Looks at the clocks as the system has them. Call often, and before [`Self::correct`].
    pub fn observe(&mut self, system: Now) -> (Option<Change>, Result<(), Refusal>) {
        let from = self.clock;
        self.clock = self.choose(system);
        let floor = if std::mem::take(&mut self.is_ntp_news) && self.clock == GatewayClock::Synchronised {
            self.floor.handle_ntp(system.utc)
        } else {
            Ok(())
        };
        let offsets = [system, self.correct(system)].map(offset);
        let before = self.offsets.replace(offsets).unwrap_or(offsets);
        let moved = [offsets[0] - before[0], offsets[1] - before[1]];
        let moved = moved.into_iter().max_by_key(|by| by.unsigned_abs()).unwrap_or(0);
        let is_step = moved.unsigned_abs() > STEP_MIN.as_nanos();
        self.steps = self.steps.saturating_add(u32::from(is_step));
        let change = (is_step || from != self.clock).then(|| Change {
            step: if is_step { saturate(moved) } else { 0 },
            from,
            to: self.clock,
        });
        (change, floor)
    }

    fn choose(&self, system: Now) -> GatewayClock {
        if self.quality == Some(ClockQuality::Synchronised) {
            return GatewayClock::Synchronised;
        }
        match self.collector_utc(system.mono) {
            Some(collector) => {
                let apart = i128::from(system.utc.0) - i128::from(collector.0);
                let tolerated = match self.clock {
                    GatewayClock::Collector => RETURN,
                    _ => YIELD,
                };
                if apart.unsigned_abs() <= tolerated.as_nanos() {
                    GatewayClock::Free
                } else {
                    GatewayClock::Collector
                }
            }
            None if system.utc >= self.floor.utc() => GatewayClock::Free,
            None => GatewayClock::Implausible,
        }
    }

    /// The collector's time now, if it was heard in this life.
    fn collector_utc(&self, mono: Duration) -> Option<EventTime> {
        let (at, utc) = self.anchor?;
        Some(at_mono(offset(Now { mono: at, utc }), mono))
    }

    /// The same instant in the UTC that the gateway goes by.
    pub fn correct(&self, system: Now) -> Now {
        let utc = match self.clock {
            GatewayClock::Synchronised | GatewayClock::Free => system.utc,
            GatewayClock::Collector => self.collector_utc(system.mono).unwrap_or(system.utc),
            GatewayClock::Implausible => at_mono(i128::from(self.floor.utc().0), system.mono),
        };
        Now { utc, ..system }
    }

    /// A recent instant in the UTC that is gone by, as last looked at: one stamped before the system's
    /// clock was set is told in the new time, and not in the old one.
    pub fn recently(&self, system: Now) -> Now {
        match self.offsets {
            Some([_, offset]) => Now {
                utc: at_mono(offset, system.mono),
                ..system
            },
            None => self.correct(system),
        }
    }

    /// A collector's acknowledgement said that it is `utc`; `system` is when it came.
    ///
    /// What takes long on the way says too little: of two that are less than `YIELD` apart, the later
    /// time is the better one. More apart, the collector's own clock was set, and its newest word counts.
    pub fn handle_ack(&mut self, utc: EventTime, system: Now) -> Result<(), Refusal> {
        let ntp = (self.quality == Some(ClockQuality::Synchronised)).then_some(system.utc);
        self.floor.handle_ack(utc, ntp)?;
        if !self.floor.has_verified() {
            return Ok(());
        }
        let behind = self
            .collector_utc(system.mono)
            .map(|known| i128::from(known.0) - i128::from(utc.0));
        if !behind.is_some_and(|behind| (0..=YIELD.as_nanos() as i128).contains(&behind)) {
            self.anchor = Some((system.mono, utc));
        }
        Ok(())
    }
}

fn offset(now: Now) -> i128 {
    i128::from(now.utc.0) - now.mono.as_nanos() as i128
}

fn at_mono(offset: i128, mono: Duration) -> EventTime {
    EventTime(saturate(offset + mono.as_nanos() as i128))
}

fn saturate(nanos: i128) -> i64 {
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const DAY: i64 = 86_400 * SECOND;
    const YEAR: i64 = 365 * DAY;
    const FLOOR: EventTime = EventTime(20_000 * DAY);
    /// The true UTC when the agent started.
    const TRUTH: EventTime = EventTime(20_100 * DAY);

    /// A gateway whose system clock is off by so much.
    struct Gateway {
        keeper: Timekeeper,
        mono: Duration,
        off: i64,
    }

    impl Gateway {
        fn new(off: i64) -> Self {
            Self {
                keeper: Timekeeper::new(Floor::new(Some(FLOOR), EventTime(0))),
                mono: Duration::ZERO,
                off,
            }
        }

        fn truth(&self) -> EventTime {
            TRUTH.plus_nanos(self.mono.as_nanos() as i64)
        }

        fn system(&self) -> Now {
            Now {
                mono: self.mono,
                utc: self.truth().plus_nanos(self.off),
            }
        }

        fn look(&mut self) -> Option<Change> {
            self.mono += Duration::from_millis(100);
            self.keeper.observe(self.system()).0
        }

        /// How far the UTC gone by is from the true one, seconds.
        fn error_s(&self) -> i64 {
            let utc = self.keeper.correct(self.system()).utc;
            utc.nanos_since(self.truth()) / SECOND
        }

        fn ack(&mut self, off: i64) -> Result<(), Refusal> {
            self.keeper.floor_mut().handle_verified(TRUTH.plus_nanos(YEAR));
            let system = self.system();
            self.keeper.handle_ack(self.truth().plus_nanos(off), system)
        }
    }

    /// As after a cold boot in 1970.
    const COLD: i64 = -20_100 * DAY;

    #[test]
    fn a_cold_boot_is_implausible_until_ntp_comes_and_stamps_are_a_lower_bound() {
        let mut gateway = Gateway::new(COLD);
        assert_eq!(gateway.look().unwrap().to, GatewayClock::Implausible);
        assert_eq!(gateway.keeper.quality(), None);
        let stamp = gateway.keeper.correct(gateway.system()).utc;
        assert!(FLOOR < stamp && stamp < gateway.truth());

        gateway.off = 0;
        gateway.keeper.handle_quality(ClockQuality::Synchronised);
        let step = gateway.look().unwrap();
        assert_eq!(step.from, GatewayClock::Implausible);
        assert_eq!(step.to, GatewayClock::Synchronised);
        assert_eq!(step.step, -COLD);
        assert_eq!(gateway.keeper.quality(), Some(ClockQuality::Synchronised));
        assert_eq!(gateway.error_s(), 0);
    }

    #[test]
    fn a_cold_boot_without_ntp_goes_by_the_collector_from_its_first_word_on() {
        let mut gateway = Gateway::new(COLD);
        gateway.look();
        gateway.ack(0).unwrap();
        assert!(gateway.look().is_some());
        assert_eq!(gateway.keeper.clock(), GatewayClock::Collector);
        assert_eq!(gateway.keeper.quality(), Some(ClockQuality::Free));
        for _ in 0..1_000 {
            assert_eq!(gateway.look(), None);
        }
        assert_eq!(gateway.error_s(), 0);
    }

    #[test]
    fn every_jump_is_seen_once_and_a_slew_is_followed() {
        for jump in [-10 * YEAR, -DAY, -2 * SECOND, 2 * SECOND, DAY, 10 * YEAR] {
            let mut gateway = Gateway::new(0);
            gateway.keeper.handle_quality(ClockQuality::Synchronised);
            gateway.look();
            gateway.off += jump;
            assert_eq!(gateway.look().map(|change| change.step), Some(jump));
            assert_eq!(gateway.look(), None);
        }
        let mut gateway = Gateway::new(0);
        for _ in 0..1_000 {
            gateway.off += SECOND / 2;
            assert_eq!(gateway.look(), None);
        }
        assert_eq!(gateway.keeper.steps(), 0);
    }

    #[test]
    fn what_was_stamped_before_a_step_is_told_in_the_new_time() {
        let mut gateway = Gateway::new(-DAY);
        gateway.keeper.handle_quality(ClockQuality::Synchronised);
        gateway.look();
        let stamped = gateway.system();
        gateway.off = 0;
        gateway.look();
        let truth = TRUTH.plus_nanos(stamped.mono.as_nanos() as i64);
        assert_eq!(gateway.keeper.recently(stamped).utc, truth);
    }

    #[test]
    fn a_free_clock_that_jumps_by_ten_years_yields_to_the_collector_and_comes_back() {
        for jump in [-10 * YEAR, 10 * YEAR] {
            let mut gateway = Gateway::new(0);
            gateway.look();
            gateway.ack(0).unwrap();
            gateway.look();
            assert_eq!(gateway.keeper.clock(), GatewayClock::Free);
            gateway.off = jump;
            let change = gateway.look().unwrap();
            assert_eq!((change.step, change.to), (jump, GatewayClock::Collector));
            assert_eq!(gateway.error_s(), 0);
            gateway.off = 0;
            gateway.look();
            assert_eq!(gateway.keeper.clock(), GatewayClock::Free);
        }
    }

    #[test]
    fn a_slow_acknowledgement_does_not_hold_the_time_back() {
        let mut gateway = Gateway::new(COLD);
        gateway.ack(0).unwrap();
        gateway.look();
        gateway.ack(-20 * SECOND).unwrap();
        assert_eq!(gateway.look(), None);
        assert_eq!(gateway.error_s(), 0);
        // So late that the collector must have been set back.
        gateway.ack(-120 * SECOND).unwrap();
        assert_eq!(gateway.look().map(|change| change.step), Some(-120 * SECOND));
    }

    #[test]
    fn an_absurd_collector_changes_nothing() {
        let mut gateway = Gateway::new(0);
        gateway.look();
        assert_eq!(gateway.ack(10 * YEAR), Err(Refusal::BeyondCertificate));
        assert_eq!(gateway.ack(-60 * YEAR), Err(Refusal::BeforeEnrolment));
        assert_eq!(gateway.look(), None);
        assert_eq!(gateway.keeper.clock(), GatewayClock::Free);
        assert_eq!(gateway.error_s(), 0);
        assert_eq!(gateway.keeper.floor().utc(), FLOOR);
    }

    #[test]
    fn a_collector_that_was_ahead_and_is_right_again_does_no_lasting_harm() {
        let mut gateway = Gateway::new(0);
        gateway.look();
        gateway.ack(30 * DAY).unwrap();
        gateway.look();
        assert_eq!(gateway.error_s(), 30 * 86_400);
        gateway.ack(0).unwrap();
        gateway.look();
        // The floor stays where it was, ahead; it stands in the way of nobody.
        assert!(gateway.keeper.floor().utc() > gateway.truth());
        assert_eq!(gateway.keeper.clock(), GatewayClock::Free);
        assert_eq!(gateway.error_s(), 0);
    }

    #[test]
    fn the_ends_of_time_break_nothing() {
        for utc in [i64::MIN, i64::MAX] {
            let mut keeper = Timekeeper::new(Floor::default());
            let system = Now {
                mono: Duration::MAX,
                utc: EventTime(utc),
            };
            let _ = keeper.observe(system);
            keeper.floor_mut().handle_verified(EventTime(i64::MAX));
            let _ = keeper.handle_ack(EventTime(-utc.max(-i64::MAX)), system);
            let _ = keeper.observe(Now {
                mono: Duration::ZERO,
                utc: EventTime(0),
            });
            keeper.correct(system);
        }
    }
}
