//! How fast, how small, how soon: the way from the gateway's spool into the collector's journal.
//!
//! The processes are the real ones. Backlogs are written by the spool's own code; where a gateway's
//! sending alone is of interest, it is the agent's connection under the contract's rules ([`super::sender`]).

use super::backlog::{self, Backlog};
use super::edge::EDGE;
use super::figure::Figure;
use super::kills;
use super::latency::{percentile, to_journal_ms};
use super::mosquitto;
use super::scenario::{self, Progress, Scenario};
use super::sender::{Sender, stay};
use super::usage::{Usage, disk_bytes};
use crate::plant::{GATEWAY, Machine, NodeSpec, Plant, SITE, Source, fleet_text};
use crate::process::await_some;
use crate::sim_machine::{MachineSpec, SimMachine};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use trunnion_agent::enrolment::Enrolment;
use trunnion_collector::pki;
use trunnion_common::block::{Envelope, Lane};
use trunnion_common::id::{Epoch, Name};
use trunnion_common::time::EventTime;

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    /// The backlog that is drained, MiB: 1,024 for the figures that name it.
    pub backlog_mib: u64,
    /// What one sender hands to the collector, MiB.
    pub sent_mib: u64,
    /// How long the undisturbed agent is watched.
    pub watched: Duration,
    /// Gateways that come back at once.
    pub gateways: u64,
    /// How often processes are killed under load: 100 for the figures' own goal.
    pub kills: u32,
}

impl Default for Scale {
    fn default() -> Self {
        Self {
            backlog_mib: 1_024,
            sent_mib: 256,
            watched: Duration::from_secs(30),
            gateways: 1_000,
            kills: 20,
        }
    }
}

/// How long any scenario may take before it counts as stuck.
const LIMIT: Duration = Duration::from_secs(300);

/// Watches the agent this long after the first samples before it is measured.
const WARM_UP: Duration = Duration::from_secs(5);

const MIB: f64 = 1_048_576.0;

/// Everything that can be measured here, in the order in which it is.
pub const SCENARIOS: [Scenario<Scale>; 8] = [
    Scenario {
        name: "undisturbed",
        figures: &UNDISTURBED,
        measure: undisturbed,
    },
    Scenario {
        name: "drain",
        figures: &DRAIN,
        measure: drain,
    },
    Scenario {
        name: "live",
        figures: &LIVE,
        measure: live,
    },
    Scenario {
        name: "collector",
        figures: &COLLECTOR,
        measure: collector,
    },
    Scenario {
        name: "reconnect",
        figures: &RECONNECT,
        measure: reconnect,
    },
    Scenario {
        name: "kills",
        figures: &kills::FIGURES,
        measure: kill,
    },
    Scenario {
        name: "peer",
        figures: &PEER,
        measure: peer,
    },
    EDGE,
];

/// Measures these scenarios in folders below `dir`. `progress` hears a line now and then.
pub fn measure(
    dir: &Path,
    scale: &Scale,
    scenarios: &[&Scenario<Scale>],
    progress: impl FnMut(&str),
) -> Vec<Figure> {
    compare(scenario::measure(dir, scale, scenarios, progress))
}

/// Puts the peer's figure beside ours of the same run.
fn compare(mut figures: Vec<Figure>) -> Vec<Figure> {
    let peer = figures.iter().find(|figure| figure.name == PEER[0].name);
    let (peer, value) = (PEER[0].name.clone(), peer.and_then(|figure| figure.value));
    for figure in figures.iter_mut().filter(|figure| figure.name == DRAIN[0].name) {
        figure.peer = Some(peer.clone());
        figure.peer_value = value;
    }
    figures
}

const UNDISTURBED: [Figure; 3] = [
    Figure::at_most("agent_rss_mib_idle", 32.0, "MiB"),
    Figure::at_most("agent_cpu_share_100kb_s", 0.01, "core"),
    Figure::at_most("live_latency_ms_p99", 1_000.0, "ms"),
];

