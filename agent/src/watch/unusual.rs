//! Slow channels that are not as they were, alone and together: what the collector tells of them, judged here.
//!
//! A channel by itself is followed by a detector of this process ([`Alone`]): nobody has to agree to what it learns,
//! and after a start it says nothing before it has learned anew. A group is judged by what a person has accepted
//! ([`Judge`]), from the first row on. Rows and what is held of them are the collector's ([`trunnion_diagnosis`]);
//! half-space trees, which raise nothing, are not grown here.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | channels and groups | those of the [`Unusuals`] in force, which the record of commands bounds | others are not judged |
//! | rows that are not over | [`ROWS_MAX`](trunnion_diagnosis::rows::ROWS_MAX) of each | the first is over with what it has |

use super::{JudgedWindow, Name, News};
use std::collections::BTreeMap;
use std::time::Duration;
use trunnion_common::detection::multivariate::Judge;
use trunnion_common::id::BootId;
use trunnion_common::level::Level;
use trunnion_common::monitor::Condition;
use trunnion_common::slow::Window;
use trunnion_common::time::EventTime;
use trunnion_common::watch::{GroupWatch, Lines, LocalCondition, LocalWord, UnusualWatch};
use trunnion_diagnosis::rows::Rows;
use trunnion_diagnosis::unusual::{Alone, Departed, HELD_READINGS, Told, judged};

/// What is judged so, by channel; a group stands with its first one.
pub type Unusuals = BTreeMap<Name, UnusualWatch>;

/// Everything that is judged so.
#[derive(Debug, Default)]
pub(super) struct Unusual {
    alone: BTreeMap<Name, Single>,
    /// By their first channel.
    groups: BTreeMap<Name, Group>,
    /// In which groups a channel stands, and at which place of their rows.
    places: BTreeMap<Name, Vec<(Name, usize)>>,
}

/// A channel by itself.
#[derive(Debug)]
struct Single {
    alone: Alone,
    held: Held,
    /// End of its last window.
    last: Option<EventTime>,
}

#[derive(Debug)]
struct Group {
    watch: GroupWatch,
    /// As [`judged`] takes it.
    running: Option<(usize, f32)>,
    rows: Rows,
    judge: Judge,
    departed: Departed,
    held: Held,
    /// Of each place, the end of its last window.
    last: Vec<Option<EventTime>>,
}

/// What is held of a channel or a group, and whether the collector has heard so.
#[derive(Debug)]
struct Held {
    name: Name,
    condition: Condition,
    word: Option<LocalWord>,
    /// Rows judged since this began, no more than matter.
    rows: u32,
    /// After so many, it is told once if nothing is held.
    settled_after: u32,
}

impl Unusual {
    /// Judges this from now on. What has not changed goes on; what was held of something else is given up.
    pub(super) fn configure(&mut self, unusuals: &Unusuals, now: Duration) -> Vec<News> {
        let alone_ns = |name: &Name| unusuals.get(name).and_then(|unusual| unusual.alone_ns);
        let group = |name: &Name| unusuals.get(name).and_then(|unusual| unusual.group.as_ref());
        let mut news = Vec::new();
        self.alone.retain(|name, known| {
            let stays = alone_ns(name).is_some_and(|every_ns| every_ns.max(1) == known.alone.every_ns());
            news.extend((!stays).then(|| known.held.give_up(now)).flatten());
            stays
        });
        self.groups.retain(|name, known| {
            let stays = group(name) == Some(&known.watch);
            news.extend((!stays).then(|| known.held.give_up(now)).flatten());
            stays
        });
        self.places.clear();
        for (name, unusual) in unusuals {
            if let Some(every_ns) = unusual.alone_ns {
                let single = self.alone.entry(*name);
                single.or_insert_with(|| Single {
                    alone: Alone::new(every_ns),
                    held: Held::new(*name, Condition::Unusual, HELD_READINGS.into()),
                    last: None,
                });
            }
            let Some(watch) = &unusual.group else {
                continue;
            };
            let group = self.groups.entry(*name);
            group.or_insert_with(|| Group::new(*name, watch.clone()));
            for (place, channel) in watch.row().enumerate() {
                self.places.entry(channel).or_default().push((*name, place));
            }
        }
        news
    }

