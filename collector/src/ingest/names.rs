//! By which names this journal has acknowledged, and how far it went under each. Pure.
//!
//! Each start of the collector gives the journal a name of its own, and journals it before it acknowledges
//! anything, with how far the journal went until then. A gateway says in its Hello under which names it was
//! acknowledged, and how far the journal went then. One that the journal does not know is that of another journal, or
//! of a start that came after the backup to which this one was put back. One under which the journal ended earlier is
//! that of the start that ran while the backup was made. What the gateway delivered then is not here, and may not be
//! anywhere else. However far this journal goes on, a name that has ended stays where it ended.

use std::collections::{BTreeMap, VecDeque};
use std::iter::repeat;
use trunnion_common::ack::{Extent, JOURNALS_MAX, JournalMark};
use trunnion_common::id::{GatewayId, JournalId};
use trunnion_common::sample::LossCause;

/// Starts remembered; of a gateway that was away for longer it is said that it delivered elsewhere. So many
/// leave one chance in 64 that a forgotten one goes by the number of another.
pub const NAMES_MAX: usize = 1_024;

/// The end of a name under which the journal goes on, or of which an earlier build did not journal where it ended.
const OPEN: Extent = Extent(u64::MAX);

/// The names, and which of those that are not this journal's gateways have told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JournalNames {
    /// Starts of the collector, oldest first, and where the journal ended under each.
    starts: VecDeque<(u16, Extent)>,
    /// What gateways delivered elsewhere, as far as it is in the journal already: as many as a Hello tells, oldest
    /// first.
    told: BTreeMap<GatewayId, VecDeque<JournalMark>>,
}

/// What is written of names: as the first build that did so, and behind it the extents, in the same order.
pub(super) type Names = (Vec<u16>, BTreeMap<GatewayId, Vec<JournalId>>);
pub(super) type Extents = (Vec<Extent>, Vec<Vec<Extent>>);

impl JournalNames {
    /// The journal goes by the name of this start as well, and goes no further under the one before: the default
    /// where it is not known how far it went.
    pub fn start(&mut self, start: u16, ended: Extent) {
        if let Some((_, end)) = self.starts.back_mut()
            && ended != Extent::default()
        {
            *end = ended;
        }
        if self.starts.len() >= NAMES_MAX {
            self.starts.pop_front();
        }
        self.starts.push_back((start, OPEN));
    }

    /// A gateway delivered to a journal of that name, which went so far.
    pub fn tell(&mut self, gateway: &GatewayId, to: JournalMark) {
        let told = self.told.entry(gateway.clone()).or_default();
        if let Some(known) = told.iter_mut().find(|known| known.name == to.name) {
            known.extent = known.extent.max(to.extent);
            return;
        }
        if told.len() >= JOURNALS_MAX {
            told.pop_front();
        }
        told.push_back(to);
    }

    /// Which of the names under which a gateway was acknowledged, the last one first, `mine` never went by or not so
    /// far, and so why what was delivered under it is not here. One is news when the journal went further than was
    /// told before. The last one is news each time: a gateway that goes to and fro between two journals has delivered
    /// more since.
    pub(super) fn strangers(
        &self,
        mine: JournalId,
        gateway: &GatewayId,
        marks: &[JournalMark],
    ) -> Vec<(JournalMark, LossCause)> {
        let told = |mark: &JournalMark| {
            let mut told = self.told.get(gateway).into_iter().flatten();
            told.any(|told| told.name == mark.name && told.extent >= mark.extent)
        };
        let end = |start: u16| {
            let mine = self.starts.iter().filter(|(known, _)| *known == start);
            mine.map(|(_, end)| *end).max()
        };
        let marks = marks.iter().enumerate();
        let news = marks.filter(|(nth, mark)| *nth == 0 || !told(mark));
        news.filter_map(|(_, mark)| {
            if !mark.name.is(mine) {
                return Some((*mark, LossCause::Elsewhere));
            }
            let is_here = end(mark.name.start()).is_some_and(|end| mark.extent <= end);
            (!is_here).then_some((*mark, LossCause::NotHeld))
        })
        .collect()
    }

    /// As they are written; the extents only where there are any.
    pub(super) fn written(&self) -> (Names, Option<Extents>) {
        let starts = self.starts.iter().map(|(start, _)| *start).collect();
        let told = self.told.iter().map(|(gateway, told)| {
            let names = told.iter().map(|mark| mark.name).collect();
            (gateway.clone(), names)
        });
        let ends: Vec<Extent> = self.starts.iter().map(|(_, end)| *end).collect();
        let extents = |told: &VecDeque<JournalMark>| told.iter().map(|mark| mark.extent).collect();
        let extents: Vec<Vec<Extent>> = self.told.values().map(extents).collect();
        let is_told = ends.iter().any(|end| *end != OPEN)
            || extents
                .iter()
                .flatten()
                .any(|extent| *extent != Extent::default());
        ((starts, told.collect()), is_told.then_some((ends, extents)))
    }