/// Sample rate of each of the live nodes, Hz: 25.6 kB/s.
const LIVE_RATE_HZ: f64 = 12_800.0;

/// How many of them there are, each on a line of its own.
const LIVE_NODES: u64 = 4;

/// Live nodes, 100 kB/s together; their recording lies in `dir`.
fn live_nodes(dir: &Path) -> Result<Vec<NodeSpec>> {
    std::fs::create_dir_all(dir)?;
    let mut samples = vec![0.0; (10.0 * LIVE_RATE_HZ) as usize];
    SimMachine::new(MachineSpec::motor(LIVE_RATE_HZ, 1)).fill(&mut samples);
    let file = dir.join("samples.f32");
    let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    std::fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
    let nodes = (1..=LIVE_NODES).map(|number| NodeSpec {
        id: format!("{number:016x}"),
        source: Source::Recording(file.clone()),
        rate_hz: LIVE_RATE_HZ,
        range_g: backlog::RANGE_G,
        start_at_ms: 0,
    });
    Ok(nodes.collect())
}

/// Four nodes of 25.6 kB/s each, on four lines.
fn undisturbed(dir: &Path, scale: &Scale, _: Progress<'_>) -> Result<Vec<Figure>> {
    let nodes = live_nodes(dir)?;
    let machines = nodes.iter().map(|node| machine(&node.id, node.rate_hz));
    let mut plant = Plant::found(dir, &fleet_text(&Vec::from_iter(machines)))?;
    plant.start_collector()?;
    for node in &nodes {
        plant.start_endless_node(node)?;
    }
    plant.start_agent(&nodes)?;
    let stored = || plant.metric("trunnion_collector_samples_stored_total").ok();
    await_some(LIMIT, || stored().filter(|stored| *stored > 0.0)).context("no sample came through")?;
    watch_for(WARM_UP);
    let agent = plant.agent.as_ref().context("it was started above")?.id();
    let (began, before) = (now(), Usage::of(agent)?);
    watch_for(scale.watched);
    let after = Usage::of(agent)?;
    let share = (after.cpu_s - before.cpu_s) / began.elapsed().as_secs_f64();
    let latency = plant.get("/api/v1/latency")?["p99_ms"]
        .as_f64()
        .context("no window was published")?;
    plant.stop()?;
    let [rss, cpu, p99] = UNDISTURBED;
    Ok(vec![
        rss.measured(after.rss_mib),
        cpu.measured(share),
        p99.measured(latency),
    ])
}

const DRAIN: [Figure; 6] = [
    Figure::at_least("drain_mb_s_64k", 100.0, "MB/s"),
    Figure::at_most("agent_rss_mib_backlog_1gib", 64.0, "MiB"),
    Figure::at_most("spool_disk_ratio", 2.0, ""),
    Figure::at_most("spool_disk_mib_drained", 128.0, "MiB"),
    Figure::at_most("spool_written_ratio", 4.5, ""),
    Figure::at_most("spool_reopen_s", 2.0, "s"),
];

