//! Which epochs of a gateway came first, and whose word counts. Pure.
//!
//! An agent numbers its blocks in epochs, of which each of its starts begins new ones. What an agent says that
//! it holds is true of the moment in which it said so, and words may arrive in any order: a network holds them
//! up, a backlog brings old ones, and a gateway that was put back to an old image knows less than it said
//! before. So words are put in order by what the journal knows of their epochs:
//!
//! - an epoch that was first heard after a supersession is of a later start than one heard before it;
//! - so is one that was first heard after a Hello of a gateway that was put back to an image: it lists an epoch
//!   that ends before blocks which have come;
//! - of others, one that its gateway no longer holds is of an earlier start than one that it does. That is how
//!   an image shows that was made before the last start, and cannot name it as superseded.
//!
//! Both are remembered of a closed epoch as well, whose last words may still be on their way.

use crate::ingest::dedup::EPOCHS_OPEN_MAX;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use trunnion_common::id::{Epoch, GatewayId, MasterId};

/// Closed epochs remembered per gateway, of the last 32 starts; words of earlier ones count as of no known start.
const CLOSED_MAX: usize = 64;

/// The epochs of all gateways.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Epochs(BTreeMap<GatewayId, Heard>);

/// What an agent said when it said what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Word {
    /// Which gateway's.
    gateway: u32,
    /// Where it stands.
    pub(super) epoch: Epoch,
    pub(super) sequence: u64,
}

