//! Images of the firmware, built for a Cortex-M4F the first way that works on this machine.

use crate::workspace::cargo;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What boards' images are compiled for.
pub const TARGET: &str = "thumbv7em-none-eabihf";

/// The profile of images.
const PROFILE: &str = "firmware";

/// Debian's compiler, for machines that cannot reach rustup's servers.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// What of Debian's packages builds for the target: compiler, source of the library, linker.
pub const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "lld"];

/// A compiler for the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Toolchain {
    /// rustup has the target's library.
    Rustup,
    /// Debian's compiler builds the library from source.
    Debian,
}

impl Toolchain {
    /// The one that this machine has.
    pub fn find() -> Option<Self> {
        if rustup_has_target() {
            return Some(Self::Rustup);
        }
        // rust-web-src puts the source where `rustc --print sysroot` looks for it.
        let source = Path::new("/usr/lib/rustlib/src/rust/library/core");
        let is_debian = Path::new(DEBIAN_RUSTC).exists() && source.exists() && has("ld.lld");
        is_debian.then_some(Self::Debian)
    }

    /// A cargo command, `build` for example, for the target.
    pub fn cargo(self, verb: &str) -> Command {
        let mut command = cargo([verb, "--target", TARGET]);
        let flags = rustflags();
        command.args(["--config", &format!("target.{TARGET}.rustflags={flags:?}")]);
        if self == Self::Debian {
            command
                .arg("-Zbuild-std=core")
                .env("RUSTC", DEBIAN_RUSTC)
                // The stable compiler takes -Z options when asked to behave as its own bootstrap.
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_THUMBV7EM_NONE_EABIHF_LINKER", "ld.lld");
        }
        command
    }

    /// Builds the image of `board`, its feature and program, below `target_dir`; where it lies.
    pub fn build(self, board: &str, target_dir: &Path) -> Result<PathBuf> {
        self.build_program(board, board, target_dir)
    }

    /// Builds another program for `board`.
    pub fn build_program(self, board: &str, program: &str, target_dir: &Path) -> Result<PathBuf> {
        let mut command = self.cargo("build");
        command
            .args(["--quiet", "--profile", PROFILE, "--package", "trunnion-firmware"])
            .args(["--features", board, "--bin", program])
            .arg("--target-dir")
            .arg(target_dir);
        let status = command.status().context("cannot start cargo")?;
        if !status.success() {
            bail!("the image {program} does not build: {status}");
        }
        Ok(target_dir.join(TARGET).join(PROFILE).join(program))
    }
}

/// What the compiler is told beside the profile: panics name a dependency's file without the path that it lies at on
/// this machine, so that images are alike everywhere and smaller.
fn rustflags() -> Vec<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
    let registries = home.and_then(|home| std::fs::read_dir(home.join("registry/src")).ok());
    let registries = registries.into_iter().flatten().flatten();
    registries
        .map(|registry| format!("--remap-path-prefix={}/=", registry.path().display()))
        .collect()
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

/// Whether a program is on the path.
pub fn has(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|paths| std::env::split_paths(&paths).any(|dir| dir.join(program).is_file()))
}

/// Where images are built: beside everything else that cargo builds, in a folder of their own so that the
/// builds do not wait for each other.
pub fn target_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target
        .unwrap_or_else(|| crate::workspace::root().join("target"))
        .join("firmware")
}
