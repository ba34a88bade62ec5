//! The node's image for the STM32F405.
#![no_std]
#![no_main]

use core::cell::RefCell;
use embassy_futures::block_on;
use static_cell::ConstStaticCell;
use trunnion_common::codec::LINE_FRAME_MAX;
use trunnion_firmware::board::beginning::{Life, settings_place};
use trunnion_firmware::board::instruments::{Instruments, accelerometer};
use trunnion_firmware::board::life;
use trunnion_firmware::board::stm32f405::{self as board, Board, Cycles, InternalFlash, ticks};
use trunnion_firmware::flash::Blocking;
use trunnion_firmware::last_words::LastWords;
use trunnion_firmware::settings::Image;
use trunnion_firmware::store::Store;

type Flash = Blocking<InternalFlash>;

/// Unacknowledged waveforms: two seconds of one axis at 26.7 kHz, packed.
static WAVEFORM: ConstStaticCell<[u8; 68 << 10]> = ConstStaticCell::new([0; 68 << 10]);

/// What the memory for settings is asked stands on the stack only meanwhile.
#[inline(never)]
fn begin(former: Option<LastWords>, flash: Flash) -> Life<Flash> {
    block_on(Life::begin(former, flash, settings_place()))
}

/// Stores settings, in the same way.
#[inline(never)]
fn keep(store: &mut Option<Store<Flash>>, image: &Image) -> bool {
    match store {
        Some(store) => block_on(store.keep_settings(image)).is_ok(),
        None => false,
    }
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let former = life::begin();
    let Some(Board {
        who,
        spi,
        i2c,
        flash,
        mut lamp,
        mut watchdog,
    }) = board::start()
    else {
        unreachable!("the board is set up once, and its line is on pins that it has");
    };
    let mut kept = begin(former, flash);
    let bus = RefCell::new(i2c);
    let accelerometer = accelerometer(&who, spi, &bus, &mut Cycles, ticks);
    let mut instruments = Instruments::new(&bus);
    let mut made = kept.station(who, accelerometer, instruments.slow(), WAVEFORM.take(), ticks());
    let Ok(station) = &mut made else {
        unreachable!("the board brings memory enough, and every rate is not 0");
    };
    kept.restore(who, station.node());

    let (mut bytes, mut frames) = ([0; 256], [0; LINE_FRAME_MAX]);
    let mut stack = life::StackWatch::default();
    loop {
        let length = board::receive(&mut bytes);
        station.handle_bytes(ticks(), &bytes[..length]);
        station.handle_time(ticks());
        if let Some(image) = station.node().poll_settings() {
            let is_stored = keep(&mut kept.store, &image);
            station.node().handle_settings_stored(ticks(), is_stored);
        }
        if board::room() >= LINE_FRAME_MAX {
            let length = station.poll_transmit(ticks(), &mut frames);
            board::send(&frames[..length]);
        }
        let now = ticks();
        lamp.set_state((!station.node().is_identifying(now)).into());
        stack.handle_time(now);
        // This loop is the only task: who comes here has gone around it.
        watchdog.feed();
    }
}
