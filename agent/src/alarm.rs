//! Alarms of nodes in slots of fixed number, so that no want of room silences one. Pure.
//!
//! Every event of alarm severity goes its normal way, in a frame through the essential chain, and also
//! into the slot of its (node, channel, kind), where repeats are counted and take no further room. The
//! slots are heard when nothing else is taken in any more; they are kept in a small file that was
//! allocated beforehand, and told to the collector as [`LocalAdvisory`]s. Of those, one block at a time
//! is under way: what happens meanwhile is in the next one, which is made when it is acknowledged. So an
//! outage of any length costs one block, and the collector shows each alarm once, with its latest count.
//!
//! A frame is told from its repetition by its sequence, as far back as [`WINDOW`] frames (after the
//! anti-replay window of RFC 4303, section 3.4.3); an older one is not counted again. An alarm that is
//! told and then quiet for [`EPISODE_NS`] begins anew when it comes back.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | slots | [`SLOTS_MAX`] | one that is told makes room; else the least recently raised of the lowest severity is folded into its node's overflow slot, counted |
//! | overflow slots | [`OVERFLOWS_MAX`] | one that is told makes room; else the least recently raised is forgotten, counted and logged |

use crate::block::BlockKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use trunnion_common::block::LocalAdvisory;
use trunnion_common::frame::{Event, EventKind, Header, Payload, Severity};
use trunnion_common::id::{BootId, ChannelId, NodeId};
use trunnion_common::time::EventTime;

/// Most slots beside the overflow slots: two alarms for each of as many boots as the intake remembers.
pub const SLOTS_MAX: usize = 2 * crate::intake::BOOTS_MAX;

/// Most overflow slots: one for each node that the intake can remember at once.
pub const OVERFLOWS_MAX: usize = crate::intake::BOOTS_MAX;

/// Most bytes of an image of all slots: each takes `SLOT_BYTES_MAX` at most.
pub const IMAGE_MAX: usize = 4 + (SLOTS_MAX + OVERFLOWS_MAX) * SLOT_BYTES_MAX;

/// Node, boot, sequence, bitmap, two times and the order take ten bytes each as postcard writes them,
/// two counts five; then channel, kind, severity and value.
const SLOT_BYTES_MAX: usize = 7 * 10 + 2 * 5 + 4 + 2 + 1 + 4;

/// Frames behind the latest one that are told from their repetition.
pub const WINDOW: u64 = u64::BITS as u64;

/// An alarm that is told and was quiet for this long is another one when it comes back: an hour.
pub const EPISODE_NS: i64 = 3_600_000_000_000;

/// From one block or image to the next: repeats in between are in the next one.
const PACE: Duration = Duration::from_secs(1);

/// A block made longer ago than this stands in the backlog, behind what is older.
const STALE: Duration = Duration::from_secs(60);

/// Version of the image; another one is not read.
const IMAGE_VERSION: u8 = 1;

/// Which alarm; no kind: several kinds of a node, folded.
type Name = (NodeId, Option<ChannelId>, Option<EventKind>);

/// Alarms that a block tells of, each with its beginning and how often it had happened.
type Told = Vec<(Name, EventTime, u32)>;

/// All alarms that are told of or to be told.
#[derive(Clone, Debug, Default)]
pub struct Alarms {
    slots: BTreeMap<Name, Slot>,
    /// Counts up with every event.
    clock: u64,
    /// What is on its way to the collector, and which counts that tells.
    under_way: Option<(Option<BlockKey>, Told)>,
    /// Before this there is no further block.
    block_due: Duration,
    is_changed: bool,
    is_writing: bool,
    image_due: Duration,
    tally: Tally,
}

/// What an image holds of an alarm, and memory as well.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Slot {
    boot: BootId,
    /// Of the latest frame, and by bit which frames before it were counted.
    sequence: u64,
    counted: u64,
    first: EventTime,
    last: EventTime,
    /// The order in which slots were raised last.
    raised: u64,
    severity: Severity,
    repeats: u32,
    /// How many of the repeats the collector has been told.
    told: u32,
    value: f32,
}

