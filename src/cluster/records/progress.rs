//! Progress bars: which keys each is about, and how many of them remain.
//!
//! Data only. Source: `distributed/diagnostics/progress.py`, `Progress`.

use crate::base::{Key, SeededMap, SeededSet, Value, key_prefix};

/// What a progress bar wants to know.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgressWish {
    pub keys: Vec<Key>,
    /// Count the tasks that are done already.
    pub complete: bool,
    /// One count per prefix.
    pub grouped: bool,
}

/// One progress bar.
#[derive(Debug)]
pub struct Tracker {
    pub wish: ProgressWish,
    /// False until all its keys are known.
    pub started: bool,
    pub all: SeededSet<Key>,
    pub remaining: SeededSet<Key>,
    pub ended: Option<Ended>,
}

/// How the work that a progress bar is about came out.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    Finished,
    Erred { key: Key, exception: Value },
}

impl Tracker {
    /// Nothing is known of its keys yet.
    pub fn new(wish: ProgressWish) -> Self {
        Self { wish, started: false, all: SeededSet::default(), remaining: SeededSet::default(), ended: None }
    }

    /// What the progress bar is sent.
    pub fn news(&self) -> Value {
        let counts = |keys: &SeededSet<Key>| match self.wish.grouped {
            false => Value::from(keys.len()),
            true => {
                // Every group is there from the start, also when nothing of it is left.
                let mut groups: SeededMap<String, usize> = self.all.iter().map(|key| (key_prefix(key), 0)).collect();
                for key in keys {
                    *groups.entry(key_prefix(key)).or_default() += 1;
                }
                Value::Map(groups.into_iter().map(|(group, n)| (group.into(), n.into())).collect())
            }
        };
        let status = match &self.ended {
            None => Value::Nil,
            Some(Ended::Finished) => "finished".into(),
            Some(Ended::Erred { .. }) => "error".into(),
        };
        let mut fields = vec![
            ("all".into(), counts(&self.all)),
            ("remaining".into(), counts(&self.remaining)),
            ("status".into(), status),
        ];
        if let Some(Ended::Erred { key, exception }) = &self.ended {
            fields.push(("exception".into(), exception.clone()));
            fields.push(("key".into(), key.to_value()));
        }
        Value::Map(fields)
    }
}
