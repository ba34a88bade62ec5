//! TOML text to a validated configuration.
//!
//! Nothing outside this file sees the text: [`Config`] holds addresses, durations and absolute paths.
//! Relative paths in the file are relative to the file. Every problem is reported in one go, each with
//! file, line, column and what to do about it.
//!
//! ```toml
//! site = "bremen"               # the site in topics and certificates
//! data_dir = "data"             # journal, state, dead letters; for the collector's user alone
//! fleet = "fleet.toml"          # which asset has which channels
//!
//! [door]                        # where gateways connect, over mutual TLS
//! listen = "0.0.0.0:8883"
//! endpoint = "collector.plant:8883"
//! certificate = "pki/server.crt"
//! key = "pki/server.key"
//! client_ca = "pki/ca.crt"
//! crl = "pki/crl.pem"
//!
//! [door.limits]
//! connections_max = 4096
//!
//! # [broker]                    # gateways connect to this broker and not to the door:
//! # kind = "external"
//! # address = "broker.plant:8883"
//! # server_name = "collector.bremen"    # in the broker's certificate
//! # ca = "pki/ca.crt"
//! # certificate = "pki/collector.crt"   # who the collector is at the broker
//! # key = "pki/collector.key"
//!
//! [http]                        # API, status page, metrics, probes; loopback only
//! listen = "127.0.0.1:8080"
//!
//! [window]
//! size_ms = 1000
//! trail_ms = 5000
//!
//! [pipeline]
//! shed_lag_s = 30               # further behind than that, no search for faults is made on a window
//! # [[stream]]                  # windows of slow channels, beside the 10 s of each that are always there
//! # name = "bearing-temperature"
//! # quantity = "temperature"    # which channels: quantity, unit, and ids with * for any characters
//! # asset = "fan-*"             # (asset, point, channel); all of those given have to fit
//! # window = "hopping"          # or "tumbling" (size_ms), "session" (gap_ms)
//! # size_ms = 600000            # a multiple of slide_ms
//! # slide_ms = 60000
//! # offset_ms = 0               # of the windows from the epoch
//! # lateness_ms = 3600000       # kept so long after its end for what corrects it; default 0
//! # key = "channel"             # or "asset": all its channels in one window; needs unit
//! # emit = "close"              # or "update": told while it fills too
//! # quantiles = true            # p50, p95 and p99 to 1 %; default false
//!
//! [journal]
//! segment_mib = 64
//! archive = "/mnt/archive/trunnion"   # sealed segments are copied there; the directory has to exist
//! keep_days = 30                # and removed from the journal so long after, when the archive has them
//! ```
//!
//! Without `archive` every segment stays in the journal for good. `archive = "none"` beside `keep_days`
//! removes segments that nothing else holds: what is lost with them is said in [`crate::retention`].

mod document;
mod streams;

pub use crate::fleet::Problem;

use crate::door::{self, CONNECTIONS_MAX, DoorConfig, Limits, Rate};
use crate::fleet::Fleet;
use crate::journal;
use crate::retention::Retention;
use crate::settings::Settings;
use crate::settings::stream::StreamSettings;
use crate::source::credentials::Files;
use crate::source::mqtt::MqttConfig;
use crate::window::WindowSettings;
use document::{Fault, Placed, Problems, Section};
use rustls::pki_types::ServerName;
use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;
use toml::de::DeValue;
use trunnion_common::id::Name;

/// All interfaces, at IANA's port for MQTT over TLS (`secure-mqtt`).
pub const DOOR_LISTEN: &str = "0.0.0.0:8883";

/// The API's address.
pub const HTTP_LISTEN: &str = "127.0.0.1:8080";

/// The word for no archive, beside `keep_days`.
const NO_ARCHIVE: &str = "none";

/// A hundred years: longer is for good, which is the default.
const KEEP_DAYS_MAX: u64 = 36_500;

/// Longest configuration or fleet file read: ten thousand channels take two to three megabytes, and a longer one
/// is some other file.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Ten years: further behind than that no gateway's samples are.
const BEHIND_MS_MAX: u64 = 3_650 * 86_400_000;