    /// What [`Self::written`] gave.
    pub(super) fn read((starts, told): Names, extents: Option<Extents>) -> Self {
        let (ends, extents) = extents.unwrap_or_default();
        let ends = ends.into_iter().chain(repeat(OPEN));
        let extents = extents.into_iter().chain(repeat(Vec::new()));
        let told = told.into_iter().zip(extents).map(|((gateway, names), extents)| {
            let extents = extents.into_iter().chain(repeat(Extent::default()));
            let marks = names.into_iter().zip(extents);
            (
                gateway,
                marks.map(|(name, extent)| JournalMark { name, extent }).collect(),
            )
        });
        Self {
            starts: starts.into_iter().zip(ends).collect(),
            told: told.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::id::Name;

    const MINE: JournalId = JournalId(0xa_0000);

    fn gateway() -> GatewayId {
        let [site, gateway] = ["bremen", "gw-1"].map(|name| Name::new(name).unwrap());
        GatewayId { site, gateway }
    }

    fn mark(name: JournalId, extent: u64) -> JournalMark {
        let extent = Extent(extent);
        JournalMark { name, extent }
    }

    #[test]
    fn names_that_the_journal_never_went_by_are_told_once_or_while_they_are_the_last() {
        let gateway = gateway();
        let other = JournalId(0xb_0000);
        let [known, vanished, theirs] =
            [MINE.named_by(7), MINE.named_by(8), other.named_by(7)].map(JournalMark::from);
        let mut names = JournalNames::default();
        names.start(7, Extent::default());
        assert_eq!(names.strangers(MINE, &gateway, &[known]), []);
        let both = [(theirs, LossCause::Elsewhere), (vanished, LossCause::NotHeld)];
        assert_eq!(names.strangers(MINE, &gateway, &[known, theirs, vanished]), both);
        names.tell(&gateway, vanished);
        assert_eq!(names.strangers(MINE, &gateway, &[known, vanished]), []);
        assert_eq!(names.strangers(MINE, &gateway, &[vanished, known]), both[1..]);
    }

    #[test]
    fn a_name_under_which_the_journal_ended_earlier_is_told_again_when_it_is_found_to_have_gone_further() {
        let gateway = gateway();
        let [old, before, now] = [5, 7, 9].map(|start| MINE.named_by(start));
        let mut names = JournalNames::default();
        names.start(old.start(), Extent::default());
        names.start(before.start(), Extent::default());
        names.start(now.start(), Extent(100));
        let check = |names: &JournalNames, extent, expected: &[(JournalMark, LossCause)]| {
            let marks = [mark(now, 900), mark(before, extent), mark(old, 800)];
            assert_eq!(names.strangers(MINE, &gateway, &marks), expected);
        };
        check(&names, 0, &[]);
        check(&names, 100, &[]);
        check(&names, 101, &[(mark(before, 101), LossCause::NotHeld)]);
        names.tell(&gateway, mark(before, 120));
        check(&names, 120, &[]);
        check(&names, 121, &[(mark(before, 121), LossCause::NotHeld)]);
        names.tell(&gateway, mark(before, 121));
        assert_eq!(
            names.told[&gateway],
            [mark(before, 121)],
            "told once, as far as it goes"
        );
        // It goes on under another name, further than any that it had before.
        names.start(11, Extent(5_000));
        check(&names, 121, &[]);
        check(&names, 122, &[(mark(before, 122), LossCause::NotHeld)]);
        let (written, extents) = names.written();
        assert_eq!(JournalNames::read(written, extents), names);
    }

    #[test]
    fn the_first_names_are_forgotten_beyond_the_bounds() {
        let gateway = gateway();
        let mut names = JournalNames::default();
        for start in 0..=NAMES_MAX as u16 {
            names.start(start, Extent::default());
        }
        for name in 0..=JOURNALS_MAX as u64 {
            names.tell(&gateway, JournalId(name << 32).into());
        }
        assert_eq!(names.starts.len(), NAMES_MAX);
        assert_eq!(names.starts[0], (1, OPEN));
        assert_eq!(names.told[&gateway].len(), JOURNALS_MAX);
        assert_eq!(names.written().1, None, "as an earlier build wrote it");
    }
}
