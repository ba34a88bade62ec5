//! The search of watched channels for what is wrong with a bearing, and the examination of their spectra
//! ([`super::examination`]): which windows wait for it, and what the last ones of a channel say together. Pure;
//! somebody else does the work ([`Searching::run`]), one window at a time, after the window has been judged.
//!
//! The samples of a stretch are kept only where something is to be looked for in them, and of a channel two stretches
//! at a time: the one that fills and the one that waits. Between two searches [`REST`] times as long as the last one
//! took is left for everything else.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | samples kept | [`SAMPLES_MAX`] over all channels, two stretches of each | a further channel is watched without a search until one that was searched is not any more: its windows count as without room |
//! | windows that wait | one of each channel | the newer takes its place; it and a stretch that begins while two are kept count as behind |
//! | what a channel's last windows said | see [`Sequence`] | a window that was not searched keeps its place and supports nothing |

use super::examination::{Examined, Examining, ShaftHunt};
use super::{Name, Stretch};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use trunnion_common::bearing::Element;
use trunnion_common::id::BootId;
use trunnion_common::level::Level;
use trunnion_common::monitor::{Condition, Judged};
use trunnion_common::time::EventTime;
use trunnion_common::watch::{BearingSearch, Lines, SpectrumWatch};
use trunnion_diagnosis::bearing::{BearingOrders, Neighbours};
use trunnion_diagnosis::detection::{BEARING_LEVEL, Sequence, Support, Verdict, standing_for};
use trunnion_diagnosis::features::{Analyzer, Depth, Envelope, Finding, PointContext, ShaftSpeed};

/// Samples kept for the search, of all channels together: 8 MiB, enough for 40 channels of 25.6 kHz.
pub const SAMPLES_MAX: u64 = 2 << 20;

/// Stretches of a channel whose samples are kept at a time.
const STRETCHES_MAX: u64 = 2;

/// How many times as long as a search took nothing is searched: it takes a fifth of one core at most.
const REST: u32 = 4;

/// For what channels are searched.
pub type Searches = BTreeMap<Name, BearingSearch>;

/// What is looked for in spectra of channels.
pub type Examinations = BTreeMap<Name, SpectrumWatch>;

/// A window that is to be searched.
#[derive(Clone, PartialEq, Debug)]
pub struct Searching {
    /// Which channel.
    pub name: Name,
    boot: BootId,
    /// Which search on it is meant: one that has been given up wants no answer.
    hunt: u64,
    start: EventTime,
    end: EventTime,
    /// When its last byte arrived.
    closed: Duration,
    rate_hz: f64,
    /// Share of the samples that are there.
    coverage: f32,
    /// In the channel's unit; a missing one is no number.
    samples: Vec<f32>,
    /// With the bearing that is searched for, if one is.
    context: PointContext,
    examining: Option<Examining>,
}

/// A window that has been searched.
#[derive(Clone, PartialEq, Debug)]
pub struct Searched {
    pub(super) name: Name,
    pub(super) boot: BootId,
    hunt: u64,
    start: EventTime,
    pub(super) end: EventTime,
    pub(super) closed: Duration,
    /// What it says of the bearing, where one was searched for.
    bearing: Option<Heard>,
    examined: Option<Examined>,
}

/// What a window says of a bearing.
#[derive(Clone, PartialEq, Debug)]
struct Heard {
    verdict: Verdict,
    envelope: Option<Envelope>,
}

