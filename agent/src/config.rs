//! Configuration: the text as written, read into a validated [`Config`].
//!
//! Every problem of a file is reported in one go, each with its place, what is wrong and what to do,
//! so that a person corrects a file once and not once per mistake. Relative paths are relative to the
//! file that names them.

use crate::derive;
use crate::drain::{Drain, Order};
use crate::enrolment::Enrolment;
use crate::relay;
use crate::retention::Limits;
use crate::toml_section::{Section, parse};
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use trunnion_common::level::Level;

/// Everything the agent needs to know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this gateway is and where its collector answers.
    pub enrolment: Enrolment,
    /// Where the spool lives.
    pub state_dir: PathBuf,
    /// The lines to nodes, at least one.
    pub ports: Vec<PortConfig>,
    /// When a block is closed.
    pub block: BlockLimits,
    /// How much disk the spool may take.
    pub retention: Limits,
    /// Which features are computed at intake.
    pub derive: derive::Settings,
    /// What may be written to the spool's disk over its life, as its maker says, bytes.
    pub flash_endurance_bytes: Option<u64>,
    /// How a backlog is drained.
    pub drain: Drain,
    /// What is switched while an advisory of this gateway stands, if anything is.
    pub relay: Option<relay::Settings>,
    /// Where `/metrics`, `/advisories` and `/healthz` answer, if anywhere; always a loopback address.
    pub metrics_listen: Option<SocketAddr>,
    /// Longest time from one poll of a node to the next.
    pub poll_interval: Duration,
    /// Time from one exchange of time stamps with a node to the next.
    pub clock_sync_interval: Duration,
    /// Time from one status message to the collector to the next.
    pub heartbeat_interval: Duration,
}

/// A line to nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortConfig {
    /// The tty's device file.
    pub path: PathBuf,
    /// Its speed in baud; a pseudo-terminal ignores it.
    pub baud: u32,
    /// Who is on it.
    pub wiring: Wiring,
}

/// Who is on a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wiring {
    /// One node, full duplex: a UART, a USB cable.
    #[default]
    Own,
    /// Several nodes, half duplex: RS-485 on two wires.
    Shared,
}

/// When a block of frames is closed: whichever comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockLimits {
    /// Most bytes of its body.
    pub bytes: usize,
    /// Longest time that its first frame waits in memory, where a power cut would still cost it.
    pub age: Duration,
}

/// Speed of a line: the fastest that common USB adapters and microcontrollers both divide to exactly
/// enough.
pub const BAUD: u32 = 921_600;

/// Body of a block: large enough that per-message costs of broker, journal and database vanish, small
/// enough that one lost block is a fraction of a second.
pub const BLOCK_BYTES: usize = 64 * 1_024;

/// Age of a block: together with the flush it bounds how much a node must be able to hold back.
pub const BLOCK_AGE: Duration = Duration::from_millis(200);

/// Between polls that have no news: each is new credit, and costs 50 bytes of a full-duplex line. One that
/// acknowledges something goes at once; a line in use has one of those in each block's age, and no others.
pub const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Between time exchanges: crystals of plus and minus 50 ppm drift half a millisecond apart in it.
pub const CLOCK_SYNC_INTERVAL: Duration = Duration::from_secs(5);

/// Between status messages: a collector calls a gateway silent after a few of them.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);

/// How much the spool may take: half of the disk that is free or its own, of which waveforms leave a
/// little alone for what must never be evicted.
pub const RETENTION: Limits = Limits {
    quota_bytes: u64::MAX,
    disk_percent: 50,
    essential_bytes: 64 << 20,
};

/// Features at intake: of a second, as the collector's own windows are, at 70 bytes a channel.
pub const DERIVE: derive::Settings = derive::Settings {
    enabled: true,
    window: Duration::from_secs(1),
};

/// Shorter ones would weigh as much as the waveform; longer ones are no trend.
const DERIVE_WINDOW_MS_RANGE: RangeInclusive<i64> = 100..=600_000;
/// How a backlog is drained: a minute covers a collector's restart, and what is older alarms nobody; a
/// fifth of the connection drains a day's backlog in less than five days at the worst, and in minutes
/// where the connection has room.
pub const DRAIN: Drain = Drain {
    live_age: Duration::from_secs(60),
    live_share_percent: 80,
    order: Order::OldestFirst,
    backfill_bytes_s: None,
};

