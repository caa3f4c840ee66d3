//! Slurm: its programs, run with patience and without a shell.

pub mod text;

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::job::{BatchJob, Order, QueueError};
use crate::config::BackendSection;

/// For one program of Slurm. `squeue` needs 9 s to say that the controller is away.
const PATIENCE: Duration = Duration::from_secs(20);

/// Most ids in one command line.
const IDS_MAX: usize = 500;

/// Submits an order. Returns the jobs' ids.
pub(super) async fn submit(order: &Order, appliance: &str, site: &BackendSection) -> Result<Vec<String>, QueueError> {
    let told = run("sbatch", &text::submit_args(order, appliance, site), &order.script).await?;
    let unread = || QueueError::NotNow(format!("sbatch answered what is no job's number: {}", told.trim()));
    text::submitted(&told, order.count).ok_or_else(unread)
}

/// All jobs of this appliance, those that ended a short while ago too.
pub(super) async fn look(appliance: &str) -> Result<Vec<BatchJob>, QueueError> {
    let told = run("squeue", &text::look_args(rustix::process::getuid().as_raw()), "").await?;
    Ok(text::jobs(&told, appliance))
}

/// Cancels jobs. Those that ended meanwhile are fine.
pub(super) async fn cancel(ids: &[String]) -> Result<(), QueueError> {
    for some in ids.chunks(IDS_MAX) {
        run("scancel", some, "").await?;
    }
    Ok(())
}

async fn run(program: &str, args: &[String], input: &str) -> Result<String, QueueError> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // What a person set for jobs of their own, or the job that we may be in ourselves, would change ours.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_"].iter().any(|start| text.starts_with(start))
            && text != "SLURM_CONF"
        {
            command.env_remove(&name);
        }
    }
    command.env("SLURM_TIME_FORMAT", "%s");
    let missing = |why: std::io::Error| QueueError::Refused(format!("{program} cannot be started: {why}"));
    let mut child = command.spawn().map_err(missing)?;
    let asked = async {
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read it says why.
            let _refused = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let late = || QueueError::NotNow(format!("{program} did not answer within {} s", PATIENCE.as_secs()));
    let done = timeout(PATIENCE, asked).await.map_err(|_elapsed| late())?;
    let done = done.map_err(|why| QueueError::NotNow(format!("{program}: {why}")))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(text::refusal(&String::from_utf8_lossy(&done.stderr)))
}
