//! A node under virtual time, with a scripted agent.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod line;
mod settings;
mod world;
