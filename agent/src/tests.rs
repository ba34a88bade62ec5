//! The shell beside a spool whose thread hangs.

use super::*;
use crate::enrolment::Enrolment;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use trunnion_common::id::{GatewayId, Name};

fn config(state_dir: &Path) -> Config {
    let name = |text| Name::new(text).unwrap();
    let enrolment = Enrolment {
        gateway: GatewayId {
            site: name("plant"),
            gateway: name("gw-1"),
        },
        endpoints: Vec::new(),
        ca: Vec::new(),
        certificate: Vec::new(),
        key: Arc::new(rustls::pki_types::PrivatePkcs8KeyDer::from(Vec::new()).into()),
    };
    Config::with_defaults(enrolment, state_dir.to_owned(), Vec::new())
}

#[tokio::test]
async fn a_spool_that_hangs_ends_the_agent_with_an_error_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    let (mut shell, mut gateway) = Shell::start(&config(dir.path()), clock, &Metrics::default())
        .await
        .unwrap();
    // From here on requests are taken, and nobody serves them.
    let (requests, _queue) = sync_channel(64);
    shell.spool = requests;
    let mut now = clock.now();
    let ended = (0..120).find_map(|_| {
        now.mono += Duration::from_secs(1);
        shell.perform_all(&mut gateway, now).err()
    });
    let said = ended.unwrap().to_string();
    let spool = dir.path().join("spool");
    assert!(
        said.starts_with(&format!(
            "the spool at {} has answered nothing for 60 s",
            spool.display()
        )),
        "{said}"
    );
    assert!(
        said.contains("start the agent again") && said.contains("nothing that was confirmed is lost"),
        "{said}"
    );
}

#[tokio::test]
async fn a_stop_leaves_a_thread_behind_that_hangs_and_waits_for_one_that_ends() {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || held.recv());
    assert!(!has_ended(&thread, 3 * THREAD_LOOK).await);
    drop(hold);
    assert!(has_ended(&thread, Duration::from_secs(3_600)).await);
}
