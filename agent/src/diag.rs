//! Everything that a person far away needs to understand a gateway, in one archive, and no secret.
//!
//! Each part is made on its own: what cannot be had is said in its place, so that a broken gateway still
//! gives an archive. Nothing is read that holds a secret but the configuration and the log, and no part
//! in which the gateway's private key or any other is found is written: a note stands there instead.

use crate::config::{Config, Problems};
use crate::enrolment::Enrolment;
use crate::forecast::Outlook;
use crate::{clock_source, floor, http, spool, status, tls};
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::statvfs;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use trunnion_common::time::EventTime;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Most bytes of the end of a log.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// Most bytes of a file of /proc, /sys or /etc.
const FACT_BYTES_MAX: u64 = 64 << 10;

/// Most bytes of a configuration file.
const CONFIG_BYTES_MAX: u64 = 256 << 10;

/// Files listed of a state directory.
const FILES_MAX: usize = 10_000;

/// Lines of the journal.
const JOURNAL_LINES: &str = "5000";

/// What is known of the system without asking anybody.
const FACTS: [&str; 13] = [
    "/etc/os-release",
    "/proc/version",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/proc/mounts",
    "/proc/diskstats",
    "/proc/net/dev",
    "/proc/tty/driver/usbserial",
    "/sys/class/rtc/rtc0/since_epoch",
    "/sys/class/rtc/rtc0/hctosys",
    "/sys/devices/system/clocksource/clocksource0/current_clocksource",
];

/// Where to look.
#[derive(Debug)]
pub struct Sources {
    /// The agent's configuration, or what is wrong with it.
    pub config: Result<Config, Problems>,
    /// The configuration's text, where it has one.
    pub config_file: Option<PathBuf>,
    /// The state directory, where the configuration does not say or cannot be read.
    pub state_dir: Option<PathBuf>,
    /// The agent's log, where it goes to a file.
    pub log: Option<PathBuf>,
    /// The agent's systemd unit, where its log goes to the journal.
    pub unit: Option<String>,
}

/// A file of the archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Its name there.
    pub name: String,
    /// What it says.
    pub bytes: Vec<u8>,
}

impl Part {
    fn text(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            bytes: text.into().into_bytes(),
        }
    }

    fn json(name: &str, value: &Value) -> Self {
        Self::text(name, format!("{value:#}\n"))
    }
}

/// Gathers all parts; `now` is the system's clock. Blocks.
pub fn gather(sources: &Sources, now: EventTime) -> Vec<Part> {
    let config = sources.config.as_ref().ok();
    let state_dir = config
        .map(|config| config.state_dir.as_path())
        .or(sources.state_dir.as_deref());
    let metrics = config.and_then(|config| config.metrics_listen).map(page);
    let mut parts = vec![Part::json(
        "about.json",
        &json!({
            "agent_version": status::VERSION,
            "gateway": config.map(|config| config.enrolment.gateway.to_string()),
            "utc_ns": now,
        }),
    )];
    parts.push(match &sources.config {
        // The bundle's key is not in what is printed.
        Ok(config) => Part::text("config.txt", format!("{config:#?}\n")),
        Err(problems) => Part::text("config.txt", format!("{problems}\n")),
    });
    if let Some(path) = &sources.config_file {
        parts.push(Part::text(
            "agent.toml",
            start_of(path, CONFIG_BYTES_MAX).unwrap_or_else(|error| missing(path, &error)),
        ));
    }
    if let Some(config) = config {
        parts.push(Part::json("enrolment.json", &certificates(&config.enrolment)));
    }
    match &metrics {
        Some(Ok(page)) => {
            parts.push(Part::text("metrics.txt", page.clone()));
            parts.push(Part::text("forecast.txt", format!("{}\n", outlook(page))));
        }
        Some(Err(error)) => parts.push(Part::text(
            "metrics.txt",
            format!("the agent's metrics page does not answer: {error}\n"),
        )),
        None => parts.push(Part::text(
            "metrics.txt",
            "no metrics_listen is configured, so that a running agent cannot be asked\n",
        )),
    }
    if let Some(state_dir) = state_dir {
        parts.push(spool_part(state_dir));
        parts.push(Part::text("files.txt", listing(state_dir)));
        parts.push(Part::json("disk.json", &disk(state_dir, config)));
    }
    parts.push(Part::json("clock.json", &clocks(state_dir, config, now)));
    parts.push(Part::text("system.txt", facts()));
    if let Some(path) = &sources.log {
        parts.push(Part::text(
            "log.txt",
            end_of(path, LOG_BYTES_MAX).unwrap_or_else(|error| missing(path, &error)),
        ));
    }
    if let Some(unit) = &sources.unit {
        parts.push(Part::text("journal.txt", journal(unit)));
    }
    let key = config.map(|config| config.enrolment.key.secret_der().to_vec());
    for part in &mut parts {
        withhold_secrets(part, key.as_deref());
    }
    parts
}

