//! What a topic looks like now, and how it came to be so: enough for viewers that missed a little.

use std::collections::VecDeque;

use super::delta::{Delta, Row, Rows, diff, write_full};

/// Deltas that are remembered, and how much they may hold. A viewer that missed more gets the whole.
const DELTAS_MAX: usize = 100;
/// See [`DELTAS_MAX`]. Unit: rows.
const ROWS_MAX: usize = 20_000;

/// One topic.
#[derive(Debug, Default)]
pub struct History {
    rows: Rows,
    /// Number of the last delta.
    seq: u64,
    deltas: VecDeque<(u64, Delta)>,
    changed_rows: usize,
    /// Everything after this number is in `deltas`.
    from: u64,
    /// It was polled, at least once.
    pub known: bool,
    /// The last answers, so that many viewers cost one writing: since when, and the text.
    written: Vec<(Option<u64>, std::sync::Arc<str>)>,
}

impl History {
    /// The rows now.
    pub const fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Takes a new view, made at `seq`.
    pub fn take(&mut self, seq: u64, rows: Rows) {
        let delta = diff(&self.rows, &rows);
        if !self.known {
            self.from = seq;
        }
        self.note(seq, delta);
        self.rows = rows;
    }

    /// Adds rows to a topic that only grows, keeping the last `max` by the order that `key` gives.
    pub fn append(&mut self, seq: u64, new: Rows, max: usize, key: fn(&str) -> u64) {
        let mut delta = Delta { put: new, ..Delta::default() };
        let over = (self.rows.len() + delta.put.len()).saturating_sub(max);
        if over > 0 {
            let mut ids: Vec<(u64, String)> =
                self.rows.keys().chain(delta.put.keys()).map(|id| (key(id), id.clone())).collect();
            ids.sort_unstable();
            for (_, id) in ids.into_iter().take(over) {
                if delta.put.remove(&id).is_none() {
                    delta.del.insert(id);
                }
            }
        }
        if !self.known {
            self.from = seq;
        }
        delta.apply(&mut self.rows);
        self.note(seq, delta);
    }

    /// Sets one row of a topic that is otherwise appended to.
    pub fn set(&mut self, seq: u64, id: &str, row: Row) {
        let before: Rows = self.rows.get(id).map(|row| (id.to_owned(), row.clone())).into_iter().collect();
        let delta = diff(&before, &Rows::from([(id.to_owned(), row)]));
        delta.apply(&mut self.rows);
        self.note(seq, delta);
    }

    fn note(&mut self, seq: u64, delta: Delta) {
        self.known = true;
        if delta.is_empty() {
            return;
        }
        self.written.clear();
        self.seq = seq;
        self.changed_rows += delta.put.len() + delta.del.len();
        match self.deltas.back_mut() {
            Some((last, sum)) if *last == seq => sum.then(&delta),
            _ => self.deltas.push_back((seq, delta)),
        }
        while self.deltas.len() > DELTAS_MAX || self.changed_rows > ROWS_MAX {
            let Some((gone, delta)) = self.deltas.pop_front() else { return };
            self.changed_rows = self.changed_rows.saturating_sub(delta.put.len() + delta.del.len());
            self.from = gone;
        }
    }

    /// What a viewer that knows it as of `since` must be told; none: nothing new.
    pub fn news(&mut self, since: Option<u64>) -> Option<std::sync::Arc<str>> {
        if !self.known || since.is_some_and(|since| since >= self.seq) {
            return None;
        }
        // All that know nothing, or too little, get the same.
        let since = since.filter(|since| *since >= self.from);
        let after = since.map(|since| self.deltas.partition_point(|(seq, _)| *seq <= since) as u64);
        if let Some((_, text)) = self.written.iter().find(|(of, _)| *of == after) {
            return Some(text.clone());
        }
        let mut text = String::new();
        match after.and_then(|after| usize::try_from(after).ok()) {
            None => write_full(&self.rows, &mut text),
            Some(after) => {
                let mut deltas = self.deltas.iter().skip(after);
                let (_, first) = deltas.next()?;
                match deltas.next() {
                    None => first.write(&mut text),
                    Some((_, second)) => {
                        let mut sum = first.clone();
                        sum.then(second);
                        deltas.for_each(|(_, delta)| sum.then(delta));
                        sum.write(&mut text);
                    }
                }
            }
        }
        let text: std::sync::Arc<str> = text.into();
        self.written.push((after, text.clone()));
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(n: i64) -> Rows {
        Rows::from([("a".to_owned(), vec![("x", json!(n))])])
    }

    /// Goal: who knows the past gets what changed, who does not gets all, who knows the present nothing.
    #[test]
    fn viewers_get_what_they_miss() {
        let mut history = History::default();
        assert_eq!(history.news(None), None);
        for seq in 1..=4 {
            history.take(seq, rows(seq as i64 / 2));
        }
        assert_eq!(history.news(None).as_deref(), Some(r#"{"full":{"a":{"x":2}}}"#));
        assert_eq!(history.news(Some(1)).as_deref(), Some(r#"{"put":{"a":{"x":2}}}"#));
        assert_eq!(history.news(Some(0)).as_deref(), Some(r#"{"full":{"a":{"x":2}}}"#), "before its time");
        assert_eq!(history.news(Some(4)), None);
    }

    /// Goal: a topic that grows stays bounded and tells what it dropped.
    #[test]
    fn the_oldest_rows_go() {
        let mut history = History::default();
        let number = |id: &str| id.parse().unwrap_or(0);
        for n in 0..5u64 {
            let new = Rows::from([(n.to_string(), vec![("t", json!(n))])]);
            history.append(n + 1, new, 3, number);
        }
        assert_eq!(history.rows().keys().collect::<Vec<_>>(), ["2", "3", "4"]);
        assert_eq!(history.news(Some(4)).as_deref(), Some(r#"{"put":{"4":{"t":4}},"del":["1"]}"#));
    }
}
