//! One place for a process: starts it when there is work, replaces it when it dies, sets up its successor alike.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::sleep_until;
use tokio::time::timeout;

use crate::base::Text;
use crate::base::Value;

use super::config::PyhostConfig;
use super::process::Broken;
use super::process::Process;
use super::reply;
use super::{AskError, PyhostError};

/// Where an answer goes.
type Asker = oneshot::Sender<Result<Value, AskError>>;

/// Requests that read what clients sent, which may never end: their process goes when the asker does.
const READS_GRAPHS: [&str; 2] = ["graph", "vouch"];

/// What a slot can be told.
#[derive(Debug)]
pub(super) enum SlotCommand {
    /// A request and where its answer goes.
    Ask { op: Text, body: Value, reply: Asker },
    /// A file that users uploaded: every process must have it.
    File { body: Value },
}

/// Wait before a process is started again after deaths in a row: none at first, since one bad graph says nothing
/// about the next, then twice as long each time.
const BACKOFF_STEP: Duration = Duration::from_millis(250);
/// Longest such wait: users fix their environment and try again.
const BACKOFF_MAX: Duration = Duration::from_secs(15);

pub(super) struct Slot {
    number: usize,
    config: Arc<PyhostConfig>,
    stop: watch::Receiver<bool>,
    process: Option<Process>,
    next_id: u64,
    deaths: u32,
    start_after: Instant,
    /// What a new process must be told first: uploads, then preloaded modules, then plugins.
    files: Vec<Value>,
    preloads: Vec<Value>,
    plugins: Vec<(Text, Value)>,
}

/// Ends when the processes shall end: told so, or the last handle is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that no handle is left.
    drop(stop.wait_for(|stop| *stop).await);
}

/// Ends when the asker gives up; never, when there is none.
async fn left(asker: Option<&mut Asker>) {
    match asker {
        Some(asker) => asker.closed().await,
        None => std::future::pending().await,
    }
}

impl Slot {
    pub(super) fn new(number: usize, config: Arc<PyhostConfig>, stop: watch::Receiver<bool>) -> Self {
        Self {
            number,
            config,
            stop,
            process: None,
            next_id: 0,
            deaths: 0,
            start_after: Instant::now(),
            files: Vec::new(),
            preloads: Vec::new(),
            plugins: Vec::new(),
        }
    }

