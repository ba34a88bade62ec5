//! A TOML text read field by field, so that every problem is found in one go and each has its place.

use crate::fleet::Problem;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Why a value is refused, before its place is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub(crate) what: String,
    pub(crate) fix: String,
}

impl Fault {
    pub(crate) fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            fix: fix.into(),
        }
    }
}

/// A value and the bytes of the text that it stands in.
#[derive(Clone, Debug)]
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    pub(crate) place: Range<usize>,
}

/// The problems of one text, collected while it is read.
pub(crate) struct Problems<'t> {
    file: &'t Path,
    text: &'t str,
    found: Vec<Problem>,
    /// Lines that are not TOML: what they seem to say is no ground for further complaints.
    broken: Vec<usize>,
}

impl<'t> Problems<'t> {
    /// Parses `text`; its syntax errors are the first problems.
    pub(crate) fn parse(file: &'t Path, text: &'t str) -> (Self, Spanned<DeTable<'t>>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut problems = Self {
            file,
            text,
            found: Vec::new(),
            broken: Vec::new(),
        };
        for error in errors {
            let place = error.span().unwrap_or(0..0);
            let fault = Fault::new(error.message(), "write it as TOML 1.0 (https://toml.io) allows");
            problems.add(place.clone(), fault);
            problems.broken.push(position(text, place.start).0);
        }
        (problems, table)
    }

    /// Adds a problem at a place of the text.
    pub(crate) fn add(&mut self, place: Range<usize>, fault: Fault) {
        let (line, column) = position(self.text, place.start);
        if self.broken.contains(&line) {
            return;
        }
        self.found.push(Problem {
            file: self.file.display().to_string(),
            line,
            column,
            what: fault.what,
            fix: fault.fix,
        });
    }

    /// Something is not there, unless it may stand in a line that is not TOML.
    fn add_missing(&mut self, place: Range<usize>, fault: Fault) {
        if self.broken.is_empty() {
            self.add(place, fault);
        }
    }

    /// All of them, in the order of the text.
    pub(crate) fn into_found(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|problem| (problem.line, problem.column));
        self.found
    }
}

/// Line and column, both from 1, of a byte offset.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}

/// A table being read. What [`Self::finish`] finds unread is unknown.
pub(crate) struct Section<'a, 't> {
    /// `door.`, or nothing for the top of the file.
    prefix: String,
    table: Option<&'a DeTable<'t>>,
    place: Range<usize>,
    known: Vec<&'static str>,
}

impl<'a, 't> Section<'a, 't> {
    /// The top of the file.
    pub(crate) fn root(table: &'a Spanned<DeTable<'t>>) -> Self {
        Self {
            prefix: String::new(),
            table: Some(table.get_ref()),
            place: 0..0,
            known: Vec::new(),
        }
    }

    /// A table that may be left out.
    pub(crate) fn section(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Section<'a, 't> {
        let mut section = Section {
            prefix: format!("{}{key}.", self.prefix),
            table: None,
            place: self.place.clone(),
            known: Vec::new(),
        };
        if let Some(value) = self.get(key) {
            section.place = value.span();
            match value.get_ref() {
                DeValue::Table(table) => section.table = Some(table),
                other => problems.add(
                    value.span(),
                    Fault::new(
                        format!("{}{key} is {}, not a table", self.prefix, kind(other)),
                        format!(
                            "write [{}{key}] on a line of its own and its fields below",
                            self.prefix
                        ),
                    ),
                ),
            }
        }
        section
    }

    /// Tables of the same name, `[[key]]`, in the order of the file; none when there are none.
    pub(crate) fn sections(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
    ) -> Vec<Section<'a, 't>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let one = |place: Range<usize>, table| Section {
            prefix: format!("{}{key}.", self.prefix),
            table: Some(table),
            place,
            known: Vec::new(),
        };
        let tables = value.get_ref().as_array().and_then(|items| {
            let tables = items
                .iter()
                .map(|item| Some(one(item.span(), item.get_ref().as_table()?)));
            tables.collect()
        });
        tables.unwrap_or_else(|| {
            let what = format!("{}{key} is no list of tables", self.prefix);
            let fix = format!("write [[{}{key}]] above the fields of each", self.prefix);
            problems.add(value.span(), Fault::new(what, fix));
            Vec::new()
        })
    }

