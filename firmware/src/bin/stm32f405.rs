//! The node's image for the STM32F405.
#![no_std]
#![no_main]

use embassy_futures::block_on;
use static_cell::ConstStaticCell;
use trunnion_common::codec::LINE_FRAME_MAX;
use trunnion_firmware::board::beginning::{Life, accelerometer, settings_place};
use trunnion_firmware::board::life;
use trunnion_firmware::board::stm32f405::{self as board, Board};
use trunnion_firmware::sensor::thermometer::Thermometer;

/// Unacknowledged waveforms: two seconds of one axis at 26.7 kHz, packed.
static WAVEFORM: ConstStaticCell<[u8; 68 << 10]> = ConstStaticCell::new([0; 68 << 10]);

#[cortex_m_rt::entry]
fn main() -> ! {
    let former = life::begin();
    let Some(Board {
        who,
        mut clock,
        spi,
        i2c,
        flash,
        mut lamp,
        mut watchdog,
        mut delay,
    }) = board::start()
    else {
        unreachable!("the board is set up once, and its line is on pins that it has");
    };
    let mut life = block_on(Life::begin(former, flash, settings_place()));
    let (what, accelerometer) = accelerometer(spi, &mut delay, || clock.ticks());
    let sensors = (accelerometer, Thermometer::new(i2c));
    let mut made = life.station(who, what, sensors, WAVEFORM.take(), clock.ticks());
    let Ok(station) = &mut made else {
        unreachable!("the board brings memory enough, and every rate is not 0");
    };

    let (mut bytes, mut frames) = ([0; 256], [0; LINE_FRAME_MAX]);
    loop {
        let length = board::receive(&mut bytes);
        station.handle_bytes(clock.ticks(), &bytes[..length]);
        station.handle_time(clock.ticks());
        if let Some(image) = station.node().poll_settings() {
            let is_stored = match &mut life.store {
                Some(store) => block_on(store.keep_settings(&image)).is_ok(),
                None => false,
            };
            station.node().handle_settings_stored(clock.ticks(), is_stored);
        }
        if board::room() >= LINE_FRAME_MAX {
            let length = station.poll_transmit(clock.ticks(), &mut frames);
            board::send(&frames[..length]);
        }
        let now = clock.ticks();
        lamp.set_state((!station.node().is_identifying(now)).into());
        // This loop is the only task: who comes here has gone around it.
        watchdog.feed();
    }
}
