//! What starts and what stops, in which order: the one place that knows every part.

use crate::api::Api;
use crate::api::health::Check;
use crate::broker::{Broker, BrokerError};
use crate::command::Wanted;
use crate::command::learned;
use crate::command::request::{self, Order};
use crate::command::signer::Signer;
use crate::config::{self, BrokerChoice, Config};
use crate::dead_letter::LetterId;
use crate::dead_letter::tool::Letters;
use crate::door::{Door, DoorError, Reload};
use crate::fleet::Fleet;
use crate::ingest::{BlockSource, Ingest, IngestCommand};
use crate::journal::{Journal, JournalError, Position, Segments};
use crate::metrics::Metrics;
use crate::pipeline;
use crate::replay::{self, ReplayError};
use crate::retention::Keeper;
use crate::source::mqtt::{MqttBroker, MqttError};
use crate::state::{StateError, StateReader, set_aside};
use crate::window::WindowSettings;
use std::fmt::Display;
use std::fs::DirBuilder;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use trunnion_common::id::{JournalId, Name};
use trunnion_common::time::EventTime;

/// Without traffic the journal commits a tick each second; silence of so many says that it cannot.
const COMMIT_SILENCE_NS: i64 = 5_000_000_000;

/// How often to look whether the state has caught up with the journal.
const CATCHING_UP: Duration = Duration::from_millis(100);

/// How long a stop waits for the segment that is being archived.
const KEEPER_WAIT: Duration = Duration::from_secs(2);

/// How often to look for baselines that people have accepted.
const ACCEPTED: Duration = Duration::from_secs(5);

/// How often to look for what people have asked for.
const REQUESTS: Duration = Duration::from_millis(500);

/// Bytes of replayed dead letters after which a commit has enough of them.
const REPLAY_BYTES: usize = 4 << 20;

/// Where a running collector listens: the ports that were drawn, where the configuration says 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// For gateways; none when they come to a broker of the plant's own.
    pub door: Option<SocketAddr>,
    /// For the API.
    pub http: SocketAddr,
}

