//! A gateway whose disk is full: it goes on, recovers by itself, and everything it had to give up is
//! named; and what evicted waveforms said is still there.

use rustix::process::Signal;
use serde_json::Value;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use trunnion_tests::plant::{CHANNEL, Machine, NodeSpec, POINT, Plant, Source, fleet_text};
use trunnion_tests::process::await_some;

const LIMIT: Duration = Duration::from_secs(120);
const NODE: &str = "00000000000000a1";
const ASSET: &str = "fan-1";

fn plant(dir: &Path, rate_hz: f64) -> (Plant, NodeSpec) {
    let machine = Machine {
        asset: ASSET.to_owned(),
        node: NODE.to_owned(),
        rpm: 1_772.0,
        bearing: None,
        range_g: 16.0,
        band_high_hz: 4_000.0,
    };
    let samples = dir.join("samples.f32");
    // A sawtooth of a millisecond, from 0 to 1 g: its RMS about the mean is 0.289 g.
    let period = (rate_hz / 1_000.0) as usize;
    let bytes: Vec<u8> = (0..period * 1_000)
        .flat_map(|i| ((i % period) as f32 / period as f32).to_le_bytes())
        .collect();
    std::fs::write(&samples, bytes).unwrap();
    let node = NodeSpec {
        id: NODE.to_owned(),
        source: Source::Recording(samples),
        rate_hz,
        range_g: 16.0,
        start_at_ms: 0,
    };
    (Plant::found(dir, &fleet_text(&[machine])).unwrap(), node)
}

/// A small file system, as long as this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this process may not mount one.
    fn mount(at: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "trunnion-test"])
            .arg(at)
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then(|| Self(at.to_owned()))
    }

    /// Takes all the room there is, and what was given back since it was last called.
    fn fill(&self) {
        let path = self.0.join("filler");
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        for size in [1 << 20, 4_096] {
            let piece = vec![0; size];
            while file.write_all(&piece).is_ok() {}
        }
    }

    /// Gives it back.
    fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        if !unmounted.as_ref().is_ok_and(std::process::ExitStatus::success) {
            let _ = writeln!(io::stderr(), "cannot unmount {}: {unmounted:?}", self.0.display());
        }
    }
}

/// Waits until a figure of the agent's is at least so high.
fn await_figure(plant: &Plant, name: &str, least: f64) -> f64 {
    let name = format!("trunnion_agent_{name}");
    let figure = await_some(LIMIT, || {
        plant.agent_metric(&name).ok().filter(|figure| *figure >= least)
    });
    figure.unwrap_or_else(|| panic!("{name} is {:?}, not {least}", plant.agent_metric(&name)))
}

fn totals(plant: &Plant) -> Value {
    plant.get("/api/v1/ledger").unwrap()["totals"].clone()
}

/// Switches the machine off and waits until every sample is stored or lost.
fn settle(plant: &mut Plant) -> Value {
    let node = plant.nodes.last_mut().unwrap();
    node.signal(Signal::USR1).unwrap();
    let drained = node.await_line(LIMIT, |line| {
        let report: Value = serde_json::from_str(line).ok()?;
        (report["event"] == "drained").then_some(report)
    });
    let produced = drained.unwrap()["produced"].as_u64().unwrap();
    let settled = await_some(LIMIT, || {
        let totals = plant.get("/api/v1/ledger").ok()?["totals"].clone();
        (totals["pending"] == 0 && totals["produced"].as_u64()? >= produced).then_some(totals)
    });
    let totals = settled.unwrap_or_else(|| panic!("{:?}", plant.get("/api/v1/ledger")));
    let number = |key: &str| totals[key].as_u64().unwrap();
    assert_eq!(number("produced"), produced, "{totals}");
    assert_eq!(produced, number("stored") + number("lost"), "{totals}");
    assert_eq!(number("unexplained"), 0, "{totals}");
    totals
}

