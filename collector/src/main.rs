//! `trunnion-collector`: arguments, tracing, signals, exit code.
//!
//! Facts for machines go to standard output, one JSON object a line; everything for people goes to
//! standard error. Exit code 64 means that the configuration or the fleet file is at fault.

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use serde_json::json;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use time::OffsetDateTime;
use tokio::signal::unix::{SignalKind, signal};
use trunnion_collector::command::learned;
use trunnion_collector::command::request::{Place, Request};
use trunnion_collector::config::{self, Config, Problem};
use trunnion_collector::dead_letter::tool::{self, Letters};
use trunnion_collector::dead_letter::{Form, LetterId};
use trunnion_collector::prognosis::fleet_life::{Column, FleetLife};
use trunnion_collector::replay::{self, Mark, progress::Screen};
use trunnion_collector::state::LetterQuery;
use trunnion_collector::{door, init, pki};
use trunnion_common::id::Name;
use trunnion_common::time::EventTime;

/// `EX_USAGE` of sysexits.h: what a supervisor must not answer with a restart.
const BAD_CONFIGURATION: u8 = 64;

/// The embedded broker reports every canary, which is no news.
const DEFAULT_LOG: &str = "info,rumqttd=warn";

/// What a replay finds was told when it happened.
const REPLAY_LOG: &str = "warn,trunnion_collector::pipeline=error";

/// Commits what gateways send, and says which machine is failing and which part of it.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a plant's certificate authority, server certificate, configuration and an example fleet file.
    Init(Init),
    /// Run the collector until SIGTERM or SIGINT; SIGHUP reads the fleet file and the certificates again.
    Run {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Check the configuration, the fleet file and what they name, and say everything that is wrong.
    CheckConfig {
        /// The configuration file.
        config: PathBuf,
    },
    /// Enrol, renew or revoke gateways.
    #[command(subcommand)]
    Gateway(Gateway),
    /// Renew the server's own certificate.
    #[command(subcommand)]
    Server(Server),
    /// Ask something of a node, once, through the collector that runs with this configuration; its API shows
    /// what became of it.
    #[command(subcommand)]
    Command(Order),
    /// See what could not be used, and have it replayed once its cause is mended.
    #[command(subcommand)]
    DeadLetter(DeadLetter),
    /// Decide what is normal for machines, through the collector that runs with this configuration.
    #[command(subcommand)]
    Baseline(Baseline),
    /// Enter that a machine was worked on: what was normal for it is closed and kept visible, and learned anew.
    Maintenance {
        #[command(flatten)]
        place: DecisionPlace,
        /// What was done.
        #[arg(long)]
        note: String,
    },
    /// Learn how machines of a kind come to their end.
    #[command(subcommand)]
    Life(Life),
    /// See to the collector's access to a broker of the plant's own.
    #[command(subcommand)]
    Broker(Broker),
    /// Compute outputs again from the journal, into a directory of their own: as they were, or with other
    /// settings beside the live ones, and switch over to them. The same command goes on where it stopped.
    Replay(Replay),
}

#[derive(Args)]
struct Replay {
    /// The configuration whose settings hold: the collector's own, or another one with other windows.
    #[arg(long)]
    config: PathBuf,
    /// Where the tables go; made if it does not exist.
    #[arg(long)]
    into: PathBuf,
    /// The collector's data directory, where the configuration names another one.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Keep what follows from commits from here on: an instant such as 2026-01-31T12:00:00Z by the journal's
    /// clock, or a position such as 0/17/4096.
    #[arg(long)]
    from: Option<Mark>,
    /// End before this.
    #[arg(long)]
    to: Option<Mark>,
    /// Compute all of history with these settings, even if they are those in force now.
    #[arg(long)]
    restate: bool,
    /// Go on with what the collector commits meanwhile, until SIGINT or SIGTERM.
    #[arg(long, conflicts_with_all = ["to", "switch"])]
    follow: bool,
    /// Put the outputs in the place of the live ones, which stay as state.db.before. The collector must not
    /// run, and is started with this configuration afterwards.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    switch: bool,
    /// Say what was done as one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Baseline {
    /// Agree to what is proposed as normal; it judges from here on.
    Accept {
        #[command(flatten)]
        place: DecisionPlace,
    },
    /// Disagree with what has been learned; it is learned anew.
    Reject {
        #[command(flatten)]
        place: DecisionPlace,
    },
}

