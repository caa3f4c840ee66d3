//! `rask cluster ...`: the clusters of a running appliance, through its REST API.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Map, Value, json};

use super::api::{ApiClient, Remote};
use crate::app::command_error::CommandError;
use crate::app::text::counted;
use crate::app::text::day;
use crate::app::text::out;
use crate::app::text::outln;
use crate::app::text::printable_json;
use crate::app::text::table;
use crate::base::{printable_lines, url_part};
use crate::clock::unix_ms;
use crate::config::show_size;

/// What `rask cluster` is to do.
#[derive(Clone, Debug)]
pub enum ClusterCommand {
    /// List them; those that ended too.
    List {
        /// `--all`
        all: bool,
    },
    /// Show one.
    Show { name: String },
    /// Make one.
    Create {
        /// Its name, or one made up.
        name: Option<String>,
        /// Workers to start with.
        workers: Option<u32>,
        /// `field=value`
        options: Vec<String>,
        /// Do not wait until it runs.
        no_wait: bool,
    },
    /// Want a number of workers.
    Scale {
        name: String,
        /// How many.
        workers: u32,
    },
    /// Let the number of workers follow the load.
    Adapt {
        name: String,
        /// At least.
        minimum: Option<u32>,
        /// At most.
        maximum: Option<u32>,
        /// Stop doing so.
        off: bool,
    },
    /// Stop some.
    Stop { names: Vec<String> },
    /// Print logs.
    Logs {
        name: String,
        /// One of its processes.
        worker: Option<String>,
        /// Like `10m`.
        since: Option<String>,
        tail: Option<u32>,
        /// Go on.
        follow: bool,
        /// With control characters.
        raw: bool,
    },
}

/// Does it and prints the outcome. Errors: the appliance's own words.
pub fn cluster(remote: &Remote, command: &ClusterCommand, as_json: bool) -> Result<(), CommandError> {
    let client = ApiClient::find(remote)?;
    match command {
        ClusterCommand::List { all } => list(&client, *all, as_json),
        ClusterCommand::Show { name } => show(&client, name, as_json),
        ClusterCommand::Create { name, workers, options, no_wait } => {
            let body = json!({ "name": name, "workers": workers, "options": chosen(&client, options)? });
            create(&client, &body, !no_wait, as_json)
        }
        ClusterCommand::Scale { name, workers } => {
            let answer = client.post(&of(name, "/scale"), &json!({ "count": workers }))?;
            granted(&answer, &format!("{name} is scaled to {}", counted(u64::from(*workers), "worker")), as_json)
        }
        ClusterCommand::Adapt { name, minimum, maximum, off } => {
            let body = json!({ "minimum": minimum, "maximum": maximum, "active": !off });
            let answer = client.post(&of(name, "/adapt"), &body)?;
            let done = if *off { "keeps its number of workers" } else { "follows its load" };
            granted(&answer, &format!("{name} {done}"), as_json)
        }
        ClusterCommand::Stop { names } => stop(&client, names, as_json),
        ClusterCommand::Logs { name, worker, since, tail, follow, raw } => {
            let mut query: Vec<String> = Vec::new();
            let mut add = |key: &str, value: Option<String>| {
                query.extend(value.map(|value| format!("{key}={}", url_part(&value))));
            };
            add("worker", worker.clone());
            add("since", since.clone());
            add("tail", tail.map(|lines| lines.to_string()));
            add("follow", follow.then(|| "1".to_owned()));
            print_lines(&client, &of(name, &format!("/logs?{}", query.join("&"))), *raw)
        }
    }
}

fn of(name: &str, rest: &str) -> String {
    format!("/clusters/{}{rest}", url_part(name))
}

/// Whoever reads us may have enough: `rask cluster logs x | head`.
fn print_lines(client: &ApiClient, path: &str, raw: bool) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    let mut open = true;
    client.lines(path, |line| {
        let line = if raw { Cow::Borrowed(line) } else { printable_lines(line) };
        if open && writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            open = false;
            // Nothing that we could still say would be read.
            std::process::exit(0);
        }
    })
}

fn list(client: &ApiClient, ended: bool, as_json: bool) -> Result<(), CommandError> {
    let clusters = all(client, ended)?;
    match as_json {
        true => outln!("{:#}", Value::Array(clusters)),
        false if clusters.is_empty() => outln!("No clusters. Make one: rask cluster create"),
        false => out(&show_list(&clusters)),
    }
    Ok(())
}

