//! One attempt to reach a collector, step by step, for a person who wants to know where it fails.
//!
//! It goes as far as a subscription to the gateway's own topics and publishes nothing: no Hello, no
//! status, no last will. It bears the gateway's own client id, since no other is let in; a collector ends
//! the older session of that id, so that an agent that runs meanwhile is cut off and comes back.

use crate::enrolment::{Endpoint, Enrolment};
use crate::mqtt::client_id;
use crate::tls::{TlsClock, client_config};
use bytes::BytesMut;
use rumqttc::mqttbytes::Error as MqttError;
use rumqttc::{Connect, ConnectReturnCode, Packet, QoS, Subscribe, SubscribeFilter, SubscribeReasonCode};
use rustls::{AlertDescription, CertificateError, ClientConnection, StreamOwned};
use serde::Serialize;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};
use trunnion_common::time::EventTime;
use trunnion_common::topic::{Kind, Topic};

/// Largest answer awaited: none is longer than a few bytes, an early acknowledgement than this.
const PACKET_MAX: usize = 64 * 1_024;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// How an attempt at one endpoint went.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// HOST:PORT as enrolled.
    pub endpoint: String,
    /// The steps made; all but the last succeeded, and the last one too if [`Self::is_good`].
    pub steps: Vec<Step>,
    /// The system's clock, nanoseconds since 1970.
    pub system_utc: EventTime,
    /// The clock floor, if there is one.
    pub clock_floor: Option<EventTime>,
    /// End of the collector's certificate, if it was verified.
    pub certificate_until: Option<EventTime>,
}

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Which.
    pub stage: Stage,
    /// How long it took.
    pub took_ms: f64,
    /// What was found or reached, or what is wrong.
    pub what: String,
    /// What to do about it; nothing when the step succeeded.
    pub todo: Option<String>,
}

/// The steps in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// From host name to addresses.
    Resolve,
    /// TCP.
    Connect,
    /// Both certificates.
    Tls,
    /// CONNECT and its answer.
    Mqtt,
    /// The gateway's own downlink topics.
    Subscribe,
}

impl Stage {
    /// Name for people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Mqtt => "mqtt",
            Self::Subscribe => "subscribe",
        }
    }
}

impl Probe {
    /// Whether every step succeeded.
    pub fn is_good(&self) -> bool {
        self.steps
            .last()
            .is_some_and(|step| step.stage == Stage::Subscribe && step.todo.is_none())
    }
}

/// Why a step failed.
struct Failure {
    what: String,
    todo: String,
}

impl Failure {
    fn new(what: impl fmt::Display, todo: impl Into<String>) -> Self {
        Self {
            what: what.to_string(),
            todo: todo.into(),
        }
    }
}

/// Tries `endpoint`; each step may take as long as `patience`. Blocks.
pub fn probe(
    enrolment: &Enrolment,
    endpoint: &Endpoint,
    floor: Option<EventTime>,
    system_utc: EventTime,
    patience: Duration,
) -> Probe {
    let clock = TlsClock::default();
    if let Some(floor) = floor {
        clock.set_floor(floor);
    }
    let mut attempt = Attempt {
        enrolment,
        endpoint,
        clock: &clock,
        patience,
        steps: Vec::new(),
    };
    // What failed stands in the last step.
    let _ = attempt.run();
    let steps = attempt.steps;
    Probe {
        endpoint: endpoint.to_string(),
        steps,
        system_utc,
        clock_floor: floor,
        certificate_until: clock.verified_until(),
    }
}

