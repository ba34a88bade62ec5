//! `spool`: looking after the spool of a stopped agent.

use super::say;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use trunnion_agent::spool::{SpoolError, tools};

/// Which spool, and how to answer.
#[derive(Args)]
pub(crate) struct SpoolArguments {
    /// Where the spool lives.
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// What to do with it.
#[derive(Subcommand)]
pub(crate) enum SpoolTool {
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

/// Does it; the exit code says whether all is well.
pub(crate) fn run(tool: SpoolTool) -> Result<ExitCode, SpoolError> {
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
