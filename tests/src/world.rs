//! The whole system in one process, under one virtual clock and a seed.
//!
//! ```text
//! SimNode (real node) =line, noise=> real gateway =network, broker=> real ingest -> real journal -> real pipeline
//!                                      |    ^                                          |
//!                                      v    |                                          v
//!                                     SimSpool                                      SimDisk
//! ```
//!
//! The state machines are the product's. Simulated are what surrounds them: lines, spool thread,
//! network, broker and the journal's disk, each with the faults of its kind. For a while faults come as
//! the seed has it; then all is well, and the world must come to rest with everything that was promised
//! kept: the [`Reference`] says what that is.
//!
//! The same seed gives the same world again, event by event.

pub mod chance;
mod clocks;
pub mod faults;
mod judgement;
mod narration;
mod network;
pub mod returns;
pub mod sim_collector;
pub mod sim_disk;
mod sim_gateway;
pub mod sim_node;
mod sim_room;
pub mod sim_spool;
mod trouble;

use crate::node_memory::NodeMemory;
use crate::reference::{Destroyed, Record, Reference};
use anyhow::{Context, Result};
use bytes::Bytes;
use chance::Chance;
use faults::{Fault, FaultCounts, Weather};
use sim_collector::SimCollector;
use sim_gateway::SimGateway;
use sim_node::{SAMPLING, SimNode, draw_memory};
use std::collections::BTreeMap;
use std::time::Duration;
use trunnion_agent::block::BlockKey;
use trunnion_agent::gateway::Action;
use trunnion_agent::mqtt::MqttEvent;
use trunnion_agent::port::PortEvent;
use trunnion_agent::spool::Reply;
use trunnion_common::ack::Ack;
use trunnion_common::block::Lane;
use trunnion_common::id::{BootId, NodeId};
use trunnion_common::message;
use trunnion_common::time::EventTime;
use trunnion_common::topic::Kind;

/// When worlds begin.
const EPOCH_UTC: i64 = 1_700_000_000_000_000_000;

/// Lives that a node can have.
const LIVES_MAX: usize = 6;

/// How long faults come.
const TROUBLE: Duration = Duration::from_secs(24);

/// How long nodes go on sampling after that.
const AFTERMATH: Duration = Duration::from_secs(2);

/// How long the world may take to come to rest: a node obeys a new master after 10 s, an agent waits up
/// to 30 s between connections and 10 s for an acknowledgement, and these may follow each other.
const REST: Duration = Duration::from_secs(180);

/// From one look at whether it has to the next.
const LOOK: Duration = Duration::from_secs(1);

/// Looks in a row at which it must have: by the second one every agent has reported what it holds once
/// more, and by the third that report has come through.
const RESTED: u32 = 3;

/// From one checkpoint of the pipeline to the next.
const CHECKPOINT: Duration = Duration::from_secs(5);

/// The collector looks for commands and the time at least this often.
const IDLE_TURN: Duration = Duration::from_millis(250);

/// The least time from one wake-up to the next, so that a deadline in the past cannot stop the clock.
const STEP_MIN: Duration = Duration::from_micros(200);

/// A rule broken on purpose, to see that the world notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// The spool confirms a commit before it is on disk.
    AckBeforeFlush,
    /// The spool deletes a block when it has been read to be sent.
    DeleteBeforeAck,
    /// The spool keeps the intake's sequence sets at once, and their blocks with the commit.
    CursorsOutsideCommit,
    /// The collector keeps the sequence set of blocks apart from the journal.
    SetOutsideCommit,
    /// The spool removes a directory and tells nobody, so that it gets no tombstones.
    EvictWithoutTombstone,
    /// A block that is sent again goes in the other lane.
    LaneChangesOnResend,
}

/// How a world ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which world.
    pub seed: u64,
    /// Promises that were not kept; there should be none.
    pub violations: Vec<String>,
    /// What went wrong on purpose.
    pub faults: FaultCounts,
    /// Samples that nodes produced.
    pub samples_produced: u64,
    /// Samples that nodes were told are safe.
    pub samples_safe: u64,
    /// Samples in the journal, each counted once.
    pub samples_stored: u64,
    /// Virtual time from the first event to the last.
    pub lasted: Duration,
    /// Events played.
    pub events: u64,
}

