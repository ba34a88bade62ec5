//! The embedded rumqttd on loopback: start, ready, canary, stop.