    /// Serves until told to stop, or until no handle is left.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<SlotCommand>) {
        let mut stop = self.stop.clone();
        loop {
            let command = tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                command = inbox.recv() => command,
            };
            let Some(command) = command else { break };
            match command {
                SlotCommand::Ask { op, body, mut reply } => {
                    // Whoever asked may have given up while it was queued.
                    if !reply.is_closed() {
                        let answer = self.ask(&op, body, &mut reply).await;
                        let _ = reply.send(answer);
                    }
                }
                SlotCommand::File { body } => self.add_file(body).await,
            }
        }
        // The inbox is dropped last: `shutdown` takes that as the sign that the process is gone.
        if let Some(process) = self.process.take() {
            process.bury().await;
        }
        drop(inbox);
    }

    async fn ask(&mut self, op: &Text, body: Value, asker: &mut Asker) -> Result<Value, AskError> {
        self.ensure().await?;
        if asker.is_closed() {
            return Err(PyhostError::Closed.into());
        }
        let result = self.exchange(op, &body, Some(asker)).await;
        if !matches!(result, Err(AskError::NoAnswer(_))) {
            self.deaths = 0;
        }
        if let Ok(result) = &result {
            self.note(op, body, result);
        }
        result
    }

    /// Remembers what a successor would have to be told.
    fn note(&mut self, op: &str, body: Value, result: &Value) {
        let name = || result.field("name").and_then(Value::as_str).map(Text::from);
        match op {
            "plugin_add" => {
                if let Some(name) = name() {
                    self.plugins.retain(|(known, _)| *known != name);
                    self.plugins.push((name, body));
                }
            }
            "plugin_remove" => {
                let name = body.field("name").and_then(Value::as_str);
                self.plugins.retain(|(known, _)| Some(&**known) != name);
            }
            "preload" => self.preloads.push(body),
            _ => (),
        }
    }

    async fn add_file(&mut self, body: Value) {
        self.files.retain(|known| known.get("filename") != body.get("filename"));
        if self.process.is_some() {
            self.set_up("import_file", &body).await;
        }
        self.files.push(body);
    }

    /// Errors of a set-up were told to the user when it was asked for; here they are for the log.
    async fn set_up(&mut self, op: &str, body: &Value) {
        if let Err(failure) = self.exchange(&op.into(), body, None).await {
            tracing::warn!(target: "pyhost", slot = self.number, op, ?failure, "a new process could not be set up");
        }
    }

    async fn ensure(&mut self) -> Result<(), PyhostError> {
        if self.process.is_some() {
            return Ok(());
        }
        tokio::select! {
            () = stopped(&mut self.stop) => return Err(PyhostError::Closed),
            () = sleep_until(self.start_after) => (),
        }
        match Process::start(&self.config) {
            Ok(process) => {
                tracing::debug!(target: "pyhost", slot = self.number, pid = process.pid, "started");
                self.process = Some(process);
            }
            Err(error) => {
                self.count_death();
                return Err(error);
            }
        }
        self.greet().await?;
        for body in self.files.clone() {
            self.set_up("import_file", &body).await;
        }
        for body in self.preloads.clone() {
            self.set_up("preload", &body).await;
        }
        for (_, body) in self.plugins.clone() {
            self.set_up("plugin_add", &body).await;
        }
        Ok(())
    }

    /// Waits until a new process can be asked. What ends it from here on is what it is asked to do.
    async fn greet(&mut self) -> Result<(), PyhostError> {
        match self.exchange(&"ping".into(), &Value::Map(Vec::new()), None).await {
            Ok(_) => Ok(()),
            Err(AskError::NoAnswer(error)) => Err(error.while_starting()),
            Err(AskError::Raised(_)) => Err(PyhostError::Reply { what: "an error about nothing" }.while_starting()),
        }
    }

    fn count_death(&mut self) {
        let doubled = BACKOFF_STEP.saturating_mul(1 << self.deaths.min(16));
        let wait = if self.deaths == 0 { Duration::ZERO } else { doubled.min(BACKOFF_MAX) };
        self.deaths = self.deaths.saturating_add(1);
        self.start_after = Instant::now() + wait;
    }

    /// One request and its answer. A graph whose asker leaves is not read to its end: it may never get there.
    async fn exchange(&mut self, op: &Text, body: &Value, asker: Option<&mut Asker>) -> Result<Value, AskError> {
        // Out of its place while it works: whatever ends this early leaves no half-read answer behind.
        let Some(mut process) = self.process.take() else { return Err(PyhostError::Closed.into()) };
        self.next_id += 1;
        let request =
            Value::map([("id", Value::from(self.next_id)), ("op", Value::Str(op.clone())), ("body", body.clone())]);
        let outcome = tokio::select! {
            () = stopped(&mut self.stop) => None,
            () = left(asker.filter(|_| READS_GRAPHS.contains(&&**op))) => None,
            outcome = timeout(self.config.deadline, process.exchange(&request)) => Some(outcome),
        };
        let Some(outcome) = outcome else {
            process.kill().await;
            return Err(PyhostError::Closed.into());
        };
        match outcome {
            Ok(Ok(answer)) => {
                self.process = Some(process);
                reply::result(&answer, self.next_id)
            }
            Ok(Err(Broken::Wire(error))) => {
                process.kill().await;
                self.count_death();
                tracing::warn!(target: "pyhost", %error, "an answer that is no message");
                Err(PyhostError::Reply { what: "bytes that are no message" }.into())
            }
            Ok(Err(Broken::Gone)) => {
                let pid = process.pid;
                let (status, last_words) = process.bury().await;
                self.count_death();
                Err(PyhostError::Died { op: op.clone(), pid, status, last_words }.into())
            }
            Err(_) => {
                let last_words = process.kill().await;
                self.count_death();
                Err(PyhostError::Deadline { op: op.clone(), limit: self.config.deadline, last_words }.into())
            }
        }
    }
}
