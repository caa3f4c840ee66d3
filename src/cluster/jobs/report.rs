//! `performance_report`: one page about a stretch of work that needs nothing else to be shown. Where the dashboard's
//! page is built in, its template is filled elsewhere ([`crate::cluster::Reporter`]); this is the plain one.
//!
//! Source: `distributed/scheduler.py`, `performance_report`. The page is our own: numbers by function and by worker, and
//! what each thread did when.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::base::{Key, Text, Value, key_prefix};
use crate::cluster::codec::failures::raise;
use crate::cluster::records::task_stream::RunQuery;
use crate::cluster::state::State;
use crate::cluster::state::call::{Call, Handled};
use crate::sched::WorkerStatus;

/// Most bars in the picture: more can't be told apart, and browsers get slow. The longest are shown.
const BARS_MAX: usize = 5_000;

/// Height of a thread's line in the picture. Unit: pixels.
const LINE_PIXELS: usize = 14;

/// Width of the picture. Unit: pixels.
const PICTURE_PIXELS: f64 = 960.0;

const STYLE: &str = "body{font:15px sans-serif;margin:2em;max-width:62em}pre{background:#f4f4f4;padding:1em;overflow:auto}\
table{border-collapse:collapse}th,td{padding:.2em .8em;text-align:left;border-bottom:1px solid #ddd}\
td+td,th+th{text-align:right}svg{background:#fafafa;border:1px solid #ddd}";

/// Answers with the page for the time since `start`.
pub fn report(state: &mut State, call: Call, body: &Value) -> Handled {
    let Some(start) = body.get("start").and_then(Value::as_f64) else {
        return Err(raise("TypeError", "performance_report needs a start time"));
    };
    let code = body.get("code").and_then(Value::as_str).unwrap_or_default().to_owned();
    let work = Work::look(state, start);
    let made = state.setup.reporter.as_ref().map(|reporter| (reporter.0)(start, code.clone()));
    Ok(state.job(call, async move {
        let page = match made {
            Some(made) => made.await,
            None => None,
        };
        Ok(page.unwrap_or_else(|| work.page(&code)).into())
    }))
}

/// What the plain page is about.
struct Work {
    records: Value,
    duration_secs: f64,
    address: Text,
    workers: usize,
    running: usize,
    threads: u64,
    memory_bytes: u64,
}

impl Work {
    fn look(state: &State, start: f64) -> Self {
        let views = state.sched.workers();
        Self {
            records: state.records.task_stream.collect(RunQuery { start_secs: Some(start), ..RunQuery::default() }),
            duration_secs: state.clock.wall() - start,
            address: state.setup.identity.address.clone(),
            workers: views.len(),
            running: views.iter().filter(|view| view.status == WorkerStatus::Running).count(),
            threads: views.iter().map(|view| u64::from(view.nthreads)).sum(),
            memory_bytes: views.iter().map(|view| view.memory_limit).fold(0, u64::saturating_add),
        }
    }

    fn page(&self, code: &str) -> String {
        let records = self.records.items().unwrap_or_default();
        let bars = bars(records, &prefix_of);
        let mut html = format!(
            "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Dask Performance Report</title>\
             <style>{STYLE}</style></head><body><h1>Dask Performance Report</h1>"
        );
        // Writing to a String can't fail, here and below.
        let _ = write!(html, "<h2>Duration: {:.2} s</h2>", self.duration_secs);
        self.put_summary(&mut html, records.len(), &bars);
        put_sums(&mut html, "By function", "function", &sums(records, &prefix_of));
        let worker = |record: &Value| record.get("worker").and_then(Value::as_str).unwrap_or_default().to_owned();
        put_sums(&mut html, "By worker", "worker", &sums(records, &worker));
        put_picture(&mut html, bars);
        let _ = write!(html, "<h2>Calling Code</h2><pre>{}</pre></body></html>", escaped(code));
        html
    }

    fn put_summary(&self, html: &mut String, runs: usize, bars: &[Bar<'_>]) {
        let _ = write!(html, "<h2>Tasks Information</h2><ul><li>number of tasks: {runs}</li>");
        let mut spent: BTreeMap<&str, f64> = BTreeMap::new();
        for bar in bars {
            *spent.entry(bar.action).or_default() += bar.stop - bar.start;
        }
        for (action, secs) in spent {
            let _ = write!(html, "<li>{} time: {secs:.3} s</li>", escaped(action));
        }
        let _ = write!(
            html,
            "</ul><h2>Scheduler Information</h2><ul><li>Address: {}</li><li>Workers: {} ({} running)</li>\
             <li>Threads: {}</li><li>Memory: {:.2} GiB</li></ul>",
            escaped(&self.address),
            self.workers,
            self.running,
            self.threads,
            self.memory_bytes as f64 / f64::from(1u32 << 30),
        );
    }
}

/// One stretch of one run.
struct Bar<'a> {
    action: &'a str,
    name: String,
    worker: &'a str,
    thread: i64,
    start: f64,
    stop: f64,
}

/// What runs with something in common took.
#[derive(Default)]
struct Sum {
    runs: u64,
    failed: u64,
    compute_secs: f64,
    other_secs: f64,
    bytes: i64,
}

fn bars<'a>(records: &'a [Value], name: &dyn Fn(&Value) -> String) -> Vec<Bar<'a>> {
    let mut bars = Vec::new();
    for record in records {
        let worker = record.get("worker").and_then(Value::as_str).unwrap_or_default();
        let thread = record.get("thread").and_then(Value::as_i64).unwrap_or_default();
        for span in record.get("startstops").and_then(Value::items).unwrap_or_default() {
            let time = |name: &str| span.get(name).and_then(Value::as_f64).filter(|secs| secs.is_finite());
            let (Some(start), Some(stop)) = (time("start"), time("stop")) else { continue };
            let action = span.get("action").and_then(Value::as_str).unwrap_or("other");
            bars.push(Bar { action, name: name(record), worker, thread, start, stop: stop.max(start) });
        }
    }
    bars
}

