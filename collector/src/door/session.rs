//! One gateway's connection, from its certificate to the last byte.

use super::credentials::Credentials;
use super::filter::{Connect, Event, Filter};
use super::identity::Identity;
use super::limit::Bucket;
use super::refusal::{Refusal, RefusalReason};
use super::turn::Turn;
use super::{Gate, Limits, stopped};
use crate::broker::BrokerAccess;
use bytes::{Buf, BytesMut};
use rustls::pki_types::{CertificateDer, UnixTime};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::server::TlsStream;

/// Bytes read at once: a TLS record holds no more.
const CHUNK: usize = 16 << 10;
/// Bytes gathered before they are written to the broker, so that small packets share a write.
const BATCH: usize = 64 << 10;
/// How long parting may take, on either side.
const PARTING_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a session looks whether its certificate has expired. A timer set to the end would be
/// wrong after the clock was set.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(30);

/// A client whose certificate was accepted.
pub(crate) struct Session {
    pub(crate) gate: Arc<Gate>,
    pub(crate) peer: SocketAddr,
    pub(crate) identity: Identity,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) credentials: watch::Receiver<Arc<Credentials>>,
    pub(crate) shutdown: watch::Receiver<bool>,
}

/// A gateway's place at the broker.
struct Place {
    turn: Turn,
    access: BrokerAccess,
    stream: TcpStream,
}

/// How a session ended.
enum End {
    /// By a DISCONNECT: the will is void.
    Disconnected,
    /// The connection broke.
    Lost(String),
    /// Cut by the door.
    Cut(Refusal),
    /// The collector stops: gateways are not dead because it is.
    Shutdown,
}

