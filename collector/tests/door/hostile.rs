//! Clients with a good certificate and bad manners: the broker lives, and the next good client is served.

use crate::plant::{
    Client, PINGREQ, Plant, Random, await_until, bundle_tls, connect, down, own_id, packet, publish, string,
    subscribe, up,
};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use trunnion_collector::door::RefusalReason as Reason;
use trunnion_collector::pki::Bundle;

/// The figure to reach: a good client connects within this after any attack.
const RECOVERY: Duration = Duration::from_secs(1);

async fn check_recovered(plant: &mut Plant, bundle: &Bundle) {
    let start = Instant::now();
    let mut client = Client::connected(plant, bundle).await;
    client
        .send(&publish(0x30, up(bundle, "data").as_bytes(), b"recovered"))
        .await;
    client.ping().await;
    let took = start.elapsed();
    assert!(took < RECOVERY, "a good client took {took:?}");
    while plant.receive().payload != "recovered" {}
    assert_eq!(plant.metrics.broker_restarts.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_delay_nobody() {
    let mut plant = Plant::start().await;
    let bundle = plant.enrol("gw-1");
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(TcpStream::connect(plant.address).await.unwrap());
    }
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(Client::silent(&plant, &bundle).await);
    }
    check_recovered(&mut plant, &bundle).await;
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_packet_in_every_state_leaves_the_broker_alive() {
    let mut plant = Plant::start().await;
    let (bundle, good) = (plant.enrol("gw-1"), plant.enrol("gw-2"));
    let own = up(&bundle, "data");
    let states = [
        vec![],
        connect(&bundle),
        [connect(&bundle), subscribe(1, &[&down(&bundle, "ack")])].concat(),
        [connect(&bundle), publish(0x32, own.as_bytes(), b"")].concat(),
        [connect(&bundle), vec![0xe0, 0]].concat(),
    ];
    let bodies = [
        vec![],
        vec![0, 1],
        string(&own),
        [string(&own), vec![0, 1]].concat(),
    ];
    for first in 0..=u8::MAX {
        for (number, state) in states.iter().enumerate() {
            let body = &bodies[(usize::from(first) + number) % bodies.len()];
            let mut client = Client::silent(&plant, &bundle).await;
            client.send(&[&state[..], &packet(first, body)].concat()).await;
            client.finish().await;
        }
    }
    // Of the first bytes, 246 are illegal in every session; before and after one all but CONNECT are.
    assert!(plant.refusals() >= 3 * 246 + 255, "{}", plant.refusals());
    check_recovered(&mut plant, &good).await;
    check_recovered(&mut plant, &bundle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_packets_that_kill_the_broker_do_not_reach_it() {
    let mut plant = Plant::start().await;
    let (bundle, good) = (plant.enrol("gw-1"), plant.enrol("gw-2"));
    let mut bystander = Client::subscribed(&plant, &good).await;
    let killers: [&[u8]; 9] = [
        // Packets that only servers send, and a reconnect with the same id.
        &[0x20, 2, 0, 0],
        &[0x90, 3, 0, 1, 0],
        &[0xb0, 2, 0, 1],
        &[0xd0, 0],
        // Acknowledgements out of order, each of which frees a connection that is then freed again.
        &[0x40, 2, 0, 9],
        &[0x50, 2, 0, 9],
        &[0x62, 2, 0, 9],
        &[0x70, 2, 0, 9],
        &connect(&bundle),
    ];
    for _ in 0..10 {
        for killer in killers {
            let mut client = Client::connected(&plant, &bundle).await;
            client.send(&[&PINGREQ[..], killer].concat()).await;
            assert!(
                client.hung_up().await.len() <= 2,
                "at most the answer to the ping"
            );
        }
    }
    bystander.ping().await;
    check_recovered(&mut plant, &bundle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_random_packets_leave_the_broker_alive() {
    const CONNECTIONS: usize = 400;
    const PACKETS: usize = 250;
    let seed = 0x7452_756e_6e69_6f6e;
    println!("seed {seed:#x}");
    let mut plant = Plant::start().await;
    let good = plant.enrol("gw-good");
    let mut attackers = tokio::task::JoinSet::new();
    for worker in 0..4_usize {
        let (bundle, address) = (plant.enrol(&format!("gw-{worker}")), plant.address);
        let config = bundle_tls(&bundle);
        attackers.spawn(async move {
            let mut random = Random(seed ^ worker as u64);
            for _ in 0..CONNECTIONS / 4 {
                let mut client = Client::dial(address, config.clone()).await.unwrap();
                let mut bytes = connect(&bundle);
                // Legal ones first, as many as chance has it, so that the later states are reached too.
                let legal = random.below(PACKETS);
                for number in 0..PACKETS {
                    let packet = if number < legal {
                        legal_packet(&bundle, &mut random)
                    } else {
                        random_packet(&mut random)
                    };
                    bytes.extend(packet);
                }
                client.send(&bytes).await;
                client.finish().await;
            }
        });
    }
    while let Some(attacked) = attackers.join_next().await {
        attacked.unwrap();
    }
    assert_eq!(plant.metrics.door_admitted.get(), CONNECTIONS as u64);
    // The rest ended with a DISCONNECT by chance, or within a packet.
    assert!(
        plant.refusals() > CONNECTIONS as u64 * 8 / 10,
        "{}",
        plant.refusals()
    );
    check_recovered(&mut plant, &good).await;
}

fn legal_packet(bundle: &Bundle, random: &mut Random) -> Vec<u8> {
    let length = random.below(400);
    match random.below(6) {
        0 => PINGREQ.to_vec(),
        1 => subscribe(
            1 + random.below(9) as u16,
            &[&down(bundle, "ack"), &down(bundle, "command")],
        ),
        2 => packet(0xa2, &[&[0, 3][..], &string(down(bundle, "ack"))].concat()),
        3 => publish(0x32, up(bundle, "hello").as_bytes(), &random.bytes(length)),
        _ => publish(0x30, up(bundle, "data").as_bytes(), &random.bytes(length)),
    }
}

fn random_packet(random: &mut Random) -> Vec<u8> {
    let length = random.below(60);
    match random.below(4) {
        0 => random.bytes(1 + length),
        _ => packet(random.next() as u8, &random.bytes(length)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_declaration_is_refused_unread() {
    let mut plant = Plant::start().await;
    let bundle = plant.enrol("gw-1");
    let mut client = Client::connected(&plant, &bundle).await;
    // 256 MB less one byte is the most that MQTT can declare. Not a byte of it follows.
    client.send(&[0x30, 0xff, 0xff, 0xff, 0x7f]).await;
    client.hung_up().await;
    plant.await_refused(Reason::Oversized, 1).await;
    let mut client = Client::silent(&plant, &bundle).await;
    client.send(&[0x10, 0xff, 0xff, 0xff, 0x7f]).await;
    client.hung_up().await;
    plant.await_refused(Reason::Oversized, 2).await;
    check_recovered(&mut plant, &bundle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_session_takes_over_from_one_that_misbehaves() {
    let mut plant = Plant::start().await;
    let bundle = plant.enrol("gw-1");
    for _ in 0..30 {
        let mut older = Client::connected(&plant, &bundle).await;
        // The middle of a packet, so that the older one is cut within it.
        older.send(&[0x30, 0xff, 0x7f, 0, 5, b't']).await;
        let mut newer = Client::connected(&plant, &bundle).await;
        newer.ping().await;
        assert!(older.hung_up().await.is_empty());
    }
    await_until("take-overs", || plant.refused(Reason::TakenOver) >= 30).await;
    check_recovered(&mut plant, &bundle).await;
    assert!(own_id(&bundle).starts_with("trunnion-plant-"));
}
