//! The real agent between a node on a pseudo-terminal and a collector that speaks just enough MQTT over
//! mutual TLS.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "agent/tools.rs"]
mod tools;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use trunnion_agent::clock::Clock;
use trunnion_agent::config::{Config, Problems};
use trunnion_agent::enrolment::Enrolment;
use trunnion_agent::floor::{self, Saved};
use trunnion_agent::gateway::encode_message;
use trunnion_common::ack::{Ack, AckLevel, Hello};
use trunnion_common::block::{Block, Body};
use trunnion_common::codec::{Decoder, LINE_FRAME_MAX, stuff};
use trunnion_common::frame::{
    Class, FRAME_MAX, Header, Packing, Payload, Poll, RawFrame, TimeReply, Waveform, encode,
};
use trunnion_common::id::{BootId, ChannelId, Epoch, JournalId, LineAddress, NodeId};
use trunnion_common::message::{self, GatewayStatus, Phase};
use trunnion_common::sequence::SequenceSet;
use trunnion_common::time::{EventTime, NodeTicks};

const PATIENCE: Duration = Duration::from_secs(30);

struct Plant {
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Plant {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test plant");
        let key = KeyPair::generate().unwrap();
        Self {
            ca: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    fn issue(&self, name: SanType) -> (rcgen::Certificate, KeyPair) {
        self.issue_between(name, 1975, 4096)
    }

    /// Valid from the first day of one year to that of another.
    fn issue_between(&self, name: SanType, from: i32, to: i32) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        (params.signed_by(&key, &self.ca).unwrap(), key)
    }

    fn bundle(&self, directory: &Path, port: u16, named: &str) -> PathBuf {
        let uri = SanType::URI(format!("urn:trunnion:plant:{named}").try_into().unwrap());
        let (certificate, key) = self.issue(uri);
        let path = directory.join("gateway.toml");
        let text = format!(
            "site = \"plant\"\ngateway = \"gw-1\"\nendpoints = [\"127.0.0.1:{port}\"]\nserver_name = \"collector.plant\"\n\
             ca = \"\"\"\n{}\"\"\"\ncertificate = \"\"\"\n{}\"\"\"\nkey = \"\"\"\n{}\"\"\"\n",
            self.ca.pem(),
            certificate.pem(),
            key.serialize_pem()
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

/// Sequence and clock fix of each waveform frame stored, and what else was said.
#[derive(Default)]
struct Journal {
    received: BTreeMap<Epoch, SequenceSet>,
    waveforms: Vec<(u64, u32)>,
    fixes: u32,
    phases: Vec<Phase>,
    hellos: usize,
    client_ids: Vec<String>,
    /// What acknowledgements say that it is.
    utc: EventTime,
}

/// Serves connections one after the other.
fn collector(plant: &Plant, journal: Arc<Mutex<Journal>>) -> u16 {
    collector_with(plant, journal, 1975, 4096)
}

/// With a certificate that is valid between the beginnings of these years.
fn collector_with(plant: &Plant, journal: Arc<Mutex<Journal>>, from: i32, to: i32) -> u16 {
    let name = SanType::DnsName("collector.plant".try_into().unwrap());
    let (certificate, key) = plant.issue_between(name, from, to);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(plant.ca.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let tls = ServerConnection::new(config.clone()).unwrap();
            // A connection ends when the agent ends it.
            let _ = serve(StreamOwned::new(tls, stream.unwrap()), &journal);
        }
    });
    port
}

type Tls = StreamOwned<ServerConnection, TcpStream>;

fn serve(mut stream: Tls, journal: &Mutex<Journal>) -> io::Result<()> {
    loop {
        let (header, packet) = read_packet(&mut stream)?;
        let text_at = |at: usize| {
            let length = usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
            (
                String::from_utf8_lossy(&packet[at + 2..at + 2 + length]).into_owned(),
                at + 2 + length,
            )
        };
        match header >> 4 {
            1 => {
                journal.lock().unwrap().client_ids.push(text_at(10).0);
                stream.write_all(&[0x20, 2, 0, 0])?;
            }
            8 => {
                let filters = (packet.len() - 2) / 30;
                let mut answer = vec![0x90, 2 + filters as u8, packet[0], packet[1]];
                answer.extend(std::iter::repeat_n(1, filters));
                stream.write_all(&answer)?;
            }
            3 => {
                let (topic, at) = text_at(0);
                stream.write_all(&[0x40, 2, packet[at], packet[at + 1]])?;
                for ack in handle(&topic, &packet[at + 2..], &mut journal.lock().unwrap()) {
                    publish(&mut stream, "trunnion/down/plant/gw-1/ack", &encode_message(&ack))?;
                }
            }
            12 => stream.write_all(&[0xD0, 0])?,
            14 => return Ok(()),
            other => panic!("unexpected packet type {other}"),
        }
        stream.flush()?;
    }
}

fn handle(topic: &str, payload: &[u8], journal: &mut Journal) -> Vec<Ack> {
    let ack = |epoch, journal: &Journal| Ack {
        epoch,
        received: journal.received.get(&epoch).cloned().unwrap_or_default(),
        credit_bytes: 1 << 20,
        utc: journal.utc,
        journal: JournalId(1).into(),
        level: AckLevel::Local,
    };
    match topic {
        "trunnion/up/plant/gw-1/hello" => {
            let hello: Hello = message::decode(payload).unwrap();
            journal.hellos += 1;
            hello.epochs.iter().map(|held| ack(held.epoch, journal)).collect()
        }
        "trunnion/up/plant/gw-1/data" => {
            let block = Block::parse(payload).unwrap();
            let set = journal.received.entry(block.envelope.epoch).or_default();
            if set.insert(block.envelope.sequence) == trunnion_common::sequence::Insertion::New {
                match block.decode().unwrap() {
                    Body::Frames(records) => {
                        for record in records.map(Result::unwrap) {
                            let header = *RawFrame::parse(record.frame).unwrap().header();
                            if header.class == Class::Waveform {
                                journal.waveforms.push((header.sequence, record.fix));
                            }
                        }
                    }
                    Body::ClockFix(fix) => journal.fixes = journal.fixes.max(fix.number + 1),
                    _ => {}
                }
            }
            vec![ack(block.envelope.epoch, journal)]
        }
        "trunnion/up/plant/gw-1/status" => {
            let status: GatewayStatus = message::decode(payload).unwrap();
            journal.phases.push(status.phase);
            Vec::new()
        }
        other => panic!("unexpected topic {other}"),
    }
}

fn read_packet(stream: &mut Tls) -> io::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    let header = byte[0];
    let (mut length, mut shift) = (0, 0);
    loop {
        stream.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7F) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut packet = vec![0; length];
    stream.read_exact(&mut packet)?;
    Ok((header, packet))
}

fn publish(stream: &mut Tls, topic: &str, payload: &[u8]) -> io::Result<()> {
    let mut length = 2 + topic.len() + payload.len();
    let mut packet = vec![0x30];
    while length >= 0x80 {
        packet.push((length as u8 & 0x7F) | 0x80);
        length >>= 7;
    }
    packet.push(length as u8);
    packet.extend((topic.len() as u16).to_be_bytes());
    packet.extend(topic.as_bytes());
    packet.extend(payload);
    stream.write_all(&packet)
}

/// A node on a pseudo-terminal that answers time requests and reports the polls it gets.
struct Node {
    line: File,
    path: PathBuf,
    polls: Receiver<Poll>,
    /// Open for as long as the node lives, or the line would end whenever no agent has it open.
    _slave: OwnedFd,
}

fn node_frame(class: Class, sequence: u64, payload: &Payload<'_>) -> Vec<u8> {
    let header = Header {
        version: trunnion_common::version::FRAME,
        address: LineAddress(1),
        node: NodeId::new(9).unwrap(),
        boot: BootId::from_u64(3),
        class,
        sequence,
        ticks: NodeTicks(1_000 * sequence),
    };
    let (mut raw, mut line) = ([0; FRAME_MAX], [0; LINE_FRAME_MAX]);
    stuff(encode(&header, payload, &mut raw).unwrap(), &mut line)
        .unwrap()
        .to_vec()
}

impl Node {
    fn new() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = PathBuf::from(ptsname(&master, Vec::new()).unwrap().into_string().unwrap());
        // As a real line from the first byte on: no echo, no line editing.
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let slave = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
        let mut settings = tcgetattr(&slave).unwrap();
        settings.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &settings).unwrap();
        let line = File::from(master);
        let (mut reader, mut writer) = (line.try_clone().unwrap(), line.try_clone().unwrap());
        let (polled, polls) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; LINE_FRAME_MAX];
            let mut decoder = Decoder::new(&mut buffer);
            let (mut bytes, mut replies) = ([0; 4_096], 0);
            let clock = Clock::new();
            while let Ok(length) = reader.read(&mut bytes) {
                let mut rest = &bytes[..length];
                while !rest.is_empty() {
                    let fed = decoder.feed(rest);
                    rest = &rest[fed.taken..];
                    let Some(Ok(frame)) = fed.frame else { continue };
                    match frame.payload() {
                        Ok(Payload::Poll(poll)) => {
                            if polled.send(poll).is_err() {
                                return;
                            }
                        }
                        Ok(Payload::TimeRequest(request)) => {
                            let ticks = NodeTicks(clock.now().mono.as_micros() as u64);
                            let reply = Payload::TimeReply(TimeReply {
                                request: request.request,
                                received: ticks,
                                sent: ticks,
                            });
                            let frame = node_frame(Class::Essential, replies, &reply);
                            replies += 1;
                            writer.write_all(&frame).unwrap();
                        }
                        other => panic!("not for a node: {other:?}"),
                    }
                }
            }
        });
        Self {
            line,
            path,
            polls,
            _slave: slave,
        }
    }

    fn send(&mut self, sequence: u64) {
        let data = [0x55; 400];
        let payload = Payload::Waveform(Waveform {
            revision: 1,
            channel: ChannelId::new(0).unwrap(),
            first_sample: 200 * sequence,
            count: 200,
            packing: Packing::I16,
            data: &data,
        });
        self.line
            .write_all(&node_frame(Class::Waveform, sequence, &payload))
            .unwrap();
    }

    fn await_acknowledged(&self, upto: u64) {
        let mut reached = 0;
        // A poll comes at least each 100 ms.
        for _ in 0..300 {
            reached = self.polls.recv_timeout(PATIENCE).expect("a poll in time").upto[1];
            if reached >= upto {
                return;
            }
        }
        panic!("only {reached} of {upto} acknowledged");
    }
}