impl Session {
    /// Serves the client until it goes or has to go.
    pub(crate) async fn run(mut self, stream: TlsStream<TcpStream>) -> Result<(), Refusal> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut filter = Filter::new(self.identity.gateway.clone());
        let mut shutdown = self.shutdown.clone();
        let greeted = tokio::select! {
            greeted = self.greet(&mut reader, &mut filter) => greeted,
            () = stopped(&mut shutdown) => return Ok(()),
        };
        let opened = match greeted {
            Ok(connect) => self.open().await.map(|place| (connect, place)),
            Err(refusal) => Err(refusal),
        };
        match opened {
            Ok((connect, place)) => {
                let _open = self.gate.opened(self.peer, &self.identity.gateway);
                self.shuttle(connect, place, reader, writer, filter).await
            }
            Err(refusal) => {
                if let Some(code) = refusal.reason.connack() {
                    let _ = timeout(PARTING_TIMEOUT, send(&mut writer, &connack(code))).await;
                }
                let _ = timeout(PARTING_TIMEOUT, writer.shutdown()).await;
                Err(refusal)
            }
        }
    }

    /// Waits for the CONNECT.
    async fn greet(
        &self,
        reader: &mut ReadHalf<TlsStream<TcpStream>>,
        filter: &mut Filter,
    ) -> Result<Connect, Refusal> {
        let greeting = async {
            loop {
                if let Some(Event::Connect(connect)) = filter.poll()? {
                    return Ok(connect);
                }
                filter.buffer().reserve(CHUNK);
                match reader.read_buf(filter.buffer()).await {
                    Ok(0) => return Err(Refusal::new(RefusalReason::NotConnected, "left without CONNECT")),
                    Ok(_) => {}
                    Err(error) => return Err(Refusal::new(RefusalReason::NotConnected, error.to_string())),
                }
            }
        };
        match timeout(self.gate.limits.connect_timeout, greeting).await {
            Ok(greeted) => greeted,
            Err(_) => Err(Refusal::new(RefusalReason::ConnectTimeout, "no CONNECT")),
        }
    }

    /// Takes the gateway's place at the broker.
    async fn open(&self) -> Result<Place, Refusal> {
        let turn = self
            .gate
            .turns
            .claim(&self.identity.gateway, Instant::now().into_std())
            .await?;
        let mut access = self.gate.access.clone();
        // Not the client's own id, in which the hyphens of site and gateway could be mistaken for each
        // other: two gateways must never meet under one id at the broker.
        let id = format!("{}:{}", self.identity.gateway.site, self.identity.gateway.gateway);
        match access.connect(&id).await {
            Ok(stream) => Ok(Place { turn, access, stream }),
            Err(error) => Err(Refusal::new(RefusalReason::BrokerUnavailable, error.to_string())),
        }
    }

    /// Carries bytes both ways until something ends the session, and leaves the broker in order.
    async fn shuttle(
        &mut self,
        connect: Connect,
        place: Place,
        mut reader: ReadHalf<TlsStream<TcpStream>>,
        mut writer: WriteHalf<TlsStream<TcpStream>>,
        mut filter: Filter,
    ) -> Result<(), Refusal> {
        let Place {
            mut turn,
            access,
            stream,
        } = place;
        let limits = &self.gate.limits;
        let (mut from_broker, mut to_broker) = stream.into_split();
        // What the filter has passed and the broker has not taken. It outlives a cancelled write, so that
        // nothing is ever cut within a packet.
        let mut outbox = BytesMut::new();
        // Before anything can end the session: a client that was admitted is told so.
        let end = match timeout(PARTING_TIMEOUT, send(&mut writer, &connack(0))).await {
            Ok(Ok(())) => {
                let upstream = upstream(
                    limits,
                    connect.keep_alive,
                    &mut reader,
                    &mut filter,
                    &mut outbox,
                    &mut to_broker,
                );
                let downstream = downstream(limits, &mut from_broker, &mut writer);
                let watch = watch(
                    &self.identity,
                    &self.chain,
                    &mut turn,
                    access,
                    &mut self.credentials,
                    &mut self.shutdown,
                );
                tokio::select! {
                    end = upstream => end,
                    end = downstream => end,
                    end = watch => end,
                }
            }
            Ok(Err(error)) => End::Lost(error.to_string()),
            Err(_) => End::Lost("takes no CONNACK".to_owned()),
        };
        if let (End::Lost(_) | End::Cut(_), Some(will)) = (&end, &connect.will) {
            outbox.extend_from_slice(will);
        }
        // rumqttd reads nothing while it cannot write, and closes once the router has been told: so all it
        // has is taken off it, and at the end of that the gateway's id is free.
        let leave = async {
            let last_words = async {
                flush(&mut outbox, &mut to_broker).await?;
                to_broker.shutdown().await
            };
            let mut rest = tokio::io::sink();
            tokio::try_join!(last_words, tokio::io::copy(&mut from_broker, &mut rest))
        };
        let (left, _) = tokio::join!(
            timeout(PARTING_TIMEOUT, leave),
            timeout(PARTING_TIMEOUT, writer.shutdown())
        );
        if left.is_err() {
            tracing::warn!(gateway = %self.identity.gateway, "the broker was slow to let a session go");
        }
        match end {
            End::Cut(refusal) => Err(refusal),
            End::Lost(detail) => {
                tracing::info!(peer = %self.peer, gateway = %self.identity.gateway, detail, "connection lost");
                Ok(())
            }
            End::Disconnected | End::Shutdown => {
                tracing::info!(peer = %self.peer, gateway = %self.identity.gateway, "session ended");
                Ok(())
            }
        }
    }
}

