//! Lays out the image of a board: its memory map goes where the linker looks for it.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let boards = boards();
    let is_chosen = |board: &&String| {
        let feature = board.to_uppercase().replace('-', "_");
        env::var_os(format!("CARGO_FEATURE_{feature}")).is_some()
    };
    let mut chosen = boards.iter().filter(is_chosen);
    let Some(board) = chosen.next() else {
        return;
    };
    assert!(
        chosen.next().is_none(),
        "an image is of one board: choose one feature of {boards:?}"
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

/// Boards by their feature: the memory map of each is `memory/<board>.x`.
fn boards() -> Vec<String> {
    let maps = fs::read_dir("memory").unwrap_or_else(|error| panic!("cannot list memory: {error}"));
    let names = maps
        .flatten()
        .filter_map(|map| map.file_name().into_string().ok());
    let boards = names.filter_map(|name| Some(name.strip_suffix(".x")?.to_owned()));
    // What every map with settings includes.
    boards.filter(|board| board != "settings").collect()
}
