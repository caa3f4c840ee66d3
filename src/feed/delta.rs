//! What changed between two views of a topic. Pure.
//!
//! A topic is a map from row id to row, a row a list of named fields. The rule for applying a delta stands in the page
//! too, and both are tested on `tests/golden/feed/*.json`: first `del`, then `put`, which sets the given fields of a
//! row (of an empty one, if there is none).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

/// The fields of a row, always in one order.
pub type Row = Vec<(&'static str, Json)>;

/// A topic.
pub type Rows = BTreeMap<String, Row>;

/// From one view to a later one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Rows that are gone (or are made anew by `put`).
    pub del: BTreeSet<String>,
    /// Fields that are new or have another value.
    pub put: Rows,
}

/// What leads from `old` to `new`.
pub fn diff(old: &Rows, new: &Rows) -> Delta {
    let mut delta = Delta::default();
    delta.del.extend(old.keys().filter(|id| !new.contains_key(*id)).cloned());
    for (id, row) in new {
        match old.get(id) {
            None => drop(delta.put.insert(id.clone(), row.clone())),
            Some(before) => diff_row(id, before, row, &mut delta),
        }
    }
    delta
}

fn diff_row(id: &str, old: &Row, new: &Row, delta: &mut Delta) {
    let same_fields = old.len() == new.len() && old.iter().zip(new).all(|(old, new)| old.0 == new.0);
    if !same_fields {
        let lost = old.iter().any(|(name, _)| !new.iter().any(|(other, _)| other == name));
        if lost {
            // A field can't vanish from a row, so the row is made anew.
            delta.del.insert(id.to_owned());
            delta.put.insert(id.to_owned(), new.clone());
            return;
        }
    }
    let changed = |field: &&(&'static str, Json)| !old.contains(field);
    let fields: Row = new.iter().filter(changed).cloned().collect();
    if !fields.is_empty() {
        delta.put.insert(id.to_owned(), fields);
    }
}

impl Delta {
    /// Does it change nothing?
    pub fn is_empty(&self) -> bool {
        self.del.is_empty() && self.put.is_empty()
    }

    /// This delta and then `later`, as one.
    pub fn then(&mut self, later: &Delta) {
        for id in &later.del {
            self.put.remove(id);
            self.del.insert(id.clone());
        }
        for (id, row) in &later.put {
            let fields = self.put.entry(id.clone()).or_default();
            set_fields(fields, row);
        }
    }

    /// Carries it out.
    pub fn apply(&self, rows: &mut Rows) {
        for id in &self.del {
            rows.remove(id);
        }
        for (id, row) in &self.put {
            set_fields(rows.entry(id.clone()).or_default(), row);
        }
    }

    /// `{"put":{..},"del":[..]}`.
    pub fn write(&self, out: &mut String) {
        out.push('{');
        if !self.put.is_empty() {
            out.push_str("\"put\":");
            write_rows(&self.put, out);
        }
        if !self.del.is_empty() {
            out.push_str(if self.put.is_empty() { "\"del\":[" } else { ",\"del\":[" });
            for (at, id) in self.del.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_text(id, out);
            }
            out.push(']');
        }
        out.push('}');
    }
}

fn set_fields(row: &mut Row, fields: &Row) {
    for (name, value) in fields {
        match row.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => old.clone_from(value),
            None => row.push((name, value.clone())),
        }
    }
}

/// `{"full":{..}}`.
pub fn write_full(rows: &Rows, out: &mut String) {
    out.push_str("{\"full\":");
    write_rows(rows, out);
    out.push('}');
}

/// `{id:{name:value,..},..}`.
pub fn write_rows(rows: &Rows, out: &mut String) {
    out.push('{');
    for (at, (id, row)) in rows.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_text(id, out);
        out.push_str(":{");
        for (at, (name, value)) in row.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            write_text(name, out);
            out.push(':');
            out.push_str(&value.to_string());
        }
        out.push('}');
    }
    out.push('}');
}

/// A JSON string.
pub fn write_text(text: &str, out: &mut String) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&Json::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(json: &Json) -> Rows {
        let row = |row: &Json| -> Row {
            let fields = row.as_object().expect("an object");
            fields.iter().map(|(name, value)| (&*Box::leak(name.clone().into_boxed_str()), value.clone())).collect()
        };
        json.as_object().expect("an object").iter().map(|(id, fields)| (id.clone(), row(fields))).collect()
    }

    fn as_json(rows: &Rows) -> Json {
        let mut text = String::new();
        write_rows(rows, &mut text);
        serde_json::from_str(&text).expect("JSON")
    }

    fn delta_json(delta: &Delta) -> Json {
        let mut text = String::new();
        delta.write(&mut text);
        serde_json::from_str(&text).expect("JSON")
    }

    /// Goal: the page and the server agree on what a change means.
    /// Method: each golden case: `new - old` is the change of the file, and applied to `old` it gives `new`.
    #[test]
    fn changes_are_those_of_the_golden_files() {
        let file = include_str!("../../tests/golden/feed/delta.json");
        let cases: Vec<Json> = serde_json::from_str(file).expect("JSON");
        assert!(cases.len() >= 8);
        for case in cases {
            let (name, change) = (&case["name"], &case["change"]);
            let (old, new) = (rows(&case["old"]), rows(&case["new"]));
            if change.get("full").is_some() {
                let mut text = String::new();
                write_full(&new, &mut text);
                assert_eq!(serde_json::from_str::<Json>(&text).expect("JSON"), *change, "{name}");
                continue;
            }
            let found = diff(&old, &new);
            assert_eq!(delta_json(&found), *change, "{name}");
            let mut applied = old;
            found.apply(&mut applied);
            assert_eq!(as_json(&applied), case["new"], "{name}");
        }
    }

    /// Goal: a viewer that skips views sees what one that sees them all sees.
    #[test]
    fn changes_add_up() {
        let views = [
            json!({"a": {"x": 1, "y": 1}, "b": {"x": 1}}),
            json!({"a": {"x": 2, "y": 1}}),
            json!({"a": {"x": 2, "y": 3}, "b": {"z": 1}}),
            json!({"b": {"z": 1, "x": 5}, "c": {"x": 0}}),
        ];
        let views: Vec<Rows> = views.iter().map(rows).collect();
        let mut sum = Delta::default();
        for pair in views.windows(2) {
            sum.then(&diff(&pair[0], &pair[1]));
        }
        let mut applied = views[0].clone();
        sum.apply(&mut applied);
        assert_eq!(as_json(&applied), as_json(&views[3]));
    }
}