/// Below it a database would be mostly overhead; 1 PiB is as good as no limit.
const SPOOL_QUOTA_MIB_RANGE: RangeInclusive<i64> = 16..=1 << 30;
/// Flash and file systems suffer when they are filled to the brim.
const SPOOL_DISK_PERCENT_RANGE: RangeInclusive<i64> = 1..=90;
const SPOOL_ESSENTIAL_MIB_RANGE: RangeInclusive<i64> = 1..=1 << 20;
/// From a memory card to a server's drive; the data sheet says it.
const ENDURANCE_TBW_RANGE: RangeInclusive<i64> = 1..=100_000;
/// Below a second the time from sensor to collector alone would make history of everything.
const LIVE_AGE_S_RANGE: RangeInclusive<i64> = 1..=86_400;
/// Neither lane may starve the other.
const LIVE_SHARE_PERCENT_RANGE: RangeInclusive<i64> = 1..=99;
const BACKFILL_KIB_S_RANGE: RangeInclusive<i64> = 1..=1 << 30;
const BAUD_RANGE: RangeInclusive<i64> = 1_200..=12_000_000;
/// A block holds at least a few of the largest frames, and leaves room in what a collector accepts.
const BLOCK_BYTES_RANGE: RangeInclusive<i64> = 4_096..=262_144;
const BLOCK_AGE_MS_RANGE: RangeInclusive<i64> = 10..=10_000;
/// A node forgets its master after 10 s.
const POLL_MS_RANGE: RangeInclusive<i64> = 10..=5_000;
const CLOCK_SYNC_MS_RANGE: RangeInclusive<i64> = 100..=600_000;
const HEARTBEAT_MS_RANGE: RangeInclusive<i64> = 1_000..=600_000;

impl Config {
    /// Reads and checks the file at `path` and the enrolment bundle that it names.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Problem::of_file(
                path,
                format!("cannot be read: {error}"),
                "name an existing, readable file",
            )
        })?;
        let (written, mut problems) = Written::read(path, &text);
        let enrolment = match &written.enrolment {
            Some(bundle) => Enrolment::load(bundle).map_err(|more| problems.extend(more)).ok(),
            None => None,
        };
        match (problems.is_empty(), enrolment, written.state_dir) {
            (true, Some(enrolment), Some(state_dir)) => Ok(Self {
                enrolment,
                state_dir,
                ports: written.ports,
                block: written.block,
                retention: written.retention,
                derive: written.derive,
                flash_endurance_bytes: written.flash_endurance_bytes,
                drain: written.drain,
                relay: written.relay,
                metrics_listen: written.metrics_listen,
                poll_interval: written.poll_interval,
                clock_sync_interval: written.clock_sync_interval,
                heartbeat_interval: written.heartbeat_interval,
            }),
            _ => Err(problems),
        }
    }

    /// Everything at its default: what a command line without a configuration file means.
    pub fn with_defaults(enrolment: Enrolment, state_dir: PathBuf, ports: Vec<PathBuf>) -> Self {
        Self {
            enrolment,
            state_dir,
            ports: ports
                .into_iter()
                .map(|path| PortConfig {
                    path,
                    baud: BAUD,
                    wiring: Wiring::Own,
                })
                .collect(),
            block: BlockLimits {
                bytes: BLOCK_BYTES,
                age: BLOCK_AGE,
            },
            retention: RETENTION,
            derive: DERIVE,
            flash_endurance_bytes: None,
            drain: DRAIN,
            relay: None,
            metrics_listen: None,
            poll_interval: POLL_INTERVAL,
            clock_sync_interval: CLOCK_SYNC_INTERVAL,
            heartbeat_interval: HEARTBEAT_INTERVAL,
        }
    }
}

/// The file's own statements; what is missing and has a default has it already.
struct Written {
    enrolment: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    ports: Vec<PortConfig>,
    block: BlockLimits,
    retention: Limits,
    derive: derive::Settings,
    flash_endurance_bytes: Option<u64>,
    drain: Drain,
    relay: Option<relay::Settings>,
    metrics_listen: Option<SocketAddr>,
    poll_interval: Duration,
    clock_sync_interval: Duration,
    heartbeat_interval: Duration,
}

