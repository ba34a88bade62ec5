//! Two wires with several nodes and one agent, all of them real processes: one is calibrated, dies and comes back, one
//! joins late, one has another one's number, and alarms are raised while the line is busy.

use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use trunnion_tests::plant::{Machine, NodeSpec, Plant, Source, binary, fleet_text, run, warm};
use trunnion_tests::process::await_some;
use trunnion_tests::rs485::Wires;
use trunnion_tests::story::rms_series;

const LIMIT: Duration = Duration::from_secs(60);
const BAUD: u32 = 921_600;
const RATE_HZ: f64 = 6_000.0;

/// Of a saw from 0 to 1 g: 1 over the root of 12.
const SAW_RMS: f64 = 0.288_675;

/// The line that the agent opens.
const WIRES: &str = "wires";

/// Names of the nodes' own ends.
const FIRST: &str = "first";
const FAILING: &str = "failing";
const PIRATED: &str = "pirated";
const LATE: &str = "late";
const PIRATE: &str = "pirate";

/// The nodes' numbers; the last end has another one's.
const NODES: [(&str, u64); 5] = [
    (FIRST, 0xa1),
    (FAILING, 0xa2),
    (PIRATED, 0xa3),
    (LATE, 0xa4),
    (PIRATE, 0xa3),
];

struct Story {
    plant: Plant,
    wires: Wires,
    degrees: std::path::PathBuf,
}

fn node_id(name: &str) -> String {
    let (_, id) = NODES.iter().find(|(known, _)| *known == name).unwrap();
    format!("{id:016x}")
}

fn fleet() -> String {
    let machine = |name: &&str| Machine {
        asset: format!("fan-{name}"),
        node: node_id(name),
        rpm: 1_772.0,
        bearing: None,
        range_g: 16.0,
        band_high_hz: 2_400.0,
    };
    fleet_text(
        &[FIRST, FAILING, PIRATED, LATE]
            .iter()
            .map(machine)
            .collect::<Vec<_>>(),
    )
}

impl Story {
    /// A collector, and an agent on wires that nobody else is on yet.
    fn begin(dir: &Path) -> Self {
        let mut plant = Plant::found(dir, &fleet()).unwrap();
        let samples: Vec<u8> = (0..6_000_u32)
            .flat_map(|i| ((i % 1_000) as f32 / 1_000.0).to_le_bytes())
            .collect();
        std::fs::write(dir.join("saw.f32"), samples).unwrap();
        let degrees = dir.join("degrees");
        warm(&degrees, 40.0).unwrap();
        let wires = Wires::open(&plant.line(WIRES), BAUD).unwrap();
        plant.start_collector().unwrap();
        plant.start_agent_on_wires(WIRES, BAUD).unwrap();
        Self {
            plant,
            wires,
            degrees,
        }
    }

    /// A node's power comes on.
    fn start(&mut self, name: &str) {
        let spec = NodeSpec {
            id: node_id(name),
            source: Source::Recording(self.plant.dir().join("saw.f32")),
            rate_hz: RATE_HZ,
            range_g: 16.0,
            start_at_ms: 0,
        };
        let degrees = self.degrees.to_str().unwrap().to_owned();
        let thermometer = ["--temperature-file", &degrees];
        self.plant.start_sharing_node(&spec, name, &thermometer).unwrap();
        self.wires.connect(&self.plant.line(name)).unwrap();
    }

    /// The rows of a node's vibration, one for each of its lives that has samples in the journal.
    fn lives(&self, name: &str) -> Vec<Value> {
        let ledger = self.plant.get("/api/v1/ledger").unwrap();
        let rows = ledger["rows"].as_array().unwrap().iter();
        let is_it = |row: &&Value| row["node"] == node_id(name) && row["channel"] == 0;
        let has_samples = |row: &&Value| row["stored"].as_u64() > Some(0);
        rows.filter(is_it).filter(has_samples).cloned().collect()
    }

    fn await_lives(&self, name: &str, count: usize) {
        let found = await_some(LIMIT, || (self.lives(name).len() == count).then_some(()));
        assert!(
            found.is_some(),
            "{name}: {:#?}\n{}",
            self.lives(name),
            self.agent_log()
        );
    }

    /// Waits until the newest whole window of a node's machine has this RMS, g, to half a percent.
    fn await_rms(&self, name: &str, expected: f64) {
        let latest = || {
            let series = self.plant.get(&rms_series(&format!("fan-{name}"))).ok()?;
            let values = series["values"].as_array()?.iter().rev();
            let mut whole = values.filter(|value| value["coverage"].as_f64() > Some(0.99));
            whole.next()?["value"].as_f64()
        };
        let is_it = |rms: &f64| (rms / expected - 1.0).abs() < 5e-3;
        let found = await_some(LIMIT, || latest().filter(is_it));
        assert!(found.is_some(), "{name}: {:?} is not {expected}", latest());
    }