/// Plays the world of a seed, with a rule broken if wanted. An error is one of the machine it runs on.
pub fn play(seed: u64, mutant: Option<Mutant>) -> Result<Outcome> {
    play_out(seed, mutant, |world| world.judge(seed))
}

/// Plays the world of a seed; a line for everything that its journal says of a node, counted from 1.
pub fn narrate(seed: u64, node: u64) -> Result<Vec<String>> {
    let node = NodeId::new(node).context("no node is 0")?;
    play_out(seed, None, |world| {
        Ok(narration::tell(&world.collector.commits()?, node))
    })
}

fn play_out<T>(seed: u64, mutant: Option<Mutant>, end: impl FnOnce(World<'_>) -> Result<T>) -> Result<T> {
    set_out(seed, mutant, |mut world| {
        world.run()?;
        end(world)
    })
}

fn set_out<T>(seed: u64, mutant: Option<Mutant>, play: impl FnOnce(World<'_>) -> Result<T>) -> Result<T> {
    let mut chance = Chance::new(seed);
    let gateways = 1 + chance.below(2) as usize;
    let nodes = gateways * (1 + chance.below(2) as usize);
    let mut memories: Vec<NodeMemory> = (0..nodes * LIVES_MAX).map(|_| draw_memory(&mut chance)).collect();
    play(World::new(chance, gateways, nodes, memories.iter_mut(), mutant)?)
}

/// What is going to happen.
#[derive(Debug)]
enum Event {
    Sample {
        line: usize,
    },
    ToNode {
        line: usize,
        bytes: Vec<u8>,
    },
    ToAgent {
        line: usize,
        bytes: Vec<u8>,
    },
    LineBack {
        line: usize,
    },
    Served {
        gateway: usize,
        life: u64,
    },
    Mqtt {
        session: u64,
        event: MqttEvent,
    },
    Uplink {
        session: u64,
        kind: Kind,
        payload: Bytes,
        late: bool,
    },
    Downlink {
        session: u64,
        kind: Kind,
        payload: Bytes,
    },
    SpoolRoom {
        gateway: usize,
    },
    DiskRoom {
        gateway: usize,
    },
    PartitionOver {
        gateway: usize,
    },
    AgentStart {
        gateway: usize,
    },
    CollectorStart,
    Turn,
    JournalRoom,
    Checkpoint,
    Trouble,
}

/// A connection between an agent and the broker.
#[derive(Debug)]
struct Session {
    gateway: usize,
    life: u64,
    /// The agent's own number of it.
    connection: u64,
    is_up: bool,
    is_subscribed: bool,
    /// What is sent arrives in order: not before this, up and down.
    free: [Duration; 2],
}

struct World<'m> {
    now: Duration,
    chance: Chance,
    weather: Weather,
    is_calm: bool,
    faults: FaultCounts,
    queue: BTreeMap<(Duration, u64), Event>,
    events: u64,
    nodes: Vec<SimNode<'m>>,
    lines: Vec<SimLine>,
    memories: std::slice::IterMut<'m, NodeMemory>,
    gateways: Vec<SimGateway>,
    /// By gateway, life and block: the lane in which it was first sent.
    lanes: BTreeMap<(usize, u64, BlockKey), Lane>,
    mutant: Option<Mutant>,
    sessions: BTreeMap<u64, Session>,
    collector: SimCollector,
    collector_utc: i64,
    turn_at: Option<Duration>,
    stalled_until: Duration,
    reference: Reference,
    /// What went with the collector's disk.
    destroyed: Destroyed,
    violations: Vec<String>,
}

/// The wire between a node and its agent.
#[derive(Debug)]
struct SimLine {
    gateway: usize,
    /// Its position among the ports of the gateway.
    port: usize,
    is_cut: bool,
    /// Bytes arrive in order: not before this, to the node and to the agent.
    free: [Duration; 2],
    wake: Option<Duration>,
}

impl<'m> World<'m> {
    fn new(
        mut chance: Chance,
        gateways: usize,
        nodes: usize,
        memories: std::slice::IterMut<'m, NodeMemory>,
        mutant: Option<Mutant>,
    ) -> Result<Self> {
        let weather = Weather::draw(&mut chance);
        let ports = nodes / gateways;
        let mut world = Self {
            now: Duration::ZERO,
            is_calm: false,
            faults: FaultCounts::default(),
            queue: BTreeMap::new(),
            events: 0,
            nodes: Vec::new(),
            lines: Vec::new(),
            memories,
            gateways: (0..gateways)
                .map(|number| SimGateway::new(number, ports, &mut chance, mutant))
                .collect(),
            lanes: BTreeMap::new(),
            mutant,
            sessions: BTreeMap::new(),
            collector: SimCollector::new(chance.split(), mutant)?,
            collector_utc: EPOCH_UTC,
            turn_at: None,
            stalled_until: Duration::ZERO,
            reference: Reference::default(),
            destroyed: Destroyed::default(),
            violations: Vec::new(),
            weather,
            chance,
        };
        for line in 0..nodes {
            world.lines.push(SimLine {
                gateway: line / ports,
                port: line % ports,
                is_cut: false,
                free: [Duration::ZERO; 2],
                wake: None,
            });
            let id = NodeId::new(line as u64 + 1).context("no node is 0")?;
            let node = world.boot(id, 1).context("there is memory for first lives")?;
            world.nodes.push(node);
            world.after(SAMPLING, Event::Sample { line });
            world.pump_node(line);
        }
        world.set_weather();
        world.start_collector()?;
        for gateway in 0..gateways {
            world.start_agent(gateway);
        }
        world.after(CHECKPOINT, Event::Checkpoint);
        let first = world.chance.millis(500, 2_000);
        world.after(first, Event::Trouble);
        Ok(world)
    }

    /// Plays until the world has come to rest, or should have.
    fn run(&mut self) -> Result<()> {
        self.run_until(TROUBLE)?;
        self.calm()?;
        self.run_until(TROUBLE + AFTERMATH)?;
        let mut look = TROUBLE + AFTERMATH;
        let mut rested = 0;
        let mut before = self.spooled();
        while rested < RESTED {
            look += LOOK;
            self.run_until(look)?;
            let spooled = self.spooled();
            let is_moving = spooled.is_disjoint(&before);
            rested = if is_moving && self.is_at_rest() {
                rested + 1
            } else {
                0
            };
            before = spooled;
            if look > TROUBLE + AFTERMATH + REST {
                let state = self.unrest();
                self.violations
                    .push(format!("the world does not come to rest: {state}"));
                return Ok(());
            }
        }
        Ok(())
    }

    fn run_until(&mut self, end: Duration) -> Result<()> {
        loop {
            let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
            let nodes = self.lines.iter().filter_map(|line| line.wake);
            let gateways = self.gateways.iter().filter_map(|gateway| gateway.wake);
            let Some(next) = nodes.chain(gateways).chain(queued).min().filter(|at| *at <= end) else {
                self.now = end;
                return Ok(());
            };
            self.now = self.now.max(next);
            self.events += 1;
            if queued == Some(next) {
                if let Some((_, event)) = self.queue.pop_first() {
                    self.handle(event)?;
                }
            } else if let Some(line) = self.lines.iter().position(|line| line.wake == Some(next)) {
                self.pump_node(line);
            } else if let Some(gateway) = self.gateways.iter().position(|g| g.wake == Some(next)) {
                self.pump_agent(gateway);
            }
        }
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, at: Duration, event: Event) {
        // The count keeps events of one instant in the order in which they were made.
        self.events += 1;
        self.queue.insert((at, self.events), event);
    }

    fn handle(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Sample { line } => self.sample(line),
            Event::ToNode { line, bytes } => {
                if !self.lines[line].is_cut {
                    self.nodes[line].handle_bytes(self.now, &bytes);
                    self.observe_node(line, false);
                    self.pump_node(line);
                }
            }
            Event::ToAgent { line, bytes } => {
                let SimLine {
                    gateway,
                    port,
                    is_cut,
                    ..
                } = self.lines[line];
                if !is_cut {
                    self.gateways[gateway].handle_bytes(port, bytes, self.now);
                    self.pump_agent(gateway);
                }
            }
            Event::LineBack { line } => {
                let SimLine { gateway, port, .. } = self.lines[line];
                self.lines[line].is_cut = false;
                self.gateways[gateway].handle_port(port, PortEvent::Opened, self.now);
                self.pump_agent(gateway);
            }
            Event::Served { gateway, life } => self.serve(gateway, life),
            Event::Mqtt { session, event } => self.handle_mqtt(session, event),
            Event::Uplink {
                session,
                kind,
                payload,
                late,
            } => self.handle_uplink(session, kind, payload, late),
            Event::Downlink {
                session,
                kind,
                payload,
            } => {
                if self.sessions.get(&session).is_some_and(|session| session.is_up) {
                    self.handle_mqtt(session, MqttEvent::Message(kind, payload));
                }
            }
            Event::SpoolRoom { gateway } => self.gateways[gateway].spool.is_full = false,
            Event::DiskRoom { gateway } => self.gateways[gateway].spool.set_cramped(false),
            Event::PartitionOver { gateway } => self.gateways[gateway].is_partitioned = false,
            Event::AgentStart { gateway } => self.start_agent(gateway),
            Event::CollectorStart => self.start_collector()?,
            Event::Turn => self.turn()?,
            Event::JournalRoom => self.collector.disk.set_full(false),
            Event::Checkpoint => {
                self.collector.save();
                self.after(CHECKPOINT, Event::Checkpoint);
            }
            Event::Trouble => self.trouble()?,
        }
        Ok(())
    }
}

