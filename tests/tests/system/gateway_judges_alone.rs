//! A gateway that is cut off from its collector judges on: a machine comes back from a stop with a vibration in
//! zone D, a housing gets hot, a bearing is damaged, a rotor loses its balance, two temperatures no longer go together,
//! and one that is switched off is shaken by its neighbour. The gateway says at once what is to be said, and when the
//! collector is there again each is one advisory.

use serde_json::Value;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use trunnion_diagnosis::bearing::Element;
use trunnion_tests::plant::{GATEWAY, Machine, NodeSpec, POINT, Plant, SITE, Source, fleet_text, set, warm};
use trunnion_tests::process::{await_some, run};
use trunnion_tests::sim_machine::{MachineSpec, SimMachine};
use trunnion_tests::workspace::binary;

const LIMIT: Duration = Duration::from_secs(120);
const NODE: &str = "00000000000000a1";
const ASSET: &str = "fan-1";

/// Windows that the collector has seen of the machine before it counts as of one mind with its gateway.
const WINDOWS: f64 = 15.0;

/// Fans of 75 kW on rigid supports, by asset and node, behind a gateway that watches.
fn fleet(fans: &[(&str, &str)]) -> String {
    let fleet = watched(fans, None);
    fans.iter().fold(fleet, |fleet, (asset, _)| {
        let asset = format!("id = \"{asset}\"\n");
        let judged = format!("{asset}iso_group = 2\npower_kw = 75\nsupport = \"rigid\"\n");
        fleet.replacen(&asset, &judged, 1)
    })
}

/// Machines by asset and node, on such a bearing, behind a gateway that watches.
fn watched(machines: &[(&str, &str)], bearing: Option<&str>) -> String {
    let machine = |(asset, node): &(&str, &str)| Machine {
        asset: (*asset).to_owned(),
        node: (*node).to_owned(),
        rpm: if bearing.is_some() { 1_797.0 } else { 1_500.0 },
        bearing: bearing.map(str::to_owned),
        range_g: 16.0,
        band_high_hz: 4_000.0,
    };
    let machines: Vec<Machine> = machines.iter().map(machine).collect();
    let site = format!("id = \"{SITE}\"\n");
    let gateway = format!("{site}\n[[site.gateway]]\nid = \"{GATEWAY}\"\nwatch = \"on\"\n");
    fleet_text(&machines).replacen(&site, &gateway, 1)
}

/// The channel of a fan's thermometer.
fn thermometer(node: &str, limits: &str) -> String {
    format!(
        "\n[[site.area.asset.point.channel]]\nid = \"warm\"\nnode = \"{node}\"\nchannel = 1\n\
         quantity = \"temperature\"\nunit = \"degC\"\nrange = 150\n{limits}"
    )
}

/// A node whose machine vibrates with so many mm/s RMS at 50 Hz.
fn node(dir: &Path, id: &str, name: &str, velocity: f64) -> NodeSpec {
    NodeSpec::vibrating(dir, id, name, &[(velocity, 50.0)]).unwrap()
}

/// A node whose machine vibrates with so many mm/s RMS at the speed of its shaft, and a little at twice that.
fn turning(dir: &Path, id: &str, name: &str, velocity: f64) -> NodeSpec {
    NodeSpec::vibrating(dir, id, name, &[(velocity, 25.0), (0.3, 50.0)]).unwrap()
}

/// A node on a small motor, with or without a damage, whose seconds are played over and over.
fn bearing(dir: &Path, id: &str, name: &str, damaged: Option<Element>) -> NodeSpec {
    const RATE_HZ: f64 = 12_800.0;
    const SECONDS: usize = 10;
    let motor = MachineSpec::motor(RATE_HZ, 7);
    let motor = damaged.map_or(motor, |element| motor.with_fault(element, 1.0, 0.0));
    let mut samples = vec![0.0; SECONDS * RATE_HZ as usize];
    SimMachine::new(motor).fill(&mut samples);
    let bytes: Vec<u8> = samples.into_iter().flat_map(f32::to_le_bytes).collect();
    let file = dir.join(name);
    std::fs::write(&file, bytes).unwrap();
    NodeSpec {
        id: id.to_owned(),
        source: Source::Recording(file),
        rate_hz: RATE_HZ,
        range_g: 16.0,
        start_at_ms: 0,
    }
}

