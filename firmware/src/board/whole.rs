//! A board with embassy as a whole, in one future: the station with the sensors of every board, both ends of its line,
//! and the watchdog.

use super::embassy::{Received, ToSend, run, ticks};
use super::life;
use crate::check_in::CheckIns;
use crate::last_words::{End, LastWords};
use crate::link::Wiring;
use crate::node::{Identity, Memory};
use crate::sensor::iis3dwb::{Axis, Iis3dwb, RATE_MHZ, Range};
use crate::sensor::thermometer::Thermometer;
use crate::sensor::{Absent, Fitted};
use crate::settings::LineSpeed;
use crate::station::{Accelerometer, Station};
use crate::store::Store;
use core::num::NonZeroU32;
use embassy_futures::join::join4;
use embassy_time::{Delay, Duration, Timer};
use embedded_hal::i2c::I2c;
use embedded_hal::spi::SpiDevice;
use embedded_io_async::{Read, Write};
use embedded_storage_async::nor_flash::NorFlash;
use trunnion_common::frame::ResetCause;
use trunnion_common::id::{BootId, LineAddress, NodeId};

const RATE: NonZeroU32 = NonZeroU32::new(RATE_MHZ).expect("not 0");

/// How often the watchdog is fed, if everybody has checked in.
const FEED_EVERY: Duration = Duration::from_millis(250);

/// The tasks, by their bits; a line that takes nothing, or brings nothing, is no reason for a reset.
const TASKS: u32 = 1;
const NODE: u32 = 0;

/// What a board brings.
#[derive(Debug)]
pub struct Parts<'m, S, I, F, R, W> {
    /// The part's own id; 0 is none.
    pub id: u64,
    /// Drawn anew at each boot.
    pub entropy: u32,
    /// Why it was reset, as the hardware tells.
    pub reset: ResetCause,
    /// The accelerometer's bus.
    pub spi: S,
    /// The thermometer's bus.
    pub i2c: I,
    /// Settings' memory, and the place in it.
    pub flash: (F, core::ops::Range<u32>),
    /// The line's ends.
    pub line: (R, W),
    /// Bytes a second that the line carries.
    pub line_bytes_per_s: u32,
    /// What the node works in.
    pub memory: Memory<'m>,
}

/// Keeps the board going for ever; `feed` feeds its watchdog.
pub async fn live<S, I, F, R, W>(parts: Parts<'_, S, I, F, R, W>, mut feed: impl FnMut()) -> !
where
    S: SpiDevice,
    I: I2c,
    F: NorFlash,
    R: Read,
    W: Write,
{
    let former = life::former();
    let own = LastWords::alive(former);
    life::leave(own);
    let (flash, place) = parts.flash;
    let mut store = Store::new(flash, place).ok();
    let counter = match &mut store {
        Some(kept) => kept.next_boot().await.ok(),
        None => None,
    };
    if counter.is_none() {
        store = None;
    }
    let identity = Identity {
        node: NodeId::new(parts.id).unwrap_or(NodeId::new(1).expect("not 0")),
        boot: BootId::new(counter.unwrap_or(own.lives), parts.entropy),
        address: LineAddress(1),
        wiring: Wiring::Own,
        reset: parts.reset,
    };
    let what = Accelerometer {
        rate_mhz: RATE,
        range_g: Range::G16.full_scale_g(),
        // Its 3 dB band (DS12569, table 3).
        band_hz: [5.0, 6_000.0],
    };
    let accelerometer = match Iis3dwb::new(parts.spi, Range::G16, &mut Delay) {
        Ok(part) => Fitted::Present(Axis::new(part, 2, RATE)),
        Err(_) => Fitted::Absent(Absent::new(RATE, ticks())),
    };
    let sensors = (accelerometer, Thermometer::new(parts.i2c));
    // A watchdog that gives no warning leaves no last words: the hardware tells of it.
    let former = match (former, parts.reset) {
        (Some(former), ResetCause::Watchdog) => Some(former.ending(End::Watchdog, 0)),
        (former, _) => former,
    };
    let Ok(mut station) = Station::new(identity, former, what, sensors, parts.memory, ticks()) else {
        unreachable!("a board brings memory enough, and every rate is not 0");
    };
    station
        .node()
        .set_line_speed(LineSpeed::BytesPerSecond(parts.line_bytes_per_s));
    if let Some(kept) = &mut store {
        // What cannot be read is as good as never stored: every channel is sent raw.
        let image = kept.settings().await.ok().flatten();
        let _ = station.node().restore_settings(image.as_deref());
    }

    let (received, to_send) = (Received::new(), ToSend::new());
    let check_ins = CheckIns::new(TASKS);
    let (mut reader, mut writer) = parts.line;
    let receive = async {
        let mut bytes = [0; 256];
        loop {
            // Noise is an error of the line, and no end of it.
            if let Ok(length) = reader.read(&mut bytes).await {
                // The pipe takes what crosses the end of its ring in two parts; see `Received` for a full one.
                let mut rest = &bytes[..length];
                while !rest.is_empty()
                    && let Ok(taken) = received.try_write(rest)
                {
                    rest = &rest[taken..];
                }
            }
        }
    };
    let send = async {
        let mut bytes = [0; 256];
        loop {
            let length = to_send.read(&mut bytes).await;
            // What is lost here is sent again when no acknowledgement comes.
            let _ = writer.write_all(&bytes[..length]).await;
        }
    };
    let watch = async {
        loop {
            if check_ins.take_all() {
                feed();
            }
            Timer::after(FEED_EVERY).await;
        }
    };
    let node = run(&mut station, &mut store, (&received, &to_send), &check_ins, NODE);
    join4(node, receive, send, watch).await.0
}
