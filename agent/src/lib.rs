//! The gateway: takes frames from nodes, keeps them safe, and hands them to the collector.
//!
//! ```text
//!  tty --bytes--> port ==> line --frame--> intake --records--> block --commit--> spool ==> disk
//!                  ^         |                |                                     |
//!                  |         +--- time reply -> clock_sync --fix--> block           | flushed
//!                  |                                                                v
//!                  +<-------------- poll: what is safe, credit <--------------- gateway
//!                                                                                   |
//!  collector <==TLS, MQTT== mqtt <-- block <-- publisher <--- what is held ---------+
//!       +--- ack: what is durable ---> publisher ---> spool: free
//! ```
//!
//! Everything between the double arrows is the pure state machine of [`gateway`]: one owner, no locks,
//! no clock. The shells around it are a task per [`port`], one thread for the [`spool`]'s disk, a task
//! per MQTT connection ([`mqtt`]), and the loop in [`run`], which is the only place where they meet.
//!
//! A backlog drains beside what happens now ([`drain`]): the [`publisher`] fills two lanes, live and
//! history, the [`inventory`] knows what each held block holds, and [`endpoints`] says whom to connect to.
//!
//! What is promised at each hop: a node is told that a frame is safe after the flush of the block that
//! holds it; a block leaves the spool after the collector's acknowledgement. Whatever is lost anyway is
//! counted under a cause and reported to the collector.

pub mod advisory;
pub mod alarm;
pub mod backoff;
pub mod block;
pub mod clock;
pub mod clock_source;
pub mod clock_sync;
pub mod command;
pub mod config;
pub mod decode;
pub mod derive;
pub mod diag;
pub mod drain;
pub mod endpoints;
pub mod enrolment;
pub mod floor;
pub mod forecast;
pub mod gateway;
mod http;
pub mod intake;
pub mod introduction;
pub mod inventory;
pub mod line;
pub mod metrics;
pub mod mqtt;
mod number_file;
pub mod port;
pub mod probe;
pub mod publisher;
pub mod relay;
pub mod retention;
pub mod runs;
pub mod searcher;
pub mod spool;
pub mod spool_watch;
pub mod stand_in;
pub mod starts;
pub mod status;
pub mod timekeeper;
pub mod tls;
mod toml_section;
mod wake;
pub mod watch;

#[cfg(test)]
mod tests;

use crate::clock::{Clock, Now};
use crate::clock_source::Source;
use crate::command::record;
use crate::config::Config;
use crate::floor::Floor;
use crate::gateway::{Action, Gateway};
use crate::metrics::Metrics;
use crate::mqtt::{Connection, MqttEvent};
use crate::port::{Pace, Port, PortEvent, Turns};
use crate::spool::{Reply, Requests, Spool, SpoolError};
use crate::timekeeper::Timekeeper;
use crate::tls::TlsClock;
use crate::wake::Alarm;
use crate::watch::{Searched, Searching};
use bytes::Bytes;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch as latest;
use tokio::time::timeout;
use trunnion_common::id::{Epoch, MasterId};
use trunnion_common::time::{ClockQuality, EventTime};
use trunnion_common::watch::LocalWord;

/// Chunks of bytes from ports that may wait; beyond, ports are not read and nodes hold on to theirs.
const PORT_EVENTS_MAX: usize = 64;

/// Answers of spool and connection that may wait; beyond, those two wait.
const EVENTS_MAX: usize = 1_024;

/// Frames to a node that may wait for its line; beyond, they are dropped, as the next poll repeats them.
const WRITES_MAX: usize = 16;

/// How long a stop may take to get the last blocks onto the disk.
const FLUSH_PATIENCE: Duration = Duration::from_secs(10);

/// How long a stop waits for the collector to take what is in hand: the rest stays in the spool.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);

/// How long a stop waits for the spool's thread to do the rest: one that hangs is left behind.
const THREAD_PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked at then.
const THREAD_LOOK: Duration = Duration::from_millis(10);

/// How long a stop waits for the connection to end.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// How often the system is asked whether its clock is synchronised.
const QUALITY_INTERVAL: Duration = Duration::from_secs(10);

