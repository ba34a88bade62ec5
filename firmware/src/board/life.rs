//! Lives of a node on a Cortex-M: what one leaves to the next, and what ends one.
#![allow(unsafe_code, reason = "memory that the start-up code does not touch")]

use crate::last_words::{BYTES, End, LastWords};
use core::mem::MaybeUninit;
use core::panic::PanicInfo;
use core::sync::atomic::{Ordering, compiler_fence};
use cortex_m::peripheral::SCB;

/// Memory that a reset leaves as it was.
#[unsafe(link_section = ".uninit.last_words")]
static mut LAST_WORDS: MaybeUninit<[u8; BYTES]> = MaybeUninit::uninit();

/// Begins a life; what the one before it left.
pub fn begin() -> Option<LastWords> {
    let former = told();
    leave(LastWords::alive(former));
    former
}

/// What the former life left, or this one so far.
pub fn told() -> Option<LastWords> {
    // SAFETY: any byte is a valid `u8`, and RAM that was never written reads as something; it is read volatile so
    // that the compiler does not reason about where it was written.
    LastWords::from_bytes(unsafe { (&raw const LAST_WORDS).cast::<[u8; BYTES]>().read_volatile() })
}

/// Leaves `words` to the next life.
fn leave(words: LastWords) {
    // SAFETY: written whole, and readers check it: a write that is interrupted by another one's leaves nothing that
    // would be believed.
    unsafe {
        (&raw mut LAST_WORDS)
            .cast::<[u8; BYTES]>()
            .write_volatile(words.to_bytes())
    }
    compiler_fence(Ordering::SeqCst);
}

/// Leaves how this life ends.
pub fn end(how: End, place: u32) {
    leave(told().unwrap_or(LastWords::alive(None)).ending(how, place));
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    cortex_m::interrupt::disable();
    end(End::Panic, info.location().map_or(0, core::panic::Location::line));
    SCB::sys_reset()
}

/// A fault of the processor ends like a panic, at line 0.
#[cortex_m_rt::exception]
unsafe fn HardFault(_frame: &cortex_m_rt::ExceptionFrame) -> ! {
    end(End::Panic, 0);
    SCB::sys_reset()
}
