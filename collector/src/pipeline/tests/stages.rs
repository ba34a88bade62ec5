//! What is computed on several cores, and what is computed of a window when there is no time for everything.

use super::*;
use crate::window::WindowSettings;
use trunnion_diagnosis::features::Depth;

/// Entries in commits of so many.
fn gathered(entries: Vec<Entry>, size: usize) -> Vec<Commit> {
    let single = commits(entries);
    single
        .chunks(size)
        .map(|commits| Commit {
            entries: commits.iter().flat_map(|commit| commit.entries.clone()).collect(),
            ..commits[commits.len() - 1].clone()
        })
        .collect()
}

/// Seven nodes, of which the fleet knows the first, in turns; one of them is damaged.
fn plant(frames: usize) -> Vec<Entry> {
    let stories = (1..=7).map(|number| {
        let mut node = Node::new(number);
        match number {
            1 => node.story(frames, outer_race_fault),
            _ => node.story(frames, move |n| noise(n + 1_000_000 * number)),
        }
    });
    let mut stories: Vec<_> = stories.map(Vec::into_iter).collect();
    let mut entries = vec![fleet(1)];
    while let Some(entry) = stories[0].next() {
        entries.push(entry);
        entries.extend(stories[1..].iter_mut().filter_map(Iterator::next));
    }
    entries
}

#[test]
fn the_outputs_are_the_same_bytes_with_one_worker_and_with_many() {
    let entries = plant(150);
    for size in [1, 100, entries.len()] {
        let commits = gathered(entries.clone(), size);
        let played = [1, 2, 5].map(|workers| {
            let mut pipeline = Pipeline::new();
            pipeline.set_workers(NonZeroUsize::new(workers).unwrap());
            let outputs: Vec<_> = commits.iter().flat_map(|commit| pipeline.apply(commit)).collect();
            (
                format!("{outputs:?}"),
                checkpoint::save(pipeline.state()),
                outputs,
            )
        });
        let rows = windows(&played[0].2);
        let decided = rows.iter().filter(|row| row.decided).count();
        assert!(decided >= 5 * 7, "{decided} windows in commits of {size}");
        assert!(
            played[0]
                .2
                .iter()
                .any(|output| matches!(output, Output::Advisory(AdvisoryChange::Raised(_)))),
            "the damage is found"
        );
        for other in &played[1..] {
            assert!(
                other.0 == played[0].0 && other.1 == played[0].1,
                "in commits of {size}"
            );
        }
    }
}

#[test]
fn no_more_windows_wait_than_there_is_room_for() {
    // A quarter of a second each: 1,400 windows in one commit.
    let settings = Settings {
        windows: WindowSettings {
            size_ns: SECOND / 4,
            ..WindowSettings::default()
        },
        ..Settings::default()
    };
    let settings = Entry::Settings {
        effective: EventTime(i64::MIN),
        text: settings.to_text(),
    };
    let entries: Vec<_> = [settings].into_iter().chain(plant(1_250)).collect();
    let (all, one) = (gathered(entries.clone(), entries.len()), gathered(entries, 1));
    let rows = |commits: &[Commit]| {
        let (_, outputs) = play(commits);
        let mut rows: Vec<_> = windows(&outputs).into_iter().cloned().collect();
        rows.sort_by_key(|row| (row.series.clone(), row.start));
        rows
    };
    let rows = [rows(&all), rows(&one)];
    assert!(rows[0].len() > analysis::WINDOWS_MAX);
    assert_eq!(rows[0], rows[1]);
}

#[test]
fn while_shed_windows_tell_severity_and_neither_raise_nor_clear() {
    let shed = |depth| Entry::Shed { depth };
    let mut node = Node::new(1);
    let mut entries = vec![fleet(1)];
    let mut blocks = node
        .story(30 * 25, |n| {
            // Mended while nobody looks.
            if n < 14 * RATE {
                outer_race_fault(n)
            } else {
                noise(n)
            }
        })
        .into_iter();
    entries.extend(blocks.by_ref().take(2 + 10 * 25));
    entries.push(shed(Depth::Severity));
    entries.extend(blocks.by_ref().take(10 * 25));
    entries.push(shed(Depth::Full));
    entries.extend(blocks);
    let commits = commits(entries);
    let (pipeline, outputs) = play(&commits);

    let tells = |row: &FeatureRow, wanted: &str| row.values.iter().any(|(label, _)| *label == wanted);
    let decided: Vec<_> = windows(&outputs).into_iter().filter(|row| row.decided).collect();
    let shed_rows = decided
        .iter()
        .filter(|row| !tells(row, "envelope_outer_race"))
        .count();
    assert_eq!(shed_rows as u64, pipeline.counters().windows_shed);
    assert_eq!(shed_rows, 10);
    for severity in ["rms", "kurtosis_excess", "velocity_rms"] {
        assert!(
            decided.iter().all(|row| tells(row, severity)),
            "{severity} is never shed"
        );
    }

    let mut changes = Vec::new();
    for (output, commit) in commits
        .iter()
        .scan(Pipeline::new(), |pipeline, commit| {
            let outputs = pipeline.apply(commit);
            Some(
                outputs
                    .into_iter()
                    .map(move |output| (output, commit))
                    .collect::<Vec<_>>(),
            )
        })
        .flatten()
    {
        let at = commit.time.nanos_since(START) / SECOND;
        match output {
            Output::Advisory(AdvisoryChange::Raised(_)) => changes.push(("raised", at)),
            Output::Advisory(AdvisoryChange::Cleared(_)) => changes.push(("cleared", at)),
            _ => {}
        }
    }
    let kinds: Vec<_> = changes.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, ["raised", "cleared"]);
    // One commit is 20 ms of the journal's clock and 40 ms of samples.
    assert!(changes[0].1 < 5 && changes[1].1 > 10, "{changes:?}");
}

#[test]
fn what_is_shed_is_part_of_the_state() {
    let mut pipeline = Pipeline::new();
    pipeline.apply(
        &commits(vec![Entry::Shed {
            depth: Depth::Severity,
        }])[0],
    );
    let resumed = Pipeline::resume(checkpoint::load(&checkpoint::save(pipeline.state())).unwrap());
    assert_eq!(resumed.state().depth(), Depth::Severity);
}

#[test]
fn a_channel_that_falls_silent_fires_however_many_others_speak() {
    // The second node stops after half a second; the first goes on for more than a minute.
    let mut silent = Node::new(2);
    let mut entries = silent.story(12, noise);
    for entry in Node::new(1).story(62 * 25, noise) {
        // Two commits, 40 ms: as long as a frame.
        entries.extend([entry, Entry::Tick]);
    }
    let (_, outputs) = play(&commits(entries));
    let rows = windows(&outputs);
    let of_silent = rows
        .iter()
        .filter(|row| row.series.point == silent.id.to_string());
    assert_eq!(
        of_silent.count(),
        1,
        "its one window, a minute after its last sample"
    );
}
