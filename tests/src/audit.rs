//! The journal read back against what was played: every sample in it exactly as the machine moved.
//!
//! Nothing of the collector's own bookkeeping is believed here. The segments are read from the first
//! byte to the last, frames are decoded, and each sample is compared by its index with the recording.

use crate::host_node::quantised;
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use trunnion_collector::journal::{Entry, Journal, Options, Position, Reader};
use trunnion_common::block::{Block, Body};
use trunnion_common::frame::{Payload, RawFrame};
use trunnion_common::id::NodeId;
use trunnion_common::time::EventTime;

/// What one node played on its first channel, over and over.
#[derive(Clone, Debug)]
pub struct Played {
    /// The node.
    pub node: NodeId,
    /// One turn of the recording, g.
    pub samples: Vec<f32>,
    /// Full scale, g.
    pub range_g: f32,
    /// Samples produced, as the node says.
    pub produced: u64,
}

/// What the journal holds of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Audit {
    /// Commits read.
    pub commits: u64,
    /// Blocks in them.
    pub blocks: u64,
    /// Blocks of a number that the journal had already.
    pub blocks_repeated: u64,
    /// Frames of a number that the journal had already: the pipeline counts each once.
    pub frames_repeated: u64,
    /// Bodies, records or frames that do not decode.
    pub unreadable: u64,
    /// Samples found, each index once.
    pub samples: u64,
    /// Samples that differ from what was played.
    pub samples_wrong: u64,
    /// Samples that nobody produced.
    pub samples_invented: u64,
    /// Samples produced and not found.
    pub samples_missing: u64,
    /// Bytes behind the last commit: a clean stop leaves none.
    pub torn_bytes: u64,
    /// Bytes in front of it that cannot be read back.
    pub damaged_bytes: u64,
    /// Entries that cannot be read back.
    pub damaged_entries: u64,
}

impl Audit {
    /// Whether every sample played is there, exactly, and nothing is beside it.
    pub const fn is_flawless(&self) -> bool {
        self.blocks_repeated == 0
            && self.unreadable == 0
            && self.samples_wrong == 0
            && self.samples_invented == 0
            && self.samples_missing == 0
            && self.torn_bytes == 0
            && self.damaged_bytes == 0
            && self.damaged_entries == 0
    }
}

/// Reads the journal in `dir`, whose collector has stopped.
pub fn audit(dir: &Path, played: &[Played]) -> Result<Audit> {
    let end = {
        let opened = Journal::open(dir, Options::default(), EventTime(0));
        let (journal, recovered) = opened.with_context(|| format!("the journal in {}", dir.display()))?;
        (journal.end(), recovered.torn_bytes)
    };
    let mut comparison = Comparison::new(played);
    comparison.audit.torn_bytes = end.1;
    let mut reader = Reader::open(dir, Position::default())?;
    while let Some(commit) = reader.next_commit(end.0)? {
        comparison.audit.commits += 1;
        for (_, entry) in &commit.entries {
            if let Entry::Block { bytes, .. } = entry {
                comparison.take_block(bytes);
            }
        }
    }
    let mut audit = comparison.finish();
    audit.damaged_bytes = reader.damage().bytes;
    audit.damaged_entries = reader.damage().entries;
    Ok(audit)
}

/// Frames and samples on their way into an [`Audit`].
struct Comparison<'p> {
    audit: Audit,
    blocks: BTreeSet<(u64, u64)>,
    frames: BTreeSet<(u64, u64, u8, u64)>,
    nodes: BTreeMap<u64, (&'p Played, Indexes)>,
}

impl<'p> Comparison<'p> {
    fn new(played: &'p [Played]) -> Self {
        let nodes = played.iter().map(|played| {
            let seen = Indexes::below(played.produced);
            (played.node.get(), (played, seen))
        });
        Self {
            audit: Audit::default(),
            blocks: BTreeSet::new(),
            frames: BTreeSet::new(),
            nodes: nodes.collect(),
        }
    }

    fn take_block(&mut self, bytes: &[u8]) {
        self.audit.blocks += 1;
        let Ok(block) = Block::parse(bytes) else {
            self.audit.unreadable += 1;
            return;
        };
        if !self
            .blocks
            .insert((block.envelope.epoch.0, block.envelope.sequence))
        {
            self.audit.blocks_repeated += 1;
        }
        match block.decode() {
            Ok(Body::Frames(records)) => {
                for record in records {
                    match record.and_then(|record| RawFrame::parse(record.frame)) {
                        Ok(frame) => self.take_frame(&frame),
                        Err(_) => self.audit.unreadable += 1,
                    }
                }
            }
            Ok(_) => {}
            Err(_) => self.audit.unreadable += 1,
        }
    }

