//! `rask jobs`: the jobs of a batch system that are workers of clusters.

use serde_json::{Value, json};

use super::api::{ApiClient, Remote};
use super::cluster::{all, show_age};
use crate::app::command_error::CommandError;
use crate::app::text::{out, outln, printable_json, table};
use crate::clock::unix_ms;

/// Prints the jobs of a cluster, or of all. Errors: no appliance, no such cluster.
pub fn jobs(remote: &Remote, cluster: Option<&str>, as_json: bool) -> Result<(), CommandError> {
    let client = ApiClient::find(remote)?;
    let clusters = all(&client, false)?;
    let name = |one: &Value| one.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(wanted) = cluster.filter(|wanted| !clusters.iter().any(|one| name(one) == **wanted)) {
        return Err(CommandError::world(format!("no cluster {wanted} runs")).remedy("see: rask cluster ls"));
    }
    let shown: Vec<&Value> = clusters.iter().filter(|one| cluster.is_none_or(|wanted| name(one) == wanted)).collect();
    if as_json {
        let one =
            |one: &&Value| json!({ "cluster": one.get("name"), "jobs": one.get("jobs"), "note": one.get("jobs_note") });
        outln!("{:#}", Value::Array(shown.iter().map(one).collect()));
        return Ok(());
    }
    let mut rows = Vec::new();
    for one in &shown {
        let one = &printable_json((*one).clone());
        if let Some(note) = one.get("jobs_note").and_then(Value::as_str) {
            eprintln!("{}: {note}", name(one));
        }
        let jobs = one.get("jobs").and_then(Value::as_array).cloned().unwrap_or_default();
        rows.extend(jobs.iter().map(|job| row(&name(one), job)));
    }
    match rows.is_empty() {
        true => outln!("No jobs."),
        false => out(&table(&["CLUSTER", "JOB", "STATE", "NODE", "WORKERS", "TIME", "REASON"], &rows)),
    }
    Ok(())
}

fn row(cluster: &str, job: &Value) -> Vec<String> {
    let text = |field: &str| job.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let left = |field: &str| job.get(field).and_then(Value::as_i64).map(|at_ms| (at_ms - unix_ms()).max(0) / 1000);
    let time = match (left("start_ms"), left("end_ms")) {
        (Some(secs), _) => format!("starts in {}", show_age(secs)),
        (None, Some(secs)) if text("state") != "ended" => format!("ends in {}", show_age(secs)),
        (None, _) => String::new(),
    };
    let workers = job.get("workers").and_then(Value::as_u64).unwrap_or_default().to_string();
    vec![cluster.to_owned(), text("id"), text("state"), text("node"), workers, time, text("reason")]
}
