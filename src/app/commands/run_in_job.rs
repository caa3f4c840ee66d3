//! `rask run --in-job`: a script in a job of Slurm, with a cluster on all nodes of that job.
//!
//! The first process of the job is head; `srun` starts `rask join --passing` on every node. All of it ends with the script.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Child;
use tokio::time::timeout;

use super::run::{RunArgs, script, start, watch};
use crate::app::command_error::CommandError;
use crate::app::local::allocation::{Allocation, Scratch};
use crate::app::local::settings::Loaded;
use crate::app::local::state_dir::Seat;
use crate::app::process::{Signals, block_on};
use crate::app::roles::up::Appliance;
use crate::app::roles::up::config::UpArgs;
use crate::app::text::counted;
use crate::config::Auto;
use crate::fleet::LOCAL;
use crate::host::{AskedSize, size_pool};
use crate::peer::HeadHandle;
use crate::supervise::{self, ParentDeath, last_lines};

/// For a step of Slurm on many nodes, and two Pythons from a cold shared disk.
const WORKERS_PATIENCE: Duration = Duration::from_secs(300);
/// The nodes' invitation: a controller may be slow to start the step. Unit: seconds.
const INVITATION_SECS: u64 = 900;
/// For the step to end when its machines were told to go.
const STEP_PATIENCE: Duration = Duration::from_secs(15);
/// Lines of the step that explain why no worker came.
const LAST_LINES: usize = 8;

/// Runs the script. Returns its exit code (128 and the signal, if one ended it).
pub fn run_in_job(args: &RunArgs, loaded: &Loaded) -> Result<u8, CommandError> {
    let Some(job) = Allocation::here() else {
        return Err(CommandError::usage("--in-job: this is no job of Slurm ($SLURM_JOB_ID is not set)")
            .remedy("submit it: sbatch --nodes 4 --wrap \"rask run --in-job script.py\", or leave out --in-job"));
    };
    if job.task > 0 {
        eprintln!("rask: the first task of this step runs the script; this is task {}", job.task);
        return Ok(0);
    }
    let scratch = Scratch::make()?;
    let state = args.up.state_dir.clone().unwrap_or_else(|| scratch.path().join("state"));
    let Some(seat) = Seat::take(&state)? else {
        return Err(CommandError::world(format!("another rask runs with the state folder {}", state.display()))
            .remedy("leave out --state-dir, or give another one"));
    };
    block_on(with_nodes(args, loaded, &job, (seat, state)))
}

async fn with_nodes(
    args: &RunArgs,
    loaded: &Loaded,
    job: &Allocation,
    (seat, state): (Seat, PathBuf),
) -> Result<u8, CommandError> {
    let mut signals = Signals::listen()?;
    let appliance = Appliance::start(&up_args(args, job, state.clone())?, loaded, seat, &mut signals, false).await?;
    let log = state.join("logs").join("nodes.log");
    let code = match &appliance.head {
        Some(head) => on_nodes(args, &appliance, head, (job, &log), &mut signals).await,
        None => Err(CommandError::world("no other machine could join")),
    };
    appliance.stop().await;
    code
}

async fn on_nodes(
    args: &RunArgs,
    appliance: &Appliance,
    head: &HeadHandle,
    (job, log): (&Allocation, &Path),
    signals: &mut Signals,
) -> Result<u8, CommandError> {
    let mut step = start_step(appliance, head, job, log).await?;
    let code = match signals.during(first_worker(appliance, &mut step, log)).await {
        Ok(()) => {
            eprintln!("rask: started on {}, status at {}", counted(job.nodes.into(), "node"), appliance.running.http);
            while_nodes_last(args, appliance, &mut step, signals).await
        }
        Err(why) => Err(why),
    };
    for peer in head.peers().iter() {
        // One that is gone by itself is fine.
        let _gone = head.remove(&peer.name).await;
    }
    if timeout(STEP_PATIENCE, step.wait()).await.is_err() {
        tracing::warn!("srun does not end, and is killed");
        let _gone = step.kill().await;
    }
    code
}

/// The script, as long as there are nodes to compute on.
async fn while_nodes_last(
    args: &RunArgs,
    appliance: &Appliance,
    step: &mut Child,
    signals: &mut Signals,
) -> Result<u8, CommandError> {
    let tied = |python: &Path| supervise::tied(python, ParentDeath::Term, None).into_std();
    let script = start(script(args, &appliance.running, tied)?)?;
    tokio::select! {
        code = watch(script, signals) => code,
        _ended = step.wait() => Err(CommandError::world("all nodes left while the script ran; it was ended")
            .remedy("see what Slurm says of the job: scontrol show job")),
    }
}