    fn take_frame(&mut self, frame: &RawFrame<'_>) {
        let header = frame.header();
        let identity = (
            header.node.get(),
            header.boot.get(),
            header.class as u8,
            header.sequence,
        );
        if !self.frames.insert(identity) {
            self.audit.frames_repeated += 1;
        }
        let waveform = match frame.payload() {
            Ok(Payload::Waveform(waveform)) => waveform,
            Ok(_) => return,
            Err(_) => {
                self.audit.unreadable += 1;
                return;
            }
        };
        let (Some((played, seen)), Ok(samples)) =
            (self.nodes.get_mut(&header.node.get()), waveform.samples())
        else {
            self.audit.samples_invented += u64::from(waveform.count);
            return;
        };
        for (index, sample) in (waveform.first_sample..).zip(samples) {
            if index >= played.produced {
                self.audit.samples_invented += 1;
                continue;
            }
            if seen.insert(index) {
                self.audit.samples += 1;
            }
            let turn = (index % played.samples.len() as u64) as usize;
            if sample != quantised(played.samples[turn], played.range_g) {
                self.audit.samples_wrong += 1;
            }
        }
    }

    fn finish(mut self) -> Audit {
        let produced: u64 = self.nodes.values().map(|(played, _)| played.produced).sum();
        self.audit.samples_missing = produced - self.audit.samples;
        self.audit
    }
}

/// Which indexes below a bound have been seen: one bit each.
struct Indexes(Vec<u64>);

impl Indexes {
    fn below(bound: u64) -> Self {
        Self(vec![0; bound.div_ceil(64) as usize])
    }

    /// Whether it is new.
    fn insert(&mut self, index: u64) -> bool {
        let word = &mut self.0[(index / 64) as usize];
        let bit = 1 << (index % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::block::{Envelope, FrameRecord, Kind, Lane};
    use trunnion_common::frame::{Class, Header, Packing, Waveform, encode};
    use trunnion_common::id::{BootId, ChannelId, Epoch, GatewayId, LineAddress};
    use trunnion_common::time::NodeTicks;
    use trunnion_common::version;

    const NODE: u64 = 0xa1;

    fn block(sequence: u64, first_sample: u64, samples: &[i16]) -> Vec<u8> {
        let header = Header {
            version: version::FRAME,
            address: LineAddress(1),
            node: NodeId::new(NODE).unwrap(),
            boot: BootId::new(1, 7),
            class: Class::Waveform,
            sequence,
            ticks: NodeTicks(0),
        };
        let data: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let payload = Payload::Waveform(Waveform {
            revision: 1,
            channel: ChannelId::new(0).unwrap(),
            first_sample,
            count: samples.len() as u16,
            packing: Packing::I16,
            data: &data,
        });
        let mut room = [0; 1_024];
        let frame = encode(&header, &payload, &mut room).unwrap();
        let record = FrameRecord {
            arrival: EventTime(0),
            fix: 0,
            frame,
        };
        let mut room = [0; 2_048];
        let body = postcard::to_slice(&record, &mut room).unwrap();
        let envelope = Envelope::new(Epoch(1), sequence, Lane::Live, Kind::Frames);
        [&envelope.encode(body)[..], body].concat()
    }

    /// What the audit says of a journal with these blocks, when 0, 1, 2, 3 LSB were played in a loop of
    /// four and `produced` of them in all.
    fn check(produced: u64, blocks: &[Vec<u8>]) -> Audit {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path(), Options::default(), EventTime(0)).unwrap();
        for block in blocks {
            journal.append(&Entry::Block {
                gateway: GatewayId {
                    site: "plant".parse().unwrap(),
                    gateway: "gw-1".parse().unwrap(),
                },
                bytes: block.clone().into(),
            });
        }
        journal.commit(EventTime(1)).unwrap();
        drop(journal);
        let played = Played {
            node: NodeId::new(NODE).unwrap(),
            samples: [0.0, 1.0, 2.0, 3.0].map(|lsb| lsb * 16.0 / 32_768.0).to_vec(),
            range_g: 16.0,
            produced,
        };
        audit(dir.path(), &[played]).unwrap()
    }

    #[test]
    fn a_faithful_journal_has_no_flaw() {
        let audit = check(6, &[block(0, 0, &[0, 1, 2, 3]), block(1, 4, &[0, 1])]);
        assert!(audit.is_flawless(), "{audit:?}");
        assert_eq!((audit.samples, audit.blocks), (6, 2));
    }

    #[test]
    fn every_flaw_is_seen() {
        let first = || block(0, 0, &[0, 1, 2, 3]);
        assert_eq!(check(6, &[first()]).samples_missing, 2);
        assert_eq!(check(6, &[first(), block(1, 4, &[0, 3])]).samples_wrong, 1);
        assert_eq!(check(4, &[first(), block(1, 4, &[0, 1])]).samples_invented, 2);
        let twice = check(4, &[first(), first()]);
        assert_eq!((twice.blocks_repeated, twice.frames_repeated), (1, 1));
        assert!(!twice.is_flawless());
    }
}
