//! How a backlog is drained beside what happens now. Pure.
//!
//! A block is live when it was made less than [`Drain::live_age`] ago, and history otherwise; that is
//! decided at its first publication and kept for every later one. The two lanes drain at once and share
//! the connection by bytes; a lane that has nothing to send leaves its share to the other.

use bytes::{Bytes, BytesMut};
use std::time::Duration;
use trunnion_common::block::{self, Lane};
use trunnion_common::message::{BackfillOrder, GatewaySettings};
use trunnion_common::time::EventTime;

/// How the two lanes share the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drain {
    /// A block made longer ago than this is history when it is first published.
    pub live_age: Duration,
    /// Percent of the bytes that live blocks get while both lanes have something to send.
    pub live_share_percent: u8,
    /// In which order the waveforms of the backfill lane go.
    pub order: Order,
    /// Most bytes of history per second, if they are limited.
    pub backfill_bytes_s: Option<u64>,
}

impl Drain {
    /// With what the collector has changed about it.
    pub fn changed_by(self, settings: &GatewaySettings) -> Self {
        let order = settings.backfill_order.map(|order| match order {
            BackfillOrder::OldestFirst => Order::OldestFirst,
            BackfillOrder::NewestFirst => Order::NewestFirst,
        });
        let backfill = settings.backfill_kib_s.map(|kib| u64::from(kib) * 1_024);
        Self {
            live_share_percent: settings.live_share_percent.unwrap_or(self.live_share_percent),
            order: order.unwrap_or(self.order),
            backfill_bytes_s: backfill.or(self.backfill_bytes_s),
            ..self
        }
    }
}

/// In which order the waveforms of the backfill lane go. Its essentials always go oldest first, since
/// the later ones cannot be understood without the earlier ones: channel tables and clock fixes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// As it happened.
    OldestFirst,
    /// What happened last first: a person who comes back to a plant sees the last hour before the
    /// first.
    NewestFirst,
}

impl Order {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::OldestFirst, Self::NewestFirst];

    /// Name in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::OldestFirst => "oldest_first",
            Self::NewestFirst => "newest_first",
        }
    }
}

/// A block that the spool has checked, as it is published in `lane`. The spool stores every block as
/// live, so that only history is written anew, in place if nobody else holds the bytes.
pub fn in_lane(bytes: Bytes, lane: Lane) -> Bytes {
    if block::lane(&bytes) == Some(lane) {
        return bytes;
    }
    let mut bytes = BytesMut::from(bytes);
    block::set_lane(&mut bytes, lane);
    bytes.freeze()
}

/// Bytes that both lanes together may send in one round.
const ROUND_BYTES: u64 = 256 << 10;

/// Whose turn it is: deficit round robin between the live lane and history, by bytes.
///
/// Each round a lane is given its share of [`ROUND_BYTES`], and what it cannot use because its next block
/// is larger it keeps for the next. A lane without anything to send keeps nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    shares: [u64; 2],
    deficits: [u64; 2],
    lane: usize,
}

impl Turn {
    pub(crate) fn new(drain: &Drain) -> Self {
        let live = u64::from(drain.live_share_percent.clamp(1, 99));
        Self {
            shares: [live, 100 - live].map(|percent| ROUND_BYTES * percent / 100),
            deficits: [0; 2],
            lane: 0,
        }
    }

    /// Which lane goes, given the bytes of the next block of each, by lane.
    pub(crate) fn choose(&mut self, next: [Option<u64>; 2]) -> Option<Lane> {
        let [live, backfill] = next;
        let (Some(live), Some(backfill)) = (live, backfill) else {
            self.deficits = [0; 2];
            return live.map(|_| Lane::Live).or(backfill.map(|_| Lane::Backfill));
        };
        // Ends: each round adds something to both.
        loop {
            let bytes = [live, backfill][self.lane];
            if let Some(left) = self.deficits[self.lane].checked_sub(bytes) {
                self.deficits[self.lane] = left;
                return Some([Lane::Live, Lane::Backfill][self.lane]);
            }
            self.lane = 1 - self.lane;
            self.deficits[self.lane] += self.shares[self.lane];
        }
    }
}

