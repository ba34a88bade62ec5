//! The real collector under load: blocks over mutual TLS, fsync before each acknowledgement, features of
//! everything, every output written. A load is over when the pipeline has applied all of it.

use super::delivery::{enrolment, now, rfc3339, runtime, utc};
use super::engine::Scale;
use super::figure::Figure;
use super::herd::{Herd, Spec, fleet_text};
use super::scenario::{Progress, Scenario};
use super::sender::Sender;
use crate::plant::{GATEWAY, Plant};
use crate::process::await_some;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use trunnion_agent::enrolment::Enrolment;
use trunnion_common::frame::Class;
use trunnion_common::id::{Epoch, NodeId};
use trunnion_common::time::EventTime;

/// How long a scenario may wait for the collector before it counts as stuck.
const LIMIT: Duration = Duration::from_secs(300);

/// What the collector counts as stored once it is written.
const STORED: &str = "trunnion_collector_samples_stored_total";

/// As much as the collector takes of waveforms.
pub const COLLECTOR: Scenario<Scale> = Scenario {
    name: "collector",
    figures: &COLLECTOR_FIGURES,
    measure: collector,
};

/// The speed that a goal is set for; half of it is the load of [`ADVISORY`].
const GOAL_MB_S: f64 = 100.0;

const COLLECTOR_FIGURES: [Figure; 2] = [
    Figure::at_least("collector_mb_s", GOAL_MB_S, "MB/s"),
    Figure::told("collector_behind_s", "s"),
];

fn collector(dir: &Path, scale: &Scale, _: Progress<'_>) -> Result<Vec<Figure>> {
    let herd = vibration(64, EventTime(utc().0 - 600_000_000_000));
    let rounds = (scale.sent_mib << 20).div_ceil(2 * herd.round_blocks() * herd.block_samples());
    let taken = take(dir, &[(&herd, rounds)])?;
    let [speed, behind] = COLLECTOR_FIGURES;
    Ok(vec![
        speed.measured(2.0 * taken.samples as f64 / 1e6 / taken.seconds),
        behind.measured(taken.behind_s),
    ])
}

/// As many readings as the collector takes, half of them from one gateway.
pub const SCALARS: Scenario<Scale> = Scenario {
    name: "scalars",
    figures: &SCALARS_FIGURES,
    measure: scalars,
};

const SCALARS_FIGURES: [Figure; 1] = [Figure::at_least(
    "scalar_events_per_s_end_to_end",
    500_000.0,
    "1/s",
)];

fn scalars(dir: &Path, scale: &Scale, _: Progress<'_>) -> Result<Vec<Figure>> {
    let start = EventTime(utc().0 - 3_600_000_000_000);
    // Four gateways with 300 channels: the first has as many as the three others.
    let herds = [(1, 15), (16, 5), (21, 5), (26, 5)].map(|(first_node, nodes)| {
        Herd::new(Spec {
            first_node,
            nodes,
            channels: 10,
            class: Class::Essential,
            rate_hz: 100,
            block_frames: 32,
            start,
        })
    });
    let in_round: u64 = herds
        .iter()
        .map(|herd| herd.round_blocks() * herd.block_samples())
        .sum();
    let rounds = scale.readings.div_ceil(in_round);
    let taken = take(dir, &herds.each_ref().map(|herd| (herd, rounds)))?;
    let [speed] = SCALARS_FIGURES;
    Ok(vec![speed.measured(taken.samples as f64 / taken.seconds)])
}

/// Half the load that the collector must bear, live: how long from a window's end to what is said of it.
pub const ADVISORY: Scenario<Scale> = Scenario {
    name: "advisory",
    figures: &ADVISORY_FIGURES,
    measure: advisory,
};

const ADVISORY_FIGURES: [Figure; 4] = [
    Figure::at_most("advisory_latency_ms_p99", 500.0, "ms"),
    Figure::told("advisory_latency_ms_p50", "ms"),
    Figure::told("advisory_checkpoint_ms", "ms"),
    Figure::told("advisory_checkpoint_mib", "MiB"),
];

