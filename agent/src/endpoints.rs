//! Which of the collector's endpoints to connect to, and when. Pure.
//!
//! Endpoints stand in order of preference. One that fails three times in a row is out for a while, and
//! the first that is not out is tried; when all are out, the one that comes back first. One that works
//! is kept, also after its connection has broken: it is the first to be tried again.
//!
//! A connection that lasted proves its endpoint good, and starts the backoff over. One that is cut soon
//! after the collector has answered proves nothing: two agents with the same bundle cut each other's
//! connections, as MQTT gives a client id to the last that asks for it, and if every answer started the
//! backoff over, they would do so several times a second for ever. Such cuts in a row, with no failed
//! attempt between them, are a take-over by another.

use crate::backoff::Backoff;
use std::time::Duration;

/// Failures in a row that put an endpoint out.
const FAILURES_MAX: u32 = 3;

/// How long an endpoint is out.
const OUT: Duration = Duration::from_secs(30);

/// The longest wait after a first failure.
pub const RECONNECT_FIRST: Duration = Duration::from_millis(200);
const RECONNECT_LONGEST: Duration = Duration::from_secs(30);

/// A connection that lasted this long proves its endpoint good. Longer than the longest wait before an
/// attempt, so that of two agents that cut each other's connections neither ever thinks so.
const STEADY: Duration = Duration::from_secs(45);

/// Connections in a row cut before they were steady at which another agent is suspected, and waits get
/// longer: a line that flaps a little is used again at once.
const CUTS_MAX: u32 = 3;

/// The endpoints and how they have done.
#[derive(Clone, Debug)]
pub struct Endpoints {
    endpoints: Vec<Endpoint>,
    /// The one in use, or tried last.
    current: usize,
    backoff: Backoff,
    /// Since when the collector has answered on this connection.
    answered_at: Option<Duration>,
    /// Connections in a row that were cut before they were steady.
    cuts: u32,
}

#[derive(Clone, Copy, Default, Debug)]
struct Endpoint {
    /// In a row.
    failures: u32,
    out_until: Option<Duration>,
}

/// What a failure means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failure {
    /// When to try again.
    pub retry_at: Duration,
    /// Whether it put the endpoint out.
    pub is_out: bool,
    /// Whether another agent seems to connect with this one's identity.
    pub is_takeover: bool,
}

impl Endpoints {
    /// So many, in order of preference; at least one.
    pub fn new(count: usize) -> Self {
        Self {
            endpoints: vec![Endpoint::default(); count.max(1)],
            current: 0,
            backoff: Backoff::new(RECONNECT_FIRST, RECONNECT_LONGEST),
            answered_at: None,
            cuts: 0,
        }
    }

    /// The one to connect to now, by its place in the order of preference.
    pub fn choose(&mut self, now: Duration) -> usize {
        for endpoint in &mut self.endpoints {
            endpoint.out_until = endpoint.out_until.filter(|until| now < *until);
        }
        if self.endpoints[self.current].out_until.is_some() {
            let places = self.endpoints.iter().enumerate();
            // The first of equals: whoever is not out comes before whoever is back soonest.
            let first = places.min_by_key(|(_, endpoint)| endpoint.out_until);
            self.current = first.map_or(0, |(place, _)| place);
        }
        self.answered_at = None;
        self.current
    }

    /// The collector answered on the connection.
    pub fn handle_answer(&mut self, now: Duration) {
        if self.answered_at.is_none() {
            self.answered_at = Some(now);
            if self.cuts < CUTS_MAX {
                self.backoff.handle_success();
            }
        }
    }

