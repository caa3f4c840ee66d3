//! `rask peers`, `rask peer`: what people ask a running head about other machines.

use std::path::Path;

use serde_json::Value;

use super::api::{ApiClient, Remote};
use crate::app::command_error::CommandError;
use crate::app::text::out;
use crate::app::text::outln;
use crate::app::text::printable_json;
use crate::base::COLUMN_CHARS_MAX;
use crate::base::url_part;
use crate::config::show_size;
use crate::fleet::RESERVE_BYTES;

/// What to do to a machine that joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerDo {
    /// Nothing new there, and its data elsewhere.
    Drain,
    /// Used again.
    Resume,
    /// The head forgets the machine.
    Remove,
}

/// Lists the machines that joined.
pub fn peers(state: Option<&Path>, as_json: bool) -> Result<(), CommandError> {
    let list = call(state, "GET", "peers")?;
    if as_json {
        outln!("{list:#}");
        return Ok(());
    }
    let list = printable_json(list).as_array().cloned().unwrap_or_default();
    if list.is_empty() {
        outln!("No other machine has joined. Make a line to paste there: rask token create --join");
        return Ok(());
    }
    let mut rows =
        vec![["NAME", "STATE", "CORES", "MEMORY", "LOAD", "WORKERS", "PYTHON", "HEARD", "ADDRESS"].map(str::to_owned)];
    rows.extend(list.iter().map(row));
    out(&table(&rows));
    for peer in &list {
        notes(peer);
    }
    Ok(())
}

fn row(peer: &Value) -> [String; 9] {
    let text = |name: &str| peer.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    let facts = peer.get("facts").cloned().unwrap_or_default();
    let number = |name: &str| facts.get(name).and_then(Value::as_u64).unwrap_or_default();
    let pools = peer.get("groups").and_then(Value::as_array).cloned().unwrap_or_default();
    let workers: u64 = pools.iter().filter_map(|pool| pool.get("running").and_then(Value::as_u64)).sum();
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
        outln!("{name}: its clock is off by {} s: set it (timedatectl set-ntp true)", skew / 1000);
    }
    let free = peer.get("facts").and_then(|facts| facts.get("memory_free_bytes")).and_then(Value::as_u64);
    let usable = peer.get("usable").and_then(Value::as_bool) == Some(true);
    if let Some(free) = free.filter(|free| usable && *free < RESERVE_BYTES) {
        outln!("{name}: nothing more is placed there: only {} of its memory is free", show_size(free));
    }
    for pool in peer.get("groups").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| pool.get(name).and_then(Value::as_str).unwrap_or_default();
        if !part("note").is_empty() {
            outln!("{name}: cluster {}: {}: {}", part("cluster"), part("phase"), part("note"));
        }
    }
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<usize> = (0..N)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count().min(COLUMN_CHARS_MAX))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Does something to a machine.
pub fn peer(state: Option<&Path>, name: &str, what: PeerDo) -> Result<(), CommandError> {
    match what {
        PeerDo::Drain => {
            call(state, "POST", &format!("peers/{}/drain", url_part(name)))?;
            outln!("{name} gets no new work; its data moves to other workers. Undo: rask peer resume {name}");
        }
        PeerDo::Resume => {
            call(state, "POST", &format!("peers/{}/resume", url_part(name)))?;
            outln!("{name} is used again");
        }
        PeerDo::Remove => {
            call(state, "DELETE", &format!("peers/{}", url_part(name)))?;
            outln!("{name} is no member any more; its certificate opens nothing");
        }
    }
    Ok(())
}

/// Asks the appliance of this machine. An empty answer is `null`.
fn call(state: Option<&Path>, method: &str, path: &str) -> Result<Value, CommandError> {
    let remote = Remote { state_dir: state.map(Path::to_path_buf), ..Remote::default() };
    let client = ApiClient::find(&remote)?;
    let path = format!("/{path}");
    match method {
        "GET" => client.get(&path),
        "DELETE" => client.delete(&path).map(|()| Value::Null),
        _ => client.post(&path, &Value::Null),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a text of another machine, however long, is no reason to end.
    #[test]
    fn a_cell_of_any_length_fits_a_table() {
        let long = "x".repeat(70_000);
        assert_eq!(table(&[[long.clone(), long], ["a".to_owned(), "b".to_owned()]]).lines().count(), 2);
    }
}
