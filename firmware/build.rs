//! Lays out the image of a board: its memory map goes where the linker looks for it.

use std::path::PathBuf;
use std::{env, fs};

/// Boards by their feature; the memory map of each is `memory/<board>.x`.
const BOARDS: [&str; 6] = [
    "nrf52840",
    "qemu-an386",
    "rp2350",
    "stm32f405",
    "stm32g474",
    "stm32h563",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let is_chosen = |board: &&str| {
        let feature = board.to_uppercase().replace('-', "_");
        env::var_os(format!("CARGO_FEATURE_{feature}")).is_some()
    };
    let mut chosen = BOARDS.into_iter().filter(is_chosen);
    let Some(board) = chosen.next() else {
        return;
    };
    assert!(
        chosen.next().is_none(),
        "an image is of one board: choose one feature of {BOARDS:?}"
    );
    let map = format!("memory/{board}.x");
    println!("cargo:rerun-if-changed=memory");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for (from, to) in [(map.as_str(), "memory.x"), ("memory/settings.x", "settings.x")] {
        fs::copy(from, out.join(to)).unwrap_or_else(|error| panic!("cannot copy {from}: {error}"));
    }
    // cortex-m-rt asks for the weak names of a device's handlers, which come with the HALs of real parts.
    if board.starts_with("qemu") {
        fs::write(out.join("device.x"), "").unwrap_or_else(|error| panic!("cannot write device.x: {error}"));
    }
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    // Sections are not padded to a host's pages.
    println!("cargo:rustc-link-arg-bins=--nmagic");
}
