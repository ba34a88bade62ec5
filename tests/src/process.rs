//! One real process of the system: started, read, killed or stopped by its pid, and never left behind.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A running process; its standard output is read line by line, its log goes to a file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; its standard error is appended to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("cannot write the log {}", log.display()))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let stdout = child.stdout.take().context("the pipe was asked for above")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            name: name.to_owned(),
            child,
            lines,
            log: log.to_owned(),
        })
    }

    /// The next line of standard output that `wanted` accepts, turned into what it returns.
    pub fn await_line<T>(&mut self, limit: Duration, mut wanted: impl FnMut(&str) -> Option<T>) -> Result<T> {
        let deadline = deadline_in(limit);
        loop {
            match self.lines.recv_timeout(remaining(deadline)) {
                Ok(line) => {
                    if let Some(found) = wanted(&line) {
                        return Ok(found);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "{}: nothing awaited came within {limit:?}; its log ends:\n{}",
                        self.name,
                        self.log_tail()
                    )
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    bail!(
                        "{} ended early ({status}); its log ends:\n{}",
                        self.name,
                        self.log_tail()
                    )
                }
            }
        }
    }

    /// What it was started as.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and wait for a clean end.
    pub fn stop(mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(rustix::process::Signal::TERM)?;
        self.await_end(limit)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits for it to end by itself.
    pub fn await_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let status = await_some(limit, || self.child.try_wait().ok().flatten());
        status.with_context(|| {
            format!(
                "{} did not end within {limit:?}; its log ends:\n{}",
                self.name,
                self.log_tail()
            )
        })
    }

    /// Lines of standard output that have not been read yet, without waiting.
    pub fn lines(&mut self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// The whole log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end; its output is the error when it fails.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if !output.status.success() {
        bail!("{command:?} failed ({}):\n{out}{err}", output.status);
    }
    Ok(out.into_owned())
}

/// Asks again every few milliseconds until there is an answer, or the time is up.
#[allow(
    clippy::disallowed_methods,
    reason = "waits for real processes, always with a limit"
)]
pub fn await_some<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = deadline_in(limit);
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if remaining(deadline).is_zero() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "waits for real processes, always with a limit"
)]
fn deadline_in(limit: Duration) -> Instant {
    Instant::now() + limit
}

#[allow(
    clippy::disallowed_methods,
    reason = "waits for real processes, always with a limit"
)]
fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
