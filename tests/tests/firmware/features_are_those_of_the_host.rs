//! What the microcontroller computes of a window, and what that costs it.

use super::toolchain;
use trunnion_tests::qemu::figures;
use trunnion_tests::qemu::scene::Felt;

#[test]
fn features_on_the_microcontroller_are_those_of_the_host_and_within_their_instructions() {
    let name = "features_on_the_microcontroller_are_those_of_the_host_and_within_their_instructions";
    let Some(toolchain) = toolchain(name) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let stimulus = Felt::simulated().stimulus;
    let told = figures::measure(dir.path(), toolchain, &stimulus).unwrap();
    figures::compare(&told.values, &figures::expected(&stimulus).unwrap()).unwrap();
    for (name, most) in [
        ("feature_window_instructions", 90_000),
        ("edge_inference_instructions", 200_000),
    ] {
        let cost = told.cost(name).unwrap();
        assert!(cost <= most, "{name}: {cost} is more than {most}");
    }
}
