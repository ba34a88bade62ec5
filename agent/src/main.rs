//! The gateway's command line: what there is to do, and where it is done.

mod cli;

use clap::{Parser, Subcommand};
use cli::refuse;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;
use trunnion_agent::config::Config;

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
    Run(cli::run::RunArguments),
    /// Look after the spool of a stopped agent.
    Spool {
        #[command(subcommand)]
        tool: cli::spool::SpoolTool,
    },
    /// Check a configuration file and its enrolment bundle, and report every problem.
    CheckConfig {
        /// The file.
        file: PathBuf,
    },
    /// Try to reach every collector, step by step, and say what is wrong and what to do.
    Connect(cli::connect::ConnectArguments),
    /// Gather what a person far away needs to understand this gateway; no secret is in it.
    Diag(cli::diag::DiagArguments),
    /// Print the frames of a node line's capture; exit code 1 if one is broken.
    Decode(cli::decode::DecodeArguments),
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        // A log in a file is read by programs too.
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match Arguments::parse().command {
        Verb::Run(arguments) => cli::run::run(arguments),
        Verb::CheckConfig { file } => check_config(&file),
        Verb::Spool { tool } => or_say(cli::spool::run(tool)),
        Verb::Connect(arguments) => cli::connect::run(&arguments),
        Verb::Diag(arguments) => or_say(cli::diag::run(arguments)),
        Verb::Decode(arguments) => or_say(cli::decode::run(&arguments)),
    }
}

fn check_config(file: &Path) -> ExitCode {
    match Config::load(file) {
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
    }
}

fn or_say<E: std::fmt::Display>(outcome: Result<ExitCode, E>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}
