//! The embedded rumqttd on loopback: start, ready, canary, stop.
//!
//! rumqttd 0.20 is a fast pipe in memory and nothing more: it acknowledges before anybody has read,
//! keeps a bounded log per filter and jumps a reader that lags behind it, and its router dies of
//! packets that a client may send. So it listens on loopback only, on a port and with a secret drawn at
//! start, and only the [door](crate::door) is told ([`BrokerAccess`]); what a message survives is decided
//! by the journal behind [`BrokerLink`], not here.
//!
//! A canary connects every few seconds. When it gets no answer, the router is replaced by a new one
//! under a new port and secret; the link moves over by itself, and the door's sessions are cut and come
//! back. What was under way between is sent again by its gateway, which never had an acknowledgement.
//!
//! | bound | value | at the bound |
//! |---|---|---|
//! | uplink log | [`UPLINK_LOG_BYTES`] | the slowest reader jumps: the credit in acknowledgements stays below it |
//! | downlink log per filter | 2 x 16 KiB | oldest dropped; what is sent down is repeated until it takes effect |
//! | connections | [`CONNECTIONS_MAX`] | refused by the broker; the door's own limit is lower |

use crate::ingest::{BlockSource, Message, SourceClosed};
use crate::metrics::Metrics;
use rumqttd::local::{LinkBuilder, LinkRx, LinkTx};
use rumqttd::protocol::v4::V4;
use rumqttd::{
    ConnectionSettings, LinkType, Notification, Router, RouterConfig, SegmentConfig, Server, ServerSettings,
};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{oneshot, watch};
use trunnion_common::block::{BODY_MAX, ENVELOPE_BYTES};
use trunnion_common::topic::TOPIC_MAX;

/// Bytes of uplink messages that the broker holds for ingest; credit given to gateways, summed over
/// all of them, has to stay below.
pub const UPLINK_LOG_BYTES: usize = UPLINK_SEGMENT_BYTES * UPLINK_SEGMENTS;
/// Most connections the broker takes; the door admits fewer, so that none is ever refused here.
pub const CONNECTIONS_MAX: usize = 5_000;
/// Bytes of the longest packet: a block of the largest body on the longest topic. rumqttd counts
/// without the fixed header, the door with it.
pub const PACKET_MAX: usize = 5 + 2 + TOPIC_MAX + 2 + ENVELOPE_BYTES + BODY_MAX;

const UPLINK_SEGMENT_BYTES: usize = 8 << 20;
const UPLINK_SEGMENTS: usize = 8;
/// rumqttd keeps a filter's log after it was read, so three small ones per gateway have to be enough.
const DOWNLINK_SEGMENT_BYTES: usize = 16 << 10;
const DOWNLINK_SEGMENTS: usize = 2;
const UPLINK_FILTER: &str = "trunnion/up/+/+/+";
const DOWNLINK_FILTERS: &str = "trunnion/down/#";

/// A dead router costs every gateway its connection until the canary notices.
const CANARY_INTERVAL: Duration = Duration::from_secs(3);
/// A router that takes longer than this to answer on loopback, twice, is not coming back.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The door waits longer, since giving up on an answer that still comes leaves rumqttd with a client that
/// it believes to be there.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Ports may be taken between the probe and the broker's own bind.
const START_ATTEMPTS: usize = 5;
const USER: &str = "door";

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// No answer on any of the ports tried.
    #[error("the embedded broker did not come up on loopback: {0}; is 127.0.0.1 usable and are ports free?")]
    Start(io::Error),
    /// The system has no random numbers to give.
    #[error("no random number for the broker's secret: {0}")]
    Random(getrandom::Error),
}

/// The running broker. Dropping it stops it.
pub struct Broker {
    stop: Option<mpsc::Sender<()>>,
    supervisor: Option<JoinHandle<()>>,
    access: watch::Receiver<Option<Arc<Address>>>,
}

impl Broker {
    /// Starts the broker, and returns once it answers. There is one link, since a message is ingested once.
    pub fn start(metrics: Metrics) -> Result<(Self, BrokerLink), BrokerError> {
        Self::start_with(metrics, CANARY_INTERVAL)
    }

