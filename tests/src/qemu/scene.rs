//! A plant whose one node is a microcontroller in QEMU: what it feels, what happens to it, and what the
//! collector says of that.

use super::{Qemu, Spec, Stimulus, Wiring};
use crate::host_node::{Motor, quantised};
use crate::plant::{Machine, NodeSpec, Plant, Source, fleet_text};
use crate::process::await_some;
use crate::record::{CwruRecord, Place, data_dir};
use crate::sim_machine::{SeededFault, SimMachine};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::cell::RefCell;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;
use trunnion_common::codec::crc32c;
use trunnion_diagnosis::bearing::Element;

/// How long anything may take on a busy machine; nothing here is asserted to be fast.
const LIMIT: Duration = Duration::from_secs(120);

/// The node's id.
const NODE: u64 = 0xA1;

/// The asset that it is mounted on.
pub const ASSET: &str = "fan-1";

/// The accelerometer's channel.
pub const VIBRATION: u64 = 0;

/// The thermometer's channel.
pub const TEMPERATURE: u64 = 1;

/// The thermometer's channel of a part with an accelerometer of three axes.
pub const BROKEN_TEMPERATURE: u64 = 3;
/// The current loop's.
pub const BROKEN_CURRENT: u64 = 4;
/// The tachometer's.
pub const BROKEN_SPEED: u64 = 5;

/// Its line, and how fast that is.
const WIRES: &str = "wires";
const BAUD: u32 = 921_600;

/// Speed that is declared of its shaft.
const BROKEN_RPM: f64 = 1_500.0;

/// Sample rate of the accelerometer, Hz.
pub const RATE_HZ: f64 = 12_000.0;

/// Its full scale, g.
pub const RANGE_G: f32 = 16.0;

/// What the accelerometer feels, over and over, and how fast the shaft turns meanwhile.
#[derive(Clone, Debug)]
pub struct Felt {
    /// The record.
    pub stimulus: Stimulus,
    /// Shaft speed.
    pub rpm: f64,
}

impl Felt {
    /// A record in g, taken at [`RATE_HZ`].
    fn new(samples: &[f32], rpm: f64) -> Self {
        let stimulus = Stimulus {
            samples: samples.iter().map(|value| quantised(*value, RANGE_G)).collect(),
            rate_mhz: NonZeroU32::new(RATE_HZ as u32 * 1_000).expect("not 0"),
            range_g: RANGE_G,
        };
        Self { stimulus, rpm }
    }

    /// Eight seconds of a simulated motor whose bearing has a spalled inner race.
    pub fn simulated() -> Self {
        let motor = Motor {
            seed: 7,
            fault: Some(SeededFault {
                element: Element::InnerRace,
                severity_g: 1.0,
                onset_s: 0.0,
            }),
            seconds: 8.0,
        };
        let spec = motor.spec(RATE_HZ);
        let rpm = 60.0 * spec.shaft_hz;
        let mut samples = vec![0.0; (motor.seconds * RATE_HZ) as usize];
        SimMachine::new(spec).fill(&mut samples);
        Self::new(&samples, rpm)
    }

    /// A real bearing with a spalled inner race where its record is, else the simulated one.
    pub fn spalled_inner_race() -> Self {
        let file = data_dir().join("cwru/12k_Drive_End_IR007_0_105.mat");
        let record = CwruRecord::read(&file).ok();
        let real = record.as_ref().and_then(|record| {
            let samples = record.channel(Place::DriveEnd)?;
            Some(Self::new(samples, 60.0 * record.shaft_hz()))
        });
        real.unwrap_or_else(Self::simulated)
    }
}

/// The unique id of a microcontroller that QEMU has besides, and the node's id that the image makes of it.
const PART: [u8; 12] = *b"trunnion f40";

fn id_of(mut part: [u8; 12]) -> u64 {
    let high = crc32c(&part);
    part.reverse();
    u64::from(high) << 32 | u64::from(crc32c(&part))
}

fn fleet(node: u64, rpm: f64, thermometer: u64) -> String {
    let machine = Machine {
        asset: ASSET.to_owned(),
        node: format!("{node:016x}"),
        rpm,
        bearing: Some("6205".to_owned()),
        range_g: RANGE_G,
        band_high_hz: 4_800.0,
    };
    let temperature = format!(
        "\n[[site.area.asset.point.channel]]\nid = \"t\"\nnode = \"{node:016x}\"\n\
         channel = {thermometer}\nquantity = \"temperature\"\nunit = \"degC\"\nrange = 128.0\n\
         band_hz = [0.0, 0.5]\n"
    );
    fleet_text(&[machine]) + &temperature
}

/// The plant and its node, both running.
pub struct Scene<'a> {
    /// Collector and agent.
    pub plant: Plant,
    /// The microcontroller.
    pub node: Qemu,
    has_left: RefCell<Box<dyn FnMut() -> bool + 'a>>,
}

impl<'a> Scene<'a> {
    /// Starts everything in `dir`. When `has_left` says that nobody looks any more, whatever is waited for ends
    /// as an error.
    pub fn begin(dir: &Path, image: &Path, felt: Felt, has_left: impl FnMut() -> bool + 'a) -> Result<Self> {
        let mut plant = Plant::found(dir, &fleet(NODE, felt.rpm, TEMPERATURE))?;
        plant.start_collector()?;
        let spec = Spec {
            node: NODE,
            entropy: 0x5EED,
            wiring: Wiring::Own,
            stimulus: felt.stimulus,
        };
        let id = format!("{NODE:016x}");
        let node = Qemu::start(&dir.join("node"), image, &spec, &plant.line(&id))?;
        let port = NodeSpec {
            id,
            source: Source::Recording(PathBuf::new()),
            rate_hz: RATE_HZ,
            range_g: RANGE_G,
            start_at_ms: 0,
        };
        plant.start_agent(&[port])?;
        let has_left = RefCell::new(Box::new(has_left) as Box<dyn FnMut() -> bool>);
        Ok(Self {
            plant,
            node,
            has_left,
        })
    }