/// Writes the archive, readable by its owner alone; refuses to overwrite.
pub fn write(parts: &[Part], out: &Path, now: EventTime) -> io::Result<()> {
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(out)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for Part { name, bytes } in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(now.0 / 1_000_000_000).unwrap_or(0));
        archive.append_data(&mut header, format!("trunnion-diag/{name}"), bytes.as_slice())?;
    }
    archive.into_inner()?.finish()?.sync_all()
}

/// Replaces a part in which a private key stands, as PEM or as the bytes or digits of this gateway's.
fn withhold_secrets(part: &mut Part, key: Option<&[u8]>) {
    let holds =
        |needle: &[u8]| !needle.is_empty() && part.bytes.windows(needle.len()).any(|window| window == needle);
    let digits = |key: &[u8]| {
        key.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
            text
        })
    };
    let is_secret = holds(b"PRIVATE KEY")
        || key.is_some_and(|key| {
            // A line of PEM is 64 characters of 48 bytes; a part of the key is as bad as all of it.
            let base64 = base64(key);
            holds(key) || holds(digits(key).as_bytes()) || base64.as_bytes().chunks_exact(64).any(holds)
        });
    if is_secret {
        part.bytes = b"withheld: a private key stands in it\n".to_vec();
    }
}

/// As PEM writes it, without line breaks (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .chain([0, 0].iter())
            .take(3)
            .fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        for at in 0..4 {
            text.push(if at <= chunk.len() {
                char::from(ALPHABET[bits >> (18 - 6 * at) & 63])
            } else {
                '='
            });
        }
    }
    text
}

fn missing(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}\n", path.display())
}

/// The start of a file, as text.
fn start_of(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The end of a file, as text.
fn end_of(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn certificates(enrolment: &Enrolment) -> Value {
    let describe = |der: &rustls::pki_types::CertificateDer<'_>| match X509Certificate::from_der(der) {
        Ok((_, certificate)) => json!({
            "subject": certificate.subject().to_string(),
            "issuer": certificate.issuer().to_string(),
            "serial": certificate.raw_serial_as_string(),
            "not_before": certificate.validity().not_before.to_string(),
            "not_after": certificate.validity().not_after.to_string(),
        }),
        Err(error) => json!({ "unreadable": error.to_string() }),
    };
    json!({
        "gateway": enrolment.gateway.to_string(),
        "endpoints": enrolment.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "server_names": enrolment.endpoints.iter()
            .map(|endpoint| endpoint.server_name.to_str().into_owned()).collect::<Vec<_>>(),
        "ca": enrolment.ca.iter().map(describe).collect::<Vec<_>>(),
        "certificate": enrolment.certificate.iter().map(describe).collect::<Vec<_>>(),
    })
}

/// The metrics page of a running agent.
fn page(address: SocketAddr) -> io::Result<String> {
    http::fetch(address, "/metrics", Duration::from_secs(2))
}

/// What a running agent expects of its spool and disk, read off its metrics page.
pub fn outlook(page: &str) -> Outlook {
    let value = |name: &str| {
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse::<f64>().ok().filter(|value| value.is_finite())
    };
    let seconds =
        |name| value(name).map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
    Outlook {
        holds: seconds("trunnion_agent_spool_holds_seconds"),
        drains: seconds("trunnion_agent_spool_drains_seconds"),
        written_per_day: value("trunnion_agent_written_per_day_bytes").map(|bytes| bytes as u64),
        flash_life_days: value("trunnion_agent_flash_life_days").map(|days| days as u32),
    }
}

fn spool_part(state_dir: &Path) -> Part {
    // Looking creates nothing, so that there must be a spool to look at.
    if !state_dir.join("spool").exists() {
        return Part::json("spool.json", &json!({ "absent": state_dir.join("spool") }));
    }
    match spool::tools::inspect(state_dir) {
        Ok(report) => Part::json("spool.json", &json!(report)),
        Err(error) => Part::json("spool.json", &json!({ "not_inspected": error.to_string() })),
    }
}

/// Bytes, time of last change in seconds since 1970, and path of every file.
fn listing(directory: &Path) -> String {
    let mut text = String::new();
    let mut pending = vec![directory.to_owned()];
    let mut files = 0;
    while let Some(directory) = pending.pop() {
        let mut entries: Vec<PathBuf> = match fs::read_dir(&directory) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(error) => {
                text += &missing(&directory, &error);
                continue;
            }
        };
        entries.sort();
        for path in entries {
            let Ok(meta) = path.symlink_metadata() else {
                continue;
            };
            if meta.is_dir() {
                pending.push(path);
                continue;
            }
            files += 1;
            if files > FILES_MAX {
                return text + "and more\n";
            }
            let changed = std::os::unix::fs::MetadataExt::mtime(&meta);
            writeln!(text, "{:>12} {changed:>12} {}", meta.len(), path.display())
                .expect("writing to a string does not fail");
        }
    }
    text
}

