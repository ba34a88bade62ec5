//! The line to the collector, or the broker on it, fails again and again under load, and nothing is lost.
//!
//! Outages come in bouts, and everything catches up between them. A bout of partitions plays each way in
//! which lines fail; a bout of broker kills strikes while data flows, while gateway and collector
//! connect, and while the backlog drains. A thin line is bad all the time, and must still carry what is
//! produced. What is proven at the end is told by the three witnesses of
//! [`crate::load`].

use crate::load::{Load, Size, Verdict, wait};
use crate::plant::{Broker, Way};
use crate::proxy::{Conditions, Passage, Proxy};
use crate::sim_machine::Chance;
use anyhow::{Result, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What is to happen, and by which dice.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Outages in all.
    pub count: u32,
    /// Decides every kind and delay.
    pub seed: u64,
}

/// How it ended.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Report {
    /// The dice.
    pub seed: u64,
    /// Outages by kind.
    pub outages: BTreeMap<&'static str, u32>,
    /// Connections that the agent made, as it counts them.
    pub connections: u64,
    /// Segments that the line lost and that were sent again.
    pub segments_lost: u64,
    /// Length of the run, seconds.
    pub seconds: f64,
    /// What became of the samples.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Outages in a bout.
const BOUT: u32 = 10;

/// How a line fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// Cut, and open again at once.
    Cut,
    /// Cut, and nobody gets through for a while.
    Refusal,
    /// Nothing passes for a while, then all of it.
    Stall,
    /// Nothing passes for so long that both sides give up, then all of it.
    LongStall,
    /// Dead at the collector's end only.
    HalfOpen,
    /// Blocks arrive, and no acknowledgement, then it is cut.
    Mute,
    /// Long and thin for a while, then cut in the middle of what is on it.
    Thin,
}

impl Fault {
    /// Mostly the quick ones: a partition that is noticed by its silence alone takes up to half a
    /// minute.
    const TURNS: [Self; 20] = [
        Self::Cut,
        Self::Stall,
        Self::Refusal,
        Self::Mute,
        Self::Thin,
        Self::Cut,
        Self::Refusal,
        Self::Mute,
        Self::Cut,
        Self::HalfOpen,
        Self::Stall,
        Self::Cut,
        Self::Refusal,
        Self::Thin,
        Self::Mute,
        Self::Cut,
        Self::Stall,
        Self::Refusal,
        Self::Cut,
        Self::LongStall,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Refusal => "refusal",
            Self::Stall => "stall",
            Self::LongStall => "long_stall",
            Self::HalfOpen => "half_open",
            Self::Mute => "mute",
            Self::Thin => "thin",
        }
    }
}

/// One partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Partition {
    fault: Fault,
    /// How long the line has been whole before.
    after: Duration,
    /// How long it lasts.
    lasts: Duration,
}

/// The partitions of a run, bout by bout. Pure.
fn plan(options: &Options) -> Vec<Vec<Partition>> {
    let mut chance = Chance::new(options.seed);
    let mut millis =
        |least: u64, most: u64| Duration::from_millis(least + chance.next() % (most - least + 1));
    let partitions: Vec<Partition> = Fault::TURNS
        .iter()
        .cycle()
        .take(options.count as usize)
        .map(|&fault| Partition {
            fault,
            after: millis(0, 1_500),
            lasts: match fault {
                Fault::Cut => Duration::ZERO,
                Fault::Refusal | Fault::Mute => millis(100, 1_500),
                Fault::Stall | Fault::Thin => millis(200, 2_500),
                Fault::LongStall => millis(22_000, 30_000),
                Fault::HalfOpen => millis(100, 1_000),
            },
        })
        .collect();
    partitions
        .chunks(BOUT as usize)
        .map(<[Partition]>::to_vec)
        .collect()
}

/// Partitions between agent and door.
pub fn partitions(dir: &Path, options: &Options, mut progress: impl FnMut(&str)) -> Result<Report> {
    progress(&format!("{} partitions, seed {}", options.count, options.seed));
    let proxy = Proxy::start()?;
    let load = Load::start_through(dir, options.seed, Size::default(), Broker::Embedded, &proxy)?;
    let mut report = Report {
        seed: options.seed,
        ..Report::default()
    };
    for bout in plan(options) {
        for partition in &bout {
            wait(partition.after);
            strike(&proxy, partition);
            *report.outages.entry(partition.fault.label()).or_default() += 1;
        }
        load.await_caught_up()?;
        progress(&format!(
            "{} of {} partitions, caught up after {:.0} s",
            report.outages.values().sum::<u32>(),
            options.count,
            load.seconds()
        ));
    }
    close(load, report)
}