impl Searching {
    /// Searches it: some milliseconds of work.
    pub fn run(self, analyzer: &mut Analyzer) -> Searched {
        let (samples, context) = (&self.samples, &self.context);
        let measuring = self.examining.as_ref().filter(|examining| examining.is_measured);
        let found = match measuring {
            Some(examining) => Some(analyzer.measure(samples, &examining.basis, context, Depth::Full)),
            None => context
                .bearing
                .map(|_| analyzer.analyze(samples, self.rate_hz, context, Depth::Full)),
        };
        let searched = found.as_ref().filter(|_| context.bearing.is_some());
        let bearing = searched.map(|found| Heard {
            verdict: Verdict::of(self.coverage, found),
            envelope: found.envelope.clone(),
        });
        let values = found.map(|found| found.values).unwrap_or_default();
        let examined = self
            .examining
            .map(|examining| examining.run(analyzer, (&self.samples, self.coverage), &values));
        Searched {
            name: self.name,
            boot: self.boot,
            hunt: self.hunt,
            start: self.start,
            end: self.end,
            closed: self.closed,
            bearing,
            examined,
        }
    }
}

impl Searched {
    /// Whether it was searched for a fault of a bearing, and whether it was examined.
    const fn work(&self) -> (bool, bool) {
        let is_examined = matches!(&self.examined, Some(examined) if examined.is_examined);
        (self.bearing.is_some(), is_examined)
    }
}

/// What was counted since this was last asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Windows searched for a fault of a bearing.
    pub searched: u64,
    /// Windows whose spectra were examined.
    pub examined: u64,
    /// Windows not searched since there was no room for the channel's samples.
    pub no_room: u64,
    /// Windows not searched since those before took too long.
    pub behind: u64,
}

/// Windows that wait to be searched.
#[derive(Debug, Default)]
pub(super) struct Queue {
    due: VecDeque<Searching>,
    /// Whose window is being searched.
    out: Option<Name>,
    /// Nothing is searched before.
    rests_until: Duration,
    /// Hunts begun.
    hunts: u64,
    pub(super) tally: Tally,
}

impl Queue {
    /// A hunt for that; none where there is nothing to look for.
    pub(super) fn begin(&mut self, bearing: Option<BearingHunt>, shaft: Option<ShaftHunt>) -> Option<Hunt> {
        if bearing.is_none() && shaft.is_none() {
            return None;
        }
        self.hunts += 1;
        Some(Hunt {
            number: self.hunts,
            room: None,
            bearing,
            shaft,
        })
    }

    /// How many windows of a channel wait or are being searched.
    pub(super) fn waiting(&self, name: Name) -> u64 {
        let due = self.due.iter().filter(|due| due.name == name).count();
        due as u64 + u64::from(self.out == Some(name))
    }

    pub(super) fn push(&mut self, searching: Searching) {
        let same = |due: &&mut Searching| due.name == searching.name;
        match self.due.iter_mut().find(same) {
            Some(older) => {
                *older = searching;
                self.tally.behind += 1;
            }
            None => self.due.push_back(searching),
        }
    }

    pub(super) fn poll(&mut self, now: Duration) -> Option<Searching> {
        if self.out.is_some() || now < self.rests_until {
            return None;
        }
        let searching = self.due.pop_front()?;
        self.out = Some(searching.name);
        Some(searching)
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        (self.out.is_none() && !self.due.is_empty()).then_some(self.rests_until)
    }

    pub(super) fn handle_done(&mut self, searched: &Searched, took: Duration, now: Duration) {
        self.out = None;
        self.rests_until = now.saturating_add(took.saturating_mul(REST));
        let (is_searched, is_examined) = searched.work();
        self.tally.searched += u64::from(is_searched);
        self.tally.examined += u64::from(is_examined);
    }

    /// A channel is searched no more, or for something else.
    pub(super) fn forget(&mut self, name: Name) {
        self.due.retain(|due| due.name != name);
    }
}

/// What is looked for on one channel.
#[derive(Debug)]
pub(super) struct Hunt {
    number: u64,
    /// Samples that are set aside for it; none while there is no room.
    pub(super) room: Option<u64>,
    pub(super) bearing: Option<BearingHunt>,
    pub(super) shaft: Option<ShaftHunt>,
}

/// The search for a fault of one bearing.
#[derive(Debug)]
pub(super) struct BearingHunt {
    pub(super) search: BearingSearch,
    orders: BearingOrders,
    neighbours: Neighbours,
    sequence: Sequence,
    standing: Vec<Fault>,
    /// Decided windows since it began, no more than matter.
    decided: u32,
    is_told: bool,
}

