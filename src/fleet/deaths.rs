//! Ends of workers as their pools report them, here and on other machines: each is told once.

use std::collections::BTreeMap;

/// What was told, by machine; this one has no name.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    told: BTreeMap<String, u64>,
}

impl Deaths {
    /// A pool was started: all that it reports is news.
    pub(super) fn begin(&mut self, host: &str) {
        self.told.insert(host.to_owned(), 0);
    }

    /// A pool is started there, or is there already.
    pub(super) fn begin_unless_known(&mut self, host: &str) {
        self.told.entry(host.to_owned()).or_insert(0);
    }

    /// What is new of `recent`, the last of `count` ends. Of a pool that is older than this process: nothing at first,
    /// because the process before told it.
    pub(super) fn news<'a>(&mut self, host: &str, count: u64, recent: &'a [String]) -> &'a [String] {
        let Some(told) = self.told.insert(host.to_owned(), count) else { return &[] };
        // Fewer than before: the pool is another one.
        let new = count.checked_sub(told).unwrap_or(count);
        let new = usize::try_from(new).unwrap_or(usize::MAX).min(recent.len());
        recent.get(recent.len() - new..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_is_told_once_and_those_of_an_older_life_not_again() {
        let recent = ["a", "b", "c"].map(str::to_owned);
        let mut deaths = Deaths::default();
        deaths.begin("");
        assert_eq!(deaths.news("", 2, &recent[..2]), ["a", "b"]);
        deaths.begin_unless_known("");
        assert_eq!(deaths.news("", 3, &recent), ["c"]);
        assert!(deaths.news("", 3, &recent).is_empty());
        assert_eq!(deaths.news("", 9, &recent).len(), 3, "no more than is known");
        assert_eq!(deaths.news("", 1, &recent[..1]), ["a"], "of a new pool");
        assert!(deaths.news("one", 3, &recent).is_empty(), "it was there before us");
        assert_eq!(deaths.news("one", 4, &recent), ["c"]);
    }
}
