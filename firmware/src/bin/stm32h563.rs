//! The node's image for the STM32H563.
#![no_std]
#![no_main]

use embassy_futures::block_on;
use static_cell::ConstStaticCell;
use trunnion_firmware::board::{stm32h563, whole};

/// Unacknowledged waveforms: ten seconds of one axis at 26.7 kHz, packed.
static WAVEFORM: ConstStaticCell<[u8; 384 << 10]> = ConstStaticCell::new([0; 384 << 10]);

#[cortex_m_rt::entry]
fn main() -> ! {
    let Some(board) = stm32h563::start() else {
        unreachable!("the line is on pins that it has");
    };
    block_on(whole::live(board, WAVEFORM.take()))
}
