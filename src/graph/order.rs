//! Tasks brought into an order: the static one, the client's own, or just dependencies first.

use crate::base::GraphTask;
use crate::base::Key;
use crate::base::SeededMap;
use crate::order::{Cycle, Edges, priorities};

use super::error::GraphError;

/// Places of the wanted keys and all they need, depth first: what is needed comes before what needs it, and what was
/// started is finished before more is started, which is also a fair order to run them in.
///
/// Keys that are not among the tasks are passed over. Wanted keys are taken in the order of the tasks, because they
/// arrive as a set, and the tasks in the order in which the user's program made them.
pub(super) fn depth_first(tasks: &[(&Key, &[Key])], keys: &[Key]) -> Vec<u32> {
    let index: SeededMap<&Key, u32> = tasks.iter().zip(0u32..).map(|((key, _), at)| (*key, at)).collect();
    let places = |keys: &[Key]| {
        let mut places: Vec<u32> = keys.iter().filter_map(|key| index.get(key).copied()).collect();
        places.sort_unstable_by(|a, b| b.cmp(a));
        places
    };
    let mut stack = places(keys);
    let mut opened = vec![false; tasks.len()];
    let mut placed = vec![false; tasks.len()];
    let mut order = Vec::with_capacity(tasks.len());
    while let Some(&at) = stack.last() {
        let at_index = at as usize;
        let (Some((_, needs)), Some(open), Some(done)) =
            (tasks.get(at_index), opened.get_mut(at_index), placed.get_mut(at_index))
        else {
            stack.pop();
            continue;
        };
        if std::mem::replace(open, true) {
            stack.pop();
            if !std::mem::replace(done, true) {
                order.push(at);
            }
            continue;
        }
        let needs = places(needs);
        stack.extend(needs.into_iter().filter(|&need| !opened.get(need as usize).copied().unwrap_or(true)));
    }
    order
}

/// Gives tasks the places that the static order gives them, and brings them into that order. `is_data` says which of
/// them are plain values.
///
/// Errors: tasks that need each other in a circle.
pub(super) fn by_graph(tasks: Vec<GraphTask>, is_data: &[bool]) -> Result<Vec<GraphTask>, GraphError> {
    let places = priorities(&numbered(&tasks), is_data).map_err(|Cycle(nodes)| {
        GraphError::Cycle(nodes.into_iter().filter_map(|at| Some(tasks.get(at as usize)?.key.clone())).collect())
    })?;
    let mut tasks: Vec<GraphTask> = tasks
        .into_iter()
        .zip(places)
        .map(|(task, place)| GraphTask { order: Some(f64::from(place)), ..task })
        .collect();
    tasks.sort_unstable_by(|a, b| a.order.unwrap_or_default().total_cmp(&b.order.unwrap_or_default()));
    Ok(tasks)
}

/// Gives tasks the places that the client names (`internal_priority`), and brings them into an order in which
/// dependencies come first. Tasks that it does not name get no place.
pub(super) fn by_client(mut tasks: Vec<GraphTask>, internal_priority: &[(Key, f64)]) -> Vec<GraphTask> {
    let given: SeededMap<&Key, f64> = internal_priority.iter().map(|(key, at)| (key, *at)).collect();
    for task in &mut tasks {
        task.order = given.get(&task.key).copied();
    }
    let edges: Vec<_> = tasks.iter().map(|task| (&task.key, task.dependencies.as_slice())).collect();
    let keys: Vec<Key> = tasks.iter().map(|task| task.key.clone()).collect();
    let order = depth_first(&edges, &keys);
    let mut tasks: Vec<Option<GraphTask>> = tasks.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| tasks.get_mut(at as usize)?.take()).collect()
}

/// What each task needs, by number: tasks in their order, then keys that are none of them.
fn numbered(tasks: &[GraphTask]) -> Edges {
    let mut numbers: SeededMap<&Key, u32> = tasks.iter().map(|task| &task.key).zip(0..).collect();
    let mut edges = Edges::default();
    for task in tasks {
        edges.push(task.dependencies.iter().map(|need| {
            let next = numbers.len() as u32;
            *numbers.entry(need).or_insert(next)
        }));
    }
    edges
}
