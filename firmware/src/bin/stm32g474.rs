//! The node's image for the STM32G474.
#![no_std]
#![no_main]

use embassy_futures::block_on;
use static_cell::ConstStaticCell;
use trunnion_firmware::board::{stm32g474, whole};

/// Unacknowledged waveforms: more than a second of one axis at 26.7 kHz, packed.
static WAVEFORM: ConstStaticCell<[u8; 48 << 10]> = ConstStaticCell::new([0; 48 << 10]);

#[cortex_m_rt::entry]
fn main() -> ! {
    let Some(board) = stm32g474::start() else {
        unreachable!("the line is on pins that it has");
    };
    block_on(whole::live(board, WAVEFORM.take()))
}
