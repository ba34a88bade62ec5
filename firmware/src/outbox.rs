//! The bounded store of unacknowledged frames, and what goes when it is full.
//!
//! Each class has memory of its own, supplied by the caller: waveforms cannot crowd out events.
//! The rule at the bound:
//!
//! | what | when there is no room |
//! |---|---|
//! | waveforms | the oldest go |
//! | scalars and features | the oldest go |
//! | status | a new one replaces the one before |
//! | channel table, events, replies | are refused and stay with their source, which folds or repeats them |
//!
//! The last two share [`CONTROL_BYTES`] of the essential memory that samples never use: samples never
//! push out an alarm, and no flood of requests pushes out a sample. A frame that goes leaves its number
//! out of what is held; nothing is renumbered.

use trunnion_common::frame::{Class, FRAME_MAX};

/// Part of the essential memory kept for everything that is not samples: a channel table, a status and
/// a few dozen events and replies.
pub const CONTROL_BYTES: usize = 4 * (FRAME_MAX + ENTRY_BYTES);

/// Least essential memory: the control part, and two frames of samples.
pub const ESSENTIAL_MIN: usize = CONTROL_BYTES + WAVEFORM_MIN;

/// Least waveform memory: one frame under way while the next one is built.
pub const WAVEFORM_MIN: usize = 2 * (FRAME_MAX + ENTRY_BYTES);

/// What a frame in the outbox is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Samples of a channel: waveform or scalars.
    Samples,
    /// The channel table.
    Describe,
    /// An event or the result of a command.
    Notice,
    /// A status.
    Status,
    /// A time reply: stamped anew each time it is sent.
    TimeReply,
    /// Features of a channel.
    Features,
}

impl Kind {
    const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Samples,
            1 => Self::Describe,
            2 => Self::Notice,
            3 => Self::Status,
            4 => Self::TimeReply,
            _ => Self::Features,
        }
    }

    /// Whether the oldest of it goes when there is no room.
    const fn is_data(self) -> bool {
        matches!(self, Self::Samples | Self::Features)
    }
}

/// What the outbox knows of a frame without decoding it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// For samples: position of their channel in the table.
    pub channel: u8,
    /// For samples: how many.
    pub samples: u32,
    /// For samples: index of the first.
    pub first_sample: u64,
    /// The frame's number in its class.
    pub sequence: u64,
}

impl Entry {
    /// A frame that holds no samples.
    pub const fn control(kind: Kind, sequence: u64) -> Self {
        Self {
            kind,
            channel: 0,
            samples: 0,
            first_sample: 0,
            sequence,
        }
    }

    fn to_bytes(self, length: u16) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[0..2].copy_from_slice(&length.to_le_bytes());
        bytes[2] = self.kind as u8;
        bytes[3] = self.channel;
        bytes[4..8].copy_from_slice(&self.samples.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first_sample.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; ENTRY_BYTES]) -> (Self, usize) {
        let [
            l0,
            l1,
            kind,
            channel,
            s0,
            s1,
            s2,
            s3,
            f0,
            f1,
            f2,
            f3,
            f4,
            f5,
            f6,
            f7,
            sequence @ ..,
        ] = bytes;
        let entry = Self {
            kind: Kind::from_number(kind),
            channel,
            samples: u32::from_le_bytes([s0, s1, s2, s3]),
            first_sample: u64::from_le_bytes([f0, f1, f2, f3, f4, f5, f6, f7]),
            sequence: u64::from_le_bytes(sequence),
        };
        (entry, usize::from(u16::from_le_bytes([l0, l1])))
    }
}

/// Bytes that each frame costs beside its own.
pub const ENTRY_BYTES: usize = 24;

/// There is no room for a frame that may push out no other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoom;

/// The unacknowledged frames of one boot.
#[derive(Debug)]
pub struct Outbox<'m> {
    stores: [Store<'m>; 2],
    next: [u64; 2],
    control_used: usize,
}

impl<'m> Outbox<'m> {
    /// An empty outbox, unless a part is smaller than [`ESSENTIAL_MIN`] or [`WAVEFORM_MIN`].
    pub fn new(essential: &'m mut [u8], waveform: &'m mut [u8]) -> Option<Self> {
        (essential.len() >= ESSENTIAL_MIN && waveform.len() >= WAVEFORM_MIN).then(|| Self {
            stores: [Store::new(essential), Store::new(waveform)],
            next: [0; 2],
            control_used: 0,
        })
    }

