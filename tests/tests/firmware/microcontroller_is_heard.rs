//! The image's UART is the port of a real agent: what the microcontroller measures reaches the collector, and
//! whatever happens to it is told.

use super::toolchain;
use std::time::Duration;
use trunnion_firmware::last_words::{BYTES, LastWords};
use trunnion_tests::plant::POINT;
use trunnion_tests::qemu::BOARD;
use trunnion_tests::qemu::image::target_dir;
use trunnion_tests::qemu::scene::{ASSET, Felt, RATE_HZ, Scene, TEMPERATURE, VIBRATION};
use trunnion_tests::qemu::size::Size;

/// Samples of some seconds.
const A_WHILE: u64 = 3 * RATE_HZ as u64;

/// Flipped bits in a million: one in a thousand spoils nearly every long frame.
const NOISE: u32 = 1_000;

/// How long the noise lasts: longer than the node's outbox of waveforms.
const NOISE_TIME: Duration = Duration::from_secs(30);

#[test]
fn a_microcontroller_is_heard_through_resets_hangs_panics_and_noise() {
    let name = "a_microcontroller_is_heard_through_resets_hangs_panics_and_noise";
    let Some(toolchain) = toolchain(name) else {
        return;
    };
    let image = toolchain.build(BOARD, &target_dir()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::begin(dir.path(), &image, Felt::spalled_inner_race(), || false).unwrap();
    scene.node.set_temperature(41.5).unwrap();

    // Every frame of an undisturbed line is whole, once the agent has opened it.
    scene.await_stored(VIBRATION, A_WHILE).unwrap();
    let broken = scene.broken_frames().unwrap();
    scene.await_more(VIBRATION, A_WHILE).unwrap();
    scene.await_stored(TEMPERATURE, 3).unwrap();
    assert_eq!(scene.broken_frames().unwrap(), broken);

    // The spalled race is found in them.
    let found = scene.await_element().unwrap();
    assert_eq!(found["element"], "inner_race", "{found:#}");
    assert_eq!((&found["asset"], &found["point"]), (&ASSET.into(), &POINT.into()));

    // A housing that is too hot is an alarm.
    scene.node.set_temperature(95.0).unwrap();
    let alarm = scene.await_alarm("limit_exceeded").unwrap();
    assert_eq!(
        (&alarm["channel"], &alarm["value"]),
        (&TEMPERATURE.into(), &95.0.into())
    );

    // A reset begins another boot, and what the first one held has a name.
    scene.node.reset().unwrap();
    scene.await_boot(2).unwrap();
    scene.await_balance().unwrap();

    // Tasks that hang are ended by the watchdog, and the next life tells it.
    scene.node.hang().unwrap();
    scene.await_alarm("watchdog_bite").unwrap();
    scene.await_boot(3).unwrap();
    scene.await_balance().unwrap();

    // A panic ends a life at once, and the next one tells which instruction it was.
    let place = scene.node.panic().unwrap();
    let panicked = scene.await_alarm("panicked").unwrap();
    assert_eq!(panicked["value"], f64::from(place), "{panicked}");
    scene.await_boot(4).unwrap();
    scene.await_balance().unwrap();

    // Every life has looked at its stack, which its next one tells.
    let size = Size::of(&image).unwrap();
    let words = scene.node.memory(size.last_words, BYTES as u64).unwrap();
    let words = LastWords::from_bytes(words.try_into().unwrap()).unwrap();
    assert_eq!((words.lives, u64::from(words.stack.room)), (4, size.stack_room()));
    assert!((1..words.stack.room).contains(&words.stack.used), "{words:?}");

    // Noise costs frames their way, no sample its name.
    scene.node.line().set_noise(NOISE);
    scene.let_pass(NOISE_TIME).unwrap();
    scene.node.line().set_noise(0);
    assert!(
        scene.node.line().flipped() > 1_000,
        "{}",
        scene.node.line().flipped()
    );
    scene.await_more(VIBRATION, A_WHILE).unwrap();
    scene.await_balance().unwrap();
    scene.plant.stop().unwrap();
}
