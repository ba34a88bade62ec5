//! Windows of slow channels that have gone and are made again, for readings of a replayed dead letter.
//!
//! Of each stream and key they are made twice, from what the journal says was in them: as they were, and with
//! the letter's readings. What differs is told as a correction, and what no longer is, since a session was
//! joined to another, as vanished. A window that is open or kept has taken the readings by itself, and is not
//! made again; a session that is, is joined to none of them.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | keys made again at once | as [`super::replayed`] says of windows | the others with another reading of the journal |
//! | windows of each | [`WINDOWS_MAX`](crate::window::stream::WINDOWS_MAX) | the earliest is told as far as it has been made |

use super::Pipeline;
use super::placement::Samples;
use super::streams::{Late, Place, Readings, StreamKey};
use crate::ledger::{AccountKey, IndexSet};
use crate::window::stream::{Cause, Emitted, Lane, Stream};
use std::collections::BTreeMap;
use trunnion_common::id::NodeId;
use trunnion_common::sequence::Range;
use trunnion_common::time::EventTime;

/// Before every time stamp: no window is passed while it is made again.
const NEVER: EventTime = EventTime(i64::MIN);

/// After every time stamp: each window is told.
const END: EventTime = EventTime(i64::MAX);

/// Which windows: of which stream, and whose.
type RemadeKey = (String, StreamKey);

/// Windows of streams that are to be made again. Nothing of it outlives a commit.
#[derive(Default)]
pub(super) struct Slow {
    wanted: BTreeMap<RemadeKey, Remade>,
    /// Those of them that are being filled from the journal.
    filling: BTreeMap<RemadeKey, Remade>,
}

/// Windows of one key of a stream.
struct Remade {
    /// As they were, as far as that has been read.
    windows: Stream<StreamKey>,
    /// From where to where they are read, nanoseconds of event time.
    span: (i64, i64),
    /// Which readings are in them.
    known: BTreeMap<AccountKey, IndexSet>,
    /// What comes on top.
    added: BTreeMap<AccountKey, IndexSet>,
    values: Vec<(EventTime, f64)>,
    rate_mhz: u32,
}

impl Slow {
    /// Whether any are to be made again and are not yet.
    pub(super) fn is_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Goes on with so many keys.
    pub(super) fn fill(&mut self, keys: usize) {
        while self.filling.len() < keys
            && let Some((key, remade)) = self.wanted.pop_first()
        {
            self.filling.insert(key, remade);
        }
    }

    /// Where the earliest window begins that is being made; none if none is.
    pub(super) fn begins(&self) -> Option<i64> {
        self.filling.values().map(|remade| remade.span.0).min()
    }

    /// Whether readings of a node may be in windows that are being made.
    pub(super) fn is_filling(&self, node: NodeId) -> bool {
        self.filling.keys().any(|(_, key)| match key {
            StreamKey::Channel(of, _) | StreamKey::Unassigned(of, ..) => *of == node,
            StreamKey::Asset(_) => true,
        })
    }
}

impl Pipeline {
    /// A reading of a letter belongs in windows that are over; `first` is the index of the first of them all.
    pub(super) fn want_slow(&mut self, late: Late, account: AccountKey, first: u64, readings: &Readings<'_>) {
        let definition = &self.definitions[late.definition];
        let place = Place::at(
            &self.fleets,
            readings.values[0].0,
            readings.key,
            readings.signal.unit,
        );
        let name = &definition.stream.name;
        let (time, value) = readings.values[late.at];
        let (Some(key), Some(stream), Some(index)) = (
            place.key_in(&definition.stream),
            self.state.streams.named(name),
            Range::one(first + late.at as u64),
        ) else {
            return;
        };
        let span = stream.over_around(&key, time);
        let rate_mhz = match key {
            StreamKey::Asset(_) => 0,
            StreamKey::Channel(..) | StreamKey::Unassigned(..) => readings.signal.rate_mhz,
        };
        let wanted = &mut self.reopening.slow.wanted;
        let remade = wanted.entry((name.clone(), key)).or_insert_with(|| Remade {
            windows: stream.emptied(),
            span,
            known: BTreeMap::new(),
            added: BTreeMap::new(),
            values: Vec::new(),
            rate_mhz,
        });
        remade.span = (remade.span.0.min(span.0), remade.span.1.max(span.1));
        remade.added.entry(account).or_default().insert(index);
        remade.values.push((time, f64::from(value) * place.gain));
    }

    /// Those of a channel's readings go into their windows again that were in them.
    pub(super) fn remember_slow(&mut self, samples: &Samples) {
        let (node, _, channel) = samples.account;
        let place = Place::at(&self.fleets, samples.time, (node, channel), samples.signal.unit);
        let whole = samples.run();
        let stored = self.state.ledger.stored(samples.account, samples.range);
        for definition in &self.definitions {
            let name = &definition.stream.name;
            let Some(key) = place.key_in(&definition.stream) else {
                continue;
            };
            let Some(remade) = self.reopening.slow.filling.get_mut(&(name.clone(), key.clone())) else {
                continue;
            };
            let mut placed = stored.clone();
            let aside = self.state.letters.aside(name, samples.account, samples.range);
            let added = remade.added.get(&samples.account);
            let added = added.map(|added| added.common(samples.range)).unwrap_or_default();
            for &gone in aside.ranges().iter().chain(added.ranges()) {
                placed.remove(gone);
            }
            let (from, to) = (
                definition.from.max(remade.span.0),
                definition.to.min(remade.span.1),
            );
            for index in placed.ranges().iter().flat_map(|part| part.first()..part.end()) {
                let skipped = index - whole.first;
                let (time, value) = (whole.time_after(skipped), whole.values[skipped as usize]);
                let known = remade.known.entry(samples.account).or_default();
                // A frame may stand in the journal twice.
                if !(from <= time.0 && time.0 < to)
                    || value.is_nan()
                    || Range::one(index).is_none_or(|one| known.insert(one).is_empty())
                {
                    continue;
                }
                let value = f64::from(value) * place.gain;
                let _ = remade.windows.place(&key, Lane::History, &NEVER, [(time, value)]);
            }
        }
    }

    /// The windows as they were and as they are now: corrections, of those that have been read again.
    pub(super) fn reopen_slow(&mut self, revision: u32) {
        for ((name, key), mut remade) in std::mem::take(&mut self.reopening.slow.filling) {
            let mut after = remade.windows.clone();
            let _ = after.place(&key, Lane::History, &NEVER, remade.values);
            let mut before: BTreeMap<EventTime, Emitted<StreamKey>> = BTreeMap::new();
            before.extend(
                remade
                    .windows
                    .advance_all(END)
                    .into_iter()
                    .map(|told| (told.start, told)),
            );
            let mut corrected = Vec::new();
            for told in after.advance_all(END) {
                let old = before.remove(&told.start).and_then(|before| before.new);
                if old != told.new {
                    corrected.push(Emitted { old, ..told });
                }
            }
            let vanished = before.into_values().map(|told| Emitted {
                old: told.new,
                new: None,
                ..told
            });
            corrected.extend(vanished);
            for told in corrected {
                self.publish_slow(
                    &name,
                    remade.rate_mhz,
                    Emitted {
                        revision,
                        cause: Cause::Corrected,
                        history: true,
                        ..told
                    },
                );
            }
        }
    }
}
