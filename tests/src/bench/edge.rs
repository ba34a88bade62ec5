//! Machines judged at the gateway: what a window costs there, and how soon an advisory follows its close.

use super::delivery::{Scale, machine, watch_for};
use super::figure::Figure;
use super::inside::thread_s;
use super::scenario::{Progress, Scenario};
use crate::plant::{GATEWAY, NodeSpec, Plant, SITE, Source, fleet_text};
use crate::process::await_some;
use crate::sim_machine::{MachineSpec, SimMachine};
use anyhow::{Context, Result, ensure};
use std::f64::consts::{SQRT_2, TAU};
use std::path::Path;
use std::time::Duration;
use trunnion_agent::watch::{Arrival, Examinations, Plan, Searches, Watches};
use trunnion_common::feature::FeatureKind;
use trunnion_common::frame::{ChannelDescriptor, Describe, Packing, Waveform};
use trunnion_common::id::{BootId, ChannelId, NodeId};
use trunnion_common::monitor::{Condition, Relative, Settings, Severity, Watched};
use trunnion_common::quantity::Unit;
use trunnion_common::severity::{Criterion, Group, Standard, Support};
use trunnion_common::time::{EventTime, NodeTicks};
use trunnion_common::watch::{BearingSearch, Watch};
use trunnion_diagnosis::bearing::Element;
use trunnion_diagnosis::features::{Analyzer, ShaftSpeed};

/// Judging at the gateway.
pub(super) const EDGE: Scenario<Scale> = Scenario {
    name: "edge",
    figures: &FIGURES,
    measure: edge,
};

const FIGURES: [Figure; 3] = [
    Figure::at_most("edge_inference_ms", 1.0, "ms"),
    Figure::at_most("edge_search_ms", 10.0, "ms"),
    Figure::at_most("edge_advisory_ms_max", 10.0, "ms"),
];

/// How long any step may take before it counts as stuck.
const LIMIT: Duration = Duration::from_secs(300);

/// The first advisory changes as its evidence grows: the longest of all that follow counts.
const WATCHED: Duration = Duration::from_secs(5);

const STANDARD: Standard = Standard::Iso20816Part3(Group::Medium, Support::Rigid);

fn edge(dir: &Path, _: &Scale, _: Progress<'_>) -> Result<Vec<Figure>> {
    let [inference, search, advisory] = FIGURES;
    Ok(vec![
        inference.measured(window_ms()?),
        search.measured(search_ms()?),
        advisory.measured(advisory_ms(dir)?),
    ])
}

/// Vibration of 5 mm/s RMS at 50 Hz: the sample at a time, g.
fn sample_g(seconds: f64) -> f64 {
    let omega = TAU * 50.0;
    SQRT_2 * 5e-3 * omega / 9.806_65 * (omega * seconds).sin()
}

/// Of the machines below.
const RATE: u64 = 25_600;
const SECONDS: u64 = 60;
const FRAME: u64 = 400;

/// Plays a second of samples over and over, g; `then` has its turn after each frame.
fn play(watches: &mut Watches, second: &[f32], mut then: impl FnMut(&mut Watches)) -> Result<()> {
    let (node, channel) = name()?;
    let key = (node, BootId::from_u64(1));
    watches.handle_describe(key, &table(RATE as u32));
    let bytes = |frame: &[f32]| -> Vec<u8> {
        let samples = frame.iter().map(|g| (1_000.0 * g) as i16);
        samples.flat_map(i16::to_le_bytes).collect()
    };
    let frames: Vec<Vec<u8>> = second.chunks(FRAME as usize).map(bytes).collect();
    for first in (0..SECONDS * RATE).step_by(FRAME as usize) {
        let waveform = Waveform {
            revision: 1,
            channel,
            first_sample: first,
            count: FRAME as u16,
            packing: Packing::I16,
            data: &frames[(first % RATE / FRAME) as usize],
        };
        let arrival = Arrival {
            ticks: NodeTicks(1_000_000 * first / RATE),
            fix: None,
            utc: EventTime((first * 1_000_000_000 / RATE) as i64),
            mono: Duration::ZERO,
        };
        watches.handle_waveform(key, &waveform, arrival);
        then(watches);
    }
    Ok(())
}

fn name() -> Result<(NodeId, ChannelId)> {
    let node = NodeId::new(1).context("1 is a node's id")?;
    Ok((node, ChannelId::new(0).context("0 is a channel")?))
}

