//! Lines that speak nonsense, damage what they carry, or go away: what is broken is counted and named,
//! and what is whole is kept.

use rustix::fs::OFlags;
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use trunnion_common::codec::{LINE_FRAME_MAX, stuff};
use trunnion_common::frame::{Class, FRAME_MAX, Header, Payload, TimeReply, encode};
use trunnion_common::id::{BootId, LineAddress, NodeId};
use trunnion_common::time::NodeTicks;
use trunnion_common::version;
use trunnion_tests::plant::{Machine, NodeSpec, Plant, Source, fleet_text};
use trunnion_tests::process::await_some;
use trunnion_tests::pseudo_terminal::{PseudoTerminal, raw};

const LIMIT: Duration = Duration::from_secs(60);
const RATE_HZ: f64 = 12_000.0;
const NODE: &str = "00000000000000a1";
/// Whose line it is not, but the test's.
const NOISE: &str = "00000000000000ff";

/// A plant with one machine, and a recording of so many seconds for the node on it.
fn plant(dir: &Path, seconds: f64) -> (Plant, NodeSpec) {
    let machine = Machine {
        asset: "fan-1".to_owned(),
        node: NODE.to_owned(),
        rpm: 1_772.0,
        bearing: None,
        range_g: 16.0,
        band_high_hz: 4_000.0,
    };
    let plant = Plant::found(dir, &fleet_text(&[machine])).unwrap();
    (plant, node(dir, NODE, seconds))
}

fn node(dir: &Path, id: &str, seconds: f64) -> NodeSpec {
    let samples = dir.join(format!("{id}-{seconds}.f32"));
    let bytes: Vec<u8> = (0..(seconds * RATE_HZ) as u64)
        .flat_map(|i| ((i % 1_000) as f32 / 1_000.0).to_le_bytes())
        .collect();
    std::fs::write(&samples, bytes).unwrap();
    NodeSpec {
        id: id.to_owned(),
        source: Source::Recording(samples),
        rate_hz: RATE_HZ,
        range_g: 16.0,
        start_at_ms: 0,
    }
}

/// A pseudo-terminal under the name `link`: the side that the test speaks on, which waits, and the other one.
fn terminal(link: &Path) -> (File, OwnedFd) {
    let terminal = PseudoTerminal::open(link).unwrap();
    rustix::fs::fcntl_setfl(&terminal.master, OFlags::RDWR).unwrap();
    (terminal.master.into(), terminal.slave)
}

/// Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8(14), 2003; the seed is not 0.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A frame of a node that does not exist, ready for the line.
fn frame(version: u8) -> Vec<u8> {
    let header = Header {
        version,
        address: LineAddress(1),
        node: NodeId::new(0xff).unwrap(),
        boot: BootId::new(1, 1),
        class: Class::Essential,
        sequence: 0,
        ticks: NodeTicks(0x0101_0101),
    };
    let reply = Payload::TimeReply(TimeReply {
        request: 0x0101_0101,
        received: NodeTicks(0x0101_0101),
        sent: NodeTicks(0x0101_0101),
    });
    let (mut frame, mut line) = ([0; FRAME_MAX], [0; LINE_FRAME_MAX]);
    let frame = encode(&header, &reply, &mut frame).unwrap();
    stuff(frame, &mut line).unwrap().to_vec()
}

/// Waits until the ledger has all these samples and nothing is on its way; returns its totals.
fn settled(plant: &Plant, produced: u64) -> Value {
    let totals = await_some(LIMIT, || {
        let totals = plant.get("/api/v1/ledger").ok()?["totals"].clone();
        (totals["pending"] == 0 && totals["produced"].as_u64()? >= produced).then_some(totals)
    });
    totals.unwrap_or_else(|| panic!("{:?}", plant.get("/api/v1/ledger")))
}

fn drained(plant: &mut Plant) -> u64 {
    let node = plant.nodes.last_mut().unwrap();
    let report = node.await_line(LIMIT, |line| {
        let report: Value = serde_json::from_str(line).ok()?;
        (report["event"] == "drained").then_some(report)
    });
    report.unwrap()["produced"].as_u64().unwrap()
}

