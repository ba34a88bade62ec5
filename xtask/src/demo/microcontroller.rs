//! The demo with the firmware's image in QEMU as its one node: a spalled bearing, a hot housing, a reset.

use crate::ci::{has, install};
use crate::interrupt::Interrupt;
use crate::no_std;
use crate::report::step;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::time::Duration;
use trunnion_tests::qemu::image::{TARGET, target_dir};
use trunnion_tests::qemu::scene::{Felt, RATE_HZ, Scene, TEMPERATURE, VIBRATION};
use trunnion_tests::qemu::{BOARD, DEBIAN_PACKAGE, PROGRAM};
use trunnion_tests::workspace::cargo;

/// How hot the housing is at first, and then, degrees Celsius.
const WARM: f64 = 41.5;
const HOT: f64 = 95.0;

/// How long waveforms are looked at before anything happens.
const QUIET: Duration = Duration::from_secs(10);

/// Plays the demo and prints how it ended.
pub(crate) fn run() -> Result<()> {
    let toolchain = no_std::toolchain().with_context(|| no_std::missing(TARGET))?;
    if !has(PROGRAM) {
        install(&[DEBIAN_PACKAGE])?;
    }
    step("building the image and the programs");
    let image = toolchain.build(BOARD, &target_dir())?;
    crate::ci::run(cargo(["build", "--workspace", "--bins"]))?;
    let dir = tempfile::Builder::new()
        .prefix("trunnion-demo-")
        .tempdir()
        .context("no temporary directory")?;
    let mut interrupt = Interrupt::install()?;
    // Whatever way this ends, no process is left: one that is dropped is killed.
    match tell(dir.path(), &image, || interrupt.has_come()) {
        Ok(()) => Ok(()),
        Err(error) => bail!(
            "{error:#}\nevery process has been ended; logs and data are kept in {}",
            dir.keep().display()
        ),
    }
}

fn tell(dir: &Path, image: &Path, has_left: impl FnMut() -> bool) -> Result<()> {
    step("founding the plant; a Cortex-M4F in QEMU is its node");
    let mut scene = Scene::begin(dir, image, Felt::spalled_inner_race(), has_left)?;
    scene.node.set_temperature(WARM)?;
    println!("    {}", scene.plant.url("/")?);
    scene.await_stored(VIBRATION, RATE_HZ as u64)?;
    scene.await_stored(TEMPERATURE, 1)?;
    step(&format!(
        "waveforms at {RATE_HZ} Hz and temperatures reach the collector"
    ));
    let broken = scene.broken_frames()?;
    scene.let_pass(QUIET)?;
    let broken = scene.broken_frames()? - broken;
    print_ledger(&scene)?;
    println!("    frames broken meanwhile: {broken}");

    let advisory = scene.await_element()?;
    step(&format!(
        "advisory on {}: {}",
        advisory["asset"], advisory["element"]
    ));
    scene.node.set_temperature(HOT)?;
    let alarm = scene.await_alarm("limit_exceeded")?;
    step(&format!(
        "the housing is at {HOT} degrees: alarm {} on channel {}, {}",
        alarm["kind"], alarm["channel"], alarm["value"]
    ));
    scene.node.reset()?;
    scene.await_boot(2)?;
    scene.await_balance()?;
    step("the node was reset: another boot, and the ledger is balanced");
    print_ledger(&scene)?;
    scene.plant.stop()
}

/// Where the samples of each channel and boot are.
fn print_ledger(scene: &Scene<'_>) -> Result<()> {
    println!(
        "    {:<18} {:<8} {:>10} {:>10} {:>8} {:>9} {:>12}",
        "boot", "channel", "produced", "stored", "lost", "pending", "unexplained"
    );
    for channel in [VIBRATION, TEMPERATURE] {
        for row in scene.rows(channel)? {
            let number = |name: &str| row[name].as_u64().unwrap_or(0);
            println!(
                "    {:<18} {channel:<8} {:>10} {:>10} {:>8} {:>9} {:>12}",
                row["boot"].as_str().unwrap_or_default(),
                number("produced"),
                number("stored"),
                number("lost"),
                number("pending"),
                row["unexplained"]
            );
        }
    }
    Ok(())
}
