//! Images of the firmware: built, run in QEMU, measured against their budget, flashed.

use crate::ci::{install, run as run_command};
use crate::flags::Firmware;
use crate::interrupt::Interrupt;
use crate::no_std;
use crate::report::{Skips, step};
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use trunnion_tests::process::await_some;
use trunnion_tests::qemu::image::{TARGET, TARGET_M33, Toolchain, has, target_dir};
use trunnion_tests::qemu::layout::{self, Map};
use trunnion_tests::qemu::size::{Size, budgets, stack_used};
use trunnion_tests::qemu::{BOARD, DEBIAN_PACKAGE, PROGRAM, Qemu, Spec, Stimulus, Wiring, figures, netduino};

/// A board that there is an image for.
struct Board {
    name: &'static str,
    /// What `probe-rs` calls the part; nothing for one that is emulated.
    part: Option<&'static str>,
    /// What it is compiled for.
    target: &'static str,
}

/// The boards whose images continuous integration builds and measures.
const BOARDS: [Board; 4] = [
    Board {
        name: BOARD,
        part: None,
        target: TARGET,
    },
    Board {
        name: "stm32f405",
        part: Some("STM32F405RGTx"),
        target: TARGET,
    },
    Board {
        name: "stm32g474",
        part: Some("STM32G474RETx"),
        target: TARGET,
    },
    Board {
        name: "nrf52840",
        part: Some("nRF52840_xxAA"),
        target: TARGET,
    },
];

/// The boards whose images are built when somebody asks for them by name: their HALs take minutes to compile.
const ON_REQUEST: [Board; 2] = [
    Board {
        name: "stm32h563",
        part: Some("STM32H563ZITx"),
        target: TARGET_M33,
    },
    Board {
        name: "rp2350",
        part: Some("RP235x"),
        target: TARGET_M33,
    },
];

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
        skips.add("images of the boards", &no_std::missing(TARGET));
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
    toolchain_for(TARGET)
}

fn toolchain_for(target: &'static str) -> Result<Toolchain> {
    no_std::toolchain_for(target).with_context(|| no_std::missing(target))
}

fn find(name: &str) -> Result<&'static Board> {
    let boards = || BOARDS.iter().chain(&ON_REQUEST);
    let found = boards().find(|board| board.name == name);
    found.with_context(|| {
        let known: Vec<_> = boards().map(|board| board.name).collect();
        format!("no board {name}: there are {}", known.join(", "))
    })
}

fn build(name: Option<&str>) -> Result<()> {
    let wanted = match name {
        Some(name) => std::slice::from_ref(find(name)?),
        None => &BOARDS[..],
    };
    // Boards that are built together have one target.
    let toolchain = toolchain_for(wanted[0].target)?;
    for board in wanted {
        println!("{}: {}", board.name, image_of(board, toolchain)?.display());
    }
    Ok(())
}

/// The image of `board`, built now, which lies where its part looks for it.
fn image_of(board: &Board, toolchain: Toolchain) -> Result<PathBuf> {
    let image = toolchain.build(board.name, &target_dir())?;
    let map = Map::of(board.name)?;
    layout::check(&image, &map).with_context(|| format!("the image of {} is no good", board.name))?;
    Ok(image)
}

/// Runs the image until it is interrupted; an agent can open its line.
fn play(board: &str) -> Result<()> {
    ensure!(
        EMULATED.contains(&board),
        "QEMU plays {}, not {board}",
        EMULATED.join(" and ")
    );
    let image = toolchain()?.build(board, &target_dir())?;
    if !has(PROGRAM) {
        install(&[DEBIAN_PACKAGE])?;
    }
    let dir = tempfile::Builder::new().prefix("trunnion-node-").tempdir()?;
    let mut node = emulate(board, dir.path(), &image)?;
    println!("the node's line: {}", dir.path().join("line").display());
    println!("Ctrl-C ends it");
    let mut interrupt = Interrupt::install()?;
    while !interrupt.has_come() {
        ensure!(node.is_running(), "QEMU has ended");
        let _: Option<()> = await_some(Duration::from_millis(200), || None);
    }
    Ok(())
}

/// The boards whose images QEMU runs.
const EMULATED: [&str; 2] = [BOARD, netduino::BOARD];

