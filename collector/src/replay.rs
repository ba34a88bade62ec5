//! Outputs computed again from the journal: as they were, or with other settings beside the live ones.
//!
//! ```text
//! journal (read only) -> the same pipeline -> DIR/state.db        trunnion-collector replay --into DIR
//!                                                |
//!                                  data_dir/state.db              the same with --switch
//! ```
//!
//! A replay reads the journal beside the running collector and writes into a directory of its own, which
//! also remembers what it is ([`Plan`]): repeated with the same arguments, it goes on where it stopped.
//!
//! - **As it was.** Where the configuration's settings are those that the journal ends with, the journal's
//!   own settings hold, each at its time, and the tables come out as the live ones, row by row (but for
//!   when a window was published, which is wall time).
//! - **Anew.** Where they are others, they hold from the journal's beginning ([`Restatement`]).
//! - **A part.** What is kept of a replay `from` somewhere on is what follows from the commits after that,
//!   by the journal's clock. All of the journal is read all the same: clock fixes, channel tables, fleet
//!   files, the ledger and open windows come from before.
//!
//! # Switching over
//!
//! With the collector stopped (the journal's lock is taken), [`replay_and_switch`] computes what is missing
//! and then takes these steps, each durable before the next:
//!
//! 1. `DIR/state.db` becomes `data_dir/state-ID.db`,
//! 2. the journal says [`Entry::Restated`] with that id,
//! 3. `data_dir/state.db` becomes `state.db.before` (one of an earlier switch is removed),
//! 4. `data_dir/state-ID.db` becomes `data_dir/state.db`.
//!
//! Killed before 2, nothing has changed, and the switch can be repeated. Killed after it, the next start of
//! the collector takes the remaining steps ([`complete_switch`]). From then on the journal itself says with
//! which settings it is to be read, so that tables rebuilt from it are those that were switched to.

mod files;
pub mod progress;

pub use files::{ReplayFileError, complete_switch, open_state};

use crate::journal::{
    Archive, Damage, Entry, Journal, JournalError, Options, Position, Reader, Segments, committed_end,
};
use crate::metrics::Metrics;
use crate::pipeline::{self, Restatement, Runner};
use crate::settings::Settings;
use crate::state::{State, StateError};
use progress::Progress;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use trunnion_common::id::JournalId;
use trunnion_common::time::EventTime;

/// What a replay's directory calls its tables.
pub const STATE_FILE: &str = "state.db";

/// How often a replay that follows looks for new commits.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);

/// What is to be computed, from which journal, into which directory.
#[derive(Clone, Debug)]
pub struct Request {
    /// The collector's data directory: the journal is in it.
    pub data_dir: PathBuf,
    /// What holds the segments that the journal no longer has.
    pub archive: Option<Arc<dyn Archive>>,
    /// Where the tables go; made if it is not there.
    pub into: PathBuf,
    /// The settings of the configuration.
    pub settings: Settings,
    /// Whether all of history is computed with them even if the journal ends with the same.
    pub restate: bool,
    /// Of what commits the outputs are kept: of those from here on.
    pub from: Option<Mark>,
    /// Where it ends: before this, or where the journal ends.
    pub to: Option<Mark>,
    /// Whether it goes on with what the collector commits meanwhile, until it is told to stop.
    pub follow: bool,
}

/// A place in the journal as a person names it: by the journal's clock or by position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// The first commit at or after this time.
    Time(EventTime),
    /// The first commit that ends after this position.
    Position(Position),
}

impl Mark {
    fn is_after(self, commit_end: Position, time: EventTime) -> bool {
        match self {
            Self::Time(mark) => time < mark,
            Self::Position(mark) => commit_end <= mark,
        }
    }
}

