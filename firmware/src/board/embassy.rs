//! The loop around a station on a board with embassy: bytes come and go through two pipes that the board's
//! interrupts serve, and time is embassy's.

use super::life::StackWatch;
use crate::check_in::CheckIns;
use crate::sensor::Sensor;
use crate::station::Station;
use crate::store::Store;
use embassy_futures::select::{Either, select};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::pipe::Pipe;
use embassy_time::{Instant, Timer};
use embedded_storage_async::nor_flash::NorFlash;
use trunnion_common::codec::LINE_FRAME_MAX;
use trunnion_common::time::NodeTicks;

/// From the line's interrupt to the node. When it is full, bytes are dropped: their frame does not pass its
/// checksum, and the agent repeats it.
pub type Received = Pipe<CriticalSectionRawMutex, 1_024>;

/// From the node to the line. The node writes only what fits.
pub type ToSend = Pipe<CriticalSectionRawMutex, { 2 * LINE_FRAME_MAX }>;

/// Ticks since boot: embassy's clock begins at the reset.
pub fn ticks() -> NodeTicks {
    NodeTicks(Instant::now().as_micros())
}

/// Keeps a station going for ever; `lamp` is lit or not.
pub async fn run<A: Sensor<AXES>, const AXES: usize, const SLOW: usize, F: NorFlash>(
    station: &mut Station<'_, A, AXES, SLOW>,
    store: &mut Option<Store<F>>,
    (received, to_send): (&Received, &ToSend),
    check_ins: &CheckIns,
    task: u32,
    mut lamp: impl FnMut(bool),
) -> ! {
    let (mut bytes, mut frames) = ([0; 256], [0; LINE_FRAME_MAX]);
    let mut stack = StackWatch::default();
    loop {
        check_ins.check_in(task);
        while let Ok(length) = received.try_read(&mut bytes) {
            station.handle_bytes(ticks(), &bytes[..length]);
        }
        station.handle_time(ticks());
        if let Some(image) = station.node().poll_settings() {
            let is_stored = match store {
                Some(store) => store.keep_settings(&image).await.is_ok(),
                None => false,
            };
            station.node().handle_settings_stored(ticks(), is_stored);
        }
        while to_send.free_capacity() >= LINE_FRAME_MAX {
            let length = station.poll_transmit(ticks(), &mut frames);
            if length == 0 {
                break;
            }
            // It fits, so this does not wait; the pipe takes what crosses the end of its ring in two parts.
            to_send.write_all(&frames[..length]).await;
        }
        let now = ticks();
        lamp(station.node().is_identifying(now));
        stack.handle_time(now);
        // A line that takes nothing delays frames, not samples: the station's timer goes on.
        let wake = Instant::from_micros(station.poll_timeout().0);
        let soonest = Instant::now() + embassy_time::Duration::from_millis(1);
        if let Either::First(length) = select(received.read(&mut bytes), Timer::at(wake.max(soonest))).await {
            station.handle_bytes(ticks(), &bytes[..length]);
        }
    }
}
