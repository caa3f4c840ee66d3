//! Numbers, times and tables as people read them in a terminal.

use std::io::Write;

use serde_json::Value;

use crate::base::printable;
use crate::base::printable_lines;

/// Prints to standard output what may hold others' words, safe for a terminal. Whoever reads it may have enough.
pub(crate) fn out(text: &str) {
    let _nobody_reads = std::io::stdout().write_all(printable_lines(text).as_bytes());
}

/// The same of what was not made safe, since somebody asked for it as it is.
pub(crate) fn out_raw(text: &str) {
    let _nobody_reads = std::io::stdout().write_all(text.as_bytes());
}

/// All texts of an answer as single lines that are safe for a terminal.
pub(crate) fn printable_json(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(printable(&text).into_owned()),
        Value::Array(items) => items.into_iter().map(printable_json).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (printable(&name).into_owned(), printable_json(value))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// `println!` by way of [`out`]: commands print with nothing else.
macro_rules! outln {
    ($($arg:tt)*) => {
        $crate::app::text::out(&(format!($($arg)*) + "\n"))
    };
}
pub(crate) use outln;

/// `1 worker`, `2 workers`.
pub(crate) fn counted(number: u64, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// `2026-11-22 06:00 UTC`
pub(crate) fn day(unix_secs: i64) -> String {
    let Ok(at) = time::OffsetDateTime::from_unix_timestamp(unix_secs) else { return unix_secs.to_string() };
    format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute())
}

/// Rows as a table: a column is as wide as its widest cell; the last is not filled up.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let one_line = |row: &Vec<String>| row.iter().map(|cell| printable(cell).into_owned()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(one_line).collect();
    let all = || std::iter::once(head.iter().map(|cell| (*cell).to_owned()).collect()).chain(rows.iter().cloned());
    let mut widths = vec![0; head.len()];
    for row in all() {
        for (width, cell) in widths.iter_mut().zip(&row) {
            *width = (*width).max(cell.chars().count()).min(crate::base::COLUMN_CHARS_MAX);
        }
    }
    let line = |row: Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    all().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a text of a peer, however long, is no reason to end.
    #[test]
    fn a_cell_of_any_length_fits_a_table() {
        let long = "x".repeat(70_000);
        let rows = vec![vec![long.clone(), long], vec!["a".to_owned(), "b".to_owned()]];
        assert_eq!(table(&["N", "TEXT"], &rows).lines().count(), 3);
    }

    #[test]
    fn tables_line_up() {
        let rows = vec![vec!["a".to_owned(), "long one".to_owned()], vec!["bbb".to_owned(), String::new()]];
        assert_eq!(table(&["N", "TEXT"], &rows), "N    TEXT\na    long one\nbbb\n");
    }
}
