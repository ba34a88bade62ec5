//! Event-time windows: assign, accumulate, fire. Pure.
//!
//! | kind of window | where |
//! |---|---|
//! | of consecutive samples, laid out by index for analysis | [`waveform`] |

pub mod waveform;

pub use waveform::{
    Cut, Fired, Grid, KEPT_MAX, Misplaced, OPEN_MAX, Run, SPANS_MAX, Signal, WindowSettings, Windows,
};