    /// Starts a part whose instruments are all broken, and its crystal, too ([`Qemu::start_part`]), on wires that others
    /// could share.
    pub fn broken(dir: &Path, image: &Path) -> Result<Self> {
        let fleet = fleet(id_of(PART), BROKEN_RPM, BROKEN_TEMPERATURE);
        let mut plant = Plant::found(dir, &fleet)?;
        plant.start_collector()?;
        let node = Qemu::start_part(&dir.join("node"), image, PART, &plant.line(WIRES))?;
        plant.start_agent_on_wires(WIRES, BAUD)?;
        Ok(Self {
            plant,
            node,
            has_left: RefCell::new(Box::new(|| false)),
        })
    }

    /// What `seen` sees within the time that it may take.
    pub fn wait<T>(&self, what: &str, mut seen: impl FnMut() -> Option<T>) -> Result<T> {
        let mut has_left = self.has_left.borrow_mut();
        let found = await_some(LIMIT, || {
            if has_left() {
                return Some(None);
            }
            seen().map(Some)
        });
        match found {
            Some(Some(found)) => Ok(found),
            Some(None) => bail!("interrupted"),
            None => {
                let answers = ["ledger", "alarms", "advisories"];
                let told = answers.map(|what| self.plant.get(&format!("/api/v1/{what}")));
                bail!("{what} was waited for in vain: {told:#?}")
            }
        }
    }

    /// Lets time pass.
    pub fn let_pass(&mut self, time: Duration) -> Result<()> {
        let Self { node, has_left, .. } = self;
        let has_left = has_left.get_mut();
        let ended = await_some(time, || (has_left() || !node.is_running()).then_some(()));
        match ended {
            None => Ok(()),
            Some(()) => bail!("interrupted, or QEMU has ended"),
        }
    }

    /// The ledger.
    pub fn ledger(&self) -> Result<Value> {
        self.plant.get("/api/v1/ledger")
    }

    /// The ledger's rows of a channel, one for each boot.
    pub fn rows(&self, channel: u64) -> Result<Vec<Value>> {
        let ledger = self.ledger()?;
        let rows = ledger["rows"].as_array().context("the ledger has rows")?.iter();
        Ok(rows.filter(|row| row["channel"] == channel).cloned().collect())
    }

    /// Samples of a channel that the collector has.
    pub fn stored(&self, channel: u64) -> Result<u64> {
        let rows = self.rows(channel)?;
        Ok(rows.iter().filter_map(|row| row["stored"].as_u64()).sum())
    }

    /// Waits until the collector has so many samples of a channel.
    pub fn await_stored(&self, channel: u64, least: u64) -> Result<()> {
        let what = format!("{least} samples of channel {channel}");
        self.wait(&what, || {
            self.stored(channel)
                .is_ok_and(|stored| stored >= least)
                .then_some(())
        })
    }

    /// Waits until it has so many more.
    pub fn await_more(&self, channel: u64, samples: u64) -> Result<()> {
        self.await_stored(channel, self.stored(channel)? + samples)
    }

    /// Waits until the node's life of this number has been heard.
    pub fn await_boot(&self, number: usize) -> Result<()> {
        let what = format!("boot {number}");
        self.wait(&what, || {
            self.rows(VIBRATION)
                .is_ok_and(|rows| rows.len() >= number)
                .then_some(())
        })
    }

    /// Waits for an alarm of a kind.
    pub fn await_alarm(&self, kind: &str) -> Result<Value> {
        self.wait(kind, || self.entry("alarms", |alarm| alarm["kind"] == kind))
    }

    /// Waits for an alarm of a kind on a channel.
    pub fn await_alarm_of(&self, kind: &str, channel: u64) -> Result<Value> {
        self.wait(&format!("{kind} on channel {channel}"), || {
            self.entry("alarms", |alarm| {
                alarm["kind"] == kind && alarm["channel"] == channel
            })
        })
    }

    /// Waits for an advisory that names a bearing's element.
    pub fn await_element(&self) -> Result<Value> {
        self.wait("an advisory of the bearing", || {
            self.entry("advisories", |advisory| advisory["element"].is_string())
        })
    }

    fn entry(&self, list: &str, is_it: impl Fn(&Value) -> bool) -> Option<Value> {
        let told = self.plant.get(&format!("/api/v1/{list}")).ok()?;
        told[list].as_array()?.iter().find(|entry| is_it(entry)).cloned()
    }

    /// Waits until every sample of every boot is stored, waits somewhere, or is lost for a cause.
    pub fn await_balance(&self) -> Result<()> {
        self.wait("the balance", || {
            let ledger = self.ledger().ok()?;
            let unexplained = &ledger["totals"]["unexplained"];
            (ledger["balanced"] == true && *unexplained == 0).then_some(())
        })
    }

    /// Frames that the agent has heard and could not read.
    pub fn broken_frames(&self) -> Result<u64> {
        Ok(self.plant.agent_metric("trunnion_agent_frames_broken_total")? as u64)
    }
}
