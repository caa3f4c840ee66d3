//! A worker's statistical profile as a flame graph has it.

use serde_json::{Value as Json, json};

use crate::base::Value;

/// Deepest flame. Python's own recursion limit ends its stacks at about this depth.
const DEPTH_MAX: u32 = 1_000;

/// Between two samples, unless workers are configured otherwise. Unit: seconds.
///
/// Source: `distributed.worker.profile.interval`.
const SAMPLE_SECS: f64 = 0.01;

/// `{"name", "file", "line", "code", "value", "children"}`, all the way down.
pub fn flame(tree: &Value) -> Json {
    let mut root = frame(tree, "root", 0);
    if let Some(fields) = root.as_object_mut() {
        fields.insert("seconds_per_sample".to_owned(), json!(SAMPLE_SECS));
    }
    root
}

fn frame(tree: &Value, name: &str, depth: u32) -> Json {
    let about = tree.get("description");
    let text = |field: &str| about.and_then(|about| about.get(field)).and_then(Value::as_str).unwrap_or_default();
    let shown = if depth == 0 { name } else { text("name") };
    let line = about.and_then(|about| about.get("line_number")).and_then(Value::as_i64);
    let children: Vec<Json> = if depth >= DEPTH_MAX {
        Vec::new()
    } else {
        let found = tree.get("children").and_then(Value::fields).unwrap_or_default();
        found.iter().map(|(id, child)| frame(child, id.as_str().unwrap_or_default(), depth + 1)).collect()
    };
    json!({
        "name": if shown.is_empty() { name } else { shown },
        "file": text("filename"),
        "line": line,
        "code": text("line").trim(),
        "value": tree.get("count").and_then(Value::as_i64).unwrap_or(0),
        "children": children,
    })
}
