//! How much: token buckets per session and per address. Pure; `now` is an argument.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// A rate and the burst above it that is still let through.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate {
    /// Units per second; positive.
    pub per_second: f64,
    /// Units that may come at once after a rest.
    pub burst: f64,
}

/// A token bucket: `burst` deep, filled at `per_second`.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    /// May be negative: what is too large for the bucket passes on credit, so that it passes at all.
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            tokens: rate.burst,
            filled: now,
        }
    }

    /// Takes `amount`, and says how long to wait before taking more.
    pub(crate) fn charge(&mut self, amount: f64, now: Instant) -> Duration {
        self.fill(now);
        self.tokens -= amount;
        if self.tokens >= 0.0 {
            Duration::ZERO
        } else {
            Duration::try_from_secs_f64(-self.tokens / self.rate.per_second).unwrap_or(Duration::MAX)
        }
    }

    /// Takes one unit if there is one.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        self.fill(now);
        let admitted = self.tokens >= 1.0;
        if admitted {
            self.tokens -= 1.0;
        }
        admitted
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.rate.per_second).min(self.rate.burst);
        self.filled = self.filled.max(now);
    }

    /// Whether it is no different from a new one.
    fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens >= self.rate.burst
    }
}

/// Why an address may not connect now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PeerRefusal {
    /// Too many connections without a certificate yet.
    Handshakes,
    /// Too many attempts. `first` since one was let through: the rest are counted, not logged.
    Attempts {
        /// Whether it is the first.
        first: bool,
    },
}

/// Addresses remembered; beyond them all strangers share one entry, so that memory stays bounded and a
/// flood from many addresses throttles itself before it throttles known ones.
const PEERS_MAX: usize = 10_000;

/// What each address has under way.
#[derive(Debug)]
pub(crate) struct Peers {
    attempts: Rate,
    handshakes_max: usize,
    peers: HashMap<IpAddr, Peer>,
}

#[derive(Debug)]
struct Peer {
    attempts: Bucket,
    handshakes: usize,
    refusing: bool,
}

impl Peers {
    pub(crate) fn new(attempts: Rate, handshakes_max: usize) -> Self {
        Self {
            attempts,
            handshakes_max,
            peers: HashMap::new(),
        }
    }

    /// Whether a connection from `address` may begin its handshake; the key given is for
    /// [`handshake_ended`](Self::handshake_ended).
    pub(crate) fn begin(&mut self, address: IpAddr, now: Instant) -> Result<IpAddr, PeerRefusal> {
        let mut key = subscriber(address);
        if !self.peers.contains_key(&key) && self.peers.len() >= PEERS_MAX {
            self.peers
                .retain(|_, peer| peer.handshakes > 0 || !peer.attempts.is_full(now));
            if self.peers.len() >= PEERS_MAX {
                key = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            }
        }
        let rate = self.attempts;
        let peer = self.peers.entry(key).or_insert_with(|| Peer {
            attempts: Bucket::new(rate, now),
            handshakes: 0,
            refusing: false,
        });
        if !peer.attempts.admit(now) {
            return Err(PeerRefusal::Attempts {
                first: !std::mem::replace(&mut peer.refusing, true),
            });
        }
        peer.refusing = false;
        if peer.handshakes >= self.handshakes_max {
            return Err(PeerRefusal::Handshakes);
        }
        peer.handshakes += 1;
        Ok(key)
    }

    /// The handshake of a connection that was let begin has ended, in whichever way.
    pub(crate) fn handshake_ended(&mut self, key: IpAddr) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.handshakes = peer.handshakes.saturating_sub(1);
        }
    }
}

/// Who an address stands for: with IPv6, one subscriber has a /64 of them (RFC 6177).
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate {
        per_second: 10.0,
        burst: 5.0,
    };

    #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_rules() {
        let start = start();
        let mut bucket = Bucket::new(RATE, start);
        for _ in 0..5 {
            assert_eq!(bucket.charge(1.0, start), Duration::ZERO);
        }
        assert_eq!(bucket.charge(1.0, start), Duration::from_millis(100));
        assert_eq!(
            bucket.charge(0.0, start + Duration::from_millis(100)),
            Duration::ZERO
        );
    }

    #[test]
    fn more_than_the_bucket_holds_passes_once_and_is_paid_for() {
        let start = start();
        let mut bucket = Bucket::new(RATE, start);
        assert_eq!(bucket.charge(25.0, start), Duration::from_secs(2));
    }

    #[test]
    fn time_that_runs_backwards_gives_nothing() {
        let start = start() + Duration::from_secs(10);
        let mut bucket = Bucket::new(RATE, start);
        while bucket.admit(start) {}
        assert!(!bucket.admit(start - Duration::from_secs(5)));
        assert!(!bucket.admit(start));
    }

    #[test]
    fn one_address_over_its_limit_leaves_the_others_alone() {
        let start = start();
        let mut peers = Peers::new(RATE, 100);
        let (noisy, quiet) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let refused: Vec<_> = (0..8).filter_map(|_| peers.begin(noisy, start).err()).collect();
        assert_eq!(
            refused,
            [
                PeerRefusal::Attempts { first: true },
                PeerRefusal::Attempts { first: false },
                PeerRefusal::Attempts { first: false }
            ]
        );
        assert!(peers.begin(quiet, start).is_ok());
        assert!(peers.begin(noisy, start + Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn handshakes_under_way_are_bounded_and_given_back() {
        let start = start();
        let mut peers = Peers::new(RATE, 2);
        let address = IpAddr::from([10, 0, 0, 1]);
        let key = peers.begin(address, start).unwrap();
        peers.begin(address, start).unwrap();
        assert_eq!(peers.begin(address, start), Err(PeerRefusal::Handshakes));
        peers.handshake_ended(key);
        assert!(peers.begin(address, start).is_ok());
    }

    #[test]
    fn a_flood_of_addresses_stays_bounded() {
        let start = start();
        let mut peers = Peers::new(RATE, 2);
        for n in 0..2 * PEERS_MAX as u128 {
            let _ = peers.begin(Ipv6Addr::from(n << 64).into(), start);
        }
        assert!(peers.peers.len() <= PEERS_MAX + 1);
    }

    #[test]
    fn neighbours_within_a_64_are_one_subscriber_and_mapped_addresses_are_v4() {
        assert_eq!(
            subscriber("2001:db8::1".parse().unwrap()),
            subscriber("2001:db8::2".parse().unwrap())
        );
        assert_ne!(
            subscriber("2001:db8::1".parse().unwrap()),
            subscriber("2001:db8:0:1::1".parse().unwrap())
        );
        assert_eq!(
            subscriber("::ffff:10.0.0.1".parse().unwrap()),
            IpAddr::from([10, 0, 0, 1])
        );
    }

    proptest! {
        #[test]
        fn no_more_passes_than_burst_and_rate_allow(steps in prop::collection::vec((0u64..500, 1u32..4), 1..200)) {
            let start = start();
            let (mut bucket, mut now, mut passed) = (Bucket::new(RATE, start), start, 0.0);
            for (wait, tries) in steps {
                now += Duration::from_millis(wait);
                passed += (0..tries).filter(|_| bucket.admit(now)).count() as f64;
                let allowed = RATE.burst + RATE.per_second * (now - start).as_secs_f64();
                prop_assert!(passed <= allowed + 1e-6);
            }
        }
    }
}