/// A spool filled by its own code, drained by the real agent into the real collector.
fn drain(dir: &Path, scale: &Scale, _: Progress<'_>) -> Result<Vec<Figure>> {
    let node = NodeSpec {
        id: backlog::NODE.to_string(),
        source: Source::Recording(PathBuf::new()),
        rate_hz: backlog::RATE_HZ,
        range_g: backlog::RANGE_G,
        start_at_ms: 0,
    };
    let mut plant = Plant::found(dir, &backlog_fleet())?;
    let backlog = Backlog::of_bytes(scale.backlog_mib << 20, utc(), 1);
    let state = dir.join("agent");
    let own = std::process::id();
    let before = Usage::of(own)?.written_bytes;
    let payload = backlog.fill(&state)?;
    let filled_bytes = Usage::of(own)?.written_bytes - before;
    let spool_bytes = disk_bytes(&state);

    plant.start_collector()?;
    let began = now();
    // The line leads nowhere: this gateway has nothing but its past.
    plant.start_agent(std::slice::from_ref(&node))?;
    let agent = plant.agent.as_ref().context("it was started above")?.id();
    let committed = || plant.metric("trunnion_collector_blocks_committed_total").ok();
    await_some(LIMIT, || committed().filter(|blocks| *blocks > 0.0)).context("no block came through")?;
    let (opened, first) = (began.elapsed().as_secs_f64(), now());
    let all = backlog.blocks as f64;
    await_some(LIMIT, || committed().filter(|blocks| *blocks >= all))
        .context("the backlog does not drain")?;
    let seconds = first.elapsed().as_secs_f64();
    // Acknowledgements and deletion follow: the spool has shrunk when it stays as it is.
    let mut size = disk_bytes(&state);
    await_some(Duration::from_secs(20), || {
        watch_for(Duration::from_secs(1));
        let now = disk_bytes(&state);
        (std::mem::replace(&mut size, now) == now).then_some(())
    });
    let usage = Usage::of(agent)?;
    plant.stop()?;

    let [speed, rss, ratio, left, written, reopen] = DRAIN;
    let speed = speed.measured(payload / 1e6 / seconds);
    let reopen = reopen.measured(opened);
    let of_1_gib = [
        rss.measured(usage.peak_rss_mib),
        ratio.measured(spool_bytes as f64 / payload),
        left.measured(size as f64 / MIB),
        written.measured((filled_bytes + usage.written_bytes) as f64 / payload),
    ];
    let is_whole = scale.backlog_mib == 1_024;
    let of_1_gib = of_1_gib.map(|figure| {
        if is_whole {
            figure
        } else {
            Figure {
                value: None,
                ..figure
            }
            .missing(format!("the backlog was {} MiB only", scale.backlog_mib))
        }
    });
    Ok([speed].into_iter().chain(of_1_gib).chain([reopen]).collect())
}

const LIVE: [Figure; 2] = [
    Figure::at_most("live_latency_ms_p99_during_drain", 1_000.0, "ms"),
    Figure::told("live_features_ms_p99_during_drain", "ms"),
];

/// A backlog in the spool and live nodes on the lines, both at once: how long what happens now takes while
/// the past goes the same way.
fn live(dir: &Path, scale: &Scale, _: Progress<'_>) -> Result<Vec<Figure>> {
    let nodes = live_nodes(dir)?;
    let machines = nodes.iter().map(|node| machine(&node.id, node.rate_hz));
    let past = machine(&backlog::NODE.to_string(), backlog::RATE_HZ);
    let mut plant = Plant::found(dir, &fleet_text(&Vec::from_iter(machines.chain([past]))))?;
    let backlog = Backlog::of_bytes(scale.backlog_mib << 20, utc(), 1);
    let payload = backlog.fill(&dir.join("agent"))?;
    plant.start_collector()?;
    for node in &nodes {
        plant.start_endless_node(node)?;
    }
    plant.start_agent(&nodes)?;
    let held = || plant.agent_metric("trunnion_agent_spool_bytes").ok();
    await_some(LIMIT, || held().filter(|held| (1.0..payload).contains(held)))
        .context("nothing is drained")?;
    let from = utc();
    await_some(LIMIT, || held().filter(|held| *held < payload / 100.0))
        .context("the backlog does not drain")?;
    let to = utc();
    // What arrived last is under way, and its windows are open.
    watch_for(WARM_UP);
    let since = rfc3339(from)?;
    let features = plant.get(&format!("/api/v1/latency?since={since}"))?["p99_ms"].as_f64();
    plant.stop()?;
    let journal = plant.collector_dir().join("data/journal");
    let latencies = to_journal_ms(&journal, (from, to), &[backlog::NODE])?;
    let p99 = percentile(latencies, 0.99).context("no live frame arrived during the drain")?;
    let [latency, published] = LIVE;
    let is_whole = scale.backlog_mib == 1_024;
    let why = format!("the backlog was {} MiB only: {p99:.0} ms", scale.backlog_mib);
    Ok(vec![
        if is_whole {
            latency.measured(p99)
        } else {
            latency.missing(why)
        },
        match features {
            Some(p99) => published.measured(p99),
            None => published.missing("no window ended during the drain"),
        },
    ])
}

