//! Events that wait to be sent, repeats folded into one.
//!
//! An event becomes a frame only when the line is free for it, so that an hour without an agent
//! leaves one event "1,200 times since ..." and not 1,200 frames. The table never loses an event: when
//! it is full, two of one kind become one that names no channel.

use heapless::Vec;
use trunnion_common::frame::Event;
use trunnion_common::time::NodeTicks;

/// More than there are kinds of event, so that a full table always has two of a kind.
const PENDING_MAX: usize = 16;

/// The events not yet made into frames.
#[derive(Debug, Default)]
pub struct EventLog {
    pending: Vec<(NodeTicks, Event), PENDING_MAX>,
}

impl EventLog {
    /// Remembers that `event` happened `now`.
    pub fn note(&mut self, now: NodeTicks, event: Event) {
        let same = |e: &Event| e.kind == event.kind && e.channel == event.channel;
        if let Some((_, known)) = self.pending.iter_mut().find(|(_, known)| same(known)) {
            fold(known, event);
            return;
        }
        if self.pending.is_full() {
            self.merge_a_pair();
        }
        let noted = self.pending.push((now, event));
        debug_assert!(noted.is_ok(), "a pair was merged");
    }

    /// The oldest event, and when it first happened.
    pub fn oldest(&self) -> Option<(NodeTicks, Event)> {
        self.pending.first().copied()
    }

    /// Forgets the oldest event: it is in the outbox now.
    pub fn remove_oldest(&mut self) {
        if !self.pending.is_empty() {
            self.pending.remove(0);
        }
    }

    fn merge_a_pair(&mut self) {
        for later in (1..self.pending.len()).rev() {
            let event = self.pending[later].1;
            let pair = |(_, e): &(NodeTicks, Event)| e.kind == event.kind;
            if let Some(earlier) = self.pending[..later].iter().position(pair) {
                fold(&mut self.pending[earlier].1, event);
                self.pending.remove(later);
                return;
            }
        }
    }
}

fn fold(into: &mut Event, event: Event) {
    into.severity = into.severity.max(event.severity);
    into.repeats = into.repeats.saturating_add(event.repeats);
    into.value = event.value;
    if into.channel != event.channel {
        into.channel = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::frame::{EventKind, Severity};
    use trunnion_common::id::ChannelId;

    fn event(kind: EventKind, channel: u16) -> Event {
        Event {
            severity: Severity::Warning,
            kind,
            channel: ChannelId::new(channel),
            repeats: 1,
            value: f32::from(channel),
        }
    }

    #[test]
    fn repeats_are_folded_and_keep_the_first_time() {
        let mut log = EventLog::default();
        for now in 5..8 {
            log.note(NodeTicks(now), event(EventKind::SensorLost, 1));
        }
        let (ticks, folded) = log.oldest().unwrap();
        assert_eq!((ticks, folded.repeats), (NodeTicks(5), 3));
        log.remove_oldest();
        assert_eq!(log.oldest(), None);
    }

    #[test]
    fn a_full_table_forgets_channels_and_no_event() {
        let mut log = EventLog::default();
        for channel in 0..16 {
            log.note(NodeTicks(0), event(EventKind::SensorLost, channel));
            log.note(NodeTicks(0), event(EventKind::LimitExceeded, channel));
        }
        log.note(NodeTicks(0), event(EventKind::BrownOut, 0));
        let mut counted = 0;
        while let Some((_, event)) = log.oldest() {
            counted += event.repeats;
            log.remove_oldest();
        }
        assert_eq!(counted, 33);
    }
}