/// A collector, two machines, and the gateway that hears them.
fn started(dir: &Path, fleet: &str, machines: [NodeSpec; 2]) -> Plant {
    let mut plant = Plant::found(dir, fleet).unwrap();
    plant.start_collector().unwrap();
    machines
        .iter()
        .for_each(|machine| plant.start_endless_node(machine).unwrap());
    plant.start_agent_with(&machines, |_| {}).unwrap();
    plant
}

/// The collector has seen so many further windows of the machines itself.
fn see(plant: &Plant, windows: f64) {
    let fired = || plant.metric("trunnion_collector_windows_fired_total").ok();
    let before = fired().unwrap();
    await_some(LIMIT, || fired().filter(|fired| *fired >= before + windows))
        .expect("the collector sees the machines itself");
}

/// Whether so many channels are watched, as the gateway confirms.
fn are_watched(plant: &Plant, channels: usize) -> Option<()> {
    are_in_effect(plant, "watch", channels)
}

/// Whether so many commands of a kind are in effect.
fn are_in_effect(plant: &Plant, kind: &str, wanted: usize) -> Option<()> {
    let gateways = plant.get("/api/v1/gateways").ok()?;
    let commands = gateways["gateways"][0]["commands"].as_array()?.clone();
    let of_kind = commands
        .iter()
        .filter(|command| command["kind"] == kind && command["in_effect"] == true);
    (of_kind.count() == wanted).then_some(())
}

/// The gateway's own advisory about something.
fn at_gateway(plant: &Plant, about: &str) -> Option<Value> {
    let page = plant.get_agent("/advisories").ok()?;
    let advisories = page["advisories"].as_array()?.clone();
    advisories.into_iter().find(|held| held["about"] == about)
}

fn instant(rfc3339: &Value) -> OffsetDateTime {
    OffsetDateTime::parse(rfc3339.as_str().unwrap(), &Rfc3339).unwrap()
}

/// Whether the collector's advisory is as old as the gateway's. Both see the same windows but for where they begin: the
/// earlier of the two holds.
fn is_as_old(told: &Value, held: &Value) -> bool {
    let [gateway_s, collector_s] = [held, told].map(|told| instant(&told["raised"]));
    collector_s <= gateway_s && gateway_s - collector_s < Duration::from_secs(2)
}

/// What the collector tells of a cause, standing or over.
fn at_collector(plant: &Plant, cause: &str) -> Vec<Value> {
    let told = plant.get("/api/v1/advisories").unwrap();
    let told = told["advisories"].as_array().unwrap().iter();
    told.filter(|told| told["cause"] == cause).cloned().collect()
}

/// The gateway holds it against the first node, by a line of that order.
fn assert_alarm_by_line(held: &Value, orders: Range<f64>) {
    assert_eq!(
        (held["node"].as_str(), held["level"].as_str()),
        (Some(NODE), Some("alarm")),
        "{held:#}"
    );
    let order = held["order"].as_f64();
    assert!(order.is_some_and(|order| orders.contains(&order)), "{held:#}");
}

