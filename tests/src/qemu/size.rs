//! What an image takes of its part, read from the linked file, and the budget that it has.

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, SectionKind};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What the stack is painted with before the first instruction of `main` (`cortex-m-rt`).
const PAINT: u32 = 0xCCCC_CCCC;

/// Statics whose name has this are the waveforms' memory: as large as a board likes.
const BUFFER: &str = "WAVEFORM";

/// The static that outlives a reset.
const LAST_WORDS: &str = "LAST_WORDS";

/// Bytes that an image takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Code, constants, and what RAM starts with.
    pub flash: u64,
    /// Statics, the memory for waveforms not counted.
    pub ram: u64,
    /// The memory for waveforms.
    pub buffers: u64,
    /// Where the stack may grow: from the end of the statics to the end of RAM.
    pub stack_place: (u64, u64),
    /// Where a life leaves its last words.
    pub last_words: u64,
}

impl Size {
    /// Of the image at `path`, an ELF file.
    pub fn of(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = object::File::parse(&*bytes).with_context(|| format!("{} is no image", path.display()))?;
        let (mut flash, mut ram) = (0, 0);
        for section in file.sections() {
            match section.kind() {
                SectionKind::Text | SectionKind::ReadOnlyData | SectionKind::ReadOnlyString => {
                    flash += section.size();
                }
                SectionKind::Data => {
                    flash += section.size();
                    ram += section.size();
                }
                SectionKind::UninitializedData => ram += section.size(),
                _ => {}
            }
        }
        let words = file
            .symbols()
            .find(|symbol| symbol.name().is_ok_and(|name| name.contains(LAST_WORDS)));
        let words = words.with_context(|| format!("{} leaves no last words", path.display()))?;
        let is_buffer = |name: &str| name.contains(BUFFER);
        let buffers = file
            .symbols()
            .filter(|symbol| symbol.name().is_ok_and(is_buffer))
            .map(|symbol| symbol.size())
            .sum();
        let address = |name: &str| {
            let mut symbols = file.symbols();
            let symbol = symbols.find(|symbol| symbol.name() == Ok(name));
            let symbol = symbol.with_context(|| format!("{} has no symbol {name}", path.display()))?;
            anyhow::Ok(symbol.address())
        };
        Ok(Self {
            flash,
            ram: ram - buffers,
            buffers,
            stack_place: (address("__sheap")?, address("_stack_start")?),
            last_words: words.address(),
        })
    }
}

impl Size {
    /// What RAM leaves for the stack.
    pub const fn stack_room(&self) -> u64 {
        self.stack_place.1 - self.stack_place.0
    }
}

/// How much of a stack was ever used: its memory, lowest address first, as it is after a while.
pub fn stack_used(memory: &[u8]) -> u64 {
    let painted = memory
        .chunks_exact(4)
        .take_while(|word| **word == PAINT.to_le_bytes());
    (memory.len() - 4 * painted.count()) as u64
}

/// What an image may take.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Of flash, KiB.
    pub flash_kib: f64,
    /// Of statics beside the waveforms' memory, KiB.
    pub ram_kib: f64,
    /// Of stack, KiB: what RAM must leave for it, and not be exceeded where it can be measured.
    pub stack_kib: f64,
}

/// The budgets, by board, of `firmware/budget.toml`.
pub fn budgets() -> Result<BTreeMap<String, Budget>> {
    let path = crate::workspace::root().join("firmware/budget.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_is_used_down_to_the_lowest_word_that_lost_its_paint() {
        let mut memory = PAINT.to_le_bytes().repeat(64);
        assert_eq!(stack_used(&memory), 0);
        memory[255] = 0;
        memory[100] = 1;
        assert_eq!(stack_used(&memory), 256 - 100);
    }

    #[test]
    fn every_budget_is_one() {
        for (board, budget) in budgets().unwrap() {
            for kib in [budget.flash_kib, budget.ram_kib, budget.stack_kib] {
                assert!(kib > 0.0, "{board}");
            }
        }
    }
}
