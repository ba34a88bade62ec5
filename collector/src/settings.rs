//! Settings that outputs depend on: journaled, each from its time on.
//!
//! The configuration's are journaled at each start ([`crate::journal::Entry::Settings`]) and reach the
//! pipeline from there alone, so that a replay cuts every window as it was cut then. How event time is
//! cut is looked up by event time; everything else by the journal's clock.
//!
//! A change must not cut anew what has been cut already. So it holds, at the earliest, from past the
//! latest time stamp that may have been placed: the journal's clock and the lead that a stamp may have
//! on it. A window that a change cuts short is judged against its full length, hence mostly undecided.

pub mod stream;

use crate::window::shape::{Kind, SIZE_MAX_NS};
use crate::window::stream::Emit;
use crate::window::{Cut, WindowSettings};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Bound;
use stream::{Key, STREAMS_MAX, Selector, StreamFault, StreamSettings, Streams};
use trunnion_common::time::EventTime;

/// Changes kept: so many may lie between a sample and its arrival; before those, the oldest one holds.
pub const CHANGES_MAX: usize = 64;

/// What outputs depend on beside the data and the fleet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Most bytes of frames that wait for their clock fix or channel table.
    pub waiting_bytes_max: usize,
    /// The streams configured; none in a text from before there were any.
    #[serde(default, rename = "stream")]
    pub streams: Streams,
    /// How windows are cut and when they fire.
    pub windows: WindowSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // Over ten minutes of a channel at 25.6 kHz.
            waiting_bytes_max: 32 << 20,
            streams: Streams::default(),
            windows: WindowSettings::default(),
        }
    }
}

/// A journaled text that holds no settings.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SettingsError {
    /// It is not the text of settings.
    #[error("no settings of the pipeline: {0}")]
    Text(#[from] toml::de::Error),
    /// There are more streams than are told apart.
    #[error("{0} streams, of which there are {STREAMS_MAX} at most")]
    TooManyStreams(usize),
    /// Two streams are called the same.
    #[error("two streams are called {0:?}")]
    SameName(String),
    /// A stream that cannot be.
    #[error("the stream {name:?} {fault}")]
    Stream {
        /// Which.
        name: String,
        /// Why not.
        fault: StreamFault,
    },
}

impl Settings {
    /// As the text that is journaled: every field is in it, so that a later build's defaults change nothing.
    pub fn to_text(&self) -> String {
        toml::to_string(self).expect("a table of whole numbers below 2^63 always has a TOML form")
    }

    /// Reads what [`Self::to_text`] wrote, this build's or one's before.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let settings: Self = toml::from_str(text)?;
        if settings.streams.len() > STREAMS_MAX {
            return Err(SettingsError::TooManyStreams(settings.streams.len()));
        }
        for (at, stream) in settings.streams.iter().enumerate() {
            let name = stream.name.clone();
            if let Err(fault) = stream.check() {
                return Err(SettingsError::Stream { name, fault });
            }
            if settings.streams[..at].iter().any(|other| other.name == name) {
                return Err(SettingsError::SameName(name));
            }
        }
        Ok(settings)
    }

    /// All streams over slow channels: the one that is always there, and those configured.
    pub fn all_streams(&self) -> impl Iterator<Item = StreamSettings> + '_ {
        let always = StreamSettings {
            name: String::new(),
            offset_ns: self.windows.offset_ns,
            lateness_ns: self.windows.lateness_ns.max(0),
            key: Key::Channel,
            emit: Emit::Close,
            quantiles: false,
            shape: Kind::Tumbling {
                size_ns: self.windows.scalar_size_ns.clamp(1, SIZE_MAX_NS),
            },
            select: Selector::default(),
        };
        std::iter::once(always).chain(self.streams.iter().cloned())
    }
}

/// A stream as it holds over a stretch of event time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Definition {
    /// What it is.
    pub stream: StreamSettings,
    /// From this event time on, nanoseconds.
    pub from: i64,
    /// Until before this one, nanoseconds.
    pub to: i64,
}

