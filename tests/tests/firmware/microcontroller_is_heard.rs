//! The image's UART is the port of a real agent: what the microcontroller measures reaches the collector, and
//! whatever happens to it is told.

use super::{Felt, RANGE_G, RATE_HZ, felt, simulated, toolchain};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use trunnion_tests::plant::{Machine, NodeSpec, POINT, Plant, Source, fleet_text};
use trunnion_tests::process::await_some;
use trunnion_tests::qemu::image::target_dir;
use trunnion_tests::qemu::{BOARD, Qemu, Spec};
use trunnion_tests::record::{CwruRecord, Place, data_dir};

/// How long anything may take on a busy machine; nothing here is asserted to be fast.
const LIMIT: Duration = Duration::from_secs(120);

const NODE: u64 = 0xA1;
const VIBRATION: u64 = 0;
const TEMPERATURE: u64 = 1;

/// Samples of some seconds.
const A_WHILE: u64 = 3 * RATE_HZ as u64;

/// Flipped bits in a million: one in a thousand spoils nearly every long frame.
const NOISE: u32 = 1_000;

/// How long the noise lasts: longer than the node's outbox of waveforms.
const NOISE_TIME: Duration = Duration::from_secs(30);

/// A spalled inner race: a real one where the records are, else a simulated one.
fn spalled_inner_race() -> Felt {
    let file = data_dir().join("cwru/12k_Drive_End_IR007_0_105.mat");
    match CwruRecord::read(&file) {
        Ok(record) => felt(record.channel(Place::DriveEnd).unwrap(), 60.0 * record.shaft_hz()),
        Err(_) => simulated(),
    }
}

fn fleet(rpm: f64) -> String {
    let machine = Machine {
        asset: "fan-1".to_owned(),
        node: format!("{NODE:016x}"),
        rpm,
        bearing: Some("6205".to_owned()),
        range_g: RANGE_G,
        band_high_hz: 4_800.0,
    };
    let temperature = format!(
        "\n[[site.area.asset.point.channel]]\nid = \"t\"\nnode = \"{NODE:016x}\"\n\
         channel = {TEMPERATURE}\nquantity = \"temperature\"\nunit = \"degC\"\nrange = 128.0\n\
         band_hz = [0.0, 0.5]\n"
    );
    fleet_text(&[machine]) + &temperature
}

struct Scene {
    plant: Plant,
    node: Qemu,
}

impl Scene {
    fn begin(dir: &Path, image: &Path, felt: Felt) -> Self {
        let mut plant = Plant::found(dir, &fleet(felt.rpm)).unwrap();
        plant.start_collector().unwrap();
        let spec = Spec {
            node: NODE,
            entropy: 0x5EED,
            stimulus: felt.stimulus,
        };
        let id = format!("{NODE:016x}");
        let node = Qemu::start(&dir.join("node"), image, &spec, &plant.line(&id)).unwrap();
        let port = NodeSpec {
            id,
            source: Source::Recording(PathBuf::new()),
            rate_hz: RATE_HZ,
            range_g: RANGE_G,
            start_at_ms: 0,
        };
        plant.start_agent(&[port]).unwrap();
        Self { plant, node }
    }

    /// What is true within the time that it may take.
    fn wait<T>(&self, what: &str, seen: impl FnMut() -> Option<T>) -> T {
        await_some(LIMIT, seen).unwrap_or_else(|| {
            let answers = ["ledger", "alarms", "advisories"];
            let told = answers.map(|what| self.plant.get(&format!("/api/v1/{what}")));
            panic!("{what} was waited for in vain: {told:#?}")
        })
    }

    /// The ledger's rows of a channel, one for each boot.
    fn rows(&self, channel: u64) -> Vec<Value> {
        let ledger = self.plant.get("/api/v1/ledger").unwrap();
        let rows = ledger["rows"].as_array().unwrap().iter();
        rows.filter(|row| row["channel"] == channel).cloned().collect()
    }

