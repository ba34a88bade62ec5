//! How much of everything.

use crate::plant::{Client, Plant, publish, roomy, up};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use trunnion_collector::door::{Limits, Rate, RefusalReason as Reason};

#[tokio::test(flavor = "multi_thread")]
async fn too_fast_a_client_is_slowed_and_loses_nothing() {
    let limits = Limits {
        packets: Rate {
            per_second: 100.0,
            burst: 10.0,
        },
        ..roomy()
    };
    let mut plant = Plant::start_with(limits).await;
    let bundle = plant.enrol("gw-1");
    let mut client = Client::connected(&plant, &bundle).await;
    let start = Instant::now();
    for number in 0..60_u8 {
        client
            .send(&publish(0x30, up(&bundle, "data").as_bytes(), &[number]))
            .await;
    }
    for number in 0..60_u8 {
        assert_eq!(&plant.receive().payload[..], [number]);
    }
    assert!(
        start.elapsed() > Duration::from_millis(450),
        "fifty packets over the burst take half a second"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_limit_are_refused_and_places_are_given_back() {
    let plant = Plant::start_with(Limits {
        connections_max: 2,
        ..roomy()
    })
    .await;
    let bundles = [plant.enrol("gw-1"), plant.enrol("gw-2")];
    let mut first = Client::connected(&plant, &bundles[0]).await;
    let _second = Client::connected(&plant, &bundles[1]).await;
    check_hung_up(&plant).await;
    plant.await_refused(Reason::ConnectionsFull, 1).await;
    first.send(&[0xe0, 0]).await;
    first.hung_up().await;
    crate::plant::await_until("a place", || plant.metrics.door_sessions.get() == 1).await;
    Client::connected(&plant, &bundles[0]).await.ping().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_and_idle_handshakes_of_one_address_are_bounded() {
    let limits = Limits {
        attempts: Rate {
            per_second: 1e-9,
            burst: 4.0,
        },
        handshakes_max: 3,
        handshake_timeout: Duration::from_millis(200),
        ..roomy()
    };
    let plant = Plant::start_with(limits).await;
    let mut idle = Vec::new();
    for _ in 0..3 {
        idle.push(TcpStream::connect(plant.address).await.unwrap());
    }
    check_hung_up(&plant).await;
    plant.await_refused(Reason::HandshakesFull, 1).await;
    plant.await_refused(Reason::HandshakeTimeout, 3).await;
    check_hung_up(&plant).await;
    plant.await_refused(Reason::TooManyAttempts, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_connects_too_often_does_not_disturb_its_own_session() {
    let limits = Limits {
        gateway_attempts: Rate {
            per_second: 1e-9,
            burst: 1.0,
        },
        ..roomy()
    };
    let plant = Plant::start_with(limits).await;
    let bundle = plant.enrol("gw-1");
    let mut client = Client::connected(&plant, &bundle).await;
    let mut twin = Client::silent(&plant, &bundle).await;
    twin.send(&crate::plant::connect(&bundle)).await;
    assert_eq!(twin.hung_up().await, [0x20, 2, 0, 5]);
    plant.await_refused(Reason::TooManyAttempts, 1).await;
    client.ping().await;
}

async fn check_hung_up(plant: &Plant) {
    let mut stream = TcpStream::connect(plant.address).await.unwrap();
    let read = timeout(crate::plant::SOON, stream.read_u8())
        .await
        .expect("the door hangs up");
    assert!(read.is_err());
}
