//! What people and disks do to a plant ends in a named, counted outcome: nothing is silent, and nothing
//! stalls.

use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS, TlsConfiguration, Transport};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use trunnion_agent::enrolment::Enrolment;
use trunnion_agent::mqtt::client_id;
use trunnion_agent::tls::{TlsClock, client_config};
use trunnion_collector::journal::{Entry, Journal, Options, Position, Reader};
use trunnion_common::ack::Ack;
use trunnion_common::block::{Envelope, Kind as BlockKind, Lane};
use trunnion_common::id::Epoch;
use trunnion_common::message;
use trunnion_common::reject::{Reject, RejectReason};
use trunnion_common::time::EventTime;
use trunnion_tests::bench::usage::Usage;
use trunnion_tests::load::{Load, Size, Verdict, wait};
use trunnion_tests::plant::{GATEWAY, Plant, START_LIMIT, STOP_LIMIT, Way, fleet_text};
use trunnion_tests::process::await_some;

/// Two nodes on the gateway.
const SMALL: Size = Size {
    nodes: 2,
    rate_hz: 12_800.0,
};

fn start(dir: &Path, seed: u64) -> Load {
    Load::start(dir, seed, SMALL, Way::default()).unwrap()
}

/// While data flows.
fn play_on() {
    wait(Duration::from_secs(2));
}

/// Copies a directory as it is; what is there already is replaced.
fn copy(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).unwrap();
    }
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

fn kill_agent(plant: &mut Plant) {
    plant.agent.take().unwrap().kill().unwrap();
}

fn stop_collector(plant: &mut Plant) {
    let status = plant.collector.take().unwrap().stop(STOP_LIMIT).unwrap();
    assert!(status.success(), "{status}");
}

/// Something was lost, all of it has a name, and nothing came twice.
fn check_named(verdict: &Verdict) {
    assert!(verdict.samples_lost > 0, "nothing was lost: {verdict:#?}");
    assert_eq!(verdict.samples_unexplained, 0, "{verdict:#?}");
    assert_eq!(verdict.samples_double_counted, 0, "{verdict:#?}");
    assert_eq!(
        verdict.samples_stored + verdict.samples_lost,
        verdict.samples_produced,
        "{verdict:#?}"
    );
    assert_eq!(
        verdict.journal.samples_missing, verdict.samples_lost,
        "{verdict:#?}"
    );
    assert_eq!(
        verdict.journal.samples_wrong + verdict.journal.samples_invented,
        0
    );
}

#[test]
fn a_gateway_restored_from_an_image_doubles_nothing_and_loses_nothing_that_was_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let mut load = start(dir.path(), 21);
    let (state, image) = (dir.path().join("agent"), dir.path().join("image"));
    // The image is of an agent with a backlog.
    stop_collector(&mut load.plant);
    play_on();
    kill_agent(&mut load.plant);
    copy(&state, &image);
    load.plant.start_collector().unwrap();
    load.start_agent().unwrap();
    load.await_caught_up().unwrap();
    play_on();
    load.await_caught_up().unwrap();
    kill_agent(&mut load.plant);
    copy(&image, &state);
    load.start_agent().unwrap();
    load.await_caught_up().unwrap();
    let verdict = load.finish().unwrap();
    assert!(verdict.is_flawless(), "{verdict:#?}");
}

#[test]
fn what_a_gateway_lost_with_its_disk_has_a_name_once_an_old_image_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut load = start(dir.path(), 22);
    let (state, image) = (dir.path().join("agent"), dir.path().join("image"));
    kill_agent(&mut load.plant);
    copy(&state, &image);
    // The nodes hand over samples that no collector ever sees.
    stop_collector(&mut load.plant);
    load.start_agent().unwrap();
    wait(Duration::from_secs(14));
    kill_agent(&mut load.plant);
    copy(&image, &state);
    load.plant.start_collector().unwrap();
    load.start_agent().unwrap();
    // The ten seconds of the nodes' loyalty to the agent that died.
    wait(Duration::from_secs(12));
    let verdict = load.finish().unwrap();
    check_named(&verdict);
}