/// Nodes and lines.
impl<'m> World<'m> {
    fn boot(&mut self, id: NodeId, counter: u32) -> Option<SimNode<'m>> {
        let memory = self.memories.next()?;
        let boot = BootId::new(counter, self.chance.next() as u32);
        let drift_ppm = self.chance.below(101) as i64 - 50;
        Some(SimNode::new(id, boot, memory, drift_ppm, self.now))
    }

    fn sample(&mut self, line: usize) {
        let missed = self.is_troubled() && self.chance.one_in(60);
        if self.nodes[line].sample(self.now, missed) {
            self.faults.note(Fault::SensorMissed);
        }
        self.observe_node(line, missed);
        self.pump_node(line);
        if self.now < TROUBLE + AFTERMATH {
            self.after(SAMPLING, Event::Sample { line });
        }
    }

    fn observe_node(&mut self, line: usize, missed: bool) {
        let node = &self.nodes[line];
        self.reference
            .observe_node(node.id, node.boot, &node.accounts(), missed);
    }

    fn pump_node(&mut self, line: usize) {
        while let Some(bytes) = self.nodes[line].poll_transmit(self.now) {
            self.transmit(line, bytes, 1, |line, bytes| Event::ToAgent { line, bytes });
        }
        let next = self.nodes[line].next_timeout();
        self.lines[line].wake = next.map(|at| at.max(self.now + STEP_MIN));
        // A frame that time alone completed may have pushed out others.
        self.observe_node(line, false);
    }

    /// Puts bytes on a line, which does to them what lines do.
    fn transmit(
        &mut self,
        line: usize,
        mut bytes: Vec<u8>,
        way: usize,
        event: impl Fn(usize, Vec<u8>) -> Event,
    ) {
        if self.lines[line].is_cut {
            return;
        }
        let odds = if self.is_calm { 0 } else { self.weather.line };
        let mut times = 1;
        if self.chance.one_in(odds) {
            match self.chance.below(3) {
                0 => {
                    self.faults.note(Fault::LineDropped);
                    return;
                }
                1 => {
                    self.faults.note(Fault::LineGarbled);
                    let at = self.chance.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << self.chance.below(8);
                    if self.chance.one_in(3) {
                        bytes.truncate(at);
                    }
                }
                _ => {
                    self.faults.note(Fault::LineRepeated);
                    times = 2;
                }
            }
        }
        for _ in 0..times {
            let on_the_wire = Duration::from_micros(11 * bytes.len() as u64) + self.chance.millis(0, 3);
            let at = self.lines[line].free[way].max(self.now) + on_the_wire;
            self.lines[line].free[way] = at;
            self.at(at, event(line, bytes.clone()));
        }
    }

    fn cut_line(&mut self, line: usize) {
        if std::mem::replace(&mut self.lines[line].is_cut, true) {
            return;
        }
        self.faults.note(Fault::LineCut);
        let SimLine { gateway, port, .. } = self.lines[line];
        self.gateways[gateway].handle_port(port, PortEvent::Closed, self.now);
        let back = self.chance.millis(200, 4_000);
        self.after(back, Event::LineBack { line });
    }

    fn reboot(&mut self, line: usize) {
        let SimNode { id, boot, .. } = self.nodes[line];
        if let Some(node) = self.boot(id, boot.counter() + 1) {
            self.faults.note(Fault::NodeReboot);
            self.nodes[line] = node;
            self.observe_node(line, false);
            self.pump_node(line);
        }
    }
}

