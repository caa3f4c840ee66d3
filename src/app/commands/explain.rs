//! `rask explain KEY`: why a task does not run, or where it ran, in the terminal.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value as Json;

use super::pages::{Meant, PagesOf};
use crate::app::command_error::CommandError;
use crate::app::text::{out, out_raw, printable_json};

/// Neighbours that are named.
const NAMED_MAX: usize = 10;

/// Prints what there is to say of a task. `raw`: with the control characters of its texts.
pub fn explain(meant: &Meant, state: Option<&Path>, key: &str, raw: bool) -> Result<(), CommandError> {
    let pages = PagesOf::find(meant, state)?;
    let task = pages.ask("api/task", &[("key", key)])?;
    match raw {
        true => out_raw(&told(&task)),
        false => out(&told(&printable_json(task))),
    }
    Ok(())
}

fn text<'a>(value: &'a Json, path: &str) -> &'a str {
    value.pointer(path).and_then(Json::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Json, name: &str) -> &'a [Json] {
    value.get(name).and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

/// The same as the task's page, as lines.
fn told(task: &Json) -> String {
    let mut out = String::new();
    // Writing to a String can't fail, here and below.
    let _ = writeln!(out, "{} is {}.", text(task, "/key"), text(task, "/state"));
    let _ = writeln!(out, "{}", text(task, "/why/text"));
    for reason in task.pointer("/why/reasons").and_then(Json::as_array).into_iter().flatten() {
        let _ = writeln!(out, "  - {}", text(reason, "/text"));
        for key in list(reason, "keys").iter().filter_map(Json::as_str).take(NAMED_MAX) {
            let _ = writeln!(out, "      {key}");
        }
    }
    put_exception(&mut out, task);
    put_neighbours(&mut out, task, "dependencies", "needs");
    put_neighbours(&mut out, task, "dependents", "is needed by");
    put_runs(&mut out, task);
    put_story(&mut out, task);
    out
}

fn put_exception(out: &mut String, task: &Json) {
    let Some(exception) = task.get("exception") else { return };
    let _ = writeln!(out, "\nexception: {}", text(exception, "/text"));
    for line in list(exception, "traceback").iter().filter_map(Json::as_str) {
        let _ = writeln!(out, "  {line}");
    }
}

fn put_neighbours(out: &mut String, task: &Json, name: &str, words: &str) {
    let all = list(task, name);
    if all.is_empty() {
        return;
    }
    let total = task.get(format!("{name}_total")).and_then(Json::as_u64).unwrap_or_default();
    let _ = writeln!(out, "\n{words} {total}:");
    for other in all.iter().take(NAMED_MAX) {
        let _ = writeln!(out, "  {:<12} {}", text(other, "/state"), text(other, "/key"));
    }
    if total > NAMED_MAX as u64 {
        let _ = writeln!(out, "  and {} more", total - NAMED_MAX as u64);
    }
}

fn put_runs(out: &mut String, task: &Json) {
    let runs = list(task, "runs");
    if runs.is_empty() {
        return;
    }
    out.push_str("\nran:\n");
    for run in runs {
        let secs = |name: &str| run.get(name).and_then(Json::as_f64).unwrap_or_default();
        let failed = if run.get("ok").and_then(Json::as_bool) == Some(false) { ", failed" } else { "" };
        let _ = writeln!(
            out,
            "  {:<12} {:>9.3} s on {}{failed}",
            text(run, "/action"),
            secs("stop") - secs("start"),
            text(run, "/worker")
        );
    }
}

fn put_story(out: &mut String, task: &Json) {
    let story = list(task, "story");
    let Some(first) = story.first().and_then(|line| line.get("t")).and_then(Json::as_f64) else { return };
    out.push_str("\nstory:\n");
    for line in story {
        let at = line.get("t").and_then(Json::as_f64).unwrap_or(first) - first;
        let _ = writeln!(
            out,
            "  {at:>9.3} s  {} -> {}  ({})",
            text(line, "/start"),
            text(line, "/finish"),
            text(line, "/stimulus")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_waiting_task_is_told_with_its_inputs() {
        let task = json!({
            "key": "sum-1", "state": "waiting",
            "why": {"text": "It waits for 1 of its 2 inputs.", "reasons": [{"text": "1 of them: processing", "keys": ["inc-1"]}]},
            "dependencies": [{"key": "inc-1", "state": "processing"}, {"key": "inc-2", "state": "memory"}],
            "dependencies_total": 2,
            "story": [{"t": 10.0, "start": "released", "finish": "waiting", "stimulus": "graph-1"}],
        });
        let told = told(&task);
        assert!(told.starts_with(
            "sum-1 is waiting.\nIt waits for 1 of its 2 inputs.\n  - 1 of them: processing\n      inc-1\n"
        ));
        assert!(told.contains("needs 2:\n  processing   inc-1\n") && told.contains("released -> waiting"));
    }
}
