//! What to send to the collector next, and what it has made safe. Pure.
//!
//! Call `handle_*` for what happened, then `poll_hello` and `poll_block` until they have nothing; come
//! back at `next_timeout`. Time must not run backwards.
//!
//! What happened less than [`Drain::live_age`] ago goes in the live lane and the rest as history; the two
//! share the connection by bytes. Within a lane the essential chain goes before the waveform chain, and
//! in each the oldest start first: clock fixes arrive before the waveforms that name them. Waveforms of
//! history go newest first if that is asked for. A lane is fixed when a block is first handed out.
//!
//! A block leaves the publisher only when an acknowledgement of the collector covers it. PUBACKs of
//! the broker promise nothing and are not looked at here. What was sent on a connection that broke is
//! sent again on the next one, after the collector has said what it has.
//!
//! No event costs more because more is held, but for the logarithm of an ordered map: what is under way
//! is bounded by the collector's sets, and what waits is only looked at from its ends.

mod epoch;

use crate::block::BlockKey;
use crate::drain::{Bucket, Drain, Order, Turn, Window};
use crate::spool::FormerEpoch;
use epoch::{Held, Next, Progress};
use std::collections::BTreeMap;
use std::time::Duration;
use trunnion_common::ack::{Ack, EPOCHS_MAX, HeldEpoch, Hello};
use trunnion_common::block::Lane;
use trunnion_common::frame::Class;
use trunnion_common::id::{Epoch, MasterId};
use trunnion_common::sequence::{RANGES_MAX, Range};

/// Most blocks of an epoch under way while nothing of it is missing at the collector: of so many
/// neighbours every other one can get lost, and its set of what it has still needs no more ranges than
/// it can hold. With 64 KiB each that is 2 MiB, or 100 MB/s at 20 ms from sending to acknowledgement.
pub const WINDOW: u64 = 2 * RANGES_MAX as u64;

/// A block not acknowledged after this time is sent again: far above a commit of the collector, its
/// queues included.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection on which nothing is acknowledged for this time although blocks are under way is given
/// up: they have been sent three times by then.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A hello not answered after this time is sent again.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Hellos sent in vain before the connection is given up.
const HELLOS_MAX: u32 = 3;

/// The state of the connection and of everything not acknowledged.
#[derive(Clone, Debug)]
pub struct Publisher {
    drain: Drain,
    /// Of new blocks, by class.
    current: [Epoch; 2],
    epochs: BTreeMap<Epoch, Held>,
    /// In which the epochs are drained, essentials first.
    order: Vec<Epoch>,
    phase: Phase,
    credit_bytes: u64,
    in_flight_bytes: u64,
    /// Blocks handed out, by lane.
    in_flight: [u64; 2],
    /// Since when nothing was acknowledged although something was given to the connection.
    silent_since: Option<Duration>,
    /// Epochs of which the last Hello could not list all that is held, and up to where it did.
    untold: BTreeMap<Epoch, u64>,
    /// Bytes held, but for those of buried blocks.
    held_bytes: u64,
    turn: Turn,
    bucket: Bucket,
    window: Window,
    /// Blocks that were not acknowledged in time, since this was last asked for.
    overdue: u64,
    /// When the limit on history lets the next block go that it has kept back.
    history_due: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// No connection, or none that is subscribed yet.
    Offline,
    /// The collector is being told what is held; it answers what it has.
    Greeting { hello_due: Duration, hellos: u32 },
    /// Blocks flow.
    Flowing,
}

/// What the publisher wants of its connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Greeting {
    /// Send this.
    Hello(Box<Hello>),
    /// Nobody answers: give the connection up.
    GiveUp,
}

