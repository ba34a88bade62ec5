//! The contract is the same over a broker that knows nothing of it: Debian's mosquitto, unmodified.

use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS, TlsConfiguration, Transport};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use trunnion_agent::enrolment::Enrolment;
use trunnion_agent::tls::{TlsClock, client_config};
use trunnion_collector::config::{BrokerChoice, Config};
use trunnion_collector::ingest::BlockSource;
use trunnion_collector::metrics::Metrics;
use trunnion_collector::source::mqtt::{MqttBroker, MqttSource};
use trunnion_tests::bench::mosquitto;
use trunnion_tests::load::{Load, Size};
use trunnion_tests::outages::{Options, broker_kills};
use trunnion_tests::plant::{Broker, Plant, START_LIMIT, Way, fleet_text};
use trunnion_tests::process::await_some;

/// Whether there is a mosquitto; says so when there is none.
fn is_installed(test: &str) -> bool {
    let is_installed = mosquitto::program().is_some();
    if !is_installed {
        println!("skipped: {test} (install mosquitto)");
    }
    is_installed
}

#[test]
fn kills_of_a_mosquitto_cost_no_sample_and_double_none() {
    if !is_installed("kills_of_a_mosquitto_cost_no_sample_and_double_none") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = Options { count: 6, seed: 11 };
    let report = broker_kills(dir.path(), &options, |line| eprintln!("{line}")).unwrap();
    assert!(report.verdict.is_flawless(), "{report:#?}");
    assert!(report.connections > 1, "{report:#?}");
}

#[test]
fn a_collector_killed_behind_a_mosquitto_costs_no_sample() {
    if !is_installed("a_collector_killed_behind_a_mosquitto_costs_no_sample") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let way = Way {
        broker: Broker::Mosquitto,
        dialled: None,
    };
    let mut load = Load::start(dir.path(), 12, Size::default(), way).unwrap();
    for _ in 0..2 {
        trunnion_tests::load::wait(Duration::from_millis(700));
        load.plant.kill_and_restart_collector().unwrap();
        load.await_caught_up().unwrap();
    }
    let connections = load.plant.metric("trunnion_collector_broker_connections_total");
    assert_eq!(connections.unwrap(), 1.0, "since its last start");
    let verdict = load.finish().unwrap();
    assert!(verdict.is_flawless(), "{verdict:#?}");
}

/// A plant with a mosquitto and two gateways, and the collector's end of it in this process.
struct Guarded {
    plant: Plant,
    _broker: MqttBroker,
    source: MqttSource,
}

impl Guarded {
    fn start(dir: &Path) -> Self {
        let way = Way {
            broker: Broker::Mosquitto,
            dialled: None,
        };
        let mut plant = Plant::found_with(dir, &fleet_text(&[]), way).unwrap();
        plant.add_gateway("gw-2").unwrap();
        plant.start_broker().unwrap();
        let config = Config::read(&plant.collector_dir().join("collector.toml")).unwrap();
        let BrokerChoice::External(mqtt) = config.broker else {
            panic!("the plant was founded for a broker of its own");
        };
        let (broker, source) = MqttBroker::start(mqtt, &config.site, Metrics::default()).unwrap();
        let is_up = broker.watch();
        await_some(START_LIMIT, || is_up().then_some(())).expect("the collector is let in");
        Self {
            plant,
            _broker: broker,
            source,
        }
    }

    /// The payload that arrives next at the collector.
    fn receive(&mut self) -> Vec<u8> {
        let message = self.source.receive(START_LIMIT).unwrap().expect("a message");
        message.payload.to_vec()
    }

