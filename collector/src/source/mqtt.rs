//! An unmodified MQTT 3.1.1 broker, such as Debian's mosquitto: connect, subscribe, deliver, reconnect.
//!
//! One thread polls one connection and does nothing else. A connection has an event loop of its own and
//! a clean session, since rumqttc drops what it held when a session does not resume; whatever the
//! broker had for us when a connection broke is sent again by the gateways, which never had an
//! acknowledgement. Nothing is awaited in the polling task but the connection itself.
//!
//! A message is confirmed to the broker (PUBACK) when ingest takes it. So the broker's own limit of
//! unconfirmed messages (mosquitto: `max_inflight_messages`) holds back what ingest cannot take, and
//! the connection goes on answering pings while a disk is slow.
//!
//! | bound | value | at the bound |
//! |---|---|---|
//! | messages not yet taken by ingest | [`ARRIVALS_MAX`] | the connection is not read until there is room: only a broker that is told to keep more unconfirmed gets there |
//! | requests not yet sent | [`REQUESTS_MAX`] | what ingest sends down is dropped and counted; acknowledgements are repeated |
//! | pause between attempts | [`PAUSE`] | doubled up to the longest, with jitter |
//!
//! How a connection ends is one of [`End`]: logged, and counted by label.

use super::credentials::Files;
use crate::ingest::{BlockSource, Message, SourceClosed};
use crate::metrics::{Metrics, Reason};
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet,
    Publish, QoS, StateError, SubscribeReasonCode, TlsConfiguration, Transport,
};
use rustls::pki_types::ServerName;
use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use trunnion_common::id::Name;

/// Messages between the connection and ingest.
pub const ARRIVALS_MAX: usize = 256;

/// Messages and confirmations between ingest and the connection.
pub const REQUESTS_MAX: usize = 1_024;

/// The first and the longest pause before another attempt to connect.
pub const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A silent connection is noticed after one and a half of these.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

const CONNECT_TIMEOUT_S: u64 = 10;

/// From CONNACK to SUBACK.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a goodbye may take.
const PARTING_TIMEOUT: Duration = Duration::from_secs(1);

const CLIENT_ID: &str = "trunnion-collector";

/// Where the broker is and how to meet it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MqttConfig {
    /// Name or address.
    pub host: String,
    /// Port of its TLS listener.
    pub port: u16,
    /// The name to expect in its certificate.
    pub server_name: ServerName<'static>,
    /// Who we are, and whom to trust.
    pub files: Files,
}

macro_rules! ends {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)+) => {
        /// How a connection to the broker ended, or why there was none.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum End {
            $($(#[$doc])* $name,)+
        }

        impl End {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The stable label, as on `/metrics` and in the log.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }
        }
    };
}

ends! {
    /// Our own certificate, key or authorities do not do.
    Credentials = "credentials",
    /// Nobody listens there, the name is unknown, or the line is cut.
    Unreachable = "unreachable",
    /// No agreement on TLS: one side does not trust the other.
    Tls = "tls",
    /// No answer in time.
    Timeout = "timeout",
    /// The broker refused the connection: its listener does not know our certificate's name.
    Refused = "refused",
    /// The broker refused the subscription to the gateways' topics.
    SubscriptionRefused = "subscription_refused",
    /// The broker never answered the subscription.
    SubscriptionUnanswered = "subscription_unanswered",
    /// The broker sent a message that is longer than any block.
    Oversized = "oversized",
    /// The broker sent something that is not MQTT 3.1.1 or makes no sense here.
    Protocol = "protocol",
    /// The connection broke.
    Lost = "lost",
    /// The broker closed it: it stops, or another client of our name took over.
    ClosedByBroker = "closed_by_broker",
    /// The collector stops.
    Stopped = "stopped",
}

/// Why the source did not start.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    /// The system gives no thread or no runtime.
    #[error("no thread for the connection to the broker: {0}")]
    Thread(io::Error),
}