#[test]
fn an_advisory_raised_while_the_uplink_is_cut_is_one_advisory_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let sound = node(dir.path(), NODE, "sound.f32", 1.0);
    let faulty = node(dir.path(), NODE, "faulty.f32", 5.0);
    let relay = dir.path().join("relay");
    let mut plant = Plant::found(dir.path(), &fleet(&[(ASSET, NODE)])).unwrap();
    plant.start_collector().unwrap();
    plant.start_endless_node(&sound).unwrap();
    plant
        .start_agent_with(&[sound], |config| {
            set(config, "relay", "file", relay.display().to_string());
        })
        .unwrap();
    await_some(LIMIT, || are_watched(&plant, 1)).expect("the gateway is told to watch");
    let judged = || plant.agent_metric("trunnion_agent_windows_judged_total").ok();
    await_some(LIMIT, || judged().filter(|judged| *judged >= 3.0)).expect("the gateway judges");
    assert_eq!(at_gateway(&plant, "severity"), None);
    assert_eq!(std::fs::read_to_string(&relay).unwrap(), "0\n");

    plant.collector.take().unwrap().kill().unwrap();
    plant.unplug_node(NODE).unwrap();
    plant.start_endless_node(&faulty).unwrap();
    let held = await_some(LIMIT, || {
        at_gateway(&plant, "severity").filter(|held| held["level"] == "alarm")
    })
    .expect("the gateway raises it alone");
    assert_eq!(
        (held["basis"].as_str(), held["standard"].as_str()),
        (Some("absolute"), Some("ISO 20816-3:2022"))
    );
    await_some(LIMIT, || {
        (std::fs::read_to_string(&relay).ok()? == "1\n").then_some(())
    })
    .expect("the relay is switched on");
    let log = plant.agent.as_ref().unwrap().log();
    assert!(
        log.contains("by absolute limits: no baseline is accepted"),
        "{log}"
    );

    plant.start_collector().unwrap();
    let told = await_some(LIMIT, || {
        Some(at_collector(&plant, "severity")).filter(|told| !told.is_empty())
    })
    .expect("the collector hears of it");
    assert_eq!(told[0]["raised"], held["raised"]);
    assert_eq!(
        (told[0]["asset"].as_str(), told[0]["active"].as_bool()),
        (Some(ASSET), Some(true))
    );
    see(&plant, WINDOWS);
    let after = at_collector(&plant, "severity");
    assert_eq!(after.len(), 1, "{after:#?}");
    assert_eq!(
        (&after[0]["id"], &after[0]["active"]),
        (&told[0]["id"], &Value::Bool(true))
    );
    plant.stop().unwrap();
}

