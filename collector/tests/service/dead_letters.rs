//! Dead letters as an operator meets them: listed, shown, and replayed once their cause is mended.

use crate::gateway::{Gateway, Signal};
use crate::process::{Collector, Plant, until};
use crate::{FLEET, values};
use rustix::process::Signal as Unix;
use serde_json::Value;

/// The letters, by the API.
fn letters(collector: &Collector) -> Vec<Value> {
    let list = collector.json("/api/v1/dead-letters?reason=unknown_channel");
    assert_eq!(list["truncated"], false);
    list["dead_letters"].as_array().unwrap().clone()
}

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

fn all_are(collector: &Collector, outcome: &str) -> bool {
    let letters = letters(collector);
    letters
        .iter()
        .all(|letter| letter["replay"]["outcome"] == outcome)
}

#[test]
fn letters_are_listed_shown_and_replayed_into_their_own_windows_once() {
    let plant = Plant::new(FLEET);
    let collector = plant.start();
    let mut gateway = Gateway::connect(&plant, &collector, "gw-1");
    let mut signal = Signal::undescribed();
    gateway.send(signal.next_blocks(3));
    let refused = signal.samples();
    gateway.await_acknowledged();
    until("the letters", || {
        collector.json("/api/v1/ledger")["totals"]["lost_by_cause"]["refused"] == refused
    });

    // Listed beside the running collector, by the same words as on the API.
    let listed = lines(&plant.dead_letter(&["list", "--reason", "unknown_channel", "--json"]));
    assert_eq!(listed, letters(&collector));
    assert!(!listed.is_empty() && listed.len() < 100);
    let oldest = listed.last().unwrap();
    assert_eq!(
        (&oldest["gateway"], &oldest["form"], &oldest["lane"]),
        (&"bremen/gw-1".into(), &"frame".into(), &"live".into())
    );
    assert_eq!(oldest["replay"], Value::Null);
    assert_eq!(plant.dead_letter(&["list", "--reason", "fleet", "--json"]), "");
    let table = plant.dead_letter(&["list", "--limit", "2"]);
    assert_eq!(table.lines().count(), 3, "{table}");

    let id = oldest["id"].as_str().unwrap();
    let shown = plant.dead_letter(&["show", id]);
    for words in [
        "unknown_channel",
        "frame of node 00000000000000a1",
        "waveform of channel 0",
        "00000000  ",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }

    // As long as nothing is mended, they stay what they are.
    plant.dead_letter(&["replay", id]);
    until("the refusal", || {
        let all = letters(&collector);
        all.last().unwrap()["replay"]["outcome"] == "unknown_channel"
    });

    let table = signal.table_block();
    gateway.send(vec![table]);
    gateway.send(signal.next_blocks(3));
    gateway.await_acknowledged();
    until("windows of what came after", || values(&collector).len() >= 2);
    let asked = lines(&plant.dead_letter(&["replay", "--reason", "unknown_channel"]));
    assert_eq!(asked[0]["letters"], listed.len());
    until("every letter's landing", || all_are(&collector, "landed"));
    until("the windows of the letters", || values(&collector).len() >= 5);
    let ledger = collector.json("/api/v1/ledger");
    assert_eq!(ledger["totals"]["stored"], signal.samples());
    assert_eq!(ledger["totals"]["lost"], 0);
    for value in values(&collector) {
        let rms = value["value"].as_f64().unwrap();
        assert!((rms - 0.5_f64.sqrt()).abs() < 0.01, "{value}");
    }

    // Once more changes nothing.
    let before = (values(&collector), ledger);
    plant.dead_letter(&["replay", id]);
    until("the recognition", || {
        letters(&collector).last().unwrap()["replay"]["outcome"] == "known"
    });
    assert_eq!((values(&collector), collector.json("/api/v1/ledger")), before);
    let told = letters(&collector);
    assert!(collector.stop(Unix::TERM).success());

    // The journal alone says the same.
    for file in ["state.db", "state.db-wal", "state.db-shm"] {
        let _ = std::fs::remove_file(plant.path("data").join(file));
    }
    let collector = plant.start();
    until("the same letters", || letters(&collector) == told);
    until("the same windows", || values(&collector) == before.0);
    assert_eq!(collector.json("/api/v1/ledger"), before.1);
    assert!(collector.stop(Unix::TERM).success());
}