/// A board's image in QEMU, with its line in `dir`.
fn emulate(board: &str, dir: &Path, image: &Path) -> Result<Qemu> {
    let line = dir.join("line");
    if board == netduino::BOARD {
        return Qemu::start_part(dir, image, [0xA1; 12], &line);
    }
    Qemu::start(dir, image, &silence(), &line)
}

/// A machine at rest, felt at 12 kHz.
fn silence() -> Spec {
    Spec {
        node: 0xA1,
        entropy: std::process::id(),
        wiring: Wiring::Own,
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
    for board in &BOARDS {
        let name = board.name;
        let budget = budgets
            .get(name)
            .with_context(|| format!("firmware/budget.toml has no budget for {name}"))?;
        let image = image_of(board, toolchain)?;
        let size = Size::of(&image)?;
        let stack = if EMULATED.contains(&name) && has(PROGRAM) {
            Some(stack_in_qemu(name, &image, &size)?)
        } else {
            skips.add(
                &format!("stack of {name}"),
                &format!("only QEMU shows it, of {}", EMULATED.join(" and ")),
            );
            None
        };
        let rows = [
            ("flash", Some(size.flash), Some(budget.flash_kib)),
            ("RAM", Some(size.ram), Some(budget.ram_kib)),
            ("waveforms", Some(size.buffers), None),
            ("stack", stack, Some(budget.stack_kib)),
            ("its room", Some(size.stack_room()), None),
        ];
        if (size.stack_room() as f64) < budget.stack_kib * 1_024.0 {
            over.push(format!("what RAM must leave for the stack of {name}"));
        }
        for (what, bytes, budget) in rows {
            let Some(bytes) = bytes else {
                continue;
            };
            let kib = bytes as f64 / 1_024.0;
            let told = budget.map_or_else(String::new, |budget| format!("{budget:.1}"));
            println!("{name:14}{what:9}{kib:>10.1}{told:>10}");
            if budget.is_some_and(|budget| kib > budget) {
                over.push(format!("{what} of {name}"));
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
fn stack_in_qemu(board: &str, image: &Path, size: &Size) -> Result<u64> {
    let dir = tempfile::Builder::new().prefix("trunnion-node-").tempdir()?;
    let mut node = emulate(board, dir.path(), image)?;
    let _: Option<()> = await_some(STACK_TIME, || None);
    let (end, start) = size.stack_place;
    Ok(stack_used(&node.memory(end, start - end)?))
}

/// Writes the image into a board on a debug probe, and starts it.
fn flash(name: &str) -> Result<()> {
    let board = find(name)?;
    let part = board.part;
    let part = part.with_context(|| format!("{name} is no hardware: cargo xtask firmware run {name}"))?;
    ensure!(
        has("probe-rs"),
        "probe-rs is not on the path; it comes with `cargo install --locked probe-rs-tools`, and https://probe.rs/docs \
         says what else a debug probe needs on this machine"
    );
    let image = image_of(board, toolchain_for(board.target)?)?;
    step(&format!("flashing {name}"));
    for arguments in probe_rs(part, &image) {
        let mut command = Command::new("probe-rs");
        command.args(arguments);
        run_command(command)?;
    }
    Ok(())
}

/// What `probe-rs` is told: only the sectors of the image are erased, so that settings stay, and the part is left running
/// by itself. `probe-rs run` would catch the reset by which a node ends after a panic.
fn probe_rs(part: &str, image: &Path) -> [Vec<OsString>; 2] {
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let mut download = words(&["download", "--chip", part, "--verify"]);
    download.push(image.into());
    [download, words(&["reset", "--chip", part])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn a_board_is_flashed_verified_and_left_running() {
        let part = find("stm32g474").unwrap().part.unwrap();
        let lines = probe_rs(part, Path::new("/target/stm32g474"));
        let lines = lines.map(|line| line.join(OsStr::new(" ")));
        assert_eq!(
            lines,
            [
                "download --chip STM32G474RETx --verify /target/stm32g474",
                "reset --chip STM32G474RETx"
            ]
        );
    }

    #[test]
    fn every_board_has_a_budget_and_a_place_in_memory() {
        let budgets = budgets().unwrap();
        for board in &BOARDS {
            assert!(budgets.contains_key(board.name), "{}", board.name);
        }
        for board in BOARDS.iter().chain(&ON_REQUEST) {
            Map::of(board.name).unwrap();
        }
    }
}