/// Which settings hold when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Schedule {
    /// By the time from which on they hold; the first hold from the beginning of time.
    changes: BTreeMap<EventTime, Settings>,
}

impl Default for Schedule {
    /// The defaults, always.
    fn default() -> Self {
        Self {
            changes: BTreeMap::from([(BEGINNING, Settings::default())]),
        }
    }
}

const BEGINNING: EventTime = EventTime(i64::MIN);

impl Schedule {
    /// The settings that hold at a time.
    pub fn at(&self, time: EventTime) -> &Settings {
        self.since(time).1
    }

    /// Every stream with the time that it holds for, by name and time. Where anything about a stream
    /// changes, one definition of it ends and another begins.
    pub fn streams(&self) -> Vec<Definition> {
        let mut definitions: Vec<Definition> = Vec::new();
        let ends = self.changes.keys().skip(1).map(|from| from.0).chain([i64::MAX]);
        for ((from, settings), to) in self.changes.iter().zip(ends) {
            for stream in settings.all_streams() {
                let goes_on = |known: &&mut Definition| known.to == from.0 && known.stream == stream;
                match definitions.iter_mut().find(goes_on) {
                    Some(known) => known.to = to,
                    None => definitions.push(Definition {
                        stream,
                        from: from.0,
                        to,
                    }),
                }
            }
        }
        definitions.sort_by(|a, b| (&a.stream.name, a.from).cmp(&(&b.stream.name, b.from)));
        definitions
    }

    /// How event time is cut around `time`, for fast channels or for slow ones.
    pub fn cut(&self, time: EventTime, fast: bool) -> Cut {
        let (_, holding) = self.since(time);
        let grid = holding.windows.grid(fast);
        let same = |settings: &Settings| settings.windows.grid(fast) == grid;
        let before = self.changes.range(..=time).rev();
        let from = before
            .take_while(|(_, settings)| same(settings))
            .last()
            .map_or(BEGINNING, |(from, _)| *from);
        let mut after = self.changes.range((Bound::Excluded(time), Bound::Unbounded));
        let to = after.find(|(_, settings)| !same(settings));
        Cut {
            grid,
            from: from.0,
            to: to.map_or(i64::MAX, |(to, _)| to.0),
        }
    }

    /// Other settings are to hold from `effective` on, and from nothing that may have been placed on if
    /// anything has (`begun`). Returns from when on they do; none if they are those that came last.
    ///
    /// What comes last wins: changes that were to hold later than this one never will.
    pub fn change(
        &mut self,
        settings: Settings,
        effective: EventTime,
        now: EventTime,
        begun: bool,
    ) -> Option<EventTime> {
        if self.changes.values().next_back() == Some(&settings) {
            return None;
        }
        let leads = self.changes.values().map(|settings| settings.windows.lead_ns);
        let lead = leads.max().unwrap_or(0).max(0);
        let free = now.plus_nanos(lead.saturating_add(1));
        let from = if begun { effective.max(free) } else { effective };
        self.changes.split_off(&from);
        self.changes.insert(from, settings);
        if self.changes.len() > CHANGES_MAX {
            self.changes.pop_first();
            if let Some((_, oldest)) = self.changes.pop_first() {
                self.changes.insert(BEGINNING, oldest);
            }
        }
        Some(from)
    }

