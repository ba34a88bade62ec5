//! Images of the firmware: built, run in QEMU, measured against their budget, flashed.

use crate::ci::{install, run as run_command};
use crate::flags::Firmware;
use crate::interrupt::Interrupt;
use crate::no_std;
use crate::report::{Skips, step};
use anyhow::{Context, Result, bail, ensure};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use trunnion_tests::process::await_some;
use trunnion_tests::qemu::image::{Toolchain, has, target_dir};
use trunnion_tests::qemu::size::{Size, budgets, stack_used};
use trunnion_tests::qemu::{BOARD, DEBIAN_PACKAGE, PROGRAM, Qemu, Spec, Stimulus, figures};

/// Every board that there is an image for, and the part that `probe-rs` calls it.
const BOARDS: [(&str, Option<&str>); 2] = [(BOARD, None), ("stm32f405", Some("STM32F405RGTx"))];

/// How long an image runs before its stack is measured: statuses, waveforms and readings have been sent.
const STACK_TIME: Duration = Duration::from_secs(10);

/// Does what was asked for.
pub(crate) fn run(flags: &Firmware) -> Result<()> {
    match flags {
        Firmware::Build { board } => build(board.as_deref()),
        Firmware::Run { board } => play(board),
        Firmware::Size => {
            let mut skips = Skips::default();
            let outcome = size(&mut skips);
            skips.tell();
            outcome
        }
        Firmware::Flash { board } => flash(board),
    }
}

/// In continuous integration: every image is built and within its budget.
pub(crate) fn check(skips: &mut Skips) -> Result<()> {
    if no_std::toolchain().is_none() {
        skips.add("images of the boards", &no_std::missing());
        return Ok(());
    }
    if !has(PROGRAM) && install(&[DEBIAN_PACKAGE]).is_err() {
        // The story that needs it says so, too.
        skips.add("images in QEMU", &format!("{PROGRAM} is not to be had here"));
    }
    size(skips)?;
    if has(PROGRAM) {
        features()?;
    }
    Ok(())
}

/// What the image computes is what this machine computes of the same samples.
fn features() -> Result<()> {
    let dir = tempfile::Builder::new().prefix("trunnion-node-").tempdir()?;
    let stimulus = figures::stimulus()?;
    let told = figures::measure(dir.path(), toolchain()?, &stimulus)?;
    let expected = figures::expected(&stimulus)?;
    figures::compare(&told.values, &expected)?;
    println!("{} features on {BOARD} are those of this machine", expected.len());
    Ok(())
}

fn toolchain() -> Result<Toolchain> {
    no_std::toolchain().with_context(no_std::missing)
}

fn build(board: Option<&str>) -> Result<()> {
    let toolchain = toolchain()?;
    let mut wanted: Vec<_> = BOARDS.iter().map(|(name, _)| *name).collect();
    if let Some(board) = board {
        ensure!(
            wanted.contains(&board),
            "no board {board}: there are {}",
            wanted.join(", ")
        );
        wanted = vec![board];
    }
    for board in wanted {
        let image = toolchain.build(board, &target_dir())?;
        println!("{board}: {}", image.display());
    }
    Ok(())
}

/// Runs the image until it is interrupted; an agent can open its line.
fn play(board: &str) -> Result<()> {
    ensure!(board == BOARD, "QEMU plays {BOARD}, not {board}");
    let image = toolchain()?.build(board, &target_dir())?;
    if !has(PROGRAM) {
        install(&[DEBIAN_PACKAGE])?;
    }
    let dir = tempfile::Builder::new().prefix("trunnion-node-").tempdir()?;
    let mut node = Qemu::start(dir.path(), &image, &silence(), &dir.path().join("line"))?;
    println!("the node's line: {}", dir.path().join("line").display());
    println!("Ctrl-C ends it");
    let mut interrupt = Interrupt::install()?;
    while !interrupt.has_come() {
        ensure!(node.is_running(), "QEMU has ended");
        let _: Option<()> = await_some(Duration::from_millis(200), || None);
    }
    Ok(())
}

/// A machine at rest, felt at 12 kHz.
fn silence() -> Spec {
    Spec {
        node: 0xA1,
        entropy: std::process::id(),
        stimulus: Stimulus {
            samples: vec![0; 12_000],
            rate_mhz: NonZeroU32::new(12_000_000).expect("not 0"),
            range_g: 16.0,
        },
    }
}

/// Flash, RAM and stack of every image beside its budget.
fn size(skips: &mut Skips) -> Result<()> {
    let toolchain = toolchain()?;
    let budgets = budgets()?;
    let mut over = Vec::new();
    println!("{:14}{:9}{:>10}{:>10}", "board", "", "KiB", "budget");
    for (board, _) in BOARDS {
        let budget = budgets
            .get(board)
            .with_context(|| format!("firmware/budget.toml has no budget for {board}"))?;
        let image = toolchain.build(board, &target_dir())?;
        let size = Size::of(&image)?;
        let stack = if board == BOARD && has(PROGRAM) {
            Some(stack_in_qemu(&image, &size)?)
        } else {
            skips.add(
                &format!("stack of {board}"),
                "only QEMU shows it, for its own board",
            );
            None
        };
        let rows = [
            ("flash", Some(size.flash), Some(budget.flash_kib)),
            ("RAM", Some(size.ram), Some(budget.ram_kib)),
            ("waveforms", Some(size.buffers), None),
            ("stack", stack, Some(budget.stack_kib)),
        ];
        for (what, bytes, budget) in rows {
            let Some(bytes) = bytes else {
                continue;
            };
            let kib = bytes as f64 / 1_024.0;
            let told = budget.map_or_else(String::new, |budget| format!("{budget:.1}"));
            println!("{board:14}{what:9}{kib:>10.1}{told:>10}");
            if budget.is_some_and(|budget| kib > budget) {
                over.push(format!("{what} of {board}"));
            }
        }
    }
    if over.is_empty() {
        return Ok(());
    }
    bail!(
        "over the budget in firmware/budget.toml: {}; take something out, or say there why it is worth more",
        over.join(", ")
    )
}

/// How much stack the image has used after a while.
fn stack_in_qemu(image: &Path, size: &Size) -> Result<u64> {
    let dir = tempfile::Builder::new().prefix("trunnion-node-").tempdir()?;
    let mut node = Qemu::start(dir.path(), image, &silence(), &dir.path().join("line"))?;
    let _: Option<()> = await_some(STACK_TIME, || None);
    let (end, start) = size.stack_place;
    Ok(stack_used(&node.memory(end, start - end)?))
}

/// Writes the image into a board on a debug probe.
fn flash(board: &str) -> Result<()> {
    let known = BOARDS.iter().find(|(name, _)| *name == board);
    let (_, chip) = known.with_context(|| format!("no board {board}"))?;
    let chip = chip.with_context(|| format!("{board} is no hardware: cargo xtask firmware run {board}"))?;
    let image = toolchain()?.build(board, &target_dir())?;
    ensure!(
        has("probe-rs"),
        "probe-rs is not installed: cargo install --locked probe-rs-tools"
    );
    step(&format!("flashing {board}"));
    let mut command = Command::new("probe-rs");
    command.args(["run", "--chip", chip]).arg(image);
    run_command(command)
}