impl FromStr for Mark {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, '/').map(u64::from_str);
        if let (Some(Ok(partition)), Some(Ok(segment)), Some(Ok(offset))) =
            (parts.next(), parts.next(), parts.next())
            && let Ok(partition) = partition.try_into()
        {
            return Ok(Self::Position(Position {
                partition,
                segment,
                offset,
            }));
        }
        crate::api::time::parse(text)
            .map(Self::Time)
            .map_err(|what| format!("{what}, or a position of the journal such as 0/17/4096"))
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Time(time) => f.write_str(&crate::api::time::rfc3339(*time)),
            Self::Position(position) => position.fmt(f),
        }
    }
}

/// What a replay's directory is about: kept in it, so that another replay is not mixed into its tables.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    journal: String,
    /// As the request names them.
    from: Option<String>,
    to: Option<String>,
    /// The settings of the configuration, as text.
    settings: String,
    /// With which restatement the pipeline begins: this replay's own, or the journal's last one.
    restatement: Option<Restatement>,
    /// Whether it is this replay's own, so that switching over to it would change something.
    own: bool,
}

/// What a replay came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// The tables.
    pub state: PathBuf,
    /// Where it ended in the journal.
    pub position: String,
    /// The journal's time there.
    pub time: String,
    /// Whether other settings held than the journal's own.
    pub restated: bool,
    /// The oldest segment there is, where the journal's first ones are gone: what depends on those is
    /// missing from the tables.
    pub first_segment: Option<u64>,
    /// Journal entries that could not be read back.
    pub entries_damaged: u64,
}

/// Why a replay cannot go on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each message says it")]
pub enum ReplayError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Pipeline(#[from] pipeline::RunError),
    #[error(transparent)]
    File(#[from] ReplayFileError),
    #[error("there is no journal in {0}: name the collector's data directory with --data")]
    NoJournal(PathBuf),
    #[error("{0} holds the live tables: name another directory with --into")]
    Live(PathBuf),
    #[error(
        "{into} holds another replay ({difference} was other): name an empty directory, or remove what \
        is in this one"
    )]
    OtherPlan { into: PathBuf, difference: &'static str },
    #[error("a replay that follows the collector has no end: leave out --to or --follow")]
    FollowTo,
    #[error(
        "the live tables can only be replaced by all of history: leave out --from and --to, in a directory of its own"
    )]
    Part,
    #[error(
        "the settings are those that the outputs follow from already, so there is nothing to switch to; \
        --restate computes all of history with them"
    )]
    NothingToSwitch,
    #[error("stopped before it was done; the same command goes on where it stopped")]
    Stopped,
    #[error("the system gives no random number for the replay: {0}")]
    Random(getrandom::Error),
}

/// Computes what the request says. `goes_on` is asked often, and ends the replay when it says no: what was
/// computed by then is kept, and the same request goes on from there.
pub fn replay(
    request: &Request,
    goes_on: &mut dyn FnMut() -> bool,
    tell: &mut dyn FnMut(Progress),
) -> Result<Report, ReplayError> {
    if request.follow && request.to.is_some() {
        return Err(ReplayError::FollowTo);
    }
    let journal = request.data_dir.join("journal");
    if !journal.is_dir() {
        return Err(ReplayError::NoJournal(request.data_dir.clone()));
    }
    let end = committed_end(&journal, Position::default())?;
    let mut replay = Replay::begin(request, end, goes_on, tell)?;
    replay.compute(replay.to.unwrap_or(end), goes_on, tell)?;
    if request.follow {
        let mut end = end;
        tell(Progress::Following);
        while goes_on() {
            end = committed_end(&journal, end)?;
            // Told to stop, it stops with what it has.
            match replay.compute(end, goes_on, &mut |_| ()) {
                Err(ReplayError::Stopped) => break,
                outcome => outcome?,
            }
            std::thread::sleep(FOLLOW_EVERY);
        }
    }
    replay.finish()
}

