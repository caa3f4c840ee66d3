//! Orders of tasks: dependencies first, and the client's own.

use crate::base::GraphTask;
use crate::base::Key;
use crate::base::SeededMap;

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

/// Brings tasks into an order in which dependencies come first: their own, or depth first.
pub(super) fn sort(tasks: Vec<GraphTask>) -> Vec<GraphTask> {
    if tasks.iter().all(|task| task.order.is_some()) {
        let mut tasks = tasks;
        // `dask.order` never puts a task before what it needs.
        tasks.sort_by(|a, b| a.order.unwrap_or_default().total_cmp(&b.order.unwrap_or_default()));
        return tasks;
    }
    let edges: Vec<_> = tasks.iter().map(|task| (&task.key, task.dependencies.as_slice())).collect();
    let keys: Vec<Key> = tasks.iter().map(|task| task.key.clone()).collect();
    let order = depth_first(&edges, &keys);
    let mut tasks: Vec<Option<GraphTask>> = tasks.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| tasks.get_mut(at as usize)?.take()).collect()
}

/// Gives tasks the order that the client asks for (`internal_priority`); tasks it does not name keep theirs.
pub fn apply_priority(tasks: &mut [GraphTask], internal_priority: &[(Key, f64)]) {
    let given: SeededMap<&Key, f64> = internal_priority.iter().map(|(key, at)| (key, *at)).collect();
    for task in tasks {
        task.order = given.get(&task.key).copied().or(task.order);
    }
}
