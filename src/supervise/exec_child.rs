//! What `rask exec-child` does: tie this process to its parent, then become the program.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Becomes `program`, with `signal` at the death of `parent`. Returns only if that failed.
///
/// The process id stays the same. `cgroup`: a control group to move into first; one that is gone is done without.
/// Errors: the parent is gone already, or the program cannot be started.
pub fn become_child(
    parent: u32,
    signal: Signal,
    cgroup: Option<&Path>,
    program: &OsString,
    args: &[OsString],
) -> io::Error {
    if let Some(group) = cgroup
        && let Err(why) = fs::write(group.join("cgroup.procs"), "0")
    {
        // Nothing else writes this process's log yet.
        eprintln!("rask: started outside of the control group {}: {why}", group.display());
    }
    if let Err(why) = set_parent_process_death_signal(Some(signal)) {
        return why.into();
    }
    // The parent may have died before the line above: then no signal will ever come.
    let still_there = getppid().is_some_and(|pid| u32::try_from(pid.as_raw_nonzero().get()) == Ok(parent));
    if !still_there {
        return io::Error::new(
            io::ErrorKind::NotFound,
            format!("the process that started this one ({parent}) is gone"),
        );
    }
    let mut command = Command::new(program);
    // Our own binary is started by a path that says nothing to a reader of `ps`.
    if program == "/proc/self/exe" {
        command.arg0("rask");
    }
    command.args(args).exec()
}