#[test]
fn a_full_disk_stops_nothing_and_is_recovered_from_with_every_loss_named() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("agent"), 64) else {
        let _ = writeln!(
            io::stderr(),
            "skipped: a_full_disk_stops_nothing_and_is_recovered_from_with_every_loss_named: \
             no file system can be mounted here (it takes root)"
        );
        return;
    };
    let (mut plant, node) = plant(dir.path(), 12_000.0);
    plant.start_collector().unwrap();
    plant.start_endless_node(&node).unwrap();
    plant
        .start_agent_with(std::slice::from_ref(&node), |config| {
            config.insert("spool_essential_mib".into(), 4.into());
        })
        .unwrap();
    await_figure(&plant, "blocks_acknowledged_total", 10.0);
    await_figure(&plant, "samples_total", 12_000.0);

    // The agent gives up waveforms, and its ballast when the disk refuses: that is taken as well.
    let stopped = await_some(LIMIT, || {
        disk.fill();
        let step = "trunnion_agent_retention_steps_total{step=\"stop_intake\"}";
        let stops = plant.agent_metric(step).ok()?;
        let refused = plant.agent_metric("trunnion_agent_commits_refused_total").ok()?;
        (stops + refused >= 1.0).then_some(())
    });
    assert!(stopped.is_some(), "the disk was never full");
    // Nodes keep what they have, as long as nothing that the agent gives up makes room.
    let declined = await_some(LIMIT, || {
        disk.fill();
        let declined = plant.agent_metric("trunnion_agent_frames_declined_total").ok()?;
        (declined >= 200.0).then_some(())
    });
    assert!(declined.is_some(), "frames were taken on a full disk");
    let before = plant.agent_metric("trunnion_agent_blocks_stored_total").unwrap();
    disk.empty();
    await_figure(&plant, "blocks_stored_total", before + 10.0);
    assert!(plant.agent.as_mut().unwrap().is_running());

    let totals = settle(&mut plant);
    let causes = totals["lost_by_cause"].as_object().unwrap();
    // What the node's outbox could not hold that long; the spool itself had nothing to give up but
    // waveforms.
    for (cause, _) in causes {
        assert!(
            ["outbox_full", "spool_evicted"].contains(&cause.as_str()),
            "{totals}"
        );
    }
    let log = plant.agent.as_ref().unwrap().log();
    assert!(!log.contains("panicked"), "{log}");
    plant.stop().unwrap();
}

#[test]
fn after_an_outage_with_evictions_the_trend_is_whole_and_every_evicted_sample_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (mut plant, node) = plant(dir.path(), 48_000.0);
    plant.start_collector().unwrap();
    plant.start_endless_node(&node).unwrap();
    plant
        .start_agent_with(std::slice::from_ref(&node), |config| {
            config.insert("spool_quota_mib".into(), 16.into());
            config.insert("spool_essential_mib".into(), 13.into());
        })
        .unwrap();
    let stored = || totals(&plant)["stored"].as_u64().unwrap();
    assert!(await_some(LIMIT, || (stored() > 96_000).then_some(())).is_some());
    plant.collector.take().unwrap().kill().unwrap();
    await_figure(&plant, "directories_evicted_total", 3.0);
    plant.start_collector().unwrap();

    let totals = settle(&mut plant);
    let evicted = totals["lost_by_cause"]["spool_evicted"].as_u64().unwrap_or(0);
    assert!(evicted > 48_000, "{totals}");
    let series =
        format!("/api/v1/series?asset={ASSET}&point={POINT}&channel={CHANNEL}&feature=rms&limit=10000");
    let whole = await_some(LIMIT, || {
        let answer = plant.get(&series).ok()?;
        let values = answer["values"].as_array()?.clone();
        let agents = values.iter().filter(|value| value["source"] == "agent");
        // Of each second that was evicted, but for those at the ends of a run of them.
        let seconds = agents
            .filter(|value| (value["value"].as_f64() > Some(0.28)) && (value["value"].as_f64() < Some(0.30)));
        (seconds.count() as u64 + 8 >= evicted / 48_000).then_some(values)
    });
    let values = whole.unwrap_or_else(|| panic!("{evicted} evicted: {:?}", plant.get(&series)));
    for pair in values.windows(2) {
        // Neighbouring stretches of an agent's meet as exactly as their frames' clock stamps do.
        let agents = pair.iter().all(|value| value["source"] == "agent");
        let tolerance = if agents { 5_000_000 } else { 0 };
        let (end, start) = (&pair[0]["end_ns"], &pair[1]["start_ns"]);
        assert!(
            start.as_i64().unwrap() - end.as_i64().unwrap() >= -tolerance,
            "shown twice: {pair:?}"
        );
    }
    plant.stop().unwrap();
}
