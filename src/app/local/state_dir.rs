//! The state folder: who runs there, and the lock that keeps it to one.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::settings::home;
use crate::app::command_error::CommandError;
use crate::files::{self, FileLock};

/// The state folder: as asked, else `$XDG_STATE_HOME/rask`. (`$RASK_STATE_DIR` is read with the flags.)
pub fn state_dir(asked: Option<&Path>) -> Result<PathBuf, CommandError> {
    let found = asked
        .map(Path::to_path_buf)
        .or_else(|| home("XDG_STATE_HOME", ".local/state").map(|base| base.join("rask")))
        .ok_or_else(|| CommandError::usage("no folder for state: $HOME is not set").remedy("give --state-dir"))?;
    std::path::absolute(&found).map_err(|why| CommandError::usage(format!("{}: {why}", found.display())))
}

/// Writes a file that only we can read: whole, or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), CommandError> {
    files::write_atomic(path, text.as_bytes(), files::PRIVATE).map_err(|error| unwritten(path, &error))
}

/// A file of ours could not be written: what to do follows from why.
fn unwritten(path: &Path, why: &io::Error) -> CommandError {
    let failure = CommandError::world(format!("cannot write {}: {why}", path.display()));
    match why.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            failure.remedy("free some space there, or choose another --state-dir")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            failure.remedy("let this user write there, or choose another --state-dir")
        }
        _ => failure,
    }
}

/// Makes a folder that only we can enter.
pub(crate) fn private_folder(path: &Path) -> Result<(), CommandError> {
    let result = DirBuilder::new().recursive(true).mode(0o700).create(path);
    result.map_err(|why| {
        CommandError::world(format!("cannot make the folder {}: {why}", path.display()))
            .remedy("choose another with --state-dir")
    })
}

/// What a running appliance tells others through `up.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub pid: u32,
    pub version: String,
    /// `http://host:port`
    pub http: String,
    /// `tcp://host:port`; None without a cluster.
    pub scheduler: Option<String>,
    /// The interpreter of its workers.
    pub python: Option<PathBuf>,
    /// `2 workers x 1 thread, 4 GiB each`
    pub workers: String,
    /// Where its own log lines go. None: an older one that does not say.
    #[serde(default)]
    pub log: Option<LogPlace>,
}

/// Where log lines of a process go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogPlace {
    /// A terminal, a pipe: gone once it is read.
    Passing,
    File(PathBuf),
    Journal {
        /// The name of the unit that this process is.
        unit: String,
        /// Of a user's service manager.
        user: bool,
    },
}

impl LogPlace {
    /// Of this process, by what its standard error is.
    pub fn of_stderr() -> Self {
        let Ok(meta) = fs::metadata("/proc/self/fd/2") else { return Self::Passing };
        if meta.is_file() {
            return fs::read_link("/proc/self/fd/2").map_or(Self::Passing, Self::File);
        }
        // Source: systemd.exec(5), `$JOURNAL_STREAM`.
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        if stream != format!("{}:{}", meta.dev(), meta.ino()) {
            return Self::Passing;
        }
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let unit = groups.split(['/', '\n']).rfind(|part| part.ends_with(".service")).unwrap_or("rask.service");
        Self::Journal { unit: unit.to_owned(), user: groups.contains("/user@") }
    }
}

impl Running {
    /// The appliance of a state folder. `None`: none runs there, or not yet.
    pub fn find(state: &Path) -> Option<Self> {
        if !FileLock::is_held(&lock_path(state)) {
            return None;
        }
        Self::left_behind(state)
    }

    /// The appliance of a state folder, where a command needs one.
    ///
    /// Errors: none runs there.
    pub(crate) fn required(asked: Option<&Path>) -> Result<Self, CommandError> {
        let state = state_dir(asked)?;
        Self::find(&state).ok_or_else(|| {
            CommandError::world(format!("no rask runs with the state folder {}", state.display()))
                .remedy("start one: rask up")
        })
    }

