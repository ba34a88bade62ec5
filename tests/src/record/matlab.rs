//! A strict reader of the MATLAB 5 files at hand: real, uncompressed, numeric matrices.
//!
//! Format: *MAT-File Format*, The MathWorks, chapter 1. A header of 128 bytes ends with the version and
//! the letters `IM` of a little-endian writer. Then elements: a tag of type and length, each u32, the
//! data, and padding to 8 bytes. Data of up to 4 bytes may lie in the tag's second half, with the length
//! in the upper half of the type.

/// A named matrix, its values in the file's order (by column).
#[derive(Debug)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) values: Vec<f64>,
}

/// What was wrong, and at which byte.
#[derive(Debug)]
pub(crate) struct MatlabError {
    pub(crate) offset: usize,
    pub(crate) reason: String,
}

const HEADER: usize = 128;
const INT8: u32 = 1;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;

/// The matrices of a file.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Variable>, MatlabError> {
    let mut reader = Reader {
        bytes,
        offset: HEADER,
    };
    match bytes.get(HEADER - 4..HEADER) {
        Some([0, 1, b'I', b'M']) => {}
        Some(_) => return Err(reader.error(HEADER - 4, "not a little-endian MATLAB 5 file")),
        None => return Err(reader.error(bytes.len(), "shorter than the header of a MATLAB 5 file")),
    }
    let mut variables = Vec::new();
    while reader.offset < bytes.len() {
        let start = reader.offset;
        let element = reader.element()?;
        match element.kind {
            MATRIX => {
                let inside = Reader {
                    bytes: &bytes[..element.start + element.data.len()],
                    offset: element.start,
                };
                variables.push(matrix(inside)?);
            }
            COMPRESSED => return Err(reader.error(start, "compressed: save it with -v6")),
            other => {
                return Err(reader.error(
                    start,
                    &format!("element of type {other} where a matrix should be"),
                ));
            }
        }
    }
    Ok(variables)
}

fn matrix(mut reader: Reader<'_>) -> Result<Variable, MatlabError> {
    let start = reader.offset;
    let flags = reader.expect(UINT32, "array flags")?;
    let (&[class, bits, ..], 8) = (flags.data, flags.data.len()) else {
        return Err(reader.error(start, "array flags are 8 bytes"));
    };
    // Classes 6 to 15 are numeric; bit 3 of the flags marks complex numbers.
    if !(6..=15).contains(&class) || bits & 0x08 != 0 {
        return Err(reader.error(
            start,
            &format!("array of class {class}: only real numeric matrices are read"),
        ));
    }
    let dimensions = reader.expect(INT32, "dimensions")?;
    let mut count: usize = 1;
    for dimension in dimensions.data.chunks_exact(4) {
        let dimension = u32::from_le_bytes(dimension.try_into().expect("chunks are 4 long"));
        count = usize::try_from(dimension)
            .ok()
            .and_then(|dimension| count.checked_mul(dimension))
            .ok_or_else(|| reader.error(dimensions.start, "dimensions overflow"))?;
    }
    let name = reader.expect(INT8, "name")?;
    let name = String::from_utf8_lossy(name.data).into_owned();
    let at = reader.offset;
    let values = numbers(&reader.element()?, &reader, at)?;
    if values.len() != count {
        let reason = format!(
            "{name} has {} values where its dimensions say {count}",
            values.len()
        );
        return Err(reader.error(at, &reason));
    }
    Ok(Variable { name, values })
}

/// Numbers in whatever type they were stored: MATLAB stores a double that is a small whole number in fewer bytes.
fn numbers(element: &Element<'_>, reader: &Reader<'_>, at: usize) -> Result<Vec<f64>, MatlabError> {
    macro_rules! read_as {
        ($number:ty) => {{
            let chunks = element.data.chunks_exact(size_of::<$number>());
            if !chunks.remainder().is_empty() {
                return Err(reader.error(at, "the data ends within a number"));
            }
            Ok(chunks
                .map(|chunk| {
                    f64::from(<$number>::from_le_bytes(
                        chunk.try_into().expect("chunks have the number's size"),
                    ))
                })
                .collect())
        }};
    }
    match element.kind {
        1 => read_as!(i8),
        2 => read_as!(u8),
        3 => read_as!(i16),
        4 => read_as!(u16),
        5 => read_as!(i32),
        6 => read_as!(u32),
        7 => read_as!(f32),
        9 => read_as!(f64),
        other => Err(reader.error(at, &format!("numbers of type {other}"))),
    }
}

