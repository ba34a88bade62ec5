//! Machines watched at the gateway itself, for the time when nobody else can. Pure.
//!
//! What a channel is judged by comes from the collector ([`Watch`]) and is kept with the record of commands.
//! The samples of a watched channel are cut into stretches of a second by the channel's rate, aligned to the
//! sample index; of each its statistics are kept as its frames come, in whatever order. A stretch is a window
//! for the [`Monitor`] as soon as its last sample has come and those before it are through; one with a hole
//! waits for the frames that are sent again until the channel is [`OPEN_BEHIND`] stretches further, and is then
//! judged by what it has, if that is enough. Readings of slow channels have windows of their own
//! (`watch/readings.rs`).
//!
//! How a machine is operated its witnesses say, as far as they come through this gateway
//! (`watch/witnesses.rs`): of a window that closes, the readings count that have been heard by then.
//!
//! Where the collector says which bearing is beside the sensor, a stretch is searched for what is wrong with that
//! once it has been judged, and where it says what is known of the shaft, one near its limits is examined for what
//! that may have (`watch/search.rs`, `watch/examination.rs`): [`Watches::poll_search`] hands it out, and
//! [`Watches::handle_searched`] takes what was found.
//!
//! Whether slow channels are as they were, alone and together, `watch/unusual.rs` says of the same windows.
//!
//! What changes is handed out at once ([`Watches::poll`]), with the time at which the window closed. After a
//! start each condition is told once, when it has been judged on as many windows as its persistence asks
//! for: so what a former start of the agent held and this one does not is given up by whoever hears of it.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | channels | [`WATCHES_MAX`] | the command is answered as unsupported |
//! | open stretches of a channel | [`OPEN_BEHIND`] + 1 | the first is judged by what it has |
//! | witnesses and their readings | see `watch/witnesses.rs` | see there |
//! | open windows of a slow channel | see `watch/readings.rs` | see there |
//! | what is unusual of slow channels | see `watch/unusual.rs` | see there |
//! | samples that are kept to be searched | see `watch/search.rs` | see there |
//! | changes not fetched | [`NEWS_MAX`] | the oldest is dropped, counted: the state shown is still right |
//! | conditions not told | one for each there is | a newer one takes its place |

mod examination;
mod readings;
mod search;
mod stream;
mod unusual;
mod witnesses;

pub use self::search::{Examinations, SAMPLES_MAX, Searched, Searches, Searching, Tally as SearchTally};
pub use self::stream::Arrival;
pub use self::unusual::Unusuals;

use self::examination::{Examining, ShaftHunt};
use self::readings::Readings;
use self::search::{BearingHunt, Change, Hunt, Queue};
use self::stream::{ENOUGH_PERCENT, Stream, Stretch, Velocity};
use self::unusual::Unusual;
use self::witnesses::{Waiting, Witnesses};
use crate::derive::features;
use crate::intake::BootKey;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use trunnion_common::block::Kind;
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::definition::{BANDS_MAX, Basis, SpeedSource};
use trunnion_common::feature::statistics::Statistics;
use trunnion_common::feature::velocity::{Passband, VelocityFilter, VelocityMeter};
use trunnion_common::frame::{ChannelDescriptor, Describe, Scalar, Waveform};
use trunnion_common::id::{BootId, ChannelId, NodeId};
use trunnion_common::level::Level;
use trunnion_common::monitor::{Assessment, Condition, Judged, Monitor, Settings, Window};
use trunnion_common::operating::Operating;
use trunnion_common::slow;
use trunnion_common::time::EventTime;
use trunnion_common::watch::{
    BearingSearch, Lines, LocalCondition, LocalFinding, LocalSuspicion, LocalUnusual, LocalWord, SlowWatch,
    SpectrumWatch, WATCHES_MAX, Watch,
};
use trunnion_diagnosis::diagnosis::Examination;
use trunnion_diagnosis::features::{NYQUIST_MARGIN, ShaftSpeed};

/// Stretches that stay open behind the newest one: a lost frame is repeated within a few polls.
pub const OPEN_BEHIND: u64 = 2;

/// Changes that wait to be fetched.
pub const NEWS_MAX: usize = 1_024;

/// A channel of a node, whatever its boot.
pub type Name = (NodeId, ChannelId);

/// What is watched.
pub type Plan = BTreeMap<Name, Watch>;