fn disk(state_dir: &Path, config: Option<&Config>) -> Value {
    let room = match statvfs(state_dir) {
        Ok(disk) => json!({
            "size_bytes": disk.f_blocks.saturating_mul(disk.f_frsize),
            "free_bytes": disk.f_bavail.saturating_mul(disk.f_frsize),
            "files": disk.f_files,
            "files_free": disk.f_favail,
            "is_read_only": disk.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        }),
        Err(error) => json!({ "unknown": error.to_string() }),
    };
    json!({
        "state_dir": state_dir,
        "room": room,
        "flash_endurance_bytes": config.and_then(|config| config.flash_endurance_bytes),
    })
}

fn clocks(state_dir: Option<&Path>, config: Option<&Config>, now: EventTime) -> Value {
    let saved = state_dir.map(floor::look);
    let floor = match &saved {
        Some(Ok(floor::Saved::Floor(utc))) => json!({ "utc_ns": utc }),
        Some(Ok(floor::Saved::Damaged)) => json!("damaged"),
        Some(Err(error)) => json!({ "unreadable": error.to_string() }),
        Some(Ok(floor::Saved::Nothing)) | None => Value::Null,
    };
    json!({
        "system_utc_ns": now,
        "floor": floor,
        "enrolled_utc_ns": config.map(|config| tls::enrolled(&config.enrolment)),
        "synchronised_by": clock_source::ask(),
    })
}

fn facts() -> String {
    let mut text = String::new();
    for path in FACTS {
        let fact = start_of(Path::new(path), FACT_BYTES_MAX).unwrap_or_else(|error| format!("{error}\n"));
        writeln!(text, "== {path}\n{}", fact.trim_end()).expect("writing to a string does not fail");
    }
    text
}

/// The end of a unit's journal, as journalctl(1) prints it.
fn journal(unit: &str) -> String {
    let mut command = Command::new("journalctl");
    command.args([
        "--no-pager",
        "--output",
        "short-iso",
        "--lines",
        JOURNAL_LINES,
        "--unit",
        unit,
    ]);
    match command.output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            let from = text.len().saturating_sub(LOG_BYTES_MAX as usize);
            String::from_utf8_lossy(&text[from..]).into_owned()
        }
        Err(error) => format!("journalctl: {error}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_with_a_private_key_in_whatever_form_is_withheld() {
        let key: Vec<u8> = (0..138_u32).map(|n| (n * 7 + 1) as u8).collect();
        let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let pem = base64(&key);
        let raw = [b"before".as_slice(), &key, b"after"].concat();
        for secret in [
            b"-----BEGIN EC PRIVATE KEY-----".to_vec(),
            raw,
            format!("key={digits}").into_bytes(),
            format!("x{}\n", &pem[64..128]).into_bytes(),
        ] {
            let mut part = Part {
                name: String::new(),
                bytes: secret,
            };
            withhold_secrets(&mut part, Some(&key));
            assert!(part.bytes.starts_with(b"withheld"));
        }
        let mut part = Part::text("", "-----BEGIN CERTIFICATE-----");
        withhold_secrets(&mut part, Some(&key));
        assert_eq!(part.bytes, b"-----BEGIN CERTIFICATE-----");
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn what_is_expected_is_read_off_the_metrics_page() {
        let metrics = crate::metrics::Metrics::default();
        let page = metrics.page();
        let mut expected = Outlook::default();
        metrics.observe_outlook(&expected);
        assert_eq!(outlook(&page.text()), expected);
        expected = Outlook {
            holds: Some(Duration::from_secs(532_800)),
            drains: Some(Duration::from_secs(2_280)),
            written_per_day: Some(21_000_000_000),
            flash_life_days: Some(1_900),
        };
        metrics.observe_outlook(&expected);
        assert_eq!(outlook(&page.text()), expected, "{}", page.text());
    }
}
