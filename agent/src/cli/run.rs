//! `run`: the agent itself.

use super::refuse;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use trunnion_agent::config::{Config, Problems};
use trunnion_agent::enrolment::Enrolment;

/// Where the configuration stands.
#[derive(Args)]
pub(crate) struct RunArguments {
    /// Configuration file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bundle", "port", "state_dir"])]
    config: Option<PathBuf>,
    /// Without a configuration file: the enrolment bundle.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "config",
        requires = "state_dir"
    )]
    bundle: Option<PathBuf>,
    /// Without a configuration file: a line to a node; may be given several times.
    #[arg(long, value_name = "TTY", required_unless_present = "config")]
    port: Vec<PathBuf>,
    /// Without a configuration file: where the spool lives.
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    state_dir: Option<PathBuf>,
}

impl RunArguments {
    fn config(self) -> Result<Config, Problems> {
        match (self.config, self.bundle, self.state_dir) {
            (Some(file), _, _) => Config::load(&file),
            (None, Some(bundle), Some(state_dir)) => Ok(Config::with_defaults(
                Enrolment::load(&bundle)?,
                state_dir,
                self.port,
            )),
            // The command line's own rules leave no other case.
            _ => Err(Problems::default()),
        }
    }
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(arguments: RunArguments) -> ExitCode {
    match arguments.config() {
        Ok(config) => run_with(config),
        Err(problems) => refuse(&problems),
    }
}

fn run_with(config: Config) -> ExitCode {
    // One thread: what it does is little and small, and with more of them every byte of a line woke two.
    // Whoever waits for the disk has a thread of its own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        // Installed before the start, so that no signal can come too early.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        // As a task among tasks: what blocks the runtime itself looks for events once more each time that a
        // line's task has something for it.
        let agent = tokio::spawn(trunnion_agent::run(config, shutdown));
        agent.await?.map_err(anyhow::Error::from)
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
