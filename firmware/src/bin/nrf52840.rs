//! The node's image for the nRF52840.
#![no_std]
#![no_main]

use embassy_futures::block_on;
use static_cell::ConstStaticCell;
use trunnion_firmware::board::{nrf52840, whole};

/// Unacknowledged waveforms: three seconds of one axis at 26.7 kHz, packed.
static WAVEFORM: ConstStaticCell<[u8; 112 << 10]> = ConstStaticCell::new([0; 112 << 10]);

#[cortex_m_rt::entry]
fn main() -> ! {
    let Some(board) = nrf52840::start() else {
        unreachable!("its watchdog is started by nobody else");
    };
    block_on(whole::live(board, WAVEFORM.take()))
}
