//! The sources that this harness was built from, and the programs built of them.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The workspace's root: of the checkout that cargo runs this program for. A target directory that is
/// shared by several checkouts may hold a program that was built from another one.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
        let package = PathBuf::from(package);
        package
            .parent()
            .expect("a crate lies in the workspace")
            .to_owned()
    })
}

/// A cargo command at the workspace's root, as a person would give it there.
///
/// `cargo run` and `cargo test` tell a program in its environment which package it is from. A build
/// script further down that watches those variables (ring's does) would run again each time, and with
/// it everything that depends on its crate.
pub fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text == "OUT_DIR"
            || ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
                .iter()
                .any(|start| text.starts_with(start))
        {
            command.env_remove(name);
        }
    }
    command
}

/// The path of one of the system's programs, built from the sources as they are.
pub fn binary(name: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    match built {
        Ok(dir) => Ok(dir.join(name)),
        Err(error) => bail!("the programs under test do not build: {error}"),
    }
}

/// Builds all programs beside the running one (`target/<profile>/`, tests live one folder deeper).
fn build() -> Result<PathBuf> {
    let current = std::env::current_exe()?;
    let parent = current.parent().context("a program lies in a folder")?;
    let dir = if parent.ends_with("deps") {
        parent.parent().context("deps lies in a folder")?
    } else {
        parent
    };
    let mut command = cargo(["build", "--quiet", "--bins", "--workspace"]);
    command
        .arg("--target-dir")
        .arg(dir.parent().context("a profile lies in a target folder")?);
    if dir.ends_with("release") {
        command.arg("--release");
    }
    crate::process::run(&mut command)?;
    Ok(dir.to_owned())
}
