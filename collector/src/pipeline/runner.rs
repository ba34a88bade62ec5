//! The thread around the pipeline: follows the journal, writes outputs and checkpoints.

use super::checkpointing::{Checkpointing, Completed, Turn};
use super::shedding::Shedding;
use super::snapshot::PARTS_AT_ONCE;
use super::{Counters, Output, Pipeline, Recall, Restatement, Stage, look_ahead};
use crate::advisory::AdvisoryChange;
use crate::checkpoint;
use crate::ingest::IngestCommand;
use crate::journal::{Commit, Entry, JournalError, Position, Reader, Segments};
use crate::metrics::{LANES, LagLabel, LaneLabel, Metrics, Reason, StageLabel};
use crate::settings::SettingsError;
use crate::state::{Batch, State, StateError};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::timeout;
use trunnion_common::time::EventTime;

/// Commits written in one transaction at most: a backlog is worked off in large steps, and a live
/// commit never waits for another.
const BATCH_COMMITS: usize = 64;

/// Outputs after which a transaction is closed even with fewer commits.
const BATCH_OUTPUTS: usize = 16_384;

/// How long a stop waits for what is committed and not applied yet. What is left then, as after a long
/// outage of the pipeline, is applied at the next start.
const DRAIN: Duration = Duration::from_secs(5);

/// How much the pipeline gives way to ingest and the door (nice(2)): what has arrived is made durable and
/// acknowledged first, and a backlog of the pipeline is worked off afterwards. Not more, since what it
/// says of now must not wait for a drain to end.
const NICE: i32 = 5;

/// How long the next part of a checkpoint is waited for where nothing else is to be done: encoding one takes some
/// milliseconds.
const PART_EVERY: Duration = Duration::from_millis(5);

/// From one look at the watermarks of all channels to the next.
const LAGS_EVERY: Duration = Duration::from_secs(1);

