//! A gateway as the collector sees it: blocks over mutual TLS, acknowledgements back.

use crate::process::{Collector, Plant, SOON};
use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS, TlsConfiguration, Transport};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use trunnion_collector::door::client_id;
use trunnion_common::ack::Ack;
use trunnion_common::block::{Envelope, FrameRecord, Kind, Lane};
use trunnion_common::frame::{
    self, ChannelDescriptor, ChannelStatus, Class, Describe, FRAME_MAX, Header, Packing, Payload, ResetCause,
    Status, Waveform,
};
use trunnion_common::id::{BootId, ChannelId, Epoch, GatewayId, LineAddress, Name, NodeId};
use trunnion_common::message;
use trunnion_common::quantity::Unit;
use trunnion_common::time::{ClockFix, ClockQuality, EventTime, NodeTicks};
use trunnion_common::topic::{Kind as TopicKind, Topic};
use trunnion_common::version;

const EPOCH: Epoch = Epoch(0x5eed);

pub(crate) struct Gateway {
    id: GatewayId,
    client: Client,
    connection: Connection,
    /// One past the highest sequence sent.
    sent: u64,
}

impl Gateway {
    /// Enrols and connects.
    pub(crate) fn connect(plant: &Plant, collector: &Collector, name: &str) -> Self {
        let bundle = plant.enrol(name, collector.door);
        std::fs::write(plant.path(&format!("{name}.toml")), bundle).unwrap();
        Self::connect_again(plant, collector, name)
    }

    /// With the certificate that it has.
    pub(crate) fn connect_again(plant: &Plant, collector: &Collector, name: &str) -> Self {
        Self::try_connect_again(plant, collector, name).unwrap()
    }

    pub(crate) fn try_connect_again(
        plant: &Plant,
        collector: &Collector,
        name: &str,
    ) -> Result<Self, String> {
        let bundle = Bundle::read(&plant.path(&format!("{name}.toml")));
        let id = GatewayId {
            site: Name::new("bremen").unwrap(),
            gateway: Name::new(name).unwrap(),
        };
        let (host, port) = (collector.door.ip().to_string(), collector.door.port());
        let mut options = MqttOptions::new(client_id(&id), host, port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::new(bundle.tls()))));
        let (client, connection) = Client::new(options, 64);
        let kind = TopicKind::Ack;
        let topic = Topic {
            gateway: id.clone(),
            kind,
        };
        client.subscribe(topic.text().as_str(), QoS::AtLeastOnce).unwrap();
        let mut gateway = Self {
            id,
            client,
            connection,
            sent: 0,
        };
        gateway.poll_until(|packet| matches!(packet, Packet::SubAck(_)))?;
        Ok(gateway)
    }

    /// Publishes blocks, each with its sequence.
    pub(crate) fn send(&mut self, blocks: Vec<(u64, Vec<u8>)>) {
        let topic = Topic {
            gateway: self.id.clone(),
            kind: TopicKind::Data,
        };
        for (sequence, block) in blocks {
            let text = topic.text();
            self.client
                .publish(text.as_str(), QoS::AtLeastOnce, false, block)
                .unwrap();
            self.sent = self.sent.max(sequence + 1);
        }
    }

    /// Waits until the collector has said that everything sent is durable.
    pub(crate) fn await_acknowledged(&mut self) {
        let sent = self.sent;
        self.poll_until(|packet| match packet {
            Packet::Publish(publish) => {
                let ack: Ack = message::decode(&publish.payload).unwrap();
                assert_eq!(ack.epoch, EPOCH);
                assert!(ack.credit_bytes > 0);
                ack.received.upto() >= sent
            }
            _ => false,
        })
        .unwrap();
    }

    /// Waits until the collector hangs up.
    pub(crate) fn await_cut(&mut self) {
        let end = self.poll_until(|_| false);
        assert_ne!(end, Err("time is over".into()));
    }

    #[allow(clippy::disallowed_methods, reason = "bounds the wait for a real process")]
    fn poll_until(&mut self, mut found: impl FnMut(&Packet) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            match self.connection.recv_timeout(Duration::from_secs(1)) {
                Ok(Ok(Event::Incoming(packet))) if found(&packet) => return Ok(()),
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(error)) => return Err(error.to_string()),
            }
        }
        Err("time is over".into())
    }
}

/// What `gateway add` printed.
struct Bundle(toml::Table);

impl Bundle {
    fn read(path: &Path) -> Self {
        Self(std::fs::read_to_string(path).unwrap().parse().unwrap())
    }

    fn pem(&self, field: &str) -> &[u8] {
        self.0[field].as_str().unwrap().as_bytes()
    }

    fn tls(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem("ca")).unwrap())
            .unwrap();
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(self.pem("certificate")).unwrap()],
                PrivateKeyDer::from_pem_slice(self.pem("key")).unwrap(),
            )
            .unwrap()
    }
}

/// Samples a second.
const RATE: u64 = 1_024;
/// Samples a frame.
const COUNT: u64 = 256;
/// Value of one bit, g.
const SCALE: f32 = 0.001;

