//! How long samples of a node take from the gateway's line into the collector's journal.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;
use trunnion_collector::journal::{Entry, Journal, Options, Position, Reader};
use trunnion_common::block::{Block, Body};
use trunnion_common::frame::RawFrame;
use trunnion_common::id::NodeId;
use trunnion_common::time::EventTime;

/// Milliseconds that each frame took that arrived between `from` and `to`, nodes in `except` left out.
/// The collector of the journal in `dir` has stopped.
///
/// From the time at which the agent read its last byte to the time that the commit after its own bears: a
/// commit is stamped before its fsync, the next one after that. So a frame is never told as durable
/// too early, and while blocks flow little too late.
pub fn to_journal_ms(dir: &Path, (from, to): (EventTime, EventTime), except: &[NodeId]) -> Result<Vec<f64>> {
    let end = {
        let opened = Journal::open(dir, Options::default(), EventTime(0));
        let (journal, _) = opened.with_context(|| format!("the journal in {}", dir.display()))?;
        journal.end()
    };
    let mut reader = Reader::open(dir, Position::default())?;
    // A frame may come twice: what counts is when it was safe first.
    let mut arrivals: BTreeMap<(u64, u64, u8, u64), f64> = BTreeMap::new();
    let mut waiting = Vec::new();
    while let Some(commit) = reader.next_commit(end)? {
        for (identity, arrival) in waiting.drain(..) {
            arrivals
                .entry(identity)
                .or_insert_with(|| ms_between(arrival, commit.time));
        }
        for (_, entry) in &commit.entries {
            let Entry::Block { bytes, .. } = entry else {
                continue;
            };
            let Ok(Body::Frames(records)) = Block::parse(bytes).and_then(|block| block.decode()) else {
                continue;
            };
            for record in records.map_while(Result::ok) {
                if !(from <= record.arrival && record.arrival < to) {
                    continue;
                }
                let Ok(frame) = RawFrame::parse(record.frame) else {
                    continue;
                };
                let header = frame.header();
                if except.contains(&header.node) {
                    continue;
                }
                let (node, boot) = (header.node.get(), header.boot.get());
                waiting.push(((node, boot, header.class as u8, header.sequence), record.arrival));
            }
        }
    }
    Ok(arrivals.into_values().collect())
}

/// The smallest value with at least `share` of all at or below it: nearest rank, as the collector has it.
pub fn percentile(mut values: Vec<f64>, share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}

fn ms_between(from: EventTime, to: EventTime) -> f64 {
    to.0.saturating_sub(from.0) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::block::{Envelope, FRAME_RECORD_MAX, FrameRecord, Kind, Lane};
    use trunnion_common::frame::{Class, FRAME_MAX, Header, Payload, TimeRequest, encode};
    use trunnion_common::id::{BootId, Epoch, GatewayId, LineAddress};
    use trunnion_common::time::NodeTicks;
    use trunnion_common::version;

    const MS: i64 = 1_000_000;

    fn block(sequence: u64, node: u64, arrival: EventTime) -> Entry {
        let header = Header {
            version: version::FRAME,
            address: LineAddress(1),
            node: NodeId::new(node).unwrap(),
            boot: BootId::from_u64(1),
            class: Class::Essential,
            sequence: 7,
            ticks: NodeTicks(0),
        };
        let mut room = [0; FRAME_MAX];
        let payload = Payload::TimeRequest(TimeRequest { request: 1 });
        let frame = encode(&header, &payload, &mut room).unwrap();
        let record = FrameRecord {
            arrival,
            fix: 0,
            frame,
        };
        let mut room = [0; FRAME_RECORD_MAX];
        let body = postcard::to_slice(&record, &mut room).unwrap();
        let envelope = Envelope::new(Epoch(1), sequence, Lane::Live, Kind::Frames).encode(body);
        Entry::Block {
            gateway: GatewayId {
                site: "plant".parse().unwrap(),
                gateway: "gw-1".parse().unwrap(),
            },
            bytes: [&envelope[..], body].concat().into(),
        }
    }

    #[test]
    fn a_frame_is_durable_by_the_commit_after_its_first_own() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path(), Options::default(), EventTime(0)).unwrap();
        // Node 5 comes twice; node 6 is left out; node 7 arrives too late to count.
        for (at, node, arrived) in [(100, 5, 60), (130, 6, 60), (170, 5, 60), (200, 7, 190)] {
            journal.append(&block(at as u64, node, EventTime(arrived * MS)));
            journal.commit(EventTime(at * MS)).unwrap();
        }
        drop(journal);
        let span = (EventTime(50 * MS), EventTime(90 * MS));
        let left_out = [NodeId::new(6).unwrap()];
        assert_eq!(to_journal_ms(dir.path(), span, &left_out).unwrap(), [70.0]);
    }

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let values = || (1..=200).rev().map(f64::from).collect::<Vec<_>>();
        assert_eq!(percentile(values(), 0.99), Some(198.0));
        assert_eq!(percentile(values(), 0.0), Some(1.0));
        assert_eq!(percentile(Vec::new(), 0.5), None);
    }
}
