//! The shaft's tachometer on every board: each pulse interrupts whatever goes on, and is stamped there.

use crate::sensor::Gauge;
use crate::sensor::tachometer::{Tachometer, Wheel};
use core::cell::RefCell;
use core::num::NonZeroU16;
use cortex_m::interrupt::{Mutex, free};
use trunnion_common::sample::Reading;
use trunnion_common::time::NodeTicks;

/// One mark on the shaft, up to 12,000 rpm; below 30 rpm it stands still.
const WHEEL: Wheel = Wheel {
    pulses: NonZeroU16::MIN,
    highest_hz: 200.0,
    slowest_hz: 0.5,
};

/// The shaft that the board's pin sees.
pub static SHAFT: Shaft = Shaft(Mutex::new(RefCell::new(Tachometer::new(WHEEL))));

/// A tachometer between the interrupt that its pulses make and the node that asks for the speed.
pub struct Shaft(Mutex<RefCell<Tachometer>>);

impl Shaft {
    /// A pulse came at `at`.
    pub fn handle_pulse(&self, at: NodeTicks) {
        free(|section| self.0.borrow(section).borrow_mut().handle_pulse(at));
    }
}

impl Gauge for &Shaft {
    fn read(&mut self, now: NodeTicks) -> Reading {
        free(|section| self.0.borrow(section).borrow_mut().read(now))
    }
}