    /// A person asks for something, and it is done.
    fn order(&self, name: &str, what: &[&str], kind: &str) {
        let mut command = Command::new(binary("trunnion-collector").unwrap());
        let config = self.plant.collector_dir().join("collector.toml");
        command.args(["command", kind, &node_id(name)]).args(what);
        run(command.arg("--config").arg(config)).unwrap();
        let done = || {
            let gateways = self.plant.get("/api/v1/gateways").ok()?;
            let commands = gateways["gateways"][0]["commands"].as_array()?.clone();
            let mut found = commands.into_iter().filter(|command| command["kind"] == kind);
            found.find(|command| command["in_effect"] == true)
        };
        let found = await_some(LIMIT, done);
        assert!(
            found.is_some(),
            "{kind}: {:#?}",
            self.plant.get("/api/v1/gateways")
        );
    }

    fn await_change(&self, change: &str, least: f64) {
        let name = format!("trunnion_agent_line_changes_total{{reason=\"{change}\"}}");
        let found = await_some(LIMIT, || {
            self.plant.agent_metric(&name).ok().filter(|&n| n >= least)
        });
        assert!(found.is_some(), "{change}: {}", self.agent_log());
    }

    fn agent_log(&self) -> String {
        self.plant.agent.as_ref().unwrap().log()
    }
}

#[test]
fn whoever_comes_goes_or_is_there_twice_the_line_serves_the_others_and_every_sample_has_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut story = Story::begin(dir.path());
    [FIRST, FAILING, PIRATED]
        .iter()
        .for_each(|name| story.start(name));
    [FIRST, FAILING, PIRATED]
        .iter()
        .for_each(|name| story.await_lives(name, 1));

    story.await_rms(FAILING, SAW_RMS);
    story.order(FAILING, &["--channel", "0", "--gain", "1.25"], "calibrate");

    // One loses its power; who comes late is found with it, and so is a part with another one's number.
    story.plant.unplug_node(FAILING).unwrap();
    let unanswered = || {
        story
            .plant
            .agent_metric("trunnion_agent_polls_unanswered_total")
            .ok()
    };
    await_some(LIMIT, || unanswered().filter(|&polls| polls >= 1.0)).expect("a dead node is polled");
    [FAILING, LATE, PIRATE].iter().for_each(|name| story.start(name));
    story.await_lives(FAILING, 2);
    story.await_lives(LATE, 1);
    story.await_rms(FAILING, 1.25 * SAW_RMS);
    story.await_rms(LATE, SAW_RMS);

    // Of the two with one number neither is polled, and the others are.
    story.await_change("twins", 1.0);
    let (told, twice) = (story.agent_log(), node_id(PIRATED));
    let named = |line: &str| line.contains("two nodes have the same id") && line.contains(&twice);
    assert!(told.lines().any(named), "{told}");
    warm(&story.degrees, 95.0).unwrap();
    for name in [FIRST, FAILING, LATE] {
        let alarms = || {
            let body = story
                .plant
                .get(&format!("/api/v1/alarms?node={}", node_id(name)))
                .ok()?;
            let alarm = body["alarms"].as_array()?.first()?.clone();
            (alarm["kind"] == "limit_exceeded").then_some(alarm)
        };
        let alarm = await_some(LIMIT, alarms).unwrap_or_else(|| panic!("{name} raises no alarm"));
        assert_eq!(
            (&alarm["value"], &alarm["severity"]),
            (&95.0.into(), &"alarm".into())
        );
    }

    // It is taken off, and the adapter put in again, as the message says.
    let before = story.lives(PIRATED)[0]["stored"].as_u64().unwrap();
    story.plant.unplug_node(PIRATE).unwrap();
    story.wires.plug_in().unwrap();
    let back = await_some(LIMIT, || {
        let stored = story.lives(PIRATED)[0]["stored"].as_u64()?;
        (stored > before + 4 * RATE_HZ as u64).then_some(())
    });
    assert!(
        back.is_some(),
        "{:#?}\n{}",
        story.lives(PIRATED),
        story.agent_log()
    );
    assert_eq!(
        story.lives(PIRATED).len(),
        1,
        "nothing of the other one was taken in"
    );

    // All machines are off; what is held comes through.
    let mut produced = 0;
    for node in &mut story.plant.nodes {
        node.signal(rustix::process::Signal::USR1).unwrap();
    }
    for node in &mut story.plant.nodes {
        let drained = node.await_line(LIMIT, |line| {
            let report: Value = serde_json::from_str(line).ok()?;
            (report["event"] == "drained").then_some(report)
        });
        let drained = drained.unwrap();
        assert_eq!(drained["dropped"], 0, "{}: {drained}", node.name());
        produced += drained["produced"].as_u64().unwrap();
    }
    let settled = await_some(LIMIT, || {
        let totals = story.plant.get("/api/v1/ledger").ok()?["totals"].clone();
        let is_settled = totals["pending"] == 0 && totals["stored"].as_u64()? >= produced;
        is_settled.then_some(totals)
    });
    let totals = settled.unwrap_or_else(|| panic!("{:#?}", story.plant.get("/api/v1/ledger")));
    assert_eq!(totals["unexplained"], 0, "{totals}");
    let number = |key: &str| totals[key].as_u64().unwrap();
    assert_eq!(number("produced"), number("stored") + number("lost"), "{totals}");
    // The life that ended took its last second along.
    for (cause, _) in totals["lost_by_cause"].as_object().unwrap() {
        assert_eq!(cause, "node_reset", "{totals}");
    }
    let (carried, collided) = story.wires.counts();
    assert!(
        collided * 10 < carried,
        "{collided} of {carried} bytes were spoken over"
    );
    story.plant.stop().unwrap();
}
