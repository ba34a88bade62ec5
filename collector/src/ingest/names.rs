//! By which names this journal has acknowledged. Pure.
//!
//! Each start of the collector gives the journal a name of its own, and journals it before it acknowledges
//! anything. A gateway says in its Hello under which names it was acknowledged. One that the journal does not know
//! is that of another journal, or of a start that came after the backup to which this one was put back: what the
//! gateway delivered then is not here, and may not be anywhere else.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use trunnion_common::ack::JOURNALS_MAX;
use trunnion_common::id::{GatewayId, JournalId};
use trunnion_common::sample::LossCause;

/// Starts remembered; of a gateway that was away for longer it is said that it delivered elsewhere. So many
/// leave one chance in 64 that a forgotten one goes by the number of another.
pub const NAMES_MAX: usize = 1_024;

/// The names, and which unknown ones gateways have told.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct JournalNames {
    /// Starts of the collector, oldest first.
    starts: VecDeque<u16>,
    /// The unknown names that are in the journal already, by gateway: as many as a Hello tells, oldest first.
    told: BTreeMap<GatewayId, VecDeque<JournalId>>,
}

impl JournalNames {
    /// The journal goes by the name of this start as well.
    pub fn start(&mut self, start: u16) {
        if self.starts.len() >= NAMES_MAX {
            self.starts.pop_front();
        }
        self.starts.push_back(start);
    }

    /// A gateway delivered to a journal of that name.
    pub fn tell(&mut self, gateway: &GatewayId, name: JournalId) {
        let told = self.told.entry(gateway.clone()).or_default();
        if told.contains(&name) {
            return;
        }
        if told.len() >= JOURNALS_MAX {
            told.pop_front();
        }
        told.push_back(name);
    }

    /// Which of the names under which a gateway was acknowledged, the last one first, `mine` never went by, and
    /// so why what was delivered under it is not here. The last one is news each time: a gateway that goes to
    /// and fro between two journals has delivered more since.
    pub(super) fn strangers(
        &self,
        mine: JournalId,
        gateway: &GatewayId,
        names: &[JournalId],
    ) -> Vec<(JournalId, LossCause)> {
        let told = self.told.get(gateway);
        let is_told = |name| told.is_some_and(|told| told.contains(name));
        let names = names.iter().enumerate();
        let news = names.filter(|(nth, name)| *nth == 0 || !is_told(name));
        news.filter_map(
            |(_, name)| match (name.is(mine), self.starts.contains(&name.start())) {
                (false, _) => Some((*name, LossCause::Elsewhere)),
                (true, false) => Some((*name, LossCause::NotHeld)),
                (true, true) => None,
            },
        )
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::id::Name;

    #[test]
    fn names_that_the_journal_never_went_by_are_told_once_or_while_they_are_the_last() {
        let [site, gateway] = ["bremen", "gw-1"].map(|name| Name::new(name).unwrap());
        let gateway = GatewayId { site, gateway };
        let [mine, other] = [0xa_0000, 0xb_0000].map(JournalId);
        let (known, vanished, theirs) = (mine.named_by(7), mine.named_by(8), other.named_by(7));
        let mut names = JournalNames::default();
        names.start(7);
        assert_eq!(names.strangers(mine, &gateway, &[known]), []);
        let both = [(theirs, LossCause::Elsewhere), (vanished, LossCause::NotHeld)];
        assert_eq!(names.strangers(mine, &gateway, &[known, theirs, vanished]), both);
        names.tell(&gateway, vanished);
        assert_eq!(names.strangers(mine, &gateway, &[known, vanished]), []);
        assert_eq!(names.strangers(mine, &gateway, &[vanished, known]), both[1..]);
    }

    #[test]
    fn the_first_names_are_forgotten_beyond_the_bounds() {
        let [site, gateway] = ["bremen", "gw-1"].map(|name| Name::new(name).unwrap());
        let gateway = GatewayId { site, gateway };
        let mut names = JournalNames::default();
        for start in 0..=NAMES_MAX as u16 {
            names.start(start);
        }
        for name in 0..=JOURNALS_MAX as u64 {
            names.tell(&gateway, JournalId(name << 32));
        }
        assert_eq!(names.starts.len(), NAMES_MAX);
        assert!(!names.starts.contains(&0));
        assert_eq!(names.told[&gateway].len(), JOURNALS_MAX);
    }
}
