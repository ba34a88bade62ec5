//! The node's image for QEMU's `mps2-an386`.
#![no_std]
#![no_main]

use core::num::NonZeroU32;
use embassy_executor::{SendSpawner, SpawnError, SpawnToken};
use embassy_time::{Duration, Timer, with_timeout};
use static_cell::ConstStaticCell;
use trunnion_common::codec::LINE_FRAME_MAX;
use trunnion_common::id::{BootId, LineAddress, NodeId};
use trunnion_common::time::NodeTicks;
use trunnion_firmware::board::embassy::{Received, ToSend, run, ticks};
use trunnion_firmware::board::{life, qemu_an386 as board};
use trunnion_firmware::channel::{FORMING_SAMPLES, Forming};
use trunnion_firmware::check_in::CheckIns;
use trunnion_firmware::eeprom::Eeprom;
use trunnion_firmware::last_words::{LastWords, reset_cause};
use trunnion_firmware::link::Wiring;
use trunnion_firmware::node::{Identity, Memory};
use trunnion_firmware::sensor::record::{Player, Record};
use trunnion_firmware::sensor::thermometer::Thermometer;
use trunnion_firmware::sensor::{Absent, Batch, Sensor};
use trunnion_firmware::settings::LineSpeed;
use trunnion_firmware::station::{Accelerometer, Station};
use trunnion_firmware::store::Store;

/// Unacknowledged waveforms: two seconds of 12 kHz.
const WAVEFORM_BYTES: usize = 64 << 10;

/// Unacknowledged frames of everything else.
const ESSENTIAL_BYTES: usize = 8 << 10;

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

static ESSENTIAL: ConstStaticCell<[u8; ESSENTIAL_BYTES]> = ConstStaticCell::new([0; ESSENTIAL_BYTES]);
static WAVEFORM: ConstStaticCell<[u8; WAVEFORM_BYTES]> = ConstStaticCell::new([0; WAVEFORM_BYTES]);
static FORMING: ConstStaticCell<[Forming; 2]> = ConstStaticCell::new([[0; FORMING_SAMPLES]; 2]);
static FRAME: ConstStaticCell<[u8; LINE_FRAME_MAX]> = ConstStaticCell::new([0; LINE_FRAME_MAX]);

/// What is declared where no record was loaded.
const NOTHING: Accelerometer = Accelerometer {
    rate_mhz: NonZeroU32::new(12_000_000).expect("not 0"),
    range_g: 16.0,
    band_hz: [1.0, 4_800.0],
};

#[cortex_m_rt::entry]
fn main() -> ! {
    let former = life::former();
    let own = LastWords::alive(former);
    life::leave(own);
    board::Watchdog.start();
    let spawner = board::start(&RECEIVED);
    spawn(spawner, node(former, own));
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
async fn node(former: Option<LastWords>, own: LastWords) {
    // Without an EEPROM the lives since power-on tell boots apart, with the entropy of the power-on.
    let mut store = Store::new(Eeprom::new(board::Bus, 0x50, 32 << 10), STORE).ok();
    let counter = match &mut store {
        Some(kept) => kept.next_boot().await.ok(),
        None => None,
    };
    if counter.is_none() {
        store = None;
    }
    let (id, entropy) = board::id_and_entropy();
    let identity = Identity {
        // A part whose id reads as zero is not programmed; the line's only node may be anybody.
        node: NodeId::new(id).unwrap_or(NodeId::new(0x386).expect("not 0")),
        boot: BootId::new(counter.unwrap_or(own.lives), entropy),
        address: LineAddress(1),
        wiring: Wiring::Own,
        reset: reset_cause(former),
    };
    let memory = Memory {
        essential: ESSENTIAL.take(),
        waveform: WAVEFORM.take(),
        forming: FORMING.take(),
        line: FRAME.take(),
    };
    let start = ticks();
    let (what, accelerometer) = match Record::parse(board::stimulus()) {
        Ok(record) => (declared(&record), Either::Playing(Player::new(record, start))),
        Err(_) => (NOTHING, Either::Absent(Absent::new(NOTHING.rate_mhz, start))),
    };
    let sensors = (accelerometer, Thermometer::new(board::Bus));
    let Ok(mut station) = Station::new(identity, former, what, sensors, memory, start) else {
        unreachable!("the memory above is large enough, and every rate is not 0");
    };
    station
        .node()
        .set_line_speed(LineSpeed::BytesPerSecond(LINE_BYTES_PER_S));
    if let Some(kept) = &mut store {
        // What cannot be read is as good as never stored: every channel is sent raw.
        let image = kept.settings().await.ok().flatten();
        let _ = station.node().restore_settings(image.as_deref());
    }
    run(&mut station, &mut store, (&RECEIVED, &TO_SEND), &CHECK_INS, NODE).await
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
    fn read(&mut self, now: NodeTicks, out: &mut [i16]) -> Batch {
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
