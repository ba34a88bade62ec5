//! Whose turn it is on a line that several nodes share (RS-485, half duplex). Pure.
//!
//! The master speaks, then it listens until the answer is over: a node says so
//! ([`END_OF_TURN`](trunnion_common::shared_line::END_OF_TURN)), or has been silent for too long. Nodes are
//! polled in the order in which their polls are due, which is the order of the last turns when the line is
//! full: who has much to send cannot keep others waiting for more than one turn each. Between polls it asks
//! now and then who else is there, and gives addresses.

use crate::intake::BootKey;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use trunnion_common::codec::LINE_FRAME_MAX;
use trunnion_common::frame::Header;
use trunnion_common::id::{BootId, LineAddress, NodeId};
use trunnion_common::shared_line::{SLOTS, slot_micros};

/// Most nodes on a line: the unit loads that a transceiver drives (TIA-485). Others are counted and not polled.
pub const NODES_MAX: usize = 32;

/// From a node's turn that did not use up its credit to its next one.
const TURN_INTERVAL: Duration = Duration::from_millis(50);

/// What a turn lasts at most, if the line is fast enough for two frames in it.
const TURN_MAX: Duration = Duration::from_millis(100);

/// Until the first byte of an answer: two USB adapters' latency of 16 ms each, and the node's loop.
const ANSWER_WITHIN: Duration = Duration::from_millis(50);

/// Silence within an answer that ends it: longer than the latency of a USB adapter.
const SILENCE: Duration = Duration::from_millis(30);

/// Turns without an answer after which a node is polled once a second only.
const UNANSWERED_MAX: u32 = 3;
const UNANSWERED_INTERVAL: Duration = Duration::from_secs(1);

/// A node not heard for this long is not polled any more: it has no master then, and answers a discovery.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// From a discovery that somebody answered, or that was made of an empty line or beside a silent node, to the next, and
/// from any other.
const DISCOVERY_SOON: Duration = Duration::from_secs(1);
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(10);

/// Discoveries without a pause after the port has been opened: as many as fit into the time after which a node that is
/// not polled has no master any more, and one.
const EAGER_DISCOVERIES: u32 = 11;

/// Requests that wait for a node's turn: whoever makes them repeats what is not answered.
const REQUESTS_MAX: usize = 4;

/// Ids of which there is more than one, remembered until the port is opened again.
const TWINS_MAX: usize = NODES_MAX;

/// The turns of one line.
#[derive(Debug)]
pub struct Shared {
    bytes_per_s: u32,
    members: Vec<Member>,
    twins: BTreeSet<NodeId>,
    air: Air,
    next_discovery: Duration,
    /// Discoveries that are still made without a pause, as long as a node obeys a master that is gone.
    eager: u32,
    unanswered: u64,
}

#[derive(Debug)]
struct Member {
    key: BootKey,
    address: LineAddress,
    /// Whether it has been heard at this address.
    is_settled: bool,
    /// The life before this one.
    former: Option<BootId>,
    /// Where the life before this one was, until it has been asked whether it is over.
    probe: Option<LineAddress>,
    due: Duration,
    heard: Duration,
    unanswered: u32,
    requests: VecDeque<Vec<u8>>,
}

/// Who speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Air {
    Nobody,
    /// A node that was polled.
    Node {
        key: BootKey,
        /// When its first byte is overdue, or its next one.
        until: Duration,
        /// When its credit is used up, whatever it sends.
        latest: Duration,
        heard: u32,
    },
    /// Whoever answers a discovery.
    Everybody {
        until: Duration,
        /// Whether anybody was heard: two at once are no frame, and answer again.
        is_answered: bool,
    },
}

/// Who may speak next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Nodes without a master: the question goes to everybody.
    Discovery,
    /// This node.
    Node {
        /// Which.
        key: BootKey,
        /// Where it is.
        address: LineAddress,
        /// It has not been heard at that address, which must be assigned first.
        is_assigned: bool,
        /// What it is asked before it is polled.
        requests: VecDeque<Vec<u8>>,
    },
}

/// What a frame of a node changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// The node is polled from now on.
    Joined {
        /// Where.
        address: LineAddress,
        /// Whether the address that it had belongs to another node.
        is_conflict: bool,
    },
    /// There are two nodes with this id, as both of their lives answer: neither is polled until the port is opened
    /// again.
    Twins,
    /// There are [`NODES_MAX`] others.
    Full,
}

impl Change {
    /// The name in the metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Joined {
                is_conflict: false, ..
            } => "joined",
            Self::Joined {
                is_conflict: true, ..
            } => "address_conflict",
            Self::Twins => "twins",
            Self::Full => "line_full",
        }
    }
}