/// One channel of one node: a sine of 32 Hz and amplitude 1 g, a block a second.
pub(crate) struct Signal {
    start: EventTime,
    /// Blocks made so far.
    blocks: u64,
    /// Frames made so far, per class.
    frames: [u64; 2],
    samples: u64,
    /// Whether the node's table names its channel.
    is_described: bool,
}

impl Signal {
    /// It began half a minute ago, at a full second.
    #[allow(
        clippy::disallowed_methods,
        reason = "the collector compares with the real clock"
    )]
    pub(crate) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        Self {
            start: EventTime((now - 30) * 1_000_000_000),
            blocks: 0,
            frames: [0; 2],
            samples: 0,
            is_described: true,
        }
    }

    /// As above, of a node whose first table names no channel.
    pub(crate) fn undescribed() -> Self {
        Self {
            is_described: false,
            ..Self::new()
        }
    }

    /// The table as it should have been, in a block of its own.
    pub(crate) fn table_block(&mut self) -> (u64, Vec<u8>) {
        self.is_described = true;
        let mut body = Vec::new();
        let describe = self.describe();
        self.frame(&mut body, Class::Essential, &describe);
        self.block(Kind::Frames, &body)
    }

    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    /// The blocks of the next seconds, each with its sequence.
    pub(crate) fn next_blocks(&mut self, seconds: u64) -> Vec<(u64, Vec<u8>)> {
        let mut blocks = Vec::new();
        if self.blocks == 0 {
            let fix = postcard::to_stdvec(&self.fix()).unwrap();
            blocks.push(self.block(Kind::ClockFix, &fix));
        }
        for _ in 0..seconds {
            let mut body = Vec::new();
            if self.samples == 0 {
                let describe = self.describe();
                self.frame(&mut body, Class::Essential, &describe);
            }
            for _ in 0..RATE / COUNT {
                let data: Vec<u8> = (self.samples..self.samples + COUNT)
                    .flat_map(|n| {
                        let phase = std::f32::consts::TAU * 32.0 * n as f32 / RATE as f32;
                        ((phase.sin() / SCALE) as i16).to_le_bytes()
                    })
                    .collect();
                let waveform = Payload::Waveform(Waveform {
                    revision: 1,
                    channel: ChannelId::new(0).unwrap(),
                    first_sample: self.samples,
                    count: COUNT as u16,
                    packing: Packing::I16,
                    data: &data,
                });
                self.frame(&mut body, Class::Waveform, &waveform);
                self.samples += COUNT;
            }
            let status = self.status();
            self.frame(&mut body, Class::Essential, &status);
            blocks.push(self.block(Kind::Frames, &body));
        }
        blocks
    }

    fn block(&mut self, kind: Kind, body: &[u8]) -> (u64, Vec<u8>) {
        let sequence = self.blocks;
        self.blocks += 1;
        let envelope = Envelope::new(EPOCH, sequence, Lane::Live, kind).encode(body);
        (sequence, [&envelope[..], body].concat())
    }

    fn frame(&mut self, body: &mut Vec<u8>, class: Class, payload: &Payload<'_>) {
        let ticks = NodeTicks(self.samples * 1_000_000 / RATE);
        let header = Header {
            version: version::FRAME,
            address: LineAddress(1),
            node: node(),
            boot: boot(),
            class,
            sequence: self.frames[class.index()],
            ticks,
        };
        self.frames[class.index()] += 1;
        let mut bytes = [0; FRAME_MAX];
        let record = FrameRecord {
            arrival: self.start.plus_nanos(ticks.0 as i64 * 1_000),
            fix: 0,
            frame: frame::encode(&header, payload, &mut bytes).unwrap(),
        };
        body.extend(postcard::to_stdvec(&record).unwrap());
    }

    fn fix(&self) -> ClockFix {
        ClockFix {
            node: node(),
            boot: boot(),
            number: 0,
            ticks: NodeTicks(0),
            utc: self.start,
            error_ns: 1_000_000,
            quality: ClockQuality::Synchronised,
        }
    }

    fn describe(&self) -> Payload<'static> {
        let channel = ChannelDescriptor {
            unit: Unit::StandardGravity,
            scale: SCALE,
            rate_mhz: RATE as u32 * 1_000,
            range: 16.0,
            band_low_hz: 1.0,
            band_high_hz: 400.0,
        };
        Payload::Describe(Describe {
            revision: 1,
            channels: self.is_described.then_some(channel).into_iter().collect(),
        })
    }

    fn status(&self) -> Payload<'static> {
        let channel = ChannelStatus {
            produced: self.samples,
            held_from: self.samples,
            drops: heapless::Vec::new(),
        };
        Payload::Status(Status {
            channels: [channel].into_iter().collect(),
            held: [heapless::Vec::new(), heapless::Vec::new()],
            next: self.frames,
            outbox_used: 0,
            outbox_capacity: 65_536,
            reset: ResetCause::PowerOn,
        })
    }
}

fn node() -> NodeId {
    NodeId::new(0xa1).unwrap()
}

fn boot() -> BootId {
    BootId::new(1, 7)
}