#[test]
fn a_line_of_garbage_is_counted_by_reason_and_costs_its_neighbour_nothing() {
    const ROUNDS: u64 = 200;
    let dir = tempfile::tempdir().unwrap();
    let (mut plant, good) = plant(dir.path(), 4.0);
    let (mut noise, _held) = terminal(&plant.line(NOISE));
    plant.start_collector().unwrap();
    plant.start_node(&good).unwrap();
    plant.start_agent(&[good, node(dir.path(), NOISE, 0.1)]).unwrap();

    let mut flipped = frame(version::FRAME);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x80;
    let broken = [
        ("bad_crc", flipped),
        ("bad_cobs", b"\x05ab\0".to_vec()),
        ("too_long", [&[0x55; 3 * FRAME_MAX][..], &[0]].concat()),
        ("too_short", b"\x02a\0".to_vec()),
        ("frame_version", frame(0xfe)),
    ];
    let mut dice = Noise(1);
    for _ in 0..ROUNDS {
        for (_, bytes) in &broken {
            noise.write_all(bytes).unwrap();
        }
        // Whatever these are, they end where the next frame begins.
        let mut garbage = [0; 64].map(|_: u8| dice.next() as u8);
        garbage[63] = 0;
        noise.write_all(&garbage).unwrap();
    }

    for (reason, _) in &broken {
        let name = format!("trunnion_agent_frames_broken_total{{reason=\"{reason}\"}}");
        let counted = await_some(LIMIT, || {
            plant.agent_metric(&name).ok().filter(|&n| n >= ROUNDS as f64)
        });
        assert!(counted.is_some(), "{reason}: {:?}", plant.agent_metric(&name));
    }
    let produced = drained(&mut plant);
    let totals = settled(&plant, produced);
    assert_eq!(totals["stored"], produced, "{totals}");
    assert_eq!(totals["unexplained"], 0, "{totals}");
    let log = plant.agent.as_ref().unwrap().log();
    let named = |line: &str| line.contains(NOISE) && line.contains("broken");
    assert!(log.lines().any(named), "the line is not named:\n{log}");
    assert!(
        !log.lines().any(|line| named(line) && line.contains(NODE)),
        "{log}"
    );
    assert!(!log.contains("panicked"), "{log}");
    plant.stop().unwrap();
}

/// Carries bytes one way, and spoils one of `every`, until either side is gone.
fn carry(mut from: File, mut to: File, every: u64, seed: u64) {
    std::thread::spawn(move || {
        let (mut dice, mut buffer) = (Noise(seed), [0; 4_096]);
        while let Ok(length) = from.read(&mut buffer) {
            for byte in &mut buffer[..length] {
                if dice.next() % every == 0 {
                    *byte ^= 1 << (dice.next() % 8);
                }
            }
            if length == 0 || to.write_all(&buffer[..length]).is_err() {
                return;
            }
        }
    });
}

#[test]
fn a_noisy_line_damages_frames_and_loses_no_sample() {
    // A frame of a kilobyte is damaged once in four times, either way.
    const EVERY: u64 = 4_000;
    let dir = tempfile::tempdir().unwrap();
    let (mut plant, spec) = plant(dir.path(), 6.0);
    plant.start_collector().unwrap();
    plant.start_node(&spec).unwrap();
    let (agent_side, _held) = terminal(&plant.line(NOISE));
    let node_side: File = raw(&plant.line(NODE)).unwrap().into();
    carry(
        node_side.try_clone().unwrap(),
        agent_side.try_clone().unwrap(),
        EVERY,
        1,
    );
    carry(agent_side, node_side, EVERY, 2);
    plant.start_agent(&[node(dir.path(), NOISE, 0.1)]).unwrap();

    let produced = drained(&mut plant);
    let totals = settled(&plant, produced);
    assert_eq!(totals["stored"], produced, "{totals}");
    assert_eq!(
        (&totals["lost"], &totals["unexplained"]),
        (&0.into(), &0.into()),
        "{totals}"
    );
    let broken = plant.agent_metric("trunnion_agent_frames_broken_total").unwrap();
    assert!(broken > 10.0, "the line was not noisy: {broken}");
    plant.stop().unwrap();
}

#[test]
fn a_node_unplugged_five_times_is_found_again_and_every_sample_is_accounted_for() {
    const UNPLUGGED: u64 = 5;
    let dir = tempfile::tempdir().unwrap();
    let (mut plant, long) = plant(dir.path(), 60.0);
    let short = node(dir.path(), NODE, 2.0);
    plant.start_collector().unwrap();
    plant.start_agent(std::slice::from_ref(&long)).unwrap();
    for boots in 1..=UNPLUGGED {
        plant.start_node(&long).unwrap();
        let heard = await_some(LIMIT, || {
            let ledger = plant.get("/api/v1/ledger").ok()?;
            let rows = ledger["rows"].as_array()?;
            let stored = rows.iter().filter(|row| row["stored"].as_u64() > Some(0));
            (stored.count() as u64 == boots).then_some(())
        });
        assert!(heard.is_some(), "boot {boots}: {:?}", plant.get("/api/v1/ledger"));
        plant.unplug_node(NODE).unwrap();
    }
    plant.start_node(&short).unwrap();
    let last = drained(&mut plant);
    let totals = settled(&plant, last);
    assert_eq!(totals["unexplained"], 0, "{totals}");
    let number = |key: &str| totals[key].as_u64().unwrap();
    assert_eq!(number("produced"), number("stored") + number("lost"), "{totals}");
    for (cause, _) in totals["lost_by_cause"].as_object().unwrap() {
        assert_eq!(cause, "node_reset", "{totals}");
    }
    let openings = plant.agent_metric("trunnion_agent_port_openings_total").unwrap();
    assert_eq!(openings, (UNPLUGGED + 1) as f64);
    let agent = plant.agent.as_mut().unwrap();
    assert!(
        agent.is_running() && !agent.log().contains("panicked"),
        "{}",
        agent.log()
    );
    plant.stop().unwrap();
}
