//! From exchanges of time stamps to numbered clock fixes, one [`ClockSync`] per boot of a node. Pure.
//!
//! Four stamps make an exchange (RFC 5905, section 8): sent and returned on the gateway's monotonic
//! clock, received and answered on the node's. Half the round trip bounds the error, whatever the two
//! ways took. The recent exchanges together bound offset and drift: what none of them rules out is an
//! interval, its middle is told and its half is the error (S. B. Moon, P. Skelly, D. Towsley, "Estimation
//! and removal of clock skew from network delay measurements", *INFOCOM* 1999, whose lines lie under one
//! way's delays; here they lie between those of both). So the shortest round trips count most, and delays
//! that differ between the ways do no harm. The monotonic clock is related to UTC only when a fix is made:
//! a clock that is set in between changes fixes, not measurements. Two clocks may drift apart by `DRIFT_PPM`;
//! exchanges that contradict even that say that one of the clocks jumped or stood still, and of those only
//! the newest is believed.

use crate::clock::Now;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;
use trunnion_common::frame::TimeReply;
use trunnion_common::id::{BootId, NodeId};
use trunnion_common::time::{ClockFix, ClockQuality, NodeTicks};

/// How fast two clocks may drift apart: crystals of plus and minus 50 ppm each.
const DRIFT_PPM: u128 = 100;

/// What stamps of whole microseconds, rounded down, may hide: half of one in the time that the node
/// took, one and a half in the middle between its stamps.
const ROUNDING: Duration = Duration::from_micros(2);

/// How fast a drift itself may change, nanoseconds in a second, each second: a crystal at 60 degrees that warms
/// by 1 K a minute changes by 2.5 ppm a minute (AT cut, 0.035 ppm/K2 about 25 degrees).
const WANDER_NS: f64 = 2_500.0 / 60.0;

/// Exchanges remembered, of 160 s at the usual pace: what older ones say, a changing drift makes worthless.
const RECENT_MAX: usize = 32;

/// Requests that may be unanswered: an older one's reply is no longer recognised.
const OUTSTANDING_MAX: usize = 4;

/// Exchanges right after a boot was first heard, to have a good fix soon.
const QUICK_EXCHANGES: u32 = 4;

/// From one of these to the next.
const QUICK_INTERVAL: Duration = Duration::from_millis(50);

/// A fix that is off by more than this is renewed: at 50 ppm every ten seconds.
const OFF_MAX: Duration = Duration::from_micros(250);

/// A fix is renewed after this time at the latest: by then drift may have added 2 ms to its error.
const FIX_AGE_MAX: Duration = Duration::from_secs(20);

/// How long a reply is expected: a frame that is under way at 115,200 baud takes 0.1 s, and the node a moment.
const REPLY_EXPECTED: Duration = Duration::from_millis(250);

/// Relates one boot's ticks to UTC.
#[derive(Clone, Debug)]
pub struct ClockSync {
    node: NodeId,
    boot: BootId,
    /// The fix in force, and when it was made if that was in this life of the agent.
    fix: Option<(ClockFix, Option<Duration>)>,
    interval: Duration,
    next_request: Duration,
    quick_left: u32,
    outstanding: VecDeque<(u32, Duration)>,
    recent: VecDeque<Exchange>,
}

/// What of a [`ClockSync`] outlives the agent: numbers of fixes are never reused.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct FixInForce(pub ClockFix);

#[derive(Clone, Copy, Debug)]
struct Exchange {
    /// Midway between received and answered.
    ticks: NodeTicks,
    /// Midway between sent and returned.
    mono: Duration,
    /// Longest time it can have spent on the line.
    round_trip: Duration,
}

/// What the recent exchanges leave possible.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Relation {
    /// An instant of the node, that of the newest exchange.
    ticks: NodeTicks,
    /// When that was here, in the middle of what is possible: nanoseconds after the newest exchange's middle.
    after_ns: f64,
    /// Half of what is possible.
    error: Duration,
}

