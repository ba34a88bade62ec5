//! A strict reader of the MATLAB 5 files at hand: real numeric matrices, by themselves or as the fields of a
//! structure, compressed or not. What is of another class (text, cells, sparse matrices) is passed over.
//!
//! Format: *MAT-File Format*, The MathWorks, chapter 1. A header of 128 bytes ends with the version and
//! the letters `IM` of a little-endian writer. Then elements: a tag of type and length, each u32, the
//! data, and padding to 8 bytes. Data of up to 4 bytes may lie in the tag's second half, with the length
//! in the upper half of the type. A compressed element holds one other element as a zlib stream, and has
//! no padding behind it.

use flate2::read::ZlibDecoder;
use std::io::Read;

/// A named matrix, its values in the file's order (by column). A field of a structure is named after both:
/// `bearing.sr`.
#[derive(Debug)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) values: Vec<f64>,
}

/// What was wrong, and at which byte; within a compressed element, at which byte of what it holds.
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

/// What is said of a file in the later format, which is HDF5.
const VERSION_7_3: &str = "a MATLAB 7.3 file, which is not read: save it again with `-v7`";

/// Array class of a structure.
const STRUCTURE: u8 = 2;

/// Structures within structures that are read.
const DEPTH_MAX: usize = 4;

/// Largest content of a compressed element: ten minutes of doubles at 51.2 kHz, so that a file that is no record
/// cannot take all memory.
const UNPACKED_MAX: u64 = 256 << 20;

/// The matrices of a file.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Variable>, MatlabError> {
    let reader = Reader {
        bytes,
        offset: HEADER,
    };
    match bytes.get(HEADER - 4..HEADER) {
        Some([0, 1, b'I', b'M']) => {}
        // The one is how the writer calls it, the other what it is.
        Some([0, 2, b'I', b'M']) => return Err(reader.error(HEADER - 4, VERSION_7_3)),
        Some(_) if bytes.starts_with(b"\x89HDF") => return Err(reader.error(0, VERSION_7_3)),
        Some(_) => return Err(reader.error(HEADER - 4, "not a little-endian MATLAB 5 file")),
        None => return Err(reader.error(bytes.len(), "shorter than the header of a MATLAB 5 file")),
    }
    let mut variables = Vec::new();
    elements(reader, true, &mut variables)?;
    Ok(variables)
}

/// The matrices of everything up to the end.
fn elements(
    mut reader: Reader<'_>,
    may_unpack: bool,
    variables: &mut Vec<Variable>,
) -> Result<(), MatlabError> {
    while reader.offset < reader.bytes.len() {
        let start = reader.offset;
        let element = reader.element()?;
        match element.kind {
            MATRIX => matrix(element.inside(reader.bytes), "", DEPTH_MAX, variables)?,
            COMPRESSED if may_unpack => {
                let mut unpacked = Vec::new();
                let taken = ZlibDecoder::new(element.data)
                    .take(UNPACKED_MAX)
                    .read_to_end(&mut unpacked);
                if let Err(error) = taken {
                    return Err(reader.error(start, &format!("compressed element: {error}")));
                }
                let inside = Reader {
                    bytes: &unpacked,
                    offset: 0,
                };
                elements(inside, false, variables)?;
            }
            other => {
                return Err(reader.error(
                    start,
                    &format!("element of type {other} where a matrix should be"),
                ));
            }
        }
    }
    Ok(())
}

