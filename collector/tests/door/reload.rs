//! Certificates and revocation lists change while the door is open.

use crate::plant::{
    Client, Plant, SOON, await_until, bundle_tls, dial_and_fail, log, name, publish, roomy, today, up,
};
use std::time::Duration;
use tokio::time::Instant;
use trunnion_collector::door::{Limits, RefusalReason as Reason};
use trunnion_collector::pki;

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_live_session_is_cut_and_the_others_stay() {
    // Without asking: the files are followed.
    let plant = Plant::start_with(Limits {
        reload_interval: Duration::from_millis(50),
        ..roomy()
    })
    .await;
    let (bad, good) = (plant.enrol("gw-bad"), plant.enrol("gw-good"));
    let mut cut = Client::connected(&plant, &bad).await;
    let mut stays = Client::connected(&plant, &good).await;
    let start = Instant::now();
    pki::gateway_revoke(&plant.pki, &name("plant"), &name("gw-bad"), today()).unwrap();
    assert!(cut.hung_up().await.is_empty());
    assert!(start.elapsed() < Duration::from_secs(60));
    plant.await_refused(Reason::CertificateRevoked, 1).await;
    stays.ping().await;
    dial_and_fail(&plant, bundle_tls(&bad)).await;
    plant.await_refused(Reason::CertificateRevoked, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_server_certificate_is_used_and_a_session_under_load_loses_nothing() {
    let mut plant = Plant::start().await;
    let (old, new) = (plant.enrol("gw-old"), plant.enrol("gw-new"));
    let mut before = Client::connected(&plant, &old).await;
    let (mut sent, mut renewed) = (0_u32, false);
    let deadline = Instant::now() + SOON;
    while !renewed {
        assert!(Instant::now() < deadline, "the door keeps its old certificate");
        if sent == 100 {
            pki::server_renew(&plant.pki, &name("plant"), today()).unwrap();
        }
        for _ in 0..50 {
            before
                .send(&publish(0x30, up(&old, "data").as_bytes(), &sent.to_be_bytes()))
                .await;
            sent += 1;
        }
        plant.reload.request();
        let after = Client::silent(&plant, &new).await;
        renewed = after.server_certificate() != before.server_certificate();
    }
    for number in 0..sent {
        assert_eq!(plant.receive().payload[..], number.to_be_bytes());
    }
    before.ping().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_gateway_takes_over_from_itself_with_its_new_certificate() {
    let mut plant = Plant::start().await;
    let old = plant.enrol("gw-1");
    let mut before = Client::connected(&plant, &old).await;
    let renewed = pki::gateway_renew(&plant.pki, &name("plant"), &name("gw-1"), &[], today()).unwrap();
    let mut after = Client::connected(&plant, &renewed).await;
    assert!(before.hung_up().await.is_empty());
    after
        .send(&publish(0x30, up(&renewed, "data").as_bytes(), b"new"))
        .await;
    assert_eq!(&plant.receive().payload[..], b"new");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_new_files_are_logged_and_change_nothing() {
    let plant = Plant::start_with(Limits {
        reload_interval: Duration::from_millis(20),
        ..roomy()
    })
    .await;
    let bundle = plant.enrol("gw-1");
    let mut client = Client::connected(&plant, &bundle).await;
    let path = plant.pki.join("crl.pem");
    std::fs::write(&path, "half a revocation li").unwrap();
    let path = path.display().to_string();
    await_until("a complaint", || {
        log()
            .lines()
            .any(|line| line.contains("ERROR") && line.contains(&path))
    })
    .await;
    client.ping().await;
    Client::connected(&plant, &bundle).await.ping().await;
}