    /// The number of the next frame of `class`.
    pub const fn next(&self, class: Class) -> u64 {
        self.next[class.index()]
    }

    /// Keeps an encoded frame, whose number must be [`Self::next`]. Older samples and features
    /// that have to make room for such are handed to `dropped`.
    pub fn push(
        &mut self,
        class: Class,
        entry: Entry,
        frame: &[u8],
        mut dropped: impl FnMut(Entry),
    ) -> Result<(), NoRoom> {
        debug_assert_eq!(entry.sequence, self.next(class));
        let size = ENTRY_BYTES + frame.len();
        let store = &mut self.stores[class.index()];
        if entry.kind.is_data() {
            let (capacity, control) = match class {
                Class::Essential => (store.capacity() - CONTROL_BYTES, self.control_used),
                Class::Waveform => (store.capacity(), 0),
            };
            while store.used() - control + size > capacity {
                let oldest = store.remove_first(|entry| entry.kind.is_data());
                let (entry, _) = oldest.ok_or(NoRoom)?;
                dropped(entry);
            }
        } else {
            if self.control_used + size > CONTROL_BYTES {
                return Err(NoRoom);
            }
            self.control_used += size;
        }
        store.push(entry, frame);
        self.next[class.index()] += 1;
        Ok(())
    }

    /// Removes the status, if one is held: a newer one is about to take its place.
    pub fn remove_status(&mut self) {
        let removed = self.stores[Class::Essential.index()].remove_first(|entry| entry.kind == Kind::Status);
        self.on_removed(removed);
    }

    /// Removes every frame of `class` below `upto` and hands it to `freed`.
    pub fn acknowledge(&mut self, class: Class, upto: u64, mut freed: impl FnMut(Entry)) {
        while self.held(class).next().is_some_and(|entry| entry.sequence < upto) {
            let removed = self.stores[class.index()].remove_first(|_| true);
            self.on_removed(removed);
            if let Some((entry, _)) = removed {
                freed(entry);
            }
        }
    }

    fn on_removed(&mut self, removed: Option<(Entry, usize)>) {
        if let Some((entry, size)) = removed
            && !entry.kind.is_data()
        {
            self.control_used -= size;
        }
    }

    /// The next frame to send, copied to `frame`, with its length.
    pub fn unsent(&self, class: Class, frame: &mut [u8; FRAME_MAX]) -> Option<(Entry, usize)> {
        let store = &self.stores[class.index()];
        let (entry, length) = store.entry(store.cursor)?;
        store.read(store.cursor + ENTRY_BYTES as u64, &mut frame[..length]);
        Some((entry, length))
    }

    /// The frame that [`Self::unsent`] returned is on its way.
    pub fn mark_sent(&mut self, class: Class) {
        let store = &mut self.stores[class.index()];
        if let Some((_, length)) = store.entry(store.cursor) {
            store.cursor += (ENTRY_BYTES + length) as u64;
        }
    }

    /// Every frame of `class` that is held counts as unsent again.
    pub fn rewind(&mut self, class: Class) {
        let store = &mut self.stores[class.index()];
        store.cursor = store.head;
    }

    /// Whether every held frame of `class` is on its way.
    pub fn is_all_sent(&self, class: Class) -> bool {
        let store = &self.stores[class.index()];
        store.cursor == store.tail
    }

    /// Bytes of `class` that are on their way and not acknowledged.
    pub fn outstanding(&self, class: Class) -> u64 {
        let store = &self.stores[class.index()];
        store.cursor - store.head
    }

    /// Every held frame of `class`, lowest number first.
    pub fn held(&self, class: Class) -> impl Iterator<Item = Entry> + '_ {
        let store = &self.stores[class.index()];
        let mut at = store.head;
        core::iter::from_fn(move || {
            let (entry, length) = store.entry(at)?;
            at += (ENTRY_BYTES + length) as u64;
            Some(entry)
        })
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.stores.iter().map(Store::used).sum()
    }

    /// Bytes there are.
    pub fn capacity(&self) -> usize {
        self.stores.iter().map(Store::capacity).sum()
    }
}

