//! Cuts a graph into parts that enter the scheduler one after another, so that a large graph holds nobody up.
//!
//! Each part is a graph of its own: all it needs is in it, in earlier parts or outside. The static order numbers a
//! task after what it needs, so parts along that order also start in the order in which the whole would.

use crate::base::{GraphPart, GraphTask, Key, SeededMap};

/// Parts of at most `size` tasks each, at least one part. A graph whose order puts a task before its input stays whole.
pub fn cut(mut tasks: Vec<GraphTask>, wanted: Vec<Key>, size: usize) -> Vec<GraphPart> {
    let size = size.max(1);
    let whole = |tasks, wanted| vec![GraphPart { tasks, wanted, ..GraphPart::default() }];
    if tasks.len() <= size || tasks.iter().any(|task| task.order.is_none()) {
        return whole(tasks, wanted);
    }
    tasks.sort_by(|a, b| a.order.unwrap_or(0.0).total_cmp(&b.order.unwrap_or(0.0)));
    let mut place: SeededMap<Key, usize> = SeededMap::default();
    for (at, task) in tasks.iter().enumerate() {
        place.insert(task.key.clone(), at / size);
    }
    // The last part that needs a task of an earlier part.
    let mut needed_until: SeededMap<Key, usize> = SeededMap::default();
    for (at, task) in tasks.iter().enumerate() {
        for dependency in &task.dependencies {
            match place.get(dependency) {
                Some(&part) if part > at / size => return whole(tasks, wanted),
                Some(&part) if part < at / size => {
                    needed_until.insert(dependency.clone(), at / size);
                }
                Some(_) | None => (),
            }
        }
    }
    let last = (tasks.len() - 1) / size;
    let mut wanted_in: SeededMap<usize, Vec<Key>> = SeededMap::default();
    for key in wanted {
        // One that the graph does not contain exists already, or is missed at the end.
        let part = place.get(&key).copied().unwrap_or(last);
        wanted_in.entry(part).or_default().push(key);
    }
    let mut free_in: SeededMap<usize, Vec<Key>> = SeededMap::default();
    let mut tasks = tasks.into_iter();
    let part = |at: usize| {
        let tasks: Vec<GraphTask> = tasks.by_ref().take(size).collect();
        let mut hold = Vec::new();
        for (key, &until) in tasks.iter().filter_map(|task| needed_until.get_key_value(&task.key)) {
            hold.push(key.clone());
            free_in.entry(until).or_default().push(key.clone());
        }
        let free = free_in.remove(&at).unwrap_or_default();
        GraphPart { tasks, wanted: wanted_in.remove(&at).unwrap_or_default(), hold, free }
    };
    (0..=last).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(key: i64, order: f64, dependencies: &[i64]) -> GraphTask {
        let dependencies = dependencies.iter().map(|&key| Key::int(key)).collect();
        GraphTask { key: Key::int(key), order: Some(order), dependencies, ..GraphTask::default() }
    }

    fn keys(of: &[i64]) -> Vec<Key> {
        of.iter().map(|&key| Key::int(key)).collect()
    }

    /// Goal: parts follow the order, and what later parts need is held exactly until the last of them.
    #[test]
    fn parts_hold_what_later_ones_need() {
        let tasks =
            vec![task(4, 4.0, &[0, 3]), task(0, 0.0, &[9]), task(1, 1.0, &[0]), task(2, 2.0, &[0]), task(3, 3.0, &[2])];
        let parts = cut(tasks, keys(&[4, 1, 9]), 2);
        let of = |part: &GraphPart| part.tasks.iter().map(|task| task.key.clone()).collect::<Vec<_>>();
        assert_eq!(parts.iter().map(of).collect::<Vec<_>>(), [keys(&[0, 1]), keys(&[2, 3]), keys(&[4])]);
        let wanted: Vec<_> = parts.iter().map(|part| part.wanted.clone()).collect();
        assert_eq!(wanted, [keys(&[1]), keys(&[]), keys(&[4, 9])]);
        let hold: Vec<_> = parts.iter().map(|part| (part.hold.clone(), part.free.clone())).collect();
        assert_eq!(hold, [(keys(&[0]), keys(&[])), (keys(&[3]), keys(&[])), (keys(&[]), keys(&[0, 3]))]);
    }

    /// Goal: no part is ever started before what it needs, whatever the order says.
    #[test]
    fn an_order_against_the_edges_leaves_the_graph_whole() {
        let tasks = vec![task(0, 5.0, &[]), task(1, 1.0, &[0]), task(2, 2.0, &[])];
        assert_eq!(cut(tasks.clone(), keys(&[1]), 1).len(), 1);
        let mut unordered = tasks;
        unordered[0].order = None;
        assert_eq!(cut(unordered, keys(&[1]), 1).len(), 1);
    }
}