/// All channels that are watched.
#[derive(Debug, Default)]
pub struct Watches {
    points: BTreeMap<Name, Point>,
    tables: BTreeMap<BootKey, Describe>,
    witnesses: Witnesses,
    news: VecDeque<News>,
    /// What the collector is still to be told, as it is now.
    untold: BTreeMap<(Name, Condition), LocalCondition>,
    /// The same of bearings.
    untold_findings: BTreeMap<(Name, Condition), LocalFinding>,
    /// The same of what is unusual.
    untold_unusual: BTreeMap<(Name, Condition), LocalUnusual>,
    /// And of what is suspected of shafts.
    untold_suspicions: BTreeMap<(Name, Condition), LocalSuspicion>,
    unusual: Unusual,
    queue: Queue,
    tally: Tally,
}

/// A condition that has changed.
#[derive(Clone, PartialEq, Debug)]
pub struct News {
    /// As it is now.
    pub condition: LocalCondition,
    /// The lines, or the row of slow channels, that it rests on, where there are any.
    pub lines: Option<Lines>,
    /// The level before.
    pub before: Level,
    /// When the last byte of the window arrived that changed it.
    pub closed: Duration,
}

/// What was counted since this was last asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Windows judged.
    pub windows: u64,
    /// Windows with too few samples to decide on.
    pub undecided: u64,
    /// Changes dropped because nobody fetched them.
    pub dropped: u64,
}

impl Tally {
    fn note(&mut self, is_decided: bool) {
        self.windows += 1;
        self.undecided += u64::from(!is_decided);
    }
}

#[derive(Debug)]
struct Point {
    watch: Watch,
    /// What it is judged by: as told, with how often windows come.
    settings: Settings,
    monitor: Monitor,
    /// Of a vibration.
    stream: Option<Stream>,
    /// Of a slow channel.
    readings: Readings,
    waiting: Waiting,
    /// Of each condition: as it was last told, or would be.
    held: Vec<LocalCondition>,
    /// Of what is judged when a window closes.
    telling: Telling,
    /// Of what only its spectra tell.
    spectral: Telling,
    /// What it is searched for, besides.
    hunt: Option<Hunt>,
}

/// Once enough windows have been decided on, it is told what does not hold, too.
#[derive(Clone, Copy, Debug, Default)]
struct Telling {
    /// Decided windows since it began, no more than matter.
    decided: u8,
    is_told: bool,
}

impl Telling {
    /// Whether it is to be told with this window.
    fn note(&mut self, is_decided: bool) -> bool {
        self.decided = self.decided.saturating_add(u8::from(is_decided));
        let is_due = usize::from(self.decided) >= trunnion_common::level::Latch::CLEAR_WINDOWS;
        is_due && !std::mem::replace(&mut self.is_told, is_due)
    }
}

/// Windows of a slow channel that were judged.
#[derive(Debug, Default)]
struct JudgedReadings {
    news: Vec<News>,
    windows: Vec<JudgedWindow>,
}

#[derive(Debug)]
struct JudgedWindow {
    boot: BootId,
    readings: slow::Window,
    /// Whether the machine stood still.
    is_off: bool,
}

/// How a stretch was judged.
#[derive(Debug)]
struct JudgedStretch {
    end: EventTime,
    is_decided: bool,
    /// How its machine was operated.
    operating: Operating,
    values: Vec<(FeatureKind, f32)>,
    statistics: Option<Statistics>,
    assessment: Assessment,
}

impl Watches {
    /// Watches this from now on, searches it for that, and looks for that in its spectra. What has not changed goes
    /// on; what was held by what is judged or sought no more is given up.
    pub fn configure(
        &mut self,
        plan: &Plan,
        searches: &Searches,
        examinations: &Examinations,
        now: Duration,
    ) {
        let known: Vec<Name> = self.points.keys().copied().collect();
        for name in known {
            let is_watched = plan.contains_key(&name);
            let is_searched = is_watched && searches.contains_key(&name);
            let is_examined = is_watched && examinations.contains_key(&name);
            let stays = |condition: Condition| match condition {
                Condition::Bearing(_) => is_searched,
                Condition::Suspected(_) => is_examined,
                condition if is_measured(condition) => is_examined,
                Condition::Severity | Condition::Deviation(_) | Condition::Instrument => is_watched,
                // Held elsewhere.
                Condition::Unusual | Condition::UnusualTogether => true,
            };
            self.give_up(name, stays, now);
            if !is_watched {
                self.queue.forget(name);
            }
        }
        self.points.retain(|name, _| plan.contains_key(name));
        for (name, watch) in plan.iter().take(WATCHES_MAX) {
            if self.points.get(name).is_none_or(|point| point.watch != *watch) {
                self.points.insert(*name, Point::new(watch.clone()));
            }
            let search = searches.get(name).filter(|_| watch.slow.is_none());
            let spectra = examinations.get(name).filter(|_| watch.slow.is_none());
            if let Some(point) = self.points.get_mut(name)
                && !point.hunts(search, spectra)
            {
                self.queue.forget(*name);
                let (bearing, shaft) = point.hunts_for(search, spectra);
                point.hunt = self.queue.begin(bearing, shaft);
            }
        }
        self.witnesses.configure(plan);
    }

