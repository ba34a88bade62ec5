//! Event-time windows: assign, accumulate, fire. Pure.
