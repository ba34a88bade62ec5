//! The gateway's command line: arguments, configuration, logging, signals, exit code.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use trunnion_agent::config::{Config, Problems};
use trunnion_agent::enrolment::Enrolment;

/// Reads nodes over serial lines, keeps their frames safe, and forwards them to the collector.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run until SIGTERM or SIGINT.
    Run(RunArguments),
    /// Check a configuration file and its enrolment bundle, and report every problem.
    CheckConfig {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Args)]
struct RunArguments {
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

/// The exit code that means bad configuration (`EX_USAGE` of sysexits.h).
const BAD_CONFIGURATION: u8 = 64;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .init();
    match Arguments::parse().command {
        Verb::CheckConfig { file } => match Config::load(&file) {
            Ok(config) => {
                println!(
                    "{}: good; gateway {}, {} port(s), {} endpoint(s)",
                    file.display(),
                    config.enrolment.gateway,
                    config.ports.len(),
                    config.enrolment.endpoints.len()
                );
                ExitCode::SUCCESS
            }
            Err(problems) => refuse(&problems),
        },
        Verb::Run(arguments) => match arguments.config() {
            Ok(config) => run(config),
            Err(problems) => refuse(&problems),
        },
    }
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

fn refuse(problems: &Problems) -> ExitCode {
    for problem in problems.iter() {
        eprintln!("{problem}");
    }
    ExitCode::from(BAD_CONFIGURATION)
}

fn run(config: Config) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
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
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        trunnion_agent::run(config, shutdown)
            .await
            .map_err(anyhow::Error::from)
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