/// What a collector runs by. Valid: made by [`Config::load`] and [`Config::parse`] only.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// The site in topics and certificates.
    pub site: Name,
    /// Journal, state and dead letters live here.
    pub data_dir: PathBuf,
    /// The fleet file.
    pub fleet: PathBuf,
    /// Where gateways connect; default address [`DOOR_LISTEN`], default limits those of
    /// [`Limits::default`].
    pub door: DoorConfig,
    /// `host:port` by which gateways reach the door or the broker: what an enrolment bundle names.
    pub endpoint: Option<String>,
    /// Where blocks come from.
    pub broker: BrokerChoice,
    /// API, page, metrics and probes.
    pub http: HttpSettings,
    /// How streams are cut into windows; defaults are those of [`WindowSettings::default`].
    pub window: WindowSettings,
    /// How far behind the journal the pipeline may be before it computes less of each window; default
    /// [`SHED_LAG`].
    pub shed_lag: Duration,
    /// Windows over slow channels beside those that are always there; none by default.
    pub streams: Vec<StreamSettings>,
    /// How the journal is kept; defaults are those of [`journal::Options::default`].
    pub journal: journal::Options,
    /// How long its segments are; without a word about it, for good.
    pub retention: Retention,
}

/// A burst of half a minute is worked off afterwards; whoever is told of a fault later than that might as
/// well have been told by the next window.
pub const SHED_LAG: Duration = Duration::from_secs(30);

/// Where blocks come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BrokerChoice {
    /// The broker in this process, behind the door. The default.
    Embedded,
    /// A broker of the plant's own, such as mosquitto. Of the door, only the files of the plant's
    /// authority and the gateways' endpoint count then.
    External(MqttConfig),
}

/// The API's socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpSettings {
    /// A loopback address; default [`HTTP_LISTEN`]. Anything else is refused: the API has neither users
    /// nor TLS of its own.
    pub listen: SocketAddr,
}

impl Config {
    /// Reads the file and looks at what it names: certificates and keys have to be there, with modes that
    /// fit them, and the fleet file has to be valid too.
    pub fn load(file: &Path) -> Result<Self, Vec<Problem>> {
        let text = read_text(file).map_err(|problem| vec![problem])?;
        let mut reading = Reading::new(file, &text);
        let fleet = reading.check_paths();
        match (reading.finish(), fleet) {
            (Ok(config), fleet) if fleet.is_empty() => Ok(config),
            (config, fleet) => Err(Vec::from_iter(config.err().into_iter().flatten().chain(fleet))),
        }
    }

    /// As [`Self::load`], and looks into the certificates: whether they go together and are in time.
    pub fn check(file: &Path, now: OffsetDateTime) -> Result<Self, Vec<Problem>> {
        let config = Self::load(file)?;
        let text = read_text(file).map_err(|problem| vec![problem])?;
        let mut reading = Reading::new(file, &text);
        reading.check_certificates(now);
        reading.finish().map(|_| config)
    }

    /// Reads the file alone, for commands that need nothing of what it names.
    pub fn read(file: &Path) -> Result<Self, Vec<Problem>> {
        let text = read_text(file).map_err(|problem| vec![problem])?;
        Self::parse(&text, file)
    }

    /// The directory of the plant's certificate authority: where gateways' certificates are trusted from,
    /// they are issued from.
    pub fn authority(&self) -> &Path {
        self.door.client_ca.parent().unwrap_or(Path::new("."))
    }

    /// What the pipeline works by: journaled at each start, and what a replay computes with.
    pub fn settings(&self) -> Settings {
        Settings {
            windows: self.window,
            streams: self.streams.clone().into(),
            ..Settings::default()
        }
    }

    /// The journal's directory.
    pub fn journal_dir(&self) -> PathBuf {
        self.data_dir.join("journal")
    }

    /// Reads the text as if it stood in `file`. Touches no other file.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Vec<Problem>> {
        Reading::new(file, text).finish()
    }
}

/// A text file that a person wrote, or why it cannot be read.
pub fn read_text(file: &Path) -> Result<String, Problem> {
    let problem = |line, column, what: String, fix: &str| Problem {
        file: file.display().to_string(),
        line,
        column,
        what,
        fix: fix.to_owned(),
    };
    let cannot = |error: std::io::Error| {
        problem(
            1,
            1,
            format!("cannot be read: {error}"),
            "check the path and the file's mode",
        )
    };
    if fs::metadata(file).map_err(cannot)?.len() > FILE_BYTES_MAX {
        return Err(problem(
            1,
            1,
            "is larger than 4 MiB".into(),
            "name the right file",
        ));
    }
    let bytes = fs::read(file).map_err(cannot)?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(&error.as_bytes()[..valid]);
        let (line, column) = document::position(&text, text.len());
        problem(line, column, "is not UTF-8".into(), "save the file as UTF-8")
    })
}