/// Runs an agent, lets `story` happen, and stops it.
fn with_agent(config: Config, story: impl FnOnce()) {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let agent = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(trunnion_agent::run(config, async {
            let _ = stopped.await;
        }))
    });
    story();
    stop.send(()).expect("the agent still runs");
    agent.join().unwrap().unwrap();
}

#[test]
fn frames_reach_the_collector_once_across_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let plant = Plant::new();
    let journal = Arc::new(Mutex::new(Journal::default()));
    let port = collector(&plant, journal.clone());
    let bundle = plant.bundle(directory.path(), port, "gw-1");
    let mut node = Node::new();
    let config = || {
        Config::with_defaults(
            Enrolment::load(&bundle).unwrap(),
            directory.path().join("state"),
            vec![node.path.clone()],
        )
    };
    let (first, second) = (config(), config());

    with_agent(first, || {
        for sequence in 0..300 {
            node.send(sequence);
        }
        node.await_acknowledged(300);
    });
    with_agent(second, || {
        // As a node does that never heard the last acknowledgement.
        for sequence in 250..400 {
            node.send(sequence);
        }
        node.await_acknowledged(400);
    });

    // The farewell is on its way when the agent has stopped.
    await_true(|| journal.lock().unwrap().phases.last() == Some(&Phase::Death));
    let journal = journal.lock().unwrap();
    let sequences: Vec<u64> = journal.waveforms.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(sequences, (0..400).collect::<Vec<u64>>());
    assert!(journal.fixes > 0);
    assert!(journal.waveforms.iter().all(|(_, fix)| *fix < journal.fixes));
    assert_eq!(
        journal.received.len(),
        4,
        "each start has an epoch for each chain"
    );
    assert!(journal.received.values().all(|set| set.ranges().is_empty()));
    assert_eq!(journal.phases.first(), Some(&Phase::Birth));
    assert_eq!(journal.phases.last(), Some(&Phase::Death));
    assert_eq!(journal.hellos, 2);
    assert_eq!(journal.client_ids, ["trunnion-plant-gw-1", "trunnion-plant-gw-1"]);
}

