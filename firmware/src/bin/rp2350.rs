//! The node's image for the RP2350.
#![no_std]
#![no_main]

use embassy_futures::block_on;
use static_cell::ConstStaticCell;
use trunnion_firmware::board::{rp2350, whole};

/// Unacknowledged waveforms: eight seconds of one axis at 26.7 kHz, packed.
static WAVEFORM: ConstStaticCell<[u8; 320 << 10]> = ConstStaticCell::new([0; 320 << 10]);

#[cortex_m_rt::entry]
fn main() -> ! {
    block_on(whole::live(rp2350::start(), WAVEFORM.take()))
}