#[test]
fn a_hot_housing_is_told_and_a_machine_that_is_switched_off_is_not_with_the_uplink_cut() {
    const OTHER: (&str, &str) = ("fan-2", "00000000000000a2");
    let dir = tempfile::tempdir().unwrap();
    // The exhaust of the second fan is hot while it runs.
    let operation =
        format!("\n[site.area.asset.operation]\nrunning = \"{POINT}/warm\"\nrunning_above = 40\n");
    let second = format!("\n[[site.area.asset]]\nid = \"{}\"\n", OTHER.0);
    let housing = thermometer(NODE, "alert = 80\nalarm = 95\n") + &second;
    let fleet = fleet(&[(ASSET, NODE), OTHER]).replacen(&second, &housing, 1)
        + &thermometer(OTHER.1, "")
        + &operation;
    let [housing, exhaust] = ["housing", "exhaust"].map(|name| dir.path().join(name));
    warm(&housing, 41.5).unwrap();
    warm(&exhaust, 60.0).unwrap();
    let sound = node(dir.path(), NODE, "sound.f32", 1.0);
    let running = node(dir.path(), OTHER.1, "running.f32", 1.0);
    let shaken = node(dir.path(), OTHER.1, "shaken.f32", 5.0);
    let mut plant = Plant::found(dir.path(), &fleet).unwrap();
    plant.start_collector().unwrap();
    plant
        .start_endless_node_with_thermometer(&sound, &housing)
        .unwrap();
    plant
        .start_endless_node_with_thermometer(&running, &exhaust)
        .unwrap();
    let lines = [sound, running];
    plant.start_agent_with(&lines, |_| {}).unwrap();
    await_some(LIMIT, || are_watched(&plant, 4)).expect("the gateway is told to watch");
    let judged = || plant.agent_metric("trunnion_agent_windows_judged_total").ok();
    await_some(LIMIT, || judged().filter(|judged| *judged >= 10.0)).expect("the gateway judges");

    plant.collector.take().unwrap().kill().unwrap();
    warm(&housing, 88.5).unwrap();
    warm(&exhaust, 20.0).unwrap();
    plant.unplug_node(OTHER.1).unwrap();
    plant
        .start_endless_node_with_thermometer(&shaken, &exhaust)
        .unwrap();
    let hot = || at_gateway(&plant, "mean").filter(|held| held["level"] == "alert");
    let held = await_some(LIMIT, hot).expect("the gateway raises it alone");
    assert_eq!(
        (held["node"].as_str(), held["limit"].as_f64()),
        (Some(NODE), Some(80.0)),
        "{held:#}"
    );
    assert_eq!(
        at_gateway(&plant, "severity"),
        None,
        "it stands still, and is shaken"
    );

    // Another start of the agent judges by what it was told, too.
    plant.agent.take().unwrap().kill().unwrap();
    plant.start_agent_with(&lines, |_| {}).unwrap();
    let hot = || at_gateway(&plant, "mean").filter(|held| held["level"] == "alert");
    await_some(LIMIT, hot).expect("it is raised again");
    assert_eq!(at_gateway(&plant, "severity"), None);

    plant.start_collector().unwrap();
    let told = await_some(LIMIT, || {
        Some(at_collector(&plant, "deviation")).filter(|told| !told.is_empty())
    })
    .expect("the collector hears of it");
    see(&plant, 4.0 * WINDOWS);
    let after = at_collector(&plant, "deviation");
    assert_eq!(after.len(), 1, "{after:#?}");
    assert_eq!(
        (&after[0]["id"], &after[0]["asset"], &after[0]["active"]),
        (&told[0]["id"], &Value::from(ASSET), &Value::Bool(true))
    );
    assert_eq!(at_collector(&plant, "severity"), Vec::<Value>::new());
    plant.stop().unwrap();
}

#[test]
fn a_bearing_that_is_damaged_while_the_uplink_is_cut_is_named_by_the_gateway_and_one_advisory_afterwards() {
    const OTHER: (&str, &str) = ("fan-2", "00000000000000a2");
    let dir = tempfile::tempdir().unwrap();
    let fleet = watched(&[(ASSET, NODE), OTHER], Some("6205"));
    let sound = bearing(dir.path(), NODE, "sound.f32", None);
    let damaged = bearing(dir.path(), NODE, "damaged.f32", Some(Element::InnerRace));
    let beside = bearing(dir.path(), OTHER.1, "beside.f32", None);
    let mut plant = started(dir.path(), &fleet, [sound, beside]);
    await_some(LIMIT, || are_in_effect(&plant, "search", 2)).expect("the gateway is told for what to search");
    let searched = || plant.agent_metric("trunnion_agent_windows_searched_total").ok();
    await_some(LIMIT, || searched().filter(|searched| *searched >= 6.0)).expect("the gateway searches");

    plant.collector.take().unwrap().kill().unwrap();
    plant.unplug_node(NODE).unwrap();
    plant.start_endless_node(&damaged).unwrap();
    let held = await_some(LIMIT, || at_gateway(&plant, "inner_race")).expect("the gateway names it alone");
    assert_alarm_by_line(&held, 5.3..5.5);

    plant.start_collector().unwrap();
    let bearings = || at_collector(&plant, "bearing");
    let told = await_some(LIMIT, || {
        bearings().into_iter().find(|told| is_as_old(told, &held))
    })
    .unwrap_or_else(|| panic!("{held:#}, {:#?}", bearings()));
    see(&plant, 2.0 * WINDOWS);
    let after = bearings();
    assert_eq!(after.len(), 1, "{after:#?}");
    assert_eq!(
        (
            &after[0]["id"],
            &after[0]["asset"],
            &after[0]["element"],
            &after[0]["active"]
        ),
        (
            &told["id"],
            &Value::from(ASSET),
            &Value::from("inner_race"),
            &Value::Bool(true)
        ),
        "{after:#?}"
    );
    assert!(is_as_old(&after[0], &held), "{after:#?}");
    plant.stop().unwrap();
}

