//! Logs of a cluster's workers: one rotated file each, an index of their lives, and ways to read them.
//!
//! The worker pool writes, the appliance reads; they share nothing but the files, so what was written is there
//! when either of them is gone. Every line begins with its time (RFC 3339, UTC), so that "the last ten minutes" can be
//! cut out of any file.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::Clock;
use crate::files::{self, aged};
use crate::supervise::LineSink;

/// A file larger than this is put aside. Unit: bytes.
const ROTATE_BYTES: u64 = 8 << 20;
/// Name of the index in a folder of logs.
const INDEX: &str = "index.jsonl";
/// Most that one read returns. Unit: bytes.
pub const READ_MAX: u64 = 4 << 20;

/// The file name of a worker's log: nothing that a name may hold leaves the folder.
fn file_name(worker: &str) -> String {
    let safe: String =
        worker.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' }).take(100).collect();
    format!("worker-{safe}.log")
}

// ---- writing --------------------------------------------------------------------------------------------------

/// A log that one child writes through us.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    keep: u32,
    file: File,
    length: u64,
}

impl LogFile {
    fn open(path: PathBuf, keep: u32) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let length = file.metadata()?.len();
        Ok(Self { path, keep, file, length })
    }

    fn line(&mut self, at: &str, line: &str) -> io::Result<()> {
        let text = format!("{at} {line}\n");
        self.file.write_all(text.as_bytes())?;
        self.length = self.length.saturating_add(text.len() as u64);
        if self.length > ROTATE_BYTES { self.rotate() } else { Ok(()) }
    }

    fn rotate(&mut self) -> io::Result<()> {
        files::rotate(&self.path, self.keep.max(1))?;
        *self = Self::open(self.path.clone(), self.keep)?;
        Ok(())
    }
}

/// Puts a long log aside that its process writes itself and goes on writing: it was opened for appending.
///
/// Errors: no room for the copy; then the log grows on.
pub fn rotate_if_long(path: &Path, keep: u32) -> io::Result<()> {
    if files::is_longer(path, ROTATE_BYTES) { files::rotate_open(path, keep.max(1)) } else { Ok(()) }
}

/// The logs of one worker pool.
#[derive(Clone, Debug)]
pub struct Logbook {
    folder: PathBuf,
    keep: u32,
    clock: Clock,
}

impl Logbook {
    /// Logs in `folder`, with `keep` older files each.
    ///
    /// Errors: the folder cannot be made.
    pub fn open(folder: &Path, keep: u32) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_path_buf(), keep, clock: Clock::start() })
    }

    /// Where a worker's lines go. `also` hears each line.
    ///
    /// Errors: the file cannot be opened.
    pub fn sink(&self, worker: &str, also: impl Fn(&str) + Send + Sync + 'static) -> io::Result<LineSink> {
        let file = Mutex::new(LogFile::open(self.folder.join(file_name(worker)), self.keep)?);
        let clock = self.clock;
        Ok(LineSink(Arc::new(move |line| {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = file.line(&shown_time(clock.wall()), line) {
                // A full disk must not stop the worker; its line is lost, ours says so.
                tracing::warn!(path = %file.path.display(), %error, "a line of a worker could not be kept");
            }
            also(line);
        })))
    }

    /// Notes a beginning or an end in the index.
    pub fn note(&self, worker: &str, pid: u32, what: Note) {
        let entry = IndexEntry { worker: worker.to_owned(), pid, at_ms: (self.clock.wall() * 1e3) as i64, what };
        let written = serde_json::to_string(&entry).map_err(io::Error::from).and_then(|line| {
            let path = self.folder.join(INDEX);
            rotate_if_long(&path, 1)?;
            let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
            file.write_all(format!("{line}\n").as_bytes())
        });
        if let Err(error) = written {
            tracing::warn!(folder = %self.folder.display(), %error, "the index of logs could not be written");
        }
    }
}