/// A fault that is held.
#[derive(Debug)]
struct Fault {
    element: Option<Element>,
    raised: EventTime,
    finding: Finding,
    support: Support,
}

/// What has become of a fault or a suspicion, or of the lack of one.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Change {
    pub(super) condition: Condition,
    /// Normal where it does not hold.
    pub(super) level: Level,
    /// The end of the window that raised it.
    pub(super) raised: EventTime,
    /// What it rests on; none when it does not hold.
    pub(super) lines: Option<Lines>,
}

/// What has come of a window.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Found {
    pub(super) changes: Vec<Change>,
    /// How features stand that only spectra tell.
    pub(super) judged: Vec<Judged>,
    /// Whether those could be judged.
    pub(super) is_decided: bool,
}

impl Change {
    fn of_bearing(element: Option<Element>, raised: EventTime, finding: Option<&Finding>) -> Self {
        Self {
            condition: Condition::Bearing(element),
            level: finding.map_or(Level::Normal, |_| BEARING_LEVEL),
            raised,
            lines: finding.map(|finding| Lines::Bearing(finding.told())),
        }
    }
}

impl Hunt {
    /// Whether it is for that.
    pub(super) fn is_for(&self, search: Option<&BearingSearch>, spectra: Option<&SpectrumWatch>) -> bool {
        let bearing = self.bearing.as_ref().map(|bearing| &bearing.search);
        let shaft = self.shaft.as_ref().map(|shaft| &shaft.spectra);
        (bearing, shaft) == (search, spectra)
    }

    /// Whether nothing is looked for in the channel's samples.
    pub(super) fn is_idle(&self) -> bool {
        self.bearing.is_none() && self.shaft.as_ref().is_none_or(ShaftHunt::is_idle)
    }

    /// How many more stretches of `size` samples may be kept, beside so many of this channel; others have set aside
    /// `taken` samples for theirs.
    pub(super) fn places(&mut self, size: u64, kept: u64, taken: u64) -> u64 {
        let wanted = size.saturating_mul(STRETCHES_MAX);
        if self.room.is_none() && taken.saturating_add(wanted) <= SAMPLES_MAX {
            self.room = Some(wanted);
        }
        self.room.map_or(0, |_| STRETCHES_MAX.saturating_sub(kept))
    }
    /// The search of a stretch of a channel, which closed then, at the speed of its shaft; `high_hz` is what its samples
    /// are good for.
    pub(super) fn searching(
        &self,
        (name, boot): (Name, BootId),
        (stretch, samples): (&Stretch, Vec<f32>),
        (end, closed): (EventTime, Duration),
        (rate_hz, high_hz): (f64, f64),
        shaft: ShaftSpeed,
        examining: Option<Examining>,
    ) -> Searching {
        let bearing = self.bearing.as_ref();
        let neighbours = bearing.map(|bearing| bearing.neighbours);
        let declared_hz = bearing.map_or(f64::INFINITY, |bearing| bearing.search.band_high_hz);
        Searching {
            name,
            boot,
            hunt: self.number,
            start: stretch.start,
            end,
            closed,
            rate_hz,
            coverage: stretch.moments.count() as f32 / samples.len() as f32,
            samples,
            context: PointContext {
                shaft,
                bearing: bearing.map(|bearing| bearing.orders),
                neighbours: neighbours.unwrap_or_default(),
                band_high_hz: high_hz.min(declared_hz),
            },
            examining,
        }
    }