    /// Judges from now on whether slow channels that are watched are as they were.
    pub fn follow(&mut self, unusuals: &Unusuals, now: Duration) {
        let news = self.unusual.configure(unusuals, now);
        self.news.extend(news);
        self.bound_news();
    }

    /// Gives up what is held against a channel and does not stay.
    fn give_up(&mut self, name: Name, stays: impl Fn(Condition) -> bool, now: Duration) {
        let Some(point) = self.points.get_mut(&name) else {
            return;
        };
        let is_over = |held: &&mut LocalCondition| held.level > Level::Normal && !stays(held.condition);
        for held in point.held.iter_mut().filter(is_over) {
            let before = held.level;
            // The latest word holds.
            (held.level, held.at) = (Level::Normal, held.at.plus_nanos(1));
            self.news.push_back(News {
                condition: *held,
                lines: None,
                before,
                closed: now,
            });
        }
        self.bound_news();
    }

    /// A node's channel table.
    pub fn handle_describe(&mut self, key: BootKey, describe: &Describe) {
        self.tables.insert(key, describe.clone());
    }

    /// Forgets the boots that are not known any more.
    pub fn retain(&mut self, knows: impl Fn(BootKey) -> bool) {
        self.tables.retain(|key, _| knows(*key));
    }

    /// Takes in samples that were not taken in before.
    pub fn handle_waveform(&mut self, key: BootKey, waveform: &Waveform<'_>, arrival: Arrival<'_>) {
        let name = (key.0, waveform.channel);
        let Some(point) = self.points.get_mut(&name) else {
            return;
        };
        let table = self.tables.get(&key);
        if table
            .and_then(|table| point.follow(key.1, table, waveform))
            .is_none()
        {
            return;
        }
        let taken = self.set_aside(name);
        let waiting = self.queue.waiting(name);
        let Some(point) = self.points.get_mut(&name) else {
            return;
        };
        if point.take(waveform, &arrival, waiting, taken).is_none() {
            return;
        }
        while let Some(mut stretch) = point.next_window() {
            let Some(judged) = point.judge(&stretch, &self.witnesses, arrival.mono) else {
                break;
            };
            self.tally.note(judged.is_decided);
            let conditions = &judged.assessment.judged;
            let at = (judged.end, arrival.mono);
            let is_due = point.telling.note(judged.is_decided);
            let news = point.tell(name, key.1, conditions, is_due, at);
            self.news.extend(news);
            point.seek(name, &mut stretch, judged, arrival.mono, &mut self.queue);
        }
        self.bound_news();
    }

    /// Samples that the search of other channels has set aside, where that matters for this one.
    fn set_aside(&self, name: Name) -> u64 {
        let is_short = |hunt: &Hunt| hunt.room.is_none();
        let hunt = self.points.get(&name).and_then(|point| point.hunt.as_ref());
        if !hunt.is_some_and(is_short) {
            return 0;
        }
        let hunts = self.points.values().filter_map(|point| point.hunt.as_ref());
        hunts.filter_map(|hunt| hunt.room).sum()
    }

    /// The next window to be searched, if it is time for one.
    pub fn poll_search(&mut self, now: Duration) -> Option<Searching> {
        self.queue.poll(now)
    }

    /// When there will be one.
    pub fn next_search(&self) -> Option<Duration> {
        self.queue.next_timeout()
    }

    /// What was found in the window that was handed out, and how long that took.
    pub fn handle_searched(&mut self, searched: &Searched, took: Duration, now: Duration) {
        self.queue.handle_done(searched, took, now);
        let Some(point) = self.points.get_mut(&searched.name) else {
            return;
        };
        let (hunt, interval_ns) = (point.hunt.as_mut(), point.settings.interval_ns);
        let found = hunt.map(|hunt| hunt.handle_window(searched, interval_ns));
        let found = found.unwrap_or_default();
        if !found.judged.is_empty() {
            let is_due = point.spectral.note(found.is_decided);
            let at = (searched.end, searched.closed);
            let news = point.tell(searched.name, searched.boot, &found.judged, is_due, at);
            self.news.extend(news);
        }
        for change in found.changes {
            let news = point.note_found(searched, change);
            self.news.push_back(news);
        }
        self.bound_news();
    }

