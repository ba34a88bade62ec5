//! An agent: the real gateway state machine between simulated ports, spool and connection.

use super::chance::Chance;
use super::faults::FaultCounts;
use super::sim_spool::{SimSpool, SpoolImage};
use super::{EPOCH_UTC, Mutant};
use rustls::pki_types::PrivatePkcs8KeyDer;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use trunnion_agent::block::BlockKey;
use trunnion_agent::clock::Now;
use trunnion_agent::config::{BlockLimits, Config, PortConfig, RETENTION};
use trunnion_agent::drain::{Drain, Order};
use trunnion_agent::enrolment::Enrolment;
use trunnion_agent::gateway::{Action, Gateway};
use trunnion_agent::metrics::Metrics;
use trunnion_agent::mqtt::MqttEvent;
use trunnion_agent::port::PortEvent;
use trunnion_agent::spool::Reply;
use trunnion_common::ack::FORMER_STARTS_MAX;
use trunnion_common::id::{Epoch, GatewayId, MasterId, Name};
use trunnion_common::time::{ClockQuality, EventTime};

/// A gateway of the plant, through all lives of its agent.
#[derive(Debug)]
pub(super) struct SimGateway {
    config: Config,
    pub(super) spool: SimSpool,
    /// Whether no connection can be made.
    pub(super) is_partitioned: bool,
    /// When the agent wants to be polled.
    pub(super) wake: Option<Duration>,
    life: u64,
    /// What the file of starts says, newest first.
    starts: Vec<MasterId>,
    /// Those that have said Hello, and of those the ones that went with a disk.
    heard: BTreeSet<MasterId>,
    vanished: BTreeSet<MasterId>,
    /// Of its disk, to be put back to.
    image: Option<Image>,
    agent: Option<Agent>,
    utc: i64,
    quality: ClockQuality,
}

#[derive(Debug)]
struct Image {
    spool: SpoolImage,
    starts: Vec<MasterId>,
}

#[derive(Debug)]
struct Agent {
    gateway: Gateway,
    started: Duration,
}

impl SimGateway {
    /// Switched off, with an empty spool. Some gateways do not know the date.
    pub(super) fn new(number: usize, ports: usize, chance: &mut Chance, mutant: Option<Mutant>) -> Self {
        let name = |text: &str| Name::new(text).expect("a plain name");
        let port = |port: usize| PortConfig {
            path: format!("line-{port}").into(),
            baud: 921_600,
            wiring: Default::default(),
        };
        Self {
            config: Config {
                enrolment: Enrolment {
                    gateway: GatewayId {
                        site: name("plant"),
                        gateway: name(&format!("gw-{number}")),
                    },
                    endpoints: Vec::new(),
                    ca: Vec::new(),
                    certificate: Vec::new(),
                    key: Arc::new(PrivatePkcs8KeyDer::from(Vec::new()).into()),
                },
                state_dir: "nowhere".into(),
                ports: (0..ports).map(port).collect(),
                block: BlockLimits {
                    bytes: 4_096 << chance.below(5),
                    age: chance.millis(20, 300),
                },
                flash_endurance_bytes: None,
                relay: None,
                metrics_listen: None,
                retention: RETENTION,
                drain: draw_drain(chance),
                derive: trunnion_agent::config::DERIVE,
                poll_interval: chance.millis(50, 300),
                clock_sync_interval: Duration::from_secs(5),
                heartbeat_interval: Duration::from_secs(10),
            },
            spool: SimSpool::new(chance.split(), mutant),
            is_partitioned: false,
            wake: None,
            life: 0,
            starts: Vec::new(),
            heard: BTreeSet::new(),
            vanished: BTreeSet::new(),
            image: None,
            agent: None,
            utc: if chance.one_in(4) { 0 } else { EPOCH_UTC },
            quality: ClockQuality::Free,
        }
    }

    pub(super) fn id(&self) -> GatewayId {
        self.config.enrolment.gateway.clone()
    }

    pub(super) fn start(&mut self, chance: &mut Chance, now: Duration) {
        self.life += 1;
        let recovered = self.spool.recover([Epoch(chance.next()), Epoch(chance.next())]);
        let master = MasterId(chance.next());
        let started = Now {
            mono: Duration::ZERO,
            utc: self.utc(now),
        };
        let mut gateway = Gateway::new(&self.config, recovered, master, Metrics::default(), started);
        gateway.handle_former_starts(self.starts.clone());
        self.starts.insert(0, master);
        self.starts.truncate(FORMER_STARTS_MAX);
        gateway.handle_quality(self.quality);
        self.agent = Some(Agent {
            gateway,
            started: now,
        });
    }