impl Publisher {
    /// New blocks will be of the epochs `current`, by class, from the sequences given on; what `former`
    /// starts left is drained in its order, essentials first.
    pub fn new(drain: Drain, current: [(Epoch, u64); 2], former: &[FormerEpoch]) -> Self {
        let mut publisher = Self {
            drain,
            current: current.map(|(epoch, _)| epoch),
            epochs: BTreeMap::new(),
            order: Vec::new(),
            phase: Phase::Offline,
            credit_bytes: 0,
            in_flight_bytes: 0,
            in_flight: [0; 2],
            silent_since: None,
            untold: BTreeMap::new(),
            held_bytes: 0,
            turn: Turn::new(&drain),
            bucket: Bucket::new(drain.backfill_bytes_s),
            window: Window::new(Duration::ZERO),
            overdue: 0,
            history_due: None,
        };
        for class in Class::ALL {
            let (epoch, next) = current[class.index()];
            let mine = former.iter().filter(|former| former.class == class);
            let now = FormerEpoch {
                epoch,
                class,
                next,
                freed_by: None,
            };
            for known in mine.chain([&now]) {
                let held = publisher.open(known.epoch, class);
                held.next = held.next.max(known.next);
                held.freed_by = held.freed_by.or(known.freed_by);
            }
        }
        publisher
    }

    fn open(&mut self, epoch: Epoch, class: Class) -> &mut Held {
        if !self.epochs.contains_key(&epoch) {
            self.order.push(epoch);
        }
        self.epochs.entry(epoch).or_insert_with(|| Held::new(class))
    }

    /// A block is durable in the spool, and may be sent. It was made `age` before `now`.
    pub fn handle_stored(&mut self, key: BlockKey, bytes: usize, age: Duration, now: Duration) {
        let live_age = self.drain.live_age;
        let left = live_age.checked_sub(age).filter(|left| !left.is_zero());
        // Epochs are announced before their blocks; of one that was not, nothing is known.
        let held = self.open(key.epoch, Class::Waveform);
        let before = held.count();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        held.store(key.sequence, bytes, left.map(|left| now + left), live_age);
        if held.count() > before {
            self.held_bytes += u64::from(bytes);
        }
    }

    /// A former start wrote a tombstone for this block, which is still to be acknowledged.
    pub fn handle_buried(&mut self, key: BlockKey) {
        self.open(key.epoch, Class::Waveform);
        self.handle_lost(key);
    }

    /// The tombstone of these blocks is acknowledged, and so are they: those that were held.
    pub fn handle_settled(&mut self, epoch: Epoch, blocks: Range) -> Vec<BlockKey> {
        let Some(held) = self.epochs.get_mut(&epoch) else {
            return Vec::new();
        };
        let settled = held.settle(blocks);
        self.close_if_empty(epoch);
        let key = |sequence| BlockKey { epoch, sequence };
        settled.into_iter().map(key).collect()
    }

    fn close_if_empty(&mut self, epoch: Epoch) {
        let is_empty = self.epochs.get(&epoch).is_some_and(Held::is_empty);
        if is_empty && !self.current.contains(&epoch) {
            self.epochs.remove(&epoch);
            self.order.retain(|known| *known != epoch);
        }
    }

    /// The acknowledgement topic is subscribed: from now on an answer reaches us.
    pub fn handle_subscribed(&mut self, now: Duration) {
        self.phase = Phase::Greeting {
            hello_due: now,
            hellos: 0,
        };
        self.window = Window::new(now);
    }

    /// The connection is gone, and with it whatever was under way.
    pub fn handle_disconnected(&mut self) {
        self.phase = Phase::Offline;
        self.credit_bytes = 0;
        for sent in self.epochs.values_mut().flat_map(Held::all_sent_mut) {
            if matches!(sent.progress, Progress::UnderWay(..)) {
                sent.progress = Progress::Waiting;
            }
        }
        self.in_flight_bytes = 0;
        self.in_flight = [0; 2];
        self.silent_since = None;
        self.history_due = None;
    }