/// As [`replay`], and puts the outputs in the place of the live ones. The collector must not run.
pub fn replay_and_switch(
    request: &Request,
    options: Options,
    now: EventTime,
    goes_on: &mut dyn FnMut() -> bool,
    tell: &mut dyn FnMut(Progress),
) -> Result<Report, ReplayError> {
    if request.from.is_some() || request.to.is_some() {
        return Err(ReplayError::Part);
    }
    let (mut journal, _) = Journal::open(&request.data_dir.join("journal"), options, now)?;
    let segments = request.segments();
    // One that was interrupted: this is the same as its end, or it has not happened.
    if complete_switch(&request.data_dir, &segments, journal.end())? {
        files::forget_plan(&request.into)?;
    }
    files::unstage(&request.data_dir, &request.into)?;
    let mut replay = Replay::begin(request, journal.end(), goes_on, tell)?;
    let restatement = match &replay.plan {
        Plan {
            restatement: Some(own),
            own: true,
            ..
        } => own.clone(),
        _ => return Err(ReplayError::NothingToSwitch),
    };
    replay.compute(journal.end(), goes_on, tell)?;
    let mut report = replay.finish()?;
    files::stage(&request.into, &request.data_dir, restatement.id)?;
    journal.append(&Entry::Restated {
        id: restatement.id,
        text: restatement.text,
    });
    let end = journal.commit(now)?;
    complete_switch(&request.data_dir, &segments, end)?;
    files::forget_plan(&request.into)?;
    report.state = request.data_dir.join(STATE_FILE);
    Ok(report)
}

impl Request {
    fn segments(&self) -> Segments {
        Segments::from(&self.data_dir.join("journal")).with_archive(self.archive.clone())
    }
}

/// A replay under way.
struct Replay {
    plan: Plan,
    runner: Runner,
    state: PathBuf,
    /// Where it ends, if not with the journal.
    to: Option<Position>,
    first_segment: Option<u64>,
    damage: Damage,
    /// Of each segment.
    lengths: files::Lengths,
    /// Holds the directory against another replay.
    _lock: std::fs::File,
}

