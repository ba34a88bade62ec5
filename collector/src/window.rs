//! Event-time windows: assign, accumulate, fire. Pure.
//!
//! | part | what it is |
//! |---|---|
//! | [`shape`] | tumbling, hopping and session windows: which of them an event belongs to |
//! | [`scalar`] | what a window of readings remembers, whatever their order: count, mean, variance, extremes |
//! | [`sketch`] | its quantiles |
//! | [`waveform`] | windows of consecutive samples, laid out by index for analysis |

pub mod scalar;
pub mod shape;
pub mod sketch;
pub mod waveform;

pub use waveform::{
    Cut, Fired, Grid, KEPT_MAX, Misplaced, OPEN_MAX, Run, SPANS_MAX, Signal, WindowSettings, Windows,
};
