//! The task stream in the format of Chrome's tracer, which Perfetto and `chrome://tracing` show.
//!
//! The format is "Trace Event Format" of the Chromium project: complete events (`X`) and metadata (`M`). Times there are
//! in microseconds.

use std::collections::BTreeMap;

use serde_json::json;

use crate::cluster::{ACTION_NAMES, TimelineWindow};

/// Everything between two times. Unit: milliseconds since the epoch.
pub(super) fn chrome(stream: &TimelineWindow, (from_ms, to_ms): (f64, f64)) -> String {
    let mut text = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[".to_owned();
    let mut workers: BTreeMap<&str, usize> = BTreeMap::new();
    for lane in &stream.lanes {
        let next = workers.len() + 1;
        workers.entry(&lane.worker).or_insert(next);
    }
    let process = |worker: &str| workers.get(worker).copied().unwrap_or_default();
    let mut events: Vec<String> = Vec::new();
    for (worker, pid) in &workers {
        events.push(json!({"ph": "M", "name": "process_name", "pid": pid, "args": {"name": worker}}).to_string());
    }
    for (tid, lane) in stream.lanes.iter().enumerate() {
        let name = format!("{} thread {}", lane.name, lane.n);
        let pid = process(&lane.worker);
        events.push(
            json!({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}}).to_string(),
        );
    }
    text.push_str(&events.join(","));
    for chunk in &stream.chunks {
        for at in 0..chunk.len() {
            let (Some(&start), Some(&duration), Some(&lane)) =
                (chunk.start_ms.get(at), chunk.duration_ms.get(at), chunk.lane.get(at))
            else {
                continue;
            };
            if start > to_ms || start + f64::from(duration) < from_ms {
                continue;
            }
            let prefix = chunk.prefix.get(at).and_then(|prefix| stream.prefixes.get(usize::from(*prefix)));
            let action = chunk.action.get(at).and_then(|action| ACTION_NAMES.get(usize::from(*action)));
            let pid = stream.lanes.get(usize::from(lane)).map_or(0, |lane| process(&lane.worker));
            let event = json!({
                "ph": "X",
                "name": prefix,
                "cat": action,
                "ts": start * 1e3,
                "dur": f64::from(duration) * 1e3,
                "pid": pid,
                "tid": lane,
                "args": {"key": chunk.key(at)},
            });
            if !text.ends_with('[') {
                text.push(',');
            }
            text.push_str(&event.to_string());
        }
    }
    text.push_str("]}");
    text
}
