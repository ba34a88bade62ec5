//! A journal that takes over, or whose collector has started anew, hears what all others were told once.

use super::*;
use trunnion_common::ack::Extent;
use trunnion_common::frame::Describe;

/// Channel tables, and clock fixes, among the essentials from a sequence on.
fn told_since(world: &World, first: u64) -> (Vec<u64>, Vec<u32>) {
    let (mut tables, mut fixes) = (Vec::new(), Vec::new());
    let since = BlockKey {
        epoch: Epoch(5),
        sequence: first,
    };
    for (_, block) in world.disk.range(since..).filter(|(key, _)| key.epoch == Epoch(5)) {
        match block::Block::parse(&block.bytes).unwrap().decode().unwrap() {
            Body::Frames(records) => {
                for record in records.map(Result::unwrap) {
                    let frame = RawFrame::parse(record.frame).unwrap();
                    if let Payload::Describe(_) = frame.payload().unwrap() {
                        tables.push(frame.header().sequence);
                    }
                }
            }
            Body::ClockFix(fix) => fixes.push(fix.number),
            _ => {}
        }
    }
    (tables, fixes)
}

/// A gateway that has told a journal of its node's table and clock fix.
fn introduced() -> World {
    let mut world = World::fresh();
    world.gateway.handle_quality(ClockQuality::Synchronised);
    let table = Describe {
        revision: 1,
        channels: Default::default(),
    };
    world.node(&Payload::Describe(table), Class::Essential, 0);
    world.advance(Duration::from_millis(300));
    world.time_reply(1);
    world.advance(Duration::from_millis(300));
    world.flush();
    world.connect();
    assert_eq!(told_since(&world, 0), (vec![0], vec![0]));
    world
}

#[test]
fn another_journal_is_sent_the_tables_and_clock_fixes_that_it_never_had() {
    let mut world = introduced();
    let [one, other] = [0x1_0000, 0x2_0000].map(JournalId);
    let mark = |name, extent| JournalMark {
        name,
        extent: Extent(extent),
    };
    for (extent, (journal, is_told)) in (0..).zip([
        (one, false),
        (one, false),
        (other, true),
        (other, false),
        (one, true),
        (one.named_by(7), true),
        (one.named_by(7), false),
    ]) {
        let next = world.next(Epoch(5));
        world.journal = mark(journal, extent);
        world.ack(next);
        world.advance(Duration::from_millis(300));
        world.flush();
        let expected = if is_told {
            (vec![0], vec![0])
        } else {
            (vec![], vec![])
        };
        assert_eq!(told_since(&world, next), expected, "journal {journal}");
    }
    let journals = [mark(one.named_by(7), 5), mark(one, 4), mark(other, 3)];
    assert_eq!(world.hellos.last().unwrap().journals, journals);
}
