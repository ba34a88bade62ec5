//! Pipeline state and journal position, saved together.
//!
//! A checkpoint is a row of parts, each of [`PART_BYTES`] at most: `magic, version (u16), crc32c (u32)`,
//! little-endian, and then its share of the content. The checksum covers the part's number, from 0, and that
//! share. The content is postcard: the build that wrote it and the state with its position; settings are part
//! of the state, as they come from the journal. One that is damaged or of another build is not used: the
//! pipeline then starts from the one before, or from the journal's beginning, and arrives at the same outputs.

use crate::pipeline::PipelineState;
use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};
use trunnion_common::codec::crc32c_parts;

const MAGIC: [u8; 4] = *b"TRCP";
const VERSION: u16 = 19;
const HEAD_BYTES: usize = 10;

/// Most bytes of a part: small against what a transaction of outputs writes, and far below what a row of
/// SQLite can hold.
pub const PART_BYTES: usize = 1 << 20;

/// The state has no format of its own: a build reads what the same build wrote.
const BUILD: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize)]
struct Written<'a> {
    build: &'a str,
    state: &'a PipelineState,
}

#[derive(Deserialize)]
struct Head<'a> {
    build: &'a str,
}

/// Why a checkpoint is not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A part is shorter than its head, or not a checkpoint's.
    #[error("it is not a checkpoint")]
    NotOne,
    /// Its format is of another version.
    #[error("its format has version {found}, this build reads {VERSION}")]
    Version {
        /// The version found.
        found: u16,
    },
    /// It is damaged.
    #[error("its checksum does not match")]
    Damaged,
    /// Another build wrote it.
    #[error("another build wrote it")]
    OtherBuild,
    /// Its content does not decode.
    #[error("its content does not decode")]
    Content,
}

/// Nobody takes the parts any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("nobody takes the checkpoint's parts any more")]
pub struct Abandoned;

/// The parts of a checkpoint of a pipeline, all of them.
pub fn save(state: &PipelineState) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    write(state, |part| {
        parts.push(part);
        true
    })
    .expect("whoever keeps every part never gives up");
    parts
}

/// Hands over the parts of a checkpoint in their order, for as long as `take` says true.
pub fn write(state: &PipelineState, take: impl FnMut(Vec<u8>) -> bool) -> Result<(), Abandoned> {
    let written = Written { build: BUILD, state };
    // Plain data in memory always encodes, so that nothing else can end it.
    postcard::serialize_with_flavor(&written, Parts::new(take)).map_err(|_| Abandoned)
}

/// Cuts what is encoded into parts.
struct Parts<F> {
    take: F,
    number: u32,
    part: Vec<u8>,
}

impl<F: FnMut(Vec<u8>) -> bool> Parts<F> {
    fn new(take: F) -> Self {
        let part = vec![0; HEAD_BYTES];
        Self {
            take,
            number: 0,
            part,
        }
    }

    fn hand_over(&mut self, next: Vec<u8>) -> postcard::Result<()> {
        let mut part = std::mem::replace(&mut self.part, next);
        seal(self.number, &mut part);
        self.number += 1;
        match (self.take)(part) {
            true => Ok(()),
            false => Err(postcard::Error::SerializeBufferFull),
        }
    }

    fn make_room(&mut self) -> postcard::Result<()> {
        if self.part.len() < PART_BYTES {
            return Ok(());
        }
        let mut next = Vec::with_capacity(PART_BYTES);
        next.resize(HEAD_BYTES, 0);
        self.hand_over(next)
    }
}

impl<F: FnMut(Vec<u8>) -> bool> Flavor for Parts<F> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.make_room()?;
        self.part.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, mut bytes: &[u8]) -> postcard::Result<()> {
        while !bytes.is_empty() {
            self.make_room()?;
            let (fits, rest) = bytes.split_at(bytes.len().min(PART_BYTES - self.part.len()));
            self.part.extend_from_slice(fits);
            bytes = rest;
        }
        Ok(())
    }

    fn finalize(mut self) -> postcard::Result<()> {
        self.hand_over(Vec::new())
    }
}

/// Writes the head before a part's content.
fn seal(number: u32, part: &mut [u8]) {
    let (head, content) = part.split_at_mut(HEAD_BYTES);
    head[..4].copy_from_slice(&MAGIC);
    head[4..6].copy_from_slice(&VERSION.to_le_bytes());
    head[6..].copy_from_slice(&checksum(number, content).to_le_bytes());
}

fn checksum(number: u32, content: &[u8]) -> u32 {
    crc32c_parts(&[&number.to_le_bytes(), content])
}

/// The state in a checkpoint, if it can be used.
pub fn load(parts: &[Vec<u8>]) -> Result<PipelineState, CheckpointError> {
    let mut reading = Reading::default();
    parts.iter().for_each(|part| reading.take(part));
    reading.state()
}

/// A checkpoint that is read part by part.
#[derive(Debug, Default)]
pub struct Reading {
    content: Vec<u8>,
    parts: u32,
    refused: Option<CheckpointError>,
}

