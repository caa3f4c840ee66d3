//! What children print: passed on line by line, or written to files by themselves; the last lines kept.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::files;

/// Lines kept per child: a Python traceback with its cause.
const LINES_KEPT: usize = 20;
/// Longest line that is passed on whole. Unit: bytes.
const LINE_MAX: usize = 16 << 10;
/// A log file larger than this is put aside before the next start. Unit: bytes.
const ROTATE_BYTES: u64 = 16 << 20;
/// Read from the end of a file for the last lines. Unit: bytes.
const TAIL_BYTES: u64 = 8 << 10;

/// Where a child's output goes.
#[derive(Clone, Debug)]
pub enum Output {
    /// To our standard error, each line with this prefix.
    Prefixed(String),
    /// To whoever reads the other end, line by line.
    Lines(mpsc::UnboundedSender<String>),
    /// To a function of ours, line by line, in order; the child waits while it works.
    LineSink(LineSink),
    /// To a file that the child writes itself, so that it does not need us. `keep` older ones are kept.
    File {
        path: PathBuf,
        /// How many older ones.
        keep: u32,
    },
}

/// Takes the lines of a child.
#[derive(Clone)]
pub struct LineSink(pub Arc<dyn Fn(&str) + Send + Sync>);

impl fmt::Debug for LineSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LineSink")
    }
}

/// Longest we wait for a dead child's pipes: a grandchild may hold them open.
const DRAIN: Duration = Duration::from_millis(200);

/// What a child prints, passed on while this lives.
#[derive(Debug)]
pub struct Printed {
    readers: JoinSet<()>,
    tail: LastLines,
}

impl Printed {
    /// Reads the pipes of a child, if it was started with any.
    pub fn follow(child: &mut Child, output: &Output) -> Self {
        let (mut readers, tail) = (JoinSet::new(), LastLines::default());
        if let Some(pipe) = child.stdout.take() {
            readers.spawn(pass_on(pipe, output.clone(), tail.clone()));
        }
        if let Some(pipe) = child.stderr.take() {
            readers.spawn(pass_on(pipe, output.clone(), tail.clone()));
        }
        Self { readers, tail }
    }

    /// After its end: waits a moment for what is still in the pipes. Returns the last lines.
    pub async fn end(mut self) -> Vec<String> {
        let _drained = timeout(DRAIN, async { while self.readers.join_next().await.is_some() {} }).await;
        self.tail.lines()
    }
}

/// The last lines a child printed. Shared with the task that reads them.
#[derive(Clone, Debug, Default)]
struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_KEPT {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Passes lines on until the end of `pipe`.
async fn pass_on(mut pipe: impl AsyncRead + Unpin, output: Output, tail: LastLines) {
    let mut line: Vec<u8> = Vec::new();
    let mut buffer = [0u8; 4096];
    // A read error is the end of the pipe for us: the child's death is noticed by its exit.
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        for byte in buffer.iter().take(count) {
            if *byte == b'\n' || line.len() >= LINE_MAX {
                emit(&output, &line, &tail);
                line.clear();
            }
            if *byte != b'\n' {
                line.push(*byte);
            }
        }
    }
    if !line.is_empty() {
        emit(&output, &line, &tail);
    }
}

fn emit(output: &Output, line: &[u8], tail: &LastLines) {
    let text = String::from_utf8_lossy(line);
    match output {
        // Nobody to tell when standard error is gone.
        Output::Prefixed(prefix) => drop(writeln!(io::stderr().lock(), "{prefix}{text}")),
        // The reader may have heard enough.
        Output::Lines(reader) => drop(reader.send(text.clone().into_owned())),
        Output::LineSink(sink) => (sink.0)(&text),
        // Its child writes it.
        Output::File { .. } => {}
    }
    tail.push(&text);
}

/// Opens a log file for a child, putting a long one aside first.
pub fn open_log(path: &Path, keep: u32) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if files::is_longer(path, ROTATE_BYTES) {
        files::rotate(path, keep)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// The last lines of a log file, of what was written after `start`. Unit of `start`: bytes.
pub fn last_lines(path: &Path, start: u64) -> Vec<String> {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(end.saturating_sub(TAIL_BYTES)).min(end)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(LINES_KEPT)).map(|line| (*line).to_owned()).collect()
}