/// The matrix that `reader` is at, or those of its fields; named `outer` and itself.
fn matrix(
    mut reader: Reader<'_>,
    outer: &str,
    depth: usize,
    variables: &mut Vec<Variable>,
) -> Result<(), MatlabError> {
    let start = reader.offset;
    if start == reader.bytes.len() {
        // A field that nothing was put into.
        return Ok(());
    }
    let flags = reader.expect(UINT32, "array flags")?;
    let (&[class, bits, ..], 8) = (flags.data, flags.data.len()) else {
        return Err(reader.error(start, "array flags are 8 bytes"));
    };
    // Classes 6 to 15 are numeric; bit 3 of the flags marks complex numbers.
    let is_numeric = (6..=15).contains(&class) && bits & 0x08 == 0;
    if !is_numeric && (class != STRUCTURE || depth == 0) {
        return Ok(());
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
    let own = reader.expect(INT8, "name")?;
    let name = outer.to_owned() + &String::from_utf8_lossy(own.data);
    if !is_numeric {
        // Of an array of structures nobody could tell whose field is meant.
        return if count == 1 {
            fields(reader, &name, depth - 1, variables)
        } else {
            Ok(())
        };
    }
    let at = reader.offset;
    let values = numbers(&reader.element()?, &reader, at)?;
    if values.len() != count {
        let reason = format!(
            "{name} has {} values where its dimensions say {count}",
            values.len()
        );
        return Err(reader.error(at, &reason));
    }
    variables.push(Variable { name, values });
    Ok(())
}

/// The fields of a structure: the length of a name, the names, each filled up with zeros, and as many matrices.
fn fields(
    mut reader: Reader<'_>,
    name: &str,
    depth: usize,
    variables: &mut Vec<Variable>,
) -> Result<(), MatlabError> {
    let start = reader.offset;
    let length = reader.expect(INT32, "length of the fields' names")?;
    let length = <[u8; 4]>::try_from(length.data)
        .ok()
        .and_then(|length| usize::try_from(u32::from_le_bytes(length)).ok())
        .filter(|length| *length > 0)
        .ok_or_else(|| reader.error(start, "length of the fields' names is not one positive number"))?;
    let names = reader.expect(INT8, "names of fields")?;
    for field in names.data.chunks_exact(length) {
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(length);
        let field = String::from_utf8_lossy(&field[..end]);
        let value = reader.expect(MATRIX, "field")?;
        // The matrix of a field has no name of its own.
        matrix(
            value.inside(reader.bytes),
            &format!("{name}.{field}"),
            depth,
            variables,
        )?;
    }
    Ok(())
}

/// Numbers in whatever type they were stored: MATLAB stores a double that is a small whole number in fewer bytes.
#[allow(
    clippy::cast_lossless,
    reason = "one conversion for every type, and two of them lose something"
)]
fn numbers(element: &Element<'_>, reader: &Reader<'_>, at: usize) -> Result<Vec<f64>, MatlabError> {
    macro_rules! read_as {
        ($number:ty) => {{
            let chunks = element.data.chunks_exact(size_of::<$number>());
            if !chunks.remainder().is_empty() {
                return Err(reader.error(at, "the data ends within a number"));
            }
            Ok(chunks
                .map(|chunk| {
                    // Exact but for whole numbers above 2^53, which no record holds.
                    <$number>::from_le_bytes(chunk.try_into().expect("chunks have the number's size")) as f64
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
        12 => read_as!(i64),
        13 => read_as!(u64),
        other => Err(reader.error(at, &format!("numbers of type {other}"))),
    }
}

struct Element<'a> {
    kind: u32,
    /// Offset of the data in the file.
    start: usize,
    data: &'a [u8],
}

impl<'a> Element<'a> {
    /// A reader of what this element of `bytes` holds.
    fn inside(&self, bytes: &'a [u8]) -> Reader<'a> {
        Reader {
            bytes: &bytes[..self.start + self.data.len()],
            offset: self.start,
        }
    }
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
        self.offset = if kind == COMPRESSED {
            start + length
        } else if small == 0 {
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
pub(crate) mod tests {
    use super::*;
    use std::io::Write;

    fn element(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    pub(crate) fn header() -> Vec<u8> {
        let mut bytes = vec![b' '; HEADER - 4];
        bytes.extend([0, 1, b'I', b'M']);
        bytes
    }

    fn start_of(class: u8, count: u32, name: &[u8]) -> Vec<u8> {
        let mut inside = element(UINT32, &[class, 0, 0, 0, 0, 0, 0, 0]);
        let dimensions = [count, 1].map(u32::to_le_bytes);
        inside.extend(element(INT32, dimensions.as_flattened()));
        match name.len() {
            1..=4 => {
                inside.extend([1, 0, name.len() as u8, 0]);
                inside.extend(name);
                inside.resize(inside.len().next_multiple_of(8), 0);
            }
            _ => inside.extend(element(INT8, name)),
        }
        inside
    }

    fn doubles(name: &[u8], values: &[f64]) -> Vec<u8> {
        let mut inside = start_of(6, values.len() as u32, name);
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        inside.extend(element(9, &data));
        element(MATRIX, &inside)
    }

    fn file() -> Vec<u8> {
        let mut bytes = header();
        bytes.extend(doubles(b"X001_DE_time", &[1.5, -2.0]));
        bytes.extend(doubles(b"RPM", &[1797.0]));
        bytes
    }

    /// As MATLAB writes a record of the bearing rig of the MFPT: a structure of numbers in several types, and a
    /// text that nobody asked for.
    pub(crate) fn structure() -> Vec<u8> {
        let mut inside = start_of(STRUCTURE, 1, b"bearing");
        inside.extend([5, 0, 4, 0, 5, 0, 0, 0]);
        inside.extend(element(INT8, b"sr\0\0\0gs\0\0\0none\0load\0"));
        let mut rate = start_of(14, 1, b"");
        rate.extend(element(12, &48_828i64.to_le_bytes()));
        inside.extend(element(MATRIX, &rate));
        inside.extend(doubles(b"", &[0.5, -0.25, 1.0]));
        inside.extend(element(MATRIX, b""));
        let mut load = start_of(9, 1, b"");
        load.extend([2, 0, 1, 0, 25, 0, 0, 0]);
        inside.extend(element(MATRIX, &load));
        let mut note = start_of(4, 5, b"note");
        note.extend(element(16, b"hello"));
        [element(MATRIX, &inside), element(MATRIX, &note)].concat()
    }

    /// A file as the MFPT's, of samples at a rate, a load and a shaft's speed.
    pub(crate) fn bearing(rate_hz: f64, load_lbs: f64, shaft_hz: f64, samples: &[f32]) -> Vec<u8> {
        let mut inside = start_of(STRUCTURE, 1, b"bearing");
        inside.extend([5, 0, 4, 0, 5, 0, 0, 0]);
        inside.extend(element(INT8, b"sr\0\0\0gs\0\0\0load\0rate\0"));
        let samples: Vec<f64> = samples.iter().map(|&sample| f64::from(sample)).collect();
        for values in [&[rate_hz][..], &samples, &[load_lbs], &[shaft_hz]] {
            inside.extend(doubles(b"", values));
        }
        [header(), compressed(&element(MATRIX, &inside))].concat()
    }

    pub(crate) fn compressed(element: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(element).unwrap();
        let packed = encoder.finish().unwrap();
        let mut bytes = COMPRESSED.to_le_bytes().to_vec();
        bytes.extend((packed.len() as u32).to_le_bytes());
        bytes.extend(packed);
        bytes
    }

    fn check_structure(bytes: &[u8]) {
        let variables = read(bytes).unwrap();
        let found: Vec<_> = variables
            .iter()
            .map(|v| (v.name.as_str(), v.values.as_slice()))
            .collect();
        assert_eq!(
            found,
            [
                ("bearing.sr", &[48_828.0][..]),
                ("bearing.gs", &[0.5, -0.25, 1.0]),
                ("bearing.load", &[25.0])
            ]
        );
    }

    #[test]
    fn fields_of_a_structure_are_named_after_both_and_text_is_passed_over() {
        check_structure(&[header(), structure()].concat());
    }

    #[test]
    fn compressed_elements_follow_each_other_without_padding() {
        let whole = structure();
        let first = 8 + u32::from_le_bytes(whole[4..8].try_into().unwrap()) as usize;
        check_structure(&[header(), compressed(&whole[..first]), compressed(&whole[first..])].concat());
        let nested = compressed(&compressed(&whole[..first]));
        let error = read(&[header(), nested].concat()).unwrap_err();
        assert!(error.reason.contains("type 15"), "{}", error.reason);
    }

    #[test]
    fn a_compressed_file_cut_or_changed_anywhere_is_read_or_refused_without_panic() {
        let whole = [header(), compressed(&structure())].concat();
        for length in HEADER + 1..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
        let plain = [header(), structure()].concat();
        for whole in [whole, plain] {
            for index in HEADER..whole.len() {
                for change in [0x01, 0x80, 0xff] {
                    let mut bytes = whole.clone();
                    bytes[index] ^= change;
                    let _ = read(&bytes);
                }
            }
        }
    }

    #[test]
    fn a_file_of_the_later_format_is_refused_by_its_name() {
        let mut later = header();
        later[HEADER - 4..HEADER].copy_from_slice(&[0, 2, b'I', b'M']);
        later.extend([0; 384]);
        let plain = [&b"\x89HDF\r\n\x1a\n"[..], &[0; 200]].concat();
        for bytes in [later, plain] {
            let error = read(&bytes).unwrap_err();
            assert!(error.reason.contains("MATLAB 7.3"), "{}", error.reason);
        }
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
