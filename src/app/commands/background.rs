//! An appliance without a terminal: started, found, stopped, its log read.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use tokio::time::timeout;

use crate::app::local::state_dir::{self as state, LogPlace, Running, private_folder};
use crate::app::roles::up::open_browser;
use crate::app::{Failure, block_on};
use crate::link::{Link, Question};
use crate::supervise::{last_lines, open_log};

/// Between looks at something that starts, ends or is written.
const LOOK: Duration = Duration::from_millis(100);
/// An orderly end takes 10 s at most; a machine under load may be slow.
const END: Duration = Duration::from_secs(30);
/// Below this nobody needs to be told that it takes a moment.
const SOON_LOOKS: u32 = 30;
/// Older logs kept.
const KEEP: u32 = 2;
/// Read from a log at once. Unit: bytes.
const CHUNK: usize = 64 << 10;

/// Makes this process independent of the terminal that it was started from.
pub(crate) fn detach() {
    // Fails only for the leader of a process group, which `start` does not make us.
    let _already_free = rustix::process::setsid();
}

/// Starts `rask ARGS` in the background and waits until it runs.
///
/// Errors: why it ended.
pub(crate) fn start(args: &[OsString], state: &Path) -> Result<Running, Failure> {
    let logs = state.join("logs");
    private_folder(state)?;
    private_folder(&logs)?;
    let path = logs.join("up.log");
    let failed = |why: io::Error| Failure::world(format!("cannot start in the background: {why}"));
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
            Some(why) => Failure::world(why),
            None => Failure::world("it ended at once and said nothing").remedy(format!("see {}", path.display())),
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

/// `rask open`: opens the dashboard of the running appliance; starts one first if none runs.
pub fn open(state: Option<&Path>, up_args: &[OsString], no_browser: bool) -> Result<(), Failure> {
    let opened = state::state_dir(state).and_then(|state| match Running::find(&state) {
        Some(running) => Ok(running),
        None => start(up_args, &state),
    });
    let running = opened.inspect_err(|why| {
        if !io::stderr().is_terminal() {
            notify(&format!("rask could not start: {why}"));
        }
    })?;
    println!("Dashboard: {}\nStop: rask down", running.http);
    if !no_browser {
        open_browser(&running.http);
    }
    Ok(())
}

/// To a terminal if there is one, else as a message of the desktop.
fn say(what: &str) {
    if io::stderr().is_terminal() {
        eprintln!("{what}");
    } else {
        notify(what);
    }
}

fn notify(what: &str) {
    let mut command = Command::new("notify-send");
    command.args(["--app-name=rask", "--icon=rask", "rask", what]);
    // Only a courtesy: not every desktop has it.
    let _may_not_exist = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// `rask down`: ends the appliance, and clusters that would outlive it.
pub fn down(state: Option<&Path>, clusters_only: bool) -> Result<(), Failure> {
    let state = state::state_dir(state)?;
    let running = Running::find(&state).filter(|_| !clusters_only);
    if let Some(running) = &running {
        end_appliance(running, &state)?;
    }
    let ended = block_on(end_clusters(&state))?;
    match (&running, ended.as_slice()) {
        (Some(running), _) => println!("Stopped rask (process {}).", running.pid),
        (None, []) if !clusters_only => println!("Nothing runs with the state folder {}.", state.display()),
        (None, _) => {}
    }
    if !ended.is_empty() {
        println!("Stopped clusters: {}.", ended.join(", "));
    }
    Ok(())
}

fn end_appliance(running: &Running, state: &Path) -> Result<(), Failure> {
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
            Err(Failure::world(format!("the service {unit} could not be stopped")).remedy(by_hand))
        };
    }
    let pid = i32::try_from(running.pid).ok().and_then(rustix::process::Pid::from_raw);
    let Some(pid) = pid else { return Err(Failure::world("up.json holds no process id")) };
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(|why| {
        Failure::world(format!("process {} cannot be told to stop: {}", running.pid, io::Error::from(why)))
    })?;
    for _ in 0..END.as_millis() / LOOK.as_millis() {
        if Running::find(state).is_none_or(|now| now.pid != running.pid) {
            return Ok(());
        }
        sleep(LOOK);
    }
    Err(Failure::world(format!("process {} was told to stop and still runs", running.pid))
        .remedy(format!("end it: kill -9 {}, then rask down for what it leaves", running.pid)))
}

