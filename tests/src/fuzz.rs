//! Fuzzing on stable Rust, without instrumentation: seeded mutation of a corpus, and checks that say more
//! than "it did not panic".
//!
//! A target is a function from bytes to what became of them. It says what it saw to a [`Probe`]: reasons,
//! kinds, sizes. An input that shows something not seen before joins the population from which the next
//! ones are made, so that the search goes on from what gets past the first check. It takes the place of
//! the coverage that instrumented fuzzers go by.
//!
//! The same target, seed and number of executions give the same inputs again, and every finding is a
//! file: `cargo xtask fuzz --target NAME --input FILE` plays it once more.

mod disk;
mod learned;
mod mutation;
mod state;
mod text;
mod wire;

use crate::workspace;
use crate::world::chance::Chance;
use anyhow::{Context, Result, bail};
use mutation::Mutator;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

/// Inputs kept for mutation; beyond, a new one takes the place of a random one that is not of the corpus.
const POPULATION_MAX: usize = 1_024;

/// Resident memory at which a run ends with a finding: no decoder may be made to allocate this much.
const RESIDENT_MIB_MAX: u64 = 1_024;

/// Executions from one look at the clock and the memory to the next.
const LOOK: u64 = 64;

/// One family of decoders.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name on the command line, and that of its corpus in `tests/corpus`.
    pub name: &'static str,
    /// Longest input made for it.
    pub bytes_max: usize,
    /// Inputs beside those in the corpus folder: what other tests pin.
    seeds: fn() -> Result<Vec<Vec<u8>>>,
    /// An error is a finding, and so is a panic.
    check: fn(&[u8], &mut Probe) -> Result<(), String>,
}

/// All of them.
pub const TARGETS: [Target; 13] = [
    wire::LINE,
    wire::BLOCK,
    wire::MESSAGE,
    wire::TOPIC,
    wire::SEQUENCE,
    wire::DOOR,
    text::CONFIG,
    text::FLEET,
    text::MATLAB,
    disk::JOURNAL,
    disk::SPOOL,
    state::INGEST,
    learned::LEARNED,
];

/// The target of that name.
pub fn target(name: &str) -> Result<Target> {
    let names = TARGETS.map(|target| target.name).join(", ");
    let found = TARGETS.into_iter().find(|target| target.name == name);
    found.with_context(|| format!("there is no target {name}; there are {names}"))
}

/// What a target saw of one input.
#[derive(Debug, Default)]
pub struct Probe(BTreeSet<u64>);

impl Probe {
    /// Something that tells this input from others.
    pub fn note(&mut self, what: impl Hash) {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        self.0.insert(hasher.finish());
    }
}

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// After so long.
    Time(Duration),
    /// After so many inputs.
    Executions(u64),
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Inputs tried.
    pub executions: u64,
    /// Those kept for what they showed.
    pub population: usize,
    /// What went wrong, if anything did.
    pub finding: Option<Finding>,
}

/// An input that breaks something.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The input.
    pub input: Vec<u8>,
    /// Which of the run's, from 0.
    pub execution: u64,
    /// What it broke.
    pub what: String,
}

impl Finding {
    /// Writes the input to a file in `folder` and returns its path.
    pub fn write(&self, target: &Target, seed: u64, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(format!("{}-{seed}-{}", target.name, self.execution));
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, &self.input))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

/// Where the corpus of a target stands.
pub fn corpus_folder(target: &Target) -> PathBuf {
    workspace::root().join("tests/corpus").join(target.name)
}