/// Later than anything; the timer cannot count to the end of time itself.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Why the agent cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The spool's thread hangs.
    #[error(
        "the spool at {path} has answered nothing for {} s: a call of its disk or database hangs, and no frame \
         is confirmed any more; start the agent again, which a service manager does by itself (nothing that was \
         confirmed is lost, nodes send the rest again), and look for errors of the disk in the system's log",
        silence.as_secs()
    )]
    SpoolSilent {
        /// Which.
        path: PathBuf,
        /// For how long it has owed an answer.
        silence: Duration,
    },
    /// The enrolment bundle's certificates.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// The metrics page.
    #[error("metrics_listen = \"{address}\": {source}; choose a free port")]
    Metrics {
        /// Where it should have been.
        address: std::net::SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system refused something basic.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Everything that can make the agent do something, beside time.
enum Event {
    Port(usize, PortEvent),
    Spool(Reply),
    Mqtt(u64, MqttEvent),
    /// A window was searched, which took so long.
    Searched(Box<Searched>, Duration),
    Shutdown,
}

/// Runs the agent until `shutdown` resolves; then stops it downstream: ports, intake, the last block,
/// the spool's flush, what the collector takes of the rest within a bound, the connection.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    tls::install_provider();
    // Before anything is started: a certificate that does not do stops the start.
    for endpoint in &config.enrolment.endpoints {
        tls::client_config(&config.enrolment, endpoint, &TlsClock::default())?;
    }
    let clock = Clock::new();
    let metrics = Metrics::default();
    let (mut shell, mut gateway) = Shell::start(&config, clock, &metrics).await?;
    let mut shutdown = std::pin::pin!(shutdown);
    let mut quality_due = Duration::ZERO;
    let mut alarm = Alarm::default();

    loop {
        let now = clock.now();
        if quality_due <= now.mono {
            gateway.handle_quality(shell.quality());
            quality_due = now.mono + QUALITY_INTERVAL;
            shell.keep_floor(&mut gateway, now);
            if let Some(written) = written_bytes() {
                gateway.handle_written(written, now);
            }
        }
        shell.perform_all(&mut gateway, now)?;
        alarm.set(shell.instant(gateway.next_timeout().min(quality_due)));
        let event = tokio::select! {
            biased;
            () = &mut shutdown => Event::Shutdown,
            Some(event) = shell.events.recv() => event,
            Some((line, event)) = shell.port_events.recv() => Event::Port(line, event),
            () = alarm.rings() => continue,
        };
        if matches!(event, Event::Shutdown) {
            break;
        }
        shell.handle(&mut gateway, event);
        // Lines are read in turns: what the others brought is there as well.
        while let Ok((line, event)) = shell.port_events.try_recv() {
            shell.handle(&mut gateway, Event::Port(line, event));
        }
    }

    tracing::info!("stopping");
    shell.stop(gateway).await
}

/// Whether the thread ends within `patience`. Not a join: the runtime would not end before it.
async fn has_ended<T>(thread: &std::thread::JoinHandle<T>, patience: Duration) -> bool {
    let end = async {
        while !thread.is_finished() {
            tokio::time::sleep(THREAD_LOOK).await;
        }
    };
    timeout(patience, end).await.is_ok()
}

const fn quality_of(source: Option<Source>) -> ClockQuality {
    match source {
        Some(_) => ClockQuality::Synchronised,
        None => ClockQuality::Free,
    }
}

/// Who synchronises the clock; whoever is asked may take a moment to answer.
async fn ask_clock_source() -> Option<Source> {
    tokio::task::spawn_blocking(clock_source::ask)
        .await
        .unwrap_or(None)
}

/// Asks again and again, until nobody wants to know.
async fn watch_clock_source(found: latest::Sender<Option<Source>>) {
    while !found.is_closed() {
        tokio::time::sleep(QUALITY_INTERVAL).await;
        let source = ask_clock_source().await;
        if *found.borrow() != source {
            tracing::info!(?source, "who synchronises the clock has changed");
        }
        found.send_replace(source);
    }
}

/// Bytes that this process has had written to disks, as proc(5) has it; `None` where it does not say.
fn written_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "))?;
    line.trim().parse().ok()
}

/// The clock floor as saved in the state directory. A file that does not do is no reason not to start.
fn open_floor(config: &Config, metrics: &Metrics) -> Floor {
    let saved = match floor::open(&config.state_dir) {
        Ok((saved, None)) => saved,
        Ok((_, Some(aside))) => {
            metrics.clock_floors_damaged.inc();
            tracing::warn!(aside = %aside.display(), "the file of the clock floor was damaged and is set aside");
            None
        }
        Err(error) => {
            metrics.clock_floors_damaged.inc();
            tracing::warn!(%error, directory = %config.state_dir.display(), "the clock floor cannot be read");
            None
        }
    };
    Floor::new(saved, tls::enrolled(&config.enrolment))
}