/// Frames back to back in a ring of bytes. Positions count up for ever; the ring is where they fall
/// modulo its size.
#[derive(Debug)]
struct Store<'m> {
    memory: &'m mut [u8],
    head: u64,
    tail: u64,
    /// Where the next frame to send starts.
    cursor: u64,
}

impl<'m> Store<'m> {
    fn new(memory: &'m mut [u8]) -> Self {
        Self {
            memory,
            head: 0,
            tail: 0,
            cursor: 0,
        }
    }

    fn capacity(&self) -> usize {
        self.memory.len()
    }

    fn used(&self) -> usize {
        (self.tail - self.head) as usize
    }

    /// Appends; the caller has seen to it that there is room.
    fn push(&mut self, entry: Entry, frame: &[u8]) {
        let Ok(length) = u16::try_from(frame.len()) else {
            unreachable!("a frame has at most FRAME_MAX bytes");
        };
        debug_assert!(self.used() + ENTRY_BYTES + frame.len() <= self.capacity());
        self.write(self.tail, &entry.to_bytes(length));
        self.write(self.tail + ENTRY_BYTES as u64, frame);
        self.tail += (ENTRY_BYTES + frame.len()) as u64;
    }

    /// The entry at `at` and its frame's length, unless `at` is the end.
    fn entry(&self, at: u64) -> Option<(Entry, usize)> {
        (at < self.tail).then(|| {
            let mut bytes = [0; ENTRY_BYTES];
            self.read(at, &mut bytes);
            Entry::from_bytes(bytes)
        })
    }

    /// Removes the first entry that `is_it`; what stands before it moves up. That is little or nothing:
    /// the oldest samples have only control frames before them. Returns the entry and the room freed.
    fn remove_first(&mut self, is_it: impl Fn(&Entry) -> bool) -> Option<(Entry, usize)> {
        let mut at = self.head;
        let (entry, size) = loop {
            let (entry, length) = self.entry(at)?;
            if is_it(&entry) {
                break (entry, (ENTRY_BYTES + length) as u64);
            }
            at += (ENTRY_BYTES + length) as u64;
        };
        if self.cursor <= at {
            self.cursor += size;
        }
        // From the end backwards, so that no byte is overwritten before it has moved.
        let mut piece = [0; 64];
        let mut end = at;
        while end > self.head {
            let start = end.saturating_sub(piece.len() as u64).max(self.head);
            let piece = &mut piece[..(end - start) as usize];
            self.read(start, piece);
            self.write(start + size, piece);
            end = start;
        }
        self.head += size;
        Some((entry, size as usize))
    }

