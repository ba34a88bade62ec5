//! Images of the firmware, built for a microcontroller the first way that works on this machine.

use crate::workspace::cargo;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What images for a Cortex-M4F are compiled for: those of most boards.
pub const TARGET: &str = "thumbv7em-none-eabihf";

/// What images for a Cortex-M33 are compiled for.
pub const TARGET_M33: &str = "thumbv8m.main-none-eabihf";

/// The profile of images.
const PROFILE: &str = "firmware";

/// Debian's compiler, for machines that cannot reach rustup's servers.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// What of Debian's packages builds for the target: compiler, source of the library, linker.
pub const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "lld"];

/// A compiler for a target, which builds the target's library from source: at the image's own settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Toolchain {
    /// Whose it is.
    pub source: Source,
    /// What it compiles for.
    pub target: &'static str,
}

/// Where a compiler and the library's source come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// rustup's toolchain with its component `rust-src`.
    Rustup,
    /// Debian's packages.
    Debian,
}

impl Toolchain {
    /// The one that this machine has for a Cortex-M4F.
    pub fn find() -> Option<Self> {
        Self::find_for(TARGET)
    }

    /// The one that this machine has for `target`.
    pub fn find_for(target: &'static str) -> Option<Self> {
        let source = if has_rustup() {
            Source::Rustup
        } else if has_debian() {
            Source::Debian
        } else {
            return None;
        };
        Some(Self { source, target })
    }

    /// A cargo command, `build` for example, for the target.
    pub fn cargo(self, verb: &str) -> Command {
        let mut command = cargo([verb, "--target", self.target]);
        command
            .arg("-Zbuild-std=core")
            .args([
                "--config",
                &format!("target.{:?}.rustflags={RUSTFLAGS:?}", self.target),
            ])
            .args(["--config", BUILTINS])
            // A stable compiler takes -Z options when asked to behave as its own bootstrap.
            .env("RUSTC_BOOTSTRAP", "1");
        if self.source == Source::Debian {
            let name = self.target.to_uppercase().replace(['-', '.'], "_");
            command
                .env("RUSTC", DEBIAN_RUSTC)
                .env(format!("CARGO_TARGET_{name}_LINKER"), "ld.lld");
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
        Ok(target_dir.join(self.target).join(PROFILE).join(program))
    }
}

/// What the compiler is told beside the profile, so that images are smaller.
const RUSTFLAGS: [&str; 3] = [
    // A panic is one undefined instruction, whose address the life leaves to the next one: what it would say, and where
    // it stands in the source, nobody could read in the image. That is 12 KiB.
    "-Zunstable-options",
    "-Cpanic=immediate-abort",
    // At opt-level "s", LLVM copies what is marked `#[inline]` into every caller up to a cost of 325. Serialisation is
    // full of such marks: 4.2 KiB of the image, where a window of features gains nothing.
    "-Cllvm-args=-inlinehint-threshold=25",
];

/// Doubles and copies, which a window of features is full of: for 1 KiB of the image a twentieth of its instructions.
const BUILTINS: &str = "profile.firmware.package.compiler_builtins.opt-level=3";

/// Where the source of the library lies below a compiler's folder: rustup's `rust-src` and Debian's `rust-web-src` put it
/// there.
const LIBRARY: &str = "lib/rustlib/src/rust/library/core";

fn has_debian() -> bool {
    Path::new(DEBIAN_RUSTC).exists() && Path::new("/usr").join(LIBRARY).exists() && has("ld.lld")
}

fn has_rustup() -> bool {
    let told = Command::new("rustc").args(["--print", "sysroot"]).output();
    has("rustup")
        && told.is_ok_and(|output| {
            let folder = String::from_utf8_lossy(&output.stdout);
            Path::new(folder.trim_end()).join(LIBRARY).exists()
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