    /// What was counted of searches since this was last asked.
    pub fn take_search_tally(&mut self) -> SearchTally {
        std::mem::take(&mut self.queue.tally)
    }

    /// Takes in readings of a slow channel that were not taken in before.
    pub fn handle_scalar(&mut self, key: BootKey, scalar: &Scalar, arrival: Arrival<'_>) {
        let name = (key.0, scalar.channel);
        let table = self
            .tables
            .get(&key)
            .filter(|table| table.revision == scalar.revision);
        let Some(descriptor) = table.and_then(|table| table.channels.get(scalar.channel.index())) else {
            return;
        };
        let readings = || {
            let count = scalar.readings.len() as u64;
            (0..count).zip(&scalar.readings).map(move |(at, reading)| {
                let time = arrival.of_reading(at, count, descriptor.rate_mhz);
                (time, reading.unwrap_or(f32::NAN))
            })
        };
        self.witnesses.note(name, descriptor.unit, readings());
        let Some(point) = self.points.get_mut(&name) else {
            return;
        };
        let Some(slow) = point.watch.slow else {
            return;
        };
        point.take_readings(key.1, &slow, descriptor, readings(), &arrival);
        let judged = point.judge_readings(name, &slow, &self.witnesses, arrival.mono, &mut self.tally);
        self.news.extend(judged.news);
        for window in judged.windows {
            let news = self.unusual.handle_window(name, &window, arrival.mono);
            self.news.extend(news);
        }
        self.bound_news();
    }

    /// Time has passed: readings that are missing are waited for no longer, and channels fall silent.
    pub fn handle_time(&mut self, utc: EventTime, mono: Duration) {
        for (name, point) in &mut self.points {
            if let Some(slow) = point.watch.slow {
                let judged = point.judge_readings(*name, &slow, &self.witnesses, mono, &mut self.tally);
                self.news.extend(judged.news);
                for window in judged.windows {
                    let news = self.unusual.handle_window(*name, &window, mono);
                    self.news.extend(news);
                }
            }
            if let Some(judged) = point.monitor.handle_time(utc, &point.settings)
                && let Some(boot) = point.boot()
            {
                let news = point.note(*name, boot, &judged, utc, mono);
                self.news.extend(news);
            }
        }
        self.bound_news();
    }

    /// What has changed, until there is nothing.
    pub fn poll(&mut self) -> Option<News> {
        let news = self.news.pop_front()?;
        let told = news.condition;
        let name = (told.node, told.channel);
        let key = (name, told.condition);
        match told.condition {
            Condition::Bearing(element) => {
                if element.is_some() && told.level > Level::Normal {
                    // It takes the place of the one of which no element showed.
                    self.untold_findings.remove(&(name, Condition::Bearing(None)));
                }
                let claim = news.lines.clone().and_then(Lines::of_bearing);
                self.untold_findings.insert(key, LocalFinding { told, claim });
            }
            Condition::Suspected(_) => {
                let claim = news.lines.clone().and_then(Lines::of_shaft);
                self.untold_suspicions.insert(key, LocalSuspicion { told, claim });
            }
            Condition::Severity | Condition::Deviation(_) | Condition::Instrument => {
                self.untold.insert(key, told);
            }
            Condition::Unusual | Condition::UnusualTogether => {
                let shown = news.lines.clone().and_then(Lines::of_row);
                self.untold_unusual.insert(key, LocalUnusual { told, shown });
            }
        }
        Some(news)
    }

    /// The bodies of the next blocks of [`LocalCondition`]s, [`LocalFinding`]s, [`LocalSuspicion`]s and
    /// [`LocalUnusual`]s, once changes have been fetched.
    pub fn poll_bodies(&mut self) -> impl Iterator<Item = (Kind, Vec<u8>)> + use<> {
        let conditions = encoded(std::mem::take(&mut self.untold).values());
        let findings = encoded(std::mem::take(&mut self.untold_findings).values());
        let suspicions = encoded(std::mem::take(&mut self.untold_suspicions).values());
        let unusual = encoded(std::mem::take(&mut self.untold_unusual).values());
        let bodies = [
            (Kind::Condition, conditions),
            (Kind::Finding, findings),
            (Kind::Suspicion, suspicions),
            (Kind::Unusual, unusual),
        ];
        bodies.into_iter().filter(|(_, body)| !body.is_empty())
    }

