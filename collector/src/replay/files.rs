//! The files of a replay and of switching over to it: each step durable before the next.

use super::{Plan, STATE_FILE};
use crate::journal::{JournalError, Position, Segments};
use crate::pipeline::look_ahead;
use crate::state::{State, StateError, StateReader, set_aside, settle};
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use trunnion_common::id::JournalId;

/// What a replay's directory calls its plan.
const PLAN_FILE: &str = "replay.toml";

/// What the tables that were in force before a switch are called after it.
const BEFORE: &str = "before";

/// What tables are called that could not be used, and were rebuilt.
const UNUSABLE: &str = "unusable";

/// A file of a replay, or of a switch.
#[derive(Debug, thiserror::Error)]
pub enum ReplayFileError {
    /// The system refuses.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another replay is at work there.
    #[error("another replay works in {0}: wait for it, or name another directory")]
    Busy(PathBuf),
    /// Somebody reads the tables.
    #[error("{0} is open in another process: close it, and repeat the command")]
    Open(PathBuf),
    /// The plan is not one.
    #[error("{path} is no plan of a replay ({what}): name an empty directory")]
    Plan {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

fn io(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> ReplayFileError + use<> {
    let path = path.to_owned();
    move |source| ReplayFileError::Io {
        operation,
        path: path.clone(),
        source,
    }
}

/// Makes the directory, for its owner alone, and keeps other replays out of it.
pub(super) fn make_directory(into: &Path) -> Result<File, ReplayFileError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(into);
    made.map_err(io("make", into))?;
    let path = into.join("lock");
    let lock = File::create(&path).map_err(io("create", &path))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ReplayFileError::Busy(into.to_owned())),
        Err(error) => Err(io("lock", &path)(error.into())),
    }
}

/// Whether two names are of one directory.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// The plan of a directory that has one.
pub(super) fn load_plan(into: &Path) -> Result<Option<Plan>, ReplayFileError> {
    let path = into.join(PLAN_FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(io("read", &path))?,
    };
    let plan = toml::from_str(&text);
    plan.map(Some).map_err(|error| ReplayFileError::Plan {
        path,
        what: error.to_string(),
    })
}

/// Tables without a plan are those of an interrupted removal, and of no use.
pub(super) fn save_plan(into: &Path, plan: &Plan) -> Result<(), ReplayFileError> {
    for leftover in ["state.db", "state.db-wal", "state.db-shm"] {
        remove(&into.join(leftover))?;
    }
    let path = into.join(PLAN_FILE);
    let aside = into.join("replay.toml.tmp");
    let text = toml::to_string(plan).map_err(|error| ReplayFileError::Plan {
        path: path.clone(),
        what: error.to_string(),
    })?;
    fs::write(&aside, text).map_err(io("write", &aside))?;
    sync(&aside)?;
    rename(&aside, &path)
}

/// The directory is free for another replay.
pub(super) fn forget_plan(into: &Path) -> Result<(), ReplayFileError> {
    remove(&into.join(PLAN_FILE))
}

/// The first step of a switch: the tables, closed and in one file, come to the data directory.
pub(super) fn stage(into: &Path, data_dir: &Path, id: u64) -> Result<(), ReplayFileError> {
    let from = into.join(STATE_FILE);
    let to = data_dir.join(format!("state-{id:016x}.db"));
    // All of it in one file: nothing may be left behind in a log.
    match settle(&from) {
        Ok(true) => {}
        Ok(false) => return Err(ReplayFileError::Open(from)),
        Err(error) => return Err(io("sync", &from)(io::Error::other(error))),
    }
    sync(&from)?;
    move_file(&from, &to)
}

/// Takes back the first step of a switch that got no further: [`complete_switch`] has left its tables where
/// they were.
pub(super) fn unstage(data_dir: &Path, into: &Path) -> Result<(), ReplayFileError> {
    let Some(id) = load_plan(into)?
        .and_then(|plan| plan.restatement)
        .map(|own| own.id)
    else {
        return Ok(());
    };
    let staged = data_dir.join(format!("state-{id:016x}.db"));
    let tables = into.join(STATE_FILE);
    if staged.exists() && !tables.exists() {
        move_file(&staged, &tables)?;
    }
    Ok(())
}

