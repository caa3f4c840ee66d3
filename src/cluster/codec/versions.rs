//! Which versions of Python packages client, scheduler and workers have, and the warning when they differ.
//!
//! Pure. The scheduler's own row comes from pyhost's interpreter. Source: `distributed/versions.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::base::{COLUMN_CHARS_MAX, Text, Value};

/// Packages whose version on the scheduler's side matters.
/// Source: `distributed/versions.py`, `scheduler_relevant_packages`.
const SCHEDULER_RELEVANT: [&str; 7] = ["dask", "distributed", "cloudpickle", "tornado", "toolz", "lz4", "python"];

/// One side of the comparison: its name, and the `versions` map it sent.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Heading of its column.
    pub name: &'a str,
    /// `{host, packages}`, or nothing known.
    pub versions: &'a Value,
}

/// The warning for a newcomer; none when all that matters agrees.
pub fn mismatch_warning(source: Side<'_>, scheduler: Side<'_>, workers: &[(Text, Value)]) -> Option<String> {
    let source_packages = packages(source.versions);
    let scheduler_packages = packages(scheduler.versions);
    let worker_packages: Vec<_> = workers.iter().map(|(_, versions)| packages(versions)).collect();
    let mut names: BTreeSet<&str> = source_packages.keys().copied().collect();
    names.extend(scheduler_packages.keys());
    names.extend(worker_packages.iter().flat_map(BTreeMap::keys));

    let mut rows =
        vec![["Package".to_owned(), source.name.to_owned(), scheduler.name.to_owned(), "Workers".to_owned()]];
    for name in names {
        let of = |side: &BTreeMap<&str, String>| side.get(name).cloned().unwrap_or_else(|| "MISSING".to_owned());
        let on_workers: BTreeSet<String> = worker_packages.iter().map(of).collect();
        let mut all = on_workers.clone();
        all.insert(of(&source_packages));
        if SCHEDULER_RELEVANT.contains(&name) {
            all.insert(of(&scheduler_packages));
        }
        if all.len() > 1 {
            let shown: Vec<String> = on_workers.into_iter().collect();
            rows.push([name.to_owned(), of(&source_packages), of(&scheduler_packages), shown.join(", ")]);
        }
    }
    (rows.len() > 1).then(|| format!("Mismatched versions found\n\n{}", table(&rows)))
}

fn packages(versions: &Value) -> BTreeMap<&str, String> {
    let fields = versions.get("packages").and_then(Value::fields).unwrap_or_default();
    fields
        .iter()
        .filter_map(|(name, version)| {
            let version = match version {
                Value::Str(text) => text.to_string(),
                Value::Nil => "None".to_owned(),
                _ => return None,
            };
            Some((name.as_str()?, version))
        })
        .collect()
}

fn table(rows: &[[String; 4]]) -> String {
    let cut = |cell: &String| cell.chars().take(COLUMN_CHARS_MAX).collect::<String>();
    let rows: Vec<[String; 4]> = rows.iter().map(|row| row.each_ref().map(cut)).collect();
    let mut widths = [0usize; 4];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let rule: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).chain(["+\n".into()]).collect();
    let mut text = rule.clone();
    for (at, row) in rows.iter().enumerate() {
        for (width, cell) in widths.iter().zip(row) {
            // Writing to a String can't fail.
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if at == 0 {
            text.push_str(&rule);
        }
    }
    text.push_str(&rule);
    text.pop();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a text of a peer, however long, is no reason to end.
    #[test]
    fn a_version_or_name_of_any_length_fits_a_table() {
        let long = "x".repeat(70_000);
        let text = table(&[std::array::from_fn(|_| "head".to_owned()), std::array::from_fn(|_| long.clone())]);
        assert!(text.lines().all(|line| line.chars().count() <= 4 * (COLUMN_CHARS_MAX + 3) + 1));
    }

    fn versions(dask: &str, numpy: &str) -> Value {
        Value::map([("packages", Value::map([("dask", dask.into()), ("numpy", numpy.into())]))])
    }

    /// Goal: only what can break something is reported: numpy on the scheduler's side does not matter.
    #[test]
    fn differences_that_matter_are_reported() {
        let (client, scheduler) = (versions("1", "1"), versions("1", "9"));
        let source = Side { name: "Client", versions: &client };
        let own = Side { name: "Scheduler", versions: &scheduler };
        assert_eq!(mismatch_warning(source, own, &[]), None);
        let workers = [(Text::from("w"), versions("2", "1"))];
        let text = mismatch_warning(source, own, &workers).expect("dask differs");
        assert!(text.contains("| dask    | 1      | 1         | 2       |"), "{text}");
        assert!(!text.contains("numpy"), "{text}");
    }
}
