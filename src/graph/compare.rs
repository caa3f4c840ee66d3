//! Two readings of one graph, compared: ours with that of Dask's own Python.

use std::sync::Arc;

use crate::base::{GraphTask, Key, Opaque, SeededMap, Text};

/// What two readings have in common, and what not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Differences of keys, dependencies, annotations, in words.
    pub differences: Vec<Text>,
    /// Run specs that are not the same bytes: only Python can tell whether they load to the same. Ours first.
    pub specs: Vec<(Key, Arc<Opaque>, Arc<Opaque>)>,
}

/// Compares the tasks that `wanted` need, `ours` with `theirs`.
pub fn compare(ours: &[GraphTask], theirs: &[GraphTask], wanted: &[Key]) -> Comparison {
    let mut found = Comparison::default();
    let (our_tasks, their_tasks) = (needed(ours, wanted), needed(theirs, wanted));
    for key in our_tasks.keys().filter(|key| !their_tasks.contains_key(*key)) {
        found.differences.push(format!("{key} is a task of ours only").into());
    }
    for (key, theirs) in &their_tasks {
        match our_tasks.get(*key) {
            None => found.differences.push(format!("{key} is a task of theirs only").into()),
            Some(ours) => compare_task(ours, theirs, &mut found),
        }
    }
    found.differences.sort_unstable();
    found
}

fn compare_task(ours: &GraphTask, theirs: &GraphTask, found: &mut Comparison) {
    let key = &ours.key;
    let sorted = |task: &GraphTask| {
        let mut needs = task.dependencies.clone();
        needs.sort_unstable();
        needs
    };
    if sorted(ours) != sorted(theirs) {
        let (ours, theirs) = (&ours.dependencies, &theirs.dependencies);
        found.differences.push(format!("{key} needs {ours:?} with us, {theirs:?} with them").into());
    }
    if ours.data_producer != theirs.data_producer {
        found
            .differences
            .push(format!("{key} makes data with {}", if ours.data_producer { "us" } else { "them" }).into());
    }
    if !same_annotations(ours, theirs) {
        let (ours, theirs) = (&ours.annotations, &theirs.annotations);
        found.differences.push(format!("{key} is annotated {ours:?} with us, {theirs:?} with them").into());
    }
    match (&ours.run_spec, &theirs.run_spec) {
        (Some(ours), Some(theirs)) if ours != theirs => found.specs.push((key.clone(), ours.clone(), theirs.clone())),
        (Some(_), None) | (None, Some(_)) => found.differences.push(format!("{key} has work on one side only").into()),
        _ => (),
    }
}

/// The fields of annotations may come in any order.
fn same_annotations(ours: &GraphTask, theirs: &GraphTask) -> bool {
    let fields = |task: &GraphTask| {
        let fields = task.annotations.as_ref().and_then(|all| all.wire.fields()).unwrap_or_default();
        let mut fields: Vec<String> = fields.iter().map(|field| format!("{field:?}")).collect();
        fields.sort_unstable();
        fields
    };
    fields(ours) == fields(theirs)
}

fn needed<'a>(tasks: &'a [GraphTask], wanted: &'a [Key]) -> SeededMap<&'a Key, &'a GraphTask> {
    let all: SeededMap<&Key, &GraphTask> = tasks.iter().map(|task| (&task.key, task)).collect();
    let mut needed = SeededMap::default();
    let mut stack: Vec<&Key> = wanted.iter().collect();
    while let Some(key) = stack.pop() {
        if let Some(&task) = all.get(key)
            && needed.insert(key, task).is_none()
        {
            stack.extend(&task.dependencies);
        }
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(key: &str, needs: &[&str], spec: &'static [u8]) -> GraphTask {
        let run_spec = Opaque { head: spec.into(), frames: Vec::new() };
        let dependencies = needs.iter().map(|need| Key::text(need)).collect();
        GraphTask { key: Key::text(key), dependencies, run_spec: Some(Arc::new(run_spec)), ..GraphTask::default() }
    }

    #[test]
    fn only_what_is_wanted_is_compared_and_the_order_of_needs_does_not_matter() {
        let ours = [task("a", &["b", "c"], b"1"), task("b", &[], b"2")];
        let theirs = [task("a", &["c", "b"], b"1"), task("b", &[], b"3"), task("unwanted", &[], b"4")];
        let found = compare(&ours, &theirs, &[Key::text("a")]);
        assert_eq!(found.differences, Vec::<Text>::new());
        assert_eq!(found.specs.len(), 1);
        let found = compare(&ours[..1], &theirs, &[Key::text("a")]);
        assert_eq!(found.differences, ["b is a task of theirs only".into()]);
    }
}
