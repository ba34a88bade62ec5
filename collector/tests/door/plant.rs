//! A door, a broker and ingest's link on loopback, and the clients that come to it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use trunnion_collector::broker::{Broker, BrokerLink};
use trunnion_collector::door::{Door, DoorConfig, Limits, Rate, RefusalReason, Reload};
use trunnion_collector::ingest::{BlockSource, Message};
use trunnion_collector::metrics::{Metrics, Reason};
use trunnion_collector::pki::{self, Bundle};
use trunnion_common::id::Name;

/// Long enough for a loaded machine, and only ever waited for in full by a failing test.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Plant {
    _root: tempfile::TempDir,
    pub(crate) pki: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Metrics,
    pub(crate) reload: Reload,
    link: BrokerLink,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
    _broker: Broker,
}

/// Limits that no test meets unless it means to.
pub(crate) fn roomy() -> Limits {
    let plenty = Rate {
        per_second: 1e6,
        burst: 1e6,
    };
    Limits {
        attempts: plenty,
        gateway_attempts: plenty,
        ..Limits::default()
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

#[allow(
    clippy::disallowed_methods,
    reason = "certificates are judged by the real clock"
)]
pub(crate) fn today() -> OffsetDateTime {
    std::time::SystemTime::now().into()
}

pub(crate) fn new_pki(root: &Path, site: &str) -> PathBuf {
    let dir = root.join(site);
    pki::init(&dir, &name(site), &["127.0.0.1".into()], today()).unwrap();
    dir
}

pub(crate) fn config(pki: &Path, limits: Limits) -> DoorConfig {
    DoorConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        certificate: pki.join("server.crt"),
        key: pki.join("server.key"),
        client_ca: pki.join("ca.crt"),
        crl: Some(pki.join("crl.pem")),
        limits,
    }
}

impl Plant {
    pub(crate) async fn start() -> Self {
        Self::start_with(roomy()).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        LazyLock::force(&LOG);
        let root = tempfile::tempdir().unwrap();
        let pki = new_pki(root.path(), "plant");
        let metrics = Metrics::default();
        let (broker, link) = tokio::task::block_in_place(|| Broker::start(metrics.clone())).unwrap();
        let door = Door::bind(config(&pki, limits), broker.access(), metrics.clone())
            .await
            .unwrap();
        let (stop, stopped) = watch::channel(false);
        Self {
            _root: root,
            pki,
            address: door.local_addr(),
            metrics,
            reload: door.reload(),
            link,
            stop,
            running: tokio::spawn(door.run(stopped)),
            _broker: broker,
        }
    }

    pub(crate) fn enrol(&self, gateway: &str) -> Bundle {
        let endpoints = [self.address.to_string()];
        pki::gateway_add(&self.pki, &name("plant"), &name(gateway), &endpoints, today()).unwrap()
    }

    /// The next message that reached ingest.
    pub(crate) fn receive(&mut self) -> Message {
        let received = tokio::task::block_in_place(|| self.link.receive(SOON));
        received.unwrap().expect("a message reaches ingest")
    }

    pub(crate) fn receive_within(&mut self, patience: Duration) -> Option<Message> {
        tokio::task::block_in_place(|| self.link.receive(patience)).unwrap()
    }

    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.link.publish(topic, payload.to_vec()).unwrap();
    }

    pub(crate) fn refused(&self, reason: RefusalReason) -> u64 {
        self.metrics
            .door_refused
            .get_or_create(&Reason {
                reason: reason.label(),
            })
            .get()
    }

    /// All refusals counted so far.
    pub(crate) fn refusals(&self) -> u64 {
        RefusalReason::ALL
            .iter()
            .map(|&reason| self.refused(reason))
            .sum()
    }

    /// Waits until `reason` was counted `count` times.
    pub(crate) async fn await_refused(&self, reason: RefusalReason, count: u64) {
        await_until(reason.label(), || self.refused(reason) >= count).await;
        assert_eq!(self.refused(reason), count, "{}", reason.label());
    }

    /// Waits until the log says that `client` was refused, and why.
    pub(crate) async fn await_logged(&self, client: SocketAddr, reason: RefusalReason) {
        let (peer, reason) = (format!("peer={client}"), format!("reason=\"{}\"", reason.label()));
        await_until("a log line", || {
            log()
                .lines()
                .any(|line| line.contains(&peer) && line.contains(&reason))
        })
        .await;
    }

    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        timeout(SOON, self.running)
            .await
            .expect("the door closes")
            .unwrap();
    }
}

pub(crate) async fn await_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

static LOG: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(|| {
    let buffer = Arc::new(Mutex::new(Vec::new()));
    let writer = buffer.clone();
    tracing_subscriber::fmt()
        .with_env_filter("trunnion_collector=info")
        .with_ansi(false)
        .with_writer(move || Writer(writer.clone()))
        .init();
    buffer
});