    /// What is held against machines now, the worst first.
    pub fn standing(&self) -> Vec<LocalCondition> {
        let held = self.points.values().flat_map(|point| &point.held);
        let held = held.filter(|held| held.level > Level::Normal).copied();
        let unusual = self.unusual.standing().map(|word| word.told);
        let mut standing: Vec<_> = held.chain(unusual).collect();
        standing.sort_by_key(|held| (std::cmp::Reverse(held.level), held.raised));
        standing
    }

    /// The same, with the lines or the row that it rests on.
    pub fn words(&self) -> Vec<LocalWord> {
        let standing = self.standing().into_iter();
        let words = standing.map(|told| LocalWord {
            lines: self.lines(&told),
            told,
        });
        words.collect()
    }

    fn lines(&self, told: &LocalCondition) -> Option<Lines> {
        match told.condition {
            Condition::Unusual | Condition::UnusualTogether => {
                let mut held = self.unusual.standing();
                held.find(|word| word.told == *told)?.lines.clone()
            }
            condition => {
                let hunt = self.points.get(&(told.node, told.channel))?.hunt.as_ref()?;
                hunt.lines(condition)
            }
        }
    }

    /// How many channels are watched.
    pub fn channels(&self) -> usize {
        self.points.len()
    }

    /// What was counted since this was last asked.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    fn bound_news(&mut self) {
        while self.news.len() > NEWS_MAX {
            self.news.pop_front();
            self.tally.dropped += 1;
        }
    }
}

impl Point {
    fn new(watch: Watch) -> Self {
        let mut settings = watch.settings.clone();
        if watch.slow.is_none() {
            settings
                .watched
                .retain(|watched| !examination::is_spectral(watched.kind));
        }
        Self {
            settings,
            monitor: monitor(&watch),
            watch,
            stream: None,
            readings: Readings::default(),
            waiting: Waiting::default(),
            held: Vec::new(),
            telling: Telling::default(),
            spectral: Telling::default(),
            hunt: None,
        }
    }

    /// What is to look for that: what did before goes on.
    fn hunts_for(
        &mut self,
        search: Option<&BearingSearch>,
        spectra: Option<&SpectrumWatch>,
    ) -> (Option<BearingHunt>, Option<ShaftHunt>) {
        let (bearing, shaft) = self
            .hunt
            .take()
            .map_or((None, None), |hunt| (hunt.bearing, hunt.shaft));
        let bearing = search.map(|search| {
            let same = bearing.filter(|bearing| bearing.search == *search);
            same.unwrap_or_else(|| BearingHunt::new(search.clone()))
        });
        let shaft = spectra.map(|spectra| {
            let same = shaft.filter(|shaft| shaft.spectra == *spectra);
            same.unwrap_or_else(|| {
                // Another monitor knows nothing of what the one before held, and says so after some windows.
                self.held.retain(|held| !is_measured(held.condition));
                self.spectral = Telling::default();
                ShaftHunt::new(spectra.clone(), &self.watch, monitor(&self.watch))
            })
        });
        (bearing, shaft)
    }

    /// Whether it is searched for that, and no more.
    fn hunts(&self, search: Option<&BearingSearch>, spectra: Option<&SpectrumWatch>) -> bool {
        match &self.hunt {
            Some(hunt) => hunt.is_for(search, spectra),
            None => search.is_none() && spectra.is_none(),
        }
    }

    /// Which life of its node was heard last.
    fn boot(&self) -> Option<BootId> {
        let stream = self.stream.as_ref().map(|stream| stream.boot);
        stream.or(self.readings.boot)
    }

    /// Turns to the stream that a waveform belongs to: a new one for another boot or table.
    fn follow(&mut self, boot: BootId, table: &Describe, waveform: &Waveform<'_>) -> Option<()> {
        let revision = waveform.revision;
        let descriptor = table
            .channels
            .get(waveform.channel.index())
            .filter(|_| table.revision == revision)?;
        let is_it = |stream: &Stream| (stream.boot, stream.revision) == (boot, revision);
        if !self.stream.as_ref().is_some_and(is_it) {
            let interval = u128::from(self.watch.settings.interval_ns.unsigned_abs());
            // Nanoseconds, times thousandths of a hertz.
            let size = interval * u128::from(descriptor.rate_mhz) / 1_000_000_000_000;
            let size = u64::try_from(size).ok().filter(|size| *size > 0)?;
            let first = waveform.first_sample;
            let velocity = self.velocity_meter(descriptor).map(|meter| Velocity {
                fresh: meter,
                meter,
                next: first,
            });
            self.stream = Some(Stream {
                boot,
                revision,
                unit: descriptor.unit,
                scale: f64::from(descriptor.scale) * f64::from(self.watch.gain),
                rate_mhz: descriptor.rate_mhz,
                high_hz: high_hz(descriptor),
                size,
                // The stretch in which this begins is heard from its middle on.
                next: first.div_ceil(size),
                newest: first / size,
                open: BTreeMap::new(),
                velocity,
            });
            if let Some(hunt) = &mut self.hunt {
                hunt.room = None;
            }
        }
        Some(())
    }