#[test]
fn what_a_collector_lost_with_its_disk_has_a_name_once_a_backup_is_back_and_the_rest_is_dated() {
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup");
    // The backup is from before anything was heard: the nodes' tables and clock fixes go with the disk.
    let mut load = Load::start_after(dir.path(), 23, SMALL, |plant| {
        plant.start_collector()?;
        stop_collector(plant);
        copy(&plant.collector_dir().join("data"), &backup);
        Ok(())
    })
    .unwrap();
    play_on();
    load.await_caught_up().unwrap();
    stop_collector(&mut load.plant);
    // What this start of the agent delivered, none of those that follow has seen.
    kill_agent(&mut load.plant);
    load.start_agent().unwrap();
    copy(&backup, &load.plant.collector_dir().join("data"));
    load.plant.start_collector().unwrap();
    // The ten seconds of the nodes' loyalty to the agent that died.
    wait(Duration::from_secs(12));
    play_on();
    let verdict = load.finish().unwrap();
    check_named(&verdict);
}

#[test]
fn a_second_collector_with_an_empty_journal_says_that_the_rest_is_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let mut load = start(dir.path(), 24);
    stop_collector(&mut load.plant);
    std::fs::remove_dir_all(load.plant.collector_dir().join("data")).unwrap();
    load.plant.start_collector().unwrap();
    let named = await_some(START_LIMIT, || {
        let log = load.plant.collector.as_ref().unwrap().log();
        log.contains("cause=\"elsewhere\"").then_some(())
    });
    assert!(
        named.is_some(),
        "{}",
        load.plant.collector.as_ref().unwrap().log()
    );
    let counted = "trunnion_collector_blocks_lost_total{cause=\"elsewhere\"}";
    assert!(load.plant.metric(counted).unwrap() >= 1.0);
    // It goes on from here, and the agent gets rid of its backlog. (What waits for a channel table that is
    // elsewhere waits by name, as pending.)
    let committed = || {
        load.plant
            .metric("trunnion_collector_blocks_committed_total")
            .unwrap()
    };
    let before = committed();
    let goes_on = await_some(START_LIMIT, || {
        let backlog = load.plant.agent_metric("trunnion_agent_spool_blocks").unwrap();
        (committed() > before + 20.0 && backlog < 40.0).then_some(())
    });
    assert!(goes_on.is_some(), "{} blocks", committed());
    assert_eq!(
        load.plant
            .metric("trunnion_collector_samples_unexplained")
            .unwrap(),
        0.0
    );
    load.plant.stop().unwrap();
}

#[test]
fn two_gateways_with_one_name_take_turns_are_named_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut load = start(dir.path(), 25);
    // The second node's line goes to an agent with the same certificate.
    kill_agent(&mut load.plant);
    let specs = load.specs().to_vec();
    load.plant.start_agent(&specs[..1]).unwrap();
    let twin = load.plant.start_twin(&specs[1..]).unwrap();
    let door_refused = "trunnion_collector_door_refused_total";
    let taken_over = format!("{door_refused}{{reason=\"taken_over\"}}");
    let seen = await_some(START_LIMIT, || {
        let count = load.plant.metric(&taken_over).unwrap();
        (count >= 3.0).then_some(())
    });
    assert!(
        seen.is_some(),
        "no take-over: {:?}",
        load.plant.metric(door_refused)
    );
    let log = load.plant.collector.as_ref().unwrap().log();
    assert!(log.contains("taken_over"), "{log}");
    // Both deliver all the same.
    wait(Duration::from_secs(12));
    load.await_caught_up().unwrap();
    assert!(
        load.plant
            .agent_metric("trunnion_agent_disconnections_total")
            .unwrap()
            >= 1.0
    );
    let status = twin.stop(STOP_LIMIT).unwrap();
    assert!(status.success(), "{status}");
    kill_agent(&mut load.plant);
    // What the twin has left goes with its line to the first one.
    load.start_agent().unwrap();
    let verdict = load.finish().unwrap();
    assert_eq!(verdict.samples_unexplained, 0, "{verdict:#?}");
    assert_eq!(verdict.samples_double_counted, 0, "{verdict:#?}");
    assert_eq!(
        verdict.samples_lost, verdict.journal.samples_missing,
        "{verdict:#?}"
    );
}

