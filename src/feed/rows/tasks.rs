//! Rows of tasks: by prefix, by group, as a graph; what they spent their time on, and how they failed.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::format::{brief, round};
use crate::base::Text;
use crate::cluster::{Computation, FailureCause, GroupSnapshot, NodeSnapshot, PrefixSnapshot};
use crate::feed::delta::{Row, Rows};
use crate::sched::STATE_NAMES;

/// Fields for the counts of [`STATE_NAMES`], in its order.
pub(in crate::feed) const STATE_FIELDS: [&str; 7] =
    ["released", "waiting", "queued", "no_worker", "processing", "memory", "erred"];

/// `prefixes`. Those without tasks and without a past are left out; at most `max`.
pub(in crate::feed) fn prefixes(prefixes: &[PrefixSnapshot], max: usize) -> Rows {
    let some = prefixes.iter().enumerate().filter(|(_, prefix)| is_used(prefix)).rev().take(max);
    some.map(|(index, prefix)| (prefix.name.to_string(), prefix_row(index, prefix))).collect()
}

fn is_used(prefix: &PrefixSnapshot) -> bool {
    prefix.states.iter().any(|count| *count > 0) || prefix.totals.iter().any(|count| *count > 0)
}

fn prefix_row(index: usize, prefix: &PrefixSnapshot) -> Row {
    let [_, _, _, _, _, done, erred_ever] = prefix.totals;
    let mut row: Row = vec![("color", json!(index))];
    row.extend(STATE_FIELDS.iter().zip(prefix.states).map(|(name, count)| (*name, json!(count))));
    row.push(("total", json!(prefix.states.iter().sum::<usize>())));
    row.push(("done", json!(done)));
    row.push(("erred_ever", json!(erred_ever)));
    row.push(("duration", prefix.duration_secs.map_or(Json::Null, brief)));
    let spent = ["compute", "transfer", "disk_read", "disk_write", "deserialize", "other"];
    row.extend(spent.iter().zip(prefix.spent_secs).map(|(name, secs)| (*name, brief(secs))));
    row.push(("nbytes", json!(prefix.nbytes)));
    row.push(("suspicious", json!(prefix.suspicious)));
    row
}

pub(in crate::feed) fn memory_by_key(prefixes: &[PrefixSnapshot]) -> Rows {
    let held = prefixes.iter().enumerate().filter(|(_, prefix)| prefix.states[5] > 0);
    held.map(|(index, prefix)| {
        let row = vec![("color", json!(index)), ("nbytes", json!(prefix.nbytes)), ("keys", json!(prefix.states[5]))];
        (prefix.name.to_string(), row)
    })
    .collect()
}

pub(in crate::feed) fn compute_by_key(prefixes: &[PrefixSnapshot]) -> Rows {
    let spent = prefixes.iter().enumerate().filter(|(_, prefix)| prefix.spent_secs.iter().any(|secs| *secs > 0.0));
    spent
        .map(|(index, prefix)| {
            let mut row: Row = vec![("color", json!(index))];
            let names = ["compute", "transfer", "disk_read", "disk_write", "deserialize", "other"];
            row.extend(names.iter().zip(prefix.spent_secs).map(|(name, secs)| (*name, brief(secs))));
            row.push(("runs", json!(prefix.totals[5].saturating_add(prefix.totals[6]))));
            row.push(("mean", prefix.duration_secs.map_or(Json::Null, brief)));
            (prefix.name.to_string(), row)
        })
        .collect()
}

pub(in crate::feed) fn time_by_action(prefixes: &[PrefixSnapshot]) -> Rows {
    let names = ["compute", "transfer", "disk-read", "disk-write", "deserialize", "other"];
    let sum = |at: usize| prefixes.iter().filter_map(|prefix| prefix.spent_secs.get(at)).sum::<f64>();
    let row = |(at, name): (usize, &&str)| ((*name).to_owned(), vec![("secs", brief(sum(at)))]);
    names.iter().enumerate().map(row).collect()
}

pub(in crate::feed) fn groups(groups: &[GroupSnapshot]) -> Rows {
    let row = |group: &GroupSnapshot| {
        let mut row: Row = vec![("prefix", json!(group.prefix.1)), ("color", json!(group.prefix.0))];
        row.extend(STATE_FIELDS.iter().zip(group.states).map(|(name, count)| (*name, json!(count))));
        row.push(("forgotten", json!(group.forgotten)));
        row.push(("total", json!(group.total)));
        row.push(("deps", json!(group.dependencies)));
        (group.name.to_string(), row)
    };
    groups.iter().map(row).collect()
}