/// The limit on bytes of history per second: a bucket that holds one second's worth. A block goes when
/// the bucket is not empty, and what it takes too much is owed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    bytes_s: Option<u64>,
    level: i128,
    at: Duration,
}

const NANOS: i128 = 1_000_000_000;

impl Bucket {
    pub(crate) const fn new(bytes_s: Option<u64>) -> Self {
        Self {
            bytes_s,
            level: 0,
            at: Duration::ZERO,
        }
    }

    /// When the next block may go; not later than `now` means at once.
    pub(crate) fn due(&mut self, now: Duration) -> Duration {
        let Some(rate) = self.bytes_s.map(i128::from) else {
            return now;
        };
        // Counted in bytes times nanoseconds, so that nothing is lost to rounding.
        let passed = now.saturating_sub(self.at).as_nanos() as i128;
        self.level = (self.level + passed * rate).min(rate * NANOS);
        self.at = self.at.max(now);
        let owed = (-self.level).max(0);
        now + Duration::from_nanos(u64::try_from((owed + rate - 1) / rate).unwrap_or(u64::MAX))
    }

    /// A block of history goes.
    pub(crate) fn take(&mut self, bytes: u64) {
        if self.bytes_s.is_some() {
            self.level -= i128::from(bytes) * NANOS;
        }
    }
}

/// Beyond the fastest answer seen, a block that waits longer than this for its acknowledgement stands in
/// a queue on the way, and so would a live block behind it.
const QUEUE_MAX: Duration = Duration::from_millis(400);

/// How many blocks of history may be under way: as many as the connection takes without a queue, so that
/// live blocks never wait long behind them. More by one with each prompt answer, half with a late one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    blocks: u64,
    fastest: Duration,
    /// What was sent before this has been answered for.
    narrowed_at: Duration,
}

impl Window {
    /// Enough to measure with.
    const FIRST: u64 = 4;

    /// For a connection that begins now.
    pub(crate) const fn new(now: Duration) -> Self {
        Self {
            blocks: Self::FIRST,
            fastest: Duration::MAX,
            narrowed_at: now,
        }
    }

    pub(crate) const fn has_room(&self, under_way: u64) -> bool {
        under_way < self.blocks
    }

    /// A block of history that was sent at `sent` is acknowledged, or given up as unanswered.
    pub(crate) fn handle_answer(&mut self, sent: Duration, now: Duration, blocks_max: u64) {
        let waited = now.saturating_sub(sent);
        self.fastest = self.fastest.min(waited);
        if waited <= self.fastest + QUEUE_MAX {
            self.blocks = (self.blocks + 1).min(blocks_max);
        } else if sent >= self.narrowed_at {
            self.blocks = (self.blocks / 2).max(1);
            self.narrowed_at = now;
        }
    }
}

