//! A clean stop and a new start go on where the old process ended.

use serde_json::Value;
use std::time::Duration;
use trunnion_tests::cases::{self, Vibration};
use trunnion_tests::plant::{Plant, STOP_LIMIT};
use trunnion_tests::process::await_some;
use trunnion_tests::story::{play, rms_series};

#[test]
fn a_restarted_collector_serves_what_it_had_and_recomputes_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut short = cases::simulated();
    for case in &mut short {
        if let Vibration::Simulated(motor) = &mut case.vibration {
            motor.seconds = 6.0;
        }
    }
    let (report, mut plant) = play(dir.path(), short, false, |line| eprintln!("{line}")).unwrap();
    assert_eq!(report.samples_lost, 0);
    let paths = ["/api/v1/ledger", &rms_series("asset-01"), "/api/v1/advisories"];
    let read = |plant: &Plant| -> Vec<Value> {
        let mut answers: Vec<_> = paths.iter().map(|path| plant.get(path).unwrap()).collect();
        // The motors have ended: that their data ceases is told a few seconds later, and is no computation.
        if let Some(list) = answers[2]["advisories"].as_array_mut() {
            list.retain(|advisory| advisory["cause"] == "bearing");
        }
        answers
    };
    let before = read(&plant);

    let status = plant.collector.take().unwrap().stop(STOP_LIMIT).unwrap();
    assert!(status.success(), "{status}");
    plant.start_collector().unwrap();
    let after = read(&plant);
    assert_eq!(before, after);

    // The agent finds the collector again by itself.
    let back = await_some(Duration::from_secs(30), || {
        let gateways = plant.get("/api/v1/gateways").ok()?;
        (gateways["gateways"][0]["connected"] == true).then_some(())
    });
    assert!(
        back.is_some(),
        "the agent did not come back: {:?}",
        plant.get("/api/v1/gateways")
    );
    plant.stop().unwrap();
}