    pub(super) fn crash(&mut self, faults: &mut FaultCounts) {
        self.agent = None;
        self.wake = None;
        self.spool.crash(faults);
    }

    /// The agent ends in good order, with all on disk.
    pub(super) fn stop(&mut self) {
        self.agent = None;
        self.wake = None;
        self.spool.stop();
    }

    /// Makes an image of the disk, unless there is one.
    pub(super) fn take_image(&mut self) -> bool {
        let is_first = self.image.is_none();
        if is_first {
            self.image = Some(Image {
                spool: self.spool.image(),
                starts: self.starts.clone(),
            });
        }
        is_first
    }

    /// Puts the image in the place of the disk, while no agent runs.
    pub(super) fn restore(&mut self, faults: &mut FaultCounts) {
        if let Some(image) = self.image.take() {
            self.spool.restore(image.spool, faults);
            self.starts = image.starts;
            self.vanished = self.heard.clone();
            self.vanished.retain(|start| !self.starts.contains(start));
        }
    }

    /// A start says Hello.
    pub(super) fn note_start(&mut self, start: MasterId) {
        self.heard.insert(start);
    }

    /// Whether a start went with a disk that was put back to an image from before it.
    pub(super) fn has_vanished(&self, start: MasterId) -> bool {
        self.vanished.contains(&start)
    }

    pub(super) const fn is_running(&self) -> bool {
        self.agent.is_some()
    }

    /// Counts the agent's starts: what was meant for another life is not for this one.
    pub(super) const fn life(&self) -> u64 {
        self.life
    }

    /// Sets the gateway's clock off by so much, nanoseconds.
    pub(super) fn set_clock(&mut self, jump: i64, quality: ClockQuality) {
        self.utc = EPOCH_UTC.saturating_add(jump);
        self.quality = quality;
        if let Some(agent) = &mut self.agent {
            agent.gateway.handle_quality(quality);
        }
    }

    pub(super) fn handle_port(&mut self, port: usize, event: PortEvent, now: Duration) {
        self.with(now, |gateway, now| gateway.handle_port(port, event, now));
    }

    /// Bytes from a line.
    pub(super) fn handle_bytes(&mut self, port: usize, bytes: Vec<u8>, now: Duration) {
        self.with(now, |gateway, now| {
            gateway.handle_port(port, PortEvent::Bytes(bytes.into(), now), now);
        });
    }

    pub(super) fn handle_spool(&mut self, reply: Reply, now: Duration) {
        self.with(now, |gateway, now| gateway.handle_spool(reply, now));
    }

    pub(super) fn handle_mqtt(&mut self, connection: u64, event: MqttEvent, random: u32, now: Duration) {
        self.with(now, |gateway, now| {
            gateway.handle_mqtt(connection, event, random, now);
        });
    }

    pub(super) fn handle_not_taken(&mut self, key: BlockKey, now: Duration) {
        self.with(now, |gateway, now| gateway.handle_not_taken(key, now));
    }

    pub(super) fn poll(&mut self, now: Duration) -> Option<Action> {
        let mut action = None;
        self.with(now, |gateway, now| action = gateway.poll(now));
        action
    }

    /// Looks when the agent wants to be polled next, not before `earliest`.
    pub(super) fn note_wake(&mut self, earliest: Duration) {
        self.wake = self.agent.as_ref().map(|agent| {
            let next = agent.started.saturating_add(agent.gateway.next_timeout());
            next.max(earliest)
        });
    }

    /// For a person who looks at a world that went wrong.
    pub(super) fn describe(&self) -> String {
        format!(
            "{} running: {}, in the spool: {}",
            self.id(),
            self.is_running(),
            self.spool.describe()
        )
    }

    fn with(&mut self, now: Duration, act: impl FnOnce(&mut Gateway, Now)) {
        let utc = self.utc(now);
        if let Some(agent) = &mut self.agent {
            let mono = now - agent.started;
            act(&mut agent.gateway, Now { mono, utc });
        }
    }

    fn utc(&self, now: Duration) -> EventTime {
        EventTime(self.utc.saturating_add(now.as_nanos() as i64))
    }
}

/// Some call a block history after a moment, others after a minute; some send the newest first.
fn draw_drain(chance: &mut Chance) -> Drain {
    let pick = |chance: &mut Chance, end| chance.below(end) as usize;
    Drain {
        live_age: [60_000, 1_000, 150].map(Duration::from_millis)[pick(chance, 3)],
        live_share_percent: [80, 50, 95][pick(chance, 3)],
        order: Order::ALL[pick(chance, 2)],
        backfill_bytes_s: [None, Some(64 * 1_024)][pick(chance, 2)],
    }
}