impl Written {
    fn read(path: &Path, text: &str) -> (Self, Problems) {
        let mut problems = Problems::default();
        let table = parse(path, text, &mut problems);
        let mut section = Section::new(path, text, table.get_ref(), table.span());
        let base = path.parent().unwrap_or(Path::new(""));
        let millis = |ms: Option<i64>, default: Duration| {
            ms.map_or(default, |ms| Duration::from_millis(ms.unsigned_abs()))
        };
        let written = Self {
            enrolment: section
                .required_string(
                    "enrolment",
                    "name the bundle that `trunnion-collector gateway add` wrote",
                    &mut problems,
                )
                .map(|(bundle, _)| base.join(bundle)),
            state_dir: section
                .required_string(
                    "state_dir",
                    "name a directory that the agent may write",
                    &mut problems,
                )
                .map(|(directory, _)| base.join(directory)),
            block: BlockLimits {
                bytes: section
                    .integer("block_bytes", BLOCK_BYTES_RANGE, &mut problems)
                    .and_then(|bytes| usize::try_from(bytes).ok())
                    .unwrap_or(BLOCK_BYTES),
                age: millis(
                    section.integer("block_age_ms", BLOCK_AGE_MS_RANGE, &mut problems),
                    BLOCK_AGE,
                ),
            },
            retention: retention(&mut section, &mut problems),
            derive: derive(&mut section, &mut problems),
            flash_endurance_bytes: flash(&mut section, &mut problems),
            drain: drain(&mut section, &mut problems),
            relay: relay(&mut section, base, &mut problems),
            metrics_listen: loopback(&mut section, &mut problems),
            poll_interval: millis(
                section.integer("poll_interval_ms", POLL_MS_RANGE, &mut problems),
                POLL_INTERVAL,
            ),
            clock_sync_interval: millis(
                section.integer("clock_sync_interval_ms", CLOCK_SYNC_MS_RANGE, &mut problems),
                CLOCK_SYNC_INTERVAL,
            ),
            heartbeat_interval: millis(
                section.integer("heartbeat_interval_ms", HEARTBEAT_MS_RANGE, &mut problems),
                HEARTBEAT_INTERVAL,
            ),
            ports: ports(&mut section, base, &mut problems),
        };
        section.refuse_the_rest(&mut problems);
        (written, problems)
    }
}

fn retention(section: &mut Section<'_>, problems: &mut Problems) -> Limits {
    let mut number = |key, range, default: u64| {
        let written = section.integer(key, range, problems);
        written.map_or(default, i64::unsigned_abs)
    };
    const MIB: u64 = 1 << 20;
    Limits {
        quota_bytes: number("spool_quota_mib", SPOOL_QUOTA_MIB_RANGE, u64::MAX / MIB).saturating_mul(MIB),
        disk_percent: number(
            "spool_disk_percent",
            SPOOL_DISK_PERCENT_RANGE,
            RETENTION.disk_percent,
        ),
        essential_bytes: number(
            "spool_essential_mib",
            SPOOL_ESSENTIAL_MIB_RANGE,
            RETENTION.essential_bytes / MIB,
        ) * MIB,
    }
}

/// The table `[derive]`.
fn derive(section: &mut Section<'_>, problems: &mut Problems) -> derive::Settings {
    let Some(mut section) = section.table("derive", problems) else {
        return DERIVE;
    };
    let written = section.integer("window_ms", DERIVE_WINDOW_MS_RANGE, problems);
    let settings = derive::Settings {
        enabled: section.boolean("enabled", problems).unwrap_or(DERIVE.enabled),
        window: written.map_or(DERIVE.window, |ms| Duration::from_millis(ms.unsigned_abs())),
    };
    section.refuse_the_rest(problems);
    settings
}

fn flash(section: &mut Section<'_>, problems: &mut Problems) -> Option<u64> {
    let mut flash = section.table("flash", problems)?;
    let terabytes = flash.integer("endurance_tbw", ENDURANCE_TBW_RANGE, problems);
    flash.refuse_the_rest(problems);
    Some(terabytes?.unsigned_abs() * 1_000_000_000_000)
}

fn drain(section: &mut Section<'_>, problems: &mut Problems) -> Drain {
    let Some(mut section) = section.table("drain", problems) else {
        return DRAIN;
    };
    let mut number = |key, range| section.integer(key, range, problems).map(i64::unsigned_abs);
    let live_age = number("live_age_s", LIVE_AGE_S_RANGE);
    let live_share = number("live_share_percent", LIVE_SHARE_PERCENT_RANGE);
    let backfill = number("backfill_kib_s", BACKFILL_KIB_S_RANGE);
    let drain = Drain {
        live_age: live_age.map_or(DRAIN.live_age, Duration::from_secs),
        live_share_percent: live_share
            .and_then(|percent| u8::try_from(percent).ok())
            .unwrap_or(DRAIN.live_share_percent),
        order: order(&mut section, problems),
        backfill_bytes_s: backfill.map(|kib| kib * 1_024),
    };
    section.refuse_the_rest(problems);
    drain
}