    /// The collector has made blocks durable: those that may be deleted now.
    pub fn handle_ack(&mut self, ack: &Ack, now: Duration) -> Vec<BlockKey> {
        if self.phase == Phase::Offline {
            return Vec::new();
        }
        self.phase = Phase::Flowing;
        self.credit_bytes = u64::from(ack.credit_bytes);
        let epoch = ack.epoch;
        let Some(held) = self.epochs.get_mut(&epoch) else {
            return Vec::new();
        };
        let freed = held.handle_received(&ack.received);
        if !freed.is_empty() {
            held.freed_by = Some(ack.journal.name);
            self.silent_since = self.silent_since.map(|_| now);
        }
        for (_, sent, bytes) in &freed {
            self.held_bytes = self.held_bytes.saturating_sub(*bytes);
            let Some(sent) = sent else { continue };
            if let Progress::UnderWay(since, _) = sent.progress {
                self.land(sent.bytes, sent.lane);
                if sent.lane == Lane::Backfill {
                    self.window.handle_answer(since, now, WINDOW);
                }
            }
        }
        self.close_if_empty(epoch);
        self.tell_the_rest(epoch, now);
        freed
            .into_iter()
            .map(|(sequence, ..)| BlockKey { epoch, sequence })
            .collect()
    }

    /// A block is no longer under way.
    fn land(&mut self, bytes: u64, lane: Lane) {
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        let in_flight = &mut self.in_flight[lane as usize];
        *in_flight = in_flight.saturating_sub(1);
    }

    /// The collector refused a payload with this checksum: the block it was, if it is one of those
    /// under way. It is not sent again.
    pub fn handle_reject(&mut self, crc: u32) -> Option<BlockKey> {
        let key = self.epochs.iter().find_map(|(&epoch, held)| {
            let (sequence, _) = held.all_sent().find(
                |(_, sent)| matches!(sent.progress, Progress::UnderWay(_, Some(given)) if given == crc),
            )?;
            Some(BlockKey { epoch, sequence })
        })?;
        self.handle_lost(key);
        Some(key)
    }

    /// A block cannot be sent, ever. It is listed as held until its tombstone is acknowledged.
    pub fn handle_lost(&mut self, key: BlockKey) {
        self.ground(key);
        if let Some(held) = self.epochs.get_mut(&key.epoch) {
            let bytes = held.bytes(key.sequence).unwrap_or(0);
            held.bury(key.sequence);
            self.held_bytes = self.held_bytes.saturating_sub(bytes);
        }
    }

    /// A block that was handed out could not be sent now.
    pub fn handle_not_sent(&mut self, key: BlockKey) {
        self.ground(key);
    }

    /// If a block is under way, it is to be sent again.
    fn ground(&mut self, key: BlockKey) {
        let held = self.epochs.get_mut(&key.epoch);
        let Some(sent) = held.and_then(|held| held.sent_mut(key.sequence)) else {
            return;
        };
        if matches!(sent.progress, Progress::UnderWay(..)) {
            sent.progress = Progress::Waiting;
            let (bytes, lane) = (sent.bytes, sent.lane);
            self.land(bytes, lane);
        }
    }

    /// A block that was handed out has been given to the connection.
    pub fn handle_sent(&mut self, key: BlockKey, crc: u32, now: Duration) {
        let held = self.epochs.get_mut(&key.epoch);
        if let Some(sent) = held.and_then(|held| held.sent_mut(key.sequence))
            && matches!(sent.progress, Progress::UnderWay(_, None))
        {
            sent.progress = Progress::UnderWay(now, Some(crc));
            self.silent_since.get_or_insert(now);
        }
    }

    /// The lane of a block that was handed out, if it is still wanted: its connection may have gone
    /// since.
    pub fn lane(&self, key: BlockKey) -> Option<Lane> {
        let sent = self.epochs.get(&key.epoch)?.sent(key.sequence)?;
        matches!(sent.progress, Progress::UnderWay(..)).then_some(sent.lane)
    }

    /// The hello to send, if one is due, or whether to give the connection up.
    pub fn poll_hello(&mut self, now: Duration) -> Option<Greeting> {
        let (hello_due, hellos) = match self.phase {
            Phase::Offline => return None,
            Phase::Flowing => return self.give_up_at().filter(|at| *at <= now).map(|_| self.give_up()),
            Phase::Greeting { hello_due, hellos } => (hello_due, hellos),
        };
        if now < hello_due {
            return None;
        }
        if hellos == HELLOS_MAX {
            return Some(self.give_up());
        }
        self.phase = Phase::Greeting {
            hello_due: now + HELLO_TIMEOUT,
            hellos: hellos + 1,
        };
        self.untold = self
            .epochs
            .iter()
            .filter_map(|(epoch, held)| Some((*epoch, held.ranges().nth(RANGES_MAX)?.first())))
            .collect();
        Some(Greeting::Hello(Box::new(self.hello())))
    }

