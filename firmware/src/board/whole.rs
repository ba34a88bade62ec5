//! A board with embassy as a whole, in one future: the station with the instruments of every board, both ends of its
//! line, and the watchdog.

use super::beginning::{Life, Who};
use super::embassy::{Received, ToSend, run, ticks};
use super::instruments::{Instruments, accelerometer};
use super::life;
use crate::check_in::CheckIns;
use core::cell::RefCell;
use core::ops::Range;
use embassy_futures::join::join4;
use embassy_time::{Delay, Duration, Timer};
use embedded_hal::digital::{OutputPin, PinState};
use embedded_hal::i2c::I2c;
use embedded_hal::spi::SpiDevice;
use embedded_io_async::{Read, Write};
use embedded_storage_async::nor_flash::NorFlash;

/// How often the watchdog is fed, if everybody has checked in.
const FEED_EVERY: Duration = Duration::from_millis(250);

/// The tasks, by their bits; a line that takes nothing, or brings nothing, is no reason for a reset.
const TASKS: u32 = 1;
const NODE: u32 = 0;

/// What ends a life that does not feed it.
pub trait Watchdog {
    /// All is well.
    fn feed(&mut self);
}

/// Everything of a board that a node uses.
#[derive(Debug)]
pub struct Board<S, I, F, R, W, D, L> {
    /// What it tells of itself.
    pub who: Who,
    /// The accelerometer's bus.
    pub spi: S,
    /// The bus of the slow instruments.
    pub i2c: I,
    /// Settings' memory, and the place in it.
    pub flash: (F, Range<u32>),
    /// The line's ends. The transmitter drives a transceiver, if there is one, while bytes go out.
    pub line: (R, W),
    /// The watchdog, started.
    pub watchdog: D,
    /// The lamp, and how its pin is when it is lit.
    pub lamp: (L, PinState),
}

/// Keeps the board going for ever, with `waveform` for unacknowledged waveforms.
pub async fn live<S, I, F, R, W, D, L>(board: Board<S, I, F, R, W, D, L>, waveform: &'static mut [u8]) -> !
where
    S: SpiDevice,
    I: I2c,
    F: NorFlash,
    R: Read,
    W: Write,
    D: Watchdog,
    L: OutputPin,
{
    let (flash, place) = board.flash;
    let mut life = Life::begin(life::begin(), flash, place).await;
    let bus = RefCell::new(board.i2c);
    let accelerometer = accelerometer(&board.who, board.spi, &bus, &mut Delay, ticks);
    let mut instruments = Instruments::new(&bus);
    let mut made = life.station(board.who, accelerometer, instruments.slow(), waveform, ticks());
    let Ok(station) = &mut made else {
        unreachable!("the board brings memory enough, and every rate is not 0");
    };
    life.restore(board.who, station.node());

    let (received, to_send) = (Received::new(), ToSend::new());
    let check_ins = CheckIns::new(TASKS);
    let (mut reader, mut writer) = board.line;
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
    let mut watchdog = board.watchdog;
    let watch = async {
        loop {
            if check_ins.take_all() {
                watchdog.feed();
            }
            Timer::after(FEED_EVERY).await;
        }
    };
    let (mut lamp, lit) = board.lamp;
    let shine = |is_lit| {
        // A lamp that cannot be moved is dark, and nothing else.
        let _ = lamp.set_state(if is_lit { lit } else { !lit });
    };
    let pipes = (&received, &to_send);
    let node = run(station, &mut life.store, pipes, &check_ins, NODE, shine);
    join4(node, receive, send, watch).await.0
}