/// The table `[relay]`.
fn relay(section: &mut Section<'_>, base: &Path, problems: &mut Problems) -> Option<relay::Settings> {
    let mut section = section.table("relay", problems)?;
    let file = section.string("file", problems).map(|(file, _)| base.join(file));
    let command = section.strings("command", problems).into_iter();
    let command: Vec<String> = command.map(|(word, _)| word.to_owned()).collect();
    let level = level(&mut section, problems);
    if file.is_none() && command.is_empty() {
        problems.push(section.problem(
            section.span(),
            "the relay has neither a `file` nor a `command`: there is nothing to switch".to_owned(),
            "name the file to be written, or the command to be run",
        ));
    }
    section.refuse_the_rest(problems);
    let settings = relay::Settings { file, command, level };
    Some(settings)
}

/// Bad enough to act on; what is merely to be looked into stops no machine.
const RELAY_LEVEL: Level = Level::Alarm;

fn level(section: &mut Section<'_>, problems: &mut Problems) -> Level {
    const LEVELS: [Level; 3] = [Level::Alert, Level::Alarm, Level::Trip];
    let Some((text, span)) = section.string("level", problems) else {
        return RELAY_LEVEL;
    };
    let known = LEVELS.into_iter().find(|level| level.label() == text);
    known.unwrap_or_else(|| {
        problems.push(section.problem(
            span,
            format!("level = \"{text}\" is no level"),
            "write \"alert\", \"alarm\" or \"trip\"",
        ));
        RELAY_LEVEL
    })
}

fn order(section: &mut Section<'_>, problems: &mut Problems) -> Order {
    let Some((text, span)) = section.string("order", problems) else {
        return DRAIN.order;
    };
    let known = Order::ALL.into_iter().find(|order| order.label() == text);
    known.unwrap_or_else(|| {
        problems.push(section.problem(
            span,
            format!("order = \"{text}\" is no order"),
            format!("write one of {}", Order::ALL.map(|order| format!("\"{}\"", order.label())).join(", ")),
        ));
        DRAIN.order
    })
}

fn loopback(section: &mut Section<'_>, problems: &mut Problems) -> Option<SocketAddr> {
    let (text, span) = section.string("metrics_listen", problems)?;
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Some(address),
        Ok(address) => {
            problems.push(section.problem(
                span,
                format!("metrics_listen = \"{address}\" is reachable from the network, without password or encryption"),
                "use a loopback address such as \"127.0.0.1:9464\", and a proxy that authenticates if it must be seen from outside",
            ));
            None
        }
        Err(_) => {
            problems.push(section.problem(
                span,
                format!("metrics_listen = \"{text}\" is no address"),
                "write ADDRESS:PORT, for example \"127.0.0.1:9464\"",
            ));
            None
        }
    }
}

fn ports(section: &mut Section<'_>, base: &Path, problems: &mut Problems) -> Vec<PortConfig> {
    let mut ports: Vec<PortConfig> = Vec::new();
    for mut port in section.tables("port", problems) {
        let path = port.required_string("path", "name the tty, for example \"/dev/ttyUSB0\"", problems);
        let baud = port
            .integer("baud", BAUD_RANGE, problems)
            .and_then(|baud| u32::try_from(baud).ok())
            .unwrap_or(BAUD);
        let wiring = wiring(&mut port, problems);
        if let Some((path, span)) = path {
            let path = base.join(path);
            if ports.iter().any(|other| other.path == path) {
                problems.push(port.problem(
                    span,
                    format!("the port {} is listed twice", path.display()),
                    "list each line once",
                ));
            }
            ports.push(PortConfig { path, baud, wiring });
        }
        port.refuse_the_rest(problems);
    }
    if ports.is_empty() && !section.has("port") {
        problems.push(section.problem(
            section.span(),
            "no [[port]] is given: there is nothing to read".to_owned(),
            "add a [[port]] with its path",
        ));
    }
    ports
}

fn wiring(port: &mut Section<'_>, problems: &mut Problems) -> Wiring {
    match port.string("kind", problems) {
        None | Some(("uart", _)) => Wiring::Own,
        Some(("rs485", _)) => Wiring::Shared,
        Some((text, span)) => {
            problems.push(port.problem(
                span,
                format!("kind = \"{text}\" is no kind of line"),
                "write \"uart\" for one node on a line of its own, or \"rs485\" for several on two wires",
            ));
            Wiring::Own
        }
    }
}