/// How long ago a block was made. A stamp in the future says that the clock was set back since, and
/// nothing of the age: then the block is as old as can be, since history alarms nobody.
pub(crate) fn age(made: EventTime, now: EventTime) -> Duration {
    let nanos = now.0.saturating_sub(made.0);
    u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block as Stored, BlockKey, Index};
    use trunnion_common::block::{Block, Kind};
    use trunnion_common::id::Epoch;

    #[test]
    fn history_differs_from_the_stored_block_in_lane_and_checksum_only() {
        let key = BlockKey {
            epoch: Epoch(7),
            sequence: 3,
        };
        let stored = Stored::new(key, Kind::Gap, b"body", Index::default()).bytes;
        assert_eq!(in_lane(stored.clone(), Lane::Live), stored);
        let history = in_lane(stored.clone(), Lane::Backfill);
        let block = Block::parse(&history).unwrap();
        assert_eq!((block.lane(), block.body), (Lane::Backfill, &b"body"[..]));
        assert_eq!(block.envelope.sequence, 3);
        assert_ne!(history[29..33], stored[29..33]);
        assert_eq!(
            Block::parse(&stored).unwrap().lane(),
            Lane::Live,
            "shared bytes are not written to"
        );
        let place = history.as_ptr();
        let back = in_lane(history, Lane::Live);
        assert_eq!(back, stored);
        assert_eq!(back.as_ptr(), place, "nobody else holds them: no copy");
        assert_eq!(in_lane(Bytes::from_static(b"short"), Lane::Backfill), "short");
    }

    const DRAIN: Drain = crate::config::DRAIN;

    #[test]
    fn the_lanes_share_by_bytes_whatever_the_sizes_of_their_blocks() {
        for (percent, sizes) in [
            (80, [65_536, 65_536]),
            (80, [300, 65_536]),
            (50, [65_536, 1_000]),
            (1, [9_000, 1 << 20]),
        ] {
            let mut turn = Turn::new(&Drain {
                live_share_percent: percent,
                ..DRAIN
            });
            let mut sent = [0u64; 2];
            while sent[0] + sent[1] < 1 << 30 {
                let lane = turn.choose(sizes.map(Some)).unwrap();
                sent[lane as usize] += sizes[lane as usize];
            }
            let share = 100.0 * sent[0] as f64 / (sent[0] + sent[1]) as f64;
            assert!(
                (share - f64::from(percent)).abs() < 0.5,
                "{share} of {percent} with {sizes:?}"
            );
        }
    }

    #[test]
    fn a_lane_with_nothing_to_send_leaves_its_share_and_saves_none() {
        let mut turn = Turn::new(&DRAIN);
        assert_eq!(turn.choose([None, None]), None);
        for _ in 0..1_000 {
            assert_eq!(turn.choose([None, Some(65_536)]), Some(Lane::Backfill));
        }
        let backfill = (0..100).filter(|_| turn.choose([Some(65_536); 2]) == Some(Lane::Backfill));
        assert!((19..=21).contains(&backfill.count()));
        for _ in 0..1_000 {
            assert_eq!(turn.choose([Some(65_536), None]), Some(Lane::Live));
        }
    }

    #[test]
    fn a_limit_holds_over_any_second_and_none_is_none() {
        let second = Duration::from_secs(1);
        let mut bucket = Bucket::new(Some(100_000));
        let mut now = second;
        let mut sent = Vec::new();
        while now < 60 * second {
            let due = bucket.due(now);
            if due > now {
                now = due;
                continue;
            }
            bucket.take(65_536);
            sent.push(now);
        }
        assert!((88..=93).contains(&sent.len()), "{} blocks", sent.len());
        for first in &sent {
            let within = sent
                .iter()
                .filter(|at| (*first..*first + second).contains(*at))
                .count();
            assert!(within <= 4, "{within} blocks within a second of {first:?}");
        }
        let mut free = Bucket::new(None);
        free.take(u64::MAX);
        assert_eq!(free.due(now), now);
    }

    #[test]
    fn the_window_opens_while_answers_are_prompt_and_narrows_once_per_queue() {
        let ms = Duration::from_millis;
        let mut window = Window::new(ms(0));
        assert!(window.has_room(Window::FIRST - 1) && !window.has_room(Window::FIRST));
        for at in 0..100 {
            window.handle_answer(ms(at), ms(at + 600), 32);
        }
        assert!(
            window.has_room(31) && !window.has_room(32),
            "a long way is not a queue"
        );
        for at in 200..230 {
            window.handle_answer(ms(at), ms(at + 1_500), 32);
        }
        assert!(
            window.has_room(15) && !window.has_room(16),
            "one queue counts once"
        );
        for at in 0..10 {
            window.handle_answer(ms(5_000 + 3_000 * at), ms(7_500 + 3_000 * at), 32);
        }
        assert!(window.has_room(0) && !window.has_room(1), "one may always go");
    }

    #[test]
    fn a_stamp_in_the_future_is_as_old_as_can_be() {
        let second = 1_000_000_000;
        assert_eq!(
            age(EventTime(second), EventTime(3 * second)),
            Duration::from_secs(2)
        );
        assert_eq!(age(EventTime(2), EventTime(1)), Duration::MAX);
    }
}
