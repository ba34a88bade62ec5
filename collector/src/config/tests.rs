use super::*;
use crate::settings::stream::{Key, Selector};
use crate::window::shape::Kind;
use crate::window::stream::Emit;
use std::fs::Permissions;
use trunnion_common::quantity::Quantity;

/// A whole configuration; the cases below each spoil one place of it.
const GOOD: &str = r#"site = "bremen"
data_dir = "data"
fleet = "fleet.toml"

[door]
listen = "0.0.0.0:8883"
certificate = "pki/server.crt"
key = "pki/server.key"
client_ca = "pki/ca.crt"
crl = "pki/crl.pem"

[http]
listen = "127.0.0.1:8080"

[window]
size_ms = 1000

[journal]
segment_mib = 64
"#;

fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    Config::parse(text, Path::new("/etc/trunnion/collector.toml"))
}

/// Replaces `line` (from 1) of the good file; the one problem is at `line:column` and says `words`.
fn check(line: usize, replacement: &str, at: (usize, usize), words: &str) {
    let spoilt: Vec<&str> = GOOD
        .lines()
        .enumerate()
        .map(|(index, good)| if index + 1 == line { replacement } else { good })
        .collect();
    check_text(&spoilt.join("\n"), at, words);
}

fn check_text(text: &str, at: (usize, usize), words: &str) {
    let problems = parse(text).expect_err(words);
    let shown: Vec<String> = problems.iter().map(Problem::to_string).collect();
    assert_eq!(problems.len(), 1, "{words}: {shown:#?}");
    let problem = &problems[0];
    assert_eq!((problem.line, problem.column), at, "{words}: {shown:#?}");
    assert!(shown[0].contains(words), "{words}: {shown:#?}");
    assert!(!problem.fix.is_empty(), "{words}: a problem without a fix");
}

#[test]
fn the_good_file_becomes_absolute_paths_and_defaults() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.site.as_str(), "bremen");
    assert_eq!(config.door.key, Path::new("/etc/trunnion/pki/server.key"));
    assert_eq!(
        config.door.crl.as_deref(),
        Some(Path::new("/etc/trunnion/pki/crl.pem"))
    );
    assert_eq!(config.door.limits, Limits::default());
    assert_eq!(config.window, WindowSettings::default());
    assert_eq!(config.journal.segment_bytes, 64 << 20);
}

#[test]
fn the_file_in_the_documentation_is_a_good_one() {
    let doc = include_str!("../config.rs");
    let example: String = doc
        .lines()
        .skip_while(|line| *line != "//! ```toml")
        .skip(1)
        .take_while(|line| *line != "//! ```")
        .map(|line| format!("{}\n", line.trim_start_matches("//!").trim_start()))
        .collect();
    let config = parse(&example).unwrap();
    assert_eq!(config.endpoint.as_deref(), Some("collector.plant:8883"));
    assert_eq!(config.door.listen, default_address(DOOR_LISTEN));
    assert_eq!(config.http.listen, default_address(HTTP_LISTEN));
    assert_eq!(config.window, WindowSettings::default());
    assert_eq!(config.journal, journal::Options::default());
    assert_eq!(config.door.limits, Limits::default());
}

