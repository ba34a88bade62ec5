//! What becomes of a message: decided here, without clock, disk or network.

use super::Message;
use super::dedup::{BlockSets, BlockVerdict};
use super::gateways::Word;
use super::hello::{NewestHellos, superseded};
use super::names::JournalNames;
use crate::journal::Entry;
use std::collections::BTreeSet;
use trunnion_common::ack::{HeldEpoch, Hello};
use trunnion_common::block::{Block, Body, Kind as BlockKind};
use trunnion_common::codec::crc32c;
use trunnion_common::id::{Epoch, GatewayId, JournalId};
use trunnion_common::message;
use trunnion_common::reject::{Reject, RejectReason};
use trunnion_common::sample::LossCause;
use trunnion_common::sequence::{Insertion, RANGES_MAX, Range};
use trunnion_common::topic::{Kind, Topic};

/// Judges messages in the order of their arrival.
///
/// It counts a block as received when it asks for it to be journaled, thus before the commit, so that
/// a second copy in the same group is recognised. Acknowledgements are not its business: they are
/// made from what the journal has committed.
#[derive(Debug)]
pub(super) struct Admission {
    journal: JournalId,
    blocks: BlockSets,
    names: JournalNames,
    hellos: NewestHellos,
}

/// What is to be done about a message.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Decision {
    /// A new block: journal these entries, then acknowledge the epochs it counts in, and tell the gateway
    /// if nobody here can read it.
    Store {
        gateway: GatewayId,
        epochs: BTreeSet<Epoch>,
        entries: Vec<Entry>,
        unread: Option<Reject>,
    },
    /// A block received before: acknowledge the epochs it counts in once more.
    Duplicate {
        gateway: GatewayId,
        epochs: BTreeSet<Epoch>,
    },
    /// A Hello: journal these entries, then acknowledge every epoch it lists.
    Greet {
        gateway: GatewayId,
        epochs: Vec<Epoch>,
        entries: Vec<Entry>,
    },
    /// A word of the gateway about itself.
    Note { gateway: GatewayId, word: Word },
    /// A block that can be neither journaled nor acknowledged, or a message that nobody here can read: tell
    /// the gateway.
    Reject { gateway: GatewayId, reject: Reject },
    /// Nothing that its sender could be told about.
    Refuse { label: &'static str },
}

impl Admission {
    /// For a journal that has received these, and goes by a name of this start from now on.
    pub(super) const fn new(journal: JournalId, blocks: BlockSets, names: JournalNames) -> Self {
        Self {
            journal,
            blocks,
            names,
            hellos: NewestHellos::new(),
        }
    }

    pub(super) fn handle(&mut self, message: &Message) -> Decision {
        let Some(Topic { gateway, kind }) = Topic::parse(&message.topic) else {
            return refuse(RejectReason::Topic);
        };
        match kind {
            Kind::Data => self.handle_block(gateway, message),
            Kind::Hello => match message::decode(&message.payload) {
                Ok(hello) => self.handle_hello(gateway, &hello),
                Err(reason) => reject(gateway, message, reason),
            },
            Kind::Status => match message::decode(&message.payload) {
                Ok(status) => Decision::Note {
                    gateway,
                    word: Word::Status(status),
                },
                Err(reason) => reject(gateway, message, reason),
            },
            Kind::Result => match message::decode(&message.payload) {
                Ok(result) => Decision::Note {
                    gateway,
                    word: Word::Result(result),
                },
                Err(reason) => reject(gateway, message, reason),
            },
            Kind::Ack | Kind::Reject | Kind::Command => refuse(RejectReason::Topic),
        }
    }

    fn handle_block(&mut self, gateway: GatewayId, message: &Message) -> Decision {
        let block = match Block::parse(&message.payload) {
            Ok(block) => block,
            Err(reason) => return reject(gateway, message, reason),
        };
        let epochs = epochs(&block);
        match self.blocks.admit(&gateway, &block) {
            BlockVerdict::Duplicate => Decision::Duplicate { gateway, epochs },
            // Only an agent that says no Hello gets here. It keeps the block: the next Hello closes
            // what it no longer holds.
            BlockVerdict::TooManyEpochs => Decision::Refuse {
                label: "too_many_epochs",
            },
            BlockVerdict::New { given_up } => {
                let mut entries = vec![Entry::Block {
                    gateway: gateway.clone(),
                    bytes: message.payload.clone(),
                }];
                entries.extend(given_up.into_iter().map(|(epoch, blocks)| Entry::Lost {
                    gateway: gateway.clone(),
                    epoch,
                    blocks,
                    cause: LossCause::SetOverflow,
                }));
                let unread = block.kind().err().map(|reason| Reject {
                    crc: crc32c(&message.payload),
                    reason,
                });
                Decision::Store {
                    gateway,
                    epochs,
                    entries,
                    unread,
                }
            }
        }
    }

