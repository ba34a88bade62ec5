//! `diag`: an archive for a person far away.

use super::system_utc;
use clap::Args;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use trunnion_agent::config::{Config, Problems};
use trunnion_agent::diag::{Sources, gather, write};
use trunnion_agent::enrolment::Enrolment;

/// What to look at, and where to write.
#[derive(Args)]
pub(crate) struct DiagArguments {
    /// Configuration file.
    #[arg(long, value_name = "FILE", conflicts_with = "bundle")]
    config: Option<PathBuf>,
    /// Without a configuration file: the enrolment bundle.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "config",
        requires = "state_dir"
    )]
    bundle: Option<PathBuf>,
    /// Where the spool lives, if the configuration does not say or cannot be read.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The agent's log, whose end is taken along.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The agent's systemd unit, the end of whose journal is taken along.
    #[arg(long, value_name = "NAME")]
    unit: Option<String>,
    /// A new file, FILE.tar.gz.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Gathers and writes it; the agent may be running.
pub(crate) fn run(arguments: DiagArguments) -> io::Result<ExitCode> {
    let DiagArguments {
        config: config_file,
        bundle,
        state_dir,
        log,
        unit,
        out,
    } = arguments;
    let config = match (&config_file, &bundle, &state_dir) {
        (Some(file), _, _) => Config::load(file),
        (None, Some(bundle), Some(state_dir)) => Enrolment::load(bundle)
            .map(|enrolment| Config::with_defaults(enrolment, state_dir.clone(), Vec::new())),
        // The command line's own rules leave no other case.
        _ => Err(Problems::default()),
    };
    let now = system_utc();
    let parts = gather(
        &Sources {
            config,
            config_file,
            state_dir,
            log,
            unit,
        },
        now,
    );
    write(&parts, &out, now).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("{}: {error}; name a new file where there is room", out.display()),
        )
    })?;
    println!("{}: {} parts", out.display(), parts.len());
    for part in parts {
        println!("  {:<16} {} bytes", part.name, part.bytes.len());
    }
    Ok(ExitCode::SUCCESS)
}
