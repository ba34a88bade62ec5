//! `decode`: a node line's capture, frame by frame.

use clap::Args;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use trunnion_agent::decode::decode;

/// Which capture, and how to answer.
#[derive(Args)]
pub(crate) struct DecodeArguments {
    /// Bytes as read from the line; `-` or nothing is standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// One JSON object for each frame.
    #[arg(long)]
    json: bool,
}

/// One line for each frame, good or broken; exit code 1 when one is broken.
pub(crate) fn run(arguments: &DecodeArguments) -> io::Result<ExitCode> {
    let capture: Box<dyn Read> = if arguments.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(&arguments.file).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("{}: {error}; name a capture", arguments.file.display()),
            )
        })?;
        Box::new(file)
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let totals = decode(capture, |found| {
        if arguments.json {
            serde_json::to_writer(&mut out, found)?;
            writeln!(out)
        } else {
            writeln!(out, "{}", found.text())
        }
    })?;
    out.flush()?;
    eprintln!(
        "{} frames good, {} broken, {} bytes",
        totals.frames, totals.broken, totals.bytes
    );
    Ok(if totals.broken == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