/// The doors to the outside.
struct Shell {
    config: Config,
    clock: Clock,
    start: tokio::time::Instant,
    metrics: Metrics,
    spool: Requests,
    spool_thread: std::thread::JoinHandle<()>,
    /// Windows to be searched.
    searches: SyncSender<Searching>,
    writes: Vec<Sender<Vec<u8>>>,
    paces: Vec<latest::Sender<Pace>>,
    port_events: Receiver<(usize, PortEvent)>,
    events: Receiver<Event>,
    events_in: Sender<Event>,
    connection: Option<Connection>,
    clock_source: latest::Receiver<Option<Source>>,
    tls_clock: TlsClock,
    /// The last writing of the clock floor's file.
    floor_saved: Option<tokio::task::JoinHandle<()>>,
    /// What the page shows of this gateway's own advisories.
    advisories: latest::Sender<Bytes>,
    /// Whether the exit relay is to be on, if there is one.
    relay: Option<latest::Sender<bool>>,
}

impl Shell {
    #[allow(
        clippy::disallowed_methods,
        reason = "the runtime's timer counts from an instant of its own"
    )]
    async fn start(config: &Config, clock: Clock, metrics: &Metrics) -> Result<(Self, Gateway), AgentError> {
        let system = |what| move |source| AgentError::System { what, source };
        let random =
            || getrandom::u64().map_err(|error| system("drawing a random number")(io::Error::other(error)));
        let (epochs, master) = ([Epoch(random()?), Epoch(random()?)], MasterId(random()?));

        let (spool, recovered) = Spool::open(&config.state_dir, epochs)?;
        tracing::info!(
            gateway = %config.enrolment.gateway,
            essential = %recovered.current[0].0,
            waveform = %recovered.current[1].0,
            blocks = recovered.blocks.len(),
            boots = recovered.cursors.len(),
            quarantined = recovered.quarantined.len(),
            "spool opened"
        );
        let (events_in, events) = channel(EVENTS_MAX);
        let replies = events_in.clone();
        let (spool, spool_thread) = spool::spawn(spool, config.retention, move |reply| {
            // An error says that the agent has stopped listening, and needs no answer.
            let _ = replies.blocking_send(Event::Spool(reply));
        })
        .map_err(system("starting the spool's thread"))?;

        let replies = events_in.clone();
        let searches = searcher::spawn(clock, move |searched, took| {
            // As above.
            let _ = replies.blocking_send(Event::Searched(Box::new(searched), took));
        })
        .map_err(system("starting the thread that searches"))?;

        let (advisories, _) = latest::channel(Bytes::from(advisory::page(&[])));
        let relay = config.relay.clone().map(|settings| {
            let (relay, wanted) = latest::channel(false);
            tokio::spawn(relay::run(settings, metrics.clone(), wanted));
            relay
        });
        if let Some(address) = config.metrics_listen {
            let local = http::serve(address, metrics.page(), advisories.subscribe())
                .await
                .map_err(|source| AgentError::Metrics { address, source })?;
            tracing::info!(address = %local, "metrics page answers");
        }

        let (port_events_in, port_events) = channel(PORT_EVENTS_MAX);
        let (mut writes, mut paces) = (Vec::new(), Vec::new());
        let turns = Turns::start().map_err(system("starting the timer of the lines' turns"))?;
        for (line, config) in config.ports.iter().enumerate() {
            let (write, queue) = channel(WRITES_MAX);
            writes.push(write);
            let (pace, wanted) = latest::channel(Pace::default());
            paces.push(pace);
            let port = Port {
                config: config.clone(),
                line,
                clock,
                metrics: metrics.clone(),
                events: port_events_in.clone(),
                turns: turns.clone(),
            };
            tokio::spawn(port.run(queue, wanted));
        }
        let mut timekeeper = Timekeeper::new(open_floor(config, metrics));
        let tls_clock = TlsClock::default();
        tls_clock.set_floor(timekeeper.floor().utc());
        let (clock_source_in, clock_source) = latest::channel(ask_clock_source().await);
        tokio::spawn(watch_clock_source(clock_source_in));
        timekeeper.handle_quality(quality_of(*clock_source.borrow()));
        // Only tells whose clock it is; what it would report is reported by the gateway.
        let _ = timekeeper.observe(clock.now());
        let started = timekeeper.correct(clock.now());
        let mut gateway = Gateway::new(config, recovered, master, metrics.clone(), started);
        gateway.handle_timekeeper(timekeeper);
        gateway.restore_commands(
            record::load(&config.state_dir).map_err(system("reading the record of commands"))?,
        );
        gateway.handle_former_starts(starts::note(&config.state_dir, master));
        let shell = Self {
            config: config.clone(),
            clock,
            start: tokio::time::Instant::now() - clock.now().mono,
            metrics: metrics.clone(),
            spool,
            spool_thread,
            searches,
            writes,
            paces,
            port_events,
            events,
            events_in,
            connection: None,
            clock_source,
            tls_clock,
            floor_saved: None,
            advisories,
            relay,
        };
        Ok((shell, gateway))
    }

    /// A time since the start, on the runtime's timer.
    fn instant(&self, since_start: Duration) -> tokio::time::Instant {
        self.start + since_start.min(FOREVER)
    }

    fn handle(&self, gateway: &mut Gateway, event: Event) {
        let now = self.clock.now();
        match event {
            Event::Port(line, event) => gateway.handle_port(line, event, now),
            Event::Spool(reply) => gateway.handle_spool(reply, now),
            Event::Mqtt(connection, event) => {
                if let Some(end) = self.tls_clock.verified_until() {
                    gateway.floor_mut().handle_verified(end);
                }
                let random = getrandom::u32().unwrap_or(u32::MAX);
                gateway.handle_mqtt(connection, event, random, now);
            }
            Event::Searched(searched, took) => gateway.handle_searched(&searched, took, now),
            Event::Shutdown => gateway.handle_shutdown(now),
        }
    }

    fn perform_all(&mut self, gateway: &mut Gateway, now: Now) -> Result<(), AgentError> {
        while let Some(action) = gateway.poll(now) {
            self.perform(gateway, action, now)?;
        }
        match gateway.spool_silence() {
            None => Ok(()),
            Some(silence) => Err(AgentError::SpoolSilent {
                path: self.config.state_dir.join("spool"),
                silence,
            }),
        }
    }

    fn perform(&mut self, gateway: &mut Gateway, action: Action, now: Now) -> Result<(), AgentError> {
        match action {
            Action::Write(line, bytes) => {
                if self.writes[line].try_send(bytes).is_err() {
                    self.metrics.writes_dropped.inc();
                }
            }
            // An error says that the port's task has ended.
            Action::Listen(line, pace) => {
                let _ = self.paces[line].send(pace);
            }
            Action::Spool(request) => self.spool.try_send(request).map_err(|error| AgentError::System {
                what: "handing work to the spool's thread",
                source: io::Error::other(match error {
                    TrySendError::Full(_) => "it is further behind than its bounds allow",
                    TrySendError::Disconnected(_) => "it has ended",
                }),
            })?,
            Action::Connect { endpoint, connection } => {
                self.connect(endpoint, connection, gateway.will(now))?;
            }
            Action::Subscribe => {
                if !self.connection.as_ref().is_some_and(Connection::subscribe) {
                    // The connection is over, which its own last event says.
                    tracing::debug!("subscription not taken");
                }
            }
            Action::Publish(kind, payload) => {
                self.publish(kind, payload);
            }
            Action::PublishBlock(key, bytes) => {
                if !self.publish(trunnion_common::topic::Kind::Data, bytes) {
                    gateway.handle_not_taken(key, now);
                }
            }
            Action::Advise { standing, closed } => self.advise(&standing, closed),
            Action::Search(window) => {
                if self.searches.try_send(*window).is_err() {
                    tracing::error!(
                        "the thread that searches windows for what is wrong has ended; start the agent again, and report it"
                    );
                }
            }
            Action::Disconnect => self.connection = None,
            // A few times a month; whatever follows has to wait for it anyway.
            Action::Keep(kept) => {
                let outcome = record::keep(&self.config.state_dir, &kept);
                if let Err(error) = &outcome {
                    tracing::error!(%error, "the disk does not take the record of commands");
                }
                gateway.handle_kept(outcome.is_ok(), now);
            }
        }
        Ok(())
    }

    /// Shows what this gateway holds against machines; `closed` is when the window closed that changed it.
    fn advise(&self, standing: &[LocalWord], closed: Duration) {
        self.advisories.send_replace(advisory::page(standing).into());
        if let (Some(relay), Some(settings)) = (&self.relay, &self.config.relay) {
            relay.send_replace(settings.is_on(standing));
        }
        let taken = self.clock.now().mono.saturating_sub(closed);
        self.metrics.observe_advisory(taken);
    }

    fn publish(&self, kind: trunnion_common::topic::Kind, payload: Bytes) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| connection.publish(kind, payload))
    }

    fn connect(&mut self, endpoint: usize, number: u64, will: Vec<u8>) -> Result<(), AgentError> {
        // One client id, one connection: the former is gone before the next is made.
        self.connection = None;
        let enrolment = &self.config.enrolment;
        let Some(endpoint) = enrolment.endpoints.get(endpoint) else {
            return Ok(());
        };
        tracing::debug!(%endpoint, connection = number, "connecting");
        let events = self.events_in.clone();
        let report = move |event| {
            let events = events.clone();
            async move {
                // An error says that the agent has stopped listening.
                let _ = events.send(Event::Mqtt(number, event)).await;
            }
        };
        self.connection = Some(Connection::start(
            enrolment,
            endpoint,
            &self.tls_clock,
            will,
            report,
        )?);
        Ok(())
    }

    /// What the system's clock is worth, as last heard.
    fn quality(&self) -> ClockQuality {
        quality_of(*self.clock_source.borrow())
    }

    /// Tells TLS of the clock floor, and has it written if that is due.
    fn keep_floor(&mut self, gateway: &mut Gateway, now: Now) {
        self.metrics.observe_clock(gateway.timekeeper());
        self.tls_clock.set_floor(gateway.timekeeper().floor().utc());
        if let Some(utc) = gateway.floor_mut().poll_save(now.mono) {
            self.save_floor(utc);
        }
    }

    fn save_floor(&mut self, utc: EventTime) {
        let state_dir = self.config.state_dir.clone();
        self.floor_saved = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = floor::save(&state_dir, utc) {
                tracing::warn!(%error, directory = %state_dir.display(), "the clock floor is not saved; certificates may not do after a cold boot");
            }
        }));
    }

    async fn stop(mut self, mut gateway: Gateway) -> Result<(), AgentError> {
        // Ports end when nobody receives from them; what has arrived by now is taken in.
        self.port_events.close();
        while let Some((line, event)) = self.port_events.recv().await {
            self.handle(&mut gateway, Event::Port(line, event));
            self.perform_all(&mut gateway, self.clock.now())?;
        }
        self.handle(&mut gateway, Event::Shutdown);
        let started = self.clock.now().mono;
        loop {
            self.perform_all(&mut gateway, self.clock.now())?;
            let waited = self.clock.now().mono.saturating_sub(started);
            let patience = if gateway.is_flushed() {
                DRAIN_PATIENCE
            } else {
                FLUSH_PATIENCE
            };
            let Some(left) = patience.checked_sub(waited).filter(|_| !gateway.is_drained()) else {
                break;
            };
            let wake = gateway.next_timeout().saturating_sub(self.clock.now().mono);
            if let Ok(Some(event)) =
                timeout(left.min(wake.max(Duration::from_millis(1))), self.events.recv()).await
            {
                self.handle(&mut gateway, event);
            }
        }
        let is_flushed = gateway.is_flushed();
        if let Some(connection) = self.connection.take() {
            connection.publish(
                trunnion_common::topic::Kind::Status,
                gateway.farewell(self.clock.now()),
            );
            // The connection's task reports to us and must not wait for us.
            self.events.close();
            connection.close(CLOSE_PATIENCE).await;
        }
        // One after the other: they write the same file.
        if let Some(saved) = self.floor_saved.take() {
            let _ = saved.await;
        }
        if let Some(utc) = gateway.timekeeper().floor().unsaved() {
            self.save_floor(utc);
        }
        if let Some(saved) = self.floor_saved.take() {
            let _ = saved.await;
        }
        drop(self.events);
        drop(self.spool);
        // Whatever it was asked for is done when it ends.
        let is_done = has_ended(&self.spool_thread, THREAD_PATIENCE).await;
        if !is_flushed {
            tracing::error!("stopped with blocks not on disk; nodes still hold their frames");
        } else if !is_done {
            tracing::warn!("stopped before the spool was closed; everything is on disk");
        } else {
            tracing::info!("stopped, everything on disk");
        }
        Ok(())
    }
}