/// Agents and their spools.
impl World<'_> {
    fn start_agent(&mut self, gateway: usize) {
        self.gateways[gateway].start(&mut self.chance, self.now);
        for line in 0..self.lines.len() {
            let SimLine {
                gateway: owner,
                port,
                is_cut,
                ..
            } = self.lines[line];
            if owner == gateway && !is_cut {
                self.gateways[gateway].handle_port(port, PortEvent::Opened, self.now);
            }
        }
        self.pump_agent(gateway);
    }

    fn crash_agent(&mut self, gateway: usize) {
        if !self.gateways[gateway].is_running() {
            return;
        }
        self.faults.note(Fault::AgentCrash);
        self.gateways[gateway].crash(&mut self.faults);
        for session in self.sessions.values_mut().filter(|s| s.gateway == gateway) {
            session.is_up = false;
        }
        let back = self.chance.millis(100, 4_000);
        self.after(back, Event::AgentStart { gateway });
    }

    /// Makes an image of a gateway's disk, or puts the gateway back to the one there is.
    fn restore_gateway(&mut self, gateway: usize) {
        if self.gateways[gateway].take_image() {
            return;
        }
        self.crash_agent(gateway);
        self.faults.note(Fault::GatewayRestored);
        self.gateways[gateway].restore(&mut self.faults);
        let nodes = self.lines.iter().zip(&self.nodes);
        let mine = nodes.filter(|(line, _)| line.gateway == gateway);
        self.destroyed.note_put_back(mine.map(|(_, node)| node.id));
    }

    /// Lets an agent do what it wants to.
    fn pump_agent(&mut self, gateway: usize) {
        while let Some(action) = self.gateways[gateway].poll(self.now) {
            self.act(gateway, action);
        }
        self.gateways[gateway].note_wake(self.now + STEP_MIN);
    }

    fn act(&mut self, gateway: usize, action: Action) {
        match action {
            Action::Write(port, bytes) => {
                let mut lines = self.lines.iter();
                let line = lines.position(|line| line.gateway == gateway && line.port == port);
                if let Some(line) = line {
                    self.transmit(line, bytes, 0, |line, bytes| Event::ToNode { line, bytes });
                }
            }
            Action::Spool(request) => {
                let life = self.gateways[gateway].life();
                let (reply, done) = self.gateways[gateway].spool.request(request);
                if let Some(done) = done {
                    self.after(done, Event::Served { gateway, life });
                }
                if let Some(reply) = reply {
                    self.gateways[gateway].handle_spool(reply, self.now);
                }
            }
            Action::Connect { connection, .. } => self.connect(gateway, connection),
            Action::Subscribe => {
                let pause = self.chance.millis(1, 20);
                if let Some((id, session)) = self.session_of_agent(gateway) {
                    session.is_subscribed = true;
                    self.after(
                        pause,
                        Event::Mqtt {
                            session: id,
                            event: MqttEvent::Subscribed,
                        },
                    );
                }
            }
            Action::Publish(kind, payload) => self.publish(gateway, kind, payload),
            Action::PublishBlock(key, payload) => {
                let payload = self.send_in_lane(gateway, key, payload);
                if self.is_troubled() && self.chance.one_in(200) {
                    self.faults.note(Fault::NotTaken);
                    self.gateways[gateway].handle_not_taken(key, self.now);
                } else {
                    self.publish(gateway, Kind::Data, payload);
                }
            }
            // The simulated collector gives no commands, and so no machine to watch; bytes of a simulated
            // line arrive when they do.
            Action::Keep(_) | Action::Advise { .. } | Action::Search(_) | Action::Listen(..) => {}
            Action::Disconnect => {
                if let Some((_, session)) = self.session_of_agent(gateway) {
                    session.is_up = false;
                }
            }
        }
    }

    fn serve(&mut self, gateway: usize, life: u64) {
        if life != self.gateways[gateway].life() || !self.gateways[gateway].is_running() {
            return;
        }
        let served = self.gateways[gateway].spool.serve(&mut self.faults);
        if let Some(next) = served.next {
            self.after(next, Event::Served { gateway, life });
        }
        for reply in served.replies {
            let is_news = !matches!(reply, Reply::Refused(_));
            self.gateways[gateway].handle_spool(reply, self.now);
            if is_news {
                self.pump_agent(gateway);
            }
        }
    }
}

