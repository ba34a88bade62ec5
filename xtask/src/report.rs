//! Lines on the terminal: what is being done, what was left out, and how it ended.

use anyhow::Result;
use std::path::Path;
use trunnion_tests::record::SKIPS;

/// A step begins.
pub(crate) fn step(text: &str) {
    println!("==> {text}");
}

/// What was not done, and why; it never counts as passed.
#[derive(Default)]
pub(crate) struct Skips(Vec<String>);

impl Skips {
    /// A step was not done.
    pub(crate) fn add(&mut self, step: &str, why: &str) {
        let skip = format!("{step}: {why}");
        println!("skipped: {skip}");
        self.0.push(skip);
    }

    /// Runs the tests with an environment variable, name and value, that tells them where to write down
    /// what they leave out: the test runner shows nothing of a test that passes.
    pub(crate) fn collect(&mut self, run: impl FnOnce(&str, &Path) -> Result<()>) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let outcome = run(SKIPS, file.path());
        let text = std::fs::read_to_string(file.path())?;
        self.0.extend(text.lines().map(str::to_owned));
        outcome
    }

    /// The closing lines.
    pub(crate) fn tell(&self) {
        match self.0.len() {
            0 => step("nothing was skipped"),
            count => {
                step(&format!("{count} skipped, which is not passed:"));
                for skip in &self.0 {
                    println!("    {skip}");
                }
            }
        }
    }
}