/// What the index is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// A life began.
    Start,
    /// It ended, so.
    End { cause: String },
    /// Inside of a life: the nanny's worker died and is started again.
    Restart { cause: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct IndexEntry {
    worker: String,
    pid: u32,
    at_ms: i64,
    what: Note,
}

fn shown_time(wall_secs: f64) -> String {
    let micros = (wall_secs * 1e6) as i128;
    let at = OffsetDateTime::from_unix_timestamp_nanos(micros.saturating_mul(1000)).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

// ---- reading --------------------------------------------------------------------------------------------------

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WorkerLife {
    pub pid: u32,
    /// Unit: milliseconds since the epoch.
    pub start_ms: i64,
    /// Unit: milliseconds since the epoch. `None`: it lives, or its end was not seen.
    pub end_ms: Option<i64>,
    /// How it ended, in words.
    pub cause: Option<String>,
    /// How worker processes inside of it ended, in words, with the time in milliseconds.
    pub restarts: Vec<(i64, String)>,
}

/// A worker that left a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoggedWorker {
    /// Its files, newest first.
    pub files: Vec<PathBuf>,
    /// Its lives, oldest first.
    pub lives: Vec<WorkerLife>,
}

/// All workers that left a log in a folder, by name.
pub fn index(folder: &Path) -> BTreeMap<String, LoggedWorker> {
    let mut workers: BTreeMap<String, LoggedWorker> = BTreeMap::new();
    let path = folder.join(INDEX);
    let text = [aged(&path, 1), path].map(|path| fs::read_to_string(path).unwrap_or_default()).concat();
    // A line that was cut by a full disk tells nothing.
    for entry in text.lines().filter_map(|line| serde_json::from_str::<IndexEntry>(line).ok()) {
        let worker = workers.entry(entry.worker).or_default();
        match entry.what {
            Note::Start => {
                worker.lives.push(WorkerLife { pid: entry.pid, start_ms: entry.at_ms, ..WorkerLife::default() });
            }
            Note::End { cause } => {
                if let Some(life) = worker.lives.iter_mut().rev().find(|life| life.pid == entry.pid) {
                    (life.end_ms, life.cause) = (Some(entry.at_ms), Some(cause));
                }
            }
            Note::Restart { cause } => {
                if let Some(life) = worker.lives.last_mut() {
                    life.restarts.push((entry.at_ms, cause));
                }
            }
        }
    }
    for (name, worker) in &mut workers {
        worker.files = copies(&folder.join(file_name(name)));
    }
    workers
}

/// The files of a process's log, newest first.
pub fn copies(path: &Path) -> Vec<PathBuf> {
    (0..100).map(|age| aged(path, age)).take_while(|path| path.exists()).collect()
}

/// Which log of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogSource {
    Scheduler,
    /// The pool's that starts and watches workers.
    Pool,
    Worker(String),
}

impl LogSource {
    /// Its newest file in a folder of logs.
    pub fn path(&self, folder: &Path) -> PathBuf {
        match self {
            Self::Scheduler => folder.join("scheduler.log"),
            Self::Pool => folder.join("workers.log"),
            Self::Worker(name) => folder.join(file_name(name)),
        }
    }
}

/// What to read of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LogSelection {
    /// Only lines of this time or later. Unit: milliseconds since the epoch.
    pub since_ms: Option<i64>,
    /// Only the last lines, this number of them.
    pub tail: Option<usize>,
}

/// Lines of a log and where its file ended then, for [`follow`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Oldest first.
    pub lines: Vec<String>,
    /// Where the next read goes on.
    pub place: LogPosition,
}

/// A place in a log that goes on being written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPosition {
    /// Unit: bytes.
    offset: u64,
    /// Which file it was: after a rotation it is another.
    inode: u64,
}

/// Reads what is wanted of a log, of its older copies too; at most [`READ_MAX`] bytes of each.
pub fn read(path: &Path, wanted: LogSelection) -> io::Result<Lines> {
    let mut lines: Vec<String> = Vec::new();
    let mut place = LogPosition::default();
    for (age, path) in copies(path).into_iter().enumerate() {
        let (text, end) = read_end(&path)?;
        if age == 0 {
            place = end;
        }
        let mut older: Vec<String> = text.lines().map(str::to_owned).collect();
        let before = older.len();
        if let Some(since_ms) = wanted.since_ms {
            older = later_than(older, since_ms);
        }
        let enough = older.len() < before;
        older.append(&mut lines);
        lines = older;
        if enough || wanted.tail.is_some_and(|tail| lines.len() >= tail) {
            break;
        }
    }
    if let Some(tail) = wanted.tail {
        lines.drain(..lines.len().saturating_sub(tail));
    }
    Ok(Lines { lines, place })
}

/// What was written behind `place`. After a rotation: what the new file holds.
pub fn follow(path: &Path, place: LogPosition) -> io::Result<Lines> {
    use std::os::unix::fs::MetadataExt;
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Lines { lines: Vec::new(), place }),
        Err(why) => return Err(why),
    };
    let meta = file.metadata()?;
    let same = meta.ino() == place.inode && meta.len() >= place.offset;
    let start = if same { place.offset } else { 0 };
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(READ_MAX).read_to_end(&mut bytes)?;
    // Half a line stays for the next time.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
    let text = String::from_utf8_lossy(bytes.get(..whole).unwrap_or_default()).into_owned();
    let place = LogPosition { offset: start.saturating_add(whole as u64), inode: meta.ino() };
    Ok(Lines { lines: text.lines().map(str::to_owned).collect(), place })
}

