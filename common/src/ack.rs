//! The application's own acknowledgement: what is durable at the collector, by sequence set.
//!
//! A PUBACK promises nothing (it only opens the next window of flow). The agent deletes a block when
//! an [`Ack`] covers it, or when it is evicted with a flushed tombstone; nothing else frees a block.

use crate::id::{Epoch, JournalId, MasterId};
use crate::sequence::{RANGES_MAX, Ranges, SequenceSet};
use crate::time::EventTime;
use core::fmt;
use heapless::Vec;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What an acknowledgement survives. Appended to, never reordered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckLevel {
    /// The collector's process, operating system and power: its fsync has returned.
    Local,
    /// Also the loss of the machine.
    Replicated,
}

/// Collector to agent: these blocks of an epoch are durable.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ack {
    /// Whose sequence.
    pub epoch: Epoch,
    /// Everything durable.
    pub received: SequenceSet,
    /// Bytes the gateway may have unacknowledged, over all its epochs.
    pub credit_bytes: u32,
    /// The collector's clock: moves the agent's persisted clock floor.
    pub utc: EventTime,
    /// The journal that holds them, as this start of its collector names it ([`JournalId::named_by`]).
    pub journal: JournalId,
    /// What the acknowledgement survives.
    pub level: AckLevel,
}

/// Most epochs that an agent can hold: one per start that left something behind.
pub const EPOCHS_MAX: usize = 64;

/// Former starts that a [`Hello`] names: so many restarts may lie between a Hello that a network held
/// up and the one that is heard in its place.
pub const FORMER_STARTS_MAX: usize = 16;

/// Names of journals that a [`Hello`] tells: so many starts of collectors may lie between a return to a backup
/// and the Hello that shows it.
pub const JOURNALS_MAX: usize = 8;

/// Agent to collector, once per connection after SUBACK of the ack topic and once more when a journal of another
/// name acknowledges: every epoch still held.
///
/// A Hello closes epochs, so that one which the network held up must not be mistaken for news. Those of
/// one start are told apart by `number`, and each start names those before it, whose Hellos count no
/// more from then on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The epochs; one no longer listed is closed.
    pub epochs: Vec<HeldEpoch, EPOCHS_MAX>,
    /// The start of the agent that says it.
    pub start: MasterId,
    /// Its number among those of the start: later ones have higher ones.
    pub number: u32,
    /// Starts of the same agent before this one, newest first.
    pub former: Vec<MasterId, FORMER_STARTS_MAX>,
    /// The journals that acknowledged anything to this gateway, as the collectors' starts then named them, the
    /// last one first. A journal that never went by one of these names does not hold what was delivered
    /// under it. One of an agent that knows of none, or of a version before this list, ends before it.
    pub journals: Vec<JournalId, JOURNALS_MAX>,
}

impl Hello {
    /// The first one of a start that knows of no others.
    pub const fn first(start: MasterId, epochs: Vec<HeldEpoch, EPOCHS_MAX>) -> Self {
        Self {
            epochs,
            start,
            number: 0,
            former: Vec::new(),
            journals: Vec::new(),
        }
    }
}

/// What a [`Hello`] says before its journals.
type First<E, F> = (E, MasterId, u32, F);

impl Serialize for Hello {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let first: First<_, _> = (&self.epochs, self.start, self.number, &self.former);
        if self.journals.is_empty() {
            return first.serialize(serializer);
        }
        (first, &self.journals).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Hello {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;

        impl<'de> Visitor<'de> for Parts {
            type Value = Hello;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a hello")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Hello, A::Error> {
                let first = parts.next_element::<First<_, _>>()?;
                let (epochs, start, number, former) = first.ok_or_else(|| Error::invalid_length(0, &self))?;
                Ok(Hello {
                    epochs,
                    start,
                    number,
                    former,
                    journals: parts.next_element().ok().flatten().unwrap_or_default(),
                })
            }
        }

        deserializer.deserialize_tuple(2, Parts)
    }
}

/// One epoch of a [`Hello`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldEpoch {
    /// Which.
    pub epoch: Epoch,
    /// The sequence that its next block will have.
    pub next: u64,
    /// Sequences held, pending tombstones included; at most the [`RANGES_MAX`] lowest.
    pub held: Ranges,
    /// The journal whose acknowledgement freed blocks of this epoch, if any did.
    pub freed_by: Option<JournalId>,
}

const _: () = assert!(RANGES_MAX == 16, "wire.md: at most 16 ranges");
