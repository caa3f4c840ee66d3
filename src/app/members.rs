//! `rask peers`, `rask peer`, `rask token`: what people ask a running head about other machines.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Failure, Running, state_dir};
use crate::config::show_size;

/// An appliance on this machine answers at once, or is in trouble.
const PATIENCE: Duration = Duration::from_secs(15);

/// What to do to a machine that joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerDo {
    /// Nothing new there, and its data elsewhere.
    Drain,
    /// Used again.
    Resume,
    /// Forgotten.
    Remove,
}

/// Lists the machines that joined.
pub fn peers(state: Option<&Path>, as_json: bool) -> Result<(), Failure> {
    let list = call(state, "GET", "peers", None)?;
    if as_json {
        println!("{list:#}");
        return Ok(());
    }
    let list = list.as_array().cloned().unwrap_or_default();
    if list.is_empty() {
        println!("No other machine has joined. Make a line to paste there: rask token create --join");
        return Ok(());
    }
    let mut rows =
        vec![["NAME", "STATE", "CORES", "MEMORY", "LOAD", "WORKERS", "PYTHON", "HEARD", "ADDRESS"].map(str::to_owned)];
    rows.extend(list.iter().map(row));
    print!("{}", table(&rows));
    for peer in &list {
        notes(peer);
    }
    Ok(())
}

fn row(peer: &Value) -> [String; 9] {
    let text = |name: &str| peer.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    let facts = peer.get("facts").cloned().unwrap_or_default();
    let number = |name: &str| facts.get(name).and_then(Value::as_u64).unwrap_or_default();
    let groups = peer.get("groups").and_then(Value::as_array).cloned().unwrap_or_default();
    let workers: u64 = groups.iter().filter_map(|group| group.get("running").and_then(Value::as_u64)).sum();
    let heard = match peer.get("silent_ms").and_then(Value::as_u64) {
        Some(ms) => format!("{:.1} s ago", ms as f64 / 1e3),
        None => "never".to_owned(),
    };
    let python = facts.get("python").and_then(Value::as_str).unwrap_or("none");
    [
        text("name"),
        text("state"),
        number("cores").to_string(),
        format!("{} of {}", show_size(number("memory_free_bytes")), show_size(number("memory_bytes"))),
        format!("{:.1}", facts.get("load").and_then(Value::as_f64).unwrap_or_default()),
        workers.to_string(),
        python.to_owned(),
        heard,
        text("address"),
    ]
}

/// What a table has no room for.
fn notes(peer: &Value) {
    let name = peer.get("name").and_then(Value::as_str).unwrap_or_default();
    let skew = peer.get("clock_skew_ms").and_then(Value::as_i64).unwrap_or_default();
    if skew.saturating_abs() > 30_000 {
        println!("{name}: its clock is off by {} s: set it (timedatectl set-ntp true)", skew / 1000);
    }
    for group in peer.get("groups").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| group.get(name).and_then(Value::as_str).unwrap_or_default();
        if !part("note").is_empty() {
            println!("{name}: cluster {}: {}: {}", part("cluster"), part("phase"), part("note"));
        }
    }
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<usize> = (0..N)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0))
        .collect();
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Does something to a machine.
pub fn peer(state: Option<&Path>, name: &str, what: PeerDo) -> Result<(), Failure> {
    match what {
        PeerDo::Drain => {
            call(state, "POST", &format!("peers/{name}/drain"), None)?;
            println!("{name} gets no new work; its data moves to other workers. Undo: rask peer resume {name}");
        }
        PeerDo::Resume => {
            call(state, "POST", &format!("peers/{name}/resume"), None)?;
            println!("{name} is used again");
        }
        PeerDo::Remove => {
            call(state, "DELETE", &format!("peers/{name}"), None)?;
            println!("{name} is no member any more; its certificate opens nothing");
        }
    }
    Ok(())
}

/// Makes a join token and prints the line to paste.
pub fn invite(state: Option<&Path>, ttl_secs: u64, uses: u32, as_json: bool) -> Result<(), Failure> {
    let made = call(state, "POST", "join-tokens", Some(json!({ "ttl_secs": ttl_secs, "uses": uses })))?;
    if as_json {
        println!("{made:#}");
        return Ok(());
    }
    let token = made.get("token").and_then(Value::as_str).unwrap_or_default();
    let at = made.get("address").and_then(Value::as_str).unwrap_or("https://HEAD:8787");
    println!("rask join {at} --token {token}");
    Ok(())
}

/// Lists join tokens, without their secrets.
pub fn invitations(state: Option<&Path>, as_json: bool) -> Result<(), Failure> {
    let list = call(state, "GET", "join-tokens", None)?;
    if as_json {
        println!("{list:#}");
        return Ok(());
    }
    let mut rows = vec![["ID", "FOR", "EXPIRES", "USES LEFT", "LAST USED"].map(str::to_owned)];
    let now = crate::clock::unix_ms();
    for token in list.as_array().into_iter().flatten() {
        let number = |name: &str| token.get(name).and_then(Value::as_i64);
        let left = number("expires_ms").unwrap_or_default().saturating_sub(now);
        rows.push([
            token.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
            "join".to_owned(),
            if left > 0 { format!("in {} min", (left / 60_000).max(1)) } else { "expired".to_owned() },
            number("uses_left").unwrap_or_default().to_string(),
            number("used_ms")
                .map_or_else(|| "never".to_owned(), |ms| format!("{} min ago", now.saturating_sub(ms) / 60_000)),
        ]);
    }
    print!("{}", table(&rows));
    Ok(())
}

/// Takes a join token back.
pub fn withdraw(state: Option<&Path>, id: &str) -> Result<(), Failure> {
    call(state, "DELETE", &format!("join-tokens/{id}"), None)?;
    println!("the token {id} lets nobody join any more; machines that joined with it stay members");
    Ok(())
}

/// Asks the appliance of this machine. An empty answer is `null`.
fn call(state: Option<&Path>, method: &str, path: &str, body: Option<Value>) -> Result<Value, Failure> {
    let state = state_dir(state)?;
    let running = Running::find(&state).ok_or_else(|| {
        Failure::world("no rask runs here")
            .remedy("run this on the head, beside rask up --lan, with the same --state-dir")
    })?;
    let url = format!("{}/api/rask/v1/{path}", running.http);
    let failed = |why: &dyn std::fmt::Display| {
        Failure::world(format!("{} does not answer: {why}", running.http)).remedy("try rask doctor")
    };
    // Never through a proxy: it is this machine.
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into();
    let sent = match (method, body) {
        ("GET", _) => agent.get(&url).call(),
        ("DELETE", _) => agent.delete(&url).call(),
        (_, Some(body)) => agent.post(&url).send_json(body),
        (_, None) => agent.post(&url).send_empty(),
    };
    let mut answer = sent.map_err(|why| failed(&why))?;
    let status = answer.status();
    let text = answer.body_mut().read_to_string().map_err(|why| failed(&why))?;
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    if status.is_success() {
        return Ok(value);
    }
    let part = |name: &str| value.get(name).and_then(Value::as_str);
    match (part("error"), part("remedy")) {
        (Some(error), remedy) => Err(Failure::world(error).remedy(remedy.unwrap_or("see the head's log"))),
        (None, _) if status.as_u16() == 404 => {
            Err(Failure::world("other machines cannot join this appliance").remedy("start it with rask up --lan"))
        }
        (None, _) => Err(Failure::world(format!("the appliance answers {status}")).remedy("see its log")),
    }
}