    /// Takes what a window says; what has come of it, if it was this hunt's.
    pub(super) fn handle_window(&mut self, searched: &Searched, interval_ns: i64) -> Found {
        let mut found = Found::default();
        if searched.hunt != self.number {
            return found;
        }
        let span = (searched.start, searched.end);
        if let Some((bearing, heard)) = self.bearing.as_mut().zip(searched.bearing.as_ref()) {
            found.changes = bearing.handle_window(span, heard);
        }
        if let Some((shaft, examined)) = self.shaft.as_mut().zip(searched.examined.as_ref()) {
            (found.judged, found.is_decided) = shaft.judge(span, examined);
            let changes = shaft.handle_window(searched.end, interval_ns, examined, &found.judged);
            found.changes.extend(changes);
        }
        found
    }

    /// What a condition that is held rests on.
    pub(super) fn lines(&self, condition: Condition) -> Option<Lines> {
        match condition {
            Condition::Bearing(element) => {
                let finding = self.bearing.as_ref()?.finding(element)?;
                Some(Lines::Bearing(finding.told()))
            }
            Condition::Suspected(cause) => self.shaft.as_ref()?.lines(cause),
            Condition::Severity
            | Condition::Deviation(_)
            | Condition::Instrument
            | Condition::Unusual
            | Condition::UnusualTogether => None,
        }
    }
}

impl BearingHunt {
    pub(super) fn new(search: BearingSearch) -> Self {
        Self {
            orders: search.bearing.into(),
            neighbours: search
                .neighbours
                .iter()
                .copied()
                .map(BearingOrders::from)
                .collect(),
            search,
            sequence: Sequence::default(),
            standing: Vec::new(),
            decided: 0,
            is_told: false,
        }
    }

    /// Takes what a window says; what has changed with it. Once enough windows have been decided on, it is also told
    /// what does not hold: a former start of the agent may have told that it does.
    fn handle_window(&mut self, (start, end): (EventTime, EventTime), heard: &Heard) -> Vec<Change> {
        let (verdict, detection) =
            self.sequence
                .handle_window(start, end, heard.verdict.clone(), heard.envelope.as_ref());
        if !verdict.is_decided() {
            return Vec::new();
        }
        let mut changes = Vec::new();
        changes.extend(detection.confirmed.and_then(|finding| self.confirm(end, finding)));
        for fault in &mut self.standing {
            fault.support.note(verdict.supports(fault.element));
        }
        let over = self.standing.extract_if(.., |fault| fault.support.is_over());
        changes.extend(over.map(|fault| Change::of_bearing(fault.element, fault.raised, None)));
        self.decided = self.decided.saturating_add(1);
        if !self.is_told && self.decided >= Support::CLEAR_WINDOWS {
            self.is_told = true;
            changes.extend(self.sound(end, &changes));
        }
        changes
    }

    /// What does not hold and is not among the changes.
    fn sound(&self, end: EventTime, changes: &[Change]) -> Vec<Change> {
        let elements = Element::ALL.into_iter().map(Some).chain([None]);
        let is_held = |element| self.standing.iter().any(|fault| fault.element == element);
        let is_changed = |element| {
            let condition = Condition::Bearing(element);
            changes.iter().any(|change| change.condition == condition)
        };
        elements
            .filter(|element| !is_held(*element) && !is_changed(*element))
            .map(|element| Change::of_bearing(element, end, None))
            .collect()
    }

    fn confirm(&mut self, end: EventTime, finding: Finding) -> Option<Change> {
        let standing: Vec<_> = self.standing.iter().map(|fault| fault.element).collect();
        let element = finding.element;
        let raised = match standing_for(&standing, element) {
            None => {
                self.standing.push(Fault {
                    element,
                    raised: end,
                    finding: finding.clone(),
                    support: Support::default(),
                });
                end
            }
            Some(at) => {
                let fault = &mut self.standing[at];
                if fault.element.is_some() || element.is_none() {
                    return None;
                }
                fault.element = element;
                fault.finding = finding.clone();
                fault.raised
            }
        };
        Some(Change::of_bearing(element, raised, Some(&finding)))
    }