#[test]
fn a_clock_behind_the_collectors_certificate_does_as_long_as_the_floor_is_not() {
    const YEAR: i64 = 31_556_952_000_000_000;
    let year = |year: i64| EventTime((year - 1970) * YEAR);
    let directory = tempfile::tempdir().unwrap();
    let plant = Plant::new();
    let state_dir = directory.path().join("state");
    std::fs::create_dir(&state_dir).unwrap();
    // To this collector the gateway is as one that has just booted in the past.
    floor::save(&state_dir, year(2051)).unwrap();
    let mut node = Node::new();

    let mut run = |utc: EventTime, first: u64| {
        let journal = Arc::new(Mutex::new(Journal {
            utc,
            ..Journal::default()
        }));
        let port = collector_with(&plant, journal.clone(), 2050, 2060);
        let bundle = plant.bundle(directory.path(), port, "gw-1");
        let config = Config::with_defaults(
            Enrolment::load(&bundle).unwrap(),
            state_dir.clone(),
            vec![node.path.clone()],
        );
        with_agent(config, || {
            for sequence in first..first + 100 {
                node.send(sequence);
            }
            node.await_acknowledged(first + 100);
            await_true(|| journal.lock().unwrap().waveforms.len() >= 100);
        });
        floor::look(&state_dir).unwrap()
    };
    // An honest collector moves the floor, and an absurd one does not.
    assert_eq!(run(year(2053), 0), Saved::Floor(year(2053)));
    assert_eq!(run(year(2090), 100), Saved::Floor(year(2053)));
    assert_eq!(run(year(2052), 200), Saved::Floor(year(2053)));
}

