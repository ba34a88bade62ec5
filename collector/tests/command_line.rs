//! The binary as an operator and a script meet it: output, files, modes and exit codes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BAD_CONFIGURATION: i32 = 64;

fn collector(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trunnion-collector"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

/// What a command that has to succeed printed.
fn fact(arguments: &[&str]) -> Value {
    let output = collector(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", errors(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A plant made by `init`, and its configuration file.
struct Plant {
    dir: tempfile::TempDir,
    config: String,
}

impl Plant {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plant = dir.path().join("plant");
        let fact = fact(&[
            "init",
            "--dir",
            plant.to_str().unwrap(),
            "--site",
            "bremen",
            "--host",
            "collector.example",
            "--listen",
            "127.0.0.1:8883",
        ]);
        assert_eq!(fact["event"], "initialised");
        let config = fact["config"].as_str().unwrap().to_owned();
        assert_eq!(Path::new(&config), plant.join("collector.toml"));
        Self { dir, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("plant").join(name)
    }

    /// What `check-config` says when it has to refuse.
    fn refusal(&self) -> String {
        let output = collector(&["check-config", &self.config]);
        assert_eq!(
            output.status.code(),
            Some(BAD_CONFIGURATION),
            "{}",
            errors(&output)
        );
        assert!(output.stdout.is_empty());
        errors(&output)
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_plant_passes_its_check() {
    let plant = Plant::new();
    assert_eq!(fact(&["check-config", &plant.config])["site"], "bremen");
    assert_eq!(mode(&plant.path("")), 0o700);
    assert_eq!(mode(&plant.path("pki/server.key")), 0o600);
    assert_eq!(mode(&plant.path("pki/ca.key")), 0o600);
}

#[test]
fn a_second_init_changes_nothing() {
    let plant = Plant::new();
    let before = fs::read(plant.path("pki/ca.crt")).unwrap();
    let again = collector(&[
        "init",
        "--dir",
        plant.path("").to_str().unwrap(),
        "--site",
        "other",
    ]);
    assert_eq!(again.status.code(), Some(1));
    assert!(errors(&again).contains("exists already"), "{}", errors(&again));
    assert_eq!(fs::read(plant.path("pki/ca.crt")).unwrap(), before);
    assert_eq!(fact(&["check-config", &plant.config])["site"], "bremen");
}

#[test]
fn a_plant_that_would_not_pass_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let plant = dir.path().join("plant");
    let arguments = [
        "init",
        "--dir",
        plant.to_str().unwrap(),
        "--site",
        "a",
        "--http",
        "0.0.0.0:80",
    ];
    let output = collector(&arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors(&output).contains("neither users nor TLS"),
        "{}",
        errors(&output)
    );
    assert!(!plant.exists());
    assert!(
        !collector(&["init", "--dir", plant.to_str().unwrap(), "--site", "A/B"])
            .status
            .success()
    );
}

#[test]
fn a_key_that_others_may_read_stops_the_check_and_the_start() {
    let plant = Plant::new();
    fs::set_permissions(plant.path("pki/server.key"), Permissions::from_mode(0o644)).unwrap();
    let words = "a private key that others may read (mode 0644); chmod 600 ";
    let refusal = plant.refusal();
    assert!(refusal.contains(words), "{refusal}");
    assert!(refusal.contains("collector.toml:10:7: door.key is "), "{refusal}");
    let run = collector(&["run", "--config", &plant.config]);
    assert_eq!(run.status.code(), Some(BAD_CONFIGURATION));
    assert!(errors(&run).contains(words), "{}", errors(&run));
}

#[test]
fn problems_of_the_configuration_come_all_at_once() {
    let plant = Plant::new();
    let text = fs::read_to_string(&plant.config).unwrap();
    let text = text
        .replace("bremen", "Bremen")
        .replace("127.0.0.1:8080", "0.0.0.0:8080");
    fs::write(&plant.config, text).unwrap();
    let refusal = plant.refusal();
    assert!(
        refusal.contains("site is \"Bremen\", which is no name"),
        "{refusal}"
    );
    assert!(refusal.contains("neither users nor TLS"), "{refusal}");
    assert!(refusal.contains("2 problems found"), "{refusal}");
}

#[test]
fn problems_of_the_fleet_file_have_its_name() {
    let plant = Plant::new();
    fs::write(plant.path("fleet.toml"), "site = 3\n").unwrap();
    let refusal = plant.refusal();
    assert!(refusal.contains("fleet.toml:1:8: "), "{refusal}");
    assert!(refusal.contains("1 problem found"), "{refusal}");
    // Together with those of the configuration, and in the way of nothing that needs no fleet.
    fs::set_permissions(plant.path("pki/server.key"), Permissions::from_mode(0o604)).unwrap();
    assert!(plant.refusal().contains("2 problems found"));
    assert!(
        collector(&["gateway", "add", "gw-1", "--config", &plant.config])
            .status
            .success()
    );
}

#[test]
fn a_bundle_names_the_collector_and_is_for_its_owner_alone() {
    let plant = Plant::new();
    let out = plant.path("gw-1.toml");
    let fact = fact(&[
        "gateway",
        "add",
        "gw-1",
        "--config",
        &plant.config,
        "--out",
        out.to_str().unwrap(),
    ]);
    assert_eq!(
        (&fact["event"], &fact["gateway"]),
        (&"enrolled".into(), &"gw-1".into())
    );
    assert_eq!(mode(&out), 0o600);
    let bundle: toml::Table = fs::read_to_string(&out).unwrap().parse().unwrap();
    assert_eq!(bundle["endpoints"][0].as_str(), Some("collector.example:8883"));
    assert_eq!(bundle["site"].as_str(), Some("bremen"));
    assert!(bundle["key"].as_str().unwrap().contains("PRIVATE KEY"));

    let twice = collector(&["gateway", "add", "gw-1", "--config", &plant.config]);
    assert_eq!(twice.status.code(), Some(1));
    assert!(
        errors(&twice).contains("has a certificate already"),
        "{}",
        errors(&twice)
    );

    let renewed = collector(&[
        "gateway",
        "renew",
        "gw-1",
        "--config",
        &plant.config,
        "--endpoint",
        "[::1]:9",
    ]);
    let renewed: toml::Table = String::from_utf8(renewed.stdout).unwrap().parse().unwrap();
    assert_eq!(renewed["endpoints"][0].as_str(), Some("[::1]:9"));
    assert_ne!(renewed["certificate"], bundle["certificate"]);
}

#[test]
fn a_wrong_endpoint_makes_no_bundle() {
    let plant = Plant::new();
    for endpoint in ["collector", "collector:0", "mqtts://collector:8883", ""] {
        let output = collector(&[
            "gateway",
            "add",
            "gw-1",
            "--config",
            &plant.config,
            "--endpoint",
            endpoint,
        ]);
        assert_eq!(output.status.code(), Some(1), "{endpoint}");
        assert!(
            errors(&output).contains("no host and port"),
            "{}",
            errors(&output)
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_gateway_is_revoked_once() {
    let plant = Plant::new();
    let unknown = collector(&["gateway", "revoke", "gw-9", "--config", &plant.config]);
    assert!(
        errors(&unknown).contains("has no valid certificate"),
        "{}",
        errors(&unknown)
    );
    assert!(
        collector(&["gateway", "add", "gw-1", "--config", &plant.config])
            .status
            .success()
    );
    let before = fs::read(plant.path("pki/crl.pem")).unwrap();
    let fact = fact(&["gateway", "revoke", "gw-1", "--config", &plant.config]);
    assert_eq!(fact["certificates"], 1);
    assert_ne!(fs::read(plant.path("pki/crl.pem")).unwrap(), before);
}

#[test]
fn the_servers_certificate_is_renewed_in_place() {
    let plant = Plant::new();
    let read = |name: &str| fs::read(plant.path(name)).unwrap();
    let before = (read("pki/server.crt"), read("pki/server.key"), read("pki/ca.crt"));
    let renewed = fact(&["server", "renew", "--config", &plant.config]);
    assert_eq!(renewed["event"], "renewed");
    assert_ne!(
        (&before.0, &before.1),
        (&read("pki/server.crt"), &read("pki/server.key"))
    );
    assert_eq!(before.2, read("pki/ca.crt"), "gateways notice nothing");
    let mode = fs::metadata(plant.path("pki/server.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    fact(&["check-config", &plant.config]);

    // One from elsewhere is not overwritten beside the point.
    let text = fs::read_to_string(&plant.config).unwrap();
    fs::write(&plant.config, text.replace("pki/server.crt", "pki/ca.crt")).unwrap();
    let refused = collector(&["server", "renew", "--config", &plant.config]);
    assert!(!refused.status.success() && errors(&refused).contains("door.certificate is "));
}

#[test]
fn a_certificate_that_does_not_go_with_its_key_is_found_at_its_line() {
    let plant = Plant::new();
    let old = fs::read(plant.path("pki/server.crt")).unwrap();
    fact(&["server", "renew", "--config", &plant.config]);
    fs::write(plant.path("pki/server.crt"), old).unwrap();
    let output = collector(&["check-config", &plant.config]);
    assert_eq!(output.status.code(), Some(BAD_CONFIGURATION));
    let errors = errors(&output);
    let text = fs::read_to_string(&plant.config).unwrap();
    let line = text
        .lines()
        .position(|line| line.starts_with("certificate"))
        .unwrap()
        + 1;
    assert!(
        errors.contains(&format!("collector.toml:{line}:15: ")),
        "{errors}"
    );
    assert!(
        errors.contains("does not go with") && errors.contains("server.key"),
        "{errors}"
    );
}

#[test]
fn what_was_learned_of_a_fleet_is_left_for_the_collector_and_a_bad_table_names_its_line() {
    let plant = Plant::new();
    fs::create_dir_all(plant.path("data/commands")).unwrap();
    let table = plant.path("lives.csv");
    let mut text = "machine,de/speed:mean,de/v:rms\n".to_owned();
    for machine in 0..10 {
        for row in 0..40 {
            text.push_str(&format!("m-{machine},1500,{}\n", row * (machine + 5)));
        }
    }
    fs::write(&table, &text).unwrap();
    let learn = |table: &Path| {
        let lives = table.to_str().unwrap();
        let of = ["life", "learn", "pumps", "--lives", lives, "--row-s", "600"];
        let with = ["--setting", "de/speed:mean", "--config", &plant.config];
        collector(&[&of[..], &with].concat())
    };
    let output = learn(&table);
    assert!(output.status.success(), "{}", errors(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&told["event"], &told["machines"]),
        (&"learned".into(), &10.into())
    );
    assert_eq!(told["columns"], serde_json::json!(["de/speed:mean", "de/v:rms"]));
    let kept = PathBuf::from(told["kept"].as_str().unwrap());
    assert_eq!(mode(&kept), 0o600);
    let request = fs::read_to_string(told["request"].as_str().unwrap()).unwrap();
    assert!(
        request.contains("action = \"learn\"") && request.contains("model = \"pumps\""),
        "{request}"
    );
    fs::write(&table, text.replace("m-3,1500,8\n", "m-3,1500,eight\n")).unwrap();
    let output = learn(&table);
    assert!(!output.status.success());
    let words = errors(&output);
    assert!(
        words.contains("lives.csv") && words.contains("\"eight\" is no number"),
        "{words}"
    );
}
