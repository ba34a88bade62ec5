//! The node's image for QEMU's `mps2-an386`.
#![no_std]
#![no_main]

use core::num::NonZeroU32;
use embassy_executor::{SendSpawner, SpawnError, SpawnToken};
use embassy_time::{Duration, Timer, with_timeout};
use static_cell::ConstStaticCell;
use trunnion_common::time::NodeTicks;
use trunnion_firmware::board::beginning::{Life, Who};
use trunnion_firmware::board::embassy::{Received, ToSend, run, ticks};
use trunnion_firmware::board::{life, qemu_an386 as board};
use trunnion_firmware::check_in::CheckIns;
use trunnion_firmware::eeprom::Eeprom;
use trunnion_firmware::last_words::{LastWords, reset_cause};
use trunnion_firmware::sensor::record::{Player, Record};
use trunnion_firmware::sensor::thermometer::Thermometer;
use trunnion_firmware::sensor::{Absent, Batch, Sensor};
use trunnion_firmware::station::{Accelerometer, Quantity, Slow};

/// The EEPROM's bytes that the store has: four pages.
const STORE: core::ops::Range<u32> = 0..4_096;

/// The line as fast as a board of this kind drives it.
const LINE_BYTES_PER_S: u32 = 92_160;

/// How often the watchdog is fed, if everybody has checked in.
const FEED_EVERY: Duration = Duration::from_millis(250);

/// Each task, by its bit.
static CHECK_INS: CheckIns = CheckIns::new(2);
const NODE: u32 = 0;
const LINE: u32 = 1;

static RECEIVED: Received = Received::new();
static TO_SEND: ToSend = ToSend::new();

/// Unacknowledged waveforms: two seconds of 12 kHz.
static WAVEFORM: ConstStaticCell<[u8; 64 << 10]> = ConstStaticCell::new([0; 64 << 10]);

/// What is declared where no record was loaded.
const NOTHING: Accelerometer = Accelerometer {
    rate_mhz: NonZeroU32::new(12_000_000).expect("not 0"),
    range_g: 16.0,
    band_hz: [1.0, 4_800.0],
};

#[cortex_m_rt::entry]
fn main() -> ! {
    let former = life::begin();
    board::Watchdog.start();
    let spawner = board::start(&RECEIVED);
    spawn(spawner, node(former));
    spawn(spawner, line());
    spawn(spawner, watchdog());
    loop {
        cortex_m::asm::wfi();
    }
}

fn spawn<S: Send>(spawner: SendSpawner, task: Result<SpawnToken<S>, SpawnError>) {
    match task {
        Ok(task) => spawner.spawn(task),
        Err(_) => unreachable!("each task is started once, and has room for one of it"),
    }
}

/// The node: sensors, outbox, settings.
#[embassy_executor::task]
async fn node(former: Option<LastWords>) {
    let eeprom = Eeprom::new(board::Bus, 0x50, 32 << 10);
    let mut life = Life::begin(former, eeprom, STORE).await;
    let (id, entropy, wiring) = board::identity();
    let who = Who {
        id,
        entropy,
        reset: reset_cause(former),
        has_crystal: true,
        wiring,
        line_bytes_per_s: LINE_BYTES_PER_S,
    };
    let start = ticks();
    let accelerometer = match Record::parse(board::stimulus()) {
        Ok(record) => (declared(&record), Either::Playing(Player::new(record, start))),
        Err(_) => (NOTHING, Either::Absent(Absent::new(NOTHING.rate_mhz, start))),
    };
    let mut thermometer = Thermometer::new(board::Bus);
    let slow: [Slow<'_>; 1] = [(Quantity::HOUSING, &mut thermometer)];
    let mut made = life.station(who, accelerometer, slow, WAVEFORM.take(), start);
    let Ok(station) = &mut made else {
        unreachable!("the board brings memory enough, and every rate is not 0");
    };
    life.restore(who, station.node());
    let pipes = (&RECEIVED, &TO_SEND);
    // It has no lamp.
    run(station, &mut life.store, pipes, &CHECK_INS, NODE, |_| ()).await
}

/// What a record says of the sensor that took it.
fn declared(record: &Record<'_>) -> Accelerometer {
    Accelerometer {
        rate_mhz: record.rate_mhz,
        range_g: record.range_g,
        // What an anti-alias filter leaves of the half of the rate.
        band_hz: [1.0, record.rate_mhz.get() as f32 / 1_000.0 * 0.4],
    }
}

/// The accelerometer, if there is one.
enum Either {
    Playing(Player<'static>),
    Absent(Absent),
}

impl Sensor for Either {
    fn read(&mut self, now: NodeTicks, out: &mut [[i16; 1]]) -> Batch {
        match self {
            Self::Playing(player) => player.read(now, out),
            Self::Absent(absent) => absent.read(now, out),
        }
    }
}

/// Bytes to the line, as it takes them.
#[embassy_executor::task]
async fn line() {
    let mut bytes = [0; 256];
    loop {
        CHECK_INS.check_in(LINE);
        if let Ok(length) = with_timeout(FEED_EVERY, TO_SEND.read(&mut bytes)).await {
            // A line that takes nothing is no reason for a reset.
            board::UART_0
                .write(&bytes[..length], || CHECK_INS.check_in(LINE))
                .await;
        }
    }
}

/// Feeds the watchdog as long as everybody is alive.
#[embassy_executor::task]
async fn watchdog() {
    loop {
        if CHECK_INS.take_all() {
            board::Watchdog.feed();
        }
        Timer::after(FEED_EVERY).await;
    }
}