#[test]
fn wrong_names_are_refused() {
    check(
        1,
        r#"site = "Bremen""#,
        (1, 8),
        "site is \"Bremen\", which is no name",
    );
    check(1, r#"site = "a/b""#, (1, 8), "use 1 to 32 of a-z");
    check(1, r#"site = "+""#, (1, 8), "which is no name");
    check(1, r#"site = "bremen werk""#, (1, 8), "which is no name");
    check(
        1,
        r#"site = "0123456789abcdef0123456789abcdef0""#,
        (1, 8),
        "which is no name",
    );
    check(1, r#"site = "käse""#, (1, 8), "which is no name");
    check(1, r#"site = """#, (1, 8), "site is empty");
    check(1, r#"site = 7"#, (1, 8), "site is an integer, not a text");
    check(1, r#"site = true"#, (1, 8), "site is true or false, not a text");
    check(1, r#"site = ["bremen"]"#, (1, 8), "site is a list, not a text");
    check(1, r#"site = 2024-01-01"#, (1, 8), "site is a date, not a text");
    check(
        1,
        r#"site = 1.5"#,
        (1, 8),
        "site is a number with a fraction, not a text",
    );
    check(1, r#"site = { a = 1 }"#, (1, 8), "site is a table, not a text");
}

#[test]
fn wrong_paths_are_refused() {
    check(2, r#"data_dir = """#, (2, 12), "data_dir is empty");
    check(2, r#"data_dir = "  ""#, (2, 12), "data_dir is empty");
    check(2, r#"data_dir = "a\u0000b""#, (2, 12), "control character");
    check(2, r#"data_dir = 5"#, (2, 12), "put it in double quotes");
    check(
        3,
        r#"fleet = false"#,
        (3, 9),
        "fleet is true or false, not a text",
    );
    check(3, r#"fleet = "a\nb""#, (3, 9), "control character");
    check(7, r#"certificate = 1"#, (7, 15), "door.certificate is an integer");
    check(8, r#"key = []"#, (8, 7), "door.key is a list");
    check(9, r#"client_ca = """#, (9, 13), "door.client_ca is empty");
    check(10, r#"crl = {}"#, (10, 7), "door.crl is a table");
}

#[test]
fn missing_fields_are_named_with_an_example() {
    check(1, "", (1, 1), "site is missing; add site = \"plant-1\"");
    check(2, "", (1, 1), "data_dir is missing; add data_dir = ");
    check(3, "", (1, 1), "fleet is missing; add fleet = ");
    check(7, "", (5, 1), "door.certificate is missing; add certificate = ");
    check(8, "", (5, 1), "door.key is missing; add key = ");
    check(9, "", (5, 1), "door.client_ca is missing; add client_ca = ");
    check(10, "", (5, 1), "door.crl is missing; add crl = ");
    let without_door = "site = \"a\"\ndata_dir = \"d\"\nfleet = \"f\"\n";
    check_text(
        without_door,
        (1, 1),
        "[door] is missing; add [door] with certificate, key",
    );
}

#[test]
fn unknown_fields_are_refused_with_the_nearest_known_one() {
    check(
        1,
        "site = \"bremen\"\nsites = 1",
        (2, 1),
        "sites is no field of this file; did you mean site?",
    );
    check(4, "datadir = \"data\"", (4, 1), "did you mean data_dir?");
    check(
        4,
        "password = \"x\"",
        (4, 1),
        "remove it: known here are site, data_dir, fleet",
    );
    check(
        11,
        "certificat = \"x\"",
        (11, 1),
        "door.certificat is no field of this file; did you mean certificate?",
    );
    check(11, "anonymous = true", (11, 1), "door.anonymous is no field");
    check(
        14,
        "lisen = \"x\"",
        (14, 1),
        "http.lisen is no field of this file; did you mean listen?",
    );
    check(
        14,
        "allow_remote = true",
        (14, 1),
        "http.allow_remote is no field",
    );
    check(17, "size_s = 1", (17, 1), "did you mean size_ms?");
    check(19, "segment_mb = 1", (19, 1), "did you mean segment_mib?");
    check(
        17,
        "[jornal]",
        (17, 2),
        "jornal is no field of this file; did you mean journal?",
    );
    check(17, "[[users]]", (17, 3), "users is no field of this file");
}

#[test]
fn wrong_addresses_are_refused() {
    check(
        6,
        r#"listen = "8883""#,
        (6, 10),
        "door.listen is \"8883\", which is no address",
    );
    check(
        6,
        r#"listen = "0.0.0.0""#,
        (6, 10),
        "write an IP address and a port",
    );
    check(6, r#"listen = "0.0.0.0:88830""#, (6, 10), "which is no address");
    check(
        6,
        r#"listen = "collector.plant:8883""#,
        (6, 10),
        "which is no address",
    );
    check(6, r#"listen = "::1:8883""#, (6, 10), "which is no address");
    check(6, r#"listen = 8883"#, (6, 10), "door.listen is an integer");
    check(
        11,
        r#"endpoint = "collector""#,
        (11, 12),
        "which is no host and port",
    );
    check(
        11,
        r#"endpoint = "collector:0""#,
        (11, 12),
        "which is no host and port",
    );
    check(
        11,
        r#"endpoint = "mqtts://collector:8883""#,
        (11, 12),
        "which is no host and port",
    );
    check(
        11,
        r#"endpoint = ":8883""#,
        (11, 12),
        "such as \"collector.plant:8883\"",
    );
    check(
        11,
        r#"endpoint = "[::z]:8883""#,
        (11, 12),
        "which is no host and port",
    );
}

#[test]
fn the_api_listens_at_loopback_only() {
    let reason = "other machines can reach, and the API has neither users nor TLS";
    check(13, r#"listen = "0.0.0.0:8080""#, (13, 10), reason);
    check(13, r#"listen = "[::]:8080""#, (13, 10), reason);
    check(13, r#"listen = "192.168.1.5:8080""#, (13, 10), reason);
    check(
        13,
        r#"listen = "localhost:8080""#,
        (13, 10),
        "which is no address",
    );
    check(
        13,
        r#"listen = "127.0.0.1:8883""#,
        (13, 10),
        "where the door listens too",
    );
    assert!(parse(&GOOD.replace("127.0.0.1:8080", "[::1]:8080")).is_ok());
    assert!(
        parse(
            &GOOD
                .replace("127.0.0.1:8080", "127.0.0.1:0")
                .replace("0.0.0.0:8883", "127.0.0.1:0")
        )
        .is_ok(),
        "two free ports do not clash"
    );
}

#[test]
fn numbers_out_of_bounds_are_refused() {
    check(
        16,
        "size_ms = 0",
        (16, 11),
        "window.size_ms is 0, out of bounds; choose from 100 to 60000 milliseconds",
    );
    check(16, "size_ms = 60001", (16, 11), "out of bounds");
    check(
        16,
        "size_ms = -1",
        (16, 11),
        "window.size_ms is -1, out of bounds",
    );
    check(
        16,
        "size_ms = 1.5",
        (16, 11),
        "is a number with a fraction, not a whole number",
    );
    check(16, "size_ms = \"1 s\"", (16, 11), "is a text, not a whole number");
    check(16, "size_ms = 99999999999999999999999", (16, 11), "out of bounds");
    check(17, "trail_ms = 70000", (17, 12), "window.trail_ms is 70000");
    check(
        19,
        "segment_mib = 3",
        (19, 15),
        "journal.segment_mib is 3, out of bounds; choose from 4 to 4096 MiB",
    );
    check(19, "segment_mib = 0xffff", (19, 15), "journal.segment_mib is 0x");
    check(19, "segment_mib = inf", (19, 15), "not a whole number");
    for (field, column, words) in [
        (
            "handshake_timeout_ms = 99",
            24,
            "choose from 100 to 60000 milliseconds",
        ),
        ("connections_max = 0", 19, "choose from 1 to 4096 connections"),
        (
            "connections_max = 5000",
            19,
            "door.limits.connections_max is 5000",
        ),
        ("handshakes_max = -3", 18, "door.limits.handshakes_max is -3"),
        ("bytes_per_second = 1", 20, "door.limits.bytes_per_second is 1"),
        (
            "packets_per_second = 9",
            22,
            "door.limits.packets_per_second is 9",
        ),
        (
            "packets_max = 9",
            1,
            "door.limits.packets_max is no field of this file",
        ),
    ] {
        check(11, &format!("[door.limits]\n{field}"), (12, column), words);
    }
}

#[test]
fn what_is_not_toml_is_refused_where_it_breaks() {
    check(1, "site = ", (1, 8), "write it as TOML 1.0");
    check(1, "site = bremen", (1, 8), "collector.toml:1:8");
    check(1, "site = \"bremen", (1, 15), "collector.toml:1:15");
    check(1, "site = \"bremen\" x", (1, 17), "collector.toml:1:17");
    check(2, "= \"data\"", (2, 1), "collector.toml:2:1");
    check(4, "site = \"twice\"", (4, 1), "duplicate key");
    check(14, "[door]", (14, 2), "duplicate key");
    check(15, "[window", (15, 8), "collector.toml:15:8");
    check(19, "segment_mib = 0644", (19, 15), "collector.toml:19:15");
    check(14, "[http]", (14, 2), "duplicate key");
}

#[test]
fn a_section_that_is_no_table_is_refused() {
    let text = GOOD
        .replace("[journal]\nsegment_mib = 64\n", "")
        .replace("site =", "journal = 64\nsite =");
    check_text(
        &text,
        (1, 11),
        "journal is an integer, not a table; write [journal] on a line of its own",
    );
}

#[test]
fn every_problem_is_reported_in_one_go_and_in_the_order_of_the_file() {
    let text = GOOD
        .replace("\"bremen\"", "\"Bremen\"")
        .replace("0.0.0.0:8883", "nowhere")
        .replace("127.0.0.1:8080", "0.0.0.0:80")
        .replace("size_ms = 1000", "size_ms = 1\nextra = 2")
        .replace("segment_mib = 64", "segment_mib = 64 64");
    let problems = parse(&text).unwrap_err();
    let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [1, 6, 13, 16, 17, 20], "{problems:#?}");
}

#[test]
fn an_empty_file_says_what_belongs_into_it() {
    let problems = parse("").unwrap_err();
    let whats: Vec<&str> = problems.iter().map(|problem| problem.what.as_str()).collect();
    assert_eq!(
        whats,
        [
            "site is missing",
            "data_dir is missing",
            "fleet is missing",
            "[door] is missing"
        ]
    );
}

/// A directory with everything that the good file names.
fn plant() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("pki")).unwrap();
    for name in [
        "fleet.toml",
        "pki/server.crt",
        "pki/server.key",
        "pki/ca.crt",
        "pki/crl.pem",
    ] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    fs::set_permissions(dir.path().join("pki/server.key"), Permissions::from_mode(0o600)).unwrap();
    fs::write(dir.path().join("collector.toml"), GOOD).unwrap();
    dir
}

fn load_problem(dir: &tempfile::TempDir, words: &str) -> Problem {
    let mut problems = Config::load(&dir.path().join("collector.toml")).expect_err(words);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    let problem = problems.remove(0);
    assert!(problem.to_string().contains(words), "{problem}");
    problem
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let dir = plant();
    assert!(Config::load(&dir.path().join("collector.toml")).is_ok());
    let key = dir.path().join("pki/server.key");
    for mode in [0o644, 0o640, 0o604, 0o660] {
        fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        let problem = load_problem(
            &dir,
            &format!("a private key that others may read (mode {mode:04o})"),
        );
        assert_eq!((problem.line, problem.column), (8, 7));
        assert!(problem.fix.starts_with("chmod 600 "));
    }
}

#[test]
fn a_data_directory_open_to_others_is_refused() {
    let dir = plant();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(load_problem(&dir, "which others may open (mode 0755)").line, 2);
    fs::remove_dir(&data).unwrap();
    fs::write(&data, "").unwrap();
    load_problem(&dir, "which is no directory");
}

#[test]
fn files_that_are_not_there_are_named() {
    let dir = plant();
    fs::remove_file(dir.path().join("pki/crl.pem")).unwrap();
    assert_eq!(load_problem(&dir, "door.crl is ").line, 10);
    fs::create_dir(dir.path().join("pki/crl.pem")).unwrap();
    load_problem(&dir, "which is no file");
}

#[test]
fn a_file_that_is_no_text_is_refused_at_its_first_wrong_byte() {
    let dir = plant();
    let file = dir.path().join("collector.toml");
    fs::write(&file, b"site = \"a\"\ndata_dir = \"\xff\"").unwrap();
    let problem = load_problem(&dir, "is not UTF-8");
    assert_eq!((problem.line, problem.column), (2, 13));
    fs::write(&file, " ".repeat(5 << 20)).unwrap();
    load_problem(&dir, "larger than 4 MiB");
    fs::remove_file(&file).unwrap();
    load_problem(&dir, "cannot be read");
}

#[test]
fn certificates_that_are_not_in_time_are_named_with_the_date() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("plant");
    let made = OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000);
    let plant = crate::init::Plant {
        dir: &dir,
        site: &Name::new("bremen").unwrap(),
        hosts: &["localhost".to_owned()],
        listen: "127.0.0.1:8883".parse().unwrap(),
        http: "127.0.0.1:8080".parse().unwrap(),
        broker: None,
    };
    let file = plant.make(made).unwrap();
    let check = |days| Config::check(&file, made + time::Duration::days(days));
    assert!(check(700).is_ok());
    for (days, words) in [
        (800, "server.crt: the certificate expired at "),
        (-1, "is not valid before "),
    ] {
        let problems = check(days).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].what.contains(words), "{}", problems[0]);
        assert!(problems[0].line > 1 && problems[0].fix.contains("server renew"));
    }
}

const BROKER: &str = r#"
[broker]
kind = "external"
address = "broker.plant:8884"
ca = "pki/ca.crt"
certificate = "pki/collector.crt"
key = "pki/collector.key"
"#;

#[test]
fn a_broker_of_the_plants_own_is_named_with_all_that_it_takes() {
    assert_eq!(parse(GOOD).unwrap().broker, BrokerChoice::Embedded);
    let good = format!("{GOOD}{BROKER}");
    let BrokerChoice::External(mqtt) = parse(&good).unwrap().broker else {
        panic!("an external broker");
    };
    assert_eq!((mqtt.host.as_str(), mqtt.port), ("broker.plant", 8884));
    assert_eq!(mqtt.server_name.to_str(), "broker.plant");
    assert_eq!(mqtt.files.key, Path::new("/etc/trunnion/pki/collector.key"));

    let line = GOOD.lines().count() + 2;
    for (good, bad, at, words) in [
        ("\"external\"", "\"outer\"", (1, 8), "which is no kind of broker"),
        (
            "broker.plant:8884",
            "broker.plant",
            (2, 11),
            "which is no host and port",
        ),
        (
            "address = \"broker.plant:8884\"\n",
            "",
            (0, 1),
            "broker.address is missing",
        ),
        (
            "ca = ",
            "server_name = \"-\"\nca = ",
            (3, 15),
            "which is no name of a server",
        ),
        ("ca = ", "cafile = ", (0, 1), "broker.ca is missing"),
    ] {
        let text = format!("{GOOD}{}", BROKER.replacen(good, bad, 1));
        let problems = parse(&text).expect_err(words);
        assert!(problems[0].what.contains(words), "{words}: {}", problems[0]);
        assert_eq!(
            (problems[0].line, problems[0].column),
            (line + at.0, at.1),
            "{words}"
        );
        assert!(!problems[0].fix.is_empty());
    }
}

#[test]
fn a_plant_made_for_a_broker_passes_its_own_checks_and_misses_its_own_files() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("plant");
    let made = OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000);
    let plant = crate::init::Plant {
        dir: &dir,
        site: &Name::new("bremen").unwrap(),
        hosts: &["localhost".to_owned()],
        listen: "127.0.0.1:8883".parse().unwrap(),
        http: "127.0.0.1:8080".parse().unwrap(),
        broker: Some("10.1.2.3:8884"),
    };
    let file = plant.make(made).unwrap();
    let config = Config::check(&file, made).unwrap();
    let BrokerChoice::External(mqtt) = &config.broker else {
        panic!("an external broker");
    };
    assert_eq!(mqtt.server_name.to_str(), "collector.bremen");
    assert_eq!(config.endpoint.as_deref(), Some("10.1.2.3:8884"));
    let conf = fs::read_to_string(dir.join("mosquitto.conf")).unwrap();
    let acl = fs::read_to_string(dir.join("mosquitto.acl")).unwrap();
    assert!(!conf.contains('@') && !acl.contains('@'), "{conf}{acl}");
    assert!(conf.contains("\nlistener 8884\n"), "{conf}");
    assert!(acl.contains("user collector.bremen"), "{acl}");

    let late = Config::check(&file, made + time::Duration::days(800)).unwrap_err();
    let named: Vec<_> = late
        .iter()
        .map(|problem| problem.fix.contains("broker renew"))
        .collect();
    assert_eq!(named, [false, true], "{late:?}");
    fs::set_permissions(dir.join("pki/collector.key"), Permissions::from_mode(0o644)).unwrap();
    let open = Config::load(&file).unwrap_err();
    assert!(open[0].what.contains("broker.key"), "{}", open[0]);
}

/// The good file with a stream under it, which begins at line 21.
fn with_stream(fields: &str) -> String {
    format!("{GOOD}\n[[stream]]\n{fields}")
}

#[test]
fn a_stream_is_read_with_its_defaults() {
    let text = with_stream("name = \"runs\"\nwindow = \"session\"\ngap_ms = 30000\n");
    let config = parse(&text).unwrap();
    let expected = StreamSettings {
        name: "runs".to_owned(),
        offset_ns: 0,
        lateness_ns: 0,
        key: Key::Channel,
        emit: Emit::Close,
        quantiles: false,
        shape: Kind::Session {
            gap_ns: 30_000_000_000,
        },
        select: Selector::default(),
    };
    assert_eq!(config.streams, [expected]);
    assert_eq!(parse(GOOD).unwrap().streams, []);
}

#[test]
fn the_stream_in_the_documentation_is_a_good_one() {
    let doc = include_str!("../config.rs");
    let example: String = doc
        .lines()
        .filter_map(|line| line.strip_prefix("//! # "))
        .skip_while(|line| !line.starts_with("[[stream]]"))
        .map(|line| format!("{line}\n"))
        .collect();
    // What goes on in the next line's comment is one.
    let config = parse(&format!("{GOOD}\n{example}")).unwrap();
    let [stream] = &config.streams[..] else {
        panic!("{:?}", config.streams);
    };
    let minute = 60_000_000_000;
    assert_eq!(
        (stream.shape, stream.lateness_ns, stream.quantiles),
        (
            Kind::Hopping {
                size_ns: 10 * minute,
                slide_ns: minute
            },
            60 * minute,
            true
        )
    );
    assert_eq!(stream.select.quantity, Some(Quantity::Temperature));
    assert_eq!(stream.select.asset.as_deref(), Some("fan-*"));
}

#[test]
fn streams_that_cannot_be_are_refused_at_their_place() {
    let check = |fields: &str, at, words| check_text(&with_stream(fields), at, words);
    let hopping = "name = \"a\"\nwindow = \"hopping\"\nsize_ms = 1000\n";
    check(
        &format!("{hopping}slide_ms = 300"),
        (21, 1),
        "stream hops by a slide that does not divide its size; make size_ms a multiple",
    );
    check(
        &format!("{}slide_ms = 100", hopping.replace("1000", "6500")),
        (21, 1),
        "stream puts each value into more than 64 windows",
    );
    check(
        hopping,
        (21, 1),
        "stream.slide_ms is missing; add slide_ms = 60000",
    );
    let tumbling = "name = \"a\"\nwindow = \"tumbling\"\nsize_ms = 1000\n";
    check(
        &format!("{tumbling}slide_ms = 1000"),
        (25, 1),
        "stream.slide_ms is no field of this file; did you mean size_ms?",
    );
    check(
        &format!("{tumbling}key = \"asset\""),
        (21, 1),
        "joins the channels of an asset without naming their unit; add unit =",
    );
    check(
        &format!("{tumbling}key = \"node\""),
        (25, 7),
        "is no key; write \"channel\"",
    );
    check(
        &format!("{tumbling}emit = 1"),
        (25, 8),
        "stream.emit is an integer",
    );
    check(
        &format!("{tumbling}quantiles = \"yes\""),
        (25, 13),
        "write true or false",
    );
    check(
        &format!("{tumbling}unit = \"K\""),
        (25, 8),
        "is \"K\", which is no unit",
    );
    check(
        &format!("{tumbling}asset = \"Fan\""),
        (25, 9),
        "which no id can be like",
    );
    check(
        &format!("{tumbling}lateness_ms = -1"),
        (25, 15),
        "choose from 0 to 604800000",
    );
    check(
        &tumbling.replace("tumbling", "sliding"),
        (23, 10),
        "is no kind of window",
    );
    check(
        &tumbling.replace("= 1000", "= 99"),
        (24, 11),
        "choose from 100 to 86400000",
    );
    check(
        &format!("{tumbling}[[stream]]\n{tumbling}"),
        (26, 8),
        "stream.name is \"a\", as another stream's is",
    );
    check_text(
        &GOOD.replace("[http]", "[stream]\n[http]"),
        (12, 1),
        "stream is no list of tables; write [[stream]]",
    );
    let many: String = (0..17)
        .map(|n| format!("[[stream]]\n{}", tumbling.replace("\"a\"", &format!("\"s{n}\""))))
        .collect();
    check_text(
        &format!("{GOOD}\n{many}"),
        (85, 1),
        "is the 17th, one more than there can be",
    );
}

#[test]
fn how_far_a_clock_may_be_off_is_configured_both_ways() {
    let text = GOOD.replace(
        "size_ms = 1000",
        "lead_ms = 5000\nbehind_ms = 86400000\nlateness_ms = 2000",
    );
    let window = parse(&text).unwrap().window;
    let seconds = [window.lead_ns, window.behind_ns, window.lateness_ns].map(|ns| ns / 1_000_000_000);
    assert_eq!(seconds, [5, 86_400, 2]);
    check(
        17,
        "behind_ms = 59999",
        (17, 13),
        "choose from 60000 to 315360000000",
    );
}

#[test]
fn segments_are_removed_only_by_a_decision() {
    let retention = |lines: &str| {
        let text = GOOD.replace("segment_mib = 64", lines);
        parse(&text).map(|config| config.retention)
    };
    assert_eq!(retention(""), Ok(Retention::default()));
    let archive = Some(PathBuf::from("/etc/trunnion/old"));
    let copied = Retention {
        archive: archive.clone(),
        keep: None,
    };
    assert_eq!(retention("archive = \"old\""), Ok(copied));
    let keep = Some(Duration::from_secs(30 * 86_400));
    let moved = Retention { archive, keep };
    assert_eq!(retention("archive = \"old\"\nkeep_days = 30"), Ok(moved));
    let dropped = Retention { archive: None, keep };
    assert_eq!(retention("archive = \"none\"\nkeep_days = 30"), Ok(dropped));
    check(
        19,
        "keep_days = 30",
        (19, 13),
        "removes segments that nothing else holds",
    );
    check(
        19,
        "archive = \"none\"",
        (19, 11),
        "nothing says how long segments are kept",
    );
    check(19, "archive = \"old\"\nkeep_days = -1", (20, 13), "out of bounds");
}
