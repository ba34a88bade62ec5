//! Secrets stay where they belong: in files of the owner's own, and in no log, table or journal.

use crate::gateway::{Gateway, Signal};
use crate::process::{Plant, until};
use crate::{FLEET, values};
use rustix::process::Signal as Unix;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The files that hold private keys, and nothing but them may.
const KEYS: [&str; 3] = ["pki/ca.key", "pki/server.key", "gw-1.toml"];

/// What `init` makes for everybody to read, so that an operator may copy or edit it.
const PUBLIC: [&str; 5] = [
    "collector.toml",
    "fleet.toml",
    "pki/ca.crt",
    "pki/server.crt",
    "pki/crl.pem",
];

/// Every file and directory below.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found
}

/// The base64 lines of a PEM text in which the private number stands: the first two (RFC 5958 and 5915,
/// for P-256). What follows is the public key, which is in the certificate too.
fn key_lines(pem: &str) -> Vec<String> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in pem.lines() {
        if line.starts_with("-----") {
            inside = line.contains("BEGIN") && line.contains("PRIVATE KEY");
        } else if inside && lines.len() < 2 {
            lines.push(line.trim().to_owned());
        }
    }
    lines
}

fn holds(haystack: &[u8], needle: &str) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle.as_bytes())
}

/// Whether so many hexadecimal digits stand in a row: only the broker's secret has that form.
fn holds_digits(text: &str, count: usize) -> bool {
    let runs = text.split(|c: char| !c.is_ascii_hexdigit());
    runs.map(str::len).max().is_some_and(|longest| longest >= count)
}

#[test]
fn no_secret_leaves_the_files_that_are_for_it() {
    let plant = Plant::new(FLEET);
    // Everything that there is to log; the TLS library alone would log whole handshakes.
    let collector = plant.start_with_log("trace,rustls=debug");
    let mut printed = plant.enrol_to("gw-1", collector.door, &plant.path("gw-1.toml"));
    let mut gateway = Gateway::connect_again(&plant, &collector, "gw-1");
    gateway.send(Signal::new().next_blocks(4));
    gateway.await_acknowledged();
    until("windows", || values(&collector).len() >= 2);
    for path in ["/", "/metrics", "/readyz", "/api/v1/gateways", "/api/v1/ledger"] {
        printed.push_str(&collector.text(path));
    }
    // While it runs: afterwards SQLite has tidied its files away.
    let files = below(&plant.path(""));
    let contents: Vec<_> = files
        .iter()
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    let modes: Vec<_> = files
        .iter()
        .map(|path| (path, fs::metadata(path).unwrap()))
        .collect();
    for (path, metadata) in modes {
        let mode = metadata.permissions().mode() & 0o777;
        let public = PUBLIC.iter().any(|name| *path == plant.path(name));
        let most = match public {
            true => 0o644,
            false if metadata.is_dir() => 0o700,
            false => 0o600,
        };
        assert_eq!(mode & !most, 0, "{} has mode {mode:04o}", path.display());
    }
    let log = collector.log();
    assert!(
        log.contains("TRACE") && log.contains("the collector runs"),
        "nothing was traced"
    );
    printed.push_str(&log);
    assert!(collector.stop(Unix::TERM).success());

    let mut canaries = Vec::new();
    for name in KEYS {
        let lines = key_lines(&fs::read_to_string(plant.path(name)).unwrap());
        assert_eq!(lines.len(), 2, "{name} holds a key");
        canaries.extend(lines.into_iter().map(|line| (plant.path(name), line)));
    }
    for (home, canary) in &canaries {
        assert!(
            !printed.contains(canary.as_str()),
            "{} was printed",
            home.display()
        );
        for (path, content) in &contents {
            let found = holds(content, canary);
            assert_eq!(found, path == home, "{} in {}", home.display(), path.display());
        }
    }
    assert!(!holds_digits(&printed, 32), "the broker's secret was printed");
    for (path, content) in &contents {
        // The register lists serials, and the tables ids beside each other: public, and of the same form.
        let name = path.file_name().unwrap().to_str().unwrap();
        if name != "issued.toml" && !name.starts_with("state.db") {
            let text = String::from_utf8_lossy(content);
            assert!(
                !holds_digits(&text, 32),
                "the broker's secret is in {}",
                path.display()
            );
        }
    }
}
