//! What was computed on a window, as the window's row holds it.
//!
//! All values of a window lie in its own row. With a row for each value, by series and time, one value is
//! read with less, but each lies on a page of its own, and the windows of a thousand channels that end in
//! the same instant change a page for each of their features.
//!
//! A value is the number of its series (u32) and itself (f32), both little-endian.

use super::StateError;

/// Bytes of a value.
const VALUE_BYTES: usize = 8;

/// Adds the value of a series.
pub(super) fn push(to: &mut Vec<u8>, series: i64, value: f32) -> Result<(), StateError> {
    let series = u32::try_from(series).map_err(|_| StateError::Corrupt("series.id"))?;
    to.extend_from_slice(&series.to_le_bytes());
    to.extend_from_slice(&value.to_le_bytes());
    Ok(())
}

/// Series and values, in the order in which they were computed; bytes that are left over are none.
pub(super) fn each(bytes: &[u8]) -> impl Iterator<Item = (i64, f32)> {
    let (values, _) = bytes.as_chunks::<VALUE_BYTES>();
    values.iter().map(|&[a, b, c, d, e, f, g, h]| {
        let series = u32::from_le_bytes([a, b, c, d]);
        (i64::from(series), f32::from_le_bytes([e, f, g, h]))
    })
}

/// The value of a series; none where it was not computed.
pub(super) fn find(bytes: &[u8], series: i64) -> Option<f32> {
    each(bytes)
        .find(|(known, _)| *known == series)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_series_to_the_bit() {
        let mut bytes = Vec::new();
        for (series, value) in [(7, 1.5), (1, f32::MIN_POSITIVE), (i64::from(u32::MAX), -0.0)] {
            push(&mut bytes, series, value).unwrap();
        }
        assert_eq!(bytes.len(), 3 * VALUE_BYTES);
        assert_eq!(find(&bytes, 1), Some(f32::MIN_POSITIVE));
        assert_eq!(
            find(&bytes, i64::from(u32::MAX)).map(f32::to_bits),
            Some((-0.0_f32).to_bits())
        );
        assert_eq!(find(&bytes, 2), None);
        assert_eq!(
            each(&bytes).map(|(series, _)| series).collect::<Vec<_>>(),
            [7, 1, i64::from(u32::MAX)]
        );
        assert_eq!(
            each(&bytes[..VALUE_BYTES + 3]).count(),
            1,
            "what is left over is no value"
        );
        assert!(push(&mut bytes, -1, 0.0).is_err());
    }
}