    /// The attempt failed, or the connection ended. `random` is uniform over its type.
    pub fn handle_failure(&mut self, now: Duration, random: u32) -> Failure {
        let lasted = self.answered_at.take().map(|since| now.saturating_sub(since));
        let endpoint = &mut self.endpoints[self.current];
        match lasted {
            Some(lasted) if lasted >= STEADY => {
                self.cuts = 0;
                self.backoff.handle_success();
                endpoint.failures = 0;
            }
            Some(_) => self.cuts = self.cuts.saturating_add(1),
            // Whoever is not there cuts nothing: the collector or the way to it is down.
            None => self.cuts = 0,
        }
        endpoint.failures += 1;
        let is_out = endpoint.failures >= FAILURES_MAX;
        if is_out {
            endpoint.failures = 0;
            endpoint.out_until = Some(now + OUT);
        }
        Failure {
            retry_at: self.backoff.handle_failure(now, random),
            is_out,
            is_takeover: self.cuts >= CUTS_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::ZERO;
    const S: Duration = Duration::from_secs(1);

    /// Tries until one of `good` is chosen; which ones were tried.
    fn connect(endpoints: &mut Endpoints, now: &mut Duration, good: &[usize]) -> Vec<usize> {
        let mut tried = Vec::new();
        loop {
            let chosen = endpoints.choose(*now);
            tried.push(chosen);
            if good.contains(&chosen) {
                endpoints.handle_answer(*now);
                return tried;
            }
            assert!(tried.len() < 100, "{tried:?}");
            *now = endpoints.handle_failure(*now, 0).retry_at;
        }
    }

    #[test]
    fn the_preferred_one_is_tried_three_times_and_then_the_next() {
        let (mut endpoints, mut now) = (Endpoints::new(3), T0);
        assert_eq!(connect(&mut endpoints, &mut now, &[0, 1, 2]), [0]);
        let mut endpoints = Endpoints::new(3);
        assert_eq!(connect(&mut endpoints, &mut now, &[2]), [0, 0, 0, 1, 1, 1, 2]);
    }

    #[test]
    fn one_that_works_is_kept_after_its_connection_broke_and_although_a_better_one_is_back() {
        let (mut endpoints, mut now) = (Endpoints::new(2), T0);
        connect(&mut endpoints, &mut now, &[1]);
        for _ in 0..5 {
            now += 1_000 * S;
            now = endpoints.handle_failure(now, 0).retry_at;
            assert_eq!(connect(&mut endpoints, &mut now, &[0, 1]), [1]);
        }
        // When it fails for good, the preferred one has its turn.
        assert_eq!(connect(&mut endpoints, &mut now, &[0]), [1, 1, 1, 0][1..]);
    }

    #[test]
    fn when_all_are_out_the_one_that_comes_back_first_is_tried() {
        let mut endpoints = Endpoints::new(2);
        let mut now = T0;
        let mut tried = Vec::new();
        for _ in 0..9 {
            tried.push(endpoints.choose(now));
            // Quicker than any is back.
            now += S / 10;
            endpoints.handle_failure(now, 0);
        }
        assert_eq!(tried, [0, 0, 0, 1, 1, 1, 0, 0, 0]);
        now += OUT;
        endpoints.choose(now);
        assert!(
            endpoints
                .endpoints
                .iter()
                .all(|endpoint| endpoint.out_until.is_none())
        );
    }

    #[test]
    fn a_single_endpoint_is_tried_for_ever() {
        let (mut endpoints, mut now) = (Endpoints::new(0), T0);
        for _ in 0..20 {
            assert_eq!(endpoints.choose(now), 0);
            now = endpoints.handle_failure(now, u32::MAX).retry_at;
        }
        assert!(now > 60 * S);
    }

    #[test]
    fn a_connection_that_lasted_starts_the_backoff_over() {
        let (mut endpoints, mut now) = (Endpoints::new(1), T0);
        for _ in 0..10 {
            endpoints.choose(now);
            now = endpoints.handle_failure(now, u32::MAX).retry_at;
        }
        connect(&mut endpoints, &mut now, &[0]);
        now += STEADY;
        assert_eq!(
            endpoints.handle_failure(now, u32::MAX).retry_at,
            now + RECONNECT_FIRST
        );
    }

    #[test]
    fn a_collector_that_is_killed_again_and_again_is_reached_again_at_once() {
        let (mut endpoints, mut now) = (Endpoints::new(1), T0);
        for _ in 0..50 {
            connect(&mut endpoints, &mut now, &[0]);
            now += S;
            let failure = endpoints.handle_failure(now, u32::MAX);
            assert_eq!(failure.retry_at, now + RECONNECT_FIRST);
            assert!(!failure.is_takeover);
            // It is not up again yet.
            endpoints.choose(now);
            now = endpoints.handle_failure(now, u32::MAX).retry_at;
        }
    }

    #[test]
    fn two_agents_with_one_identity_slow_down_and_are_told() {
        let mut agents = [Endpoints::new(1), Endpoints::new(1)];
        let mut randoms = [0u32, u32::MAX / 3];
        let mut next = [T0, S / 20];
        let mut up: Option<usize> = None;
        let (mut cuts, mut told) = (Vec::new(), 0);
        while next.iter().min().is_some_and(|at| *at < 3_600 * S) {
            let who = usize::from(next[1] < next[0]);
            let now = next[who];
            agents[who].choose(now);
            agents[who].handle_answer(now);
            next[who] = Duration::MAX;
            if let Some(other) = up.replace(who).filter(|other| *other != who) {
                randoms[other] = randoms[other].wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let failure = agents[other].handle_failure(now, randoms[other]);
                next[other] = failure.retry_at;
                told += u32::from(failure.is_takeover);
                cuts.push(now);
            }
        }
        assert!(cuts.len() < 300, "{} cuts in an hour", cuts.len());
        assert!(told as usize >= cuts.len() - 2 * CUTS_MAX as usize);
    }
}