/// What a path is for decides what is checked about it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// A file that has to be there.
    Readable,
    /// A file that has to be there, and to be a valid fleet file.
    Fleet,
    /// A file that has to be there, and that nobody else may read.
    Secret,
    /// A directory for the collector alone; made when it is not there.
    PrivateDirectory,
}

/// A configuration on its way from text to [`Config`].
struct Reading<'t> {
    problems: Problems<'t>,
    config: Option<Config>,
    paths: Vec<(&'static str, Purpose, Placed<PathBuf>)>,
}

impl<'t> Reading<'t> {
    fn new(file: &'t Path, text: &'t str) -> Self {
        let (mut problems, table) = Problems::parse(file, text);
        let mut paths = Vec::new();
        let base = file.parent().unwrap_or(Path::new(""));
        let config = read(file, base, Section::root(&table), &mut problems, &mut paths);
        Self {
            problems,
            config,
            paths,
        }
    }

    /// Adds what is wrong with the paths, and returns what is wrong in the fleet file.
    fn check_paths(&mut self) -> Vec<Problem> {
        let mut fleet = Vec::new();
        for (name, purpose, path) in &self.paths {
            if let Err(fault) = check_path(&path.value, *purpose) {
                let what = format!("{name} {}", fault.what);
                self.problems.add(path.place.clone(), Fault::new(what, fault.fix));
            } else if *purpose == Purpose::Fleet {
                fleet = check_fleet(&path.value).err().unwrap_or_default();
            }
        }
        fleet
    }

    /// Adds what is wrong with the door's certificates, each at the line that names its file.
    fn check_certificates(&mut self, now: OffsetDateTime) {
        let Some(config) = &self.config else { return };
        let door = door::check_certificates(&config.door, now).err();
        let broker = match &config.broker {
            BrokerChoice::Embedded => None,
            BrokerChoice::External(mqtt) => mqtt.files.check(&mqtt.server_name, now).err(),
        };
        for (section, renewal, error) in [("door.", "server", door), ("broker.", "broker", broker)] {
            let Some(error) = error else { continue };
            let named = self
                .paths
                .iter()
                .find(|(name, _, path)| name.starts_with(section) && path.value == error.path());
            let place = named.map_or(0..0, |(_, _, path)| path.place.clone());
            let fix = format!(
                "renew it with `trunnion-collector {renewal} renew`, or put back the files that go together"
            );
            self.problems.add(place, Fault::new(error.to_string(), fix));
        }
    }

    fn finish(self) -> Result<Config, Vec<Problem>> {
        let found = self.problems.into_found();
        match self.config {
            Some(config) if found.is_empty() => Ok(config),
            _ => Err(found),
        }
    }
}