/// The connection to the broker, kept up until it is dropped or [stopped](Self::stop).
#[derive(Debug)]
pub struct MqttBroker {
    stop: watch::Sender<bool>,
    uplink: Arc<Uplink>,
    thread: Option<JoinHandle<()>>,
}

impl MqttBroker {
    /// Starts to connect, and goes on trying for as long as it takes: a broker that is away now is no
    /// reason to serve nobody.
    pub fn start(config: MqttConfig, site: &Name, metrics: Metrics) -> Result<(Self, MqttSource), MqttError> {
        let (deliver, arrivals) = sync_channel(ARRIVALS_MAX);
        let (stop, stopped) = watch::channel(false);
        let uplink = Arc::new(Uplink::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(MqttError::Thread)?;
        let keeper = Keeper {
            config,
            filter: format!("trunnion/up/{site}/+/+"),
            deliver,
            uplink: Arc::clone(&uplink),
            metrics: metrics.clone(),
            stopped,
        };
        let thread = thread::Builder::new()
            .name("broker-link".into())
            .spawn(move || runtime.block_on(keeper.run()))
            .map_err(MqttError::Thread)?;
        let broker = Self {
            stop,
            uplink: Arc::clone(&uplink),
            thread: Some(thread),
        };
        let source = MqttSource {
            arrivals,
            uplink,
            owed: VecDeque::new(),
            metrics,
        };
        Ok((broker, source))
    }

    /// Tells whether the broker has us subscribed at the moment; outlives this handle.
    pub fn watch(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let uplink = Arc::clone(&self.uplink);
        move || uplink.slot().is_some()
    }

    /// Says goodbye; the source then reports that it has closed.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // It panics on nothing; if it did, there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

impl Drop for MqttBroker {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Ingest's end.
#[derive(Debug)]
pub struct MqttSource {
    arrivals: Receiver<Arrival>,
    uplink: Arc<Uplink>,
    /// Confirmations that the connection had no room for: no more than messages the broker may have
    /// unconfirmed, since it sends no further one before them.
    owed: VecDeque<(u64, Publish)>,
    metrics: Metrics,
}

/// A message and the connection it came by.
#[derive(Debug)]
struct Arrival {
    connection: u64,
    publish: Publish,
}

/// The way to the broker while there is one: the connection's number and its client.
#[derive(Debug, Default)]
struct Uplink(Mutex<Option<(u64, AsyncClient)>>);

impl Uplink {
    fn slot(&self) -> MutexGuard<'_, Option<(u64, AsyncClient)>> {
        // Each holder only moves a value; there is no half-done state that a panic could leave.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MqttSource {
    /// Confirms a message to the connection it came by. Another one knows nothing of it.
    fn confirm(&mut self, connection: u64, publish: &Publish) {
        if publish.qos == QoS::AtLeastOnce {
            let mut confirmation = Publish::new("", publish.qos, Vec::new());
            confirmation.pkid = publish.pkid;
            self.owed.push_back((connection, confirmation));
            self.settle();
        }
    }

    /// Sends the confirmations for which there is room, and forgets those of connections that have ended.
    fn settle(&mut self) {
        if self.owed.is_empty() {
            return;
        }
        let uplink = self.uplink.slot();
        let Some((current, client)) = &*uplink else {
            return self.owed.clear();
        };
        self.owed.retain(|(connection, _)| connection == current);
        while self
            .owed
            .front()
            .is_some_and(|(_, owed)| client.try_ack(owed).is_ok())
        {
            self.owed.pop_front();
        }
    }
}

impl BlockSource for MqttSource {
    fn receive(&mut self, timeout: Duration) -> Result<Option<Message>, SourceClosed> {
        loop {
            self.settle();
            let Arrival { connection, publish } = match self.arrivals.recv_timeout(timeout) {
                Ok(arrival) => arrival,
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Err(SourceClosed),
            };
            self.confirm(connection, &publish);
            if publish.retain {
                // The contract retains nothing: an old Hello out of a broker's store would close epochs
                // that a gateway still holds.
                let reason = "retained";
                tracing::warn!(
                    topic = publish.topic,
                    "refused a retained message: clear it at the broker"
                );
                self.metrics
                    .messages_rejected
                    .get_or_create(&Reason { reason })
                    .inc();
                continue;
            }
            return Ok(Some(Message {
                topic: publish.topic,
                payload: publish.payload,
            }));
        }
    }

    fn publish(&mut self, topic: &str, payload: Vec<u8>) -> Result<(), SourceClosed> {
        self.settle();
        // At most once: what is sent down is repeated until it takes effect, and a gateway that does not
        // take it must not fill the broker.
        let sent = match &*self.uplink.slot() {
            Some((_, client)) => client
                .try_publish(topic, QoS::AtMostOnce, false, payload)
                .map_err(|_| "queue_full"),
            None => Err("no_connection"),
        };
        if let Err(reason) = sent {
            self.metrics
                .downlinks_dropped
                .get_or_create(&Reason { reason })
                .inc();
            tracing::debug!(topic, reason, "a message for a gateway is not sent");
        }
        Ok(())
    }
}

/// Keeps a connection up.
struct Keeper {
    config: MqttConfig,
    filter: String,
    deliver: SyncSender<Arrival>,
    uplink: Arc<Uplink>,
    metrics: Metrics,
    stopped: watch::Receiver<bool>,
}

impl Keeper {
    async fn run(self) {
        let mut connection = 0;
        let mut failures = 0;
        let mut told = None;
        let mut stopping = self.stopped.clone();
        loop {
            connection += 1;
            let mut was_subscribed = false;
            let (end, detail) = self.connect(connection, &mut was_subscribed).await;
            *self.uplink.slot() = None;
            let reason = end.label();
            self.metrics
                .broker_disconnections
                .get_or_create(&Reason { reason })
                .inc();
            if was_subscribed {
                failures = 0;
                told = None;
            }
            if end == End::Stopped {
                return;
            }
            // Once per finding, not once per attempt.
            if told != Some(end) {
                tracing::error!(
                    connection,
                    reason,
                    detail,
                    "no connection to the broker: trying again"
                );
                told = Some(end);
            }
            let pause = pause(failures, random());
            failures += 1;
            tokio::select! {
                () = sleep(pause) => {}
                () = stopped(&mut stopping) => return,
            }
        }
    }

    /// One connection, from the first byte to the last.
    async fn connect(&self, connection: u64, was_subscribed: &mut bool) -> (End, String) {
        let tls = match self.config.files.client_config(&self.config.server_name) {
            Ok(tls) => tls,
            Err(error) => return (End::Credentials, error.to_string()),
        };
        let (client, mut event_loop) = AsyncClient::new(options(&self.config, tls), REQUESTS_MAX);
        event_loop.network_options.set_tcp_nodelay(true);
        event_loop
            .network_options
            .set_connection_timeout(CONNECT_TIMEOUT_S);
        let subscribed = Notify::new();
        let goodbye = client.clone();
        let connected = Notify::new();
        let polling = poll(
            event_loop,
            &client,
            &self.filter,
            &connected,
            |event| match event {
                Heard::Subscribed => {
                    *self.uplink.slot() = Some((connection, client.clone()));
                    *was_subscribed = true;
                    self.metrics.broker_connections.inc();
                    tracing::info!(connection, filter = self.filter, "connected to the broker");
                    subscribed.notify_one();
                    true
                }
                // Waits when ingest has left no room, and with it the whole connection.
                Heard::Message(publish) => self.deliver.send(Arrival { connection, publish }).is_ok(),
            },
        );
        let in_time = async {
            connected.notified().await;
            if timeout(SUBSCRIBE_TIMEOUT, subscribed.notified()).await.is_ok() {
                // Nothing more to watch over.
                std::future::pending::<()>().await;
            }
        };
        tokio::pin!(polling);
        let mut stopping = self.stopped.clone();
        tokio::select! {
            end = &mut polling => end,
            () = in_time => (End::SubscriptionUnanswered, "no SUBACK".to_owned()),
            () = stopped(&mut stopping) => {
                if goodbye.try_disconnect().is_ok() {
                    let _ = timeout(PARTING_TIMEOUT, polling).await;
                }
                (End::Stopped, String::new())
            }
        }
    }
}

/// What a connection tells on its way.
enum Heard {
    Subscribed,
    Message(Publish),
}

/// Polls a connection to its end. `hear` says whether anybody still listens.
async fn poll(
    mut event_loop: EventLoop,
    client: &AsyncClient,
    filter: &str,
    connected: &Notify,
    mut hear: impl FnMut(Heard) -> bool,
) -> (End, String) {
    let mut is_connected = false;
    loop {
        let goes_on = match event_loop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                is_connected = true;
                connected.notify_one();
                // Never the awaiting form: this task is the one that would make room.
                client.try_subscribe(filter, QoS::AtLeastOnce).is_ok()
            }
            Ok(Event::Incoming(Packet::SubAck(answer))) => {
                if answer.return_codes.contains(&SubscribeReasonCode::Failure) {
                    return (
                        End::SubscriptionRefused,
                        format!("{filter}: let the collector's certificate read it at the broker"),
                    );
                }
                hear(Heard::Subscribed)
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => hear(Heard::Message(publish)),
            Ok(Event::Incoming(Packet::Disconnect)) => {
                return (End::ClosedByBroker, "the broker said DISCONNECT".to_owned());
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) => false,
            Ok(_) => true,
            Err(error) => return (name(&error, is_connected), explain(&error)),
        };
        if !goes_on {
            return (End::Stopped, String::new());
        }
    }
}

fn options(config: &MqttConfig, tls: rustls::ClientConfig) -> MqttOptions {
    let mut options = MqttOptions::new(CLIENT_ID, &config.host, config.port);
    options
        .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(
            tls,
        ))))
        .set_clean_session(true)
        .set_keep_alive(KEEP_ALIVE)
        .set_manual_acks(true)
        .set_max_packet_size(crate::broker::PACKET_MAX, crate::broker::PACKET_MAX);
    options
}

