//! TLS acceptor in front of the broker: who it is, which packets and topics it may send, how much.
//!
//! The only socket that gateways reach. A connection passes these stages, each in its own task and
//! each with a time limit, so that nobody waits for anybody else:
//!
//! 1. **Address**: attempts and unfinished handshakes are bounded ([`Limits`]).
//! 2. **Certificate**: mutual TLS; signed by the plant's authority, for clients, in time, not revoked.
//!    The one URI `urn:trunnion:<site>:<gateway>` in it is the client's identity.
//! 3. **CONNECT**: under the identity's own client id, whose older session is ended first.
//! 4. **Packets**: only legal ones, only on the identity's own topics; the rest ends the connection
//!    before any of it has reached the broker.
//!
//! The certificate files are followed: a renewed server certificate is used for the next handshake, and
//! a session whose certificate was revoked is cut. Each refusal is logged with its reason and counted
//! by it ([`RefusalReason`]).
//!
//! What the door does not do: it does not look into payloads, and it promises nothing about delivery.

pub(crate) mod credentials;
mod examination;
mod filter;
mod identity;
mod limit;
mod refusal;
mod session;
mod turn;

use crate::broker::BrokerAccess;
use crate::metrics::{Metrics, Reason};
use credentials::{Contents, Credentials, Files};
use identity::Identity;
use limit::{PeerRefusal, Peers};
use session::Session;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use trunnion_common::id::GatewayId;
use turn::Turns;

pub use credentials::CredentialsError;
pub use examination::{Examined, examine};
pub use filter::client_id;
pub use limit::Rate;
pub use refusal::{Refusal, RefusalReason};

/// Connections at one time. Each costs three descriptors (the client's, and both ends of its way to the
/// broker) and, at worst, the memory of the longest packet twice.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Connections of one address that have not shown a certificate yet; idle ones keep nobody out, since
/// each gives up its place when its handshake times out.
pub const HANDSHAKES_MAX: usize = 1_024;
/// A TLS handshake takes three packets; five seconds forgive a satellite link and a resent packet.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// From the handshake to the CONNECT.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one side may take nothing before it counts as gone.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Attempts of one address: a thousand gateways behind one router come back at once after an outage,
/// and what goes on beyond that is an attack or a fault.
pub const ATTEMPTS: Rate = Rate {
    per_second: 50.0,
    burst: 1_500.0,
};
/// Sessions begun by one gateway; more means that two machines share its certificate.
pub const GATEWAY_ATTEMPTS: Rate = Rate {
    per_second: 1.0,
    burst: 20.0,
};
/// Packets of one session: a hundred times what a busy gateway sends, a quarter of what the broker carries.
pub const PACKETS: Rate = Rate {
    per_second: 50_000.0,
    burst: 100_000.0,
};
/// Bytes of one session: above what a gateway's network carries, so that only a broken one meets it.
pub const BYTES: Rate = Rate {
    per_second: 128e6,
    burst: 256e6,
};
/// How often certificate files are read again. A revocation takes effect within this and a moment.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// How long sessions may take to end when the collector stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a failed accept, which mostly means that no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the door listens on and trusts.
#[derive(Clone, Debug)]
pub struct DoorConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The server's certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM; readable by its owner alone.
    pub key: PathBuf,
    /// The authorities that sign gateways' certificates, PEM.
    pub client_ca: PathBuf,
    /// Their revocation lists, PEM.
    pub crl: Option<PathBuf>,
    /// How much of everything.
    pub limits: Limits,
}

impl DoorConfig {
    fn files(&self) -> Files {
        Files {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            client_ca: self.client_ca.clone(),
            crl: self.crl.clone(),
        }
    }
}

/// Whether a door's certificates, key and revocation list go together and are in time.
pub fn check_certificates(config: &DoorConfig, now: OffsetDateTime) -> Result<(), CredentialsError> {
    config.files().check(now)
}