/// What was counted since this was last asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Events that were counted into a slot.
    pub events: u64,
    /// Slots folded into their node's overflow slot.
    pub folded: u64,
    /// Overflow slots forgotten.
    pub forgotten: u64,
}

impl Slot {
    const fn is_told(&self) -> bool {
        self.told == self.repeats
    }

    /// Counts a frame; whether it had not been counted before.
    fn count_frame(&mut self, boot: BootId, sequence: u64) -> bool {
        if boot != self.boot {
            (self.boot, self.sequence, self.counted) = (boot, sequence, 1);
            return true;
        }
        if sequence > self.sequence {
            let ahead = sequence - self.sequence;
            self.counted = if ahead < WINDOW { self.counted << ahead } else { 0 } | 1;
            self.sequence = sequence;
            return true;
        }
        let behind = self.sequence - sequence;
        let is_new = behind < WINDOW && self.counted & (1 << behind) == 0;
        if is_new {
            self.counted |= 1 << behind;
        }
        is_new
    }

    /// Adds what another slot has not told yet.
    fn absorb(&mut self, other: &Self) {
        self.repeats = self
            .repeats
            .saturating_add(other.repeats.saturating_sub(other.told));
        self.first = self.first.min(other.first);
        if self.last <= other.last {
            (self.last, self.value, self.boot) = (other.last, other.value, other.boot);
        }
        self.raised = self.raised.max(other.raised);
        self.severity = self.severity.max(other.severity);
    }

    fn advisory(&self, (node, channel, kind): Name) -> LocalAdvisory {
        LocalAdvisory {
            node,
            boot: self.boot,
            channel,
            raised: self.first,
            evidence: Default::default(),
            kind,
            severity: self.severity,
            last: self.last,
            repeats: self.repeats,
            value: self.value,
        }
    }
}

impl Alarms {
    /// Takes note of a node's frame if it reports an alarm. `arrived` is the gateway's clock then.
    pub fn handle_frame(&mut self, header: &Header, payload: Option<&Payload<'_>>, arrived: EventTime) {
        if let Some(Payload::Event(event)) = payload
            && event.severity == Severity::Alarm
        {
            self.handle_event(header, event, arrived);
        }
    }

    fn handle_event(&mut self, header: &Header, event: &Event, arrived: EventTime) {
        let name = (header.node, event.channel, Some(event.kind));
        if !self.slots.contains_key(&name) {
            self.make_room();
        }
        self.clock += 1;
        let slot = self.slots.entry(name).or_insert_with(|| Slot {
            boot: header.boot,
            sequence: header.sequence,
            counted: 0,
            first: arrived,
            last: arrived,
            raised: 0,
            severity: event.severity,
            repeats: 0,
            told: 0,
            value: event.value,
        });
        if slot.counted == 0 {
            slot.counted = 1;
        } else if !slot.count_frame(header.boot, header.sequence) {
            return;
        }
        if slot.is_told() && arrived.nanos_since(slot.last) >= EPISODE_NS {
            (slot.first, slot.repeats, slot.told) = (arrived, 0, 0);
        }
        slot.repeats = slot.repeats.saturating_add(event.repeats.max(1));
        slot.severity = slot.severity.max(event.severity);
        (slot.last, slot.value, slot.raised) = (arrived, event.value, self.clock);
        self.is_changed = true;
        self.tally.events += 1;
    }

    /// Room for one more slot.
    fn make_room(&mut self) {
        let is_overflow = |name: &Name| name.2.is_none();
        if self.slots.keys().filter(|name| !is_overflow(name)).count() < SLOTS_MAX {
            return;
        }
        let Some(victim) = self.least(|name| !is_overflow(name)) else {
            return;
        };
        let Some(slot) = self.slots.remove(&victim) else {
            return;
        };
        if slot.is_told() {
            return;
        }
        self.tally.folded += 1;
        let name = (victim.0, None, None);
        if let Some(overflow) = self.slots.get_mut(&name) {
            overflow.absorb(&slot);
            return;
        }
        if self.slots.keys().filter(|name| is_overflow(name)).count() >= OVERFLOWS_MAX
            && let Some(forgotten) = self.least(is_overflow)
            && let Some(overflow) = self.slots.remove(&forgotten)
            && !overflow.is_told()
        {
            self.tally.forgotten += 1;
            tracing::error!(node = %forgotten.0, repeats = overflow.repeats, "too many alarms: those of a node are forgotten");
        }
        let repeats = slot.repeats - slot.told;
        self.slots.insert(
            name,
            Slot {
                repeats,
                told: 0,
                ..slot
            },
        );
    }

