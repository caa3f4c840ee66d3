//! `rask down`: ends the appliance of a state folder and the clusters that one left behind.

use std::io;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use tokio::time::timeout;

use crate::app::command_error::CommandError;
use crate::app::local::left_clusters::{LeftCluster, left_clusters};
use crate::app::local::state_dir::{LogPlace, Running, state_dir};
use crate::app::process::block_on;
use crate::app::text::outln;
use crate::control::Question;
use crate::link::Link;

/// Between two looks at whether the appliance still runs.
const LOOK: Duration = Duration::from_millis(100);
/// An orderly end takes 10 s at most; a machine under load may be slow.
const END: Duration = Duration::from_secs(30);

/// `rask down`: ends the appliance, and clusters that would outlive it.
pub fn down(state: Option<&Path>, clusters_only: bool) -> Result<(), CommandError> {
    let state = state_dir(state)?;
    let running = Running::find(&state).filter(|_| !clusters_only);
    if let Some(running) = &running {
        end_appliance(running, &state)?;
    }
    let ended = block_on(end_clusters(&state))?;
    match (&running, ended.as_slice()) {
        (Some(running), _) => outln!("Stopped rask (process {}).", running.pid),
        (None, []) if !clusters_only => outln!("Nothing runs with the state folder {}.", state.display()),
        (None, _) => {}
    }
    if !ended.is_empty() {
        outln!("Stopped clusters: {}.", ended.join(", "));
    }
    Ok(())
}

fn end_appliance(running: &Running, state: &Path) -> Result<(), CommandError> {
    if let Some(LogPlace::Journal { unit, user }) = &running.log {
        // The manager must know that this is meant.
        let mut command = Command::new("systemctl");
        command.args(user.then_some("--user")).args(["stop", unit]);
        let told = command.status().is_ok_and(|status| status.success());
        let by_hand =
            if *user { format!("systemctl --user stop {unit}") } else { format!("sudo systemctl stop {unit}") };
        return if told {
            Ok(())
        } else {
            Err(CommandError::world(format!("the service {unit} could not be stopped")).remedy(by_hand))
        };
    }
    let pid = i32::try_from(running.pid).ok().and_then(rustix::process::Pid::from_raw);
    let Some(pid) = pid else { return Err(CommandError::world("up.json holds no process id")) };
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(|why| {
        CommandError::world(format!("process {} cannot be told to stop: {}", running.pid, io::Error::from(why)))
    })?;
    for _ in 0..END.as_millis() / LOOK.as_millis() {
        if Running::find(state).is_none_or(|now| now.pid != running.pid) {
            return Ok(());
        }
        sleep(LOOK);
    }
    Err(CommandError::world(format!("process {} was told to stop and still runs", running.pid))
        .remedy(format!("end it: kill -9 {}, then rask down for what it leaves", running.pid)))
}

/// Ends clusters that have no appliance. Returns their names.
async fn end_clusters(state: &Path) -> Result<Vec<String>, CommandError> {
    let mut ended = Vec::new();
    for LeftCluster { name, folder, scheduler, .. } in left_clusters(state).await {
        let workers = Link::new(folder.join("workers.sock"));
        if scheduler.ask(Question::Stop).await.is_err() {
            continue;
        }
        if timeout(END, async { tokio::join!(scheduler.gone(), workers.gone()) }).await.is_err() {
            let what = format!("the cluster {name} was told to stop and still runs");
            return Err(CommandError::world(what).remedy(format!("see {}", folder.join("logs").display())));
        }
        ended.push(name);
    }
    Ok(ended)
}
