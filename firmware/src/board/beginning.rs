//! How a node begins on every board: which life this is, where it keeps what outlives it, and the station's memory.
#![allow(unsafe_code, reason = "symbols of the linker script")]

use crate::channel::{FORMING_SAMPLES, Forming};
use crate::last_words::{End, LastWords};
use crate::link::Wiring;
use crate::node::{Identity, Memory, Node, NodeError};
use crate::sensor::Sensor;
use crate::settings::{Image, LineSpeed};
use crate::station::{Accelerometer, Slow, Station};
use crate::store::Store;
use core::ops::Range;
use embedded_storage_async::nor_flash::NorFlash;
use static_cell::ConstStaticCell;
use trunnion_common::codec::LINE_FRAME_MAX;
use trunnion_common::frame::{Event, EventKind, ResetCause, Severity};
use trunnion_common::id::{BootId, NodeId};
use trunnion_common::time::NodeTicks;

/// Axes of the accelerometer: a record that QEMU plays has one.
pub const AXES: usize = if cfg!(feature = "qemu-an386") { 1 } else { 3 };

/// Unacknowledged frames of everything but waveforms.
const ESSENTIAL_BYTES: usize = 8 << 10;

static ESSENTIAL: ConstStaticCell<[u8; ESSENTIAL_BYTES]> = ConstStaticCell::new([0; ESSENTIAL_BYTES]);
static FORMING: ConstStaticCell<[Forming; AXES]> = ConstStaticCell::new([[0; FORMING_SAMPLES]; AXES]);
static FRAME: ConstStaticCell<[u8; LINE_FRAME_MAX]> = ConstStaticCell::new([0; LINE_FRAME_MAX]);

/// What a node without a crystal has to tell. What depends on its clock it does not measure: samples at a rate that is
/// off by more than bearings slip would name the wrong element.
const NO_CRYSTAL: Event = Event {
    severity: Severity::Alarm,
    kind: EventKind::NoCrystal,
    channel: None,
    repeats: 1,
    value: 0.0,
};

/// What a board tells of itself.
#[derive(Clone, Copy, Debug)]
pub struct Who {
    /// The part's own id; 0 where it is not programmed.
    pub id: u64,
    /// Drawn anew at each boot, or at least at each power-on.
    pub entropy: u32,
    /// Why it was reset.
    pub reset: ResetCause,
    /// Whether its clock is a crystal's.
    pub has_crystal: bool,
    /// Who else is on the line.
    pub wiring: Wiring,
    /// Bytes a second that the line carries.
    pub line_bytes_per_s: u32,
}

/// Where settings lie in the flash, from its start, as the board's memory map has it.
pub fn settings_place() -> Range<u32> {
    // SAFETY: every board with settings in its flash includes `memory/settings.x`, which defines them; only their
    // addresses are asked for.
    unsafe extern "C" {
        safe static __settings_start: u8;
        safe static __settings_end: u8;
    }
    (&raw const __settings_start) as u32..(&raw const __settings_end) as u32
}

/// What a strap says of the line: left open it is this node's own, to ground other nodes share it.
pub const fn strapped(is_grounded: bool) -> Wiring {
    if is_grounded { Wiring::Shared } else { Wiring::Own }
}

/// Why a part was reset, by its flags, of which it may have set several: the first one of these.
pub fn reset_cause(flags: impl IntoIterator<Item = (bool, ResetCause)>) -> ResetCause {
    let set = flags.into_iter().find(|(is_set, _)| *is_set);
    set.map_or(ResetCause::Unknown, |(_, cause)| cause)
}

/// A life that has been counted.
pub struct Life<F: NorFlash> {
    /// What outlives it; nothing where that memory does not answer.
    pub store: Option<Store<F>>,
    former: Option<LastWords>,
    boot: u32,
    /// What was stored last. What cannot be read is as good as never stored.
    settings: Option<Image>,
}

impl<F: NorFlash> Life<F> {
    /// Counts a life after `former` in `place` of `flash`. Without such memory the lives since power-on tell boots
    /// apart, with the entropy of the power-on.
    pub async fn begin(former: Option<LastWords>, flash: F, place: Range<u32>) -> Self {
        let mut store = Store::new(flash, place).ok();
        let counter = match &mut store {
            Some(kept) => kept.next_boot().await.ok(),
            None => None,
        };
        let mut store = store.filter(|_| counter.is_some());
        let settings = match &mut store {
            Some(kept) => kept.settings().await.ok().flatten(),
            None => None,
        };
        Self {
            store,
            former,
            boot: counter.unwrap_or(LastWords::alive(former).lives),
            settings,
        }
    }

    /// The station of this life, once: it samples from `start` on, in memory that this module has beside `waveform`, for
    /// unacknowledged waveforms. It is best used where it is: each move takes its size of the stack.
    /// [`Self::restore`] comes next.
    #[inline(never)]
    pub fn station<'m, A: Sensor<AXES>, const SLOW: usize>(
        &self,
        who: Who,
        accelerometer: (Accelerometer, A),
        slow: [Slow<'m>; SLOW],
        waveform: &'static mut [u8],
        start: NodeTicks,
    ) -> Result<Station<'m, A, AXES, SLOW>, NodeError> {
        let identity = Identity {
            // Who has no id can be the line's only node alone.
            node: NodeId::new(who.id).unwrap_or(NodeId::new(1).expect("not 0")),
            boot: BootId::new(self.boot, who.entropy),
            address: who.wiring.first_address(),
            wiring: who.wiring,
            reset: who.reset,
        };
        let memory = Memory {
            essential: ESSENTIAL.take(),
            waveform,
            forming: FORMING.take(),
            line: FRAME.take(),
        };
        // A watchdog that gives no warning leaves no last words: the hardware tells of it.
        let former = match (self.former, who.reset) {
            (Some(former), ResetCause::Watchdog) => Some(former.ending(End::Watchdog, 0)),
            (former, _) => former,
        };
        Station::new(identity, former, accelerometer, slow, memory, start)
    }

    /// Gives this life's node what it can have: plans for its line, or those that were stored.
    #[inline(never)]
    pub fn restore(&self, who: Who, node: &mut Node<'_>) {
        node.set_line_speed(LineSpeed::BytesPerSecond(who.line_bytes_per_s));
        node.plan_for_line();
        if !who.has_crystal {
            node.handle_former(NO_CRYSTAL);
        }
        if self.store.is_some() {
            let _ = node.restore_settings(self.settings.as_deref());
        }
    }
}
