//! A lone small result that was fetched before its client asked for it, and whether clients ask.

use tokio::task::JoinHandle;

use crate::base::{Key, RunId, Value};

/// What was fetched, and whether that is of use.
#[derive(Debug, Default)]
pub struct Prefetched {
    pub habit: Habit,
    pub fetch: Option<Fetching>,
}

/// A key and its payload as a worker gave them; none: it did not.
pub type Fetched = JoinHandle<Option<(Value, Value)>>;

/// A result that is here or on its way.
#[derive(Debug)]
pub struct Fetching {
    pub key: Key,
    /// The run that made the result: a later one may have another result.
    pub run: RunId,
    pub answer: Fetched,
}

/// Whether clients ask for lone results as soon as they hear of them.
#[derive(Debug, Default)]
pub struct Habit {
    /// Results that were reported in this turn: the first, and how many.
    first: Option<Key>,
    count: usize,
    /// The last lone result, until somebody asks for it.
    unasked: Option<Key>,
    /// The lone result before that was asked for.
    asks: bool,
}

impl Habit {
    pub fn reported(&mut self, key: &Key) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(key.clone());
        }
    }

    /// The turn is over: the result that somebody is about to ask for, if it is a lone one.
    pub fn end_turn(&mut self) -> Option<Key> {
        let key = self.first.take()?;
        let lone = std::mem::take(&mut self.count) == 1;
        self.asks &= self.unasked.is_none();
        self.unasked = lone.then(|| key.clone());
        (lone && self.asks).then_some(key)
    }

    pub fn asked(&mut self, keys: &[Key]) {
        if let [key] = keys
            && self.unasked.as_ref() == Some(key)
        {
            self.unasked = None;
            self.asks = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lone(habit: &mut Habit, key: &Key) -> Option<Key> {
        habit.reported(key);
        habit.end_turn()
    }

    /// Goal: once a lone result was asked for, the next is fetched; after one that nobody asked for, none is.
    #[test]
    fn results_are_fetched_for_those_who_ask_for_them() {
        let (a, b, c) = (Key::text("a"), Key::text("b"), Key::text("c"));
        let mut habit = Habit::default();
        assert_eq!(lone(&mut habit, &a), None);
        habit.asked(std::slice::from_ref(&a));
        assert_eq!(lone(&mut habit, &b), Some(b.clone()));
        assert_eq!(lone(&mut habit, &c), None);
        habit.asked(&[a.clone(), c.clone()]);
        assert_eq!(lone(&mut habit, &a), None);
        habit.asked(std::slice::from_ref(&a));
        assert_eq!(lone(&mut habit, &b), Some(b));
    }

    /// Goal: several results in one turn are load: none of them is fetched.
    #[test]
    fn nothing_is_fetched_under_load() {
        let (a, b) = (Key::text("a"), Key::text("b"));
        let mut habit = Habit::default();
        lone(&mut habit, &a);
        habit.asked(std::slice::from_ref(&a));
        habit.reported(&a);
        assert_eq!(lone(&mut habit, &b), None);
        assert_eq!(habit.end_turn(), None);
        assert_eq!(lone(&mut habit, &b), Some(b));
    }
}
