//! Numbers, times and tables as people read them in a terminal.

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