fn read_end(path: &Path) -> io::Result<(String, LogPosition)> {
    use std::os::unix::fs::MetadataExt;
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    let start = meta.len().saturating_sub(READ_MAX);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    (&file).take(READ_MAX).read_to_end(&mut bytes)?;
    if start > 0 {
        let first_whole = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
        bytes.drain(..first_whole);
    }
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
    let unfinished = bytes.len().saturating_sub(whole) as u64;
    bytes.truncate(whole);
    let place = LogPosition { offset: file.stream_position()?.saturating_sub(unfinished), inode: meta.ino() };
    Ok((String::from_utf8_lossy(&bytes).into_owned(), place))
}

/// Drops lines from the front up to the first of `since_ms` or later. Lines without a time belong to the one before.
pub fn later_than(lines: Vec<String>, since_ms: i64) -> Vec<String> {
    let first = lines.iter().position(|line| time_of(line).is_some_and(|at| at >= since_ms));
    first.map_or_else(Vec::new, |first| lines.into_iter().skip(first).collect())
}

/// The time that a line begins with, also one of our own logs in JSON. Unit: milliseconds since the epoch.
fn time_of(line: &str) -> Option<i64> {
    let text = line.strip_prefix("{\"timestamp\":\"").unwrap_or(line);
    let end = text.find([' ', '"']).unwrap_or(text.len());
    let at = OffsetDateTime::parse(text.get(..end)?, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos().checked_div(1_000_000)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("rask-logs-{}-{name}", std::process::id()));
        let _left = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn the_index_tells_lives_with_their_ends() {
        let folder = folder("index");
        let book = Logbook::open(&folder, 2).expect("a folder");
        let sink = book.sink("w-0", |_| {}).expect("a file");
        (sink.0)("hello");
        book.note("w-0", 7, Note::Start);
        book.note("w-0", 7, Note::Restart { cause: "out of memory".to_owned() });
        book.note("w-0", 7, Note::End { cause: "exit code 1".to_owned() });
        book.note("w-0", 8, Note::Start);
        let workers = index(&folder);
        let worker = workers.get("w-0").expect("known");
        let lives: Vec<_> =
            worker.lives.iter().map(|life| (life.pid, life.cause.clone(), life.restarts.len())).collect();
        assert_eq!(lives, [(7, Some("exit code 1".to_owned()), 1), (8, None, 0)]);
        assert_eq!(worker.files, [folder.join("worker-w-0.log")]);
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_log_is_read_by_lines_by_time_and_on_and_on() {
        let folder = folder("read");
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("scheduler.log");
        fs::write(aged(&path, 1), "2026-01-01T00:00:00Z a\n2026-01-01T00:00:01Z b\n").expect("written");
        fs::write(&path, "2026-01-01T00:00:02.5Z  INFO c\nno time\n{\"timestamp\":\"2026-01-01T00:00:03Z\"} d\nhalf")
            .expect("written");
        let all = read(&path, LogSelection::default()).expect("read");
        assert_eq!(all.lines.len(), 5);
        let tail = read(&path, LogSelection { tail: Some(4), since_ms: None }).expect("read");
        assert!(tail.lines.first().is_some_and(|line| line.ends_with(" b")), "{tail:?}");
        let second = time_of("2026-01-01T00:00:01Z x").expect("a time");
        let since = |ms| read(&path, LogSelection { since_ms: Some(ms), tail: None }).expect("read").lines.len();
        assert_eq!((since(second), since(second + 1), since(second + 1501)), (4, 3, 1));
        let mut file = OpenOptions::new().append(true).open(&path).expect("opens");
        file.write_all(b" whole\nnext").expect("written");
        let more = follow(&path, all.place).expect("read");
        assert_eq!(more.lines, ["half whole"]);
        // A new file at the path is read from its beginning.
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "new\n").expect("written");
        assert_eq!(follow(&path, more.place).expect("read").lines, ["new"]);
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn long_logs_are_put_aside_and_few_are_kept() {
        let folder = folder("rotate");
        let book = Logbook::open(&folder, 2).expect("a folder");
        let sink = book.sink("../w", |_| {}).expect("a file");
        let line = "x".repeat(1 << 20);
        (0..30).for_each(|_| (sink.0)(&line));
        let files = copies(&LogSource::Worker("../w".to_owned()).path(&folder));
        assert_eq!(files.len(), 3, "{files:?}");
        assert!(files.iter().all(|file| file.parent() == Some(&folder)));
        fs::remove_dir_all(folder).expect("removed");
    }

    /// Goal: a process that appends goes on at the beginning of its emptied log.
    #[test]
    fn a_log_that_is_written_meanwhile_is_copied_and_emptied() {
        let folder = folder("place");
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("scheduler.log");
        let mut writer = OpenOptions::new().create(true).append(true).open(&path).expect("opens");
        writer.write_all(&vec![b'x'; 9 << 20]).expect("written");
        rotate_if_long(&path, 2).expect("rotated");
        writer.write_all(b"on\n").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), "on\n");
        assert_eq!(copies(&path).len(), 2);
        fs::remove_dir_all(folder).expect("removed");
    }
}
