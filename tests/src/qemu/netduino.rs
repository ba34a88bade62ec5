//! The image of the `stm32f405` in QEMU, on the emulator's netduinoplus2: the part's processor, memory, timers and UARTs,
//! and nothing on its buses.
//!
//! | the emulator | instead |
//! |---|---|
//! | has no clock tree: no crystal ever swings | the image goes on without, as on a board whose crystal is broken |
//! | reads every pin as low | the strap says that others share the line, and both wires of the I2C bus are held down |
//! | drives timers with 1 GHz | `set_timer` divides that by as much as the image would have to |
//! | has no unique id, and does not tell the size of its flash | both lie in memory that the part does not have, and the image's words for their addresses lead there |
//! | reads unwritten flash as zeros | the pages of the settings are loaded as erased |
//! | lets nobody write flash | nothing: the image's settings do not outlive a reset |
//!
//! But for those two words it is the image that is flashed.

use super::layout::Map;
use super::{Debugger, START_LIMIT};
use crate::process::await_some;
use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The board whose image it runs.
pub const BOARD: &str = "stm32f405";

/// What QEMU calls the machine.
pub(super) const MACHINE: &str = "netduinoplus2";

/// What the part tells of itself, as its reference manual has it (RM0090, chapter 39): unique id, size of its flash.
const SIGNATURE: Range<u32> = 0x1FFF_7A10..0x1FFF_7A24;

/// KiB of its flash, and where in the signature that stands.
const FLASH_KIB: u16 = 1_024;
const FLASH_KIB_AT: usize = 0x12;

/// RAM of the emulated part beyond the 128 KiB that the image knows.
const MORE_RAM: u32 = 0x2002_0000;

/// An instruction's place in it.
const SCRATCH: u32 = MORE_RAM + 0x1000;

/// Prescaler of TIM2, its address and two values: what the image sets for 16 MHz, and what makes microseconds of 1 GHz.
const PRESCALER: u32 = 0x4000_0028;
const SET_BY_IMAGE: u32 = 16 - 1;
const FOR_MICROSECONDS: u32 = 1_000 - 1;

/// The image as the emulator can run it, written to `dir`, and what QEMU must be told to load beside it: a signature with
/// that unique id, and erased settings.
pub(super) fn prepare(dir: &Path, image: &Path, id: [u8; 12]) -> Result<(PathBuf, Vec<String>)> {
    let bytes = std::fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let led = dir.join("image");
    std::fs::write(&led, lead(bytes)?)?;
    let mut signature = vec![0; SIGNATURE.len()];
    signature[..id.len()].copy_from_slice(&id);
    signature[FLASH_KIB_AT..][..2].copy_from_slice(&FLASH_KIB.to_le_bytes());
    let map = Map::of(BOARD)?;
    let settings = map.region("SETTINGS")?;
    let erased = vec![0xFF; usize::try_from(settings.end - settings.start)?];
    let mut arguments = Vec::new();
    let memory = [
        ("signature", u64::from(MORE_RAM), signature),
        ("settings", settings.start, erased),
    ];
    for (name, address, content) in memory {
        let file = dir.join(name);
        std::fs::write(&file, content)?;
        arguments.push("-device".to_owned());
        arguments.push(format!(
            "loader,file={},addr={address:#x},force-raw=on",
            file.display()
        ));
    }
    Ok((led, arguments))
}

/// The image with those of its words that lead to the signature changed to lead where that lies now.
fn lead(mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    let file = object::File::parse(&*bytes).context("this is no image")?;
    let text = file.section_by_name(".text").context("the image has no code")?;
    let (start, length) = text.file_range().context("the code is not in the file")?;
    let place = usize::try_from(start)?..usize::try_from(start + length)?;
    let mut led = BTreeSet::new();
    for bytes in bytes[place].chunks_exact_mut(4) {
        let Some(word) = bytes.first_chunk_mut() else {
            continue;
        };
        let address = u32::from_le_bytes(*word);
        if SIGNATURE.contains(&address) {
            *word = (MORE_RAM + (address - SIGNATURE.start)).to_le_bytes();
            led.insert(address);
        }
    }
    ensure!(
        led.contains(&SIGNATURE.start),
        "no word of the image's code leads to the unique id; only {led:#x?} of the signature are there"
    );
    Ok(bytes)
}

/// Once the image has begun to count time, makes that microseconds; after every reset.
pub(super) fn set_timer(debugger: &Path) -> Result<()> {
    let set = await_some(START_LIMIT, || {
        let mut debugger = Debugger::attach(debugger).ok()?;
        let is_set = debugger.read_word(PRESCALER).ok()? == SET_BY_IMAGE;
        if is_set {
            debugger.store(PRESCALER, FOR_MICROSECONDS, SCRATCH).ok()?;
        }
        debugger.detach().ok()?;
        is_set.then_some(())
    });
    set.context("the image has not set its timer")
}
