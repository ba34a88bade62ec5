//! From sensor to alarm: cases are played on nodes of their own, and what the collector said is joined
//! with what was played afterwards.
//!
//! Only the storyteller knows which record it plays where. The processes that decide see anonymous
//! files, random node ids and asset numbers in shuffled order; speed, geometry and range, which a plant
//! knows, stand in the fleet file.

use crate::host_node::Motor;
use crate::plant::{CHANNEL, Machine, NodeSpec, POINT, Plant, Source, fleet_text};
use crate::process::{Process, await_some};
use crate::sim_machine::Chance;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One machine to play: what its sensor feels, and what a plant knows about it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is played; never leaves the storyteller.
    pub record: String,
    /// What the sensor feels.
    pub vibration: Vibration,
    /// Sample rate, Hz.
    pub rate_hz: f64,
    /// Full scale of the sensor, g.
    pub range_g: f32,
    /// Shaft speed.
    pub rpm: f64,
    /// The bearing's designation in the catalogue, when it is known.
    pub bearing: Option<String>,
}

/// What a sensor feels.
#[derive(Clone, Debug)]
pub enum Vibration {
    /// A record: acceleration, g.
    Recorded(Vec<f32>),
    /// A motor that its node simulates while it runs.
    Simulated(Motor),
}

impl Case {
    /// How long it plays, seconds.
    pub fn duration_s(&self) -> f64 {
        match &self.vibration {
            Vibration::Recorded(samples) => samples.len() as f64 / self.rate_hz,
            Vibration::Simulated(motor) => motor.seconds,
        }
    }
}

/// Who a story is told to.
pub trait Audience {
    /// A line on what happens.
    fn hear(&mut self, line: &str);

    /// How far the machines have run; comes several times a second while they do.
    fn watch(&mut self, played: Duration, whole: Duration) {
        let _ = (played, whole);
    }

    /// Whether it has had enough: the story then ends early, as an error.
    fn has_left(&mut self) -> bool {
        false
    }
}

/// Hears every line, and stays to the end.
struct Listener<F>(F);

impl<F: FnMut(&str)> Audience for Listener<F> {
    fn hear(&mut self, line: &str) {
        (self.0)(line);
    }
}

/// What became of a story.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Nodes that played.
    pub nodes: usize,
    /// Samples that the nodes produced, as they say.
    pub samples_produced: u64,
    /// Samples in the collector's journal, placed in event time.
    pub samples_stored: u64,
    /// Samples lost for good, all causes.
    pub samples_lost: u64,
    /// Samples counted twice: stored beyond what was produced.
    pub samples_double_counted: u64,
    /// Samples that the ledger cannot explain.
    pub samples_unexplained: u64,
    /// Blocks committed.
    pub blocks_committed: u64,
    /// Blocks that came again and were recognised.
    pub blocks_duplicated: u64,
    /// Processes killed in mid-run.
    pub kills: Kills,
    /// What was raised, joined with what was played.
    pub advisories: Vec<Raised>,
    /// Records for which nothing was raised.
    pub silent: Vec<String>,
    /// From a window's end to its published features.
    pub latency_ms: Latency,
}

/// Processes killed in mid-run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Kills {
    /// Of the agent.
    pub agent: u32,
    /// Of the collector.
    pub collector: u32,
}

/// An advisory, joined with the record played on its asset.
#[derive(Clone, Debug, Serialize)]
pub struct Raised {
    /// The asset as the collector knows it.
    pub asset: String,
    /// What was played on it.
    pub record: String,
    /// The element named, or `undetermined`.
    pub element: String,
    /// The element's order as found.
    pub order: f64,
    /// Event time from the record's first sample to the advisory, seconds.
    pub raised_after_s: f64,
}

/// Percentiles of a latency, milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// A case with the identities it plays under.
struct Part {
    asset: String,
    node: NodeSpec,
    record: String,
    duration: Duration,
    rpm: f64,
    bearing: Option<String>,
}

impl Part {
    fn machine(&self) -> Machine {
        Machine {
            asset: self.asset.clone(),
            node: self.node.id.clone(),
            rpm: self.rpm,
            bearing: self.bearing.clone(),
            range_g: self.node.range_g,
            band_high_hz: self.node.rate_hz / 2.56,
        }
    }
}

/// How long after the last sample everything must have reached the collector's ledger.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// Between the start of the processes and the first sample.
const LEAD_IN: Duration = Duration::from_secs(3);

/// Plays the cases on a plant in `dir`; with `kill`, the collector and the agent are killed once each
/// in mid-run. `progress` hears a line now and then. The plant is returned running.
pub fn play(dir: &Path, cases: Vec<Case>, kill: bool, progress: impl FnMut(&str)) -> Result<(Report, Plant)> {
    play_to(dir, cases, kill, &mut Listener(progress))
}