impl Replay {
    fn begin(
        request: &Request,
        end: Position,
        goes_on: &mut dyn FnMut() -> bool,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Self, ReplayError> {
        let lock = files::make_directory(&request.into)?;
        if files::is_same(&request.into, &request.data_dir) {
            return Err(ReplayError::Live(request.into.clone()));
        }
        let segments = request.segments();
        let journal = segments
            .journal()?
            .ok_or_else(|| ReplayError::NoJournal(request.data_dir.clone()))?;
        let lengths = files::Lengths::of(&segments)?;
        let survey = Survey::make(request, &segments, end, goes_on, &mut |position| {
            tell(Progress::Surveying(lengths.share(position, end)));
        })?;
        let plan = match files::load_plan(&request.into)? {
            Some(plan) => plan.check(request, journal)?,
            None => {
                let plan = Plan::new(request, journal, &survey)?;
                files::save_plan(&request.into, &plan)?;
                plan
            }
        };
        let state_file = request.into.join(STATE_FILE);
        let mut state = State::open(&state_file)?;
        state.bind(journal)?;
        let mut runner = Runner::resume(&segments, state, Metrics::default())?;
        if let Some(restatement) = &plan.restatement {
            runner.restate(restatement)?;
        }
        runner.keep_after(survey.from);
        let first_segment = segments
            .oldest()?
            .and_then(|(oldest, is_first)| (!is_first).then_some(oldest));
        Ok(Self {
            plan,
            runner,
            state: state_file,
            to: survey.to,
            first_segment,
            damage: survey.damage,
            lengths,
            _lock: lock,
        })
    }

    /// Applies everything before `upto`.
    fn compute(
        &mut self,
        upto: Position,
        goes_on: &mut dyn FnMut() -> bool,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<(), ReplayError> {
        // It may have come further when nobody was writing, and the last commit was certain.
        let upto = upto.max(self.runner.position());
        while self.runner.step(upto, &mut || goes_on())? {
            let position = self.runner.position();
            tell(Progress::Computing(
                self.lengths.share(position, upto),
                self.runner.now(),
            ));
        }
        if goes_on() {
            return Ok(());
        }
        self.runner.save()?;
        Err(ReplayError::Stopped)
    }

    fn finish(mut self) -> Result<Report, ReplayError> {
        self.runner.save()?;
        Ok(Report {
            position: self.runner.position().to_string(),
            time: crate::api::time::rfc3339(self.runner.now()),
            state: self.state,
            restated: self.plan.own,
            first_segment: self.first_segment,
            entries_damaged: self.damage.entries,
        })
    }
}

/// What one pass over the journal tells.
struct Survey {
    /// The last restatement.
    restated: Option<Restatement>,
    /// The settings that came last.
    settings: Option<String>,
    /// The end of the last commit before what is kept.
    from: Position,
    /// The end of the last commit to be applied, if not all of them are.
    to: Option<Position>,
    damage: Damage,
}

impl Survey {
    fn make(
        request: &Request,
        segments: &Segments,
        end: Position,
        goes_on: &mut dyn FnMut() -> bool,
        tell: &mut dyn FnMut(Position),
    ) -> Result<Self, ReplayError> {
        let mut survey = Self {
            restated: None,
            settings: None,
            from: Position::default(),
            to: request.to.map(|_| Position::default()),
            damage: Damage::default(),
        };
        let mut reader = Reader::open(segments, Position::default())?;
        while let Some(commit) = reader.next_commit(end)? {
            if !goes_on() {
                return Err(ReplayError::Stopped);
            }
            for (place, given) in [
                (Some(&mut survey.from), request.from),
                (survey.to.as_mut(), request.to),
            ] {
                if let (Some(place), Some(mark)) = (place, given)
                    && mark.is_after(commit.end, commit.time)
                {
                    *place = commit.end;
                }
            }
            for (_, entry) in commit.entries {
                match entry {
                    Entry::Settings { text, .. } => survey.settings = Some(text),
                    Entry::Restated { id, text } => {
                        survey.settings = Some(text.clone());
                        survey.restated = Some(Restatement { id, text });
                    }
                    _ => {}
                }
            }
            tell(commit.end);
        }
        survey.damage = reader.damage();
        Ok(survey)
    }
}

impl Plan {
    fn new(request: &Request, journal: JournalId, survey: &Survey) -> Result<Self, ReplayError> {
        let text = request.settings.to_text();
        // What an older build journaled means the same as what this one would write.
        let last = survey.settings.as_deref().map(Settings::parse);
        let as_it_was = match last {
            Some(Ok(last)) => last == request.settings,
            Some(Err(_)) => false,
            None => request.settings == Settings::default(),
        };
        let own = request.restate || !as_it_was;
        let restatement = if own {
            // One bit less, since the whole numbers of the plan's TOML have a sign.
            let id = getrandom::u64().map_err(ReplayError::Random)? >> 1;
            Some(Restatement {
                id,
                text: text.clone(),
            })
        } else {
            survey.restated.clone()
        };
        Ok(Self {
            journal: journal.to_string(),
            from: request.from.map(|mark| mark.to_string()),
            to: request.to.map(|mark| mark.to_string()),
            settings: text,
            restatement,
            own,
        })
    }

    /// The same, if the request means it.
    fn check(self, request: &Request, journal: JournalId) -> Result<Self, ReplayError> {
        let shown = |mark: Option<Mark>| mark.map(|mark| mark.to_string());
        let difference = if self.journal != journal.to_string() {
            "the journal"
        } else if self.settings != request.settings.to_text() {
            "the settings"
        } else if self.from != shown(request.from) {
            "--from"
        } else if self.to != shown(request.to) {
            "--to"
        } else if request.restate && !self.own {
            "--restate"
        } else {
            return Ok(self);
        };
        Err(ReplayError::OtherPlan {
            into: request.into.clone(),
            difference,
        })
    }
}

#[cfg(test)]
mod tests;