    /// Books what can never come any more, so that nothing waits for it, and closes the epochs that
    /// the agent has done with.
    fn handle_hello(&mut self, gateway: GatewayId, hello: &Hello) -> Decision {
        if let Err(label) = self.hellos.judge(&gateway, hello, &self.blocks) {
            return Decision::Refuse { label };
        }
        let mut entries: Vec<Entry> = superseded(&gateway, hello, &self.blocks).into_iter().collect();
        if let Some(Entry::Superseded { starts, .. }) = entries.first() {
            self.blocks.supersede(&gateway, starts);
        }
        for (to, cause) in self.names.strangers(self.journal, &gateway, &hello.journals) {
            self.names.tell(&gateway, to);
            let gateway = gateway.clone();
            entries.push(Entry::DeliveredElsewhere { gateway, to, cause });
        }
        let done: Vec<_> = self
            .blocks
            .open_epochs(&gateway)
            .filter(|(open, _)| hello.epochs.iter().all(|held| held.epoch != *open))
            .map(|(epoch, set)| (epoch, set.holes().collect::<Vec<_>>()))
            .collect();
        for (epoch, holes) in done {
            entries.extend(holes.into_iter().map(|blocks| Entry::Lost {
                gateway: gateway.clone(),
                epoch,
                blocks,
                cause: LossCause::NotHeld,
            }));
            self.blocks.close(&gateway, epoch);
            entries.push(Entry::EpochClosed {
                gateway: gateway.clone(),
                epoch,
            });
        }
        for held in &hello.epochs {
            let cause = match held.freed_by {
                Some(journal) if !journal.is(self.journal) => LossCause::Elsewhere,
                _ => LossCause::NotHeld,
            };
            for blocks in self.missing(&gateway, held) {
                // Filled on a copy first: closing another hole to make room would give up blocks
                // that the agent still holds. What does not fit is booked at a later Hello.
                let mut set = self.blocks.received(&gateway, held.epoch);
                if matches!(set.insert_range(blocks), Insertion::Overflow { .. })
                    || self.blocks.fill(&gateway, held.epoch, blocks).is_none()
                {
                    break;
                }
                entries.push(Entry::Lost {
                    gateway: gateway.clone(),
                    epoch: held.epoch,
                    blocks,
                    cause,
                });
            }
        }
        let is_put_back = hello
            .epochs
            .iter()
            .any(|held| held.next < self.blocks.received(&gateway, held.epoch).end());
        if is_put_back || entries.iter().any(is_loss) {
            let next = hello.epochs.iter().map(|held| (held.epoch, held.next));
            entries.insert(
                0,
                Entry::Greeted {
                    gateway: gateway.clone(),
                    start: hello.start,
                    next: next.collect(),
                },
            );
        }
        Decision::Greet {
            epochs: hello.epochs.iter().map(|held| held.epoch).collect(),
            gateway,
            entries,
        }
    }

    /// The blocks of an epoch that neither the agent nor the journal has, lowest first.
    ///
    /// A full list of held ranges may stop short of what the agent holds, so nothing above its last
    /// range is missing for all one knows.
    fn missing(&self, gateway: &GatewayId, held: &HeldEpoch) -> Vec<Range> {
        let limit = match held.held.last() {
            Some(last) if held.held.len() == RANGES_MAX => last.end().min(held.next),
            _ => held.next,
        };
        let received = self.blocks.received(gateway, held.epoch);
        let mut present: Vec<Range> = Range::new(0, received.upto()).into_iter().collect();
        present.extend(received.ranges());
        present.extend(&held.held);
        present.sort_unstable_by_key(|range| range.first());
        let mut missing = Vec::new();
        let mut floor = 0;
        for range in present {
            missing.extend(Range::new(floor, range.first().min(limit)));
            floor = floor.max(range.end());
        }
        missing.extend(Range::new(floor, limit));
        missing
    }
}