/// The pipeline cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The journal cannot be read.
    #[error("the pipeline cannot read the journal: {0}")]
    Journal(#[from] JournalError),
    /// The outputs cannot be written.
    #[error("the pipeline cannot write its outputs: {0}")]
    State(#[from] StateError),
    /// The journal holds a restatement that what was computed so far does not follow from: the tables are
    /// to be computed anew, from the journal's beginning.
    #[error(
        "history has been computed anew since these outputs were (restatement {id:016x} in the journal), so \
        they are out of date; start anew from the journal's beginning"
    )]
    Restated {
        /// Which restatement.
        id: u64,
    },
    /// A restatement's settings are not this build's.
    #[error(
        "the settings that history was computed with cannot be read ({0}): use the build that computed it"
    )]
    Settings(#[from] SettingsError),
    /// No thread to wait on.
    #[error("the pipeline cannot wait for the journal: {0}")]
    Wait(#[from] std::io::Error),
}

/// Follows the journal, applies its commits and writes what follows from them.
#[derive(Debug)]
pub struct Runner {
    /// Where the journal is, and where parts of it are read again.
    segments: Segments,
    reader: Reader,
    state: State,
    pipeline: Pipeline,
    metrics: Metrics,
    /// Outputs up to here were written before: writing them again is no news.
    written: Position,
    /// What has been added to the metrics.
    counted: Counters,
    /// When the watermarks were last looked at.
    lags_told: Option<Instant>,
    checkpoints: Checkpointing,
    /// Whether the journal was searched for restatements.
    looked_ahead: bool,
    /// What is kept of what follows from the commits: everything, or what follows from those after this.
    keep_after: Position,
    /// When and whom to ask to compute less; nobody in a replay.
    shedding: Option<(Shedding, SyncSender<IngestCommand>)>,
}

impl Runner {
    /// Starts where the newest usable checkpoint is, or at the journal's beginning.
    ///
    /// `journal` is the journal's directory, or its [`Segments`]; `state` has been bound to it
    /// ([`State::bind`]).
    pub fn resume(journal: impl Into<Segments>, state: State, metrics: Metrics) -> Result<Self, RunError> {
        let segments = journal.into();
        let mut resumed = None;
        for (age, id) in state.checkpoints()?.into_iter().enumerate() {
            let mut reading = checkpoint::Reading::default();
            state.read_checkpoint(id, |part| reading.take(part))?;
            match reading.state() {
                Ok(found) => {
                    resumed = Some(found);
                    break;
                }
                Err(error) => tracing::warn!(age, %error, "a checkpoint is not used"),
            }
        }
        let mut pipeline = Pipeline::resume(resumed.unwrap_or_default());
        pipeline.watch_stages(stage_clock(&metrics));
        let position = pipeline.state().position();
        let written = state
            .progress()?
            .map_or(Position::default(), |progress| progress.position);
        tracing::info!(?position, ?written, "the pipeline resumes");
        pipeline.set_workers(cores());
        Ok(Self {
            reader: Reader::open(&segments, position)?,
            segments,
            state,
            counted: pipeline.counters().clone(),
            pipeline,
            metrics,
            written,
            lags_told: None,
            checkpoints: Checkpointing::new(position, instant_now()),
            looked_ahead: false,
            keep_after: Position::default(),
            shedding: None,
        })
    }

    /// Asks ingest to let less be computed of each window once this is so far behind what is committed.
    pub fn shed_beyond(&mut self, lag: Duration, ingest: SyncSender<IngestCommand>) {
        let shedding = Shedding::new(lag, self.pipeline.state().depth());
        self.shedding = Some((shedding, ingest));
    }

    /// Computes history with settings of its own: from the journal's beginning, unless it has begun to
    /// already.
    pub fn restate(&mut self, restatement: &Restatement) -> Result<(), RunError> {
        if self.pipeline.state().position() == Position::default() {
            self.pipeline = Pipeline::restated(restatement)?;
            self.pipeline.set_workers(cores());
            self.pipeline.watch_stages(stage_clock(&self.metrics));
        }
        if self.pipeline.began_with() == Some(restatement.id) {
            Ok(())
        } else {
            Err(RunError::Restated { id: restatement.id })
        }
    }

    /// Keeps nothing of what follows from the commits up to `position` but what they leave behind: the
    /// ledger, the fleet and the counters.
    pub fn keep_after(&mut self, position: Position) {
        self.keep_after = position;
    }

    /// Everything before this has been applied.
    pub const fn position(&self) -> Position {
        self.pipeline.state().position()
    }

    /// The journal's time there.
    pub const fn now(&self) -> EventTime {
        self.pipeline.state().now()
    }

    /// Follows where the checkpoint before the last one is: no start reads the journal before that, even if
    /// the last one turns out unreadable. Both are written, not necessarily synced.
    pub fn settled(&self) -> watch::Receiver<Position> {
        self.checkpoints.settled()
    }

    /// Looks for restatements between here and `upto`, once. At the journal's beginning the last one is what
    /// history is computed with; anywhere else it must be the one that was begun with.
    pub fn look_ahead(&mut self, upto: Position) -> Result<(), RunError> {
        if self.looked_ahead {
            return Ok(());
        }
        let from = self.pipeline.state().position();
        if from == Position::default()
            && let Some((oldest, false)) = self.segments.oldest()?
        {
            tracing::warn!(
                oldest,
                "the journal's first segments are gone: outputs follow from the oldest one there is"
            );
        }
        // Whoever computes history anew by itself passes over those before its own.
        if !self.pipeline.is_restating()
            && let Some(last) = look_ahead(&self.segments, from, upto)?
            && self.pipeline.began_with() != Some(last.id)
        {
            if from != Position::default() {
                return Err(RunError::Restated { id: last.id });
            }
            tracing::info!(id = last.id, "history is computed with settings of its own");
            self.pipeline = Pipeline::restated(&last)?;
            self.pipeline.set_workers(cores());
            self.pipeline.watch_stages(stage_clock(&self.metrics));
        }
        self.looked_ahead = true;
        Ok(())
    }

    /// Runs on the calling thread until the journal's writer is gone and everything it committed has been
    /// applied, or until five seconds after `stop` says true; then saves a checkpoint.
    pub fn run(
        mut self,
        mut committed: watch::Receiver<Position>,
        stop: watch::Receiver<bool>,
    ) -> Result<(), RunError> {
        // On Linux that is the calling thread alone.
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::warn!(%error, "the pipeline runs at the priority of ingest");
        }
        let waiter = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let mut told = None;
        let mut may_go_on = || {
            let now = instant_now();
            !*stop.borrow() || now.duration_since(*told.get_or_insert(now)) < DRAIN
        };
        loop {
            let upto = *committed.borrow_and_update();
            self.catch_up_while(upto, &mut may_go_on)?;
            if !self.await_commit(&waiter, &mut committed)? {
                let upto = *committed.borrow();
                self.catch_up_while(upto, &mut may_go_on)?;
                if self.reader.position() < upto {
                    let reached = self.reader.position();
                    tracing::warn!(%reached, end = %upto, "stopping with a backlog, which the next start works off");
                }
                return self.save();
            }
        }
    }

    /// Waits for the next commit, and goes on with a checkpoint meanwhile; whether there is one, or the writer has
    /// gone.
    fn await_commit(
        &mut self,
        waiter: &Runtime,
        committed: &mut watch::Receiver<Position>,
    ) -> Result<bool, RunError> {
        while self.checkpoints.is_due(instant_now()) && matches!(committed.has_changed(), Ok(false)) {
            if self.go_on_with_checkpoint(NonZeroUsize::MIN)? == Turn::Nothing {
                self.pipeline.enter(Stage::Wait);
                let next = async { timeout(PART_EVERY, committed.changed()).await };
                if let Ok(changed) = waiter.block_on(next) {
                    return Ok(changed.is_ok());
                }
            }
        }
        self.pipeline.enter(Stage::Wait);
        Ok(waiter.block_on(committed.changed()).is_ok())
    }

    /// Applies everything committed before `upto`.
    pub fn catch_up(&mut self, upto: Position) -> Result<(), RunError> {
        self.catch_up_while(upto, &mut || true)
    }

    /// As [`Self::catch_up`], one commit after the other for as long as that may go on.
    fn catch_up_while(
        &mut self,
        upto: Position,
        may_go_on: &mut impl FnMut() -> bool,
    ) -> Result<(), RunError> {
        while self.step(upto, may_go_on)? {}
        Ok(())
    }

    /// Applies some of what is committed before `upto`, while that may go on, and writes what follows;
    /// whether there was any.
    pub(crate) fn step(
        &mut self,
        upto: Position,
        may_go_on: &mut impl FnMut() -> bool,
    ) -> Result<bool, RunError> {
        self.look_ahead(upto)?;
        let mut batch = Batch::default();
        let mut ledger = BTreeMap::new();
        let mut commits = 0;
        let mut outputs = 0;
        // Where the batch stops being a repetition, so that metrics see each window once.
        let mut news_from = None;
        self.pipeline.enter(Stage::Read);
        while commits < BATCH_COMMITS
            && outputs < BATCH_OUTPUTS
            && may_go_on()
            && let Some(commit) = self.reader.next_commit(upto)?
        {
            commits += 1;
            if commit.end > self.written {
                news_from.get_or_insert(batch.features.len());
            }
            outputs += self.apply(&commit, &mut batch, &mut ledger)?;
            self.pipeline.enter(Stage::Read);
        }
        if commits == 0 {
            return Ok(false);
        }
        batch.ledger = ledger.into_values().collect();
        self.write(batch, news_from)?;
        if self.checkpoints.is_pressing(instant_now()) {
            self.go_on_with_checkpoint(PARTS_AT_ONCE)?;
        }
        self.look_at_lag(upto);
        self.tell_progress(upto);
        Ok(true)
    }

    /// Says how far the tables are behind what is committed, and asks for less or more where that is due.
    fn look_at_lag(&mut self, upto: Position) {
        let behind = utc_now().nanos_since(self.pipeline.state().now()).max(0);
        let lag = if self.reader.position() < upto {
            Duration::from_nanos(behind.unsigned_abs())
        } else {
            Duration::ZERO
        };
        let Some((shedding, ingest)) = &mut self.shedding else {
            return;
        };
        // A queue that is full, or whose ingest has gone, is asked again after the next transaction.
        if let Some(depth) = shedding.choose(lag)
            && ingest.try_send(IngestCommand::Shed(depth)).is_ok()
        {
            tracing::warn!(
                ?depth,
                lag_s = lag.as_secs(),
                "the pipeline asks for what it computes of windows"
            );
            shedding.note_asked(depth);
        }
    }

    /// Saves a checkpoint now.
    pub fn save(&mut self) -> Result<(), RunError> {
        self.write(Batch::default(), None)?;
        self.pipeline.enter(Stage::Checkpoint);
        let completed = self
            .checkpoints
            .save(self.pipeline.state(), &mut self.state, instant_now)?;
        self.note_checkpoint(completed)
    }

    /// Begins a checkpoint when one is due, or writes some of what is ready of one that was begun.
    fn go_on_with_checkpoint(&mut self, parts_max: NonZeroUsize) -> Result<Turn, RunError> {
        self.pipeline.enter(Stage::Checkpoint);
        let state = self.pipeline.state();
        let turn = self
            .checkpoints
            .go_on(state, &mut self.state, parts_max, instant_now)?;
        if let Turn::Complete(completed) = turn {
            self.note_checkpoint(completed)?;
        }
        Ok(turn)
    }

    /// A checkpoint is complete, and what nobody needs any more may go.
    fn note_checkpoint(&mut self, Completed { bytes, took }: Completed) -> Result<(), RunError> {
        self.metrics
            .observe_checkpoint(utc_now(), bytes, took.as_secs_f64());
        self.pipeline.enter(Stage::State);
        Ok(self.state.evict(self.pipeline.state().now())?)
    }

    fn apply(
        &mut self,
        commit: &Commit,
        batch: &mut Batch,
        ledger: &mut BTreeMap<crate::ledger::AccountKey, crate::ledger::LedgerRow>,
    ) -> Result<usize, RunError> {
        for (_, entry) in &commit.entries {
            if let Entry::Restated { id, .. } = entry
                && !self.pipeline.is_in_keeping_with(*id)
            {
                return Err(RunError::Restated { id: *id });
            }
        }
        let mut outputs = self.pipeline.apply(commit);
        while let Some(recall) = self.pipeline.recall() {
            outputs.extend(self.read_again(recall)?);
        }
        let count = outputs.len();
        let kept = commit.end > self.keep_after;
        let news = commit.end > self.written;
        if news {
            outputs.iter().for_each(tell);
        }
        for output in outputs {
            match output {
                Output::Features(_)
                | Output::Derived(_)
                | Output::Alarm(_)
                | Output::Advisory(_)
                | Output::Health(_)
                | Output::Baseline(_)
                | Output::DeadLetter(_)
                | Output::Replayed(_)
                    if !kept => {}
                Output::Features(row) => batch.features.push(row),
                Output::Derived(row) => batch.derived.push(row),
                Output::Alarm(row) => batch.alarms.push(row),
                Output::Advisory(
                    AdvisoryChange::Raised(advisory)
                    | AdvisoryChange::Updated(advisory)
                    | AdvisoryChange::Cleared(advisory)
                    | AdvisoryChange::Found(advisory),
                ) => batch.advisories.push(advisory),
                Output::Health(row) => batch.healths.push(row),
                Output::Baseline(row) => batch.baselines.push(row),
                Output::Ledger(row) => {
                    ledger.insert((row.node, row.boot, row.channel), row);
                }
                Output::DeadLetter(letter) => batch.dead_letters.push(letter),
                Output::Replayed(row) => batch.replays.push(row),
                // The tables know a later one already, while what was written before is repeated.
                Output::Fleet(row) if news => batch.fleet = Some(row),
                Output::Fleet(_) => {}
                // They stand in the journal, and nobody asks the tables for them.
                Output::Settings { .. } => {}
            }
        }
        Ok(count)
    }

    /// A part of the journal for the windows that replayed letters belong in. Nothing else is applied
    /// meanwhile.
    fn read_again(&mut self, recall: Recall) -> Result<Vec<Output>, RunError> {
        tracing::info!(from = %recall.from, upto = %recall.upto, "windows of replayed letters are read again");
        let mut reader = Reader::open(&self.segments, recall.from)?;
        loop {
            match reader.next_commit(recall.upto) {
                Ok(Some(commit)) => self.pipeline.remember(&commit),
                Ok(None) => return Ok(self.pipeline.reopen()),
                Err(error @ (JournalError::NoSuchSegment { .. } | JournalError::Archive { .. })) => {
                    tracing::error!(%error, "windows of replayed letters stay as they fired");
                    return Ok(self.pipeline.leave_closed());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn write(&mut self, mut batch: Batch, news_from: Option<usize>) -> Result<(), RunError> {
        self.pipeline.enter(Stage::State);
        batch.counters = self.pipeline.counters().labelled();
        batch.now = self.pipeline.state().now();
        // While it catches up with what was written before, the tables stay where they were.
        batch.position = self.pipeline.state().position().max(self.written);
        batch.published = utc_now();
        self.state.write(&batch)?;
        self.written = batch.position;
        let now = utc_now();
        let news = news_from
            .and_then(|from| batch.features.get(from..))
            .unwrap_or_default();
        for row in news
            .iter()
            .filter(|row| !row.backfill && row.revision == 0 && row.stream.is_empty())
        {
            let seconds = now.nanos_since(row.end) as f64 / 1e9;
            self.metrics.feature_latency.observe(seconds);
        }
        self.count(news_from.is_some());
        Ok(())
    }

    /// Says how far it has come, and each second how far event time has.
    fn tell_progress(&mut self, upto: Position) {
        let backlog = self.reader.bytes_until(upto);
        self.metrics
            .observe_progress(self.pipeline.state().now(), backlog);
        let now = instant_now();
        if self
            .lags_told
            .is_some_and(|told| now.duration_since(told) < LAGS_EVERY)
        {
            return;
        }
        self.lags_told = Some(now);
        let (channels, shortest_s) = self.pipeline.outlooks();
        self.metrics.observe_outlooks(channels, shortest_s);
        for (lane, lag) in LANES.into_iter().zip(self.pipeline.lane_lags()) {
            let channels = i64::try_from(lag.channels).unwrap_or(i64::MAX);
            let metrics = &self.metrics;
            metrics
                .watermark_channels
                .get_or_create(&LaneLabel { lane })
                .set(channels);
            for (channel, nanos) in [("median", lag.median_ns), ("slowest", lag.slowest_ns)] {
                let label = LagLabel { lane, channel };
                metrics
                    .watermark_lag
                    .get_or_create(&label)
                    .set(nanos as f64 / 1e9);
            }
        }
    }

    /// Adds what the pipeline counted to the metrics, unless it was counted before a restart.
    fn count(&mut self, news: bool) {
        let (then, now) = (&self.counted, self.pipeline.counters());
        if news {
            let metrics = &self.metrics;
            metrics
                .frames_duplicated
                .inc_by(now.frames_duplicated - then.frames_duplicated);
            metrics
                .samples_stored
                .inc_by(now.samples_stored - then.samples_stored);
            metrics.samples_late.inc_by(now.samples_late - then.samples_late);
            metrics
                .samples_ahead
                .inc_by(now.samples_ahead - then.samples_ahead);
            metrics
                .windows_corrected
                .inc_by(now.windows_corrected - then.windows_corrected);
            metrics
                .windows_fired
                .inc_by(now.windows_fired - then.windows_fired);
            metrics
                .windows_undecided
                .inc_by(now.windows_undecided - then.windows_undecided);
            metrics.windows_shed.inc_by(now.windows_shed - then.windows_shed);
            metrics
                .windows_examined
                .inc_by(now.windows_examined - then.windows_examined);
            metrics
                .advisories_raised
                .inc_by(now.advisories_raised - then.advisories_raised);
            metrics
                .advisories_cleared
                .inc_by(now.advisories_cleared - then.advisories_cleared);
            for (reason, count) in &now.dead_letters {
                let before = then.dead_letters.get(reason).copied().unwrap_or(0);
                let reason = reason.label();
                metrics
                    .dead_letters
                    .get_or_create(&Reason { reason })
                    .inc_by(count - before);
            }
        }
        self.counted = now.clone();
        let unexplained = i64::try_from(self.pipeline.unexplained()).unwrap_or(i64::MAX);
        self.metrics.samples_unexplained.set(unexplained);
    }
}

/// Logs what a person may want to know of.
fn tell(output: &Output) {
    match output {
        Output::Advisory(AdvisoryChange::Raised(advisory)) => {
            tracing::info!(asset = advisory.asset, point = advisory.point, cause = ?advisory.cause,
                raised = %advisory.raised, "an advisory is raised");
        }
        Output::Advisory(AdvisoryChange::Cleared(advisory)) => {
            tracing::info!(asset = advisory.asset, point = advisory.point, cause = ?advisory.cause,
                cleared = ?advisory.cleared, "an advisory is cleared");
        }
        Output::Advisory(AdvisoryChange::Found(advisory)) => {
            tracing::debug!(asset = advisory.asset, point = advisory.point, cause = ?advisory.cause,
                from = %advisory.raised, to = %advisory.last_seen, "history shows a fault");
        }
        Output::Health(row) => {
            tracing::info!(
                asset = row.asset,
                grade = row.health.grade.label(),
                "the health of an asset has changed"
            );
        }
        Output::Baseline(row) => {
            tracing::info!(series = ?row.series, stage = row.stage, closed = ?row.closed, "a baseline has moved on");
        }
        Output::DeadLetter(letter) => {
            tracing::warn!(reason = letter.reason.label(), gateway = ?letter.gateway, position = ?letter.position,
                item = letter.item, bytes = letter.payload.len(), "a payload is kept as a dead letter");
        }
        Output::Replayed(row) => {
            tracing::info!(letter = %row.letter, outcome = row.outcome.label(), "a dead letter is replayed");
        }
        Output::Ledger(row) if row.unexplained > 0 => {
            tracing::error!(node = %row.node, boot = %row.boot, channel = %row.channel,
                unexplained = row.unexplained, "samples are missing without a cause");
        }
        Output::Fleet(fleet) => {
            tracing::info!(effective = %fleet.effective, assets = fleet.assets.len(), "another fleet file is in force");
        }
        Output::Settings { settings, from } => {
            tracing::info!(?settings, %from, "other settings are in force");
        }
        Output::Alarm(alarm) => {
            tracing::info!(node = %alarm.node, channel = ?alarm.channel, kind = alarm.kind_label(), first = %alarm.first,
                repeats = alarm.repeats, "an alarm of a node");
        }
        Output::Advisory(AdvisoryChange::Updated(_))
        | Output::Features(_)
        | Output::Derived(_)
        | Output::Ledger(_) => {}
    }
}

/// As many as this process may use.
fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Adds up what the thread spends on each stage.
fn stage_clock(metrics: &Metrics) -> impl FnMut(Stage) + Send + 'static {
    let counters = Stage::ALL.map(|stage| {
        let stage = stage.label();
        metrics.pipeline_stage.get_or_create_owned(&StageLabel { stage })
    });
    let mut at: Option<(Stage, Instant)> = None;
    move |stage| {
        let now = instant_now();
        if let Some((before, since)) = at.replace((stage, now)) {
            counters[before as usize].inc_by(now.duration_since(since).as_secs_f64());
        }
    }
}

/// When outputs became visible; nothing is decided by it.
#[allow(
    clippy::disallowed_methods,
    reason = "the shell measures how late features are published"
)]
fn utc_now() -> EventTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    EventTime(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// When the next checkpoint is due; outputs do not depend on it.
#[allow(
    clippy::disallowed_methods,
    reason = "the shell paces checkpoints and measures itself"
)]
fn instant_now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::super::script::{self, Node};
    use super::*;
    use crate::ingest::{BlockSource, Ingest, Message, SourceClosed};
    use crate::journal::{Entry, Journal, Options};
    use crate::state::StateReader;
    use trunnion_diagnosis::features::Depth;

    struct Place {
        dir: tempfile::TempDir,
        journal: Journal,
        entries: std::vec::IntoIter<Entry>,
        commits: i64,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (journal, _) = Journal::open(dir.path(), Options::default(), script::START).unwrap();
            let mut entries = vec![script::fleet(1)];
            entries.extend(Node::new(1).story(200, script::outer_race_fault));
            Self {
                dir,
                journal,
                entries: entries.into_iter(),
                commits: 0,
            }
        }

        fn commit(&mut self, entries: usize) -> Position {
            for entry in self.entries.by_ref().take(entries) {
                self.journal.append(&entry);
            }
            self.commits += 1;
            let now = script::START.plus_nanos(self.commits * script::SECOND);
            self.journal.commit(now).unwrap()
        }

        fn state(&self, name: &str) -> std::path::PathBuf {
            self.dir.path().join(name)
        }

        fn runner(&self, name: &str) -> Runner {
            let mut state = State::open(&self.state(name)).unwrap();
            state.bind(self.journal.id()).unwrap();
            Runner::resume(self.dir.path(), state, Metrics::default()).unwrap()
        }

        /// Everything that a reader sees, as text.
        fn seen(&self, name: &str) -> String {
            let reader = StateReader::open(&self.state(name)).unwrap();
            let mut ledger = Vec::new();
            reader.for_each_ledger_row(|row| ledger.push(row)).unwrap();
            format!(
                "{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}",
                reader.assets().unwrap(),
                reader.advisories(false, None, 100).unwrap(),
                ledger,
                reader.counters().unwrap(),
                reader.position().unwrap(),
            )
        }
    }

    #[test]
    fn killed_at_any_batch_it_ends_with_the_same_tables() {
        let mut place = Place::new();
        let mut steady = place.runner("steady");
        for batch in 0..21 {
            let upto = place.commit(10);
            steady.catch_up(upto).unwrap();
            // Dropped without a word, and every third time with a checkpoint behind it.
            let mut killed = place.runner("killed");
            killed.catch_up(upto).unwrap();
            if batch % 3 == 0 {
                killed.save().unwrap();
            }
        }
        let seen = place.seen("steady");
        assert!(
            seen.contains("outer_race") || seen.contains("OuterRace"),
            "{seen}"
        );
        assert_eq!(place.seen("killed"), seen);
        let mut replayed = place.runner("replayed");
        replayed.catch_up(place.journal.end()).unwrap();
        assert_eq!(place.seen("replayed"), seen);
    }

    #[test]
    fn a_checkpoint_made_beside_goes_with_where_it_was_begun_and_counts_once_it_is_whole() {
        let mut place = Place::new();
        let mut steady = place.runner("steady");
        let mut runner = place.runner("state");
        let mut begin = |runner: &mut Runner| {
            runner.checkpoints.make_due();
            let at = place.commit(60);
            runner.catch_up(at).unwrap();
            assert_eq!(runner.checkpoints.making(), Some(at));
            let further = place.commit(20);
            runner.catch_up(further).unwrap();
            (at, further)
        };
        let (first, _) = begin(&mut runner);
        while runner.checkpoints.making().is_some() {
            runner.go_on_with_checkpoint(NonZeroUsize::MIN).unwrap();
            std::thread::yield_now();
        }
        assert_eq!(runner.checkpoints.at(), first);
        assert!(runner.metrics.checkpoint_size.get() > 0);
        let (second, further) = begin(&mut runner);
        // Killed before the last part of the second one is written.
        let left = runner.checkpoints.abandon();
        drop(runner);
        steady.catch_up(further).unwrap();
        let seen = place.seen("steady");
        let mut runner = place.runner("state");
        assert_eq!(runner.position(), if left { first } else { second });
        runner.catch_up(further).unwrap();
        assert_eq!(place.seen("state"), seen);
    }

    #[test]
    fn a_checkpoint_becomes_whole_while_nothing_is_committed() {
        let mut place = Place::new();
        let mut runner = place.runner("state");
        runner.checkpoints.make_due();
        let at = place.commit(60);
        runner.catch_up(at).unwrap();
        let mut settled = runner.settled();
        let (committed, mut follow) = watch::channel(at);
        let waiter = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_time().build().unwrap()
        };
        let writer = std::thread::spawn(move || {
            // It goes when the checkpoint is there, or when it has waited far too long for that.
            let whole = async { timeout(Duration::from_secs(30), settled.changed()).await };
            let _ = waiter().block_on(whole);
            drop(committed);
        });
        let waiter = waiter();
        assert!(!runner.await_commit(&waiter, &mut follow).unwrap());
        writer.join().unwrap();
        assert_eq!((runner.checkpoints.making(), runner.checkpoints.at()), (None, at));
    }

    #[test]
    fn no_start_reads_before_what_is_settled() {
        let mut place = Place::new();
        let mut runner = place.runner("state");
        let settled = runner.settled();
        let mut saved = vec![Position::default()];
        for _ in 0..3 {
            let upto = place.commit(20);
            runner.catch_up(upto).unwrap();
            runner.save().unwrap();
            assert_eq!(Some(&*settled.borrow()), saved.last());
            saved.push(upto);
        }
        drop(runner);
        // The newest is torn: the start from the one before is what was settled.
        rusqlite::Connection::open(place.state("state"))
            .unwrap()
            .execute(
                "UPDATE checkpoint_part SET bytes = x'00' WHERE checkpoint = (SELECT max(id) FROM checkpoint)",
                [],
            )
            .unwrap();
        let mut runner = place.runner("state");
        assert_eq!(runner.position(), saved[2]);
        let settled = runner.settled();
        runner.catch_up(saved[3]).unwrap();
        runner.save().unwrap();
        assert_eq!(*settled.borrow(), saved[2], "the torn one counts for nothing");
    }

    #[test]
    fn an_unreadable_checkpoint_costs_time_and_nothing_else() {
        for spoilt in [1, 2] {
            let mut place = Place::new();
            let mut runner = place.runner("state");
            for _ in 0..4 {
                let upto = place.commit(40);
                runner.catch_up(upto).unwrap();
                runner.save().unwrap();
            }
            let seen = place.seen("state");
            drop(runner);
            rusqlite::Connection::open(place.state("state"))
                .unwrap()
                .execute(
                    "UPDATE checkpoint_part SET bytes = x'00' WHERE checkpoint IN
                     (SELECT id FROM checkpoint ORDER BY id DESC LIMIT ?1)",
                    [spoilt],
                )
                .unwrap();
            let mut runner = place.runner("state");
            assert!(runner.pipeline.state().position() < place.journal.end());
            runner.catch_up(place.journal.end()).unwrap();
            assert_eq!(place.seen("state"), seen);
            assert_eq!(
                runner.metrics.windows_fired.get(),
                0,
                "counted before the restart"
            );
        }
    }

    #[test]
    fn it_tells_its_backlog_its_checkpoint_its_lag_and_what_it_spent_its_time_on() {
        let mut place = Place::new();
        let mut runner = place.runner("state");
        let metrics = runner.metrics.clone();
        let (middle, end) = (place.commit(100), place.commit(103));
        assert_eq!(metrics.age(script::START), [None, None]);
        runner.catch_up(middle).unwrap();
        runner.tell_progress(end);
        let backlog = metrics.pipeline_backlog.get();
        assert_eq!(backlog, (end.offset - middle.offset) as i64);
        runner.catch_up(end).unwrap();
        assert_eq!(metrics.pipeline_backlog.get(), 0);
        runner.save().unwrap();
        let mut bytes = 0;
        let saved = runner.state.checkpoints().unwrap();
        runner
            .state
            .read_checkpoint(saved[0], |part| bytes += part.len())
            .unwrap();
        assert_eq!(metrics.checkpoint_size.get(), bytes as i64);
        let [behind, age] = metrics.age(utc_now());
        assert!(behind.is_some() && age.is_some());
        let live = LaneLabel { lane: LANES[0] };
        assert_eq!(metrics.watermark_channels.get_or_create(&live).get(), 1);
        for stage in Stage::ALL.map(Stage::label) {
            let spent = metrics.pipeline_stage.get_or_create(&StageLabel { stage }).get();
            assert_eq!(spent > 0.0, stage != "wait", "{stage}: {spent} s");
        }
    }

    /// Ingest hears nothing but commands.
    struct Silence;

    impl BlockSource for Silence {
        fn receive(&mut self, _: Duration) -> Result<Option<Message>, SourceClosed> {
            Ok(None)
        }

        fn publish(&mut self, _: &str, _: Vec<u8>) -> Result<(), SourceClosed> {
            Ok(())
        }
    }

    #[test]
    fn a_lag_reaches_the_journal_and_so_does_its_end() {
        let mut place = Place::new();
        for _ in 0..2 * BATCH_COMMITS {
            place.commit(1);
        }
        let mut runner = place.runner("state");
        let Place { dir, journal, .. } = place;
        let (mut ingest, handle) = Ingest::new(journal, Silence, Metrics::default(), || script::START);
        let mut turn = || {
            ingest.turn(true).unwrap();
            *handle.committed.borrow()
        };
        // What is applied lies years before this machine's clock.
        runner.shed_beyond(Duration::from_secs(30), handle.commands.clone());
        let end = turn();
        assert!(runner.step(end, &mut || true).unwrap() && runner.position() < end);
        let shed = turn();
        runner.catch_up(shed).unwrap();
        assert_eq!(runner.pipeline.state().depth(), Depth::Severity);
        // Now nothing is left.
        let restored = turn();
        runner.catch_up(restored).unwrap();
        assert_eq!(runner.pipeline.state().depth(), Depth::Full);
        let mut reader = Reader::open(dir.path(), end).unwrap();
        let commits = std::iter::from_fn(|| reader.next_commit(restored).unwrap());
        let entries: Vec<_> = commits.flat_map(|commit| commit.entries).collect();
        let depths = entries.into_iter().filter_map(|(_, entry)| match entry {
            Entry::Shed { depth } => Some(depth),
            _ => None,
        });
        assert_eq!(depths.collect::<Vec<_>>(), [Depth::Severity, Depth::Full]);
    }

    #[test]
    fn told_to_stop_it_leaves_a_backlog_to_the_next_start() {
        let mut place = Place::new();
        let mut steady = place.runner("steady");
        for _ in 0..30 {
            place.commit(7);
        }
        let end = place.journal.end();
        steady.catch_up(end).unwrap();
        let mut runner = place.runner("state");
        let mut commits = 0;
        let before_last = |limit| {
            move || {
                commits += 1;
                commits <= limit
            }
        };
        runner.catch_up_while(end, &mut before_last(9)).unwrap();
        runner.save().unwrap();
        let reached = runner.reader.position();
        assert!(Position::default() < reached && reached < end);
        drop(runner);
        let mut runner = place.runner("state");
        assert_eq!(runner.pipeline.state().position(), reached);
        runner.catch_up(end).unwrap();
        assert_eq!(place.seen("state"), place.seen("steady"));
    }

    #[test]
    fn it_ends_when_the_writer_has_gone_with_everything_applied_and_saved() {
        let mut place = Place::new();
        let (committed, follow) = watch::channel(place.journal.end());
        let runner = place.runner("state");
        let metrics = runner.metrics.clone();
        let (_stop, told) = watch::channel(false);
        let running = std::thread::spawn(move || runner.run(follow, told));
        for _ in 0..7 {
            let _ = committed.send(place.commit(30));
        }
        drop(committed);
        running.join().unwrap().unwrap();
        let resumed = place.runner("state");
        assert_eq!(resumed.pipeline.state().position(), place.journal.end());
        assert_eq!(metrics.samples_stored.get(), 200 * script::FRAME);
        assert_eq!(
            metrics.windows_fired.get(),
            resumed.pipeline.counters().windows_fired
        );
        assert!(
            metrics
                .render()
                .contains("trunnion_collector_feature_latency_seconds_count 8")
        );
    }
}
