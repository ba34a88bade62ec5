//! Bad configuration, unreadable ports, broken frames and corrupt files end in a message that says what
//! and where, never in a panic.

use std::path::PathBuf;
use std::process::Command;
use trunnion_tests::plant::{
    self, Machine, NodeSpec, Plant, START_LIMIT, STOP_LIMIT, Source, binary, fleet_text,
};
use trunnion_tests::process::{Process, await_some};

const NODE: &str = "00000000000000a1";

/// A plant of one machine.
fn fleet(bearing: &str) -> String {
    fleet_text(&[Machine {
        asset: "fan-1".to_owned(),
        node: NODE.to_owned(),
        rpm: 1_772.0,
        bearing: Some(bearing.to_owned()),
        range_g: 16.0,
        band_high_hz: 4_000.0,
    }])
}

/// A node that nobody starts: its line is not there.
fn absent_node() -> NodeSpec {
    NodeSpec {
        id: NODE.to_owned(),
        source: Source::Recording(PathBuf::from("none")),
        rate_hz: 12_000.0,
        range_g: 16.0,
        start_at_ms: 0,
    }
}

fn refusal(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("panicked"), "{text}");
    (output.status.code().unwrap(), text)
}

#[test]
fn a_bad_agent_configuration_is_refused_with_every_problem_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    std::fs::write(
        &path,
        "enrolment = \"missing.toml\"\nspool = 1\n\n[[port]]\nbaud = \"fast\"\n",
    )
    .unwrap();
    let (code, text) = refusal(
        Command::new(binary("trunnion-agent").unwrap())
            .arg("check-config")
            .arg(&path),
    );
    assert_eq!(code, 64, "{text}");
    for place in ["agent.toml:2:", "agent.toml:5:"] {
        assert!(text.contains(place), "no {place} in:\n{text}");
    }
}

#[test]
fn a_fleet_with_a_gap_is_refused_by_check_config() {
    let dir = tempfile::tempdir().unwrap();
    let plant = Plant::found(dir.path(), &fleet("no-such-bearing")).unwrap();
    let config = plant.collector_dir().join("collector.toml");
    let (code, text) = refusal(
        Command::new(binary("trunnion-collector").unwrap())
            .arg("check-config")
            .arg(config),
    );
    assert_eq!(code, 64, "{text}");
    assert!(
        text.contains("fleet.toml:") && text.contains("no-such-bearing"),
        "{text}"
    );
}

#[test]
fn a_private_key_that_others_can_read_stops_both_programs() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let mut plant = Plant::found(dir.path(), &fleet("6205")).unwrap();
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(plant.bundle(plant::GATEWAY), open.clone()).unwrap();
    plant.start_agent(&[absent_node()]).unwrap();
    let mut agent = plant.agent.take().unwrap();
    assert!(!agent.await_end(START_LIMIT).unwrap().success());
    assert!(agent.log().contains("chmod 600"), "{}", agent.log());

    let key = plant.collector_dir().join("pki/server.key");
    std::fs::set_permissions(&key, open).unwrap();
    let error = format!("{:#}", plant.start_collector().unwrap_err());
    assert!(
        error.contains("server.key") && error.contains("chmod 600"),
        "{error}"
    );
}

#[test]
fn a_missing_port_is_named_and_the_agent_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut plant = Plant::found(dir.path(), &fleet("6205")).unwrap();
    plant.start_collector().unwrap();
    plant.start_agent(&[absent_node()]).unwrap();
    let agent = plant.agent.as_mut().unwrap();
    let named = await_some(START_LIMIT, || agent.log().contains("lines/").then_some(()));
    assert!(named.is_some(), "{}", agent.log());
    assert!(agent.is_running());
    plant.stop().unwrap();
}

#[test]
fn a_corrupt_spool_is_set_aside_and_the_agent_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut plant = Plant::found(dir.path(), &fleet("6205")).unwrap();
    plant.start_agent(&[absent_node()]).unwrap();
    let spool = dir.path().join("agent/spool/waveform");
    let database = await_some(START_LIMIT, || {
        let entries = std::fs::read_dir(&spool)
            .ok()?
            .flatten()
            .map(|entry| entry.path());
        entries.into_iter().find(|path| path.join("db").exists())
    });
    let database = database.expect("a spool database appears at the start");
    plant.agent.take().unwrap().stop(STOP_LIMIT).unwrap();
    for file in std::fs::read_dir(&database).unwrap().flatten() {
        if file.path().is_file() {
            let length = file.metadata().unwrap().len() as usize;
            std::fs::write(file.path(), vec![0x5a; length.max(64)]).unwrap();
        }
    }
    plant.start_agent(&[absent_node()]).unwrap();
    let agent: &mut Process = plant.agent.as_mut().unwrap();
    let said = await_some(START_LIMIT, || {
        agent.log().contains("is damaged and set aside").then_some(())
    });
    assert!(said.is_some() && agent.is_running(), "{}", agent.log());
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
    plant.stop().unwrap();
}
