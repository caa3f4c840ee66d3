//! Starts an appliance that has no terminal, and waits until it runs.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::app::command_error::CommandError;
use crate::app::local::desktop::say;
use crate::app::local::state_dir::{Running, private_folder};
use crate::supervise::{last_lines, open_log};

/// Between two looks at whether the appliance runs.
const LOOK: Duration = Duration::from_millis(100);
/// Below this nobody needs to be told that it takes a moment.
const SOON_LOOKS: u32 = 30;

/// Older logs kept.
const KEEP: u32 = 2;

/// Makes this process independent of the terminal that it was started from.
pub(crate) fn detach() {
    // Fails only for the leader of a process group, which `start` does not make us.
    let _already_free = rustix::process::setsid();
}

/// Starts `rask ARGS` in the background and waits until it runs.
///
/// Errors: why it ended.
pub(crate) fn start(args: &[OsString], state: &Path) -> Result<Running, CommandError> {
    let logs = state.join("logs");
    private_folder(state)?;
    private_folder(&logs)?;
    let path = logs.join("up.log");
    let failed = |why: io::Error| CommandError::world(format!("cannot start in the background: {why}"));
    let log = open_log(&path, KEEP).map_err(failed)?;
    let before = log.metadata().map_err(failed)?.len();
    let mut child = Command::new("/proc/self/exe")
        .arg0("rask")
        .args(args)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log)
        .spawn()
        .map_err(failed)?;
    wait_until_up(&mut child, state).map_err(|()| {
        let lines = last_lines(&path, before);
        let why = lines.iter().rev().find_map(|line| line.strip_prefix("rask: "));
        match why.or(lines.last().map(String::as_str)) {
            Some(why) => CommandError::world(why),
            None => CommandError::world("it ended at once and said nothing").remedy(format!("see {}", path.display())),
        }
    })
}

fn wait_until_up(child: &mut Child, state: &Path) -> Result<Running, ()> {
    let pid = child.id();
    for look in 0u32.. {
        if let Some(running) = Running::find(state).filter(|running| running.pid == pid) {
            return Ok(running);
        }
        if look == SOON_LOOKS {
            say("Starting rask ...");
        }
        match child.try_wait() {
            // Another one was faster.
            Ok(Some(status)) if status.success() => return Running::find(state).ok_or(()),
            Ok(Some(_)) | Err(_) => return Err(()),
            Ok(None) => sleep(LOOK),
        }
    }
    Err(())
}
