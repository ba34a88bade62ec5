//! The node's end of the line: whom it obeys, how much it may send, and when to send again.
//!
//! The agent polls. A poll says what is safe (and so may be forgotten) and how many bytes the node may
//! send until the next poll. Frames go in the order of their numbers, essential ones first. The
//! acknowledgement is cumulative: when the frames on their way are not acknowledged in time, the node
//! goes back to the first of them. *In time* follows the acknowledgements themselves (RFC 6298: smoothed
//! time plus four times its variation, doubled at each failure, never measured on a frame that was sent
//! twice), between [`TIMEOUT_MICROS_MIN`] and [`TIMEOUT_MICROS_MAX`].
//!
//! A node obeys one master until it has been silent for [`MASTER_SILENCE_MICROS`]. Only a frame of the
//! node can tell an agent whom to poll: it sends one when asked who is there and, on a line of its own,
//! each [`ANNOUNCE_MICROS`] while it has no master.
//!
//! On a line that it shares a node speaks in its turns alone, as [`trunnion_common::shared_line`] has it.

use crate::outbox::{Entry, Kind, Outbox};
use trunnion_common::codec::stuff;
use trunnion_common::frame::{Class, FRAME_MAX, Header, Payload, Poll, RawFrame, encode};
use trunnion_common::id::{BootId, LineAddress, MasterId, NodeId};
use trunnion_common::shared_line::{END_OF_TURN, slot, slot_micros};
use trunnion_common::time::NodeTicks;
use trunnion_common::version;

/// How long a master must be silent before another is obeyed.
pub const MASTER_SILENCE_MICROS: u64 = 10_000_000;

/// Most bytes of a class on their way unacknowledged: what one loss can make the line carry again. At
/// an acknowledgement time of 0.25 s it lets 1 MB/s through.
pub const WINDOW_BYTES: u64 = 256 * 1_024;

/// Least time to wait for an acknowledgement: an agent gathers a block before it flushes, and a slow
/// disk is no reason to send everything twice.
pub const TIMEOUT_MICROS_MIN: u64 = 1_000_000;

/// Most time to wait for an acknowledgement.
pub const TIMEOUT_MICROS_MAX: u64 = 8_000_000;

/// Time to wait before there has been any acknowledgement to measure.
const TIMEOUT_MICROS_FIRST: u64 = 2_000_000;

/// From one announcement to the next, on a line of its own without a master.
pub const ANNOUNCE_MICROS: u64 = 1_000_000;

/// Who else is on the line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wiring {
    /// Nobody: full duplex between this node and an agent. It may speak unasked.
    Own,
    /// Other nodes: it speaks only when polled or asked.
    Shared,
}

impl Wiring {
    /// Where a node is on such a line until it is assigned another place.
    pub const fn first_address(self) -> LineAddress {
        match self {
            Self::Own => LineAddress(1),
            Self::Shared => LineAddress::UNASSIGNED,
        }
    }
}

/// What a poll meant to the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// From the master obeyed; `rivals` foreign polls have come since its last one.
    Obeyed {
        /// How many.
        rivals: u32,
    },
    /// From a master that is obeyed from now on.
    NewMaster,
    /// From a master that is not obeyed while another one is.
    Refused,
}

/// The state of the line.
#[derive(Debug)]
pub struct Link {
    node: NodeId,
    boot: BootId,
    address: LineAddress,
    wiring: Wiring,
    master: Option<Master>,
    announce_at: NodeTicks,
    /// Whether one frame may go without credit.
    is_announcing: bool,
    /// Bytes that may still be sent before the next poll.
    credit: u32,
    /// Whether a poll is being answered. It matters on a shared line alone.
    is_in_turn: bool,
    /// When to tell a discovery on a shared line that this node is there.
    answer_at: Option<NodeTicks>,
    flights: [Flight; 2],
    acknowledgement: AcknowledgementTime,
}

#[derive(Debug)]
struct Master {
    id: MasterId,
    heard: NodeTicks,
    rivals: u32,
}

/// Frames of one class on their way.
#[derive(Debug, Default)]
struct Flight {
    /// The number after the highest ever sent.
    sent_upto: u64,
    /// A frame sent once only, and when: its acknowledgement is a measurement.
    timed: Option<(u64, NodeTicks)>,
    /// When to go back to the first unacknowledged frame.
    deadline: Option<NodeTicks>,
}

impl Link {
    /// A line on which nobody has been heard.
    pub fn new(node: NodeId, boot: BootId, address: LineAddress, wiring: Wiring) -> Self {
        Self {
            node,
            boot,
            address,
            wiring,
            master: None,
            announce_at: NodeTicks(0),
            is_announcing: false,
            credit: 0,
            is_in_turn: false,
            answer_at: None,
            flights: [Flight::default(), Flight::default()],
            acknowledgement: AcknowledgementTime::default(),
        }
    }

    /// The header of a frame of this node.
    pub const fn header(&self, class: Class, sequence: u64, ticks: NodeTicks) -> Header {
        Header {
            version: version::FRAME,
            address: self.address,
            node: self.node,
            boot: self.boot,
            class,
            sequence,
            ticks,
        }
    }