impl Reading {
    /// The next part.
    pub fn take(&mut self, part: &[u8]) {
        if self.refused.is_some() {
            return;
        }
        match opened(self.parts, part) {
            Ok(content) => self.content.extend_from_slice(content),
            Err(error) => self.refused = Some(error),
        }
        self.parts += 1;
    }

    /// The state in them, if it can be used.
    pub fn state(self) -> Result<PipelineState, CheckpointError> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        if self.parts == 0 {
            return Err(CheckpointError::NotOne);
        }
        let (head, rest) =
            postcard::take_from_bytes::<Head<'_>>(&self.content).map_err(|_| CheckpointError::OtherBuild)?;
        if head.build != BUILD {
            return Err(CheckpointError::OtherBuild);
        }
        match postcard::take_from_bytes(rest) {
            Ok((state, [])) => Ok(state),
            _ => Err(CheckpointError::Content),
        }
    }
}

/// The content of a part.
fn opened(number: u32, part: &[u8]) -> Result<&[u8], CheckpointError> {
    let (head, content) = part.split_at_checked(HEAD_BYTES).ok_or(CheckpointError::NotOne)?;
    let &[m0, m1, m2, m3, v0, v1, c0, c1, c2, c3] = head else {
        return Err(CheckpointError::NotOne);
    };
    if [m0, m1, m2, m3] != MAGIC {
        return Err(CheckpointError::NotOne);
    }
    let found = u16::from_le_bytes([v0, v1]);
    if found != VERSION {
        return Err(CheckpointError::Version { found });
    }
    if u32::from_le_bytes([c0, c1, c2, c3]) != checksum(number, content) {
        return Err(CheckpointError::Damaged);
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Commit, Entry, Position};
    use crate::pipeline::{Pipeline, script};
    use trunnion_common::time::EventTime;

    /// A checkpoint of one part, with that content.
    fn sealed(content: &[u8]) -> Vec<Vec<u8>> {
        let mut part = [&[0; HEAD_BYTES], content].concat();
        seal(0, &mut part);
        vec![part]
    }

    /// A state of several parts: fleet files with long comments.
    fn large() -> Pipeline {
        let mut pipeline = Pipeline::new();
        for n in 1..=3 {
            let Entry::Fleet { text, .. } = script::fleet(1) else {
                panic!("it is one");
            };
            let text = format!("# {}\n{text}", "x".repeat(PART_BYTES));
            let effective = EventTime(n);
            let commit = Commit {
                time: EventTime(n),
                entries: vec![(Position::default(), Entry::Fleet { effective, text })],
                end: Position::default(),
            };
            pipeline.apply(&commit);
        }
        pipeline
    }

    #[test]
    fn what_an_earlier_or_later_version_wrote_is_refused_in_plain_words() {
        let saved = save(Pipeline::new().state());
        assert!(load(&saved).is_ok());
        for found in [VERSION - 1, VERSION + 1] {
            let mut other = saved.clone();
            other[0][4..6].copy_from_slice(&found.to_le_bytes());
            let error = load(&other).unwrap_err();
            assert_eq!(error, CheckpointError::Version { found });
            let words = format!("its format has version {found}, this build reads {VERSION}");
            assert_eq!(error.to_string(), words);
        }
        let content = &saved[0][HEAD_BYTES..];
        let mut other = content.to_vec();
        other[1] ^= 1; // The first letter of the build's name.
        assert_eq!(load(&sealed(&other)), Err(CheckpointError::OtherBuild));
        let longer = [content, &[0]].concat();
        assert_eq!(load(&sealed(&longer)), Err(CheckpointError::Content));
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let saved = save(Pipeline::new().state());
        let [part] = &saved[..] else {
            panic!("{} parts", saved.len());
        };
        for at in 0..part.len() {
            let mut damaged = part.clone();
            damaged[at] ^= 0x10;
            assert!(load(&[damaged]).is_err(), "byte {at}");
            assert!(load(&[part[..at].to_vec()]).is_err(), "cut to {at}");
        }
        assert_eq!(load(&[]), Err(CheckpointError::NotOne));
    }

    #[test]
    fn a_large_state_is_cut_into_parts_which_make_it_together_in_their_order() {
        let pipeline = large();
        let saved = save(pipeline.state());
        assert_eq!(saved.len(), 4);
        assert!(saved.iter().all(|part| part.len() <= PART_BYTES));
        assert_eq!(load(&saved).unwrap(), *pipeline.state());
        let mut swapped = saved.clone();
        swapped.swap(1, 2);
        assert_eq!(load(&swapped), Err(CheckpointError::Damaged));
        assert_eq!(load(&saved[..3]), Err(CheckpointError::Content));
        assert_eq!(load(&saved[1..]), Err(CheckpointError::Damaged));
    }

    #[test]
    fn it_ends_when_nobody_takes_its_parts() {
        let pipeline = large();
        let mut taken = 0;
        let two = |_| {
            taken += 1;
            taken < 2
        };
        assert_eq!(write(pipeline.state(), two), Err(Abandoned));
        assert_eq!(taken, 2);
    }
}