    /// A client with the certificate of `gateway` that says it is `client_id`.
    fn connect(&self, gateway: &str, client_id: &str) -> (Client, Connection) {
        let enrolment = Enrolment::load(&self.plant.bundle(gateway)).unwrap();
        let endpoint = &enrolment.endpoints[0];
        let mut options = MqttOptions::new(client_id, &endpoint.host, endpoint.port);
        let tls = Arc::new(client_config(&enrolment, endpoint, &TlsClock::default()).unwrap());
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
        let (client, mut connection) = Client::new(options, 64);
        await_packet(&mut connection, |packet| matches!(packet, Packet::ConnAck(_)));
        (client, connection)
    }

    /// Publishes where the gateway may not, and waits for what the broker makes of it: it confirms or it
    /// hangs up, and delivers nothing either way.
    fn forge(&self, topic: &str) {
        let (client, mut connection) = self.connect("gw-1", "gw-1");
        client.publish(topic, QoS::AtLeastOnce, false, "forged").unwrap();
        while let Ok(event) = connection.recv_timeout(START_LIMIT).expect("in time") {
            if matches!(event, Event::Incoming(Packet::PubAck(_))) {
                break;
            }
        }
    }
}

fn await_packet(connection: &mut Connection, wanted: impl Fn(&Packet) -> bool) -> Packet {
    loop {
        let event = connection.recv_timeout(START_LIMIT).expect("in time").unwrap();
        if let Event::Incoming(packet) = event
            && wanted(&packet)
        {
            return packet;
        }
    }
}

fn await_payload(connection: &mut Connection) -> Vec<u8> {
    match await_packet(connection, |packet| matches!(packet, Packet::Publish(_))) {
        Packet::Publish(message) => message.payload.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_access_list_keeps_every_gateway_to_its_own_topics() {
    if !is_installed("the_access_list_keeps_every_gateway_to_its_own_topics") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut guarded = Guarded::start(dir.path());
    let (victim, mut heard) = guarded.connect("gw-2", "gw-2");
    victim
        .subscribe("trunnion/down/plant/gw-2/ack", QoS::AtLeastOnce)
        .unwrap();
    await_packet(&mut heard, |packet| matches!(packet, Packet::SubAck(_)));

    for topic in [
        "trunnion/up/plant/gw-2/data",
        "trunnion/up/other/gw-1/data",
        "trunnion/up/plant/gw-1/data/deeper",
        "trunnion/down/plant/gw-2/ack",
        "trunnion/down/plant/gw-1/ack",
    ] {
        guarded.forge(topic);
    }

    // With the victim's client id, which must not cost the victim its session.
    let (thief, mut stolen) = guarded.connect("gw-1", "gw-2");
    for filter in [
        "trunnion/down/plant/gw-2/ack",
        "trunnion/down/plant/+/ack",
        "trunnion/#",
        "#",
        "trunnion/down/plant/gw-1/ack",
    ] {
        thief.subscribe(filter, QoS::AtLeastOnce).unwrap();
        await_packet(&mut stolen, |packet| matches!(packet, Packet::SubAck(_)));
    }
    let publish = |client: &Client, topic: &str, payload: &str| {
        client.publish(topic, QoS::AtLeastOnce, false, payload).unwrap();
    };
    publish(&thief, "trunnion/up/plant/gw-1/data", "own");
    await_packet(&mut stolen, |packet| matches!(packet, Packet::PubAck(_)));
    assert_eq!(
        guarded.receive(),
        b"own",
        "whatever was forged would have come before"
    );

    for (gateway, word) in [("gw-2", "for the victim"), ("gw-1", "for the thief")] {
        let topic = format!("trunnion/down/plant/{gateway}/ack");
        guarded.source.publish(&topic, word.into()).unwrap();
    }
    assert_eq!(await_payload(&mut heard), b"for the victim");
    // One for each filter that covers its own topic, and not a word of the other's.
    assert_eq!(await_payload(&mut stolen), b"for the thief");
    publish(&victim, "trunnion/up/plant/gw-2/data", "still here");
    await_packet(&mut heard, |packet| matches!(packet, Packet::PubAck(_)));
    assert_eq!(guarded.receive(), b"still here");
}