/// Processor time of the search of one window of a second at 25.6 kHz, in which it finds a damaged race.
fn search_ms() -> Result<f64> {
    let motor = MachineSpec::motor(RATE as f64, 1).with_fault(Element::InnerRace, 1.0, 0.0);
    let mut second = vec![0.0; RATE as usize];
    SimMachine::new(motor).fill(&mut second);
    let search = BearingSearch {
        speed_tolerance: ShaftSpeed::FINE,
        bearing: motor.bearing.each(),
        neighbours: Default::default(),
        band_high_hz: 10_000.0,
    };
    let watch = Watch {
        speed_hz: Some(motor.shaft_hz as f32),
        ..watch()?
    };
    let mut watches = Watches::default();
    let (plan, searches) = (
        Plan::from([(name()?, watch)]),
        Searches::from([(name()?, search)]),
    );
    watches.configure(&plan, &searches, &Examinations::new(), Duration::ZERO);
    let mut analyzer = Analyzer::new();
    let mut spent_s = 0.0;
    play(&mut watches, &second, |watches| {
        while let Some(window) = watches.poll_search(Duration::ZERO) {
            let began = thread_s();
            let searched = window.run(&mut analyzer);
            spent_s += thread_s() - began;
            watches.handle_searched(&searched, Duration::ZERO, Duration::ZERO);
        }
    })?;
    let windows = watches.take_search_tally().searched;
    ensure!(windows == SECONDS, "{windows} of {SECONDS} windows were searched");
    let named = Condition::Bearing(Some(Element::InnerRace));
    let is_named = std::iter::from_fn(|| watches.poll()).any(|news| news.condition.condition == named);
    ensure!(is_named, "the damaged race was not named");
    Ok(1e3 * spent_s / windows as f64)
}

/// Processor time of one window of a second at 25.6 kHz: statistics, velocity and judgement.
fn window_ms() -> Result<f64> {
    let mut watches = Watches::default();
    let plan = Plan::from([(name()?, watch()?)]);
    watches.configure(&plan, &Searches::new(), &Examinations::new(), Duration::ZERO);
    let second: Vec<f32> = (0..RATE)
        .map(|n| sample_g(n as f64 / RATE as f64) as f32)
        .collect();
    let began = thread_s();
    play(&mut watches, &second, |_| {})?;
    let spent_s = thread_s() - began;
    let windows = watches.take_tally().windows;
    ensure!(windows == SECONDS, "{windows} of {SECONDS} windows were judged");
    ensure!(watches.poll().is_some(), "5 mm/s is in zone D and was not told");
    Ok(1e3 * spent_s / windows as f64)
}

fn watch() -> Result<Watch> {
    let severity = Severity {
        criterion: Criterion::of(STANDARD).context("the standard has limits")?,
        kind: FeatureKind::VelocityRms,
        unit: Some(Unit::MillimetrePerSecond),
        band_hz: Some([10.0, 1_000.0]),
        trip: None,
    };
    let watched = Watched {
        kind: FeatureKind::Rms,
        absolute: None,
        relative: Some(Relative::default()),
    };
    Ok(Watch {
        settings: Settings {
            severity: Some(severity),
            watched: [watched].into_iter().collect(),
            ..Settings::default()
        },
        gain: 1.0,
        speed_hz: Some(25.0),
        baselines: Default::default(),
        operation: Default::default(),
        slow: None,
    })
}

fn table(rate: u32) -> Describe {
    let channel = ChannelDescriptor {
        unit: Unit::StandardGravity,
        scale: 0.001,
        rate_mhz: 1_000 * rate,
        range: 16.0,
        band_low_hz: 1.0,
        band_high_hz: 10_000.0,
    };
    Describe {
        revision: 1,
        channels: [channel].into_iter().collect(),
    }
}

/// The real agent: from the last byte of a window to the advisory on its page and at its relay.
fn advisory_ms(dir: &Path) -> Result<f64> {
    const RATE_HZ: f64 = 12_800.0;
    std::fs::create_dir_all(dir)?;
    let file = dir.join("zone-d.f32");
    let samples = (0..RATE_HZ as u32).map(|n| sample_g(f64::from(n) / RATE_HZ) as f32);
    std::fs::write(&file, samples.flat_map(f32::to_le_bytes).collect::<Vec<u8>>())?;
    let node = NodeSpec {
        id: format!("{:016x}", 1),
        source: Source::Recording(file),
        rate_hz: RATE_HZ,
        range_g: 16.0,
        start_at_ms: 0,
    };
    let machine = machine(&node.id, RATE_HZ);
    let (site, asset) = (
        format!("id = \"{SITE}\"\n"),
        format!("id = \"{}\"\n", machine.asset),
    );
    let fleet = fleet_text(&[machine])
        .replacen(
            &site,
            &format!("{site}\n[[site.gateway]]\nid = \"{GATEWAY}\"\nwatch = \"on\"\n"),
            1,
        )
        .replacen(
            &asset,
            &format!("{asset}iso_group = 2\npower_kw = 75\nsupport = \"rigid\"\n"),
            1,
        );
    let mut plant = Plant::found(dir, &fleet)?;
    plant.start_collector()?;
    plant.start_endless_node(&node)?;
    plant.start_agent(std::slice::from_ref(&node))?;
    let raised = || plant.agent_metric("trunnion_agent_advisories_raised_total").ok();
    await_some(LIMIT, || raised().filter(|raised| *raised > 0.0)).context("no advisory was raised")?;
    watch_for(WATCHED);
    let longest = plant.agent_metric("trunnion_agent_advisory_max_seconds")?;
    plant.stop()?;
    Ok(1e3 * longest)
}
