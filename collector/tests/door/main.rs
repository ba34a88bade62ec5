//! The door with everything real behind and before it: TLS, rumqttd, and clients of every kind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod certificate;
mod escape;
mod hostile;
mod limit;
mod plant;
mod reload;
mod session;