pub(crate) fn log() -> String {
    String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned()
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client's TLS configuration: with the bundle's authority, and its certificate or that of another.
pub(crate) fn tls(ca: &str, identity: Option<(&str, &str)>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match identity {
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    }
}

pub(crate) fn bundle_tls(bundle: &Bundle) -> ClientConfig {
    tls(&bundle.ca, Some((&bundle.certificate, &bundle.key)))
}

/// A client that says whatever it is told to.
pub(crate) struct Client {
    pub(crate) local: SocketAddr,
    stream: TlsStream<TcpStream>,
}

impl Client {
    pub(crate) async fn dial(address: SocketAddr, config: ClientConfig) -> io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let local = tcp.local_addr()?;
        let name = "collector.plant".try_into().unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        Ok(Self { local, stream })
    }

    /// With a handshake done and nothing said.
    pub(crate) async fn silent(plant: &Plant, bundle: &Bundle) -> Self {
        Self::dial(plant.address, bundle_tls(bundle)).await.unwrap()
    }

    /// With a session.
    pub(crate) async fn connected(plant: &Plant, bundle: &Bundle) -> Self {
        let mut client = Self::silent(plant, bundle).await;
        client.send(&connect(bundle)).await;
        client.expect(&CONNACK).await;
        client
    }

    /// With a session and its own downlink.
    pub(crate) async fn subscribed(plant: &Plant, bundle: &Bundle) -> Self {
        let mut client = Self::connected(plant, bundle).await;
        client.send(&subscribe(7, &[&down(bundle, "ack")])).await;
        client.expect(&[0x90, 3, 0, 7, 0]).await;
        client
    }

    /// Sends; that the door has hung up already is for the caller to find out.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    pub(crate) async fn expect(&mut self, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        timeout(SOON, self.stream.read_exact(&mut got))
            .await
            .expect("an answer in time")
            .expect("an answer");
        assert_eq!(got, bytes);
    }

    /// A ping and its answer: the session is alive, and everything sent before has been judged.
    pub(crate) async fn ping(&mut self) {
        self.send(&PINGREQ).await;
        self.expect(&[0xd0, 0]).await;
    }

    /// Reads until the door hangs up; returns what it said before.
    pub(crate) async fn hung_up(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        match timeout(SOON, self.stream.read_to_end(&mut said)).await {
            // A reset, a missing close_notify or a TLS alert are all ways of hanging up.
            Ok(_) => said,
            Err(_) => panic!("the door did not hang up on {}", self.local),
        }
    }

    /// Says that nothing more comes, and reads until the door has hung up: all that was sent is judged.
    pub(crate) async fn finish(&mut self) -> Vec<u8> {
        let _ = self.stream.shutdown().await;
        self.hung_up().await
    }

    pub(crate) fn server_certificate(&self) -> Vec<u8> {
        self.stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }
}

/// Where a refused client's connection comes from, for the log.
pub(crate) async fn dial_and_fail(plant: &Plant, config: ClientConfig) -> SocketAddr {
    let tcp = TcpStream::connect(plant.address).await.unwrap();
    let local = tcp.local_addr().unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect("collector.plant".try_into().unwrap(), tcp);
    if let Ok(stream) = timeout(SOON, connecting).await.unwrap() {
        // TLS 1.3 tells the client of its refusal after its own part of the handshake.
        let mut client = Client { local, stream };
        assert_eq!(client.hung_up().await, [0; 0]);
    }
    local
}

pub(crate) const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
pub(crate) const PINGREQ: [u8; 2] = [0xc0, 0];

pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    while length > 127 {
        packet.push((length & 127) as u8 | 128);
        length >>= 7;
    }
    packet.push(length as u8);
    packet.extend(body);
    packet
}

pub(crate) fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u16).to_be_bytes()[..], text].concat()
}

pub(crate) fn own_id(bundle: &Bundle) -> String {
    format!("trunnion-{}-{}", bundle.site, bundle.gateway)
}

pub(crate) fn up(bundle: &Bundle, kind: &str) -> String {
    format!("trunnion/up/{}/{}/{kind}", bundle.site, bundle.gateway)
}

pub(crate) fn down(bundle: &Bundle, kind: &str) -> String {
    format!("trunnion/down/{}/{}/{kind}", bundle.site, bundle.gateway)
}

pub(crate) fn connect_as(client_id: &[u8], flags: u8, keep_alive: u16, rest: &[u8]) -> Vec<u8> {
    let head = [&string("MQTT")[..], &[4, flags], &keep_alive.to_be_bytes()].concat();
    packet(0x10, &[&head[..], &string(client_id), rest].concat())
}

pub(crate) fn connect(bundle: &Bundle) -> Vec<u8> {
    connect_as(own_id(bundle).as_bytes(), 0b10, 60, &[])
}

pub(crate) fn publish(first: u8, topic: &[u8], payload: &[u8]) -> Vec<u8> {
    let id: &[u8] = if first & 0b110 != 0 { &[0, 1] } else { &[] };
    packet(first, &[&string(topic)[..], id, payload].concat())
}

pub(crate) fn subscribe(id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for filter in filters {
        body.extend(string(filter));
        body.push(1);
    }
    packet(0x82, &body)
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, good enough to be hostile with.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}
