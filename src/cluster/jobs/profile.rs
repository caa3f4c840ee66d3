//! Statistical profiles and call stacks: asked of the workers, merged here.
//!
//! Source: `distributed/scheduler.py`, `get_profile`, `get_call_stack`; `distributed/profile.py`.

use std::time::Duration;

use futures_util::future::join_all;

use crate::base::{Failure, Key, PyError, SeededMap, Text, Value};
use crate::cluster::codec::args;
use crate::cluster::state::call::{Call, Done, Handled};
use crate::cluster::state::{Handle, State};

/// Longest a worker may take to answer a question about itself.
const LOOK_DEADLINE: Duration = Duration::from_secs(60);

/// Deepest merged tree. Python's own recursion limit ends stock's trees at about this depth.
const DEPTH_MAX: u32 = 1_000;

/// `call_stack`: where the workers' threads are, for these tasks or for all.
pub fn call_stack(state: &mut State, call: Call, body: &Value) -> Handled {
    let keys = args::optional_keys(body, "keys")?;
    let mut per_worker: SeededMap<Text, Value> = SeededMap::default();
    match keys {
        None => per_worker.extend(state.worker_addresses().into_iter().map(|address| (address, Value::Nil))),
        Some(keys) => {
            if let Some(unknown) = keys.iter().find(|key| state.sched.task(key).is_none()) {
                return Err(Failure::Raised(PyError::MissingKey(unknown.to_value())));
            }
            for key in state.sched.processing_below(&keys) {
                let on = state.sched.task(&key).and_then(|task| task.processing_on);
                let Some(address) = on.and_then(|worker| state.address_of(worker)) else { continue };
                let entry = per_worker.entry(address).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = entry {
                    list.push(key.to_value());
                }
            }
        }
    }
    let handle = state.handle.clone();
    Ok(state.job(call, async move {
        let asks = per_worker.into_iter().map(|(address, keys)| {
            let handle = handle.clone();
            async move {
                let body = Value::map([("op", "call_stack".into()), ("keys", keys), ("reply", true.into())]);
                let answer = handle.call(&address, &body, LOOK_DEADLINE).await.ok()?;
                let empty = answer.fields().is_none_or(<[_]>::is_empty);
                (!empty).then_some((Value::Str(address), answer))
            }
        });
        Ok(Value::Map(join_all(asks).await.into_iter().flatten().collect()))
    }))
}

/// `profile`: one tree for all workers, or one each.
pub fn start(state: &mut State, call: Call, body: &Value) -> Handled {
    if args::flag(body, "scheduler", false) {
        // Our own threads run no Python.
        return Ok(Done::Now(empty_tree()));
    }
    let wanted = body.field("workers").map(|workers| args::texts(Some(workers)));
    let addresses: Vec<Text> = state
        .worker_addresses()
        .into_iter()
        .filter(|address| wanted.as_ref().is_none_or(|wanted| wanted.contains(address)))
        .collect();
    let field = |name: &str| body.get(name).cloned().unwrap_or_default();
    let message = Value::map([
        ("op", "profile".into()),
        ("start", field("start")),
        ("stop", field("stop")),
        ("key", field("key")),
        ("server", args::flag(body, "server", false).into()),
        ("reply", true.into()),
    ]);
    let merged = args::flag(body, "merge_workers", true);
    let handle = state.handle.clone();
    Ok(state.job(call, async move {
        let answers = ask_all(&handle, &addresses, &message).await;
        if merged {
            return Ok(merge(answers.into_iter().map(|(_, tree)| tree).collect(), 0));
        }
        Ok(Value::Map(answers.into_iter().map(|(address, tree)| (Value::Str(address), tree)).collect()))
    }))
}

async fn ask_all(handle: &Handle, addresses: &[Text], message: &Value) -> Vec<(Text, Value)> {
    let asks = addresses.iter().map(|address| async move {
        let answer = handle.call(address, message, LOOK_DEADLINE).await.ok()?;
        answer.get("children").is_some().then(|| (address.clone(), answer))
    });
    join_all(asks).await.into_iter().flatten().collect()
}

fn empty_tree() -> Value {
    let nothing =
        Value::map([("filename", "".into()), ("name", "".into()), ("line_number", Value::Int(0)), ("line", "".into())]);
    Value::map([
        ("count", Value::Int(0)),
        ("children", Value::Map(Vec::new())),
        ("identifier", "root".into()),
        ("description", nothing),
    ])
}

/// Adds up trees that have the same root. Source: `distributed/profile.py`, `merge`.
fn merge(trees: Vec<Value>, depth: u32) -> Value {
    let Some(first) = trees.first() else { return empty_tree() };
    let description = first.get("description").cloned().unwrap_or_default();
    let identifier = first.get("identifier").cloned().unwrap_or_default();
    let count: i64 = trees.iter().filter_map(|tree| tree.get("count")?.as_i64()).fold(0, i64::saturating_add);
    let mut order = Vec::new();
    let mut children: SeededMap<Key, Vec<Value>> = SeededMap::default();
    for tree in trees {
        let Value::Map(fields) = tree else { continue };
        let found = fields.into_iter().find(|(name, _)| name.as_str() == Some("children"));
        let Some((_, Value::Map(found))) = found else { continue };
        for (name, child) in found {
            let Some(name) = name.as_key() else { continue };
            let same = children.entry(name.clone()).or_default();
            if same.is_empty() {
                order.push(name);
            }
            same.push(child);
        }
    }
    let merged = if depth >= DEPTH_MAX {
        Vec::new()
    } else {
        let of = |name: Key| {
            let same = children.remove(&name).unwrap_or_default();
            (name.to_value(), merge(same, depth + 1))
        };
        order.into_iter().map(of).collect()
    };
    Value::map([
        ("description", description),
        ("children", Value::Map(merged)),
        ("count", count.into()),
        ("identifier", identifier),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(count: i64, children: Vec<(Value, Value)>) -> Value {
        Value::map([
            ("count", count.into()),
            ("children", Value::Map(children)),
            ("identifier", "root".into()),
            ("description", Value::Nil),
        ])
    }

    /// Goal: counts of the same place add up, other places stay apart.
    #[test]
    fn profiles_of_workers_add_up() {
        let left = tree(3, vec![("f".into(), tree(2, Vec::new())), ("g".into(), tree(1, Vec::new()))]);
        let right = tree(4, vec![("f".into(), tree(4, Vec::new()))]);
        let sum = merge(vec![left, right], 0);
        assert_eq!(sum.get("count"), Some(&Value::Int(7)));
        let children = sum.get("children").expect("children");
        assert_eq!(children.get("f").and_then(|f| f.get("count")), Some(&Value::Int(6)));
        assert_eq!(children.get("g").and_then(|g| g.get("count")), Some(&Value::Int(1)));
    }
}
