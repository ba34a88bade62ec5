//! Where an image lies: what its processor must find after a reset, and what it must leave alone.

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// The sections that a processor sees have this flag (`SHF_ALLOC` of the ELF specification).
const ALLOCATED: u64 = 2;

/// A part's memory by the names of its linker script: `FLASH`, `RAM`, and `SETTINGS` where they lie in its flash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Map(BTreeMap<String, Range<u64>>);

impl Map {
    /// That of `firmware/memory/<board>.x`.
    pub fn of(board: &str) -> Result<Self> {
        let path = crate::workspace::root().join(format!("firmware/memory/{board}.x"));
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(script: &str) -> Result<Self> {
        let mut regions = BTreeMap::new();
        for line in script.lines() {
            let Some((name, place)) = line.split_once(": ORIGIN =") else {
                continue;
            };
            let (origin, length) = place
                .split_once(", LENGTH =")
                .with_context(|| format!("no length: {line}"))?;
            let (origin, length) = (number(origin)?, number(length)?);
            regions.insert(name.trim().to_owned(), origin..origin + length);
        }
        Ok(Self(regions))
    }

    pub(super) fn region(&self, name: &str) -> Result<&Range<u64>> {
        self.0
            .get(name)
            .with_context(|| format!("the memory map has no {name}"))
    }
}

/// As linker scripts write it: `0x20000000`, `96K`.
fn number(text: &str) -> Result<u64> {
    let text = text.trim();
    let number = if let Some(kib) = text.strip_suffix('K') {
        kib.parse().map(|kib: u64| kib << 10)
    } else if let Some(digits) = text.strip_prefix("0x") {
        u64::from_str_radix(digits, 16)
    } else {
        text.parse()
    };
    number.with_context(|| format!("no number: {text}"))
}

/// Where the parts of an image are.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Layout {
    /// What its processor sees, by name.
    sections: Vec<(String, Range<u64>)>,
    /// What RAM starts with, as it lies behind the code.
    stored: Range<u64>,
    /// The vector table.
    table: u64,
    /// Its first two words: where the stack begins, and what a reset leads to.
    stack: u64,
    reset: u64,
    /// Where the image says that it begins.
    entry: u64,
}

/// Checks that the image at `path` starts where its part looks for it, with a stack in its RAM, and lies in the memory
/// that `map` gives it, beside its settings.
pub fn check(path: &Path, map: &Map) -> Result<()> {
    Layout::of(path)
        .with_context(|| path.display().to_string())?
        .fits(map)
}