    /// Adds a frame to the stretches that it reaches into. So many windows of the channel wait to be searched, and
    /// others have set aside `taken` samples for that.
    fn take(
        &mut self,
        waveform: &Waveform<'_>,
        arrival: &Arrival<'_>,
        waiting: u64,
        taken: u64,
    ) -> Option<()> {
        let stream = self.stream.as_mut()?;
        let kept = stream.open.values().filter(|stretch| stretch.samples.is_some());
        let kept = waiting + kept.count() as u64;
        let size = stream.size;
        let hunt = self.hunt.as_mut().filter(|hunt| !hunt.is_idle());
        let places = hunt.map(|hunt| hunt.places(size, kept, taken));
        stream.take(waveform, arrival, places.unwrap_or(0))
    }

    /// Has a stretch searched that has been judged so.
    fn seek(
        &self,
        name: Name,
        stretch: &mut Stretch,
        judged: JudgedStretch,
        closed: Duration,
        queue: &mut Queue,
    ) {
        let (Some(hunt), Some(stream)) = (&self.hunt, &self.stream) else {
            return;
        };
        if hunt.is_idle() {
            return;
        }
        let Some(samples) = stretch.samples.take() else {
            let tally = &mut queue.tally;
            *if hunt.room.is_none() {
                &mut tally.no_room
            } else {
                &mut tally.behind
            } += 1;
            return;
        };
        let operating = judged.operating;
        // Nobody could judge by it.
        if self.waiting != Waiting::Over || operating.hides_orders() {
            return;
        }
        let declared_hz = f64::from(self.watch.speed_hz.unwrap_or(0.0));
        let tolerance = hunt
            .bearing
            .as_ref()
            .map_or(0.0, |bearing| bearing.search.speed_tolerance);
        let declared = ShaftSpeed::declared(declared_hz, tolerance);
        let shaft = ShaftSpeed::during(&operating, self.watch.operation.tells_speed(), declared);
        let end = judged.end;
        let examining = hunt
            .shaft
            .as_ref()
            .map(|hunt| self.examining(hunt, stream, judged));
        queue.push(hunt.searching(
            (name, stream.boot),
            (stretch, samples),
            (end, closed),
            (f64::from(stream.rate_mhz) / 1e3, stream.high_hz),
            shaft,
            examining,
        ));
    }

    /// With what a stretch is examined that was judged so.
    fn examining(&self, hunt: &ShaftHunt, stream: &Stream, judged: JudgedStretch) -> Examining {
        let regime = judged.assessment.regime;
        let limits = self.monitor.limits(Level::Alert, regime, &self.watch.settings);
        let [low_hz, high_hz] = hunt.spectra.band_hz;
        let speed_hz = self.watch.speed_hz;
        let mut bands = [None; BANDS_MAX];
        for (place, band) in bands.iter_mut().zip(&hunt.spectra.bands) {
            *place = Some(*band);
        }
        Examining {
            examination: Examination::new(&limits, &hunt.train),
            basis: Basis {
                unit: stream.unit,
                rate_hz: f64::from(stream.rate_mhz) / 1e3,
                seconds: self.settings.interval_ns as f64 / 1e9,
                usable_low_hz: low_hz,
                usable_high_hz: high_hz.min(stream.high_hz),
                shaft_hz: f64::from(speed_hz.unwrap_or(0.0)),
                speed: speed_hz.map_or(SpeedSource::Unknown, |_| SpeedSource::Declared),
                envelope_hz: hunt.spectra.envelope_hz.map(<(f32, f32)>::from),
                bands,
            },
            is_measured: hunt.is_measured(),
            values: judged.values,
            statistics: judged.statistics,
            operating: judged.operating,
            assessment: judged.assessment,
        }
    }