    /// Takes the next window of a slow channel, which closed then; says what is new.
    pub(super) fn handle_window(&mut self, name: Name, judged: &JudgedWindow, closed: Duration) -> Vec<News> {
        let JudgedWindow {
            boot,
            readings: window,
            is_off,
        } = judged;
        let mut news = Vec::new();
        if let Some(single) = self.alone.get_mut(&name) {
            if is_set_back(&mut single.last, window) {
                single.alone.handle_set_back();
            }
            single.alone.handle_window(window, *is_off);
            while let Some((row, told)) = single.alone.poll() {
                let is_judged = row.values.iter().all(|value| value.is_finite());
                news.extend(single.held.note(*boot, (row.end, closed), told, is_judged, &[]));
            }
        }
        for (first, place) in self.places.get(&name).into_iter().flatten() {
            let group = self.groups.get_mut(first);
            news.extend(
                group
                    .into_iter()
                    .flat_map(|group| group.handle_window(*boot, *place, window, closed)),
            );
        }
        news
    }

    /// What is held now.
    pub(super) fn standing(&self) -> impl Iterator<Item = &LocalWord> {
        let alone = self.alone.values().map(|single| &single.held);
        let held = alone.chain(self.groups.values().map(|group| &group.held));
        held.filter_map(|held| held.word.as_ref())
    }
}

/// Whether windows of a channel begin anew, further back.
fn is_set_back(last: &mut Option<EventTime>, window: &Window) -> bool {
    last.replace(window.end).is_some_and(|last| window.end <= last)
}

impl Group {
    fn new(name: Name, watch: GroupWatch) -> Self {
        let width = watch.row().count();
        let channels = &watch.channels;
        let running = watch.running.map(|(witness, above)| {
            let place = channels.iter().position(|channel| *channel == witness);
            (place.unwrap_or(channels.len()), above)
        });
        Self {
            running,
            rows: Rows::new(watch.every_ns, width),
            judge: Judge::new(watch.learned.clone(), &watch.settings),
            departed: Departed::default(),
            held: Held::new(name, Condition::UnusualTogether, Judge::run_in(&watch.settings)),
            last: vec![None; width],
            watch,
        }
    }

    fn handle_window(&mut self, boot: BootId, place: usize, window: &Window, closed: Duration) -> Vec<News> {
        let last = self.last.get_mut(place);
        if last.is_some_and(|last| is_set_back(last, window)) {
            self.rows.begin_anew();
            self.last.fill(None);
        }
        self.rows
            .add(place, (window.start, window.end), window.readings());
        let (channels, persistence) = (&self.watch.channels, self.watch.persistence);
        let mut news = Vec::new();
        while let Some(row) = self.rows.poll() {
            let readings = judged(&row, channels.len(), self.running);
            let judgement = readings.and_then(|readings| self.judge.handle_row(row.end, readings));
            let told = match &judgement {
                Some(judgement) => {
                    self.departed.note(judgement);
                    self.departed.handle(judgement, None, persistence)
                }
                None => {
                    self.departed.handle_gap(persistence);
                    None
                }
            };
            let when = (row.end, closed);
            news.extend(self.held.note(boot, when, told, judgement.is_some(), channels));
        }
        news
    }
}

impl Held {
    const fn new(name: Name, condition: Condition, settled_after: u32) -> Self {
        Self {
            name,
            condition,
            word: None,
            rows: 0,
            settled_after,
        }
    }

    /// Keeps how it stands after a row that ended and closed then; what is to be told of it.
    fn note(
        &mut self,
        boot: BootId,
        (end, closed): (EventTime, Duration),
        told: Option<Told>,
        is_judged: bool,
        channels: &[Name],
    ) -> Option<News> {
        self.rows = self.rows.saturating_add(is_judged.into());
        // Once, when it could have been raised: a former start of this agent may have held it.
        let settles = is_judged && self.rows == self.settled_after && self.word.is_none();
        let before = self.word.as_ref().map_or(Level::Normal, |word| word.told.level);
        let held = told.as_ref().map_or(before, |told| told.held);
        if held == before && !settles {
            return None;
        }
        let raised = self.word.as_ref().map_or(end, |word| word.told.raised);
        let now = LocalWord {
            told: LocalCondition {
                node: self.name.0,
                boot,
                channel: self.name.1,
                condition: self.condition,
                level: held,
                raised,
                at: end,
                evidence: None,
                standard: None,
            },
            lines: told
                .and_then(|told| told.shown)
                .map(|shown| Lines::Unusual(shown.told(channels))),
        };
        self.word = (held > Level::Normal).then(|| now.clone());
        Some(News {
            condition: now.told,
            lines: now.lines,
            before,
            closed,
        })
    }

    /// It is judged so no more; what is to be told of it.
    fn give_up(&mut self, now: Duration) -> Option<News> {
        let LocalWord { told, .. } = self.word.take()?;
        Some(News {
            condition: LocalCondition {
                level: Level::Normal,
                // The latest word holds.
                at: told.at.plus_nanos(1),
                ..told
            },
            lines: None,
            before: told.level,
            closed: now,
        })
    }
}
