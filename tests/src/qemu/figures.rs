//! What computations of the node cost on the emulated processor, and what they come to there.

use super::image::{Toolchain, target_dir};
use super::{BOARD, Stimulus, machine};
use crate::process::Process;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The image that measures.
const IMAGE: &str = "qemu-an386-figures";

/// Samples of its window.
pub const SAMPLES: usize = 1_024;

/// How often it does each thing, the time to warm up included.
pub const TIMES: usize = 51;

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What an image has told.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Told {
    /// Instructions, by name.
    pub instructions: BTreeMap<String, u64>,
    /// Results, by name.
    pub values: BTreeMap<String, f32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Cost { name: String, instructions: u64 },
    Value { name: String, bits: u32 },
}

/// Runs the image on the first samples of `stimulus`, with files in `dir`.
pub fn measure(dir: &Path, toolchain: Toolchain, stimulus: &Stimulus) -> Result<Told> {
    let image = toolchain.build_program(BOARD, IMAGE, &target_dir())?;
    std::fs::create_dir_all(dir)?;
    let mut command = machine(&image);
    command
        .args(["-serial", "stdio"])
        // An instruction takes a nanosecond, and nothing waits for real time: always the same counts.
        .args(["-icount", "shift=0,sleep=off"])
        .args(stimulus.load(dir)?);
    let mut process = Process::start("qemu", command, &dir.join("figures.log"))?;
    let mut told = Told::default();
    process.await_line(LIMIT, |line| {
        match serde_json::from_str(line) {
            Ok(Line::Cost { name, instructions }) => {
                told.instructions.insert(name, instructions);
            }
            Ok(Line::Value { name, bits }) => {
                told.values.insert(name, f32::from_bits(bits));
            }
            Err(_) => return (line.trim() == "done").then_some(()),
        }
        None
    })?;
    Ok(told)
}

impl Told {
    /// The instructions of that name.
    pub fn cost(&self, name: &str) -> Result<u64> {
        let found = self.instructions.get(name);
        found
            .copied()
            .with_context(|| format!("the image does not tell {name}"))
    }
}
