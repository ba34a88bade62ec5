use super::*;
use crate::pipeline::script::{self, Node, SECOND, START};
use crate::state::set_aside;
use crate::window::WindowSettings;
use rusqlite::Connection;
use rusqlite::types::Value;
use std::path::Path;
use std::sync::mpsc::{self, TryRecvError};
use trunnion_common::block::{Kind, Lane};

const OPTIONS: Options = Options {
    segment_bytes: 40_000,
};

/// A collector's data directory, whose journal is filled and whose tables are written as they are live.
struct Plant {
    dir: tempfile::TempDir,
    entries: std::vec::IntoIter<Entry>,
    commits: i64,
}

impl Plant {
    /// A fault, an outage that ends as history, a node without a channel table, and what nobody can decode.
    fn new() -> Self {
        let mut one = Node::new(1);
        let mut other = Node::new(2);
        let mut entries = vec![settings(1), script::fleet(1)];
        entries.extend(one.story(200, script::outer_race_fault));
        entries.extend(other.story(40, script::noise));
        let late: Vec<_> = (0..30).map(|_| other.waveform(script::noise)).collect();
        for _ in 0..30 {
            let live = other.waveform(script::noise);
            entries.push(other.frame_block(&[live]));
            let fault = one.waveform(script::outer_race_fault);
            entries.push(one.frame_block(&[fault]));
        }
        other.lane = Lane::Backfill;
        entries.extend(late.into_iter().map(|frame| other.frame_block(&[frame])));
        let mut mute = Node::new(3);
        let frame = mute.waveform(script::noise);
        entries.push(mute.frame_block(&[frame]));
        entries.push(mute.block(Kind::Frames, &[0xff; 40]));
        one.reboot();
        entries.extend(one.story(60, script::outer_race_fault));
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        Self {
            dir,
            entries: entries.into_iter(),
            commits: 0,
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn live(&self) -> PathBuf {
        self.data().join(STATE_FILE)
    }

    fn segments(&self) -> Segments {
        Segments::from(&self.data().join("journal"))
    }

    fn journal(&self) -> Journal {
        Journal::open(&self.data().join("journal"), OPTIONS, START)
            .unwrap()
            .0
    }

    /// Commits of seven entries each.
    fn commit(&mut self, journal: &mut Journal, commits: usize) -> Position {
        for _ in 0..commits {
            self.commits += 1;
            let mut entries: Vec<_> = self.entries.by_ref().take(7).collect();
            if entries.is_empty() {
                entries.push(Entry::Tick);
            }
            for entry in &entries {
                journal.append(entry);
            }
            let now = START.plus_nanos(self.commits * SECOND / 5);
            journal.commit(now).unwrap();
        }
        journal.end()
    }

    fn runner(&self) -> Runner {
        let mut state = State::open(&self.live()).unwrap();
        state.bind(self.segments().journal().unwrap().unwrap()).unwrap();
        Runner::resume(self.segments(), state, Metrics::default()).unwrap()
    }

    /// A collector's life: starts, commits, kills.
    fn live_through(&mut self, starts: usize) {
        for start in 0..starts {
            let mut journal = self.journal();
            let mut runner = self.runner();
            for batch in 0..4 {
                let end = self.commit(&mut journal, 3);
                runner.catch_up(end).unwrap();
                if (start + batch) % 3 == 0 {
                    runner.save().unwrap();
                }
            }
        }
        let mut runner = self.runner();
        runner.catch_up(self.journal().end()).unwrap();
        runner.save().unwrap();
    }

    fn request(&self, into: &str, seconds: i64) -> Request {
        Request {
            data_dir: self.data(),
            archive: None,
            into: self.dir.path().join(into),
            settings: sized(seconds),
            restate: false,
            from: None,
            to: None,
            follow: false,
        }
    }
}

fn sized(seconds: i64) -> Settings {
    let windows = WindowSettings {
        size_ns: seconds * SECOND,
        ..WindowSettings::default()
    };
    Settings {
        windows,
        ..Settings::default()
    }
}

fn settings(seconds: i64) -> Entry {
    Entry::Settings {
        effective: EventTime(i64::MIN),
        text: sized(seconds).to_text(),
    }
}

fn run(request: &Request) -> Result<Report, ReplayError> {
    replay(request, &mut || true, &mut |_| ())
}

fn switch(request: &Request) -> Result<Report, ReplayError> {
    replay_and_switch(request, OPTIONS, START, &mut || true, &mut |_| ())
}

/// Every row of every table, but for checkpoints and for when a window was published.
fn rows(state: &Path) -> Vec<String> {
    let connection = Connection::open(state).unwrap();
    let mut tables = connection
        .prepare(
            "SELECT name FROM sqlite_master
             WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'checkpoint%' ORDER BY name",
        )
        .unwrap();
    let tables = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let mut seen = Vec::new();
    for table in tables.map(Result::unwrap) {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns: Vec<_> = statement.column_names().map(str::to_owned).collect();
        let mut found = statement.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let compared = columns.iter().enumerate();
            let compared = compared.filter(|(_, column)| *column != "published");
            let values: Vec<Value> = compared.map(|(n, _)| row.get(n).unwrap()).collect();
            seen.push(format!("{table} {values:?}"));
        }
    }
    seen
}

/// The lengths of the windows in the tables, in seconds.
fn window_sizes(state: &Path) -> Vec<i64> {
    let connection = Connection::open(state).unwrap();
    let mut sizes = connection
        .prepare("SELECT DISTINCT (end - start) / 1000000000 FROM window ORDER BY 1")
        .unwrap();
    let sizes = sizes.query_map([], |row| row.get(0)).unwrap();
    sizes.map(Result::unwrap).collect()
}

#[test]
fn a_replay_gives_the_tables_of_the_live_collector_row_by_row() {
    let mut plant = Plant::new();
    plant.live_through(7);
    let live = rows(&plant.live());
    for (table, least) in [
        ("window ", 10),
        ("series ", 10),
        ("ledger ", 3),
        ("advisory ", 1),
        ("dead_letter ", 1),
        ("counter ", 10),
    ] {
        let count = live.iter().filter(|row| row.starts_with(table)).count();
        assert!(count >= least, "{count} rows of {table}");
    }
    assert!(plant.segments().lengths().unwrap().len() > 3, "segments");
    let report = run(&plant.request("replayed", 1)).unwrap();
    assert_eq!((report.restated, report.first_segment), (false, None));
    assert_eq!(rows(&report.state), live);
}

#[test]
fn settings_that_changed_on_the_way_hold_as_they_did() {
    let mut plant = Plant::new();
    let mut entries: Vec<_> = plant.entries.by_ref().collect();
    entries.insert(100, settings(2));
    plant.entries = entries.into_iter();
    plant.live_through(7);
    let report = run(&plant.request("replayed", 2)).unwrap();
    assert!(!report.restated);
    assert_eq!(rows(&report.state), rows(&plant.live()));
}

#[test]
fn a_replay_goes_on_where_it_was_stopped_and_in_no_others_directory() {
    let mut plant = Plant::new();
    plant.live_through(7);
    let request = plant.request("replayed", 1);
    let mut stops = 0;
    loop {
        let mut asked = 0;
        // Each of the 84 commits is asked about while looking ahead, and then while computing.
        let mut goes_on = || {
            asked += 1;
            asked <= 84 + 20
        };
        match replay(&request, &mut goes_on, &mut |_| ()) {
            Err(ReplayError::Stopped) => stops += 1,
            outcome => break drop(outcome.unwrap()),
        }
        assert!(stops < 50, "it comes to an end");
    }
    assert!(stops > 1, "{stops}");
    assert_eq!(rows(&request.into.join(STATE_FILE)), rows(&plant.live()));
    let other = Request {
        settings: sized(2),
        ..request.clone()
    };
    let refused = run(&other).unwrap_err();
    assert!(
        matches!(
            refused,
            ReplayError::OtherPlan {
                difference: "the settings",
                ..
            }
        ),
        "{refused}"
    );
    let live = Request {
        into: plant.data(),
        ..request
    };
    assert!(matches!(run(&live), Err(ReplayError::Live(_))));
}

#[test]
fn a_part_of_a_replay_is_what_follows_from_its_commits() {
    let mut plant = Plant::new();
    plant.live_through(7);
    let windows = |request: &Request| -> Vec<String> {
        let report = run(request).unwrap();
        let rows = rows(&report.state).into_iter();
        rows.filter(|row| row.starts_with("window ")).collect()
    };
    let middle = Mark::Time(START.plus_nanos(8 * SECOND));
    let whole = windows(&plant.request("whole", 1));
    let before = windows(&Request {
        to: Some(middle),
        ..plant.request("before", 1)
    });
    let after = windows(&Request {
        from: Some(middle),
        ..plant.request("after", 1)
    });
    assert!(!before.is_empty() && !after.is_empty());
    assert!(before.len() < whole.len() && after.len() < whole.len());
    // What was fired before the middle and corrected after it is in both.
    assert!(before.len() + after.len() >= whole.len());
    let ledger = |into: &str| -> Vec<String> {
        let rows = rows(&plant.dir.path().join(into).join(STATE_FILE)).into_iter();
        rows.filter(|row| row.starts_with("ledger ")).collect()
    };
    assert_eq!(ledger("after"), ledger("whole"), "as it is in the end");
    assert_ne!(ledger("before"), ledger("whole"));
}

#[test]
fn a_mark_is_a_time_or_a_position() {
    let position = Position {
        partition: 0,
        segment: 17,
        offset: 4_096,
    };
    assert_eq!("0/17/4096".parse(), Ok(Mark::Position(position)));
    assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(Mark::Time(EventTime(SECOND))));
    for mark in ["0/17/4096", "2026-01-31T12:00:00.5Z"] {
        assert_eq!(mark.parse::<Mark>().unwrap().to_string(), mark);
    }
    for wrong in ["", "yesterday", "0/17", "0/17/x", "-1/2/3"] {
        assert!(wrong.parse::<Mark>().is_err(), "{wrong}");
    }
}

