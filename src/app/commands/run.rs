//! `rask run`: a script with the settings of the running appliance, or of one that is started for it.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use crate::app::command_error::CommandError;
use crate::app::local::settings::Loaded;
use crate::app::local::state_dir::{self as state, Running, Seat};
use crate::app::process::{Signals, block_on};
use crate::app::roles::up::Appliance;
use crate::app::roles::up::config::UpArgs;
use crate::supervise::{self, ParentDeath};

/// `rask run SCRIPT [ARGS]`
#[derive(Clone, Debug, Default)]
pub struct RunArgs {
    pub script: PathBuf,
    pub args: Vec<OsString>,
    /// How to start an appliance if none runs.
    pub up: UpArgs,
}

/// Runs the script. Returns its exit code (128 and the signal, if one ended it).
pub fn run(args: &RunArgs, loaded: &Loaded) -> Result<u8, CommandError> {
    if !args.script.is_file() {
        return Err(CommandError::usage(format!("there is no script {}", args.script.display())));
    }
    let state = state::state_dir(args.up.state_dir.as_deref())?;
    if let Some(running) = Running::find(&state) {
        // Nothing is left to do here: becoming the script gives it our terminal, signals and exit code.
        let why = script(args, &running, |python| Command::new(python))?.exec();
        return Err(CommandError::world(format!("cannot start Python: {why}")));
    }
    let Some(seat) = Seat::take(&state)? else {
        return Err(CommandError::world("an appliance is just starting or stopping").remedy("try again in a moment"));
    };
    block_on(with_own_appliance(args, loaded, seat))
}

async fn with_own_appliance(args: &RunArgs, loaded: &Loaded, seat: Seat) -> Result<u8, CommandError> {
    let mut signals = Signals::listen()?;
    // It serves this script only: any ports do.
    let up = UpArgs {
        port: args.up.port.or(Some(0)),
        scheduler_port: args.up.scheduler_port.or(Some(0)),
        ..args.up.clone()
    };
    let appliance = Appliance::start(&up, loaded, seat, &mut signals, false).await?;
    eprintln!("rask: started for this script, status at {}", appliance.running.http);
    // Without us there is no cluster for it.
    let command =
        script(args, &appliance.running, |python| supervise::tied(python, ParentDeath::Term, None).into_std())?;
    let code = watch_script(command, &mut signals).await;
    appliance.stop().await;
    code
}

async fn watch_script(command: Command, signals: &mut Signals) -> Result<u8, CommandError> {
    watch(start(command)?, signals).await
}

/// Starts the script.
pub(super) fn start(command: Command) -> Result<Child, CommandError> {
    let started = tokio::process::Command::from(command).spawn();
    started.map_err(|why| CommandError::world(format!("cannot start Python: {why}")))
}

/// Waits for the end of a script. Returns its exit code.
pub(super) async fn watch(mut child: Child, signals: &mut Signals) -> Result<u8, CommandError> {
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            signal = signals.next() => {
                // Ctrl-C reaches the script by itself: it is in our terminal's foreground group.
                if signal == "SIGTERM" && let Some(pid) = pid {
                    let _already_gone = kill_process(pid, Signal::TERM);
                }
            }
        }
    };
    let status = status.map_err(|why| CommandError::world(format!("cannot wait for the script: {why}")))?;
    let code = status.code().unwrap_or_else(|| status.signal().unwrap_or(0).saturating_add(128));
    Ok(u8::try_from(code).unwrap_or(1))
}

/// The command line of the script; `start` makes the one of Python.
pub(super) fn script(
    args: &RunArgs,
    running: &Running,
    start: impl FnOnce(&Path) -> Command,
) -> Result<Command, CommandError> {
    let (Some(python), Some(address)) = (&running.python, &running.scheduler) else {
        return Err(
            CommandError::world("the running appliance has no cluster").remedy("start it without --no-local-cluster")
        );
    };
    let mut command = start(python);
    command.arg(&args.script).args(&args.args).env("DASK_SCHEDULER_ADDRESS", address);
    command.env("DASK_GATEWAY__ADDRESS", &running.http).env("DASK_GATEWAY__HTTP_CLIENT__PROXY", "False");
    Ok(command)
}
