//! A gateway without nodes: the agent's own connection, and the contract's rules for sending blocks.

use crate::sim_machine::Chance;
use anyhow::{Context, Result, bail};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use trunnion_agent::backoff::Backoff;
use trunnion_agent::enrolment::Enrolment;
use trunnion_agent::mqtt::{Connection, MqttEvent};
use trunnion_agent::status::agent_version;
use trunnion_common::ack::{Ack, HeldEpoch, Hello};
use trunnion_common::id::{Epoch, MasterId};
use trunnion_common::message::{self, GatewayStatus, MESSAGE_MAX, Phase};
use trunnion_common::sequence::{RANGES_MAX, Range, Ranges};
use trunnion_common::time::EventTime;
use trunnion_common::topic::Kind;

/// Events of a connection that may wait; beyond, the connection does.
const EVENTS_MAX: usize = 64;

/// How long the collector may take to answer anything.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Blocks under way, as of the agent: their loss must not need more ranges than an acknowledgement has.
const WINDOW: u64 = 2 * RANGES_MAX as u64;

/// The agent's own waits between attempts.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));

/// A connection whose Hello has been answered.
#[derive(Debug)]
pub struct Sender {
    connection: Connection,
    events: Receiver<MqttEvent>,
    epoch: Epoch,
    upto: u64,
    credit_bytes: u64,
}

impl Sender {
    /// Connects as the gateway of this enrolment and says Hello with one epoch of blocks up to `next`.
    pub async fn connect(enrolment: &Enrolment, epoch: Epoch, next: u64) -> Result<Self> {
        let endpoint = enrolment
            .endpoints
            .first()
            .context("the bundle has an endpoint")?;
        let (report, events) = channel(EVENTS_MAX);
        let clock = trunnion_agent::tls::TlsClock::default();
        let connection = Connection::start(enrolment, endpoint, &clock, encode(&farewell()), move |event| {
            let report = report.clone();
            async move {
                // Nobody listens once the sender is gone.
                let _ = report.send(event).await;
            }
        })?;
        let mut sender = Self {
            connection,
            events,
            epoch,
            upto: 0,
            credit_bytes: 0,
        };
        sender.await_event(|event| *event == MqttEvent::Connected).await?;
        if !sender.connection.subscribe() {
            bail!("the connection took no subscription");
        }
        sender
            .await_event(|event| *event == MqttEvent::Subscribed)
            .await?;
        let held: Ranges = Range::new(0, next).into_iter().collect();
        let epochs = std::iter::once(HeldEpoch {
            epoch,
            next,
            held,
            freed_by: None,
        });
        let hello = Hello::first(MasterId(epoch.0), epochs.collect());
        if !sender.connection.publish(Kind::Hello, encode(&hello).into()) {
            bail!("the connection took no hello");
        }
        sender.await_ack().await?;
        Ok(sender)
    }

    /// Sends the blocks, each as large as credit and window allow, until all of them are acknowledged.
    pub async fn deliver(&mut self, blocks: &[Vec<u8>]) -> Result<()> {
        let count = blocks.len() as u64;
        let mut next = self.upto;
        while self.upto < count {
            let mut under_way: u64 = blocks[self.upto as usize..next as usize]
                .iter()
                .map(|block| block.len() as u64)
                .sum();
            while next < count && next < self.upto + WINDOW {
                let block = &blocks[next as usize];
                under_way += block.len() as u64;
                if under_way > self.credit_bytes && next > self.upto {
                    break;
                }
                if !self.connection.publish(Kind::Data, block.clone().into()) {
                    break;
                }
                next += 1;
            }
            self.await_ack().await?;
            next = next.max(self.upto);
        }
        Ok(())
    }

    /// How many blocks are acknowledged.
    pub const fn delivered(&self) -> u64 {
        self.upto
    }

    /// Waits until the connection is over.
    pub async fn closed(mut self) {
        while !matches!(self.events.recv().await, None | Some(MqttEvent::Disconnected(_))) {}
    }

    async fn await_ack(&mut self) -> Result<()> {
        let epoch = self.epoch;
        let mut found = None;
        self.await_event(|event| {
            if let MqttEvent::Message(Kind::Ack, payload) = event
                && let Ok(ack) = message::decode::<Ack>(payload)
                && ack.epoch == epoch
            {
                found = Some((ack.received.upto(), u64::from(ack.credit_bytes)));
            }
            found.is_some()
        })
        .await?;
        let (upto, credit_bytes) = found.context("waited for it")?;
        self.upto = self.upto.max(upto);
        self.credit_bytes = credit_bytes;
        Ok(())
    }

    async fn await_event(&mut self, mut wanted: impl FnMut(&MqttEvent) -> bool) -> Result<()> {
        loop {
            let event = timeout(ANSWER_LIMIT, self.events.recv())
                .await
                .context("the collector does not answer")?;
            match event {
                Some(event) if wanted(&event) => return Ok(()),
                Some(MqttEvent::Disconnected(why)) => bail!("disconnected: {why}"),
                Some(MqttEvent::Message(Kind::Reject, _)) => bail!("the collector rejected a block"),
                Some(_) => {}
                None => bail!("the connection has ended"),
            }
        }
    }
}

/// Keeps a gateway connected for ever, with the agent's backoff, and counts its answered Hellos.
pub async fn stay(enrolment: Enrolment, number: u64, answered: watch::Sender<u64>) {
    let mut chance = Chance::new(number);
    let mut backoff = BACKOFF;
    let started = now();
    loop {
        if let Ok(sender) = Sender::connect(&enrolment, Epoch(number), 0).await {
            backoff.handle_success();
            answered.send_modify(|count| *count += 1);
            sender.closed().await;
        }
        let elapsed = now() - started;
        let at = backoff.handle_failure(elapsed, chance.next() as u32);
        sleep(at.saturating_sub(elapsed)).await;
    }
}

#[allow(clippy::disallowed_methods, reason = "paces real connections")]
fn now() -> Instant {
    Instant::now()
}

fn encode<T: serde::Serialize>(message: &T) -> Vec<u8> {
    let mut room = vec![0; MESSAGE_MAX];
    let bytes = message::encode(message, &mut room).expect("the contract bounds its messages by MESSAGE_MAX");
    bytes.to_vec()
}

fn farewell() -> GatewayStatus {
    GatewayStatus {
        phase: Phase::Death,
        agent_version: agent_version(),
        utc: EventTime(0),
        nodes: 0,
        spool_blocks: 0,
        spool_bytes: 0,
        life: 1,
        connection: 1,
        health: trunnion_common::message::GatewayHealth::default(),
    }
}