#[allow(
    clippy::disallowed_methods,
    reason = "waits for another thread, within a limit"
)]
fn await_true(mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "it did not come in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_bundle_that_others_can_read_or_that_names_somebody_else_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let plant = Plant::new();
    let error = |bundle: &Path| -> Problems { Enrolment::load(bundle).unwrap_err() };

    let bundle = plant.bundle(directory.path(), 1, "gw-1");
    assert!(Enrolment::load(&bundle).is_ok());
    std::fs::set_permissions(&bundle, std::fs::Permissions::from_mode(0o640)).unwrap();
    let problem = error(&bundle).to_string();
    assert!(
        problem.contains("mode 0640") && problem.contains("chmod 600"),
        "{problem}"
    );

    let bundle = plant.bundle(directory.path(), 1, "gw-2");
    let problem = error(&bundle).to_string();
    assert!(
        problem.contains("does not name the gateway plant/gw-1"),
        "{problem}"
    );

    let text = std::fs::read_to_string(&bundle).unwrap();
    std::fs::write(
        &bundle,
        text.replace("127.0.0.1:1", "nowhere")
            .replace("BEGIN PRIVATE", "BEGIN PUBLIC"),
    )
    .unwrap();
    let problems = error(&bundle);
    assert!(
        problems
            .iter()
            .any(|p| p.what.contains("no endpoint") && p.place == Some((3, 14))),
        "{problems}"
    );
    assert!(
        problems.iter().any(|p| p.what.contains("no private key")),
        "{problems}"
    );
}
