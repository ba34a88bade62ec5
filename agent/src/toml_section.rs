//! A table of a TOML file, read key by key: every misfit is a [`Problem`] with its place, and what
//! nobody asked for is refused at the end.
//!
//! Not serde's derive, which stops at the first problem.

use crate::config::{Problem, Problems};
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Parses a file as far as it goes; what does not parse is among the problems.
pub(crate) fn parse<'t>(path: &Path, text: &'t str, problems: &mut Problems) -> Spanned<DeTable<'t>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        problems.push(Problem {
            file: path.to_owned(),
            place: error.span().map(|span| place(text, span.start)),
            what: format!("not TOML: {}", error.message()),
            fix: "correct the line (https://toml.io)".to_owned(),
        });
    }
    table
}

/// Line and column of a byte, both from 1, the column in characters.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

/// A table and which of its keys have been asked for.
pub(crate) struct Section<'t> {
    path: &'t Path,
    text: &'t str,
    table: &'t DeTable<'t>,
    span: Range<usize>,
    asked: Vec<&'static str>,
}

impl<'t> Section<'t> {
    pub(crate) fn new(path: &'t Path, text: &'t str, table: &'t DeTable<'t>, span: Range<usize>) -> Self {
        Self {
            path,
            text,
            table,
            span,
            asked: Vec::new(),
        }
    }

    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// A problem at a place of this file.
    pub(crate) fn problem(&self, span: Range<usize>, what: String, fix: impl Into<String>) -> Problem {
        Problem {
            file: self.path.to_owned(),
            place: Some(place(self.text, span.start)),
            what,
            fix: fix.into(),
        }
    }

    /// A string and where its value stands.
    pub(crate) fn string(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<(&'t str, Range<usize>)> {
        let value = self.ask(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some((text, value.span())),
            None => {
                problems.push(self.misfit(key, value, "a string"));
                None
            }
        }
    }

    /// A string that must be there.
    pub(crate) fn required_string(
        &mut self,
        key: &'static str,
        fix: &str,
        problems: &mut Problems,
    ) -> Option<(&'t str, Range<usize>)> {
        if !self.has(key) {
            self.asked.push(key);
            problems.push(self.problem(self.span(), format!("`{key}` is missing"), fix));
            return None;
        }
        self.string(key, problems)
    }

    /// An array of strings, each with its place.
    pub(crate) fn strings(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Vec<(&'t str, Range<usize>)> {
        let Some(value) = self.ask(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            problems.push(self.misfit(key, value, "an array of strings"));
            return Vec::new();
        };
        let mut strings = Vec::new();
        for element in array.iter() {
            match element.get_ref().as_str() {
                Some(text) => strings.push((text, element.span())),
                None => problems.push(self.misfit(key, element, "a string")),
            }
        }
        strings
    }

    /// An integer within a range.
    pub(crate) fn integer(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i64>,
        problems: &mut Problems,
    ) -> Option<i64> {
        let value = self.ask(key)?;
        let Some(written) = value.get_ref().as_integer() else {
            problems.push(self.misfit(key, value, "an integer"));
            return None;
        };
        match i64::from_str_radix(written.as_str(), written.radix()) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let (low, high) = range.into_inner();
                problems.push(self.problem(
                    value.span(),
                    format!("{key} = {} is outside {low} to {high}", written.as_str()),
                    format!("write a number from {low} to {high}"),
                ));
                None
            }
        }
    }

    /// A table, if there is one.
    pub(crate) fn table(&mut self, key: &'static str, problems: &mut Problems) -> Option<Section<'t>> {
        let value = self.ask(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(Section::new(self.path, self.text, table, value.span())),
            None => {
                problems.push(self.misfit(key, value, "a table"));
                None
            }
        }
    }

    /// The tables of an array of tables.
    pub(crate) fn tables(&mut self, key: &'static str, problems: &mut Problems) -> Vec<Section<'t>> {
        let Some(value) = self.ask(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            problems.push(self.misfit(key, value, "an array of tables"));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for element in array.iter() {
            match element.get_ref().as_table() {
                Some(table) => sections.push(Section::new(self.path, self.text, table, element.span())),
                None => problems.push(self.misfit(key, element, "a table")),
            }
        }
        sections
    }

    /// Refuses every key that was not asked for.
    pub(crate) fn refuse_the_rest(self, problems: &mut Problems) {
        for (key, _) in self.table.iter() {
            let name: &str = key.get_ref();
            if !self.asked.contains(&name) {
                problems.push(self.problem(
                    key.span(),
                    format!("`{name}` means nothing here"),
                    format!("remove it, or write one of {}", self.asked.join(", ")),
                ));
            }
        }
    }

    fn ask(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.asked.push(key);
        self.value(key)
    }

    fn value(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.table
            .iter()
            .find(|(candidate, _)| candidate.get_ref() == key)
            .map(|(_, value)| value)
    }

    fn misfit(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) -> Problem {
        let found = value.get_ref().type_str();
        let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
        self.problem(
            value.span(),
            format!("{key} is {article} {found}, not {wanted}"),
            format!("write {wanted}"),
        )
    }
}
