//! `rask status`, `rask env`, `rask configure`: questions to a running appliance, and how to reach it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::api::{ApiClient, Remote};
use super::cluster::{all as all_clusters, show_list};
use crate::app::command_error::CommandError;
use crate::app::local::left_clusters::left_clusters;
use crate::app::local::state_dir::{Running, state_dir};
use crate::app::process::block_on;
use crate::app::text::counted;
use crate::app::text::out;
use crate::app::text::outln;

/// An appliance on this machine answers at once, or is in trouble.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints what runs.
pub fn status(state: Option<&Path>, as_json: bool) -> Result<(), CommandError> {
    let state_dir = state_dir(state)?;
    let Some(running) = Running::find(&state_dir) else { return Err(none_runs(&state_dir)) };
    let counts = get(&running, "/json/counts.json")
        .and_then(|body| serde_json::from_str::<Value>(&body).map_err(CommandError::world));
    let clusters = clusters(state);
    if as_json {
        let told = json!({ "running": running, "counts": counts.as_ref().ok(), "clusters": clusters.ok() });
        outln!("{told:#}");
        return Ok(());
    }
    outln!("rask {} runs (process {}).", running.version, running.pid);
    out(&running.how_to());
    match counts {
        Ok(counts) => {
            let number = |name: &str| counts.get(name).and_then(Value::as_u64).unwrap_or_default();
            let [workers, cores, tasks] =
                ["worker", "core", "task"].map(|word| counted(number(&format!("{word}s")), word));
            let (processing, memory) = (number("processing"), number("memory"));
            outln!("Now: {workers}, {cores}, {tasks} ({processing} processing, {memory} in memory)");
        }
        Err(why) if running.scheduler.is_some() => outln!("Now: {why}"),
        Err(_) => {}
    }
    out(&show_list(&clusters?));
    Ok(())
}

/// Nothing that answers questions runs; something may run all the same.
fn none_runs(state: &Path) -> CommandError {
    let none = format!("no rask runs with the state folder {}", state.display());
    let left = block_on(async { Ok(left_clusters(state).await) }).unwrap_or_default();
    let alive = left.iter().filter_map(|one| Some(format!("{} (process {})", one.name, one.pid.as_deref()?)));
    let alive: Vec<String> = alive.collect();
    match alive.is_empty() {
        true => CommandError::world(none).remedy("start one: rask up"),
        false => CommandError::world(format!("{none}, but clusters that outlived it do: {}", alive.join(", ")))
            .remedy("`rask up` takes them over, `rask down` ends them"),
    }
}

fn clusters(state: Option<&Path>) -> Result<Vec<Value>, CommandError> {
    let remote = Remote { state_dir: state.map(Path::to_path_buf), ..Remote::default() };
    all_clusters(&ApiClient::find(&remote)?, false)
}

/// One request, one answer. Errors: no answer, or another than 200.
fn get(running: &Running, path: &str) -> Result<String, CommandError> {
    let address = running.http.trim_start_matches("http://");
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|why| CommandError::world(format!("{} does not answer: {why}", running.http)))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        Some((_, body)) => Err(CommandError::world(body.trim().to_owned())),
        None => Err(CommandError::world(format!("{} gave no HTTP answer", running.http))),
    }
}