fn prefix_of(record: &Value) -> String {
    let key = record.get("key").and_then(Value::as_key).unwrap_or_else(|| Key::text(""));
    key_prefix(&key).to_string()
}

fn sums(records: &[Value], name: &dyn Fn(&Value) -> String) -> Vec<(String, Sum)> {
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for record in records {
        let sum = sums.entry(name(record)).or_default();
        sum.runs += 1;
        sum.failed += u64::from(record.get("status").and_then(Value::as_str) != Some("OK"));
        sum.bytes = sum.bytes.saturating_add(record.get("nbytes").and_then(Value::as_i64).unwrap_or_default());
        for bar in bars(std::slice::from_ref(record), &prefix_of) {
            let secs = bar.stop - bar.start;
            if bar.action == "compute" { sum.compute_secs += secs } else { sum.other_secs += secs }
        }
    }
    let mut sums: Vec<(String, Sum)> = sums.into_iter().collect();
    sums.sort_by(|left, right| right.1.compute_secs.total_cmp(&left.1.compute_secs));
    sums
}

fn put_sums(html: &mut String, title: &str, column: &str, sums: &[(String, Sum)]) {
    let _ = write!(
        html,
        "<h2>{title}</h2><table><tr><th>{column}</th><th>runs</th><th>failed</th><th>compute s</th>\
         <th>transfer, disk s</th><th>result bytes</th></tr>"
    );
    for (name, sum) in sums {
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{:.3}</td><td>{:.3}</td><td>{}</td></tr>",
            escaped(name),
            sum.runs,
            sum.failed,
            sum.compute_secs,
            sum.other_secs,
            sum.bytes
        );
    }
    html.push_str("</table>");
}

/// What each thread did when: a line for each, a bar for each stretch, its name on hovering.
fn put_picture(html: &mut String, mut bars: Vec<Bar<'_>>) {
    bars.sort_by(|left, right| (right.stop - right.start).total_cmp(&(left.stop - left.start)));
    let left_out = bars.len().saturating_sub(BARS_MAX);
    bars.truncate(BARS_MAX);
    let begin = bars.iter().map(|bar| bar.start).fold(f64::INFINITY, f64::min);
    let end = bars.iter().map(|bar| bar.stop).fold(f64::NEG_INFINITY, f64::max);
    if bars.is_empty() {
        return;
    }
    let scale = PICTURE_PIXELS / (end - begin).max(1e-6);
    let mut lines: BTreeMap<(&str, i64), usize> = bars.iter().map(|bar| ((bar.worker, bar.thread), 0)).collect();
    for (at, line) in lines.values_mut().enumerate() {
        *line = at;
    }
    let height = lines.len().saturating_mul(LINE_PIXELS);
    let _ = write!(html, "<h2>Threads over {:.2} s</h2>", end - begin);
    let _ = write!(html, "<svg width=\"{PICTURE_PIXELS}\" height=\"{height}\">");
    for bar in &bars {
        let line = lines.get(&(bar.worker, bar.thread)).copied().unwrap_or_default();
        let _ = write!(
            html,
            "<rect x=\"{:.2}\" y=\"{}\" width=\"{:.2}\" height=\"{}\" fill=\"{}\">\
             <title>{} {} {:.4} s on {}</title></rect>",
            (bar.start - begin) * scale,
            line.saturating_mul(LINE_PIXELS).saturating_add(1),
            ((bar.stop - bar.start) * scale).max(0.5),
            LINE_PIXELS - 2,
            color(bar),
            escaped(&bar.name),
            escaped(bar.action),
            bar.stop - bar.start,
            escaped(bar.worker)
        );
    }
    html.push_str("</svg>");
    if left_out > 0 {
        let _ = write!(html, "<p>The {left_out} shortest stretches are not shown.</p>");
    }
}

/// Transfers are red and the disk orange, as people know it from Dask; functions differ by name.
fn color(bar: &Bar<'_>) -> String {
    match bar.action {
        "transfer" => "#d62728".to_owned(),
        "disk-read" | "disk-write" => "#ff7f0e".to_owned(),
        "deserialize" => "#999".to_owned(),
        _ => {
            let hue = bar.name.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
            format!("hsl({},55%,55%)", 80 + hue % 240)
        }
    }
}

/// Text that can't break out of the page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(key: &str, thread: i64, start: f64, stop: f64) -> Value {
        let span = Value::map([("action", "compute".into()), ("start", start.into()), ("stop", stop.into())]);
        Value::map([
            ("key", key.into()),
            ("worker", "tcp://w:1".into()),
            ("thread", thread.into()),
            ("status", "OK".into()),
            ("nbytes", Value::Int(10)),
            ("startstops", Value::Array(vec![span])),
        ])
    }

    /// Goal: numbers add up by function, and each thread has a line of its own.
    #[test]
    fn runs_add_up_and_threads_are_apart() {
        let records = [run("inc-1", 1, 10.0, 11.0), run("inc-2", 2, 10.5, 12.5), run("<b>-3", 2, 12.5, 13.0)];
        let sums = sums(&records, &prefix_of);
        let inc = sums.iter().find(|(name, _)| name == "inc").map(|(_, sum)| (sum.runs, sum.compute_secs, sum.bytes));
        assert_eq!(inc, Some((2, 3.0, 20)));
        let mut html = String::new();
        put_picture(&mut html, bars(&records, &prefix_of));
        assert_eq!(html.matches("<rect").count(), 3);
        assert!(html.contains("height=\"28\"") && !html.contains("<b>"));
    }
}
