//! Lives of a node on a Cortex-M: what one leaves to the next, and what ends one.
#![allow(unsafe_code, reason = "memory that the start-up code does not touch")]

use crate::last_words::{BYTES, End, LastWords, Stack};
use core::mem::MaybeUninit;
use core::panic::PanicInfo;
use core::sync::atomic::{Ordering, compiler_fence};
use cortex_m::peripheral::SCB;
use trunnion_common::time::NodeTicks;

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
    let words = told().unwrap_or(LastWords::alive(None));
    leave(words.ending(how, place).with_stack(stack()));
}

/// What the stack is painted with before the first instruction of `main` (`cortex-m-rt`).
const PAINT: u32 = 0xCCCC_CCCC;

/// How much of the stack this life has used: all above the lowest word that has lost its paint.
fn stack() -> Stack {
    // SAFETY: `cortex-m-rt` defines them at the end of the statics and at the beginning of the stack, which grows down;
    // only their addresses are asked for.
    unsafe extern "C" {
        safe static __sheap: u32;
        safe static _stack_start: u32;
    }
    let (end, start) = (&raw const __sheap as usize, &raw const _stack_start as usize);
    let mut lowest = end;
    // SAFETY: the words from one to the other are RAM that nothing but the stack has; they are read volatile, since no
    // Rust object is there where the paint still is.
    while lowest < start && unsafe { (lowest as *const u32).read_volatile() } == PAINT {
        lowest += size_of::<u32>();
    }
    Stack {
        used: (start - lowest) as u32,
        room: (start - end) as u32,
    }
}

/// How often a life looks at its stack, microseconds: it takes a millisecond or so, most of it early in a life.
const LOOK_MICROS: u64 = 10_000_000;

/// Looks at the stack now and then, and leaves to the next life how much was used.
#[derive(Debug, Default)]
pub struct StackWatch {
    next: NodeTicks,
}

impl StackWatch {
    /// Looks, if it is time.
    pub fn handle_time(&mut self, now: NodeTicks) {
        if now < self.next {
            return;
        }
        self.next = now.plus_micros(LOOK_MICROS);
        let words = told().unwrap_or(LastWords::alive(None));
        let stack = stack();
        if stack.used > words.stack.used {
            leave(words.with_stack(stack));
        }
    }
}

/// The compiler wants one. Images are built without what leads here (`-Cpanic=immediate-abort`): a panic is an undefined
/// instruction, as this is.
#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    cortex_m::asm::udf()
}

/// A panic, or a fault of the processor: its place is the address of the instruction.
#[cortex_m_rt::exception]
unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
    end(End::Panic, frame.pc());
    SCB::sys_reset()
}
