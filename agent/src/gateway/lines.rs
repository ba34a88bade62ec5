//! The gateway's part in lines: what nodes say is taken in, and they are polled.

use super::writer::Writer;
use super::{Action, Gateway, Metrics};
use crate::clock::Now;
use crate::clock_sync::ClockSync;
use crate::intake::{Fate, Taken};
use crate::line::Heard;
use crate::line::shared::{Change, Turn};
use crate::port::{Pace, PortEvent};
use crate::watch::Arrival;
use std::time::Duration;
use trunnion_common::block::{FrameRecord, Kind};
use trunnion_common::frame::{Class, Payload};
use trunnion_common::id::{BootId, NodeId};
use trunnion_common::reject::RejectReason;
use trunnion_common::sample::LossCause;

/// How long a report of a node waits for others, so that one commit serves several nodes: half of a node's
/// patience with an acknowledgement (the firmware's `TIMEOUT_MICROS_MIN`).
pub(super) const REPORT_AGE: Duration = Duration::from_millis(500);

impl Gateway {
    /// Something happened at a port.
    pub fn handle_port(&mut self, line: usize, event: PortEvent, now: Now) {
        let now = self.keep_time(now);
        match event {
            PortEvent::Opened => self.lines[line].handle_opened(),
            PortEvent::Closed => self.lines[line].handle_closed(),
            PortEvent::Bytes(bytes, arrived) => {
                self.metrics.line_bytes.inc_by(bytes.len() as u64);
                let arrived = self.timekeeper.recently(arrived);
                self.handle_bytes(line, &bytes, arrived, now);
            }
        }
    }

    fn handle_bytes(&mut self, line: usize, mut bytes: &[u8], arrived: Now, now: Now) {
        let declines = self.declines();
        let Self {
            ports,
            lines,
            intake,
            introductions,
            clocks,
            writer,
            commands,
            metrics,
            derive,
            watches,
            alarms,
            ..
        } = self;
        let port = &ports[line];
        let mut is_full = [false; 2];
        while !bytes.is_empty() {
            let (raw, payload) = match lines[line].handle_bytes(&mut bytes, now.mono) {
                None => continue,
                Some(Heard::Frame(raw, payload)) => (raw, payload),
                Some(Heard::Broken(reason)) => {
                    Metrics::reason(&metrics.frames_broken, reason).inc();
                    if let Some(frames) = lines[line].note_broken(now.mono) {
                        tracing::warn!(port, frames, %reason, "broken frames on a line; check speed, cable and what is on the other end");
                    }
                    continue;
                }
                Some(Heard::SecondMaster(master)) => {
                    metrics.second_masters.inc();
                    tracing::error!(
                        port,
                        master = master.0,
                        "second_master: another agent polls on this line, which is not used any more; \
                         stop one of the two and restart this agent"
                    );
                    continue;
                }
                Some(Heard::Changed((node, boot), change)) => {
                    Metrics::label(&metrics.line_changes, change.label()).inc();
                    tell_change(port, node, boot, change);
                    continue;
                }
            };
            let header = raw.header();
            let key = (header.node, header.boot);
            alarms.handle_frame(header, payload.as_ref(), arrived.utc);
            if declines[header.class.index()] {
                // As if it had not been heard: the node keeps it and sends it again.
                metrics.frames_declined.inc();
                continue;
            }
            if payload.is_none() {
                Metrics::reason(&metrics.frames_broken, RejectReason::FramePayload).inc();
            }
            let was_known = intake.knows(key);
            let taken = intake.handle_frame(header, payload.as_ref(), now.mono);
            if !was_known {
                tracing::info!(node = %key.0, boot = %key.1, port, "a node's boot heard for the first time");
            }
            metrics.boots_forgotten.inc_by(taken.forgotten as u64);
            if taken.forgotten > 0 {
                clocks.retain(|known, _| intake.knows(*known));
                derive.retain(|known| intake.knows(known));
                watches.retain(|known| intake.knows(known));
                introductions.retain(|known| intake.knows(known));
            }
            let clock = clocks
                .entry(key)
                .or_insert_with(|| ClockSync::new(key.0, key.1, None, self.clock_sync_interval));
            if let Some(Payload::TimeReply(reply)) = &payload
                && let Some(fix) = clock.handle_reply(reply, arrived, self.timekeeper.quality())
            {
                metrics.clock_fixes.inc();
                tracing::debug!(node = %fix.node, number = fix.number, error_ns = fix.error_ns, "clock fix");
                introductions.handle_fix(&fix);
                writer.add_record(Kind::ClockFix, &fix, now);
            }
            if let Some(Payload::SettingsResult(result)) = &payload {
                commands.handle_result(key, result);
            }
            book_gaps(&taken, writer, metrics, now);
            match taken.fate {
                Fate::New => metrics.frames.inc(),
                Fate::Duplicate => metrics.frames_duplicate.inc(),
                Fate::Deferred => metrics.frames_deferred.inc(),
            };
            if taken.fate != Fate::New {
                continue;
            }
            metrics
                .samples
                .inc_by(taken.samples.map_or(0, |samples| samples.range.count()));
            let record = FrameRecord {
                arrival: arrived.utc,
                fix: clock.number(),
                frame: raw.bytes(),
            };
            let arrival = Arrival {
                ticks: header.ticks,
                fix: clock.fix(),
                utc: arrived.utc,
                mono: arrived.mono,
            };
            match &payload {
                Some(Payload::Waveform(waveform)) => {
                    derive.handle_waveform(key, header.ticks, clock.number(), waveform, now.mono);
                    watches.handle_waveform(key, waveform, arrival);
                }
                Some(Payload::Scalar(scalar)) => watches.handle_scalar(key, scalar, arrival),
                Some(Payload::Describe(describe)) => {
                    derive.handle_describe(key, describe);
                    watches.handle_describe(key, describe);
                    introductions.handle_table(header, &record);
                }
                _ => {}
            }
            let at = header.class.index();
            let due = now.mono + patience(payload.as_ref(), writer.age);
            let add = |writer: &mut Writer| {
                writer.chains[at]
                    .gathering
                    .add(&record, header, taken.samples, due)
            };
            if !add(writer) {
                writer.close_gathering(header.class, now);
                is_full[at] = true;
                let added = add(writer);
                debug_assert!(added, "an empty block has room for any frame");
            }
        }
        for class in Class::ALL.into_iter().filter(|class| is_full[class.index()]) {
            self.commit(class, now);
        }
    }

