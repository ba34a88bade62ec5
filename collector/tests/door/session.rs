//! What a good gateway sees.

use crate::plant::{
    CONNACK, Client, Plant, SOON, bundle_tls, connect_as, down, own_id, publish, string, subscribe, up,
};
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS, SubscribeReasonCode, TlsConfiguration, Transport,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use trunnion_collector::door::RefusalReason as Reason;
use trunnion_collector::pki::Bundle;

fn good_client(plant: &Plant, bundle: &Bundle) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(own_id(bundle), "127.0.0.1", plant.address.port());
    options.set_clean_session(true);
    options.set_max_packet_size(2 << 20, 2 << 20);
    options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::new(bundle_tls(
        bundle,
    )))));
    AsyncClient::new(options, 64)
}

async fn next(events: &mut EventLoop, wanted: impl Fn(&Packet) -> bool) -> Packet {
    let polling = async {
        loop {
            if let Event::Incoming(packet) = events.poll().await.unwrap()
                && wanted(&packet)
            {
                return packet;
            }
        }
    };
    timeout(SOON, polling).await.expect("the packet comes")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_client_is_served_both_ways() {
    let mut plant = Plant::start().await;
    let bundle = plant.enrol("gw-1");
    let (client, mut events) = good_client(&plant, &bundle);
    next(&mut events, |packet| matches!(packet, Packet::ConnAck(_))).await;
    client
        .subscribe(down(&bundle, "ack"), QoS::AtLeastOnce)
        .await
        .unwrap();
    let Packet::SubAck(granted) = next(&mut events, |packet| matches!(packet, Packet::SubAck(_))).await
    else {
        unreachable!("that is what was waited for");
    };
    assert_eq!(
        granted.return_codes,
        [SubscribeReasonCode::Success(QoS::AtMostOnce)]
    );
    let block = vec![0x5a; 1 << 20];
    client
        .publish(up(&bundle, "data"), QoS::AtLeastOnce, false, block.clone())
        .await
        .unwrap();
    next(&mut events, |packet| matches!(packet, Packet::PubAck(_))).await;
    let message = plant.receive();
    assert_eq!(message.topic, up(&bundle, "data"));
    assert_eq!(message.payload, block);
    plant.publish(&down(&bundle, "ack"), b"durable");
    let Packet::Publish(ack) = next(&mut events, |packet| matches!(packet, Packet::Publish(_))).await else {
        unreachable!("that is what was waited for");
    };
    assert_eq!(
        (ack.topic, &ack.payload[..]),
        (down(&bundle, "ack"), &b"durable"[..])
    );
    assert_eq!(plant.metrics.door_admitted.get(), 1);
    assert_eq!(plant.metrics.door_sessions.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_acknowledgements_pass_without_one_from_the_client() {
    let mut plant = Plant::start().await;
    let bundle = plant.enrol("gw-1");
    let mut client = Client::subscribed(&plant, &bundle).await;
    // More than rumqttd keeps unacknowledged, and more than one link's queue.
    for number in 0..1_000_u16 {
        plant.publish(&down(&bundle, "ack"), &number.to_be_bytes());
        client
            .expect(&publish(
                0x30,
                down(&bundle, "ack").as_bytes(),
                &number.to_be_bytes(),
            ))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_down_reaches_its_gateway_only() {
    let mut plant = Plant::start().await;
    let (one, two) = (plant.enrol("gw-1"), plant.enrol("gw-2"));
    let mut first = Client::subscribed(&plant, &one).await;
    let mut second = Client::subscribed(&plant, &two).await;
    plant.publish(&down(&one, "ack"), b"for one");
    first
        .expect(&publish(0x30, down(&one, "ack").as_bytes(), b"for one"))
        .await;
    second.ping().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_will_is_published_when_the_connection_breaks_and_only_then() {
    let mut plant = Plant::start().await;
    let bundle = plant.enrol("gw-1");
    let will = [string(up(&bundle, "status")), string("gone")].concat();
    let connect = connect_as(own_id(&bundle).as_bytes(), 0b110, 60, &will);
    for orderly in [true, false] {
        let mut client = Client::silent(&plant, &bundle).await;
        client.send(&connect).await;
        client.expect(&CONNACK).await;
        client
            .send(&publish(0x30, up(&bundle, "data").as_bytes(), b"last words"))
            .await;
        if orderly {
            client.send(&[0xe0, 0]).await;
            client.hung_up().await;
        }
        drop(client);
        assert_eq!(&plant.receive().payload[..], b"last words");
    }
    let message = plant.receive();
    assert_eq!(
        (message.topic.as_str(), &message.payload[..]),
        (&*up(&bundle, "status"), &b"gone"[..])
    );
    assert_eq!(plant.receive_within(Duration::from_millis(50)), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_follows_what_was_sent_before_it_even_after_an_offence() {
    let mut plant = Plant::start().await;
    let bundle = plant.enrol("gw-1");
    let will = [string(up(&bundle, "status")), string("gone")].concat();
    let mut bytes = connect_as(own_id(&bundle).as_bytes(), 0b110, 60, &will);
    for number in 0..100_u8 {
        bytes.extend(publish(0x30, up(&bundle, "data").as_bytes(), &[number]));
    }
    bytes.extend(subscribe(1, &["#"]));
    let mut client = Client::silent(&plant, &bundle).await;
    client.send(&bytes).await;
    assert_eq!(client.hung_up().await, CONNACK);
    for number in 0..100_u8 {
        assert_eq!(&plant.receive().payload[..], [number]);
    }
    assert_eq!(&plant.receive().payload[..], b"gone");
    plant.await_refused(Reason::Filter, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_is_cut_after_one_and_a_half_keep_alives() {
    let plant = Plant::start().await;
    let bundle = plant.enrol("gw-1");
    let mut client = Client::silent(&plant, &bundle).await;
    let start = Instant::now();
    client
        .send(&connect_as(own_id(&bundle).as_bytes(), 0b10, 1, &[]))
        .await;
    client.expect(&CONNACK).await;
    client.hung_up().await;
    assert!(
        start.elapsed() >= Duration::from_millis(1_400),
        "{:?}",
        start.elapsed()
    );
    plant.await_refused(Reason::KeepAlive, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connect_is_told_why() {
    let plant = Plant::start().await;
    let bundle = plant.enrol("gw-1");
    let own = own_id(&bundle);
    for (connect, code, reason) in [
        (connect_as(b"somebody", 0b10, 60, &[]), 2, Reason::ClientId),
        (
            connect_as(own.as_bytes(), 0b00, 60, &[]),
            5,
            Reason::PersistentSession,
        ),
        (connect_as(own.as_bytes(), 0b10, 0, &[]), 5, Reason::KeepAliveZero),
    ] {
        let mut client = Client::silent(&plant, &bundle).await;
        client.send(&connect).await;
        assert_eq!(client.hung_up().await, [0x20, 2, 0, code]);
        plant.await_logged(client.local, reason).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_every_session_at_once() {
    let plant = Plant::start().await;
    let bundle = plant.enrol("gw-1");
    let mut client = Client::connected(&plant, &bundle).await;
    let idle = tokio::net::TcpStream::connect(plant.address).await.unwrap();
    let metrics = plant.metrics.clone();
    let start = Instant::now();
    plant.stop().await;
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    client.hung_up().await;
    assert_eq!(metrics.door_sessions.get(), 0);
    drop(idle);
}