impl Relation {
    /// By the exchanges, oldest first; the newest one stands alone where no drift unites it with the others.
    fn of(exchanges: &VecDeque<Exchange>) -> Option<Self> {
        let newest = exchanges.back()?;
        let views: Vec<View> = exchanges
            .iter()
            .map(|exchange| View::of(exchange, newest))
            .collect();
        // One drift may not explain all: a crystal that warmed up faster than most leaves the older ones out.
        let possible = (0..views.len()).find_map(|from| possible(&views[from..]));
        let (earliest, latest) = possible?;
        Some(Self {
            ticks: newest.ticks,
            after_ns: f64::midpoint(earliest, latest),
            // A bound is rounded up.
            error: Duration::from_nanos((0.5 * (latest - earliest)).max(0.0) as u64 + 1),
        })
    }
}

/// An exchange as seen from the newest one.
#[derive(Clone, Copy, Debug)]
struct View {
    /// How long before on the node's clock, seconds.
    age_s: f64,
    /// How much later it was on this clock than equal rates would have it, nanoseconds.
    late_ns: f64,
    /// Bound of that one's error, if the drift is what it is now.
    error_ns: f64,
}

impl View {
    fn of(exchange: &Exchange, newest: &Exchange) -> Self {
        let age_micros = newest.ticks.micros_since(exchange.ticks) as f64;
        let here = newest.mono.saturating_sub(exchange.mono).as_nanos() as f64;
        let age_s = age_micros / 1e6;
        Self {
            age_s,
            late_ns: 1e3 * age_micros - here,
            error_ns: (exchange.round_trip / 2 + ROUNDING).as_nanos() as f64
                + 0.5 * WANDER_NS * age_s * age_s,
        }
    }
}

/// Between which times after its middle the newest exchange's instant was, nanoseconds, by one drift that all of
/// `views` allow; `None` when there is no such drift.
fn possible(views: &[View]) -> Option<(f64, f64)> {
    // Nanoseconds that this clock gains in a second of the node; both clocks' tolerances multiply to a little more.
    let most = 1_000.0 * (DRIFT_PPM + 1) as f64;
    let (mut least, mut most) = (-most, most);
    for (at, older) in views.iter().enumerate() {
        for newer in &views[at + 1..] {
            let seconds = older.age_s - newer.age_s;
            let (gained, error) = (newer.late_ns - older.late_ns, newer.error_ns + older.error_ns);
            if seconds > 0.0 {
                least = least.max((gained - error) / seconds);
                most = most.min((gained + error) / seconds);
            }
        }
    }
    if least > most {
        return None;
    }
    let earliest = views
        .iter()
        .map(|view| view.late_ns - view.error_ns + least * view.age_s);
    let latest = views
        .iter()
        .map(|view| view.late_ns + view.error_ns + most * view.age_s);
    Some((
        earliest.fold(f64::NEG_INFINITY, f64::max),
        latest.fold(f64::INFINITY, f64::min),
    ))
}

impl Exchange {
    /// How far apart the two middles may be, `now`.
    fn error(&self, now: Duration) -> Duration {
        self.round_trip / 2 + ROUNDING + drift(now.saturating_sub(self.mono))
    }

    /// Whether no drift explains how both can be true.
    fn contradicts(&self, newer: &Self) -> bool {
        let at_node = Duration::from_micros(newer.ticks.0.abs_diff(self.ticks.0));
        let here = newer.mono.abs_diff(self.mono);
        at_node.abs_diff(here) > self.error(newer.mono) + newer.error(newer.mono)
    }
}

fn drift(age: Duration) -> Duration {
    Duration::from_nanos(u64::try_from(age.as_nanos() * DRIFT_PPM / 1_000_000).unwrap_or(u64::MAX))
}

impl ClockSync {
    /// For a boot just heard, with the fix that was in force when a former agent last flushed.
    pub fn new(node: NodeId, boot: BootId, restored: Option<FixInForce>, interval: Duration) -> Self {
        Self {
            node,
            boot,
            fix: restored.map(|FixInForce(fix)| (fix, None)),
            interval,
            next_request: Duration::ZERO,
            quick_left: QUICK_EXCHANGES,
            outstanding: VecDeque::new(),
            recent: VecDeque::new(),
        }
    }

    /// The fix that frames taken in now must name.
    pub fn fix(&self) -> Option<&ClockFix> {
        self.fix.as_ref().map(|(fix, _)| fix)
    }

    /// Number of that fix; 0 also before the first, which then counts for those frames.
    pub fn number(&self) -> u32 {
        self.fix().map_or(0, |fix| fix.number)
    }

    /// When [`Self::poll_request`] will next want to send.
    pub fn next_timeout(&self) -> Duration {
        self.next_request
    }

