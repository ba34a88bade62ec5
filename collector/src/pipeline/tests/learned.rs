//! The remaining life by what was learned of a fleet.

use super::condition::{decided, notices};
use super::slow::{CURRENT, WARM, committed, fan, play_restarted, readings};
use super::*;
use crate::advisory::Advisory;
use crate::advisory::Cause;
use crate::decision::DecisionAction;
use crate::prognosis::fleet_life::{FleetLife, tests as fleet};
use crate::prognosis::{Method, Outlook};
use std::sync::LazyLock;

/// A machine that was not learned from.
const MACHINE: usize = 41;
/// A row, seconds: one window.
const ROW_S: f64 = 10.0;
const MODEL: &str = "life_model = \"pumps\"";

/// What thirty machines taught, as it is kept.
fn learned() -> Entry {
    static LEARNED: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut table = "machine,de/warm:mean,de/current:mean\n".to_owned();
        for machine in 0..30 {
            for row in 0..fleet::length(machine) {
                let [warm, current] = fleet::readings(machine, row);
                table.push_str(&format!("m-{machine},{warm},{current}\n"));
            }
        }
        let life = FleetLife::learn(table.as_bytes(), &[], ROW_S).unwrap();
        life.to_bytes().unwrap()
    });
    Entry::Learned {
        name: "pumps".into(),
        bytes: LEARNED.clone(),
    }
}

/// The machine's whole life, a reading of each channel a row, as far as `is_there` says.
fn life(fleet: Entry, is_there: impl Fn(u16, u64) -> bool) -> Vec<(u64, Vec<Entry>)> {
    let value = |channel, number: u64| {
        let [warm, current] = fleet::readings(MACHINE, number as usize);
        let value = if channel == WARM.0 { warm } else { current };
        is_there(channel, number).then_some(value as f32)
    };
    let rows = fleet::length(MACHINE) as u64;
    let mut entries = readings(fleet, rows, &[WARM, CURRENT], value);
    entries[0].1.push(learned());
    entries
}

fn told(outputs: &[Output]) -> Vec<(&'static str, &Advisory)> {
    let notices = notices(outputs).into_iter();
    notices
        .filter(|(_, advisory)| advisory.cause == Cause::RemainingLife)
        .collect()
}

#[test]
fn a_machine_that_ends_like_others_is_told_with_how_long_it_has_left_until_it_is_mended() {
    let mut entries = life(fan(MODEL, "", ""), |_, _| true);
    let end = 10 * fleet::length(MACHINE) as u64;
    let note = "new bearing".to_owned();
    entries.push((end + 100, vec![decided(DecisionAction::Maintenance { note })]));
    let commits = committed(entries);
    let (pipeline, outputs) = play(&commits);
    let told = told(&outputs);
    let words: Vec<_> = told.iter().map(|(word, _)| *word).collect();
    assert_eq!(
        (words[0], words[words.len() - 1]),
        ("raised", "cleared"),
        "{words:?}"
    );
    assert!(words[1..words.len() - 1].iter().all(|word| *word == "updated"));
    let end = START.plus_nanos(end as i64 * SECOND);
    let left = |at: EventTime| end.nanos_since(at) as f64 / SECOND as f64;
    let raised = left(told[0].1.raised);
    assert!(
        (300.0..1_400.0).contains(&raised),
        "raised {raised} s before the end"
    );
    let mut held = 0;
    for (_, advisory) in &told[..told.len() - 1] {
        let forecast = advisory.remaining_life.as_ref().unwrap();
        let by = Method::Fleet {
            model: "pumps".into(),
            machines: 30,
        };
        assert_eq!(forecast.method, by);
        let Outlook::Declining { remaining, .. } = forecast.outlook else {
            panic!("{forecast:?}");
        };
        let left = left(forecast.as_of);
        assert!((remaining.median_s - left).abs() < 300.0, "{left}: {remaining:?}");
        held += usize::from(remaining.holds(left));
    }
    assert!(held * 10 >= 6 * (told.len() - 1), "{held} of {}", told.len() - 1);
    assert_eq!(pipeline.counters().life_rows_incomplete, 0);
    assert_eq!(play_restarted(&commits), outputs);
}

#[test]
fn what_a_machine_ran_before_counts_until_it_is_mended() {
    let ages = |condition: &str, is_mended: bool| {
        let mut entries = life(fan(condition, "", ""), |_, number| number != 80);
        entries.truncate(120);
        if is_mended {
            let note = "new bearing".to_owned();
            entries[60].1.push(decided(DecisionAction::Maintenance { note }));
        }
        let (pipeline, _) = play(&committed(entries));
        pipeline.state.learned.ages()
    };
    // Two hours are 720 rows.
    let ran = format!("{MODEL}\nran_before_h = 2");
    assert_eq!(ages(MODEL, false), [0]);
    assert_eq!(ages(&ran, false), [720]);
    assert_eq!(ages(&ran, true), [0]);
}

#[test]
fn a_row_that_lacks_a_reading_says_nothing_and_is_counted() {
    let gone = |channel, number: u64| channel == WARM.0 || number % 4 != 3;
    let (pipeline, outputs) = play(&committed(life(fan(MODEL, "", ""), gone)));
    let counters = pipeline.counters();
    let rows = fleet::length(MACHINE) as u64;
    assert!(
        counters.life_rows_incomplete.abs_diff(rows / 4) <= 2,
        "{counters:?}"
    );
    assert!(counters.life_rows.abs_diff(rows - rows / 4) <= 3, "{counters:?}");
    assert!(!told(&outputs).is_empty());
}

#[test]
fn nothing_is_told_of_a_machine_that_names_no_model_nor_by_one_that_cannot_be_read() {
    let (pipeline, outputs) = play(&committed(life(fan("", "", ""), |_, _| true)));
    assert_eq!((told(&outputs).len(), pipeline.counters().life_rows), (0, 0));
    let mut entries = life(fan(MODEL, "", ""), |_, _| true);
    entries[0].1.pop();
    entries[0].1.push(Entry::Learned {
        name: "pumps".into(),
        bytes: vec![1, 2, 3],
    });
    let (pipeline, outputs) = play(&committed(entries));
    assert_eq!((told(&outputs).len(), pipeline.counters().models_refused), (0, 1));
}