    /// The slot to give way: one that is told, else of the lowest severity, the least recently raised.
    fn least(&self, among: impl Fn(&Name) -> bool) -> Option<Name> {
        let slots = self.slots.iter().filter(|(name, _)| among(name));
        let order = |slot: &Slot| (!slot.is_told(), slot.severity, slot.raised);
        slots.min_by_key(|(_, slot)| order(slot)).map(|(name, _)| *name)
    }

    /// The body of the next block of [`LocalAdvisory`]s, if there is anything to tell and nothing under
    /// way; [`Self::handle_made`] must be told which block it became.
    pub fn poll_block(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.under_way.is_some() || now < self.block_due {
            return None;
        }
        let untold = self.slots.iter().filter(|(_, slot)| !slot.is_told());
        let mut body = Vec::new();
        let mut counts = Vec::new();
        for (name, slot) in untold {
            counts.push((*name, slot.first, slot.repeats));
            body = postcard::to_extend(&slot.advisory(*name), body)
                .expect("a vector takes any length, and the contract's types encode");
        }
        if counts.is_empty() {
            return None;
        }
        self.under_way = Some((None, counts));
        self.block_due = now + PACE;
        Some(body)
    }

    /// The body polled last is this block.
    pub fn handle_made(&mut self, key: BlockKey) {
        if let Some((block, _)) = &mut self.under_way {
            *block = Some(key);
        }
    }

    /// The collector has these blocks.
    pub fn handle_acknowledged(&mut self, keys: &[BlockKey]) {
        let is_it = |(block, _): &mut (Option<BlockKey>, _)| block.is_some_and(|block| keys.contains(&block));
        let Some((_, counts)) = self.under_way.take_if(is_it) else {
            return;
        };
        for (name, first, repeats) in counts {
            if let Some(slot) = self.slots.get_mut(&name).filter(|slot| slot.first == first) {
                slot.told = slot.told.max(repeats).min(slot.repeats);
                self.is_changed = true;
            }
        }
    }

    /// A connection to the collector has come up: what is under way for long is told anew, since its
    /// block stands in the backlog.
    pub fn handle_connected(&mut self, now: Duration) {
        if self.block_due + STALE <= now {
            self.under_way = None;
        }
    }

    /// This block will never reach the collector.
    pub fn handle_lost(&mut self, key: BlockKey) {
        self.under_way.take_if(|(block, _)| *block == Some(key));
    }

    /// The image of all slots, if it has changed and none is being written; [`Self::handle_kept`] must
    /// be told what became of it.
    pub fn poll_image(&mut self, now: Duration) -> Option<Vec<u8>> {
        if !self.is_changed || self.is_writing || now < self.image_due {
            return None;
        }
        self.is_changed = false;
        self.is_writing = true;
        self.image_due = now + PACE;
        let slots: Vec<(&Name, &Slot)> = self.slots.iter().collect();
        let image = postcard::to_extend(&(IMAGE_VERSION, slots), Vec::new())
            .expect("a vector takes any length, and slots encode");
        debug_assert!(image.len() <= IMAGE_MAX, "slots are bounded in number and size");
        Some(image)
    }

    /// An image is on disk, or is not and must be tried again.
    pub fn handle_kept(&mut self, is_kept: bool) {
        self.is_writing = false;
        self.is_changed |= !is_kept;
    }