    /// Whoever answers may not have heard what is held: it is told once more.
    pub fn greet_again(&mut self, now: Duration) {
        if self.phase == Phase::Flowing {
            self.phase = Phase::Greeting {
                hello_due: now,
                hellos: 0,
            };
        }
    }

    /// What the last Hello had room for is through: of the holes above, the collector does not know yet that
    /// nobody fills them.
    fn tell_the_rest(&mut self, epoch: Epoch, now: Duration) {
        let Some(&upto) = self.untold.get(&epoch) else {
            return;
        };
        let lowest = self.epochs.get(&epoch).and_then(|held| held.ranges().next());
        if lowest.is_none_or(|lowest| lowest.first() >= upto) {
            self.untold.remove(&epoch);
            self.greet_again(now);
        }
    }

    fn give_up(&mut self) -> Greeting {
        self.handle_disconnected();
        Greeting::GiveUp
    }

    /// When a connection that has gone silent is given up.
    fn give_up_at(&self) -> Option<Duration> {
        let mut sent = self.epochs.values().flat_map(Held::all_sent);
        let is_owed = sent.any(|(_, sent)| sent.progress != Progress::Buried);
        self.silent_since
            .filter(|_| is_owed)
            .map(|since| since + SILENCE_MAX)
    }

    /// Drains like this from now on. What is under way or has its lane stays as it is.
    pub fn set_drain(&mut self, drain: Drain) {
        if drain != self.drain {
            self.drain = drain;
            self.turn = Turn::new(&drain);
            self.bucket = Bucket::new(drain.backfill_bytes_s);
        }
    }

    /// The next block to send, which counts as under way from now on.
    pub fn poll_block(&mut self, now: Duration) -> Option<BlockKey> {
        if self.phase != Phase::Flowing {
            return None;
        }
        self.expire(now);
        let next = self.next_blocks(now);
        let mut turn = self.turn;
        let lane = turn.choose(next.map(|next| next.map(|(_, bytes)| bytes)))?;
        let (key, bytes) = next[lane as usize]?;
        let room = self.credit_bytes.saturating_sub(self.in_flight_bytes);
        // One block may always go: a credit below its size must slow us down, not stop us.
        if bytes > room && self.in_flight_bytes > 0 {
            return None;
        }
        self.turn = turn;
        if lane == Lane::Backfill {
            self.bucket.take(bytes);
        }
        self.in_flight_bytes += bytes;
        self.in_flight[lane as usize] += 1;
        self.epochs.get_mut(&key.epoch)?.send(key.sequence, lane, now);
        Some(key)
    }

    /// The next block of each lane and its bytes, by lane.
    fn next_blocks(&mut self, now: Duration) -> [Option<(BlockKey, u64)>; 2] {
        for held in self.epochs.values_mut() {
            held.age(now);
        }
        let mut stuck = None;
        let live = self.find(Lane::Live, &mut stuck);
        self.history_due = None;
        if live.is_none()
            && let Some(epoch) = stuck
            && let Some(Next::Block(sequence, bytes)) = self.epochs.get(&epoch).and_then(Held::filler)
        {
            // Live blocks wait for this one, so that it is as urgent as they are.
            return [None, Some((BlockKey { epoch, sequence }, bytes))];
        }
        if !self.window.has_room(self.in_flight[Lane::Backfill as usize]) {
            return [live, None];
        }
        let mut history = self.find(Lane::Backfill, &mut None);
        let due = self.bucket.due(now);
        if due > now && history.take().is_some() {
            self.history_due = Some(due);
        }
        [live, history]
    }