/// How a word stands to another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Of the same start, and said later, or the same.
    Newer,
    /// Of a later start.
    Later,
    /// Of an earlier start, or said earlier.
    Earlier,
    /// Of another start, and nobody knows which came first.
    Unordered,
    /// Of another gateway.
    Elsewhere,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Heard {
    /// Of the gateway, in the order in which they came.
    number: u32,
    /// Starts superseded so far.
    superseded: u64,
    /// Epochs closed so far.
    closings: u64,
    epochs: BTreeMap<Epoch, Known>,
    /// The last word that counted.
    newest: Option<Word>,
    /// Where the last Hello that found a loss says that its epochs stood.
    stood: BTreeMap<Epoch, u64>,
    /// The start that was last found to be put back.
    put_back: Option<MasterId>,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct Known {
    /// Starts superseded when it was first heard.
    superseded: u64,
    /// Which closing was its own.
    closed: Option<u64>,
    /// Whether it has said what the agent holds.
    has_reported: bool,
    /// After the last block of it that has come.
    end: u64,
}

impl Known {
    fn rank(&self) -> (u64, u64) {
        (self.superseded, self.closed.unwrap_or(u64::MAX))
    }
}

impl Heard {
    /// Forgets the epochs with the lowest rank of one kind, but for so many.
    fn bound(&mut self, is_closed: bool, most: usize) {
        let mine = |known: &&Known| known.closed.is_some() == is_closed;
        while self.epochs.values().filter(mine).count() > most {
            let theirs = self.epochs.iter().filter(|(_, known)| mine(known));
            let lowest = theirs.min_by_key(|(_, known)| known.closed.map_or(known.rank(), |nth| (nth, 0)));
            let Some(lowest) = lowest.map(|(epoch, _)| *epoch) else {
                return;
            };
            self.epochs.remove(&lowest);
        }
    }
}

impl Epochs {
    /// A block was committed.
    pub(super) fn hear(&mut self, gateway: &GatewayId, (epoch, sequence): (Epoch, u64)) {
        let heard = self.of(gateway);
        let end = sequence.saturating_add(1);
        if let Some(known) = heard.epochs.get_mut(&epoch) {
            known.end = known.end.max(end);
            return;
        }
        let known = Known {
            superseded: heard.superseded,
            closed: None,
            has_reported: false,
            end,
        };
        heard.epochs.insert(epoch, known);
        // The door to the journal leaves no more open.
        heard.bound(false, EPOCHS_OPEN_MAX);
    }

    /// A start of the agent says where its epochs stand.
    pub(super) fn greet(&mut self, gateway: &GatewayId, start: MasterId, next: &[(Epoch, u64)]) {
        let heard = self.of(gateway);
        heard.stood = next.iter().copied().collect();
        let ends_before = |(epoch, next): &(Epoch, u64)| {
            let known = heard.epochs.get(epoch);
            known.is_some_and(|known| known.end > *next)
        };
        if next.iter().any(ends_before) && heard.put_back != Some(start) {
            heard.put_back = Some(start);
            heard.superseded = heard.superseded.saturating_add(1);
        }
    }

    /// A start of the agent has followed others.
    pub(super) fn supersede(&mut self, gateway: &GatewayId) {
        let heard = self.of(gateway);
        heard.superseded = heard.superseded.saturating_add(1);
    }

    /// The agent has done with an epoch.
    pub(super) fn close(&mut self, gateway: &GatewayId, epoch: Epoch) {
        let heard = self.of(gateway);
        heard.closings = heard.closings.saturating_add(1);
        if let Some(known) = heard.epochs.get_mut(&epoch) {
            known.closed = Some(heard.closings);
            heard.bound(true, CLOSED_MAX);
        }
    }

    /// The agent says what it holds. `None` where a newer word of that gateway has come before it.
    pub(super) fn take_word(&mut self, gateway: &GatewayId, (epoch, sequence): (Epoch, u64)) -> Option<Word> {
        let heard = self.of(gateway);
        let word = Word {
            gateway: heard.number,
            epoch,
            sequence,
        };
        let newest = heard.newest;
        if newest.is_some_and(|newest| self.standing(gateway, word, newest) == Standing::Earlier) {
            return None;
        }
        self.of(gateway).newest = Some(word);
        Some(word)
    }

    /// Whether that is the first time in this epoch.
    pub(super) fn is_first(&mut self, gateway: &GatewayId, word: Word) -> bool {
        let known = self.of(gateway).epochs.get_mut(&word.epoch);
        known.is_some_and(|known| !std::mem::replace(&mut known.has_reported, true))
    }

    /// Whether it is an epoch of the newest start whose blocks carry words.
    pub(super) fn speaks_of_present(&self, gateway: &GatewayId, epoch: Epoch) -> bool {
        let known = self.0.get(gateway).map(|heard| &heard.epochs);
        let newest = known.and_then(|known| known.values().map(Known::rank).max());
        let mine = known.and_then(|known| known.get(&epoch));
        mine.is_some_and(|mine| mine.has_reported && Some(mine.rank()) == newest)
    }

    /// Whether a word is known to stand behind that block, which may be of any chain. Without a block: whether
    /// it is of the newest start and was made after the Hello that found what no block tells.
    pub(super) fn is_newer(&self, gateway: &GatewayId, word: Word, block: Option<(Epoch, u64)>) -> bool {
        if let Some((epoch, sequence)) = block {
            let block = Word {
                gateway: word.gateway,
                epoch,
                sequence,
            };
            let standing = self.standing(gateway, word, block);
            return matches!(standing, Standing::Newer | Standing::Later);
        }
        let known = self.0.get(gateway).map(|heard| &heard.epochs);
        let newest = known.and_then(|known| known.values().map(Known::rank).max());
        let mine = known.and_then(|known| known.get(&word.epoch).map(Known::rank));
        let stood = self.0.get(gateway).and_then(|heard| heard.stood.get(&word.epoch));
        mine == newest && stood.is_none_or(|stood| *stood <= word.sequence)
    }

    /// How a word of that gateway stands to another one.
    pub(super) fn standing(&self, gateway: &GatewayId, word: Word, other: Word) -> Standing {
        if word.gateway != other.gateway {
            return Standing::Elsewhere;
        }
        if word.epoch == other.epoch {
            return if word.sequence < other.sequence {
                Standing::Earlier
            } else {
                Standing::Newer
            };
        }
        let heard = self.0.get(gateway);
        let rank = |word: Word| Some(heard?.epochs.get(&word.epoch)?.rank());
        match rank(word).cmp(&rank(other)) {
            Ordering::Greater => Standing::Later,
            Ordering::Less => Standing::Earlier,
            Ordering::Equal => Standing::Unordered,
        }
    }

    fn of(&mut self, gateway: &GatewayId) -> &mut Heard {
        let number = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.entry(gateway.clone()).or_insert_with(|| Heard {
            number,
            ..Heard::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::id::Name;

    fn gateway(name: &str) -> GatewayId {
        GatewayId {
            site: Name::new("bremen").unwrap(),
            gateway: Name::new(name).unwrap(),
        }
    }

    impl Epochs {
        fn word(&mut self, gateway: &GatewayId, epoch: u64) -> Word {
            Word {
                gateway: self.of(gateway).number,
                epoch: Epoch(epoch),
                sequence: 0,
            }
        }

        fn check(&mut self, gateway: &GatewayId, epoch: u64, other: u64) -> Standing {
            let [word, other] = [epoch, other].map(|epoch| self.word(gateway, epoch));
            self.standing(gateway, word, other)
        }
    }

    #[test]
    fn an_epoch_is_later_once_another_start_came_between_or_the_other_is_closed() {
        let (mut epochs, mine) = (Epochs::default(), gateway("gw-1"));
        epochs.hear(&mine, (Epoch(9), 0));
        epochs.hear(&mine, (Epoch(4), 0));
        assert_eq!(epochs.check(&mine, 4, 9), Standing::Unordered, "the same start");
        epochs.supersede(&gateway("gw-2"));
        epochs.hear(&mine, (Epoch(5), 0));
        assert_eq!(epochs.check(&mine, 5, 9), Standing::Unordered, "not its own");
        epochs.supersede(&mine);
        epochs.hear(&mine, (Epoch(4), 0));
        epochs.hear(&mine, (Epoch(2), 0));
        assert_eq!(epochs.check(&mine, 2, 4), Standing::Later);
        assert_eq!(
            epochs.check(&mine, 4, 2),
            Standing::Earlier,
            "heard again, not first"
        );
        epochs.close(&mine, Epoch(9));
        assert_eq!(epochs.check(&mine, 4, 9), Standing::Later);
        epochs.hear(&mine, (Epoch(9), 0));
        assert_eq!(
            epochs.check(&mine, 4, 9),
            Standing::Later,
            "a late block opens nothing"
        );
        assert_eq!(epochs.check(&mine, 2, 2), Standing::Newer);
    }

    #[test]
    fn words_of_two_gateways_have_no_order() {
        let (mut epochs, mine, other) = (Epochs::default(), gateway("gw-1"), gateway("gw-2"));
        epochs.hear(&mine, (Epoch(1), 0));
        let (word, theirs) = (epochs.word(&mine, 1), epochs.word(&other, 2));
        assert_eq!(epochs.standing(&mine, word, theirs), Standing::Elsewhere);
    }

    #[test]
    fn a_word_that_a_newer_one_has_overtaken_is_not_taken() {
        let (mut epochs, mine) = (Epochs::default(), gateway("gw-1"));
        epochs.hear(&mine, (Epoch(1), 0));
        assert!(epochs.take_word(&mine, (Epoch(1), 7)).is_some());
        assert!(epochs.take_word(&mine, (Epoch(1), 6)).is_none());
        epochs.close(&mine, Epoch(1));
        epochs.hear(&mine, (Epoch(2), 0));
        assert!(epochs.take_word(&mine, (Epoch(2), 0)).is_some());
        assert!(
            epochs.take_word(&mine, (Epoch(1), 9)).is_none(),
            "of a former start"
        );
        assert!(epochs.take_word(&gateway("gw-2"), (Epoch(1), 9)).is_some());
    }

    #[test]
    fn what_no_block_tells_is_older_than_words_of_the_newest_start_alone() {
        let (mut epochs, mine) = (Epochs::default(), gateway("gw-1"));
        epochs.hear(&mine, (Epoch(1), 0));
        let former = epochs.word(&mine, 1);
        assert!(epochs.is_newer(&mine, former, None));
        epochs.supersede(&mine);
        epochs.hear(&mine, (Epoch(2), 0));
        assert!(!epochs.is_newer(&mine, former, None));
        assert!(!epochs.is_newer(&mine, former, Some((Epoch(2), 0))));
        assert!(!epochs.is_newer(&mine, former, Some((Epoch(1), 1))));
        let newest = epochs.word(&mine, 2);
        assert!(epochs.is_newer(&mine, newest, None));
        assert!(epochs.is_newer(&mine, newest, Some((Epoch(1), 1))));
        assert!(!epochs.speaks_of_present(&mine, newest.epoch));
        assert!(epochs.is_first(&mine, newest) && epochs.is_first(&mine, former));
        assert!(epochs.speaks_of_present(&mine, newest.epoch));
        assert!(!epochs.speaks_of_present(&mine, former.epoch));
        epochs.greet(&mine, MasterId(1), &[(Epoch(2), 1)]);
        assert!(!epochs.is_newer(&mine, newest, None), "made before the Hello");
        let sequence = 1;
        assert!(epochs.is_newer(&mine, Word { sequence, ..newest }, None));
    }

    #[test]
    fn an_epoch_that_ends_before_what_has_come_shows_that_its_gateway_was_put_back() {
        let (mut epochs, mine) = (Epochs::default(), gateway("gw-1"));
        for sequence in 0..9 {
            epochs.hear(&mine, (Epoch(1), sequence));
        }
        epochs.greet(&mine, MasterId(1), &[(Epoch(1), 9), (Epoch(2), 0)]);
        epochs.hear(&mine, (Epoch(2), 0));
        assert_eq!(epochs.check(&mine, 2, 1), Standing::Unordered);
        epochs.greet(&mine, MasterId(2), &[(Epoch(1), 5), (Epoch(3), 0)]);
        epochs.hear(&mine, (Epoch(3), 0));
        assert_eq!(epochs.check(&mine, 3, 1), Standing::Later);
        assert_eq!(epochs.check(&mine, 3, 2), Standing::Later);
        // Said again by the same start: its other epoch is no later one.
        epochs.greet(&mine, MasterId(2), &[(Epoch(1), 5), (Epoch(3), 1)]);
        epochs.hear(&mine, (Epoch(4), 0));
        assert_eq!(epochs.check(&mine, 4, 3), Standing::Unordered);
    }

    #[test]
    fn an_epoch_reports_for_the_first_time_once() {
        let (mut epochs, mine) = (Epochs::default(), gateway("gw-1"));
        let word = epochs.word(&mine, 1);
        assert!(!epochs.is_first(&mine, word), "nothing was heard of it");
        epochs.hear(&mine, (Epoch(1), 0));
        assert!(epochs.is_first(&mine, word));
        assert!(!epochs.is_first(&mine, word));
    }

    #[test]
    fn no_more_are_remembered_than_can_be_open_and_the_last_that_were_closed() {
        let (mut epochs, mine) = (Epochs::default(), gateway("gw-1"));
        let newest = 2 * EPOCHS_OPEN_MAX as u64;
        for number in 0..=newest {
            epochs.hear(&mine, (Epoch(number), 0));
            epochs.supersede(&mine);
        }
        assert_eq!(epochs.0[&mine].epochs.len(), EPOCHS_OPEN_MAX);
        assert_eq!(epochs.check(&mine, newest, 0), Standing::Later);
        for number in 0..newest + CLOSED_MAX as u64 {
            epochs.hear(&mine, (Epoch(number), 0));
            epochs.close(&mine, Epoch(number));
        }
        assert!(epochs.0[&mine].epochs.len() <= EPOCHS_OPEN_MAX + CLOSED_MAX);
    }
}
