//! A table of the fleet file, read key by key, so that every problem is found in one go: serde's
//! derive stops at the first.

use super::Problem;
use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The file being read and what is wrong with it so far.
pub(super) struct Source<'t> {
    pub(super) file: &'t str,
    pub(super) text: &'t str,
    pub(super) problems: RefCell<Vec<Problem>>,
}

impl Source<'_> {
    /// Notes a problem at a place of the file.
    pub(super) fn refuse(&self, at: &Range<usize>, what: impl Into<String>, fix: impl Into<String>) {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        self.problems.borrow_mut().push(Problem {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            what: what.into(),
            fix: fix.into(),
        });
    }
}

/// A value and where it stands.
pub(super) type At<T> = (T, Range<usize>);

/// One table. When it is dropped, keys that nobody asked for are refused.
pub(super) struct Section<'t> {
    pub(super) source: &'t Source<'t>,
    pub(super) at: Range<usize>,
    /// What the table describes, for messages.
    pub(super) kind: &'static str,
    table: &'t DeTable<'t>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'t> Section<'t> {
    pub(super) fn new(
        source: &'t Source<'t>,
        kind: &'static str,
        table: &'t DeTable<'t>,
        at: Range<usize>,
    ) -> Self {
        Self {
            source,
            at,
            kind,
            table,
            asked: RefCell::default(),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    pub(super) fn text(&self, key: &'static str) -> Option<At<&'t str>> {
        let value = self.ask(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some((text, value.span())),
            None => self.misfit(key, value, "a string, in quotes"),
        }
    }

    pub(super) fn number(&self, key: &'static str) -> Option<At<f64>> {
        let value = self.ask(key)?;
        match number(value.get_ref()) {
            Some(number) => Some((number, value.span())),
            None => self.misfit(key, value, "a number"),
        }
    }

    /// A finite number above 0.
    pub(super) fn positive(&self, key: &'static str) -> Option<At<f64>> {
        let (number, at) = self.number(key)?;
        if number > 0.0 {
            return Some((number, at));
        }
        let what = format!("{key} = {number} of this {} is not above 0", self.kind);
        self.source.refuse(&at, what, "give the real value");
        None
    }

    /// A whole number from 0 to `max`.
    pub(super) fn whole(&self, key: &'static str, max: u16) -> Option<At<u16>> {
        let (number, at) = self.number(key)?;
        if number.fract() == 0.0 && (0.0..=f64::from(max)).contains(&number) {
            return Some((number as u16, at));
        }
        let what = format!("{key} = {number} of this {} is no such number", self.kind);
        self.source
            .refuse(&at, what, format!("give a whole number from 0 to {max}"));
        None
    }

    /// A whole number within a range.
    pub(super) fn count(&self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let (number, at) = self.number(key)?;
        if number.fract() == 0.0 && (f64::from(*range.start())..=f64::from(*range.end())).contains(&number) {
            return Some(number as u32);
        }
        let what = format!("{key} = {number} of this {} is no such number", self.kind);
        let fix = format!("give a whole number from {} to {}", range.start(), range.end());
        self.source.refuse(&at, what, fix);
        None
    }

    /// A string, where a table may stand instead.
    pub(super) fn text_unless_table(&self, key: &'static str) -> Option<At<&'t str>> {
        let is_table = self.table.get(key)?.get_ref().is_table();
        (!is_table).then(|| self.text(key))?
    }

    /// A table, where a string may stand instead, which [`Self::text_unless_table`] reads.
    pub(super) fn table_unless_text(&self, key: &'static str, kind: &'static str) -> Option<Section<'t>> {
        let is_table = self.ask(key)?.get_ref().is_table();
        is_table.then(|| self.table(key, kind))?
    }

    /// Two numbers.
    pub(super) fn pair(&self, key: &'static str) -> Option<At<(f64, f64)>> {
        let value = self.ask(key)?;
        let numbers: Option<Vec<f64>> = value
            .get_ref()
            .as_array()
            .and_then(|array| array.iter().map(|item| number(item.get_ref())).collect());
        match numbers.as_deref() {
            Some(&[low, high]) => Some(((low, high), value.span())),
            _ => self.misfit(key, value, "two numbers in brackets"),
        }
    }

    /// Any count of numbers.
    pub(super) fn numbers(&self, key: &'static str) -> Option<At<Vec<f64>>> {
        let value = self.ask(key)?;
        let array = value.get_ref().as_array();
        match array.and_then(|array| array.iter().map(|item| number(item.get_ref())).collect()) {
            Some(numbers) => Some((numbers, value.span())),
            None => self.misfit(key, value, "numbers in brackets"),
        }
    }

    /// A table within this one.
    pub(super) fn table(&self, key: &'static str, kind: &'static str) -> Option<Section<'t>> {
        let value = self.ask(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(Section::new(self.source, kind, table, value.span())),
            None => self.misfit(key, value, "a table, in braces"),
        }
    }

    /// The tables of an array, none when it is missing.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Section<'t>> {
        let Some(value) = self.ask(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            self.misfit::<()>(key, value, "an array of tables, headed by double brackets");
            return Vec::new();
        };
        array
            .iter()
            .filter_map(|item| match item.get_ref().as_table() {
                Some(table) => Some(Section::new(self.source, key, table, item.span())),
                None => self.misfit(key, item, "a table, headed by double brackets"),
            })
            .collect()
    }

    /// Says that `key` must be there, unless it is (well or badly written).
    pub(super) fn require<T>(&self, key: &'static str, value: Option<T>, fix: &str) -> Option<T> {
        if value.is_none() && !self.has(key) {
            let what = format!("this {} has no {key}", self.kind);
            self.source.refuse(&self.at, what, fix);
        }
        value
    }

    fn ask(&self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.asked.borrow_mut().push(key);
        self.table.get(key)
    }

    fn misfit<T>(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) -> Option<T> {
        let found = value.get_ref().type_str();
        let what = format!("{key} of this {} is {found}", self.kind);
        self.source.refuse(&value.span(), what, format!("give {wanted}"));
        None
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let asked = self.asked.borrow();
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if !asked.contains(&name) {
                let what = format!("a {} has no {name}", self.kind);
                let fix = format!("remove it, or write one of: {}", asked.join(", "));
                self.source.refuse(&key.span(), what, fix);
            }
        }
    }
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    let number = match value {
        DeValue::Integer(written) => i64::from_str_radix(written.as_str(), written.radix()).ok()? as f64,
        DeValue::Float(written) => written.as_str().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}
