//! The application's own acknowledgement: what is durable at the collector, by sequence set.
//!
//! A PUBACK promises nothing (it only opens the next window of flow). The agent deletes a block when
//! an [`Ack`] covers it, or when it is evicted with a flushed tombstone; nothing else frees a block.

use crate::id::{Epoch, JournalId, MasterId};
use crate::sequence::{RANGES_MAX, Ranges, SequenceSet};
use crate::time::EventTime;
use core::fmt;
use core::marker::PhantomData;
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

/// How far a journal goes: more with each commit, and comparable within one journal alone. The default is told by
/// nobody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Extent(pub u64);

/// A journal that acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalMark {
    /// As the start of its collector named it ([`JournalId::named_by`]).
    pub name: JournalId,
    /// How far it went then; the default where it did not say, as those of a version before do not.
    pub extent: Extent,
}

impl From<JournalId> for JournalMark {
    /// One that did not say how far it goes.
    fn from(name: JournalId) -> Self {
        let extent = Extent::default();
        Self { name, extent }
    }
}

/// Collector to agent: these blocks of an epoch are durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ack {
    /// Whose sequence.
    pub epoch: Epoch,
    /// Everything durable.
    pub received: SequenceSet,
    /// Bytes the gateway may have unacknowledged, over all its epochs.
    pub credit_bytes: u32,
    /// The collector's clock: moves the agent's persisted clock floor.
    pub utc: EventTime,
    /// The journal that holds them. How far it goes stands behind the rest, and an agent of a version before does
    /// not look there.
    pub journal: JournalMark,
    /// What the acknowledgement survives.
    pub level: AckLevel,
}

/// What an [`Ack`] says before the extent.
type FirstOfAck<S> = (Epoch, S, u32, EventTime, JournalId, AckLevel);

impl Serialize for Ack {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let JournalMark { name, extent } = self.journal;
        let (credit, utc, level) = (self.credit_bytes, self.utc, self.level);
        let first: FirstOfAck<_> = (self.epoch, &self.received, credit, utc, name, level);
        if extent == Extent::default() {
            return first.serialize(serializer);
        }
        (first, Some(extent)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Ack {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        type Known = Grown<FirstOfAck<SequenceSet>, Option<Extent>>;

        let Grown { first, then } = Known::deserialize(deserializer)?;
        let (epoch, received, credit_bytes, utc, name, level) = first;
        let extent = then.flatten().unwrap_or_default();
        Ok(Self {
            epoch,
            received,
            credit_bytes,
            utc,
            journal: JournalMark { name, extent },
            level,
        })
    }
}

/// What a message said in its first version, and what has been appended since, if that is there and whole.
struct Grown<F, T> {
    first: F,
    then: Option<T>,
}

impl<'de, F: Deserialize<'de>, T: Deserialize<'de>> Deserialize<'de> for Grown<F, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts<F, T>(PhantomData<(F, T)>);

        impl<'de, F: Deserialize<'de>, T: Deserialize<'de>> Visitor<'de> for Parts<F, T> {
            type Value = Grown<F, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Grown<F, T>, A::Error> {
                let first = parts.next_element()?;
                Ok(Grown {
                    first: first.ok_or_else(|| Error::invalid_length(0, &self))?,
                    then: parts.next_element().ok().flatten(),
                })
            }
        }

        deserializer.deserialize_tuple(2, Parts(PhantomData))
    }
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
    /// The journals that acknowledged anything to this gateway, as the collectors' starts then named them and as far
    /// as they went then, the last one first. A journal that never went by one of these names, or ended earlier
    /// under it, does not hold what was delivered there. The message of an agent that knows of none, or of a
    /// version before this list, ends before it; that of one that knows no extents ends before those.
    pub journals: Vec<JournalMark, JOURNALS_MAX>,
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
type FirstOfHello<E, F> = (E, MasterId, u32, F);

/// Of each journal of a [`Hello`].
type Each<T> = Vec<T, JOURNALS_MAX>;

impl Serialize for Hello {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let first: FirstOfHello<_, _> = (&self.epochs, self.start, self.number, &self.former);
        if self.journals.is_empty() {
            return first.serialize(serializer);
        }
        let names: Each<JournalId> = self.journals.iter().map(|mark| mark.name).collect();
        let extents: Each<Extent> = self.journals.iter().map(|mark| mark.extent).collect();
        if extents.iter().all(|extent| *extent == Extent::default()) {
            return (first, names).serialize(serializer);
        }
        (first, names, extents).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Hello {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        type Later = Grown<Each<JournalId>, Each<Extent>>;

        let Grown { first, then } = Grown::<FirstOfHello<_, _>, Later>::deserialize(deserializer)?;
        let (epochs, start, number, former) = first;
        let (names, extents) = then.map_or_else(Default::default, |Grown { first, then }| {
            (first, then.unwrap_or_default())
        });
        let extents = extents.into_iter().chain(core::iter::repeat(Extent::default()));
        let journals = names.into_iter().zip(extents);
        Ok(Self {
            epochs,
            start,
            number,
            former,
            journals: journals
                .map(|(name, extent)| JournalMark { name, extent })
                .collect(),
        })
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
