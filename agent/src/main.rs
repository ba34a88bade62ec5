//! The gateway's command line: arguments, configuration, logging, signals, exit code.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use trunnion_agent::config::{Config, Problems};
use trunnion_agent::enrolment::Enrolment;
use trunnion_agent::spool::{SpoolError, tools};

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
    /// Look after the spool of a stopped agent.
    Spool {
        #[command(subcommand)]
        tool: SpoolTool,
    },
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

#[derive(Args)]
struct SpoolArguments {
    /// Where the spool lives.
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum SpoolTool {
    /// List databases, epochs, sequences, cursors and what was set aside.
    Inspect(SpoolArguments),
    /// Read every block and check it; exit code 1 if anything is damaged.
    Verify(SpoolArguments),
    /// Save what can be read of databases that were set aside; nothing is removed.
    Salvage {
        #[command(flatten)]
        spool: SpoolArguments,
        /// A new file for it; without, it goes back into the spool and is sent at the next start.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Write every good block to a file: length in bytes as a little-endian u32, then the block.
    Export {
        #[command(flatten)]
        spool: SpoolArguments,
        /// A new file.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
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
        Verb::Spool { tool } => match spool(tool) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
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

fn spool(tool: SpoolTool) -> Result<ExitCode, SpoolError> {
    let mut code = ExitCode::SUCCESS;
    match tool {
        SpoolTool::Inspect(SpoolArguments { state_dir, json }) => {
            let report = tools::inspect(&state_dir)?;
            say(json, &report, || {
                for database in &report.databases {
                    let sequences = database
                        .sequences
                        .map_or_else(String::new, |(first, last)| format!(" {first} to {last}"));
                    println!(
                        "{}: epoch {}, {} blocks{sequences}, {} bytes, {} not acknowledged, {} bytes of disk{}",
                        database.path.display(),
                        database.epoch,
                        database.blocks,
                        database.block_bytes,
                        database.unacknowledged,
                        database.disk_bytes,
                        database
                            .damage
                            .as_ref()
                            .map_or_else(String::new, |damage| format!(", DAMAGED: {damage}"))
                    );
                }
                for cursor in &report.cursors {
                    println!(
                        "{}: node {}, boot {}, frames below {}",
                        cursor.chain, cursor.node, cursor.boot, cursor.upto
                    );
                }
                for (path, bytes) in &report.quarantine {
                    println!("set aside: {}, {bytes} bytes of disk", path.display());
                }
            });
        }
        SpoolTool::Verify(SpoolArguments { state_dir, json }) => {
            let verdict = tools::verify(&state_dir)?;
            if !(verdict.bad.is_empty() && verdict.unreadable.is_empty()) {
                code = ExitCode::FAILURE;
            }
            say(json, &verdict, || {
                for (epoch, sequence, fault) in &verdict.bad {
                    println!("epoch {epoch}, block {sequence}: {fault}");
                }
                for (path, fault) in &verdict.unreadable {
                    println!("{}: {fault}", path.display());
                }
                println!(
                    "{} blocks good, {} bad, {} databases unreadable",
                    verdict.good,
                    verdict.bad.len(),
                    verdict.unreadable.len()
                );
            });
        }
        SpoolTool::Salvage { spool, out } => {
            let salvage = tools::salvage(&spool.state_dir, out.as_deref())?;
            say(spool.json, &salvage, || {
                println!(
                    "{} blocks saved ({} bytes), {} known already, {} not found",
                    salvage.saved, salvage.saved_bytes, salvage.known, salvage.lost
                );
            });
        }
        SpoolTool::Export { spool, out } => {
            let blocks = tools::export(&spool.state_dir, &out)?;
            say(spool.json, &serde_json::json!({ "blocks": blocks }), || {
                println!("{blocks} blocks written to {}", out.display());
            });
        }
    }
    Ok(code)
}

fn say<T: serde::Serialize>(json: bool, answer: &T, text: impl FnOnce()) {
    if json {
        println!(
            "{}",
            serde_json::to_string(answer).expect("these answers have text for keys")
        );
    } else {
        text();
    }
}

fn run(config: Config) -> ExitCode {
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
