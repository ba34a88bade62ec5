//! The door with everything real behind and before it: TLS, rumqttd, and clients of every kind.

mod certificate;
mod escape;
mod hostile;
mod limit;
mod plant;
mod reload;
mod session;