/// `graph` by tasks. `prefixes` are the names by index.
pub(in crate::feed) fn graph_of_tasks(nodes: &[NodeSnapshot], prefixes: &[PrefixSnapshot], max: usize) -> Rows {
    let mut rows: Rows = nodes
        .iter()
        .map(|node| {
            let prefix = prefixes.get(node.prefix as usize).map(|prefix| &prefix.name);
            let row = vec![
                ("k", json!(node.key)),
                ("p", json!(prefix)),
                ("c", json!(node.prefix)),
                ("s", json!(node.state)),
                ("d", json!(node.dependencies)),
            ];
            (node.slot.to_string(), row)
        })
        .collect();
    rows.insert("meta".to_owned(), meta("tasks", nodes.len(), max));
    rows
}

fn meta(mode: &str, tasks: usize, max: usize) -> Row {
    vec![("mode", json!(mode)), ("tasks", json!(tasks)), ("max", json!(max)), ("truncated", json!(mode != "tasks"))]
}

/// `graph` by groups, when there are too many tasks.
pub(in crate::feed) fn graph_of_groups(groups: &[GroupSnapshot], tasks: usize, max: usize) -> Rows {
    let at: BTreeMap<&Text, usize> = groups.iter().enumerate().map(|(at, group)| (&group.name, at)).collect();
    let mut rows: Rows = groups
        .iter()
        .enumerate()
        .map(|(number, group)| {
            let states: Map<String, Json> = STATE_NAMES
                .iter()
                .zip(group.states)
                .filter(|(_, count)| *count > 0)
                .map(|(name, count)| ((*name).to_owned(), count.into()))
                .collect();
            let deps: Vec<usize> = group.dependencies.iter().filter_map(|name| at.get(name).copied()).collect();
            let row = vec![
                ("k", json!(group.name)),
                ("p", json!(group.prefix.1)),
                ("c", json!(group.prefix.0)),
                ("s", Json::Object(states)),
                ("n", json!(group.total)),
                ("d", json!(deps)),
            ];
            (number.to_string(), row)
        })
        .collect();
    rows.insert("meta".to_owned(), meta("groups", tasks, max));
    rows
}

pub(in crate::feed) fn fine(sums: &[(String, f64)]) -> Rows {
    let row = |(name, sum): &(String, f64)| {
        let parts: Vec<&str> = name.split('|').collect();
        let (context, prefix, activity, unit) = match parts.as_slice() {
            [context, prefix, activity, unit] => (*context, Some(*prefix), *activity, *unit),
            [context, activity, unit] => (*context, None, *activity, *unit),
            _ => return None,
        };
        let row = vec![
            ("context", json!(context)),
            ("prefix", json!(prefix)),
            ("activity", json!(activity)),
            ("unit", json!(unit)),
            ("value", brief(*sum)),
        ];
        Some((name.clone(), row))
    };
    sums.iter().filter_map(row).collect()
}

pub(in crate::feed) fn exceptions(causes: &[(u64, FailureCause)]) -> Rows {
    let row = |(id, cause): &(u64, FailureCause)| {
        let kind = cause.text.split('(').next().unwrap_or_default().trim();
        let keys: Vec<String> = cause.keys.iter().map(ToString::to_string).collect();
        let row = vec![
            ("type", json!(kind)),
            ("text", json!(cause.text)),
            ("traceback", json!(cause.traceback.lines().collect::<Vec<_>>())),
            ("count", json!(cause.count)),
            ("keys", json!(keys)),
            ("prefix", json!(cause.prefix)),
            ("workers", json!(cause.workers)),
            ("first", round(cause.first_secs, 3)),
            ("last", round(cause.last_secs, 3)),
        ];
        (format!("{id:016x}"), row)
    };
    causes.iter().map(row).collect()
}

pub(in crate::feed) fn computations(list: &[Computation]) -> Rows {
    let row = |one: &Computation| {
        let row = vec![
            ("start", round(one.start_secs, 3)),
            ("stop", one.stop_secs.map_or(Json::Null, |at| round(at, 3))),
            ("tasks", json!(one.tasks)),
            ("done", json!(one.done)),
            ("erred", json!(one.erred)),
            ("groups", json!(one.groups)),
            ("code", Json::Null),
        ];
        (one.id.to_string(), row)
    };
    list.iter().map(row).collect()
}