/// As [`play`], to an audience that may leave.
pub fn play_to(
    dir: &Path,
    cases: Vec<Case>,
    kill: bool,
    audience: &mut impl Audience,
) -> Result<(Report, Plant)> {
    let nodes = cases.len();
    let seed = unix_time().as_nanos() as u64;
    let parts = lay_out(dir, cases, seed)?;
    audience.hear("founding the plant: certificate authority, certificates, configuration, one gateway");
    let mut plant = Plant::found(dir, &fleet_file(&parts))?;
    let specs: Vec<NodeSpec> = parts.iter().map(|part| part.node.clone()).collect();

    plant.start_collector()?;
    audience.hear(&format!("collector ready: {}", plant.url("/")?));
    // The clock starts when the processes have: late starters would begin in the middle of their record.
    let start = unix_time() + LEAD_IN;
    for mut spec in specs.clone() {
        spec.start_at_ms = start.as_millis() as u64;
        plant.start_node(&spec)?;
    }
    plant.start_agent(&specs)?;
    audience.hear(&format!("{nodes} nodes on {nodes} lines, one agent"));

    let longest = parts.iter().map(|part| part.duration).max().unwrap_or_default();
    let mut kills = Kills::default();
    let mut told = 0;
    for (share, victim) in [
        (0.4, Some(Victim::Collector)),
        (0.6, Some(Victim::Agent)),
        (1.0, None),
    ] {
        let until = start + longest.mul_f64(share);
        while unix_time() < until {
            await_time((unix_time() + BEAT).min(until));
            audience.watch(unix_time().saturating_sub(start).min(longest), longest);
            told = tell_news(&plant, &parts, told, audience)?;
            stay(audience)?;
        }
        match victim.filter(|_| kill) {
            Some(Victim::Collector) => {
                plant.kill_and_restart_collector()?;
                kills.collector += 1;
                audience.hear("collector killed (SIGKILL) and started again");
            }
            Some(Victim::Agent) => {
                plant.kill_and_restart_agent(&specs)?;
                kills.agent += 1;
                audience.hear("agent killed (SIGKILL) and started again");
            }
            None => {}
        }
    }

    audience.hear("all played; waiting until the last sample is acknowledged");
    let mut produced = BTreeMap::new();
    for (part, process) in parts.iter().zip(&mut plant.nodes) {
        produced.insert(part.node.id.clone(), await_drained(process)?);
        stay(audience)?;
    }
    let report = settle(&plant, &parts, &produced, kills, start)?;
    tell_news(&plant, &parts, told, audience)?;
    Ok((report, plant))
}

/// Who is killed in mid-run.
#[derive(Clone, Copy)]
enum Victim {
    Collector,
    Agent,
}

/// How often the audience is asked and told while the machines run.
const BEAT: Duration = Duration::from_millis(250);

fn stay(audience: &mut impl Audience) -> Result<()> {
    if audience.has_left() {
        bail!("interrupted");
    }
    Ok(())
}

/// Tells of advisories not told yet; returns how many have been told in all.
fn tell_news(plant: &Plant, parts: &[Part], told: usize, audience: &mut impl Audience) -> Result<usize> {
    let advisories = advisories(plant, parts, Duration::ZERO)?;
    for raised in advisories.iter().skip(told) {
        audience.hear(&format!(
            "advisory on {}: {} at order {:.3}",
            raised.asset, raised.element, raised.order
        ));
    }
    Ok(advisories.len().max(told))
}

/// Waits until the ledger has placed every sample, then reads the closing figures.
fn settle(
    plant: &Plant,
    parts: &[Part],
    produced: &BTreeMap<String, u64>,
    kills: Kills,
    start: Duration,
) -> Result<Report> {
    let expected: u64 = produced.values().sum();
    let settled = await_some(SETTLE_LIMIT, || {
        let ledger = plant.get("/api/v1/ledger").ok()?;
        let totals = &ledger["totals"];
        let placed = number(totals, "stored") + number(totals, "lost");
        let quiet = number(totals, "pending") == 0 && number(totals, "produced") == expected;
        (quiet && placed >= expected && windows_have_fired(plant, parts)).then_some(ledger)
    });
    let ledger = match settled {
        Some(ledger) => ledger,
        None => bail!(
            "the ledger did not settle within {SETTLE_LIMIT:?}: {expected} samples produced, the collector says {}",
            plant.get("/api/v1/ledger")?["totals"]
        ),
    };
    let totals = &ledger["totals"];
    let latency = plant.get("/api/v1/latency")?;
    let advisories = advisories(plant, parts, start)?;
    let silent = parts
        .iter()
        .filter(|part| !advisories.iter().any(|raised| raised.asset == part.asset));
    Ok(Report {
        nodes: parts.len(),
        samples_produced: expected,
        samples_stored: number(totals, "stored"),
        samples_lost: number(totals, "lost"),
        samples_double_counted: number(totals, "stored").saturating_sub(expected),
        samples_unexplained: number(totals, "unexplained"),
        blocks_committed: plant.metric("trunnion_collector_blocks_committed_total")? as u64,
        blocks_duplicated: plant.metric("trunnion_collector_blocks_duplicated_total")? as u64,
        kills,
        silent: silent.map(|part| part.record.clone()).collect(),
        advisories,
        latency_ms: Latency {
            p50: latency["p50_ms"].as_f64().unwrap_or(f64::NAN),
            p99: latency["p99_ms"].as_f64().unwrap_or(f64::NAN),
        },
    })
}

