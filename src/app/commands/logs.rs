//! `rask logs`: shows the log of an appliance, wherever that goes.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::app::failure::Failure;
use crate::app::local::state_dir::{LogPlace, Running, state_dir};

/// Between two looks at whether more was written.
const LOOK: Duration = Duration::from_millis(100);
/// Read from a log at once. Unit: bytes.
const CHUNK: usize = 64 << 10;

/// `rask logs`: the appliance's own log, wherever it goes.
pub fn logs(state: Option<&Path>, lines: u32, follow: bool) -> Result<(), Failure> {
    let state = state_dir(state)?;
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