#[test]
fn what_is_switched_to_holds_from_the_beginning_and_a_rebuild_gives_the_same() {
    let mut plant = Plant::new();
    plant.live_through(5);
    let before = rows(&plant.live());
    // Beside the live ones first, then put in their place.
    let request = plant.request("replayed", 2);
    assert!(run(&request).unwrap().restated);
    assert_eq!(rows(&plant.live()), before);
    assert!(matches!(
        switch(&plant.request("same", 1)),
        Err(ReplayError::NothingToSwitch)
    ));
    let report = switch(&request).unwrap();
    assert_eq!(report.state, plant.live());
    assert_eq!(rows(&plant.data().join("state.db.before")), before);
    assert_eq!(window_sizes(&plant.live()), [2]);

    // The collector goes on, with the same settings in its configuration.
    let rest: Vec<_> = plant.entries.by_ref().collect();
    plant.entries = [vec![settings(2)], rest].concat().into_iter();
    plant.live_through(3);
    let live = rows(&plant.live());
    assert_eq!(window_sizes(&plant.live()), [2]);
    std::fs::remove_file(plant.live()).unwrap();
    let mut rebuilt = plant.runner();
    rebuilt.catch_up(plant.journal().end()).unwrap();
    rebuilt.save().unwrap();
    drop(rebuilt);
    assert_eq!(rows(&plant.live()), live);
    // So does a replay, and another change of mind.
    assert_eq!(rows(&run(&plant.request("again", 2)).unwrap().state), live);
    switch(&plant.request("third", 3)).unwrap();
    assert_eq!(window_sizes(&plant.live()), [3]);
    plant.entries = vec![settings(3)].into_iter();
    plant.live_through(1);
    assert_eq!(
        rows(&run(&plant.request("last", 3)).unwrap().state),
        rows(&plant.live())
    );
}

