//! The node's image for the STM32F405.
#![no_std]
#![no_main]

use core::num::NonZeroU32;
use embassy_futures::block_on;
use static_cell::ConstStaticCell;
use trunnion_common::codec::LINE_FRAME_MAX;
use trunnion_common::frame::ResetCause;
use trunnion_common::id::{BootId, LineAddress, NodeId};
use trunnion_firmware::board::life;
use trunnion_firmware::board::stm32f405::{self as board, Board};
use trunnion_firmware::channel::{FORMING_SAMPLES, Forming};
use trunnion_firmware::last_words::{End, LastWords};
use trunnion_firmware::link::Wiring;
use trunnion_firmware::node::{Identity, Memory};
use trunnion_firmware::sensor::iis3dwb::{Axis, Iis3dwb, RATE_MHZ, Range};
use trunnion_firmware::sensor::thermometer::Thermometer;
use trunnion_firmware::sensor::{Absent, Fitted};
use trunnion_firmware::settings::LineSpeed;
use trunnion_firmware::station::{Accelerometer, Station};
use trunnion_firmware::store::Store;

/// Unacknowledged waveforms: two seconds of one axis at 26.7 kHz, packed.
const WAVEFORM_BYTES: usize = 72 << 10;

/// Unacknowledged frames of everything else.
const ESSENTIAL_BYTES: usize = 8 << 10;

const LINE_BYTES_PER_S: u32 = 92_160;

const RATE: NonZeroU32 = NonZeroU32::new(RATE_MHZ).expect("not 0");

static ESSENTIAL: ConstStaticCell<[u8; ESSENTIAL_BYTES]> = ConstStaticCell::new([0; ESSENTIAL_BYTES]);
static WAVEFORM: ConstStaticCell<[u8; WAVEFORM_BYTES]> = ConstStaticCell::new([0; WAVEFORM_BYTES]);
static FORMING: ConstStaticCell<[Forming; 2]> = ConstStaticCell::new([[0; FORMING_SAMPLES]; 2]);
static FRAME: ConstStaticCell<[u8; LINE_FRAME_MAX]> = ConstStaticCell::new([0; LINE_FRAME_MAX]);

#[cortex_m_rt::entry]
fn main() -> ! {
    let former = life::former();
    let own = LastWords::alive(former);
    life::leave(own);
    let Some(Board {
        mut clock,
        spi,
        i2c,
        flash,
        mut lamp,
        mut watchdog,
        mut delay,
        entropy,
        reset,
    }) = board::start()
    else {
        unreachable!("the board is set up once, and its line is on pins that it has");
    };
    let mut store = Store::new(flash, board::STORE).ok();
    let counter = match &mut store {
        Some(kept) => block_on(kept.next_boot()).ok(),
        None => None,
    };
    if counter.is_none() {
        store = None;
    }
    let identity = Identity {
        node: board::node_id().unwrap_or(NodeId::new(0x405).expect("not 0")),
        boot: BootId::new(counter.unwrap_or(own.lives), entropy),
        address: LineAddress(1),
        wiring: Wiring::Own,
        reset,
    };
    let memory = Memory {
        essential: ESSENTIAL.take(),
        waveform: WAVEFORM.take(),
        forming: FORMING.take(),
        line: FRAME.take(),
    };
    let what = Accelerometer {
        rate_mhz: RATE,
        range_g: Range::G16.full_scale_g(),
        // Its 3 dB band (DS12569, table 3).
        band_hz: [5.0, 6_000.0],
    };
    let accelerometer = match Iis3dwb::new(spi, Range::G16, &mut delay) {
        Ok(part) => Fitted::Present(Axis::new(part, 2, RATE)),
        Err(_) => Fitted::Absent(Absent::new(RATE, clock.ticks())),
    };
    let sensors = (accelerometer, Thermometer::new(i2c));
    let former = hardware_knows_better(former, reset);
    let Ok(mut station) = Station::new(identity, former, what, sensors, memory, clock.ticks()) else {
        unreachable!("the memory above is large enough, and every rate is not 0");
    };
    station
        .node()
        .set_line_speed(LineSpeed::BytesPerSecond(LINE_BYTES_PER_S));
    if let Some(kept) = &mut store {
        // What cannot be read is as good as never stored: every channel is sent raw.
        let image = block_on(kept.settings()).ok().flatten();
        let _ = station.node().restore_settings(image.as_deref());
    }

    let (mut bytes, mut frames) = ([0; 256], [0; LINE_FRAME_MAX]);
    loop {
        let length = board::receive(&mut bytes);
        station.handle_bytes(clock.ticks(), &bytes[..length]);
        station.handle_time(clock.ticks());
        if let Some(image) = station.node().poll_settings() {
            let is_stored = match &mut store {
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

/// A watchdog that gives no warning leaves no last words: the hardware tells of it.
fn hardware_knows_better(former: Option<LastWords>, reset: ResetCause) -> Option<LastWords> {
    match (former, reset) {
        (Some(former), ResetCause::Watchdog) => Some(former.ending(End::Watchdog, 0)),
        (former, _) => former,
    }
}