impl Layout {
    fn of(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).context("cannot read the image")?;
        let file = object::File::parse(&*bytes).context("this is no image")?;
        let mut sections = Vec::new();
        for section in file.sections() {
            let is_seen =
                matches!(section.flags(), SectionFlags::Elf { sh_flags } if sh_flags & ALLOCATED != 0);
            if is_seen && section.size() > 0 {
                let place = section.address()..section.address() + section.size();
                sections.push((section.name()?.to_owned(), place));
            }
        }
        let symbol = |name: &str| {
            let found = file.symbols().find(|symbol| symbol.name() == Ok(name));
            anyhow::Ok(found.with_context(|| format!("no symbol {name}"))?.address())
        };
        let stored = symbol("__sidata")?;
        let table = file
            .section_by_name(".vector_table")
            .context("there is no vector table")?;
        let words = table.data()?;
        let word = |at: usize| {
            let bytes = words.get(at..).and_then(<[u8]>::first_chunk);
            let bytes = bytes.context("the vector table is cut off")?;
            anyhow::Ok(u64::from(u32::from_le_bytes(*bytes)))
        };
        Ok(Self {
            sections,
            stored: stored..stored + symbol("__edata")? - symbol("__sdata")?,
            table: table.address(),
            stack: word(0)?,
            reset: word(4)?,
            entry: file.entry(),
        })
    }

    fn fits(&self, map: &Map) -> Result<()> {
        let (flash, ram) = (map.region("FLASH")?, map.region("RAM")?);
        if let Ok(settings) = map.region("SETTINGS") {
            ensure!(
                flash.end <= settings.start || settings.end <= flash.start,
                "settings at {settings:#x?} overlap the image's flash {flash:#x?}"
            );
        }
        let within =
            |outer: &Range<u64>, inner: &Range<u64>| outer.start <= inner.start && inner.end <= outer.end;
        for (name, place) in &self.sections {
            ensure!(
                within(flash, place) || within(ram, place),
                "{name} at {place:#x?} is in neither flash nor RAM"
            );
        }
        ensure!(
            within(flash, &self.stored),
            "what RAM starts with, {:#x?}, is not in flash",
            self.stored
        );
        ensure!(
            self.table == flash.start,
            "the vector table is at {:#x}, and the flash at {:#x}",
            self.table,
            flash.start
        );
        // Armv7-M, B1.5.3: the stack pointer is loaded from the first word, and bit 0 of the second says Thumb.
        ensure!(
            (ram.start + 1..=ram.end).contains(&self.stack) && self.stack.is_multiple_of(8),
            "the stack begins at {:#x}, and RAM is {ram:#x?}",
            self.stack
        );
        ensure!(
            self.reset == self.entry | 1 && flash.contains(&self.entry),
            "a reset leads to {:#x}, and the image begins at {:#x}",
            self.reset,
            self.entry
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that there is a memory map of.
    fn boards() -> Vec<String> {
        let maps = std::fs::read_dir(crate::workspace::root().join("firmware/memory")).unwrap();
        let names = maps.map(|map| map.unwrap().file_name().into_string().unwrap());
        let names = names.filter_map(|name| Some(name.strip_suffix(".x")?.to_owned()));
        names.filter(|name| name != "settings").collect()
    }

    #[test]
    fn a_memory_map_is_what_its_linker_script_says() {
        let map = Map::of("stm32g474").unwrap();
        assert_eq!(map.region("FLASH").unwrap(), &(0x0800_0000..0x0807_8000));
        assert_eq!(map.region("RAM").unwrap(), &(0x2000_0000..0x2002_0000));
        assert!(map.region("CCM").is_err());
        assert!(Map::parse("FLASH : ORIGIN = zero, LENGTH = 1K").is_err());
    }

    #[test]
    fn settings_begin_where_the_image_may_not_be() {
        assert!(!boards().is_empty());
        for board in boards() {
            let map = Map::of(&board).unwrap();
            let flash = map.region("FLASH").unwrap();
            match map.region("SETTINGS") {
                Ok(settings) => assert_eq!(settings.start, flash.end, "{board}"),
                // In an EEPROM.
                Err(_) => assert_eq!(board, "qemu-an386"),
            }
        }
    }

    #[test]
    fn an_image_is_refused_that_its_part_could_not_start() {
        let map = Map::of("stm32g474").unwrap();
        let good = Layout {
            sections: vec![
                (".vector_table".to_owned(), 0x0800_0000..0x0800_01D8),
                (".bss".to_owned(), 0x2000_00D8..0x2000_FB48),
            ],
            stored: 0x0801_5AB0..0x0801_5B88,
            table: 0x0800_0000,
            stack: 0x2002_0000,
            reset: 0x0800_01D9,
            entry: 0x0800_01D8,
        };
        good.fits(&map).unwrap();
        let refused = |spoil: fn(&mut Layout)| {
            let mut image = good.clone();
            spoil(&mut image);
            image.fits(&map).unwrap_err().to_string()
        };
        let of_another_part = refused(|image| image.table = 0);
        assert!(of_another_part.contains("vector table"), "{of_another_part}");
        let too_large = refused(|image| image.sections[1].1.end = 0x2002_0008);
        assert!(too_large.contains(".bss"), "{too_large}");
        let over_settings = refused(|image| image.stored.end = 0x0807_8004);
        assert!(over_settings.contains("is not in flash"), "{over_settings}");
        let without_stack = refused(|image| image.stack = 0x2000_0000);
        assert!(without_stack.contains("the stack begins"), "{without_stack}");
        let elsewhere = refused(|image| image.reset = 0x0800_0401);
        assert!(elsewhere.contains("a reset leads to"), "{elsewhere}");
    }
}
