//! Exactly what continuous integration runs, runnable by anyone.

use crate::no_std;
use crate::report::{skipped, step};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// The checks, then every test.
pub(crate) fn test() -> Result<()> {
    checks()?;
    step("tests of the whole workspace");
    run(cargo(&["test", "--workspace", "--all-targets", "--no-fail-fast"]))?;
    step("examples in the documentation");
    run(cargo(&["test", "--workspace", "--doc"]))
}

/// Everything short of the tests.
pub(crate) fn checks() -> Result<()> {
    prerequisites()?;
    step("format");
    run(cargo(&["fmt", "--all", "--check"]))?;
    step("lints");
    run(cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    step("documentation");
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    run(doc)?;
    step("no_std build of common and firmware");
    no_std::check()?;
    step("dependency rules");
    if has("cargo-deny") {
        run(cargo(&["deny", "check", "bans", "licenses", "sources"]))?;
    } else {
        skipped(
            "dependency rules",
            "cargo-deny is not installed (cargo install cargo-deny)",
        );
    }
    Ok(())
}

/// A C compiler, for the bundled SQLite and for ring.
fn prerequisites() -> Result<()> {
    if has("cc") {
        return Ok(());
    }
    install(&["build-essential"]).context("a C compiler is needed")
}

/// Installs Debian packages when that is allowed, and says exactly what to install when it is not.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !is_root() || !has("apt-get") {
        bail!("install it first: sudo apt-get install {list}");
    }
    step(&format!("installing {list}"));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null());
        command
    };
    run(apt(&["update", "-qq"]))?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(packages);
    run(apt(&arguments))
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
}

/// Whether a program is on the path.
pub(crate) fn has(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|paths| std::env::split_paths(&paths).any(|dir| dir.join(program).is_file()))
}

/// A cargo command at the workspace's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
}

/// Runs a command; its output is shown as it comes.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}
