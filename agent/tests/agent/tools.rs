//! The verbs beside `run`, as a person uses them.

use super::*;
use std::process::{Command, Output, Stdio};

fn agent(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trunnion-agent"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    text
}

struct Try {
    output: String,
    code: i32,
}

/// `connect --test` with this bundle.
fn connect(bundle: &Path, more: &[&str]) -> Try {
    let bundle = bundle.to_str().unwrap();
    let output = agent(
        &[
            &["connect", "--test", "--timeout-s", "5", "--bundle", bundle],
            more,
        ]
        .concat(),
    );
    Try {
        output: text(&output),
        code: output.status.code().unwrap(),
    }
}

#[track_caller]
fn fails_with(bundle: &Path, words: &[&str]) {
    let tried = connect(bundle, &[]);
    assert_eq!(tried.code, 1, "{}", tried.output);
    for word in words {
        assert!(tried.output.contains(word), "no {word} in:\n{}", tried.output);
    }
}

fn journal() -> Arc<Mutex<Journal>> {
    Arc::new(Mutex::new(Journal::default()))
}

#[test]
fn a_test_goes_as_far_as_the_subscription_and_publishes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let plant = Plant::new();
    let journal = journal();
    let bundle = plant.bundle(directory.path(), collector(&plant, journal.clone()), "gw-1");
    let tried = connect(&bundle, &[]);
    assert_eq!(tried.code, 0, "{}", tried.output);
    for word in [
        "resolve   ok",
        "connect   ok",
        "tls       ok",
        "mqtt      ok",
        "subscribe ok",
        "TLS 1.3",
        "until 2262-04-11",
    ] {
        assert!(tried.output.contains(word), "no {word} in:\n{}", tried.output);
    }
    let tried = connect(&bundle, &["--json"]);
    assert_eq!(tried.code, 0, "{}", tried.output);
    let probes: serde_json::Value = serde_json::from_str(&tried.output).unwrap();
    let stages: Vec<&str> = probes[0]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["stage"].as_str().unwrap())
        .collect();
    assert_eq!(stages, ["resolve", "connect", "tls", "mqtt", "subscribe"]);
    let journal = journal.lock().unwrap();
    assert_eq!((journal.hellos, journal.phases.len()), (0, 0));
    assert_eq!(journal.client_ids, ["trunnion-plant-gw-1"; 2]);
}

#[test]
fn every_way_to_fail_says_what_is_wrong_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let plant = Plant::new();
    let at = |port| plant.bundle(directory.path(), port, "gw-1");

    // A port on which nobody has listened: bound, and never accepting.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    fails_with(
        &at(closed),
        &["connect   FAILED", "check the port, and that the collector runs"],
    );

    let port = collector_with(&plant, journal(), 1990, 2000);
    fails_with(
        &at(port),
        &[
            "tls       FAILED",
            "has ended, or this clock is ahead",
            "clock floor",
            "system clock",
        ],
    );

    let port = collector_with(&plant, journal(), 4000, 4001);
    fails_with(&at(port), &["tls       FAILED", "set the clock, or bring up NTP"]);

    let port = collector(&Plant::new(), journal());
    fails_with(&at(port), &["tls       FAILED", "another plant's authority"]);

    let port = collector(&plant, journal());
    let bundle = at(port);
    let named = std::fs::read_to_string(&bundle).unwrap();
    std::fs::write(&bundle, named.replace("collector.plant", "elsewhere.plant")).unwrap();
    fails_with(
        &bundle,
        &["tls       FAILED", "does not bear \"elsewhere.plant\""],
    );

    let bundle = at(1);
    let unknown = std::fs::read_to_string(&bundle).unwrap();
    std::fs::write(&bundle, unknown.replace("127.0.0.1:1", "nowhere.invalid:1")).unwrap();
    fails_with(&bundle, &["resolve   FAILED", "nowhere.invalid", "DNS"]);

    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let bundle = at(mute.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for stream in mute.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    fails_with(&bundle, &["tls       FAILED", "speaks no TLS"]);
}

#[test]
fn a_test_leaves_a_running_agent_alone_unless_told_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let plant = Plant::new();
    let journal = journal();
    let bundle = plant.bundle(directory.path(), collector(&plant, journal.clone()), "gw-1");
    let state_dir = directory.path().join("state");
    let config = Config::with_defaults(Enrolment::load(&bundle).unwrap(), state_dir.clone(), Vec::new());
    let state_dir = state_dir.to_str().unwrap();
    with_agent(config, || {
        await_true(|| journal.lock().unwrap().hellos == 1);
        let tried = connect(&bundle, &["--state-dir", state_dir]);
        assert_eq!(tried.code, 1, "{}", tried.output);
        assert!(tried.output.contains("--force"), "{}", tried.output);
        assert_eq!(journal.lock().unwrap().client_ids.len(), 1);
    });
    let tried = connect(&bundle, &["--state-dir", state_dir]);
    assert_eq!(tried.code, 0, "{}", tried.output);
}

/// The files of an archive.
fn unpack(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(File::open(path).unwrap()));
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), bytes)
    });
    files.collect()
}