/// How much of everything; each default is the constant of its name.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// [`HANDSHAKES_MAX`].
    pub handshakes_max: usize,
    /// [`HANDSHAKE_TIMEOUT`].
    pub handshake_timeout: Duration,
    /// [`CONNECT_TIMEOUT`].
    pub connect_timeout: Duration,
    /// [`STALL_TIMEOUT`].
    pub stall_timeout: Duration,
    /// [`ATTEMPTS`].
    pub attempts: Rate,
    /// [`GATEWAY_ATTEMPTS`].
    pub gateway_attempts: Rate,
    /// [`PACKETS`].
    pub packets: Rate,
    /// [`BYTES`].
    pub bytes: Rate,
    /// [`RELOAD_INTERVAL`].
    pub reload_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            handshakes_max: HANDSHAKES_MAX,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            stall_timeout: STALL_TIMEOUT,
            attempts: ATTEMPTS,
            gateway_attempts: GATEWAY_ATTEMPTS,
            packets: PACKETS,
            bytes: BYTES,
            reload_interval: RELOAD_INTERVAL,
        }
    }
}

/// Why the door does not open.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// Certificates or keys.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The address.
    #[error("cannot listen on {address}: {source}; is the port taken, or below 1024?")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// The door, listening; [`run`](Self::run) opens it.
pub struct Door {
    listener: TcpListener,
    address: SocketAddr,
    files: Files,
    contents: Contents,
    credentials: watch::Sender<Arc<Credentials>>,
    asked: Arc<Notify>,
    gate: Arc<Gate>,
}

/// Asks a door to read its certificate files now.
#[derive(Clone, Debug)]
pub struct Reload(Arc<Notify>);

impl Reload {
    /// Asks; the door keeps what it has when the files are bad.
    pub fn request(&self) {
        self.0.notify_one();
    }
}

impl Door {
    /// Reads the certificates and takes the address.
    pub async fn bind(config: DoorConfig, access: BrokerAccess, metrics: Metrics) -> Result<Self, DoorError> {
        let files = config.files();
        let DoorConfig { listen, limits, .. } = config;
        let contents = files.read()?;
        let credentials = files.build(&contents)?;
        let refused = |source| DoorError::Listen {
            address: listen,
            source,
        };
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        Ok(Self {
            address: listener.local_addr().map_err(refused)?,
            listener,
            files,
            contents,
            credentials: watch::Sender::new(Arc::new(credentials)),
            asked: Arc::default(),
            gate: Arc::new(Gate {
                places: Arc::new(Semaphore::new(limits.connections_max)),
                peers: Mutex::new(Peers::new(limits.attempts, limits.handshakes_max)),
                turns: Turns::new(limits.gateway_attempts),
                limits,
                access,
                metrics,
            }),
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// A handle to have the certificate files read at once.
    pub fn reload(&self) -> Reload {
        Reload(self.asked.clone())
    }

    /// Admits and serves until `shutdown` turns true (or its sender is gone); then lets sessions end.
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        let Self {
            listener,
            address,
            files,
            contents,
            credentials,
            asked,
            gate,
        } = self;
        tracing::info!(%address, "the door is open");
        let mut connections = JoinSet::new();
        let announced = credentials.subscribe();
        let mut stop = shutdown.clone();
        let follow = files.follow(contents, gate.limits.reload_interval, asked, credentials);
        tokio::pin!(follow);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        if let Some(visit) = Gate::receive(&gate, peer) {
                            connections.spawn(visit.run(stream, announced.clone(), shutdown.clone()));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a connection's task failed");
                    }
                }
                // Ends only with the runtime.
                () = &mut follow => break,
                () = stopped(&mut stop) => break,
            }
        }
        drop(listener);
        let drained = timeout(DRAIN_TIMEOUT, async {
            while connections.join_next().await.is_some() {}
        })
        .await;
        if drained.is_err() {
            tracing::warn!(
                sessions = connections.len(),
                "sessions did not end in time and are cut"
            );
        }
        tracing::info!(%address, "the door is closed");
    }
}

/// Returns when the collector stops; a sender that is gone says the same as one that says so.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// What all connections share.
pub(crate) struct Gate {
    limits: Limits,
    places: Arc<Semaphore>,
    peers: Mutex<Peers>,
    turns: Turns,
    access: BrokerAccess,
    metrics: Metrics,
}