    /// Goes on from the image that a former agent kept. Whether it could be read.
    pub fn restore(&mut self, image: &[u8]) -> bool {
        let Ok((IMAGE_VERSION, slots)) = postcard::from_bytes::<(u8, Vec<(Name, Slot)>)>(image) else {
            return false;
        };
        for (name, slot) in slots.into_iter().take(SLOTS_MAX + OVERFLOWS_MAX) {
            self.clock = self.clock.max(slot.raised);
            match self.slots.get_mut(&name) {
                // Heard again before the image was read.
                Some(known) => known.absorb(&slot),
                None => {
                    self.slots.insert(name, slot);
                }
            }
        }
        true
    }

    /// When something is to be polled although nothing has happened; `may_tell` says whether a block
    /// would be taken then.
    pub fn next_timeout(&self, may_tell: bool) -> Option<Duration> {
        let is_untold = || self.slots.values().any(|slot| !slot.is_told());
        let block = (may_tell && self.under_way.is_none() && is_untold()).then_some(self.block_due);
        let image = (self.is_changed && !self.is_writing).then_some(self.image_due);
        [block, image].into_iter().flatten().min()
    }

    /// How many slots are in use, and how many hold something that the collector does not know.
    pub fn slots(&self) -> (usize, usize) {
        let untold = self.slots.values().filter(|slot| !slot.is_told()).count();
        (self.slots.len(), untold)
    }

    /// What was counted since this was last asked.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::block::Records;
    use trunnion_common::frame::Class;
    use trunnion_common::id::{Epoch, LineAddress};
    use trunnion_common::time::NodeTicks;

    const SECOND: i64 = 1_000_000_000;

    fn header(node: u64, boot: u64, sequence: u64) -> Header {
        Header {
            version: trunnion_common::version::FRAME,
            address: LineAddress(1),
            node: NodeId::new(node).unwrap(),
            boot: BootId::from_u64(boot),
            class: Class::Essential,
            sequence,
            ticks: NodeTicks(0),
        }
    }