    /// Until when a reply may come; its time of arrival is a measurement then.
    pub fn reply_expected_until(&self) -> Option<Duration> {
        self.outstanding.back().map(|(_, sent)| *sent + REPLY_EXPECTED)
    }

    /// Whether a request is due; it is then taken as sent, with `number`.
    pub fn poll_request(&mut self, now: Now, number: u32) -> bool {
        if now.mono < self.next_request {
            return false;
        }
        self.next_request = now.mono
            + if self.quick_left > 0 {
                QUICK_INTERVAL
            } else {
                self.interval
            };
        self.quick_left = self.quick_left.saturating_sub(1);
        if self.outstanding.len() == OUTSTANDING_MAX {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back((number, now.mono));
        true
    }

    /// A reply that arrived at `arrived`: the new fix, if it is worth one. Without a `quality` the
    /// gateway knows no UTC: the exchange is remembered, and no fix is made.
    pub fn handle_reply(
        &mut self,
        reply: &TimeReply,
        arrived: Now,
        quality: Option<ClockQuality>,
    ) -> Option<ClockFix> {
        let position = self
            .outstanding
            .iter()
            .position(|(number, _)| *number == reply.request)?;
        let (_, sent) = self.outstanding.remove(position)?;
        let elapsed = arrived.mono.checked_sub(sent)?;
        let at_node = Duration::from_micros(reply.sent.0.checked_sub(reply.received.0)?);
        // A node that claims to have thought for longer than the whole exchange took is not believed.
        // Its clock may be fast, and what it calls its time may have been less.
        let round_trip = (elapsed + drift(at_node)).checked_sub(at_node)?;
        let exchange = Exchange {
            ticks: reply
                .received
                .plus_micros(reply.sent.micros_since(reply.received) / 2),
            mono: sent + elapsed / 2,
            round_trip,
        };
        self.recent.retain(|older| !older.contradicts(&exchange));
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(exchange);
        let candidate = self.candidate(arrived, quality?)?;
        self.is_worth_it(&candidate, arrived.mono)
            .then(|| self.put_in_force(candidate, arrived.mono))
    }

    /// UTC was set, or has become known: the same exchanges mean another UTC from now on. The new fix,
    /// without waiting for a node that may be gone; `None` when there was no exchange in this life.
    pub fn renew(&mut self, now: Now, quality: ClockQuality) -> Option<ClockFix> {
        let candidate = self.candidate(now, quality)?;
        Some(self.put_in_force(candidate, now.mono))
    }

    const fn put_in_force(&mut self, fix: ClockFix, mono: Duration) -> ClockFix {
        self.fix = Some((fix, Some(mono)));
        fix
    }

    fn candidate(&self, now: Now, quality: ClockQuality) -> Option<ClockFix> {
        let newest = self.recent.back()?;
        let found = Relation::of(&self.recent)?;
        let age = now.mono.saturating_sub(newest.mono);
        let nanos = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        let error = found.error + drift(age);
        Some(ClockFix {
            node: self.node,
            boot: self.boot,
            number: self.fix().map_or(0, |fix| fix.number.saturating_add(1)),
            ticks: found.ticks,
            utc: now
                .utc
                .plus_nanos(nanos.saturating_neg())
                .plus_nanos(found.after_ns as i64),
            error_ns: u64::try_from(error.as_nanos()).unwrap_or(u64::MAX),
            quality,
        })
    }

    /// New fixes split the time line, so that one must say something new: the first, a better known
    /// clock, one that is off by more than its successor may be, or one grown old. How old one of a former
    /// life of the agent is, nobody knows.
    fn is_worth_it(&self, candidate: &ClockFix, now: Duration) -> bool {
        let Some((fix, Some(made))) = &self.fix else {
            return true;
        };
        let age = now.saturating_sub(*made);
        let aged_error = fix
            .error_ns
            .saturating_add(u64::try_from(drift(age).as_nanos()).unwrap_or(u64::MAX));
        let moved = candidate
            .utc
            .nanos_since(fix.event_time(candidate.ticks))
            .unsigned_abs();
        moved > candidate.error_ns.max(OFF_MAX.as_nanos() as u64)
            || candidate.error_ns < aged_error / 4
            || age >= FIX_AGE_MAX
            || candidate.quality != fix.quality
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use trunnion_common::time::EventTime;

    const UTC: i64 = 1_700_000_000_000_000_000;

    /// A gateway and a node whose ticks began before the gateway's monotonic clock and run too fast.
    struct Pair {
        sync: ClockSync,
        mono: Duration,
        utc_offset: i64,
        booted: Duration,
        ppm: i64,
        number: u32,
    }

    impl Pair {
        fn new(restored: Option<FixInForce>) -> Self {
            Self {
                sync: ClockSync::new(
                    NodeId::new(1).unwrap(),
                    BootId::from_u64(2),
                    restored,
                    Duration::from_secs(5),
                ),
                mono: Duration::ZERO,
                utc_offset: UTC,
                booted: Duration::from_secs(3),
                ppm: 0,
                number: 0,
            }
        }

        fn now(&self) -> Now {
            Now {
                mono: self.mono,
                utc: EventTime(self.utc_offset + self.mono.as_nanos() as i64),
            }
        }

        fn ticks(&self) -> NodeTicks {
            let mono = self.mono.as_nanos() as i64;
            let nanos = self.booted.as_nanos() as i64 + mono + mono / 1_000 * self.ppm / 1_000;
            NodeTicks(nanos as u64 / 1_000)
        }

        fn true_utc(&self, ticks: NodeTicks) -> EventTime {
            let nanos = i128::from(ticks.0) * 1_000 - self.booted.as_nanos() as i128;
            EventTime(self.utc_offset + (nanos * 1_000_000 / i128::from(1_000_000 + self.ppm)) as i64)
        }

        /// One exchange as soon as one is due, with these delays there and back.
        fn exchange(&mut self, there: Duration, back: Duration) -> Option<ClockFix> {
            self.exchange_with(there, Duration::ZERO, back)
        }

        fn exchange_with(&mut self, there: Duration, thinking: Duration, back: Duration) -> Option<ClockFix> {
            self.mono = self.mono.max(self.sync.next_timeout());
            self.number += 1;
            assert!(self.sync.poll_request(self.now(), self.number));
            self.mono += there;
            let received = self.ticks();
            self.mono += thinking;
            let reply = TimeReply {
                request: self.number,
                received,
                sent: self.ticks(),
            };
            self.mono += back;
            self.sync
                .handle_reply(&reply, self.now(), Some(ClockQuality::Free))
        }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_exchange_gives_fix_zero() {
        let mut pair = Pair::new(None);
        assert_eq!(pair.sync.number(), 0);
        let fix = pair.exchange(MS, MS).unwrap();
        assert_eq!(fix.number, 0);
        assert_eq!(fix.event_time(pair.ticks()), pair.true_utc(pair.ticks()));
    }

    #[test]
    fn a_steady_clock_is_fixed_again_only_when_old() {
        let mut pair = Pair::new(None);
        assert!(pair.exchange(MS, MS).is_some());
        let mut fixes = 0;
        while pair.mono < Duration::from_secs(60) {
            fixes += usize::from(pair.exchange(MS, MS).is_some());
        }
        assert!((2..=3).contains(&fixes), "{fixes}");
        assert_eq!(pair.sync.number(), fixes as u32);
    }

    #[test]
    fn a_clock_that_was_set_gives_a_new_fix_at_once() {
        let mut pair = Pair::new(None);
        assert!(pair.exchange(MS, MS).is_some());
        pair.utc_offset += 3_600_000_000_000;
        let fix = pair.exchange(MS, MS).unwrap();
        assert_eq!(fix.number, 1);
        assert_eq!(fix.event_time(pair.ticks()), pair.true_utc(pair.ticks()));
    }

    #[test]
    fn a_clock_that_was_set_is_fixed_from_what_was_measured_before() {
        let mut pair = Pair::new(None);
        assert!(pair.sync.renew(pair.now(), ClockQuality::Free).is_none());
        assert!(pair.exchange(MS, MS).is_some());
        pair.utc_offset += 3_600_000_000_000;
        pair.mono += Duration::from_secs(4);
        let fix = pair.sync.renew(pair.now(), ClockQuality::Synchronised).unwrap();
        assert_eq!((fix.number, pair.sync.number()), (1, 1));
        assert_eq!(fix.event_time(pair.ticks()), pair.true_utc(pair.ticks()));
    }

    #[test]
    fn without_utc_exchanges_are_kept_and_the_first_fix_counts_for_all_of_the_boot() {
        let mut pair = Pair::new(None);
        let first = pair.ticks();
        for number in 1..=3 {
            pair.mono += Duration::from_secs(5);
            assert!(pair.sync.poll_request(pair.now(), number));
            let reply = TimeReply {
                request: number,
                received: pair.ticks(),
                sent: pair.ticks(),
            };
            assert_eq!(pair.sync.handle_reply(&reply, pair.now(), None), None);
        }
        assert_eq!(pair.sync.number(), 0);
        // Days later UTC becomes known.
        pair.mono += Duration::from_secs(2 * 86_400);
        let fix = pair.sync.renew(pair.now(), ClockQuality::Free).unwrap();
        assert_eq!(fix.number, 0);
        let off = fix
            .event_time(first)
            .nanos_since(pair.true_utc(first))
            .unsigned_abs();
        assert!(off <= fix.error_ns, "{off} > {}", fix.error_ns);
    }

    #[test]
    fn a_much_shorter_round_trip_replaces_a_poor_fix() {
        let mut pair = Pair::new(None);
        assert!(pair.exchange(40 * MS, MS).is_some());
        let fix = pair.exchange(MS, MS).unwrap();
        assert!(fix.error_ns < 2_000_000, "{}", fix.error_ns);
    }

    #[test]
    fn numbers_go_on_after_a_restart_of_the_agent() {
        let mut pair = Pair::new(None);
        let fix = pair.exchange(MS, MS).unwrap();
        let mut pair = Pair::new(Some(FixInForce(ClockFix { number: 41, ..fix })));
        assert_eq!(pair.sync.number(), 41);
        pair.utc_offset += 1_000_000_000;
        assert_eq!(pair.exchange(MS, MS).unwrap().number, 42);
    }

    #[test]
    fn an_unasked_or_impossible_reply_is_no_exchange() {
        let mut pair = Pair::new(None);
        let reply = |request, received, sent| TimeReply {
            request,
            received: NodeTicks(received),
            sent: NodeTicks(sent),
        };
        assert!(pair.sync.poll_request(pair.now(), 1));
        assert_eq!(
            pair.sync
                .handle_reply(&reply(9, 0, 0), pair.now(), Some(ClockQuality::Free)),
            None
        );
        assert_eq!(
            pair.sync
                .handle_reply(&reply(1, 0, 99_000_000), pair.now(), Some(ClockQuality::Free)),
            None
        );
        assert!(pair.sync.fix().is_none());
    }

    #[test]
    fn a_fix_of_a_former_life_is_renewed_by_the_first_exchange() {
        let fix = Pair::new(None).exchange(MS, MS).unwrap();
        let mut pair = Pair::new(Some(FixInForce(fix)));
        assert_eq!(pair.exchange(MS, MS).unwrap().number, 1);
    }

    #[test]
    fn a_node_clock_that_jumped_is_followed_at_once_whatever_was_measured_before() {
        let mut pair = Pair::new(None);
        for _ in 0..RECENT_MAX {
            pair.exchange(MS / 10, MS / 10);
        }
        pair.booted += Duration::from_secs(7);
        let fix = pair.exchange(9 * MS, 9 * MS).unwrap();
        let off = fix.utc.nanos_since(pair.true_utc(fix.ticks)).unsigned_abs();
        assert!(off <= fix.error_ns, "{off} > {}", fix.error_ns);
    }

    proptest! {
        /// Whatever the line does to each way, however long the node thinks and however its clock
        /// drifts within its tolerance, the true time lies within the stated error.
        #[test]
        fn the_error_bound_holds(
            ppm in -(DRIFT_PPM as i64)..=DRIFT_PPM as i64,
            exchanges in prop::collection::vec((0u64..50_000_000, 0u64..2_000_000_000, 0u64..50_000_000), 1..40),
        ) {
            let mut pair = Pair { ppm, ..Pair::new(None) };
            for (there, thinking, back) in exchanges {
                let [there, thinking, back] = [there, thinking, back].map(Duration::from_nanos);
                pair.exchange_with(there, thinking, back);
                let fix = *pair.sync.fix().unwrap();
                let off = fix.utc.nanos_since(pair.true_utc(fix.ticks)).unsigned_abs();
                prop_assert!(off <= fix.error_ns, "{off} > {}", fix.error_ns);
            }
        }
    }
}
