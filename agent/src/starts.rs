//! Which starts of this agent there were: a Hello says which one speaks and which ones it follows, so
//! that the collector recognises a Hello of a former start that the network held up.
//!
//! They are kept in the file `starts` of the state directory, one per line in hexadecimal, newest first.
//! It is replaced as a whole before the first Hello, so that no start speaks that its successor does not
//! know. When it cannot be written the agent goes on: what is at stake is a Hello that a broker holds up
//! across a restart, beside a disk that takes nothing.

use crate::number_file;
use std::path::Path;
use trunnion_common::ack::{FORMER_STARTS_MAX, Hello};
use trunnion_common::id::MasterId;

/// Name of the file in the state directory.
const FILE: &str = "starts";

/// Says in every Hello who speaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Starts {
    start: MasterId,
    former: Vec<MasterId>,
    hellos: u32,
}

impl Starts {
    /// This start, and those before it, newest first.
    pub fn new(start: MasterId, former: Vec<MasterId>) -> Self {
        Self {
            start,
            former,
            hellos: 0,
        }
    }

    /// This start.
    pub const fn start(&self) -> MasterId {
        self.start
    }

    /// Signs the next Hello.
    pub fn sign(&mut self, hello: &mut Hello) {
        hello.start = self.start;
        hello.number = self.hellos;
        hello.former = self.former.iter().take(FORMER_STARTS_MAX).copied().collect();
        self.hellos = self.hellos.saturating_add(1);
    }

    /// Nobody answered: should this start count as a former one (a machine put back to a snapshot in
    /// which the agent ran), it goes on as another.
    pub fn handle_unanswered(&mut self) {
        self.former.insert(0, self.start);
        self.former.truncate(FORMER_STARTS_MAX);
        self.start = successor(self.start);
        self.hellos = 0;
    }
}

/// A number that only this start's successor has. A bijection (Steele, Lea, Flood: SplitMix, 2014), so
/// that two starts never meet but by the chance with which they were drawn.
const fn successor(start: MasterId) -> MasterId {
    let mut mixed = start.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    MasterId(mixed ^ (mixed >> 31))
}

/// Adds this start to the file in the state directory; returns those before it, newest first, as far as
/// they can be read. Blocks on the disk.
pub fn note(state_dir: &Path, start: MasterId) -> Vec<MasterId> {
    let path = state_dir.join(FILE);
    let lines = number_file::read(&path).unwrap_or_else(|error| {
        tracing::warn!(%error, "the list of former starts cannot be read; a late Hello of one of them would count");
        Vec::new()
    });
    let former = lines.into_iter().filter(|line| line.len() == 1).flatten();
    let former: Vec<u64> = former.take(FORMER_STARTS_MAX).collect();
    let all = std::iter::once(start.0).chain(former.iter().copied());
    let lines: Vec<Vec<u64>> = all.take(FORMER_STARTS_MAX).map(|start| vec![start]).collect();
    if let Err(error) = number_file::replace(&path, &lines) {
        tracing::warn!(%error, "this start of the agent cannot be noted; a late Hello of it would count later");
    }
    former.into_iter().map(MasterId).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(starts: &mut Starts) -> Hello {
        let mut hello = Hello::first(MasterId(0), heapless::Vec::new());
        starts.sign(&mut hello);
        hello
    }

    #[test]
    fn every_start_names_those_before_it_newest_first_and_no_more_than_a_hello_can() {
        let dir = tempfile::tempdir().unwrap();
        for start in 0..FORMER_STARTS_MAX as u64 + 5 {
            let former = note(dir.path(), MasterId(start));
            let expected: Vec<MasterId> = (0..start).rev().take(FORMER_STARTS_MAX).map(MasterId).collect();
            assert_eq!(former, expected);
            let hello = signed(&mut Starts::new(MasterId(start), former));
            assert_eq!((hello.start, &hello.former[..]), (MasterId(start), &expected[..]));
        }
    }

    #[test]
    fn a_damaged_list_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), b"00000000000000ff\n\xff\xfe not a start\n").unwrap();
        assert_eq!(note(dir.path(), MasterId(1)), [MasterId(0xff)]);
        assert_eq!(note(&dir.path().join("nowhere"), MasterId(2)), []);
    }

    #[test]
    fn hellos_of_a_start_are_numbered_and_one_that_nobody_answers_goes_on_as_another() {
        let mut starts = Starts::new(MasterId(5), vec![MasterId(4)]);
        assert_eq!(signed(&mut starts).number, 0);
        assert_eq!(signed(&mut starts).number, 1);
        starts.handle_unanswered();
        let hello = signed(&mut starts);
        assert_eq!(
            (hello.number, &hello.former[..]),
            (0, &[MasterId(5), MasterId(4)][..])
        );
        assert!(hello.start != MasterId(5));
    }
}
