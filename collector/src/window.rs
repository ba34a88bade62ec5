//! Event-time windows: assign, accumulate, fire. Pure.
//!
//! | part | what it is |
//! |---|---|
//! | [`grid`] | how event time is cut for the windows of a channel, and how long they wait |
//! | [`shape`] | tumbling, hopping and session windows: which of them an event belongs to |
//! | [`scalar`] | what a window of readings remembers, whatever their order: count, mean, variance, extremes |
//! | [`sketch`] | its quantiles |
//! | [`stream`] | the windows of a stream of readings, by key: verdicts, firing, corrections |
//! | [`source_mark`] | how far event time has come at a source, and at several together |
//! | `values` | samples in a row that a checkpoint in the making shares with the pipeline |
//! | [`waveform`] | windows of consecutive samples of one channel, laid out by index for analysis |
//!
//! Rules that hold in all of them, each with its test in `tests/window_semantics.rs`:
//!
//! - A window is `[start, end)` in event time, on a grid aligned to the epoch plus an offset, also before it.
//! - A watermark `W` is exclusive, nothing before it comes any more, and a window fires when `W >= end`.
//! - A hopping window's size is a multiple of its slide; anything else is refused.
//! - A session is `[first, last + gap)`: an event exactly one gap after the last begins a new one.
//! - Lateness is judged by each window on its own, and by the sources of its own key.
//! - What comes for a window that has fired and is kept corrects it; later than that, it is a dead letter.
//! - No window fires without a value in it, and none that is over is revived or fused.
//! - History neither waits for the watermark nor moves it.

pub mod grid;
pub mod scalar;
pub mod shape;
pub mod sketch;
pub mod source_mark;
pub mod stream;
mod values;
pub mod waveform;

pub use grid::{Cut, Grid, Slot, WindowSettings};
pub use waveform::{Fired, KEPT_MAX, Misplaced, OPEN_MAX, Run, SPANS_MAX, Signal, Windows};