    fn read(&self, at: u64, out: &mut [u8]) {
        let at = (at % self.memory.len() as u64) as usize;
        let (before, after) = out.split_at_mut(out.len().min(self.memory.len() - at));
        before.copy_from_slice(&self.memory[at..at + before.len()]);
        after.copy_from_slice(&self.memory[..after.len()]);
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        let at = (at % self.memory.len() as u64) as usize;
        let (before, after) = bytes.split_at(bytes.len().min(self.memory.len() - at));
        self.memory[at..at + before.len()].copy_from_slice(before);
        self.memory[..after.len()].copy_from_slice(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    /// A frame that shows when a byte of it is out of place.
    fn frame(sequence: u64, length: usize) -> Vec<u8> {
        (0..length as u64)
            .map(|place| (sequence * 31 + place * 7) as u8)
            .collect()
    }

    fn samples(sequence: u64) -> Entry {
        Entry {
            kind: Kind::Samples,
            channel: (sequence % 3) as u8,
            samples: 1 + sequence as u32,
            first_sample: sequence * 1_000,
            sequence,
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Samples(usize),
        Control(Kind, usize),
        Acknowledge(u64),
        RemoveStatus,
        Send,
        Rewind,
    }

    fn step() -> impl Strategy<Value = Step> {
        let kind = prop_oneof![Just(Kind::Notice), Just(Kind::Status), Just(Kind::TimeReply)];
        prop_oneof![
            6 => (20usize..=FRAME_MAX).prop_map(Step::Samples),
            3 => (kind, 20usize..300).prop_map(|(kind, length)| Step::Control(kind, length)),
            2 => (0u64..8).prop_map(Step::Acknowledge),
            1 => Just(Step::RemoveStatus),
            4 => Just(Step::Send),
            1 => Just(Step::Rewind),
        ]
    }

    /// A held frame of the model.
    struct Held {
        entry: Entry,
        frame: Vec<u8>,
        is_sent: bool,
    }

    fn room(model: &VecDeque<Held>, is_samples: bool) -> usize {
        let of_kind = model
            .iter()
            .filter(|held| (held.entry.kind == Kind::Samples) == is_samples);
        of_kind.map(|held| ENTRY_BYTES + held.frame.len()).sum()
    }

    proptest! {
        /// Against a queue of whole frames: the same frames in the same order, the same next one to
        /// send, the same ones dropped.
        #[test]
        fn it_is_a_bounded_queue(steps in prop::collection::vec(step(), 1..300), extra in 0usize..5_000) {
            let class = Class::Essential;
            let (mut essential, mut waveform) = (vec![0; ESSENTIAL_MIN + extra], vec![0; WAVEFORM_MIN]);
            let mut outbox = Outbox::new(&mut essential, &mut waveform).unwrap();
            let mut model: VecDeque<Held> = VecDeque::new();
            for step in steps {
                let sequence = outbox.next(class);
                match step {
                    Step::Samples(length) => {
                        let (entry, frame) = (samples(sequence), frame(sequence, length));
                        let mut dropped = Vec::new();
                        let kept = outbox.push(class, entry, &frame, |entry| dropped.push(entry));
                        prop_assert_eq!(kept, Ok(()));
                        let mut expected = Vec::new();
                        while room(&model, true) + ENTRY_BYTES + length > WAVEFORM_MIN + extra {
                            let oldest = model.iter().position(|held| held.entry.kind == Kind::Samples);
                            expected.push(model.remove(oldest.unwrap()).unwrap().entry);
                        }
                        prop_assert_eq!(dropped, expected);
                        model.push_back(Held { entry, frame, is_sent: false });
                    }
                    Step::Control(kind, length) => {
                        let (entry, frame) = (Entry::control(kind, sequence), frame(sequence, length));
                        let fits = room(&model, false) + ENTRY_BYTES + length <= CONTROL_BYTES;
                        let kept = outbox.push(class, entry, &frame, |_| panic!("drops nothing"));
                        prop_assert_eq!(kept.is_ok(), fits);
                        if fits {
                            model.push_back(Held { entry, frame, is_sent: false });
                        }
                    }
                    Step::Acknowledge(back) => {
                        let upto = sequence.saturating_sub(back);
                        let mut freed = Vec::new();
                        outbox.acknowledge(class, upto, |entry| freed.push(entry));
                        let mut expected = Vec::new();
                        while model.front().is_some_and(|held| held.entry.sequence < upto) {
                            expected.extend(model.pop_front().map(|held| held.entry));
                        }
                        prop_assert_eq!(freed, expected);
                    }
                    Step::RemoveStatus => {
                        outbox.remove_status();
                        if let Some(at) = model.iter().position(|held| held.entry.kind == Kind::Status) {
                            model.remove(at);
                        }
                    }
                    Step::Send => {
                        let mut sent = [0; FRAME_MAX];
                        let next = outbox.unsent(class, &mut sent);
                        let expected = model.iter_mut().find(|held| !held.is_sent);
                        prop_assert_eq!(next.is_some(), expected.is_some());
                        if let (Some((entry, length)), Some(expected)) = (next, expected) {
                            prop_assert_eq!((entry, &sent[..length]), (expected.entry, &expected.frame[..]));
                            outbox.mark_sent(class);
                            expected.is_sent = true;
                        }
                    }
                    Step::Rewind => {
                        outbox.rewind(class);
                        model.iter_mut().for_each(|held| held.is_sent = false);
                    }
                }
                prop_assert!(outbox.held(class).eq(model.iter().map(|held| held.entry)));
                prop_assert_eq!(outbox.is_all_sent(class), model.iter().all(|held| held.is_sent));
                prop_assert_eq!(outbox.used(), room(&model, true) + room(&model, false));
            }
        }
    }
}