fn advisory(dir: &Path, scale: &Scale, _: Progress<'_>) -> Result<Vec<Figure>> {
    // The blocks are made before the first of them is due.
    let start = EventTime(utc().0 + 30_000_000_000);
    let nodes = (GOAL_MB_S / 2.0 * 1e6 / (2.0 * f64::from(RATE_HZ))) as u64;
    let herd = Herd::new(Spec {
        // A fifth of a second: what an agent gathers of a busy line.
        block_frames: 10,
        ..vibration_spec(nodes, start)
    });
    let rounds = (scale.watched.as_nanos() as u64).div_ceil(herd.round_ns().unsigned_abs());
    let mut plant = Plant::found(dir, &fleet_text(&[&herd]))?;
    let blocks = herd.messages(EPOCH, rounds);
    plant.start_collector()?;
    ensure!(utc() < start, "this machine was too slow to prepare the load");
    let enrolment = enrolment(&plant.bundle(GATEWAY))?;
    runtime()?.block_on(async {
        let mut sender = Sender::connect(&enrolment, EPOCH, blocks.len() as u64).await?;
        let began = Instant::now() + Duration::from_nanos(start.nanos_since(utc()).max(0).unsigned_abs());
        let preamble = blocks.len() as u64 - rounds * herd.round_blocks();
        sender.deliver(&blocks[..preamble as usize]).await?;
        // A block is sent when its last sample has been taken. The channels' blocks end one after the other, as
        // those of nodes do that were not started together.
        let round_s = Duration::from_nanos(herd.round_ns().unsigned_abs());
        sleep_until(began + round_s).await;
        deliver_at(
            &mut sender,
            &blocks,
            herd.round_blocks() as f64 / round_s.as_secs_f64(),
        )
        .await
    })?;
    await_stored(&plant, rounds * herd.round_blocks() * herd.block_samples())?;
    // The first machine is damaged. What is told of its instrument is no damage found.
    let first = NodeId::new(1).context("1 is the id of a node")?;
    let advisories = plant.get(&format!("/api/v1/advisories?asset=asset-{first}"))?;
    let list = advisories["advisories"].as_array();
    let is_found = |advisory: &&Value| advisory["cause"] == "bearing";
    let found = list.map_or(0, |list| list.iter().filter(is_found).count());
    ensure!(found > 0, "no advisory was raised, although machines are damaged");
    // The first seconds are those of a collector that starts.
    let since = rfc3339(start.plus_nanos(5_000_000_000))?;
    let latency = plant.get(&format!("/api/v1/latency?since={since}"))?;
    // The last one: how long it has kept the pipeline from its work, in many pieces.
    let checkpoint_s = plant.metric("trunnion_collector_checkpoint_duration_seconds")?;
    let checkpoint_bytes = plant.metric("trunnion_collector_checkpoint_size_bytes")?;
    plant.stop()?;
    let of = |share: &str| latency[share].as_f64().context("no window was published");
    let [p99, p50, checkpoint, size] = ADVISORY_FIGURES;
    Ok(vec![
        p99.measured(of("p99_ms")?),
        p50.measured(of("p50_ms")?),
        checkpoint.measured(1e3 * checkpoint_s),
        size.measured(checkpoint_bytes / f64::from(1 << 20)),
    ])
}

/// Thirty times the usual load for a minute.
pub const BURST: Scenario<Scale> = Scenario {
    name: "burst",
    figures: &BURST_FIGURES,
    measure: burst,
};

const BURST_FIGURES: [Figure; 2] = [
    Figure::at_most("burst_lost", 0.0, "samples"),
    Figure::told("burst_behind_s", "s"),
];

/// The usual load: thirty times of it is what the collector must bear.
const USUAL_MB_S: f64 = GOAL_MB_S / 30.0;

/// How long it lasts before the burst, and after.
const USUAL: Duration = Duration::from_secs(5);

fn burst(dir: &Path, scale: &Scale, progress: Progress<'_>) -> Result<Vec<Figure>> {
    let herd = vibration(64, EventTime(utc().0 - 7_200_000_000_000));
    let block_mb = 2.0 * herd.block_samples() as f64 / 1e6;
    let blocks_in = |mb: f64| (mb / block_mb).ceil() as u64;
    let usual = blocks_in(USUAL_MB_S * USUAL.as_secs_f64());
    let burst = blocks_in(30.0 * USUAL_MB_S * scale.burst.as_secs_f64());
    let rounds = (2 * usual + burst).div_ceil(herd.round_blocks());
    let mut plant = Plant::found(dir, &fleet_text(&[&herd]))?;
    let blocks = herd.messages(EPOCH, rounds);
    plant.start_collector()?;
    let enrolment = enrolment(&plant.bundle(GATEWAY))?;
    let sent = runtime()?.block_on(async {
        let mut sender = Sender::connect(&enrolment, EPOCH, blocks.len() as u64).await?;
        let all = blocks.len() as u64;
        for (upto, mb_s) in [
            (usual, USUAL_MB_S),
            (usual + burst, 30.0 * USUAL_MB_S),
            (all, USUAL_MB_S),
        ] {
            deliver_at(&mut sender, &blocks[..upto as usize], mb_s / block_mb).await?;
        }
        anyhow::Ok(Instant::now())
    })?;
    let samples = rounds * herd.round_blocks() * herd.block_samples();
    await_stored(&plant, samples)?;
    let behind = sent.elapsed().as_secs_f64();
    progress(&format!(
        "{} MB in {} blocks",
        2 * samples / 1_000_000,
        blocks.len()
    ));
    let ledger = plant.get("/api/v1/ledger")?;
    let stored = plant.metric(STORED)?;
    plant.stop()?;
    let lost = ["lost", "unexplained"].map(|kind| ledger["totals"][kind].as_f64().unwrap_or(f64::NAN));
    let [of_burst, of_behind] = BURST_FIGURES;
    let missing = samples as f64 - stored;
    Ok(vec![
        of_burst.measured(missing + lost.iter().sum::<f64>()),
        of_behind.measured(behind),
    ])
}