    fn since(&self, time: EventTime) -> (EventTime, &Settings) {
        let (since, settings) = self
            .changes
            .range(..=time)
            .next_back()
            .expect("the first ones hold from the beginning of time");
        (*since, settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::quantity::{Quantity, Unit};

    const SECOND: i64 = 1_000_000_000;

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

    fn size_at(schedule: &Schedule, at: i64) -> i64 {
        schedule.cut(EventTime(at), true).grid.size_ns / SECOND
    }

    #[test]
    fn the_journaled_text_is_what_it_was_in_every_version() {
        let first = "waiting_bytes_max = 33554432\n\n[windows]\nsize_ns = 1000000000\n\
            scalar_size_ns = 10000000000\noffset_ns = 0\nlateness_ns = 0\ntrail_ns = 5000000000\n\
            idle_ns = 60000000000\nlead_ns = 60000000000\ncoverage_min_permille = 950\n";
        // Before there was a limit, samples were placed however far behind they lay.
        let mut then = Settings::default();
        then.windows.behind_ns = i64::MAX;
        assert_eq!(Settings::parse(first), Ok(then));

        let second = "waiting_bytes_max = 33554432\nstream = []\n\n[windows]\nsize_ns = 1000000000\n\
            scalar_size_ns = 10000000000\noffset_ns = 0\nlateness_ns = 0\ntrail_ns = 5000000000\n\
            idle_ns = 60000000000\nlead_ns = 60000000000\nbehind_ns = 2592000000000000\n\
            coverage_min_permille = 950\n";
        assert_eq!(Settings::default().to_text(), second);
        assert_eq!(Settings::parse(second), Ok(Settings::default()));
    }

    fn hopping() -> StreamSettings {
        StreamSettings {
            name: "warmth".to_owned(),
            offset_ns: 0,
            lateness_ns: 60 * SECOND,
            key: Key::Asset,
            emit: Emit::Update,
            quantiles: true,
            shape: Kind::Hopping {
                size_ns: 600 * SECOND,
                slide_ns: 60 * SECOND,
            },
            select: Selector {
                unit: Some(Unit::DegreeCelsius),
                asset: Some("fan-*".to_owned()),
                ..Selector::default()
            },
        }
    }

    fn with(streams: Vec<StreamSettings>) -> Settings {
        Settings {
            streams: streams.into(),
            ..Settings::default()
        }
    }

    #[test]
    fn the_journaled_text_of_a_stream_is_what_it_was_in_every_version() {
        let text = "waiting_bytes_max = 33554432\n\n[[stream]]\nname = \"warmth\"\noffset_ns = 0\n\
            lateness_ns = 60000000000\nkey = \"asset\"\nemit = \"update\"\nquantiles = true\n\n\
            [stream.shape.hopping]\nsize_ns = 600000000000\nslide_ns = 60000000000\n\n\
            [stream.select]\nunit = \"degC\"\nasset = \"fan-*\"\n\n\
            [[stream]]\nname = \"runs\"\noffset_ns = 0\n\
            lateness_ns = 60000000000\nkey = \"channel\"\nemit = \"close\"\nquantiles = true\n\n\
            [stream.shape.session]\ngap_ns = 30000000000\n\n\
            [stream.select]\nquantity = \"current\"\npoint = \"*-de\"\nchannel = \"i\"\n\n\
            [windows]\nsize_ns = 1000000000\n\
            scalar_size_ns = 10000000000\noffset_ns = 0\nlateness_ns = 0\ntrail_ns = 5000000000\n\
            idle_ns = 60000000000\nlead_ns = 60000000000\nbehind_ns = 2592000000000000\n\
            coverage_min_permille = 950\n";
        let session = StreamSettings {
            name: "runs".to_owned(),
            key: Key::Channel,
            emit: Emit::Close,
            shape: Kind::Session { gap_ns: 30 * SECOND },
            select: Selector {
                quantity: Some(Quantity::Current),
                point: Some("*-de".to_owned()),
                channel: Some("i".to_owned()),
                ..Selector::default()
            },
            ..hopping()
        };
        let settings = with(vec![hopping(), session]);
        assert_eq!(settings.to_text(), text);
        assert_eq!(Settings::parse(text), Ok(settings));
    }

    #[test]
    fn streams_that_cannot_be_are_no_settings() {
        let refused = |streams| Settings::parse(&with(streams).to_text()).unwrap_err();
        let many = (0..=STREAMS_MAX).map(|n| StreamSettings {
            name: format!("s{n}"),
            ..hopping()
        });
        assert_eq!(
            refused(many.collect()),
            SettingsError::TooManyStreams(STREAMS_MAX + 1)
        );
        assert_eq!(
            refused(vec![hopping(), hopping()]),
            SettingsError::SameName("warmth".to_owned())
        );
        let uneven = StreamSettings {
            shape: Kind::Hopping {
                size_ns: 50,
                slide_ns: 20,
            },
            ..hopping()
        };
        let fault = StreamFault::NoMultiple;
        let name = "warmth".to_owned();
        assert_eq!(refused(vec![uneven]), SettingsError::Stream { name, fault });
    }

    #[test]
    fn a_stream_holds_from_change_to_change_and_is_cut_by_its_own_alone() {
        let mut schedule = Schedule::default();
        let change = |schedule: &mut Schedule, settings, at| {
            schedule
                .change(settings, EventTime(at), BEGINNING, false)
                .unwrap();
        };
        change(&mut schedule, with(vec![hopping()]), 10);
        let slower = Settings {
            waiting_bytes_max: 1,
            ..with(vec![hopping()])
        };
        change(&mut schedule, slower, 20);
        let later = StreamSettings {
            lateness_ns: 0,
            ..hopping()
        };
        change(&mut schedule, with(vec![later]), 30);
        change(&mut schedule, Settings::default(), 40);
        let held: Vec<_> = schedule
            .streams()
            .into_iter()
            .map(|held| {
                (
                    held.stream.name,
                    held.stream.lateness_ns / SECOND,
                    held.from,
                    held.to,
                )
            })
            .collect();
        assert_eq!(
            held,
            [
                (String::new(), 0, i64::MIN, i64::MAX),
                ("warmth".to_owned(), 60, 10, 30),
                ("warmth".to_owned(), 0, 30, 40),
            ]
        );
    }

    #[test]
    fn what_is_missing_or_unknown_is_not_guessed_at() {
        let text = Settings::default().to_text();
        assert!(Settings::parse(&text.replace("trail_ns", "tail_ns")).is_err());
        assert!(Settings::parse(&text.replace("offset_ns = 0\n", "")).is_err());
        assert!(Settings::parse("").is_err());
    }

    #[test]
    fn before_the_first_sample_a_change_holds_when_it_is_to() {
        let mut schedule = Schedule::default();
        let first = schedule.change(sized(2), BEGINNING, EventTime(7), false);
        assert_eq!(first, Some(BEGINNING));
        assert_eq!((size_at(&schedule, i64::MIN), size_at(&schedule, 0)), (2, 2));
        assert_eq!(schedule.change(sized(2), BEGINNING, EventTime(9), true), None);
    }

    #[test]
    fn after_it_a_change_holds_from_where_nothing_can_have_been_placed() {
        let mut schedule = Schedule::default();
        let lead = WindowSettings::default().lead_ns;
        let from = schedule
            .change(sized(2), BEGINNING, EventTime(100), true)
            .unwrap();
        assert_eq!(from.0, 100 + lead + 1);
        assert_eq!(
            (size_at(&schedule, from.0 - 1), size_at(&schedule, from.0)),
            (1, 2)
        );
        assert_eq!(schedule.cut(EventTime(0), true).to, from.0);
        assert_eq!(schedule.cut(from, true).from, from.0);
        // Slow channels are cut as before, so nothing ends there for them.
        assert_eq!(schedule.cut(from, false).from, i64::MIN);
        let later = EventTime(from.0 + 9 * lead);
        assert_eq!(
            schedule.change(sized(3), later, EventTime(200), true),
            Some(later)
        );
        let sooner = schedule
            .change(sized(4), BEGINNING, EventTime(200), true)
            .unwrap();
        assert_eq!(size_at(&schedule, later.0), 4, "what came last wins");
        assert_eq!(size_at(&schedule, sooner.0 - 1), 2);
    }

    #[test]
    fn of_too_many_changes_the_oldest_are_forgotten() {
        let mut schedule = Schedule::default();
        for n in 0..2 * CHANGES_MAX as i64 {
            let effective = EventTime((n + 1) * SECOND);
            assert!(
                schedule
                    .change(sized(n + 2), effective, BEGINNING, false)
                    .is_some()
            );
        }
        assert_eq!(schedule.changes.len(), CHANGES_MAX);
        assert_eq!(size_at(&schedule, i64::MIN), CHANGES_MAX as i64 + 2);
        assert_eq!(size_at(&schedule, i64::MAX), 2 * CHANGES_MAX as i64 + 1);
    }
}
