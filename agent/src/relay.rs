//! The exit relay: something at the gateway that is switched while an advisory stands. A shell around one
//! decision.
//!
//! It is on while any condition is held at the configured level or a higher one, and off from the start on.
//! A file, such as a GPIO's in sysfs, is written `1` or `0`; a command is run with `on` or `off` as its last
//! argument. One switching at a time: what changes meanwhile is done after it, the latest word only. A
//! command that takes longer than [`PATIENCE`] is killed, and whatever fails is logged, counted, and done
//! again with the next change.

use crate::metrics::Metrics;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use trunnion_common::level::Level;
use trunnion_common::watch::LocalWord;

/// How long a command may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked at then.
const LOOK: Duration = Duration::from_millis(20);

/// What is switched, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The file written `1` or `0`, if any.
    pub file: Option<PathBuf>,
    /// The program and its arguments, to which `on` or `off` is added; none when empty.
    pub command: Vec<String>,
    /// The lowest level that switches it on.
    pub level: Level,
}

impl Settings {
    /// Whether it must be on while these are held.
    pub fn is_on(&self, standing: &[LocalWord]) -> bool {
        standing.iter().any(|held| held.told.level >= self.level)
    }
}

/// Switches from now on, as the latest word has it; off first. Ends when nobody has a say any more.
pub async fn run(settings: Settings, metrics: Metrics, mut wanted: watch::Receiver<bool>) {
    let mut is_on = None;
    loop {
        let wish = *wanted.borrow_and_update();
        if is_on != Some(wish) {
            let settings = settings.clone();
            let outcome = tokio::task::spawn_blocking(move || switch(&settings, wish)).await;
            let outcome = outcome.unwrap_or_else(|error| Err(format!("it was not switched: {error}")));
            match outcome {
                Ok(()) => tracing::info!(is_on = wish, "the exit relay is switched"),
                Err(error) => {
                    metrics.relay_failures.inc();
                    tracing::error!(is_on = wish, error, "the exit relay does not do as it is told");
                }
            }
            is_on = Some(wish);
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

fn switch(settings: &Settings, is_on: bool) -> Result<(), String> {
    if let Some(file) = &settings.file {
        let word = if is_on { "1\n" } else { "0\n" };
        std::fs::write(file, word).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if let Some((program, arguments)) = settings.command.split_first() {
        let word = if is_on { "on" } else { "off" };
        let child = Command::new(program)
            .args(arguments)
            .arg(word)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let child = child.map_err(|error| format!("{program} cannot be run: {error}"))?;
        await_end(child).map_err(|error| format!("{program}: {error}"))?;
    }
    Ok(())
}

#[allow(
    clippy::disallowed_methods,
    reason = "waits for a process with a bound, on a thread for what blocks"
)]
fn await_end(mut child: Child) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(status.to_string()),
            Ok(None) if Instant::now() < end => std::thread::sleep(LOOK),
            Ok(None) => {
                // It may have ended by itself.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("killed after {} s", PATIENCE.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(file: Option<PathBuf>, command: &[&str]) -> Settings {
        Settings {
            file,
            command: command.iter().map(ToString::to_string).collect(),
            level: Level::Alarm,
        }
    }

    #[test]
    fn a_file_is_written_and_a_command_is_told_the_word() {
        let dir = tempfile::tempdir().unwrap();
        let (gpio, heard) = (dir.path().join("value"), dir.path().join("heard"));
        let script = format!("echo $0 > {}", heard.display());
        let both = settings(Some(gpio.clone()), &["sh", "-c", &script]);
        for (is_on, value, word) in [(true, "1\n", "on\n"), (false, "0\n", "off\n")] {
            switch(&both, is_on).unwrap();
            assert_eq!(std::fs::read_to_string(&gpio).unwrap(), value);
            assert_eq!(std::fs::read_to_string(&heard).unwrap(), word);
        }
    }

    #[test]
    fn what_fails_is_named() {
        let missing = settings(Some("/nonexistent/value".into()), &[]);
        assert!(switch(&missing, true).unwrap_err().contains("/nonexistent/value"));
        let failing = settings(None, &["sh", "-c", "exit 3"]);
        assert!(switch(&failing, true).unwrap_err().contains("3"));
    }
}
