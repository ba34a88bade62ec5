//! The image of a real part, on an emulated one that has nothing on its pins: it says so, and goes on.

use super::toolchain;
use trunnion_tests::qemu::image::target_dir;
use trunnion_tests::qemu::netduino::BOARD;
use trunnion_tests::qemu::scene::{BROKEN_CURRENT, BROKEN_SPEED, BROKEN_TEMPERATURE, Scene, VIBRATION};

#[test]
fn a_part_without_crystal_and_instruments_says_so_and_tells_what_it_can() {
    let name = "a_part_without_crystal_and_instruments_says_so_and_tells_what_it_can";
    let Some(toolchain) = toolchain(name) else {
        return;
    };
    let image = toolchain.build(BOARD, &target_dir()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::broken(dir.path(), &image).unwrap();

    // What is not there is told, each by its name.
    let alarm = scene.await_alarm("no_crystal").unwrap();
    assert!(alarm["channel"].is_null(), "{alarm}");
    for channel in [VIBRATION, BROKEN_TEMPERATURE, BROKEN_CURRENT] {
        scene.await_alarm_of("sensor_lost", channel).unwrap();
    }
    // The others go on to tell that they have nothing yet: a tachometer that gave no pulse may not be there at all.
    scene.await_stored(BROKEN_SPEED, 3).unwrap();
    scene.await_balance().unwrap();
    assert_eq!(scene.broken_frames().unwrap(), 0);

    // No data is data: not one sample of vibration was made up.
    assert_eq!(scene.stored(VIBRATION).unwrap(), 0);
    let rows = scene.rows(VIBRATION).unwrap();
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert!(rows[0]["produced"].as_u64().unwrap() > 0, "{rows:#?}");

    // A flash that takes nothing gives no boot number; the lives are told apart all the same.
    scene.node.reset().unwrap();
    scene.await_boot(2).unwrap();
    scene.await_more(BROKEN_SPEED, 3).unwrap();
    scene.await_balance().unwrap();
    scene.plant.stop().unwrap();
}