impl Gate {
    /// Decides by the address alone.
    fn receive(gate: &Arc<Self>, peer: SocketAddr) -> Option<Visit> {
        let Ok(place) = gate.places.clone().try_acquire_owned() else {
            gate.refuse(
                peer,
                None,
                &Refusal::new(RefusalReason::ConnectionsFull, "no place left"),
            );
            return None;
        };
        let begun = gate.peers().begin(peer.ip(), Instant::now().into_std());
        match begun {
            Ok(key) => {
                let handshake = Handshake {
                    gate: gate.clone(),
                    key,
                };
                Some(Visit {
                    gate: gate.clone(),
                    peer,
                    _place: place,
                    handshake,
                })
            }
            Err(PeerRefusal::Handshakes) => {
                let detail = "too many unfinished handshakes from this address";
                gate.refuse(peer, None, &Refusal::new(RefusalReason::HandshakesFull, detail));
                None
            }
            Err(PeerRefusal::Attempts { first: true }) => {
                let detail = "too many attempts from this address; further ones are only counted";
                gate.refuse(peer, None, &Refusal::new(RefusalReason::TooManyAttempts, detail));
                None
            }
            Err(PeerRefusal::Attempts { first: false }) => {
                gate.count(RefusalReason::TooManyAttempts);
                None
            }
        }
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        // Counters only; one that a panic left behind does no harm.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a session in, until the result is dropped.
    fn opened(&self, peer: SocketAddr, gateway: &GatewayId) -> OpenSession {
        tracing::info!(%peer, %gateway, "admitted");
        self.metrics.door_admitted.inc();
        self.metrics.door_sessions.inc();
        OpenSession(self.metrics.clone())
    }

    fn refuse(&self, peer: SocketAddr, gateway: Option<&GatewayId>, refusal: &Refusal) {
        let (reason, detail) = (refusal.reason.label(), refusal.detail.as_str());
        let gateway = gateway.map(tracing::field::display);
        tracing::warn!(%peer, gateway, reason, detail, "refused at the door");
        self.count(refusal.reason);
    }

    fn count(&self, reason: RefusalReason) {
        self.metrics
            .door_refused
            .get_or_create(&Reason {
                reason: reason.label(),
            })
            .inc();
    }
}

/// A session in the figures.
struct OpenSession(Metrics);

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.0.door_sessions.dec();
    }
}

/// An unfinished handshake in its address's count.
struct Handshake {
    gate: Arc<Gate>,
    key: IpAddr,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.gate.peers().handshake_ended(self.key);
    }
}

/// A connection that has not shown a certificate yet.
struct Visit {
    gate: Arc<Gate>,
    peer: SocketAddr,
    _place: OwnedSemaphorePermit,
    handshake: Handshake,
}

impl Visit {
    async fn run(
        self,
        stream: TcpStream,
        credentials: watch::Receiver<Arc<Credentials>>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let Self {
            gate,
            peer,
            _place,
            handshake,
        } = self;
        let mut gateway = None;
        let served = async {
            let mut credentials = credentials;
            let current = credentials.borrow_and_update().clone();
            // Small packets must not wait for large ones (acknowledgements above all).
            let _ = stream.set_nodelay(true);
            let accepting = timeout(gate.limits.handshake_timeout, current.acceptor.accept(stream));
            let stream = tokio::select! {
                accepted = accepting => match accepted {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => return Err(Refusal::handshake(&error)),
                    Err(_) => return Err(Refusal::new(RefusalReason::HandshakeTimeout, "no TLS handshake")),
                },
                () = stopped(&mut shutdown) => return Ok(()),
            };
            drop(handshake);
            let chain: Vec<_> = stream
                .get_ref()
                .1
                .peer_certificates()
                .unwrap_or_default()
                .to_vec();
            let certificate = chain
                .first()
                .ok_or_else(|| Refusal::tls(&rustls::Error::NoCertificatesPresented))?;
            let identity = Identity::of(certificate)?;
            gateway = Some(identity.gateway.clone());
            let session = Session {
                gate: gate.clone(),
                peer,
                identity,
                chain,
                credentials,
                shutdown,
            };
            session.run(stream).await
        };
        if let Err(refusal) = served.await {
            gate.refuse(peer, gateway.as_ref(), &refusal);
        }
    }
}