#[test]
fn killed_between_any_two_steps_a_switch_has_happened_or_can_be_repeated() {
    // What a switch has done when it is killed: staged, journaled, set the live tables aside.
    for steps in 1..=3 {
        let mut plant = Plant::new();
        plant.live_through(3);
        let before = rows(&plant.live());
        let request = plant.request("replayed", 2);
        run(&request).unwrap();
        let computed = rows(&request.into.join(STATE_FILE));
        let plan = files::load_plan(&request.into).unwrap().unwrap();
        let own = plan.restatement.unwrap();
        files::stage(&request.into, &plant.data(), own.id).unwrap();
        let mut journal = plant.journal();
        if steps >= 2 {
            let Restatement { id, text } = own;
            journal.append(&Entry::Restated { id, text });
            journal.commit(START).unwrap();
        }
        let end = journal.end();
        drop(journal);
        if steps >= 3 {
            set_aside(&plant.live(), "before").unwrap();
        }
        // The collector's next start.
        let completed = complete_switch(&plant.data(), &plant.segments(), end).unwrap();
        assert_eq!(completed, steps >= 2);
        let expected = if completed { &computed } else { &before };
        assert_eq!(&rows(&plant.live()), expected);
        if !completed {
            switch(&request).unwrap();
        }
        assert_eq!(rows(&plant.data().join("state.db.before")), before);
        assert_eq!(window_sizes(&plant.live()), [2]);
        plant.live_through(1);
        let replayed = run(&plant.request("checked", 2)).unwrap();
        assert_eq!(rows(&replayed.state), rows(&plant.live()));
    }
}