    fn stored(&self, channel: u64) -> u64 {
        let rows = self.rows(channel);
        rows.iter().map(|row| row["stored"].as_u64().unwrap()).sum()
    }

    fn await_stored(&self, channel: u64, least: u64) {
        let what = format!("{least} samples of channel {channel}");
        self.wait(&what, || (self.stored(channel) >= least).then_some(()));
    }

    fn await_more(&self, channel: u64, samples: u64) {
        self.await_stored(channel, self.stored(channel) + samples);
    }

    fn await_boots(&self, boots: usize) {
        let what = format!("boot {boots}");
        self.wait(&what, || (self.rows(VIBRATION).len() >= boots).then_some(()));
    }

    fn await_alarm(&self, kind: &str) -> Value {
        self.wait(kind, || self.entry("alarms", |alarm| alarm["kind"] == kind))
    }

    fn entry(&self, list: &str, is_it: impl Fn(&Value) -> bool) -> Option<Value> {
        let told = self.plant.get(&format!("/api/v1/{list}")).ok()?;
        told[list].as_array()?.iter().find(|entry| is_it(entry)).cloned()
    }

    /// Every sample of every boot is stored, waits somewhere, or is lost for a cause.
    fn await_balance(&self) {
        self.wait("the balance", || {
            let ledger = self.plant.get("/api/v1/ledger").unwrap();
            let unexplained = &ledger["totals"]["unexplained"];
            (ledger["balanced"] == true && *unexplained == 0).then_some(())
        });
    }

    fn broken_frames(&self) -> f64 {
        let metric = "trunnion_agent_frames_broken_total";
        self.plant.agent_metric(metric).unwrap()
    }
}

#[test]
fn a_microcontroller_is_heard_through_resets_hangs_and_noise() {
    let name = "a_microcontroller_is_heard_through_resets_hangs_and_noise";
    let Some(toolchain) = toolchain(name) else {
        return;
    };
    let image = toolchain.build(BOARD, &target_dir()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::begin(dir.path(), &image, spalled_inner_race());
    scene.node.set_temperature(41.5).unwrap();

    // Every frame of an undisturbed line is whole, once the agent has opened it.
    scene.await_stored(VIBRATION, A_WHILE);
    let broken = scene.broken_frames();
    scene.await_more(VIBRATION, A_WHILE);
    scene.await_stored(TEMPERATURE, 3);
    assert_eq!(scene.broken_frames(), broken);

    // The spalled race is found in them.
    let found = scene.wait("an advisory of the bearing", || {
        scene.entry("advisories", |advisory| advisory["element"].is_string())
    });
    assert_eq!(found["element"], "inner_race", "{found:#}");
    assert_eq!(
        (&found["asset"], &found["point"]),
        (&"fan-1".into(), &POINT.into())
    );

    // A housing that is too hot is an alarm.
    scene.node.set_temperature(95.0).unwrap();
    let alarm = scene.await_alarm("limit_exceeded");
    assert_eq!(
        (&alarm["channel"], &alarm["value"]),
        (&TEMPERATURE.into(), &95.0.into())
    );

    // A reset begins another boot, and what the first one held has a name.
    scene.node.reset().unwrap();
    scene.await_boots(2);
    scene.await_balance();

    // Tasks that hang are ended by the watchdog, and the next life tells it.
    scene.node.hang().unwrap();
    scene.await_alarm("watchdog_bite");
    scene.await_boots(3);
    scene.await_balance();

    // Noise costs frames their way, no sample its name.
    scene.node.line().set_noise(NOISE);
    let ended: Option<()> = await_some(NOISE_TIME, || (!scene.node.is_running()).then_some(()));
    scene.node.line().set_noise(0);
    assert_eq!(ended, None, "QEMU has ended");
    assert!(
        scene.node.line().flipped() > 1_000,
        "{}",
        scene.node.line().flipped()
    );
    scene.await_more(VIBRATION, A_WHILE);
    scene.await_balance();
    scene.plant.stop().unwrap();
}