/// The name of an error of rumqttc.
fn name(error: &ConnectionError, is_connected: bool) -> End {
    match error {
        ConnectionError::ConnectionRefused(ConnectReturnCode::ServiceUnavailable) => End::Unreachable,
        ConnectionError::ConnectionRefused(_) => End::Refused,
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => End::Timeout,
        ConnectionError::NotConnAck(_) => End::Protocol,
        ConnectionError::RequestsDone => End::Stopped,
        ConnectionError::Tls(rumqttc::TlsError::Io(error)) => name_io(error, is_connected),
        ConnectionError::Tls(_) => End::Tls,
        ConnectionError::Io(error) => name_io(error, is_connected),
        ConnectionError::MqttState(error) => match error {
            StateError::Io(error) => name_io(error, is_connected),
            StateError::ConnectionAborted if is_connected => End::ClosedByBroker,
            StateError::ConnectionAborted => End::Unreachable,
            StateError::AwaitPingResp => End::Timeout,
            StateError::Deserialization(rumqttc::mqttbytes::Error::Io(error)) => name_io(error, is_connected),
            StateError::Deserialization(rumqttc::mqttbytes::Error::PayloadSizeLimitExceeded(_)) => {
                End::Oversized
            }
            _ => End::Protocol,
        },
    }
}