    /// A meter of the velocity, where that is judged and can be had.
    fn velocity_meter(&self, channel: &ChannelDescriptor) -> Option<VelocityMeter> {
        let settings = &self.watch.settings;
        let watched = settings.watched.iter().map(|watched| watched.kind);
        let mut judged = watched.chain(settings.severity.map(|severity| severity.kind));
        judged.find(|kind| *kind == FeatureKind::VelocityRms)?;
        let band = Passband::for_speed(f64::from(self.watch.speed_hz.unwrap_or(0.0)));
        let rate_hz = f64::from(channel.rate_mhz) / 1e3;
        VelocityFilter::new(channel.unit, rate_hz, band).map(VelocityMeter::new)
    }

    /// The next stretch to be judged, if there is one.
    fn next_window(&mut self) -> Option<Stretch> {
        let stream = self.stream.as_mut()?;
        let (&number, stretch) = stream.open.first_key_value()?;
        let is_whole = number == stream.next && u64::from(stretch.moments.count()) == stream.size;
        if !is_whole && number + OPEN_BEHIND > stream.newest {
            return None;
        }
        stream.next = number + 1;
        stream.open.pop_first().map(|(_, stretch)| stretch)
    }

    /// Judges a stretch; none without the stream that it is of.
    fn judge(&mut self, stretch: &Stretch, witnesses: &Witnesses, closed: Duration) -> Option<JudgedStretch> {
        let stream = self.stream.as_ref()?;
        let is_early = self.waiting.is_early(witnesses, &self.watch.operation, closed);
        let statistics = stretch.moments.statistics(stream.scale);
        let is_enough = u64::from(stretch.moments.count()) * 100 >= ENOUGH_PERCENT * stream.size;
        let statistics = statistics.filter(|_| is_enough && !is_early);
        let velocity = stretch.velocity.map(|rms| (FeatureKind::VelocityRms, rms));
        let values: Vec<(FeatureKind, f32)> = statistics.iter().flat_map(features).chain(velocity).collect();
        let end = stretch.start.plus_nanos(self.settings.interval_ns);
        let window = Window {
            start: stretch.start,
            end,
            is_decided: statistics.is_some(),
            statistics: statistics.as_ref(),
            values: &values,
        };
        let operating = witnesses.operating(&self.watch, end);
        let assessment = self.monitor.handle_window(&window, &operating, &self.settings);
        Some(JudgedStretch {
            end,
            is_decided: window.is_decided,
            operating,
            values,
            statistics,
            assessment,
        })
    }

    fn take_readings(
        &mut self,
        boot: BootId,
        slow: &SlowWatch,
        descriptor: &ChannelDescriptor,
        readings: impl Iterator<Item = (EventTime, f32)>,
        arrival: &Arrival<'_>,
    ) {
        // What measures something else than is declared is not judged.
        let Some(factor) = descriptor.unit.factor_to(slow.unit) else {
            return;
        };
        let gain = f64::from(self.watch.gain) * factor;
        let windows = &mut self.readings;
        (windows.boot, windows.rate_mhz) = (Some(boot), descriptor.rate_mhz);
        for (number, (time, value)) in readings.enumerate() {
            if number == 0 {
                windows.delay.note(time, arrival.utc);
            }
            windows.take(slow, time, f64::from(value) * gain, arrival.mono);
        }
    }

    /// Judges the windows of readings that are due: what is new, and the windows.
    fn judge_readings(
        &mut self,
        name: Name,
        slow: &SlowWatch,
        witnesses: &Witnesses,
        mono: Duration,
        tally: &mut Tally,
    ) -> JudgedReadings {
        let mut windows = JudgedReadings::default();
        let Some(boot) = self.readings.boot else {
            return windows;
        };
        while let Some(window) = self.readings.next_window(slow, mono) {
            let Readings { rate_mhz, delay, .. } = &self.readings;
            let declared = self.watch.settings.interval_ns;
            self.settings.interval_ns = slow::interval_ns(declared, slow.size_ns, *rate_mhz, delay);
            let is_off = witnesses.operating(&self.watch, window.end).is_running == Some(false);
            let memory = &mut self.readings.memory;
            let assessed =
                memory.handle_window(&mut self.monitor, &window, is_off, slow.below, &self.settings);
            let limits = assessed.limits.map(|(judged, _)| judged);
            let judged: Vec<Judged> = assessed.others().copied().chain(limits).collect();
            let is_decided = window.summary.is_some();
            tally.note(is_decided);
            let is_due = self.telling.note(is_decided);
            let news = self.tell(name, boot, &judged, is_due, (window.end, mono));
            windows.news.extend(news);
            windows.windows.push(JudgedWindow {
                boot,
                readings: window,
                is_off,
            });
        }
        windows
    }