/// The cluster `local` has workers on joined machines only, of a size that fits every node.
fn up_args(args: &RunArgs, job: &Allocation, state: PathBuf) -> Result<UpArgs, CommandError> {
    let up = &args.up;
    let asked = AskedSize {
        nworkers: up.nworkers.and_then(Auto::set),
        nthreads: up.nthreads.and_then(Auto::set),
        memory_bytes: up.memory_limit.and_then(Auto::set),
    };
    let pool = size_pool(job.of_each_node(), asked).map_err(|why| CommandError::blame(why.blame(), why))?;
    Ok(UpArgs {
        port: up.port.or(Some(0)),
        scheduler_port: up.scheduler_port.or(Some(0)),
        state_dir: Some(state),
        nworkers: Some(Auto::Set(i64::from(pool.nworkers))),
        nthreads: Some(Auto::Set(pool.nthreads)),
        memory_limit: Some(Auto::Set(pool.memory_bytes)),
        lan: true,
        span_peers: true,
        only_peers: true,
        ..up.clone()
    })
}

/// `srun`, which starts one process on each node of the job. They read the token, so that no list of processes shows it.
///
/// Source: man 1 srun: standard input goes to all tasks; with `--overlap` the script may start steps of its own.
async fn start_step(
    appliance: &Appliance,
    head: &HeadHandle,
    job: &Allocation,
    log: &Path,
) -> Result<Child, CommandError> {
    let failed = |what: &str, why: &dyn std::fmt::Display| CommandError::world(format!("{what}: {why}"));
    let (token, _) =
        head.invite(INVITATION_SECS, job.nodes).await.map_err(|why| CommandError::blame(why.blame(), why))?;
    let rask = std::env::current_exe().map_err(|why| failed("the path of rask is not known", &why))?;
    let logs = log.parent().unwrap_or(log);
    std::fs::create_dir_all(logs).map_err(|why| failed("cannot make the folder for logs", &why))?;
    let out = File::create(log).map_err(|why| failed("cannot write the log of the nodes", &why))?;
    let copy = out.try_clone().map_err(|why| failed("cannot write the log of the nodes", &why))?;
    let mut command = supervise::tied(Path::new("srun"), ParentDeath::Term, None);
    command.args([format!("--nodes={}", job.nodes), format!("--ntasks={}", job.nodes)]);
    command.args(["--ntasks-per-node=1", "--overlap", "--kill-on-bad-exit=0", "--cpu-bind=none", "--label", "--"]);
    command.arg(rask).arg("join").arg(head.url()).args(["--passing", "--token", "-"]);
    if let Some(python) = &appliance.running.python {
        command.arg("--python").arg(python);
    }
    for name in OF_ANOTHER_STEP {
        command.env_remove(name);
    }
    let mut step = command
        .stdin(Stdio::piped())
        .stdout(out)
        .stderr(copy)
        .spawn()
        .map_err(|why| failed("cannot start srun", &why))?;
    if let Some(mut stdin) = step.stdin.take() {
        // One that ended at once says why in its log.
        let _ended = stdin.write_all(format!("{token}\n").as_bytes()).await;
    }
    Ok(step)
}

/// What Slurm sets for the step that we may be in, or what a person set for other steps: each would change ours.
const OF_ANOTHER_STEP: [&str; 10] = [
    "SLURM_CPU_BIND",
    "SLURM_CPUS_PER_TASK",
    "SLURM_DISTRIBUTION",
    "SLURM_EXACT",
    "SLURM_HINT",
    "SLURM_NPROCS",
    "SLURM_NTASKS",
    "SLURM_NTASKS_PER_NODE",
    "SLURM_OPEN_MODE",
    "SLURM_TRES_PER_TASK",
];

/// Errors: the nodes cannot join, in the words of the step.
async fn first_worker(appliance: &Appliance, step: &mut Child, log: &Path) -> Result<(), CommandError> {
    let there = appliance.fleet.wait_until(LOCAL, WORKERS_PATIENCE, |view| view.workers > 0 || view.status.is_final());
    let why = tokio::select! {
        view = there => match view {
            Some(view) if view.workers > 0 => return Ok(()),
            Some(view) if view.status.is_final() => format!("its cluster ended: {}", view.reason.clone().unwrap_or_default()),
            Some(_) | None => format!("no worker came within {} s", WORKERS_PATIENCE.as_secs()),
        },
        ended = step.wait() => match ended {
            Ok(status) => format!("srun ended: {status}"),
            Err(why) => format!("srun cannot be waited for: {why}"),
        },
    };
    let lines = last_lines(log, 0);
    let skip = lines.len().saturating_sub(LAST_LINES);
    lines.iter().skip(skip).for_each(|line| eprintln!("  | {}", line.trim_end()));
    Err(CommandError::world(format!("no workers on the nodes of this job: {why}"))
        .remedy("nodes reach each other by the address of the first one: give another with --host"))
}
