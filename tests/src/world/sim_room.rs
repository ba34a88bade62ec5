//! Room on a spool's disk: the waveform chain's directories, others that fill the disk, and what the
//! product's retention decides. As the spool's thread does it, one step after the other.

use super::chance::Chance;
use std::collections::{BTreeMap, BTreeSet};
use trunnion_agent::block::{Block, BlockKey};
use trunnion_agent::config::RETENTION;
use trunnion_agent::retention::{Decision, Directory, DirectoryState, Limits, Usage};
use trunnion_agent::spool::Reply;
use trunnion_common::frame::Class;

/// Bytes at which a directory is closed and the next one begun.
const DIRECTORY_BYTES: u64 = 6 * 1_024;

/// What an ample disk has free.
const AMPLE: u64 = 1 << 40;

/// Bytes left on a disk that others have filled.
const CRAMPED: u64 = 2 * 1_024;

/// Directories of the waveform chain, and the room for them.
#[derive(Clone, Debug)]
pub(super) struct SimRoom {
    limits: Limits,
    /// Whether others have filled the disk.
    pub(super) is_cramped: bool,
    /// Where each waveform block stands.
    homes: BTreeMap<BlockKey, u32>,
    current: u32,
    leaving: BTreeSet<u32>,
    told: Option<(Usage, Decision)>,
}

impl SimRoom {
    /// Some spools have room for anything, others for seconds.
    pub(super) fn draw(chance: &mut Chance) -> Self {
        let quota = if chance.one_in(2) {
            Limits {
                quota_bytes: (24 + chance.below(100)) * 1_024,
                disk_percent: 50,
                essential_bytes: 12 * 1_024,
            }
        } else {
            RETENTION
        };
        Self {
            limits: quota,
            is_cramped: false,
            homes: BTreeMap::new(),
            current: 1,
            leaving: BTreeSet::new(),
            told: None,
        }
    }

    /// Blocks have been stored.
    pub(super) fn store(&mut self, class: Class, blocks: &[Block], stored: &BTreeMap<BlockKey, Block>) {
        if class != Class::Waveform {
            return;
        }
        for block in blocks {
            self.homes.insert(block.key, self.current);
            if self.bytes_of(self.current, stored) >= DIRECTORY_BYTES {
                self.current += 1;
            }
        }
    }

    /// Every start begins a directory of its own, and asks again for what was to leave.
    pub(super) fn restart(&mut self) {
        self.current += 1;
        self.leaving.clear();
        self.told = None;
    }

    /// Whether a block stands in the waveform chain.
    pub(super) fn holds(&self, key: BlockKey) -> bool {
        self.homes.contains_key(&key)
    }

    /// The blocks of a directory, which is gone from now on.
    pub(super) fn evict(&mut self, directory: u32) -> Vec<BlockKey> {
        self.leaving.remove(&directory);
        self.blocks_of(directory)
    }

    /// What the thread tells of room after every request, and on its own once a second.
    pub(super) fn look(&mut self, stored: &BTreeMap<BlockKey, Block>) -> Vec<Reply> {
        self.homes.retain(|key, _| stored.contains_key(key));
        let mut replies = Vec::new();
        loop {
            let usage = self.usage(stored);
            let decision = self.limits.decide(&usage);
            let told = (usage, decision);
            if self.told.as_ref() != Some(&told) {
                replies.push(Reply::Room(told.0.clone(), told.1));
                self.told = Some(told);
            }
            match decision {
                Decision::EvictWaveform { directory } => {
                    self.leaving.insert(directory);
                    replies.push(Reply::Evicting(directory, self.blocks_of(directory)));
                }
                Decision::CloseWaveform => self.current += 1,
                Decision::Keep | Decision::StopWaveformIntake | Decision::StopIntake => return replies,
            }
        }
    }

    fn blocks_of(&self, directory: u32) -> Vec<BlockKey> {
        let homes = self.homes.iter().filter(|(_, home)| **home == directory);
        homes.map(|(key, _)| *key).collect()
    }

    fn bytes_of(&self, directory: u32, stored: &BTreeMap<BlockKey, Block>) -> u64 {
        let blocks = self.blocks_of(directory);
        let stored = blocks.iter().filter_map(|key| stored.get(key));
        stored.map(|block| block.bytes.len() as u64).sum()
    }

    fn usage(&self, stored: &BTreeMap<BlockKey, Block>) -> Usage {
        let essential = stored.iter().filter(|(key, _)| !self.homes.contains_key(key));
        let numbers: BTreeSet<u32> = self.homes.values().copied().chain([self.current]).collect();
        let directory = |number: u32| {
            let bytes = self.bytes_of(number, stored);
            let state = if self.leaving.contains(&number) {
                DirectoryState::Leaving
            } else if number != self.current {
                DirectoryState::Closed
            } else if bytes > 0 {
                DirectoryState::Written
            } else {
                DirectoryState::Empty
            };
            Directory { number, bytes, state }
        };
        Usage {
            essential_bytes: essential.map(|(_, block)| block.bytes.len() as u64).sum(),
            quarantine_bytes: 0,
            waveform: numbers.into_iter().map(directory).collect(),
            free_bytes: if self.is_cramped { CRAMPED } else { AMPLE },
            blob_files: 0,
        }
    }
}