/// Why a collector did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory.
    #[error("cannot make the data directory {path}: {source}")]
    DataDirectory {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The state database.
    #[error(transparent)]
    State(#[from] StateError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The pipeline.
    #[error(transparent)]
    Pipeline(#[from] pipeline::RunError),
    /// A switch to a replay's outputs that was to be completed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The embedded broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The door.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// The connection to a broker of the plant's own.
    #[error(transparent)]
    Mqtt(#[from] MqttError),
    /// The API's socket.
    #[error("cannot listen on {address} for the API: {source}; is the port taken?")]
    Http {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("no thread for the {stage}: {source}")]
    Thread {
        /// Which part wanted it.
        stage: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A part ended although nobody had told it to, or failed on its way out.
    #[error("the {stage} has ended: {cause}")]
    Ended {
        /// Which.
        stage: &'static str,
        /// What it said.
        cause: String,
    },
}

/// Runs a collector until `shutdown` resolves, then stops it downstream: what has been accepted is
/// committed, what has been committed is processed unless that takes long. `ready` is called once everything listens. Each
/// message on `reload` makes it read the fleet file and the certificates again.
///
/// Everything that can fail is done before anything runs.
pub async fn run(
    config: Config,
    shutdown: impl Future<Output = ()>,
    mut reload: mpsc::Receiver<()>,
    ready: impl FnOnce(&Addresses),
) -> Result<(), RunError> {
    let metrics = Metrics::default();
    make_private_directory(&config.data_dir)?;
    let state_file = config.data_dir.join("state.db");
    let journal_dir = config.journal_dir();

    let (journal, recovered) = Journal::open(&journal_dir, config.journal, utc())?;
    let end = journal.end();
    tracing::info!(?recovered, %end, "the journal is open");
    let archive = config.retention.open_archive(&journal_dir)?;
    let segments = Segments::from(&journal_dir).with_archive(archive.clone());
    replay::complete_switch(&config.data_dir, &segments, end)?;
    let mut pipeline = open_pipeline(&state_file, &segments, journal.id(), end, &metrics)?;
    let keeper = Keeper::new(
        segments,
        archive,
        config.retention.keep,
        &state_file,
        pipeline.settled(),
        metrics.clone(),
        utc,
    );
    let (inlet, source) = Inlet::open(&config, &metrics).await?;
    let (mut ingest, handle) = Ingest::new(journal, source, metrics.clone(), utc);
    ingest.set_signer(Box::new(Signer {
        certificate: config.door.certificate.clone(),
        key: config.door.key.clone(),
    }));
    request::make_directory(&config.data_dir).map_err(|source| RunError::DataDirectory {
        path: request::directory(&config.data_dir),
        source,
    })?;
    let settings = config.settings();
    let windows = settings.windows;
    // It waits in the queue too, before anything else can.
    if handle
        .commands
        .try_send(IngestCommand::Settings(settings))
        .is_err()
    {
        unreachable!("the queue is new, and ingest has its other end");
    }
    pipeline.shed_beyond(config.shed_lag, handle.commands.clone());
    let orders = handle.commands.clone();
    let mut fleet = FleetFile {
        path: config.fleet.clone(),
        state: StateReader::open(&state_file)?,
        commands: handle.commands,
        sent: None,
        fleet: None,
        wanted: None,
        windows,
    };
    // Which file is in force stands in the journal, and the state tells it once it has come so far. As a
    // rule it has, and a change waits in ingest's queue, so that it is journaled before the first block.
    let mut fleet_known = !recovered.existed || fleet.reaches(end)?;
    if fleet_known {
        fleet.read();
    }
    let http_failed = |source| RunError::Http {
        address: config.http.listen,
        source,
    };
    let listener = TcpListener::bind(config.http.listen).await.map_err(http_failed)?;
    let addresses = Addresses {
        door: inlet.door.as_ref().map(Door::local_addr),
        http: listener.local_addr().map_err(http_failed)?,
    };
    let Inlet {
        broker,
        broker_up,
        door,
    } = inlet;
    let checks = vec![broker_up, journal_check(handle.committed.clone())];
    let committed = handle.committed;
    let gateways = handle.gateways;
    let api = Api::new(
        &state_file,
        metrics.clone(),
        utc,
        move || gateways.snapshot(),
        checks,
    )?;
    let certificates = door.as_ref().map(Door::reload);

    let mut ingest = Running::thread("ingest", |stop| ingest.run(stop))?;
    // Ends when ingest has gone and everything it committed is processed; told to stop, it gives up a long
    // backlog.
    let mut pipeline = Running::thread("pipeline", |stop| pipeline.run(committed, stop))?;
    // Nothing waits for it: it may be on an archive that has vanished.
    let mut keeper = Running::thread("retention", |stop| keeper.run(stop))?;
    let mut door = Running::task("door", async |stop| {
        match door {
            Some(door) => door.run(stop).await,
            None => told(stop).await,
        }
        Ok::<(), DoorError>(())
    });
    let mut http = Running::task("API", |stop| api.serve(listener, told(stop)));
    ready(&addresses);
    let door_address = addresses.door.map(tracing::field::display);
    tracing::info!(door = door_address, http = %addresses.http, site = %config.site, "the collector runs");

    tokio::pin!(shutdown);
    let mut catching_up = tokio::time::interval(CATCHING_UP);
    let mut requests = tokio::time::interval(REQUESTS);
    let mut accepted = tokio::time::interval(ACCEPTED);
    loop {
        tokio::select! {
            () = &mut shutdown => break tracing::info!("stopping"),
            Some(()) = reload.recv() => {
                tracing::info!("reading the fleet file and the certificates again");
                if fleet_known {
                    fleet.read();
                }
                certificates.as_ref().map(Reload::request);
            }
            _ = catching_up.tick(), if !fleet_known => {
                // A state that cannot be read is reported by the reading that follows.
                fleet_known = fleet.reaches(end).unwrap_or(true);
                if fleet_known {
                    fleet.read();
                }
            }
            _ = requests.tick() => take_requests(&config.data_dir, &orders),
            _ = accepted.tick() => fleet.follow(),
            // Told or not, none of them may end before the others are stopped in order.
            () = ingest.ended() => break,
            () = pipeline.ended() => break,
            () = keeper.ended() => break,
            () = door.ended() => break,
            () = http.ended() => break,
        }
    }

    // Downstream. Each part finishes what the one before has left to it.
    let door = door.stop().await;
    let ingest = ingest.stop().await;
    // Only now: until ingest has ended, its acknowledgements have a broker to go to.
    let broker = tokio::task::spawn_blocking(|| broker.stop()).await;
    let pipeline = pipeline.stop().await;
    // What it is at can be given up at any point. An archive that hangs must not keep the collector.
    let keeper = tokio::time::timeout(KEEPER_WAIT, keeper.stop()).await;
    let http = http.stop().await;
    broker.map_err(|panic| RunError::Ended {
        stage: "broker",
        cause: panic.to_string(),
    })?;
    door.and(ingest)
        .and(pipeline)
        .and(http)
        .and(keeper.unwrap_or(Ok(())))?;
    tracing::info!("stopped in order");
    Ok(())
}

/// The pipeline with its tables. Such as do not follow from this journal any more, or cannot be used, are set
/// aside and rebuilt.
fn open_pipeline(
    state_file: &Path,
    segments: &Segments,
    journal: JournalId,
    end: Position,
    metrics: &Metrics,
) -> Result<pipeline::Runner, RunError> {
    let open = || {
        let state = replay::open_state(state_file, journal)?;
        let mut runner = pipeline::Runner::resume(segments, state, metrics.clone())?;
        runner.look_ahead(end).map(|()| runner)
    };
    match open() {
        Err(error @ pipeline::RunError::Restated { .. }) => {
            tracing::error!(%error, "the tables are set aside and rebuilt from the journal");
            set_aside(state_file, "outdated").map_err(|source| StateError::SetAside {
                path: state_file.to_owned(),
                source,
            })?;
            Ok(open()?)
        }
        outcome => Ok(outcome?),
    }
}

/// Where blocks come in: the embedded broker behind the door, or a broker of the plant's own.
struct Inlet {
    broker: AnyBroker,
    broker_up: Check,
    door: Option<Door>,
}

/// Either of the two, to be stopped once ingest has ended.
enum AnyBroker {
    Embedded(Broker),
    External(MqttBroker),
}

impl Inlet {
    async fn open(config: &Config, metrics: &Metrics) -> Result<(Self, Box<dyn BlockSource>), RunError> {
        let up = |when_down: &'static str, is_up: Box<dyn Fn() -> bool + Send + Sync>| Check {
            name: "broker",
            check: Box::new(move || match is_up() {
                true => Ok(()),
                false => Err(when_down.into()),
            }),
        };
        match &config.broker {
            BrokerChoice::Embedded => {
                let (broker, link) = Broker::start(metrics.clone())?;
                let access = broker.access();
                let broker_up = up("the broker is being restarted", Box::new(move || access.is_up()));
                let door = Door::bind(config.door.clone(), broker.access(), metrics.clone()).await?;
                let inlet = Self {
                    broker: AnyBroker::Embedded(broker),
                    broker_up,
                    door: Some(door),
                };
                Ok((inlet, Box::new(link)))
            }
            BrokerChoice::External(mqtt) => {
                let (broker, source) = MqttBroker::start(mqtt.clone(), &config.site, metrics.clone())?;
                let broker_up = up(
                    "no connection to the broker; the log says why",
                    Box::new(broker.watch()),
                );
                let inlet = Self {
                    broker: AnyBroker::External(broker),
                    broker_up,
                    door: None,
                };
                Ok((inlet, Box::new(source)))
            }
        }
    }
}

impl AnyBroker {
    fn stop(self) {
        match self {
            Self::Embedded(broker) => broker.stop(),
            Self::External(broker) => broker.stop(),
        }
    }
}

/// A part on its own thread or task.
struct Running {
    stage: &'static str,
    stop: watch::Sender<bool>,
    outcome: oneshot::Receiver<Result<(), String>>,
    /// What it said on its way out, once it has ended.
    ended: Option<Result<(), String>>,
}

impl Running {
    /// On a thread, for parts that wait for disks.
    fn thread<E: Display>(
        stage: &'static str,
        part: impl FnOnce(watch::Receiver<bool>) -> Result<(), E> + Send + 'static,
    ) -> Result<Self, RunError> {
        let (running, told, report) = Self::new(stage);
        let body = move || {
            // Nobody listens only after a failure elsewhere, which is what will be reported.
            let _ = report.send(part(told).map_err(|error| error.to_string()));
        };
        match std::thread::Builder::new().name(stage.into()).spawn(body) {
            Ok(_) => Ok(running),
            Err(source) => Err(RunError::Thread { stage, source }),
        }
    }

    /// On a task, for parts that wait for sockets.
    fn task<E: Display, F: Future<Output = Result<(), E>> + Send + 'static>(
        stage: &'static str,
        part: impl FnOnce(watch::Receiver<bool>) -> F,
    ) -> Self {
        let (running, told, report) = Self::new(stage);
        let part = part(told);
        tokio::spawn(async move {
            let _ = report.send(part.await.map_err(|error| error.to_string()));
        });
        running
    }

    fn new(stage: &'static str) -> (Self, watch::Receiver<bool>, oneshot::Sender<Result<(), String>>) {
        let (stop, told) = watch::channel(false);
        let (report, outcome) = oneshot::channel();
        let running = Self {
            stage,
            stop,
            outcome,
            ended: None,
        };
        (running, told, report)
    }

    /// Waits until it has ended, told to or not.
    async fn ended(&mut self) {
        if self.ended.is_none() {
            // A part that panics drops its end of the channel.
            let outcome = (&mut self.outcome).await;
            self.ended = Some(outcome.unwrap_or_else(|_| Err("it panicked; the log says where".into())));
        }
    }

    /// Tells it to stop, unless it has by itself, and waits for what it still has to do.
    async fn stop(mut self) -> Result<(), RunError> {
        let failed = |stage, cause| Err(RunError::Ended { stage, cause });
        if let Some(outcome) = self.ended {
            let cause = outcome.err().unwrap_or_else(|| "nobody had told it to".into());
            tracing::error!(
                stage = self.stage,
                cause,
                "a part of the collector has ended by itself"
            );
            return failed(self.stage, cause);
        }
        self.stop.send_replace(true);
        self.ended().await;
        match self.ended {
            Some(Err(cause)) => {
                tracing::error!(
                    stage = self.stage,
                    cause,
                    "a part of the collector did not stop in order"
                );
                failed(self.stage, cause)
            }
            _ => Ok(()),
        }
    }
}

/// Resolves when a part is told to stop.
async fn told(mut stop: watch::Receiver<bool>) {
    // An error means that the composer is gone, which is a reason to stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Another fleet file's text, and from when on it holds.
type Change = (String, EventTime);

/// The fleet file and the fleet in force.
struct FleetFile {
    path: PathBuf,
    state: StateReader,
    commands: SyncSender<IngestCommand>,
    /// What was last journaled by this process; before that, the state says what is in force.
    sent: Option<String>,
    /// What was read last.
    fleet: Option<Fleet>,
    /// What was last handed on as wanted.
    wanted: Option<Wanted>,
    /// How this process cuts time.
    windows: WindowSettings,
}

impl FleetFile {
    /// Whether the state has come as far as `end`, and so tells what is in force there.
    fn reaches(&self, end: Position) -> Result<bool, StateError> {
        let progress = self.state.position()?;
        Ok(progress.is_some_and(|progress| progress.position >= end))
    }

    /// Reads the file. A valid one that differs from the fleet in force is in force from now on, and the
    /// first of all from the beginning of time; any other changes nothing.
    fn read(&mut self) {
        match self.change() {
            Ok((fleet, changed)) => {
                if let Some((text, effective)) = changed {
                    self.send(text, effective);
                }
                self.want(&fleet);
                self.fleet = Some(fleet);
            }
            Err(problems) => {
                for problem in problems {
                    tracing::error!(problem, "the fleet in force stays in force");
                }
            }
        }
    }

    /// What the file wants of gateways and nodes is wanted from now on, with the baselines in force.
    fn want(&mut self, fleet: &Fleet) {
        let mut wanted = fleet.wanted(&self.windows);
        if !wanted.watches.is_empty() {
            match self.state.baselines_in_force() {
                Ok(baselines) => fleet.adopt(&mut wanted, &baselines),
                Err(error) => {
                    tracing::error!(%error, "gateways judge by absolute limits until the baselines can be read");
                }
            }
        }
        if self.wanted.as_ref() == Some(&wanted) {
            return;
        }
        match self
            .commands
            .try_send(IngestCommand::Wanted(Box::new(wanted.clone())))
        {
            Ok(()) => self.wanted = Some(wanted),
            Err(error) => {
                tracing::error!(%error, "what was wanted of gateways and nodes stays so; send SIGHUP again");
            }
        }
    }

    /// What people have accepted or closed since, gateways that watch are told, too.
    fn follow(&mut self) {
        let is_watching = self
            .wanted
            .as_ref()
            .is_some_and(|wanted| !wanted.watches.is_empty());
        if let Some(fleet) = self.fleet.take_if(|_| is_watching) {
            self.want(&fleet);
            self.fleet = Some(fleet);
        }
    }

    /// The fleet of the file, with its text and from when on it holds if it is another one; or everything
    /// that keeps it from changing anything.
    fn change(&self) -> Result<(Fleet, Option<Change>), Vec<String>> {
        let text = config::read_text(&self.path).map_err(|problem| vec![problem.to_string()])?;
        let in_force = match &self.sent {
            Some(sent) => Some(sent.clone()),
            None => self
                .state
                .fleet_text()
                .map_err(|error| vec![error.to_string()])?
                .map(|(_, text)| text),
        };
        let fleet = Fleet::parse(&text, &self.path.display().to_string())
            .map_err(|problems| Vec::from_iter(problems.iter().map(ToString::to_string)))?;
        if in_force.as_ref() == Some(&text) {
            return Ok((fleet, None));
        }
        // Gateways may have kept data from before the collector's first start: no other fleet can be meant.
        let effective = in_force.map_or(EventTime(i64::MIN), |_| utc());
        Ok((fleet, Some((text, effective))))
    }

    fn send(&mut self, text: String, effective: EventTime) {
        let command = IngestCommand::Fleet {
            text: text.clone(),
            effective,
        };
        // Never the blocking form: a journal that cannot commit must not hold up the shutdown.
        match self.commands.try_send(command) {
            Ok(()) => {
                tracing::info!(file = %self.path.display(), "the fleet file has changed");
                self.sent = Some(text);
            }
            Err(error) => {
                tracing::error!(%error, "the fleet in force stays in force; send SIGHUP again");
            }
        }
    }
}

/// Hands on what people have asked for.
fn take_requests(data_dir: &Path, commands: &SyncSender<IngestCommand>) {
    for order in request::take(data_dir) {
        tracing::info!(?order, "a person's order");
        match order {
            Order::Action(action) => {
                if let Err(error) = commands.try_send(IngestCommand::Order(action)) {
                    tracing::error!(%error, "an order is lost; give it again");
                }
            }
            Order::Decide(decision) => {
                if let Err(error) = commands.try_send(IngestCommand::Decide(decision)) {
                    tracing::error!(%error, "a decision is lost; make it again");
                }
            }
            Order::Learn(name) => {
                let (data_dir, commands) = (data_dir.to_owned(), commands.clone());
                tokio::task::spawn_blocking(move || learn(&data_dir, &name, &commands));
            }
            Order::Replay(ids) => {
                let (data_dir, commands) = (data_dir.to_owned(), commands.clone());
                tokio::task::spawn_blocking(move || replay(&data_dir, &ids, &commands));
            }
        }
    }
}

/// Has what was learned of a fleet journaled.
fn learn(data_dir: &Path, name: &Name, commands: &SyncSender<IngestCommand>) {
    let bytes = match learned::read(data_dir, name) {
        Ok(bytes) => bytes,
        Err(error) => return tracing::error!(%name, %error, "what was learned does not hold"),
    };
    let command = IngestCommand::Learned {
        name: name.to_string(),
        bytes,
    };
    if let Err(error) = commands.send(command) {
        tracing::error!(%name, %error, "what was learned does not hold; learn it again");
    }
}

/// Has dead letters journaled once more, as many at once as fit into a commit.
fn replay(data_dir: &Path, ids: &[LetterId], commands: &SyncSender<IngestCommand>) {
    let lost = |error: &dyn Display| tracing::error!(%error, "a dead letter is not replayed; ask again");
    let letters = match Letters::open(data_dir) {
        Ok(letters) => letters,
        Err(error) => return lost(&error),
    };
    let (mut group, mut bytes) = (Vec::new(), 0);
    for (n, &id) in ids.iter().enumerate() {
        match letters.letter(id) {
            Ok(letter) => {
                bytes += letter.payload.len();
                group.push(letter);
            }
            Err(error) => lost(&error),
        }
        let is_full = bytes >= REPLAY_BYTES || n + 1 == ids.len();
        if is_full && !group.is_empty() {
            bytes = 0;
            let command = IngestCommand::Replay(std::mem::take(&mut group));
            // It waits for ingest, and on the way out ingest goes first.
            if let Err(error) = commands.send(command) {
                return lost(&error);
            }
        }
    }
}

/// Passes as long as the journal commits, be it only ticks.
fn journal_check(mut committed: watch::Receiver<Position>) -> Check {
    let last = Arc::new(AtomicI64::new(utc().0));
    let seen = Arc::clone(&last);
    // Ends with ingest, which holds the sender.
    tokio::spawn(async move {
        while committed.changed().await.is_ok() {
            seen.store(utc().0, Ordering::Relaxed);
        }
    });
    let check = move || {
        let silence = utc().nanos_since(EventTime(last.load(Ordering::Relaxed)));
        if silence <= COMMIT_SILENCE_NS {
            return Ok(());
        }
        let seconds = silence as f64 / 1e9;
        Err(format!("no commit for {seconds:.1} s; the log says why"))
    };
    Check {
        name: "journal",
        check: Box::new(check),
    }
}

fn make_private_directory(path: &Path) -> Result<(), RunError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| RunError::DataDirectory {
        path: path.to_owned(),
        source,
    })
}

#[allow(
    clippy::disallowed_methods,
    reason = "the composer is the shell that gives everybody else the time"
)]
fn utc() -> EventTime {
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    EventTime(i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{BaselineRow, Batch, SeriesKey, State};
    use std::convert::Infallible;

    async fn cause(running: Running) -> String {
        match running.stop().await {
            Err(RunError::Ended { stage: "part", cause }) => cause,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_part_that_does_as_it_is_told_has_not_failed() {
        let told_to = |stop: watch::Receiver<bool>| async move {
            told(stop).await;
            Ok::<_, Infallible>(())
        };
        assert!(Running::task("part", told_to).stop().await.is_ok());
        let on_a_thread = Running::thread("part", |mut stop: watch::Receiver<bool>| {
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            runtime
                .block_on(stop.wait_for(|stop| *stop))
                .map(drop)
                .map_err(io::Error::other)
        });
        assert!(on_a_thread.unwrap().stop().await.is_ok());
    }

    #[tokio::test]
    async fn a_part_that_ends_by_itself_has_failed_with_its_reason() {
        let mut broken = Running::thread("part", |_| Err("the disk is gone")).unwrap();
        broken.ended().await;
        assert_eq!(cause(broken).await, "the disk is gone");

        let mut silent = Running::task("part", |_| async { Ok::<_, Infallible>(()) });
        silent.ended().await;
        assert_eq!(cause(silent).await, "nobody had told it to");
    }

    #[tokio::test]
    async fn a_part_that_panics_has_failed() {
        let mut panicked =
            Running::thread("part", |_| -> Result<(), Infallible> { panic!("on purpose") }).unwrap();
        panicked.ended().await;
        assert!(cause(panicked).await.contains("panicked"));
    }

    #[tokio::test]
    async fn a_part_that_fails_on_its_way_out_is_reported() {
        let part = |stop: watch::Receiver<bool>| async move {
            told(stop).await;
            Err("the last write failed")
        };
        assert_eq!(cause(Running::task("part", part)).await, "the last write failed");
    }

    /// A machine that its gateway watches.
    const WATCHED: &str = r#"
        [[site]]
        id = "plant"
        [[site.gateway]]
        id = "gw-1"
        watch = "on"
        [[site.area]]
        id = "hall"
        [[site.area.asset]]
        id = "fan"
        [[site.area.asset.shaft]]
        id = "s"
        rpm = 1500
        [[site.area.asset.point]]
        id = "p"
        shaft = "s"
        [[site.area.asset.point.channel]]
        id = "v"
        node = "00000000000000a1"
        channel = 0
        quantity = "acceleration"
        unit = "g"
        axis = "+v"
        range = 16
        band_hz = [1, 5000]
    "#;

    fn baseline(accepted: Option<i64>, closed: Option<i64>) -> Batch {
        let row = BaselineRow {
            series: SeriesKey {
                asset: "fan".to_owned(),
                point: "p".to_owned(),
                channel: "v".to_owned(),
            },
            generation: 0,
            speed_regime: 0,
            load_regime: 0,
            stage: String::new(),
            windows: 300,
            learned: None,
            accepted: accepted.map(EventTime),
            closed: closed.map(EventTime),
            note: None,
            normals: Vec::new(),
            group: None,
        };
        Batch {
            baselines: vec![row],
            ..Batch::default()
        }
    }

    /// A fleet file with a gateway that watches, its database, and what ingest is told, of which so many wait.
    fn watched(dir: &Path, bound: usize) -> (FleetFile, State, std::sync::mpsc::Receiver<IngestCommand>) {
        let database = dir.join("state.sqlite");
        let path = dir.join("fleet.toml");
        std::fs::write(&path, WATCHED).unwrap();
        let state = State::open(&database).unwrap();
        let (commands, told) = std::sync::mpsc::sync_channel(bound);
        let fleet = FleetFile {
            path,
            state: StateReader::open(&database).unwrap(),
            commands,
            sent: None,
            fleet: None,
            wanted: None,
            windows: WindowSettings::default(),
        };
        (fleet, state, told)
    }

    #[test]
    fn gateways_that_watch_are_told_what_people_have_accepted_or_closed_since() {
        let dir = tempfile::tempdir().unwrap();
        let (mut fleet, mut state, told) = watched(dir.path(), 8);
        fleet.follow();
        assert_eq!(told.try_iter().count(), 0, "the file has not been read");
        fleet.read();
        // When each baseline was accepted that the channel's gateway is to judge by, for every time it is told.
        let accepted = || -> Vec<Vec<i64>> {
            let wanted = told.try_iter().filter_map(|command| match command {
                IngestCommand::Wanted(wanted) => Some(wanted),
                _ => None,
            });
            let of_watches = wanted.map(|wanted| {
                let baselines = wanted.watches.values().flat_map(|watch| &watch.baselines);
                baselines.map(|(_, _, accepted)| accepted.0).collect()
            });
            of_watches.collect()
        };
        assert_eq!(accepted(), [Vec::<i64>::new()]);
        for (batch, expected) in [
            (baseline(None, None), None),
            (baseline(Some(7), None), Some(vec![7])),
            (baseline(Some(9), None), Some(vec![9])),
            (baseline(Some(9), Some(11)), Some(vec![])),
        ] {
            state.write(&batch).unwrap();
            fleet.follow();
            assert_eq!(accepted(), Vec::from_iter(expected));
            fleet.follow();
            assert_eq!(accepted(), Vec::<Vec<i64>>::new(), "nothing has changed since");
        }
    }

    #[test]
    fn what_could_not_be_handed_on_is_handed_on_at_the_next_look() {
        let dir = tempfile::tempdir().unwrap();
        let (mut fleet, mut state, told) = watched(dir.path(), 2);
        // The file and what it wants fill the queue.
        fleet.read();
        state.write(&baseline(Some(7), None)).unwrap();
        fleet.follow();
        assert_eq!(told.try_iter().count(), 2);
        fleet.follow();
        assert!(matches!(told.try_recv(), Ok(IngestCommand::Wanted(_))));
    }
}