    /// What a fault that is held rests on.
    fn finding(&self, element: Option<Element>) -> Option<&Finding> {
        let fault = self.standing.iter().find(|fault| fault.element == element)?;
        Some(&fault.finding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use trunnion_common::id::{ChannelId, NodeId};

    const INNER: Option<Element> = Some(Element::InnerRace);
    const SECOND: i64 = 1_000_000_000;

    fn search() -> BearingSearch {
        BearingSearch {
            speed_tolerance: 0.005,
            bearing: [3.585, 5.415, 4.713, 0.398],
            neighbours: Default::default(),
            band_high_hz: 5_000.0,
        }
    }

    /// A window of the first hunt, which began at that second.
    fn searched(second: i64, verdict: Verdict) -> Searched {
        let heard = Heard {
            verdict,
            envelope: None,
        };
        let start = EventTime(second * 1_000_000_000);
        Searched {
            name: (NodeId::new(1).unwrap(), ChannelId::new(0).unwrap()),
            boot: BootId::from_u64(1),
            hunt: 1,
            start,
            end: start.plus_nanos(1_000_000_000),
            closed: Duration::ZERO,
            bearing: Some(heard),
            examined: None,
        }
    }

    /// Windows by letter: `i` inner race, `u` a fault without an element, `.` healthy, `?` undecided. What has changed
    /// after each: `I` and `U` held, `i` and `u` over; what is only told to be sound is left out.
    fn changes(windows: &str) -> String {
        let mut hunt = Queue::default()
            .begin(Some(BearingHunt::new(search())), None)
            .unwrap();
        let fault = |element| {
            Verdict::Fault(Finding {
                element,
                order: 5.4,
                score: 5.0,
                runner_up: 1.0,
                lines: Vec::new(),
                band_hz: (1.0, 5_000.0),
                confirmed: None,
            })
        };
        let (mut told, mut held) = (String::new(), BTreeSet::new());
        for (at, window) in windows.chars().enumerate() {
            let verdict = match window {
                'i' => fault(INNER),
                'u' => fault(None),
                '.' => Verdict::Healthy,
                _ => Verdict::Undecided { coverage: 0.5 },
            };
            let changes = hunt.handle_window(&searched(at as i64, verdict), SECOND).changes;
            let element = |change: &Change| match change.condition {
                Condition::Bearing(element) => element,
                _ => panic!("{change:?}"),
            };
            let is_news = |change: &&Change| change.lines.is_some() || held.contains(&element(change));
            let letters: Vec<_> = changes
                .iter()
                .filter(is_news)
                .map(|change| match (element(change), &change.lines) {
                    (INNER, Some(_)) => 'I',
                    (INNER, None) => 'i',
                    (_, Some(_)) => 'U',
                    (_, None) => 'u',
                })
                .collect();
            for change in &changes {
                if change.lines.is_some() {
                    held.remove(&None);
                    held.insert(element(change));
                } else {
                    held.remove(&element(change));
                }
            }
            told.extend(if letters.is_empty() { vec!['-'] } else { letters });
        }
        told
    }

    fn check(windows: &str, expected: &str) {
        assert_eq!(changes(windows), expected, "after {windows}");
    }

    #[test]
    fn three_of_five_raise_it_and_one_of_ten_clears_it() {
        check("ii.i..", "---I--");
        check("iii..........", "--I--------i-");
        check("iii?????", "--I-----");
    }

    #[test]
    fn the_element_that_shows_takes_the_place_of_none() {
        check("uuuiii", "--U--I");
        check("uuuiii...........", "--U--I--------i--");
        check("iiiuuu", "--I---");
    }

    #[test]
    fn a_window_of_another_hunt_says_nothing() {
        let mut queue = Queue::default();
        queue.begin(Some(BearingHunt::new(search())), None);
        let mut hunt = queue.begin(Some(BearingHunt::new(search())), None).unwrap();
        let window = |at| searched(at, Verdict::Healthy);
        (0..20).for_each(|at| assert_eq!(hunt.handle_window(&window(at), SECOND), Found::default()));
    }
}