    /// Whether a frame with this header is for this address.
    pub fn is_addressed(&self, header: &Header) -> bool {
        header.address == self.address || header.address == LineAddress::BROADCAST
    }

    /// Whether a frame with this header names this node in this life.
    pub fn is_named(&self, header: &Header) -> bool {
        header.node == self.node && header.boot == self.boot
    }

    /// Answers to this address from now on. Nobody is everybody.
    pub fn assign(&mut self, address: LineAddress) {
        if address != LineAddress::BROADCAST {
            self.address = address;
        }
    }

    /// Somebody asks on a shared line who is there. A node that has a master is known to it.
    pub fn handle_discover(&mut self, now: NodeTicks, question: &Header, bytes_per_s: u32) {
        if self.wiring == Wiring::Shared && self.master.is_none() {
            let own = self.header(Class::Essential, 0, now);
            let wait = u64::from(slot(question, &own)) * slot_micros(bytes_per_s);
            self.answer_at = Some(now.plus_micros(wait));
        }
    }

    /// Whether anything may be sent.
    pub const fn may_send(&self) -> bool {
        match self.wiring {
            Wiring::Own => self.credit > 0,
            Wiring::Shared => self.is_in_turn,
        }
    }

    /// Who else is on the line.
    pub const fn wiring(&self) -> Wiring {
        self.wiring
    }

    /// Whether the master has polled at `since` or later.
    pub fn is_polled_since(&self, since: NodeTicks) -> bool {
        self.master.as_ref().is_some_and(|master| master.heard >= since)
    }

    /// Takes a poll. Its acknowledgement counts unless it is refused: [`Self::handle_acknowledgement`].
    pub fn handle_poll(&mut self, now: NodeTicks, poll: &Poll) -> Verdict {
        let verdict = match &mut self.master {
            Some(master) if master.id == poll.master => {
                master.heard = now;
                Verdict::Obeyed {
                    rivals: core::mem::take(&mut master.rivals),
                }
            }
            Some(master) if now.micros_since(master.heard) < MASTER_SILENCE_MICROS => {
                master.rivals = master.rivals.saturating_add(1);
                return Verdict::Refused;
            }
            _ => {
                self.master = Some(Master {
                    id: poll.master,
                    heard: now,
                    rivals: 0,
                });
                self.acknowledgement = AcknowledgementTime::default();
                Verdict::NewMaster
            }
        };
        self.is_announcing = false;
        self.credit = poll.credit;
        self.is_in_turn = true;
        self.answer_at = None;
        verdict
    }

    /// Everything of `class` below `upto` is safe; it leaves the outbox through `freed`. A number that
    /// was never sent cannot be safe, and is not believed.
    pub fn handle_acknowledgement(
        &mut self,
        now: NodeTicks,
        class: Class,
        upto: u64,
        outbox: &mut Outbox<'_>,
        mut freed: impl FnMut(Entry),
    ) {
        let flight = &mut self.flights[class.index()];
        let upto = upto.min(flight.sent_upto);
        let mut progress = false;
        outbox.acknowledge(class, upto, |entry| {
            progress = true;
            freed(entry);
        });
        if !progress {
            return;
        }
        if let Some((sequence, sent)) = flight.timed
            && sequence < upto
        {
            self.acknowledgement.measure(now.micros_since(sent));
            flight.timed = None;
        }
        self.acknowledgement.failures = 0;
        flight.deadline =
            (outbox.outstanding(class) > 0).then(|| now.plus_micros(self.acknowledgement.timeout_micros()));
    }

    /// Starts over with what is held: whoever reads the line may have seen none of it.
    pub fn resend(&mut self, class: Class, outbox: &mut Outbox<'_>) {
        outbox.rewind(class);
        let flight = &mut self.flights[class.index()];
        flight.timed = None;
        flight.deadline = None;
    }

    /// Lets the first unacknowledged essential frame go without credit.
    pub fn announce(&mut self, outbox: &mut Outbox<'_>) {
        self.resend(Class::Essential, outbox);
        self.is_announcing = true;
    }

    /// Does what time alone demands: goes back when an acknowledgement is overdue, falls silent when
    /// the master has. Returns whether it is time for an announcement.
    pub fn handle_time(&mut self, now: NodeTicks, outbox: &mut Outbox<'_>) -> bool {
        if let Some(master) = &self.master
            && now.micros_since(master.heard) >= MASTER_SILENCE_MICROS
        {
            self.master = None;
            self.credit = 0;
            self.is_in_turn = false;
        }
        for class in Class::ALL {
            let overdue = self.flights[class.index()].deadline.is_some_and(|at| at <= now);
            if overdue {
                self.resend(class, outbox);
                self.acknowledgement.failures = self.acknowledgement.failures.saturating_add(1);
            }
        }
        let is_due = self.next_announcement().is_some_and(|at| at <= now);
        if is_due {
            self.announce_at = now.plus_micros(ANNOUNCE_MICROS);
        }
        is_due
    }

