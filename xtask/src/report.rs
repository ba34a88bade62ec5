//! Lines on the terminal: what is being done, and how it ended.

/// A step begins.
pub(crate) fn step(text: &str) {
    println!("==> {text}");
}

/// A step was not done, and why; it never counts as passed.
pub(crate) fn skipped(step: &str, why: &str) {
    println!("skipped: {step}: {why}");
}