/// Collector and agent killed in turns under load.
fn kill(dir: &Path, scale: &Scale, progress: Progress<'_>) -> Result<Vec<Figure>> {
    let options = crate::kills::Options {
        kills: scale.kills,
        seed: utc().0.unsigned_abs(),
    };
    let report = crate::kills::run(dir, &options, progress)?;
    Ok(kills::figures(&report))
}

const COLLECTOR: [Figure; 1] = [Figure::at_least("collector_mb_s", 100.0, "MB/s")];

/// Blocks out of memory: what the collector takes when no gateway's disk is in the way.
fn collector(dir: &Path, scale: &Scale, _: Progress<'_>) -> Result<Vec<Figure>> {
    let mut plant = Plant::found(dir, &backlog_fleet())?;
    let epoch = Epoch(3);
    let blocks = encoded(epoch, scale);
    plant.start_collector()?;
    let enrolment = enrolment(&plant.bundle(GATEWAY))?;
    let seconds = runtime()?.block_on(async {
        let mut sender = Sender::connect(&enrolment, epoch, blocks.len() as u64).await?;
        let began = now();
        sender.deliver(&blocks).await?;
        anyhow::Ok(began.elapsed().as_secs_f64())
    })?;
    plant.stop()?;
    let bytes: usize = blocks.iter().map(Vec::len).sum();
    let [speed] = COLLECTOR;
    Ok(vec![speed.measured(bytes as f64 / 1e6 / seconds)])
}

/// A backlog as the messages that carry it.
fn encoded(epoch: Epoch, scale: &Scale) -> Vec<Vec<u8>> {
    let backlog = Backlog::of_bytes(scale.sent_mib << 20, utc(), epoch.0);
    let block = |sequence| {
        let (kind, body) = backlog.body(sequence);
        let envelope = Envelope::new(epoch, sequence, Lane::Live, kind).encode(&body);
        [&envelope[..], &body].concat()
    };
    (0..backlog.blocks).map(block).collect()
}

fn backlog_fleet() -> String {
    fleet_text(&[machine(&backlog::NODE.to_string(), backlog::RATE_HZ)])
}

const PEER: [Figure; 1] = [Figure::of_peer("mosquitto_bridge_mb_s_64k", "MB/s")];

/// The same blocks through a mosquitto bridge: what others reach on this machine.
fn peer(dir: &Path, scale: &Scale, _: Progress<'_>) -> Result<Vec<Figure>> {
    let program = mosquitto::program().context("mosquitto is not installed (apt-get install mosquitto)")?;
    let plant = Plant::found(dir, &backlog_fleet())?;
    let blocks = encoded(Epoch(3), scale);
    let speed = runtime()?.block_on(mosquitto::bridge_mb_s(&program, &plant, &blocks))?;
    let [figure] = PEER;
    Ok(vec![figure.measured(speed)])
}

const RECONNECT: [Figure; 1] = [Figure::at_most("reconnect_1000_s", 15.0, "s")];

