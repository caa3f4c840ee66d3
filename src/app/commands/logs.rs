//! `rask logs`: shows the log of an appliance, wherever that goes.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::app::command_error::CommandError;
use crate::app::local::state_dir::{LogPlace, Running, state_dir};
use crate::base::printable_lines;

/// Between two looks at whether more was written.
const LOOK: Duration = Duration::from_millis(100);
/// Read from a log at once. Unit: bytes.
const CHUNK: usize = 64 << 10;

/// Flags of `rask logs`, as given.
#[derive(Clone, Copy, Debug)]
pub struct LogsArgs {
    /// How many of the last lines.
    pub lines: u32,
    /// Go on.
    pub follow: bool,
    /// With control characters.
    pub raw: bool,
}

/// `rask logs`: the appliance's own log, wherever it goes.
pub fn logs(state: Option<&Path>, args: LogsArgs) -> Result<(), CommandError> {
    let state = state_dir(state)?;
    let running = Running::find(&state);
    let place = running.as_ref().and_then(|running| running.log.clone());
    let last = state.join("logs").join("up.log");
    match place {
        Some(LogPlace::Journal { unit, user }) => journal(&unit, user, args),
        Some(LogPlace::File(path)) => show(&path, args),
        Some(LogPlace::Passing) => {
            Err(CommandError::world("the running appliance writes its log to the terminal it was started in")
                .remedy("look there; `rask up --background` writes a file"))
        }
        None if last.exists() => show(&last, args),
        None => Err(CommandError::world(format!(
            "no appliance runs with the state folder {}, and no log is left",
            state.display()
        ))
        .remedy("start one: rask up --background")),
    }
}

fn journal(unit: &str, user: bool, LogsArgs { lines, follow, .. }: LogsArgs) -> Result<(), CommandError> {
    let mut command = Command::new("journalctl");
    command.args(user.then_some("--user")).args(["--unit", unit, "--lines", &lines.to_string()]);
    command.args(follow.then_some("--follow"));
    let why = command.exec();
    Err(CommandError::world(format!("journalctl cannot be started: {why}")))
}

fn show(path: &Path, LogsArgs { lines, follow, raw }: LogsArgs) -> Result<(), CommandError> {
    let failed = |why: io::Error| CommandError::world(format!("cannot read {}: {why}", path.display()));
    let mut file = File::open(path).map_err(failed)?;
    let start = start_of_last(&mut file, lines).map_err(failed)?;
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    let (mut buffer, mut cut) = (vec![0; CHUNK], Vec::new());
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        let shown = if raw { Cow::Borrowed(bytes) } else { Cow::Owned(printable_bytes(&mut cut, bytes)) };
        let written = io::stdout().write_all(&shown).and_then(|()| io::stdout().flush());
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

/// The next bytes of a log, safe for a terminal. `cut`: the beginning of a character whose rest comes with the next.
fn printable_bytes(cut: &mut Vec<u8>, bytes: &[u8]) -> Vec<u8> {
    cut.extend_from_slice(bytes);
    let whole = match std::str::from_utf8(cut) {
        // What is wrong in the middle stays wrong; at the end it may be half a character.
        Err(why) if why.error_len().is_none() => why.valid_up_to(),
        Ok(_) | Err(_) => cut.len(),
    };
    let rest = cut.split_off(whole);
    let shown = printable_lines(&String::from_utf8_lossy(cut)).into_owned().into_bytes();
    *cut = rest;
    shown
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
    fn characters_that_two_reads_share_are_shown_whole_and_control_characters_in_words() {
        let text = "ä \u{1b}[31m \u{202e}x\n".as_bytes();
        for at in 0..=text.len() {
            let mut cut = Vec::new();
            let (first, second) = text.split_at(at);
            let shown = [printable_bytes(&mut cut, first), printable_bytes(&mut cut, second)].concat();
            assert_eq!(String::from_utf8_lossy(&shown), "ä \\u001b[31m \\u202ex\n", "cut at {at}");
        }
        assert_eq!(printable_bytes(&mut Vec::new(), b"\x9b31m\xff\n"), "\u{fffd}31m\u{fffd}\n".as_bytes());
    }

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