    fn event(severity: Severity, channel: u16, value: f32) -> Payload<'static> {
        Payload::Event(Event {
            severity,
            kind: EventKind::LimitExceeded,
            channel: ChannelId::new(channel),
            repeats: 1,
            value,
        })
    }

    fn raise(alarms: &mut Alarms, node: u64, channel: u16, sequence: u64, second: i64) {
        let payload = event(Severity::Alarm, channel, sequence as f32);
        alarms.handle_frame(
            &header(node, 1, sequence),
            Some(&payload),
            EventTime(second * SECOND),
        );
    }

    /// What is told next, and acknowledged if wanted.
    fn told(alarms: &mut Alarms, now: u64, acknowledged: bool) -> Vec<LocalAdvisory> {
        let Some(body) = alarms.poll_block(Duration::from_secs(now)) else {
            return Vec::new();
        };
        let key = BlockKey {
            epoch: Epoch(1),
            sequence: now,
        };
        alarms.handle_made(key);
        if acknowledged {
            alarms.handle_acknowledged(&[key]);
        }
        Records::new(&body).map(Result::unwrap).collect()
    }

    #[test]
    fn repeats_of_an_alarm_take_no_further_room_and_the_latest_count_is_told() {
        let mut alarms = Alarms::default();
        raise(&mut alarms, 1, 0, 5, 10);
        let first = told(&mut alarms, 10, false);
        assert_eq!((first.len(), first[0].repeats), (1, 1));
        for sequence in 6..1_006 {
            raise(&mut alarms, 1, 0, sequence, 11);
            assert!(told(&mut alarms, 12, false).is_empty(), "one block is under way");
        }
        alarms.handle_acknowledged(&[BlockKey {
            epoch: Epoch(1),
            sequence: 10,
        }]);
        let second = told(&mut alarms, 20, true);
        let latest = &second[0];
        assert_eq!((second.len(), latest.repeats, latest.value), (1, 1_001, 1_005.0));
        assert_eq!(
            (latest.raised, latest.last),
            (EventTime(10 * SECOND), EventTime(11 * SECOND))
        );
        assert_eq!(
            (told(&mut alarms, 30, true), alarms.slots()),
            (Vec::new(), (1, 0))
        );
    }

    #[test]
    fn what_is_no_alarm_takes_no_slot() {
        let mut alarms = Alarms::default();
        for severity in [Severity::Info, Severity::Warning] {
            alarms.handle_frame(&header(1, 1, 0), Some(&event(severity, 0, 1.0)), EventTime(0));
        }
        alarms.handle_frame(&header(1, 1, 1), None, EventTime(0));
        assert_eq!(alarms.slots(), (0, 0));
        assert_eq!(alarms.next_timeout(true), None);
    }

    #[test]
    fn a_frame_that_is_heard_again_is_counted_once_in_whatever_order() {
        let mut alarms = Alarms::default();
        for sequence in [7, 9, 7, 8, 9, 8, 3, 3, 100, 100, 9] {
            raise(&mut alarms, 1, 0, sequence, 1);
        }
        assert_eq!(
            told(&mut alarms, 1, true)[0].repeats,
            5,
            "3, 7, 8, 9 and 100, not 9 once more"
        );
        // Another boot counts its frames anew.
        alarms.handle_frame(
            &header(1, 2, 7),
            Some(&event(Severity::Alarm, 0, 0.0)),
            EventTime(SECOND),
        );
        let again = told(&mut alarms, 3, true);
        assert_eq!((again[0].repeats, again[0].boot), (6, BootId::from_u64(2)));
    }

    #[test]
    fn an_alarm_that_comes_back_after_an_hour_is_another_one() {
        let mut alarms = Alarms::default();
        raise(&mut alarms, 1, 0, 0, 0);
        assert_eq!(told(&mut alarms, 1, true).len(), 1);
        raise(&mut alarms, 1, 0, 1, 3_599);
        assert_eq!(told(&mut alarms, 3, true)[0].repeats, 2);
        raise(&mut alarms, 1, 0, 2, 3_599 + 3_600);
        let another = told(&mut alarms, 5, true);
        assert_eq!(
            (another[0].repeats, another[0].raised),
            (1, EventTime(7_199 * SECOND))
        );
    }

    #[test]
    fn after_a_long_outage_all_is_told_at_once_and_not_behind_the_backlog() {
        let mut alarms = Alarms::default();
        raise(&mut alarms, 1, 0, 0, 0);
        assert_eq!(told(&mut alarms, 1, false).len(), 1);
        raise(&mut alarms, 1, 0, 1, 30);
        raise(&mut alarms, 2, 0, 0, 30);
        alarms.handle_connected(Duration::from_secs(30));
        assert!(
            told(&mut alarms, 30, false).is_empty(),
            "the one under way is still fresh"
        );
        alarms.handle_connected(Duration::from_secs(90));
        let all = told(&mut alarms, 90, true);
        assert_eq!(
            all.iter().map(|advisory| advisory.repeats).collect::<Vec<_>>(),
            [2, 1]
        );
        assert_eq!(alarms.slots(), (2, 0));
    }

    #[test]
    fn a_block_that_is_lost_is_told_again() {
        let mut alarms = Alarms::default();
        raise(&mut alarms, 1, 0, 0, 0);
        let lost = told(&mut alarms, 1, false);
        alarms.handle_lost(BlockKey {
            epoch: Epoch(1),
            sequence: 1,
        });
        assert_eq!(told(&mut alarms, 2, true), lost);
    }

    #[test]
    fn at_the_bound_one_that_is_told_goes_first_and_then_the_least_recent_is_folded() {
        let mut alarms = Alarms::default();
        let channels = 16;
        let name = |n: usize| (n as u64 / channels + 1, (n as u64 % channels) as u16);
        for n in 0..SLOTS_MAX {
            let (node, channel) = name(n);
            raise(&mut alarms, node, channel, n as u64, n as i64);
        }
        assert_eq!(told(&mut alarms, 1, true).len(), SLOTS_MAX);
        // All are told: the least recent gives way, and nothing has to be folded.
        raise(&mut alarms, 99, 0, 0, 1_000);
        assert_eq!(alarms.take_tally().folded, 0);
        assert_eq!(alarms.slots(), (SLOTS_MAX, 1));
        for n in 1..SLOTS_MAX {
            let (node, channel) = name(n);
            raise(&mut alarms, node, channel, 10_000 + n as u64, 2_000);
        }
        raise(&mut alarms, 99, 1, 1, 3_000);
        raise(&mut alarms, 99, 2, 2, 3_000);
        assert_eq!(alarms.take_tally().folded, 2);
        assert_eq!(alarms.slots(), (SLOTS_MAX + 2, SLOTS_MAX + 2));
        let all = told(&mut alarms, 9, true);
        let overflow: Vec<_> = all.iter().filter(|advisory| advisory.kind.is_none()).collect();
        // The least recent were the one of node 99, and then the first of node 1.
        let nodes: Vec<u64> = overflow.iter().map(|advisory| advisory.node.get()).collect();
        assert_eq!(nodes, [1, 99]);
        assert!(
            overflow
                .iter()
                .all(|advisory| advisory.repeats == 1 && advisory.channel.is_none())
        );
    }

    #[test]
    fn without_end_of_nodes_and_without_a_collector_memory_and_image_stay_bounded() {
        let mut alarms = Alarms::default();
        for node in 1..2_000 {
            raise(&mut alarms, u64::MAX - node, 15, u64::MAX / 2, i64::MAX / SECOND);
            alarms.clock = u64::MAX / 2;
        }
        assert_eq!(alarms.slots.len(), SLOTS_MAX + OVERFLOWS_MAX);
        let tally = alarms.take_tally();
        assert_eq!(tally.folded as usize, 1_999 - SLOTS_MAX);
        assert_eq!(tally.forgotten as usize, 1_999 - SLOTS_MAX - OVERFLOWS_MAX);
        for slot in alarms.slots.values_mut() {
            (slot.counted, slot.raised, slot.boot) = (u64::MAX, u64::MAX, BootId::from_u64(u64::MAX));
            (slot.repeats, slot.told, slot.sequence) = (u32::MAX, u32::MAX, u64::MAX);
        }
        assert!(alarms.poll_image(Duration::MAX / 2).unwrap().len() <= IMAGE_MAX);
    }

    #[test]
    fn an_image_brings_everything_back_and_is_written_when_something_has_changed() {
        let mut alarms = Alarms::default();
        assert_eq!(alarms.poll_image(Duration::from_secs(9)), None);
        raise(&mut alarms, 1, 0, 4, 10);
        raise(&mut alarms, 2, 0, 4, 11);
        let image = alarms.poll_image(Duration::from_secs(9)).unwrap();
        assert_eq!(alarms.poll_image(Duration::from_secs(99)), None, "one at a time");
        alarms.handle_kept(false);
        assert_eq!(
            alarms.next_timeout(true),
            Some(Duration::ZERO),
            "the block is due"
        );
        assert_eq!(alarms.next_timeout(false), Some(Duration::from_secs(10)));
        assert_eq!(
            alarms.poll_image(Duration::from_secs(10)).as_ref(),
            Some(&image),
            "tried again"
        );
        alarms.handle_kept(true);

        let mut restored = Alarms::default();
        assert!(restored.restore(&image));
        raise(&mut restored, 1, 0, 4, 12);
        assert_eq!(told(&mut restored, 1, true), told(&mut alarms, 1, true));
        assert_eq!(restored.slots(), (2, 0));
        assert!(!Alarms::default().restore(b"\x02whatever"), "of another version");
        assert!(!Alarms::default().restore(&image[..image.len() - 3]));
    }

    #[test]
    fn an_image_read_late_is_added_to_what_was_heard_meanwhile() {
        let mut former = Alarms::default();
        raise(&mut former, 1, 0, 4, 10);
        let image = former.poll_image(Duration::from_secs(1)).unwrap();
        let mut alarms = Alarms::default();
        raise(&mut alarms, 1, 0, 5, 20);
        assert!(alarms.restore(&image));
        let both = told(&mut alarms, 1, true);
        assert_eq!(
            (both[0].repeats, both[0].raised, both[0].last),
            (2, EventTime(10 * SECOND), EventTime(20 * SECOND))
        );
    }
}