    /// The next block of a lane and its bytes; `stuck` becomes the first epoch of which only holes in the
    /// collector's set keep blocks back.
    fn find(&self, lane: Lane, stuck: &mut Option<Epoch>) -> Option<(BlockKey, u64)> {
        let newest_first = lane == Lane::Backfill && self.drain.order == Order::NewestFirst;
        let of = |class: Class| {
            self.order.iter().filter_map(move |epoch| {
                let held = self.epochs.get(epoch)?;
                (held.class == class).then_some((*epoch, held))
            })
        };
        let mut look = |(epoch, held): (Epoch, &Held), is_newest_first| {
            match held.next_block(lane, is_newest_first) {
                Next::Block(sequence, bytes) => return Some((BlockKey { epoch, sequence }, bytes)),
                Next::BehindHoles if stuck.is_none() => *stuck = Some(epoch),
                Next::BehindHoles | Next::Later | Next::Nothing => {}
            }
            None
        };
        let essential = of(Class::Essential).find_map(|held| look(held, false));
        essential.or_else(|| {
            if newest_first {
                let mut epochs: Vec<(Epoch, &Held)> = of(Class::Waveform).collect();
                epochs.reverse();
                epochs.into_iter().find_map(|held| look(held, true))
            } else {
                of(Class::Waveform).find_map(|held| look(held, false))
            }
        })
    }

    /// When something will be due although nothing happened.
    pub fn next_timeout(&self) -> Option<Duration> {
        match self.phase {
            Phase::Offline => None,
            Phase::Greeting { hello_due, .. } => Some(hello_due),
            Phase::Flowing => {
                let sent = self.epochs.values().flat_map(Held::all_sent);
                let expiry = sent.filter_map(|(_, sent)| match sent.progress {
                    Progress::UnderWay(since, _) => Some(since + ACK_TIMEOUT),
                    Progress::Waiting | Progress::Buried => None,
                });
                expiry.chain(self.history_due).chain(self.give_up_at()).min()
            }
        }
    }

    /// Whether a block has a tombstone, or will have one when the next commit is flushed.
    pub fn is_buried(&self, key: BlockKey) -> bool {
        let held = self.epochs.get(&key.epoch);
        held.is_some_and(|held| held.is_buried(key.sequence))
    }

    /// Blocks not acknowledged, and the bytes of those that can still be sent.
    pub fn backlog(&self) -> (u64, u64) {
        (self.epochs.values().map(Held::count).sum(), self.held_bytes)
    }

    /// Whether essential blocks wait or are under way as history: what is published as live overtakes
    /// them.
    pub fn has_essential_history(&mut self, now: Duration) -> bool {
        let mut essential = self
            .epochs
            .values_mut()
            .filter(|held| held.class == Class::Essential);
        essential.any(|held| {
            held.age(now);
            held.has_history()
        })
    }

    /// How many blocks were not acknowledged in time and are sent again, since this was last asked.
    pub const fn take_overdue(&mut self) -> u64 {
        std::mem::replace(&mut self.overdue, 0)
    }

    /// Whether blocks flow.
    pub fn is_flowing(&self) -> bool {
        self.phase == Phase::Flowing
    }

    fn hello(&self) -> Hello {
        // The spool never keeps more epochs than a hello lists.
        let epochs = self
            .order
            .iter()
            .filter_map(|epoch| self.epochs.get_key_value(epoch))
            .take(EPOCHS_MAX)
            .map(|(epoch, held)| HeldEpoch {
                epoch: *epoch,
                next: held.next,
                held: held.ranges().take(RANGES_MAX).collect(),
                freed_by: held.freed_by,
            });
        // Whose it is and which, the gateway knows.
        Hello::first(MasterId(0), epochs.collect())
    }

    /// What was under way for too long is to be sent again.
    fn expire(&mut self, now: Duration) {
        let mut late: Vec<(u64, Lane)> = Vec::new();
        for sent in self.epochs.values_mut().flat_map(Held::all_sent_mut) {
            if let Progress::UnderWay(since, _) = sent.progress
                && since + ACK_TIMEOUT <= now
            {
                sent.progress = Progress::Waiting;
                late.push((sent.bytes, sent.lane));
                if sent.lane == Lane::Backfill {
                    self.window.handle_answer(since, now, WINDOW);
                }
            }
        }
        self.overdue += late.len() as u64;
        for (bytes, lane) in late {
            self.land(bytes, lane);
        }
    }
}

#[cfg(test)]
mod tests;
