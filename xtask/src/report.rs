//! Lines on the terminal: what is being done, and how it ended.

/// A step begins.
pub fn step(text: &str) {
    println!("==> {text}");
}

/// A step was not done, and why; it never counts as passed.
pub fn skipped(step: &str, why: &str) {
    println!("skipped: {step}: {why}");
}
