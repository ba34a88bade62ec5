//! A sorted table that finds the entry it found last again at once.
//!
//! What arrives comes in runs: a block holds frames of one node, mostly of one channel, and each frame looks
//! its node, its boot, its channel and its account up several times. In a tree of ten thousand entries every
//! such look costs what a dozen readings cost; here the first one of a run does, and the others nothing. Order
//! and encoding are those of a [`BTreeMap`].

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// A table by rising key.
#[derive(Clone)]
pub struct Slots<K, V> {
    /// Where each key's entry is.
    order: BTreeMap<K, usize>,
    /// In no order that means anything.
    entries: Vec<(K, V)>,
    /// The one found last.
    latest: usize,
}

impl<K: Copy + Ord, V> Slots<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether there is an entry.
    pub fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_some()
    }

    /// An entry.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.find(key).map(|at| &self.entries[at].1)
    }

    /// An entry, which is found at once the next time.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.latest = self.find(key)?;
        Some(&mut self.entries[self.latest].1)
    }

    /// An entry, which is made if there is none, and found at once the next time.
    pub fn or_insert_with(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        self.latest = match self.find(&key) {
            Some(at) => at,
            None => {
                let at = self.entries.len();
                self.entries.push((key, new()));
                self.order.insert(key, at);
                at
            }
        };
        &mut self.entries[self.latest].1
    }

    /// An entry, made of nothing if there is none, and found at once the next time.
    pub fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.or_insert_with(key, V::default)
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.order.remove(key)?;
        let (_, value) = self.entries.swap_remove(at);
        if let Some((moved, _)) = self.entries.get(at) {
            self.order.insert(*moved, at);
        }
        Some(value)
    }

    /// All entries, by rising key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.order.iter().map(|(key, &at)| (key, &self.entries[at].1))
    }

    /// Those from a key on, by rising key.
    pub fn from(&self, first: K) -> impl Iterator<Item = (&K, &V)> {
        let rest = self.order.range(first..);
        rest.map(|(key, &at)| (key, &self.entries[at].1))
    }

    /// Shows all entries, by rising key.
    pub fn for_each_mut(&mut self, mut show: impl FnMut(&K, &mut V)) {
        for (key, &at) in &self.order {
            show(key, &mut self.entries[at].1);
        }
    }

    /// Shows those from a key on for as long as `wanted` says so, by rising key.
    pub fn for_each_mut_while(
        &mut self,
        first: K,
        wanted: impl Fn(&K) -> bool,
        mut show: impl FnMut(&K, &mut V),
    ) {
        for (key, &at) in self.order.range(first..).take_while(|(key, _)| wanted(key)) {
            show(key, &mut self.entries[at].1);
        }
    }

    fn find(&self, key: &K) -> Option<usize> {
        match self.entries.get(self.latest) {
            Some((latest, _)) if latest == key => Some(self.latest),
            _ => self.order.get(key).copied(),
        }
    }
}

impl<K, V> Default for Slots<K, V> {
    fn default() -> Self {
        Self {
            order: BTreeMap::new(),
            entries: Vec::new(),
            latest: 0,
        }
    }
}

impl<K: Copy + Ord, V> FromIterator<(K, V)> for Slots<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut slots = Self::default();
        for (key, value) in entries {
            slots.remove(&key);
            slots.or_insert_with(key, || value);
        }
        slots
    }
}

/// By what is in them, in its order.
impl<K: Copy + Ord, V: PartialEq> PartialEq for Slots<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<K: Copy + Ord, V: Eq> Eq for Slots<K, V> {}

impl<K: Copy + Ord + fmt::Debug, V: fmt::Debug> fmt::Debug for Slots<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Copy + Ord + Serialize, V: Serialize> Serialize for Slots<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // With its length known, which postcard wants first.
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de, K: Copy + Ord + Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Slots<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self::from_iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_sorted_map_in_content_order_and_encoding(
            steps in prop::collection::vec((0u8..4, 0u8..12, any::<u16>()), 0..80),
        ) {
            let mut slots = Slots::<u8, u16>::default();
            let mut map = BTreeMap::<u8, u16>::new();
            for (step, key, value) in steps {
                match step {
                    0 => {
                        *slots.or_default(key) = value;
                        map.insert(key, value);
                    }
                    1 => prop_assert_eq!(slots.remove(&key), map.remove(&key)),
                    2 => {
                        slots.for_each_mut_while(key, |at| *at < 9, |_, known| *known ^= value);
                        map.range_mut(key..).take_while(|(at, _)| **at < 9).for_each(|(_, known)| *known ^= value);
                    }
                    _ => prop_assert_eq!(slots.get_mut(&key), map.get_mut(&key)),
                }
                prop_assert_eq!(slots.get(&key), map.get(&key));
                prop_assert_eq!(slots.contains_key(&key), map.contains_key(&key));
                prop_assert!(slots.iter().eq(map.iter()));
                prop_assert!(slots.from(key).eq(map.range(key..)));
                prop_assert_eq!((slots.len(), slots.is_empty()), (map.len(), map.is_empty()));
            }
            let bytes = postcard::to_stdvec(&slots).unwrap();
            prop_assert_eq!(&bytes, &postcard::to_stdvec(&map).unwrap());
            prop_assert_eq!(postcard::from_bytes::<Slots<u8, u16>>(&bytes).unwrap(), slots);
        }
    }
}