const fn is_loss(entry: &Entry) -> bool {
    matches!(entry, Entry::Lost { .. } | Entry::DeliveredElsewhere { .. })
}

/// The epochs that a block counts in: its own and, with a tombstone, that of the blocks it names, which
/// their agent holds on to until it is told.
fn epochs(block: &Block<'_>) -> BTreeSet<Epoch> {
    let mut epochs = BTreeSet::from([block.envelope.epoch]);
    if block.envelope.kind == BlockKind::Tombstone as u8
        && let Ok(Body::Tombstone(tombstone)) = block.decode()
    {
        epochs.insert(tombstone.epoch);
    }
    epochs
}

fn reject(gateway: GatewayId, message: &Message, reason: RejectReason) -> Decision {
    let crc = crc32c(&message.payload);
    Decision::Reject {
        gateway,
        reject: Reject { crc, reason },
    }
}

fn refuse(reason: RejectReason) -> Decision {
    Decision::Refuse {
        label: reason.label(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::ack::{Extent, HeldEpoch, JournalMark};
    use trunnion_common::block::{Envelope, Lane, Tombstone};
    use trunnion_common::id::{MasterId, Name};
    use trunnion_common::sequence::Ranges;

    const JOURNAL: JournalId = JournalId(0xa_0000);
    const EPOCH: Epoch = Epoch(1);

    fn gateway() -> GatewayId {
        GatewayId {
            site: Name::new("bremen").unwrap(),
            gateway: Name::new("gw-1").unwrap(),
        }
    }

    fn admission() -> Admission {
        let mut names = JournalNames::default();
        names.start(JOURNAL.start(), Extent::default());
        Admission::new(JOURNAL, BlockSets::default(), names)
    }

    fn message(kind: Kind, payload: impl Into<bytes::Bytes>) -> Message {
        let topic = Topic {
            gateway: gateway(),
            kind,
        };
        Message {
            topic: topic.to_string(),
            payload: payload.into(),
        }
    }

    fn block(epoch: Epoch, sequence: u64) -> Message {
        let envelope = Envelope::new(epoch, sequence, Lane::Live, BlockKind::Frames);
        message(Kind::Data, envelope.encode(&[]).to_vec())
    }

    fn range(first: u64, end: u64) -> Range {
        Range::new(first, end).unwrap()
    }

    fn held(epoch: Epoch, next: u64, ranges: &[Range], freed_by: Option<JournalId>) -> HeldEpoch {
        HeldEpoch {
            epoch,
            next,
            held: Ranges::from_slice(ranges).unwrap(),
            freed_by,
        }
    }

    fn hello(epochs: &[HeldEpoch]) -> Message {
        hello_of(MasterId(1), 0, &[], epochs)
    }

    fn hello_of(start: MasterId, number: u32, former: &[MasterId], epochs: &[HeldEpoch]) -> Message {
        let hello = Hello {
            epochs: heapless::Vec::from_slice(epochs).unwrap(),
            start,
            number,
            former: heapless::Vec::from_slice(former).unwrap(),
            journals: heapless::Vec::new(),
        };
        let mut bytes = vec![0; message::MESSAGE_MAX];
        let bytes = message::encode(&hello, &mut bytes).unwrap();
        message(Kind::Hello, bytes.to_vec())
    }

    #[test]
    fn a_hello_of_a_former_start_closes_nothing_whatever_it_lists() {
        let mut admission = admission();
        let [old, new] = [MasterId(7), MasterId(8)];
        let open = |epoch| held(Epoch(epoch), 0, &[], None);
        let greeting = hello_of(new, 0, &[old], &[open(2)]);
        let Decision::Greet { entries, .. } = admission.handle(&greeting) else {
            panic!("it is news");
        };
        let superseded = Entry::Superseded {
            gateway: gateway(),
            starts: vec![old],
        };
        assert_eq!(entries, [superseded]);
        assert!(matches!(
            admission.handle(&block(Epoch(2), 1)),
            Decision::Store { .. }
        ));

        let late = hello_of(old, 9, &[], &[open(1)]);
        let label = "hello_superseded";
        assert_eq!(admission.handle(&late), Decision::Refuse { label });
        // Its sets come back from the journal after a restart.
        let mut restarted = Admission::new(JOURNAL, admission.blocks.clone(), admission.names.clone());
        assert_eq!(restarted.handle(&late), Decision::Refuse { label });
        let again = hello_of(new, 1, &[old], &[open(2)]);
        assert_eq!(
            booked(restarted.handle(&again)),
            [],
            "what is known is not journaled again"
        );
    }

    #[test]
    fn a_hello_overtaken_by_a_later_one_of_its_start_is_ignored_and_a_copy_is_answered() {
        let mut admission = admission();
        let numbered = |number| hello_of(MasterId(7), number, &[], &[]);
        for (number, is_news) in [(1, true), (0, false), (1, true), (2, true)] {
            let decision = admission.handle(&numbered(number));
            assert_eq!(matches!(decision, Decision::Greet { .. }), is_news, "{number}");
        }
    }

    fn lost(epoch: Epoch, blocks: Range, cause: LossCause) -> Entry {
        Entry::Lost {
            gateway: gateway(),
            epoch,
            blocks,
            cause,
        }
    }

    fn greet(admission: &mut Admission, epochs: &[HeldEpoch]) -> Vec<Entry> {
        booked(admission.handle(&hello(epochs)))
    }

    /// What a Hello leads to, but for where its epochs stand.
    fn booked(decision: Decision) -> Vec<Entry> {
        let Decision::Greet { mut entries, .. } = decision else {
            panic!("{decision:?}");
        };
        entries.retain(|entry| !matches!(entry, Entry::Greeted { .. }));
        entries
    }

    #[test]
    fn a_hello_says_where_its_epochs_stand_where_it_finds_a_loss_or_ends_before_what_has_come() {
        let mut admission = admission();
        let mut greeted =
            |next, ranges: &[Range]| match admission.handle(&hello(&[held(EPOCH, next, ranges, None)])) {
                Decision::Greet { entries, .. } => entries.first().cloned(),
                other => panic!("{other:?}"),
            };
        let stands = |next| {
            Some(Entry::Greeted {
                gateway: gateway(),
                start: MasterId(1),
                next: vec![(EPOCH, next)],
            })
        };
        assert_eq!(greeted(3, &[range(0, 3)]), None);
        assert_eq!(greeted(3, &[range(1, 3)]), stands(3), "one is lost");
        assert_eq!(greeted(4, &[range(1, 4)]), None);
        assert_eq!(greeted(0, &[]), stands(0), "an image from before the first one");
    }

    #[test]
    fn a_new_block_is_stored_once() {
        let mut admission = admission();
        let new = block(EPOCH, 0);
        assert_eq!(
            admission.handle(&new),
            Decision::Store {
                gateway: gateway(),
                epochs: BTreeSet::from([EPOCH]),
                entries: vec![Entry::Block {
                    gateway: gateway(),
                    bytes: new.payload.clone()
                }],
                unread: None,
            }
        );
        assert_eq!(
            admission.handle(&new),
            Decision::Duplicate {
                gateway: gateway(),
                epochs: BTreeSet::from([EPOCH])
            }
        );
    }

    #[test]
    fn a_tombstone_is_acknowledged_in_both_epochs_each_time_it_comes() {
        let mut admission = admission();
        let tombstone = Tombstone {
            epoch: Epoch(2),
            blocks: range(0, 1),
            cause: LossCause::SpoolUnreadable,
            frames: heapless::Vec::new(),
            samples: heapless::Vec::new(),
        };
        let mut room = [0; 256];
        let body = postcard::to_slice(&tombstone, &mut room).unwrap();
        let envelope = Envelope::new(EPOCH, 0, Lane::Live, BlockKind::Tombstone);
        let message = message(Kind::Data, [&envelope.encode(body)[..], body].concat());
        let both = BTreeSet::from([EPOCH, Epoch(2)]);
        assert!(matches!(admission.handle(&message), Decision::Store { epochs, .. } if epochs == both));
        assert!(matches!(admission.handle(&message), Decision::Duplicate { epochs, .. } if epochs == both));
    }

    #[test]
    fn an_invalid_envelope_is_rejected_by_its_checksum() {
        let payload = b"not a block, though long enough to be one";
        assert_eq!(
            admission().handle(&message(Kind::Data, payload.to_vec())),
            Decision::Reject {
                gateway: gateway(),
                reject: Reject {
                    crc: crc32c(payload),
                    reason: RejectReason::BadMagic
                },
            }
        );
    }

    #[test]
    fn what_is_no_message_of_the_contract_is_refused_by_reason() {
        let mut stranger = block(EPOCH, 0);
        stranger.topic = "trunnion/up/a/b".to_owned();
        assert_eq!(admission().handle(&stranger), refuse(RejectReason::Topic));
        for kind in [Kind::Hello, Kind::Status, Kind::Result] {
            for (payload, reason) in [
                (&[][..], RejectReason::TooShort),
                (&[99], RejectReason::MessageVersion),
                (&[0], RejectReason::MessageVersion),
                (&[1, 0xff], RejectReason::MessageDecode),
            ] {
                let crc = crc32c(payload);
                let told = Decision::Reject {
                    gateway: gateway(),
                    reject: Reject { crc, reason },
                };
                assert_eq!(admission().handle(&message(kind, payload.to_vec())), told);
            }
        }
    }

    #[test]
    fn a_block_of_another_version_kind_or_codec_is_stored_once_and_its_gateway_is_told_once() {
        let mut admission = admission();
        for (sequence, (version, kind, codec, reason)) in [
            (0, 1, 0, Some(RejectReason::BodyVersion)),
            (2, 1, 0, Some(RejectReason::BodyVersion)),
            (1, 200, 0, Some(RejectReason::BodyKind)),
            (1, 1, 1, Some(RejectReason::BodyCodec)),
            (1, 1, 0, None),
        ]
        .into_iter()
        .enumerate()
        {
            let mut envelope = Envelope::new(EPOCH, sequence as u64, Lane::Live, BlockKind::Frames);
            (envelope.body_version, envelope.kind, envelope.codec) = (version, kind, codec);
            let block = message(Kind::Data, envelope.encode(&[]).to_vec());
            let Decision::Store { entries, unread, .. } = admission.handle(&block) else {
                panic!("its envelope is valid");
            };
            assert_eq!(entries.len(), 1);
            let crc = crc32c(&block.payload);
            assert_eq!(unread, reason.map(|reason| Reject { crc, reason }));
            assert!(unread.is_none_or(|reject| reject.reason.is_kept()));
            assert!(matches!(admission.handle(&block), Decision::Duplicate { .. }));
        }
    }

    #[test]
    fn what_nobody_has_is_booked_as_lost_and_stalls_nothing() {
        let mut admission = admission();
        admission.handle(&block(EPOCH, 2));
        let known = held(EPOCH, 6, &[range(4, 5)], None);
        assert_eq!(
            greet(&mut admission, std::slice::from_ref(&known)),
            [
                lost(EPOCH, range(0, 2), LossCause::NotHeld),
                lost(EPOCH, range(3, 4), LossCause::NotHeld),
                lost(EPOCH, range(5, 6), LossCause::NotHeld),
            ]
        );
        assert_eq!(greet(&mut admission, &[known]), []);
        assert!(matches!(
            admission.handle(&block(EPOCH, 4)),
            Decision::Store { .. }
        ));
        assert_eq!(admission.blocks.received(&gateway(), EPOCH).upto(), 6);
    }

    #[test]
    fn what_another_journal_freed_is_elsewhere() {
        let other = Some(JournalId(0xb_0000));
        let entries = greet(&mut admission(), &[held(EPOCH, 3, &[range(2, 3)], other)]);
        assert_eq!(entries, [lost(EPOCH, range(0, 2), LossCause::Elsewhere)]);
        let entries = greet(&mut admission(), &[held(EPOCH, 3, &[range(2, 3)], Some(JOURNAL))]);
        assert_eq!(entries, [lost(EPOCH, range(0, 2), LossCause::NotHeld)]);
    }

    #[test]
    fn what_was_delivered_under_a_name_that_the_journal_never_went_by_is_told() {
        let mut admission = admission();
        let mut greet = |journals: &[JournalId]| {
            let mut hello = Hello::first(MasterId(1), heapless::Vec::new());
            hello.journals = journals.iter().copied().map(JournalMark::from).collect();
            let mut bytes = vec![0; message::MESSAGE_MAX];
            let bytes = message::encode(&hello, &mut bytes).unwrap();
            booked(admission.handle(&message(Kind::Hello, bytes.to_vec())))
        };
        let told = |to: JournalId, cause| {
            let (gateway, to) = (gateway(), to.into());
            [Entry::DeliveredElsewhere { gateway, to, cause }]
        };
        assert_eq!(greet(&[]), [], "it never delivered anything");
        assert_eq!(greet(&[JOURNAL]), []);
        let vanished = JOURNAL.named_by(JOURNAL.start() + 1);
        assert_eq!(greet(&[vanished, JOURNAL]), told(vanished, LossCause::NotHeld));
        assert_eq!(greet(&[JOURNAL, vanished]), []);
        let other = JournalId(0xb_0000);
        assert_eq!(
            greet(&[JOURNAL, other, vanished]),
            told(other, LossCause::Elsewhere)
        );
    }

    #[test]
    fn nothing_above_a_full_list_of_held_ranges_is_declared_lost() {
        let ranges: Vec<_> = (0..RANGES_MAX as u64).map(|n| range(2 * n, 2 * n + 1)).collect();
        let end = ranges.last().unwrap().end();
        let entries = greet(&mut admission(), &[held(EPOCH, 1_000, &ranges, None)]);
        assert_eq!(entries.len(), RANGES_MAX - 1);
        for entry in entries {
            assert!(
                matches!(entry, Entry::Lost { blocks, .. } if blocks.end() < end),
                "{entry:?}"
            );
        }
    }

    #[test]
    fn a_full_set_gives_up_no_block_that_the_agent_holds() {
        let mut admission = admission();
        for n in 0..RANGES_MAX as u64 {
            admission.handle(&block(EPOCH, 10 + 4 * n));
        }
        let held_range = range(0, 10);
        let last = 10 + 4 * RANGES_MAX as u64;
        // The agent holds the lowest hole; all others are gone, and one lies apart from every range.
        greet(
            &mut admission,
            &[held(EPOCH, last + 9, &[held_range, range(last, last + 2)], None)],
        );
        for sequence in 0..10 {
            let decision = admission.handle(&block(EPOCH, sequence));
            assert!(
                matches!(decision, Decision::Store { .. }),
                "{sequence}: {decision:?}"
            );
        }
    }

    #[test]
    fn an_epoch_no_longer_listed_is_closed_with_its_holes_named() {
        let mut admission = admission();
        admission.handle(&block(EPOCH, 0));
        admission.handle(&block(EPOCH, 2));
        assert_eq!(
            greet(&mut admission, &[held(Epoch(2), 0, &[], None)]),
            [
                lost(EPOCH, range(1, 2), LossCause::NotHeld),
                Entry::EpochClosed {
                    gateway: gateway(),
                    epoch: EPOCH
                },
            ]
        );
        assert!(matches!(
            admission.handle(&block(EPOCH, 2)),
            Decision::Duplicate { .. }
        ));
    }

    #[test]
    fn an_agent_restored_from_an_image_stalls_nothing_and_doubles_nothing() {
        let mut admission = admission();
        let [old, newer, restored] = [EPOCH, Epoch(2), Epoch(3)];
        for sequence in 0..5 {
            admission.handle(&block(old, sequence));
        }
        greet(&mut admission, &[held(newer, 0, &[], Some(JOURNAL))]);
        admission.handle(&block(newer, 0));
        admission.handle(&block(newer, 2));
        // The image was taken when it held blocks 1 to 2 of the old epoch and knew of no newer one.
        let image = held(old, 3, &[range(1, 3)], Some(JOURNAL));
        let entries = greet(&mut admission, &[image, held(restored, 1, &[range(0, 1)], None)]);
        assert_eq!(
            entries,
            [
                lost(newer, range(1, 2), LossCause::NotHeld),
                Entry::EpochClosed {
                    gateway: gateway(),
                    epoch: newer
                },
            ]
        );
        for sequence in 1..3 {
            let decision = admission.handle(&block(old, sequence));
            assert!(matches!(decision, Decision::Duplicate { .. }), "{decision:?}");
        }
        assert!(matches!(
            admission.handle(&block(restored, 0)),
            Decision::Store { .. }
        ));
    }

    #[test]
    fn an_overflowing_set_books_the_hole_it_closes() {
        let mut admission = admission();
        for n in 0..RANGES_MAX as u64 {
            admission.handle(&block(EPOCH, 10 + 2 * n));
        }
        match admission.handle(&block(EPOCH, 1_000)) {
            Decision::Store { entries, .. } => {
                assert_eq!(entries[1..], [lost(EPOCH, range(0, 10), LossCause::SetOverflow)]);
            }
            other => panic!("{other:?}"),
        }
    }
}