#[test]
fn a_rotor_that_loses_its_balance_while_the_uplink_is_cut_is_suspected_by_the_gateway_and_one_advisory_afterwards()
 {
    const OTHER: (&str, &str) = ("fan-2", "00000000000000a2");
    let dir = tempfile::tempdir().unwrap();
    let balanced = turning(dir.path(), NODE, "balanced.f32", 1.0);
    let unbalanced = turning(dir.path(), NODE, "unbalanced.f32", 5.0);
    let beside = turning(dir.path(), OTHER.1, "beside.f32", 1.0);
    let fleet = fleet(&[(ASSET, NODE), OTHER]);
    let mut plant = started(dir.path(), &fleet, [balanced, beside]);
    await_some(LIMIT, || are_in_effect(&plant, "examine", 2)).expect("the gateway is told what to look for");
    let counted = |name: &str| {
        plant
            .agent_metric(&format!("trunnion_agent_windows_{name}_total"))
            .ok()
    };
    let judged = || counted("judged").filter(|judged| *judged >= 10.0);
    await_some(LIMIT, judged).expect("the gateway judges");
    assert_eq!(
        counted("examined"),
        Some(0.0),
        "a sound machine is not looked into"
    );

    plant.collector.take().unwrap().kill().unwrap();
    plant.unplug_node(NODE).unwrap();
    plant.start_endless_node(&unbalanced).unwrap();
    let held = await_some(LIMIT, || at_gateway(&plant, "unbalance")).expect("the gateway suspects it alone");
    assert_alarm_by_line(&held, 0.98..1.02);
    let log = plant.agent.as_ref().unwrap().log();
    assert!(log.contains("suspected by lines of the shaft"), "{log}");

    plant.start_collector().unwrap();
    let suspected = || at_collector(&plant, "suspected");
    let told = await_some(LIMIT, || {
        suspected().into_iter().find(|told| is_as_old(told, &held))
    })
    .unwrap_or_else(|| panic!("{held:#}, {:#?}", suspected()));
    assert_eq!(
        (&told["suspected"], &told["asset"]),
        (&Value::from("unbalance"), &Value::from(ASSET)),
        "{told:#}"
    );
    see(&plant, 2.0 * WINDOWS);
    let after = suspected();
    assert_eq!(after.len(), 1, "{after:#?}");
    assert_eq!(
        (&after[0]["id"], &after[0]["active"]),
        (&told["id"], &Value::Bool(true)),
        "{after:#?}"
    );
    assert!(is_as_old(&after[0], &held), "{after:#?}");
    let severity = at_collector(&plant, "severity");
    assert_eq!(severity.len(), 1, "{severity:#?}");
    assert_eq!(
        severity[0]["explanation"]["by"][0]["advisory"], told["id"],
        "{severity:#?}"
    );
    plant.stop().unwrap();
}

/// Two temperatures of a machine that rise and fall together, as often as they are told.
struct Load<'a> {
    files: [&'a Path; 2],
    told: u32,
}

impl Load<'_> {
    fn tell(&mut self) {
        self.told += 1;
        let wave = 3.0 * (self.told as f32 / 200.0).sin();
        warm(self.files[0], 50.0 + wave).unwrap();
        warm(self.files[1], 40.0 + 0.5 * wave).unwrap();
    }
}

/// As long as a group takes to learn a hundred rows of a second.
const LEARNING_LIMIT: Duration = Duration::from_secs(300);