/// From the client to the broker, packet by packet, no faster than the limits allow: waiting here is
/// felt by the client as a full connection, so that nothing is lost by it.
async fn upstream(
    limits: &Limits,
    keep_alive: Duration,
    reader: &mut (impl AsyncRead + Unpin),
    filter: &mut Filter,
    outbox: &mut BytesMut,
    broker: &mut (impl AsyncWrite + Unpin),
) -> End {
    let start = Instant::now().into_std();
    let (mut packets, mut bytes) = (
        Bucket::new(limits.packets, start),
        Bucket::new(limits.bytes, start),
    );
    loop {
        let mut pause = Duration::ZERO;
        loop {
            match filter.poll() {
                Ok(Some(Event::Packet(packet))) => {
                    outbox.extend_from_slice(&packet);
                    let now = Instant::now().into_std();
                    pause = packets
                        .charge(1.0, now)
                        .max(bytes.charge(packet.len() as f64, now));
                    if outbox.len() >= BATCH || !pause.is_zero() {
                        break;
                    }
                }
                Ok(Some(Event::Disconnect)) => return End::Disconnected,
                // The filter admits one CONNECT, and it was taken; this arm is for the compiler.
                Ok(Some(Event::Connect(_))) => {
                    return End::Cut(Refusal::new(
                        RefusalReason::SecondConnect,
                        "CONNECT within a session",
                    ));
                }
                Ok(None) => break,
                Err(refusal) => return End::Cut(refusal),
            }
        }
        let more = !outbox.is_empty();
        match timeout(limits.stall_timeout, flush(outbox, broker)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return broker_lost(error.to_string()),
            Err(_) => return End::Cut(Refusal::new(RefusalReason::Stalled, "the broker takes nothing")),
        }
        if !pause.is_zero() {
            sleep(pause).await;
        }
        if more {
            // There may be another packet in the buffer.
            continue;
        }
        filter.buffer().reserve(CHUNK);
        // The silence that MQTT 3.1.1, 3.1.2.10 allows. Bytes count, not packets, since one large packet
        // can take longer than that on a thin line.
        match timeout(keep_alive.mul_f64(1.5), reader.read_buf(filter.buffer())).await {
            Ok(Ok(0)) => return End::Lost("closed without DISCONNECT".to_owned()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return End::Lost(error.to_string()),
            Err(_) => {
                let detail = format!("silent for one and a half times {} s", keep_alive.as_secs());
                return End::Cut(Refusal::new(RefusalReason::KeepAlive, detail));
            }
        }
    }
}

/// From the broker to the client, as it comes.
async fn downstream(
    limits: &Limits,
    broker: &mut OwnedReadHalf,
    writer: &mut (impl AsyncWrite + Unpin),
) -> End {
    let mut buffer = BytesMut::new();
    loop {
        buffer.clear();
        buffer.reserve(CHUNK);
        // rumqttd leaves Nagle's algorithm on: it holds an acknowledgement back until the one before has
        // been confirmed, which the kernel would otherwise put off by 40 ms. The option lasts for a read.
        // An error is one that the read tells better.
        let _ = broker.as_ref().set_quickack(true);
        match broker.read_buf(&mut buffer).await {
            Ok(0) => return broker_lost("the broker closed the session".to_owned()),
            Ok(_) => {}
            Err(error) => return broker_lost(error.to_string()),
        }
        match timeout(limits.stall_timeout, send(writer, &buffer)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return End::Lost(error.to_string()),
            Err(_) => return End::Cut(Refusal::new(RefusalReason::Stalled, "the client takes nothing")),
        }
    }
}

/// Everything but bytes that can end a session.
async fn watch(
    identity: &Identity,
    chain: &[CertificateDer<'_>],
    turn: &mut Turn,
    mut access: BrokerAccess,
    credentials: &mut watch::Receiver<Arc<Credentials>>,
    shutdown: &mut watch::Receiver<bool>,
) -> End {
    loop {
        tokio::select! {
            refusal = turn.superseded() => return End::Cut(refusal),
            () = access.replaced() => return broker_lost("the broker was replaced".to_owned()),
            () = stopped(shutdown) => return End::Shutdown,
            changed = credentials.changed() => {
                if changed.is_err() {
                    return End::Shutdown;
                }
                let current = credentials.borrow_and_update().clone();
                if let Err(refusal) = current.judge(chain, UnixTime::now()) {
                    return End::Cut(refusal);
                }
            }
            () = sleep(EXPIRY_INTERVAL) => {
                if UnixTime::now() > identity.not_after {
                    return End::Cut(Refusal::new(RefusalReason::CertificateExpired, "the certificate expired during the session"));
                }
            }
        }
    }
}

/// CONNACK with a return code and no session kept (MQTT 3.1.1, 3.2).
const fn connack(code: u8) -> [u8; 4] {
    [0x20, 2, 0, code]
}

fn broker_lost(detail: String) -> End {
    End::Cut(Refusal::new(RefusalReason::BrokerUnavailable, detail))
}

/// Writes all of `outbox`; cancelled, it leaves there exactly what was not written.
async fn flush(outbox: &mut BytesMut, broker: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    while outbox.has_remaining() {
        if broker.write_buf(outbox).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}