    /// Whether machines are judged here: their frames are wanted at once.
    pub(super) fn is_watching(&self) -> bool {
        self.watches.channels() > 0
    }

    /// Asks nodes and acknowledges them, as it is due.
    pub(super) fn poll_lines(&mut self, now: Now) {
        for number in 0..self.lines.len() {
            if self.lines[number].shared().is_some() {
                self.poll_shared(number, now);
            } else {
                self.poll_own(number, now);
            }
        }
    }

    /// A line with one node, which may be spoken to at any time.
    fn poll_own(&mut self, number: usize, now: Now) {
        let is_watching = self.is_watching();
        let line = &mut self.lines[number];
        let Some(key) = line.own_node() else {
            self.set_pace(number, Pace::InTurn);
            return;
        };
        if line.is_poll_due(now.mono) {
            let poll = line.poll(self.intake.durable(key), now.mono);
            self.actions
                .extend(poll.map(|bytes| Action::Write(number, bytes)));
        }
        let Some(clock) = self.clocks.get_mut(&key) else {
            return;
        };
        let is_due = clock.poll_request(now, line.next_request());
        let request = is_due.then(|| line.time_request()).flatten();
        let is_reply_expected = clock.reply_expected_until().is_some_and(|until| now.mono < until);
        let pace = if is_watching || is_reply_expected {
            Pace::AtOnce
        } else {
            Pace::InTurn
        };
        self.set_pace(number, pace);
        self.actions
            .extend(request.map(|bytes| Action::Write(number, bytes)));
    }

    /// A line that several nodes share: who may speak next is told so once the line is free. It is read at
    /// once, since nobody speaks until the end of a turn has been heard.
    fn poll_shared(&mut self, number: usize, now: Now) {
        self.set_pace(number, Pace::AtOnce);
        let line = &mut self.lines[number];
        let next_request = line.next_request();
        let Some(shared) = line.shared() else {
            return;
        };
        let turn = shared.next_turn(now.mono);
        self.metrics.polls_unanswered.inc_by(shared.take_unanswered());
        let Some(turn) = turn else {
            return;
        };
        let (mut upto, mut is_time_asked) = ([0; 2], false);
        if let Turn::Node { key, .. } = &turn {
            upto = self.intake.durable(*key);
            let clock = self.clocks.get_mut(key);
            is_time_asked = clock.is_some_and(|clock| clock.poll_request(now, next_request));
        }
        let bytes = line.take_turn(turn, upto, is_time_asked, now.mono);
        self.actions
            .extend(bytes.map(|bytes| Action::Write(number, bytes)));
    }

    fn set_pace(&mut self, number: usize, pace: Pace) {
        if self.lines[number].set_pace(pace) {
            self.actions.push_back(Action::Listen(number, pace));
        }
    }
}

/// What happens on shared lines, for people.
fn tell_change(port: &str, node: NodeId, boot: BootId, change: Change) {
    match change {
        Change::Joined { address, is_conflict } => {
            let address = address.0;
            if is_conflict {
                tracing::warn!(port, %node, %boot, address, "a node had another one's address, and is given this one");
            } else {
                tracing::info!(port, %node, %boot, address, "a node joined a shared line");
            }
        }
        Change::Twins => tracing::error!(
            port, %node,
            "two nodes have the same id: neither is polled; take one off the line, give it an id of its own and \
             plug the port in again"
        ),
        Change::Full => tracing::error!(
            port, %node,
            "there are more nodes on a line than it drives, and this one is not polled; move it to another line"
        ),
    }
}

/// How long a frame may wait for its commit: what only reports can wait for other nodes' reports.
fn patience(payload: Option<&Payload<'_>>, age: Duration) -> Duration {
    match payload {
        Some(Payload::Status(_) | Payload::TimeReply(_)) => age.max(REPORT_AGE),
        _ => age,
    }
}

fn book_gaps(taken: &Taken, writer: &mut Writer, metrics: &Metrics, now: Now) {
    for gap in &taken.gaps {
        let frames: u64 = gap.ranges.iter().map(|range| range.count()).sum();
        Metrics::cause(&metrics.frames_lost, gap.cause).inc_by(frames);
        let class = gap.class;
        let (node, boot, cause) = (gap.node, gap.boot, gap.cause.label());
        if gap.cause == LossCause::NotHeld {
            tracing::debug!(%node, %boot, ?class, frames, cause, "frames gone from the node, no sample missed");
        } else {
            tracing::error!(%node, %boot, ?class, frames, cause, "frames lost before they reached this agent");
        }
        writer.add_record(Kind::Gap, gap, now);
    }
}