/// Whether every asset's last whole window has been published.
fn windows_have_fired(plant: &Plant, parts: &[Part]) -> bool {
    parts.iter().all(|part| {
        let Ok(series) = plant.get(&rms_series(&part.asset)) else {
            return false;
        };
        let windows = series["values"].as_array().map_or(0, Vec::len);
        // The record starts somewhere in its first window and ends somewhere in its last.
        windows as f64 >= part.duration.as_secs_f64().floor() - 1.0
    })
}

/// Where the API has the RMS of an asset's one channel.
pub fn rms_series(asset: &str) -> String {
    format!("/api/v1/series?asset={asset}&point={POINT}&channel={CHANNEL}&feature=rms&limit=1000")
}

/// What the collector has raised so far, oldest first.
fn advisories(plant: &Plant, parts: &[Part], start: Duration) -> Result<Vec<Raised>> {
    let answer = plant.get("/api/v1/advisories")?;
    let list = answer["advisories"].as_array().context("no list of advisories")?;
    let mut raised = Vec::new();
    // What nodes, sensors and limits are told of besides is no diagnosis.
    let is_diagnosis = |advisory: &&Value| advisory["cause"] == "bearing";
    for advisory in list.iter().filter(is_diagnosis) {
        let asset = advisory["asset"]
            .as_str()
            .context("an advisory names its asset")?;
        let part = parts.iter().find(|part| part.asset == asset);
        let part = part.with_context(|| format!("an advisory for {asset}, which does not exist"))?;
        let raised_ns = advisory["raised_ns"]
            .as_i64()
            .context("an advisory says when it was raised")?;
        raised.push((
            raised_ns,
            Raised {
                asset: asset.to_owned(),
                record: part.record.clone(),
                element: advisory["element"].as_str().unwrap_or("undetermined").to_owned(),
                order: advisory["evidence"]["order"].as_f64().unwrap_or(f64::NAN),
                raised_after_s: raised_ns as f64 / 1e9 - start.as_secs_f64(),
            },
        ));
    }
    raised.sort_by_key(|(at, _)| *at);
    Ok(raised.into_iter().map(|(_, raised)| raised).collect())
}

fn number(object: &Value, key: &str) -> u64 {
    object[key].as_u64().unwrap_or(0)
}

/// Waits until a node says that all it produced is acknowledged; returns how many samples that were.
fn await_drained(node: &mut Process) -> Result<u64> {
    node.await_line(SETTLE_LIMIT, |line| {
        let event: Value = serde_json::from_str(line).ok()?;
        (event["event"] == "drained")
            .then(|| event["produced"].as_u64())
            .flatten()
    })
}

/// The order in which cases get their asset numbers.
fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut rng = Chance::new(seed);
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        order.swap(i, (rng.next() % (i as u64 + 1)) as usize);
    }
    order
}

fn asset_id(number: usize) -> String {
    format!("asset-{:02}", number + 1)
}

fn node_id(number: usize, seed: u64) -> String {
    // Random and not zero; the number keeps them apart.
    format!(
        "{:014x}{:02x}",
        Chance::new(seed ^ 0x5eed).next() >> 8,
        number + 1
    )
}

/// Gives every case its identities; a record goes to an anonymous file.
fn lay_out(dir: &Path, cases: Vec<Case>, seed: u64) -> Result<Vec<Part>> {
    let order = shuffled(cases.len(), seed);
    let signals = dir.join("signals");
    std::fs::create_dir_all(&signals)?;
    let mut parts = Vec::new();
    for (case, number) in cases.into_iter().zip(order) {
        let asset = asset_id(number);
        let duration = Duration::from_secs_f64(case.duration_s());
        let source = match case.vibration {
            Vibration::Simulated(motor) => Source::Motor(motor),
            Vibration::Recorded(samples) => {
                let file = signals.join(format!("{asset}.f32"));
                let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
                std::fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
                Source::Recording(file)
            }
        };
        let node = NodeSpec {
            id: node_id(number, seed),
            source,
            rate_hz: case.rate_hz,
            range_g: case.range_g,
            start_at_ms: 0,
        };
        parts.push(Part {
            asset,
            node,
            duration,
            record: case.record,
            rpm: case.rpm,
            bearing: case.bearing,
        });
    }
    Ok(parts)
}

/// The fleet file: what a plant knows of its machines, and of nothing else.
fn fleet_file(parts: &[Part]) -> String {
    let mut sorted: Vec<&Part> = parts.iter().collect();
    sorted.sort_by(|a, b| a.asset.cmp(&b.asset));
    let machines: Vec<Machine> = sorted.iter().map(|part| part.machine()).collect();
    fleet_text(&machines)
}

fn unix_time() -> Duration {
    #[allow(
        clippy::disallowed_methods,
        reason = "the storyteller plays real processes in real time"
    )]
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Waits until a moment of the real clock: the story is played in real time.
fn await_time(at: Duration) {
    let rest = at.saturating_sub(unix_time());
    let _ = await_some::<()>(rest, || None);
}
