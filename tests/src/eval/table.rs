//! Tables of readings with a time stamp, as the benchmarks have them.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use time::PrimitiveDateTime;
use time::macros::format_description;
use trunnion_common::time::EventTime;

/// A delimited text with a header.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Table {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// One field per column.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Reads a file; a row without all fields is refused, a byte-order mark and quotation marks are passed over.
    pub(super) fn read(path: &Path, separator: char) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text, separator).with_context(|| format!("in {}", path.display()))
    }

    fn parse(text: &str, separator: char) -> Result<Self> {
        let text = text.trim_start_matches('\u{feff}');
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let fields = |line: &str| {
            line.split(separator)
                .map(|field| field.trim().trim_matches('"').to_owned())
                .collect::<Vec<_>>()
        };
        let columns = fields(lines.next().context("no header")?);
        let rows: Vec<_> = lines.map(fields).collect();
        for (index, row) in rows.iter().enumerate() {
            ensure!(
                row.len() == columns.len(),
                "row {index} has {} fields and the header {}",
                row.len(),
                columns.len()
            );
        }
        Ok(Self { columns, rows })
    }

    /// The place of a column.
    pub(super) fn column(&self, name: &str) -> Result<usize> {
        self.columns
            .iter()
            .position(|column| column == name)
            .with_context(|| format!("no column {name}"))
    }

    /// A column of numbers; NaN where a field is empty.
    pub(super) fn numbers(&self, column: usize) -> Result<Vec<f64>> {
        let number = |row: &Vec<String>| match row.get(column).map_or("", String::as_str) {
            "" => Ok(f64::NAN),
            field => field.parse().with_context(|| format!("`{field}` is no number")),
        };
        self.rows.iter().map(number).collect()
    }

    /// A column of times, as UTC.
    pub(super) fn times(&self, column: usize) -> Result<Vec<EventTime>> {
        let time = |row: &Vec<String>| time_of(row.get(column).map_or("", String::as_str));
        self.rows.iter().map(time).collect()
    }
}

/// The time of `2014-04-10 07:15:00` or `2014-04-10T07:15:00`, with or without parts of the second.
pub(super) fn time_of(text: &str) -> Result<EventTime> {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let whole = text
        .split(['.', 'Z'])
        .next()
        .unwrap_or_default()
        .replace('T', " ");
    let parsed = PrimitiveDateTime::parse(&whole, &format).with_context(|| format!("`{text}` is no time"))?;
    Ok(EventTime(parsed.assume_utc().unix_timestamp() * 1_000_000_000))
}

/// The name of the folder that a file lies in.
pub(super) fn folder_of(path: &Path) -> String {
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
    folder.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_its_columns_by_name_and_its_times_in_utc() {
        let table = Table::parse("at;x\n1970-01-01 00:00:02;1.5\n\n1970-01-01 00:00:03.5; 2\n", ';').unwrap();
        assert_eq!(table.numbers(table.column("x").unwrap()).unwrap(), [1.5, 2.0]);
        let seconds = |time: EventTime| time.0 / 1_000_000_000;
        let times: Vec<_> = table.times(0).unwrap().into_iter().map(seconds).collect();
        assert_eq!(times, [2, 3]);
        assert!(table.column("y").is_err());
        let quoted = Table::parse("\u{feff}\"at\",x\r\n\"1970-01-01T00:00:02Z\",\r\n", ',').unwrap();
        assert_eq!(
            quoted.times(quoted.column("at").unwrap()).unwrap(),
            [EventTime(2_000_000_000)]
        );
        assert!(quoted.numbers(1).unwrap()[0].is_nan());
    }

    #[test]
    fn a_torn_row_and_a_word_among_numbers_are_refused() {
        assert!(Table::parse("a,b\n1\n", ',').is_err());
        let table = Table::parse("a,b\n1,x\n", ',').unwrap();
        assert!(table.numbers(1).is_err());
        assert!(table.times(0).is_err());
    }
}
