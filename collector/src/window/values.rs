//! Values in a row, shared with whoever has a copy until either changes.
//!
//! A checkpoint is made of a copy of the pipeline's state while the pipeline goes on. Nearly all of that state
//! is samples of open windows, so that a copy which shares them costs next to nothing; what is appended to
//! afterwards is copied then, one run at a time.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes of a value in a checkpoint.
const VALUE_BYTES: usize = size_of::<f32>();

/// Consecutive values of one channel.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Values(Arc<Vec<f32>>);

impl Values {
    /// These values, and room for so many in all.
    pub(super) fn with_room(values: &[f32], room: usize) -> Self {
        let mut all = Vec::with_capacity(room.max(values.len()));
        all.extend_from_slice(values);
        Self(Arc::new(all))
    }

    /// The values by themselves; a copy of them, where somebody else has one.
    pub(super) fn into_vec(self) -> Vec<f32> {
        Arc::unwrap_or_clone(self.0)
    }

    /// Appends some more.
    pub(super) fn append(&mut self, more: &[f32]) {
        if let Some(values) = Arc::get_mut(&mut self.0) {
            values.extend_from_slice(more);
            return;
        }
        // With the same room as before, or it would be copied once more at once.
        let room = self.0.capacity().max(self.0.len() + more.len());
        let mut values = Vec::with_capacity(room);
        values.extend_from_slice(&self.0);
        values.extend_from_slice(more);
        self.0 = Arc::new(values);
    }
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

/// As one piece, little-endian: value by value would take most of the time that a checkpoint takes.
impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = vec![0; self.len() * VALUE_BYTES];
        for (to, value) in bytes.chunks_exact_mut(VALUE_BYTES).zip(self.iter()) {
            to.copy_from_slice(&value.to_le_bytes());
        }
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(Pieces)
    }
}

struct Pieces;

impl Visitor<'_> for Pieces {
    type Value = Values;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("values of four bytes each")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Values, E> {
        let (values, []) = bytes.as_chunks::<VALUE_BYTES>() else {
            return Err(E::invalid_length(bytes.len(), &self));
        };
        let values = values.iter().map(|value| f32::from_le_bytes(*value));
        Ok(Values(Arc::new(values.collect())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_stays_what_it_was() {
        let mut values = Values::with_room(&[1.0, 2.0], 0);
        let copy = values.clone();
        values.append(&[3.0]);
        values.append(&[4.0]);
        assert_eq!(
            (&values[..], &copy[..]),
            (&[1.0, 2.0, 3.0, 4.0][..], &[1.0, 2.0][..])
        );
    }

    #[test]
    fn every_value_comes_back_bit_for_bit_and_nothing_else_does() {
        let values = Values::with_room(&[0.0, -0.0, f32::NAN, f32::MAX, f32::MIN_POSITIVE / 2.0], 0);
        let bytes = postcard::to_stdvec(&values).unwrap();
        assert_eq!(bytes.len(), 1 + 5 * VALUE_BYTES);
        let back: Values = postcard::from_bytes(&bytes).unwrap();
        let bits = |values: &Values| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(&values));
        let odd = postcard::to_stdvec(&vec![7u8; 6]).unwrap();
        assert!(postcard::from_bytes::<Values>(&odd).is_err());
    }
}