    fn start_with(metrics: Metrics, interval: Duration) -> Result<(Self, BrokerLink), BrokerError> {
        let handover = Arc::new(Handover::default());
        let (generation, link) = Generation::start()?;
        handover.offer(link);
        let (announce, access) = watch::channel(Some(generation.address.clone()));
        let (stop, stopped) = mpsc::channel();
        let supervisor = Supervisor {
            handover: handover.clone(),
            announce,
            metrics,
            interval,
            stopped,
        };
        let supervisor = thread::Builder::new()
            .name("broker-canary".into())
            .spawn(move || supervisor.run(generation))
            .map_err(BrokerError::Start)?;
        let broker = Self {
            stop: Some(stop),
            supervisor: Some(supervisor),
            access,
        };
        Ok((broker, BrokerLink { handover, link: None }))
    }

    /// The way in, for the door alone.
    pub fn access(&self) -> BrokerAccess {
        BrokerAccess {
            address: self.access.clone(),
        }
    }

    /// Stops the broker: sessions end, and the link reports that its source has closed.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        self.stop = None;
        if let Some(supervisor) = self.supervisor.take() {
            // It panics on nothing; if it did, there is nothing left to stop.
            let _ = supervisor.join();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// How to reach the broker at the moment. The secret does not leave this module.
#[derive(Clone)]
pub struct BrokerAccess {
    address: watch::Receiver<Option<Arc<Address>>>,
}

impl BrokerAccess {
    /// Whether there is a router at the moment that answers its canary.
    pub fn is_up(&self) -> bool {
        self.address.borrow().is_some()
    }

    /// Opens a clean session under `client_id`, with no will and no keep-alive of its own: the session
    /// lives as long as the stream, which the caller guards.
    ///
    /// Two sessions must never share a client id at one time; rumqttd's router does not survive that.
    pub async fn connect(&mut self, client_id: &str) -> io::Result<tokio::net::TcpStream> {
        let address = self.address.borrow_and_update().clone();
        let address = address.ok_or_else(|| io::Error::other("the broker is being restarted"))?;
        let opening = async {
            let mut stream = tokio::net::TcpStream::connect(address.socket).await?;
            stream.set_nodelay(true)?;
            stream
                .write_all(&connect_packet(client_id, &address.secret))
                .await?;
            // Awaited before anything else: rumqttd leaks the id of a client that left too early.
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).await?;
            check_connack(answer)?;
            Ok(stream)
        };
        match tokio::time::timeout(OPEN_TIMEOUT, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Returns when the broker that the last [`connect`](Self::connect) reached was replaced or stopped.
    pub async fn replaced(&mut self) {
        // An error means that the broker is gone, which is what was waited for.
        let _ = self.address.changed().await;
    }
}

/// Ingest's end of the broker.
pub struct BrokerLink {
    handover: Arc<Handover>,
    link: Option<Link>,
}

impl BrokerLink {
    /// The newest router's link, waiting for one until `deadline`.
    fn attach(&mut self, deadline: Instant) -> Result<Option<&mut Link>, SourceClosed> {
        let mut slot = self.handover.slot();
        loop {
            if slot.stopped {
                return Err(SourceClosed);
            }
            if let Some(link) = slot.link.take() {
                self.link = Some(link);
            }
            if self.link.is_some() {
                return Ok(self.link.as_mut());
            }
            let Some(remaining) = deadline
                .checked_duration_since(now())
                .filter(|left| !left.is_zero())
            else {
                return Ok(None);
            };
            slot = match self.handover.changed.wait_timeout(slot, remaining) {
                Ok((slot, _)) => slot,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

impl BlockSource for BrokerLink {
    fn receive(&mut self, timeout: Duration) -> Result<Option<Message>, SourceClosed> {
        let deadline = now() + timeout;
        loop {
            let Some(link) = self.attach(deadline)? else {
                return Ok(None);
            };
            let alive = match link.rx.recv_deadline(deadline) {
                Ok(Some(Notification::Forward(forward))) => {
                    match String::from_utf8(forward.publish.topic.to_vec()) {
                        Ok(topic) => {
                            return Ok(Some(Message {
                                topic,
                                payload: forward.publish.payload,
                            }));
                        }
                        Err(error) => {
                            tracing::error!(%error, "a topic that is no text came past the door");
                            true
                        }
                    }
                }
                // Unanswered, the router would deliver nothing more.
                Ok(Some(Notification::Unschedule)) => link.rx.ready().is_ok(),
                Ok(_) => true,
                // Its error types are not exported; what fails early is not the deadline.
                Err(_) if now() >= deadline => return Ok(None),
                Err(_) => false,
            };
            if !alive {
                self.link = None;
            }
        }
    }

    fn publish(&mut self, topic: &str, payload: Vec<u8>) -> Result<(), SourceClosed> {
        // Without a router no gateway is connected: each says Hello when it is back, and is answered.
        let Some(link) = self.attach(now())? else {
            return Ok(());
        };
        // Never the blocking form, which a hung router would hold for ever. When the router's queue is
        // full the message waits in the link's own and goes out with the next one.
        if link.tx.try_publish(topic.to_owned(), payload).is_err() {
            tracing::debug!(topic, "the broker's queue is full or gone");
        }
        Ok(())
    }
}

struct Link {
    tx: LinkTx,
    rx: LinkRx,
}

/// Passes the link of each new router from the supervisor to [`BrokerLink`].
#[derive(Default)]
struct Handover {
    slot: Mutex<Slot>,
    changed: Condvar,
}

#[derive(Default)]
struct Slot {
    link: Option<Link>,
    stopped: bool,
}

impl Handover {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        // Each holder only moves a value; there is no half-done state that a panic could leave.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offer(&self, link: Link) {
        self.slot().link = Some(link);
        self.changed.notify_all();
    }

    fn stop(&self) {
        self.slot().stopped = true;
        self.changed.notify_all();
    }
}

struct Supervisor {
    handover: Arc<Handover>,
    announce: watch::Sender<Option<Arc<Address>>>,
    metrics: Metrics,
    interval: Duration,
    stopped: mpsc::Receiver<()>,
}

impl Supervisor {
    fn run(self, first: Generation) {
        let mut current = Some(first);
        while let Err(mpsc::RecvTimeoutError::Timeout) = self.stopped.recv_timeout(self.interval) {
            if let Some(generation) = &current {
                // Once more before every gateway is cut: one lost answer on a loaded machine proves nothing.
                match generation.address.ping().or_else(|_| generation.address.ping()) {
                    Ok(()) => continue,
                    Err(error) => tracing::error!(%error, "the broker does not answer: restarting it"),
                }
            }
            self.announce.send_replace(None);
            drop(current.take());
            match Generation::start() {
                Ok((generation, link)) => {
                    self.metrics.broker_restarts.inc();
                    self.handover.offer(link);
                    self.announce.send_replace(Some(generation.address.clone()));
                    current = Some(generation);
                }
                Err(error) => tracing::error!(%error, "the broker did not restart: trying again"),
            }
        }
        self.announce.send_replace(None);
        self.handover.stop();
    }
}

/// One router and its listener.
struct Generation {
    address: Arc<Address>,
    /// Dropped, it ends the listener with all of its connections. A router that is alive but hangs cannot
    /// be ended from outside, nor a listener that waits for it: their threads and memory are given up.
    _stop: oneshot::Sender<()>,
}

impl Generation {
    fn start() -> Result<(Self, Link), BrokerError> {
        let mut last = io::ErrorKind::AddrInUse.into();
        for _ in 0..START_ATTEMPTS {
            match Self::attempt(Secret::draw()?) {
                Ok(started) => return Ok(started),
                Err(error) => last = error,
            }
        }
        Err(BrokerError::Start(last))
    }

    fn attempt(secret: Secret) -> io::Result<(Self, Link)> {
        // rumqttd binds by itself and does not tell its port, so a free one is looked for first.
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let address = Arc::new(Address { socket, secret });
        let router = Router::new(0, router_config()).spawn();
        // Subscribed before the door is told of the router, so that no message finds nobody listening.
        let (mut tx, rx, _) = LinkBuilder::new("ingest", router.clone())
            .build()
            .map_err(io::Error::other)?;
        tx.subscribe(UPLINK_FILTER).map_err(io::Error::other)?;
        let mut server = Server::new(server_settings(address.clone()), router, V4);
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name("broker".into()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return tracing::error!(%error, "no runtime for the broker"),
            };
            runtime.block_on(async {
                tokio::select! {
                    ended = server.start(LinkType::Remote) => {
                        tracing::error!(error = ended.err().map(tracing::field::display), "the broker's listener ended");
                    }
                    _ = stopped => {}
                }
            });
        })?;
        let generation = Self { address, _stop: stop };
        let deadline = now() + ANSWER_TIMEOUT;
        loop {
            match generation.address.ping() {
                Ok(()) => return Ok((generation, Link { tx, rx })),
                Err(error) if now() >= deadline => return Err(error),
                Err(_) => thread::park_timeout(Duration::from_millis(5)),
            }
        }
    }
}

fn router_config() -> RouterConfig {
    RouterConfig {
        max_connections: CONNECTIONS_MAX,
        // Messages read per turn; the link's queue of 200 is what paces a slow reader.
        max_outgoing_packet_count: 100,
        max_segment_size: UPLINK_SEGMENT_BYTES,
        max_segment_count: UPLINK_SEGMENTS,
        custom_segment: Some(HashMap::from([(
            DOWNLINK_FILTERS.to_owned(),
            SegmentConfig {
                max_segment_size: DOWNLINK_SEGMENT_BYTES,
                max_segment_count: DOWNLINK_SEGMENTS,
            },
        )])),
        ..RouterConfig::default()
    }
}

fn server_settings(address: Arc<Address>) -> ServerSettings {
    let mut settings = ServerSettings {
        name: "loopback".to_owned(),
        listen: address.socket,
        tls: None,
        next_connection_delay_ms: 0,
        connections: ConnectionSettings {
            connection_timeout_ms: 5_000,
            max_payload_size: PACKET_MAX,
            max_inflight_count: 200,
            auth: None,
            external_auth: None,
            dynamic_filters: false,
        },
    };
    settings.set_auth_handler(move |_client_id, user, password| {
        let admitted = user == USER && address.secret.is(&password);
        async move { admitted }
    });
    settings
}

/// Where a router listens and what it wants to hear.
struct Address {
    socket: SocketAddr,
    secret: Secret,
}

impl Address {
    /// Connects, asks the router for an answer, and leaves in order.
    fn ping(&self) -> io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&self.socket, ANSWER_TIMEOUT)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        stream.write_all(&connect_packet("canary", &self.secret))?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        check_connack(answer)?;
        stream.write_all(&[0xc0, 0])?;
        let mut pong = [0; 2];
        stream.read_exact(&mut pong)?;
        if pong != [0xd0, 0] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no PINGRESP"));
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        // Until its end, so that the next canary never meets this one's session.
        io::copy(&mut stream, &mut io::sink()).map(drop)
    }
}

/// 128 random bits as text, since MQTT 3.1.1 carries passwords that rumqttd wants as text.
struct Secret(String);

impl Secret {
    fn draw() -> Result<Self, BrokerError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(BrokerError::Random)?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Takes as long whether the first character differs or the last.
    fn is(&self, other: &str) -> bool {
        let differing = self
            .0
            .bytes()
            .zip(other.bytes())
            .fold(0, |seen, (a, b)| seen | (a ^ b));
        self.0.len() == other.len() && differing == 0
    }
}

/// MQTT 3.1.1, 3.1: clean session, user and password, no will. The keep-alive is the longest there is,
/// since the door watches over its clients and rumqttd takes none for an error.
fn connect_packet(client_id: &str, secret: &Secret) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0b1100_0010, 0xff, 0xff];
    for text in [client_id, USER, &secret.0] {
        let length = u16::try_from(text.len()).expect("client ids and secrets are short");
        body.extend(length.to_be_bytes());
        body.extend(text.as_bytes());
    }
    let mut packet = vec![0x10];
    let mut length = body.len();
    while length > 127 {
        packet.push((length & 127) as u8 | 128);
        length >>= 7;
    }
    packet.push(length as u8);
    packet.extend(body);
    packet
}

