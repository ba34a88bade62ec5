//! What the node needs from any sensor that samples by itself.
//!
//! Fast sensors convert at their own pace into a queue of their own; a driver empties it when asked.
//! Slow quantities need no more than [`crate::node::Node::handle_readings`].

use trunnion_common::sample::LossCause;
use trunnion_common::time::NodeTicks;

/// A sampled sensor: an accelerometer with its queue, a converter with its transfer buffer.
pub trait Sensor {
    /// Takes samples that are ready by `now`, oldest first, into `out`.
    fn read(&mut self, now: NodeTicks, out: &mut [i16]) -> Batch;
}

/// What one [`Sensor::read`] brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batch {
    /// How many samples between the last batch and this one can no longer be had, and why.
    pub missed: Option<(u64, Missed)>,
    /// Samples written to the buffer. When they fill it, there may be more.
    pub taken: usize,
    /// When the first of them was taken.
    pub first: NodeTicks,
}

/// Why a sensor has no sample where there should be one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missed {
    /// Its queue ran over before it was read.
    Overrun,
    /// It did not answer.
    Fault,
}

impl From<Missed> for LossCause {
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::Overrun => Self::SensorOverrun,
            Missed::Fault => Self::SensorFault,
        }
    }
}