#[test]
fn tables_from_before_a_switch_are_noticed() {
    let mut plant = Plant::new();
    plant.live_through(3);
    switch(&plant.request("replayed", 2)).unwrap();
    // Someone puts the old ones back.
    std::fs::rename(plant.data().join("state.db.before"), plant.live()).unwrap();
    let end = plant.journal().end();
    let outdated = plant.runner().look_ahead(end).unwrap_err();
    assert!(
        matches!(outdated, pipeline::RunError::Restated { .. }),
        "{outdated}"
    );
}

#[test]
fn a_replay_that_follows_comes_to_what_the_collector_comes_to() {
    let mut plant = Plant::new();
    let mut journal = plant.journal();
    let mut runner = plant.runner();
    let end = plant.commit(&mut journal, 20);
    runner.catch_up(end).unwrap();
    let request = Request {
        follow: true,
        ..plant.request("followed", 1)
    };
    let (stop, told) = mpsc::channel::<()>();
    let (following, follows) = mpsc::channel();
    let replayed = std::thread::spawn(move || {
        let mut goes_on = || told.try_recv() == Err(TryRecvError::Empty);
        let mut tell = |progress| {
            if progress == Progress::Following {
                following.send(()).unwrap();
            }
        };
        replay(&request, &mut goes_on, &mut tell).map(|report| report.state)
    });
    follows.recv().unwrap();
    let end = plant.commit(&mut journal, 20);
    runner.catch_up(end).unwrap();
    runner.save().unwrap();
    drop(stop);
    let followed = replayed.join().unwrap().unwrap();
    drop(journal);
    // What was committed while it was told to stop is computed with the next call.
    let report = run(&plant.request("followed", 1)).unwrap();
    assert_eq!(report.state, followed);
    assert_eq!(rows(&followed), rows(&plant.live()));
}

#[test]
fn damaged_tables_are_set_aside_and_rebuilt() {
    let mut plant = Plant::new();
    plant.live_through(3);
    let before = rows(&plant.live());
    // A torn write over the first page, where everything is found from.
    let mut bytes = std::fs::read(plant.live()).unwrap();
    bytes[..4_096].fill(0x5a);
    std::fs::write(plant.live(), &bytes).unwrap();
    let journal = plant.segments().journal().unwrap().unwrap();
    let state = open_state(&plant.live(), journal).unwrap();
    assert!(plant.data().join("state.db.unusable").exists());
    let mut runner = Runner::resume(plant.segments(), state, Metrics::default()).unwrap();
    runner.catch_up(plant.journal().end()).unwrap();
    runner.save().unwrap();
    drop(runner);
    assert_eq!(rows(&plant.live()), before);
    // Those of a later version are somebody's.
    let connection = Connection::open(plant.live()).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let refused = open_state(&plant.live(), journal).unwrap_err();
    assert!(matches!(refused, StateError::Schema { found: 99 }), "{refused}");
}