/// A client with the certificate of the gateway, in the place of its agent.
struct Impostor {
    client: Client,
    connection: Connection,
}

impl Impostor {
    fn connect(plant: &Plant) -> Self {
        let enrolment = Enrolment::load(&plant.bundle(GATEWAY)).unwrap();
        let endpoint = &enrolment.endpoints[0];
        let mut options = MqttOptions::new(client_id(&enrolment.gateway), &endpoint.host, endpoint.port);
        let tls = Arc::new(client_config(&enrolment, endpoint, &TlsClock::default()).unwrap());
        options
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)))
            .set_max_packet_size(2 << 20, 2 << 20);
        let (client, connection) = Client::new(options, 1_024);
        let mut impostor = Self { client, connection };
        impostor.await_packet(|packet| matches!(packet, Packet::ConnAck(_)).then_some(()));
        for kind in ["ack", "reject"] {
            let topic = format!("trunnion/down/plant/{GATEWAY}/{kind}");
            impostor.client.subscribe(topic, QoS::AtLeastOnce).unwrap();
            impostor.await_packet(|packet| matches!(packet, Packet::SubAck(_)).then_some(()));
        }
        impostor
    }

    fn await_packet<T>(&mut self, wanted: impl Fn(&Packet) -> Option<T>) -> T {
        loop {
            let event = self
                .connection
                .recv_timeout(START_LIMIT)
                .expect("in time")
                .unwrap();
            if let Event::Incoming(packet) = event
                && let Some(found) = wanted(&packet)
            {
                return found;
            }
        }
    }

    fn send(&mut self, block: &[u8]) {
        let topic = format!("trunnion/up/plant/{GATEWAY}/data");
        self.client
            .publish(topic, QoS::AtLeastOnce, false, block)
            .unwrap();
    }

    /// The next message of this kind that decodes and is wanted.
    fn await_message<M: serde::de::DeserializeOwned>(
        &mut self,
        kind: &str,
        wanted: impl Fn(&M) -> bool,
    ) -> M {
        self.await_packet(|packet| match packet {
            Packet::Publish(publish) if publish.topic.ends_with(kind) => {
                message::decode::<M>(&publish.payload).ok().filter(&wanted)
            }
            _ => None,
        })
    }
}

/// Every block in the journal of a plant whose collector has stopped.
fn captured(plant: &Plant) -> Vec<Vec<u8>> {
    let dir = plant.collector_dir().join("data/journal");
    let end = Journal::open(&dir, Options::default(), EventTime(0))
        .unwrap()
        .0
        .end();
    let mut reader = Reader::open(&dir, Position::default()).unwrap();
    let mut blocks = Vec::new();
    while let Some(commit) = reader.next_commit(end).unwrap() {
        blocks.extend(commit.entries.into_iter().filter_map(|(_, entry)| match entry {
            Entry::Block { bytes, .. } => Some(bytes.to_vec()),
            _ => None,
        }));
    }
    blocks
}

#[test]
fn a_replayed_capture_is_acknowledged_counted_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut load = start(dir.path(), 26);
    play_on();
    load.await_caught_up().unwrap();
    // The agent lives on in other epochs, so that some of the captured ones are closed.
    let specs = load.specs().to_vec();
    load.plant.kill_and_restart_agent(&specs).unwrap();
    wait(Duration::from_secs(11));
    load.await_caught_up().unwrap();
    kill_agent(&mut load.plant);
    stop_collector(&mut load.plant);
    let blocks = captured(&load.plant);
    assert!(blocks.len() > 20, "{}", blocks.len());
    load.plant.start_collector().unwrap();

    let duplicated = "trunnion_collector_blocks_duplicated_total";
    let committed = load
        .plant
        .metric("trunnion_collector_blocks_committed_total")
        .unwrap();
    let mut impostor = Impostor::connect(&load.plant);
    for block in &blocks {
        impostor.send(block);
        impostor.await_packet(|packet| matches!(packet, Packet::PubAck(_)).then_some(()));
    }
    let all = await_some(START_LIMIT, || {
        (load.plant.metric(duplicated).unwrap() >= blocks.len() as f64).then_some(())
    });
    assert!(
        all.is_some(),
        "{:?} of {}",
        load.plant.metric(duplicated),
        blocks.len()
    );
    assert_eq!(
        load.plant
            .metric("trunnion_collector_blocks_committed_total")
            .unwrap(),
        committed
    );
    drop(impostor);
    load.start_agent().unwrap();
    wait(Duration::from_secs(11));
    let verdict = load.finish().unwrap();
    assert!(verdict.is_flawless(), "{verdict:#?}");
}