#[derive(Subcommand)]
enum Life {
    /// Learn from machines that were run to failure; assets whose `life_model` has that name are told their
    /// remaining life by it, once the collector that runs with this configuration has taken it.
    Learn {
        /// The name, [a-z0-9-]{1,32}.
        name: Name,
        /// The table: a column `machine`, then one for each reading, POINT/CHANNEL:FEATURE; each line the means
        /// over one row, the oldest first, the last one of a machine its end.
        #[arg(long, value_name = "CSV")]
        lives: PathBuf,
        /// How long a row is, seconds.
        #[arg(long, default_value_t = 3600.0)]
        row_s: f64,
        /// A reading that tells how the machine was operated, such as motor/speed:mean, and not how worn it is.
        #[arg(long, value_name = "READING")]
        setting: Vec<Column>,
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
}

/// What a decision is about.
#[derive(Args)]
struct DecisionPlace {
    /// Asset id of the fleet file.
    asset: String,
    /// Only this measurement point of it.
    #[arg(long)]
    point: Option<String>,
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
}

#[derive(Subcommand)]
enum DeadLetter {
    /// List dead letters, newest first, with what became of those that were replayed.
    List {
        #[command(flatten)]
        which: Which,
        /// One JSON object a line instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Show one: where it came from, why it was refused, what it holds as far as it decodes, its bytes.
    Show {
        /// Its id, as `list` shows it.
        id: LetterId,
        /// The payload alone, as it came, on standard output.
        #[arg(long)]
        raw: bool,
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Have letters replayed by the running collector; `list` shows what became of them.
    Replay {
        /// Their ids, as `list` shows them; without any, those that the options choose.
        ids: Vec<LetterId>,
        #[command(flatten)]
        which: Which,
    },
}

/// Dead letters by what is known of them.
#[derive(Args)]
struct Which {
    /// Only those refused for this reason.
    #[arg(long)]
    reason: Option<String>,
    /// Only those of this gateway, as site/gateway.
    #[arg(long)]
    gateway: Option<String>,
    /// Only those refused then or later: RFC 3339, or nanoseconds since 1970.
    #[arg(long)]
    since: Option<String>,
    /// At most this many, the newest.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Order {
    /// Let a node show where it is.
    Identify {
        /// The node's id, sixteen hexadecimal digits.
        node: String,
        /// For how long.
        #[arg(long, default_value_t = 30)]
        seconds: u8,
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Let a node send samples of a channel now, whatever its plan.
    Capture {
        /// The node's id, sixteen hexadecimal digits.
        node: String,
        /// The channel's number on the node.
        #[arg(long, default_value_t = 0)]
        channel: u16,
        /// How many samples.
        #[arg(long)]
        samples: u32,
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Tell a node what the sensor of a channel differs by from its kind: value = told x gain + offset.
    Calibrate {
        /// The node's id, sixteen hexadecimal digits.
        node: String,
        /// The channel's number on the node.
        #[arg(long)]
        channel: u16,
        /// What its values are multiplied with: nominal sensitivity by that of the certificate.
        #[arg(long, default_value_t = 1.0)]
        gain: f64,
        /// What is added then, in the channel's unit; none for a vibration.
        #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
        offset: f64,
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
}

#[derive(Subcommand)]
enum Broker {
    /// Make the collector's next client certificate and key, and the revocation list anew, since a
    /// broker may refuse one that is a year old. The next connection shows the certificate.
    Renew {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
}

#[derive(Subcommand)]
enum Server {
    /// Make the server's next certificate and key, under the same names; a running collector takes them
    /// up by itself within seconds.
    Renew {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
}

#[derive(Args)]
struct Init {
    /// Where to put it all; made if it does not exist.
    #[arg(long)]
    dir: PathBuf,
    /// The site: 1 to 32 of a-z, 0-9 and -.
    #[arg(long)]
    site: Name,
    /// A name or address by which gateways reach the collector; the first one goes into their bundles.
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Where gateways connect.
    #[arg(long, default_value = config::DOOR_LISTEN)]
    listen: SocketAddr,
    /// Where the API listens; loopback only.
    #[arg(long, default_value = config::HTTP_LISTEN)]
    http: SocketAddr,
    /// A broker of the plant's own, such as mosquitto, to which gateways connect instead of the door:
    /// also makes the collector's client certificate, and mosquitto's configuration and access list.
    #[arg(long, value_name = "HOST:PORT")]
    broker: Option<String>,
}

#[derive(Subcommand)]
enum Gateway {
    /// Enrol a gateway: make its key, certificate and address of the collector, as one bundle.
    Add(Enrolment),
    /// Give an enrolled gateway its next certificate.
    Renew(Enrolment),
    /// Revoke a gateway; its live session is cut.
    Revoke {
        /// The gateway's name.
        name: Name,
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
}

#[derive(Args)]
struct Enrolment {
    /// The gateway's name: 1 to 32 of a-z, 0-9 and -.
    name: Name,
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
    /// `host:port` of the collector as the gateway dials it, in the order to try; door.endpoint of the
    /// configuration when left out.
    #[arg(long = "endpoint", value_name = "HOST:PORT")]
    endpoints: Vec<String>,
    /// The bundle's file, readable by its owner alone; standard output when left out.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Why the command failed, by whose turn it is.
enum Failure {
    Configuration(Vec<Problem>),
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let log = match cli.command {
        Verb::Replay(_) => REPLAY_LOG,
        _ => DEFAULT_LOG,
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| log.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let outcome = match cli.command {
        Verb::Init(arguments) => init(&arguments),
        Verb::Run { config } => run(&config),
        Verb::CheckConfig { config } => check_config(&config),
        Verb::Gateway(Gateway::Add(arguments)) => enrol(&arguments, pki::gateway_add),
        Verb::Gateway(Gateway::Renew(arguments)) => enrol(&arguments, pki::gateway_renew),
        Verb::Gateway(Gateway::Revoke { name, config }) => revoke(&name, &config),
        Verb::Server(Server::Renew { config }) => renew_server(&config),
        Verb::Command(asked) => order(asked),
        Verb::DeadLetter(asked) => dead_letter(asked),
        Verb::Baseline(decision) => baseline(decision),
        Verb::Maintenance { place, note } => maintenance(place, note),
        Verb::Life(asked) => life(&asked),
        Verb::Broker(Broker::Renew { config }) => renew_broker_client(&config),
        Verb::Replay(arguments) => replay(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(problems)) => {
            for problem in &problems {
                eprintln!("{problem}");
            }
            let plural = if problems.len() == 1 { "" } else { "s" };
            eprintln!("{} problem{plural} found", problems.len());
            ExitCode::from(BAD_CONFIGURATION)
        }
        Err(Failure::Other(error)) => {
            eprintln!("trunnion-collector: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn init(arguments: &Init) -> Result<(), Failure> {
    if let Some(broker) = &arguments.broker {
        config::check_endpoint(broker).map_err(|what| anyhow::anyhow!("--broker {what}"))?;
    }
    let plant = init::Plant {
        dir: &arguments.dir,
        site: &arguments.site,
        hosts: &arguments.hosts,
        listen: arguments.listen,
        http: arguments.http,
        broker: arguments.broker.as_deref(),
    };
    let config = plant.make(now()).context("the plant was not made")?;
    fact(&json!({"event": "initialised", "site": arguments.site.as_str(), "config": config}))?;
    eprintln!(
        "next: describe the machines in {}",
        arguments.dir.join(init::FLEET_FILE).display()
    );
    eprintln!(
        "      trunnion-collector gateway add NAME --config {} --out NAME.toml",
        config.display()
    );
    if arguments.broker.is_some() {
        let conf = arguments.dir.join(init::MOSQUITTO_CONF_FILE);
        eprintln!("      mosquitto -c {}", conf.display());
    }
    eprintln!("      trunnion-collector run --config {}", config.display());
    Ok(())
}

fn check_config(file: &Path) -> Result<(), Failure> {
    let config = Config::check(file, now()).map_err(Failure::Configuration)?;
    fact(&json!({
        "event": "checked", "config": config.file, "fleet": config.fleet, "site": config.site.as_str()
    }))
}

fn run(file: &Path) -> Result<(), Failure> {
    let config = Config::load(file).map_err(Failure::Configuration)?;
    // Gateways will refuse a certificate that has expired; what stands in the journal is served all the same.
    if let Err(error) = door::check_certificates(&config.door, now()) {
        tracing::error!(%error, "gateways cannot come in: see to the certificates");
    }
    // What it makes is its own, as the data directory is.
    umask(Mode::RWXG | Mode::RWXO);
    raise_descriptors(config.door.limits.connections_max);
    let runtime = tokio::runtime::Runtime::new().context("no asynchronous runtime")?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut hang_up = signal(SignalKind::hangup())?;
        let (reload, reloads) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            while hang_up.recv().await.is_some() {
                // One that waits already will read everything that this one is about.
                let _ = reload.try_send(());
            }
        });
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let ready = |addresses: &trunnion_collector::Addresses| {
            let (door, http) = (
                addresses.door.map(|door| door.to_string()),
                addresses.http.to_string(),
            );
            if fact(&json!({"event": "ready", "door": door, "http": http})).is_err() {
                tracing::warn!("nobody reads the standard output");
            }
        };
        trunnion_collector::run(config, shutdown, reloads, ready).await?;
        Ok(())
    })
}

/// One of the authority's two ways to issue a gateway's certificate.
type Issue = fn(&Path, &Name, &Name, &[String], OffsetDateTime) -> Result<pki::Bundle, pki::PkiError>;

fn enrol(arguments: &Enrolment, issue: Issue) -> Result<(), Failure> {
    let config = Config::read(&arguments.config).map_err(Failure::Configuration)?;
    let endpoints = if arguments.endpoints.is_empty() {
        Vec::from_iter(config.endpoint.clone())
    } else {
        arguments.endpoints.clone()
    };
    if endpoints.is_empty() {
        let message = "no address for the bundle: give --endpoint HOST:PORT, or set door.endpoint";
        return Err(anyhow::anyhow!(message).into());
    }
    for endpoint in &endpoints {
        config::check_endpoint(endpoint).map_err(|what| anyhow::anyhow!("--endpoint {what}"))?;
    }
    let bundle = issue(
        config.authority(),
        &config.site,
        &arguments.name,
        &endpoints,
        now(),
    )?;
    match &arguments.out {
        None => Ok(std::io::stdout().write_all(bundle.to_toml().as_bytes())?),
        Some(out) => {
            bundle.write(out)?;
            let (site, gateway) = (config.site.as_str(), arguments.name.as_str());
            fact(&json!({
                "event": "enrolled", "site": site, "gateway": gateway, "endpoints": endpoints, "bundle": out
            }))
        }
    }
}

fn order(order: Order) -> Result<(), Failure> {
    let (request, file) = match order {
        Order::Identify {
            node,
            seconds,
            config,
        } => (Request::Identify { node, seconds }, config),
        Order::Capture {
            node,
            channel,
            samples,
            config,
        } => (
            Request::Capture {
                node,
                channel,
                samples,
            },
            config,
        ),
        Order::Calibrate {
            node,
            channel,
            gain,
            offset,
            config,
        } => (
            Request::Calibrate {
                node,
                channel,
                // What does not fit the type is at an end of it, and refused like anything else that is no gain.
                gain_ppm: (gain * 1e6).round() as u32,
                offset_milli: thousandths(offset)?,
            },
            config,
        ),
    };
    ask(&request, &file)
}

fn thousandths(offset: f64) -> Result<i32, Failure> {
    let rounded = (offset * 1e3).round();
    if rounded.is_nan() || rounded.abs() > f64::from(i32::MAX) {
        let message = format!("--offset {offset} is no correction: give what a comparison measured");
        return Err(anyhow::anyhow!(message).into());
    }
    Ok(rounded as i32)
}

fn ask(request: &Request, file: &Path) -> Result<(), Failure> {
    let config = Config::read(file).map_err(Failure::Configuration)?;
    let left = request.leave(&config.data_dir)?;
    fact(&json!({"event": "asked", "request": left}))
}

fn baseline(decision: Baseline) -> Result<(), Failure> {
    let of = |place: DecisionPlace| {
        let DecisionPlace { asset, point, config } = place;
        (Place { asset, point }, config)
    };
    match decision {
        Baseline::Accept { place } => {
            let (place, config) = of(place);
            ask(&Request::AcceptBaseline(place), &config)
        }
        Baseline::Reject { place } => {
            let (place, config) = of(place);
            ask(&Request::RejectBaseline(place), &config)
        }
    }
}

fn maintenance(place: DecisionPlace, note: String) -> Result<(), Failure> {
    let DecisionPlace { asset, point, config } = place;
    ask(&Request::Maintenance { asset, point, note }, &config)
}

fn life(asked: &Life) -> Result<(), Failure> {
    let Life::Learn {
        name,
        lives,
        row_s,
        setting,
        config: file,
    } = asked;
    let config = Config::read(file).map_err(Failure::Configuration)?;
    let table = File::open(lives).with_context(|| lives.display().to_string())?;
    let life = FleetLife::learn(table, setting, *row_s).with_context(|| lives.display().to_string())?;
    let kept = learned::keep(&config.data_dir, name, &life).context("what was learned is not kept")?;
    let request = Request::Learn {
        model: name.to_string(),
    };
    let left = request.leave(&config.data_dir)?;
    let columns: Vec<_> = life.columns().iter().map(Column::to_string).collect();
    fact(&json!({
        "event": "learned", "model": name.as_str(), "machines": life.machines(), "columns": columns,
        "kept": kept, "request": left
    }))
}

fn dead_letter(asked: DeadLetter) -> Result<(), Failure> {
    let open = |file: &Path| -> Result<Letters, Failure> {
        let config = Config::read(file).map_err(Failure::Configuration)?;
        Ok(Letters::open(&config.data_dir)?)
    };
    match asked {
        DeadLetter::List { which, json } => {
            let rows = open(&which.config)?.list(&which.query()?)?;
            if !json {
                let head = ("ID", "REFUSED", "REASON", "GATEWAY", "BYTES", "REPLAYED");
                print_letter(head.0, head.1, head.2, head.3, head.4, head.5)?;
            }
            for row in &rows {
                if json {
                    fact(&tool::to_json(row))?;
                    continue;
                }
                let replayed = row.replay.as_ref().map_or("-".to_owned(), |replay| {
                    format!("{} {}", tool::rfc3339(replay.time), replay.outcome)
                });
                print_letter(
                    &row.id.to_string(),
                    &tool::rfc3339(row.time),
                    &row.reason,
                    row.gateway.as_deref().unwrap_or("-"),
                    &row.bytes.to_string(),
                    &replayed,
                )?;
            }
            if rows.len() == which.limit as usize {
                eprintln!("there may be more: raise --limit");
            }
            Ok(())
        }
        DeadLetter::Show { id, raw, config } => {
            let (row, payload) = open(&config)?.show(id)?;
            let mut out = std::io::stdout().lock();
            if raw {
                return Ok(out.write_all(&payload)?);
            }
            writeln!(out, "{}", tool::to_json(&row))?;
            for line in tool::describe(row.form, id.item, &payload) {
                writeln!(out, "{line}")?;
            }
            for line in tool::hexdump(&payload) {
                writeln!(out, "{line}")?;
            }
            Ok(())
        }
        DeadLetter::Replay { ids, which } => {
            let letters = open(&which.config)?;
            if ids.is_empty() && which.reason.is_none() && which.gateway.is_none() && which.since.is_none() {
                let message = "name letters, or choose them by --reason, --gateway or --since";
                return Err(anyhow::anyhow!(message).into());
            }
            let ids = if ids.is_empty() {
                let rows = letters.list(&which.query()?)?;
                let texts = rows.iter().filter(|row| row.form != Form::Text);
                texts.map(|row| row.id).collect()
            } else {
                ids
            };
            if ids.len() > tool::REPLAYED_AT_ONCE {
                let most = tool::REPLAYED_AT_ONCE;
                return Err(anyhow::anyhow!("at most {most} at once: set --limit, or name fewer").into());
            }
            let requests = letters.ask(&ids)?;
            fact(&json!({"event": "asked", "letters": ids.len(), "requests": requests}))
        }
    }
}

impl Which {
    fn query(&self) -> Result<LetterQuery, Failure> {
        let since = self.since.as_deref().map(tool::parse_since).transpose()?;
        Ok(LetterQuery {
            reason: self.reason.clone(),
            gateway: self.gateway.clone(),
            since: since.unwrap_or(EventTime(i64::MIN)),
            limit: self.limit,
        })
    }
}

fn print_letter(
    id: &str,
    time: &str,
    reason: &str,
    gateway: &str,
    bytes: &str,
    replayed: &str,
) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    Ok(writeln!(
        out,
        "{id:<20} {time:<30} {reason:<16} {gateway:<24} {bytes:>8}  {replayed}"
    )?)
}

fn revoke(name: &Name, file: &Path) -> Result<(), Failure> {
    let config = Config::read(file).map_err(Failure::Configuration)?;
    let certificates = pki::gateway_revoke(config.authority(), &config.site, name, now())?;
    fact(&json!({"event": "revoked", "gateway": name.as_str(), "certificates": certificates}))
}

fn renew_server(file: &Path) -> Result<(), Failure> {
    let config = Config::read(file).map_err(Failure::Configuration)?;
    let authority = config.authority();
    for (field, named, made) in [
        ("certificate", &config.door.certificate, pki::SERVER_CERTIFICATE),
        ("key", &config.door.key, pki::SERVER_KEY),
    ] {
        let made = authority.join(made);
        if *named != made {
            let (named, made) = (named.display(), made.display());
            return Err(anyhow::anyhow!(
                "door.{field} is {named}, and the plant's authority makes {made}: name that, or renew yours where it was made"
            )
            .into());
        }
    }
    pki::server_renew(authority, &config.site, now())?;
    fact(&json!({
        "event": "renewed", "certificate": config.door.certificate, "key": config.door.key
    }))
}

fn renew_broker_client(file: &Path) -> Result<(), Failure> {
    let config = Config::read(file).map_err(Failure::Configuration)?;
    let authority = config.authority();
    pki::broker_client(authority, &config.site, now())?;
    let certificate = authority.join(pki::CLIENT_CERTIFICATE);
    fact(&json!({"event": "renewed", "certificate": certificate, "key": authority.join(pki::CLIENT_KEY)}))
}

fn replay(arguments: Replay) -> Result<(), Failure> {
    let config = Config::read(&arguments.config).map_err(Failure::Configuration)?;
    umask(Mode::RWXG | Mode::RWXO);
    let data_dir = arguments.data.unwrap_or_else(|| config.data_dir.clone());
    let request = replay::Request {
        settings: config.settings(),
        archive: config.retention.open_archive(&data_dir.join("journal"))?,
        data_dir,
        into: arguments.into,
        restate: arguments.restate,
        from: arguments.from,
        to: arguments.to,
        follow: arguments.follow,
    };
    // Told to stop, it keeps what it has; told again, it does not.
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let runtime = tokio::runtime::Runtime::new().context("no asynchronous runtime")?;
    let (mut terminate, mut interrupt) = runtime.block_on(async {
        Ok::<_, std::io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    })?;
    runtime.spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if told.swap(true, Ordering::Relaxed) {
                std::process::exit(1);
            }
        }
    });
    let mut goes_on = || !stop.load(Ordering::Relaxed);
    let mut screen = Screen::default();
    let mut tell = |progress| screen.show(progress);
    let outcome = if arguments.switch {
        let now = now().unix_timestamp_nanos();
        let now = EventTime(i64::try_from(now).unwrap_or(i64::MAX));
        replay::replay_and_switch(&request, config.journal, now, &mut goes_on, &mut tell)
    } else {
        replay::replay(&request, &mut goes_on, &mut tell)
    };
    screen.close();
    let report = outcome?;
    if arguments.json {
        return fact(&json!({"event": "replayed", "switched": arguments.switch, "replay": report}));
    }
    let how = if report.restated {
        "with these settings"
    } else {
        "as it was"
    };
    let (position, time, state) = (&report.position, &report.time, report.state.display());
    eprintln!("computed {how}, up to {position} ({time}): {state}");
    if let Some(first) = report.first_segment {
        eprintln!("the journal begins with segment {first}: what depends on those before it is missing");
    }
    if report.entries_damaged > 0 {
        eprintln!("{} journal entries could not be read", report.entries_damaged);
    }
    if arguments.switch {
        let file = arguments.config.display();
        eprintln!("these are the live outputs now; next: trunnion-collector run --config {file}");
    }
    Ok(())
}

/// Descriptors of a connection: the client's, and both ends of its way to the broker.
const DESCRIPTORS_PER_CONNECTION: u64 = 3;

/// Descriptors for everything else: journal, state, API, the asynchronous runtime.
const DESCRIPTORS_BESIDE: u64 = 256;

/// Takes as many descriptors as the system lets it have; says so when that is less than may be needed.
fn raise_descriptors(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let granted = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let wanted = DESCRIPTORS_PER_CONNECTION * connections as u64 + DESCRIPTORS_BESIDE;
    match granted {
        Some(granted) if granted < wanted => tracing::warn!(
            granted,
            wanted,
            "too few file descriptors for door.limits.connections_max: raise the hard limit (LimitNOFILE=)"
        ),
        _ => tracing::debug!(?granted, wanted, "file descriptors"),
    }
}

/// One line on standard output. Not `println`, which panics when nobody listens.
fn fact(fact: &serde_json::Value) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "{fact}")?)
}

#[allow(
    clippy::disallowed_methods,
    reason = "a command's only look at the clock: validity of the certificates it makes"
)]
fn now() -> OffsetDateTime {
    std::time::SystemTime::now().into()
}