#[test]
fn temperatures_that_leave_what_was_accepted_while_the_uplink_is_cut_are_told_with_the_share_of_each() {
    const OTHER: &str = "00000000000000a2";
    let dir = tempfile::tempdir().unwrap();
    let limits = "alert = 80\nalarm = 95\n";
    let fleet = watched(&[(ASSET, NODE)], None)
        + &thermometer(NODE, limits)
        + &thermometer(OTHER, limits).replacen("\"warm\"", "\"warm-2\"", 1)
        + "\n[site.area.asset.condition]\nunusual_together_s = 1\nunusual_rows = 100\n";
    let files = ["housing", "exhaust"].map(|name| dir.path().join(name));
    let mut load = Load {
        files: [&files[0], &files[1]],
        told: 0,
    };
    load.tell();
    let nodes = [NODE, OTHER].map(|id| node(dir.path(), id, "sound.f32", 1.0));
    let mut plant = Plant::found(dir.path(), &fleet).unwrap();
    plant
        .edit_collector_config(|config| set(config, "window", "scalar_size_ms", 1_000))
        .unwrap();
    plant.start_collector().unwrap();
    for (spec, file) in nodes.iter().zip(&files) {
        plant.start_endless_node_with_thermometer(spec, file).unwrap();
    }
    plant.start_agent_with(&nodes, |_| {}).unwrap();
    await_some(LEARNING_LIMIT, || {
        load.tell();
        let told = plant.get("/api/v1/baselines").ok()?;
        let mut told = told["baselines"].as_array()?.iter();
        told.find(|row| row["point"] == "*" && row["stage"] == "proposed")?;
        Some(())
    })
    .expect("what is normal of both together is proposed");
    assert!(are_in_effect(&plant, "unusual", 0).is_some(), "nobody has agreed");
    run(Command::new(binary("trunnion-collector").unwrap())
        .args(["baseline", "accept", ASSET, "--config"])
        .arg(plant.collector_dir().join("collector.toml")))
    .unwrap();
    await_some(LIMIT, || {
        load.tell();
        are_in_effect(&plant, "unusual", 1)
    })
    .expect("the gateway is told what was accepted");

    plant.collector.take().unwrap().kill().unwrap();
    // Each alone as warm as it often was.
    warm(&files[0], 47.5).unwrap();
    warm(&files[1], 41.25).unwrap();
    let held =
        await_some(LIMIT, || at_gateway(&plant, "unusual_together")).expect("the gateway tells it alone");
    assert_eq!(held["level"], "alert", "{held:#}");
    let shares = held["contributions"].as_array().unwrap();
    let mut nodes: Vec<_> = shares
        .iter()
        .map(|share| share["node"].as_str().unwrap())
        .collect();
    nodes.sort_unstable();
    assert_eq!(nodes, [NODE, OTHER], "{held:#}");
    let whole: f64 = shares.iter().filter_map(|share| share["share"].as_f64()).sum();
    assert!((whole - 1.0).abs() < 1e-3, "{held:#}");
    assert_eq!(at_gateway(&plant, "mean"), None, "each is within its limits");

    plant.start_collector().unwrap();
    let told = await_some(LIMIT, || {
        let mut told = at_collector(&plant, "unusual").into_iter();
        told.find(|told| told["raised"] == held["raised"])
    })
    .unwrap_or_else(|| panic!("{held:#}, {:#?}", at_collector(&plant, "unusual")));
    assert_eq!(
        (
            told["asset"].as_str(),
            told["point"].as_str(),
            told["active"].as_bool()
        ),
        (Some(ASSET), Some("*"), Some(true)),
        "{told:#}"
    );
    let fired = || plant.metric("trunnion_collector_windows_fired_total").ok();
    let before = fired().unwrap();
    await_some(LIMIT, || fired().filter(|fired| *fired >= before + 4.0 * WINDOWS))
        .expect("the collector sees the machine itself");
    let after = at_collector(&plant, "unusual");
    assert_eq!(after.len(), 1, "{after:#?}");
    assert_eq!(
        (&after[0]["id"], &after[0]["raised"], &after[0]["active"]),
        (&told["id"], &held["raised"], &Value::Bool(true))
    );
    plant.stop().unwrap();
}