fn strike(proxy: &Proxy, partition: &Partition) {
    match partition.fault {
        Fault::Cut => {}
        Fault::Refusal => {
            proxy.set_passage(Passage::Refusing);
            proxy.cut();
        }
        Fault::Stall | Fault::LongStall => proxy.set_passage(Passage::Stalled),
        Fault::HalfOpen => proxy.set_passage(Passage::GatewayHalfOpen),
        Fault::Mute => proxy.set_passage(Passage::Mute),
        Fault::Thin => proxy.set(Conditions {
            delay: Duration::from_millis(500),
            bytes_per_second: Some(8_000),
            ..Conditions::default()
        }),
    }
    wait(partition.lasts);
    if matches!(partition.fault, Fault::Cut | Fault::Mute | Fault::Thin) {
        proxy.cut();
    }
    proxy.set(Conditions::default());
}

/// SIGKILLs of a mosquitto between agent and collector.
pub fn broker_kills(dir: &Path, options: &Options, mut progress: impl FnMut(&str)) -> Result<Report> {
    progress(&format!(
        "{} kills of the broker, seed {}",
        options.count, options.seed
    ));
    let way = Way {
        broker: Broker::Mosquitto,
        dialled: None,
    };
    let mut load = Load::start(dir, options.seed, Size::default(), way)?;
    let mut report = Report {
        seed: options.seed,
        ..Report::default()
    };
    let mut chance = Chance::new(options.seed);
    for number in 1..=options.count {
        // Right after a start both sides connect; later data flows, or the backlog drains.
        let most = if number % 3 == 0 { 300 } else { 3_000 };
        wait(Duration::from_millis(chance.next() % (most + 1)));
        let broker = load.plant.broker.as_mut();
        ensure!(
            broker.is_some_and(|broker| broker.is_running()),
            "mosquitto had ended before it was killed"
        );
        load.plant.kill_and_restart_broker()?;
        *report.outages.entry("broker_kill").or_default() += 1;
        if number % BOUT == 0 || number == options.count {
            load.await_caught_up()?;
            progress(&format!(
                "{number} of {} kills of the broker, caught up after {:.0} s",
                options.count,
                load.seconds()
            ));
        }
    }
    close(load, report)
}

/// A line that is long, lossy and thin: half a second each way, a fifth of the segments lost, 64 kbit/s.
pub const THIN: Conditions = Conditions {
    passage: Passage::Open,
    delay: Duration::from_millis(500),
    bytes_per_second: Some(8_000),
    loss_percent: 20,
};

/// What is produced at a thin line: half of what it can carry.
const THIN_LOAD: Size = Size {
    nodes: 2,
    rate_hz: 1_000.0,
};

/// From one look at a thin line to the next.
const LOOK: Duration = Duration::from_secs(60);

/// A thin line between agent and door for so many minutes. The first connection over it is made anew, and
/// at every look everything produced until then has to come through.
pub fn thin_line(dir: &Path, seed: u64, minutes: u32, mut progress: impl FnMut(&str)) -> Result<Report> {
    progress(&format!("{minutes} minutes of a thin line, seed {seed}"));
    let proxy = Proxy::start()?;
    let load = Load::start_through(dir, seed, THIN_LOAD, Broker::Embedded, &proxy)?;
    proxy.set(THIN);
    proxy.cut();
    let mut report = Report {
        seed,
        ..Report::default()
    };
    for minute in 1..=minutes {
        wait(LOOK);
        load.await_caught_up()?;
        *report.outages.entry("thin_minute").or_default() += 1;
        progress(&format!(
            "{minute} of {minutes} minutes, {} segments lost, caught up after {:.0} s",
            proxy.lost(),
            load.seconds()
        ));
    }
    report.segments_lost = proxy.lost();
    close(load, report)
}

fn close(load: Load, mut report: Report) -> Result<Report> {
    report.connections = load.plant.agent_metric("trunnion_agent_connections_total")? as u64;
    report.seconds = load.seconds();
    report.verdict = load.finish()?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_depends_on_the_seed_alone_and_has_every_fault() {
        let options = Options { count: 25, seed: 4 };
        let bouts = plan(&options);
        assert_eq!(bouts, plan(&options));
        assert_ne!(bouts, plan(&Options { seed: 5, ..options }));
        assert_eq!(bouts.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
        let labels: std::collections::BTreeSet<_> = bouts
            .concat()
            .iter()
            .map(|partition| partition.fault.label())
            .collect();
        assert_eq!(labels.len(), 7);
    }
}