/// Takes the last steps of a switch that the journal knows of, if there is one; whether there was. To be
/// called with the journal's lock taken, before the tables are opened.
pub fn complete_switch(
    data_dir: &Path,
    segments: &Segments,
    end: Position,
) -> Result<bool, super::ReplayError> {
    for (id, staged) in staged(data_dir)? {
        // It was closed at the journal's end of then: what came afterwards tells.
        let from = match StateReader::open(&staged).and_then(|reader| reader.position()) {
            Ok(progress) => progress.map_or(Position::default(), |progress| progress.position),
            Err(StateError::Schema { .. }) => Position::default(),
            Err(error) => return Err(error.into()),
        };
        let last = match look_ahead(segments, from, end) {
            Err(JournalError::Ahead { .. }) => None,
            found => found?,
        };
        if last.is_none_or(|last| last.id != id) {
            tracing::warn!(path = %staged.display(), "tables of a switch that was not completed: repeat it, or remove them");
            continue;
        }
        let live = data_dir.join(STATE_FILE);
        let before = set_aside(&live, BEFORE).map_err(io("rename", &live))?;
        rename(&staged, &live)?;
        tracing::info!(path = %live.display(), before = ?before, "switched over to the outputs of a replay");
        return Ok(true);
    }
    Ok(false)
}

/// Opens the collector's tables, bound to the journal. Such as cannot be used (damaged, or of an earlier
/// version) are set aside as `state.db.unusable` and rebuilt from the journal.
pub fn open_state(path: &Path, journal: JournalId) -> Result<State, StateError> {
    let open = || -> Result<State, StateError> {
        let mut state = State::open(path)?;
        state.bind(journal)?;
        Ok(state)
    };
    match open() {
        Err(error) if error.is_cured_by_rebuilding() => {
            tracing::error!(%error, "the tables cannot be used: they are set aside and rebuilt from the journal");
            set_aside(path, UNUSABLE).map_err(|source| StateError::SetAside {
                path: path.to_owned(),
                source,
            })?;
            open()
        }
        outcome => outcome,
    }
}

/// How much of a journal lies before each of its segments, wherever that is, in bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Lengths(BTreeMap<u64, u64>);

impl Lengths {
    pub(super) fn of(segments: &Segments) -> Result<Self, JournalError> {
        let mut before = 0;
        let lengths = segments.lengths()?.into_iter();
        let starts = lengths.map(|(number, length)| {
            before += length;
            (number, before - length)
        });
        Ok(Self(starts.collect()))
    }

    /// Which part of what lies before `end` lies before `position`, 0 to 1.
    pub(super) fn share(&self, position: Position, end: Position) -> f64 {
        let bytes = |at: Position| {
            let start = self.0.range(..=at.segment).next_back();
            start.map_or(0, |(_, start)| *start) + at.offset
        };
        match bytes(end) {
            0 => 1.0,
            whole => (bytes(position) as f64 / whole as f64).min(1.0),
        }
    }
}

/// The tables that a switch has brought to the data directory, by the id in their names.
fn staged(data_dir: &Path) -> Result<Vec<(u64, PathBuf)>, ReplayFileError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(data_dir).map_err(io("list", data_dir))? {
        let entry = entry.map_err(io("list", data_dir))?;
        let name = entry.file_name();
        let id = name
            .to_str()
            .and_then(|name| name.strip_prefix("state-")?.strip_suffix(".db"))
            .filter(|id| id.len() == 16)
            .and_then(|id| u64::from_str_radix(id, 16).ok());
        found.extend(id.map(|id| (id, entry.path())));
    }
    found.sort_unstable();
    Ok(found)
}

/// Moves a file, to another file system if need be; it is never seen half.
fn move_file(from: &Path, to: &Path) -> Result<(), ReplayFileError> {
    match fs::rename(from, to) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let aside = to.with_extension("tmp");
            fs::copy(from, &aside).map_err(io("copy", from))?;
            sync(&aside)?;
            rename(&aside, to)?;
            fs::remove_file(from).map_err(io("remove", from))?;
        }
        Err(error) => return Err(io("rename", from)(error)),
    }
    sync_parent(from)?;
    sync_parent(to)
}

fn rename(from: &Path, to: &Path) -> Result<(), ReplayFileError> {
    fs::rename(from, to).map_err(io("rename", from))?;
    sync_parent(to)
}

fn remove(path: &Path) -> Result<(), ReplayFileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn sync(path: &Path) -> Result<(), ReplayFileError> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(io("sync", path))
}

fn sync_parent(path: &Path) -> Result<(), ReplayFileError> {
    path.parent().map_or(Ok(()), sync)
}
