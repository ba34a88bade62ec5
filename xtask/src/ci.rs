//! Exactly what continuous integration runs, runnable by anyone.

use crate::report::{Skips, step};
use crate::{firmware, no_std, python, tidy};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use trunnion_tests::workspace::{cargo, root};

/// The checks, then every test.
pub(crate) fn test() -> Result<()> {
    let mut skips = Skips::default();
    checks(&mut skips)?;
    let python = python::find(&target());
    step("tests of the whole workspace");
    skips.collect(|name, file| {
        let mut tests = cargo(["test", "--workspace", "--all-targets", "--no-fail-fast"]);
        tests.env(name, file);
        if let Some(python) = &python {
            tests.env(python::VARIABLE, python);
        }
        run(tests)
    })?;
    step("fuzzing, 60 s for each target");
    // Always the same inputs first, so that a change is judged by itself; others come on request.
    run(cargo([
        "run",
        "-p",
        "xtask",
        "--",
        "fuzz",
        "--seconds",
        "60",
        "--seed",
        "1",
    ]))?;
    step("examples in the documentation");
    run(cargo(["test", "--workspace", "--doc"]))?;
    skips.tell();
    Ok(())
}

/// Where builds are kept, which may outlive the checkout.
fn target() -> PathBuf {
    let kept = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    // A relative one is meant from the workspace's root, where cargo runs.
    root().join(kept.unwrap_or_else(|| "target".into()))
}

/// Everything short of the tests.
pub(crate) fn ci() -> Result<()> {
    let mut skips = Skips::default();
    checks(&mut skips)?;
    skips.tell();
    Ok(())
}

fn checks(skips: &mut Skips) -> Result<()> {
    prerequisites()?;
    step("shape of the repository");
    tidy::check()?;
    step("format");
    run(cargo(["fmt", "--all", "--check"]))?;
    step("lints");
    run(cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    step("documentation");
    let mut doc = cargo(["doc", "--workspace", "--no-deps", "--document-private-items"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    run(doc)?;
    step("no_std build of common and firmware");
    no_std::check(skips)?;
    step("images of the boards");
    firmware::check(skips)?;
    step("dependency rules");
    if has("cargo-deny") {
        run(cargo(["deny", "check", "bans", "licenses", "sources"]))?;
    } else {
        skips.add(
            "dependency rules",
            "cargo-deny is not installed (cargo install --locked cargo-deny)",
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