/// Ends clusters that have no appliance. Returns their names.
async fn end_clusters(state: &Path) -> Result<Vec<String>, Failure> {
    let mut ended = Vec::new();
    for folder in fs::read_dir(state.join("clusters")).into_iter().flatten().flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        let [scheduler, workers] = ["control.sock", "workers.sock"].map(|file| folder.path().join(file));
        let (scheduler, workers) = (Link::new(scheduler), Link::new(workers));
        if scheduler.ask(Question::Stop).await.is_err() {
            continue;
        }
        if timeout(END, async { tokio::join!(scheduler.gone(), workers.gone()) }).await.is_err() {
            let what = format!("the cluster {name} was told to stop and still runs");
            return Err(Failure::world(what).remedy(format!("see {}", folder.path().join("logs").display())));
        }
        ended.push(name);
    }
    Ok(ended)
}

/// `rask logs`: the appliance's own log, wherever it goes.
pub fn logs(state: Option<&Path>, lines: u32, follow: bool) -> Result<(), Failure> {
    let state = state::state_dir(state)?;
    let running = Running::find(&state);
    let place = running.as_ref().and_then(|running| running.log.clone());
    let last = state.join("logs").join("up.log");
    match place {
        Some(LogPlace::Journal { unit, user }) => journal(&unit, user, lines, follow),
        Some(LogPlace::File(path)) => show(&path, lines, follow),
        Some(LogPlace::Passing) => {
            Err(Failure::world("the running appliance writes its log to the terminal it was started in")
                .remedy("look there; `rask up --background` writes a file"))
        }
        None if last.exists() => show(&last, lines, follow),
        None => Err(Failure::world(format!(
            "no appliance runs with the state folder {}, and no log is left",
            state.display()
        ))
        .remedy("start one: rask up --background")),
    }
}

fn journal(unit: &str, user: bool, lines: u32, follow: bool) -> Result<(), Failure> {
    let mut command = Command::new("journalctl");
    command.args(user.then_some("--user")).args(["--unit", unit, "--lines", &lines.to_string()]);
    command.args(follow.then_some("--follow"));
    let why = command.exec();
    Err(Failure::world(format!("journalctl cannot be started: {why}")))
}

fn show(path: &Path, lines: u32, follow: bool) -> Result<(), Failure> {
    let failed = |why: io::Error| Failure::world(format!("cannot read {}: {why}", path.display()));
    let mut file = File::open(path).map_err(failed)?;
    let start = start_of_last(&mut file, lines).map_err(failed)?;
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        let written =
            io::stdout().write_all(buffer.get(..count).unwrap_or_default()).and_then(|()| io::stdout().flush());
        // Whoever read has read enough.
        if written.is_err() || (count == 0 && !follow) {
            return Ok(());
        }
        if count == 0 {
            sleep(LOOK);
            // A new start puts a long log aside: the name then means another file.
            let length = fs::metadata(path).map(|meta| meta.len()).unwrap_or(u64::MAX);
            if length < file.stream_position().map_err(failed)? {
                file = File::open(path).map_err(failed)?;
            }
        }
    }
}

/// Where the last `lines` lines begin.
fn start_of_last(file: &mut File, lines: u32) -> io::Result<u64> {
    let end = file.metadata()?.len();
    let mut at = end;
    let mut missing = u64::from(lines);
    while at > 0 {
        let size = at.min(CHUNK as u64);
        at = at.saturating_sub(size);
        file.seek(SeekFrom::Start(at))?;
        let mut bytes = Vec::new();
        Read::by_ref(file).take(size).read_to_end(&mut bytes)?;
        for (index, byte) in (at..).zip(&bytes).collect::<Vec<_>>().into_iter().rev() {
            // The last line may or may not have an end.
            if *byte == b'\n' && index.saturating_add(1) < end {
                missing = missing.saturating_sub(1);
                if missing == 0 {
                    return Ok(index.saturating_add(1));
                }
            }
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_begin_where_they_should() {
        let path = std::env::temp_dir().join(format!("rask-log-{}", std::process::id()));
        let begins = |text: &str, lines| {
            fs::write(&path, text).expect("written");
            start_of_last(&mut File::open(&path).expect("there"), lines).expect("readable")
        };
        assert_eq!(begins("a\nb\nc\n", 1), 4);
        assert_eq!(begins("a\nb\nc", 2), 2);
        assert_eq!(begins("a\nb\nc\n", 9), 0);
        assert_eq!(begins("", 1), 0);
        fs::remove_file(path).expect("removed");
    }
}