struct Element<'a> {
    kind: u32,
    /// Offset of the data in the file.
    start: usize,
    data: &'a [u8],
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, offset: usize, reason: &str) -> MatlabError {
        MatlabError {
            offset,
            reason: reason.to_owned(),
        }
    }

    fn expect(&mut self, kind: u32, what: &str) -> Result<Element<'a>, MatlabError> {
        let start = self.offset;
        let element = self.element()?;
        if element.kind == kind {
            Ok(element)
        } else {
            Err(self.error(
                start,
                &format!("{what} should have type {kind}, not {}", element.kind),
            ))
        }
    }

    fn element(&mut self) -> Result<Element<'a>, MatlabError> {
        let tag = self.offset;
        let (kind, second) = (self.word(tag)?, self.word(tag + 4)?);
        let small = (kind >> 16) as usize;
        let (kind, start, length) = if small == 0 {
            (kind, tag + 8, second as usize)
        } else {
            (kind & 0xffff, tag + 4, small)
        };
        if small > 4 {
            return Err(self.error(tag, "more than 4 bytes in a short element"));
        }
        let data = start
            .checked_add(length)
            .and_then(|end| self.bytes.get(start..end))
            .ok_or_else(|| self.error(tag, &format!("an element of {length} bytes runs past the end")))?;
        self.offset = if small == 0 {
            (start + length).next_multiple_of(8).min(self.bytes.len())
        } else {
            tag + 8
        };
        Ok(Element { kind, start, data })
    }

    fn word(&self, at: usize) -> Result<u32, MatlabError> {
        let word = self
            .bytes
            .get(at..at + 4)
            .ok_or_else(|| self.error(at, "the file ends within a tag"))?;
        Ok(u32::from_le_bytes(word.try_into().expect("the slice is 4 long")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    fn file() -> Vec<u8> {
        let mut bytes = vec![b' '; HEADER - 4];
        bytes.extend([0, 1, b'I', b'M']);
        for (name, values) in [(&b"X001_DE_time"[..], &[1.5f64, -2.0][..]), (b"RPM", &[1797.0])] {
            let mut inside = element(UINT32, &[6, 0, 0, 0, 0, 0, 0, 0]);
            inside.extend(element(INT32, &[values.len() as u8, 0, 0, 0, 1, 0, 0, 0]));
            if name.len() <= 4 {
                inside.extend([1, 0, name.len() as u8, 0]);
                inside.extend(name);
                inside.push(0);
            } else {
                inside.extend(element(INT8, name));
            }
            let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            inside.extend(element(9, &data));
            bytes.extend(element(MATRIX, &inside));
        }
        bytes
    }

    #[test]
    fn matrices_come_with_name_and_values() {
        let variables = read(&file()).unwrap();
        let found: Vec<_> = variables
            .iter()
            .map(|v| (v.name.as_str(), v.values.as_slice()))
            .collect();
        assert_eq!(found, [("X001_DE_time", &[1.5, -2.0][..]), ("RPM", &[1797.0])]);
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error_with_a_place_and_no_panic() {
        let whole = file();
        let first = HEADER + 8 + whole[HEADER + 4] as usize;
        for length in (0..whole.len()).filter(|&length| length != HEADER && length != first) {
            let error = read(&whole[..length]).expect_err("cut short");
            assert!(
                error.offset <= length,
                "{} of {length}: {}",
                error.offset,
                error.reason
            );
        }
    }

    #[test]
    fn any_changed_byte_is_read_or_refused_without_panic() {
        let whole = file();
        let mut refused = 0;
        for index in HEADER - 4..whole.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[index] ^= change;
                refused += usize::from(read(&bytes).is_err());
            }
        }
        assert!(refused > 50, "{refused}");
    }
}
