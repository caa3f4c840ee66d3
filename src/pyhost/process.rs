//! One Python process: start it, ask it one thing at a time, end it.

use std::collections::VecDeque;
use std::path::Path;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::BufMut;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::base::Limits;
use crate::base::Text;
use crate::base::Value;
use crate::wire::Message;
use crate::wire::WireError;
use crate::wire::frame::Decoder;
use crate::wire::frame::Gather;
use crate::wire::frame::ReadTarget;

use super::PyhostError;
use super::config::PyhostConfig;
use super::files;

/// Lines of standard error that are kept to explain a death.
const LAST_LINES: usize = 20;
/// Longest line that is kept and logged in one piece. Unit: bytes.
const LINE_BYTES: usize = 4 << 10;
/// How long a process may take to end once its pipe is closed: it only has to notice.
const END_SOON: Duration = Duration::from_secs(2);

/// Why an exchange with the process failed.
pub(super) enum Broken {
    /// It closed its pipe, or the pipe failed.
    Gone,
    /// It wrote something that is no message.
    Wire(WireError),
}

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

impl From<WireError> for Broken {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

pub(super) struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    decoder: Decoder,
    limits: Limits,
    last_lines: Arc<Mutex<VecDeque<String>>>,
    stderr: JoinHandle<()>,
    pub(super) pid: u32,
}

impl Process {
    /// Starts the interpreter; it imports dask while we go on.
    pub(super) fn start(config: &PyhostConfig) -> Result<Self, PyhostError> {
        let failed =
            |what: &str, error: &std::io::Error| PyhostError::Start { reason: format!("{what}: {error}").into() };
        let script = files::write_script(&config.run_dir, files::Script::Pyhost)
            .map_err(|error| failed(&format!("writing to {}", config.run_dir.display()), &error))?;
        // The folder may have been removed since; that is no reason to read no graphs.
        let folder = if config.cwd.is_dir() { config.cwd.as_path() } else { Path::new("/") };
        let mut child = Command::new(&config.python)
            .arg(script)
            .current_dir(folder)
            .envs(config.env.iter().map(|(name, value)| (name, value)))
            .env("RASK_PYHOST_PARENT", std::process::id().to_string())
            .env("RASK_PYHOST_FILES", &config.run_dir)
            .env("PYTHONUNBUFFERED", "1")
            .env("PYTHONFAULTHANDLER", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&config.python.display().to_string(), &error))?;
        let pid = child.id().unwrap_or_default();
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(PyhostError::Start { reason: "its pipes are missing".into() });
        };
        let last_lines = Arc::new(Mutex::new(VecDeque::new()));
        let stderr = tokio::spawn(forward(stderr, pid, Arc::clone(&last_lines)));
        let limits = Limits::default();
        Ok(Self { child, stdin, stdout, decoder: Decoder::new(&limits), limits, last_lines, stderr, pid })
    }

    /// Sends one request and waits for its answer.
    pub(super) async fn exchange(&mut self, request: &Value) -> Result<Value, Broken> {
        let mut gather = Gather::new();
        gather.push(&Message::from_value(request));
        for part in gather.parts() {
            self.stdin.write_all(part).await?;
        }
        self.stdin.flush().await?;
        loop {
            let (read, room) = match self.decoder.target() {
                ReadTarget::Shared { buffer, room } => (self.stdout.read_buf(&mut buffer.limit(room)).await?, room),
                ReadTarget::Own { buffer } => (self.stdout.read(buffer).await?, buffer.len()),
            };
            if read == 0 {
                return Err(Broken::Gone);
            }
            self.decoder.took(read, room);
            if let Some(message) = self.decoder.next()? {
                return Ok(message.to_value(&self.limits)?);
            }
        }
    }

    /// The process has closed its pipe: how it ended, and its last words. Kills it if it lingers.
    pub(super) async fn bury(mut self) -> (Text, Text) {
        drop(self.stdin);
        let status = match timeout(END_SOON, self.child.wait()).await {
            Ok(Ok(status)) => describe(status),
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                // It may have ended meanwhile.
                let _ = self.child.kill().await;
                "a closed pipe".to_owned()
            }
        };
        // Its children may hold the pipe open; then what was read so far must do.
        let _ = timeout(END_SOON, &mut self.stderr).await;
        self.stderr.abort();
        (status.into(), last_words(&self.last_lines))
    }

    /// Kills the process; returns its last words.
    pub(super) async fn kill(mut self) -> Text {
        // Only fails when it is gone.
        let _ = self.child.kill().await;
        let _ = timeout(END_SOON, &mut self.stderr).await;
        self.stderr.abort();
        last_words(&self.last_lines)
    }
}

fn last_words(lines: &Mutex<VecDeque<String>>) -> Text {
    let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    Vec::from_iter(lines.iter().map(String::as_str)).join("\n").into()
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Logs what the process prints, line by line, and keeps the end of it.
async fn forward(mut from: impl AsyncRead + Unpin, pid: u32, last: Arc<Mutex<VecDeque<String>>>) {
    let mut buffer = Vec::with_capacity(LINE_BYTES);
    while let Ok(read @ 1..) = from.read_buf(&mut (&mut buffer).limit(LINE_BYTES)).await {
        let complete = buffer.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let complete = if complete == 0 && buffer.len() >= LINE_BYTES { buffer.len() } else { complete };
        let rest = buffer.split_off(complete);
        keep_lines(&std::mem::replace(&mut buffer, rest), pid, &last);
        debug_assert!(read > 0, "a read of nothing ends the loop");
    }
    keep_lines(&buffer, pid, &last);
}

fn keep_lines(bytes: &[u8], pid: u32, last: &Mutex<VecDeque<String>>) {
    for line in String::from_utf8_lossy(bytes).lines().filter(|line| !line.trim().is_empty()) {
        tracing::info!(target: "pyhost", pid, "{line}");
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= LAST_LINES {
            last.pop_front();
        }
        last.push_back(line.to_owned());
    }
}