#[test]
fn an_archive_holds_what_helps_and_never_the_private_key() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let plant = Plant::new();
    let journal = journal();
    let bundle = plant.bundle(directory.path(), collector(&plant, journal.clone()), "gw-1");
    let secret = std::fs::read_to_string(&bundle).unwrap();
    let (_, pem) = secret.split_once("BEGIN PRIVATE KEY-----\n").unwrap();
    let lines: Vec<&str> = pem.lines().take_while(|line| !line.starts_with('-')).collect();
    assert!(lines.len() > 1);

    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let config_file = at("agent.toml");
    let text_of_config = format!(
        "enrolment = \"gateway.toml\"\nstate_dir = \"state\"\nmetrics_listen = \"127.0.0.1:{port}\"\n[[port]]\npath = \"absent\"\n[flash]\nendurance_tbw = 40\n"
    );
    std::fs::write(&config_file, text_of_config).unwrap();
    // Somebody has pasted the bundle into the log.
    std::fs::write(at("agent.log"), format!("a line\n{secret}\n")).unwrap();

    let gather = |out: &str| {
        let output = agent(&[
            "diag",
            "--config",
            config_file.to_str().unwrap(),
            "--log",
            at("agent.log").to_str().unwrap(),
            "--out",
            at(out).to_str().unwrap(),
        ]);
        assert!(output.status.success(), "{}", text(&output));
        unpack(&at(out))
    };
    let stopped = gather("stopped.tar.gz");
    let mut running = BTreeMap::new();
    with_agent(Config::load(&config_file).unwrap(), || {
        await_true(|| journal.lock().unwrap().hellos == 1);
        running = gather("running.tar.gz");
    });

    for files in [&stopped, &running] {
        for (name, bytes) in files {
            let text = String::from_utf8_lossy(bytes);
            assert!(!text.contains("PRIVATE KEY"), "{name}");
            for line in &lines {
                assert!(!text.contains(line), "{name} holds a line of the key");
            }
        }
        let text =
            |name: &str| String::from_utf8_lossy(&files[&format!("trunnion-diag/{name}")]).into_owned();
        assert!(text("log.txt").contains("withheld"));
        assert!(text("agent.toml").contains("metrics_listen"));
        assert!(text("config.txt").contains("heartbeat_interval"));
        assert!(text("enrolment.json").contains("not_after"));
        assert!(text("system.txt").contains("== /proc/meminfo"));
        assert!(text("clock.json").contains("system_utc_ns"));
        assert!(text("about.json").contains("plant/gw-1"));
    }
    let text = |files: &BTreeMap<String, Vec<u8>>, name: &str| {
        String::from_utf8_lossy(&files[&format!("trunnion-diag/{name}")]).into_owned()
    };
    assert!(text(&stopped, "metrics.txt").contains("does not answer"));
    assert!(text(&running, "metrics.txt").contains("trunnion_agent_clock_floor_seconds"));
    assert!(text(&running, "forecast.txt").contains("holds"));
    assert!(text(&running, "spool.json").contains("in use"));
    assert!(text(&running, "files.txt").contains("spool/lock"));
    let mode = std::fs::metadata(at("running.tar.gz"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_archive_is_made_although_the_configuration_is_broken() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("agent.toml");
    std::fs::write(&config, "enrolment = 3\n").unwrap();
    let out = directory.path().join("diag.tar.gz");
    let arguments = [
        "diag",
        "--config",
        config.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ];
    let output = agent(&arguments);
    assert!(output.status.success(), "{}", text(&output));
    let files = unpack(&out);
    let problems = String::from_utf8_lossy(&files["trunnion-diag/config.txt"]).into_owned();
    assert!(problems.contains("agent.toml:1:13"), "{problems}");
    let again = agent(&arguments);
    assert!(!again.status.success());
    assert!(text(&again).contains("name a new file"), "{}", text(&again));
}

#[test]
fn a_capture_is_printed_and_its_broken_frames_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("line.bin");
    let data = [0; 8];
    let payload = Payload::Waveform(Waveform {
        revision: 1,
        channel: ChannelId::new(0).unwrap(),
        first_sample: 40,
        count: 4,
        packing: Packing::I16,
        data: &data,
    });
    let mut bytes = node_frame(Class::Waveform, 0, &payload);
    let good = agent(&["decode", {
        std::fs::write(&capture, &bytes).unwrap();
        capture.to_str().unwrap()
    }]);
    assert!(good.status.success());
    assert!(
        text(&good).contains("waveform: channel 0, samples 40 to 43"),
        "{}",
        text(&good)
    );

    let length = bytes.len();
    bytes.extend(node_frame(Class::Waveform, 1, &payload));
    bytes[length + 6] ^= 0x80;
    std::fs::write(&capture, &bytes).unwrap();
    let bad = agent(&["decode", "--json", capture.to_str().unwrap()]);
    assert_eq!(bad.status.code(), Some(1));
    let lines: Vec<serde_json::Value> = String::from_utf8_lossy(&bad.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["frame"]["sequence"], 0);
    assert_eq!(lines[1]["offset"], length);
    assert!(lines[1]["broken"].is_string(), "{lines:?}");
    assert!(text(&bad).contains("1 frames good, 1 broken"));
    assert!(text(&agent(&["decode", "/nonexistent"])).contains("name a capture"));
}
