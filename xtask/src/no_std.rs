//! `common` and `firmware` compiled for a microcontroller, the first way that works on this machine.

use crate::ci::{has, install, run};
use crate::report::{Skips, step};
use anyhow::Result;
use std::process::Command;
use trunnion_tests::qemu::image::{DEBIAN_PACKAGES, TARGET, Toolchain};

/// Type-checks the two crates for a Cortex-M4F.
pub(crate) fn check(skips: &mut Skips) -> Result<()> {
    let Some(toolchain) = toolchain() else {
        skips.add("no_std build", &missing());
        return Ok(());
    };
    let mut command = toolchain.cargo("check");
    command.args([
        "--quiet",
        "--package",
        "trunnion-common",
        "--package",
        "trunnion-firmware",
    ]);
    run(command)
}

/// A compiler for the target: rustup's, or Debian's, installed now if need be.
pub(crate) fn toolchain() -> Option<Toolchain> {
    let mut found = Toolchain::find();
    if found.is_none() && (rustup_adds_target() || install(&DEBIAN_PACKAGES).is_ok()) {
        found = Toolchain::find();
    }
    match found {
        Some(Toolchain::Rustup) => step(&format!("with rustup's {TARGET}")),
        Some(Toolchain::Debian) => step("with Debian's compiler and the standard library's source"),
        None => {}
    }
    found
}

/// Why there is none.
pub(crate) fn missing() -> String {
    let packages = DEBIAN_PACKAGES.join(" ");
    format!("neither `rustup target add {TARGET}` nor Debian's {packages} is to be had here")
}

fn rustup_adds_target() -> bool {
    has("rustup") && {
        let added = Command::new("timeout")
            .args(["60", "rustup", "target", "add", TARGET])
            .output();
        added.is_ok_and(|output| output.status.success())
    }
}
