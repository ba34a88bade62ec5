//! Pipeline state and journal position, saved together.
//!
//! A checkpoint is `magic, version (u16), crc32c (u32)`, little-endian, and then postcard: the build
//! that wrote it and the state with its position; settings are part of the state, as they come from the
//! journal. One that is damaged or of another build is not used: the pipeline then starts from the one
//! before, or from the journal's beginning, and arrives at the same outputs.

use crate::pipeline::{Pipeline, PipelineState};
use serde::{Deserialize, Serialize};
use trunnion_common::codec::crc32c;

const MAGIC: [u8; 4] = *b"TRCP";
const VERSION: u16 = 6;
const HEAD_BYTES: usize = 10;

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
    /// It is shorter than its head, or not a checkpoint.
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

/// The bytes of a checkpoint of the pipeline.
pub fn save(pipeline: &Pipeline) -> Vec<u8> {
    let written = Written {
        build: BUILD,
        state: pipeline.state(),
    };
    let content = postcard::to_stdvec(&written).expect("plain data in memory always encodes");
    let mut bytes = Vec::with_capacity(HEAD_BYTES + content.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&crc32c(&content).to_le_bytes());
    bytes.extend(content);
    bytes
}

/// The state in a checkpoint, if it can be used.
pub fn load(bytes: &[u8]) -> Result<PipelineState, CheckpointError> {
    let (head, content) = bytes
        .split_at_checked(HEAD_BYTES)
        .ok_or(CheckpointError::NotOne)?;
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
    if u32::from_le_bytes([c0, c1, c2, c3]) != crc32c(content) {
        return Err(CheckpointError::Damaged);
    }
    let (head, rest) =
        postcard::take_from_bytes::<Head<'_>>(content).map_err(|_| CheckpointError::OtherBuild)?;
    if head.build != BUILD {
        return Err(CheckpointError::OtherBuild);
    }
    match postcard::take_from_bytes(rest) {
        Ok((state, [])) => Ok(state),
        _ => Err(CheckpointError::Content),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resealed(head: &[u8], content: &[u8]) -> Vec<u8> {
        [head, &crc32c(content).to_le_bytes(), content].concat()
    }

    #[test]
    fn what_an_earlier_or_later_version_wrote_is_refused_in_plain_words() {
        let saved = save(&Pipeline::new());
        assert!(load(&saved).is_ok());
        for found in [VERSION - 1, VERSION + 1] {
            let mut other = saved.clone();
            other[4..6].copy_from_slice(&found.to_le_bytes());
            let error = load(&other).unwrap_err();
            assert_eq!(error, CheckpointError::Version { found });
            let words = format!("its format has version {found}, this build reads {VERSION}");
            assert_eq!(error.to_string(), words);
        }
        let (head, content) = (&saved[..6], &saved[HEAD_BYTES..]);
        let mut other = content.to_vec();
        other[1] ^= 1; // The first letter of the build's name.
        assert_eq!(load(&resealed(head, &other)), Err(CheckpointError::OtherBuild));
        let longer = [content, &[0]].concat();
        assert_eq!(load(&resealed(head, &longer)), Err(CheckpointError::Content));
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let saved = save(&Pipeline::new());
        for at in 0..saved.len() {
            let mut damaged = saved.clone();
            damaged[at] ^= 0x10;
            assert!(load(&damaged).is_err(), "byte {at}");
            assert!(load(&saved[..at]).is_err(), "cut to {at}");
        }
    }
}
