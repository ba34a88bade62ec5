//! Who is not let in, and that the log says why.

use crate::plant::{self, Client, Plant, dial_and_fail, log, name, tls, today};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use time::Duration;
use trunnion_collector::door::{Door, RefusalReason as Reason};
use trunnion_collector::pki;

/// A client certificate of the plant's own authority, naming whatever `uris` say.
fn signed(pki: &Path, uris: &[&str]) -> (String, String) {
    let read = |file: &str| std::fs::read_to_string(pki.join(file)).unwrap();
    let issuer =
        Issuer::from_ca_cert_pem(&read("ca.crt"), KeyPair::from_pem(&read("ca.key")).unwrap()).unwrap();
    let mut params = CertificateParams::new(vec!["gw-1.plant".to_owned()]).unwrap();
    params
        .subject_alt_names
        .extend(uris.iter().map(|&uri| SanType::URI(uri.try_into().unwrap())));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    (
        params.signed_by(&key, &issuer).unwrap().pem(),
        key.serialize_pem(),
    )
}

async fn check_refused(plant: &Plant, identity: Option<(&str, &str)>, reason: Reason) {
    let ca = std::fs::read_to_string(plant.pki.join("ca.crt")).unwrap();
    let before = plant.refused(reason);
    let client = dial_and_fail(plant, tls(&ca, identity)).await;
    plant.await_refused(reason, before + 1).await;
    plant.await_logged(client, reason).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_certificate_is_refused_with_its_reason() {
    let plant = Plant::start().await;
    let (site, gateway) = (name("plant"), name("gw-1"));
    let other = tempfile::tempdir().unwrap();
    let other = plant::new_pki(other.path(), "plant");
    let foreign = pki::gateway_add(&other, &site, &gateway, &[], today()).unwrap();
    let then = today() - pki::GATEWAY_VALIDITY - Duration::seconds(1);
    let expired = pki::gateway_add(&plant.pki, &site, &name("old"), &[], then).unwrap();
    let then = today() + pki::BACKDATE + Duration::hours(1);
    let future = pki::gateway_add(&plant.pki, &site, &name("young"), &[], then).unwrap();
    let revoked = plant.enrol("gone");
    let server =
        ["server.crt", "server.key"].map(|file| std::fs::read_to_string(plant.pki.join(file)).unwrap());
    for (certificate, key, reason) in [
        (&foreign.certificate, &foreign.key, Reason::CertificateIssuer),
        (&expired.certificate, &expired.key, Reason::CertificateExpired),
        (&future.certificate, &future.key, Reason::CertificateFuture),
        (&server[0], &server[1], Reason::CertificateUsage),
    ] {
        check_refused(&plant, Some((certificate, key)), reason).await;
    }
    check_refused(&plant, None, Reason::CertificateMissing).await;
    let mut live = Client::connected(&plant, &revoked).await;
    pki::gateway_revoke(&plant.pki, &site, &name("gone"), today()).unwrap();
    plant.reload.request();
    live.hung_up().await;
    plant.await_refused(Reason::CertificateRevoked, 1).await;
    check_refused(
        &plant,
        Some((&revoked.certificate, &revoked.key)),
        Reason::CertificateRevoked,
    )
    .await;
    assert_eq!(
        plant.metrics.door_admitted.get(),
        1,
        "nobody but the one that was good at the time"
    );
    assert!(!log().contains("PRIVATE KEY"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_names_no_one_gateway_is_refused() {
    let plant = Plant::start().await;
    for uris in [
        &[][..],
        &["https://example.com/gw-1"],
        &["urn:trunnion:plant"],
        &["urn:trunnion:plant:gw-1:x"],
        &["urn:trunnion:plant:+"],
        &["urn:trunnion:plant:gw/1"],
        &["urn:trunnion:plant:gw-1", "urn:trunnion:plant:gw-2"],
    ] {
        let (certificate, key) = signed(&plant.pki, uris);
        check_refused(&plant, Some((&certificate, &key)), Reason::Identity).await;
    }
    let (certificate, key) = signed(&plant.pki, &["urn:trunnion:plant:gw-1"]);
    let ca = std::fs::read_to_string(plant.pki.join("ca.crt")).unwrap();
    let mut client = Client::dial(plant.address, tls(&ca, Some((&certificate, &key))))
        .await
        .unwrap();
    client
        .send(&plant::connect_as(b"trunnion-plant-gw-1", 0b10, 60, &[]))
        .await;
    client.expect(&plant::CONNACK).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_tls_is_refused() {
    let plant = Plant::start().await;
    let mut stream = tokio::net::TcpStream::connect(plant.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET / HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    plant.await_refused(Reason::Handshake, 1).await;
}

async fn check_start(spoil: impl FnOnce(&Path), expected: &[&str]) {
    let root = tempfile::tempdir().unwrap();
    let pki = plant::new_pki(root.path(), "plant");
    spoil(&pki);
    let metrics = trunnion_collector::metrics::Metrics::default();
    let (broker, _link) =
        tokio::task::block_in_place(|| trunnion_collector::broker::Broker::start(metrics.clone())).unwrap();
    let error = match Door::bind(plant::config(&pki, plant::roomy()), broker.access(), metrics).await {
        Ok(_) => panic!("the door opened"),
        Err(error) => error.to_string(),
    };
    for expected in expected {
        assert!(error.contains(expected), "{expected:?} is missing in: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_files_stop_the_start_with_their_name_and_what_to_do() {
    let chmod = |file: &'static str, mode| {
        move |pki: &Path| {
            std::fs::set_permissions(pki.join(file), std::fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    let write = |file: &'static str, text: &'static str| {
        move |pki: &Path| std::fs::write(pki.join(file), text).unwrap()
    };
    check_start(chmod("server.key", 0o640), &["server.key", "0640", "chmod 600"]).await;
    check_start(chmod("server.key", 0o604), &["server.key", "0604", "chmod 600"]).await;
    check_start(write("server.key", "nonsense"), &["server.key", "no private key"]).await;
    check_start(write("server.crt", ""), &["server.crt", "no certificate"]).await;
    check_start(write("ca.crt", ""), &["ca.crt", "no certificate"]).await;
    check_start(write("crl.pem", ""), &["crl.pem", "no revocation list"]).await;
    check_start(
        |pki| std::fs::remove_file(pki.join("crl.pem")).unwrap(),
        &["crl.pem", "cannot read"],
    )
    .await;
    let swap = |pki: &Path| {
        std::fs::copy(pki.join("ca.key"), pki.join("server.key"))
            .map(drop)
            .unwrap();
    };
    check_start(swap, &["server.crt", "does not go with", "server.key"]).await;
}