/// The inputs that a run begins with, in an order that does not depend on the file system.
fn corpus(target: &Target) -> Result<Vec<Vec<u8>>> {
    let mut inputs = (target.seeds)()?;
    let folder = corpus_folder(target);
    if folder.is_dir() {
        let mut paths = std::fs::read_dir(&folder)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?;
        paths.sort();
        for path in paths {
            inputs.push(std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
        }
    }
    if inputs.is_empty() {
        bail!("target {} has no corpus", target.name);
    }
    Ok(inputs)
}

/// Plays one input. An error is a finding.
pub fn play(target: &Target, input: &[u8]) -> Result<(), String> {
    execute(target, input, &mut Probe::default())
}

/// Tries the corpus, then what a seed makes of it, until a finding or the limit.
#[allow(
    clippy::disallowed_methods,
    reason = "a run of so many seconds looks at the clock; what it tries does not depend on it"
)]
pub fn run(target: &Target, seed: u64, limit: Limit) -> Result<Outcome> {
    let corpus = corpus(target)?;
    let mut chance = Chance::new(seed);
    let mutator = Mutator::new(&corpus, target.bytes_max);
    let fixed = corpus.len();
    let mut population = corpus.clone();
    let mut seen = BTreeSet::new();
    let start = Instant::now();
    let mut executions = 0;
    let mut finding = None;
    let mut first = corpus.into_iter();
    loop {
        let over = match limit {
            Limit::Time(time) => executions % LOOK == 0 && start.elapsed() >= time,
            Limit::Executions(most) => executions >= most,
        };
        if over {
            break;
        }
        let input = first
            .next()
            .unwrap_or_else(|| mutator.mutate(&population, &mut chance));
        let mut probe = Probe::default();
        let mut failed = execute(target, &input, &mut probe).err();
        if executions % LOOK == 0 && resident_mib() > RESIDENT_MIB_MAX {
            failed = Some(format!("more than {RESIDENT_MIB_MAX} MiB of memory are in use"));
        }
        if let Some(what) = failed {
            finding = Some(Finding {
                input,
                execution: executions,
                what,
            });
            break;
        }
        executions += 1;
        let known = seen.len();
        seen.extend(probe.0);
        if seen.len() > known {
            if population.len() < POPULATION_MAX.max(fixed + 1) {
                population.push(input);
            } else {
                let at = fixed + chance.below((population.len() - fixed) as u64) as usize;
                population[at] = input;
            }
        }
    }
    Ok(Outcome {
        executions,
        population: population.len(),
        finding,
    })
}

thread_local! {
    /// Whether this thread looks for panics.
    static IS_FUZZING: Cell<bool> = const { Cell::new(false) };
    /// Where the last one was.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

fn execute(target: &Target, input: &[u8], probe: &mut Probe) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if IS_FUZZING.get() {
                PLACE.replace(info.to_string());
            } else {
                usual(info);
            }
        }));
    });
    IS_FUZZING.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.check)(input, probe)));
    IS_FUZZING.set(false);
    outcome.unwrap_or_else(|_| Err(PLACE.take()))
}

/// Memory that this process holds, MiB; 0 where the system does not say.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1_024
}

/// The lines `name = hex` of a golden file whose names begin so.
fn golden(start: &str) -> Result<Vec<Vec<u8>>> {
    let path = workspace::root().join("common/tests/golden/wire_v1.txt");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(start)?.split_once(" = "));
    lines.map(|(_, hex)| bytes_of(hex.trim())).collect()
}

fn bytes_of(hex: &str) -> Result<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
    digits.map(byte).collect()
}

/// How many files the spool has that the target of this name damages.
pub fn spool_files() -> u8 {
    disk::spool_files()
}

/// A finding unless it holds.
fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planted(input: &[u8], probe: &mut Probe) -> Result<(), String> {
        let depth = input.iter().zip(b"MAGIC").take_while(|(a, b)| a == b).count();
        probe.note(depth);
        assert!(depth < 5, "the planted panic");
        Ok(())
    }

    const PLANTED: Target = Target {
        name: "planted",
        bytes_max: 64,
        seeds: || Ok(vec![b"MUSIC box".to_vec(), b"pAnIC".to_vec()]),
        check: planted,
    };

    #[test]
    fn a_planted_panic_is_found_told_and_found_again() {
        let limit = Limit::Executions(2_000_000);
        let [first, second] = [(); 2].map(|()| run(&PLANTED, 7, limit).unwrap().finding.unwrap());
        assert!(first.input.starts_with(b"MAGIC"));
        assert!(first.what.contains("the planted panic") && first.what.contains("fuzz.rs"));
        assert_eq!(
            (first.input, first.execution),
            (second.input.clone(), second.execution)
        );
        let folder = tempfile::tempdir().unwrap();
        let file = second.write(&PLANTED, 7, folder.path()).unwrap();
        assert!(play(&PLANTED, &std::fs::read(file).unwrap()).is_err());
        assert_eq!(play(&PLANTED, b"MAGI"), Ok(()));
    }

    #[test]
    fn every_target_takes_its_own_corpus() {
        for target in &TARGETS {
            for (number, input) in corpus(target).unwrap().iter().enumerate() {
                assert_eq!(play(target, input), Ok(()), "{} {number}", target.name);
            }
        }
    }
}