/// All clusters that the asker may see; those that ended too.
pub(crate) fn all(client: &ApiClient, ended: bool) -> Result<Vec<Value>, CommandError> {
    let answer = client.get(if ended { "/clusters?status=all" } else { "/clusters" })?;
    Ok(answer.get("clusters").and_then(Value::as_array).cloned().unwrap_or_default())
}

/// As a table; nothing for none.
pub(crate) fn show_list(clusters: &[Value]) -> String {
    if clusters.is_empty() {
        return String::new();
    }
    let now = unix_ms();
    let rows: Vec<Vec<String>> = clusters.iter().map(|cluster| row(cluster, now)).collect();
    table(&["NAME", "STATUS", "WORKERS", "SIZE", "USER", "AGE", "REASON"], &rows)
}

fn text(cluster: &Value, field: &str) -> String {
    match cluster.get(field) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn number(cluster: &Value, field: &str) -> i64 {
    cluster.get(field).and_then(Value::as_i64).unwrap_or_default()
}

fn row(cluster: &Value, now_ms: i64) -> Vec<String> {
    let ended = cluster.get("stop_time").and_then(Value::as_i64);
    let age = ended.unwrap_or(now_ms).saturating_sub(number(cluster, "start_time")) / 1000;
    vec![
        text(cluster, "name"),
        text(cluster, "status"),
        workers(cluster),
        size(cluster),
        text(cluster, "user"),
        show_age(age),
        text(cluster, "reason").lines().next().unwrap_or_default().to_owned(),
    ]
}

/// How many of its jobs are in a state.
fn jobs_in(cluster: &Value, state: &str) -> usize {
    let jobs = cluster.get("jobs").and_then(Value::as_array);
    jobs.map_or(0, |jobs| jobs.iter().filter(|job| text(job, "state") == state).count())
}

/// `2 of 4`, `2 (0 to 10)`
fn workers(cluster: &Value) -> String {
    let (now, target) = (number(cluster, "workers"), number(cluster, "target"));
    match cluster.get("adapt").filter(|adapt| !adapt.is_null()) {
        Some(adapt) => {
            let most = text(adapt, "maximum");
            let most = if most.is_empty() { "any number" } else { &most };
            format!("{now} ({} to {most})", number(adapt, "minimum"))
        }
        None if now == target => now.to_string(),
        None => format!("{now} of {target}"),
    }
}

fn size(cluster: &Value) -> String {
    let memory = match u64::try_from(number(cluster, "memory_limit")) {
        Ok(0) | Err(_) => "any memory".to_owned(),
        Ok(bytes) => show_size(bytes),
    };
    format!("{} x {memory}", number(cluster, "nthreads"))
}

pub(crate) fn show_age(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn show(client: &ApiClient, name: &str, as_json: bool) -> Result<(), CommandError> {
    let cluster = client.get(&of(name, ""))?;
    print_cluster(&cluster, as_json);
    Ok(())
}

fn print_cluster(cluster: &Value, as_json: bool) {
    if as_json {
        outln!("{cluster:#}");
        return;
    }
    let cluster = &printable_json(cluster.clone());
    let seconds = |field: &str| match cluster.get(field).and_then(Value::as_f64) {
        Some(secs) => show_age(secs as i64),
        None => "never".to_owned(),
    };
    let waiting_jobs = jobs_in(cluster, "waiting");
    let workers = match number(cluster, "without_room") {
        0 => workers(cluster),
        _ if !text(cluster, "jobs_note").is_empty() || waiting_jobs > 0 => {
            format!("{}, {waiting_jobs} waiting jobs", workers(cluster))
        }
        waiting => format!("{}; no room for {waiting} more on the machines that may have them", workers(cluster)),
    };
    let mut facts = vec![
        ("name", text(cluster, "name")),
        ("status", text(cluster, "status")),
        ("reason", text(cluster, "reason")),
        ("user", text(cluster, "user")),
        ("workers", workers),
        ("jobs", text(cluster, "jobs_note")),
        ("each", size(cluster).replace(" x ", " threads, ")),
        ("engine", text(cluster, "engine")),
        ("client", text(cluster, "scheduler_address")),
        ("gateway", text(cluster, "gateway_address")),
        ("started", day(number(cluster, "start_time") / 1000)),
        ("idle stop", seconds("idle_timeout")),
        ("last stop", seconds("max_lifetime")),
    ];
    if let Some(stopped) = cluster.get("stop_time").and_then(Value::as_i64) {
        facts.push(("stopped", day(stopped / 1000)));
    }
    let options = cluster.get("options").and_then(Value::as_object).cloned().unwrap_or_default();
    facts
        .push(("options", options.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")));
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        outln!("{name:<10} {value}");
    }
    for line in cluster.get("last_lines").and_then(Value::as_array).into_iter().flatten() {
        outln!("  | {}", line.as_str().unwrap_or_default());
    }
}

/// `worker_cores=2 env.NAME=value`: each value becomes what its option takes.
fn chosen(client: &ApiClient, given: &[String]) -> Result<Value, CommandError> {
    if given.is_empty() {
        return Ok(json!({}));
    }
    let answer = client.get("/options")?;
    let known: BTreeMap<String, String> = answer
        .get("options")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|option| (text(option, "field"), option.pointer("/spec/type").map(text_of).unwrap_or_default()))
        .collect();
    let mut all = Map::new();
    for pair in given {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| CommandError::usage(format!("{pair} is not like field=value")))?;
        if let Some((field, variable)) = name.split_once('.') {
            let inner = all.entry(field.to_owned()).or_insert_with(|| json!({}));
            if let Some(inner) = inner.as_object_mut() {
                inner.insert(variable.to_owned(), Value::from(value));
            }
            continue;
        }
        let as_text = matches!(known.get(name).map(String::as_str), Some("string" | "select"));
        let read = if as_text { None } else { serde_json::from_str(value).ok() };
        all.insert(name.to_owned(), read.unwrap_or_else(|| Value::from(value)));
    }
    Ok(Value::Object(all))
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn create(client: &ApiClient, body: &Value, wait: bool, as_json: bool) -> Result<(), CommandError> {
    let mut cluster = client.post("/clusters", body)?;
    let name = text(&cluster, "name");
    while wait && text(&cluster, "status") == "PENDING" {
        cluster = client.get(&of(&name, "?wait"))?;
    }
    if text(&cluster, "status") == "FAILED" {
        let lines = cluster.get("last_lines").and_then(Value::as_array).cloned().unwrap_or_default();
        for line in lines.iter().filter_map(Value::as_str) {
            eprintln!("  | {}", printable_lines(line));
        }
        return Err(CommandError::world(format!("cluster {name} failed: {}", text(&cluster, "reason")))
            .remedy(format!("see `rask cluster logs {name}`")));
    }
    match as_json {
        true => outln!("{cluster:#}"),
        false => outln!("{name}"),
    }
    Ok(())
}

fn granted(answer: &Value, done: &str, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        outln!("{answer:#}");
    } else {
        match answer.get("msg").and_then(Value::as_str) {
            Some(told) => outln!("{told}"),
            None => outln!("{done}."),
        }
    }
    Ok(())
}

fn stop(client: &ApiClient, names: &[String], as_json: bool) -> Result<(), CommandError> {
    for name in names {
        // Deleting what is not there is fine for programs; a person mistyped.
        client.get(&of(name, ""))?;
        client.delete(&of(name, ""))?;
        if !as_json {
            outln!("{name} is stopping.");
        }
    }
    if as_json {
        outln!("{:#}", json!({ "stopping": names }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_is_there_and_what_is_wanted() {
        let cluster = json!({ "name": "a", "status": "RUNNING", "workers": 1, "target": 2, "adapt": null, "nthreads": 2,
            "memory_limit": 1u64 << 30, "user": "me", "start_time": 0, "stop_time": null, "reason": null });
        let row = row(&cluster, 90_000);
        assert_eq!(row, ["a", "RUNNING", "1 of 2", "2 x 1 GiB", "me", "90s", ""]);
        let adaptive = json!({ "workers": 3, "adapt": { "minimum": 0, "maximum": null } });
        assert_eq!(workers(&adaptive), "3 (0 to any number)");
        assert_eq!((show_age(7300), show_age(200_000)), ("2h".to_owned(), "2d".to_owned()));
    }
}