/// Every gateway is connected, the collector is killed, and all come back as agents do: from the start
/// of the new collector to the last answered Hello.
fn reconnect(dir: &Path, scale: &Scale, _: Progress<'_>) -> Result<Vec<Figure>> {
    let mut plant = Plant::found(dir, &backlog_fleet())?;
    let enrolments = enrol(&plant, scale.gateways)?;
    plant.start_collector()?;
    let runtime = runtime()?;
    let answered: Vec<watch::Receiver<u64>> = (1..)
        .zip(enrolments)
        .map(|(number, enrolment)| {
            let (count, answered) = watch::channel(0);
            runtime.spawn(stay(enrolment, number, count));
            answered
        })
        .collect();
    let all_have = |hellos: &[u64]| {
        answered
            .iter()
            .zip(hellos)
            .all(|(answered, wanted)| *answered.borrow() >= *wanted)
    };
    let first = vec![1; answered.len()];
    await_some(LIMIT, || all_have(&first).then_some(())).context("not every gateway came in at first")?;

    plant.collector.take().context("it was started above")?.kill()?;
    let next: Vec<u64> = answered.iter().map(|count| *count.borrow() + 1).collect();
    let began = now();
    plant.launch_collector()?;
    let back = await_some(LIMIT, || all_have(&next).then_some(()));
    let seconds = began.elapsed().as_secs_f64();
    back.with_context(|| {
        let back = answered
            .iter()
            .zip(&next)
            .filter(|(count, wanted)| *count.borrow() >= **wanted);
        format!("{} of {} gateways came back", back.count(), answered.len())
    })?;
    runtime.shutdown_background();
    plant.await_collector()?;
    plant.stop()?;
    let [figure] = RECONNECT;
    Ok(vec![if scale.gateways == 1_000 {
        figure.measured(seconds)
    } else {
        figure.missing(format!("{} gateways only: {seconds:.1} s", scale.gateways))
    }])
}

/// Enrols so many gateways with the plant's authority.
fn enrol(plant: &Plant, gateways: u64) -> Result<Vec<Enrolment>> {
    let authority = plant.collector_dir().join("pki");
    let site: Name = SITE.parse()?;
    let endpoint = format!("localhost:{}", plant.door_port());
    let since_epoch = Duration::from_nanos(u64::try_from(utc().0)?);
    let now = time::OffsetDateTime::UNIX_EPOCH + since_epoch;
    let bundles = plant.dir().join("bundles");
    std::fs::create_dir_all(&bundles)?;
    (1..=gateways)
        .map(|number| {
            let gateway: Name = format!("many-{number}").parse()?;
            let bundle = pki::gateway_add(&authority, &site, &gateway, std::slice::from_ref(&endpoint), now)?;
            let path = bundles.join(format!("{number}.toml"));
            bundle.write(&path)?;
            enrolment(&path)
        })
        .collect()
}

pub(super) fn enrolment(bundle: &Path) -> Result<Enrolment> {
    Enrolment::load(bundle).map_err(|problems| anyhow::anyhow!("{}: {problems}", bundle.display()))
}

pub(super) fn machine(node: &str, rate_hz: f64) -> Machine {
    Machine {
        asset: format!("asset-{}", &node[12..]),
        node: node.to_owned(),
        rpm: 60.0 * MachineSpec::motor(rate_hz, 0).shaft_hz,
        bearing: None,
        range_g: backlog::RANGE_G,
        band_high_hz: rate_hz / 2.56,
    }
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(2)
        .enable_all()
        .build()
        .context("no runtime")
}

#[allow(clippy::disallowed_methods, reason = "measures how long real processes take")]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[allow(
    clippy::disallowed_methods,
    reason = "a backlog's samples were taken in the real past"
)]
pub(super) fn utc() -> EventTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    EventTime(now.as_nanos() as i64)
}

/// As the collector's API takes a time.
pub(super) fn rfc3339(at: EventTime) -> Result<String> {
    let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0))?;
    Ok(at.format(&time::format_description::well_known::Rfc3339)?)
}

/// Lets the processes go on for so long: a figure is a mean over a time.
pub(super) fn watch_for(time: Duration) {
    let _ = await_some::<()>(time, || None);
}