fn name_io(error: &io::Error, is_connected: bool) -> End {
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    match error.kind() {
        _ if is_tls => End::Tls,
        io::ErrorKind::TimedOut => End::Timeout,
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
            if is_connected =>
        {
            End::ClosedByBroker
        }
        _ if is_connected => End::Lost,
        _ => End::Unreachable,
    }
}

/// An error with all its causes: "I/O" alone helps nobody.
fn explain(error: &ConnectionError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text += ": ";
            text += &more;
        }
        cause = error.source();
    }
    text
}

/// How long to wait after so many failures in a row: between half and all of a ceiling that doubles
/// ("equal jitter"). `random` is uniform over its type.
fn pause(failures: u32, random: u32) -> Duration {
    let (first, longest) = PAUSE;
    let ceiling = first
        .saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX))
        .min(longest);
    ceiling / 2 + (ceiling / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

fn random() -> u32 {
    // Without random numbers there is no jitter, which is no reason to stop.
    getrandom::u32().unwrap_or(u32::MAX)
}

/// Resolves when told to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the handle is gone, which is a reason to stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let ceilings: Vec<Duration> = (0..40).map(|failures| pause(failures, u32::MAX)).collect();
        assert_eq!(ceilings[..3], [PAUSE.0, 2 * PAUSE.0, 4 * PAUSE.0]);
        assert_eq!(ceilings[39], PAUSE.1);
        assert_eq!(pause(0, 0), PAUSE.0 / 2);
    }

    #[test]
    fn labels_differ() {
        let labels: std::collections::BTreeSet<_> = End::ALL.iter().map(|end| end.label()).collect();
        assert_eq!(labels.len(), End::ALL.len());
    }

    #[test]
    fn an_error_has_the_name_of_its_cause() {
        let io = |kind: io::ErrorKind| ConnectionError::Io(kind.into());
        let state = |error: StateError| ConnectionError::MqttState(error);
        for (error, before, after) in [
            (io(io::ErrorKind::ConnectionRefused), End::Unreachable, End::Lost),
            (
                io(io::ErrorKind::ConnectionReset),
                End::Unreachable,
                End::ClosedByBroker,
            ),
            (
                ConnectionError::Io(io::Error::other(rustls::Error::DecryptError)),
                End::Tls,
                End::Tls,
            ),
            (
                ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized),
                End::Refused,
                End::Refused,
            ),
            (
                state(StateError::ConnectionAborted),
                End::Unreachable,
                End::ClosedByBroker,
            ),
            (state(StateError::AwaitPingResp), End::Timeout, End::Timeout),
            (
                state(StateError::Deserialization(
                    rumqttc::mqttbytes::Error::PayloadSizeLimitExceeded(1),
                )),
                End::Oversized,
                End::Oversized,
            ),
            (state(StateError::WrongPacket), End::Protocol, End::Protocol),
            (
                state(StateError::Deserialization(rumqttc::mqttbytes::Error::Io(
                    io::ErrorKind::UnexpectedEof.into(),
                ))),
                End::Unreachable,
                End::ClosedByBroker,
            ),
        ] {
            assert_eq!(name(&error, false), before, "{error}");
            assert_eq!(name(&error, true), after, "{error}");
        }
    }

    /// A source fed by hand, with a connection that nobody polls.
    fn fed(room: usize) -> (SyncSender<Arrival>, MqttSource, EventLoop, Metrics) {
        let (deliver, arrivals) = sync_channel(ARRIVALS_MAX);
        let (client, event_loop) = AsyncClient::new(MqttOptions::new("a", "localhost", 1), room);
        let metrics = Metrics::default();
        let source = MqttSource {
            arrivals,
            uplink: Arc::new(Uplink(Mutex::new(Some((1, client))))),
            owed: VecDeque::new(),
            metrics: metrics.clone(),
        };
        (deliver, source, event_loop, metrics)
    }

    fn arrival(connection: u64, pkid: u16) -> Arrival {
        let mut publish = Publish::new("trunnion/up/plant/gw-1/data", QoS::AtLeastOnce, vec![7]);
        publish.pkid = pkid;
        Arrival { connection, publish }
    }

    #[test]
    fn confirmations_without_room_are_owed_and_those_of_another_connection_are_not() {
        let (deliver, mut source, _event_loop, _) = fed(1);
        for pkid in 1..=3 {
            deliver.send(arrival(1, pkid)).unwrap();
            assert!(source.receive(Duration::ZERO).unwrap().is_some());
        }
        let owed = |source: &MqttSource| source.owed.iter().map(|(_, owed)| owed.pkid).collect::<Vec<_>>();
        assert_eq!(owed(&source), [2, 3]);
        deliver.send(arrival(0, 9)).unwrap();
        assert!(source.receive(Duration::ZERO).unwrap().is_some());
        assert_eq!(owed(&source), [2, 3], "of a connection that has ended");
        *source.uplink.slot() = None;
        assert_eq!(source.receive(Duration::ZERO), Ok(None));
        assert!(source.owed.is_empty());
    }

    #[test]
    fn what_cannot_be_sent_down_is_counted_and_stops_nobody() {
        let (_deliver, mut source, _event_loop, metrics) = fed(1);
        for _ in 0..3 {
            source.publish("trunnion/down/plant/gw-1/ack", vec![1]).unwrap();
        }
        *source.uplink.slot() = None;
        source.publish("trunnion/down/plant/gw-1/ack", vec![1]).unwrap();
        let count = |reason| metrics.downlinks_dropped.get_or_create(&Reason { reason }).get();
        assert_eq!((count("queue_full"), count("no_connection")), (2, 1));
    }

    #[test]
    fn a_retained_message_is_refused_by_name() {
        let (deliver, mut source, _event_loop, metrics) = fed(8);
        let mut old = arrival(1, 1);
        old.publish.retain = true;
        deliver.send(old).unwrap();
        assert_eq!(source.receive(Duration::ZERO), Ok(None));
        let reason = Reason { reason: "retained" };
        assert_eq!(metrics.messages_rejected.get_or_create(&reason).get(), 1);
        drop(deliver);
        assert_eq!(source.receive(Duration::ZERO), Err(SourceClosed));
    }

    const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
    const SUBACK: [u8; 5] = [0x90, 3, 0, 1, 1];
    const SOON: Duration = Duration::from_secs(20);

    /// A plant's certificates, and a broker on loopback that serves one connection after another as `serve`
    /// says.
    fn fake_broker(
        serve: impl Fn(&mut rustls::StreamOwned<rustls::ServerConnection, std::net::TcpStream>) + Send + 'static,
    ) -> (tempfile::TempDir, MqttConfig) {
        use crate::pki;
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("pki");
        #[allow(
            clippy::disallowed_methods,
            reason = "certificates are judged by the real clock"
        )]
        let now = std::time::SystemTime::now().into();
        let site = Name::new("plant").unwrap();
        pki::init(&dir, &site, &[], now).unwrap();
        pki::broker_client(&dir, &site, now).unwrap();
        let pem = |file: &str| std::fs::read(dir.join(file)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(&pem(pki::SERVER_CERTIFICATE)).unwrap()],
                PrivateKeyDer::from_pem_slice(&pem(pki::SERVER_KEY)).unwrap(),
            )
            .unwrap();
        let server = Arc::new(server);
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            // Ends with the test's process; a client that has gone is an error of the stream.
            while let Ok((stream, _)) = listener.accept() {
                let session = rustls::ServerConnection::new(Arc::clone(&server)).unwrap();
                serve(&mut rustls::StreamOwned::new(session, stream));
            }
        });
        let config = MqttConfig {
            host: "127.0.0.1".to_owned(),
            port,
            server_name: ServerName::try_from(pki::server_name(&site)).unwrap(),
            files: Files {
                ca: dir.join("ca.crt"),
                certificate: dir.join(pki::CLIENT_CERTIFICATE),
                key: dir.join(pki::CLIENT_KEY),
            },
        };
        (root, config)
    }

    /// As [`answer`], and then waits until the client leaves; an empty answer hangs up at once.
    fn say(stream: &mut (impl io::Read + io::Write), answers: &[&[u8]]) {
        let hangs_up = answers.last().is_some_and(|last| last.is_empty());
        answer(stream, &answers[..answers.len() - usize::from(hangs_up)]);
        if !hangs_up {
            let _ = io::copy(stream, &mut io::sink());
        }
    }

    /// Answers whatever the client says with one of these after the other.
    fn answer(stream: &mut (impl io::Read + io::Write), answers: &[&[u8]]) {
        let mut room = [0; 1_024];
        for answer in answers {
            if stream.read(&mut room).is_err() || stream.write_all(answer).is_err() {
                return;
            }
            let _ = stream.flush();
        }
    }

    fn start(config: MqttConfig) -> (MqttBroker, MqttSource, Metrics) {
        // A test that fails shows what was said.
        let _ = tracing_subscriber::fmt().with_test_writer().try_init();
        let metrics = Metrics::default();
        let site = Name::new("plant").unwrap();
        let (broker, source) = MqttBroker::start(config, &site, metrics.clone()).unwrap();
        (broker, source, metrics)
    }

    #[allow(clippy::disallowed_methods, reason = "waits for a condition, with a limit")]
    fn await_end(metrics: &Metrics, end: End) {
        let reason = end.label();
        let count = || {
            metrics
                .broker_disconnections
                .get_or_create(&Reason { reason })
                .get()
        };
        let deadline = std::time::Instant::now() + SOON;
        while count() == 0 {
            assert!(
                std::time::Instant::now() < deadline,
                "no {reason}: {}",
                metrics.render()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn every_way_in_which_a_broker_fails_has_a_name() {
        let cases: [(&'static [&'static [u8]], End); 6] = [
            (&[&[0x20, 2, 0, 5]], End::Refused),
            (&[&[0x20, 2, 0, 3]], End::Unreachable),
            (&[&[0xd0, 0]], End::Protocol),
            (&[&CONNACK, &[0x90, 3, 0, 1, 0x80]], End::SubscriptionRefused),
            (&[&CONNACK, &SUBACK, &[]], End::ClosedByBroker),
            (
                &[&CONNACK, &[0x90, 3, 0, 1, 1, 0x30, 0xff, 0xff, 0xff, 0x7f]],
                End::Oversized,
            ),
        ];
        for (answers, end) in cases {
            let (_root, config) = fake_broker(move |stream| say(stream, answers));
            let (broker, mut source, metrics) = start(config);
            await_end(&metrics, end);
            assert_eq!(source.receive(Duration::ZERO), Ok(None), "{end:?}");
            broker.stop();
            assert_eq!(source.receive(Duration::ZERO), Err(SourceClosed), "{end:?}");
        }
    }

    #[test]
    fn a_broker_of_another_authority_or_name_is_not_believed() {
        let (_root, config) = fake_broker(|stream| say(stream, &[&CONNACK]));
        let (other, _) = fake_broker(|stream| say(stream, &[&CONNACK]));
        let stranger = MqttConfig {
            files: Files {
                ca: other.path().join("pki/ca.crt"),
                ..config.files.clone()
            },
            ..config.clone()
        };
        let misnamed = MqttConfig {
            server_name: ServerName::try_from("collector.bremen").unwrap(),
            ..config.clone()
        };
        for config in [stranger, misnamed] {
            let (_broker, _source, metrics) = start(config);
            await_end(&metrics, End::Tls);
        }
        std::fs::remove_file(&config.files.key).unwrap();
        let (_broker, _source, metrics) = start(config);
        await_end(&metrics, End::Credentials);
    }

    #[test]
    fn a_message_is_confirmed_when_ingest_takes_it_and_not_before() {
        let (heard, confirmations) = sync_channel(8);
        let (_root, config) = fake_broker(move |stream| {
            use std::io::Read;
            let publish = [&[0x32, 7, 0, 3][..], b"t/a", &[0, 9]].concat();
            answer(stream, &[&CONNACK, &[&SUBACK[..], &publish].concat()]);
            let mut packet = [0; 4];
            if stream.read_exact(&mut packet).is_ok() {
                let _ = heard.send(packet);
            }
        });
        let (_broker, mut source, _) = start(config);
        let early = confirmations.recv_timeout(Duration::from_millis(200));
        assert_eq!(early, Err(RecvTimeoutError::Timeout));
        let message = source.receive(SOON).unwrap().expect("the message");
        assert_eq!(message.topic, "t/a");
        assert_eq!(confirmations.recv_timeout(SOON), Ok([0x40, 2, 0, 9]));
    }
}
