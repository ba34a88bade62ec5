//! `common` and `firmware` compiled for a microcontroller, the first way that works on this machine.

use crate::ci::{has, install, run};
use crate::report::{Skips, step};
use anyhow::Result;
use std::path::Path;
use std::process::Command;
use trunnion_tests::workspace::cargo;

const TARGET: &str = "thumbv7em-none-eabihf";

/// Debian's compiler with the library's source, for machines that cannot reach rustup's servers.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];

/// Type-checks the two crates for a Cortex-M4F.
pub(crate) fn check(skips: &mut Skips) -> Result<()> {
    let arguments = [
        "check",
        "--quiet",
        "--target",
        TARGET,
        "--package",
        "trunnion-common",
        "--package",
        "trunnion-firmware",
    ];
    if rustup_has_target() || rustup_adds_target() {
        step(&format!("with rustup's {TARGET}"));
        return run(cargo(arguments));
    }
    if !debian_can_build_core() && install(&DEBIAN_PACKAGES).is_err() {
        let packages = DEBIAN_PACKAGES.join(" ");
        skips.add(
            "no_std build",
            &format!("neither `rustup target add {TARGET}` nor Debian's {packages} is to be had here"),
        );
        return Ok(());
    }
    step("with Debian's compiler and the standard library's source");
    let mut command = cargo(arguments);
    command
        .arg("-Zbuild-std=core")
        .env("RUSTC", DEBIAN_RUSTC)
        // The stable compiler takes -Z options when asked to behave as its own bootstrap.
        .env("RUSTC_BOOTSTRAP", "1");
    run(command)
}

fn rustup_has_target() -> bool {
    let listed = Command::new("rustup")
        .args(["target", "list", "--installed"])
        .output();
    listed.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .any(|line| line == TARGET)
    })
}

fn rustup_adds_target() -> bool {
    has("rustup") && {
        let added = Command::new("timeout")
            .args(["60", "rustup", "target", "add", TARGET])
            .output();
        added.is_ok_and(|output| output.status.success())
    }
}

fn debian_can_build_core() -> bool {
    // rust-web-src puts the source where `rustc --print sysroot` looks for it.
    Path::new(DEBIAN_RUSTC).exists() && Path::new("/usr/lib/rustlib/src/rust/library/core").exists()
}