    /// Where it stands in the text.
    pub(crate) fn place(&self) -> Range<usize> {
        self.place.clone()
    }

    /// A table that has to be there; reported once if it is not, instead of field by field.
    pub(crate) fn required_section(
        &mut self,
        key: &'static str,
        fields: &str,
        problems: &mut Problems<'_>,
    ) -> Option<Section<'a, 't>> {
        if self.get(key).is_none() {
            let name = format!("{}{key}", self.prefix);
            let fault = Fault::new(
                format!("[{name}] is missing"),
                format!("add [{name}] with {fields}"),
            );
            problems.add_missing(self.place.clone(), fault);
            return None;
        }
        let section = self.section(key, problems);
        section.table.is_some().then_some(section)
    }

    /// A field that has to be there. `None` when it is missing or wrong, which is reported.
    pub(crate) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Fault>,
        problems: &mut Problems<'_>,
    ) -> Option<Placed<T>> {
        if self.get(key).is_none() {
            let fault = Fault::new(
                format!("{}{key} is missing", self.prefix),
                format!("add {key} = {example}"),
            );
            problems.add_missing(self.place.clone(), fault);
            return None;
        }
        self.optional(key, read, problems)
    }

    /// A field that may be left out. `None` when it is, or when it is wrong, which is reported.
    pub(crate) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Fault>,
        problems: &mut Problems<'_>,
    ) -> Option<Placed<T>> {
        let value = self.get(key)?;
        match read(value.get_ref()) {
            Ok(read) => Some(Placed {
                value: read,
                place: value.span(),
            }),
            Err(fault) => {
                let what = format!("{}{key} {}", self.prefix, fault.what);
                problems.add(value.span(), Fault::new(what, fault.fix));
                None
            }
        }
    }

    /// Reports the fields that nobody read.
    pub(crate) fn finish(self, problems: &mut Problems<'_>) {
        let Some(table) = self.table else { return };
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let near = self
                .known
                .iter()
                .map(|known| (distance(name, known), *known))
                .min()
                .filter(|(distance, _)| *distance <= 3);
            let fix = match near {
                Some((_, known)) => format!("did you mean {known}?"),
                None => format!("remove it: known here are {}", self.known.join(", ")),
            };
            problems.add(
                key.span(),
                Fault::new(format!("{}{name} is no field of this file", self.prefix), fix),
            );
        }
    }

    fn get(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'t>>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table?.get(key)
    }
}

/// A type as a person calls it, with its article.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A text that is not empty and has no control characters.
pub(crate) fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, Fault> {
    let Some(text) = value.as_str() else {
        return Err(Fault::new(
            format!("is {}, not a text", kind(value)),
            "put it in double quotes",
        ));
    };
    if text.trim().is_empty() {
        return Err(Fault::new(
            "is empty",
            "give it a value or remove the line if it has a default",
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(Fault::new(
            "has a control character in it",
            "remove the escape sequence",
        ));
    }
    Ok(text)
}

/// Yes or no.
pub(crate) fn boolean(value: &DeValue<'_>) -> Result<bool, Fault> {
    value.as_bool().ok_or_else(|| {
        Fault::new(
            format!("is {}, not true or false", kind(value)),
            "write true or false, without quotes",
        )
    })
}

/// A whole number within bounds.
pub(crate) fn whole(value: &DeValue<'_>, least: u64, most: u64, unit: &str) -> Result<u64, Fault> {
    let Some(integer) = value.as_integer() else {
        return Err(Fault::new(
            format!("is {}, not a whole number", kind(value)),
            format!("write a number of {unit} from {least} to {most}, without quotes"),
        ));
    };
    u64::from_str_radix(integer.as_str(), integer.radix())
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            Fault::new(
                format!("is {integer}, out of bounds"),
                format!("choose from {least} to {most} {unit}"),
            )
        })
}

/// Levenshtein's edit distance (1966), in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_characters_not_bytes() {
        assert_eq!(position("", 0), (1, 1));
        assert_eq!(position("ä = 1\nb = 2", 3), (1, 3));
        assert_eq!(position("ä = 1\nb = 2", 7), (2, 1));
        assert_eq!(position("a\n", 99), (2, 1));
        assert_eq!(
            position("ä", 1),
            (1, 1),
            "inside a character is at that character"
        );
    }

    #[test]
    fn distance_is_the_number_of_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("listen", "listen", 0),
            ("lisen", "listen", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}
