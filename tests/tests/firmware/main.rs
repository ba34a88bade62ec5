//! The node's image in QEMU: what it computes, and what a plant hears of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod features_are_those_of_the_host;
mod microcontroller_is_heard;
mod part_says_what_it_lacks;

use trunnion_tests::qemu::PROGRAM;
use trunnion_tests::qemu::image::{Toolchain, has};
use trunnion_tests::record::skipped;

/// A compiler for images that can be run here; nothing without, and then the test says so.
fn toolchain(test: &str) -> Option<Toolchain> {
    let Some(toolchain) = Toolchain::find() else {
        skipped(test, "no compiler for thumbv7em-none-eabihf");
        return None;
    };
    if !has(PROGRAM) {
        skipped(test, &format!("{PROGRAM} is not installed"));
        return None;
    }
    Some(toolchain)
}