    fn next_announcement(&self) -> Option<NodeTicks> {
        (self.wiring == Wiring::Own && self.master.is_none()).then_some(self.announce_at)
    }

    /// When [`Self::handle_time`] next has something to do.
    pub fn poll_timeout(&self) -> Option<NodeTicks> {
        let silence = self
            .master
            .as_ref()
            .map(|master| master.heard.plus_micros(MASTER_SILENCE_MICROS));
        let overdue = self.flights.iter().filter_map(|flight| flight.deadline);
        overdue
            .chain(silence)
            .chain(self.next_announcement())
            .chain(self.answer_at)
            .min()
    }

    /// Writes whole frames for the line to `out` and returns how many bytes; 0 when there is nothing to
    /// send, no credit, or no room. What fits no more of a turn on a shared line ends it.
    pub fn poll_transmit(&mut self, now: NodeTicks, outbox: &mut Outbox<'_>, out: &mut [u8]) -> usize {
        if self.wiring == Wiring::Own {
            return self.send(now, outbox, out).0;
        }
        if self.answer_at.is_some_and(|at| at <= now) {
            self.answer_at = None;
            return self.answer(now, outbox.next(Class::Essential), out);
        }
        if !self.is_in_turn {
            return 0;
        }
        let (mut written, is_all) = self.send(now, outbox, out);
        if is_all && let Some(end) = out.get_mut(written) {
            *end = END_OF_TURN;
            written += 1;
            self.is_in_turn = false;
            self.credit = 0;
        }
        written
    }

    /// What tells a discovery that this node is there.
    fn answer(&self, now: NodeTicks, sequence: u64, out: &mut [u8]) -> usize {
        let mut frame = [0; FRAME_MAX];
        let header = self.header(Class::Essential, sequence, now);
        let frame = encode(&header, &Payload::Discover, &mut frame).ok();
        frame
            .and_then(|frame| stuff(frame, out).ok())
            .map_or(0, <[u8]>::len)
    }

    /// Writes frames as far as credit and room go; how many bytes, and whether more room would bring no more.
    fn send(&mut self, now: NodeTicks, outbox: &mut Outbox<'_>, out: &mut [u8]) -> (usize, bool) {
        let mut frame = [0; FRAME_MAX];
        let mut written = 0;
        for class in Class::ALL {
            if class == Class::Waveform {
                self.is_announcing = false;
            }
            while outbox.outstanding(class) < WINDOW_BYTES
                && let Some((entry, mut length)) = outbox.unsent(class, &mut frame)
            {
                if entry.kind == Kind::TimeReply {
                    length = stamp(&mut frame, length, now);
                }
                // What does not fit now keeps its turn: a smaller frame behind it may not overtake.
                let Ok(line) = stuff(&frame[..length], &mut out[written..]) else {
                    return (written, false);
                };
                match self.credit.checked_sub(line.len() as u32) {
                    Some(credit) => self.credit = credit,
                    None if self.is_announcing => {}
                    None => return (written, true),
                }
                self.is_announcing = false;
                written += line.len();
                outbox.mark_sent(class);
                self.on_sent(now, class, entry.sequence);
            }
        }
        (written, true)
    }

    fn on_sent(&mut self, now: NodeTicks, class: Class, sequence: u64) {
        let flight = &mut self.flights[class.index()];
        if sequence >= flight.sent_upto {
            flight.sent_upto = sequence + 1;
            flight.timed.get_or_insert((sequence, now));
        }
        flight
            .deadline
            .get_or_insert(now.plus_micros(self.acknowledgement.timeout_micros()));
    }
}

/// Puts the time of sending into a time reply; returns the frame's new length.
fn stamp(frame: &mut [u8; FRAME_MAX], length: usize, now: NodeTicks) -> usize {
    let kept = RawFrame::parse(&frame[..length]).ok();
    let kept = kept.and_then(|kept| Some((*kept.header(), kept.time_reply()?)));
    let Some((header, mut reply)) = kept else {
        return length;
    };
    reply.sent = now;
    encode(&header, &Payload::TimeReply(reply), frame).map_or(length, <[u8]>::len)
}

/// How long acknowledgements take, microseconds.
#[derive(Debug, Default)]
struct AcknowledgementTime {
    smoothed: Option<(u64, u64)>,
    failures: u32,
}

impl AcknowledgementTime {
    /// RFC 6298, section 2, with its weights of 1/8 and 1/4.
    fn measure(&mut self, micros: u64) {
        self.smoothed = Some(match self.smoothed {
            None => (micros, micros / 2),
            Some((mean, variation)) => (
                (7 * mean + micros) / 8,
                (3 * variation + mean.abs_diff(micros)) / 4,
            ),
        });
    }

    fn timeout_micros(&self) -> u64 {
        let base = match self.smoothed {
            None => TIMEOUT_MICROS_FIRST,
            Some((mean, variation)) => (mean + 4 * variation).max(TIMEOUT_MICROS_MIN),
        };
        base.saturating_mul(1 << self.failures.min(16))
            .min(TIMEOUT_MICROS_MAX)
    }
}