/// One thing wrong with a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Which file.
    pub file: PathBuf,
    /// Line and column, from 1, where there is such a place.
    pub place: Option<(usize, usize)>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl Problem {
    /// A problem of the file as a whole.
    pub fn of_file(file: &Path, what: String, fix: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            place: None,
            what,
            fix: fix.into(),
        }
    }
}

/// `file:line:column: what; fix`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}; {}", self.what, self.fix)
    }
}

/// All that is wrong, in the order of the text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One more.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Those of another file.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// One line each.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let (_, problems) = Written::read(Path::new("agent.toml"), text);
        problems.iter().map(ToString::to_string).collect()
    }

    const GOOD: &str =
        "enrolment = \"gateway.toml\"\nstate_dir = \"/var/lib/a\"\n[[port]]\npath = \"/dev/ttyUSB0\"\n";

    #[test]
    fn what_is_not_said_has_its_default() {
        let (written, problems) = Written::read(Path::new("/etc/trunnion/agent.toml"), GOOD);
        assert!(problems.is_empty(), "{problems}");
        assert_eq!(
            written.enrolment.unwrap(),
            Path::new("/etc/trunnion/gateway.toml")
        );
        assert_eq!(written.state_dir.unwrap(), Path::new("/var/lib/a"));
        assert_eq!(
            written.ports,
            [PortConfig {
                path: "/dev/ttyUSB0".into(),
                baud: BAUD,
                wiring: Wiring::Own,
            }]
        );
        assert_eq!(written.block.age, BLOCK_AGE);
        assert_eq!(written.retention.disk_percent, RETENTION.disk_percent);
        assert_eq!(written.drain, DRAIN);
        assert_eq!(written.metrics_listen, None);
    }

    #[test]
    fn every_problem_is_reported_with_its_place_and_its_fix() {
        let found = problems(
            "enrolment = 3\nstate_dri = \"/x\"\nblock_age_ms = 0\nmetrics_listen = \"0.0.0.0:9\"\n\
             [[port]]\npath = \"/dev/a\"\nspeed = 9600\n[[port]]\nbaud = \"fast\"\n",
        );
        for expected in [
            "agent.toml:1:13: enrolment is an integer, not a string",
            "agent.toml:2:1: `state_dri` means nothing here",
            "agent.toml:3:16: block_age_ms = 0 is outside 10 to 10000; write a number from 10 to 10000",
            "agent.toml:4:18: metrics_listen = \"0.0.0.0:9\" is reachable from the network",
            "agent.toml:7:1: `speed` means nothing here",
            "agent.toml:9:8: baud is a string, not an integer",
            "agent.toml:8:1: `path` is missing",
            "`state_dir` is missing",
        ] {
            assert!(
                found.iter().any(|problem| problem.contains(expected)),
                "{expected}\nin {found:#?}"
            );
        }
        assert_eq!(found.len(), 8, "{found:#?}");
    }

    #[test]
    fn a_line_is_of_one_node_or_is_shared() {
        let file = |kind: &str| format!("{GOOD}kind = \"{kind}\"\n");
        for (kind, wiring) in [("uart", Wiring::Own), ("rs485", Wiring::Shared)] {
            let (written, problems) = Written::read(Path::new("agent.toml"), &file(kind));
            assert!(problems.is_empty(), "{problems}");
            assert_eq!(written.ports[0].wiring, wiring);
        }
        let found = problems(&file("can"));
        assert!(
            found[0].contains("kind = \"can\" is no kind of line"),
            "{found:?}"
        );
    }

    #[test]
    fn a_file_without_ports_and_one_that_is_no_toml_are_refused() {
        assert!(problems("enrolment = \"a\"\nstate_dir = \"b\"\n")[0].contains("no [[port]]"));
        let found = problems("enrolment = \nstate_dir = \"b\"\n[[port]]\npath = \"/a\"\n");
        assert!(
            found.iter().any(|problem| problem.starts_with("agent.toml:1:")),
            "{found:#?}"
        );
        assert!(
            problems(&format!("enrolment = \"b\"\n{GOOD}"))
                .iter()
                .any(|problem| problem.contains("duplicate"))
        );
    }

    #[test]
    fn the_spool_is_limited_in_bytes_and_in_share_of_the_disk() {
        let limited =
            format!("spool_quota_mib = 100\nspool_disk_percent = 20\nspool_essential_mib = 8\n{GOOD}");
        let (written, problems) = Written::read(Path::new("agent.toml"), &limited);
        assert!(problems.is_empty(), "{problems}");
        let expected = Limits {
            quota_bytes: 100 << 20,
            disk_percent: 20,
            essential_bytes: 8 << 20,
        };
        assert_eq!(written.retention, expected);
        let (written, _) = Written::read(Path::new("agent.toml"), GOOD);
        assert_eq!(written.retention.essential_bytes, RETENTION.essential_bytes);
        assert!(written.retention.quota_bytes > 1 << 60);
    }

    #[test]
    fn features_at_intake_are_on_unless_they_are_switched_off() {
        let read = |text: &str| Written::read(Path::new("agent.toml"), text);
        assert_eq!(read(GOOD).0.derive, DERIVE);
        let (written, problems) = read(&format!("{GOOD}[derive]\nenabled = false\nwindow_ms = 500\n"));
        assert!(problems.is_empty(), "{problems}");
        let expected = derive::Settings {
            enabled: false,
            window: Duration::from_millis(500),
        };
        assert_eq!(written.derive, expected);
        let found = problems_of_derive("window_ms = 5\nenabled = \"yes\"\nevery = 1\n");
        for expected in [
            "window_ms = 5 is outside 100 to 600000",
            "enabled is a string, not a boolean",
            "`every` means nothing here",
        ] {
            assert!(
                found.iter().any(|problem| problem.contains(expected)),
                "{expected}\nin {found:#?}"
            );
        }
    }

    fn problems_of_derive(text: &str) -> Vec<String> {
        problems(&format!("{GOOD}[derive]\n{text}"))
    }

    #[test]
    fn the_disks_endurance_is_given_in_terabytes_written() {
        let endurance = |text: &str| {
            let (written, problems) = Written::read(Path::new("agent.toml"), &format!("{GOOD}{text}"));
            (written.flash_endurance_bytes, problems.iter().count())
        };
        assert_eq!(endurance(""), (None, 0));
        assert_eq!(
            endurance("[flash]\nendurance_tbw = 40\n"),
            (Some(40_000_000_000_000), 0)
        );
        assert_eq!(endurance("[flash]\nendurance_tbw = 0\n"), (None, 1));
        assert_eq!(endurance("[flash]\nendurance = 40\n"), (None, 1));
    }

    #[test]
    fn the_drain_of_a_backlog_is_set_in_a_section_of_its_own() {
        let written = |text: &str| {
            let text = format!("{GOOD}[drain]\n{text}");
            let (written, problems) = Written::read(Path::new("agent.toml"), &text);
            (
                written.drain,
                problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            )
        };
        assert_eq!(written(""), (DRAIN, Vec::new()));
        let all = "live_age_s = 5\nlive_share_percent = 50\norder = \"newest_first\"\nbackfill_kib_s = 64\n";
        let expected = Drain {
            live_age: Duration::from_secs(5),
            live_share_percent: 50,
            order: Order::NewestFirst,
            backfill_bytes_s: Some(65_536),
        };
        assert_eq!(written(all), (expected, Vec::new()));
        for (text, expected) in [
            (
                "live_age_s = 0\n",
                "agent.toml:6:14: live_age_s = 0 is outside 1 to 86400",
            ),
            (
                "live_share_percent = 100\n",
                "live_share_percent = 100 is outside 1 to 99",
            ),
            ("backfill_kib_s = 0\n", "backfill_kib_s = 0 is outside 1 to "),
            (
                "order = \"random\"\n",
                "agent.toml:6:9: order = \"random\" is no order; write one of \"oldest_first\", \"newest_first\"",
            ),
            ("live_age = 3\n", "agent.toml:6:1: `live_age` means nothing here"),
        ] {
            let (drain, found) = written(text);
            assert_eq!(drain, DRAIN);
            assert_eq!(found.len(), 1, "{found:#?}");
            assert!(found[0].contains(expected), "{expected}\nin {found:#?}");
        }
        assert!(problems(&format!("drain = 3\n{GOOD}"))[0].contains("drain is an integer, not a table"));
    }

    #[test]
    fn a_port_is_listed_once() {
        let twice = format!("{GOOD}[[port]]\npath = \"/dev/ttyUSB0\"\n");
        assert!(problems(&twice)[0].contains("agent.toml:6:8: the port /dev/ttyUSB0 is listed twice"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::load(Path::new("/nonexistent/agent.toml")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("/nonexistent/agent.toml: cannot be read")
        );
    }
}
