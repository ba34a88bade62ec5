//! One gateway as another: nothing arrives, nothing leaks, and the other one notices nothing.

use crate::plant::{
    Client, Plant, connect, connect_as, down, own_id, packet, publish, string, subscribe, up,
};
use trunnion_collector::pki::Bundle;

/// Topics and filters that are not the attacker's own.
fn names(attacker: &Bundle, victim: &Bundle) -> Vec<String> {
    let mut names: Vec<String> = [
        "#",
        "+",
        "/",
        "",
        "trunnion",
        "trunnion/#",
        "trunnion/up/#",
        "trunnion/down/#",
        "trunnion/+/+/+/+",
        "+/+/+/+/+",
        "$SYS",
        "$SYS/#",
        "$SYS/broker/clients",
        "$share/g/#",
        "$share/g/trunnion/up/+/+/+",
        "$queue/trunnion/up/+/+/+",
        "$internal",
        "trunnion/up/other/gw-a/data",
        "trunnion/down/other/gw-a/ack",
        "Trunnion/up/plant/gw-b/data",
        "trunnion\0/up/plant/gw-b/data",
        "\u{feff}trunnion/up/plant/gw-b/data",
    ]
    .map(str::to_owned)
    .into();
    for kind in [
        "data", "hello", "status", "result", "ack", "reject", "command", "+", "#", "\0", "$data", "",
    ] {
        names.push(up(victim, kind));
        names.push(down(victim, kind));
    }
    for own in [up(attacker, "data"), down(attacker, "ack")] {
        for suffix in ["/", "/x", "/#", "/+", "\0", " ", "\u{202e}", "/../../gw-b/data"] {
            names.push(format!("{own}{suffix}"));
        }
        for prefix in ["/", " ", "$share/g/", "\0"] {
            names.push(format!("{prefix}{own}"));
        }
        names.push(own.replace("gw-a", "gw-a/gw-b"));
        names.push(own.replace("gw-a", "gw-A"));
        names.push(own.replace("gw-a", "+"));
        names.push(own.replace("plant", "+"));
        names.push(own.to_uppercase());
    }
    names
}

/// Each a whole connection's worth of bytes.
fn attacks(attacker: &Bundle, victim: &Bundle) -> Vec<Vec<u8>> {
    let greeted = |packet: Vec<u8>| [connect(attacker), packet].concat();
    let will = |flags: u8, topic: &str| {
        connect_as(
            own_id(attacker).as_bytes(),
            flags,
            60,
            &[string(topic), string("escaped")].concat(),
        )
    };
    let mut attacks = Vec::new();
    for name in names(attacker, victim) {
        attacks.push(greeted(publish(0x30, name.as_bytes(), b"escaped")));
        attacks.push(greeted(publish(0x32, name.as_bytes(), b"escaped")));
        attacks.push(greeted(subscribe(1, &[&name])));
        attacks.push(greeted(subscribe(1, &[&down(attacker, "ack"), &name])));
        attacks.push(greeted(packet(0xa2, &[&[0, 1][..], &string(&name)].concat())));
        attacks.push(will(0b0000_0110, &name));
        attacks.push(will(0b0010_0110, &name));
    }
    // Uplink topics are no downlink filters, and the other way round.
    for kind in ["data", "hello", "status", "result"] {
        attacks.push(greeted(subscribe(1, &[&up(attacker, kind)])));
        attacks.push(greeted(publish(0x31, up(attacker, kind).as_bytes(), b"retained")));
        attacks.push(greeted(publish(0x33, up(attacker, kind).as_bytes(), b"retained")));
        attacks.push(greeted(publish(0x34, up(attacker, kind).as_bytes(), b"escaped")));
    }
    for kind in ["ack", "reject", "command"] {
        attacks.push(greeted(publish(
            0x30,
            down(attacker, kind).as_bytes(),
            b"escaped",
        )));
    }
    attacks.push(will(0b0010_0110, &up(attacker, "status")));
    attacks.push(will(0b0001_0110, &up(attacker, "status")));
    attacks.push(will(0b0000_0110, &up(attacker, "data")));
    let thefts: [&[u8]; 18] = [
        b"",
        b"ingest",
        b"canary",
        b"door",
        b"trunnion-plant-gw-b",
        b"trunnion-plant-gw-a ",
        b" trunnion-plant-gw-a",
        b"trunnion-plant-gw-a\0",
        b"trunnion-plant-gw-A",
        b"trunnion-other-gw-a",
        b"trunnion-plant-gw-a-b",
        b"trunnion/plant/gw-a",
        b"plant:gw-a",
        b"plant:gw-b",
        b"trunnion-plant-+",
        b"#",
        b"$SYS",
        b"\xff\xfe",
    ];
    for id in thefts {
        attacks.push(connect_as(id, 0b10, 60, &[]));
        attacks.push(connect_as(id, 0b00, 60, &[]));
    }
    for (user, password) in [("door", ""), ("door", "door"), ("", "x"), ("admin", "admin")] {
        let login = [string(user), string(password)].concat();
        attacks.push(connect_as(own_id(attacker).as_bytes(), 0b1100_0010, 60, &login));
    }
    attacks
}

#[tokio::test(flavor = "multi_thread")]
async fn no_escape_reaches_ingest_or_another_gateway() {
    let mut plant = Plant::start().await;
    let (attacker, victim) = (plant.enrol("gw-a"), plant.enrol("gw-b"));
    let mut bystander = Client::subscribed(&plant, &victim).await;
    let attacks = attacks(&attacker, &victim);
    assert!(attacks.len() >= 200, "{}", attacks.len());
    for attack in &attacks {
        let mut client = Client::silent(&plant, &attacker).await;
        client.send(attack).await;
        let said = client.hung_up().await;
        // A CONNACK at most: no SUBACK, no PUBACK, no message.
        assert!(
            said.is_empty() || (said.len() == 4 && said[0] == 0x20),
            "{attack:02x?} was answered {said:02x?}"
        );
    }
    // The bystander hears nothing before its own ping and its own message, and ingest nothing before that.
    bystander.ping().await;
    bystander
        .send(&publish(0x30, up(&victim, "data").as_bytes(), b"mine"))
        .await;
    let first = plant.receive();
    assert_eq!(
        (first.topic.as_str(), &first.payload[..]),
        (&*up(&victim, "data"), &b"mine"[..])
    );
    assert_eq!(plant.metrics.broker_restarts.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_whose_names_run_together_do_not_meet() {
    // With hyphens in both names, site and gateway cannot be told apart in a client id.
    let plant = Plant::start().await;
    let (one, two) = (plant.enrol("gw-a"), plant.enrol("gw"));
    let mut first = Client::connected(&plant, &one).await;
    let mut second = Client::connected(&plant, &two).await;
    first.ping().await;
    second.ping().await;
    assert_eq!(plant.metrics.door_sessions.get(), 2);
}
