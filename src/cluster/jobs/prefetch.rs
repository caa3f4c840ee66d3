//! Fetches a lone small result while its client is still being told that it is there.
//!
//! `submit(f).result()` asks for the data as soon as it hears of it. By then it is here, which saves that client a round
//! trip to the worker. Done only as long as it serves: one result at a time, none under load, and none after a lone
//! result that nobody asked for.

use tokio::task::JoinHandle;

use crate::base::{ClientId, Key, RunId, Value};
use crate::cluster::jobs::gather;
use crate::cluster::state::Driver;

/// Larger results are not fetched before somebody asks: the next lone one replaces it, until then it is held here.
///
/// Unit: bytes.
const SMALL_BYTES: i64 = 64 << 10;

/// What is fetched ahead, and whether that is of use.
#[derive(Debug, Default)]
pub struct Ahead {
    habit: Habit,
    fetch: Option<Fetch>,
}

/// A key and its payload as a worker gave them; none: it did not.
pub type Fetched = JoinHandle<Option<(Value, Value)>>;

/// A result that is here or on its way.
#[derive(Debug)]
struct Fetch {
    key: Key,
    /// The run that made it: a later one may have another result.
    run: RunId,
    answer: Fetched,
}

/// Whether clients ask for lone results as soon as they hear of them.
#[derive(Debug, Default)]
struct Habit {
    /// Results that were reported in this turn: the first, and how many.
    first: Option<Key>,
    count: usize,
    /// The last lone result, until somebody asks for it.
    unasked: Option<Key>,
    /// The lone result before that was asked for.
    asks: bool,
}

impl Habit {
    fn reported(&mut self, key: &Key) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(key.clone());
        }
    }

    /// The turn is over: the result that somebody is about to ask for, if it is a lone one.
    fn end_turn(&mut self) -> Option<Key> {
        let key = self.first.take()?;
        let lone = std::mem::take(&mut self.count) == 1;
        self.asks &= self.unasked.is_none();
        self.unasked = lone.then(|| key.clone());
        (lone && self.asks).then_some(key)
    }

    fn asked(&mut self, keys: &[Key]) {
        if let [key] = keys
            && self.unasked.as_ref() == Some(key)
        {
            self.unasked = None;
            self.asks = true;
        }
    }
}

impl Driver {
    /// A client was told that a result is there.
    pub fn note_reported(&mut self, client: ClientId, key: &Key) {
        if self.clients.contains_key(&client) {
            self.ahead.habit.reported(key);
        }
    }

    /// At the end of a turn: gets what is about to be asked for. Returns whether it does.
    pub fn fetch_ahead(&mut self) -> bool {
        let Some(key) = self.ahead.habit.end_turn() else { return false };
        self.ahead.fetch = self.start_fetch(key);
        self.ahead.fetch.is_some()
    }

    fn start_fetch(&self, key: Key) -> Option<Fetch> {
        let task = self.sched.task(&key)?;
        if task.actor || !(0..=SMALL_BYTES).contains(&task.nbytes) {
            return None;
        }
        let run = task.run_id;
        let address = task.holders.first().and_then(|&id| self.sched.worker(id))?.address.clone();
        let answer = tokio::spawn(gather::fetch_one(self.desk.clone(), address, key.clone()));
        Some(Fetch { key, run, answer })
    }

    /// These keys are asked for: what was fetched ahead, if it is that, and still their result.
    pub fn fetched_ahead(&mut self, keys: &[Key]) -> Option<Fetched> {
        self.ahead.habit.asked(keys);
        let fetch = self.ahead.fetch.take_if(|fetch| matches!(keys, [key] if *key == fetch.key))?;
        let task = self.sched.task(&fetch.key)?;
        (!task.holders.is_empty() && task.run_id == fetch.run).then_some(fetch.answer)
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