/// The fields in the order of the file. `None` only when a problem was added.
fn read(
    file: &Path,
    base: &Path,
    mut root: Section<'_, '_>,
    problems: &mut Problems<'_>,
    paths: &mut Vec<(&'static str, Purpose, Placed<PathBuf>)>,
) -> Option<Config> {
    let path = |value: &DeValue<'_>| document::text(value).map(|text| base.join(text));
    let mut keep = |name, purpose, path: &Option<Placed<PathBuf>>| {
        paths.extend(path.clone().map(|path| (name, purpose, path)));
    };

    let site = root.required("site", "\"plant-1\"", name, problems);
    let data_dir = root.required("data_dir", "\"data\"", path, problems);
    keep("data_dir", Purpose::PrivateDirectory, &data_dir);
    let fleet = root.required("fleet", "\"fleet.toml\"", path, problems);
    keep("fleet", Purpose::Fleet, &fleet);

    let door = root.required_section("door", "certificate, key, client_ca and crl", problems);
    let door = door.and_then(|mut door| {
        let listen = door.optional("listen", address, problems);
        let endpoint = door.optional("endpoint", endpoint, problems);
        let certificate = door.required("certificate", "\"pki/server.crt\"", path, problems);
        keep("door.certificate", Purpose::Readable, &certificate);
        let key = door.required("key", "\"pki/server.key\"", path, problems);
        keep("door.key", Purpose::Secret, &key);
        let client_ca = door.required("client_ca", "\"pki/ca.crt\"", path, problems);
        keep("door.client_ca", Purpose::Readable, &client_ca);
        let crl = door.required("crl", "\"pki/crl.pem\"", path, problems);
        keep("door.crl", Purpose::Readable, &crl);
        let limits = limits(door.section("limits", problems), problems);
        door.finish(problems);
        let config = DoorConfig {
            listen: listen.map_or_else(|| default_address(DOOR_LISTEN), |listen| listen.value),
            certificate: certificate?.value,
            key: key?.value,
            client_ca: client_ca?.value,
            crl: Some(crl?.value),
            limits,
        };
        Some((config, endpoint.map(|endpoint| endpoint.value)))
    });

    let mut section = root.section("broker", problems);
    let broker = broker(&mut section, base, problems, &mut keep);
    section.finish(problems);

    let mut http = root.section("http", problems);
    let http_listen = http.optional("listen", loopback, problems);
    http.finish(problems);
    let http = HttpSettings {
        listen: http_listen
            .as_ref()
            .map_or_else(|| default_address(HTTP_LISTEN), |listen| listen.value),
    };
    if let (Some((door, _)), Some(listen)) = (&door, &http_listen)
        && clash(door.listen, http.listen)
    {
        let what = format!("http.listen is {}, where the door listens too", http.listen);
        problems.add(
            listen.place.clone(),
            Fault::new(what, "give the API a port of its own"),
        );
    }

    let mut section = root.section("window", problems);
    let mut window = WindowSettings::default();
    for (key, bounds, setting) in [
        ("size_ms", 100..60_001, &mut window.size_ns),
        ("scalar_size_ms", 100..3_600_001, &mut window.scalar_size_ns),
        ("trail_ms", 0..60_001, &mut window.trail_ns),
        ("idle_ms", 1_000..3_600_001, &mut window.idle_ns),
        ("lateness_ms", 0..3_600_001, &mut window.lateness_ns),
        ("lead_ms", 1_000..3_600_001, &mut window.lead_ns),
        ("behind_ms", 60_000..BEHIND_MS_MAX + 1, &mut window.behind_ns),
    ] {
        if let Some(ms) = number(&mut section, key, bounds, "milliseconds", problems) {
            *setting = ms as i64 * 1_000_000;
        }
    }
    section.finish(problems);
    let streams = streams::read(&mut root, problems);

    let mut section = root.section("pipeline", problems);
    let shed_lag = number(&mut section, "shed_lag_s", 1..86_401, "seconds", problems);
    section.finish(problems);

    let mut section = root.section("journal", problems);
    let segment_mib = number(&mut section, "segment_mib", 4..4_097, "MiB", problems);
    let retention = retention(&mut section, base, problems);
    section.finish(problems);
    let journal = segment_mib.map_or_else(journal::Options::default, |mib| journal::Options {
        segment_bytes: mib << 20,
    });

    root.finish(problems);
    let (door, endpoint) = door?;
    Some(Config {
        file: file.to_path_buf(),
        site: site?.value,
        data_dir: data_dir?.value,
        fleet: fleet?.value,
        door,
        endpoint,
        broker: broker?,
        http,
        window,
        shed_lag: shed_lag.map_or(SHED_LAG, Duration::from_secs),
        streams,
        journal,
        retention: retention?,
    })
}

/// What becomes of sealed segments. `None` only when a problem was added.
fn retention(section: &mut Section<'_, '_>, base: &Path, problems: &mut Problems<'_>) -> Option<Retention> {
    // "none" is a decision, and no name of a directory.
    let archive =
        |value: &DeValue<'_>| document::text(value).map(|text| (text != NO_ARCHIVE).then(|| base.join(text)));
    let archive = section.optional("archive", archive, problems);
    let days = |value: &DeValue<'_>| document::whole(value, 0, KEEP_DAYS_MAX, "days");
    let keep = section.optional("keep_days", days, problems);
    let fault = match (&archive, &keep) {
        (None, Some(keep)) => Some((
            keep.place.clone(),
            Fault::new(
                "journal.keep_days removes segments that nothing else holds",
                "name a directory with archive = that they are copied to first, or decide against one with archive = \"none\"",
            ),
        )),
        (Some(none), None) if none.value.is_none() => Some((
            none.place.clone(),
            Fault::new(
                "journal.archive is \"none\", and nothing says how long segments are kept",
                "add keep_days =, or remove the line: every segment is kept then",
            ),
        )),
        _ => None,
    };
    if let Some((place, fault)) = fault {
        problems.add(place, fault);
        return None;
    }
    Some(Retention {
        archive: archive.and_then(|archive| archive.value),
        keep: keep.map(|days| Duration::from_secs(days.value * 86_400)),
    })
}

/// The broker. `None` only when a problem was added.
fn broker(
    section: &mut Section<'_, '_>,
    base: &Path,
    problems: &mut Problems<'_>,
    keep: &mut impl FnMut(&'static str, Purpose, &Option<Placed<PathBuf>>),
) -> Option<BrokerChoice> {
    let path = |value: &DeValue<'_>| document::text(value).map(|text| base.join(text));
    let is_external = section.optional("kind", broker_kind, problems);
    if !is_external.is_some_and(|kind| kind.value) {
        return Some(BrokerChoice::Embedded);
    }
    let address = section.required("address", "\"broker.plant:8883\"", endpoint, problems);
    let server_name = section.optional("server_name", server_name, problems);
    let ca = section.required("ca", "\"pki/ca.crt\"", path, problems);
    keep("broker.ca", Purpose::Readable, &ca);
    let certificate = section.required("certificate", "\"pki/collector.crt\"", path, problems);
    keep("broker.certificate", Purpose::Readable, &certificate);
    let key = section.required("key", "\"pki/collector.key\"", path, problems);
    keep("broker.key", Purpose::Secret, &key);
    let address = address?;
    // `endpoint` has made sure of both parts.
    let (host, port) = address.value.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let server_name = match server_name {
        Some(name) => name.value,
        None => match ServerName::try_from(host.clone()) {
            Ok(name) => name,
            Err(_) => {
                let fault = Fault::new(
                    format!("broker.address names {host:?}, which no certificate can name"),
                    "add server_name = with the name in the broker's certificate",
                );
                problems.add(address.place.clone(), fault);
                return None;
            }
        },
    };
    Some(BrokerChoice::External(MqttConfig {
        port: port.parse().ok()?,
        host,
        server_name,
        files: Files {
            ca: ca?.value,
            certificate: certificate?.value,
            key: key?.value,
        },
    }))
}

/// Whether the broker is the plant's own.
fn broker_kind(value: &DeValue<'_>) -> Result<bool, Fault> {
    match document::text(value)? {
        "embedded" => Ok(false),
        "external" => Ok(true),
        other => Err(Fault::new(
            format!("is {other:?}, which is no kind of broker"),
            "write \"embedded\" (the default) or \"external\"",
        )),
    }
}

fn server_name(value: &DeValue<'_>) -> Result<ServerName<'static>, Fault> {
    let text = document::text(value)?;
    ServerName::try_from(text.to_owned()).map_err(|_| {
        Fault::new(
            format!("is {text:?}, which is no name of a server"),
            "write the name or the address that stands in the broker's certificate",
        )
    })
}

/// The limits that an operator may have reason to change; the others follow from the protocol.
fn limits(mut section: Section<'_, '_>, problems: &mut Problems<'_>) -> Limits {
    let mut limits = Limits::default();
    let connections = number(
        &mut section,
        "connections_max",
        1..CONNECTIONS_MAX as u64 + 1,
        "connections",
        problems,
    );
    limits.connections_max = connections.map_or(limits.connections_max, |most| most as usize);
    let handshakes = number(&mut section, "handshakes_max", 1..65_537, "handshakes", problems);
    limits.handshakes_max = handshakes.map_or(limits.handshakes_max, |most| most as usize);
    let timeout = milliseconds(&mut section, "handshake_timeout_ms", 100..60_001, problems);
    limits.handshake_timeout = timeout.unwrap_or(limits.handshake_timeout);
    let packets = number(
        &mut section,
        "packets_per_second",
        10..1_000_001,
        "packets a second",
        problems,
    );
    limits.packets = packets.map_or(limits.packets, rate);
    // Below this a single block of the largest body would take more than a quarter of a minute.
    let bytes = number(
        &mut section,
        "bytes_per_second",
        65_536..(1 << 34),
        "bytes a second",
        problems,
    );
    limits.bytes = bytes.map_or(limits.bytes, rate);
    section.finish(problems);
    limits
}

/// Two seconds' worth may come at once, as with the defaults.
fn rate(per_second: u64) -> Rate {
    Rate {
        per_second: per_second as f64,
        burst: 2.0 * per_second as f64,
    }
}

fn name(value: &DeValue<'_>) -> Result<Name, Fault> {
    let text = document::text(value)?;
    Name::new(text).map_err(|_| {
        Fault::new(
            format!("is {text:?}, which is no name"),
            "use 1 to 32 of a-z, 0-9 and -: it stands in topics and certificates",
        )
    })
}

fn address(value: &DeValue<'_>) -> Result<SocketAddr, Fault> {
    let text = document::text(value)?;
    text.parse().map_err(|_| {
        Fault::new(
            format!("is {text:?}, which is no address"),
            "write an IP address and a port, such as \"0.0.0.0:8883\" or \"[::]:8883\"",
        )
    })
}

fn loopback(value: &DeValue<'_>) -> Result<SocketAddr, Fault> {
    let address = address(value)?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err(Fault::new(
        format!("is {address}, which other machines can reach, and the API has neither users nor TLS"),
        "listen at 127.0.0.1 or [::1] and let people in through a tunnel or a proxy that knows them",
    ))
}

/// `host:port`, as a gateway dials it.
fn endpoint(value: &DeValue<'_>) -> Result<String, Fault> {
    let text = document::text(value)?;
    check_endpoint(text).map(|()| text.to_owned()).map_err(|what| {
        Fault::new(
            what,
            "write the host and the port as gateways dial them, such as \"collector.plant:8883\"",
        )
    })
}

/// Whether a text is `host:port` with a port that can be dialled; otherwise what is wrong with it.
pub fn check_endpoint(text: &str) -> Result<(), String> {
    let no = || format!("is {text:?}, which is no host and port");
    let (host, port) = text.rsplit_once(':').ok_or_else(no)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_fits = match bracketed {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.len() <= 253
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        }
    };
    let port_fits = port.parse::<u16>().is_ok_and(|port| port != 0);
    if host_fits && port_fits { Ok(()) } else { Err(no()) }
}

fn number(
    section: &mut Section<'_, '_>,
    key: &'static str,
    bounds: Range<u64>,
    unit: &str,
    problems: &mut Problems<'_>,
) -> Option<u64> {
    let read = |value: &DeValue<'_>| document::whole(value, bounds.start, bounds.end - 1, unit);
    section.optional(key, read, problems).map(|number| number.value)
}

fn milliseconds(
    section: &mut Section<'_, '_>,
    key: &'static str,
    bounds: Range<u64>,
    problems: &mut Problems<'_>,
) -> Option<Duration> {
    number(section, key, bounds, "milliseconds", problems).map(Duration::from_millis)
}

fn default_address(text: &str) -> SocketAddr {
    text.parse().expect("the default addresses of this file parse")
}

/// Whether two listeners cannot both be had. Port 0 is a free port each.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port()
        && a.port() != 0
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn check_fleet(path: &Path) -> Result<Fleet, Vec<Problem>> {
    let text = read_text(path).map_err(|problem| vec![problem])?;
    Fleet::parse(&text, &path.display().to_string())
}

fn check_path(path: &Path, purpose: Purpose) -> Result<(), Fault> {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound && purpose == Purpose::PrivateDirectory =>
        {
            return Ok(());
        }
        Err(error) => {
            return Err(Fault::new(
                format!("is {shown}, which cannot be read: {error}"),
                "correct the path, or make the files with `trunnion-collector init`",
            ));
        }
    };
    let mode = metadata.permissions().mode() & 0o777;
    match purpose {
        Purpose::PrivateDirectory if !metadata.is_dir() => Err(Fault::new(
            format!("is {shown}, which is no directory"),
            "name a directory; it is made when it does not exist",
        )),
        Purpose::PrivateDirectory if mode & 0o077 != 0 => Err(Fault::new(
            format!("is {shown}, which others may open (mode {mode:04o})"),
            format!("chmod 700 {shown}"),
        )),
        Purpose::PrivateDirectory => Ok(()),
        _ if !metadata.is_file() => Err(Fault::new(
            format!("is {shown}, which is no file"),
            "name the file itself",
        )),
        Purpose::Secret if mode & 0o077 != 0 => Err(Fault::new(
            format!("is {shown}, a private key that others may read (mode {mode:04o})"),
            format!("chmod 600 {shown}, and make a new key if others may have read it"),
        )),
        _ => fs::File::open(path).map(drop).map_err(|error| {
            Fault::new(
                format!("is {shown}, which cannot be read: {error}"),
                "let the collector's user read it",
            )
        }),
    }
}

#[cfg(test)]
mod tests;
