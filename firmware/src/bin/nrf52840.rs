//! The node's image for the nRF52840.
#![no_std]
#![no_main]

use embassy_futures::block_on;
use static_cell::ConstStaticCell;
use trunnion_common::codec::LINE_FRAME_MAX;
use trunnion_firmware::board::nrf52840::{self as board, Board};
use trunnion_firmware::board::whole::{Parts, live};
use trunnion_firmware::channel::{FORMING_SAMPLES, Forming};
use trunnion_firmware::node::Memory;

/// Unacknowledged waveforms: three seconds of one axis at 26.7 kHz, packed.
const WAVEFORM_BYTES: usize = 112 << 10;

/// Unacknowledged frames of everything else.
const ESSENTIAL_BYTES: usize = 8 << 10;

static ESSENTIAL: ConstStaticCell<[u8; ESSENTIAL_BYTES]> = ConstStaticCell::new([0; ESSENTIAL_BYTES]);
static WAVEFORM: ConstStaticCell<[u8; WAVEFORM_BYTES]> = ConstStaticCell::new([0; WAVEFORM_BYTES]);
static FORMING: ConstStaticCell<[Forming; 2]> = ConstStaticCell::new([[0; FORMING_SAMPLES]; 2]);
static FRAME: ConstStaticCell<[u8; LINE_FRAME_MAX]> = ConstStaticCell::new([0; LINE_FRAME_MAX]);

#[cortex_m_rt::entry]
fn main() -> ! {
    let Some(Board {
        id,
        entropy,
        reset,
        spi,
        i2c,
        flash,
        line,
        line_bytes_per_s,
        mut watchdog,
    }) = board::start()
    else {
        unreachable!("its watchdog is started by nobody else");
    };
    let parts = Parts {
        id,
        entropy,
        reset,
        spi,
        i2c,
        flash,
        line,
        line_bytes_per_s,
        memory: Memory {
            essential: ESSENTIAL.take(),
            waveform: WAVEFORM.take(),
            forming: FORMING.take(),
            line: FRAME.take(),
        },
    };
    block_on(live(parts, || watchdog.pet()))
}
