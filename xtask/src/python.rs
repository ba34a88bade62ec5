//! A Python with NumPy and SciPy, which features are compared with.

use crate::ci::has;
use crate::report::step;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The variable that names a Python to tests and benchmarks.
pub(crate) const VARIABLE: &str = "TRUNNION_PYTHON";

/// The one that the variable names, the system's if it has both, or one made in `dir`; none where nothing of
/// that can be had, and then the tests that need it say so by name.
pub(crate) fn find(dir: &Path) -> Option<OsString> {
    if let Some(named) = std::env::var_os(VARIABLE) {
        return Some(named);
    }
    let own = dir.join("python");
    let interpreter = own.join("bin/python");
    let candidates = [PathBuf::from("python3"), interpreter.clone()];
    let found = candidates.into_iter().find(|python| has_scipy(python));
    if let Some(found) = found {
        return Some(found.into());
    }
    if !has("python3") {
        return None;
    }
    step("a Python with NumPy and SciPy, by pip");
    let made = quietly(Command::new("python3").args(["-m", "venv"]).arg(&own))
        && quietly(Command::new(&interpreter).args(["-m", "pip", "install", "--quiet", "numpy", "scipy"]));
    (made && has_scipy(&interpreter)).then(|| interpreter.into())
}

fn has_scipy(python: &Path) -> bool {
    quietly(Command::new(python).args(["-c", "import numpy, scipy"]))
}

/// Whether a command that shows nothing has succeeded.
fn quietly(command: &mut Command) -> bool {
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