fn check_connack(answer: [u8; 4]) -> io::Result<()> {
    match answer {
        [0x20, 2, _, 0] => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "the broker refused the connection",
        )),
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "paces the canary and bounds waiting; nothing is decided by it"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn start(interval: Duration) -> (Broker, BrokerLink, Metrics) {
        let metrics = Metrics::default();
        let (broker, link) = Broker::start_with(metrics.clone(), interval).unwrap();
        (broker, link, metrics)
    }

    fn address(broker: &Broker) -> Arc<Address> {
        broker.access.borrow().clone().unwrap()
    }

    fn open(address: &Address, client_id: &str, secret: &Secret) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address.socket)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(&connect_packet(client_id, secret))?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        check_connack(answer)?;
        Ok(stream)
    }

    fn publish(stream: &mut TcpStream, topic: &str, payload: &[u8]) {
        let mut body = (topic.len() as u16).to_be_bytes().to_vec();
        body.extend(topic.as_bytes());
        body.extend(payload);
        let mut packet = vec![0x30];
        let mut length = body.len();
        while length > 127 {
            packet.push((length & 127) as u8 | 128);
            length >>= 7;
        }
        packet.push(length as u8);
        packet.extend(body);
        stream.write_all(&packet).unwrap();
    }

    #[test]
    fn what_the_door_passes_reaches_the_link() {
        let (broker, mut link, _) = start(CANARY_INTERVAL);
        let address = address(&broker);
        let mut stream = open(&address, "a", &address.secret).unwrap();
        let largest = vec![7; ENVELOPE_BYTES + BODY_MAX];
        publish(&mut stream, "trunnion/up/plant/gw-1/data", &largest);
        let message = link.receive(SOON).unwrap().unwrap();
        assert_eq!(message.topic, "trunnion/up/plant/gw-1/data");
        assert_eq!(message.payload, largest);
        assert_eq!(link.receive(Duration::from_millis(1)), Ok(None));
    }

    #[test]
    fn a_slow_reader_within_the_log_misses_nothing() {
        let (broker, mut link, _) = start(CANARY_INTERVAL);
        let address = address(&broker);
        let mut stream = open(&address, "a", &address.secret).unwrap();
        // More than the queue of the link and less than the log: both the pause and the resumption are met.
        let count = 3_000_u32;
        for number in 0..count {
            publish(
                &mut stream,
                "trunnion/up/plant/gw-1/data",
                &[&number.to_be_bytes()[..], &[0; 4_096]].concat(),
            );
        }
        for number in 0..count {
            let message = link
                .receive(SOON)
                .unwrap()
                .expect("every message within the log arrives");
            assert_eq!(message.payload[..4], number.to_be_bytes());
        }
    }

    #[test]
    fn nobody_enters_without_the_secret() {
        let (broker, _link, _) = start(CANARY_INTERVAL);
        let address = address(&broker);
        let wrong = Secret("0".repeat(32));
        for secret in [&wrong, &Secret(String::new()), &Secret("x".into())] {
            assert!(open(&address, "a", secret).is_err());
        }
        assert!(open(&address, "a", &address.secret).is_ok());
    }

    #[test]
    fn a_dead_router_is_replaced_and_link_and_door_move_over() {
        let (broker, mut link, metrics) = start(Duration::from_millis(20));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut access = broker.access();
        let _session = runtime.block_on(access.connect("plant:gw-1")).unwrap();
        // A topic that is no text has the link disconnected; a word from a connection that is no more
        // then panics the router.
        assert_eq!(link.receive(Duration::from_millis(1)), Ok(None));
        let first = link.link.as_mut().unwrap();
        first.tx.publish(vec![0xff], "").unwrap();
        first.rx.ready().unwrap();
        let reopened = runtime.block_on(async {
            let over = async {
                loop {
                    access.replaced().await;
                    if let Ok(session) = access.connect("plant:gw-1").await {
                        return session;
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(30), over)
                .await
                .expect("a new router")
        });
        assert_eq!(metrics.broker_restarts.get(), 1);
        let mut stream = reopened.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        publish(&mut stream, "trunnion/up/plant/gw-1/data", b"after");
        let message = link.receive(SOON).unwrap().unwrap();
        assert_eq!(&message.payload[..], b"after");
    }

    #[test]
    fn stopping_closes_the_link_and_the_port() {
        let (broker, mut link, _) = start(CANARY_INTERVAL);
        let address = address(&broker);
        broker.stop();
        assert_eq!(link.receive(SOON), Err(SourceClosed));
        assert_eq!(
            link.publish("trunnion/down/plant/gw-1/ack", vec![]),
            Err(SourceClosed)
        );
        let deadline = now() + SOON;
        while TcpStream::connect(address.socket).is_ok() {
            assert!(now() < deadline, "the listener outlived the broker");
        }
    }
}