    /// What was told last, even if by one that was killed.
    pub(crate) fn left_behind(state: &Path) -> Option<Self> {
        let text = fs::read_to_string(file_path(state)).ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// The right to be the appliance of a state folder. Files go with it.
#[derive(Debug)]
pub(crate) struct Seat {
    state: PathBuf,
    /// What others were told.
    told: Option<Running>,
    /// Removed after the file that tells others. None: somebody else took it while its file was gone.
    lock: Option<FileLock>,
}

impl Seat {
    /// Takes the seat. `None`: somebody has it.
    pub(crate) fn take(state: &Path) -> Result<Option<Self>, CommandError> {
        private_folder(state)?;
        let path = lock_path(state);
        let lock = FileLock::take(&path)
            .map_err(|error| CommandError::world(format!("cannot lock {}: {error}", path.display())))?;
        Ok(lock.map(|lock| Self { state: state.to_path_buf(), told: None, lock: Some(lock) }))
    }

    /// Tells others. Complete at the moment it appears.
    pub(crate) fn announce(&mut self, running: &Running) -> Result<(), CommandError> {
        self.told = Some(running.clone());
        let path = file_path(&self.state);
        let text = serde_json::to_vec_pretty(running).map_err(io::Error::from);
        let written = text.and_then(|text| files::write_atomic(&path, &text, files::PRIVATE));
        written.map_err(|error| unwritten(&path, &error))
    }
}

impl Seat {
    /// Puts back what was removed under us: the folder, the lock, and what others are told. `true`: it was needed.
    ///
    /// Errors: it cannot be put back; another appliance has taken the seat meanwhile.
    pub(crate) fn put_back(&mut self) -> Result<bool, CommandError> {
        let path = lock_path(&self.state);
        let is_locked = FileLock::is_held(&path);
        if is_locked && (self.told.is_none() || file_path(&self.state).exists()) {
            return Ok(false);
        }
        private_folder(&self.state)?;
        if !is_locked {
            // An old lock takes the file at its path with it, so it goes first.
            self.lock = None;
            let taken = FileLock::take(&path);
            self.lock =
                taken.map_err(|error| CommandError::world(format!("cannot lock {}: {error}", path.display())))?;
        }
        match (&self.lock, self.told.take()) {
            (None, _) => Err(CommandError::world(format!("another rask up has taken {}", self.state.display()))),
            (Some(_), Some(told)) => self.announce(&told).map(|()| true),
            (Some(_), None) => Ok(true),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _may_not_exist = fs::remove_file(file_path(&self.state));
    }
}

fn lock_path(state: &Path) -> PathBuf {
    state.join("up.lock")
}

fn file_path(state: &Path) -> PathBuf {
    state.join("up.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seat_is_taken_once_and_leaves_nothing_behind() {
        let state = std::env::temp_dir().join(format!("rask-seat-{}", std::process::id()));
        let running = Running {
            pid: 1,
            version: "0".to_owned(),
            http: "http://x".to_owned(),
            scheduler: None,
            python: None,
            workers: String::new(),
            log: Some(LogPlace::Journal { unit: "x.service".to_owned(), user: true }),
        };
        let mut seat = Seat::take(&state).expect("a folder").expect("free");
        assert_eq!(Running::find(&state), None);
        seat.announce(&running).expect("written");
        assert!(Seat::take(&state).expect("a folder").is_none());
        assert_eq!(Running::find(&state), Some(running.clone()));
        assert_eq!(seat.put_back(), Ok(false));
        fs::remove_dir_all(&state).expect("removed under it");
        assert_eq!(seat.put_back(), Ok(true));
        assert_eq!(Running::find(&state), Some(running));
        assert!(Seat::take(&state).expect("a folder").is_none());
        drop(seat);
        assert_eq!(fs::read_dir(&state).expect("a folder").count(), 0);
        drop(Seat::take(&state).expect("a folder").expect("free again"));
        fs::remove_dir_all(state).expect("temp folder");
    }
}
