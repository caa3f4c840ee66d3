//! `rask status`, `rask env`, `rask configure`: questions to a running appliance, and how to reach it.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::remote::{Client, Remote, all_clusters, show_list};
use crate::app::local::settings::home;
use crate::app::local::state_dir::{Running, state_dir};
use crate::app::{Failure, counted};

/// An appliance on this machine answers at once, or is in trouble.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the file of `rask configure` begins.
pub(crate) const DASK_FILE_MARK: &str = "# Written by `rask configure`";

/// Prints what runs.
pub fn status(state: Option<&Path>, as_json: bool) -> Result<(), Failure> {
    let running = find(state)?;
    let counts = get(&running, "/json/counts.json")
        .and_then(|body| serde_json::from_str::<Value>(&body).map_err(|why| Failure::world(why.to_string())));
    let clusters = clusters(state);
    if as_json {
        let told = json!({ "running": running, "counts": counts.as_ref().ok(), "clusters": clusters.ok() });
        println!("{told:#}");
        return Ok(());
    }
    println!("rask {} runs (process {}).", running.version, running.pid);
    print!("{}", running.how_to());
    match counts {
        Ok(counts) => {
            let number = |name: &str| counts.get(name).and_then(Value::as_u64).unwrap_or_default();
            let [workers, cores, tasks] =
                ["worker", "core", "task"].map(|word| counted(number(&format!("{word}s")), word));
            let (processing, memory) = (number("processing"), number("memory"));
            println!("Now: {workers}, {cores}, {tasks} ({processing} processing, {memory} in memory)");
        }
        Err(why) if running.scheduler.is_some() => println!("Now: {why}"),
        Err(_) => {}
    }
    print!("{}", show_list(&clusters?));
    Ok(())
}

fn clusters(state: Option<&Path>) -> Result<Vec<Value>, Failure> {
    let remote = Remote { state_dir: state.map(Path::to_path_buf), ..Remote::default() };
    all_clusters(&Client::find(&remote)?, false)
}

/// Prints shell exports.
pub fn env(state: Option<&Path>) -> Result<(), Failure> {
    let running = find(state)?;
    if let Some(address) = &running.scheduler {
        println!("export DASK_SCHEDULER_ADDRESS={address}");
    }
    println!("export DASK_GATEWAY__ADDRESS={}", running.http);
    // A company's proxy is not the way to this machine, and the client would take it.
    println!("export DASK_GATEWAY__HTTP_CLIENT__PROXY=False");
    Ok(())
}

/// Writes Dask's YAML, so that `Client()` and `Gateway()` find the appliance; or takes it away again.
pub fn configure(state: Option<&Path>, remove: bool) -> Result<(), Failure> {
    let path = dask_file()?;
    if remove {
        return match fs::remove_file(&path) {
            Ok(()) => {
                println!("Removed {}", path.display());
                Ok(())
            }
            Err(why) if why.kind() == ErrorKind::NotFound => {
                println!("There is no {}", path.display());
                Ok(())
            }
            Err(why) => Err(Failure::world(format!("cannot remove {}: {why}", path.display()))),
        };
    }
    let running = find(state)?;
    let mut text = format!("{DASK_FILE_MARK}; `rask configure --remove` takes it away.\n");
    let mut finds = Vec::new();
    if let Some(address) = &running.scheduler {
        text.push_str(&format!("scheduler-address: {address}\n"));
        finds.push(format!("Client() now connects to {address}"));
    }
    // A company's proxy is not the way to this machine, and the client would take it.
    text.push_str(&format!("gateway:\n  address: {}\n  http-client:\n    proxy: false\n", running.http));
    finds.push(format!("Gateway() to {}", running.http));
    let folder = path.parent().unwrap_or(Path::new("/"));
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, text));
    written.map_err(|why| Failure::world(format!("cannot write {}: {why}", path.display())))?;
    println!("Wrote {}: {}", path.display(), finds.join(", "));
    Ok(())
}

/// The file of `rask configure`.
pub(crate) fn dask_file() -> Result<PathBuf, Failure> {
    let folder = std::env::var_os("DASK_CONFIG").map(PathBuf::from).filter(|path| path.is_dir());
    // Dask does not look at $XDG_CONFIG_HOME.
    let folder = folder.or_else(|| home("", ".config").map(|base| base.join("dask")));
    let folder = folder.ok_or_else(|| Failure::usage("no folder for Dask's configuration: $HOME is not set"))?;
    Ok(folder.join("rask.yaml"))
}

fn find(state: Option<&Path>) -> Result<Running, Failure> {
    let state = state_dir(state)?;
    Running::find(&state).ok_or_else(|| {
        Failure::world(format!("no rask runs with the state folder {}", state.display())).remedy("start one: rask up")
    })
}

/// One request, one answer. Errors: no answer, or another than 200.
fn get(running: &Running, path: &str) -> Result<String, Failure> {
    let address = running.http.trim_start_matches("http://");
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|why| Failure::world(format!("{} does not answer: {why}", running.http)))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        Some((_, body)) => Err(Failure::world(body.trim().to_owned())),
        None => Err(Failure::world(format!("{} gave no HTTP answer", running.http))),
    }
}