struct Attempt<'a> {
    enrolment: &'a Enrolment,
    endpoint: &'a Endpoint,
    clock: &'a TlsClock,
    patience: Duration,
    steps: Vec<Step>,
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Attempt<'_> {
    fn run(&mut self) -> Option<()> {
        let addresses = self.step(Stage::Resolve, Self::resolve)?;
        let stream = self.step(Stage::Connect, |this| this.connect(&addresses))?;
        let mut tls = self.step(Stage::Tls, |this| this.handshake(stream))?;
        let mut buffer = BytesMut::new();
        self.step(Stage::Mqtt, |this| this.log_in(&mut tls, &mut buffer))?;
        self.step(Stage::Subscribe, |this| this.subscribe(&mut tls, &mut buffer))?;
        // Said for politeness; the session is over in any case.
        let _ = send(&mut tls, &Packet::Disconnect);
        Some(())
    }

    #[allow(clippy::disallowed_methods, reason = "this shell measures")]
    fn step<T>(
        &mut self,
        stage: Stage,
        act: impl FnOnce(&Self) -> Result<(T, String), Failure>,
    ) -> Option<T> {
        let start = Instant::now();
        let outcome = act(self);
        let took_ms = start.elapsed().as_secs_f64() * 1e3;
        let (result, what, todo) = match outcome {
            Ok((result, what)) => (Some(result), what, None),
            Err(Failure { what, todo }) => (None, what, Some(todo)),
        };
        self.steps.push(Step {
            stage,
            took_ms,
            what,
            todo,
        });
        result
    }

    fn resolve(&self) -> Result<(Vec<SocketAddr>, String), Failure> {
        let Endpoint { host, port, .. } = self.endpoint;
        let todo = format!(
            "check the name and this machine's DNS, or have the bundle written with the collector's address in place of \"{host}\""
        );
        let addresses: Vec<SocketAddr> = (host.as_str(), *port)
            .to_socket_addrs()
            .map_err(|error| Failure::new(format!("\"{host}\" has no address: {error}"), todo.clone()))?
            .take(ADDRESSES_MAX)
            .collect();
        if addresses.is_empty() {
            return Err(Failure::new(format!("\"{host}\" has no address"), todo));
        }
        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        Ok((addresses, texts.join(", ")))
    }

    fn connect(&self, addresses: &[SocketAddr]) -> Result<(TcpStream, String), Failure> {
        let mut last = None;
        for address in addresses {
            let connected = TcpStream::connect_timeout(address, self.patience).and_then(|stream| {
                stream.set_read_timeout(Some(self.patience))?;
                stream.set_write_timeout(Some(self.patience))?;
                stream.set_nodelay(true)?;
                Ok(stream)
            });
            match connected {
                Ok(stream) => return Ok((stream, format!("{address} answers"))),
                Err(error) => last = Some((address, error)),
            }
        }
        let Some((address, error)) = last else {
            return Err(Failure::new("no address", "give the collector's address"));
        };
        let todo = match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                "the machine is there and nothing listens on that port: check the port, and that the collector runs"
            }
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                "nothing answers: check cable, route and firewall between here and the collector"
            }
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
                "there is no way there: check this machine's network and default route"
            }
            _ => "check this machine's network",
        };
        Err(Failure::new(format!("{address}: {error}"), todo))
    }

    fn handshake(&self, mut stream: TcpStream) -> Result<(Tls, String), Failure> {
        let config = client_config(self.enrolment, self.endpoint, self.clock)
            .map_err(|error| Failure::new(error, "have the bundle written again"))?;
        let name = self.endpoint.server_name.clone();
        let mut connection = ClientConnection::new(Arc::new(config), name)
            .map_err(|error| Failure::new(error, "have the bundle written again"))?;
        while connection.is_handshaking() {
            connection
                .complete_io(&mut stream)
                .map_err(|error| self.explain(&error))?;
        }
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
            _ => "TLS 1.2",
        };
        let name = self.endpoint.server_name.to_str();
        Ok((
            StreamOwned::new(connection, stream),
            format!("{version}, certificate of \"{name}\" is good"),
        ))
    }

    fn log_in(&self, tls: &mut Tls, buffer: &mut BytesMut) -> Result<((), String), Failure> {
        let mut connect = Connect::new(client_id(&self.enrolment.gateway));
        connect.keep_alive = 10;
        send(tls, &Packet::Connect(connect)).map_err(|error| self.explain(&error))?;
        loop {
            match receive(tls, buffer).map_err(|error| self.explain(&error))? {
                Packet::ConnAck(answer) if answer.code == ConnectReturnCode::Success => {
                    return Ok(((), format!("accepted as {}", self.enrolment.gateway)));
                }
                Packet::ConnAck(answer) => {
                    return Err(Failure::new(
                        format!("the broker refuses: {:?}", answer.code),
                        "look for the refusal of this gateway in the collector's log",
                    ));
                }
                _ => {}
            }
        }
    }

    fn subscribe(&self, tls: &mut Tls, buffer: &mut BytesMut) -> Result<((), String), Failure> {
        let filters = [Kind::Ack, Kind::Reject, Kind::Command].map(|kind| {
            let gateway = self.enrolment.gateway.clone();
            SubscribeFilter::new(Topic { gateway, kind }.to_string(), QoS::AtLeastOnce)
        });
        let mut subscribe = Subscribe::new_many(filters);
        subscribe.pkid = 1;
        send(tls, &Packet::Subscribe(subscribe)).map_err(|error| self.explain(&error))?;
        loop {
            // Messages for this gateway that come meanwhile come again to the agent.
            if let Packet::SubAck(answer) = receive(tls, buffer).map_err(|error| self.explain(&error))? {
                if answer.return_codes.contains(&SubscribeReasonCode::Failure) {
                    return Err(Failure::new(
                        "the broker refuses a subscription to this gateway's own topics",
                        "look for the refusal of this gateway in the collector's log; a foreign broker needs rules for trunnion/down/SITE/GATEWAY/+",
                    ));
                }
                return Ok(((), "own topics subscribed".to_owned()));
            }
        }
    }

    /// What a broken TLS connection means.
    fn explain(&self, error: &io::Error) -> Failure {
        let Some(tls) = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        else {
            let (what, todo) = match error.kind() {
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => (
                    "no answer in time".to_owned(),
                    "something listens that is no collector, or it is overloaded: check the port, and the collector's log",
                ),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    (
                        format!("the collector closed the connection: {error}"),
                        "look for the refusal of this gateway in the collector's log; a revoked certificate, or another client under its name, ends so",
                    )
                }
                _ => (
                    error.to_string(),
                    "check the port: something answers that is no collector",
                ),
            };
            return Failure::new(what, todo);
        };
        let name = self.endpoint.server_name.to_str();
        let todo = match tls {
            rustls::Error::InvalidCertificate(error) => match error {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "the collector's certificate has ended, or this clock is ahead: compare both clocks above; run `trunnion-collector server renew`, or set the clock. When only the floor is ahead, stop the agent and remove clock_floor from the state directory".to_owned()
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "this clock is behind, or the collector's was ahead when the certificate was made: set the clock, or bring up NTP; compare both clocks above".to_owned()
                }
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    "the collector belongs to another plant's authority, or something stands in between: enrol this gateway again with `trunnion-collector gateway add`".to_owned()
                }
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    format!("the certificate does not bear \"{name}\": correct server_name in the bundle, or run `trunnion-collector server renew` with --host {name}")
                }
                CertificateError::Revoked => {
                    "the collector's certificate was revoked: renew it with `trunnion-collector server renew`".to_owned()
                }
                _ => "have the collector's certificate renewed with `trunnion-collector server renew`".to_owned(),
            },
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateRevoked => {
                    "this gateway's certificate was revoked: enrol it again with `trunnion-collector gateway add`".to_owned()
                }
                AlertDescription::CertificateExpired => {
                    "this gateway's certificate has ended: enrol it again with `trunnion-collector gateway add`".to_owned()
                }
                AlertDescription::UnknownCA => {
                    "the collector does not know this gateway's authority: the bundle is of another plant".to_owned()
                }
                _ => "the collector refuses this gateway's certificate: look for the reason in the collector's log, and enrol it again if it was revoked".to_owned(),
            },
            rustls::Error::InvalidMessage(_) | rustls::Error::PeerIncompatible(_) => {
                "something answers that speaks no TLS, or an old one: check the port".to_owned()
            }
            _ => "look for this gateway in the collector's log".to_owned(),
        };
        Failure::new(tls, todo)
    }
}

fn send(tls: &mut Tls, packet: &Packet) -> io::Result<()> {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, PACKET_MAX).map_err(io::Error::other)?;
    tls.write_all(&bytes)?;
    tls.flush()
}

fn receive(tls: &mut Tls, buffer: &mut BytesMut) -> io::Result<Packet> {
    loop {
        match Packet::read(buffer, PACKET_MAX) {
            Ok(packet) => return Ok(packet),
            Err(MqttError::InsufficientBytes(_)) => {}
            Err(error) => return Err(io::Error::other(error)),
        }
        let mut bytes = [0; 4_096];
        match tls.read(&mut bytes)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => buffer.extend_from_slice(&bytes[..length]),
        }
    }
}