    /// Keeps how conditions stand after a window, which ended and closed then; what is to be told of them. Once it is
    /// due, that is also what does not hold.
    fn tell(
        &mut self,
        name: Name,
        boot: BootId,
        judged: &[Judged],
        is_due: bool,
        (end, closed): (EventTime, Duration),
    ) -> Vec<News> {
        let mut news: Vec<News> = judged
            .iter()
            .filter_map(|judged| self.note(name, boot, judged, end, closed))
            .collect();
        if is_due {
            let is_told = |condition| news.iter().any(|news| news.condition.condition == condition);
            let is_meant = |held: &&LocalCondition| {
                let mut judged = judged.iter();
                held.level == Level::Normal && judged.any(|judged| judged.condition == held.condition)
            };
            let untold: Vec<News> = self
                .held
                .iter()
                .filter(|held| is_meant(held) && !is_told(held.condition))
                .map(|held| News {
                    condition: LocalCondition { at: end, ..*held },
                    lines: None,
                    before: Level::Normal,
                    closed,
                })
                .collect();
            news.extend(untold);
        }
        news
    }

    /// Keeps how a condition stands; what is to be told of it, if that is anything new.
    fn note(
        &mut self,
        name: Name,
        boot: BootId,
        judged: &Judged,
        at: EventTime,
        closed: Duration,
    ) -> Option<News> {
        let severity = self.watch.settings.severity;
        let standard = severity.filter(|_| judged.condition == Condition::Severity);
        let found = self
            .held
            .iter_mut()
            .find(|held| held.condition == judged.condition);
        let (before, raised) = match &found {
            Some(held) if held.level > Level::Normal => (held.level, held.raised),
            _ => (Level::Normal, at),
        };
        let now = LocalCondition {
            node: name.0,
            boot,
            channel: name.1,
            condition: judged.condition,
            level: judged.held,
            raised,
            at,
            evidence: judged.evidence,
            standard: standard.map(|severity| severity.criterion.standard()),
        };
        let has_changed = judged.held != before;
        match found {
            Some(held) if has_changed || held.level == Level::Normal => *held = now,
            Some(_) => {}
            None => self.held.push(now),
        }
        has_changed.then_some(News {
            condition: now,
            lines: None,
            before,
            closed,
        })
    }

    /// Keeps how a fault or a suspicion stands that a search has found; what is to be told of it.
    fn note_found(&mut self, searched: &Searched, change: Change) -> News {
        let Change {
            condition,
            level,
            raised,
            lines,
        } = change;
        let before = self.held.iter().find(|held| held.condition == condition);
        let before = before.map_or(Level::Normal, |held| held.level);
        let now = LocalCondition {
            node: searched.name.0,
            boot: searched.boot,
            channel: searched.name.1,
            condition,
            level,
            raised,
            at: searched.end,
            evidence: None,
            standard: None,
        };
        let is_replaced = |held: &LocalCondition| {
            let names = matches!(condition, Condition::Bearing(_)) && level > Level::Normal;
            (names && held.condition == Condition::Bearing(None)) || held.condition == condition
        };
        self.held.retain(|held| !is_replaced(held));
        self.held.push(now);
        News {
            condition: now,
            lines,
            before,
            closed: searched.closed,
        }
    }
}

/// Whether a condition is of a feature that only spectra tell.
const fn is_measured(condition: Condition) -> bool {
    matches!(condition, Condition::Deviation(kind) if examination::is_spectral(kind))
}

/// What judges by a watch, before any window.
fn monitor(watch: &Watch) -> Monitor {
    let mut monitor = Monitor::default();
    for (regime, normals, accepted) in &watch.baselines {
        // There are as many places as a watch can hold.
        let _ = monitor.adopt(*regime, normals, *accepted);
    }
    monitor
}

/// Up to where a channel's samples show anything, Hz: its sensor's band, and what sampling leaves of it.
fn high_hz(channel: &ChannelDescriptor) -> f64 {
    let rate_hz = f64::from(channel.rate_mhz) / 1e3;
    f64::from(channel.band_high_hz).min(rate_hz / NYQUIST_MARGIN)
}

/// Records back to back.
fn encoded<'a, T: Serialize + 'a>(records: impl Iterator<Item = &'a T>) -> Vec<u8> {
    records.fold(Vec::new(), |body, record| {
        postcard::to_extend(record, body).expect("a vector takes any length, and the contract's types encode")
    })
}

#[cfg(test)]
mod tests;