#[test]
fn poison_blocks_are_acknowledged_or_rejected_by_name_and_stop_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut load = start(dir.path(), 27);
    kill_agent(&mut load.plant);
    let mut impostor = Impostor::connect(&load.plant);

    // Whole, of a kind that exists, with a body that says nothing.
    let body = [0xff; 300];
    for (sequence, kind) in [BlockKind::Frames, BlockKind::ClockFix, BlockKind::Tombstone]
        .into_iter()
        .enumerate()
    {
        let envelope = Envelope::new(Epoch(99), sequence as u64, Lane::Live, kind);
        impostor.send(&[&envelope.encode(&body)[..], &body].concat());
        let ack: Ack = impostor.await_message("/ack", |ack: &Ack| {
            ack.epoch == Epoch(99) && ack.received.upto() > sequence as u64
        });
        assert_eq!(ack.received.upto(), sequence as u64 + 1);
    }
    let dead = await_some(START_LIMIT, || {
        let letters = load
            .plant
            .metric("trunnion_collector_dead_letters_total")
            .unwrap();
        (letters >= 3.0).then_some(())
    });
    assert!(
        dead.is_some(),
        "{:?}",
        load.plant.metric("trunnion_collector_dead_letters_total")
    );

    // Not whole.
    let envelope = Envelope::new(Epoch(99), 3, Lane::Live, BlockKind::Frames);
    let mut broken = [&envelope.encode(&body)[..], &body].concat();
    *broken.last_mut().unwrap() ^= 1;
    impostor.send(&broken);
    let reject: Reject = impostor.await_message("/reject", |_| true);
    assert_eq!(reject.reason, RejectReason::BadCrc);
    let counted = "trunnion_collector_messages_rejected_total{reason=\"bad_crc\"}";
    assert_eq!(load.plant.metric(counted).unwrap(), 1.0);

    drop(impostor);
    load.start_agent().unwrap();
    wait(Duration::from_secs(11));
    load.await_caught_up().unwrap();
    load.plant.stop().unwrap();
}

/// Connects, sends these bytes as a whole and waits until the door hangs up.
fn offend(plant: &Plant, bytes: &[u8]) {
    use std::io::{Read, Write};
    let enrolment = Enrolment::load(&plant.bundle(GATEWAY)).unwrap();
    let tls = client_config(&enrolment, &enrolment.endpoints[0], &TlsClock::default()).unwrap();
    let name = "localhost".try_into().unwrap();
    let session = rustls::ClientConnection::new(Arc::new(tls), name).unwrap();
    let stream = std::net::TcpStream::connect(("127.0.0.1", plant.door_port())).unwrap();
    let mut stream = rustls::StreamOwned::new(session, stream);
    stream.write_all(bytes).unwrap();
    stream.flush().unwrap();
    // A reset is a way of hanging up, too.
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn a_declaration_of_256_mb_is_refused_unread_and_takes_no_memory() {
    const DECLARATION: [u8; 5] = [0x10, 0xff, 0xff, 0xff, 0x7f];
    let dir = tempfile::tempdir().unwrap();
    let mut plant = Plant::found(dir.path(), &fleet_text(&[])).unwrap();
    plant.start_collector().unwrap();
    // Every part of the way has been used once.
    for _ in 0..20 {
        offend(&plant, &DECLARATION);
    }
    let pid = plant.collector.as_ref().unwrap().id();
    let rss_mib = || Usage::of(pid).unwrap().rss_mib;
    let before = rss_mib();
    for _ in 0..40 {
        offend(&plant, &DECLARATION);
    }
    let refused = "trunnion_collector_door_refused_total{reason=\"oversized\"}";
    assert_eq!(plant.metric(refused).unwrap(), 60.0);
    let grown = rss_mib() - before;
    assert!(grown <= 1.0, "{grown} MiB more");
    plant.stop().unwrap();
}