impl Shared {
    /// A line of this speed on which nobody is known.
    pub fn new(baud: u32) -> Self {
        Self {
            bytes_per_s: (baud / 10).max(1),
            members: Vec::new(),
            twins: BTreeSet::new(),
            air: Air::Nobody,
            next_discovery: Duration::ZERO,
            eager: EAGER_DISCOVERIES,
            unanswered: 0,
        }
    }

    /// The port has been opened. Who is there may be others, who are asked at once; whoever was polled before still
    /// has a master and answers no discovery, so that it is polled until it has been silent for too long.
    pub fn handle_opened(&mut self) {
        for member in &mut self.members {
            member.due = Duration::ZERO;
        }
        self.twins.clear();
        self.air = Air::Nobody;
        self.next_discovery = Duration::ZERO;
        self.eager = EAGER_DISCOVERIES;
    }

    /// Bytes that a poll gives leave to send: what the line carries in the longest turn, and always two frames.
    pub fn credit(&self) -> u32 {
        let bytes = u128::from(self.bytes_per_s) * TURN_MAX.as_millis() / 1_000;
        u32::try_from(bytes)
            .unwrap_or(u32::MAX)
            .max(2 * LINE_FRAME_MAX as u32)
    }

    /// Whoever is polled.
    pub fn nodes(&self) -> impl Iterator<Item = BootKey> + '_ {
        self.members.iter().map(|member| member.key)
    }

    /// Where a node is.
    pub fn address(&self, key: BootKey) -> Option<LineAddress> {
        let member = self.members.iter().find(|member| member.key == key)?;
        Some(member.address)
    }

    /// Polls without an answer since this was last asked.
    pub fn take_unanswered(&mut self) -> u64 {
        std::mem::take(&mut self.unanswered)
    }

    /// Keeps a request for the node's next turn; without room it is dropped.
    pub fn keep_request(&mut self, key: BootKey, bytes: Vec<u8>) {
        if let Some(member) = self.members.iter_mut().find(|member| member.key == key)
            && member.requests.len() < REQUESTS_MAX
        {
            member.requests.push_back(bytes);
        }
    }

    /// This node's poll is worth sending soon, after those that have waited longer.
    pub fn hasten(&mut self, key: BootKey, now: Duration) {
        if let Some(member) = self.members.iter_mut().find(|member| member.key == key)
            && member.unanswered == 0
        {
            member.due = member.due.min(now);
        }
    }

    /// Bytes have come, whatever they are.
    pub fn handle_bytes(&mut self, count: usize, now: Duration) {
        match &mut self.air {
            Air::Node { until, heard, .. } => {
                *until = now + SILENCE;
                *heard = heard.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
            }
            Air::Everybody { is_answered, .. } => *is_answered = true,
            Air::Nobody => {}
        }
    }

    /// The master's own bytes came back, as on some adapters: they are no answer.
    pub fn handle_echo(&mut self, now: Duration) {
        match &mut self.air {
            Air::Node { until, heard, .. } => {
                *until = now + ANSWER_WITHIN;
                *heard = 0;
            }
            Air::Everybody { is_answered, .. } => *is_answered = false,
            Air::Nobody => {}
        }
    }

    /// An empty frame has come.
    pub fn handle_end_of_turn(&mut self, now: Duration) {
        if matches!(self.air, Air::Node { .. }) {
            self.end_turn(now);
        }
    }

    /// A whole frame of a node has come; what that changes.
    pub fn handle_frame(&mut self, header: &Header, now: Duration) -> Option<Change> {
        let key = (header.node, header.boot);
        if self.twins.contains(&header.node) {
            return None;
        }
        if let Some(member) = self.members.iter_mut().find(|member| member.key == key) {
            member.heard = now;
            member.unanswered = 0;
            member.is_settled |= header.address == member.address;
            return None;
        }
        let known = self.members.iter().position(|member| member.key.0 == key.0);
        if let Some(at) = known
            && self.members[at].former == Some(key.1)
        {
            // A life that is over does not speak again: there are two parts with this number.
            self.members.remove(at);
            if self.twins.len() < TWINS_MAX {
                self.twins.insert(key.0);
            }
            return Some(Change::Twins);
        }
        let former = known.map(|at| self.members.remove(at));
        if self.members.len() >= NODES_MAX {
            return Some(Change::Full);
        }
        let is_taken = |address| self.members.iter().any(|member| member.address == address);
        let has_one = ![LineAddress::BROADCAST, LineAddress::UNASSIGNED].contains(&header.address);
        let is_conflict = has_one && is_taken(header.address);
        let address = if has_one && !is_conflict {
            header.address
        } else {
            // A node keeps no address over a reset: its next life is given the same one.
            let before = former.iter().map(|member| member.address);
            let mut free = before.chain((1..LineAddress::UNASSIGNED.0).map(LineAddress));
            free.find(|address| !is_taken(*address))?
        };
        self.members.push(Member {
            key,
            address,
            is_settled: address == header.address,
            former: former.as_ref().map(|member| member.key.1),
            probe: former.map(|member| member.address),
            due: now,
            heard: now,
            unanswered: 0,
            requests: VecDeque::new(),
        });
        Some(Change::Joined { address, is_conflict })
    }

    /// Who may speak now; [`Self::handle_sent`] must be told what was said to them.
    pub fn next_turn(&mut self, now: Duration) -> Option<Turn> {
        self.handle_time(now);
        if self.air != Air::Nobody {
            return None;
        }
        self.members.retain(|member| now < member.heard + FORGOTTEN_AFTER);
        if self.next_discovery <= now {
            return Some(Turn::Discovery);
        }
        // Before the new life is polled: one that is not over means that two parts have this number.
        let probe = self.members.iter_mut().find_map(|member| {
            let (boot, address) = (member.former?, member.probe.take()?);
            Some(Turn::Node {
                key: (member.key.0, boot),
                address,
                is_assigned: false,
                requests: VecDeque::new(),
            })
        });
        if probe.is_some() {
            return probe;
        }
        let member = self.members.iter_mut().min_by_key(|member| member.due)?;
        (member.due <= now).then(|| Turn::Node {
            key: member.key,
            address: member.address,
            is_assigned: !member.is_settled,
            requests: std::mem::take(&mut member.requests),
        })
    }

    /// So many bytes of the master go to the line now, and then it is `turn`'s.
    pub fn handle_sent(&mut self, turn: &Turn, bytes: usize, now: Duration) {
        let sent = now + self.time_of(bytes as u64);
        self.air = match turn {
            Turn::Discovery => Air::Everybody {
                until: sent
                    + Duration::from_micros(u64::from(SLOTS) * slot_micros(self.bytes_per_s))
                    + ANSWER_WITHIN,
                is_answered: false,
            },
            Turn::Node { key, .. } => Air::Node {
                key: *key,
                until: sent + ANSWER_WITHIN,
                latest: sent + ANSWER_WITHIN + 2 * self.time_of(self.credit().into()),
                heard: 0,
            },
        };
    }

    /// When [`Self::next_turn`] will have something to say.
    pub fn next_timeout(&self) -> Duration {
        match self.air {
            Air::Node { until, latest, .. } => until.min(latest),
            Air::Everybody { until, .. } => until,
            Air::Nobody => {
                let due = self.members.iter().map(|member| match member.probe {
                    Some(_) => Duration::ZERO,
                    None => member.due,
                });
                due.chain([self.next_discovery]).min().unwrap_or(Duration::ZERO)
            }
        }
    }

    fn handle_time(&mut self, now: Duration) {
        match self.air {
            Air::Node { until, latest, .. } if until.min(latest) <= now => self.end_turn(now),
            Air::Everybody { until, is_answered } if until <= now => {
                self.air = Air::Nobody;
                let is_silent = |member: &Member| member.unanswered >= UNANSWERED_MAX;
                let is_soon = is_answered
                    || self.eager > 0
                    || self.members.is_empty()
                    || self.members.iter().any(is_silent);
                self.eager = self.eager.saturating_sub(1);
                self.next_discovery = now
                    + if is_soon {
                        DISCOVERY_SOON
                    } else {
                        DISCOVERY_INTERVAL
                    };
            }
            Air::Node { .. } | Air::Everybody { .. } | Air::Nobody => {}
        }
    }

    fn end_turn(&mut self, now: Duration) {
        let Air::Node { key, heard, .. } = std::mem::replace(&mut self.air, Air::Nobody) else {
            return;
        };
        // A frame more would not have fitted: there may be one.
        let is_full = heard + LINE_FRAME_MAX as u32 > self.credit();
        let Some(member) = self.members.iter_mut().find(|member| member.key == key) else {
            return;
        };
        if heard == 0 {
            member.unanswered = member.unanswered.saturating_add(1);
            self.unanswered += 1;
            // It may have begun another life, which answers nothing but a discovery.
            if member.unanswered == UNANSWERED_MAX {
                self.next_discovery = self.next_discovery.min(now);
            }
        }
        member.due = now
            + match member.unanswered {
                UNANSWERED_MAX.. => UNANSWERED_INTERVAL,
                _ if is_full => Duration::ZERO,
                _ => TURN_INTERVAL,
            };
    }

    fn time_of(&self, bytes: u64) -> Duration {
        Duration::from_micros(bytes * 1_000_000 / u64::from(self.bytes_per_s))
    }
}
