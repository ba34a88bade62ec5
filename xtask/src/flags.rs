//! The commands; their doc comments are the help text.

use std::path::PathBuf;

/// Trunnion's automation.
#[derive(clap::Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) struct Xtask {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    /// Run the whole system on loopback: certificates, collector, agent and nodes as real processes;
    /// a healthy machine, then a fault. Ends by itself with a table.
    Demo(Demo),
    /// Make a development certificate authority, a server certificate for localhost and one gateway's
    /// bundle. Their keys protect nothing that matters: a plant's are made by `trunnion-collector init`.
    Certs {
        /// A new folder.
        dir: PathBuf,
    },
    /// Play seeded worlds: nodes, lines, agents, broker and collector in one process, with every fault.
    Sim(Sim),
    /// Feed every decoder with what a seed makes of its corpus; a finding is written to a file.
    Fuzz(Fuzz),
    /// Everything a change must pass short of the tests: format, lints, documentation, `no_std` build,
    /// dependency rules, and the shape of the repository.
    Ci,
    /// `ci`, then every test of the workspace.
    Test,
    /// SIGKILL collector and agent in turns under load, then prove that no sample was lost or doubled.
    Kills(Kills),
    /// Partition the line between agent and collector, and SIGKILL a mosquitto between them, again and
    /// again under load; then half an hour of a line that is long, lossy and thin. Prove each time that no
    /// sample was lost or doubled.
    Outages(Outages),
    /// Measure an area on a release build; ends with a table of figures beside their goals.
    Bench(Bench),
    /// Images of the firmware for its boards.
    #[command(subcommand)]
    Firmware(Firmware),
    /// Judge on public benchmarks how well faults are found, through the collector's own components; ends
    /// with a table of scores beside the published bests.
    Eval(Eval),
}

/// What to do with images.
#[derive(clap::Subcommand)]
pub(crate) enum Firmware {
    /// Build the image of a board; without a name, those of the boards that are always built.
    Build {
        /// Which.
        board: Option<String>,
    },
    /// Run the image in QEMU, and say where its line is.
    Run {
        /// Which: `qemu-an386`.
        board: String,
    },
    /// Flash, RAM and stack of every image; fails when one is over its budget.
    Size,
    /// Write the image into a board on a debug probe, and start it; needs probe-rs.
    Flash {
        /// Which.
        board: String,
    },
}

/// Flags of `demo`.
#[derive(clap::Args)]
pub(crate) struct Demo {
    /// Replay the real records found in this folder (MATLAB v5 `.mat`, `.f32le.gz`).
    #[arg(long, value_name = "DIR", conflicts_with = "machine")]
    pub(crate) data: Option<PathBuf>,
    /// Which machines to run when no records are replayed; simulated ones are also the default.
    #[arg(long, value_enum)]
    pub(crate) machine: Option<Machine>,
    /// Play a microcontroller instead, which runs the firmware's image in this emulator.
    #[arg(long, value_enum, exclusive = true)]
    pub(crate) firmware: Option<Emulator>,
    /// SIGKILL the collector and the agent once each in mid-run, and start them again.
    #[arg(long)]
    pub(crate) kill: bool,
    /// Write the closing table as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Leave everything running at the end, and say where the page is, until Ctrl-C or the end of the
    /// standard input.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// What runs an image of the firmware.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Emulator {
    /// QEMU, as the board `qemu-an386`.
    Qemu,
}

/// Flags of `kills`.
#[derive(clap::Args)]
pub(crate) struct Kills {
    /// How many.
    #[arg(long, default_value_t = 100)]
    pub(crate) count: u32,
    /// Dice of a former run, to strike with the same delays again.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Write the figures as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
}

/// Flags of `outages`.
#[derive(clap::Args)]
pub(crate) struct Outages {
    /// How many partitions: cut, refused, stalled, half-open, mute and thin lines.
    #[arg(long, default_value_t = 200)]
    pub(crate) partitions: u32,
    /// How many kills of the broker; needs mosquitto.
    #[arg(long, default_value_t = 100)]
    pub(crate) broker_kills: u32,
    /// How many minutes of a thin line: 500 ms each way, 20 % of the segments lost, 64 kbit/s.
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub(crate) thin_minutes: u32,
    /// Dice of a former run, for the same kinds and delays again.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Write the figures as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
}

/// Flags of `bench`.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// What to measure.
    #[arg(value_enum)]
    pub(crate) area: Area,
    /// Write the figures as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Size of the backlog that is drained: less than 1024 leaves the figures out that name it.
    #[arg(long, value_name = "MIB")]
    pub(crate) backlog_mib: Option<u64>,
    /// Measure this alone; may be given several times.
    #[arg(long, value_name = "SCENARIO")]
    pub(crate) only: Vec<String>,
    /// How often processes are killed.
    #[arg(long, value_name = "N")]
    pub(crate) kills: Option<u32>,
    /// How long the burst lasts; 60 for the figure's own goal.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) burst_s: Option<u64>,
    /// Measure the debug build as it is: for work on the measurement itself.
    #[arg(long)]
    pub(crate) debug: bool,
}

/// Flags of `eval`.
#[derive(clap::Args)]
pub(crate) struct Eval {
    /// The folder of recorded data; `TRUNNION_DATA` unless given.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Write the figures and the claims as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Run this benchmark alone; may be given several times.
    #[arg(long, value_name = "BENCHMARK")]
    pub(crate) only: Vec<String>,
    /// Run the debug build as it is: for work on the benchmarks themselves.
    #[arg(long)]
    pub(crate) debug: bool,
}

/// What is measured.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Area {
    /// From the gateway's spool into the collector's journal.
    Delivery,
    /// From the journal to windows, features and advisories, and the whole collector under load.
    Engine,
    /// The node: its image, its computations, its frames.
    Firmware,
}

/// Flags of `fuzz`.
#[derive(clap::Args)]
pub(crate) struct Fuzz {
    /// How long each target is tried.
    #[arg(long, default_value_t = 60, conflicts_with = "executions")]
    pub(crate) seconds: u64,
    /// How many inputs each target is given, instead of a time: the same ones for the same seed.
    #[arg(long, value_name = "N")]
    pub(crate) executions: Option<u64>,
    /// One target alone.
    #[arg(long, value_name = "NAME")]
    pub(crate) target: Option<String>,
    /// What the inputs are made of; another one each time unless given.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Play this input again instead, as a finding names it.
    #[arg(long, value_name = "FILE", requires = "target")]
    pub(crate) input: Option<PathBuf>,
}

/// Flags of `sim`.
#[derive(clap::Args)]
pub(crate) struct Sim {
    /// How many worlds.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) seeds: u64,
    /// The first one's seed.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub(crate) from: u64,
    /// Play the first one alone, and print what its journal says of this node (1 is the first) and what the
    /// ledger makes of it.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<u64>,
}

/// Where signals come from.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Machine {
    /// Physics-based simulated machines.
    Simulated,
}