/// Sample rate of the vibration channels, Hz.
const RATE_HZ: u32 = 25_600;

/// The epoch that all blocks are of.
const EPOCH: Epoch = Epoch(3);

/// Blocks that are sent together where a load is paced: a gateway's agent gathers as many in some milliseconds.
const PACE_BLOCKS: usize = 16;

/// So many nodes, each with one channel at a bearing, in blocks of 64 KiB.
fn vibration(nodes: u64, start: EventTime) -> Herd {
    Herd::new(vibration_spec(nodes, start))
}

const fn vibration_spec(nodes: u64, start: EventTime) -> Spec {
    Spec {
        first_node: 1,
        nodes,
        channels: 1,
        class: Class::Waveform,
        rate_hz: RATE_HZ,
        block_frames: 65,
        start,
    }
}

/// What became of a load that was sent as fast as it was taken.
struct Taken {
    /// Samples that were sent and stored.
    samples: u64,
    /// Until all of them were.
    seconds: f64,
    /// How long that was after the last acknowledgement.
    behind_s: f64,
}

/// Sends each herd's rounds through a gateway of its own, all at once.
fn take(dir: &Path, herds: &[(&Herd, u64)]) -> Result<Taken> {
    let machines: Vec<&Herd> = herds.iter().map(|(herd, _)| *herd).collect();
    let mut plant = Plant::found(dir, &fleet_text(&machines))?;
    let mut loads = Vec::new();
    for (number, (herd, rounds)) in herds.iter().enumerate() {
        let gateway = match number {
            0 => GATEWAY.to_owned(),
            _ => format!("gw-{}", number + 1),
        };
        if number > 0 {
            plant.add_gateway(&gateway)?;
        }
        loads.push((enrolment(&plant.bundle(&gateway))?, herd.messages(EPOCH, *rounds)));
    }
    plant.start_collector()?;
    let samples = herds
        .iter()
        .map(|(herd, rounds)| rounds * herd.round_blocks() * herd.block_samples())
        .sum();
    let runtime = runtime()?;
    let began = now();
    runtime.block_on(async {
        let senders: Vec<_> = loads
            .into_iter()
            .map(|(enrolment, blocks)| tokio::spawn(deliver(enrolment, blocks)))
            .collect();
        for sender in senders {
            sender.await??;
        }
        anyhow::Ok(())
    })?;
    let acknowledged = now();
    await_stored(&plant, samples)?;
    let taken = Taken {
        samples,
        seconds: began.elapsed().as_secs_f64(),
        behind_s: acknowledged.elapsed().as_secs_f64(),
    };
    plant.stop()?;
    Ok(taken)
}

async fn deliver(enrolment: Enrolment, blocks: Vec<Vec<u8>>) -> Result<()> {
    let mut sender = Sender::connect(&enrolment, EPOCH, blocks.len() as u64).await?;
    sender.deliver(&blocks).await
}

/// Delivers what is left of the blocks at a pace, blocks a second; where the collector does not keep it, as
/// fast as it can.
async fn deliver_at(sender: &mut Sender, blocks: &[Vec<u8>], pace: f64) -> Result<()> {
    let (began, first) = (Instant::now(), sender.delivered() as usize);
    for from in (first..blocks.len()).step_by(PACE_BLOCKS) {
        sleep_until(began + Duration::from_secs_f64((from - first) as f64 / pace)).await;
        sender
            .deliver(&blocks[..blocks.len().min(from + PACE_BLOCKS)])
            .await?;
    }
    Ok(())
}

/// Waits until the pipeline has written so many samples.
pub(super) fn await_stored(plant: &Plant, samples: u64) -> Result<()> {
    let stored = || plant.metric(STORED).ok();
    await_some(LIMIT, || stored().filter(|stored| *stored >= samples as f64))
        .map(|_| ())
        .with_context(|| format!("{:?} of {samples} samples are stored", stored()))
}
