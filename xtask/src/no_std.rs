//! `common` and `firmware` compiled for a microcontroller, the first way that works on this machine.

use crate::ci::{has, install, run};
use crate::report::{Skips, step};
use anyhow::Result;
use std::process::Command;
use trunnion_tests::qemu::image::{DEBIAN_PACKAGES, Source, TARGET, Toolchain};

/// Type-checks the two crates for a Cortex-M4F.
pub(crate) fn check(skips: &mut Skips) -> Result<()> {
    let Some(toolchain) = toolchain() else {
        skips.add("no_std build", &missing(TARGET));
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

/// A compiler for a Cortex-M4F.
pub(crate) fn toolchain() -> Option<Toolchain> {
    toolchain_for(TARGET)
}

/// A compiler for the target: rustup's, or Debian's, installed now if need be.
pub(crate) fn toolchain_for(target: &'static str) -> Option<Toolchain> {
    let mut found = Toolchain::find_for(target);
    if found.is_none() && (rustup_adds_source() || install(&DEBIAN_PACKAGES).is_ok()) {
        found = Toolchain::find_for(target);
    }
    match found.map(|found| found.source) {
        Some(Source::Rustup) => step("with rustup's compiler and the standard library's source"),
        Some(Source::Debian) => step("with Debian's compiler and the standard library's source"),
        None => {}
    }
    found
}

/// Why there is none.
pub(crate) fn missing(target: &str) -> String {
    let packages = DEBIAN_PACKAGES.join(" ");
    format!(
        "nothing builds for {target}: neither `rustup component add rust-src` nor Debian's {packages} are to be had here"
    )
}

fn rustup_adds_source() -> bool {
    has("rustup") && {
        let added = Command::new("timeout")
            .args(["60", "rustup", "component", "add", "rust-src"])
            .output();
        added.is_ok_and(|output| output.status.success())
    }
}
