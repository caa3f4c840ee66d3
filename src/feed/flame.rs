//! A worker's statistical profile as a flame graph has it.

use serde_json::{Value as Json, json};

use crate::base::Value;

/// Deepest flame. Python's own recursion limit ends its stacks at about this depth.
const DEPTH_MAX: u32 = 1_000;

/// Functions named in a frame that stands for several.
const NAMES_MAX: usize = 4;

/// Between two samples, unless workers are configured otherwise. Unit: seconds.
///
/// Source: `distributed/distributed.yaml`, `distributed.worker.profile.interval`.
const SAMPLE_SECS: f64 = 0.01;

/// `{"name", "file", "line", "code", "value", "children"}`, all the way down.
pub fn flame(tree: &Value) -> Json {
    let mut root = frame(tree, "root", 0, !counts_leaves(tree, 0));
    if let Some(fields) = root.as_object_mut() {
        fields.insert("seconds_per_sample".to_owned(), json!(SAMPLE_SECS));
    }
    root
}

fn count_of(tree: &Value) -> i64 {
    tree.get("count").and_then(Value::as_i64).unwrap_or(0)
}

fn children_of(tree: &Value, depth: u32) -> &[(Value, Value)] {
    let found = tree.get("children").and_then(Value::fields).unwrap_or_default();
    if depth >= DEPTH_MAX { &[] } else { found }
}

/// Workers without the low-level profiler count a sample in every frame but the one it was taken in.
///
/// Source: `distributed/worker.py`, `trigger_profile`, which leaves the last frame to `llprocess`.
fn counts_leaves(tree: &Value, depth: u32) -> bool {
    let children = children_of(tree, depth);
    if depth > 0 && children.is_empty() {
        return count_of(tree) > 0;
    }
    children.iter().any(|(_, child)| counts_leaves(child, depth + 1))
}

/// `restore`: samples that only the caller counted are given to the frame they were taken in. One callee: it was there.
/// Several: nobody knows which, so they share a frame that names them.
fn frame(tree: &Value, name: &str, depth: u32, restore: bool) -> Json {
    let about = tree.get("description");
    let text = |field: &str| about.and_then(|about| about.get(field)).and_then(Value::as_str).unwrap_or_default();
    let shown = if depth == 0 { name } else { text("name") };
    let line = about.and_then(|about| about.get("line_number")).and_then(Value::as_i64);
    let found = children_of(tree, depth);
    let mut children: Vec<Json> =
        found.iter().map(|(id, child)| frame(child, id.as_str().unwrap_or_default(), depth + 1, restore)).collect();
    let counted: i64 = found.iter().map(|(_, child)| count_of(child)).sum();
    let left = count_of(tree).saturating_sub(counted);
    if restore && left > 0 {
        match children.as_mut_slice() {
            [] => {}
            [only] => {
                let own = only.get("value").and_then(Json::as_i64).unwrap_or(0);
                if let Some(fields) = only.as_object_mut() {
                    fields.insert("value".to_owned(), json!(own.saturating_add(left)));
                }
            }
            _ => children.push(shared(&children, left)),
        }
        // What was seen only where samples were taken has no share of its own.
        children.retain(|child| child.get("value").and_then(Json::as_i64) != Some(0));
    }
    json!({
        "name": if shown.is_empty() { name } else { shown },
        "file": text("filename"),
        "line": line,
        "code": text("line").trim(),
        "value": count_of(tree),
        "children": children,
    })
}

fn shared(callees: &[Json], samples: i64) -> Json {
    let ends = callees.iter().filter(|child| child.get("value").and_then(Json::as_i64) == Some(0));
    let names: Vec<&str> = ends.filter_map(|child| child.get("name").and_then(Json::as_str)).collect();
    let named = names.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
    let more = if names.len() > NAMES_MAX { ", ..." } else { "" };
    let name = if names.is_empty() { "its callees".to_owned() } else { format!("{named}{more}") };
    json!({
        "name": name,
        "file": "",
        "line": null,
        "code": "Workers do not tell these apart; choose one prefix to see its own share.",
        "value": samples,
        "children": [],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(name: &str, count: i64, children: Vec<Value>) -> Value {
        let named = children.into_iter().enumerate().map(|(at, child)| (Value::from(at.to_string().as_str()), child));
        let children = Value::Map(named.collect());
        let about = Value::map([("name", name.into()), ("line_number", Value::Int(1))]);
        Value::map([("count", count.into()), ("children", children), ("description", about)])
    }

    fn shown(tree: &Json) -> Vec<(String, i64)> {
        let children = tree["children"].as_array().into_iter().flatten();
        let name = |child: &Json| child["name"].as_str().unwrap_or_default().to_owned();
        children.map(|child| (name(child), child["value"].as_i64().unwrap_or(0))).collect()
    }

    /// Goal: the time of a function that calls nothing is seen, though workers only count it at its caller.
    #[test]
    fn samples_are_given_to_the_frames_they_were_taken_in() {
        let one = flame(&tree("root", 5, vec![tree("inc", 0, Vec::new())]));
        assert_eq!(shown(&one), [("inc".to_owned(), 5)]);
        let calls = tree("load", 2, vec![tree("ones", 0, Vec::new())]);
        let several = flame(&tree("root", 9, vec![tree("inc", 0, Vec::new()), tree("dec", 0, Vec::new()), calls]));
        assert_eq!(shown(&several), [("load".to_owned(), 2), ("inc, dec".to_owned(), 7)]);
    }

    /// Goal: trees in which every frame was counted stay unchanged.
    #[test]
    fn counted_frames_stay_as_they_are() {
        let counted = flame(&tree("root", 5, vec![tree("inc", 3, Vec::new()), tree("dec", 0, Vec::new())]));
        assert_eq!(shown(&counted), [("inc".to_owned(), 3), ("dec".to_owned(), 0)]);
    }
}