/// The collector.
impl World<'_> {
    fn collector_utc(&self) -> EventTime {
        EventTime(self.collector_utc + self.now.as_nanos() as i64)
    }

    fn start_collector(&mut self) -> Result<()> {
        let utc = self.collector_utc();
        if self.collector.start(utc)? {
            if self.now > Duration::ZERO {
                let record = Record::read(&self.collector.commits()?);
                self.violations
                    .extend(self.reference.check_acknowledged(&record, &self.destroyed));
            }
            self.schedule_turn(IDLE_TURN);
        } else if self.collector.disk.is_off() {
            // The power was cut once more, while it started.
            self.collector.crash()?;
            self.after(Duration::from_secs(1), Event::CollectorStart);
        } else {
            self.after(Duration::from_secs(1), Event::CollectorStart);
        }
        Ok(())
    }

    fn schedule_turn(&mut self, delay: Duration) {
        let at = (self.now + delay).max(self.stalled_until);
        if self.turn_at.is_none_or(|known| at < known) {
            self.turn_at = Some(at);
            self.at(at, Event::Turn);
        }
    }

    fn turn(&mut self) -> Result<()> {
        // One that was asked for earlier, or of a process that has died.
        if self.turn_at != Some(self.now) || !self.collector.is_running() {
            return Ok(());
        }
        self.turn_at = None;
        let utc = self.collector_utc();
        let turn = self.collector.turn(utc)?;
        for (topic, payload) in turn.sent {
            if topic.kind == Kind::Ack
                && let Ok(ack) = message::decode::<Ack>(&payload)
            {
                self.reference.observe_ack(&topic.gateway, &ack);
            }
            self.send_down(topic, payload);
        }
        if turn.is_cut {
            return self.end_collector(Fault::CollectorCrash);
        }
        let pause = if turn.is_refused {
            self.chance.millis(20, 1_000)
        } else {
            IDLE_TURN
        };
        self.schedule_turn(pause);
        Ok(())
    }

    /// Makes a backup of the collector, or puts it back to the one there is.
    fn restore_collector(&mut self) -> Result<()> {
        if !self.collector.is_running() || self.collector.take_backup()? {
            return Ok(());
        }
        self.destroyed
            .note_commits(&self.collector.commits_since_backup()?);
        self.end_collector(Fault::CollectorKill)?;
        self.faults.note(Fault::CollectorRestored);
        self.collector.restore()
    }

    /// Ends the process, by a kill or a power cut.
    fn end_collector(&mut self, how: Fault) -> Result<()> {
        if !self.collector.is_running() {
            return Ok(());
        }
        self.faults.note(how);
        if how == Fault::CollectorKill {
            self.collector.kill();
        } else {
            self.collector.crash()?;
        }
        self.turn_at = None;
        let sessions: Vec<u64> = self.sessions.keys().copied().collect();
        for session in sessions {
            self.cut(session);
        }
        let back = self.chance.millis(100, 4_000);
        self.after(back, Event::CollectorStart);
        Ok(())
    }
}
